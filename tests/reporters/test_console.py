from __future__ import annotations

import io
import os
import re
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import Bus, LLMEventsError, OptionError
from llmevents.metrics import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    MetricDefinitionError,
    MetricStore,
    Sum,
    Summary,
)
from llmevents.reporting import Reporter
from llmevents_console import ConsoleReporter
from llmevents_console._readable import number
from llmevents_console._screen import PlainScreen
from llmevents_console._stream import GuardedStream
from llmevents_console._text import Charset
from llmevents_console._view import Look


SECONDS = 60.0
"""Long enough for a busy machine; it only runs out where something is broken."""

NEVER = 86_400.0
"""An interval that does not pass: what is drawn was asked for by flush or stop."""

PAIR = ("provider", "model")
GPT = {"provider": "openai", "model": "gpt-4o"}
CLAUDE = {"provider": "anthropic", "model": "claude-sonnet-4"}

CALLS = (
    Counter("llm.chat.requests.total", event="llm.chat.*", tags=PAIR),
    Counter("llm.chat.errors.total", event="llm.chat.exception", tags=PAIR),
    Sum(
        "llm.tokens.input.total",
        event="llm.chat.*",
        measurement="input_tokens",
        tags=PAIR,
        unit="token",
    ),
    LastValue("llm.chat.stop.duration", tags=("model",), unit="nanosecond"),
)


def store_of(*definitions: Metric) -> tuple[Bus, MetricStore]:
    bus = Bus()
    store = MetricStore(definitions)
    store.attach(bus)
    return bus, store


@contextmanager
def running(
    store: MetricStore,
    stream: TextIO,
    *,
    live: bool | None = None,
    summary: bool = True,
) -> Iterator[ConsoleReporter]:
    reporter = ConsoleReporter(
        interval=NEVER, live=live, summary=summary, stream=stream
    )
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


def make_calls(bus: Bus) -> None:
    bus.execute("llm.chat.stop", {"input_tokens": 1_234_567, "duration": 12_500}, GPT)
    bus.execute("llm.chat.stop", {"input_tokens": 7, "duration": 0.25}, CLAUDE)
    bus.execute("llm.chat.exception", {}, GPT)


EXACT = """\
                                              tokens
provider   model            calls  errors         in  failed
─────────  ───────────────  ─────  ──────  ─────────  ──────
openai     gpt-4o               2       1  1,234,567  50.0 %
anthropic  claude-sonnet-4      2       0         10   0.0 %
           total                4       1  1,234,577  25.0 %

metric                  tags                               value
──────────────────────  ─────────────────────  ─────────────────
llm.chat.stop.duration  model=gpt-4o           12,500 nanosecond
                        model=claude-sonnet-4    0.25 nanosecond
"""
"""The summary where it goes to a file."""

READABLE = """\
                                              tokens
provider   model            calls  errors         in  failed  of calls
─────────  ───────────────  ─────  ──────  ─────────  ──────  ────────
openai     gpt-4o               2       1  1,234,567  50.0 %  █████
anthropic  claude-sonnet-4      2       0         10   0.0 %  █████
           total                4       1  1,234,577  25.0 %

metric                  tags                      value
──────────────────────  ─────────────────────  ────────
llm.chat.stop.duration  model=gpt-4o            12.5 us
                        model=claude-sonnet-4  0.250 ns
"""
"""The summary in a terminal."""

LINES = """\
llm.chat.requests.total{provider="openai", model="gpt-4o"} 2
llm.chat.requests.total{provider="anthropic", model="claude-sonnet-4"} 1
llm.chat.errors.total{provider="openai", model="gpt-4o"} 1
llm.tokens.input.total{provider="openai", model="gpt-4o"} 1234567 token
llm.tokens.input.total{provider="anthropic", model="claude-sonnet-4"} 7 token
llm.chat.stop.duration{model="gpt-4o"} 12500 nanosecond
llm.chat.stop.duration{model="claude-sonnet-4"} 0.25 nanosecond
llm.chat.requests.total{provider="anthropic", model="claude-sonnet-4"} 2
llm.tokens.input.total{provider="anthropic", model="claude-sonnet-4"} 10 token
"""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(text: str) -> str:
    """Return what a terminal shows: without its control sequences and trailing blanks."""
    rows = _ANSI.sub("", text).replace("\r", "").split("\n")
    return "\n".join(row.rstrip() for row in rows)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rich takes a terminal for, wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


