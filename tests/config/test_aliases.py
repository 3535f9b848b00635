"""Variables and settings of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmevents import Bus
from llmevents.config import ConfigError, configure
from llmevents.config._aliases import ALIASES, KILL_SWITCH
from llmevents.config._prepare import Prepared, prepare


DOCS = Path(__file__).parent.parent.parent / "docs" / "configuration.md"


def _values(prepared: Prepared, name: str) -> dict[str, object]:
    """Return the settings of a reporter that somebody has made."""
    assert not prepared.problems
    return {
        key.removeprefix(f"reporters.{name}").removeprefix("."): setting.value
        for key, setting in prepared.settings.items()
        if f"{key}.".startswith(f"reporters.{name}.") and setting.source != "default"
    }


@pytest.fixture
def otel(acme: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A reporter ``otel`` that takes whatever it is given."""
    monkeypatch.setattr(acme, "Acme", acme.Anything)
    return acme


SEED_0 = {"logs": True, "spans": False, "metrics": False, "profile": "seed-compat"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({"OTLP_ENABLED": "true"}, {"": True, **SEED_0}, id="seed 0"),
        pytest.param({"OTLP_ENABLED": "True"}, {"": True, **SEED_0}, id="Python's"),
        pytest.param({"OTLP_ENABLED": "false"}, {"": False}, id="seed 0 off"),
        pytest.param(
            {
                "OTLP_ENABLED": "1",
                "OTLP_ENDPOINT": "http://localhost:4318/v1/logs",
                "OTLP_SERVICE_NAME": "2024",
                "OTLP_SERVICE_VERSION": "1.0.0",
            },
            {
                "": True,
                **SEED_0,
                "endpoint": "http://localhost:4318",
                "service_name": 2024,
                "resource": {"service.version": "1.0.0"},
            },
            id="all of seed 0",
        ),
        pytest.param(
            {"ENABLE_OPENTELEMETRY": "true"}, {"": True, "spans": True}, id="seed 1"
        ),
        pytest.param({"ENABLE_OPENTELEMETRY": "false"}, {"": False}, id="seed 1 off"),
        pytest.param(
            {"OTLP_ENABLED": "true", "ENABLE_OPENTELEMETRY": "true"},
            {"": True, **SEED_0, "spans": True},
            id="seeds 0 and 1",
        ),
        pytest.param({"OTLP_ENDPOINT": "http://x"}, {}, id="an endpoint alone"),
        pytest.param({"OTLP_ENABLED": ""}, {}, id="empty"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, {}, id="OTel's endpoint alone"
        ),
        pytest.param({"OTEL_SDK_DISABLED": "false"}, {}, id="not disabled"),
        pytest.param(
            {"OTEL_SDK_DISABLED": "true", "OTLP_ENABLED": "true"},
            {"": False},
            id="disabled",
        ),
        pytest.param(
            {"OTEL_SDK_DISABLED": "TRUE", "LLMEVENTS_REPORTERS__OTEL": "true"},
            {"": False},
            id="disabled over all",
        ),
        pytest.param(
            {"OTLP_ENABLED": "true", "LLMEVENTS_REPORTERS__OTEL__SPANS": "true"},
            {"": True, **SEED_0, "spans": True},
            id="our own variables go first",
        ),
        pytest.param(
            {"OTLP_ENABLED": "true", "LLMEVENTS_REPORTERS__OTEL": "false"},
            {"": False},
            id="our own variables turn off",
        ),
    ],
)
def test_variables_of_others_mean_settings(
    variables: dict[str, str],
    expected: dict[str, object],
    otel: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)

    assert _values(prepare({}), "otel") == expected


def test_an_endpoint_that_is_no_text_is_left_to_the_check(acme: ModuleType) -> None:
    prepared = prepare({"reporters": ["otel"], "otlp_endpoint": 3})
    assert prepared.settings["reporters.otel"].value is True
    assert prepared.problems == []  # the reporter at hand has no endpoint


