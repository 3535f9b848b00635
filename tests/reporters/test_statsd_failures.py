"""What becomes of the numbers where the network does not take them."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Family,
    LastValue,
    MetricStore,
    Series,
    Snapshot,
    Sum,
    Summary,
)
from llmevents_statsd import StatsDReporter, _counts
from tests.reporters.statsd_wire import (
    NEVER,
    SECONDS,
    Server,
    listening,
    reporting,
    store_of,
    totals,
    wait_for,
)


class Faulty(socket.socket):
    """A real socket that fails when it is told to."""

    sending: ClassVar[list[int]] = []
    """Error numbers of the next sends; 0 sends."""
    pending: ClassVar[list[int]] = []
    """Errors of earlier datagrams that come to light when asked for; 0 is none."""
    connected: ClassVar[list[object]] = []
    """What sockets were connected to."""

    def connect(self, address: Any, /) -> None:  # noqa: ANN401  # as the base's
        super().connect(address)
        self.connected.append(address)

    def send(self, data: Any, flags: int = 0, /) -> int:  # noqa: ANN401  # likewise
        number = self.sending.pop(0) if self.sending else 0
        if number:
            raise OSError(number, os.strerror(number))
        return super().send(data, flags)

    def getsockopt(self, *arguments: int) -> Any:  # noqa: ANN401  # likewise
        found = super().getsockopt(*arguments)
        return self.pending.pop(0) if self.pending else found


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    for name in ("sending", "pending", "connected"):
        monkeypatch.setattr(Faulty, name, [])
    monkeypatch.setattr(socket, "socket", Faulty)
    return Faulty


@pytest.fixture
def server() -> Iterator[Server]:
    with listening() as made:
        yield made


def unused_port() -> int:
    """Return a port of loopback where nobody listens, and nobody will by chance.

    It is below those that a system gives to who asks for any: these are given to
    another process as soon as they are free (Linux and IANA begin at 32768 and 49152).
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
            suppress(OSError),
        ):
            probe.bind(("127.0.0.1", port))
            return port


# --- A server that comes and goes --------------------------------------------------


def test_what_a_missing_server_refused_is_sent_when_it_is_there() -> None:
    bus, store = store_of(
        Counter("a.b.n", tags=("m",)),
        Sum("a.b.f"),
        Summary("a.b.s"),
        LastValue("a.b.g"),
    )
    port = unused_port()
    with reporting(store, port=port, mtu=64) as reporter:
        for number in range(3):
            for model in "xyz":
                bus.execute("a.b", {"f": 0.1, "s": 5, "g": number}, {"m": model})
            assert not reporter.flush(SECONDS)
        dropped = reporter.status().dropped
        assert list(dropped) == ["refused"]
        with listening(port=port) as server:
            assert reporter.flush(SECONDS)
            lines = server.lines(14)
    assert totals(lines) == {
        "a.b.n.x": 3, "a.b.n.y": 3, "a.b.n.z": 3, "a.b.f": Decimal("0.8999999999999999"),
    }  # fmt: skip
    assert [line for line in lines if not line.endswith("|c")] == [
        *["a.b.s:5|ms"] * 9,
        "a.b.g:2|g",
    ]
    assert reporter.status().is_balanced


def test_nothing_is_lost_or_counted_twice_while_a_server_comes_and_goes() -> None:
    """Looks all the time; between two lives of the server the socket refuses."""
    bus, store = store_of(Counter("a.b.n"))
    port = unused_port()
    lines: list[str] = []
    with reporting(store, port=port) as reporter:
        for life in range(6):
            for _ in range(5):
                bus.execute("a.b", {})
                assert not reporter.flush(SECONDS)
            with listening(port=port) as server:
                for _ in range(5):
                    bus.execute("a.b", {})
                    assert reporter.flush(SECONDS)
            lines += server.lines(0)
            assert totals(lines) == {"a.b.n": 10 * (life + 1)}
    status = reporter.status()
    assert (status.delivered, dict(status.dropped)) == (30, {"refused": 30})


