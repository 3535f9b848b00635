"""What is running: status, flush, usage, and above all the end."""

from __future__ import annotations

import io
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import pytest

import llmevents
from llmevents import Bus, LLMEventsError, OptionError
from llmevents.config import ConfigError, Telemetry, Usage, configure, get_config
from llmevents.config._calls import Call
from llmevents.config._start import current
from llmevents.metrics import Counter, Metric, MetricDefinitionError, Sum
from llmevents.reporting import ReporterStatus
from llmevents.testing import capture


@pytest.fixture
def hanging(acme: ModuleType) -> Iterator[ModuleType]:
    """Reporters that hang until the test is over."""
    acme.released.clear()
    yield acme
    acme.released.set()
    _threads_left()


def _threads_left() -> list[str]:
    """Return the names of our threads that go on.

    A thread that has said that it is done is still there for a moment.
    """
    ours = [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("llmevents-")
    ]
    for thread in ours:
        thread.join(30)
    return [thread.name for thread in ours if thread.is_alive()]


def test_everything_is_on_the_bus_that_was_given() -> None:
    bus = Bus()
    with configure(bus=bus, metrics="basic") as telemetry:
        assert telemetry.bus is bus
        assert [info.handler_id for info in bus.list_handlers("llm.chat.stop")]
        bus.execute("llm.chat.stop", {"duration": 1}, {"model": "m"})
        family = telemetry.metrics.snapshot().families["llm.chat.requests.total"]
        assert family.series[0].value == 1

    assert bus.list_handlers() == []


def test_the_default_bus_is_the_default() -> None:
    before = llmevents.list_handlers()
    with configure(logger=False) as telemetry:
        assert telemetry.bus is llmevents.default_bus
        assert len(llmevents.list_handlers()) > len(before)
    assert llmevents.list_handlers() == before


@pytest.mark.parametrize(
    ("logger", "patterns"),
    [
        pytest.param(None, {"llm.**"}, id="by default"),
        pytest.param(True, {"llm.**"}, id="on"),
        pytest.param("debug", {"llm.**"}, id="level"),
        pytest.param(logging.ERROR, {"llm.**"}, id="number"),
        pytest.param(
            {"events": ["a.b", "c.*"], "level": "info"}, {"a.b", "c.*"}, id="table"
        ),
        pytest.param(False, set(), id="off"),
    ],
)
def test_the_logger_is_attached_as_asked(
    logger: bool | str | dict[str, object] | None, patterns: set[str]
) -> None:
    bus = Bus()
    with configure(bus=bus, logger=logger, metrics=False):
        attached = {".".join(info.event) for info in bus.list_handlers()}
    assert attached == patterns


@pytest.mark.parametrize(
    ("metrics", "count"),
    [
        pytest.param([], 0, id="none"),
        pytest.param("basic", 3, id="one preset"),
        pytest.param(["basic", "cost", "basic"], 8, id="several"),
        pytest.param([Counter("a.b.c"), "basic"], 4, id="and a definition"),
        pytest.param(Counter("a.b.c"), 1, id="a definition"),
    ],
)
def test_metrics_are_presets_and_definitions(
    metrics: str | list[str | Metric] | Metric, count: int
) -> None:
    with configure(bus=Bus(), logger=False, metrics=metrics) as telemetry:
        assert len(telemetry.metrics.definitions) == count


def test_metrics_that_do_not_agree_are_refused() -> None:
    definitions = [Counter("a.b.c"), Counter("a.b.c", tags=("x",))]
    with pytest.raises(MetricDefinitionError, match=r"a\.b\.c"):
        configure(bus=Bus(), metrics=definitions)


def test_max_series_is_the_limit() -> None:
    bus = Bus()
    counter = Counter("a.b.c", tags=("x",))
    with configure(bus=bus, logger=False, metrics=counter, max_series=2) as telemetry:
        for x in range(9):
            bus.execute("a.b", {}, {"x": str(x)})
        assert len(telemetry.metrics.snapshot().families["a.b.c"].series) == 3


