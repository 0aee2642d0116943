"""The ledger in a store: appended to without loss, signed, never repaired by guessing."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects.store import LocalStore, Tagged
from pipeline.errors import (
    ConflictError,
    EventError,
    LedgerError,
    PipelineError,
    SignatureError,
    UncertainError,
)
from pipeline.model.base import canonical_json, pretty_json
from pipeline.model.ledger import (
    Event,
    Ledger,
    Published,
    SealedEvents,
    SignedLedger,
    State,
    compacted,
    replay,
)
from pipeline.publish import ledger as module
from pipeline.publish.events import Stamp, promotion, pruning, unyank, yank
from pipeline.publish.ledger import (
    ATTEMPTS,
    LONGEST_PAUSE,
    Decide,
    Read,
    all_events,
    append,
    read_ledger,
)
from tests.factories import NOON, changed, make_event, make_ledger, make_nightly
from tests.fakes import FakeNotary, unexpected

JSON: Final = "application/json"
STAMP: Final = Stamp(at=NOON, by="me", reason="a test")


class BusyStore(LocalStore):
    """A store in which somebody else is first, as often as there is something in *meanwhile*."""

    def __init__(self, root: Path, *meanwhile: Decide) -> None:
        super().__init__(root)
        self.meanwhile = list(meanwhile)

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Let somebody else be first."""
        if self.meanwhile:
            add(LocalStore(self.root), self.meanwhile.pop(0))
        super().replace(key, data, tag=tag, content_type=content_type)


class UncertainStore(LocalStore):
    """A store whose answers get lost; *written* says of each whether it had done its work."""

    def __init__(self, root: Path, *written: bool) -> None:
        super().__init__(root)
        self.written = list(written)

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Lose the answer."""
        if not self.written:
            return super().replace(key, data, tag=tag, content_type=content_type)
        if self.written.pop(0):
            super().replace(key, data, tag=tag, content_type=content_type)
        msg = f"{key}: no answer"
        raise UncertainError(msg)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are sealed by threes."""
    monkeypatch.setattr(module, "SEGMENT", 3)


@contextmanager
def sealed_by(number: int) -> Iterator[None]:
    """Seal events by that many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT", number)
        yield


def happens(event: Published) -> Decide:
    """Return what publishes the release of *event*, once."""

    def decide(state: State) -> Published | None:
        if state.find(event.product, event.release) is not None:
            return None
        return changed(event, sequence=state.sequence + 1)

    return decide


def release(number: int) -> Decide:
    """Return what publishes a release of its own."""
    return happens(make_event(version=f"7.3.{number}"))


def add(
    store: LocalStore, decide: Decide, pause: Callable[[float], None] = lambda _seconds: None
) -> tuple[Read, Event | None]:
    """Append an event."""
    return append(store, FakeNotary(), decide, pause)


def read(store: LocalStore) -> Read:
    """Read the ledger as somebody would who has not seen it yet."""
    return read_ledger(store, FakeNotary())


def write(store: LocalStore, data: bytes) -> None:
    """Put something in the ledger's place."""
    present = store.read("ledger.json")
    tag = None if present is None else present.tag
    store.replace("ledger.json", data, tag=tag, content_type=JSON)


def write_signed(store: LocalStore, payload: bytes) -> None:
    """Put something in the ledger's place that is signed as a ledger is."""
    write(store, pretty_json(FakeNotary().signed(payload)))


def versions(state: State) -> list[str]:
    """Return the versions of the releases, as they were published."""
    return [str(item.published.interpreter_version) for item in state.releases]


def files(store: LocalStore) -> dict[str, bytes]:
    """Return everything in the store, by key."""
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for path in store.root.rglob("*")
        if path.is_file() and ".incoming" not in path.parts
    }


# --- reading and appending ------------------------------------------------------------------


def test_a_new_store_has_an_empty_ledger(store: LocalStore) -> None:
    assert read(store) == Read(ledger=Ledger(), state=State(), tag=None, data=b"")


def test_an_event_is_read_back_with_the_bytes_that_were_written(store: LocalStore) -> None:
    event = make_event()

    after, new = add(store, happens(event))

    found = read(store)
    assert new == event
    assert found.ledger == after.ledger == Ledger(events=(event,))
    assert found.state == after.state == replay(State(), [event])
    assert found.data == after.data == files(store)["ledger.json"]


