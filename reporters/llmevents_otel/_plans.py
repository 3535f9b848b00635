"""What the events of one prefix become, worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from operator import is_not
from typing import Final

from opentelemetry.trace import SpanKind

from llmevents_otel._attributes import (
    DROPPED,
    KEY_LIMIT,
    NAME_LIMIT,
    NUMBER_LIMIT,
    Value,
    as_text,
    clean_text,
    compile_rules,
    fewer,
    finish,
    translate,
)
from llmevents_otel._profiles import OPERATIONS
from llmevents_otel._tables import Profile, Table


OTHER_METHOD: Final = "_OTHER"
"""``http.request.method`` of a method that is not known (HTTP spans, v1.41.0)."""

FAILURES: Final = ("error", "timeout")
"""What the *status* of a span is that has failed, also where nothing was raised."""

MOST_PLANS: Final = 4_096
"""Calls of which what they have in common is remembered; others take longer."""

COMMON_KEYS: Final = ("provider", "operation", "model")
"""Metadata that many calls have in common: not worth working out for each."""


class Family:
    """How the spans or log records of one prefix and one provider are made.

    Attributes:
        kind: Of the spans.
        constants: Attributes that all of them have.
        subject: The metadata that their names end with; empty if they do not.
        metadata: What the metadata become.
        rest: The same without what a plan has in its constants.
    """

    __slots__ = (
        "_finishes",
        "_measurements",
        "_operation",
        "_prefix",
        "_table",
        "constants",
        "kind",
        "metadata",
        "rest",
        "subject",
    )

    def __init__(self, prefix: str, table: Table) -> None:
        operation = OPERATIONS.get(prefix)
        is_inference = operation is not None and operation.is_inference
        self._operation = operation
        self.subject = "" if operation is None else operation.subject
        self._prefix = clean_text(prefix, NAME_LIMIT)
        self._table = table
        self._finishes = bool(table.rates or table.features)
        self.kind = SpanKind.CLIENT if is_inference else SpanKind.INTERNAL
        is_server = operation is not None and operation.is_server
        if is_server:
            self.kind = SpanKind.SERVER
        self.metadata = compile_rules(table.metadata)
        self.rest = {**self.metadata, **dict.fromkeys(COMMON_KEYS, DROPPED)}
        self._measurements = compile_rules(table.measurements)
        self.constants: dict[str, Value] = dict(table.constants)
        if operation is not None and not is_server:
            self.constants["gen_ai.operation.name"] = operation.name

    def name(self, metadata: Mapping[str, object]) -> str:
        """Return the name of a span: ``"chat gpt-4o"``, or the prefix of others'.

        A request to the program is ``"GET /chats/{id}"``, or ``"GET"`` where no route
        is known (HTTP spans, v1.41.0, "Name").
        """
        operation = self._operation
        if operation is None:
            return self._prefix
        label = as_text(metadata.get(operation.label))
        if not label or (label == OTHER_METHOD and operation.is_server):
            label = operation.name
        subject = as_text(metadata.get(self.subject))
        return clean_text(f"{label} {subject}" if subject else label, NAME_LIMIT)

    def end(
        self,
        measurements: Mapping[str, object],
        metadata: Mapping[str, object],
        started: Mapping[str, object],
        *,
        failed: bool,
    ) -> dict[str, Value]:
        """Return the attributes that the end adds to those of the start.

        Args:
            measurements: Of the terminal event.
            metadata: Of the terminal event.
            started: Metadata of the start event; what is still the same is left out.
            failed: Whether the terminal event is an exception.
        """
        attributes: dict[str, Value] = dict(self._table.on_error) if failed else {}
        if len(metadata) > KEY_LIMIT:
            metadata = fewer(self.metadata, metadata, KEY_LIMIT)
        if len(measurements) > NUMBER_LIMIT:
            measurements = fewer(self._measurements, measurements, NUMBER_LIMIT)
        # All in C: most of it has not changed.
        same = map(started.get, metadata)
        changed = compress(metadata.items(), map(is_not, same, metadata.values()))
        translate(self.metadata, changed, attributes)
        translate(self._measurements, measurements.items(), attributes)
        if not failed and "http_status" in metadata:
            _say_why(metadata, attributes)
        if self._finishes:
            finish(self._table, measurements, metadata, attributes)
        return attributes


def _say_why(metadata: Mapping[str, object], into: dict[str, Value]) -> None:
    """Add the error of an answer that is one: its code (HTTP spans, ``error.type``)."""
    if metadata.get("status") in FAILURES:
        into.setdefault("error.type", as_text(metadata["http_status"]) or "_OTHER")


class Plan:
    """What the calls of one model, say, have in common.

    Attributes:
        family: How the rest is made.
        name: Of the span; empty if it depends on more than that.
    """

    __slots__ = ("_constants", "family", "name")

    def __init__(self, family: Family, common: Mapping[str, object]) -> None:
        self.family = family
        is_known = family.subject in ("", "model")
        self.name = family.name(common) if is_known else ""
        self._constants = dict(family.constants)
        translate(family.metadata, common.items(), self._constants)

    def begin(self, metadata: Mapping[str, object]) -> dict[str, Value]:
        """Return the attributes that are known at the start."""
        attributes = self._constants.copy()
        rules = self.family.rest
        if len(metadata) > KEY_LIMIT:
            metadata = fewer(rules, metadata, KEY_LIMIT)
        translate(rules, metadata.items(), attributes)
        return attributes


class Plans:
    """The plans of one profile, made as they are needed."""

    __slots__ = ("_by_provider", "_default", "_families", "_plans", "_tables")

    def __init__(self, profile: Profile, tables: Mapping[str, Table]) -> None:
        self._by_provider = profile.by_provider
        self._tables = tables
        self._default = profile.other_spans
        self._families: dict[tuple[str, str], Family] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}

    def find(self, event: tuple[str, ...], metadata: Mapping[str, object]) -> Plan:
        """Return the plan for an event of a span, any of them."""
        get = metadata.get
        key = (event, get("provider"), get("operation"), get("model"))
        try:
            return self._plans[key]
        except Exception:  # noqa: BLE001, S110  # a foreign value may have any hash
            pass
        plan = self._make(".".join(event[:-1]), metadata)
        if len(self._plans) < MOST_PLANS and all(
            value is None or type(value) is str for value in key[1:]
        ):
            self._plans[key] = plan
        return plan

    def _make(self, prefix: str, metadata: Mapping[str, object]) -> Plan:
        common = {key: metadata[key] for key in COMMON_KEYS if key in metadata}
        provider = common.get("provider")
        if type(provider) is not str or provider not in self._by_provider:
            provider = ""
        family = self._families.get((prefix, provider))
        if family is None:
            family = Family(prefix, self._table(prefix, provider))
            if len(self._families) < MOST_PLANS:
                self._families[prefix, provider] = family
        return Plan(family, common)

    def _table(self, prefix: str, provider: str) -> Table:
        table = self._tables.get(prefix, self._default)
        if not provider or prefix not in self._tables:
            return table
        return table.but(self._by_provider[provider])
