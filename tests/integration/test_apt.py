"""The apt repository with apt itself: what it installs, what it refuses, and that nobody is caught.

Most of it runs this machine's apt with directories of its own. ``RPP_APT_ROUNDS`` says how many
updates each of two clients makes while the repository is published again and again.
"""

import lzma
import os
import platform
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.clock import utc_now
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.process import ProcessRunner
from pipeline.effects.store import LocalStore, Store
from pipeline.environment import ready_environment
from pipeline.errors import ConflictError
from pipeline.model.platforms import Placement
from pipeline.publish.project import stale_indexes
from pipeline.publish.sites import Site
from tests.fakes import make_context
from tests.integration.apt_repository import PACKAGE, AptChannel, AptClient, apt_channel
from tests.integration.conftest import Project
from tests.integration.s3 import S3Server, moto_server
from tests.integration.servers import directory_server

pytestmark = [
    pytest.mark.gpg,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not here"),
]

ROUNDS: Final = int(os.environ.get("RPP_APT_ROUNDS", "20"))
CONTAINERS: Final = os.environ.get("RPP_APT_SUITES", "bookworm").split()
"""In which suites' containers it is installed; trixie's takes a minute more to make."""
IN_RELEASE: Final = "dists/bookworm/InRelease"
LIST: Final = "dists/bookworm/release/binary-amd64/Packages.xz"


