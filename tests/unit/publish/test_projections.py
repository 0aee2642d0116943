"""Indexes are pure functions of the ledger."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.model.base import pretty_json
from pipeline.model.ledger import Event, Ledger
from pipeline.model.versions import InterpreterVersion, Level
from pipeline.publish.projections import projections, uv_index, versions_index
from tests.factories import (
    BASE_URL,
    changed,
    digest,
    make_config,
    make_event,
    make_ledger,
    make_nightly,
)

BOTH = ("linux-x86_64", "linux-aarch64")
PLATFORMS = make_config().platforms
VERSIONS = "pypy/versions.json"
UV = "pypy/uv.json"


def versions_of(*events: Event) -> list[dict[str, Any]]:
    """Return ``versions.json`` after *events*."""
    return versions_index(make_ledger(*events).events, PLATFORMS, BASE_URL)


def uv_of(*events: Event) -> dict[str, dict[str, Any]]:
    """Return ``uv.json`` after *events*."""
    return uv_index(make_ledger(*events).events, PLATFORMS, BASE_URL)


def named(entries: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return which releases are listed, in order."""
    return [(entry["pypy_version"], entry["python_version"]) for entry in entries]


def test_a_release_is_listed_with_upstreams_keys_and_a_digest() -> None:
    (entry,) = versions_of(make_event(platforms=BOTH))

    name = "pypy3.11-v7.3.23"
    place = f"{BASE_URL}/pypy/{name}"
    assert entry == {
        "pypy_version": "7.3.23",
        "python_version": "3.11.15",
        "stable": True,
        "latest_pypy": True,
        "date": "2026-11-21",
        "files": [
            {
                "filename": f"{name}-aarch64.tar.gz",
                "arch": "aarch64",
                "platform": "linux",
                "download_url": f"{place}/{name}-aarch64.tar.gz",
                "sha256": digest(f"{name}-aarch64.tar.gz"),
                "size": 1000,
            },
            {
                "filename": f"{name}-linux64.tar.gz",
                "arch": "x64",
                "platform": "linux",
                "download_url": f"{place}/{name}-linux64.tar.gz",
                "sha256": digest(f"{name}-linux64.tar.gz"),
                "size": 1000,
            },
        ],
    }


def test_releases_are_listed_newest_first_by_version_not_by_time() -> None:
    """setup-python and docker-library take the first match; a backport is not the newest."""
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


def test_nightlies_come_last_without_a_date_under_the_short_language_version() -> None:
    entries = versions_of(make_nightly(), make_event(version="7.3.1rc1"))

    assert named(entries) == [("7.3.1rc1", "3.11.15"), ("nightly", "3.11")]
    nightly = entries[-1]
    assert set(nightly) == {"pypy_version", "python_version", "stable", "latest_pypy", "files"}
    assert (nightly["stable"], nightly["latest_pypy"]) == (False, False)
    (file,) = nightly["files"]
    assert file["filename"] == "pypy-c-jit-20261121-0123456789ab-linux64.tar.gz"
    assert file["download_url"] == (
        f"{BASE_URL}/pypy/pypy-c-jit-20261121-0123456789ab/{file['filename']}"
    )


def test_of_each_language_version_the_newest_nightly_is_listed() -> None:
    entries = versions_of(
        make_nightly(20261122),
        make_nightly(20261121),
        make_nightly(20261119, "pypy3.9"),
        make_nightly(20261120, "pypy3.10"),
    )

    assert named(entries) == [("nightly", "3.11"), ("nightly", "3.10"), ("nightly", "3.9")]
    assert "20261122" in entries[0]["files"][0]["filename"]


def test_of_nightlies_of_one_day_the_last_published_is_listed() -> None:
    first, second = make_nightly(release="n-20261121-a"), make_nightly(release="n-20261121-b")

    (entry,) = versions_of(first, second)

    assert "n-20261121-b" in entry["files"][0]["filename"]


def test_a_nightly_of_a_final_version_is_no_release() -> None:
    """Its configured version says 7.3.23, but nobody released that."""
    assert uv_of(make_nightly()) == {}
    assert versions_of(make_nightly())[0]["pypy_version"] == "nightly"


