"""Runs every gate on a job's archives; one finding stops the release."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import unpack, unpack_zip
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import sha256_of
from pipeline.errors import DigestMismatchError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import GitSource, PyPyPackage
from pipeline.model.records import BuildInfo, Environment, GateResult, Package, Verification
from pipeline.plan import Job
from pipeline.source.tree import tree_digest
from pipeline.verify.contents import CONTENT_GATES, glibc_floor
from pipeline.verify.formats import FORMAT_GATES
from pipeline.verify.gates import Gate, check_gates, stop_on
from pipeline.verify.hardening import HARDENING_GATES
from pipeline.verify.identity import IDENTITY_GATES
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES, main_kind, read_archives
from pipeline.verify.running import (
    MODULES_GATE,
    PROOF_GATES,
    REPORT_GATE,
    Installed,
    installed,
    smoke_gates,
    test_directories,
)
from pipeline.verify.source_archive import check_source
from pipeline.verify.tree import Tree

VERSION: Final = 3
TREE_GATES: Final = (*CONTENT_GATES, *HARDENING_GATES, *IDENTITY_GATES)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A job's archives in their directory, and what they should say of themselves.

    ``source`` is the source archive that is released with them, where one is.
    """

    package: Package
    directory: Path
    info: BuildInfo
    source: Artifact | None = None
    source_directory: Path = Path()

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Every file that the gates look at."""
        return (*self.package.artifacts, *([self.source] if self.source is not None else []))


def verify_inputs(
    ctx: Context, job: Job, packed: Packed, environments: tuple[Environment, ...]
) -> dict[str, object]:
    """Return everything that decides the verdict: what is looked at, and what is expected of it."""
    root, interpreter = Path(ctx.config.root), job.interpreter
    directories = test_directories(interpreter).items()
    source = interpreter.source
    return {
        "archives": {item.filename: item.sha256 for item in packed.artifacts},
        "config": interpreter.verify.model_dump(mode="json"),
        "package": interpreter.package.model_dump(mode="json"),
        "implementation": interpreter.implementation,
        "target_options": interpreter.translation.target_options,
        "version_file": source.version_file if isinstance(source, GitSource) else None,
        "info": packed.info.model_dump(mode="json"),
        "embedded": _embedded_versions(ctx, job),
        "platform": job.platform.model_dump(mode="json"),
        "environments": [environment.digest for environment in environments],
        "tests": {name: tree_digest(root / directory) for name, directory in directories},
        "pins": [ctx.config.pins[name].sha256 for name in interpreter.verify.toolchain],
    }


def _embedded_versions(ctx: Context, job: Job) -> dict[str, str]:
    """Return the versions of the pins that are linked in, by extension module."""
    package = job.interpreter.package
    embedded = package.embedded if isinstance(package, PyPyPackage) else {}
    return {module: ctx.config.pins[library.pin].version for module, library in embedded.items()}


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
    more, found = _check_source(job, packed, stage)
    passed, failures = passed + more, failures + found
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        stage.step.phase("contents")
        tree = _unpacked(ctx, job, paths, packed.info, Path(temporary))
        formats = FORMAT_GATES[job.platform.binaries.format]
        more, found = check_gates((*TREE_GATES, *formats), tree)
        passed, failures = passed + more, failures + found
        floor = glibc_floor(tree)
    more, found = _run_gates(ctx, job, paths[main_kind(paths)], environments, stage)
    stop_on(failures + found)
    return Verification(
        stem=packed.package.stem,
        artifacts=packed.package.artifacts,
        modules=packed.package.modules,
        skipped=packed.package.skipped,
        gates=tuple(passed + more),
        glibc_floor=floor,
    )


def _unpacked(
    ctx: Context, job: Job, paths: dict[ArtifactKind, Path], info: BuildInfo, temporary: Path
) -> Tree:
    main = main_kind(paths)
    (unpack_zip if main is ArtifactKind.ARCHIVE_ZIP else unpack)(paths[main], temporary)
    debug_root = None
    if ArtifactKind.DEBUG_ZST in paths:
        debug_root = temporary / "debug" / f"{job.stem}{naming.DEBUG_INFIX}"
        debug_root.parent.mkdir()
        unpack(paths[ArtifactKind.DEBUG_ZST], debug_root.parent)
    return Tree(
        job=job,
        root=temporary / job.stem,
        info=info,
        debug_root=debug_root,
        embedded=_embedded_versions(ctx, job),
    )


def _check_source(
    job: Job, packed: Packed, stage: StageOutput
) -> tuple[list[GateResult], list[str]]:
    """Check the source archive's own gates, if one is released."""
    if packed.source is None:
        return [], []
    stage.step.phase("source archive")
    path = _recorded_file(packed.source, packed.source_directory)
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        return check_source(job, path, Path(temporary))


def _recorded_files(package: Package, directory: Path) -> dict[ArtifactKind, Path]:
    return {artifact.kind: _recorded_file(artifact, directory) for artifact in package.artifacts}


def _recorded_file(artifact: Artifact, directory: Path) -> Path:
    """Return where a file is, if it has still the bytes that were packed."""
    path = directory / artifact.filename
    actual = sha256_of(path)
    if actual != artifact.sha256:
        raise DigestMismatchError(
            str(path),
            expected=artifact.sha256,
            actual=actual,
            remedy=f"It changed after it was packed. Remove {directory} and run again.",
        )
    return path


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
        with installed(ctx, job, archive, environment, stage.step) as subject:
            more, found = check_gates(_gates(job, environment.name, first=index == 0), subject)
            passed += more
            failures += found
    return passed, failures


def _gates(job: Job, environment: str, *, first: bool) -> tuple[Gate[Installed], ...]:
    """Return what is run in an environment; what is the same everywhere only in the first."""
    modules = (MODULES_GATE,) if isinstance(job.interpreter.package, PyPyPackage) else ()
    gates = (*modules, *smoke_gates(job.interpreter.verify.smoke, environment))
    if not first:
        return gates
    report = (REPORT_GATE,) if job.interpreter.verify.report else ()
    return (*gates, *report, *PROOF_GATES)
