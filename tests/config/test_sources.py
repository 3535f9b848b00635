"""Where settings come from, which of them wins, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmevents import Bus, LLMEventsError, OptionError
from llmevents.config import ConfigError, configure, get_config
from llmevents.config._prepare import prepare


PORTS = {"project": 11, "file": 12, "alias": 13, "variable": 14, "keyword": 15}


def _options(name: str = "acme", **keywords: object) -> Mapping[str, Any]:
    """Return the options that a reporter is made with."""
    with configure(bus=Bus(), logger=False, **keywords) as telemetry:  # type: ignore[arg-type]  # any that there are
        reporter: Any = telemetry.reporters[name]
        return dict(reporter.options)


def _refused(**keywords: object) -> str:
    with pytest.raises(ConfigError, match="expected") as caught:
        configure(bus=Bus(), **keywords)  # type: ignore[arg-type]  # what is being tested
    return str(caught.value)


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param(chosen, id="+".join(chosen))
        for size in range(1, 5)
        for chosen in itertools.combinations(
            ("project", "file", "variable", "keyword"), size
        )
    ],
)
def test_the_last_source_that_has_a_setting_wins(
    sources: tuple[str, ...], acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    keywords: dict[str, Any] = {}
    for source in sources:
        port = PORTS[source]
        if source == "project":
            text = f"[tool.llmevents.reporters.acme]\nport = {port}\nname = 'project'"
            Path("pyproject.toml").write_text(text)
        elif source == "file":
            Path("llmevents.toml").write_text(f"[reporters.acme]\nport = {port}\n")
        elif source == "variable":
            monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME__PORT", str(port))
        else:
            keywords["reporters"] = {"acme": {"port": port}}

    with configure(bus=Bus(), logger=False, **keywords) as telemetry:
        reporter: Any = telemetry.reporters["acme"]
        setting = get_config()["reporters.acme.port"]

    assert reporter.options["port"] == setting.value == PORTS[sources[-1]]
    # ./llmevents.toml is read instead of pyproject.toml, not over it.
    named = "project" in sources and "file" not in sources
    assert reporter.options["name"] == ("project" if named else "acme")
    assert setting.source == {
        "project": "pyproject.toml [tool.llmevents]",
        "file": "llmevents.toml",
        "variable": "variable LLMEVENTS_REPORTERS__ACME__PORT",
        "keyword": "keyword reporters",
    }.get(sources[-1])


@pytest.mark.parametrize("by", ["variable", "keyword"])
def test_another_file_can_be_named(
    by: str, acme: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("llmevents.toml").write_text("reporters = ['nothing']")
    named = tmp_path / "other.toml"
    named.write_text("[reporters.acme]\nport = 5\n")
    if by == "variable":
        monkeypatch.setenv("LLMEVENTS_CONFIG", str(named))
        assert _options()["port"] == 5
    else:
        monkeypatch.setenv("LLMEVENTS_CONFIG", "nowhere.toml")
        assert _options(config=named)["port"] == 5


def test_options_are_merged_key_by_key(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("llmevents.toml").write_text(
        "[reporters.acme]\nport = 5\nname = 'file'\nheaders = {a = '1', b = '1'}\n"
    )
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME__NAME", "variable")
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME__HEADERS__B", "'2'")

    options = _options(reporters={"acme": {"headers": {"c": "3"}}})

    assert options["port"] == 5
    assert options["name"] == "variable"
    assert options["headers"] == {"a": "1", "b": "2", "c": "3"}


@pytest.mark.parametrize(
    ("file", "variables", "keyword", "is_on"),
    [
        pytest.param("acme = true", {}, None, True, id="true in a file"),
        pytest.param("acme = {}", {}, None, True, id="an empty table"),
        pytest.param("acme = false", {}, None, False, id="false in a file"),
        pytest.param("acme = {port = 3}", {}, {"acme": False}, False, id="off last"),
        pytest.param("acme = false", {}, {"acme": True}, True, id="on last"),
        pytest.param("acme = false", {}, {"acme": {}}, True, id="on by a table"),
        pytest.param("acme = true", {"": "false"}, None, False, id="off by name"),
        pytest.param("acme = true", {"": "Off"}, None, False, id="a word for false"),
        pytest.param("", {"": "1"}, None, True, id="a word for true"),
        pytest.param(
            "", {"": "false", "__PORT": "3"}, None, False, id="outright beats options"
        ),
        pytest.param("acme = true", {}, False, False, id="all off"),
        pytest.param("", {}, ["acme"], True, id="a list of names"),
        pytest.param("acme = true", {}, {}, True, id="nothing said"),
        pytest.param("acme = true", {"": ""}, None, True, id="an empty variable"),
    ],
)
def test_the_last_word_turns_a_reporter_on_or_off(
    file: str,
    variables: dict[str, str],
    keyword: dict[str, Any] | None,
    *,
    is_on: bool,
    acme: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("llmevents.toml").write_text(f"[reporters]\n{file}\n")
    for name, text in variables.items():
        monkeypatch.setenv(f"LLMEVENTS_REPORTERS__ACME{name}", text)

    with configure(bus=Bus(), reporters=keyword) as telemetry:
        assert ("acme" in telemetry.reporters) is is_on


def test_turning_off_and_on_again_keeps_options(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("llmevents.toml").write_text("[reporters.acme]\nport = 5\n")
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME", "false")

    assert _options(reporters={"acme": True})["port"] == 5


@pytest.mark.parametrize(
    ("variable", "text", "option", "value"),
    [
        pytest.param("PORT", "7", "port", 7, id="integer"),
        pytest.param("RATIO", "0.5", "ratio", 0.5, id="float"),
        pytest.param("RATIO", "2", "ratio", 2, id="integer for a float"),
        pytest.param("LIVE", "true", "live", True, id="boolean"),
        pytest.param("LIVE", "YES", "live", True, id="word"),
        pytest.param("LIVE", "0", "live", False, id="digit for a boolean"),
        pytest.param("NAME", "plain", "name", "plain", id="text"),
        pytest.param("NAME", "2024", "name", "2024", id="text of digits"),
        pytest.param("NAME", "true", "name", "true", id="text of a boolean"),
        pytest.param("NAME", "1\nport = 3", "name", "1\nport = 3", id="no second key"),
        pytest.param("NAME", "[" * 20_000, "name", "[" * 20_000, id="deep"),
        pytest.param("MODE", "safe", "mode", "safe", id="literal"),
        pytest.param("TAGS", '["a", "b"]', "tags", ["a", "b"], id="list"),
        pytest.param("HEADERS", '{a = "b"}', "headers", {"a": "b"}, id="table"),
        pytest.param("PATH", "/var/x", "path", "/var/x", id="path"),
        pytest.param("PRECISE", "1.5", "precise", 1.5, id="not checkable"),
    ],
)
def test_a_variable_is_what_its_option_takes(
    variable: str,
    text: str,
    option: str,
    value: object,
    *,
    acme: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"LLMEVENTS_REPORTERS__ACME__{variable}", text)

    assert _options()[option] == value


def test_a_whole_table_in_a_variable_yields_to_a_variable_for_one_option(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMEVENTS_REPORTERS", "{acme = {port = 1, name = 'a'}}")
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME", "{port = 2, mode = 'safe'}")
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME__PORT", "3")

    options = _options()

    assert (options["port"], options["name"], options["mode"]) == (3, "a", "safe")


def test_a_variable_can_name_a_reporter_with_a_hyphen(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME_TWO__PORT", "3")

    assert _options("acme-two")["port"] == 3


def test_names_may_be_separated_by_commas(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMEVENTS_REPORTERS", "acme, acme_two")
    monkeypatch.setenv("LLMEVENTS_METRICS", "basic,cost")

    with configure(bus=Bus()) as telemetry:
        assert list(telemetry.reporters) == ["acme", "acme-two"]
        assert len(telemetry.metrics.definitions) == 8


def test_a_file_can_leave_values_to_variables(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no secret has to be in a file."""
    monkeypatch.setenv("ACME_PORT", "7")
    monkeypatch.setenv("ACME_KEY", "correct horse")
    Path("llmevents.toml").write_text(
        "[reporters.acme]\nport = '${ACME_PORT}'\nname = 'key ${ACME_KEY}'\n"
        "headers = {x = '${ACME_KEY}'}\ntags = ['$${ACME_KEY}', '${ACME_KEY}']\n"
    )

    with configure(bus=Bus()) as telemetry:
        reporter: Any = telemetry.reporters["acme"]
        settings = get_config()

    assert reporter.options["port"] == 7
    assert reporter.options["name"] == "key correct horse"
    assert reporter.options["headers"] == {"x": "correct horse"}
    assert reporter.options["tags"] == ["${ACME_KEY}", "correct horse"]
    assert settings["reporters.acme.name"].value == "key ${ACME_KEY}"
    assert "correct horse" not in str(settings)


