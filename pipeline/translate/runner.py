"""Runs the translation in its environment and collects the executable."""

import tempfile
from collections import deque
from pathlib import Path
from typing import IO, Final

from pipeline.effects.archives import Entry, entries_of, unpack, write_archive
from pipeline.effects.console import Step
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import sha256_of
from pipeline.errors import StepSilentError, StepTimeoutError, TranslationError
from pipeline.model.records import Environment, SourceTree, Translation
from pipeline.plan import Job
from pipeline.source.runner import BUILDER
from pipeline.translate.bootstrap import bootstrap_archives
from pipeline.translate.command import (
    CCACHE_STATISTICS,
    COMPILER,
    COMPILERS,
    INPUT,
    OUTPUT,
    PHASES,
    PRODUCTS,
    RESOURCES_FILE,
    SOURCE,
    make_variables,
    parse_ccache,
    parse_resources,
    phase_of,
    phase_times,
    translation_command,
    translation_environment,
    translation_options,
    working_directory,
)
from pipeline.translate.compiler_cache import compiler_cache_archive, keep_compiler_cache

VERSION: Final = 3
SECCOMP_PROFILE: Final = "seccomp.json"
SCRIPT: Final = "steps/run_translation.py"
COMPILE_SCRIPT: Final = "steps/compile.sh"
LOG_NAME: Final = "translation.log"
PRODUCTS_NAME: Final = "products.tar"
LAST_LINES: Final = 25


def translation_inputs(
    ctx: Context, job: Job, source: SourceTree, environment: Environment
) -> dict[str, object]:
    """Return everything that decides a translation's bytes; the number of make jobs does not."""
    translation = job.interpreter.translation
    return {
        "source": source.sha256,
        "scripts": [sha256_of(_file(ctx, name)) for name in (SCRIPT, COMPILE_SCRIPT)],
        "environment": environment.digest,
        "platform": job.platform.identifier,
        "mode": job.mode,
        "host": job.host.identifier,
        "options": translation_options(job),
        "target": [
            translation.directory,
            translation.rpython_target,
            *translation.target_options,
        ],
        "bootstrap": [job.bootstrap_config, job.bootstrap],
        "variables": translation_environment(job),
        "products": translation.products,
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
    """Translate *job* and leave its products in the stage's directory.

    The log is kept under ``logs/`` of the work directory, also when the translation fails.

    Raises:
        TranslationError: the toolchain or the C compiler failed; its last lines are shown.
        StepTimeoutError, StepSilentError: it was stopped.
    """
    log_path = ctx.work.path("logs", f"{job.identifier}-{stage.key[:12]}.log")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = translation_command(job)
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        inputs = (
            source_archive,
            _script_archive(ctx, job, Path(temporary)),
            compiler_cache_archive(ctx, job, Path(temporary)),
            *bootstrap_archives(ctx, job, Path(temporary)),
        )
        step = _container_step(ctx, job, inputs, environment, command, stage.key)
        _run(ctx, step, Path(temporary), log_path, stage.step)
        output = Path(temporary, Path(OUTPUT).name)
        keep_compiler_cache(ctx, job, output)
        stage.step.phase("pack the products")
        products = _pack_products(job, output, stage.directory)
        resources = parse_resources(_told(output, RESOURCES_FILE))
        compiler_cache = parse_ccache(_told(output, CCACHE_STATISTICS))
    text = log_path.read_text(encoding="utf-8")
    (stage.directory / LOG_NAME).write_text(text, encoding="utf-8")
    archive = stage.directory / PRODUCTS_NAME
    return Translation(
        archive=archive.name,
        sha256=sha256_of(archive),
        size=archive.stat().st_size,
        products=products,
        environment=environment.digest,
        command=command,
        phases=phase_times(text.splitlines()),
        resources=resources,
        compiler_cache=compiler_cache,
    )


def _run(ctx: Context, step: ContainerStep, temporary: Path, log_path: Path, shown: Step) -> None:
    """Run *step*, its lines in the log, and unpack what it wrote into *temporary*."""
    with log_path.open("w", encoding="utf-8") as log:
        follower = LogFollower(log, shown)
        try:
            result = ctx.engine.run(step, output=temporary / "out.tar", on_line=follower)
        except (StepTimeoutError, StepSilentError) as error:
            last = "\n".join(follower.last)
            msg = f"{error} The whole log is {log_path}; its last lines:\n{last}"
            raise type(error)(msg) from error
    if result.status != 0:
        last = "\n".join(follower.last)
        msg = f"exit status {result.status}; the whole log is {log_path}\n{last}"
        raise TranslationError(msg)
    unpack(temporary / "out.tar", temporary)


def _container_step(
    ctx: Context,
    job: Job,
    inputs: tuple[Path, ...],
    environment: Environment,
    command: tuple[str, ...],
    key: str,
) -> ContainerStep:
    return ContainerStep(
        name=f"translate-{key[:16]}",
        image_id=environment.image_id,
        command=command,
        directory=working_directory(job),
        environment={**translation_environment(job), **make_variables(ctx.engine.info().cpus)},
        inputs=inputs,
        output=OUTPUT,
        seccomp=_seccomp(ctx),
        timeout=job.interpreter.translation.timeout * job.time_factor,
        silence=job.interpreter.translation.silence * job.time_factor,
    )


def _script_archive(ctx: Context, job: Job, temporary: Path) -> Path:
    """Return a tar file with the script that runs the translation, and that which compiles."""
    archive = temporary / "script.tar"
    places = {
        f"{INPUT}/{Path(SCRIPT).name}": SCRIPT,
        f"{COMPILERS}/{job.tool_prefix}{COMPILER}": COMPILE_SCRIPT,
    }
    entries = [
        Entry(path=place.removeprefix("/"), content=_file(ctx, name), executable=True)
        for place, name in places.items()
    ]
    write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
    return archive


def _file(ctx: Context, name: str) -> Path:
    return ctx.root / "dockerfiles" / name


def _pack_products(job: Job, output: Path, directory: Path) -> dict[str, str]:
    """Pack the products to equal bytes and return their digests, by path in the source tree."""
    products = output / PRODUCTS
    for name in job.interpreter.translation.products:
        made = products / name
        if made.is_symlink() or not made.exists():
            msg = f"the toolchain reported success, but wrote no {name} in its source tree."
            raise TranslationError(msg)
    place = SOURCE.removeprefix("/")
    entries = entries_of(products, place)
    archive = directory / PRODUCTS_NAME
    write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
    return {
        entry.path.removeprefix(f"{place}/"): sha256_of(entry.content)
        for entry in entries
        if isinstance(entry.content, Path)
    }


def _told(output: Path, name: str) -> str:
    path = output / name
    if not path.is_file() or path.is_symlink():
        msg = f"the step wrote no {OUTPUT}/{name}, though it reported success."
        raise TranslationError(msg)
    return path.read_text(encoding="utf-8", errors="replace")


def _seccomp(ctx: Context) -> str:
    return (ctx.root / "dockerfiles" / SECCOMP_PROFILE).read_text(encoding="utf-8")
