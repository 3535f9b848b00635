"""What SDKs send and what they are answered, without a network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """A request as it would have gone out."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """A response: bytes in the pieces in which they come, or what breaks them off."""

    parts: tuple[bytes | Exception, ...]
    status: int = 200
    content_type: str = "application/json"


def as_json(body: object, status: int = 200) -> Answer:
    return Answer((json.dumps(body).encode(),), status)


def as_lines(*parts: object) -> Answer:
    """Return a stream of JSON lines; an exception among the parts breaks it off."""
    return Answer(
        tuple(
            part if isinstance(part, Exception) else json.dumps(part).encode() + b"\n"
            for part in parts
        ),
        content_type="application/x-ndjson",
    )


def as_events(*parts: object) -> Answer:
    """Return server-sent events; texts are data as they are."""
    return Answer(
        tuple(part if isinstance(part, Exception) else _event(part) for part in parts),
        content_type="text/event-stream",
    )


def _event(part: object) -> bytes:
    text = part if isinstance(part, str) else json.dumps(part)
    kind = part.get("type") if isinstance(part, dict) else None
    head = f"event: {kind}\n" if isinstance(kind, str) else ""
    return f"{head}data: {text}\n\n".encode()


class Wire:
    """Answers requests in order, and remembers them; the last answer stays."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.sent: list[Sent] = []
        # Clients that close themselves when nothing holds them any more.
        self.clients: list[object] = []

    # Of which of two alike libraries the request is, and the response, is the SDK's.
    def _answer(self, request: Any, library: Any) -> Any:  # noqa: ANN401
        headers = dict(request.headers)
        # Made up anew for each call.
        headers.pop("idempotency-key", None)
        self.sent.append(
            Sent(request.method, str(request.url), headers, request.content)
        )
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return library.Response(
            answer.status,
            headers={"content-type": answer.content_type},
            stream=_stream(library)(answer.parts),
        )

    def and_sent(self, program: Callable[[], object]) -> Callable[[], object]:
        """Return *program*, which then returns what it sent, too."""

        def run() -> object:
            before = len(self.sent)
            return program(), self.sent[before:]

        return run

    def transport(self, library: ModuleType) -> Any:  # noqa: ANN401  # see above
        """Return a transport of that HTTP library, for clients of both kinds."""
        wire = self
        known: Any = library

        class Transport(known.BaseTransport, known.AsyncBaseTransport):  # type: ignore[misc]
            def handle_request(self, request: Any) -> Any:  # noqa: ANN401
                request.read()
                return wire._answer(request, known)

            async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401
                await request.aread()
                return wire._answer(request, known)

        return Transport()


def _stream(library: Any) -> Any:  # noqa: ANN401  # see above
    class Parts(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, parts: tuple[bytes | Exception, ...]) -> None:
            self._parts = parts

        def __iter__(self) -> Iterator[bytes]:
            for part in self._parts:
                if isinstance(part, Exception):
                    raise part
                yield part

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in self:
                yield part

    return Parts
