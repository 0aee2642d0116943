"""Images of a small archive, made by a real engine, taken back and run."""

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import docker
import lief
import pytest

from pipeline.config import load_config
from pipeline.distribute.archives import Archives
from pipeline.distribute.image.runner import make_images
from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.clock import utc_now
from pipeline.effects.console import Console
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.files import WorkDirectory, describe, sha256_of
from pipeline.effects.http import HttpClient
from pipeline.effects.process import ProcessRunner
from pipeline.effects.public import HttpView
from pipeline.environment import ready_environment
from pipeline.errors import ImageError
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.images import ImageConfig, ImageVariant
from pipeline.model.platforms import Placement
from pipeline.model.records import BuiltImage, Environment, Package
from pipeline.plan import Job
from tests.factories import make_build_info_of, make_job
from tests.fakes import ELF as TOY
from tests.fakes import recorded_console
from tests.integration.conftest import ROOT

ELF: Final = TOY.read_bytes()
pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

SCRIPT: Final = b'#!/bin/sh\ntoy && echo "demo $DEMO_VERSION in $PWD with $LANG"\n'
VARIANT: Final = ImageVariant(
    name="slim", suite="bookworm", environment="clean-bookworm", packages=("libexpat1",)
)
WITHOUT_PACKAGES: Final = VARIANT.model_copy(update={"packages": ()})
IMAGE: Final = ImageConfig(
    image="demo",
    line="1.0",
    directory="opt/demo",
    user="demo",
    private=("lib/*.so*",),
    dropped=("test/*", "*.pyc"),
    command=("demo",),
    # What it leaves elsewhere is not in the image, whatever the time and the order.
    prepare=(
        ("sh", "-c", "date +%N >/tmp/now; mkdir {root}/made; touch {root}/made/b {root}/made/a"),
    ),
    variants=(VARIANT,),
)
OUTDATED: Final = rb"""ARG BASE
FROM ${BASE}
RUN sed -i '/^Package: hostname$/,/^$/s/^Version: .*/Version: 0.1/' /var/lib/dpkg/status \
 && echo flawed > /bin/hostname \
 && mkdir /usr/share/old && touch /usr/share/old/file \
 && printf '/usr/share/old\n/usr/share/old/file\n' >> /var/lib/dpkg/info/hostname.list
"""


@pytest.fixture(scope="module")
def console() -> Console:
    """A console that is not looked at."""
    return recorded_console()[0]


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory, console: Console) -> Context:
    """The project as shipped, with a work directory of its own and the real engine."""
    work = WorkDirectory(tmp_path_factory.mktemp("image") / "out")
    http = HttpClient()
    return Context(
        root=ROOT,
        config=load_config(ROOT / "translation_configs"),
        work=work,
        engine=DockerEngine(work.identity()),
        process=ProcessRunner(),
        http=http,
        public=HttpView(http),
        console=console,
        now=utc_now,
        releaser="tests",
    )


@pytest.fixture(scope="module")
def environment(ctx: Context) -> Environment:
    """Debian bookworm, minimal."""
    placement = Placement(host=ctx.config.platforms["linux-x86_64"])
    return ready_environment(ctx, VARIANT.environment, placement)


