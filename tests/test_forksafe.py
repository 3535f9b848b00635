"""After a fork, the child starts afresh and the parent notices nothing."""

from __future__ import annotations

import builtins
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from llmevents import Bus, _forksafe
from llmevents._forksafe import _Registry, finish_imports, registry


pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Member:
    """Something that wants to know about forks."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def after_fork_in_child(self) -> None:
        self.told.append(os.getpid())


def in_child(check: Callable[[], bool]) -> bool:
    """Return what *check* says in a forked child; one that hangs is killed."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_members_are_told_once_in_the_child_and_never_in_the_parent() -> None:
    members = [Member(), Member()]
    for member in members:
        registry.register(member)
    assert in_child(lambda: [member.told for member in members] == [[os.getpid()]] * 2)
    assert [member.told for member in members] == [[], []]


def test_a_member_that_registers_twice_is_told_once() -> None:
    member = Member()
    registry.register(member)
    registry.register(member)
    assert in_child(lambda: len(member.told) == 1)


def test_the_generation_counts_the_forks_that_led_here() -> None:
    before = registry.generation
    assert in_child(
        lambda: (
            registry.generation == before + 1
            and in_child(lambda: registry.generation == before + 2)
        )
    )
    assert registry.generation == before


def test_the_registry_keeps_nobody_alive() -> None:
    member = Member()
    reference = weakref.ref(member)
    registry.register(member)
    del member
    gc.collect()
    assert reference() is None
    assert in_child(lambda: True)


def test_a_registry_hooks_into_fork_when_it_is_first_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Importing llmevents without using it must leave no trace."""
    hooks: list[dict[str, Callable[[], None]]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **given: hooks.append(given))
    own = _Registry()
    assert hooks == []
    first, second = Member(), Member()
    own.register(first)
    own.register(second)
    (given,) = hooks
    given["after_in_child"]()
    assert (first.told, second.told) == ([os.getpid()], [os.getpid()])
    assert own.generation == 1


def test_an_import_is_waited_for_before_the_hooks_that_take_locks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last hook that is registered runs first."""
    hooks: list[dict[str, Callable[[], None]]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **given: hooks.append(given))
    waited: list[bool] = []
    _Registry().wait_before_fork(lambda: waited.append(True))
    hooks[-1]["before"]()
    assert waited == [True]


def test_who_came_to_rest_goes_on_in_the_parent_alone() -> None:
    went_on: list[int] = []
    registry.wait_before_fork(lambda: None, lambda: went_on.append(os.getpid()))
    assert in_child(lambda: went_on == [])
    assert went_on == [os.getpid()]


@pytest.fixture
def gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """What lets a module of ours through that another thread has begun to import."""
    entered, opened = threading.Event(), threading.Event()
    monkeypatch.setattr(builtins, "llmevents_gate", (entered, opened), raising=False)
    source = "entered, opened = llmevents_gate\nentered.set()\nopened.wait(30)\n"
    (tmp_path / "llmevents_slow.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    thread = threading.Thread(target=import_module, args=("llmevents_slow",))
    thread.start()
    assert entered.wait(30)

    def let_through() -> None:
        opened.set()
        thread.join()

    yield let_through
    let_through()
    del sys.modules["llmevents_slow"]


def test_a_fork_waits_for_what_another_thread_imports(
    gate: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half imported, it would stay locked in the child for ever."""
    registry.register(Member())
    monkeypatch.setattr(_forksafe, "sleep", lambda _: gate())
    assert in_child(lambda: import_module("llmevents_slow") is not None)


def test_a_fork_waits_for_imports_only_so_long(
    gate: Callable[[], None],  # it stays shut
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []
    monkeypatch.setattr(_forksafe, "sleep", paused.append)
    times = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(_forksafe, "monotonic", lambda: next(times))
    finish_imports()
    assert len(paused) == 2


LATE = """
import sys
import llmevents.llm
from llmevents._forksafe import IMPORTED_LATE, finish_imports
assert not IMPORTED_LATE.keys() & sys.modules.keys()
finish_imports()
assert IMPORTED_LATE.keys() <= sys.modules.keys()
"""


def test_after_a_fork_nobodys_first_call_has_anything_left_to_import() -> None:
    """Another thread could begin to import it between the last look and the fork."""
    done = subprocess.run([sys.executable, "-c", LATE], timeout=60, check=False)
    assert done.returncode == 0


def test_a_thread_does_not_wait_for_its_own_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from llmevents._forksafe import finish_imports\nfinish_imports()\n"
    (tmp_path / "llmevents_forks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_forksafe, "LONGEST_IMPORT", float("inf"))
    import_module("llmevents_forks")
    del sys.modules["llmevents_forks"]


def test_a_platform_without_fork_needs_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork")
    own = _Registry()
    own.register(Member())
    own.wait_before_fork(lambda: None)
    assert own.generation == 0


def test_a_lock_held_at_the_fork_does_not_hang_the_child() -> None:
    """Its holder does not exist there and would never open it."""
    bus = Bus()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with bus._lock:
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert held.wait(10)

    def attach_and_emit() -> bool:
        calls: list[object] = []
        with bus.attach("id", "a.b", lambda *call: calls.append(call)):
            bus.execute("a.b", {})
        return len(calls) == 1

    try:
        assert in_child(attach_and_emit)
    finally:
        done.set()
        holder.join(10)


def test_a_bus_that_was_told_of_a_fork_works_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same as in a child, where nobody sees what runs and what does not."""
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: None)
    own = _Registry()
    monkeypatch.setattr(_forksafe, "registry", own)
    bus = Bus()
    calls: list[object] = []

    def fork(*call: object) -> None:
        calls.append(call)
        own._after_fork_in_child()

    def fail(*call: object) -> None:
        msg = "no good"
        raise ValueError(msg)

    bus.attach("fork", "a.b", fork)
    bus.attach("bad", "a.b", fail)
    for _ in range(3):
        bus.execute("a.b", {})
    bus.detach("fork")
    assert len(calls) == bus.stats()["handler_failures"] == own.generation == 3


def test_handlers_and_counts_go_on_in_the_child() -> None:
    bus = Bus()
    calls: list[object] = []
    bus.attach("id", "a.b", lambda *call: calls.append(call))
    bus.execute("a.b", {})
    bus.refuse_value()

    def go_on() -> bool:
        bus.execute("a.b", {})
        bus.refuse_value()
        return len(calls) == 2 and bus.stats()["refused_values"] == 2

    assert in_child(go_on)
    assert (len(calls), bus.stats()["refused_values"]) == (1, 1)


@pytest.mark.parametrize("listeners", [1, 2])
def test_a_handler_may_fork(listeners: int) -> None:
    """Parent and child both come out of the dispatch and can go on emitting."""
    bus = Bus()
    children: list[int] = []
    calls: list[object] = []

    def fork(*call: object) -> None:
        children.append(os.fork())

    subscription = bus.attach("fork", "a.b", fork)
    for _ in range(listeners):
        bus.attach(object(), "a.*", lambda *call: calls.append(call))
    bus.execute("a.b", {})
    subscription.detach()
    bus.execute("a.b", {})
    (child,) = children
    if child == 0:
        os._exit(len(calls))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == len(calls) == 2 * listeners
