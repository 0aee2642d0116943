"""``versions.json`` follows upstream's schema and rules, whatever was published when."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given

from pipeline.model.ledger import Event, Promoted, State, Unyanked, Yanked, replay
from pipeline.model.versions import InterpreterVersion
from pipeline.publish.projections.versions import versions_index
from tests.factories import (
    BASE_URL,
    changed,
    digest,
    later,
    make_config,
    make_event,
    make_nightly,
    make_view,
)
from tests.unit.publish.projections.histories import LINUX, Drawn, drawn_histories, view_of


def versions_of(*events: Event) -> list[dict[str, Any]]:
    """Return ``versions.json`` after *events*."""
    return versions_index(make_view(*events), "pypy")


def named(entries: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return which releases are listed, in order."""
    return [(entry["pypy_version"], entry["python_version"]) for entry in entries]


def test_a_release_is_listed_with_upstreams_keys_and_more() -> None:
    (entry,) = versions_of(make_event(platforms=LINUX))

    name = "pypy3.11-v7.3.23"
    place = f"{BASE_URL}/pypy/{name}"
    assert entry == {
        "pypy_version": "7.3.23",
        "python_version": "3.11.15",
        "stable": True,
        "latest_pypy": True,
        "date": "2026-11-21",
        "checksums": f"{place}/SHA256SUMS",
        "signature": f"{place}/SHA256SUMS.asc",
        "files": [
            {
                "filename": f"{name}-aarch64.tar.gz",
                "arch": "aarch64",
                "platform": "linux",
                "download_url": f"{place}/{name}-aarch64.tar.gz",
                "sha256": digest(f"{name}-aarch64.tar.gz"),
                "size": 1000,
                "glibc_floor": "2.31",
            },
            {
                "filename": f"{name}-linux64.tar.gz",
                "arch": "x64",
                "platform": "linux",
                "download_url": f"{place}/{name}-linux64.tar.gz",
                "sha256": digest(f"{name}-linux64.tar.gz"),
                "size": 1000,
                "glibc_floor": "2.31",
            },
        ],
    }


def test_the_floor_is_that_of_the_release_not_of_todays_table() -> None:
    row = {"platform": "linux-x86_64", "jit": True, "glibc_floor": "2.17"}

    (entry,) = versions_of(changed(make_event(), platforms=(row,)))

    assert [file["glibc_floor"] for file in entry["files"]] == ["2.17"]


def test_a_platform_without_glibc_has_no_floor() -> None:
    (entry,) = versions_of(make_event(platforms=("macos-arm64", "windows-x86_64")))

    assert len(entry["files"]) == 2
    assert all("glibc_floor" not in file for file in entry["files"])


def test_of_windows_the_zip_file_is_listed() -> None:
    (entry,) = versions_of(make_event(platforms=("windows-x86_64",)))

    (file,) = entry["files"]
    assert file["filename"] == "pypy3.11-v7.3.23-win64.zip"
    assert (file["arch"], file["platform"]) == ("x64", "win64")


# Of those that read it, docker-library's script has the fewest names; it stops at others.
KNOWN_ARCHES = {"aarch64", "arm64", "i686", "s390x", "x64"}
KNOWN_PLATFORMS = {"darwin", "linux", "win64"}


def test_platforms_that_readers_do_not_know_are_left_out() -> None:
    (entry,) = versions_of(make_event(platforms=tuple(make_config().platforms)))

    assert {file["arch"] for file in entry["files"]} == KNOWN_ARCHES
    assert {file["platform"] for file in entry["files"]} == KNOWN_PLATFORMS
    assert len(entry["files"]) == 7


def test_a_release_without_a_platform_that_readers_know_is_left_out() -> None:
    """It would take the place of the latest, and have nothing to install."""
    entries = versions_of(
        make_event(version="7.3.24", platforms=("linux-riscv64",)),
        make_event(version="7.3.23"),
        make_nightly(188_289, platforms=("linux-riscv64",)),
    )

    assert [(entry["pypy_version"], entry["latest_pypy"]) for entry in entries] == [
        ("7.3.23", True)
    ]


