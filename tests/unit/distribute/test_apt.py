"""The text of an apt repository, and how long the lists that it replaced stay."""

import gzip
import hashlib
import lzma
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.distribute.apt import (
    ReleaseText,
    SuiteIndex,
    Times,
    is_due,
    next_times,
    package_lists,
    package_stanza,
    parse_release,
    sources_text,
    superseded,
)
from pipeline.model.debian import BinaryPackage
from tests.factories import digest

NOON: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
GRACE: Final = timedelta(hours=48)
DIRECTORY: Final = "release/binary-amd64"
CONTROL: Final = "Package: tool\nVersion: 1~deb12\nDescription: a tool\n More of it."


def package(**overrides: object) -> BinaryPackage:
    """Return a package of a release."""
    fields = {
        "filename": "tool_1.deb12_amd64.deb",
        "suite": "bookworm",
        "platform": "linux-x86_64",
        "architecture": "amd64",
        "name": "tool",
        "package_version": "1~deb12",
        "control": CONTROL,
        "size": 820,
        "sha256": digest("tool"),
    }
    return BinaryPackage.model_validate({**fields, **overrides})


def suite(*stanzas: str) -> SuiteIndex:
    """Return a suite with one list."""
    return SuiteIndex(
        origin="Toy Packagers",
        suite="bookworm",
        description="Packages for bookworm",
        architectures=("amd64", "arm64"),
        components=("release", "nightly"),
        lists=package_lists(DIRECTORY, stanzas),
    )


def times(**overrides: object) -> Times:
    """Return times of a text that is good for two weeks."""
    fields = {"date": NOON, "valid_until": NOON + timedelta(days=14)}
    return Times(**{**fields, **overrides})  # type: ignore[arg-type]


def path(name: str) -> str:
    """Return the path of a list by its digest."""
    return f"{DIRECTORY}/by-hash/SHA256/{digest(name)}"


# --- lists ----------------------------------------------------------------------------------


def test_a_stanza_is_the_packages_own_and_says_where_its_file_is() -> None:
    stanza = package_stanza(package(), "toy/toy-v1/tool_1.deb12_amd64.deb")

    assert stanza == (
        f"{CONTROL}\nFilename: toy/toy-v1/tool_1.deb12_amd64.deb\nSize: 820\n"
        f"SHA256: {digest('tool')}\n"
    )


@pytest.mark.parametrize(
    "control",
    [f"{CONTROL}\n", "Package: tool\n\nPackage: other", f"{CONTROL}\nfilename: /etc/shadow", ""],
    ids=["a last newline", "two stanzas", "a path of its own", "nothing"],
)
def test_a_control_stanza_that_would_spoil_the_list_is_no_package(control: str) -> None:
    with pytest.raises(ValidationError):
        package(control=control)


def test_stanzas_are_parted_by_empty_lines() -> None:
    assert package_lists(DIRECTORY, ["A: 1\n", "B: 2\n"])[f"{DIRECTORY}/Packages"] == (
        b"A: 1\n\nB: 2\n"
    )


@given(st.lists(st.text(min_size=1, max_size=50)))
def test_every_form_of_a_list_has_the_same_in_it(stanzas: list[str]) -> None:
    forms = package_lists(DIRECTORY, stanzas)

    plain = forms[f"{DIRECTORY}/Packages"]
    assert gzip.decompress(forms[f"{DIRECTORY}/Packages.gz"]) == plain
    assert lzma.decompress(forms[f"{DIRECTORY}/Packages.xz"]) == plain
    assert len(forms) == 3


def test_a_compressed_list_says_nothing_of_the_time() -> None:
    """Bytes 4 to 8 of a gzip header (RFC 1952)."""
    assert package_lists(DIRECTORY, ["A: 1\n"])[f"{DIRECTORY}/Packages.gz"][4:8] == bytes(4)


# --- InRelease ------------------------------------------------------------------------------


