"""Self-hosting: finds the released interpreter that is to run the RPython toolchain."""

from pathlib import Path

from pipeline.effects.context import Context
from pipeline.effects.files import sha256_of, write_atomically
from pipeline.effects.store import Store
from pipeline.errors import DigestMismatchError, SourceError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import InterpreterConfig, ReleaseBootstrap
from pipeline.model.ledger import Published, State, version_order
from pipeline.model.records import BootstrapRelease
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Job, Plan
from pipeline.publish.ledger import read_ledger
from pipeline.publish.sites import OpenChannel
from pipeline.translate.bootstrap import bootstrap_path


def with_bootstraps(ctx: Context, plan: Plan, channel: OpenChannel) -> Plan:
    """Return *plan* with the bootstrap release of each job that wants one, fetched into the cache.

    Raises:
        SourceError: the store has no final release of it for the platform.
        DigestMismatchError: the store's file is not the one in the ledger.
    """
    if not any(_wanted(job) for job in plan.jobs):
        return plan
    state = read_ledger(channel.store, channel.notary).state
    releases = []
    for release in plan.releases:
        jobs = tuple(_with_bootstrap(ctx, job, state, channel.store) for job in release.jobs)
        releases.append(release.model_copy(update={"jobs": jobs}))
    return plan.model_copy(update={"releases": tuple(releases)})


def newest_release(
    state: State, wanted: ReleaseBootstrap, platform: str, older_than: InterpreterVersion | None
) -> tuple[Published, Artifact]:
    """Return the newest final release that *wanted* means and that is for *platform*. Pure.

    Raises:
        SourceError: there is none.
    """
    found = [
        (event, artifact)
        for event in (item.published for item in state.releases if item.is_offered)
        if event.interpreter == wanted.interpreter and event.stable
        if wanted.version is None or event.interpreter_version == wanted.version
        if older_than is None or event.interpreter_version < older_than
        for artifact in event.files
        if (artifact.kind, artifact.platform) == (ArtifactKind.ARCHIVE_ZST, platform)
    ]
    if not found:
        version = "" if wanted.version is None else f" {wanted.version}"
        older = "" if older_than is None else f" older than {older_than}"
        msg = (
            f"the store has no final release of {wanted.interpreter}{version}{older} for "
            f"{platform} to translate with. Release it first, or take the image's: "
            'translation.bootstrap = { kind = "image" }.'
        )
        raise SourceError(msg)
    return max(found, key=lambda item: version_order(item[0]))


def _wanted(job: Job) -> ReleaseBootstrap | None:
    bootstrap = job.bootstrap_config
    return bootstrap if isinstance(bootstrap, ReleaseBootstrap) else None


def _with_bootstrap(ctx: Context, job: Job, state: State, store: Store) -> Job:
    wanted = _wanted(job)
    if wanted is None:
        return job
    itself = wanted.interpreter == job.interpreter.interpreter
    event, artifact = newest_release(
        state, wanted, job.host.identifier, job.version if itself else None
    )
    config: InterpreterConfig = ctx.config.interpreters[wanted.interpreter]
    release = BootstrapRelease(
        release=event.release, artifact=artifact, executable=config.package.executable
    )
    path = bootstrap_path(ctx, release)
    if ctx.dry_run:
        return job.model_copy(update={"bootstrap": release})
    if not path.exists() or sha256_of(path) != artifact.sha256:
        _fetch(store, event, artifact, path)
    return job.model_copy(update={"bootstrap": release})


def _fetch(store: Store, event: Published, artifact: Artifact, path: Path) -> None:
    key = naming.store_key(event.product, event.release, artifact.filename)
    present = store.read(key)
    if present is None:
        msg = (
            f"{key}: is in the ledger, but not in the store. "
            f"Run: python -m pipeline publish {event.interpreter}"
        )
        raise SourceError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, present.data)
    if (actual := sha256_of(path)) != artifact.sha256:
        path.unlink()
        raise DigestMismatchError(
            key,
            expected=artifact.sha256,
            actual=actual,
            remedy="The store's file was changed after it was published; restore it.",
        )