# --- Lines -----------------------------------------------------------------------


def test_lines_and_the_summary_read_like_this() -> None:
    bus, store = store_of(*CALLS)
    stream = io.StringIO()

    with running(store, stream) as reporter:
        make_calls(bus)
        assert reporter.flush(SECONDS)
        bus.execute("llm.chat.stop", {"input_tokens": 3}, CLAUDE)

    assert stream.getvalue() == f"{LINES}\n{EXACT}"
    status = reporter.status()
    assert status.is_balanced
    assert status.delivered == len(stream.getvalue().splitlines())
    assert dict(status.dropped) == {}


def test_a_series_has_a_line_when_it_has_changed_and_not_else() -> None:
    bus, store = store_of(Counter("a.b.n"))
    stream = io.StringIO()

    with running(store, stream) as reporter:
        bus.execute("a.b", {})
        for _ in range(3):
            assert reporter.flush(SECONDS)
        assert stream.getvalue() == "a.b.n 1\n"
        bus.execute("a.b", {})
        assert reporter.flush(SECONDS)
        assert stream.getvalue() == "a.b.n 1\na.b.n 2\n"


def test_a_changed_series_shows_up_by_itself() -> None:
    bus, store = store_of(Counter("a.b.n"))
    stream = io.StringIO()
    reporter = ConsoleReporter(interval=0.05, stream=stream)
    reporter.start(bus, store)

    bus.execute("a.b", {})
    wait_for(lambda: stream.getvalue() == "a.b.n 1\n")
    bus.execute("a.b", {})
    wait_for(lambda: stream.getvalue() == "a.b.n 1\na.b.n 2\n")

    reporter.stop(SECONDS)


def test_without_events_there_is_little_to_say() -> None:
    _, store = store_of(*CALLS)
    stream = io.StringIO()

    with running(store, stream):
        pass

    assert stream.getvalue() == "no events yet\n"


def test_without_a_summary_lines_simply_end() -> None:
    bus, store = store_of(*CALLS)
    stream = io.StringIO()

    with running(store, stream, summary=False) as reporter:
        make_calls(bus)
        assert reporter.flush(SECONDS)
        bus.execute("llm.chat.stop", {"input_tokens": 3}, CLAUDE)

    assert stream.getvalue() == LINES
    assert reporter.status().delivered == len(LINES.splitlines())


def test_metrics_without_a_model_have_their_totals_in_the_summary() -> None:
    bus, store = store_of(Counter("a.b.n", tags=("k",)), Sum("a.b.size", unit="byte"))
    stream = io.StringIO()

    with running(store, stream):
        for k in ("v", "w"):
            bus.execute("a.b", {"size": 2_048}, {"k": k})

    assert (
        stream.getvalue()
        == """\
a.b.n{k="v"} 1
a.b.n{k="w"} 1
a.b.size 4096 byte

metric         value
────────  ──────────
a.b.n              2
a.b.size  4,096 byte
"""
    )


def test_distributions_and_summaries_have_lines_of_numbers() -> None:
    bus, store = store_of(
        Distribution("a.b.n", buckets=(1, 5), unit="page"),
        Summary("a.b.time", unit=("nanosecond", "millisecond")),
    )
    stream = io.StringIO()

    with running(store, stream, summary=False):
        for n in (1, 3, 9):
            bus.execute("a.b", {"n": n, "time": n * 500_000})

    assert (
        stream.getvalue()
        == """\
a.b.n count=3 sum=13 p50=3 p95=5 p99=5 page
a.b.time count=3 sum=6.5 p50=1.50099 p95=4.48169 p99=4.48169 millisecond
"""
    )


