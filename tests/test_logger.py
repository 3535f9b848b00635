"""The debug logger: whole lines, where they go, and that none can be forged."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeAlias

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

import llmevents
from llmevents import Bus, attach_default_logger, detach_default_logger
from llmevents._redact import REDACTED
from llmevents.logger import HANDLER_ID, LOGGER_NAME


# Emits an event and returns what its line says after the name.
Pairs: TypeAlias = Callable[..., str]

NOON_NS = 1_700_000_000_123_456_789
NOON = "2023-11-14T22:13:20.123456Z"


class StoppedClock:
    """A clock that stands still."""

    def monotonic_ns(self) -> int:
        return 0

    def time_ns(self) -> int:
        return NOON_NS


class WriteOnly(io.StringIO):
    """Remembers each write, and whether it is a terminal is up to the test."""

    def __init__(self, *, tty: bool = False) -> None:
        super().__init__()
        self.writes: list[str] = []
        self._tty = tty

    def write(self, text: str, /) -> int:
        self.writes.append(text)
        return super().write(text)

    def isatty(self) -> bool:
        return self._tty


@pytest.fixture
def bus() -> Bus:
    return Bus(clock=StoppedClock())


@contextmanager
def application(level: str = "NOTSET") -> Iterator[logging.Logger]:
    """The logger that events go to, without the handlers that pytest has."""
    logger = logging.getLogger(LOGGER_NAME)
    logger.propagate = False
    logger.setLevel(level)
    try:
        yield logger
    finally:
        logger.setLevel("NOTSET")
        logger.propagate = True
        logger.handlers.clear()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> WriteOnly:
    """A terminal without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    return WriteOnly(tty=True)


@pytest.fixture
def pairs(bus: Bus, plain: WriteOnly) -> Iterator[Pairs]:
    """Emits an event and returns what its line says after the name."""
    with attach_default_logger(events="**", stream=plain, bus=bus):

        def emit(
            measurements: dict[str, Any],
            metadata: dict[str, Any] | None = None,
            event: str = "my.event",
        ) -> str:
            bus.execute(event, measurements, metadata)
            return plain.writes[-1].partition(event)[2].strip()

        yield emit


class Recorder(logging.Handler):
    """An application's handler."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


# --- JSON --------------------------------------------------------------------------


def test_a_line_is_json_where_the_stream_is_no_terminal(bus: Bus) -> None:
    """Numbers stay integers in their own unit."""
    stream = WriteOnly()
    with attach_default_logger(stream=stream, bus=bus):
        bus.execute(
            ("llm", "chat", "stop"),
            {"duration": 1_234_567_890, "cost_nano_usd": 1_234_000},
            {"provider": "openai", "finish_reasons": ["stop"]},
        )
    (line,) = stream.writes
    assert line == (
        f'{{"timestamp": "{NOON}", "level": "info", "event": "llm.chat.stop", '
        '"duration": 1234567890, "cost_nano_usd": 1234000, '
        '"provider": "openai", "finish_reasons": ["stop"]}\n'
    )


def test_json_keys_that_clash_get_a_prefix(bus: Bus) -> None:
    """Nothing overwrites the event's name, and nothing is lost."""
    stream = WriteOnly()
    with attach_default_logger(events="**", stream=stream, bus=bus):
        bus.execute(
            "my.event",
            {"level": 1, "size": 2},
            {"event": "e", "size": "s", "metadata.size": "m", "exc_info": "x"},
        )
    assert json.loads(stream.getvalue()) == {
        "timestamp": NOON,
        "level": "info",
        "event": "my.event",
        "measurements.level": 1,
        "size": 2,
        "metadata.event": "e",
        "metadata.size": "s",
        "metadata.metadata.size": "m",
        "metadata.exc_info": "x",
    }


text = st.text(st.characters(codec=None), max_size=40)
nasty = st.sampled_from(
    [
        *("a\nb", "a\r\nb", "\x1b[31mred", "\x9b31m", "\x7f", "\u2028", "\u202e"),
        *("\ud800", "\x00", "\x85", "\u2066", "x=1 y=2", "'", '"', "\\n", "", "%s %d"),
    ]
)


