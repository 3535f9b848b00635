"""What the console reporter shows, as whole pages."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Distribution,
    Family,
    LastValue,
    Metric,
    MetricStore,
    Series,
    Snapshot,
    Sum,
    Summary,
)
from llmevents_console._amounts import total
from llmevents_console._history import History
from llmevents_console._models import read_models, role_of
from llmevents_console._paper import Paper
from llmevents_console._text import Charset
from llmevents_console._view import Look, live_view, summary


PAIR = ("provider", "model")
TERMINAL = ["llm.chat.stop", "llm.chat.exception"]
MS = ("nanosecond", "millisecond")
BUCKETS = (100, 250, 500, 1000, 2500, 5000)

PRESETS: tuple[Metric, ...] = (
    Counter("llm.chat.requests.total", event=TERMINAL, tags=PAIR),
    Counter("llm.chat.errors.total", event="llm.chat.exception", tags=PAIR),
    Distribution(
        "llm.chat.duration.milliseconds",
        event=TERMINAL,
        measurement="duration",
        tags=PAIR,
        unit=MS,
        buckets=BUCKETS,
    ),
    Sum(
        "llm.tokens.input.total",
        event=TERMINAL,
        measurement="input_tokens",
        tags=PAIR,
        unit="token",
    ),
    Sum(
        "llm.tokens.output.total",
        event=TERMINAL,
        measurement="output_tokens",
        tags=PAIR,
        unit="token",
    ),
    Sum(
        "llm.cost.cents.total",
        event=TERMINAL,
        measurement="cost_nano_usd",
        tags=PAIR,
        unit=("nano_usd", "cent"),
    ),
    Counter("llm.cache.hits.total", event="llm.cache.hit", tags=("cache",)),
    LastValue(
        "llm.cache.size.bytes",
        event="llm.cache.put",
        measurement="size",
        tags=("cache",),
        unit="byte",
    ),
    Summary(
        "llm.time_to_first_chunk.seconds",
        event="llm.chat.stop",
        measurement="time_to_first_chunk",
        unit=("nanosecond", "second"),
    ),
)

MODELS = (
    ("openai", "gpt-4o", 800, 2_500),
    ("openai", "gpt-4o-mini", 300, 150),
    ("anthropic", "claude-sonnet-4-5", 1_600, 3_000),
    ("google", "gemini-2.5-flash", 200, 300),
    ("mistral", "mistral-large-latest", 900, 2_000),
)


def store_of(*definitions: Metric) -> tuple[Bus, MetricStore]:
    bus = Bus()
    store = MetricStore(definitions)
    store.attach(bus)
    return bus, store


def busy() -> tuple[MetricStore, History]:
    """Return a store after a minute of more and more calls, and what it was before."""
    bus, store = store_of(*PRESETS)
    history = History()
    for second in range(61):
        for number in range(second // 10 + 1):
            provider, model, milliseconds, nano_usd = MODELS[(second + number) % 5]
            duration = milliseconds * 1_000_000 * (1 + second % 3)
            values = {
                "duration": duration,
                "time_to_first_chunk": duration // 4,
                "input_tokens": 1000 + second,
                "output_tokens": 100,
                "cost_nano_usd": nano_usd * 1000,
            }
            name = "llm.chat.exception" if second % 20 == 7 else "llm.chat.stop"
            bus.execute(name, values, {"provider": provider, "model": model})
            bus.execute("llm.cache.hit", {}, {"cache": "prompt"})
        bus.execute("llm.cache.put", {"size": second * 1_500_000}, {"cache": "prompt"})
        note(history, store, float(second))
    return store, history


def note(history: History, store: MetricStore, seconds: float) -> None:
    families = store.snapshot().families
    history.add(seconds, {name: float(total(each)) for name, each in families.items()})


def look_at(store: MetricStore) -> Look:
    return Look(store.snapshot(), store.refused)


def page(width: int, height: int = 50, encoding: str = "utf-8") -> Paper:
    return Paper(width=width, height=height, charset=Charset(encoding))


def text_of(shown: RenderableType, paper: Paper) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=paper.width, color_system=None)
    console.print(shown)
    return "".join(f"{row.rstrip()}\n" for row in stream.getvalue().splitlines())


def live_text(store: MetricStore, history: History, paper: Paper) -> str:
    return text_of(live_view(look_at(store), history, paper), paper)


def summary_text(store: MetricStore, paper: Paper) -> str:
    return text_of(summary(look_at(store), paper), paper)


# --- Whole pages -----------------------------------------------------------------


def test_the_live_view_reads_like_this() -> None:
    store, history = busy()
    assert live_text(store, history, page(120)) == LIVE


def test_the_summary_reads_like_this() -> None:
    store, _ = busy()
    assert summary_text(store, page(120)) == SUMMARY


def test_a_summary_for_files_has_exact_numbers() -> None:
    store, _ = busy()
    paper = Paper(width=120, charset=Charset(), is_exact=True)
    assert summary_text(store, paper) == EXACT


def test_forty_columns_are_enough() -> None:
    store, history = busy()
    assert live_text(store, history, page(40)) == NARROW


def test_an_encoding_without_blocks_gets_ascii() -> None:
    store, history = busy()
    text = live_text(store, history, page(80, 40, "ascii"))
    assert text.isascii()
    assert text == ASCII


LIVE = """\
                                                 tokens  tokens
