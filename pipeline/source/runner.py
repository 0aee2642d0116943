"""Makes one tar file of everything a translation needs.

In the translation environment it becomes ``/build/toolchain`` (RPython and what it imports, where
the source has none of its own), ``/build/shim`` (what the bootstrap interpreter runs first) and
``/build/source`` (the interpreter), with empty ``/build/out`` and ``/build/tmp``.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from pipeline.effects.archives import (
    Compression,
    Entry,
    Owner,
    entries_of,
    unpack,
    unpack_zip,
    write_archive,
)
from pipeline.effects.console import Step
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import describe, sha256_of
from pipeline.effects.git import Checkout
from pipeline.errors import SourceError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import DirectorySource, GitSource, Pin
from pipeline.model.records import Revision, SourceTree
from pipeline.plan import Job
from pipeline.source.resolve import git_repository, local_revision, source_directory
from pipeline.source.tree import check_unchanged, checkout_entries, kept_entries, tree_digest

VERSION: Final = 2
ARCHIVE_NAME: Final = "source.tar"
BUILDER: Final = Owner(uid=1000, gid=1000)
SOURCE: Final = "build/source"
# RPython reports this file's revision where there is no repository; the format is Mercurial's.
ARCHIVAL_FILE: Final = ".hg_archival.txt"


def source_inputs(ctx: Context, job: Job) -> dict[str, object]:
    """Return everything that decides a source tree's bytes."""
    pins = {name: ctx.config.pins[name].sha256 for name in job.interpreter.source.toolchain}
    return {
        "revision": job.revision.model_dump(mode="json", exclude={"number"}),
        "source_archive": job.source_archive,
        "pins": pins,
        "shim": tree_digest(_shim(ctx)),
    }


def make_source(ctx: Context, job: Job, stage: StageOutput) -> SourceTree:
    """Fetch the pinned toolchain and pack it with the interpreter's source.

    Raises:
        SourceError: the source changed since its revision was resolved.
        DownloadError, DigestMismatchError: a pinned file cannot be had.
    """
    archive = stage.directory / ARCHIVE_NAME
    shim = tree_digest(_shim(ctx))
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        toolchain = Path(temporary)
        for name in job.interpreter.source.toolchain:
            stage.step.phase(f"fetch {name} {ctx.config.pins[name].version}")
            add_to_toolchain(ctx, ctx.config.pins[name], toolchain, stage.step)
        with _source_entries(ctx, job) as source:
            stage.step.phase("pack")
            entries = [
                *entries_of(toolchain, "build/toolchain"),
                *kept_entries(_shim(ctx), "build/shim"),
                *source,
                *(Entry(path=f"build/{name}", directory=True) for name in ("out", "tmp")),
            ]
            write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
            source_archive = _released_source(job, source, stage)
    check_unchanged(_shim(ctx), shim, tree_digest(_shim(ctx)))
    return SourceTree(
        revision=job.revision,
        archive=ARCHIVE_NAME,
        sha256=sha256_of(archive),
        size=archive.stat().st_size,
        source_archive=source_archive,
    )


def archival_text(revision: Revision) -> bytes:
    """Return the file from which RPython's ``tool/version.py`` reads revision, branch and tag."""
    lines = [f"node: {revision.short}", f"branch: {revision.branch or 'unknown'}"]
    lines += [f"tag: {revision.tag}"] if revision.tag is not None else []
    return "".join(f"{line}\n" for line in lines).encode()


@contextmanager
def _source_entries(ctx: Context, job: Job) -> Iterator[list[Entry]]:
    """Give the interpreter's source, below ``build/source``."""
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        match job.interpreter.source:
            case DirectorySource() as directory:
                place = source_directory(ctx, directory)
                yield list(kept_entries(place, SOURCE))
                check_unchanged(place, job.revision.revision, tree_digest(place))
            case GitSource() if job.source_directory is not None:
                yield _local_entries(ctx, job, Path(job.source_directory))
                now = local_revision(ctx, Path(job.source_directory))
                check_unchanged(Path(job.source_directory), job.revision.revision, now.revision)
            case GitSource() as source:
                exported = Path(temporary, "source.tar")
                git_repository(ctx, source).export(job.revision.revision, exported)
                unpack(exported, Path(temporary, "tree"))
                yield [*entries_of(Path(temporary, "tree"), SOURCE), _archival_entry(job)]


def _local_entries(ctx: Context, job: Job, directory: Path) -> list[Entry]:
    checkout = Checkout(ctx.process, directory)
    entries = (
        kept_entries(directory, SOURCE)
        if checkout.head() is None
        else checkout_entries(checkout, SOURCE)
    )
    return [*entries, _archival_entry(job)]


def _archival_entry(job: Job) -> Entry:
    return Entry(path=f"{SOURCE}/{ARCHIVAL_FILE}", content=archival_text(job.revision))


def _released_source(job: Job, source: list[Entry], stage: StageOutput) -> Artifact | None:
    """Pack the source as it is released, below its one top directory."""
    if job.source_archive is None:
        return None
    stage.step.phase(f"pack {job.source_archive}")
    top = job.source_archive.removesuffix(naming.SOURCE_SUFFIX)
    entries = [replace(entry, path=f"{top}{entry.path.removeprefix(SOURCE)}") for entry in source]
    path = stage.directory / job.source_archive
    write_archive(path, entries, epoch=job.revision.epoch, compression=Compression.GZIP)
    return describe(path, ArtifactKind.SOURCE_GZ, None)


def add_to_toolchain(ctx: Context, pin: Pin, toolchain: Path, step: Step) -> None:
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


def _shim(ctx: Context) -> Path:
    return ctx.root / "dockerfiles" / "bootstrap"
