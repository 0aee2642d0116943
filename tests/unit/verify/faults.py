"""The table of crafted faults: for every gate the releases that it, and no other gate, refuses.

In texts ``{stem}`` stands for the release's name with its platform, ``{epoch}`` for its time.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final

import lief

from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.plan import Job
from pipeline.source.runner import archival_text
from pipeline.verify.running import IMPORTER, SCRATCH, TESTS, expected_options, wanted_imports
from pipeline.verify.source_archive import (
    SOURCE_CONTENT_GATES,
    SOURCE_MEMBERS_GATE,
    check_source,
)
from tests.crafted import (
    GDBM,
    LIBSQLITE,
    LZMA,
    PATCHLEVEL,
    PROGRAM,
    PYPY,
    PYPY_LIBRARY,
    SQLITE,
    SSL,
    SUFFIX,
    TKINTER,
    Craft,
    Member,
    filled,
    findings,
    gate_ids,
    make_elf,
    make_members,
    make_pypy_craft,
    patchlevel,
    report,
)
from tests.fakes import ELF, Answer

GZ: Final = "{stem}.tar.gz"
SOURCE: Final = "pypy3.11-v7.3.23-src"
CANDIDATE: Final = "pypy3.11-v7.3.23rc1-src"
SOURCE_GZ: Final = f"{SOURCE}.tar.gz"
ARCHIVAL: Final = ".hg_archival.txt"
VERSION_FILE: Final = "pypy/module/sys/version.py"
INFO: Final = f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/translation_info.py"
Spoil = Callable[[Craft], object]
SpoilBinary = Callable[[lief.ELF.Binary], object]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, the gate that finds it, and what that gate must say."""

    gate: str
    name: str
    spoil: Spoil
    file: str
    found: str
    expected: str


# --- a release with its source --------------------------------------------------------------


@dataclass(kw_only=True)
class CraftWithSource(Craft):
    """A release whose source archive is released with it."""

    source_members: list[Member] = field(default_factory=list)
    source_gzip_name: str = ""

    @property
    def source_top(self) -> str:
        """The top directory of the source archive."""
        return (self.job.source_archive or "").removesuffix(naming.SOURCE_SUFFIX)

    def change_source(self, name: str, **changes: object) -> None:
        """Replace fields of a member of the source archive, by its path below the top."""
        at = [item.name for item in self.source_members].index(f"{self.source_top}/{name}")
        self.source_members[at] = replace(self.source_members[at], **changes)  # type: ignore[arg-type]

    def add_to_source(self, member: Member) -> None:
        """Add a member to the source archive, where its name sorts."""
        members = [*self.source_members, replace(member, mtime=self.epoch)]
        self.source_members = sorted(members, key=lambda item: item.name)


def make_pypy(version: str = "7.3.23") -> CraftWithSource:
    """Return PyPy's release without a fault, and its source archive."""
    craft = make_pypy_craft(version)
    given = {item.name: getattr(craft, item.name) for item in fields(craft)}
    job = craft.job
    files = {
        ARCHIVAL: archival_text(job.revision),
        "pypy/goal/targetpypystandalone.py": b"",
        VERSION_FILE: version_file(job),
    }
    made = CraftWithSource(**given)
    made.source_members = make_members(job, made.source_top, files)
    made.answer(f"{TESTS}/translation_info.py", answer=Answer(stdout=told_options(job)))
    return made


def version_file(job: Job, **changes: object) -> bytes:
    """Return the file in which a source says its versions."""
    python = tuple(int(part) for part in job.language_version.split("."))
    version = (*job.version[:3], job.version.level.name.lower(), job.version.serial)
    told = {"CPYTHON_VERSION": (*python, "final", 0), "PYPY_VERSION": version, **changes}
    return "".join(f"{name} = {value}\n" for name, value in told.items()).encode()


def told_options(job: Job, **changes: object) -> str:
    """Return what a good PyPy says of how it was translated; dots are ``__`` in *changes*."""
    others = {"translation.verbose": False, "translation.cc": None}
    changed_options = {key.replace("__", "."): value for key, value in changes.items()}
    return json.dumps({**others, **dict(expected_options(job)), **changed_options})


