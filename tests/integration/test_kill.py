"""A run that is killed at any moment is finished by running it again, with the same bytes."""

import os
import random
import signal
import subprocess
import time

import pytest

from tests.integration.conftest import ROOT, Project
from tests.integration.test_release import digests, of_the_key

pytestmark = [pytest.mark.docker, pytest.mark.gpg, pytest.mark.slow]

KILLS = 10


def test_ten_kills_and_one_result(fast: Project, project: Project) -> None:
    """Kill after random times; each run goes on where the killed one was."""
    moments = random.Random(20261121)
    environment = {**os.environ, **project.environment}
    killed = 0
    for number in range(KILLS):
        process = subprocess.Popen(
            project.command("release"),
            cwd=ROOT,
            env=environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Short and long ones, so that the later stages are hit too.
        longest = 12 if number % 2 else 25
        try:
            process.wait(timeout=moments.uniform(0.3, longest))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1

    project.run("release")

    first, second = (digests(found.store / "demo" / "demo-v1.0.0") for found in (fast, project))
    assert killed >= KILLS // 2
    assert of_the_key(first, second)
    assert not list(project.work.rglob(".partial-*"))


@pytest.mark.parametrize("stage", ["package", "verify", "sign", "publish"])
def test_a_kill_in_each_later_stage_is_survived(
    fast: Project, fast_copy: Project, stage: str
) -> None:
    """Take the finished release back to *stage*, kill while that runs, and finish it."""
    stages = ("package", "verify", "sign")
    for name in stages[stages.index(stage) if stage in stages else len(stages) :]:
        subprocess.run(["rm", "-rf", str(fast_copy.work / "stages" / name)], check=True)
    subprocess.run(["rm", "-rf", str(fast_copy.store)], check=True)
    process = subprocess.Popen(
        fast_copy.command("release"),
        cwd=ROOT,
        env={**os.environ, **fast_copy.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"{stage} "):
            break
    time.sleep(0.05)
    process.kill()
    process.wait()
    process.stderr.close()

    fast_copy.run("release")

    first, second = (digests(found.store / "demo" / "demo-v1.0.0") for found in (fast, fast_copy))
    different = [name for name in first if first[name] != second[name]]
    assert set(different) <= {"SHA256SUMS.asc"}
