"""Versions: which forms are read, and how they are ordered."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.model.base import Model
from pipeline.model.versions import (
    InterpreterVersion,
    Level,
    Nightly,
    VersionField,
    nightly_number,
    tag_for,
    version_of_tag,
)

parse = InterpreterVersion.parse

numbers = st.integers(min_value=0, max_value=99)
finals = st.tuples(numbers, numbers, numbers).map(lambda parts: InterpreterVersion(*parts))
candidates = st.tuples(finals, st.integers(min_value=1, max_value=99)).map(
    lambda parts: parts[0]._replace(level=Level.CANDIDATE, serial=parts[1])
)
unfinished = st.tuples(finals, st.sampled_from([Level.ALPHA, Level.BETA]), numbers).map(
    lambda parts: parts[0]._replace(level=parts[1], serial=parts[2])
)
versions = st.one_of(finals, candidates, unfinished)

TAG = "release-pypy3.11-v{version}"


class Holder(Model):
    """A model with a version."""

    version: VersionField


@pytest.mark.parametrize(
    ("text", "level", "serial"),
    [
        pytest.param("7.3.23", Level.FINAL, 0, id="final"),
        pytest.param("7.3.23rc2", Level.CANDIDATE, 2, id="candidate"),
        pytest.param("7.3.23b0", Level.BETA, 0, id="beta"),
        pytest.param("7.3.23a10", Level.ALPHA, 10, id="alpha"),
    ],
)
def test_a_version_has_a_level_and_its_number(text: str, level: Level, serial: int) -> None:
    assert parse(text) == InterpreterVersion(7, 3, 23, level, serial)


@pytest.mark.parametrize(
    ("text", "final"),
    [("8.0.0", True), ("8.0.0rc1", False), ("8.0.0b1", False), ("8.0.0a0", False)],
)
def test_only_a_version_without_a_suffix_is_final(text: str, *, final: bool) -> None:
    assert parse(text).final is final


@given(versions)
def test_what_is_written_is_what_is_read(version: InterpreterVersion) -> None:
    assert parse(str(version)) == version


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("7.3", id="two-numbers"),
        pytest.param("7.3.23.1", id="four-numbers"),
        pytest.param("v7.3.23", id="v-prefix"),
        pytest.param("7.3.023", id="leading-zero"),
        pytest.param("7.3.23rc", id="candidate-without-number"),
        pytest.param("7.3.23rc0", id="candidate-zero"),
        pytest.param("7.3.23rc01", id="candidate-leading-zero"),
        pytest.param("7.3.23-rc1", id="dash"),
        pytest.param("7.3.23c1", id="unknown-level"),
        pytest.param("7.3.23RC1", id="upper-case"),
        pytest.param("7.3.23b", id="beta-without-number"),
        pytest.param("7.3.23a01", id="alpha-leading-zero"),
        pytest.param("7.3.23a1rc1", id="two-levels"),
        pytest.param("7.3.23-candidate2", id="header"),
        pytest.param("7.3.23.dev0", id="dev"),
        pytest.param(" 7.3.23", id="leading-blank"),
        pytest.param("7.3.23\n", id="trailing-newline"),
        pytest.param("7.3.-1", id="negative"),
        pytest.param("../7.3.23", id="path"),
        pytest.param(
            "7.3.1\u0663",
            id="other-digits",
        ),
    ],
)
def test_another_form_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a version like '7.3.23'")):
        parse(text)


def test_versions_are_ordered_by_number_and_a_candidate_comes_before_its_final() -> None:
    in_order = [
        *("7.3.9", "7.3.10a0", "7.3.10a1", "7.3.10b0", "7.3.10b11"),
        *("7.3.10rc1", "7.3.10rc2", "7.3.10rc10", "7.3.10", "7.4.0rc1", "10.0.0"),
    ]

    ordered = sorted(map(parse, reversed(in_order)))

    assert [str(version) for version in ordered] == in_order


@given(candidates)
def test_every_candidate_is_between_the_final_before_and_its_own(
    candidate: InterpreterVersion,
) -> None:
    own = InterpreterVersion(candidate.major, candidate.minor, candidate.micro)
    before = [own._replace(micro=own.micro - 1)] if own.micro else []

    assert all(earlier < candidate for earlier in before)
    assert candidate < own


@given(versions)
def test_a_version_in_a_model_is_a_string_in_json(version: InterpreterVersion) -> None:
    holder = Holder(version=version)

    text = holder.model_dump_json()

    assert json.loads(text) == {"version": str(version)}
    assert Holder.model_validate_json(text) == holder


@pytest.mark.parametrize(
    "value", [7.3, 7, None, ["7", "3", "23"]], ids=["float", "int", "null", "list"]
)
def test_a_version_that_is_not_a_string_is_refused(value: object) -> None:
    """TOML's 7.3 would lose the zero of 7.30."""
    with pytest.raises(ValidationError, match="a version is written as a string"):
        Holder.model_validate({"version": value})


