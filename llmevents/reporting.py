"""Reporters: what turns events and metrics into something another system reads.

A reporter is any class with the four methods of `Reporter`. It is found by its name
in the entry-point group ``llmevents.reporters``:

    [project.entry-points."llmevents.reporters"]
    console = "llmevents_console:ConsoleReporter"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from llmevents._bus import Bus
from llmevents._carriers import Carrier, carry
from llmevents._errors import OptionError
from llmevents._forksafe import ForkAware, registry
from llmevents.metrics import MetricStore


__all__ = [
    "ENTRY_POINT_GROUP",
    "Carrier",
    "ForkAware",
    "Reporter",
    "ReporterStatus",
    "carry",
    "load_reporter",
    "reset_after_fork",
]

ENTRY_POINT_GROUP = "llmevents.reporters"
"""Where distributions name their reporters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterStatus:
    """What a reporter did with what it was given, since it was started.

    The reporter says what it counts: records, spans, datagrams, lines.

    Attributes:
        accepted: Taken on.
        delivered: Handed over to the other system.
        dropped: Given up, by reason; read-only.
        queued: Neither yet.
    """

    accepted: int = 0
    delivered: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    queued: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dropped", MappingProxyType(dict(self.dropped)))

    @property
    def is_balanced(self) -> bool:
        """Whether everything is accounted for: accepted = delivered + dropped + queued.

        False is a defect of the reporter; nothing may get lost without being counted.
        """
        return self.accepted == (
            self.delivered + sum(self.dropped.values()) + self.queued
        )


class Reporter(Protocol):
    """What a reporter has to offer. It is made with its options as keywords.

    A reporter never raises into the host, never keeps it waiting longer than asked
    for, and does nothing in a forked child. Wrong options raise when it is made.
    """

    def start(self, bus: Bus, metrics: MetricStore) -> None:
        """Begin. Attach to *bus*, or read *metrics*, or both."""

    def flush(self, timeout: float) -> bool:
        """Hand over what there is; return whether that was done in *timeout* seconds."""

    def stop(self, timeout: float) -> None:
        """Flush and end within *timeout* seconds; a second time does nothing."""

    def status(self) -> ReporterStatus:
        """Return the counts so far. Never waits."""


def load_reporter(name: str) -> type[Reporter]:
    """Return the class of the reporter that is installed under *name*.

    Args:
        name: As in the entry-point group: ``"console"``.

    Raises:
        OptionError: No reporter has this name. The message gives the nearest one.
        ModuleNotFoundError: The reporter needs a module that is not installed, which
            is the error's ``name``. The message gives the pip command.

    Examples:
        >>> from llmevents.reporting import load_reporter
        >>> load_reporter("console").__name__
        'ConsoleReporter'
    """
    # Costs 30 ms to import.
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    entry = found.get(name)
    if entry is None:
        raise OptionError(name, "the reporter", _expected(name, sorted(found)))
    try:
        loaded: type[Reporter] = entry.load()
    except ModuleNotFoundError as error:
        if "pip install" in str(error):
            raise
        distribution = "llmevents" if entry.dist is None else entry.dist.name
        msg = (
            f"reporter {name!r} needs the module {error.name!r}, which is not "
            f'installed; run: pip install "{distribution}[{name}]"'
        )
        raise ModuleNotFoundError(msg, name=error.name, path=error.path) from error
    return loaded


def _expected(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    if not names:
        return "one that is installed, and none is"
    known = " or ".join(map(repr, names))
    nearest = get_close_matches(str(name), names, n=1, cutoff=0)
    return f"{known} (nearest: {nearest[0]!r})"


def reset_after_fork(resource: ForkAware) -> None:
    """Have ``resource.after_fork_in_child()`` called in every child forked from now on.

    For what a child must not share with its parent: locks, queues, sockets. The method
    runs before any other code of the child; it must not wait, log or raise. The
    reference is weak.
    """
    registry.register(resource)
