"""A job's packages for its suites, with an engine that does what the tools would."""

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.distribute.archives import Archives
from pipeline.distribute.debian.runner import debian_inputs, make_packages
from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import describe
from pipeline.errors import DebianPackageError, LintianError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.debian import DebianConfig, package_filenames
from pipeline.model.records import DebianPackages, Environment, Package
from pipeline.plan import Job
from tests.factories import changed, digest, make_build_info_of, make_environment
from tests.fakes import (
    ELF,
    EPOCH,
    Answer,
    Ran,
    World,
    given_files,
    make_job,
    make_world,
    stage_output,
    write_text,
)

DEBIAN: Final[dict[str, Any]] = {
    "package": "toy",
    "commands": {"toy-own": "bin/toy"},
    "parts": ({"suffix": "-doc", "summary": "documents", "files": ("*.md",), "documents": True},),
    "private": ("lib/*.so*",),
}
FILES: Final[dict[str, bytes | Path]] = {
    "bin/toy": ELF,
    "LICENSE": b"MIT\n",
    "README.md": b"read\n",
    "lib/libz.so.1": ELF,
}
ROOT: Final = "usr/lib/toys/toy"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = make_world(tmp_path / "project")
    write_text(world.ctx.root / "packaging" / "debian" / "build.sh", "#!/bin/sh\n")
    world.engine.scripts["debian"] = packed
    needed = Answer(stdout="shlibs:Depends=libc6\n")
    for path in ("bin/toy", "lib/libz.so.1"):
        world.engine.answers[(f"-e/tmp/debian/root/{ROOT}/{path}",)] = needed
    return world


def packed(step: ContainerStep, tags: str = "") -> Ran:
    """Do as ``build.sh``: a file for each package, and what lintian says."""
    filenames = step.command[3::2]
    files: dict[str, bytes | Path] = {name: f"deb {name}".encode() for name in filenames}
    return Ran(files={**files, "lintian.version": b"Lintian v2\n", "lintian.tags": tags.encode()})


def job_of(world: World, **overrides: Any) -> Job:
    """Return the toy's job, with a table ``debian``."""
    job = make_job(world.ctx)
    config = DebianConfig.model_validate({**DEBIAN, **overrides})
    return changed(job, interpreter=changed(job.interpreter, debian=config))


def archives_of(world: World, job: Job, files: dict[str, bytes | Path] | None = None) -> Archives:
    """Pack the toy's archive."""
    directory = world.ctx.root / "archives"
    directory.mkdir()
    path = directory / f"{job.stem}.tar.zst"
    entries = list(members(job.stem, FILES if files is None else files))
    write_archive(path, entries, epoch=EPOCH, compression=Compression.ZSTD)
    artifact = describe(path, ArtifactKind.ARCHIVE_ZST, job.platform.identifier)
    package = Package(stem=job.stem, artifacts=(artifact,))
    return Archives(package=package, directory=directory, info=make_build_info_of(job))


def members(stem: str, files: dict[str, bytes | Path]) -> Iterator[Entry]:
    for name, content in files.items():
        yield Entry(path=f"{stem}/{name}", content=content, executable=name.startswith("bin/"))


def environments_of(world: World, suites: Iterable[str]) -> tuple[Environment, ...]:
    return tuple(
        make_environment(name=f"debian-{suite}", image_id=world.engine.add_image(suite))
        for suite in suites
    )


def made(world: World, job: Job, archives: Archives, *suites: str) -> DebianPackages:
    environments = environments_of(world, suites)
    with stage_output(world.ctx) as stage:
        return make_packages(world.ctx, job, archives, environments, stage, suites)


def test_the_packages_are_those_that_the_plan_names(world: World) -> None:
    job = job_of(world)
    suites = tuple(world.ctx.config.suites)

    packages = made(world, job, archives_of(world, job), *suites)

    assert job.interpreter.debian is not None
    named = package_filenames(
        job.interpreter.debian, "amd64", world.ctx.config.suites.values(), job.version
    )
    assert tuple(item.filename for item in packages.artifacts) == named
    assert [item.suite for item in packages.packages] == [s for s in suites for _ in range(2)]
    assert len(packages.gates) == len(suites)


def test_a_package_is_described_as_it_lies_in_the_stages_directory(world: World) -> None:
    job = job_of(world)
    (suite, *_) = world.ctx.config.suites

    packages = made(world, job, archives_of(world, job), suite)

    main = packages.packages[0]
    path = world.ctx.work.path("stage", "k" * 64) / main.filename
    assert path.read_bytes() == f"deb {main.filename}".encode()
    assert main.size == path.stat().st_size
    assert main.control.startswith("Package: toy\n")
    assert "Depends: libc6" in main.control


