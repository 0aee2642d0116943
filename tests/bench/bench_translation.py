"""What a translation takes with this and that setting, and with upstream's own command.

``nox -s bench -- translation pypy3.11 --row upstream --row PYPY_GC_NURSERY=64MB``

A row is what would stand before ``rpython`` on a command line: variables and, if it is another
than the config's, the bootstrap interpreter with its options: ``PYPY_GC_NURSERY=64MB pypy --jit
loop_longevity=5000``. With ``upstream`` before it the toolchain is started as its documentation
says, without the pipeline's shim, fixed addresses and ccache, on a source tree that is in place.
Every row starts without a compiler cache, in a container of its own. Nothing here is an assertion.
"""

import argparse
import platform
import shlex
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console as RichConsole
from rich.table import Table

from pipeline.config import load_config
from pipeline.effects.archives import Entry, unpack, write_archive
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import WorkDirectory
from pipeline.effects.http import HttpClient
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import HttpView
from pipeline.environment import ready_environment
from pipeline.model.configs import ImageBootstrap
from pipeline.model.platforms import Worker
from pipeline.model.records import Environment, Phase, Resources
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Job, Selection, Workers
from pipeline.run import plan_for
from pipeline.source.runner import BUILDER
from pipeline.stages import Stage, make_job
from pipeline.translate.command import (
    INPUT,
    OUTPUT,
    RESOURCES_FILE,
    SHIM,
    bootstrap_command,
    measured_command,
    parse_resources,
    phase_times,
    translation_environment,
    translation_options,
    working_directory,
)
from pipeline.translate.runner import translate

ROOT = Path(__file__).parents[2]
UPSTREAM = "upstream"
GOALS = ("annotate", "rtype", "source", "compile")
PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin"
LAST_LINES = 25


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to translate: upstream's or the pipeline's, with these settings."""

    text: str
    upstream: bool
    bootstrap: ImageBootstrap

    @classmethod
    def parse(cls, text: str) -> "Row":
        """Read a row as it stands on the command line."""
        words = deque(shlex.split(text))
        upstream = bool(words) and words[0] == UPSTREAM
        if upstream:
            words.popleft()
        variables = {}
        while words and "=" in words[0]:
            name, _, value = words.popleft().partition("=")
            variables[name] = value
        argv = tuple(words) or ("pypy",)
        bootstrap = ImageBootstrap(kind="image", argv=argv, environment=variables)
        return cls(text=text, upstream=upstream, bootstrap=bootstrap)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a row took; ``whole`` has what is around the toolchain too (wall seconds)."""

    resources: Resources
    phases: tuple[Phase, ...]
    whole: float


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all rows have in common."""

    ctx: Context
    job: Job
    source: Path
    environment: Environment

    def run(self, row: Row) -> Taken:
        """Translate in the way of *row*."""
        with tempfile.TemporaryDirectory(dir=self.ctx.work.path("bench")) as directory:
            work = WorkDirectory(Path(directory))
            bench = replace(
                self,
                ctx=replace(self.ctx, work=work, engine=DockerEngine(work.identity())),
                job=changed(self.job, bootstrap=row.bootstrap),
            )
            return bench.upstream() if row.upstream else bench.pipeline()

    def pipeline(self) -> Taken:
        """Run the pipeline's own stage."""
        started = time.monotonic()
        with self.ctx.console.step(f"the pipeline in {self.ctx.work.root}") as step:
            place = self.ctx.work.path("stage")
            place.mkdir()
            stage = StageOutput(key="bench" * 4, directory=place, step=step)
            record = translate(self.ctx, self.job, self.source, self.environment, stage)
        whole = time.monotonic() - started
        return Taken(resources=record.resources, phases=record.phases, whole=whole)

    def upstream(self) -> Taken:
        """Run upstream's command."""
        lines: list[str] = []
        work = self.ctx.work.root
        script = work / "script.tar"
        path = ROOT / "dockerfiles" / "steps" / "run_translation.py"
        entry = Entry(path=f"{INPUT.removeprefix('/')}/{path.name}", content=path)
        write_archive(script, [entry], epoch=1, owner=BUILDER)
        step = ContainerStep(
            name="upstream",
            image_id=self.environment.image_id,
            command=upstream_command(self.job, self.ctx.engine.info().cpus),
            directory=working_directory(self.job),
            environment=upstream_environment(self.job),
            inputs=(self.source, script),
            output=OUTPUT,
            timeout=self.job.interpreter.translation.timeout,
            silence=self.job.interpreter.translation.silence,
        )
        result = self.ctx.engine.run(step, output=work / "out.tar", on_line=lines.append)
        if result.status != 0:
            raise SystemExit("\n".join(lines[-LAST_LINES:]))
        unpack(work / "out.tar", work / "unpacked")
        told = work / "unpacked" / Path(OUTPUT).name / RESOURCES_FILE
        resources = parse_resources(told.read_text())
        return Taken(resources=resources, phases=phase_times(lines), whole=resources.wall_seconds)


