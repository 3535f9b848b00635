from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import io
import json
import pathlib
import struct
import sys
import threading
import types
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pytest

from llmevents import _redact
from llmevents._redact import (
    REDACTED,
    clean_again,
    clean_headers,
    clean_metadata,
    clean_text,
)
from llmevents._redact_patterns import is_secret_key


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


PLAIN = "c4n4ry-h0rse"
TOKEN = "sk-" + "C4n4ry" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z"


def in_time(function: Callable[[], object], seconds: float = 300) -> None:
    """Run *function*; a hang fails the test instead of stopping the suite."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"still running after {seconds} s"


# --- Keys ------------------------------------------------------------------------

SECRET_KEYS = [
    *("api_key", "apiKey", "API_KEY", "api-key", "api.key", "api key", "apikey"),
    *("ApiKey", "APIKey", "OPENAI_API_KEY", "openai.api_key", "openaiApiKey"),
    *("x-api-key", "X-Api-Key", "x-goog-api-key", "Ocp-Apim-Subscription-Key"),
    *("token", "auth_token", "accessToken", "access_tokens", "refresh_token"),
    *("session_token", "sessionToken", "x-amz-security-token", "csrftoken", "token2"),
    *("authorization", "Authorization", "proxy-authorization", "PROXY_AUTHORIZATION"),
    *("authorization_header", "auth", "basic_auth", "bearer", "jwt", "csrf"),
    *("cookie", "cookies", "Set-Cookie", "set_cookie", "setCookie", "cookie_jar"),
    *("password", "passwd", "db_password", "PASSWORD", "passwordHash", "passphrase"),
    *("smtp_pass", "pwd", "secret", "client_secret", "clientSecret", "secrets"),
    *("secret_name_value", "private_key", "privateKey", "ssh_key", "signing_key"),
    *("access_key", "aws_secret_access_key", "accountKey", "encryption_key"),
    *("master_key", "virtual_key", "openai_key", "api_keys", "api_key_hash"),
    *("credential", "credentials", "google_credentials", "credentials_json"),
    *("signature", "X-Amz-Signature", "sig", "JSESSIONID", "phpsessid"),
    "x" * 500 + "_api_key",
]
OPEN_KEYS = [
    *("", "key", "cache_key", "cacheKey", "sort_key", "idempotency_key", "public_key"),
    *("tokens", "input_tokens", "max_tokens", "maxTokens", "total_tokens"),
    *("prompt_tokens", "remaining_tokens", "cache_read_tokens", "session_tokens"),
    *("token_type", "token_count", "tokenCount", "token_limit", "tokens_per_second"),
    *("time_to_first_token", "cost_per_token", "max_token", "stop_token"),
    *("session_id", "user_id", "organization_id", "task_id", "source_id", "span_id"),
    *("source_function", "access_key_id", "private_key_id", "api_key_name"),
    *("has_password", "is_secret", "cookie_count", "signature_version", "keys"),
    *("monkey", "keyboard", "secretary", "author", "authority", "design", "passed"),
    *("pass", "provider", "model", "response_model", "http_status", "use_case", "key2"),
    *("features", "finish_reasons", "operation", "status", "stream", "user", "id"),
]


@pytest.mark.parametrize("key", SECRET_KEYS, ids=lambda key: ascii(key[-40:]))
def test_the_value_of_a_secret_key_is_replaced(key: str) -> None:
    """Whatever the value is, and wherever the key occurs."""
    for value in (PLAIN, 12345, None, [PLAIN], {"a": PLAIN}):
        cleaned = clean_metadata({key: value, "a": {"b": [{key: value}]}})
        assert PLAIN not in json.dumps(cleaned)
        assert next(iter(cleaned.values())) == REDACTED
        assert [*cleaned["a"]["b"][0].values()] == [REDACTED]


@pytest.mark.parametrize("key", OPEN_KEYS)
def test_the_value_of_an_open_key_stays(key: str) -> None:
    assert clean_metadata({key: 17}) == {key: 17}
    assert clean_metadata({key: "x"}) == {key: "x"}
    assert not is_secret_key(key)


def test_the_first_of_a_pair_may_name_a_secret() -> None:
    """Headers come as lists of pairs, too."""
    pairs = [("X-Api-Key", PLAIN), ("Accept", "*/*"), ("token",), [("a", "b", "c")]]

    assert clean_metadata({"headers": pairs}) == {
        "headers": [
            ["X-Api-Key", REDACTED],
            ["Accept", "*/*"],
            ["token"],
            [["a", "b", "c"]],
        ]
    }


def test_keys_become_clean_short_strings() -> None:
    class Name(str):
        __slots__ = ()

    metadata: dict[Any, object] = {
        1: "int",
        None: "none",
        1.5: "float",
        Name("name"): "subclass",
        ("a", "b"): "tuple",
        b"raw": "bytes",
        "line\nbreak\x85\ud800": "control",
        "k" * 1000: "long",
        TOKEN: "secret",
    }

    cleaned = clean_metadata(metadata)

    assert [*cleaned] == [
        *("1", "None", "1.5", "name", "<tuple>", "<bytes: 3>"),
        "line\ufffdbreak\ufffd\ufffd",
        "k" * 80 + " ...[+920 characters]",
        REDACTED,
    ]
    assert all(type(key) is str for key in cleaned)


def test_the_memory_of_keys_and_texts_is_bounded() -> None:
    """They are cleared when full; nothing secret is ever among them."""
    for number in range(5000):
        clean_metadata({f"key number {number}": f"value number {number}"})
        clean_metadata({f"{TOKEN}{number}": f"{TOKEN}{number}"})

    assert 0 < len(_redact._KEYS) <= _redact._MOST_KEYS
    assert 0 < len(_redact._HARMLESS) <= _redact._MOST_HARMLESS
    assert TOKEN not in str(_redact._KEYS) + str(_redact._HARMLESS)


# --- Values ----------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2
    GREEN = (0, 255, 0)
    HUGE = 1 << 5000


class Level(enum.IntEnum):
    LOW = 1


class Mode(str, enum.Enum):
    FAST = "fast"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Tokens(int):
    def __repr__(self) -> NoReturn:
        raise AssertionError

    __str__ = __int__ = __index__ = __hash__ = __repr__


class Ratio(float):
    def __float__(self) -> NoReturn:
        raise AssertionError


class Point(NamedTuple):
    x: int
    y: int


UTC = dt.timezone.utc
# A time zone file (RFC 8536) with one type and no transition: not every machine has any.
ZONE = zoneinfo.ZoneInfo.from_file(
    io.BytesIO(
        b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"
    )
)
released = memoryview(b"gone")
released.release()

SCALARS: list[tuple[object, object]] = [
    (None, None),
    (True, True),
    (7, 7),
    (1 << 80, 1 << 80),
    (1 << 5000, "<int: 5001 bits>"),
    (-(1 << 5000), "<int: 5001 bits>"),
    (0.5, 0.5),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (float("-inf"), "-inf"),
    (Tokens(5), 5),
    (Ratio(0.25), 0.25),
    (Ratio("nan"), "nan"),
    (Level.LOW, 1),
    (Mode.FAST, "fast"),
    (Colour.RED, "red"),
    (Colour.BLUE, 2),
    (Colour.GREEN, "GREEN"),
    (Colour.HUGE, "<int: 5001 bits>"),
    (Access.READ | Access.WRITE, 3),
    (b"secret", "<bytes: 6>"),
    (bytearray(5), "<bytearray: 5>"),
    (memoryview(b"abc"), "<memoryview: 3>"),
    (released, "<memoryview>"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (dt.date(2025, 1, 2), "2025-01-02"),
    (dt.datetime(2025, 1, 2, 3, tzinfo=UTC), "2025-01-02T03:00:00+00:00"),
    (
        dt.datetime(2025, 1, 2, tzinfo=ZONE),
        "2025-01-02T00:00:00+00:00",
    ),
    (dt.time(3, 4), "03:04:00"),
    (dt.timedelta(hours=1), "1:00:00"),
    (decimal.Decimal("0.10"), "0.10"),
    (fractions.Fraction(1, 3), "1/3"),
    (fractions.Fraction(1, 7**9000), "<fractions.Fraction>"),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (pathlib.PureWindowsPath("c:/a"), "c:\\a"),
    (pathlib.Path("a"), "a"),
    (1j, "<complex>"),
    (int, "<type>"),
    (range(3), "<range>"),
    (collections.deque([1]), "<collections.deque>"),
    (types.MappingProxyType({"a": 1}), "<mappingproxy>"),
    ((n for n in "abc"), "<generator>"),
    (Point(1, 2), [1, 2]),
    ({1}, [1]),
    (frozenset({1}), [1]),
    ((1, "a"), [1, "a"]),
    ([], []),
    (collections.OrderedDict(a=1), {"a": 1}),
    (collections.Counter("a"), {"a": 1}),
]


@pytest.mark.parametrize(
    ("value", "expected"), SCALARS, ids=[*map(str, range(len(SCALARS)))]
)
def test_a_value_becomes_plain_json(value: object, expected: object) -> None:
    cleaned = clean_metadata({"a": value, "b": [value]})

    assert cleaned == {"a": expected, "b": [expected]}
    assert type(cleaned["a"]) is type(expected)
    json.dumps(cleaned, allow_nan=False)


def test_the_class_of_another_value_is_all_that_is_told() -> None:
    class Model:
        key = PLAIN

    name = "test_the_class_of_another_value_is_all_that_is_told.<locals>.Model"
    assert clean_metadata({"a": Model()}) == {"a": f"<{__name__}.{name}>"}


def test_a_class_without_a_proper_module_is_shown_by_its_name() -> None:
    class Odd:
        __module__ = 17  # type: ignore[assignment]  # hostile on purpose

    nowhere = {"__builtins__": {"type": type}}
    Bare = eval("type('Bare', (), {})", nowhere)  # noqa: N806, S307 - sets no module
    cleaned = clean_metadata({"a": Odd(), "b": Bare(), "c": type("X" * 9000, (), {})()})

    assert cleaned["a"].endswith("Odd>")
    assert cleaned["b"].endswith("Bare>")
    assert len(cleaned["c"]) <= 4096


def called(*_: object, **__: object) -> NoReturn:
    """Fail a test: code of the value ran."""
    message = "code of the value ran"
    raise SystemExit(message)


METHODS = """
    __str__ __repr__ __iter__ __hash__ __eq__ __ne__ __lt__ __len__ __bool__ __getitem__
    __contains__ __getattribute__ __getattr__ __format__ __index__ __float__ __int__
    __bytes__ __buffer__ __fspath__ __reduce__ __reduce_ex__ __dir__ __sizeof__
    __length_hint__ keys values items get copy isascii bit_length lower encode split
    isoformat tzinfo value name _value_ _name_
