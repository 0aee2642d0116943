"""Writing indexes: whatever is there, afterwards it is what the ledger says, on every site."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.context import Context
from pipeline.effects.files import WorkDirectory
from pipeline.effects.store import LocalStore
from pipeline.errors import (
    ConflictError,
    FetchBackError,
    LedgerError,
    SigningKeyError,
    UncertainError,
)
from pipeline.model import naming
from pipeline.model.base import canonical_json
from pipeline.model.debian import AptConfig
from pipeline.model.ledger import Ledger, Published, SignedLedger, State, Yanked
from pipeline.publish import ledger as ledger_module
from pipeline.publish import project as module
from pipeline.publish.events import Stamp, yank
from pipeline.publish.ledger import Decide, append, read_ledger
from pipeline.publish.project import project, require_mirrors, stale_indexes, wanted_indexes
from pipeline.publish.projections import projections
from pipeline.publish.sites import OpenChannel, Site
from pipeline.publish.view import Document, Pointer, Projection, View
from tests.factories import CONFIGS, NOON, changed, later, make_config, make_event, make_state
from tests.fakes import FakeNotary, make_context
from tests.unit.publish.projections.test_apt import packaged

JSON: Final = "application/json"
FIRST, SECOND = "https://first.test", "https://second.test"
NAMES, DEFINITION, LATEST = "pypy/names.json", "pypy/definitions/{}.json", "pypy/latest/{}"
CONFIG: Final = make_config()
CONTEXT: Final = make_context(CONFIGS.parent)

Meanwhile = Callable[[LocalStore], None]


class BusyStore(LocalStore):
    """A store in which something happens just before an object is replaced."""

    def __init__(self, root: Path, *meanwhile: Meanwhile) -> None:
        super().__init__(root)
        self.meanwhile = list(meanwhile)

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Let it happen, then write."""
        if self.meanwhile:
            self.meanwhile.pop(0)(LocalStore(self.root))
        super().replace(key, data, tag=tag, content_type=content_type)


def indexes_of(view: View) -> dict[str, Projection]:
    """Return small indexes of every form: the names, one of each release, and a pointer."""
    found: dict[str, Projection] = {}
    for product in view.products:
        offered = [item.published for item in view.releases(product) if item.is_offered]
        lines = [view.url(event, "file") for event in offered]
        found[f"{product}/names.json"] = Document(
            data=json.dumps(lines).encode(), content_type=JSON
        )
        for event in offered:
            found[DEFINITION.format(event.release)] = Document(data=b"{}", content_type=JSON)
            newest = naming.store_key(product, event.release, "archive.tar.gz")
            found[LATEST.format(event.interpreter)] = Pointer(target=newest)
    return found


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped indexes have tests of their own."""
    monkeypatch.setattr(module, "projections", indexes_of)


def happens(event: Published) -> Decide:
    """Return what publishes the release of *event*."""
    return lambda state: changed(event, sequence=state.sequence + 1)


def add(store: LocalStore, *decisions: Decide) -> None:
    """Append to a store's ledger."""
    for decide in decisions:
        append(store, FakeNotary(), decide, lambda _seconds: None)


def release(number: int) -> Decide:
    """Return what publishes a version of its own, without files."""
    return happens(make_event(version=f"7.3.{number}", files=()))


def with_files(number: int) -> Published:
    """Return what published a version of its own, with its files."""
    return make_event(version=f"7.3.{number}")


def put_files(site: Site, event: Published) -> None:
    """Put the files of a release; only their names matter here."""
    for artifact in event.files:
        path = Path(site.store.address, event.product, event.release, artifact.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"file")


def yanked(number: int) -> Decide:
    """Return what yanks that version."""
    stamp = Stamp(at=NOON, by="me", reason="a test")
    return yank("pypy", f"pypy3.11-v7.3.{number}", stamp)


def site_of(root: Path, url: str = FIRST) -> Site:
    """Return a site in a directory."""
    return Site(store=LocalStore(root), base_url=url)


