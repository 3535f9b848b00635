"""Events as blinker signals and the other way round, with real Flask."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import count
from typing import Any, NoReturn, TypeAlias

import blinker
import flask
import pytest

import llmevents
from llmevents import Bus
from llmevents._errors import (
    EventNameError,
    HandlerError,
    LLMEventsError,
    OptionError,
    UndeclaredEventError,
)
from llmevents._forwarding import Extract
from llmevents.signals import EventSignal, Forwarding, forward, signal


AnyReceiver: TypeAlias = Callable[..., object]

STOP = "llm.chat.stop"
JOIN_SECONDS = 300


class Receiver:
    """Remembers what it was called with. `hear` is a bound method."""

    def __init__(self) -> None:
        self.senders: list[object] = []
        self.events: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []

    def hear(
        self,
        sender: object,
        *,
        event: str,
        measurements: Mapping[str, Any],
        metadata: Mapping[str, Any],
    ) -> None:
        self.senders.append(sender)
        self.events.append((event, measurements, metadata))


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def heard(bus: Bus) -> Iterator[list[tuple[Any, ...]]]:
    """Every event of the bus, as its handlers get it."""
    events: list[tuple[Any, ...]] = []

    def note(*event: object) -> None:
        events.append(event[:3])

    with bus.attach("test", "**", note):
        yield events


# --- From events to signals --------------------------------------------------------


def test_a_receiver_gets_the_event(bus: Bus) -> None:
    receiver = Receiver()
    signal(STOP, bus=bus).connect(receiver.hear)
    measurements, metadata = {"duration": 5}, {"provider": "openai"}
    bus.execute(STOP, measurements, metadata)
    assert receiver.senders == ["openai"]
    ((event, got_measurements, got_metadata),) = receiver.events
    assert event == STOP
    assert got_measurements is measurements
    assert got_metadata is metadata


def test_the_same_arguments_give_the_same_signal(bus: Bus) -> None:
    first = signal(STOP, bus=bus)
    assert signal(("llm", "chat", "stop"), bus=bus) is first
    assert signal(STOP) is signal(STOP, bus=llmevents.default_bus)
    assert signal(STOP) is not first
    assert signal(STOP, sender_key="model", bus=bus) is not first
    assert signal("llm.*.stop", bus=bus) is not first


def test_it_is_a_blinker_signal(bus: Bus) -> None:
    """So it does whatever they do: `send`, `muted`, `connect_via`, ..."""
    stopped = signal(STOP, bus=bus)
    assert isinstance(stopped, EventSignal)
    assert isinstance(stopped, blinker.Signal)
    assert repr(stopped).endswith("'llm.chat.stop'>")
    receiver = Receiver()
    stopped.connect(receiver.hear)
    assert len(stopped.send("by hand", event="e", measurements={}, metadata={})) == 1
    with stopped.muted():
        bus.execute(STOP, {}, {})
    assert receiver.senders == ["by hand"]


def test_a_pattern_hears_every_event_that_fits(bus: Bus) -> None:
    receiver = Receiver()
    signal("llm.*.stop", bus=bus).connect(receiver.hear)
    for event in (STOP, "llm.ocr.stop", "llm.chat.start"):
        bus.execute(event, {}, {})
    assert [event for event, _, _ in receiver.events] == [STOP, "llm.ocr.stop"]


def test_a_bad_name_is_refused_where_it_is_written(bus: Bus) -> None:
    with pytest.raises(EventNameError, match="empty segment"):
        signal("llm..stop", bus=bus)


def test_spans_are_sent_too(bus: Bus) -> None:
    receiver = Receiver()
    signal("my.job.stop", sender_key="queue", bus=bus).connect(receiver.hear)
    with llmevents.span("my.job", {"queue": "slow"}, bus=bus):
        pass
    assert receiver.senders == ["slow"]


def test_a_signal_costs_nothing_without_receivers(bus: Bus) -> None:
    """It is attached to the bus only while somebody is connected."""
    stopped = signal(STOP, bus=bus)
    assert bus.list_handlers() == []
    receivers = Receiver(), Receiver()
    for receiver in receivers:
        stopped.connect(receiver.hear)
    (info,) = bus.list_handlers()
    assert info.handler_id == "llmevents.signals:llm.chat.stop:provider"
    stopped.disconnect(receivers[0].hear)
    assert bus.has_handlers(STOP)
    stopped.disconnect(receivers[1].hear)
    assert not bus.has_handlers(STOP)
    stopped.disconnect(receivers[1].hear)
    with stopped.connected_to(receivers[0].hear):
        assert bus.has_handlers(STOP)
    assert not bus.has_handlers(STOP)


# --- Senders -----------------------------------------------------------------------


def test_receivers_choose_their_sender(bus: Bus) -> None:
    """The value of a metadata key is the sender; None where it is missing."""
    stopped = signal(STOP, sender_key="model", bus=bus)
    only, every = Receiver(), Receiver()
    stopped.connect(only.hear, sender="gpt-4o")
    stopped.connect(every.hear)
    for model in ("gpt-4o", "o3"):
        bus.execute(STOP, {}, {"model": model})
    bus.execute(STOP, {})
    assert only.senders == ["gpt-4o"]
    assert every.senders == ["gpt-4o", "o3", None]


def test_connect_via_takes_a_sender(bus: Bus) -> None:
    seen: list[object] = []
    stopped = signal(STOP, bus=bus)

    @stopped.connect_via("openai")
    def note(sender: object, **_: object) -> None:
        seen.append(sender)

    for provider in ("anthropic", "openai"):
        bus.execute(STOP, {}, {"provider": provider})
    assert seen == ["openai"]


def test_any_object_may_be_a_sender(bus: Bus) -> None:
    """By identity, as in blinker; and gone with it, so that nobody is left."""

    class Client:
        pass

    mine, other = Client(), Client()
    receiver = Receiver()
    called = signal("my.call", sender_key="client", bus=bus)
    called.connect(receiver.hear, sender=mine)
    for client in (mine, other, "mine", 17, [mine]):
        bus.execute("my.call", {}, {"client": client})
    assert receiver.senders == [mine]
    gone = weakref.ref(mine)
    receiver.senders.clear()
    receiver.events.clear()
    del mine, client
    gc.collect()
    assert gone() is None
    bus.execute("my.call", {}, {"client": other})
    assert not bus.has_handlers("my.call")


def test_disconnecting_the_last_sender_detaches(bus: Bus) -> None:
    """Blinker itself keeps such a receiver."""
    stopped = signal(STOP, bus=bus)
    receiver = Receiver()
    stopped.connect(receiver.hear, sender="openai")
    stopped.connect(receiver.hear, sender="anthropic")
    stopped.disconnect(receiver.hear, sender="openai")
    bus.execute(STOP, {}, {"provider": "openai"})
    bus.execute(STOP, {}, {"provider": "anthropic"})
    assert receiver.senders == ["anthropic"]
    stopped.disconnect(receiver.hear, sender="anthropic")
    assert not bus.has_handlers(STOP)


@pytest.mark.parametrize("sender", [0, False])
def test_zero_is_no_sender(bus: Bus, sender: int) -> None:
    """Blinker uses it for "any sender", and would call for every one."""
    with pytest.raises(OptionError, match="blinker takes 0 and False for any sender"):
        signal(STOP, sender_key="stream", bus=bus).connect(Receiver().hear, sender)
    with pytest.raises(OptionError, match="expected sender to be another object"):
        forward(blinker.Signal(), "my.event", sender=sender, bus=bus)
    assert bus.list_handlers() == []


# --- Weak receivers ----------------------------------------------------------------


def test_receivers_are_weak(bus: Bus) -> None:
    """After the last one is collected, the next event finds out and detaches."""
    stopped = signal(STOP, bus=bus)
    receiver = Receiver()
    stopped.connect(receiver.hear)
    bus.execute(STOP, {}, {})
    assert len(receiver.events) == 1
    del receiver
    gc.collect()
    assert not stopped.receivers
    bus.execute(STOP, {}, {})
    assert not bus.has_handlers(STOP)
    again = Receiver()
    stopped.connect(again.hear)
    bus.execute(STOP, {}, {})
    assert len(again.events) == 1


def test_an_event_never_waits_to_detach(bus: Bus) -> None:
    """A handler that finds the bus's lock taken leaves it to the next event."""
    stopped = signal(STOP, bus=bus)
    stopped.connect(Receiver().hear)
    emitter = threading.Thread(target=bus.execute, args=(STOP, {}, {}), daemon=True)
    with bus._lock:
        emitter.start()
        emitter.join(JOIN_SECONDS)
        assert not emitter.is_alive()
    assert bus.has_handlers(STOP)
    bus.execute(STOP, {}, {})
    assert not bus.has_handlers(STOP)


