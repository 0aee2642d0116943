"""What an engine lacks is found before the work begins, with what to do about it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import preflight
from pipeline.effects.engine import EngineInfo
from pipeline.environment import ready_environment
from pipeline.errors import PreflightError
from pipeline.model.platforms import Placement
from pipeline.model.records import Environment
from pipeline.plan import Job
from pipeline.preflight import emulator_is_ready, ready_emulators, require_fit, require_runnable
from tests.factories import make_plan_for, make_platform
from tests.fakes import Answer, World, make_world

GIB = 1 << 30
READY = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def binfmt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the kernel's list of emulators; aarch64's is registered."""
    directory = tmp_path / "binfmt_misc"
    directory.mkdir()
    (directory / "qemu-aarch64").write_text(READY)
    monkeypatch.setattr(preflight, "BINFMT", directory)
    return directory


def job_for(platform: str) -> Job:
    (job,) = make_plan_for(platforms=(platform,)).jobs
    return job


def told(world: World, **changes: object) -> EngineInfo:
    return replace(world.engine.told, **changes)  # type: ignore[arg-type]


def test_an_engine_that_has_what_a_job_needs_is_fit(world: World, binfmt: Path) -> None:
    assert binfmt.is_dir()
    world.engine.told = told(world, memory=2 * GIB)

    require_fit(world.ctx, job_for("linux-x86_64"), translates=True)
    require_fit(world.ctx, job_for("linux-aarch64"), translates=True)


def test_too_little_memory_is_told_with_a_remedy(world: World) -> None:
    world.engine.told = told(world, memory=2 * GIB - 1)

    with pytest.raises(PreflightError) as caught:
        require_fit(world.ctx, job_for("linux-x86_64"), translates=True)

    assert "needs 2 GiB of memory, the engine has 2.0 GiB" in str(caught.value)
    assert "--engine linux-x86_64=ssh://HOST" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="not-registered"),
        pytest.param(READY.replace("enabled", "disabled"), id="disabled"),
        pytest.param(READY.replace("POCF", "POC"), id="not-inside-containers"),
        pytest.param("", id="empty"),
    ],
)
def test_a_missing_emulator_is_told_with_a_remedy(
    text: str | None, world: World, binfmt: Path
) -> None:
    (binfmt / "qemu-aarch64").unlink()
    if text is not None:
        (binfmt / "qemu-aarch64").write_text(text)

    assert not emulator_is_ready(make_platform("linux-aarch64"))
    with pytest.raises(PreflightError) as caught:
        require_fit(world.ctx, job_for("linux-aarch64"), translates=True)

    assert "no qemu-aarch64 with flag F. Install qemu-user-static" in str(caught.value)


def test_work_of_this_architecture_needs_no_emulator(world: World, binfmt: Path) -> None:
    (binfmt / "qemu-aarch64").unlink()

    require_fit(world.ctx, job_for("linux-x86_64"), translates=True)


def test_a_worker_runs_its_own_architecture_in_mode_cross_too(world: World, binfmt: Path) -> None:
    (binfmt / "qemu-aarch64").unlink()

    require_fit(world.ctx, job_for("linux-musl-x86_64"), translates=True)


@pytest.mark.parametrize(
    ("platform", "emulator"),
    [
        pytest.param("linux-s390x", "qemu-s390x", id="emulated"),
        pytest.param("linux-armhf", "qemu-arm", id="by-a-host-of-32-bits"),
        pytest.param("linux-musl-aarch64", "qemu-aarch64", id="musl"),
    ],
)
def test_every_foreign_platform_needs_its_own_emulator(
    platform: str, emulator: str, world: World, binfmt: Path
) -> None:
    (binfmt / "qemu-aarch64").unlink()

    with pytest.raises(PreflightError, match=f"programs of {platform} do not run .* {emulator}"):
        require_fit(world.ctx, job_for(platform), translates=True)

    (binfmt / emulator).write_text(READY)
    require_fit(world.ctx, job_for(platform), translates=True)


def test_everything_that_is_missing_is_told_at_once(world: World, binfmt: Path) -> None:
    (binfmt / "qemu-aarch64").unlink()
    world.engine.told = told(world, memory=GIB)

    with pytest.raises(PreflightError) as caught:
        require_fit(world.ctx, job_for("linux-aarch64"), translates=True)

    message = str(caught.value)
    assert message.startswith("this cannot be done here: translating demo needs 2 GiB of memory")
    assert "no qemu-aarch64 with flag F" in message


def test_a_list_of_emulators_that_is_not_text_is_none(binfmt: Path) -> None:
    (binfmt / "qemu-aarch64").unlink()
    (binfmt / "qemu-aarch64").mkdir()

    assert not emulator_is_ready(make_platform("linux-aarch64"))


def test_the_emulators_that_work_in_containers_are_listed(binfmt: Path) -> None:
    (binfmt / "qemu-s390x").write_text(READY)
    (binfmt / "qemu-arm").write_text(READY.replace("POCF", "POC"))
    (binfmt / "python3.11").write_text(READY)

    assert ready_emulators() == ("qemu-aarch64", "qemu-s390x")


def test_a_kernel_without_a_list_of_emulators_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "BINFMT", tmp_path / "absent")

    assert ready_emulators() == ()


COMPILE_AND_RUN = (
    "echo 'int main(void) { return 42; }' "
    "| aarch64-linux-gnu-gcc -x c -o /tmp/program - && /tmp/program"
)


@pytest.fixture
def environment(world: World) -> Environment:
    host = world.ctx.config.platforms["linux-x86_64"]
    made = ready_environment(world.ctx, "translate", Placement(host=host))
    world.engine.sessions.clear()
    return made


@pytest.mark.parametrize("status", [0, 1, 126, 127])
def test_an_engine_elsewhere_without_the_emulator_is_told_of(
    status: int, world: World, environment: Environment
) -> None:
    world.engine.answers[(COMPILE_AND_RUN,)] = Answer(status=status, stderr="exec format error")

    with pytest.raises(PreflightError, match=r"do not run in the engine's containers: exec format"):
        require_runnable(world.ctx, job_for("linux-aarch64"), environment)


def test_a_program_that_answers_is_enough(world: World, environment: Environment) -> None:
    world.engine.answers[(COMPILE_AND_RUN,)] = Answer(status=42)

    require_runnable(world.ctx, job_for("linux-aarch64"), environment)


@pytest.mark.parametrize("platform", ["linux-x86_64", "linux-s390x"])
def test_only_a_cross_environment_is_asked(
    platform: str, world: World, environment: Environment
) -> None:
    require_runnable(world.ctx, job_for(platform), environment)

    assert world.engine.sessions == []
