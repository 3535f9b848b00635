"""What a secret looks like: names of fields, and shapes of text.

`llmevents._redact` decides where to look; this module knows what to look for.
Every pattern takes time linear in the length of its input: open-ended repeats never
overlap, look-ahead and look-behind are bounded, and a scan never starts twice in
the same run of characters.

The prefixes are those that the providers and the public secret scanners document
(OpenAI, Anthropic, Google, AWS, GitHub, GitLab, Hugging Face, Slack, Stripe, and the
hosts of open models). A secret without a shape of its own, such as a password, is
only found by the name beside it.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable


REDACTED = "[REDACTED]"
"""What stands in the place of a secret."""

CUT_MARK = "...[+"
"""How the note on left-out characters starts; never taken for a value."""


# --- Names -----------------------------------------------------------------------

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

# Last words that say something about a secret without being one: token_type.
_describes = re.compile(
    "age|alias|algorithm|at|budget|counts?|enabled|expired|expires|expiry|index|kind"
    "|len|length|limits?|names?|present|rate|ratio|remaining|required|size|source"
    "|status|total|ttl|types?|usage|used|valid|version"
).fullmatch
_QUESTIONS = frozenset({"has", "is"})

# The word before "token" when a token is a piece of text: time_to_first_token.
_is_text_token = re.compile(
    "bos|completion|cls|eos|first|generated|input|last|mask|max|min|output|pad|per"
    "|prompt|reasoning|sep|special|stop|total|unk"
).fullmatch
_ACCESS_TOKENS = frozenset({"access", "auth", "bearer", "refresh"})

_SECRET_ENDINGS = (
    "authorization",
    "cookie",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "signature",
)
_SECRET_LAST = frozenset({"auth", "bearer", "csrf", "jwt", "pwd", "sig", "xsrf"})
_is_secret_word = re.compile(
    "authorization|(?:cookie|credential|passphrase|password|secret|signature)s?"
    "|passwd|pwd"
).fullmatch
# A bare "key" is no secret (cache_key, sort_key); these are, written in any style.
_SECRET_KEYS = re.compile(
    "(?:access|account|anthropic|api|auth|azure|cohere|deploy|encryption|gemini|google"
    "|groq|hmac|license|litellm|master|mistral|openai|private|secret|service|shared"
    "|signing|ssh|subscription|virtual)keys?|jsessionid|phpsessid"
)


def is_secret_key(name: str) -> bool:
    """Say whether a field of this *name* holds a secret.

    Case, ``-``, ``_``, ``.``, spaces and camelCase make no difference:
    ``X-API-Key``, ``openai.api_key`` and ``openaiApiKey`` are the same words.
    Counters and descriptions (``max_tokens``, ``token_type``) are not secrets, nor
    are identifiers (``session_id``, ``access_key_id``) and ``key`` by itself.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or _describes(words[-1]) or words[0] in _QUESTIONS:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last.endswith("token"):
        return not _is_text_token(before)
    if last == "tokens":
        return before in _ACCESS_TOKENS
    return (
        last.endswith(_SECRET_ENDINGS)
        or last in _SECRET_LAST
        or (last == "pass" and before != "")
        or any(map(_is_secret_word, words))
        or (last != "id" and _SECRET_KEYS.search("".join(words)) is not None)
    )


# --- Secrets with a shape of their own -------------------------------------------

# "sk-SK-" starts the name of a Slovak voice, "sk-learn-" that of a package.
_SK_BODY = (
    r"(?!SK-)(?:(?:ant|proj|svcacct|admin)-[\w-]{6,}"
    r"|(?=[a-z_-]{0,39}[0-9A-Z])[\w-]{10,}|[\w-]{40,})"
)

