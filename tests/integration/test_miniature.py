"""From a git source through upstream's own packager to a store, with a miniature upstream.

The demo's source is in it, so a translation takes a minute; it is made once for all tests that do
not say otherwise. What it does not have (a Python) is tried with PyPy itself: test_pypy.py.
"""

import ctypes
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import zstandard

from tests.integration.conftest import Project, Ran, copy_project
from tests.integration.miniature import (
    DATA,
    FINAL,
    TAG,
    VERSION_FILE,
    Upstream,
    answer_archive,
    make_upstream,
)
from tests.integration.test_release import of_the_key

pytestmark = [pytest.mark.docker, pytest.mark.gpg, pytest.mark.slow]

RELEASE: Final = "mini-v1.0.0"
STEM: Final = f"{RELEASE}-linux64"
MODULE: Final = "lib/mini1.0/answer.mini-10-x86_64-linux-gnu.so"
TIMED_OUT: Final = 31
PACKAGE_FAILED: Final = 33
GATE_FAILED: Final = 40
SOURCE_REFUSED: Final = 14
HEADER: Final = (DATA / "answer-1.1" / "answer.h").read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Mini:
    """A project that is configured for an upstream of its own."""

    upstream: Upstream
    project: Project

    @property
    def released(self) -> Path:
        """The store's directory of the release."""
        return self.project.store / "mini" / RELEASE

    def pin(self, name: str, archive: bytes, version: str = "1.1") -> None:
        """Pin *archive*, and have it as if it had been downloaded: nothing answers at its URL."""
        digest, filename = hashlib.sha256(archive).hexdigest(), "answer-1.1.tar.gz"
        lines = (
            f"\n[pins.{name}]",
            f'version = "{version}"',
            f'filename = "{filename}"',
            f'url = "https://mini.invalid/{filename}"',
            f'sha256 = "{digest}"',
            f"size = {len(archive)}\n",
        )
        with (self.project.configs / "pins.toml").open("a", encoding="utf-8") as pins:
            pins.write("\n".join(lines))
        place = self.project.work / "cache" / "downloads" / digest
        place.mkdir(parents=True, exist_ok=True)
        (place / filename).write_bytes(archive)


def make_mini(directory: Path) -> Mini:
    """Make an upstream and a project that knows it, both below *directory*."""
    upstream = make_upstream(directory / "upstream")
    (directory / "project").mkdir()
    project = copy_project(directory / "project", jit=False)
    text = (DATA / "mini.toml").read_text(encoding="utf-8")
    text = text.replace("REPOSITORY", upstream.url).replace("COMMIT", upstream.head)
    (project.configs / "mini.toml").write_text(text, encoding="utf-8")
    made = Mini(upstream=upstream, project=project)
    made.pin("answer", answer_archive())
    return made


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """A finished release of the miniature; tests must not change it."""
    made = make_mini(tmp_path_factory.mktemp("mini"))
    made.project.run("release", "mini")
    return made


