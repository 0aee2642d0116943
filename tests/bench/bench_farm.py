"""Six interpreters for twelve platforms in one night: what a farm takes, by simulation.

``nox -s bench -- farm``: the recorded durations of one job each, put together by the farm's own
rule. Every figure that goes in is in DURATIONS with where it was recorded; what comes out is as
good as they are. Nothing here is an assertion.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from rich.console import Console as RichConsole

from pipeline.config import load_config
from pipeline.effects.console import Console
from pipeline.farm.simulation import (
    HOUR,
    SIGNER,
    Durations,
    Night,
    Outcome,
    TaskKind,
    WorkerPool,
    hourly_losses,
    lower_bounds,
    night_tasks,
    simulate,
    worker_names,
    workers_needed,
)
from pipeline.model.farm import FarmWorker, Role

CONFIGS: Final = Path(__file__).parents[2] / "translation_configs"
INTERPRETERS: Final = tuple(f"interpreter-{number}" for number in range(1, 7))
EMULATED: Final = 14  # times native: ADR 11

# Packaging and verifying pypy3.12 natively (755, 350 s) and pypy3.11 for aarch64 under QEMU (749,
# 1325 s), both beside other work; publication with all indexes of the real PyPy, 6 s.
FINISHING: Final = {
    "prepare": 13,
    "package": 755,
    "verify": 350,
    "package_emulated": 749,
    "verify_emulated": 1325,
    "publish": 6,
}
DURATIONS: Final = {
    # ADR 11: two translations at a time on two cores.
    "shared": Durations(native=2550, cross=2636, emulated=2550 * EMULATED, **FINISHING),
    # ADR 10's row of the pipeline, alone on two cores; cross 1.05 of it, between 1.03 and 1.07.
    "alone": Durations(native=1133, cross=1133 * 1.05, emulated=1133 * EMULATED, **FINISHING),
}
MEMORY: Final = 6  # GiB of one translation, as pypy3.11.toml has it


def pools(signer_builds: int, *, s390x: bool, arm64: bool) -> tuple[WorkerPool, ...]:
    """Return one worker of each kind that the twelve platforms need."""
    rows = [
        WorkerPool(
            name=SIGNER, worker=FarmWorker(memory=16, builds=signer_builds, role=Role.SIGNER)
        ),
        WorkerPool(name="linux", worker=FarmWorker(memory=16, builds=2)),
        WorkerPool(name="macos-intel", worker=FarmWorker(os="darwin", memory=8)),
        WorkerPool(name="macos-arm", worker=FarmWorker(os="darwin", machine="arm64", memory=8)),
        WorkerPool(name="windows", worker=FarmWorker(os="windows", machine="AMD64", memory=8)),
    ]
    if s390x:
        rows.append(WorkerPool(name="s390x", worker=FarmWorker(machine="s390x", memory=8)))
    if arm64:
        worker = FarmWorker(machine="aarch64", memory=16, builds=2)
        rows.append(WorkerPool(name="linux-arm", worker=worker))
    return tuple(rows)


def hours(seconds: float) -> str:
    """Return *seconds* as hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d}"


def counts(farm: Sequence[WorkerPool]) -> str:
    """Return how many workers of each kind there are."""
    return ", ".join(f"{pool.count} {pool.name}" for pool in farm if pool.name != SIGNER)


def scenarios() -> Iterator[tuple[str, bool, tuple[WorkerPool, ...]]]:
    """Give ways to set a farm up: its name, whether workers package and verify, its workers."""
    signers = "signer packages and verifies, {} at a time"
    for builds in (1, 3, 6):
        yield signers.format(builds), False, pools(builds, s390x=False, arm64=False)
    yield "6 at a time, with an s390x worker", False, pools(6, s390x=True, arm64=False)
    yield (
        "workers package and verify; s390x and arm workers",
        True,
        pools(1, s390x=True, arm64=True),
    )


