"""The pricer that everybody uses who has none of their own."""

from __future__ import annotations

from llmevents.llm.pricing._pricer import Pricer


_default: Pricer | None = None


def default_pricer() -> Pricer:
    """Return the pricer of this process, made when first asked for."""
    global _default  # noqa: PLW0603  # the one default of the process
    pricer = _default
    if pricer is None:
        pricer = _default = Pricer()
    return pricer


def set_default_pricer(pricer: Pricer | None) -> Pricer | None:
    """Put another pricer in the place of the default; return the former, to restore.

    Args:
        pricer: The new one; None: a fresh one, when it is first asked for.
    """
    global _default
    former, _default = _default, pricer
    return former


def add_price(provider: str | None, model: str, **prices: object) -> None:
    """Add a price of your own to the default pricer; see `Pricer.add_price`.

    Examples:
        >>> from llmevents.llm import pricing
        >>> former = pricing.set_default_pricer(None)
        >>> pricing.add_price("acme", "tiny-1", input=0.001, output=0.002, per=1000)
        >>> pricing.add_price("acme", "scan", per_page=0.01)
        >>> pricing.set_default_pricer(former) is former
        False
    """
    default_pricer().add_price(provider, model, **prices)


def warm_up(*, wait: bool = False, timeout: float | None = None) -> bool:
    """Load what the default pricer needs; see `Pricer.warm_up`."""
    return default_pricer().warm_up(wait=wait, timeout=timeout)
