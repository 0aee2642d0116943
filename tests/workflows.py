"""Reads workflows of GitHub Actions, for tests of what they do and of how."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: an action that it ``uses`` with ``inputs``, or what it runs."""

    identifier: str
    name: str
    uses: str
    run: str
    condition: str
    inputs: Mapping[str, Any]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class WorkflowJob:
    """One job; ``said`` is all that the file says of it."""

    said: Mapping[str, Any]
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """Return the step of that name."""
        return next(step for step in self.steps if step.name == name)


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """One workflow; ``said`` is all that the file says."""

    said: Mapping[str, Any]
    jobs: Mapping[str, WorkflowJob]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step of every job."""
        return tuple(step for job in self.jobs.values() for step in job.steps)

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What a person is asked when starting it; YAML 1.1 takes the key ``on`` for True."""
        found: Mapping[str, Any] = self.said[True]["workflow_dispatch"]["inputs"]  # type: ignore[index]
        return found


def read_workflow(text: str) -> Workflow:
    """Return the workflow that *text* is."""
    said = yaml.safe_load(text)
    jobs = {
        name: WorkflowJob(said=job, steps=tuple(_step(step) for step in job["steps"]))
        for name, job in said["jobs"].items()
    }
    return Workflow(said=said, jobs=jobs)


def _step(said: Mapping[str, Any]) -> Step:
    return Step(
        identifier=said.get("id", ""),
        name=said.get("name", ""),
        uses=said.get("uses", ""),
        run=said.get("run", ""),
        condition=str(said.get("if", "")),
        inputs=said.get("with", {}),
        environment=said.get("env", {}),
    )
