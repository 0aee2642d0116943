"""The released interpreter that runs the toolchain, as it comes into the container."""

from pathlib import Path

from pipeline.effects.archives import entries_of, unpack, write_archive
from pipeline.effects.context import Context
from pipeline.errors import TranslationError
from pipeline.model.records import BootstrapRelease
from pipeline.plan import Job
from pipeline.source.runner import BUILDER
from pipeline.translate.command import BOOTSTRAP


def bootstrap_path(ctx: Context, release: BootstrapRelease) -> Path:
    """Return where a bootstrap release's archive is cached."""
    artifact = release.artifact
    return ctx.work.path("cache", "bootstrap", artifact.sha256, artifact.filename)


def bootstrap_archives(ctx: Context, job: Job, temporary: Path) -> tuple[Path, ...]:
    """Return the tar file that puts *job*'s bootstrap release into the container, if it has one."""
    if job.bootstrap is None:
        return ()
    unpacked, archive = temporary / "bootstrap", temporary / "bootstrap.tar"
    unpacked.mkdir()
    unpack(bootstrap_path(ctx, job.bootstrap), unpacked)
    tops = [path for path in sorted(unpacked.iterdir()) if path.is_dir()]
    if len(tops) != 1:
        msg = f"{job.bootstrap.artifact.filename}: {len(tops)} top directories, not one"
        raise TranslationError(msg)
    entries = entries_of(tops[0], BOOTSTRAP.removeprefix("/"))
    write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
    return (archive,)