def test_what_the_ledger_says_already_adds_nothing(store: LocalStore) -> None:
    add(store, release(1))
    before = files(store)

    after, new = add(store, release(1))

    assert new is None
    assert after == read(store)
    assert files(store) == before


def test_events_are_numbered_and_earlier_ones_stay(store: LocalStore) -> None:
    events = [add(store, release(number))[1] for number in (1, 2, 3)]

    found = read(store)
    assert list(found.ledger.events) == events
    assert [event.sequence for event in found.ledger.events] == [1, 2, 3]


def test_a_decision_that_refuses_leaves_the_ledger_as_it_is(store: LocalStore) -> None:
    add(store, release(1))
    before = files(store)

    with pytest.raises(EventError):
        add(store, yank("pypy", "pypy3.11-v9.9.9", STAMP))

    assert files(store) == before


def test_a_decision_that_cannot_follow_is_refused_and_not_written(store: LocalStore) -> None:
    """Another bug must not become an event."""
    add(store, release(1))
    before = files(store)

    with pytest.raises(LedgerError, match=r"^ledger\.json: event 7 follows 1; it was not touched"):
        add(store, lambda _state: make_event(version="7.3.2", sequence=7))

    assert files(store) == before


def test_the_ledger_is_one_signed_object_that_people_can_read(store: LocalStore) -> None:
    add(store, release(1))

    signed = SignedLedger.model_validate_json(files(store)["ledger.json"])

    FakeNotary().check(signed)
    payload = json.loads(signed.payload)
    assert payload["schema"] == 2
    assert payload["events"][0]["interpreter_version"] == "7.3.1"
    assert files(store)["ledger.json"].endswith(b"}\n")


def test_a_tag_follows_the_ledger(store: LocalStore) -> None:
    add(store, release(1))
    first = read(store).tag

    add(store, release(2))

    assert first is not None
    assert read(store).tag not in {None, first}


# --- a ledger that is lost ------------------------------------------------------------------


def put(store: LocalStore, key: str) -> None:
    """Put something into the store."""
    store.replace(key, b"{}", tag=None, content_type=JSON)


@pytest.mark.parametrize("key", ["index.html", "ledger/state-00000064-0123456789abcdef.json"])
def test_a_lost_ledger_is_not_taken_for_a_new_store(store: LocalStore, key: str) -> None:
    put(store, key)
    before = files(store)

    with pytest.raises(LedgerError, match=r"store: ledger\.json: is not there, but .* mirror"):
        add(store, release(1))

    assert files(store) == before


def test_a_ledger_that_is_lost_is_not_asked_for_a_release(store: LocalStore) -> None:
    put(store, "index.html")

    with pytest.raises(LedgerError, match="is not there"):
        add(store, yank("pypy", "pypy3.11-v7.3.23", STAMP))


def test_files_of_a_first_publication_that_was_killed_do_not_stop_the_next(
    store: LocalStore,
) -> None:
    put(store, "pypy/pypy3.11-v7.3.1/SHA256SUMS")

    _, event = add(store, release(1))

    assert event is not None


def test_an_index_that_came_with_the_first_ledger_meanwhile_stops_nobody(tmp_path: Path) -> None:
    class FirstElsewhere(LocalStore):
        """A store that somebody else publishes to first, after it was found to have no ledger."""

        def read(self, key: str) -> Tagged | None:
            present = super().read(key)
            if key == "ledger.json" and present is None:
                add(LocalStore(self.root), release(1))
                put(LocalStore(self.root), "index.html")
            return present

    store = FirstElsewhere(tmp_path / "store")

    after, _ = add(store, release(2))

    assert versions(after.state) == ["7.3.1", "7.3.2"]


def test_a_ledger_that_is_there_is_read_once(tmp_path: Path) -> None:
    class Counting(LocalStore):
        """A store that notes what is asked of it."""

        asked: ClassVar[list[str]] = []

        def read(self, key: str) -> Tagged | None:
            self.asked.append(key)
            return super().read(key)

        def sizes(self, prefix: str) -> dict[str, int]:
            self.asked.append(prefix)
            return super().sizes(prefix)

    add(LocalStore(tmp_path / "store"), release(1))
    store = Counting(tmp_path / "store")

    append(store, FakeNotary(), lambda _state: None)

    assert store.asked == ["ledger.json"]


