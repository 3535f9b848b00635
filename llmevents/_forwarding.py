"""Blinker signals as events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeAlias

from blinker import ANY, Signal

from llmevents._bus import Bus, default_bus
from llmevents._errors import OptionError
from llmevents._names import dotted, parse_name
from llmevents._redact import clean_metadata
from llmevents._types import EventName, Name
from llmevents._values import clean_number


if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from 3.11 on

Extract: TypeAlias = Callable[..., Mapping[str, object]]
"""``extract(sender, **arguments)``: what to take from a signal's arguments."""


def forward(
    source: Signal,
    event: Name,
    *,
    measurements: Extract | None = None,
    metadata: Extract | None = None,
    bus: Bus | None = None,
    sender: object = ANY,
) -> Forwarding:
    """Emit *event* each time that a blinker signal is sent.

    For example::

        forward(
            flask.request_finished,
            "flask.request.stop",
            measurements=lambda sender, response: {"size": response.content_length},
        )

    Nothing is computed while nobody listens to *event*. What *measurements* and
    *metadata* raise never reaches the signal's sender: the event is emitted without
    what they failed to give, and the failure is counted in
    ``stats()["refused_values"]``, as is each measurement that is no finite number.

    A signal that is sent with ``send_async`` calls us through its sync wrapper;
    without one blinker refuses every plain function, ours included.

    Args:
        source: Any blinker signal.
        event: The name to emit; no pattern.
        measurements: ``measurements(sender, **arguments)``, returning numbers by
            key. ``{"count": 1}`` by default.
        metadata: ``metadata(sender, **arguments)``, returning facts by key. By
            default the signal's arguments, with placeholders for unknown objects,
            and the class of the sender as ``sender``. Secrets are taken out.
        bus: Where to emit; the default bus unless given.
        sender: Forward only what this object sends.

    Returns:
        A handle that ends the forwarding, also as a context manager. Without it
        the signal is forwarded for good.

    Raises:
        EventNameError: *event* is malformed or a pattern.
        OptionError: *source* is no blinker signal; *measurements* or *metadata* is
            no plain function; *sender* is 0 or False, which blinker takes for any.
        UndeclaredEventError: Not here but in the signal's sender, if the bus is
            strict and *event* is not declared.

    Examples:
        >>> import blinker
        >>> import llmevents
        >>> @llmevents.on("shop.order.placed", handler_id="orders")
        ... def note(event, measurements, metadata, config):
        ...     print(measurements, metadata)
        >>> placed = blinker.Signal()
        >>> with forward(placed, "shop.order.placed"):
        ...     _ = placed.send(None, order=17)
        {'count': 1} {'order': 17}
        >>> llmevents.detach("orders")
    """
    if not isinstance(source, Signal):
        raise OptionError(source, "source", "a blinker signal")
    name = parse_name(event)
    _check_extract(measurements, "measurements")
    _check_extract(metadata, "metadata")
    check_sender(sender)
    return Forwarding(
        source,
        name,
        measurements=measurements,
        metadata=metadata,
        bus=default_bus if bus is None else bus,
        sender=sender,
    )


class Forwarding:
    """What `forward` returns: it ends the forwarding, by hand or as a `with` block.

    Attributes:
        event: The name that is emitted.
    """

    __slots__ = (
        "__weakref__",
        "_bus",
        "_ended",
        "_measurements",
        "_metadata",
        "_source",
        "event",
    )

    def __init__(
        self,
        source: Signal,
        event: EventName,
        *,
        measurements: Extract | None,
        metadata: Extract | None,
        bus: Bus,
        sender: object,
    ) -> None:
        self.event = event
        self._source = source
        self._measurements = measurements
        self._metadata = metadata
        self._bus = bus
        self._ended = False
        source.connect(self._receive, sender, weak=False)

    def detach(self) -> None:
        """End the forwarding; the second time a no-op."""
        if not self._ended:
            self._ended = True
            self._source.disconnect(self._receive)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def __repr__(self) -> str:
        return f"<Forwarding to {dotted(self.event)!r}>"

    def _receive(self, sender: object = None, /, **arguments: object) -> None:
        if self._ended or not self._bus.has_handlers(self.event):
            return
        self._bus.execute(
            self.event,
            self._measured(sender, arguments),
            self._described(sender, arguments),
        )

    def _measured(
        self, sender: object, arguments: dict[str, object]
    ) -> dict[str, int | float]:
        if self._measurements is None:
            return {"count": 1}
        kept: dict[str, int | float] = {}
        try:
            given: Mapping[Any, object] = self._measurements(sender, **arguments)
            for key, value in given.items():
                number = clean_number(value) if isinstance(key, str) else None
                if number is None:
                    self._bus.refuse_value()
                else:
                    kept[key] = number
        except Exception:  # noqa: BLE001  # it must not reach the signal's sender
            self._bus.refuse_value()
        return kept

    def _described(
        self, sender: object, arguments: dict[str, object]
    ) -> dict[str, object]:
        if self._metadata is None:
            described = clean_metadata(arguments)
            if sender is not None:
                described["sender"] = _class_name(type(sender))
            return described
        try:
            return clean_metadata(dict(self._metadata(sender, **arguments)))
        except Exception:  # noqa: BLE001  # it must not reach the signal's sender
            self._bus.refuse_value()
            return {}


def _class_name(kind: type) -> str:
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _check_extract(extract: object, option: str) -> None:
    if extract is not None and (not callable(extract) or iscoroutinefunction(extract)):
        expected = f"a plain function {option}(sender, **arguments) that returns a dict"
        raise OptionError(extract, option, expected)


def check_sender(sender: object) -> None:
    """Refuse senders that blinker would take for any sender.

    Raises:
        OptionError: *sender* is 0 or False.
    """
    if isinstance(sender, int) and sender == 0:
        expected = "another object, because blinker takes 0 and False for any sender"
        raise OptionError(sender, "sender", expected)
