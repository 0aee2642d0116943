"""The engine that speaks Docker's API, against a client that only pretends to."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Final, NoReturn

import pytest
import requests  # noqa: TID251 - its errors are what docker's SDK raises
from docker.errors import (  # noqa: TID251 - as above
    APIError,
    DockerException,
    ImageLoadError,
    ImageNotFound,
    NotFound,
)

from pipeline.effects import docker_engine, watch
from pipeline.effects.docker_engine import SESSION_LABEL, WORKSPACE_LABEL, DockerEngine
from pipeline.effects.engine import ContainerStep
from pipeline.errors import (
    EngineUnavailableError,
    ImageError,
    StepSilentError,
    StepTimeoutError,
)

NAME: Final = "rpp-w1-translate-abc"
NEVER: Final = 3600.0


@dataclass(kw_only=True)
class FakeContainer:
    """A container: what it will write, how it ends, and a record of what was done to it."""

    name: str = NAME
    chunks: Iterable[bytes] = ()
    status: str = "created"
    exit_code: int = 0
    archive: bytes = b"tar"
    answer: object = None
    stop_error: Exception | None = None
    remove_error: Exception | None = None
    options: dict[str, Any] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    given: list[tuple[str, bytes]] = field(default_factory=list)
    executed: list[tuple[list[str], dict[str, Any]]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def attrs(self) -> dict[str, Any]:
        """What an inspection gives."""
        return {"State": {"Status": self.status, "ExitCode": self.exit_code}}

    def put_archive(self, path: str, data: io.BufferedReader) -> bool:
        """Unpack a tar file."""
        self.done.append("put")
        self.given.append((path, data.read()))
        return True

    def start(self) -> None:
        """Start it."""
        self.done.append("start")
        self.status = "running"

    def logs(self, *, stream: bool, follow: bool) -> Iterator[bytes]:
        """Follow what it writes."""
        assert stream
        assert follow
        yield from self.chunks

    def wait(self) -> dict[str, int]:
        """Wait for its end."""
        return {"StatusCode": self.exit_code}

    def get_archive(self, path: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        """Give a directory as a tar file."""
        self.done.append(f"get {path}")
        return iter([self.archive[:2], self.archive[2:]]), {}

    def stop(self, timeout: int) -> None:
        """Stop it."""
        self.done.append(f"stop {timeout}")
        self.gone.set()
        if self.stop_error is not None:
            raise self.stop_error

    def remove(self, *, force: bool, v: bool) -> None:
        """Remove it."""
        assert force
        assert v
        self.done.append("remove")
        self.gone.set()
        if self.remove_error is not None:
            raise self.remove_error

    def exec_run(self, argv: list[str], **options: object) -> object:
        """Run a command in it."""
        self.executed.append((argv, dict(options)))
        return self.answer


def hanging(container: FakeContainer, *first: bytes) -> FakeContainer:
    """Let *container* write *first* and then nothing until it is removed."""

    def chunks() -> Iterator[bytes]:
        yield from first
        container.gone.wait(5)

    container.chunks = chunks()
    return container


class FakeClient:
    """Docker's client with one container to be made, and others that are there."""

    def __init__(self, made: FakeContainer, *there: FakeContainer) -> None:
        self.made, self.there = made, list(there)
        self.created: list[dict[str, Any]] = []
        self.listed: list[object] = []
        self.image = SimpleNamespace(
            id="sha256:1",
            attrs={"Architecture": "amd64"},
            save=lambda: iter([b"image", b" bytes"]),
        )
        self.build_events: list[dict[str, str]] = []
        self.build_options: dict[str, Any] = {}
        self.given_to_build: dict[str, Any] = {}
        self.errors: dict[str, Exception] = {}
        self.containers = SimpleNamespace(get=self._get, create=self._create, list=self._list)
        self.images = SimpleNamespace(
            get=self._image("get"), pull=self._image("pull"), load=self._load
        )
        self.loaded: list[bytes] = []
        self.held: list[SimpleNamespace] = [self.image]
        self.api = SimpleNamespace(build=self._build)

    def info(self) -> dict[str, Any]:
        """Describe the engine."""
        self._raise("info")
        return {
            "ServerVersion": "28.1",
            "Architecture": "x86_64",
            "NCPU": 4,
            "MemTotal": 8 << 30,
            "DockerRootDir": "/var/lib/docker",
        }

    def _raise(self, what: str) -> None:
        if what in self.errors:
            raise self.errors[what]

    def _get(self, name: str) -> FakeContainer:
        self._raise("containers.get")
        for container in self.there:
            if container.name == name:
                return container
        message = "No such container"
        raise NotFound(message)

    def _create(self, image: str, command: list[str], **options: object) -> FakeContainer:
        self._raise("containers.create")
        self.created.append({"image": image, "command": command, **options})
        return self.made

    def _list(self, **options: object) -> list[FakeContainer]:
        self.listed.append(options)
        return list(self.there)

    def _image(self, how: str) -> Callable[..., object]:
        def image(reference: str, **options: object) -> object:
            self._raise(f"images.{how}")
            self.build_options.update(options, reference=reference)
            return self.image

        return image

    def _load(self, stream: IO[bytes]) -> list[SimpleNamespace]:
        self._raise("images.load")
        self.loaded.append(stream.read())
        return self.held

    def _build(self, **options: object) -> Iterator[dict[str, str]]:
        self.build_options = self.given_to_build = dict(options)
        yield from self.build_events


