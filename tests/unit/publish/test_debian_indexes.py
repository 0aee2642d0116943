"""Which packages releases have is read from their own files, once."""

from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.store import LocalStore
from pipeline.errors import FetchBackError, LedgerError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.ledger import Published, Release
from pipeline.publish.debian_indexes import debian_indexes
from tests.factories import changed, digest, make_event
from tests.unit.publish.projections.test_apt import index_of, packaged

EVENT: Final = packaged(make_event())
DATA: Final = pretty_json(index_of(EVENT))


def with_index(data: bytes = DATA, event: Published = EVENT) -> Published:
    """Return the event of a release whose list of packages has these bytes."""
    others = tuple(item for item in event.files if item.kind is not ArtifactKind.DEBIAN_INDEX)
    listed = Artifact(
        filename=f"{event.release}-packages.json",
        kind=ArtifactKind.DEBIAN_INDEX,
        platform=None,
        size=len(data),
        sha256=digest(data.decode()),
    )
    return changed(event, files=(*others, listed))


def put(store: LocalStore, event: Published, data: bytes = DATA) -> Path:
    """Put a list of packages into a store; return where it is."""
    path = store.root / naming.store_key(event.product, event.release, event.files[-1].filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def stores(tmp_path: Path) -> tuple[LocalStore, LocalStore]:
    """A site's store and a mirror's."""
    return LocalStore(tmp_path / "store"), LocalStore(tmp_path / "mirror")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_list_is_read_from_the_store_and_kept(
    stores: tuple[LocalStore, LocalStore], cache: Path
) -> None:
    event = with_index()
    path = put(stores[0], event)
    releases = [Release(published=event), Release(published=make_event(version="7.3.1"))]

    found = debian_indexes(stores, cache, releases)
    path.unlink()
    again = debian_indexes(stores, cache, releases)

    assert found == again == {event.files[-1].sha256: index_of(EVENT)}


@pytest.mark.parametrize("there", [b"", DATA[:-2]], ids=["nothing", "other bytes"])
def test_what_a_store_lacks_comes_from_another(
    stores: tuple[LocalStore, LocalStore], cache: Path, there: bytes
) -> None:
    event = with_index()
    if there:
        put(stores[0], event, there)
    put(stores[1], event)

    assert debian_indexes(stores, cache, [Release(published=event)])


def test_what_is_kept_is_not_believed_without_its_digest(
    stores: tuple[LocalStore, LocalStore], cache: Path
) -> None:
    event = with_index()
    put(stores[0], event)
    debian_indexes(stores, cache, [Release(published=event)])
    (kept,) = cache.iterdir()
    kept.write_bytes(b"{}")

    assert debian_indexes(stores, cache, [Release(published=event)])
    assert kept.read_bytes() == DATA


def test_where_nothing_can_be_kept_it_is_read_all_the_same(
    stores: tuple[LocalStore, LocalStore], cache: Path
) -> None:
    event = with_index()
    put(stores[0], event)
    cache.write_bytes(b"no directory")

    assert debian_indexes(stores, cache, [Release(published=event)])


def test_a_list_that_no_store_has_is_an_error_that_says_what_to_do(
    stores: tuple[LocalStore, LocalStore], cache: Path
) -> None:
    event = with_index()

    with pytest.raises(FetchBackError, match=r"packages\.json: .* or yank the release"):
        debian_indexes(stores, cache, [Release(published=event)])


def test_what_is_no_list_is_an_error(stores: tuple[LocalStore, LocalStore], cache: Path) -> None:
    event = with_index(b'{"schema": 2}')
    put(stores[0], event, b'{"schema": 2}')

    with pytest.raises(LedgerError, match="no list of packages"):
        debian_indexes(stores, cache, [Release(published=event)])


def test_a_list_of_files_that_its_release_has_not_is_an_error(
    stores: tuple[LocalStore, LocalStore], cache: Path
) -> None:
    """Clients would be led to files that are not there."""
    event = with_index(event=make_event())
    put(stores[0], event)

    with pytest.raises(LedgerError, match="is no file of"):
        debian_indexes(stores, cache, [Release(published=event)])
