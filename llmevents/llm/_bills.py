"""What calls cost: a bill for each request, at the price of its own model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple


if TYPE_CHECKING:
    from collections.abc import Callable

    from llmevents._bus import Bus
    from llmevents._span import Status
    from llmevents.llm._response import Reading
    from llmevents.llm.pricing import Pricer

CALCULATED = "llm.cost.calculated"
UNPRICED = "llm.cost.unpriced"

MIXED = "mixed"
"""The source of a cost whose requests were priced by several."""


_pricer: Callable[[], Pricer] | None = None


def expect_bills() -> Callable[[], Pricer]:
    """Have prices loaded, which takes a while: by the first answer they are there.

    Not before the first call: a process that asks no model needs none.

    Returns:
        What gives the pricer of the process. An import for each call would cost more
        than the look-up of a price.
    """
    global _pricer  # noqa: PLW0603  # once for the process
    if _pricer is None:
        from llmevents.llm.pricing import default_pricer, warm_up

        warm_up()
        _pricer = default_pricer
    return _pricer


class Bill(NamedTuple):
    """What one request cost.

    Attributes:
        cost_nano_usd: None if nobody has a price for it.
        source: Who stated the price.
        price_date: The day whose price it is, if known.
        provider: Who was paid, if known.
        model: What for, if known.
    """

    cost_nano_usd: int | None
    source: str | None
    price_date: str | None
    provider: str | None
    model: str | None


class Asked(NamedTuple):
    """What is known of a request beside what was read of its response."""

    provider: str | None
    model: str | None
    is_batch: bool
    at: int


def bill(reading: Reading, asked: Asked, status: Status) -> list[Bill]:
    """Price one request; nothing is due for one that failed and used nothing known."""
    usage = reading.usage
    if usage is None:
        if status in ("error", "timeout"):
            return []
        return [Bill(None, None, None, asked.provider, asked.model)]
    price = expect_bills()().price(
        usage,
        provider=asked.provider,
        model=asked.model,
        response_model=reading.facts.get("response_model"),
        service_tier=reading.service_tier,
        batch=asked.is_batch,
        at=asked.at,
        stated=reading.cost_nano_usd,
    )
    if price is None:
        return [Bill(None, None, None, asked.provider, asked.model)]
    return [Bill(*price, asked.provider, asked.model)]


class Due(NamedTuple):
    """What all requests of a call cost together."""

    cost_nano_usd: int
    source: str
    price_date: str | None


def due(bills: list[Bill]) -> Due | None:
    """Return the sum of the bills that have a price; None if none has."""
    if len(bills) == 1:
        cost, source, date, *_ = bills[0]
        return None if cost is None else Due(cost, source or MIXED, date)
    priced = [bill for bill in bills if bill.cost_nano_usd is not None]
    if not priced:
        return None
    sources = {bill.source for bill in priced}
    dates = {bill.price_date for bill in priced}
    return Due(
        sum(bill.cost_nano_usd or 0 for bill in priced),
        (priced[0].source if len(sources) == 1 else None) or MIXED,
        priced[0].price_date if len(dates) == 1 else None,
    )


def announce(bus: Bus, span_id: str, bills: list[Bill], total: Due | None) -> None:
    """Emit what a call cost, and which of its requests have no price."""
    if total is not None and bus.has_handlers(CALCULATED):
        said = {
            "cost_source": total.source,
            "price_date": total.price_date,
            **_whose(bills[-1]),
        }
        _emit(bus, CALCULATED, {"cost_nano_usd": total.cost_nano_usd}, span_id, said)
    if not bus.has_handlers(UNPRICED):
        return
    for each in bills:
        if each.cost_nano_usd is None:
            _emit(bus, UNPRICED, {}, span_id, _whose(each))


def _whose(bill: Bill) -> dict[str, str | None]:
    return {"provider": bill.provider, "model": bill.model}


def _emit(
    bus: Bus,
    event: str,
    measurements: dict[str, int],
    span_id: str,
    said: dict[str, str | None],
) -> None:
    known = {key: value for key, value in said.items() if value is not None}
    bus.execute(event, measurements, {**known, "span_id": span_id})
