"""Runs the translation in its environment and collects the executable."""

import shutil
import tempfile
from collections import deque
from pathlib import Path
from typing import IO, Final

from pipeline.effects.archives import unpack
from pipeline.effects.console import Step
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import sha256_of
from pipeline.errors import StepSilentError, StepTimeoutError, TranslationError
from pipeline.model.records import Environment, SourceTree, Translation
from pipeline.plan import Job
from pipeline.translate.command import (
    OUTPUT,
    PHASES,
    RESOURCES_FILE,
    SOURCE,
    parse_resources,
    phase_of,
    phase_times,
    translation_command,
    translation_environment,
    translation_options,
)

VERSION: Final = 1
SECCOMP_PROFILE: Final = "seccomp.json"
LOG_NAME: Final = "translation.log"
LAST_LINES: Final = 25


def translation_inputs(job: Job, source: SourceTree, environment: Environment) -> dict[str, object]:
    """Return everything that decides a translation's bytes; the number of make jobs does not."""
    translation = job.interpreter.translation
    return {
        "source": source.sha256,
        "environment": environment.digest,
        "platform": job.platform.identifier,
        "mode": job.mode,
        "options": translation_options(job),
        "target": [translation.rpython_target, *translation.target_options],
        "bootstrap": translation.bootstrap.argv,
        "variables": translation_environment(job),
        "executable": job.interpreter.package.executable,
    }


class LogFollower:
    """Writes the container's lines to a file, keeps the last ones, and shows the phase."""

    def __init__(self, file: IO[str], step: Step) -> None:
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._file = file
        self._step = step

    def __call__(self, line: str) -> None:
        """Take one line of the toolchain's log."""
        self._file.write(f"{line}\n")
        self._file.flush()
        self.last.append(line)
        if (phase := phase_of(line)) is not None:
            self._step.phase(phase, PHASES.index(phase), len(PHASES))


def translate(
    ctx: Context, job: Job, source_archive: Path, environment: Environment, stage: StageOutput
) -> Translation:
    """Translate *job* and leave its executable in the stage's directory.

    The log is kept under ``logs/`` of the work directory, also when the translation fails.

    Raises:
        TranslationError: the toolchain or the C compiler failed; its last lines are shown.
        StepTimeoutError, StepSilentError: it was stopped.
    """
    log_path = ctx.work.path("logs", f"{job.identifier}-{stage.key[:12]}.log")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = translation_command(job, ctx.engine.info().cpus)
    with (
        tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
        log_path.open("w", encoding="utf-8") as log,
    ):
        output = Path(temporary, "out.tar")
        follower = LogFollower(log, stage.step)
        step = _container_step(ctx, job, source_archive, environment, command, stage.key)
        try:
            result = ctx.engine.run(step, output=output, on_line=follower)
        except (StepTimeoutError, StepSilentError) as error:
            last = "\n".join(follower.last)
            msg = f"{error} The whole log is {log_path}; its last lines:\n{last}"
            raise type(error)(msg) from error
        if result.status != 0:
            last = "\n".join(follower.last)
            msg = f"exit status {result.status}; the whole log is {log_path}\n{last}"
            raise TranslationError(msg)
        unpack(output, Path(temporary))
        executable = _collect(job, Path(temporary, Path(OUTPUT).name), stage.directory)
        used = Path(temporary, Path(OUTPUT).name, RESOURCES_FILE)
        if not used.is_file() or used.is_symlink():
            msg = f"GNU time wrote no {OUTPUT}/{RESOURCES_FILE}; is it in the environment?"
            raise TranslationError(msg)
        resources = used.read_text(encoding="utf-8", errors="replace")
    text = log_path.read_text(encoding="utf-8")
    (stage.directory / LOG_NAME).write_text(text, encoding="utf-8")
    return Translation(
        executable=executable.name,
        sha256=sha256_of(executable),
        size=executable.stat().st_size,
        environment=environment.digest,
        command=command,
        phases=phase_times(text.splitlines()),
        resources=parse_resources(resources),
    )


def _container_step(
    ctx: Context,
    job: Job,
    source_archive: Path,
    environment: Environment,
    command: tuple[str, ...],
    key: str,
) -> ContainerStep:
    return ContainerStep(
        name=f"translate-{key[:16]}",
        image_id=environment.image_id,
        command=command,
        directory=SOURCE,
        environment=translation_environment(job),
        inputs=(source_archive,),
        output=OUTPUT,
        seccomp=_seccomp(ctx),
        timeout=job.interpreter.translation.timeout,
        silence=job.interpreter.translation.silence,
    )


def _collect(job: Job, collected: Path, directory: Path) -> Path:
    """Copy the executable to *directory* and return it there."""
    name = job.interpreter.package.executable
    made = collected / name
    if not made.is_file() or made.is_symlink():
        msg = f"the toolchain reported success, but wrote no {OUTPUT}/{name}."
        raise TranslationError(msg)
    executable = directory / name
    shutil.copyfile(made, executable)
    executable.chmod(0o755)
    return executable


def _seccomp(ctx: Context) -> str:
    return (ctx.root / "dockerfiles" / SECCOMP_PROFILE).read_text(encoding="utf-8")
