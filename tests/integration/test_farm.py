"""A whole farm in network namespaces: submitted, built by capability, signed once, published.

``RPP_FARM_PLATFORMS`` names more platforms than the one that is tried by default.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import docker
import pytest

from tests.integration.conftest import Project, copy_project
from tests.integration.farm_network import FarmNetwork, eventually, farm_network, has_namespaces

pytestmark = [pytest.mark.docker, pytest.mark.qemu, pytest.mark.gpg, pytest.mark.slow]

OWN: Final = "linux-x86_64"
PLATFORMS: Final = tuple(os.environ.get("RPP_FARM_PLATFORMS", OWN).split())
JOBS: Final = tuple(f"demo-{platform}" for platform in PLATFORMS)
WORKERS: Final = {
    "signer": 'role = "signer"\nmemory = 2\ndisk = 1',
    "native": 'modes = ["native"]\nmemory = 4\ndisk = 1\nbuilds = 2',
    "cross": 'modes = ["cross", "emulated"]\nmemory = 4\ndisk = 1\nbuilds = 2',
}
NATIVE: Final = ("demo-linux-x86_64", "demo-linux-i686")
SIGNED: Final = (".asc", "provenance.json", "manifest.json", "SHA256SUMS")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmNetwork]:
    """A farm whose demo has no JIT."""
    if not has_namespaces():
        pytest.skip("network namespaces need root, ip and iptables")
    directory = tmp_path_factory.mktemp("farm")
    with farm_network(directory, WORKERS, edits=[without_jit]) as farm:
        farm.start()
        yield farm


def without_jit(root: Path) -> None:
    path = root / "translation_configs" / "demo.toml"
    path.write_text(path.read_text().replace("jit = true", "jit = false"))


def archives(directory: Path) -> dict[str, str]:
    """Return the sha256 of every file whose bytes no key or time decides."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
        if not path.name.endswith(SIGNED)
    }


def options() -> list[str]:
    return [word for platform in PLATFORMS for word in ("--platform", platform)]


def containers() -> set[str]:
    """Return the names of all containers of translations."""
    found = docker.from_env().containers.list(all=True)
    return {item.name for item in found if item.name and "-translate-" in item.name}


@pytest.fixture(scope="module")
def released(farm: FarmNetwork) -> FarmNetwork:
    """The farm after a release in which a worker was killed while it translated."""
    before = containers()
    client = farm.client("release", "demo", *options())
    eventually("a translation", lambda: farm.is_at(JOBS[0], "annotate"), 900)
    farm.state["begun"] = containers() - before
    farm.workers["native"].kill()
    time.sleep(2)
    farm.start_worker("native")
    said, _ = client.communicate(timeout=1800)
    assert client.returncode == 0, said
    farm.state["said"] = said
    return farm


def test_each_job_was_done_by_a_worker_that_can(released: FarmNetwork) -> None:
    done = {job: released.builds(job)[-1]["properties"]["workername"][0] for job in JOBS}

    for job, worker in done.items():
        assert worker == ("native" if job in NATIVE else "cross")


def test_only_the_signer_collected(released: FarmNetwork) -> None:
    by = {
        name: {build["properties"]["workername"][0] for build in released.builds(name)}
        for name in ("prepare", "collect")
    }

    assert by == {"prepare": {"signer"}, "collect": {"signer"}}
    keys = list(released.network.directory.rglob("private-keys-v1.d/*.key"))
    assert keys
    assert {key.relative_to(released.network.directory).parts[0] for key in keys} == {"signer"}


def test_work_went_on_while_its_worker_was_dead(released: FarmNetwork) -> None:
    builds = released.builds(JOBS[0])

    assert [build["results"] for build in builds] == [5, 0]  # RETRY, SUCCESS
    assert len({build["properties"]["workername"][0] for build in builds}) == 1
    logs = list((released.workers["native"].directory).rglob("detached/*/stdout"))
    assert len(logs) == len(set(JOBS) & set(NATIVE))
    assert released.state["begun"]
    assert containers().isdisjoint(released.state["begun"])


def test_stages_and_phases_are_steps_of_the_build(released: FarmNetwork) -> None:
    build = released.builds(JOBS[0])[-1]
    steps = {row["name"] for row in released.get(f"builds/{build['buildid']}/steps")}

    assert {"work", "translate demo-linux-x86_64"} <= steps
    assert any("annotate" in name for name in steps)


def test_the_claims_digests_are_properties(released: FarmNetwork) -> None:
    properties = released.builds(JOBS[0])[-1]["properties"]

    assert "translate" in str(properties["digests"][0])


@pytest.fixture
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """The same release, made by one machine."""
    if PLATFORMS == (OWN,):
        made: Project = request.getfixturevalue("fast")
        return made
    project = copy_project(tmp_path, jit=False)
    project.run("release", "demo", *options())
    return project


def test_the_farms_bytes_are_those_of_one_machine(released: FarmNetwork, alone: Project) -> None:
    ours = archives(released.published / "demo" / "demo-v1.0.0")
    theirs = archives(alone.work / "store" / "demo" / "demo-v1.0.0")

    assert ours == theirs
    assert len(ours) >= 2 * len(PLATFORMS)


def test_the_same_release_again_gives_nobody_work(released: FarmNetwork) -> None:
    before = {job: len(released.builds(job)) for job in JOBS}

    released.release("demo", *options(), "--again")

    assert {job: len(released.builds(job)) for job in JOBS} == before
