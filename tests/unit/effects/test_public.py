"""How the public sees a store: by the address that it knows."""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects import public
from pipeline.effects.http import HttpClient, Received
from pipeline.effects.public import LOOPBACK, HttpView
from pipeline.effects.store import LocalStore, Stored
from pipeline.errors import DownloadError
from tests.fakes import unexpected

RECEIVED: Final = Received(size=7, sha256="0" * 64, content_type=None, content_encoding=None)


class NotingHttp(HttpClient):
    """A client that asks nobody."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Path, int]] = []
        self.error: DownloadError | None = None

    def receive(self, url: str, save: Path, *, limit: int) -> Received:
        """Note what is asked."""
        self.asked.append((url, save, limit))
        if self.error is not None:
            raise self.error
        return RECEIVED


class Bucket(LocalStore):
    """Stands for a store that is no directory here: it is not to be looked into."""

    def stored(self, key: str) -> Stored | None:
        """Refuse."""
        return unexpected(f"look at {key}")


class RemoteStore:
    """A store somewhere else."""

    address = "s3://bucket"

    def __getattr__(self, name: str) -> object:
        return unexpected(f"asked for {name}")


@pytest.fixture
def http() -> NotingHttp:
    return NotingHttp()


def test_readers_ask_below_the_base_url(http: NotingHttp, tmp_path: Path) -> None:
    store = Bucket(tmp_path / "store")

    with HttpView(http).reader(store, "https://downloads.test/files") as receive:
        received = receive("toy/toy-v1.2.3/SHA256SUMS", tmp_path / "sums", 99)

    assert received == RECEIVED
    url = "https://downloads.test/files/toy/toy-v1.2.3/SHA256SUMS"
    assert http.asked == [(url, tmp_path / "sums", 99)]


def test_what_readers_cannot_get_is_an_error(http: NotingHttp, tmp_path: Path) -> None:
    http.error = DownloadError("HTTP 404")

    with (
        HttpView(http).reader(LocalStore(tmp_path), "https://downloads.test") as receive,
        pytest.raises(DownloadError, match="HTTP 404"),
    ):
        receive("a", tmp_path / "a", 1)


@pytest.mark.parametrize("host", sorted(LOOPBACK))
def test_a_server_of_this_machine_is_asked_for_a_store_that_is_no_directory(
    http: NotingHttp, tmp_path: Path, host: str
) -> None:
    """As an S3 server that is tried out here."""
    base_url = f"http://{f'[{host}]' if ':' in host else host}:9000/bucket"

    with HttpView(http).reader(RemoteStore(), base_url) as receive:  # type: ignore[arg-type]
        receive("a", tmp_path / "a", 1)

    assert [url for url, _, _ in http.asked] == [f"{base_url}/a"]


class Server:
    """Stands for the server of a directory."""

    server_port = 4711

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.stopped = threading.Event()

    def serve_forever(self) -> None:
        """Serve until it is told to stop."""
        self.steps.append("serve")
        self.stopped.wait(30)

    def shutdown(self) -> None:
        """Stop."""
        self.steps.append("shutdown")
        self.stopped.set()

    def server_close(self) -> None:
        """Give the port back."""
        self.steps.append("close")


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:8377", "http://localhost:8377/files", "http://[::1]:8377"],
)
@pytest.mark.parametrize("fails", [False, True], ids=["well", "with an error"])
def test_a_directory_that_is_tried_out_here_is_served_for_as_long_as_it_is_read(
    http: NotingHttp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base_url: str,
    *,
    fails: bool,
) -> None:
    """Nothing need listen at the address that its indexes hold."""
    server, made = Server(), list[tuple[Path, str, int, bool]]()

    def make_server(root: Path, host: str, port: int, *, quiet: bool) -> Server:
        made.append((root, host, port, quiet))
        return server

    monkeypatch.setattr(public, "make_server", make_server)
    http.error = DownloadError("HTTP 404") if fails else None
    ends = pytest.raises(DownloadError) if fails else nullcontext()

    with ends, HttpView(http).reader(LocalStore(tmp_path / "store"), base_url) as receive:
        receive("a", tmp_path / "a", 1)

    assert [url for url, _, _ in http.asked] == ["http://127.0.0.1:4711/a"]
    assert made == [(tmp_path / "store", "127.0.0.1", 0, True)]
    assert server.steps == ["serve", "shutdown", "close"]
