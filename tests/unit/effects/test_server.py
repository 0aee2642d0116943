"""The server for trying out: archives as they are, and only what a store key can name."""

import io
from http.client import HTTPMessage, parse_headers
from pathlib import Path
from typing import Any

import pytest

from pipeline.effects import server as server_module
from pipeline.effects.server import make_server
from pipeline.errors import StoreError

Answer = tuple[int, HTTPMessage, bytes]


class Connection:
    """Stands for a socket: one request in, the answer out."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.sent = b""

    def makefile(self, *_arguments: object) -> io.BytesIO:
        """Give the request."""
        return io.BytesIO(self.request)

    def sendall(self, data: bytes) -> None:
        """Keep the answer."""
        self.sent += bytes(data)


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handler that a server for *tmp_path* would call, without the server."""
    taken: list[Any] = []

    def listen(_address: tuple[str, int], handler: Any) -> None:
        taken.append(handler)

    monkeypatch.setattr(server_module, "ThreadingHTTPServer", listen)
    make_server(tmp_path, "127.0.0.1", 0)
    (only,) = taken
    monkeypatch.setattr(only.func, "log_message", lambda *_arguments: None)
    return only


@pytest.fixture
def ask(handler: Any) -> Any:
    """Give a function that sends one request and reads the answer."""

    def send(path: str, method: str = "GET") -> Answer:
        connection = Connection(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        handler(connection, ("127.0.0.1", 1), None)
        stream = io.BytesIO(connection.sent)
        status = int(stream.readline().split()[1])
        return status, parse_headers(stream), stream.read()

    return send


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("demo-v1.0.0-linux64.tar.gz", "application/gzip"),
        ("demo-v1.0.0-linux64.tar.zst", "application/zstd"),
        ("demo-v1.0.0-manifest.json", "application/json"),
        ("demo-v1.0.0-provenance.json", "application/vnd.in-toto+json"),
        ("versions.json", "application/json"),
        ("SHA256SUMS", "text/plain; charset=utf-8"),
        ("SHA256SUMS.asc", "application/pgp-signature"),
        pytest.param(
            "KEY.asc",
            "application/pgp-keys",
        ),
    ],
)
def test_a_file_is_sent_as_it_is_with_the_type_of_its_kind(
    ask: Any, tmp_path: Path, name: str, content_type: str
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / name).write_bytes(b"\x1f\x8bbytes")

    status, headers, body = ask(f"/demo/{name}")

    assert (status, body) == (200, b"\x1f\x8bbytes")
    assert headers["Content-Type"] == content_type
    assert headers["Content-Encoding"] is None
    assert headers["Content-Length"] == "7"


def test_a_head_request_gets_no_body(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_bytes(b"{}")

    status, headers, body = ask("/ledger.json", "HEAD")

    assert (status, headers["Content-Length"], body) == (200, "2", b"")


@pytest.mark.parametrize("plus", ["+", "%2b"], ids=["as it is", "as apt has it"])
def test_a_plus_sign_in_a_name_may_be_quoted(ask: Any, tmp_path: Path, plus: str) -> None:
    (tmp_path / "tool_1+nightly.deb").write_bytes(b"package")

    status, headers, body = ask(f"/tool_1{plus}nightly.deb")

    assert (status, body) == (200, b"package")
    assert headers["Content-Type"] == "application/vnd.debian.binary-package"


@pytest.mark.parametrize(
    "path",
    [
        "/.incoming/lock",
        "/demo/.partial-x",
        "/demo/../ledger.json",
        "/../outside",
        "/%2e%2e/outside",
        "/demo/%2e%2e/%2e%2e/outside",
        "/demo//x",
        "/demo\\x",
        "/missing.json",
    ],
)
def test_what_no_key_can_be_does_not_exist(ask: Any, tmp_path: Path, path: str) -> None:
    for name in (".incoming/lock", "demo/.partial-x", "ledger.json", "demo/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"secret")
    (tmp_path.parent / "outside").write_bytes(b"secret")

    status, _, body = ask(path)

    assert status == 404
    assert b"secret" not in body


@pytest.mark.parametrize(
    ("key", "cached"),
    [
        ("demo/demo-v1.0.0/demo-v1.0.0-linux64.tar.gz", "public, max-age=31536000, immutable"),
        ("demo/demo-v1.0.0/SHA256SUMS", "public, max-age=31536000, immutable"),
        ("demo/demo-v1.0.0/latest", "public, max-age=60"),
        ("demo/versions.json", "public, max-age=60"),
        ("ledger.json", "public, max-age=60"),
        ("demo/demo-v1.0.0/missing", None),
        ("", None),
    ],
)
def test_only_the_files_of_a_release_may_be_kept_for_ever(
    ask: Any, tmp_path: Path, key: str, cached: str | None
) -> None:
    release = tmp_path / "demo/demo-v1.0.0"
    release.mkdir(parents=True)
    for name in ("demo-v1.0.0-linux64.tar.gz", "SHA256SUMS", "../versions.json"):
        (release / name).write_bytes(b"x")
    (tmp_path / "ledger.json").write_bytes(b"{}")
    (release / "latest").symlink_to("SHA256SUMS")

    _, headers, _ = ask(f"/{key}")

    assert headers.get_all("Cache-Control") == ([cached] if cached else None)


def test_a_query_does_not_hide_a_file(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_bytes(b"{}")

    assert ask("/ledger.json?now=1")[0] == 200


def test_a_list_of_files_names_no_hidden_one(ask: Any, tmp_path: Path) -> None:
    (tmp_path / ".incoming").mkdir()
    (tmp_path / "ledger.json").write_bytes(b"{}")

    status, _, body = ask("/")

    assert status == 200
    assert b"ledger.json" in body
    assert b".incoming" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(ask: Any, tmp_path: Path, method: str) -> None:
    (tmp_path / "ledger.json").write_bytes(b"{}")

    status, _, _ = ask("/ledger.json", method)

    assert status == 501
    assert (tmp_path / "ledger.json").read_bytes() == b"{}"


def test_the_directory_is_made_if_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "ThreadingHTTPServer", lambda *_arguments: None)

    make_server(tmp_path / "new" / "store", "127.0.0.1", 0)

    assert (tmp_path / "new" / "store").is_dir()


def test_an_address_that_is_taken_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_arguments: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(server_module, "ThreadingHTTPServer", taken)

    with pytest.raises(StoreError, match=r"^127\.0\.0\.1:80: cannot listen there: .*--port"):
        make_server(tmp_path, "127.0.0.1", 80)
