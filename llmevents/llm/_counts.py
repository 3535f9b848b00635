"""Shapes, compiled: reading a usage object costs one pass over what it states."""

from __future__ import annotations

import re
from collections.abc import Collection

from llmevents.llm._fields import (
    MOST,
    Fields,
    Path,
    as_stated,
    as_text,
    dig,
    fields,
    look_up,
    scaled,
    stated_in,
)
from llmevents.llm._shape import Shape
from llmevents.llm._sums import Slots, Sum, Term, add_up, first_sum, ordered


MODALITIES = {1: "TEXT", 2: "IMAGE", 3: "VIDEO", 4: "AUDIO", 5: "DOCUMENT"}
"""Vertex' enumeration ``Modality``, of which some JSON has the numbers
(google.cloud.aiplatform.v1, ``content.proto``)."""

NANOSECONDS = 1_000_000_000

IN_SECONDS = frozenset({"duration", "prompt_audio_seconds", "seconds"})
"""Keys of durations; all others are of counts."""


class _Branch:
    """What a key of a usage object leads to.

    Attributes:
        slots: Key of a count -> its slot.
        timed: Key of a duration in seconds -> its slot.
        below: Key -> what it leads to.
        others: The keys of `timed` and `below`.
        by_kind: Of a list: kind of an item, "" for none -> path of the count, slot.
    """

    __slots__ = ("below", "by_kind", "others", "slots", "timed")

    def __init__(self) -> None:
        self.slots: dict[str, int] = {}
        self.timed: dict[str, int] = {}
        self.below: dict[str, _Branch] = {}
        self.others: set[str] = set()
        self.by_kind: dict[str, tuple[Path, int]] = {}


class Plan:
    """A shape, compiled.

    Attributes:
        shape: Of which shape it is.
        marks: An object that has one of these keys is of this shape.
        keys: The keys that a usage object of this shape may have.
    """

    __slots__ = (
        "_any_of",
        "_root",
        "_slots",
        "_sums",
        "_total",
        "keys",
        "marks",
        "shape",
    )

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.marks = (*shape.keys, *(_snake(key) for key in shape.keys if shape.snake))
        self._slots: dict[str, int] = {}
        parsed = {field: self._parse(text) for field, text in shape.counts.items()}
        self._root = _Branch()
        for path, slot in self._slots.items():
            _plant(self._root, path, slot)
            if shape.snake:
                _plant(self._root, _snake(path), slot)
        self.keys = (*self._root.slots, *self._root.others)
        self._total = self._slots.get(shape.counts.get("total_tokens", ""), -1)
        self._any_of = tuple(
            (field, tuple(terms[0].slot for terms in sums))
            for field, sums in parsed.items()
            if self._is_plain(field)
        )
        self._sums = tuple(
            (field, sums, 0 if field in shape.zero else None)
            for field, sums in ordered(parsed)
            if not self._is_plain(field)
        )

    def slots(self) -> Slots:
        """Return slots in which nothing is known."""
        return [None] * len(self._slots)

    def slot_of(self, path: str) -> int:
        """Return the number of the slot of *path*."""
        return self._slots[path]

    def merge(self, usage: Fields, slots: Slots, source: object) -> bool:
        """Take over what *usage* states; what it does not state stays as it was.

        A total that is not stated again is dropped: what it was the total of may
        have changed since.

        Args:
            usage: The fields of a usage object.
            slots: Where to put the counts.
            source: The object that has these fields, if it may be a pydantic model.

        Returns:
            Whether *usage* states any count.
        """
        total = slots[self._total] if self._total >= 0 else None
        if total is None:
            return _merge(self._root, usage, slots, self.shape.kind, source)
        slots[self._total] = None
        found = _merge(self._root, usage, slots, self.shape.kind, source)
        if not found:
            slots[self._total] = total
        return found

    def evaluate(self, slots: Slots) -> dict[str, int]:
        """Return what is known, by field; names of the shape's own are left out."""
        known: dict[str, int] = {}
        for field, choices in self._any_of:
            for slot in choices:
                count = slots[slot]
                if count is not None:
                    known[field] = count
                    break
        for field, sums, unknown in self._sums:
            count = first_sum(sums, slots, known)
            if count is None and unknown is not None:
                count = add_up(sums[0], slots, known, unknown)
            if count is not None:
                known[field] = count
        for field in self.shape.inner:
            known.pop(field, None)
        return known

    def _parse(self, expression: str) -> tuple[Sum, ...]:
        """Return the sums to try, one after the other, and number their paths."""
        return tuple(
            tuple(self._term(term.strip()) for term in alternative.split(" + "))
            for alternative in expression.split(" | ")
        )

    def _term(self, text: str) -> Term:
        if text.startswith("="):
            return Term(-1, text[1:])
        return Term(self._slots.setdefault(text, len(self._slots)), "")

    def _is_plain(self, field: str) -> bool:
        """Whether each alternative of *field* is a single path."""
        expression = self.shape.counts[field]
        is_plain = "=" not in expression and " + " not in expression
        return is_plain and field not in self.shape.zero


