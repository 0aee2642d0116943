"""The port to a store of public files, and the store that is a local directory.

Files are put once under their final name; only indexes and the ledger are ever replaced, each by
compare-and-swap on its *tag* (here the sha256 of its bytes).
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pipeline.effects.files import sha256_of, write_atomically
from pipeline.errors import ConflictError, StoreError
from pipeline.model.naming import check_key

INCOMING: Final = ".incoming"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a store holds under a key, read back; size in bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """An object's bytes, and the tag that a replacement must name."""

    data: bytes
    tag: str


class Store(Protocol):
    """Where releases are published."""

    def put_new(self, key: str, path: Path, *, content_type: str) -> bool:
        """Put the file at *path* under *key* unless something is there; return whether it did."""

    def stored(self, key: str) -> Stored | None:
        """Read back all bytes under *key* and describe them, or return None."""

    def read(self, key: str) -> Tagged | None:
        """Return a small object, or None."""

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Put *data* under *key* if its tag is still *tag* (None: if nothing is there).

        Raises:
            ConflictError: somebody else was first.
        """


class LocalStore:
    """A directory on this machine. Content types are derived from names when it is served."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_new(self, key: str, path: Path, *, content_type: str) -> bool:  # noqa: ARG002
        """Put a file under *key* unless something is there."""
        final = self._path(key)
        with _store_errors(key):
            final.parent.mkdir(parents=True, exist_ok=True)
            with self._incoming(path) as temporary:
                try:
                    # Unlike a rename, a hard link fails if the name is taken.
                    os.link(temporary, final)
                except FileExistsError:
                    return False
        return True

    def stored(self, key: str) -> Stored | None:
        """Read back all bytes under *key* and describe them."""
        path = self._path(key)
        with _store_errors(key):
            if not path.is_file():
                return None
            return Stored(size=path.stat().st_size, sha256=sha256_of(path))

    def read(self, key: str) -> Tagged | None:
        """Return a small object, or None."""
        with _store_errors(key):
            try:
                data = self._path(key).read_bytes()
            except FileNotFoundError:
                return None
        return Tagged(data=data, tag=_tag(data))

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:  # noqa: ARG002
        """Put *data* under *key* if its tag is still *tag*."""
        with _store_errors(key), self._locked():
            present = self.read(key)
            if (present.tag if present else None) != tag:
                msg = f"{key}: changed by somebody else meanwhile. Run again."
                raise ConflictError(msg)
            write_atomically(self._path(key), data)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    @contextmanager
    def _incoming(self, path: Path) -> Iterator[Path]:
        """Give a complete, flushed copy of *path* on the store's file system."""
        incoming = self.root / INCOMING
        incoming.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=incoming) as file, path.open("rb") as source:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            yield Path(file.name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / INCOMING).mkdir(exist_ok=True)
        with (self.root / INCOMING / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _store_errors(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"{key}: the store cannot be used: {error}. Check its directory, space and rights."
        raise StoreError(msg) from error
