"""The worker itself as an engine: where a step's files are, and that nothing of it is left.

The processes here are made up; real ones are in ``tests/integration/test_native.py``.
"""

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.engine import WORKER_IMAGE, ContainerStep, StepResult
from pipeline.effects.native_engine import DESCRIBED, NativeEngine, placed
from pipeline.effects.process import Completed, ProcessRunner, Running
from pipeline.errors import ImageError, MissingToolError
from tests.fakes import Answer, FakeProcess

PROGRAM = "make"
SYSTEM = "Linux-6.1-x86_64"

Effect = Callable[["Started"], None]


@dataclass(kw_only=True)
class Started(Running):
    """A process that was started, and whether it was stopped."""

    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    errors_apart: bool
    lines: Sequence[bytes] = ()
    status: int = 0
    stopped: int = 0
    timeouts: list[float] = field(default_factory=list)

    def chunks(self) -> Iterator[bytes]:
        """Yield what the test says that it writes."""
        yield from self.lines

    def wait(self) -> int:
        """Return its exit status."""
        return self.status

    def finish(self, timeout: float) -> Completed:
        """Return what it wrote."""
        self.timeouts.append(timeout)
        stdout = b"".join(self.lines)
        return Completed(argv=self.argv, status=self.status, stdout=stdout, stderr=b"")

    def stop(self) -> None:
        """Note that it was stopped."""
        self.stopped += 1