def write_source(craft: CraftWithSource, directory: Path) -> Path:
    """Write the source archive."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{craft.source_top}{naming.SOURCE_SUFFIX}"
    with (
        path.open("wb") as raw,
        gzip.GzipFile(craft.source_gzip_name, "wb", fileobj=raw, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in craft.source_members:
            archive.addfile(member.header(), io.BytesIO(member.content))
    return path


def source_artifact(path: Path) -> Artifact:
    """Return the record of a source archive."""
    content = path.read_bytes()
    return Artifact(
        filename=path.name,
        kind=ArtifactKind.SOURCE_GZ,
        platform=None,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def all_findings(craft: Craft, directory: Path) -> list[str]:
    """Return what every gate finds, of the source archive too where there is one."""
    found = findings(craft, directory)
    if isinstance(craft, CraftWithSource):
        path = write_source(craft, directory / "sources")
        _, failures = check_source(craft.job, path, directory / "source")
        found += failures
    return found


def all_gate_ids(craft: Craft) -> set[str]:
    """Return the ids of all gates that a release is held to."""
    source = (SOURCE_MEMBERS_GATE, *SOURCE_CONTENT_GATES)
    more = {gate.identifier for gate in source} if isinstance(craft, CraftWithSource) else set()
    return {identifier for ids in gate_ids(craft.job).values() for identifier in ids} | more


# --- how a release is spoilt ----------------------------------------------------------------


def info_with(**changes: object) -> Spoil:
    def spoil(craft: Craft) -> None:
        changed = craft.info.model_copy(update=changes)
        craft.change("BUILD-INFO.json", content=pretty_json(changed))

    return spoil


def changed(name: str, **changes: object) -> Spoil:
    return lambda craft: craft.change(name, **changes)


def holding(name: str, text: bytes) -> Spoil:
    """Have *text* at the end of a file."""
    return lambda craft: craft.change(name, content=craft.content(name) + text)


def removed(name: str) -> Spoil:
    return lambda craft: craft.remove(name)


def added(name: str, content: bytes = b"", **changes: object) -> Spoil:
    return lambda craft: craft.add_file(name, content, **changes)


def unsorted(craft: Craft) -> None:
    craft.members.append(craft.members.pop(1))


def twice(craft: Craft) -> None:
    """Add a directory again, the only kind of member that can be unpacked twice."""
    index = next(i for i, item in enumerate(craft.members) if item.name.endswith("/bin"))
    craft.members.insert(index, craft.members[index])


def other_top(craft: Craft) -> None:
    craft.add(replace(craft.members[1], name="other/file"))


def other_zst(craft: Craft) -> None:
    name = f"{craft.job.stem}/zzz"
    craft.zst_members = [*craft.members, replace(craft.members[1], name=name)]


def hard_link(craft: Craft) -> None:
    craft.add_file("hard", type=tarfile.LNKTYPE, link=f"{craft.job.stem}/LICENSE")


def answering(*words: str, answer: Answer) -> Spoil:
    return lambda craft: craft.answer(*words, answer=answer)


def smoke(name: str, answer: Answer) -> Spoil:
    """Let a smoke test end otherwise."""

    def spoil(craft: Craft) -> None:
        (test,) = (item for item in craft.job.interpreter.verify.smoke if item.name == name)
        craft.answer(*filled(craft.job, test.argv), answer=answer)

    return spoil


def imports(environment: str, answer: Answer) -> Spoil:
    """Let the imports in *environment* end otherwise."""

    def spoil(craft: Craft) -> None:
        names = wanted_imports(craft.job.interpreter, environment)
        craft.answer("-c", IMPORTER, *names, answer=answer)

    return spoil


def reporting(**changes: object) -> Spoil:
    """Let the interpreter say something else of itself."""

    def spoil(craft: Craft) -> None:
        told = Answer(stdout=report(craft.job, **changes))
        craft.answer(f"{TESTS}/report.py", answer=told)

    return spoil


def telling(**changes: object) -> Spoil:
    """Let PyPy say that it was translated with other options."""

    def spoil(craft: Craft) -> None:
        told = Answer(stdout=told_options(craft.job, **changes))
        craft.answer(f"{TESTS}/translation_info.py", answer=told)

    return spoil


def asking_for(*options: str) -> Spoil:
    """Have the config ask for modules that PyPy was not translated with."""

    def spoil(craft: Craft) -> None:
        interpreter = craft.job.interpreter
        translation = interpreter.translation.model_copy(update={"target_options": options})
        interpreter = interpreter.model_copy(update={"translation": translation})
        craft.job = craft.job.model_copy(update={"interpreter": interpreter})

    return spoil


def source(spoil: Callable[[CraftWithSource], object]) -> Spoil:
    def spoil_source(craft: Craft) -> None:
        if not isinstance(craft, CraftWithSource):
            raise TypeError
        spoil(craft)

    return spoil_source


def source_with(name: str, **changes: object) -> Spoil:
    return source(lambda craft: craft.change_source(name, **changes))


def source_plus(name: str, **changes: object) -> Spoil:
    made = replace(Member(name=name), **changes)  # type: ignore[arg-type]
    return source(lambda craft: craft.add_to_source(made))


def source_without(name: str) -> Spoil:
    def spoil(craft: CraftWithSource) -> None:
        kept: Iterable[Member] = craft.source_members
        top = craft.source_top
        craft.source_members = [item for item in kept if item.name != f"{top}/{name}"]

    return source(spoil)


def other_release(craft: CraftWithSource) -> list[Member]:
    """Return the source's members below a directory of another release's name."""
    other = craft.source_top.replace("7.3.23", "7.3.22")
    return [
        replace(item, name=item.name.replace(craft.source_top, other))
        for item in craft.source_members
    ]


def source_of(**changes: object) -> Spoil:
    """Have the source say other versions."""

    def spoil(craft: CraftWithSource) -> None:
        craft.change_source(VERSION_FILE, content=version_file(craft.job, **changes))

    return source(spoil)


# --- how an ELF file is spoilt --------------------------------------------------------------


def binary(name: str, spoil: SpoilBinary) -> Spoil:
    return lambda craft: craft.binary(name, spoil)


def for_aarch64(binary: lief.ELF.Binary) -> None:
    binary.header.machine_type = lief.ELF.ARCH.AARCH64


def glibc(version: str) -> SpoilBinary:
    return version_label(f"GLIBC_{version}")


def version_label(label: str) -> SpoilBinary:
    def spoil(binary: lief.ELF.Binary) -> None:
        (requirement,) = binary.symbols_version_requirement
        requirement.get_auxiliary_symbols()[0].name = label

    return spoil


def needing(library: str) -> SpoilBinary:
    return lambda binary: binary.add_library(library)


def searching(path: str) -> SpoilBinary:
    """Search *path* and nothing else."""

    def spoil(binary: lief.ELF.Binary) -> None:
        not_searching(binary)
        binary.add(lief.ELF.DynamicEntryRunPath(path))

    return spoil


def not_searching(binary: lief.ELF.Binary) -> None:
    binary.remove(lief.ELF.DynamicEntry.TAG.RUNPATH)


def exporting(*symbols: str) -> SpoilBinary:
    def spoil(binary: lief.ELF.Binary) -> None:
        for symbol in symbols:
            binary.add_exported_function(binary.entrypoint, symbol)

    return spoil


def exporting_a(name: str, kind: lief.ELF.Symbol.TYPE) -> SpoilBinary:
    def spoil(binary: lief.ELF.Binary) -> None:
        binary.add_exported_function(binary.entrypoint, name)
        _symbol(binary, name).type = kind

    return spoil


def invisible(name: str) -> SpoilBinary:
    def spoil(binary: lief.ELF.Binary) -> None:
        _symbol(binary, name).visibility = lief.ELF.Symbol.VISIBILITY.HIDDEN

    return spoil


def _symbol(binary: lief.ELF.Binary, name: str) -> lief.ELF.Symbol:
    found = binary.get_dynamic_symbol(name)
    if found is None:
        raise AssertionError
    return found


def renaming(symbol: str, other: str) -> SpoilBinary:
    def spoil(binary: lief.ELF.Binary) -> None:
        _symbol(binary, symbol).name = other

    return spoil


def without(kind: lief.ELF.Segment.TYPE) -> SpoilBinary:
    def spoil(binary: lief.ELF.Binary) -> None:
        (segment,) = (item for item in binary.segments if item.type == kind)
        binary.remove(segment)

    return spoil


def executable_stack(binary: lief.ELF.Binary) -> None:
    (stack,) = (item for item in binary.segments if item.type == lief.ELF.Segment.TYPE.GNU_STACK)
    stack.add(lief.ELF.Segment.FLAGS.X)


def writable_code(binary: lief.ELF.Binary) -> None:
    for segment in binary.segments:
        if segment.type == lief.ELF.Segment.TYPE.LOAD and segment.has(lief.ELF.Segment.FLAGS.X):
            segment.add(lief.ELF.Segment.FLAGS.W)


def with_entry(tag: lief.ELF.DynamicEntry.TAG, value: int) -> SpoilBinary:
    return lambda binary: binary.add(lief.ELF.DynamicEntry(tag, value))


def second_debug_top(craft: Craft) -> None:
    """Put a file beside the directory of the debug symbols."""
    members = craft.debug_members or []
    members.append(Member(name="zzz", mtime=members[0].mtime))


def debug_member(**changes: object) -> Spoil:
    """Change the header of the debug symbols of the interpreter's library."""

    def spoil(craft: Craft) -> None:
        members = craft.debug_members or []
        (index,) = [at for at, item in enumerate(members) if item.name.endswith(".so.debug")]
        members[index] = replace(members[index], **changes)  # type: ignore[arg-type]

    return spoil


def debug_of(files: Mapping[str, bytes]) -> Spoil:
    """Have *files*, and nothing else, in the archive of debug symbols."""

    def spoil(craft: Craft) -> None:
        craft.debug_members = make_members(craft.job, f"{craft.job.stem}-debug", files)

    return spoil


# --- faults of any release ------------------------------------------------------------------

