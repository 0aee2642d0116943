"""Whether an engine is fit for a job, found in seconds and before the hours of work.

Everything is asked of the engine that will do the work, which may be another machine's; only the
kernel's list of emulators is looked at here, since base images are bootstrapped here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.effects.context import Context
from pipeline.effects.engine import EngineInfo
from pipeline.errors import PreflightError
from pipeline.model.platforms import Platform
from pipeline.model.records import Environment
from pipeline.plan import Job

GIB: Final = 1 << 30
BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
REGISTER: Final = (
    "Install qemu-user-static and binfmt-support, mount binfmt_misc, run update-binfmts --import; "
    "or as root: python -m pipeline doctor --provision"
)
ANSWER: Final = 42
PROGRAM: Final = f"int main(void) {{ return {ANSWER}; }}"


def require_fit(ctx: Context, job: Job, *, translates: bool) -> None:
    """Refuse to begin *job* on an engine that cannot finish it; only translating takes memory.

    Raises:
        PreflightError: it has too little memory, or programs of the job's platforms do not run.
        EngineUnavailableError: it does not answer.
    """
    memory = job.interpreter.translation.memory * GIB if translates else 0
    problems = tuple(_problems(ctx.engine.info(), job, memory))
    if problems:
        msg = f"this cannot be done here: {' '.join(problems)}"
        raise PreflightError(msg)


def _problems(engine: EngineInfo, job: Job, memory: int) -> Iterator[str]:
    if engine.memory < memory:
        yield (
            f"translating {job.interpreter.interpreter} needs {memory // GIB} GiB of memory, the "
            f"engine has {engine.memory / GIB:.1f} GiB. Use a larger machine (--engine "
            f"{job.platform.identifier}=ssh://HOST), or give Docker's machine more memory."
        )
    if job.runs_emulated and not emulator_is_ready(job.platform):
        yield (
            f"programs of {job.platform.identifier} do not run here: the kernel's binfmt_misc has "
            f"no {job.platform.emulator} with flag F. {REGISTER}"
        )


def emulator_is_ready(platform: Platform) -> bool:
    """Whether this kernel runs programs of *platform* through QEMU, in containers too.

    With flag F the kernel keeps the emulator open, so containers need not have it.
    """
    return _is_ready(BINFMT / str(platform.emulator))


def ready_emulators() -> tuple[str, ...]:
    """Return the names of all of this kernel's emulators that work in containers too."""
    rules = sorted(BINFMT.glob("qemu-*")) if BINFMT.is_dir() else []
    return tuple(path.name for path in rules if _is_ready(path))


def _is_ready(rule: Path) -> bool:
    try:
        text = rule.read_text(encoding="ascii")
    except OSError:
        return False
    return text.startswith("enabled") and "F" in text.partition("flags: ")[2].split("\n")[0]


def require_runnable(ctx: Context, job: Job, environment: Environment) -> None:
    """Compile a program in a cross environment and run it, on the engine that will do the work.

    Raises:
        PreflightError: the engine's kernel cannot; an engine elsewhere needs an emulator too.
    """
    if not job.tool_prefix:
        return
    command = f"echo '{PROGRAM}' | {job.tool_prefix}gcc -x c -o /tmp/program - && /tmp/program"
    with ctx.engine.session(environment.image_id) as session:
        done = session.call(("sh", "-c", command))
    if done.status != ANSWER:
        msg = (
            f"programs of {job.platform.identifier} do not run in the engine's containers: "
            f"{done.last_lines}. On the engine's machine: {REGISTER}"
        )
        raise PreflightError(msg)