def test_a_service_may_be_called_2024(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option takes text, and what looks like a number is text as well."""
    monkeypatch.setattr(acme, "Acme", acme.Service)
    monkeypatch.setenv("OTLP_SERVICE_NAME", "2024")

    with configure(bus=Bus(), reporters=["otel"]) as telemetry:
        reporter: Any = telemetry.reporters["otel"]

    assert reporter.service_name == "2024"


def test_opentelemetrys_own_variables_are_shown_and_left_to_it(
    otel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prefers the variables of one signal, which an option would override."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:pw@x:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b,api-key=c=d,,")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")

    prepared = prepare({"reporters": ["otel"]})
    reporter: Any = prepared.reporters["otel"]

    assert reporter.options == {}
    assert _values(prepared, "otel") == {
        "": True,
        "endpoint": "http://x:4317",
        "headers": {"x-team": "[REDACTED]", "api-key": "[REDACTED]"},
        "service_name": "shop",
    }
    assert any("port 4317" in note for note in prepared.notes)


def test_headers_are_read_as_the_specification_writes_them(
    otel: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b, api-key=c=d,,")

    prepared = prepare({"reporters": {"otel": {"headers": {"z": "1"}}}})
    reporter: Any = prepared.reporters["otel"]

    assert reporter.options["headers"] == {"x-team": "a b", "api-key": "c=d", "z": "1"}


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        pytest.param(
            {"LLM_TRACKING_DIR": "/logs"}, "/logs/master_llm_calls.jsonl", id="folder"
        ),
        pytest.param(
            {"LLM_TRACKING_FILE": "x.jsonl"}, "logs/llm_tracking/x.jsonl", id="file"
        ),
        pytest.param(
            {"LLM_TRACKING_DIR": "/a", "LLM_TRACKING_FILE": "b"}, "/a/b", id="both"
        ),
    ],
)
def test_seed_3s_variables_name_the_ledgers_file(
    variables: dict[str, str],
    path: str,
    acme: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)

    assert not prepare({}).reporters
    assert _values(prepare({"reporters": ["ledger"]}), "ledger")["jsonl"] == str(
        Path(path)
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(
            {"otlp_enabled": True, "otlp_endpoint": "http://x/v1/logs/"},
            {"": True, **SEED_0, "endpoint": "http://x"},
            id="seed 0",
        ),
        pytest.param(
            {"telemetry_backend": "opentelemetry", "otel_endpoint": "http://x"},
            {"": True, "endpoint": "http://x"},
            id="seed 4",
        ),
        pytest.param({"telemetry_backend": "native"}, {}, id="seed 4 by itself"),
        pytest.param({"enable_opentelemetry": False}, {"": False}, id="seed 1"),
    ],
)
@pytest.mark.parametrize("by", ["keyword", "file"])
def test_settings_of_the_seeds_mean_ours(
    by: str,
    settings: dict[str, object],
    expected: Mapping[str, object],
    otel: ModuleType,
) -> None:
    import json

    if by == "file":
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        Path("llmevents.toml").write_text("\n".join(lines))
        settings = {}

    assert _values(prepare(settings), "otel") == expected


def test_a_backend_of_ones_own_is_a_reporter(acme: ModuleType) -> None:
    assert list(prepare({"telemetry_backend": "acme"}).reporters) == ["acme"]
    with pytest.raises(ConfigError, match=r"nearest: .* got 'akme'"):
        configure(telemetry_backend="akme")


def test_telemetry_can_be_disabled_as_in_seed_4() -> None:
    prepared = prepare({"enable_telemetry": False, "metrics": "nonsense"})

    assert not prepared.enabled
    assert prepared.settings["enabled"].source == "keyword enable_telemetry"


def test_the_log_level_of_seed_0_is_the_loggers() -> None:
    prepared = prepare({"log_level": "DEBUG"})

    assert prepared.logger == ("debug", ["llm.**"])


def test_the_source_of_an_aliased_setting_in_a_file_is_named() -> None:
    Path("llmevents.toml").write_text("enable_telemetry = 'perhaps'")

    with pytest.raises(ConfigError, match=r"from llmevents.toml, enable_telemetry\)$"):
        configure()


@pytest.mark.parametrize("variable", ["OTLP_ENABLED", "ENABLE_OPENTELEMETRY"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "perhaps")

    with pytest.raises(ConfigError, match=rf"true, false .*from variable {variable}\)"):
        configure()


def test_an_alias_that_a_reporter_has_no_use_for_is_noted(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTLP_SERVICE_NAME", "shop")

    prepared = prepare({"reporters": {"otel": {"port": 3}}})

    assert prepared.notes == [
        "variable OTLP_SERVICE_NAME has no effect: 'otel' has no option 'service_name'"
    ]
    assert not prepared.problems
    assert prepare({}).notes == [
        "variable OTLP_SERVICE_NAME has no effect: reporter 'otel' is not on"
    ]


def test_every_alias_is_in_the_documentation() -> None:
    text = DOCS.read_text()
    for row in ALIASES:
        line = next(
            line
            for line in text.splitlines()
            if line.startswith("|")
            and all(f"`{name}`" in line for name in row.variables)
            and (row.setting is None or f"`{row.setting}`" in line)
        )
        assert f"`{'.'.join(row.path)}`" in line
    assert f"`{KILL_SWITCH}`" in text
