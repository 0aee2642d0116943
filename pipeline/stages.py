"""The whole flow, one stage after the other. Read this file first.

A stage's output lies under a key made from everything that decides its bytes. An output that is
there is complete, so a stage is run only if its key is new: that is resume, cache and hand-over.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from pipeline.distribute.archives import Archives
from pipeline.distribute.debian import runner as debian_stage
from pipeline.distribute.image import runner as image_stage
from pipeline.effects.context import Claimed, Context, StageOutput
from pipeline.effects.files import write_record
from pipeline.environment import ready_environment, recorded_environment
from pipeline.errors import ClaimError, PipelineError
from pipeline.install import runner as install_stage
from pipeline.model.artifacts import Artifact
from pipeline.model.base import content_key
from pipeline.model.configs import SigningConfig
from pipeline.model.ledger import Published, State
from pipeline.model.platforms import Placement
from pipeline.model.records import (
    BuildInfo,
    BuiltImages,
    DebianPackages,
    Environment,
    Installation,
    Installed,
    Manifest,
    Package,
    SignedRelease,
    SourceTree,
    Translation,
    Verification,
)
from pipeline.package import runner as package_stage
from pipeline.package.assembly import Translated
from pipeline.plan import Job, ReleasePlan
from pipeline.preflight import require_fit, require_runnable
from pipeline.publish import files as publish_stage
from pipeline.publish.copies import Copied, copy_releases
from pipeline.publish.destinations import project_everywhere, stale_everywhere
from pipeline.publish.events import Stamp, existing, publication, refuse_other_release
from pipeline.publish.images import ImagePush, ImageUpload, hold_images, push_images
from pipeline.publish.installed import Check, check_once
from pipeline.publish.ledger import append, read_ledger
from pipeline.publish.project import require_indexes
from pipeline.publish.sites import OpenChannel
from pipeline.sign import release as sign_stage
from pipeline.sign.gpg import usable_key
from pipeline.sign.provenance import make_statement
from pipeline.source import runner as source_stage
from pipeline.translate import runner as translate_stage
from pipeline.verify import runner as verify_stage

R = TypeVar("R", bound=BaseModel)


class Stage(StrEnum):
    """The stages in their order."""

    CONFIG = "config"  # read and check translation_configs/
    PLAN = "plan"  # decide every job, file name and URL; no effects
    SOURCE = "source"  # fetch what is pinned, pack it for the translation environment
    TRANSLATE = "translate"  # RPython and the C compiler make the executable
    PACKAGE = "package"  # assemble the tree without network, pack it to equal bytes
    VERIFY = "verify"  # gates on the final archives' bytes, in clean containers
    DEBIAN = "debian"  # Debian packages, made of the verified archives' bytes
    IMAGE = "image"  # OCI images, made of the same
    INSTALL = "install-check"  # both installed by real clients in clean containers
    SIGN = "sign"  # manifest, provenance, SHA256SUMS and its signature, checked by gpgv
    PUBLISH = "publish"  # put under names that never change, fetch back what readers get
    LEDGER = "ledger"  # the event that makes the release exist
    PROJECTIONS = "projections"  # the indexes that clients read, from the ledger alone


ORDER: Final = tuple(Stage)


class NotFinished(PipelineError):  # noqa: N818 - not an error: how a dry run says where it ends
    """A dry run came to a stage that would have to be run."""


@dataclass(frozen=True, kw_only=True)
class Done(Generic[R]):
    """A finished stage: its record, where its files are, and what it took this time."""

    record: R
    key: str
    directory: Path
    seconds: float
    cached: bool


@dataclass(frozen=True, kw_only=True)
class Contained(Generic[R]):
    """A stage that runs in containers: how its key and its output follow from environments."""

    key: Callable[[tuple[Environment, ...]], str]
    model: type[R]
    run: Callable[[tuple[Environment, ...], StageOutput], R]


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """What is finished of a job; a stage that was not asked for is None."""

    job: Job
    source: Done[SourceTree]
    translation: Done[Translation] | None = None
    package: Done[Package] | None = None
    verification: Done[Verification] | None = None
    debian: Done[DebianPackages] | None = None
    images: Done[BuiltImages] | None = None
    installation: Done[Installation] | None = None

    @property
    def seconds(self) -> float:
        """How long the job took in this run."""
        return sum(stage.seconds for stage in self._done)

    @property
    def cached(self) -> bool:
        """Whether everything was there already."""
        return all(stage.cached for stage in self._done)

    @property
    def _done(self) -> Iterator[Done[Any]]:
        stages = (
            self.source,
            self.translation,
            self.package,
            self.verification,
            self.debian,
            self.images,
            self.installation,
        )
        return (stage for stage in stages if stage is not None)


@dataclass(frozen=True, kw_only=True)
class ReleaseOutcome:
    """What is finished of a release."""

    release: ReleasePlan
    jobs: tuple[JobOutcome, ...]
    manifest: Manifest
    signed: Done[SignedRelease]
    files: tuple[Artifact, ...]
    event: Published | None = None
    is_new: bool = False
    changed_indexes: tuple[str, ...] = ()
    copied: tuple[Copied, ...] = ()
    installed: tuple[Installed, ...] = ()


def make_job(ctx: Context, job: Job, last: Stage) -> JobOutcome:
    """Run a job's stages up to *last*; finished ones are taken as they are."""
    ctx = ctx.for_platform(job.platform.identifier)
    outcome = JobOutcome(job=job, source=make_source(ctx, job))
    if not _reaches(last, Stage.TRANSLATE):
        return outcome
    translation = _translate(ctx, job, outcome.source)
    outcome = replace(outcome, translation=translation)
    if not _reaches(last, Stage.PACKAGE):
        return outcome
    package = _package(ctx, job, outcome.source, translation)
    outcome = replace(outcome, package=package)
    if not _reaches(last, Stage.VERIFY):
        return outcome
    verification = _verify(ctx, job, outcome.source, translation, package)
    outcome = replace(outcome, verification=verification)
    archives = _archives(ctx, job, outcome.source, translation, package)
    return _distribute(ctx, outcome, archives, last)


