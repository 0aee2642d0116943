"""Decides what will be built, under which names, before anything is done. Pure.

The names and URLs in a plan are the names that come out: stages take them from here.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

from pydantic import BaseModel

from pipeline.config import known
from pipeline.errors import ConfigError, PlatformError, UnknownNameError
from pipeline.model import naming
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import FileName, Model, Name
from pipeline.model.bases import environments_for
from pipeline.model.configs import (
    Bootstrap,
    Channel,
    ChannelConfig,
    Config,
    InterpreterConfig,
    PlatformTranslation,
    PyPyPackage,
)
from pipeline.model.debian import NightlyBuild, package_filenames
from pipeline.model.images import ImageVariant
from pipeline.model.platforms import Mode, Placement, Platform, Worker, ways
from pipeline.model.records import BootstrapRelease, Resolved, Revision
from pipeline.model.versions import InterpreterVersion, Nightly, VersionField

# In place of a platform's name: every platform of the interpreter.
ALL: Final = "all"


class Job(Model):
    """One interpreter translated for one platform: the unit that can run on any worker.

    ``host`` is the platform on which the toolchain runs; in mode cross another than ``platform``.
    ``verified_in`` are the environments of the config that there are for the platform. ``suites``
    are those of Debian that packages are made for, ``debian_files`` the packages' file names, and
    ``variants`` the kinds of images; none where the channel or the interpreter has no such.
    ``nightly_day`` is the day in the name of the nightly that it is of.
    """

    identifier: Name
    interpreter: InterpreterConfig
    platform: Platform
    mode: Mode
    host: Platform
    verified_in: tuple[Name, ...]
    revision: Revision
    version: VersionField
    language_version: str
    stem: FileName
    source_archive: FileName | None = None
    source_directory: str | None = None
    bootstrap: BootstrapRelease | None = None
    suites: tuple[Name, ...] = ()
    debian_files: tuple[FileName, ...] = ()
    variants: tuple[ImageVariant, ...] = ()
    nightly_day: date | None = None

    @property
    def nightly(self) -> NightlyBuild | None:
        """The nightly that the job is of, None if it is of a release."""
        return _nightly_build(self.interpreter, self.revision, self.nightly_day)

    @property
    def jit(self) -> bool:
        """Whether this platform's binary gets a JIT."""
        translation = self.interpreter.translation
        return translation.jit and self.platform.machine not in translation.without_jit

    @property
    def placement(self) -> Placement:
        """Where the toolchain runs, and what else it compiles for."""
        target = self.platform if self.mode is Mode.CROSS else None
        return Placement(host=self.host, target=target)

    @property
    def environment(self) -> Name:
        """The environment that the toolchain runs in."""
        translation = self.interpreter.translation
        if self.mode is Mode.CROSS and translation.cross_environment is not None:
            return translation.cross_environment
        return self._own.environment or translation.environment

    @property
    def bootstrap_config(self) -> Bootstrap:
        """The Python 2.7 that runs the toolchain, as the config has it."""
        return self._own.bootstrap or self.interpreter.translation.bootstrap

    @property
    def tool_prefix(self) -> str:
        """What the names of compiler and binary tools begin with: ``aarch64-linux-gnu-``."""
        cross = self.platform.cross if self.mode is Mode.CROSS else None
        return f"{cross.prefix}-" if cross is not None else ""

    @property
    def time_factor(self) -> int:
        """How many times as long as the config says the toolchain may take."""
        emulated = self.mode is Mode.EMULATED
        return self.interpreter.translation.emulation_factor if emulated else 1

    @property
    def run_factor(self) -> int:
        """How many times as long as the config says the platform's own programs may take."""
        return self.interpreter.translation.emulation_factor if self.runs_emulated else 1

    @property
    def runs_emulated(self) -> bool:
        """Whether the platform's own programs run under an emulator here."""
        return self.mode is Mode.EMULATED or self.host.machine not in self.platform.runs_on

    @property
    def _own(self) -> PlatformTranslation:
        """What the config says of this platform alone."""
        platforms = self.interpreter.translation.platforms
        return platforms.get(self.platform.identifier, PlatformTranslation())


