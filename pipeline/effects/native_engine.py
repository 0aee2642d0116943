"""The worker itself where there are no containers: macOS and Windows.

What is ``/build`` and ``/tmp`` in a container is below a directory of its own here, in arguments,
variables and working directories. There is no isolation: a step sees the machine and its network,
so such a worker does nothing else and holds no keys.
"""

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import psutil

from pipeline.effects.archives import Entry, entries_of, unpack, write_archive
from pipeline.effects.engine import (
    WORKER_IMAGE,
    ContainerStep,
    EngineInfo,
    Network,
    OnLine,
    StepResult,
)
from pipeline.effects.process import Completed, ProcessRunner, Tool
from pipeline.effects.watch import watch
from pipeline.errors import ImageError

# What decides what a worker's compiler writes, by the lines that the programs say of themselves.
DESCRIBED: Final = ("cc", "gcc", "clang", "cl", "make", "nmake", "ld", "strip", "pypy", "python2")
_PLACES: Final = re.compile(r"(?<![\w./-])/(build|tmp)(?![\w.-])")
# A step decides these itself in a container; a worker's tools are where the worker has them.
OWN_VARIABLES: Final = ("PATH",)
# Where each system's programs look for what is /tmp in a container.
TEMPORARY: Final = ("TMPDIR", "TEMP", "TMP")


class NativeEngine:
    """Runs steps as processes of this machine, each in a directory of its own below *root*."""

    contained: Final = False

    def __init__(self, root: Path, process: ProcessRunner) -> None:
        self._root = root
        self._process = process

    def info(self) -> EngineInfo:
        """Return this machine's properties."""
        return EngineInfo(
            version=platform.platform(),
            machine=platform.machine(),
            cpus=os.cpu_count() or 1,
            memory=psutil.virtual_memory().total,
            storage="",
        )

    def describe(self) -> tuple[str, ...]:
        """Return a line for the system and for each tool that decides what is built here."""
        lines = [f"system {platform.platform()}"]
        for name in DESCRIBED:
            if (path := self._process.find(name)) is not None:
                tool = Tool(program=name, purpose="compile", package=name)
                told = self._process.run([path, "--version"], tool=tool, check=False)
                first = (told.text or told.last_lines).splitlines()[:1]
                lines += [f"{name} {line}" for line in first]
        return tuple(lines)

    def has_image(self, image: str) -> bool:
        """Whether this is the one image that there is, the machine."""
        return image == WORKER_IMAGE

    def image_id(self, reference: str) -> str | None:
        """Return the id of the one image."""
        return WORKER_IMAGE if reference == WORKER_IMAGE else None

    def image_machine(self, image: str) -> NoReturn:  # noqa: ARG002 - the port's signature
        """There are no images for architectures."""
        raise _without_images()

    def pull(self, reference: str, *, oci_platform: str, on_line: OnLine) -> NoReturn:  # noqa: ARG002
        """There are no images to fetch."""
        raise _without_images()

    def build(
        self,
        context: Path,  # noqa: ARG002
        *,
        tag: str,  # noqa: ARG002
        arguments: Mapping[str, str],  # noqa: ARG002
        oci_platform: str,  # noqa: ARG002
        on_line: OnLine,  # noqa: ARG002
        fresh: bool = False,  # noqa: ARG002
    ) -> NoReturn:
        """There are no images to build."""
        raise _without_images()

    def save(self, image_id: str, path: Path) -> NoReturn:  # noqa: ARG002
        """There are no images to save."""
        raise _without_images()

    def load(self, path: Path) -> NoReturn:  # noqa: ARG002
        """There are no images to load."""
        raise _without_images()

    def remove_image(self, image: str) -> NoReturn:  # noqa: ARG002
        """There are no images to give up."""
        raise _without_images()

    def run(self, step: ContainerStep, *, output: Path, on_line: OnLine) -> StepResult:
        """Run *step* from its beginning; what a killed run has left is removed first."""
        place = self._root / step.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            for archive in step.inputs:
                unpack(archive, place)
            status = self._follow(step, place, on_line)
            if status == 0:
                made = place / step.output.lstrip("/")
                top = Entry(path=made.name, directory=True)
                write_archive(output, [top, *entries_of(made, made.name)], epoch=1)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return StepResult(status=status, adopted=False)

    def _follow(self, step: ContainerStep, place: Path, on_line: OnLine) -> int:
        (place / "tmp").mkdir(exist_ok=True)
        running = self._process.start(
            [placed(word, place) for word in step.command],
            directory=Path(placed(step.directory, place)),
            environment=_variables(step.environment, place),
            errors_apart=False,
        )
        try:
            watch(running.chunks, step, on_line)
            return running.wait()
        finally:
            running.stop()

    @contextmanager
    def session(
        self,
        image_id: str,  # noqa: ARG002 - there is but one
        *,
        user: str | None = None,  # noqa: ARG002 - whoever runs the pipeline
        network: Network = "none",  # noqa: ARG002 - the worker's own
    ) -> Iterator["NativeSession"]:
        """Give a directory for several commands; it is removed at the end."""
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._root, prefix="session-") as directory:
            for name in ("build", "tmp"):
                Path(directory, name).mkdir()
            yield NativeSession(Path(directory), self._process)


class NativeSession:
    """Several commands, one after the other, in one directory."""

    def __init__(self, place: Path, process: ProcessRunner) -> None:
        self._place = place
        self._process = process

    def copy_into(self, archive: Path, directory: str) -> None:
        """Unpack a tar file into *directory*."""
        unpack(archive, Path(placed(directory, self._place)))

    def call(
        self,
        argv: tuple[str, ...],
        *,
        timeout: int = 60,
        environment: Mapping[str, str] | None = None,
        directory: str = "/tmp",  # noqa: S108 - placed below the session's own
    ) -> Completed:
        """Run a command to its end; after *timeout* seconds it is killed (status 137)."""
        running = self._process.start(
            [placed(word, self._place) for word in argv],
            directory=Path(placed(directory, self._place)),
            environment=_variables(environment or {}, self._place),
            errors_apart=True,
        )
        return running.finish(timeout)


def placed(text: str, place: Path) -> str:
    """Return *text* with a container's ``/build`` and ``/tmp`` below *place*. Pure."""
    return _PLACES.sub(lambda match: f"{place.as_posix()}/{match[1]}", text)


def _variables(given: Mapping[str, str], place: Path) -> dict[str, str]:
    own = {name: placed(value, place) for name, value in given.items() if name not in OWN_VARIABLES}
    return {**dict.fromkeys(TEMPORARY, str(place / "tmp")), **own}


def _without_images() -> ImageError:
    msg = "this worker runs steps without containers, so it has no images."
    return ImageError(msg)
