"""Which nightlies stay: never a release, never what an index leads to, and boundedly many."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.configs import RetentionConfig
from pipeline.model.ledger import (
    Event,
    Promoted,
    Pruned,
    Published,
    State,
    Unyanked,
    Yanked,
    compacted,
    replay,
)
from pipeline.publish.projections import projections
from pipeline.publish.retention import Reason, judgements, to_prune
from pipeline.publish.view import Pointer
from tests.factories import later, make_event, make_nightly, make_revision, make_view

START: Final = datetime(2026, 1, 5, 3, 0, tzinfo=UTC)  # a Monday
POLICY: Final = RetentionConfig(days=30, weeks=52)
YEARS: Final = 3 * 365


@cache
def nightly(day: int, interpreter: str = "pypy3.11", *, staged: bool = False) -> Published:
    """Return the nightly of a day after START."""
    at = START + timedelta(days=day)
    number = 100_000 + day
    revision = make_revision(number=number)
    name = f"{interpreter}-nightly-{at:%Y-%m-%d}-{number}-{revision.revision[:12]}"
    return make_nightly(number, interpreter, at=at, release=name, staged=staged)


def state_of(*events: Event) -> State:
    numbered = (
        event.model_copy(update={"sequence": place}) for place, event in enumerate(events, start=1)
    )
    return replay(State(), numbered)


def after(days: int) -> datetime:
    return START + timedelta(days=days)


def pruned_days(state: State, policy: RetentionConfig, now: datetime) -> list[int]:
    return [(item.published.at - START).days for item in to_prune(state, policy, now)]


def test_all_of_the_last_days_stay() -> None:
    state = state_of(*(nightly(day) for day in range(30)))

    assert pruned_days(state, POLICY, after(29)) == []


def test_of_an_older_week_its_newest_stays() -> None:
    state = state_of(*(nightly(day) for day in range(60)))

    gone = pruned_days(state, POLICY, after(59))

    sundays = [6, 13, 20, 27]
    assert gone == [day for day in range(30) if day not in sundays]


def test_weeks_are_kept_for_so_long_only() -> None:
    policy = RetentionConfig(days=7, weeks=2)
    state = state_of(*(nightly(day) for day in range(0, 71, 7)))

    assert pruned_days(state, policy, after(70)) == [0, 7, 14, 21, 28, 35, 42, 49]


def test_of_a_week_whose_newest_was_yanked_the_newest_good_one_stays() -> None:
    events = [nightly(day) for day in (0, 3, 6, 40)]
    state = state_of(*events, later(Yanked, events[2]))

    assert pruned_days(state, POLICY, after(70)) == [0, 6]


def test_of_a_week_of_which_all_were_yanked_one_stays() -> None:
    """A yank may be taken back."""
    events = [nightly(day) for day in (0, 3, 40)]
    state = state_of(*events, *(later(Yanked, event) for event in events[:2]))

    assert pruned_days(state, POLICY, after(70)) == [0]


def test_each_interpreter_has_its_own_weeks() -> None:
    state = state_of(
        *(nightly(day, name) for day in (0, 6, 40) for name in ("pypy3.11", "pypy2.7"))
    )

    gone = to_prune(state, POLICY, after(70))

    assert [item.published.interpreter for item in gone] == ["pypy3.11", "pypy2.7"]


def test_a_week_that_is_not_over_stays_whole() -> None:
    """Else what stands for it would change when the next nightly comes."""
    policy = RetentionConfig(days=1, weeks=52)
    state = state_of(*(nightly(day) for day in range(14)))

    assert pruned_days(state, policy, after(11)) == [0, 1, 2, 3, 4, 5]


def test_the_newest_stays_however_old_it_is() -> None:
    state = state_of(nightly(0), nightly(1, "pypy2.7"))

    judged = judgements(state, POLICY, after(YEARS))

    assert [item.reason for item in judged] == [Reason.NEWEST, Reason.NEWEST]


def test_when_the_newest_is_yanked_the_one_before_stays() -> None:
    """It is what clients get now."""
    events = [nightly(0), nightly(100), nightly(200)]
    state = state_of(*events, later(Yanked, events[2]))

    assert pruned_days(state, RetentionConfig(days=1, weeks=0), after(300)) == [0, 200]


def test_where_the_state_has_no_files_of_the_newest_the_newest_that_indexes_know_stays_too() -> (
    None
):
    """Of a nightly with a low number that was published late it may."""
    slim = nightly(200).model_copy(update={"files": ()})
    state = state_of(nightly(0), nightly(100), slim)

    assert pruned_days(state, RetentionConfig(days=1, weeks=0), after(900)) == [0]


def test_what_the_channel_names_stays() -> None:
    kept = nightly(0)
    state = state_of(kept, nightly(1), nightly(900))
    policy = RetentionConfig(days=1, weeks=0, keep=(kept.release,))

    assert pruned_days(state, policy, after(1000)) == [1]


def test_what_was_staged_or_promoted_stays() -> None:
    staged, promoted = nightly(0, staged=True), nightly(1, staged=True)
    state = state_of(staged, promoted, later(Promoted, promoted), nightly(2), nightly(900))

    assert pruned_days(state, RetentionConfig(days=1, weeks=0), after(1000)) == [2]


def test_a_release_is_no_matter_of_retention() -> None:
    state = state_of(make_event(at=START), nightly(900))

    judged = judgements(state, RetentionConfig(days=1, weeks=0), after(5000))

    assert [item.release.published.channel for item in judged] == ["nightly"]


def test_what_is_pruned_is_not_pruned_again() -> None:
    old = nightly(0)
    state = state_of(old, later(Pruned, old), nightly(900))

    assert to_prune(state, RetentionConfig(days=1, weeks=0), after(1000)) == ()


@pytest.mark.parametrize("days", [1, 7, 30])
def test_nothing_newer_than_the_days_goes(days: int) -> None:
    state = state_of(*(nightly(day) for day in range(100)))

    gone = pruned_days(state, RetentionConfig(days=days, weeks=0), after(99))

    assert max(gone) <= 99 - days


# --- three years ------------------------------------------------------------------------------

Night = tuple[frozenset[str], str | None]
INTERPRETERS: Final = ("pypy2.7", "pypy3.11", "pypy3.12")


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Night], RetentionConfig]:
    """Which interpreters get a nightly on which day, and whether one is yanked or unyanked."""
    often = draw(st.sampled_from([0.1, 0.5, 0.95]))
    random = draw(st.randoms(use_true_random=False))
    length = draw(st.integers(min_value=1, max_value=YEARS))
    nights: list[Night] = [
        (
            frozenset(name for name in INTERPRETERS if random.random() < often),
            random.choice(["yank", "unyank", "yank newest", None, None, None]),
        )
        for _ in range(length)
    ]
    policy = RetentionConfig(
        days=draw(st.integers(min_value=1, max_value=40)),
        weeks=draw(st.integers(min_value=0, max_value=60)),
    )
    return nights, policy


def grown(state: State, *events: Event) -> State:
    numbered = (
        event.model_copy(update={"sequence": place})
        for place, event in enumerate(events, start=state.sequence + 1)
    )
    return replay(state, numbered)


def what_a_night_brings(state: State, day: int, night: Night, *, yanks: bool) -> Iterator[Event]:
    names, change = night
    yield from (nightly(day, name) for name in sorted(names))
    live = [item for item in state.releases if item.pruned is None]
    if not yanks or not live or change is None:
        return
    picked = live[-1] if change == "yank newest" else live[(day * 7919) % len(live)]
    if change == "unyank" and picked.yanked is not None:
        yield later(Unyanked, picked.published, at=after(day))
    elif change != "unyank" and picked.yanked is None:
        yield later(Yanked, picked.published, at=after(day))


def referenced(state: State) -> set[str]:
    """Return the releases that pointers and the indexes of the newest lead to."""
    view = make_view(state=state)
    found = set()
    for key, item in projections(view).items():
        name = key.rsplit("/", 1)[-1]
        if isinstance(item, Pointer):
            found.add(item.target.split("/")[1])
        elif name in {"versions.json", "uv.json", "latest.json"}:
            text = item.data.decode()
            found |= {known.name for known in state.releases if f"/{known.name}/" in text}
    return found


@settings(max_examples=8)
@given(histories(), st.data())
def test_three_years_of_nightlies_pruned_every_night(
    history: tuple[list[Night], RetentionConfig], data: st.DataObject
) -> None:
    """No release goes, nothing that is referenced, and there are never too many."""
    nights, policy = history
    release = make_event(at=START)
    state = grown(State(), release)
    keep: list[str] = []
    bound = len(INTERPRETERS) * (policy.days + 7 + policy.weeks + 2 + 2)
    checked = data.draw(st.integers(min_value=0, max_value=len(nights) - 1))
    for day, night in enumerate(nights):
        state = grown(state, *what_a_night_brings(state, day, night, yanks=True))
        if day % 100 == 50 and len(state.releases) > 1:
            keep.append(state.releases[-1].name)
        policy = policy.model_copy(update={"keep": tuple(keep)})
        gone = to_prune(state, policy, after(day))
        names = {item.name for item in gone}
        assert release.release not in names
        assert names.isdisjoint(keep)
        if gone and (day == checked or day % 200 == 0):
            assert names.isdisjoint(referenced(state))
        state = grown(state, *(later(Pruned, item.published, at=after(day)) for item in gone))
        if day % 60 == 59:
            state = compacted(state)
        nightlies = [
            item
            for item in state.releases
            if item.pruned is None and item.published.channel == "nightly"
        ]
        assert len(nightlies) - len(keep) <= bound
    assert to_prune(state, policy, after(len(nights) - 1)) == ()
    assert state.releases[0].pruned is None


@settings(max_examples=8)
@given(histories())
def test_pruning_every_night_leaves_what_pruning_once_leaves(
    history: tuple[list[Night], RetentionConfig],
) -> None:
    """So what was kept for its week is kept as long as weeks are."""
    nights, policy = history
    every = once = State()
    for day, night in enumerate(nights):
        new = tuple(what_a_night_brings(every, day, night, yanks=False))
        every, once = grown(every, *new), grown(once, *new)
        gone = to_prune(every, policy, after(day))
        every = grown(every, *(later(Pruned, item.published, at=after(day)) for item in gone))

    kept_once = {
        item.release.name
        for item in judgements(once, policy, after(len(nights) - 1))
        if item.reason is not None
    }
    assert {item.name for item in every.releases if item.pruned is None} == kept_once