def test_the_container_is_given_each_file_in_one_package(world: World) -> None:
    job = job_of(world)
    (suite, *_) = world.ctx.config.suites
    seen: dict[str, bytes] = {}

    def noting(step: ContainerStep) -> Ran:
        seen.update(given_files(step))
        return packed(step)

    world.engine.scripts["debian"] = noting

    made(world, job, archives_of(world, job), suite)

    given = {name for name in seen if ROOT in name}
    assert given == {
        f"build/in/toy/{ROOT}/{name}" for name in ("bin/toy", "LICENSE", "lib/libz.so.1")
    }
    assert seen["build/in/toy-doc/usr/share/doc/toy-doc/README.md"] == b"read\n"


def test_a_library_that_the_suite_has_is_in_no_package(world: World) -> None:
    job = job_of(world)
    (suite, *_) = world.ctx.config.suites
    path = f"/usr/lib/{job.platform.multiarch}/libz.so.1"
    world.engine.answers[(path,)] = Answer(stdout=f"zlib1g:amd64: {path}\n")
    seen: dict[str, bytes] = {}

    def noting(step: ContainerStep) -> Ran:
        seen.update(given_files(step))
        return packed(step)

    world.engine.scripts["debian"] = noting

    made(world, job, archives_of(world, job), suite)

    assert not [name for name in seen if name.endswith("libz.so.1")]


def test_an_error_of_lintian_stops_the_stage(world: World) -> None:
    job = job_of(world)
    (suite, *_) = world.ctx.config.suites
    world.engine.scripts["debian"] = lambda step: packed(step, "E: toy: bad-thing [usr/bin/toy]\n")

    with pytest.raises(LintianError, match="bad-thing"):
        made(world, job, archives_of(world, job), suite)


def test_a_script_that_fails_is_told_with_its_last_lines(world: World) -> None:
    job = job_of(world)
    (suite, *_) = world.ctx.config.suites
    world.engine.scripts["debian"] = lambda _: Ran(status=2, lines=("dpkg-deb: error: odd",))

    with pytest.raises(DebianPackageError, match=r"exit status 2 of debian/build.sh:\n.*odd"):
        made(world, job, archives_of(world, job), suite)


def test_an_archive_without_a_licence_is_refused(world: World) -> None:
    job = job_of(world)
    (suite, *_) = world.ctx.config.suites
    archives = archives_of(world, job, {"bin/toy": ELF, "README.md": b"read\n"})

    with pytest.raises(DebianPackageError, match="no file LICENSE"):
        made(world, job, archives, suite)


def test_a_part_of_debug_symbols_needs_an_archive_of_them(world: World) -> None:
    parts = ({"suffix": "-dbg", "summary": "symbols", "debug_symbols": True},)
    job = job_of(world, parts=parts)
    (suite, *_) = world.ctx.config.suites

    with pytest.raises(DebianPackageError, match="no archive of debug symbols"):
        made(world, job, archives_of(world, job), suite)


def test_an_interpreter_without_the_table_has_no_packages(world: World) -> None:
    job = make_job(world.ctx)
    (suite, *_) = world.ctx.config.suites

    with pytest.raises(DebianPackageError, match="no table debian"):
        made(world, job, archives_of(world, job), suite)


def test_all_that_decides_the_bytes_is_among_the_inputs(world: World) -> None:
    job = job_of(world)
    archives = archives_of(world, job)
    suites = tuple(world.ctx.config.suites)
    environments = environments_of(world, suites)
    plain = debian_inputs(world.ctx, job, archives, environments, suites)

    other = (changed(environments[0], digest=digest("other")), *environments[1:])
    with_other = debian_inputs(world.ctx, job, archives, other, suites)
    fewer = debian_inputs(world.ctx, job, archives, (), ())
    more = job_of(world, recommended=("tzdata",))
    write_text(world.ctx.root / "packaging" / "debian" / "build.sh", "#!/bin/sh\nset -e\n")
    rewritten = debian_inputs(world.ctx, job, archives, environments, suites)
    write_text(world.ctx.root / "release_notes" / "toy-v1.2.3.md", "- A change.\n")
    noted = debian_inputs(world.ctx, job, archives, environments, suites)
    days = [
        debian_inputs(world.ctx, changed(job, nightly_day=date(2026, 11, day)), archives, (), ())[
            "nightly_day"
        ]
        for day in (24, 25)
    ]

    assert with_other["environments"] != plain["environments"]
    assert fewer["suites"] != plain["suites"]
    assert (
        debian_inputs(world.ctx, more, archives, environments, suites)["config"] != plain["config"]
    )
    assert rewritten["templates"] != plain["templates"]
    assert noted["notes"] != plain["notes"]
    assert len({*days, plain["nightly_day"]}) == 3
