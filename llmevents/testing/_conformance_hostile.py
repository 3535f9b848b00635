"""What a reporter should survive: text, objects and numbers that break protocols."""

from __future__ import annotations

from decimal import Decimal
from typing import NoReturn

from llmevents import Bus, llm


TEXTS: tuple[str, ...] = (
    "",
    " ",
    "lone \ud800 surrogate",
    "NUL \x00 byte",
    "two\nlines\r\nand\ta tab",
    "quo\"tes' and \\ backslashes \\n",
    "\x1b[2J\x1b]0;owned\x07 \x9b31m",
    "\u202egnp.exe \u2028 \u2029 \ufeff",
    "a:1|c|#b:2,c=d {e} %s %n $x `y` <z> ../..",
    "=1+1 @import",
    "\N{CRAB}" * 300,
    "x" * 1_000_000,
)


class Hostile:
    """An object that raises whatever is asked of it."""

    def _refuse(self, *_asked: object) -> NoReturn:
        raise ZeroDivisionError

    __repr__ = __str__ = __bool__ = __hash__ = __eq__ = __getattr__ = _refuse


def _endless() -> list[object]:
    inside: list[object] = []
    inside.append(inside)
    return inside


OBJECTS: tuple[object, ...] = (
    None,
    True,
    -1,
    10**5000,
    float("nan"),
    b"\xff\x00",
    _endless(),
    {1: {"deep": [{}]}},
    Hostile(),
    Hostile,
    ValueError("no"),
)

NUMBERS: tuple[object, ...] = (
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
    None,
    "12",
    b"12",
    Decimal("1.5"),
    Hostile(),
    10**400,
    2**63 - 1,
    -(2**63),
    -1,
    -0.0,
    5e-324,
    1e289,
    -1e289,
)

MEASUREMENTS = (
    "duration",
    "input_tokens",
    "output_tokens",
    "cost_nano_usd",
    "time_to_first_chunk",
)


def emit_text(bus: Bus, value: object) -> None:
    """Emit events that have *value* in all places of the metadata."""
    facts = {
        "provider": value,
        "model": value,
        "text": value,
        "cache": value,
        "status": value,
        "operation": value,
        "response_model": value,
        "error_type": value,
        "error_message": value,
        "finish_reasons": [value],
        "span_id": value,
        **({value: value} if isinstance(value, str) else {}),
    }
    for event in ("llm.chat.stop", "llm.chat.exception", "llm.cache.hit"):
        bus.execute(event, {"duration": 1, "input_tokens": 2}, facts)
    with llm.chat(bus=bus, provider="acme", model="m", use_case=value) as call:
        call.annotate(**facts)
        call.usage(input_tokens=1)


def emit_numbers(bus: Bus) -> None:
    """Emit events whose measurements have each of `NUMBERS`, in all places."""
    for number in NUMBERS:
        values = dict.fromkeys(MEASUREMENTS, number)
        for event in ("llm.chat.start", "llm.chat.stop", "llm.chat.exception"):
            bus.execute(event, values, {"model": "m"})  # type: ignore[arg-type]  # see above
        bus.execute("llm.cache.put", {"count": number, "size": number}, {"cache": "c"})  # type: ignore[dict-item]  # likewise