@pytest.fixture(scope="module")
def installed(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive."""
    directory = tmp_path_factory.mktemp("installed")
    command = ["tar", "-xf", str(mini.released / f"{STEM}.tar.gz"), "-C", str(directory)]
    subprocess.run(command, check=True)
    return directory / STEM


@pytest.fixture
def unreleased(mini: Mini, tmp_path: Path) -> Mini:
    """A copy that has translated, but signed and published nothing, to go on with."""
    copied = tmp_path / "copy"
    shutil.copytree(mini.project.configs.parent, copied, symlinks=True)
    for path in (copied / "out" / "store", copied / "out" / "stages" / "sign"):
        shutil.rmtree(path)
    project = Project(
        configs=copied / "translation_configs", work=copied / "out", environment={"CI": "1"}
    )
    return Mini(upstream=mini.upstream, project=project)


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def output_of(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return done.stdout.decode()


def records(project: Project, stage: str) -> dict[str, Any]:
    found = (project.work / "stages" / stage).glob("*/record.json")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}


def in_archive(path: Path, name: str) -> str:
    with tarfile.open(path) as archive:
        member = archive.extractfile(name)
        assert member is not None
        return member.read().decode()


# --- what is released -----------------------------------------------------------------------


def test_the_files_are_those_that_the_plan_names(mini: Mini) -> None:
    planned = json.loads(mini.project.run("plan", "mini", "--json").stdout)["releases"][0]["urls"]

    made = {path.name for path in mini.released.iterdir()}

    assert made == set(planned)
    assert made == {
        *(f"{STEM}.tar.gz", f"{STEM}.tar.zst", f"{STEM}-debug.tar.zst", f"{RELEASE}-src.tar.gz"),
        *(f"{RELEASE}-provenance.json", f"{RELEASE}-manifest.json"),
        *("SHA256SUMS", "SHA256SUMS.asc", "KEY.asc"),
    }


def test_stock_programs_accept_sums_and_signature(mini: Mini, tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--homedir", str(home)]

    for command in (
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        [*gpg, "--import", "KEY.asc"],
        [*gpg, "--verify", "SHA256SUMS.asc", "SHA256SUMS"],
    ):
        subprocess.run(command, cwd=mini.released, check=True)

    listed = (mini.released / "SHA256SUMS").read_text(encoding="utf-8").split()[1::2]
    unlisted = {"SHA256SUMS", "SHA256SUMS.asc", "KEY.asc"}
    assert {path.name for path in mini.released.iterdir()} - unlisted == set(listed)


def test_the_manifest_names_the_modules_and_the_gates(mini: Mini) -> None:
    text = (mini.released / f"{RELEASE}-manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)

    (facts,) = manifest["platforms"]

    assert (facts["modules"], facts["skipped_modules"]) == (["answer"], ["spare"])
    assert (facts["gc"], facts["jit"]) == ("incminimark", False)
    assert {"ARC05", "ELF06", "ELF08", "IDN01", "IDN02", "LIB01", "DBG01"} <= set(facts["gates"])
    assert manifest["source"]["revision"] == mini.upstream.head
    assert manifest["source"]["tag"] == TAG
    assert (manifest["interpreter_version"], manifest["language_version"]) == ("1.0.0", "1.0.0")


def test_the_index_lists_the_main_archive_alone(mini: Mini) -> None:
    archive = mini.released / f"{STEM}.tar.gz"
    text = (mini.project.store / "mini" / "versions.json").read_text(encoding="utf-8")

    (entry,) = json.loads(text)

    (file,) = entry["files"]
    assert (entry["pypy_version"], entry["python_version"]) == ("1.0.0", "1.0.0")
    assert (entry["stable"], entry["latest_pypy"]) == (True, True)
    assert file["filename"] == archive.name
    assert file["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert file["size"] == archive.stat().st_size


def test_the_tree_is_the_packager_s_without_what_it_left_behind(installed: Path) -> None:
    files = {
        path.relative_to(installed).as_posix() for path in installed.rglob("*") if not path.is_dir()
    }

    assert files == {
        *("LICENSE", "README.rst", "BUILD-INFO.json", "include/patchlevel.h"),
        *("bin/mini", "bin/mini1.0", "bin/libmini-c.so"),
        *("lib/mini1.0/hello.demo", "lib/mini1.0/revision.txt", MODULE),
    }
    assert (installed / "bin" / "mini1.0").readlink() == Path("mini")


def test_the_program_runs_with_its_library_beside_it(installed: Path) -> None:
    hello = installed / "lib" / "mini1.0" / "hello.demo"

    assert output_of(installed / "bin" / "mini", "--version") == "demo 1.0.0\n"
    assert output_of(installed / "bin" / "mini1.0", hello) == "hello from the standard library\n"
    assert "shared=True\n" in output_of(installed / "bin" / "mini", "--info")


def test_the_source_archive_is_the_commit_and_its_name(mini: Mini, tmp_path: Path) -> None:
    archive = mini.released / f"{RELEASE}-src.tar.gz"

    subprocess.run(["tar", "-xf", str(archive), "-C", str(tmp_path)], check=True)

    made = digests(tmp_path / f"{RELEASE}-src")
    commit = mini.upstream.head
    assert f"node: {commit[:12]}\n" in in_archive(archive, f"{RELEASE}-src/.hg_archival.txt")
    expected = mini.upstream.git("ls-tree", "-r", "--name-only", TAG).splitlines()
    assert set(made) == {".hg_archival.txt", *expected}
    changed = [
        name
        for name in expected
        if (mini.upstream.directory / name).read_bytes()
        != (tmp_path / f"{RELEASE}-src" / name).read_bytes()
    ]
    assert changed == []


def test_the_build_paths_of_an_assertion_are_cut_off(installed: Path) -> None:
    module = (installed / MODULE).read_bytes()

    assert b"./lib_pypy/_answer.c" in module
    assert b"/build/" not in module


# --- debug symbols --------------------------------------------------------------------------


@pytest.fixture
def with_symbols(mini: Mini, installed: Path, tmp_path: Path) -> Path:
    """A copy of the installed tree with the debug archive unpacked over it."""
    tree = tmp_path / STEM
    shutil.copytree(installed, tree, symlinks=True)
    packed = tmp_path / "debug.tar"
    with zstandard.open(mini.released / f"{STEM}-debug.tar.zst", "rb") as stream:
        packed.write_bytes(stream.read())
    command = ["tar", "--extract", "--file", str(packed), "--directory", str(tmp_path)]
    subprocess.run(command, check=True)
    shutil.copytree(tmp_path / f"{STEM}-debug", tree, dirs_exist_ok=True)
    return tree


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf (binutils)")
@pytest.mark.parametrize("name", ["mini", "libmini-c.so"])
def test_debug_symbols_have_the_build_id_of_their_program(name: str, with_symbols: Path) -> None:
    ids = [
        re.findall(r"Build ID: ([0-9a-f]{40})", output_of("readelf", "--notes", path))
        for path in (with_symbols / "bin" / name, with_symbols / "bin" / f"{name}.debug")
    ]

    assert len(ids[0]) == 1
    assert ids[0] == ids[1]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
def test_a_debugger_finds_the_symbols_beside_the_program(
    installed: Path, with_symbols: Path
) -> None:
    ask = ("gdb", "-nx", "-batch", "-ex", "info functions ^pypy_g_")

    without = output_of(*ask, installed / "bin" / "libmini-c.so")
    found = output_of(*ask, with_symbols / "bin" / "libmini-c.so")

    assert "pypy_g_" not in without.replace("^pypy_g_", "")
    assert re.search(r"0x[0-9a-f]+ +pypy_g_\w+", found)


# --- the packager ---------------------------------------------------------------------------


def test_the_library_that_is_linked_in_is_the_pinned_one(installed: Path) -> None:
    """The packager's own table names version 0.9, an address that nobody has, and no digest."""
    module = ctypes.CDLL(str(installed / MODULE))
    module.mini_answer_version.restype = ctypes.c_char_p

    assert module.mini_answer_version() == b"answer 1.1"
    assert module.mini_answer(6) == 42


def stops_at_the_packager(mini: Mini, status: int = PACKAGE_FAILED) -> Ran:
    """Release, which must end with the package stage, and nothing signed."""
    ran = mini.project.run("release", "mini", check=False)

    assert ran.status == status, ran.stderr
    assert "error: package mini-linux-x86_64: " in ran.stderr
    assert "translate mini-linux-x86_64 ..." not in ran.stderr
    assert not (mini.project.work / "stages" / "sign").exists()
    assert not mini.project.store.exists()
    return ran


def named_log(ran: Ran) -> str:
    """Return the log that a message names."""
    found = re.search(r"messages are in (\S.*?\.log);", ran.stderr)
    assert found is not None, ran.stderr
    return Path(found[1]).read_text(encoding="utf-8")


def test_a_module_that_does_not_compile_is_named_and_nothing_is_signed(unreleased: Mini) -> None:
    unreleased.pin("broken", answer_archive("#error this library is of no use\n"))
    unreleased.project.edit("mini.toml", ('pin = "answer"', 'pin = "broken"'))

    ran = stops_at_the_packager(unreleased)

    assert "were not built: answer." in ran.stderr
    assert "#error this library is of no use" in named_log(ran)


def test_a_module_is_named_whatever_the_compiler_had_to_say(unreleased: Mini) -> None:
    """Upstream prints the names to standard error, and the compiler's messages elsewhere."""
    unreleased.pin("broken", answer_archive("#error this library is of no use\n" * 20))
    unreleased.project.edit("mini.toml", ('pin = "answer"', 'pin = "broken"'))

    ran = stops_at_the_packager(unreleased)

    assert "were not built: answer." in ran.stderr


def test_a_library_that_does_not_build_stops_its_module(unreleased: Mini) -> None:
    unreleased.project.edit("mini.toml", ('["make", "-s", "-j{jobs}"]', '["false"]'))

    ran = stops_at_the_packager(unreleased)

    assert "were not built: answer." in ran.stderr


def test_the_packager_has_no_network(unreleased: Mini) -> None:
    """No route at all: with one, nothing would answer at this address (RFC 5737)."""
    connect = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    unreleased.project.edit(
        "mini.toml", ('["make", "-s", "-j{jobs}"]', f'["pypy", "-c", "{connect}"]')
    )

    ran = stops_at_the_packager(unreleased)

    assert "Network is unreachable" in named_log(ran)


def test_a_packager_that_does_not_end_is_stopped(unreleased: Mini) -> None:
    unreleased.project.edit("mini.toml", ('["make", "-s", "-j{jobs}"]', '["sleep", "600"]'))
    unreleased.project.edit(
        "mini.toml", ('without = ["spare"]', 'without = ["spare"]\ntimeout = 5')
    )

    ran = stops_at_the_packager(unreleased, TIMED_OUT)

    assert "package.timeout" in ran.stderr
    assert str(unreleased.project.work / "logs" / "mini-linux-x86_64-package-") in ran.stderr


def test_a_module_that_the_packager_does_not_know_is_missed(unreleased: Mini) -> None:
    unreleased.project.edit("mini.toml", ("answer = []", "answer = []\nquestion = []"))

    ran = stops_at_the_packager(unreleased)

    assert "extension modules that must be there were not built: question." in ran.stderr


def test_a_module_that_no_gate_knows_is_refused(unreleased: Mini) -> None:
    unreleased.project.edit("mini.toml", ('without = ["spare"]', "without = []"))

    ran = stops_at_the_packager(unreleased)

    assert "extension modules were built that no gate knows: spare." in ran.stderr


def test_a_library_of_another_version_than_its_pin_says_is_not_signed(unreleased: Mini) -> None:
    unreleased.pin("misnamed", answer_archive("/* 1.2 */\n" + HEADER), version="1.2")
    unreleased.project.edit("mini.toml", ('pin = "answer"', 'pin = "misnamed"'))

    ran = unreleased.project.run("release", "mini", check=False)

    assert ran.status == GATE_FAILED
    expected = f"LIB01 versions of linked-in libraries: {STEM}/{MODULE}: another version"
    assert f"{expected}; expected 'answer 1.2'" in ran.stderr
    assert not (unreleased.project.work / "stages" / "sign").exists()


def test_the_gates_say_nothing_but_their_verdicts(unreleased: Mini) -> None:
    shutil.rmtree(unreleased.project.work / "stages" / "verify")

    ran = unreleased.project.run("verify", "mini")

    assert "PT_DYNAMIC" not in ran.stderr


# --- again ----------------------------------------------------------------------------------


def test_another_place_gives_the_same_bytes(
    mini: Mini, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also another clone of the repository; only signature and ledger have times."""
    other = make_mini(tmp_path_factory.mktemp("another place with a longer name"))
    downloads = Path("cache", "downloads")
    shutil.copytree(
        mini.project.work / downloads, other.project.work / downloads, dirs_exist_ok=True
    )

    other.project.run("release", "mini", TZ="Pacific/Kiritimati", USER="somebody", LC_ALL="C")

    (record,) = records(other.project, "translate").values()
    assert record["compiler_cache"]["misses"] > record["compiler_cache"]["hits"]
    first, second = digests(mini.released), digests(other.released)
    assert of_the_key(first, second)


def test_the_same_release_again_does_nothing(mini: Mini) -> None:
    before = digests(mini.project.work)

    again = mini.project.run("release", "mini", DOCKER_HOST="tcp://127.0.0.1:1")

    after = digests(mini.project.work)
    # The lock names the process that holds it.
    assert [name for name in after if after[name] != before.get(name)] == [".lock"]
    assert after.keys() == before.keys()
    assert "was published already, nothing to do" in again.stderr


@pytest.fixture(scope="module")
def changed(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """A copy of the finished release, and a work tree with one changed line."""
    directory = tmp_path_factory.mktemp("changed")
    shutil.copytree(mini.project.configs.parent, directory / "project", symlinks=True)
    project = Project(
        configs=directory / "project" / "translation_configs",
        work=directory / "project" / "out",
        environment={"CI": "1"},
    )
    mini.upstream.git("clone", "--quiet", mini.upstream.url, str(directory / "upstream"))
    upstream = Upstream(directory / "upstream")
    upstream.edit("pypy/goal/demolang/cli.py", "'no program given'", "'no program was given'")
    return Mini(upstream=upstream, project=project)


def test_a_changed_work_tree_becomes_a_nightly_with_the_compiler_cache_s_help(
    changed: Mini,
) -> None:
    before = records(changed.project, "translate")

    changed.project.run("nightly", "mini", "--source", str(changed.upstream.directory))

    (record,) = (
        record for key, record in records(changed.project, "translate").items() if key not in before
    )
    assert record["compiler_cache"]["hits"] > 10
    (nightly,) = (changed.project.store / "mini").glob("mini-nightly-*")
    # The digit 1, and the two commits that were made.
    found = re.fullmatch(r"mini-nightly-\d{4}-\d\d-\d\d-12-([0-9a-f]{12})", nightly.name)
    assert found is not None
    stem = f"mini-c-nojit-12-{found[1]}-linux64"
    archive = nightly / f"{stem}.tar.gz"
    info = json.loads(in_archive(archive, f"{stem}/BUILD-INFO.json"))
    assert info["source"]["dirty"] is True
    assert info["source"]["revision"].startswith(found[1])
    revision = in_archive(archive, f"{stem}/lib/mini1.0/revision.txt")
    assert f"node: {found[1]}+\n" in revision
    assert not list(nightly.glob("*-src.tar.gz"))


def test_a_changed_work_tree_is_not_released(changed: Mini) -> None:
    before = digests(changed.project.store)

    ran = changed.project.run(
        "release", "mini", "--source", str(changed.upstream.directory), check=False
    )

    assert ran.status == SOURCE_REFUSED
    assert "--source is for nightlies only" in ran.stderr
    assert digests(changed.project.store) == before


# --- versions -------------------------------------------------------------------------------


def refused(mini: Mini, version: str) -> str:
    ran = mini.project.run("plan", "mini", "--pypy-version", version, check=False)

    assert ran.status == SOURCE_REFUSED
    assert ran.stdout == ""
    return ran.stderr


def test_a_version_that_is_not_pinned_is_refused_with_the_line_to_add(tmp_path: Path) -> None:
    made = make_mini(tmp_path)
    made.upstream.edit(VERSION_FILE, FINAL, '(1, 0, 1, "final", 0)')
    commit = made.upstream.commit()
    made.upstream.git("tag", "--annotate", "--message=next", "release-mini-v1.0.1")

    said = refused(made, "1.0.1")
    made.project.edit("mini.toml", ("[source.commits]", f'[source.commits]\n"1.0.1" = "{commit}"'))
    planned = made.project.run("plan", "mini", "--pypy-version", "1.0.1", "--json")

    assert f'add: "1.0.1" = "{commit}"' in said
    assert "mini-v1.0.1-linux64.tar.gz" in planned.stdout


def test_a_tag_that_moved_is_refused(tmp_path: Path) -> None:
    made = make_mini(tmp_path)
    (made.upstream.directory / "README.rst").write_text("Another one.\n", encoding="utf-8")
    moved = made.upstream.commit()
    made.upstream.git("tag", "--force", "--annotate", "--message=moved", TAG)

    assert f"tag {TAG} is commit {moved}, but source.commits pins" in refused(made, "1.0.0")


def test_a_candidate_is_not_made_of_a_final_source(tmp_path: Path) -> None:
    made = make_mini(tmp_path)
    made.upstream.git("tag", "--annotate", "--message=candidate", "release-mini-v1.0.0rc1")
    pin = f'"1.0.0rc1" = "{made.upstream.head}"'
    made.project.edit("mini.toml", ("[source.commits]", f"[source.commits]\n{pin}"))

    said = refused(made, "1.0.0rc1")

    assert "its source says it is 1.0.0, and 1.0.0rc1 was asked for" in said