def test_the_environments_log_level_counts_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of all programs have a LOG_LEVEL; that is not a wish for our logger."""
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    assert prepare({}).logger == ("info", ["llm.**"])

    Path("llmevents.toml").write_text("logger = '${LOG_LEVEL}'\n")
    assert prepare({}).logger == ("warning", ["llm.**"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("x = ", r"a TOML file \(Invalid value", id="malformed"),
        pytest.param(b"\xff", "a TOML file ('utf-8' codec", id="no UTF-8"),
        pytest.param(f"x = {'[' * 20_000}", "nested too deeply", id="deep"),
        pytest.param(
            "nonsense = 1", "the setting to be 'budget_store' or", id="unknown"
        ),
        pytest.param("max_serie = 1", "(nearest: 'max_series')", id="nearest"),
        pytest.param("reporters.acme = '${NOT_SET}'", "(NOT_SET is not)", id="not set"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(text: str | bytes, complaint: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    Path("llmevents.toml").write_bytes(data)

    message = _refused()

    assert complaint.replace("\\", "") in message
    assert "llmevents.toml" in message


@pytest.mark.parametrize("text", ["tool = 1", "tool.llmevents = 1"])
def test_a_project_file_of_another_shape_is_refused(text: str) -> None:
    Path("pyproject.toml").write_text(text)

    assert "to be a table, got 1 (from pyproject.toml" in _refused()


def test_a_project_file_without_our_table_says_nothing() -> None:
    Path("pyproject.toml").write_text("[project]\nname = 'x'\n")

    assert not prepare({}).problems


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMEVENTS_CONFIG", "nowhere.toml")

    assert _refused() == (
        "expected config to be a file that can be read (No such file or directory), "
        "got 'nowhere.toml' (from variable LLMEVENTS_CONFIG)"
    )
    assert "configure(config=...)" in _refused(config="elsewhere.toml")
    assert "a TOML file" in _refused(config="null\0byte")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        pytest.param(
            {"reporters": {"akme": {}}},
            "reporters.akme to be .*nearest: 'acme'.*got 'akme' .from keyword reporters",
            id="unknown reporter",
        ),
        pytest.param(
            {"reporters": {"acme": {"prot": 1}}},
            "option of reporter 'acme' to be .*nearest: 'port'.*got 'prot'",
            id="unknown option",
        ),
        pytest.param(
            {"reporters": {"acme": {"port": "x"}}},
            r"reporters\.acme\.port to be an integer, got 'x' .from keyword reporters",
            id="wrong type",
        ),
        pytest.param(
            {"reporters": {"acme": {"port": True}}}, "an integer, got True", id="flag"
        ),
        pytest.param(
            {"reporters": {"acme": {"mode": "slow"}}},
            "'fast' or 'safe', got 'slow'",
            id="literal",
        ),
        pytest.param(
            {"reporters": {"acme": {"tags": [1]}}},
            "a list, each item text, got ",
            id="list",
        ),
        pytest.param(
            {"reporters": {"acme": {"tags": "a"}}}, "a list, each item", id="text"
        ),
        pytest.param(
            {"reporters": {"acme": {"headers": {"a": 1}}}},
            r"a table, each value text, got .*REDACTED",
            id="table",
        ),
        pytest.param(
            {"reporters": {"acme": {"path": 1}}}, "text or text .a path.", id="path"
        ),
        pytest.param(
            {"reporters": {"acme": {"ratio": "x"}}}, "a number, got 'x'", id="ratio"
        ),
        pytest.param(
            {"reporters": {"acme": {"event": "x"}}},
            r"a Event, which only configure\(reporters=\{...\}\) in Python can give",
            id="object",
        ),
        pytest.param(
            {"reporters": {"acme": {"port": -1}}},
            r"reporters\.acme\.port to be a port, got -1 .from keyword reporters",
            id="refused by the reporter",
        ),
        pytest.param(
            {"reporters": {"required": {}}},
            r"reporters\.required\.address to be given, for it has no default",
            id="missing option",
        ),
        pytest.param(
            {"reporters": {"acme": 3}},
            "reporters.acme to be true, false or a table of options, got 3",
            id="no toggle",
        ),
        pytest.param(
            {"reporters": 3}, "a table by name, a list of names or false", id="no table"
        ),
        pytest.param(
            {"reporters": [3]}, "a table by name, a list of names or false", id="number"
        ),
        pytest.param({"metrics": "bsic"}, "nearest: 'basic'.*got 'bsic'", id="preset"),
        pytest.param({"metrics": 3}, "a preset, a list of presets", id="metrics"),
        pytest.param({"metrics": [3]}, "a preset or a metric definition", id="metric"),
        pytest.param({"max_series": 0}, "an integer of 1 or more, got 0", id="limit"),
        pytest.param({"max_series": True}, "1 or more, got True", id="limit as flag"),
        pytest.param(
            {"shutdown_timeout": -1}, "a finite number of seconds", id="timeout"
        ),
        pytest.param(
            {"enabled": "perhaps"}, "enabled to be true or false", id="enabled"
        ),
        pytest.param(
            {"instrument": ["opneai"]}, "nearest: 'openai'.*got 'opneai'", id="SDK"
        ),
        pytest.param({"instrument": 3}, "true, false or a list of SDKs", id="SDKs"),
        pytest.param({"logger": "loud"}, "logger.level to be 'debug'", id="level"),
        pytest.param({"logger": {"level": 17}}, "got 17", id="number of a level"),
        pytest.param(
            {"logger": {"lvl": "info"}}, "option of logger to be .*'level'", id="logger"
        ),
        pytest.param(
            {"reporters": {"exploding": {"x": 1}}},
            "left out, for there are none, got 'x'",
            id="no options",
        ),
        pytest.param({"logger": {"events": []}}, "one name or pattern", id="no events"),
        pytest.param(
            {"logger": {"events": ["a..b"]}}, "patterns of events", id="pattern"
        ),
        pytest.param({"logger": {"events": 3}}, "a list of names", id="events"),
        pytest.param(
            {"nonsense": 3}, "the setting to be .*got 'nonsense'", id="setting"
        ),
    ],
)
def test_a_mistake_is_answered_with_value_source_and_remedy(
    keywords: dict[str, Any], message: str, acme: ModuleType
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        configure(bus=Bus(), **keywords)

    assert isinstance(caught.value, (OptionError, LLMEventsError))
    assert caught.value.source == f"keyword {next(iter(keywords))}"
    assert acme.calls == []


@pytest.mark.parametrize(
    "variable",
    [
        "LLMEVENTS_FOO", "LLMEVENTS_METRICS__X", "LLMEVENTS___X", "LLMEVENTS_",
        "LLMEVENTS_LOGGER__X__Y", "LLMEVENTS_REPORTERS__ACME__PROT",
    ],
)  # fmt: skip
def test_a_variable_that_means_nothing_is_named(
    variable: str, acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")

    assert f"(from variable {variable})" in _refused()


def test_a_missing_module_is_answered_with_the_pip_command(
    acme: ModuleType,
) -> None:
    with pytest.raises(
        ModuleNotFoundError, match=r'pip install "acme-reporters\[needy\]"'
    ):
        configure(bus=Bus(), reporters=["needy"])


def test_a_reporter_that_takes_anything_gets_anything(acme: ModuleType) -> None:
    given = {"whatever": 1, "else": {"a": [1]}}

    assert _options("anything", reporters={"anything": given}) == given


def test_every_option_of_a_reporter_can_be_given_in_python(acme: ModuleType) -> None:
    import threading

    event = threading.Event()

    assert _options(reporters={"acme": {"event": event}})["event"] is event


def test_what_a_reporter_raises_itself_comes_out(acme: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="is broken"):
        configure(bus=Bus(), reporters=["exploding"])


SECRETS = ["hunter2", "correct-horse", "sk-proj-abcdefgh12345678ABCDEFGH"]


def test_below_python_3_11_toml_is_read_by_tomli(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "tomllib", None)
    tomli = SimpleNamespace(loads=lambda text: {"max_series": 7})
    monkeypatch.setitem(sys.modules, "tomli", tomli)
    Path("llmevents.toml").write_text("")

    assert prepare({}).settings["max_series"].value == 7


def test_no_secret_is_shown(acme: ModuleType) -> None:
    reporters: dict[str, dict[str, object]] = {
        "acme": {
            "headers": {"x-team": SECRETS[1]},
            "token": SECRETS[1],
            "url": f"postgresql+psycopg://me:{SECRETS[0]}@db/x?password={SECRETS[0]}",
            "name": f"key {SECRETS[2]}",
        },
        "anything": {
            "dsn": f"host=db password={SECRETS[0]}",
            "nested": {"api_key": SECRETS[1], "header_list": [SECRETS[1]]},
            "object": object(),
            "deep": [[[[[[[[[[SECRETS[1]]]]]]]]]]],
        },
    }
    with configure(bus=Bus(), reporters=reporters) as telemetry:
        shown = f"{get_config()} {telemetry!r} {telemetry.status()}"
    assert "[REDACTED]" in shown
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        pytest.param("token", "too short", id="refused by the reporter"),
        pytest.param("token", 12345678, id="wrong type"),
        pytest.param("headers", {"x-key": 12345678}, id="in a header"),
        pytest.param("headers", [12345678], id="headers in a list"),
    ],
)
def test_no_secret_is_in_an_error(option: str, value: object, acme: ModuleType) -> None:
    with pytest.raises(ConfigError, match="REDACTED") as caught:
        configure(bus=Bus(), reporters={"acme": {option: value}})

    text = f"{caught.value} {vars(caught.value)} {caught.value.__cause__}"
    assert "12345678" not in text
    assert "got 'too short'" not in text


def test_what_a_variable_holds_is_in_no_error(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_PORT", "-4711")
    Path("llmevents.toml").write_text("[reporters.acme]\nport = '${ACME_PORT}'\n")

    assert "got '${ACME_PORT}' (from llmevents.toml)" in _refused()


def test_all_problems_are_found_at_once(acme: ModuleType) -> None:
    prepared = prepare({"max_series": 0, "reporters": ["akme", "acme"], "x": 1})

    assert len(prepared.problems) == 3
    assert list(prepared.reporters) == ["acme"]


def test_the_configuration_can_be_looked_at_before(
    acme: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME__PORT", "9")

    settings = get_config()

    assert settings["reporters.acme"].value is True
    assert settings["reporters.acme.port"].value == 9
    assert settings["reporters.acme.mode"].source == "default"
    monkeypatch.setenv("LLMEVENTS_REPORTERS__ACME__PORT", "x")
    with pytest.raises(ConfigError, match="an integer, got 'x'"):
        get_config()


def test_an_unknown_name_of_the_module_is_an_attribute_error() -> None:
    import llmevents.config

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = llmevents.config.nothing
    assert all(hasattr(llmevents.config, name) for name in llmevents.config.__all__)