def _distribute(ctx: Context, outcome: JobOutcome, archives: Archives, last: Stage) -> JobOutcome:
    """Make what the channel has beside archives, and install it, up to *last*."""
    job = outcome.job
    if job.suites and _reaches(last, Stage.DEBIAN):
        outcome = replace(outcome, debian=_debian(ctx, job, archives))
    if job.variants and _reaches(last, Stage.IMAGE):
        outcome = replace(outcome, images=_images(ctx, job, archives))
    if (outcome.debian or outcome.images) and _reaches(last, Stage.INSTALL):
        outcome = replace(outcome, installation=_install(ctx, outcome))
    return outcome


def input_key(ctx: Context, release: ReleasePlan) -> str | None:
    """Return the digest of what would decide the release's bytes, before it is translated.

    None if it is not known, since a dry run makes neither sources nor environments.
    """
    keys = {}
    for job in release.jobs:
        its = ctx.for_platform(job.platform.identifier)
        try:
            keys[job.identifier] = planned(its, job, _translation_environment(its, job)).inputs
        except NotFinished:
            return None
    return release_key(keys)


def release_key(keys: Mapping[str, str]) -> str:
    """Return the digest of a release's inputs from its jobs' ``inputs``, by identifier."""
    return package_stage.release_input_key(keys)


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """What is known of a job before it is translated: its source, and two keys.

    ``translation`` is the key of its translation, ``inputs`` that of all that decides its archives.
    """

    source: Done[SourceTree]
    translation: str
    inputs: str


def planned(ctx: Context, job: Job, environment: Environment) -> PlannedJob:
    """Return what *job* will be, in the *environment* that it is translated in."""
    source = make_source(ctx, job)
    key = _translation_key(ctx, job, source.record, environment)
    inputs = package_stage.input_key(ctx, job, key, environment.digest)
    return PlannedJob(source=source, translation=key, inputs=inputs)


