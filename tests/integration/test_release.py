"""The main job: from configuration to a store that stock programs accept."""

import hashlib
import json
import os
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Project

pytestmark = [pytest.mark.docker, pytest.mark.gpg, pytest.mark.slow]

STEM = "demo-v1.0.0-linux64"


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def of_the_key(first: dict[str, str], second: dict[str, str]) -> bool:
    """Whether two releases differ just by their keys: what names the key, and what lists that."""
    different = {name for name in first if first[name] != second.get(name)}
    provenance = {name for name in first if name.endswith("-provenance.json")}
    return (
        first.keys() == second.keys()
        and len(provenance) == 1
        and different == {"KEY.asc", "SHA256SUMS", "SHA256SUMS.asc", *provenance}
    )


def test_the_plan_names_exactly_what_comes_out(fast: Project) -> None:
    planned = json.loads(fast.run("plan", "--json").stdout)["releases"][0]["urls"]

    made = {path.name for path in (fast.store / "demo" / "demo-v1.0.0").iterdir()}

    assert made == set(planned)


def test_a_second_release_runs_no_stage_and_changes_nothing(fast: Project) -> None:
    before = digests(fast.work)

    again = fast.run("release")

    after = digests(fast.work)
    # The lock names the process that holds it.
    assert [name for name in after if after[name] != before.get(name)] == [".lock"]
    assert after.keys() == before.keys()
    assert not [line for line in again.stderr.splitlines() if line.startswith("done translate")]
    assert "was published already, nothing to do" in again.stderr


def test_a_second_release_needs_no_engine(fast: Project) -> None:
    again = fast.run("release", DOCKER_HOST="tcp://127.0.0.1:1")

    assert "was published already" in again.stderr


