"""The port to a container engine: images, steps that run to their end, and sessions."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from pipeline.effects.process import Completed

WORKER_IMAGE: Final = "worker"
"""The only image of an engine without containers: the worker itself."""

OnLine = Callable[[str], None]
Network = Literal["none", "bridge", "host"]


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What an engine says of itself; memory in bytes, ``machine`` in its own words."""

    version: str
    machine: str
    cpus: int
    memory: int
    storage: str


@dataclass(frozen=True, kw_only=True)
class ContainerStep:
    """One command that runs to its end in a container of its own.

    ``name`` is made from the step's key: a run that was killed finds its container again.
    ``inputs`` are tar files unpacked at ``/``. ``output`` is a directory in the container.
    ``timeout`` and ``silence`` (no line written) are in seconds; ``limits`` is the table of the
    config that sets them, for the message. There is no network.
    """

    name: str
    image_id: str
    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()
    output: str
    user: str = "1000:1000"
    seccomp: str | None = None
    timeout: float
    silence: float
    limits: str = "translation"


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """How a step ended; ``adopted`` if an earlier run had started it."""

    status: int
    adopted: bool


class Session(Protocol):
    """A container that several commands are run in, one after the other."""

    def copy_into(self, archive: Path, directory: str) -> None:
        """Unpack a tar file (also gzip) into *directory* of the container."""

    def call(
        self,
        argv: tuple[str, ...],
        *,
        timeout: int = 60,
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
    ) -> Completed:
        """Run a command to its end; after *timeout* seconds it is killed (status 137)."""


class Engine(Protocol):
    """What the pipeline needs of Docker, Podman or another engine with Docker's API.

    ``contained`` is false for the worker itself, which stands in where there are no containers.
    """

    @property
    def contained(self) -> bool:
        """Whether steps run in images that are made for them."""

    def describe(self) -> tuple[str, ...]:
        """Return what decides what is built here, a line each, where there are no images."""

    def info(self) -> EngineInfo:
        """Ask the engine for its properties; raises EngineUnavailableError."""

    def has_image(self, image: str) -> bool:
        """Whether the engine holds an image of this id or reference."""

    def image_machine(self, image: str) -> str:
        """Return the architecture of an image, in OCI's names (``amd64``)."""

    def image_id(self, reference: str) -> str | None:
        """Return the id of the image that *reference* (a tag) stands for, or None."""

    def pull(self, reference: str, *, oci_platform: str, on_line: OnLine) -> str:
        """Fetch an image by digest from its registry; return its id."""

    def build(
        self,
        context: Path,
        *,
        tag: str,
        arguments: Mapping[str, str],
        oci_platform: str,
        on_line: OnLine,
        fresh: bool = False,
    ) -> str:
        """Build the tar file *context*, which has a ``Dockerfile``; return the image's id.

        A *fresh* one takes nothing that an earlier build has left.
        """

    def save(self, image_id: str, path: Path) -> None:
        """Write an image to *path*, as the tar file that ``docker save`` makes."""

    def load(self, path: Path) -> str:
        """Take an image from such a tar file; return its id."""

    def remove_image(self, image: str) -> None:
        """Give up an image of this id, or this reference to one, unless something else needs it."""

    def run(self, step: ContainerStep, *, output: Path, on_line: OnLine) -> StepResult:
        """Run *step*, or wait for the container that an earlier run started for it.

        The output directory is written to *output* as a tar file when the command succeeded.

        Raises:
            StepTimeoutError: it took too long.
            StepSilentError: it wrote nothing for too long.
        """

    def session(
        self, image_id: str, *, user: str | None = "1000:1000", network: Network = "none"
    ) -> AbstractContextManager[Session]:
        """Start a container for several commands; removed at the end.

        Without a *user* it runs as the image says. With a *network* (the engine's own, or the
        host's, on which the container also sees what listens on the loopback) it has the engine's
        usual capabilities too, as package managers need them; without one it has none.
        """
