"""``uv.json`` offers what uv can install, each with a digest."""

from typing import Any

import pytest
from hypothesis import given

from pipeline.model.ledger import Event, Yanked
from pipeline.publish.projections.uv import uv_index
from tests.factories import BASE_URL, digest, later, make_event, make_nightly, make_view
from tests.unit.publish.projections.histories import LINUX, Drawn, drawn_histories, view_of


def uv_of(*events: Event) -> dict[str, dict[str, Any]]:
    """Return ``uv.json`` after *events*."""
    return uv_index(make_view(*events), "pypy")


def test_an_entry_has_exactly_uvs_form() -> None:
    index = uv_of(make_event(platforms=LINUX))

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
        pytest.param(make_event(staged=True), id="staged"),
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


def test_after_a_yank_uv_gets_the_previous_release() -> None:
    bad = make_event(version="7.3.23")

    index = uv_of(make_event(version="7.3.22"), bad, later(Yanked, bad))

    assert [entry["build"] for entry in index.values()] == ["7.3.22"]


def test_uv_keeps_the_newest_release_that_a_platform_has() -> None:
    index = uv_of(make_event(version="7.3.22", platforms=LINUX), make_event(version="7.3.23"))

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


@given(drawn_histories)
def test_in_any_history_uv_gets_a_digest_for_every_file(drawn: list[Drawn]) -> None:
    """An entry without one would be installed unverified."""
    index = uv_index(view_of(drawn), "pypy")

    wanted = {
        (item.published.language_version, row.platform)
        for item in drawn
        if item.is_offered and item.published.channel == "release" and item.published.stable
        for row in item.published.platforms
        if item.published.language_version != "2.7.18"
    }
    assert len(index) == len(wanted)
    assert all(len(entry["sha256"]) == 64 for entry in index.values())
    assert all("rc" not in entry["build"] for entry in index.values())