def test_only_the_gzip_archives_are_listed() -> None:
    """pyenv, setup-python and older uv read no zstd."""
    events = [make_event(platforms=BOTH), make_nightly(platforms=BOTH)]

    files = [file for entry in versions_of(*events) for file in entry["files"]]
    urls = [entry["url"] for entry in uv_of(*events).values()]

    assert len(files) == 4
    assert all(file["filename"].endswith(".tar.gz") for file in files)
    assert all(url.endswith(".tar.gz") for url in urls)


def test_every_listed_file_has_its_digest_and_size() -> None:
    files = [file for entry in versions_of(make_event(), make_nightly()) for file in entry["files"]]

    assert [file["sha256"] for file in files] == [digest(file["filename"]) for file in files]
    assert all(file["size"] == 1000 for file in files)


def test_uvs_entry_has_exactly_uvs_form() -> None:
    index = uv_of(make_event(platforms=BOTH))

    name = "pypy3.11-v7.3.23"
    assert set(index) == {"pypy-3.11.15-linux-x86_64-gnu", "pypy-3.11.15-linux-aarch64-gnu"}
    assert index["pypy-3.11.15-linux-x86_64-gnu"] == {
        "name": "pypy",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": 3,
        "minor": 11,
        "patch": 15,
        "prerelease": "",
        "url": f"{BASE_URL}/pypy/{name}/{name}-linux64.tar.gz",
        "sha256": digest(f"{name}-linux64.tar.gz"),
        "variant": None,
        "build": "7.3.23",
    }


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(make_event(implementation="demo"), id="unknown-implementation"),
        pytest.param(make_event(language_version="3.11"), id="short-language-version"),
        pytest.param(make_event(version="7.3.24rc1"), id="candidate"),
        pytest.param(make_nightly(), id="nightly"),
    ],
)
def test_uv_is_not_offered_what_it_cannot_install(event: Event) -> None:
    assert uv_of(event) == {}


def test_uv_is_offered_the_newest_release_whatever_was_published_last() -> None:
    index = uv_of(
        make_event(version="7.3.22"), make_event(version="7.3.23"), make_event(version="7.3.21")
    )

    assert [entry["build"] for entry in index.values()] == ["7.3.23"]


def test_uv_keeps_the_newest_release_that_a_platform_has() -> None:
    index = uv_of(make_event(version="7.3.22", platforms=BOTH), make_event(version="7.3.23"))

    assert {key: entry["build"] for key, entry in index.items()} == {
        "pypy-3.11.15-linux-x86_64-gnu": "7.3.23",
        "pypy-3.11.15-linux-aarch64-gnu": "7.3.22",
    }


def test_uv_is_told_of_no_python_that_it_cannot_install() -> None:
    index = uv_of(
        make_event("pypy2.7", language_version="2.7.18"),
        make_event("pypy3.7", language_version="3.7.13"),
        make_event("pypy3.8", language_version="3.8.16"),
    )

    assert sorted(index) == ["pypy-3.8.16-linux-x86_64-gnu"]


def test_uv_finds_each_full_language_version() -> None:
    index = uv_of(
        make_event("pypy3.11", language_version="3.11.15"),
        make_event("pypy3.11", "7.3.19", language_version="3.11.11"),
        make_event("pypy3.10", language_version="3.10.16"),
    )

    assert sorted(index) == [
        "pypy-3.10.16-linux-x86_64-gnu",
        "pypy-3.11.11-linux-x86_64-gnu",
        "pypy-3.11.15-linux-x86_64-gnu",
    ]


def test_each_product_has_its_own_indexes() -> None:
    demo = make_event(
        "demo", "1.0.0", product="demo", implementation="demo", language_version="1.0"
    )

    indexes = projections(make_ledger(make_event(), demo), PLATFORMS, BASE_URL)

    assert set(indexes) == {VERSIONS, UV, "demo/versions.json", "demo/uv.json"}
    assert json.loads(indexes["demo/uv.json"]) == {}
    assert named(json.loads(indexes["demo/versions.json"])) == [("1.0.0", "1.0")]
    assert named(json.loads(indexes[VERSIONS])) == [("7.3.23", "3.11.15")]


