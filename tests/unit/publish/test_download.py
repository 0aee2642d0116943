"""What is downloaded was published: every step from the ledger to the archive's bytes."""

import hashlib
from pathlib import Path

import pytest

from pipeline.effects.http import Received
from pipeline.errors import BisectError, DigestMismatchError, SignatureError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.ledger import Published
from pipeline.publish.download import Downloader, archive_for
from pipeline.publish.events import Stamp, publication
from tests.factories import NOON, make_archives, make_artifact, make_manifest, make_state
from tests.fakes import unexpected
from tests.handmade import PLATFORM, HandMade, Maker, sign_by_copy

ARCHIVE = "demo-c-jit-100-000000000000-linux64.tar.gz"


class Verifier:
    """Believes the signatures of :func:`sign_by_copy`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check_file(self, path: Path, signature: Path, fingerprint: str) -> None:
        """Check."""
        self.asked.append(fingerprint)
        if signature.read_bytes() != b"signature of " + path.read_bytes():
            msg = "not a good signature"
            raise SignatureError(msg)


class Server:
    """Gives what is in a directory."""

    def __init__(self, made: HandMade) -> None:
        self.files = {path.name: path.read_bytes() for path in made.directory.iterdir()}
        self.asked: list[str] = []

    def receive(self, key: str, save: Path, limit: int) -> Received:
        """Save a file."""
        name = key.rsplit("/", 1)[-1]
        self.asked.append(name)
        data = self.files[name]
        if len(data) > limit:
            unexpected(f"{key} is longer than {limit}")
        save.write_bytes(data)
        return Received(
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            content_type=None,
            content_encoding=None,
        )


@pytest.fixture
def made(tmp_path: Path) -> HandMade:
    return Maker(directory=tmp_path / "made", sign=sign_by_copy).nightly(NOON, 100)


def downloaded(downloader: Downloader, made: HandMade) -> Path:
    """Return the archive, which there is."""
    path = downloader.archive(event_of(made), PLATFORM)
    assert path is not None
    return path


@pytest.fixture
def server(made: HandMade) -> Server:
    return Server(made)


@pytest.fixture
def downloader(server: Server, tmp_path: Path) -> Downloader:
    return Downloader(receive=server.receive, verifier=Verifier(), cache=tmp_path / "cache")


def event_of(made: HandMade, **changes: object) -> Published:
    """Return what the ledger says, as of an old nightly: without files."""
    stamp = Stamp(at=NOON, by="tester", reason="test")
    event = publication(made.manifest, made.signed, (), stamp)(make_state())
    assert isinstance(event, Published)
    return event.model_copy(update=changes)


def test_the_archive_is_the_one_that_was_published(downloader: Downloader, made: HandMade) -> None:
    path = downloaded(downloader, made)

    assert path.name == ARCHIVE
    assert path.read_bytes() == (made.directory / ARCHIVE).read_bytes()
    assert event_of(made).files == ()


def test_what_was_downloaded_is_kept_by_its_digest(
    downloader: Downloader, server: Server, made: HandMade
) -> None:
    first = downloaded(downloader, made)
    second = downloaded(downloader, made)

    assert first == second
    assert server.asked.count(ARCHIVE) == 1
    assert first.parent.name == made.files[0].sha256


def test_a_damaged_copy_is_downloaded_again(
    downloader: Downloader, server: Server, made: HandMade
) -> None:
    path = downloaded(downloader, made)
    path.write_bytes(b"damaged")

    again = downloaded(downloader, made)

    assert again.read_bytes() == server.files[ARCHIVE]


def test_the_releases_key_must_have_signed_and_the_key_beside_the_files_is_not_read(
    downloader: Downloader, server: Server, made: HandMade
) -> None:
    downloader.archive(event_of(made), PLATFORM)

    assert isinstance(downloader.verifier, Verifier)
    assert downloader.verifier.asked == [made.signed.fingerprint]
    assert "KEY.asc" not in server.asked


def test_another_manifest_than_the_ledgers_is_refused(
    downloader: Downloader, made: HandMade
) -> None:
    with pytest.raises(DigestMismatchError, match=r"manifest\.json: sha256 is .* expected 0000"):
        downloader.archive(event_of(made, manifest_sha256="0" * 64), PLATFORM)


def test_an_altered_archive_is_refused_and_not_kept(
    downloader: Downloader, server: Server, made: HandMade
) -> None:
    good = server.files[ARCHIVE]
    server.files[ARCHIVE] = good[:-1] + bytes([good[-1] ^ 1])

    with pytest.raises(DigestMismatchError, match="Do not use it"):
        downloader.archive(event_of(made), PLATFORM)

    assert not list(downloader.cache.rglob(ARCHIVE))


def test_checksums_with_another_signature_are_refused(
    downloader: Downloader, server: Server, made: HandMade
) -> None:
    server.files["SHA256SUMS.asc"] = b"signature of something else"

    with pytest.raises(SignatureError):
        downloader.archive(event_of(made), PLATFORM)

    assert ARCHIVE not in server.asked


@pytest.mark.parametrize("line", [ARCHIVE, "manifest.json"])
def test_signed_checksums_that_say_something_else_are_refused(
    downloader: Downloader, server: Server, made: HandMade, line: str
) -> None:
    lines = server.files["SHA256SUMS"].decode().splitlines()
    text = "".join(f"{item}\n" for item in lines if not item.endswith(line)).encode()
    server.files |= {"SHA256SUMS": text, "SHA256SUMS.asc": b"signature of " + text}

    with pytest.raises(DigestMismatchError, match="sha256 is not listed"):
        downloader.archive(event_of(made), PLATFORM)


def test_a_platform_without_archive_has_none(downloader: Downloader, made: HandMade) -> None:
    assert downloader.archive(event_of(made), "linux-aarch64") is None


def test_a_manifest_of_another_time_is_refused(
    downloader: Downloader, server: Server, made: HandMade
) -> None:
    data = b'{"schema": 99}'
    server.files[f"{made.manifest.release}-manifest.json"] = data
    event = event_of(made, manifest_sha256=hashlib.sha256(data).hexdigest())

    with pytest.raises(BisectError, match="not a manifest that this version can read"):
        downloader.archive(event, PLATFORM)


def test_the_smallest_form_of_an_archive_is_taken() -> None:
    manifest = make_manifest(files=make_archives())

    found = archive_for(manifest, PLATFORM)

    assert found is not None
    assert found.kind is ArtifactKind.ARCHIVE_ZST


def test_debug_symbols_are_no_archive() -> None:
    debug = make_artifact(kind=ArtifactKind.DEBUG_ZST, filename="x-debug.tar.zst")

    assert archive_for(make_manifest(files=(debug,)), PLATFORM) is None