def upstream_command(job: Job, make_jobs: int) -> tuple[str, ...]:
    """Return how upstream starts the same translation, wrapped to be measured."""
    translation = job.interpreter.translation
    return (
        *measured_command(job, ()),
        *bootstrap_command(job),
        *("-m", "rpython"),
        *translation_options(job),
        f"--make-jobs={make_jobs}",
        translation.rpython_target,
        *translation.target_options,
    )


def upstream_environment(job: Job) -> dict[str, str]:
    """Return what the pipeline sets, without what it adds to a translation."""
    kept = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "PYPY_USESSION_DIR")
    variables = {name: translation_environment(job)[name] for name in kept}
    bootstrap = job.interpreter.translation.bootstrap.environment
    toolchain = translation_environment(job)["PYTHONPATH"].removeprefix(f"{SHIM}:")
    return {**bootstrap, **variables, "PATH": PLAIN_PATH, "PYTHONPATH": toolchain}


def changed(job: Job, **changes: object) -> Job:
    """Return *job* with changes in its config's table ``translation``."""
    translation = job.interpreter.translation.model_copy(update=changes)
    interpreter = job.interpreter.model_copy(update={"translation": translation})
    return job.model_copy(update={"interpreter": interpreter})


def up_to(job: Job, goal: str) -> Job:
    """Return *job* up to a goal of RPython, one before the C compiler, so without products."""
    return changed(job, extra_options=(f"--{goal}",), products=())


def bench_context(root: Path) -> Context:
    """Return a context as any run has it, with a work directory at *root*."""
    work = WorkDirectory(root)
    work.path("bench").mkdir(parents=True, exist_ok=True)
    return Context(
        root=ROOT,
        config=load_config(ROOT / "translation_configs"),
        work=work,
        engine=DockerEngine(work.identity()),
        process=ProcessRunner(),
        http=HttpClient(),
        public=HttpView(HttpClient()),
        console=Console(rich_console=RichConsole(stderr=True, force_terminal=False)),
        now=utc_now,
        releaser="bench",
    )


def prepared(arguments: argparse.Namespace) -> Bench:
    """Make the source and the environment as any run does; they stay in the work directory."""
    ctx = bench_context(arguments.work.absolute())
    work = ctx.work
    version = arguments.pypy_version
    selection = Selection(
        channel="release",
        interpreters=(arguments.interpreter,),
        version=InterpreterVersion.parse(version) if version else None,
    )
    with work.locked():
        (release,) = plan_for(
            ctx, selection, Workers(here=Worker(os="linux", machine=platform.machine()))
        ).releases
        (job,) = release.jobs
        outcome = make_job(ctx, job, Stage.SOURCE)
        environment = ready_environment(ctx, job.environment, job.placement)
    if arguments.goal != GOALS[-1]:
        job = up_to(job, arguments.goal)
    source = outcome.source.directory / outcome.source.record.archive
    return Bench(ctx=ctx, job=job, source=source, environment=environment)


def show(taken: dict[str, Taken], title: str) -> None:
    """Print a row for each way, in seconds and GB, with its parts of the first row."""
    table = Table(title=title)
    phases = [phase.name for phase in next(iter(taken.values())).phases]
    columns = ("row", "CPU", "of first", "wall", "whole", "of first", "peak GB", *phases)
    for column in columns:
        table.add_column(column, justify="left" if column == "row" else "right")
    first = next(iter(taken.values()))
    for text, row in taken.items():
        table.add_row(
            text or "(nothing)",
            f"{row.resources.cpu_seconds:.0f}",
            f"{row.resources.cpu_seconds / first.resources.cpu_seconds:.3f}",
            f"{row.resources.wall_seconds:.0f}",
            f"{row.whole:.0f}",
            f"{row.whole / first.whole:.3f}",
            f"{row.resources.peak_bytes / 1e9:.2f}",
            *(f"{phase.seconds:.0f}" for phase in row.phases),
        )
    RichConsole(width=200).print(table)


def main() -> None:
    """Translate in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interpreter")
    parser.add_argument("--pypy-version")
    parser.add_argument("--row", action="append", required=True, type=Row.parse)
    parser.add_argument("--goal", choices=GOALS, default=GOALS[-1])
    parser.add_argument("--beside", type=int, default=1, help="how many rows at the same time")
    parser.add_argument("--work", type=Path, default=ROOT / "out")
    arguments = parser.parse_args()
    bench = prepared(arguments)
    with ThreadPoolExecutor(arguments.beside) as pool:
        taken = dict(
            zip(
                [row.text for row in arguments.row],
                pool.map(bench.run, arguments.row),
                strict=True,
            )
        )
    show(taken, f"{bench.job.identifier}, to {arguments.goal}, {arguments.beside} at a time")


if __name__ == "__main__":
    main()
