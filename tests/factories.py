"""Builders of valid data for tests: each says only what it is about, by keyword overrides.

They start from the real ``translation_configs/``, so that tests try what is shipped. An override
replaces one field and is validated like the rest.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from pipeline.config import load_config
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.configs import Config, InterpreterConfig, Pin, PyPyPackage
from pipeline.model.ledger import (
    Event,
    Ledger,
    Promoted,
    Pruned,
    Published,
    State,
    Unyanked,
    Yanked,
    replay,
)
from pipeline.model.platforms import Platform, Worker
from pipeline.model.records import (
    BuildInfo,
    CompilerCache,
    Environment,
    Manifest,
    Package,
    Phase,
    PlatformFacts,
    Resolved,
    Resources,
    Revision,
    SignedRelease,
    SourceTree,
    Translation,
    Verification,
)
from pipeline.model.versions import InterpreterVersion, tag_for
from pipeline.plan import Job, Plan, ReleasePlan, Selection, Workers, make_plan
from pipeline.publish.view import View
from pipeline.sign.provenance import Statement, make_statement

ROOT: Final = Path(__file__).parents[1]
CONFIGS: Final = ROOT / "translation_configs"
NOON: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BASE_URL: Final = "https://downloads.example"
FINGERPRINT: Final = "0123456789ABCDEF0123456789ABCDEF01234567"

M = TypeVar("M", bound=BaseModel)
E = TypeVar("E", Promoted, Yanked, Unyanked, Pruned)


def changed(model: M, **overrides: Any) -> M:
    """Return *model* with some fields replaced, validated again."""
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    return type(model).model_validate({**fields, **overrides})


def digest(text: str) -> str:
    """Return the sha256 of *text*: a digest that says in the test what it stands for."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_config(**overrides: Any) -> Config:
    """Return the configuration that is shipped."""
    return changed(_shipped(), **overrides)


@cache
def _shipped() -> Config:
    return load_config(CONFIGS)


def make_platform(row: str = "linux-x86_64", **overrides: Any) -> Platform:
    """Return a row of the platform table."""
    return changed(make_config().platforms[row], **overrides)


def make_interpreter(**overrides: Any) -> InterpreterConfig:
    """Return the demo interpreter's configuration."""
    return changed(make_config().interpreters["demo"], **overrides)


def make_pypy_package(**overrides: Any) -> PyPyPackage:
    """Return what PyPy for Python 3.11 says of its archives."""
    package = make_config().interpreters["pypy3.11"].package
    if not isinstance(package, PyPyPackage):
        raise TypeError(package.kind)
    return changed(package, **overrides)


