"""The local store: names never change, and no writer's change is lost."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.effects.files import write_atomically
from pipeline.effects.store import LocalStore, Stored, Tagged
from pipeline.errors import ConflictError, StoreError
from pipeline.publish.ledger import append, read_ledger
from tests.factories import changed, make_event
from tests.fakes import FakeNotary

JSON = "application/json"
HOSTILE_KEYS = ["../x", "/etc/x", "a/../../x", ".incoming/lock", "a//b", "", "a\\..\\b"]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store whose directory does not exist yet."""
    return LocalStore(tmp_path / "store")


def a_file(tmp_path: Path, content: bytes) -> Path:
    """Write a file to be put."""
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


def public_files(store: LocalStore) -> dict[str, bytes]:
    """Return everything that the public may see, by key."""
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for path in store.root.rglob("*")
        if path.is_file() and not path.relative_to(store.root).as_posix().startswith(".incoming")
    }


def left_over(store: LocalStore) -> list[str]:
    """Return what puts left behind, besides the lock."""
    return [path.name for path in (store.root / ".incoming").iterdir() if path.name != "lock"]


def test_a_file_that_was_put_is_there(store: LocalStore, tmp_path: Path) -> None:
    path = a_file(tmp_path, b"content")

    put = store.put_new("demo/demo-v1.0.0/a.tar.gz", path, content_type="application/gzip")

    assert put is True
    assert public_files(store) == {"demo/demo-v1.0.0/a.tar.gz": b"content"}
    assert (store.root / "demo/demo-v1.0.0/a.tar.gz").stat().st_mode & 0o777 == 0o644
    assert left_over(store) == []


def test_a_file_that_was_put_does_not_change_with_its_source(
    store: LocalStore, tmp_path: Path
) -> None:
    path = a_file(tmp_path, b"content")
    store.put_new("a", path, content_type=JSON)

    path.write_bytes(b"changed")

    assert public_files(store) == {"a": b"content"}


@pytest.mark.parametrize("content", [b"content", b"other"], ids=["same-bytes", "other-bytes"])
def test_a_name_that_is_taken_keeps_its_bytes(
    store: LocalStore, tmp_path: Path, content: bytes
) -> None:
    store.put_new("a", a_file(tmp_path, b"content"), content_type=JSON)

    put = store.put_new("a", a_file(tmp_path, content), content_type=JSON)

    assert put is False
    assert public_files(store) == {"a": b"content"}
    assert left_over(store) == []


