"""The plan: what to do at an event, worked out once for all metrics together.

It is written as Python source, as `dataclasses` writes ``__init__``, and compiled:
`Plan.source` is what runs.
"""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmevents._types import Handler
from llmevents.metrics._writer import Member, PlanWriter, Runtime, identity_of


_next_number = itertools.count(1).__next__


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do at an event.

    Attributes:
        record: Does it. Raises what the first of the users' functions raised.
        source: As Python text.
    """

    record: Handler
    source: str


def compile_plan(members: Sequence[Member], runtime: Runtime) -> Plan:
    """Return the plan for an event that all *members* take something from."""
    writer = PlanWriter(runtime)
    for group in _grouped(members):
        writer.add_group(group)
    source = writer.source()
    filename = f"<llmevents plan {_next_number()}>"
    linecache.cache[filename] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        filename,
    )
    namespace = writer.namespace
    exec(compile(source, filename, "exec"), namespace)  # noqa: S102  # the text is ours: users' names are in it as literals only
    return Plan(namespace["record"], source)


def _grouped(members: Iterable[Member]) -> list[list[Member]]:
    """Return members that read the same tags, under the same condition, together."""
    groups: dict[object, list[Member]] = {}
    for member in members:
        definition = member.definition
        key = (
            identity_of(definition.tags),
            definition.constant_tags,
            identity_of(definition.keep),
        )
        groups.setdefault(key, []).append(member)
    return list(groups.values())
