"""Variables and settings of others that mean one of ours.

A variable turns a reporter on or off only if that is what its name says. All others
fill options of a reporter that is on anyway, so that an OTLP endpoint in the
environment of every container makes nobody send anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from llmevents.config._given import FLAGS, Given, Layer, Path, parse_value


Reader: TypeAlias = Callable[[Sequence[object]], object]

OTEL: Path = ("reporters", "otel")


class Alias(NamedTuple):
    """One row of the table.

    Attributes:
        variables: In the environment; what is read are the values of all.
        setting: As a keyword or in a file.
        path: The setting that it stands for.
        read: From the values to the setting's.
        with_it: What else is set if the value is true.
        fills: Whether it turns nothing on.
        theirs: Whether OpenTelemetry reads the variable itself, if nothing else sets
            the option. It knows more: variables for each signal go before these.
    """

    variables: tuple[str, ...]
    setting: str | None
    path: Path
    read: Reader
    with_it: tuple[tuple[Path, object], ...] = ()
    fills: bool = True
    theirs: bool = False


def _same(values: Sequence[object]) -> object:
    return values[0]


def _base_url(values: Sequence[object]) -> object:
    """Return an endpoint without the path that is for log records only."""
    value = values[0]
    if not isinstance(value, str):
        return value
    return value.rstrip("/").removesuffix("/v1/logs")


def _headers(values: Sequence[object]) -> object:
    """Read headers as the OTLP exporter specification writes them.

    ``name=value,name=value`` with percent encoding, as in W3C Baggage
    (OpenTelemetry specification, "OpenTelemetry Protocol Exporter").
    """
    pairs = (pair.partition("=") for pair in str(values[0]).split(","))
    return {
        unquote(name).strip(): unquote(value).strip()
        for name, _, value in pairs
        if name.strip()
    }


def _version(values: Sequence[object]) -> object:
    """Return the attribute of the resource that OpenTelemetry has for it."""
    return {"service.version": str(values[0])}


def _backend(values: Sequence[object]) -> object:
    """Return the reporter that seed 4 calls a backend."""
    value = values[0]
    if value == "native":
        return []
    return "otel" if value == "opentelemetry" else value


def _tracking_file(values: Sequence[object]) -> object:
    """Return the file of calls; the names left out are seed 3's own."""
    folder, name = values
    return str(
        PurePath(
            str(folder or "./logs/llm_tracking"), str(name or "master_llm_calls.jsonl")
        )
    )


ALIASES: tuple[Alias, ...] = (
    Alias(
        ("OTEL_EXPORTER_OTLP_ENDPOINT",),
        None,
        (*OTEL, "endpoint"),
        _same,
        theirs=True,
    ),
    Alias(
        ("OTEL_EXPORTER_OTLP_HEADERS",),
        None,
        (*OTEL, "headers"),
        _headers,
        theirs=True,
    ),
    Alias(("OTEL_SERVICE_NAME",), None, (*OTEL, "service_name"), _same, theirs=True),
    Alias(("OTLP_ENDPOINT",), "otlp_endpoint", (*OTEL, "endpoint"), _base_url),
    Alias(("OTLP_SERVICE_NAME",), "otlp_service_name", (*OTEL, "service_name"), _same),
    Alias(
        ("OTLP_SERVICE_VERSION",),
        "otlp_service_version",
        (*OTEL, "resource"),
        _version,
    ),
    Alias(
        ("OTLP_ENABLED",),
        "otlp_enabled",
        OTEL,
        _same,
        with_it=(
            ((*OTEL, "logs"), True),
            ((*OTEL, "spans"), False),
            ((*OTEL, "metrics"), False),
            ((*OTEL, "profile"), "seed-compat"),
        ),
        fills=False,
    ),
    Alias(
        ("ENABLE_OPENTELEMETRY",),
        "enable_opentelemetry",
        OTEL,
        _same,
        with_it=(((*OTEL, "spans"), True),),
        fills=False,
    ),
    Alias(
        ("LLM_TRACKING_DIR", "LLM_TRACKING_FILE"),
        None,
        ("reporters", "ledger", "jsonl"),
        _tracking_file,
    ),
    Alias((), "telemetry_backend", ("reporters",), _backend, fills=False),
    Alias((), "enable_telemetry", ("enabled",), _same, fills=False),
    Alias((), "otel_endpoint", (*OTEL, "endpoint"), _same),
    Alias((), "log_level", ("logger", "level"), _same),
)
"""Where two rows mean one setting, the lower row wins."""

SETTINGS = {row.setting: row for row in ALIASES if row.setting is not None}

KILL_SWITCH = "OTEL_SDK_DISABLED"
"""Turns the reporter ``otel`` off, whoever has turned it on ("Environment Variable
Specification" of OpenTelemetry: the SDK is disabled for all signals)."""


def alias_layer(environ: Mapping[str, str]) -> Layer:
    """Return what the variables of others say. One that is empty is not set."""
    layer: Layer = []
    for row in ALIASES:
        texts = [environ.get(variable) or None for variable in row.variables]
        if any(texts):
            names = " and ".join(
                variable
                for variable, text in zip(row.variables, texts, strict=True)
                if text
            )
            # As text: a service may well be called 2024.
            text = texts[0] if row.read is _same else None
            layer.extend(_settings(row, texts, f"variable {names}", text))
    return layer


def setting_layer(name: str, given: Given) -> Layer:
    """Return what the setting *name* of somebody else means, given as *given*."""
    row = SETTINGS[name]
    source = given.source
    if not source.endswith(f" {name}"):
        source = f"{source}, {name}"
    return list(_settings(row, [given.value], source, given.text, given.template))


def kill_layer(environ: Mapping[str, str]) -> Layer:
    """Return what goes before everything else."""
    if FLAGS.get(environ.get(KILL_SWITCH, "").strip().lower()) is not True:
        return []
    return [(OTEL, Given(value=False, source=f"variable {KILL_SWITCH}"))]


def _settings(
    row: Alias,
    values: Sequence[object],
    source: str,
    text: str | None,
    template: str | None = None,
) -> Iterator[tuple[Path, Given]]:
    value = row.read(values)
    if row.read is _same and text is not None and isinstance(value, str):
        value = parse_value(text)
    given = Given(value, source, text, row.fills, row.theirs, template)
    yield row.path, given
    if given.flag():
        for path, also in row.with_it:
            yield path, Given(also, source, fills=True)
