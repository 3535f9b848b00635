"""Batches of one signal on their way to the endpoint, each accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any

from llmevents_otel._counts import Tallies, Tally
from llmevents_otel._otlp import Sender
from llmevents_otel._queue import MOST_RECORDS, BoundedQueue
from llmevents_otel._retry import Action, Outcome, RetryPolicy


DELAY = 5.0
"""Seconds after which a batch is sent that is not full: OTEL_BSP_SCHEDULE_DELAY's
default (OpenTelemetry specification 1.49, environment variables)."""

MOST_SPLITS = 64
"""Requests that are spent on finding what a server refuses in a batch. One bad record
in 512 takes 19."""


class _Search:
    """The search for what a server refuses in a batch, over all parts of it."""

    __slots__ = ("found", "requests")

    def __init__(self) -> None:
        self.requests = MOST_SPLITS
        self.found = False


class Batch:
    """Records that are sent together. Whoever claims it counts it, once.

    Attributes:
        records: What is sent.
        places: What they occupy in the queue.
        weight: What they count as.
        give_up_at: As `time.monotonic` counts; set at the first attempt.
        search: Shared with the parts into which it is split.
    """

    __slots__ = ("_claim", "give_up_at", "places", "records", "search", "weight")

    def __init__(self, records: Sequence[Any], places: int, weight: int) -> None:
        self.records = records
        self.places = places
        self.weight = weight
        self.give_up_at: float | None = None
        self.search = _Search()
        self._claim = [None]

    def claim(self) -> bool:
        """Return True once, whoever asks."""
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What the records of a pipeline are.

    Attributes:
        name: In the plural, for the log.
        weigh: What a record counts as.
        cut: Returns two parts of one that counts as more than one.
    """

    name: str
    weigh: Callable[[Any], int] = lambda _: 1
    cut: Callable[[Any], tuple[Any, Any]] = lambda record: (record, record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the records of a pipeline."""

    accepted: int
    delivered: int
    dropped: Mapping[str, int]
    queued: int


class Pipeline:
    """One signal: its queue, the batches under way, and when to send the next.

    Any thread may `offer` and read `counts`; `work` and `load` are the worker's, and
    `give_up` is for whoever stops it.

    Args:
        kind: What it takes.
        make_sender: Called at the first request, in the worker.
        places: Of the queue.
        policy: When to try again.
        report: Told what failed, why, and how many records were dropped.
    """

    def __init__(
        self,
        kind: Records,
        make_sender: Callable[[], Sender],
        *,
        places: int,
        policy: RetryPolicy,
        report: Callable[[str, Outcome, int], None],
    ) -> None:
        self.kind = kind
        self.queue = BoundedQueue(places)
        self._make_sender = make_sender
        self._sender: Sender | None = None
        self._policy = policy
        self._report = report
        self._pending: deque[Batch] = deque()
        self._delivered = Tally()
        self._given_up = Tallies()
        self._abandoned = ""
        self._failures = 0
        self._pause_until = 0.0
        self._is_throttled = False
        self._send_due = 0.0
        self._is_hopeless = False

    # --- Any thread ----------------------------------------------------------------

    def offer(self, record: object, size: int) -> bool:
        """Queue *record* or count it as refused; return whether a batch is full."""
        if self.queue.offer(record, size) and self._abandoned:
            self._sweep()
        return len(self.queue) >= MOST_RECORDS

    def counts(self) -> Counts:
        """Return what became of the records so far; it always adds up."""
        # What is settled first: it cannot be more than what was admitted by then.
        delivered = self._delivered.value()
        dropped = dict(self._given_up.values())
        settled = delivered + sum(dropped.values())
        admitted = self.queue.admitted.value()
        refused = self.queue.refused.values()
        for reason, number in refused.items():
            dropped[reason] = dropped.get(reason, 0) + number
        return Counts(
            accepted=admitted + sum(refused.values()),
            delivered=delivered,
            dropped=dropped,
            queued=admitted - settled,
        )

    @property
    def settled(self) -> int:
        """How many of the admitted records are delivered or dropped."""
        return self._delivered.value() + self.lost

    @property
    def lost(self) -> int:
        """How many of the admitted records are dropped."""
        return sum(self._given_up.values().values())

    def give_up(self, reason: str) -> None:
        """Drop all that there is, and whatever may still come, for *reason*."""
        self.queue.closed = True
        self._abandoned = reason
        self._sweep()

    def abort(self) -> None:
        """Break off the request under way."""
        if self._sender is not None:
            self._sender.abort()

    def _sweep(self) -> None:
        for pending in list(self._pending):
            self._drop(pending, self._abandoned)
        while (batch := self._take()) is not None:
            self._drop(batch, self._abandoned)

    def _take(self) -> Batch | None:
        records, places = self.queue.take()
        return Batch(records, places, len(records)) if records else None

    # --- The worker ----------------------------------------------------------------

    def load(self, records: Sequence[Any], most: int) -> None:
        """Replace all that is waiting by *records*, in requests of a weight of *most*.

        For metrics: a newer snapshot says all that an older one does.
        """
        while self._pending:
            self._drop(self._pending.popleft(), "superseded")
        chosen: list[Any] = []
        weight = 0
        for record in records:
            more = self.kind.weigh(record)
            if chosen and weight + more > most:
                self._add(chosen, weight)
                chosen, weight = [], 0
            chosen.append(record)
            weight += more
        if chosen:
            self._add(chosen, weight)

    def _add(self, records: Sequence[Any], weight: int) -> None:
        self.queue.admitted.add(weight)
        self._pending.append(Batch(records, 0, weight))
        if self._abandoned:
            self._sweep()

    def _place(self, batches: Sequence[Batch]) -> None:
        """Put *batches* in front. If all was given up meanwhile, that is for us too."""
        self._pending.extendleft(reversed(batches))
        if self._abandoned:
            self._sweep()

    def hurry(self, now: float) -> None:
        """Try again at once, unless the server has asked for the pause."""
        self._send_due = now
        if not self._is_throttled:
            self._pause_until = now

    def wait(self, now: float, *, urgent: bool) -> float:
        """Return in how many seconds there is something to send, infinity for never."""
        if self._abandoned or not (self._pending or len(self.queue)):
            self._send_due = now + DELAY
            return inf
        due = self._pause_until
        if not (self._pending or urgent or len(self.queue) >= MOST_RECORDS):
            due = max(due, self._send_due)
        return max(0.0, due - now)

    def work(self, now: float, timeout: float, *, urgent: bool) -> bool:
        """Send one request if one is due; return whether that was so."""
        if self.wait(now, urgent=urgent) > 0:
            return False
        if not self._pending:
            taken = self._take()
            self._place([] if taken is None else [taken])
            self._send_due = now + DELAY
        # Whoever gives all up takes it from under our hands.
        if self._abandoned or not self._pending:
            return False
        batch = self._pending[0]
        if batch.give_up_at is None:
            batch.give_up_at = now + self._policy.total
        outcome = self._send(batch, timeout)
        self._handle(batch, outcome, monotonic())
        return True

    def close(self) -> None:
        """Close what is open."""
        sender, self._sender = self._sender, None
        if sender is not None:
            with suppress(Exception):
                sender.close()

    def _send(self, batch: Batch, timeout: float) -> Outcome:
        try:
            if self._sender is None:
                self._sender = self._make_sender()
            return self._sender.send(batch.records, timeout)
        except Exception as error:  # noqa: BLE001  # such as a broken environment
            name = type(error).__name__
            return Outcome(action=Action.DROP, reason="exporter_error", error_type=name)

    def _handle(self, batch: Batch, outcome: Outcome, now: float) -> None:
        if outcome.action is Action.RETRY:
            self._retry(batch, outcome, now)
            return
        self._failures = 0
        self._pause_until = 0.0
        self._is_throttled = False
        self._pending.popleft()
        if outcome.action is Action.DONE:
            self._deliver(batch, outcome)
        elif outcome.action is not Action.SPLIT or not self._split(batch, outcome):
            self._drop(batch, outcome.reason, outcome)

    def _deliver(self, batch: Batch, outcome: Outcome) -> None:
        self._is_hopeless = False
        batch.search.found = True
        if not batch.claim():
            return
        rejected = min(outcome.rejected, batch.weight)
        self._delivered.add(batch.weight - rejected)
        self._given_up.add(outcome.reason, rejected)
        self.queue.free(batch.places)
        if rejected:
            self._report(self.kind.name, outcome, rejected)

    def _retry(self, batch: Batch, outcome: Outcome, now: float) -> None:
        self._failures += 1
        asked = outcome.retry_after
        self._is_throttled = asked is not None
        pause = self._policy.pause(self._failures) if asked is None else asked
        self._pause_until = now + min(pause, self._policy.total)
        if self._pause_until >= (batch.give_up_at or 0.0):
            self._pending.popleft()
            self._drop(batch, outcome.reason, outcome)
        elif not self.queue.closed:
            # Once it is closed, what is left says so itself.
            self._report(self.kind.name, outcome, 0)

    def _split(self, batch: Batch, outcome: Outcome) -> bool:
        """Put two halves in place of *batch*; False if it should be dropped."""
        if batch.weight == 1:
            return False
        if outcome.reason != "encode_error":
            search = batch.search
            if self._is_hopeless or search.requests < 2:  # noqa: PLR2004  # two halves
                # If nothing of this batch was taken, the next will not be either.
                self._is_hopeless = not search.found
                return False
            search.requests -= 2
        halves = self._halves(batch)
        if batch.claim():
            self._place(halves)
        return True

    def _halves(self, batch: Batch) -> list[Batch]:
        records = batch.records
        if len(records) == 1:
            records = self.kind.cut(records[0])
        middle = len(records) // 2
        places = batch.places // 2
        halves = []
        for part, share in (
            (records[:middle], places),
            (records[middle:], batch.places - places),
        ):
            half = Batch(part, share, sum(map(self.kind.weigh, part)))
            half.give_up_at = batch.give_up_at
            half.search = batch.search
            halves.append(half)
        return halves

    def _drop(self, batch: Batch, reason: str, outcome: Outcome | None = None) -> None:
        if batch.claim():
            self._given_up.add(reason, batch.weight)
            self.queue.free(batch.places)
            if outcome is not None:
                self._report(self.kind.name, outcome, batch.weight)