class ReleasePlan(Model):
    """One release: its jobs, and exactly the files it will consist of, with their URLs.

    A ``staged`` one is published, but no index offers it until it is promoted.
    """

    release: FileName
    product: Name
    channel: Channel
    version: VersionField
    language_version: str
    interpreter: InterpreterConfig
    revision: Revision
    jobs: tuple[Job, ...]
    urls: dict[FileName, str]
    staged: bool = False


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

    ``platforms`` are for each of ``interpreters`` (``all`` for every one that it has);
    ``identified`` are single jobs, each an interpreter and a platform. ``version`` replaces the
    configured version of the one interpreter that is selected, ``source`` (a local directory) its
    source. ``mode`` is how all platforms are translated, instead of the best way. ``day`` is in
    the names of nightlies; ``staged`` asks for releases that no index offers yet.
    """

    channel: Channel
    interpreters: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    identified: tuple[tuple[str, str], ...] = ()
    version: InterpreterVersion | None = None
    source: str | None = None
    mode: Mode | None = None
    day: date | None = None
    staged: bool = False

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


def split_names(
    config: Config, names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return which *names* are interpreters, and which are single jobs (``demo-linux-x86_64``).

    Raises:
        UnknownNameError: one is neither.
    """
    jobs = {
        naming.identifier(interpreter, platform): (interpreter, platform)
        for interpreter in config.interpreters
        for platform in config.platforms
    }
    interpreters = tuple(name for name in names if name not in jobs)
    for name in interpreters:
        known("interpreter", name, config.interpreters, where="command line")
    return interpreters, tuple(jobs[name] for name in names if name in jobs)


class Workers(BaseModel, frozen=True):
    """The machine that runs the pipeline, and those whose engines do single platforms' work."""

    here: Worker
    elsewhere: Mapping[str, Worker] = {}

    def of(self, platform: str) -> Worker:
        """Return the machine that does the work for *platform*."""
        return self.elsewhere.get(platform, self.here)


def make_plan(
    config: Config, selection: Selection, sources: Mapping[str, Resolved], workers: Workers
) -> Plan:
    """Return what *selection* means for these *sources* (by interpreter).

    Args:
        config: all configuration.
        selection: what was asked for.
        sources: the resolved source of each selected interpreter.
        workers: the machines that do the work.

    Raises:
        UnknownNameError: an interpreter or platform does not exist.
        PlatformError: a platform cannot be built for an interpreter or on this worker.
    """
    channel = channel_config(config, selection.channel)
    releases = tuple(
        _release(
            config,
            selection,
            interpreter,
            sources[interpreter.interpreter],
            _placed(config, selection, interpreter, workers),
        )
        for interpreter in selected_interpreters(config, selection)
    )
    return Plan(channel=selection.channel, channel_config=channel, releases=releases)


def channel_config(config: Config, channel: Channel) -> ChannelConfig:
    """Return what ``channels.toml`` says of *channel*."""
    return config.channels.release if channel == "release" else config.channels.nightly


def _placed(
    config: Config, selection: Selection, interpreter: InterpreterConfig, workers: Workers
) -> tuple[tuple[Platform, Mode, Platform], ...]:
    """Return the platforms to translate for, each with its mode and the toolchain's platform."""
    names, where = _platform_names(config, selection, interpreter, workers.here)
    placed = []
    for name in names:
        platform = known("platform", name, config.platforms, where=where)
        if name not in interpreter.platforms:
            kind, allowed = "platform", interpreter.platforms
            file = f"{interpreter.interpreter}.toml: key platforms"
            raise UnknownNameError(kind, name, allowed, where=file)
        found = ways(platform, config.platforms, workers.of(name))
        if interpreter.translation.cross_environment is None:
            found.pop(Mode.CROSS, None)
        mode = selection.mode or next(iter(found), None)
        if mode is None or mode not in found:
            raise PlatformError(_no_way(platform, selection.mode, workers.of(name), found))
        placed.append((platform, mode, found[mode]))
    return tuple(placed)


