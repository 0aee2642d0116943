"""What of a directory counts, and its digest."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.archives import Entry
from pipeline.effects.git import Checkout
from pipeline.errors import SourceError
from pipeline.source.tree import check_unchanged, checkout_entries, kept_entries, tree_digest
from tests.fakes import Answer, FakeProcess, write_text


def write_tree(top: Path) -> Path:
    for name in ("target.py", "README.md", "toylang/cli.py"):
        write_text(top / name, f"{name}\n")
    return top


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "toy")


CHANGES: Final[dict[str, Callable[[Path], object]]] = {
    "content": lambda top: write_text(top / "target.py", "other\n"),
    "new file": lambda top: write_text(top / "new.py", ""),
    "removed file": lambda top: (top / "target.py").unlink(),
    "name": lambda top: (top / "target.py").rename(top / "targets.py"),
    "moved file": lambda top: (top / "target.py").rename(top / "toylang" / "target.py"),
    "executable bit": lambda top: (top / "target.py").chmod(0o755),
    "new link": lambda top: (top / "link.py").symlink_to("target.py"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_digest_changes_with_what_is_packed(change: Callable[[Path], object], top: Path) -> None:
    before = tree_digest(top)
    change(top)

    after = tree_digest(top)

    assert after != before


def test_a_digest_changes_with_where_a_link_points(top: Path) -> None:
    link = top / "link.py"
    link.symlink_to("target.py")
    before = tree_digest(top)
    link.unlink()
    link.symlink_to("README.md")

    after = tree_digest(top)

    assert after != before


IRRELEVANT: Final[dict[str, Callable[[Path], object]]] = {
    "time": lambda top: os.utime(top / "target.py", (1, 1)),
    "bytecode": lambda top: write_text(top / "toylang" / "__pycache__" / "cli.pyc", "x"),
    "old bytecode": lambda top: write_text(top / "target.pyc", "x"),
    "test cache": lambda top: write_text(top / ".pytest_cache" / "v", "x"),
    "examples cache": lambda top: write_text(top / ".hypothesis" / "e", "x"),
    "git's own files": lambda top: write_text(top / ".git" / "HEAD", "x"),
    "mercurial's own files": lambda top: write_text(top / ".hg" / "dirstate", "x"),
    "other permissions": lambda top: (top / "target.py").chmod(0o600),
    "empty directory": lambda top: (top / "empty").mkdir(),
}


@pytest.mark.parametrize("change", IRRELEVANT.values(), ids=IRRELEVANT)
def test_a_digest_does_not_change_with_what_is_not_packed(
    change: Callable[[Path], object], top: Path
) -> None:
    before = tree_digest(top)
    change(top)

    after = tree_digest(top)

    assert after == before


def test_a_digest_is_the_same_wherever_the_directory_is(top: Path, tmp_path: Path) -> None:
    other = write_tree(tmp_path / "__pycache__" / "another checkout")

    assert tree_digest(other) == tree_digest(top)


@pytest.mark.parametrize("how", ["missing", "empty", "caches only"])
def test_a_source_without_files_is_refused(how: str, tmp_path: Path) -> None:
    top = tmp_path / "toy"
    if how == "empty":
        top.mkdir()
    if how == "caches only":
        write_text(top / "__pycache__" / "cli.pyc", "x")

    with pytest.raises(SourceError, match=r"toy: no source files\. Check source\.path"):
        tree_digest(top)


def test_no_entries_are_no_source_either(top: Path) -> None:
    with pytest.raises(SourceError, match="no source files"):
        tree_digest(top, ())


def test_entries_that_are_given_are_those_that_count(top: Path) -> None:
    kept = [entry for entry in kept_entries(top, ".") if entry.path != "./README.md"]
    before = tree_digest(top, kept)
    write_text(top / "README.md", "other\n")

    assert tree_digest(top, kept) == before
    assert tree_digest(top) != before


def test_entries_are_below_the_place_asked_for(top: Path) -> None:
    entries = list(kept_entries(top, "build/source"))

    assert [entry.path for entry in entries] == [
        "build/source/README.md",
        "build/source/target.py",
        "build/source/toylang/cli.py",
    ]


def test_of_a_checkout_only_what_git_names_and_what_is_there_is_taken(top: Path) -> None:
    write_text(top / "ignored.log", "x")
    process = FakeProcess()
    named = "target.py\0toylang/cli.py\0deleted.py\0"
    process.expect("git", "ls-files", answer=Answer(stdout=named))

    entries = list(checkout_entries(Checkout(process, top), "build/source"))

    assert entries == [
        Entry(path="build/source/target.py", content=top / "target.py"),
        Entry(path="build/source/toylang/cli.py", content=top / "toylang" / "cli.py"),
    ]


def test_a_directory_that_stayed_as_it_was_is_fine(top: Path) -> None:
    check_unchanged(top, tree_digest(top), tree_digest(top))


def test_a_directory_that_changed_meanwhile_is_refused(top: Path) -> None:
    before = tree_digest(top)
    write_text(top / "target.py", "other\n")

    with pytest.raises(SourceError, match=r"toy: changed while it was packed\. Run again"):
        check_unchanged(top, before, tree_digest(top))


NOT_UTF8: Final = os.fsdecode(b"caf\xe9.py")


def test_a_name_that_is_not_utf8_is_refused(top: Path) -> None:
    write_text(top / NOT_UTF8, "")

    with pytest.raises(SourceError, match=r"toy: a file's name is not UTF-8: .*\. Rename the file"):
        tree_digest(top)


def test_a_link_to_what_is_not_utf8_is_refused(top: Path) -> None:
    (top / "link.py").symlink_to(NOT_UTF8)

    with pytest.raises(SourceError, match="is not UTF-8"):
        tree_digest(top)


def test_of_many_names_only_those_around_the_one_that_is_not_utf8_are_told(top: Path) -> None:
    for number in range(100):
        write_text(top / f"before-{number}.py", "")
        write_text(top / f"d-after-{number}.py", "")
    write_text(top / NOT_UTF8, "")

    with pytest.raises(SourceError) as caught:
        tree_digest(top)

    message = str(caught.value)
    assert r"./caf\udce9.py" in message
    assert message.count("before-") + message.count("d-after-") <= 4
