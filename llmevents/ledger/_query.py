"""What can be asked of a ledger, and what it answers, whatever keeps the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

from llmevents._errors import LLMEventsError, OptionError
from llmevents._options import check_text
from llmevents._show import show
from llmevents.ledger._record import Record
from llmevents.ledger._schema import SCHEMA_VERSION, TOKENS
from llmevents.metrics._histogram import ExponentialHistogram


Grouping: TypeAlias = Literal[
    "model",
    "provider",
    "operation",
    "user",
    "session",
    "source",
    "organization",
    "task",
    "use_case",
    "event",
    "day",
    "status",
]

GROUPINGS: Mapping[Grouping, str] = {
    "model": "model",
    "provider": "provider",
    "operation": "operation",
    "user": "user_id",
    "session": "session_id",
    "source": "source_id",
    "organization": "organization_id",
    "task": "task_id",
    "use_case": "use_case",
    "event": "event",
    "day": "timestamp",
    "status": "status",
}
"""What calls can be grouped by -> the column. Of the timestamp, the day in UTC."""

DAY = 10
"""Characters of a timestamp that say the day."""

Order: TypeAlias = Literal[
    "cost_nano_usd", "calls", "failures", "total_tokens", "duration_ns", "key"
]
"""By what groups are sorted: numbers, the largest first; keys, the least first, by code
points. What is unknown comes last, and groups that are equal follow their keys."""

COUNTS: tuple[str, ...] = (
    "pages",
    "images",
    "searches",
    "characters",
    "texts",
    "audio_duration_ns",
)
"""Columns that are added up beside tokens and cost."""

SUMS: tuple[str, ...] = (*TOKENS, *COUNTS, "cost_nano_usd")
"""Columns of which `Totals` has the sums, under the same names."""

FAILED: tuple[str, ...] = ("error", "timeout")
"""Statuses of calls that failed. A call that was cancelled did neither."""


class NewerRecordsError(LLMEventsError, ValueError):
    """Records were written by a later version, which may mean other things by them.

    Attributes:
        version: The schema version that they state.
        where: The store.
    """

    def __init__(self, version: int, where: object) -> None:
        self.version = version
        self.where = where
        super().__init__(
            f"{show(str(where))} holds records of schema version {version}, and this "
            f"version of llmevents knows those up to {SCHEMA_VERSION}; update llmevents"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which calls are meant: those that agree with everything that is given.

    Tasks are no calls: they are left out unless *event* is ``"llm.task"``, which means
    them alone. Nor is an empty text a fact: a call that states one, as its user say,
    is one that states none.

    Attributes:
        since: Calls that began then or later; with its time zone.
        until: Calls that began before; with its time zone.
        user: The call's ``user_id``; likewise *session*, *source*, *organization*
            and *task*.
        model: The model that was asked for.
        event: The span's prefix, such as ``"llm.chat"``.

    Raises:
        OptionError: A moment has no time zone, or a text is empty, or none.
    """

    since: datetime | None = None
    until: datetime | None = None
    user: str | None = None
    session: str | None = None
    source: str | None = None
    organization: str | None = None
    task: str | None = None
    model: str | None = None
    provider: str | None = None
    operation: str | None = None
    use_case: str | None = None
    event: str | None = None
    status: str | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            moment = getattr(self, name)
            if moment is None:
                continue
            if not isinstance(moment, datetime) or moment.utcoffset() is None:
                expected = "a datetime with its time zone, such as timezone.utc"
                raise OptionError(moment, name, expected)
        for name in _MATCHED:
            value = getattr(self, name)
            if value is not None:
                check_text(value, name)

    @property
    def window(self) -> tuple[str | None, str | None]:
        """The first timestamp that is meant, and the first one behind these."""
        return _timestamp(self.since), _timestamp(self.until)

    @property
    def matches(self) -> dict[str, str]:
        """Column -> the text that it has to be."""
        given = ((column, getattr(self, name)) for name, column in _MATCHED.items())
        return {column: value for column, value in given if value is not None}


_MATCHED: Mapping[str, str] = {
    name: column for name, column in GROUPINGS.items() if name != "day"
}

ALL = Filter()


