"""The ledger's form, and what events add up to."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.model.base import canonical_json, pretty_json
from pipeline.model.ledger import (
    KEPT_WHOLE,
    Checkpoint,
    Event,
    Ledger,
    Promoted,
    Pruned,
    Published,
    Release,
    Segment,
    SignedLedger,
    State,
    Unyanked,
    Yanked,
    compacted,
    last_nightly,
    newest_nightly,
    replay,
)
from tests.factories import (
    FINGERPRINT,
    E,
    changed,
    digest,
    later,
    make_event,
    make_ledger,
    make_nightly,
    make_state,
    numbered,
)

STAGED: Final = make_event(staged=True)
NIGHTLY: Final = make_nightly()


def after(*events: Event) -> Release:
    """Return what events add up to for the one release that they are about."""
    (release,) = make_state(*events).releases
    return release


# --- form -----------------------------------------------------------------------------------


def test_a_ledger_is_read_as_it_was_written() -> None:
    ledger = make_ledger(
        make_event(),
        later(Yanked, make_event()),
        later(Unyanked, make_event()),
        STAGED.model_copy(update={"release": "other"}),
        NIGHTLY,
        later(Pruned, NIGHTLY),
    )

    assert Ledger.model_validate_json(pretty_json(ledger)) == ledger
    assert Ledger.model_validate_json(canonical_json(ledger)) == ledger


def test_a_time_is_written_in_utc() -> None:
    event = make_event()

    assert event.model_dump(mode="json")["at"] == "2026-11-21T12:01:00Z"


@pytest.mark.parametrize("schema", [1, 3])
def test_a_ledger_of_another_schema_is_refused(schema: int) -> None:
    with pytest.raises(ValidationError, match="Input should be 2"):
        Ledger.model_validate({"schema": schema, "events": []})


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"sequence": 0}, id="sequence-zero"),
        pytest.param({"event": "yanked"}, id="other-event"),
        pytest.param({"channel": "weekly"}, id="unknown-channel"),
        pytest.param({"product": "../demo"}, id="product-climbs"),
        pytest.param({"release": "../demo"}, id="release-climbs"),
        pytest.param({"reason": ""}, id="no-reason"),
        pytest.param({"reason": "x" * 1001}, id="a-novel"),
        pytest.param({"input_key": "0"}, id="no-input-key"),
        pytest.param({"manifest_sha256": "0"}, id="not-a-digest"),
        pytest.param({"interpreter_version": "7.3"}, id="not-a-version"),
        pytest.param({"fingerprint": "me"}, id="nobodys-key"),
    ],
)
def test_an_event_that_means_nothing_is_refused(override: dict[str, object]) -> None:
    fields = make_event().model_dump()

    with pytest.raises(ValidationError):
        Published.model_validate({**fields, **override})


@pytest.mark.parametrize("kind", [Promoted, Yanked, Unyanked, Pruned])
def test_an_event_is_read_as_its_kind(
    kind: type[E],
) -> None:
    event = later(kind, NIGHTLY)

    (found,) = Ledger.model_validate_json(canonical_json(Ledger(events=(event,)))).events

    assert type(found) is kind
    assert found == event


@pytest.mark.parametrize("key", ["../x", "/x", "ledger/../../x", ".x"])
def test_a_segment_lies_in_the_store(key: str) -> None:
    with pytest.raises(ValidationError):
        Segment(first=1, last=2, key=key, sha256=digest("events"))
    with pytest.raises(ValidationError):
        Checkpoint(key=key, sha256=digest("state"))


def test_a_signers_fingerprint_can_be_no_option_of_gpg() -> None:
    with pytest.raises(ValidationError):
        SignedLedger(fingerprint="--output=/etc/passwd", signature="", payload="{}")

    good = SignedLedger(fingerprint=FINGERPRINT, signature="", payload="{}")
    assert good.fingerprint == FINGERPRINT


def test_a_ledger_counts_the_sealed_events_and_its_own() -> None:
    segments = (
        Segment(first=1, last=64, key="ledger/a", sha256=digest("a")),
        Segment(first=65, last=128, key="ledger/b", sha256=digest("b")),
    )

    ledger = Ledger(segments=segments, events=(make_event(sequence=129),))

    assert (ledger.sealed, ledger.sequence) == (128, 129)
    assert (Ledger().sealed, Ledger().sequence) == (0, 0)


# --- what events add up to ------------------------------------------------------------------


def test_releases_are_in_the_order_of_their_publication() -> None:
    first, second = make_event(version="7.3.23"), make_event(version="7.3.22")

    state = make_state(first, second, later(Yanked, first))

    assert [release.name for release in state.releases] == ["pypy3.11-v7.3.23", "pypy3.11-v7.3.22"]
    assert state.sequence == 3


def test_a_release_is_found_by_product_and_name() -> None:
    state = make_state(make_event(version="7.3.22"), make_event(version="7.3.23"))

    assert state.find("pypy", "pypy3.11-v7.3.23") == state.releases[1]


@pytest.mark.parametrize(
    ("product", "release"),
    [
        pytest.param("demo", "pypy3.11-v7.3.23", id="other-product"),
        pytest.param("pypy", "pypy3.11-v7.3.2", id="other-release"),
    ],
)
def test_another_release_is_not_found(product: str, release: str) -> None:
    assert make_state(make_event()).find(product, release) is None


def test_two_products_may_have_a_release_of_one_name() -> None:
    state = make_state(make_event(), make_event(product="other"), later(Yanked, make_event()))

    assert [item.yanked is not None for item in state.releases] == [True, False]


@pytest.mark.parametrize(
    ("events", "announced", "offered"),
    [
        pytest.param((make_event(),), True, True, id="published"),
        pytest.param((STAGED,), False, False, id="staged"),
        pytest.param((STAGED, later(Promoted, STAGED)), True, True, id="promoted"),
        pytest.param((make_event(), later(Yanked, make_event())), True, False, id="yanked"),
        pytest.param(
            (make_event(), later(Yanked, make_event()), later(Unyanked, make_event())),
            True,
            True,
            id="unyanked",
        ),
        pytest.param((STAGED, later(Yanked, STAGED)), False, False, id="yanked-while-staged"),
        pytest.param(
            (STAGED, later(Yanked, STAGED), later(Promoted, STAGED)),
            True,
            False,
            id="promoted-while-yanked",
        ),
        pytest.param((NIGHTLY, later(Pruned, NIGHTLY)), False, False, id="pruned"),
    ],
)
def test_what_clients_may_be_led_to(
    events: tuple[Event, ...], *, announced: bool, offered: bool
) -> None:
    release = after(*events)

    assert (release.is_announced, release.is_offered) == (announced, offered)


def test_of_yanks_the_last_is_in_force() -> None:
    event = make_event()
    first, second = later(Yanked, event), later(Yanked, event, reason="again")

    release = after(event, first, later(Unyanked, event), second)

    assert release.yanked is not None
    assert release.yanked.reason == "again"


@pytest.mark.parametrize(
    ("events", "message"),
    [
        pytest.param((NIGHTLY, NIGHTLY), "event 2: .* was published already", id="twice"),
        pytest.param((later(Yanked, NIGHTLY),), "event 1: yanked, but .* was never", id="never"),
        pytest.param(
            (NIGHTLY, later(Pruned, NIGHTLY), later(Yanked, NIGHTLY)),
            "event 3: yanked, but .* was pruned",
            id="pruned",
        ),
        pytest.param(
            (NIGHTLY, later(Pruned, NIGHTLY), NIGHTLY),
            "event 3: .* was published already",
            id="name-stays-taken",
        ),
        pytest.param(
            (make_event(), later(Pruned, make_event())), "event 2: .* no nightly", id="release"
        ),
    ],
)
def test_what_cannot_happen_to_a_release_is_refused(
    events: tuple[Event, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_state(*events)


@pytest.mark.parametrize("sequence", [1, 3])
def test_an_event_that_does_not_follow_is_refused(sequence: int) -> None:
    with pytest.raises(ValueError, match=f"event {sequence} follows 1"):
        replay(make_state(make_event()), [make_event(version="7.3.24", sequence=sequence)])


@given(st.integers(0, 6))
def test_it_does_not_matter_where_a_history_is_cut(cut: int) -> None:
    event = make_event()
    events = numbered(
        event,
        NIGHTLY,
        later(Yanked, event),
        make_event(version="7.3.24"),
        later(Unyanked, event),
        later(Pruned, NIGHTLY),
    )

    state = replay(replay(State(), events[:cut]), events[cut:])

    assert state == replay(State(), events)


# --- compacted ------------------------------------------------------------------------------


def with_files(state: State) -> list[str]:
    """Return the names of the releases that have their files."""
    return [release.name for release in state.releases if release.published.files]


def nightlies(*numbers: int, interpreter: str = "pypy3.11") -> list[Published]:
    """Return nightlies with these numbers."""
    return [make_nightly(number, interpreter) for number in numbers]


def test_the_newest_nightlies_of_each_interpreter_keep_their_files() -> None:
    many = nightlies(*range(1, KEPT_WHOLE + 3))
    other = nightlies(1, interpreter="pypy3.10")

    state = compacted(make_state(*many, *other))

    assert with_files(state) == [item.release for item in (*many[2:], *other)]
    assert [item.name for item in state.releases] == [item.release for item in (*many, *other)]


def test_newest_is_by_number_and_not_by_time() -> None:
    many = nightlies(*range(KEPT_WHOLE + 1, 0, -1))

    state = compacted(make_state(*many))

    assert with_files(state) == [item.release for item in many[:-1]]


def test_releases_keep_their_files_for_ever() -> None:
    releases = [make_event(version=f"7.3.{number}") for number in range(KEPT_WHOLE + 5)]
    many = nightlies(*range(1, KEPT_WHOLE + 2))

    state = compacted(make_state(*releases, *many))

    assert len(with_files(state)) == len(releases) + KEPT_WHOLE


def test_a_pruned_nightly_keeps_its_name_only() -> None:
    old, new = nightlies(1, 2)

    state = compacted(make_state(old, new, later(Pruned, new)))

    assert with_files(state) == [old.release]
    assert state.releases[1].pruned is not None


def test_pruned_nightlies_do_not_count() -> None:
    many = nightlies(*range(1, KEPT_WHOLE + 2))

    state = compacted(make_state(*many, later(Pruned, many[-1])))

    assert with_files(state) == [item.release for item in many[:-1]]


def test_compacting_loses_nothing_but_files_and_platforms() -> None:
    state = make_state(*nightlies(*range(1, KEPT_WHOLE + 9)), make_event())

    small = compacted(state)

    assert compacted(small) == small
    for before, now in zip(state.releases, small.releases, strict=True):
        kept = {name: getattr(before.published, name) for name in ("files", "platforms")}
        assert changed(now.published, **kept) == before.published


# --- the newest -----------------------------------------------------------------------------


def test_the_newest_nightly_has_the_highest_number() -> None:
    state = make_state(*nightlies(2, 3, 1), make_event())

    newest = newest_nightly(state.releases)

    assert newest is not None
    assert newest.published.source.number == 3


def test_of_nightlies_of_one_number_the_last_is_the_newest() -> None:
    """The same commit may be built again, with another compiler for one."""
    first, second = make_nightly(1, release="n-1"), make_nightly(1, release="n-2")

    newest = newest_nightly(make_state(first, second).releases)

    assert newest is not None
    assert newest.name == "n-2"


@pytest.mark.parametrize("kind", [Yanked, Pruned])
def test_a_nightly_that_is_not_offered_is_not_the_newest(
    kind: type[E],
) -> None:
    old, new = nightlies(1, 2)

    newest = newest_nightly(make_state(old, new, later(kind, new)).releases)

    assert newest is not None
    assert newest.published.source.number == 1


def test_without_a_nightly_there_is_no_newest() -> None:
    assert newest_nightly(make_state(make_event()).releases) is None


@pytest.mark.parametrize(("kind", "number"), [(Yanked, 2), (Pruned, 1)])
def test_the_last_nightly_is_the_newest_whose_files_are_there(kind: type[E], number: int) -> None:
    old, new = nightlies(1, 2)

    last = last_nightly(make_state(old, new, later(kind, new)), "pypy3.11")

    assert last is not None
    assert last.source.number == number
