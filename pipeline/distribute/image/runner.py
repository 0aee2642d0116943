"""Makes a job's images from its verified archive.

An image has the layers of its base, one with what its variant installs, and one with the
interpreter. The engine makes the system and runs what prepares the interpreter; every byte of the
image is written here, so that the same things give the same image wherever and whenever.
"""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.distribute import oci
from pipeline.distribute.archives import Archives
from pipeline.distribute.image import description
from pipeline.distribute.image.contents import (
    Selection,
    bundled_libraries,
    require_libraries,
    select,
)
from pipeline.distribute.image.description import Subject
from pipeline.distribute.image.layers import Blob, Layer, compressed, kept, normalised
from pipeline.distribute.image.layout import Image, assembled, write_layout
from pipeline.distribute.image.saved import saved_layers
from pipeline.distribute.image.sbom import Contents, linked_pins, sbom_of
from pipeline.distribute.image.system import System, system_of
from pipeline.effects.archives import Entry, entries_of, unpack, write_archive
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import sha256_of, write_atomically
from pipeline.environment import REPOSITORY
from pipeline.errors import DigestMismatchError, ImageError
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.bases import base_for
from pipeline.model.configs import Pin, PyPyPackage, RegistryBase
from pipeline.model.images import ImageVariant, PublishedImage
from pipeline.model.platforms import Placement
from pipeline.model.records import BuiltImage, BuiltImages, Environment
from pipeline.plan import Job
from pipeline.templates import rendered

