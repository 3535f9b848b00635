"""What every source of prices has in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmevents.llm._money import show_usd
from llmevents.llm._windows import DAY, Period, utc_datetime, utc_period
from llmevents.llm.pricing._units import COUNTED, TOKENS, Prices


if TYPE_CHECKING:
    from datetime import date

    from llmevents.llm.pricing._plan import RatePlan


class Query(NamedTuple):
    """What a price is asked for.

    Attributes:
        provider: Canonical name, or None.
        model: One name, in lower case.
        tier: The provider's service tier, in lower case, or None.
        batch: Whether the call is part of a batch.
        at: When, in nanoseconds since the Unix epoch.
    """

    provider: str | None
    model: str
    tier: str | None
    batch: bool
    at: int

    @property
    def day(self) -> date:
        """The day in UTC."""
        return utc_datetime(self.at).date()


class Listed(NamedTuple):
    """One line of the list of prices.

    Attributes:
        provider: Canonical name; empty: any.
        model: As its source writes it.
        prices: For people.
        source: Who states them.
        date: The ISO day whose prices they are, or None.
        reference: Where the prices are from, if that is known.
    """

    provider: str
    model: str
    prices: str
    source: str
    date: str | None
    reference: str = ""


class Source(Protocol):
    """Something that knows prices."""

    def find(self, query: Query) -> RatePlan | None:
        """Return the plan for a query, or None."""

    def holds(self, query: Query) -> tuple[int, int]:
        """Return from when and until when a query's prices hold, within its day."""

    def describe(self) -> Iterator[Listed]:
        """Yield all that it knows, for people."""


def all_day(query: Query) -> Period:
    """Return the begin and the end of a query's day, in UTC."""
    return utc_period(query.at, DAY)


def show_prices(prices: Prices) -> str:
    """Return prices for people: ``input 2.5/1M, output 10/1M``."""
    return ", ".join(_shown(prices)) or "as an ordinary call"


def _shown(prices: Prices) -> Sequence[str]:
    names = {unit: (name, 1_000_000, "/1M") for name, unit in TOKENS.items()}
    for name, (unit, size) in COUNTED.items():
        if name in {"per_page", "per_image", "per_search", "per_request"}:
            names[unit] = (
                "search" if unit == "searches" else unit.removesuffix("s"),
                size,
                "",
            )
        elif name in {"per_1m_characters", "per_minute"}:
            names[unit] = (name.removeprefix("per_").replace("1m_", "1M "), size, "")
    shown = []
    for unit, price in prices.items():
        name, size, suffix = names[unit]
        steps = "".join(
            f" (above {start:,}: {show_usd(rate * size)})"
            for start, rate in price.steps
        )
        shown.append(f"{name} {show_usd(price.base * size)}{suffix}{steps}")
    return shown