def engine_with(client: FakeClient) -> DockerEngine:
    stand_in: Any = client
    return DockerEngine("w1", stand_in)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for time limits often, since they are short here."""
    monkeypatch.setattr(watch, "POLL", 0.005)


def step(**changes: Any) -> ContainerStep:
    options: dict[str, Any] = {
        "name": "translate-abc",
        "image_id": "sha256:1",
        "command": ("make", "it"),
        "directory": "/build",
        "environment": {"TZ": "UTC"},
        "output": "/build/out",
        "timeout": NEVER,
        "silence": NEVER,
        **changes,
    }
    return ContainerStep(**options)


def run(
    client: FakeClient, directory: Path, what: ContainerStep | None = None
) -> tuple[int, bool, list[str]]:
    """Run a step; return its status, whether it was adopted, and its lines."""
    lines: list[str] = []
    result = engine_with(client).run(
        what or step(), output=directory / "out.tar", on_line=lines.append
    )
    return result.status, result.adopted, lines


def test_a_step_is_made_fed_started_followed_collected_and_removed(tmp_path: Path) -> None:
    inputs = tmp_path / "in.tar"
    inputs.write_bytes(b"inputs")
    client = FakeClient(FakeContainer(chunks=[b"one\ntwo\n"], archive=b"output"))

    status, adopted, lines = run(client, tmp_path, step(inputs=(inputs,)))

    assert (status, adopted, lines) == (0, False, ["one", "two"])
    assert client.made.given == [("/", b"inputs")]
    assert client.made.done == ["put", "start", "get /build/out", "remove"]
    assert (tmp_path / "out.tar").read_bytes() == b"output"


def test_a_step_is_confined(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())

    run(client, tmp_path, step(seccomp='{"a": 1}'))

    assert client.created == [
        {
            "image": "sha256:1",
            "command": ["make", "it"],
            "name": NAME,
            "working_dir": "/build",
            "environment": {"TZ": "UTC"},
            "user": "1000:1000",
            "labels": {WORKSPACE_LABEL: "w1"},
            "network_mode": "none",
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true", 'seccomp={"a": 1}'],
        }
    ]


def test_a_failing_step_gives_its_status_and_no_output(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer(chunks=[b"boom\n"], exit_code=2))

    status, _, lines = run(client, tmp_path)

    assert (status, lines) == (2, ["boom"])
    assert client.made.done == ["start", "remove"]
    assert not (tmp_path / "out.tar").exists()


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntw", b"o\n"], ["one", "two"]),
        ([b"o", b"n", b"e"], ["one"]),
        ([b"one\n", b"\n", b"two"], ["one", "two"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([], []),
    ],
    ids=["split", "no end", "empty line", "split character", "no character", "nothing"],
)
def test_lines_are_whole_however_they_arrive(
    chunks: list[bytes], lines: list[str], tmp_path: Path
) -> None:
    _, _, seen = run(FakeClient(FakeContainer(chunks=chunks)), tmp_path)

    assert seen == lines


@pytest.mark.parametrize("state", ["running", "exited"])
def test_a_container_of_a_killed_run_is_adopted(state: str, tmp_path: Path) -> None:
    there = FakeContainer(status=state, exit_code=0, chunks=[b"going on\n"])
    client = FakeClient(FakeContainer(), there)

    status, adopted, lines = run(client, tmp_path)

    assert (status, adopted, lines) == (0, True, ["going on"])
    assert client.created == []
    assert there.done == ["get /build/out", "remove"]


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [("exited", 1), ("created", 0)],
    ids=["failed", "never started"],
)
def test_a_container_that_is_of_no_use_is_removed(
    status: str, exit_code: int, tmp_path: Path
) -> None:
    there = FakeContainer(status=status, exit_code=exit_code)
    client = FakeClient(FakeContainer(), there)

    _, adopted, _ = run(client, tmp_path)

    assert adopted is False
    assert there.done == ["remove"]
    assert client.made.done[0] == "start"


def test_what_other_steps_of_killed_runs_left_is_removed_once(tmp_path: Path) -> None:
    left = FakeContainer(name="rpp-w1-translate-old", status="running")
    same = FakeContainer(status="running")
    client = FakeClient(FakeContainer(), left, same)
    engine = engine_with(client)

    for _ in range(2):
        engine.run(step(), output=tmp_path / "out.tar", on_line=lambda _line: None)

    assert client.listed == [{"all": True, "filters": {"label": [f"{WORKSPACE_LABEL}=w1"]}}]
    assert left.done == ["remove"]


def test_all_containers_of_a_work_directory_are_removed_and_named() -> None:
    there = [FakeContainer(name="rpp-w1-b"), FakeContainer(name="rpp-w1-a", status="exited")]
    client = FakeClient(FakeContainer(), *there)

    names = engine_with(client).remove_containers()

    assert names == ("rpp-w1-a", "rpp-w1-b")
    assert [container.done for container in there] == [["remove"], ["remove"]]
    assert client.listed == [{"all": True, "filters": {"label": f"{WORKSPACE_LABEL}=w1"}}]


def test_inputs_that_cannot_be_given_leave_no_container(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())

    with pytest.raises(FileNotFoundError):
        run(client, tmp_path, step(inputs=(tmp_path / "missing.tar",)))

    assert client.made.done == ["remove"]


def test_a_step_that_takes_too_long_is_stopped_and_removed(tmp_path: Path) -> None:
    client = FakeClient(hanging(FakeContainer(), b"working\n"))

    with pytest.raises(StepTimeoutError, match=r"not finished after .* raise translation.timeout"):
        run(client, tmp_path, step(timeout=0.02))

    assert client.made.done == ["start", "stop 10", "remove"]


def test_a_step_that_says_nothing_is_stopped_and_removed(tmp_path: Path) -> None:
    client = FakeClient(hanging(FakeContainer(), b"working\n"))

    with pytest.raises(StepSilentError, match=r"wrote nothing for .* raise translation.silence"):
        run(client, tmp_path, step(silence=0.02))

    assert client.made.done == ["start", "stop 10", "remove"]


def test_a_talking_step_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten lines, each after 6 of 10 allowed seconds."""
    moments = iter(range(0, 600, 6))
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: float(next(moments))))
    client = FakeClient(FakeContainer(chunks=[b"line\n"] * 10))

    status, _, lines = run(client, tmp_path, step(silence=10.0))

    assert (status, len(lines)) == (0, 10)


