from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pytest

from llmevents._redact import (
    REDACTED,
    clean_headers,
    clean_metadata,
    clean_text,
    clean_url,
    describe_error,
)


if TYPE_CHECKING:
    from collections.abc import Callable


# --- Canaries --------------------------------------------------------------------

# Put together here, so that no scanner takes this file for a leak.
BODY = "C4n4ry" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z"
HEX = "c4a4e1" * 8
CAPITALS = "C4N4RY7AB3DE5FG7"
LONG = BODY * 2
PEM_TYPE = "PRIVATE " + "KEY"
JWT = ".".join(
    base64.urlsafe_b64encode(part.encode()).decode().rstrip("=")
    for part in ('{"alg":"HS256"}', '{"sub":"C4n4ry"}', BODY)
)
BASIC = base64.b64encode(b"canary:c4n4ry-pass").decode()


class Canary(NamedTuple):
    """A text with a secret, and the part that must not be seen again."""

    text: str
    secret: str = BODY


SHAPES = {
    "openai": Canary(f"sk-{BODY}"),
    "openai-project": Canary(f"sk-proj-{BODY}"),
    "openai-service": Canary(f"sk-svcacct-{BODY}"),
    "anthropic": Canary(f"sk-ant-api03-{BODY}"),
    "openrouter": Canary(f"sk-or-v1-{HEX}", HEX),
    "lower-case-only": Canary("sk-" + "canarycanary" * 4, "canarycanary"),
    "google": Canary(f"AIza{BODY}"),
    "google-oauth": Canary(f"ya29.{BODY}"),
    "google-client": Canary(f"GOCSPX-{BODY}"),
    "aws": Canary(f"AKIA{CAPITALS}", CAPITALS),
    "aws-session": Canary(f"ASIA{CAPITALS}", CAPITALS),
    "github": Canary(f"ghp_{BODY}"),
    "github-oauth": Canary(f"gho_{BODY}"),
    "github-server": Canary(f"ghs_{BODY}"),
    "github-user": Canary(f"ghu_{BODY}"),
    "github-refresh": Canary(f"ghr_{BODY}"),
    "github-fine-grained": Canary(f"github_pat_{BODY}_{BODY}"),
    "gitlab": Canary(f"glpat-{BODY}"),
    "hugging-face": Canary(f"hf_{BODY}"),
    "slack-bot": Canary(f"xoxb-123456789012-{BODY}"),
    "slack-app": Canary(f"xapp-1-{BODY}"),
    "groq": Canary(f"gsk_{BODY}"),
    "xai": Canary(f"xai-{BODY}"),
    "perplexity": Canary(f"pplx-{BODY}"),
    "nvidia": Canary(f"nvapi-{BODY}"),
    "replicate": Canary(f"r8_{BODY}"),
    "fireworks": Canary(f"fw_{BODY}"),
    "tavily": Canary(f"tvly-{BODY}"),
    "langsmith": Canary(f"lsv2_pt_{BODY}"),
    "pinecone": Canary(f"pcsk_{BODY}"),
    "databricks": Canary(f"dapi{HEX[:32]}", HEX[:32]),
    "stripe": Canary(f"sk_live_{BODY}"),
    "npm": Canary(f"npm_{BODY}"),
    "pypi": Canary(f"pypi-{LONG}"),
    "sendgrid": Canary(f"SG.{BODY}.{BODY}"),
    "jwt": Canary(JWT, JWT.split(".")[1]),
    "jwt-without-signature": Canary(JWT.rpartition(".")[0], JWT.split(".")[1]),
    "pem": Canary(
        f"-----BEGIN RSA {PEM_TYPE}-----\n{BODY}\n-----END RSA {PEM_TYPE}-----"
    ),
    "pem-without-end": Canary(f"-----BEGIN {PEM_TYPE}-----\n{BODY}\nmore"),
    "pem-in-json": Canary(
        json.dumps(f"-----BEGIN {PEM_TYPE}-----\n{BODY}\n-----END {PEM_TYPE}-----\n")
    ),
    "bearer": Canary(f"Bearer {BODY}"),
    "bearer-in-query": Canary(f"a=bearer%20{BODY}"),
    "basic": Canary(f"Basic {BASIC}", BASIC.rstrip("=")),
    "slack-webhook": Canary(f"https://hooks.slack.com/services/T0/B0/{BODY}"),
    "discord-webhook": Canary(f"https://discord.com/api/webhooks/123/{BODY}"),
}

