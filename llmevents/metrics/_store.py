"""The metric store: definitions in, series out, and nothing kept per event."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from llmevents import _forksafe
from llmevents._clock import SYSTEM_CLOCK, Clock
from llmevents._errors import MetricDefinitionError, OptionError
from llmevents._names import matches, parse_name
from llmevents._options import check_seconds
from llmevents.metrics._admission import FamilySlots
from llmevents.metrics._definitions import Definition, Metric
from llmevents.metrics._expiry import Expiry
from llmevents.metrics._numbers import Checks
from llmevents.metrics._plan import Plan, compile_plan
from llmevents.metrics._series import Exemplar, Family, Series, Snapshot
from llmevents.metrics._shards import ShardSet
from llmevents.metrics._writer import ExemplarSource, Member, Runtime


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._subscription import Subscription
    from llmevents._types import EventName, Handler, Measurements, Metadata, Name
    from llmevents.metrics._admission import Slot
    from llmevents.metrics._cells import State

MAX_SERIES = 2000
"""Series per metric; the default limit of OpenTelemetry's SDK specification."""

CACHE_LIMIT = 4096
"""Event names whose plan is remembered; for further ones it is looked up each time."""

_NONE: Mapping[int, Exemplar] = MappingProxyType({})

_next_id = itertools.count(1).__next__