def test_numbers_in_lines_are_exact() -> None:
    """Programs read them: no separators, nothing rounded off."""
    bus, store = store_of(
        Sum("a.b.n"), Sum("a.b.x"), Sum("a.b.cost", unit=("nano_usd", "usd"))
    )
    stream = io.StringIO()

    with running(store, stream, summary=False):
        bus.execute("a.b", {"n": 2**62, "x": 0.1, "cost": 1_234_567_891})
        bus.execute("a.b", {"n": 2**62, "x": 0.2})

    assert (
        stream.getvalue()
        == """\
a.b.n 9223372036854775808
a.b.x 0.30000000000000004
a.b.cost 1.234567891 usd
"""
    )


def test_what_adds_up_is_added_up_by_model() -> None:
    """The table has a row per model, whatever other tags there are."""
    bus, store = store_of(Sum("a.b.n", tags=(*PAIR, "status")))
    stream = io.StringIO()

    with running(store, stream):
        for status in ("success", "error", "success"):
            bus.execute("a.b", {"n": 1000}, {**GPT, "status": status})

    assert """
provider  model       n
────────  ──────  ─────
openai    gpt-4o  3,000
""" in stream.getvalue()


def test_what_is_not_about_models_only_has_its_total_as_well() -> None:
    bus, store = store_of(Sum("a.b.n", tags=PAIR))
    stream = io.StringIO()

    with running(store, stream):
        bus.execute("a.b", {"n": 1000}, GPT)
        bus.execute("a.b", {"n": 1}, {"provider": "openai"})

    assert "\nopenai    gpt-4o  1,000\n" in stream.getvalue()
    assert "\na.b.n   1,001\n" in stream.getvalue()


def test_columns_that_do_not_fit_are_totals_further_down() -> None:
    names = [f"llm.{'long' * 5}{number}.total" for number in range(10)]
    bus, store = store_of(*(Counter(name, event="a.b", tags=PAIR) for name in names))
    stream = io.StringIO()

    with running(store, stream):
        bus.execute("a.b", {}, GPT)

    rows = stream.getvalue().splitlines()
    header = next(row for row in rows if row.startswith("provider ")).split()
    assert header == ["provider", "model", *(n.split(".")[1] for n in names[:4])]
    assert [row.split() for row in rows[-6:]] == [[name, "1"] for name in names[4:]]
    assert all(len(row) <= 120 for row in rows)


def test_tables_are_cut_and_say_by_how_much() -> None:
    bus, store = store_of(
        Counter("a.b.n", tags=PAIR), LastValue("a.b.size", tags=("model",))
    )
    stream = io.StringIO()

    with running(store, stream):
        for model in range(130):
            bus.execute("a.b", {"size": 1}, {"provider": "p", "model": f"m{model}"})

    rows = [row.strip() for row in stream.getvalue().splitlines()]
    assert "and 80 more" in rows
    assert "and 80 more series" in rows
    assert next(row for row in rows if row.startswith("total")).split() == [
        "total",
        "130",
    ]
    assert len([row for row in rows if row.startswith("a.b.n{")]) == 130


def test_very_many_lines_come_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmevents_console._screen.MAX_LINES", 2)
    bus, store = store_of(Counter("a.b.n", tags=("k",)))
    stream = io.StringIO()

    with running(store, stream, summary=False) as reporter:
        for _ in range(2):
            for k in "vwxyz":
                bus.execute("a.b", {}, {"k": k})
            assert reporter.flush(SECONDS)

    assert (
        stream.getvalue()
        == """\
a.b.n{k="v"} 1
a.b.n{k="w"} 1
# and 3 more, at the next look
a.b.n{k="x"} 2
a.b.n{k="y"} 2
# and 3 more, at the next look
a.b.n{k="z"} 2
a.b.n{k="v"} 2
a.b.n{k="w"} 2
"""
    )
    assert reporter.status().delivered == 9


def test_series_that_are_gone_are_forgotten() -> None:
    """Or else they would pile up where series come and go."""
    bus, store = store_of(Counter("a.b.n", tags=("k",)))
    screen = PlainScreen(GuardedStream(io.StringIO()))
    bus.execute("a.b", {}, {"k": "v"})
    screen.draw(Look(store.snapshot()))
    assert len(screen._written) == 1

    screen.draw(Look(MetricStore([]).snapshot()))
    assert len(screen._written) == 0