provider   model                 calls  errors       in     out     cost     p50     p95  failed  of cost
─────────  ────────────────────  ─────  ──────  ───────  ──────  ───────  ──────  ──────  ──────  ───────
anthropic  claude-sonnet-4-5        43       3   44,639   4,300  $0.1290  3.15 s  4.81 s   7.0 %  ███▊
openai     gpt-4o                   44       1   45,705   4,400  $0.1100  1.40 s  2.39 s   2.3 %  ███▎
mistral    mistral-large-latest     43       2   44,673   4,300  $0.0860  1.65 s  4.59 s   4.7 %  ██▌
google     gemini-2.5-flash         43       2   44,651   4,300  $0.0129  375 ms  928 ms   4.7 %  ▍
openai     gpt-4o-mini              44       1   45,697   4,400  $0.0066  593 ms  959 ms   2.3 %  ▎
           total                   217       9  225,365  21,700  $0.3445  947 ms  4.35 s   4.1 %

metric                     total         rate  last 60 s
───────────────────────  ───────  ───────────  ──────────────────────────────
llm.chat.requests.total      217       6.10/s  ▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇█
llm.chat.errors.total          9          0/s  ▁▁▁▂▁▁▁▁▁▁▁▁▁▅▁▁▁▁▁▁▁▁▁█▁▁▁▁▁▁
llm.tokens.input.total   225,365      6,439/s  ▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇█
llm.tokens.output.total   21,700        610/s  ▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇█
llm.cost.cents.total     $0.3445  $0.5733/min  ▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▆▅▅▅▆▆▆▆▆▇▇▇▇██
llm.cache.hits.total         217       6.10/s  ▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇█

metric                           count     p50     p95     p99  spread            range
───────────────────────────────  ─────  ──────  ──────  ──────  ────────────────  ─────────────────
llm.chat.duration.milliseconds     217  947 ms  4.35 s  4.87 s  ▂▄█▇▅             100 ms to 5.00 s
llm.time_to_first_chunk.seconds    208  226 ms  1.20 s  1.20 s  ▅▁▅▄▁█▅█▁▁█▅▅█▁▄  50.1 ms to 1.20 s

metric                tags            value
────────────────────  ────────────  ───────
llm.cache.size.bytes  cache=prompt  90.0 MB
"""

SUMMARY = """\
                                                 tokens  tokens
provider   model                 calls  errors       in     out     cost     p50     p95  failed  of cost
─────────  ────────────────────  ─────  ──────  ───────  ──────  ───────  ──────  ──────  ──────  ───────
anthropic  claude-sonnet-4-5        43       3   44,639   4,300  $0.1290  3.15 s  4.81 s   7.0 %  ███▊
openai     gpt-4o                   44       1   45,705   4,400  $0.1100  1.40 s  2.39 s   2.3 %  ███▎
mistral    mistral-large-latest     43       2   44,673   4,300  $0.0860  1.65 s  4.59 s   4.7 %  ██▌
google     gemini-2.5-flash         43       2   44,651   4,300  $0.0129  375 ms  928 ms   4.7 %  ▍
openai     gpt-4o-mini              44       1   45,697   4,400  $0.0066  593 ms  959 ms   2.3 %  ▎
           total                   217       9  225,365  21,700  $0.3445  947 ms  4.35 s   4.1 %

