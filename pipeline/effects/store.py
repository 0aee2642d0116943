"""The port to a store of public files, and the store that is a local directory.

Files are put once under their final name; only indexes and the ledger are ever replaced, each by
compare-and-swap on its *tag* (in a directory the sha256 of its bytes).
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final, Protocol

from pipeline.effects.files import CHUNK, sha256_of, write_atomically
from pipeline.effects.locks import lock
from pipeline.errors import ConflictError, StoreError
from pipeline.model.naming import check_key, is_key

INCOMING: Final = ".incoming"

CACHE_FOR_EVER: Final = "public, max-age=31536000, immutable"
"""The Cache-Control of a file, whose name never stands for other bytes."""
CACHE_SHORTLY: Final = "public, max-age=60"
"""The Cache-Control of what is replaced: ledger, indexes, pointers."""


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


OnBytes = Callable[[int], None]

LARGEST_FILE: Final = 8 << 30
"""Bytes of one file, as of what is unpacked; more is not read."""


def ignore_bytes(_count: int) -> None:
    """Take the number of bytes that were sent, and show nobody."""


def copied(key: str, chunks: Iterable[bytes], copy: IO[bytes] | None, largest: int) -> Stored:
    """Read what is under *key* to its end, into *copy* if that is given, and describe it.

    Raises:
        StoreError: there are more than *largest* bytes.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > largest:
            msg = f"{key}: holds more than {largest} bytes, which is as much as there should be."
            raise StoreError(msg)
        digest.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return Stored(size=size, sha256=digest.hexdigest())


class Store(Protocol):
    """Where releases are published. Several threads may use one at the same time.

    Every method raises StoreError if the store cannot be used, after the retries that
    :mod:`pipeline.effects.retry` allows.
    """

    @property
    def address(self) -> str:
        """Where it is, for people: a directory, or ``s3://bucket/prefix``."""

    def put_new(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        sha256: str | None = None,
        on_bytes: OnBytes = ignore_bytes,
    ) -> bool:
        """Put the file at *path* under *key* unless something is there; return whether it did.

        *sha256* is the file's, where it is known already: large files take long to read.
        """

    def stored(self, key: str) -> Stored | None:
        """Read back all bytes under *key* and describe them, or return None."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return every key below the directory *prefix*, with its size; pointers are keys too.

        What has a name that no key can have is somebody else's and is left out.
        """

    def read(self, key: str) -> Tagged | None:
        """Return a small object, or None."""

    def download(self, key: str, path: Path, *, largest: int = LARGEST_FILE) -> Stored | None:
        """Write all bytes under *key* to the new file *path* and describe them, or return None.

        What was cut off on the way is not told from what is whole: compare with what is expected.

        Raises:
            StoreError: there are more than *largest* bytes; no more of them was written.
        """

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:
        """Put *data* under *key* if its tag is still *tag* (None: if nothing is there).

        It is tried once: the ledger's replacement is the point of no return.

        Raises:
            ConflictError: somebody else was first; nothing was written.
            UncertainError: the answer was lost, so the data may be there or not. Read it.
        """

    def point(self, key: str, target: str) -> bool:
        """Make *key* lead readers to the key *target*; return whether it led elsewhere before."""

    def target(self, key: str) -> str | None:
        """Return where *key* leads, or None if it leads nowhere."""

    def remove(self, key: str) -> None:
        """Take away what is under *key*, if anything is: a pruned nightly's file, or an index."""


class LocalStore:
    """A directory on this machine. Content types are derived from names when it is served."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - links are not followed, ".." is

    @property
    def address(self) -> str:
        """The directory."""
        return str(self.root)

    def put_new(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,  # noqa: ARG002 - the server tells it from the name
        sha256: str | None = None,  # noqa: ARG002 - a directory keeps none
        on_bytes: OnBytes = ignore_bytes,
    ) -> bool:
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
        on_bytes(final.stat().st_size)
        return True

    def stored(self, key: str) -> Stored | None:
        """Read back all bytes under *key* and describe them."""
        path = self._path(key)
        with _store_errors(key):
            if not path.is_file():
                return None
            return Stored(size=path.stat().st_size, sha256=sha256_of(path))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return every key below the directory *prefix*, with its size in bytes."""
        top = self._path(prefix)
        with _store_errors(prefix):
            found = {
                path.relative_to(self.root).as_posix(): path.lstat().st_size
                for path in sorted(top.rglob("*"))
                if path.is_symlink() or path.is_file()
            }
        return {key: size for key, size in found.items() if is_key(key)}

    def read(self, key: str) -> Tagged | None:
        """Return a small object, or None."""
        with _store_errors(key):
            try:
                data = self._path(key).read_bytes()
            except FileNotFoundError:
                return None
        return Tagged(data=data, tag=_tag(data))

    def download(self, key: str, path: Path, *, largest: int = LARGEST_FILE) -> Stored | None:
        """Copy the file under *key* to *path* and describe the copy."""
        with _store_errors(key):
            try:
                source = self._path(key).open("rb")
            except FileNotFoundError:
                return None
            with source, path.open("wb") as copy:
                return copied(key, iter(partial(source.read, CHUNK), b""), copy, largest)

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:  # noqa: ARG002
        """Put *data* under *key* if its tag is still *tag*."""
        with _store_errors(key), self._locked():
            present = self.read(key)
            if (present.tag if present else None) != tag:
                msg = f"{key}: changed by somebody else meanwhile. Run again."
                raise ConflictError(msg)
            # What a kill leaves must not lie where keys are listed.
            write_atomically(self._path(key), data, aside=self.root / INCOMING)

    def point(self, key: str, target: str) -> bool:
        """Make *key* a symbolic link to *target*, relative, so that the directory may move."""
        path = self._path(key)
        link = os.path.relpath(self._path(target), path.parent)
        with _store_errors(key), self._locked():
            if path.is_symlink() and os.readlink(path) == link:  # noqa: PTH115 - as it is
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root / INCOMING) as directory:
                made = Path(directory, "link")
                made.symlink_to(link)
                made.replace(path)
        return True

    def target(self, key: str) -> str | None:
        """Return where the link leads; a link out of the store leads nowhere."""
        path = self._path(key)
        with _store_errors(key):
            if not path.is_symlink():
                return None
            leads = Path(os.path.normpath(path.parent / os.readlink(path)))  # noqa: PTH115 - as is
        if not leads.is_relative_to(self.root):
            return None
        return leads.relative_to(self.root).as_posix()

    def remove(self, key: str) -> None:
        """Take away the file, and its directory with the last one."""
        path = self._path(key)
        with _store_errors(key):
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()

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
        with (self.root / INCOMING / "lock").open("a") as stream:
            lock(stream)
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
