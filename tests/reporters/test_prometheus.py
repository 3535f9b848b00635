"""The reporter's life, its server, and the applications it can be mounted as."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from errno import EMFILE
from pathlib import Path
from typing import Any, NoReturn, cast
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client import Gauge as NativeGauge
from prometheus_client.metrics_core import Metric as NativeFamily

from llmevents import Bus, LLMEventsError, OptionError
from llmevents.metrics import Counter, LastValue, Metric, MetricStore
from llmevents.reporting import Reporter
from llmevents_prometheus import PrometheusReporter, _server
from llmevents_prometheus._apps import WSGIApp
from llmevents_prometheus._server import MetricsServer


SECONDS = 60.0
"""Long enough for a busy machine; it only runs out where something is broken."""

TOKEN = "correct-horse-battery-staple-é"  # noqa: S105  # nobody else's

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def store_of(*definitions: Metric) -> tuple[Bus, MetricStore]:
    bus = Bus()
    store = MetricStore(definitions)
    store.attach(bus)
    return bus, store


@contextmanager
def running(
    store: MetricStore,
    **options: Any,  # noqa: ANN401  # those of the reporter
) -> Iterator[PrometheusReporter]:
    reporter = PrometheusReporter(**{"port": 0, **options})
    reporter.start(Bus(), store)
    try:
        yield reporter
    finally:
        reporter.stop(SECONDS)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)


def ask(
    reporter: PrometheusReporter,
    path: str = "/metrics",
    method: str = "GET",
    **headers: str,
) -> tuple[http.client.HTTPResponse, bytes]:
    assert reporter.port is not None
    address = reporter._address
    connection = http.client.HTTPConnection(address, reporter.port, timeout=SECONDS)
    with closing(connection):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        response = connection.getresponse()
        return response, response.read()


def exchange(reporter: PrometheusReporter, request: bytes) -> bytes:
    """Send raw bytes, return all that comes back until the server is done."""
    assert reporter.port is not None
    with socket.create_connection(("127.0.0.1", reporter.port), SECONDS) as client:
        client.sendall(request)
        return receive_all(client)


def receive_all(client: socket.socket) -> bytes:
    received = b""
    try:
        while more := client.recv(65_536):
            received += more
    except ConnectionResetError:
        pass
    return received


def threads_of_ours() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("llmevents-prometheus")
    ]


def descriptors() -> int:
    """Return how many this process has open; 0 where there is no telling."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


# --- The server --------------------------------------------------------------------


def test_it_serves_both_formats() -> None:
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})

    with running(store) as reporter:
        assert reporter.url == f"http://127.0.0.1:{reporter.port}/metrics"
        response, classic = ask(reporter)
        assert response.status == 200
        assert response.getheader("Content-Type") == (
            "text/plain; version=0.0.4; charset=utf-8"
        )
        assert b"# TYPE a_b_n_total counter\na_b_n_total 1.0\n" in classic

        response, new = ask(reporter, Accept=OPENMETRICS)
        assert str(response.getheader("Content-Type")).startswith(OPENMETRICS)
        assert b"# TYPE a_b_n counter\na_b_n_total 1.0\n" in new
        assert new.endswith(b"# EOF\n")

        response, packed = ask(reporter, Accept_Encoding="gzip")
        assert b"a_b_n_total 1.0\n" in gzip.decompress(packed)
        response, some = ask(reporter, "/metrics?name[]=a_b_n_total")
        assert some.splitlines()[2:] == [b"a_b_n_total 1.0"]


def test_it_does_not_say_what_software_it_is() -> None:
    with running(MetricStore([])) as reporter:
        for path, method in (("/metrics", "GET"), ("/", "GET"), ("/metrics", "BREW")):
            response, _ = ask(reporter, path, method)
            assert response.getheader("Server") is None
        assert b"Server:" not in exchange(reporter, b"nonsense\r\n\r\n")


