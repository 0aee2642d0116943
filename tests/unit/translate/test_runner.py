"""How a translation is run, and how it fails."""

import io
import os
from pathlib import Path

import pytest

from pipeline.environment import ready_environment
from pipeline.errors import StepSilentError, StepTimeoutError, TranslationError, UnsafeArchiveError
from pipeline.model.records import Environment, SourceTree, Translation
from pipeline.plan import Job
from pipeline.translate.command import PHASES, translation_command, translation_environment
from pipeline.translate.runner import LAST_LINES, LogFollower, translate, translation_inputs
from tests.fakes import (
    ELF,
    RESOURCES,
    Ran,
    World,
    digest,
    make_job,
    make_world,
    replace_text,
    stage_output,
)

KEY = "a1b2c3d4e5f60718" + "0" * 48


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def job(world: World) -> Job:
    return make_job(world.ctx)


@pytest.fixture
def environment(world: World, job: Job) -> Environment:
    return ready_environment(world.ctx, "translate", job.platform)


def run(world: World, job: Job, environment: Environment, source: Path = ELF) -> Translation:
    with stage_output(world.ctx, KEY) as stage:
        return translate(world.ctx, job, source, environment, stage)


def output(world: World) -> Path:
    return world.ctx.work.path("stage", KEY)


def log_path(world: World) -> Path:
    return world.ctx.work.path("logs", "toy-linux-x86_64-a1b2c3d4e5f6.log")


def test_a_translation_is_recorded(world: World, job: Job, environment: Environment) -> None:
    record = run(world, job, environment)

    assert record.executable == "toy"
    assert record.size == ELF.stat().st_size
    assert record.environment == environment.digest
    assert record.command == translation_command(job, world.engine.told.cpus)
    assert [(phase.name, phase.seconds) for phase in record.phases] == [("annotate", 20.2)]
    assert record.resources.peak_bytes == 512 << 20


def test_the_executable_is_left_ready_to_run(
    world: World, job: Job, environment: Environment
) -> None:
    run(world, job, environment)

    executable = output(world) / "toy"
    assert executable.read_bytes() == ELF.read_bytes()
    assert os.access(executable, os.X_OK)


def test_the_log_is_kept_beside_the_executable_and_in_the_logs(
    world: World, job: Job, environment: Environment
) -> None:
    run(world, job, environment)

    text = (output(world) / "translation.log").read_text(encoding="utf-8")
    assert "starting annotate\n" in text
    assert log_path(world).read_text(encoding="utf-8") == text


def test_the_step_is_confined_limited_and_named_after_its_key(
    world: World, job: Job, environment: Environment, tmp_path: Path
) -> None:
    source = tmp_path / "source.tar"
    source.write_bytes(b"")

    run(world, job, environment, source)

    (step,) = world.engine.steps
    assert step.name == "translate-a1b2c3d4e5f60718"
    assert step.image_id == environment.image_id
    assert step.inputs == (source,)
    assert step.environment == translation_environment(job)
    assert (step.directory, step.output) == ("/build/source", "/build/out")
    assert (step.timeout, step.silence) == (100, 50)
    assert step.seccomp == '{"defaultAction": "SCMP_ACT_ALLOW"}\n'
    assert step.user == "1000:1000"


def test_a_failing_translation_shows_its_last_lines_and_where_the_log_is(
    world: World, job: Job, environment: Environment
) -> None:
    lines = tuple(f"line {number}" for number in range(100))
    world.engine.scripts["translate"] = lambda _step: Ran(status=1, lines=lines)

    with pytest.raises(TranslationError) as caught:
        run(world, job, environment)

    head, *shown = str(caught.value).splitlines()
    assert head == f"exit status 1; the whole log is {log_path(world)}"
    assert shown == list(lines[-LAST_LINES:])
    assert log_path(world).read_text(encoding="utf-8").splitlines() == list(lines)