# (what it starts with, what follows)
_TOKENS = (
    ("sk-", _SK_BODY),
    ("sk_live_", r"\w{10,}"),
    ("sk_test_", r"\w{10,}"),
    ("rk_live_", r"\w{10,}"),
    ("AIza", r"[\w-]{20,}"),
    ("AKIA", r"[A-Z0-9]{12,}"),
    ("ASIA", r"[A-Z0-9]{12,}"),
    ("gh[oprsu]_", r"[A-Za-z0-9]{16,}"),
    ("github_pat_", r"\w{16,}"),
    ("glpat-", r"[\w-]{16,}"),
    ("hf_", r"[A-Za-z0-9]{16,}"),
    ("xox[abeoprs]-", r"[\w-]{8,}"),
    ("xapp-", r"[\w-]{16,}"),
    ("gsk_", r"[A-Za-z0-9]{16,}"),
    ("xai-", r"[A-Za-z0-9]{20,}"),
    ("pplx-", r"[A-Za-z0-9]{20,}"),
    ("nvapi-", r"[\w-]{20,}"),
    ("r8_", r"[A-Za-z0-9]{20,}"),
    ("fw_", r"[A-Za-z0-9]{20,}"),
    ("tvly-", r"[\w-]{16,}"),
    ("lsv2_", r"\w{20,}"),
    ("pcsk_", r"\w{20,}"),
    ("dapi", r"[0-9a-f]{32}"),
    ("npm_", r"[A-Za-z0-9]{30,}"),
    ("pypi-", r"[\w-]{40,}"),
    ("GOCSPX-", r"[\w-]{16,}"),
    (r"ya29\.", r"[\w-]{16,}"),
    (r"SG\.", r"[\w-]{16,}(?:\.[\w-]+)?"),
    # A JSON object in base64, and what follows it in a JSON Web Token (RFC 7519).
    ("eyJ", r"[\w-]{8,}(?:\.[\w-]+){0,4}"),
)


def _token_pattern() -> str:
    """Build one pattern of all tokens.

    It starts with a set of characters, because the engine skips to those. The boundary
    comes after: no letter or digit before the token, unless that ends a percent escape
    or is the second character of a line break in a repr.
    """
    first = "".join(sorted({prefix[0] for prefix, _ in _TOKENS}))
    branches = "|".join(
        f"(?<={prefix[0]}){prefix[1:]}{body}" for prefix, body in _TOKENS
    )
    boundary = r"(?<![A-Za-z0-9].)|(?<=%[0-9A-Fa-f]{2}.)|(?<=\\[nrt].)"
    return f"[{first}](?:{boundary})(?:{branches})"


# A block that was cut off before its end is as secret as a whole one (RFC 7468).
_PEM = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----[\s\S]*?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----|\Z)"
)

# RFC 6750 and RFC 7617. Words of prose are left alone: after "bearer" by a list, after
# "basic" because base64 of "user:password" has a digit, padding or mixed case.
_BEARER = (
    r"(?i:(bearer(?:[\s:=+]|%20){1,4})(?!(?:auth[a-z]*|credentials?|errors?|expected"
    r"|format|headers?|invalid|methods?|missing|prefix|realm|required|schemes?"
    r"|security|tokens?|types?)\b))[\w.~+/=-]{6,}"
)
_BASIC = (
    r"(?i:(basic(?:[\s+]|%20){1,4}))(?=[A-Za-z0-9/]{0,255}(?:[0-9+=]|[a-z][A-Z]))"
    r"[A-Za-z0-9+/]{8,}={0,2}"
)

# "user:password@" of a URL; then a password with a bare / ? or #; then one so long that
# its "@" is out of sight (the name of a host has 253 characters at most, RFC 1035).
_USERINFO = (
    r"""//(?:[^\s/?#"'<>]*@"""
    r"""|[^\s/?#"'<>@:]*:(?!\d{1,5}[/?#])[^\s@"'<>]{1,256}@"""
    r"""|[^\s/?#"'<>@]{260,})"""
)

# The same without a scheme, if a port, a path or a network follows the host: not an
# e-mail address, and not the digest of a container image.
_CONNECTION = (
    r"""(?<![\w.%+-])(?!mailto:)[\w.-]{1,64}:[^\s@/:,;"'<>]{1,128}"""
    r"""@(?=(?!sha\d)[\w.-]{1,253}(?::\d|/|\())"""
)

# The path of these addresses is the whole credential.
_WEBHOOK = (
    r"""(hooks\.slack\.com/[a-z]{1,20}/|discord(?:app)?\.com/api/webhooks/)"""
    r"""[^\s"'<>\[]+"""
)

