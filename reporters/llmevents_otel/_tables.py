"""What a profile is made of: tables from the keys of events to attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias


Conversion: TypeAlias = Literal[
    "text",
    "texts",
    "integer",
    "number",
    "seconds",
    "milliseconds",
    "dollars",
    "currency",
    "if_true",
    "if_false",
    "if_not_one",
    "if_no_success",
    "former_system",
]
"""How a value becomes an attribute: the functions of this name in `_attributes`."""


class Attribute(NamedTuple):
    """The name of an attribute, and how its value is made."""

    name: str
    conversion: Conversion


Attributes: TypeAlias = tuple[Attribute, ...]
Keys: TypeAlias = Mapping[str, Attributes]

NOTHING: Attributes = ()
"""What a key becomes that is no attribute."""


def to(name: str, conversion: Conversion = "text") -> Attributes:
    """Return what a key becomes that is one attribute."""
    return (Attribute(name, conversion),)


def under(prefix: str, *keys: str, conversion: Conversion = "text") -> Keys:
    """Return what *keys* become that keep their names, with *prefix* before them."""
    return {key: to(f"{prefix}.{key}", conversion) for key in keys}


class Rate(NamedTuple):
    """A measurement per second of the span's duration, to two decimals."""

    name: str
    measurement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Which attributes the keys of an event become; other keys keep their names.

    Attributes:
        metadata: Key -> attributes.
        measurements: Key -> attributes.
        constants: Attributes that are always there, from the start.
        rates: Attributes of the terminal event.
        features: Attribute -> the feature of which it says whether it was used.
        on_error: Attributes of failures that do not bring their own.
    """

    metadata: Keys = field(default_factory=dict)
    measurements: Keys = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    rates: tuple[Rate, ...] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    on_error: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def but(self, other: Table) -> Table:
        """Return this table with the entries of *other* instead of its own."""
        return replace(
            self,
            metadata={**self.metadata, **other.metadata},
            measurements={**self.measurements, **other.measurements},
            constants={**self.constants, **other.constants},
            rates=self.rates + other.rates,
            features={**self.features, **other.features},
            on_error={**self.on_error, **other.on_error},
        )

    def also(self, other: Table) -> Table:
        """Return this table with the attributes of *other* beside its own."""
        return replace(
            self.but(other),
            metadata=_beside(self.metadata, other.metadata),
            measurements=_beside(self.measurements, other.measurements),
        )


def _beside(first: Keys, second: Keys) -> Keys:
    return {
        key: first.get(key, NOTHING) + second.get(key, NOTHING)
        for key in {**first, **second}
    }


@dataclass(frozen=True, slots=True)
class Operation:
    """What a span of a prefix of ours is in OpenTelemetry.

    Attributes:
        name: ``gen_ai.operation.name``, where the metadata does not say another.
        subject: The metadata that the span's name ends with.
        is_inference: Whether a model is asked.
        label: The metadata that the span's name begins with, instead of *name*.
        is_server: Whether it answers somebody else: a request to the program.
    """

    name: str
    subject: str
    is_inference: bool = False
    label: str = "operation"
    is_server: bool = False


class UsageLine(NamedTuple):
    """How the log line about one call reads.

    Attributes:
        label: What it begins with.
        quantities: (measurement, word), in the order of the line.
    """

    label: str
    quantities: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One set of names.

    Attributes:
        name: What it is chosen by.
        spans: Prefix -> table of its spans.
        other_spans: Table of the spans of all other prefixes.
        points: Table of events that belong to a span.
        own_points: First two segments of such an event -> table, instead of *points*.
        logs: Prefix -> table of its log records.
        by_provider: Provider -> what its spans and records say differently.
        lines: Prefix -> log line; empty where log records are OpenTelemetry events.
    """

    name: str
    spans: Mapping[str, Table]
    other_spans: Table
    points: Table
    own_points: Mapping[tuple[str, ...], Table]
    logs: Mapping[str, Table]
    by_provider: Mapping[str, Table]
    lines: Mapping[str, UsageLine] = field(default_factory=dict)
