"""Runs every gate on a job's archives; one finding stops the release."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import unpack
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import sha256_of
from pipeline.errors import DigestMismatchError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.records import BuildInfo, Environment, GateResult, Package, Verification
from pipeline.plan import Job
from pipeline.verify.contents import CONTENT_GATES, Tree, glibc_floor
from pipeline.verify.gates import check_gates, stop_on
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES, read_archives
from pipeline.verify.running import PROOF_GATES, SMOKE_GATES, installed

VERSION: Final = 1


def verify_inputs(
    ctx: Context, job: Job, package: Package, environments: tuple[Environment, ...]
) -> dict[str, object]:
    """Return everything that decides the verdict."""
    tests = Path(ctx.config.root) / job.interpreter.verify.test_files
    return {
        "archives": {item.filename: item.sha256 for item in package.artifacts},
        "config": job.interpreter.verify.model_dump(mode="json"),
        "platform": job.platform.model_dump(mode="json"),
        "environments": [environment.digest for environment in environments],
        "tests": {
            path.relative_to(tests).as_posix(): sha256_of(path)
            for path in sorted(tests.rglob("*"))
            if path.is_file()
        },
    }


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A job's archives in their directory, and what they should say of themselves."""

    package: Package
    directory: Path
    info: BuildInfo


def verify(
    ctx: Context,
    job: Job,
    packed: Packed,
    environments: tuple[Environment, ...],
    stage: StageOutput,
) -> Verification:
    """Check the archives byte for byte as they would be released, running them in *environments*.

    Raises:
        GateError: a gate found something; all findings are listed.
        UnsafeArchiveError: an archive cannot be read.
        DigestMismatchError: an archive changed since it was packed.
    """
    paths = _recorded_files(packed.package, packed.directory)
    stage.step.phase("archive members")
    archives = read_archives(job, paths)
    passed, failures = check_gates(SAFETY_GATES, archives)
    stop_on(failures)
    more, failures = check_gates(MEMBER_GATES, archives)
    passed += more
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        stage.step.phase("contents")
        unpack(paths[ArtifactKind.ARCHIVE_GZ], Path(temporary))
        tree = Tree(job, Path(temporary, job.stem), packed.info)
        more, found = check_gates(CONTENT_GATES, tree)
        passed, failures = passed + more, failures + found
        floor = glibc_floor(tree)
    more, found = _run_gates(ctx, job, paths[ArtifactKind.ARCHIVE_GZ], environments, stage)
    stop_on(failures + found)
    return Verification(
        stem=packed.package.stem,
        artifacts=packed.package.artifacts,
        gates=tuple(passed + more),
        glibc_floor=floor,
    )


def _recorded_files(package: Package, directory: Path) -> dict[ArtifactKind, Path]:
    paths = {}
    for artifact in package.artifacts:
        path = directory / artifact.filename
        actual = sha256_of(path)
        if actual != artifact.sha256:
            raise DigestMismatchError(
                str(path),
                expected=artifact.sha256,
                actual=actual,
                remedy=f"It changed after it was packed. Remove {directory} and run again.",
            )
        paths[artifact.kind] = path
    return paths


def _run_gates(
    ctx: Context,
    job: Job,
    archive: Path,
    environments: tuple[Environment, ...],
    stage: StageOutput,
) -> tuple[list[GateResult], list[str]]:
    passed, failures = list[GateResult](), list[str]()
    for index, environment in enumerate(environments):
        stage.step.phase(f"run in {environment.name}")
        with installed(ctx, job, archive, environment) as subject:
            gates = SMOKE_GATES + (PROOF_GATES if index == 0 else ())
            more, found = check_gates(gates, subject)
            passed += more
            failures += found
    return passed, failures
