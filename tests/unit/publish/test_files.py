"""Publishing: a name stands for the same bytes for ever, and what was put is read back."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.effects.console import Console, Step
from pipeline.effects.process import Completed, ProcessRunner, Tool
from pipeline.effects.store import LocalStore, OnBytes, Stored, ignore_bytes
from pipeline.errors import FetchBackError, ImmutableNameError
from pipeline.model.artifacts import CONTENT_TYPES, Artifact, ArtifactKind
from pipeline.model.records import SignedRelease
from pipeline.publish.files import (
    check_directory,
    holds_files,
    publish_files,
    refuse_other_release,
)
from tests.factories import FINGERPRINT, digest, make_artifact, make_event, make_ledger, make_signed

GOOD_SIGNATURE = b"another good signature"
PLACE = "demo/demo-v1.0.0"


class Gpg(ProcessRunner):
    """Stands for GnuPG: one signature is good."""

    def __init__(self) -> None:
        self.checked: list[bytes] = []

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        tool: Tool,  # noqa: ARG002
        timeout: float = 600,  # noqa: ARG002
        environment: Mapping[str, str] | None = None,  # noqa: ARG002
        without: Collection[str] = (),  # noqa: ARG002
        check: bool = True,  # noqa: ARG002
    ) -> Completed:
        """Check the signature that is the last argument but one."""
        words = tuple(str(word) for word in argv)
        if words[0] != "gpgv":
            return Completed(argv=words, status=0, stdout=b"", stderr=b"")
        signature = Path(words[-2]).read_bytes()
        self.checked.append(signature)
        good = signature == GOOD_SIGNATURE
        said = f"[GNUPG:] VALIDSIG {FINGERPRINT} 2026-11-21 1 0 4 0 1 8 00 {FINGERPRINT}\n"
        return Completed(
            argv=words, status=0 if good else 1, stdout=said.encode() if good else b"", stderr=b""
        )


class ForgetfulStore(LocalStore):
    """A store that says it took a file, but gives nothing back."""

    def stored(self, key: str) -> Stored | None:  # noqa: ARG002
        """Give nothing."""
        return None


class RottenStore(LocalStore):
    """A store that gives back other bytes of the same length."""

    def stored(self, key: str) -> Stored | None:
        """Give another digest."""
        there = super().stored(key)
        return None if there is None else Stored(size=there.size, sha256="0" * 64)


class ShortStore(LocalStore):
    """A store that gives back the right digest, but another size."""

    def stored(self, key: str) -> Stored | None:
        """Give another size."""
        there = super().stored(key)
        return None if there is None else Stored(size=there.size - 1, sha256=there.sha256)


class NotingStore(LocalStore):
    """A store that notes what was put, and with which type."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.put: list[tuple[str, str]] = []

    def put_new(
        self, key: str, path: Path, *, content_type: str, on_bytes: OnBytes = ignore_bytes
    ) -> bool:
        """Note it and put it."""
        self.put.append((key, content_type))
        return super().put_new(key, path, content_type=content_type, on_bytes=on_bytes)


@pytest.fixture
def step() -> Step:
    """A step that shows nothing."""
    return Step(Console(), "publish", None, lambda: 0.0)


@pytest.fixture
def gpg() -> Gpg:
    """GnuPG."""
    return Gpg()