metric                           tags               value     p50     p95     p99
───────────────────────────────  ────────────  ──────────  ──────  ──────  ──────
llm.cache.hits.total                                  217
llm.cache.size.bytes             cache=prompt     90.0 MB
llm.time_to_first_chunk.seconds                208 values  226 ms  1.20 s  1.20 s
"""

EXACT = """\
                                                 tokens  tokens
provider   model                 calls  errors       in     out     cost     p50     p95  failed
─────────  ────────────────────  ─────  ──────  ───────  ──────  ───────  ──────  ──────  ──────
anthropic  claude-sonnet-4-5        43       3   44,639   4,300  $0.1290  3.15 s  4.81 s   7.0 %
openai     gpt-4o                   44       1   45,705   4,400  $0.1100  1.40 s  2.39 s   2.3 %
mistral    mistral-large-latest     43       2   44,673   4,300  $0.0860  1.65 s  4.59 s   4.7 %
google     gemini-2.5-flash         43       2   44,651   4,300  $0.0129  375 ms  928 ms   4.7 %
openai     gpt-4o-mini              44       1   45,697   4,400  $0.0066  593 ms  959 ms   2.3 %
           total                   217       9  225,365  21,700  $0.3445  947 ms  4.35 s   4.1 %

metric                           tags               value     p50     p95     p99
───────────────────────────────  ────────────  ──────────  ──────  ──────  ──────
llm.cache.hits.total                                  217
llm.cache.size.bytes             cache=prompt  90,000,000
llm.time_to_first_chunk.seconds                208 values  226 ms  1.20 s  1.20 s
"""

NARROW = """\
model             calls     cost     p95
────────────────  ─────  ───────  ──────
claude-sonnet-4…     43  $0.1290  4.81 s
gpt-4o               44  $0.1100  2.39 s
mistral-large-l…     43  $0.0860  4.59 s
gemini-2.5-flash     43  $0.0129  928 ms
gpt-4o-mini          44  $0.0066  959 ms
total               217  $0.3445  4.35 s

metric           total         rate
─────────────  ───────  ───────────
chat requests      217       6.10/s
chat errors          9          0/s
tokens input   225,365      6,439/s
tokens output   21,700        610/s
cost           $0.3445  $0.5733/min
cache hits         217       6.10/s

metric               p50     p95     p99
────────────────  ──────  ──────  ──────
chat duration     947 ms  4.35 s  4.87 s
time to first c…  226 ms  1.20 s  1.20 s

metric      tags            value
──────────  ────────────  ───────
cache size  cache=prompt  90.0 MB
"""

ASCII = """\
                                                 tokens  tokens
provider   model                 calls  errors       in     out     cost     p95
---------  --------------------  -----  ------  -------  ------  -------  ------
anthropic  claude-sonnet-4-5        43       3   44,639   4,300  $0.1290  4.81 s
openai     gpt-4o                   44       1   45,705   4,400  $0.1100  2.39 s
mistral    mistral-large-latest     43       2   44,673   4,300  $0.0860  4.59 s
google     gemini-2.5-flash         43       2   44,651   4,300  $0.0129  928 ms
openai     gpt-4o-mini              44       1   45,697   4,400  $0.0066  959 ms
           total                   217       9  225,365  21,700  $0.3445  4.35 s

metric                     total         rate  last 60 s
-----------------------  -------  -----------  ------------------------------
llm.chat.requests.total      217       6.10/s  ....:::::-----=====+++++*****#
llm.chat.errors.total          9          0/s  ___._________=_________#______
llm.tokens.input.total   225,365      6,439/s  ....:::::-----=====+++++*****#
llm.tokens.output.total   21,700        610/s  ....:::::-----=====+++++*****#
llm.cost.cents.total     $0.3445  $0.5733/min  ....:::::-----=+===+++++****##
llm.cache.hits.total         217       6.10/s  ....:::::-----=====+++++*****#

