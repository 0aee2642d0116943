"""A store as the public sees it: over HTTP, to read only."""

import tempfile
from pathlib import Path
from typing import Final, NoReturn

from pipeline.effects.http import HttpClient, Received
from pipeline.effects.store import LARGEST_FILE, OnBytes, Stored, Tagged, ignore_bytes
from pipeline.errors import DownloadError, StoreError
from pipeline.model.naming import check_key, public_url

LARGEST_READ: Final = 256 << 20
ABSENT: Final = frozenset({404, 410})


class HttpStore:
    """What is below an address; a server lists nothing and takes nothing."""

    def __init__(self, http: HttpClient, base_url: str) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")

    @property
    def address(self) -> str:
        """The address that the keys are below."""
        return self._base_url

    def read(self, key: str) -> Tagged | None:
        """Return a small object, or None if the server says that there is none."""
        with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
            path = Path(temporary, "received")
            received = self._receive(key, path, LARGEST_READ)
            if received is None:
                return None
            return Tagged(data=path.read_bytes(), tag=received.sha256)

    def stored(self, key: str) -> Stored | None:
        """Read all bytes under *key* and describe them, or return None."""
        with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
            received = self._receive(key, Path(temporary, "received"), LARGEST_FILE)
            if received is None:
                return None
            return Stored(size=received.size, sha256=received.sha256)

    def download(self, key: str, path: Path, *, largest: int = LARGEST_FILE) -> Stored | None:
        """Write all bytes under *key* to *path* and describe them, or return None."""
        received = self._receive(key, path, largest)
        if received is None:
            return None
        return Stored(size=received.size, sha256=received.sha256)

    def sizes(self, prefix: str) -> NoReturn:
        """There is no list over HTTP."""
        msg = f"{self._base_url}/{prefix}: what is there cannot be listed over HTTP; use --store."
        raise StoreError(msg)

    def put_new(
        self,
        key: str,
        path: Path,  # noqa: ARG002 - the port's signature
        *,
        content_type: str,  # noqa: ARG002
        sha256: str | None = None,  # noqa: ARG002
        on_bytes: OnBytes = ignore_bytes,  # noqa: ARG002
    ) -> NoReturn:
        """Nothing is written over HTTP."""
        raise self._read_only(key)

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> NoReturn:  # noqa: ARG002
        """Nothing is written over HTTP."""
        raise self._read_only(key)

    def point(self, key: str, target: str) -> NoReturn:  # noqa: ARG002
        """Nothing is written over HTTP."""
        raise self._read_only(key)

    def target(self, key: str) -> NoReturn:
        """A server follows pointers itself, so where they lead is not seen."""
        msg = f"{self._base_url}/{key}: where it leads is not seen over HTTP; use --store."
        raise StoreError(msg)

    def remove(self, key: str) -> NoReturn:
        """Nothing is removed over HTTP."""
        raise self._read_only(key)

    def _receive(self, key: str, path: Path, limit: int) -> Received | None:
        url = public_url(self._base_url, check_key(key))
        try:
            received = self._http.receive(url, path, limit=limit)
        except DownloadError as error:
            if error.http_status in ABSENT:
                return None
            raise StoreError(str(error)) from error
        if received.content_encoding not in {None, "identity"}:
            msg = (
                f"{url}: comes with Content-Encoding {received.content_encoding}, so it is not "
                "what was published. Switch that off in the server, or in what caches it."
            )
            raise StoreError(msg)
        return received

    def _read_only(self, key: str) -> StoreError:
        return StoreError(f"{self._base_url}/{key}: can only be read over HTTP; use --store.")
