"""Files: nothing half-written is ever taken for done."""

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.effects.files import (
    WorkDirectory,
    describe,
    new_directory,
    new_file,
    sha256_of,
    write_atomically,
    write_record,
)
from pipeline.errors import RecordError, WorkdirBusyError
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.records import SourceTree
from tests.factories import make_source_tree

KEY = "a" * 64


class Killed(BaseException):
    """Stands for an interrupt: not an Exception, so only ``finally`` sees it."""


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    """A work directory that does not exist yet."""
    return WorkDirectory(tmp_path / "out")


def test_a_digest_is_of_all_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "file").write_bytes(data)

    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_an_artifact_is_a_file_s_name_size_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "demo-v1.0.0-linux64.tar.gz"
    path.write_bytes(b"archive")

    assert describe(path, ArtifactKind.ARCHIVE_GZ, "linux-x86_64") == Artifact(
        filename="demo-v1.0.0-linux64.tar.gz",
        kind=ArtifactKind.ARCHIVE_GZ,
        platform="linux-x86_64",
        size=7,
        sha256=hashlib.sha256(b"archive").hexdigest(),
    )


def test_a_new_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deeper" / "file"

    with new_file(final) as stream:
        stream.write(b"new")
        assert not final.exists()

    assert final.read_bytes() == b"new"
    assert list(final.parent.iterdir()) == [final]


def test_a_new_file_can_be_read_by_everybody_and_written_by_its_owner(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("fault", [OSError, Killed], ids=["error", "interrupt"])
def test_a_fault_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, fault: type[BaseException]
) -> None:
    final = tmp_path / "file"
    final.write_bytes(b"old")

    with pytest.raises(fault), new_file(final) as stream:  # noqa: PT012 - what the block leaves
        stream.write(b"half")
        raise fault

    assert final.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [final]


def test_writing_replaces_all_of_a_file(tmp_path: Path) -> None:
    final = tmp_path / "file"
    final.write_bytes(b"a longer old text")

    write_atomically(final, b"new")

    assert final.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [final]


def test_a_new_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "stages" / KEY

    with new_directory(final) as directory:
        (directory / "file").write_bytes(b"x")
        assert not final.exists()
        assert directory.parent == final.parent

    assert (final / "file").read_bytes() == b"x"
    assert list(final.parent.iterdir()) == [final]
    assert final.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("fault", [ValueError, Killed], ids=["error", "interrupt"])
def test_a_fault_in_a_new_directory_leaves_nothing(
    tmp_path: Path, fault: type[BaseException]
) -> None:
    final = tmp_path / "stages" / KEY

    with pytest.raises(fault), new_directory(final) as directory:  # noqa: PT012 - what it leaves
        (directory / "half").write_bytes(b"x")
        raise fault

    assert list(final.parent.iterdir()) == []


def test_a_directory_that_came_meanwhile_stays(tmp_path: Path) -> None:
    final = tmp_path / KEY

    with new_directory(final) as directory:
        (directory / "file").write_bytes(b"ours")
        final.mkdir()
        (final / "file").write_bytes(b"theirs")

    assert (final / "file").read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [final]


def test_a_file_in_the_place_of_a_new_directory_is_an_error(tmp_path: Path) -> None:
    final = tmp_path / KEY
    final.write_bytes(b"")

    with pytest.raises(NotADirectoryError), new_directory(final):
        pass

    assert list(tmp_path.iterdir()) == [final]


def test_an_output_that_was_finished_is_found_under_its_key(work: WorkDirectory) -> None:
    record = make_source_tree()
    with work.unfinished("source", KEY) as directory:
        write_record(directory, record)
        assert work.finished("source", KEY, SourceTree) is None

    assert work.finished("source", KEY, SourceTree) == record
    assert work.stage_directory("source", KEY) == work.root / "stages" / "source" / KEY


