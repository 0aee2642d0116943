"""The command line of work that several machines share."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.cli import ports
from pipeline.cli.main import main
from pipeline.effects.console import Console
from pipeline.effects.files import WorkDirectory
from pipeline.model.farm import Claim, Collected, Prepared
from tests.fakes import FakeNotary, World, fixed_clock, make_world

FARM = """
[workers.signer]
role = "signer"
memory = 1
[workers.one]
memory = 8
[workers.mac]
os = "darwin"
machine = "arm64"
memory = 8
"""
SUBMISSION = {"request": "test", "channel": "release", "names": ["toy"]}


class Command:
    """The command line on the toy project, on one machine with several work directories."""

    def __init__(self, world: World, capture: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.root = world.ctx.root
        self.capture = capture

    def run(self, work: str, *argv: str) -> tuple[int, str, str]:
        """Run a verb; return its status, its output, and its messages as one line."""
        configs = ("--configs", str(self.root / "translation_configs"))
        status = main([*argv, *configs, "--work", str(self.root / work)])
        told = self.capture.readouterr()
        return status, told.out, " ".join(told.err.split())

    def write(self, name: str, data: object) -> str:
        """Write a JSON file; return its path."""
        path = self.root / name
        path.write_text(json.dumps(data))
        return str(path)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    world = make_world(tmp_path / "project")
    (world.ctx.root / "translation_configs" / "farm.toml").write_text(FARM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ports, "DockerEngine", lambda *_args, **_options: world.engine)
    monkeypatch.setattr(ports, "ProcessRunner", lambda: world.process)
    monkeypatch.setattr(ports, "HttpClient", lambda: world.http)
    monkeypatch.setattr(ports, "HttpView", lambda _http: world.public)
    monkeypatch.setattr(ports, "utc_now", fixed_clock())
    notary = FakeNotary()
    monkeypatch.setattr(ports, "channel_notary", lambda _ctx, _signing: notary)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return Command(world, capsys)


def prepare(command: Command) -> tuple[int, str, str]:
    submission = command.write("submission.json", SUBMISSION)
    options = ("--submission", submission, "--hand-over", "handover")
    return command.run("signer", "prepare", "--run", "r1", *options)


def translate(command: Command, *more: str) -> tuple[int, str, str]:
    options = ("--run", "r1", "--hand-over", "handover", *more)
    return command.run("one", "translate", "toy-linux-x86_64", *options)


def test_each_verb_says_one_document_and_the_next_takes_it(command: Command) -> None:
    prepared = Prepared.model_validate_json(prepare(command)[1])
    claim = Claim.model_validate_json(translate(command, "--worker", "one")[1])
    data = {"run": "r1", "claims": [claim.model_dump(mode="json")]}
    claims = ("--claims", command.write("claims.json", data))

    status, output, _ = command.run(
        "signer", "release", "--run", "r1", "--hand-over", "handover", *claims
    )

    assert status == 0
    assert [job.identifier for job in prepared.jobs] == ["toy-linux-x86_64"]
    assert claim.worker == "one"
    (release,) = Collected.model_validate_json(output).releases
    assert release.release == "toy-v1.2.3"
    assert release.is_new


@pytest.mark.parametrize(("worker", "is_done"), [("one", True), ("mac", False)])
def test_only_who_may_do_a_job_is_believed_to_have_done_it(
    command: Command, worker: str, *, is_done: bool
) -> None:
    prepare(command)
    translate(command, "--worker", worker)

    submission = ("--submission", str(command.root / "submission.json"))
    _, output, _ = command.run(
        "signer", "prepare", "--run", "r2", *submission, "--hand-over", "handover"
    )

    assert [job.is_done for job in Prepared.model_validate_json(output).jobs] == [is_done]


def test_the_signer_waits_for_another_run_that_is_at_work(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its work may go on without a follower, for instance while the master is started again."""
    other = ExitStack()
    other.enter_context(WorkDirectory(command.root / "signer").locked())
    said: list[str] = []

    def line(_console: Console, text: str) -> None:
        said.append(text)
        other.close()

    monkeypatch.setattr(Console, "line", line)

    status, _, _ = prepare(command)

    assert status == 0
    assert f"waits for process {os.getpid()}" in said[0]


def test_a_worker_says_who_it_is(command: Command) -> None:
    prepare(command)

    status, output, message = translate(command)

    assert (status, output) == (10, "")
    assert "--run needs --worker NAME" in message


def test_a_run_takes_one_job(command: Command) -> None:
    status, _, message = command.run("one", "translate", "--run", "r1", "--worker", "one")

    assert status == 10
    assert "--run takes one identifier" in message