# The secret of these has no shape: only what stands beside it tells.
PLAIN = "c4n4ry-h0rse"
NAMED = {
    "user-and-password": f"https://user:{PLAIN}@example.com/path",
    "token-as-user": f"https://{PLAIN}@github.com/a/b.git",
    "password-with-slash": f"postgres://user:{PLAIN}/x#y@db:5432/main",
    "password-with-at": f"redis://:{PLAIN}@{PLAIN}@cache:6379/0",
    "user-without-scheme": f"scott:{PLAIN}@db.example.com:1521/orcl",
    "mysql-network": f"root:{PLAIN}@tcp(127.0.0.1:3306)/main",
    "connection-string": f"Server=db;User Id=sa;Password={PLAIN};Encrypt=true",
    "azure-storage": f"AccountName=a;AccountKey={PLAIN}==;EndpointSuffix=x",
    "libpq": f"host=db user=me password='{PLAIN}' dbname=x",
    "query-key": f"/v1/models?alt=sse&key={PLAIN}",
    "query-token": f"?token={PLAIN}&page=2",
    "query-sig": f"?sv=2024&sig={PLAIN}%3D&se=1",
    "query-signature": f"?signature={PLAIN}",
    "query-api-key": f"?api_key={PLAIN}",
    "query-apikey": f"?apikey={PLAIN}",
    "query-access-token": f"?access_token={PLAIN}",
    "query-secret": f"?client_secret={PLAIN}",
    "query-encoded": f"next=%2Fcb%3Ftoken%3D{PLAIN}",
    "amz-signature": f"X-Amz-Signature={PLAIN}&X-Amz-Expires=60",
    "amz-credential": f"X-Amz-Credential={PLAIN}%2Fus-east-1",
    "amz-token": f"X-Amz-Security-Token={PLAIN}",
    "environment": f"OPENAI_API_KEY={PLAIN}",
    "provider-key": f"openai_key={PLAIN}",
    "smtp": f"SMTP_PASS={PLAIN}",
    "keyword-argument": f"Client(api_key='{PLAIN}', model='gpt-4o')",
    "basic-auth-tuple": f"get(url, auth=('me', '{PLAIN}'), timeout=3)",
    "json": f'{{"api_key": "{PLAIN}", "model": "gpt-4o"}}',
    "json-camel-case": f'{{"clientSecret":"{PLAIN}"}}',
    "json-escaped-quote": f'{{"password": "a\\"{PLAIN}"}}',
    "json-without-end": f'{{"password": "a {PLAIN}',
    "json-nested": f'{{"credentials": {{"a": {{}}, "b": "{PLAIN}"}}, "n": 1}}',
    "json-in-json": json.dumps(json.dumps({"api_key": PLAIN, "n": 1})),
    "dict-repr": f"{{'x-api-key': '{PLAIN}'}}",
    "bytes-repr": f"[(b'x-api-key', b'{PLAIN}'), (b'a', b'b')]",
    "bytes-value": f"{{'Authorization': b'{PLAIN}'}}",
    "ruby-hash": f'"api_key" => "{PLAIN}"',
    "comparison": f'assert token == "{PLAIN}"',
    "yaml": f"password: {PLAIN}",
    "two-words": f"Your API key: {PLAIN}",
    "opaque-token": f"token: {PLAIN}-and-2-more",
    "backticks": f"api_key=`{PLAIN}`",
    "authorization": f"Authorization: Digest a {PLAIN}\r\nHost: x",
    "authorization-digest": f'Authorization: Digest user="me", response="{PLAIN}"',
    "authorization-curl": f"curl -H 'Authorization: Token {PLAIN}' https://x",
    "cookie": f"Cookie: a=b; sid={PLAIN}",
    "set-cookie": f"Set-Cookie: sid={PLAIN}; HttpOnly",
    "java-session": f"/login;jsessionid={PLAIN}?x=1",
    "flag": f"Command '['tool', '--api-key', '{PLAIN}']' failed",
    "flag-with-prefix": f"tool --openai-api-key {PLAIN} run",
    "long-user-info": f"https://user:{PLAIN}{'x' * 300}",
}

