"""What a worker is told to do, and where it has the pipeline."""

from dataclasses import dataclass
from typing import Any, Final

from pipeline.farm import units
from pipeline.farm.units import COLLECT, PREPARE, Order
from pipeline.model.farm import FarmConfig, PreparedJob

FILES: Final = "build"
"""The directory of a build in which the master puts files for it."""
CODE: Final = "code"
ENVIRONMENT: Final = "environment"
SUBMISSION_FILE: Final = "submission.json"
CLAIMS_FILE: Final = "claims.json"


@dataclass(frozen=True)
class Place:
    """Where a worker has the pipeline: its interpreter, the code, and the worker's directory."""

    python: str
    root: str
    base: str
    build: str
    path: Any

    def work(self, order: Order) -> str:
        """Return the work directory of *order*: the same in each attempt."""
        return str(self.path.join(self.base, units.JOBS_DIRECTORY, order.directory))

    def handed(self, file: str) -> str:
        """Return the path of a file that the master has put there."""
        return str(self.path.join(self.build, FILES, file))


def place_of(build: Any, farm: FarmConfig) -> Place:
    """Return where the worker of *build* has the pipeline; it decides only what it runs itself."""
    info, path = build.getWorkerInfo(), build.path_module
    base, directory = build.getProperty("basedir"), build.getProperty("builddir")
    python, root = said(info, "python", "python3"), said(info, "root", ".")
    if farm.repository is not None:
        windows = path.sep == "\\"
        program = ("Scripts", "python.exe") if windows else ("bin", "python")
        root = path.join(directory, CODE)
        python = path.join(directory, ENVIRONMENT, *program)
    return Place(python=python, root=root, base=base, build=directory, path=path)


def said(info: Any, name: str, default: str) -> str:
    """Return what a worker has announced in its file ``info/NAME``, if it has."""
    value = info.getProperty(name)
    return value.strip() if isinstance(value, str) and value.strip() else default


def order_of(build: Any, farm: FarmConfig) -> Order:
    """Return what the worker of *build* is told to do.

    Raises:
        ValueError: a property is not what the fan-out has put there.
    """
    run, unit = build.getProperty("run"), build.getProperty("unit")
    place, store = place_of(build, farm), farm.hand_over.store
    if unit == PREPARE:
        return units.prepare_order(run, place.handed(SUBMISSION_FILE), store)
    if unit == COLLECT:
        asked = units.read_submission(build.getProperty("submission"))
        return units.collect_order(run, asked.channel, place.handed(CLAIMS_FILE), store)
    job = units.read_job(build.getProperty("job"))
    return units.job_order(run, job, build.getWorkerName(), store)


def job_of(properties: Any) -> PreparedJob | None:
    """Return the job of a request or build, or None if it is none of a job's."""
    try:
        return units.read_job(properties.getProperty("job"))
    except ValueError:
        return None