def test_receivers_in_a_cycle_are_collected(bus: Bus) -> None:
    stopped = signal(STOP, bus=bus)
    receiver: Any = Receiver()
    receiver.itself = receiver
    stopped.connect(receiver.hear)
    gone = weakref.ref(receiver)
    bus.execute(STOP, {}, {})
    del receiver
    gc.collect()
    assert gone() is None


def test_strong_receivers_stay(bus: Bus) -> None:
    calls = count()
    stopped = signal(STOP, bus=bus)
    stopped.connect(lambda sender, **_: next(calls), weak=False)
    gc.collect()
    bus.execute(STOP, {}, {})
    assert next(calls) == 1


def test_a_failing_receiver_is_not_kept_alive(bus: Bus) -> None:
    """Neither by its traceback nor by the frames in it."""

    class Failing(Receiver):
        def hear(self, *_: object, **__: object) -> NoReturn:
            raise ValueError

    receivers = [Failing(), Failing()]
    gone = [weakref.ref(receiver) for receiver in receivers]
    stopped = signal(STOP, bus=bus)
    gc.disable()
    try:
        for number in (1, 2):
            stopped.connect(receivers[number - 1].hear)
            bus.execute(STOP, {}, {})
        receivers.clear()
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_a_signal_does_not_keep_its_bus(bus: Bus) -> None:
    receiver = Receiver()
    mine = Bus()
    gone = weakref.ref(mine)
    stopped = signal(STOP, bus=mine)
    stopped.connect(receiver.hear, weak=False)
    del mine
    gc.collect()
    assert gone() is None
    stopped.connect(receiver.hear)
    stopped.disconnect(receiver.hear)