@pytest.mark.parametrize(
    "words",
    [
        ("--platform", "linux-x86_64"),
        ("--interpreter-version", "1.2.4"),
        ("--source", "."),
        ("--mode", "native"),
    ],
)
@pytest.mark.parametrize(
    "verb", [("translate", "toy-linux-x86_64", "--worker", "one"), ("release",)]
)
def test_what_the_plan_of_a_run_has_decided_is_refused(
    command: Command, verb: tuple[str, ...], words: tuple[str, ...]
) -> None:
    prepare(command)

    status, output, message = command.run("one", *verb, "--run", "r1", *words)

    assert (status, output) == (10, "")
    assert f"{words[0]} says nothing with --run" in message


@pytest.mark.parametrize("words", [("--stage",), ("--provision",), ("--farm", "https://farm.test")])
def test_what_begins_a_release_does_not_collect_one(
    command: Command, words: tuple[str, ...]
) -> None:
    status, _, message = command.run("signer", "release", "--run", "r1", *words)

    assert status == 10
    assert f"{words[0]} says nothing with --run" in message


def test_all_of_a_run_is_collected(command: Command) -> None:
    claims = command.write("claims.json", {"run": "r1", "claims": []})

    status, _, message = command.run("s", "release", "toy", "--run", "r1", "--claims", claims)

    assert status == 10
    assert "--run collects all of a run: leave out toy" in message


def test_a_stage_that_needs_a_key_is_no_workers(command: Command) -> None:
    status, _, message = command.run(
        "one", "sign", "toy-linux-x86_64", "--run", "r1", "--worker", "one"
    )

    assert status == 10
    assert "one of the verbs translate, package, verify" in message


def test_a_run_is_collected_with_claims_only(command: Command) -> None:
    status, _, message = command.run("signer", "release", "--run", "r1")

    assert status == 10
    assert "--run needs --claims FILE here" in message


def test_a_release_is_not_collected_as_a_nightly(command: Command) -> None:
    prepare(command)
    claims = command.write("claims.json", {"run": "r1", "claims": []})

    status, _, message = command.run(
        "signer", "nightly", "--run", "r1", "--hand-over", "handover", "--claims", claims
    )

    assert status == 84
    assert "run r1 is of channel release: use that verb" in message


def test_a_document_that_is_none_is_told_with_what_is_wrong(command: Command) -> None:
    path = command.write("submission.json", {"request": "NO", "channel": "release"})

    status, _, message = command.run("signer", "prepare", "--run", "r1", "--submission", path)

    assert status == 10
    assert "submission.json: is no Submission: request: String should match" in message


def test_a_document_that_is_not_there_is_told(command: Command) -> None:
    status, _, message = command.run("s", "prepare", "--run", "r", "--submission", "none.json")

    assert status == 10
    assert "none.json: cannot be read: No such file" in message


def test_without_a_farm_the_store_has_to_be_named(command: Command) -> None:
    (command.root / "translation_configs" / "farm.toml").unlink()
    prepared = prepare(command)

    status, _, message = command.run("one", "translate", "toy", "--run", "r1", "--worker", "one")

    assert prepared[0] == 10
    assert "none of them translates" in prepared[2]
    assert status == 10
    assert "--run needs --hand-over STORE, since there is no farm.toml" in message


def test_without_a_farm_kinds_of_machines_can_be_named(command: Command) -> None:
    (command.root / "translation_configs" / "farm.toml").unlink()
    submission = command.write("submission.json", SUBMISSION)
    options = ("--submission", submission, "--hand-over", "handover", "--kind", "linux/x86_64")

    status, output, _ = command.run("signer", "prepare", "--run", "r1", *options)

    assert status == 0
    assert Prepared.model_validate_json(output).jobs[0].machine == "x86_64"


@pytest.mark.parametrize("number", [28, 122])
def test_a_full_disk_is_told_as_one(
    command: Command, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(number, "No space left on device", "/work/out")

    monkeypatch.setattr("pipeline.cli.handing.prepare_run", full)

    status, _, message = prepare(command)

    assert status == 73
    assert "/work/out: No space left on device. Make room there" in message


def test_a_release_is_told_of_also_where_nothing_can_be_forgotten(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("pipeline.cli.handing.forget_old", broken)
    prepare(command)
    claim = Claim.model_validate_json(translate(command, "--worker", "one")[1])
    data = {"run": "r1", "claims": [claim.model_dump(mode="json")]}
    claims = ("--claims", command.write("claims.json", data))

    status, output, message = command.run(
        "signer", "release", "--run", "r1", "--hand-over", "handover", *claims
    )

    assert status == 0
    assert len(Collected.model_validate_json(output).releases) == 1
    assert "old outputs could not be forgotten" in message
