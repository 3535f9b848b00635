"""What all processes have counted: read by each, and tidied up by whoever is free."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from llmevents_prometheus._files import (
    ENDED,
    ENDED_ASIDE,
    SharedDirectory,
    kind_of,
    release,
)
from llmevents_prometheus._format import (
    DAMAGED,
    FOREIGN,
    FUTURE_VERSION,
    Contents,
    UnusableError,
    decode,
    encode,
)
from llmevents_prometheus._merge import Families, fold_into


MOST_ENDED_SERIES = 10_000
"""Series per metric that ended processes may leave behind, five times as many as a
store has by default; what is past it is in one more series, so that sums are exact."""


class Problems:
    """What was skipped, each thing once, and what failed."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._noted: set[tuple[str, str]] = set()

    def counts(self) -> dict[str, int]:
        """Return the counts by reason."""
        return self._counts.copy()

    def count(self, reason: str) -> None:
        """Count one failure."""
        self._counts[reason] = self._counts.get(reason, 0) + 1

    def note(self, name: str, reason: str, what: str = "") -> None:
        """Count something about the file *name*, the first time."""
        if (name, reason + what) not in self._noted:
            self._noted.add((name, reason + what))
            self.count(reason)

    def forget(self, names: Iterable[str]) -> None:
        """Keep in mind only what concerns files that are still there."""
        there = {*names}
        self._noted = {noted for noted in self._noted if noted[0] in there}


class Reader:
    """Reads what other processes have counted."""

    def __init__(self, directory: SharedDirectory, problems: Problems) -> None:
        self._directory = directory
        self._problems = problems
        self._known: dict[str, Contents] = {}
        self._latest: dict[str, Contents] = {}

    def others(self, own_name: str) -> dict[str, Contents]:
        """Return all contents but those of *own_name*, by file, at one moment."""
        try:
            self._latest = self._read(own_name)
        except OSError:
            # To leave the others out now, and show them again the next time, would
            # look as if they had started again.
            self._problems.count("read_error")
        return self._latest

    def _read(self, own_name: str) -> dict[str, Contents]:
        while True:
            header = self._directory.header(ENDED)
            found = self._load(ENDED)
            folded = found[ENDED].folded if found else frozenset[str]()
            names = self._directory.names()
            for name in names:
                kind = kind_of(name)
                if kind == "process" and name != own_name and name not in folded:
                    found |= self._load(name)
                elif kind in (FOREIGN, FUTURE_VERSION):
                    self._problems.note(name, kind)
            # Numbers move from the files of processes into the one of those that
            # ended. If that is not the same any more, some may have been missed.
            if self._directory.header(ENDED) == header:
                self._known = found
                self._problems.forget(names)
                return found

    def _load(self, name: str) -> dict[str, Contents]:
        try:
            found = self._directory.read(name)
            if found is None:
                return {}
            contents = decode(found.data, self._known.get(name))
        except UnusableError as error:
            self._problems.note(name, str(error))
            return {}
        if not found.is_alive:
            contents = replace(contents, families=without_levels(contents.families))
        return {name: contents}


def without_levels(families: Families) -> Families:
    """Leave out what ends with a process: sums that go up and down."""
    return {shape: states for shape, states in families.items() if not shape.is_level}


def fold(directory: SharedDirectory, problems: Problems) -> None:
    """Move the numbers of processes that have ended into one file.

    Each step can be the last one of this process. Until the file is replaced, nothing
    has happened; from then on it says whose files are not to be read any more, and
    they are removed now or by whoever comes next. If somebody else is at it, this
    does nothing.
    """
    with directory.exclusive() as is_acquired:
        if is_acquired:
            names = directory.names()
            directory.remove_leftovers(names)
            with suppress(UnusableError):  # which is left to those who can read it
                _fold(directory, problems, names)


def _fold(directory: SharedDirectory, problems: Problems, names: list[str]) -> None:
    ended = _ended(directory, problems)
    new: dict[str, Contents] = {}
    useless = []
    for name in names:
        if kind_of(name) != "process":
            continue
        if name in ended.folded:
            useless.append(name)
            continue
        try:
            found = directory.read(name, also_alive=False)
            if found is not None:
                new[name] = decode(found.data)
        except UnusableError as error:
            problems.note(name, str(error))
            if str(error) == DAMAGED:
                useless.append(name)
    if new:
        data = _encode_sum(ended, new, folded=frozenset((*new, *useless)))
        release(directory.replace(ENDED, data))
    for name in (*new, *useless):
        directory.remove(name)


def _ended(directory: SharedDirectory, problems: Problems) -> Contents:
    found = directory.read(ENDED)
    if found is not None:
        try:
            return decode(found.data)
        except UnusableError as error:
            problems.note(ENDED, str(error))
            directory.set_aside(ENDED, ENDED_ASIDE)
    return Contents(b"", {})


def _encode_sum(
    ended: Contents, new: dict[str, Contents], folded: frozenset[str]
) -> bytes:
    families: Families = {shape: {**had} for shape, had in ended.families.items()}
    for contents in new.values():
        more = without_levels(contents.families)
        fold_into(families, more, MOST_ENDED_SERIES)
    starts = [each.start_ns for each in (ended, *new.values()) if each.start_ns]
    return encode(families, min(starts, default=0), folded)
