"""Serves a store directory over HTTP, for trying out and for tests; real stores have a web server.

Archives are sent as they are: never with a Content-Encoding, which would make clients store other
bytes than were signed.
"""

import io
import os
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from pipeline.effects.store import CACHE_FOR_EVER, CACHE_SHORTLY
from pipeline.errors import StoreError
from pipeline.model.artifacts import CONTENT_TYPES, ArtifactKind
from pipeline.model.naming import CHECKSUMS_NAME, PROVENANCE_SUFFIX, PUBLIC_KEY_NAME, check_key

TYPES: Final = {
    ".asc": "application/pgp-signature",
    ".deb": "application/vnd.debian.binary-package",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".sources": "text/plain; charset=utf-8",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    "": "text/plain; charset=utf-8",
}


class _StoreHandler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD for the files of a store; hidden files do not exist for it."""

    extensions_map = TYPES
    server_version = "rpython-pipeline"
    cached: str | None = None

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """Return the type of a file; of two kinds the ending alone does not say which it is."""
        if Path(path).name == PUBLIC_KEY_NAME:
            return CONTENT_TYPES[ArtifactKind.PUBLIC_KEY]
        if Path(path).name.endswith(PROVENANCE_SUFFIX):
            return CONTENT_TYPES[ArtifactKind.PROVENANCE]
        return super().guess_type(path)

    def list_directory(self, path: str | os.PathLike[str]) -> io.BytesIO:
        """Answer with the names in a directory, without the hidden ones."""
        shown = sorted(
            f"{entry.name}/" if entry.is_dir() else entry.name
            for entry in Path(path).iterdir()
            if not entry.name.startswith(".")
        )
        links = "".join(f'<li><a href="{name}">{name}</a></li>' for name in map(escape, shown))
        body = f"<!doctype html><title>Store</title><ul>{links}</ul>".encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)

    def send_head(self):  # type: ignore[no-untyped-def] # noqa: ANN202 - its type is private
        """Refuse what no store key can be, then do as the library does."""
        path = self.path.split("?", 1)[0].strip("/")
        try:
            check_key(unquote(path))
        except ValueError:
            if path:
                self.send_error(HTTPStatus.NOT_FOUND)
                return None
        self.cached = cache_control(Path(self.translate_path(self.path)))
        return super().send_head()

    def end_headers(self) -> None:
        """Say how long a file may be kept, behind every other header."""
        if self.cached is not None:
            self.send_header("Cache-Control", self.cached)
        super().end_headers()


def cache_control(path: Path) -> str | None:
    """Return how long clients may keep the file at *path*; None if it is no file.

    Files beside a checksums file are a release's, which never change; everything else may.
    """
    if not path.is_file():
        return None
    is_release = not path.is_symlink() and (path.parent / CHECKSUMS_NAME).is_file()
    return CACHE_FOR_EVER if is_release else CACHE_SHORTLY


class _QuietHandler(_StoreHandler):
    """Does the same, but writes no line for each request."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        """Write nothing."""


def make_server(
    directory: Path, host: str, port: int, *, quiet: bool = False
) -> ThreadingHTTPServer:
    """Return a server for *directory*; port 0 takes a free one.

    Raises:
        StoreError: the address is taken or not this machine's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handler = partial(_QuietHandler if quiet else _StoreHandler, directory=str(directory))
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        msg = f"{host}:{port}: cannot listen there: {error}. Choose another --port."
        raise StoreError(msg) from error
