"""Writes the source of plans.

First comes what calls functions: values are read and checked, tags read, buckets
found. Then each group of metrics that share their tags looks up its row and adds to
it, and calls nothing in between: see `llmevents.metrics._shards` for why that matters.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from time import time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from llmevents._types import Metadata
from llmevents.metrics._cells import source_bounds
from llmevents.metrics._definitions import (
    Counter,
    Distribution,
    LastValue,
    Metric,
    Sum,
    Summary,
)
from llmevents.metrics._groups import Group
from llmevents.metrics._histogram import key_of
from llmevents.metrics._numbers import ABSENT, INTEGER_BITS, Checks
from llmevents.metrics._series import Exemplar
from llmevents.metrics._tags import ComputedTags, KeyedTags, TagReader, tag_text
from llmevents.metrics._units import convert


if TYPE_CHECKING:
    from llmevents.metrics._admission import FamilySlots, Slot
    from llmevents.metrics._shards import ShardSet

ExemplarSource: TypeAlias = Callable[[Metadata], Mapping[str, str] | None]
"""An event's metadata to ``trace_id`` and ``span_id``; None where there is no trace."""

_next_number = itertools.count(1).__next__
_next_stamp = itertools.count(1).__next__


@dataclass(frozen=True, slots=True)
class Member:
    """A metric in the plan of an event.

    Attributes:
        definition: The metric.
        family: The series that it feeds.
        factor: What its values are multiplied by so that they are in the unit that
            the family adds up: not 1 only if definitions of one name convert from
            different units.
    """

    definition: Metric
    family: FamilySlots

    @property
    def factor(self) -> Fraction:
        return self.definition.scale / self.family.definition.scale


@dataclass(slots=True)
class Runtime:
    """What compiled plans work with.

    Attributes:
        shards: Where the rows are.
        checks: What checks values that are no plain integers.
        max_series: Limit of the series of each metric.
        exemplars: Where to find the trace of an event; None for nowhere.
        on_first_event: Called when a thread records for the first time.
    """

    shards: ShardSet
    checks: Checks
    max_series: int
    exemplars: ExemplarSource | None = None
    on_first_event: tuple[Callable[[], object], ...] = ()

    def first_event(self) -> None:
        """Tell those who want to know that a thread records for the first time."""
        for callback in self.on_first_event:
            # An event is not to be lost for it.
            with suppress(Exception):
                callback()


