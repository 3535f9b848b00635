"""A real Prometheus scrapes us: what it answers to PromQL is what happened.

Prometheus 2.42 and promtool, as Debian 12 has them. It asks for OpenMetrics; promtool
reads the classic format.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics import parser

from llmevents import Bus
from llmevents.metrics import (
    Counter,
    Distribution,
    Histogram,
    LastValue,
    MetricStore,
    Sum,
    Summary,
)
from llmevents_prometheus import PrometheusReporter
from tests.integration.servers import (
    SECONDS,
    Prometheus,
    needs_prometheus,
    wait_for,
)


pytestmark = needs_prometheus

TOKEN = "0123456789abcdef"  # noqa: S105  # nobody else's

THREADS = 8
ROUNDS = 4
EVENTS = 2_500
"""Of each thread in each round. A round begins when the one before was scraped."""

MODELS = ("gpt-4o", "claude-sonnet-4", "gemini-2.5-pro")

HOSTILE = (
    '"} 1\nevil_total 1\n#',
    "\\n\\\\",
    "two\nlines\r\n",
    "\ud800surrogate\udfff",
    "nul\0nul",
    "\u2028\x85\x0b\x1b[2J",
    "表👩\u200d🚀\u202e",
    "y" * 2**20,
)

SENDABLE = tuple(
    text.translate({0xD800: "\ufffd", 0xDFFF: "\ufffd"}) for text in HOSTILE
)

parse: Callable[[str], Iterable[Any]] = parser.text_string_to_metric_families


def definitions() -> list[Any]:
    hostile = [
        Counter("hostile.total", event="odd", constant_tags={"n": n, "text": text})
        for n, text in enumerate(HOSTILE)
    ]
    return [
        Counter("llm.requests.total", event="llm.chat.stop", tags=("model",)),
        Sum(
            "llm.input.tokens.total",
            event="llm.chat.stop",
            measurement="input_tokens",
            unit="token",
            tags=("model",),
        ),
        Sum(
            "llm.cost.usd.total",
            event="llm.chat.stop",
            measurement="cost",
            unit=("nano_usd", "usd"),
            description="What it cost.\nAll of it \\o/ \0\x1b",
        ),
        Distribution(
            "llm.latency.seconds",
            event="llm.chat.stop",
            measurement="duration",
            unit=("nanosecond", "second"),
            tags=("model",),
        ),
        Summary(
            "llm.response.seconds",
            event="llm.chat.stop",
            measurement="duration",
            unit=("nanosecond", "second"),
        ),
        LastValue("temperature", event="llm.chat.stop", measurement="temperature"),
        *hostile,
    ]


class Scraped(Prometheus):
    """A reporter, and a Prometheus that scrapes it once a second."""

    def __init__(self, folder: Path) -> None:
        self.bus = Bus()
        self.store = MetricStore(definitions())
        self.store.exemplify(lambda _: {"trace_id": "ab" * 16, "span_id": "cd" * 8})
        self.store.attach(self.bus)
        self.reporter = PrometheusReporter(port=0, token=TOKEN)
        self.reporter.start(self.bus, self.store)
        super().__init__(folder, target_port=self.reporter.port, token=TOKEN)

    def query(self, expression: str) -> dict[str, float]:
        """Return the value by model of what PromQL makes of *expression*."""
        result = self.ask("query", query=expression)["result"]
        return {
            each["metric"].get("model", ""): float(each["value"][1]) for each in result
        }

    def current(self, expression: str) -> dict[str, float]:
        """Return the same, once there is anything.

        After a scrape that took too long there is nothing until the next one.
        """
        found: dict[str, float] = {}

        def ask() -> bool:
            found.update(self.query(expression))
            return bool(found)

        wait_for(ask)
        return found

    def wait_for_scrape(self) -> None:
        """Return once Prometheus has what is there now."""
        before = self.reporter.status().delivered
        wait_for(lambda: self.reporter.status().delivered > before)

    def page(self, accept: str) -> str:
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept}
        request = Request(str(self.reporter.url), headers=headers)  # noqa: S310  # loopback
        with urlopen(request, timeout=SECONDS) as response:  # noqa: S310  # loopback
            text: str = response.read().decode()
            return text


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    with Scraped(tmp_path_factory.mktemp("prometheus")) as scraped:
        wait_for(lambda: scraped.query("up") == {"": 1.0})
        yield scraped
        scraped.reporter.stop(SECONDS)


def test_totals_are_exact_while_many_threads_count(scraped: Scraped) -> None:
    durations = make_calls(scraped)
    scraped.wait_for_scrape()
    scraped.wait_for_scrape()

    expected = {model: float(len(durations[model])) for model in MODELS}
    assert sum(expected.values()) == THREADS * ROUNDS * EVENTS
    wait_for(lambda: scraped.query("llm_requests_total") == expected)
    assert scraped.current("llm_latency_seconds_count") == expected
    assert scraped.current('llm_latency_seconds_bucket{le="+Inf"}') == expected
    assert scraped.current("llm_input_tokens_total") == {
        model: 100 * count for model, count in expected.items()
    }
    assert scraped.current("llm_cost_usd_total * 1e9") == {
        "": pytest.approx(7 * sum(expected.values()), rel=1e-12)
    }
    assert scraped.current("temperature") == {"": -1.5}
    assert scraped.current("llm_response_seconds_count") == {"": sum(expected.values())}
    check_nothing_went_down(scraped)
    check_quantiles(scraped, durations)
    check_exemplars(scraped)


def make_calls(scraped: Scraped) -> dict[str, list[int]]:
    """Emit from many threads, with scrapes in between and meanwhile."""
    durations: dict[str, list[int]] = {model: [] for model in MODELS}
    barrier = threading.Barrier(THREADS + 1, timeout=SECONDS)

    def work(number: int) -> None:
        chance = random.Random(number)  # noqa: S311  # no secret
        for _ in range(ROUNDS):
            barrier.wait()
            for each in range(EVENTS):
                model = MODELS[(each + number) % len(MODELS)]
                duration = int(chance.expovariate(1 / 3e9))
                durations[model].append(duration)
                measurements = {
                    "duration": duration,
                    "input_tokens": 100,
                    "cost": 7,
                    "temperature": -1.5,
                }
                scraped.bus.execute("llm.chat.stop", measurements, {"model": model})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for _ in range(ROUNDS):
        scraped.wait_for_scrape()
        barrier.wait()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    return durations


def check_nothing_went_down(scraped: Scraped) -> None:
    for name in (
        "llm_requests_total",
        "llm_latency_seconds_bucket",
        "llm_latency_seconds_sum",
        "llm_cost_usd_total",
    ):
        assert set(scraped.query(f"resets({name}[10m])").values()) == {0.0}
        samples = scraped.query(f"count_over_time({name}[10m])").values()
        assert max(samples) >= ROUNDS


def check_quantiles(scraped: Scraped, durations: dict[str, list[int]]) -> None:
    family = scraped.store.snapshot().families["llm.latency.seconds"]
    for quantile in (0.5, 0.9, 0.99):
        expression = f"histogram_quantile({quantile}, llm_latency_seconds_bucket)"
        found = scraped.current(expression)
        for series in family.series:
            model = series.tags["model"]
            histogram = series.value
            assert isinstance(histogram, Histogram)
            assert found[model] == pytest.approx(histogram.quantile(quantile))
            values = sorted(durations[model])
            true = values[int(quantile * (len(values) - 1))] / 1e9
            bounds = (0.0, *histogram.bounds)
            above = min(bound for bound in bounds if bound >= true)
            below = max(bound for bound in bounds if bound < true)
            assert abs(found[model] - true) <= above - below
    both = sorted(duration for each in durations.values() for duration in each)
    median = both[(len(both) + 1) // 2 - 1] / 1e9
    (shown,) = scraped.current('llm_response_seconds{quantile="0.5"}').values()
    assert shown == pytest.approx(median, rel=0.01)


def check_exemplars(scraped: Scraped) -> None:
    now = time.time()
    found = scraped.ask(
        "query_exemplars",
        query="llm_latency_seconds_bucket",
        start=str(now - 600),
        end=str(now + 60),
    )
    exemplars = [exemplar for series in found for exemplar in series["exemplars"]]
    assert exemplars
    for exemplar in exemplars:
        assert exemplar["labels"] == {"trace_id": "ab" * 16, "span_id": "cd" * 8}


def test_hostile_labels_arrive_as_they_were(scraped: Scraped) -> None:
    scraped.bus.execute("odd", {})
    wait_for(lambda: scraped.query("count(hostile_total == 1)") == {"": len(HOSTILE)})

    texts: dict[int, str] = {}

    def ask() -> bool:
        # Neither is there anything after a scrape that took too long.
        for each in scraped.ask("query", query="hostile_total")["result"]:
            texts[int(each["metric"]["n"])] = each["metric"]["text"]
        return bool(texts)

    wait_for(ask)
    assert tuple(text for _, text in sorted(texts.items())) == SENDABLE
    # Over time, for the same reason: nothing at present would not mean nothing ever.
    assert scraped.query("count_over_time(evil_total[10m])") == {}
    wait_for(lambda: scraped.query("up") == {"": 1.0})


def test_promtool_finds_nothing_wrong(scraped: Scraped) -> None:
    scraped.bus.execute("odd", {})
    page = scraped.page("text/plain")
    checked = subprocess.run(
        [shutil.which("promtool") or "promtool", "check", "metrics"],
        input=page.encode(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )

    assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")


def test_the_openmetrics_parser_reads_the_same(scraped: Scraped) -> None:
    duration = 2_000_000_000
    scraped.bus.execute("llm.chat.stop", {"duration": duration}, {"model": "new"})
    scraped.bus.execute("odd", {})
    families = {
        family.name: family
        for family in parse(scraped.page("application/openmetrics-text;version=1.0.0"))
    }

    texts = [sample.labels["text"] for sample in families["hostile"].samples]
    assert tuple(texts) == SENDABLE
    assert families["llm_cost_usd"].unit == "usd"
    assert (
        families["llm_cost_usd"].documentation == "What it cost.\nAll of it \\o/ \0\x1b"
    )
    assert families["llm_latency_seconds"].unit == "seconds"
    (exemplar,) = (
        sample.exemplar
        for sample in families["llm_latency_seconds"].samples
        if sample.labels["model"] == "new" and sample.exemplar
    )
    assert exemplar.labels == {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    assert exemplar.value == 2.0