@dataclass(frozen=True, kw_only=True)
class World:
    """A repository in a directory that is served, and a client with its source."""

    directory: Path
    apt: AptChannel
    client: AptClient

    @property
    def root(self) -> Path:
        """The store's directory."""
        return self.directory / "store"

    def source(self, name: str = "bookworm") -> str:
        """Return a source file for users."""
        return (self.root / f"apt/{name}.sources").read_text()

    def another(self, source: str) -> AptClient:
        """Return a client with another source."""
        return AptClient.with_source(self.directory / uuid.uuid4().hex, source)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A repository with two releases and a nightly."""
    store = tmp_path / "store"
    with (
        directory_server(store) as address,
        apt_channel(tmp_path, Site(store=LocalStore(store), base_url=address)) as apt,
    ):
        for version in ("1.0.0", "1.1.0"):
            apt.publish(version)
        client = AptClient.with_source(
            tmp_path / "client", (store / "apt/bookworm.sources").read_text()
        )
        yield World(directory=tmp_path, apt=apt, client=client)


def next_second() -> None:
    """Wait until a file gets another time: apt asks only for what is newer, to the second."""
    time.sleep(1.01 - time.time() % 1)


# --- what is offered ------------------------------------------------------------------------


def test_a_yank_takes_a_version_away_and_its_end_brings_it_back(world: World) -> None:
    world.client.update()
    assert world.client.versions() == ["1.1.0-1~deb12", "1.0.0-1~deb12"]

    next_second()
    world.apt.change("1.1.0", yanked=True)
    world.client.update()
    assert world.client.versions() == ["1.0.0-1~deb12"]

    next_second()
    world.apt.change("1.1.0", yanked=False)
    world.client.update()
    assert world.client.versions() == ["1.1.0-1~deb12", "1.0.0-1~deb12"]


def test_nightlies_are_for_who_asks_for_them(world: World) -> None:
    """Their versions have a plus sign, the names of their files have not."""
    world.apt.publish_nightly(77)
    nightly = world.another(world.source("bookworm-nightly"))

    for client in (world.client, nightly):
        client.update()

    assert "1.9+nightly77-1~deb12" in nightly.versions()
    assert "1.9+nightly77-1~deb12" not in world.client.versions()
    nightly.download(world.directory / "nightly")
    assert list((world.directory / "nightly").iterdir())
    assert not [path for path in world.root.rglob("*.deb") if "+" in path.name]


def test_every_suite_and_architecture_has_its_own_packages(world: World) -> None:
    client = world.another(world.source("trixie"))

    client.update("-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64")

    lists = client.root / "var/lib/apt/lists"
    (found,) = lists.glob("*trixie_release_binary-arm64_Packages*")
    stanzas = client.run("/usr/lib/apt/apt-helper", "cat-file", str(found)).stdout
    assert re.findall("^Version: (.*)$", stanzas, re.MULTILINE) == [
        "1.1.0-1~deb13",
        "1.0.0-1~deb13",
    ]


def test_without_packages_there_is_an_empty_repository(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        directory_server(store) as address,
        apt_channel(tmp_path, Site(store=LocalStore(store), base_url=address)) as apt,
    ):
        apt.maker = replace(apt.maker, package=lambda _directory, _version: ())
        apt.publish("1.0.0")
        source = (store / "apt/bookworm.sources").read_text()
        client = AptClient.with_source(tmp_path / "client", source)

        client.update()

    assert client.versions() == []


def test_a_mirror_has_the_same_packages_under_its_own_address(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with directory_server(first) as one, directory_server(second) as two:
        sites = [
            Site(store=LocalStore(root), base_url=address)
            for root, address in ((first, one), (second, two))
        ]
        with apt_channel(tmp_path, *sites) as apt:
            apt.publish("1.0.0")
        source = (second / "apt/bookworm.sources").read_text()
        client = AptClient.with_source(tmp_path / "client", source)
        client.update()
        client.download(tmp_path / "downloads")

    assert f"URIs: {two}\n" in source
    assert (first / LIST).read_bytes() == (second / LIST).read_bytes()
    assert client.versions() == ["1.0.0-1~deb12"]


# --- what apt refuses -----------------------------------------------------------------------


def test_a_repository_with_another_key_is_refused(world: World, tmp_path: Path) -> None:
    with apt_channel(tmp_path / "other", *world.apt.channel.sites) as other:
        armour = re.compile(rb"-----BEGIN.*-----\n", re.DOTALL)
        assert armour.fullmatch(other.key)
        key = "".join(f" {line or '.'}\n" for line in other.key.decode().strip().splitlines())
    source = re.sub(r"Signed-By:\n.*", f"Signed-By:\n{key}", world.source(), flags=re.DOTALL)
    client = world.another(source)

    said = client.update(check=False)

    assert "NO_PUBKEY" in said
    assert client.versions() == []


def test_a_list_that_was_tampered_with_is_refused(world: World) -> None:
    for path in (world.root / "dists/bookworm/release/binary-amd64").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    said = world.client.update(check=False)

    assert "Hash Sum mismatch" in said
    assert world.client.versions() == []


def test_a_package_that_was_tampered_with_is_refused(world: World) -> None:
    world.client.update()
    (package,) = (world.root / "toy/toy-v1.1.0").glob("*deb12_amd64.deb")
    data = package.read_bytes()
    package.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    said = world.client.download(world.directory / "downloads", check=False)

    assert "Hash Sum mismatch" in said
    assert list((world.directory / "downloads").glob("*.deb")) == []


def test_what_nobody_refreshed_expires_and_a_reconcile_refreshes_it(world: World) -> None:
    """Written 15 days ago, it was good for 14."""
    (world.root / IN_RELEASE).unlink()
    old = world.apt.at(utc_now() - timedelta(days=15))
    old.project()
    said = world.client.update(check=False)
    assert "is expired" in said

    address = f"{world.apt.channel.sites[0].base_url}/{IN_RELEASE}"
    assert address in stale_indexes(world.apt.ctx, world.apt.channel)
    next_second()
    assert address in world.apt.project()

    world.client.update()
    assert stale_indexes(world.apt.ctx, world.apt.channel) == []


# --- a real installation --------------------------------------------------------------------


@contextmanager
def container(image: str) -> Iterator[Callable[..., str]]:
    """Give a function that runs a command in a container on this machine's network."""
    start = ["docker", "run", "--rm", "--detach", "--network", "host", image, "sleep", "600"]
    name = subprocess.run(start, check=True, capture_output=True, text=True).stdout.strip()

    def run(script: str, *, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "exec", "-e", "LC_ALL=C", "-i", name, "sh", "-euc", script],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        yield run
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


