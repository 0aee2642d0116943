"""What is published, changed from the command line: real keys, a real server, real programs.

The releases are made by hand, with a shell script for an interpreter, so no container is needed.
"""

import json
import os
import re
import shutil
import stat
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.effects.process import ProcessRunner
from pipeline.effects.server import make_server
from pipeline.effects.store import LocalStore
from pipeline.errors import (
    BisectError,
    DigestMismatchError,
    EventError,
    FetchBackError,
    SignatureError,
)
from pipeline.model.configs import SigningConfig
from pipeline.model.ledger import KEPT_WHOLE, SEGMENT, State
from pipeline.publish.events import Stamp, pruning, unyank, yank
from pipeline.publish.ledger import append, read_ledger
from pipeline.sign.gpg import Keyring, quickstart_keyring, usable_key
from pipeline.sign.notary import KeyringNotary
from tests.handmade import HandMade, Maker
from tests.integration.conftest import Project, Ran, copy_project

pytestmark = [pytest.mark.gpg, pytest.mark.slow]

NOW = datetime.now(tz=UTC)
BROKEN = 5
"""Since that many nights the interpreter says 41."""
NIGHTS = 14
SIGNING = SigningConfig(key="quickstart")
STAMP = Stamp(at=NOW, by="tester", reason="a test")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A project's store, with a key of its own, and what publishes to it."""

    project: Project
    keyring: Keyring
    fingerprint: str
    made: Path
    address: str

    @property
    def store(self) -> LocalStore:
        """The store as configured."""
        return LocalStore(self.project.store)

    @property
    def maker(self) -> Maker:
        """What makes releases signed by the key."""
        return Maker(
            directory=self.made,
            sign=lambda path, signature: self.keyring.sign(path, signature, self.fingerprint),
            fingerprint=self.fingerprint,
            public_key=self.keyring.public_key(self.fingerprint),
        )

    @property
    def notary(self) -> KeyringNotary:
        """Who signs the ledger."""
        return KeyringNotary(
            keyring=lambda: nullcontext(self.keyring),
            is_there=lambda: True,
            config=SIGNING,
            process=ProcessRunner(),
            now=lambda: NOW,
        )

    @property
    def state(self) -> State:
        """What the ledger says."""
        return read_ledger(self.store, self.notary).state

    def publish(self, made: HandMade, *, days: int, staged: bool = False) -> HandMade:
        """Publish a release so many days ago."""
        made.publish([self.store], self.notary, NOW - timedelta(days=days), staged=staged)
        return made

    def nightly(self, days: int, program: str = "exit 0", **fields: Any) -> HandMade:
        """Publish the nightly of so many days ago."""
        at = NOW - timedelta(days=days)
        return self.publish(self.maker.nightly(at, 5000 - days, program, **fields), days=days)

    def get(self, key: str) -> Any:
        """Return an index as the public gets it."""
        with urllib.request.urlopen(f"{self.address}/{key}") as answer:
            return json.load(answer)

    def offered(self) -> list[str]:
        """Return the versions that clients may install."""
        return [entry["pypy_version"] for entry in self.get("demo/versions.json")]

    def run(self, *argv: str, check: bool = True) -> Ran:
        """Run a verb."""
        return self.project.run(*argv, check=check)


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Channel]:
    project = copy_project(tmp_path, jit=False)
    project.store.mkdir(parents=True)
    server = make_server(project.store, "127.0.0.1", 0, quiet=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    project.edit("channels.toml", ("http://127.0.0.1:8377", address))
    with quickstart_keyring(ProcessRunner(), project.work / "keys" / "gnupg") as keyring:
        yield Channel(
            project=project,
            keyring=keyring,
            fingerprint=usable_key(keyring, SIGNING, NOW).fingerprint,
            made=tmp_path / "made",
            address=address,
        )
    server.shutdown()
    thread.join()
    server.server_close()


def script(channel: Channel, text: str) -> str:
    """Write an executable script and return where it is."""
    path = channel.project.work / "test.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def key_file(channel: Channel) -> str:
    path = channel.project.work / "trusted.asc"
    path.write_bytes(channel.keyring.public_key(channel.fingerprint))
    return str(path)


# --- yank, unyank, promote ----------------------------------------------------------------------


def test_clients_get_the_release_before_a_yanked_one_and_its_files_stay(channel: Channel) -> None:
    channel.publish(channel.maker.release("1.0.0"), days=20)
    newer = channel.publish(channel.maker.release("1.1.0"), days=10)
    channel.run("reconcile")
    assert channel.offered() == ["1.1.0", "1.0.0"]

    told = channel.run("yank", "demo", "1.1.0", "--reason", "prints 41").stderr

    assert re.search(r"demo +release +demo-v1\.1\.0 +demo-v1\.0\.0", told)
    assert channel.offered() == ["1.0.0"]
    assert len(channel.store.sizes("demo/demo-v1.1.0")) == len(newer.files)
    again = channel.run("yank", "demo", "1.1.0", "--reason", "once more").stderr
    assert "nothing to do" in again
    channel.run("unyank", "demo-v1.1.0")
    assert channel.offered() == ["1.1.0", "1.0.0"]
    assert channel.run("reconcile", "--check").status == 0


def test_a_staged_release_is_offered_with_the_same_bytes(channel: Channel) -> None:
    channel.publish(channel.maker.release("1.0.0"), days=20)
    staged = channel.publish(channel.maker.release("1.1.0"), days=1, staged=True)
    channel.run("reconcile")
    before = channel.store.sizes("demo/demo-v1.1.0")
    assert channel.offered() == ["1.0.0"]

    channel.run("promote", "demo", "1.1.0")

    assert channel.offered() == ["1.1.0", "1.0.0"]
    assert channel.store.sizes("demo/demo-v1.1.0") == before
    (entry, _) = channel.get("demo/versions.json")
    assert entry["files"][0]["sha256"] == staged.files[0].sha256


def test_a_nightly_of_a_directory_is_released_by_its_own_command(channel: Channel) -> None:
    made = channel.nightly(1)

    refused = channel.run("promote", made.manifest.release, check=False)

    assert refused.status == EventError.exit_code
    assert "python -m pipeline release demo --interpreter-version 1.0.0" in refused.stderr


# --- prune and reconcile ------------------------------------------------------------------------


def test_old_nightlies_go_and_what_was_killed_half_way_is_cleared_up(channel: Channel) -> None:
    channel.publish(channel.maker.release(), days=500)
    for days in (*range(120, 100, -1), 2, 1):
        channel.nightly(days)
    channel.run("reconcile")
    listed = channel.run("prune", "--dry-run").stderr
    channel.run("prune")
    gone = [item for item in channel.state.releases if item.pruned is not None]
    # As if the run had been killed before the last file went.
    left = channel.project.store / "demo" / gone[0].name / "SHA256SUMS"
    left.parent.mkdir()
    left.write_text("left\n")

    found = channel.run("reconcile", "--check", check=False)
    channel.run("reconcile")

    assert 15 <= len(gone) <= 17
    assert f"{len(gone)} nightlies" in listed
    assert all(item.published.channel == "nightly" for item in gone)
    assert found.status == 1
    assert "left behind by a pruned nightly" in found.stderr
    assert not left.exists()
    assert len(channel.store.sizes("demo/demo-v1.0.0")) == 6
    assert channel.run("reconcile", "--check").status == 0


def test_a_mirror_that_lost_a_file_gets_it_from_the_store(channel: Channel, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    text = f'mirrors = [{{ store = "{mirror}", base_url = "http://127.0.0.1:1" }}]'
    for name in ("[release]", "[nightly]"):
        channel.project.edit("channels.toml", (name, f"{name}\n{text}"))
    made = channel.publish(channel.maker.release(), days=1)
    channel.run("reconcile")
    archive = mirror / "demo" / "demo-v1.0.0" / made.files[0].filename
    archive.unlink()

    told = channel.run("reconcile").stderr

    assert "missing (mended)" in told
    assert archive.read_bytes() == (made.directory / made.files[0].filename).read_bytes()


def test_a_file_that_nobody_has_any_more_is_an_error(channel: Channel) -> None:
    made = channel.publish(channel.maker.release(), days=1)
    (channel.project.store / "demo" / "demo-v1.0.0" / made.files[0].filename).unlink()

    ran = channel.run("reconcile", check=False)

    assert ran.status == FetchBackError.exit_code
    assert f"{made.files[0].filename}: missing" in ran.stderr


# --- status -------------------------------------------------------------------------------------


def test_the_status_is_read_without_a_secret_key(channel: Channel) -> None:
    channel.publish(channel.maker.release(), days=40)
    channel.nightly(9)
    channel.run("reconcile")
    key = key_file(channel)
    shutil.rmtree(channel.project.work / "keys")

    ran = channel.run("status", "--key", key, "--json", "--check", check=False)

    (status,) = json.loads(ran.stdout)
    assert ran.status == 1
    assert [(item["release"][:8], item["stale"]) for item in status["standings"]] == [
        ("demo-v1.", False),
        ("demo-nig", True),
    ]
    assert status["sites"][0]["stale_indexes"] == []
    assert status["next"]["command"] == "python -m pipeline nightly demo"
    assert not (channel.project.work / "keys").exists()


def test_the_status_trusts_no_other_key(channel: Channel, tmp_path: Path) -> None:
    channel.publish(channel.maker.release(), days=40)
    with quickstart_keyring(ProcessRunner(), tmp_path / "other") as keyring:
        other = tmp_path / "other.asc"
        other.write_bytes(keyring.public_key(usable_key(keyring, SIGNING, NOW).fingerprint))

    ran = channel.run("status", "--key", str(other), check=False)

    assert ran.status == SignatureError.exit_code
    assert f"signed by {channel.fingerprint}, which is not trusted here" in ran.stderr


# --- bisect -------------------------------------------------------------------------------------


def day(days: int) -> str:
    return f"{NOW - timedelta(days=days):%Y-%m-%d}"


@pytest.fixture
def nights(channel: Channel) -> list[HandMade]:
    """Nightlies, oldest first; those of the last BROKEN nights say 41."""
    made = []
    for days in range(NIGHTS, 0, -1):
        answer = 41 if days <= BROKEN else 42
        made.append(channel.nightly(days, f"echo {answer}"))
    channel.run("reconcile")
    return made


def bisect(channel: Channel, *argv: str, test: str = "", check: bool = True) -> Ran:
    """Bisect all the nightlies."""
    text = test or 'test "$($PYPY)" = 42'
    return channel.run(
        *("bisect", "--interpreter", "demo", "--good", day(NIGHTS), "--bad", day(1)),
        *(*argv, "--", script(channel, text)),
        check=check,
    )


def found(ran: Ran) -> tuple[str, str]:
    good = re.search(r"last good +(\S+)", ran.stderr)
    bad = re.search(r"first bad +(\S+)", ran.stderr)
    assert good is not None, ran.stderr
    assert bad is not None, ran.stderr
    return good[1], bad[1]


def test_the_first_bad_nightly_is_found_by_running_them(
    channel: Channel, nights: list[HandMade]
) -> None:
    ran = bisect(channel)

    good, bad = nights[NIGHTS - BROKEN - 1], nights[NIGHTS - BROKEN]
    assert found(ran) == (good.manifest.release, bad.manifest.release)
    revisions = (made.manifest.source.revision[:12] for made in (good, bad))
    assert f"git log {'..'.join(revisions)}" in ran.stderr
    assert len(re.findall(r"^  (?:good|bad): ", ran.stderr, re.MULTILINE)) <= 4
    assert not list((channel.project.work / "bisect").glob("tree-*"))


def test_it_is_found_over_http_by_who_has_a_public_key_only(
    channel: Channel, nights: list[HandMade], tmp_path: Path
) -> None:
    key = key_file(channel)
    user = Project(configs=channel.project.configs, work=tmp_path / "user", environment={"CI": "1"})
    user.work.mkdir()

    ran = bisect(
        Channel(**{**vars(channel), "project": user}), "--base-url", channel.address, "--key", key
    )

    assert found(ran)[1] == nights[NIGHTS - BROKEN].manifest.release
    assert not (user.work / "keys").exists()
    assert not (user.work / "store").exists()


def test_pruned_ones_are_skipped_over_and_what_was_skipped_is_told(
    channel: Channel, nights: list[HandMade]
) -> None:
    last, pruned, first = nights[NIGHTS - BROKEN - 1 : NIGHTS - BROKEN + 2]
    append(channel.store, channel.notary, pruning("demo", pruned.manifest.release, STAMP))
    channel.run("reconcile")

    ran = bisect(channel)
    name = last.manifest.release
    test = f'test "$PIPELINE_NIGHTLY" = {name} && exit 125; test "$($PYPY)" = 42'
    unclear = bisect(channel, test=test, check=False)

    assert "1 nightlies between the ends were pruned" in ran.stderr
    assert found(ran) == (name, first.manifest.release)
    assert unclear.status == BisectError.exit_code
    assert f"among: {name}, {first.manifest.release}" in unclear.stderr


def test_nightlies_whose_files_the_ledger_has_no_more_are_tested_by_their_manifests(
    channel: Channel,
) -> None:
    """Old events are sealed, and what is kept of them names no files."""
    count = KEPT_WHOLE + 8
    made = [
        channel.nightly(days, f"echo {41 if days <= count - 3 else 42}")
        for days in range(count, 0, -1)
    ]
    for number in range(SEGMENT - count):
        make = unyank if number % 2 else yank
        append(channel.store, channel.notary, make("demo", made[0].manifest.release, STAMP))
    slim = [item.name for item in channel.state.releases if not item.published.files]

    ran = channel.run(
        *("bisect", "--interpreter", "demo", "--good", day(count), "--bad", day(count - 7)),
        *("--", "sh", "-c", 'test "$($PYPY)" = 42'),
    )

    assert set(found(ran)) <= set(slim)
    assert found(ran)[1] == made[3].manifest.release


@pytest.mark.parametrize(
    ("file", "cause"),
    [
        ("-linux64.tar.gz", DigestMismatchError),
        ("-manifest.json", DigestMismatchError),
        ("SHA256SUMS", SignatureError),
    ],
    ids=["archive", "manifest", "checksums"],
)
def test_an_altered_file_is_never_run(
    channel: Channel, nights: list[HandMade], file: str, cause: type[BisectError]
) -> None:
    for made in nights:
        for path in (channel.project.store / "demo" / made.manifest.release).iterdir():
            if path.name.endswith(file):
                data = path.read_bytes()
                path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    ran = bisect(channel, check=False, test="touch " + str(channel.project.work / "was-run"))

    assert ran.status == cause.exit_code
    assert not (channel.project.work / "was-run").exists()


def test_a_script_that_hangs_is_stopped_with_all_that_it_started(
    channel: Channel, nights: list[HandMade]
) -> None:
    """What hangs is bad."""
    pids = channel.project.work / "pids"

    ran = bisect(
        channel,
        "--timeout",
        "2",
        test=f'test "$($PYPY)" = 42 && exit 0; sleep 600 & echo $! >> {pids}; wait',
    )

    assert found(ran)[1] == nights[NIGHTS - BROKEN].manifest.release
    assert "not finished after 2 s" in ran.stderr
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_script_that_fails_itself_ends_the_search(
    channel: Channel, nights: list[HandMade]
) -> None:
    ran = bisect(channel, check=False, test="echo broken test; exit 200")

    assert len(nights) == NIGHTS
    assert ran.status == BisectError.exit_code
    assert "status 200, which says neither good" in ran.stderr
    assert "broken test" in ran.stderr
