"""The gates that run an archive; their faults are in test_gates.py, here is how they run it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.console import Step
from pipeline.errors import CommandError
from pipeline.model.configs import SmokeTest
from pipeline.model.platforms import Mode
from pipeline.model.records import Environment
from pipeline.verify.gates import Gate, check_gates
from pipeline.verify.running import (
    IMPORTER,
    MODULES_GATE,
    PROOF_GATES,
    REPORT_GATE,
    Installed,
    expected_options,
    expected_report,
    installed,
    smoke_gates,
    wanted_imports,
)
from tests.crafted import Craft, make_craft, make_pypy_craft, report, running, write_archives
from tests.factories import changed, make_interpreter, make_job, make_platform
from tests.fakes import GC_LOG, JIT_LOG, Answer, FakeSession, World, digest, make_world
from tests.unit.verify.faults import make_pypy, told_options

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


def smoke(craft: Craft, environment: str = "clean-old") -> tuple[Gate[Installed], ...]:
    return smoke_gates(craft.job.interpreter.verify.smoke, environment)


def configured(craft: Craft, **changes: object) -> Craft:
    """Return *craft* with its job's translation changed."""
    translation = craft.job.interpreter.translation.model_copy(update=changes)
    interpreter = craft.job.interpreter.model_copy(update={"translation": translation})
    craft.job = craft.job.model_copy(update={"interpreter": interpreter})
    return craft


def test_gates_measure_what_they_saw(craft: Craft, tests_directory: Path) -> None:
    subject = running(craft, tests_directory)

    results, failures = check_gates(smoke(craft) + PROOF_GATES, subject)

    assert failures == []
    assert {result.gate: result.measured for result in results} == {
        "RUN01": "3 smoke tests in clean-old",
        "OPT01": "gc=incminimark jit=True, 2 options",
        "OPT02": "1 loops compiled",
        "OPT03": "1 gc-minor, 1 gc-collect-step",
    }


def test_smoke_tests_run_where_the_archive_was_unpacked(
    craft: Craft, tests_directory: Path
) -> None:
    subject = running(craft, tests_directory)

    check_gates(smoke(craft), subject)

    calls = session_of(subject).calls
    assert [call.argv for call in calls] == [
        (f"{ROOT}/bin/toy", "--version"),
        (f"{ROOT}/bin/toy", f"{PLACE}/tests/sum.toy", f"{PLACE}/scratch"),
        (f"{ROOT}/bin/toy", "--bad"),
    ]
    assert {call.directory for call in calls} == {f"{PLACE}/scratch"}
    assert {call.timeout for call in calls} == {60}


@pytest.mark.parametrize(
    ("mode", "host", "emulated"),
    [
        pytest.param(Mode.CROSS, "linux-aarch64", True, id="another-processor"),
        pytest.param(Mode.CROSS, "linux-x86_64", False, id="the-same-processor"),
        pytest.param(Mode.EMULATED, "linux-x86_64", True, id="emulated"),
    ],
)
def test_programs_that_are_emulated_may_take_longer(
    mode: Mode, host: str, *, emulated: bool, craft: Craft, tests_directory: Path
) -> None:
    craft.job = craft.job.model_copy(update={"mode": mode, "host": make_platform(host)})
    subject = running(craft, tests_directory)

    check_gates(smoke(craft), subject)

    factor = craft.job.interpreter.translation.emulation_factor if emulated else 1
    assert {call.timeout for call in session_of(subject).calls} == {60 * factor}