def test_the_page_is_at_metrics_only() -> None:
    with running(MetricStore([])) as reporter:
        for path in ("/", "/metrics/", "/favicon.ico"):
            response, body = ask(reporter, path)
            assert (response.status, body) == (404, b"metrics are at /metrics\n")
        assert ask(reporter, method="POST")[0].status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9568", 200),
        ("127.0.0.1:1", 200),
        ("127.8.8.8", 200),
        ("[::1]:9568", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:9568", 403),
        ("[2001:db8::1]", 403),
        ("192.0.2.1", 403),
        ("", 403),
    ],
)
def test_a_page_that_calls_itself_something_else_gets_nothing(
    host: str, status: int
) -> None:
    """DNS rebinding: a page's own name is made to resolve to 127.0.0.1."""
    with running(MetricStore([])) as reporter:
        response, body = ask(reporter, Host=host)

    assert response.status == status
    assert (b"scrapes" in body) == (status == 200)


def test_a_request_may_lack_a_host() -> None:
    """Scripts of HTTP/1.0; browsers always send one."""
    with running(MetricStore([])) as reporter:
        assert b" 200 OK\r\n" in exchange(reporter, b"GET /metrics HTTP/1.0\n\n")


def test_a_token_is_asked_for() -> None:
    bearer = f"bearer {TOKEN}".encode().decode("latin-1")
    refused = ["", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", "Bearer ü"]

    with running(MetricStore([]), token=TOKEN) as reporter:
        for header in refused:
            headers = {"Authorization": header.encode().decode("latin-1")}
            response, body = ask(reporter, **headers)
            assert response.status == 401
            assert response.getheader("WWW-Authenticate") == "Bearer"
            assert body == b"a token is needed\n"
        assert ask(reporter)[0].status == 401
        assert ask(reporter, Authorization=bearer)[0].status == 200
        # Who has the token is no page that was made to resolve to here.
        assert ask(reporter, Authorization=bearer, Host="behind.proxy")[0].status == 200


def test_other_machines_need_a_token(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("0.0.0.0", "::", "192.0.2.1", "example.com"):  # noqa: S104  # what is being tested
        with pytest.raises(OptionError, match="while there is no token; pass token="):
            PrometheusReporter(address=address)

    with running(MetricStore([]), address="0.0.0.0", token=TOKEN) as reporter:  # noqa: S104  # what is being tested
        assert ask(reporter)[0].status == 401
    (record,) = caplog.records
    assert "can be read by other machines, at http://0.0.0.0:" in record.getMessage()
    assert TOKEN not in caplog.text


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_where_it_is_told_to() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with running(MetricStore([]), address="::1") as reporter:
        assert reporter.url == f"http://[::1]:{reporter.port}/metrics"
        assert ask(reporter)[0].status == 200
    with running(MetricStore([]), address="localhost") as reporter:
        assert str(reporter.url).startswith("http://localhost:")


def test_a_port_that_is_taken_is_refused_at_the_start() -> None:
    with running(MetricStore([])) as first:
        registry = CollectorRegistry()
        second = PrometheusReporter(port=first.port, registry=registry)
        complaint = f"one that nobody listens on at 127.0.0.1; .*, got {first.port}$"
        with pytest.raises(OptionError, match=complaint):
            second.start(Bus(), MetricStore([Counter("a.b")]))
        assert generate_latest(registry) == b""
        assert (second.port, second.url) == (None, None)
        second.stop(0.0)
    second.start(Bus(), MetricStore([]))
    second.stop(SECONDS)


def test_an_address_of_another_machine_is_refused_at_the_start() -> None:
    for address in ("192.0.2.1", "nowhere.invalid"):
        reporter = PrometheusReporter(port=0, address=address, token=TOKEN)
        with pytest.raises(OptionError, match="expected address to be one of this mac"):
            reporter.start(Bus(), MetricStore([]))


def test_a_port_that_one_may_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Root may have any, so that the system is made to say no."""

    def refuse(*_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socketserver.TCPServer, "server_bind", refuse)

    with pytest.raises(OptionError, match="may listen on; pass one above 1023, got 80"):
        PrometheusReporter(port=80).start(Bus(), MetricStore([]))


def test_a_start_without_threads_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object) -> NoReturn:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    registry = CollectorRegistry()
    reporter = PrometheusReporter(port=0, registry=registry)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            reporter.start(Bus(), MetricStore([]))
    assert generate_latest(registry) == b""

    reporter.start(Bus(), MetricStore([]))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert exchange(reporter, b"GET /metrics HTTP/1.0\n\n") == b""
    assert ask(reporter)[0].status == 200
    reporter.stop(SECONDS)


# --- Clients that behave badly -------------------------------------------------------


def test_a_head_that_is_too_long_is_refused() -> None:
    request = b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000

    with running(MetricStore([])) as reporter:
        assert exchange(reporter, request).startswith(b"HTTP/1.0 431 ")
        assert ask(reporter)[0].status == 200


def test_nonsense_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with running(MetricStore([])) as reporter:
        # Python 3.10 answers these without a status line.
        assert b"400" in exchange(reporter, b"\x16\x03\x01 \xff\r\n\r\n")
        assert b"400" in exchange(reporter, b"GET /metrics HTTP/x\r\n\r\n")
        assert exchange(reporter, b"\r\n\r\n") == b""
        assert ask(reporter)[0].status == 200

    assert capfd.readouterr() == ("", "")


def test_who_leaves_is_forgotten(capfd: pytest.CaptureFixture[str]) -> None:
    """A scraper that does not wait for its answer is nothing to print about."""
    with running(MetricStore([])) as reporter:
        assert reporter.port is not None
        address = ("127.0.0.1", reporter.port)
        for request in (b"", b"GET /met", b"GET /metrics HTTP/1.0\r\n\r\n"):
            client = socket.create_connection(address, SECONDS)
            client.sendall(request)
            reset = b"\1\0\0\0\0\0\0\0"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.close()
        wait_for(lambda: threads_of_ours() == ["llmevents-prometheus"])
        assert ask(reporter)[0].status == 200

    assert capfd.readouterr() == ("", "")


def test_a_request_that_trickles_in_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "READ_SECONDS", 0.05)

    with running(MetricStore([])) as reporter:
        assert exchange(reporter, b"GET /metrics HTTP/1.1\r\n") == b""
        wait_for(lambda: threads_of_ours() == ["llmevents-prometheus"])


def test_what_goes_wrong_with_a_connection_ends_that_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> NoReturn:
        raise BrokenPipeError

    with running(MetricStore([])) as reporter:
        with monkeypatch.context() as patch:
            patch.setattr(_server, "_read_head", fail)
            assert exchange(reporter, b"GET /metrics HTTP/1.0\n\n") == b""
        assert ask(reporter)[0].status == 200

    assert capfd.readouterr() == ("", "")


def test_there_are_not_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "MAX_CONNECTIONS", 2)

    with running(MetricStore([])) as reporter:
        assert reporter.port is not None
        address = ("127.0.0.1", reporter.port)
        with (
            socket.create_connection(address, SECONDS),
            socket.create_connection(address, SECONDS),
        ):
            wait_for(lambda: len(threads_of_ours()) == 3)
            assert exchange(reporter, b"") == b""
        wait_for(lambda: len(threads_of_ours()) == 1)
        assert ask(reporter)[0].status == 200


def test_descriptors_may_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accepting thread pauses instead of spinning, and goes on afterwards."""
    real_accept = socket.socket.accept
    failures = [OSError(EMFILE, "Too many open files")]

    def accept(listener: socket.socket) -> Any:  # noqa: ANN401  # as in the standard library
        if failures:
            raise failures.pop()
        return real_accept(listener)

    with running(MetricStore([])) as reporter:
        monkeypatch.setattr(socket.socket, "accept", accept)
        assert ask(reporter)[0].status == 200
        assert not failures


def test_a_collector_of_the_user_that_fails_is_an_error_500(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Broken:
        def collect(self) -> NoReturn:
            msg = "secret"
            raise RuntimeError(msg)

    registry = CollectorRegistry()
    registry.register(Broken())

    with running(MetricStore([]), registry=registry) as reporter:
        response, body = ask(reporter)

    assert response.status == 500
    assert b"secret" not in body
    assert capfd.readouterr() == ("", "")


# --- Mounted ------------------------------------------------------------------------


def test_it_can_be_part_of_a_registry() -> None:
    registry = CollectorRegistry()
    NativeGauge("native", "The user's own", registry=registry).set(7)
    bus, store = store_of(LastValue("a.b.n"))
    bus.execute("a.b", {"n": 3})

    with running(store, registry=registry) as reporter:
        assert registry.get_sample_value("a_b_n") == 3
        _, body = ask(reporter)
        assert b"\nnative 7.0\n" in body
        assert b"\na_b_n 3.0\n" in body
    assert registry.get_sample_value("a_b_n") is None
    assert registry.get_sample_value("native") == 7


def test_it_can_be_part_of_the_default_registry() -> None:
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})

    with running(store, port=None, registry=REGISTRY) as reporter:
        assert reporter.url is None
        assert REGISTRY.get_sample_value("a_b_n_total") == 1


def test_a_registry_that_was_emptied_is_no_problem() -> None:
    registry = CollectorRegistry()
    with running(MetricStore([]), port=None, registry=registry):
        for collector in list(registry._collector_to_names):
            registry.unregister(collector)


def call_wsgi(app: WSGIApp, **environ: str) -> tuple[str, bytes]:
    heads: list[str] = []
    made: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(made)
    made.update(environ)
    response: Any = validator(cast("Any", app))(
        made, cast("Any", lambda *head: heads.append(head[0]))
    )
    with closing(response):
        body = b"".join(response)
    return heads[0], body


def test_it_can_be_a_wsgi_application() -> None:
    bus, store = store_of(Counter("a.b.n"))
    reporter = PrometheusReporter(port=None, token=TOKEN)
    app = reporter.wsgi_app()
    bearer = f"Bearer {TOKEN}".encode().decode("latin-1")

    assert call_wsgi(app, HTTP_AUTHORIZATION=bearer) == ("200 OK", b"")
    reporter.start(bus, store)
    bus.execute("a.b", {})
    status, body = call_wsgi(app, HTTP_AUTHORIZATION=bearer, PATH_INFO="/any/where")
    assert status == "200 OK"
    assert b"\na_b_n_total 1.0\n" in body
    assert call_wsgi(app)[0] == "401 Unauthorized"
    reporter.stop(0.0)
    assert call_wsgi(app, HTTP_AUTHORIZATION=bearer) == ("200 OK", b"")


def call_asgi(
    reporter: PrometheusReporter,
    **scope: Any,  # noqa: ANN401  # as ASGI has it
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> NoReturn:
        msg = "a scrape has no body to wait for"
        raise AssertionError(msg)

    asyncio.run(reporter.asgi_app()({"type": "http", **scope}, receive, send))
    return sent


def test_it_can_be_an_asgi_application() -> None:
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})
    request = {
        "method": "GET",
        "path": "/any/where",
        "query_string": b"name[]=a_b_n_total",
        "headers": [(b"accept", b"text/html"), (b"accept", OPENMETRICS.encode())],
    }

    with running(store, port=None) as reporter:
        head, body = call_asgi(reporter, **request)
        assert head["status"] == 200
        headers = dict(head["headers"])
        assert headers[b"content-type"].startswith(OPENMETRICS.encode())
        assert headers[b"content-length"] == str(len(body["body"])).encode()
        assert body["body"].endswith(b"a_b_n_total 1.0\n# EOF\n")

        request["method"] = "PUT"
        assert call_asgi(reporter, **request)[0]["status"] == 405
        assert call_asgi(reporter, type="lifespan") == []


