"""What the values of the single settings may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from llmevents._errors import OptionError
from llmevents._options import check_seconds
from llmevents.config._errors import ConfigError, one_of
from llmevents.config._given import Given
from llmevents.config._merge import names


if TYPE_CHECKING:
    from llmevents.metrics import Metric

_T = TypeVar("_T")


def read_with(check: Callable[[object, str], _T], option: str) -> Callable[[Given], _T]:
    """Return a reader that takes the first reading which *check* lets pass."""

    def read(given: Given) -> _T:
        problem: OptionError | None = None
        for reading in given.readings():
            try:
                return check(reading, option)
            except OptionError as error:
                problem = problem or error
        assert problem is not None  # noqa: S101  # there is one reading at least
        raise ConfigError.at(problem, option, given.source)

    return read


def flag_of(option: str) -> Callable[[Given], bool]:
    """Return a reader of true or false."""

    def read(given: Given) -> bool:
        flag = given.flag()
        if flag is None:
            raise ConfigError(given.value, option, "true or false", given.source)
        return flag

    return read


def read_idle(given: Given) -> float:
    """Read ``max_idle``: seconds, or false for never, which is 0."""
    if given.flag() is False:
        return 0.0
    return read_with(check_seconds, "max_idle")(given)


def read_sdks(given: Given) -> tuple[str, ...]:
    """Read ``instrument``: names of SDKs, or true for all that are supported."""
    from llmevents.instrumentation import SUPPORTED

    flag = given.flag()
    if flag is not None:
        return SUPPORTED if flag else ()
    expected = "true, false or a list of SDKs"
    wanted = names(given, "instrument", expected)
    for name in wanted:
        if name not in SUPPORTED:
            expected = one_of(SUPPORTED, name)
            raise ConfigError(name, "the SDK in instrument", expected, given.source)
    return tuple(dict.fromkeys(wanted))


def read_metrics(given: Given) -> list[Metric]:
    """Read ``metrics``: presets by name, definitions, or false."""
    from llmevents.metrics import Metric

    if given.flag() is False:
        return []
    value = given.value
    if isinstance(value, Metric):
        return [value]
    if not isinstance(value, (list, tuple)):
        expected = "a preset, a list of presets and definitions, or false"
        value = names(given, "metrics", expected)
    found: list[Metric] = []
    for item in dict.fromkeys(_hashable(value, given)):
        found.extend([item] if isinstance(item, Metric) else _preset(item, given))
    return found


def _hashable(items: Sequence[object], given: Given) -> Sequence[object]:
    from llmevents.metrics import Metric

    for item in items:
        if not isinstance(item, (str, Metric)):
            expected = "a preset or a metric definition"
            raise ConfigError(item, "each of metrics", expected, given.source)
    return items


def _preset(name: object, given: Given) -> list[Metric]:
    from llmevents.metrics.presets import PRESETS

    preset = PRESETS.get(str(name))
    if preset is None:
        expected = one_of(PRESETS, name)
        raise ConfigError(name, "the preset in metrics", expected, given.source)
    return preset()


def check_level(value: object, _option: str) -> int | str:
    """Return a level of the logger; ``"INFO"`` is ``"info"``.

    Raises:
        OptionError: It is none.
    """
    from llmevents.logger import checked_level

    level: Any = value.lower() if isinstance(value, str) else value
    checked_level(level)
    checked: int | str = level
    return checked


def read_events(given: Given) -> list[str]:
    """Read ``logger.events``: names or patterns."""
    from llmevents._errors import EventNameError
    from llmevents._names import parse_pattern

    wanted = names(given, "logger.events", "a list of names and patterns of events")
    if not wanted:
        expected = "one name or pattern at least; turn the logger off with false"
        raise ConfigError(given.value, "logger.events", expected, given.source)
    for pattern in wanted:
        try:
            parse_pattern(pattern)
        except EventNameError as error:
            expected = f"names and patterns of events ({error})"
            raise ConfigError(
                pattern, "logger.events", expected, given.source
            ) from None
    return wanted
