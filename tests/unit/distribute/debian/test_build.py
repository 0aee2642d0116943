"""What lintian's output means."""

import re

import pytest

from pipeline.distribute.debian.build import Judgement, judged, told_tags
from pipeline.errors import LintianError

TEXT = """\
N: running with root privileges is not recommended!
E: toy: dir-or-file-in-opt [opt/toy]
W: toy: no-manual-page [usr/bin/toy]
W: toy-doc: no-manual-page [usr/bin/other]
N: 1 tag overridden
"""


def test_tags_are_told_from_comments() -> None:
    assert told_tags(TEXT) == (
        "E: toy: dir-or-file-in-opt [opt/toy]",
        "W: toy: no-manual-page [usr/bin/toy]",
        "W: toy-doc: no-manual-page [usr/bin/other]",
    )


def test_warnings_are_counted_and_named() -> None:
    tags = tuple(tag for tag in told_tags(TEXT) if not tag.startswith("E"))

    result = judged("bookworm", Judgement(version="Lintian v2.116", tags=tags), 2)

    assert result.gate == "DEB01"
    assert result.measured == (
        "bookworm: 2 packages, 0 errors, 2 warnings (Lintian v2.116: 2 no-manual-page)"
    )


def test_any_error_stops_with_its_tag_and_what_to_do() -> None:
    judgement = Judgement(version="Lintian v2.116", tags=told_tags(TEXT))

    with pytest.raises(LintianError, match=re.escape("dir-or-file-in-opt [opt/toy]")) as caught:
        judged("bookworm", judgement, 2)

    assert "debian.overrides" in str(caught.value)
    assert "no-manual-page" not in str(caught.value)
