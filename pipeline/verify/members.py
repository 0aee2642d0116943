"""Gates on an archive's member headers, before anything is unpacked.

Ids ``ARC..``. An archive that fails here is never unpacked.
"""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.archives import (
    is_inside,
    members_of,
    uncompressed_digest,
    zip_members_of,
)
from pipeline.model import naming
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.layout import Kind, link_to, required_members
from pipeline.plan import Job
from pipeline.verify.gates import Finding, Gate, Verdict

GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
"""Magic, deflate, no flags (so no name), and a time of zero: RFC 1952, section 2.3."""

TAR_ARCHIVES: Final = (ArtifactKind.ARCHIVE_GZ, ArtifactKind.ARCHIVE_ZST)
FILE_MODES: Final = (0o644, 0o755)
DIRECTORY_MODES: Final = (0o755,)


@dataclass(frozen=True, kw_only=True)
class Archives:
    """A job's finished archives and the headers of the gzip one's members."""

    job: Job
    paths: dict[ArtifactKind, Path]
    members: tuple[tarfile.TarInfo, ...]

    @property
    def main(self) -> str:
        """The file name of the archive that the members are from."""
        return self.paths[main_kind(self.paths)].name

    @property
    def epoch(self) -> int:
        """The time that every member must have; zip files count in steps of two seconds."""
        epoch = self.job.revision.epoch
        return epoch - epoch % 2 if main_kind(self.paths) is ArtifactKind.ARCHIVE_ZIP else epoch


def main_kind(paths: Mapping[ArtifactKind, Path]) -> ArtifactKind:
    """Return which of a job's archives is looked into: the one for the platform's own tools."""
    zipped = ArtifactKind.ARCHIVE_ZIP in paths
    return ArtifactKind.ARCHIVE_ZIP if zipped else ArtifactKind.ARCHIVE_GZ


def read_archives(job: Job, paths: dict[ArtifactKind, Path]) -> Archives:
    """Read the member headers; raises UnsafeArchiveError if that is not possible."""
    kind = main_kind(paths)
    read = zip_members_of if kind is ArtifactKind.ARCHIVE_ZIP else members_of
    return Archives(job=job, paths=paths, members=read(paths[kind]))


def _verdict(measured: str, findings: Iterable[Finding]) -> Verdict:
    return Verdict(measured=measured, findings=tuple(findings))


def _one_top_directory(archives: Archives) -> Verdict:
    tops = sorted({member.name.split("/", 1)[0] for member in archives.members})
    expected = [archives.job.stem]
    finding = Finding(file=archives.main, found=f"top level {tops}", expected=str(expected))
    return _verdict(archives.job.stem, [] if tops == expected else [finding])


def _paths_stay_inside(archives: Archives) -> Verdict:
    return _verdict(
        f"{len(archives.members)} members",
        (
            Finding(
                file=f"{archives.main}: {member.name}",
                found="leaves the directory",
                expected="a relative path without '..'",
            )
            for member in archives.members
            if not is_inside(member.name)
        ),
    )


def _only_plain_members(archives: Archives) -> Verdict:
    return _verdict(
        "files, directories and symbolic links",
        (
            Finding(
                file=f"{archives.main}: {member.name}",
                found=f"member type {member.type!r}",
                expected="a file, a directory or a symbolic link",
            )
            for member in archives.members
            if not (member.isfile() or member.isdir() or member.issym())
        ),
    )


def _links_resolve(archives: Archives) -> Verdict:
    names = {member.name for member in archives.members}
    links = [member for member in archives.members if member.issym()]
    return _verdict(
        f"{len(links)} links",
        (
            Finding(
                file=f"{archives.main}: {link.name}",
                found=f"points to {link.linkname!r}",
                expected="a relative link to a member of the archive",
            )
            for link in links
            if link.linkname.startswith("/")
            or posixpath.normpath(posixpath.join(posixpath.dirname(link.name), link.linkname))
            not in names
        ),
    )


def _required_members(archives: Archives) -> Verdict:
    job = archives.job
    by_name = {member.name: member for member in archives.members}
    required = required_members(job.interpreter.package, job.platform)
    return _verdict(
        f"{len(required)} members",
        (
            Finding(
                file=f"{archives.main}: {job.stem}/{name}",
                found="missing or of another kind",
                expected=kind,
            )
            for name, kind in required.items()
            if _kind(by_name.get(f"{job.stem}/{name}")) != kind
            and not (kind == Kind.FILE and _is_file(by_name.get(f"{job.stem}/{name}")))
        ),
    )


