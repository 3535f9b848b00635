"""Prices, cost thresholds and budgets: what settings say of them, and what runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from llmevents._errors import OptionError
from llmevents.config._budget_store import ChosenStore
from llmevents.config._errors import ConfigError


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._types import Metadata
    from llmevents.config._given import Given
    from llmevents.llm.budgets import Budget, BudgetGuard, BudgetStore
    from llmevents.llm.pricing import CostThreshold, Pricer

_T = TypeVar("_T")


def read_prices(given: Given) -> Pricer | None:
    """Read ``prices``: a table as of `Pricer.from_config`, or a pricer."""
    from llmevents.llm.pricing import Pricer

    value = given.value
    if isinstance(value, Pricer):
        return value
    if not isinstance(value, Mapping):
        expected = "a table with models, built_in, genai_prices or litellm_prices"
        raise ConfigError(value, "prices", expected, given.source)
    if not value:
        return None
    return _checked(given, "prices", lambda: Pricer.from_config(value))


def read_thresholds(given: Given) -> list[CostThreshold]:
    """Read ``cost_thresholds``: a list of tables, or of thresholds."""
    from llmevents.llm.pricing._thresholds import as_threshold

    value = given.value
    if not isinstance(value, (list, tuple)):
        expected = "a list of tables such as {usd = 10, scope = 'user_id'}"
        raise ConfigError(value, "cost_thresholds", expected, given.source)

    return _checked(given, "cost_thresholds", lambda: list(map(as_threshold, value)))


def read_budgets(given: Given) -> tuple[Budget, ...]:
    """Read ``budgets``: tables by name, or a list of budgets."""
    from llmevents.llm.budgets import Budget, budgets_from_mapping

    value: Any = given.value
    if isinstance(value, (list, tuple)):
        for item in value:
            if not isinstance(item, Budget):
                expected = (
                    "a Budget; in a file each is a table of its name, [budgets.users]"
                )
                raise ConfigError(item, "each of budgets", expected, given.source)
        return tuple(value)
    return _checked(given, "budgets", lambda: budgets_from_mapping(value))


def _checked(given: Given, option: str, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except OptionError as error:
        raise ConfigError.at(error, error.option or option, given.source) from None


class LLMLayer:
    """What runs of it.

    Args:
        bus: Whose calls.
        pricer: In place of the default one; None leaves that as it is.
        thresholds: For ``llm.cost.threshold_exceeded``.
        budgets: Held before calls are sent.
        kept: Where.
    """

    def __init__(
        self,
        bus: Bus,
        pricer: Pricer | None,
        thresholds: list[CostThreshold],
        budgets: tuple[Budget, ...],
        kept: ChosenStore,
    ) -> None:
        self.guard: BudgetGuard | None = None
        self._store: BudgetStore | None = None
        self._ends: list[Callable[[], object]] = []
        if pricer is not None:
            self._put(pricer)
        if thresholds:
            from llmevents.llm.pricing import CostThresholds

            self._ends.append(CostThresholds(bus, thresholds, clock=bus.clock).detach)
        if budgets:
            from llmevents.llm.budgets import BudgetGuard

            self._store = kept.store
            if kept.close is not None:
                self._ends.append(kept.close)
            self.guard = BudgetGuard(bus, budgets, kept.store, upper_bound=upper_bound)
            self.guard.attach()
            self._ends.append(self.guard.detach)

    def _put(self, pricer: Pricer) -> None:
        from llmevents.llm.pricing import default_pricer, set_default_pricer

        former = set_default_pricer(pricer)

        def restore() -> None:
            # Somebody may have put another one in its place since.
            if default_pricer() is pricer:
                set_default_pricer(former)

        self._ends.append(restore)

    def counts(self) -> dict[str, int]:
        """Return what the guard of the budgets has counted, and where they are kept."""
        if self.guard is None:
            return {}
        found = dict(self.guard.stats())
        counts: Any = getattr(self._store, "counts", None)
        if counts is not None:
            of_store = counts()
            names = ("unseen", "waiting", "lost")
            found |= {n: getattr(of_store, n) for n in names if hasattr(of_store, n)}
        return found

    def end(self) -> None:
        """End all of it; calls under way are still settled."""
        while self._ends:
            self._ends.pop()()


def upper_bound(metadata: Metadata) -> int | None:
    """Return what a call costs at most, by the limits that its request declares.

    Nano-US-dollars. None unless both ``max_tokens`` and ``max_input_tokens`` (of the
    metadata, so of `llmevents.context` too) are known: half a bound is none.
    """
    from llmevents.llm.pricing import default_pricer
    from llmevents.llm.usage import Usage, as_count

    output = as_count(metadata.get("max_tokens"))
    given = as_count(metadata.get("max_input_tokens"))
    if output is None or given is None:
        return None
    price = default_pricer().price(
        Usage(input_tokens=given, output_tokens=output),
        provider=_text(metadata.get("provider")),
        model=_text(metadata.get("model")),
        service_tier=_text(metadata.get("service_tier")),
    )
    return None if price is None else price.cost_nano_usd


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
