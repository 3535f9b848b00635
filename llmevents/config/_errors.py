"""`ConfigError`: what is wrong with a setting, and where it was made."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from llmevents._errors import OptionError
from llmevents._redact import clean_text
from llmevents._show import printable, show
from llmevents.config._shown import shown


class ConfigError(OptionError):
    """A setting that cannot be used, wherever it was made.

    The message shows the value, the reason and the source. Where the value may be
    a secret, neither the message nor the error has it.

    Attributes:
        option: The setting's dotted name, ``"reporters.prometheus.port"``.
        value: What was given, without secrets.
        source: The file, the environment variable or the keyword.
    """

    def __init__(self, value: object, option: str, expected: str, source: str) -> None:
        self.source = source
        self._expected = expected
        super().__init__(shown(option.split("."), value), option, expected)
        self.args = (printable(f"{self.args[0]} (from {source})"),)

    @classmethod
    def at(cls, error: OptionError, option: str, source: str) -> ConfigError:
        """Return what *error* says, with the place where the mistake was made."""
        expected = str(error).removeprefix(f"expected {error.option} to be ")
        expected = expected.removesuffix(f", got {show(error.value)}")
        return cls(error.value, option, clean_text(expected), source)

    def instead(self, value: object) -> ConfigError:
        """Return this error with another value to show."""
        return ConfigError(value, self.option, self._expected, self.source)


def one_of(names: Iterable[str], given: object) -> str:
    """Return the names that there are, and which of them is nearest to *given*."""
    known = sorted(names)
    nearest = get_close_matches(str(given)[:100], known, n=1, cutoff=0)
    if not nearest:
        return "left out, for there are none"
    return f"{' or '.join(map(repr, known))} (nearest: {nearest[0]!r})"