def test_values_that_were_refused_are_mentioned_at_the_end() -> None:
    bus, store = store_of(Sum("a.b.n"))
    stream = io.StringIO()

    with running(store, stream):
        bus.execute("a.b", {"n": float("nan")})

    assert stream.getvalue() == (
        "no events yet\n"
        "1 value was refused: no number, too large, or negative where that is wrong\n"
    )


# --- Live ------------------------------------------------------------------------


def test_a_live_table_is_drawn_over_itself_and_stays_at_the_end(
    terminal: None,
) -> None:
    bus, store = store_of(*CALLS)
    stream = io.StringIO()

    with running(store, stream, live=True) as reporter:
        wait_for(lambda: "no events yet" in stream.getvalue())
        make_calls(bus)
        assert reporter.flush(SECONDS)
        assert "1,234,567" in stream.getvalue()
        bus.execute("llm.chat.stop", {"input_tokens": 3}, CLAUDE)

    up = stream.getvalue().rpartition("\x1b[1A")
    assert shown(up[2]) == READABLE
    assert "\x1b[1A" in up[0]
    assert stream.getvalue().endswith("\x1b[?25h")
    status = reporter.status()
    assert (status.accepted, status.delivered) == (3, 3)


def test_a_live_view_taller_than_the_terminal_is_cut(terminal: None) -> None:
    bus, store = store_of(LastValue("a.b.n", tags=("k",)))
    stream = io.StringIO()

    with running(store, stream, live=True) as reporter:
        for k in range(60):
            bus.execute("a.b", {"n": 1}, {"k": f"k{k}"})
        assert reporter.flush(SECONDS)
        assert "k=k25" in stream.getvalue()
        assert "k=k26" not in stream.getvalue()
        assert "and 34 more series" in stream.getvalue()


def test_without_a_summary_the_live_view_is_wiped_off(terminal: None) -> None:
    bus, store = store_of(*CALLS)
    stream = io.StringIO()

    with running(store, stream, live=True, summary=False) as reporter:
        make_calls(bus)
        assert reporter.flush(SECONDS)
        assert "gpt-4o" in stream.getvalue()
        rows = shown(stream.getvalue().rpartition("\x1b[1A")[2]).count("\n")
        before = len(stream.getvalue())

    end = stream.getvalue()[before:].rpartition("\x1b[1A\x1b[2K")[0]
    assert end.count("\x1b[1A") >= rows
    assert shown(stream.getvalue().rpartition("\x1b[1A")[2]).strip() == ""


def test_the_programs_own_output_is_left_alone(terminal: None) -> None:
    """With rich's redirection a forked child could wait for a lock at its print."""
    _, store = store_of(*CALLS)
    stdout, stderr = sys.stdout, sys.stderr

    with running(store, io.StringIO(), live=True) as reporter:
        assert reporter.flush(SECONDS)
        assert (sys.stdout, sys.stderr) == (stdout, stderr)


def read_all(descriptor: int) -> str:
    """Read what is in a pseudo-terminal whose other end is closed."""
    chunks: list[bytes] = []
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other end is closed
            chunk = b""
        if not chunk:
            return b"".join(chunks).decode()
        chunks.append(chunk)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals here")
def test_a_terminal_is_recognised_and_filled(terminal: None) -> None:
    import fcntl
    import pty
    import termios

    leader, follower = pty.openpty()
    size = struct.pack("HHHH", 30, 100, 0, 0)
    fcntl.ioctl(follower, termios.TIOCSWINSZ, size)
    output: list[str] = []
    reader = threading.Thread(
        target=lambda: output.append(read_all(leader)), daemon=True
    )
    reader.start()
    bus, store = store_of(*CALLS)

    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        assert GuardedStream(stream).size() == (100, 30)
        with running(store, stream) as reporter:
            make_calls(bus)
            assert reporter.flush(SECONDS)
            bus.execute("llm.chat.stop", {"input_tokens": 3}, CLAUDE)
    reader.join(SECONDS)
    os.close(leader)

    assert not reader.is_alive()
    assert shown(output[0].replace("\r\n", "\n").rpartition("\x1b[1A")[2]) == READABLE
    assert reporter.status().delivered == 3


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals here")
@pytest.mark.parametrize("dumb", ["dumb", "unknown"])
def test_a_terminal_that_cannot_go_back_gets_lines(
    terminal: None, monkeypatch: pytest.MonkeyPatch, dumb: str
) -> None:
    import pty

    monkeypatch.setenv("TERM", dumb)
    leader, follower = pty.openpty()
    bus, store = store_of(Counter("a.b.n"))
    bus.execute("a.b", {})

    with os.fdopen(follower, "w", encoding="utf-8") as stream, running(store, stream):
        pass
    text = read_all(leader)
    os.close(leader)

    assert text.startswith("a.b.n 1\r\n")
    assert "\x1b" not in text


