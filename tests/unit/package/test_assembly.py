"""How a container assembles a tree, whatever the kind of package."""

from pathlib import Path
from typing import Final

import pytest

from pipeline.environment import ready_environment
from pipeline.errors import PackageError, StepTimeoutError, UnsafeArchiveError
from pipeline.package.assembly import LAST_LINES, Assembly, run_assembly
from tests.fakes import EPOCH, Ran, World, make_job, make_world, stage_output

KEY: Final = "a1b2c3d4e5f60718" + "0" * 48


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def run(world: World, temporary: Path, **environment: str) -> Path:
    job = make_job(world.ctx)
    image = ready_environment(world.ctx, "translate", job.placement)
    assembly = Assembly(
        command=("make", "tree"), inputs=(), timeout=77, environment=dict(environment)
    )
    temporary.mkdir(exist_ok=True)
    with stage_output(world.ctx, KEY) as stage:
        return run_assembly(world.ctx, job, assembly, image, temporary, stage)


def log_path(world: World) -> Path:
    return world.ctx.work.path("logs", "toy-linux-x86_64-package-a1b2c3d4e5f6.log")


def test_what_was_written_is_there(world: World, tmp_path: Path) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(files={"tree/LICENSE": b"MIT"})

    output = run(world, tmp_path / "temporary")

    assert (output / "tree" / "LICENSE").read_bytes() == b"MIT"


def test_the_step_is_named_after_its_key_and_limited(world: World, tmp_path: Path) -> None:
    world.engine.scripts["package"] = lambda _step: Ran()

    run(world, tmp_path / "temporary", TZ="UTC")

    (step,) = world.engine.steps
    assert step.name == "package-a1b2c3d4e5f60718"
    assert step.command == ("make", "tree")
    assert (step.directory, step.output) == ("/build", "/build/out")
    assert (step.timeout, step.silence) == (77, 77)
    assert step.environment == {
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "TZ": "UTC",
    }
    assert step.user == "1000:1000"


def test_the_log_is_kept(world: World, tmp_path: Path) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(lines=("cc -c ssl.c", "done"))

    run(world, tmp_path / "temporary")

    assert log_path(world).read_text(encoding="utf-8") == "cc -c ssl.c\ndone\n"


def test_a_failing_assembly_shows_its_last_lines_and_where_the_log_is(
    world: World, tmp_path: Path
) -> None:
    lines = tuple(f"line {number}" for number in range(100))
    world.engine.scripts["package"] = lambda _step: Ran(status=1, lines=lines)

    with pytest.raises(PackageError) as caught:
        run(world, tmp_path / "temporary")

    head, *shown = str(caught.value).splitlines()
    assert head == f"exit status 1; the whole log is {log_path(world)}"
    assert shown == list(lines[-LAST_LINES:])
    assert log_path(world).read_text(encoding="utf-8").splitlines() == list(lines)


def test_the_log_of_a_stopped_assembly_is_kept(world: World, tmp_path: Path) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(
        lines=("cc -c ssl.c",), error=StepTimeoutError("stopped.")
    )

    with pytest.raises(StepTimeoutError):
        run(world, tmp_path / "temporary")

    assert log_path(world).read_text(encoding="utf-8") == "cc -c ssl.c\n"


def test_an_assembly_that_writes_outside_is_refused(world: World, tmp_path: Path) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(files={"../../evil": b""})

    with pytest.raises(UnsafeArchiveError, match="evil"):
        run(world, tmp_path / "temporary")
