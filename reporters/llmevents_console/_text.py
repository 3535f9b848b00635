"""Text from outside, made harmless; and the signs that an encoding has."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size


MAX_TEXT = 40
"""Characters of a tag's value."""


class Charset:
    """The signs that can be shown in one encoding.

    Blocks and rules are drawn in Unicode where the encoding is one of its forms, and
    in ASCII elsewhere, which is what rich does as well.

    Args:
        encoding: Of the stream.

    Attributes:
        is_unicode: Whether everything can be shown.
        levels: Eight signs of rising height.
        eighths: Signs of a bar's end, from nearly nothing to a full cell.
        ellipsis: What stands for text that was cut off.
    """

    __slots__ = ("eighths", "ellipsis", "encoding", "is_unicode", "levels")

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self.is_unicode = encoding.lower().startswith("utf")
        self.levels = "▁▂▃▄▅▆▇█" if self.is_unicode else "_.:-=+*#"
        self.eighths = "▏▎▍▌▋▊▉█" if self.is_unicode else "#"
        self.ellipsis = "…" if self.is_unicode else "~"

    def printable(self, text: str, limit: int = MAX_TEXT) -> str:
        r"""Return *text* without what a terminal would act on, cut to *limit*.

        Control characters, line breaks, marks that reverse the direction of writing,
        lone surrogates, and what the encoding lacks, become escapes such as ``\x1b``.
        """
        piece = text[: limit + 1]
        if not piece.isprintable():
            piece = "".join(
                sign if sign.isprintable() else sign.encode("unicode_escape").decode()
                for sign in piece
            )
        if not self.is_unicode:
            raw = piece.encode(self.encoding, "backslashreplace")
            piece = raw.decode(self.encoding)
        return piece if len(piece) <= limit else piece[: limit - 1] + self.ellipsis

    def cut(self, text: str, cells: int) -> str:
        """Return *text* cut to so many *cells* of a terminal."""
        if cell_len(text) <= cells:
            return text
        return set_cell_size(text, max(0, cells - 1)).rstrip() + self.ellipsis
