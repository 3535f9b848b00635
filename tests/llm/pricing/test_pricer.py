from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from llmevents import LLMEventsError
from llmevents.llm import Usage
from llmevents.llm.pricing import (
    Price,
    PriceBook,
    Pricer,
    add_price,
    default_pricer,
    set_default_pricer,
    warm_up,
)
from llmevents.llm.pricing._library import Library, is_on_event_loop
from llmevents.llm.pricing._recent import Recent


CHAT = Usage(input_tokens=1000, output_tokens=500)


@pytest.fixture
def _own_default() -> Iterator[None]:
    former = set_default_pricer(None)
    yield
    set_default_pricer(former)


def _nano(pricer: Pricer, model: str, **given: str) -> int | None:
    price = pricer.price(CHAT, provider="openai", model=model, **given)  # type: ignore[arg-type]  # only names are given
    return None if price is None else price.cost_nano_usd


def test_the_model_that_answered_is_priced_if_it_has_a_price() -> None:
    pricer = Pricer(genai_prices=False)
    assert _nano(pricer, "gpt-4", response_model="gpt-4o") == 7_500_000
    assert _nano(pricer, "gpt-4", response_model="unheard-of") == 60_000_000
    assert _nano(pricer, "alias", response_model="gpt-4o") == 7_500_000
    assert pricer.price(CHAT, provider="openai", model=None) is None


def test_a_source_that_prices_nothing_of_a_usage_is_passed_over() -> None:
    pricer = Pricer({"gpt-4o": {"per_page": 1}}, genai_prices=False)
    assert _nano(pricer, "gpt-4o") == 7_500_000
    read = pricer.price(Usage(pages=2), provider="openai", model="gpt-4o")
    assert read == Price(2_000_000_000, "user", None)
    # What was found first is asked again, and so are those behind it.
    assert _nano(pricer, "gpt-4o") == 7_500_000
    assert pricer.price(Usage(images=1), provider="openai", model="gpt-4o") is None


def test_a_price_that_is_added_holds_from_then_on() -> None:
    pricer = Pricer(genai_prices=False)
    assert _nano(pricer, "new") is None
    pricer.add_price("openai", "new", input=1, output=2)
    assert _nano(pricer, "new") == 2_000_000
    pricer.add_price("openai", "new", input=2, output=4, from_="2024-01-01")
    assert pricer.price(CHAT, provider="openai", model="new") == (
        4_000_000,
        "user",
        "2024-01-01",
    )


def test_a_book_is_shared_and_never_changed() -> None:
    book = PriceBook({"m": {"input": 1, "output": 0}})
    first, second = Pricer(book, built_in=False), Pricer(book, built_in=False)
    first.add_price(None, "m", input=2, output=0)
    assert (_nano(first, "m"), _nano(second, "m")) == (2_000_000, 1_000_000)
    assert (len(book), len(book.adding("n", {"input": 1}))) == (1, 2)


def test_what_was_resolved_can_be_forgotten() -> None:
    pricer = Pricer(genai_prices=False)
    assert _nano(pricer, "gpt-4o") == 7_500_000
    pricer.invalidate()
    assert _nano(pricer, "gpt-4o") == 7_500_000


def test_threads_price_exactly_while_prices_are_added() -> None:
    pricer = Pricer({"m": {"input": 1}}, built_in=False)
    usage = Usage(input_tokens=1_000)

    def price(_: int) -> int:
        found = pricer.price(usage, provider=None, model="m")
        assert found is not None
        return found.cost_nano_usd

    with ThreadPoolExecutor(8) as pool:
        costs = pool.map(price, range(4_000))
        for number in range(50):
            pricer.add_price(None, f"other-{number}", input=5)
        assert sum(costs) == 4_000 * 1_000_000
    assert all(
        pricer.price(usage, provider=None, model=f"other-{number}") is not None
        for number in range(50)
    )


