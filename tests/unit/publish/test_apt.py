"""Writing the apt repository: whoever reads it has a whole one, whoever is killed or races."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.distribute.apt import ReleaseText, parse_release
from pipeline.effects.store import LocalStore
from pipeline.errors import ConflictError
from pipeline.model.debian import AptConfig
from pipeline.publish.apt import AptSite, stale_apt, write_apt
from pipeline.publish.projections.apt import AptRepository
from tests.factories import NOON, make_view
from tests.fakes import FakeNotary
from tests.unit.publish.projections.test_apt import release, repository

CONFIG: Final = AptConfig(suites=("bookworm", "trixie"), keep=2)
HOUR: Final = timedelta(hours=1)
GRACE: Final = timedelta(hours=CONFIG.grace_hours)
IN_RELEASE: Final = "dists/bookworm/InRelease"
LIST: Final = "dists/bookworm/release/binary-amd64/Packages"
BOTH: Final = ("dists/bookworm/InRelease", "dists/trixie/InRelease")


def of(*versions: str, config: AptConfig = CONFIG) -> AptRepository:
    """Return the repository after releases of these versions."""
    return repository(make_view(*map(release, versions)), config)


ONE: Final = of("7.3.20")
TWO: Final = of("7.3.20", "7.3.21")
THREE: Final = of("7.3.20", "7.3.21", "7.3.22")
SMALL: Final = AptConfig(suites=("bookworm",), keep=2)
SMALL_ONE: Final = of("7.3.20", config=SMALL)
SMALL_TWO: Final = of("7.3.20", "7.3.21", config=SMALL)
SMALL_THREE: Final = of("7.3.20", "7.3.21", "7.3.22", config=SMALL)


def at(
    store: LocalStore, made: AptRepository, now: datetime = NOON, config: AptConfig = CONFIG
) -> AptSite:
    """Return a store that is to have a repository."""
    return AptSite(store=store, repository=made, config=config, notary=FakeNotary(), now=now)


def write(store: LocalStore, made: AptRepository, now: datetime = NOON) -> list[str]:
    """Write a repository; return what changed."""
    return list(write_apt(at(store, made, now)))


def stale(store: LocalStore, made: AptRepository, now: datetime = NOON) -> list[str]:
    """Return what is not as it should be."""
    return list(stale_apt(at(store, made, now)))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def text_in(store: LocalStore, key: str = IN_RELEASE) -> ReleaseText | None:
    """Return what an ``InRelease`` says, whose signature is good."""
    present = store.read(key)
    if present is None:
        return None
    return parse_release(FakeNotary().signed_text(present.data).decode())


def by_hash(store: LocalStore, suite: str = "bookworm") -> set[str]:
    """Return the paths of the lists below by-hash; each is what its name says."""
    found = set()
    for key in store.sizes(f"dists/{suite}"):
        if "/by-hash/" in key:
            present = store.read(key)
            assert present is not None
            assert hashlib.sha256(present.data).hexdigest() == key.rpartition("/")[2]
            found.add(key.removeprefix(f"dists/{suite}/"))
    return found


def require_whole(store: LocalStore) -> None:
    """Look whether a client that reads any suite now finds every list."""
    for key in BOTH:
        text = text_in(store, key)
        if text is not None:
            assert text.by_hash <= by_hash(store, key.split("/")[1])


# --- one writer -----------------------------------------------------------------------------


def test_everything_is_written_and_named(store: LocalStore) -> None:
    written = write(store, ONE)

    assert set(written) == {*ONE.by_hash, *ONE.documents, *BOTH}
    assert set(store.sizes("dists")) | set(store.sizes("apt")) == set(written)
    text = text_in(store)
    assert text is not None
    assert text.body == ONE.suites["bookworm"].body
    assert (text.times.date, text.times.valid_until) == (NOON, NOON + timedelta(days=14))


def test_writing_again_writes_nothing_until_half_of_its_time_is_over(store: LocalStore) -> None:
    write(store, ONE)
    half = NOON + timedelta(days=7)

    assert (write(store, ONE, half), stale(store, ONE, half)) == ([], [])

    after = half + HOUR
    assert stale(store, ONE, after) == list(BOTH)
    assert write(store, ONE, after) == list(BOTH)
    assert stale(store, ONE, after) == []
    text = text_in(store)
    assert text is not None
    assert text.times.valid_until == after + timedelta(days=14)


@pytest.mark.parametrize(
    "damage",
    [b"Origin: somebody\nsigned by nobody\n", b"", FakeNotary().clearsigned(b"Origin: other\n")],
    ids=["bad signature", "empty", "not ours"],
)
def test_what_no_trusted_key_signed_is_written_anew(store: LocalStore, damage: bytes) -> None:
    write(store, ONE)
    (store.root / IN_RELEASE).write_bytes(damage)

    assert stale(store, ONE) == [IN_RELEASE]
    assert write(store, ONE) == [IN_RELEASE]
    assert text_in(store) is not None


@pytest.mark.parametrize("damage", ["gone", "cut"])
@pytest.mark.parametrize("key", [LIST, f"{LIST}.xz", "apt/bookworm.sources", "by-hash"])
def test_a_damaged_file_is_named_and_mended(store: LocalStore, key: str, damage: str) -> None:
    write(store, ONE)
    if key == "by-hash":
        key = next(name for name in sorted(ONE.by_hash) if ONE.by_hash[name].data)
    path = store.root / key
    good = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(good[:-1])

    assert stale(store, ONE) == [key]
    assert write(store, ONE) == [key]
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    "key",
    [
        "dists/bookworm/Release.gpg",
        "dists/bullseye/InRelease",
        f"dists/bullseye/release/binary-amd64/by-hash/SHA256/{'0' * 64}",
        "apt/bullseye.sources",
    ],
)
def test_what_does_not_belong_there_is_named_and_removed(store: LocalStore, key: str) -> None:
    write(store, ONE)
    (store.root / key).parent.mkdir(parents=True, exist_ok=True)
    (store.root / key).write_bytes(b"stray")

    assert stale(store, ONE) == [key]
    assert write(store, ONE) == [key]
    assert not (store.root / key).exists()


def test_of_a_suite_that_is_gone_the_signed_list_goes_first(store: LocalStore) -> None:
    write(store, ONE)
    config = AptConfig(suites=("bookworm",), keep=2)
    made = of("7.3.20", config=config)

    gone = list(write_apt(at(store, made, config=config)))

    assert gone[0] == "dists/trixie/InRelease"
    assert store.sizes("dists/trixie") == {}
    assert "apt/trixie.sources" in gone


def test_replaced_lists_stay_for_the_time_of_grace_and_go_with_the_next_writing(
    store: LocalStore,
) -> None:
    write(store, ONE)
    old = by_hash(store)
    write(store, TWO, NOON + HOUR)
    gone = old - set(TWO.suites["bookworm"].by_hash)
    assert gone
    assert old <= by_hash(store)

    write(store, THREE, NOON + GRACE)
    assert old <= by_hash(store)

    write(store, TWO, NOON + HOUR + GRACE)
    assert gone.isdisjoint(by_hash(store))
    text = text_in(store)
    assert text is not None
    assert set(text.times.superseded) == by_hash(store) - text.by_hash


def test_what_a_killed_writer_left_is_taken_for_superseded(store: LocalStore) -> None:
    write(store, ONE)
    for key, item in TWO.by_hash.items():
        if store.read(key) is None:
            store.replace(key, item.data, tag=None, content_type=item.content_type)
    left = set(TWO.suites["bookworm"].by_hash) - set(ONE.suites["bookworm"].by_hash)

    write(store, THREE, NOON + HOUR)

    text = text_in(store)
    assert text is not None
    assert {path: text.times.superseded[path] for path in left} == dict.fromkeys(left, NOON + HOUR)


# --- killed ---------------------------------------------------------------------------------


class KilledError(BaseException):
    """The process ends here."""


class Mortal(LocalStore):
    """A store whose user is killed before its N-th change; nothing changes after that."""

    def __init__(self, root: Path, changes: int) -> None:
        super().__init__(root)
        self.left = changes
        self.lock = Lock()

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Replace, or end."""
        with self.lock:
            self._live()
            super().replace(key, data, tag=tag, content_type=content_type)

    def remove(self, key: str) -> None:
        """Remove, or end."""
        with self.lock:
            self._live()
            super().remove(key)

    def _live(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1


def killed_at_each_change(
    root: Path, before: Callable[[LocalStore], None], made: AptRepository, now: datetime
) -> Iterator[LocalStore]:
    """Give the store after each place where who writes to it can be killed."""
    for changes in range(1000):
        mortal = Mortal(root / str(changes), changes)
        before(LocalStore(mortal.root))
        try:
            write(mortal, made, now)
        except KilledError:
            yield LocalStore(mortal.root)
        else:
            assert changes > 10
            return


def test_wherever_a_writer_is_killed_clients_find_every_list_and_the_next_one_ends_it(
    tmp_path: Path,
) -> None:
    """The killed one also removes: what came first is superseded for longer than the grace."""
    later = NOON + HOUR + GRACE

    def before(store: LocalStore) -> None:
        write(store, SMALL_ONE)
        write(store, SMALL_TWO, NOON + HOUR)

    kept = set(SMALL_TWO.suites["bookworm"].by_hash)
    for store in killed_at_each_change(tmp_path, before, SMALL_THREE, later):
        require_whole(store)
        assert kept <= by_hash(store)

        write(store, SMALL_THREE, later)

        require_whole(store)
        assert kept <= by_hash(store)
        assert stale(store, SMALL_THREE, later) == []


repositories = st.sampled_from([SMALL_ONE, SMALL_TWO, SMALL_THREE])
writings = st.tuples(
    repositories, st.integers(0, 60).map(lambda hours: timedelta(hours=hours)), st.integers(0, 40)
)


@settings(max_examples=20)
@given(st.lists(writings, min_size=1, max_size=6))
def test_whatever_happens_no_list_is_missed_by_who_read_the_signed_list_within_the_grace(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[AptRepository, timedelta, int]],
) -> None:
    root, now = tmp_path_factory.mktemp("store"), NOON
    named: list[tuple[frozenset[str], datetime]] = []
    for made, pause, changes in history:
        now += pause
        with suppress(KilledError):
            write(Mortal(root, changes), made, now)
        store = LocalStore(root)
        text = text_in(store)
        if text is not None:
            if named and named[-1][0] == text.by_hash:
                named.pop()
            named = [(lists, min(end, now)) for lists, end in named]
            named.append((text.by_hash, datetime.max.replace(tzinfo=NOON.tzinfo)))
        for lists, end in named:
            if now - GRACE < end:
                assert lists <= by_hash(store)