"""


class HostileType(type):
    __hash__ = called
    __eq__ = __str__ = __repr__ = __instancecheck__ = __subclasscheck__ = called
    __getattribute__ = called


def hostile(base: type) -> Any:  # noqa: ANN401 - any class there is
    """Return a subclass of *base* whose every method, and class, is hostile."""
    body: dict[str, Any] = dict.fromkeys(METHODS.split(), called)
    body["__class__"] = property(called)
    return HostileType("Hostile", (base,), body)


@pytest.mark.parametrize(
    ("base", "arguments", "expected"),
    [
        (object, (), f"<{__name__}.Hostile>"),
        (str, ("text",), "text"),
        (int, (5,), 5),
        (float, (0.5,), 0.5),
        (list, ([1, 2],), [1, 2]),
        (tuple, ([1, 2],), [1, 2]),
        (set, ([1],), [1]),
        (frozenset, ([1],), [1]),
        (dict, ({"a": 1},), {"a": 1}),
        (bytes, (b"abc",), "<bytes: 3>"),
        (bytearray, (b"abc",), "<bytearray: 3>"),
        (uuid.UUID, (), f"<{__name__}.Hostile>"),
        (dt.datetime, (2025, 1, 1), f"<{__name__}.Hostile>"),
        (decimal.Decimal, ("1",), f"<{__name__}.Hostile>"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_code_of_a_value_runs(
    base: type, arguments: tuple[object, ...], expected: object
) -> None:
    """Not even the class of the value, or the class of its class, is asked."""
    kind = hostile(base)
    value = base.__new__(kind, *arguments)
    if base in {list, set, dict, bytearray}:
        initialise: Any = base.__init__
        initialise(value, *arguments)

    cleaned = clean_metadata({"a": value, "b": [value, (value, 1)]})

    assert cleaned == {"a": expected, "b": [expected, [expected, 1]]}
    json.dumps(cleaned)


def test_no_code_of_a_key_runs_once_it_is_in_the_dict() -> None:
    class Key:
        armed = False

        def __hash__(self) -> int:
            return called() if self.armed else 1

    key = Key()
    metadata: dict[Any, Any] = {key: 1, "b": 2}
    key.armed = True

    cleaned = clean_metadata(metadata)

    assert [*cleaned.values()] == [1, 2]
    key.armed = False


def test_a_foreign_time_zone_is_not_asked() -> None:
    class Zone(dt.tzinfo):
        utcoffset = dst = tzname = called

    moment = dt.datetime(2025, 1, 1, tzinfo=Zone())

    assert clean_metadata({"a": moment}) == {"a": "<datetime.datetime>"}


def test_an_enum_member_without_value_is_shown_by_its_class() -> None:
    class Broken(enum.Enum):
        A = (1,)

    Broken.A.__dict__.clear()

    assert clean_metadata({"a": Broken.A})["a"].endswith("Broken>")


def test_the_text_of_a_subclass_is_taken_without_its_methods() -> None:
    kind = hostile(str)
    text = str.__new__(kind, TOKEN + "x" * 9000)

    assert clean_text(text) == clean_text(TOKEN + "x" * 9000)
    assert type(clean_text(str.__new__(kind, "plain"))) is str


# --- Containers ------------------------------------------------------------------


def test_metadata_is_copied() -> None:
    inner = [1]
    metadata = {"a": inner}

    cleaned = clean_metadata(metadata)
    inner.append(2)

    assert cleaned == {"a": [1]}
    assert cleaned is not metadata


def test_a_container_inside_itself_ends() -> None:
    metadata: dict[str, Any] = {"a": 1}
    metadata["self"] = metadata
    items: list[Any] = [1]
    items.append(items)
    metadata["list"] = items

    assert clean_metadata(metadata) == {
        "a": 1,
        "self": "<cycle>",
        "list": [1, "<cycle>"],
    }


def test_a_container_that_occurs_twice_is_no_cycle() -> None:
    shared = [1]

    assert clean_metadata({"a": shared, "b": shared}) == {"a": [1], "b": [1]}


def test_depth_is_limited() -> None:
    value: object = "bottom"
    for _ in range(10_000):
        value = [value]

    cleaned = clean_metadata({"a": value})

    assert cleaned == {"a": [[[[[[["<list>"]]]]]]]}
    assert clean_metadata(cleaned) == cleaned


def test_items_are_limited() -> None:
    cleaned = clean_metadata(
        {"list": [*range(1000)], "dict": {str(n): n for n in range(1000)}}
    )

    assert cleaned["list"] == [*range(127), "[TRUNCATED]"]
    assert [*cleaned["dict"]] == [*map(str, range(127)), "..."]
    assert cleaned["dict"]["..."] == "[TRUNCATED]"
    assert clean_metadata(cleaned) == cleaned
    assert len(clean_metadata({str(n): n for n in range(1000)})) == 128
    assert len(clean_metadata({"a": [*range(128)]})["a"]) == 128


def test_text_of_all_values_together_is_limited() -> None:
    metadata = {f"text{n}": "x" * 4096 for n in range(100)}

    cleaned = clean_metadata(metadata)

    assert len(json.dumps(cleaned)) <= 64 * 1024
    assert cleaned["text0"] == "x" * 4096
    assert [*cleaned][-1] == "..."
    assert clean_metadata(cleaned) == cleaned


def test_text_outside_ascii_counts_as_it_is_written_in_json() -> None:
    cleaned = clean_metadata({"texts": ["é" * 4096] * 100, "after": "x"})

    assert len(json.dumps(cleaned)) <= 64 * 1024
    assert cleaned["texts"][-1] == "[TRUNCATED]"
    assert clean_metadata(cleaned) == cleaned


def test_containers_that_share_their_items_do_not_multiply() -> None:
    """Eight levels of 128 times the same would be 10**16 items."""
    value: list[Any] = ["x"]
    for _ in range(6):
        value = [value] * 128

    cleaned = clean_metadata({"a": value})

    assert len(json.dumps(cleaned)) <= 64 * 1024


@pytest.mark.parametrize("kind", [dict, set])
def test_a_container_that_always_changes_is_given_up(kind: type) -> None:
    class Changing:
        def __init__(self, source: object) -> None: ...

        def __iter__(self) -> Iterator[object]:
            return self

        def __next__(self) -> NoReturn:
            message = "changed size during iteration"
            raise RuntimeError(message)

    assert _redact._read(Changing, kind()) == []


def test_a_dict_changed_by_another_thread_is_read_in_peace() -> None:
    shared: dict[str, Any] = {str(n): n for n in range(50)}
    members: set[int] = {*range(50)}
    shared["inner"], shared["members"] = {}, members
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shared[f"n{number % 64}"] = number
            shared.pop(f"n{(number + 32) % 64}", None)
            shared["inner"][number] = number
            shared["inner"].pop(number - 20, None)
            members.add(number % 100)
            members.discard((number + 50) % 100)

    def read() -> None:
        for _ in range(3000):
            assert clean_metadata(shared)["0"] == 0
        done.append(True)

    done: list[bool] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    changer = threading.Thread(target=change, daemon=True)
    try:
        changer.start()
        in_time(read)
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        changer.join(10)
    assert done == [True]


def test_a_mapping_of_another_class_is_asked_for_its_items() -> None:
    proxy = types.MappingProxyType({"a": 1, "password": PLAIN})
    chain = collections.ChainMap({"a": 1}, {"b": 2})

    assert clean_metadata(proxy) == {"a": 1, "password": REDACTED}
    assert clean_metadata(chain) == {"a": 1, "b": 2}
    assert clean_headers(proxy) == {"a": "1", "password": REDACTED}  # type: ignore[arg-type]  # values that are no strings do occur


@pytest.mark.parametrize("odd", [None, 5, "text", [1], object(), {}.items()])
def test_what_is_no_mapping_is_empty(odd: Any) -> None:  # noqa: ANN401 - any value there is
    assert clean_metadata(odd) == {}
    assert clean_headers(odd) == {}


def test_a_mapping_that_fails_is_empty() -> None:
    class Failing(collections.UserDict[str, object]):
        def items(self) -> NoReturn:
            raise OSError(PLAIN)

    assert clean_metadata(Failing(a=1)) == {}


def test_many_threads_clean_the_same_way() -> None:
    """The memory of keys and texts is shared, and cleared under way."""
    wrong: list[object] = []

    def clean(start: int) -> None:
        for number in range(start, start + 3000):
            metadata: Mapping[str, object] = {f"k{number}": f"v{number}", "token": "x"}
            if clean_metadata(metadata) != {**metadata, "token": REDACTED}:
                wrong.append(metadata)

    threads = [
        threading.Thread(target=clean, args=(1000 * n,), daemon=True) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


def test_what_is_remembered_as_clean_is_cleaned_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal values of different types, secrets and long texts are told apart."""
    monkeypatch.setattr("llmevents._redact.MAX_HARMLESS", 2)
    secret = "sk-proj-" + "a1B2" * 12
    for metadata in (
        {"n": 1},
        {"n": True},
        {"n": 1.0},
        {"n": "1"},
        {"key": secret},
        {"api_key": "x"},
        {"text": "x" * 2_000},
        {"list": [1]},
        types.MappingProxyType({"n": 1}),
    ):
        for _ in range(3):
            cleaned = clean_again(metadata)
            assert cleaned == clean_metadata(metadata)
            assert list(map(type, cleaned.values())) == list(
                map(type, clean_metadata(metadata).values())
            )
            cleaned["n"] = "changed"
    assert len(_redact._harmless) <= 2
    assert secret not in repr(_redact._harmless)
