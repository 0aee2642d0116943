"""Source: resolves which revision is meant, and makes one tar file of everything translation needs.

In the translation environment it becomes ``/build/toolchain`` (RPython and what it imports),
``/build/shim`` (what the bootstrap interpreter runs first) and ``/build/source`` (the interpreter),
with empty ``/build/out`` and ``/build/tmp``.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, Owner, entries_of, unpack, unpack_zip, write_archive
from pipeline.effects.console import Step
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import sha256_of
from pipeline.errors import SourceError
from pipeline.model.base import canonical_json
from pipeline.model.configs import InterpreterConfig, Pin
from pipeline.model.records import Revision, SourceTree
from pipeline.plan import Job

VERSION: Final = 1
ARCHIVE_NAME: Final = "source.tar"
BUILDER: Final = Owner(uid=1000, gid=1000)
IGNORED: Final = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".hypothesis"})


def resolve_revision(ctx: Context, interpreter: InterpreterConfig) -> Revision:
    """Return which source *interpreter* is built from, as it is now.

    Raises:
        SourceError: its directory is missing or empty.
    """
    source = interpreter.source
    midnight = datetime.combine(source.date, time(), tzinfo=UTC)
    return Revision(
        kind=source.kind,
        revision=_tree_digest(_directory(ctx, interpreter)),
        number=int(source.date.strftime("%Y%m%d")),
        epoch=int(midnight.timestamp()),
    )


def source_inputs(ctx: Context, job: Job) -> dict[str, object]:
    """Return everything that decides a source tree's bytes."""
    pins = {name: ctx.config.pins[name].sha256 for name in job.interpreter.source.toolchain}
    return {
        "revision": job.revision.revision,
        "epoch": job.revision.epoch,
        "pins": pins,
        "shim": _tree_digest(_shim(ctx)),
    }


def make_source(ctx: Context, job: Job, stage: StageOutput) -> SourceTree:
    """Fetch the pinned toolchain and pack it with the interpreter's source.

    Raises:
        SourceError: the source changed since its revision was resolved.
        DownloadError, DigestMismatchError: a pinned file cannot be had.
    """
    archive = stage.directory / ARCHIVE_NAME
    shim = _tree_digest(_shim(ctx))
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        toolchain = Path(temporary)
        for name in job.interpreter.source.toolchain:
            stage.step.phase(f"fetch {name} {ctx.config.pins[name].version}")
            _add_to_toolchain(ctx, ctx.config.pins[name], toolchain, stage.step)
        stage.step.phase("pack")
        entries = [
            *entries_of(toolchain, "build/toolchain"),
            *_kept(_shim(ctx), "build/shim"),
            *_kept(_directory(ctx, job.interpreter), "build/source"),
            Entry(path="build/out", directory=True),
            Entry(path="build/tmp", directory=True),
        ]
        write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
    _check_unchanged(_directory(ctx, job.interpreter), job.revision.revision)
    _check_unchanged(_shim(ctx), shim)
    return SourceTree(
        revision=job.revision,
        archive=ARCHIVE_NAME,
        sha256=sha256_of(archive),
        size=archive.stat().st_size,
    )


def _add_to_toolchain(ctx: Context, pin: Pin, toolchain: Path, step: Step) -> None:
    """Unpack a pinned wheel, or the packages of a pinned sdist, into *toolchain*."""
    downloads = ctx.work.path("cache", "downloads")
    fetched = ctx.http.download(pin, downloads, lambda count: step.advance(count, pin.size))
    if fetched.suffix == ".whl":
        unpack_zip(fetched, toolchain)
        return
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        unpack(fetched, Path(temporary))
        tops = sorted(Path(temporary).iterdir())
        if len(tops) != 1:
            msg = f"{pin.filename}: {len(tops)} top directories; a source distribution has one."
            raise SourceError(msg)
        for package in tops[0].glob("*/__init__.py"):
            package.parent.rename(toolchain / package.parent.name)


def _directory(ctx: Context, interpreter: InterpreterConfig) -> Path:
    return Path(ctx.config.root) / interpreter.source.path


def _shim(ctx: Context) -> Path:
    return ctx.root / "dockerfiles" / "bootstrap"


def _kept(directory: Path, prefix: str) -> Iterator[Entry]:
    """Yield a directory's entries without what programs leave behind in it."""
    for entry in entries_of(directory, prefix):
        if not _ignored(entry.path):
            yield entry


def _ignored(path: str) -> bool:
    return path.endswith(".pyc") or not IGNORED.isdisjoint(path.split("/"))


def _check_unchanged(directory: Path, digest: str) -> None:
    if _tree_digest(directory) != digest:
        msg = f"{directory}: changed while it was packed. Run again."
        raise SourceError(msg)


def _tree_digest(directory: Path) -> str:
    """Return the digest of a directory: names, contents, links and executable bits."""
    described = [
        [entry.path, entry.link, entry.executable, _content_digest(entry)]
        for entry in _kept(directory, ".")
    ]
    if not described:
        msg = (
            f"{directory}: no source files. Check source.path in the config, and that "
            "the checkout is whole."
        )
        raise SourceError(msg)
    return hashlib.sha256(canonical_json(described)).hexdigest()


def _content_digest(entry: Entry) -> str | None:
    return sha256_of(entry.content) if isinstance(entry.content, Path) else None
