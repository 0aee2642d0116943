"""Serves a store directory over HTTP, for trying out and for tests; real stores have a web server.

Archives are sent as they are: never with a Content-Encoding, which would make clients store other
bytes than were signed.
"""

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from pipeline.errors import StoreError
from pipeline.model.naming import check_key

TYPES: Final = {
    ".asc": "application/pgp-signature",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".zst": "application/zstd",
    "": "text/plain; charset=utf-8",
}


class _StoreHandler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD for the files of a store; hidden files do not exist for it."""

    extensions_map = TYPES
    server_version = "rpython-pipeline"

    def send_head(self):  # type: ignore[no-untyped-def] # noqa: ANN202 - its type is private
        """Refuse what no store key can be, then do as the library does."""
        path = self.path.split("?", 1)[0].strip("/")
        try:
            check_key(path)
        except ValueError:
            if path:
                self.send_error(HTTPStatus.NOT_FOUND)
                return None
        return super().send_head()


def make_server(directory: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server for *directory*; port 0 takes a free one.

    Raises:
        StoreError: the address is taken or not this machine's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handler = partial(_StoreHandler, directory=str(directory))
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        msg = f"{host}:{port}: cannot listen there: {error}. Choose another --port."
        raise StoreError(msg) from error
