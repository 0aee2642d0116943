"""Docker's API through its SDK: a local socket, ``DOCKER_HOST``, or Podman's socket.

Files go in and out as tar streams, never as bind mounts, so that the engine may be elsewhere.
"""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import docker
import requests
from docker.errors import APIError, DockerException, ImageLoadError, ImageNotFound, NotFound
from docker.models.containers import Container

from pipeline.effects.engine import ContainerStep, EngineInfo, Network, OnLine, StepResult
from pipeline.effects.process import Completed
from pipeline.effects.ssh import forwarded
from pipeline.effects.watch import watch
from pipeline.errors import (
    EngineUnavailableError,
    ImageError,
    PipelineError,
)

API_TIMEOUT: Final = 600
WORKSPACE_LABEL: Final = "org.rpython-pipeline.workspace"
SESSION_LABEL: Final = "org.rpython-pipeline.session"
STOP_GRACE: Final = 10
LAST_LINES: Final = 20
UNKNOWN_STATUS: Final = 255


class DockerEngine:
    """An engine that speaks Docker's API; *workspace* keeps work directories apart.

    It is at *address* (``ssh://host``, ``tcp://host:2376``), or where ``DOCKER_HOST`` says.
    """

    contained: Final = True

    def __init__(
        self, workspace: str, client: docker.DockerClient | None = None, address: str | None = None
    ) -> None:
        self._workspace = workspace
        self._given = client
        self._address = address
        self._cleared: set[tuple[str, ...]] = set()

    @property
    def _client(self) -> docker.DockerClient:
        if self._given is None:
            try:
                self._given = _connected(self._address)
            except DockerException as error:
                raise _unavailable(error, self._address) from error
        return self._given

    def info(self) -> EngineInfo:
        """Ask the engine for its properties."""
        with _engine_errors(self._address):
            told: dict[str, Any] = self._client.info()
        return EngineInfo(
            version=str(told.get("ServerVersion", "?")),
            machine=str(told["Architecture"]),
            cpus=int(told["NCPU"]),
            memory=int(told["MemTotal"]),
            storage=str(told.get("DockerRootDir", "")),
        )

    def describe(self) -> tuple[str, ...]:
        """Return nothing: what decides is in the images."""
        return ()

    def has_image(self, image: str) -> bool:
        """Whether the engine holds an image of this id or reference."""
        return self.image_id(image) is not None

    def image_id(self, reference: str) -> str | None:
        """Return the id of the image that *reference* stands for, or None."""
        with _engine_errors(self._address):
            try:
                return str(self._client.images.get(reference).id)
            except ImageNotFound:
                return None

    def image_machine(self, image: str) -> str:
        """Return the architecture of an image, in OCI's names."""
        with _engine_errors(self._address):
            return str(self._client.images.get(image).attrs["Architecture"])

    def pull(self, reference: str, *, oci_platform: str, on_line: OnLine) -> str:
        """Fetch an image by digest; return its id."""
        on_line(f"pull {reference}")
        with _engine_errors(self._address):
            try:
                image = self._client.images.pull(reference, platform=oci_platform)
            except APIError as error:
                msg = (
                    f"{reference}: cannot be pulled: {error.explanation or error}. Check the "
                    "digest and the registry, or use a base of kind 'bootstrap' in "
                    "environments.toml, which needs no registry."
                )
                raise ImageError(msg) from error
        return str(image.id)

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
        """Build the tar file *context*; return the image's id."""
        lines: list[str] = []
        with _engine_errors(self._address), context.open("rb") as stream:
            for event in self._client.api.build(
                fileobj=stream,
                custom_context=True,
                tag=tag,
                buildargs=dict(arguments),
                platform=oci_platform,
                nocache=fresh,
                rm=True,
                forcerm=True,
                decode=True,
            ):
                for line in str(event.get("stream") or event.get("error") or "").splitlines():
                    lines.append(line)
                    on_line(line)
                if "error" in event:
                    last = "\n".join(lines[-LAST_LINES:])
                    msg = f"{tag}: the image build failed:\n{last}"
                    raise ImageError(msg)
        found = self.image_id(tag)
        if found is None:
            msg = f"{tag}: the engine reported no error, but has no such image after the build."
            raise ImageError(msg)
        return found

    def save(self, image_id: str, path: Path) -> None:
        """Write an image to *path*, as the tar file that ``docker save`` makes."""
        with _engine_errors(self._address):
            try:
                _save(self._client.images.get(image_id).save(), path)
            except ImageNotFound as error:
                msg = f"{image_id}: the engine has no such image to save; it was removed meanwhile."
                raise ImageError(msg) from error

    def load(self, path: Path) -> str:
        """Take an image from such a tar file; return its id."""
        with _engine_errors(self._address), path.open("rb") as stream:
            try:
                images = self._client.images.load(stream)
            except ImageLoadError as error:
                msg = f"{path}: the engine does not take the image: {error}"
                raise ImageError(msg) from error
        if len(images) != 1:
            msg = f"{path}: holds {len(images)} images, but one is expected."
            raise ImageError(msg)
        return str(images[0].id)

    def remove_image(self, image: str) -> None:
        """Give up an image of this id, or this reference to one, unless something else needs it."""
        # In use by another container, or tagged by somebody: then it is not ours alone.
        with _engine_errors(self._address), contextlib.suppress(APIError):
            self._client.images.remove(image)

    def run(self, step: ContainerStep, *, output: Path, on_line: OnLine) -> StepResult:
        """Run *step*, or wait for the container that an earlier run started for it."""
        with _engine_errors(self._address):
            container, adopted = self._started(step)
            done = False
            try:
                status = _follow(container, step, on_line)
                if status == 0:
                    _save(container.get_archive(step.output)[0], output)
                done = True
            finally:
                # Ctrl-C, a watchdog or an error ends here too: no container is left running.
                if done:
                    _remove(container)
                else:
                    _stop_and_remove(container)
        return StepResult(status=status, adopted=adopted)

    def _started(self, step: ContainerStep) -> tuple[Container, bool]:
        """Return the step's running or finished container, and whether it was there already."""
        name = f"rpp-{self._workspace}-{step.name}"
        self._clear_leftovers(keep=name)
        with contextlib.suppress(NotFound):
            container = self._client.containers.get(name)
            if container.status == "running" or _succeeded(container):
                return container, True
            _remove(container)
        container = self._client.containers.create(
            step.image_id,
            list(step.command),
            name=name,
            working_dir=step.directory,
            environment=dict(step.environment),
            user=step.user,
            labels={WORKSPACE_LABEL: self._workspace},
            **_confinement(step.seccomp),
        )
        try:
            for archive in step.inputs:
                with archive.open("rb") as stream:
                    container.put_archive("/", stream)
            container.start()
        except BaseException:
            _remove(container)
            raise
        return container, False

    @contextlib.contextmanager
    def session(
        self, image_id: str, *, user: str | None = "1000:1000", network: Network = "none"
    ) -> Iterator["DockerSession"]:
        """Start a container for several commands; removed at the end."""
        confined = _confinement(None) if network == "none" else _usual_rights(network)
        with _engine_errors(self._address):
            self._clear_leftovers(SESSION_LABEL)
            container = self._client.containers.create(
                image_id,
                ["sleep", "86400"],
                name=f"rpp-{self._workspace}-session-{uuid.uuid4().hex[:12]}",
                user=user,
                init=True,
                labels={WORKSPACE_LABEL: self._workspace, SESSION_LABEL: "yes"},
                **confined,
            )
            try:
                container.start()
                yield DockerSession(container, self._address)
            finally:
                _remove(container)

    def remove_containers(self) -> tuple[str, ...]:
        """Remove all containers of this work directory, running or not; return their names."""
        with _engine_errors(self._address):
            ours = f"{WORKSPACE_LABEL}={self._workspace}"
            found = self._client.containers.list(all=True, filters={"label": ours})
            for container in found:
                _remove(container)
        return tuple(sorted(str(container.name) for container in found))

    def _clear_leftovers(self, *labels: str, keep: str | None = None) -> None:
        """Remove, once, what killed runs of this work directory left, but for the one to *keep*.

        One process works in a work directory, one step after the other. So when a step begins,
        every other container is a leftover; when a session begins, only other sessions are, since
        a killed run's step may still be wanted.
        """
        if labels in self._cleared:
            return
        self._cleared.add(labels)
        wanted = [f"{WORKSPACE_LABEL}={self._workspace}", *labels]
        for container in self._client.containers.list(all=True, filters={"label": wanted}):
            if container.name != keep:
                _remove(container)