def make_release(
    ctx: Context,
    release: ReleasePlan,
    jobs: tuple[JobOutcome, ...],
    channel: OpenChannel,
    last: Stage,
) -> ReleaseOutcome:
    """Sign and publish a release whose jobs have all been verified, up to *last*."""
    manifest = _manifest(ctx, release, jobs)
    signed = _sign(ctx, channel.config.signing, release, manifest, jobs)
    files = sign_stage.release_files(manifest, signed.record)
    outcome = ReleaseOutcome(
        release=release, jobs=jobs, manifest=manifest, signed=signed, files=files
    )
    if not _reaches(last, Stage.PUBLISH):
        return outcome
    outcome = _publish(ctx, outcome, channel)
    if not _reaches(last, Stage.LEDGER):
        return outcome
    outcome = _record(ctx, outcome, channel)
    if not _reaches(last, Stage.PROJECTIONS):
        return outcome
    outcome = replace(
        outcome, changed_indexes=tuple(write_projections(ctx, channel, outcome.files))
    )
    outcome = replace(outcome, copied=_copy(ctx, outcome, channel))
    return replace(outcome, installed=_check_public(ctx, outcome, channel))


def _manifest(ctx: Context, release: ReleasePlan, jobs: tuple[JobOutcome, ...]) -> Manifest:
    verified = {item.job.identifier: item.verification.record for item in jobs if item.verification}
    translations = {item.job.identifier: item.translation for item in jobs if item.translation}
    keys = {
        item.job.identifier: package_stage.input_key(
            ctx, item.job, done.key, done.record.environment
        )
        for item in jobs
        if (done := item.translation) is not None
    }
    sources = {
        item.source.record.source_archive.filename: item.source.record.source_archive
        for item in jobs
        if item.source.record.source_archive is not None
    }
    return sign_stage.make_manifest(
        release,
        verified,
        {name: done.key for name, done in translations.items()},
        package_stage.release_input_key(keys),
        _more(jobs, tuple(sources.values())),
    )


def _more(jobs: tuple[JobOutcome, ...], sources: tuple[Artifact, ...]) -> sign_stage.More:
    packages = (item.debian.record.artifacts for item in jobs if item.debian is not None)
    images = (item.images.record.images for item in jobs if item.images is not None)
    return sign_stage.More(
        files=(*sources, *chain.from_iterable(packages)),
        images=tuple(built.image for built in chain.from_iterable(images)),
    )


def make_source(ctx: Context, job: Job) -> Done[SourceTree]:
    """Return a job's source, packed now if there is none under its key."""
    with _located(Stage.SOURCE, job.interpreter.interpreter):
        inputs = source_stage.source_inputs(ctx, job)
    key = content_key(Stage.SOURCE, source_stage.VERSION, **inputs)
    return _once(
        ctx,
        Stage.SOURCE,
        job.interpreter.interpreter,
        key,
        SourceTree,
        lambda stage: source_stage.make_source(ctx, job, stage),
    )


def _translation_key(ctx: Context, job: Job, source: SourceTree, environment: Environment) -> str:
    inputs = translate_stage.translation_inputs(ctx, job, source, environment)
    return content_key(Stage.TRANSLATE, translate_stage.VERSION, **inputs)


def _translation_environment(ctx: Context, job: Job) -> Environment:
    with _located(Stage.TRANSLATE, job.identifier):
        if not ctx.dry_run:
            require_fit(ctx, job, translates=True)
            return ready_environment(ctx, job.environment, job.placement)
        recorded = recorded_environment(ctx, job.environment, job.placement)
        if recorded is None:
            raise NotFinished(Stage.TRANSLATE)
        return recorded


def _translate(ctx: Context, job: Job, source: Done[SourceTree]) -> Done[Translation]:
    archive = source.directory / source.record.archive
    return _once_in(
        ctx,
        Stage.TRANSLATE,
        job,
        (job.environment,),
        job.placement,
        Contained(
            key=lambda environments: _translation_key(ctx, job, source.record, environments[0]),
            model=Translation,
            run=lambda environments, stage: translate_stage.translate(
                ctx, job, archive, environments[0], stage
            ),
        ),
    )


