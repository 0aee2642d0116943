"""What goes wrong on a farm, one after the other, and how long until the release is there.

``nox -s bench -- farm_faults [NAME ...]``: a master, a signer and two workers in network
namespaces, the hand-over store an S3 server; for each fault a release of the demo without JIT,
whose source is new each time. A table, no assertion. Needs root, a container engine and half an
hour.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import boto3.session
import docker
from moto.server import ThreadedMotoServer

from pipeline.effects.console import Console
from tests.integration.farm_network import STORE, FarmNetwork, eventually, farm_network

JOB: Final = "demo-linux-x86_64"
OTHER: Final = "demo-linux-i686"
BUCKET: Final = "handover"
RETRY: Final = 5
WORKERS: Final = {
    "signer": 'role = "signer"\nmemory = 2\ndisk = 1',
    "one": "memory = 4\ndisk = 1\nbuilds = 2",
    "two": "memory = 4\ndisk = 1\nbuilds = 2",
}
CREDENTIALS: Final = "[default]\naws_access_key_id = any\naws_secret_access_key = any\n"
SMALL_DISK: Final = 15 << 20


@dataclass
class Bench:
    """The farm, its store, and which release is next."""

    farm: FarmNetwork
    server: ThreadedMotoServer
    number: int = 0

    def new_source(self) -> str:
        """Change the demo, so that nothing of it was translated before; return its version."""
        self.number += 1
        demo = self.farm.root / "translation_configs" / "demo"
        source = next(path for path in sorted(demo.rglob("*.py")))
        with source.open("a") as file:
            file.write(f"# release {self.number}\n")
        return f"1.0.{self.number}"

    def submit(self, version: str, *platforms: str) -> subprocess.Popen[str]:
        """Submit a release of the demo."""
        options = [word for name in platforms or ("linux-x86_64",) for word in ("--platform", name)]
        return self.farm.client("release", "demo", "--interpreter-version", version, *options)

    def until_translating(self, job: str = JOB) -> str:
        """Wait for the second phase of a translation; return the worker's name."""
        eventually("a translation", lambda: self.farm.is_at(job, "rtype"), 400)
        return str(self.farm.builds(job)[-1]["properties"]["workername"][0])

    def attempts(self, job: str = JOB) -> str:
        """Return how the last request of a job was done: results and workers."""
        builds = self.farm.builds(job)
        last = [row for row in builds if row["buildrequestid"] == builds[-1]["buildrequestid"]]
        said = {0: "success", 2: "failure", RETRY: "retry", 6: "cancelled"}
        return ", ".join(
            f"{said.get(row['results'], row['results'])} on {row['properties']['workername'][0]}"
            for row in last
        )

    def connected(self) -> set[str]:
        """Return the workers that the master sees."""
        return self.farm.connected() & set(WORKERS)

    def published(self, version: str) -> int:
        """Return how often a release is in the ledger."""
        ledger = (self.farm.published / "ledger.json").read_text()
        return ledger.count(f'\\"release\\":\\"demo-v{version}\\"') or ledger.count(
            f"demo-v{version}"
        )


def finished(client: subprocess.Popen[str]) -> str:
    """Wait for a person's command; return how it ended."""
    said, _ = client.communicate(timeout=1200)
    if client.returncode == 0:
        return "released"
    lines = [line for line in said.splitlines() if line.strip()]
    return f"exit {client.returncode}: {lines[-1][:160] if lines else ''}"


Told = tuple[str, str]
Fault = Callable[[Bench], Told]


def nothing(bench: Bench) -> Told:
    """No fault: what to compare with, and what the farm adds to a job."""
    client = bench.submit(bench.new_source())
    ended = finished(client)
    build = bench.farm.builds(JOB)[-1]
    whole = build["complete_at"] - build["started_at"]
    log = bench.farm.workers[build["properties"]["workername"][0]].directory
    text = max(log.rglob(f"detached/*{JOB}/stderr"), key=lambda path: path.stat().st_mtime)
    took = re.search(rf"done translate {JOB} \((.*) s\)", text.read_text())
    own = float(took[1]) if took else 0.0
    return ended, f"{bench.attempts()}; the build took {whole:.1f} s, its translation {own:.1f} s"