def test_a_talking_step_may_still_take_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(0, 600, 6))
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: float(next(moments))))
    client = FakeClient(FakeContainer(chunks=[b"line\n"] * 20))

    with pytest.raises(StepTimeoutError, match="not finished after 50 s"):
        run(client, tmp_path, step(timeout=50.0))


def test_ctrl_c_stops_and_removes_the_container(tmp_path: Path) -> None:
    def interrupt(_line: str) -> NoReturn:
        raise KeyboardInterrupt

    client = FakeClient(hanging(FakeContainer(), b"working\n"))

    with pytest.raises(KeyboardInterrupt):
        engine_with(client).run(step(), output=tmp_path / "out.tar", on_line=interrupt)

    assert client.made.done == ["start", "stop 10", "remove"]


def test_a_container_that_ended_meanwhile_is_removed_all_the_same(tmp_path: Path) -> None:
    container = hanging(FakeContainer(stop_error=APIError("already stopped")))

    with pytest.raises(StepTimeoutError):
        run(FakeClient(container), tmp_path, step(timeout=0.02))

    assert container.done[-1] == "remove"


def test_a_container_that_is_gone_is_no_error(tmp_path: Path) -> None:
    container = hanging(FakeContainer(stop_error=NotFound("gone")))

    with pytest.raises(StepTimeoutError):
        run(FakeClient(container), tmp_path, step(timeout=0.02))