@pytest.mark.parametrize(("idle", "shown"), [(1e-9, 0), (3600, 1), (False, 1), (0, 1)])
def test_a_series_is_forgotten_after_max_idle(idle: float, shown: int) -> None:
    bus = Bus()
    counter = Counter("a.b.c")
    with configure(bus=bus, logger=False, metrics=counter, max_idle=idle) as telemetry:
        bus.execute("a.b", {})
        telemetry.metrics.snapshot()
        assert len(telemetry.metrics.snapshot().families["a.b.c"].series) == shown


def test_an_idle_time_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_idle to be .*seconds"):
        configure(bus=Bus(), max_idle="soon")  # type: ignore[arg-type]  # being tested


def test_a_second_time_is_refused_until_the_first_has_ended() -> None:
    complaint = r"configured already: .*shutdown\(\)"
    with configure(bus=Bus()), pytest.raises(LLMEventsError, match=complaint):
        configure(bus=Bus())
    configure(bus=Bus()).shutdown()


def test_two_threads_cannot_configure_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert current._lock.acquire(blocking=False)
    try:
        with pytest.raises(LLMEventsError, match="in another thread"):
            configure(bus=Bus())
    finally:
        current._lock.release()


def test_status_has_what_everything_did(acme: ModuleType) -> None:
    bus = Bus()
    with configure(bus=bus, logger=False, reporters=["acme"]) as telemetry:
        bus.execute("llm.chat.stop", {"input_tokens": float("nan")}, {"model": "m"})
        status = telemetry.status()

        assert status.reporters["acme"].delivered == 1
        assert status.store["refused"] > 0
        assert status.bus == bus.stats()
        assert "running, reporters: acme" in repr(telemetry)


def test_reporters_are_started_in_order_and_all_are_stopped(acme: ModuleType) -> None:
    with configure(bus=Bus(), reporters=["anything", "acme"]) as telemetry:
        assert acme.calls == ["Acme.start", "Anything.start"]
        assert telemetry.flush()
        with pytest.raises(TypeError, match="does not support item assignment"):
            telemetry.reporters["x"] = None  # type: ignore[index]  # being tested

    flushed, stopped = sorted(acme.calls[2:4]), sorted(acme.calls[4:])
    assert flushed == ["Acme.flush", "Anything.flush"]
    assert stopped == [f"{name}.stop {os.getpid()}" for name in ("Acme", "Anything")]
    assert _threads_left() == []
    assert "not running" in repr(telemetry)


def test_shutting_down_again_does_nothing(acme: ModuleType) -> None:
    telemetry = configure(bus=Bus(), reporters=["acme"])
    for _ in range(3):
        telemetry.shutdown()

    assert len([call for call in acme.calls if "stop" in call]) == 1
    assert telemetry.flush()


def test_if_one_cannot_start_those_before_it_are_stopped(acme: ModuleType) -> None:
    bus = Bus()
    with pytest.raises(OSError, match="the port is taken"):
        configure(bus=bus, reporters=["acme", "zz-failing"])

    assert acme.calls == ["Acme.start", f"Acme.stop {os.getpid()}"]
    assert bus.list_handlers() == []
    assert _threads_left() == []
    configure(bus=bus).shutdown()


def test_a_reporter_that_hangs_holds_up_nobody(hanging: ModuleType) -> None:
    bus = Bus()
    failed: list[dict[str, object]] = []
    telemetry = configure(
        bus=bus, logger=False, reporters=["acme", "acme-two", "hanging"]
    )
    bus.attach(
        "t", "llmevents.reporter.*", lambda e, m, meta, c: failed.append(dict(meta))
    )
    began = monotonic()
    # On a busy machine those that do not hang need some time as well.
    assert not telemetry.flush(2)
    telemetry.shutdown(2)

    assert monotonic() - began < 2 + 2 + 5
    assert len([call for call in hanging.calls if call.startswith("Acme.stop")]) == 2
    assert [event["reason"] for event in failed] == ["flush_timeout", "stop_timeout"]
    assert failed[0]["reporter"] == "hanging"
    assert [info.handler_id for info in bus.list_handlers()] == ["t"]


