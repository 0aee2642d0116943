"""The store's metadata and archives, installed by the real uv.

The archive holds Debian's own PyPy in upstream's layout: real bytes for a real client, long
before the pipeline translates PyPy itself.
"""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from pipeline.effects.archives import Compression, entries_of, unpack, write_archive
from pipeline.effects.files import describe
from pipeline.effects.store import LocalStore
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.ledger import Published, PublishedPlatform
from pipeline.model.records import Revision
from pipeline.model.versions import InterpreterVersion
from pipeline.publish.ledger import append
from tests.integration.conftest import Project, notary_of

pytestmark = [pytest.mark.docker, pytest.mark.gpg, pytest.mark.network, pytest.mark.slow]

STEM = "pypy3.9-v7.3.11-linux64"
# Debian splits PyPy over /usr; this puts it into upstream's layout.
ASSEMBLE = f"""
set -e
apt-get update -qq
apt-get install -qq -y --no-install-recommends pypy3 >/dev/null
top=/made/{STEM}
mkdir -p $top/bin $top/lib
cp /usr/bin/pypy3.9 $top/bin/ 2>/dev/null || cp -L /usr/bin/pypy3 $top/bin/pypy3.9
cp /usr/lib/*/libpypy3.9-c.so $top/bin/
cp -R /usr/lib/pypy3.9 $top/lib/pypy3.9
rm -f $top/lib/pypy3.9/EXTERNALLY-MANAGED
find $top -name __pycache__ -prune -exec rm -r {{}} +
for library in $(ldd $top/bin/libpypy3.9-c.so | grep -oE '/[^ ]*lib(ffi|expat)[^ ]*'); do
  cp -L $library $top/bin/
done
for link in pypy pypy3 python python3 python3.9; do ln -s pypy3.9 $top/bin/$link; done
"""


@pytest.fixture(scope="session")
def pypy(fast: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with Debian's PyPy, packed by our own writer."""
    records = [json.loads(path.read_text()) for path in fast.work.glob("cache/environments/*")]
    image = next(item["image_id"] for item in records if item["name"] == "clean-newer")
    client = docker.from_env()
    container = client.containers.run(image, ["sh", "-c", ASSEMBLE], detach=True)
    directory = tmp_path_factory.mktemp("pypy")
    try:
        assert container.wait()["StatusCode"] == 0, container.logs().decode()
        with (directory / "made.tar").open("wb") as stream:
            for chunk in container.get_archive(f"/made/{STEM}")[0]:
                stream.write(chunk)
    finally:
        container.remove(force=True)
    unpack(directory / "made.tar", directory)
    archive = directory / f"{STEM}.tar.gz"
    entries = entries_of(directory / STEM, STEM)
    write_archive(archive, entries, epoch=1_700_000_000, compression=Compression.GZIP)
    return archive


@pytest.fixture
def published(pypy: Path, fast: Project, tmp_path: Path) -> Project:
    """A store that holds the archive, recorded in its ledger."""
    project = Project(configs=fast.configs, work=tmp_path / "work", environment={"CI": "1"})
    store = LocalStore(project.store)
    artifact = describe(pypy, ArtifactKind.ARCHIVE_GZ, "linux-x86_64")
    key = f"pypy/pypy3.9-v7.3.11/{artifact.filename}"
    store.put_new(key, pypy, content_type="application/gzip")
    event = Published(
        sequence=1,
        at=datetime(2026, 11, 21, tzinfo=UTC),
        by="tests",
        reason="a release",
        channel="release",
        product="pypy",
        release="pypy3.9-v7.3.11",
        interpreter="pypy3.9",
        implementation="pypy",
        interpreter_version=InterpreterVersion.parse("7.3.11"),
        language_version="3.9.16",
        stable=True,
        source=Revision(kind="git", revision="0" * 40, number=1, epoch=1_700_000_000),
        input_key="0" * 64,
        manifest_sha256="0" * 64,
        fingerprint="0" * 40,
        platforms=(PublishedPlatform(platform="linux-x86_64", jit=True, glibc_floor="2.31"),),
        files=(artifact,),
    )
    append(store, notary_of(project), lambda _state: event)
    return project


def uv_install(address: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "UV_PYTHON_DOWNLOADS_JSON_URL": f"{address}/pypy/uv.json",
        "UV_PYTHON_INSTALL_DIR": str(directory / "pythons"),
        "UV_CACHE_DIR": str(directory / "cache"),
    }
    return subprocess.run(
        ["uv", "python", "install", "pypy3.9", "--no-bin"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_uv_installs_from_a_served_store(
    published: Project, serve: Callable[[Project], str], tmp_path: Path
) -> None:
    address = serve(published)
    published.run("reconcile", "--base-url", address)

    done = uv_install(address, tmp_path)

    assert done.returncode == 0, done.stderr
    (python,) = (tmp_path / "pythons").glob("pypy-3.9.16-*/bin/python")
    code = "import sys; print(sys.implementation.name, sum(range(10)))"
    ran = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "pypy 45\n"


def test_uv_refuses_an_archive_that_was_altered(
    published: Project, serve: Callable[[Project], str], tmp_path: Path
) -> None:
    address = serve(published)
    published.run("reconcile", "--base-url", address)
    archive = published.store / "pypy" / "pypy3.9-v7.3.11" / f"{STEM}.tar.gz"
    with archive.open("ab") as stream:
        stream.write(b"one more")

    done = uv_install(address, tmp_path)

    assert done.returncode != 0
    assert "hash" in done.stderr.lower()


def test_upstreams_rules_hold_for_the_index(published: Project) -> None:
    published.run("reconcile", "--base-url", "http://127.0.0.1:8377")

    (entry,) = json.loads((published.store / "pypy" / "versions.json").read_text())
    (file,) = entry["files"]

    assert entry["latest_pypy"] is True
    assert (file["arch"], file["platform"]) == ("x64", "linux")
    assert entry["pypy_version"] in file["download_url"]
    assert file["filename"] in file["download_url"]


def test_the_demo_is_not_offered_to_uv(fast: Project) -> None:
    """Uv knows pypy, not the demo."""
    assert json.loads((fast.store / "demo" / "uv.json").read_text()) == {}
