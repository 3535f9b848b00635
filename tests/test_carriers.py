"""Carriers make the spans of SDK calls current in what other libraries keep."""

from __future__ import annotations

import pytest

from llmevents import Bus, _carriers
from llmevents.reporting import carry


class Keeper:
    """Notes what it is asked for."""

    def __init__(self, *, place: object = "here", span: object = None) -> None:
        self.place = place
        self.span = span
        self.seen: list[tuple[str, object]] = []

    def enter(self, span_id: str) -> object:
        self.seen.append(("enter", span_id))
        return self.place

    def leave(self, entered: object) -> None:
        self.seen.append(("leave", entered))

    def stand_in(self, span_id: str) -> object:
        self.seen.append(("stand_in", span_id))
        return self.span


class Broken:
    """A reporter with a defect."""

    def enter(self, span_id: str) -> object:
        raise ValueError(span_id)

    def leave(self, entered: object) -> None:
        raise ValueError(entered)

    def stand_in(self, span_id: str) -> object:
        raise ValueError(span_id)


def test_a_carrier_is_entered_and_left_until_it_is_taken_off() -> None:
    bus, keeper = Bus(), Keeper(span="theirs")
    stop = carry(bus, keeper)
    entered = _carriers.enter(bus, "a1")
    assert entered
    _carriers.leave(bus, entered)
    assert _carriers.stand_in(bus, "a1") == "theirs"
    stop()
    stop()
    assert _carriers.enter(bus, "a1") is None
    assert _carriers.stand_in(bus, "a1") is None
    assert keeper.seen == [("enter", "a1"), ("leave", "here"), ("stand_in", "a1")]


def test_carriers_are_asked_about_spans_of_their_own_bus_only() -> None:
    bus, keeper = Bus(), Keeper()
    stop = carry(Bus(), keeper)
    try:
        assert not _carriers.enter(bus, "a1")
        assert _carriers.stand_in(bus, "a1") is None
    finally:
        stop()
    assert keeper.seen == []


def test_what_has_no_span_and_who_has_no_place_is_not_left() -> None:
    bus = Bus()
    stop = carry(bus, Keeper(place=None))
    try:
        assert _carriers.enter(bus, "") is None
        assert _carriers.stand_in(bus, "") is None
        assert _carriers.enter(bus, "a1") == []
        assert _carriers.stand_in(bus, "a1") is None
    finally:
        stop()


def test_a_carrier_that_raises_does_not_keep_the_others_from_their_work() -> None:
    bus, broken, keeper = Bus(), Broken(), Keeper(span="theirs")
    stops = [carry(bus, broken), carry(bus, keeper)]
    try:
        assert _carriers.enter(bus, "a1") == [(keeper, "here")]
        assert _carriers.stand_in(bus, "a1") == "theirs"
        _carriers.leave(bus, [(keeper, "here"), (broken, "here")])
    finally:
        for stop in stops:
            stop()
    assert keeper.seen[-1] == ("leave", "here")
    assert bus.stats()["refused_values"] == pytest.approx(3)