def test_a_scrape_does_not_keep_an_event_loop_waiting() -> None:
    """The page is made in a thread."""
    inside, done = threading.Event(), threading.Event()

    class Slow:
        def collect(self) -> list[NativeFamily]:
            inside.set()
            assert done.wait(SECONDS)
            return []

    registry = CollectorRegistry()
    registry.register(Slow())

    async def scrape_and_go_on(reporter: PrometheusReporter) -> None:
        sent: list[Any] = []

        async def send(message: object) -> None:
            sent.append(message)

        async def receive() -> None:
            """Return what nobody asks for."""

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        app = reporter.asgi_app()
        scrape = asyncio.ensure_future(app(scope, receive, send))
        assert await asyncio.to_thread(inside.wait, SECONDS)
        assert sent == []
        done.set()
        await scrape
        assert len(sent) == 2

    with running(MetricStore([]), port=None, registry=registry) as reporter:
        asyncio.run(asyncio.wait_for(scrape_and_go_on(reporter), SECONDS))


# --- Life ---------------------------------------------------------------------------


def test_it_is_a_reporter() -> None:
    reporter: Reporter = PrometheusReporter()

    assert reporter.flush(0.0)
    reporter.stop(0.0)
    assert reporter.status().is_balanced


def test_it_counts_series_of_all_scrapes() -> None:
    bus, store = store_of(Counter("a.b.n", tags=("k",)), Counter("a.b.m"))
    for k in range(3):
        bus.execute("a.b", {}, {"k": k})

    with running(store) as reporter:
        ask(reporter)
        ask(reporter)
        status = reporter.status()

    assert (status.accepted, status.delivered, status.queued) == (8, 8, 0)
    assert reporter.status() == status