class Processes(ProcessRunner):
    """Starts nothing: does what a test says in the directory of what would be started."""

    def __init__(self) -> None:
        self.started: list[Started] = []
        self.lines: Sequence[bytes] = ()
        self.status = 0
        self.effect: Effect = lambda _started: None

    def start(
        self,
        argv: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        errors_apart: bool,
    ) -> Running:
        """Note what would be started."""
        started = Started(
            argv=tuple(argv),
            directory=directory,
            environment=environment,
            errors_apart=errors_apart,
            lines=self.lines,
            status=self.status,
        )
        self.effect(started)
        self.started.append(started)
        return started


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say what system this is; Python starts a program to find out."""
    monkeypatch.setattr("platform.platform", lambda: SYSTEM)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "native"


@pytest.fixture
def engine(root: Path, processes: Processes) -> NativeEngine:
    return NativeEngine(root, processes)


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


def step(**changes: Any) -> ContainerStep:
    options: dict[str, Any] = {
        "name": "translate-abc",
        "image_id": WORKER_IMAGE,
        "command": ("make", "it"),
        "directory": "/build/source",
        "output": "/build/out",
        "timeout": 600.0,
        "silence": 600.0,
        **changes,
    }
    return ContainerStep(**options)


def copy_the_source(started: Started) -> None:
    """Do as a step that writes what it was given."""
    out = started.directory.parent / "out"
    (out / "copied").write_bytes((started.directory / "text").read_bytes())
    (out / "copied").chmod(0o755)


def run(engine: NativeEngine, what: ContainerStep, directory: Path) -> tuple[StepResult, list[str]]:
    """Run a step; return its result and the lines that were passed on."""
    lines: list[str] = []
    result = engine.run(what, output=directory / "out.tar", on_line=lines.append)
    return result, lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/build", "/place/build"),
        ("/build/source/a b", "/place/build/source/a b"),
        ("/tmp/verify", "/place/tmp/verify"),  # noqa: S108 - no file
        ("--output=/build/out", "--output=/place/build/out"),
        ("/build/shim:/build/toolchain", "/place/build/shim:/place/build/toolchain"),
        ("cd /build; ls /tmp", "cd /place/build; ls /place/tmp"),
        ("/usr/build/x", "/usr/build/x"),
        ("/builder /build-id /tmpfs", "/builder /build-id /tmpfs"),
        ("https://example.test/build", "https://example.test/build"),
        ("../build", "../build"),
        ("build", "build"),
    ],
)
def test_what_is_in_a_container_is_below_the_steps_own_directory(text: str, expected: str) -> None:
    assert placed(text, Path("/place")) == expected


def test_a_step_is_started_where_its_files_were_unpacked(
    engine: NativeEngine, root: Path, processes: Processes, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    processes.lines = (b"one\ntwo\n",)
    processes.effect = copy_the_source
    what = step(
        command=("python", "/build/in/script.py", "--to=/build/out"),
        environment={"TMPDIR": "/build/tmp", "PATH": "/usr/bin", "LC_ALL": "C.UTF-8"},
        inputs=inputs,
    )

    result, lines = run(engine, what, tmp_path)

    place = root / "translate-abc"
    (started,) = processes.started
    assert result == StepResult(status=0, adopted=False)
    assert lines == ["one", "two"]
    assert started.argv == ("python", f"{place}/build/in/script.py", f"--to={place}/build/out")
    assert started.directory == place / "build" / "source"
    assert started.environment == {
        "TMPDIR": f"{place}/build/tmp",
        **dict.fromkeys(("TEMP", "TMP"), str(place / "tmp")),
        "LC_ALL": "C.UTF-8",
    }
    assert not started.errors_apart


def test_what_a_step_wrote_is_packed_and_all_else_removed(
    engine: NativeEngine, root: Path, processes: Processes, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    processes.effect = copy_the_source

    run(engine, step(inputs=inputs), tmp_path)

    with tarfile.open(tmp_path / "out.tar") as archive:
        assert [(member.name, member.mode, member.mtime) for member in archive] == [
            ("out", 0o755, 1),
            ("out/copied", 0o755, 1),
        ]
    assert list(root.iterdir()) == []
    assert processes.started[0].stopped == 1


def test_an_output_without_a_file_is_an_empty_directory(
    engine: NativeEngine, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    run(engine, step(inputs=inputs), tmp_path)

    with tarfile.open(tmp_path / "out.tar") as archive:
        assert [(member.name, member.isdir()) for member in archive] == [("out", True)]


def test_a_failing_step_gives_its_status_and_no_output(
    engine: NativeEngine, root: Path, processes: Processes, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    processes.status = 3
    processes.effect = copy_the_source

    result, _ = run(engine, step(inputs=inputs), tmp_path)

    assert result.status == 3
    assert not (tmp_path / "out.tar").exists()
    assert list(root.iterdir()) == []


def test_a_step_that_is_interrupted_is_stopped_and_removed(
    engine: NativeEngine, root: Path, processes: Processes, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    def interrupt(_line: str) -> NoReturn:
        raise KeyboardInterrupt

    processes.lines = (b"working\n",)

    with pytest.raises(KeyboardInterrupt):
        engine.run(step(inputs=inputs), output=tmp_path / "out.tar", on_line=interrupt)

    assert processes.started[0].stopped == 1
    assert list(root.iterdir()) == []


def test_a_step_whose_program_is_missing_leaves_nothing(
    engine: NativeEngine, root: Path, processes: Processes, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    def missing(_started: Started) -> NoReturn:
        raise MissingToolError(PROGRAM, purpose="run a step", package="make")

    processes.effect = missing

    with pytest.raises(MissingToolError):
        run(engine, step(inputs=inputs), tmp_path)

    assert list(root.iterdir()) == []


def test_what_a_killed_run_has_left_is_removed_first(
    engine: NativeEngine, root: Path, processes: Processes, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    stale = root / "translate-abc" / "build" / "out" / "stale"
    stale.parent.mkdir(parents=True)
    stale.write_text("stale")
    processes.effect = copy_the_source

    run(engine, step(inputs=inputs), tmp_path)

    with tarfile.open(tmp_path / "out.tar") as archive:
        assert "out/stale" not in archive.getnames()


def test_a_step_has_a_directory_for_temporary_files(
    engine: NativeEngine, processes: Processes, inputs: tuple[Path, ...], tmp_path: Path
) -> None:
    seen: list[bool] = []
    processes.effect = lambda started: seen.append(started.directory.is_dir())

    run(engine, step(inputs=inputs, directory="/tmp"), tmp_path)  # noqa: S108 - in the step's own

    assert seen == [True]


def test_a_sessions_commands_run_in_one_directory_that_is_removed(
    engine: NativeEngine, root: Path, processes: Processes, inputs: tuple[Path, ...]
) -> None:
    processes.lines, processes.status = (b"told\n",), 4

    with engine.session(WORKER_IMAGE, user="1000:1000") as session:
        session.copy_into(inputs[0], "/tmp/verify")  # noqa: S108 - in the session's own
        done = session.call(("cat", "/tmp/verify/build/source/text"))  # noqa: S108 - as above
        session.call(("ls",), timeout=5, environment={"LOG": "/build/log"}, directory="/build")
        (place,) = root.iterdir()
        copied = place / "tmp" / "verify" / "build" / "source" / "text"
        assert copied.read_bytes() == b"given\n"

    first, second = processes.started
    assert (done.status, done.text) == (4, "told\n")
    assert first.argv == ("cat", str(copied))
    own = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(place / "tmp"))
    assert (first.directory, first.environment, first.timeouts) == (place / "tmp", own, [60])
    assert (second.directory, second.timeouts) == (place / "build", [5])
    assert second.environment == {**own, "LOG": f"{place}/build/log"}
    assert first.errors_apart
    assert list(root.iterdir()) == []


def test_a_session_is_removed_when_what_it_is_for_fails(engine: NativeEngine, root: Path) -> None:
    def fail() -> NoReturn:
        assert len(list(root.iterdir())) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), engine.session(WORKER_IMAGE):
        fail()

    assert list(root.iterdir()) == []


def test_the_machine_is_the_only_image(engine: NativeEngine) -> None:
    assert not engine.contained
    assert engine.has_image(WORKER_IMAGE)
    assert engine.image_id(WORKER_IMAGE) == WORKER_IMAGE
    assert not engine.has_image("debian")
    assert engine.image_id("debian") is None


IMAGE_WORK: dict[str, Callable[[NativeEngine], object]] = {
    "machine": lambda engine: engine.image_machine(WORKER_IMAGE),
    "save": lambda engine: engine.save(WORKER_IMAGE, Path("image.tar")),
    "load": lambda engine: engine.load(Path("image.tar")),
    "pull": lambda engine: engine.pull("debian", oci_platform="linux/amd64", on_line=print),
    "build": lambda engine: engine.build(
        Path("context.tar"), tag="t", arguments={}, oci_platform="linux/amd64", on_line=print
    ),
}


@pytest.mark.parametrize("work", IMAGE_WORK.values(), ids=IMAGE_WORK)
def test_no_image_can_be_made(work: Callable[[NativeEngine], object], engine: NativeEngine) -> None:
    with pytest.raises(ImageError, match="without containers, so it has no images"):
        work(engine)


def test_the_worker_is_described_by_its_system_and_the_tools_that_it_has(root: Path) -> None:
    process = FakeProcess()
    process.missing.update(set(DESCRIBED) - {"gcc", "cl", "make"})
    process.expect("/usr/bin/gcc", "--version", answer=Answer(stdout="gcc 12.2\nCopyright\n"))
    process.expect("/usr/bin/cl", "--version", answer=Answer(status=2, stderr="cl 19.4\nusage\n"))
    process.expect("/usr/bin/make", "--version", answer=Answer(stdout=""))

    system, *tools = NativeEngine(root, process).describe()

    assert system == f"system {SYSTEM}"
    assert tools == ["gcc gcc 12.2", "cl cl 19.4"]


def test_the_machines_properties_are_known_without_an_engine(engine: NativeEngine) -> None:
    info = engine.info()

    assert (info.version, info.machine) == (SYSTEM, "x86_64")
    assert info.cpus > 0
    assert info.memory > 0
