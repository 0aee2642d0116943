"""Makes a job's Debian packages, for each suite: from the archive, never from the build tree."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline.distribute.archives import Archives
from pipeline.distribute.debian.build import SCRIPT, build_packages, judged
from pipeline.distribute.debian.render import (
    Subject,
    completed,
    control_of,
    debug_file,
    placed,
)
from pipeline.distribute.debian.split import bundled_libraries, left_out, split
from pipeline.distribute.debian.suite import library_dependencies, provided_libraries
from pipeline.effects.archives import Entry, entries_of, unpack
from pipeline.effects.context import Context, StageOutput
from pipeline.effects.files import describe, sha256_of
from pipeline.errors import DebianPackageError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.debian import BinaryPackage, DebianConfig, package_filename
from pipeline.model.records import DebianPackages, Environment, GateResult
from pipeline.plan import Job
from pipeline.verify.identity import build_id
from pipeline.verify.tree import parsed

VERSION: Final = 1
LICENSE: Final = "LICENSE"
NOTES: Final = "release_notes"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a job's archives hold: files by path below the top directory, debug symbols by id."""

    files: Mapping[str, Entry]
    debug: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True)
class SuitePackages:
    """The packages of one suite, and lintian's verdict on them."""

    artifacts: tuple[Artifact, ...]
    packages: tuple[BinaryPackage, ...]
    gate: GateResult


def debian_inputs(
    ctx: Context,
    job: Job,
    archives: Archives,
    environments: tuple[Environment, ...],
    suites: tuple[str, ...],
) -> dict[str, object]:
    """Return everything that decides the packages' bytes; one environment for each suite."""
    interpreter = job.interpreter
    templates = sorted((ctx.root / "packaging" / Path(SCRIPT).parent).iterdir())
    return {
        "archives": {item.filename: item.sha256 for item in archives.package.artifacts},
        "info": archives.info.model_dump(mode="json"),
        "config": interpreter.debian,
        "described": [interpreter.summary, interpreter.license, interpreter.homepage],
        "vendor": ctx.config.vendor,
        "suites": {name: ctx.config.suites[name] for name in suites},
        "environments": [environment.digest for environment in environments],
        "templates": {path.name: sha256_of(path) for path in templates},
        "notes": _notes(ctx, job),
        "platform": job.platform,
        "stem": job.stem,
        "version": str(job.version),
        "revision": job.revision,
        "nightly_day": str(job.nightly_day),
    }


def make_packages(
    ctx: Context,
    job: Job,
    archives: Archives,
    environments: tuple[Environment, ...],
    stage: StageOutput,
    suites: tuple[str, ...],
) -> DebianPackages:
    """Make the packages for each of *suites*, in the environment at the same place.

    Raises:
        DebianPackageError: a part is empty, or Debian's tools cannot make the packages.
        LintianError: lintian finds an error in one.
    """
    made = []
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        stage.step.phase("unpack")
        contents = _unpacked(job, archives, Path(temporary))
        for name, environment in zip(suites, environments, strict=True):
            subject = _subject(ctx, job, archives, contents, name)
            made.append(_suite_packages(ctx, subject, contents, environment, stage))
    return DebianPackages(
        artifacts=tuple(artifact for suite in made for artifact in suite.artifacts),
        packages=tuple(package for suite in made for package in suite.packages),
        gates=tuple(suite.gate for suite in made),
    )


def _suite_packages(
    ctx: Context,
    subject: Subject,
    contents: Contents,
    environment: Environment,
    stage: StageOutput,
) -> SuitePackages:
    job, suite = subject.job, subject.suite_name
    stage.step.phase(f"dependencies in {suite}")
    trees = _trees(ctx, subject, contents, environment)
    filenames = {
        name: package_filename(name, subject.version, subject.architecture) for name in trees
    }
    stage.step.phase(f"packages for {suite}")
    judgement = build_packages(ctx, job, environment, trees, filenames, stage)
    gate = judged(suite, judgement, len(trees))
    artifacts = {
        name: describe(stage.directory / filename, ArtifactKind.DEB, job.platform.identifier)
        for name, filename in filenames.items()
    }
    return SuitePackages(
        artifacts=tuple(artifacts.values()),
        packages=tuple(
            BinaryPackage(
                filename=artifacts[name].filename,
                suite=suite,
                platform=job.platform.identifier,
                architecture=subject.architecture,
                name=name,
                package_version=subject.version,
                control=control_of(tree),
                size=artifacts[name].size,
                sha256=artifacts[name].sha256,
            )
            for name, tree in trees.items()
        ),
        gate=gate,
    )