def public(site: Site) -> dict[str, bytes | str]:
    """Return what a site has for clients: documents by their bytes, pointers by their target."""
    root = Path(site.store.address)
    found: dict[str, bytes | str] = {}
    for path in root.rglob("*"):
        key = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[key] = site.store.target(key) or ""
        elif path.is_file() and not key.startswith((".incoming", "ledger")):
            found[key] = path.read_bytes()
    return found


def expected(site: Site, state: State) -> dict[str, bytes | str]:
    """Return what a site should have."""
    view = View(
        state=state,
        platforms=CONFIG.platforms,
        interpreters=CONFIG.interpreters,
        base_url=site.base_url,
    )
    return {
        key: made.data if isinstance(made, Document) else made.target
        for key, made in indexes_of(view).items()
    }


def state_of(site: Site) -> State:
    """Return what the ledger of a site says."""
    return read_ledger(site.store, FakeNotary()).state


def channel_of(*sites: Site) -> OpenChannel:
    """Return the channel that is published there."""
    return OpenChannel(config=CONFIG.channels.release, sites=sites, notary=FakeNotary())


def write(*sites: Site) -> list[str]:
    """Make the sites' indexes what the ledger says."""
    return project(CONTEXT, channel_of(*sites), lambda _seconds: None)


def stale(*sites: Site) -> list[str]:
    """Return what is not what the ledger says."""
    return stale_indexes(CONTEXT, channel_of(*sites))


def urls(site: Site, *keys: str) -> list[str]:
    """Return the addresses of keys."""
    return [f"{site.base_url}/{key}" for key in keys]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store with a release."""
    made = site_of(tmp_path / "store")
    add(LocalStore(tmp_path / "store"), release(1))
    return made


def store_of(site: Site) -> LocalStore:
    """Return the site's store as somebody else would open it."""
    return LocalStore(Path(site.store.address))


RELEASED: Final = (
    NAMES,
    DEFINITION.format("pypy3.11-v7.3.1"),
    LATEST.format("pypy3.11"),
)


# --- one site -------------------------------------------------------------------------------


def test_every_index_is_written_and_named(site: Site) -> None:
    assert write(site) == urls(site, *RELEASED)

    assert public(site) == expected(site, make_state(make_event(version="7.3.1")))


def test_the_shipped_indexes_are_written_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "projections", projections)
    site = site_of(tmp_path / "store")
    add(store_of(site), happens(with_files(1)))

    write(site)

    wanted = wanted_indexes(CONFIG, site, read_ledger(site.store, FakeNotary())).indexes
    assert wanted
    assert public(site) == {
        key: made.data if isinstance(made, Document) else made.target
        for key, made in wanted.items()
    }
    assert stale(site) == []


def test_writing_again_writes_nothing(site: Site) -> None:
    write(site)
    root = Path(site.store.address)
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}

    assert write(site) == []

    assert {path: path.lstat().st_mtime_ns for path in before} == before


def test_an_empty_store_gets_nothing(tmp_path: Path) -> None:
    site = site_of(tmp_path / "store")

    assert (write(site), stale(site)) == ([], [])
    assert public(site) == {}


@pytest.mark.parametrize("key", RELEASED)
@pytest.mark.parametrize("damage", ["other", "gone"])
def test_an_index_that_is_not_the_ledgers_is_named_and_repaired(
    site: Site, key: str, damage: str
) -> None:
    write(site)
    good, path = public(site), Path(site.store.address, key)
    path.unlink()
    if damage == "other":
        path.write_bytes(b"other")
    damaged = public(site)

    assert stale(site) == urls(site, key)
    assert public(site) == damaged

    assert write(site) == urls(site, key)
    assert public(site) == good
    assert stale(site) == []


def test_a_pointer_that_leads_elsewhere_is_repaired(site: Site) -> None:
    write(site)
    good, key = public(site), LATEST.format("pypy3.11")
    site.store.point(key, "pypy/elsewhere")

    assert stale(site) == urls(site, key)
    assert write(site) == urls(site, key)
    assert public(site) == good


