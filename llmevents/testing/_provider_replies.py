"""What the fake provider is told to answer: replies, and the faults among them."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

from llmevents.testing._exchanges import Exchange


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.1


class Usage(NamedTuple):
    """Tokens that a response states; None for a count that it does not state."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer to one request, well or badly.

    All counts are tokens, all times are seconds. A fault is a reply like any
    other: an error *status*, a delay, a connection that is dropped. Two rules
    make the usage deterministic where it is not given: a word of a request or of
    a reply is one token, and cached and reasoning tokens come on top of that.

    Attributes:
        content: Text of the reply; streamed, every word is one event.
        finish_reason: Why the model stopped.
        response_model: Model that the response names; None: the one asked for.
        input_tokens: All input, cached included; None: the words of the request
            plus *cache_read_tokens*.
        output_tokens: All output, reasoning included; None: the words of
            *content* plus *reasoning_tokens*.
        cache_read_tokens: Stated as ``prompt_tokens_details.cached_tokens``.
        reasoning_tokens: Stated as ``completion_tokens_details.reasoning_tokens``.
        states_usage: False leaves usage out, even where it was asked for.
        status: HTTP status; from 400 on the body is an OpenAI error.
        error_type: ``type`` of that error.
        error_message: ``message`` of that error.
        error_param: ``param`` of that error.
        error_code: ``code`` of that error.
        headers: Further response headers.
        delay_seconds: Wait before the first byte; infinity is until ``stop()``.
        chunk_delay_seconds: Wait between the events of a stream.
        drop_after: Close the connection after so many events of a stream; 0 is
            before the response begins, and the last event is never sent. A body
            that is not a stream counts as two events, its halves. None: never.
        exchange: Answer this recording; text, usage and error are then its own.

    Raises:
        ValueError: A count or a time is negative or not a number, a subset
            is larger than its total, the status is not 200 to 599, or a header
            cannot be sent.

    Examples:
        >>> Reply(content="No.", cache_read_tokens=100).status
        200
        >>> Reply.rate_limited(retry_after_seconds=2.5).headers["retry-after"]
        '2.5'
    """

    content: str = "This is a reply from the fake provider."
    finish_reason: str = "stop"
    response_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0
    states_usage: bool = True
    status: int = HTTPStatus.OK
    error_type: str = "invalid_request_error"
    error_message: str = "The fake provider was told to answer with an error."
    error_param: str | None = None
    error_code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    chunk_delay_seconds: float = 0.0
    drop_after: int | None = None
    exchange: Exchange | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", int(self.status))  # no HTTPStatus in repr
        _check_numbers(self)
        _check_subset("cache_read_tokens", self.cache_read_tokens, self.input_tokens)
        _check_subset("reasoning_tokens", self.reasoning_tokens, self.output_tokens)
        for name, header in self.headers.items():
            _check_header(name, header)

    @classmethod
    def rate_limited(cls, retry_after_seconds: float = 1.0) -> Reply:
        """Answer 429 as OpenAI does.

        Args:
            retry_after_seconds: Value of ``retry-after``; clients wait so long
                before they retry.
        """
        wait = f"{retry_after_seconds:g}"
        return cls(
            status=HTTPStatus.TOO_MANY_REQUESTS,
            error_type="requests",
            error_message=f"Rate limit reached. Try again in {wait} s.",
            error_code="rate_limit_exceeded",
            headers={
                "retry-after": wait,
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-limit-tokens": "10000",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "9000",
                "x-ratelimit-reset-requests": f"{wait}s",
                "x-ratelimit-reset-tokens": f"{wait}s",
            },
        )

    @classmethod
    def recorded(cls, exchange: Exchange) -> Reply:
        """Answer *exchange*: its status, its content type, its bytes.

        A recorded error carries ``x-should-retry: false``, which keeps the OpenAI
        SDK from retrying it. `dataclasses.replace` adds a delay or a drop.
        """
        failed = exchange.status >= HTTPStatus.BAD_REQUEST
        headers = {"x-should-retry": "false"} if failed else {}
        return cls(status=exchange.status, headers=headers, exchange=exchange)


class RefusedError(Exception):
    """A request that is answered with an error.

    Attributes:
        reply: That error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        self.reply = Reply(
            status=status, error_message=message, error_param=param, error_code=code
        )
        super().__init__(message)


def _check_numbers(reply: Reply) -> None:
    """Refuse a status that is no answer, and what is not zero or more (NaN)."""
    if not 200 <= reply.status <= 599:  # noqa: PLR2004  # RFC 9110, section 15
        msg = f"status is {reply.status}, expected 200 to 599"
        raise ValueError(msg)
    for name in (
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "reasoning_tokens",
        "delay_seconds",
        "chunk_delay_seconds",
        "drop_after",
    ):
        number = getattr(reply, name)
        if number is not None and not number >= 0:
            msg = f"{name} is {number!r}, expected 0 or more"
            raise ValueError(msg)


def _check_subset(name: str, part: int, total: int | None) -> None:
    """Refuse usage that no provider could state."""
    if total is not None and part > total:
        msg = (
            f"{name} is {part}, more than the {total} tokens it is a part of; "
            "the total includes it"
        )
        raise ValueError(msg)


def _check_header(name: str, header: str) -> None:
    """Refuse what would end the header early or could not be encoded."""
    if not _HEADER_NAME.fullmatch(name):
        msg = f"header name {name!r} is not a token of RFC 9110, section 5.1"
        raise ValueError(msg)
    if not (header.isascii() and header.isprintable()):
        msg = f"header {name!r} is {header!r}, expected printable ASCII"
        raise ValueError(msg)


FAULTS: Mapping[str, Reply] = types.MappingProxyType(
    {
        "fault-401": Reply(
            status=HTTPStatus.UNAUTHORIZED,
            error_message="Incorrect API key provided.",
            error_code="invalid_api_key",
        ),
        "fault-429": Reply.rate_limited(),
        "fault-500": Reply(
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            error_type="server_error",
            error_message="The server had an error while processing the request.",
        ),
        "fault-slow": Reply(delay_seconds=2.0),
        "fault-drop": Reply(drop_after=3),
        "fault-disconnect": Reply(drop_after=0),
    }
)
"""The replies that every fake provider knows under a model's name."""
