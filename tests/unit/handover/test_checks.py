"""Outputs that are not what their records say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.files import describe, sha256_of, write_record
from pipeline.errors import ClaimError, DigestMismatchError
from pipeline.handover.checks import CHECKS
from pipeline.model.artifacts import ArtifactKind
from pipeline.stages import Stage
from tests.factories import changed, digest, make_package, make_source_tree, make_translation

FILENAME = "toy-v1.2.3-linux64.tar.gz"


@pytest.fixture
def translated(tmp_path: Path) -> Path:
    """A translation whose record is right."""
    archive = tmp_path / "products.tar"
    entries = [Entry(path="build/source/toy-c", content=b"ELF", executable=True)]
    write_archive(archive, entries, epoch=315532800)
    record = make_translation(
        archive=archive.name,
        sha256=sha256_of(archive),
        size=archive.stat().st_size,
        products={"toy-c": sha256_of_bytes(b"ELF", tmp_path)},
    )
    write_record(tmp_path, record)
    return tmp_path


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A package whose record is right."""
    path = tmp_path / FILENAME
    path.write_bytes(b"packed")
    artifact = describe(path, ArtifactKind.ARCHIVE_GZ, "linux-x86_64")
    write_record(tmp_path, make_package(artifacts=(artifact,)))
    return tmp_path


def sha256_of_bytes(data: bytes, directory: Path) -> str:
    path = directory / "scratch"
    path.write_bytes(data)
    found = sha256_of(path)
    path.unlink()
    return found


def test_outputs_as_recorded_pass(translated: Path) -> None:
    CHECKS[Stage.TRANSLATE](translated)


def test_a_package_as_recorded_passes(packed: Path) -> None:
    CHECKS[Stage.PACKAGE](packed)


def test_every_stage_before_signing_has_a_check() -> None:
    assert set(CHECKS) == {
        Stage.SOURCE,
        Stage.TRANSLATE,
        Stage.PACKAGE,
        Stage.VERIFY,
        Stage.DEBIAN,
        Stage.IMAGE,
        Stage.INSTALL,
    }


def lost(directory: Path) -> None:
    (directory / FILENAME).unlink()


def linked(directory: Path) -> None:
    (directory / FILENAME).rename(directory / "else")
    (directory / FILENAME).symlink_to("else")


@pytest.mark.parametrize("harm", [lost, linked])
def test_a_recorded_file_that_is_none_is_refused(
    packed: Path, harm: Callable[[Path], None]
) -> None:
    harm(packed)

    with pytest.raises(ClaimError, match=f"{FILENAME}: is recorded, but is no file"):
        CHECKS[Stage.PACKAGE](packed)


def test_a_file_with_other_bytes_is_refused(packed: Path) -> None:
    (packed / FILENAME).write_bytes(b"harmful")

    with pytest.raises(DigestMismatchError, match=FILENAME):
        CHECKS[Stage.PACKAGE](packed)


def test_a_size_that_is_not_the_files_is_refused(packed: Path) -> None:
    record = make_package(
        artifacts=(
            changed(describe(packed / FILENAME, ArtifactKind.ARCHIVE_GZ, "linux-x86_64"), size=7),
        )
    )
    write_record(packed, record)

    with pytest.raises(ClaimError, match="has 6 bytes, recorded are 7"):
        CHECKS[Stage.PACKAGE](packed)


def test_products_that_are_not_recorded_are_refused(translated: Path) -> None:
    archive = translated / "products.tar"
    record = make_translation(archive=archive.name, sha256=sha256_of(archive), products={})
    write_record(translated, record)

    with pytest.raises(ClaimError, match="toy-c: is not as recorded"):
        CHECKS[Stage.TRANSLATE](translated)


def test_products_with_other_bytes_are_refused(translated: Path) -> None:
    archive = translated / "products.tar"
    products = {"toy-c": digest("another")}
    write_record(
        translated,
        make_translation(archive=archive.name, sha256=sha256_of(archive), products=products),
    )

    with pytest.raises(ClaimError, match="toy-c: is not as recorded"):
        CHECKS[Stage.TRANSLATE](translated)


@pytest.mark.parametrize("stage", sorted(CHECKS))
def test_an_output_without_a_record_is_refused(stage: str, tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=r"has no record\.json"):
        CHECKS[stage](tmp_path)


@pytest.mark.parametrize("stage", sorted(CHECKS))
def test_a_record_that_is_something_else_is_refused(stage: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"archive": 3}')

    with pytest.raises(ClaimError, match=r"record\.json of what was handed over"):
        CHECKS[stage](tmp_path)


def test_a_source_with_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source.tar").write_bytes(b"other")
    write_record(tmp_path, make_source_tree(archive="source.tar"))

    with pytest.raises(DigestMismatchError, match=r"source\.tar"):
        CHECKS[Stage.SOURCE](tmp_path)