def _snake(path: str) -> str:
    """Return *path* with ``promptTokenCount`` as ``prompt_token_count``; kinds stay."""
    return _HUMP.sub(lambda hump: f"_{hump[0].lower()}", path)


_HUMP = re.compile("(?<=[a-z])[A-Z]")


def _plant(branch: _Branch, path: str, slot: int) -> None:
    """Let *path* lead from *branch* to *slot*."""
    *above, last = path.split(".")
    for place, key in enumerate(above, start=1):
        name, is_list, kind = key.partition("[")
        branch.others.add(name)
        branch = branch.below.setdefault(name, _Branch())
        if is_list:
            branch.by_kind[kind.rstrip("]")] = ((*above[place:], last), slot)
            return
    if last in IN_SECONDS:
        branch.timed[last] = slot
        branch.others.add(last)
    else:
        branch.slots[last] = slot


def _merge(
    branch: _Branch,
    found: Fields,
    slots: Slots,
    kind: tuple[str, ...],
    source: object,
) -> bool:
    """Put what is *found* in *source* into *slots*; whether it states anything."""
    if not isinstance(found, dict):
        found = {key: found.get(key) for key in (*branch.slots, *branch.others)}
    given: Collection[str] | None = found if source is found else None
    any_stated = False
    for key, value in found.items():
        slot = branch.slots.get(key)
        if slot is None or value is None:
            if value is not None and key in branch.others:
                any_stated |= _merge_other(branch, key, value, slots, kind)
            continue
        count = value if type(value) is int and 0 <= value <= MOST else as_stated(value)
        if count == 0 and given is not found:
            # A default that the SDK has put there is not stated by anybody.
            given = _given(source, found) if given is None else given
            if key not in given:
                continue
        if count is not None:
            slots[slot] = count
            any_stated = True
    return any_stated


def _merge_other(
    branch: _Branch, key: str, value: object, slots: Slots, kind: tuple[str, ...]
) -> bool:
    """Put a duration, or what is below *key*, into *slots*."""
    below = branch.below.get(key)
    if below is None:
        duration = scaled(value, NANOSECONDS)
        if duration is not None:
            slots[branch.timed[key]] = duration
        return duration is not None
    if below.by_kind:
        return _merge_items(below, value, slots, kind)
    found = fields(value)
    return found is not None and _merge(below, found, slots, kind, value)


def _given(source: object, found: Collection[str]) -> Collection[str]:
    """Return the keys of *found* that were stated, and are no defaults of a model."""
    given = stated_in(source)
    return found if given is None else given


def _merge_items(
    branch: _Branch, items: object, slots: Slots, kind: tuple[str, ...]
) -> bool:
    """Put the sum of each kind that is asked for into its slot."""
    sums: dict[int, int] = {}
    for item in items if isinstance(items, (list, tuple)) else ():
        wanted = branch.by_kind.get(_kind(item, kind))
        count = None if wanted is None else as_stated(dig(item, wanted[0]))
        if wanted is not None and count is not None:
            sums[wanted[1]] = sums.get(wanted[1], 0) + count
    for slot, count in sums.items():
        slots[slot] = count
    return bool(sums)


def _kind(item: object, keys: tuple[str, ...]) -> str:
    for key in keys:
        kind = look_up(item, key)
        if isinstance(kind, int):
            kind = MODALITIES.get(kind)
        text = as_text(kind)
        if text is not None:
            return text.upper()
    return ""