def test_stopping_is_prompt_and_leaves_nothing_behind() -> None:
    before = descriptors()
    with running(MetricStore([])) as reporter:
        port = reporter.port
        assert ask(reporter)[0].status == 200
        begun = time.monotonic()
    assert time.monotonic() - begun < SECONDS / 2
    reporter.stop(SECONDS)

    # Who has answered is not waited for any more in the very last steps of its thread.
    wait_for(lambda: threads_of_ours() == [])
    assert (reporter.port, reporter.url) == (None, None)
    assert descriptors() == before
    with socket.create_server(("127.0.0.1", int(port or 0))):
        pass


def test_it_starts_once_at_a_time_and_again_after_a_stop() -> None:
    bus, store = store_of(Counter("a.b.n"))

    with (
        running(store) as reporter,
        pytest.raises(LLMEventsError, match=r"started already; stop\(\) it first"),
    ):
        reporter.start(bus, store)
    reporter.start(bus, store)
    assert ask(reporter)[0].status == 200
    reporter.stop(SECONDS)


def test_what_a_child_inherits_gives_way_to_its_own() -> None:
    """As in a child, to which the session of its parent belongs to nobody here."""
    registry = CollectorRegistry()
    with running(MetricStore([]), port=None, registry=registry) as reporter:
        assert reporter._session is not None
        reporter._session.pid = 0
        reporter.start(Bus(), MetricStore([Counter("a.b")]))
        assert registry.get_sample_value("a_b_total") == 0
    assert generate_latest(registry) == b""


