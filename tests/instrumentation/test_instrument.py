"""Putting instrumentation on an SDK, and taking it off again."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import openai
import pytest
import wrapt
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.embeddings import AsyncEmbeddings, Embeddings

import llmevents
from llmevents import Bus, OptionError
from llmevents.instrumentation import SUPPORTED, Choice
from llmevents.testing import FakeProvider, capture
from tests.instrumentation.sdk import (
    MESSAGES,
    TIMEOUT_SECONDS,
    instrumented,
)


METHODS = [
    (Completions, "create"),
    (Completions, "parse"),
    (AsyncCompletions, "create"),
    (AsyncCompletions, "parse"),
    (Embeddings, "create"),
    (AsyncEmbeddings, "create"),
]


@pytest.fixture(autouse=True)
def _leave_nothing_behind() -> Iterator[None]:
    yield
    llmevents.uninstrument()


def methods() -> list[object]:
    return [owner.__dict__[name] for owner, name in METHODS]


def run(program: str, **environment: str) -> str:
    """Return what a fresh interpreter prints."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_instrumenting_twice_is_instrumenting_once(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    bus = Bus(strict=True)
    with instrumented(bus):
        once = methods()
        llmevents.instrument("openai", bus=bus)
        llmevents.instrument()
        with capture("llm.chat.*", bus=bus) as events:
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert [id(each) for each in methods()] == [id(each) for each in once]
    assert events.names() == ["llm.chat.start", "llm.chat.stop"]


def test_uninstrumenting_restores_the_very_functions() -> None:
    before = methods()
    with instrumented(Bus()):
        assert not any(
            ours is theirs for ours, theirs in zip(methods(), before, strict=True)
        )
    assert all(ours is theirs for ours, theirs in zip(methods(), before, strict=True))
    llmevents.uninstrument()
    assert all(ours is theirs for ours, theirs in zip(methods(), before, strict=True))


def test_uninstrumented_methods_that_somebody_kept_do_nothing_more(
    provider: FakeProvider, client: openai.OpenAI
) -> None:
    """The SDK itself keeps them, for ``with_raw_response``."""
    bus = Bus(strict=True)
    with instrumented(bus):
        raw = client.chat.completions.with_raw_response
        kept = client.chat.completions.create
    with capture(bus=bus) as events:
        raw.create(model="gpt-4o", messages=MESSAGES)
        kept(model="gpt-4o", messages=MESSAGES)
    assert events == []


