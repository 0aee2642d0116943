"""What was made of archives is installed before it is public."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.errors import InstallError
from pipeline.install.runner import Given, check_installs, install_inputs
from pipeline.model.base import canonical_json
from pipeline.model.debian import BinaryPackage, DebianConfig
from pipeline.model.install import InstallTest
from pipeline.model.records import BuiltImage, Environment
from pipeline.plan import Job
from tests.factories import changed, digest
from tests.fakes import Answer, World, make_job, make_world, stage_output
from tests.images import make_published_images

TEST: Final = InstallTest(name="version", argv=("toy", "--version"), stdout="toy 1.2.3\n")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world in which every command of apt works."""
    world = make_world(tmp_path)
    words = {"/srv/home": "", "update": "", "--purge": "", "-print": "/etc/passwd\n", "toy": ""}
    words |= {"toy=1.2.3-1~deb11": "", "toy-dev=1.2.3-1~deb11": "", "toy-dev": ""}
    world.engine.answers = {(word,): Answer(stdout=text) for word, text in words.items()}
    world.engine.answers["id", "-u"] = Answer(stdout="1000\n")
    world.engine.answers["toy", "--version"] = Answer(stdout="toy 1.2.3\n")
    return world


def job_of(world: World, *suites: str) -> Job:
    job = make_job(world.ctx)
    toy = changed(job.interpreter, debian=DebianConfig(package="toy"), install=(TEST,))
    return changed(job, interpreter=toy, suites=suites)


def package(directory: Path, name: str = "toy", suite: str = "old") -> BinaryPackage:
    """Write a package's file, and return what is said of it."""
    filename = f"{name}_1.2.3-1.deb11_amd64.deb"
    (directory / filename).write_bytes(name.encode())
    return BinaryPackage(
        filename=filename,
        suite=suite,
        platform="linux-x86_64",
        architecture="amd64",
        name=name,
        package_version="1.2.3-1~deb11",
        control=f"Package: {name}\nVersion: 1.2.3-1~deb11",
        size=len(name),
        sha256=hashlib.sha256(name.encode()).hexdigest(),
    )


def built(directory: Path) -> BuiltImage:
    (image,) = make_published_images(
        suites=("trixie",), variants=("slim",), platforms=("linux-x86_64",)
    )
    write_archive(directory / "image.oci.tar", [Entry(path="index.json", content=b"{}")], epoch=1)
    return BuiltImage(image=image, archive="image.oci.tar", sha256=digest("image"), packages=())


def given(directory: Path, *names: str, images: bool = False) -> Given:
    return Given(
        packages=tuple(package(directory, name) for name in names),
        packages_directory=directory,
        images=(built(directory),) if images else (),
        images_directory=directory,
    )


def environment(world: World) -> Environment:
    image_id = world.engine.add_image("clean-old")
    return Environment(name="clean-old", digest=digest("clean"), image_id=image_id, packages=())


def test_packages_come_from_a_local_repository_and_images_from_their_layout(
    world: World, tmp_path: Path
) -> None:
    made = given(tmp_path, "toy", "toy-dev", images=True)

    with stage_output(world.ctx) as stage:
        record = check_installs(world.ctx, job_of(world, "old"), made, (environment(world),), stage)

    assert [(item.client, item.what) for item in record.installed] == [
        ("apt", ("version", "purged")),
        ("image", ("version",)),
    ]
    copied = [members for _, session in world.engine.sessions for _, members in session.copied]
    names = {member.name for members in copied for member in members if member.isfile()}
    assert names == {
        "etc/apt/sources.list.d/local.sources",
        "srv/packages/Packages",
        "srv/packages/toy_1.2.3-1.deb11_amd64.deb",
        "srv/packages/toy-dev_1.2.3-1.deb11_amd64.deb",
    }
    assert "remove_image" in world.engine.asked


def test_an_image_that_does_not_work_is_not_left_in_the_engine(
    world: World, tmp_path: Path
) -> None:
    world.engine.answers["id", "-u"] = Answer(stdout="0\n")
    made, job = given(tmp_path, images=True), job_of(world)
    before = set(world.engine.images)

    with stage_output(world.ctx) as stage, pytest.raises(InstallError, match="runs as root"):
        check_installs(world.ctx, job, made, (), stage)

    assert set(world.engine.images) == before


def test_apt_has_a_network_for_the_distributions_own_packages_and_an_image_has_none(
    world: World, tmp_path: Path
) -> None:
    made = given(tmp_path, "toy", images=True)

    with stage_output(world.ctx) as stage:
        check_installs(world.ctx, job_of(world, "old"), made, (environment(world),), stage)

    assert world.engine.networks == ["bridge", "none"]


def test_another_file_test_or_system_is_another_installation(world: World, tmp_path: Path) -> None:
    job, made, clean = job_of(world, "old"), given(tmp_path, "toy"), environment(world)
    other_test = changed(
        job, interpreter=changed(job.interpreter, install=(changed(TEST, name="other"),))
    )
    other_file = replace(made, packages=(changed(made.packages[0], sha256=digest("other")),))

    inputs = [
        install_inputs(job, made, (clean,)),
        install_inputs(other_test, made, (clean,)),
        install_inputs(job, other_file, (clean,)),
        install_inputs(job, given(tmp_path, "toy", images=True), (clean,)),
        install_inputs(job, made, (changed(clean, digest=digest("newer")),)),
    ]

    assert len({canonical_json(item) for item in inputs}) == len(inputs)
