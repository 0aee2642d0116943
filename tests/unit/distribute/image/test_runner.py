"""Images of the toy, made with an engine whose answers the test decides."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.distribute.archives import Archives
from pipeline.distribute.image.runner import image_inputs, make_images
from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import describe, sha256_of
from pipeline.errors import DigestMismatchError, ImageError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.images import ImageConfig, ImageVariant
from pipeline.model.records import BuiltImages, Environment, Package
from pipeline.plan import Job
from pipeline.templates import rendered
from tests.factories import make_build_info_of, make_environment
from tests.fakes import Ran, World, make_job, make_world, stage_output

VARIANT: Final = ImageVariant(
    name="slim", suite="bullseye", environment="clean-old", packages=("zlib1g",)
)
IMAGE: Final = ImageConfig(
    image="toy",
    line="1.0",
    directory="opt/toy",
    user="toy",
    dropped=("test/*",),
    command=("toy",),
    variants=(VARIANT,),
)
STATUS: Final = b"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n"


def tar_of(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name.replace("__", "/"))
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def saved_image() -> bytes:
    layers = {
        "base": tar_of(etc__passwd=b"root", var__log__dpkg=b"today"),
        "packages": tar_of(var__lib__dpkg__status=STATUS),
    }
    manifest = json.dumps([{"Layers": list(layers)}]).encode()
    return tar_of(**layers, **{"manifest.json": manifest})


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The toy's world, in which an engine saves a base and a layer of packages."""
    world = make_world(tmp_path / "project")
    world.engine.saved = saved_image()
    return world


@pytest.fixture
def environment(world: World) -> Environment:
    """The variant's environment, whose image the engine holds."""
    return make_environment(image_id=world.engine.add_image("base"))


def job_with(world: World, **changes: Any) -> Job:
    job = make_job(world.ctx)
    image = IMAGE.model_copy(update=changes)
    return job.model_copy(
        update={"interpreter": job.interpreter.model_copy(update={"image": image})}
    )


def archives_of(job: Job, directory: Path) -> Archives:
    path = directory / f"{job.stem}.tar.gz"
    entries = [
        Entry(path=f"{job.stem}/bin/toy", content=b"#!/bin/sh\n", executable=True),
        Entry(path=f"{job.stem}/test/data", content=b"of no use"),
    ]
    write_archive(path, entries, epoch=job.revision.epoch, compression=Compression.GZIP)
    artifact = describe(path, ArtifactKind.ARCHIVE_GZ, job.platform.identifier)
    package = Package(stem=job.stem, artifacts=(artifact,))
    return Archives(package=package, directory=directory, info=make_build_info_of(job))


def make(world: World, job: Job, archives: Archives, environment: Environment) -> BuiltImages:
    with stage_output(world.ctx) as stage:
        return make_images(world.ctx, job, archives, (VARIANT,), (environment,), stage)


def test_an_image_has_a_layer_for_the_base_the_packages_and_the_interpreter(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    job = job_with(world)

    (built,) = make(world, job, archives_of(job, tmp_path), environment).images

    path = world.ctx.work.path("stage", "k" * 64) / built.archive
    with tarfile.open(path) as archive:
        content = archive.extractfile("manifest.json")
        assert content is not None
        (manifest,) = json.loads(content.read())
        names = []
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as opened:
                names.append([member.name for member in opened if member.isfile()])
    assert names == [["etc/passwd"], ["var/lib/dpkg/status"], ["opt/toy/bin/toy"]]
    assert built.sha256 == sha256_of(path)
    assert built.packages == ("zlib1g 1 amd64",)
    assert built.image.suite == "bullseye"
    assert "build afresh" in world.engine.asked
    assert list(world.engine.images) == ["base"]
    assert "run" not in world.engine.asked


def test_what_prepares_the_interpreter_is_run_where_it_will_lie(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    job = job_with(world, prepare=(("{root}/bin/toy", "a b"),))
    world.engine.scripts["image"] = lambda _step: Ran(files={"bin/toy": b"prepared"})

    make(world, job, archives_of(job, tmp_path), environment)

    (step,) = world.engine.steps
    assert step.command == ("sh", "-ec", "/opt/toy/bin/toy 'a b'")
    assert (step.output, step.user) == ("/opt/toy", "0:0")


def test_an_image_whose_preparation_fails_is_not_made(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    def failing(_step: ContainerStep) -> Ran:
        return Ran(status=3, lines=("no wheel",))

    job = job_with(world, prepare=(("false",),))
    world.engine.scripts["image"] = failing

    with pytest.raises(ImageError, match=r"prepare ended with 3:\nno wheel"):
        make(world, job, archives_of(job, tmp_path), environment)

    assert list(world.engine.images) == ["base"]


def test_of_an_image_that_cannot_be_read_nothing_stays_in_the_engine(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    job = job_with(world)
    world.engine.saved = b"no image"

    with pytest.raises(ImageError, match="not what an engine saves"):
        make(world, job, archives_of(job, tmp_path), environment)

    assert list(world.engine.images) == ["base"]


def test_an_archive_that_changed_is_not_used(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    job = job_with(world)
    archives = archives_of(job, tmp_path)
    (tmp_path / f"{job.stem}.tar.gz").write_bytes(b"other")

    with pytest.raises(DigestMismatchError, match="changed after it was packed"):
        make(world, job, archives, environment)


@pytest.mark.parametrize(
    "changes",
    [{"user": "other"}, {"command": ("toy1",)}, {"directory": "opt/other"}, {"dropped": ()}],
)
def test_what_the_config_says_decides_an_image(
    world: World, environment: Environment, tmp_path: Path, changes: dict[str, Any]
) -> None:
    job = job_with(world)
    archives = archives_of(job, tmp_path)

    def inputs(of: Job, variant: ImageVariant = VARIANT) -> dict[str, object]:
        return image_inputs(world.ctx, of, archives, (variant,), (environment,))

    assert inputs(job) == inputs(job_with(world))
    assert inputs(job) != inputs(job_with(world, **changes))
    assert inputs(job) != inputs(job, VARIANT.model_copy(update={"packages": ()}))


@pytest.mark.parametrize("packages", [(), ("zlib1g",)], ids=["no packages", "packages"])
def test_what_is_in_the_base_is_brought_up_to_date(packages: tuple[str, ...]) -> None:
    """A base may be as old as its environment is used."""
    values = {"user": "toy", "id": 1000, "packages": packages}

    lines = rendered("image.Dockerfile.jinja", values).splitlines()

    steps = [line.split("&&")[-1].strip().rstrip(" \\") for line in lines if "apt-get" in line]
    assert steps[:2] == ["apt-get update", "DEBIAN_FRONTEND=noninteractive apt-get upgrade --yes"]
    assert len(steps) == 2 + bool(packages)
