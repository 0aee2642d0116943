"""The ledger in a store: appended to without loss, never repaired by guessing."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.effects.store import LocalStore
from pipeline.errors import ConflictError, ImmutableNameError, LedgerError
from pipeline.model.base import pretty_json
from pipeline.model.ledger import Event, Ledger
from pipeline.model.records import Manifest
from pipeline.publish.ledger import ATTEMPTS, read_ledger, record_published
from tests.factories import (
    FINGERPRINT,
    NOON,
    changed,
    make_event,
    make_ledger,
    make_manifest,
    make_signed,
)

JSON = "application/json"


class BusyStore(LocalStore):
    """A store to which somebody else publishes first, some times."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.others = [make_manifest(release=f"demo-v9.0.{number}") for number in range(times)]

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Let somebody else be first."""
        if self.others:
            publish(LocalStore(self.root), self.others.pop())
        super().replace(key, data, tag=tag, content_type=content_type)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


def publish(
    store: LocalStore, manifest: Manifest | None = None, *, now: datetime = NOON, by: str = "me"
) -> tuple[Event, bool]:
    """Record that a release was published."""
    manifest = manifest or make_manifest()
    signed = make_signed(manifest)
    return record_published(store, manifest, signed, manifest.files, now=lambda: now, by=by)


def write_ledger(store: LocalStore, data: bytes) -> None:
    """Put something in the ledger's place."""
    store.replace("ledger.json", data, tag=None, content_type=JSON)


def test_a_new_store_has_an_empty_ledger(store: LocalStore) -> None:
    assert read_ledger(store) == (Ledger(), None)


def test_an_event_says_all_that_indexes_need(store: LocalStore) -> None:
    manifest = make_manifest()

    event, is_new = publish(store, manifest)

    signed = make_signed(manifest)
    assert is_new
    assert event == Event(
        sequence=1,
        event="published",
        at=NOON,
        by="me",
        channel="release",
        product="demo",
        release="demo-v1.0.0",
        interpreter="demo",
        implementation="demo",
        interpreter_version=manifest.interpreter_version,
        language_version="1.0",
        stable=True,
        source=manifest.source,
        manifest_sha256=signed.manifest.sha256,
        fingerprint=FINGERPRINT,
        files=manifest.files,
    )
    assert read_ledger(store)[0] == Ledger(events=(event,))


def test_publishing_the_same_again_adds_nothing(store: LocalStore) -> None:
    first, _ = publish(store)
    before = store.read("ledger.json")

    again, is_new = publish(store, now=NOON + timedelta(days=1), by="somebody else")

    assert again == first
    assert not is_new
    assert store.read("ledger.json") == before


def test_events_are_numbered_and_earlier_ones_stay(store: LocalStore) -> None:
    versions = ["1.0.0", "1.0.1", "1.1.0"]

    events = [
        publish(store, make_manifest(release=f"demo-v{version}", interpreter_version=version))[0]
        for version in versions
    ]

    ledger, _ = read_ledger(store)
    assert list(ledger.events) == events
    assert [event.sequence for event in ledger.events] == [1, 2, 3]


def test_two_products_may_have_a_release_of_one_name(store: LocalStore) -> None:
    publish(store)

    event, is_new = publish(store, make_manifest(product="other"))

    assert is_new
    assert event.sequence == 2


def test_the_same_release_with_another_manifest_is_refused(store: LocalStore) -> None:
    publish(store)
    before = store.read("ledger.json")

    with pytest.raises(ImmutableNameError, match=r"demo/demo-v1\.0\.0 was published on 2026-11-21"):
        publish(store, make_manifest(language_version="1.1"))

    assert store.read("ledger.json") == before


@pytest.mark.parametrize("times", [1, 3, ATTEMPTS - 1])
def test_an_event_is_added_behind_those_that_came_first(tmp_path: Path, times: int) -> None:
    store = BusyStore(tmp_path / "store", times)

    event, is_new = publish(store)

    ledger, _ = read_ledger(store)
    assert is_new
    assert event.sequence == times + 1
    assert ledger.events[-1] == event
    assert [item.sequence for item in ledger.events] == list(range(1, times + 2))


def test_a_ledger_that_others_keep_changing_is_given_up_without_loss(tmp_path: Path) -> None:
    store = BusyStore(tmp_path / "store", ATTEMPTS)

    with pytest.raises(ConflictError, match=r"Nothing is lost: run again\."):
        publish(store)

    assert len(read_ledger(store)[0].events) == ATTEMPTS


def test_of_two_that_publish_the_same_the_second_finds_it_done(tmp_path: Path) -> None:
    store = BusyStore(tmp_path / "store", 0)
    store.others = [make_manifest()]

    event, is_new = publish(store, now=NOON + timedelta(hours=1))

    assert not is_new
    assert event.at == NOON
    assert len(read_ledger(store)[0].events) == 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff\xfe", id="not-text"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"schema": 2, "events": []}', id="newer-schema"),
        pytest.param(b'{"schema": 1, "events": [], "extra": 1}', id="unknown-key"),
        pytest.param(b'{"schema": 1, "events": [{"sequence": 1}]}', id="half-an-event"),
    ],
)
def test_what_is_not_a_ledger_is_refused_and_left_as_it_is(store: LocalStore, data: bytes) -> None:
    write_ledger(store, data)

    with pytest.raises(LedgerError, match=r"^ledger\.json: not a ledger .* It was not touched"):
        publish(store)

    present = store.read("ledger.json")
    assert present is not None
    assert present.data == data


@pytest.mark.parametrize("numbers", [[2], [1, 3], [1, 1], [2, 1], [1, 2, 4, 3]], ids=str)
def test_a_ledger_with_a_gap_is_refused_and_left_as_it_is(
    store: LocalStore, numbers: list[int]
) -> None:
    """A gap means that an event was lost."""
    events = tuple(
        changed(make_event(version=f"7.3.{index}"), sequence=number)
        for index, number in enumerate(numbers)
    )
    data = pretty_json(Ledger(events=events))
    write_ledger(store, data)

    with pytest.raises(LedgerError, match=r"not numbered 1, 2, 3, \.\.\.; it was not touched"):
        publish(store)

    present = store.read("ledger.json")
    assert present is not None
    assert present.data == data


def test_a_ledger_is_written_for_people_too(store: LocalStore) -> None:
    publish(store)

    present = store.read("ledger.json")

    assert present is not None
    document: dict[str, Any] = json.loads(present.data)
    assert set(document) == {"schema", "events"}
    assert document["events"][0]["interpreter_version"] == "1.0.0"
    assert document["events"][0]["at"] == "2026-11-21T12:00:00Z"
    assert present.data.endswith(b"}\n")


def test_a_tag_follows_the_ledger(store: LocalStore) -> None:
    publish(store)
    first = read_ledger(store)[1]

    publish(store, make_manifest(release="demo-v1.0.1"))

    assert first is not None
    assert read_ledger(store)[1] != first


def test_a_ledger_of_events_is_read_back_whole(store: LocalStore) -> None:
    ledger = make_ledger(make_event(), make_event(version="7.3.24rc1"))
    write_ledger(store, pretty_json(ledger))

    assert read_ledger(store)[0] == ledger
