"""The verbs about what is published, from the command line on, with fake ports."""

import json
import platform
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from pipeline.cli import bisecting, changing, main, ports
from pipeline.effects.store import LocalStore
from pipeline.errors import BisectError, ConfigError, EventError, FetchBackError, LedgerError
from pipeline.model.ledger import State
from pipeline.publish.ledger import read_ledger
from pipeline.publish.project import project
from pipeline.publish.sites import OpenChannel
from tests.factories import make_git_revision
from tests.fakes import NOW, FakeNotary, World, make_world, open_channel, replace_text
from tests.handmade import HandMade, Maker, sign_by_copy

VERBS: Final = ("yank", "unyank", "promote", "prune", "reconcile", "status", "bisect")
REASON: Final = ("--reason", "it crashes")
DIRECTORY: Final = """kind = "directory"
path = "toy"
date = 2026-01-01
toolchain = ["rpython", "py"]
"""
GIT: Final = """kind = "git"
repository = "https://toy.test/toy"
branch = "main"
tag = "v{version}"
version_file = "version.py"
"""


@dataclass(kw_only=True)
class Command:
    """The command line on the toy project, whose ledger needs no key."""

    world: World
    channel: OpenChannel
    maker: Maker
    capture: pytest.CaptureFixture[str]
    now: datetime = NOW

    def run(self, *argv: str) -> int:
        """Run a verb with this project's directories."""
        root = self.world.ctx.root
        configs = ("--configs", str(root / "translation_configs"), "--work", str(root / "out"))
        verb, *rest = argv
        return main([verb, *configs, *rest])

    def message(self) -> str:
        """Return what people would read, as one line."""
        return " ".join(self.capture.readouterr().err.split())

    @property
    def state(self) -> State:
        """What the ledger says."""
        return read_ledger(self.channel.store, self.channel.notary).state

    def publish(self, made: HandMade, *, days: int = 0, staged: bool = False) -> HandMade:
        """Publish a release so many days before now."""
        at = self.now - timedelta(days=days)
        made.publish([self.channel.store], self.channel.notary, at, staged=staged)
        project(self.world.ctx, self.channel)
        return made

    def nightly(self, days: int) -> HandMade:
        """Publish the nightly of so many days before now."""
        at = self.now - timedelta(days=days)
        return self.publish(self.maker.nightly(at, 5000 - days), days=days)

    def versions(self) -> list[str]:
        """Return what versions.json offers."""
        path = Path(self.channel.store.address, "toy", "versions.json")
        return [entry["pypy_version"] for entry in json.loads(path.read_bytes())]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    world = make_world(tmp_path / "project")
    notary = FakeNotary()
    made = Command(
        world=world,
        channel=open_channel(world.ctx, "nightly", notary),
        maker=Maker(directory=tmp_path / "made", sign=sign_by_copy, interpreter="toy"),
        capture=capsys,
    )
    monkeypatch.setattr(ports, "DockerEngine", lambda *_: world.engine)
    monkeypatch.setattr(ports, "ProcessRunner", lambda: world.process)
    monkeypatch.setattr(ports, "HttpClient", lambda: world.http)
    monkeypatch.setattr(ports, "HttpView", lambda _http: world.public)
    monkeypatch.setattr(ports, "utc_now", lambda: made.now)
    monkeypatch.setattr(ports, "channel_notary", lambda *_: notary)
    monkeypatch.setattr(bisecting, "channel_notary", lambda *_: notary)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("COLUMNS", "300")
    return made


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])

    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"\nexamples:\n  python -m pipeline {verb}" in text


# --- yank and unyank ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("toy", "2.0.0"), ("toy-v2.0.0",), ("toy/toy-v2.0.0",)])
def test_a_yank_gives_clients_the_release_before(command: Command, words: tuple[str, ...]) -> None:
    command.publish(command.maker.release("1.0.0"))
    command.publish(command.maker.release("2.0.0"))

    status = command.run("yank", *words, *REASON)

    assert status == 0
    message = command.message()
    assert "toy-v2.0.0 yanked: it crashes" in message
    assert "toy release toy-v2.0.0 toy-v1.0.0" in message
    assert command.versions() == ["1.0.0"]
    assert command.state.releases[1].yanked is not None


