"""The two ways of showing a snapshot: a live view and plain lines."""

from __future__ import annotations

import os
import time
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

from rich.console import Console
from rich.live import Live

from llmevents_console._amounts import total
from llmevents_console._history import History
from llmevents_console._lines import line
from llmevents_console._paper import Paper
from llmevents_console._text import Charset
from llmevents_console._view import live_view, summary


if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from llmevents.metrics import Value
    from llmevents_console._stream import GuardedStream
    from llmevents_console._view import Look

PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""

MAX_LINES = 500
"""Lines that one look at the store writes; what is left comes at the next."""


_Key: TypeAlias = "tuple[str, frozenset[tuple[str, str]]]"
"""What a series is known by: its metric and its tags."""


class _Written(NamedTuple):
    """What a series was when it was last written, and at which look that was."""

    raw: Value | None
    look: int


_NEVER = _Written(None, 0)


class Screen(Protocol):
    """Where looks at the store are shown."""

    def draw(self, look: Look) -> int:
        """Show what there is; return how many units of the status that was."""

    def finish(self, look: Look) -> int:
        """Show it for the last time; return the same."""


def open_screen(
    stream: GuardedStream, *, live: bool | None, with_summary: bool = True
) -> Screen:
    """Return the screen that suits *stream*, or the one asked for by *live*."""
    if live is None:
        live = stream.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}
    screen = LiveScreen if live else PlainScreen
    return screen(stream, with_summary=with_summary)


class LiveScreen:
    """Tables that are drawn over themselves. One refresh counts as one.

    Standard output and error are left as they are: with rich's redirection, a child
    forked during a refresh would wait for a lock at its first ``print``.
    """

    def __init__(
        self,
        stream: GuardedStream,
        *,
        with_summary: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._with_summary = with_summary
        self._clock = clock
        self._charset = Charset(stream.encoding)
        self._history = History()
        self._console = _console(stream, force_terminal=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def draw(self, look: Look) -> int:
        """Draw the tables over the ones before."""
        if not self._live.is_started:
            self._live.start()
            # A program that is killed should not leave a terminal without a cursor.
            self._console.show_cursor(show=True)
        families = look.snapshot.families
        totals = {name: float(total(family)) for name, family in families.items()}
        self._history.add(self._clock(), totals)
        self._live.update(live_view(look, self._history, self._paper()))
        self._live.refresh()
        return 1

    def finish(self, look: Look) -> int:
        """Put the summary where the tables were, or nothing."""
        if self._with_summary:
            self._live.update(summary(look, self._paper()))
        else:
            self._live.transient = True
        self._live.stop()
        return 1

    def _paper(self) -> Paper:
        size = self._stream.size()
        if size is not None:
            self._console.size = cast("Any", size)  # the setter's type is the getter's
        width, height = self._console.size
        return Paper(width=width, height=height, charset=self._charset)


class PlainScreen:
    """A line for each series that has changed. One line counts as one."""

    def __init__(self, stream: GuardedStream, *, with_summary: bool = True) -> None:
        self._stream = stream
        self._with_summary = with_summary
        self._charset = Charset(stream.encoding)
        self._console = _console(stream, force_terminal=False)
        self._console.width = PLAIN_WIDTH
        self._looks = 0
        self._written: dict[_Key, _Written] = {}

    def draw(self, look: Look) -> int:
        """Write what is new since the last time, as far as that is not too much."""
        return self._write(self._news(look, MAX_LINES))

    def finish(self, look: Look) -> int:
        """Write everything that is new, and the summary."""
        lines = self._news(look, None)
        if self._with_summary:
            lines += [""] * bool(self._written) + self._summary(look)
        return self._write(lines)

    def _news(self, look: Look, limit: int | None) -> list[str]:
        """Return a line per series that has changed, *limit* of them at most."""
        self._looks += 1
        kept: dict[_Key, _Written] = {}
        changed = []
        for name, family in look.snapshot.families.items():
            for series in family.series:
                key = (name, frozenset(series.tags.items()))
                before = self._written.get(key, _NEVER)
                if before.raw != series.raw:
                    changed.append((before.look, key, family, series))
                if before is not _NEVER:
                    kept[key] = before
        # Where there are too many, the turn is of those that have waited longest.
        changed.sort(key=itemgetter(0))
        lines = []
        for _, key, family, series in changed[:limit]:
            kept[key] = _Written(series.raw, self._looks)
            lines.append(line(family, series, self._charset))
        self._written = kept
        if hidden := len(changed) - len(lines):
            lines.append(f"# and {hidden:,} more, at the next look")
        return lines

    def _summary(self, look: Look) -> list[str]:
        paper = Paper(width=PLAIN_WIDTH, charset=self._charset, is_exact=True)
        with self._console.capture() as captured:
            self._console.print(summary(look, paper))
        return [row.rstrip() for row in captured.get().splitlines()]

    def _write(self, lines: list[str]) -> int:
        if lines:
            self._stream.write("".join(f"{text}\n" for text in lines))
            self._stream.flush()
        return len(lines)


def _console(stream: GuardedStream, *, force_terminal: bool) -> Console:
    return Console(
        file=cast("IO[str]", stream),  # it has all that rich uses
        force_terminal=force_terminal,
        force_jupyter=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
