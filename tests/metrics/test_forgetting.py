"""Series can be forgotten, and what else there is stays exact."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from llmevents import Bus, OptionError
from llmevents.metrics import (
    Counter,
    Distribution,
    Exemplar,
    LastValue,
    Metric,
    MetricStore,
    Series,
    Sum,
    Summary,
)
from llmevents.metrics._admission import TagKey
from llmevents.metrics._cells import Row
from llmevents.testing import ManualClock
from tests.metrics.readings import attached, frequent_switches, in_threads, values


SECOND = 1_000_000_000


def emit(bus: Bus, *users: str, model: str = "m", n: int = 1) -> None:
    for user in users:
        bus.execute("a.b", {"n": n}, {"user": user, "model": model})


def test_pruned_series_are_gone_and_begin_again_at_0() -> None:
    bus, store = attached(
        Sum("a.b.n", tags=("user", "model")), Counter("calls", event="a.b")
    )
    emit(bus, "one", "two", n=5)
    in_threads(1, lambda number: emit(bus, "one", "two", n=5))

    assert store.prune({"user": "one"}) == 1
    assert store.prune({"user": "nobody"}) == 0
    assert values(store, "a.b.n") == {(("user", "two"), ("model", "m")): 10}

    emit(bus, "one")

    assert values(store, "a.b.n")[("user", "one"), ("model", "m")] == 1
    assert values(store, "calls") == {(): 5}


def test_pruning_makes_room_for_other_series() -> None:
    bus, store = attached(Sum("a.b.n", tags=("user",)), max_series=1)
    emit(bus, "one", "two")

    store.prune({"user": "one"})
    emit(bus, "three", "four")

    assert values(store, "a.b.n") == {
        (("user", "__overflow__"),): 2,
        (("user", "three"),): 1,
    }


def test_what_a_pruned_row_holds_of_other_series_is_kept() -> None:
    """One metric of a row may be past its limit while another is not."""
    bus, store = attached(
        Counter("full", event=["a.b", "a.c"], tags=("user",)),
        Counter("free", event="a.b", tags=("user",)),
        max_series=1,
    )
    bus.execute("a.c", {}, {"user": "first"})
    emit(bus, "one", "one")

    store.prune({"user": "one"})

    assert values(store, "free") == {}
    assert values(store, "full") == {
        (("user", "first"),): 1,
        (("user", "__overflow__"),): 2,
    }


def test_deltas_after_pruning_count_from_0() -> None:
    bus, store = attached(Sum("a.b.n", tags=("user",)))
    emit(bus, "one", n=5)
    _, cursor = store.deltas()

    store.prune({"user": "one"})
    emit(bus, "one", n=7)
    changed, _ = store.deltas(cursor)

    assert [each.value for each in changed.families["a.b.n"].series] == [7]


def test_deltas_are_what_came_in_since() -> None:
    bus, store = attached(
        Sum("a.b.n", tags=("user",)),
        Distribution("d", event="a.b", measurement="n", buckets=(1, 5)),
        Summary("s", event="a.b", measurement="n"),
        LastValue("last", event="a.b", measurement="n"),
    )
    emit(bus, "one", "two", n=5)
    first, cursor = store.deltas()
    nothing, cursor = store.deltas(cursor)
    emit(bus, "two", n=1)
    changed, _ = store.deltas(cursor)

    def shown(family: str) -> list[object]:
        return [each.value for each in changed.families[family].series]

    assert [each.value for each in first.families["a.b.n"].series] == [5, 5]
    assert all(not family.series for family in nothing.families.values())
    assert shown("a.b.n") == [1]
    assert shown("last") == [1]
    (histogram,) = shown("d")
    (exponential,) = shown("s")
    assert getattr(histogram, "counts", None) == (1, 0, 0)
    assert getattr(exponential, "count", None) == 1
    assert getattr(exponential, "sum", None) == 1


def test_a_series_that_does_nothing_expires() -> None:
    clock = ManualClock()
    bus = Bus()
    store = MetricStore(
        [Sum("a.b.n", tags=("user",)), Counter("calls", event="a.b")],
        max_idle=60,
        clock=clock,
    )
    store.attach(bus)
    emit(bus, "one", "two")
    store.snapshot()

    clock.advance(60 * SECOND)
    emit(bus, "two")
    assert len(values(store, "a.b.n")) == 2
    clock.advance(1)

    assert values(store, "a.b.n") == {(("user", "two"),): 2}
    clock.advance(61 * SECOND)
    assert values(store, "a.b.n") == {}
    assert values(store, "calls") == {}


def test_what_comes_in_while_a_series_expires_is_not_lost() -> None:
    clock = ManualClock()
    bus = Bus()
    store = MetricStore([Sum("a.b.n", tags=("user",))], max_idle=1, clock=clock)
    store.attach(bus)
    emit(bus, "one", n=5)
    before = store._shards.states()
    slots = list(before)
    emit(bus, "one", n=2)

    store._forget(slots, before)

    assert values(store, "a.b.n") == {(("user", "one"),): 7}
    emit(bus, "one")
    assert values(store, "a.b.n") == {(("user", "one"),): 8}


def test_totals_are_exact_while_series_expire_and_come_back_all_the_time() -> None:
    """A row that is taken out in the middle of an event must not swallow it."""
    bus, store = attached(Sum("a.b.n", tags=("user",)))
    stopped = threading.Event()

    def forget() -> None:
        while not stopped.is_set():
            # Nothing is what it was, so that every series comes back.
            store._forget(store._shards.states(), {})

    forgetting = threading.Thread(target=forget, daemon=True)
    with frequent_switches(1e-5):
        forgetting.start()
        in_threads(4, lambda number: emit(bus, *(f"u{n % 7}" for n in range(2000))))
        stopped.set()
        forgetting.join(60)

    assert not forgetting.is_alive()
    assert sum(values(store, "a.b.n").values()) == 8000


def test_a_series_is_removed_once() -> None:
    """Two readers may find it idle at the same time."""
    bus, store = attached(Sum("a.b.n", tags=("user",)))
    emit(bus, "one")
    slots = list(store._shards.states())

    assert store._forget(slots) == 1
    assert store._forget(slots) == 0


def test_a_series_that_comes_back_when_there_is_no_room_is_past_the_limit() -> None:
    bus, store = attached(Sum("a.b.n", tags=("user",)), max_series=1)
    emit(bus, "one", n=5)
    (slot,) = store._shards.states()
    slot.family.remove(slot)
    emit(bus, "two")

    store._shards.forget(frozenset([slot]), {})

    assert values(store, "a.b.n") == {
        (("user", "two"),): 1,
        (("user", "__overflow__"),): 5,
    }


def test_an_event_while_its_series_is_being_forgotten_is_not_lost() -> None:
    """Also if it comes with another spelling of the tag, which finds no row yet."""
    bus, store = attached(Sum("a.b.n", tags=("user",)))
    emit(bus, "one")
    (slot,) = store._shards.states()
    slot.family.remove(slot)

    emit(bus, "one\0", "one")
    assert values(store, "a.b.n") == {(("user", "one"),): 1}
    store._shards.forget(frozenset([slot]), {})
    emit(bus, "one")

    assert values(store, "a.b.n") == {(("user", "one"),): 4}


def test_a_row_that_is_made_while_another_is_taken_out_stays() -> None:
    bus, store = attached(Sum("a.b.n", tags=("user",)))
    emit(bus, "one", n=5)
    (slot,) = store._shards.states()
    slot.family.remove(slot)
    (group,) = store._shards.mine().groups.values()

    class Meanwhile(dict[TagKey, Row]):
        """The thread replaces the row after it was looked at."""

        def pop(self, key: TagKey, *default: Any) -> Any:  # noqa: ANN401  # as the base
            group.rows = dict(self)
            emit(bus, "one\0")
            self.update(group.rows)
            group.rows = self
            return super().pop(key, *default)

    group.rows = Meanwhile(group.rows)
    store._shards.forget(frozenset([slot]))
    emit(bus, "one\0")

    assert values(store, "a.b.n") == {(("user", "one"),): 2}


def test_what_comes_back_is_added_to_what_ended_threads_have_left() -> None:
    bus, store = attached(Sum("a.b.n", tags=("user",)))
    emit(bus, "one", n=5)
    (slot,) = store._shards.states()
    slot.family.remove(slot)
    in_threads(1, lambda number: emit(bus, "one", n=2))
    store.snapshot()

    store._shards.forget(frozenset([slot]), {})

    assert values(store, "a.b.n") == {(("user", "one"),): 7}


def test_only_one_reader_looks_for_idle_series() -> None:
    clock = ManualClock()
    bus = Bus()
    store = MetricStore([Sum("a.b.n", tags=("user",))], max_idle=1, clock=clock)
    store.attach(bus)
    emit(bus, "one")
    store.snapshot()
    clock.advance(2 * SECOND)
    expiry = store._expiry
    assert expiry is not None

    with expiry._lock:
        assert values(store, "a.b.n") == {(("user", "one"),): 1}
    assert values(store, "a.b.n") == {}
    store.after_fork_in_child()
    assert values(store, "a.b.n") == {}


def test_a_reader_does_not_wait_for_ever_for_series_to_be_forgotten() -> None:
    """Its own thread may have been interrupted at that."""
    bus, store = attached(Sum("a.b.n"))
    emit(bus, "one")
    store._shards._forgotten += 1

    assert values(store, "a.b.n") == {(): 1}


def test_what_another_kind_of_metric_came_to_is_no_earlier_value() -> None:
    kinds: list[Metric] = [
        Sum("a.b.n"),
        Distribution("a.b.n", buckets=(1,)),
        Summary("a.b.n"),
    ]
    snapshots = []
    for kind in kinds:
        bus, store = attached(kind)
        emit(bus, "one")
        snapshots.append(store.snapshot())

    for one in snapshots:
        for other in snapshots:
            changed = one.since(other).families["a.b.n"].series
            expected = () if one is other else one.families["a.b.n"].series
            assert [each.raw for each in changed] == [each.raw for each in expected]


@pytest.mark.parametrize("seconds", [-1, "60", float("nan"), True])
def test_an_idle_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(OptionError, match="max_idle"):
        MetricStore([], max_idle=seconds)


# --- Exemplars -----------------------------------------------------------------------

TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}


def exemplars(store: MetricStore) -> dict[int, Exemplar]:
    (series,) = store.snapshot().families["a.b.n"].series
    assert isinstance(series, Series)
    return dict(series.exemplars)


def test_the_newest_exemplar_of_each_bucket_is_kept() -> None:
    bus, store = attached(
        Distribution("a.b.n", buckets=(1, 5), unit=("millisecond", "second"))
    )
    emit(bus, "before")
    store.exemplify(lambda metadata: {**TRACE, "user": metadata["user"]})

    emit(bus, "one", "two", n=2_000)
    in_threads(1, lambda number: emit(bus, "three", n=6_000))
    found = exemplars(store)

    assert sorted(found) == [1, 2]
    assert (found[1].value, found[1].attributes["user"]) == (2, "two")
    assert (found[2].value, found[2].attributes["user"]) == (6, "three")
    assert found[2].time_ns >= found[1].time_ns

    store.exemplify(None)
    assert exemplars(store) == {}


def test_the_newest_exemplar_wins_whichever_thread_it_is_from() -> None:
    bus, store = attached(Distribution("a.b.n", buckets=(5,)))
    store.exemplify(lambda metadata: {"user": str(metadata["user"])})

    emit(bus, "one")
    in_threads(1, lambda number: emit(bus, "two"))
    store.snapshot()  # the thread's is folded, and comes before this one's

    assert exemplars(store)[0].attributes["user"] == "two"


def test_an_event_without_a_trace_has_no_exemplar() -> None:
    bus, store = attached(Distribution("a.b.n", buckets=(1,)))
    store.exemplify(lambda metadata: None)

    emit(bus, "one")

    assert exemplars(store) == {}


def test_a_source_that_fails_costs_nothing_else() -> None:
    bus, store = attached(
        Distribution("a.b.n", buckets=(1,)), Sum("n", event="a.b", measurement="n")
    )
    store.exemplify(lambda metadata: {"user": metadata["nobody"]})

    emit(bus, "one")

    assert exemplars(store) == {}
    assert values(store, "n") == {(): 1}
    assert bus.stats()["handler_failures"] == 0


def test_exemplars_go_with_their_series() -> None:
    bus, store = attached(Distribution("a.b.n", buckets=(1,), tags=("user",)))
    store.exemplify(lambda metadata: TRACE)
    emit(bus, "one")
    in_threads(1, lambda number: emit(bus, "one"))

    store.prune({"user": "one"})

    assert store._shards.exemplars() == {}
