"""The container engine: limits, confinement, interrupts, and base images from a registry."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from pipeline.config import load_config
from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import WorkDirectory
from pipeline.errors import StepSilentError, StepTimeoutError
from tests.integration.conftest import ROOT, Project

pytestmark = pytest.mark.docker

TAG = "rpython-pipeline/base-bullseye"


@pytest.fixture(scope="session")
def image(fast: Project) -> str:
    """The base image that the fast release was tried in."""
    records = fast.work.glob("cache/environments/*.json")
    found = [json.loads(path.read_text()) for path in records]
    return str(next(item["image_id"] for item in found if item["name"] == "clean"))


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> DockerEngine:
    return DockerEngine(f"test{abs(hash(request.node.name)) % 10**8}")


def step(image: str, script: str, **changes: object) -> ContainerStep:
    given: dict[str, object] = {
        "name": "step",
        "image_id": image,
        "command": ("sh", "-c", script),
        "directory": "/tmp",
        "output": "/tmp",
        "timeout": 60.0,
        "silence": 60.0,
    }
    return ContainerStep(**{**given, **changes})  # type: ignore[arg-type]


def ours(engine: DockerEngine) -> list[str]:
    client = docker.from_env()
    label = f"org.rpython-pipeline.workspace={engine._workspace}"  # noqa: SLF001
    return [str(item.name) for item in client.containers.list(all=True, filters={"label": label})]


def test_output_and_lines_come_back(engine: DockerEngine, image: str, tmp_path: Path) -> None:
    lines: list[str] = []

    result = engine.run(
        step(image, "echo one; echo two >&2; echo made > /tmp/file"),
        output=tmp_path / "out.tar",
        on_line=lines.append,
    )

    assert (result.status, sorted(lines)) == (0, ["one", "two"])
    assert (tmp_path / "out.tar").stat().st_size > 0
    assert ours(engine) == []


def test_a_step_has_no_network_no_capability_and_no_root(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    script = "id -u; ls /sys/class/net; grep -E 'CapEff|NoNewPrivs' /proc/self/status"

    engine.run(step(image, script), output=tmp_path / "out.tar", on_line=lines.append)

    assert lines == ["1000", "lo", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]


def test_address_randomisation_can_be_switched_off(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    """The engine's own profile refuses it; ours allows it."""
    profile = (ROOT / "dockerfiles" / "seccomp.json").read_text()
    lines: list[str] = []
    script = "for i in 1 2 3; do setarch -R sh -c 'grep stack /proc/self/maps'; done"

    result = engine.run(
        step(image, script, seccomp=profile), output=tmp_path / "o.tar", on_line=lines.append
    )

    assert result.status == 0
    assert len(lines) == 3
    assert len(set(lines)) == 1


def test_a_step_that_takes_too_long_is_stopped(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    endless = step(image, "trap '' TERM; while :; do echo on; sleep 0.2; done", timeout=2.0)

    with pytest.raises(StepTimeoutError, match="not finished after 2 s"):
        engine.run(endless, output=tmp_path / "out.tar", on_line=lambda _line: None)

    assert ours(engine) == []


def test_a_silent_step_is_stopped(engine: DockerEngine, image: str, tmp_path: Path) -> None:
    with pytest.raises(StepSilentError, match="wrote nothing for 2 s"):
        engine.run(
            step(image, "echo last; sleep 600", silence=2.0),
            output=tmp_path / "out.tar",
            on_line=lambda _line: None,
        )

    assert ours(engine) == []


def test_a_step_of_a_killed_run_is_taken_over(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    """A second engine of the same work directory waits for the container of the first."""
    slow = step(image, "date +%s%N > /tmp/when; sleep 5; echo done")
    client = docker.from_env()
    started = client.containers.run(
        image,
        list(slow.command),
        name=f"rpp-{engine._workspace}-step",  # noqa: SLF001
        labels={"org.rpython-pipeline.workspace": engine._workspace},  # noqa: SLF001
        detach=True,
    )
    lines: list[str] = []

    result = engine.run(slow, output=tmp_path / "out.tar", on_line=lines.append)

    assert (result.status, result.adopted, lines) == (0, True, ["done"])
    assert started.id not in {item.id for item in client.containers.list(all=True)}


def test_a_session_kills_what_takes_too_long(engine: DockerEngine, image: str) -> None:
    with engine.session(image) as session:
        done = session.call(("sleep", "60"), timeout=1)

    assert done.status == 137
    assert ours(engine) == []


def test_what_a_killed_run_left_is_removed(engine: DockerEngine, image: str) -> None:
    client = docker.from_env()
    labels = {
        "org.rpython-pipeline.workspace": engine._workspace,  # noqa: SLF001
        "org.rpython-pipeline.session": "yes",
    }
    left = client.containers.run(image, ["sleep", "600"], labels=labels, detach=True)

    with engine.session(image):
        during = ours(engine)

    assert left.name not in during
    assert len(during) == 1


@pytest.mark.slow
def test_an_interrupt_stops_the_container(fast: Project, project: Project) -> None:
    """Ctrl-C ends the translation's container and leaves with the usual status."""
    del fast  # its images are needed
    process = subprocess.Popen(
        project.command("translate"),
        cwd=ROOT,
        env={**os.environ, "CI": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "annotate" in line:
            break
    workspace = WorkDirectory(project.work).identity()

    process.send_signal(signal.SIGINT)
    process.stderr.read()

    assert process.wait(timeout=60) == 130
    assert ours(DockerEngine(workspace)) == []
    process.stderr.close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on the loopback interface."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        "http: {addr: '127.0.0.1:5005'}\n"
    )
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    time.sleep(2)
    yield "127.0.0.1:5005"
    process.terminate()
    process.wait()
    log.close()


def test_a_base_comes_from_a_registry_by_digest(
    project: Project, image: str, registry: str
) -> None:
    client = docker.from_env()
    name = f"{registry}/debian"
    client.images.get(image).tag(name, "bullseye")
    pushed = [json.loads(line) for line in client.api.push(name, "bullseye").splitlines()]
    digest = next(item["aux"]["Digest"] for item in pushed if "aux" in item)
    client.images.remove(f"{name}:bullseye")
    text = (project.configs / "environments.toml").read_text()
    before, _, after = text.partition("[bases.bullseye]\n")
    _, _, rest = after.partition("\n\n")
    base = (
        f'[bases.bullseye]\nkind = "registry"\nreference = "{name}@{digest}"\n'
        'architectures = ["amd64", "arm64", "armhf", "i386"]\n\n'
    )
    (project.configs / "environments.toml").write_text(before + base + rest)

    ran = project.run("config", "--json")

    assert digest in ran.stdout
    assert load_config(project.configs).bases["bullseye"].kind == "registry"
    resolved = DockerEngine("registry").pull(
        f"{name}@{digest}", oci_platform="linux/amd64", on_line=lambda _line: None
    )
    assert resolved == image
    client.images.remove(f"{name}@{digest}")


def test_a_build_context_reaches_the_engine(engine: DockerEngine, tmp_path: Path) -> None:
    context = tmp_path / "context.tar"
    write_archive(
        context,
        [
            Entry(path="Dockerfile", content=b"FROM scratch\nADD file /file\n"),
            Entry(path="file", content=b"content"),
        ],
        epoch=1,
    )

    built = engine.build(
        context,
        tag="rpython-pipeline/test:build",
        arguments={},
        oci_platform="linux/arm64",
        on_line=lambda _line: None,
    )

    assert engine.image_machine(built) == "arm64"
    docker.from_env().images.remove(built, force=True)
