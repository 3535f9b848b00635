"""The parts that lines and packets are made of, with any input."""

from __future__ import annotations

import re
from decimal import Decimal
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmevents import Bus
from llmevents.metrics import ExponentialHistogram, Histogram, MetricStore, Summary
from llmevents_statsd._buckets import (
    Bucket,
    Placed,
    bounds,
    bucket_counts,
    place,
    slices,
    values_per_line,
)
from llmevents_statsd._names import clean_key, clean_name, segments, suffix
from llmevents_statsd._numbers import countable, difference, exact, rate, rounded, total
from llmevents_statsd._packets import fill
from llmevents_statsd._series import Group


FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


# --- Numbers -----------------------------------------------------------------------


@given(FINITE)
def test_a_float_is_written_so_that_it_is_read_back(value: float) -> None:
    text = str(exact(value))
    assert PLAIN.fullmatch(text)
    assert float(text) == value


@given(st.integers(-(2**200), 2**200))
def test_an_integer_is_written_in_full(value: int) -> None:
    assert str(exact(value)) == str(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.0, "0"),
        (1e22, "1" + "0" * 22),
        (1e-7, "0.0000001"),
        (12.0, "12"),
        (-2.5, "-2.5"),
    ],
)
def test_numbers_are_written_like_this(value: float, text: str) -> None:
    assert str(exact(value)) == text


@pytest.mark.parametrize("value", [inf, -inf, float("nan"), 2**1023, 10**400])
def test_what_no_float_can_hold_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="expected a finite number"):
        exact(value)


@given(FINITE, FINITE)
def test_differences_are_exact(one: float, other: float) -> None:
    delta = difference(exact(one), exact(other))
    assert total(exact(other), delta) == Decimal(repr(one))
    assert PLAIN.fullmatch(str(delta))


@given(FINITE)
def test_a_rounded_value_is_off_by_a_trillionth(value: float) -> None:
    assert float(str(rounded(value))) == pytest.approx(value, rel=1e-11)


@given(st.integers(1, 10**12))
def test_a_server_makes_the_count_of_the_rate(count: int) -> None:
    part = countable(count)
    assert 0.9 * count <= part <= count
    assert re.fullmatch(r"1|0\.[0-9]+", rate(part))
    assert 1 / float(rate(part)) == part


# --- Names -------------------------------------------------------------------------

ANY_TEXT = st.text() | st.sampled_from(
    [
        "a:1|c",
        "x\ny:1|c",
        "a|@0.1",
        "|#b:2,c=d",
        "\ud800",
        "\0",
        "\u2028",
        "é",
        "x" * 10**6,
    ]
)


@given(ANY_TEXT)
def test_no_name_ends_anything(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.-]{0,200}", clean_name(text), re.ASCII)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", clean_key(text), re.ASCII)


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=5))
def test_no_tag_ends_anything(pairs: list[tuple[str, str]]) -> None:
    tags = dict(pairs)
    plain = segments(tags, tags)
    assert re.fullmatch(r"(\.[A-Za-z0-9_-]{1,128})*", plain, re.ASCII)
    assert plain.count(".") == len(tags)
    kept = sum(1 for key, value in tags.items() if key and value)
    fields = suffix(tags)
    assert fields.count(":") == kept
    assert fields.count("#") == min(kept, 1)
    assert re.fullmatch(r"(\|#[A-Za-z0-9_./:,-]+)?", fields, re.ASCII)


def test_a_missing_tag_is_none_in_a_name_and_left_out_in_a_suffix() -> None:
    assert segments(("a", "b"), {"b": ""}) == ".none.none"
    assert not suffix({"b": ""})
    assert suffix({"b": "x/y", "a": "1"}) == "|#b:x/y,a:1"


# --- Buckets -----------------------------------------------------------------------

MEASURED = st.lists(
    st.floats(0.0, 1e6) | st.integers(0, 10**6), min_size=1, max_size=60
)


def placed(value: Histogram | ExponentialHistogram) -> list[tuple[int, float]]:
    buckets = [
        Bucket(key, count, *bounds(value, key, 1.0))
        for key, count in bucket_counts(value).items()
    ]
    values, _ = place(buckets, value.sum)
    return [
        (bucket.values, number) for bucket, number in zip(buckets, values, strict=True)
    ]


def histogram(values: list[float], edges: tuple[float, ...]) -> Histogram:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[sum(value > edge for edge in edges)] += 1
    return Histogram(edges, tuple(counts), sum(values))


