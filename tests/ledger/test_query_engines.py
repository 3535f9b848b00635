"""The same questions to every kind of ledger, which have the same answers."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from llmevents import OptionError
from llmevents.ledger import Record
from llmevents.ledger._query import (
    ALL,
    GROUPINGS,
    SUMS,
    Failure,
    Filter,
    Group,
    Grouping,
    Order,
    Unique,
    compare,
    top,
)
from tests.data import TRACE, needs_data
from tests.ledger.engines import Ledger, assert_equal_answers, ledger
from tests.ledger.plain_engine import PlainEngine, true_quantile
from tests.ledger.sqlstores import made


KINDS = ["plain", "jsonl", "sqlite", "postgresql"]

START = datetime(2026, 11, 20, tzinfo=timezone.utc)

DAY = timedelta(days=1)

MICROSECOND = timedelta(microseconds=1)

MOMENTS = [
    START + day * DAY + time
    for day in range(3)
    for time in (timedelta(0), MICROSECOND, timedelta(hours=12), DAY - MICROSECOND)
]
"""Ends of days, what is beside these, and noon."""

AWKWARD = [
    "",
    "a'b\"c",
    "\u2028\u0085",
    "\U0001f600",
    "\uffff",
    "100%_*?[a-z]{1}\\",
    "'; DROP TABLE calls; --",
    "\u00e9",
    "e\u0301",
    "x" * 400,
    ":name %(name)s %s ?",
]
"""Texts that every kind of ledger keeps as they are."""

ORDERS: list[Order] = list(get_args(Order))


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.fixture(scope="module", params=KINDS)
def books(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A ledger of each kind, which many tests fill anew."""
    with ledger(request.param, tmp_path_factory.mktemp("books")) as made:
        yield made


texts = st.sampled_from(["a", "b", *AWKWARD])
counts = st.integers(0, 3) | st.integers(2**53 - 1, 2**63 - 1)
choices: dict[str, st.SearchStrategy[Any]] = {
    "event": st.sampled_from(["llm.chat", "llm.ocr", "llm.task", ""]),
    "timestamp": st.sampled_from(MOMENTS).map(iso),
    "status": st.sampled_from(["success", "error", "timeout", "cancelled", "?", ""]),
    "error_type": texts,
    "http_status": st.sampled_from([429, 500]),
    "stream": st.booleans(),
    "temperature": st.sampled_from([0.5, 1.0]),
    "features": st.just(["tools"]),
    "metadata": st.just({"deep": ["1", {}]}),
    **{
        column: texts
        for column in GROUPINGS.values()
        if column not in ("event", "timestamp", "status")
    },
    **dict.fromkeys((*SUMS, "duration_ns"), counts),
}
records_of = st.lists(
    st.builds(
        lambda number, facts: {**made(number), **facts},
        st.integers(0, 20),
        st.fixed_dictionaries({}, optional=choices),
    ),
    max_size=15,
    unique_by=lambda record: record["id"],
)
moments = st.none() | st.sampled_from(MOMENTS)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """Filters of up to two conditions beside the window."""
    matched: dict[str, Any] = {}
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        name = draw(st.sampled_from([name for name in GROUPINGS if name != "day"]))
        matched[name] = draw(choices[GROUPINGS[name]].filter(bool))
    return Filter(since=draw(moments), until=draw(moments), **matched)


questions = st.fixed_dictionaries(
    {
        "where": st.just(ALL) | filters(),
        "order": st.sampled_from(ORDERS),
        "limit": st.none() | st.integers(1, 3),
        "groupings": st.lists(st.sampled_from(list(GROUPINGS)), max_size=2),
    }
)


@pytest.mark.parametrize(
    ("kind", "examples"), [("jsonl", 5), ("sqlite", 20), ("postgresql", 3)]
)
def test_answers_are_those_that_are_worked_out_the_long_way(
    kind: str, examples: int, tmp_path: Path
) -> None:
    with ledger(kind, tmp_path) as books:

        @settings(max_examples=examples, phases=[Phase.generate, Phase.target])
        @given(records=records_of, asked=st.lists(questions, min_size=1, max_size=3))
        def compare_answers(records: list[Record], asked: list[dict[str, Any]]) -> None:
            engine, plain = books.fill(records), PlainEngine(records)
            for question in asked:
                assert_equal_answers(engine, plain, **question)

        compare_answers()