COMMON: Final = (
    Fault(
        gate="ARC01",
        name="second top directory",
        spoil=other_top,
        file=GZ,
        found="top level ['other', '{stem}']",
        expected="['{stem}']",
    ),
    Fault(
        gate="ARC02",
        name="path climbs out",
        spoil=added("../../etc/passwd"),
        file=f"{GZ}: {{stem}}/../../etc/passwd",
        found="leaves the directory",
        expected="a relative path without '..'",
    ),
    Fault(
        gate="ARC03",
        name="device",
        spoil=added("zero", type=tarfile.CHRTYPE),
        file=f"{GZ}: {{stem}}/zero",
        found="member type b'3'",
        expected="a file, a directory or a symbolic link",
    ),
    Fault(
        gate="ARC03",
        name="hard link",
        spoil=hard_link,
        file=f"{GZ}: {{stem}}/hard",
        found="member type b'1'",
        expected="a file, a directory or a symbolic link",
    ),
    Fault(
        gate="ARC04",
        name="absolute link",
        spoil=added("shell", type=tarfile.SYMTYPE, link="/bin/sh", mode=0o777),
        file=f"{GZ}: {{stem}}/shell",
        found="points to '/bin/sh'",
        expected="a relative link to a member of the archive",
    ),
    Fault(
        gate="ARC04",
        name="link climbs out",
        spoil=added("up", type=tarfile.SYMTYPE, link="../../etc", mode=0o777),
        file=f"{GZ}: {{stem}}/up",
        found="points to '../../etc'",
        expected="a relative link to a member of the archive",
    ),
    Fault(
        gate="ARC04",
        name="dangling link",
        spoil=added("bin/zzz", type=tarfile.SYMTYPE, link="nothing", mode=0o777),
        file=f"{GZ}: {{stem}}/bin/zzz",
        found="points to 'nothing'",
        expected="a relative link to a member of the archive",
    ),
    Fault(
        gate="ARC05",
        name="no licence",
        spoil=removed("LICENSE"),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="missing",
        expected="a file",
    ),
    Fault(
        gate="ARC05",
        name="directory for a licence",
        spoil=changed("LICENSE", content=b"", type=tarfile.DIRTYPE, mode=0o755),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="another kind",
        expected="a file",
    ),
    Fault(
        gate="ARC06",
        name="owner id",
        spoil=changed("LICENSE", uid=1000),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="owner 1000:0",
        expected="0:0, no name",
    ),
    Fault(
        gate="ARC06",
        name="group id",
        spoil=changed("LICENSE", gid=1000),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="owner 0:1000",
        expected="0:0, no name",
    ),
    Fault(
        gate="ARC06",
        name="owner name",
        spoil=changed("LICENSE", uname="builder"),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="owner 0:0 builder",
        expected="0:0, no name",
    ),
    Fault(
        gate="ARC06",
        name="time",
        spoil=changed("LICENSE", mtime=1),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="time 1",
        expected="{epoch}",
    ),
    Fault(
        gate="ARC06",
        name="group-writable",
        spoil=changed("LICENSE", mode=0o664),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="mode 664",
        expected="644 or 755",
    ),
    Fault(
        gate="ARC06",
        name="setuid",
        spoil=changed("LICENSE", mode=0o4755),
        file=f"{GZ}: {{stem}}/LICENSE",
        found="mode 4755",
        expected="644 or 755",
    ),
    Fault(
        gate="ARC06",
        name="unsorted",
        spoil=unsorted,
        file=f"{GZ}: members",
        found="not sorted",
        expected="sorted names, each once",
    ),
    Fault(
        gate="ARC06",
        name="member twice",
        spoil=twice,
        file=f"{GZ}: members",
        found="one is there twice",
        expected="sorted names, each once",
    ),
    Fault(
        gate="ARC07",
        name="other tree in the zst",
        spoil=other_zst,
        file="{stem}.tar.zst",
        found="tar sha256 ",
        expected="",
    ),
    Fault(
        gate="ARC08",
        name="name in the gzip header",
        spoil=lambda craft: setattr(craft, "gzip_name", "release.tar"),
        file=GZ,
        found="1f8b0808",
        expected="1f8b080000000000",
    ),
    Fault(
        gate="ARC08",
        name="time in the gzip header",
        spoil=lambda craft: setattr(craft, "gzip_time", 1),
        file=GZ,
        found="1f8b080001000000",
        expected="1f8b080000000000",
    ),
    Fault(
        gate="ELF01",
        name="cut-off binary",
        spoil=added("lib/cut.so", ELF.read_bytes()[:40]),
        file="{stem}/lib/cut.so",
        found="not an ELF file that can be read",
        expected="an ELF file",
    ),
    Fault(
        gate="TXT01",
        name="build path in a text",
        spoil=changed("LICENSE", content=b"see /build/source/x"),
        file="{stem}/LICENSE",
        found="holds '/build/source' at byte 4",
        expected="no path of the build environment",
    ),
    Fault(
        gate="TXT02",
        name="description of another collector",
        spoil=info_with(gc="minimark"),
        file="{stem}/BUILD-INFO.json",
        found="gc is 'minimark'",
        expected="'incminimark'",
    ),
    Fault(
        gate="TXT02",
        name="description of another source",
        spoil=info_with(source_sha256="0" * 64),
        file="{stem}/BUILD-INFO.json",
        found=f"source_sha256 is '{'0' * 64}'",
        expected="'41cf6794ba4200b839c53531555f0f3998df4cbb01a4d5cb0b94e3ca5e23947d'",
    ),
    Fault(
        gate="TXT02",
        name="description of another form",
        spoil=changed("BUILD-INFO.json", content=b"{}"),
        file="{stem}/BUILD-INFO.json",
        found="not readable: ",
        expected="a build description",
    ),
    Fault(
        gate="OPT02",
        name="no loop compiled",
        spoil=lambda craft: setattr(craft, "jit_log", "[1] {jit-summary\n[2] jit-summary}\n"),
        file=f"{GZ}: jit log",
        found="0 loops compiled",
        expected="at least one, since jit = true",
    ),
    Fault(
        gate="OPT03",
        name="another collector's log",
        spoil=lambda craft: setattr(craft, "gc_log", "[1] {gc-minor\n[2] {gc-collect\n"),
        file=f"{GZ}: gc log",
        found="no section gc-collect-step",
        expected="incminimark's",
    ),
)

# --- faults of a plain program --------------------------------------------------------------

