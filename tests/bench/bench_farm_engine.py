"""What the farm itself costs: many trivial jobs on six workers, and what it takes when idle.

``nox -s bench -- farm_engine [--runs N] [--database URL]``: a real master and workers; a small
program stands for the pipeline, so that nothing but the farm takes time. Figures, no assertion.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from pipeline.config import load_config
from pipeline.effects.console import Console
from pipeline.model.farm import PreparedJob
from pipeline.model.platforms import Mode
from tests.integration.farm_master import Farm, job, make_database, make_farm

WORKERS: Final = ("one", "two", "three", "four", "five", "six")
TABLE: Final = "[workers.{}]\nmemory = 4\ndisk = 1\nbuilds = 2\n"
PATIENCE: Final = 3600.0
IDLE: Final = 60


def jobs(farm: Farm) -> list[PreparedJob]:
    """Return one job for every platform of the demo that a worker here could do."""
    config = load_config(farm.base / "project" / "translation_configs")
    rows = (config.platforms[name] for name in config.interpreters["demo"].platforms)
    modes = {row.identifier: set(row.modes) for row in rows}
    return [
        job(name, mode=Mode.CROSS if Mode.CROSS in able and name != "linux-x86_64" else Mode.NATIVE)
        for name, able in modes.items()
        if "s390x" not in name
    ]


def ready_farm(base: Path, database: str | None) -> Farm:
    """Return a farm with six workers that has started."""
    farm = make_farm(base, {"database": database} if database else None)
    for name in WORKERS[2:]:
        path = base / "secrets" / f"worker-{name}"
        path.write_text((base / "secrets" / "worker-one").read_text())
        path.chmod(0o600)
    farm.configure(more="".join(TABLE.format(name) for name in WORKERS[2:]))
    make_database(farm)
    farm.start()
    for name in ("signer", *WORKERS):
        farm.worker(name)
    farm.connected("signer", *WORKERS)
    return farm


def used(processes: list[psutil.Process]) -> tuple[float, float]:
    """Return the resident MB of processes, and the CPU seconds that they have had."""
    memory = sum(process.memory_info().rss for process in processes) / 1e6
    times = [process.cpu_times() for process in processes]
    return memory, sum(taken.user + taken.system for taken in times)


def main() -> None:
    """Measure, and show a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=63, help="of eight jobs each (default: 63)")
    parser.add_argument("--database", help="instead of sqlite in a file")
    parser.add_argument("--idle", type=int, default=IDLE, help="seconds to look at it idle")
    arguments = parser.parse_args()
    console, rows = Console(), []
    with tempfile.TemporaryDirectory(prefix="rpp-farm-") as directory:
        began = time.monotonic()
        farm = ready_farm(Path(directory), arguments.database)
        rows.append(("master and seven workers ready", f"{time.monotonic() - began:.1f} s"))
        try:
            rows += measured(farm, arguments.runs, arguments.idle)
        finally:
            farm.close()
    console.table("The farm itself", ("what", "figure"), rows)
    console.line(f"load of this machine at the end: {os.getloadavg()}")


def measured(farm: Farm, runs: int, idle: int) -> list[tuple[str, str]]:
    """Return the figures of one farm."""
    master = psutil.Process(farm.master.pid)
    worker = psutil.Process(farm.processes["one"].pid)
    before = used([master])[1], used([worker])[1]
    time.sleep(idle)
    memory, after = zip(used([master]), used([worker]), strict=True)
    rows = [
        (f"idle {who}", f"{mb:.0f} MB, {60 * (now - then) / idle:.2f} CPU s a minute")
        for who, mb, now, then in zip(("master", "worker"), memory, after, before, strict=True)
    ]
    wanted = jobs(farm)
    farm.plan(*wanted)
    cpu, began = used([master])[1], time.monotonic()
    requests = [farm.submit(f"run-{number}") for number in range(runs)]
    submitted = time.monotonic() - began
    for request in requests:
        farm.finished(request, PATIENCE)
    seconds = time.monotonic() - began
    done = sum(farm.started(item.identifier) for item in wanted)
    peak, spent = used([master])
    return [
        *rows,
        (f"{runs} runs submitted", f"{submitted:.1f} s"),
        (
            f"{done} trivial jobs on {len(WORKERS)} workers",
            f"{seconds:.0f} s, {60 * done / seconds:.0f} jobs a minute",
        ),
        ("the master for it", f"{spent - cpu:.0f} CPU s, {peak:.0f} MB at the end"),
    ]


if __name__ == "__main__":
    main()
