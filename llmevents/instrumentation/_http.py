"""Attempts on the wire: what the HTTP clients under the SDKs send.

A call of an SDK is one call however often its request is sent. Each attempt emits
``llm.provider.request``; one that follows a failed attempt also emits
``llm.provider.retry``, and each refusal with status 429 ``llm.provider.rate_limit``.
Only requests that an instrumented SDK sends by its own client count. For every other
request of the host this costs one look-up of a context variable.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from http import HTTPStatus
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from llmevents._context import take_out
from llmevents._span import Span, is_timeout, kind_of
from llmevents.instrumentation._limits import limits_of
from llmevents.instrumentation._patching import Patches


if TYPE_CHECKING:
    from llmevents._bus import Bus
    from llmevents.llm import Call

REQUEST = "llm.provider.request"
RETRY = "llm.provider.retry"
RATE_LIMIT = "llm.provider.rate_limit"
AUTH_REFRESH = "llm.provider.auth.refresh"

NO_CLIENT = object()
"""Stands for the client of an SDK whose attempts are not seen."""

POINTS = (RETRY, RATE_LIMIT, AUTH_REFRESH)
"""What attempts emit beside their spans."""

LIBRARIES = ("httpx", "httpx2")
"""HTTP libraries whose clients are watched. They are built alike: openai 3 and
anthropic 2 use httpx2, the others httpx."""

CREDENTIALS = ("authorization", "api-key", "x-api-key", "x-goog-api-key")
"""Headers that say who asks. Only ever compared, and only after a refusal."""


class Attempts:
    """The attempts of one call of an SDK, while its method runs.

    Attributes:
        outer: Those around these; see `llmevents._context.take_out`.
    """

    __slots__ = (
        "_answer",
        "_bus",
        "_call",
        "_client",
        "_failed",
        "_http_status",
        "_is_over",
        "_known",
        "_refused_credentials",
        "_retry_after",
        "_tried",
        "_was_limited",
        "outer",
    )

    def __init__(
        self, bus: Bus, call: Call, facts: Mapping[str, object], client: object
    ) -> None:
        """Prepare for a call.

        Args:
            bus: Where to emit.
            call: The SDK's call.
            facts: What its start event says; provider and model are repeated.
            client: The HTTP client that the SDK sends by; None if unknown, and
                then every request counts that is sent while the method runs;
                `NO_CLIENT` if its attempts cannot be seen.
        """
        self._bus = bus
        self._call = call
        self._known = facts
        self._client = client
        self._answer: object = None
        self._failed = False
        self._http_status: int | None = None
        self._retry_after: int | None = None
        self._refused_credentials: list[object] | None = None
        self._tried = 0
        self._is_over = False
        self._was_limited = False
        self.outer: Attempts | None = None

    def enter(self) -> None:
        """Let what is sent from now on in this context be attempts of this call."""
        self.outer = sending.get()
        sending.set(self)

    def leave(self) -> None:
        """Let nothing more be an attempt, not even of tasks that were begun meanwhile."""
        self._is_over = True
        take_out(sending, self)

    def takes(self, client: object) -> bool:
        """Whether what *client* sends now is an attempt of this call."""
        return not self._is_over and (self._client is None or client is self._client)

    def begin(self, request: Any) -> Span | None:
        """Note that *request* goes out; returns its span if anybody listens."""
        self._tried = self._tried + 1 if self._failed else 1
        if self._failed:
            self._again(request)
        self._failed = False
        bus = self._bus
        if bus.is_quiet(REQUEST):
            return None
        span = Span(bus, REQUEST, scoped=False)
        span.begin({**self._whom(), **_address(request)})
        return span

    def answered(self, response: Any, span: Span | None) -> None:
        """Note the answer of the attempt that has begun last."""
        status = attribute(response, "status_code")
        if not isinstance(status, int):
            status = 0
        try:
            if status >= HTTPStatus.BAD_REQUEST:
                self._refused(response, status)
            else:
                self._answer = response
        finally:
            if span is not None:
                said = "error" if self._failed else "success"
                span.stop(metadata={"status": said, "http_status": status})

    def broken(self, error: BaseException, span: Span | None) -> None:
        """Note that no answer came to the attempt that has begun last."""
        self._failed = True
        self._http_status = self._retry_after = self._refused_credentials = None
        if span is None:
            return
        if isinstance(error, GeneratorExit):
            span.cancel()
        else:
            span.fail(error, metadata={"status": _status(error)})

    def ended(self, error: BaseException) -> None:
        """Note the error of the whole call: a refusal, where no attempt was seen."""
        # The second name is Google's.
        stated = (attribute(error, "status_code"), attribute(error, "code"))
        if HTTPStatus.TOO_MANY_REQUESTS not in stated:
            return
        if not self._was_limited:
            self._limited(attribute(error, "response"))

    def paid_for(self) -> object:
        """Return the body of an answer that was no refusal, if it has been read.

        An SDK may raise after that: where it cannot parse what the model has made.
        """
        answer, self._answer = self._answer, None
        return attribute(answer, "content")

    def _refused(self, response: Any, status: int) -> None:
        self._failed = True
        self._http_status = status
        self._retry_after = self._refused_credentials = None
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._limited(response)
        elif self._bus.has_handlers(RETRY):
            self._retry_after = limits_of(attribute(response, "headers")).get(
                "retry_after"
            )
        if status == HTTPStatus.UNAUTHORIZED:
            self._refused_credentials = _credentials(attribute(response, "request"))

    def _limited(self, response: object) -> None:
        """Emit that the provider refused because of its rate limit, once for all."""
        layer: Attempts | None = self
        while layer is not None:
            layer._was_limited = True  # noqa: SLF001  # one of us
            layer = layer.outer
        limits = limits_of(attribute(response, "headers"))
        self._retry_after = limits.get("retry_after")
        self._emit(RATE_LIMIT, limits, int(HTTPStatus.TOO_MANY_REQUESTS))

    def _again(self, request: Any) -> None:
        status = self._http_status
        refused = self._refused_credentials
        if refused is not None and _credentials(request) != refused:
            self._emit(AUTH_REFRESH, {}, status)
        waited = self._retry_after
        asked = {} if waited is None else {"retry_after": waited}
        self._emit(RETRY, {"attempt": self._tried, **asked}, status)

    def _emit(
        self, event: str, measurements: dict[str, int], status: int | None
    ) -> None:
        if not self._bus.has_handlers(event):
            return
        from llmevents._redact import clean_metadata  # its patterns take long to load

        facts = clean_metadata(self._whom())
        if self._call.span_id:
            facts["span_id"] = self._call.span_id
        if status is not None:
            facts["http_status"] = status
        self._bus.execute(event, measurements, facts)

    def _whom(self) -> dict[str, Any]:
        known = self._known
        return {key: known[key] for key in ("provider", "model") if key in known}


sending: ContextVar[Attempts | None] = ContextVar("llmevents_sending", default=None)
"""The call of an SDK whose method runs in this context, but for inside an attempt."""


def nobody_hears_attempts(bus: Bus) -> bool:
    """Whether no handler would learn of anything that attempts emit."""
    return bus.is_quiet(REQUEST) and not any(map(bus.has_handlers, POINTS))


def patch(patches: Patches) -> None:
    """Watch the clients of the HTTP libraries until *patches* are undone.

    Any number of SDKs may ask for it; the last one whose patches are undone ends it.
    A library that is imported later is watched from then on.
    """
    _transport.acquire()
    patches.when_undone(_transport.release)


class _Transport:
    """The clients' classes, wrapped once for all SDKs."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._users = 0
        self._patches = Patches()
        self._watched: set[str] = set()
        self._hooked = False

    def acquire(self) -> None:
        """Count one more SDK that sends by these clients."""
        with self._lock:
            self._users += 1
            for name in LIBRARIES:
                module = sys.modules.get(name)
                if module is not None:
                    self._watch(module)
            is_hooked, self._hooked = self._hooked, True
        if not is_hooked:
            self._hook()

    def release(self) -> None:
        """Count one fewer; without any, the clients get their methods back."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._patches.undo()
                self._patches = Patches()
                self._watched.clear()

    def _hook(self) -> None:
        import wrapt

        for name in LIBRARIES:
            wrapt.register_post_import_hook(self._imported, name)

    def _imported(self, module: ModuleType) -> None:
        with self._lock:
            if self._users:
                self._watch(module)

    def _watch(self, module: ModuleType) -> None:
        if module.__name__ in self._watched:
            return
        for name, wrapper in (("Client", _send), ("AsyncClient", _send_async)):
            owner = getattr(module, name, None)
            # A library that is still being imported, or one built differently.
            if owner is None or "send" not in vars(owner):
                return
            self._patches.wrap(owner, "send", wrapper)
        self._watched.add(module.__name__)


_transport = _Transport()


def _send(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Send one request: an attempt if it is a call's, else the host's own business."""
    attempts = sending.get()
    if attempts is None or not attempts.takes(instance):
        return wrapped(*args, **kwargs)
    # What a transport or an authentication of the user's sends is no attempt.
    sending.set(None)
    try:
        span = attempts.begin(args[0] if args else kwargs.get("request"))
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            attempts.broken(error, span)
            raise
    finally:
        _back(attempts)
    attempts.answered(response, span)
    return response


