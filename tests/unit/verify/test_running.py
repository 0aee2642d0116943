"""The gates that run an archive; their faults are in test_gates.py, here is how they run it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from pipeline.errors import CommandError
from pipeline.model.records import Environment
from pipeline.verify.gates import check_gates
from pipeline.verify.running import PROOF_GATES, SMOKE_GATES, Installed, installed
from tests.crafted import Craft, make_craft, running, write_archives
from tests.fakes import GC_LOG, JIT_LOG, Answer, FakeSession, World, digest, make_world

PLACE: Final = "/tmp/verify"  # noqa: S108 - in a container that does not exist
ROOT: Final = f"{PLACE}/un packed/toy-v1.2.3-linux64"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def craft(world: World) -> Craft:
    return make_craft(world)


@pytest.fixture
def tests_directory(world: World) -> Path:
    return world.ctx.root / "translation_configs" / "toy" / "programs"


def session_of(subject: Installed) -> FakeSession:
    assert isinstance(subject.session, FakeSession)
    return subject.session


def configured(craft: Craft, **changes: object) -> Craft:
    """Return *craft* with its job's translation changed."""
    translation = craft.job.interpreter.translation.model_copy(update=changes)
    interpreter = craft.job.interpreter.model_copy(update={"translation": translation})
    craft.job = craft.job.model_copy(update={"interpreter": interpreter})
    return craft


def test_gates_measure_what_they_saw(craft: Craft, tests_directory: Path) -> None:
    subject = running(craft, tests_directory)

    results, failures = check_gates(SMOKE_GATES + PROOF_GATES, subject)

    assert failures == []
    assert {result.gate: result.measured for result in results} == {
        "RUN01": "3 smoke tests in clean-old",
        "OPT01": "gc=incminimark jit=True",
        "OPT02": "1 loops compiled",
        "OPT03": "1 gc-minor, 1 gc-collect-step",
    }


def test_smoke_tests_run_where_the_archive_was_unpacked(
    craft: Craft, tests_directory: Path
) -> None:
    subject = running(craft, tests_directory)

    check_gates(SMOKE_GATES, subject)

    calls = session_of(subject).calls
    assert [call.argv for call in calls] == [
        (f"{ROOT}/bin/toy", "--version"),
        (f"{ROOT}/bin/toy", f"{PLACE}/tests/sum.toy", f"{PLACE}/scratch"),
        (f"{ROOT}/bin/toy", "--bad"),
    ]
    assert {call.directory for call in calls} == {f"{PLACE}/scratch"}
    assert {call.timeout for call in calls} == {60}


def test_every_failing_smoke_test_is_reported(craft: Craft, tests_directory: Path) -> None:
    craft.answers = {
        ("--version",): Answer(status=1, stdout="toy 1.2.3\n"),
        ("--bad",): Answer(status=2, stderr="?"),
    }

    _, failures = check_gates(SMOKE_GATES, running(craft, tests_directory))

    assert [line.split(": ")[2] for line in failures] == [
        "smoke test version",
        "smoke test error",
    ]


@pytest.mark.parametrize(
    ("program", "variables"),
    [
        ("hot.toy", {"PYPYLOG": f"jit-log-opt,jit-summary:{PLACE}/log"}),
        ("allocate.toy", {"PYPYLOG": f"gc:{PLACE}/log"}),
    ],
    ids=["jit", "gc"],
)
def test_proofs_ask_rpython_for_its_log(
    program: str, variables: Mapping[str, str], craft: Craft, tests_directory: Path
) -> None:
    subject = running(craft, tests_directory)

    check_gates(PROOF_GATES, subject)

    (call,) = (item for item in session_of(subject).calls if item.argv[-1].endswith(program))
    assert call.environment == variables


def test_a_log_is_gone_before_the_next_proof(craft: Craft, tests_directory: Path) -> None:
    subject = running(craft, tests_directory)

    check_gates(PROOF_GATES, subject)

    words = [call.argv[0] for call in session_of(subject).calls]
    assert words == [f"{ROOT}/bin/toy"] * 2 + ["cat", "rm"] + [f"{ROOT}/bin/toy", "cat", "rm"]


def test_a_program_that_writes_no_log_proves_nothing(craft: Craft, tests_directory: Path) -> None:
    craft.answers = {("cat", f"{PLACE}/log"): Answer(status=1, stderr="cat: no such file")}

    _, failures = check_gates(PROOF_GATES, running(craft, tests_directory))

    assert [line.split()[0] for line in failures] == ["OPT02", "OPT03"]
    assert all("cat: no such file; expected success and a log" in line for line in failures)