def _timestamp(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    utc = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What some calls come to. All sums are exact; what no call states is None.

    Attributes:
        calls: How many there were.
        successes: Those with the status ``"success"``.
        failures: Those with the status ``"error"`` or ``"timeout"``.
        timeouts: The failures that were timeouts.
        cancelled: Those that were given up by the program.
        priced: Those whose cost is known.
        input_tokens: All input, cached included; *output_tokens* likewise. The other
            classes of tokens are parts of these.
        cost_nano_usd: In nano-US-dollars.
        durations: How long the calls took that say so, in nanoseconds.
        rated_output_tokens: Output of the calls that state both it and a duration.
        rated_duration_ns: The durations of these.
    """

    calls: int = 0
    successes: int = 0
    failures: int = 0
    timeouts: int = 0
    cancelled: int = 0
    priced: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    tool_input_tokens: int | None = None
    pages: int | None = None
    images: int | None = None
    searches: int | None = None
    characters: int | None = None
    texts: int | None = None
    audio_duration_ns: int | None = None
    cost_nano_usd: int | None = None
    durations: ExponentialHistogram = field(default_factory=ExponentialHistogram)
    rated_output_tokens: int = 0
    rated_duration_ns: int = 0

    @property
    def unpriced(self) -> int:
        """Calls whose cost is unknown, those that failed before there was one too."""
        return self.calls - self.priced

    @property
    def duration_ns(self) -> int | None:
        """All durations together."""
        return int(self.durations.sum) if self.durations.count else None

    @property
    def average_ns(self) -> int | None:
        """The mean duration, rounded to nanoseconds."""
        count = self.durations.count
        return (2 * int(self.durations.sum) + count) // (2 * count) if count else None

    @property
    def p50_ns(self) -> int | None:
        """The duration that half of the calls did not exceed, within 1 %."""
        return self.quantile_ns(0.5)

    @property
    def p95_ns(self) -> int | None:
        """The duration that 95 % of the calls did not exceed, within 1 %."""
        return self.quantile_ns(0.95)

    @property
    def p99_ns(self) -> int | None:
        """The duration that 99 % of the calls did not exceed, within 1 %."""
        return self.quantile_ns(0.99)

    @property
    def tokens_per_second(self) -> float | None:
        """Output over duration, of the calls that state both."""
        if not self.rated_duration_ns:
            return None
        return self.rated_output_tokens * 1_000_000_000 / self.rated_duration_ns

    def quantile_ns(self, q: float) -> int | None:
        """Return the duration that a proportion *q* did not exceed, within 1 %.

        Raises:
            OptionError: *q* is not between 0 and 1.
        """
        value = self.durations.quantile(q)
        return round(value) if self.durations.count else None

    def merge(self, other: Totals) -> Totals:
        """Return what the calls of both come to, without any loss."""
        merged: dict[str, Any] = {
            name: _add(getattr(self, name), getattr(other, name)) for name in _NUMBERS
        }
        return Totals(durations=self.durations.merge(other.durations), **merged)

    def to_json(self) -> dict[str, int | float]:
        """Return what is known: numbers by name, durations as what they come to."""
        names = [name for name in _NUMBERS if not name.startswith("rated_")]
        stated = {name: getattr(self, name) for name in (*names, *DERIVED)}
        return {name: value for name, value in stated.items() if value is not None}


DERIVED: tuple[str, ...] = (
    "unpriced",
    "duration_ns",
    "average_ns",
    "p50_ns",
    "p95_ns",
    "p99_ns",
    "tokens_per_second",
)
"""What `Totals` works out of what it holds."""

_NUMBERS: tuple[str, ...] = tuple(
    part.name for part in fields(Totals) if part.name != "durations"
)


def _add(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


class Group(NamedTuple):
    """The calls that have something in common.

    Attributes:
        key: What they have in common; None for those that do not state it, or state
            an empty text.
        totals: What they come to.
    """

    key: str | None
    totals: Totals


class Failure(NamedTuple):
    """Calls that failed alike. What they do not state is None."""

    provider: str | None
    operation: str | None
    error_type: str | None
    http_status: int | None
    calls: int


class Unique(NamedTuple):
    """How many different ones there are; calls that state none count for none."""

    users: int
    sessions: int
    sources: int
    organizations: int
    tasks: int
    models: int
    providers: int


UNIQUE: tuple[str, ...] = (
    "user_id",
    "session_id",
    "source_id",
    "organization_id",
    "task_id",
    "model",
    "provider",
)
"""The columns that `Unique` counts, in its order."""


class Session(NamedTuple):
    """The calls of one session, whatever providers they went to.

    Attributes:
        session: Its id.
        calls: How many there were.
        failures: Those that failed.
        total_tokens: None if none states it; likewise the cost.
        cost_nano_usd: In nano-US-dollars.
        first: When the first one began: ISO 8601 in UTC.
        last: When the last one began.
        providers: All that were asked, sorted.
        models: Likewise.
    """

    session: str
    calls: int
    failures: int
    total_tokens: int | None
    cost_nano_usd: int | None
    first: str | None
    last: str | None
    providers: tuple[str, ...]
    models: tuple[str, ...]


class Place(NamedTuple):
    """Where a damaged line is."""

    path: Path
    offset: int


class Damage(NamedTuple):
    """Lines that are no records, and that no answer counts.

    Attributes:
        lines: How many there are.
        places: Where the first of them are.
    """

    lines: int = 0
    places: tuple[Place, ...] = ()


class Engine(Protocol):
    """Answers questions about the records of one store.

    Every engine gives the same answers: records of one id count once, the first of
    them; texts are compared and sorted by code points; sums are exact; quantiles are
    those of the exponential histogram of the metric store.

    Each method raises `OptionError` for an unknown grouping or order, or a limit below
    1, `NewerRecordsError` for records of a later version, and `OSError` if the store
    cannot be read.
    """

    def summary(self, where: Filter = ALL) -> Totals:
        """Return what all calls come to."""

    def by(
        self,
        grouping: Grouping,
        where: Filter = ALL,
        *,
        order: Order = "cost_nano_usd",
        limit: int | None = None,
    ) -> list[Group]:
        """Return what the calls of each group come to; at most *limit* groups."""

    def errors(self, where: Filter = ALL, *, limit: int | None = None) -> list[Failure]:
        """Return how many calls failed in which way; the most frequent first."""

    def unique(self, where: Filter = ALL) -> Unique:
        """Return how many users, sessions, ... there are."""

    def sessions(
        self, where: Filter = ALL, *, limit: int | None = None
    ) -> list[Session]:
        """Return the sessions, the one with the latest call first."""

    def records(self, where: Filter = ALL, *, limit: int = 100) -> list[Record]:
        """Return the records, the latest first, and the greater id of equal ones."""

    def each(self, where: Filter = ALL) -> Iterator[Record]:
        """Yield every record that is meant, in the opposite order: the oldest first.

        Memory does not grow with their number. The state of the store is that of the
        first step, which is also the one that raises; other questions may be asked
        meanwhile.
        """

    def damage(self) -> Damage:
        """Return what could not be read of the store as it is now."""

    def close(self) -> None:
        """Release what the engine holds; it begins anew when it is asked again."""


def top(engine: Engine, where: Filter = ALL, *, limit: int = 5) -> list[Group]:
    """Return the models that cost most, the dearest first.

    Raises:
        OptionError: The limit is below 1.
    """
    return engine.by("model", where, order="cost_nano_usd", limit=limit)


class Comparison(NamedTuple):
    """Two periods, or any other two selections of calls."""

    first: Totals
    second: Totals

    def change(self, name: str) -> int | float | None:
        """Return by how much the number *name* of `Totals` grew; None if unknown."""
        first, second = getattr(self.first, name), getattr(self.second, name)
        if first is None or second is None:
            return None
        change: int | float = second - first
        return change

    def ratio(self, name: str) -> float | None:
        """Return the second over the first; None if unknown, or the first is 0."""
        first, second = getattr(self.first, name), getattr(self.second, name)
        if second is None or not first:
            return None
        ratio: float = second / first
        return ratio


def compare(engine: Engine, first: Filter, second: Filter) -> Comparison:
    """Return what the calls of two filters come to, side by side."""
    return Comparison(engine.summary(first), engine.summary(second))


def check_choice(value: object, option: str, choices: object) -> None:
    """Check that *value* is one of those that a type of literals allows.

    Raises:
        OptionError: It is not.
    """
    known = get_args(choices)
    if value not in known:
        raise OptionError(value, option, " or ".join(map(repr, known)))