def test_memory_is_bounded_whatever_models_are_asked_for() -> None:
    """Mistyped names are as many as users care to type."""
    recent = Recent[int, int](limit=10)
    for number in range(1_000):
        recent.put(number, number)
        assert recent.get(0) == 0  # what is in use stays
        assert len(recent) <= 20
    assert recent.get(990) == 990
    assert recent.get(500) is None


def test_all_that_has_a_price_is_listed_your_own_first() -> None:
    pricer = Pricer({"acme/m": {"input": 1}}, genai_prices=False)
    lines = list(pricer.describe())
    assert lines[0][:4] == ("acme", "m", "input 1/1M", "user")
    table = lines[1:]
    assert {line.source for line in table} == {"builtin"}
    assert all(line.reference and line.date for line in table)
    assert list(Pricer(built_in=False).describe()) == []


@pytest.mark.usefixtures("_own_default")
def test_there_is_one_default_pricer() -> None:
    assert default_pricer() is default_pricer()
    add_price("acme", "m", input=3, output=0)
    price = default_pricer().price(CHAT, provider="acme", model="m")
    assert price == (3_000_000, "user", None)
    own = Pricer(genai_prices=False)
    set_default_pricer(own)
    assert default_pricer() is own
    assert warm_up()


def test_settings_make_a_pricer() -> None:
    pricer = Pricer.from_config(
        {
            "models": {"m": {"input": 1, "output": 0}},
            "built_in": False,
            "genai_prices": False,
        }
    )
    assert (_nano(pricer, "m"), _nano(pricer, "gpt-4o")) == (1_000_000, None)
    assert _nano(Pricer.from_config({"genai_prices": False}), "gpt-4o") == 7_500_000


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        pytest.param({"model": {}}, "known: models, built_in", id="unknown"),
        pytest.param({"models": []}, r"prices\.models to be a table", id="models"),
        pytest.param({"models": {"m": {}}}, "one price or more", id="price"),
        pytest.param({"built_in": "no"}, "to be true or false", id="switch"),
        pytest.param({"litellm_prices": 5}, "path of a JSON file", id="path"),
        pytest.param({"litellm_prices": "/no"}, "No such file", id="file"),
    ],
)
def test_wrong_settings_are_refused(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(LLMEventsError, match=complaint):
        Pricer.from_config(table)


def test_a_forked_child_does_not_wait_for_its_parents_lock() -> None:
    pricer = Pricer(genai_prices=False)
    with pricer._lock:
        pricer.after_fork_in_child()
        pricer.add_price("openai", "new", input=1, output=2)
    assert _nano(pricer, "new") == 2_000_000


def test_importing_llmevents_imports_no_prices() -> None:
    done = _run(
        "import sys, llmevents, llmevents.llm\n"
        "from llmevents.llm.pricing import default_pricer\n"
        "default_pricer()\n"
        "print([name for name in ('genai_prices', 'pydantic') if name in sys.modules])"
    )
    assert done == "[]"


@pytest.mark.parametrize("is_slow", [False, True], ids=["normal", "slow"])
def test_43_nothing_is_imported_on_an_event_loop(is_slow: bool) -> None:
    """The loop is not held up; what the table has is priced, and soon all is."""
    pytest.importorskip("genai_prices")
    gate = "import builtins, threading\n"
    if is_slow:
        gate += (
            "gate, real = threading.Event(), builtins.__import__\n"
            "def slow(name, *rest):\n"
            "    if name == 'genai_prices': gate.wait(30)\n"
            "    return real(name, *rest)\n"
            "builtins.__import__ = slow\n"
        )
    done = _run(
        f"{gate}"
        "import asyncio, threading, time\n"
        "from llmevents.llm import Usage\n"
        "from llmevents.llm.pricing import Pricer\n"
        "usage = Usage(input_tokens=1000, output_tokens=500)\n"
        "pricer = Pricer()\n"
        "async def main():\n"
        "    first = pricer.price(usage, provider='openai', model='gpt-4o')\n"
        "    unknown = pricer.price(usage, provider='deepseek', model='deepseek-chat')\n"
        f"    if {is_slow}:\n"
        "        assert first.source == 'builtin' and unknown is None, first\n"
        "        gate.set()\n"
        "    await asyncio.to_thread(pricer.warm_up, wait=True)\n"
        "    later = pricer.price(usage, provider='openai', model='gpt-4o')\n"
        "    known = pricer.price(usage, provider='deepseek', model='deepseek-chat')\n"
        "    print(first.cost_nano_usd == later.cost_nano_usd, later.source, known.source)\n"
        "asyncio.run(main())\n"
    )
    assert done == "True genai-prices genai-prices"


def test_a_call_in_a_plain_thread_waits_for_genai_prices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("genai_prices")
    monkeypatch.setattr("llmevents.llm.pricing._library.PATIENCE", 60.0)
    pricer = Pricer()
    pricer._library = Library()
    price = pricer.price(CHAT, provider="deepseek", model="deepseek-chat")
    assert price is not None
    assert price.source == "genai-prices"


@pytest.mark.parametrize(
    ("module", "warnings"),
    [
        pytest.param(None, [], id="absent"),
        pytest.param(
            ModuleType("genai_prices"),
            [
                "genai-prices cannot be used (ImportError); other prices are used instead"
            ],
            id="broken",
        ),
    ],
)
def test_without_genai_prices_the_table_is_used(
    module: ModuleType | None,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is no dependency, and what is broken in it is not our caller's affair."""
    monkeypatch.setitem(sys.modules, "genai_prices", module)
    monkeypatch.delitem(sys.modules, "genai_prices.data_snapshot", raising=False)
    pricer = Pricer()
    pricer._library = library = Library()
    assert _nano(pricer, "gpt-4o") == 7_500_000
    assert library.settled
    assert [record.getMessage() for record in caplog.records] == warnings


def test_on_an_event_loop_nobody_waits_for_genai_prices() -> None:
    pricer = Pricer()
    pricer._library = library = Library()
    library._begun.acquire()  # as if a thread were loading
    library._loaded.acquire()

    async def price() -> list[int | None]:
        return [_nano(pricer, "gpt-4o"), _nano(pricer, "unheard-of")]

    assert asyncio.run(price()) == [7_500_000, None]
    assert len(pricer._found.entries) == 0  # nothing of that is kept


def _run(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_event_loop_is_told_from_a_plain_thread() -> None:
    async def inside() -> tuple[bool, bool]:
        return is_on_event_loop(), await asyncio.to_thread(is_on_event_loop)

    assert asyncio.run(inside()) == (True, False)
    assert not is_on_event_loop()


def test_loading_begins_anew_in_a_child_if_it_was_under_way() -> None:
    """The thread that did it is the parent's."""
    library = Library()
    library._begun.acquire()
    library._loaded.acquire()
    library.after_fork_in_child()
    assert library._begun.acquire(blocking=False)
    assert library.current() is None
    library.settled = True
    library.current = done = lambda: None
    library.after_fork_in_child()
    assert library.current is done


def test_waiting_ends_when_patience_does() -> None:
    library = Library()
    library._begun.acquire()  # as if a thread were loading
    library._loaded.acquire()
    assert not library.wait()
    assert not library.wait(0.001)


def test_loading_that_cannot_begin_may_begin_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    library = Library()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not library.wait(0)
    assert library._begun.acquire(blocking=False)


def test_warming_up_returns_at_once_unless_told_to_wait() -> None:
    pricer = Pricer()
    assert pricer.warm_up() in {True, False}
    assert pricer.warm_up(wait=True, timeout=60)
    assert pricer.warm_up()
    assert Pricer(built_in=False).warm_up(wait=True)
