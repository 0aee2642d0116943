"""A real Buildbot master with real workers, whose ``python -m pipeline`` is a small program.

What is under test is the master: the program answers as the pipeline does, and does no work.
"""

import base64
import contextlib
import http.client
import http.cookiejar
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.farm.settings import SETTINGS_NAME
from pipeline.model.base import canonical_json
from pipeline.model.farm import Facts, PreparedJob, Submission
from pipeline.model.platforms import Mode

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = Path(__file__).with_name("farm_program.py")
PASSWORD: Final = "not a secret"  # noqa: S105 - of tests
PATIENCE: Final = 40.0
GIB: Final = 2**30

FARM: Final = """
url = "http://127.0.0.1:{port}"
rejoin_seconds = 15
silence_minutes = 4
missing_minutes = 4
attempts = {attempts}
{more}

[hand_over]
store = "handover"

[workers.signer]
role = "signer"
memory = 1
disk = 1

[workers.one]
memory = 4
disk = 1
builds = 2

[workers.two]
memory = 4
disk = 1
builds = 2
"""
CONFIGURATION: Final = """
import sys
from pathlib import Path

sys.path.insert(0, {root!r})
from pipeline.frontends.buildbot import builders, configuration, fan_out, pacing

pacing.MINUTE, pacing.LOOK_SECONDS = 1, 0.5
{stock}
c = BuildmasterConfig = configuration.config_beside(Path(__file__).parent)
{after}
"""
WORKERS: Final = """
from buildbot_worker.bot import Worker
from twisted.application import service

application = service.Application("worker")
"""
WORKER: Final = f"""
Worker(
    "127.0.0.1", {{port}}, {{name!r}}, {PASSWORD!r}, {{base!r}}, 600, maxdelay=1
).setServiceParent(application)
"""
FACTS: Final = Facts(
    os="linux",
    machine="x86_64",
    containers=True,
    memory=8 * GIB,
    disk=50 * GIB,
    emulators=("qemu-aarch64", "qemu-riscv64"),
)


