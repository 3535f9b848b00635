"""Small charts of block characters."""

from __future__ import annotations

from collections.abc import Sequence


EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.:-=+*#"


def sparkline(values: Sequence[float], *, is_unicode: bool = True) -> str:
    """Return a column for each value, as high as it is; any at all is visible."""
    levels = LEVELS if is_unicode else ASCII_LEVELS
    largest = max(values, default=0)
    if largest <= 0:
        return levels[0] * len(values)
    last = len(levels) - 1
    return "".join(
        levels[max(1, round(value / largest * last)) if value > 0 else 0]
        for value in values
    )


def bar(proportion: float, width: int, *, is_unicode: bool = True) -> str:
    """Return a bar that fills a proportion of *width* cells; any at all is visible."""
    eighths = round(max(0.0, min(1.0, proportion)) * width * 8)
    if proportion > 0:
        eighths = max(1, eighths)
    if not is_unicode:
        return "#" * -(-eighths // 8)
    full, rest = divmod(eighths, 8)
    return EIGHTHS[-1] * full + (EIGHTHS[rest] if rest else "")
