"""What stages hand to each other."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.model.records import Resolved, Revision
from tests.factories import make_git_revision, make_resolved, make_revision


@pytest.mark.parametrize(("dirty", "short"), [(False, "194f9f44b505"), (True, "194f9f44b505+")])
def test_a_changed_source_is_marked_in_its_short_revision(short: str, *, dirty: bool) -> None:
    assert make_git_revision(dirty=dirty).short == short


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"revision": "a" * 39}, id="short"),
        pytest.param({"revision": "A" * 40}, id="upper-case"),
        pytest.param({"revision": "main"}, id="branch"),
        pytest.param({"number": -1}, id="negative-number"),
        pytest.param({"epoch": 0}, id="before-zip-files"),
    ],
)
def test_a_revision_that_names_no_source_is_refused(override: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_revision(**override)


def test_a_revision_from_before_git_is_still_read() -> None:
    """The ledger holds such revisions for ever."""
    fields = {"kind": "directory", "revision": "a" * 64, "number": 1, "epoch": 1795219200}

    revision = Revision.model_validate(fields)

    assert (revision.branch, revision.tag, revision.dirty) == (None, None, False)


def test_a_resolved_source_is_read_as_it_was_written() -> None:
    resolved = make_resolved(revision=make_git_revision(), interpreter_version="7.3.23rc1")

    assert Resolved.model_validate_json(resolved.model_dump_json()) == resolved
