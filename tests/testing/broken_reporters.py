"""A good reporter, and many that get one thing wrong each."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from llmevents import (
    Bus,
    EventName,
    LLMEventsError,
    Measurements,
    Metadata,
    OptionError,
    Subscription,
)
from llmevents.metrics import Counter, MetricDefinitionError, MetricStore, Sum
from llmevents.reporting import ReporterStatus


Item: TypeAlias = EventName | threading.Event | None
"""An event, somebody who waits for those before it, or the end."""


class Good:
    """A reporter that hands every event to a file, one line each, from a thread.

    What subclasses get wrong is theirs.
    """

    daemon = True

    def __init__(self, *, path: Path, size: int = 1) -> None:
        if size < 1:
            raise OptionError(size, "size", "1 or more")
        self.path = path
        self.delivered = 0
        self.lost = 0
        self.queue: SimpleQueue[Item] = SimpleQueue()
        self.worker: threading.Thread | None = None
        self.subscription: Subscription | None = None
        self.pid = os.getpid()

    def start(self, bus: Bus, metrics: MetricStore) -> None:
        if self.is_running():
            msg = "it is started already"
            raise LLMEventsError(msg)
        self.subscription = bus.attach(("good", self), "llm.**", self.handle)
        self.worker = threading.Thread(target=self.work, daemon=self.daemon)
        self.worker.start()

    def flush(self, timeout: float) -> bool:
        if not self.is_running():
            return True
        done = threading.Event()
        self.queue.put(done)
        return done.wait(timeout)

    def stop(self, timeout: float) -> None:
        if self.subscription is not None and self.worker is not None:
            self.subscription.detach()
            if self.is_running():
                self.queue.put(None)
                self.worker.join(timeout)

    def status(self) -> ReporterStatus:
        delivered, lost, queued = self.delivered, self.lost, self.queue.qsize()
        return ReporterStatus(
            accepted=delivered + lost + queued,
            delivered=delivered,
            dropped={"gone": lost} if lost else {},
            queued=queued,
        )

    def is_running(self) -> bool:
        worker = self.worker
        return worker is not None and worker.is_alive() and self.pid == os.getpid()

    def handle(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,
    ) -> None:
        if self.pid == os.getpid():
            self.take(event, measurements, metadata)

    def take(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        self.queue.put(event)

    def work(self) -> None:
        while (item := self.queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            else:
                self.deliver(item)

    def deliver(self, event: EventName) -> None:
        try:
            with self.path.open("a") as file:
                file.write(f"{'.'.join(event)[:9]}\n")
        except OSError:
            self.lost += 1
        else:
            self.delivered += 1


# --- reporters that get something wrong -----------------------------------------------

BROKEN: dict[str, tuple[type[Good], str, str]] = {}


def fails(claim: str, message: str) -> Callable[[type[Good]], type[Good]]:
    """Note that the decorated reporter fails *claim*, with such a *message*."""

    def note(reporter: type[Good]) -> type[Good]:
        BROKEN[reporter.__name__] = (reporter, f"test_{claim}", message)
        return reporter

    return note


@fails("it_has_the_methods_of_a_reporter", r"no flush\(\); add def flush\(self, time")
class HasNoFlush(Good):
    flush = None  # type: ignore[assignment]  # what is wrong with it


@fails("it_has_the_methods_of_a_reporter", r"start has the signature \(bus: 'Bus'\)")
class StartsWithoutMetrics(Good):
    def start(self, bus: Bus) -> None:  # type: ignore[override]  # likewise
        raise NotImplementedError


@fails("it_has_the_methods_of_a_reporter", r"flush has the signature \(timeout: 'fl")
class WantsTwoTimeouts(Good):
    def flush(self, timeout: float, other: float) -> bool:  # type: ignore[override]  # likewise
        raise NotImplementedError


@fails("it_has_the_methods_of_a_reporter", "stop is a coroutine function")
class StopsLater(Good):
    async def stop(self, timeout: float) -> None:  # type: ignore[override]  # likewise
        raise NotImplementedError


@fails("wrong_options_raise_when_it_is_made", r"takes the options \{'no_such_option'")
class TakesAnyOption(Good):
    def __init__(self, *, path: Path, **options: object) -> None:
        super().__init__(path=path)


@fails("wrong_options_raise_when_it_is_made", r"takes the options \{'size': 0\}")
class TakesAnySize(Good):
    def __init__(self, *, path: Path, size: int = 1) -> None:
        super().__init__(path=path)


@fails("its_counts_add_up_at_every_stage", r"after (some events|a flush), accepted = 0")
class ForgetsToCount(Good):
    def status(self) -> ReporterStatus:
        return replace(super().status(), accepted=0)


@fails(
    "its_counts_add_up_at_every_stage", r"before the start, returned None; return an"
)
class HasNoStatus(Good):
    def status(self) -> ReporterStatus:
        return None  # type: ignore[return-value]  # likewise


@fails("its_counts_add_up_at_every_stage", "before the start, the counts are .*=-1")
class CountsBackwards(Good):
    def status(self) -> ReporterStatus:
        return ReporterStatus(accepted=0, delivered=-1, queued=1)


@fails("its_counts_add_up_at_every_stage", r"status\(\), before the start, raised Zero")
class RaisesFromStatus(Good):
    def status(self) -> ReporterStatus:
        raise ZeroDivisionError


@fails("its_counts_add_up_at_every_stage", "after the stop, 3 are queued still")
class LeavesSomeQueued(Good):
    def status(self) -> ReporterStatus:
        queued = 0 if self.worker is None or self.is_running() else 3
        return ReporterStatus(accepted=queued, queued=queued)


@fails("its_counts_add_up_at_every_stage", r"flush\(\) returned False although")
class IsNeverDone(Good):
    def flush(self, timeout: float) -> bool:
        super().flush(timeout)
        return self.worker is None


@fails("its_counts_add_up_while_eight_threads_emit", "while eight threads emit, acc")
class ReadsItsCountsOneByOne(Good):
    def status(self) -> ReporterStatus:
        accepted = super().status().accepted
        threading.Event().wait(0.005)
        return replace(super().status(), accepted=accepted)


@fails("its_counts_add_up_while_eight_threads_emit", "the store has 0 of 800 calls")
class DetachesTheStore(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        metrics.detach()
        super().start(bus, metrics)


@fails("what_it_counts_as_delivered_has_arrived", r"delivered, and 0 have arrived")
class SendsNothing(Good):
    def deliver(self, event: EventName) -> None:
        self.delivered += 1


@fails("what_it_counts_as_delivered_has_arrived", "nothing was delivered, of ten call")
class TakesNothingIn(Good):
    def take(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        pass


@fails("flush_and_stop_return_in_time", r"stop\(1\) did not return within 1 s")
class WaitsForever(Good):
    def stop(self, timeout: float) -> None:
        super().stop(timeout)
        threading.Event().wait(30)


@fails("flush_and_stop_return_in_time", r"flush\(\) returned None; return True")
class DoesNotSay(Good):
    def flush(self, timeout: float) -> bool:
        return None  # type: ignore[return-value]  # likewise


@fails("flush_and_stop_return_in_time", r"stop\(1\) raised AttributeError")
class NeedsAStart(Good):
    def stop(self, timeout: float) -> None:
        self.worker.join(timeout)  # type: ignore[union-attr]  # likewise


@fails("a_second_stop_does_nothing", r"a second stop\(\) changed")
class CountsItsStops(Good):
    def stop(self, timeout: float) -> None:
        super().stop(timeout)
        self.lost += 1


@fails("stop_leaves_nothing_behind", "left threads .*left behind")
class LeavesAThread(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        super().start(bus, metrics)
        forever = threading.Event()
        threading.Thread(target=forever.wait, name="left behind", daemon=True).start()


@fails("stop_leaves_nothing_behind", "left file descriptors")
class LeavesAFile(Good):
    left: list[int] = []  # noqa: RUF012  # for the test to close

    def start(self, bus: Bus, metrics: MetricStore) -> None:
        super().start(bus, metrics)
        self.left.append(os.open(os.devnull, os.O_RDONLY))


@fails("stop_leaves_nothing_behind", r"left the handlers \[.*'left'.*\] on the bus")
class LeavesAHandler(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        super().start(bus, metrics)
        bus.attach(("left", object()), "llm.**", print)


@fails("a_program_that_forgets_to_stop_it_can_end", "would keep a program from ending")
class HoldsTheProgram(Good):
    daemon = False


@fails("it_starts_again_after_a_stop_or_refuses", r"flush\(\) returned False after")
class StartsOnlyOnce(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        if self.worker is None:
            super().start(bus, metrics)

    def flush(self, timeout: float) -> bool:
        return self.worker is None or self.is_running()


@fails("it_starts_again_after_a_stop_or_refuses", "does not say why")
class RefusesWithoutAWord(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        if self.worker is not None:
            raise LLMEventsError
        super().start(bus, metrics)


@fails("a_second_start_is_refused", r"start\(\) was accepted twice")
class StartsTwice(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        if not self.is_running():
            super().start(bus, metrics)


@fails(
    "every_type_of_metric_is_taken_or_refused_at_the_start", "TypeError.* for a Sum;"
)
class ChokesOnSums(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        if any(isinstance(each, Sum) for each in metrics.definitions):
            raise TypeError
        super().start(bus, metrics)


@fails(
    "every_type_of_metric_is_taken_or_refused_at_the_start",
    "refused a Counter and left handlers",
)
class RefusesTooLate(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        bus.attach(("late", object()), "llm.**", print)
        for each in metrics.definitions:
            if isinstance(each, Counter):
                raise MetricDefinitionError(each.name, "no counters")
        bus.detach(bus.list_handlers("llm")[-1].handler_id)
        super().start(bus, metrics)


@fails("hostile_text_harms_nobody", "a handler of the reporter has raised: Unicode")
class ChokesOnText(Good):
    def take(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        if isinstance(metadata.get("model"), str):
            metadata["model"].encode()
        super().take(event, measurements, metadata)


@fails("hostile_text_harms_nobody", r"flush\(\) returned False after hostile text")
class DiesOfText(Good):
    died = False

    def take(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        text = metadata.get("text")
        if isinstance(text, str) and "\x00" in text:
            self.died = True

    def flush(self, timeout: float) -> bool:
        return not self.died


@fails("hostile_numbers_harm_nobody", "has raised: (ValueError|OverflowError)")
class ChokesOnNumbers(Good):
    def take(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        duration = measurements.get("duration", 0)
        if isinstance(duration, float):
            int(duration)
        super().take(event, measurements, metadata)


@fails("a_forked_child_may_emit_and_ends_at_once", r"it hung in flush\(\)")
class WaitsInAChild(Good):
    def is_running(self) -> bool:
        return self.worker is not None

    def flush(self, timeout: float) -> bool:
        if self.pid != os.getpid():
            threading.Event().wait(60)
        return super().flush(timeout)

    def stop(self, timeout: float) -> None:
        super().stop(timeout)
        self.worker = None


@fails("a_forked_child_may_emit_and_ends_at_once", "its exit raised Zero")
class RaisesAtTheExit(Good):
    def start(self, bus: Bus, metrics: MetricStore) -> None:
        super().start(bus, metrics)
        atexit.register(self.at_exit, 1)

    def at_exit(self, number: int) -> float:
        return 0.0 if self.pid == os.getpid() else number / 0


@fails("a_forked_child_may_emit_and_ends_at_once", r"\d+ are said to be .*, and \d+ ha")
class ReportsForItsChildren(Good):
    def handle(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        config: object,
    ) -> None:
        if self.pid == os.getpid():
            super().handle(event, measurements, metadata, config)
        else:
            self.deliver(event)


@fails("a_forked_child_may_emit_and_ends_at_once", "in a forked child, accepted = 1 is")
class MiscountsInAChild(Good):
    def status(self) -> ReporterStatus:
        return (
            super().status() if self.pid == os.getpid() else ReporterStatus(accepted=1)
        )


@fails("it_outlives_the_other_side", r"flush\(1\) raised FileNotFoundError")
class NeedsTheOtherSide(Good):
    def flush(self, timeout: float) -> bool:
        flushed = super().flush(timeout)
        if self.is_running():
            self.path.stat()
        return flushed


@fails("it_outlives_the_other_side", "after the end of the other side, a handler")
class WritesWhereItIsCalled(Good):
    def take(
        self, event: EventName, measurements: Measurements, metadata: Metadata
    ) -> None:
        if self.path.exists() or not self.delivered:
            super().take(event, measurements, metadata)
        else:
            raise FileNotFoundError(self.path)
