"""What a provider or a gateway says that a call has cost."""

from __future__ import annotations

from fractions import Fraction

from llmevents.llm._fields import Fields, look_up, scaled


NANO = 1_000_000_000

TICK = Fraction(1, 10)
"""xAI states cost in ticks, of which a US dollar has 10,000,000,000."""


def stated_cost(usage: Fields, before: int | None = None) -> int | None:
    """Return the cost that a usage object states, in nano-dollars, or *before*.

    OpenRouter's ``cost``, plus what the upstream provider bills the caller directly
    ("Usage Accounting", cost breakdown); Perplexity's ``cost.total_cost``; xAI's
    ``cost_in_usd_ticks``.
    """
    cost = usage.get("cost")
    if cost is None:
        ticks = usage.get("cost_in_usd_ticks")
        found = None if ticks is None else scaled(ticks, TICK)
    elif isinstance(cost, (int, float)):
        found = _with_upstream(usage, scaled(cost, NANO))
    else:
        found = scaled(look_up(cost, "total_cost"), NANO)
    return before if found is None else found


def _with_upstream(usage: Fields, fee: int | None) -> int | None:
    """Return the whole cost, of which *fee* is the gateway's part.

    None where the caller's own key was used, and what that was billed is not known.
    """
    if fee is None or usage.get("is_byok") is not True:
        return fee
    upstream = look_up(usage.get("cost_details"), "upstream_inference_cost")
    billed = scaled(upstream, NANO)
    return None if billed is None else fee + billed


def gateway_cost(usd: object) -> int | None:
    """Return what LiteLLM has worked out, in nano-dollars; its 0 is no price at all.

    It says 0 for models that it has no price of, too.
    """
    if isinstance(usd, str):
        try:
            usd = float(usd)
        except ValueError:
            return None
    return scaled(usd, NANO) or None
