"""Gates on the source archive that is released beside the interpreter's.

Ids ``SRC..``. Whoever builds from it gets the version and the revision that the release names.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import is_inside, members_of, unpack
from pipeline.errors import SourceError
from pipeline.model import naming
from pipeline.model.configs import GitSource
from pipeline.model.records import GateResult
from pipeline.plan import Job
from pipeline.source.runner import ARCHIVAL_FILE, archival_text
from pipeline.source.versions import read_versions
from pipeline.verify.gates import Finding, Gate, Verdict, check_gates
from pipeline.verify.members import gzip_findings, header_deviations

SHOWN: Final = 400


@dataclass(frozen=True, kw_only=True)
class SourceArchive:
    """A source archive and its members' headers; ``directory`` is where it is unpacked."""

    job: Job
    path: Path
    members: tuple[tarfile.TarInfo, ...]
    directory: Path

    @property
    def top(self) -> str:
        """Its one top directory, which is named as the job's source archive is."""
        return (self.job.source_archive or self.path.name).removesuffix(naming.SOURCE_SUFFIX)

    def where(self, name: str) -> str:
        """Return how a finding names a file, given below the top directory."""
        return f"{self.path.name}: {self.top}/{name}"


def check_source(job: Job, path: Path, directory: Path) -> tuple[list[GateResult], list[str]]:
    """Check a source archive; its contents, unpacked in *directory*, only if its members are good.

    Raises:
        UnsafeArchiveError: it cannot be read, or would write outside of *directory*.
    """
    archive = SourceArchive(job=job, path=path, members=members_of(path), directory=directory)
    passed, failures = check_gates((SOURCE_MEMBERS_GATE,), archive)
    if failures:
        return passed, failures
    unpack(path, directory)
    more, failures = check_gates(SOURCE_CONTENT_GATES, archive)
    return passed + more, failures


def _members(archive: SourceArchive) -> Verdict:
    """The archive is packed as the others are: nothing tells who packed it, where and when."""
    deviations = [
        *header_deviations(archive.members, archive.job.revision.epoch),
        *_misplaced(archive),
    ]
    findings = [
        Finding(file=f"{archive.path.name}: {name}", found=found, expected=expected)
        for name, found, expected in deviations
    ]
    return Verdict(
        measured=f"{len(archive.members)} members in {archive.top}",
        findings=(*findings, *gzip_findings(archive.path)),
    )


def _misplaced(archive: SourceArchive) -> Iterator[tuple[str, str, str]]:
    if not archive.members:
        yield "members", "none", f"files below {archive.top}"
    for member in archive.members:
        if member.name.split("/", 1)[0] != archive.top or not is_inside(member.name):
            yield member.name, "another place", f"a path below {archive.top}"
        elif not (member.isfile() or member.isdir() or member.issym()):
            expected = "a file, a directory or a symbolic link"
            yield member.name, f"member type {member.type!r}", expected


def _revision(archive: SourceArchive) -> Verdict:
    """RPython reads branch, tag and revision from this file; they end up in ``sys.version``."""
    expected = archival_text(archive.job.revision)
    found = _content(archive, ARCHIVAL_FILE)
    finding = Finding(
        file=archive.where(ARCHIVAL_FILE),
        found="no such file" if found is None else repr(found[:SHOWN].decode(errors="replace")),
        expected=repr(expected.decode()),
    )
    measured = f"revision {archive.job.revision.short}"
    return Verdict(measured=measured, findings=() if found == expected else (finding,))


def _version(archive: SourceArchive) -> Verdict:
    """What is built from it says the version that the release has."""
    source, job = archive.job.interpreter.source, archive.job
    if not isinstance(source, GitSource):
        return Verdict(measured="no version file")
    where = archive.where(source.version_file)
    content = _content(archive, source.version_file)
    expected = f"{job.version} for Python {job.language_version}"
    try:
        text = "" if content is None else content.decode(errors="replace")
        version, language = read_versions(text, where)
        found = f"{version} for Python {language}"
    except SourceError as error:
        found = "no such file" if content is None else str(error)[:SHOWN]
    finding = Finding(file=where, found=found, expected=expected)
    return Verdict(measured=found, findings=() if found == expected else (finding,))


def _content(archive: SourceArchive, name: str) -> bytes | None:
    path = archive.directory / archive.top / name
    return path.read_bytes() if path.is_file() else None


SOURCE_MEMBERS_GATE: Final[Gate[SourceArchive]] = Gate(
    identifier="SRC01", title="members of the source archive", check=_members
)
"""Failing it means that the source archive must not even be unpacked."""

SOURCE_CONTENT_GATES: Final[tuple[Gate[SourceArchive], ...]] = (
    Gate(identifier="SRC02", title="the source says its revision", check=_revision),
    Gate(identifier="SRC03", title="the source says its version", check=_version),
)
