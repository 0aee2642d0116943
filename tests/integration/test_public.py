"""Reading a store as the public does, through a real server on this machine."""

import hashlib
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.http import HttpClient
from pipeline.effects.public import HttpView
from pipeline.effects.retry import RetryPolicy
from pipeline.effects.store import LocalStore
from pipeline.errors import DownloadError
from pipeline.model.artifacts import CONTENT_TYPES, ArtifactKind

# Nothing listens there: a directory that is tried out is served for as long as it is read.
ADDRESS: Final = "http://127.0.0.1:9"
PLACE: Final = "demo/demo-v1.0.0"


@pytest.fixture
def view() -> HttpView:
    return HttpView(HttpClient(RetryPolicy(attempts=1)))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store with a file of each kind that a release has."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "file"
    for name, kind in NAMES.items():
        path.write_bytes(name.encode() * 1000)
        store.put_new(f"{PLACE}/{name}", path, content_type=CONTENT_TYPES[kind])
    return store


NAMES: Final = {
    "a.tar.gz": ArtifactKind.ARCHIVE_GZ,
    "a.tar.zst": ArtifactKind.ARCHIVE_ZST,
    "SHA256SUMS": ArtifactKind.CHECKSUMS,
    "SHA256SUMS.asc": ArtifactKind.SIGNATURE,
    "KEY.asc": ArtifactKind.PUBLIC_KEY,
    "a-provenance.json": ArtifactKind.PROVENANCE,
    "a-manifest.json": ArtifactKind.MANIFEST,
}


@pytest.mark.parametrize("name", NAMES)
def test_what_was_put_is_what_readers_get_with_its_type_and_no_encoding(
    view: HttpView, store: LocalStore, tmp_path: Path, name: str
) -> None:
    data = name.encode() * 1000

    with view.reader(store, ADDRESS) as receive:
        received = receive(f"{PLACE}/{name}", tmp_path / "got", len(data))

    assert (tmp_path / "got").read_bytes() == data
    assert (received.size, received.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert received.content_type == CONTENT_TYPES[NAMES[name]]
    assert received.content_encoding is None


def test_a_pointer_gives_what_it_leads_to(
    view: HttpView, store: LocalStore, tmp_path: Path
) -> None:
    store.point("demo/latest/a.tar.gz", f"{PLACE}/a.tar.gz")

    with view.reader(store, ADDRESS) as receive:
        receive("demo/latest/a.tar.gz", tmp_path / "got", 1 << 20)

    assert (tmp_path / "got").read_bytes() == b"a.tar.gz" * 1000


def test_what_is_not_there_is_an_error_with_its_address(
    view: HttpView, store: LocalStore, tmp_path: Path
) -> None:
    with (
        view.reader(store, ADDRESS) as receive,
        pytest.raises(DownloadError, match=r"/demo/nothing: HTTP 404"),
    ):
        receive("demo/nothing", tmp_path / "got", 1)


def test_the_server_ends_with_the_block(view: HttpView, store: LocalStore, tmp_path: Path) -> None:
    with view.reader(store, ADDRESS) as receive:
        receive(f"{PLACE}/a.tar.gz", tmp_path / "got", 1 << 20)

    with pytest.raises(DownloadError):
        receive(f"{PLACE}/a.tar.gz", tmp_path / "got", 1 << 20)
