"""Rate limits, as the headers of a refusal state them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress


NANOSECONDS: Mapping[str, int] = {"retry-after-ms": 1_000_000, "retry-after": 10**9}
"""Header that says how long to wait -> nanoseconds of its unit.

``retry-after`` is RFC 9110, section 10.2.3; ``retry-after-ms`` is what Azure OpenAI
adds and openai's SDK reads first.
"""

REMAINING: Mapping[str, tuple[str, ...]] = {
    "remaining_requests": (
        "x-ratelimit-remaining-requests",
        "anthropic-ratelimit-requests-remaining",
        "x-ratelimit-remaining-req-minute",
        "x-ratelimit-remaining",
    ),
    "remaining_tokens": (
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-tokens-remaining",
        "x-ratelimit-remaining-tokens-minute",
        "x-tokenlimit-remaining",
    ),
}
"""Measurement -> headers that state it; the first that does counts.

In this order: OpenAI, Azure and Groq (OpenAI's guide "Rate limits", section "Rate
limits in headers"), Anthropic (API reference "Rate limits", "Response headers"),
Mistral (its servers' answers), Together ("Rate limits", "Response headers").
"""


def limits_of(headers: object) -> dict[str, int]:
    """Return the limits that *headers* state; a date instead of a delay is left out.

    Args:
        headers: A mapping that finds names in any case, as HTTP libraries have it.
    """
    limits: dict[str, int] = {}
    if not isinstance(headers, Mapping):
        return limits
    for header, nanoseconds in NANOSECONDS.items():
        with suppress(ValueError, TypeError, OverflowError, KeyError):
            limits.setdefault(
                "retry_after", round(float(headers[header]) * nanoseconds)
            )
    for measurement, names in REMAINING.items():
        for header in names:
            with suppress(ValueError, TypeError, KeyError):
                limits.setdefault(measurement, int(headers[header]))
    return {key: value for key, value in limits.items() if value >= 0}
