"""A release on its way to several places: it exists when all of them have it, and not before."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import Project
from tests.integration.github_server import REPOSITORY, TOKEN, Github, github_server
from tests.integration.servers import Bucket, s3_server

pytestmark = [pytest.mark.docker, pytest.mark.gpg, pytest.mark.slow]

CLOSED = "http://127.0.0.1:1"
RELEASE = "demo/demo-v1.0.0"


@pytest.fixture
def signed(fast: Project, tmp_path: Path) -> Project:
    """A project whose release is built and signed, with an empty store."""
    directory = tmp_path / "project"
    subprocess.run(["cp", "-a", str(fast.configs.parent), str(directory)], check=True)
    subprocess.run(["rm", "-r", str(directory / "out" / "store")], check=True)
    return Project(
        configs=directory / "translation_configs", work=directory / "out", environment={"CI": "1"}
    )


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """A bucket of a server that speaks S3's protocol."""
    with s3_server() as address:
        yield Bucket(address, "releases")


@pytest.fixture
def github() -> Iterator[Github]:
    """An empty repository."""
    with github_server() as served:
        yield served


def with_mirror(project: Project, bucket: Bucket, base_url: str) -> Project:
    """Return *project* with the bucket as a mirror of its release channel."""
    mirror = (
        f'mirrors = [{{ store = "s3://{bucket.name}", base_url = "{base_url}", '
        f's3 = {{ endpoint = "{bucket.endpoint}", addressing = "path" }} }}]'
    )
    project.edit("channels.toml", ("[release]", f"[release]\n{mirror}"))
    return replace(project, environment=bucket.environment)


def test_a_mirror_has_the_same_files_and_its_own_addresses(signed: Project, bucket: Bucket) -> None:
    project = with_mirror(signed, bucket, bucket.url)

    project.run("release")

    there = bucket.objects("")
    files = {path.name: path.read_bytes() for path in (project.store / RELEASE).iterdir()}
    assert {name: there[f"{RELEASE}/{name}"] for name in files} == files
    assert there["ledger.json"] == (project.store / "ledger.json").read_bytes()
    (entry,) = json.loads(there["demo/versions.json"])
    assert entry["files"][0]["download_url"].startswith(f"{bucket.url}/{RELEASE}/")


def test_what_a_bucket_says_of_its_objects(signed: Project, bucket: Bucket) -> None:
    project = with_mirror(signed, bucket, bucket.url)

    project.run("release")

    archive = bucket.client.head_object(
        Bucket=bucket.name, Key=f"{RELEASE}/demo-v1.0.0-linux64.tar.gz"
    )
    index = bucket.client.head_object(Bucket=bucket.name, Key="demo/versions.json")
    assert archive["ContentType"] == "application/gzip"
    assert "ContentEncoding" not in archive
    assert archive["CacheControl"] == "public, max-age=31536000, immutable"
    assert (index["ContentType"], index["CacheControl"]) == (
        "application/json",
        "public, max-age=60",
    )


def test_a_mirror_that_readers_cannot_reach_keeps_the_release_back(
    signed: Project, bucket: Bucket
) -> None:
    project = with_mirror(signed, bucket, CLOSED)

    ran = project.run("release", check=False)

    assert ran.status == 61
    assert f"{CLOSED}/{RELEASE}/" in ran.stderr
    assert "was not announced" in ran.stderr
    assert not (project.store / "ledger.json").exists()
    assert not (project.store / "demo" / "versions.json").exists()

    project.edit("channels.toml", (CLOSED, bucket.url))
    project.run("release")

    assert (project.store / "ledger.json").read_bytes() == bucket.objects("")["ledger.json"]


def with_github(project: Project, github: Github) -> Project:
    """Return *project* that copies its releases to the repository."""
    place = f'github = {{ repository = "{REPOSITORY}", api = "{github.urls["api"]}" }}'
    project.edit("channels.toml", ("[release]", f"[release]\n{place}"))
    return replace(project, environment={**project.environment, "GITHUB_TOKEN": TOKEN})


def test_a_release_is_copied_to_github_and_the_copy_follows_a_yank(
    signed: Project, github: Github
) -> None:
    project = with_github(signed, github)

    ran = project.run("release")

    files = {path.name: path.read_bytes() for path in (project.store / RELEASE).iterdir()}
    published = github.published("demo-v1.0.0")
    assert published is not None
    assert github.contents(published) == files
    again = project.run("release")
    assert "it is there already" in again.stderr
    project.run("yank", "demo-v1.0.0", "--reason", "it loses floats")
    yanked = github.published("demo-v1.0.0")
    assert yanked is not None
    assert (yanked.name, yanked.prerelease) == ("demo-v1.0.0 (yanked)", True)
    assert "it loses floats" in yanked.body
    written = b"".join(path.read_bytes() for path in project.work.rglob("*") if path.is_file())
    assert TOKEN not in ran.stderr + ran.stdout + again.stderr
    assert TOKEN.encode() not in written


def test_without_a_token_nothing_is_begun(signed: Project, github: Github) -> None:
    project = with_github(signed, github)

    ran = project.run("release", GITHUB_TOKEN="", check=False)

    assert ran.status == 66
    assert re.search(r"no GITHUB_TOKEN\. Put a token", ran.stderr)
    assert not project.store.exists()
