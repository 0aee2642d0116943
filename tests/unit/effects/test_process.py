"""Programs: started with an argument list, in time, and explained when they fail."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.effects import process as process_module
from pipeline.effects.process import LAST_LINES, Completed, ProcessRunner, Tool
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