def test_of_a_yanked_release_no_index_is_left(site: Site) -> None:
    add(store_of(site), release(2))
    write(site)

    add(store_of(site), yanked(2))

    gone = DEFINITION.format("pypy3.11-v7.3.2")
    assert set(stale(site)) == set(urls(site, NAMES, gone, LATEST.format("pypy3.11")))
    assert set(write(site)) == set(urls(site, NAMES, gone, LATEST.format("pypy3.11")))
    event = make_event(version="7.3.2")
    state = make_state(make_event(version="7.3.1"), event, later(Yanked, event))
    assert public(site) == expected(site, state)


def test_of_a_product_without_a_release_that_is_offered_indexes_are_empty(site: Site) -> None:
    write(site)

    add(store_of(site), yanked(1))
    write(site)

    assert public(site) == {NAMES: b"[]"}


@pytest.mark.parametrize("name", naming.INDEX_DIRECTORIES)
def test_a_file_that_is_no_index_is_taken_from_where_only_indexes_are(
    site: Site, name: str
) -> None:
    write(site)
    path = Path(site.store.address, "pypy", name, "stray")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"stray")

    assert stale(site) == urls(site, f"pypy/{name}/stray")
    assert write(site) == urls(site, f"pypy/{name}/stray")
    assert not path.exists()


def test_files_of_releases_are_never_taken(site: Site) -> None:
    path = Path(site.store.address, "pypy/pypy3.11-v7.3.1/archive.tar.gz")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"archive")
    add(store_of(site), yanked(1))

    write(site)

    assert path.read_bytes() == b"archive"


def test_a_changed_address_changes_the_indexes(site: Site) -> None:
    write(site)
    moved = Site(store=site.store, base_url=SECOND)

    assert write(moved) == urls(moved, NAMES)
    assert SECOND.encode() in store_of(site).read(NAMES).data  # type: ignore[union-attr]


# --- others that write ----------------------------------------------------------------------


def busy(tmp_path: Path, *meanwhile: Meanwhile) -> Site:
    """Return a store with a release, to which others write while its indexes are."""
    add(LocalStore(tmp_path / "store"), release(1))
    return Site(store=BusyStore(tmp_path / "store", *meanwhile), base_url=FIRST)


BOTH: Final = make_state(make_event(version="7.3.1"), make_event(version="7.3.2"))


def test_an_event_that_comes_while_indexes_are_written_is_in_them(tmp_path: Path) -> None:
    site = busy(tmp_path, lambda store: add(store, release(2)))

    write(site)

    assert public(site) == expected(site, BOTH)


def test_newer_indexes_that_another_wrote_meanwhile_are_not_undone(tmp_path: Path) -> None:
    def publish(store: LocalStore) -> None:
        add(store, release(2))
        write(Site(store=store, base_url=FIRST))

    site = busy(tmp_path, publish)

    write(site)

    assert public(site) == expected(site, BOTH)


def test_a_lost_answer_is_looked_up(tmp_path: Path) -> None:
    site = busy(tmp_path, lose_answer)

    assert sorted(write(site)) == sorted(urls(site, *RELEASED))


def lose_answer(_store: LocalStore) -> None:
    """Lose the answer."""
    msg = "no answer"
    raise UncertainError(msg)


