"""The conformance class: a good reporter passes, and each bad one fails its claim."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmevents import Bus
from llmevents.metrics import MetricDefinitionError, MetricStore
from llmevents.reporting import Reporter
from llmevents.testing import ReporterConformance, _conformance, _conformance_run
from llmevents.testing._conformance_run import END, Resources, progress
from llmevents.testing._conformance_source import private_imports
from tests.testing.broken_reporters import BROKEN, Good, LeavesAFile


pytest_plugins = ["pytester"]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")

PAGE = Path(__file__).parents[2] / "docs" / "reporters.md"
EXAMPLE = Path(__file__).parents[2] / "examples" / "own_reporter.py"


class Case(ReporterConformance):
    """The claims about one of the reporters here."""

    bad_options = ({"size": 0},)

    def __init__(self, reporter: type[Good], folder: Path) -> None:
        self.kind = reporter
        self.path = folder / "there" / "lines"
        self.path.parent.mkdir()

    def make(self, **options: Any) -> Good:  # noqa: ANN401  # wrong ones as well
        return self.kind(path=self.path, **options)

    def received(self) -> int:
        return len(self.path.read_text().splitlines()) if self.path.exists() else 0

    def vanish(self) -> None:
        self.path.unlink()
        self.path.parent.rmdir()


CLAIMS = [name for name in dir(ReporterConformance) if name.startswith("test_")]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_good_reporter_passes(claim: str, tmp_path: Path) -> None:
    getattr(Case(Good, tmp_path), claim)()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little time for those that are late anyway."""
    monkeypatch.setattr(_conformance_run, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(_conformance, "CHILD_SECONDS", 1.0)
    monkeypatch.setattr(Case, "timeout_seconds", 1.0)
    yield
    for descriptor in LeavesAFile.left:
        os.close(descriptor)
    LeavesAFile.left.clear()


@needs_fork
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_reporter_fails_the_claim_that_it_breaks(
    name: str, tmp_path: Path, impatient: None
) -> None:
    reporter, claim, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        getattr(Case(reporter, tmp_path), claim)()


def test_every_claim_is_broken_by_somebody() -> None:
    broken = {claim for _, claim, _ in BROKEN.values()}
    assert broken == {*CLAIMS} - {"test_it_imports_nothing_private"}


class Taciturn(Good):
    """A reporter that refuses all metrics but those of the LLM layer."""

    def start(self, bus: Bus, metrics: MetricStore) -> None:
        for each in metrics.definitions:
            if not each.name.startswith(("llm.", "task", "active")):
                raise MetricDefinitionError(each.name, "it is none of ours")
        super().start(bus, metrics)


class Plain(ReporterConformance):
    """The least that somebody writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lines"

    def make(self) -> Reporter:
        return Good(path=self.path)


@pytest.mark.parametrize(
    "claim",
    [
        "every_type_of_metric_is_taken_or_refused_at_the_start",
        "a_second_stop_does_nothing",
    ],
)
def test_metrics_may_be_refused(claim: str, tmp_path: Path) -> None:
    getattr(Case(Taciturn, tmp_path), f"test_{claim}")()


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("wrong_options_raise_when_it_is_made", r"make\(\) takes no \*\*options"),
        ("what_it_counts_as_delivered_has_arrived", r"received\(\) is not overrid"),
        ("it_outlives_the_other_side", r"vanish\(\) is not overridden"),
    ],
)
def test_what_cannot_be_asked_is_skipped(
    claim: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(pytest.skip.Exception, match=reason):
        getattr(Plain(tmp_path), f"test_{claim}")()


@needs_fork
def test_a_reporter_that_cannot_say_what_arrived_may_be_forked(tmp_path: Path) -> None:
    Plain(tmp_path).test_a_forked_child_may_emit_and_ends_at_once()


# --- the tools ------------------------------------------------------------------------


def test_a_child_says_how_far_it_came() -> None:
    """Said here as well, because nobody measures coverage in the child."""

    def claim() -> None:
        msg = "a claim"
        raise AssertionError(msg)

    def leave() -> None:
        sys.exit(3)

    assert list(progress([("one", list), ("two", list)])) == ["one", "two", END]
    assert list(progress([("one", claim), ("two", list)])) == ["one", "a claim"]
    assert list(progress([("one", leave)])) == ["one", "one raised SystemExit(3)"]


def test_files_are_compared_where_they_can_be_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Resources.now()
    opened = os.open(os.devnull, os.O_RDONLY)
    try:
        assert "file descriptors" in Resources.now().since(before)
        monkeypatch.setattr(_conformance_run, "DESCRIPTORS", ("/nowhere", "/dev/fd"))
        assert "'?'" in Resources.now().since(before)
        monkeypatch.setattr(_conformance_run, "DESCRIPTORS", ("/nowhere",))
        assert Resources.now().since(before) == ""
    finally:
        os.close(opened)


# --- what a reporter imports ----------------------------------------------------------

PRIVATE = """
from __future__ import annotations
import llmevents
import llmevents._bus
from llmevents import Bus, _clock
from llmevents.metrics import MetricStore
from llmevents.metrics._store import MetricStore as Private
from mine_inside import helper
import json

def later() -> None:
    from llmevents._span import Span
"""
INSIDE = """
from . import _part
from ._part import part
"""
PART = "import llmevents._tally, llmevents._context, llmevents.metrics\n"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a reporter's package; its modules are forgotten afterwards."""
    folder = tmp_path / "conformance_mine"
    folder.mkdir()
    (folder / "__init__.py").write_text(PRIVATE.replace("mine_", "conformance_mine."))
    (folder / "inside.py").write_text(f"{INSIDE}\nhelper = part\n")
    (folder / "_part.py").write_text(f"{PART}\npart = 1\n")
    (folder / "other.py").write_text("from llmevents import _errors\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    importlib.import_module("conformance_mine")
    yield "conformance_mine"
    for name in [*sys.modules]:
        if name.startswith("conformance_mine"):
            del sys.modules[name]


def test_private_imports_are_found_wherever_they_are(package: str) -> None:
    """In functions and in the modules that it imports, but not in its neighbours."""
    assert private_imports(package) == [
        "llmevents._bus (conformance_mine, line 4)",
        "llmevents._clock (conformance_mine, line 5)",
        "llmevents._context (conformance_mine._part, line 1)",
        "llmevents._span.Span (conformance_mine, line 12)",
        "llmevents._tally (conformance_mine._part, line 1)",
        "llmevents.metrics._store.MetricStore (conformance_mine, line 7)",
    ]


def test_a_reporter_without_source_is_passed_over() -> None:
    assert private_imports("sys") == []
    assert private_imports("no.such.module") == []


def test_a_reporter_with_private_imports_fails(package: str, tmp_path: Path) -> None:
    private = type("Private", (Good,), {"__module__": package})
    with pytest.raises(AssertionError, match=r"it imports llmevents\._bus \(conf"):
        Case(private, tmp_path).test_it_imports_nothing_private()


# --- as a third party uses it ---------------------------------------------------------

THEIRS = """
from own_reporter import JSONLinesReporter
from llmevents.testing import ReporterConformance


class TestAll(ReporterConformance):
    def make(self):
        return JSONLinesReporter(path="metrics.jsonl")
"""


def test_pytest_runs_the_claims_of_subclasses_only(pytester: pytest.Pytester) -> None:
    """With the least that a third party writes, and all warnings as errors."""
    pytester.makepyfile(own_reporter=EXAMPLE.read_text(), test_theirs=THEIRS)
    result = pytester.runpytest_subprocess("-W", "error", "-rs", "test_theirs.py")

    skipped = 3
    result.assert_outcomes(passed=len(CLAIMS) - skipped, skipped=skipped)
    result.stdout.fnmatch_lines(
        [
            "SKIPPED*make() takes no ?*options to pass on to the reporter",
            "SKIPPED*received() is not overridden to say what the other side has got",
            "SKIPPED*vanish() is not overridden to make the other side go away",
        ]
    )


def test_a_case_without_make_says_what_is_missing() -> None:
    class TestMine(ReporterConformance):
        pass

    with pytest.raises(NotImplementedError, match=r"TestMine needs a method make\(\)"):
        TestMine().test_its_counts_add_up_at_every_stage()


def test_without_fork_the_claim_about_it_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fork", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"there is no os\.fork here"):
        Case(Good, tmp_path).test_a_forked_child_may_emit_and_ends_at_once()


def test_llmevents_testing_needs_no_pytest() -> None:
    source = (
        "import sys; sys.modules['pytest'] = None; import llmevents.testing as t; "
        "print(t.ReporterConformance.__name__, 'llmevents.testing.provider' in "
        "sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ReporterConformance", "False"]


# --- the documentation's --------------------------------------------------------------


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_reporter_in_the_documentation_passes(claim: str) -> None:
    names: dict[str, Any] = {"__name__": "documentation"}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)  # noqa: S102  # ours
    case = names["TestTotalReporter"]()
    with suppress(pytest.skip.Exception):  # it has no other side that could go away
        getattr(case, claim)()


example = load("conformance_example", EXAMPLE)


class TestExample(example.TestJSONLinesReporter):  # type: ignore[name-defined, misc]  # loaded by its path
    """The reporter that was written from the documentation alone."""