metric                           count     p50     p95     p99  spread
-------------------------------  -----  ------  ------  ------  ----------------
llm.chat.duration.milliseconds     217  947 ms  4.35 s  4.87 s  .-#*=
llm.time_to_first_chunk.seconds    208  226 ms  1.20 s  1.20 s  =_=-_#=#__#==#_-

metric                tags            value
--------------------  ------------  -------
llm.cache.size.bytes  cache=prompt  90.0 MB
"""


def test_the_first_look_has_no_rates_yet() -> None:
    bus, store = store_of(Counter("a.b.n"))
    history = History()
    bus.execute("a.b", {})
    note(history, store, 0.0)
    assert live_text(store, history, page(80)).splitlines()[0] == "metric  total"


def test_long_intervals_make_long_sparklines() -> None:
    bus, store = store_of(Counter("a.b.n"))
    history = History()
    for number in range(3):
        bus.execute("a.b", {})
        note(history, store, number * 600.0)
    assert (
        live_text(store, history, page(80))
        == f"""\
metric  total       rate  last 20 min 0 s
──────  ─────  ─────────  ──────────────────────────────
a.b.n       3  0.100/min  {" " * 28}██
"""
    )


# --- Models ----------------------------------------------------------------------


def models_of(*definitions: Metric, width: int = 120) -> Iterator[list[str]]:
    """Yield the cells of the summary's rows after some calls; the header first."""
    bus, store = store_of(*definitions)
    call(bus, "openai", "gpt-4o", "success")
    call(bus, "openai", "gpt-4o", "error")
    call(bus, "anthropic", "claude", "success")
    rows = summary_text(store, page(width)).splitlines()
    return (row.split() for row in rows)


def call(bus: Bus, provider: str, model: str, status: str) -> None:
    tags = {"provider": provider, "model": model, "status": status}
    values = {"input_tokens": 10, "output_tokens": 5, "duration": 2 * 10**9}
    name = "llm.chat.exception" if status == "error" else "llm.chat.stop"
    bus.execute(name, values, tags)


def test_several_metrics_of_the_same_are_not_added_up() -> None:
    """What has seen most of a model's calls has seen all of them."""
    every = Counter("llm.requests.total", event="llm.*.stop", tags=(*PAIR, "status"))
    chats = Counter("llm.chat.requests.total", event="llm.chat.stop", tags=PAIR)
    bus, store = store_of(chats, every)
    for name in ("llm.chat.stop", "llm.embedding.stop", "llm.chat.stop"):
        bus.execute(name, {}, {"provider": "openai", "model": "m"})
    bus.execute("llm.embedding.stop", {}, {"provider": "openai", "model": "e"})

    assert (
        summary_text(store, page(60))
        == """\
provider  model  calls  of calls
────────  ─────  ─────  ────────
openai    m          3  ███████▌
openai    e          1  ██▌
          total      4
"""
    )


def test_a_status_says_which_calls_failed() -> None:
    requests = Counter("llm.requests.total", event="llm.*.*", tags=(*PAIR, "status"))
    header, _, *rows = models_of(requests)
    assert header == ["provider", "model", "calls", "errors", "failed", "of", "calls"]
    assert rows[0][:6] == ["openai", "gpt-4o", "2", "1", "50.0", "%"]
    assert rows[1][:4] == ["anthropic", "claude", "1", "0"]


def test_tokens_may_be_told_apart_by_a_tag() -> None:
    definitions = [
        Sum(
            "llm.tokens.total",
            event="llm.*.*",
            measurement=f"{kind}_tokens",
            tags=("model",),
            constant_tags={"token_type": kind},
        )
        for kind in ("input", "output")
    ]
    _, header, _, *rows = models_of(*definitions)
    assert header == ["model", "in", "out"]
    assert rows[:3] == [["gpt-4o", "20", "10"], ["claude", "10", "5"], TOTAL]


TOTAL = ["total", "30", "15"]


