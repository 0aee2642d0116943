"""Work apart from its caller, with real processes: who is killed, and what goes on.

``serve`` stands for the work: it goes on until it is interrupted, and says when it has begun.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import psutil
import pytest

from pipeline.effects.docker_engine import WORKSPACE_LABEL
from pipeline.effects.files import WorkDirectory
from tests.integration.conftest import ROOT, Project

LONGEST = 20.0
NEVER_HERE = "5"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A work directory, and what has been started for it."""

    project: Project
    followers: list["subprocess.Popen[bytes]"]

    @property
    def directory(self) -> Path:
        """Where the work's files are."""
        return self.project.work / "detached" / "demo"

    def follow(self, *verb: str, minutes: str = NEVER_HERE) -> "subprocess.Popen[bytes]":
        """Start a follower of the work."""
        command = self.project.command("detached", "demo", "--orphan-minutes", minutes)
        process = subprocess.Popen(
            [*command, "--", *verb],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.followers.append(process)
        return process

    def serve(self, *, minutes: str = NEVER_HERE) -> "subprocess.Popen[bytes]":
        """Start work that goes on, and wait until it has begun."""
        process = self.follow("serve", "--port", "0", minutes=minutes)
        wait_for(lambda: self.begun == 1)
        return process

    @property
    def begun(self) -> int:
        """How often the work has begun, by what it wrote."""
        try:
            return (self.directory / "stderr").read_text().count("is served at")
        except FileNotFoundError:
            return 0

    def process(self, who: str) -> psutil.Process:
        """Return the ``session``'s leader, or the ``work``."""
        return psutil.Process(int((self.directory / who).read_text()))

    def reap(self, *options: str) -> str:
        """Stop the work; return what that says."""
        return self.project.run("reap", "demo", *options).stderr

    def stopped(self, follower: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        """Stop the work; return what its *follower* passed on by then."""
        self.reap()
        return follower.communicate(timeout=LONGEST)

    @property
    def ended(self) -> list[str]:
        """How the work ended, as it is recorded."""
        return [path.name for path in self.directory.glob("exit-*")]


@pytest.fixture
def desk(project: Project) -> Iterator[Desk]:
    desk = Desk(project=project, followers=[])
    yield desk
    for follower in desk.followers:
        follower.kill()
        follower.communicate()
    with suppress(OSError, ValueError, psutil.NoSuchProcess):
        os.killpg(desk.process("session").pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float = LONGEST) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.05)


def test_work_is_passed_on_as_it_is_and_done_once(desk: Desk) -> None:
    direct = desk.project.run("config", "--json")

    first = desk.follow("config", "--json").communicate(timeout=LONGEST)
    leader = (desk.directory / "session").read_text()
    second = desk.follow("config", "--json")
    again = second.communicate(timeout=LONGEST)

    assert first[0].decode() == direct.stdout
    assert again[0] == first[0]
    assert b"demo: done before" in again[1]
    assert second.returncode == 0
    assert (desk.directory / "session").read_text() == leader


def test_a_failure_is_passed_on_and_tried_again(desk: Desk) -> None:
    first = desk.follow("translate", "nonsense")
    _, said = first.communicate(timeout=LONGEST)
    leader = (desk.directory / "session").read_text()
    second = desk.follow("translate", "nonsense")
    _, again = second.communicate(timeout=LONGEST)

    assert (first.returncode, second.returncode) == (11, 11)
    assert said.count(b"unknown interpreter 'nonsense'") == 1
    assert again == said
    assert (desk.directory / "session").read_text() != leader


def test_work_survives_its_followers_and_is_found_again(desk: Desk) -> None:
    follower = desk.serve()
    work = desk.process("work")

    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        follower.send_signal(number)
        follower.communicate(timeout=LONGEST)
        follower = desk.follow("serve", "--port", "0")
        assert follower.stderr is not None
        assert b"demo: found running" in follower.stderr.readline()
    _, replayed = desk.stopped(follower)

    assert replayed.count(b"is served at") == 1
    assert desk.begun == 1
    assert not work.is_running()


def test_work_that_nobody_follows_stops_itself(desk: Desk) -> None:
    """A worker that is killed leaves its commands behind; those must not pass for followers."""
    follower = desk.serve(minutes="0.05")
    work = desk.process("work")
    assert follower.stdout is not None
    assert follower.stderr is not None

    follower.stdout.close()
    follower.stderr.close()
    wait_for(lambda: follower.poll() is not None, 2)
    outlived = work.is_running()
    started = time.monotonic()
    wait_for(lambda: bool(desk.ended))
    took = time.monotonic() - started

    assert outlived
    assert not work.is_running()
    assert took >= 3 - 0.5
    assert "demo is stopped: nobody follows for 3 s" in (desk.directory / "stderr").read_text()


def test_what_an_earlier_run_left_is_stopped_when_the_next_one_comes(desk: Desk) -> None:
    first = desk.serve()
    left = desk.process("session")
    first.kill()
    first.wait()

    said = desk.project.run("detached", "next", "--take-over", "--", "config")

    assert "demo: nobody followed it any more; stopped" in said.stderr
    wait_for(lambda: not left.is_running())
    assert not desk.directory.exists()


def test_what_nobody_follows_is_left_alone_unless_it_is_taken_over(desk: Desk) -> None:
    first = desk.serve()
    first.kill()
    first.wait()

    desk.project.run("detached", "next", "--", "config")

    assert desk.process("session").is_running()
    assert desk.directory.exists()


def test_what_somebody_follows_is_left_alone(desk: Desk) -> None:
    desk.serve()

    desk.project.run("detached", "next", "--take-over", "--", "config")

    assert desk.process("session").is_running()


def test_a_supervisor_that_is_killed_is_told_of_and_its_work_is_not_done_twice(
    desk: Desk,
) -> None:
    follower = desk.serve()
    work = desk.process("work")

    desk.process("session").kill()
    _, said = follower.communicate(timeout=LONGEST)
    outlived = work.is_running()
    desk.follow("serve", "--port", "0")
    wait_for(lambda: desk.begun == 1 and desk.process("work").pid != work.pid)

    assert follower.returncode == 74
    assert b"the supervisor died before it could record" in said
    assert outlived
    assert not work.is_running()
    assert desk.process("work").is_running()


@pytest.mark.docker
def test_what_is_reaped_is_gone_with_its_containers(
    desk: Desk, request: pytest.FixtureRequest
) -> None:
    follower = desk.serve()
    client = docker.from_env()
    names = {}
    for workspace in (WorkDirectory(desk.project.work).identity(), "another"):
        names[workspace] = client.containers.run(
            an_image(client, request),
            ["sleep", "600"],
            detach=True,
            labels={WORKSPACE_LABEL: workspace},
        )

    try:
        said = desk.reap()
        left = [item.id for item in client.containers.list(all=True)]
    finally:
        for container in names.values():
            with suppress(docker.errors.NotFound):
                container.remove(force=True)
    follower.communicate(timeout=LONGEST)

    ours, others = names.values()
    assert "demo: interrupted" in said
    assert f"1 containers removed: {ours.name}" in said
    assert ours.id not in left
    assert others.id in left


def an_image(client: docker.DockerClient, request: pytest.FixtureRequest) -> str:
    """Return a base that is here; if there is none, what makes one."""
    for image in client.images.list():
        if any(tag.startswith("rpython-pipeline/base-bookworm") for tag in image.tags):
            return str(image.id)
    request.getfixturevalue("fast")
    return an_image(client, request)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, as root only can")
def test_work_that_is_killed_on_a_full_disk_is_known_to_have_failed(desk: Desk) -> None:
    desk.project.work.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "small", str(desk.project.work)], check=True
    )
    try:
        follower = desk.serve()
        with suppress(OSError), (desk.project.work / "filler").open("wb") as filler:
            filler.write(b"x" * (1 << 20))
        # A stopped process does not see the interrupt until it goes on.
        desk.process("work").suspend()
        said = desk.reap("--grace", "1")
        follower.communicate(timeout=LONGEST)
        recorded = desk.ended
    finally:
        subprocess.run(["umount", "--lazy", str(desk.project.work)], check=True)

    assert "demo: killed" in said
    assert recorded == ["exit-137"]
    assert follower.returncode == 137
