"""A fake LLM provider for tests and demos: the OpenAI API on loopback.

It answers chat completions, embeddings and the list of models over real HTTP, well
or badly as it is told, and knows exactly what it served::

    with FakeProvider() as provider:
        client = openai.OpenAI(base_url=provider.base_url, api_key="test")
        client.chat.completions.create(model="gpt-4o", messages=[...])
        provider.totals("chat").input_tokens

A request is answered by the first of these that applies:

1. the next reply in the queue (`FakeProvider.script`, `FakeProvider.serve`),
2. the recorded exchange that has the same path and the same JSON body,
3. the reply registered for its model: ``"fault-401"``, ``"fault-429"``,
   ``"fault-500"``, ``"fault-slow"``, ``"fault-drop"`` (closes the connection in
   the middle), ``"fault-disconnect"`` (before the response), and your own,
4. the default reply.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import final

from llmevents.testing import _provider_payloads as payloads
from llmevents.testing._exchanges import Exchange, read_exchanges
from llmevents.testing._provider_calls import (
    CallLog,
    CallReceipt,
    ServedCall,
    ServedTotals,
    total,
)
from llmevents.testing._provider_http import Answer, ProviderServer, Request
from llmevents.testing._provider_replies import FAULTS, RefusedError, Reply
from llmevents.testing._provider_script import Script, Serving, canonical


__all__ = [
    "FAULTS",
    "Exchange",
    "FakeProvider",
    "Reply",
    "ServedCall",
    "ServedTotals",
    "Serving",
    "read_exchanges",
]

_MODELS = ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small")
_OPERATIONS: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/v1/embeddings"): "embeddings",
    ("GET", "/v1/models"): "models",
}


@final
class FakeProvider:
    """An OpenAI-compatible server on 127.0.0.1, in threads of this process.

    Start it as a context manager, or with `start` and `stop`. All methods may be
    called from any thread. It keeps every call it served; make a new one rather
    than let one run for days.

    Args:
        reply: Default reply.
        models: Replies by the model a request asks for, in addition to ``FAULTS``;
            the same name replaces: ``{"fault-slow": Reply(delay_seconds=30)}``.
        exchanges: Recordings to answer requests with that ask the same. Of several
            recordings of one request each is served in turn.
        api_key: Required as bearer token if given; anything else answers 401.
        port: 0 takes any that is free.

    Examples:
        >>> import urllib.request
        >>> with FakeProvider() as provider:
        ...     with urllib.request.urlopen(f"{provider.base_url}/models") as response:
        ...         response.status
        200
        >>> provider.totals("models").calls
        1
    """

    def __init__(
        self,
        *,
        reply: Reply | None = None,
        models: Mapping[str, Reply] | None = None,
        exchanges: Iterable[Exchange] = (),
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self._reply = reply or Reply()
        self._models = {**FAULTS, **(models or {})}
        self._script = Script(exchanges)
        self._bearer = None if api_key is None else f"Bearer {api_key}".encode()
        self._port = port
        self._log = CallLog()
        self._lock = threading.Lock()
        self._server: ProviderServer | None = None

    def start(self) -> FakeProvider:
        """Bind and serve; the port is known and open when this returns.

        Raises:
            RuntimeError: It is running.
            OSError: The port is taken.
        """
        with self._lock:
            if self._server is not None:
                msg = "the fake provider is running already; call stop() first"
                raise RuntimeError(msg)
            self._server = ProviderServer(self._respond, self._port)
        return self

    def stop(self) -> None:
        """Close every connection and end every thread; a second call does nothing.

        Calls under way are interrupted, slow ones at once. `calls` and `totals`
        stay readable, and it may be started again, on another port.
        """
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def __enter__(self) -> FakeProvider:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``, for an SDK's ``base_url``.

        Raises:
            RuntimeError: It is not running.
        """
        server = self._server
        if server is None:
            msg = "the fake provider has no address before start(); use it in a with"
            raise RuntimeError(msg)
        return f"http://127.0.0.1:{server.server_port}/v1"

    @property
    def calls(self) -> tuple[ServedCall, ...]:
        """Every call so far, in order of arrival; those under way included."""
        return self._log.snapshot()

    def totals(self, operation: str | None = None) -> ServedTotals:
        """Add up what was served.

        Args:
            operation: ``"chat"``, ``"embeddings"``, ``"models"``, ``"unknown"``, or
                that of a recorded exchange. None: all of them.
        """
        return total(self.calls, operation)

    def wait_for(
        self,
        condition: Callable[[tuple[ServedCall, ...]], bool],
        *,
        timeout_seconds: float = 5.0,
    ) -> tuple[ServedCall, ...]:
        """Wait until *condition* holds for `calls`, and return them.

        Args:
            condition: Called with the calls whenever one of them changed, under a
                lock that the server needs: it should be quick.
            timeout_seconds: On the monotonic clock.

        Raises:
            TimeoutError: It did not come to hold in time.
        """
        return self._log.wait_for(condition, timeout_seconds)

    def script(self, *replies: Reply | Exchange | str) -> None:
        """Queue answers: one for each next request, first in, first out.

        A request that is refused anyway (unknown path, wrong key, malformed) takes
        none, but a recorded exchange answers whatever path is asked for.

        Args:
            replies: Replies, recorded exchanges, or names of models registered with
                this provider, such as ``"fault-429"``.

        Raises:
            ValueError: No reply is registered under that name.
        """
        self._script.push([self._as_reply(reply) for reply in replies])

    def serve(self, exchange: Exchange) -> Serving:
        """Queue one recorded exchange; as a ``with`` block, withdraw it at the end.

        Args:
            exchange: Answers the next request, byte for byte.
        """
        reply = Reply.recorded(exchange)
        self._script.push([reply])
        return Serving(self._script, reply)

    def _as_reply(self, reply: Reply | Exchange | str) -> Reply:
        if isinstance(reply, Exchange):
            return Reply.recorded(reply)
        if isinstance(reply, Reply):
            return reply
        if reply not in self._models:
            msg = (
                f"no reply is registered under {reply!r}; "
                f"expected a Reply, an Exchange, or one of {sorted(self._models)}"
            )
            raise ValueError(msg)
        return self._models[reply]

    def _respond(self, request: Request) -> Answer:
        """Choose the answer to a request and enter it into the log."""
        body: payloads.JsonObject = {}
        try:
            body, text = self._admit(request)
            reply = self._choose(request, body, text)
        except RefusedError as refused:
            reply = refused.reply
        call = _received(request, body, reply)
        number = self._log.add(call)
        try:
            content = self._content(call, reply, number)
        except RefusedError as refused:
            reply = refused.reply
            content = payloads.error(reply)
        return Answer(
            status=reply.status,
            headers={"x-request-id": f"req_fake_{number:06}", **reply.headers},
            content=content,
            delay_seconds=reply.delay_seconds,
            chunk_delay_seconds=reply.chunk_delay_seconds,
            drop_after=reply.drop_after,
            receipt=CallReceipt(
                self._log, number, status=reply.status, content=content
            ),
        )

    def _admit(self, request: Request) -> tuple[payloads.JsonObject, str]:
        """Return the JSON body and its canonical text, or refuse the request."""
        if isinstance(request.body, RefusedError):
            raise request.body
        if self._bearer is not None and not hmac.compare_digest(
            request.authorization.encode("latin-1"), self._bearer
        ):
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "The API key is missing or is not the one of this fake provider.",
                code="invalid_api_key",
            )
        if request.method == "GET":
            return {}, ""
        try:
            body = json.loads(request.body)
            text = canonical(body)
        except (ValueError, RecursionError) as error:
            msg = "The request body is not valid JSON."
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from error
        if not isinstance(body, dict):
            msg = "The request body must be a JSON object."
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
        return body, text

    def _choose(self, request: Request, body: payloads.JsonObject, text: str) -> Reply:
        known_path = (request.method, request.path) in _OPERATIONS
        told = self._script.take(request.path, text, known_path=known_path)
        if told is not None:
            return told
        if not known_path:
            msg = f"Invalid URL ({request.method} {request.path})"
            raise RefusedError(HTTPStatus.NOT_FOUND, msg, code="unknown_url")
        model = body.get("model")
        return self._models.get(str(model), self._reply)

    def _content(self, call: ServedCall, reply: Reply, number: int) -> payloads.Content:
        if reply.exchange is not None:
            return payloads.recorded(reply.exchange)
        if reply.status >= HTTPStatus.BAD_REQUEST:
            return payloads.error(reply)
        if call.operation == "models":
            return payloads.models([*_MODELS, *self._models])
        make = payloads.chat if call.operation == "chat" else payloads.embeddings
        return make(call.request, reply, number)


def _received(request: Request, body: payloads.JsonObject, reply: Reply) -> ServedCall:
    """Describe a call of which nothing has been answered yet."""
    exchange = reply.exchange
    if exchange is not None:
        operation, stream = exchange.operation, exchange.stream
    else:
        operation = _OPERATIONS.get((request.method, request.path), "unknown")
        stream = body.get("stream") is True
    model = body.get("model")
    return ServedCall(
        operation=operation,
        path=request.path,
        model=model if isinstance(model, str) else None,
        stream=stream,
        request=body,
    )
