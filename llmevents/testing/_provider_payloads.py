"""Response bodies of the fake provider, in the shapes of the OpenAI API."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from llmevents.testing._exchanges import Exchange
from llmevents.testing._provider_replies import RefusedError, Reply, Usage


JsonObject: TypeAlias = Mapping[str, Any]  # JSON is typed by whoever reads it

_JSON = "application/json"
_EVENT_STREAM = "text/event-stream; charset=utf-8"
_WORD = re.compile(r"\S+\s*|\s+")
_SSE_EVENT = re.compile(rb".*?(?:\r\n\r\n|\n\n|\r\r)|.+\Z", re.DOTALL)
_DEFAULT_DIMENSIONS = 1536  # text-embedding-3-small, OpenAI embeddings guide
_MAX_DIMENSIONS = 3072  # text-embedding-3-large, the same guide
_MAX_TEXTS = 2048  # OpenAI API reference, create embeddings, ``input``


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A response body.

    Attributes:
        content_type: Value of the header.
        pieces: The body; one piece an event, or two halves if it is no stream.
        chunked: Whether every piece is sent as a chunk of its own.
        usage: What the body states.
        usage_after: Pieces that must be out before it has been stated.
    """

    content_type: str
    pieces: tuple[bytes, ...]
    chunked: bool
    usage: Usage
    usage_after: int


def chat(request: JsonObject, reply: Reply, number: int) -> Content:
    """Answer a chat completion; *number* makes its id.

    Raises:
        RefusedError: The request lacks a model or messages.
    """
    model = _model(request)
    usage = _chat_usage(_messages(request), reply)
    about = {
        "id": f"chatcmpl-fake-{number:06}",
        "created": int(time.time()),
        "model": reply.response_model or model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }
    if request.get("stream") is True:
        return _chat_stream(about, reply, usage, include=_include_usage(request))
    message = {"role": "assistant", "content": reply.content, "refusal": None}
    choice = _choice(reply.finish_reason, message={**message, "annotations": []})
    body = {**about, "object": "chat.completion", "choices": [choice]}
    if reply.states_usage:
        body["usage"] = _chat_usage_json(usage)
    return _json_content(body, usage if reply.states_usage else Usage())


def embeddings(request: JsonObject, reply: Reply, _number: int) -> Content:
    """Answer with one unit vector per text; equal texts have equal vectors.

    Raises:
        RefusedError: The request lacks a model or an input, or asks for an
            unknown encoding or an impossible number of dimensions.
    """
    model = _model(request)
    texts = _texts(request)
    dimensions = _dimensions(request)
    as_base64 = _encoding_format(request) == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _vector(text, dimensions, as_base64=as_base64),
        }
        for index, text in enumerate(texts)
    ]
    body = {"object": "list", "data": data, "model": reply.response_model or model}
    if not reply.states_usage:
        return _json_content(body, Usage())
    tokens = reply.input_tokens
    if tokens is None:
        tokens = sum(map(_count, texts))
    stated = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _json_content({**body, "usage": stated}, Usage(input_tokens=tokens))


def models(names: Iterable[str]) -> Content:
    """Answer with the list of models."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "llmevents"}
        for name in names
    ]
    return _json_content({"object": "list", "data": data}, Usage())


def error(reply: Reply) -> Content:
    """Answer with the error that *reply* describes."""
    body = {
        "message": reply.error_message,
        "type": reply.error_type,
        "param": reply.error_param,
        "code": reply.error_code,
    }
    return _json_content({"error": body}, Usage())


def recorded(exchange: Exchange) -> Content:
    """Answer the recorded bytes; events of a stream are pieces of their own.

    A content type that was not recorded is told from the first bytes: clients
    need one to decode the body.
    """
    body = exchange.response
    truth = exchange.truth or {}
    content_type = exchange.content_type or _guess_content_type(body)
    chunked = content_type.startswith("text/event-stream")
    pieces = split_events(body) if chunked else _halves(body)
    return Content(
        content_type=content_type,
        pieces=pieces,
        chunked=chunked,
        usage=Usage(
            input_tokens=truth.get("input"),
            output_tokens=truth.get("output"),
            cache_read_tokens=truth.get("cache_read"),
            reasoning_tokens=truth.get("reasoning"),
        ),
        usage_after=len(pieces),
    )


def split_events(body: bytes) -> tuple[bytes, ...]:
    """Cut server-sent events after each blank line; joined, they are *body* again."""
    return tuple(_SSE_EVENT.findall(body)) or (b"",)


def _chat_stream(
    about: JsonObject, reply: Reply, usage: Usage, *, include: bool
) -> Content:
    stated = include and reply.states_usage
    deltas: list[JsonObject] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": word} for word in _WORD.findall(reply.content)]
    choices = [[_choice(None, delta=delta)] for delta in deltas]
    choices.append([_choice(reply.finish_reason, delta={})])
    empty = {"usage": None} if stated else {}
    about = {**about, "object": "chat.completion.chunk"}
    chunks = [{**about, "choices": chosen, **empty} for chosen in choices]
    if stated:
        chunks.append({**about, "choices": [], "usage": _chat_usage_json(usage)})
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return Content(
        content_type=_EVENT_STREAM,
        pieces=(*events, b"data: [DONE]\n\n"),
        chunked=True,
        usage=usage if stated else Usage(),
        usage_after=len(events),
    )


def _choice(finish_reason: str | None, **message: JsonObject) -> JsonObject:
    return {"index": 0, **message, "logprobs": None, "finish_reason": finish_reason}


def _chat_usage(messages: list[Any], reply: Reply) -> Usage:
    """Count a word as a token where the reply does not say how many there are."""
    asked, answered = reply.input_tokens, reply.output_tokens
    if asked is None:
        asked = sum(map(_message_words, messages)) + reply.cache_read_tokens
    if answered is None:
        answered = _count(reply.content) + reply.reasoning_tokens
    return Usage(asked, answered, reply.cache_read_tokens, reply.reasoning_tokens)


def _chat_usage_json(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0),
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _model(request: JsonObject) -> str:
    model = request.get("model")
    if not isinstance(model, str) or not model:
        msg = "You must provide a model."
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg, param="model")
    return model


def _messages(request: JsonObject) -> list[Any]:
    messages = request.get("messages")
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(message, dict) for message in messages)
    ):
        msg = "'messages' must be a list of one or more objects."
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg, param="messages")
    return messages


def _message_words(message: JsonObject) -> int:
    """Count the words of a message: its text, or that of its parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return sum(_count(text) for text in texts if isinstance(text, str))