@pytest.mark.parametrize("grouping", list(GROUPINGS))
def test_calls_are_grouped_by_each_of_what_they_state(
    books: Ledger, grouping: Grouping
) -> None:
    column = GROUPINGS[grouping]
    days = [iso(START), iso(START + MICROSECOND), iso(START + 2 * DAY)]
    values = days if grouping == "day" else ["x", "y", "llm.ocr"]
    records = [
        made(number) | {"cost_nano_usd": number, column: values[number % 3]}
        for number in range(10)
    ]
    records.append(made("task", event="llm.task"))
    if column not in made(0):
        records.append(made("unknown"))
    engine, plain = books.fill(records), PlainEngine(records)
    expected = {"day": 2, "event": 3, "status": 3}.get(grouping, 4)
    assert len(engine.by(grouping)) == expected
    for order in ORDERS[-2:]:
        found = engine.by(grouping, order=order)
        assert found == plain.by(grouping, order=order)
        assert engine.by(grouping, order=order, limit=2) == found[:2]


def test_every_text_is_found_by_itself_alone(books: Ledger) -> None:
    engine = books.fill([made(n, model=text) for n, text in enumerate(AWKWARD)])
    for number, text in list(enumerate(AWKWARD))[1:]:
        assert engine.summary(Filter(model=text)).calls == 1
        assert [record["id"] for record in engine.records(Filter(model=text))] == [
            str(number)
        ]
    by_key = [*sorted(AWKWARD[1:]), None]
    assert [group.key for group in engine.by("model", order="key")] == by_key
    first = engine.by("model", order="key", limit=3)
    assert [group.key for group in first] == by_key[:3]


def test_an_empty_text_says_nothing(books: Ledger) -> None:
    names = ["model", "user_id", "session_id", "error_type"]
    empty = dict.fromkeys(names, "") | {"status": "error"}
    engine = books.fill([made(1, **empty), made(2)])
    assert [group.key for group in engine.by("model")] == [None]
    assert [group.totals.calls for group in engine.by("model", limit=1)] == [2]
    assert engine.sessions() == []
    assert set(engine.unique()) == {0}
    assert engine.errors() == [Failure(None, None, None, None, 1)]


WINDOWS = [
    (0, 1),
    (0, 4),
    (0, 5),
    (1, 4),
    (1, 9),
    (2, 3),
    (3, 4),
    (2, 8),
    (5, 5),
    (9, 2),
    (None, 6),
    (6, None),
    (8, None),
]
"""First moment, and the first one behind, by their places."""


def test_a_window_holds_its_first_microsecond_and_not_its_last(books: Ledger) -> None:
    """Whether its ends are those of days or not."""
    records = [
        made(number, duration_ns=number, user_id=str(number % 2))
        | {"timestamp": iso(moment)}
        for number, moment in enumerate(MOMENTS)
    ]
    engine, plain = books.fill(records), PlainEngine(records)
    zone = timezone(timedelta(hours=5, minutes=30))
    for since, until in WINDOWS:
        where = Filter(
            since=None if since is None else MOMENTS[since].astimezone(zone),
            until=None if until is None else MOMENTS[until],
        )
        meant = range(len(MOMENTS))[since:until]
        assert engine.summary(where).calls == len(meant)
        assert [int(record["id"]) for record in engine.each(where)] == list(meant)
        assert engine.unique(where) == plain.unique(where)
        expected = plain.by("day", where, order="key")
        assert engine.by("day", where, order="key") == expected


def test_sums_are_exact_beyond_what_floats_and_64_bits_hold(books: Ledger) -> None:
    """On one day, over days, and of sessions; beside days with less."""
    most = 2**63 - 1
    large = {"cost_nano_usd": most, "duration_ns": most, "output_tokens": most - 1}
    records = [
        made(n, f"2026-11-{20 + n % 3}", session_id="s", model=str(n % 2), **large)
        for n in range(6)
    ]
    records += [made(f"small {n}", f"2026-12-0{n}", duration_ns=1) for n in range(1, 9)]
    records += [
        made(f"{n} alone", f"2027-01-0{n}", cost_nano_usd=2**62, model="half")
        for n in range(1, 9)
    ]
    engine = books.fill(records)
    totals = engine.summary()
    assert totals.cost_nano_usd == 6 * most + 2**65
    assert totals.duration_ns == 6 * most + 8
    assert (totals.rated_output_tokens, totals.rated_duration_ns) == (
        6 * (most - 1),
        6 * most,
    )
    assert engine.sessions()[0].cost_nano_usd == 6 * most
    half = engine.summary(Filter(model="half"))
    assert half.cost_nano_usd == 2**65
    assert half.duration_ns is None
    assert [group.key for group in engine.by("model", limit=2)] == ["half", "0"]
    grouped = PlainEngine(records).by("day", Filter(model="half"))
    assert engine.by("day", Filter(model="half")) == grouped


