"""All sources together, checked as far as that goes without starting anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from llmevents._options import check_count, check_seconds
from llmevents._switch import disabled
from llmevents.config._aliases import alias_layer, kill_layer
from llmevents.config._budget_store import ChosenStore, read_budget_store
from llmevents.config._errors import ConfigError
from llmevents.config._given import DEFAULT, Given, Layer
from llmevents.config._llm import read_budgets, read_prices, read_thresholds
from llmevents.config._merge import Merged, Part
from llmevents.config._readers import (
    check_level,
    flag_of,
    read_events,
    read_idle,
    read_metrics,
    read_sdks,
    read_with,
)
from llmevents.config._reporters import Loaded, canonical_name
from llmevents.config._shown import shown
from llmevents.config._sources import environment_layer, file_layer, keyword_layer


if TYPE_CHECKING:
    from os import PathLike

    from llmevents.llm.budgets import Budget
    from llmevents.llm.pricing import CostThreshold, Pricer
    from llmevents.metrics import MetricStore
    from llmevents.reporting import Reporter

DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "enabled": True,
        "instrument": False,
        "include_stream_usage": False,
        "prices": {},
        "cost_thresholds": [],
        "budgets": {},
        "budget_store": "memory",
        "metrics": "default",
        "max_series": 2000,
        "max_idle": False,
        "shutdown_timeout": 2.0,
        "logger.level": "info",
        "logger.events": "llm.**",
    }
)

GRPC_PORT = ":4317"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is in effect.

    Attributes:
        value: Without secrets, of types that JSON knows.
        source: The file, the environment variable, the keyword, or ``"default"``.
    """

    value: object
    source: str


