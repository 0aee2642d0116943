"""One target translated for one platform in two modes: what each takes, and whether they agree.

``nox -s bench -- modes demo linux-aarch64``: mode cross against mode emulated, one after the other,
with the generated C of both compared file by file and every smoke test of the config run with both
programs, under QEMU. Nothing here is an assertion.
"""

import argparse
import difflib
import platform
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.table import Table

from pipeline.effects.archives import Entry, entries_of, unpack, write_archive
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep, Engine, OnLine, StepResult
from pipeline.effects.process import Completed
from pipeline.environment import ready_environment
from pipeline.model.platforms import Mode, Placement, Worker
from pipeline.model.records import Phase, Resources
from pipeline.plan import Job, Selection, Workers
from pipeline.run import plan_for
from pipeline.source.runner import BUILDER
from pipeline.stages import Stage, make_job
from pipeline.translate.command import OUTPUT, PRODUCTS
from pipeline.translate.runner import translate
from tests.bench.bench_translation import ROOT, bench_context

MODES = (Mode.CROSS, Mode.EMULATED)
GENERATED = "generated"
PLACE = "/tmp/bench"
SHOWN = 10
CONSOLE = RichConsole(width=200, markup=False, highlight=False)


@dataclass(frozen=True, kw_only=True)
class KeepingEngine:
    """An engine whose translations leave the generated C beside their products."""

    engine: Engine
    kept: Path

    def __getattr__(self, name: str) -> Any:
        """Everything else is the engine's."""
        return getattr(self.engine, name)

    def run(self, step: ContainerStep, *, output: Path, on_line: OnLine) -> StepResult:
        """Run *step* with RPython's session directory in its output, and keep that."""
        # RPython leaves a link to the directory by its absolute name.
        place = f"{OUTPUT}/{GENERATED}"
        variables = {**step.environment, "PYPY_USESSION_DIR": place}
        script = f'mkdir {place} && "$@" && find {place} -type l -delete'
        make = ("sh", "-c", script, "sh", *step.command)
        changed = replace(step, environment=variables, command=make)
        result = self.engine.run(changed, output=output, on_line=on_line)
        if result.status == 0:
            unpack(output, self.kept)
        return result


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a mode made, below ``directory``, and what it took."""

    job: Job
    directory: Path
    resources: Resources
    phases: tuple[Phase, ...]

    def generated(self) -> dict[str, str]:
        """Return the generated C and headers, by path."""
        root = self.directory / Path(OUTPUT).name / GENERATED
        return {
            str(path.relative_to(root)): path.read_text(encoding="latin-1")
            for path in sorted(root.rglob("*"))
            if path.suffix in {".c", ".h"} and path.is_file()
        }

    @property
    def products(self) -> Path:
        """Where the program is, as in the source tree."""
        return self.directory / Path(OUTPUT).name / PRODUCTS


def made(ctx: Context, arguments: argparse.Namespace, mode: Mode, directory: Path) -> Made:
    """Translate in *mode*, from nothing but the source and the environment."""
    selection = Selection(
        channel="release",
        interpreters=(arguments.interpreter,),
        platforms=(arguments.platform,),
        mode=mode,
    )
    workers = Workers(here=Worker(os="linux", machine=platform.machine()))
    ((job,),) = (release.jobs for release in plan_for(ctx, selection, workers).releases)
    source = make_job(ctx, job, Stage.SOURCE).source
    environment = ready_environment(ctx, job.environment, job.placement)
    with ctx.console.step(f"translate in mode {mode}") as step:
        place = directory / "stage"
        place.mkdir(parents=True)
        engine = KeepingEngine(engine=ctx.engine, kept=directory)
        stage = StageOutput(key=f"bench{mode}" * 4, directory=place, step=step)
        archive = source.directory / source.record.archive
        keeping = replace(ctx, engine=engine)
        record = translate(keeping, job, archive, environment, stage)
    return Made(job=job, directory=directory, resources=record.resources, phases=record.phases)


def behaviour(ctx: Context, program: Made) -> dict[str, Completed]:
    """Run every smoke test of the config in the platform's first clean environment."""
    job = program.job
    verify = job.interpreter.verify
    environment = ready_environment(ctx, job.verified_in[0], Placement(host=job.platform))
    name = job.interpreter.translation.products[0]
    archive = program.directory / "program.tar"
    entries = [
        Entry(path=f"root/bin/{Path(name).name}", content=program.products / name, executable=True),
        *entries_of(Path(ctx.config.root) / verify.test_files, "tests"),
        Entry(path="scratch", directory=True),
    ]
    write_archive(archive, entries, epoch=job.revision.epoch, owner=BUILDER)
    with ctx.engine.session(environment.image_id) as session:
        session.call(("mkdir", PLACE))
        session.copy_into(archive, PLACE)
        return {
            test.name: session.call(
                tuple(placed(word) for word in test.argv),
                timeout=test.timeout * job.run_factor,
                directory=f"{PLACE}/scratch",
            )
            for test in verify.smoke
        }