def eventually(what: str, holds: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until *holds* returns something true, and return that."""
    end = time.monotonic() + patience
    while True:
        if found := holds():
            return found
        if time.monotonic() > end:
            msg = f"in {patience} s there was not: {what}"
            raise AssertionError(msg)
        time.sleep(0.1)


def job(platform: str = "linux-x86_64", **changed: Any) -> PreparedJob:
    """Return a job of the demo."""
    wanted = {
        "identifier": f"demo-{platform}",
        "interpreter": "demo",
        "platform": platform,
        "mode": Mode.NATIVE,
        "os": "linux",
        "machine": "x86_64",
        "memory": 2,
        "last": "translate",
        "key": "0" * 64,
        "is_done": False,
    }
    return PreparedJob.model_validate({**wanted, **changed})


@dataclass
class Process:
    """A process of ``twistd`` with its directory."""

    base: Path
    tac: str
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output is in a file."""
        program = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
        with (self.base / "output").open("ab") as output:
            self.running = subprocess.Popen(
                [*program, f"--python={self.tac}"],
                cwd=self.base,
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT) if self.tac == "buildbot.tac" else "",
                    "FARM_PROGRAM_HOME": str(self.base.parent),
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                },
            )

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self.running is not None
        return self.running.pid

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.running is not None
        self.running.send_signal(number)

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send it a signal, and wait for its end."""
        assert self.running is not None
        self.running.send_signal(number)
        return self.running.wait(PATIENCE)

    def said(self) -> str:
        """Return what it logged."""
        names = ("output", "twistd.log")
        return "".join(
            (self.base / name).read_text() for name in names if (self.base / name).exists()
        )


@dataclass
class Farm:
    """One master with its workers, in a directory."""

    base: Path
    port: int
    worker_port: int
    processes: dict[str, Process] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    _opener: urllib.request.OpenerDirector | None = None

    @property
    def master(self) -> Process:
        """The master's process."""
        return self.processes["master"]

    def configure(
        self, *, stock: str = "", after: str = "", more: str = "", attempts: int = 2
    ) -> None:
        """Write the configuration; *stock* are lines that put Buildbot's own classes in."""
        text = FARM.format(port=self.port, attempts=attempts, more=more)
        (self.base / "project" / "translation_configs" / "farm.toml").write_text(text)
        text = CONFIGURATION.format(root=str(ROOT), stock=stock, after=after)
        (self.base / "master" / "master.cfg").write_text(text)

    def start(self) -> None:
        """Start the master, and wait until it answers."""
        self.master.start()
        self.ready()

    def ready(self) -> None:
        """Wait until the master answers."""
        eventually("an answer of the master", self._answers)

    def _answers(self) -> bool:
        assert self.master.running is not None
        assert self.master.running.poll() is None, self.master.said()[-3000:]
        with contextlib.suppress(OSError):
            return bool(self.get("masters?active=1")["masters"])
        return False

    def worker(self, *names: str) -> Process:
        """Start workers, in one process; what they say of themselves is in :attr:`facts`."""
        for name in names:
            self._announce(name)
        first = self.base / names[0]
        workers = [
            WORKER.format(port=self.worker_port, name=name, base=str(self.base / name))
            for name in names
        ]
        (first / "worker.tac").write_text(WORKERS + "".join(workers))
        process = Process(first, "worker.tac")
        process.start()
        for name in names:
            self.processes[name] = process
            (self.base / name / "pid").write_text(str(process.pid))
        return process

    def _announce(self, name: str) -> None:
        info = self.base / name / "info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "facts").write_text(self.facts.get(name, FACTS.model_dump_json()))
        (info / "python").write_text(f"{self.base / 'python'}\n")
        (info / "root").write_text(f"{self.base}\n")

    def connected(self, *names: str) -> None:
        """Wait until these workers are connected."""
        eventually(f"workers {names}", lambda: set(names) <= self._connected())

    def _connected(self) -> set[str]:
        found = self.get("workers")["workers"]
        return {worker["name"] for worker in found if worker["connected_to"]}

    def get(self, path: str) -> Any:
        """Return what the REST interface says, as anybody may ask."""
        address = f"http://127.0.0.1:{self.port}/api/v2/{path}"
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)
        except http.client.IncompleteRead:  # the master closed the connection early
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)

    def post(self, path: str, method: str, **parameters: Any) -> Any:
        """Do something as the admin."""
        if self._opener is None:
            jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
            self._opener = urllib.request.build_opener(jar)
            user = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
            login = f"http://127.0.0.1:{self.port}/auth/login"
            asked = urllib.request.Request(login, headers={"Authorization": f"Basic {user}"})
            with contextlib.suppress(urllib.error.HTTPError):
                self._opener.open(asked, timeout=20).close()
        body = {"id": 1, "jsonrpc": "2.0", "method": method, "params": parameters}
        with self._opener.open(self.request(path, body), timeout=20) as answer:
            return json.load(answer)["result"]

    def request(self, path: str, body: Any) -> urllib.request.Request:
        """Return a request that does something."""
        return urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v2/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )

    def submit(self, name: str, *, priority: int = 10, submission: str | None = None) -> int:
        """Submit a release; return its request."""
        text = canonical_json(Submission(request=name, channel="release")).decode()
        _, requests = self.post(
            "forceschedulers/submit",
            "force",
            submission=text if submission is None else submission,
            priority=priority,
            reason=f"test {name}",
        )
        return int(next(iter(requests.values())))

    def asked(self, request: int) -> dict[str, Any]:
        """Return a request."""
        found: dict[str, Any] = self.get(f"buildrequests/{request}")["buildrequests"][0]
        return found

    def finished(self, request: int, patience: float = PATIENCE) -> int:
        """Wait until a request has ended; return its results."""
        try:
            eventually("an end", lambda: self.asked(request)["complete"], patience)
        except AssertionError as error:
            raise AssertionError(self.master.said()[-4000:]) from error
        return int(self.asked(request)["results"])

    def builds(self, request: int) -> list[dict[str, Any]]:
        """Return the builds of a request, the first one first."""
        found = self.get(f"builds?buildrequestid={request}&order=buildid&property=*")["builds"]
        assert isinstance(found, list)
        return found

    def children(self, request: int) -> dict[str, list[int]]:
        """Return the requests of units that were made for a release, by unit."""
        parents = {build["buildid"] for build in self.builds(request)}
        asked = [
            row for row in self.get("buildsets")["buildsets"] if row["parent_buildid"] in parents
        ]
        found: dict[str, list[int]] = {}
        for row in asked:
            unit = self.get(f"buildsets/{row['bsid']}/properties")["properties"][0]["unit"][0]
            rows = self.get(f"buildrequests?buildsetid={row['bsid']}")["buildrequests"]
            found.setdefault(unit, []).extend(item["buildrequestid"] for item in rows)
        return found

    def child(self, request: int, unit: str) -> int:
        """Wait for the request of a unit."""
        return int(eventually(f"unit {unit}", lambda: self.children(request).get(unit))[0])

    def plan(
        self,
        *jobs: PreparedJob,
        units: Mapping[str, Mapping[str, Any]] | None = None,
        unchanged: tuple[str, ...] = (),
    ) -> None:
        """Say what is to be prepared, and how *units* behave."""
        document = {
            "jobs": [item.model_dump(mode="json") for item in jobs],
            "unchanged": unchanged,
            "units": units or {},
        }
        (self.base / "plan.json").write_text(json.dumps(document))

    def events(self, *wanted: str) -> list[list[str]]:
        """Return what the workers' program has done: ``start``, ``end``, ``reap`` of a name."""
        path = self.base / "events"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if not wanted or line[0] in wanted]

    def started(self, unit: str) -> int:
        """Return how often the work of a unit was started."""
        return sum(name.endswith(f"-{unit}") for _, name, *_ in self.events("start"))

    def forget(self) -> None:
        """Forget what was done."""
        (self.base / "events").unlink(missing_ok=True)

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            if process.running is not None and process.running.poll() is None:
                process.end()
        for _, _, pid in self.events("start"):
            with contextlib.suppress(OSError):
                os.killpg(int(pid), signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def make_project(base: Path) -> None:
    """Copy what a master reads of the project: the demo, and all tables."""
    source, made = ROOT / "translation_configs", base / "project" / "translation_configs"
    made.mkdir(parents=True)
    for path in source.glob("*.toml"):
        if path.stem == "demo" or not path.stem.startswith("pypy"):
            shutil.copy(path, made)
    (made / "demo").symlink_to(source / "demo")


def make_secrets(base: Path, names: tuple[str, ...]) -> Path:
    """Write the secrets of a master."""
    secrets = base / "secrets"
    secrets.mkdir(mode=0o700)
    for name in names:
        path = secrets / name
        path.touch(mode=0o600)
        path.write_text(f"{PASSWORD}\n")
    return secrets


def make_farm(base: Path, settings: Mapping[str, Any] | None = None) -> Farm:
    """Make the directories of a master; the database is made by :func:`make_database`."""
    farm = Farm(base=base, port=free_port(), worker_port=free_port())
    make_project(base)
    secrets = make_secrets(base, ("worker-signer", "worker-one", "worker-two", "admin-admin"))
    master = base / "master"
    master.mkdir()
    shutil.copy(ROOT / "dockerfiles" / "farm" / "buildbot.tac", master)
    document = {
        "root": str(base / "project"),
        "secrets": str(secrets),
        "www_port": farm.port,
        "worker_port": farm.worker_port,
        **(settings or {}),
    }
    (master / SETTINGS_NAME).write_text(json.dumps(document))
    (base / "python").write_text(f"#!{sys.executable} -S\n{PROGRAM.read_text()}")
    (base / "python").chmod(0o700)
    farm.processes["master"] = Process(master, "buildbot.tac")
    farm.configure()
    return farm


def make_database(farm: Farm) -> None:
    """Make the master's tables."""
    buildbot(farm, "upgrade-master", "-q", str(farm.master.base))


def buildbot(farm: Farm, *arguments: str) -> str:
    """Run a command of Buildbot's."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("buildbot")), *arguments],
        cwd=farm.master.base,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextlib.contextmanager
def running(farm: Farm, *workers: tuple[str, ...]) -> Iterator[Farm]:
    """Run the master, with a process for each tuple of workers."""
    try:
        for names in workers:
            farm.worker(*names)
        farm.start()
        farm.connected(*(name for names in workers for name in names))
        yield farm
    finally:
        farm.close()