class Interrupted(Bus):
    """Something else happens just before a handler comes or goes, as often as due."""

    def __init__(self) -> None:
        super().__init__()
        self.due: list[Callable[[], object]] = []

    def attach(self, *args: Any, **options: Any) -> llmevents.Subscription:  # noqa: ANN401  # handed on as they are
        self._interrupt()
        return super().attach(*args, **options)

    def detach(self, handler_id: Hashable) -> None:
        self._interrupt()
        super().detach(handler_id)

    def _interrupt(self) -> None:
        if self.due:
            self.due.pop()()


def test_a_finalizer_may_connect_and_disconnect() -> None:
    """In this very thread, between a look at the receivers and the change."""
    bus = Interrupted()
    stopped = signal(STOP, bus=bus)
    first, second = Receiver(), Receiver()
    stopped.connect(first.hear)
    bus.due.append(lambda: stopped.connect(second.hear))
    stopped.disconnect(first.hear)
    bus.execute(STOP, {}, {})
    assert (len(first.events), len(second.events)) == (0, 1)
    stopped.disconnect(second.hear)
    bus.due.append(lambda: stopped.disconnect(first.hear))
    stopped.connect(first.hear)
    assert not bus.has_handlers(STOP)
    assert not stopped.receivers


def test_nobody_connects_while_the_signal_leaves_the_bus() -> None:
    """Or a receiver that is connected already could miss an event."""
    bus = Interrupted()
    stopped = signal(STOP, bus=bus)
    receiver, late = Receiver(), Receiver()
    stopped.connect(receiver.hear)

    def connect_and_emit() -> None:
        stopped.connect(late.hear)
        bus.execute(STOP, {}, {})

    other = threading.Thread(target=connect_and_emit, daemon=True)
    free: list[bool] = []

    def try_to_connect() -> None:
        other.start()
        probe = threading.Thread(target=lambda: free.append(is_free(bus)))
        probe.start()
        probe.join(JOIN_SECONDS)

    bus.due.append(try_to_connect)
    stopped.disconnect(receiver.hear)
    other.join(JOIN_SECONDS)
    assert not other.is_alive()
    assert free == [False]
    assert len(late.events) == 1