def test_releases_are_listed_newest_first_by_version_not_by_time() -> None:
    """Uv's generator and docker-library take the first match; a backport is not the newest."""
    entries = versions_of(
        make_event("pypy3.11", "7.3.23"),
        make_event("pypy3.9", "7.3.23"),
        make_event("pypy3.10", "7.3.23"),
        make_event("pypy3.11", "7.3.9"),
        make_event("pypy2.7", "7.3.23", language_version="2.7.18"),
        make_event("pypy3.11", "7.3.24rc1"),
        make_event("pypy3.11", "7.3.10"),
    )

    assert named(entries) == [
        ("7.3.24rc1", "3.11.15"),
        ("7.3.23", "3.11.15"),
        ("7.3.23", "3.10.15"),
        ("7.3.23", "3.9.15"),
        ("7.3.23", "2.7.18"),
        ("7.3.10", "3.11.15"),
        ("7.3.9", "3.11.15"),
    ]


def test_a_final_release_is_before_its_candidates() -> None:
    """setup-python takes both for equal, and then the first."""
    entries = versions_of(make_event(version="7.3.24rc1"), make_event(version="7.3.24"))

    assert [entry["pypy_version"] for entry in entries] == ["7.3.24", "7.3.24rc1"]


def test_the_newest_final_release_of_each_full_language_version_is_the_latest() -> None:
    """As upstream: 3.11.11, 3.11.13 and 3.11.15 each have one."""
    entries = versions_of(
        make_event(version="7.3.23", language_version="3.11.15"),
        make_event(version="7.3.20", language_version="3.11.13"),
        make_event(version="7.3.19", language_version="3.11.11"),
        make_event(version="7.3.18", language_version="3.11.11"),
    )

    latest = {entry["pypy_version"]: entry["latest_pypy"] for entry in entries}
    assert latest == {"7.3.23": True, "7.3.20": True, "7.3.19": True, "7.3.18": False}


def test_a_candidate_is_neither_stable_nor_the_latest() -> None:
    entries = versions_of(make_event(version="7.3.24rc1"), make_event(version="7.3.23"))

    flags = [(entry["pypy_version"], entry["stable"], entry["latest_pypy"]) for entry in entries]
    assert flags == [("7.3.24rc1", False, False), ("7.3.23", True, True)]


def test_an_older_release_that_is_published_later_does_not_become_the_latest() -> None:
    entries = versions_of(make_event(version="7.3.23"), make_event(version="7.3.22"))

    assert [entry["latest_pypy"] for entry in entries] == [True, False]


def test_after_a_yank_the_previous_release_is_the_latest_and_back() -> None:
    """Readers know no key that says yanked, so such a release is not in the list at all."""
    old, bad = make_event(version="7.3.22"), make_event(version="7.3.23")
    yank = later(Yanked, bad)

    yanked = versions_of(old, bad, yank)
    unyanked = versions_of(old, bad, yank, later(Unyanked, bad))

    assert [(entry["pypy_version"], entry["latest_pypy"]) for entry in yanked] == [("7.3.22", True)]
    assert unyanked == versions_of(old, bad)


def test_a_staged_release_is_listed_when_it_is_promoted() -> None:
    staged = make_event(staged=True)

    assert versions_of(staged) == []
    assert named(versions_of(staged, later(Promoted, staged))) == [("7.3.23", "3.11.15")]


def test_nightlies_come_last_without_a_date_under_the_short_language_version() -> None:
    entries = versions_of(make_nightly(), make_event(version="7.3.1rc1"))

    assert named(entries) == [("7.3.1rc1", "3.11.15"), ("nightly", "3.11")]
    nightly = entries[-1]
    assert "date" not in nightly
    assert (nightly["stable"], nightly["latest_pypy"]) == (False, False)
    (file,) = nightly["files"]
    assert file["filename"] == "pypy-c-jit-20261121-0123456789ab-linux64.tar.gz"
    assert file["download_url"] == (
        f"{BASE_URL}/pypy/pypy3.11-nightly-2026-11-21-20261121-0123456789ab/{file['filename']}"
    )


