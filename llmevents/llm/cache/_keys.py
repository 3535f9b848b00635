"""Keys of caches as events show them: hashed, the same in every process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast


DIGEST_SIZE = 16
"""Bytes of a hash: 2**64 keys before two of them are likely to meet."""

LONGEST_SECRET = 64
"""Bytes that BLAKE2b takes as its key (RFC 7693, section 2.1)."""

MAX_DEPTH = 32
"""How deeply a key may be nested; one beyond that has no hash."""

PERSON = b"llmevents.cache"

PLAIN_REPR: object = object.__repr__


def hash_key(key: object, *, secret: bytes = b"") -> str | None:
    """Return 32 hexadecimal digits that stand for *key*, or None if nothing can.

    The same in every process, on every machine, and in every version of Python. Keys
    that are equal have the same hash if they are of the same types: ``1`` and
    ``True`` have not. Takes time in proportion to the key's length.

    Args:
        key: Text, bytes, a number, a truth value, None, or a tuple, list, set or
            dict of these. Anything else is hashed by its `repr`, unless that is the
            one that every object has, which tells its address.
        secret: Makes the hash one that only its holders can compute. Without it,
            whoever can guess a key can tell by the hash that the guess was right.

    Examples:
        >>> from llmevents.llm.cache import hash_key
        >>> hash_key(("gpt-4o", "What is an event bus?"))
        '6cd308eb3a39f634e6f18db0ae3b5e2e'
    """
    from hashlib import blake2b

    if len(secret) > LONGEST_SECRET:
        secret = blake2b(secret).digest()
    digest = blake2b(digest_size=DIGEST_SIZE, key=secret, person=PERSON)
    try:
        for piece in _pieces(key, MAX_DEPTH):
            digest.update(piece)
    except Exception:  # noqa: BLE001  # the key's own repr may raise anything
        return None
    return digest.hexdigest()


def _pieces(key: Any, depth: int) -> Iterator[bytes]:  # noqa: ANN401  # keys are the users' own
    """Yield what *key* consists of; each piece says its type and its length.

    Raises:
        ValueError: Nothing about it stays the same.
    """
    if depth == 0:
        msg = "nested too deeply"
        raise ValueError(msg)
    if isinstance(key, str):
        yield _piece("str", str.encode(key, "utf-8", "surrogatepass"))
    elif isinstance(key, (bytes, bytearray, memoryview)):
        yield _piece("bytes", bytes(key))
    elif isinstance(key, (tuple, list)):
        yield from _sequence("list", key, depth)
    elif isinstance(key, (set, frozenset)):
        yield from _sequence("set", sorted(_joined(item, depth) for item in key), depth)
    elif isinstance(key, dict):
        pairs = sorted((_joined(k, depth), _joined(v, depth)) for k, v in key.items())
        yield from _sequence("dict", pairs, depth)
    elif getattr(type(key), "__repr__", None) is PLAIN_REPR:
        msg = "tells nothing but its address"
        raise ValueError(msg)
    else:
        text = repr(key).encode("utf-8", "surrogatepass")
        yield _piece(type(key).__name__, text)


def _sequence(kind: str, items: Iterable[object], depth: int) -> Iterator[bytes]:
    known = cast("list[object]", items)
    yield f"{kind}:{len(known)}:".encode()
    for item in known:
        yield from _pieces(item, depth - 1)


def _joined(item: object, depth: int) -> bytes:
    return b"".join(_pieces(item, depth - 1))


def _piece(kind: str, content: bytes) -> bytes:
    return b"%s:%d:%s" % (kind.encode(), len(content), content)
