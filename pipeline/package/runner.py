"""Makes a job's archives: ``<stem>.tar.gz`` and the like; *stem* is their only top directory.

How the tree comes about depends on the kind of package; how it is packed does not.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import Compression, Entry, write_archive, write_zip
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import describe
from pipeline.model import naming
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import content_key, pretty_json
from pipeline.model.configs import PlainPackage, PyPyPackage
from pipeline.model.records import BuildInfo, Environment, Package, SourceTree, Translation
from pipeline.package import plain, pypy
from pipeline.package.assembly import Assembled, Translated
from pipeline.plan import Job, archive_names
from pipeline.translate.command import translation_options

VERSION: Final = 2
COMPRESSIONS: Final = {
    ArtifactKind.ARCHIVE_GZ: Compression.GZIP,
    ArtifactKind.ARCHIVE_ZST: Compression.ZSTD,
    ArtifactKind.DEBUG_ZST: Compression.ZSTD,
}


@dataclass(frozen=True, kw_only=True)
class PackageInput:
    """What a job's archives are made from."""

    info: BuildInfo
    translated: Translated


def package_inputs(
    ctx: Context, job: Job, info: BuildInfo, environment: Environment
) -> dict[str, object]:
    """Return everything that decides the archives' bytes."""
    package = job.interpreter.package
    return {
        "info": info.model_dump(mode="json"),
        "environment": environment.digest,
        "stem": job.stem,
        "config": package.model_dump(mode="json"),
        "given": (
            plain.input_digests(ctx, job)
            if isinstance(package, PlainPackage)
            else pypy.given_inputs(ctx, job)
        ),
    }


def input_key(ctx: Context, job: Job, translation_key: str, environment: str) -> str:
    """Return the digest of everything that decides the archives' bytes, but for their names.

    It is known before anything is translated: a nightly with the key of the last one is no news.
    *environment* is the digest of the environment.
    """
    interpreter, package = job.interpreter, job.interpreter.package
    return content_key(
        "inputs",
        VERSION,
        translation=translation_key,
        revision=job.revision.revision,
        environment=environment,
        versions=[str(job.version), job.language_version],
        described=[interpreter.license, interpreter.homepage],
        config=package,
        given=(
            plain.input_digests(ctx, job)
            if isinstance(package, PlainPackage)
            else pypy.given_inputs(ctx, job)
        ),
    )


def release_input_key(keys: Mapping[str, str]) -> str:
    """Return the digest of a release's inputs, from its jobs' keys by identifier."""
    return content_key("release-inputs", VERSION, jobs=dict(keys))


def build_info(
    ctx: Context, job: Job, source: SourceTree, translation: Translation, translation_key: str
) -> BuildInfo:
    """Return the machine-readable description that is packed into the archive. Pure.

    The command is shown by the options that decide the binary; how many make jobs a worker ran
    is in the job's record, since the same archive must come out on every worker.
    """
    config = job.interpreter
    packed = config.package.pins if isinstance(config.package, PyPyPackage) else ()
    return BuildInfo(
        identifier=job.identifier,
        interpreter=config.interpreter,
        interpreter_version=job.version,
        language_version=job.language_version,
        platform=job.platform.identifier,
        mode=job.mode,
        license=config.license,
        homepage=config.homepage,
        source=job.revision,
        source_sha256=source.sha256,
        pins={name: ctx.config.pins[name].sha256 for name in (*config.source.toolchain, *packed)},
        environment=translation.environment,
        command=(
            "rpython",
            *translation_options(job),
            config.translation.rpython_target,
            *config.translation.target_options,
        ),
        gc=config.translation.gc,
        jit=job.jit,
        translation_key=translation_key,
    )


def make_package(
    ctx: Context, job: Job, given: PackageInput, environment: Environment, stage: StageOutput
) -> Package:
    """Assemble the tree in a container without network and pack it.

    Raises:
        PackageError: the tree could not be assembled, or lacks something.
    """
    assemble = (
        plain.assemble if isinstance(job.interpreter.package, PlainPackage) else pypy.assemble
    )
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        tree = assemble(ctx, job, given.translated, environment, Path(temporary), stage)
        info = Entry(path=f"{job.stem}/{naming.BUILD_INFO_NAME}", content=pretty_json(given.info))
        artifacts = []
        for kind, filename in archive_names(job).items():
            stage.step.phase(f"pack {filename}")
            path = stage.directory / filename
            _write(path, kind, _entries(tree, kind, info), job.revision.epoch)
            artifacts.append(describe(path, kind, job.platform.identifier))
    return Package(
        stem=job.stem, artifacts=tuple(artifacts), modules=tree.modules, skipped=tree.skipped
    )


def _entries(tree: Assembled, kind: ArtifactKind, info: Entry) -> Iterable[Entry]:
    return tree.debug if kind is ArtifactKind.DEBUG_ZST else (*tree.entries, info)


def _write(path: Path, kind: ArtifactKind, entries: Iterable[Entry], epoch: int) -> None:
    if kind is ArtifactKind.ARCHIVE_ZIP:
        write_zip(path, entries, epoch=epoch)
    else:
        write_archive(path, entries, epoch=epoch, compression=COMPRESSIONS[kind])