# --- others that write ----------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3, ATTEMPTS - 1])
def test_an_event_is_added_behind_those_that_came_first(tmp_path: Path, times: int) -> None:
    store = BusyStore(tmp_path / "store", *(release(number) for number in range(1, times + 1)))

    _, new = add(store, release(99))

    found = read(store)
    assert new is not None
    assert new.sequence == times + 1
    assert versions(found.state) == [*(f"7.3.{number}" for number in range(1, times + 1)), "7.3.99"]


def test_a_ledger_that_others_keep_changing_is_given_up_without_loss(tmp_path: Path) -> None:
    store = BusyStore(tmp_path / "store", *(release(number) for number in range(1, ATTEMPTS + 1)))

    with pytest.raises(ConflictError, match=r"Nothing is lost: run again\."):
        add(store, release(99))

    assert len(read(store).state.releases) == ATTEMPTS


def test_of_two_that_publish_the_same_the_second_finds_it_done(tmp_path: Path) -> None:
    store = BusyStore(tmp_path / "store", release(1))

    after, new = add(store, release(1))

    assert new is None
    assert versions(after.state) == ["7.3.1"]
    assert read(store).ledger.sequence == 1


def test_who_was_second_waits_a_random_time_within_limits(tmp_path: Path) -> None:
    store = BusyStore(tmp_path / "store", *(release(number) for number in range(1, 11)))
    waits: list[float] = []

    add(store, release(99), waits.append)

    assert len(waits) == 10
    assert all(0 <= wait <= LONGEST_PAUSE for wait in waits)
    assert len(set(waits)) > 1


# --- lost answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("written", [True, False], ids=["was written", "was not"])
def test_an_event_whose_answer_was_lost_is_in_the_ledger_once(
    tmp_path: Path, *, written: bool
) -> None:
    store = UncertainStore(tmp_path / "store", written)

    after, new = add(store, release(1))

    assert new is not None
    assert read(store).ledger.events == after.ledger.events == (new,)


@pytest.mark.usefixtures("sealing")
def test_an_event_that_was_sealed_when_the_answer_was_lost_is_known_as_ours(tmp_path: Path) -> None:
    store = UncertainStore(tmp_path / "store")
    for number in (1, 2):
        add(store, release(number))
    store.written = [True]

    after, new = add(store, release(3))

    assert new is not None
    assert new.sequence == after.ledger.sealed == 3


@pytest.mark.usefixtures("sealing")
def test_an_event_of_another_in_a_segment_is_not_taken_for_ours(tmp_path: Path) -> None:
    store = UncertainStore(tmp_path / "store")
    for number in (1, 2):
        add(store, release(number))
    first = LocalStore(store.root)
    store.written = [False]
    by_another = changed(make_event(version="7.3.3"), by="another")

    def let_another_be_first(_seconds: float) -> None:
        add(first, happens(by_another))

    _, new = add(store, release(3), let_another_be_first)

    assert new is None
    assert all_events(store, read(store).ledger)[-1].by == "another"


def test_a_store_that_keeps_losing_its_answers_is_given_up(tmp_path: Path) -> None:
    store = UncertainStore(tmp_path / "store", *[False] * ATTEMPTS)

    with pytest.raises(UncertainError, match=r"Nothing is lost: run again\."):
        add(store, release(1))

    assert read(store).ledger == Ledger()


# --- what is not a ledger -------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff\xfe", id="not-text"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"schema": 1, "events": []}', id="older-schema"),
        pytest.param(canonical_json(Ledger()), id="unsigned"),
    ],
)
def test_what_is_not_a_signed_ledger_is_refused_and_left_as_it_is(
    store: LocalStore, data: bytes
) -> None:
    write(store, data)

    with pytest.raises(LedgerError, match=r"^ledger\.json: not a ledger .* It was not touched"):
        add(store, release(1))

    assert files(store) == {"ledger.json": data}


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"schema": 3}', id="newer-schema"),
        pytest.param(b'{"schema": 2, "extra": 1}', id="unknown-key"),
        pytest.param(b'{"schema": 2, "events": [{"sequence": 1}]}', id="half-an-event"),
        pytest.param(b'{"schema": 2, "events": [{"event": "burned"}]}', id="unknown-event"),
    ],
)
def test_what_is_signed_but_not_a_ledger_is_refused(store: LocalStore, payload: bytes) -> None:
    write_signed(store, payload)
    before = files(store)

    with pytest.raises(LedgerError, match=r"^ledger\.json: not a ledger .* It was not touched"):
        add(store, release(1))

    assert files(store) == before


