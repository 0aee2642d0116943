"""What a worker says of itself to the master, measured on it."""

import importlib.metadata
import platform
import shutil
from pathlib import Path
from typing import Final

import psutil
from pydantic import TypeAdapter

from pipeline.effects.engine import Engine
from pipeline.effects.process import ProcessRunner, Tool
from pipeline.errors import EngineUnavailableError
from pipeline.model.farm import Facts
from pipeline.model.platforms import Os
from pipeline.preflight import ready_emulators

DISTRIBUTION: Final = "rpython-pipeline"
GIT: Final = Tool(program="git", purpose="tell the code of a checkout", package="git")
GIT_TIMEOUT: Final = 30


def measured_facts(engine: Engine, process: ProcessRunner, directory: Path, root: Path) -> Facts:
    """Measure this machine: its engine, if one answers, and the disk that has *directory*.

    The pipeline's code is in *root*.
    """
    try:
        memory, containers = engine.info().memory, True
    except EngineUnavailableError:
        memory, containers = psutil.virtual_memory().total, False
    return Facts(
        os=this_os(),
        machine=platform.machine(),
        containers=containers,
        memory=memory,
        disk=shutil.disk_usage(_existing(directory)).free,
        emulators=ready_emulators(),
        code=_code(process, root),
    )


def this_os() -> Os:
    """Return what this machine is."""
    return TypeAdapter[Os](Os).validate_python(platform.system().lower())


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.parents) if path.is_dir())


def _code(process: ProcessRunner, root: Path) -> str:
    """Return the commit of a checkout, the version of what is installed, or nothing."""
    if (root / ".git").exists() and process.find("git") is not None:
        command = ("git", "-C", root, "rev-parse", "HEAD")
        done = process.run(command, tool=GIT, timeout=GIT_TIMEOUT, check=False)
        if done.status == 0:
            return done.text.strip()
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""