def test_it_attaches_nothing() -> None:
    bus, store = store_of(Counter("a.b.n"))
    before = bus.list_handlers()
    with running(store) as reporter:
        reporter.stop(SECONDS)
        reporter.start(bus, store)
        assert bus.list_handlers() == before


def test_a_scrape_under_way_is_finished_before_the_stop() -> None:
    inside, done = threading.Event(), threading.Event()

    class Slow:
        def collect(self) -> list[NativeFamily]:
            inside.set()
            assert done.wait(SECONDS)
            return [NativeFamily("slow", "It takes its time", "gauge")]

    registry = CollectorRegistry()
    registry.register(Slow())
    reporter = PrometheusReporter(port=0, registry=registry)
    reporter.start(Bus(), MetricStore([]))
    bodies: list[bytes] = []
    scraper = threading.Thread(target=lambda: bodies.append(ask(reporter)[1]))
    scraper.start()
    assert inside.wait(SECONDS)
    stopper = threading.Thread(target=reporter.stop, args=(SECONDS,))
    stopper.start()
    wait_for(lambda: "llmevents-prometheus" not in threads_of_ours())
    done.set()
    stopper.join(SECONDS)
    scraper.join(SECONDS)

    assert b"# HELP slow It takes its time\n" in bodies[0]
    wait_for(lambda: threads_of_ours() == [])


def test_a_client_that_says_nothing_does_not_delay_the_stop() -> None:
    with running(MetricStore([])) as reporter:
        assert reporter.port is not None
        with socket.create_connection(("127.0.0.1", reporter.port), SECONDS):
            wait_for(lambda: len(threads_of_ours()) == 2)
            begun = time.monotonic()
            reporter.stop(SECONDS)
            assert time.monotonic() - begun < _server.READ_SECONDS / 2
            wait_for(lambda: threads_of_ours() == [])