@pytest.mark.parametrize("numbers", [[2], [1, 3], [1, 1], [2, 1], [1, 2, 4, 3]], ids=str)
def test_a_ledger_with_a_gap_is_refused_and_left_as_it_is(
    store: LocalStore, numbers: list[int]
) -> None:
    """A gap means that an event was lost."""
    events = tuple(
        make_event(version=f"7.3.{index}", sequence=number) for index, number in enumerate(numbers)
    )
    write_signed(store, canonical_json(Ledger(events=events)))
    before = files(store)

    with pytest.raises(LedgerError, match=r"event \d follows \d; it was not touched\. Restore it"):
        add(store, release(9))

    assert files(store) == before


def test_a_ledger_that_nobody_trusted_signed_is_refused_before_it_is_read(
    store: LocalStore,
) -> None:
    payload = canonical_json(make_ledger(make_event())).decode()
    good = FakeNotary().signed(b"another payload")
    write(store, pretty_json(changed(good, payload=payload)))
    before = files(store)

    with pytest.raises(SignatureError) as caught:
        add(store, release(2))

    assert caught.value.where == f"{store.root}: ledger.json"
    assert files(store) == before


def test_an_error_of_the_notary_that_names_its_place_keeps_it(store: LocalStore) -> None:
    class Notary(FakeNotary):
        def check(self, ledger: SignedLedger) -> None:  # noqa: ARG002
            error = SignatureError("not good")
            error.where = "deep inside"
            raise error

    add(store, release(1))

    with pytest.raises(SignatureError) as caught:
        read_ledger(store, Notary())

    assert caught.value.where == "deep inside"


# --- sealed events --------------------------------------------------------------------------


@pytest.fixture
def sealed(store: LocalStore, sealing: None) -> LocalStore:  # noqa: ARG001
    """A store of seven events, six of them in two segments."""
    for number in range(1, 8):
        add(store, release(number))
    return store


def test_events_are_sealed_in_files_that_the_ledger_names(sealed: LocalStore) -> None:
    ledger = read(sealed).ledger

    assert [(item.first, item.last) for item in ledger.segments] == [(1, 3), (4, 6)]
    assert [event.sequence for event in ledger.events] == [7]
    assert (ledger.sealed, ledger.sequence) == (6, 7)
    assert ledger.checkpoint is not None
    named = {item.key: item.sha256 for item in ledger.segments}
    named[ledger.checkpoint.key] = ledger.checkpoint.sha256
    assert named.keys() <= set(files(sealed))
    assert all(sha256[:16] in key for key, sha256 in named.items())


def test_the_state_needs_the_checkpoint_and_no_segment(sealed: LocalStore) -> None:
    """So it costs the same after ten years."""
    for segment in read(sealed).ledger.segments:
        (sealed.root / segment.key).unlink()

    assert versions(read(sealed).state) == [f"7.3.{number}" for number in range(1, 8)]


def test_every_event_can_be_had_from_the_first_on(sealed: LocalStore) -> None:
    events = all_events(sealed, read(sealed).ledger)

    assert [event.sequence for event in events] == list(range(1, 8))
    assert versions(replay(State(), events)) == [f"7.3.{number}" for number in range(1, 8)]


@pytest.mark.parametrize("data", [b"{}", None], ids=["changed", "gone"])
def test_a_segment_that_is_not_the_ledgers_is_found_out(
    sealed: LocalStore, data: bytes | None
) -> None:
    segment = read(sealed).ledger.segments[0]
    (sealed.root / segment.key).unlink()
    if data is not None:
        (sealed.root / segment.key).write_bytes(data)

    with pytest.raises(LedgerError, match=rf"{segment.key}: by the ledger .* {segment.sha256}"):
        all_events(sealed, read(sealed).ledger)


@pytest.mark.parametrize("data", [b"{}", None], ids=["changed", "gone"])
def test_a_checkpoint_that_is_not_the_ledgers_stops_everything(
    sealed: LocalStore, data: bytes | None
) -> None:
    checkpoint = read(sealed).ledger.checkpoint
    assert checkpoint is not None
    (sealed.root / checkpoint.key).unlink()
    if data is not None:
        (sealed.root / checkpoint.key).write_bytes(data)
    before = files(sealed)

    with pytest.raises(LedgerError, match=r"Nothing was touched; restore it from a mirror"):
        add(sealed, release(8))

    assert files(sealed) == before


