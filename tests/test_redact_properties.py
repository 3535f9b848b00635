from __future__ import annotations

import datetime as dt
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmevents._redact import (
    REDACTED,
    clean_headers,
    clean_metadata,
    clean_text,
    clean_url,
    describe_error,
)


BODY = "C4n4ryaB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z"

# What the patterns look for, in pieces, so that they meet in every order.
FRAGMENTS = [
    *(
        "key",
        "api_key",
        "x-api-key",
        "token",
        "auth",
        "authorization",
        "cookie",
        "pass",
    ),
    *("password", "secret", "signature", "monkey", "max_tokens", "API key", "--token"),
    *("=", ":", ",", ";", "&", "?", "#", "/", "//", "://", "@", "%3D", "%20", "=>"),
    *(
        " ",
        "\t",
        "\n",
        "\r\n",
        "\\",
        "\\n",
        '"',
        "'",
        "`",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
    ),
    *("Bearer", "bearer ", "Basic ", "basic", "dXNlcjpwYXNzMQ==", "-----BEGIN "),
    *("PRIVATE KEY-----", "-----END ", "sk-", "eyJ", "AIza", "ghp_", "hf_", "xoxb-"),
    *("https://", "hooks.slack.com/a/", "url: /", REDACTED, "[REDA", " ...[+", "5]"),
    *("a", "Z9", "é", "İ", "\0", "\ud800", "x" * 30, "hunter2", BODY, "localhost:80"),
]
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)
texts = st.one_of(
    fragments,
    st.text(max_size=50),
    st.text(st.characters(codec=None), max_size=50),
    st.builds(lambda text, times: text * times, fragments, st.integers(1, 100)),
)
keys = st.one_of(
    texts,
    st.sampled_from(["api_key", "tokens", "a", "b"]),
    st.integers(),
    st.none(),
    st.booleans(),
    st.binary(max_size=5),
    st.tuples(st.integers()),
    st.floats(),
)
scalars = st.one_of(
    texts,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=10),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.datetimes(timezones=st.sampled_from([None, dt.timezone.utc])),
    st.timedeltas(),
    st.complex_numbers(),
    st.just(object()),
    st.just(1 << 2000),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=6),
        st.frozensets(texts | st.uuids() | st.integers(), max_size=4),
        st.lists(inner, min_size=1, max_size=2).map(lambda items: items * 65),
    ),
    max_leaves=20,
)
metadata = st.dictionaries(keys, values, max_size=8)


def with_cycle(data: dict[Any, Any]) -> dict[Any, Any]:
    """Put *data* into itself, in a list and in each dict and list it has."""
    for value in [*data.values()]:
        if type(value) is list:
            value.append(data)
        elif type(value) is dict:
            value["cycle"] = [data, value]
    data["cycle"] = data
    return data


@settings(deadline=None, max_examples=150)
@given(metadata | metadata.map(with_cycle))
def test_any_metadata_becomes_json(data: Any) -> None:  # noqa: ANN401 - any value there is
    cleaned = clean_metadata(data)

    written = json.dumps(cleaned, allow_nan=False)
    json.dumps(cleaned, ensure_ascii=False).encode()
    assert "\\u0000" not in written.replace("\\\\", "")
    assert json.loads(written) == cleaned
    assert clean_metadata(cleaned) == cleaned


@settings(deadline=None, max_examples=500)
@given(texts, st.integers(-1, 200) | st.just(4096))
def test_cleaned_text_is_clean(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)

    cleaned.encode()
    assert clean_text(cleaned, limit) == cleaned
    assert len(cleaned) <= max(limit, 64)
    assert "\0" not in cleaned


@settings(deadline=None, max_examples=300)
@given(
    st.text(st.characters(codec="utf-8"), max_size=30) | fragments,
    st.sampled_from(["sk-", "AIza", "ghp_", "hf_", "gsk_", "eyJ", "xoxb-"]),
    st.text(st.characters(codec="utf-8"), max_size=30) | fragments,
)
def test_a_token_is_found_in_any_surroundings(
    before: str, prefix: str, after: str
) -> None:
    """Only a letter or digit before it hides it: that is another word."""
    secret = "H1dd3n" + BODY

    assert secret not in clean_text(f"{before} {prefix}{secret} {after}")


@settings(deadline=None, max_examples=300)
@given(fragments, st.sampled_from(["api_key=", '"password": "', "https://me:"]))
def test_a_named_secret_is_found_after_any_text(before: str, name: str) -> None:
    end = {'"': '"', ":": "@host/"}.get(name[-1], "")

    assert "h1dd3n-h0rse" not in clean_text(f"{before}\n {name}h1dd3n-h0rse{end}")


@settings(deadline=None, max_examples=300)
@given(texts)
def test_a_cleaned_url_is_clean(url: str) -> None:
    cleaned = clean_url(url)

    cleaned.encode()
    assert clean_url(cleaned) == cleaned


@settings(deadline=None, max_examples=200)
@given(texts)
def test_any_error_is_described(message: str) -> None:
    name, cleaned = describe_error(ValueError(message))

    cleaned.encode()
    assert name == "ValueError"
    assert len(cleaned) <= 1024


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(keys, values, max_size=8))
def test_any_headers_become_text(headers: Any) -> None:  # noqa: ANN401 - any value there is
    cleaned = clean_headers(headers)

    assert all(type(text) is str for item in cleaned.items() for text in item)
    json.dumps(cleaned, ensure_ascii=False).encode()
    assert clean_headers(cleaned) == cleaned
