"""Golden files for all tests.

A golden file holds what a function returned when a person last looked at it. After a wanted
change: ``pytest tests/unit --update-golden``, read the difference, and commit it with the change.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

GOLDEN: Final = Path(__file__).parent / "golden"

CheckGolden = Callable[[str, bytes], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that accepts what comes out as right."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden/ anew from what comes out, instead of comparing",
    )


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> CheckGolden:
    """Give a function that compares bytes with the file *name* of ``tests/golden/``."""

    def check(name: str, data: bytes) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert data.decode() == path.read_text(encoding="utf-8"), (
            f"{name} differs; if that is wanted, run: pytest tests/unit --update-golden"
        )

    return check
