"""Finished archives of the toy, good ones and ones with exactly one fault, for the gates."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import lief
import zstandard

from pipeline.effects.archives import unpack
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.records import BuildInfo, CompilerCache, SourceTree, Translation
from pipeline.package.runner import build_info
from pipeline.plan import Job
from pipeline.translate.command import parse_resources
from pipeline.verify.contents import CONTENT_GATES, Tree
from pipeline.verify.gates import Gate, check_gates
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES, read_archives
from pipeline.verify.running import PROOF_GATES, SMOKE_GATES, Installed
from tests.fakes import ELF, EPOCH, RESOURCES, Answer, FakeSession, Image, World, digest, make_job

S = TypeVar("S")
PROGRAM: Final = "bin/toy"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member of a crafted archive; anything may be wrong with it."""

    name: str
    content: bytes = b""
    type: bytes = tarfile.REGTYPE
    link: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    uname: str = ""
    mtime: int = EPOCH

    def header(self) -> tarfile.TarInfo:
        """Return the tar header."""
        header = tarfile.TarInfo(self.name)
        header.type, header.linkname, header.mode = self.type, self.link, self.mode
        header.uid, header.gid, header.uname = self.uid, self.gid, self.uname
        header.mtime, header.size = self.mtime, len(self.content)
        return header


@dataclass(kw_only=True)
class Craft:
    """The toy's release as it should be, to be spoilt: its members, and how it behaves."""

    job: Job
    info: BuildInfo
    members: list[Member]
    zst_members: list[Member] | None = None
    gzip_name: str = ""
    gzip_time: int = 0
    answers: dict[tuple[str, ...], Answer] = field(default_factory=dict)
    jit_log: str | None = None
    gc_log: str | None = None

    def change(self, name: str, **changes: object) -> None:
        """Replace fields of the member *name*, a path below the top directory."""
        index = self._index(name)
        self.members[index] = replace(self.members[index], **changes)  # type: ignore[arg-type]

    def remove(self, name: str) -> None:
        """Leave a member out."""
        del self.members[self._index(name)]

    def add(self, member: Member) -> None:
        """Add a member where its name sorts."""
        self.members = sorted([*self.members, member], key=lambda item: item.name)

    def _index(self, name: str) -> int:
        return [item.name for item in self.members].index(f"{self.job.stem}/{name}")

    def program(self, spoil: Callable[[lief.ELF.Binary], object]) -> None:
        """Change the executable with LIEF."""
        binary = lief.ELF.parse(ELF)
        if binary is None:
            raise AssertionError
        spoil(binary)
        self.change(PROGRAM, content=binary.write_to_bytes())


def make_craft(world: World, platform: str = "linux-x86_64", machine: str = "x86_64") -> Craft:
    """Return the toy's release without a fault."""
    job = make_job(world.ctx, platform, machine)
    info = make_info(world, job)
    top, directory = job.stem, {"type": tarfile.DIRTYPE, "mode": 0o755}
    members = [
        Member(name=top, **directory),  # type: ignore[arg-type]
        Member(name=f"{top}/BUILD-INFO.json", content=pretty_json(info)),
        Member(name=f"{top}/LICENSE", content=b"MIT License\n"),
        Member(name=f"{top}/README.md", content=b"# Toy\n"),
        Member(name=f"{top}/bin", **directory),  # type: ignore[arg-type]
        Member(name=f"{top}/{PROGRAM}", content=ELF.read_bytes(), mode=0o755),
        Member(name=f"{top}/bin/toy1", type=tarfile.SYMTYPE, link="toy", mode=0o777),
    ]
    return Craft(job=job, info=info, members=members)


def make_info(world: World, job: Job) -> BuildInfo:
    """Return the description that belongs into the job's archive."""
    source = SourceTree(
        revision=job.revision, archive="source.tar", sha256=digest("source"), size=10
    )
    translation = Translation(
        archive="products.tar",
        sha256=digest("products"),
        size=10,
        products={"toy": digest("toy")},
        environment=digest("environment"),
        command=("rpython",),
        phases=(),
        resources=parse_resources(RESOURCES),
        compiler_cache=CompilerCache(hits=4, misses=10),
    )
    return build_info(world.ctx, job, source, translation, digest("key"))


def write_archives(craft: Craft, directory: Path) -> dict[ArtifactKind, Path]:
    """Write both archives of *craft*."""
    directory.mkdir(parents=True, exist_ok=True)
    gz, zst = (directory / f"{craft.job.stem}{suffix}" for suffix in (".tar.gz", ".tar.zst"))
    with (
        gz.open("wb") as raw,
        gzip.GzipFile(craft.gzip_name, "wb", fileobj=raw, mtime=craft.gzip_time) as stream,
    ):
        stream.write(_tar(craft.members))
    other = craft.members if craft.zst_members is None else craft.zst_members
    zst.write_bytes(zstandard.compress(_tar(other)))
    return {ArtifactKind.ARCHIVE_GZ: gz, ArtifactKind.ARCHIVE_ZST: zst}


def _tar(members: Iterable[Member]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member.header(), io.BytesIO(member.content))
    return stream.getvalue()


def unpacked(craft: Craft, directory: Path) -> Tree:
    """Return the unpacked archive."""
    paths = write_archives(craft, directory)
    unpack(paths[ArtifactKind.ARCHIVE_GZ], directory / "tree")
    return Tree(craft.job, directory / "tree" / craft.job.stem, craft.info)


def running(craft: Craft, tests: Path) -> Installed:
    """Return the archive unpacked in a container."""
    session = FakeSession(Image(image_id="sha256:clean"), craft.answers)
    session.jit_log = session.jit_log if craft.jit_log is None else craft.jit_log
    session.gc_log = session.gc_log if craft.gc_log is None else craft.gc_log
    return Installed(
        job=craft.job,
        archive=f"{craft.job.stem}.tar.gz",
        environment="clean-old",
        session=session,
        tests=tests,
    )


def findings(craft: Craft, directory: Path) -> list[str]:
    """Return what every gate of every table finds; an unsafe archive is not unpacked or run."""
    archives = read_archives(craft.job, write_archives(craft, directory))
    unsafe = _found(SAFETY_GATES, archives)
    found = unsafe + _found(MEMBER_GATES, archives)
    if not unsafe:
        found += _found(CONTENT_GATES, unpacked(craft, directory))
    tests = directory / "programs"
    tests.mkdir(exist_ok=True)
    (tests / "sum.expected").write_text("3\n", encoding="utf-8")
    return found + _found(SMOKE_GATES + PROOF_GATES, running(craft, tests))


def _found(gates: Sequence[Gate[S]], subject: S) -> list[str]:
    _, failures = check_gates(gates, subject)
    return failures