class DockerSession:
    """A running container; commands are ended by ``timeout`` inside it."""

    def __init__(self, container: Container, address: str | None = None) -> None:
        self._container = container
        self._address = address

    def copy_into(self, archive: Path, directory: str) -> None:
        """Unpack a tar file into *directory* of the container."""
        with _engine_errors(self._address), archive.open("rb") as stream:
            self._container.put_archive(directory, stream)

    def call(
        self,
        argv: tuple[str, ...],
        *,
        timeout: int = 60,
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
    ) -> Completed:
        """Run a command to its end; after *timeout* seconds it is killed (status 137)."""
        limited = ["timeout", "--signal=KILL", str(timeout), *argv]
        with _engine_errors(self._address):
            answer = self._container.exec_run(
                limited, demux=True, environment=dict(environment or {}), workdir=directory
            )
        stdout, stderr = cast("tuple[bytes | None, bytes | None]", answer.output)
        return Completed(
            argv=argv,
            # No exit code means that the container ended under the command.
            status=UNKNOWN_STATUS if answer.exit_code is None else int(answer.exit_code),
            stdout=stdout or b"",
            stderr=stderr or b"",
        )


def _confinement(seccomp: str | None) -> dict[str, Any]:
    """No network, no capability, no way to gain one."""
    options = ["no-new-privileges:true"]
    if seccomp is not None:
        options.append(f"seccomp={seccomp}")
    return {"network_mode": "none", "cap_drop": ["ALL"], "security_opt": options}