@pytest.mark.docker
@pytest.mark.network
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the packages are for amd64")
@pytest.mark.parametrize("suite", CONTAINERS)
def test_a_user_installs_and_upgrades_and_gets_the_version_before_after_a_yank(
    world: World, project: Project, suite: str
) -> None:
    engine, process = DockerEngine("tests"), ProcessRunner()
    ctx = replace(make_context(project.configs.parent), engine=engine, process=process)
    row = ctx.config.platforms["linux-x86_64"]
    image = ready_environment(ctx, f"clean-{suite}", Placement(host=row)).image_id
    number = {"bookworm": 12, "trixie": 13}[suite]
    address = world.apt.channel.sites[0].base_url
    world.apt.change("1.1.0", yanked=True)

    with container(image) as run:
        run("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
        fetch = f"/usr/lib/apt/apt-helper download-file {address}/apt/{suite}.sources"
        run(f"{fetch} /etc/apt/sources.list.d/toy.sources")
        assert "W:" not in run("apt-get update --error-on=any")
        run(f"apt-get install -y {PACKAGE}")
        assert run(PACKAGE).strip() == f"1.0.0-1~deb{number}"

        next_second()
        world.apt.change("1.1.0", yanked=False)
        run("apt-get update --error-on=any; apt-get upgrade -y")
        assert run(PACKAGE).strip() == f"1.1.0-1~deb{number}"

        next_second()
        world.apt.change("1.1.0", yanked=True)
        run(f"apt-get update --error-on=any; apt-get purge -y {PACKAGE}")
        run(f"apt-get install -y {PACKAGE}")
        assert run(PACKAGE).strip() == f"1.0.0-1~deb{number}"


# --- published again while clients update ---------------------------------------------------


@dataclass(kw_only=True)
class Rounds:
    """What clients met."""

    number: int = 0
    bad: list[str] = field(default_factory=list)
    versions: set[tuple[str, ...]] = field(default_factory=set)


def update_all_the_time(client: AptClient, *, afresh: bool) -> Rounds:
    """Update again and again; note every round that was not clean."""
    rounds = Rounds()
    for _ in range(ROUNDS):
        if afresh:
            client.forget()
        done = client.run("apt-get", "update", "--error-on=any", check=False)
        said = done.stdout + done.stderr
        # "Ign" is a list that was not there under its digest, so that its plain name was tried.
        if done.returncode or re.search("^(W:|E:|N:|Err:|Ign:)", said, re.MULTILINE):
            rounds.bad.append(said)
        rounds.number += 1
        rounds.versions.add(tuple(client.versions()))
    return rounds


def republish_until(done: threading.Event, apt: AptChannel, version: str) -> int:
    """Yank a release and offer it again until the clients are done; return how often.

    Where the other always comes first its indexes have what this one's event changed.
    """
    count = 0
    while not done.is_set():
        with suppress(ConflictError):
            apt.change(version, yanked=count % 2 == 0)
        count += 1
    return count


@pytest.fixture(params=["directory", "moto", pytest.param("ceph", marks=pytest.mark.docker)])
def busy_site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """A store of each kind, and where the public sees it."""
    if request.param == "directory":
        with directory_server(tmp_path / "store") as address:
            yield Site(store=LocalStore(tmp_path / "store"), base_url=address)
        return
    with moto_server() as mock:
        server: S3Server = request.getfixturevalue("ceph") if request.param == "ceph" else mock
        server.let_in(monkeypatch)
        place = f"{server.bucket(f'apt-{uuid.uuid4().hex}')}/place"
        store: Store = server.store(f"s3://{place}")
        yield Site(store=store, base_url=f"{server.endpoint}/{place}")


@pytest.mark.slow
def test_clients_that_update_while_it_is_published_meet_no_mismatch(
    busy_site: Site, tmp_path: Path
) -> None:
    """Two releasers yank and unyank; of two clients one always fetches every list."""
    started = time.monotonic()
    with apt_channel(tmp_path, busy_site) as apt:
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            apt.publish(version)
        present = busy_site.store.read("apt/bookworm-nightly.sources")
        assert present is not None
        clients = [
            AptClient.with_source(tmp_path / name, present.data.decode()) for name in ("a", "b")
        ]
        done = threading.Event()
        with ThreadPoolExecutor() as pool:
            writers = [
                pool.submit(republish_until, done, apt, version) for version in ("1.1.0", "1.2.0")
            ]
            readers = [
                pool.submit(update_all_the_time, client, afresh=number == 0)
                for number, client in enumerate(clients)
            ]
            wait(readers)
            done.set()
            rounds = [reader.result() for reader in readers]
            published = sum(writer.result() for writer in writers)

        apt.project()
        stale = stale_indexes(apt.ctx, apt.channel)
    bad = [text for item in rounds for text in item.bad]
    print(  # noqa: T201 - the measurement
        f"\n{busy_site.store.address}: {sum(item.number for item in rounds)} updates, {len(bad)} "
        f"not clean, {published} publications, {time.monotonic() - started:.0f} s"
    )
    assert (bad, stale) == ([], [])
    assert published > 2
    seen = set[tuple[str, ...]]().union(*(item.versions for item in rounds))
    assert all("1.0.0-1~deb12" in versions for versions in seen)
    assert len(seen) > 1


def test_the_lists_are_what_their_digests_say_and_compressed_alike(world: World) -> None:
    plain = (world.root / LIST).with_suffix("")

    assert lzma.decompress((world.root / LIST).read_bytes()) == plain.read_bytes()
