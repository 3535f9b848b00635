from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmevents import Bus, ConfigError, configure
from llmevents.cli._app import app
from llmevents.llm import Usage
from llmevents.llm.pricing import default_pricer


OWN = """
[prices]
genai_prices = false
[prices.models."acme/tiny-1"]
input = 0.5
output = 1.5
[prices.models."acme/scan"]
per_page = 0.01
[[prices.models."acme/dated"]]
input = 2
until = 2025-06-10
[[prices.models."acme/dated"]]
input = 1
from = 2025-06-10
"""


@pytest.fixture(autouse=True)
def _own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory with prices: without genai-prices each run is quick."""
    for name in list(os.environ):
        if name.startswith("LLMEVENTS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llmevents.toml").write_text(OWN)


def _run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["prices", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_call_is_priced() -> None:
    assert _run("gpt-4o", "--input", "1000", "--output", "500") == (
        0,
        "$0.0075  (builtin, 2026-11-21)\n",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        pytest.param(("tiny-1", "--input", "1000"), "$0.0005  (user)\n", id="own"),
        pytest.param(("acme/scan", "--pages", "5"), "$0.05  (user)\n", id="pages"),
        pytest.param(
            ("whisper-1", "--seconds", "90.5"),
            "$0.00905  (builtin, 2026-11-21)\n",
            id="seconds",
        ),
        pytest.param(
            ("dated", "--input", "1000000", "--on", "2025-06-09"),
            "$2  (user)\n",
            id="then",
        ),
        pytest.param(
            ("dated", "--input", "1000000", "--on", "2025-06-10T00:30:00+00:00"),
            "$1  (user, 2025-06-10)\n",
            id="later",
        ),
        pytest.param(("model", "tiny-1", "--input", "0"), "$0  (user)\n", id="by-name"),
    ],
)
def test_anything_that_has_a_unit_is_priced(
    arguments: tuple[str, ...], printed: str
) -> None:
    assert _run(*arguments) == (0, printed, "")


def test_a_price_is_printed_as_json() -> None:
    status, output, _ = _run("acme/scan", "--pages", "1", "--json")
    assert status == 0
    assert json.loads(output) == {
        "model": "acme/scan",
        "cost_nano_usd": 10_000_000,
        "source": "user",
        "price_date": None,
    }


def test_a_model_without_a_price_is_status_1() -> None:
    status, output, errors = _run("unheard-of", "--input", "5")
    assert (status, output) == (1, "")
    assert errors.startswith("llmevents: no price for 'unheard-of' and what was used")
    assert '[prices.models."unheard-of"] to llmevents.toml' in errors


def test_a_call_that_used_nothing_is_a_usage_error() -> None:
    status, _, errors = _run("gpt-4o")
    assert status == 2
    assert "such as --input 1000" in errors


@pytest.mark.parametrize("length", ["nan", "inf"])
def test_a_length_that_is_no_number_of_seconds_is_a_usage_error(length: str) -> None:
    status, _, errors = _run("whisper-1", "--seconds", length)
    assert status == 2
    assert "--seconds" in errors


def test_a_malformed_day_is_a_usage_error() -> None:
    status, _, errors = _run("gpt-4o", "--input", "1", "--on", "today")
    assert status == 2
    assert "no ISO day" in errors


def test_prices_are_listed_your_own_first() -> None:
    status, output, _ = _run("list")
    assert status == 0
    lines = output.splitlines()
    assert lines[0] == "acme/dated  input 2/1M  (user)"
    assert "azure-di/prebuilt-read  page 0.0015  (builtin 2026-11-21)" in lines


def test_some_prices_are_listed_as_json() -> None:
    status, output, _ = _run("list", "prebuilt", "--json")
    assert status == 0
    assert {line["provider"] for line in json.loads(output)} == {"azure-di"}
    assert "learn" in output or "docs.litellm.ai" in output


def test_a_list_of_nothing_is_status_1() -> None:
    assert _run("list", "unheard-of") == (
        1,
        "",
        "llmevents: no price for 'unheard-of'\n",
    )


def test_good_prices_pass_the_check(tmp_path: Path) -> None:
    ledger = tmp_path / "calls.jsonl"
    records = [
        {"provider": "openai", "model": "gpt-4o"},
        {"api_provider": "gemini", "model": "gemini-2.0-flash-exp"},
        {"operation": "tool"},
        5,
    ]
    ledger.write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    assert _run("check", "gpt-4o", "acme/scan", "--ledger", str(ledger)) == (
        0,
        "llmevents: every price can be used, and no model lacks one\n",
        "",
    )


def test_prices_alone_can_be_checked() -> None:
    assert _run("check")[0] == 0


def test_the_check_names_models_without_a_price(tmp_path: Path) -> None:
    ledger = tmp_path / "calls.jsonl"
    ledger.write_text('{"provider": "acme", "model": "lost"}\n' * 3)
    status, _, errors = _run("check", "unheard-of", "--ledger", str(ledger))
    assert status == 1
    assert errors.splitlines() == [
        "llmevents: no price for 'unheard-of'",
        "llmevents: no price for 'lost' at acme",
    ]


def test_the_check_names_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[prices]\nbuilt_in = "no"\nlitellm_prices = "missing.json"\n'
        "[prices.models]\na = {inptu = 1}\nb = {input = 1}\nc = {input = -1}\n"
    )
    status, _, errors = _run("check", "--config", str(file))
    assert status == 1
    lines = errors.splitlines()
    assert len(lines) == 4
    assert "do you mean 'input'" in lines[0]
    assert "price of 'c'" in lines[1]
    assert "prices.built_in" in lines[2]
    assert "missing.json" in lines[3]


def test_prices_are_found_in_pyproject(tmp_path: Path) -> None:
    (tmp_path / "llmevents.toml").unlink()
    (tmp_path / "pyproject.toml").write_text(
        OWN.replace("[prices", "[tool.llmevents.prices")
    )
    assert _run("tiny-1", "--input", "2000") == (0, "$0.001  (user)\n", "")


def _words(text: str) -> str:
    """Return *text* without the frame and the line breaks that a terminal gets."""
    return "".join(text.replace("│", "").split())


def _complaint_of_configure() -> str:
    """Return what a program here would be told."""
    with pytest.raises(ConfigError, match="expected") as refused:
        configure(bus=Bus(), logger=False)
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param("[prices", "config to be a TOML file (", id="no-toml"),
        pytest.param("prices = 5", "prices to be a table with models", id="number"),
        pytest.param('[prices]\nmodels = "x"', "models to be a table", id="no-table"),
        pytest.param("[prices]\nmodls = {}", "without the key 'modls'", id="key"),
        pytest.param(
            "[prices.models.m-1.5]\ninput = 1", "has quotes around it", id="dotted-name"
        ),
        pytest.param("[pricse]\nbuilt_in = true", "nearest: 'prices'", id="setting"),
        pytest.param(
            '[prices]\nlitellm_prices = "${LIST}"', "(LIST is not)", id="variable"
        ),
        pytest.param(
            '[prices]\nlitellm_prices = "missing.json"', "missing.json", id="list"
        ),
    ],
)
@pytest.mark.parametrize(
    "arguments", [("gpt-4o", "--input", "1"), ("list",)], ids=["model", "list"]
)
def test_what_configure_refuses_is_a_usage_error_with_its_message(
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    content: str,
    complaint: str,
) -> None:
    monkeypatch.delenv("LIST", raising=False)
    Path("llmevents.toml").write_text(content)
    message = _complaint_of_configure()
    assert complaint in message
    status, output, errors = _run(*arguments)
    assert (status, output) == (2, "")
    assert _words(message) in _words(errors)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        pytest.param("LLMEVENTS_PRICES", "5", id="prices"),
        pytest.param("LLMEVENTS_PRICES__BUILT_IN", "3", id="option"),
        pytest.param("LLMEVENTS_PRICSE__BUILT_IN", "false", id="name"),
        pytest.param("LLMEVENTS_CONFIG", "nowhere.toml", id="file"),
    ],
)
def test_a_variable_that_configure_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    message = _complaint_of_configure()
    assert message.endswith(f"(from variable {variable})")
    status, _, errors = _run("gpt-4o", "--input", "1")
    assert status == 2
    assert _words(message) in _words(errors)
    status, _, errors = _run("check")
    assert status == 1
    assert errors == f"llmevents: {message}\n"


def test_a_file_in_pyproject_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Brackets in the message are no markup."""
    (tmp_path / "llmevents.toml").unlink()
    (tmp_path / "pyproject.toml").write_text("[tool.llmevents]\nprices = 5\n")
    status, _, errors = _run("gpt-4o", "--input", "1")
    assert status == 2
    assert _words("(from pyproject.toml [tool.llmevents])") in _words(errors)


