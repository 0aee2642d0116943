"""Versions: which forms are read, and how they are ordered."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.model.base import Model
from pipeline.model.versions import InterpreterVersion, VersionField

parse = InterpreterVersion.parse

numbers = st.integers(min_value=0, max_value=99)
finals = st.tuples(numbers, numbers, numbers).map(lambda parts: InterpreterVersion(*parts))
candidates = st.tuples(finals, st.integers(min_value=1, max_value=99)).map(
    lambda parts: parts[0]._replace(final=False, candidate=parts[1])
)
versions = st.one_of(finals, candidates)


class Holder(Model):
    """A model with a version."""

    version: VersionField


def test_a_final_version_has_no_candidate() -> None:
    assert parse("7.3.23") == InterpreterVersion(7, 3, 23, final=True, candidate=0)


def test_a_candidate_is_not_final() -> None:
    assert parse("7.3.23rc2") == InterpreterVersion(7, 3, 23, final=False, candidate=2)


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
        pytest.param("7.3.23b1", id="beta"),
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
    in_order = ["7.3.9", "7.3.10rc1", "7.3.10rc2", "7.3.10rc10", "7.3.10", "7.4.0rc1", "10.0.0"]

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
