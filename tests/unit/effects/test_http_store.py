"""A store over HTTP: read only, and never other bytes than were published."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.effects.http import HttpClient, Received
from pipeline.effects.http_store import HttpStore
from pipeline.effects.store import Stored, Tagged
from pipeline.errors import DownloadError, StoreError

URL = "https://downloads.example"


class Server(HttpClient):
    """Answers by address: bytes, or a status."""

    def __init__(self, **answers: bytes | int) -> None:
        super().__init__()
        self.answers = {f"{URL}/pypy/{name}": answer for name, answer in answers.items()}
        self.encoding: str | None = None

    def receive(self, url: str, save: Path, *, limit: int) -> Received:
        """Answer."""
        answer = self.answers[url]
        if isinstance(answer, int):
            error = DownloadError(f"{url}: HTTP {answer}")
            error.http_status = answer
            raise error
        assert len(answer) <= limit
        save.write_bytes(answer)
        return Received(
            size=len(answer),
            sha256=hashlib.sha256(answer).hexdigest(),
            content_type="application/json",
            content_encoding=self.encoding,
        )


def test_what_is_there_is_read() -> None:
    store = HttpStore(Server(there=b"data"), f"{URL}/")
    digest = hashlib.sha256(b"data").hexdigest()

    assert store.address == URL
    assert store.read("pypy/there") == Tagged(data=b"data", tag=digest)
    assert store.stored("pypy/there") == Stored(size=4, sha256=digest)


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_none(status: int) -> None:
    store = HttpStore(Server(absent=status), URL)

    assert store.read("pypy/absent") is None
    assert store.stored("pypy/absent") is None


@pytest.mark.parametrize("status", [401, 403, 500])
def test_another_answer_is_an_error_and_not_an_absence(status: int) -> None:
    store = HttpStore(Server(closed=status), URL)

    with pytest.raises(StoreError, match=f"HTTP {status}"):
        store.read("pypy/closed")


def test_encoded_bytes_are_refused() -> None:
    server = Server(there=b"data")
    server.encoding = "gzip"

    with pytest.raises(StoreError, match="Content-Encoding gzip"):
        HttpStore(server, URL).read("pypy/there")


def test_only_keys_are_asked_for() -> None:
    with pytest.raises(ValueError, match="not a store key"):
        HttpStore(Server(), URL).read("../secret")


@pytest.mark.parametrize(
    "action",
    [
        lambda store: store.sizes("pypy"),
        lambda store: store.target("pypy/x"),
        lambda store: store.remove("pypy/x"),
        lambda store: store.point("pypy/x", "pypy/y"),
        lambda store: store.replace("pypy/x", b"", tag=None, content_type="text/plain"),
        lambda store: store.put_new("pypy/x", Path("x"), content_type="text/plain"),
    ],
    ids=["sizes", "target", "remove", "point", "replace", "put_new"],
)
def test_nothing_is_listed_or_written(action: Callable[[HttpStore], object]) -> None:
    with pytest.raises(StoreError, match="use --store"):
        action(HttpStore(Server(), URL))
