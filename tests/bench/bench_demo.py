"""How fast the demo is: with JIT, without (--opt=2), and untranslated on CPython 2.7.

``nox -s bench`` translates both builds (cached like any other), runs the hot loop of each in one
container, alternating, and prints the medians. Nothing here is an assertion.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.engine import Session

ROOT = Path(__file__).parents[2]
REPEATS = 5
# CPython takes minutes for the iterations that the others need to be measurable.
ITERATIONS = {"jit": 30_000_000, "opt=2": 30_000_000, "CPython 2.7": 100_000}
PLACE = "/build/bench"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A translated demo and the files that running it takes."""

    executable: bytes
    source: Path
    image_id: str


def build(work: Path, *, jit: bool) -> Built:
    """Translate the demo with or without JIT, unless that is done already."""
    with tempfile.TemporaryDirectory() as directory:
        for name in ("translation_configs", "dockerfiles", "packaging"):
            shutil.copytree(ROOT / name, Path(directory, name))
        config = Path(directory, "translation_configs", "demo.toml")
        if not jit:
            config.write_text(config.read_text().replace("jit = true", "jit = false"))
        places = ["--configs", str(config.parent), "--work", str(work)]
        command = [sys.executable, "-m", "pipeline", "translate", *places]
        subprocess.run(command, cwd=ROOT, check=True)
    records = (Path(work, "cache", "environments")).glob("*.json")
    found = [json.loads(path.read_text()) for path in records]
    return Built(
        executable=newest(work, "jit" if jit else "2"),
        source=max((work / "stages" / "source").glob("*/source.tar"), key=made_at),
        image_id=next(item["image_id"] for item in found if item["name"] == "translate"),
    )


def newest(work: Path, opt: str) -> bytes:
    """Return the demo that was last translated with this ``--opt``."""
    found = (work / "stages" / "translate").glob("*/record.json")
    fitting = [
        path
        for path in found
        if {f"--opt={opt}", "targetdemo.py"} <= set(json.loads(path.read_text())["command"])
    ]
    with tarfile.open(max(fitting, key=made_at).with_name("products.tar")) as products:
        program = products.extractfile("build/source/demo")
        return program.read() if program is not None else b""


def made_at(path: Path) -> float:
    """Return when a file was made, in seconds since 1970."""
    return path.stat().st_mtime


def seconds(session: Session, command: tuple[str, ...]) -> float:
    """Return the user and system seconds of *command*, as GNU time has them."""
    variables = {"PYTHONPATH": "/build/toolchain", "PYTHONDONTWRITEBYTECODE": "1"}
    timed = ("/usr/bin/time", "--format=%U %S", *command)
    done = session.call(timed, timeout=1200, environment=variables, directory="/build/source")
    if done.status != 0:
        raise SystemExit(done.last_lines)
    user, system = done.stderr.decode().split()[-2:]
    return float(user) + float(system)


def measure(session: Session) -> dict[str, list[float]]:
    """Run every variant in turn, several times, so that all meet the same machine."""
    program = "programs/hot_loop.demo"
    commands = {
        "jit": (f"{PLACE}/jit", program),
        "opt=2": (f"{PLACE}/opt2", program),
        "CPython 2.7": ("python2", "targetdemo.py", program),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            taken[name].append(seconds(session, (*command, str(ITERATIONS[name]))))
    return taken


def show(taken: dict[str, list[float]]) -> None:
    """Print the medians per million iterations, and how much faster the JIT is."""
    per_million = {
        name: statistics.median(values) / ITERATIONS[name] * 1_000_000
        for name, values in taken.items()
    }
    table = Table(title=f"hot_loop.demo, medians of {REPEATS} runs, CPU seconds")
    for column in (
        "variant",
        "iterations",
        "median",
        "min",
        "max",
        "s per million",
        "JIT is faster",
    ):
        table.add_column(column, justify="right")
    for name, values in taken.items():
        table.add_row(
            name,
            f"{ITERATIONS[name]:,}",
            f"{statistics.median(values):.3f}",
            f"{min(values):.3f}",
            f"{max(values):.3f}",
            f"{per_million[name]:.4f}",
            f"{per_million[name] / per_million['jit']:.1f} x",
        )
    Console().print(table)


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "out")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    jit, plain = build(work, jit=True), build(work, jit=False)
    with tempfile.TemporaryDirectory() as directory:
        inputs = Path(directory, "in.tar")
        entries = [
            Entry(path="build/bench/jit", content=jit.executable, executable=True),
            Entry(path="build/bench/opt2", content=plain.executable, executable=True),
        ]
        write_archive(inputs, entries, epoch=1)
        with DockerEngine("bench").session(jit.image_id) as session:
            session.copy_into(inputs, "/")
            session.copy_into(jit.source, "/")
            show(measure(session))


if __name__ == "__main__":
    main()
