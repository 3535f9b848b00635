from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from llmevents import OptionError
from llmevents.reporting import ReporterStatus, load_reporter


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for a distribution named ``acme-telemetry`` that has reporters."""
    info = tmp_path / "acme_telemetry-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-telemetry\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[llmevents.reporters]\nacme = acme_reporter_of_a_test:AcmeReporter\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = "acme_reporter_of_a_test"
    yield tmp_path / f"{module}.py"
    sys.modules.pop(module, None)


def test_a_status_adds_up() -> None:
    status = ReporterStatus(
        accepted=10, delivered=6, dropped={"full": 1, "broken": 2}, queued=1
    )

    assert status.is_balanced


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(ReporterStatus(accepted=1), id="lost"),
        pytest.param(ReporterStatus(delivered=1), id="out of nothing"),
        pytest.param(ReporterStatus(accepted=1, delivered=1, queued=1), id="twice"),
    ],
)
def test_a_status_that_does_not_add_up_shows_it(status: ReporterStatus) -> None:
    assert not status.is_balanced


def test_nothing_is_a_balanced_status() -> None:
    assert ReporterStatus().is_balanced
    assert dict(ReporterStatus().dropped) == {}


def test_a_status_cannot_be_changed() -> None:
    reasons = {"full": 1}
    status = ReporterStatus(accepted=1, dropped=reasons)
    reasons["full"] = 2

    assert status.dropped["full"] == 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        status.dropped["full"] = 3  # type: ignore[index]  # what is being tested
    with pytest.raises(AttributeError, match="cannot assign to field 'queued'"):
        status.queued = 3  # type: ignore[misc]  # what is being tested


def test_a_reporter_is_found_by_its_name() -> None:
    from llmevents_console import ConsoleReporter

    assert load_reporter("console") is ConsoleReporter


def test_somebody_elses_reporter_is_found_too(install: Path) -> None:
    install.write_text("class AcmeReporter: ...\n")

    assert load_reporter("acme").__name__ == "AcmeReporter"


def test_an_unknown_name_is_answered_with_the_nearest_one(install: Path) -> None:
    expected = (
        r"reporter to be 'acme' or .*'console'.* \(nearest: 'console'\), got 'konsole'"
    )
    with pytest.raises(OptionError, match=expected):
        load_reporter("konsole")


def test_with_no_reporter_installed_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: ())

    with pytest.raises(
        OptionError, match="one that is installed, and none is, got 'x'"
    ):
        load_reporter("x")


def test_a_missing_module_is_answered_with_the_pip_command(install: Path) -> None:
    install.write_text("import module_that_is_not_there\n")

    with pytest.raises(
        ModuleNotFoundError, match=r'pip install "acme-telemetry\[acme\]"'
    ) as caught:
        load_reporter("acme")

    assert caught.value.name == "module_that_is_not_there"


def test_a_reporter_that_knows_its_pip_command_is_left_to_say_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it looks where rich is not installed."""
    for name in [name for name in sys.modules if name.startswith("llmevents_console")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)

    with pytest.raises(
        ModuleNotFoundError,
        match=r'the console reporter needs .* run: pip install "llmevents\[console\]"$',
    ) as caught:
        load_reporter("console")

    assert caught.value.name == "rich"
