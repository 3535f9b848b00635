"""What the answer to a request means: done, try again, split up, or give up."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from math import isfinite

import requests
import urllib3


# The codes that OTLP/HTTP allows to retry (OTLP specification 1.9.0, "Retryable
# Response Codes"), and those of them whose Retry-After counts.
RETRYABLE = frozenset({429, 502, 503, 504})
THROTTLING = frozenset({429, 503})

# What a server says of a request that it cannot take as a whole.
SPLITTABLE = frozenset({400, 413, 422})


class Action(Enum):
    """What to do with a batch after it was sent."""

    DONE = "done"
    RETRY = "retry"
    SPLIT = "split"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a request.

    Attributes:
        action: What to do now.
        reason: Why it failed, as it is counted: ``"http_503"``; empty if it did not.
        rejected: How many of the records the server has refused, if it took the rest.
        retry_after: Seconds that the server asked for; None if it did not.
        error_type: Class of the exception, if there was one.
    """

    action: Action
    reason: str = ""
    rejected: int = 0
    retry_after: float | None = None
    error_type: str = ""


DELIVERED = Outcome(action=Action.DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to wait between attempts, and when to give up.

    Attributes:
        total: Seconds from the first attempt to the last.
        first: Upper limit of the first pause in seconds; it doubles each time.
        longest: Upper limit of every pause. An endpoint that is back is found after
            this at the latest.
    """

    total: float = 60.0
    first: float = 0.5
    longest: float = 5.0

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row.

        Anything between 0 and the limit, so that many processes do not come back
        all at once ("full jitter").
        """
        limit = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return random.uniform(0.0, limit)  # noqa: S311  # no secret


def of_status(status: int, headers: Mapping[str, str]) -> Outcome:
    """Return what an answer with this status means; of 2xx, that it is done."""
    if 200 <= status < 300:  # noqa: PLR2004  # "successful", RFC 9110 section 15.3
        return DELIVERED
    reason = f"http_{status}"
    if status in RETRYABLE:
        text = headers.get("Retry-After", "") if status in THROTTLING else ""
        return Outcome(
            action=Action.RETRY, reason=reason, retry_after=parse_retry_after(text)
        )
    return Outcome(
        action=Action.SPLIT if status in SPLITTABLE else Action.DROP, reason=reason
    )


def of_error(error: Exception) -> Outcome:
    """Return what a request means that got no answer."""
    name = type(error).__name__
    if not isinstance(error, _CONNECTION) and (
        isinstance(error, requests.RequestException) or not isinstance(error, OSError)
    ):
        return Outcome(action=Action.DROP, reason="request_error", error_type=name)
    reason = "connection_error"
    if isinstance(error, requests.exceptions.SSLError):
        reason = "tls_error"
    elif isinstance(error, _TIMEOUT):
        reason = "timeout"
    return Outcome(action=Action.RETRY, reason=reason, error_type=name)


# What fails while the body of an answer is read is urllib3's own exception.
_TIMEOUT = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_CONNECTION = (
    requests.ConnectionError,
    requests.Timeout,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
)


def parse_retry_after(text: str) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for (RFC 9110 section 10.2.3).

    Either a number of seconds or a date; None for anything else.
    """
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if isfinite(seconds) else None
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, date.timestamp() - time.time())
