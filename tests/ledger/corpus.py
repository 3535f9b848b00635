"""Texts that have broken exports: each in every field that can hold one."""

from __future__ import annotations

from collections.abc import Callable

from llmevents.ledger import COLUMNS, Record


FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u00a0=1+1",
    "\u3000=1+1",
    "\v\f=1+1",
    "\uff1d1+1",
    "\uff0b1+1",
    "\uff0d1+1",
    " \uff20SUM(A1)",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://example.invalid/?"&A1,"x")',
    "-5",
    "=",
]

BREAKERS = [
    'a"b',
    '","injected"\r\n"row',
    "a\nb",
    "a\r\nb",
    "a\rb",
    "a\0b",
    "\0",
    "\ud800",
    "x\udfff\ud800y",
    "a\u2028b\u2029c\u0085d\x1cd",
    "\u202egnp.exe\u202c\u2066x\u2069\u200f",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31mred",
    "\x7f\x08\x08",
    "\ufeff=1+1",
    "\u200b=1+1",
    "'; DROP TABLE calls; --",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "a|b:c#d,e;f",
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "%2e%2e%2f",
    "",
    "\u00e9 e\u0301 \u65e5\u672c \U0001f600",
    "NULL",
    "\\N",
    "x" * 200_000,
]

CORPUS = [*FORMULAS, *BREAKERS]


def records() -> list[Record]:
    """Return a record for each text, which has it in all fields that hold texts."""
    kinds: dict[str, Callable[[str], object]] = {
        "text": lambda text: text,
        "texts": lambda text: [text, text],
        "object": lambda text: {text: [text, {"deep": text}], "n": 2**70},
        "integer": lambda text: -1,
        "number": lambda text: -0.5,
        "boolean": lambda text: False,
    }
    return [
        {
            **{
                column.name: kinds[column.kind](text)
                for column in COLUMNS
                if column.kind in kinds
            },
            "schema_version": 1,
            "event": "llm.chat",
            "id": f"{number:03}{text}",
            "timestamp": f"2026-11-21T09:30:00.{number:06}Z",
        }
        for number, text in enumerate(CORPUS)
    ]
