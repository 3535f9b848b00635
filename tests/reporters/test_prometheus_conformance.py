"""What holds for every reporter, with a scrape at each flush."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics import parser

from llmevents.testing import ReporterConformance
from llmevents_prometheus import PrometheusReporter


class Scraper:
    """Whoever scrapes: what it has got so far, and whether it is still there."""

    def __init__(self) -> None:
        self.is_there = True
        self.series = 0

    def scrape(self, url: str, timeout: float) -> None:
        """Count the series of a page as a parser that is not ours sees them."""
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        request = Request(url, headers=headers)  # noqa: S310  # loopback
        with urlopen(request, timeout=max(1.0, timeout)) as response:  # noqa: S310  # loopback
            text = response.read().decode()
        families: Any = parser.text_string_to_metric_families
        self.series += len(
            {
                (family.name, *series_of(sample.labels))
                for family in families(text)
                for sample in family.samples
                if not family.name.startswith("llmevents_")
            }
        )


def series_of(labels: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(
        (name, value)
        for name, value in labels.items()
        if name not in {"le", "quantile"}
    )


class ScrapedReporter(PrometheusReporter):
    """A reporter that is scraped whenever it is asked to hand over what there is."""

    __module__ = PrometheusReporter.__module__

    def __init__(self, scraper: Scraper, **options: Any) -> None:  # noqa: ANN401  # those of the reporter
        super().__init__(**options)
        self._scraper = scraper

    def flush(self, timeout: float) -> bool:
        if self._scraper.is_there and self.url is not None:
            self._scraper.scrape(self.url, timeout)
        return super().flush(timeout)


class TestConformance(ReporterConformance):
    bad_options = (
        {"port": -1},
        {"port": "any"},
        {"address": "0.0.0.0"},  # noqa: S104  # what is being tested
        {"token": "short"},
        {"registry": "mine"},
    )

    @pytest.fixture(autouse=True)
    def scraper(self) -> None:
        self._scraper = Scraper()

    def make(self, **options: object) -> PrometheusReporter:
        return ScrapedReporter(self._scraper, **{"port": 0, **options})

    def received(self) -> int:
        return self._scraper.series

    def vanish(self) -> None:
        self._scraper.is_there = False


class TestConformanceOfSeveralProcesses(TestConformance):
    supports_fork = True

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self._directory = tmp_path

    def make(self, **options: object) -> PrometheusReporter:
        shared = {"port": 0, "multiprocess_dir": self._directory}
        return ScrapedReporter(self._scraper, **{**shared, **options})
