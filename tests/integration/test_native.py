"""A worker without containers: steps are processes of this machine."""

import os
import platform
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import psutil
import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.engine import WORKER_IMAGE, ContainerStep
from pipeline.effects.native_engine import NativeEngine
from pipeline.effects.process import ProcessRunner
from pipeline.errors import ImageError, MissingToolError, StepSilentError, StepTimeoutError
from pipeline.model.records import Environment
from tests.integration.conftest import Project


@pytest.fixture
def engine(tmp_path: Path) -> NativeEngine:
    return NativeEngine(tmp_path / "native", ProcessRunner())


def step(script: str, **changes: object) -> ContainerStep:
    given: dict[str, object] = {
        "name": "step",
        "image_id": WORKER_IMAGE,
        "command": ("sh", "-c", script),
        "directory": "/build/source",
        "output": "/build/out",
        "timeout": 60.0,
        "silence": 60.0,
    }
    return ContainerStep(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, ...]:
    """What every step here is given: a file of the source, and an empty output directory."""
    archive = tmp_path / "in.tar"
    entries = [
        Entry(path="build/source/text", content=b"given\n"),
        Entry(path="build/out", directory=True),
    ]
    write_archive(archive, entries, epoch=1)
    return (archive,)


def test_a_step_finds_its_files_and_its_output_comes_back(
    engine: NativeEngine, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    lines: list[str] = []
    script = "cat text; echo $PLACE >&2; cp text /build/out/copied; ln -s copied /build/out/link"
    given = step(script, inputs=inputs, environment={"PLACE": "/build/tmp", "PATH": "/nowhere"})

    result = engine.run(given, output=tmp_path / "out.tar", on_line=lines.append)

    place = tmp_path / "native" / "step"
    assert (result.status, sorted(lines)) == (0, sorted(["given", f"{place}/build/tmp"]))
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert sorted(archive.getnames()) == ["out", "out/copied", "out/link"]
    assert not place.exists()


def test_a_failing_step_leaves_nothing(
    engine: NativeEngine, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    output = tmp_path / "out.tar"

    result = engine.run(step("exit 3", inputs=inputs), output=output, on_line=lambda _line: None)

    assert result.status == 3
    assert not output.exists()
    assert list((tmp_path / "native").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"timeout": 1.0}, StepTimeoutError), ({"silence": 1.0}, StepSilentError)],
    ids=["timeout", "silence"],
)
def test_a_step_that_hangs_is_stopped_with_all_that_it_started(
    changes: dict[str, float],
    error: type[Exception],
    engine: NativeEngine,
    inputs: tuple[Path, ...],
    tmp_path: Path,
) -> None:
    pids: list[str] = []
    script = "sleep 600 & echo $!; wait"

    with pytest.raises(error):
        engine.run(
            step(script, inputs=inputs, **changes),
            output=tmp_path / "out.tar",
            on_line=pids.append,
        )

    for _ in range(50):
        if not psutil.pid_exists(int(pids[0])):
            break
        time.sleep(0.1)
    assert not psutil.pid_exists(int(pids[0]))


def test_what_a_killed_run_has_left_is_not_taken_for_new(
    engine: NativeEngine, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    old = tmp_path / "native" / "step" / "build" / "out"
    old.mkdir(parents=True)
    (old / "stale").write_text("stale")

    engine.run(step("ls /build/out", inputs=inputs), output=tmp_path / "o.tar", on_line=print)

    with tarfile.open(tmp_path / "o.tar") as archive:
        assert archive.getnames() == ["out"]


def test_a_session_runs_several_commands_in_one_place(
    engine: NativeEngine, inputs: tuple[Path, ...]
) -> None:
    with engine.session(WORKER_IMAGE) as session:
        session.copy_into(inputs[0], "/tmp")
        told = session.call(("cat", "/tmp/build/source/text"))
        failed = session.call(("sh", "-c", "echo no >&2; exit 4"))
        killed = session.call(("sleep", "600"), timeout=1)

    assert (told.status, told.text) == (0, "given\n")
    assert (failed.status, failed.last_lines) == (4, "no")
    assert killed.status == 137


def test_a_missing_program_is_named(engine: NativeEngine, tmp_path: Path) -> None:
    with pytest.raises(MissingToolError, match="no-such-program is not on PATH"):
        engine.run(
            step("", command=("no-such-program",), directory="/tmp"),
            output=tmp_path / "out.tar",
            on_line=print,
        )


def test_there_are_no_images(engine: NativeEngine) -> None:
    with pytest.raises(ImageError, match="without containers"):
        engine.image_machine("debian")


def test_the_worker_says_what_decides_what_it_builds(engine: NativeEngine) -> None:
    lines = engine.describe()

    assert lines[0].startswith(f"system {platform.system()}")
    assert any(line.startswith("make ") for line in lines)
    assert engine.info().memory == psutil.virtual_memory().total


def image_of(project: Project) -> str:
    """Return the image in which a project translated."""
    records = (project.work / "cache" / "environments").glob("*.json")
    environments = [Environment.model_validate_json(path.read_bytes()) for path in records]
    (image,) = [found.image_id for found in environments if found.name == "translate"]
    return image


@pytest.fixture(scope="module")
def pypy(fast: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """PyPy 2.7 on this machine: the translation environment's, with the libraries it needs."""
    directory = tmp_path_factory.mktemp("pypy")
    libraries = "s/.*=> \\(.*lib\\(ffi\\|tinfo\\|expat\\|bz2\\)[^ ]*\\).*/\\1/p"
    copy = (
        "tar --dereference --create --file=/tmp/pypy.tar /usr/lib/pypy "
        f"$(ldd /usr/lib/pypy/bin/pypy-c | sed -n '{libraries}')"
    )
    container = docker.from_env().containers.create(
        image_of(fast), ["sh", "-c", copy], network_mode="none"
    )
    try:
        container.start()
        assert container.wait()["StatusCode"] == 0
        stream, _ = container.get_archive("/tmp/pypy.tar")
        (directory / "made.tar").write_bytes(b"".join(stream))
    finally:
        container.remove(force=True)
    for name in ("made.tar", "pypy.tar"):
        command = [
            "tar",
            "--extract",
            "--file",
            str(directory / name),
            "--directory",
            str(directory),
        ]
        subprocess.run(command, check=True)
    program = directory / "bin" / "pypy"
    program.parent.mkdir()
    places = sorted({path.parent for path in directory.rglob("*.so.*")})
    program.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={':'.join(map(str, places))}\n"
        f'exec {directory}/usr/lib/pypy/bin/pypy-c "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    yield program
    shutil.rmtree(directory)


@pytest.mark.docker
@pytest.mark.slow
def test_the_demo_is_released_without_containers(project: Project, pypy: Path) -> None:
    """What a worker of macOS or Windows does, on the system at hand."""
    told = subprocess.run([pypy, "--version"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    name = f"linux-{platform.machine()}"
    path = f"{pypy.parent}:{os.environ['PATH']}"
    project.edit("platforms.toml", ('glibc_floor = "2.31"', 'glibc_floor = "2.99"'))

    ran = project.run("release", "demo", "--engine", f"{name}=native", PATH=path)

    assert f"demo-{name}" in ran.stderr
    (archive,) = project.store.glob("demo/demo-v*/*.tar.gz")
    assert archive.stat().st_size > 0
    assert not list((project.work / "native").iterdir())