@pytest.fixture(scope="module")
def outdated(
    ctx: Context, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """The same with a package of which the mirror has a newer one, with a file less."""
    context, tag = tmp_path_factory.mktemp("outdated") / "context.tar", "rpython-pipeline/test:old"
    write_archive(context, [Entry(path="Dockerfile", content=OUTDATED)], epoch=1)
    image_id = ctx.engine.build(
        context,
        tag=tag,
        arguments={"BASE": environment.image_id},
        oci_platform="linux/amd64",
        on_line=lambda _line: None,
    )
    yield environment.model_copy(update={"image_id": image_id})
    ctx.engine.remove_image(tag)


@pytest.fixture
def make(ctx: Context, environment: Environment, tmp_path: Path) -> Callable[..., BuiltImage]:
    """Give a function that makes the image of an archive in a directory of that name."""

    def made(
        name: str,
        program: bytes = ELF,
        prepare: tuple[tuple[str, ...], ...] = IMAGE.prepare,
        variant: ImageVariant = WITHOUT_PACKAGES,
        environment: Environment = environment,
    ) -> BuiltImage:
        job = job_with(IMAGE.model_copy(update={"prepare": prepare}))
        directory = tmp_path / name
        directory.mkdir()
        with ctx.console.step(name) as step:
            stage = StageOutput(key=name.ljust(64, "0"), directory=directory, step=step)
            archives = archives_of(job, program, tmp_path / f"{name}-given")
            built = make_images(ctx, job, archives, (variant,), (environment,), stage)
        return built.images[0]

    return made


def job_with(image: ImageConfig) -> Job:
    job = make_job()
    interpreter = job.interpreter.model_copy(update={"image": image})
    return job.model_copy(update={"interpreter": interpreter})


def archives_of(job: Job, program: bytes, directory: Path) -> Archives:
    """Pack a program, a library that Debian has too, one that it has not, and a test."""
    directory.mkdir()
    path = directory / f"{job.stem}.tar.gz"
    entries = [
        Entry(path=f"{job.stem}/bin/demo", content=SCRIPT, executable=True),
        Entry(path=f"{job.stem}/bin/toy", content=program, executable=True),
        Entry(path=f"{job.stem}/bin/demo1", link="demo"),
        Entry(path=f"{job.stem}/lib/libz.so.1", content=ELF),
        Entry(path=f"{job.stem}/lib/libown.so.7", content=ELF),
        Entry(path=f"{job.stem}/test/data", content=b"of no use"),
    ]
    write_archive(path, entries, epoch=1_779_753_600, compression=Compression.GZIP)
    artifact = describe(path, ArtifactKind.ARCHIVE_GZ, job.platform.identifier)
    package = Package(stem=job.stem, artifacts=(artifact,))
    return Archives(package=package, directory=directory, info=make_build_info_of(job))


def run(image_id: str, *command: str) -> str:
    """Return what a command writes in a container of an image."""
    output: bytes = docker.from_env().containers.run(
        image_id, list(command) or None, remove=True, network_mode="none"
    )
    return output.decode()


def test_an_image_made_twice_is_the_same_and_runs(
    ctx: Context, make: Callable[..., BuiltImage], outdated: Environment, tmp_path: Path
) -> None:
    first, second = (
        make(name, variant=VARIANT, environment=outdated) for name in ("first", "second")
    )

    assert first == second
    layout = tmp_path / "first" / first.archive
    assert sha256_of(layout) == first.sha256 == sha256_of(tmp_path / "second" / second.archive)
    image_id = ctx.engine.load(layout)
    try:
        assert run(image_id) == "demo 1.0.0 in /home/demo with C.UTF-8\n"
        assert run(image_id, "id") == "uid=1000(demo) gid=1000(demo) groups=1000(demo)\n"
        assert run(image_id, "sh", "-c", "cd /opt/demo && find . -type f | sort") == (
            "./bin/demo\n./bin/toy\n./lib/libown.so.7\n./made/a\n./made/b\n"
        )
        labels = docker.from_env().images.get(image_id).labels
        assert labels["org.opencontainers.image.version"] == "1.0.0"
        assert labels["org.opencontainers.image.licenses"] == "MIT"
    finally:
        docker.from_env().images.remove(image_id, force=True)
    assert any(line.startswith("libexpat1 ") for line in first.packages)


def test_a_base_without_packages_is_brought_up_to_date(
    ctx: Context, make: Callable[..., BuiltImage], outdated: Environment, tmp_path: Path
) -> None:
    """What a newer package has no more, or otherwise, is so in the image."""
    built = make("updated", environment=outdated)

    image_id = ctx.engine.load(tmp_path / "updated" / built.archive)
    try:
        run(image_id, "sh", "-c", "test ! -e /usr/share/old && hostname --version")
    finally:
        ctx.engine.remove_image(image_id)
    (hostname,) = (line for line in built.packages if line.startswith("hostname "))
    assert not hostname.startswith("hostname 0.1 ")


def test_an_image_lists_what_is_in_it(make: Callable[..., BuiltImage], tmp_path: Path) -> None:
    image = make("listed")

    document = json.loads((tmp_path / "listed" / str(image.sbom)).read_bytes())

    names = [package["name"] for package in document["packages"]]
    assert names[:3] == ["demo", "demo", "libown.so.7"]
    assert set(names[3:]) == {line.split()[0] for line in image.packages}


def test_an_image_without_a_library_that_its_program_needs_is_not_made(
    make: Callable[..., BuiltImage],
) -> None:
    program = lief.ELF.parse(list(ELF))
    assert program is not None
    program.add_library("libmissing.so.3")

    with pytest.raises(ImageError, match=r"bin/toy needs libmissing\.so\.3"):
        make("missing", bytes(program.write_to_bytes()), prepare=())


def test_an_image_whose_preparation_fails_is_not_made(make: Callable[..., BuiltImage]) -> None:
    with pytest.raises(ImageError, match=r"(?s)ended with 3:.*no wheel"):
        make("failing", prepare=(("sh", "-c", "echo no wheel; exit 3"),))


def test_an_engine_does_not_take_what_is_no_image(ctx: Context, tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w"):
        pass

    with pytest.raises(ImageError, match=r"odd\.tar"):
        ctx.engine.load(path)
