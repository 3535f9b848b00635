"""What a `Telemetry` tells about itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llmevents.reporting import ReporterStatus


if TYPE_CHECKING:
    from llmevents.ledger import Engine, Totals
    from llmevents.metrics import Series, Snapshot


@dataclass(frozen=True, slots=True)
class TelemetryStatus:
    """What everything did since it was started; all mappings are read-only.

    Attributes:
        reporters: Counts by reporter.
        store: Of the metric store: ``refused``, values that it could not take in;
            ``skipped``, measurements that events lacked; ``overflowing``, metrics that
            have more series than they may.
        bus: Counts of the bus, as `Bus.stats` gives them.
        budgets: Counts of what holds the budgets, as `BudgetGuard.stats` gives them.
            If they are in a database also ``unseen``, calls that were let through
            although it could not be used; ``waiting``, what is booked when it can; and
            ``lost``, what is not.
    """

    reporters: Mapping[str, ReporterStatus]
    store: Mapping[str, int]
    bus: Mapping[str, int]
    budgets: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What calls of models came to.

    What nobody counts is None, and so is the cost while no price was known.

    Attributes:
        calls: Calls that have ended, failed ones included.
        errors: Those among them that failed or timed out.
        input_tokens: All input, cached included.
        output_tokens: All output, reasoning included.
        cost_nano_usd: Cost of the calls with a known price, in nano-US-dollars.
        by_model: The same by the model asked for, ``""`` if that is unknown; each
            without a ``by_model`` of its own.
    """

    calls: int | None = None
    errors: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nano_usd: int | None = None
    by_model: Mapping[str, Usage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_model", MappingProxyType(dict(self.by_model)))


COST = "cost_nano_usd"

FAILED = frozenset({"error", "timeout"})

SOURCES: Mapping[str, tuple[tuple[str, str, frozenset[str]], ...]] = {
    "calls": (
        ("llm.requests.total", "", frozenset()),
        ("llm.chat.requests.total", "", frozenset()),
    ),
    "errors": (
        ("llm.requests.total", "status", FAILED),
        ("llm.chat.errors.total", "", frozenset()),
    ),
    "input_tokens": (
        ("llm.tokens.input.total", "", frozenset()),
        ("llm.tokens.total", "token_type", frozenset({"input"})),
    ),
    "output_tokens": (
        ("llm.tokens.output.total", "", frozenset()),
        ("llm.tokens.total", "token_type", frozenset({"output"})),
    ),
    COST: (
        ("llm.cost.cents.total", "", frozenset()),
        ("llm.cost.usd.total", "", frozenset()),
    ),
}
"""Number -> the metrics of presets that have it, the best first, each with the tag and
its values that pick series, if not all are wanted."""


def usage_of_ledger(engine: Engine) -> Usage:
    """Return what the calls of a ledger came to."""
    by_model = {
        group.key or "": _usage_of_calls(group.totals) for group in engine.by("model")
    }
    return replace(_usage_of_calls(engine.summary()), by_model=by_model)


def _usage_of_calls(totals: Totals) -> Usage:
    return Usage(
        calls=totals.calls,
        errors=totals.failures,
        input_tokens=totals.input_tokens or 0,
        output_tokens=totals.output_tokens or 0,
        cost_nano_usd=totals.cost_nano_usd,
    )


def usage_of(snapshot: Snapshot) -> Usage:
    """Return what the metrics of presets in *snapshot* know about usage."""
    numbers = {number: _by_model(snapshot, number) for number in SOURCES}
    models = sorted({model for found in numbers.values() for model in found or ()})
    known = {number: found for number, found in numbers.items() if found is not None}
    totals: dict[str, Any] = {
        number: sum(found.values())
        for number, found in known.items()
        if found or number != COST
    }
    by_model = {model: replace(Usage(), **_of(model, known)) for model in models}
    return replace(Usage(), **totals, by_model=by_model)


def _of(model: str, known: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    return {
        number: found.get(model, 0)
        for number, found in known.items()
        if model in found or number != COST
    }


def _by_model(snapshot: Snapshot, number: str) -> dict[str, int] | None:
    """Return a number by model, or None if no metric has it."""
    for name, tag, values in SOURCES[number]:
        family = snapshot.families.get(name)
        if family is not None:
            found: dict[str, int] = {}
            for series, count in _counts(family.series):
                if not tag or series.tags.get(tag) in values:
                    model = series.tags.get("model", "")
                    found[model] = found.get(model, 0) + count
            return found
    return None


def _counts(series: tuple[Series, ...]) -> Iterator[tuple[Series, int]]:
    for each in series:
        # A user's own metric may have the name of a preset's.
        if isinstance(each.raw, (int, float)):
            yield each, int(each.raw)