def test_a_checkpoint_of_another_moment_is_refused(sealed: LocalStore) -> None:
    ledger = read(sealed).ledger
    write_signed(sealed, canonical_json(changed(ledger, segments=ledger.segments[:1])))

    with pytest.raises(LedgerError, match="3 events are sealed, its checkpoint has another number"):
        read(sealed)


@pytest.mark.usefixtures("sealing")
def test_what_was_sealed_but_not_announced_does_no_harm(tmp_path: Path) -> None:
    """Of two that seal at once, one's files are never named."""
    store = BusyStore(tmp_path / "store")
    for number in (1, 2):
        add(store, release(number))
    store.meanwhile = [release(3)]

    add(store, release(4))

    ledger = read(store).ledger
    assert [event.sequence for event in all_events(store, ledger)] == [1, 2, 3, 4]
    assert len([key for key in files(store) if "events-" in key]) == 2
    assert len(ledger.segments) == 1


def test_a_segment_holds_the_events_as_they_were(sealed: LocalStore) -> None:
    segment = read(sealed).ledger.segments[1]

    events = SealedEvents.model_validate_json(files(sealed)[segment.key]).events

    assert [event.sequence for event in events] == [4, 5, 6]
    assert all(isinstance(event, Published) and event.files for event in events)


# --- any history ----------------------------------------------------------------------------

RELEASES: Final = (
    make_event(version="7.3.1"),
    make_event(version="7.3.2", staged=True),
    make_event(version="7.3.1", product="other"),
    make_nightly(20261121),
    make_nightly(20261122),
)
CHANGES: Final = (promotion, yank, unyank, pruning)

steps = st.tuples(st.integers(0, len(RELEASES) - 1), st.integers(0, len(CHANGES)))
histories = st.lists(steps, max_size=12)


def decision(step: tuple[int, int]) -> Decide:
    """Return a decision about one of the releases."""
    event, kind = RELEASES[step[0]], step[1]
    if kind == len(CHANGES):
        return happens(event)
    return CHANGES[kind](event.product, event.release, STAMP)


def try_all(store: LocalStore, drawn: Sequence[tuple[int, int]]) -> list[Event]:
    """Append what is possible of a history; return the events."""
    made = []
    for step in drawn:
        try:
            _, new = add(store, decision(step))
        except EventError:
            continue
        if new is not None:
            made.append(new)
    return made


@given(histories, st.integers(1, 6))
def test_any_history_adds_up_to_the_same_sealed_or_not(
    drawn: list[tuple[int, int]], segment: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, sealed_by(segment):
        store = LocalStore(Path(directory))

        events = try_all(store, drawn)

        found = read(store)
        assert compacted(found.state) == compacted(replay(State(), events))
        assert list(all_events(store, found.ledger)) == events
        assert found.ledger.sequence == len(events)
        assert len(found.ledger.events) < segment


@given(histories, st.data())
def test_of_two_that_append_in_any_order_nothing_is_lost(
    drawn: list[tuple[int, int]], data: st.DataObject
) -> None:
    # By ones, what the first seals would be found by the second before the ledger is there.
    with tempfile.TemporaryDirectory() as directory, sealed_by(data.draw(st.integers(2, 6))):
        store = BusyStore(Path(directory))
        others = data.draw(st.lists(st.integers(1, 9), max_size=6, unique=True))
        made = []
        for index, number in enumerate(others):
            store.meanwhile = [release(number + 10)]
            made += try_all(store, drawn[index * 2 : index * 2 + 2])
            add(LocalStore(store.root), release(number + 10))

        events = all_events(store, read(store).ledger)

        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event for event in events if event in made] == made
        assert len(events) == len(made) + len(others)
        assert compacted(read(store).state) == compacted(replay(State(), events))


@given(st.lists(st.booleans(), max_size=8), st.integers(1, 3))
def test_whatever_answers_are_lost_each_event_is_there_once(lost: list[bool], segment: int) -> None:
    with tempfile.TemporaryDirectory() as directory, sealed_by(segment):
        store = UncertainStore(Path(directory), *lost)

        news = [add(store, release(number))[1] for number in (1, 2, 3)]

        assert list(all_events(store, read(store).ledger)) == news


def test_an_error_that_is_not_about_writing_is_not_swallowed(store: LocalStore) -> None:
    def fail(_state: State) -> Event | None:
        msg = "something else"
        raise PipelineError(msg)

    with pytest.raises(PipelineError, match="something else"):
        append(store, FakeNotary(), fail, lambda _seconds: unexpected("a pause"))
