"""Programs: started with an argument list, in time, and explained when they fail."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn

import psutil
import pytest

from pipeline.effects import process as process_module
from pipeline.effects.process import (
    CHUNK,
    KILLED,
    LAST_LINES,
    STOP_GRACE,
    Completed,
    Outputs,
    ProcessRunner,
    Running,
    Tool,
    session_members,
)
from pipeline.errors import CommandError, MissingToolError

TOOL = Tool(program="gpg", purpose="sign", package="gnupg")


class Programs:
    """Stands for the operating system: what was run, and how it ends."""

    def __init__(self) -> None:
        self.status, self.stdout, self.stderr = 0, b"", b""
        self.late = False
        self.runs: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def run(self, argv: tuple[str, ...], **options: Any) -> SimpleNamespace:
        """Note the call and end as told."""
        self.runs.append((argv, options))
        if self.late:
            expired: type[Exception] = vars(process_module)["subprocess"].TimeoutExpired
            raise expired(argv, options["timeout"])
        return SimpleNamespace(returncode=self.status, stdout=self.stdout, stderr=self.stderr)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Every program is installed, and does what the test says."""
    programs = Programs()
    monkeypatch.setattr("subprocess.run", programs.run)
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    return programs


def test_a_program_gets_its_arguments_one_by_one_and_no_input(programs: Programs) -> None:
    programs.stdout, programs.stderr = b"out\n", b"err\n"

    done = ProcessRunner().run(["gpg", Path("/srv/a b"), "$(id)"], tool=TOOL, timeout=5)

    ((argv, options),) = programs.runs
    assert argv == ("gpg", "/srv/a b", "$(id)")
    assert not options.get("shell")
    assert options["timeout"] == 5
    assert options["stdin"] == -3  # /dev/null
    assert done == Completed(argv=argv, status=0, stdout=b"out\n", stderr=b"err\n")


def test_variables_are_added_to_those_of_this_process(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESENT", "1")
    monkeypatch.setenv("REPLACED", "1")

    ProcessRunner().run(["gpg"], tool=TOOL, environment={"REPLACED": "2", "NEW": "3"})

    ((_, options),) = programs.runs
    chosen = {name: options["env"][name] for name in ("PRESENT", "REPLACED", "NEW")}
    assert chosen == {"PRESENT": "1", "REPLACED": "2", "NEW": "3"}
    assert "NEW" not in os.environ


def test_a_program_does_not_see_variables_that_are_hidden_from_it(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PRESENT", "HIDDEN", "REPLACED"):
        monkeypatch.setenv(name, "1")

    ProcessRunner().run(
        ["git"], tool=TOOL, environment={"REPLACED": "2"}, without=("HIDDEN", "REPLACED", "ABSENT")
    )

    ((_, options),) = programs.runs
    names = ("PRESENT", "HIDDEN", "REPLACED", "ABSENT")
    assert [options["env"].get(name) for name in names] == ["1", None, "2", None]
    assert os.environ["HIDDEN"] == "1"


def test_a_program_that_is_not_installed_is_named_with_its_package(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _program: None)

    with pytest.raises(MissingToolError, match=r"gpg is not on PATH.*Install gnupg"):
        ProcessRunner().run(["gpg"], tool=TOOL)

    assert programs.runs == []


def test_an_error_status_is_an_error_with_the_command_and_its_last_lines(
    programs: Programs,
) -> None:
    programs.status = 2
    programs.stderr = "".join(f"line {number}\n" for number in range(100)).encode()

    with pytest.raises(CommandError) as caught:
        ProcessRunner().run(["gpg", "a b"], tool=TOOL)

    first, *lines = str(caught.value).splitlines()
    assert first == "gpg 'a b': exit status 2"
    assert lines == [f"line {number}" for number in range(100 - LAST_LINES, 100)]


def test_an_error_status_is_a_result_where_it_is_expected(programs: Programs) -> None:
    programs.status = 1

    assert ProcessRunner().run(["gpg"], tool=TOOL, check=False).status == 1


def test_a_program_that_takes_too_long_is_an_error(programs: Programs) -> None:
    programs.late = True

    with pytest.raises(CommandError, match=r"^gpg --sign: not finished after 5 s"):
        ProcessRunner().run(["gpg", "--sign"], tool=TOOL, timeout=5, check=False)


def test_a_program_is_found_on_path_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", {"gpg": "/usr/bin/gpg"}.get)

    assert ProcessRunner().find("gpg") == Path("/usr/bin/gpg")
    assert ProcessRunner().find("gpgv") is None


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        pytest.param(b"out", b"err", "err", id="standard-error-first"),
        pytest.param(b"out", b"", "out", id="standard-output-otherwise"),
        pytest.param(b"", b"\xff", "\ufffd", id="not-utf8"),
        pytest.param(b"", b"", "", id="silent"),
    ],
)
def test_the_last_lines_are_what_the_program_said(
    stdout: bytes, stderr: bytes, expected: str
) -> None:
    assert Completed(argv=("x",), status=1, stdout=stdout, stderr=stderr).last_lines == expected