@dataclass(slots=True)
class Prepared:
    """What would run, and what is in the way of it.

    Attributes:
        settings: Everything that is in effect, by dotted name.
        problems: Errors; with one of them nothing runs.
        notes: What is set to no effect, or likely to be a mistake.
    """

    enabled: bool = True
    instrument: tuple[str, ...] = ()
    include_stream_usage: bool = False
    pricer: Pricer | None = None
    thresholds: list[CostThreshold] = field(default_factory=list)
    budgets: tuple[Budget, ...] = ()
    budget_store: ChosenStore = ChosenStore()  # noqa: RUF009  # immutable
    store: MetricStore | None = None
    logger: tuple[int | str, list[str]] | None = None
    reporters: dict[str, Reporter] = field(default_factory=dict)
    shutdown_timeout: float = 2.0
    settings: dict[str, Setting] = field(default_factory=dict)
    problems: list[Exception] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def prepare(
    keywords: Mapping[str, object],
    *,
    config: str | PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Prepared:
    """Read all sources and check them; start nothing, change nothing.

    Args:
        keywords: Settings given in Python.
        config: The file to read, instead of the one that is found.
        environ: The environment, by default that of the process.
    """
    return _Preparation(
        keywords, config, os.environ if environ is None else environ
    ).run()


def prepare_prices(*, config: str | PathLike[str] | None = None) -> Prepared:
    """Read files and environment as `prepare` does, and prices alone of what they say.

    Settings that cannot be read at all are problems too. Of wrong prices every one is,
    not the first alone. No pricer means that a program would have the default one.

    Args:
        config: The file to read, instead of the one that is found.
    """
    return _Preparation({}, config, os.environ).run_prices()


def _switch_layer() -> Layer:
    if not disabled():
        return []
    return [(("enabled",), Given(value=False, source="variable LLMEVENTS_DISABLED"))]


def _or_default(name: str, given: Given | None) -> Given:
    return Given(DEFAULTS[name], DEFAULT) if given is None else given


def _wrong_prices(given: Given) -> Iterator[ConfigError]:
    """Yield what is wrong with each entry of ``prices``, read on its own."""
    for entry in _price_entries(given.value):
        try:
            read_prices(given._replace(value=entry))
        except ConfigError as error:
            yield error


def _price_entries(table: object) -> Iterator[Mapping[str, object]]:
    """Yield tables of one price or one other key each, the prices first."""
    if not isinstance(table, Mapping):
        return
    models = table.get("models")
    entries = models if isinstance(models, Mapping) else {}
    for model, prices in entries.items():
        yield {"models": {model: prices}}
    for key, value in table.items():
        if value is not entries:
            yield {key: value}


class _Preparation:
    """One run over all settings, which goes on after a problem."""

    def __init__(
        self,
        keywords: Mapping[str, object],
        config: str | PathLike[str] | None,
        environ: Mapping[str, str],
    ) -> None:
        self._result = Prepared()
        self._merged = Merged(canonical_name)
        self._layers: tuple[Callable[[], Layer], ...] = (
            lambda: file_layer(config, environ),
            lambda: alias_layer(environ),
            lambda: environment_layer(environ),
            lambda: keyword_layer(keywords),
            lambda: kill_layer(environ),
            _switch_layer,
        )

    def run(self) -> Prepared:
        """Return the result; every problem that was met is in it."""
        result = self._result
        self._merge()
        result.enabled = self._scalar("enabled", flag_of("enabled")) is not False
        if result.enabled:
            self._read_scalars()
            self._read_llm()
            self._read_logger()
            for name, part in sorted(self._merged.reporters.items()):
                self._read_reporter(name, part)
        return result

    def run_prices(self) -> Prepared:
        """Return the result as far as prices go."""
        result = self._result
        self._merge()
        given = _or_default("prices", self._merged.scalars.get("prices"))
        try:
            result.pricer = read_prices(given)
        except ConfigError as error:
            result.problems.extend(list(_wrong_prices(given)) or [error])
        return result

    def _merge(self) -> None:
        for layer in self._layers:
            found = self._try(layer)
            self._merged.add(found or [])
        self._result.problems.extend(self._merged.problems)

    def _read_scalars(self) -> None:
        result = self._result
        result.instrument = self._scalar("instrument", read_sdks) or ()
        if result.instrument:
            from llmevents.instrumentation import require_wrapt

            self._try(require_wrapt)
        definitions = self._scalar("metrics", read_metrics) or []
        limit = self._scalar("max_series", read_with(check_count, "max_series"))
        idle = self._scalar("max_idle", read_idle)
        if limit is not None and idle is not None:
            from llmevents.metrics import MetricStore

            result.store = self._try(
                lambda: MetricStore(
                    definitions, max_series=limit, max_idle=idle or None
                )
            )
        timeout = self._scalar(
            "shutdown_timeout", read_with(check_seconds, "shutdown_timeout")
        )
        if timeout is not None:
            result.shutdown_timeout = timeout

    def _read_llm(self) -> None:
        result = self._result
        asked = self._scalar("include_stream_usage", flag_of("include_stream_usage"))
        result.include_stream_usage = asked is True
        result.pricer = self._scalar("prices", read_prices)
        result.thresholds = self._scalar("cost_thresholds", read_thresholds) or []
        result.budgets = self._scalar("budgets", read_budgets) or ()
        chosen = self._scalar("budget_store", read_budget_store)
        result.budget_store = chosen or ChosenStore()
        if result.budget_store.store is not None and not result.budgets:
            source = self._result.settings["budget_store"].source
            self._note(
                f"budget_store has no effect: no budgets are set (from {source})"
            )

    def _read_logger(self) -> None:
        logger = self._merged.logger
        self._show("logger", logger.on)
        if not logger.is_on:
            return
        level = self._read(
            "logger.level",
            logger.options.get("level"),
            read_with(check_level, "logger.level"),
        )
        events = self._read("logger.events", logger.options.get("events"), read_events)
        if level is not None and events is not None:
            self._result.logger = (level, events)

    def _read_reporter(self, name: str, part: Part) -> None:
        if part.on.source != DEFAULT:
            self._show(f"reporters.{name}", part.on)
        if not part.is_on:
            self._note_unused(name, part)
            return
        for option, given in part.options.items():
            self._show(f"reporters.{name}.{option}", given)
        loaded = self._try(lambda: Loaded(name, part))
        if loaded is None:
            return
        for option in loaded.ignored():
            del self._result.settings[f"reporters.{name}.{option}"]
            source = part.options[option].source
            self._note(f"{source} has no effect: {name!r} has no option {option!r}")
        for option, value in loaded.defaults():
            self._show(f"reporters.{name}.{option}", Given(value, DEFAULT))
        reporter = self._try(loaded.make)
        if reporter is not None:
            self._result.reporters[name] = reporter
        self._note_grpc(name, part)

    def _note_unused(self, name: str, part: Part) -> None:
        for source in dict.fromkeys(given.source for given in part.options.values()):
            self._note(f"{source} has no effect: reporter {name!r} is not on")

    def _note_grpc(self, name: str, part: Part) -> None:
        endpoint = part.options.get("endpoint")
        if endpoint is not None and str(endpoint.value).rstrip("/").endswith(GRPC_PORT):
            self._note(
                f"reporters.{name}.endpoint has port 4317, where OTLP over gRPC is "
                f"customary; OTLP over HTTP, which is sent, has 4318"
            )

    def _note(self, text: str) -> None:
        self._result.notes.append(text)

    def _scalar(self, name: str, read: Callable[[Given], _T]) -> _T | None:
        return self._read(name, self._merged.scalars.get(name), read)

    def _read(
        self, name: str, given: Given | None, read: Callable[[Given], _T]
    ) -> _T | None:
        """Return what *read* makes of a setting, or None if that is a problem."""
        chosen = _or_default(name, given)
        self._show(name, chosen)
        return self._try(lambda: read(chosen))

    def _show(self, name: str, given: Given) -> None:
        value = given.value
        # What variables hold may be a secret that nothing else gives away.
        if given.template is not None and name.startswith("reporters."):
            value = given.template
        self._result.settings[name] = Setting(
            shown(name.split("."), value), given.source
        )

    def _try(self, step: Callable[[], _T]) -> _T | None:
        try:
            return step()
        except Exception as error:  # noqa: BLE001  # reporters may raise anything
            self._result.problems.append(error)
            return None
