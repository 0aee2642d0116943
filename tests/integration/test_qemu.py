"""Another architecture under user-mode emulation: its base image, and what refuses it."""

import platform
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.files import WorkDirectory
from pipeline.effects.http import HttpClient
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import HttpView
from pipeline.environment import ready_environment
from pipeline.errors import ImageError
from pipeline.model.platforms import Placement
from tests.integration.conftest import Project

pytestmark = [pytest.mark.docker, pytest.mark.qemu, pytest.mark.network, pytest.mark.slow]

FOREIGN = {"x86_64": "linux-aarch64", "aarch64": "linux-x86_64"}[platform.machine()]
BINFMT = Path("/proc/sys/fs/binfmt_misc")


def context(project: Project) -> Context:
    work = WorkDirectory(project.work)
    return Context(
        root=project.configs.parent,
        config=load_config(project.configs),
        work=work,
        engine=DockerEngine(work.identity()),
        process=ProcessRunner(),
        http=HttpClient(),
        public=HttpView(HttpClient()),
        console=Console(),
        now=utc_now,
        releaser="tests",
    )


def test_a_foreign_base_is_bootstrapped_and_runs(project: Project) -> None:
    ctx = context(project)
    foreign = ctx.config.platforms[FOREIGN]

    environment = ready_environment(ctx, "clean-newer", Placement(host=foreign))

    assert foreign.oci is not None
    assert ctx.engine.image_machine(environment.image_id) == foreign.oci.architecture
    with ctx.engine.session(environment.image_id) as session:
        assert session.call(("uname", "-m")).text.strip() == foreign.machine
    assert any(line.endswith(f" {foreign.debian_arch}") for line in environment.packages)


def test_an_image_of_another_architecture_is_refused(project: Project) -> None:
    """A native image under the foreign platform's name would build the wrong binaries."""
    ctx = context(project)
    native = next(row for row in ctx.config.platforms.values() if row.machine == platform.machine())
    image = ready_environment(ctx, "clean-newer", Placement(host=native)).image_id
    reference = "localhost/debian@sha256:" + "0" * 64
    project.edit("environments.toml", ("[bases.bookworm]", "[bases.unused]"))
    text = (project.configs / "environments.toml").read_text()
    (project.configs / "environments.toml").write_text(
        f'{text}\n[bases.bookworm]\nkind = "registry"\nreference = "{reference}"\n'
        'architectures = ["amd64", "arm64"]\n'
    )

    class PulledAsIs(DockerEngine):
        """An engine whose registry gives the native image, whatever is asked for."""

        def image_id(self, reference: str) -> str | None:
            return image if "localhost" in reference else super().image_id(reference)

    changed = context(project)
    wrong = Context(**{**vars(changed), "engine": PulledAsIs(changed.work.identity())})
    foreign = wrong.config.platforms[FOREIGN]

    assert foreign.oci is not None
    with pytest.raises(ImageError, match=f"needs {foreign.oci.architecture}"):
        ready_environment(wrong, "clean-newer", Placement(host=foreign))


def test_doctor_sees_the_emulator(project: Project) -> None:
    foreign = load_config(project.configs).platforms[FOREIGN]

    seen = project.run("doctor", check=False)

    assert f"emulation of {foreign.machine}" in seen.stderr
    registered = (BINFMT / f"qemu-{foreign.machine}").exists()
    assert ("registered" in seen.stderr) is registered