def _send_async(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do the same for a coroutine function."""
    attempts = sending.get()
    if attempts is None or not attempts.takes(instance):
        return wrapped(*args, **kwargs)
    return _sent(attempts, wrapped, args, kwargs)


async def _sent(
    attempts: Attempts, wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    sending.set(None)
    try:
        span = attempts.begin(args[0] if args else kwargs.get("request"))
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException as error:
            attempts.broken(error, span)
            raise
    finally:
        _back(attempts)
    attempts.answered(response, span)
    return response


def _back(attempts: Attempts) -> None:
    """Let *attempts* be current again, unless the context is another one by now."""
    if sending.get() is None:
        sending.set(attempts)


def _address(request: object) -> dict[str, object]:
    """Return whom *request* is sent to; nothing else of its URL."""
    known: dict[str, object] = {}
    with suppress(Exception):  # a URL is decoded when it is asked
        url: Any = attribute(request, "url")
        known["server_address"] = url.host
        if url.port is not None:
            known["server_port"] = url.port
    return known


def _credentials(request: object) -> list[object]:
    headers = attribute(request, "headers")
    if not isinstance(headers, Mapping):
        return []
    return [headers.get(header) for header in CREDENTIALS]


def attribute(source: object, name: str) -> object:
    """Return an attribute, or None; a property of a foreign class may raise anything."""
    try:
        return getattr(source, name, None)
    except Exception:  # noqa: BLE001  # see above
        return None


def _status(error: BaseException) -> str:
    if kind_of(error) == "cancelled":
        return "cancelled"
    return "timeout" if is_timeout(error) else "error"