def test_a_refusal_that_comes_late_takes_back_the_look(
    server: Server, faulty: type[Faulty]
) -> None:
    """From another machine it takes a round trip, and names no datagram."""
    bus, store = store_of(*(Counter(f"a.b.number{number}") for number in range(8)))
    with reporting(store, port=server.port, mtu=64) as reporter:
        bus.execute("a.b", {})
        assert reporter.flush(SECONDS)
        faulty.pending[:] = [errno.ECONNREFUSED]
        assert reporter.flush(SECONDS)
        faulty.pending[:] = [0, 0, errno.ECONNREFUSED]
        bus.execute("a.b", {})
        assert not reporter.flush(SECONDS)
        assert reporter.flush(SECONDS)
        assert reporter.flush(SECONDS)
    # In truth all has arrived, in four looks for two events.
    assert set(totals(server.lines(32)).values()) == {4}
    assert len(faulty.connected) == 3
    assert dict(reporter.status().dropped) == {"refused": 4}


@pytest.mark.parametrize(
    ("number", "reason", "sockets"),
    [
        (errno.ENETUNREACH, "unreachable", 2),
        (errno.EHOSTUNREACH, "unreachable", 2),
        (errno.EPERM, "send_error", 2),
        (errno.ECONNREFUSED, "refused", 2),
    ],
)
def test_a_failed_send_is_counted_and_sent_again_through_another_socket(
    server: Server, faulty: type[Faulty], number: int, reason: str, sockets: int
) -> None:
    bus, store = store_of(Counter("a.b.n"), LastValue("a.b.g"))
    bus.execute("a.b", {"g": 1})
    faulty.sending[:] = [number]
    with reporting(store, port=server.port) as reporter:
        assert not reporter.flush(SECONDS)
        assert not server.packets
        assert dict(reporter.status().dropped) == {reason: 2}
        bus.execute("a.b", {"g": 2})
        assert reporter.flush(SECONDS)
        assert sorted(server.lines(2)) == ["a.b.g:2|g", "a.b.n:2|c"]
    assert len(faulty.connected) == sockets


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EAGAIN, "would_block"), (errno.ENOBUFS, "no_buffers")],
)
def test_where_there_is_no_room_it_tries_again_for_a_while(
    server: Server, faulty: type[Faulty], number: int, reason: str
) -> None:
    bus, store = store_of(Counter("a.b.n"))
    with reporting(store, port=server.port) as reporter:
        bus.execute("a.b", {})
        faulty.sending[:] = [number] * 3
        assert reporter.flush(SECONDS)
        bus.execute("a.b", {})
        faulty.sending[:] = [number] * 51
        assert not reporter.flush(SECONDS)
        assert dict(reporter.status().dropped) == {reason: 1}
        bus.execute("a.b", {})
        assert reporter.flush(SECONDS)
    assert server.lines(2) == ["a.b.n:1|c", "a.b.n:2|c"]
    assert len(faulty.connected) == 1


def test_a_datagram_too_long_for_the_network_costs_no_other(
    server: Server, faulty: type[Faulty]
) -> None:
    """Its counts stay, and each time is counted: nothing gets smaller by itself."""
    bus, store = store_of(*(Counter(f"a.b.n{number}") for number in range(10)))
    bus.execute("a.b", {})
    with reporting(store, port=server.port, mtu=64) as reporter:
        faulty.sending[:] = [errno.EMSGSIZE]
        assert not reporter.flush(SECONDS)
        lost = reporter.status().dropped["too_long"]
        assert len(server.lines(10 - lost)) == 10 - lost
        assert reporter.flush(SECONDS)
    assert totals(server.lines(10)) == {f"a.b.n{number}": 1 for number in range(10)}
    assert len(faulty.connected) == 1


def test_after_a_failure_others_come_first(
    server: Server, faulty: type[Faulty]
) -> None:
    """Where little gets through it is not always the same."""
    bus, store = store_of(*(LastValue(f"a.b.gauge_number_{n}") for n in range(4)))
    bus.execute("a.b", {f"gauge_number_{n}": n for n in range(4)})
    with reporting(store, port=server.port, mtu=64) as reporter:
        for _ in range(3):
            faulty.sending[:] = [0, errno.ENETUNREACH]
            assert not reporter.flush(SECONDS)
        assert {line[-3] for line in server.lines(6)} == {"0", "1", "2", "3"}


# --- Unix sockets ------------------------------------------------------------------


def test_a_unix_socket_may_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "statsd.sock"
    bus, store = store_of(Counter("a.b.n"))
    received: list[str] = []
    with reporting(store, socket_path=path) as reporter:
        for _ in range(3):
            bus.execute("a.b", {})
            assert not reporter.flush(SECONDS)
            with listening(path) as server:
                bus.execute("a.b", {})
                assert reporter.flush(SECONDS)
            path.unlink()
            received += server.lines(1)
    assert received == ["a.b.n:2|c"] * 3
    status = reporter.status()
    assert (status.delivered, dict(status.dropped)) == (3, {"refused": 3})


