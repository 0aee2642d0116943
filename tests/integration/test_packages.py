"""A release with all that a channel can have beside archives: apt, images, a tap.

The demo is released, installed by real clients before and after it is public, yanked and offered
again; and its packages and images are made once more in another place, to the same bytes.
"""

import json
import platform
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Project, Ran, copy_project
from tests.integration.registry import running_registry

pytestmark = [
    pytest.mark.docker,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="released for the worker's own"),
]

RELEASE = "demo-v1.0.0"


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A project whose channel has everything, released once."""

    project: Project
    port: int
    tap: Path
    released: Ran

    @property
    def packages(self) -> str:
        """What apt lists for bookworm."""
        return (
            self.project.work / "store/dists/bookworm/release/binary-amd64/Packages"
        ).read_text()

    @property
    def tags(self) -> set[str]:
        """The tags of the demo's images, but for those that stand for lists of referrers."""
        url = f"http://127.0.0.1:{self.port}/v2/shop/demo/tags/list"
        with urllib.request.urlopen(url) as answer:
            listed = json.load(answer)["tags"] or []
        return {tag for tag in listed if not tag.startswith("sha256-")}

    @property
    def formulas(self) -> set[str]:
        """The formulas in the tap."""
        listed = subprocess.run(
            ["git", "-C", self.tap, "ls-tree", "-r", "--name-only", "main", "Formula/"],
            capture_output=True,
            text=True,
            check=True,
        )
        return set(listed.stdout.split())

    def digest(self, tag: str) -> str:
        """Return the digest that a tag leads to."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/shop/demo/manifests/{tag}",
            headers={"Accept": "application/vnd.oci.image.index.v1+json"},
            method="HEAD",
        )
        with urllib.request.urlopen(request) as answer:
            return str(answer.headers["Docker-Content-Digest"])


def with_everything(place: Path, fast: Project, port: int) -> Project:
    """Return a project whose channel has everything; the demo's archives are made already."""
    project = copy_project(place, jit=False)
    for directory in ("stages", "cache"):
        shutil.copytree(fast.work / directory, project.work / directory, symlinks=True)
    shutil.rmtree(project.work / "stages" / "sign")
    tap = place / "tap.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tap], check=True)
    tables = f"""
apt = {{ suites = ["bookworm"] }}
registry = {{ repository = "127.0.0.1:{port}/shop", plain_http = true }}
tap = {{ repository = "file://{tap}", author = "Shop <shop@example.org>" }}
"""
    for channel in ("release", "nightly"):
        project.edit("channels.toml", (f"[{channel}]", f"[{channel}]{tables}"))
    return project


@pytest.fixture(scope="module")
def shop(fast: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    place = tmp_path_factory.mktemp("shop")
    with running_registry(place / "registry") as port:
        project = with_everything(place / "project", fast, port)
        yield Shop(
            project=project,
            port=port,
            tap=place / "project" / "tap.git",
            released=project.run("release"),
        )


def files(store: Path) -> Mapping[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and ".incoming" not in path.parts
    }


def manifest(shop: Shop) -> dict[str, Any]:
    path = shop.project.work / "store" / "demo" / RELEASE / f"{RELEASE}-manifest.json"
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_real_clients_installed_it_before_and_after_it_was_public(shop: Shop) -> None:
    told = shop.released.stderr + shop.released.stdout

    assert told.count("version purged") == 2, told
    assert f"127.0.0.1:{shop.port}/shop/demo" in told


def test_packages_and_images_are_among_what_was_signed(shop: Shop) -> None:
    sums = shop.project.work / "store" / "demo" / RELEASE / "SHA256SUMS"

    assert "rpython-demo_1.0.0-1.deb12_amd64.deb" in sums.read_text()
    assert f"{RELEASE}-packages.json" in sums.read_text()
    assert [item["image"] for item in manifest(shop)["images"]] == ["demo"]


def test_made_in_another_place_packages_and_images_are_the_same(
    shop: Shop, fast: Project, tmp_path: Path
) -> None:
    other = with_everything(tmp_path, fast, shop.port)

    other.run("image")

    for stage in ("debian", "image"):
        (one,) = (shop.project.work / "stages" / stage).iterdir()
        (another,) = (other.work / "stages" / stage).iterdir()
        assert one.name == another.name
        assert files(one) == files(another)


def test_one_command_takes_a_release_from_every_client_and_another_gives_it_back(
    shop: Shop,
) -> None:
    packages, tags, formulas = shop.packages, shop.tags, shop.formulas
    digest = shop.digest("1.0-1.0.0-slim")
    assert "Package: rpython-demo\n" in packages
    assert {"1.0-slim", "1.0-1.0.0-slim", "1.0-1.0.0-slim-bookworm"} <= tags
    assert formulas

    shop.project.run("yank", "demo", "1.0.0", "--reason", "a try")

    assert (shop.packages, shop.tags, shop.formulas) == ("", set(), set())

    shop.project.run("unyank", "demo", "1.0.0")

    assert (shop.packages, shop.tags, shop.formulas) == (packages, tags, formulas)
    assert shop.digest("1.0-1.0.0-slim") == digest


def test_a_second_run_does_nothing(shop: Shop) -> None:
    before = files(shop.project.work / "store")

    again = shop.project.run("release")

    assert "finished before" in again.stderr + again.stdout
    assert files(shop.project.work / "store") == before


def test_what_users_get_is_installed_at_any_time(shop: Shop) -> None:
    done = shop.project.run("install-check", "--published", RELEASE)

    assert "version purged" in done.stderr + done.stdout


def test_a_channel_without_packages_has_none_to_make(fast_copy: Project) -> None:
    done = fast_copy.run("debian", check=False)

    assert done.status == 10
    assert "release has no apt" in done.stderr