def _include_usage(request: JsonObject) -> bool:
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _texts(request: JsonObject) -> list[str | list[int]]:
    """Return the inputs, each a text or a list of token ids."""
    given = request.get("input")
    is_one = isinstance(given, str) or _is_tokens(given)
    texts: Any = [given] if is_one else given
    if not isinstance(texts, list) or not 0 < len(texts) <= _MAX_TEXTS:
        msg = f"'input' must be a text, or a list of 1 to {_MAX_TEXTS} inputs."
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg, param="input")
    if not (
        all(isinstance(text, str) for text in texts) or all(map(_is_tokens, texts))
    ):
        msg = "'input' must be made of texts, or of lists of token ids."
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg, param="input")
    return texts


def _is_tokens(given: object) -> bool:
    """Tell a list of token ids; True and False are none."""
    return (
        isinstance(given, list)
        and bool(given)
        and all(type(token) is int for token in given)
    )


def _dimensions(request: JsonObject) -> int:
    dimensions = request.get("dimensions")
    if dimensions is None:
        return _DEFAULT_DIMENSIONS
    if type(dimensions) is not int or not 0 < dimensions <= _MAX_DIMENSIONS:
        msg = f"'dimensions' must be an integer from 1 to {_MAX_DIMENSIONS}."
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg, param="dimensions")
    return dimensions


def _encoding_format(request: JsonObject) -> str:
    encoding = request.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        msg = "'encoding_format' must be 'float' or 'base64'."
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg, param="encoding_format")
    return str(encoding)


def _count(text: str | list[int]) -> int:
    return len(text.split()) if isinstance(text, str) else len(text)


def _vector(
    text: str | list[int], dimensions: int, *, as_base64: bool
) -> str | list[float]:
    """Derive a vector of length 1 from a hash of *text*, in single precision.

    Base64 is of little-endian 32-bit floats: what the OpenAI SDK asks for unless
    told otherwise (openai 3.54, ``resources/embeddings.py``).
    """
    seed = text if isinstance(text, str) else json.dumps(text)
    digest = hashlib.shake_256(seed.encode("utf-8", "surrogatepass"))
    drawn = struct.unpack(f"<{dimensions}i", digest.digest(4 * dimensions))
    length = math.hypot(*drawn)
    packed = struct.pack(f"<{dimensions}f", *(number / length for number in drawn))
    if as_base64:
        return base64.b64encode(packed).decode("ascii")
    return list(struct.unpack(f"<{dimensions}f", packed))


def _json_content(body: JsonObject, usage: Usage) -> Content:
    pieces = _halves(json.dumps(body).encode())
    return Content(
        content_type=_JSON,
        pieces=pieces,
        chunked=False,
        usage=usage,
        usage_after=len(pieces),
    )


def _halves(body: bytes) -> tuple[bytes, ...]:
    """Cut a body in two, so that a connection can be dropped between them."""
    middle = len(body) // 2
    return body[:middle], body[middle:]


def _guess_content_type(body: bytes) -> str:
    start = body.lstrip()[:6]
    if start.startswith((b"data:", b"event:")):
        return _EVENT_STREAM
    return _JSON if start.startswith((b"{", b"[")) else "application/octet-stream"
