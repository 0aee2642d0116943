"""How the public sees a store: by its address, or for a try-out here by a server of our own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from pipeline.effects.http import HttpClient, Received
from pipeline.effects.server import make_server
from pipeline.effects.store import LocalStore, Store
from pipeline.model.naming import public_url

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

Receive = Callable[[str, Path, int], Received]
"""Saves what the public gets for a key, of at most so many bytes, and describes it."""


def is_loopback(url: str) -> bool:
    """Whether an address is of this machine only."""
    return urlsplit(url).hostname in LOOPBACK


class PublicView(Protocol):
    """What readers get, as against what a store says that it has."""

    def reader(self, store: Store, base_url: str) -> AbstractContextManager[Receive]:
        """Give what asks for the store's files below *base_url*; asking raises DownloadError."""

    def address(self, store: Store, base_url: str) -> AbstractContextManager[str]:
        """Give the address below which programs of this machine find the store's files."""


class HttpView:
    """The public's view over HTTP."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    @contextmanager
    def reader(self, store: Store, base_url: str) -> Iterator[Receive]:
        """Give what asks for the store's files below *base_url*."""
        with self.address(store, base_url) as address:

            def receive(key: str, save: Path, limit: int) -> Received:
                return self._http.receive(public_url(address, key), save, limit=limit)

            yield receive

    @contextmanager
    def address(self, store: Store, base_url: str) -> Iterator[str]:
        """Give the address to ask.

        That is *base_url*, unless it is of this machine: nothing may be listening there while a
        directory is being tried out, so that one is served for the time of the block.
        """
        if not isinstance(store, LocalStore) or not is_loopback(base_url):
            yield base_url
            return
        server = make_server(store.root, "127.0.0.1", 0, quiet=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
