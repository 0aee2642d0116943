"""What doctor finds out about an engine elsewhere: what it says, and what its containers say."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline import engine_checks
from pipeline.effects.engine import ContainerStep
from pipeline.engine_checks import CheckResult, Status, check_engine_for
from pipeline.environment import ready_environment
from pipeline.errors import EngineUnavailableError
from pipeline.model.platforms import Placement
from tests.fakes import Answer, FakeEngine, Ran, World, make_world

GIB = 1 << 30
ROW = "linux-aarch64"


def df(free: int) -> Answer:
    """Return what df says where so many KiB are free."""
    head = "Filesystem 1024-blocks Used Available Capacity Mounted on"
    return Answer(stdout=f"{head}\noverlay 100000000 1 {free} 5% /\n")


@dataclass(kw_only=True)
class Farm:
    """The toy's world with a good engine on another machine, which has an environment."""

    world: World
    engine: FakeEngine
    programs: Path

    def check(self) -> dict[str, CheckResult]:
        """Return every check of that engine by name, without the platform's."""
        row = self.world.ctx.config.platforms[ROW]
        results = tuple(check_engine_for(self.world.ctx, row))
        assert all(result.name.startswith(f"{ROW}: ") for result in results)
        return {result.name.removeprefix(f"{ROW}: "): result for result in results}


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    world, engine = make_world(tmp_path / "project"), FakeEngine()
    engine.told = replace(engine.told, machine="aarch64")
    engine.machine = "arm64"
    engine.scripts["probe"] = lambda _step: Ran(lines=("ok",))
    engine.answers[("df", "-Pk", "/")] = df(50 << 20)
    world = world.again(engines={ROW: engine})
    placement = Placement(host=world.ctx.config.platforms[ROW])
    ready_environment(world.ctx.for_platform(ROW), "clean-old", placement)
    programs = tmp_path / "arch-test"
    programs.mkdir()
    (programs / "arm64").write_bytes(b"\x7fELF")
    monkeypatch.setattr(engine_checks, "ARCH_TEST", programs)
    return Farm(world=world, engine=engine, programs=programs)


def test_a_good_engine_passes_every_check(farm: Farm) -> None:
    results = farm.check()

    assert {name: result.status for name, result in results.items()} == dict.fromkeys(
        ["engine", "memory", "disk", "programs of aarch64"], Status.OK
    )
    assert results["disk"].found == "50.0 GiB free for containers"
    assert farm.world.engine.asked == []


def test_the_smallest_program_of_the_platform_is_run_in_an_image_of_its_own(farm: Farm) -> None:
    farm.check()

    tag, arguments, members = farm.engine.built[-1]
    (step,) = farm.engine.steps
    assert tag == "rpython-pipeline/probe:linux-aarch64"
    assert arguments == {}
    assert [(member.name, member.mode) for member in members] == [
        ("Dockerfile", 0o644),
        ("probe", 0o755),
    ]
    assert step.image_id == farm.engine.images[tag].image_id
    assert step.command == ("/probe/run",)


def not_there(farm: Farm) -> None:
    farm.engine.silent = EngineUnavailableError("no container engine answers at ssh://arm")


def of_another_kind(farm: Farm) -> None:
    farm.engine.told = replace(farm.engine.told, machine="sparc64")


def little_memory(farm: Farm) -> None:
    farm.engine.told = replace(farm.engine.told, memory=2 * GIB - 1)


def little_disk(farm: Farm) -> None:
    farm.engine.answers[("df", "-Pk", "/")] = df((4 << 20) - 1)


def no_emulator(farm: Farm) -> None:
    farm.engine.scripts["probe"] = cannot_execute


def cannot_execute(_step: ContainerStep) -> Ran:
    return Ran(status=255, lines=("exec /probe/run: exec format error",))


FAILURES: dict[str, tuple[Callable[[Farm], None], str, str]] = {
    "not there": (not_there, "engine", "no container engine answers at ssh://arm"),
    "another kind": (of_another_kind, "engine", "Use an engine on one of: aarch64, amd64, arm64"),
    "little memory": (little_memory, "memory", "use a larger machine"),
    "little disk": (little_disk, "disk", "Free 4 GiB where that engine keeps its images."),
    "no emulator": (no_emulator, "programs of aarch64", "On that machine: Install qemu-user"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failed_check_says_what_to_do_and_no_other_fails(
    failure: tuple[Callable[[Farm], None], str, str], farm: Farm
) -> None:
    spoil, name, fix = failure
    spoil(farm)

    results = farm.check()

    assert [key for key, item in results.items() if item.status is Status.FAILED] == [name]
    assert fix in results[name].fix


def test_of_an_engine_that_does_not_answer_nothing_else_is_asked(farm: Farm) -> None:
    before = list(farm.engine.asked)
    not_there(farm)

    results = farm.check()

    assert list(results) == ["engine", "memory"]
    assert results["memory"].status is Status.WARNING
    assert farm.engine.asked == before


def test_the_disk_of_an_engine_without_an_environment_is_not_known(farm: Farm) -> None:
    farm.engine.images.clear()

    results = farm.check()

    assert results["disk"].status is Status.WARNING
    assert results["programs of aarch64"].status is Status.OK


def test_without_a_program_to_run_the_emulator_is_not_known(farm: Farm) -> None:
    (farm.programs / "arm64").unlink()

    result = farm.check()["programs of aarch64"]

    assert (result.status, result.fix) == (Status.WARNING, "apt-get install arch-test")
    assert farm.engine.steps == []


def test_a_worker_without_containers_has_no_containers_to_ask(farm: Farm) -> None:
    farm.engine.contained = False

    assert list(farm.check()) == ["engine", "memory"]