def test_every_failing_smoke_test_is_reported(craft: Craft, tests_directory: Path) -> None:
    craft.answers = {
        ("--version",): Answer(status=1, stdout="toy 1.2.3\n"),
        ("--bad",): Answer(status=2, stderr="?"),
    }

    _, failures = check_gates(smoke(craft), running(craft, tests_directory))

    assert [line.split(": ")[3] for line in failures] == [
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
def step(world: World) -> Iterator[Step]:
    with world.ctx.console.step("verify") as step:
        yield step


@pytest.fixture
def environment(world: World) -> Environment:
    image_id = world.engine.add_image("clean")
    return Environment(
        name="clean-old", digest=digest("clean"), image_id=image_id, packages=("a 1",)
    )


def test_an_archive_is_unpacked_by_the_container_s_own_tar(
    world: World, craft: Craft, environment: Environment, step: Step, tmp_path: Path
) -> None:
    archive, _ = write_archives(craft, tmp_path / "archives").values()

    with installed(world.ctx, craft.job, archive, environment, step) as subject:
        session = session_of(subject)

    assert [call.argv for call in session.calls] == [
        ("tar", "-xf", f"{PLACE}/{archive.name}", "-C", f"{PLACE}/un packed")
    ]


def test_archive_and_test_files_are_copied_for_an_ordinary_user(
    world: World, craft: Craft, environment: Environment, step: Step, tmp_path: Path
) -> None:
    archive, _ = write_archives(craft, tmp_path / "archives").values()

    with installed(world.ctx, craft.job, archive, environment, step) as subject:
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


def test_pins_that_a_smoke_test_needs_are_unpacked_beside_its_files(
    world: World, craft: Craft, environment: Environment, step: Step, tmp_path: Path
) -> None:
    archive, _ = write_archives(craft, tmp_path / "archives").values()
    rules = changed(craft.job.interpreter.verify, toolchain=("rpython", "py"))
    craft.job = changed(craft.job, interpreter=changed(craft.job.interpreter, verify=rules))

    with installed(world.ctx, craft.job, archive, environment, step) as subject:
        ((_, members),) = session_of(subject).copied

    names = {member.name for member in members}
    assert "verify/toolchain/rpython/translator/__init__.py" in names
    assert "verify/toolchain/py/__init__.py" in names


def test_an_archive_that_tar_cannot_unpack_is_named(
    world: World, craft: Craft, environment: Environment, step: Step, tmp_path: Path
) -> None:
    world.engine.answers[(f"{PLACE}/un packed",)] = Answer(status=2, stderr="tar: Damaged archive")
    archive, _ = write_archives(craft, tmp_path / "archives").values()

    with (
        pytest.raises(CommandError, match=r"linux64\.tar\.gz: tar in clean-old: tar: Damaged"),
        installed(world.ctx, craft.job, archive, environment, step),
    ):
        pytest.fail("the block must not be entered")


def smoke_test(name: str, **fields: object) -> SmokeTest:
    return SmokeTest.model_validate({"name": name, "argv": ("{root}/bin/toy", name), **fields})


def test_smoke_tests_with_one_id_are_one_gate() -> None:
    tests = (
        smoke_test("tls", gate="RUN02"),
        smoke_test("hello", gate="RUN01"),
        smoke_test("proxy", gate="RUN02"),
    )

    gates = smoke_gates(tests, "clean-old")

    assert [(gate.identifier, gate.title) for gate in gates] == [
        ("RUN01", "runs: hello"),
        ("RUN02", "runs: tls, proxy"),
    ]


@pytest.mark.parametrize(
    ("environment", "ids"),
    [("clean-old", ["RUN01"]), ("compiler", ["RUN01", "RUN02"])],
    ids=["another one", "the one"],
)
def test_a_smoke_test_is_run_in_its_environments_only(environment: str, ids: list[str]) -> None:
    tests = (
        smoke_test("hello", gate="RUN01"),
        smoke_test("build", gate="RUN02", environments=("compiler",)),
    )

    gates = smoke_gates(tests, environment)

    assert [gate.identifier for gate in gates] == ids


@pytest.fixture
def pypy() -> Craft:
    return make_pypy_craft()


def test_gates_of_pypy_measure_what_they_saw(pypy: Craft, tmp_path: Path) -> None:
    subject = running(pypy, tmp_path, "clean")

    results, failures = check_gates((MODULES_GATE, REPORT_GATE), subject)

    assert failures == []
    count = len(wanted_imports(pypy.job.interpreter, "clean"))
    assert {result.gate: result.measured for result in results} == {
        "MOD01": f"{count} extension modules in clean",
        "IDN03": "3.11.15 (194f9f44b505, May 25 2026) [PyPy 7.3.23]",
    }


def test_all_modules_are_imported_by_one_command(pypy: Craft, tmp_path: Path) -> None:
    subject = running(pypy, tmp_path, "clean")

    check_gates((MODULES_GATE,), subject)

    (call,) = session_of(subject).calls
    assert call.argv == (
        f"{PLACE}/un packed/pypy3.11-v7.3.23-linux64/bin/pypy3.11",
        *("-W", "ignore", "-c", IMPORTER),
        *wanted_imports(pypy.job.interpreter, "clean"),
    )
    assert "_ssl" in call.argv


def test_every_module_that_cannot_be_imported_is_reported(pypy: Craft, tmp_path: Path) -> None:
    names = wanted_imports(pypy.job.interpreter, "clean")
    told = "_ssl: ImportError: a\nssl: ImportError: b\n"
    pypy.answer("-c", IMPORTER, *names, answer=Answer(status=1, stdout=told))

    _, failures = check_gates((MODULES_GATE,), running(pypy, tmp_path, "clean"))

    assert [line.split(": ", 3)[3] for line in failures] == [
        "_ssl: ImportError: a; expected that it is imported",
        "ssl: ImportError: b; expected that it is imported",
    ]


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [("clean", {"_ssl"}), ("compiler", {"_ssl", "_tkinter"})],
    ids=["without its libraries", "with its libraries"],
)
def test_a_module_is_imported_only_where_its_libraries_are(
    environment: str, wanted: set[str], pypy: Craft
) -> None:
    names = wanted_imports(pypy.job.interpreter, environment)

    assert {"_ssl", "_tkinter"} & set(names) == wanted