# --- Text from outside -----------------------------------------------------------

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "two\nlines\r",
    "[bold red]markup[/]",
    ":boom:",
    "\u202egnp.exe",
    "\u2028\x85\x9b31m",
    'quo"te\\',
    "x" * 5000,
    "表" * 5000,
)


@pytest.mark.parametrize("live", [True, False])
def test_tags_do_nothing_to_the_terminal_and_add_no_rows(
    terminal: None, *, live: bool
) -> None:
    def output_for(text: str) -> str:
        bus, store = store_of(Counter("a.b.n", tags=("k", *PAIR)))
        stream = io.StringIO()
        bus.execute("a.b", {}, {"k": text, "provider": "p", "model": text})
        with running(store, stream, live=live) as reporter:
            assert reporter.flush(SECONDS)
        return shown(stream.getvalue())

    harmless = output_for("x" * 40).count("\n")
    for text in HOSTILE:
        output = output_for(text)
        assert output.replace("\n", "").isprintable()
        assert output.count("\n") <= harmless or not text.isascii()


def test_hostile_text_reads_like_this() -> None:
    bus, store = store_of(Counter("a.b.n", tags=("k",)))
    stream = io.StringIO()

    with running(store, stream) as reporter:
        for text in HOSTILE:
            bus.execute("a.b", {}, {"k": text})
        assert reporter.flush(SECONDS)

        assert (
            stream.getvalue()
            == r"""
a.b.n{k="\x1b[2J\x1b]0;owned\x07"} 1
a.b.n{k="two\nlines\r"} 1
a.b.n{k="[bold red]markup[/]"} 1
a.b.n{k=":boom:"} 1
a.b.n{k="\u202egnp.exe"} 1
a.b.n{k="\u2028\x85\x9b31m"} 1
a.b.n{k="quo\"te\\"} 1
a.b.n{k="xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"} 1
a.b.n{k="表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表表…"} 1
""".lstrip()
        )


@given(st.text(st.characters()), st.integers(2, 50))
def test_what_is_printable_is_so_and_short(text: str, limit: int) -> None:
    assert Charset().printable(text, limit).isprintable()
    assert len(Charset().printable(text, limit)) <= limit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1_234_567, "1,234,567"),
        (-1_000, "-1,000"),
        (10**20, "100,000,000,000,000,000,000"),
        (0.0, "0"),
        (0.5, "0.5"),
        (1234.5678, "1,234.568"),
        (3.0, "3"),
        (0.000012345, "1.234e-05"),
        (1e18, "1e+18"),
        (-0.25, "-0.25"),
    ],
)
def test_numbers_read_like_this(value: float, text: str) -> None:
    assert number(value) == text


# --- Streams that fail -----------------------------------------------------------


def test_a_closed_stream_is_counted_and_hurts_nobody() -> None:
    bus, store = store_of(Counter("a.b.n"))
    stream = io.StringIO()
    stream.close()

    with running(store, stream) as reporter:
        bus.execute("a.b", {})
        assert reporter.flush(SECONDS)
        assert dict(reporter.status().dropped) == {"write_error": 1}

    status = reporter.status()
    assert status.is_balanced
    assert status.delivered == 0