VERSION: Final = 1
TEMPLATE: Final = "image.Dockerfile.jinja"
CONTEXT_EPOCH: Final = 1
PREPARE_TIMEOUT: Final = 1800
TAG_DIGITS: Final = 12


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What one image is made with: a scratch directory, and the layers as they come about."""

    ctx: Context
    subject: Subject
    archive: Artifact
    path: Path
    scratch: Path
    stage: StageOutput

    @property
    def selection(self) -> Selection:
        """What of the archive the image does not have."""
        config, variant = self.subject.config, self.subject.variant
        return Selection(dropped=(*config.dropped, *variant.dropped), private=config.private)


def image_inputs(
    ctx: Context,
    job: Job,
    archives: Archives,
    variants: tuple[ImageVariant, ...],
    environments: tuple[Environment, ...],
) -> dict[str, object]:
    """Return everything that decides the images' bytes, but for what apt installs that day.

    That is in the record; a newer environment makes newer images.
    """
    subjects = _subjects(ctx, job, variants, environments)
    return {
        "archive": _archive(archives).sha256,
        "images": [description.described_inputs(subject, ctx.config) for subject in subjects],
        "dockerfiles": [_dockerfile(subject) for subject in subjects],
        "pins": [(name, pin.sha256) for name, pin in _pins(ctx, job)],
    }


def make_images(
    ctx: Context,
    job: Job,
    archives: Archives,
    variants: tuple[ImageVariant, ...],
    environments: tuple[Environment, ...],
    stage: StageOutput,
) -> BuiltImages:
    """Make the image of each variant on its environment, as layouts in the stage's directory.

    Raises:
        ImageError: one cannot be made, or its programs do not find their libraries.
        UnsafeArchiveError: the archive holds what must not be unpacked.
        DigestMismatchError: the archive changed since it was packed.
    """
    archive = _archive(archives)
    path = _unchanged(archives, archive)
    images = []
    for subject in _subjects(ctx, job, variants, environments):
        with tempfile.TemporaryDirectory(prefix="rpp-") as scratch:
            work = _Work(
                ctx=ctx,
                subject=subject,
                archive=archive,
                path=path,
                scratch=Path(scratch),
                stage=stage,
            )
            images.append(_make_image(work))
    return BuiltImages(images=tuple(images))


def _subjects(
    ctx: Context,
    job: Job,
    variants: tuple[ImageVariant, ...],
    environments: tuple[Environment, ...],
) -> Iterator[Subject]:
    for variant, environment in zip(variants, environments, strict=True):
        found = base_for(ctx.config, variant.environment, Placement(host=job.platform))
        if found is None:
            msg = f"environment {variant.environment}: has no base for {job.platform.identifier}."
            raise ImageError(msg)
        yield Subject(job=job, variant=variant, environment=environment, base=found[1])


def _archive(archives: Archives) -> Artifact:
    found = archives.artifact(ArtifactKind.ARCHIVE_GZ)
    if found is None:
        msg = f"{archives.package.stem}: has no .tar.gz, from which images are made."
        raise ImageError(msg)
    return found


def _unchanged(archives: Archives, archive: Artifact) -> Path:
    path = archives.path(archive)
    if (actual := sha256_of(path)) != archive.sha256:
        raise DigestMismatchError(
            str(path),
            expected=archive.sha256,
            actual=actual,
            remedy=f"It changed after it was packed. Remove {archives.directory} and run again.",
        )
    return path


def _make_image(work: _Work) -> BuiltImage:
    subject = work.subject
    with _system_image(work) as image_id:
        below = _system_layers(work, image_id)
        system = system_of(below, subject.job.platform.multiarch)
        tree = _tree(work, image_id, system)
    require_libraries(tree, system, where=f"image {subject.stem}")
    layers = (*below, _interpreter_layer(work, tree))
    image = _image(work, layers)
    work.stage.step.phase(f"write {subject.stem}")
    archive = work.stage.directory / f"{subject.stem}.oci.tar"
    write_layout(archive, image, epoch=subject.job.revision.epoch)
    published = _published(subject, image)
    sbom = _write_sbom(work, published, tree, system)
    return BuiltImage(
        image=published,
        archive=archive.name,
        sha256=sha256_of(archive),
        packages=tuple(str(package) for package in system.packages),
        sbom=sbom.name,
        sbom_sha256=sha256_of(sbom),
    )


@contextmanager
def _system_image(work: _Work) -> Iterator[str]:
    """Make base and packages afresh; give the id of that image, which is given up at the end."""
    subject, context = work.subject, work.scratch / "context.tar"
    work.stage.step.phase(f"packages of {subject.stem}")
    tag = f"{REPOSITORY}/image:{work.stage.key[:TAG_DIGITS]}-{subject.stem.lower()}"[:128]
    dockerfile = _dockerfile(subject)
    write_archive(
        context, [Entry(path="Dockerfile", content=dockerfile.encode())], epoch=CONTEXT_EPOCH
    )
    image_id = work.ctx.engine.build(
        context,
        tag=tag,
        arguments={"BASE": subject.environment.image_id},
        oci_platform=str(subject.platform),
        on_line=lambda _line: None,  # what matters of it is in an error
        fresh=True,
    )
    try:
        yield image_id
    finally:
        work.ctx.engine.remove_image(tag)


def _system_layers(work: _Work, image_id: str) -> tuple[Layer, ...]:
    """Return the layers of base and packages, as the image has them."""
    scratch, saved = work.scratch, work.scratch / "system.tar"
    work.ctx.engine.save(image_id, saved)
    layers = saved_layers(saved, scratch)
    saved.unlink()
    same = len(layers) - 1 if _is_from_registry(work) else 0
    return tuple(
        kept(path) if number < same else normalised(path, scratch / f"{number}.tar")
        for number, path in enumerate(layers)
    )


def _is_from_registry(work: _Work) -> bool:
    """Whether all below the packages is as a registry has it, with digests that engines know."""
    environment = work.ctx.config.environments[work.subject.variant.environment]
    return isinstance(work.subject.base, RegistryBase) and environment.dockerfile is None


def _dockerfile(subject: Subject) -> str:
    values = {
        "user": subject.config.user,
        "id": description.USER_ID,
        "packages": subject.variant.packages,
    }
    return rendered(TEMPLATE, values)


def _tree(work: _Work, image_id: str, system: System) -> Path:
    """Return a directory with what the image has of the archive, prepared."""
    work.stage.step.phase(f"contents of {work.subject.stem}")
    directory = work.scratch / "archive"
    directory.mkdir()
    unpack(work.path, directory)
    tree = directory / work.subject.job.stem
    select(tree, work.selection, system.libraries)
    if work.subject.config.prepare:
        tree = _prepared(work, image_id, tree)
        select(tree, work.selection, system.libraries)
    return tree


def _prepared(work: _Work, image_id: str, tree: Path) -> Path:
    """Run the commands that prepare the tree, where it will lie; return what they made of it."""
    subject, scratch = work.subject, work.scratch
    work.stage.step.phase(f"prepare {subject.stem}")
    given, made = scratch / "given.tar", scratch / "made.tar"
    epoch = subject.job.revision.epoch
    write_archive(given, entries_of(tree, subject.config.directory), epoch=epoch)
    step = ContainerStep(
        name=f"image-{work.stage.key[:TAG_DIGITS]}-{subject.stem}",
        image_id=image_id,
        command=("sh", "-ec", _script(subject)),
        directory="/",
        environment={
            "HOME": "/tmp",  # noqa: S108 - of the container
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": str(epoch),
        },
        inputs=(given,),
        output=subject.root,
        user="0:0",
        timeout=PREPARE_TIMEOUT,
        silence=PREPARE_TIMEOUT,
        limits="image",
    )
    lines: list[str] = []
    result = work.ctx.engine.run(step, output=made, on_line=lines.append)
    if result.status != 0:
        last = "\n".join(lines[-20:])
        msg = f"image {subject.stem}: its commands in prepare ended with {result.status}:\n{last}"
        raise ImageError(msg)
    directory = scratch / "prepared"
    directory.mkdir()
    unpack(made, directory)
    return directory / PurePosixPath(subject.config.directory).name


def _script(subject: Subject) -> str:
    commands = (
        shlex.join(word.replace("{root}", subject.root) for word in command)
        for command in subject.config.prepare
    )
    return "\n".join(commands)


def _interpreter_layer(work: _Work, tree: Path) -> Layer:
    path = work.scratch / "interpreter.tar"
    entries = entries_of(tree, work.subject.config.directory)
    write_archive(path, entries, epoch=work.subject.job.revision.epoch)
    return kept(path)


def _image(work: _Work, layers: tuple[Layer, ...]) -> Image:
    work.stage.step.phase(f"compress {work.subject.stem}")
    annotations = description.annotations_of(work.subject, work.ctx.config.vendor.name)
    configuration = description.configuration_of(work.subject, layers, annotations)
    return assembled(configuration, list(_blobs(work, layers)), annotations)


def _blobs(work: _Work, layers: tuple[Layer, ...]) -> Iterator[Blob]:
    for number, layer in enumerate(layers):
        yield compressed(layer, work.scratch / f"{number}.tar.gz")


def _published(subject: Subject, image: Image) -> PublishedImage:
    return PublishedImage(
        image=subject.config.image,
        line=subject.config.line,
        variant=subject.variant.name,
        suite=subject.variant.suite,
        platform=subject.job.platform.identifier,
        digest=oci.digest_of(image.manifest),
        manifest_size=len(image.manifest),
        size=image.size,
    )


def _write_sbom(work: _Work, image: PublishedImage, tree: Path, system: System) -> Path:
    libraries = bundled_libraries(tree, work.selection)
    contents = Contents(
        archive=work.archive,
        pins=_pins(work.ctx, work.subject.job),
        libraries=tuple((name, sha256_of(tree / name)) for name in libraries),
        packages=system.packages,
    )
    document = sbom_of(work.subject, image, contents, work.ctx.config.vendor.name)
    path = work.stage.directory / f"{work.subject.stem}.spdx.json"
    write_atomically(path, oci.to_bytes(document))
    return path


def _pins(ctx: Context, job: Job) -> tuple[tuple[str, Pin], ...]:
    """Return the libraries that are linked into the archive's modules."""
    package = job.interpreter.package
    embedded = package.embedded.values() if isinstance(package, PyPyPackage) else ()
    return linked_pins((library.pin for library in embedded), ctx.config.pins)
