"""What a machine must have, what to do if it has not, and what provisioning changes."""

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

from pipeline import doctor, preflight
from pipeline.doctor import (
    ENGINE_WAIT,
    PACKAGES,
    diagnose,
    provision,
    require_healthy,
)
from pipeline.engine_checks import CheckResult, Status
from pipeline.errors import CommandError, EngineUnavailableError, PreflightError
from pipeline.model.configs import RegistryBase
from tests.fakes import NOW, Answer, FakeEngine, World, digest, expect_gpg, make_world, secret_key

GIB: Final = 1 << 30
FLAGS: Final = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\n"


@dataclass(kw_only=True)
class Machine:
    """A machine on which everything is as it should be, until a test spoils it."""

    world: World
    free: dict[str, int]
    binfmt: Path
    systemd: Path
    slept: list[float]
    waits: int = 0

    def sleep(self, seconds: float) -> None:
        """Wait no time at all; the engine may come up meanwhile."""
        self.slept.append(seconds)
        if len(self.slept) >= self.waits:
            self.world.engine.silent = None

    def diagnose(self) -> dict[str, CheckResult]:
        """Return every check by name."""
        ctx = self.world.ctx
        return {item.name: item for item in diagnose(ctx, ctx.config.channels.release)}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(
        world=make_world(tmp_path / "project"),
        free={},
        binfmt=tmp_path / "binfmt",
        systemd=tmp_path / "systemd",
        slept=[],
    )
    made.binfmt.mkdir()
    (made.binfmt / "status").write_text("enabled\n")
    (made.binfmt / "qemu-aarch64").write_text(FLAGS)
    made.world.http.dates["http://deb.debian.org/"] = NOW.timestamp()
    made.world.process.expect("dpkg-query", answer=Answer(stdout="installed"))
    made.world.process.expect("update-binfmts", "--import")
    made.world.process.expect("update-binfmts", "--enable")
    monkeypatch.setattr(doctor, "BINFMT", made.binfmt)
    monkeypatch.setattr(preflight, "BINFMT", made.binfmt)
    monkeypatch.setattr(doctor, "SYSTEMD", made.systemd)
    monkeypatch.setattr(doctor, "time", SimpleNamespace(sleep=made.sleep))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: SimpleNamespace(free=made.free.get(str(path), 100 * GIB)),
    )
    return made


def test_a_good_machine_passes_every_check(machine: Machine) -> None:
    results = machine.diagnose()

    assert {name: item.status for name, item in results.items()} == dict.fromkeys(
        [
            *("engine", "memory", "disk, work directory", "tool gpg", "tool gpgv", "tool git"),
            *("tool mmdebstrap", "emulation of aarch64", "clock", "signing key", "store store"),
        ],
        Status.OK,
    )
    require_healthy(tuple(results.values()))


def no_engine(machine: Machine) -> None:
    machine.world.engine.silent = EngineUnavailableError("no engine: start one")


def engine_of_another_machine(machine: Machine) -> None:
    machine.world.engine.told = replace(machine.world.engine.told, machine="s390x")


def little_memory(machine: Machine) -> None:
    machine.world.engine.told = replace(machine.world.engine.told, memory=2 * GIB - 1)


def little_disk(machine: Machine) -> None:
    machine.free[str(machine.world.ctx.work.root)] = 4 * GIB - 1


def little_engine_disk(machine: Machine) -> None:
    storage = str(machine.binfmt)
    machine.world.engine.told = replace(machine.world.engine.told, storage=storage)
    machine.free[storage] = 1 * GIB


def missing(*programs: str) -> Callable[[Machine], None]:
    return lambda machine: machine.world.process.missing.update(programs)


def clock_off(seconds: float) -> Callable[[Machine], None]:
    def spoil(machine: Machine) -> None:
        server = (NOW + timedelta(seconds=seconds)).timestamp()
        machine.world.http.dates["http://deb.debian.org/"] = server

    return spoil


def key_expired(machine: Machine) -> None:
    expect_gpg(machine.world.process, listing=secret_key(validity="e"))