_FLAG = (
    r"""(?i:(--(?:[a-z0-9]{1,20}-){0,3}(?:api-?key|access-?key|secret-?key"""
    r"""|private-?key|token|passwd|password|secret)["']?,?[ \t]{1,8}["']?)"""
    r"""(?!-|\.\.\.\[\+|(?:and|argument|cannot|can|flag|for|if|is|must|not|option|or|requires?"""
    r"""|to|was|with)\b))[^\s"'&;,<>]+"""
)


@functools.cache
def _shapes() -> tuple[tuple[str, Callable[[str, str], str], str], ...]:
    """Return (lower-case text that it cannot do without, substitute, replacement).

    Compiled at first need: it takes some milliseconds, and most text has no hint.
    """
    table = (
        ("-----begin", _PEM, REDACTED),
        ("bearer", _BEARER, rf"\1{REDACTED}"),
        ("basic", _BASIC, rf"\1{REDACTED}"),
        ("//", _USERINFO, f"//{REDACTED}@"),
        ("@", _CONNECTION, f"{REDACTED}@"),
        ("hooks", _WEBHOOK, rf"\1{REDACTED}"),
        ("--", _FLAG, rf"\1{REDACTED}"),
        ("", _token_pattern(), REDACTED),
    )
    return tuple(
        (hint, re.compile(pattern, re.ASCII).sub, replacement)
        for hint, pattern, replacement in table
    )


# --- Secrets with a name beside them ---------------------------------------------

# In lower-case text: how a secret name may end, its closing quote, and a separator.
_NAMED = re.compile(
    r"(?:(?:cookie|credential|key|passphrase|password|secret|signature|token)s?"
    r"|auth|authorization|bearer|csrf|jsessionid|jwt|pass|passwd|phpsessid|pwd|sig|xsrf)"
    r"""(?P<quote>["'`\\]*)[ \t]*(?P<sign>[=:]|,|%3[ad])"""
)
_NOT_NAME = re.compile(r"[^\w.-]", re.ASCII)
_LONGEST_NAME = 96
# Text with more than this is a dump of secrets: what follows goes as a whole.
_MOST_NAMED = 32
# "Unexpected token: x" and "Invalid signature: y" are prose, unless what follows is
# long and has a digit.
_PROSE = frozenset(
    {"auth", "bearer", "credential", "credentials", "signature", "token"}
)
_OPAQUE_LENGTH = 16

_OPENING = re.compile(r"""[=>:]{0,2}[ \t]*(?:[bBrRuU]{0,2}(\\*)(["'`]))?""")
_BRACKET = re.compile(r"[\[\](){}]")
_RUN = re.compile(r"""[^\s&;,"'`<>]*""", re.ASCII)
_LINE = re.compile(r"""[^\r\n"']*(?:(?<==)"[^"\r\n]*"[^\r\n"']*)*""")
_ESCAPED = re.compile(r"""[^"'`]*""")
_QUOTED = {
    quote: re.compile(rf"[^{quote}\\]*(?:\\.?[^{quote}\\]*)*", re.DOTALL)
    for quote in "\"'`"
}


def _name_before(text: str, end: int) -> str:
    names = _NOT_NAME.split(text[max(0, end - _LONGEST_NAME) : end])
    if names[-1].lower() == "key" and is_secret_key(" ".join(names[-2:])):
        return " ".join(names[-2:])
    return names[-1]


def _bracket_end(text: str, start: int) -> int:
    depth = 0
    for match in _BRACKET.finditer(text, start):
        depth += 1 if match.group() in "([{" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _bare_value_end(text: str, start: int, name: str, sign: str) -> int:
    """Return where a value without quotes ends."""
    if name.endswith("authorization") or (sign == ":" and "cookie" in name):
        return _end(_LINE, text, start)
    if text[start : start + 1] in {"(", "[", "{"}:
        start = _bracket_end(text, start)
    return _end(_RUN, text, start)


