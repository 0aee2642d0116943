"""What GitHub is to show follows from the ledger."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects.github import Releases
from pipeline.errors import FetchBackError
from pipeline.model import naming
from pipeline.model.ledger import Promoted, Published, State, Unyanked, Yanked
from pipeline.publish import copies
from pipeline.publish.copies import copied_releases, copy_releases, release_page
from pipeline.publish.github import PageChange, PathOf, ReleasePage
from tests.factories import BASE_URL, later, make_event, make_nightly, make_state
from tests.fakes import World, make_world, open_channel

OLD = make_event("pypy3.11", "7.3.22")
NEW = make_event("pypy3.11", "7.3.23")


def newest(state: State) -> list[str]:
    """Return the releases that are the newest by their pages."""
    return [
        item.name
        for item in copied_releases(state)
        if release_page(state, item, BASE_URL).is_newest
    ]


def test_releases_are_copied_and_nightlies_are_not() -> None:
    state = make_state(OLD, make_nightly(), NEW)

    assert [item.name for item in copied_releases(state)] == [OLD.release, NEW.release]


def test_a_staged_release_is_copied_when_it_is_promoted() -> None:
    staged = make_event("pypy3.11", "7.3.23", staged=True)

    assert copied_releases(make_state(staged)) == ()
    assert len(copied_releases(make_state(staged, later(Promoted, staged)))) == 1


def test_the_page_of_a_yanked_release_says_why_and_another_is_the_newest() -> None:
    state = make_state(OLD, NEW, later(Yanked, NEW, reason="segfaults"))

    pages = {item.name: release_page(state, item, BASE_URL) for item in copied_releases(state)}

    assert pages[NEW.release].yanked == "segfaults"
    assert newest(state) == [OLD.release]


def test_a_yank_that_was_taken_back_leaves_no_mark() -> None:
    state = make_state(OLD, NEW, later(Yanked, NEW), later(Unyanked, NEW))

    assert newest(state) == [NEW.release]


def test_a_candidate_is_a_prerelease_and_never_the_newest() -> None:
    candidate = make_event("pypy3.11", "8.0.0rc1")
    state = make_state(OLD, candidate)

    page = release_page(state, copied_releases(state)[-1], BASE_URL)

    assert page.is_prerelease
    assert newest(state) == [OLD.release]


@given(st.permutations([("2.7", 21), ("3.11", 21), ("3.11", 23), ("3.12", 22), ("2.7", 23)]))
def test_the_newest_is_by_version_in_whatever_order_they_came(
    order: Sequence[tuple[str, int]],
) -> None:
    events = [make_event(f"pypy{language}", f"7.3.{micro}") for language, micro in order]

    assert newest(make_state(*events)) == ["pypy3.11-v7.3.23"]


def test_the_notes_name_source_place_and_key() -> None:
    state = make_state(NEW)

    notes = release_page(state, copied_releases(state)[0], BASE_URL).notes

    assert NEW.source.revision in notes
    assert f"{BASE_URL}/pypy/pypy3.11-v7.3.23" in notes
    assert NEW.fingerprint in notes


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world whose store has the first file of a release."""
    made = make_world(tmp_path / "project")
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    place = f"{naming.release_prefix(NEW.product, NEW.release)}/{NEW.files[0].filename}"
    open_channel(made.ctx).store.put_new(place, path, content_type="application/gzip")
    return made


class Nowhere:
    """Stands for GitHub, of which nothing is asked here."""


def copying(
    monkeypatch: pytest.MonkeyPatch, world: World, event: Published, *names: str
) -> list[ReleasePage]:
    """Copy what *event* published; return the pages, each after its first file was fetched."""
    pages = []

    def publish(_releases: Releases, page: ReleasePage, path_of: PathOf, _retry: object) -> object:
        pages.append(page)
        path_of(page.files[0])
        return PageChange(created=True)

    monkeypatch.setattr(copies, "publish_on_github", publish)
    channel, state = open_channel(world.ctx), make_state(event)
    github: Releases = Nowhere()  # type: ignore[assignment]
    list(copy_releases(world.ctx, channel, state, github, names or None))
    return pages


def test_files_are_taken_as_readers_get_them_and_compared(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    with pytest.raises(FetchBackError, match=rf"the ledger says {NEW.files[0].sha256}"):
        copying(monkeypatch, world, NEW)

    assert world.public.asked[0][1].endswith(NEW.files[0].filename)


def test_only_the_named_releases_are_copied(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    pages = copying(monkeypatch, world, NEW, "pypy3.11-v7.3.99")

    assert pages == []
    assert world.public.asked == []
