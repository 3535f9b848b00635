"""What holds for every reporter, as tests to inherit."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, NoReturn, cast

from llmevents import LLMEventsError, OptionError
from llmevents.metrics import Metric, MetricDefinitionError, presets
from llmevents.reporting import Reporter
from llmevents.testing import _conformance_hostile as hostile
from llmevents.testing._conformance_definitions import METRICS, ODD, TAGGED
from llmevents.testing._conformance_run import (
    Resources,
    Run,
    child_complaint,
    eventually,
    exit_functions,
    expect,
    frequent_switches,
    within,
)
from llmevents.testing._conformance_source import private_imports


if TYPE_CHECKING:
    from llmevents import Bus

METHODS: Mapping[str, tuple[str, ...]] = {
    "start": ("bus", "metrics"),
    "flush": ("timeout",),
    "stop": ("timeout",),
    "status": (),
}

CHILD_SECONDS = 5.0
"""How long a forked child may live; it has next to nothing to do."""

THREADS = 8
CALLS = 100

EMITTING_SECONDS = 60.0
"""Long enough for a busy machine; it only runs out in a deadlock."""


class ReporterConformance:
    """Tests of a reporter, to inherit from: the claims that all reporters keep.

    pytest runs them for each subclass whose name begins with ``Test``::

        class TestMine(ReporterConformance):
            def make(self) -> Reporter:
                return MyReporter(path="/tmp/metrics.jsonl")

    Whatever else the reporter needs, such as a server to talk to, comes from
    fixtures: an ``autouse`` fixture of the subclass gets the same ``self``. What a
    reporter cannot be asked, because a hook below is not overridden, is skipped.

    Attributes:
        timeout_seconds: What ``flush`` and ``stop`` are given.
        supports_fork: Whether the reporter promises to report what happens in a
            forked child. By default it has to be quiet there.
        bad_options: Options, each a mapping of keywords for ``make()``, that are wrong.
    """

    timeout_seconds: ClassVar[float] = 10.0
    supports_fork: ClassVar[bool] = False
    bad_options: ClassVar[Sequence[Mapping[str, object]]] = ()

    # --- hooks ------------------------------------------------------------------------

    def make(self) -> Reporter:
        """Return a new reporter that is not started. To be overridden.

        The other side, if it needs one, is there and works. May take ``**options``
        and pass them on to the reporter, so that wrong ones can be tried. Several
        may be made in one test; one at a time is started.
        """
        msg = f"{type(self).__name__} needs a method make() that returns the reporter"
        raise NotImplementedError(msg)

    def received(self) -> int | None:
        """Return how many of what ``delivered`` counts the other side has got so far.

        None, the default, if there is no telling.
        """
        return None

    def vanish(self) -> None:
        """Make the other side go away: stop the server, close the file."""
        _skip("vanish() is not overridden to make the other side go away")

    # --- shape ------------------------------------------------------------------------

    def test_it_has_the_methods_of_a_reporter(self) -> None:
        """Named and with parameters as in `llmevents.reporting.Reporter`."""
        reporter = self.make()
        for name, parameters in METHODS.items():
            method = getattr(reporter, name, None)
            wanted = f"def {name}({', '.join(('self', *parameters))})"
            expect(callable(method), f"the reporter has no {name}(); add {wanted}")
            signature = inspect.signature(cast("Callable[..., object]", method))
            fits = list(signature.parameters)[: len(parameters)] == list(parameters)
            try:
                signature.bind(*parameters)
            except TypeError:
                fits = False
            expect(fits, f"{name} has the signature {signature}; expected {wanted}")
            expect(
                not inspect.iscoroutinefunction(method),
                f"{name} is a coroutine function, which nobody awaits; use def",
            )

    def test_it_imports_nothing_private(self) -> None:
        """What is private may change with any release."""
        found = private_imports(type(self.make()).__module__)
        expect(
            not found,
            f"it imports {', '.join(found)}; names that begin with an underscore may "
            "change with any release, use those that llmevents documents",
        )

    def test_wrong_options_raise_when_it_is_made(self) -> None:
        """At the start of a program, where somebody is looking."""
        make = cast("Callable[..., Reporter]", self.make)
        kinds = {each.kind for each in inspect.signature(make).parameters.values()}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            _skip("make() takes no **options to pass on to the reporter")
        for options in ({"no_such_option": 1}, *self.bad_options):
            try:
                made = make(**options)
            except (OptionError, TypeError):
                continue
            with suppress(Exception):
                made.stop(0.0)
            expect(
                condition=False,
                message=f"it takes the options {options!r}; raise llmevents.OptionError "
                "for a wrong value, and take no unknown option",
            )

    # --- counts -----------------------------------------------------------------------

    def test_its_counts_add_up_at_every_stage(self) -> None:
        """Accepted = delivered + dropped + queued, so that nothing gets lost unseen."""
        run = self._run()
        run.status("before the start")
        with self._started(run):
            run.status("after the start")
            run.emit()
            run.status("after some events")
            flushed = run.flush()
            run.status("after a flush")
            expect(flushed, "flush() returned False although it had all the time")
            run.emit()
        status = run.status("after the stop")
        expect(
            status.queued == 0,
            f"after the stop, {status.queued} are queued still; deliver them or count "
            "them as dropped",
        )
        run.expect_no_failures("ordinary events")

    def test_its_counts_add_up_while_eight_threads_emit(self) -> None:
        """Who reads them must not see one thing counted and another not yet."""
        run = self._run()
        threads = [
            threading.Thread(target=run.emit, args=(CALLS,), daemon=True)
            for _ in range(THREADS)
        ]

        def read() -> None:
            while any(thread.is_alive() for thread in threads):
                run.check(run.reporter.status(), "while eight threads emit")

        with self._started(run), frequent_switches():
            for thread in threads:
                thread.start()
            within(self.timeout_seconds + EMITTING_SECONDS, "status()", read)
            run.flush()
        run.status("after eight threads have emitted")
        run.expect_no_failures("events of eight threads")
        counted = sum(
            cast("int", series.value)
            for series in run.store.snapshot().families["llm.requests.total"].series
        )
        expect(
            counted == THREADS * CALLS,
            f"the store has {counted} of {THREADS * CALLS} calls; a reporter reads "
            "the store and leaves attaching and detaching it to the program",
        )

    def test_what_it_counts_as_delivered_has_arrived(self) -> None:
        """Delivered is what the other side got, not what was sent off."""
        run = self._run()
        before = self.received()
        if before is None:
            _skip("received() is not overridden to say what the other side has got")
        with self._started(run):
            run.emit()
            run.flush()
        self._expect_received(run, before)

    # --- life -------------------------------------------------------------------------

    def test_flush_and_stop_return_in_time(self) -> None:
        """Also where there is no time at all, and where nothing was started."""
        run = self._run()
        run.flush()
        run.stop()
        with self._started(run):
            run.emit()
            within(0.0, "flush(0)", lambda: run.reporter.flush(0.0))
            run.flush()
            run.emit()
            within(0.0, "stop(0)", lambda: run.reporter.stop(0.0))
        run.flush()

    def test_a_second_stop_does_nothing(self) -> None:
        """Programs end in more than one way at once."""
        run = self._run()
        with self._started(run):
            run.emit()
        status = run.status("after the stop")
        run.stop()
        again = run.status("after a second stop")
        expect(again == status, f"a second stop() changed {status} to {again}")

    def test_stop_leaves_nothing_behind(self) -> None:
        """Neither a thread nor an open file nor a handler on the bus."""
        # What a first run loads, such as a selector or certificates, may stay.
        with self._started(self._run()) as run:
            run.emit()
        run = self._run()
        before = Resources.now()
        for _ in range(3):
            if _refusal(run) is None:
                with _stopping(run):
                    run.emit()
                    run.flush()
        gone = eventually(
            self.timeout_seconds, lambda: not Resources.now().since(before)
        )
        left = Resources.now().since(before)
        expect(gone, f"stop() left {left}; end and close what start() has begun")
        expect(
            not run.left_handlers,
            f"stop() left the handlers {sorted(map(repr, run.left_handlers))} on the "
            "bus; detach what start() has attached",
        )

    def test_a_program_that_forgets_to_stop_it_can_end(self) -> None:
        """Python waits for all threads that are not daemons."""
        run = self._run()
        before = set(threading.enumerate())
        with self._started(run):
            run.emit()
            run.flush()
            holding = [
                thread.name
                for thread in set(threading.enumerate()) - before
                if not thread.daemon
            ]
        expect(
            not holding,
            f"the threads {holding} would keep a program from ending that does not "
            "stop the reporter; make them daemons",
        )

    def test_it_starts_again_after_a_stop_or_refuses(self) -> None:
        """A program may shut down and configure anew, with another bus and store."""
        run = self._run()
        with self._started(run):
            run.emit()
        run = Run(run.reporter, self.timeout_seconds)
        if _refusal(run) is None:
            with _stopping(run):
                self._expect_alive(run, "a stop and another start")
            run.status("after another stop")

    def test_a_second_start_is_refused(self) -> None:
        """Two starts would report everything twice."""
        run = self._run()
        with self._started(run):
            error = _refusal(run)
            expect(
                error is not None,
                "start() was accepted twice; raise an llmevents.LLMEventsError that "
                "says that the reporter is started already",
            )
            self._expect_alive(run, "a second start")

    # --- what comes in ----------------------------------------------------------------

    def test_every_type_of_metric_is_taken_or_refused_at_the_start(self) -> None:
        """Not at the first event, and not in silence."""
        for what, definitions in METRICS.items():
            self._take_or_refuse(what, definitions)

    def test_hostile_text_harms_nobody(self) -> None:
        """Text comes from users and models, and ends up in files and protocols."""
        for what, definitions in ODD.items():
            self._take_or_refuse(what, definitions)
        run = self._run([*presets.default(), *TAGGED])
        with self._started(run):
            for text in hostile.TEXTS:
                hostile.emit_text(run.bus, text)
            for value in hostile.OBJECTS:
                hostile.emit_text(run.bus, value)
            self._expect_alive(run, "hostile text")

    def test_hostile_numbers_harm_nobody(self) -> None:
        """Measurements that are no numbers, and those at the ends of the range."""
        for what, definitions in METRICS.items():
            self._take_or_refuse(what, definitions, hostile.emit_numbers)
        run = self._run()
        with self._started(run):
            hostile.emit_numbers(run.bus)
            self._expect_alive(run, "hostile numbers")

    # --- the rest of the world --------------------------------------------------------

    def test_a_forked_child_may_emit_and_ends_at_once(self) -> None:
        """Web servers fork their workers; what is open belongs to the parent."""
        if not hasattr(os, "fork"):
            _skip("there is no os.fork here")
        with exit_functions() as at_exit:
            run = self._run()
            before = self.received()
            with self._started(run):
                run.emit()
                run.flush()
                complaint = child_complaint(
                    CHILD_SECONDS,
                    [
                        ("emitting", run.emit),
                        ("status()", lambda: run.status("in a forked child")),
                        ("flush()", run.flush),
                        ("stop()", run.stop),
                        ("its exit", lambda: [run_it() for run_it in at_exit[::-1]]),
                    ],
                )
                expect(
                    not complaint,
                    f"a forked child did not end well: {complaint}; a child has none "
                    "of its parent's threads, and copies of locks as they were",
                )
                self._expect_alive(run, "a fork")
        if before is not None and not self.supports_fork:
            self._expect_received(run, before)

    def test_it_outlives_the_other_side(self) -> None:
        """The other side goes away first, as often as not."""
        run = self._run()
        with self._started(run):
            run.emit()
            run.flush()
            self.vanish()
            run.emit()
            run.flush()
            run.status("after the other side has gone")
            run.emit()
        run.status("after a stop without the other side")
        run.expect_no_failures("the end of the other side")

    # ----------------------------------------------------------------------------------

    def _run(self, definitions: Sequence[Metric] | None = None) -> Run:
        return Run(self.make(), self.timeout_seconds, definitions)

    @contextmanager
    def _started(self, run: Run) -> Iterator[Run]:
        """Start the reporter, and stop it at the end of the block come what may."""
        __tracebackhide__ = True
        run.start()
        with _stopping(run):
            yield run

    def _take_or_refuse(
        self,
        what: str,
        definitions: Sequence[Metric],
        emit: Callable[[Bus], None] | None = None,
    ) -> None:
        run = self._run(definitions)
        try:
            run.start()
        except MetricDefinitionError:
            expect(
                not run.left_handlers,
                f"start() refused {what} and left handlers on the bus; check before "
                "anything is begun",
            )
            run.stop()
            return
        except Exception as error:
            msg = (
                f"start() raised {error!r} for {what}; raise "
                "llmevents.metrics.MetricDefinitionError, which names the metric"
            )
            raise AssertionError(msg) from error
        with _stopping(run):
            if emit is not None:
                emit(run.bus)
            self._expect_alive(run, what)

    def _expect_alive(self, run: Run, after: str) -> None:
        run.emit()
        expect(run.flush(), f"flush() returned False after {after}; does it still run?")
        run.status(f"after {after}")
        run.expect_no_failures(after)

    def _expect_received(self, run: Run, before: int) -> None:
        def received() -> int:
            return (self.received() or 0) - before

        delivered = run.status("after the stop").delivered
        expect(
            eventually(self.timeout_seconds, lambda: received() == delivered),
            f"{delivered} are said to be delivered, and {received()} have arrived",
        )
        expect(delivered, "nothing was delivered, of ten calls and a flush")


@contextmanager
def _stopping(run: Run) -> Iterator[None]:
    """Stop the reporter at the end of the block; what the block raised comes first."""
    try:
        yield
    except BaseException:
        with suppress(AssertionError):
            run.stop()
        raise
    run.stop()


def _refusal(run: Run) -> Exception | None:
    """Start; return how that was refused, or None if it was not."""
    try:
        run.start()
    except (LLMEventsError, RuntimeError) as error:
        expect(str(error), f"start() raised {error!r} and does not say why")
        return error
    return None


def _skip(reason: str) -> NoReturn:
    import pytest

    pytest.skip(reason)