def test_output_that_is_not_utf8_can_be_shown() -> None:
    assert Completed(argv=("x",), status=0, stdout=b"a\xffb", stderr=b"").text == "a\ufffdb"


class FakePopen:
    """A process of the operating system, with the arguments that it was started with."""

    def __init__(self, argv: list[str], **options: Any) -> None:
        self.argv, self.options = argv, options
        self.pid, self.returncode = 4711, 3
        self.written: list[tuple[bytes, bytes | None]] = [(b"out", b"err")]
        self.late = False
        self.stdout: IO[bytes] | None = None
        self.ended = False
        self.waited: list[float | None] = []
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        """Note it."""
        self.signals.append(number)

    def poll(self) -> int | None:
        """Return the exit status of what has ended."""
        return self.returncode if self.ended else None

    def wait(self, timeout: float | None = None) -> int:
        """End."""
        self.waited.append(timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes | None]:
        """End, or not in time the first time."""
        if self.late and timeout is not None:
            expired: type[Exception] = vars(process_module)["subprocess"].TimeoutExpired
            raise expired(self.argv, timeout)
        return self.written[-1]


def started_in(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, errors_apart: bool
) -> tuple[Running, FakePopen]:
    """Start a program; return what the caller gets, and what the system would."""
    made: list[FakePopen] = []

    def popen(argv: list[str], **options: Any) -> FakePopen:
        made.append(FakePopen(argv, **options))
        return made[-1]

    monkeypatch.setattr("subprocess.Popen", popen)
    monkeypatch.setenv("PRESENT", "1")
    monkeypatch.setenv("REPLACED", "1")
    running = ProcessRunner().start(
        ["make", "it"],
        directory=directory,
        environment={"REPLACED": "2"},
        errors_apart=errors_apart,
    )
    return running, made[0]