def show_needs(console: Console, night: Night, limits: Sequence[float]) -> None:
    """Show for each way and length of a night the workers that it takes."""
    rows = []
    for title, by_workers, farm in scenarios():
        its = night.model_copy(update={"by_workers": by_workers})
        for limit in limits:
            needed = workers_needed(its, farm, limit * HOUR)
            if needed is None:
                rows.append((title, f"{limit:g} h", "no number of workers", "", "", "", ""))
                continue
            tasks = night_tasks(its, needed)
            outcome, bounds = simulate(tasks, needed), lower_bounds(tasks, needed)
            signer = bounds.capacity[f"{TaskKind.COLLECT} on {SIGNER}"]
            rows.append(
                (
                    title,
                    f"{limit:g} h",
                    counts(needed),
                    hours(outcome.makespan),
                    f"{hours(bounds.critical_path)} / {hours(signer)} / {hours(bounds.strongest)}",
                    f"{outcome.makespan / bounds.strongest:.2f}",
                    used(outcome, needed),
                )
            )
    columns = (
        "way",
        "night",
        "workers",
        "makespan",
        "bounds: path / signer / strongest",
        "ratio",
        "in use",
    )
    console.table("Workers needed", columns, rows)


def used(outcome: Outcome, farm: Sequence[WorkerPool]) -> str:
    """Return which part of the time each pool works."""
    return ", ".join(f"{pool.name} {outcome.utilisation(pool):.0%}" for pool in farm)


def show_losses(console: Console, night: Night, farm: Sequence[WorkerPool], away: float) -> None:
    """Show what one worker lost in each hour costs, on average over which is the first."""
    tasks = night_tasks(night, farm)
    without = simulate(tasks, farm).makespan
    starts = sum(len(worker_names(pool)) for pool in farm if pool.name != SIGNER)
    rows = [("none", hours(without), hours(without), "", "", "1")]
    for title, rejoined in (("repeated", False), ("found again", True)):
        outcomes = [
            simulate(
                tasks,
                farm,
                hourly_losses(farm, first=first, hours=200, away=away, rejoined=rejoined),
            )
            for first in range(starts)
        ]
        spans = [outcome.makespan for outcome in outcomes]
        rows.append(
            (
                title,
                hours(fmean(spans)),
                hours(max(spans)),
                f"+{fmean(spans) / without - 1:.1%}",
                hours(fmean(outcome.repeated for outcome in outcomes)),
                str(max(run.attempts for outcome in outcomes for run in outcome.runs)),
            )
        )
    columns = ("its work is", "mean makespan", "worst", "mean cost", "work lost", "most attempts")
    console.table(f"One lost each hour, for {away:g} s", columns, rows)


def main() -> None:
    """Simulate and show tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--durations", choices=DURATIONS, default="shared")
    parser.add_argument("--night", type=float, action="append", help="hours; default: 8, 12, 24")
    parser.add_argument("--away", type=float, default=300, help="seconds; default: %(default)s")
    arguments = parser.parse_args()
    console = Console(rich_console=RichConsole(highlight=False, soft_wrap=True))
    platforms = load_config(CONFIGS).platforms
    night = Night(
        interpreters=INTERPRETERS,
        platforms=dict(platforms),
        durations=DURATIONS[arguments.durations],
        memory=MEMORY,
    )
    console.line(
        f"{len(INTERPRETERS)} interpreters x {len(platforms)} platforms, "
        f"translations {arguments.durations}"
    )
    limits = arguments.night or [8, 12, 24]
    show_needs(console, night, limits)
    for title, by_workers, farm in list(scenarios())[-2:]:
        its = night.model_copy(update={"by_workers": by_workers})
        needed = workers_needed(its, farm, limits[-1] * HOUR)
        if needed is not None:
            console.line(f"\n{title}, enough for {limits[-1]:g} h: {counts(needed)}")
            show_losses(console, its, needed, arguments.away)


if __name__ == "__main__":
    main()
