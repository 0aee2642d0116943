"""How fast a packaged PyPy runs a double loop, and how fast its tree is packed and unpacked.

``nox -s bench -- pypy out/store/pypy/<release>/<archive>.tar.gz``; everything that is compared is
run in turn on the same machine. Nothing here is an assertion.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.effects.archives import Compression, entries_of, unpack, write_archive

REPEATS = 3
EPOCH = 1_700_000_000
LOOP = """
import time
def main():
    total = 0
    for i in range(1, 10000):
        for j in range(1, 10000):
            total += i + j
    return total
start = time.process_time()
main()
print(time.process_time() - start)
"""


def looped(python: Path) -> float:
    """Return the CPU seconds of the double loop, without the interpreter's start."""
    done = subprocess.run([python, "-c", LOOP], capture_output=True, check=True, text=True)
    return float(done.stdout)


def timed(action: Callable[[], object]) -> Callable[[], float]:
    """Return an action that does the same and returns its wall seconds."""

    def run() -> float:
        started = time.monotonic()
        action()
        return time.monotonic() - started

    return run


def shell(command: str, place: Path) -> Callable[[], object]:
    """Return an action that runs *command* in *place*."""
    return lambda: subprocess.run(["sh", "-c", command], cwd=place, check=True)


def packings(tree: Path, place: Path) -> dict[str, Callable[[], object]]:
    """Return the ways to pack *tree*, each leaving a file of its name in *place*."""

    def ours(name: str, compression: Compression) -> Callable[[], object]:
        return lambda: write_archive(
            place / name, entries_of(tree, tree.name), epoch=EPOCH, compression=compression
        )

    tar = f"tar -cf - {tree.name}"
    return {
        "pipeline.tar.gz": ours("pipeline.tar.gz", Compression.GZIP),
        "gzip-9.tar.gz": shell(f"{tar} | gzip -9 -n > {place}/gzip-9.tar.gz", tree.parent),
        "pipeline.tar.zst": ours("pipeline.tar.zst", Compression.ZSTD),
        "bzip2.tar.bz2": shell(f"{tar} | bzip2 -9 > {place}/bzip2.tar.bz2", tree.parent),
    }


def unpackings(place: Path) -> dict[str, Callable[[], object]]:
    """Return how the packed files are unpacked by tar, each time into a new directory."""
    names = ("pipeline.tar.gz", "pipeline.tar.zst", "bzip2.tar.bz2")
    return {name: shell(f"tar -xf {name} -C $(mktemp -d -p .)", place) for name in names}


def measure(actions: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Run every action in turn, several times; return the medians."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(REPEATS):
        for name, action in actions.items():
            taken[name].append(action())
    return {name: statistics.median(values) for name, values in taken.items()}


def show(title: str, unit: str, rows: dict[str, float], base: str, sizes: Path | None) -> None:
    """Print medians, and each as a part of *base*."""
    table = Table(title=f"{title}, medians of {REPEATS}")
    for column in ("what", unit, f"of {base}", "bytes", f"bytes of {base}"):
        table.add_column(column, justify="right")
    for name, value in rows.items():
        size = (sizes / name).stat().st_size if sizes is not None else 0
        whole = (sizes / base).stat().st_size if sizes is not None else 1
        ratio = f"{size / whole:.3f}" if sizes is not None else ""
        table.add_row(name, f"{value:.3f}", f"{value / rows[base]:.3f}", f"{size:,}", ratio)
    Console().print(table)


def main() -> None:
    """Unpack the archive, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    archive = parser.parse_args().archive.absolute()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        unpack(archive, place / "tree")
        (tree,) = (place / "tree").iterdir()
        pypy = next(tree.glob("bin/pypy*"))
        loops = {"PyPy": lambda: looped(pypy), "CPython": lambda: looped(Path(sys.executable))}
        show("Double loop", "CPU s", measure(loops), "CPython", None)
        packed = {name: timed(action) for name, action in packings(tree, place).items()}
        show("Packing", "wall s", measure(packed), "gzip-9.tar.gz", place)
        unpacked = {name: timed(action) for name, action in unpackings(place).items()}
        show("Unpacking", "wall s", measure(unpacked), "bzip2.tar.bz2", place)


if __name__ == "__main__":
    main()
