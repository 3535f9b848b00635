"""From the settings of reporters to reporters that are made and not started."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from llmevents._errors import OptionError
from llmevents.config._annotations import MISFIT, annotations_of, describe, fit
from llmevents.config._errors import ConfigError, one_of
from llmevents.config._given import DEFAULT
from llmevents.config._merge import Part
from llmevents.reporting import ENTRY_POINT_GROUP, load_reporter


if TYPE_CHECKING:
    from llmevents.reporting import Reporter

_ANY = (inspect.Parameter.VAR_KEYWORD,)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def canonical_name(name: str) -> str:
    """Return the reporter that a variable means, in which ``-`` cannot be written."""
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if _plain(entry.name) == _plain(name):
            return entry.name
    return name


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


class Loaded:
    """The class of a reporter and what is known of its options."""

    def __init__(self, name: str, part: Part) -> None:
        self.name = name
        self.part = part
        self.cls = self._load()
        self._parameters = _parameters(self.cls)
        self._annotations = annotations_of(self.cls)

    def _load(self) -> type[Reporter]:
        try:
            return load_reporter(self.name)
        except OptionError as error:
            where = f"reporters.{self.name}"
            raise ConfigError.at(error, where, self.part.on.source) from None

    def defaults(self) -> Iterator[tuple[str, object]]:
        """Yield the options that nobody has set, with what they are then."""
        for option, parameter in self._named().items():
            is_set = option in self.part.options
            if not is_set and parameter.default is not parameter.empty:
                yield option, parameter.default

    def ignored(self) -> list[str]:
        """Return the options that this reporter lacks, and may lack."""
        return [
            option
            for option, given in self.part.options.items()
            if given.fills and not given.theirs and not self._has(option)
        ]

    def make(self) -> Reporter:
        """Return the reporter, made with its options.

        Raises:
            ConfigError: An option is unknown, missing, or has a wrong value.
        """
        options = dict(self._checked())
        self._require(options)
        try:
            return self.cls(**options)
        except OptionError as error:
            given = self.part.options.get(error.option)
            source = DEFAULT if given is None else given.source
            where = f"reporters.{self.name}.{error.option}"
            found = ConfigError.at(error, where, source)
            if given is not None and given.template is not None:
                found = found.instead(given.template)
            raise found from None

    def _checked(self) -> Iterator[tuple[str, object]]:
        for option, given in self.part.options.items():
            if given.theirs:
                continue
            if not self._has(option):
                if given.fills:
                    continue
                what = f"the option of reporter {self.name!r}"
                expected = one_of(self._named(), option)
                raise ConfigError(option, what, expected, given.source)
            value = given.value
            if option in self._annotations:
                annotation = self._annotations[option]
                value = fit(given, annotation)
                if value is MISFIT:
                    where = f"reporters.{self.name}.{option}"
                    expected = describe(annotation)
                    raise ConfigError(given.showable, where, expected, given.source)
            yield option, value

    def _require(self, options: Mapping[str, object]) -> None:
        for option, parameter in self._named().items():
            if parameter.default is parameter.empty and option not in options:
                where = f"reporters.{self.name}.{option}"
                nothing, expected = "nothing", "given, for it has no default"
                source = self.part.on.source
                raise ConfigError(nothing, where, expected, source)

    def _named(self) -> dict[str, inspect.Parameter]:
        return {
            name: parameter
            for name, parameter in self._parameters.items()
            if parameter.kind in _NAMED
        }

    def _has(self, option: str) -> bool:
        return option in self._named() or any(
            parameter.kind in _ANY for parameter in self._parameters.values()
        )


def _parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls).parameters