def test_32_bit_linux_has_another_name_in_nightlies() -> None:
    nightly, release = (
        make_nightly(platforms=("linux-i686",)),
        make_event(platforms=("linux-i686",)),
    )

    entries = versions_of(nightly, release)

    names = [file["filename"] for entry in entries for file in entry["files"]]
    assert names == [
        "pypy3.11-v7.3.23-linux32.tar.gz",
        "pypy-c-jit-20261121-0123456789ab-linux.tar.gz",
    ]
    assert {file["arch"] for entry in entries for file in entry["files"]} == {"i686"}


def test_of_each_language_version_the_newest_nightly_is_listed() -> None:
    entries = versions_of(
        make_nightly(20261122),
        make_nightly(20261121),
        make_nightly(20261119, "pypy3.9"),
        make_nightly(20261120, "pypy3.10"),
    )

    assert named(entries) == [("nightly", "3.11"), ("nightly", "3.10"), ("nightly", "3.9")]
    assert "20261122" in entries[0]["files"][0]["filename"]


def test_of_nightlies_with_one_number_the_last_published_is_listed() -> None:
    first, second = make_nightly(release="n-20261121-a"), make_nightly(release="n-20261121-b")

    (entry,) = versions_of(first, second)

    assert "n-20261121-b" in entry["files"][0]["download_url"]


def test_after_a_yank_the_newest_good_nightly_is_listed() -> None:
    bad = make_nightly(20261122)

    (entry,) = versions_of(make_nightly(20261120), make_nightly(20261121), bad, later(Yanked, bad))

    assert "20261121" in entry["files"][0]["filename"]


def test_a_nightly_of_a_final_version_is_no_release() -> None:
    """Its configured version says 7.3.23, but nobody released that."""
    (entry,) = versions_of(make_nightly())

    assert entry["pypy_version"] == "nightly"


def test_only_archives_that_every_client_reads_are_listed() -> None:
    """pyenv, setup-python and older uv read no zstd."""
    entries = versions_of(make_event(platforms=LINUX), make_nightly(platforms=LINUX))

    names = [file["filename"] for entry in entries for file in entry["files"]]
    assert len(names) == 4
    assert all(name.endswith(".tar.gz") for name in names)


def test_the_date_is_when_it_was_offered_first() -> None:
    event = make_event(at=datetime(2025, 1, 2, 23, 59, tzinfo=UTC))
    staged = event.model_copy(update={"staged": True})
    promoted = later(Promoted, staged, at=datetime(2025, 2, 3, tzinfo=UTC))

    (entry,) = versions_index(make_view(state=replay(State(), [event])), "pypy")
    (late,) = versions_index(make_view(state=replay(State(), [staged, promoted])), "pypy")

    assert (entry["date"], late["date"]) == ("2025-01-02", "2025-02-03")


@given(drawn_histories)
def test_in_any_history_upstreams_rules_hold(drawn: list[Drawn]) -> None:
    entries = versions_index(view_of(drawn), "pypy")

    releases = [entry for entry in entries if entry["pypy_version"] != "nightly"]
    order = [InterpreterVersion.parse(entry["pypy_version"]) for entry in releases]
    assert entries[: len(releases)] == releases
    assert order == sorted(order, reverse=True)
    for language in {entry["python_version"] for entry in releases}:
        same = [entry for entry in releases if entry["python_version"] == language]
        final = [entry for entry in same if entry["stable"]]
        assert [entry for entry in same if entry["latest_pypy"]] == final[:1]


@given(drawn_histories)
def test_the_latest_is_the_greatest_final_version_that_is_offered(drawn: list[Drawn]) -> None:
    events = [item.published for item in drawn if item.is_offered]
    greatest: dict[str, InterpreterVersion] = {}
    for event in events:
        if event.channel == "release" and event.stable:
            known = greatest.get(event.language_version, event.interpreter_version)
            greatest[event.language_version] = max(known, event.interpreter_version)

    entries = versions_index(view_of(drawn), "pypy")

    assert {
        entry["python_version"]: InterpreterVersion.parse(entry["pypy_version"])
        for entry in entries
        if entry["latest_pypy"]
    } == greatest
