"""What a worker says of itself."""

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from pipeline.errors import EngineUnavailableError
from pipeline.farm.facts import measured_facts
from tests.fakes import Answer, FakeEngine, FakeProcess

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("pipeline.farm.facts.ready_emulators", lambda: ("qemu-arm",))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=8 << 30))


@pytest.fixture
def process() -> FakeProcess:
    process = FakeProcess()
    process.expect("git", "rev-parse", answer=Answer(stdout=f"{COMMIT}\n"))
    return process


def test_a_worker_says_what_was_measured(
    tmp_path: Path, process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=7)

    monkeypatch.setattr("shutil.disk_usage", usage)
    (tmp_path / ".git").touch()
    engine = FakeEngine()

    facts = measured_facts(engine, process, tmp_path / "not" / "yet", tmp_path)

    assert (facts.os, facts.machine, facts.containers) == ("linux", "aarch64", True)
    assert facts.memory == engine.info().memory
    assert (facts.disk, asked) == (7, [tmp_path])
    assert facts.emulators == ("qemu-arm",)
    assert facts.code == COMMIT


def test_a_worker_without_an_engine_has_the_memory_of_its_machine(
    tmp_path: Path, process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_engine: FakeEngine) -> NoReturn:
        msg = "no engine"
        raise EngineUnavailableError(msg)

    monkeypatch.setattr(FakeEngine, "info", refuse)

    facts = measured_facts(FakeEngine(), process, tmp_path, tmp_path)

    assert (facts.containers, facts.memory) == (False, 8 << 30)


@pytest.mark.parametrize("way", ["no-checkout", "no-git", "not-ours"])
def test_code_that_is_no_checkout_has_the_version_of_what_is_installed(
    tmp_path: Path, process: FakeProcess, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way != "no-checkout":
        (tmp_path / ".git").touch()
    if way == "no-git":
        process.missing.add("git")
    process.expect("git", "rev-parse", answer=Answer(status=128))
    monkeypatch.setattr("importlib.metadata.version", {"rpython-pipeline": "1.2"}.__getitem__)

    assert measured_facts(FakeEngine(), process, tmp_path, tmp_path).code == "1.2"


def test_code_that_nobody_knows_is_left_out(
    tmp_path: Path, process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", refuse)

    assert measured_facts(FakeEngine(), process, tmp_path, tmp_path).code == ""
