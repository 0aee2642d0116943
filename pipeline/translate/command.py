"""The command that translates a job, and what its output means. Pure."""

import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import Field, ValidationError

from pipeline.errors import TranslationError
from pipeline.model.base import Model
from pipeline.model.configs import ImageBootstrap, ReleaseBootstrap
from pipeline.model.platforms import LINUX, Mode
from pipeline.model.records import CompilerCache, Phase, Resources
from pipeline.plan import Job

SOURCE: Final = "/build/source"
TOOLCHAIN: Final = "/build/toolchain"
SHIM: Final = "/build/shim"
OUTPUT: Final = "/build/out"
INPUT: Final = "/build/in"
TEMPORARY: Final = "/build/tmp"
BOOTSTRAP: Final = "/build/bootstrap"
NO_SYSROOT: Final = "/nonexistent"
RESOURCES_FILE: Final = "resources.json"
PRODUCTS: Final = "products"
CCACHE_STATISTICS: Final = "ccache-statistics"
# The compilers' names lead to ccache first, so nothing that records a compiler sees another name.
SEARCH_PATH: Final = "/usr/lib/ccache:/usr/local/bin:/usr/bin:/bin"
COMPILERS: Final = f"{INPUT}/compilers"
COMPILER: Final = "gcc"

FIXED_VARIABLES: Final = {
    "CCACHE_COMPILERCHECK": "content",
    "CCACHE_DIR": f"{OUTPUT}/ccache",
    # A translation of PyPy leaves 1600 files and 25 MB; archives with too many files are refused.
    "CCACHE_MAXFILES": "50000",
    "CCACHE_MAXSIZE": "1G",
    "HOME": TEMPORARY,
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": "builder",
    "PATH": SEARCH_PATH,
    "PYPY_USESSION_DIR": TEMPORARY,
    "PYTHONDONTWRITEBYTECODE": "1",
    "TMPDIR": TEMPORARY,
    "TZ": "UTC",
    "USER": "builder",
}
"""What every step that compiles is told: the same user, places, language and zone everywhere."""

PHASES: Final = (
    "annotate",
    "rtype_lltype",
    "pyjitpl_lltype",
    "backendopt_lltype",
    "stackcheckinsertion_lltype",
    "database_c",
    "source_c",
    "compile_c",
)
"""RPython's goals in their order; ``pyjitpl_lltype`` only with a JIT."""

_STARTING: Final = re.compile(r"starting (\w+)")
_TIMER: Final = re.compile(r"\[Timer\] (\w+) +--- +(\d+\.\d) s")


def translation_options(job: Job) -> tuple[str, ...]:
    """Return the RPython options that decide the binary.

    ``--jit`` is not an RPython switch (it abbreviates ``--jit-backend``), so the JIT is requested
    through the optimisation level.
    """
    translation = job.interpreter.translation
    return (
        "--batch",
        f"--gc={translation.gc}",
        f"--opt={'jit' if job.jit else '2'}",
        *cross_options(job),
        *translation.extra_options,
        *([f"--output={translation.output}"] if translation.output is not None else []),
    )


def cross_options(job: Job) -> tuple[str, ...]:
    """Return the RPython options that make it compile for another platform than its own.

    RPython knows the host and one other platform, called arm, whose programs it runs through
    ``sb2``: in the environment that only runs its arguments, which the kernel gives to QEMU. That
    platform suggests the backend of 32-bit ARM, so it is told to ask the compiler.
    """
    if job.mode is not Mode.CROSS:
        return ()
    options = ("--platform=arm", f"--cc={job.tool_prefix}gcc")
    backend = ("--jit-backend=auto",) if job.jit else ()
    return (*options, *backend, "--gcrootfinder=shadowstack")


def translation_command(job: Job) -> tuple[str, ...]:
    """Return the argv that translates *job* and collects its products.

    Address-space randomisation is off for the bootstrap interpreter: with it the order of some
    of its tables, and so the generated C, differs from run to run. The number of make jobs is not
    given to RPython, since PyPy keeps all options in ``sys.pypy_translation_info``.
    """
    translation = job.interpreter.translation
    return (
        *measured_command(job, translation.products),
        *fixed_addresses(job),
        *bootstrap_command(job),
        "-m",
        "rpython",
        *translation_options(job),
        "--make-jobs=1",
        translation.rpython_target,
        *translation.target_options,
    )


def measured_command(job: Job, products: tuple[str, ...]) -> tuple[str, ...]:
    """Return what stands before a command that makes *products*, so that it is measured.

    The bootstrap interpreter runs that too; with ``-E`` it does without the shim.
    """
    program = bootstrap_command(job)[0]
    return (program, "-E", f"{INPUT}/run_translation.py", SOURCE, OUTPUT, *products, "--")


