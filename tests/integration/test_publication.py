"""A release on its way to several places: it exists when all of them have it, and not before."""

import json
import math
import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from pipeline.effects.http import HttpClient
from pipeline.effects.retry import RetryPolicy
from pipeline.errors import DownloadError
from tests.integration.conftest import Project
from tests.integration.faults import CutAnswer, Fault, FaultProxy, Reset, Stall, Status
from tests.integration.github_server import REPOSITORY, TOKEN, Github, github_server
from tests.integration.s3 import S3Server, moto_server
from tests.integration.servers import directory_server

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
def server() -> Iterator[S3Server]:
    """A server that speaks S3's protocol, with the bucket of a mirror."""
    with moto_server() as served:
        yield served


@pytest.fixture
def bucket(server: S3Server) -> str:
    """A new bucket: the servers of one process share what they hold."""
    return server.bucket(f"mirror-{uuid.uuid4().hex}")


@pytest.fixture
def github() -> Iterator[Github]:
    """An empty repository."""
    with github_server() as served:
        yield served


def with_mirror(project: Project, server: S3Server, bucket: str, base_url: str) -> Project:
    """Return *project* with the bucket as a mirror of its channels."""
    options = f'{{ endpoint = "{server.endpoint}", region = "us-east-1", addressing = "path" }}'
    mirror = f'mirrors = [{{ store = "s3://{bucket}", base_url = "{base_url}", s3 = {options} }}]'
    for name in ("[release]", "[nightly]"):
        project.edit("channels.toml", (name, f"{name}\n{mirror}"))
    return replace(project, environment={**project.environment, **server.environment})


def test_a_mirror_has_the_same_files_and_its_own_addresses(
    signed: Project, server: S3Server, bucket: str
) -> None:
    address = f"{server.endpoint}/{bucket}"
    project = with_mirror(signed, server, bucket, address)

    project.run("release")

    there = server.objects(bucket)
    files = {path.name: path.read_bytes() for path in (project.store / RELEASE).iterdir()}
    assert {name: there[f"{RELEASE}/{name}"] for name in files} == files
    assert there["ledger.json"] == (project.store / "ledger.json").read_bytes()
    (entry,) = json.loads(there["demo/versions.json"])
    assert entry["files"][0]["download_url"].startswith(f"{address}/{RELEASE}/")


def test_what_a_bucket_says_of_its_objects(signed: Project, server: S3Server, bucket: str) -> None:
    project = with_mirror(signed, server, bucket, f"{server.endpoint}/{bucket}")

    project.run("release")

    client = server.client()
    archive = client.head_object(Bucket=bucket, Key=f"{RELEASE}/demo-v1.0.0-linux64.tar.gz")
    index = client.head_object(Bucket=bucket, Key="demo/versions.json")
    assert archive["ContentType"] == "application/gzip"
    assert not archive.get("ContentEncoding")
    assert archive["CacheControl"] == "public, max-age=31536000, immutable"
    assert (index["ContentType"], index["CacheControl"]) == (
        "application/json",
        "public, max-age=60",
    )


def test_a_mirror_that_readers_cannot_reach_keeps_the_release_back(
    signed: Project, server: S3Server, bucket: str
) -> None:
    project = with_mirror(signed, server, bucket, CLOSED)

    ran = project.run("release", check=False)

    assert ran.status == 61
    assert f"{CLOSED}/{RELEASE}/" in ran.stderr
    assert "was not announced" in ran.stderr
    assert not (project.store / "ledger.json").exists()
    assert not (project.store / "demo" / "versions.json").exists()

    project.edit(
        "channels.toml", (f'base_url = "{CLOSED}"', f'base_url = "{server.endpoint}/{bucket}"')
    )
    project.run("release")

    assert (project.store / "ledger.json").read_bytes() == server.data(bucket, "ledger.json")


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[FaultProxy]:
    """What stands between readers and a directory store, and can be spoiled."""
    with (
        directory_server(tmp_path / "public") as address,
        FaultProxy("127.0.0.1", urlsplit(address).port or 0) as proxy,
    ):
        yield proxy


PUBLIC_FAULTS: Final = (
    # What goes wrong, and whether a download is tried again.
    (Status(403), False),
    (Status(404), False),
    (Status(408), True),
    (Status(409), False),
    (Status(412), False),
    (Status(422), False),
    (Status(429, {"Retry-After": "0"}), True),
    (Status(500), True),
    (Status(503), True),
    (Reset(), True),
    (CutAnswer(), True),
    (Stall(), True),
)


@pytest.mark.parametrize(("fault", "is_retried"), PUBLIC_FAULTS, ids=str)
def test_what_readers_get_is_asked_again_only_where_that_may_help(
    fault: Fault,
    is_retried: bool,  # noqa: FBT001 - a parameter of the test
    proxied: FaultProxy,
    tmp_path: Path,
) -> None:
    (tmp_path / "public").mkdir(exist_ok=True)
    (tmp_path / "public" / "file.tar.gz").write_bytes(b"bytes" * 1000)
    waits: list[float] = []
    policy = RetryPolicy(attempts=3, first_wait=0.01, sleep=waits.append)
    client = HttpClient(policy, read_timeout=1.0)
    url = f"{proxied.address}/file.tar.gz"

    proxied.spoil(fault)
    once = outcome(client, url, tmp_path)
    asked_once = len(proxied.seen)
    proxied.mend()
    proxied.spoil(fault, times=math.inf)
    always = outcome(client, url, tmp_path)

    assert (once, asked_once) == (("had", 2) if is_retried else ("error", 1))
    assert (always, len(proxied.seen)) == ("error", 3 if is_retried else 1)


def outcome(client: HttpClient, url: str, directory: Path) -> str:
    """Return what a download comes to; what was had is right."""
    try:
        received = client.receive(url, directory / "saved", limit=5000)
    except DownloadError:
        return "error"
    assert received.size == 5000
    assert (directory / "saved").read_bytes() == b"bytes" * 1000
    return "had"


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
    assert "it loses floats" in (yanked.body or "")
    written = b"".join(path.read_bytes() for path in project.work.rglob("*") if path.is_file())
    assert TOKEN not in ran.stderr + ran.stdout + again.stderr
    assert TOKEN.encode() not in written


def test_without_a_token_nothing_is_begun(signed: Project, github: Github) -> None:
    project = with_github(signed, github)

    ran = project.run("release", GITHUB_TOKEN="", check=False)

    assert ran.status == 66
    assert re.search(r"no GITHUB_TOKEN\. Put a token", ran.stderr)
    assert not project.store.exists()
