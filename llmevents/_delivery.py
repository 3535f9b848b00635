"""Handing queued events to a background handler."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from llmevents import _forksafe
from llmevents._at_exit import exit_hook
from llmevents._coroutines import CoroutineRunner
from llmevents._failure import FAILURE_EVENT
from llmevents._names import dotted
from llmevents._nesting import MAX_DEPTH
from llmevents._queue import BoundedQueue, Item, Mark
from llmevents._sizes import estimate_size
from llmevents._throttle import FailureLog
from llmevents._wake import Wake


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents._clock import Clock
    from llmevents._types import EventName, Handler, Measurements, Metadata

# Who waits for the worker looks this often whether there still is one.
_PATIENCE = 0.05

# A thread that could not be started is tried again after this many seconds.
_RETRY = 1.0


class Delivery:
    """One handler, its queue, and the thread that delivers.

    Outlives the `llmevents.Background` that made it until the queue is empty: the
    worker holds on to this object only.

    Args:
        handler: Called with each event, in order, never twice at the same time.
        make_queue: Makes the queue, once per process.
        block_timeout: Seconds that an emitter may wait; None if it never does.
        name: For the thread, the log and the failure event.
        bus: Where failures are announced.
        clock: For the log and the failure event.
    """

    __slots__ = (
        "__weakref__",
        "_block_timeout",
        "_bus",
        "_clock",
        "_handler",
        "_log",
        "_make_queue",
        "_start_due",
        "_thread",
        "name",
        "queue",
    )

    def __init__(
        self,
        handler: Handler,
        make_queue: Callable[[], BoundedQueue],
        *,
        block_timeout: float | None,
        name: str,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._handler = handler
        self._make_queue = make_queue
        self._block_timeout = block_timeout
        self.name = name
        # The bus holds the handler: a worker that held the bus would keep both.
        self._bus = weakref.ref(bus)
        self._clock = clock
        self._log = FailureLog(clock)
        self.queue = make_queue()
        self._thread: threading.Thread | None = None
        self._start_due = 0.0
        _forksafe.registry.register(self)
        exit_hook.add(self)

    def after_fork_in_child(self) -> None:
        """Start with an empty queue: what is in the old one, the parent delivers.

        The old queue itself stays as it is. The fork may have happened inside of
        it, and that code is going to return to it.
        """
        closed = self.queue.closed
        self.queue = self._make_queue()
        self.queue.closed = self.queue.sealed = closed
        self._thread = None
        self._start_due = 0.0

    def offer(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,
    ) -> None:
        """Queue an event, whose mappings are ours from now on."""
        queue = self.queue
        inside = queue.deliverer == get_ident()
        depth = queue.depth + 1 if inside else 0
        if depth >= MAX_DEPTH:
            queue.refuse("recursion")
            return
        size = estimate_size(measurements, metadata)
        item = Item((event, measurements, metadata, config), size, depth)
        if self._block_timeout is not None and not inside and not queue.held_here:
            item.gate = Wake()
        queue.offer(item)
        attended = self._attend(queue)
        if item.gate is not None and self._block_timeout is not None:
            self._wait_for_room(queue, item, self._block_timeout if attended else 0.0)

    @staticmethod
    def _wait_for_room(queue: BoundedQueue, item: Item, timeout: float) -> None:
        if item.gate is None or item.gate.wait(timeout):
            return
        # If it was let in at this very moment, nothing is wrong with that.
        item.expired = True
        queue.settle()

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is left of what was offered before; False if it is.

        In the deliverer's own thread, that is from inside the handler, it does not
        wait.
        """
        queue = self.queue
        if queue.deliverer == get_ident():
            return False
        mark = Mark()
        queue.mark(mark)
        return self._reach(queue, mark, monotonic() + timeout)

    def close(self) -> Mark:
        """Let no more events in. Never waits; the worker ends once it is done."""
        queue = self.queue
        queue.closed = True
        mark = Mark(seals=True)
        queue.mark(mark)
        return mark

    def shutdown(self, timeout: float) -> bool:
        """Close, deliver what is queued, and after *timeout* drop what is left."""
        queue = self.queue
        deadline = monotonic() + timeout
        mark = self.close()
        if queue.deliverer == get_ident():
            return False
        if not self._reach(queue, mark, deadline):
            queue.given_up = True
            queue.settle()
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - monotonic()))
        return not queue.given_up

    def _reach(self, queue: BoundedQueue, mark: Mark, deadline: float) -> bool:
        while True:
            if not self._attend(queue) or not queue.waiting:
                self._deliver_here(queue, deadline)
            left = deadline - monotonic()
            if mark.reached.wait(max(0.0, min(left, _PATIENCE))):
                return True
            if left <= 0:
                return False
            queue.settle()

    # --- Who delivers ------------------------------------------------------------

    def _attend(self, queue: BoundedQueue) -> bool:
        """Make sure that somebody delivers if something waits; False if nobody can."""
        # Any other queue is the parent's, and so are the events in it.
        if queue is not self.queue or not queue.consumer or not queue.waiting:
            return True
        if monotonic() < self._start_due:
            return False
        return self._start_worker(queue)

    def _start_worker(self, queue: BoundedQueue) -> bool:
        try:
            del queue.consumer[0]
        except IndexError:
            return True
        exit_hook.enter_child()
        # Who takes this one entry, the worker or we, has the consumer's role.
        role: list[None] = [None]
        started = False
        try:
            thread = threading.Thread(
                target=self._work, args=(queue, role), name=self.name, daemon=True
            )
            thread.start()
            started = True
        except RuntimeError:
            # At interpreter shutdown (from Python 3.12), or no thread is to be had.
            self._start_due = monotonic() + _RETRY
        finally:
            if not started:
                self._take_back(queue, role)
        return started

    @staticmethod
    def _take_back(queue: BoundedQueue, role: list[None]) -> None:
        try:
            del role[0]
        except IndexError:
            return  # it did start: a signal handler raised in between
        queue.consumer.append(None)

    def _work(self, queue: BoundedQueue, role: list[None]) -> None:
        """Deliver until the queue is closed and empty. The worker's main function."""
        try:
            del role[0]
        except IndexError:
            return
        self._thread = threading.current_thread()
        runner = CoroutineRunner()
        queue.deliverer = get_ident()
        try:
            while self._deliver_all(queue, runner):
                queue.wake.wait()
        finally:
            queue.deliverer = 0
            runner.close()
            queue.consumer.append(None)
        self._attend(queue)

    def _deliver_all(self, queue: BoundedQueue, runner: CoroutineRunner) -> bool:
        """Deliver until nothing waits; return whether more may come."""
        # Another queue means that the handler has forked, and this is the child.
        while queue is self.queue:
            item = queue.take()
            if item is not None:
                self._deliver(queue, item, runner, contained=BaseException)
                queue.reach_marks()
                continue
            queue.settle()
            queue.reach_marks()
            if not queue.waiting:
                return not queue.sealed
        return False

    def _deliver_here(self, queue: BoundedQueue, deadline: float) -> None:
        """Deliver in this thread, because no worker can be had or none is needed."""
        try:
            del queue.consumer[0]
        except IndexError:
            return
        runner = CoroutineRunner()
        queue.deliverer = get_ident()
        try:
            item = queue.take()
            while item is not None and queue is self.queue:
                # KeyboardInterrupt is for whoever called flush() or shutdown().
                self._deliver(queue, item, runner, contained=Exception)
                queue.reach_marks()
                item = queue.take() if monotonic() < deadline else None
            queue.reach_marks()
        finally:
            queue.deliverer = 0
            runner.close()
            queue.consumer.append(None)

    # --- Delivering one event ----------------------------------------------------

    def _deliver(
        self,
        queue: BoundedQueue,
        item: Item,
        runner: CoroutineRunner,
        *,
        contained: type[BaseException],
    ) -> None:
        failed = True
        try:
            result = self._handler(*item.arguments)
            if result is not None and isinstance(result, Coroutine):
                runner.run(result)
            failed = False
        except contained as error:  # a handler must not end the worker
            with suppress(contained):
                self._report(item.arguments[0], error)
        finally:
            queue.finish(failed=failed)

    def _report(self, event: EventName, error: BaseException) -> None:
        name = dotted(event)
        self._log.report(f"background handler {self.name!r} on {name}", error)
        bus = self._bus()
        if event == FAILURE_EVENT or bus is None or not bus.has_handlers(FAILURE_EVENT):
            return
        from llmevents._redact import describe_error

        error_type, error_message = describe_error(error)
        clock = self._clock
        bus.execute(
            FAILURE_EVENT,
            {"monotonic_time": clock.monotonic_ns(), "system_time": clock.time_ns()},
            {
                "event": name,
                "handler_id": self.name,
                "kind": "error",
                "error_type": error_type,
                "error_message": error_message,
            },
        )
