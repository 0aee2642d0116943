"""Checks of one container engine, here or elsewhere: is it there, large enough, does it emulate.

What only a container can tell is asked in one: the smallest program for a processor is Debian's
``arch-test``, which says ``ok`` and needs no other file; the free disk is what ``df`` says.
"""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.context import Context
from pipeline.effects.engine import ContainerStep, Engine, EngineInfo
from pipeline.environment import recorded_environment
from pipeline.errors import EngineUnavailableError, ImageError, PipelineError
from pipeline.model.configs import Config
from pipeline.model.platforms import Placement, Platform
from pipeline.preflight import GIB, REGISTER

LEAST_MEMORY: Final = 2 * GIB
LEAST_DISK: Final = 4 * GIB
ARCH_TEST: Final = Path("/usr/lib/arch-test")
PROBE_TIMEOUT: Final = 60
# POSIX: file system, blocks, used, available, capacity, mount point.
_AVAILABLE: Final = re.compile(r"(\d+) +\d+% /\s*$")
PROBE: Final = b"FROM scratch\nCOPY probe /probe/run\n"
PROBE_TAG: Final = "rpython-pipeline/probe"


class Status(StrEnum):
    """How a check came out; a warning does not stop anything."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check: what was looked at, what was found, and what to do if that is not enough."""

    name: str
    status: Status
    found: str
    fix: str = ""


def check_engine(config: Config, engine: Engine, prefix: str = "") -> Iterator[CheckResult]:
    """Check that *engine* answers, what it runs on, and its memory; names begin with *prefix*."""
    try:
        info = engine.info()
    except EngineUnavailableError as error:
        name = f"{prefix}engine"
        yield CheckResult(name=name, status=Status.FAILED, found="no answer", fix=str(error))
        unknown = "unknown without an engine"
        yield CheckResult(name=f"{prefix}memory", status=Status.WARNING, found=unknown)
        return
    yield _machine(config, info, prefix)
    yield _memory(info, prefix)


def check_engine_for(ctx: Context, row: Platform) -> Iterator[CheckResult]:
    """Check the engine that was named for a platform, with what only its containers can tell."""
    prefix = f"{row.identifier}: "
    engine = ctx.for_platform(row.identifier).engine
    results = tuple(check_engine(ctx.config, engine, prefix))
    yield from results
    if engine.contained and results[0].status is Status.OK:
        yield _free_disk(ctx, row, prefix)
        yield _runs(ctx, row, prefix)


def _machine(config: Config, info: EngineInfo, prefix: str) -> CheckResult:
    rows = config.platforms.values()
    # Docker says it as uname does, Podman as OCI does.
    machines = {row.machine for row in rows} | {row.oci.architecture for row in rows if row.oci}
    name, found = f"{prefix}engine", f"version {info.version}, {info.machine}, {info.cpus} CPUs"
    if info.machine not in machines:
        fix = f"Use an engine on one of: {', '.join(sorted(machines))}."
        return CheckResult(name=name, status=Status.FAILED, found=found, fix=fix)
    return CheckResult(name=name, status=Status.OK, found=found)


def _memory(info: EngineInfo, prefix: str) -> CheckResult:
    return CheckResult(
        name=f"{prefix}memory",
        status=Status.OK if info.memory >= LEAST_MEMORY else Status.FAILED,
        found=f"{info.memory / GIB:.1f} GiB for the engine",
        fix=f"A translation of the demo needs {LEAST_MEMORY // GIB} GiB: use a larger machine.",
    )


def _free_disk(ctx: Context, row: Platform, prefix: str) -> CheckResult:
    """Ask ``df`` in an image that the engine has; without one there is no program to ask."""
    name, there = f"{prefix}disk", ctx.for_platform(row.identifier)
    image = _any_image(there, row)
    if image is None:
        found = "unknown before the first environment is made there"
        return CheckResult(name=name, status=Status.WARNING, found=found)
    with there.engine.session(image) as session:
        said = session.call(("df", "-Pk", "/")).text
    if (available := _AVAILABLE.search(said)) is None:
        return CheckResult(name=name, status=Status.WARNING, found=f"df said {said!r}")
    free = int(available[1]) * 1024
    return CheckResult(
        name=name,
        status=Status.OK if free >= LEAST_DISK else Status.FAILED,
        found=f"{free / GIB:.1f} GiB free for containers",
        fix=f"Free {LEAST_DISK // GIB} GiB where that engine keeps its images.",
    )


def _any_image(ctx: Context, row: Platform) -> str | None:
    for name in ctx.config.environments:
        try:
            known = recorded_environment(ctx, name, Placement(host=row))
        except ImageError:  # an environment that this platform does not have
            continue
        if known is not None and ctx.engine.has_image(known.image_id):
            return known.image_id
    return None


def _runs(ctx: Context, row: Platform, prefix: str) -> CheckResult:
    """Run a program of the platform there, by the processor itself or through QEMU."""
    name = f"{prefix}programs of {row.machine}"
    program = ARCH_TEST / str(row.debian_arch)
    if not program.is_file():
        fix = "apt-get install arch-test"
        return CheckResult(name=name, status=Status.WARNING, found=f"no {program}", fix=fix)
    try:
        runs = _probe(ctx, row, program)
    except PipelineError:  # the kernel refuses to start it, or it hangs
        runs = False
    return CheckResult(
        name=name,
        status=Status.OK if runs else Status.FAILED,
        found="run there" if runs else "do not run there",
        fix=f"On that machine: {REGISTER}",
    )


def _probe(ctx: Context, row: Platform, program: Path) -> bool:
    engine = ctx.for_platform(row.identifier).engine
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        image = _probe_image(engine, row, program, Path(temporary))
        step = ContainerStep(
            name=f"probe-{row.identifier}",
            image_id=image,
            command=("/probe/run",),
            directory="/",
            output="/probe",
            timeout=PROBE_TIMEOUT,
            silence=PROBE_TIMEOUT,
        )
        result = engine.run(step, output=Path(temporary, "out.tar"), on_line=lambda _line: None)
    return result.status == 0


def _probe_image(engine: Engine, row: Platform, program: Path, temporary: Path) -> str:
    archive = temporary / "probe.tar"
    entries = [
        Entry(path="Dockerfile", content=PROBE),
        Entry(path="probe", content=program, executable=True),
    ]
    write_archive(archive, entries, epoch=1)
    return engine.build(
        archive,
        tag=f"{PROBE_TAG}:{row.identifier}",
        arguments={},
        oci_platform=str(row.oci),
        on_line=lambda _line: None,
    )