@settings(max_examples=5, phases=[Phase.generate])
@given(durations=st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_quantiles_are_within_one_per_cent_of_roll_ups_and_of_records(
    books: Ledger, durations: list[int]
) -> None:
    engine = books.fill(
        [made(n, duration_ns=value) for n, value in enumerate(durations)]
    )
    totals = engine.summary()
    assert totals == engine.summary(Filter(status="success", event="llm.chat"))
    assert totals.quantile_ns(0.5) == totals.p50_ns
    for q in (0.5, 0.95, 0.99):
        found = totals.quantile_ns(q)
        assert found == pytest.approx(true_quantile(durations, q), rel=0.01, abs=0.5)


def test_those_that_fail_most_come_first(books: Ledger) -> None:
    """Of calls that all took as long, more than a byte can count."""
    records = [
        made(
            f"{n:03d}",
            model=f"m{n % 3}",
            duration_ns=7,
            status=["timeout", "success", "error", "error"][n % 4 if n % 3 else 1],
        )
        for n in range(800)
    ]
    engine, plain = books.fill(records), PlainEngine(records)
    found = engine.by("model", order="failures")
    assert found == plain.by("model", order="failures")
    assert engine.by("model", order="failures", limit=1) == found[:1]
    assert found[2].key == "m0"
    assert found[2].totals.failures == 0
    assert engine.summary().durations.count == 800


def test_tasks_are_no_calls_unless_they_are_asked_for(books: Ledger) -> None:
    engine = books.fill(
        [
            made(1, event="llm.task", duration_ns=9, user_id="u", cost_nano_usd=2**62),
            made(2, event="llm.chat", duration_ns=1, user_id="u"),
            made(3, event="llm.task", cost_nano_usd=2**62),
        ]
    )
    tasks = Filter(event="llm.task")
    assert engine.summary().duration_ns == 1
    assert engine.summary(tasks).duration_ns == 9
    assert engine.summary(tasks).cost_nano_usd == 2**63
    assert [group.key for group in engine.by("event")] == ["llm.chat"]
    assert [group.key for group in engine.by("event", tasks)] == ["llm.task"]
    assert engine.by("user", tasks, order="key")[0].totals.calls == 1
    assert engine.unique() == Unique(1, 0, 0, 0, 0, 0, 0)
    assert engine.unique(tasks).users == 1


def test_a_ledger_without_records_is_empty(books: Ledger) -> None:
    engine, plain = books.fill([]), PlainEngine([])
    assert_equal_answers(engine, plain, groupings=["user"], limit=1)
    assert_equal_answers(engine, plain, Filter(user="nobody"), groupings=["day"])
    assert engine.damage() == (0, ())


def test_records_come_as_they_were_the_latest_first_or_the_oldest(
    books: Ledger,
) -> None:
    records = [
        made(number, f"2026-11-{day}", stream=True, metadata={"nested": [1]})
        for number, day in zip("acbd", (20, 21, 21, 22), strict=True)
    ]
    engine = books.fill(records)
    assert list(engine.each()) == [records[n] for n in (0, 2, 1, 3)]
    assert engine.records() == [records[n] for n in (3, 1, 2, 0)]
    assert engine.records(limit=2) == engine.records()[:2]
    first = engine.each()
    assert next(first) == records[0]


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda engine: engine.by("colour"), "grouping to be 'model' or.*got 'colour'"),
        (lambda engine: engine.by("model", order="x; y"), "order to be.*got 'x; y'"),
        (lambda engine: engine.by("model", limit=0), "limit to be an integer of 1"),
        (lambda engine: engine.errors(limit=-1), "limit to be an integer of 1"),
        (lambda engine: engine.sessions(limit=True), "limit to be an integer of 1"),
        (lambda engine: engine.records(limit=0), "limit to be an integer of 1"),
        (lambda engine: top(engine, limit=0), "limit to be an integer of 1"),
    ],
    ids=["grouping", "order", "by", "errors", "sessions", "records", "top"],
)
@pytest.mark.parametrize("books", KINDS[1:], indirect=True)
def test_an_impossible_question_is_refused(
    ask: Callable[[Any], object], complaint: str, books: Ledger
) -> None:
    with pytest.raises(OptionError, match=complaint):
        ask(books.fill([]))


