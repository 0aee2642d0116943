"""Errors: one exit code per cause, and messages that say what to do."""

import re
from collections import Counter

import pytest

import pipeline.errors
from pipeline.errors import (
    ClaimError,
    CommandError,
    ConfigError,
    DigestMismatchError,
    GateError,
    JobsFailedError,
    MissingToolError,
    PipelineError,
    SigningKeyError,
    UnknownNameError,
    WorkdirBusyError,
    suggestion,
)

CLASSES = [
    value
    for value in vars(pipeline.errors).values()
    if isinstance(value, type) and issubclass(value, PipelineError) and value is not PipelineError
]
RANGES = [range(10, 20), range(20, 30), range(30, 40), range(40, 50), range(50, 60)]
RANGES += [range(60, 70), range(70, 80), range(80, 90)]


def test_this_file_sees_the_errors() -> None:
    """The tests below would pass on an empty list."""
    assert len(CLASSES) >= 25


def test_no_two_causes_share_an_exit_code() -> None:
    counted = Counter(error.exit_code for error in CLASSES)

    assert [code for code, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_each_error_has_its_own_exit_code_in_a_documented_range(
    error: type[PipelineError],
) -> None:
    in_ranges = any(error.exit_code in codes for codes in RANGES)

    assert "exit_code" in vars(error)
    assert in_ranges or error is JobsFailedError


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_each_error_names_its_cause_in_a_sentence(error: type[PipelineError]) -> None:
    assert error.__doc__ is not None
    assert re.fullmatch(r"[A-Z][^\n]+[^.]\.", error.__doc__)
    assert error.__name__.endswith("Error")


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        (ConfigError, RANGES[0]),
        (CommandError, RANGES[1]),
        (GateError, RANGES[3]),
        (SigningKeyError, RANGES[4]),
        (WorkdirBusyError, RANGES[6]),
        (ClaimError, RANGES[7]),
    ],
)
def test_the_range_of_an_exit_code_says_which_part_failed(
    error: type[PipelineError], codes: range
) -> None:
    assert error.exit_code in codes


def test_an_unknown_name_is_answered_with_a_near_one_and_all() -> None:
    error = UnknownNameError(
        "platform", "linux-arch64", ["linux-x86_64", "linux-aarch64"], where="w"
    )

    assert str(error) == (
        "w: unknown platform 'linux-arch64'. Did you mean 'linux-aarch64'? "
        "Allowed: linux-x86_64, linux-aarch64."
    )


def test_a_name_that_is_near_to_none_gets_the_allowed_ones_only() -> None:
    assert suggestion("zzz", ["demo", "pypy3.11"]) == "Allowed: demo, pypy3.11."


def test_where_nothing_is_allowed_the_answer_says_so() -> None:
    assert suggestion("demo", []) == "Allowed: none."


def test_a_wrong_digest_is_shown_beside_the_expected_one() -> None:
    error = DigestMismatchError("x.tar.gz", expected="aa", actual="bb", remedy="Fetch it again.")

    assert str(error) == "x.tar.gz: sha256 is bb, expected aa. Fetch it again."


def test_a_missing_program_is_named_with_purpose_and_package() -> None:
    message = str(MissingToolError("gpg", purpose="sign", package="gnupg"))

    assert "gpg is not on PATH" in message
    assert "needed to sign" in message
    assert "apt-get install gnupg" in message
    assert "python -m pipeline doctor --provision" in message


def test_an_error_has_no_place_until_the_runner_says_it() -> None:
    error = ConfigError("x")

    error.where = "config demo"

    assert ConfigError("y").where is None
