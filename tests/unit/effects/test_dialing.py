"""What is told of a master that cannot be dialled; the dialling itself is an integration test."""

from pathlib import Path

import pytest

from pipeline.effects.dialing import certificate_fault, trusting
from pipeline.errors import DialError


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (9, "not valid yet. A clock is wrong"),
        (10, "has expired, or this machine's clock"),
        (18, "is not of the CA given here"),
        (20, "is not of the CA given here"),
        (62, "is for another name"),
        (64, "is for another name"),
        (26, "is refused: why"),
    ],
)
def test_each_fault_of_a_certificate_has_its_remedy(code: int, expected: str) -> None:
    assert expected in certificate_fault(code, ValueError("why"))


def test_a_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hello\n")

    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(DialError, match=rf"{name}: no CA certificate can be read"):
            trusting(tmp_path / name)


def test_the_system_s_certificates_are_trusted_if_none_is_named() -> None:
    assert trusting(None).check_hostname