def _package(
    ctx: Context, job: Job, source: Done[SourceTree], translation: Done[Translation]
) -> Done[Package]:
    info = package_stage.build_info(ctx, job, source.record, translation.record, translation.key)
    translated = Translated(
        source=source.directory / source.record.archive,
        products=translation.directory / translation.record.archive,
    )
    given = package_stage.PackageInput(info=info, translated=translated)

    def key(environments: tuple[Environment, ...]) -> str:
        inputs = package_stage.package_inputs(ctx, job, info, environments[0])
        return content_key(Stage.PACKAGE, package_stage.VERSION, **inputs)

    return _once_in(
        ctx,
        Stage.PACKAGE,
        job,
        (job.environment,),
        job.placement,
        Contained(
            key=key,
            model=Package,
            run=lambda environments, stage: package_stage.make_package(
                ctx, job, given, environments[0], stage
            ),
        ),
    )


def _verify(
    ctx: Context,
    job: Job,
    source: Done[SourceTree],
    translation: Done[Translation],
    package: Done[Package],
) -> Done[Verification]:
    packed = verify_stage.Packed(
        package=package.record,
        directory=package.directory,
        info=package_stage.build_info(ctx, job, source.record, translation.record, translation.key),
        source=source.record.source_archive,
        source_directory=source.directory,
    )

    def key(environments: tuple[Environment, ...]) -> str:
        inputs = verify_stage.verify_inputs(ctx, job, packed, environments)
        return content_key(Stage.VERIFY, verify_stage.VERSION, **inputs)

    return _once_in(
        ctx,
        Stage.VERIFY,
        job,
        job.verified_in,
        Placement(host=job.platform),
        Contained(
            key=key,
            model=Verification,
            run=lambda environments, stage: verify_stage.verify(
                ctx, job, packed, environments, stage
            ),
        ),
    )


def _archives(
    ctx: Context,
    job: Job,
    source: Done[SourceTree],
    translation: Done[Translation],
    package: Done[Package],
) -> Archives:
    return Archives(
        package=package.record,
        directory=package.directory,
        info=package_stage.build_info(ctx, job, source.record, translation.record, translation.key),
    )


def _debian(ctx: Context, job: Job, archives: Archives) -> Done[DebianPackages]:
    def key(environments: tuple[Environment, ...]) -> str:
        inputs = debian_stage.debian_inputs(ctx, job, archives, environments, job.suites)
        return content_key(Stage.DEBIAN, debian_stage.VERSION, **inputs)

    return _once_in(
        ctx,
        Stage.DEBIAN,
        job,
        tuple(ctx.config.suites[name].environment for name in job.suites),
        job.placement,
        Contained(
            key=key,
            model=DebianPackages,
            run=lambda environments, stage: debian_stage.make_packages(
                ctx, job, archives, environments, stage, job.suites
            ),
        ),
    )


def _images(ctx: Context, job: Job, archives: Archives) -> Done[BuiltImages]:
    def key(environments: tuple[Environment, ...]) -> str:
        inputs = image_stage.image_inputs(ctx, job, archives, job.variants, environments)
        return content_key(Stage.IMAGE, image_stage.VERSION, **inputs)

    return _once_in(
        ctx,
        Stage.IMAGE,
        job,
        tuple(variant.environment for variant in job.variants),
        Placement(host=job.platform),
        Contained(
            key=key,
            model=BuiltImages,
            run=lambda environments, stage: image_stage.make_images(
                ctx, job, archives, job.variants, environments, stage
            ),
        ),
    )


def _install(ctx: Context, outcome: JobOutcome) -> Done[Installation]:
    job, debian, images = outcome.job, outcome.debian, outcome.images
    given = install_stage.Given(
        packages=debian.record.packages if debian else (),
        packages_directory=debian.directory if debian else Path(),
        images=images.record.images if images else (),
        images_directory=images.directory if images else Path(),
    )

    def key(environments: tuple[Environment, ...]) -> str:
        inputs = install_stage.install_inputs(job, given, environments)
        return content_key(Stage.INSTALL, install_stage.VERSION, **inputs)

    return _once_in(
        ctx,
        Stage.INSTALL,
        job,
        tuple(ctx.config.suites[name].clean for name in job.suites),
        Placement(host=job.platform),
        Contained(
            key=key,
            model=Installation,
            run=lambda environments, stage: install_stage.check_installs(
                ctx, job, given, environments, stage
            ),
        ),
    )