def test_between_attempts_there_are_pauses_that_grow(tmp_path: Path) -> None:
    pauses: list[float] = []
    site = busy(tmp_path, *[lose_answer] * 12)  # two documents an attempt

    project(CONTEXT, channel_of(site), pauses.append)

    longest = [min(0.05 * 2**attempt, ledger_module.LONGEST_PAUSE) for attempt in range(6)]
    assert len(pauses) == 6
    assert all(0 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    assert len(set(pauses)) > 1


def test_where_the_last_answer_was_lost_that_is_said(tmp_path: Path) -> None:
    site = busy(tmp_path, *[lose_answer] * 1000)

    with pytest.raises(UncertainError, match="no answer"):
        write(site)


def test_indexes_that_others_keep_changing_are_given_up(tmp_path: Path) -> None:
    numbers = iter(range(10_000))

    class Spoiled(LocalStore):
        def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
            if key == NAMES:
                there = self.read(NAMES)
                spoiled = str(next(numbers)).encode()
                mine = None if there is None else there.tag
                super().replace(NAMES, spoiled, tag=mine, content_type="text/plain")
            super().replace(key, data, tag=tag, content_type=content_type)

    busy(tmp_path)
    site = Site(store=Spoiled(tmp_path / "store"), base_url=FIRST)

    with pytest.raises(ConflictError, match=r"all the time\. Run: python -m pipeline reconcile"):
        write(site)


def test_a_ledger_that_others_keep_changing_is_given_up(tmp_path: Path) -> None:
    add(LocalStore(tmp_path / "store"), release(1))
    numbers = iter(range(2, 10_000))

    class Growing(LocalStore):
        def sizes(self, prefix: str) -> dict[str, int]:
            if prefix.endswith("latest"):
                add(LocalStore(self.root), release(next(numbers)))
            return super().sizes(prefix)

    with pytest.raises(ConflictError, match="changed by others all the time"):
        write(Site(store=Growing(tmp_path / "store"), base_url=FIRST))


# --- mirrors --------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path: Path) -> Site:
    """An empty mirror."""
    return site_of(tmp_path / "mirror", SECOND)


def ledger_files(site: Site) -> dict[str, bytes]:
    """Return the ledger of a site with its sealed files, those that it names."""
    ledger = Ledger.model_validate_json(
        SignedLedger.model_validate_json(site.store.read("ledger.json").data).payload  # type: ignore[union-attr]
    )
    keys = ["ledger.json", *(segment.key for segment in ledger.segments)]
    if ledger.checkpoint is not None:
        keys.append(ledger.checkpoint.key)
    return {key: Path(site.store.address, key).read_bytes() for key in keys}


def test_a_mirror_gets_the_ledger_and_indexes_with_its_own_addresses(
    site: Site, mirror: Site
) -> None:
    written = write(site, mirror)

    assert written == [*urls(site, *RELEASED), *urls(mirror, "ledger.json", *RELEASED)]
    assert ledger_files(mirror) == ledger_files(site)
    assert public(mirror) == expected(mirror, state_of(site))
    assert public(mirror)[NAMES] != public(site)[NAMES]
    assert (write(site, mirror), stale(site, mirror)) == ([], [])


def test_a_new_mirror_without_the_files_is_offered_nothing_until_it_has_them(
    site: Site, mirror: Site
) -> None:
    event = with_files(2)
    add(store_of(site), happens(event))

    with pytest.raises(FetchBackError) as caught:
        write(site, mirror)

    message = str(caught.value)
    assert message.startswith(f"{SECOND}: lacks {len(event.files)} files of releases")
    assert message.endswith("Run: python -m pipeline reconcile")
    assert public(site) == expected(site, BOTH)
    assert (public(mirror), mirror.store.read("ledger.json")) == ({}, None)

    put_files(mirror, event)
    write(site, mirror)
    assert (stale(site, mirror), state_of(mirror)) == ([], state_of(site))


def test_a_mirror_that_lacks_files_does_not_hold_back_the_others(
    site: Site, mirror: Site, tmp_path: Path
) -> None:
    event, other = with_files(2), site_of(tmp_path / "other", "https://third.test")
    add(store_of(site), happens(event))
    put_files(other, event)

    with pytest.raises(FetchBackError, match=SECOND):
        write(site, mirror, other)

    assert stale(site, other) == []


def test_a_mirror_that_lost_files_still_learns_of_a_yank(site: Site, mirror: Site) -> None:
    """Its indexes name those files already; that a release is bad must not wait for them."""
    event = with_files(2)
    add(store_of(site), happens(event))
    put_files(mirror, event)
    write(site, mirror)
    Path(mirror.store.address, "pypy", event.release, event.files[0].filename).unlink()

    add(store_of(site), yanked(1))
    write(site, mirror)

    assert stale(site, mirror) == []


def test_files_of_a_yanked_release_may_be_missing_from_a_mirror(site: Site, mirror: Site) -> None:
    add(store_of(site), happens(with_files(2)), yanked(2))

    write(site, mirror)

    assert stale(site, mirror) == []


def test_mirrors_are_looked_at_without_writing(site: Site, mirror: Site) -> None:
    require_mirrors([site, mirror], FakeNotary())
    assert mirror.store.read("ledger.json") is None

    add(store_of(mirror), release(8))
    with pytest.raises(LedgerError, match="has events that"):
        require_mirrors([site, mirror], FakeNotary())


def test_a_mirror_follows_the_ledger(site: Site, mirror: Site) -> None:
    write(site, mirror)
    add(store_of(site), release(2), yanked(1))

    assert urls(mirror, "ledger.json")[0] in stale(site, mirror)
    write(site, mirror)

    assert stale(site, mirror) == []
    assert state_of(mirror) == state_of(site)
    assert public(mirror) == expected(mirror, state_of(site))


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 7])
def test_a_mirror_gets_the_sealed_files_too_however_far_it_was_behind(
    tmp_path: Path, mirror: Site, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT", 3)
    site = site_of(tmp_path / "store")
    add(store_of(site), *(release(number) for number in range(1, start + 1)))
    write(site, mirror)

    add(store_of(site), *(release(number) for number in range(start + 1, 9)))
    write(site, mirror)

    assert len(read_ledger(mirror.store, FakeNotary()).ledger.segments) == 2
    assert ledger_files(mirror) == ledger_files(site)
    assert state_of(mirror) == state_of(site)


def test_a_sealed_file_that_a_mirror_lost_is_named_and_put_again(
    site: Site, mirror: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT", 2)
    add(store_of(site), release(2))
    write(site, mirror)
    segment = read_ledger(site.store, FakeNotary()).ledger.segments[0].key
    Path(mirror.store.address, segment).unlink()

    assert stale(site, mirror) == urls(mirror, segment)
    assert write(site, mirror) == urls(mirror, segment)
    assert ledger_files(mirror) == ledger_files(site)


def test_a_sealed_file_that_the_store_lost_is_not_made_up(
    site: Site, mirror: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "SEGMENT", 2)
    add(store_of(site), release(2))
    segment = read_ledger(site.store, FakeNotary()).ledger.segments[0].key
    Path(site.store.address, segment).unlink()

    with pytest.raises(LedgerError, match=rf"{segment}: the ledger names it, but it is not there"):
        write(site, mirror)

    assert mirror.store.read("ledger.json") is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="cut"),
        pytest.param(
            canonical_json(SignedLedger(fingerprint="A" * 40, signature="bad", payload="{}")),
            id="nobodys",
        ),
    ],
)
def test_a_damaged_ledger_of_a_mirror_is_repaired(site: Site, mirror: Site, data: bytes) -> None:
    write(site, mirror)
    Path(mirror.store.address, "ledger.json").write_bytes(data)

    assert write(site, mirror) == urls(mirror, "ledger.json")
    assert ledger_files(mirror) == ledger_files(site)


