"""What calls come to, as lines that people read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from llmevents.cli import _usage_tables as tables
from llmevents.cli import _usage_text as shown


if TYPE_CHECKING:
    from rich.console import Console

    from llmevents.ledger._query import Comparison, Totals

LABEL = 9
"""Cells of what a line is about, so that such lines agree."""


def facts(lines: Mapping[str, tuple[str, str]]) -> Table:
    """Return what there is to say: what of, the number, and what is to be added."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True, min_width=LABEL)
    made.add_column(justify="right", no_wrap=True)
    made.add_column(overflow="fold")
    for what, (number, more) in lines.items():
        made.add_row(tables.text(what), tables.text(number), tables.text(more, "dim"))
    return made


def words(lines: Mapping[str, str]) -> Table:
    """Return what there is to say in words."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True, min_width=LABEL)
    made.add_column(overflow="fold")
    for what, said in lines.items():
        if said:
            made.add_row(tables.text(what), tables.text(said))
    return made


def of_totals(totals: Totals) -> Table:
    """Return what calls come to, for people."""
    ended = [f"{shown.count(totals.successes)} succeeded"]
    if totals.failures:
        part = shown.share(totals.failures, totals.calls)
        ended.append(f"{shown.count(totals.failures)} failed ({part})")
    if totals.cancelled:
        ended.append(f"{shown.count(totals.cancelled)} cancelled")
    lines = {
        "Calls": (shown.count(totals.calls), ", ".join(ended)),
        "Cost": (shown.money(totals.cost_nano_usd), _priced(totals)),
        "Tokens": (shown.count(totals.total_tokens), _tokens(totals)),
        "Latency": (shown.duration(totals.average_ns), _latency(totals)),
    }
    if totals.tokens_per_second is not None:
        speed = f"{totals.tokens_per_second:,.1f}"
        lines["Speed"] = (speed, "output tokens a second")
    for what, name in _OTHERS.items():
        number = getattr(totals, name)
        if number is not None:
            is_time = name.endswith("_ns")
            lines[what] = (shown.duration if is_time else shown.count)(number), ""
    return facts(lines)


_OTHERS = {
    "Pages": "pages",
    "Images": "images",
    "Searches": "searches",
    "Characters": "characters",
    "Audio": "audio_duration_ns",
}
"""What is told only if a call states it."""

_CLASSES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cache_read_tokens",
    "written to the cache": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}


def _priced(totals: Totals) -> str:
    if totals.cost_nano_usd is None:
        return "no call has a known price" if totals.calls else ""
    if totals.unpriced:
        return f"without {shown.count(totals.unpriced)} of unknown price"
    return ""


def _tokens(totals: Totals) -> str:
    return ", ".join(
        f"{shown.count(getattr(totals, name))} {words}"
        for words, name in _CLASSES.items()
        if getattr(totals, name)
    )


def _latency(totals: Totals) -> str:
    if totals.average_ns is None:
        return ""
    quantiles = (
        f"{name} {shown.duration(value)}"
        for name, value in (
            ("p50", totals.p50_ns),
            ("p95", totals.p95_ns),
            ("p99", totals.p99_ns),
        )
    )
    return f"on average; {', '.join(quantiles)}"


def comparison(console: Console, found: Comparison) -> Table:
    """Return two periods beside each other."""
    before, after = found.first, found.second
    names: dict[str, tuple[str, Callable[[int | None], str]]] = {
        "Calls": ("calls", shown.count),
        "Failed": ("failures", shown.count),
        "Cost": ("cost_nano_usd", shown.money),
        "Tokens": ("total_tokens", shown.count),
        "Input tokens": ("input_tokens", shown.count),
        "Output tokens": ("output_tokens", shown.count),
        "Average latency": ("average_ns", shown.duration),
        "p95 latency": ("p95_ns", shown.duration),
    }
    pairs = [(getattr(before, n), getattr(after, n)) for n, _ in names.values()]
    shows = [show for _, show in names.values()]
    both = list(zip(shows, pairs, strict=True))
    return tables.table(
        console,
        [
            tables.Cell("", list(names), is_name=True),
            tables.Cell("Before", [show(first) for show, (first, _) in both]),
            tables.Cell("Now", [show(second) for show, (_, second) in both]),
            tables.Cell("Change", [shown.change(*pair) for pair in pairs]),
        ],
    )
