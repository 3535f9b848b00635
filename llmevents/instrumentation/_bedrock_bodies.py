"""What boto3 gives of a Bedrock model's answer: bodies and event streams, watched.

A body belongs to the caller. Nothing of it is read for us: what the caller reads is
looked at on its way. The real ``StreamingBody`` stays in place, with all it checks;
what is watched is the stream under it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llmevents._context import when_lost
from llmevents.instrumentation._http import RATE_LIMIT
from llmevents.instrumentation._streams import Proxy


if TYPE_CHECKING:
    from typing_extensions import Self

    from llmevents._bus import Bus
    from llmevents.llm import Call

TOKENS = "x-amzn-bedrock-output-token-count"
"""Header of ``InvokeModel`` that, with others, states tokens: Amazon Bedrock API
reference, "InvokeModel", response syntax."""

LONGEST_BODY = 16 * 1024 * 1024
"""Bytes of a body that is kept to be read for usage; images may be longer."""

THROTTLED = frozenset({"throttlingException", "ThrottlingException"})
"""Codes of an error within a stream that mean a rate limit."""


def record_headers(result: Mapping[str, Any], call: Call) -> bool:
    """Record what the headers of a response state; return whether that is tokens.

    It counts where the body states none.
    """
    about = result.get("ResponseMetadata")
    call.record({"ResponseMetadata": about})
    headers = about.get("HTTPHeaders") if isinstance(about, Mapping) else None
    return isinstance(headers, Mapping) and TOKENS in headers


def watch_body(body: Any, call: Call, *, is_known: bool) -> bool:
    """Have *call* end when the caller has read *body*, or given it up.

    Args:
        body: Botocore's ``StreamingBody``.
        call: Records the body once it is whole.
        is_known: Whether the usage is known without the body.

    Returns:
        False if *body* is nothing that can be watched.
    """
    raw = getattr(body, "_raw_stream", None)
    if raw is None:
        return False
    expected: int | None = None
    with suppress(TypeError, ValueError):
        expected = int(body._content_length)  # noqa: SLF001  # it has no other name
    body._raw_stream = BodyProxy(raw, call, expected, is_known=is_known)  # noqa: SLF001  # likewise
    return True


class _Read:
    """What has been read of a body so far."""

    __slots__ = ("_call", "_expected", "_length", "_pieces", "is_known")

    def __init__(self, call: Call, expected: int | None, *, is_known: bool) -> None:
        self._call = call
        self._expected = expected
        self._pieces: list[bytes] = []
        self._length = 0
        self.is_known = is_known

    def add(self, piece: bytes, *, is_end: bool = False) -> bool:
        """Take note of *piece*; return whether the call has ended with it."""
        if piece:
            self._length += len(piece)
            if self._length <= LONGEST_BODY:
                self._pieces.append(piece)
        is_whole = self._length == self._expected
        if not (is_whole or is_end):
            return False
        if is_end and self._expected is not None and not is_whole:
            # As the StreamingBody is about to say.
            self._call.leave(
                _exceptions().IncompleteReadError(
                    actual_bytes=self._length, expected_bytes=self._expected
                )
            )
            return True
        self._record()
        self._call.stop()
        return True

    def _record(self) -> None:
        if 0 < self._length <= LONGEST_BODY:
            self._call.record(b"".join(self._pieces))

    def broken(self, error: BaseException) -> None:
        """End the call: the body could not be read."""
        self._call.leave(error)

    def given_up(self) -> None:
        """End the call: nobody wants the rest of the body, if there is one."""
        self._record()
        if self.is_known:
            self._call.cancel()
        else:
            self._call.stream_ended(None, exhausted=False)


class BodyProxy(Proxy):
    """The stream under a body: urllib3's response. Ways to read it are watched."""

    __slots__ = ("_self_lost", "_self_read")

    def __init__(
        self, raw: object, call: Call, expected: int | None, *, is_known: bool
    ) -> None:
        super().__init__(raw)
        self._self_read = _Read(call, expected, is_known=is_known)
        self._self_lost = when_lost(self, call, self._self_read.given_up)

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        """Read as the stream does."""
        with _Watched(self):
            piece: bytes = self._self_sdks.read(amt, *args, **kwargs)
        self._self_add(piece, is_end=amt is None or amt < 0 or (not piece and amt > 0))
        return piece

    def read1(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        """Read as the stream does."""
        with _Watched(self):
            piece: bytes = self._self_sdks.read1(amt, *args, **kwargs)
        self._self_add(piece, is_end=not piece and amt != 0)
        return piece

    def readinto(self, buffer: Any) -> int:
        """Read as the stream does."""
        with _Watched(self):
            count: int = self._self_sdks.readinto(buffer)
        view = memoryview(buffer).cast("B")
        self._self_add(bytes(view[:count]), is_end=not count and len(view) > 0)
        return count

    def readline(self, *args: Any) -> bytes:
        """Read as the stream does."""
        with _Watched(self):
            line: bytes = self._self_sdks.readline(*args)
        self._self_add(line, is_end=not line and args != (0,))
        return line

    def readlines(self, *args: Any) -> list[bytes]:
        """Read as the stream does."""
        with _Watched(self):
            lines: list[bytes] = self._self_sdks.readlines(*args)
        self._self_add(b"".join(lines), is_end=not args)
        return lines

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Read as the stream does."""
        return self._self_each(self._self_sdks.stream(*args, **kwargs))

    def __iter__(self) -> Iterator[bytes]:
        return self._self_each(iter(self._self_sdks))

    def __next__(self) -> bytes:
        line = next(self._self_sdks, b"")
        self._self_add(line, is_end=not line)
        if not line:
            raise StopIteration
        return line

    def __enter__(self) -> Self:
        self._self_sdks.__enter__()
        return self

    def __exit__(self, *exception: object) -> Any:
        try:
            return self._self_sdks.__exit__(*exception)
        finally:
            self._self_end(self._self_read.given_up)

    def close(self) -> Any:
        """Close as the stream does, then end the call."""
        try:
            return self._self_sdks.close()
        finally:
            self._self_end(self._self_read.given_up)

    def _self_each(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        while True:
            with _Watched(self):
                piece = next(pieces, None)
            if piece is None:
                self._self_add(b"", is_end=True)
                return
            self._self_add(piece)
            yield piece

    def _self_add(self, piece: bytes, *, is_end: bool = False) -> None:
        if self._self_lost.alive and self._self_read.add(piece, is_end=is_end):
            self._self_lost.detach()

    def _self_end(self, end: Callable[[], object]) -> None:
        if self._self_lost.detach() is not None:
            end()


class _Watched:
    """While a body is being read: an error ends the call."""

    __slots__ = ("_proxy",)

    def __init__(self, proxy: BodyProxy) -> None:
        self._proxy = proxy

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is not None:
            read = self._proxy._self_read  # noqa: SLF001  # of this module
            self._proxy._self_end(partial(read.broken, error))  # noqa: SLF001  # likewise


class EventStreamProxy(Proxy):
    """Botocore's event stream; its items are events, and it is no iterator itself."""

    __slots__ = ("_self_events",)

    def __init__(self, events: Any, call: Call, bus: Bus) -> None:
        super().__init__(events)
        self._self_events = call.observe(_told(events, call, bus))

    def __iter__(self) -> Iterator[object]:
        return self._self_events

    def close(self) -> Any:
        """Close as the stream does, then end the call."""
        try:
            return self._self_sdks.close()
        finally:
            self._self_events._ended()  # noqa: SLF001  # its close() would close generators


def _told(events: Any, call: Call, bus: Bus) -> Iterator[object]:
    """Yield the events; of an error among them, note what it says."""
    try:
        yield from events
    except _exceptions().ClientError as error:
        with suppress(Exception):
            _note(error.response, call, bus)
        raise


def _exceptions() -> Any:
    """Return botocore's module of exceptions, which has no types."""
    return import_module("botocore.exceptions")


def _note(response: Mapping[str, Any], call: Call, bus: Bus) -> None:
    """Emit a rate limit that was reached while the model was answering."""
    if response.get("Error", {}).get("Code") in THROTTLED:
        known = {**call.metadata, "span_id": call.span_id}
        told = ("provider", "model", "span_id")
        bus.execute(RATE_LIMIT, {}, {key: known[key] for key in told if key in known})
