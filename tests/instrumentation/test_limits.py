"""What refusals say about rate limits in their headers."""

from __future__ import annotations

from typing import Any

import pytest

from llmevents.instrumentation._limits import limits_of


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param(
            {"retry-after": "2"}, {"retry_after": 2_000_000_000}, id="seconds"
        ),
        pytest.param(
            {"retry-after": "2", "retry-after-ms": "1500.5"},
            {"retry_after": 1_500_500_000},
            id="milliseconds are more exact",
        ),
        pytest.param({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, id="date"),
        pytest.param(
            {"retry-after": "nan", "retry-after-ms": "inf"}, {}, id="no number"
        ),
        pytest.param(
            {"retry-after": "-1", "x-ratelimit-remaining-tokens": "-1"},
            {},
            id="negative",
        ),
        pytest.param(
            {
                "x-ratelimit-remaining-requests": "3",
                "x-ratelimit-remaining-tokens": "4.5",
            },
            {"remaining_requests": 3},
            id="remaining",
        ),
        pytest.param({"retry-after": None}, {}, id="no text"),
        pytest.param(
            {
                "anthropic-ratelimit-requests-remaining": "5",
                "anthropic-ratelimit-tokens-remaining": "900",
            },
            {"remaining_requests": 5, "remaining_tokens": 900},
            id="anthropic",
        ),
        pytest.param(
            {"x-ratelimit-remaining": "7", "x-tokenlimit-remaining": "8"},
            {"remaining_requests": 7, "remaining_tokens": 8},
            id="together",
        ),
        pytest.param("retry-after: 2", {}, id="no mapping"),
    ],
)
def test_limits_are_read_where_they_are_numbers(
    headers: Any,  # noqa: ANN401  # wrong on purpose
    limits: dict[str, int],
) -> None:
    assert limits_of(headers) == limits