def test_without_events_there_is_no_index() -> None:
    assert projections(Ledger(), PLATFORMS, BASE_URL) == {}


def test_the_date_is_when_it_was_published() -> None:
    event = make_event(at=datetime(2025, 1, 2, 23, 59, tzinfo=UTC))

    (entry,) = versions_index([event], PLATFORMS, BASE_URL)

    assert entry["date"] == "2025-01-02"


def test_a_platform_that_left_the_table_is_named() -> None:
    """Its releases are in the ledger for ever."""
    ledger = make_ledger(make_event(platforms=BOTH))
    smaller = {"linux-x86_64": PLATFORMS["linux-x86_64"]}

    try:
        indexes = projections(ledger, smaller, BASE_URL)
    except PipelineError as error:
        assert "linux-aarch64" in str(error)  # noqa: PT017 - either behaviour is good
    else:
        assert b"linux64" in indexes[VERSIONS]


numbered = st.tuples(st.integers(2, 4), st.integers(0, 12)).map(
    lambda numbers: InterpreterVersion(7, *numbers)
)
releases = st.lists(
    st.tuples(
        st.sampled_from(["3.9.19", "3.10.16", "3.11.13", "3.11.15"]), numbered, st.booleans()
    ),
    unique=True,
    min_size=1,
    max_size=8,
)


def published(language: str, version: InterpreterVersion, *, candidate: bool) -> Event:
    """Return the event of a release."""
    if candidate:
        version = version._replace(level=Level.CANDIDATE, serial=1)
    interpreter = f"pypy{language.rpartition('.')[0]}"
    return make_event(
        interpreter,
        str(version),
        language_version=language,
        release=f"{interpreter}-{language}-v{version}",
    )


@given(releases, st.data())
def test_the_order_of_publishing_does_not_change_any_index(
    drawn: list[tuple[str, InterpreterVersion, bool]], data: st.DataObject
) -> None:
    events = [published(language, version, candidate=rc) for language, version, rc in drawn]
    events += [make_nightly(20261120), make_nightly(20261121, "pypy3.10")]
    shuffled = data.draw(st.permutations(events))

    indexes = projections(make_ledger(*shuffled), PLATFORMS, BASE_URL)

    assert indexes == projections(make_ledger(*events), PLATFORMS, BASE_URL)


@given(releases)
def test_in_any_history_the_rules_of_the_index_hold(
    drawn: list[tuple[str, InterpreterVersion, bool]],
) -> None:
    entries = versions_of(
        *(published(language, version, candidate=rc) for language, version, rc in drawn)
    )

    order = [InterpreterVersion.parse(entry["pypy_version"]) for entry in entries]
    assert order == sorted(order, reverse=True)
    assert len(entries) == len(drawn)
    for language in {entry["python_version"] for entry in entries}:
        same = [entry for entry in entries if entry["python_version"] == language]
        final = [entry for entry in same if entry["stable"]]
        assert [entry for entry in same if entry["latest_pypy"]] == final[:1]
        assert all("rc" not in entry["pypy_version"] for entry in final)


@given(releases)
def test_in_any_history_uv_gets_a_digest_for_every_file(
    drawn: list[tuple[str, InterpreterVersion, bool]],
) -> None:
    """An entry without one would be installed unverified."""
    index = uv_of(*(published(language, version, candidate=rc) for language, version, rc in drawn))

    assert len(index) == len({language for language, _, rc in drawn if not rc})
    assert all(len(entry["sha256"]) == 64 for entry in index.values())
    assert all("rc" not in entry["build"] for entry in index.values())


def test_the_same_ledger_gives_the_same_bytes_and_stays_as_it_is() -> None:
    ledger = make_ledger(make_event(platforms=BOTH), make_nightly())
    before = pretty_json(ledger)

    first, second = (projections(ledger, PLATFORMS, BASE_URL) for _ in range(2))

    assert first == second
    assert pretty_json(ledger) == before


def test_a_changed_event_would_change_the_indexes() -> None:
    """The tests above would pass on a function that ignores its input."""
    event = make_event()
    other = changed(event, language_version="3.11.16")

    first = projections(make_ledger(event), PLATFORMS, BASE_URL)

    assert projections(make_ledger(other), PLATFORMS, BASE_URL) != first