@pytest.fixture
def store(tmp_path: Path) -> NotingStore:
    """An empty store."""
    return NotingStore(tmp_path / "store")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of files to be published."""
    path = tmp_path / "signed"
    path.mkdir()
    return path


def written(directory: Path, filename: str, content: bytes, kind: ArtifactKind) -> Artifact:
    """Write a file and describe it."""
    (directory / filename).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return make_artifact(
        filename=filename, kind=kind, platform=None, size=len(content), sha256=sha256
    )


def release(directory: Path) -> tuple[Artifact, ...]:
    """Write a small release."""
    return (
        written(directory, "a.tar.gz", b"archive", ArtifactKind.ARCHIVE_GZ),
        written(directory, "SHA256SUMS", b"sums", ArtifactKind.CHECKSUMS),
        written(directory, "SHA256SUMS.asc", b"signature", ArtifactKind.SIGNATURE),
    )


def signed() -> SignedRelease:
    """Return the release that the files belong to."""
    return make_signed()


def test_every_file_is_put_under_its_key_with_its_type_in_the_given_order(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step
) -> None:
    files = release(directory)

    published = publish_files(gpg, store, signed(), files, directory, step)

    assert published == files
    assert store.put == [(f"{PLACE}/{item.filename}", CONTENT_TYPES[item.kind]) for item in files]
    for item in files:
        there = store.stored(f"{PLACE}/{item.filename}")
        assert there == Stored(size=item.size, sha256=item.sha256)


def test_publishing_again_changes_nothing(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step
) -> None:
    files = release(directory)
    publish_files(gpg, store, signed(), files, directory, step)
    before = {path: path.stat() for path in store.root.rglob("*") if path.is_file()}

    again = publish_files(gpg, store, signed(), files, directory, step)

    assert again == files
    assert {path: path.stat() for path in before} == before
    assert gpg.checked == []


def test_a_publication_that_was_stopped_half_way_is_finished(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step
) -> None:
    files = release(directory)
    publish_files(gpg, store, signed(), files[:1], directory, step)

    assert publish_files(gpg, store, signed(), files, directory, step) == files


@pytest.mark.parametrize(
    "kind", [kind for kind in ArtifactKind if kind is not ArtifactKind.SIGNATURE], ids=str
)
def test_a_name_that_stands_for_other_bytes_is_refused(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step, kind: ArtifactKind
) -> None:
    old = written(directory, "file", GOOD_SIGNATURE, kind)
    publish_files(gpg, store, signed(), (old,), directory, step)
    new = written(directory, "file", b"new", kind)

    with pytest.raises(ImmutableNameError) as caught:
        publish_files(gpg, store, signed(), (new,), directory, step)

    message = str(caught.value)
    assert message.startswith(f"{PLACE}/file: already stands for other bytes")
    assert old.sha256 in message
    assert new.sha256 in message
    assert "release a new version" in message
    assert (store.root / PLACE / "file").read_bytes() == GOOD_SIGNATURE


def test_a_good_signature_that_is_there_stays_and_is_the_published_one(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step
) -> None:
    """Signing again gives other bytes that say the same."""
    kind = ArtifactKind.SIGNATURE
    first = written(directory, "SHA256SUMS.asc", GOOD_SIGNATURE, kind)
    publish_files(gpg, store, signed(), (first,), directory, step)
    second = written(directory, "SHA256SUMS.asc", b"a second signature", kind)

    published = publish_files(gpg, store, signed(), (second,), directory, step)

    assert published == (first,)
    assert (store.root / PLACE / "SHA256SUMS.asc").read_bytes() == GOOD_SIGNATURE
    assert gpg.checked == [GOOD_SIGNATURE]


def test_a_bad_signature_that_is_there_is_refused(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step
) -> None:
    kind = ArtifactKind.SIGNATURE
    first = written(directory, "SHA256SUMS.asc", b"a bad signature", kind)
    publish_files(gpg, store, signed(), (first,), directory, step)
    second = written(directory, "SHA256SUMS.asc", GOOD_SIGNATURE, kind)

    with pytest.raises(ImmutableNameError, match=r"SHA256SUMS\.asc: already stands for"):
        publish_files(gpg, store, signed(), (second,), directory, step)


def test_of_a_published_release_the_ledgers_signature_counts_not_a_newer_one_here(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step
) -> None:
    kind = ArtifactKind.SIGNATURE
    published = written(directory, "SHA256SUMS.asc", GOOD_SIGNATURE, kind)
    publish_files(gpg, store, signed(), (published,), directory, step)
    written(directory, "SHA256SUMS.asc", b"a second signature", kind)

    again = publish_files(gpg, store, signed(), (published,), directory, step)

    assert again == (published,)
    assert len(store.put) == 1


@pytest.mark.parametrize("kind", [ForgetfulStore, RottenStore, ShortStore])
def test_a_store_that_gives_back_something_else_is_found_out(
    gpg: Gpg, directory: Path, step: Step, tmp_path: Path, kind: type[LocalStore]
) -> None:
    files = release(directory)

    with pytest.raises(FetchBackError) as caught:
        publish_files(gpg, kind(tmp_path / "bad"), signed(), files, directory, step)

    message = str(caught.value)
    assert message.startswith(f"{PLACE}/a.tar.gz: 7 bytes with sha256 {files[0].sha256} were put")
    assert "was not announced" in message


def test_a_store_holds_what_was_put_and_looking_puts_nothing(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step
) -> None:
    files = release(directory)
    assert not holds_files(store, signed(), files)
    assert store.put == []

    publish_files(gpg, store, signed(), files, directory, step)

    assert holds_files(store, signed(), files)


@pytest.mark.parametrize("content", [b"archivE", b"archive!", None], ids=["bytes", "size", "gone"])
def test_a_store_whose_file_is_damaged_does_not_hold_it(
    gpg: Gpg, store: NotingStore, directory: Path, step: Step, content: bytes | None
) -> None:
    files = release(directory)
    publish_files(gpg, store, signed(), files, directory, step)

    (store.root / PLACE / "a.tar.gz").unlink()
    if content is not None:
        (store.root / PLACE / "a.tar.gz").write_bytes(content)

    assert not holds_files(store, signed(), files)


def test_files_that_are_announced_and_unchanged_may_be_uploaded(directory: Path) -> None:
    files = release(directory)

    check_directory(files, directory, {"a.tar.gz", "SHA256SUMS", "SHA256SUMS.asc"})


def test_a_file_that_was_announced_but_not_made_stops_the_upload(directory: Path) -> None:
    files = release(directory)

    with pytest.raises(FetchBackError, match=r"missing \['b\.tar\.gz'\], unexpected \[\]"):
        check_directory(files, directory, {"b.tar.gz", *(item.filename for item in files)})


def test_a_file_that_was_not_announced_stops_the_upload(directory: Path) -> None:
    files = release(directory)

    with pytest.raises(FetchBackError, match=r"missing \[\], unexpected \['a\.tar\.gz'\]"):
        check_directory(files, directory, {"SHA256SUMS", "SHA256SUMS.asc"})


@pytest.mark.parametrize("content", [b"archivE", None], ids=["changed", "gone"])
def test_a_file_that_is_not_what_was_signed_stops_the_upload(
    directory: Path, content: bytes | None
) -> None:
    files = release(directory)
    (directory / "a.tar.gz").unlink()
    if content is not None:
        (directory / "a.tar.gz").write_bytes(content)

    with pytest.raises(FetchBackError, match=r"a\.tar\.gz: is not the file that was signed"):
        check_directory(files, directory, {item.filename for item in files})


def test_a_release_that_was_published_with_the_same_manifest_may_go_on() -> None:
    ledger = make_ledger(make_event())
    (event,) = ledger.events

    refuse_other_release(ledger, event.product, event.release, event.manifest_sha256)


def test_a_release_that_was_never_published_may_go_on() -> None:
    refuse_other_release(make_ledger(make_event()), "pypy", "pypy3.11-v7.3.24", digest("x"))


def test_a_release_that_was_published_with_other_files_is_refused() -> None:
    ledger = make_ledger(make_event())
    (event,) = ledger.events

    with pytest.raises(ImmutableNameError) as caught:
        refuse_other_release(ledger, event.product, event.release, digest("other"))

    message = str(caught.value)
    assert message.startswith("pypy/pypy3.11-v7.3.23 was published on 2026-11-21 by maintainer@")
    assert event.manifest_sha256 in message
    assert digest("other") in message
    assert "release a new version" in message
