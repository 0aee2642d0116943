"""What must work wherever a client has installed the interpreter."""

import pytest

from pipeline.effects.process import Completed
from pipeline.errors import InstallError
from pipeline.install.programs import Place, Run, run_tests
from pipeline.model.install import InstallTest


def make_test(**overrides: object) -> InstallTest:
    fields = {"name": "version", "argv": ("toy", "--version"), "stdout": "toy 1.2.3\n"}
    return InstallTest.model_validate({**fields, **overrides})


def answering(stdout: str = "toy 1.2.3\n", status: int = 0, stderr: str = "") -> Run:
    def run(argv: tuple[str, ...], timeout: int) -> Completed:  # noqa: ARG001
        return Completed(argv=argv, status=status, stdout=stdout.encode(), stderr=stderr.encode())

    return run


def make_place(run: Run | None = None, **overrides: object) -> Place:
    fields: dict[str, object] = {"client": "apt", "where": "clean", "run": run or answering()}
    return Place(**{**fields, **overrides})  # type: ignore[arg-type]


def test_tests_that_pass_are_named() -> None:
    tests = (make_test(), make_test(name="again", stdout=None, stdout_contains=("1.2", "toy")))

    assert list(run_tests(tests, make_place())) == ["version", "again"]


@pytest.mark.parametrize(
    ("run", "test", "complaint"),
    [
        (answering(status=1, stderr="toy: cannot open libfoo.so"), {}, "libfoo.so"),
        (answering("toy 9\n"), {}, "wrote 'toy 9\\n', not 'toy 1.2.3\\n'"),
        (answering("toy\n"), {"stdout": None, "stdout_contains": ("ssl",)}, "without ['ssl']"),
    ],
    ids=["status", "other text", "text is missing"],
)
def test_what_does_not_work_stops_it_and_is_shown(
    run: Run, test: dict[str, object], complaint: str
) -> None:
    with pytest.raises(InstallError) as caught:
        list(run_tests([make_test(**test)], make_place(run)))

    assert "clean: what apt installed: toy --version:" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_test_of_another_client_is_not_run() -> None:
    tests = (make_test(name="mine", clients=("apt",)), make_test(name="other", clients=("image",)))

    assert list(run_tests(tests, make_place())) == ["mine"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (None, ["plain", "venv"]),
        (("", "-venv"), ["plain", "venv"]),
        (("", "-dev"), ["plain"]),
    ],
    ids=["everything is there", "the part is there", "the part is not there"],
)
def test_a_test_of_a_part_is_run_where_the_part_is(
    parts: tuple[str, ...] | None, expected: list[str]
) -> None:
    tests = (make_test(name="plain"), make_test(name="venv", parts=("-venv",)))

    assert list(run_tests(tests, make_place(parts=parts))) == expected


def test_under_an_emulator_a_command_may_take_longer() -> None:
    allowed: list[int] = []

    def run(argv: tuple[str, ...], timeout: int) -> Completed:
        allowed.append(timeout)
        return Completed(argv=argv, status=0, stdout=b"toy 1.2.3\n", stderr=b"")

    list(run_tests([make_test(timeout=10)], make_place(run, factor=20)))

    assert allowed == [200]