def placed(word: str) -> str:
    """Return a word of a smoke test with its places filled in."""
    for name in ("root", "tests", "scratch"):
        word = word.replace(f"{{{name}}}", f"{PLACE}/{name}")
    return word


def show_times(results: list[Made]) -> None:
    """Print what each mode took."""
    table = Table(title=f"{results[0].job.identifier}, seconds")
    names = [phase.name for phase in results[0].phases]
    for column in ("mode", "wall", "of first", "CPU", "peak GB", *names):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for row in results:
        table.add_row(
            row.job.mode,
            f"{row.resources.wall_seconds:.0f}",
            f"{row.resources.wall_seconds / results[0].resources.wall_seconds:.1f}",
            f"{row.resources.cpu_seconds:.0f}",
            f"{row.resources.peak_bytes / 1e9:.2f}",
            *(f"{phase.seconds:.0f}" for phase in row.phases),
        )
    CONSOLE.print(table)


def show_generated(first: dict[str, str], second: dict[str, str]) -> None:
    """Print which generated files differ, and the first lines that do."""
    both = first.keys() & second.keys()
    different = sorted(name for name in both if first[name] != second[name])
    CONSOLE.print(f"generated: {len(both)} files in both, {len(different)} differ")
    for name in sorted(first.keys() ^ second.keys()):
        CONSOLE.print(f"  in one only: {name}")
    for name in different:
        lines = [
            line
            for line in difflib.unified_diff(
                first[name].splitlines(), second[name].splitlines(), lineterm="", n=0
            )
            if not line.startswith(("---", "+++", "@@"))
        ]
        CONSOLE.print(f"  {name}: {len(lines)} lines")
        for line in lines[:SHOWN]:
            CONSOLE.print(f"    {line[:160]}")


def show_behaviour(first: dict[str, Completed], second: dict[str, Completed]) -> None:
    """Print which smoke tests end in another way."""
    different = [name for name in first if first[name] != second[name]]
    CONSOLE.print(f"programs: {len(first)} smoke tests, {len(different)} end differently")
    for name in different:
        CONSOLE.print(f"  {name}: {first[name]}\n  {' ' * len(name)}  {second[name]}")


def main() -> None:
    """Translate in both modes and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interpreter")
    parser.add_argument("platform")
    parser.add_argument("--work", type=Path, default=ROOT / "out")
    arguments = parser.parse_args()
    ctx = bench_context(arguments.work.absolute())
    with tempfile.TemporaryDirectory(dir=ctx.work.path("bench")) as directory, ctx.work.locked():
        results = [made(ctx, arguments, mode, Path(directory, mode)) for mode in MODES]
        show_times(results)
        show_generated(*(row.generated() for row in results))
        show_behaviour(*(behaviour(ctx, row) for row in results))


if __name__ == "__main__":
    main()
