"""What is said of a farm: ``farm.toml``, and the documents that go between its machines.

A run is one submission to the farm. The trusted worker *prepares* it (resolves sources, makes
environments, computes keys), workers *translate* its jobs and claim what they made, and the trusted
worker checks the claims and *collects*: packages, signs, publishes. Every document is JSON.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from pipeline.model.artifacts import Artifact
from pipeline.model.base import FileName, Model, Name, RelativePath, Sha256
from pipeline.model.configs import Channel, S3Options, StoreConfig
from pipeline.model.platforms import Mode, Os
from pipeline.model.records import Environment
from pipeline.model.versions import VersionField

HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+[^/\s]$")]
MailAddress = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200)]
Hour = Annotated[int, Field(ge=0, le=23)]
Minute = Annotated[int, Field(ge=0, le=59)]


class Role(StrEnum):
    """What a worker is trusted with."""

    BUILDER = "builder"  # translates; has no key
    SIGNER = "signer"  # prepares, packages, signs and publishes; has the keys, builds for nobody


class DockerLatent(Model):
    """A worker that is a container, started when there is work.

    ``image`` is by digest or a local name; ``docker_host`` where the engine is (None: this
    machine's socket); ``volumes`` are ``SOURCE:PLACE[:ro]``, as the engine's socket for the work.
    """

    kind: Literal["docker"]
    image: str
    docker_host: str | None = None
    volumes: tuple[str, ...] = ()


class KubernetesLatent(Model):
    """A worker that is a pod, started when there is work."""

    kind: Literal["kubernetes"]
    image: str
    namespace: Name = "default"
    master_url: HttpUrl | None = None


class Ec2Latent(Model):
    """A worker that is a machine of Amazon's, started when there is work."""

    kind: Literal["ec2"]
    image: Annotated[str, StringConstraints(pattern=r"^ami-[0-9a-f]+$")]
    instance_type: str
    region: str
    key_name: str
    security_group: str


Latent = Annotated[DockerLatent | KubernetesLatent | Ec2Latent, Field(discriminator="kind")]


class FarmWorker(Model):
    """One row of ``[workers]``: what a worker must be able to do to be given work.

    ``machine`` is ``uname -m``; ``memory`` and ``disk`` are in GiB, what the jobs at a time share.
    ``modes`` are those it is used for, ``builds`` how many jobs it does at a time. A ``latent`` one
    is started for work and stopped ``idle_minutes`` after it.
    """

    os: Os = "linux"
    machine: str = "x86_64"
    memory: Annotated[int, Field(ge=1)]
    disk: Annotated[int, Field(ge=1)] = 20
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = tuple(Mode)
    builds: Annotated[int, Field(ge=1, le=64)] = 1
    role: Role = Role.BUILDER
    latent: Latent | None = None
    idle_minutes: Annotated[int, Field(ge=1)] = 10


class Facts(Model):
    """What a worker says of itself when it dials in, measured there; memory and disk in bytes.

    ``emulators`` are the names that its kernel's binfmt_misc has (``qemu-aarch64``).
    """

    os: Os
    machine: str
    containers: bool
    memory: Annotated[int, Field(ge=0)]
    disk: Annotated[int, Field(ge=0)]
    emulators: tuple[str, ...] = ()
    code: str = ""


class HandOverConfig(Model):
    """Where workers hand their outputs over: a directory or ``s3://bucket/prefix``, never public.

    The trusted worker alone may write below ``trusted/``, each worker below ``workers/NAME/``.
    ``after`` is the last stage that workers do. After ``translate`` the trusted worker packs and
    verifies everything itself, also what it must emulate; after ``verify`` it takes the archives of
    workers, whose digests it checks, and what they say of the gates.
    """

    store: Annotated[str, StringConstraints(min_length=1)] = "handover"
    after: Literal["translate", "verify"] = "translate"
    s3: S3Options = S3Options()

    def as_store(self) -> StoreConfig:
        """Return it as a store's configuration; nobody reads it by URL."""
        return StoreConfig.model_validate(
            {"store": self.store, "base_url": "http://handover.invalid", "s3": self.s3}
        )


class NightlySchedule(Model):
    """When which nightlies are begun, in the master's time zone."""

    interpreters: Annotated[tuple[Name, ...], Field(min_length=1)]
    hour: Hour
    minute: Minute = 0


class MailConfig(Model):
    """Who is told of failed and stale nightlies by mail, through which server."""

    sender: MailAddress
    recipients: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    server: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 25


MASTERS_OWN: Final = "coordinator-"
"""How the names of the workers in the master's process begin."""


class FarmConfig(Model):
    """``farm.toml``.

    ``url`` is where people find the master's pages, ``repository`` where workers get the
    pipeline's code (None: it is installed where they run). ``attempts`` is how often a job may be
    tried before it is given up. In ``silence_minutes`` without a line a job is taken for hanging;
    ``longest_hours`` is the most that one may take. A retry waits ``rejoin_seconds`` for the
    worker that was lost, on which the work goes on; after ``orphan_minutes`` without a worker to
    follow it the work stops itself. A job that no worker could do for ``missing_minutes`` fails.
    After ``alarm_seconds`` without a worker that should be there, or that a request waits for, the
    farm is not healthy. ``log_days`` is how long logs are kept, ``stale_check_hours`` how often it
    is looked whether a nightly is stale. After ``keep_days`` the signer forgets outputs, and what
    was handed over, where that is a directory.
    ``webhook`` is the name of the secret that holds the URL that failures are posted to.
    """

    url: HttpUrl = "http://127.0.0.1:8010"
    hand_over: HandOverConfig = HandOverConfig()
    repository: str | None = None
    workers: Annotated[dict[Name, FarmWorker], Field(min_length=1)]
    admins: tuple[Name, ...] = ("admin",)
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    silence_minutes: Annotated[int, Field(ge=1)] = 120
    longest_hours: Annotated[int, Field(ge=1)] = 24
    rejoin_seconds: Annotated[int, Field(ge=0)] = 60
    orphan_minutes: Annotated[int, Field(ge=1)] = 30
    missing_minutes: Annotated[int, Field(ge=1)] = 30
    alarm_seconds: Annotated[int, Field(ge=1)] = 600
    keepalive_seconds: Annotated[int, Field(ge=10)] = 60
    log_days: Annotated[int, Field(ge=1)] = 60
    keep_days: Annotated[int, Field(ge=1)] = 14
    stale_check_hours: Annotated[int, Field(ge=1)] = 6
    nightly: tuple[NightlySchedule, ...] = ()
    mail: MailConfig | None = None
    webhook: Name | None = None

    @model_validator(mode="after")
    def _one_signer(self) -> Self:
        signers = [row for row in self.workers.values() if row.role is Role.SIGNER]
        if len(signers) != 1:
            msg = f"exactly one worker has role = 'signer', not {len(signers)}"
            raise ValueError(msg)
        if any(name.startswith(MASTERS_OWN) for name in self.workers):
            msg = f"workers whose names begin with {MASTERS_OWN!r} are the master's own"
            raise ValueError(msg)
        if signers[0].builds != 1:
            msg = "the signer has builds = 1: its runs share one directory, so they take turns"
            raise ValueError(msg)
        return self

    @property
    def signer(self) -> str:
        """The name of the one worker that has keys."""
        return next(name for name, row in self.workers.items() if row.role is Role.SIGNER)

    @property
    def builders(self) -> dict[str, FarmWorker]:
        """The workers that translate."""
        return {name: row for name, row in self.workers.items() if row.role is Role.BUILDER}


RunName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=80)]


