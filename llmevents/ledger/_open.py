"""From what people write to the store that they mean."""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmevents._errors import LLMEventsError
from llmevents._show import printable, show


if TYPE_CHECKING:
    from sqlalchemy import URL

    from llmevents.ledger._jsonl import JsonlStore
    from llmevents.ledger._query import Engine
    from llmevents.ledger._sql import SqlStore

SQLITE_HEADER = b"SQLite format 3\0"
"""How a file of SQLite begins (SQLite 3, "Database File Format", section 1.3)."""

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
JSONL_SUFFIXES = (".jsonl", ".ndjson", ".json")
PACKED_HEADER = b"\x1f\x8b"

EXPECTED = (
    "sqlite:///usage.db, postgresql://user@host/name, or the path of a file of JSON "
    "lines (usage.jsonl) or of SQLite (usage.db)"
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)")
# A name may have an @, and a password anything: it ends with the last @ there is.
_PASSWORD = re.compile(r"(?<=://)([^/:]*):.*@", re.DOTALL)
_SECRET = re.compile(r"(?<=[?&])(password|sslpassword)=[^&]*", re.IGNORECASE)


class StoreError(LLMEventsError, ValueError):
    """What was given is no store that records can be in.

    Attributes:
        store: What was given, without a password.
    """

    def __init__(self, store: object, reason: str) -> None:
        self.store = store
        super().__init__(f"{show(store)} {reason}; a store is {EXPECTED}")


class StoreNotFoundError(LLMEventsError, FileNotFoundError):
    """There is no such file.

    Attributes:
        store: What was given.
    """

    def __init__(self, store: object) -> None:
        self.store = store
        super().__init__(
            f"there is no store at {show(store)}; check the path, or let the ledger "
            f"reporter make it, which does so with the first record"
        )


class Place(NamedTuple):
    """Where records are: in a database, or in files of JSON lines.

    Attributes:
        url: Of the database; None for files.
        path: The file; None for a server.
        name: For people: as it was given, without a password.
    """

    url: URL | None
    path: Path | None
    name: str


def open_engine(store: str | PathLike[str]) -> Engine:
    """Return what answers questions about a store. Nothing is made or changed.

    Args:
        store: ``sqlite:///usage.db``, ``postgresql://user@host/name``, or the path of
            a file: of JSON lines, with what was set aside of it, or of SQLite.

    Raises:
        StoreError: It is none of these.
        StoreNotFoundError: There is no such file.
        OSError: The file cannot be looked at.
        ModuleNotFoundError: The library that reads it is not installed.
    """
    place = find(store)
    if place.path is not None and not _is_there(place):
        raise StoreNotFoundError(place.name)
    if place.url is None:
        from llmevents.ledger._duck import JsonlEngine

        return JsonlEngine(place.path or "")
    from llmevents.ledger._sql_query import SqlEngine

    return SqlEngine(place.url)


def open_store(store: str | PathLike[str]) -> SqlStore | JsonlStore:
    """Return what records can be added to. A file that is not there is made.

    Args:
        store: As for `open_engine`.

    Raises:
        StoreError: It is none.
        OSError: The file cannot be looked at.
        ModuleNotFoundError: The library that writes it is not installed.
    """
    place = find(store)
    if place.url is None:
        from llmevents.ledger._jsonl import JsonlStore

        return JsonlStore(place.path or "")
    from llmevents.ledger._sql import SqlStore

    return SqlStore(place.url)


def find(store: str | PathLike[str]) -> Place:
    """Return where a store is, and of which kind; it need not exist.

    Raises:
        StoreError: It is none.
        OSError: The file cannot be looked at.
    """
    try:
        text = os.fspath(store)
    except TypeError:
        reason = f"is of type {type(store).__name__}, not text"
        raise StoreError(store, reason) from None
    if not text.strip() or "\0" in text:
        raise StoreError(name_of(text), "is no path")
    scheme = _SCHEME.match(text) if isinstance(store, str) else None
    if scheme is not None:
        return _of_url(text, scheme[0].lower())
    return _of_path(Path(text))


def name_of(url: str) -> str:
    """Return a URL as it may be shown: without passwords, nor control characters."""
    hidden = _PASSWORD.sub(r"\1:***@", url)
    return printable(_SECRET.sub(r"\1=***", hidden))


def _of_url(text: str, scheme: str) -> Place:
    from llmevents._errors import OptionError
    from llmevents.ledger._database import Database

    name = name_of(text)
    if scheme in ("file", "jsonl"):
        raise StoreError(name, "is a URL; files of JSON lines are given by their path")
    try:
        database = Database(text, full=False, patience=0)
    except OptionError:
        raise StoreError(name, "is no URL of a database that is known") from None
    path = database.path
    if path is not None and _kind(path) not in ("sqlite", "empty", "nothing"):
        raise StoreError(name, f"leads to {_KINDS[_kind(path)]}, not to one of SQLite")
    return Place(database.url, path, name)


def _of_path(path: Path) -> Place:
    kind = _kind(path)
    name = printable(str(path))
    if kind == "directory":
        raise StoreError(name, "is a directory")
    if kind in ("empty", "nothing"):
        kind = "sqlite" if path.suffix.lower() in SQLITE_SUFFIXES else "jsonl"
        if kind == "jsonl" and path.suffix.lower() not in JSONL_SUFFIXES:
            raise StoreError(name, "has a suffix that does not say what it is to be")
    if kind == "other":
        raise StoreError(name, "holds neither JSON lines nor a database of SQLite")
    if kind == "jsonl":
        return Place(None, path, name)
    from sqlalchemy import URL

    return Place(URL.create("sqlite", database=str(path)), path, name)


_KINDS = {
    "directory": "a directory",
    "jsonl": "a file of JSON lines",
    "other": "a file of another kind",
}


def _kind(path: Path) -> str:
    """Return what a file is by how it begins: jsonl, sqlite, empty, nothing, ..."""
    try:
        with path.open("rb") as file:
            head = file.read(len(SQLITE_HEADER))
    except IsADirectoryError:
        return "directory"
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    if not head:
        return "empty"
    if head == SQLITE_HEADER:
        return "sqlite"
    is_packed = head.startswith(PACKED_HEADER) and path.suffix == ".gz"
    is_text = head.lstrip().startswith(b"{") or path.suffix.lower() in JSONL_SUFFIXES
    return "jsonl" if is_packed or is_text else "other"


def _is_there(place: Place) -> bool:
    """Whether there is a file, or one that was set aside of it."""
    path = place.path
    if path is None or path.exists():
        return True
    if place.url is not None:
        return False
    from llmevents.ledger._files import files_of

    return bool(files_of(Path(os.path.abspath(path))))