def test_opentelemetrys_own_metrics_are_understood() -> None:
    """The names and tags of its GenAI conventions (v1.41.0)."""
    tags = ("gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type")
    usage = Distribution(
        "gen_ai.client.token.usage", event="call", measurement="tokens", tags=tags
    )
    duration = Distribution(
        "gen_ai.client.operation.duration",
        event="call",
        measurement="duration",
        tags=(*tags[:2], "error.type"),
        unit=("nanosecond", "second"),
    )
    bus, store = store_of(usage, duration)
    names = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    for kind, tokens in (("input", 100), ("output", 7), ("thought", 1)):
        bus.execute("call", {"tokens": tokens}, {**names, "gen_ai.token.type": kind})
    bus.execute("call", {"duration": 10**9}, names)
    bus.execute("call", {"duration": 10**9}, {**names, "error.type": "timeout"})

    assert (
        summary_text(store, page(80))
        == """\
                                 tokens  tokens
provider  model   calls  errors      in     out     p50     p95  failed
────────  ──────  ─────  ──────  ──────  ──────  ──────  ──────  ──────
openai    gpt-4o      2       1     100       7  960 ms  1.25 s  50.0 %
"""
    )


def test_a_provider_that_is_not_known_is_the_only_possible_one() -> None:
    cost = Sum(
        "llm.cost.usd.total",
        event="llm.*.*",
        measurement="input_tokens",
        tags=("model",),
        unit="usd",
    )
    calls = Counter("llm.requests.total", event="llm.*.*", tags=PAIR)
    header, _, *rows = models_of(cost, calls)
    assert header[:4] == ["provider", "model", "calls", "cost"]
    assert rows[0][:4] == ["openai", "gpt-4o", "2", "$20.0000"]


def test_a_provider_that_may_be_either_is_not_guessed() -> None:
    """The total is further down; nothing is given to the wrong one."""
    cost = Sum("a.b.cost", event="a.b", tags=("model",), unit="usd")
    calls = Counter("a.b.calls", event="a.b", tags=PAIR)
    bus, store = store_of(cost, calls)
    for provider in ("openai", "azure"):
        bus.execute("a.b", {"cost": 1}, {"provider": provider, "model": "gpt-4o"})

    assert (
        summary_text(store, page(40))
        == """\
provider  model   calls  of calls
────────  ──────  ─────  ────────
openai    gpt-4o      1  █████
azure     gpt-4o      1  █████
          total       2

metric      value
────────  ───────
a b cost  $2.0000
"""
    )


@pytest.mark.parametrize(
    "definition",
    [
        Counter("llm.requests.slow", event="llm.*.*", keep=lambda _, __: True),
        Counter("llm.provider.requests", event="llm.*.*"),
        Counter("llm.things", event="llm.*.*"),
        Sum("llm.cost", event="llm.*.*", measurement="n", monotonic=False, unit="usd"),
        Sum("llm.n", event="llm.*.*", measurement=lambda _, __: 1),
        Sum("llm.t", event="llm.*.*", constant_tags={"token_type": "input"}),
        Distribution("llm.sizes", event="llm.*.*"),
        Summary("llm.time_to_first_chunk", event="llm.*.*", unit="second"),
        LastValue("llm.calls", event="llm.*.*"),
    ],
    ids=lambda definition: f"{type(definition).__name__} {definition.name}",
)
def test_what_says_nothing_about_all_calls_has_no_role(definition: Metric) -> None:
    assert role_of(Family(definition, ())) is None


def test_latencies_of_one_model_are_put_together() -> None:
    latency = Distribution(
        "llm.latency.seconds",
        event="llm.*.*",
        measurement="duration",
        tags=("model", "status"),
        unit=("nanosecond", "second"),
        buckets=(1, 3, 9),
    )
    summarised = Summary(
        "llm.duration", event="llm.chat.stop", tags=("model",), unit=MS
    )
    header, _, *rows = models_of(latency, summarised)
    assert header[:5] == ["model", "calls", "errors", "p50", "p95"]
    assert rows[0][:7] == ["gpt-4o", "2", "1", "2.00", "s", "2.90", "s"]
    assert rows[2][:4] == ["total", "3", "1", "2.00"]


def test_latencies_of_different_kinds_are_not_mixed() -> None:
    """Their sum would be of some of the calls only."""
    seconds = Summary("a.duration", tags=PAIR, unit="second")
    milliseconds = Summary("b.duration", tags=PAIR, unit="millisecond")
    bus, store = store_of(seconds, milliseconds)
    bus.execute("a", {"duration": 2}, {"provider": "p", "model": "x"})
    for _ in range(2):
        bus.execute("b", {"duration": 3}, {"provider": "p", "model": "y"})

    rows = [row.split() for row in summary_text(store, page(80)).splitlines()]
    assert rows[2][1:] == ["y", "2", "3.00", "ms", "3.00", "ms", "██████▋"]
    assert rows[4] == ["total", "3"]