class Submission(Model):
    """What a person or a schedule asks of the farm: the selection of a command line.

    ``request`` names it, so that the same command finds it again. ``names`` are interpreters or
    identifiers; ``day`` is in the names of nightlies (None: the day it is prepared).
    """

    request: RunName
    channel: Channel
    names: tuple[Name, ...] = ()
    platforms: tuple[Name, ...] = ()
    version: VersionField | None = None
    day: date | None = None
    staged: bool = False


class PreparedJob(Model):
    """One job of a run, for who gives it to workers. ``memory`` is in GiB.

    ``os`` and ``machine`` say what kind of worker the plan counts on. ``key`` is the translation's,
    None where only the worker can know it (no container). A job that ``is_done`` needs no worker.
    ``last`` is the stage that the worker goes up to.
    """

    identifier: Name
    interpreter: Name
    platform: Name
    mode: Mode
    os: Os
    machine: str
    memory: int
    last: Name
    key: Sha256 | None
    is_done: bool


class Prepared(Model):
    """What ``prepare`` says on standard output; ``unchanged`` are nightlies not to be made."""

    run: RunName
    releases: tuple[FileName, ...]
    jobs: tuple[PreparedJob, ...]
    unchanged: tuple[FileName, ...] = ()


class StageClaim(Model):
    """One stage's output that was handed over: an uncompressed tar file of its directory.

    ``environments`` are those that it ran in, by the names that the config has for them.
    """

    stage: Name
    key: Sha256
    place: RelativePath
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    environments: Annotated[tuple[Environment, ...], Field(max_length=16)] = ()


class Claim(Model):
    """What ``translate --hand-over`` says on standard output: a worker's word for one job.

    ``seconds`` is what it took this time; what is ``cached`` was there already.
    """

    run: RunName
    identifier: Name
    worker: Name
    stages: Annotated[tuple[StageClaim, ...], Field(min_length=1, max_length=16)]
    seconds: Annotated[float, Field(ge=0)]
    cached: bool


class FailedJob(Model):
    """A job that the farm has given up, and why (one line, with the address of its log)."""

    identifier: Name
    reason: Annotated[str, StringConstraints(max_length=1000)]


class Claims(Model):
    """What the master gives the trusted worker: every job's claim, and those that failed."""

    run: RunName
    claims: tuple[Claim, ...]
    failed: tuple[FailedJob, ...] = ()


class CollectedRelease(Model):
    """One release that the farm has made: its files as they are in the store."""

    release: FileName
    is_new: bool
    files: tuple[Artifact, ...]


class Collected(Model):
    """What ``release --run`` says on standard output. ``at`` is when it was done."""

    run: RunName
    channel: Channel
    releases: tuple[CollectedRelease, ...]
    unchanged: tuple[FileName, ...] = ()
    at: AwareDatetime


class EnvironmentImage(Model):
    """An environment that the trusted worker made for all: its image, as a tar file."""

    environment: Environment
    place: RelativePath
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
