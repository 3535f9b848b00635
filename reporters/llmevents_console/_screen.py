"""The two ways of showing a snapshot: a live table and plain lines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol, cast

from rich.console import Console
from rich.live import Live

from llmevents_console._table import line, tables


if TYPE_CHECKING:
    from typing import IO

    from llmevents.metrics import Snapshot
    from llmevents_console._stream import GuardedStream

PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


class Screen(Protocol):
    """Where snapshots are shown."""

    def draw(self, snapshot: Snapshot) -> int:
        """Show *snapshot*; return how many units of the status that was."""

    def finish(self, snapshot: Snapshot) -> int:
        """Show *snapshot* for the last time; return the same."""


def open_screen(stream: GuardedStream, *, live: bool | None) -> Screen:
    """Return the screen that suits *stream*, or the one asked for by *live*."""
    if live is None:
        live = stream.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}
    return LiveScreen(stream) if live else PlainScreen(stream)


class LiveScreen:
    """A table that is drawn over itself. One refresh counts as one.

    Standard output and error are left as they are: with rich's redirection, a child
    forked during a refresh would wait for a lock at its first ``print``.
    """

    def __init__(self, stream: GuardedStream) -> None:
        self._stream = stream
        self._console = _console(stream, force_terminal=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def draw(self, snapshot: Snapshot) -> int:
        """Draw the table over the one before."""
        if not self._live.is_started:
            self._live.start()
            # A program that is killed should not leave a terminal without a cursor.
            self._console.show_cursor(show=True)
        self._update(snapshot)
        self._live.refresh()
        return 1

    def finish(self, snapshot: Snapshot) -> int:
        """Draw the table in full, and leave it there."""
        self._update(snapshot)
        self._live.stop()
        return 1

    def _update(self, snapshot: Snapshot) -> None:
        size = self._stream.size()
        if size is not None:
            self._console.size = cast("Any", size)  # the setter's type is the getter's
        self._live.update(tables(snapshot, self._console.width))


class PlainScreen:
    """A line for each series that has changed. One line counts as one."""

    def __init__(self, stream: GuardedStream) -> None:
        self._stream = stream
        self._console = _console(stream, force_terminal=False)
        self._console.width = PLAIN_WIDTH
        self._seen: dict[tuple[str, frozenset[tuple[str, str]]], int | float] = {}

    def draw(self, snapshot: Snapshot) -> int:
        """Write what is new since the last time."""
        lines = []
        for name, family in snapshot.families.items():
            for series in family.series:
                key = (name, frozenset(series.tags.items()))
                if self._seen.get(key) != series.value:
                    self._seen[key] = series.value
                    lines.append(line(family, series))
        return self._write(lines)

    def finish(self, snapshot: Snapshot) -> int:
        """Write what is new, and everything once more as tables."""
        drawn = self.draw(snapshot)
        with self._console.capture() as captured:
            if self._seen:
                self._console.print()
            self._console.print(tables(snapshot, PLAIN_WIDTH))
        return drawn + self._write(
            [row.rstrip() for row in captured.get().splitlines()]
        )

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