def test_a_scrape_that_does_not_end_is_cut_off() -> None:
    inside, done = threading.Event(), threading.Event()

    class Stuck:
        def collect(self) -> list[NativeFamily]:
            inside.set()
            assert done.wait(SECONDS)
            return []

    registry = CollectorRegistry()
    registry.register(Stuck())
    reporter = PrometheusReporter(port=0, registry=registry)
    reporter.start(Bus(), MetricStore([]))
    assert reporter.port is not None
    with socket.create_connection(("127.0.0.1", reporter.port), SECONDS) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert inside.wait(SECONDS)
        begun = time.monotonic()
        reporter.stop(0.05)
        assert time.monotonic() - begun < SECONDS / 2
        assert receive_all(client) == b""
    done.set()
    wait_for(lambda: threads_of_ours() == [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_serves_nobody_until_it_starts_its_own() -> None:
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})

    with running(store, registry=CollectorRegistry()) as reporter:
        assert ask(reporter)[0].status == 200
        session = reporter._session
        assert session is not None
        assert session.server is not None
        pid = os.fork()
        if pid == 0:
            status = 2
            try:
                signal.alarm(30)
                is_closed = session.server.socket.fileno() == -1
                is_quiet = reporter.port is None and reporter.flush(SECONDS)
                reporter.start(bus, store)
                bus.execute("a.b", {})
                served = b"\na_b_n_total 1.0\n" in ask(reporter)[1]
                reporter.stop(SECONDS)
                is_well = is_closed and is_quiet and served
                status = 0 if is_well and reporter.status().is_balanced else 1
            finally:
                os._exit(status)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert ask(reporter)[0].status == 200

    assert exit_code == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_port() -> None:
    """A child that outlives its parent would leave scrapers waiting for an answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with running(MetricStore([])) as reporter:
            port = int(reporter.port or 0)
            pid = os.fork()
            if pid == 0:
                ours.close()
                theirs.sendall(b"here")
                theirs.recv(1)
                os._exit(0)
            assert ours.recv(4) == b"here"
        with pytest.raises(ConnectionRefusedError, match="refused"):
            socket.create_connection(("127.0.0.1", port), SECONDS)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("what", ["socketpair", "thread"])
def test_a_start_that_fails_closes_what_it_opened(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(EMFILE, "no") if what == "socketpair" else RuntimeError("no")

    before = descriptors()
    with monkeypatch.context() as patch:
        if what == "socketpair":
            patch.setattr(socket, "socketpair", refuse)
        else:
            patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises((OSError, RuntimeError), match="no"):
            PrometheusReporter(port=0).start(Bus(), MetricStore([]))
    assert descriptors() == before


def test_a_child_may_find_everything_closed() -> None:
    with running(MetricStore([])) as reporter:
        session = reporter._session
    assert session is not None
    assert session.server is not None

    session.server.after_fork_in_child()
    session.server.after_fork_in_child()


# --- Several processes ----------------------------------------------------------------


def test_several_processes_may_listen_on_one_port(tmp_path: Path) -> None:
    """Any of them answers, and each with the totals over all."""
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})

    with running(store, multiprocess_dir=tmp_path) as first:
        child = (
            "import sys\n"
            "from llmevents import Bus\n"
            "from llmevents.metrics import Counter, MetricStore\n"
            "from llmevents_prometheus import PrometheusReporter\n"
            "bus, store = Bus(), MetricStore([Counter('a.b.n')])\n"
            "store.attach(bus)\n"
            "port, directory = int(sys.argv[1]), sys.argv[2]\n"
            "reporter = PrometheusReporter(port=port, multiprocess_dir=directory)\n"
            "reporter.start(bus, store)\n"
            "bus.execute('a.b', {})\n"
            "assert reporter.flush(60)\n"
            "reporter.stop(60)\n"
        )
        arguments = [sys.executable, "-c", child, str(first.port), str(tmp_path)]
        subprocess.run(arguments, check=True, timeout=SECONDS)
        assert first.flush(SECONDS)
        _, body = ask(first)

    assert b"\na_b_n_total 2.0\n" in body
    # Of ourselves each process knows its own numbers only.
    assert b"llmevents_" not in body


def test_a_second_start_counts_nothing_twice(tmp_path: Path) -> None:
    bus, store = store_of(Counter("a.b.n"))
    registry = CollectorRegistry()
    reporter = PrometheusReporter(
        port=None, registry=registry, multiprocess_dir=tmp_path
    )
    for count in (1, 2):
        reporter.start(bus, store)
        bus.execute("a.b", {})
        assert registry.get_sample_value("a_b_n_total") == count
        reporter.stop(SECONDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("starts", [True, False])
def test_a_forked_child_takes_part_in_the_totals(
    tmp_path: Path, *, starts: bool
) -> None:
    """As the workers of a preloaded application, with or without a start of their own."""
    bus, store = store_of(Counter("a.b.n"))
    registry = CollectorRegistry()

    with running(
        store, port=None, registry=registry, multiprocess_dir=tmp_path
    ) as reporter:
        bus.execute("a.b", {})
        assert reporter.flush(SECONDS)
        pid = os.fork()
        if pid == 0:
            status = 2
            try:
                signal.alarm(30)
                if starts:
                    reporter.start(bus, store)
                bus.execute("a.b", {})
                bus.execute("a.b", {})
                seen = registry.get_sample_value("a_b_n_total")
                bus.execute("a.b", {})
                reporter.stop(SECONDS)
                status = 0 if seen == 3 else 1
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert registry.get_sample_value("a_b_n_total") == 4


def test_a_directory_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    registry = CollectorRegistry()
    reporter = PrometheusReporter(port=0, registry=registry, multiprocess_dir=file)

    with pytest.raises(OptionError, match="directory"):
        reporter.start(Bus(), MetricStore([Counter("a.b")]))
    assert generate_latest(registry) == b""
    assert threads_of_ours() == []


def test_a_flush_that_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> NoReturn:
        raise OSError

    with running(MetricStore([]), port=None, multiprocess_dir=tmp_path) as reporter:
        session = reporter._session
        assert session is not None
        assert reporter.flush(SECONDS)
        monkeypatch.setattr(type(session.shared), "publish", fail)
        assert not reporter.flush(SECONDS)
        monkeypatch.undo()


# --- Options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("port", -1, "None or an integer between 0 and 65,535"),
        ("port", 65_536, "None or an integer"),
        ("port", True, "None or an integer"),
        ("port", "9568", "None or an integer"),
        ("address", "", "an address or a name of this machine"),
        ("address", None, "an address or a name of this machine"),
        ("registry", "mine", "a prometheus_client.CollectorRegistry or None"),
        ("multiprocess_dir", "", "a directory or None"),
        ("multiprocess_dir", b"x", "a directory or None"),
        ("multiprocess_dir", 7, "a directory or None"),
    ],
)
def test_options_that_cannot_be_are_refused(
    option: str, value: object, expected: str
) -> None:
    options: dict[str, Any] = {option: value}

    with pytest.raises(OptionError, match=re.escape(f"{option} to be {expected}")):
        PrometheusReporter(**options)


@pytest.mark.parametrize("token", ["", "short", " " * 20, f"{TOKEN}\n", 7])
def test_a_token_that_is_none_is_refused_and_not_shown(token: Any) -> None:  # noqa: ANN401  # what is being tested
    with pytest.raises(OptionError, match=r"16 characters.*REDACTED") as refused:
        PrometheusReporter(token=token)
    assert not token or str(token) not in str(refused.value)


def test_without_its_extra_the_error_says_what_to_install() -> None:
    source = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "try: import llmevents_prometheus\n"
        "except ModuleNotFoundError as error: print(error.name, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("prometheus_client the Prometheus reporter needs")
    assert 'run: pip install "llmevents[prometheus]"' in done.stdout


def test_a_server_says_where_it_is() -> None:
    with running(MetricStore([])) as reporter:
        session = reporter._session
        assert session is not None
        server = session.server
        assert isinstance(server, MetricsServer)
        assert server.url == reporter.url