def _no_way(
    platform: Platform, wanted: Mode | None, worker: Worker, found: Mapping[Mode, Platform]
) -> str:
    """Say why a platform cannot be translated on a worker, and where it can."""
    way = f"in mode {wanted}" if wanted else "in any way"
    possible = f"There it is possible in mode {', '.join(found)}." if found else ""
    machines = ", ".join(platform.runs_on)
    elsewhere = (
        f"Use an engine on {machines} (--engine {platform.identifier}=ssh://HOST)."
        if platform.oci
        else f"Run the pipeline on {platform.os}, on {machines}."
    )
    return (
        f"{platform.identifier} cannot be translated {way} on this worker ({worker.os}, "
        f"{worker.machine}); platforms.toml allows {', '.join(platform.modes)}. "
        f"{possible or elsewhere}"
    )


def _platform_names(
    config: Config, selection: Selection, interpreter: InterpreterConfig, worker: Worker
) -> tuple[tuple[str, ...], str]:
    """Return the names of the platforms that are asked for, once each, and who asks."""
    identified = [row for name, row in selection.identified if name == interpreter.interpreter]
    names: Sequence[str] = ()
    where = "command line"
    if identified and interpreter.interpreter not in selection.interpreters:
        pass
    elif selection.platforms:
        names = selection.platforms
    else:
        where = f"channels.toml: key {selection.channel}.platforms"
        names = _channel_platforms(config, selection, worker)
    if ALL in names:
        names = (*interpreter.platforms, *(name for name in names if name != ALL))
    return tuple(dict.fromkeys((*names, *identified))), where


def _channel_platforms(config: Config, selection: Selection, worker: Worker) -> Sequence[str]:
    names = channel_config(config, selection.channel).platforms
    if names == ALL:
        return (ALL,)
    if names != "worker":
        return names
    rows = config.platforms.values()
    own = [row.identifier for row in rows if row.os == worker.os and Mode.NATIVE in row.modes]
    found = [name for name in own if worker.machine in config.platforms[name].runs_on[:1]]
    if not found:
        machines = ", ".join(f"{config.platforms[name].runs_on[0]}" for name in own)
        msg = (
            f"channels.toml: key {selection.channel}.platforms is 'worker', but this worker's "
            f"machine {worker.machine!r} is in no row of platforms.toml for {worker.os} (known: "
            f"{machines}). Name platforms with --platform."
        )
        raise PlatformError(msg)
    return found


def _release(
    config: Config,
    selection: Selection,
    interpreter: InterpreterConfig,
    resolved: Resolved,
    placed: tuple[tuple[Platform, Mode, Platform], ...],
) -> ReleasePlan:
    revision, day = resolved.revision, _nightly_day(selection, resolved.revision)
    name = release = naming.release_name(interpreter.interpreter, resolved.interpreter_version)
    if day is not None:
        name = naming.nightly_name(interpreter, revision)
        release = naming.nightly_release(interpreter.interpreter, revision, day)
    jobs = tuple(
        _with_packages(
            config,
            channel_config(config, selection.channel),
            Job(
                identifier=naming.identifier(interpreter.interpreter, platform.identifier),
                interpreter=interpreter,
                platform=platform,
                mode=mode,
                host=host,
                verified_in=environments_for(config, interpreter.verify.environments, platform),
                revision=revision,
                version=resolved.interpreter_version,
                language_version=resolved.language_version,
                stem=naming.archive_stem(name, platform, nightly=day is not None),
                source_archive=naming.source_name(name) if revision.kind == "git" else None,
                source_directory=selection.source,
                nightly_day=day,
            ),
        )
        for platform, mode, host in placed
    )
    base_url = channel_config(config, selection.channel).base_url
    return ReleasePlan(
        release=release,
        product=interpreter.product,
        channel=selection.channel,
        version=resolved.interpreter_version,
        language_version=resolved.language_version,
        interpreter=interpreter,
        revision=revision,
        jobs=jobs,
        urls=_urls(base_url, interpreter.product, release, jobs),
        staged=selection.staged,
    )