def test_a_user_downloads_checks_and_runs_it_with_stock_programs(
    fast: Project, serve: Callable[[Project], str], tmp_path: Path
) -> None:
    address = serve(fast)
    made = (f"{STEM}.tar.gz", f"{STEM}.tar.zst")
    described = ("demo-v1.0.0-provenance.json", "demo-v1.0.0-manifest.json")
    for name in (*made, *described, "SHA256SUMS", "SHA256SUMS.asc", "KEY.asc"):
        with urllib.request.urlopen(f"{address}/demo/demo-v1.0.0/{name}") as answer:
            assert answer.headers["Content-Encoding"] is None
            (tmp_path / name).write_bytes(answer.read())
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--homedir", str(home)]

    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)
    subprocess.run([*gpg, "--import", "KEY.asc"], cwd=tmp_path, check=True)
    subprocess.run([*gpg, "--verify", "SHA256SUMS.asc", "SHA256SUMS"], cwd=tmp_path, check=True)
    subprocess.run(["tar", "-xf", f"{STEM}.tar.gz"], cwd=tmp_path, check=True)
    ran = subprocess.run(
        [str(tmp_path / STEM / "bin" / "demo"), "-c", "print(6 * 7);"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert ran.stdout == "42\n"


def test_one_altered_byte_fails_the_stock_check(fast: Project, tmp_path: Path) -> None:
    directory = fast.store / "demo" / "demo-v1.0.0"
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    altered = bytearray((tmp_path / f"{STEM}.tar.gz").read_bytes())
    altered[len(altered) // 2] ^= 1
    (tmp_path / f"{STEM}.tar.gz").write_bytes(altered)

    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )

    assert checked.returncode == 1


def test_the_index_lists_the_archive_with_digest_and_size(fast: Project) -> None:
    index = json.loads((fast.store / "demo" / "versions.json").read_text())
    archive = fast.store / "demo" / "demo-v1.0.0" / f"{STEM}.tar.gz"

    (entry,) = index
    (file,) = entry["files"]

    assert (entry["pypy_version"], entry["stable"], entry["latest_pypy"]) == ("1.0.0", True, True)
    assert file["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert file["size"] == archive.stat().st_size


def test_a_damaged_index_is_repaired(fast_copy: Project) -> None:
    index = fast_copy.store / "demo" / "versions.json"
    good = index.read_bytes()
    index.write_bytes(b"[]")

    checked = fast_copy.run("reconcile", "--check", check=False)
    fast_copy.run("reconcile")

    assert checked.status == 1
    assert "http://127.0.0.1:8377/demo/versions.json" in checked.stderr
    assert index.read_bytes() == good


def test_the_archive_describes_how_it_was_built(fast: Project) -> None:
    archive = fast.store / "demo" / "demo-v1.0.0" / f"{STEM}.tar.gz"

    with tarfile.open(archive) as opened:
        member = opened.extractfile(f"{STEM}/BUILD-INFO.json")
        assert member is not None
        info = json.load(member)

    assert info["gc"] == "incminimark"
    assert {"--gc=incminimark", "--opt=2"} <= set(info["command"])


def test_the_provenance_says_what_the_archive_says_of_its_build(fast: Project) -> None:
    directory = fast.store / "demo" / "demo-v1.0.0"
    with tarfile.open(directory / f"{STEM}.tar.gz") as opened:
        member = opened.extractfile(f"{STEM}/BUILD-INFO.json")
        assert member is not None
        info = json.load(member)

    statement = json.loads((directory / "demo-v1.0.0-provenance.json").read_text())

    stated = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
    assert stated == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.glob("*.tar.*")
    }
    definition = statement["predicate"]["buildDefinition"]
    (build,) = definition["internalParameters"]["builds"].values()
    assert (build["gc"], build["jit"], build["mode"]) == (info["gc"], info["jit"], info["mode"])
    assert build["command"] == info["command"]
    source, *pinned, environment = definition["resolvedDependencies"]
    assert source["digest"] == {"treeSha256": info["source"]["revision"]}
    assert {item["digest"]["sha256"] for item in pinned} == set(info["pins"].values())
    assert environment["digest"] == {"environmentSha256": info["environment"]}


def test_the_demo_as_shipped_compiles_loops(full: Project) -> None:
    """The release that the README promises: with its JIT, proved by the gates."""
    directory = full.store / "demo" / "demo-v1.0.0"

    manifest = json.loads((directory / "demo-v1.0.0-manifest.json").read_text())

    (facts,) = manifest["platforms"]
    assert (facts["gc"], facts["jit"]) == ("incminimark", True)
    assert {"OPT01", "OPT02", "OPT03", "RUN01"} <= set(facts["gates"])


def test_a_nightly_is_published_beside_the_release(fast_copy: Project) -> None:
    fast_copy.run("nightly")

    (nightly,) = (fast_copy.store / "demo").glob("demo-nightly-*-20261121-*")
    entries = json.loads((fast_copy.store / "demo" / "versions.json").read_text())
    assert [entry["pypy_version"] for entry in entries] == ["1.0.0", "nightly"]
    assert (nightly / "SHA256SUMS.asc").is_file()


def test_a_nightly_of_the_same_inputs_is_not_made_again(fast_copy: Project) -> None:
    fast_copy.run("nightly")
    before = digests(fast_copy.store)

    again = fast_copy.run("nightly")

    assert "not made, its inputs are those of demo-nightly-" in again.stderr
    assert digests(fast_copy.store) == before


def test_a_ledger_that_somebody_else_wrote_is_refused(fast_copy: Project) -> None:
    """Whoever can write into a store must not be able to write its history anew."""
    ledger = fast_copy.store / "ledger.json"
    good = ledger.read_bytes()
    ledger.write_bytes(good.replace(b"demo-v1.0.0-linux64", b"demo-v1.0.0-evil999"))

    changed = fast_copy.run("reconcile", check=False)
    ledger.write_bytes(good)
    subprocess.run(["rm", "-r", str(fast_copy.work / "keys")], check=True)
    stranger = fast_copy.run("reconcile", check=False)

    assert (changed.status, stranger.status) == (51, 51)
    assert "is not a good signature" in changed.stderr
    assert "which is not trusted here (trusted: none)" in stranger.stderr
    assert not (fast_copy.work / "keys").exists()


def test_a_staged_release_is_in_no_index(fast_copy: Project) -> None:
    store = fast_copy.work / "other"

    fast_copy.run("release", "--stage", "--store", str(store))

    assert (store / "demo" / "demo-v1.0.0" / f"{STEM}.tar.gz").is_file()
    assert json.loads((store / "demo" / "versions.json").read_text()) == []


def test_a_dry_run_does_nothing(project: Project) -> None:
    ran = project.run("release", "--dry-run", DOCKER_HOST="tcp://127.0.0.1:1")

    assert "demo-linux-x86_64  to do, from source on" in ran.stderr
    assert not (project.work / "stages").exists()
    assert not project.store.exists()


@pytest.mark.parametrize("verb", ["source", "translate", "package", "verify", "sign"])
def test_a_stage_alone_ends_there(fast_copy: Project, verb: str) -> None:
    fast_copy.run(verb, "--store", str(fast_copy.work / "other"))

    assert not (fast_copy.work / "other").exists()


def test_publishing_alone_makes_no_release_yet(fast_copy: Project) -> None:
    """The ledger decides: files without an event are in no index."""
    store = fast_copy.work / "other"

    fast_copy.run("publish", "--store", str(store))

    assert (store / "demo" / "demo-v1.0.0" / f"{STEM}.tar.gz").is_file()
    assert not (store / "ledger.json").exists()
    assert not (store / "demo" / "versions.json").exists()


def test_a_failing_gate_stops_before_anything_is_signed(fast_copy: Project) -> None:
    for stage in ("verify", "sign"):
        subprocess.run(["rm", "-r", str(fast_copy.work / "stages" / stage)], check=True)
    fast_copy.edit("platforms.toml", ('glibc_floor = "2.31"', 'glibc_floor = "2.10"'))

    ran = fast_copy.run("release", "--store", str(fast_copy.work / "other"), check=False)

    assert ran.status == 40
    assert f"ELF03 glibc floor: {STEM}/bin/demo:" in ran.stderr
    assert "expected at most the declared floor 2.10" in ran.stderr
    assert not (fast_copy.work / "other").exists()
    assert not list((fast_copy.work / "stages").glob("sign/*"))


def test_other_umask_zone_locale_user_and_place_give_identical_archives(
    fast: Project, project: Project
) -> None:
    """Also the assembled tree and the compressed bytes; each project has a key of its own."""
    environment = {
        **os.environ, "CI": "1", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "tr_TR.UTF-8",
        "USER": "somebody", "LOGNAME": "somebody", "HOME": str(project.work.parent),
    }  # fmt: skip
    place = project.work.parent / "another place with a long name"
    place.mkdir()
    command = ["sh", "-c", 'umask 077; exec "$@"', "sh", *project.command("release")]

    subprocess.run(command, env={**environment, "PYTHONPATH": os.getcwd()}, cwd=place, check=True)  # noqa: PTH109

    first, second = (digests(found.store / "demo" / "demo-v1.0.0") for found in (fast, project))
    assert of_the_key(first, second)
