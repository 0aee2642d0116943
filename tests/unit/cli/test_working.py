"""Verbs of a farm's machines: what their options mean."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pipeline.cli import main, working
from pipeline.effects.detached import DetachedWork
from pipeline.errors import EngineUnavailableError
from pipeline.farm.detached import Action, Stopped
from pipeline.model.farm import Facts


class Calls:
    """Stands in for what would start or stop processes."""

    def __init__(self) -> None:
        self.started: list[tuple[DetachedWork, tuple[str, ...], float | None]] = []
        self.stopped: list[tuple[DetachedWork, float]] = []
        self.action = Action.START
        self.status: int | None = 0
        self.is_interrupted = False
        self.engine_answers = True

    def start_or_find(
        self, work: DetachedWork, _process: object, verb: Sequence[str], seconds: float | None
    ) -> Action:
        """Note it."""
        self.started.append((work, tuple(verb), seconds))
        return self.action

    def follow(
        self, _work: object, _replays: object, *, pause: object, is_read: Callable[[], bool]
    ) -> int | None:
        """End as told."""
        assert callable(pause)
        assert isinstance(is_read(), bool)
        if self.is_interrupted:
            raise KeyboardInterrupt
        return self.status

    def stop(self, work: DetachedWork, *, grace: float, **_clock: object) -> Stopped:
        """Note it."""
        self.stopped.append((work, grace))
        return Stopped.INTERRUPTED

    def engine(self, identity: str) -> Any:
        """Return an engine with two containers."""
        calls = self

        class Engine:
            def remove_containers(self) -> tuple[str, ...]:
                if not calls.engine_answers:
                    return unavailable()
                return (f"rpp-{identity}-a", f"rpp-{identity}-b")

        return Engine()


def unavailable() -> NoReturn:
    msg = "no container engine answers"
    raise EngineUnavailableError(msg)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    for name in ("start_or_find", "follow", "stop"):
        monkeypatch.setattr(working, name, getattr(calls, name))
    monkeypatch.setattr(working, "DockerEngine", calls.engine)
    return calls


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("demo-1", "--work", "W", "--", "translate", "x", "--mode", "native")),
        pytest.param(("--work", "W", "demo-1", "--", "translate", "x", "--mode", "native")),
    ],
)
def test_the_verb_behind_the_dashes_gets_the_same_directories(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["detached", *words]) == 0

    ((work, verb, seconds),) = calls.started
    places = ("--configs", str(tmp_path / "translation_configs"), "--work", str(tmp_path / "W"))
    assert verb == ("translate", *places, "x", "--mode", "native")
    assert (work.root, work.name) == (tmp_path / "W", "demo-1")
    assert seconds == 30 * 60


@pytest.mark.parametrize(("minutes", "seconds"), [("0.05", 3.0), ("0", None)])
def test_work_may_be_alone_for_so_many_minutes_or_for_ever(
    calls: Calls, tmp_path: Path, minutes: str, seconds: float | None
) -> None:
    main(["detached", "x", "--work", str(tmp_path), "--orphan-minutes", minutes, "--", "config"])

    assert calls.started[0][2] == seconds


def test_minutes_are_not_negative(calls: Calls, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["detached", "x", "--work", str(tmp_path), "--orphan-minutes=-1", "--", "config"])

    assert caught.value.code == 2
    assert calls.started == []


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "x" * 101])
def test_a_name_is_one_of_a_directory(
    calls: Calls, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["detached", name, "--", "config"])

    assert caught.value.code == 2
    assert "is no name" in said(capsys)
    assert calls.started == []


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (30, 30), (None, 130)])
def test_the_status_is_that_of_the_work_or_of_who_left(
    calls: Calls, tmp_path: Path, status: int | None, expected: int
) -> None:
    calls.status = status

    assert main(["detached", "x", "--work", str(tmp_path), "--", "config"]) == expected


def test_a_person_who_leaves_is_told_how_to_come_back_and_how_to_stop(
    calls: Calls, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    calls.is_interrupted = True

    status = main(["detached", "x", "--work", str(tmp_path), "--", "config"])

    text = said(capfd)
    assert status == 130
    assert "x goes on without you. The same command follows it again" in text
    assert f"python -m pipeline reap x --work {tmp_path}" in text


@pytest.mark.parametrize("action", [Action.ATTACH, Action.REPLAY])
def test_work_that_was_there_is_told(
    calls: Calls, tmp_path: Path, capfd: pytest.CaptureFixture[str], action: Action
) -> None:
    calls.action = action

    assert main(["detached", "x", "--work", str(tmp_path), "--", "config"]) == 0

    assert f"x: {action}" in said(capfd)


def test_reap_stops_the_work_and_removes_its_containers(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["reap", "x", "--work", str(tmp_path), "--grace", "5"])

    text = said(capsys)
    ((work, grace),) = calls.stopped
    assert status == 0
    assert (work.root, work.name, grace) == (tmp_path, "x", 5)
    assert "x: interrupted 2 containers removed: rpp-" in text


def test_reap_without_an_engine_still_stops_the_work(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.engine_answers = False

    assert main(["reap", "x", "--work", str(tmp_path)]) == 0

    text = said(capsys)
    assert "x: interrupted no container was looked for: no container engine answers" in text


def test_only_containers_leaves_processes_alone(calls: Calls, tmp_path: Path) -> None:
    assert main(["reap", "x", "--work", str(tmp_path), "--only-containers"]) == 0

    assert calls.stopped == []


def test_facts_are_printed_as_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts(os="linux", machine="x86_64", containers=True, memory=1, disk=2)
    monkeypatch.setattr(working, "measured_facts", lambda *_ports: facts)

    assert main(["facts", "--work", str(tmp_path)]) == 0

    assert Facts.model_validate(json.loads(capsys.readouterr().out)) == facts
