"""How numbers are written down: a line that says whose they are, then the metrics.

Everything is JSON: a line per metric, an object, and after it a line per series, an
array. What is read is checked in full, so that nothing can fail once it is added up.
Lines that have been read before are not read again: a scrape is as dear as what has
changed since the one before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeAlias
from zlib import crc32

from llmevents.metrics import Exemplar
from llmevents_prometheus._merge import Families, Shape, State, Tags


SCHEMA = 1
"""Version of the files. Files of later ones are left to those who know them."""

LARGEST = 2.0**1000
"""Of a number in a file; those of the store are far below, and can be added."""

Entry: TypeAlias = tuple[Tags, State]
"""A series as it is read from one line."""

DAMAGED = "damaged"
FOREIGN = "foreign"
FUTURE_VERSION = "future_version"
UNREADABLE = "unreadable"

MARK = b'{"format": "llmevents-prometheus", "schema": '
"""How each file begins."""


class UnusableError(Exception):
    """A file that is skipped; the reason is its only argument."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file says.

    Attributes:
        header: The first line, which no two files have in common.
        families: The numbers.
        start_ns: Since when they were counted, in Unix nanoseconds; 0 if unknown.
        folded: Of `ENDED`, files whose numbers are in this one, if they still exist.
        entries: The series by their lines.
    """

    header: bytes
    families: Families
    start_ns: int = 0
    folded: frozenset[str] = frozenset()
    entries: Mapping[str, Entry] = field(default_factory=dict)


def encode(families: Families, start_ns: int, folded: frozenset[str]) -> bytes:
    """Return the bytes of a file."""
    body = "\n".join(to_lines(families)).encode("ascii")
    header = {
        "format": "llmevents-prometheus",
        "schema": SCHEMA,
        "id": os.urandom(8).hex(),
        "crc32": crc32(body),
        "start_ns": start_ns,
        "folded": sorted(folded),
    }
    return json.dumps(header).encode("ascii") + b"\n" + body


def decode(data: bytes, known: Contents | None = None) -> Contents:
    """Return the contents of a file; *known* itself, if they are the same.

    Raises:
        UnusableError: They are damaged, foreign, or of a future version.
    """
    first, _, body = data.partition(b"\n")
    if known is not None and known.header == first:
        return known
    if not data.startswith(MARK) and not MARK.startswith(data):
        raise UnusableError(FOREIGN)
    try:
        header = json.loads(first)
        is_future = header["schema"] > SCHEMA
        entries = {} if known is None else known.entries
        contents = None if is_future else _decode(first, header, body, entries)
    except Exception as error:
        raise UnusableError(DAMAGED) from error
    if contents is None:
        raise UnusableError(FUTURE_VERSION)
    return contents


def _decode(
    first: bytes, header: dict[str, Any], body: bytes, known: Mapping[str, Entry]
) -> Contents:
    if header["crc32"] != crc32(body):
        msg = "the checksum is another one"
        raise ValueError(msg)
    families, entries = from_lines(body.decode("ascii").splitlines(), known)
    start_ns, folded = int(header["start_ns"]), map(str, header["folded"])
    return Contents(first, families, start_ns, frozenset(folded), entries)


def to_lines(families: Families) -> list[str]:
    """Return a line of JSON per metric, and one for each of its series."""
    encode_json = json.JSONEncoder(allow_nan=False).encode
    lines = []
    for shape, states in families.items():
        lines.append(encode_json(shape._asdict()))
        lines += [
            encode_json(_series_to_json(tags, state)) for tags, state in states.items()
        ]
    return lines


def _series_to_json(tags: Tags, state: State) -> list[object]:
    exemplars = [
        [key, exemplar.value, exemplar.time_ns, dict(exemplar.attributes)]
        for key, exemplar in state.exemplars.items()
    ]
    counts = [*state.counts.items()]
    return [dict(tags), state.parts, counts, state.time_ns, exemplars]


def from_lines(
    lines: Iterable[str], known: Mapping[str, Entry]
) -> tuple[Families, dict[str, Entry]]:
    """Return what `to_lines` was given, and the series by their lines.

    Args:
        lines: The text.
        known: Lines that were read before.

    Raises:
        ValueError: This is not what `to_lines` writes. Foreign text may raise other
            errors as well.
    """
    families: Families = {}
    entries: dict[str, Entry] = {}
    states: dict[Tags, State] | None = None
    for line in lines:
        if line.startswith("{"):
            states = families.setdefault(_shape_from_json(json.loads(line)), {})
            continue
        entry = known.get(line)
        if entry is None:
            entry = _series_from_json(json.loads(line))
        if states is None:
            msg = f"expected a metric before {line!r}"
            raise ValueError(msg)
        entries[line] = entry
        states[entry[0]] = entry[1]
    return families, entries


def _shape_from_json(entry: Mapping[str, Any]) -> Shape:
    names = entry["tag_names"]
    return Shape(
        name=_text(entry["name"]),
        kind=_text(entry["kind"]),
        unit=_text(entry["unit"]),
        scale=_text(entry["scale"]),
        is_monotonic=bool(entry["is_monotonic"]),
        tag_names=None if names is None else tuple(map(_text, names)),
        buckets=tuple(map(_number, entry["buckets"])),
    )


def _series_from_json(entry: Sequence[Any]) -> Entry:
    tags, parts, counts, time_ns, exemplars = entry
    state = State(
        tuple(map(_number, parts)),
        {_integer(key): _integer(count) for key, count in counts},
        _integer(time_ns),
        {
            _integer(key): Exemplar(_number(value), _integer(when), dict(_tags(more)))
            for key, value, when, more in exemplars
        },
    )
    return _tags(tags), state


def _tags(tags: Mapping[object, object]) -> Tags:
    return tuple(sorted((_text(key), _text(value)) for key, value in tags.items()))


def _text(value: object) -> str:
    if type(value) is not str:
        msg = f"expected text, got {value!r}"
        raise ValueError(msg)
    return value


def _integer(value: object) -> int:
    if type(value) is not int:
        msg = f"expected an integer, got {value!r}"
        raise ValueError(msg)
    return value


def _number(value: object) -> int | float:
    if isinstance(value, float) and isfinite(value) and abs(value) <= LARGEST:
        return value
    if type(value) is int and abs(value) <= LARGEST:
        return value
    msg = f"expected a finite number, got {value!r}"
    raise ValueError(msg)
