"""The stream that is written to, made harmless."""

from __future__ import annotations

import os
from typing import TextIO


class GuardedStream:
    """A text stream whose failures are noted instead of raised.

    Left to itself, rich answers a broken pipe by redirecting the process's standard
    output to nowhere and exiting (`rich.console.Console.on_broken_pipe`, 13.8 on).

    Attributes:
        failed: Whether a write has failed since this was last set to False.
    """

    __slots__ = ("_stream", "encoding", "failed")

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self.failed = False

    def write(self, text: str) -> int:
        r"""Write *text*; what the encoding lacks becomes an escape such as ``\xe9``."""
        try:
            known = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            self._open().write(known)
        except Exception:  # noqa: BLE001  # streams are foreign and fail in many ways
            self.failed = True
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._open().flush()
        except Exception:  # noqa: BLE001  # as in write()
            self.failed = True

    def isatty(self) -> bool:
        """Whether this is a terminal."""
        try:
            return self._open().isatty()
        except Exception:  # noqa: BLE001  # as in write()
            return False

    def size(self) -> tuple[int, int] | None:
        """Return columns and rows of the terminal, or None if there is no knowing."""
        try:
            columns, rows = os.get_terminal_size(self._open().fileno())
        except Exception:  # noqa: BLE001  # as in write()
            return None
        return (columns, rows) if columns and rows else None

    def _open(self) -> TextIO:
        if self._stream is None:
            msg = "the program has no standard output"
            raise OSError(msg)
        return self._stream