def _usual_rights(network: Network) -> dict[str, Any]:
    """A network, and the capabilities that the engine gives by default; no way to gain others."""
    return {"network_mode": network, "security_opt": ["no-new-privileges:true"]}


def _succeeded(container: Container) -> bool:
    state = container.attrs["State"]
    return bool(state["Status"] == "exited" and state["ExitCode"] == 0)


def _follow(container: Container, step: ContainerStep, on_line: OnLine) -> int:
    """Pass on the container's lines until it ends; return its exit status."""
    watch(lambda: container.logs(stream=True, follow=True), step, on_line)
    return int(container.wait()["StatusCode"])


def _save(chunks: Iterator[bytes], path: Path) -> None:
    with path.open("wb") as stream:
        for chunk in chunks:
            stream.write(chunk)


def _remove(container: Container) -> None:
    with contextlib.suppress(NotFound):
        container.remove(force=True, v=True)


def _stop_and_remove(container: Container) -> None:
    """Clean up after a failure, whose cause must not be hidden by one of the cleaning."""
    with contextlib.suppress(APIError, requests.RequestException):
        container.stop(timeout=STOP_GRACE)
    with contextlib.suppress(APIError, requests.RequestException):
        _remove(container)


@contextlib.contextmanager
def _engine_errors(address: str | None) -> Iterator[None]:
    """Turn the SDK's errors into ours; ours pass."""
    try:
        yield
    except PipelineError:
        raise
    except (requests.ConnectionError, requests.Timeout, ConnectionError) as error:
        raise _unavailable(error, address) from error
    except APIError as error:
        msg = f"the container engine refused: {error.explanation or error}"
        raise EngineUnavailableError(msg) from error
    except DockerException as error:
        raise _unavailable(error, address) from error


def _connected(address: str | None) -> docker.DockerClient:
    """Return a client of the engine at *address*, which has answered."""
    if address is None:
        return docker.from_env(timeout=API_TIMEOUT)
    url = forwarded(address) if address.startswith("ssh://") else address
    return docker.DockerClient(base_url=url, version="auto", timeout=API_TIMEOUT)


def _unavailable(error: Exception, address: str | None = None) -> EngineUnavailableError:
    where = address or "DOCKER_HOST or the local socket"
    remedy = (
        "Check that address: docker --host ADDRESS version must answer"
        if address
        else "Start one (systemctl start docker), set DOCKER_HOST, or as root run: "
        "python -m pipeline doctor --provision"
    )
    return EngineUnavailableError(f"no container engine answers at {where}: {error}. {remedy}")
