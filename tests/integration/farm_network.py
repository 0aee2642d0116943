"""A farm whose machines are network namespaces: a master, a signer and workers, and what fails.

Each machine has its own address and reaches the others over a switch only. The container engine,
which is asked by a Unix socket, is one for all; their work directories keep them apart in it. The
hand-over store and the public store are at this machine's address at the switch, outside the farm.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import requests

from pipeline.farm.certificates import Files, ensure_certificates
from pipeline.farm.settings import SETTINGS_NAME

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("pipeline", "translation_configs", "dockerfiles", "packaging", "release_notes")
PASSWORD: Final = "of-tests-only"  # noqa: S105 - of farms that end with the tests
WWW, DIAL, OPERATIONS, STORE, PUBLIC = 8010, 9989, 8011, 8012, 8013
PATIENCE: Final = 60.0

Until = Callable[[], Any]


def has_namespaces() -> bool:
    """Whether this machine lets us make network namespaces and filter what they send."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("iptables")):
        return False
    name = f"rpp-probe-{secrets.token_hex(2)}"
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return made.returncode == 0


def eventually(what: str, holds: Until, patience: float = PATIENCE) -> Any:
    """Wait until *holds* returns something true, and return that."""
    end = time.monotonic() + patience
    while True:
        if found := holds():
            return found
        if time.monotonic() > end:
            msg = f"in {patience:.0f} s there was not: {what}"
            raise AssertionError(msg)
        time.sleep(0.2)