OF_TOY: Final = (
    Fault(
        gate="ARC05",
        name="no document",
        spoil=removed("README.md"),
        file=f"{GZ}: {{stem}}/README.md",
        found="missing",
        expected="a file",
    ),
    Fault(
        gate="ARC05",
        name="no link",
        spoil=removed("bin/toy1"),
        file=f"{GZ}: {{stem}}/bin/toy1",
        found="missing",
        expected="a link to toy",
    ),
    Fault(
        gate="ARC05",
        name="link to another member",
        spoil=changed("bin/toy1", link="../LICENSE"),
        file=f"{GZ}: {{stem}}/bin/toy1",
        found="another kind",
        expected="a link to toy",
    ),
    Fault(
        gate="ARC05",
        name="program not executable",
        spoil=changed(PROGRAM, mode=0o644),
        file=f"{GZ}: {{stem}}/bin/toy",
        found="another kind",
        expected="an executable file",
    ),
    Fault(
        gate="ELF01",
        name="program is a script",
        spoil=changed(PROGRAM, content=b"#!/bin/sh\n"),
        file="{stem}/bin/toy",
        found="not an ELF file that can be read",
        expected="an ELF file",
    ),
    Fault(
        gate="ELF02",
        name="program for another machine",
        spoil=binary(PROGRAM, for_aarch64),
        file="{stem}/bin/toy",
        found="machine AARCH64",
        expected="X86_64",
    ),
    Fault(
        gate="ELF03",
        name="newer glibc than declared",
        spoil=binary(PROGRAM, glibc("2.99")),
        file="{stem}/bin/toy",
        found="_exit, puts of libc.so.6 needs glibc 2.99",
        expected="at most the declared floor 2.31",
    ),
    Fault(
        gate="ELF04",
        name="library that nobody promised",
        spoil=binary(PROGRAM, needing("libevil.so.1")),
        file="{stem}/bin/toy",
        found="needs libevil.so.1",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF05",
        name="absolute RUNPATH",
        spoil=binary(PROGRAM, searching("/opt/lib")),
        file="{stem}/bin/toy",
        found="searches '/opt/lib'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Fault(
        gate="ELF05",
        name="absolute RPATH behind a good one",
        spoil=binary(
            PROGRAM,
            lambda binary: binary.add(lief.ELF.DynamicEntryRpath("$ORIGIN/../lib:/opt/lib")),
        ),
        file="{stem}/bin/toy",
        found="searches '$ORIGIN/../lib:/opt/lib'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Fault(
        gate="ELF07",
        name="RPython's name exported",
        spoil=binary(PROGRAM, exporting("RPyGilAcquire")),
        file="{stem}/bin/toy",
        found="exports RPyGilAcquire",
        expected="only the names in verify.symbols.public",
    ),
    Fault(
        gate="ELF09",
        name="no relro",
        spoil=binary(PROGRAM, without(lief.ELF.Segment.TYPE.GNU_RELRO)),
        file="{stem}/bin/toy",
        found="no PT_GNU_RELRO",
        expected="relocations read-only after loading",
    ),
    Fault(
        gate="ELF10",
        name="executable stack",
        spoil=binary(PROGRAM, executable_stack),
        file="{stem}/bin/toy",
        found="stack RWE",
        expected="a stack that is not executable",
    ),
    Fault(
        gate="ELF11",
        name="text relocations",
        spoil=binary(PROGRAM, with_entry(lief.ELF.DynamicEntry.TAG.TEXTREL, 0)),
        file="{stem}/bin/toy",
        found="has DT_TEXTREL",
        expected="code that is not changed when it is loaded",
    ),
    Fault(
        gate="ELF12",
        name="writable code",
        spoil=binary(PROGRAM, writable_code),
        file="{stem}/bin/toy",
        found="segment at 0x0 is RWE",
        expected="no segment that is both writable and executable",
    ),
    Fault(
        gate="TXT01",
        name="build path in the program",
        spoil=changed(PROGRAM, content=ELF.read_bytes() + b"/build/tmp/a.c"),
        file="{stem}/bin/toy",
        found="holds '/build/tmp' at byte 5200",
        expected="no path of the build environment",
    ),
    Fault(
        gate="RUN01",
        name="other output",
        spoil=answering("--version", answer=Answer(stdout="toy 1.2.4\n")),
        file=f"{GZ} in clean-old: smoke test version",
        found="output 'toy 1.2.4\\n'",
        expected="'toy 1.2.3\\n'",
    ),
    Fault(
        gate="RUN01",
        name="other output than the file's",
        spoil=answering(f"{TESTS}/sum.toy", SCRATCH, answer=Answer(stdout="4\n")),
        file=f"{GZ} in clean-old: smoke test program",
        found="output '4\\n'",
        expected="'3\\n'",
    ),
    Fault(
        gate="RUN01",
        name="crash",
        spoil=answering(
            "--version",
            answer=Answer(status=139, stdout="toy 1.2.3\n", stderr="Segmentation fault"),
        ),
        file=f"{GZ} in clean-old: smoke test version",
        found="exit status 139: Segmentation fault",
        expected="exit status 0",
    ),
    Fault(
        gate="RUN01",
        name="error that is none",
        spoil=answering("--bad", answer=Answer(stderr="no such option")),
        file=f"{GZ} in clean-old: smoke test error",
        found="exit status 0",
        expected="exit status 2",
    ),
    Fault(
        gate="RUN01",
        name="other message",
        spoil=answering("--bad", answer=Answer(status=2, stderr="Traceback")),
        file=f"{GZ} in clean-old: smoke test error",
        found="message 'Traceback'",
        expected="one with 'no such option'",
    ),
    Fault(
        gate="OPT01",
        name="other collector",
        spoil=answering("--info", answer=Answer(stdout="gc=minimark\njit=True\n")),
        file=f"{GZ}: {{root}}/bin/toy --info",
        found="translation.gc is 'minimark'",
        expected="translation.gc 'incminimark'",
    ),
    Fault(
        gate="OPT01",
        name="no JIT",
        spoil=answering("--info", answer=Answer(stdout="gc=incminimark\njit=False\n")),
        file=f"{GZ}: {{root}}/bin/toy --info",
        found="translation.jit is False",
        expected="translation.jit True",
    ),
    Fault(
        gate="OPT01",
        name="says nothing of its options",
        spoil=answering("--info", answer=Answer(stdout="gc=incminimark\n")),
        file=f"{GZ}: {{root}}/bin/toy --info",
        found="nothing said of translation.jit",
        expected="translation.jit True",
    ),
    Fault(
        gate="OPT02",
        name="hot loop fails",
        spoil=answering(f"{TESTS}/hot.toy", answer=Answer(status=1, stderr="boom")),
        file=f"{GZ}: {{root}}/bin/toy {{tests}}/hot.toy with PYPYLOG=jit-log-opt,jit-summary",
        found="exit status 1: boom",
        expected="success and a log",
    ),
)

# --- faults of PyPy's release ---------------------------------------------------------------

