"""The tree of a package of kind ``plain``: one program, its links, its licence and documents."""

from pathlib import Path
from typing import Final

from pipeline.effects.archives import Entry, entries_of, write_archive
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import sha256_of
from pipeline.errors import PackageError
from pipeline.model.configs import PlainPackage
from pipeline.model.records import Environment
from pipeline.package.assembly import Assembled, Assembly, Translated, run_assembly
from pipeline.plan import Job
from pipeline.source.runner import BUILDER

ASSEMBLE: Final = "tarball/assemble.sh"
TIMEOUT: Final = 900


def input_digests(ctx: Context, job: Job) -> dict[str, str]:
    """Return the digests of the project's own files that the tree is made from."""
    documents = {name: sha256_of(path) for name, path in _documents(ctx, job).items()}
    return {ASSEMBLE: sha256_of(ctx.root / "packaging" / ASSEMBLE), **documents}


def assemble(
    ctx: Context,
    job: Job,
    translated: Translated,
    environment: Environment,
    temporary: Path,
    stage: StageOutput,
) -> Assembled:
    """Assemble the tree; raises PackageError if that fails."""
    package, product = _config(job), job.interpreter.translation.products[0]
    inputs = temporary / "in.tar"
    entries = [
        Entry(path="build/out", directory=True),
        Entry(path="build/in/assemble.sh", content=ctx.root / "packaging" / ASSEMBLE),
        *(
            Entry(path=f"build/in/documents/{name}", content=path)
            for name, path in _documents(ctx, job).items()
        ),
    ]
    write_archive(inputs, entries, epoch=job.revision.epoch, owner=BUILDER)
    words = (job.stem, f"/build/source/{product}", package.executable, *package.links)
    assembly = Assembly(
        command=("sh", "/build/in/assemble.sh", *words),
        inputs=(inputs, translated.products),
        timeout=TIMEOUT,
        environment={"STRIP": f"{job.tool_prefix}strip"},
    )
    tree = run_assembly(ctx, job, assembly, environment, temporary, stage) / job.stem
    if not tree.is_dir():
        msg = f"{ASSEMBLE}: reported success, but wrote no directory {job.stem}."
        raise PackageError(msg)
    return Assembled(entries=tuple(entries_of(tree, job.stem)))


def _config(job: Job) -> PlainPackage:
    package = job.interpreter.package
    if not isinstance(package, PlainPackage):
        msg = f"{job.identifier}: its package is of kind {package.kind}"
        raise TypeError(msg)
    return package


def _documents(ctx: Context, job: Job) -> dict[str, Path]:
    """Return the archive's documents and where they come from.

    Raises:
        PackageError: one is missing.
    """
    config = _config(job)
    named = {"LICENSE": config.license_file, **config.documents}
    paths = {name: Path(ctx.config.root) / path for name, path in named.items()}
    for name, path in paths.items():
        if not path.is_file():
            msg = f"{path}: missing, but {job.interpreter.interpreter}.toml packs it as {name}."
            raise PackageError(msg)
    return paths