def test_the_text_is_as_debian_describes_it() -> None:
    made = suite()
    text = ReleaseText(body=made.body, times=times(superseded={path("old"): NOON})).text

    listed = "".join(
        f" {hashlib.sha256(data).hexdigest()} {len(data)} {DIRECTORY}/Packages{ending}\n"
        for ending, data in (
            (ending, made.lists[f"{DIRECTORY}/Packages{ending}"]) for ending in ("", ".gz", ".xz")
        )
    )
    assert text == (
        "Origin: Toy Packagers\nLabel: Toy Packagers\nSuite: bookworm\nCodename: bookworm\n"
        "Architectures: amd64 arm64\nComponents: release nightly\n"
        "Description: Packages for bookworm\nAcquire-By-Hash: yes\n"
        f"SHA256:\n{listed}"
        "Date: Sat, 21 Nov 2026 12:00:00 +0000\nValid-Until: Sat, 05 Dec 2026 12:00:00 +0000\n"
        f"X-Superseded:\n 2026-11-21T12:00:00Z {path('old')}\n"
    )


moments = st.integers(0, 10**8).map(lambda seconds: NOON + timedelta(seconds=seconds))


@given(
    st.lists(st.from_regex(r"[A-Za-z]+: [a-z ]+\n", fullmatch=True), max_size=3),
    moments,
    st.dictionaries(st.sampled_from([path(name) for name in "abcd"]), moments),
)
def test_what_is_written_is_read_again(
    stanzas: list[str], date: datetime, old: dict[str, datetime]
) -> None:
    made = suite(*stanzas)
    written = ReleaseText(
        body=made.body, times=times(date=date, valid_until=date + GRACE, superseded=old)
    )

    read = parse_release(written.text)

    assert read == written
    assert read.by_hash == set(made.by_hash)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Origin: somebody\n",
        suite().body,
        f"{suite().body}Date: yesterday\nValid-Until: tomorrow\n",
        ReleaseText(body="SHA256:\n a b\n", times=times()).text,
        f"{ReleaseText(body=suite().body, times=times()).text}X-Superseded:\n long ago\n",
    ],
    ids=["empty", "no lists", "no times", "no dates", "lists without names", "no time"],
)
def test_what_is_not_ours_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_release(text)


@pytest.mark.parametrize(
    ("body", "days", "due"),
    [
        (suite().body, 0, False),
        (suite().body, 7, False),
        (suite().body, 7.01, True),
        (suite().body, 100, True),
        (suite("A: 1\n").body, 0, True),
    ],
    ids=["new", "half its time", "past that", "expired", "other lists"],
)
def test_a_text_is_replaced_only_if_it_must_be(body: str, days: float, *, due: bool) -> None:
    present = ReleaseText(body=suite().body, times=times())

    assert is_due(present, body, NOON + timedelta(days=days), 14) is due


def test_where_there_is_none_one_is_due() -> None:
    assert is_due(None, suite().body, NOON, 14)


@pytest.mark.parametrize(
    ("now", "date"),
    [
        (NOON + HOUR, NOON + HOUR),
        (NOON, NOON),
        (NOON - timedelta(seconds=9), NOON),
        (NOON - HOUR, NOON - HOUR),
    ],
    ids=["later", "at once", "by a clock that is behind", "after one that was ahead"],
)
def test_dates_do_not_go_back_but_behind_one_that_apt_refuses(
    now: datetime, date: datetime
) -> None:
    present = ReleaseText(body="", times=times())

    following = next_times(present, now, 14, {})

    assert (following.date, following.valid_until) == (date, date + timedelta(days=14))


# --- superseded lists -----------------------------------------------------------------------


def text_with(*current: str, old: dict[str, datetime] | None = None) -> ReleaseText:
    """Return a text that names lists by their paths, and the superseded ones."""
    rows = "".join(f" {name.rpartition('/')[2]} 1 {DIRECTORY}/Packages\n" for name in current)
    return ReleaseText(body=f"SHA256:\n{rows}", times=times(superseded=old or {}))


A, B, C = path("a"), path("b"), path("c")


def decided(
    present: ReleaseText | None, current: Iterable[str], there: Iterable[str], now: datetime = NOON
) -> tuple[dict[str, datetime], set[str]]:
    """Return what is kept and what is over."""
    found = superseded(present, current, there, now, GRACE)
    return dict(found.kept), set(found.expired)