@pytest.mark.parametrize("segment", [2, 3, 64])
def test_a_mirror_to_which_somebody_published_is_refused_and_left_as_it_is(
    site: Site, mirror: Site, monkeypatch: pytest.MonkeyPatch, segment: int
) -> None:
    """It may be the only place that has these events."""
    monkeypatch.setattr(ledger_module, "SEGMENT", segment)
    write(site, mirror)
    add(store_of(mirror), release(8))
    add(store_of(site), release(2), release(3))
    before = ledger_files(mirror), public(mirror)

    with pytest.raises(LedgerError) as caught:
        write(site, mirror)

    message = str(caught.value)
    assert message.startswith(f"{mirror.store.address}: ledger.json: has events that ")
    assert "Nothing was written there" in message
    assert (ledger_files(mirror), public(mirror)) == before


def test_an_event_that_another_copied_to_the_mirror_meanwhile_makes_it_no_other_ledger(
    site: Site, mirror: Site
) -> None:
    """Another releaser appends and copies between our reading the ledger and copying it."""
    write(site, mirror)

    class Followed(LocalStore):
        def sizes(self, prefix: str) -> dict[str, int]:
            if meanwhile:
                meanwhile.pop()()
            return super().sizes(prefix)

    def publish() -> None:
        add(store_of(site), release(2))
        write(site, mirror)

    meanwhile = [publish]
    ours = Site(store=Followed(Path(site.store.address)), base_url=FIRST)

    write(ours, mirror)

    assert ledger_files(mirror) == ledger_files(site)
    assert (public(site), public(mirror)) == (expected(site, BOTH), expected(mirror, BOTH))


