"""The bounded queue between emitters and one background handler.

Emitters never wait for a lock: they may be in a finalizer or signal handler that
interrupted this very code, or hold a lock that a finalizer in another thread wants.
Each puts its event at the end of an inbox, a single step, and then tries to take the
one *token*. Who gets it moves what is in the inbox into the queue or drops it, and
does all the counting; who does not get it leaves, because the holder looks at the
inbox again after giving the token back.
"""

from __future__ import annotations

from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llmevents._wake import Wake


if TYPE_CHECKING:
    from llmevents._types import EventName, Measurements, Metadata

OnFull: TypeAlias = Literal["drop_new", "drop_old", "block"]

Reason: TypeAlias = Literal[
    "queue_full", "too_large", "recursion", "shutdown", "handler_error"
]
"""Why an event was not delivered."""

REASONS: tuple[Reason, ...] = (
    "queue_full",
    "too_large",
    "recursion",
    "shutdown",
    "handler_error",
)

SHARE = 64
"""Entries of others that one emission moves at most; the worker does the rest."""


class Item:
    """One event on its way to the handler.

    Attributes:
        arguments: What the handler is called with.
        size: Estimated bytes.
        depth: How many deliveries led to it, each emitted by the handler of the one
            before.
        gate: What its emitter waits for if the queue is full; None if it does not
            wait.
        expired: Its emitter has stopped waiting.
        number: Its place in the order of acceptance, from 1.
    """

    __slots__ = ("arguments", "depth", "expired", "gate", "number", "size")

    def __init__(
        self,
        # The last is config, which is the user's own.
        arguments: tuple[EventName, Measurements, Metadata, Any],
        size: int,
        depth: int,
    ) -> None:
        self.arguments = arguments
        self.size = size
        self.depth = depth
        self.gate: Wake | None = None
        self.expired = False
        self.number = 0


class Mark:
    """A place in the queue; `reached` is set when nothing before it is left.

    Attributes:
        seals: Whether nothing is let in behind it.
    """

    __slots__ = ("number", "reached", "seals")

    def __init__(self, *, seals: bool = False) -> None:
        self.seals = seals
        self.reached = Wake()
        self.number = 0


