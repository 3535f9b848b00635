"""Events as blinker signals, and blinker signals as events.

For code that speaks blinker already, Flask applications above all:

    from llmevents.signals import forward, signal

    @signal("llm.chat.stop").connect_via("openai")
    def note(sender, event, measurements, metadata): ...

    forward(flask.request_finished, "flask.request.stop")

A handler of `llmevents.attach` costs less than a receiver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from inspect import (
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
    signature,
)
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, ref

from blinker import ANY, NamedSignal

from llmevents._bus import Bus, default_bus
from llmevents._errors import (
    HandlerError,
    HandlerExistsError,
    HandlerNotFoundError,
    LLMEventsError,
)
from llmevents._forwarding import Forwarding, check_sender, forward
from llmevents._names import dotted, parse_pattern
from llmevents._redact import describe_error
from llmevents._types import EventName, Measurements, Metadata, Name


__all__ = ["EventSignal", "Forwarding", "forward", "signal"]

# Receivers take whatever their signal sends.
AnyReceiver: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=AnyReceiver)


def signal(
    event: Name, *, sender_key: str = "provider", bus: Bus | None = None
) -> EventSignal:
    """Return the blinker signal that is sent whenever *event* is emitted.

    The same arguments give the same signal. It costs nothing until a receiver is
    connected: only then is it attached to the bus.

    Args:
        event: A name or pattern, ``"llm.chat.stop"`` or ``"llm.*.stop"``.
        sender_key: The metadata key whose value is the sender, so that
            ``signal("llm.chat.stop").connect(note, sender="openai")`` hears only
            of that provider. The sender is None where an event has no such key.
        bus: Which bus to listen to; the default bus unless given.

    Raises:
        EventNameError: *event* is malformed.

    Examples:
        >>> import llmevents
        >>> stopped = signal("llm.chat.stop")
        >>> def note(sender, event, measurements, metadata):
        ...     print(sender, event, measurements["input_tokens"])
        >>> with stopped.connected_to(note, sender="openai"):
        ...     for provider in ("openai", "anthropic"):
        ...         llmevents.execute(
        ...             "llm.chat.stop", {"input_tokens": 7}, {"provider": provider}
        ...         )
        openai llm.chat.stop 7
    """
    chosen = default_bus if bus is None else bus
    name = dotted(parse_pattern(event))
    known = _signals.setdefault(chosen, {})
    key = (name, sender_key)
    if key not in known:
        known.setdefault(key, EventSignal(name, sender_key, chosen))
    return known[key]


class _Buckets(defaultdict[Any, "set[Any]"]):
    """Receivers by sender, as blinker keeps them.

    blinker walks over the values to forget a receiver, for which the garbage
    collector chooses the moment. A copy lets other threads connect meanwhile.
    """

    def values(self) -> Any:  # noqa: ANN401  # a list, where dict says dict_values
        return list(super().values())


class EventSignal(NamedSignal):
    """The blinker signal of an event; made by `signal`.

    Receivers are called as ``receiver(sender, event=..., measurements=...,
    metadata=...)`` with the event's dotted name, in the emitting thread and in no
    particular order. Both mappings are read-only by contract. Receivers and senders
    are weakly referenced unless ``weak=False``, as everywhere in blinker: a function
    defined inside another is gone with it.

    A receiver that raises does not keep the others from running. Its exception is a
    handler failure: the bus counts and reports it, and the emitter never sees it.
    If several raise, they are reported together. What is no `Exception`
    (KeyboardInterrupt, ...) reaches the emitter once all receivers have run.

    Connecting and disconnecting may be done in any thread. Once no receiver is left,
    the signal is detached from its bus; where the garbage collector took the last
    one, at the next event. ``send`` works as in any blinker signal: it reaches the
    receivers, not the bus.

    Attributes:
        name: The event's dotted name or pattern.
        sender_key: The metadata key whose value is the sender.
    """

    def __init__(self, name: str, sender_key: str, bus: Bus) -> None:
        super().__init__(name, f"Sent whenever {name} is emitted.")
        self.sender_key = sender_key
        self._by_sender = _Buckets(self.set_class)
        # A strong reference would keep the bus alive through the table of signals.
        self._bus = ref(bus)
        self._handler_id = f"llmevents.signals:{name}:{sender_key}"

    def connect(
        self,
        receiver: F,
        sender: Any = ANY,  # noqa: ANN401  # any object may be a sender
        weak: bool = True,  # noqa: FBT001, FBT002  # blinker's signature
    ) -> F:
        """Call *receiver* for each event, or for those of one *sender*.

        Raises:
            HandlerError: *receiver* cannot be called with the arguments of an event,
                or is a coroutine or generator function.
            OptionError: *sender* is 0 or False, which blinker takes for any sender.
        """
        _check_receiver(receiver)
        check_sender(sender)
        bus = self._bus()
        if bus is None:
            return super().connect(receiver, sender, weak)
        # The bus's own lock: with another one around it, a finalizer that connects
        # while the bus changes its table in one thread could deadlock with us.
        with bus._lock:  # noqa: SLF001  # see above
            super().connect(receiver, sender, weak)
            self._settle(bus)
        return receiver

    def disconnect(
        self,
        receiver: AnyReceiver,
        sender: Any = ANY,  # noqa: ANN401  # any object may be a sender
    ) -> None:
        """Stop calling *receiver*, at all or for one *sender*."""
        bus = self._bus()
        if bus is None:
            super().disconnect(receiver, sender)
            return
        with bus._lock:  # noqa: SLF001  # as in connect
            super().disconnect(receiver, sender)
            self._settle(bus)

    def _has_receivers(self) -> bool:
        # Not `receivers`: it keeps those that have no sender left.
        return any(self._by_sender.values())

    def _settle(self, bus: Bus) -> None:
        """Attach or detach, as the receivers ask for. Holds the bus's lock.

        A finalizer may connect or disconnect in the middle, in this thread; then it
        starts over.
        """
        while True:
            wanted = self._has_receivers()
            try:
                if wanted:
                    bus.attach(self._handler_id, self.name, self._deliver)
                else:
                    bus.detach(self._handler_id)
            except (HandlerExistsError, HandlerNotFoundError):
                pass  # it is as it should be
            if self._has_receivers() is wanted:
                return

    def _give_up(self) -> None:
        """Detach after the garbage collector has taken the last receiver."""
        bus = self._bus()
        # A handler must not wait. If the lock is taken, the next event tries again.
        if bus is not None and bus._lock.acquire(blocking=False):  # noqa: SLF001  # as in connect
            try:
                self._settle(bus)
            finally:
                bus._lock.release()  # noqa: SLF001  # as in connect

    def _deliver(
        self,
        event: EventName,
        measurements: Measurements,
        metadata: Metadata,
        _config: object,
    ) -> None:
        if not self._has_receivers():
            self._give_up()
            return
        if self.is_muted:
            return
        name = dotted(event)
        sender = metadata.get(self.sender_key)
        failures: list[BaseException] = []
        for receiver in self.receivers_for(sender):
            try:
                receiver(
                    sender, event=name, measurements=measurements, metadata=metadata
                )
            except BaseException as error:  # noqa: BLE001  # _joined() sorts them
                failures.append(error)
        if failures:
            try:
                raise _joined(failures)
            finally:
                del failures  # or the traceback would keep this frame alive


_signals: WeakKeyDictionary[Bus, dict[tuple[str, str], EventSignal]] = (
    WeakKeyDictionary()
)


def _joined(failures: list[BaseException]) -> BaseException:
    """Return the one exception that stands for all *failures* of a delivery."""
    for error in failures:
        if not isinstance(error, Exception):
            return error
    if len(failures) == 1:
        return failures[0]
    described = "; ".join(": ".join(describe_error(error)) for error in failures)
    return LLMEventsError(f"{len(failures)} receivers failed: {described}")


def _check_receiver(receiver: object) -> None:
    if not callable(receiver):
        reason = (
            "is not callable; "
            "connect a function receiver(sender, event, measurements, metadata)"
        )
        raise HandlerError(receiver, reason)
    for function in (receiver, getattr(receiver, "__call__", None)):  # noqa: B004  # the method itself is wanted
        if iscoroutinefunction(function):
            reason = (
                "is a coroutine function, and events are delivered synchronously; "
                "attach llmevents.background(handler) to the event instead"
            )
            raise HandlerError(receiver, reason)
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            reason = "is a generator function: calling it would not run its body"
            raise HandlerError(receiver, reason)
    try:
        accepted = signature(receiver)
    except (TypeError, ValueError):
        return  # some built-ins have no signature to check
    try:
        accepted.bind(None, event="", measurements={}, metadata={})
    except TypeError as error:
        reason = (
            f"has the signature {accepted} ({error}); it is called as "
            "receiver(sender, event=..., measurements=..., metadata=...)"
        )
        raise HandlerError(receiver, reason) from None