def test_the_dearest_models_and_two_periods(books: Ledger) -> None:
    costs = [("a", 1), ("b", 5), ("c", 3), ("c", 3)]
    engine = books.fill(
        [
            made(day, f"2026-11-2{day}", model=model, cost_nano_usd=cost)
            for day, (model, cost) in enumerate(costs)
        ]
    )
    assert [group.key for group in top(engine, limit=2)] == ["c", "b"]
    half = START + 2 * DAY
    compared = compare(engine, Filter(until=half), Filter(since=half))
    assert compared.change("cost_nano_usd") == 0
    assert compared.ratio("calls") == 1.0


def test_sessions_of_a_user_come_with_all_that_they_asked(books: Ledger) -> None:
    engine = books.fill(
        [
            made(1, "2026-11-20", session_id="s", user_id="u", provider="b"),
            made(2, "2026-11-21", session_id="s", user_id="u", provider="a", model="m"),
            made(3, "2026-11-22", session_id="other", user_id="v"),
            made(4, "2026-11-21", session_id="r", user_id="u", status="timeout"),
        ]
    )
    found = engine.sessions(Filter(user="u"))
    assert [session.session for session in found] == ["r", "s"]
    assert found[0].failures == 1
    assert found[1].providers == ("a", "b")
    assert (found[1].first or "")[:10] == "2026-11-20"
    assert engine.sessions(Filter(user="u"), limit=1) == found[:1]


def traced() -> Iterator[Record]:
    """The calls of a trace of Azure, of users, models and so on that we invent."""
    with gzip.open(TRACE, "rt", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file)):
            asked, answered = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            moment = row["TIMESTAMP"].replace(" ", "T")
            yield made(
                f"{number:05d}",
                event="llm.chat" if number % 7 else "llm.completion",
                status=("success", "success", "error", "timeout")[number % 4],
                operation="chat" if number % 7 else "text_completion",
                provider=("openai", "azure.ai.openai")[number % 2],
                model=f"model-{number % 5}",
                use_case=f"case-{number % 3}",
                user_id=f"user-{number * number % 101}",
                session_id=f"session-{number // 9}",
                organization_id=f"organization-{number % 11}",
                source_id=f"source-{number % 13}" if number % 3 else "",
                task_id=f"task-{number // 4}",
                input_tokens=asked,
                output_tokens=answered,
                total_tokens=asked + answered,
                cost_nano_usd=asked * 150 + answered * 600,
                duration_ns=answered * 20_000_000 + number,
            ) | {"timestamp": f"{moment[:26]}Z"}


@needs_data
def test_a_recorded_trace_comes_to_the_same_in_files_and_in_a_database(
    tmp_path: Path,
) -> None:
    records = list(traced())
    with ledger("jsonl", tmp_path) as files, ledger("sqlite", tmp_path) as database:
        file, sql = files.fill(records), database.fill(records)
        totals = sql.summary()
        assert file.summary() == totals
        known = (totals.calls, totals.input_tokens, totals.output_tokens)
        assert known == (19_366, 22_361_870, 4_088_665)
        for grouping in GROUPINGS:
            groups = sql.by(grouping)
            assert file.by(grouping) == groups
            assert _together(groups) == known
        moment = datetime(2023, 11, 16, 18, 30, tzinfo=timezone.utc)
        where = Filter(since=moment, user="user-4")
        assert_equal_answers(file, sql, where, groupings=["model", "day"])


def _together(groups: list[Group]) -> tuple[int, int, int]:
    totals = [group.totals for group in groups]
    return (
        sum(one.calls for one in totals),
        sum(one.input_tokens or 0 for one in totals),
        sum(one.output_tokens or 0 for one in totals),
    )