# --- several writers ------------------------------------------------------------------------


class Interrupted(LocalStore):
    """A store in which something happens just before the first object of its kind changes."""

    def __init__(self, root: Path, *, replace: str = "", remove: bool = False) -> None:
        super().__init__(root)
        self.wanted, self.removes = replace, remove
        self.happens: Callable[[LocalStore], object] = lambda _store: None

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Let it happen first."""
        if self.wanted and key.endswith(self.wanted):
            self.wanted = ""
            self.happens(LocalStore(self.root))
        super().replace(key, data, tag=tag, content_type=content_type)

    def remove(self, key: str) -> None:
        """Let it happen first."""
        if self.removes:
            self.removes = False
            self.happens(LocalStore(self.root))
        super().remove(key)


def test_of_two_writers_one_is_told_that_the_other_was_first(tmp_path: Path) -> None:
    store = Interrupted(tmp_path, replace=IN_RELEASE)
    write(LocalStore(tmp_path), ONE)
    store.happens = lambda other: write(other, TWO, NOON + HOUR)

    with pytest.raises(ConflictError):
        write(store, THREE, NOON + HOUR)

    require_whole(store)
    text = text_in(store)
    assert text is not None
    assert text.body == TWO.suites["bookworm"].body
    write(store, THREE, NOON + HOUR)
    assert stale(store, THREE, NOON + HOUR) == []


def test_who_removes_what_another_takes_back_into_use_is_told_and_mends_it(
    tmp_path: Path,
) -> None:
    """An unyank names lists again whose time is over, while they are being removed."""
    store, later = Interrupted(tmp_path, remove=True), NOON + HOUR + GRACE
    write(LocalStore(tmp_path), ONE)
    write(LocalStore(tmp_path), TWO, NOON + HOUR)
    store.happens = lambda other: write(other, ONE, later)

    with pytest.raises(ConflictError, match="while old lists were removed"):
        write(store, THREE, later)

    assert write(store, ONE, later)  # as the loop around it does, with the newest ledger
    require_whole(store)
    assert stale(store, ONE, later) == []


def test_who_was_overtaken_before_it_removes_removes_nothing(tmp_path: Path) -> None:
    """Another wrote between the signed list and the look that comes before a removal."""
    later = NOON + HOUR + GRACE
    write(LocalStore(tmp_path), ONE)
    write(LocalStore(tmp_path), TWO, NOON + HOUR)

    class Overtaken(LocalStore):
        def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
            super().replace(key, data, tag=tag, content_type=content_type)
            if key == IN_RELEASE:
                write(LocalStore(self.root), ONE, later)

        def remove(self, key: str) -> None:
            pytest.fail(f"removed {key}")

    with pytest.raises(ConflictError):
        write(Overtaken(tmp_path), THREE, later)

    require_whole(LocalStore(tmp_path))


def test_a_list_that_another_removed_meanwhile_is_put_again(tmp_path: Path) -> None:
    store = Interrupted(tmp_path, replace=IN_RELEASE)
    write(LocalStore(tmp_path), ONE)
    lost = max(TWO.by_hash)
    store.happens = lambda other: other.remove(lost)

    assert lost in write(store, TWO, NOON + HOUR)

    require_whole(store)


def test_a_list_that_another_put_meanwhile_is_as_good(tmp_path: Path) -> None:
    class Late(LocalStore):
        def sizes(self, prefix: str) -> dict[str, int]:
            found = super().sizes(prefix)
            for key, item in ONE.by_hash.items():
                if self.read(key) is None:
                    self.replace(key, item.data, tag=None, content_type=item.content_type)
            return found

    write(Late(tmp_path), ONE)

    require_whole(LocalStore(tmp_path))
    assert stale(LocalStore(tmp_path), ONE) == []
