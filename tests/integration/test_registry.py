"""Images in a real registry: pushed, tagged, pulled by docker, raced for, and through faults."""

import base64
import json
import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Event
from typing import Final

import pytest

from pipeline.config import load_config
from pipeline.distribute.image_index import release_indexes
from pipeline.distribute.oci import ImageIndex, ImageManifest, digest_of
from pipeline.effects.registry import HttpRegistry
from pipeline.effects.registry_login import Credentials, credentials_for
from pipeline.effects.retry import RetryPolicy
from pipeline.effects.store import LocalStore
from pipeline.errors import DestinationError
from pipeline.model.images import RegistryConfig
from pipeline.model.versions import InterpreterVersion
from pipeline.publish.events import Stamp, publication, unyank, yank
from pipeline.publish.images import (
    CHECKSUMS_TYPE,
    SPDX_TYPE,
    STATEMENT_TYPE,
    ImagePush,
    push_images,
)
from pipeline.publish.ledger import append
from pipeline.publish.tags import move_tags, stale_tags
from tests.fakes import FakeNotary, recorded_console
from tests.images import make_push
from tests.integration.conftest import ROOT
from tests.integration.faults import CutAnswer, CutUpload, Fault, FaultProxy, Reset, Seen, Status
from tests.integration.registry import running_registry

PROGRAMS: Final = {
    "linux-x86_64": Path("/usr/lib/arch-test/amd64"),
    "linux-aarch64": Path("/usr/lib/arch-test/arm64"),
    "linux-i686": Path("/usr/lib/arch-test/i386"),
}
OCI: Final = {"linux/amd64", "linux/arm64", "linux/386"}
NOON: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
# One blob may meet the fault of each of its three kinds of requests.
RETRY: Final = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)
CONFIG: Final = load_config(ROOT / "translation_configs")
PASSWORD: Final = "canary-0c1d2e3f"  # noqa: S105 - of nobody
PASSING: Final[tuple[Fault, ...]] = (
    Status(429, {"Retry-After": "0"}),
    Status(500),
    Status(503),
    Reset(),
    Reset(after=True),
    CutAnswer(),
    CutUpload(),
)
REQUESTS: Final = (
    ("HEAD", "/blobs/sha256"),
    ("POST", "/blobs/uploads/$"),
    ("PUT", "/blobs/uploads/"),
    ("HEAD", "/manifests/sha256"),
    ("PUT", "/manifests/sha256:"),
    ("PUT", "/manifests/sha256-"),
    ("GET", "/manifests/sha256:"),
    ("GET", "/referrers/"),
    ("GET", "/blobs/sha256"),
)
"""Every kind of request of a push, in the order in which they come first."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A registry, and a store whose ledger says what is in it."""

    port: int
    store: LocalStore
    directory: Path

    def registry(self, port: int | None = None, who: Credentials | None = None) -> HttpRegistry:
        """Return a client of it, or of what stands before it."""
        config = RegistryConfig(repository=f"127.0.0.1:{port or self.port}/ns", plain_http=True)
        return HttpRegistry(config, who, RETRY, timeout=(5, 20))

    def push(self, version: str = "1.0.0", **options: object) -> ImagePush:
        """Make a release with images."""
        return make_push(self.directory, version=version, **options)  # type: ignore[arg-type]

    def announce(self, push: ImagePush) -> None:
        """Let the ledger say that a release exists."""
        stamp = Stamp(at=NOON, by="tester", reason="a test")
        decide = publication(push.manifest, push.signed, push.manifest.files, stamp, staged=False)
        append(self.store, FakeNotary(), decide)

    def publish(self, push: ImagePush, registry: HttpRegistry | None = None) -> None:
        """Push, announce and tag a release."""
        registry = registry or self.registry()
        pushed(registry, push)
        self.announce(push)
        move_tags(CONFIG, registry, self.store, FakeNotary())

    @property
    def image(self) -> str:
        """What docker calls the repository."""
        return f"127.0.0.1:{self.port}/ns/demo"


