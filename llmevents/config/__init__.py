"""Configuration: from files, the environment and keywords to what is running.

::

    telemetry = llmevents.configure(
        instrument=["openai"], reporters={"prometheus": {"port": 9568}}
    )

Sources, the later over the earlier, key by key: ``[tool.llmevents]`` of
``./pyproject.toml``, or ``./llmevents.toml`` if that exists, or the file that
``LLMEVENTS_CONFIG`` names; variables such as
``LLMEVENTS_REPORTERS__PROMETHEUS__PORT=9568``, and those of others that mean the same;
keywords. ``llmevents config check`` shows what would run and where each value is from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from llmevents._bus import Bus, default_bus
from llmevents._switch import disabled
from llmevents.config._telemetry import Telemetry


if TYPE_CHECKING:
    from os import PathLike

    from llmevents.config._errors import ConfigError
    from llmevents.config._prepare import Setting
    from llmevents.config._views import TelemetryStatus, Usage
    from llmevents.llm.budgets import Budget, BudgetStore
    from llmevents.llm.pricing import CostThreshold, Pricer
    from llmevents.metrics import Metric

__all__ = [
    "ConfigError",
    "Setting",
    "Telemetry",
    "TelemetryStatus",
    "Usage",
    "configure",
    "get_config",
]

_LAZY = {
    "ConfigError": "llmevents.config._errors",
    "Setting": "llmevents.config._prepare",
    "TelemetryStatus": "llmevents.config._views",
    "Usage": "llmevents.config._views",
}


def configure(
    *,
    instrument: bool | str | Sequence[str] | None = None,
    include_stream_usage: bool | None = None,
    prices: Pricer | Mapping[str, object] | None = None,
    cost_thresholds: Sequence[CostThreshold | Mapping[str, object]] | None = None,
    budgets: Sequence[Budget] | Mapping[str, object] | None = None,
    budget_store: BudgetStore | str | Mapping[str, object] | None = None,
    metrics: Literal[False] | str | Metric | Sequence[str | Metric] | None = None,
    logger: bool | int | str | Mapping[str, object] | None = None,
    reporters: Mapping[str, bool | Mapping[str, object]]
    | Sequence[str]
    | Literal[False]
    | None = None,
    max_series: int | None = None,
    max_idle: float | Literal[False] | None = None,
    shutdown_timeout: float | None = None,
    enabled: bool | None = None,
    bus: Bus | None = None,
    config: str | PathLike[str] | None = None,
    **seed_settings: object,
) -> Telemetry:
    """Start everything that files, environment and keywords ask for.

    A keyword that is left out, or None, leaves the setting to the other sources. With
    ``LLMEVENTS_DISABLED=1`` nothing is read, imported or started, and what is returned
    does nothing; ``enabled=False`` reads the settings and starts nothing.

    Args:
        instrument: SDKs by name, True for all that are supported; default none.
        include_stream_usage: See `llmevents.instrument`; default False.
        prices: What calls cost, by you: see `llmevents.llm.pricing.Pricer`.
        cost_thresholds: Costs that ``llm.cost.threshold_exceeded`` tells of; see
            `llmevents.llm.pricing.CostThreshold`.
        budgets: Limits that are held before calls are sent; see
            `llmevents.llm.budgets.Budget`.
        budget_store: Where they are kept: ``"memory"`` of each process, which is the
            default, or the URL of a database for several, ``"sqlite:///usage.db"``; a
            table of ``url``, ``on_failure`` and ``patience``; or a store. See
            `llmevents.ledger.SqlBudgetStore`.
        metrics: A preset, a list of presets and definitions, or False; default
            ``"default"``. Presets: `llmevents.metrics.presets`.
        logger: Level of the debug logger, False for none, or a table of ``level`` and
            ``events``; default ``"info"``, which logs ``llm.**``.
        reporters: Options by the reporter's name; True or ``{}`` for the defaults,
            False to turn off what another source has turned on. A list of names, or
            False for none at all.
        max_series: Series of each metric; default 2,000.
        max_idle: Seconds after which a series that has not changed is forgotten;
            default False, which is never.
        shutdown_timeout: Seconds that `Telemetry.shutdown` takes at most; default 2.
        enabled: Whether to start anything; default True.
        bus: Where the events are; the default bus unless given.
        config: The file to read, instead of the one that is found.
        **seed_settings: ``otlp_enabled``, ``otlp_endpoint``, ``telemetry_backend`` and
            what else docs/configuration.md lists.

    Raises:
        ConfigError: A setting is unknown or has a wrong value; nothing was started.
        LLMEventsError: It runs already. Call `Telemetry.shutdown` first.
        MetricDefinitionError: Metrics do not agree, or a reporter cannot have one.
        ModuleNotFoundError: Something needs a module that is not installed. The
            message gives the pip command.
        Exception: Whatever a reporter raises that cannot start, such as `OSError` for
            a port that is taken. Those started before it are stopped.

    Examples:
        >>> from llmevents import Bus
        >>> from llmevents.config import configure
        >>> with configure(bus=Bus(), logger=False, metrics="cost") as telemetry:
        ...     telemetry.bus.execute(
        ...         "llm.chat.stop", {"input_tokens": 12}, {"model": "gpt-4o"}
        ...     )
        ...     telemetry.usage().input_tokens
        12
    """
    chosen = default_bus if bus is None else bus
    if disabled():
        return Telemetry(bus=chosen)
    from llmevents.config._prepare import prepare
    from llmevents.config._start import current

    current.refuse_second()
    keywords = {
        "instrument": instrument,
        "include_stream_usage": include_stream_usage,
        "prices": prices,
        "cost_thresholds": cost_thresholds,
        "budgets": budgets,
        "budget_store": budget_store,
        "metrics": metrics,
        "logger": logger,
        "reporters": reporters,
        "max_series": max_series,
        "max_idle": max_idle,
        "shutdown_timeout": shutdown_timeout,
        "enabled": enabled,
        **seed_settings,
    }
    prepared = prepare(keywords, config=config)
    if prepared.problems:
        raise prepared.problems[0]
    if not prepared.enabled:
        return Telemetry(bus=chosen)
    return current.start(prepared, chosen)


def get_config() -> Mapping[str, Setting]:
    """Return the settings in effect by dotted name, each with its source.

    They are those of what is running or, if nothing is, those that `configure` would
    find in files and environment. Secrets are ``"[REDACTED]"``.

    Raises:
        ConfigError: Nothing is running, and a setting cannot be used.
        ModuleNotFoundError: Nothing is running, and a module is not installed.

    Examples:
        >>> from llmevents.config import get_config
        >>> get_config()["metrics"].source
        'default'
    """
    from llmevents.config._prepare import prepare
    from llmevents.config._start import current

    if current.settings is not None:
        return current.settings
    prepared = prepare({})
    if prepared.problems:
        raise prepared.problems[0]
    return prepared.settings


def __getattr__(name: str) -> object:
    """Load a class on first access."""
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    loaded: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = loaded
    return loaded