def test_a_log_that_breaks_off_is_an_error_of_the_engine(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"working\n"
        message = "connection reset"
        raise requests.ConnectionError(message)

    client = FakeClient(FakeContainer(chunks=broken()))

    with pytest.raises(EngineUnavailableError, match="connection reset"):
        run(client, tmp_path)

    assert client.made.done[-1] == "remove"


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("connection refused"),
        requests.Timeout("read timed out"),
        DockerException("connection refused"),
    ],
    ids=["refused", "timeout", "sdk"],
)
def test_an_engine_that_does_not_answer_is_named_with_its_fix(error: Exception) -> None:
    client = FakeClient(FakeContainer())
    client.errors["info"] = error

    with pytest.raises(EngineUnavailableError) as caught:
        engine_with(client).info()

    message = str(caught.value)
    assert message.startswith("no container engine answers at DOCKER_HOST or the local socket: ")
    assert str(error) in message
    assert "systemctl start docker" in message
    assert "doctor --provision" in message


def test_what_the_engine_refuses_is_said(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())
    client.errors["containers.create"] = APIError("500", explanation="seccomp: bad profile")

    with pytest.raises(EngineUnavailableError, match="engine refused: seccomp: bad profile"):
        run(client, tmp_path)


def test_an_engine_is_looked_for_when_it_is_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_env(**_options: object) -> NoReturn:
        message = "Error while fetching server API version"
        raise DockerException(message)

    monkeypatch.setattr("docker.from_env", from_env)

    engine = DockerEngine("w1")

    with pytest.raises(EngineUnavailableError, match="no container engine answers"):
        engine.info()