DEAR = OWN.replace("input = 0.5", 'input = "${DEAR}"')
MORE = '{"acme/tiny-1" = {output = 7}, "acme/new" = {input = 4}}'


@pytest.mark.parametrize(
    ("variables", "model", "dollars"),
    [
        pytest.param({}, "acme/tiny-1", 0.5, id="file"),
        pytest.param({"LLMEVENTS_CONFIG": "dear.toml"}, "acme/tiny-1", 3, id="named"),
        pytest.param({"LLMEVENTS_PRICES__MODELS": MORE}, "acme/new", 4, id="added"),
        pytest.param({"LLMEVENTS_PRICES__MODELS": MORE}, "acme/tiny-1", 0.5, id="kept"),
        pytest.param({}, "gpt-4o", 2.5, id="built-in"),
        pytest.param(
            {"LLMEVENTS_PRICES__BUILT_IN": "false"}, "gpt-4o", None, id="turned-off"
        ),
        pytest.param(
            {
                "LLMEVENTS_CONFIG": "dear.toml",
                "LLMEVENTS_PRICES__MODELS": MORE.replace("output", "input"),
            },
            "acme/tiny-1",
            7,
            id="overridden",
        ),
    ],
)
def test_the_command_has_the_prices_of_a_running_program(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    model: str,
    dollars: float | None,
) -> None:
    monkeypatch.setenv("DEAR", "3")
    Path("dear.toml").write_text(DEAR)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    million = Usage(input_tokens=1_000_000)
    with configure(bus=Bus(), logger=False, metrics=False):
        running = default_pricer().price(million, provider=None, model=model)
    status, output, _ = _run(model, "--input", "1000000", "--json")
    if dollars is None:
        assert (status, running) == (1, None)
        return
    assert running is not None
    assert json.loads(output) == {"model": model, **running._asdict()}
    assert running.cost_nano_usd == dollars * 10**9