def worker_killed(bench: Bench) -> Told:
    """Kill -9 of the worker's process, started again after 3 s."""
    client = bench.submit(bench.new_source())
    name = bench.until_translating()
    bench.farm.workers[name].kill()
    time.sleep(3)
    bench.farm.start_worker(name)
    return finished(client), bench.attempts()


def worker_gone(bench: Bench) -> Told:
    """Kill -9 of the worker and of all that it does; it does not come back."""
    client = bench.submit(bench.new_source())
    name = bench.until_translating()
    bench.farm.workers[name].kill()
    base = bench.farm.workers[name].directory
    subprocess.run(["pkill", "-9", "-f", "--", f"--work {base}"], check=False)
    for container in docker.from_env().containers.list():
        if container.name and "-translate-" in container.name:
            container.remove(force=True)
    ended = finished(client)
    bench.farm.start_worker(name)
    eventually("the worker again", lambda: bench.farm.connected() >= set(WORKERS))
    return ended, bench.attempts()


def partition(bench: Bench) -> Told:
    """Two minutes without a packet between worker and master; connections stay half open."""
    client = bench.submit(bench.new_source())
    worker = bench.farm.workers[bench.until_translating()]
    worker.cut(bench.farm.master)
    bench.farm.master.cut(worker)
    time.sleep(120)
    worker.heal()
    bench.farm.master.heal()
    return finished(client), bench.attempts()


def master_killed(bench: Bench) -> Told:
    """Kill -9 of the master, started again after 3 s."""
    client = bench.submit(bench.new_source())
    bench.until_translating()
    bench.farm.master.kill()
    time.sleep(3)
    bench.farm.start_master()
    return finished(client), bench.attempts()


def store_down(bench: Bench) -> Told:
    """The hand-over store refuses connections for a minute, when the translation ends."""
    client = bench.submit(bench.new_source())
    bench.until_translating()
    eventually("the C compiler", lambda: bench.farm.is_at(JOB, "compile_c"), 400)
    bench.server.stop()
    time.sleep(60)
    bench.server = started_server(bench.farm.network.address)
    return finished(client), bench.attempts()


def wrong_digest(bench: Bench) -> Told:
    """A worker's output is replaced after its claim, before it is collected."""
    client = bench.submit(bench.new_source(), "linux-x86_64", "linux-i686")
    builds = len(bench.farm.builds(JOB))

    def claimed() -> str | None:
        for job in (JOB, OTHER):
            rows = bench.farm.builds(job)
            if rows and rows[-1]["results"] == 0 and (job != JOB or len(rows) > builds - 1):
                return str(rows[-1]["properties"]["claim"][0])
        return None

    bench.until_translating(JOB)
    claim = eventually("a claim", claimed, 600)
    place = claim.split('"place":"')[1].split('"')[0]
    s3 = client_of(bench.farm.network.address)
    s3.put_object(Bucket=BUCKET, Key=f"farm/{place}", Body=b"harm")
    ended = finished(client)
    return (
        ended,
        f"{bench.attempts()}; in the ledger {bench.published(f'1.0.{bench.number}')} times",
    )


def disk_full(bench: Bench) -> Told:
    """A worker whose disk has 15 MB: it cannot hold the source."""
    worker = bench.farm.workers["one"]
    jobs = worker.directory / "base" / "jobs"
    worker.stop()
    shutil.rmtree(jobs, ignore_errors=True)
    jobs.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "small", str(jobs)]
    subprocess.run(command, check=True)
    # A machine sees the mounts that there were when it started.
    bench.farm.start_worker("one")
    bench.farm.workers["two"].stop()
    eventually("worker one", lambda: {"signer", "one"} == bench.connected())
    try:
        before = len(bench.farm.builds(JOB))
        client = bench.submit(bench.new_source())
        eventually("an attempt", lambda: len(bench.farm.builds(JOB)) > before, 300)
        eventually("its end", lambda: ended(bench), 300)
        bench.farm.start_worker("two")
        return finished(client), bench.attempts()
    finally:
        worker.stop()
        subprocess.run(["umount", "-l", jobs], check=False)
        bench.farm.start_worker("one")