def pushed(registry: HttpRegistry, push: ImagePush, parallel: int = 8) -> tuple[str, ...]:
    """Push a release's images."""
    console, _ = recorded_console()
    with console.step("push") as step:
        return push_images(CONFIG, registry, push, step, parallel)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A registry for everybody."""
    with running_registry(tmp_path / "registry") as port:
        yield Place(port=port, store=LocalStore(tmp_path / "store"), directory=tmp_path)


@pytest.fixture
def proxy(place: Place) -> Iterator[FaultProxy]:
    """What stands before the registry and counts requests."""
    with FaultProxy("127.0.0.1", place.port) as proxy:
        yield proxy


def through(place: Place, proxy: FaultProxy) -> HttpRegistry:
    """Return a client that goes through the proxy."""
    return place.registry(int(proxy.address.rpartition(":")[2]))


def docker(
    *arguments: str, check: bool = True, directory: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the real client; who it is stands in *directory*."""
    return subprocess.run(
        ["docker", *(() if directory is None else ("--config", str(directory))), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
    )


def pull(name: str, platform: str, directory: Path | None = None) -> str:
    """Pull an image for a platform and run it; return what it says. It does not stay."""
    docker("pull", "--quiet", "--platform", platform, name, directory=directory)
    try:
        return docker("run", "--rm", "--platform", platform, name).stdout
    finally:
        docker("rmi", "--force", name)


def platforms_at(registry: HttpRegistry, tag: str) -> set[str]:
    """Return the platforms that a tag's index has."""
    stored = registry.manifest("demo", tag)
    assert stored is not None
    return {str(item.platform) for item in ImageIndex.model_validate_json(stored.data).manifests}


def version_at(registry: HttpRegistry, tag: str) -> InterpreterVersion | None:
    """Return the version of the index that a tag leads to."""
    stored = registry.manifest("demo", tag)
    if stored is None:
        return None
    annotations = ImageIndex.model_validate_json(stored.data).annotations or {}
    return InterpreterVersion.parse(annotations["org.opencontainers.image.version"])


def has_programs() -> bool:
    """Whether Debian's arch-test, whose programs are run, is installed."""
    return all(path.is_file() for path in PROGRAMS.values())


@pytest.mark.docker
@pytest.mark.qemu
def test_docker_pulls_and_runs_the_image_of_each_platform(place: Place) -> None:
    if not has_programs():
        pytest.skip("arch-test is not installed")
    place.publish(place.push(platforms=tuple(PROGRAMS), programs=PROGRAMS))

    said = {platform: pull(f"{place.image}:1", platform) for platform in sorted(OCI)}

    assert said == dict.fromkeys(sorted(OCI), "ok\n")
    assert platforms_at(place.registry(), "latest") == OCI
    assert docker("manifest", "inspect", "--insecure", f"{place.image}:latest").returncode == 0


@pytest.mark.docker
def test_a_yanked_release_is_pulled_by_nobody_until_it_is_back(place: Place) -> None:
    if not has_programs():
        pytest.skip("arch-test is not installed")
    for version in ("1.0.0", "1.0.1"):
        place.publish(place.push(version, programs=PROGRAMS))
    registry, stamp = place.registry(), Stamp(at=NOON, by="tester", reason="a test")
    before = set(registry.tags("demo"))

    append(place.store, FakeNotary(), yank("demo", "demo-v1.0.1", stamp))
    yanked = move_tags(CONFIG, registry, place.store, FakeNotary())

    assert yanked.left == ()
    assert docker("pull", f"{place.image}:1-1.0.1", check=False).returncode != 0
    assert version_at(registry, "latest") == InterpreterVersion.parse("1.0.0")
    assert pull(f"{place.image}:latest", "linux/amd64") == "ok\n"

    append(place.store, FakeNotary(), unyank("demo", "demo-v1.0.1", stamp))
    move_tags(CONFIG, registry, place.store, FakeNotary())

    assert pull(f"{place.image}:1-1.0.1", "linux/amd64") == "ok\n"
    assert set(registry.tags("demo")) == before
    assert version_at(registry, "latest") == InterpreterVersion.parse("1.0.1")
    assert stale_tags(CONFIG, registry, place.store, FakeNotary()) == []


def test_a_registry_that_takes_nothing_away_is_told_of(tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry", deletes=False) as port:
        place = Place(port=port, store=LocalStore(tmp_path / "store"), directory=tmp_path)
        place.publish(place.push())
        stamp = Stamp(at=NOON, by="tester", reason="a test")
        append(place.store, FakeNotary(), yank("demo", "demo-v1.0.0", stamp))

        changes = move_tags(CONFIG, place.registry(), place.store, FakeNotary())

    assert changes.changed == ()
    assert f"127.0.0.1:{port}/ns/demo:latest" in changes.left


def test_a_second_run_asks_but_sends_nothing(place: Place, proxy: FaultProxy) -> None:
    registry = through(place, proxy)
    push = place.push(platforms=tuple(PROGRAMS), variants=("", "slim"))
    place.publish(push, registry)
    first = [seen.method for seen in proxy.seen]
    proxy.mend()

    place.publish(push, registry)

    again = {seen.method for seen in proxy.seen}
    assert {"POST", "PUT"} <= set(first)
    assert again == {"HEAD", "GET"}


def test_what_speaks_of_an_image_is_found_by_the_tag_of_its_digest(place: Place) -> None:
    """Distribution 2.8 has no list of referrers, so clients look for this tag."""
    registry, push = place.registry(), place.push()
    pushed(registry, push)
    subject = push.uploads[0].built.image.digest

    stored = registry.manifest("demo", subject.replace(":", "-"))

    assert stored is not None
    entries = ImageIndex.model_validate_json(stored.data).manifests
    assert {item.artifact_type for item in entries} == {SPDX_TYPE, STATEMENT_TYPE, CHECKSUMS_TYPE}
    for entry in entries:
        attached = registry.manifest("demo", entry.digest)
        assert attached is not None
        parsed = ImageManifest.model_validate_json(attached.data)
        assert parsed.subject is not None
        assert parsed.subject.digest == subject


# --- who asks -------------------------------------------------------------------------------------


@pytest.mark.docker
def test_a_registry_with_a_password_takes_images_of_who_knows_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    if not has_programs():
        pytest.skip("arch-test is not installed")
    with running_registry(tmp_path / "registry", password=PASSWORD) as port:
        place = Place(port=port, store=LocalStore(tmp_path / "store"), directory=tmp_path)
        push = place.push(programs=PROGRAMS)
        with pytest.raises(DestinationError, match="Nobody is logged in"):
            pushed(place.registry(), push)
        with pytest.raises(DestinationError, match="HTTP 401") as caught:
            pushed(place.registry(who=Credentials("me", f"{PASSWORD}x")), push)
        (tmp_path / "docker").mkdir()
        auth = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        entries = {"auths": {f"127.0.0.1:{port}": {"auth": auth}}}
        (tmp_path / "docker/config.json").write_text(json.dumps(entries))
        environment = {"DOCKER_CONFIG": str(tmp_path / "docker")}
        config = RegistryConfig(repository=f"127.0.0.1:{port}/ns", plain_http=True)

        who = credentials_for(config, environment, tmp_path)
        place.publish(push, place.registry(who=who))

        assert pull(f"{place.image}:1", "linux/amd64", tmp_path / "docker") == "ok\n"
        assert PASSWORD not in caplog.text + str(caught.value)


# --- races ----------------------------------------------------------------------------------------


def test_two_who_push_the_same_release_lose_no_platform(place: Place) -> None:
    push = place.push(platforms=tuple(PROGRAMS), variants=("", "slim"))
    start = Barrier(2)

    def publish(_who: int) -> None:
        start.wait()
        place.publish(push)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(publish, range(2)))

    registry = place.registry()
    assert stale_tags(CONFIG, registry, place.store, FakeNotary()) == []
    for data in release_indexes(push.manifest, CONFIG.platforms).values():
        assert platforms_at(registry, digest_of(data)) == OCI
        listed = registry.manifest("demo", digest_of(data).replace(":", "-"))
        assert listed is not None
        assert len(ImageIndex.model_validate_json(listed.data).manifests) == 2


def test_two_releasers_end_with_the_newest_and_no_tag_goes_backwards(place: Place) -> None:
    """One publishes even versions, the other odd ones; a reader looks all the time."""
    versions = [f"1.0.{number}" for number in range(4)]
    pushes = {item: place.push(item, platforms=tuple(PROGRAMS)) for item in versions}
    done, seen = Event(), []

    def release(which: int) -> None:
        for version in versions[which::2]:
            place.publish(pushes[version])

    def look() -> None:
        reader = place.registry()
        while not done.is_set():
            if (found := version_at(reader, "1")) is not None:
                seen.append(found)
                assert platforms_at(reader, "1") == OCI

    with ThreadPoolExecutor(3) as pool:
        reading = pool.submit(look)
        releasing = [pool.submit(release, which) for which in range(2)]
        try:
            for future in releasing:
                future.result()
        finally:
            done.set()
        reading.result()

    registry = place.registry()
    assert version_at(registry, "latest") == InterpreterVersion.parse("1.0.3")
    assert stale_tags(CONFIG, registry, place.store, FakeNotary()) == []
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_a_backport_does_not_move_a_newer_releases_tags(place: Place) -> None:
    for version in ("1.1.0", "1.0.9", "1.0.8"):
        place.publish(place.push(version))

    registry = place.registry()
    found = {tag: str(version_at(registry, tag)) for tag in ("1", "1-1", "1-1.0", "1-1.1")}

    assert found == {"1": "1.1.0", "1-1": "1.1.0", "1-1.0": "1.0.9", "1-1.1": "1.1.0"}


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_a_fault_that_passes_does_not_keep_images_from_being_pushed(
    place: Place, proxy: FaultProxy, fault: Fault
) -> None:
    """It meets the first request of every kind."""
    chosen = {"PUT"} if isinstance(fault, CutUpload) else {"GET", "HEAD", "POST", "PUT"}
    kinds = [(method, path) for method, path in REQUESTS if method in chosen]
    for method, path in kinds:
        proxy.spoil(fault, method=method, path=path)

    pushed(through(place, proxy), place.push())

    assert proxy.struck == len(kinds)


def digest_in(seen: Seen) -> str:
    """Return the digest that a request is about; the beginning of an upload has none."""
    found = re.search("sha256(:|-|%3A)[0-9a-f]+", seen.path)
    return found[0] if found else ""


def test_a_fault_that_stays_ends_in_an_error_after_which_a_run_goes_on(
    place: Place, proxy: FaultProxy
) -> None:
    registry, push = through(place, proxy), place.push()
    for method, path in REQUESTS[1:6:2]:
        for fault, requests in ((Status(503), RETRY.attempts), (Status(403), 1)):
            proxy.mend()
            proxy.spoil(fault, method=method, path=path, times=math.inf)
            with pytest.raises(DestinationError, match=f"HTTP {fault}"):
                pushed(registry, push, parallel=1)
            asked = Counter(digest_in(seen) for seen in proxy.seen if seen.fault is not None)
            # Before the error is seen, work on another blob or manifest may have begun.
            allowed = {requests, 2 * requests} if method == "POST" else {requests}
            assert set(asked.values()) <= allowed, f"{method} {path}: {fault}: {asked}"
    proxy.mend()

    pushed(registry, push)

    assert proxy.struck == 0


def test_a_tag_that_meets_a_fault_is_moved_all_the_same(place: Place, proxy: FaultProxy) -> None:
    registry, push = through(place, proxy), place.push()
    pushed(registry, push)
    place.announce(push)
    proxy.spoil(Reset(after=True), method="PUT", path="/manifests/latest$")
    proxy.spoil(Status(429, {"Retry-After": "0"}), method="PUT", path="/manifests/1$")

    move_tags(CONFIG, registry, place.store, FakeNotary())

    assert proxy.struck == 2
    assert stale_tags(CONFIG, registry, place.store, FakeNotary()) == []
