"""The form of SHA256SUMS."""

import re

from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.sign.checksums import checksums_text, parsed_checksums
from tests.fakes import digest


def artifact(filename: str) -> Artifact:
    return Artifact(
        filename=filename,
        kind=ArtifactKind.ARCHIVE_GZ,
        platform=None,
        size=1,
        sha256=digest(filename),
    )


def test_lines_have_the_form_of_sha256sum() -> None:
    """As sha256sum itself writes them: digest, blank, blank for text mode, name, newline."""
    empty = Artifact(
        filename="empty.tar.gz",
        kind=ArtifactKind.ARCHIVE_GZ,
        platform=None,
        size=1,
        sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )

    text = checksums_text([empty])

    assert text == (
        b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  empty.tar.gz\n"
    )


def test_every_line_is_one_that_sha256sum_checks() -> None:
    """``sha256sum --check`` wants 64 hex digits, two blanks and the name; nothing else."""
    text = checksums_text([artifact("toy-v1.2.3-linux64.tar.gz"), artifact("manifest.json")])

    lines = text.decode("ascii").splitlines(keepends=True)
    assert len(lines) == 2
    assert all(re.fullmatch(r"[0-9a-f]{64}  [^\s*]+\n", line) for line in lines)


def test_lines_are_sorted_by_name_whatever_the_order_of_the_files() -> None:
    names = ["b.tar.gz", "a.tar.zst", "a.tar.gz", "B.json"]

    forward = checksums_text([artifact(name) for name in names])
    backward = checksums_text([artifact(name) for name in reversed(names)])

    assert forward == backward
    found = [line.split("  ")[1] for line in forward.decode().splitlines()]
    assert found == ["B.json", "a.tar.gz", "a.tar.zst", "b.tar.gz"]


def test_no_file_gives_an_empty_text() -> None:
    assert checksums_text([]) == b""


def test_they_are_read_by_name_as_they_were_written() -> None:
    files = [artifact("a.tar.gz"), artifact("manifest.json")]

    read = parsed_checksums(checksums_text(files).decode())

    assert read == {item.filename: item.sha256 for item in files}


def test_lines_of_another_form_are_passed_over() -> None:
    assert parsed_checksums("aa  x.tar.gz\nbb  y z\n\nbroken\n") == {"x.tar.gz": "aa", "y z": "bb"}
