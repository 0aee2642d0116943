"""What every kind of package has in common: a container that assembles a tree, and the tree."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, unpack
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep
from pipeline.errors import PackageError, StepSilentError, StepTimeoutError
from pipeline.model.records import Environment
from pipeline.plan import Job
from pipeline.translate.command import OUTPUT

LAST_LINES: Final = 40


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The tar files that a translation began and ended with; both unpack below ``/build``."""

    source: Path
    products: Path


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A tree ready to be packed: entries below its top directory, and what was built into it."""

    entries: tuple[Entry, ...]
    debug: tuple[Entry, ...] = ()
    modules: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A command that assembles a tree in a container without network; ``timeout`` in seconds."""

    command: tuple[str, ...]
    inputs: tuple[Path, ...]
    timeout: int
    environment: Mapping[str, str] = field(default_factory=dict)


def run_assembly(
    ctx: Context,
    job: Job,
    assembly: Assembly,
    environment: Environment,
    temporary: Path,
    stage: StageOutput,
) -> Path:
    """Run *assembly* and return the directory that it wrote, unpacked below *temporary*.

    The log is kept under ``logs/`` of the work directory, also when the command fails.

    Raises:
        PackageError: it failed.
        StepTimeoutError, StepSilentError: it was stopped.
    """
    stage.step.phase("assemble")
    log_path = assembly_log(ctx, job, stage)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    lines: deque[str] = deque(maxlen=LAST_LINES)
    with log_path.open("w", encoding="utf-8") as log:

        def keep(line: str) -> None:
            log.write(f"{line}\n")
            log.flush()
            lines.append(line)

        step = _container_step(job, assembly, environment, stage.key)
        try:
            result = ctx.engine.run(step, output=temporary / "out.tar", on_line=keep)
        except (StepTimeoutError, StepSilentError) as error:
            last = "\n".join(lines)
            msg = f"{error} The whole log is {log_path}; its last lines:\n{last}"
            raise type(error)(msg) from error
    if result.status != 0:
        last = "\n".join(lines)
        msg = f"exit status {result.status}; the whole log is {log_path}\n{last}"
        raise PackageError(msg)
    unpack(temporary / "out.tar", temporary)
    return temporary / Path(OUTPUT).name


def assembly_log(ctx: Context, job: Job, stage: StageOutput) -> Path:
    """Return where the log of a job's assembly is kept."""
    return ctx.work.path("logs", f"{job.identifier}-package-{stage.key[:12]}.log")


def _container_step(
    job: Job, assembly: Assembly, environment: Environment, key: str
) -> ContainerStep:
    return ContainerStep(
        name=f"package-{key[:16]}",
        image_id=environment.image_id,
        command=assembly.command,
        directory="/build",
        environment={
            "LC_ALL": "C.UTF-8",
            "SOURCE_DATE_EPOCH": str(job.revision.epoch),
            **assembly.environment,
        },
        inputs=assembly.inputs,
        output=OUTPUT,
        timeout=assembly.timeout,
        silence=assembly.timeout,
        limits="package",
    )
