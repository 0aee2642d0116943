"""Files: digests, atomic writes, and the work directory that remembers finished stages."""

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.effects.locks import lock as take_lock
from pipeline.effects.locks import try_lock
from pipeline.errors import RecordError, WorkdirBusyError
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json

RECORD_NAME: Final = "record.json"
PARTIAL_PREFIX: Final = ".partial-"
CHUNK: Final = 1 << 20

R = TypeVar("R", bound=BaseModel)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe(path: Path, kind: ArtifactKind, platform: str | None) -> Artifact:
    """Return the artifact that the file at *path* is."""
    return Artifact(
        filename=path.name,
        kind=kind,
        platform=platform,
        size=path.stat().st_size,
        sha256=sha256_of(path),
    )


@contextmanager
def new_file(final: Path, aside: Path | None = None) -> Iterator[IO[bytes]]:
    """Give a stream whose bytes become *final* when the block ends without an error.

    A reader of *final* sees the old bytes or the new ones, never a part. Until then they are in
    the directory *aside* of the same file system, by default beside *final*.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    directory = aside or final.parent
    with tempfile.NamedTemporaryFile(dir=directory, prefix=PARTIAL_PREFIX, delete=False) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomically(path: Path, data: bytes, aside: Path | None = None) -> None:
    """Make *path* hold *data*, all at once; see :func:`new_file`."""
    with new_file(path, aside) as file:
        file.write(data)


def write_privately(path: Path, data: bytes) -> None:
    """Make *path* hold *data*, all at once; only its owner can read it, at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=PARTIAL_PREFIX, delete=False) as file:
        temporary = Path(file.name)  # made with mode 0600
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def new_directory(final: Path) -> Iterator[Path]:
    """Give an empty directory which becomes *final* when the block ends without an error.

    If *final* came into being meanwhile, it stays: its key says that it is the same thing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=PARTIAL_PREFIX))
    try:
        temporary.chmod(0o755)
        yield temporary
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class WorkDirectory:
    """The directory that holds everything one project checkout produces.

    ``stages/<stage>/<key>/`` is a finished stage's output with its ``record.json``; a directory
    that is there is complete, since it was renamed into place. ``cache/`` may be deleted at any
    time. One process works in it at a time.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, *parts: str) -> Path:
        """Return a path in the work directory."""
        return self.root.joinpath(*parts)

    def identity(self) -> str:
        """Return a name of this directory on this machine, for what it leaves in an engine."""
        place = f"{platform.node()}:{self.root.absolute()}"
        return hashlib.sha256(place.encode()).hexdigest()[:10]

    def stage_directory(self, stage: str, key: str) -> Path:
        """Return where the output with *key* is, or will be."""
        return self.path("stages", stage, key)

    def finished(self, stage: str, key: str, model: type[R]) -> R | None:
        """Return the record under *key*, or None if that stage has not finished.

        Raises:
            RecordError: the record is there, but cannot be read.
        """
        path = self.stage_directory(stage, key) / RECORD_NAME
        try:
            return model.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            msg = (
                f"{path}: not a record of stage {stage} ({error.error_count()} errors, first: "
                f"{error.errors()[0]['msg']}). Remove {path.parent} and run again; only that "
                "stage is repeated."
            )
            raise RecordError(msg) from error

    @contextmanager
    def unfinished(self, stage: str, key: str) -> Iterator[Path]:
        """Give a directory to write the output of *stage* into; see :func:`new_directory`."""
        with new_directory(self.stage_directory(stage, key)) as directory:
            yield directory

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Wait until no other process is at this part of the work; keep others out of it."""
        path = self.path("cache", f"{name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lock:
            take_lock(lock)
            yield

    @contextmanager
    def locked(self, wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Keep other processes out, and clear what a killed one left half-written.

        With *wait* it is waited for another process that is at work here; *wait* is told which.

        Raises:
            WorkdirBusyError: another process is at work here, and it is not waited for.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self.path(".lock").open("a+") as lock:
            if not try_lock(lock):
                if wait is None:
                    msg = (
                        f"{self.root}: process {_who(lock)} is at work here. Wait for it, or use "
                        "another directory with --work."
                    )
                    raise WorkdirBusyError(msg)
                wait(_who(lock))
                take_lock(lock)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._clear_partial()
            yield

    def _clear_partial(self) -> None:
        for pattern in ("stages/*", "cache/**"):
            for left in tuple(self.root.glob(f"{pattern}/{PARTIAL_PREFIX}*")):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _who(lock: IO[str]) -> str:
    """Return the pid in a lock's file, or a question mark: Windows lets nobody read it."""
    try:
        lock.seek(0)
        return lock.read().strip() or "?"
    except OSError:
        return "?"


def write_record(directory: Path, record: BaseModel) -> None:
    """Write *record* as ``record.json`` of an unfinished stage directory."""
    (directory / RECORD_NAME).write_bytes(pretty_json(record))