def test_what_was_named_until_now_stays_from_now_on() -> None:
    assert decided(text_with(A), [B], [A, B]) == ({A: NOON}, set())


def test_what_was_superseded_keeps_its_time() -> None:
    assert decided(text_with(B, old={A: NOON - HOUR}), [B], [A, B]) == ({A: NOON - HOUR}, set())


def test_what_was_superseded_for_the_time_of_grace_is_over() -> None:
    assert decided(text_with(B, old={A: NOON - GRACE}), [B], [A, B]) == ({}, {A})


def test_what_is_named_again_is_not_superseded() -> None:
    assert decided(text_with(B, old={A: NOON - GRACE}), [A], [A, B]) == ({B: NOON}, set())


def test_what_nobody_names_is_superseded_from_now_on() -> None:
    assert decided(text_with(B), [B], [A, B]) == ({A: NOON}, set())
    assert decided(None, [B], [A, B]) == ({A: NOON}, set())


def test_what_is_not_there_is_not_spoken_of() -> None:
    assert decided(text_with(A, old={C: NOON - GRACE}), [B], [B]) == ({}, set())


def test_a_time_between_seconds_is_the_next_one() -> None:
    """The time that is written must not be earlier than the time that it was."""
    now = NOON + timedelta(milliseconds=1)

    assert decided(text_with(A), [B], [A, B], now) == ({A: NOON + timedelta(seconds=1)}, set())


steps = st.tuples(
    st.sampled_from(["publish", "killed before", "killed after", "stray"]),
    st.sampled_from([frozenset({A}), frozenset({B}), frozenset({B, C}), frozenset({A, C})]),
    st.integers(0, 60).map(lambda hours: timedelta(hours=hours)),
)


@given(st.lists(steps, max_size=30))
def test_no_list_that_a_client_may_still_ask_for_is_removed(
    history: list[tuple[str, frozenset[str], timedelta]],
) -> None:
    """Whoever updates has a text that was there at most the time of grace ago."""
    now, present, there = NOON, None, set[str]()
    named: list[tuple[frozenset[str], datetime]] = []
    for what, current, pause in history:
        now += pause
        there |= {path("stray")} if what == "stray" else current
        if what in ("publish", "killed after"):
            old = superseded(present, current, there, now, GRACE)
            named = [(lists, min(end, now)) for lists, end in named]
            named.append((current, datetime.max.replace(tzinfo=UTC)))
            present = text_with(*sorted(current), old=dict(old.kept))
            if what == "publish":
                there -= old.expired
            assert current.isdisjoint(old.expired)
        for lists, end in named:
            if now - GRACE < end:
                assert lists <= there


@given(st.lists(steps, min_size=1, max_size=30))
def test_in_the_end_only_current_lists_are_left(
    history: list[tuple[str, frozenset[str], timedelta]],
) -> None:
    """Two more publications, each after the time of grace, remove whatever was left."""
    now, present, there = NOON, None, set[str]()
    current = history[-1][1]
    more = [("publish", current, GRACE)] * 2
    for what, lists, pause in [*history, *more]:
        now += pause
        there |= {path("stray")} if what == "stray" else lists
        if what in ("publish", "killed after"):
            old = superseded(present, lists, there, now, GRACE)
            present = text_with(*sorted(lists), old=dict(old.kept))
            if what == "publish":
                there -= old.expired

    assert there == current


# --- sources --------------------------------------------------------------------------------


def test_a_source_has_the_key_in_it() -> None:
    text = sources_text(
        "Toy Packagers",
        "https://downloads.test",
        "bookworm",
        ("release", "nightly"),
        "-----BEGIN-----\n\nabc\n-----END-----\n",
    )

    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert text.splitlines()[len(comments) :] == [
        "Types: deb",
        "URIs: https://downloads.test",
        "Suites: bookworm",
        "Components: release nightly",
        "Signed-By:",
        " -----BEGIN-----",
        " .",
        " abc",
        " -----END-----",
    ]
    assert "apt older than 2.3.10" in text
    assert "https://downloads.test/apt/KEY.asc" in text