def _is_file(member: tarfile.TarInfo | None) -> bool:
    return member is not None and member.isfile()


def _kind(member: tarfile.TarInfo | None) -> str:
    if member is None:
        return "missing"
    if member.issym():
        return link_to(member.linkname)
    if member.isfile():
        return Kind.PROGRAM if member.mode & 0o100 else Kind.FILE
    return "neither file nor link"


def _normalised_headers(archives: Archives) -> Verdict:
    epoch = archives.epoch
    return _verdict(
        f"uid 0, gid 0, time {epoch}, sorted",
        (
            Finding(file=f"{archives.main}: {name}", found=found, expected=expected)
            for name, found, expected in header_deviations(archives.members, epoch)
        ),
    )


def header_deviations(
    members: tuple[tarfile.TarInfo, ...], epoch: int
) -> Iterator[tuple[str, str, str]]:
    """Yield each member whose header tells more than its name and kind: what, found, expected."""
    names = [member.name for member in members]
    if names != sorted(set(names)):
        yield "members", "not sorted, or one is there twice", "sorted names, each once"
    for member in members:
        if (member.uid, member.gid, member.uname, member.gname) != (0, 0, "", ""):
            yield member.name, f"owner {member.uid}:{member.gid} {member.uname}", "0:0, no name"
        if member.mtime != epoch:
            yield member.name, f"time {member.mtime}", str(epoch)
        allowed = DIRECTORY_MODES if member.isdir() else FILE_MODES
        if not member.issym() and member.mode not in allowed:
            yield member.name, f"mode {member.mode:o}", " or ".join(f"{mode:o}" for mode in allowed)


def _formats_agree(archives: Archives) -> Verdict:
    digests = {
        path.name: uncompressed_digest(path)
        for kind, path in archives.paths.items()
        if kind in TAR_ARCHIVES
    }
    first = next(iter(digests.values()), "none")
    return _verdict(
        f"tar sha256 {first}",
        (
            Finding(file=name, found=f"tar sha256 {digest}", expected=first)
            for name, digest in digests.items()
            if digest != first
        ),
    )


def _debug_members(archives: Archives) -> Verdict:
    """The archive of debug symbols is released too, so its headers are held to the same rules."""
    path = archives.paths.get(ArtifactKind.DEBUG_ZST)
    if path is None:
        return _verdict("no debug archive", [])
    top, members = f"{archives.job.stem}{naming.DEBUG_INFIX}", members_of(path)
    deviations = [
        *header_deviations(members, archives.job.revision.epoch),
        *(
            (member.name, "another place or kind", f"files and directories below {top}")
            for member in members
            if member.name.split("/", 1)[0] != top
            or not is_inside(member.name)
            or not (member.isfile() or member.isdir())
        ),
    ]
    return _verdict(
        f"{len(members)} members",
        (
            Finding(file=f"{path.name}: {name}", found=found, expected=expected)
            for name, found, expected in deviations
        ),
    )


def _anonymous_gzip(archives: Archives) -> Verdict:
    path = archives.paths.get(ArtifactKind.ARCHIVE_GZ)
    if path is None:
        return _verdict("no gzip archive", [])
    return _verdict("no name, no time", gzip_findings(path))


def gzip_findings(path: Path) -> Iterator[Finding]:
    """Yield a finding if a gzip file's header tells when it was packed, or from what file."""
    with path.open("rb") as stream:
        header = stream.read(len(GZIP_HEADER))
    if header != GZIP_HEADER:
        yield Finding(file=path.name, found=header.hex(), expected=GZIP_HEADER.hex())


SAFETY_GATES: Final[tuple[Gate[Archives], ...]] = (
    Gate(identifier="ARC01", title="one top directory", check=_one_top_directory),
    Gate(identifier="ARC02", title="paths stay inside", check=_paths_stay_inside),
    Gate(identifier="ARC03", title="no special members", check=_only_plain_members),
    Gate(identifier="ARC04", title="links resolve inside", check=_links_resolve),
)
"""Failing one of these means that the archive must not even be unpacked."""

MEMBER_GATES: Final[tuple[Gate[Archives], ...]] = (
    Gate(identifier="ARC05", title="required members", check=_required_members),
    Gate(identifier="ARC06", title="normalised headers", check=_normalised_headers),
    Gate(identifier="ARC07", title="formats hold the same tree", check=_formats_agree),
    Gate(identifier="ARC08", title="anonymous gzip header", check=_anonymous_gzip),
    Gate(identifier="DBG02", title="members of the debug archive", check=_debug_members),
)