def _sign(
    ctx: Context,
    config: SigningConfig,
    release: ReleasePlan,
    manifest: Manifest,
    jobs: tuple[JobOutcome, ...],
) -> Done[SignedRelease]:
    if ctx.dry_run and not sign_stage.has_keyring(ctx, config):
        raise NotFinished(Stage.SIGN)
    with _located(Stage.SIGN, manifest.release), sign_stage.signing_keyring(ctx, config) as keyring:
        # Also when the release is signed already: a key that has expired since must stop it.
        key_used = usable_key(keyring, config, ctx.now())
    infos = dict(_build_infos(ctx, jobs))
    pins, fingerprint = ctx.config.pins, key_used.fingerprint
    statement = make_statement(release, manifest, infos, pins, fingerprint)
    built = sign_stage.Built(
        directories={
            artifact.filename: directory
            for item in jobs
            for artifact, directory in _finished_files(item)
        },
        packages=tuple(
            package for item in jobs if item.debian for package in item.debian.record.packages
        ),
    )
    inputs = sign_stage.sign_inputs(manifest, statement, fingerprint, built.packages)
    key = content_key(Stage.SIGN, sign_stage.VERSION, **inputs)
    return _once(
        ctx,
        Stage.SIGN,
        manifest.release,
        key,
        SignedRelease,
        lambda stage: sign_stage.sign_release(ctx, config, manifest, statement, built, stage),
    )


def _build_infos(ctx: Context, jobs: tuple[JobOutcome, ...]) -> Iterator[tuple[str, BuildInfo]]:
    """Yield how each job's archives were built, by its identifier."""
    for item in jobs:
        if (done := item.translation) is not None:
            yield (
                item.job.identifier,
                package_stage.build_info(ctx, item.job, item.source.record, done.record, done.key),
            )


def _finished_files(item: JobOutcome) -> Iterator[tuple[Artifact, Path]]:
    """Yield each file of a job that is released, and the directory it is in."""
    if item.package is not None:
        yield from (
            (artifact, item.package.directory) for artifact in item.package.record.artifacts
        )
    if item.debian is not None:
        yield from ((artifact, item.debian.directory) for artifact in item.debian.record.artifacts)
    if item.source.record.source_archive is not None:
        yield item.source.record.source_archive, item.source.directory


def _publish(ctx: Context, outcome: ReleaseOutcome, channel: OpenChannel) -> ReleaseOutcome:
    signed = outcome.signed.record
    with _located(Stage.PUBLISH, signed.release):
        state = read_ledger(channel.store, channel.notary).state
        refuse_other_release(state, signed.product, signed.release, signed.manifest.sha256)
        known = state.find(signed.product, signed.release)
        if known is not None:
            existing(state, signed.product, signed.release)  # a pruned one is not put again
        elif (event := _publication(ctx, outcome)(state)) is not None:
            require_indexes(ctx.config, channel.sites[0], state, event)
        # What the ledger lists is what the public has; only that is compared then.
        wanted = outcome.files if known is None else known.published.files or outcome.files
        upload = publish_stage.Upload(
            signed=signed,
            files=wanted,
            directory=outcome.signed.directory,
            parallel=channel.config.parallel,
        )
        push = _image_push(outcome, is_announced=known is not None)
        if known is not None and publish_stage.hold_files(channel.sites, upload):
            _restore_images(ctx, push, channel)
            return replace(outcome, files=wanted)
        if ctx.dry_run:
            raise NotFinished(Stage.PUBLISH)
        return replace(outcome, files=_uploaded(ctx, outcome, upload, channel, push))


def _restore_images(ctx: Context, push: ImagePush, channel: OpenChannel) -> None:
    """Push the images of an announced release again if the registry has lost something of them."""
    registry = channel.registry
    if registry is None or not push.manifest.images or hold_images(ctx.config, registry, push):
        return
    if ctx.dry_run:
        raise NotFinished(Stage.PUBLISH)
    with ctx.console.step(f"publish {push.manifest.release}") as step:
        push_images(ctx.config, registry, push, step)