def test_a_store_of_others_is_no_mirror_whoever_signed_its_ledger(site: Site, mirror: Site) -> None:
    """Its key is not trusted here, but its events are sound, and they may be nowhere else."""
    add(store_of(mirror), release(8))
    path = Path(mirror.store.address, "ledger.json")
    theirs = SignedLedger.model_validate_json(path.read_bytes())
    signed = theirs.model_copy(update={"fingerprint": "B" * 40, "signature": "by them"})
    path.write_bytes(canonical_json(signed))
    before = path.read_bytes(), public(mirror)

    with pytest.raises(LedgerError, match="has events that"):
        write(site, mirror)

    assert (path.read_bytes(), public(mirror)) == before


def test_a_mirror_that_is_ahead_is_refused(site: Site, mirror: Site) -> None:
    """Somebody put an old ledger back into the store."""
    old = site.store.read("ledger.json")
    assert old is not None
    add(store_of(site), release(2))
    write(site, mirror)
    Path(site.store.address, "ledger.json").write_bytes(old.data)

    with pytest.raises(LedgerError, match="has events that"):
        write(site, mirror)


def test_an_empty_ledger_makes_no_mirror_empty(tmp_path: Path, mirror: Site) -> None:
    empty = site_of(tmp_path / "store")
    add(store_of(mirror), release(1))
    before = ledger_files(mirror)

    write(empty, mirror)

    assert ledger_files(mirror) == before


# --- apt ------------------------------------------------------------------------------------

APT: Final = AptConfig(suites=("bookworm",))
IN_RELEASE: Final = "dists/bookworm/InRelease"


@pytest.fixture
def apt(site: Site, mirror: Site, tmp_path: Path) -> tuple[Context, OpenChannel]:
    """A channel with an apt repository and a mirror, and where it may keep what it read."""
    config = changed(CONFIG.channels.release, apt=APT)
    channel = OpenChannel(config=config, sites=(site, mirror), notary=FakeNotary())
    return replace(CONTEXT, work=WorkDirectory(tmp_path / "work")), channel


def test_without_a_table_for_apt_nothing_is_written_for_it_and_what_is_there_stays(
    site: Site,
) -> None:
    stray = Path(site.store.address, "dists/bookworm/InRelease")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"somebody else's")

    assert write(site) == urls(site, *RELEASED)
    assert stale(site) == []
    assert stray.read_bytes() == b"somebody else's"
    assert not Path(site.store.address, "apt").exists()


def test_with_one_every_site_has_a_repository(
    apt: tuple[Context, OpenChannel], site: Site, mirror: Site
) -> None:
    ctx, channel = apt
    written = project(ctx, channel)

    assert urls(site, IN_RELEASE)[0] in written
    assert urls(mirror, IN_RELEASE)[0] in written
    source = mirror.store.read("apt/bookworm.sources")
    assert source is not None
    assert f"URIs: {SECOND}\n".encode() in source.data
    assert (project(ctx, channel), stale_indexes(ctx, channel)) == ([], [])