@given(text | nasty, text | nasty, text | nasty)
def test_nothing_forges_a_line_of_json(key: str, value: str, inner: str) -> None:
    """Printable ASCII only, and one line also for `str.splitlines`."""
    bus = Bus(clock=StoppedClock())
    stream = WriteOnly()
    with attach_default_logger(events="**", stream=stream, bus=bus):
        bus.execute("my.event", {key: 1}, {key: value, "list": [{inner: inner}]})
    assert bus.stats()["handler_failures"] == 0
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["event"] == "my.event"


@pytest.mark.parametrize("tty", [False, True], ids=["json", "terminal"])
def test_secrets_are_taken_out(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, tty: bool
) -> None:
    """`execute` passes on what it is given; what is printed is cleaned."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = WriteOnly(tty=tty)
    with attach_default_logger(events="**", stream=stream, bus=bus):
        bus.execute("my.event", {}, {"api_key": "hunter2", "url": "//me:hunter2@host"})
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count(REDACTED) == 2


class Hostile:
    """Raises from whatever code may call to show it."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError


class HostileMapping(dict[str, int]):
    def items(self) -> NoReturn:
        raise RuntimeError


def odd_values() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    return {
        "hostile": Hostile(),
        "cycle": cycle,
        "deep": deep,
        "bytes": b"\xff",
        "nan": float("nan"),
        "infinity": float("inf"),
        "huge": 10**5000,
        "none": None,
        "bool": True,
        "long": "x" * 1_000_000,
    }


@pytest.mark.parametrize("tty", [False, True], ids=["json", "terminal"])
def test_odd_values_cost_no_line(bus: Bus, tty: bool) -> None:
    """As measurements or as metadata."""
    stream = WriteOnly(tty=tty)
    with attach_default_logger(events="**", stream=stream, bus=bus):
        bus.execute("my.event", odd_values(), odd_values())
        bus.execute("my.event", HostileMapping(), HostileMapping())
    assert bus.stats()["handler_failures"] == 0
    assert len(stream.getvalue().splitlines()) == 2
    assert len(stream.writes[0]) < 70_000
    if not tty:
        assert json.loads(stream.writes[0])["nan"] == "nan"


# --- For eyes ----------------------------------------------------------------------