def test_a_second_yank_does_nothing_and_says_who_was_first(command: Command) -> None:
    command.publish(command.maker.release())
    command.run("yank", "toy", "1.0.0", *REASON)
    command.message()

    status = command.run("yank", "toy", "1.0.0", "--reason", "another")

    assert status == 0
    assert f"was yanked on {NOW:%Y-%m-%d} by" in (message := command.message())
    assert "(it crashes); nothing to do" in message
    assert command.state.sequence == 2


def test_a_yank_that_leaves_nothing_says_so(command: Command) -> None:
    command.publish(command.maker.release())

    command.run("yank", "toy-v1.0.0", *REASON)

    assert "toy: there is no release to offer instead" in command.message()


def test_an_unyank_offers_the_release_again(command: Command) -> None:
    command.publish(command.maker.release())
    command.run("yank", "toy", "1.0.0", *REASON)

    status = command.run("unyank", "toy", "1.0.0")

    assert status == 0
    assert command.versions() == ["1.0.0"]


def test_a_nightly_is_yanked_by_its_name(command: Command) -> None:
    old, new = command.nightly(2), command.nightly(1)

    command.run("yank", new.manifest.release, *REASON)

    assert f"toy nightly {new.manifest.release} {old.manifest.release}" in command.message()


def test_a_dry_yank_says_what_would_change_and_changes_nothing(command: Command) -> None:
    command.publish(command.maker.release("1.0.0"))
    command.publish(command.maker.release("2.0.0"))

    status = command.run("yank", "toy", "2.0.0", *REASON, "--dry-run")

    assert status == 0
    message = command.message()
    assert "toy-v2.0.0 would be yanked" in message
    assert "toy release toy-v2.0.0 toy-v1.0.0" in message
    assert command.versions() == ["2.0.0", "1.0.0"]
    assert command.state.sequence == 2


def test_what_was_never_published_cannot_be_yanked(command: Command) -> None:
    command.publish(command.maker.release())

    status = command.run("yank", "toy", "1.0.1", *REASON)

    assert status == EventError.exit_code
    assert "Did you mean 'toy-v1.0.0'" in command.message()