def fixed_addresses(job: Job) -> tuple[str, ...]:
    """Return what stands before a command that is to find its memory at the same addresses."""
    if job.host.os != LINUX:
        return ()
    return ("setarch", job.host.machine, "--addr-no-randomize")


def bootstrap_command(job: Job) -> tuple[str, ...]:
    """Return the argv of the Python 2.7 that runs the toolchain."""
    match job.bootstrap_config:
        case ImageBootstrap(argv=argv):
            return argv
        case ReleaseBootstrap(options=options):
            if job.bootstrap is None:
                msg = f"{job.identifier}: its bootstrap interpreter was not resolved"
                raise ValueError(msg)
            return (f"{BOOTSTRAP}/bin/{job.bootstrap.executable}", *options)


def working_directory(job: Job) -> str:
    """Return the directory in which the toolchain is run."""
    directory = job.interpreter.translation.directory
    return SOURCE if directory is None else f"{SOURCE}/{directory}"


def make_variables(make_jobs: int) -> dict[str, str]:
    """Return the variables that let make run so many compilers; no byte depends on them."""
    return {"MAKEFLAGS": f"-j{make_jobs}"}


def translation_environment(job: Job) -> dict[str, str]:
    """Return the variables that are part of what decides the binary, all of them fixed."""
    toolchain = TOOLCHAIN if job.interpreter.source.toolchain else SOURCE
    # RPython asks the host's compiler for the part of module names that PYPY_MULTIARCH is.
    cross = {
        "PYPY_MULTIARCH": job.platform.multiarch,
        # Below it RPython names glibc's directories to the linker, before the compiler's own.
        "SB2": "/" if job.platform.libc == "glibc" else NO_SYSROOT,
        "TRANSLATION_MACHINE": job.platform.machine,
    }
    return {
        **job.bootstrap_config.environment,
        **FIXED_VARIABLES,
        **(cross if job.mode is Mode.CROSS else {}),
        **({"CFLAGS": " ".join(job.platform.cflags)} if job.platform.cflags else {}),
        "PATH": f"{COMPILERS}:{SEARCH_PATH}",
        "PYPY_USESSION_BASENAME": "translation",
        "PYTHONPATH": f"{SHIM}:{toolchain}",
        "SOURCE_DATE_EPOCH": str(job.revision.epoch),
    }


def phase_of(line: str) -> str | None:
    """Return the phase that begins with this line of the toolchain's log, or None."""
    found = _STARTING.fullmatch(line.strip())
    return found[1] if found and found[1] in PHASES else None


def phase_times(log: Iterable[str]) -> tuple[Phase, ...]:
    """Return the phases and their seconds from the table at the end of the toolchain's log."""
    found = (_TIMER.fullmatch(line.strip()) for line in log)
    return tuple(Phase(name=match[1], seconds=float(match[2])) for match in found if match)


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Measured(Model):
    """What ``run_translation.py`` writes: seconds, the peak in KiB, the container's CPU time."""

    wall: Amount
    user: Amount
    system: Amount
    peak: Annotated[int, Field(ge=0)]
    group_nanoseconds: Annotated[int, Field(ge=0)] | None


def parse_resources(text: str) -> Resources:
    """Read what ``run_translation.py`` measured.

    Processes that are never waited for, and RPython's compilers are such, are in the time of the
    container's control group alone; where there is none, that of the others stands in.

    Raises:
        TranslationError: it has another form.
    """
    try:
        told = _Measured.model_validate_json(text)
    except ValidationError as error:
        msg = f"{RESOURCES_FILE}: not what run_translation.py writes: {text[:200]!r}"
        raise TranslationError(msg) from error
    group = (told.group_nanoseconds or 0) / 1e9
    return Resources(
        wall_seconds=told.wall,
        cpu_seconds=round(max(group, told.user + told.system), 2),
        peak_bytes=told.peak * 1024,
    )


def parse_ccache(text: str) -> CompilerCache:
    """Read the lines ``name<tab>number`` of ``ccache --print-stats``, none if there is no ccache.

    Raises:
        TranslationError: they are others.
    """
    if not text.strip():
        return CompilerCache(hits=0, misses=0)
    found = dict(line.split("\t")[:2] for line in text.splitlines() if "\t" in line)
    try:
        hits = int(found["direct_cache_hit"]) + int(found["preprocessed_cache_hit"])
        return CompilerCache(hits=hits, misses=int(found["cache_miss"]))
    except (KeyError, ValueError) as error:
        msg = f"{CCACHE_STATISTICS}: not what ccache prints: {text[:200]!r}"
        raise TranslationError(msg) from error