def _trees(
    ctx: Context, subject: Subject, contents: Contents, environment: Environment
) -> Mapping[str, tuple[Entry, ...]]:
    """Return the whole tree of each of a suite's packages, in the order of their names."""
    config, platform = subject.config, subject.job.platform
    bundled = bundled_libraries(config, contents.files)
    provided = provided_libraries(ctx, environment, platform, bundled)
    out = left_out(config, contents.files, provided)
    parts = split(config, [path for path in contents.files if path not in out])
    trees = {
        name: placed(subject, name, [contents.files[path] for path in paths])
        for name, paths in parts.items()
    }
    kept = [f"{subject.root}/{path}" for path in bundled if path not in out]
    needed = library_dependencies(ctx, environment, platform, trees, kept)
    trees = {**trees, **_debug_tree(config, contents)}
    return {
        name: completed(subject, name, trees[name], needed.get(name, ())) for name in config.names
    }


def _debug_tree(config: DebianConfig, contents: Contents) -> dict[str, tuple[Entry, ...]]:
    entries = tuple(debug_file(identifier, path) for identifier, path in contents.debug.items())
    return {config.part_name(part): entries for part in config.parts if part.debug_symbols}


def _subject(ctx: Context, job: Job, archives: Archives, contents: Contents, suite: str) -> Subject:
    license_entry = contents.files.get(LICENSE)
    if license_entry is None or not isinstance(license_entry.content, Path):
        msg = f"{archives.package.stem}: the archive has no file {LICENSE}."
        raise DebianPackageError(msg)
    return Subject(
        job=job,
        config=_config(job),
        vendor=ctx.config.vendor,
        suite_name=suite,
        suite=ctx.config.suites[suite],
        info=archives.info,
        archive=_main_archive(archives).filename,
        license_text=license_entry.content.read_text(encoding="utf-8", errors="replace"),
        notes=_notes(ctx, job),
    )


def _unpacked(job: Job, archives: Archives, temporary: Path) -> Contents:
    main, debug = _main_archive(archives), archives.artifact(ArtifactKind.DEBUG_ZST)
    stem = archives.package.stem
    unpack(archives.path(main), temporary / "main")
    entries = entries_of(temporary / "main" / stem, "")
    symbols: dict[str, Path] = {}
    if any(part.debug_symbols for part in _config(job).parts):
        if debug is None:
            msg = f"{stem}: there is no archive of debug symbols, but a part that is made of it."
            raise DebianPackageError(msg)
        unpack(archives.path(debug), temporary / "debug")
        symbols = dict(_debug_symbols(temporary / "debug" / f"{stem}{naming.DEBUG_INFIX}"))
    files = (replace(entry, path=entry.path.removeprefix("/")) for entry in entries)
    return Contents(files={entry.path: entry for entry in files}, debug=symbols)


def _debug_symbols(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file of debug symbols by the id that its program has too."""
    for path in sorted(directory.rglob("*.debug")):
        identifier = build_id(parsed(path))
        if identifier is None:
            msg = f"{path.name}: has no build id, so no debugger would find it."
            raise DebianPackageError(msg)
        yield identifier, path


def _main_archive(archives: Archives) -> Artifact:
    for kind in (ArtifactKind.ARCHIVE_ZST, ArtifactKind.ARCHIVE_GZ):
        if (found := archives.artifact(kind)) is not None:
            return found
    msg = f"{archives.package.stem}: there is no tar archive of it to make packages of."
    raise DebianPackageError(msg)


def _config(job: Job) -> DebianConfig:
    config = job.interpreter.debian
    if config is None or job.platform.debian_arch is None:
        msg = f"{job.identifier}: no Debian packages are made of it; it has no table debian."
        raise DebianPackageError(msg)
    return config


def _notes(ctx: Context, job: Job) -> str:
    """Return a release's notes, empty where there are none, as for every nightly."""
    release = naming.release_name(job.interpreter.interpreter, job.version)
    path = ctx.root / NOTES / f"{release}.md"
    if job.nightly is not None or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8")
