"""Answers worked out the long way, in plain Python: what every engine must give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from math import ceil
from typing import Any

from llmevents.ledger import Record
from llmevents.ledger._query import (
    ALL,
    Damage,
    Failure,
    Filter,
    Group,
    Grouping,
    Order,
    Session,
    Totals,
    Unique,
)
from llmevents.metrics._histogram import ExponentialHistogram, key_of


FIELDS = {
    "user": "user_id",
    "session": "session_id",
    "source": "source_id",
    "organization": "organization_id",
    "task": "task_id",
    "model": "model",
    "provider": "provider",
    "operation": "operation",
    "use_case": "use_case",
    "event": "event",
    "status": "status",
}

USED = [
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
    "tool_input_tokens",
    "pages",
    "images",
    "searches",
    "characters",
    "texts",
    "audio_duration_ns",
]


class PlainEngine:
    """An engine over a list of records, the first of each id."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records: dict[str, Record] = {}
        for record in records:
            self._records.setdefault(record["id"], record)
        self._known = {key: known(record) for key, record in self._records.items()}

    def summary(self, where: Filter = ALL) -> Totals:
        return totals(self._chosen(where))

    def by(
        self,
        grouping: Grouping,
        where: Filter = ALL,
        *,
        order: Order = "cost_nano_usd",
        limit: int | None = None,
    ) -> list[Group]:
        def key(record: Record) -> str | None:
            if grouping == "day":
                return record["timestamp"][:10] if "timestamp" in record else None
            return record.get(FIELDS[grouping])

        groups = [
            Group(key, totals(found))
            for key, found in grouped(self._chosen(where), key)
        ]
        groups.sort(key=lambda group: unknown_last(group.key))
        if order != "key":
            groups.sort(key=lambda group: largest_first(getattr(group.totals, order)))
        return groups[:limit]

    def errors(self, where: Filter = ALL, *, limit: int | None = None) -> list[Failure]:
        kinds = Counter(
            tuple(
                record.get(name)
                for name in ("provider", "operation", "error_type", "http_status")
            )
            for record in self._chosen(where)
            if record.get("status") in ("error", "timeout")
        )
        failures = [Failure._make((*kind, calls)) for kind, calls in kinds.items()]
        failures.sort(key=lambda one: (-one.calls, *map(unknown_last, one[:4])))
        return failures[:limit]

    def unique(self, where: Filter = ALL) -> Unique:
        def count(name: str) -> int:
            return len({record[name] for record in chosen if name in record})

        chosen = self._chosen(where)
        return Unique(
            users=count("user_id"),
            sessions=count("session_id"),
            sources=count("source_id"),
            organizations=count("organization_id"),
            tasks=count("task_id"),
            models=count("model"),
            providers=count("provider"),
        )

    def sessions(
        self, where: Filter = ALL, *, limit: int | None = None
    ) -> list[Session]:
        sessions = [
            session(key, found)
            for key, found in grouped(
                self._chosen(where), lambda record: record.get("session_id")
            )
            if key is not None
        ]
        sessions.sort(key=lambda one: one.session)
        sessions.sort(key=lambda one: one.last or "", reverse=True)
        return sessions[:limit]

    def records(self, where: Filter = ALL, *, limit: int = 100) -> list[Record]:
        chosen = sorted(
            self._chosen(where),
            key=lambda record: (record.get("timestamp", ""), record["id"]),
            reverse=True,
        )
        return [self._records[record["id"]] for record in chosen[:limit]]

    def each(self, where: Filter = ALL) -> Iterator[Record]:
        latest_first = self.records(where, limit=max(len(self._records), 1))
        yield from reversed(latest_first)

    def damage(self) -> Damage:
        return Damage()

    def close(self) -> None:
        pass

    def _chosen(self, where: Filter) -> list[Record]:
        return [record for record in self._known.values() if is_meant(record, where)]


def known(record: Record) -> Record:
    """Leave out what is empty, which says nothing."""
    return {
        name: value for name, value in record.items() if value != "" or name == "id"
    }


def is_meant(record: Record, where: Filter) -> bool:
    if where.event is None and record.get("event") == "llm.task":
        return False
    for name, field in FIELDS.items():
        wanted = getattr(where, name)
        if wanted is not None and record.get(field) != wanted:
            return False
    if where.since is None and where.until is None:
        return True
    if "timestamp" not in record:
        return False
    moment = datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00"))
    is_late = where.since is None or moment >= where.since
    return is_late and (where.until is None or moment < where.until)


def grouped(
    records: Sequence[Record], key: Callable[[Record], str | None]
) -> Iterable[tuple[str | None, list[Record]]]:
    groups: dict[str | None, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups.items()


def totals(records: Sequence[Record]) -> Totals:
    statuses = Counter(record.get("status") for record in records)
    durations = stated(records, "duration_ns")
    rated = [
        record
        for record in records
        if "output_tokens" in record and "duration_ns" in record
    ]
    return Totals(
        calls=len(records),
        successes=statuses["success"],
        failures=statuses["error"] + statuses["timeout"],
        timeouts=statuses["timeout"],
        cancelled=statuses["cancelled"],
        priced=sum("cost_nano_usd" in record for record in records),
        durations=ExponentialHistogram(Counter(map(key_of, durations)), sum(durations)),
        rated_output_tokens=sum(record["output_tokens"] for record in rated),
        rated_duration_ns=sum(record["duration_ns"] for record in rated),
        **{name: total(records, name) for name in (*USED, "cost_nano_usd")},
    )


def session(key: str, records: Sequence[Record]) -> Session:
    moments = stated(records, "timestamp")
    return Session(
        session=key,
        calls=len(records),
        failures=totals(records).failures,
        total_tokens=total(records, "total_tokens"),
        cost_nano_usd=total(records, "cost_nano_usd"),
        first=min(moments, default=None),
        last=max(moments, default=None),
        providers=tuple(sorted(set(stated(records, "provider")))),
        models=tuple(sorted(set(stated(records, "model")))),
    )


def total(records: Sequence[Record], name: str) -> int | None:
    values = stated(records, name)
    return sum(values) if values else None


def stated(records: Sequence[Record], name: str) -> list[Any]:
    return [record[name] for record in records if name in record]


def true_quantile(values: Sequence[int], q: float) -> int:
    return sorted(values)[max(1, ceil(q * len(values))) - 1]


def unknown_last(value: Any) -> tuple[bool, Any]:  # noqa: ANN401  # text or a number
    return value is None, "" if value is None else value


def largest_first(value: int | None) -> tuple[bool, int]:
    return value is None, -(value or 0)
