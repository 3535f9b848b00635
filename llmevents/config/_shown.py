"""Settings as they may be shown: without secrets, of types that JSON knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmevents._redact import clean_text, clean_url
from llmevents._redact_patterns import REDACTED, is_secret_key


MAX_DEPTH = 8


def shown(path: Sequence[str], value: object) -> object:
    """Return *value* as it may be printed where *path* names the setting.

    The values of secret keys, of headers and of data source names (DSN) are
    replaced altogether, and URLs are cut down to scheme, host and path.
    """
    if value is None or isinstance(value, bool):
        return value
    if path and _is_secret(path[-1]):
        return REDACTED
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        return clean_url(value) if "://" in value else clean_text(value, 256)
    if len(path) > MAX_DEPTH:
        return "..."
    return _shown_container(path, value)


def _shown_container(path: Sequence[str], value: object) -> object:
    if isinstance(value, Mapping):
        in_headers = any(_is_of_headers(part) for part in path)
        return {
            clean_text(str(key), 128): REDACTED
            if in_headers
            else shown((*path, str(key)), item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [
            REDACTED if path and _is_of_headers(path[-1]) else shown((*path, ""), item)
            for item in value
        ]
    name = getattr(value, "name", None)
    kind = type(value).__name__
    return f"<{kind} {clean_text(name, 128)}>" if type(name) is str else f"<{kind}>"


def _is_of_headers(key: str) -> bool:
    return "header" in key.lower()


def _is_secret(key: str) -> bool:
    return is_secret_key(key) or "dsn" in key.lower().replace("-", "_").split("_")
