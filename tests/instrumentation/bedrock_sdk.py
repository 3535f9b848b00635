"""What tests of Bedrock's runtime have in common."""

# ruff: noqa: ANN401  # clients, parameters and results are the SDK's own, of any type

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from struct import pack
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from zlib import crc32

import llmevents
from llmevents import Bus
from llmevents.testing import FakeProvider
from llmevents.testing.provider import Exchange


if TYPE_CHECKING:
    from typing_extensions import Self

# They have no types.
boto3: Any = import_module("boto3")
AWSResponse: Any = import_module("botocore.awsrequest").AWSResponse
Config: Any = import_module("botocore.config").Config
ClientError: Any = import_module("botocore.exceptions").ClientError

CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"

TOKENS = {
    "x-amzn-bedrock-input-token-count": "11",
    "x-amzn-bedrock-output-token-count": "13",
}


@contextmanager
def instrumented(bus: Bus) -> Iterator[None]:
    """Emit what the SDK does in a block on *bus*."""
    llmevents.instrument("bedrock", bus=bus)
    try:
        yield
    finally:
        llmevents.uninstrument("bedrock")


# boto3 makes its clients' classes at run time.
def make_client(
    url: str = "http://127.0.0.1:9",
    *,
    attempts: int = 1,
    service: str = "bedrock-runtime",
) -> Any:
    """Return a client that asks *url*."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",  # noqa: S106  # it is none
        config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
    )


def root(provider: FakeProvider) -> str:
    return provider.base_url.removesuffix("/v1")


def model_in(exchange: Exchange) -> str:
    return unquote(exchange.path.split("/")[2])


def ask(client: Any, exchange: Exchange) -> object:
    """Send a request like the recorded one and read the whole answer."""
    model = model_in(exchange)
    try:
        if exchange.operation == "converse":
            if exchange.path.endswith("-stream"):
                found = client.converse_stream(modelId=model, **exchange.request)
                return [without_metadata(found, "stream"), list(found["stream"])]
            return without_metadata(client.converse(modelId=model, **exchange.request))
        body = json.dumps(exchange.request)
        if exchange.path.endswith("-stream"):
            found = client.invoke_model_with_response_stream(modelId=model, body=body)
            return [without_metadata(found, "body"), list(found["body"])]
        found = client.invoke_model(modelId=model, body=body)
        return [without_metadata(found, "body"), found["body"].read()]
    except ClientError as error:
        return (type(error).__name__, str(error), type(error.__context__))


def replay_bedrock(provider: FakeProvider, exchange: Exchange) -> object:
    """Send one recorded exchange through the SDK and read the whole answer."""
    with provider.serve(exchange):
        return ask(make_client(root(provider)), exchange)


def without_metadata(found: Mapping[str, Any], *keys: str) -> dict[str, object]:
    """Return a result without what differs from one request to the next."""
    left_out = {"ResponseMetadata", *keys}
    return {key: each for key, each in found.items() if key not in left_out}


class Raw:
    """A body as urllib3 gives it: it comes in pieces, and may break."""

    def __init__(self, body: bytes, error: Exception | None = None) -> None:
        self._left = body
        self._error = error
        self.is_closed = False

    def read(self, amt: int | None = None) -> bytes:
        if self._error is not None:
            raise self._error
        size = len(self._left) if amt is None else amt
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def read1(self, amt: int | None = None) -> bytes:
        return self.read(amt)

    def readinto(self, buffer: bytearray) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readline(self, limit: int = -1) -> bytes:
        end = self._left.find(b"\n") + 1 or len(self._left)
        return self.read(end if limit < 0 else min(end, limit))

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(iter(self.readline, b"")) if hint < 0 else [self.readline()]

    def stream(
        self, amt: int = 16, decode_content: bool | None = None
    ) -> Iterator[bytes]:
        return iter(lambda: self.read(amt), b"")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.is_closed = True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return len(self._left)


class Wire:
    """Answers a client's requests in process, below botocore's attempts."""

    def __init__(self, *replies: tuple[int, dict[str, str], Any]) -> None:
        self.replies = list(replies)
        self.sent: list[tuple[str, bytes]] = []

    def client(self, *, attempts: int = 1) -> Any:
        made = make_client(attempts=attempts)
        made.meta.events.register("before-send.bedrock-runtime.*", self._answer)
        return made

    def _answer(self, request: Any, **_: object) -> Any:
        self.sent.append((request.url, request.body))
        status, headers, body = self.replies.pop(0)
        if isinstance(body, Exception):
            raise body
        raw = body if isinstance(body, Raw) else Raw(body)
        return AWSResponse(request.url, status, _Headers(headers), raw)


class _Headers(dict[str, str]):
    """As urllib3's: names in any case."""


def answer(
    body: object, *, headers: Mapping[str, str] | None = None, sized: bool = True
) -> tuple[int, dict[str, str], Any]:
    """Return a reply with a JSON body."""
    text = json.dumps(body).encode()
    length = {"content-length": str(len(text))} if sized else {}
    return 200, {"content-type": "application/json", **length, **(headers or {})}, text


def refusal(
    status: int, code: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    body = json.dumps({"message": "No."}).encode()
    return status, {"x-amzn-errortype": code, **(headers or {})}, body


def event(kind: str, payload: object, *, is_error: bool = False) -> bytes:
    """Return one message of an AWS event stream."""
    body = json.dumps(payload).encode()
    names = {":message-type": "exception", ":exception-type": kind}
    if not is_error:
        names = {":message-type": "event", ":event-type": kind}
    names[":content-type"] = "application/json"
    headers = b"".join(
        pack(">B", len(name))
        + name.encode()
        + pack(">BH", 7, len(text))
        + text.encode()
        for name, text in names.items()
    )
    start = pack(">II", 16 + len(headers) + len(body), len(headers))
    start += pack(">I", crc32(start))
    message = start + headers + body
    return message + pack(">I", crc32(message))


CONVERSED = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "Hi"}, "contentBlockIndex": 0}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
    (
        "metadata",
        {
            "usage": {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8},
            "metrics": {"latencyMs": 7},
        },
    ),
]


def events(*messages: bytes, headers: Mapping[str, str] | None = None) -> Any:
    """Return a reply that is an event stream."""
    kind = {"content-type": "application/vnd.amazon.eventstream"}
    return 200, {**kind, **(headers or {})}, b"".join(messages)


def conversed(upto: int = len(CONVERSED)) -> list[bytes]:
    return [event(kind, payload) for kind, payload in CONVERSED[:upto]]
