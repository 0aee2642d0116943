"""A real Buildbot master on this machine, whose builders answer as a farm's; see small_farm.cfg."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

HERE = Path(__file__).parent
PASSWORD = "pass word"  # noqa: S105 - of a master that lives as long as a test
BIN = Path(sys.executable).parent


class SmallFarm:
    """The master's process, on a port of its own that stays when it is started anew."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://127.0.0.1:{self.port}"

    def create(self) -> None:
        """Make its directory and its database."""
        shutil.copy(HERE / "small_farm.cfg", self.directory / "master.cfg")
        shutil.copy(HERE / "small_farm_unit.py", self.directory / "unit.py")
        settings = {"port": self.port, "python": sys.executable}
        (self.directory / "settings.json").write_text(json.dumps(settings))
        subprocess.run([BIN / "buildbot", "create-master", "-q", self.directory], check=True)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [BIN / "twistd", "--nodaemon", "--python=buildbot.tac"],
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "twistd.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return bool(self.get("forceschedulers"))
        except requests.RequestException:
            return False

    def stop(self, how: signal.Signals) -> None:
        """Send its process a signal and wait for its end."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(30)
        (self.directory / "twistd.pid").unlink(missing_ok=True)

    def get(self, path: str) -> list[dict[str, object]]:
        """Return a collection of its REST API."""
        answer = requests.get(f"{self.url}/api/v2/{path}", timeout=10)
        answer.raise_for_status()
        found: list[dict[str, object]] = answer.json()[path.partition("?")[0].rpartition("/")[2]]
        return found


@contextmanager
def running_small_farm(directory: Path) -> Iterator[SmallFarm]:
    """Give a master that runs while the block does."""
    farm = SmallFarm(directory)
    farm.create()
    farm.start()
    try:
        yield farm
    finally:
        farm.stop(signal.SIGKILL)