def is_free(bus: Bus) -> bool:
    """Whether another thread could attach now."""
    free = bus._lock.acquire(blocking=False)
    if free:
        bus._lock.release()
    return free


# --- Receivers that fail -----------------------------------------------------------


def failing(error: BaseException) -> Callable[..., object]:
    def receiver(sender: object, **_: object) -> NoReturn:
        raise error

    return receiver


def test_a_failing_receiver_does_not_stop_the_others(bus: Bus) -> None:
    """`blinker.Signal.send` would stop at the first; the bus reports the failure."""
    stopped = signal(STOP, bus=bus)
    broken = failing(ValueError("no luck"))
    receivers = [Receiver() for _ in range(20)]
    for number, receiver in enumerate(receivers):
        stopped.connect(receiver.hear)
        if number == 10:
            stopped.connect(broken)
    failure = Receiver()
    signal("llmevents.handler.failure", bus=bus).connect(failure.hear)
    bus.execute(STOP, {}, {})
    assert [len(receiver.events) for receiver in receivers] == [1] * 20
    assert bus.stats()["handler_failures"] == 1
    ((_, _, metadata),) = failure.events
    assert metadata["handler_id"] == "llmevents.signals:llm.chat.stop:provider"
    assert metadata["error_type"] == "ValueError"
    assert metadata["error_message"] == "no luck"
    bus.execute(STOP, {}, {})
    assert len(receivers[0].events) == 2


def test_several_failures_are_reported_together(bus: Bus) -> None:
    stopped = signal(STOP, bus=bus)
    broken = [failing(ValueError("key=hunter2")), failing(KeyError("b"))]
    for receiver in broken:
        stopped.connect(receiver)
    failure = Receiver()
    signal("llmevents.handler.failure", bus=bus).connect(failure.hear)
    bus.execute(STOP, {}, {})
    ((_, _, metadata),) = failure.events
    assert metadata["error_type"].endswith(LLMEventsError.__name__)
    assert metadata["error_message"].startswith("2 receivers failed: ")
    assert "KeyError: 'b'" in metadata["error_message"]
    assert "ValueError: key=" in metadata["error_message"]
    assert "hunter2" not in metadata["error_message"]


def test_an_exit_reaches_the_emitter_after_the_others(bus: Bus) -> None:
    stopped = signal(STOP, bus=bus)
    broken = [failing(ValueError()), failing(KeyboardInterrupt())]
    for receiver in broken:
        stopped.connect(receiver)
    receivers = [Receiver() for _ in range(20)]
    for each in receivers:
        stopped.connect(each.hear)
    with pytest.raises(KeyboardInterrupt):
        bus.execute(STOP, {}, {})
    assert [len(each.events) for each in receivers] == [1] * 20


class Coroutine:
    async def __call__(self, sender: object, **_: object) -> None: ...


async def coroutine(sender: object, **_: object) -> None: ...


def generator(sender: object, **_: object) -> Iterator[None]:
    yield


def too_few(sender: object, event: str) -> None: ...


@pytest.mark.parametrize(
    ("receiver", "complaint"),
    [
        pytest.param(coroutine, r"background\(handler\)", id="coroutine"),
        pytest.param(Coroutine(), r"background\(handler\)", id="object"),
        pytest.param(functools.partial(coroutine), "coroutine", id="partial"),
        pytest.param(generator, "generator function", id="generator"),
        pytest.param(too_few, r"called as receiver\(sender, event=", id="arguments"),
        pytest.param(17, "is not callable", id="not-callable"),
    ],
)
@pytest.mark.parametrize("weak", [True, False])
def test_receivers_that_cannot_work_are_refused(
    bus: Bus, receiver: AnyReceiver, complaint: str, weak: bool
) -> None:
    """When they are connected, not at the first event."""
    stopped = signal(STOP, bus=bus)
    with pytest.raises(HandlerError, match=complaint):
        stopped.connect(receiver, weak=weak)
    assert not stopped.receivers
    assert bus.list_handlers() == []