CANARIES = [
    *(pytest.param(canary, id=name) for name, canary in SHAPES.items()),
    *(pytest.param(Canary(text, PLAIN), id=name) for name, text in NAMED.items()),
]
every_canary = pytest.mark.parametrize("canary", CANARIES)


@every_canary
@pytest.mark.parametrize(
    "around",
    ["{}", "see {}", "see {} and more", "({})", '"{}"', "line\n{}\nline", "é {} ü"],
)
def test_a_secret_does_not_survive_in_text(canary: Canary, around: str) -> None:
    cleaned = clean_text(around.format(canary.text))

    assert canary.secret not in cleaned
    assert REDACTED in cleaned
    assert clean_text(cleaned) == cleaned


@every_canary
def test_a_secret_does_not_survive_in_metadata(canary: Canary) -> None:
    """As value, nested value, member of each container, and as key."""
    text = canary.text
    metadata = {
        "note": text,
        "nested": {"list": [text, {"deep": (text, 1)}], "set": {text}},
        "frozen": frozenset({text}),
        text: 1,
    }

    assert canary.secret not in json.dumps(clean_metadata(metadata))


@every_canary
def test_a_secret_does_not_survive_in_an_error(canary: Canary) -> None:
    _, message = describe_error(RuntimeError(f"call failed: {canary.text} (code 3)"))

    assert canary.secret not in message


@every_canary
def test_a_secret_does_not_survive_in_a_url(canary: Canary) -> None:
    for url in (
        canary.text,
        f"https://example.com/v1/{canary.text}",
        f"https://example.com/v1?x={canary.text}#{canary.text}",
    ):
        cleaned = clean_url(url)
        assert canary.secret not in cleaned
        assert clean_url(cleaned) == cleaned


@every_canary
def test_a_secret_does_not_survive_in_a_header(canary: Canary) -> None:
    headers = {"authorization": canary.secret, "x-note": canary.text, canary.text: "1"}

    assert canary.secret not in json.dumps(clean_headers(headers))


@pytest.mark.parametrize("limit", [64, 100, 1024, 4096])
@pytest.mark.parametrize("canary", [*SHAPES.values()], ids=[*SHAPES])
def test_a_secret_across_the_cut_leaves_no_prefix(canary: Canary, limit: int) -> None:
    """The patterns see more than what is kept, so they see enough of the secret."""
    for shift in range(0, len(canary.text) + 60, 3):
        before = "x" * (limit - shift - 1) + " "
        cleaned = clean_text(before + canary.text + " tail" * 1000, limit)
        assert canary.secret[:6] not in cleaned, shift
        assert len(cleaned) <= limit


@pytest.mark.parametrize("name", [*NAMED])
def test_a_named_secret_across_the_cut_leaves_no_prefix(name: str) -> None:
    text = NAMED[name]
    for shift in range(len(text) + 60):
        before = "x" * (1024 - shift - 1) + " "
        cleaned = clean_text(before + text + "y" * 3000, 1024)
        assert PLAIN[:6] not in cleaned, shift


def test_what_is_not_secret_stays_around_a_secret() -> None:
    """A redacted message still says what went wrong."""
    assert clean_text(
        f"Incorrect API key provided: sk-{BODY}. See https://x.com/keys"
    ) == (f"Incorrect API key provided: {REDACTED}. See https://x.com/keys")
    assert clean_text(f'{{"api_key": "{PLAIN}", "model": "gpt-4o"}}') == (
        f'{{"api_key": "{REDACTED}", "model": "gpt-4o"}}'
    )
    assert clean_text(f"GET /v1?key={PLAIN}&alt=sse") == (
        f"GET /v1?key={REDACTED}&alt=sse"
    )
    assert clean_text(json.dumps(json.dumps({"api_key": PLAIN, "n": 1}))) == (
        json.dumps(json.dumps({"api_key": REDACTED, "n": 1}))
    )
    assert clean_text(f"https://me:{PLAIN}@host:80/p") == (
        f"https://{REDACTED}@host:80/p"
    )