def test_a_line_is_readable_on_a_terminal(bus: Bus, plain: WriteOnly) -> None:
    with attach_default_logger(stream=plain, bus=bus):
        bus.execute(
            "llm.chat.stop",
            {"duration": 1_234_000_000, "input_tokens": 7, "cost_nano_usd": 1_234_000},
            {"provider": "openai", "use_case": "chat answer", "stream": True},
        )
    local = datetime.fromtimestamp(NOON_NS // 10**9, tz=timezone.utc).astimezone()
    (line,) = plain.writes
    assert line == (
        f"{local:%H:%M:%S}.123 [info   ] llm.chat.stop              duration=1.234s "
        "input_tokens=7 cost_nano_usd=$0.001234 provider=openai "
        "use_case='chat answer' stream=True\n"
    )


def test_a_terminal_gets_colours(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real terminal, to its end; the event's own escapes stay escaped."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        with attach_default_logger(stream=stream, bus=bus):
            bus.execute("llm.chat.exception", {}, {"a b": "\x1b[31mred"})
        line = os.read(master, 10_000).decode()
    os.close(master)
    assert line.partition(" ")[2] == (
        "[\x1b[31merror  \x1b[0m] \x1b[1mllm.chat.exception        \x1b[0m "
        "\x1b[36m'a b'\x1b[0m=\x1b[35m'\\x1b[31mred'\x1b[0m\r\n"
    )


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        pytest.param("NO_COLOR", "1", False, id="no-color"),
        pytest.param("NO_COLOR", "", True, id="empty-no-color"),
        pytest.param("TERM", "dumb", False, id="dumb"),
        pytest.param("TERM", "xterm", True, id="xterm"),
    ],
)
def test_colours_can_be_declined(
    bus: Bus,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    expected: bool,
) -> None:
    """NO_COLOR counts if it is not empty, says no-color.org."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    stream = WriteOnly(tty=True)
    with attach_default_logger(stream=stream, bus=bus):
        bus.execute("llm.chat.stop", {}, {})
    assert ("\x1b" in stream.getvalue()) is expected


@given(text | nasty, text | nasty, text | nasty)
def test_nothing_forges_a_line_for_eyes(key: str, value: str, inner: str) -> None:
    bus = Bus(clock=StoppedClock())
    stream = WriteOnly(tty=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        with attach_default_logger(events="**", stream=stream, bus=bus):
            bus.execute("my.event", {key: 1}, {key: value, "list": [{inner: inner}]})
    assert bus.stats()["handler_failures"] == 0
    assert stream.getvalue()[-1] == "\n"
    assert stream.getvalue()[:-1].isprintable()


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "0ns"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (12_345_678, "12.3ms"),
        (1_234_000_000, "1.234s"),
        (3_600_000_000_000, "3600.000s"),
        (-1_500_000, "-1.5ms"),
        (1_500_000.5, "1.5ms"),
    ],
)
def test_durations_are_readable(
    pairs: Pairs, nanoseconds: float, expected: str
) -> None:
    assert pairs({"duration": nanoseconds}) == f"duration={expected}"
    assert pairs({"queue_duration": nanoseconds}) == f"queue_duration={expected}"


@pytest.mark.parametrize(
    ("nano_usd", "expected"),
    [
        (0, "$0.000000"),
        (1_234_000, "$0.001234"),
        (1_234_567, "$0.001234567"),
        (1_234_560, "$0.00123456"),
        (12_000_000_000, "$12.000000"),
        (-1_500_000_000, "-$1.500000"),
        (1_234_567.8, "$0.001235"),
        (2**70, "$1180591620717.411303424"),
    ],
)
def test_costs_are_readable(pairs: Pairs, nano_usd: float, expected: str) -> None:
    assert pairs({"cost_nano_usd": nano_usd}) == f"cost_nano_usd={expected}"


@pytest.mark.parametrize(
    ("measurements", "expected"),
    [
        pytest.param({"retry_after": 2 * 10**9}, "retry_after=2.000s", id="declared"),
        pytest.param({"system_time": NOON_NS}, f"system_time={NOON}", id="wall"),
        pytest.param({"system_time": 10**25}, f"system_time={10**25}", id="no date"),
        pytest.param({"duration": True}, "duration=True", id="bool"),
        pytest.param({"duration": "soon"}, "duration=soon", id="text"),
        pytest.param({"attempt": 3}, "attempt=3", id="count"),
    ],
)
def test_the_catalogue_says_what_is_a_duration(
    pairs: Pairs, measurements: dict[str, Any], expected: str
) -> None:
    assert pairs(measurements, {}, "llm.provider.retry") == expected


def test_text_that_could_pass_for_a_pair_is_quoted(pairs: Pairs) -> None:
    assert pairs({}, {"a": "1 b=2", "c d": "", "e": "it's", "": "\\n"}) == (
        "a='1 b=2' 'c d'='' e=\"it's\" metadata.='\\\\n'"
    )


def test_long_values_are_cut(pairs: Pairs) -> None:
    line = pairs({}, {"short": "x" * 512, "long": "x" * 600, "list": ["x" * 600]})
    assert line == (
        f"short={'x' * 512} "
        f"long='{'x' * 512}...[+88 characters]' "
        f"list=['{'x' * 510}...[+92 characters]"
    )


def test_a_stream_without_the_characters_gets_escapes(bus: Bus) -> None:
    """A terminal with another encoding than UTF-8."""

    class Ascii(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    stream = Ascii(raw, encoding="ascii")
    with attach_default_logger(stream=stream, bus=bus):
        bus.execute("llm.chat.stop", {"duration": 1_500}, {"user_id": "Zoë"})
    assert rb"1.5\xb5s" in raw.getvalue()
    assert rb"Zo\xeb" in raw.getvalue()
    assert raw.getvalue().count(b"\n") == 1


# --- Levels ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "others", "failures"),
    [
        ("debug", "debug", "error"),
        ("info", "info", "error"),
        ("warning", "warning", "error"),
        ("error", "error", "error"),
        (logging.WARNING, "warning", "error"),
        (logging.CRITICAL, "critical", "critical"),
    ],
)
def test_failures_are_logged_as_errors(
    bus: Bus, level: int | str, others: str, failures: str
) -> None:
    stream = WriteOnly()
    events = ("llm.chat.stop", "my.failure", "llm.chat.exception")
    own = ("llmevents.handler.failure", "llmevents.reporter.failure")
    with attach_default_logger(level, "**", stream=stream, bus=bus):
        for event in events + own:
            bus.execute(event, {}, {})
    found = [json.loads(line)["level"] for line in stream.writes]
    assert found == [others, others, failures, failures, failures]


@pytest.mark.parametrize("level", ["INFO", "loud", "", 0, 17, -10, True])
def test_unknown_levels_are_refused(bus: Bus, level: int | str) -> None:
    with pytest.raises(llmevents.OptionError, match="expected level to be 'debug'"):
        attach_default_logger(level, bus=bus)
    assert bus.list_handlers() == []


def test_a_level_of_the_application_has_its_name(bus: Bus) -> None:
    logging.addLevelName(17, "NOTICE")
    stream = WriteOnly()
    try:
        with attach_default_logger(17, stream=stream, bus=bus):
            bus.execute("llm.chat.stop", {}, {})
    finally:
        del logging._levelToName[17]
        del logging._nameToLevel["NOTICE"]
    assert json.loads(stream.getvalue())["level"] == "notice"


# --- Attaching ---------------------------------------------------------------------


def test_attaching_twice_is_refused(bus: Bus) -> None:
    with attach_default_logger(bus=bus):
        with pytest.raises(
            llmevents.HandlerExistsError, match=rf"detach\('{HANDLER_ID}'\) first"
        ):
            attach_default_logger(bus=bus)
        assert [info.event for info in bus.list_handlers()] == [("llm", "**")]


def test_detaching_is_idempotent(bus: Bus) -> None:
    attach_default_logger(events=["a.b", "c.*"], stream=io.StringIO(), bus=bus)
    assert bus.has_handlers("a.b")
    assert bus.has_handlers("c.d")
    detach_default_logger(bus=bus)
    detach_default_logger(bus=bus)
    assert bus.list_handlers() == []


def test_the_default_bus_is_the_default() -> None:
    stream = WriteOnly()
    attach_default_logger(events="test.logger", stream=stream)
    try:
        llmevents.execute("test.logger", {"count": 1})
    finally:
        detach_default_logger()
    llmevents.execute("test.logger", {"count": 2})
    assert [json.loads(line)["count"] for line in stream.writes] == [1]


def test_importing_the_logger_does_not_import_structlog() -> None:
    """It costs more than all of llmevents."""
    code = "import sys, llmevents.logger; print('structlog' in sys.modules)"
    run = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_the_application_s_structlog_is_left_alone(bus: Bus) -> None:
    """And does not change our lines either."""
    stream = WriteOnly()

    def drop(*_: object) -> NoReturn:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    try:
        before = structlog.get_config()
        with attach_default_logger(stream=stream, bus=bus):
            bus.execute("llm.chat.stop", {}, {})
        assert structlog.get_config() == before
    finally:
        structlog.reset_defaults()
    assert len(stream.writes) == 1


# --- Where lines go ----------------------------------------------------------------


def test_lines_go_to_standard_error_unless_logging_is_configured(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided for each event, so that either may be set up first."""
    stderr = WriteOnly()
    monkeypatch.setattr(sys, "stderr", stderr)
    handler = Recorder()
    with application() as logger, attach_default_logger("warning", bus=bus):
        bus.execute("llm.chat.start", {}, {})
        logger.addHandler(handler)
        bus.execute("llm.chat.stop", {"duration": 1_500}, {"model": "m"})
        logger.removeHandler(handler)
        bus.execute("llm.chat.exception", {}, {})
    names = [json.loads(line)["event"] for line in stderr.writes]
    assert names == ["llm.chat.start", "llm.chat.exception"]
    (record,) = handler.records
    assert record.name == LOGGER_NAME
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "llm.chat.stop duration=1.5µs model=m"
    assert record.__dict__["llmevents"] == {
        "event": "llm.chat.stop",
        "measurements": {"duration": 1_500},
        "metadata": {"model": "m"},
    }