def test_of_many_that_put_at_once_one_wins_whole(store: LocalStore, tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    paths = [tmp_path / str(number) for number in range(8)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    won: list[int] = []
    start = threading.Barrier(len(paths))

    def put(number: int) -> None:
        start.wait()
        if store.put_new("a", paths[number], content_type=JSON):
            won.append(number)

    in_threads(put, len(paths))

    assert len(won) == 1
    assert public_files(store) == {"a": contents[won[0]]}


def test_a_put_that_fails_leaves_no_name(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)

    with pytest.raises(StoreError, match=r"^demo/a: the store cannot be used: .*No space left"):
        store.put_new("demo/a", a_file(tmp_path, b"content"), content_type=JSON)

    assert public_files(store) == {}
    assert left_over(store) == []


def test_what_is_stored_is_described_by_its_bytes(store: LocalStore, tmp_path: Path) -> None:
    store.put_new("a", a_file(tmp_path, b"content"), content_type=JSON)
    assert store.stored("a") == Stored(size=7, sha256=hashlib.sha256(b"content").hexdigest())

    (store.root / "a").write_bytes(b"rotten!")

    assert store.stored("a") == Stored(size=7, sha256=hashlib.sha256(b"rotten!").hexdigest())


def test_what_is_not_there_is_none(store: LocalStore) -> None:
    assert store.stored("a") is None
    assert store.read("a") is None


def test_an_object_is_read_with_a_tag_that_follows_its_bytes(store: LocalStore) -> None:
    store.replace("a.json", b"1", tag=None, content_type=JSON)
    first = store.read("a.json")
    assert first is not None

    store.replace("a.json", b"2", tag=first.tag, content_type=JSON)

    second = store.read("a.json")
    assert second is not None
    assert (first.data, second.data) == (b"1", b"2")
    assert first.tag != second.tag


@pytest.mark.parametrize(
    ("present", "tag"),
    [
        pytest.param(b"theirs", None, id="something-came"),
        pytest.param(b"theirs", "0" * 64, id="it-changed"),
        pytest.param(None, "0" * 64, id="it-vanished"),
    ],
)
def test_a_replacement_of_what_has_changed_is_refused(
    store: LocalStore, present: bytes | None, tag: str | None
) -> None:
    if present is not None:
        store.replace("a.json", present, tag=None, content_type=JSON)

    with pytest.raises(ConflictError, match=r"^a\.json: changed by somebody else"):
        store.replace("a.json", b"ours", tag=tag, content_type=JSON)

    assert public_files(store) == ({} if present is None else {"a.json": present})


def test_of_many_that_replace_at_once_one_wins(store: LocalStore) -> None:
    start = threading.Barrier(8)
    won: list[int] = []

    def replace(number: int) -> None:
        start.wait()
        try:
            store.replace("a.json", str(number).encode(), tag=None, content_type=JSON)
        except ConflictError:
            return
        won.append(number)

    in_threads(replace, 8)

    assert len(won) == 1
    assert public_files(store) == {"a.json": str(won[0]).encode()}


def test_between_comparing_and_swapping_nobody_else_writes(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflicts: list[ConflictError] = []

    def theirs() -> None:
        try:
            LocalStore(store.root).replace("a.json", b"theirs", tag=None, content_type=JSON)
        except ConflictError as error:
            conflicts.append(error)

    other = threading.Thread(target=theirs)

    def write_late(path: Path, data: bytes, aside: Path) -> None:
        monkeypatch.setattr("pipeline.effects.store.write_atomically", write_atomically)
        other.start()
        other.join(timeout=0.1)  # it has all the time to be first, unless it must wait
        write_atomically(path, data, aside)

    monkeypatch.setattr("pipeline.effects.store.write_atomically", write_late)

    store.replace("a.json", b"ours", tag=None, content_type=JSON)
    other.join()

    assert public_files(store) == {"a.json": b"ours"}
    assert len(conflicts) == 1


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_key_that_could_reach_elsewhere_is_refused_by_every_method(
    store: LocalStore, tmp_path: Path, key: str
) -> None:
    path = a_file(tmp_path, b"content")

    with pytest.raises(ValueError, match="is not a store key"):
        store.put_new(key, path, content_type=JSON)
    with pytest.raises(ValueError, match="is not a store key"):
        store.stored(key)
    with pytest.raises(ValueError, match="is not a store key"):
        store.read(key)
    with pytest.raises(ValueError, match="is not a store key"):
        store.replace(key, b"x", tag=None, content_type=JSON)
    with pytest.raises(ValueError, match="is not a store key"):
        store.sizes(key)
    with pytest.raises(ValueError, match="is not a store key"):
        store.point(key, "a")
    with pytest.raises(ValueError, match="is not a store key"):
        store.point("a", key)
    with pytest.raises(ValueError, match="is not a store key"):
        store.target(key)
    with pytest.raises(ValueError, match="is not a store key"):
        store.remove(key)
    assert {item.name for item in tmp_path.iterdir()} <= {"file", "store"}


def test_a_store_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file")
    store = LocalStore(tmp_path / "store")

    with pytest.raises(StoreError, match=r"^a: the store cannot be used: .*Check its directory"):
        store.put_new("a", a_file(tmp_path, b"x"), content_type=JSON)


def test_of_many_releases_published_at_once_no_event_is_lost(tmp_path: Path) -> None:
    """Each thread has its own store object, as each process would."""
    releases = [make_event(version=f"7.3.{number}") for number in range(6)]
    start = threading.Barrier(len(releases))
    events = []

    def publish(number: int) -> None:
        store = LocalStore(tmp_path / "store")
        start.wait()
        _, event = append(
            store,
            FakeNotary(),
            lambda state: changed(releases[number], sequence=state.sequence + 1),
            lambda _seconds: None,
        )
        assert event is not None
        events.append(event)

    in_threads(publish, len(releases))

    ledger = read_ledger(LocalStore(tmp_path / "store"), FakeNotary()).ledger
    assert sorted(event.release for event in ledger.events) == [item.release for item in releases]
    assert [event.sequence for event in ledger.events] == list(range(1, 7))
    assert sorted(events, key=lambda event: event.sequence) == list(ledger.events)


# --- listing, pointers, removal -------------------------------------------------------------


def put(store: LocalStore, tmp_path: Path, **contents: bytes) -> None:
    """Put files below ``demo``, each under its name."""
    for name, content in contents.items():
        store.put_new(f"demo/{name}", a_file(tmp_path, content), content_type=JSON)


def test_a_directory_is_listed_with_sizes_at_every_depth(store: LocalStore, tmp_path: Path) -> None:
    put(store, tmp_path, a=b"1", b=b"333")
    store.put_new("demo/deep/er/c", a_file(tmp_path, b"22"), content_type=JSON)
    store.put_new("demo2/d", a_file(tmp_path, b"4444"), content_type=JSON)
    store.point("demo/latest/p", "demo/a")

    sizes = store.sizes("demo")

    pointer = sizes.pop("demo/latest/p")
    assert sizes == {"demo/a": 1, "demo/b": 3, "demo/deep/er/c": 2}
    assert pointer > 0
    assert store.sizes("demo/deep") == {"demo/deep/er/c": 2}


@pytest.mark.parametrize("prefix", ["nowhere", "demo/a"], ids=["nothing", "a file"])
def test_what_is_no_directory_has_nothing_below_it(
    store: LocalStore, tmp_path: Path, prefix: str
) -> None:
    put(store, tmp_path, a=b"1")

    assert store.sizes(prefix) == {}


def test_a_pointer_leads_readers_to_a_file(store: LocalStore, tmp_path: Path) -> None:
    put(store, tmp_path, a=b"content")

    assert store.point("demo/latest/x", "demo/a") is True

    assert store.target("demo/latest/x") == "demo/a"
    assert (store.root / "demo/latest/x").read_bytes() == b"content"
    assert store.read("demo/latest/x") == store.read("demo/a")


def test_a_pointer_that_leads_there_already_is_left_alone(store: LocalStore) -> None:
    store.point("demo/latest/x", "demo/a")
    before = (store.root / "demo/latest/x").lstat()

    assert store.point("demo/latest/x", "demo/a") is False

    assert (store.root / "demo/latest/x").lstat() == before


def test_a_pointer_can_be_turned_elsewhere(store: LocalStore) -> None:
    store.point("demo/latest/x", "demo/a")

    assert store.point("demo/latest/x", "demo/b") is True

    assert store.target("demo/latest/x") == "demo/b"
    assert left_over(store) == []


def test_a_pointer_takes_the_place_of_a_file(store: LocalStore, tmp_path: Path) -> None:
    put(store, tmp_path, x=b"a file")

    assert store.point("demo/x", "demo/a") is True

    assert store.target("demo/x") == "demo/a"


def test_a_store_can_be_moved_with_its_pointers(store: LocalStore, tmp_path: Path) -> None:
    put(store, tmp_path, a=b"content")
    store.point("demo/latest/x", "demo/a")
    (tmp_path / "file").unlink()
    moved = LocalStore(store.root.rename(tmp_path / "0"))

    assert moved.target("demo/latest/x") == "demo/a"
    assert (moved.root / "demo/latest/x").read_bytes() == b"content"


def test_what_is_no_pointer_leads_nowhere(store: LocalStore, tmp_path: Path) -> None:
    put(store, tmp_path, a=b"content")

    assert store.target("demo/a") is None
    assert store.target("demo/nothing") is None


def test_a_pointer_out_of_the_store_leads_nowhere(store: LocalStore) -> None:
    """Somebody else made it: it must be seen as wrong, so that it is repaired."""
    (store.root / "demo").mkdir(parents=True)
    (store.root / "demo/x").symlink_to("../../elsewhere")

    assert store.target("demo/x") is None
    assert store.point("demo/x", "demo/a") is True
    assert store.target("demo/x") == "demo/a"


def test_a_pointer_that_dangles_is_read_as_nothing(store: LocalStore) -> None:
    store.point("demo/x", "demo/gone")

    assert store.read("demo/x") is None
    assert store.stored("demo/x") is None
    assert set(store.sizes("demo")) == {"demo/x"}


def test_what_is_removed_is_gone_with_its_empty_directory(
    store: LocalStore, tmp_path: Path
) -> None:
    put(store, tmp_path, a=b"1", b=b"2")
    store.put_new("demo/deep/c", a_file(tmp_path, b"3"), content_type=JSON)

    store.remove("demo/deep/c")
    store.remove("demo/a")

    assert public_files(store) == {"demo/b": b"2"}
    assert not (store.root / "demo/deep").exists()


def test_removing_a_pointer_leaves_what_it_led_to(store: LocalStore, tmp_path: Path) -> None:
    put(store, tmp_path, a=b"1")
    store.point("demo/latest/x", "demo/a")

    store.remove("demo/latest/x")

    assert store.sizes("demo") == {"demo/a": 1}


def test_removing_what_is_not_there_is_no_error(store: LocalStore) -> None:
    store.remove("demo/nothing")

    assert public_files(store) == {}


def test_the_name_of_what_was_removed_can_be_put_again(store: LocalStore, tmp_path: Path) -> None:
    """Whether it may be is the ledger's business."""
    put(store, tmp_path, a=b"1")
    store.remove("demo/a")

    put(store, tmp_path, a=b"2")

    assert public_files(store) == {"demo/a": b"2"}


def test_who_puts_is_told_how_many_bytes_went(store: LocalStore, tmp_path: Path) -> None:
    counts: list[int] = []

    store.put_new("a", a_file(tmp_path, b"content"), content_type=JSON, on_bytes=counts.append)
    store.put_new("a", a_file(tmp_path, b"content"), content_type=JSON, on_bytes=counts.append)

    assert counts == [7]


def test_a_directory_in_an_objects_place_is_an_error_of_the_store(store: LocalStore) -> None:
    (store.root / "a.json").mkdir(parents=True)

    with pytest.raises(StoreError, match=r"^a\.json: the store cannot be used"):
        store.read("a.json")


def in_threads(work: object, count: int) -> None:
    """Run ``work(number)`` in *count* threads at once; a failure in one fails the test."""
    assert callable(work)
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - a thread's failure must be the test's
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_tagged_object_is_what_was_read(store: LocalStore) -> None:
    store.replace("a.json", b"x", tag=None, content_type=JSON)

    assert store.read("a.json") == Tagged(data=b"x", tag=hashlib.sha256(b"x").hexdigest())


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path: Path) -> Iterator[None]:
    """Check after each test that nothing was written beside the store."""
    yield

    assert {path.name for path in tmp_path.iterdir() if not path.name.isdigit()} <= {
        "file",
        "store",
    }


def test_what_others_left_in_a_directory_is_no_key(store: LocalStore, tmp_path: Path) -> None:
    store.put_new("pypy/definitions/one", a_file(tmp_path, b"one"), content_type=JSON)
    for name in (".partial-x", "two~", "with blank"):
        (store.root / "pypy/definitions" / name).write_bytes(b"left")

    assert store.sizes("pypy/definitions") == {"pypy/definitions/one": 3}


def test_what_is_not_yet_written_does_not_lie_beside_the_rest(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace("pypy/definitions/one", b"one", tag=None, content_type=JSON)
    seen: list[str] = []

    def look(_descriptor: int) -> None:
        seen.extend(path.name for path in (store.root / "pypy/definitions").iterdir())

    monkeypatch.setattr("os.fsync", look)
    store.replace("pypy/definitions/two", b"two", tag=None, content_type=JSON)

    assert seen == ["one"]


def test_a_pointer_leads_where_it_should_also_in_a_path_with_dots(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = LocalStore(tmp_path / "store" / ".." / "store")
    put(store, tmp_path, file=b"file")

    store.point("demo/latest", "demo/file")

    assert store.target("demo/latest") == "demo/file"


def test_a_download_is_described_as_it_was_written(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    source = tmp_path / "file"
    source.write_bytes(b"bytes")
    store.put_new("a/file", source, content_type="text/plain")

    stored = store.download("a/file", tmp_path / "1")

    assert (tmp_path / "1").read_bytes() == b"bytes"
    assert stored == store.stored("a/file")
    assert store.download("a/none", tmp_path / "2") is None
    with pytest.raises(StoreError, match="a/file: holds more than 4 bytes"):
        store.download("a/file", tmp_path / "3", largest=4)