@pytest.mark.parametrize(
    ("address", "url"),
    [("ssh://me@farm", "unix:///local.sock"), ("tcp://farm:2376", "tcp://farm:2376")],
    ids=["ssh", "tcp"],
)
def test_an_engine_elsewhere_is_looked_for_at_its_address(
    address: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ssh a local socket leads there."""
    asked: list[dict[str, object]] = []

    def client(**options: object) -> FakeClient:
        asked.append(options)
        return FakeClient(FakeContainer())

    monkeypatch.setattr("docker.DockerClient", client)
    monkeypatch.delattr("docker.from_env")
    monkeypatch.setattr(docker_engine, "forwarded", {"ssh://me@farm": "unix:///local.sock"}.get)
    engine = DockerEngine("w1", address=address)

    assert asked == []
    assert engine.info().machine == "x86_64"
    assert engine.info().cpus == 4

    (options,) = asked
    assert options["base_url"] == url
    assert options["timeout"] == docker_engine.API_TIMEOUT


def test_an_engine_elsewhere_that_does_not_answer_is_named_by_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def client(**_options: object) -> NoReturn:
        message = "connection refused"
        raise DockerException(message)

    monkeypatch.setattr("docker.DockerClient", client)

    with pytest.raises(EngineUnavailableError) as caught:
        DockerEngine("w1", address="tcp://farm:2376").info()

    message = str(caught.value)
    assert message.startswith("no container engine answers at tcp://farm:2376: connection refused")
    assert "docker --host ADDRESS version must answer" in message
    assert "systemctl" not in message


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("connection reset"),
        BrokenPipeError("connection reset"),
        DockerException("connection reset"),
    ],
    ids=["http", "socket", "sdk"],
)
def test_an_engine_elsewhere_that_goes_away_is_named_by_its_address(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient(FakeContainer())
    client.errors["info"] = error
    monkeypatch.setattr("docker.DockerClient", lambda **_options: client)

    with pytest.raises(EngineUnavailableError, match=r"at tcp://farm:2376: connection reset"):
        DockerEngine("w1", address="tcp://farm:2376").info()


def test_what_decides_is_in_the_images_and_not_told_by_the_engine() -> None:
    engine = engine_with(FakeClient(FakeContainer()))

    assert engine.contained
    assert engine.describe() == ()


def test_the_engine_s_properties_are_read() -> None:
    info = engine_with(FakeClient(FakeContainer())).info()

    assert (info.version, info.machine, info.cpus) == ("28.1", "x86_64", 4)
    assert (info.memory, info.storage) == (8 << 30, "/var/lib/docker")


def test_an_image_is_known_by_id_and_architecture() -> None:
    engine = engine_with(FakeClient(FakeContainer()))

    assert engine.image_id("toy:1") == "sha256:1"
    assert engine.has_image("toy:1") is True
    assert engine.image_machine("toy:1") == "amd64"


def test_an_unknown_image_has_no_id() -> None:
    client = FakeClient(FakeContainer())
    client.errors["images.get"] = ImageNotFound("no such image")

    assert engine_with(client).image_id("toy:1") is None
    assert engine_with(client).has_image("toy:1") is False


def test_an_image_is_pulled_for_one_platform() -> None:
    client = FakeClient(FakeContainer())

    image_id = engine_with(client).pull(
        "debian@sha256:0", oci_platform="linux/amd64", on_line=lambda _line: None
    )

    assert image_id == "sha256:1"
    assert client.build_options == {"reference": "debian@sha256:0", "platform": "linux/amd64"}


def test_an_image_that_cannot_be_pulled_is_named_with_a_way_out() -> None:
    client = FakeClient(FakeContainer())
    client.errors["images.pull"] = APIError("404", explanation="manifest unknown")

    with pytest.raises(ImageError, match=r"debian@sha256:0: .*manifest unknown.*'bootstrap'"):
        engine_with(client).pull(
            "debian@sha256:0", oci_platform="linux/amd64", on_line=lambda _line: None
        )


def build(client: FakeClient, directory: Path, lines: list[str]) -> str:
    context = directory / "context.tar"
    context.write_bytes(b"context")
    return engine_with(client).build(
        context,
        tag="toy:1",
        arguments={"BASE": "sha256:0"},
        oci_platform="linux/amd64",
        on_line=lines.append,
    )


def test_an_image_is_built_from_its_context(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())
    client.build_events = [{"stream": "Step 1/2\nStep 2/2\n"}, {"aux": "x"}]
    lines: list[str] = []

    image_id = build(client, tmp_path, lines)

    assert image_id == "sha256:1"
    assert lines == ["Step 1/2", "Step 2/2"]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_fresh_image_takes_nothing_of_an_earlier_build(tmp_path: Path, *, fresh: bool) -> None:
    client = FakeClient(FakeContainer())
    context = tmp_path / "context.tar"
    context.write_bytes(b"context")

    engine_with(client).build(
        context,
        tag="toy:1",
        arguments={},
        oci_platform="linux/amd64",
        on_line=print,
        fresh=fresh,
    )

    assert client.given_to_build["nocache"] is fresh


def test_an_image_is_saved_whole(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"

    engine_with(FakeClient(FakeContainer())).save("sha256:1", path)

    assert path.read_bytes() == b"image bytes"


def test_an_image_that_is_gone_is_not_saved(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())
    client.errors["images.get"] = ImageNotFound("No such image")

    with pytest.raises(ImageError, match="sha256:1: the engine has no such image"):
        engine_with(client).save("sha256:1", tmp_path / "image.tar")


def load(client: FakeClient, directory: Path) -> str:
    path = directory / "image.tar"
    path.write_bytes(b"image")
    return engine_with(client).load(path)


def test_a_loaded_image_is_known_by_its_id(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())

    assert load(client, tmp_path) == "sha256:1"
    assert client.loaded == [b"image"]


def test_what_an_engine_does_not_take_is_told(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())
    client.errors["images.load"] = ImageLoadError("invalid diffID")

    with pytest.raises(ImageError, match=r"image\.tar: .*invalid diffID"):
        load(client, tmp_path)


@pytest.mark.parametrize("count", [0, 2])
def test_a_file_holds_one_image(tmp_path: Path, count: int) -> None:
    client = FakeClient(FakeContainer())
    client.held = [client.image] * count

    with pytest.raises(ImageError, match=f"holds {count} images"):
        load(client, tmp_path)


def test_a_failing_build_shows_its_last_lines(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())
    client.build_events = [{"stream": "Step 1/2\n"}, {"error": "apt-get returned 100"}]

    with pytest.raises(ImageError) as caught:
        build(client, tmp_path, [])

    assert str(caught.value) == "toy:1: the image build failed:\nStep 1/2\napt-get returned 100"


def test_a_build_that_leaves_no_image_is_an_error(tmp_path: Path) -> None:
    client = FakeClient(FakeContainer())
    client.errors["images.get"] = ImageNotFound("no such image")

    with pytest.raises(ImageError, match="has no such image after the build"):
        build(client, tmp_path, [])


def test_a_session_runs_commands_with_a_limit_and_is_removed(tmp_path: Path) -> None:
    archive = tmp_path / "in.tar"
    archive.write_bytes(b"inputs")
    answer = SimpleNamespace(output=(b"out", None), exit_code=3)
    client = FakeClient(FakeContainer(answer=answer))

    with engine_with(client).session("sha256:1") as session:
        session.copy_into(archive, "/tmp")  # noqa: S108 - in the container
        done = session.call(("toy", "--x"), timeout=7, environment={"A": "b"}, directory="/d")

    assert (done.status, done.stdout, done.stderr) == (3, b"out", b"")
    assert client.made.given == [("/tmp", b"inputs")]  # noqa: S108 - in the container
    assert client.made.executed == [
        (
            ["timeout", "--signal=KILL", "7", "toy", "--x"],
            {"demux": True, "environment": {"A": "b"}, "workdir": "/d"},
        )
    ]
    assert client.made.done == ["start", "put", "remove"]


def test_a_session_is_confined_and_has_its_own_name() -> None:
    client = FakeClient(FakeContainer())
    engine = engine_with(client)

    for _ in range(2):
        with engine.session("sha256:1"):
            pass

    first, second = client.created
    assert first["name"] != second["name"]
    assert first["name"].startswith("rpp-w1-session-")
    assert (first["network_mode"], first["cap_drop"]) == ("none", ["ALL"])
    assert first["labels"] == {WORKSPACE_LABEL: "w1", SESSION_LABEL: "yes"}


def test_a_session_removes_only_sessions_of_killed_runs() -> None:
    """A running step may still be wanted: it is taken over when its turn comes."""
    client = FakeClient(FakeContainer())

    with engine_with(client).session("sha256:1"):
        pass

    assert client.listed == [
        {"all": True, "filters": {"label": [f"{WORKSPACE_LABEL}=w1", SESSION_LABEL]}}
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ImageError])
def test_a_session_is_removed_whatever_happens(error: type[BaseException]) -> None:
    client = FakeClient(FakeContainer())

    with pytest.raises(error), engine_with(client).session("sha256:1"):
        raise error

    assert client.made.done[-1] == "remove"


def test_a_command_whose_end_is_unknown_did_not_succeed() -> None:
    """The engine knows no exit code when the container dies under a command."""
    client = FakeClient(FakeContainer(answer=SimpleNamespace(output=(b"", b""), exit_code=None)))

    with engine_with(client).session("sha256:1") as session:
        done = session.call(("toy",))

    assert done.status != 0


def test_a_container_that_cannot_be_removed_does_not_hide_the_interrupt(tmp_path: Path) -> None:
    def interrupt(_line: str) -> NoReturn:
        raise KeyboardInterrupt

    container = hanging(FakeContainer(), b"working\n")
    container.remove_error = APIError("409", explanation="removal is already in progress")

    with pytest.raises(KeyboardInterrupt):
        engine_with(FakeClient(container)).run(
            step(), output=tmp_path / "out.tar", on_line=interrupt
        )