def test_a_full_unix_socket_blocks_nobody(tmp_path: Path) -> None:
    """What did not fit is sent when the server reads again."""
    path = tmp_path / "statsd.sock"
    bus, store = store_of(Counter("a.b.n", tags=("number",)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(path))
        with reporting(store, socket_path=path, mtu=64) as reporter:
            for number in range(1_500):
                bus.execute("a.b", {}, {"number": number})
            assert not reporter.flush(SECONDS)
            assert reporter.status().dropped["would_block"] > 0
            packets: list[bytes] = []
            opened.settimeout(0.05)
            done = threading.Event()

            def read() -> None:
                while True:
                    try:
                        packets.append(opened.recv(64))
                    except TimeoutError:
                        if done.is_set():
                            return

            reading = threading.Thread(target=read, daemon=True)
            reading.start()
            wait_for(lambda: reporter.flush(SECONDS))
        done.set()
        reading.join(SECONDS)
    lines = b"\n".join(packets).decode().splitlines()
    assert sorted(lines) == sorted(f"a.b.n.{number}:1|c" for number in range(1_500))
    assert reporter.status().is_balanced


# --- Names of hosts ----------------------------------------------------------------


def test_a_name_is_resolved_in_the_thread_and_again_after_a_failure(
    server: Server, monkeypatch: pytest.MonkeyPatch, faulty: type[Faulty]
) -> None:
    threads: list[str] = []
    resolve = socket.getaddrinfo

    def resolved(host: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        threads.append(threading.current_thread().name)
        assert host == "statsd.test"
        if len(threads) == 1:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    bus, store = store_of(Counter("a.b.n"))
    with reporting(store, host="statsd.test", port=server.port) as reporter:
        bus.execute("a.b", {})
        assert not threads
        assert not reporter.flush(SECONDS)
        assert reporter.flush(SECONDS)
        bus.execute("a.b", {})
        faulty.sending[:] = [errno.ENETUNREACH]
        assert not reporter.flush(SECONDS)
        assert reporter.flush(SECONDS)
    assert threads == ["llmevents-statsd"] * 3
    assert dict(reporter.status().dropped) == {"unresolved": 1, "unreachable": 1}
    assert totals(server.lines(2)) == {"a.b.n": 2}


def test_of_several_addresses_the_next_is_tried_ipv4_first(
    server: Server, monkeypatch: pytest.MonkeyPatch, faulty: type[Faulty]
) -> None:
    def resolved(*_arguments: object, **_options: object) -> Any:  # noqa: ANN401
        kind = (socket.SOCK_DGRAM, 17, "")
        return [
            (socket.AF_INET6, *kind, ("::1", server.port, 0, 0)),
            (socket.AF_INET, *kind, ("127.0.0.1", unused_port())),
            (socket.AF_INET, *kind, ("127.0.0.1", server.port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})
    with reporting(store, host="localhost", port=server.port) as reporter:
        assert not reporter.flush(SECONDS)
        assert reporter.flush(SECONDS)
    assert server.lines(1) == ["a.b.n:1|c"]
    assert [address[0] for address in faulty.connected] == ["127.0.0.1"] * 2  # type: ignore[index]  # addresses


def test_a_name_that_no_host_can_have_is_not_resolved() -> None:
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})
    with reporting(store, host="x" * 70 + ".é") as reporter:
        assert not reporter.flush(SECONDS)
    assert dict(reporter.status().dropped) == {"unresolved": 2}


def test_a_resolver_that_hangs_holds_up_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an emitter nor stop(); and nothing is sent after that."""
    hanging, back = threading.Event(), threading.Event()
    resolve = socket.getaddrinfo

    def resolved(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        hanging.set()
        assert back.wait(SECONDS)
        return resolve(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})
    reporter = StatsDReporter(port=server.port, interval=NEVER)
    reporter.start(bus, store)
    assert not reporter.flush(0.0)
    assert hanging.wait(SECONDS)
    bus.execute("a.b", {})
    begun = time.monotonic()
    reporter.stop(0.05)
    assert time.monotonic() - begun < SECONDS / 2
    assert reporter.status().queued == 1
    # Another start takes over from the thread that has not come back yet.
    reporter.start(bus, store)
    back.set()
    assert reporter.flush(SECONDS)
    reporter.stop(SECONDS)
    assert server.lines(1) == ["a.b.n:2|c"]
    status = reporter.status()
    assert (status.delivered, status.queued, dict(status.dropped)) == (
        1,
        0,
        {"stopped": 1},
    )


# --- Deadlines ---------------------------------------------------------------------


def test_stop_without_time_sends_nothing_and_ends(server: Server) -> None:
    bus, store = store_of(Counter("a.b.n"))
    reporter = StatsDReporter(port=server.port, interval=NEVER)
    reporter.start(bus, store)
    bus.execute("a.b", {})
    reporter.stop(-1.0)
    reporter.stop(SECONDS)
    worker = reporter._worker
    assert worker is not None
    worker.join()
    reporter.start(bus, store)
    reporter.stop(SECONDS)
    assert server.lines(1) == ["a.b.n:1|c"]


class SlowStore(MetricStore):
    """A store whose snapshots wait until they are let through."""

    def hold(self) -> None:
        self.reached, self.free = threading.Event(), threading.Event()

    def snapshot(self) -> Snapshot:
        self.reached.set()
        assert self.free.wait(SECONDS)
        return super().snapshot()


def test_who_asks_while_it_ends_is_answered(server: Server) -> None:
    store = SlowStore([Counter("a.b.n")])
    store.hold()
    reporter = StatsDReporter(port=server.port, interval=NEVER)
    reporter.start(Bus(), store)
    answers: list[bool] = []
    asking = [
        threading.Thread(target=lambda: answers.append(reporter.flush(SECONDS)))
        for _ in range(2)
    ]
    asking[0].start()
    assert store.reached.wait(SECONDS)
    stopping = threading.Thread(target=lambda: reporter.stop(SECONDS))
    worker = reporter._worker
    assert worker is not None
    stopping.start()
    wait_for(lambda: worker._requests.qsize() == 1)
    asking[1] = threading.Thread(target=lambda: answers.append(worker.flush(SECONDS)))
    asking[1].start()
    wait_for(lambda: worker._requests.qsize() == 2)
    store.free.set()
    for thread in (*asking, stopping):
        thread.join(SECONDS)
    assert sorted(answers) == [False, True]


# --- What is not the network's fault -----------------------------------------------


class BrokenStore(MetricStore):
    """A store that cannot be read."""

    def snapshot(self) -> Snapshot:
        msg = "password=hunter2"
        raise ZeroDivisionError(msg)


def test_a_store_that_cannot_be_read_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with reporting(BrokenStore([])) as reporter:
        assert not reporter.flush(SECONDS)
        assert not reporter.flush(SECONDS)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("llmevents.statsd", logging.WARNING)
    assert record.getMessage() == (
        "cannot read the metrics for StatsD: ZeroDivisionError "
        "(0 more since the last report)"
    )


class EndlessStore(MetricStore):
    """A store one of whose series is what no float can be."""

    def snapshot(self) -> Snapshot:
        found = super().snapshot()
        endless = Family(self.definitions[0], (Series({}, 10**400),))
        return Snapshot({**found.families, "a.b.i": endless})


def test_a_series_that_cannot_be_written_costs_no_other(server: Server) -> None:
    bus, store = (
        Bus(),
        EndlessStore([Sum("a.b.i"), LastValue("a.b.g"), Counter("a.b.n")]),
    )
    store.attach(bus)
    bus.execute("a.b", {"g": 1e280})
    with reporting(store, port=server.port) as reporter:
        assert reporter.flush(SECONDS)
    assert server.lines(2)[:2] == ["a.b.g:1" + "0" * 280 + "|g", "a.b.n:1|c"]
    assert dict(reporter.status().dropped) == {"render_error": 2}


def test_a_failure_is_logged_at_most_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, store = store_of(LastValue("a.b.g"))
    bus.execute("a.b", {"g": 1})
    port = unused_port()
    with reporting(store, port=port) as reporter:
        for _ in range(5):
            assert not reporter.flush(SECONDS)
        monkeypatch.setattr(_counts, "LOG_EVERY", 0.0)
        later = time.monotonic() + 2 * 60.0
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert not reporter.flush(SECONDS)
    assert [record.getMessage() for record in caplog.records[:2]] == [
        f"cannot send to StatsD at '127.0.0.1', port {port}: ConnectionRefusedError: "
        f"Connection refused ({silent} more since the last report)"
        for silent in (0, 4)
    ]


def test_a_path_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})
    with reporting(store, socket_path=tmp_path / "none"):
        pass
    (record,) = caplog.records
    assert f"StatsD at {str(tmp_path / 'none')!r}: FileNotFoundError" in (
        record.getMessage()
    )