def ended(bench: Bench) -> bool:
    """Whether the last build of the job has ended."""
    return any(row["complete"] for row in bench.farm.builds(JOB)[-1:])


def two_releases(bench: Bench) -> Told:
    """Two releases of two sources, submitted at the same time."""
    first = bench.submit(bench.new_source())
    # The source is read when it is prepared: the first must have been.
    eventually("the first job", lambda: bench.farm.is_at(JOB, "translate"), 300)
    second = bench.submit(bench.new_source(), "linux-i686")
    ended = (finished(first), finished(second))
    last = bench.number
    times = [bench.published(f"1.0.{number}") for number in (last - 1, last)]
    return " and ".join(ended), f"{bench.attempts()}; in the ledger {times} times"


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__: fault
    for fault in (
        nothing,
        worker_killed,
        worker_gone,
        partition,
        master_killed,
        store_down,
        wrong_digest,
        disk_full,
        two_releases,
    )
}


def started_server(address: str) -> ThreadedMotoServer:
    """Start the S3 server; what was put is kept by this process."""
    server = ThreadedMotoServer(address, port=STORE, verbose=False)
    server.start()
    return server


def client_of(address: str):  # type: ignore[no-untyped-def]  # noqa: ANN201 - boto3's
    """Return a client of the S3 server."""
    session = boto3.session.Session("any", "any", region_name="us-east-1")
    return session.client("s3", endpoint_url=f"http://{address}:{STORE}")


@contextmanager
def running() -> Iterator[Bench]:
    """Run the farm with its store."""

    def edit(root: Path) -> None:
        demo = root / "translation_configs" / "demo.toml"
        demo.write_text(demo.read_text().replace("jit = true", "jit = false"))

    with (
        tempfile.TemporaryDirectory(prefix="rpp-farm-") as directory,
        farm_network(Path(directory), WORKERS, edits=[edit]) as farm,
    ):
        address = farm.network.address
        server = started_server(address)
        client_of(address).create_bucket(Bucket=BUCKET)
        path = farm.root / "translation_configs" / "farm.toml"
        text = path.read_text().replace("orphan_minutes = 1\n", "").split("[hand_over]")
        tables = text[1][text[1].index("[workers.") :]
        s3 = f'{{ endpoint = "http://{address}:{STORE}", addressing = "path" }}'
        path.write_text(f'{text[0]}[hand_over]\nstore = "s3://{BUCKET}/farm"\ns3 = {s3}\n{tables}')
        credentials = Path(directory, "credentials")
        credentials.write_text(CREDENTIALS)
        farm.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(credentials)
        farm.start()
        bench = Bench(farm, server)
        try:
            yield bench
        finally:
            bench.server.stop()


def main() -> None:
    """Run the faults that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    names = parser.parse_args().names or list(FAULTS)
    console, rows = Console(), []
    with running() as bench:
        for name in names:
            fault, started = FAULTS[name], time.monotonic()
            try:
                ended, how = fault(bench)
            except Exception as error:  # noqa: BLE001 - the others are measured all the same
                ended, how = f"{type(error).__name__}: {error}", ""
            seconds = time.monotonic() - started
            said = (fault.__doc__ or "").strip()
            rows.append((said, ended, how, f"{seconds:.0f} s"))
            console.line(f"{said} {ended}; {how}; {seconds:.0f} s")
        digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            for path in sorted(bench.farm.published.rglob("*.tar.gz"))
        }
    console.table("Faults", ("fault", "outcome", "attempts", "took"), rows)
    console.line(f"{len(digests)} archives published: {digests}")


if __name__ == "__main__":
    main()
