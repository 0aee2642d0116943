"""What ccache remembers, carried into containers and back; it lies under ``cache/ccache/``.

Code that is compiled can write to the cache that it is compiled with, and what is in a cache ends
up in binaries. So what releases remember is apart: nightlies and local trees may use it, but what
they add is only theirs.
"""

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
RELEASED: Final = "released"
OTHERS: Final = "others"


def compiler_cache_archive(ctx: Context, job: Job, temporary: Path) -> Path:
    """Return a tar file that puts what ccache remembers into ``/build/out/ccache``."""
    archive = temporary / "ccache.tar"
    place = f"{OUTPUT.removeprefix('/')}/{CCACHE}"
    remembered = {
        entry.path: entry
        for directory in (_directory(ctx, job, RELEASED), _directory(ctx, job, _owner(job)))
        for entry in entries_of(directory, place)
    }
    entries = [Entry(path=place, directory=True), *remembered.values()]
    write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
    return archive


def keep_compiler_cache(ctx: Context, job: Job, output: Path) -> None:
    """Remember what ccache left in *output*, the step's output directory."""
    if (output / CCACHE).is_dir():
        final = _directory(ctx, job, _owner(job))
        fresh = final.with_name(f"{final.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
        with new_directory(fresh) as directory:
            shutil.copytree(output / CCACHE, directory, dirs_exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        fresh.rename(final)


def _owner(job: Job) -> str:
    """Return whose cache a job adds to; a tag's source was reviewed, and this repository's own."""
    reviewed = job.revision.tag is not None or job.revision.kind == "directory"
    return RELEASED if reviewed else OTHERS


def _directory(ctx: Context, job: Job, owner: str) -> Path:
    return ctx.work.path("cache", CCACHE, job.platform.identifier, owner)
