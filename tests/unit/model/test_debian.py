"""Names and versions of Debian packages."""

from datetime import date
from typing import Final
from urllib.parse import quote_plus, unquote_plus

import pytest
from pydantic import ValidationError

from pipeline.model.debian import DebianConfig, NightlyBuild, package_filename, package_version
from pipeline.model.versions import InterpreterVersion, Nightly
from tests.factories import make_config

BOOKWORM: Final = make_config().suites["bookworm"]
NIGHTLY: Final = Nightly(188288, "194f9f44b505", "pypy-c-jit")


def version_of(version: str, *days: int) -> str:
    """Return the version of packages for bookworm; with a day of a nightly's."""
    build = NightlyBuild(NIGHTLY, date(2026, 11, days[0])) if days else None
    return package_version(InterpreterVersion.parse(version), BOOKWORM, build)


def test_a_candidate_is_older_than_its_release() -> None:
    assert version_of("7.3.23") == "7.3.23-1~deb12"
    assert version_of("8.0.0rc1") == "8.0.0~rc1-1~deb12"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("8.0.0a0", "8.0.0~nightly188288.20261125.194f9f44b505-1~deb12"),
        ("7.3.23", "7.3.23+nightly188288.20261125.194f9f44b505-1~deb12"),
    ],
)
def test_a_nightlys_version_has_its_number_then_its_day(version: str, expected: str) -> None:
    assert version_of(version, 25) == expected


def test_one_revision_of_two_days_has_two_versions_in_their_order() -> None:
    first, second = version_of("8.0.0a0", 24), version_of("8.0.0a0", 25)

    assert first < second


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("7.3.23", "pypy3.11_7.3.23.nightly188288.20261125.194f9f44b505-1.deb12_amd64.deb"),
        ("8.0.0a0", "pypy3.11_8.0.0.nightly188288.20261125.194f9f44b505-1.deb12_amd64.deb"),
    ],
)
def test_a_file_name_is_the_same_in_every_address(version: str, expected: str) -> None:
    """Amazon's S3 reads a plus sign as a blank, GitHub renames a tilde."""
    name = package_filename("pypy3.11", version_of(version, 25), "amd64")

    assert name == expected
    assert quote_plus(name) == unquote_plus(name) == name


@pytest.mark.parametrize(
    "changes",
    [{"package": "pypy3+"}, {"parts": [{"suffix": "-c++", "summary": "a part"}]}],
    ids=["package", "part"],
)
def test_a_package_of_ours_has_no_plus_sign_in_its_name(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="string_pattern_mismatch"):
        DebianConfig.model_validate({"package": "pypy3", **changes})