def _uploaded(
    ctx: Context,
    outcome: ReleaseOutcome,
    upload: publish_stage.Upload,
    channel: OpenChannel,
    push: ImagePush,
) -> tuple[Artifact, ...]:
    """Put the files into every site and fetch them back; return them as they are there."""
    planned = replace(upload, files=outcome.files)
    expected = set(outcome.release.urls)
    publish_stage.check_directory(planned, expected, channel.config.largest_file)
    upload = replace(upload, checked=frozenset(outcome.files))
    with ctx.console.step(f"publish {upload.signed.release}") as step:
        files = publish_stage.publish_files(ctx, channel.sites, upload, step)
        publish_stage.read_back(ctx, channel.sites, replace(upload, files=files), step)
        if channel.registry is not None and push.manifest.images:
            push_images(ctx.config, channel.registry, push, step)
    return files


def _image_push(outcome: ReleaseOutcome, *, is_announced: bool) -> ImagePush:
    uploads = (
        ImageUpload(built=built, directory=item.images.directory)
        for item in outcome.jobs
        if item.images is not None
        for built in item.images.record.images
    )
    return ImagePush(
        manifest=outcome.manifest,
        uploads=tuple(uploads),
        signed=outcome.signed.record,
        directory=outcome.signed.directory,
        is_announced=is_announced,
    )


def _publication(ctx: Context, outcome: ReleaseOutcome) -> Callable[[State], Published | None]:
    release = outcome.release
    stamp = Stamp(at=ctx.now(), by=ctx.releaser, reason=f"{release.channel} of {release.version}")
    return publication(
        outcome.manifest, outcome.signed.record, outcome.files, stamp, staged=release.staged
    )


def _record(ctx: Context, outcome: ReleaseOutcome, channel: OpenChannel) -> ReleaseOutcome:
    release = outcome.release
    decide = _publication(ctx, outcome)
    with (
        _located(Stage.LEDGER, release.release),
        ctx.console.step(f"ledger {release.release}") as step,
    ):
        read, new = append(channel.store, channel.notary, decide)
        event = existing(read.state, release.product, release.release).published
        if new is None:
            step.skip(f"event {event.sequence} of {event.at:%Y-%m-%d %H:%M} says so already")
    return replace(outcome, event=event, is_new=new is not None)


def write_projections(
    ctx: Context, channel: OpenChannel, checked: tuple[Artifact, ...] = ()
) -> list[str]:
    """Make every index what the ledger says; return the addresses of those that changed.

    *checked* are files that were fetched back in this run.
    """
    if ctx.dry_run:
        if stale_everywhere(ctx, channel):
            raise NotFinished(Stage.PROJECTIONS)
        return []
    with _located(Stage.PROJECTIONS, "indexes"), ctx.console.step("projections") as step:
        changed = project_everywhere(ctx, channel, checked)
        if not changed:
            step.skip("every index is what the ledger says")
    return changed


def _copy(ctx: Context, outcome: ReleaseOutcome, channel: OpenChannel) -> tuple[Copied, ...]:
    """Copy the release to GitHub, if the channel has a place there."""
    if channel.github is None or ctx.dry_run:
        return ()
    release = outcome.release.release
    with _located(Stage.PROJECTIONS, release):
        state = read_ledger(channel.store, channel.notary).state
        return tuple(copy_releases(ctx, channel, state, channel.github, {release}))


def _check_public(
    ctx: Context, outcome: ReleaseOutcome, channel: OpenChannel
) -> tuple[Installed, ...]:
    """Install what has just been published, as users do, if it is packages or images."""
    release, config = outcome.release, channel.config
    if ctx.dry_run or (config.apt is None and channel.registry is None):
        return ()
    with (
        _located(Stage.PROJECTIONS, release.release),
        ctx.console.step(f"{Stage.INSTALL} {release.release}") as step,
    ):
        state = read_ledger(channel.store, channel.notary).state
        check = Check(
            ctx=ctx,
            channel=channel,
            state=state,
            release=existing(state, release.product, release.release),
            factors={job.platform.identifier: job.run_factor for job in release.jobs},
        )
        return check_once(check, step)