def test_a_reporter_that_raises_stops_no_other(
    acme: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Bus()
    telemetry = configure(bus=bus, logger=False, reporters=["acme", "broken"])
    with capture("llmevents.reporter.failure", bus=bus) as events:
        assert not telemetry.flush()
        telemetry.shutdown()

    assert [event.metadata for event in events] == [
        {"reporter": "broken", "reason": f"{what}_error", "error_type": "OSError"}
        for what in ("flush", "stop")
    ]
    assert f"Acme.stop {os.getpid()}" in acme.calls
    assert "'broken': stop_error: OSError: stop is broken" in caplog.text


def test_who_comes_second_waits_for_the_end(hanging: ModuleType) -> None:
    telemetry = configure(bus=Bus(), logger=False, reporters=["hanging"])
    first = threading.Thread(target=telemetry.shutdown, args=(20,))
    first.start()
    while "Hanging.stop begun" not in hanging.calls:
        assert first.is_alive()
    telemetry.shutdown(0.01)  # in vain
    hanging.released.set()
    telemetry.shutdown(20)

    assert current.telemetry is None
    first.join(20)
    assert not first.is_alive()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    with configure(bus=Bus()) as telemetry:
        with pytest.raises(OptionError, match="timeout to be a finite number"):
            telemetry.shutdown(timeout)
        with pytest.raises(OptionError, match="timeout to be a finite number"):
            telemetry.flush(timeout)


def test_where_no_thread_can_be_started_a_call_is_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a forked child that ends, from Python 3.12 on."""

    def refuse(thread: threading.Thread) -> None:
        msg = "can't create new thread at interpreter shutdown"
        raise RuntimeError(msg)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    call = Call("t", lambda timeout: timeout > 0)
    call.begin(monotonic() + 5)

    assert call.join()
    assert call.result is True


def _call(bus: Bus, model: str, **numbers: int) -> None:
    metadata = {"operation": "chat", "provider": "p", "model": model}
    bus.execute("llm.chat.stop", numbers, {**metadata, "status": "success"})


@pytest.mark.parametrize("metrics", ["default", "service"])
def test_usage_is_what_calls_came_to(metrics: str) -> None:
    bus = Bus()
    with configure(bus=bus, logger=False, metrics=metrics) as telemetry:
        assert telemetry.usage() == Usage(
            calls=0, errors=0, input_tokens=0, output_tokens=0
        )
        _call(bus, "a", input_tokens=10, output_tokens=5, cost_nano_usd=123_456_789)
        _call(bus, "b", input_tokens=1, output_tokens=2)
        failure = {"operation": "chat", "model": "b", "status": "timeout"}
        bus.execute("llm.chat.exception", {"input_tokens": 1}, failure)
        usage = telemetry.usage()

    assert (usage.calls, usage.errors) == (3, 1)
    assert (usage.input_tokens, usage.output_tokens) == (12, 7)
    assert usage.cost_nano_usd == 123_456_789
    assert usage.by_model == {
        "a": Usage(
            calls=1,
            errors=0,
            input_tokens=10,
            output_tokens=5,
            cost_nano_usd=123_456_789,
        ),
        "b": Usage(calls=2, errors=1, input_tokens=2, output_tokens=2),
    }


def test_usage_that_nothing_counts_is_unknown() -> None:
    with configure(bus=Bus(), metrics=False) as telemetry:
        assert telemetry.usage() == Usage()
    with configure(bus=Bus(), metrics="basic") as telemetry:
        assert telemetry.usage() == Usage(calls=0, errors=0)


def test_a_metric_of_a_presets_name_that_is_no_number_is_passed_over() -> None:
    from llmevents.metrics import Summary

    bus = Bus()
    other = Summary("llm.requests.total", event="a.b", measurement="x")
    with configure(bus=bus, logger=False, metrics=other) as telemetry:
        bus.execute("a.b", {"x": 1})
        assert telemetry.usage().calls == 0


def test_sdks_are_instrumented_and_given_back() -> None:
    import openai

    completions = openai.resources.chat.completions.Completions
    before = vars(completions)["create"]
    with configure(bus=Bus(), logger=False, instrument=["openai"]):
        assert vars(completions)["create"] is not before
    assert vars(completions)["create"] is before


def test_what_was_instrumented_before_stays_so() -> None:
    import openai

    completions = openai.resources.chat.completions.Completions
    llmevents.instrument("openai")
    try:
        instrumented = vars(completions)["create"]
        with configure(bus=Bus(), logger=False, instrument=True):
            pass
        assert vars(completions)["create"] is instrumented
    finally:
        llmevents.uninstrument("openai")


def test_instrumenting_without_wrapt_is_answered_with_the_pip_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wrapt", None)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        configure(bus=Bus(), instrument="openai")


def test_disabled_by_configuration_nothing_runs() -> None:
    bus = Bus()
    telemetry = configure(bus=bus, enabled=False, reporters=["nothing"])

    assert bus.list_handlers() == []
    assert (telemetry.bus, telemetry.reporters) == (bus, {})
    configure(bus=bus).shutdown()


def test_what_does_nothing_can_be_used_like_any_other() -> None:
    with Telemetry() as telemetry:
        assert telemetry.bus is llmevents.default_bus
        assert telemetry.metrics.definitions == ()
        assert telemetry.metrics is telemetry.metrics
        assert telemetry.status().reporters == {}
        assert telemetry.usage() == Usage()
        assert telemetry.flush()
        telemetry.shutdown(1)


def test_disabled_by_the_environment_nothing_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMEVENTS_DISABLED", "1")
    bus = Bus()
    with configure(bus=bus, reporters=["nothing"]) as telemetry:
        assert telemetry.bus is bus
        assert bus.list_handlers() == []


def test_a_child_of_multiprocessing_has_its_own_way_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import multiprocessing.process
    from multiprocessing.util import _finalizer_registry  # type: ignore[attr-defined]  # to look at only

    before = dict(_finalizer_registry)
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: True)
    with configure(bus=Bus()):
        assert len(_finalizer_registry) == len(before) + 1
    assert _finalizer_registry == before


def test_in_a_child_reporters_are_told_by_threads_of_the_child(
    acme: ModuleType,
) -> None:
    telemetry = configure(bus=Bus(), reporters=["acme"])
    running = telemetry._running
    assert running is not None
    running.pid += 1  # as it looks in a child
    telemetry.shutdown()
    assert acme.calls[-1] == f"Acme.stop {os.getpid()}"

    for call in running.stops.values():  # of the parent, which goes on
        call.begin(monotonic() + 10)
        assert call.join()


def _python(source: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **variables},
    )


def test_disabled_by_the_environment_nothing_is_read_or_imported() -> None:
    Path("llmevents.toml").write_text("this is no TOML")
    done = _python(
        "import sys, llmevents.config as config\n"
        "before = set(sys.modules)\n"
        "t = config.configure(reporters={'nothing': 1}, instrument=['x'], x=1)\n"
        "t.shutdown()\n"
        "print(sorted(set(sys.modules) - before), len(t.bus.list_handlers()))\n"
        "heavy = {'tomllib', 'inspect', 'wrapt', 'structlog', 'dataclasses'}\n"
        "print(sorted(heavy & set(sys.modules)))\n",
        LLMEVENTS_DISABLED="1",
    )
    assert done.stdout == "[] 0\n[]\n", done.stderr


def test_reporters_are_stopped_when_the_process_ends(acme: ModuleType) -> None:
    done = _python(
        "import llmevents.config, acme_reporters\n"
        "acme_reporters.Acme.stop = lambda self, timeout: print('stopped', timeout > 20)\n"
        "llmevents.config.configure(reporters=['acme'], shutdown_timeout=30)\n"
    )
    assert done.stdout == "stopped True\n", done.stderr


def test_a_reporter_that_hangs_does_not_keep_the_process(acme: ModuleType) -> None:
    began = monotonic()
    done = _python(
        "import llmevents.config, acme_reporters\n"
        "acme_reporters.Acme.stop = lambda self, timeout: print('stopped')\n"
        "llmevents.config.configure(\n"
        "    reporters=['acme', 'hanging'], shutdown_timeout=3)\n"
    )
    assert done.returncode == 0
    assert monotonic() - began < 30
    assert done.stdout == "stopped\n", done.stderr


def test_a_child_of_multiprocessing_ends_it_too(acme: ModuleType) -> None:
    Path("child.py").write_text(
        "import multiprocessing, llmevents.config\n"
        "import acme_reporters\n"
        "def run():\n"
        "    stop = lambda self, timeout: print('stopped', flush=True)\n"
        "    acme_reporters.Acme.stop = stop\n"
        "    llmevents.config.configure(reporters=['acme'])\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=run)\n"
        "    child.start(); child.join(50)\n"
    )
    done = subprocess.run(
        [sys.executable, "child.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "stopped\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_the_parents_telemetry_alone(acme: ModuleType) -> None:
    done = _python(
        "import os, llmevents.config, llmevents, acme_reporters\n"
        "def stop(self, timeout): print('stopped in', os.getpid() == parent, flush=True)\n"
        "acme_reporters.Acme.stop = stop\n"
        "bus = llmevents.Bus()\n"
        "t = llmevents.config.configure(bus=bus, logger=False, reporters=['acme'])\n"
        "parent = os.getpid()\n"
        "if (pid := os.fork()) == 0:\n"
        "    t.shutdown(); t.shutdown()\n"
        "    llmevents.config.configure(bus=bus).shutdown()\n"
        "    os._exit(7)\n"
        "status = os.waitpid(pid, 0)[1]\n"
        "print(os.waitstatus_to_exitcode(status), flush=True)\n"
        "print(t, len(bus.list_handlers()) > 0, t.flush(), flush=True)\n"
        "t.shutdown()\n"
    )
    assert done.stdout.splitlines() == [
        "stopped in False",
        "7",
        "<Telemetry running, reporters: acme> True True",
        "stopped in True",
    ], done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_the_end_is_under_way_does_not_wait() -> None:
    telemetry = configure(bus=Bus())
    telemetry._turn.clear()
    running = telemetry._running
    assert running is not None
    running.pid += 1  # as it looks in a child
    telemetry.shutdown(60)

    running.pid -= 1
    telemetry._turn.append(True)
    telemetry.shutdown()


def test_configuring_in_a_child_does_not_wait_for_a_thread_of_the_parent() -> None:
    assert current._lock.acquire(blocking=False)
    current.after_fork_in_child()

    configure(bus=Bus()).shutdown()


def test_get_config_is_of_what_is_running(acme: ModuleType) -> None:
    with configure(bus=Bus(), reporters={"acme": {"port": 4}}):
        settings = get_config()
        assert settings["reporters.acme.port"].value == 4
        with pytest.raises(TypeError, match="does not support item assignment"):
            settings["x"] = settings["metrics"]  # type: ignore[index]  # being tested
    assert "reporters.acme.port" not in get_config()


def test_what_reporters_and_the_store_lose_becomes_events(acme: ModuleType) -> None:
    """Once at the end at the latest, and nothing twice."""
    dropped: list[tuple[object, ...]] = []

    def keep(_event: object, measurements: Any, metadata: Any, _: object) -> None:  # noqa: ANN401  # as a handler has them
        lost = (metadata["reporter"], metadata["reason"], measurements["count"])
        dropped.append(lost)

    def status() -> ReporterStatus:
        return ReporterStatus(accepted=5, delivered=2, dropped={"full": 3})

    bus = Bus(strict=True)
    bus.attach("keep", "llmevents.reporter.dropped", keep)
    definitions = [Sum("tokens", event="llm.chat.stop", measurement="input_tokens")]
    with configure(
        bus=bus, reporters={"acme": {}}, metrics=definitions, logger=False
    ) as telemetry:
        telemetry.reporters["acme"].status = status  # type: ignore[method-assign]  # it loses something
        bus.execute("llm.chat.stop", {"input_tokens": math.nan})
        telemetry._running._losses.emit()  # type: ignore[union-attr]  # as every ten seconds

    assert sorted(dropped) == [("acme", "full", 3), ("store", "refused", 1)]
    assert telemetry.status().store == {"refused": 1, "skipped": 0, "overflowing": 0}


def test_a_stream_of_any_kind_is_good_for_an_option_that_is_one() -> None:
    stream = io.StringIO()
    options = {"stream": stream, "live": False}

    configure(bus=Bus(), logger=False, reporters={"console": options}).shutdown()

    assert "no events yet" in stream.getvalue()
    with pytest.raises(ConfigError, match="stream to be a TextIO"):
        configure(bus=Bus(), logger=False, reporters={"console": {"stream": 3}})


def test_a_logger_that_was_attached_by_hand_stays_as_it_is() -> None:
    bus = Bus()
    by_hand = llmevents.attach_default_logger("warning", bus=bus)

    configure(bus=bus).shutdown()

    assert [info.handler_id for info in bus.list_handlers()] == [
        "llmevents.default_logger"
    ]
    by_hand.detach()