@pytest.mark.parametrize(
    "argv",
    [
        ["toy", "1.0.0"],
        ["toy", "1.0", *REASON],
        ["toy", "1.0.0", "--reason", "  "],
        ["toy", "1.0.0", "--reason", "x" * 1001],
        ["toy", "1.0.0", "--reason", "it \x1b[31mcrashes"],
        ["toy", "1.0.0", "--reason", "it crashes \udcff"],
    ],
    ids=["without reason", "no version", "empty reason", "long reason", "escape", "no UTF-8"],
)
def test_a_wrong_yank_is_refused_before_anything_is_read(command: Command, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.run("yank", *argv)

    assert caught.value.code == 2


def test_a_reason_may_be_in_any_language(command: Command) -> None:
    command.publish(command.maker.release())

    assert command.run("yank", "toy", "1.0.0", "--reason", "stürzt ab: 崩溃 💥") == 0


@pytest.fixture
def copied(command: Command, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The names of releases whose copies on GitHub were looked at, by command."""
    channels = command.world.ctx.root / "translation_configs" / "channels.toml"
    for name in ("release", "nightly"):
        text = f'[{name}]\ngithub = {{ repository = "toy/toy" }}'
        replace_text(channels, f"[{name}]", text)
    asked: list[set[str]] = []

    def copy(*given: object) -> tuple[()]:
        names = given[4]
        assert isinstance(names, set)
        asked.append(names)
        return ()

    monkeypatch.setattr(changing, "copy_releases", copy)
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    return asked


def test_a_yank_reaches_the_copies_of_both_releases_that_it_is_about(
    command: Command, copied: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub calls another release its latest then."""
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        command.publish(command.maker.release(version))

    status = command.run("yank", "toy", "3.0.0", *REASON)

    assert status == 0
    assert copied == [{"toy-v3.0.0", "toy-v2.0.0"}]


@pytest.mark.parametrize("verb", [("yank", *REASON), ("unyank",)])
def test_a_name_of_two_products_is_changed_in_the_one_that_was_named(
    command: Command,
    copied: list[set[str]],
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    command.publish(command.maker.release())
    other = replace(command.maker, directory=command.maker.directory / "other")
    command.publish(other.release(product="other"))

    status = command.run(verb[0], "other/toy-v1.0.0", *verb[1:])

    assert status == 0
    assert [item.yanked is not None for item in command.state.releases] == [False, len(verb) > 1]
    assert copied == [{"toy-v1.0.0"}]


@pytest.mark.parametrize(
    "argv",
    [
        ("yank", "toy", "1.0.0", *REASON, "--dry-run"),
        ("status",),
        ("prune",),
        ("reconcile", "--check"),
    ],
    ids=["dry yank", "status", "prune", "check"],
)
def test_what_only_looks_needs_no_token(
    command: Command, copied: list[set[str]], argv: tuple[str, ...]
) -> None:
    command.publish(command.maker.release())

    assert command.run(*argv) == 0
    assert copied == []


# --- promote ----------------------------------------------------------------------------------


def test_a_staged_release_is_offered_when_it_is_promoted(command: Command) -> None:
    command.publish(command.maker.release("1.0.0"))
    command.publish(command.maker.release("2.0.0"), staged=True)
    assert command.versions() == ["1.0.0"]

    status = command.run("promote", "toy", "2.0.0")

    assert status == 0
    assert "toy release toy-v1.0.0 toy-v2.0.0" in command.message()
    assert command.versions() == ["2.0.0", "1.0.0"]


def test_what_is_offered_need_not_be_promoted(command: Command) -> None:
    command.publish(command.maker.release())

    status = command.run("promote", "toy-v1.0.0")

    assert status == 0
    assert "toy-v1.0.0: is offered; nothing to do" in command.message()
    assert command.state.sequence == 1


def test_a_nightly_that_cannot_become_a_release_is_refused(command: Command) -> None:
    made = command.nightly(1)

    status = command.run("promote", made.manifest.release)

    assert status == EventError.exit_code
    assert "toy.toml pins no commit for 1.0.0" in command.message()


def test_a_candidate_does_not_become_its_final_version(command: Command) -> None:
    command.publish(command.maker.release("1.0.0rc1"))

    status = command.run("promote", "toy", "1.0.0rc1", "--as", "1.0.0")

    assert status == EventError.exit_code
    assert "release toy --interpreter-version 1.0.0" in command.message()


def test_a_nightly_that_may_become_a_release_is_released_by_the_release_flow(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_git_revision(number=7, tag=None)
    made = command.publish(command.maker.nightly(NOW, 7, source=source))
    pin = f'commits = {{ "1.0.0" = "{source.revision}" }}'
    replace_text(command.world.ctx.root / "translation_configs" / "toy.toml", DIRECTORY, GIT + pin)
    asked = []

    def release(_arguments: object, _console: object, interpreter: str, version: object) -> int:
        asked.append((interpreter, str(version)))
        return 0

    monkeypatch.setattr(changing, "run_release", release)

    status = command.run("promote", made.manifest.release)

    assert status == 0
    assert asked == [("toy", "1.0.0")]


# --- prune ------------------------------------------------------------------------------------


def test_old_nightlies_go_with_their_files(command: Command) -> None:
    command.publish(command.maker.release(), days=900)
    old, week, new = command.nightly(102), command.nightly(101), command.nightly(0)

    status = command.run("prune")

    assert status == 0
    message = command.message()
    assert f"{old.manifest.release} 102 days 6" in message
    assert "6 files removed" in message
    sizes = {
        made.manifest.release: len(command.channel.store.sizes(f"toy/{made.manifest.release}"))
        for made in (old, week, new)
    }
    assert list(sizes.values()) == [0, 6, 6]
    assert len(command.channel.store.sizes("toy/toy-v1.0.0")) == 6


def test_a_dry_prune_lists_what_would_go_and_why_the_others_stay(command: Command) -> None:
    for days in (102, 101, 0):
        command.nightly(days)

    status = command.run("prune", "--dry-run")

    assert status == 0
    message = command.message()
    assert "Nightlies that would go" in message
    assert "the one of its week 1" in message
    assert "the newest that is offered: indexes lead to it 1" in message
    assert command.state.sequence == 3


def test_a_killed_prune_is_finished_by_the_next(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events are there, most files are, and the next run has something of its own."""
    first = command.nightly(103)
    command.nightly(102)
    command.nightly(0)

    def killed(_store: LocalStore, _key: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "remove", killed)
        interrupted = command.run("prune")
    assert len(command.channel.store.sizes(f"toy/{first.manifest.release}")) == 6
    command.now += timedelta(days=1)

    status = command.run("prune")

    assert (interrupted, status) == (130, 0)
    assert command.channel.store.sizes(f"toy/{first.manifest.release}") == {}
    assert command.run("reconcile", "--check") == 0


def test_where_nothing_is_old_nothing_is_done(command: Command) -> None:
    command.nightly(0)

    status = command.run("prune")

    assert status == 0
    assert "nothing to prune" in command.message()


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_misspelt_name_in_keep_stops_the_pruning(
    command: Command, options: tuple[str, ...]
) -> None:
    """Else the nightly that it should keep would be gone."""
    old = command.nightly(102).manifest.release
    command.nightly(101)
    keep_only(command, old[:-1])

    status = command.run("prune", *options)

    assert status == EventError.exit_code
    assert f"Did you mean '{old}'?" in command.message()
    assert command.state.sequence == 2


def test_what_was_pruned_may_stay_in_keep(command: Command) -> None:
    old = command.nightly(102).manifest.release
    command.nightly(101)
    command.run("prune")
    keep_only(command, old)

    assert command.run("prune") == 0


def keep_only(command: Command, name: str) -> None:
    """Name a nightly in the channel's keep."""
    channels = command.world.ctx.root / "translation_configs" / "channels.toml"
    replace_text(channels, "[nightly]", f'[nightly]\nretention = {{ keep = ["{name}"] }}')


# --- reconcile --------------------------------------------------------------------------------


def test_the_check_finds_nothing_where_all_is_well(command: Command) -> None:
    command.publish(command.maker.release())

    assert command.run("reconcile", "--check") == 0
    assert "0 indexes to be written, 0 files wrong" in command.message()


def test_the_check_names_a_file_that_is_gone_and_a_stale_index(command: Command) -> None:
    command.publish(command.maker.release())
    store = Path(command.channel.store.address)
    (store / "toy/toy-v1.0.0/SHA256SUMS").unlink()
    (store / "toy/versions.json").write_text("[]")

    status = command.run("reconcile", "--check")

    assert status == 1
    message = command.message()
    assert "https://downloads.test/toy/toy-v1.0.0/SHA256SUMS missing" in message
    assert "https://downloads.test/toy/versions.json to be written" in message
    assert (store / "toy/versions.json").read_text() == "[]"


def test_what_cannot_be_mended_is_an_error(command: Command) -> None:
    command.publish(command.maker.release())
    (Path(command.channel.store.address) / "toy/toy-v1.0.0/SHA256SUMS").unlink()

    status = command.run("reconcile")

    assert status == FetchBackError.exit_code
    assert "1 files cannot be mended from another site" in command.message()


def test_an_interrupted_publication_is_reported_and_is_no_fault(command: Command) -> None:
    command.publish(command.maker.release("1.0.0"))
    command.maker.release("2.0.0").put(command.channel.store)

    status = command.run("reconcile", "--check")

    assert status == 0
    assert "toy/toy-v2.0.0/ 6 files of no event" in command.message()


def add_mirror(command: Command, mirror: Path) -> None:
    """Give both channels a mirror."""
    channels = command.world.ctx.root / "translation_configs" / "channels.toml"
    text = f'\nmirrors = [{{ store = "{mirror}", base_url = "https://mirror.test" }}]'
    for name in ("release", "nightly"):
        replace_text(channels, f"[{name}]", f"[{name}]{text}")


def test_a_mirror_that_cannot_be_filled_is_offered_nothing(
    command: Command, tmp_path: Path
) -> None:
    add_mirror(command, tmp_path / "mirror")
    made = command.publish(command.maker.release())
    Path(
        command.channel.store.address, "toy", made.manifest.release, made.files[0].filename
    ).unlink()

    status = command.run("reconcile")

    assert status == FetchBackError.exit_code
    assert "2 files cannot be mended from another site" in command.message()
    assert not (tmp_path / "mirror" / "toy" / "versions.json").exists()


def test_a_store_of_others_that_is_named_as_a_mirror_is_left_as_it_is(
    command: Command, tmp_path: Path
) -> None:
    theirs = LocalStore(tmp_path / "theirs")
    command.maker.release("9.0.0").publish([theirs], command.channel.notary, command.now)
    before = theirs.sizes("toy")
    add_mirror(command, theirs.root)
    command.publish(command.maker.release())

    status = command.run("reconcile")

    assert status == LedgerError.exit_code
    assert theirs.sizes("toy") == before


def test_a_mirror_is_mended(command: Command, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    add_mirror(command, mirror)
    command.publish(command.maker.release())

    status = command.run("reconcile")

    assert status == 0
    assert (mirror / "toy" / "versions.json").exists()
    assert len(LocalStore(mirror).sizes("toy/toy-v1.0.0")) == 6
    assert command.run("reconcile", "--check") == 0


# --- status -----------------------------------------------------------------------------------


def test_the_status_shows_channels_sites_and_the_next_command(command: Command) -> None:
    command.publish(command.maker.release("1.0.0"), days=400)
    command.publish(command.maker.release("2.0.0"), staged=True)
    command.nightly(1)

    status = command.run("status")

    message = command.message()
    assert status == 0
    assert "toy release toy-v1.0.0 1.0.0" in message
    assert "400 days ok" in message
    assert "as the ledger says" in message
    assert "next: python -m pipeline promote toy-v2.0.0" in message


def test_the_status_for_programs_is_json(command: Command) -> None:
    command.nightly(9)
    command.message()

    status = command.run("status", "--json", "--check")

    (found,) = json.loads(command.capture.readouterr().out)
    assert status == 1
    assert found["next"]["command"] == "python -m pipeline nightly toy"
    assert [item["stale"] for item in found["standings"] if item["release"]] == [True]


def test_the_check_fails_for_a_stale_index_and_not_otherwise(command: Command) -> None:
    command.publish(command.maker.release())
    fine = command.run("status", "--check")
    (Path(command.channel.store.address) / "toy/versions.json").write_text("[]")

    stale = command.run("status", "--check")

    assert (fine, stale) == (0, 1)


def test_channels_with_stores_of_their_own_have_a_status_each(command: Command) -> None:
    channels = command.world.ctx.root / "translation_configs" / "channels.toml"
    before, _, after = channels.read_text().partition("[nightly]")
    channels.write_text(before + "[nightly]" + after.replace('"store"', '"other"'))
    command.message()

    command.run("status", "--json")

    found = json.loads(command.capture.readouterr().out)
    assert [Path(status["sites"][0]["address"]).name for status in found] == ["store", "other"]


def test_a_key_file_that_is_not_there_is_said(command: Command) -> None:
    assert command.run("status", "--key", "nowhere.asc") == ConfigError.exit_code
    assert "--key nowhere.asc: there is no such file" in command.message()


# --- bisect -----------------------------------------------------------------------------------


def test_a_script_that_is_not_there_is_said(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.nightly(1)
    monkeypatch.setattr(command.world.process, "find", lambda _program: None)

    status = command.run(
        *("bisect", "--interpreter", "toy", "--good", "2026-01-01", "--bad", "2026-01-02"),
        *("--", "./no-such-script"),
    )

    assert status == BisectError.exit_code
    assert "./no-such-script: there is no such program" in command.message()


def test_a_machine_that_no_platform_is_must_name_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    status = command.run(
        *("bisect", "--interpreter", "toy", "--good", "2026-01-01", "--bad", "2026-01-02"),
        *("--", "true"),
    )

    assert status == 25
    assert "Name one that runs here with --platform: linux-x86_64" in command.message()