FAILURES: Final[dict[str, tuple[Callable[[Machine], None], str, str]]] = {
    "no engine": (no_engine, "engine", "no engine: start one"),
    "engine of another machine": (engine_of_another_machine, "engine", "Use an engine on one of: "),
    "little memory": (little_memory, "memory", "2 GiB: use a larger machine"),
    "little disk": (little_disk, "disk, work directory", "Free 4 GiB there, or choose"),
    "little engine disk": (little_engine_disk, "disk, engine storage", "Free 4 GiB there"),
    "no gpg": (missing("gpg"), "tool gpg", "apt-get install gnupg"),
    "no gpgv": (missing("gpgv"), "tool gpgv", "apt-get install gpgv"),
    "no git": (missing("git"), "tool git", "apt-get install git"),
    "no mmdebstrap": (missing("mmdebstrap"), "tool mmdebstrap", "apt-get install mmdebstrap"),
    "clock slow": (clock_off(301), "clock", "timedatectl set-ntp true"),
    "clock fast": (clock_off(-301), "clock", "timedatectl set-ntp true"),
    "key expired": (key_expired, "signing key", "has expired"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failed_check_says_what_to_do_and_no_other_fails(
    failure: tuple[Callable[[Machine], None], str, str], machine: Machine
) -> None:
    spoil, name, fix = failure
    spoil(machine)

    results = machine.diagnose()

    assert [item.name for item in results.values() if item.status is Status.FAILED] == [name]
    assert fix in results[name].fix
    with pytest.raises(PreflightError) as caught:
        require_healthy(tuple(results.values()))
    assert f"{name}: {results[name].found}. " in str(caught.value)
    assert fix in str(caught.value)


def no_emulator(machine: Machine) -> None:
    (machine.binfmt / "qemu-aarch64").unlink()


def emulator_outside_containers_only(machine: Machine) -> None:
    (machine.binfmt / "qemu-aarch64").write_text(FLAGS.replace("POCF", "POC"))


def no_clock_source(machine: Machine) -> None:
    machine.world.http.dates.clear()


def quickstart(machine: Machine) -> None:
    machine.world = make_world(machine.world.ctx.root, key="quickstart")
    machine.world.http.dates["http://deb.debian.org/"] = NOW.timestamp()


WARNINGS: Final[dict[str, tuple[Callable[[Machine], None], str, str]]] = {
    "no engine": (no_engine, "memory", ""),
    "no gpg": (missing("gpg"), "signing key", ""),
    "no emulator": (no_emulator, "emulation of aarch64", "Install qemu-user-static"),
    "emulator without F": (
        emulator_outside_containers_only,
        "emulation of aarch64",
        "update-binfmts --import",
    ),
    "no clock source": (no_clock_source, "clock", "compare the clock yourself"),
    "quickstart key": (quickstart, "signing key", "name a real key in channels.toml"),
}


@pytest.mark.parametrize("warning", WARNINGS.values(), ids=WARNINGS)
def test_a_warning_stops_nothing(
    warning: tuple[Callable[[Machine], None], str, str], machine: Machine
) -> None:
    spoil, name, fix = warning
    spoil(machine)

    results = machine.diagnose()

    assert [item.name for item in results.values() if item.status is Status.WARNING] == [name]
    assert fix in results[name].fix
    require_healthy((results[name],))


def test_several_failures_are_listed_together(machine: Machine) -> None:
    missing("git", "gpgv")(machine)
    results = tuple(machine.diagnose().values())

    with pytest.raises(PreflightError) as caught:
        require_healthy(results)

    message = str(caught.value)
    assert message.startswith(f"this machine is not ready (2 of {len(results)} checks failed):\n")
    assert "apt-get install git" in message
    assert "apt-get install gpgv" in message


def test_a_second_clock_source_is_asked_when_the_first_is_silent(machine: Machine) -> None:
    machine.world.http.dates.clear()
    machine.world.http.dates["https://pypi.org/"] = NOW.timestamp()

    results = machine.diagnose()

    assert results["clock"].found == "+0 s to https://pypi.org/"


@pytest.mark.parametrize("seconds", [300, -300, 0])
def test_a_clock_may_be_a_little_off(seconds: int, machine: Machine) -> None:
    clock_off(seconds)(machine)

    assert machine.diagnose()["clock"].status is Status.OK


def test_bases_from_registries_need_no_mmdebstrap(machine: Machine) -> None:
    missing("mmdebstrap")(machine)
    reference = f"debian@sha256:{digest('debian')}"
    base = RegistryBase(kind="registry", architectures=("amd64",), reference=reference)
    config = machine.world.ctx.config.model_copy(update={"bases": {"old": base}})
    machine.world = machine.world.again(config=config)

    assert machine.diagnose()["tool mmdebstrap"].status is Status.OK


def test_the_storage_of_an_engine_elsewhere_is_not_looked_for_here(machine: Machine) -> None:
    told = replace(machine.world.engine.told, storage="/no/such/directory")
    machine.world.engine.told = told

    assert "disk, engine storage" not in machine.diagnose()


def test_engines_elsewhere_are_checked_under_their_platforms_names(machine: Machine) -> None:
    elsewhere, native = FakeEngine(), FakeEngine()
    elsewhere.silent = EngineUnavailableError("no container engine answers at ssh://arm")
    native.contained = False
    engines = {"linux-aarch64": elsewhere, "linux-x86_64": native}
    machine.world = machine.world.again(engines=engines)

    results = machine.diagnose()

    named = {name: item.status for name, item in results.items() if name.startswith("linux-")}
    assert named == {
        "linux-aarch64: engine": Status.FAILED,
        "linux-aarch64: memory": Status.WARNING,
    }
    assert results["engine"].status is Status.OK
    assert native.asked == []
    with pytest.raises(PreflightError, match="linux-aarch64: engine: no answer"):
        require_healthy(tuple(results.values()))


def test_checks_make_no_key_and_change_nothing_in_the_engine(machine: Machine) -> None:
    quickstart(machine)

    machine.diagnose()

    assert machine.world.process.calls == []
    assert set(machine.world.engine.asked) == {"info"}


def test_provisioning_refuses_without_root(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(PreflightError, match=r"run it as root \(sudo\)"):
        provision(machine.world.ctx)

    assert machine.world.process.calls == []


def test_provisioning_refuses_where_there_is_no_apt(machine: Machine) -> None:
    missing("apt-get")(machine)

    with pytest.raises(PreflightError, match="Debian and Ubuntu only") as caught:
        provision(machine.world.ctx)

    assert all(package in str(caught.value) for package in PACKAGES)
    assert machine.world.process.calls == []


def test_nothing_is_installed_or_started_when_all_is_there(machine: Machine) -> None:
    provision(machine.world.ctx)

    process = machine.world.process
    assert {call.argv[0] for call in process.calls} == {"dpkg-query", "update-binfmts"}
    assert process.detached == []
    assert "install packages: all are installed" in machine.world.text.getvalue()


def test_only_missing_packages_are_installed(machine: Machine) -> None:
    process = machine.world.process
    process.expect("dpkg-query", "gnupg", answer=Answer(status=1, stderr="no such package"))
    process.expect("dpkg-query", "git", answer=Answer(stdout="config-files"))
    process.expect("apt-get", "update")
    process.expect("apt-get", "install")

    provision(machine.world.ctx)

    apt = [call for call in process.calls if call.argv[0] == "apt-get"]
    assert [call.argv for call in apt] == [
        ("apt-get", "update", "-qq"),
        ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "git", "gnupg"),
    ]
    assert all(call.environment == {"DEBIAN_FRONTEND": "noninteractive"} for call in apt)


def test_a_failing_installation_is_an_error(machine: Machine) -> None:
    process = machine.world.process
    process.expect("dpkg-query", "git", answer=Answer(stdout=""))
    process.expect("apt-get", "update", answer=Answer(status=100, stderr="E: no network"))

    with pytest.raises(CommandError, match="E: no network"):
        provision(machine.world.ctx)


def answer_after(machine: Machine, waits: int) -> None:
    """Let the engine answer only after so many waits."""
    machine.world.engine.silent = EngineUnavailableError("down")
    machine.waits = waits


@pytest.mark.parametrize(("waits", "installed"), [(0, 0), (1, 1)])
def test_debians_engine_is_installed_only_where_none_answers(
    machine: Machine, waits: int, installed: int
) -> None:
    """Debian's packages of it and Docker's own cannot be installed beside each other."""
    process = machine.world.process
    process.expect("dpkg-query", "docker.io", answer=Answer(status=1, stderr="no such package"))
    process.expect("apt-get", "update")
    process.expect("apt-get", "install")
    if waits:
        answer_after(machine, waits)

    provision(machine.world.ctx)

    assert process.ran("apt-get", "install") == installed


def test_work_that_is_published_elsewhere_needs_no_key_and_no_store(machine: Machine) -> None:
    everything = set(machine.diagnose())

    results = {item.name for item in diagnose(machine.world.ctx, None)}

    assert everything - results == {"signing key", "store store"}


def test_dockerd_is_started_where_no_engine_answers_and_no_systemd_is(machine: Machine) -> None:
    answer_after(machine, 3)

    provision(machine.world.ctx)

    assert machine.world.process.detached == [("dockerd",)]
    assert machine.slept == [1, 1, 1]


def test_systemd_starts_the_engine_where_it_runs(machine: Machine) -> None:
    answer_after(machine, 1)
    machine.systemd.mkdir()
    machine.world.process.expect("systemctl", "start", "docker")

    provision(machine.world.ctx)

    assert machine.world.process.ran("systemctl", "start", "docker") == 1
    assert machine.world.process.detached == []


def test_an_engine_that_does_not_come_up_is_given_up(machine: Machine) -> None:
    answer_after(machine, 10_000)

    with pytest.raises(EngineUnavailableError, match="did not answer within 60 s"):
        provision(machine.world.ctx)

    assert len(machine.slept) == ENGINE_WAIT


def test_binfmt_misc_is_mounted_before_emulators_are_registered(machine: Machine) -> None:
    (machine.binfmt / "status").unlink()
    machine.world.process.expect("mount")

    provision(machine.world.ctx)

    words = [call.argv[:2] for call in machine.world.process.calls if call.argv[0] != "dpkg-query"]
    assert words == [
        ("mount", "-t"),
        ("update-binfmts", "--import"),
        ("update-binfmts", "--enable"),
    ]


def test_a_machine_that_forbids_mounting_does_without_emulators(machine: Machine) -> None:
    (machine.binfmt / "status").unlink()
    denied = Answer(status=32, stderr="mount: permission denied")
    machine.world.process.expect("mount", answer=denied)

    provision(machine.world.ctx)

    assert machine.world.process.ran("update-binfmts") == 0
    assert "not possible here: mount: permission denied" in machine.world.text.getvalue()
