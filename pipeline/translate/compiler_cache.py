"""What ccache remembers, carried into containers and back; it lies under ``cache/ccache/``."""

import shutil
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, entries_of, write_archive
from pipeline.effects.context import Context
from pipeline.effects.files import new_directory
from pipeline.plan import Job
from pipeline.source.runner import BUILDER
from pipeline.translate.command import OUTPUT

CCACHE: Final = "ccache"


def compiler_cache_archive(ctx: Context, job: Job, temporary: Path) -> Path:
    """Return a tar file that puts what ccache remembers into ``/build/out/ccache``."""
    archive = temporary / "ccache.tar"
    place = f"{OUTPUT.removeprefix('/')}/{CCACHE}"
    entries = [Entry(path=place, directory=True), *entries_of(_directory(ctx, job), place)]
    write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
    return archive


def keep_compiler_cache(ctx: Context, job: Job, output: Path) -> None:
    """Remember what ccache left in *output*, the step's output directory."""
    if (output / CCACHE).is_dir():
        final = _directory(ctx, job)
        fresh = final.with_name(f"{final.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
        with new_directory(fresh) as directory:
            shutil.copytree(output / CCACHE, directory, dirs_exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        fresh.rename(final)


def _directory(ctx: Context, job: Job) -> Path:
    return ctx.work.path("cache", CCACHE, job.platform.identifier)
