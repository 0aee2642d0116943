"""PyPy from its own repository, or from what git has configured instead of it.

Only the sources are fetched: a translation takes an hour, so it is done where it is asked for.
"""

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.effects.files import sha256_of
from tests.integration.conftest import ROOT, Project, copy_project

pytestmark = [pytest.mark.network, pytest.mark.slow]

REPOSITORY: Final = "https://github.com/pypy/pypy.git"
PATIENCE: Final = 20
LONGEST: Final = 6 * 3600
COMMIT: Final = "194f9f44b50552d75484d67cda6e2b36607dee0c"
RELEASE: Final = "pypy3.11-v7.3.23"
STEM: Final = f"{RELEASE}-linux64"
TRANSLATES: Final = "PIPELINE_TRANSLATES_PYPY"
SMALLEST: Final = {
    'directory = "pypy/goal"': 'directory = "rpython/translator/goal"',
    'rpython_target = ".*"': 'rpython_target = "targetnopstandalone.py"',
    "jit = true": "jit = false",
    "products = .*": 'products = ["rpython/translator/goal/targetnopstandalone-c"]',
}


@pytest.fixture(scope="module")
def repository() -> None:
    """PyPy's repository; without an answer of it the tests are skipped."""
    try:
        asked = subprocess.run(
            ["git", "ls-remote", REPOSITORY, "refs/heads/py3.11"],
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{REPOSITORY} did not answer within {PATIENCE} s")
    if asked.returncode != 0 or "refs/heads/py3.11" not in asked.stdout:
        pytest.skip(f"{REPOSITORY} cannot be had: {asked.stderr.strip()[-200:]}")


@pytest.fixture(scope="module")
def pypy(repository: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose work directory fetches each commit once for all tests."""
    del repository
    return copy_project(tmp_path_factory.mktemp("pypy"), jit=True)


def planned(project: Project, *arguments: str) -> dict[str, Any]:
    """Return the one release of the plan."""
    plan = json.loads(project.run("plan", *arguments, "--json").stdout)
    (release,) = plan["releases"]
    assert isinstance(release, dict)
    return release


def source_archive(project: Project) -> Path:
    """Run the source stage, and return the archive that is released."""
    project.run("source", "pypy3.11", "--pypy-version", "7.3.23")
    (made,) = (project.work / "stages" / "source").glob(f"*/{RELEASE}-src.tar.gz")
    return made


def test_the_plan_of_a_release_has_upstream_s_names(pypy: Project) -> None:
    release = planned(pypy, "pypy3.11", "--pypy-version", "7.3.23")

    assert set(release["urls"]) == {
        *(f"{STEM}.tar.gz", f"{STEM}.tar.zst", f"{STEM}-debug.tar.zst", f"{RELEASE}-src.tar.gz"),
        *(f"{RELEASE}-provenance.json", f"{RELEASE}-manifest.json"),
        *("SHA256SUMS", "SHA256SUMS.asc", "KEY.asc"),
    }
    assert release["revision"]["revision"] == COMMIT
    assert release["revision"]["tag"] == "release-pypy3.11-v7.3.23"
    assert (release["version"], release["language_version"]) == ("7.3.23", "3.11.15")


def test_the_source_archive_names_its_commit_and_is_the_same_everywhere(
    pypy: Project, tmp_path: Path
) -> None:
    (tmp_path / "another place").mkdir()
    other = copy_project(tmp_path / "another place", jit=True)

    first, second = source_archive(pypy), source_archive(other)

    assert first.name == f"{RELEASE}-src.tar.gz"
    assert sha256_of(first) == sha256_of(second)
    with tarfile.open(first) as archive:
        names = archive.getnames()
        member = archive.extractfile(f"{RELEASE}-src/.hg_archival.txt")
        assert member is not None
        archival = member.read().decode().splitlines()
    assert archival[0] == f"node: {COMMIT[:12]}"
    assert archival[-1] == "tag: release-pypy3.11-v7.3.23"
    assert {name.split("/", 1)[0] for name in names} == {f"{RELEASE}-src"}
    assert f"{RELEASE}-src/pypy/goal/targetpypystandalone.py" in names


def test_a_version_that_is_not_pinned_is_refused_with_the_line_to_add(pypy: Project) -> None:
    ran = pypy.run("plan", "pypy3.11", "--pypy-version", "7.3.22", check=False)

    assert ran.status == 14
    assert 'add: "7.3.22" = "dc0121776214d22992eb500124d00348d6f6066f"' in ran.stderr
    assert ran.stdout == ""


def test_a_nightly_is_named_by_the_number_and_the_commit_of_its_branch(pypy: Project) -> None:
    release = planned(pypy, "pypy3.12", "--channel", "nightly")

    revision = release["revision"]
    source = f"{revision['number']}-{revision['revision'][:12]}"
    assert re.fullmatch(r"1[0-9]{5,}-[0-9a-f]{12}", source)
    assert re.fullmatch(rf"pypy3\.12-nightly-\d{{4}}-\d\d-\d\d-{source}", release["release"])
    assert f"pypy-c-jit-{source}-linux64.tar.gz" in release["urls"]
    assert revision["branch"] == "py3.12"


@pytest.mark.docker
def test_the_phases_of_the_newest_toolchain_are_shown(repository: None, tmp_path: Path) -> None:
    """On the smallest program that its own repository has."""
    del repository
    project = copy_project(tmp_path, jit=True)
    config = project.configs / "pypy3.12.toml"
    text = config.read_text(encoding="utf-8")
    for before, after in SMALLEST.items():
        text, count = re.subn(f"(?m)^{before}$", after, text)
        assert count == 1, before
    config.write_text(text, encoding="utf-8")

    ran = project.run("translate", "pypy3.12", "--channel", "nightly")

    (path,) = (project.work / "stages" / "translate").glob("*/record.json")
    done = [phase["name"] for phase in json.loads(path.read_text(encoding="utf-8"))["phases"]]
    shown = re.findall(r"translate pypy3.12-linux-x86_64: (\w+) \(", ran.stderr)
    assert {"annotate", "rtype_lltype", "database_c", "compile_c"} <= set(shown) <= set(done)


@pytest.mark.docker
@pytest.mark.gpg
@pytest.mark.skipif(
    not os.environ.get(TRANSLATES), reason=f"takes an hour; set {TRANSLATES}=1 to run it"
)
def test_a_release_of_pypy_is_made_and_signed(pypy: Project) -> None:
    command = pypy.command("release", "pypy3.11", "--pypy-version", "7.3.23")
    environment = {**os.environ, **pypy.environment}

    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=LONGEST)

    directory = pypy.store / "pypy" / RELEASE
    manifest = json.loads((directory / f"{RELEASE}-manifest.json").read_text(encoding="utf-8"))
    (facts,) = manifest["platforms"]
    assert (facts["gc"], facts["jit"], facts["skipped_modules"]) == ("incminimark", True, [])
    assert {"_ssl", "sqlite3", "lzma", "_tkinter"} <= set(facts["modules"])
    assert {"RUN02", "RUN05", "RUN07", "IDN03", "OPT02", "OPT03", "DBG01"} <= set(facts["gates"])
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=directory, check=True)
    entries = json.loads((pypy.store / "pypy" / "versions.json").read_text(encoding="utf-8"))
    assert [(entry["pypy_version"], entry["python_version"]) for entry in entries] == [
        ("7.3.23", "3.11.15")
    ]
