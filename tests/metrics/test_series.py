from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from llmevents import OptionError
from llmevents.metrics import (
    Counter,
    Metric,
    MetricDefinitionError,
    MetricStore,
    Sum,
)
from llmevents.metrics._admission import FamilySlots, Slot, tag_key
from tests.metrics.readings import (
    MODEL,
    attached,
    frequent_switches,
    in_threads,
    value,
    values,
)


# --- Tags ----------------------------------------------------------------------------


def test_tags_tell_series_apart_and_a_missing_one_is_absent() -> None:
    bus, store = attached(Counter("a.b.n", tags=("provider", "model")))

    bus.execute("a.b", {}, {"provider": "openai", "model": "gpt-4o", "user": "u"})
    bus.execute("a.b", {}, {"provider": "openai"})
    bus.execute("a.b", {}, {"provider": "openai", "model": None})
    bus.execute("a.b", {})

    assert values(store, "a.b.n") == {
        (("provider", "openai"), ("model", "gpt-4o")): 1,
        (("provider", "openai"),): 2,
        (): 1,
    }


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(429, "429", id="integer"),
        pytest.param(0.5, "0.5", id="float"),
        pytest.param(True, "true", id="true"),
        pytest.param(False, "false", id="false"),
        pytest.param("", "", id="empty"),
        pytest.param("a\ud800\0b", "a\ufffdb", id="surrogate and nul"),
        pytest.param(["stop", "length"], "['stop', 'length']", id="list"),
        pytest.param(math.nan, "nan", id="nan"),
        pytest.param(1 << 2000, "<int: 2001 bits>", id="huge"),
        pytest.param("sk-" + "A1b2C3d4" * 6, "[REDACTED]", id="secret"),
    ],
)
def test_a_tag_becomes_text(given: object, text: str) -> None:
    bus, store = attached(Counter("a.b.n", tags=("t",)))

    bus.execute("a.b", {}, {"t": given})

    assert values(store, "a.b.n") == {(("t", text),): 1}


def test_no_code_of_a_tag_runs() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise AssertionError

        __repr__ = __str__

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __hash__(self) -> int:
            raise AssertionError

    bus, store = attached(Counter("a.b.n", tags=("t",)))

    bus.execute("a.b", {}, {"t": Hostile()})

    ((tags, count),) = values(store, "a.b.n").items()
    assert count == 1
    assert tags[0][1].endswith("Hostile>")


def test_values_that_python_calls_equal_are_different_tags() -> None:
    bus, store = attached(Counter("a.b.n", tags=("t",)))

    for tag in (1, True, 1.0, "1"):
        bus.execute("a.b", {}, {"t": tag})

    assert values(store, "a.b.n") == {
        (("t", "1"),): 2,
        (("t", "true"),): 1,
        (("t", "1.0"),): 1,
    }


def test_a_long_tag_is_cut() -> None:
    bus, store = attached(Counter("a.b.n", tags=("t",)))

    bus.execute("a.b", {}, {"t": "x" * 1_000_000})

    (((_, text),),) = values(store, "a.b.n")
    assert len(text) <= 256
    assert text.endswith("characters]")


def test_what_a_password_is_called_is_not_shown() -> None:
    bus, store = attached(Counter("a.b.n", tags=("password",)))

    bus.execute("a.b", {}, {"password": "swordfish"})

    assert values(store, "a.b.n") == {(("password", "[REDACTED]"),): 1}


def test_constant_tags_come_last_and_win() -> None:
    bus, store = attached(
        Counter("a.b.n", tags=("model",), constant_tags={"kind": "chat"}),
        Counter(
            "a.b.m",
            tags=lambda measurements, metadata: {"kind": "x", "z": 1, "none": None},
            constant_tags={"kind": "chat"},
        ),
    )

    bus.execute("a.b", {}, {"model": "m", "kind": "other"})

    assert values(store, "a.b.n") == {(("model", "m"), ("kind", "chat")): 1}
    assert values(store, "a.b.m") == {(("kind", "chat"), ("z", "1")): 1}


def test_a_function_may_make_the_tags() -> None:
    def status_class(
        measurements: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> dict[str, object]:
        return {"class": f"{metadata['status'] // 100}xx", "": "no name"}

    bus, store = attached(Counter("a.b.n", tags=status_class))

    for status in (200, 204, 503):
        bus.execute("a.b", {}, {"status": status})

    assert values(store, "a.b.n") == {(("class", "2xx"),): 2, (("class", "5xx"),): 1}


def test_definitions_of_one_name_feed_one_set_of_series() -> None:
    bus, store = attached(
        *(
            Sum(
                "tokens",
                event="llm.chat.stop",
                measurement=f"{kind}_tokens",
                tags=("model",),
                constant_tags={"type": kind},
            )
            for kind in ("input", "output")
        ),
        Sum(
            "tokens",
            event="llm.ocr.stop",
            measurement="input_tokens",
            tags=("type", "model"),
        ),
    )

    bus.execute("llm.chat.stop", {"input_tokens": 3, "output_tokens": 4}, MODEL)
    bus.execute("llm.ocr.stop", {"input_tokens": 5}, {**MODEL, "type": "input"})

    assert values(store, "tokens") == {
        (("model", "gpt-4o"), ("type", "input")): 8,
        (("model", "gpt-4o"), ("type", "output")): 4,
    }


def test_the_same_definition_twice_counts_once() -> None:
    bus, store = attached(Counter("a.b.n"), Counter("a.b.n"))

    bus.execute("a.b", {})

    assert value(store, "a.b.n") == 1
    assert store.definitions == (Counter("a.b.n"),)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        pytest.param(Counter("a.b.n"), "type 'Sum' and 'Counter'", id="type"),
        pytest.param(Sum("a.b.n", unit="byte"), "unit '' and 'byte'", id="unit"),
        pytest.param(
            Sum("a.b.n", tags=("x",)), r"tag names \[\] and \['x'\]", id="tags"
        ),
        pytest.param(
            Sum("a.b.n", tags=lambda m, d: {}), r"\[\] and None", id="computed tags"
        ),
        pytest.param(
            Sum("a.b.n", monotonic=False), "monotonic True and False", id="monotonic"
        ),
    ],
)
def test_definitions_of_one_name_must_agree(other: Metric, complaint: str) -> None:
    with pytest.raises(MetricDefinitionError, match=complaint):
        MetricStore([Sum("a.b.n"), other])