def test_a_receiver_without_a_signature_is_accepted(bus: Bus) -> None:
    """Some built-ins have none; they may work."""
    signal(STOP, bus=bus).connect(dict, weak=False)
    bus.execute(STOP, {}, {"provider": ()})
    assert bus.stats()["handler_failures"] == 0


# --- From signals to events --------------------------------------------------------


def test_a_signal_becomes_an_event(bus: Bus, heard: list[Any]) -> None:
    """The default: one count, the arguments and the sender's class."""
    placed = blinker.Signal()
    with forward(placed, "shop.order.placed", bus=bus) as handle:
        placed.send(Receiver(), order=17, api_key="hunter2", receiver=Receiver())
        placed.send(order=18)
    placed.send(order=19)
    name = f"{Receiver.__module__}.Receiver"
    assert heard == [
        (
            ("shop", "order", "placed"),
            {"count": 1},
            {
                "order": 17,
                "api_key": "[REDACTED]",
                "receiver": f"<{name}>",
                "sender": name,
            },
        ),
        (("shop", "order", "placed"), {"count": 1}, {"order": 18}),
    ]
    assert isinstance(handle, Forwarding)
    assert repr(handle) == "<Forwarding to 'shop.order.placed'>"
    assert not placed.receivers


def test_functions_say_what_to_take(bus: Bus, heard: list[Any]) -> None:
    """Whatever the names of the signal's arguments are."""

    def describe(shop: object, /, **order: object) -> dict[str, object]:
        return {"shop": shop, "token": order["sender"]}

    placed = blinker.Signal()
    forward(
        placed,
        "shop.order.placed",
        measurements=lambda shop, /, **order: {"amount": order["self"]},
        metadata=describe,
        bus=bus,
    )
    placed.send("berlin", self=17, sender="me")
    assert heard == [
        (
            ("shop", "order", "placed"),
            {"amount": 17},
            {"shop": "berlin", "token": "[REDACTED]"},
        )
    ]


def test_built_in_senders_are_named_shortly(bus: Bus, heard: list[Any]) -> None:
    placed = blinker.Signal()
    forward(placed, "shop.order.placed", bus=bus)
    placed.send("berlin")
    assert heard[0][2] == {"sender": "str"}


def test_only_one_sender_is_forwarded(bus: Bus, heard: list[Any]) -> None:
    placed = blinker.Signal()
    forward(placed, "shop.order.placed", sender="berlin", bus=bus)
    placed.send("berlin")
    placed.send("paris")
    assert len(heard) == 1


def test_forwardings_end_one_by_one(bus: Bus, heard: list[Any]) -> None:
    placed = blinker.Signal()
    first = forward(placed, "shop.first", bus=bus)
    forward(placed, "shop.second", bus=bus)
    gc.collect()
    first.detach()
    first.detach()
    placed.send()
    assert [event for event, _, _ in heard] == [("shop", "second")]


def test_a_forwarding_that_ended_meanwhile_emits_nothing(
    bus: Bus, heard: list[Any]
) -> None:
    """Blinker may still call it, if another thread is sending."""
    handle = forward(blinker.Signal(), "shop.order.placed", bus=bus)
    handle.detach()
    handle._receive(None)
    assert heard == []


def test_nothing_is_computed_while_nobody_listens(bus: Bus) -> None:
    calls = count()

    def extract(sender: object, **_: object) -> dict[str, object]:
        return {"calls": next(calls)}

    placed = blinker.Signal()
    forward(placed, "shop.placed", measurements=extract, metadata=extract, bus=bus)
    placed.send()
    with bus.attach("test", "shop.*", lambda *_: None):
        placed.send()
    assert next(calls) == 2


def broken(sender: object, **_: object) -> NoReturn:
    raise ValueError


class HalfBroken(dict[str, object]):
    """A mapping that fails after its first item."""

    def items(self) -> Any:  # noqa: ANN401  # a generator, where dict says a view
        yield "amount", 1
        raise ValueError