def test_the_option_goes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dear.toml").write_text(DEAR)
    monkeypatch.setenv("DEAR", "3")
    monkeypatch.setenv("LLMEVENTS_CONFIG", "nowhere.toml")
    _, output, _ = _run("tiny-1", "--input", "1000000", "--config", "dear.toml")
    assert output == "$3  (user)\n"


def test_prices_need_nothing_that_other_settings_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reporters may lack their libraries, and telemetry may be turned off."""
    Path("llmevents.toml").write_text(f"instrument = ['unheard-of']\n{OWN}")
    monkeypatch.setenv("LLMEVENTS_DISABLED", "1")
    monkeypatch.setenv("LLMEVENTS_REPORTERS", "unheard-of")
    assert _run("tiny-1", "--input", "2000") == (0, "$0.001  (user)\n", "")


def test_a_file_without_prices_changes_nothing() -> None:
    Path("mine.toml").write_text('metrics = "cost"\n')
    arguments = ("azure-di/prebuilt-read", "--pages", "2", "--config", "mine.toml")
    assert _run(*arguments) == (0, "$0.003  (builtin, 2026-11-21)\n", "")
    assert _run("list", "acme", "--config", "mine.toml")[:2] == (1, "")


def test_without_a_file_there_are_the_built_in_prices(tmp_path: Path) -> None:
    (tmp_path / "llmevents.toml").unlink()
    status, output, _ = _run("azure-di/prebuilt-read", "--pages", "2")
    assert (status, output) == (0, "$0.003  (builtin, 2026-11-21)\n")


def test_a_ledger_that_cannot_be_read_is_a_usage_error() -> None:
    status, _, errors = _run("check", "--ledger", "none.jsonl")
    assert status == 2
    assert "cannot be read" in errors
