"""Decides what will be built, under which names, before anything is done. Pure.

The names and URLs in a plan are the names that come out: stages take them from here.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from pipeline.config import known
from pipeline.errors import ConfigError, PlatformError, UnknownNameError
from pipeline.model import naming
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import FileName, Model, Name
from pipeline.model.configs import Channel, ChannelConfig, Config, InterpreterConfig, PyPyPackage
from pipeline.model.platforms import Mode, Platform
from pipeline.model.records import BootstrapRelease, Resolved, Revision
from pipeline.model.versions import InterpreterVersion, VersionField


class Job(Model):
    """One interpreter translated for one platform: the unit that can run on any worker."""

    identifier: Name
    interpreter: InterpreterConfig
    platform: Platform
    mode: Mode
    revision: Revision
    version: VersionField
    language_version: str
    stem: FileName
    source_archive: FileName | None = None
    source_directory: str | None = None
    bootstrap: BootstrapRelease | None = None

    @property
    def jit(self) -> bool:
        """Whether this platform's binary gets a JIT."""
        translation = self.interpreter.translation
        return translation.jit and self.platform.machine not in translation.without_jit


class ReleasePlan(Model):
    """One release: its jobs, and exactly the files it will consist of, with their URLs."""

    release: FileName
    product: Name
    channel: Channel
    version: VersionField
    language_version: str
    interpreter: InterpreterConfig
    revision: Revision
    jobs: tuple[Job, ...]
    urls: dict[FileName, str]


