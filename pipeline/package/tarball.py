"""The archives ``<stem>.tar.gz`` and ``<stem>.tar.zst``; *stem* is their only top directory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.effects.archives import (
    Compression,
    Entry,
    entries_of,
    unpack,
    write_archive,
)
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import sha256_of
from pipeline.errors import PackageError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.records import BuildInfo, Environment, Package, SourceTree, Translation
from pipeline.plan import Job
from pipeline.source import BUILDER
from pipeline.translate.command import OUTPUT, translation_options

VERSION: Final = 1
ASSEMBLE: Final = "tarball/assemble.sh"
TIMEOUT: Final = 900
COMPRESSIONS: Final = {
    ArtifactKind.ARCHIVE_GZ: Compression.GZIP,
    ArtifactKind.ARCHIVE_ZST: Compression.ZSTD,
}


def package_inputs(
    ctx: Context, job: Job, info: BuildInfo, environment: Environment
) -> dict[str, object]:
    """Return everything that decides the archives' bytes."""
    return {
        "info": info.model_dump(mode="json"),
        "environment": environment.digest,
        "stem": job.stem,
        "config": job.interpreter.package.model_dump(mode="json"),
        "documents": {name: sha256_of(path) for name, path in _documents(ctx, job).items()},
        "assemble": sha256_of(ctx.root / "packaging" / ASSEMBLE),
    }


def build_info(
    ctx: Context, job: Job, source: SourceTree, translation: Translation, translation_key: str
) -> BuildInfo:
    """Return the machine-readable description that is packed into the archive. Pure.

    The command is shown by the options that decide the binary; how many make jobs a worker ran
    is in the job's record, since the same archive must come out on every worker.
    """
    config = job.interpreter
    return BuildInfo(
        identifier=job.identifier,
        interpreter=config.interpreter,
        interpreter_version=job.version,
        language_version=config.language_version,
        platform=job.platform.identifier,
        mode=job.mode,
        license=config.license,
        homepage=config.homepage,
        source=job.revision,
        source_sha256=source.sha256,
        toolchain={name: ctx.config.pins[name].sha256 for name in config.source.toolchain},
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
    ctx: Context,
    job: Job,
    info: BuildInfo,
    executable: Path,
    environment: Environment,
    stage: StageOutput,
) -> Package:
    """Assemble the tree in a container without network and pack it.

    Raises:
        PackageError: the tree could not be assembled.
    """
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        inputs = Path(temporary, "in.tar")
        entries_in = _input_entries(ctx, job, info, executable)
        write_archive(inputs, entries_in, epoch=job.revision.epoch, owner=BUILDER)
        tree = _assemble(ctx, job, inputs, environment, stage)
        entries = entries_of(tree, job.stem)
        artifacts = []
        for kind, filename in naming.archive_names(job.stem).items():
            stage.step.phase(f"pack {filename}")
            path = stage.directory / filename
            write_archive(path, entries, epoch=job.revision.epoch, compression=COMPRESSIONS[kind])
            artifacts.append(describe(path, kind, job.platform.identifier))
    return Package(stem=job.stem, artifacts=tuple(artifacts))


def describe(path: Path, kind: ArtifactKind, platform: str | None) -> Artifact:
    """Return the artifact that the file at *path* is."""
    return Artifact(
        filename=path.name,
        kind=kind,
        platform=platform,
        size=path.stat().st_size,
        sha256=sha256_of(path),
    )


def _assemble(
    ctx: Context, job: Job, inputs: Path, environment: Environment, stage: StageOutput
) -> Path:
    """Return the assembled tree, unpacked beside *inputs*."""
    stage.step.phase("assemble")
    temporary = inputs.parent
    package, lines = job.interpreter.package, list[str]()
    result = ctx.engine.run(
        ContainerStep(
            name=f"package-{stage.key[:16]}",
            image_id=environment.image_id,
            command=("sh", "/build/in/assemble.sh", job.stem, package.executable, *package.links),
            directory="/build",
            environment={"SOURCE_DATE_EPOCH": str(job.revision.epoch), "LC_ALL": "C.UTF-8"},
            inputs=(inputs,),
            output=OUTPUT,
            timeout=TIMEOUT,
            silence=TIMEOUT,
        ),
        output=temporary / "out.tar",
        on_line=lines.append,
    )
    if result.status != 0:
        last = "\n".join(lines)
        msg = f"{ASSEMBLE}: exit status {result.status}\n{last}"
        raise PackageError(msg)
    unpack(temporary / "out.tar", temporary)
    tree = temporary / Path(OUTPUT).name / job.stem
    if not tree.is_dir():
        msg = f"{ASSEMBLE}: reported success, but wrote no directory {OUTPUT}/{job.stem}."
        raise PackageError(msg)
    return tree


def _input_entries(ctx: Context, job: Job, info: BuildInfo, executable: Path) -> Iterator[Entry]:
    yield Entry(path="build/out", directory=True)
    yield Entry(path="build/in/executable", content=executable, executable=True)
    yield Entry(path="build/in/assemble.sh", content=ctx.root / "packaging" / ASSEMBLE)
    documents = "build/in/documents"
    yield Entry(path=f"{documents}/{naming.BUILD_INFO_NAME}", content=pretty_json(info))
    for name, path in _documents(ctx, job).items():
        yield Entry(path=f"{documents}/{name}", content=path)


def _documents(ctx: Context, job: Job) -> dict[str, Path]:
    """Return the archive's documents and where they come from.

    Raises:
        PackageError: one is missing.
    """
    config = job.interpreter.package
    named = {"LICENSE": config.license_file, **config.documents}
    paths = {name: Path(ctx.config.root) / path for name, path in named.items()}
    for name, path in paths.items():
        if not path.is_file():
            msg = f"{path}: missing, but {job.interpreter.interpreter}.toml packs it as {name}."
            raise PackageError(msg)
    return paths