OF_PYPY: Final = (
    Fault(
        gate="ARC05",
        name="no standard library",
        spoil=removed("lib/pypy3.11/os.py"),
        file=f"{GZ}: {{stem}}/lib/pypy3.11/os.py",
        found="missing",
        expected="a file",
    ),
    Fault(
        gate="ARC05",
        name="no link python3",
        spoil=removed("bin/python3"),
        file=f"{GZ}: {{stem}}/bin/python3",
        found="missing",
        expected="a link to pypy3.11",
    ),
    Fault(
        gate="ARC05",
        name="program not executable",
        spoil=changed(PYPY, mode=0o644),
        file=f"{GZ}: {{stem}}/{PYPY}",
        found="another kind",
        expected="an executable file",
    ),
    Fault(
        gate="ELF02",
        name="module for another machine",
        spoil=binary(SSL, for_aarch64),
        file=f"{{stem}}/{SSL}",
        found="machine AARCH64",
        expected="X86_64",
    ),
    Fault(
        gate="ELF03",
        name="module needs newer glibc",
        spoil=binary(LZMA, glibc("2.34")),
        file=f"{{stem}}/{LZMA}",
        found="_exit, puts of libc.so.6 needs glibc 2.34",
        expected="at most the declared floor 2.31",
    ),
    Fault(
        gate="ELF03",
        name="packed relative relocations",
        spoil=binary(LZMA, version_label("GLIBC_ABI_DT_RELR")),
        file=f"{{stem}}/{LZMA}",
        found="needs glibc 2.36",
        expected="at most the declared floor 2.31",
    ),
    Fault(
        gate="ELF04",
        name="neither allowed nor bundled",
        spoil=binary(SSL, needing("libssl.so.1.1")),
        file=f"{{stem}}/{SSL}",
        found="needs libssl.so.1.1",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF04",
        name="bundled but no search path",
        spoil=binary(SQLITE, not_searching),
        file=f"{{stem}}/{SQLITE}",
        found="needs libsqlite3.so.0",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF04",
        name="bundled but searched elsewhere",
        spoil=binary(SQLITE, searching("$ORIGIN/../../bin")),
        file=f"{{stem}}/{SQLITE}",
        found="needs libsqlite3.so.0",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF04",
        name="searched but not bundled",
        spoil=removed(LIBSQLITE),
        file=f"{{stem}}/{SQLITE}",
        found="needs libsqlite3.so.0",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF04",
        name="allowed for another file only",
        spoil=binary(TKINTER, needing("libX11.so.6")),
        file=f"{{stem}}/{TKINTER}",
        found="needs libX11.so.6",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF04",
        name="library by its absolute path",
        spoil=binary(SQLITE, needing("/bin/sh")),
        file=f"{{stem}}/{SQLITE}",
        found="needs /bin/sh",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF04",
        name="library by a path from where it is started",
        spoil=binary(SQLITE, needing("../lib/libsqlite3.so.0")),
        file=f"{{stem}}/{SQLITE}",
        found="needs ../lib/libsqlite3.so.0",
        expected="only ld-linux-x86-64.so.2, libc.so.6",
    ),
    Fault(
        gate="ELF05",
        name="search path is the directory above",
        spoil=binary(LIBSQLITE, searching("$ORIGIN/../..")),
        file=f"{{stem}}/{LIBSQLITE}",
        found="searches '$ORIGIN/../..'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Fault(
        gate="ELF05",
        name="search path of the build",
        spoil=binary(LIBSQLITE, searching("/usr/local/lib")),
        file=f"{{stem}}/{LIBSQLITE}",
        found="searches '/usr/local/lib'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Fault(
        gate="ELF05",
        name="working directory behind a good one",
        spoil=binary(SQLITE, searching("$ORIGIN/..:")),
        file=f"{{stem}}/{SQLITE}",
        found="searches '$ORIGIN/..:'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Fault(
        gate="ELF05",
        name="search path climbs out",
        spoil=binary(LIBSQLITE, searching("$ORIGIN/../../lib")),
        file=f"{{stem}}/{LIBSQLITE}",
        found="searches '$ORIGIN/../../lib'",
        expected="nothing, or $ORIGIN and directories of the archive",
    ),
    Fault(
        gate="ELF06",
        name="embedding function hidden",
        spoil=binary(PYPY_LIBRARY, renaming("pypy_main_startup", "startup")),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="does not export pypy_main_startup",
        expected="that it does",
    ),
    Fault(
        gate="ELF06",
        name="C API hidden",
        spoil=binary(PYPY_LIBRARY, renaming("PyPyList_New", "PyList_New")),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="does not export PyPyList_New",
        expected="that it does",
    ),
    Fault(
        gate="ELF06",
        name="embedding function not visible",
        spoil=binary(PYPY_LIBRARY, invisible("pypy_main_startup")),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="does not export pypy_main_startup",
        expected="that it does",
    ),
    Fault(
        gate="ELF07",
        name="thread-local variable exported",
        spoil=binary(PYPY_LIBRARY, exporting_a("pypy_tls", lief.ELF.Symbol.TYPE.TLS)),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="exports pypy_tls",
        expected="only the names in verify.symbols.public",
    ),
    Fault(
        gate="ELF08",
        name="module exports an untyped symbol of OpenSSL",
        spoil=binary(SSL, exporting_a("SSL_new", lief.ELF.Symbol.TYPE.NOTYPE)),
        file=f"{{stem}}/{SSL}",
        found="exports SSL_new",
        expected="no symbol of a library that is linked in",
    ),
    Fault(
        gate="ELF07",
        name="generated function exported",
        spoil=binary(PYPY_LIBRARY, exporting("pypy_g_W_Root_getdict")),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="exports pypy_g_W_Root_getdict",
        expected="only the names in verify.symbols.public",
    ),
    Fault(
        gate="ELF07",
        name="RPython's runtime exported",
        spoil=binary(PYPY_LIBRARY, exporting("RPyGilAcquire", "rpython_debug_print")),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="exports RPyGilAcquire, rpython_debug_print",
        expected="only the names in verify.symbols.public",
    ),
    Fault(
        gate="ELF08",
        name="module exports OpenSSL",
        spoil=binary(SSL, exporting("SSL_new")),
        file=f"{{stem}}/{SSL}",
        found="exports SSL_new",
        expected="no symbol of a library that is linked in",
    ),
    Fault(
        gate="ELF08",
        name="module exports liblzma",
        spoil=binary(LZMA, exporting("lzma_code")),
        file=f"{{stem}}/{LZMA}",
        found="exports lzma_code",
        expected="no symbol of a library that is linked in",
    ),
    Fault(
        gate="ELF08",
        name="interpreter exports OpenSSL",
        spoil=binary(PYPY_LIBRARY, exporting("EVP_DigestInit_ex")),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="exports EVP_DigestInit_ex",
        expected="no symbol of a library that is linked in",
    ),
    Fault(
        gate="ELF09",
        name="no relro",
        spoil=binary(GDBM, without(lief.ELF.Segment.TYPE.GNU_RELRO)),
        file=f"{{stem}}/{GDBM}",
        found="no PT_GNU_RELRO",
        expected="relocations read-only after loading",
    ),
    Fault(
        gate="ELF10",
        name="executable stack",
        spoil=binary(GDBM, executable_stack),
        file=f"{{stem}}/{GDBM}",
        found="stack RWE",
        expected="a stack that is not executable",
    ),
    Fault(
        gate="ELF10",
        name="nothing said of the stack",
        spoil=binary(PYPY_LIBRARY, without(lief.ELF.Segment.TYPE.GNU_STACK)),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="no PT_GNU_STACK",
        expected="a stack that is not executable",
    ),
    Fault(
        gate="ELF11",
        name="DT_TEXTREL",
        spoil=binary(PYPY_LIBRARY, with_entry(lief.ELF.DynamicEntry.TAG.TEXTREL, 0)),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="has DT_TEXTREL",
        expected="code that is not changed when it is loaded",
    ),
    Fault(
        gate="ELF11",
        name="DF_TEXTREL",
        spoil=binary(
            PYPY_LIBRARY,
            with_entry(
                lief.ELF.DynamicEntry.TAG.FLAGS, lief.ELF.DynamicEntryFlags.FLAG.TEXTREL.value
            ),
        ),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="has DF_TEXTREL",
        expected="code that is not changed when it is loaded",
    ),
    Fault(
        gate="ELF12",
        name="writable code",
        spoil=binary(LIBSQLITE, writable_code),
        file=f"{{stem}}/{LIBSQLITE}",
        found="segment at 0x0 is RWE",
        expected="no segment that is both writable and executable",
    ),
    Fault(
        gate="TXT01",
        name="path that only another file may hold",
        spoil=added("lib/pypy3.11/_sysconfigdata.py", b"CC = '/build/source/cc'\n"),
        file="{stem}/lib/pypy3.11/_sysconfigdata.py",
        found="holds '/build/source' at byte 6",
        expected="no path of the build environment",
    ),
    Fault(
        gate="TXT01",
        name="other path in the file that may hold one",
        spoil=holding(PYPY_LIBRARY, b"/build/tmp/x"),
        file=f"{{stem}}/{PYPY_LIBRARY}",
        found="holds '/build/tmp' at byte ",
        expected="no path of the build environment",
    ),
    Fault(
        gate="IDN01",
        name="header of a candidate",
        spoil=changed(PATCHLEVEL, content=patchlevel("7.3.23-candidate1")),
        file=f"{{stem}}/{PATCHLEVEL}",
        found='PYPY_VERSION is "7.3.23-candidate1"',
        expected='"7.3.23"',
    ),
    Fault(
        gate="IDN01",
        name="header of another Python",
        spoil=changed(PATCHLEVEL, content=patchlevel("7.3.23", "3.11.13")),
        file=f"{{stem}}/{PATCHLEVEL}",
        found='PY_VERSION is "3.11.13"',
        expected='"3.11.15"',
    ),
    Fault(
        gate="IDN01",
        name="header of CPython",
        spoil=changed(
            PATCHLEVEL, content=patchlevel("7.3.23").replace(b'PYPY_VERSION "', b'PYPY_VERSIONS "')
        ),
        file=f"{{stem}}/{PATCHLEVEL}",
        found="PYPY_VERSION is None",
        expected='"7.3.23"',
    ),
    Fault(
        gate="IDN01",
        name="number of another PyPy",
        spoil=changed(
            PATCHLEVEL, content=patchlevel("7.3.23").replace(b"0x07031700", b"0x07031600")
        ),
        file=f"{{stem}}/{PATCHLEVEL}",
        found="PYPY_VERSION_NUM is 0x07031600",
        expected="0x07031700",
    ),
    Fault(
        gate="IDN01",
        name="no number of this PyPy",
        spoil=changed(PATCHLEVEL, content=patchlevel("7.3.23").replace(b"VERSION_NUM", b"NUMBER")),
        file=f"{{stem}}/{PATCHLEVEL}",
        found="PYPY_VERSION_NUM is None",
        expected="0x07031700",
    ),
    Fault(
        gate="IDN01",
        name="major number of another Python",
        spoil=changed(
            PATCHLEVEL,
            content=patchlevel("7.3.23").replace(b"MAJOR_VERSION\t3", b"MAJOR_VERSION\t2"),
        ),
        file=f"{{stem}}/{PATCHLEVEL}",
        found="PY_MAJOR_VERSION is 2",
        expected="3",
    ),
    Fault(
        gate="IDN01",
        name="minor number of another Python",
        spoil=changed(
            PATCHLEVEL,
            content=patchlevel("7.3.23").replace(b"MINOR_VERSION\t11", b"MINOR_VERSION\t10"),
        ),
        file=f"{{stem}}/{PATCHLEVEL}",
        found="PY_MINOR_VERSION is 10",
        expected="11",
    ),
    Fault(
        gate="IDN01",
        name="micro number of another Python",
        spoil=changed(
            PATCHLEVEL,
            content=patchlevel("7.3.23").replace(b"MICRO_VERSION\t15", b"MICRO_VERSION\t13"),
        ),
        file=f"{{stem}}/{PATCHLEVEL}",
        found="PY_MICRO_VERSION is 13",
        expected="15",
    ),
    Fault(
        gate="IDN02",
        name="module for CPython",
        spoil=added("lib/pypy3.11/_x.cpython-311-x86_64-linux-gnu.so", make_elf("_x")),
        file="{stem}/lib/pypy3.11/_x.cpython-311-x86_64-linux-gnu.so",
        found="another suffix",
        expected=f"...{SUFFIX}",
    ),
    Fault(
        gate="IDN02",
        name="module for another ABI",
        spoil=added("lib/pypy3.11/_x.pypy311-pp72-x86_64-linux-gnu.so", make_elf("_x")),
        file="{stem}/lib/pypy3.11/_x.pypy311-pp72-x86_64-linux-gnu.so",
        found="another suffix",
        expected=f"...{SUFFIX}",
    ),
    Fault(
        gate="IDN02",
        name="module without ABI tag",
        spoil=added("lib/pypy3.11/lib2to3/_x.so", make_elf("_x")),
        file="{stem}/lib/pypy3.11/lib2to3/_x.so",
        found="another suffix",
        expected=f"...{SUFFIX}",
    ),
    Fault(
        gate="LIB01",
        name="other OpenSSL",
        spoil=changed(SSL, content=make_elf(SSL, holds=b"OpenSSL 3.5.70 9 Jun")),
        file=f"{{stem}}/{SSL}",
        found="another version",
        expected="'OpenSSL ",
    ),
    Fault(
        gate="LIB01",
        name="no version of liblzma",
        spoil=changed(LZMA, content=make_elf(LZMA)),
        file=f"{{stem}}/{LZMA}",
        found="another version",
        expected="'",
    ),
    Fault(
        gate="LIB01",
        name="no module",
        spoil=removed(GDBM),
        file=f"{{stem}}/{GDBM}",
        found="no such file",
        expected="the module",
    ),
    Fault(
        gate="DBG01",
        name="symbols of another build",
        spoil=debug_of({f"{PYPY_LIBRARY}.debug": make_elf("another build")}),
        file=f"{{stem}}-debug/{PYPY_LIBRARY}.debug",
        found="build-id ",
        expected="build-id ",
    ),
    Fault(
        gate="DBG01",
        name="program without build-id",
        spoil=changed(PYPY, content=ELF.read_bytes()),
        file=f"{{stem}}-debug/{PYPY}.debug",
        found="build-id ",
        expected="build-id None",
    ),
    Fault(
        gate="DBG01",
        name="symbols that cannot be read",
        spoil=debug_of({f"{PYPY}.debug": make_elf(PYPY)[:100]}),
        file=f"{{stem}}-debug/{PYPY}.debug",
        found="build-id None",
        expected="build-id ",
    ),
    Fault(
        gate="DBG01",
        name="no such program",
        spoil=debug_of({"bin/pypy3.10.debug": make_elf(PYPY)}),
        file="{stem}-debug/bin/pypy3.10.debug",
        found="no such program in the archive",
        expected="one beside it",
    ),
    Fault(
        gate="DBG01",
        name="no symbols but the program",
        spoil=debug_of({PYPY: make_elf(PYPY)}),
        file=f"{{stem}}-debug/{PYPY}",
        found="no such program in the archive",
        expected="one beside it",
    ),
    Fault(
        gate="DBG01",
        name="no symbols of the interpreter",
        spoil=debug_of({f"{PYPY}.debug": make_elf(PYPY)}),
        file=f"{{stem}}-debug/{PYPY_LIBRARY}.debug",
        found="no such file",
        expected="debug symbols",
    ),
    Fault(
        gate="DBG01",
        name="empty archive",
        spoil=lambda craft: setattr(craft, "debug_members", []),
        file=f"{{stem}}-debug/{PYPY_LIBRARY}.debug",
        found="no such file",
        expected="debug symbols",
    ),
    Fault(
        gate="DBG02",
        name="debug symbols of an owner",
        spoil=debug_member(uid=1000, uname="builder"),
        file=f"{{stem}}-debug.tar.zst: {{stem}}-debug/{PYPY_LIBRARY}.debug",
        found="owner 1000:0 builder",
        expected="0:0, no name",
    ),
    Fault(
        gate="DBG02",
        name="debug symbols of another time",
        spoil=debug_member(mtime=1),
        file=f"{{stem}}-debug.tar.zst: {{stem}}-debug/{PYPY_LIBRARY}.debug",
        found="time 1",
        expected="",
    ),
    Fault(
        gate="DBG02",
        name="debug symbols with a second top directory",
        spoil=second_debug_top,
        file="{stem}-debug.tar.zst: zzz",
        found="another place or kind",
        expected="files and directories below {stem}-debug",
    ),
    Fault(
        gate="MOD01",
        name="module not importable",
        spoil=imports("clean", Answer(status=1, stdout="_ssl: ImportError: no libssl.so.3\n")),
        file=f"{GZ} in clean: imports",
        found="_ssl: ImportError: no libssl.so.3",
        expected="that it is imported",
    ),
    Fault(
        gate="MOD01",
        name="module not importable where its libraries are",
        spoil=imports("compiler", Answer(status=1, stdout="_tkinter: ImportError: libX11\n")),
        file=f"{GZ} in compiler: imports",
        found="_tkinter: ImportError: libX11",
        expected="that it is imported",
    ),
    Fault(
        gate="MOD01",
        name="import crashes",
        spoil=imports("clean", Answer(status=139, stderr="Segmentation fault")),
        file=f"{GZ} in clean: imports",
        found="exit status 139: Segmentation fault",
        expected="that it is imported",
    ),
    Fault(
        gate="RUN01",
        name="other output",
        spoil=smoke("hello", Answer(stdout="'hello'\n")),
        file=f"{GZ} in clean: smoke test hello",
        found="output \"'hello'\\n\"",
        expected="'hello\\n'",
    ),
    Fault(
        gate="RUN02",
        name="standard library not importable",
        spoil=smoke("import-all", Answer(status=1, stderr="zoneinfo: ImportError")),
        file=f"{GZ} in clean: smoke test import-all",
        found="exit status 1: zoneinfo: ImportError",
        expected="exit status 0",
    ),
    Fault(
        gate="RUN03",
        name="no pip",
        spoil=smoke("ensurepip", Answer(status=1, stdout="installed from a wheel\n")),
        file=f"{GZ} in clean: smoke test ensurepip",
        found="exit status 1",
        expected="exit status 0",
    ),
    Fault(
        gate="RUN04",
        name="venv installs nothing",
        spoil=smoke("venv", Answer()),
        file=f"{GZ} in clean: smoke test venv",
        found="output ''",
        expected="'installed from a wheel\\n'",
    ),
    Fault(
        gate="RUN05",
        name="cffi computes something else",
        spoil=smoke("cffi-build", Answer(stdout="41\n")),
        file=f"{GZ} in compiler: smoke test cffi-build",
        found="output '41\\n'",
        expected="'42\\n'",
    ),
    Fault(
        gate="RUN06",
        name="extension module does not compile",
        spoil=smoke("extension-build", Answer(status=1, stdout="42\n", stderr="no Python.h")),
        file=f"{GZ} in compiler: smoke test extension-build",
        found="exit status 1: no Python.h",
        expected="exit status 0",
    ),
    Fault(
        gate="RUN07",
        name="unknown authority is trusted",
        spoil=smoke("tls", Answer(stdout="over TLS TLSv1.3\n")),
        file=f"{GZ} in compiler: smoke test tls",
        found="output 'over TLS TLSv1.3\\n'",
        expected="'over TLS TLSv1.3\\nan unknown authority is refused\\n'",
    ),
    Fault(
        gate="RUN08",
        name="one of Python's tests fails",
        spoil=smoke("python-tests", Answer(status=1, stdout="test_json\n", stderr="1 new failure")),
        file=f"{GZ} in clean: smoke test python-tests",
        found="exit status 1: 1 new failure",
        expected="exit status 0",
    ),
    Fault(
        gate="IDN03",
        name="another interpreter",
        spoil=reporting(implementation="cpython"),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="implementation is 'cpython'",
        expected="'pypy'",
    ),
    Fault(
        gate="IDN03",
        name="another revision",
        spoil=reporting(revision="0123456789ab"),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="revision is '0123456789ab'",
        expected="'194f9f44b505'",
    ),
    Fault(
        gate="IDN03",
        name="modified source",
        spoil=reporting(revision="194f9f44b505+"),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="revision is '194f9f44b505+'",
        expected="'194f9f44b505'",
    ),
    Fault(
        gate="IDN03",
        name="says that it is a candidate",
        spoil=reporting(version_line="PyPy 7.3.23-candidate1"),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="version_line is 'PyPy 7.3.23-candidate1'",
        expected="'PyPy 7.3.23'",
    ),
    Fault(
        gate="IDN03",
        name="another ABI tag",
        spoil=reporting(extension_suffix=".pypy311-pp72-x86_64-linux-gnu.so"),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="extension_suffix is '.pypy311-pp72-x86_64-linux-gnu.so'",
        expected=f"'{SUFFIX}'",
    ),
    Fault(
        gate="IDN03",
        name="says nothing",
        spoil=answering(f"{TESTS}/report.py", answer=Answer(status=1, stderr="no sys._git")),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="exit status 1: no sys._git",
        expected="a JSON object",
    ),
    Fault(
        gate="IDN03",
        name="says something that is no object",
        spoil=answering(f"{TESTS}/report.py", answer=Answer(stdout="[]")),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="exit status 0: []",
        expected="a JSON object",
    ),
    Fault(
        gate="IDN03",
        name="crashes after it has told",
        spoil=lambda craft: craft.answer(
            f"{TESTS}/report.py", answer=Answer(status=139, stdout=report(craft.job))
        ),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="exit status 139",
        expected="exit status 0",
    ),
    Fault(
        gate="OPT01",
        name="crashes after it has told",
        spoil=lambda craft: craft.answer(
            f"{TESTS}/translation_info.py",
            answer=Answer(status=139, stdout=told_options(craft.job)),
        ),
        file=INFO,
        found="exit status 139",
        expected="exit status 0",
    ),
    Fault(
        gate="OPT01",
        name="other collector",
        spoil=telling(translation__gc="minimark"),
        file=INFO,
        found="translation.gc is 'minimark'",
        expected="translation.gc 'incminimark'",
    ),
    Fault(
        gate="OPT01",
        name="no JIT",
        spoil=telling(translation__jit=False),
        file=INFO,
        found="translation.jit is False",
        expected="translation.jit True",
    ),
    Fault(
        gate="OPT01",
        name="no shared library",
        spoil=telling(translation__shared=False),
        file=INFO,
        found="translation.shared is False",
        expected="translation.shared True",
    ),
    Fault(
        gate="OPT01",
        name="another way to find roots",
        spoil=telling(translation__gcrootfinder="asmgcc"),
        file=INFO,
        found="translation.gcrootfinder is 'asmgcc'",
        expected="translation.gcrootfinder 'shadowstack'",
    ),
    Fault(
        gate="OPT01",
        name="number of the build's jobs",
        spoil=telling(translation__make_jobs=2),
        file=INFO,
        found="translation.make_jobs is 2",
        expected="translation.make_jobs 1",
    ),
    Fault(
        gate="OPT01",
        name="truth for a number",
        spoil=telling(translation__make_jobs=True),
        file=INFO,
        found="translation.make_jobs is True",
        expected="translation.make_jobs 1",
    ),
    Fault(
        gate="OPT01",
        name="no C API",
        spoil=telling(objspace__usemodules__cpyext=False),
        file=INFO,
        found="objspace.usemodules.cpyext is False",
        expected="objspace.usemodules.cpyext True",
    ),
    Fault(
        gate="OPT01",
        name="module that was asked for",
        spoil=asking_for("--withmod-_demo"),
        file=INFO,
        found="nothing said of objspace.usemodules._demo",
        expected="objspace.usemodules._demo True",
    ),
    Fault(
        gate="OPT01",
        name="module that was not wanted",
        spoil=asking_for("--withoutmod-cpyext"),
        file=INFO,
        found="objspace.usemodules.cpyext is True",
        expected="objspace.usemodules.cpyext False",
    ),
    Fault(
        gate="OPT01",
        name="lines instead of all options",
        spoil=answering(
            f"{TESTS}/translation_info.py", answer=Answer(stdout="gc=incminimark\njit=True\n")
        ),
        file=INFO,
        found="nothing said of objspace.allworkingmodules",
        expected="objspace.allworkingmodules True",
    ),
    Fault(
        gate="SRC01",
        name="second top directory",
        spoil=source_plus("zzz"),
        file=f"{SOURCE_GZ}: zzz",
        found="another place",
        expected=f"a path below {SOURCE}",
    ),
    Fault(
        gate="SRC01",
        name="top directory of another release",
        spoil=source(lambda craft: setattr(craft, "source_members", other_release(craft))),
        file=f"{SOURCE_GZ}: pypy3.11-v7.3.22-src",
        found="another place",
        expected=f"a path below {SOURCE}",
    ),
    Fault(
        gate="SRC01",
        name="path climbs out",
        spoil=source_plus(f"{SOURCE}/../../etc/passwd"),
        file=f"{SOURCE_GZ}: {SOURCE}/../../etc/passwd",
        found="another place",
        expected=f"a path below {SOURCE}",
    ),
    Fault(
        gate="SRC01",
        name="device",
        spoil=source_plus(f"{SOURCE}/zero", type=tarfile.CHRTYPE),
        file=f"{SOURCE_GZ}: {SOURCE}/zero",
        found="member type b'3'",
        expected="a file, a directory or a symbolic link",
    ),
    Fault(
        gate="SRC01",
        name="no members",
        spoil=source(lambda craft: craft.source_members.clear()),
        file=f"{SOURCE_GZ}: members",
        found="none",
        expected=f"files below {SOURCE}",
    ),
    Fault(
        gate="SRC01",
        name="owner",
        spoil=source_with(VERSION_FILE, uid=1000, uname="builder"),
        file=f"{SOURCE_GZ}: {SOURCE}/{VERSION_FILE}",
        found="owner 1000:0 builder",
        expected="0:0, no name",
    ),
    Fault(
        gate="SRC01",
        name="time",
        spoil=source_with(VERSION_FILE, mtime=1),
        file=f"{SOURCE_GZ}: {SOURCE}/{VERSION_FILE}",
        found="time 1",
        expected="{epoch}",
    ),
    Fault(
        gate="SRC01",
        name="name in the gzip header",
        spoil=source(lambda craft: setattr(craft, "source_gzip_name", "source.tar")),
        file=SOURCE_GZ,
        found="1f8b0808",
        expected="1f8b080000000000",
    ),
    Fault(
        gate="SRC02",
        name="another commit",
        spoil=source_with(ARCHIVAL, content=b"node: 0123456789ab\nbranch: py3.11\n"),
        file=f"{SOURCE_GZ}: {SOURCE}/{ARCHIVAL}",
        found="'node: 0123456789ab",
        expected="'node: 194f9f44b505",
    ),
    Fault(
        gate="SRC02",
        name="no commit",
        spoil=source_without(ARCHIVAL),
        file=f"{SOURCE_GZ}: {SOURCE}/{ARCHIVAL}",
        found="no such file",
        expected="'node: 194f9f44b505",
    ),
    Fault(
        gate="SRC03",
        name="another version",
        spoil=source_of(PYPY_VERSION=(7, 3, 22, "final", 0)),
        file=f"{SOURCE_GZ}: {SOURCE}/{VERSION_FILE}",
        found="7.3.22 for Python 3.11.15",
        expected="7.3.23 for Python 3.11.15",
    ),
    Fault(
        gate="SRC03",
        name="another Python",
        spoil=source_of(CPYTHON_VERSION=(3, 11, 13, "final", 0)),
        file=f"{SOURCE_GZ}: {SOURCE}/{VERSION_FILE}",
        found="7.3.23 for Python 3.11.13",
        expected="7.3.23 for Python 3.11.15",
    ),
    Fault(
        gate="SRC03",
        name="no version",
        spoil=source_with(VERSION_FILE, content=b"import sys\n"),
        file=f"{SOURCE_GZ}: {SOURCE}/{VERSION_FILE}",
        found="does not assign version tuples",
        expected="7.3.23 for Python 3.11.15",
    ),
    Fault(
        gate="SRC03",
        name="no version file",
        spoil=source_without(VERSION_FILE),
        file=f"{SOURCE_GZ}: {SOURCE}/{VERSION_FILE}",
        found="no such file",
        expected="7.3.23 for Python 3.11.15",
    ),
)

