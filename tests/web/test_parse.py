"""The ``from`` parameter: what is read of it, and what a client cannot say by it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmevents import Bus, context
from llmevents._context import RESERVED_METADATA
from llmevents.testing import capture
from llmevents.web import parse_from
from llmevents.web._parse import KEYS, MAX_TEXT, MAX_VALUE


WHO = {"user_id": "u-1", "session_id": "s-2"}


class Broken(Mapping[str, object]):
    """A mapping whose source has gone."""

    def __getitem__(self, key: str) -> object:
        raise LookupError

    def __iter__(self) -> Iterator[str]:
        raise LookupError

    def __len__(self) -> int:
        raise LookupError


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(json.dumps(WHO), id="json"),
        pytest.param(f"  {json.dumps(WHO)}\n", id="json-with-space-around"),
        pytest.param(json.dumps(WHO).encode(), id="json-as-bytes"),
        pytest.param(quote(json.dumps(WHO)), id="json-percent-encoded"),
        pytest.param(urlencode(WHO), id="pairs"),
        pytest.param(WHO, id="mapping"),
        pytest.param({" user_id ": " u-1 ", "session.id": "s-2"}, id="untidy"),
    ],
)
def test_a_context_is_read_in_any_of_its_forms(value: object) -> None:
    assert parse_from(value) == WHO


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("2026-01-01", id="something-else"),
        pytest.param("{", id="broken-json"),
        pytest.param('{"user_id": ' + "[" * 4000, id="deep"),
        pytest.param('{"user_id": ' + "9" * 4000 + "}", id="huge-number"),
        pytest.param('{"user_id": NaN, "task_id": -Infinity}', id="no-numbers"),
        pytest.param(
            '{"user_id": null, "task_id": {}, "tenant_id": [1]}', id="no-scalars"
        ),
        pytest.param('{"user_id": "  "}', id="blank"),
        pytest.param("[1]", id="list"),
        pytest.param("%7B%ff%fe", id="broken-encoding"),
        pytest.param(b"\xff\xfe", id="broken-bytes"),
        pytest.param(json.dumps({"user_id": "u" * MAX_TEXT}), id="too-long"),
        pytest.param(b'{"user_id": "%s"}' % (b"u" * MAX_TEXT), id="too-many-bytes"),
        pytest.param(Broken(), id="broken-mapping"),
        pytest.param(object(), id="object"),
        pytest.param(7, id="number"),
    ],
)
def test_what_is_no_context_gives_nothing(value: object) -> None:
    assert parse_from(value) == {}


def test_numbers_and_truth_values_stay_what_they_are() -> None:
    assert parse_from('{"user_id": 7, "task_id": 1.5, "use_case": true}') == {
        "user_id": 7,
        "task_id": 1.5,
        "use_case": True,
    }


def test_a_company_is_an_organization() -> None:
    """Older trackers say company_id, and mean OpenTelemetry's organization.id."""
    said = {"company_id": "acme", "company_name": "Acme", "user.name": "Ada"}
    assert parse_from(said) == {
        "organization_id": "acme",
        "organization_name": "Acme",
        "user_name": "Ada",
    }


def test_a_client_cannot_forge_what_events_say() -> None:
    said = {"status": "error", "provider": "x", "cost_nano_usd": 1, "span_id": "s"}
    assert parse_from({**said, "user_id": "u"}) == {"user_id": "u"}
    assert parse_from(said, keys=["provider", "span_id"]) == {"provider": "x"}


def test_values_are_short_clean_and_of_one_line() -> None:
    found = parse_from(
        {
            "user_id": "u" * 3000,
            "session_id": "a\r\nuser: b\x1b[2J\u2028c",
            "task_id": "sk-proj-0123456789abcdefghij",
        }
    )
    assert len(str(found["user_id"])) <= MAX_VALUE
    assert str(found["user_id"]).startswith("u" * 200)
    assert found["session_id"] == "a\ufffd\ufffduser: b\ufffd[2J\ufffdc"
    assert "0123456789abcdefghij" not in str(found["task_id"])


def test_it_is_made_for_a_context() -> None:
    bus = Bus()
    with capture("docs.saved", bus=bus) as events, context(parse_from(WHO)):
        bus.execute("docs.saved", {"count": 1})
    assert events[0].metadata == WHO


HOSTILE = st.text(max_size=60) | st.sampled_from(
    ["{", "%7b", '{"user_id":', "\ud800", "&", "=", "user_id=", "[", "\x00", "9" * 999]
)


@settings(max_examples=100)
@given(
    st.lists(HOSTILE, max_size=6).map("".join)
    | st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(sorted(KEYS)) | st.text(max_size=20),
        st.text() | st.integers() | st.floats() | st.none() | st.booleans(),
    )
)
@example("user_id=" + "%00" * 1300)
def test_nothing_a_client_sends_raises_or_grows(value: object) -> None:
    found = parse_from(value)
    assert len(found) <= len(KEYS)
    assert not RESERVED_METADATA.intersection(found)
    for key, scalar in found.items():
        assert key in KEYS
        assert type(scalar) in {str, int, float, bool}
        if isinstance(scalar, str):
            assert 0 < len(scalar) <= MAX_VALUE
            assert scalar.isprintable() or not scalar.isascii()
            scalar.encode("utf-8")
        assert not isinstance(scalar, float) or isfinite(scalar)
    json.dumps(found, allow_nan=False)
