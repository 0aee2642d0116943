"""Installs what was made of a job's archives by the clients that users have, before it is public.

Debian packages come from a local repository, by the apt of each suite; images are loaded into the
engine. The same is done again with what the public gets: :mod:`pipeline.publish.installed`.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.distribute.apt import package_stanza
from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.context import Context, StageOutput
from pipeline.install.apt import clean_system, named, try_packages
from pipeline.install.image import image_place, try_image
from pipeline.model.debian import BinaryPackage
from pipeline.model.records import BuiltImage, Environment, Installation, Installed
from pipeline.plan import Job

VERSION: Final = 1
REPOSITORY: Final = "srv/packages"
# Nothing of this repository leaves the container, so nobody signs it; the public one is signed.
SOURCES: Final = f"Types: deb\nURIs: file:/{REPOSITORY}\nSuites: ./\nTrusted: yes\n"
SOURCES_PATH: Final = "etc/apt/sources.list.d/local.sources"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What was made of a job's archives, and in which directories it is."""

    packages: tuple[BinaryPackage, ...]
    packages_directory: Path
    images: tuple[BuiltImage, ...]
    images_directory: Path


def install_inputs(
    job: Job, given: Given, environments: tuple[Environment, ...]
) -> dict[str, object]:
    """Return everything that decides whether the installations work.

    The distribution's own packages, which come from its mirror at the time, are not in it.
    """
    return {
        "packages": {item.filename: item.sha256 for item in given.packages},
        "images": [item.image.digest for item in given.images],
        "tests": [test.model_dump(mode="json") for test in job.interpreter.install],
        "environments": [environment.digest for environment in environments],
    }


def check_installs(
    ctx: Context,
    job: Job,
    given: Given,
    environments: tuple[Environment, ...],
    stage: StageOutput,
) -> Installation:
    """Install the packages of each suite, in its environment, and load each image.

    Raises:
        InstallError: something cannot be installed, does not work, or cannot be removed.
    """
    installed = []
    for suite, environment in zip(job.suites, environments, strict=True):
        stage.step.phase(f"apt in {environment.name}")
        packages = tuple(item for item in given.packages if item.suite == suite)
        installed.append(_by_apt(ctx, job, given, packages, environment))
    for built in given.images:
        stage.step.phase(f"run the image of {built.image.suite} {built.image.variant}".rstrip())
        installed.append(_by_engine(ctx, job, given.images_directory / built.archive, built))
    return Installation(installed=tuple(installed))


def _by_apt(
    ctx: Context,
    job: Job,
    given: Given,
    packages: tuple[BinaryPackage, ...],
    environment: Environment,
) -> Installed:
    started = time.monotonic()
    main = job.interpreter.debian.package if job.interpreter.debian else ""
    with (
        tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
        clean_system(ctx, environment, network="bridge", factor=job.run_factor) as system,
    ):
        archive = Path(temporary, "repository.tar")
        write_archive(archive, _repository(given, packages), epoch=job.revision.epoch)
        system.session.copy_into(archive, "/")
        what = try_packages(system, named(packages, main), job.interpreter.install)
    return Installed(
        client="apt",
        where=environment.name,
        what=what,
        seconds=round(time.monotonic() - started, 1),
    )


def _repository(given: Given, packages: tuple[BinaryPackage, ...]) -> list[Entry]:
    """Return the files of a repository of these packages, below the root of a system."""
    listed = "\n".join(package_stanza(item, f"./{item.filename}") for item in packages)
    return [
        Entry(path=SOURCES_PATH, content=SOURCES.encode()),
        Entry(path=f"{REPOSITORY}/Packages", content=listed.encode()),
        *(
            Entry(
                path=f"{REPOSITORY}/{item.filename}",
                content=given.packages_directory / item.filename,
            )
            for item in packages
        ),
    ]


def _by_engine(ctx: Context, job: Job, archive: Path, built: BuiltImage) -> Installed:
    started = time.monotonic()
    image_id = ctx.engine.load(archive)
    try:
        what = try_image(ctx, image_id, built.image, job.interpreter.install, job.run_factor)
    finally:
        ctx.engine.remove_image(image_id)
    return Installed(
        client="image",
        where=image_place(built.image),
        what=what,
        seconds=round(time.monotonic() - started, 1),
    )
