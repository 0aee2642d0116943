"""Moving tags: only what differs is written, in an order that readers can live with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.effects.store import LocalStore
from pipeline.errors import ConflictError, DestinationError, UncertainError
from pipeline.model.images import IMAGE_MANIFEST_TYPE
from pipeline.model.ledger import Published
from pipeline.publish.events import Stamp, unyank, yank
from pipeline.publish.ledger import Decide, append
from pipeline.publish.tags import TagChanges, move_tags, stale_tags
from tests.factories import NOON, changed, make_config, make_event
from tests.fakes import FakeNotary
from tests.images import FakeRegistry, make_published_images

CONFIG = make_config()


def release(version: str) -> Published:
    """Return what published a version, with images for one suite."""
    images = make_published_images(version, suites=("trixie",), variants=("",))
    return make_event(version=version, images=images)


def add(store: LocalStore, *decisions: Decide) -> None:
    """Append to a store's ledger."""
    for decide in decisions:
        append(store, FakeNotary(), decide, lambda _seconds: None)


def publishes(version: str) -> Decide:
    """Return what publishes a version."""
    return lambda state: changed(release(version), sequence=state.sequence + 1)


def stamped() -> Stamp:
    return Stamp(at=NOON, by="me", reason="a test")


@dataclass
class BusyRegistry(FakeRegistry):
    """A registry in which something happens before certain tags are put."""

    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    unlisted: frozenset[str] = frozenset()

    def tags(self, image: str) -> tuple[str, ...]:
        """List a repository's tags, if that is allowed."""
        if image in self.unlisted:
            msg = f"{image}: tags: HTTP 403"
            raise DestinationError(msg)
        return super().tags(image)

    def remove_manifest(self, image: str, reference: str) -> bool:
        """Take it away, if that is allowed."""
        if reference in self.refused:
            msg = f"{reference}: DELETE: HTTP 403"
            raise DestinationError(msg)
        return super().remove_manifest(image, reference)

    def put_manifest(self, image: str, reference: str, data: bytes, media_type: str) -> bool:
        """Let it happen, then take it."""
        self.before.pop(reference, lambda: None)()
        if reference in self.refused:
            msg = f"{reference}: HTTP 403"
            raise DestinationError(msg)
        return super().put_manifest(image, reference, data, media_type)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store with two releases."""
    store = LocalStore(tmp_path)
    add(store, publishes("7.3.22"), publishes("7.3.23"))
    return store


def holding(kind: type[FakeRegistry] = FakeRegistry, **options: Any) -> Any:
    """Return a registry that has the images of every version."""
    registry = kind(**options)
    for version in ("7.3.21", "7.3.22", "7.3.23", "7.3.24"):
        for image in release(version).images:
            registry.manifests[image.image, image.digest] = (b"{}", IMAGE_MANIFEST_TYPE)
    return registry


def move(registry: FakeRegistry, store: LocalStore) -> TagChanges:
    """Move tags without waiting."""
    return move_tags(CONFIG, registry, store, FakeNotary(), lambda _seconds: None)


def version_at(registry: FakeRegistry, tag: str) -> str | None:
    """Return the version that a tag leads to."""
    stored = registry.manifest("pypy", tag)
    if stored is None:
        return None
    return next(
        version
        for version in ("7.3.21", "7.3.22", "7.3.23", "7.3.24")
        if f'version":"{version}"' in stored.data.decode()
    )


def test_tags_come_to_be_and_are_then_left_alone(store: LocalStore) -> None:
    registry = holding()

    first, again = move(registry, store), move(registry, store)

    assert "registry.test/owner/pypy:3.11-7.3.22-trixie" in first.changed
    assert len(first.changed) == len(registry.tagged()) == 22
    assert version_at(registry, "3.11") == "7.3.23"
    assert again == TagChanges(changed=(), left=(), repaired=())
    assert len(registry.requests) == 22


def test_exact_tags_are_there_before_any_tag_moves(store: LocalStore) -> None:
    registry = holding()

    move(registry, store)

    exact = [name.startswith(("put 3.11-7.3.2",)) for name in registry.requests]
    assert exact == sorted(exact, reverse=True)


def test_a_tag_that_somebody_moved_is_put_right(store: LocalStore) -> None:
    registry = holding()
    move(registry, store)
    registry.named["pypy", "3.11"] = registry.named["pypy", "3.11-7.3.22"]

    assert stale_tags(CONFIG, registry, store, FakeNotary()) == ["registry.test/owner/pypy:3.11"]
    assert move(registry, store).changed == ("registry.test/owner/pypy:3.11",)
    assert stale_tags(CONFIG, registry, store, FakeNotary()) == []


@pytest.mark.parametrize("deletes_tags", [True, False], ids=["by tag", "by digest"])
def test_a_yank_takes_tags_away_and_its_end_puts_them_back(
    store: LocalStore, *, deletes_tags: bool
) -> None:
    registry = holding(deletes_tags=deletes_tags)
    move(registry, store)
    before = dict(registry.tagged())
    add(store, yank("pypy", "pypy3.11-v7.3.23", stamped()))

    changes = move(registry, store)

    assert {tag for tag in before if tag not in registry.tagged()} == {
        "3.11-7.3.23",
        "3.11-7.3.23-trixie",
        "3-7.3.23",
        "3-7.3.23-trixie",
    }
    assert version_at(registry, "latest") == "7.3.22"
    assert "registry.test/owner/pypy:3-7.3.23" in changes.changed
    assert changes.left == ()
    add(store, unyank("pypy", "pypy3.11-v7.3.23", stamped()))
    move(registry, store)
    assert registry.tagged() == before


def test_tags_move_away_before_a_yanked_index_goes(store: LocalStore) -> None:
    """An index that is taken away takes every tag with it that leads there."""
    registry = holding(deletes_tags=False)
    move(registry, store)
    registry.requests.clear()
    add(store, yank("pypy", "pypy3.11-v7.3.23", stamped()))

    move(registry, store)

    kinds = [name.split(maxsplit=1)[0] for name in registry.requests]
    assert kinds.count("remove") == 1
    assert kinds == sorted(kinds)


def test_tags_that_a_registry_does_not_take_away_are_told(store: LocalStore) -> None:
    registry = holding(deletes_tags=False, deletes_manifests=False)
    move(registry, store)
    add(store, yank("pypy", "pypy3.11-v7.3.23", stamped()))

    changes = move(registry, store)

    assert changes.left == (
        "registry.test/owner/pypy:3-7.3.23",
        "registry.test/owner/pypy:3-7.3.23-trixie",
        "registry.test/owner/pypy:3.11-7.3.23",
        "registry.test/owner/pypy:3.11-7.3.23-trixie",
    )
    assert stale_tags(CONFIG, registry, store, FakeNotary()) == list(changes.left)
    assert version_at(registry, "latest") == "7.3.22"


def test_tags_of_others_stay(store: LocalStore) -> None:
    registry = holding()
    move(registry, store)
    registry.named["pypy", "mine"] = registry.named["pypy", "3.11"]

    assert move(registry, store).changed == ()
    assert "mine" in registry.tagged()


def test_who_knew_less_looks_again(store: LocalStore) -> None:
    """Another publishes, and moves the tags, while this one is about to."""
    registry = holding(BusyRegistry)

    def meanwhile() -> None:
        add(store, publishes("7.3.24"))
        move(registry, store)

    registry.before["latest"] = meanwhile

    move(registry, store)

    assert version_at(registry, "latest") == "7.3.24"
    assert stale_tags(CONFIG, registry, store, FakeNotary()) == []


def test_no_tag_is_moved_by_who_knows_that_he_knows_less(store: LocalStore) -> None:
    """The ledger is looked at just before, so a newer tag is not overwritten meanwhile."""
    registry = holding(BusyRegistry)
    seen: list[str | None] = []

    def meanwhile() -> None:
        add(store, publishes("7.3.24"))
        move(registry, store)

    registry.before["3.11-7.3.22"] = meanwhile
    original = registry.put_manifest

    def noted(image: str, reference: str, data: bytes, media_type: str) -> bool:
        done: bool = original(image, reference, data, media_type)
        if reference == "3.11":
            seen.append(version_at(registry, "3.11"))
        return done

    registry.put_manifest = noted

    move(registry, store)

    assert seen == ["7.3.24"]


def test_a_tag_that_is_refused_does_not_keep_others_behind(store: LocalStore) -> None:
    registry = holding(BusyRegistry, refused=frozenset({"3.11-7.3.22"}))

    with pytest.raises(DestinationError, match=r"3\.11-7\.3\.22: HTTP 403"):
        move(registry, store)

    assert version_at(registry, "3.11") == "7.3.23"
    assert version_at(registry, "3.11-7.3.22-trixie") == "7.3.22"


def of_two_images(registry: FakeRegistry, tmp_path: Path) -> LocalStore:
    """Return a store with a release of PyPy, and one with images of another name."""
    store = LocalStore(tmp_path / "two")
    other = tuple(changed(item, image="zypy") for item in release("7.3.24").images)
    event = changed(
        release("7.3.24"), interpreter="pypy3.10", release="pypy3.10-v7.3.24", images=other
    )
    for image in other:
        registry.manifests[image.image, image.digest] = (b"{}", IMAGE_MANIFEST_TYPE)
    add(
        store,
        publishes("7.3.22"),
        publishes("7.3.23"),
        lambda state: changed(event, sequence=state.sequence + 1),
    )
    return store


def test_every_image_has_its_tags_before_any_tag_goes(tmp_path: Path) -> None:
    registry = holding()
    store = of_two_images(registry, tmp_path)
    move(registry, store)
    add(store, yank("pypy", "pypy3.11-v7.3.23", stamped()))
    registry.named.pop(("zypy", "3.11"))
    registry.requests.clear()

    move(registry, store)

    kinds = [name.split(maxsplit=1)[0] for name in registry.requests]
    assert kinds == sorted(kinds)
    assert {"put 3.11", "remove 3.11-7.3.23"} <= set(registry.requests)


def test_a_tag_that_may_not_be_taken_away_does_not_keep_others(tmp_path: Path) -> None:
    registry = holding(BusyRegistry)
    store = of_two_images(registry, tmp_path)
    move(registry, store)
    add(store, yank("pypy", "pypy3.11-v7.3.23", stamped()))
    registry.refused = frozenset({"3-7.3.23", "3.11-7.3.22"})
    registry.named.pop(("zypy", "3.11"))
    registry.named.pop(("pypy", "3.11-7.3.22"))

    with pytest.raises(DestinationError, match=r"^3\.11-7\.3\.22: HTTP 403"):
        move(registry, store)

    assert "3.11" in registry.tagged("zypy")
    assert {"3-7.3.23", "3-7.3.23-trixie", "3.11-7.3.23"} & set(registry.tagged()) == {"3-7.3.23"}


def test_tags_that_are_not_listed_do_not_keep_those_of_other_images(tmp_path: Path) -> None:
    registry = holding(BusyRegistry, unlisted=frozenset({"pypy"}))
    store = of_two_images(registry, tmp_path)
    registry.put_manifest("zypy", "3.11-7.3.23", b"{}", IMAGE_MANIFEST_TYPE)

    with pytest.raises(DestinationError, match="pypy: tags: HTTP 403"):
        move(registry, store)

    assert "3.11" in registry.tagged("zypy")


def test_an_exact_tag_that_led_elsewhere_is_put_right_and_told(store: LocalStore) -> None:
    """An exact tag never moves, so somebody else pushed it; one that moves may lead anywhere."""
    registry = holding()
    move(registry, store)
    registry.named["pypy", "3.11-7.3.22"] = registry.named["pypy", "3.11"]
    registry.named["pypy", "latest"] = registry.named["pypy", "3.11-7.3.22-trixie"]
    registry.named.pop(("pypy", "3.11-7.3.23"))

    changes = move(registry, store)

    assert changes.repaired == ("registry.test/owner/pypy:3.11-7.3.22",)
    assert len(changes.changed) == 3
    assert version_at(registry, "3.11-7.3.22") == "7.3.22"


def test_a_tag_whose_images_are_gone_is_stale(store: LocalStore) -> None:
    registry = holding()
    move(registry, store)
    (lost, _) = release("7.3.22").images
    del registry.manifests["pypy", lost.digest]

    stale = stale_tags(CONFIG, registry, store, FakeNotary())

    assert set(stale) == {
        f"registry.test/owner/pypy:{start}-7.3.22{end}"
        for start in ("3", "3.11")
        for end in ("", "-trixie")
    }


def test_releases_that_never_stop_coming_end_in_an_error(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.publish.tags.is_still", lambda _store, _read: False)

    with pytest.raises(ConflictError, match="reconcile"):
        move(holding(), store)


def test_a_store_that_loses_its_answers_is_asked_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_arguments: object) -> None:
        msg = "the answer was lost"
        raise UncertainError(msg)

    monkeypatch.setattr("pipeline.publish.tags.read_ledger", lost)

    with pytest.raises(UncertainError, match="lost"):
        move(holding(), store)


def test_images_that_are_gone_are_not_tagged(store: LocalStore) -> None:
    registry = FakeRegistry()

    with pytest.raises(DestinationError, match="MANIFEST_BLOB_UNKNOWN"):
        move(registry, store)

    assert registry.tagged() == {}