# Another tool's wrapper takes what wrapt gives it.
def _of_another_tool(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
    result = wrapped(*args, **kwargs)
    result.id = "theirs"
    return result


def test_uninstrumenting_leaves_the_wrapper_of_another_tool(
    client: openai.OpenAI,
) -> None:
    bus = Bus(strict=True)
    original = Completions.__dict__["create"]
    try:
        with instrumented(bus):
            ours = Completions.__dict__["create"]
            theirs = wrapt.FunctionWrapper(ours, _of_another_tool)
            setattr(Completions, "create", theirs)  # noqa: B010  # mypy allows no other way
        assert Completions.__dict__["create"] is theirs
        with capture(bus=bus) as events:
            answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        assert answer.id == "theirs"
        assert events == []
    finally:
        setattr(Completions, "create", original)  # noqa: B010  # likewise


def test_wrapped_methods_look_as_they_did() -> None:
    def looks(owner: type, name: str) -> object:
        method = getattr(owner, name)
        return (
            inspect.signature(method),
            inspect.iscoroutinefunction(method),
            inspect.isfunction(method),
            method.__name__,
            method.__qualname__,
            method.__doc__,
            method.__module__,
        )

    before = [looks(owner, name) for owner, name in METHODS]
    with instrumented(Bus()):
        assert [looks(owner, name) for owner, name in METHODS] == before


def test_the_sdk_is_instrumented_when_it_is_imported_later() -> None:
    printed = run(
        """
        import sys, llmevents
        bus = llmevents.Bus(strict=True)
        llmevents.instrument("openai", bus=bus)
        llmevents.instrument(bus=bus)
        assert "openai" not in sys.modules
        import openai
        from llmevents.testing import FakeProvider, capture
        with FakeProvider() as provider, capture("llm.embedding.*", bus=bus) as events:
            client = openai.OpenAI(base_url=provider.base_url, api_key="test")
            with client:
                client.embeddings.create(model="m", input="one")
        print(*events.names())
        """
    )
    assert printed == "llm.embedding.start llm.embedding.stop"


def test_the_sdk_is_left_alone_if_that_is_no_longer_wanted() -> None:
    printed = run(
        """
        import llmevents
        llmevents.instrument()
        llmevents.uninstrument("openai")
        from openai.resources.embeddings import Embeddings
        print(type(Embeddings.create).__name__)
        llmevents.instrument()
        print(type(Embeddings.create).__name__)
        llmevents.uninstrument()
        print(type(Embeddings.create).__name__)
        """
    )
    assert printed.split() == ["function", "BoundFunctionWrapper", "function"]


def test_instrumenting_imports_no_sdk() -> None:
    printed = run(
        """
        import sys, llmevents
        llmevents.instrument()
        print([sdk for sdk in llmevents.instrumentation.SUPPORTED if sdk in sys.modules])
        """
    )
    assert printed == "[]"


def test_an_import_under_way_in_another_thread_is_waited_for() -> None:
    """A module is in ``sys.modules`` long before it can be used."""
    printed = run(
        """
        import sys, threading, time, llmevents
        importing = threading.Thread(target=__import__, args=("openai",))
        importing.start()
        while "openai" not in sys.modules:
            time.sleep(0)
        llmevents.instrument("openai")
        from openai.resources.embeddings import Embeddings
        importing.join(30)
        print(type(Embeddings.create).__name__)
        """
    )
    assert printed == "BoundFunctionWrapper"


def test_an_sdk_is_patched_once_by_its_own_module_when_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What one more SDK takes: its name, and a module with ``patch``."""
    patched: list[tuple[str, Bus]] = []

    def patch(sdk: types.ModuleType, choice: Choice, patches: object) -> bool:
        patched.append((sdk.__name__, choice.bus))
        return True

    name = "llmevents_stub_sdk"
    module = types.ModuleType(f"llmevents.instrumentation._{name}")
    vars(module)["patch"] = patch
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("llmevents.instrumentation.MODULES", {name: name})
    (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    bus = Bus()
    llmevents.instrument(name, bus=bus)
    llmevents.instrument(name)
    assert patched == []
    import_module(name)
    llmevents.instrument(name)
    assert patched == [(name, bus)]
    llmevents.uninstrument(name)
    llmevents.instrument(name)
    assert patched[1:] == [(name, llmevents.default_bus)]
    llmevents.uninstrument(name)
    monkeypatch.delitem(sys.modules, name)


def test_an_sdk_whose_import_is_blocked_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As tests and sandboxes do, with None in ``sys.modules``."""
    monkeypatch.setattr(
        "llmevents.instrumentation.MODULES", {"llmevents_no_sdk": "llmevents_no_sdk"}
    )
    monkeypatch.setitem(sys.modules, "llmevents_no_sdk", None)
    llmevents.instrument("llmevents_no_sdk")
    llmevents.uninstrument("llmevents_no_sdk")


def test_an_import_that_fails_in_another_thread_is_that_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "llmevents_broken_sdk"
    monkeypatch.setattr("llmevents.instrumentation.MODULES", {name: name})
    gate = types.ModuleType("llmevents_gate")
    vars(gate)["opened"] = opened = threading.Event()
    monkeypatch.setitem(sys.modules, gate.__name__, gate)
    code = f"import {gate.__name__} as gate; gate.opened.wait(300); 1 / 0"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    failed: list[BaseException] = []

    def import_it() -> None:
        try:
            import_module(name)
        except ZeroDivisionError as error:
            failed.append(error)

    importing = threading.Thread(target=import_it)
    importing.start()
    while name not in sys.modules:
        importing.join(0.001)
        assert importing.is_alive() or name in sys.modules
    threading.Timer(0.05, opened.set).start()
    llmevents.instrument(name)
    importing.join(TIMEOUT_SECONDS)
    assert len(failed) == 1
    assert name not in sys.modules
    llmevents.uninstrument(name)


@pytest.mark.parametrize("value", ["1", "true", " ON "])
def test_switched_off_from_outside_it_does_nothing(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = methods()
    monkeypatch.setenv("LLMEVENTS_DISABLED", value)
    monkeypatch.setitem(sys.modules, "wrapt", None)
    llmevents.instrument()
    assert all(ours is theirs for ours, theirs in zip(methods(), before, strict=True))


def test_without_wrapt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wrapt", None)
    remedy = (
        r"instrument\(\) needs wrapt, which is not installed; "
        r'run: pip install "llmevents\[instrumentation\]"'
    )
    with pytest.raises(ModuleNotFoundError, match=remedy) as raised:
        llmevents.instrument("openai")
    assert raised.value.name == "wrapt"


def test_a_fresh_process_without_wrapt_gets_the_same_message() -> None:
    printed = run(
        """
        import importlib.abc, sys

        class Blocked(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name.partition(".")[0] == "wrapt":
                    raise ModuleNotFoundError("No module named 'wrapt'", name="wrapt")

        sys.meta_path.insert(0, Blocked())
        import llmevents
        try:
            llmevents.instrument("openai")
        except ModuleNotFoundError as error:
            print(error.name, error)
        """
    )
    assert printed == (
        "wrapt instrument() needs wrapt, which is not installed; "
        'run: pip install "llmevents[instrumentation]"'
    )


@pytest.mark.parametrize("version", ["1.99.0", "4.0.0", "0.28.1", "unknown"])
def test_an_unsupported_version_stays_as_it_is(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = methods()
    monkeypatch.setattr(openai, "__version__", version)
    complaint = rf"openai {version} is not instrumented: llmevents supports openai 2\.x and 3\.x"
    with pytest.warns(RuntimeWarning, match=complaint):
        llmevents.instrument("openai")
    assert all(ours is theirs for ours, theirs in zip(methods(), before, strict=True))


def test_an_sdk_of_another_build_costs_a_warning_and_no_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A later version may have moved what we wrap; what was wrapped is put back."""
    before = methods()
    monkeypatch.delattr("openai.resources.embeddings.AsyncEmbeddings")
    with pytest.warns(
        RuntimeWarning, match="openai is not instrumented: .*AsyncEmbeddings"
    ):
        llmevents.instrument("openai")
    assert all(ours is theirs for ours, theirs in zip(methods(), before, strict=True))
    monkeypatch.undo()
    with instrumented(Bus()):
        assert not any(
            ours is theirs for ours, theirs in zip(methods(), before, strict=True)
        )


@pytest.mark.parametrize(
    "change", [llmevents.instrument, llmevents.uninstrument], ids=["on", "off"]
)
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("open-ai", r"\('openai'\?\)", id="near"),
        pytest.param("zzz", "one of 'openai', .*'litellm', got 'zzz'", id="far"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    change: Callable[..., None], name: str, hint: str
) -> None:
    with pytest.raises(OptionError, match=hint):
        change("openai", name)
    assert not isinstance(Completions.__dict__["create"], wrapt.ObjectProxy)


def test_every_supported_sdk_has_its_module() -> None:
    for sdk in SUPPORTED:
        __import__(f"llmevents.instrumentation._{sdk}")
