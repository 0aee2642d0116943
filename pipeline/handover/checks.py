"""Whether a stage output that a worker handed over is what its own record says, file by file."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.effects.archives import unpack
from pipeline.effects.files import RECORD_NAME, describe, sha256_of
from pipeline.errors import ClaimError, DigestMismatchError
from pipeline.handover.outputs import REMEDY, Check
from pipeline.model.artifacts import Artifact
from pipeline.model.records import (
    BuiltImages,
    DebianPackages,
    Installation,
    Package,
    SourceTree,
    Translation,
    Verification,
)
from pipeline.source.runner import SOURCE
from pipeline.stages import Stage

LARGEST_RECORD: Final = 64 << 20

R = TypeVar("R", bound=BaseModel)


def check_source(directory: Path) -> None:
    """Check the archive of a source tree, and the released source beside it."""
    record = _record(directory, SourceTree)
    _check_file(directory / record.archive, record.sha256)
    if record.source_archive is not None:
        _check_artifacts(directory, (record.source_archive,))


def check_translation(directory: Path) -> None:
    """Check the archive of products, and that it holds exactly the products that are recorded."""
    record = _record(directory, Translation)
    archive = directory / record.archive
    _check_file(archive, record.sha256)
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        unpack(archive, Path(temporary))
        top = Path(temporary, SOURCE)
        products = {
            path.relative_to(top).as_posix(): sha256_of(path)
            for path in sorted(top.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
    _check_same(record.archive, products, record.products)


def check_package(directory: Path) -> None:
    """Check every archive of a package stage."""
    _check_artifacts(directory, _record(directory, Package).artifacts)


def check_verification(directory: Path) -> None:
    """Check that the record can be read; a verification has no files of its own."""
    _record(directory, Verification)


def check_packages(directory: Path) -> None:
    """Check every Debian package."""
    _check_artifacts(directory, _record(directory, DebianPackages).artifacts)


def check_images(directory: Path) -> None:
    """Check every image's layout, and its SBOM."""
    for built in _record(directory, BuiltImages).images:
        _check_file(directory / built.archive, built.sha256)
        if built.sbom is not None and built.sbom_sha256 is not None:
            _check_file(directory / built.sbom, built.sbom_sha256)


def check_installation(directory: Path) -> None:
    """Check that the record can be read."""
    _record(directory, Installation)


CHECKS: Final[Mapping[str, Check]] = {
    Stage.SOURCE: check_source,
    Stage.TRANSLATE: check_translation,
    Stage.PACKAGE: check_package,
    Stage.VERIFY: check_verification,
    Stage.DEBIAN: check_packages,
    Stage.IMAGE: check_images,
    Stage.INSTALL: check_installation,
}
"""The stages that another machine may do, each with how its output is checked."""


def _record(directory: Path, model: type[R]) -> R:
    path = directory / RECORD_NAME
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_RECORD:
        msg = f"what was handed over has no {RECORD_NAME}, or one that no stage writes. {REMEDY}"
        raise ClaimError(msg)
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        msg = f"{RECORD_NAME} of what was handed over: {where}: {wrong['msg']}. {REMEDY}"
        raise ClaimError(msg) from error


def _check_file(path: Path, sha256: str) -> None:
    if path.is_symlink() or not path.is_file():
        msg = f"{path.name}: is recorded, but is no file of what was handed over. {REMEDY}"
        raise ClaimError(msg)
    if (actual := sha256_of(path)) != sha256:
        raise DigestMismatchError(path.name, expected=sha256, actual=actual, remedy=REMEDY)


def _check_artifacts(directory: Path, artifacts: Iterable[Artifact]) -> None:
    for artifact in artifacts:
        path = directory / artifact.filename
        _check_file(path, artifact.sha256)
        found = describe(path, artifact.kind, artifact.platform)
        if found.size != artifact.size:
            msg = f"{path.name}: has {found.size} bytes, recorded are {artifact.size}. {REMEDY}"
            raise ClaimError(msg)


def _check_same(name: str, found: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    wrong = sorted(set(found.items()) ^ set(recorded.items()))
    if wrong:
        msg = f"{name}: {wrong[0][0]}: is not as recorded ({len(wrong)} differences). {REMEDY}"
        raise ClaimError(msg)
