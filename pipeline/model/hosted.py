"""What is said of hosted CI: ``hosted.toml``, from which the workflows are written."""

from collections import Counter
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.model.base import FileName, Model, Name
from pipeline.model.configs import Channel
from pipeline.model.farm import Hour, Minute
from pipeline.model.platforms import LINUX, Os, Worker

LONGEST_JOB: Final = 360
"""Minutes after which GitHub stops a job on its own runners: docs.github.com, usage limits."""

Minutes = Annotated[int, Field(ge=1, le=LONGEST_JOB)]


class Action(Model):
    """An action by its commit: a tag may be moved, a commit cannot. ``release`` is the tag."""

    repository: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9._-]+$")]
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    release: Annotated[str, StringConstraints(pattern=r"^v[0-9]+\.[0-9]+\.[0-9]+$")]

    @property
    def uses(self) -> str:
        """The action as a step names it."""
        return f"{self.repository}@{self.commit} # {self.release}"


class Actions(Model):
    """Every action that the workflows use."""

    checkout: Action
    setup_python: Action
    upload_artifact: Action
    download_artifact: Action
    attest: Action


class Runner(Model):
    """A kind of machine that can be had: ``machine`` is ``uname -m``, ``label`` its name there."""

    os: Os
    machine: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]
    label: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]

    @property
    def worker(self) -> Worker:
        """The runner as the plan knows workers; only those of Linux have a container engine."""
        return Worker(os=self.os, machine=self.machine, containers=self.os == LINUX)

    @property
    def kind(self) -> str:
        """The runner as ``prepare`` is told of it."""
        return f"{self.os}/{self.machine}"


class SigningEnvironments(Model):
    """The deployment environments that hold a channel's secrets, and that people guard."""

    release: FileName
    nightly: FileName

    def of(self, channel: Channel) -> str:
        """Return that of *channel*."""
        return self.release if channel == "release" else self.nightly


class HostedNightly(Model):
    """When nightlies are begun: UTC, for that is the only time that GitHub's schedules know."""

    hour: Hour
    minute: Minute = 0


class HostedConfig(Model):
    """``hosted.toml``.

    ``python`` runs the pipeline. ``branch`` is where pushes are tested; ``trusted`` the label of
    the runner that prepares and publishes. With ``attestations`` GitHub is told which files were
    published (not possible in private repositories of most plans). Times are in minutes, but
    ``retention_days``, how long what jobs hand over is kept.
    """

    python: Annotated[str, StringConstraints(pattern=r"^3\.[0-9]+$")]
    branch: Name = "main"
    trusted: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    environments: SigningEnvironments
    nightly: HostedNightly
    attestations: bool = True
    check_minutes: Minutes = 30
    integration_minutes: Minutes = 120
    prepare_minutes: Minutes = 60
    build_minutes: Minutes = LONGEST_JOB
    publish_minutes: Minutes = 120
    retention_days: Annotated[int, Field(ge=1, le=90)] = 7
    actions: Actions
    runners: Annotated[tuple[Runner, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        kinds = Counter((row.os, row.machine) for row in self.runners)
        twice = [f"{os} {machine}" for (os, machine), count in kinds.items() if count > 1]
        if twice:
            msg = f"runners: there is more than one for {', '.join(twice)}"
            raise ValueError(msg)
        if not any(row.label == self.trusted and row.os == LINUX for row in self.runners):
            msg = f"trusted: {self.trusted} is the label of no runner of Linux"
            raise ValueError(msg)
        return self

    def runner_for(self, os: Os, machine: str) -> Runner | None:
        """Return the runner of a kind, None if there is none."""
        kinds = {(row.os, row.machine): row for row in self.runners}
        return kinds.get((os, machine))