class Plan(Model):
    """Everything one command will do."""

    channel: Channel
    channel_config: ChannelConfig
    releases: tuple[ReleasePlan, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job of every release, in order."""
        return tuple(job for release in self.releases for job in release.jobs)


class Selection(BaseModel, frozen=True):
    """What the command line asks for; empty means what the channel says.

    ``platforms`` are for each of ``interpreters``; ``identified`` are single jobs, each an
    interpreter and a platform. ``version`` replaces the configured version of the one interpreter
    that is selected, ``source`` (a local directory) its source.
    """

    channel: Channel
    interpreters: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    identified: tuple[tuple[str, str], ...] = ()
    version: InterpreterVersion | None = None
    source: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Every interpreter that is asked for, once."""
        return tuple(dict.fromkeys((*self.interpreters, *(name for name, _ in self.identified))))


def selected_interpreters(config: Config, selection: Selection) -> tuple[InterpreterConfig, ...]:
    """Return the interpreters that *selection* means, in order and once each.

    Raises:
        UnknownNameError: there is no such interpreter.
        ConfigError: one version is asked for several interpreters.
    """
    names = selection.named or channel_config(config, selection.channel).interpreters
    given = {
        f"--interpreter-version {selection.version}": selection.version is not None,
        f"--source {selection.source}": selection.source is not None,
    }
    for option in (option for option, is_given in given.items() if is_given):
        if len(set(names)) != 1:
            msg = (
                f"command line: {option} was given for several interpreters "
                f"({', '.join(names)}). Name one interpreter."
            )
            raise ConfigError(msg)
    return tuple(
        known("interpreter", name, config.interpreters, where="command line")
        for name in dict.fromkeys(names)
    )


def make_plan(
    config: Config, selection: Selection, sources: Mapping[str, Resolved], *, worker_machine: str
) -> Plan:
    """Return what *selection* means for these *sources* (by interpreter).

    Args:
        config: all configuration.
        selection: what was asked for.
        sources: the resolved source of each selected interpreter.
        worker_machine: ``uname -m`` of the machine that does the work.

    Raises:
        UnknownNameError: an interpreter or platform does not exist.
        PlatformError: a platform cannot be built for an interpreter or on this worker.
    """
    channel = channel_config(config, selection.channel)
    releases = tuple(
        _release(
            channel,
            selection,
            interpreter,
            sources[interpreter.interpreter],
            _platforms(config, selection, interpreter, worker_machine),
        )
        for interpreter in selected_interpreters(config, selection)
    )
    return Plan(channel=selection.channel, channel_config=channel, releases=releases)


def channel_config(config: Config, channel: Channel) -> ChannelConfig:
    """Return what ``channels.toml`` says of *channel*."""
    return config.channels.release if channel == "release" else config.channels.nightly


def _platforms(
    config: Config, selection: Selection, interpreter: InterpreterConfig, worker_machine: str
) -> tuple[Platform, ...]:
    identified = [row for name, row in selection.identified if name == interpreter.interpreter]
    names: list[str] = []
    where = "command line"
    if identified and interpreter.interpreter not in selection.interpreters:
        pass
    elif selection.platforms:
        names += selection.platforms
    else:
        where = f"channels.toml: key {selection.channel}.platforms"
        names += _channel_platforms(config, selection, worker_machine)
    platforms = []
    for name in dict.fromkeys((*names, *identified)):
        platform = known("platform", name, config.platforms, where=where)
        if name not in interpreter.platforms:
            kind, allowed = "platform", interpreter.platforms
            raise UnknownNameError(
                kind,
                name,
                allowed,
                where=f"{interpreter.interpreter}.toml: key platforms",
            )
        if platform.machine != worker_machine:
            msg = (
                f"{name}: this worker is {worker_machine}, and only mode native is known for this "
                f"platform. Run it on a {platform.machine} machine or engine (DOCKER_HOST)."
            )
            raise PlatformError(msg)
        platforms.append(platform)
    return tuple(platforms)


def _channel_platforms(config: Config, selection: Selection, machine: str) -> Sequence[str]:
    names = channel_config(config, selection.channel).platforms
    if names != "worker":
        return names
    found = [name for name, platform in config.platforms.items() if platform.machine == machine]
    if not found:
        known_machines = ", ".join(platform.machine for platform in config.platforms.values())
        msg = (
            f"channels.toml: key {selection.channel}.platforms is 'worker', but this worker's "
            f"machine {machine!r} is in no row of platforms.toml (known: {known_machines})."
        )
        raise PlatformError(msg)
    return found


def _release(
    channel: ChannelConfig,
    selection: Selection,
    interpreter: InterpreterConfig,
    resolved: Resolved,
    platforms: tuple[Platform, ...],
) -> ReleasePlan:
    nightly = selection.channel == "nightly"
    revision = resolved.revision
    name = (
        naming.nightly_name(interpreter, revision)
        if nightly
        else naming.release_name(interpreter.interpreter, resolved.interpreter_version)
    )
    jobs = tuple(
        Job(
            identifier=naming.identifier(interpreter.interpreter, platform.identifier),
            interpreter=interpreter,
            platform=platform,
            mode=Mode.NATIVE,
            revision=revision,
            version=resolved.interpreter_version,
            language_version=resolved.language_version,
            stem=naming.archive_stem(name, platform, nightly=nightly),
            source_archive=naming.source_name(name) if revision.kind == "git" else None,
            source_directory=selection.source,
        )
        for platform in platforms
    )
    return ReleasePlan(
        release=name,
        product=interpreter.product,
        channel=selection.channel,
        version=resolved.interpreter_version,
        language_version=resolved.language_version,
        interpreter=interpreter,
        revision=revision,
        jobs=jobs,
        urls=_urls(channel.base_url, interpreter.product, name, jobs),
    )


def archive_names(job: Job) -> dict[ArtifactKind, str]:
    """Return the file names of a job's archives, by kind."""
    return naming.archive_names(
        job.stem, os=job.platform.os, debug=isinstance(job.interpreter.package, PyPyPackage)
    )


def _urls(base_url: str, product: str, release: str, jobs: Sequence[Job]) -> dict[str, str]:
    filenames = [name for job in jobs for name in archive_names(job).values()]
    filenames += dict.fromkeys(job.source_archive for job in jobs if job.source_archive)
    filenames += [
        naming.manifest_name(release),
        naming.CHECKSUMS_NAME,
        naming.SIGNATURE_NAME,
        naming.PUBLIC_KEY_NAME,
    ]
    return {
        name: naming.public_url(base_url, naming.store_key(product, release, name))
        for name in filenames
    }
