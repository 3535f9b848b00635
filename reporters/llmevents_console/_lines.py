"""Series as lines, for logs and for programs that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmevents.metrics import ExponentialHistogram, Histogram
from llmevents_console._paper import MAX_NAME
from llmevents_console._readable import exact


if TYPE_CHECKING:
    from llmevents.metrics import Family, Series, Value
    from llmevents_console._text import Charset

_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def line(family: Family, series: Series, charset: Charset) -> str:
    """Return a series as a line: ``name{tag="value"} 1234 unit``.

    Instead of the number a distribution has ``count=3 sum=12 p50=4 p95=5 p99=5``.
    """
    tags = ", ".join(
        f"{charset.printable(tag)}={_quoted(text, charset)}"
        for tag, text in series.tags.items()
    )
    name = charset.printable(family.definition.name, MAX_NAME)
    braces = f"{{{tags}}}" if tags else ""
    unit = charset.printable(family.definition.unit)
    return f"{name}{braces} {_text(series.value)} {unit}".rstrip()


def _quoted(text: str, charset: Charset) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{charset.printable(escaped)}"'


def _text(value: Value) -> str:
    if not isinstance(value, (Histogram, ExponentialHistogram)):
        return exact(value)
    quantiles = (f"{name}={value.quantile(q):.6g}" for name, q in _QUANTILES)
    return " ".join((f"count={value.count}", f"sum={exact(value.sum)}", *quantiles))
