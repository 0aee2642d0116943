"""A hot loop with the JIT on and off, in a clean container of the archive's own platform.

``nox -s bench -- jit ARCHIVE linux-aarch64 [--environment clean]``: under QEMU where the platform
is another machine's. CPU seconds as the program itself measures them, without its start. Nothing
here is an assertion.
"""

import argparse
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.effects.engine import Session
from pipeline.environment import ready_environment
from pipeline.model.platforms import Placement
from tests.bench.bench_translation import ROOT, bench_context

REPEATS = 3
PLACE = "/tmp/bench"
TIMEOUT = 3600
LOOP = """
import time
def main():
    total = 0
    for i in range(1, {count}):
        for j in range(1, 1000):
            total += i + j
    return total
start = time.process_time()
main()
print(time.process_time() - start)
"""
# What is 20 times as fast may run 20 times as long, so that both can be measured.
WAYS = {"on": ((), 20_000), "off": (("--jit", "off"), 1_000)}


def looped(session: Session, program: str, options: tuple[str, ...], count: int) -> float:
    """Return the CPU seconds of a million turns of the inner loop."""
    source = LOOP.replace("{count}", str(count))
    done = session.call((program, *options, "-c", source), timeout=TIMEOUT)
    if done.status != 0:
        raise SystemExit(done.last_lines)
    return float(done.text) / count * 1000


def main() -> None:
    """Unpack the archive in the container, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("platform")
    parser.add_argument("--environment", default="clean")
    parser.add_argument("--work", type=Path, default=ROOT / "out")
    arguments = parser.parse_args()
    ctx = bench_context(arguments.work.absolute())
    host = ctx.config.platforms[arguments.platform]
    image = ready_environment(ctx, arguments.environment, Placement(host=host)).image_id
    with ctx.engine.session(image) as session:
        session.call(("mkdir", PLACE))
        session.copy_into(arguments.archive, PLACE)
        found = session.call(("sh", "-c", f"ls {PLACE}/*/bin/pypy* | head -n 1")).text.strip()
        taken = {
            name: [looped(session, found, options, count) for _ in range(REPEATS)]
            for name, (options, count) in WAYS.items()
        }
    table = Table(title=f"{arguments.archive.name} in {arguments.environment}")
    for column in ("JIT", "CPU s for a million turns", "lowest", "highest", "of off"):
        table.add_column(column, justify="right")
    off = statistics.median(taken["off"])
    for name, values in taken.items():
        middle = statistics.median(values)
        cells = (middle, min(values), max(values), middle / off)
        table.add_row(name, *(f"{cell:.4f}" for cell in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