def make_pin(content: bytes = b"pinned bytes", **overrides: Any) -> Pin:
    """Return a pin of *content*."""
    fields = {
        "version": "1.0",
        "filename": "pinned-1.0.tar.gz",
        "url": "https://files.example/pinned-1.0.tar.gz",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    return Pin.model_validate({**fields, **overrides})


def make_revision(**overrides: Any) -> Revision:
    """Return the revision of a source tree."""
    fields = {
        "kind": "directory",
        "revision": "0123456789abcdef" * 4,
        "number": 20261121,
        "epoch": 1795219200,
    }
    return Revision.model_validate({**fields, **overrides})


def make_git_revision(**overrides: Any) -> Revision:
    """Return the commit that upstream tagged as PyPy 7.3.23 for Python 3.11."""
    fields = {
        "kind": "git",
        "revision": "194f9f44b50552d75484d67cda6e2b36607dee0c",
        "number": None,
        "epoch": 1779753600,
        "branch": "release-pypy3.11-v7.x",
        "tag": "release-pypy3.11-v7.3.23",
    }
    return Revision.model_validate({**fields, **overrides})


def make_resolved(**overrides: Any) -> Resolved:
    """Return the resolved source of the demo."""
    fields = {
        "revision": make_revision(),
        "interpreter_version": "1.0.0",
        "language_version": "1.0",
    }
    return Resolved.model_validate({**fields, **overrides})


def make_selection(**overrides: Any) -> Selection:
    """Return what ``release --platform linux-x86_64`` means."""
    return Selection.model_validate(
        {"channel": "release", "platforms": ("linux-x86_64",), **overrides}
    )


def workers_on(machine: str) -> Workers:
    """Return a Linux machine that does all work itself."""
    return Workers(here=Worker(os="linux", machine=machine))


def make_plan_for(
    config: Config | None = None,
    revision: Revision | None = None,
    worker_machine: str = "x86_64",
    **selection: Any,
) -> Plan:
    """Return the plan of a selection, by default of the demo; all have the same *revision*.

    Versions are the configured ones, or that of the selection.
    """
    config = config or make_config()
    if "identified" not in selection:
        selection = {"interpreters": ("demo",), **selection}
    wanted = make_selection(**selection)
    sources = {
        name: make_resolved(
            revision=revision or make_revision(),
            interpreter_version=wanted.version or interpreter.interpreter_version,
            language_version=interpreter.language_version,
        )
        for name, interpreter in config.interpreters.items()
    }
    return make_plan(config, wanted, sources, workers_on(worker_machine))


def make_release_plan(**overrides: Any) -> ReleasePlan:
    """Return the plan of the demo's release for x86_64."""
    (release,) = make_plan_for().releases
    return changed(release, **overrides)


def make_job(**overrides: Any) -> Job:
    """Return the job of the demo for x86_64."""
    (job,) = make_plan_for().jobs
    return changed(job, **overrides)


def make_pypy_plan(version: str = "7.3.23", **overrides: Any) -> ReleasePlan:
    """Return the plan of PyPy's release for Python 3.11 on x86_64; also of a candidate."""
    config = make_config()
    parsed = InterpreterVersion.parse(version)
    tag = tag_for("release-pypy3.11-v{version}", parsed)
    resolved = Resolved(
        revision=make_git_revision(tag=tag),
        interpreter_version=parsed,
        language_version="3.11.15",
    )
    selection = make_selection(interpreters=("pypy3.11",))
    plan = make_plan(config, selection, {"pypy3.11": resolved}, workers_on("x86_64"))
    return changed(plan.releases[0], **overrides)


def make_pypy_job(version: str = "7.3.23", **overrides: Any) -> Job:
    """Return the job of PyPy's release for Python 3.11 on x86_64, as it is shipped."""
    (job,) = make_pypy_plan(version).jobs
    return changed(job, **overrides)


def make_artifact(**overrides: Any) -> Artifact:
    """Return one archive of the demo's release."""
    fields = {
        "filename": "demo-v1.0.0-linux64.tar.gz",
        "kind": ArtifactKind.ARCHIVE_GZ,
        "platform": "linux-x86_64",
        "size": 1000,
        "sha256": digest("archive"),
    }
    return Artifact.model_validate({**fields, **overrides})


def make_archives(
    release: str = "demo-v1.0.0",
    platforms: Sequence[str] = ("linux-x86_64",),
    *,
    nightly: bool = False,
) -> tuple[Artifact, ...]:
    """Return the archives of a release for *platforms*, sorted as a manifest has them."""
    archives = []
    for identifier in platforms:
        platform = make_platform(identifier)
        stem = naming.archive_stem(release, platform, nightly=nightly)
        names = naming.archive_names(stem, os=platform.os, debug=False)
        for number, (kind, filename) in enumerate(names.items()):
            archives.append(
                Artifact(
                    filename=filename,
                    kind=kind,
                    platform=identifier,
                    size=1000 + number,
                    sha256=digest(filename),
                )
            )
    return tuple(sorted(archives, key=lambda artifact: artifact.filename))


def make_source_archive(release: str = "pypy3.11-v7.3.23") -> Artifact:
    """Return a release's archive of its source."""
    filename = naming.source_name(release)
    return make_artifact(
        filename=filename, kind=ArtifactKind.SOURCE_GZ, platform=None, sha256=digest(filename)
    )


def make_manifest(**overrides: Any) -> Manifest:
    """Return the manifest of the demo's release for x86_64."""
    fields = {
        "release": "demo-v1.0.0",
        "product": "demo",
        "channel": "release",
        "interpreter": "demo",
        "implementation": "demo",
        "interpreter_version": "1.0.0",
        "language_version": "1.0",
        "stable": True,
        "source": make_revision(),
        "input_key": digest("inputs"),
        "platforms": (make_platform_facts(),),
        "files": make_archives(),
    }
    return Manifest.model_validate({**fields, **overrides})


def make_platform_facts(**overrides: Any) -> PlatformFacts:
    """Return what a manifest says of x86_64."""
    fields = {
        "platform": "linux-x86_64",
        "mode": "native",
        "translation_key": digest("translation"),
        "gc": "incminimark",
        "jit": True,
        "glibc_floor": "2.29",
        "gates": ("structure", "elf", "smoke"),
    }
    return PlatformFacts.model_validate({**fields, **overrides})


def make_signed(manifest: Manifest | None = None, **overrides: Any) -> SignedRelease:
    """Return a signed release whose files are described as if they had been written."""
    manifest = manifest or make_manifest()
    text = pretty_json(manifest)
    common = {
        "provenance": (naming.provenance_name(manifest.release), ArtifactKind.PROVENANCE),
        "checksums": (naming.CHECKSUMS_NAME, ArtifactKind.CHECKSUMS),
        "signature": (naming.SIGNATURE_NAME, ArtifactKind.SIGNATURE),
        "public_key": (naming.PUBLIC_KEY_NAME, ArtifactKind.PUBLIC_KEY),
    }
    fields: dict[str, Any] = {
        name: make_artifact(filename=filename, kind=kind, platform=None, sha256=digest(name))
        for name, (filename, kind) in common.items()
    }
    fields |= {
        "release": manifest.release,
        "product": manifest.product,
        "manifest": make_artifact(
            filename=naming.manifest_name(manifest.release),
            kind=ArtifactKind.MANIFEST,
            platform=None,
            size=len(text),
            sha256=hashlib.sha256(text).hexdigest(),
        ),
        "fingerprint": FINGERPRINT,
        "is_throw_away": True,
    }
    return SignedRelease.model_validate({**fields, **overrides})


def make_provenance(manifest: Manifest | None = None, fingerprint: str = FINGERPRINT) -> Statement:
    """Return the statement about the archives and images of *manifest*, built as the demo is."""
    images = () if manifest is None else manifest.images
    platforms = tuple(dict.fromkeys(("linux-x86_64", *(item.platform for item in images))))
    (release,) = make_plan_for(platforms=platforms).releases
    infos = {job.identifier: make_build_info_of(job) for job in release.jobs}
    pins = make_config().pins
    return make_statement(release, manifest or make_manifest(), infos, pins, fingerprint)


def make_event(
    interpreter: str = "pypy3.11",
    version: str = "7.3.23",
    platforms: Sequence[str] = ("linux-x86_64",),
    **overrides: Any,
) -> Published:
    """Return the event that published a release of PyPy; names follow from the version."""
    release = overrides.get("release", f"{interpreter}-v{version}")
    channel = overrides.get("channel", "release")
    sequence = overrides.get("sequence", 1)
    fields = {
        "sequence": sequence,
        "at": NOON + timedelta(minutes=sequence),
        "by": "maintainer@example",
        "reason": "a release",
        "channel": channel,
        "product": "pypy",
        "release": release,
        "interpreter": interpreter,
        "implementation": "pypy",
        "interpreter_version": version,
        "language_version": f"{interpreter.removeprefix('pypy')}.15",
        "stable": channel == "release" and InterpreterVersion.parse(version).final,
        "source": make_revision(),
        "input_key": digest(f"inputs of {release}"),
        "manifest_sha256": digest(release),
        "fingerprint": FINGERPRINT,
        "platforms": tuple(
            {"platform": name, "jit": True, "glibc_floor": make_platform(name).glibc_floor}
            for name in platforms
        ),
        "files": make_archives(release, platforms, nightly=channel == "nightly"),
    }
    return Published.model_validate({**fields, **overrides})


def make_nightly(
    number: int = 20261121, interpreter: str = "pypy3.11", **overrides: Any
) -> Published:
    """Return the event that published a nightly of PyPy."""
    revision = make_revision(number=number)
    stem = f"pypy-c-jit-{number}-{revision.revision[:12]}"
    platforms = overrides.get("platforms", ("linux-x86_64",))
    names = [item if isinstance(item, str) else item["platform"] for item in platforms]
    fields = {
        "channel": "nightly",
        "release": f"{interpreter}-nightly-2026-11-21-{number}-{revision.revision[:12]}",
        "source": revision,
        "files": make_archives(stem, names, nightly=True),
        **overrides,
    }
    return make_event(interpreter, **fields)


def later(kind: type[E], published: Published, **overrides: Any) -> E:
    """Return another event of a release: ``later(Yanked, event)``."""
    fields = {
        "sequence": published.sequence + 1,
        "at": published.at + timedelta(minutes=1),
        "by": "maintainer@example",
        "reason": "segfaults when it translates",
        "product": published.product,
        "release": published.release,
        "input_key": published.input_key,
        "manifest_sha256": published.manifest_sha256,
    }
    return kind.model_validate({**fields, **overrides})


def numbered(*events: Event) -> tuple[Event, ...]:
    """Return *events* numbered as they come, a minute apart."""
    return tuple(
        changed(event, sequence=number, at=NOON + timedelta(minutes=number))
        for number, event in enumerate(events, start=1)
    )


def make_ledger(*events: Event) -> Ledger:
    """Return a ledger of *events*, numbered as they come."""
    return Ledger(events=numbered(*events))


def make_state(*events: Event) -> State:
    """Return what *events* add up to, numbered as they come."""
    return replay(State(), numbered(*events))


def make_view(*events: Event, **overrides: Any) -> View:
    """Return what projections are made from after *events*, with the shipped tables."""
    config = make_config()
    fields: dict[str, Any] = {
        "state": make_state(*events),
        "platforms": config.platforms,
        "interpreters": config.interpreters,
        "base_url": BASE_URL,
    }
    return View(**{**fields, **overrides})


def make_environment(**overrides: Any) -> Environment:
    """Return the translation environment as an engine has it."""
    fields = {
        "name": "translate",
        "digest": digest("environment"),
        "image_id": f"sha256:{digest('image')}",
        "packages": ("gcc=4:10.2.1-1", "pypy=7.3.3+dfsg-2"),
    }
    return Environment.model_validate({**fields, **overrides})


def make_source_tree(**overrides: Any) -> SourceTree:
    """Return the record of a packed source tree."""
    fields = {
        "revision": make_revision(),
        "archive": "source.tar",
        "sha256": digest("source"),
        "size": 10_240,
    }
    return SourceTree.model_validate({**fields, **overrides})


def make_translation(**overrides: Any) -> Translation:
    """Return the record of a finished translation."""
    fields = {
        "archive": "products.tar",
        "sha256": digest("products"),
        "size": 500_000,
        "products": {"demo": digest("executable")},
        "environment": digest("environment"),
        "command": ("pypy", "rpython", "--batch", "--opt=jit", "--gc=incminimark", "targetdemo.py"),
        "phases": (Phase(name="annotate", seconds=12.5),),
        "resources": Resources(wall_seconds=60.0, cpu_seconds=55.0, peak_bytes=1 << 30),
        "compiler_cache": CompilerCache(hits=4, misses=10),
    }
    return Translation.model_validate({**fields, **overrides})


def make_build_info(**overrides: Any) -> BuildInfo:
    """Return what the demo's archive for x86_64 says of its build."""
    fields = {
        "identifier": "demo-linux-x86_64",
        "interpreter": "demo",
        "interpreter_version": "1.0.0",
        "language_version": "1.0",
        "platform": "linux-x86_64",
        "mode": "native",
        "license": "MIT",
        "homepage": "https://rpython.readthedocs.io",
        "source": make_revision(),
        "source_sha256": digest("source"),
        "pins": {"rpython": digest("rpython")},
        "environment": digest("environment"),
        "command": ("rpython", "--batch", "--opt=jit", "--gc=incminimark", "targetdemo.py"),
        "gc": "incminimark",
        "jit": True,
        "translation_key": digest("translation"),
    }
    return BuildInfo.model_validate({**fields, **overrides})


def make_build_info_of(job: Job, **overrides: Any) -> BuildInfo:
    """Return what the archive of *job* says of its build."""
    fields = {
        "identifier": job.identifier,
        "interpreter": job.interpreter.interpreter,
        "interpreter_version": job.version,
        "language_version": job.language_version,
        "platform": job.platform.identifier,
        "homepage": job.interpreter.homepage,
        "source": job.revision,
    }
    return make_build_info(**{**fields, **overrides})


def make_package(**overrides: Any) -> Package:
    """Return the record of the demo's archives."""
    fields = {"stem": "demo-v1.0.0-linux64", "artifacts": make_archives()}
    return Package.model_validate({**fields, **overrides})


def make_verification(**overrides: Any) -> Verification:
    """Return the record of archives that passed their gates."""
    fields = {
        "stem": "demo-v1.0.0-linux64",
        "artifacts": make_archives(),
        "gates": ({"gate": "structure", "title": "one top directory", "measured": "12 members"},),
        "glibc_floor": "2.29",
    }
    return Verification.model_validate({**fields, **overrides})