@pytest.mark.parametrize(
    ("measurements", "kept", "refused"),
    [
        pytest.param(broken, {}, 1, id="raises"),
        pytest.param(lambda *_, **__: HalfBroken(), {"amount": 1}, 1, id="half"),
        pytest.param(lambda *_, **__: None, {}, 1, id="none"),
        pytest.param(lambda: {"a": 1}, {}, 1, id="arguments"),
        pytest.param(
            lambda *_, **__: {
                "nan": float("nan"),
                "text": "1",
                "none": None,
                "yes": True,
                1: 1,
                "size": 2,
            },
            {"size": 2},
            5,
            id="values",
        ),
    ],
)
def test_bad_measurements_never_reach_the_sender(
    bus: Bus,
    heard: list[Any],
    measurements: Extract,
    kept: dict[str, int],
    refused: int,
) -> None:
    """The event is emitted without them, and they are counted."""
    placed = blinker.Signal()
    forward(placed, "shop.placed", measurements=measurements, bus=bus)
    placed.send(None, order=1)
    assert heard == [(("shop", "placed"), kept, {"order": 1})]
    assert bus.stats()["refused_values"] == refused


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(broken, id="raises"),
        pytest.param(lambda *_, **__: None, id="none"),
        pytest.param(lambda *_, **__: 17, id="number"),
    ],
)
def test_bad_metadata_never_reaches_the_sender(
    bus: Bus, heard: list[Any], metadata: Extract
) -> None:
    placed = blinker.Signal()
    forward(placed, "shop.placed", metadata=metadata, bus=bus)
    placed.send(None, order=1)
    assert heard == [(("shop", "placed"), {"count": 1}, {})]
    assert bus.stats()["refused_values"] == 1


async def asynchronous(sender: object) -> dict[str, object]:
    return {}


def test_mistakes_are_refused_where_they_are_made(bus: Bus) -> None:
    source: Any = "not a signal"
    with pytest.raises(OptionError, match="expected source to be a blinker signal"):
        forward(source, "shop.placed", bus=bus)
    placed = blinker.Signal()
    with pytest.raises(EventNameError, match="wildcard"):
        forward(placed, "shop.*", bus=bus)
    options: list[Any] = [{"measurements": {}}, {"metadata": asynchronous}]
    for option in options:
        with pytest.raises(OptionError, match="to be a plain function"):
            forward(placed, "shop.placed", bus=bus, **option)
    assert not placed.receivers


def test_a_strict_bus_refuses_undeclared_events() -> None:
    """It is made for tests, and tells the sender."""
    bus = Bus(strict=True)
    placed = blinker.Signal()
    forward(placed, "shop.undeclared", bus=bus)
    placed.send()
    with (
        bus.attach("test", "**", lambda *_: None),
        pytest.raises(UndeclaredEventError, match=r"shop\.undeclared"),
    ):
        placed.send()


def test_a_signal_forwarded_to_itself_is_bounded(bus: Bus, heard: list[Any]) -> None:
    forward(signal("my.loop", bus=bus), "my.loop", bus=bus)
    bus.execute("my.loop", {}, {})
    assert 1 < len(heard) <= 8
    assert bus.stats()["recursion_stops"] == 1


# --- Flask -------------------------------------------------------------------------


@pytest.fixture
def app() -> flask.Flask:
    made = flask.Flask("shop")

    @made.get("/orders")
    def orders() -> str:
        return "17"

    @made.get("/broken")
    def broken() -> NoReturn:
        message = "key=hunter2"
        raise ValueError(message)

    return made


def test_flask_requests_become_events(
    bus: Bus, heard: list[Any], app: flask.Flask
) -> None:
    def size(sender: flask.Flask, response: flask.Response) -> dict[str, object]:
        return {"size": response.content_length}

    def describe(sender: flask.Flask, response: flask.Response) -> dict[str, object]:
        return {"route": flask.request.path, "http_status": response.status_code}

    with forward(
        flask.request_finished,
        "flask.request.stop",
        measurements=size,
        metadata=describe,
        sender=app,
        bus=bus,
    ):
        assert app.test_client().get("/orders").data == b"17"
        assert app.test_client().get("/nowhere").status_code == 404
    app.test_client().get("/orders")
    assert heard[0] == (
        ("flask", "request", "stop"),
        {"size": 2},
        {"route": "/orders", "http_status": 200},
    )
    assert [metadata["http_status"] for _, _, metadata in heard] == [200, 404]