def test_a_secret_after_a_line_break_of_a_repr_is_found() -> None:
    """In the repr of a string the letter of the escape touches the secret."""
    assert BODY not in clean_text(repr(f"keys:\nsk-{BODY}\tghp_{BODY}"))


def test_a_dump_of_secrets_is_cut_off_as_a_whole() -> None:
    """Beyond some dozens of named secrets nothing in the text is worth its time."""
    cleaned = clean_text("".join(f"a{n}_token={PLAIN};" for n in range(100)))

    assert PLAIN not in cleaned
    assert "a31_token" in cleaned
    assert "a33_token" not in cleaned
    assert clean_text(cleaned) == cleaned


ORDINARY = [
    "",
    "openai",
    "gpt-4o-mini-2024-07-18",
    "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "us.meta.llama3-1-70b-instruct-v1:0",
    "ft:gpt-4o-mini-2024-07-18:org::AbCdEf12",
    "projects/p-1/locations/us-central1/endpoints/1234567890123456789",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x",
    "task-1234567890ABCDEF1234567890",
    "risk-ABCDEF1234567890abcdef",
    "disk-0123456789abcdef",
    "ask-me-anything-0123456789",
    "sketchy",
    "sk-SK-Wavenet-A",
    "sk-SK-ViktoriaNeural",
    "sk-learn-contrib-packages",
    "sk-4",
    "hf_hub_download_and_more_words",
    "the bearer of bad news",
    "Bearer token is missing; Bearer authentication required",
    "Bearer realm and Bearer scheme",
    "Basic understanding of Visual Basic programming languages",
    "HTTP Basic authentication",
    "chatcmpl-9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c",
    "01J9Z8Q4W2E6R7T8Y9U0I1O2P3",
    "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "2024-01-01T00:00:00.000000+00:00",
    "http://localhost:8080/v1/chat/completions",
    "http://[::1]:8080/v1",
    "https://api.openai.com/v1/chat?stream=true&n=1",
    "https://cdn.example.com/npm/@scope/package@1.2.3/index.js",
    "mailto:someone@example.com/x and to:someone@example.com",
    "registry.example.com/image:1.2@sha256:0123456789abcdef",
    "pkg:npm/lodash@4.17.21",
    "someone@example.com wrote to other@example.com",
    "max_tokens=100, total_tokens: 5, token_type=x, token_count=1",
    "cache_key=abc monkey=banana turkey: bird",
    "Unexpected token: < in JSON at position 0",
    "Invalid signature: expected 3 arguments",
    "invalid credentials: unknown user",
    "session_id=42 user_id=7",
    "the option --token is required",
    "-----BEGIN CERTIFICATE-----",
    "// comment: see foo at bar",
    "password:",
    "password=",
    'api_key=""',
    "x" * 4096,
    "emoji 🙂 and Ünïcödé",
    "line\nbreak\ttab\x1b[31mred\u2028",
]


@pytest.mark.parametrize("text", ORDINARY, ids=lambda text: ascii(text[:30]))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert clean_text(text) == text
    assert clean_metadata({"note": text}) == {"note": text}


# --- Length and encoding ---------------------------------------------------------


def test_a_cut_says_how_much_was_left_out() -> None:
    cleaned = clean_text("word " * 2000, 100)

    kept, _, note = cleaned.partition(" ...[+")
    assert len(cleaned) <= 100
    assert ("word " * 2000).startswith(kept)
    assert note == f"{10_000 - len(kept)} characters]"


def test_text_that_grows_beyond_the_limit_is_cut() -> None:
    """The replacement may be longer than the secret."""
    cleaned = clean_text("db_pwd=a;" * 10, 100)

    assert len(cleaned) <= 100
    assert cleaned.endswith("characters]")
    assert "=a;" not in cleaned


def test_a_cut_never_splits_a_marker() -> None:
    for shift in range(40):
        cleaned = clean_text("x" * shift + f" key={PLAIN} " + "y" * 500, 64)
        assert cleaned.count("[") == cleaned.count("]")
        assert clean_text(cleaned, 64) == cleaned