def test_an_empty_store_gets_no_repository(tmp_path: Path) -> None:
    config = changed(CONFIG.channels.release, apt=APT)
    site = site_of(tmp_path / "store")
    channel = OpenChannel(config=config, sites=(site,), notary=FakeNotary())

    assert (project(CONTEXT, channel), stale_indexes(CONTEXT, channel)) == ([], [])


def test_an_old_signed_list_is_stale_and_written_anew(
    apt: tuple[Context, OpenChannel], site: Site, mirror: Site
) -> None:
    ctx, channel = apt
    project(ctx, channel)
    later = replace(ctx, now=lambda: ctx.now() + timedelta(days=8))

    expected = [*urls(site, IN_RELEASE), *urls(mirror, IN_RELEASE)]
    assert stale_indexes(later, channel) == expected
    assert project(later, channel) == expected


@pytest.mark.parametrize("killed", [False, True])
def test_a_repository_that_the_channel_has_no_more_goes(
    apt: tuple[Context, OpenChannel], site: Site, mirror: Site, *, killed: bool
) -> None:
    """Its lists would offer yanked versions; who is killed after the first key is no matter."""
    ctx, channel = apt
    project(ctx, channel)
    without = replace(channel, config=changed(channel.config, apt=None))
    if killed:
        for each in (site, mirror):
            each.store.remove(IN_RELEASE)

    named = stale_indexes(ctx, without)
    assert project(ctx, without) == named

    first, last = (urls(site, key)[0] for key in (IN_RELEASE, "apt/KEY.asc"))
    of_site = [url for url in named if url.startswith(FIRST)]
    assert of_site[-1] == last
    assert (of_site[0] == first) is not killed
    for each in (site, mirror):
        assert (each.store.sizes("dists"), each.store.sizes("apt")) == ({}, {})
    assert public(site) == expected(site, state_of(site))
    assert stale_indexes(ctx, without) == []


@pytest.mark.parametrize("theirs", ["dists/theirs/InRelease", "apt/KEY.asc"])
def test_a_repository_of_somebody_else_stays(
    apt: tuple[Context, OpenChannel], site: Site, theirs: str
) -> None:
    ctx, channel = apt
    channel = replace(channel, sites=(site,))
    project(ctx, channel)
    path = Path(site.store.address, theirs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"somebody else's")
    if theirs.startswith("apt/"):
        site.store.remove(IN_RELEASE)
    before = public(site)
    without = replace(channel, config=changed(channel.config, apt=None))

    assert (stale_indexes(ctx, without), project(ctx, without)) == ([], [])
    assert public(site) == before


class PartialNotary(FakeNotary):
    """Has not all of the trusted keys."""

    def public_keys(self) -> bytes | None:
        """Refuse."""
        msg = "users must have every key"
        raise SigningKeyError(msg)


def test_who_lacks_a_trusted_key_looks_at_a_repository_and_writes_none(
    apt: tuple[Context, OpenChannel], site: Site
) -> None:
    ctx, channel = apt
    project(ctx, channel)
    partly = replace(channel, notary=PartialNotary())
    add(store_of(site), yanked(1))

    assert urls(site, IN_RELEASE)[0] not in stale_indexes(ctx, partly)
    with pytest.raises(SigningKeyError, match="every key"):
        project(ctx, partly)


def test_a_release_whose_list_of_packages_is_lost_keeps_only_apt_from_the_news(
    apt: tuple[Context, OpenChannel], site: Site
) -> None:
    """Its yank must reach all other clients, and then apt's too."""
    ctx, channel = apt
    channel = replace(channel, sites=(site,))
    project(ctx, channel)
    event = packaged(make_event(version="7.3.2", files=()))
    add(store_of(site), happens(event))

    with pytest.raises(FetchBackError, match=r"packages\.json"):
        project(ctx, channel)
    assert b"7.3.2" in store_of(site).read(NAMES).data  # type: ignore[union-attr]

    add(store_of(site), yanked(2))
    project(ctx, channel)
    assert stale_indexes(ctx, channel) == []
