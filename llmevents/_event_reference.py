"""The event reference: the catalogue as Markdown, plain lines or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby

from llmevents._declarations import DeclaredEvent


INTRODUCTION = """\
# Event reference

Generated from the catalogue, `llmevents.events`, by `llmevents events --format markdown`.

Every event may carry, beside the metadata listed here, what `llmevents.context`
adds: `user_id`, `session_id`, `organization_id`, `task_id`, `source_id`,
`source_function` and keys of your own. A measurement or key that is unknown is
absent, never 0. The unit `nano_usd` is a thousand-millionth of a US dollar.
*Experimental* events may still change; *stable* ones do not within a major version.
"""


def as_markdown(events: Iterable[DeclaredEvent]) -> str:
    """Return the reference; events that differ in their last segment share a section."""
    sections = [INTRODUCTION]
    for family, members in groupby(events, key=_family):
        sections.append("\n".join(_section(family, list(members))))
    return "\n".join(sections)


def as_text(events: Iterable[DeclaredEvent]) -> str:
    """Return one line per event: name, stability, measurements with units."""
    lines = []
    for event in events:
        units = ", ".join(
            f"{key} [{measurement.unit}]"
            for key, measurement in event.measurements.items()
        )
        lines.append(f"{event.name}  ({event.stability})  {units}".rstrip())
    return "\n".join(lines)


def as_json(events: Iterable[DeclaredEvent]) -> str:
    """Return a JSON list of events with everything that is declared."""
    return json.dumps([_plain(event) for event in events], indent=2)


def _plain(event: DeclaredEvent) -> dict[str, object]:
    return {
        "name": event.name,
        "description": event.description,
        "stability": event.stability,
        "emitted_by": event.emitted_by,
        "measurements": {
            key: asdict(measurement) for key, measurement in event.measurements.items()
        },
        "metadata": dict(event.metadata),
    }


def _family(event: DeclaredEvent) -> str:
    return event.name.rpartition(".")[0]


def _section(family: str, events: list[DeclaredEvent]) -> Iterator[str]:
    yield f"## `{family}`\n"
    stabilities = " and ".join(dict.fromkeys(event.stability for event in events))
    emitters = " and ".join(dict.fromkeys(event.emitted_by for event in events))
    yield f"*{stabilities.capitalize()}.* Emitted by {emitters}.\n"
    for event in events:
        yield f"- `{event.name}`: {event.description}"
    yield ""
    yield from _table(
        ("measurement", "unit", "in", "meaning"),
        [
            (f"`{key}`", f"`{unit}`", phases, meaning)
            for (key, unit, meaning), phases in _by_event(events, "measurements")
        ],
    )
    yield from _table(
        ("metadata", "in", "meaning"),
        [
            (f"`{key}`", phases, meaning)
            for (key, _, meaning), phases in _by_event(events, "metadata")
        ],
    )


def _by_event(
    events: list[DeclaredEvent], what: str
) -> list[tuple[tuple[str, str, str], str]]:
    """Return each distinct (key, unit, meaning) with the events that have it."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for event in events:
        if what == "measurements":
            rows = [
                (key, measurement.unit, measurement.description)
                for key, measurement in event.measurements.items()
            ]
        else:
            rows = [(key, "", meaning) for key, meaning in event.metadata.items()]
        for row in rows:
            found.setdefault(row, []).append(event.name.rpartition(".")[2])
    return [
        (row, "all" if len(names) == len(events) else ", ".join(names))
        for row, names in found.items()
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"
    yield ""