def test_flask_errors_become_events(
    bus: Bus, heard: list[Any], app: flask.Flask
) -> None:
    """By default the exception is a placeholder: its text may hold secrets."""
    with forward(flask.got_request_exception, "flask.request.exception", bus=bus):
        assert app.test_client().get("/broken").status_code == 500
    assert heard == [
        (
            ("flask", "request", "exception"),
            {"count": 1},
            {"exception": "<ValueError>", "sender": "flask.app.Flask"},
        )
    ]


def test_a_failing_extract_does_not_break_the_request(
    bus: Bus, heard: list[Any], app: flask.Flask
) -> None:
    with forward(
        flask.request_finished,
        "flask.request.stop",
        measurements=broken,
        metadata=broken,
        bus=bus,
    ):
        assert app.test_client().get("/orders").data == b"17"
    assert heard == [(("flask", "request", "stop"), {}, {})]


# --- Threads -----------------------------------------------------------------------


@pytest.fixture
def fast_switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def run(*functions: Callable[[], None]) -> None:
    """Run them in threads at the same time; fail if one fails or hangs."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(functions))

    def guarded(function: Callable[[], None]) -> None:
        try:
            barrier.wait(JOIN_SECONDS)
            function()
        except BaseException as error:  # noqa: BLE001  # shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join(JOIN_SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


@pytest.mark.usefixtures("fast_switching")
def test_permanent_receivers_miss_nothing(bus: Bus) -> None:
    """While others come, go and are collected, with senders of all kinds."""
    stopped = signal(STOP, bus=bus)
    every = count()
    openai = count()

    def hear_every(sender: object, **_: object) -> None:
        next(every)

    def hear_openai(sender: object, **_: object) -> None:
        next(openai)

    stopped.connect(hear_every)
    stopped.connect(hear_openai, sender="openai")
    each = 1_500

    def emit() -> None:
        for number in range(each):
            provider = "openai" if number % 3 == 0 else f"provider-{number}"
            bus.execute(STOP, {}, {"provider": provider})

    def come_and_go() -> None:
        for number in range(300):
            receiver = Receiver()
            stopped.connect(receiver.hear, sender=f"provider-{number}")
            stopped.connect(receiver.hear)
            stopped.disconnect(receiver.hear)

    def vanish() -> None:
        for number in range(300):
            sender = Receiver()
            stopped.connect(Receiver().hear, sender=sender)
            receiver = Receiver()
            stopped.connect(receiver.hear, sender=f"provider-{number}")
            del receiver, sender

    run(emit, emit, emit, emit, come_and_go, come_and_go, vanish, vanish)
    assert bus.stats()["handler_failures"] == 0
    assert next(every) == 4 * each
    assert next(openai) == 4 * each // 3
    stopped.disconnect(hear_every)
    stopped.disconnect(hear_openai)
    assert bus.list_handlers() == []


@pytest.mark.usefixtures("fast_switching")
def test_a_connected_receiver_hears_the_next_event(bus: Bus) -> None:
    """Although others are just taking the signal off the bus."""
    stopped = signal(STOP, bus=bus)
    rounds = 400

    def connect_and_emit() -> None:
        for number in range(rounds):
            receiver = Receiver()
            stopped.connect(receiver.hear, sender=f"{threading.get_ident()}.{number}")
            provider = f"{threading.get_ident()}.{number}"
            bus.execute(STOP, {}, {"provider": provider})
            assert receiver.senders == [provider]
            if number % 2:
                stopped.disconnect(receiver.hear)

    run(*[connect_and_emit] * 4)
    bus.execute(STOP, {}, {})
    assert bus.list_handlers() == []


@pytest.mark.usefixtures("fast_switching")
def test_one_signal_for_all_threads(bus: Bus) -> None:
    found: list[EventSignal] = []

    def ask() -> None:
        found.extend(signal(f"my.event{n}", bus=bus) for n in range(50))

    run(*[ask] * 8)
    assert len({id(each) for each in found}) == 50