@pytest.mark.parametrize("live", [True, False])
def test_a_broken_pipe_is_counted_and_hurts_nobody(
    terminal: None, *, live: bool
) -> None:
    """Left to itself, rich would redirect our standard output and exit."""
    bus, store = store_of(Counter("a.b.n"))
    reading, writing = os.pipe()
    os.close(reading)
    stdout = os.fstat(sys.__stdout__.fileno()) if sys.__stdout__ else None

    stream = os.fdopen(writing, "w", encoding="utf-8")
    with running(store, stream, live=live) as reporter:
        bus.execute("a.b", {})
        assert reporter.flush(SECONDS)
    with pytest.raises(BrokenPipeError, match="Broken pipe"):
        stream.close()

    status = reporter.status()
    assert status.is_balanced
    assert status.delivered == 0
    assert status.dropped["write_error"] >= 2
    if sys.__stdout__:
        assert os.fstat(sys.__stdout__.fileno()) == stdout


def test_a_program_without_standard_output_is_no_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As under ``pythonw``."""
    monkeypatch.setattr(sys, "stdout", None)
    bus, store = store_of(Counter("a.b.n"))
    reporter = ConsoleReporter(interval=NEVER)
    reporter.start(bus, store)
    bus.execute("a.b", {})
    reporter.stop(SECONDS)

    assert reporter.status().dropped["write_error"] > 0
    assert GuardedStream(None).size() is None


def test_standard_output_is_the_one_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus, store = store_of(Counter("a.b.n"))
    reporter = ConsoleReporter(interval=NEVER)
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    reporter.start(bus, store)
    bus.execute("a.b", {})
    reporter.stop(SECONDS)

    assert stdout.getvalue().startswith("a.b.n 1\n")


def test_what_an_encoding_lacks_is_escaped() -> None:
    bus, store = store_of(Counter("a.b.n", tags=("k",)))
    raw = io.BytesIO()

    with running(store, io.TextIOWrapper(raw, encoding="ascii")) as reporter:
        bus.execute("a.b", {}, {"k": "é"})
        assert reporter.flush(SECONDS)
    text = raw.getvalue().decode("ascii")

    assert text.startswith('a.b.n{k="\\xe9"} 1\n')
    assert text.endswith("metric  value\n------  -----\na.b.n       1\n")
    assert dict(reporter.status().dropped) == {}


class Stuck(io.StringIO):
    """A stream whose reader has gone to lunch."""

    def __init__(self) -> None:
        super().__init__()
        self.written_to = threading.Event()
        self.back = threading.Event()

    def write(self, text: str) -> int:
        self.written_to.set()
        assert self.back.wait(SECONDS)
        return super().write(text)


def test_a_stream_that_blocks_keeps_nobody_waiting_longer_than_asked() -> None:
    bus, store = store_of(Counter("a.b.n"))
    stream = Stuck()
    bus.execute("a.b", {})
    reporter = ConsoleReporter(interval=NEVER, stream=stream)
    reporter.start(bus, store)
    assert stream.written_to.wait(SECONDS)

    assert not reporter.flush(0.01)
    reporter.stop(0.01)
    assert reporter.status().is_balanced
    stream.back.set()
    reporter.stop(SECONDS)

    assert stream.getvalue().startswith("a.b.n 1\n")


def test_a_store_that_fails_is_counted() -> None:
    class Broken(MetricStore):
        def snapshot(self) -> NoReturn:
            msg = "no"
            raise RuntimeError(msg)

    stream = io.StringIO()
    with running(Broken([]), stream) as reporter:
        assert reporter.flush(SECONDS)

    status = reporter.status()
    assert dict(status.dropped) == {"render_error": 3}
    assert status.is_balanced
    assert stream.getvalue() == ""


# --- Life ------------------------------------------------------------------------


def test_it_is_a_reporter() -> None:
    reporter: Reporter = ConsoleReporter()

    assert reporter.flush(0.0)
    reporter.stop(0.0)
    assert reporter.status().is_balanced


def test_stopping_is_prompt_and_leaves_no_thread() -> None:
    _, store = store_of(Counter("a.b.n"))
    stream = io.StringIO()
    reporter = ConsoleReporter(interval=NEVER, stream=stream)
    reporter.start(Bus(), store)

    begun = time.monotonic()
    reporter.stop(SECONDS)
    assert time.monotonic() - begun < SECONDS / 2
    reporter.stop(SECONDS)

    assert reporter.flush(SECONDS)
    assert stream.getvalue() == "no events yet\n"
    names = [thread.name for thread in threading.enumerate()]
    assert "llmevents-console" not in names


def test_it_starts_once_at_a_time() -> None:
    bus, store = store_of(Counter("a.b.n"))
    stream = io.StringIO()

    with (
        running(store, stream) as reporter,
        pytest.raises(LLMEventsError, match=r"started already; stop\(\) it first"),
    ):
        reporter.start(bus, store)
    reporter.start(bus, store)
    reporter.stop(SECONDS)

    assert stream.getvalue() == "no events yet\n" * 2
    assert reporter.status().delivered == 2


def test_a_look_that_takes_long_is_followed_by_a_longer_pause() -> None:
    """Thousands of series must not keep a processor busy."""
    _, store = store_of(Counter("a.b.n"))
    reporter = ConsoleReporter(interval=1.0, stream=io.StringIO())
    reporter.start(Bus(), store)
    session = reporter._session
    assert session is not None
    reporter.stop(SECONDS)

    for spent, pause in ((0.01, 1.0), (0.25, 2.5), (60.0, 10.0)):
        session._spent = spent
        assert session.pause() == pause


def test_it_attaches_nothing() -> None:
    bus, store = store_of(Counter("a.b.n"))
    before = bus.list_handlers()

    reporter = ConsoleReporter(interval=NEVER, stream=io.StringIO())
    reporter.start(bus, store)

    assert bus.list_handlers() == before
    reporter.stop(SECONDS)


def test_a_flush_during_the_stop_is_answered() -> None:
    bus, store = store_of(Counter("a.b.n"))
    stream = Stuck()
    bus.execute("a.b", {})
    reporter = ConsoleReporter(interval=NEVER, stream=stream)
    reporter.start(bus, store)
    assert stream.written_to.wait(SECONDS)
    reporter.stop(0.0)
    answers: list[bool] = []
    flushing = threading.Thread(target=lambda: answers.append(reporter.flush(SECONDS)))
    flushing.start()
    session = reporter._session
    assert session is not None
    wait_for(lambda: session._requests.qsize() == 2)
    stream.back.set()
    flushing.join(SECONDS)

    assert answers == [True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("live", [True, False])
def test_a_forked_child_prints_nothing(terminal: None, *, live: bool) -> None:
    bus, store = store_of(Counter("a.b.n"))
    stream = io.StringIO()

    with running(store, stream, live=live) as reporter:
        assert reporter.flush(SECONDS)
        pid = os.fork()
        if pid == 0:
            status = 2
            try:
                signal.alarm(30)
                before = stream.getvalue()
                bus.execute("a.b", {})
                done = reporter.flush(SECONDS)
                reporter.stop(SECONDS)
                quiet = done and stream.getvalue() == before
                status = 0 if quiet and reporter.status().is_balanced else 1
            finally:
                os._exit(status)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert exit_code == 0
    assert stream.getvalue().endswith("no events yet\n" if not live else "\x1b[?25h")


@pytest.mark.parametrize(
    "interval", [0, -1, 0.01, float("nan"), float("inf"), 1e9, True, "1", None]
)
def test_an_interval_that_is_none_is_refused(interval: object) -> None:
    with pytest.raises(
        OptionError, match=r"expected interval to be seconds between 0\.05"
    ):
        ConsoleReporter(interval=interval)  # type: ignore[arg-type]  # what is being tested


def test_a_summary_is_a_yes_or_no() -> None:
    with pytest.raises(OptionError, match="expected summary to be True or False"):
        ConsoleReporter(summary=1)  # type: ignore[arg-type]  # what is being tested


def test_options_for_single_metrics_are_refused() -> None:
    """There are none, and whoever wrote them expects them to do something."""
    options = {"console": {"colour": "red"}, "other": {"colour": "blue"}}
    _, store = store_of(Counter("a.b.n", reporter_options=options))
    reporter = ConsoleReporter(stream=io.StringIO())

    with pytest.raises(MetricDefinitionError, match=r"a\.b\.n.*colour.*take them out"):
        reporter.start(Bus(), store)
    assert reporter.flush(0.0)


def test_live_is_a_yes_or_no() -> None:
    with pytest.raises(OptionError, match="expected live to be True, False or None"):
        ConsoleReporter(live="yes")  # type: ignore[arg-type]  # what is being tested