def _nightly_day(selection: Selection, revision: Revision) -> date | None:
    """Return the day in the name of a nightly, None if a release is asked for."""
    if selection.channel != "nightly":
        return None
    return selection.day or datetime.fromtimestamp(revision.epoch, UTC).date()


def _nightly_build(
    interpreter: InterpreterConfig, revision: Revision, day: date | None
) -> NightlyBuild | None:
    if day is None:
        return None
    return NightlyBuild(Nightly.parse(naming.nightly_name(interpreter, revision)), day)


def _with_packages(config: Config, channel: ChannelConfig, job: Job) -> Job:
    """Return *job* with what is made of its archive: packages for suites, images."""
    suites = _suites(config, channel, job.interpreter, job.platform)
    return job.model_copy(
        update={
            "suites": suites,
            "debian_files": _debian_files(config, job, suites),
            "variants": _variants(config, channel, job.interpreter, job.platform),
        }
    )


def _suites(
    config: Config, channel: ChannelConfig, interpreter: InterpreterConfig, platform: Platform
) -> tuple[str, ...]:
    """Return the suites for which a platform's packages are made: those that have it."""
    if channel.apt is None or interpreter.debian is None or platform.libc != "glibc":
        return ()
    return tuple(
        name
        for name in channel.apt.suites
        if environments_for(config, (config.suites[name].clean,), platform)
    )


def _debian_files(config: Config, job: Job, suites: tuple[str, ...]) -> tuple[str, ...]:
    interpreter, architecture = job.interpreter, job.platform.debian_arch
    if interpreter.debian is None or architecture is None:
        return ()
    rows = (config.suites[name] for name in suites)
    return package_filenames(interpreter.debian, architecture, rows, job.version, job.nightly)


def _variants(
    config: Config, channel: ChannelConfig, interpreter: InterpreterConfig, platform: Platform
) -> tuple[ImageVariant, ...]:
    """Return the kinds of images that are made for a platform: those whose base has it."""
    if channel.registry is None or interpreter.image is None or platform.libc != "glibc":
        return ()
    return tuple(
        variant
        for variant in interpreter.image.variants
        if environments_for(config, (variant.environment,), platform)
    )


def with_jobs(release: ReleasePlan, identifiers: Collection[str]) -> ReleasePlan:
    """Return *release* with only some of its jobs, and the files that they make. Pure."""
    jobs = tuple(job for job in release.jobs if job.identifier in identifiers)
    names = _filenames(release.release, jobs)
    urls = {name: url for name, url in release.urls.items() if name in names}
    return release.model_copy(update={"jobs": jobs, "urls": urls})


def archive_names(job: Job) -> dict[ArtifactKind, str]:
    """Return the file names of a job's archives, by kind."""
    return naming.archive_names(
        job.stem, os=job.platform.os, debug=isinstance(job.interpreter.package, PyPyPackage)
    )


def _urls(base_url: str, product: str, release: str, jobs: Sequence[Job]) -> dict[str, str]:
    return {
        name: naming.public_url(base_url, naming.store_key(product, release, name))
        for name in _filenames(release, jobs)
    }


def _filenames(release: str, jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return every file of a release, once each."""
    names = [name for job in jobs for name in archive_names(job).values()]
    names += [job.source_archive for job in jobs if job.source_archive]
    packages = [name for job in jobs for name in job.debian_files]
    names += [*packages, *([naming.packages_name(release)] if packages else [])]
    names += [
        naming.provenance_name(release),
        naming.manifest_name(release),
        naming.CHECKSUMS_NAME,
        naming.SIGNATURE_NAME,
        naming.PUBLIC_KEY_NAME,
    ]
    return tuple(dict.fromkeys(names))