def _escaped_value_end(text: str, start: int) -> int:
    """Return where a value ends whose closing quote has backslashes before it."""
    end = _end(_ESCAPED, text, start)
    while end > start and text[end - 1] == "\\":
        end -= 1
    return end


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _value_at(text: str, position: int, name: str, sign: str) -> slice | None:
    """Return where the value after a name and a separator is, without its quotes."""
    opening = _OPENING.match(text, position)
    start = opening.end() if opening else position
    if text.startswith((CUT_MARK, f"{REDACTED} {CUT_MARK}"), start):
        return None
    escape, quote = opening.groups() if opening else (None, None)
    if quote is None:
        end = _bare_value_end(text, start, name, sign)
    elif escape:
        end = _escaped_value_end(text, start)
    else:
        end = _end(_QUOTED[quote], text, start)
    return slice(start, end) if start < end else None


def _secret_at(text: str, found: re.Match[str]) -> slice | None:
    """Return where the secret is that the end of a name, *found*, announces, if any."""
    written, quoted = _name_before(text, found.start("quote")), found["quote"] != ""
    name, sign = written.lower(), found["sign"][0]
    if not is_secret_key(written) and not (name in {"key", "pass"} and sign in "=%"):
        return None
    if sign == "," and not (quoted and _is_header(name)):
        return None
    if sign == ":" and not quoted and name in _PROSE:
        ahead = text[found.end() : found.end() + _LONGEST_NAME]
        if not any(map(_is_opaque, ahead.split(maxsplit=1)[:1])):
            return None
    return _value_at(text, found.end(), name, sign)


def _is_opaque(word: str) -> bool:
    long = len(word) >= _OPAQUE_LENGTH and any(map(str.isdigit, word))
    return long or word.startswith(REDACTED)


def _is_header(name: str) -> bool:
    return "-" in name or name in {"authorization", "cookie"}


def _redact_named(text: str) -> str:
    parts: list[str] = []
    done = 0
    for found in _NAMED.finditer(_lower(text)):
        place = _secret_at(text, found) if found.start() >= done else None
        if place is None:
            continue
        parts += text[done : place.start], REDACTED
        done = place.stop
        if len(parts) >= 2 * _MOST_NAMED and done < len(text):
            return "".join((*parts, REDACTED))
    return "".join((*parts, text[done:])) if parts else text


def _lower(text: str) -> str:
    """Return *text* in lower case, each character in its place."""
    lower = text.lower()
    # U+0130 is the one character that becomes two.
    return lower if len(lower) == len(text) else text.replace("\u0130", "i").lower()


# --- All together ----------------------------------------------------------------

# Text without any of these has nothing to redact. Only literals: the regular expression
# engine then skips from one possible first character to the next.
_HINTS = (
    *("=", ":", "@", "\0", "',", '",', "`,", "--", "%3"),
    *("earer", "BEARER", "asic", "BASIC", "hooks.slack.com", "/webhooks/"),
    *(re.split(r"[\[\\]", prefix)[0] for prefix, _ in _TOKENS),
)
may_hold_secret = re.compile("|".join(map(re.escape, _HINTS))).search
"""Cheap first look at text: None means that it has no secret and no NUL."""


def redact_secrets(text: str) -> str:
    """Replace each secret in *text* by `REDACTED`.

    Names and delimiters stay, so that ``?key=abc&alt=sse`` becomes
    ``?key=[REDACTED]&alt=sse``. What was behind a replaced secret may have become
    one: repeat until nothing changes.
    """
    lower = text.lower()
    for hint, substitute, replacement in _shapes():
        if hint in lower:
            text = substitute(replacement, text)
    return _redact_named(text)


_URL_PARTS = re.compile(
    r"""(://)(?:[^\s/?\#"'<>]*@)?([^\s?\#"'<>]*)(?:[?\#][^\s"'<>]*)?"""
)
# urllib3 and requests print the path by itself: "exceeded with url: /v1?key=...".
_URL_PATH = re.compile(r"""(url: /[^\s?\#"'<>]*)[?\#][^\s"'<>]*""")


def strip_urls(text: str) -> str:
    """Take user, password, query and fragment from each URL in *text*."""
    if "://" in text:
        text = _URL_PARTS.sub(r"\1\2", text)
    return _URL_PATH.sub(r"\1", text)