def test_handlers_of_the_root_count(
    bus: Bus, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pytest's own handler is one; nothing is printed beside it."""
    with (
        caplog.at_level("INFO", logger=LOGGER_NAME),
        attach_default_logger(bus=bus),
    ):
        bus.execute("llm.chat.stop", {}, {"model": "m"})
    assert caplog.messages == ["llm.chat.stop model=m"]
    assert capsys.readouterr() == ("", "")


def test_levels_of_the_application_decide(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = WriteOnly()
    monkeypatch.setattr(sys, "stderr", stderr)
    handler = Recorder()
    with application("WARNING") as logger, attach_default_logger("info", bus=bus):
        logger.addHandler(handler)
        bus.execute("llm.chat.stop", {}, {})
        bus.execute("llm.chat.exception", {}, {})
    assert [record.levelname for record in handler.records] == ["ERROR"]
    assert stderr.writes == []


def test_a_given_stream_goes_before_the_application(bus: Bus) -> None:
    stream, handler = WriteOnly(), Recorder()
    with (
        application("DEBUG") as logger,
        attach_default_logger(stream=stream, bus=bus),
    ):
        logger.addHandler(handler)
        bus.execute("llm.chat.stop", {}, {})
    assert len(stream.writes) == 1
    assert handler.records == []


def test_records_group_by_the_event_s_name(bus: Bus) -> None:
    """Per cent signs and control characters in data are data."""
    handler = Recorder()
    with application("DEBUG") as logger, attach_default_logger(events="**", bus=bus):
        logger.addHandler(handler)
        bus.execute("odd.100%s name", {}, {"a": "100%d", "exception": "x\ny\x1b[1m"})
    (record,) = handler.records
    assert record.msg == "'odd.100%%s name' %s"
    assert record.getMessage() == (
        "'odd.100%s name' a=100%d metadata.exception='x\\ny\\x1b[1m'"
    )


def test_an_application_s_handler_that_emits_is_bounded(bus: Bus) -> None:
    """Each record emits an event, each event makes a record."""

    class Emitting(Recorder):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            bus.execute("llm.log.record", {"count": 1})

    handler = Emitting()
    with application("DEBUG") as logger, attach_default_logger(bus=bus):
        logger.addHandler(handler)
        bus.execute("llm.log.record", {"count": 1})
    assert 1 < len(handler.records) <= 8
    assert bus.stats()["recursion_stops"] == 1
    assert bus.stats()["handler_failures"] == 0


def test_without_a_standard_error_nothing_is_written(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under pythonw on Windows."""
    monkeypatch.setattr(sys, "stderr", None)
    with application(), attach_default_logger(bus=bus):
        bus.execute("llm.chat.stop", {}, {})
    assert bus.stats()["handler_failures"] == 0


def test_a_stream_that_is_gone_never_reaches_the_emitter(bus: Bus) -> None:
    """It is a handler failure, counted and reported by the bus."""
    stream: TextIO = io.StringIO()
    stream.close()
    with attach_default_logger(events="**", stream=stream, bus=bus):
        bus.execute("llm.chat.stop", {}, {})
    # The event and, as the logger hears that too, the event of its failure.
    assert bus.stats()["handler_failures"] == 2


# --- Threads and signals -----------------------------------------------------------


def test_each_line_is_one_write_from_any_thread(bus: Bus) -> None:
    stream = WriteOnly()
    threads = 8
    each = 250

    def emit(thread: int) -> None:
        for number in range(each):
            bus.execute("llm.chat.stop", {"number": number}, {"thread": thread})

    workers = [threading.Thread(target=emit, args=(n,)) for n in range(threads)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with attach_default_logger(stream=stream, bus=bus):
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not any(worker.is_alive() for worker in workers)
    lines = [json.loads(line) for line in stream.writes]
    assert all(line.endswith("\n") for line in stream.writes)
    seen = {(line["thread"], line["number"]) for line in lines}
    assert len(lines) == len(seen) == threads * each


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX signals")
def test_a_signal_handler_may_emit_while_a_line_is_written(
    bus: Bus, tmp_path: Path
) -> None:
    """Python refuses the write that is inside another: counted, and no hang."""
    path = tmp_path / "events.log"
    emitted = 0

    def interrupt(*_: object) -> None:
        nonlocal emitted
        emitted += 1
        bus.execute("llm.signal.event", {"number": emitted})

    before = signal.signal(signal.SIGALRM, interrupt)
    main = 3_000
    try:
        with (
            path.open("w", encoding="utf-8") as stream,
            attach_default_logger(stream=stream, bus=bus),
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for number in range(main):
                bus.execute("llm.main.event", {"number": number})
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    stats = bus.stats()
    assert emitted > 0
    assert len(lines) == (
        main + emitted - stats["handler_failures"] - stats["recursion_stops"]
    )