# --- faults of PyPy's candidate -------------------------------------------------------------

OF_CANDIDATE: Final = (
    Fault(
        gate="IDN01",
        name="final header",
        spoil=changed(PATCHLEVEL, content=patchlevel("7.3.23")),
        file=f"{{stem}}/{PATCHLEVEL}",
        found='PYPY_VERSION is "7.3.23"',
        expected='"7.3.23-candidate1"',
    ),
    Fault(
        gate="IDN01",
        name="header of another candidate",
        spoil=changed(PATCHLEVEL, content=patchlevel("7.3.23-candidate2")),
        file=f"{{stem}}/{PATCHLEVEL}",
        found='PYPY_VERSION is "7.3.23-candidate2"',
        expected='"7.3.23-candidate1"',
    ),
    Fault(
        gate="SRC03",
        name="source of the final version",
        spoil=source_of(PYPY_VERSION=(7, 3, 23, "final", 0)),
        file=f"{CANDIDATE}.tar.gz: {CANDIDATE}/{VERSION_FILE}",
        found="7.3.23 for Python 3.11.15",
        expected="7.3.23rc1 for Python 3.11.15",
    ),
    Fault(
        gate="IDN03",
        name="says that it is final",
        spoil=reporting(interpreter_version=[7, 3, 23, "final", 0]),
        file=f"{GZ}: {{root}}/bin/pypy3.11 {{tests}}/report.py",
        found="interpreter_version is [7, 3, 23, 'final', 0]",
        expected="[7, 3, 23, 'candidate', 1]",
    ),
)

FAULTS: Final[Mapping[str, tuple[Fault, ...]]] = {
    "toy": (*COMMON, *OF_TOY),
    "pypy3.11": (*COMMON, *OF_PYPY),
    "pypy3.11rc1": OF_CANDIDATE,
}
"""Faults by the release that they spoil."""
