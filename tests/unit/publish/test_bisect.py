"""The search for the first bad nightly: right, and quick."""

from datetime import UTC, datetime, timedelta
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BisectError
from pipeline.model.ledger import Pruned, Published, State, Yanked, compacted
from pipeline.publish.bisect import (
    Search,
    Verdict,
    day_of,
    pruned_between,
    row_of,
    start,
    verdict_of,
)
from tests.factories import changed, later, make_event, make_nightly, make_revision, make_state

FIRST = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)


def nightly(day: int) -> Published:
    at = FIRST + timedelta(days=day)
    number = 100 + day
    revision = make_revision(number=number)
    name = f"pypy3.11-nightly-{at:%Y-%m-%d}-{number}-{revision.revision[:12]}"
    return changed(make_nightly(number, release=name), at=at)


ROW = tuple(nightly(day) for day in range(0, 20, 2))


def run(search: Search, verdicts: dict[int, Verdict]) -> tuple[Search, int]:
    """Search to the end; return what was found, and in how many tests."""
    tests = 0
    while (place := search.next()) is not None:
        tests += 1
        search = search.after(place, verdicts[place])
    return search, tests


@given(st.integers(min_value=2, max_value=5000), st.data())
def test_the_first_bad_one_is_found_in_as_few_tests_as_there_can_be(
    count: int, data: st.DataObject
) -> None:
    first_bad = data.draw(st.integers(min_value=1, max_value=count - 1))
    verdicts = {
        place: Verdict.BAD if place >= first_bad else Verdict.GOOD for place in range(count)
    }

    found, tests = run(Search(good=0, bad=count - 1), verdicts)

    assert found.suspects == (first_bad,)
    assert tests <= ceil(log2(count)) + 1


@given(st.integers(min_value=2, max_value=60), st.data())
def test_with_skipped_ones_the_first_bad_one_is_among_the_suspects(
    count: int, data: st.DataObject
) -> None:
    first_bad = data.draw(st.integers(min_value=1, max_value=count - 1))
    skipped = data.draw(st.sets(st.integers(min_value=1, max_value=count - 1)))
    verdicts = {
        place: Verdict.BAD if place >= first_bad else Verdict.GOOD for place in range(count)
    } | dict.fromkeys(skipped, Verdict.SKIP)

    found, tests = run(Search(good=0, bad=count - 1), verdicts)

    assert first_bad in found.suspects
    assert tests <= count
    assert set(found.suspects[:-1]) <= skipped


@given(st.integers(min_value=1, max_value=500), st.data())
def test_the_steps_that_are_left_are_those_that_are_taken_at_most(
    last: int, data: st.DataObject
) -> None:
    first_bad = data.draw(st.integers(min_value=1, max_value=last))
    verdicts = {
        place: Verdict.BAD if place >= first_bad else Verdict.GOOD for place in range(last + 1)
    }
    search = Search(good=0, bad=last)

    _, tests = run(search, verdicts)

    assert tests <= search.steps_left


def test_two_neighbours_need_no_test() -> None:
    assert Search(good=3, bad=4).next() is None


def test_what_is_next_to_a_skipped_middle_is_tried() -> None:
    search = Search(good=0, bad=10).after(5, Verdict.SKIP)

    assert search.next() == 4


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0, Verdict.GOOD),
        (1, Verdict.BAD),
        (124, Verdict.BAD),
        (125, Verdict.SKIP),
        (126, Verdict.BAD),
        (127, Verdict.BAD),
        (128, None),
        (255, None),
        (-11, None),
    ],
)
def test_exit_statuses_mean_what_they_mean_to_git(status: int, verdict: Verdict | None) -> None:
    assert verdict_of(status) == verdict


def test_the_row_is_in_the_order_of_the_numbers() -> None:
    state = make_state(*reversed(ROW))

    row = row_of(state, "pypy3.11", "linux-x86_64")

    assert [event.source.number for event in row] == sorted(100 + day for day in range(0, 20, 2))


def test_pruned_ones_are_skipped_over_and_yanked_ones_are_not() -> None:
    state = make_state(*ROW, later(Pruned, ROW[4]), later(Yanked, ROW[5]))

    row = row_of(state, "pypy3.11", "linux-x86_64")

    assert [event.release for event in row] == [
        event.release for place, event in enumerate(ROW) if place != 4
    ]
    assert pruned_between(state, row, Search(good=2, bad=6)) == 1
    assert pruned_between(state, row, Search(good=5, bad=8)) == 0


def test_nightlies_whose_files_the_state_has_no_more_are_in_the_row() -> None:
    state = compacted(make_state(*(nightly(day) for day in range(40))))

    row = row_of(state, "pypy3.11", "linux-x86_64")

    assert [bool(event.files) for event in row] == [False] * 10 + [True] * 30


def test_releases_and_other_interpreters_and_platforms_are_not_in_the_row() -> None:
    elsewhere = make_nightly(300, platforms=("linux-aarch64",))
    state = make_state(make_event(), make_nightly(7, "pypy2.7"), ROW[0], elsewhere)

    assert len(row_of(state, "pypy3.11", "linux-x86_64")) == 1


def test_an_interpreter_without_nightlies_is_refused() -> None:
    with pytest.raises(BisectError, match=r"pypy3\.1: no nightly .* Did you mean 'pypy3\.11'"):
        row_of(make_state(*ROW), "pypy3.1", "linux-x86_64")
    with pytest.raises(BisectError, match="no nightly for linux-x86_64"):
        row_of(State(), "pypy3.11", "linux-x86_64")


@pytest.mark.parametrize(
    ("good", "bad", "places"),
    [
        ("2026-09-03", "2026-09-09", (1, 4)),
        ("2026-09-04", "2026-09-08", (1, 4)),
        (ROW[1].release, "2026-09-19", (1, 9)),
        ("2026-09-01", ROW[3].release, (0, 3)),
    ],
    ids=["days of nightlies", "days without", "a name and a day", "a day and a name"],
)
def test_the_ends_are_days_or_names(good: str, bad: str, places: tuple[int, int]) -> None:
    search = start(ROW, good, bad)

    assert (search.good, search.bad) == places


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        ("2026-08-31", "2026-09-09", "--good 2026-08-31: the oldest nightly"),
        ("2026-09-03", "2026-11-01", "--bad 2026-11-01: the newest nightly"),
        ("2026-09-09", "2026-09-03", "which is not newer"),
        ("2026-09-03", "2026-09-02", "which is not newer"),
        ("2026-02-30", "2026-09-03", "there is no such day"),
        ("pypy3.11-nightly-2026-09-02", "2026-09-03", "Did you mean 'pypy3"),
    ],
    ids=["too old", "too new", "swapped", "one and the same", "no day", "no name"],
)
def test_ends_between_which_nothing_is_are_refused(good: str, bad: str, reason: str) -> None:
    with pytest.raises(BisectError, match=reason):
        start(ROW, good, bad)


def test_a_nightly_is_of_the_day_in_its_name() -> None:
    """It may be published after midnight."""
    late = changed(ROW[0], at=ROW[0].at + timedelta(days=1))

    assert f"{day_of(late)}" == "2026-09-01"


def test_a_nightly_with_another_name_is_of_the_day_of_its_publication() -> None:
    event = changed(ROW[0], release="pypy-c-jit-188288-194f9f44b505")

    assert f"{day_of(event)}" == "2026-09-01"