@given(versions)
def test_the_json_schema_accepts_every_version(version: InterpreterVersion) -> None:
    pattern = Holder.model_json_schema()["properties"]["version"]["pattern"]

    assert re.fullmatch(pattern, str(version))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param((7, 3, 23, "final", 0), "7.3.23", id="final"),
        pytest.param((7, 3, 23, "candidate", 2), "7.3.23rc2", id="candidate"),
        pytest.param((8, 0, 0, "beta", 1), "8.0.0b1", id="beta"),
        pytest.param((8, 0, 0, "alpha", 0), "8.0.0a0", id="alpha"),
        pytest.param((2, 7, 18, "final", 42), "2.7.18", id="final-with-a-number"),
    ],
)
def test_a_source_s_tuple_is_the_same_version(value: object, text: str) -> None:
    assert InterpreterVersion.from_source(value) == parse(text)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param((7, 3, 23), id="too-short"),
        pytest.param((7, 3, 23, "final", 0, 0), id="too-long"),
        pytest.param((7, 3, "23", "final", 0), id="text-for-a-number"),
        pytest.param((7, 3, 23, 0, "final"), id="swapped"),
        pytest.param((7, 3, 23, "released", 0), id="unknown-level"),
        pytest.param((7, -3, 23, "final", 0), id="negative"),
        pytest.param((7, 3, 23, "candidate", -1), id="negative-serial"),
        pytest.param((7, 3, 23, "candidate", 0), id="candidate-0"),
        pytest.param((7, 3, 23, "CANDIDATE", 0), id="candidate-0-in-capitals"),
        pytest.param((7, 3, 23, "Candidate", 0), id="candidate-0-with-a-capital"),
        pytest.param("7.3.23", id="text"),
        pytest.param(None, id="nothing"),
    ],
)
def test_another_value_of_a_source_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a version tuple like"):
        InterpreterVersion.from_source(value)


@pytest.mark.parametrize(
    ("text", "in_headers"),
    [
        pytest.param("7.3.23", "7.3.23", id="final"),
        pytest.param("7.3.23rc2", "7.3.23-candidate2", id="candidate"),
        pytest.param("8.0.0b1", "8.0.0-beta1", id="beta"),
        pytest.param("8.0.0a0", "8.0.0-alpha0", id="alpha"),
    ],
)
def test_headers_spell_the_level_out(text: str, in_headers: str) -> None:
    assert parse(text).in_headers == in_headers


@given(versions)
def test_a_tag_tells_the_version_that_it_was_made_of(version: InterpreterVersion) -> None:
    assert version_of_tag(TAG, tag_for(TAG, version)) == version


def test_a_tag_is_upstream_s() -> None:
    assert tag_for(TAG, parse("7.3.23rc1")) == "release-pypy3.11-v7.3.23rc1"


def test_what_follows_the_version_in_a_tag_counts() -> None:
    assert version_of_tag("v{version}-pypy", "v7.3.23-pypy") == parse("7.3.23")


@pytest.mark.parametrize(
    ("pattern", "tag"),
    [
        pytest.param(TAG, "release-pypy2.7-v7.3.23", id="another-line"),
        pytest.param(TAG, "release-pypy3.11-v7.3", id="no-version"),
        pytest.param(TAG, "release-pypy3.11-v7.3.23_ssl", id="another-end"),
        pytest.param(TAG, "release-pypy3.11-v", id="nothing"),
        pytest.param("v{version}-pypy", "v7.3.23", id="end-is-missing"),
        pytest.param("aba{version}aba", "aba", id="ends-overlap"),
    ],
)
def test_another_tag_is_of_no_version(pattern: str, tag: str) -> None:
    assert version_of_tag(pattern, tag) is None


def test_a_nightly_s_number_is_behind_all_numbers_from_before_git() -> None:
    assert nightly_number(87671) == 187671


@given(
    number=st.integers(min_value=0, max_value=10**7),
    revision=st.text("0123456789abcdef", min_size=12, max_size=12),
    prefix=st.sampled_from(["pypy-c-jit", "demo-nightly", "a-1"]),
)
def test_a_nightly_s_name_is_read_as_it_was_written(
    number: int, revision: str, prefix: str
) -> None:
    nightly = Nightly(number, revision, prefix)

    assert Nightly.parse(str(nightly)) == nightly


def test_a_nightly_is_named_as_upstream_names_it() -> None:
    assert str(Nightly(187671, "194f9f44b505", "pypy-c-jit")) == "pypy-c-jit-187671-194f9f44b505"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("pypy3.11-v7.3.23", id="release"),
        pytest.param("pypy-c-jit-187671", id="no-revision"),
        pytest.param("pypy-c-jit-187671-194f9f44b50", id="short-revision"),
        pytest.param("pypy-c-jit-187671-194f9f44b505f", id="long-revision"),
        pytest.param("187671-194f9f44b505", id="no-prefix"),
        pytest.param("pypy-c-jit-latest-194f9f44b505", id="no-number"),
        pytest.param("pypy-c-jit-187671-194F9F44B505", id="upper-case"),
    ],
)
def test_another_name_is_no_nightly_s(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name!r} is not the name of a nightly")):
        Nightly.parse(name)


def test_nightlies_are_ordered_by_their_number() -> None:
    earlier, later = Nightly(99999, "f" * 12, "pypy-c-jit"), Nightly(100000, "0" * 12, "pypy-c-jit")

    assert sorted([later, earlier]) == [earlier, later]