class PlanWriter:
    """Writes the source of one plan.

    Attributes:
        namespace: What the source refers to by name.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._prepare: list[str] = []
        self._add: list[str] = []
        self._known: dict[object, str] = {}
        self._can_fail = False
        self.namespace: dict[str, Any] = {
            "ABSENT": ABSENT,
            "bisect_left": bisect_left,
            "growing": runtime.checks.growing,
            "key_of": key_of,
            "local": runtime.shards.local,
            "next_stamp": _next_stamp,
            "runtime": runtime,
            "signed": runtime.checks.signed,
            "tag_text": tag_text,
        }

    def source(self) -> str:
        """Return the source of a function ``record``."""
        body = [*self._prepare, *self._add]
        if self._can_fail:
            body = [
                "failure = None",
                *body,
                "if failure is not None:",
                "    raise failure",
            ]
        lines = "\n".join(f"    {line}" for line in body)
        return f"def record(event, measurements, metadata, config):\n{lines}\n"

    def add_group(self, members: Sequence[Member]) -> None:
        """Write what the metrics of one group take from an event."""
        first = members[0].definition
        condition = self._predicate(first.keep)
        values = [self._value(member, condition) for member in members]
        reader, key = self._tags(first, self._any(condition, values))
        families = [member.family for member in members]
        name = f"g{_next_number()}"
        runtime = self._runtime
        # Twice the series: text that is cleaned may differ and mean the same.
        most = 2 * runtime.max_series
        group = Group(
            name,
            families,
            reader,
            runtime.shards,
            most=most,
            first_event=runtime.first_event,
        )
        updates = []
        afterwards = []
        for position, member in enumerate(members):
            # Values are in the unit of the family by now.
            shared, value = member.family.definition, values[position]
            updates += self._update(shared, value, group.places[position])
            afterwards += self._exemplify(shared, value, position)
        opener = self._bind("open", group.open)
        lines = [
            "while True:",
            "    try:",
            f"        row = local.{name}[{key}]",
            "        break",
            "    except (KeyError, AttributeError):",
            f"        row = {opener}({key})",
            "        if row is not None:",
            "            break",
            *updates,
            *afterwards,
        ]
        names = ", ".join(dict.fromkeys(member.definition.name for member in members))
        self._add.append(f"# {ascii(names)[1:-1]}")
        self._add += _under(self._any(condition, values, key), lines)

    def _any(self, condition: str, values: Sequence[str], key: str = "") -> str:
        """Return on what terms a group has something to add; empty for always."""
        terms = [condition] if condition else []
        if key.startswith("k"):
            terms.append(f"{key} is not None")
        if "1" not in values:
            present = " or ".join(
                f"{value} is not None" for value in dict.fromkeys(values)
            )
            terms.append(f"({present})" if terms else present)
        return " and ".join(terms)

    def _predicate(self, keep: object) -> str:
        if keep is None:
            return ""
        return self._call("p", keep, otherwise="False")

    def _value(self, member: Member, condition: str) -> str:
        """Write how the value of *member* is read; return the variable it is in."""
        definition = member.definition
        if isinstance(definition, Counter):
            return "1"
        grows = isinstance(definition, Sum) and definition.monotonic
        check = "growing" if grows else "signed"
        source = definition.measurement
        if isinstance(source, str):
            value = self._measurement(source, check)
        else:
            after = ("if {0} is not None:", f"    {{0}} = {check}({{0}})")
            value = self._call("v", source, condition=condition, after=after)
        if member.factor == 1:
            return value
        return self._rescaled(value, member.factor)

    def _measurement(self, key: str, check: str) -> str:
        known = (key, check)
        if known not in self._known:
            name = self._known[known] = self._new("v")
            self._prepare += [
                f"{name} = measurements.get({key!a}, ABSENT)",
                f"if type({name}) is not int or {name} >> {INTEGER_BITS}:",
                f"    {name} = {check}({name})",
            ]
        return self._known[known]

    def _rescaled(self, value: str, factor: Fraction) -> str:
        known = (value, factor)
        if known not in self._known:
            name = self._known[known] = self._new("v")
            convert_ = self._bind("convert", convert)
            by = self._bind("factor", factor)
            self._prepare.append(
                f"{name} = None if {value} is None else {convert_}({value}, {by})"
            )
        return self._known[known]

    def _tags(self, definition: Metric, condition: str) -> tuple[TagReader, str]:
        """Write how tags are read; return who knows them, and the key's expression."""
        if isinstance(definition.tags, tuple):
            names = [self._tag(tag) for tag in definition.tags]
            reader = KeyedTags(definition.tags, definition.constant_tags)
            return reader, f"({', '.join(names)},)" if names else "()"
        computed = ComputedTags(definition.tags, definition.constant_tags)
        # The function's identity, not that of the bound method, which is new each time.
        key = self._call(
            "k",
            computed.key,
            condition=condition,
            identity=identity_of(definition.tags),
        )
        return computed, key

    def _tag(self, tag: str) -> str:
        known = ("tag", tag)
        if known not in self._known:
            name = self._known[known] = self._new("t")
            self._prepare += [
                f"{name} = metadata.get({tag!a})",
                f"if type({name}) is not str and {name} is not None:",
                f"    {name} = tag_text({tag!a}, {name})",
            ]
        return self._known[known]

    def _call(
        self,
        prefix: str,
        function: object,
        *,
        condition: str = "",
        otherwise: str = "None",
        after: Sequence[str] = (),
        identity: object = None,
    ) -> str:
        """Write a call of a user's function, whose failure costs no other metric."""
        known = (prefix, identity or identity_of(function), condition, tuple(after))
        if known in self._known:
            return self._known[known]
        self._can_fail = True
        name = self._known[known] = self._new(prefix)
        bound = self._bind("function", function)
        self._prepare.append(f"{name} = {otherwise}")
        self._prepare += _under(
            condition,
            [
                "try:",
                f"    {name} = {bound}(measurements, metadata)",
                "except Exception as error:",
                "    failure = failure or error",
                *(line.format(name) for line in after),
            ],
        )
        return name

    def _update(self, definition: Metric, value: str, at: int) -> list[str]:
        """Write what is worked out beforehand; return the lines that add to the row."""
        if isinstance(definition, Distribution):
            return self._add_to_buckets(definition, value, at)
        if isinstance(definition, Summary):
            return self._add_to_summary(definition, value, at)
        if isinstance(definition, LastValue):
            stamped = self._derived(
                ("stamp", value), "s", f"(next_stamp(), {value})", value
            )
            return [f"if {value} is not None:", f"    row[{at}] = {stamped}"]
        add = f"row[{at}] += {value}"
        return [add] if value == "1" else [f"if {value} is not None:", f"    {add}"]

    def _add_to_buckets(
        self, definition: Distribution, value: str, at: int
    ) -> list[str]:
        bucket = self._bucket(definition, value)
        place = f"{at} + {bucket}" if at else bucket
        return [
            f"if {value} is not None:",
            f"    row[{place}] += 1",
            f"    row[{at + len(definition.buckets) + 1}] += {value}",
        ]

    def _bucket(self, definition: Distribution, value: str) -> str:
        bounds = source_bounds(definition)
        known = ("bounds", bounds)
        if known not in self._known:
            self._known[known] = self._bind("bounds", bounds)
        found = f"bisect_left({self._known[known]}, {value})"
        return self._derived(("bucket", value, bounds), "b", found, value)

    def _exemplify(self, definition: Metric, value: str, position: int) -> list[str]:
        """Return the lines that keep an exemplar, after all values are in."""
        if not isinstance(definition, Distribution):
            return []
        keep = self._bind("keep", _exemplar_keeper(self._runtime, definition))
        bucket = self._bucket(definition, value)
        return [
            f"if runtime.exemplars is not None and {value} is not None:",
            f"    {keep}(metadata, row[-1][{position}], {bucket}, {value})",
        ]

    def _add_to_summary(self, definition: Summary, value: str, at: int) -> list[str]:
        scale = definition.scale
        factor = float(scale)
        shown = value if scale == 1 else f"{value} * {factor!r}"
        key = self._derived(("key", value, factor), "h", f"key_of({shown})", value)
        return [
            f"if {value} is not None:",
            f"    row[{at}][{key}] += 1",
            f"    row[{at + 1}] += {value}",
        ]

    def _derived(self, known: object, prefix: str, expression: str, value: str) -> str:
        if known not in self._known:
            name = self._known[known] = self._new(prefix)
            self._prepare.append(f"{name} = None if {value} is None else {expression}")
        return self._known[known]

    def _new(self, prefix: str) -> str:
        return f"{prefix}{len(self._known)}"

    def _bind(self, hint: str, value: object) -> str:
        name = f"{hint}{len(self.namespace)}"
        self.namespace[name] = value
        return name


def identity_of(function: object) -> object:
    """Return what stands for *function* among others: itself, if it has a hash."""
    try:
        hash(function)
    except TypeError:
        return id(function)
    return function


def _under(condition: str, lines: Sequence[str]) -> list[str]:
    if not condition:
        return list(lines)
    return [f"if {condition}:", *(f"    {line}" for line in lines)]


def _exemplar_keeper(
    runtime: Runtime, definition: Distribution
) -> Callable[[Metadata, Slot, int, float], None]:
    shards, scale = runtime.shards, definition.scale

    def keep(metadata: Metadata, slot: Slot, bucket: int, value: float) -> None:
        source = runtime.exemplars
        # An exemplar is not worth an event's other metrics.
        with suppress(Exception):
            trace = None if source is None else source(metadata)
            if trace is not None:
                found = Exemplar(
                    convert(value, scale), time_ns(), MappingProxyType(dict(trace))
                )
                shards.mine().exemplars[slot, bucket] = found

    return keep