@pytest.mark.parametrize(("errors_apart", "stderr"), [(True, -1), (False, -2)], ids=str)
def test_a_program_is_started_in_its_directory_with_its_errors_apart_or_not(
    *, errors_apart: bool, stderr: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, process = started_in(tmp_path, monkeypatch, errors_apart=errors_apart)

    options = process.options
    assert process.argv == ["make", "it"]
    assert options["cwd"] == tmp_path
    assert (options["stdin"], options["stdout"], options["stderr"]) == (-3, -1, stderr)
    assert (options["env"]["PRESENT"], options["env"]["REPLACED"]) == ("1", "2")
    assert not options.get("shell")
    assert running.wait() == 3


def test_a_program_that_cannot_be_started_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def popen(argv: list[str], **_options: Any) -> NoReturn:
        raise FileNotFoundError(argv[0])

    monkeypatch.setattr("subprocess.Popen", popen)

    with pytest.raises(MissingToolError, match="make is not on PATH"):
        ProcessRunner().start(["make"], directory=tmp_path, environment={}, errors_apart=True)


def test_a_program_that_was_started_ends_with_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = started_in(tmp_path, monkeypatch, errors_apart=True)

    done = running.finish(5)

    assert done == Completed(argv=("make", "it"), status=3, stdout=b"out", stderr=b"err")


@pytest.mark.parametrize("stderr", [b"err", None], ids=["apart", "together"])
def test_a_program_that_does_not_end_in_time_is_stopped(
    stderr: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, process = started_in(tmp_path, monkeypatch, errors_apart=stderr is not None)
    process.late, process.written = True, [(b"so far", stderr)]
    family = Family(monkeypatch, [4711])

    done = running.finish(5)

    assert (done.status, done.stdout, done.stderr) == (KILLED, b"so far", stderr or b"")
    assert done.timed_out
    assert family.done == ["terminate 4711"]


class Family:
    """The processes that there are, by number: the first started the others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pids: list[int]) -> None:
        self.pids, self.done = pids, list[str]()
        self.gone: set[int] = set()
        self.stubborn: set[int] = set()
        monkeypatch.setattr("psutil.Process", self.process)
        monkeypatch.setattr("psutil.wait_procs", self.wait)

    def process(self, pid: int) -> SimpleNamespace:
        """Return a process of the family, if there still is one."""
        if pid in self.gone:
            raise psutil.NoSuchProcess(pid)
        return SimpleNamespace(
            pid=pid,
            children=lambda *, recursive: [
                self.process(child) for child in self._others(recursive)
            ],
            terminate=lambda: self._note("terminate", pid),
            kill=lambda: self._note("kill", pid),
        )

    def wait(
        self, family: list[SimpleNamespace], timeout: float
    ) -> tuple[list[SimpleNamespace], list[SimpleNamespace]]:
        """Return who has ended and who has not."""
        assert timeout > 0
        alive = [member for member in family if member.pid in self.stubborn]
        return [member for member in family if member not in alive], alive

    def _others(self, recursive: bool) -> list[int]:  # noqa: FBT001 - psutil's own argument
        return self.pids[1:] if recursive else self.pids[1:2]

    def _note(self, what: str, pid: int) -> None:
        self.done.append(f"{what} {pid}")
        if pid < 0:
            raise psutil.NoSuchProcess(pid)


def test_all_that_a_program_started_is_stopped_and_what_will_not_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, process = started_in(tmp_path, monkeypatch, errors_apart=True)
    family = Family(monkeypatch, [4711, 1, 2])
    family.stubborn = {2}

    running.stop()

    assert family.done == ["terminate 1", "terminate 2", "terminate 4711", "kill 2"]
    assert process.waited == [STOP_GRACE]


def test_what_ends_while_it_is_stopped_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = started_in(tmp_path, monkeypatch, errors_apart=True)
    family = Family(monkeypatch, [4711, -1])
    family.stubborn = {-1}

    running.stop()

    assert family.done == ["terminate -1", "terminate 4711", "kill -1"]


def test_of_a_program_that_has_ended_nothing_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = started_in(tmp_path, monkeypatch, errors_apart=True)
    family = Family(monkeypatch, [4711])
    family.gone = {4711}

    running.stop()

    assert family.done == []


def test_what_a_program_writes_comes_in_pieces_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, process = started_in(tmp_path, monkeypatch, errors_apart=False)
    written = tmp_path / "written"
    written.write_bytes(b"x" * (CHUNK + 1))

    process.stdout = written.open("rb")
    pieces = list(running.chunks())

    assert [len(piece) for piece in pieces] == [CHUNK, 1]
    assert process.stdout.closed


def test_a_program_that_is_tied_to_us_ends_when_its_input_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakePopen] = []

    def popen(argv: list[str], **options: Any) -> FakePopen:
        made.append(FakePopen(argv, **options))
        options["stdout"].write(b"hello\n")
        return made[-1]

    monkeypatch.setattr("subprocess.Popen", popen)
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    log = tmp_path / "log"

    running = ProcessRunner().start_tied(["ssh", "host", "cat"], tool=TOOL, log=log)

    (process,) = made
    assert process.argv == ["ssh", "host", "cat"]
    assert process.options["stdin"] == -1  # a pipe, closed by the system when we end
    assert "start_new_session" not in process.options
    assert log.read_bytes() == b"hello\n"
    assert not running.has_ended
    process.ended = True
    assert running.has_ended


def test_a_program_to_be_tied_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _program: None)

    with pytest.raises(MissingToolError, match=r"gpg is not on PATH.*Install gnupg"):
        ProcessRunner().start_tied(["gpg"], tool=TOOL, log=tmp_path / "log")

    assert not (tmp_path / "log").exists()


def test_a_service_is_started_apart_from_us_with_its_output_in_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []

    def popen(argv: list[str], **options: Any) -> SimpleNamespace:
        started.append((argv, options))
        options["stdout"].write(b"hello\n")
        return SimpleNamespace(pid=4711)

    monkeypatch.setattr("subprocess.Popen", popen)
    log = tmp_path / "logs" / "dockerd.log"

    pid = ProcessRunner().start_detached(["dockerd", "--debug"], log=log)

    ((argv, options),) = started
    assert pid == 4711
    assert argv == ["dockerd", "--debug"]
    assert options["start_new_session"] is True
    assert log.read_bytes() == b"hello\n"


def test_what_may_outlive_us_writes_to_files_and_keeps_what_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakePopen] = []

    def popen(argv: list[str], **options: Any) -> FakePopen:
        made.append(FakePopen(argv, **options))
        options["stdout"].write(b"out\n")
        options["stderr"].write(b"err\n")
        return made[-1]

    monkeypatch.setattr("subprocess.Popen", popen)
    stdout, stderr = tmp_path / "stdout", tmp_path / "stderr"
    stdout.write_bytes(b"before\n")

    outputs = Outputs(stdout=stdout, stderr=stderr, environment={"NEW": "1"})

    running = ProcessRunner().start_apart(["work"], outputs, keep=[7], leads=True)

    (process,) = made
    assert running.pid == 4711
    assert process.options["pass_fds"] == (7,)
    assert process.options["env"]["NEW"] == "1"
    assert process.options["start_new_session"] is True
    assert stdout.read_bytes() == b"before\nout\n"
    assert stderr.read_bytes() == b"err\n"


def test_a_process_is_interrupted_as_by_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, process = started_in(tmp_path, monkeypatch, errors_apart=True)

    running.interrupt()

    assert process.signals == [signal.SIGINT]


def test_the_members_of_a_session_are_told_by_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = {1: 1, 42: 42, 43: 42, 44: 1}

    def session_of(pid: int) -> int:
        if pid == 45:
            raise ProcessLookupError
        return sessions[pid]

    monkeypatch.setattr(psutil, "pids", lambda: [*sessions, 45])
    monkeypatch.setattr("os.getsid", session_of)

    assert session_members(42) == (42, 43)


def test_a_program_that_takes_the_terminal_over_gives_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[list[str], dict[str, Any]]] = []

    def call(argv: list[str], **options: Any) -> int:
        calls.append((argv, options))
        return 3

    monkeypatch.setattr("subprocess.call", call)

    assert ProcessRunner().call(["release", "demo"], environment={"NEW": "1"}) == 3

    ((argv, options),) = calls
    assert argv == ["release", "demo"]
    assert options["env"]["NEW"] == "1"
    assert "stdin" not in options


def test_a_program_takes_our_place_without_what_it_must_not_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Replaced(Exception):  # noqa: N818 - no error: this process is another program now
        pass

    became: list[tuple[str, list[str], dict[str, str]]] = []

    def execute(program: str, argv: list[str], environment: dict[str, str]) -> NoReturn:
        became.append((program, argv, environment))
        raise Replaced

    monkeypatch.setattr("os.execvpe", execute)
    monkeypatch.setenv("HIDDEN", "1")
    monkeypatch.setenv("PRESENT", "1")

    with pytest.raises(Replaced):
        ProcessRunner().become(["twistd", "--nodaemon"], without=["HIDDEN"])

    ((program, argv, environment),) = became
    assert (program, argv) == ("twistd", ["twistd", "--nodaemon"])
    assert "PRESENT" in environment
    assert "HIDDEN" not in environment