def test_a_latency_that_is_a_number_is_none() -> None:
    """Snapshots may be made by hand, in tests for example."""
    latency = Distribution("a.duration", unit="second", tags=("model",))
    family = Family(latency, (Series({"model": "m"}, 5),))
    (model,) = read_models(Snapshot({"a.duration": family})).models
    assert (model.totals, model.latencies, model.latency) == ({"calls": 5}, {}, None)


def test_latencies_are_of_the_metric_that_has_seen_most() -> None:
    """So that there is a total of all models, where one metric knows all."""
    chats = Summary("llm.chat.stop.duration", tags=PAIR, unit="second")
    every = Summary(
        "llm.latency",
        event="llm.*.stop",
        measurement="duration",
        tags=("model",),
        unit="millisecond",
    )
    bus, store = store_of(chats, every)
    for name, model in (("chat", "x"), ("chat", "x"), ("embedding", "y")):
        tags = {"provider": "p", "model": model}
        bus.execute(f"llm.{name}.stop", {"duration": 5}, tags)

    rows = [row.split() for row in summary_text(store, page(80)).splitlines()]
    assert rows[2][2:5] == ["2", "4.99", "ms"]
    assert rows[4][1:4] == ["3", "4.99", "ms"]


def test_series_past_the_limit_are_called_others() -> None:
    bus = Bus()
    store = MetricStore([Counter("a.calls", event="a", tags=PAIR)], max_series=1)
    store.attach(bus)
    for model in ("x", "y", "z"):
        bus.execute("a", {}, {"provider": "p", "model": model})

    assert (
        summary_text(store, page(30))
        == """\
provider  model     calls
────────  ────────  ─────
(others)  (others)      2
p         x             1
          total         3
"""
    )


# --- Room ------------------------------------------------------------------------


@pytest.mark.parametrize("height", [*range(1, 60, 3), 200])
def test_the_live_view_is_no_higher_than_the_terminal(height: int) -> None:
    """Unless it is so low that not even one model fits."""
    store, history = busy()
    text = live_text(store, history, page(100, height))
    assert text.startswith(" ")
    assert "gpt-4o" in text or "more" in text
    assert len(text.splitlines()) < max(height, 7)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@given(
    width=st.integers(20, 150),
    names=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), min_size=1)] * 2),
        min_size=1,
        max_size=5,
    ),
)
def test_no_row_is_wider_than_the_terminal(
    encoding: str, width: int, names: list[tuple[str, str]]
) -> None:
    bus, store = store_of(*PRESETS)
    history = History()
    for provider, model in names:
        tags = {"provider": provider, "model": model, "cache": model}
        values = {"duration": 10**12, "cost_nano_usd": 10**15, "size": 1}
        bus.execute("llm.chat.stop", {**values, "input_tokens": 10**9}, tags)
        bus.execute("llm.cache.put", values, tags)
    for text in (
        live_text(store, history, page(width, 50, encoding)),
        summary_text(store, page(width, 50, encoding)),
    ):
        assert all(cell_len(row) <= width for row in text.splitlines())
        assert all(row.isprintable() for row in text.splitlines())


def test_a_view_of_nothing_says_so() -> None:
    _, store = store_of(*PRESETS)
    assert live_text(store, History(), page(80)) == "no events yet\n"
    assert summary_text(store, page(80)) == "no events yet\n"


def test_refused_values_are_mentioned() -> None:
    bus, store = store_of(Sum("a.b.n"))
    for value in (1, float("nan"), -1):
        bus.execute("a.b", {"n": value})
    assert live_text(store, History(), page(80)).endswith(
        "\n2 values were refused: no number, too large, or negative where that is wrong\n"
    )


def test_values_of_a_gauge_that_goes_both_ways_have_no_rate() -> None:
    bus, store = store_of(Sum("active", event="a", measurement="n", monotonic=False))
    bus.execute("a", {"n": -3})
    assert (
        live_text(store, History(), page(40))
        == """\
metric  value
──────  ─────
active     -3
"""
    )
