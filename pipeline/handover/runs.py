"""What a run is: the plan that the signer made, for workers to do their jobs of."""

from typing import Final

from pydantic import ValidationError

from pipeline.effects.store import Store
from pipeline.errors import ConflictError, RunError, UncertainError, UnknownNameError
from pipeline.handover.places import run_place
from pipeline.model.base import Model, pretty_json
from pipeline.model.farm import Prepared, PreparedJob, RunName, StageClaim, Submission
from pipeline.plan import Job, Plan

JSON: Final = "application/json"


class Run(Model):
    """One run: what was asked for, the plan, and the sources, by interpreter.

    It is written once, by the signer, and never changed.
    """

    run: RunName
    submission: Submission
    plan: Plan
    prepared: Prepared
    sources: dict[str, StageClaim]

    def job(self, identifier: str) -> Job:
        """Return one job of the plan.

        Raises:
            UnknownNameError: the run has no such job.
        """
        jobs = {job.identifier: job for job in self.plan.jobs}
        if identifier not in jobs:
            kind, where = "job", f"run {self.run}"
            raise UnknownNameError(kind, identifier, tuple(jobs), where=where)
        return jobs[identifier]

    def prepared_job(self, identifier: str) -> PreparedJob:
        """Return what was prepared for one job of the plan."""
        return next(job for job in self.prepared.jobs if job.identifier == identifier)


def read_run(store: Store, name: str) -> Run | None:
    """Return the run of that name, or None.

    Raises:
        RunError: there is one, but it cannot be read.
    """
    place = run_place(name)
    read = store.read(place)
    if read is None:
        return None
    try:
        return Run.model_validate_json(read.data)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        msg = (
            f"{place}: is no run that this code can read: {where}: {wrong['msg']}. Use the "
            "revision of the code that prepared it, or submit again."
        )
        raise RunError(msg) from error


def known_run(store: Store, name: str) -> Run:
    """Return the run of that name.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    found = read_run(store, name)
    if found is None:
        msg = (
            f"run {name} is not in {store.address}. It is made by `prepare`; if that succeeded, "
            "this machine was given another hand-over store."
        )
        raise RunError(msg)
    return found


def write_run(store: Store, run: Run) -> Run:
    """Put a run into the store; return the one that is there, which somebody else may have put.

    Raises:
        UncertainError: the answer was lost, and there is none.
    """
    try:
        store.replace(run_place(run.run), pretty_json(run), tag=None, content_type=JSON)
    except (ConflictError, UncertainError):
        found = read_run(store, run.run)
        if found is None:
            raise
        return found
    return run