def test_half_a_note_of_an_earlier_cut_is_dropped() -> None:
    """Else it would be taken for the value of a name before it."""
    for shift in range(40):
        cleaned = clean_text("x" * shift + " token= ...[+ " + "y" * 100, 64)
        assert clean_text(cleaned, 64) == cleaned


def test_a_small_limit_counts_as_64() -> None:
    assert len(clean_text("x" * 1000, 0)) <= 64
    assert len(clean_text("x" * 1000, -5)) <= 64


def test_lone_surrogates_and_nul_do_not_pass() -> None:
    """The first break UTF-8 encoders, the second PostgreSQL."""
    cleaned = clean_text("a\ud800b\udfffc\0d")

    assert cleaned == "a\ufffdb\ufffdcd"
    assert clean_text("sk\0-" + BODY) == REDACTED


def test_a_dotted_capital_i_does_not_shift_what_is_cut_out() -> None:
    """It is the one character whose lower case has two."""
    assert clean_text(f"İİİİ password={PLAIN} İ") == f"İİİİ password={REDACTED} İ"


ADVERSARIAL = [
    *("=", ":", "@", "-", "/", "//", '"', "\\", "(", "[", " ", "a", "\0", "\ud800"),
    *("sk-", "sk-a-", "eyJ", "eyJaaaaaaaa.", "AIza", "-----BEGIN ", "%3D", "://"),
    *(
        "://a:",
        "//a:b@",
        "a:a",
        "a.a:a@",
        "@a:",
        "key",
        "key=",
        "key=(",
        "token:",
        'password="',
        "pass='\\",
    ),
    *("Bearer ", "Basic ", "Basic aaaaaaaa", "basic++++", "--token ", "--a-", "a.b-"),
    *("authorization: ", 'authorization:="', "cookie:", "token \t", "xox", "gh"),
    f"-----BEGIN {PEM_TYPE}-----",
    "hooks.slack.com/a",
    "url: /a?",
    "authorization: [REDACTED] ...[+",
    "key key key=\\\"'`",
]


