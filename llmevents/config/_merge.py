"""Layers of settings become one, with the source of every value."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from llmevents.config._aliases import SETTINGS as SEED_SETTINGS
from llmevents.config._aliases import setting_layer
from llmevents.config._errors import ConfigError, one_of
from llmevents.config._given import DEFAULT, Given, Layer, Path, merged


SCALARS = frozenset(
    {
        "budget_store",
        "budgets",
        "cost_thresholds",
        "enabled",
        "include_stream_usage",
        "instrument",
        "max_idle",
        "max_series",
        "metrics",
        "prices",
        "shutdown_timeout",
    }
)
TABLES = frozenset({"logger", "reporters"})
LOGGER_OPTIONS = frozenset({"events", "level"})

ON_OR_OFF = "true, false or a table of options"


class Part:
    """A reporter, or the logger: whether it is on, and its options."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = Given(value=on, source=DEFAULT)
        self.options: dict[str, Given] = {}

    @property
    def is_on(self) -> bool:
        """Whether the last word was to have it."""
        return self.on.value is True

    def turn(self, given: Given, *, on: bool) -> None:
        """Turn it on or off."""
        self.on = given._replace(value=on, text=None, template=None)

    def put(self, option: str, given: Given) -> None:
        """Set an option, over what there was; tables are merged key by key."""
        self.options[option] = _over(self.options.get(option), given)


class Merged:
    """What all layers say together, the later over the earlier.

    Args:
        canonical: The name of a reporter that a variable names in its own way.

    Attributes:
        scalars: Settings that have one value.
        logger: The debug logger; on unless turned off.
        reporters: By name.
        problems: What cannot be understood, in the order it was met.
    """

    def __init__(self, canonical: Callable[[str], str]) -> None:
        self.scalars: dict[str, Given] = {}
        self.logger = Part(on=True)
        self.reporters: dict[str, Part] = {}
        self.problems: list[Exception] = []
        self._canonical = canonical
        # What the layer at hand has said outright about a part, not by its options.
        self._said: set[Path] = set()

    def add(self, layer: Layer) -> None:
        """Put one source over those before."""
        self._said = set()
        for path, given in layer:
            try:
                self._add(path, given)
            except ConfigError as error:
                self.problems.append(error)

    def _add(self, path: Path, given: Given) -> None:
        head, *rest = path
        if head in SEED_SETTINGS:
            for other, meant in setting_layer(head, given):
                self._add(other, meant)
        elif head in SCALARS:
            self.scalars[head] = _over(self.scalars.get(head), given)
        elif head == "logger":
            self._add_logger(rest, given)
        elif head == "reporters":
            self._add_reporters(rest, given)
        else:
            raise _unknown(head, SCALARS | TABLES, "the setting", given.source)

    def _add_logger(self, rest: Iterable[str], given: Given) -> None:
        option = next(iter(rest), None)
        if option is None and not _is_level(given):
            self._toggle(self.logger, ("logger",), given)
            return
        option = option or "level"
        if option not in LOGGER_OPTIONS:
            raise _unknown(option, LOGGER_OPTIONS, "the option of logger", given.source)
        self._option(self.logger, ("logger",), option, given)

    def _add_reporters(self, rest: list[str], given: Given) -> None:
        if not rest:
            self._add_names(given)
            return
        name = self._canonical(rest[0]) if given.text is not None else rest[0]
        part = self.reporters.setdefault(name, Part())
        path = ("reporters", name)
        if len(rest) == 1:
            self._toggle(part, path, given)
        else:
            self._option(part, path, rest[1], given)

    def _add_names(self, given: Given) -> None:
        if given.value == {}:
            return
        if given.flag() is False:
            for part in self.reporters.values():
                part.turn(given, on=False)
            return
        expected = "a table by name, a list of names or false"
        for name in names(given, "reporters", expected):
            known = self._canonical(name) if given.text is not None else name
            part = self.reporters.setdefault(known, Part())
            self._toggle(part, ("reporters", known), given._replace(value=True))

    def _toggle(self, part: Part, path: Path, given: Given) -> None:
        flag = True if given.value == {} else given.flag()
        if flag is None:
            raise ConfigError(given.value, ".".join(path), ON_OR_OFF, given.source)
        self._said.add(path)
        part.turn(given, on=flag)

    def _option(self, part: Part, path: Path, option: str, given: Given) -> None:
        part.put(option, given)
        if not given.fills and path not in self._said:
            part.turn(given, on=True)


def _over(before: Given | None, given: Given) -> Given:
    """Return *given* over what was there; tables are merged key by key."""
    if before is None:
        return given
    value = merged(before.value, given.value)
    if value is given.value:
        return given
    template = given.template or before.template
    return given._replace(value=value, text=None, template=template)


def names(given: Given, option: str, expected: str) -> list[str]:
    """Return a list of names; text has commas between them.

    Raises:
        ConfigError: It is neither.
    """
    value = given.value
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)) and all(isinstance(n, str) for n in value):
        return list(value)
    raise ConfigError(given.value, option, expected, given.source)


def _is_level(given: Given) -> bool:
    return given.value != {} and given.flag() is None


def _unknown(name: str, known: Iterable[str], what: str, source: str) -> ConfigError:
    return ConfigError(name, what, one_of(known, name), source)