@given(MEASURED)
def test_values_come_to_the_sum_and_lie_in_their_buckets(values: list[float]) -> None:
    edges = (1.0, 10.0, 100.0, 1_000.0)
    distribution = histogram(values, edges)
    sent = placed(distribution)
    assert sum(count * value for count, value in sent) == pytest.approx(sum(values))
    again = [value for count, value in sent for _ in range(count)]
    slack = nextafter(1.0, 2.0)
    for mine, true in zip(sorted(again), sorted(values), strict=True):
        low, high = bounds(distribution, sum(true > edge for edge in edges), 1.0)
        assert low / slack <= mine <= high * slack or mine == pytest.approx(true)


@given(st.floats(1e-9, 1e15), st.sampled_from([1, 0, -1]), st.integers(1, 20))
def test_equal_values_of_a_summary_come_out_as_they_were(
    size: float, sign: int, count: int
) -> None:
    bus, store = Bus(), MetricStore([Summary("a.b.s")])
    store.attach(bus)
    for _ in range(count):
        bus.execute("a.b", {"s": size * sign})
    (series,) = store.snapshot().families["a.b.s"].series
    assert isinstance(series.raw, ExponentialHistogram)
    ((values, sent),) = placed(series.raw)
    assert values == count
    assert sent == pytest.approx(size * sign)


@pytest.mark.parametrize(
    ("values", "edges", "sent"),
    [
        ([5.0], (10.0,), [(1, 5.0)]),
        ([50.0], (10.0,), [(1, 50.0)]),
        ([50.0, 70.0], (10.0,), [(2, 60.0)]),
        ([5.0, 55.0], (10.0,), [(1, 5.0), (1, 55.0)]),
        ([1.0, 10.5], (10.0,), [(1, 1.5), (1, 10.0)]),
        ([-5.0], (-10.0, 0.0), [(1, -5.0)]),
        ([-50.0], (-10.0, 0.0), [(1, -10.0)]),
        ([-50.0], (10.0,), [(1, 0.0)]),
    ],
)
def test_values_are_placed_like_this(
    values: list[float], edges: tuple[float, ...], sent: list[tuple[int, float]]
) -> None:
    found = placed(histogram(values, edges))
    assert [count for count, _ in found] == [count for count, _ in sent]
    assert [value for _, value in found] == pytest.approx([value for _, value in sent])


COUNTS = st.lists(st.integers(1, 10**4), max_size=400)


@given(COUNTS, st.none() | st.floats(0.001, 1.0))
def test_lines_stand_for_all_values_and_are_not_too_many(
    counts: list[int], sample_rate: float | None
) -> None:
    found = [Placed(key, count, key / 7) for key, count in enumerate(counts)]
    per_line = values_per_line(sum(counts), sample_rate)
    lines = list(slices(found, per_line))
    taken = [0] * len(counts)
    for line in lines:
        assert line.size == sum(count for _, count in line.buckets)
        assert 1 / float(rate(line.size)) == line.size
        for key, count in line.buckets:
            taken[key] += count
    assert taken == counts
    assert sum(line.size * line.value for line in lines) == pytest.approx(
        sum(each.values * each.value for each in found)
    )
    values = [line.value for line in lines]
    assert values == pytest.approx(sorted(values))
    if per_line is None:
        assert all(len(line.buckets) == 1 for line in lines)
    else:
        odd = [line for line in lines if line.size != per_line]
        assert sum(line.size for line in odd) < per_line
        assert len(lines) - len(odd) <= 100


# --- Packets -----------------------------------------------------------------------


@given(st.lists(st.integers(1, 64), max_size=200), st.integers(64, 200))
def test_a_packet_fits_and_could_not_have_taken_the_next_line(
    sizes: list[int], mtu: int
) -> None:
    noted: list[int] = []
    groups = [
        Group(b"x" * size, 1, lambda sign, number=number: noted.append(sign * number))  # type: ignore[misc]  # a default
        for number, size in enumerate(sizes)
    ]
    packets = list(fill(groups, mtu))
    lines = [packet.data.split(b"\n") for packet in packets]
    assert [len(line) for packet in lines for line in packet] == sizes
    assert [packet.lines for packet in packets] == [len(packet) for packet in lines]
    assert all(len(packet.data) <= mtu for packet in packets)
    for packet, following in zip(packets, lines[1:], strict=False):
        assert len(packet.data) + 1 + len(following[0]) > mtu
    for packet in packets:
        for change in packet.changes:
            change(1)
    assert noted == list(range(len(sizes)))
