"""What calls cost: exact, in nano-dollars, and with the source of each price.

>>> from llmevents.llm import Usage
>>> from llmevents.llm.pricing import Pricer
>>> pricer = Pricer({"acme/tiny-1": {"input": 0.5, "output": 1.5}})
>>> usage = Usage(input_tokens=1000, output_tokens=500)
>>> pricer.price(usage, provider="acme", model="tiny-1").cost_nano_usd
1250000
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents.llm.pricing._book import PriceBook
from llmevents.llm.pricing._default import (
    add_price,
    default_pricer,
    set_default_pricer,
    warm_up,
)
from llmevents.llm.pricing._plan import CostSource, Price
from llmevents.llm.pricing._pricer import Pricer, check_config
from llmevents.llm.pricing._sources import Listed


if TYPE_CHECKING:
    from llmevents.llm.pricing._thresholds import CostThreshold, CostThresholds

__all__ = [
    "CostSource",
    "CostThreshold",
    "CostThresholds",
    "Listed",
    "Price",
    "PriceBook",
    "Pricer",
    "add_price",
    "check_config",
    "default_pricer",
    "set_default_pricer",
    "warm_up",
]


def __getattr__(name: str) -> object:
    """Load thresholds on first access: to price a call needs none."""
    if name not in ("CostThreshold", "CostThresholds"):
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from llmevents.llm.pricing import _thresholds

    loaded: object = getattr(_thresholds, name)
    globals()[name] = loaded
    return loaded
