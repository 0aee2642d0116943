"""The client of a farm, as a person uses it, with a real Buildbot master that is killed too."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from pipeline.cli import main
from tests.integration.conftest import ROOT
from tests.integration.small_farm import PASSWORD, SmallFarm, running_small_farm

SHA256 = "5" * 64
BEGUN = "demo-linux-x86_64: translate on worker-1"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    """A master for all tests here."""
    with running_small_farm(tmp_path_factory.mktemp("farm")) as farm:
        yield farm


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Ran]


@pytest.fixture
def run(
    farm: SmallFarm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Give a function that runs a verb here, which is faster than in a process of its own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CI", "1")

    def run_here(verb: str, *options: str, password: str = PASSWORD) -> Ran:
        monkeypatch.setenv("RPP_FARM_PASSWORD", password)
        status = main([verb, "--farm", farm.url, *options])
        captured = capsys.readouterr()
        return Ran(status=status, stdout=captured.out, stderr=captured.err)

    return run_here


def selected(name: str, *options: str) -> tuple[str, ...]:
    """Return the command line of a release whose run has this name."""
    return ("release", "demo", "--platform", "linux-x86_64", "--request", name, *options)


class Client:
    """A client that is running."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = ""

    def wait_for(self, text: str) -> None:
        """Read what it says until there is *text*."""
        stream = self._stream()
        while text not in self.said:
            line = stream.readline()
            assert line, self.said
            self.said += line

    def end(self) -> int:
        """Return its exit status."""
        self.said += self._stream().read()
        return self.process.wait(60)

    def _stream(self) -> IO[str]:
        assert self.process.stderr is not None
        return self.process.stderr


@contextmanager
def running(farm: SmallFarm, name: str) -> Iterator[Client]:
    argv = [sys.executable, "-m", "pipeline", *selected(name), "--farm", farm.url]
    environment = {**os.environ, "CI": "1", "RPP_FARM_PASSWORD": PASSWORD}
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Client(process)
        finally:
            process.kill()


def requests_named(farm: SmallFarm, name: str) -> list[dict[str, object]]:
    """Return the requests for runs that have this name."""
    (builder,) = farm.get("builders?name=release")
    rows = farm.get(f"builders/{builder['builderid']}/buildrequests?property=submission")
    return [row for row in rows if name in json.dumps(row["properties"])]


def test_a_run_is_followed_to_its_end_and_joined_by_who_asks_for_the_same(
    farm: SmallFarm, run: Run
) -> None:
    with running(farm, "joined-slow") as first:
        first.wait_for(BEGUN)

        second = run(*selected("joined-slow"))

        assert first.end() == 0, first.said
    assert second.status == 0, second.stderr
    assert "submitted" in first.said
    assert "under way already: joined" in second.stderr
    for said in (first.said, second.stderr):
        assert "demo-linux-x86_64: done on worker-1" in said
        assert "demo-linux-i686: unchanged" in said
        assert f"demo-v1.0.0-linux64.tar.gz  7     {SHA256}" in said
    assert len(requests_named(farm, "joined-slow")) == 1


def test_what_was_made_today_is_collected_and_not_made_again(farm: SmallFarm, run: Run) -> None:
    first = run(*selected("repeated"))

    second = run(*selected("repeated", "--json"))
    again = run(*selected("repeated", "--again", "--detach"))

    assert (first.status, second.status, again.status) == (0, 0, 0), again.stderr
    assert "was made today" in second.stderr
    (made,) = json.loads(second.stdout)["releases"]
    assert made["files"][0]["sha256"] == SHA256
    assert "submitted" in again.stderr
    assert len(requests_named(farm, "repeated")) == 2


def test_a_client_waits_for_a_master_that_was_killed_and_has_the_same_end(
    farm: SmallFarm,
) -> None:
    with running(farm, "restarted-slow") as client:
        client.wait_for(BEGUN)
        farm.stop(signal.SIGKILL)
        client.wait_for("does not answer")
        farm.start()

        status = client.end()

    assert status == 0, client.said
    assert client.said.count("does not answer") == 1
    assert client.said.count("answers again") == 1
    assert SHA256 in client.said
    assert len(requests_named(farm, "restarted-slow")) == 1


def test_a_failed_job_shows_the_end_of_its_log_once_and_is_asked_for_anew(
    farm: SmallFarm, run: Run
) -> None:
    ran = run(*selected("it-fails"))
    run(*selected("it-fails", "--detach"))

    assert len(requests_named(farm, "it-fails")) == 2
    assert ran.status == 3
    assert ran.stderr.count("\n  line 119\n") == 1
    assert "\n  line 71\n" in ran.stderr
    assert "line 70\n" not in ran.stderr
    assert "\x1b" not in ran.stderr
    reason = ran.stderr[ran.stderr.index("error: it-fails") :]
    assert "has not ended well" in reason
    assert re.search(rf"the C compiler .*failed \({farm.url}/#/builders/\d+/builds/\d+\)", reason)


def test_a_wrong_password_submits_nothing(farm: SmallFarm, run: Run) -> None:
    ran = run(*selected("locked-out"), password="wrong")  # noqa: S106 - it is wrong

    assert ran.status == 81
    assert "does not let admin in" in ran.stderr
    assert "wrong" not in ran.stderr.replace("wrong name or password", "")
    assert requests_named(farm, "locked-out") == []


def test_a_cancelled_run_ends_for_all_who_follow_it(farm: SmallFarm, run: Run) -> None:
    with running(farm, "cancelled-slow") as client:
        client.wait_for(BEGUN)

        ran = run(*selected("cancelled-slow", "--cancel"))
        status = client.end()

    assert ran.status == 0, ran.stderr
    assert "stopped" in ran.stderr
    assert status == 3
    assert "it was stopped" in client.said
    assert [row["results"] for row in requests_named(farm, "cancelled-slow")] == [6]


def test_a_run_goes_on_when_its_client_is_interrupted_and_can_be_rejoined(
    farm: SmallFarm, run: Run
) -> None:
    with running(farm, "left-slow") as client:
        client.wait_for(BEGUN)
        client.process.send_signal(signal.SIGINT)
        status = client.end()

    rejoined = run("status", "left-slow", "--follow")

    assert status == 130
    assert f"status --farm {farm.url} left-slow --follow" in client.said
    assert rejoined.status == 0, rejoined.stderr
    assert SHA256 in rejoined.stderr


def test_anybody_sees_what_a_farm_does(run: Run, tmp_path: Path) -> None:
    run(*selected("seen"))

    shown = run("status", "--work", str(tmp_path), password="")
    told = run("status", "--json", password="")

    assert (shown.status, told.status) == (0, 0), shown.stderr
    assert "worker-1" in shown.stderr
    found = json.loads(told.stdout)
    assert [row["connected"] for row in found["workers"]] == [True] * 3
    assert found["ended"][0]["name"] == "seen"
    assert found["ended"][0]["state"] == "done"
    assert found["problems"] == []