def _once(
    ctx: Context,
    stage: Stage,
    identifier: str,
    key: str,
    model: type[R],
    run: Callable[[StageOutput], R],
) -> Done[R]:
    """Return the stage's finished output, run now if there is none under *key*."""
    directory = ctx.work.stage_directory(stage, key)
    started = time.monotonic()
    with _located(stage, identifier):
        record = ctx.work.finished(stage, key, model)
        if record is not None:
            return Done(record=record, key=key, directory=directory, seconds=0.0, cached=True)
        if ctx.dry_run:
            raise NotFinished(stage)
        with (
            ctx.console.step(f"{stage} {identifier}") as step,
            ctx.work.unfinished(stage, key) as partial,
        ):
            record = run(StageOutput(key=key, directory=partial, step=step))
            write_record(partial, record)
    seconds = time.monotonic() - started
    return Done(record=record, key=key, directory=directory, seconds=seconds, cached=False)


def _once_in(
    ctx: Context,
    stage: Stage,
    job: Job,
    names: tuple[str, ...],
    placement: Placement,
    contained: Contained[R],
) -> Done[R]:
    """Do as :func:`_once` for a stage whose key depends on environments.

    What is known of them from earlier suffices to find a finished output, with no engine at all.
    """
    with _located(stage, job.identifier):
        claimed = ctx.claimed.get(job.identifier, {}).get(stage)
        if claimed is None:
            environments = _environments(ctx, stage, job, names, placement, contained)
        else:
            environments = _taken(names, contained, claimed)
        key = contained.key(environments)
    return _once(
        ctx,
        stage,
        job.identifier,
        key,
        contained.model,
        lambda output: contained.run(environments, output),
    )


def _environments(
    ctx: Context,
    stage: Stage,
    job: Job,
    names: tuple[str, ...],
    placement: Placement,
    contained: Contained[R],
) -> tuple[Environment, ...]:
    """Return a stage's environments: as they are known if it is finished, else ready for work."""
    recorded = [recorded_environment(ctx, name, placement) for name in names]
    environments = tuple(environment for environment in recorded if environment is not None)
    if len(environments) == len(names) and _is_finished(ctx, stage, contained, environments):
        return environments
    if ctx.dry_run:
        raise NotFinished(stage)
    require_fit(ctx, job, translates=stage is Stage.TRANSLATE)
    environments = tuple(ready_environment(ctx, name, placement) for name in names)
    if stage is Stage.TRANSLATE:
        require_runnable(ctx, job, environments[0])
    return environments


def _taken(
    names: tuple[str, ...], contained: Contained[R], claimed: Claimed
) -> tuple[Environment, ...]:
    """Take over what a worker claims, if its key is what this stage has in its environments here.

    Raises:
        ClaimError: it is what other environments would have made, or another job.
        PipelineError: it cannot be taken over.
    """
    by_name = {environment.name: environment for environment in claimed.environments}
    if set(names) == set(by_name):
        environments = tuple(by_name[name] for name in names)
        if contained.key(environments) == claimed.key:
            claimed.take()
            return environments
    msg = (
        "what the worker handed over does not have the key that this stage has here: it ran other "
        "code, another configuration or another source. Give it the revision that the run has."
    )
    raise ClaimError(msg)


def _is_finished(
    ctx: Context, stage: Stage, contained: Contained[R], environments: tuple[Environment, ...]
) -> bool:
    key = contained.key(environments)
    return ctx.work.finished(stage, key, contained.model) is not None


@contextmanager
def _located(stage: Stage, identifier: str) -> Iterator[None]:
    """Tell an error which stage of what it is from."""
    try:
        yield
    except PipelineError as error:
        error.where = error.where or f"{stage} {identifier}"
        raise


def _reaches(last: Stage, stage: Stage) -> bool:
    return ORDER.index(last) >= ORDER.index(stage)