def in_time(function: Callable[[], object], seconds: float = 60) -> None:
    """Run *function*; a hang fails the test instead of stopping the suite."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"still running after {seconds} s"


@pytest.mark.long
@pytest.mark.parametrize("piece", ADVERSARIAL, ids=ascii)
def test_text_made_to_slow_patterns_down_returns(piece: str) -> None:
    """One megabyte would take hours if any pattern were quadratic."""
    text = piece * (1_000_000 // len(piece))
    results: list[str] = []

    in_time(lambda: results.append(clean_text(text, len(text))))
    in_time(lambda: results.append(clean_text(text + "!", len(text))))
    in_time(lambda: results.append(describe_error(ValueError(text))[1]))
    in_time(lambda: results.append(clean_url(text)))

    assert len(results) == 4


def test_a_huge_string_is_cut_before_anything_reads_it() -> None:
    """The number of characters left out is exact, and no copy of them is made."""
    text = "x" * 100_000_000

    cleaned = clean_metadata({"prompt": text, text: 1})

    assert all(len(part) <= 4096 for item in cleaned.items() for part in map(str, item))
    kept = cleaned["prompt"].index(" ")
    assert cleaned["prompt"].endswith(f"[+{100_000_000 - kept} characters]")


# --- URLs, headers and errors ----------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1/chat", "https://api.openai.com/v1/chat"),
        ("https://me:pw@h.com:8443/v1?key=a#b", "https://h.com:8443/v1"),
        ("https://h.com?key=a", "https://h.com"),
        ("https://h.com#a?b", "https://h.com"),
        ("HTTP://H.com/%41", "HTTP://H.com/%41"),
        ("http://[::1]:80/x?y", "http://[::1]:80/x"),
        ("//h.com/x?y", "//h.com/x"),
        ("https://me:p/w@h.com/x", "https://h.com/x"),
        ("https://me:p?w@h.com/x", "https://h.com/x"),
        ("https://a@b@h.com/x", "https://h.com/x"),
        ("https://h.com:notaport/x", "https://h.com/x"),
        ("https://user:hunter2", "https://user"),
        (f"https://h.com/v1/sk-{BODY}/x", f"https://h.com/v1/{REDACTED}/x"),
        ("postgresql+asyncpg://u:p@db/main?ssl=1", "postgresql+asyncpg://db/main"),
        ("sqlite:///usage.db", "sqlite:///usage.db"),
        ("/v1/models?key=a", "/v1/models"),
        ("h.com/v1#top", "h.com/v1"),
        ("me:pw@h.com/v1?x", "h.com/v1"),
        ("not a url", "not a url"),
        ("", ""),
        ("?", ""),
        ("http://[broken/x", "http:///x"),
    ],
)
def test_a_url_keeps_scheme_host_port_and_path(url: str, expected: str) -> None:
    assert clean_url(url) == expected
    assert clean_url(expected) == expected


def test_a_header_keeps_its_name() -> None:
    headers: dict[Any, Any] = {
        "Authorization": f"Bearer {BODY}",
        "X-API-Key": PLAIN,
        "Content-Type": "application/json",
        "Location": f"https://x/y?token={PLAIN}",
        "X-RateLimit-Remaining-Tokens": "100",
        "X-Number": 5,
        b"cookie": b"a",
    }

    assert clean_headers(headers) == {
        "Authorization": REDACTED,
        "X-API-Key": REDACTED,
        "Content-Type": "application/json",
        "Location": f"https://x/y?token={REDACTED}",
        "X-RateLimit-Remaining-Tokens": "100",
        "X-Number": "5",
        "<bytes: 6>": "<bytes: 1>",
    }


def test_headers_are_limited() -> None:
    assert len(clean_headers({f"h{n}": "x" for n in range(1000)})) == 128


class NoTextError(Exception):
    def __str__(self) -> NoReturn:
        raise RecursionError(PLAIN)


class NotTextError(Exception):
    __str__ = 5  # type: ignore[assignment]  # hostile on purpose


class InterruptingError(Exception):
    def __str__(self) -> NoReturn:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("bad"), ("ValueError", "bad")),
        (OSError(), ("OSError", "")),
        (KeyError("a"), ("KeyError", "'a'")),
        (KeyboardInterrupt(), ("KeyboardInterrupt", "")),
        (json.JSONDecodeError("no", "x", 0), ("json.decoder.JSONDecodeError", None)),
        (NoTextError(PLAIN), (f"{__name__}.NoTextError", "<message unavailable>")),
        (NotTextError(PLAIN), (f"{__name__}.NotTextError", "<message unavailable>")),
        (UnicodeError("a\ud800\0"), ("UnicodeError", "a\ufffd")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_named_and_quoted(
    error: BaseException, expected: tuple[str, str | None]
) -> None:
    name, message = describe_error(error)

    assert name == expected[0]
    assert expected[1] in {message, None}


def test_only_an_exception_from_str_is_kept_back() -> None:
    """Ctrl-C may arrive at any time, also while a message is made."""
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        describe_error(InterruptingError())


def test_urls_in_a_message_lose_what_may_be_secret() -> None:
    message = (
        "Client error '401' for url 'https://me:pw@h.com/v1?a=1&key=x#y'\n"
        "For more information check: https://httpstatuses.com/401 "
        "(HTTPSConnectionPool: Max retries exceeded with url: /v1?a=1 (Caused by x))"
    )

    assert describe_error(RuntimeError(message))[1] == (
        "Client error '401' for url 'https://h.com/v1'\n"
        "For more information check: https://httpstatuses.com/401 "
        "(HTTPSConnectionPool: Max retries exceeded with url: /v1 (Caused by x))"
    )


def test_a_long_message_is_cut() -> None:
    name, message = describe_error(type("E" * 9000, (Exception,), {})("x" * 9_000_000))

    assert len(name) <= 256
    assert len(message) <= 1024
    assert message.endswith("characters]")


def test_nothing_but_the_message_of_an_error_is_read() -> None:
    """Causes, contexts, notes and locals are not looked at."""
    error = RuntimeError("outer")
    error.__cause__ = error.__context__ = ValueError(PLAIN)
    vars(error)["__notes__"] = [PLAIN]

    assert describe_error(error) == ("RuntimeError", "outer")
