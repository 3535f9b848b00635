"""What a user, a task or a period comes to, in the shape of a report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from llmevents._errors import OptionError
from llmevents.ledger._export_file import Target, opened
from llmevents.ledger._query import ALL, Engine, Filter, Group, Totals


RECENT = timedelta(days=30)

UNKNOWN = "unknown"
"""Stands for what calls do not state, where there has to be a name."""


def usage_stats(engine: Engine, where: Filter = ALL) -> dict[str, Any]:
    """Return what calls come to, in all, by model and by operation.

    ``by_operation`` is by ``use_case``, which is what the program calls an operation;
    if no call states one, by OpenTelemetry's ``operation``. Calls that do not state
    their model or operation are under ``"unknown"``.

    Sums are over the calls that state a number: ``unpriced_calls`` says how many calls
    ``total_cost_estimate`` leaves out. It is in US dollars; ``total_cost_nano_usd`` is
    the same, and exact. ``avg_latency_ms`` is None if nobody knows.

    Raises:
        OSError: The store cannot be read.
    """
    totals = engine.summary(where)
    average = totals.average_ns
    operations = engine.by("use_case", where)
    if all(group.key is None for group in operations):
        operations = engine.by("operation", where)
    return {
        "total_calls": totals.calls,
        "successful_calls": totals.successes,
        "failed_calls": totals.failures,
        "total_input_tokens": totals.input_tokens or 0,
        "total_output_tokens": totals.output_tokens or 0,
        "total_tokens": totals.total_tokens or 0,
        "avg_latency_ms": None if average is None else average / 1_000_000,
        **_cost(totals.cost_nano_usd),
        "total_cost_nano_usd": totals.cost_nano_usd or 0,
        "unpriced_calls": totals.unpriced,
        "by_model": _parts(engine.by("model", where)),
        "by_operation": _parts(operations),
    }


def get_user_usage(engine: Engine, user: str, where: Filter = ALL) -> dict[str, Any]:
    """Return `usage_stats` of one user.

    Raises:
        OptionError: *user* is empty.
        OSError: The store cannot be read.
    """
    return usage_stats(engine, replace(where, user=user))


def get_task_usage(engine: Engine, task: str, where: Filter = ALL) -> dict[str, Any]:
    """Return `usage_stats` of one task.

    Raises:
        OptionError: *task* is empty.
        OSError: The store cannot be read.
    """
    return usage_stats(engine, replace(where, task=task))


def user_report(engine: Engine, user: str, *, now: datetime) -> dict[str, Any]:
    """Return all that is known of a user's calls.

    ``overall_stats`` is `usage_stats`; ``last_30_days`` and each of ``sessions`` say
    how many calls there were, with how many tokens, at what cost in US dollars. The
    session with the latest call comes first.

    Args:
        engine: Of the store.
        user: The ``user_id``.
        now: What ``generated_at`` says; with its time zone.

    Raises:
        OptionError: *user* is empty, or *now* has no time zone.
        OSError: The store cannot be read.
    """
    where = Filter(user=user)
    if now.utcoffset() is None:
        expected = "a datetime with its time zone, such as timezone.utc"
        raise OptionError(now, "now", expected)
    utc = now.astimezone(timezone.utc)
    recent = engine.summary(replace(where, since=utc - RECENT))
    sessions = engine.sessions(where)
    return {
        "user_id": user,
        "generated_at": utc.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "overall_stats": usage_stats(engine, where),
        "last_30_days": _brief(recent.calls, recent.total_tokens, recent.cost_nano_usd),
        "total_sessions": len(sessions),
        "sessions": {
            one.session: _brief(one.calls, one.total_tokens, one.cost_nano_usd)
            for one in sessions
        },
    }


def write_report(
    report: Mapping[str, Any], target: Target, *, overwrite: bool = False
) -> None:
    """Write a report as JSON, in ASCII, for its reader alone (mode 0600).

    Args:
        report: What `user_report` or `usage_stats` has returned.
        target: A file's name; ``"-"``, which is standard output; or a stream of bytes.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        FileExistsError: The file is there, and may not be replaced.
        OSError: It cannot be written.
    """
    with opened(target, overwrite=overwrite) as file:
        file.write(json.dumps(report, indent=2).encode() + b"\n")


def _cost(nano: int | None) -> dict[str, float]:
    return {"total_cost_estimate": (nano or 0) / 1_000_000_000}


def _brief(calls: int, tokens: int | None, nano: int | None) -> dict[str, Any]:
    return {"total_calls": calls, "total_tokens": tokens or 0, **_cost(nano)}


def _parts(groups: Iterable[Group]) -> dict[str, dict[str, int]]:
    found: dict[str, Totals] = {}
    for key, totals in groups:
        name = UNKNOWN if key is None else key
        found[name] = found[name].merge(totals) if name in found else totals
    return {
        name: {
            "calls": totals.calls,
            "input_tokens": totals.input_tokens or 0,
            "output_tokens": totals.output_tokens or 0,
            "total_tokens": totals.total_tokens or 0,
        }
        for name, totals in found.items()
    }
