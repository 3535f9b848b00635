"""Any value in a message: short, printable, and without trusting its `__repr__`."""

from __future__ import annotations


LIMIT = 200
"""Characters of a value that a message shows."""


def show(value: object) -> str:
    """Return the start of the value's `repr`, in characters that can be printed.

    A value whose `__repr__` raises is shown by its type's name.
    """
    try:
        text = repr(value[:LIMIT] if type(value) is str else value)
    except Exception:  # noqa: BLE001  # code of the value
        text = f"<{type(value).__name__} that has no repr>"
    return printable(text if len(text) <= LIMIT else f"{text[:LIMIT]}...")


def printable(text: str) -> str:
    """Return *text* with what cannot be printed escaped as `repr` does it."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