def test_a_plain_program_has_no_modules_to_import(craft: Craft, tests_directory: Path) -> None:
    subject = running(craft, tests_directory)

    results, _ = check_gates((MODULES_GATE,), subject)

    assert wanted_imports(make_interpreter(), "clean-old") == ()
    assert [result.measured for result in results] == ["none"]
    assert session_of(subject).calls == []


def test_a_modified_source_must_be_told(pypy: Craft, tmp_path: Path) -> None:
    revision = changed(pypy.job.revision, dirty=True)
    pypy.job = changed(pypy.job, revision=revision)
    told = report(pypy.job, revision="194f9f44b505+")
    pypy.answer(f"{PLACE}/tests/report.py", answer=Answer(stdout=told))

    _, failures = check_gates((REPORT_GATE,), running(pypy, tmp_path))

    assert failures == []


def test_every_option_that_is_another_is_reported(tmp_path: Path) -> None:
    pypy = make_pypy()
    told = told_options(pypy.job, translation__gc="minimark", translation__thread=False)
    pypy.answer(f"{PLACE}/tests/translation_info.py", answer=Answer(stdout=told))

    _, failures = check_gates(PROOF_GATES[:1], running(pypy, tmp_path))

    assert [line.rsplit(": ", 1)[1] for line in failures] == [
        "translation.gc is 'minimark'; expected translation.gc 'incminimark'",
        "translation.thread is False; expected translation.thread True",
    ]


def test_all_options_of_pypy_are_counted(tmp_path: Path) -> None:
    pypy = make_pypy()

    results, _ = check_gates(PROOF_GATES[:1], running(pypy, tmp_path))

    count = len(pypy.job.interpreter.verify.translation_info) + 2
    assert [result.measured for result in results] == [f"gc=incminimark jit=True, {count} options"]


def test_modules_of_the_target_s_options_are_expected(craft: Craft) -> None:
    options = ("--withmod-_cppyy", "--withoutmod-micronumpy", "--translationmodules")

    expected = list(expected_options(configured(craft, target_options=options).job))

    assert expected == [
        ("translation.gc", "incminimark"),
        ("translation.jit", True),
        ("objspace.usemodules._cppyy", True),
        ("objspace.usemodules.micronumpy", False),
    ]


def test_everything_that_is_told_wrong_is_reported(pypy: Craft, tmp_path: Path) -> None:
    told = report(pypy.job, machine="aarch64", language_version="3.11.13")
    pypy.answer(f"{PLACE}/tests/report.py", answer=Answer(stdout=told))

    _, failures = check_gates((REPORT_GATE,), running(pypy, tmp_path))

    assert [line.rsplit(": ", 1)[1] for line in failures] == [
        "language_version is '3.11.13'; expected '3.11.15'",
        "machine is 'aarch64'; expected 'x86_64'",
    ]


def test_an_interpreter_without_extension_modules_says_nothing_of_them() -> None:
    told = expected_report(make_job())

    assert "extension_suffix" not in told
    assert told["implementation"] == "demo"