def test_without_a_jit_no_loop_may_be_compiled(craft: Craft, tests_directory: Path) -> None:
    craft = configured(craft, jit=False)
    craft.answers = {("--info",): Answer(stdout="gc=incminimark\njit=False\n")}
    craft.jit_log = JIT_LOG

    _, failures = check_gates(PROOF_GATES, running(craft, tests_directory))

    assert failures == [
        (
            "OPT02 the JIT compiles a hot loop: toy-v1.2.3-linux64.tar.gz: jit log: "
            "1 loops compiled; expected none, without a JIT"
        )
    ]


def test_without_a_jit_an_empty_log_is_right(craft: Craft, tests_directory: Path) -> None:
    craft = configured(craft, jit=False)
    craft.answers = {("--info",): Answer(stdout="gc=incminimark\njit=False\n")}
    craft.jit_log = ""

    _, failures = check_gates(PROOF_GATES, running(craft, tests_directory))

    assert failures == []


@pytest.mark.parametrize(
    ("collector", "log"),
    [
        ("incminimark", GC_LOG),
        ("minimark", "[1] {gc-minor\n[2] {gc-collect\n"),
    ],
)
def test_each_collector_is_known_by_its_log(
    collector: str, log: str, craft: Craft, tests_directory: Path
) -> None:
    craft = configured(craft, gc=collector)
    craft.answers = {("--info",): Answer(stdout=f"gc={collector}\njit=True\n")}
    craft.gc_log = log

    _, failures = check_gates(PROOF_GATES, running(craft, tests_directory))

    assert failures == []


def test_a_collector_whose_log_is_not_known_is_not_taken_for_proved(
    craft: Craft, tests_directory: Path
) -> None:
    craft = configured(craft, gc="semispace")
    craft.answers = {("--info",): Answer(stdout="gc=semispace\njit=True\n")}

    _, failures = check_gates(PROOF_GATES, running(craft, tests_directory))

    assert [line.split()[0] for line in failures] == ["OPT03"]


def test_the_end_of_a_section_is_not_taken_for_one(craft: Craft, tests_directory: Path) -> None:
    craft.jit_log = "[2] jit-log-opt-loop}\n[3] {jit-log-opt-bridge\n# {jit-log-opt-loop in text\n"

    _, failures = check_gates(PROOF_GATES, running(craft, tests_directory))

    assert [line.split()[0] for line in failures] == ["OPT02"]


@pytest.fixture
def environment(world: World) -> Environment:
    image_id = world.engine.add_image("clean")
    return Environment(
        name="clean-old", digest=digest("clean"), image_id=image_id, packages=("a 1",)
    )


def test_an_archive_is_unpacked_by_the_container_s_own_tar(
    world: World, craft: Craft, environment: Environment, tmp_path: Path
) -> None:
    archive, _ = write_archives(craft, tmp_path / "archives").values()

    with installed(world.ctx, craft.job, archive, environment) as subject:
        session = session_of(subject)

    assert [call.argv for call in session.calls] == [
        ("tar", "-xf", f"{PLACE}/{archive.name}", "-C", f"{PLACE}/un packed")
    ]


def test_archive_and_test_files_are_copied_for_an_ordinary_user(
    world: World, craft: Craft, environment: Environment, tmp_path: Path
) -> None:
    archive, _ = write_archives(craft, tmp_path / "archives").values()

    with installed(world.ctx, craft.job, archive, environment) as subject:
        ((directory, members),) = session_of(subject).copied

    assert directory == "/tmp"  # noqa: S108 - in the container
    assert {member.name for member in members if member.isfile()} == {
        f"verify/{archive.name}",
        "verify/tests/allocate.toy",
        "verify/tests/hot.toy",
        "verify/tests/sum.expected",
        "verify/tests/sum.toy",
    }
    assert {"verify/un packed", "verify/scratch"} <= {
        member.name for member in members if member.isdir()
    }
    assert {(member.uid, member.gid) for member in members} == {(1000, 1000)}


def test_an_archive_that_tar_cannot_unpack_is_named(
    world: World, craft: Craft, environment: Environment, tmp_path: Path
) -> None:
    world.engine.answers[(f"{PLACE}/un packed",)] = Answer(status=2, stderr="tar: Damaged archive")
    archive, _ = write_archives(craft, tmp_path / "archives").values()

    with (
        pytest.raises(CommandError, match=r"linux64\.tar\.gz: tar in clean-old: tar: Damaged"),
        installed(world.ctx, craft.job, archive, environment),
    ):
        pytest.fail("the block must not be entered")