class MetricStore:
    """Aggregates what metrics are defined to take from events, for all reporters.

    Recording takes no lock and may happen anywhere, finalizers and signal handlers
    included: each thread adds to a shard of its own, and an event that comes up
    while its thread is recording waits in the shard until that is done. Totals are
    exact for any number of threads, also of threads that have ended. A forked child
    starts at 0, for its parent reports what was before.

    What a user's function (*measurement*, *tags*, *keep*, *drop*) raises costs its
    own metric the event and goes to the bus, which counts and reports it.

    Args:
        definitions: What to aggregate. Equal ones count once. Those of one name
            feed one set of series, and must agree in type, unit, names of tags and
            *monotonic*.
        max_series: Limit of the series of each metric. What is past it goes into
            one more series, whose tags are all ``"__overflow__"``, so that totals
            stay exact.
        max_idle: Seconds after which a series that has not changed is forgotten,
            when somebody reads; by default none is. It starts at 0 if there are
            events for it again. What comes in meanwhile is not lost.
        clock: Tells the time of snapshots; for tests.

    Raises:
        MetricDefinitionError: Definitions of one name do not agree.
        OptionError: *max_series* is not a positive integer, or *max_idle* not a
            positive number of seconds.
    """

    __slots__ = (
        "__weakref__",
        "_by_definitions",
        "_checks",
        "_clock",
        "_expiry",
        "_families",
        "_id",
        "_recorder",
        "_runtime",
        "_shards",
        "_start_ns",
        "_subscriptions",
        "definitions",
    )

    def __init__(
        self,
        definitions: Iterable[Metric],
        *,
        max_series: int = MAX_SERIES,
        max_idle: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if type(max_series) is not int or max_series < 1:
            raise OptionError(max_series, "max_series", "a positive integer")
        if max_idle is not None:
            check_seconds(max_idle, "max_idle")
        distinct: list[Metric] = []
        families: dict[str, FamilySlots] = {}
        for definition in definitions:
            _check(definition)
            if definition in distinct:
                continue
            distinct.append(definition)
            family = families.setdefault(
                definition.name, FamilySlots(definition, max_series)
            )
            _check_agreement(family.definition, definition)
        self.definitions = tuple(distinct)
        self._families = families
        self._shards = ShardSet()
        self._checks = Checks()
        self._runtime = Runtime(self._shards, self._checks, max_series)
        self._recorder = _Recorder(self._compile)
        self._by_definitions: dict[tuple[int, ...], Plan] = {}
        self._clock = clock
        self._expiry = None if max_idle is None else Expiry(max_idle, clock)
        self._start_ns = clock.time_ns()
        self._id = f"llmevents.metrics.{_next_id()}"
        self._subscriptions: list[Subscription] = []
        _forksafe.registry.register(self)

    @property
    def refused(self) -> int:
        """How many values could not be taken in.

        NaN, infinity, booleans, None and text; integers beyond 64 bits, and floats
        beyond 1e290, of which a few could make a sum infinite; negative values of a
        monotonic sum.
        """
        return self._checks.refused.value()

    @property
    def skipped(self) -> int:
        """How often an event lacked the measurement that a metric is made of."""
        return self._checks.skipped.value()

    @property
    def overflowing(self) -> tuple[str, ...]:
        """The metrics that have more series than they may."""
        return tuple(name for name, family in self._families.items() if family.is_full)

    def attach(self, bus: Bus) -> None:
        """Take in the events of *bus* from now on; of several, if called again.

        Raises:
            HandlerExistsError: The store is attached to *bus* already.
        """
        events: list[EventName | str] = [
            *dict.fromkeys(event for each in self.definitions for event in each.events)
        ]
        if events:
            self._subscriptions.append(bus.attach(self._id, events, self._recorder))

    def detach(self) -> None:
        """Take in no more events. What came together stays."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.detach()

    def snapshot(self) -> Snapshot:
        """Return all series as they are now, without disturbing those who record.

        Safe in any thread while events come in. Every counter and every monotonic
        sum is at least what it was in an earlier snapshot.
        """
        states = self._states()
        exemplars = self._shards.exemplars() if self._runtime.exemplars else {}
        families = {}
        for name, slots in self._families.items():
            value, scale = slots.kind.value, slots.definition.scale
            series = [
                Series(
                    MappingProxyType(slot.tags),
                    value(states[slot]),
                    scale,
                    exemplars.get(slot, _NONE),
                    slot.epoch,
                )
                for slot in slots.slots()
                if slot in states
            ]
            families[name] = Family(slots.definition, tuple(series))
        now = self._clock.time_ns()
        return Snapshot(MappingProxyType(families), self._start_ns, now)

    def deltas(self, cursor: Snapshot | None = None) -> tuple[Snapshot, Snapshot]:
        """Return what came in after *cursor*, and the cursor for the next time.

        Args:
            cursor: What this returned before; None for everything from the start.
        """
        now = self.snapshot()
        return now.since(cursor), now

    def exemplify(self, source: ExemplarSource | None) -> None:
        """Ask *source* for the trace of each event from now on, or nobody.

        Args:
            source: Gets the event's metadata, returns ``trace_id`` and ``span_id`` as
                lower-case hexadecimal, or None if there is no trace to show. Runs in
                whatever thread emits, for events that feed distributions.
        """
        self._runtime.exemplars = source

    def on_first_event(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have *callback* called when a thread records for the first time.

        In a forked child that is at its first event: who reads the store in a thread
        can start it there again, and nothing is paid for other events. It may be
        called more than once, in the thread that emits, which goes on afterwards. What
        it raises is dropped.

        Returns:
            What ends it.
        """
        self._runtime.on_first_event += (callback,)

        def end() -> None:
            kept = (one for one in self._runtime.on_first_event if one is not callback)
            self._runtime.on_first_event = tuple(kept)

        return end

    def prune(self, tags: Mapping[str, str]) -> int:
        """Forget all series that have *tags*, of all metrics; return how many.

        They start at 0 if there are events for them again, and there is room for as
        many others. What an event adds while this runs may be forgotten as well.
        """
        wanted = set(tags.items())
        gone = [
            slot
            for family in self._families.values()
            for slot in family.slots()
            if not slot.is_overflow and wanted <= set(slot.tags.items())
        ]
        return self._forget(gone)

    def source(self, event: Name) -> str:
        """Return what runs at *event*, as Python source; for debugging."""
        return self._compile(parse_name(event)).source

    def after_fork_in_child(self) -> None:
        """Start at 0, without the locks and the threads of the parent."""
        self._shards.clear()
        self._checks.clear()
        self._start_ns = self._clock.time_ns()
        for family in self._families.values():
            family.clear()
        if self._expiry is not None:
            self._expiry.clear()

    def _states(self) -> dict[Slot, State]:
        states = self._shards.states()
        if self._expiry is not None:
            expired = self._expiry.find(states)
            if expired:
                self._forget(expired, states)
                states = self._shards.states()
        return states

    def _forget(
        self, slots: Iterable[Slot], expected: Mapping[Slot, State] | None = None
    ) -> int:
        gone = frozenset(slot for slot in slots if slot.family.remove(slot))
        if gone:
            self._shards.forget(gone, expected)
        return len(gone)

    def _compile(self, event: EventName) -> Plan:
        chosen = tuple(
            position
            for position, definition in enumerate(self.definitions)
            if any(matches(pattern, event) for pattern in definition.events)
        )
        plan = self._by_definitions.get(chosen)
        if plan is None:
            definitions = (self.definitions[position] for position in chosen)
            members = [Member(each, self._families[each.name]) for each in definitions]
            plan = compile_plan(members, self._runtime)
            plan = self._by_definitions.setdefault(chosen, plan)
        return plan


class _Recorder:
    """The store's handler: the bus asks it for what to call at each event's name."""

    __slots__ = ("_compile", "_known")

    def __init__(self, compile_: Callable[[EventName], Plan]) -> None:
        self._compile = compile_
        self._known: dict[EventName, Handler] = {}

    def __call__(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,
    ) -> None:
        self.__llmevents_handler_for__(event)(event, measurements, metadata, config)

    def __llmevents_handler_for__(self, event: EventName) -> Handler:
        """Return what takes in *event*, worked out at the first of its name."""
        record = self._known.get(event)
        if record is None:
            record = self._compile(event).record
            if len(self._known) < CACHE_LIMIT:
                self._known[event] = record
        return record


def _check(definition: object) -> None:
    if not isinstance(definition, Definition):
        reason = (
            "it is no definition; pass Counter(...), Sum(...), LastValue(...), "
            "Summary(...) or Distribution(...)"
        )
        raise MetricDefinitionError(definition, reason)


def _check_agreement(first: Metric, other: Metric) -> None:
    """Refuse two definitions of one name that cannot feed the same series."""
    for what, one, two in (
        ("type", type(first).__name__, type(other).__name__),
        ("unit", first.unit, other.unit),
        ("tag names", _sorted(first.tag_names), _sorted(other.tag_names)),
        ("monotonic", *(getattr(each, "monotonic", None) for each in (first, other))),
        ("buckets", *(getattr(each, "buckets", None) for each in (first, other))),
    ):
        if one != two:
            reason = (
                f"it is defined twice, with {what} {one!r} and {two!r}; "
                "make them agree, or rename one"
            )
            raise MetricDefinitionError(first.name, reason)


def _sorted(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else sorted(names)