def command(*argv: str | Path) -> None:
    """Run a command that must succeed."""
    done = subprocess.run([str(word) for word in argv], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


def failure(step: Callable[[], None]) -> Exception | None:
    """Do a step; return what went wrong, so that others can be done all the same."""
    try:
        step()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return error
    return None


@dataclass
class Machine:
    """A network namespace with an address, and the one process that makes it a machine."""

    name: str
    space: str
    address: str
    directory: Path
    running: subprocess.Popen[bytes] | None = None

    def inside(self, *argv: str | Path) -> list[str]:
        """Return the command that runs *argv* in the namespace."""
        return ["ip", "netns", "exec", self.space, *(str(word) for word in argv)]

    def start(self, *argv: str | Path, environment: Mapping[str, str]) -> None:
        """Start the machine's process; what it says is in ``output``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "output").open("ab") as output:
            self.running = subprocess.Popen(
                self.inside(*argv),
                cwd=self.directory,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill the process with SIGKILL, but not what it has started and detached."""
        assert self.running is not None
        os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()

    def stop(self) -> None:
        """End the process in good order, or kill it."""
        if self.running is None or self.running.poll() is not None:
            return
        self.running.terminate()
        try:
            self.running.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()

    def reap(self) -> None:
        """Stop what the process has detached, with its containers: nobody follows it any more."""
        for place in sorted(self.directory.glob("base/jobs/*/detached/*/")):
            work = place.parents[1]
            command(sys.executable, "-m", "pipeline", "reap", place.name, "--work", work)

    def cut(self, other: "Machine") -> None:
        """Drop silently what comes from *other*, so that connections stay half open."""
        command(*self.inside("iptables", "-A", "INPUT", "-s", other.address, "-j", "DROP"))

    def heal(self) -> None:
        """Let everything in again."""
        command(*self.inside("iptables", "-F", "INPUT"))


class Network:
    """A switch, and namespaces that are plugged into it; this machine is at its ``address``.

    The switch is in a namespace of its own, since the container engine's firewall drops what a
    bridge on this machine passes on.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._token = secrets.token_hex(2)
        self._net = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}"
        self._machines: list[Machine] = []
        self._hub = f"rpp-{self._token}"
        self.address = f"{self._net}.1"
        command("ip", "netns", "add", self._hub)
        self._in_hub("link", "add", "switch", "type", "bridge")
        self._in_hub("link", "set", "switch", "up")
        ours = self._plug(1)
        command("ip", "addr", "add", f"{self.address}/24", "dev", ours)
        command("ip", "link", "set", ours, "up")

    def machine(self, name: str) -> Machine:
        """Add a machine."""
        number = len(self._machines) + 2
        machine = Machine(
            name=name,
            space=f"{self._hub}-{name}",
            address=f"{self._net}.{number}",
            directory=self.directory / name,
        )
        command("ip", "netns", "add", machine.space)
        self._machines.append(machine)
        inside = self._plug(number)
        command("ip", "link", "set", inside, "netns", machine.space)
        command(*machine.inside("ip", "addr", "add", f"{machine.address}/24", "dev", inside))
        for device in ("lo", inside):
            command(*machine.inside("ip", "link", "set", device, "up"))
        return machine

    def close(self) -> None:
        """Stop every process and take all namespaces away; what fails does not keep the rest.

        Raises:
            ExceptionGroup: of what has failed.
        """
        spaces = [*(machine.space for machine in self._machines), self._hub]
        steps: list[Callable[[], None]] = [
            *(machine.stop for machine in reversed(self._machines)),
            *(machine.reap for machine in self._machines),
            *(partial(command, "ip", "netns", "del", space) for space in spaces),
        ]
        failures = [error for step in steps if (error := failure(step)) is not None]
        if failures:
            msg = "the network is not taken away cleanly"
            raise ExceptionGroup(msg, failures)

    def _in_hub(self, *words: str) -> None:
        command("ip", "-n", self._hub, *words)

    def _plug(self, number: int) -> str:
        """Put one end of a cable into the switch, and return the other."""
        theirs, ours = f"port{number}", f"rpp{self._token}n{number}"
        command("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
        command("ip", "link", "set", theirs, "netns", self._hub)
        self._in_hub("link", "set", theirs, "master", "switch", "up")
        return ours


@dataclass
class FarmNetwork:
    """A whole farm. ``store`` is where outputs are handed over, ``published`` what readers see."""

    network: Network
    root: Path
    master: Machine
    workers: dict[str, Machine]
    secrets: Path
    environment: dict[str, str]
    published: Path
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The master's address."""
        return f"http://{self.master.address}:{WWW}"

    def start_master(self) -> None:
        """Start the master, and wait until it answers."""
        twistd = Path(sys.executable).with_name("twistd")
        self.master.start(
            *(twistd, "--nodaemon", "--pidfile=", f"--rundir={self.master.directory}"),
            f"--python={self.master.directory / 'buildbot.tac'}",
            environment={"PYTHONPATH": str(self.root), "HOME": str(self.master.directory)},
        )
        eventually("an answer of the master", lambda: self.get("builders"))

    def start_worker(self, name: str) -> None:
        """Start a worker."""
        machine = self.workers[name]
        machine.start(
            *(sys.executable, "-m", "pipeline", "farm-worker", machine.directory / "base"),
            *("--name", name, "--master", f"{self.master.address}:{DIAL}"),
            *("--password-file", self.secrets / f"worker-{name}"),
            *("--ca", self.master.directory / "tls" / "ca.pem"),
            *("--configs", self.root / "translation_configs"),
            environment={
                **self.environment,
                "PYTHONPATH": str(self.root),
                "HOME": str(self.network.directory / name),
            },
        )

    def start(self) -> None:
        """Start all, and wait until every worker is there."""
        self.start_master()
        for name in self.workers:
            self.start_worker(name)
        eventually("every worker", lambda: self.connected() >= set(self.workers))

    def connected(self) -> set[str]:
        """Return the workers that the master sees."""
        return {row["name"] for row in self.get("workers") if row["connected_to"]}

    def get(self, path: str) -> list[dict[str, Any]]:
        """Return what the master's API has; nothing if it does not answer."""
        with contextlib.suppress(requests.RequestException, ValueError):
            answer = requests.get(f"{self.url}/api/v2/{path}", timeout=5)
            if answer.ok:
                found: dict[str, list[dict[str, Any]]] = answer.json()
                return next(value for name, value in found.items() if name != "meta")
        return []

    def builds(self, builder: str) -> list[dict[str, Any]]:
        """Return every build of a builder, the first first."""
        return self.get(f"builders/{builder}/builds?order=buildid&property=*")

    def is_at(self, builder: str, step: str) -> bool:
        """Whether the last build of a builder is under way and has begun a step like this."""
        builds = self.builds(builder)
        if not builds or builds[-1]["complete"]:
            return False
        steps = self.get(f"builds/{builds[-1]['buildid']}/steps")
        return any(step in row["name"] and row["started_at"] for row in steps)

    def client(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command of a person, who sits at this machine."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *argv, "--farm", self.url, "--farm-insecure"],
            cwd=self.root,
            env={**os.environ, "RPP_FARM_PASSWORD": PASSWORD, "CI": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def release(self, *argv: str, patience: float = 900) -> str:
        """Release from the command line; return what it said."""
        client = self.client("release", *argv)
        said, _ = client.communicate(timeout=patience)
        assert client.returncode == 0, said
        return said


@contextmanager
def farm_network(
    directory: Path, workers: Mapping[str, str], *, edits: Sequence[Callable[[Path], None]] = ()
) -> Iterator[FarmNetwork]:
    """Make a farm; *workers* has the lines of each one's table in farm.toml, the signer's first.

    *edits* change the copy of the project that all machines have.
    """
    with ExitStack() as stack:
        network = Network(directory / "machines")
        stack.callback(network.close)
        root = directory / "project"
        for name in COPIED:
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        master = network.machine("master")
        machines = {name: network.machine(name) for name in workers}
        farm = FarmNetwork(
            network=network,
            root=root,
            master=master,
            workers=machines,
            secrets=master.directory / "secrets",
            environment={},
            published=directory / "published",
        )
        _write_farm(farm, workers)
        for edit in edits:
            edit(root)
        _write_master(farm)
        _fetch_sources(farm, next(iter(workers)))
        stack.enter_context(_served(farm))
        yield farm


def _write_farm(farm: FarmNetwork, workers: Mapping[str, str]) -> None:
    configs = farm.root / "translation_configs"
    tables = "".join(f"[workers.{name}]\n{lines}\n" for name, lines in workers.items())
    (configs / "farm.toml").write_text(
        f'url = "{farm.url}"\nkeepalive_seconds = 20\nrejoin_seconds = 20\norphan_minutes = 1\n'
        f'[hand_over]\nstore = "{farm.network.directory.parent / "handover"}"\n{tables}'
    )
    channels = configs / "channels.toml"
    text = channels.read_text()
    text = text.replace('store = "store"', f'store = "{farm.published}"')
    channels.write_text(
        text.replace("http://127.0.0.1:8377", f"http://{farm.network.address}:{PUBLIC}")
    )


def _write_master(farm: FarmNetwork) -> None:
    directory = farm.master.directory
    farm.secrets.mkdir(parents=True, mode=0o700)
    for name in ("admin-admin", *(f"worker-{worker}" for worker in farm.workers)):
        (farm.secrets / name).write_text(PASSWORD)
        (farm.secrets / name).chmod(0o600)
    files = Files(directory / "tls")
    ensure_certificates(files, [farm.master.address], datetime.now(UTC))
    settings = {
        "root": str(farm.root),
        "secrets": str(farm.secrets),
        "bind": farm.master.address,
        "www_bind": farm.master.address,
        "www_port": WWW,
        "worker_port": DIAL,
        "operations_port": OPERATIONS,
        "certificate": str(files.server),
        "private_key": str(files.server_key),
    }
    (directory / SETTINGS_NAME).write_text(json.dumps(settings))
    for name in ("master.cfg", "buildbot.tac"):
        shutil.copy(ROOT / "dockerfiles" / "farm" / name, directory)
    command(
        *(Path(sys.executable).with_name("buildbot"), "create-master", "--force", "-q"), directory
    )


def _fetch_sources(farm: FarmNetwork, signer: str) -> None:
    """Put what is pinned into the signer's cache: no machine at the switch reaches the internet."""
    work = farm.workers[signer].directory / "base" / "jobs" / "signer"
    command(
        *(sys.executable, "-m", "pipeline", "source", "demo", "--work", work),
        *("--configs", farm.root / "translation_configs"),
    )


@contextmanager
def _served(farm: FarmNetwork) -> Iterator[None]:
    """Serve what is published, to whoever is at the switch."""
    farm.published.mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "serve", "--store", str(farm.published)),
            *("--host", farm.network.address, "--port", str(PUBLIC)),
        ],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait()