@pytest.mark.parametrize("error", [StepTimeoutError, StepSilentError])
def test_a_stopped_translation_stays_one_and_shows_its_last_lines(
    error: type[Exception], world: World, job: Job, environment: Environment
) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(
        lines=("starting annotate",), error=error("stopped.")
    )

    with pytest.raises(error) as caught:
        run(world, job, environment)

    message = str(caught.value)
    assert message.startswith("stopped. The whole log is ")
    assert str(log_path(world)) in message
    assert message.endswith("\nstarting annotate")


def test_a_translation_without_an_executable_is_a_failure(
    world: World, job: Job, environment: Environment
) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(files={"resources": b"1 1 1 1"})

    with pytest.raises(TranslationError, match=r"reported success, but wrote no /build/out/toy"):
        run(world, job, environment)


def test_a_link_is_not_an_executable(world: World, job: Job, environment: Environment) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(
        files={"resources": RESOURCES.encode(), "other": ELF}, links={"toy": "other"}
    )

    with pytest.raises(TranslationError, match="wrote no /build/out/toy"):
        run(world, job, environment)


def test_an_output_that_reaches_outside_is_refused(
    world: World, job: Job, environment: Environment
) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(files={"../../escape": b""})

    with pytest.raises(UnsafeArchiveError, match="escape"):
        run(world, job, environment)


@pytest.fixture
def source(job: Job) -> SourceTree:
    return SourceTree(revision=job.revision, archive="source.tar", sha256=digest("s"), size=1)


CHANGES: dict[str, tuple[str, str]] = {
    "collector": ('gc = "incminimark"', 'gc = "minimark"'),
    "jit": ("jit = true", "jit = false"),
    "options": ('"--lldebug"', '"--no-shared"'),
    "target": ("target.py", "other.py"),
    "target options": ('"--fast"', '"--slow"'),
    "bootstrap": ('"pypy", "-S"', '"python2"'),
    "variables": ("64MB", "32MB"),
    "executable": ('executable = "toy"', 'executable = "toy2"'),
    "date": ("2026-01-01", "2026-01-02"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_decides_the_binary_is_an_input(
    change: tuple[str, str],
    world: World,
    job: Job,
    source: SourceTree,
    environment: Environment,
) -> None:
    before = translation_inputs(job, source, environment)
    replace_text(world.ctx.root / "translation_configs" / "toy.toml", *change)

    after = translation_inputs(make_job(world.again().ctx), source, environment)

    assert after != before


def test_source_and_environment_are_inputs_and_the_image_s_id_is_none(
    job: Job, source: SourceTree, environment: Environment
) -> None:
    before = translation_inputs(job, source, environment)
    other_source = source.model_copy(update={"sha256": digest("other")})
    other_content = environment.model_copy(update={"digest": digest("other")})
    other_image = environment.model_copy(update={"image_id": "sha256:other"})

    assert translation_inputs(job, other_source, environment) != before
    assert translation_inputs(job, source, other_content) != before
    assert translation_inputs(job, source, other_image) == before


@pytest.mark.parametrize(
    "change",
    [("timeout = 100", "timeout = 200"), ("silence = 50", "silence = 60")],
    ids=["timeout", "silence"],
)
def test_limits_do_not_decide_the_binary(
    change: tuple[str, str],
    world: World,
    job: Job,
    source: SourceTree,
    environment: Environment,
) -> None:
    before = translation_inputs(job, source, environment)
    replace_text(world.ctx.root / "translation_configs" / "toy.toml", *change)

    after = translation_inputs(make_job(world.again().ctx), source, environment)

    assert after == before


def test_the_number_of_make_jobs_is_no_input(
    job: Job, source: SourceTree, environment: Environment
) -> None:
    assert "make-jobs" not in repr(translation_inputs(job, source, environment))


def test_the_follower_shows_each_phase_with_its_number(world: World) -> None:
    file = io.StringIO()
    with world.ctx.console.step("translate") as step:
        follower = LogFollower(file, step)
        for line in ("noise", "starting annotate", "starting compile_c"):
            follower(line)

    shown = world.text.getvalue()
    assert f"translate: annotate (1/{len(PHASES)})" in shown
    assert f"translate: compile_c ({len(PHASES)}/{len(PHASES)})" in shown
    assert "noise" not in shown
    assert file.getvalue() == "noise\nstarting annotate\nstarting compile_c\n"