class BoundedQueue:
    """Events of one process for one handler, and what became of them.

    At rest ``accepted == delivered + sum(dropped.values()) + queued``. In motion an
    event may be in none of them for a moment, but never in two: it is counted as
    accepted first, and it leaves one place before it appears in the next. `stats`
    reads the other way round.

    Attributes:
        accepted: Events offered.
        delivered: Events that the handler returned from.
        dropped: Events that will not be delivered, by reason.
        sealed: Nothing more is let in.
        given_up: Whatever is not delivered yet is to be dropped.
        abandoned: Events that were dropped because of it.
        closed: Nothing more is to be offered. What was offered before is let in
            until a mark seals the queue, unless it would have to wait for room.
        consumer: Holds one entry while nobody delivers; who takes it delivers.
        deliverer: Identifier of the thread that delivers, 0 if there is none.
        depth: That of the event being delivered, -1 if there is none.
        wake: What the worker waits for.
    """

    __slots__ = (
        "_arriving",
        "_bytes_in",
        "_bytes_out",
        "_delivering",
        "_holder",
        "_inbox",
        "_marks",
        "_max_bytes",
        "_max_events",
        "_oldest",
        "_on_full",
        "_token",
        "_waiting",
        "abandoned",
        "accepted",
        "closed",
        "consumer",
        "delivered",
        "deliverer",
        "depth",
        "dropped",
        "given_up",
        "sealed",
        "wake",
    )

    def __init__(self, max_events: int, max_bytes: int, on_full: OnFull) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_full = on_full
        self._inbox: deque[Item | Mark | Reason] = deque()
        self._arriving = 0  # bytes in the inbox, about
        self._token: list[None] = [None]
        self._holder = 0
        self._waiting: deque[Item] = deque()
        self._oldest = iter(self._waiting.popleft, None)
        self._marks: deque[Mark] = deque()
        # Each is changed by one side only, the holder of the token or the deliverer.
        self._bytes_in = self._bytes_out = 0
        self.accepted = self.delivered = self.abandoned = self._delivering = 0
        self.dropped: dict[Reason, int] = dict.fromkeys(REASONS, 0)
        self.closed = self.sealed = self.given_up = False
        self.consumer: list[None] = [None]
        self.deliverer = 0
        self.depth = -1
        self.wake = Wake()

    @property
    def waiting(self) -> int:
        """How many events wait for the deliverer."""
        return len(self._waiting)

    @property
    def queued(self) -> int:
        """How many events wait or are being delivered."""
        return self._delivering + len(self._waiting)

    @property
    def held_here(self) -> bool:
        """Whether this thread holds the token, so that we have interrupted it."""
        return self._holder == get_ident()

    # --- The emitters' side ------------------------------------------------------

    def offer(self, item: Item) -> None:
        """Let an event in, or drop it. Never waits, safe everywhere."""
        if self.closed:
            item.gate = None
            self.refuse("shutdown")
        elif item.size > self._max_bytes:
            item.gate = None
            self.refuse("too_large")
        elif item.gate is None and (
            len(self._inbox) >= self._max_events
            or self._arriving + item.size > self._max_bytes
        ):
            # The holder of the token was suspended, and a queue's worth came since.
            self.refuse("queue_full")
        else:
            self._arriving += item.size
            self._inbox.append(item)
            self.settle(SHARE)

    def refuse(self, reason: Reason) -> None:
        """Count an event that is not let in. Never waits, safe everywhere."""
        self._inbox.append(reason)
        self.settle(SHARE)

    def mark(self, mark: Mark) -> None:
        """Put *mark* behind everything offered so far. Never waits."""
        if self.held_here:
            # The inbox is looked at again only after we return.
            self._place(mark)
            self.wake.set()
        else:
            self._inbox.append(mark)
            self.settle()

    def settle(self, share: int | None = None) -> None:
        """Empty the inbox, or *share* entries of it, unless somebody else does."""
        left = len(self._inbox) + SHARE if share is None else share
        here = get_ident()
        while left > 0 and self._has_work():
            # Not a lock: between a call that returns and the next instruction, a
            # signal handler may raise, and the lock would never be given back.
            try:
                del self._token[0]
            except IndexError:
                return
            try:
                self._holder = here
                left -= self._sort(left)
            finally:
                self._holder = 0
                self._token.append(None)
            self.wake.set()

    def _has_work(self) -> bool:
        if self.given_up and self._waiting:
            return True
        try:
            return not self._must_wait(self._inbox[0])
        except IndexError:
            return False

    def _must_wait(self, entry: Item | Mark | Reason) -> bool:
        return (
            isinstance(entry, Item)
            and entry.gate is not None
            and not (entry.expired or self.closed or self._fits(entry.size))
        )

    def _fits(self, size: int) -> bool:
        waiting = len(self._waiting)
        return waiting == 0 or (
            waiting < self._max_events
            and self._bytes_in - self._bytes_out + size <= self._max_bytes
        )

    def _sort(self, most: int) -> int:
        """Deal with entries of the inbox; return how many. The token is held."""
        if self.given_up:
            self._give_up()
        for done in range(most):
            try:
                entry = self._inbox[0]
            except IndexError:
                self._arriving = 0
                return max(done, 1)
            if isinstance(entry, Mark):
                self._place(entry)
                del self._inbox[0]
            elif self._must_wait(entry):
                return max(done, 1)
            else:
                self._decide(entry)
        return most

    def _decide(self, entry: Item | Reason) -> None:
        """Queue or drop the first entry of the inbox.

        What changes the numbers is written without calls and branches, between which
        alone CPython runs signal handlers: one that raises leaves them right.
        """
        if isinstance(entry, str):
            self._drop_new(entry, 0)
            return
        reason = self._objection(entry)
        if reason is None:
            waiting = self._waiting
            del self._inbox[0]
            self._arriving -= entry.size
            self.accepted += 1
            entry.number = self.accepted
            self._bytes_in += entry.size
            waiting += (entry,)
        else:
            self._drop_new(reason, entry.size)
        if entry.gate is not None:
            entry.gate.set()

    def _drop_new(self, reason: Reason, size: int) -> None:
        del self._inbox[0]
        self._arriving -= size
        self.accepted += 1
        self.dropped[reason] += 1

    def _objection(self, item: Item) -> Reason | None:
        if self.sealed or self.given_up:
            return "shutdown"
        if self._fits(item.size):
            return None
        if self.closed and item.gate is not None and not item.expired:
            return "shutdown"
        if self._on_full != "drop_old":
            return "queue_full"
        while not self._fits(item.size):
            self._drop_oldest("queue_full")
        return None

    def _drop_oldest(self, reason: Reason) -> bool:
        try:
            # In place of a call of popleft(), for the reason given in _decide().
            for oldest in self._oldest:  # pragma: no branch  # it has no end
                self._bytes_in -= oldest.size
                self.dropped[reason] += 1
                return True
        except IndexError:
            pass  # the deliverer was faster
        return False

    def _give_up(self) -> None:
        while self._drop_oldest("shutdown"):
            self.abandoned += 1

    def _place(self, mark: Mark) -> None:
        if mark.seals:
            self.sealed = True
        mark.number = self.accepted
        self._marks.append(mark)

    # --- The deliverer's side ----------------------------------------------------

    def take(self) -> Item | None:
        """Return the next event, None if there is none. Close it with `finish`."""
        try:
            item = self._waiting.popleft()
        except IndexError:
            return None
        self._delivering = 1
        self._bytes_out += item.size
        self.depth = item.depth
        if self._inbox:
            self.settle()  # an emitter may be waiting for the room
        return item

    def finish(self, *, failed: bool) -> None:
        """Count the event that was taken."""
        self.depth = -1
        self._delivering = 0
        if failed:
            self.dropped["handler_error"] += 1
        else:
            self.delivered += 1

    def reach_marks(self) -> None:
        """Set the marks that nothing is left before. Called between two events."""
        while self._marks:
            mark = self._marks[0]
            try:
                # What is before a mark was queued before it was placed.
                if self._waiting[0].number <= mark.number:
                    return
            except IndexError:
                pass
            self._marks.popleft()
            mark.reached.set()