@pytest.mark.parametrize(
    ("stage", "key"), [("source", "b" * 64), ("package", KEY)], ids=["other-key", "other-stage"]
)
def test_an_output_of_another_key_or_stage_is_not_taken(
    work: WorkDirectory, stage: str, key: str
) -> None:
    with work.unfinished("source", KEY) as directory:
        write_record(directory, make_source_tree())

    assert work.finished(stage, key, SourceTree) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="not-text"),
        pytest.param(b'{"revision": {', id="cut"),
        pytest.param(b"{}", id="another-record"),
    ],
)
def test_a_damaged_record_is_named_with_the_remedy(work: WorkDirectory, text: bytes) -> None:
    directory = work.stage_directory("source", KEY)
    directory.mkdir(parents=True)
    (directory / "record.json").write_bytes(text)

    with pytest.raises(RecordError) as caught:
        work.finished("source", KEY, SourceTree)

    message = str(caught.value)
    assert message.startswith(f"{directory / 'record.json'}: not a record of stage source")
    assert f"Remove {directory} and run again" in message
    assert (directory / "record.json").read_bytes() == text


def test_a_work_directory_has_one_identity_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers of a killed run are found by it."""
    monkeypatch.chdir(tmp_path)
    identity = WorkDirectory(tmp_path / "out").identity()

    assert WorkDirectory(Path("out")).identity() == identity
    assert WorkDirectory(tmp_path / "other").identity() != identity
    assert list(tmp_path.iterdir()) == []


def test_the_same_directory_of_another_machine_has_another_identity(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine may serve both."""
    identity = work.identity()

    monkeypatch.setattr("platform.node", lambda: "another")

    assert work.identity() != identity


def test_a_second_process_is_refused_with_the_first_ones_number(work: WorkDirectory) -> None:
    with (
        work.locked(),
        pytest.raises(WorkdirBusyError) as caught,
        WorkDirectory(work.root).locked(),
    ):
        pass

    assert str(caught.value).startswith(f"{work.root}: process {os.getpid()} is at work here.")
    assert "--work" in str(caught.value)


def test_who_can_wait_for_a_work_directory_is_told_for_whom(work: WorkDirectory) -> None:
    told: list[str] = []
    first = ExitStack()
    first.enter_context(work.locked())

    def wait(who: str) -> None:
        told.append(who)
        first.close()

    with WorkDirectory(work.root).locked(wait):
        assert told == [str(os.getpid())]
        with pytest.raises(WorkdirBusyError), WorkDirectory(work.root).locked():
            pytest.fail("nobody else may come in")


def test_the_lock_is_free_again_after_an_error(work: WorkDirectory) -> None:
    with pytest.raises(Killed), work.locked():
        raise Killed

    with work.locked():
        assert (work.root / ".lock").read_text() == str(os.getpid())


def test_the_number_of_a_process_that_is_gone_is_replaced(work: WorkDirectory) -> None:
    work.root.mkdir()
    (work.root / ".lock").write_text("123456789012345")

    with work.locked():
        assert (work.root / ".lock").read_text() == str(os.getpid())


def test_different_work_directories_do_not_wait_for_each_other(
    work: WorkDirectory, tmp_path: Path
) -> None:
    with work.locked(), WorkDirectory(tmp_path / "other").locked():
        assert (tmp_path / "other" / ".lock").exists()


@pytest.mark.parametrize(
    "left",
    [
        pytest.param("stages/source/.partial-x/file", id="stage"),
        pytest.param("cache/environments/.partial-x", id="cached-file"),
        pytest.param(
            "cache/downloads/0123/.partial-x",
            id="download",
        ),
    ],
)
def test_what_a_killed_process_left_is_cleared_by_the_next(work: WorkDirectory, left: str) -> None:
    path = work.root / left
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")

    with work.locked():
        pass

    assert [found for found in work.root.rglob("*") if found.name.startswith(".partial")] == []


def test_finished_outputs_are_not_cleared(work: WorkDirectory) -> None:
    with work.unfinished("source", KEY) as directory:
        write_record(directory, make_source_tree())
    write_atomically(work.path("cache", "downloads", "file"), b"x")

    with work.locked():
        pass

    assert work.finished("source", KEY, SourceTree) is not None
    assert work.path("cache", "downloads", "file").read_bytes() == b"x"


def test_a_process_that_is_refused_clears_nothing(work: WorkDirectory) -> None:
    """Those are the running process's, not left-overs."""
    with work.locked(), work.unfinished("source", KEY) as directory:
        with pytest.raises(WorkdirBusyError), WorkDirectory(work.root).locked():
            pass

        assert directory.is_dir()
