"""A publication that is killed after any remote call: no reader sees a part, and it can be ended.

The table is printed with ``-s``.
"""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Project
from tests.integration.polling import Follower, Seen
from tests.integration.s3 import S3Server
from tests.integration.servers import directory_server

pytestmark = [pytest.mark.docker, pytest.mark.gpg, pytest.mark.slow]

Tree = Mapping[str, str]
# Signatures and events of one moment are equal; it is not before the key was made.
MOMENT = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


@pytest.fixture(scope="module")
def ready(fast: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose release and nightly are built and signed, so that only publishing is left.

    Its signatures are of one fixed time, so that equal ledgers have equal bytes.
    """
    directory = tmp_path_factory.mktemp("ready") / "copy"
    subprocess.run(["cp", "-a", str(fast.configs.parent), str(directory)], check=True)
    project = Project(
        configs=directory / "translation_configs", work=directory / "out", environment={"CI": "1"}
    )
    project.run("sign", "--channel", "nightly")
    options = project.work / "keys" / "gnupg" / "gpg.conf"
    options.write_text(f"faked-system-time {MOMENT:%Y%m%dT%H%M%S}!\n")
    return project


def crash_matrix(
    project: Project, work: Path, stores: str, base_url: str, *, stride: int = 1
) -> tuple[list[dict[str, Any]], Seen]:
    """Run the driver with a client that follows the indexes all the time.

    The kill comes after each call, or after each *stride*-th one.
    """
    current = work / "current"
    places = ["--store", "{store}", "--base-url", "{base_url}"]
    common = ["--configs", str(project.configs), "--work", str(project.work)]
    plan = {
        "seed": ["release", *common, *places],
        "argv": ["nightly", *common, *places],
        "stores": stores,
        "base_url": base_url,
        "current": str(current),
        "work": str(work),
        "now": MOMENT.isoformat(),
        "stride": stride,
    }
    (work / "plan.json").write_text(json.dumps(plan))
    follower = Follower(lambda: current.read_text() if current.exists() else None, "demo")
    follower.start()
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.crash_driver", str(work / "plan.json")],
        cwd=ROOT,
        env={**os.environ, **project.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], follower.end()


def check(
    rows: list[dict[str, Any]], seen: Seen, trees: Mapping[int, Tree], where: str, stride: int = 1
) -> None:
    """Compare every resumed store with the one whose run nobody killed; print the figures."""
    whole = trees[rows[-1]["number"]]
    kills = [row for row in rows if row["killed"]]
    failures = [row["number"] for row in rows if row["status"] or trees[row["number"]] != whole]
    again = {row["number"]: set(row["first"]) & set(row["then"]) for row in kills}
    twice = {number: keys for number, keys in again.items() if keys}
    sys.stdout.write(
        f"\ncrash matrix, {where}: {len(kills)} kills, failures {len(failures)}, re-uploads "
        f"{len(twice)}; a client followed the indexes {seen.rounds} times, {seen.files} files, "
        f"{len(seen.wrong)} wrong\n"
    )
    assert failures == []
    assert twice == {}
    assert seen.wrong == []
    assert seen.rounds >= len(kills)
    assert stride * len(kills) > 20


def digests(directory: Path, number: int) -> Tree:
    """Return what readers can see in a directory store; pointers by where they lead.

    A store's own address, which is in the indexes, has its number: that is taken out.
    """
    return {
        path.relative_to(directory).as_posix(): str(path.readlink())
        if path.is_symlink()
        else digest(path.read_bytes(), number)
        for path in sorted(directory.rglob("*"))
        if (path.is_symlink() or path.is_file()) and ".incoming" not in path.parts
    }


def digest(data: bytes, number: int) -> str:
    """Return the sha256 of *data* without the number of the store it is from."""
    return hashlib.sha256(data.replace(f"store-{number}/".encode(), b"store/")).hexdigest()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server for a directory of stores."""
    with directory_server(tmp_path / "stores") as address:
        yield address


def test_a_directory_killed_after_every_call(ready: Project, tmp_path: Path, served: str) -> None:
    stores = tmp_path / "stores"
    rows, seen = crash_matrix(
        ready, tmp_path, f"{stores}/store-{{number}}", f"{served}/store-{{number}}"
    )

    trees = {row["number"]: digests(Path(row["store"]), row["number"]) for row in rows}
    check(rows, seen, trees, "directory")


def with_s3(project: Project, server: S3Server, directory: Path) -> Project:
    """Return a copy of *project* whose channels know the server."""
    subprocess.run(["cp", "-a", str(project.configs.parent), str(directory)], check=True)
    copied = Project(
        configs=directory / "translation_configs",
        work=directory / "out",
        environment={**project.environment, **server.environment},
    )
    options = (
        f's3 = {{ endpoint = "{server.endpoint}", region = "us-east-1", addressing = "path" }}'
    )
    copied.edit("channels.toml", ("[release]", f"[release]\n{options}"))
    copied.edit("channels.toml", ("[nightly]", f"[nightly]\n{options}"))
    return copied


def test_a_bucket_killed_after_every_answer(ready: Project, tmp_path: Path, ceph: S3Server) -> None:
    """The server is a real one, and readers ask it without an account.

    A directory is killed after every call; here after each third one, unless ``RPP_CRASH_STRIDE``
    says otherwise, since a round takes seconds.
    """
    stride = int(os.environ.get("RPP_CRASH_STRIDE", "3"))
    project = with_s3(ready, ceph, tmp_path / "project")
    bucket = ceph.bucket(f"crash-{uuid.uuid4().hex}")
    place = f"{bucket}/store-{{number}}"

    rows, seen = crash_matrix(
        project, tmp_path, f"s3://{place}", f"{ceph.endpoint}/{place}", stride=stride
    )

    trees: dict[int, dict[str, str]] = {row["number"]: {} for row in rows}
    for name, data in ceph.objects(bucket).items():
        store, _, key = name.partition("/")
        number = int(store.removeprefix("store-"))
        trees[number][key] = digest(data, number)
    check(rows, seen, trees, "Ceph", stride)