def test_what_is_no_definition_is_refused() -> None:
    with pytest.raises(
        MetricDefinitionError, match=r"'llm\.calls': it is no definition"
    ):
        MetricStore(["llm.calls"])  # type: ignore[list-item]  # what is being tested


# --- The limit of series -------------------------------------------------------------


def test_series_past_the_limit_share_one_and_the_total_is_exact() -> None:
    bus, store = attached(
        Sum("a.b.n", tags=("user", "model")),
        Sum("other", event="a.b", measurement="n", tags=("model",)),
        max_series=3,
    )

    for _ in range(2):
        for user in range(10):
            bus.execute("a.b", {"n": 1}, {"user": f"u{user}", **MODEL})

    found = values(store, "a.b.n")
    assert found[("user", "__overflow__"), ("model", "__overflow__")] == 14
    assert len(found) == 4
    assert sum(found.values()) == 20
    assert value(store, "other") == 20


def test_the_default_limit_is_two_thousand_series_per_metric() -> None:
    bus, store = attached(
        Counter("a.b.n", tags=("user",)), Counter("a.b.m", tags=("user",))
    )

    for user in range(2500):
        bus.execute("a.b", {}, {"user": user})

    for name in ("a.b.n", "a.b.m"):
        found = values(store, name)
        assert len(found) == 2001
        assert found[("user", "__overflow__"),] == 500


def test_what_is_past_the_limit_is_not_remembered() -> None:
    bus, store = attached(Counter("a.b.n", tags=("user",)), max_series=2)

    for user in range(1000):
        bus.execute("a.b", {}, {"user": f"u{user}"})

    (group,) = store._shards.mine().groups.values()
    assert len(group.lookup) == 2
    assert len(group.rows) == 3


def test_spellings_of_one_tag_do_not_pile_up() -> None:
    """What differs only where it is cut away is one series with many look-ups."""
    bus, store = attached(Counter("a.b.n", tags=("user",)), max_series=2)

    for number in range(10):
        bus.execute("a.b", {}, {"user": "u" + "\0" * number})

    assert values(store, "a.b.n") == {(("user", "u"),): 10}
    (group,) = store._shards.mine().groups.values()
    assert len(group.lookup) == 4
    assert len(group.rows) == 1


def test_a_series_that_another_event_has_goes_on_when_there_is_no_more_room() -> None:
    bus, store = attached(
        Counter("n", event=["a.b", "a.c"], tags=("user",)),
        Sum("m", event="a.c", measurement="m", tags=("user",)),
        max_series=1,
    )

    for event, user in (("a.b", "one"), ("a.b", "two"), ("a.c", "two"), ("a.c", "one")):
        bus.execute(event, {"m": 1}, {"user": user})

    assert values(store, "n") == {
        (("user", "one"),): 2,
        (("user", "__overflow__"),): 2,
    }
    assert values(store, "m") == {
        (("user", "two"),): 1,
        (("user", "__overflow__"),): 1,
    }


def test_computed_tags_overflow_as_well() -> None:
    bus, store = attached(Counter("a.b.n", tags=lambda m, d: dict(d)), max_series=1)

    for user in range(3):
        bus.execute("a.b", {}, {"user": user})

    assert values(store, "a.b.n") == {
        (("user", "0"),): 1,
        (("user", "__overflow__"),): 2,
    }


def test_admission_is_the_same_for_all_threads() -> None:
    bus, store = attached(Sum("a.b.n", tags=("user",)), max_series=50)

    def emit(number: int) -> None:
        for user in range(200):
            bus.execute("a.b", {"n": 1}, {"user": (user * (number + 1)) % 200})

    with frequent_switches():
        in_threads(16, emit)

    found = values(store, "a.b.n")
    assert sum(found.values()) == 16 * 200
    assert len(found) == 51


def test_a_lost_race_for_a_series_gives_its_ticket_back() -> None:
    """Or the limit would shrink a little with each race."""

    class Raced(dict[Any, Slot]):
        """Another thread enters the slot between the look and the entry."""

        def get(self, key: Any, default: Any = None) -> Any:  # noqa: ANN401  # as the base
            if key == ("user", "raced") and key not in self:
                self[key] = Slot(family, {"user": "raced"})
                return None
            return super().get(key, default)

    family = FamilySlots(Counter("a.b.n", tags=("user",)), 2)
    family._slots = Raced()

    def admit(user: str) -> Slot:
        return family.admit(tag_key({"user": user}), {"user": user})

    raced = admit("raced")
    after = [admit(f"u{number}") for number in range(3)]

    assert raced is family._slots["user", "raced"]
    assert [slot.is_overflow for slot in after] == [False, False, True]
    assert family.is_full


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, None])
def test_a_limit_that_is_none_is_refused(limit: object) -> None:
    with pytest.raises(OptionError, match="max_series to be a positive integer, got"):
        MetricStore([], max_series=limit)  # type: ignore[arg-type]  # what is being tested
