"""Finished releases, to be spoilt by exactly one fault each, for the gates.

There are two: the toy's, which is one plain program, and PyPy's for Python 3.11. No ELF file in
them is compiled: each is the toy's, changed with LIEF.
"""

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import lief
import zstandard

from pipeline.effects.archives import unpack
from pipeline.model import naming
from pipeline.model.artifacts import ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.records import BuildInfo, CompilerCache, SourceTree, Translation
from pipeline.package.runner import build_info
from pipeline.plan import Job
from pipeline.translate.command import parse_resources
from pipeline.verify.gates import Gate, check_gates
from pipeline.verify.members import MEMBER_GATES, SAFETY_GATES, read_archives
from pipeline.verify.runner import TREE_GATES, _gates
from pipeline.verify.running import (
    IMPORTER,
    SCRATCH,
    TESTS,
    TOOLCHAIN,
    UNPACKED,
    Installed,
    wanted_imports,
)
from pipeline.verify.tree import Tree
from tests.factories import (
    CONFIGS,
    make_build_info_of,
    make_config,
    make_pypy_job,
    make_pypy_package,
)
from tests.fakes import ELF, EPOCH, RESOURCES, Answer, FakeSession, Image, World, digest, make_job

S = TypeVar("S")
PROGRAM: Final = "bin/toy"
FILE_GATES: Final = (SAFETY_GATES, MEMBER_GATES, TREE_GATES)

SUFFIX: Final = ".pypy311-pp73-x86_64-linux-gnu.so"
PYPY: Final = "bin/pypy3.11"
PYPY_LIBRARY: Final = "bin/libpypy3.11-c.so"
PATCHLEVEL: Final = "include/pypy3.11/patchlevel.h"
SSL: Final = f"lib/pypy3.11/_pypy_openssl{SUFFIX}"
LZMA: Final = f"lib/pypy3.11/_lzma_cffi{SUFFIX}"
GDBM: Final = f"lib/pypy3.11/_gdbm_cffi{SUFFIX}"
SQLITE: Final = f"lib/pypy3.11/_sqlite3_cffi{SUFFIX}"
TKINTER: Final = f"lib/pypy3.11/_tkinter/tklib_cffi{SUFFIX}"
LIBSQLITE: Final = "lib/libsqlite3.so.0"
LIBTK: Final = "lib/libtk8.6.so"
PYPY_INFO_TEXT: Final = "gc=incminimark\njit=True\n"


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
    """A release as it should be, to be spoilt: its members, and how it behaves."""

    job: Job
    info: BuildInfo
    members: list[Member]
    zst_members: list[Member] | None = None
    debug_members: list[Member] | None = None
    embedded: Mapping[str, str] = field(default_factory=dict)
    gzip_name: str = ""
    gzip_time: int = 0
    answers: dict[tuple[str, ...], Answer] = field(default_factory=dict)
    jit_log: str | None = None
    gc_log: str | None = None

    def change(self, name: str, **changes: object) -> None:
        """Replace fields of the member *name*, a path below the top directory."""
        index = self._index(name)
        self.members[index] = replace(self.members[index], **changes)  # type: ignore[arg-type]

    def content(self, name: str) -> bytes:
        """Return what is in a file."""
        return self.members[self._index(name)].content

    def remove(self, name: str) -> None:
        """Leave a member out."""
        del self.members[self._index(name)]

    def add(self, member: Member) -> None:
        """Add a member where its name sorts."""
        self.members = sorted([*self.members, member], key=lambda item: item.name)

    def add_file(self, name: str, content: bytes = b"", **changes: object) -> None:
        """Add a file, by its path below the top directory."""
        made = Member(name=f"{self.job.stem}/{name}", content=content, mtime=self.epoch)
        self.add(replace(made, **changes))  # type: ignore[arg-type]

    def answer(self, *words: str, answer: Answer) -> None:
        """Let the command whose arguments end with *words* do something else."""
        others = {key: known for key, known in self.answers.items() if key != words}
        self.answers = {words: answer, **others}

    @property
    def epoch(self) -> int:
        """The time that every member has."""
        return self.job.revision.epoch

    def _index(self, name: str) -> int:
        return [item.name for item in self.members].index(f"{self.job.stem}/{name}")

    def program(self, spoil: Callable[[lief.ELF.Binary], object]) -> None:
        """Change the toy's executable with LIEF."""
        self.binary(PROGRAM, spoil)

    def binary(self, name: str, spoil: Callable[[lief.ELF.Binary], object]) -> None:
        """Change an ELF file with LIEF."""
        binary = _parsed(self.content(name))
        spoil(binary)
        self.change(name, content=binary.write_to_bytes())


def _parsed(content: bytes) -> lief.ELF.Binary:
    binary = lief.ELF.parse(io.BytesIO(content))
    if binary is None:
        raise AssertionError
    return binary


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


def make_pypy_craft(version: str = "7.3.23") -> Craft:
    """Return PyPy's release without a fault: upstream's layout with little in each file."""
    job = make_pypy_job(version)
    info = make_build_info_of(job)
    pins = make_config().pins
    embedded = {
        module: pins[library.pin].version
        for module, library in make_pypy_package().embedded.items()
    }
    members = make_members(job, job.stem, _pypy_files(job, info, embedded))
    members += [
        Member(
            name=f"{job.stem}/bin/{link}",
            type=tarfile.SYMTYPE,
            link="pypy3.11",
            mode=0o777,
            mtime=job.revision.epoch,
        )
        for link in ("pypy", "pypy3", "python", "python3", "python3.11")
    ]
    symbols = {f"{name}.debug": make_elf(name) for name in (PYPY, PYPY_LIBRARY)}
    return Craft(
        job=job,
        info=info,
        members=sorted(members, key=lambda item: item.name),
        debug_members=make_members(job, f"{job.stem}-debug", symbols),
        embedded=embedded,
        answers=_pypy_answers(job),
    )


def make_members(job: Job, top: str, files: Mapping[str, bytes]) -> list[Member]:
    """Return sorted members: *files* by their paths below *top*, and their directories."""
    epoch = job.revision.epoch
    names = [f"{top}/{name}" for name in files]
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}
    members = [Member(name=name, type=tarfile.DIRTYPE, mode=0o755, mtime=epoch) for name in parents]
    members += [
        Member(
            name=name,
            content=content,
            mode=0o755 if name == f"{top}/{PYPY}" else 0o644,
            mtime=epoch,
        )
        for name, content in zip(names, files.values(), strict=True)
    ]
    return sorted(members, key=lambda item: item.name)


def _pypy_files(job: Job, info: BuildInfo, embedded: Mapping[str, str]) -> dict[str, bytes]:
    return {
        "BUILD-INFO.json": pretty_json(info),
        "LICENSE": b"MIT License\n",
        "README.rst": b"PyPy\n",
        PYPY: make_elf(PYPY, needs=("libpypy3.11-c.so",), searches="$ORIGIN/"),
        PYPY_LIBRARY: make_elf(
            PYPY_LIBRARY,
            needs=("libm.so.6",),
            exports=(*job.interpreter.verify.symbols.required, "PyPyLong_FromLong", "environment"),
            holds=b"/build/source/pypy/goal\0",
        ),
        "include/pypy3.11/Python.h": b"#include <patchlevel.h>\n",
        PATCHLEVEL: patchlevel(job.version.in_headers),
        "lib/PYPY_PORTABLE_DEPS.txt": b"libsqlite3.so.0\nlibtk8.6.so\n",
        LIBSQLITE: make_elf(LIBSQLITE, exports=("sqlite3_open",), searches="$ORIGIN/."),
        LIBTK: make_elf(LIBTK, needs=("libX11.so.6",), searches="$ORIGIN/."),
        "lib/pypy3.11/ensurepip/__init__.py": b"",
        "lib/pypy3.11/os.py": b"import sys\n",
        "lib/pypy3.11/site-packages/README.txt": b"For packages\n",
        "lib/tcl8.6/init.tcl": b"# Tcl\n",
        "lib/tk8.6/tk.tcl": b"# Tk\n",
        SSL: make_elf(
            SSL, exports=_exports_of(SSL), holds=b"OpenSSL %s 9 Jun" % _version("_ssl", embedded)
        ),
        LZMA: make_elf(LZMA, exports=_exports_of(LZMA), holds=_version("lzma", embedded) + b"\0"),
        GDBM: make_elf(GDBM, exports=_exports_of(GDBM)),
        SQLITE: make_elf(SQLITE, needs=("libsqlite3.so.0",), searches="$ORIGIN/.."),
        TKINTER: make_elf(TKINTER, needs=("libtk8.6.so",), searches="$ORIGIN/../.."),
    }


def _version(module: str, embedded: Mapping[str, str]) -> bytes:
    return embedded[module].encode()


def _exports_of(module: str) -> tuple[str, ...]:
    """Return what a cffi module exports, for PyPy and for CPython."""
    name = PurePosixPath(module).name.removesuffix(SUFFIX)
    return f"_cffi_pypyinit_{name}", f"PyInit_{name}"


def patchlevel(version: str, language_version: str = "3.11.15") -> bytes:
    """Return what is in PyPy's header for programs that ask for the version."""
    major, minor, micro = (int(part) for part in version.partition("-")[0].split("."))
    python = dict(zip(("MAJOR", "MINOR", "MICRO"), language_version.split("."), strict=True))
    numbers = "".join(f"#define PY_{name}_VERSION\t{number}\n" for name, number in python.items())
    return f"""\
{numbers}#define PY_VERSION		"{language_version}"
#define PYPY_VERSION "{version}"
#define PYPY_VERSION_NUM  0x{major:02x}{minor:02x}{micro:02x}00
""".encode()


def make_elf(
    build: str,
    *,
    needs: Sequence[str] = (),
    searches: str | None = None,
    exports: Sequence[str] = (),
    holds: bytes = b"",
) -> bytes:
    """Return a library that is linked as it should be; its build-id stands for *build*.

    It *holds* some bytes behind everything that is loaded.
    """
    binary = _parsed(ELF.read_bytes())
    for library in needs:
        binary.add_library(library)
    for symbol in exports:
        binary.add_exported_function(binary.entrypoint, symbol)
    if searches is not None:
        binary.add(lief.ELF.DynamicEntryRunPath(searches))
    binary.add(_build_id(build))
    return binary.write_to_bytes() + holds


def _build_id(build: str) -> lief.ELF.Segment:
    """Return a segment with the note NT_GNU_BUILD_ID, as a linker makes one."""
    identifier = bytes.fromhex(digest(build))
    segment = lief.ELF.Segment()
    segment.type, segment.flags = lief.ELF.Segment.TYPE.NOTE, lief.ELF.Segment.FLAGS.R
    segment.alignment = 4
    note = struct.pack("<3I4s", len(b"GNU\0"), len(identifier), 3, b"GNU\0") + identifier
    segment.content = memoryview(note)
    return segment


def _pypy_answers(job: Job) -> dict[tuple[str, ...], Answer]:
    """Return what a good PyPy does, by how its command ends."""
    imports = {
        ("-c", IMPORTER, *wanted_imports(job.interpreter, environment)): Answer()
        for environment in job.interpreter.verify.environments
    }
    return {
        **smoke_answers(job),
        **imports,
        (f"{TESTS}/report.py",): Answer(stdout=report(job)),
        (f"{TESTS}/translation_info.py",): Answer(stdout=PYPY_INFO_TEXT),
        (f"{TESTS}/hot_loop.py",): Answer(),
        (f"{TESTS}/allocate.py",): Answer(),
    }


def smoke_answers(job: Job) -> dict[tuple[str, ...], Answer]:
    """Return what a good interpreter does when its smoke tests are run."""
    tests = CONFIGS / job.interpreter.verify.test_files
    return {
        filled(job, test.argv): Answer(
            status=test.status,
            stdout=(tests / test.stdout_file).read_text(encoding="utf-8")
            if test.stdout_file is not None
            else test.stdout or "",
            stderr="\n".join(test.stderr_contains),
        )
        for test in job.interpreter.verify.smoke
    }


def filled(job: Job, argv: Sequence[str]) -> tuple[str, ...]:
    """Return a command of the configuration as it is run in a container."""
    places = {
        "{root}": f"{UNPACKED}/{job.stem}",
        "{tests}": TESTS,
        "{toolchain}": TOOLCHAIN,
        "{scratch}": SCRATCH,
    }
    words = tuple(argv)
    for name, place in places.items():
        words = tuple(word.replace(name, place) for word in words)
    return words


def report(job: Job, **changes: object) -> str:
    """Return what PyPy says of itself to ``report.py``."""
    number, level, serial = job.version[:3], job.version.level, job.version.serial
    told = {
        "implementation": "pypy",
        "interpreter_version": [*number, level.name.lower(), serial],
        "language_version": "3.11.15",
        "version": f"3.11.15 (194f9f44b505, May 25 2026)\n[PyPy {job.version.in_headers}]",
        "version_line": f"PyPy {job.version.in_headers}",
        "revision": "194f9f44b505",
        "machine": "x86_64",
        "extension_suffix": SUFFIX,
    }
    return json.dumps({**told, **changes})


def write_archives(craft: Craft, directory: Path) -> dict[ArtifactKind, Path]:
    """Write every archive of *craft*."""
    directory.mkdir(parents=True, exist_ok=True)
    debug = craft.debug_members
    names = naming.archive_names(craft.job.stem, os="linux", debug=debug is not None)
    paths = {kind: directory / name for kind, name in names.items()}
    with (
        paths[ArtifactKind.ARCHIVE_GZ].open("wb") as raw,
        gzip.GzipFile(craft.gzip_name, "wb", fileobj=raw, mtime=craft.gzip_time) as stream,
    ):
        stream.write(_tar(craft.members))
    other = craft.members if craft.zst_members is None else craft.zst_members
    paths[ArtifactKind.ARCHIVE_ZST].write_bytes(zstandard.compress(_tar(other)))
    if debug is not None:
        paths[ArtifactKind.DEBUG_ZST].write_bytes(zstandard.compress(_tar(debug)))
    return paths


def _tar(members: Iterable[Member]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member.header(), io.BytesIO(member.content))
    return stream.getvalue()


def unpacked(craft: Craft, directory: Path) -> Tree:
    """Return the unpacked archive, and that of debug symbols beside it."""
    paths = write_archives(craft, directory)
    unpack(paths[ArtifactKind.ARCHIVE_GZ], directory / "tree")
    debug_root = None
    if ArtifactKind.DEBUG_ZST in paths:
        unpack(paths[ArtifactKind.DEBUG_ZST], directory / "debug")
        debug_root = directory / "debug" / f"{craft.job.stem}-debug"
    return Tree(
        job=craft.job,
        root=directory / "tree" / craft.job.stem,
        info=craft.info,
        debug_root=debug_root,
        embedded=craft.embedded,
    )


def running(craft: Craft, tests: Path, environment: str = "clean-old") -> Installed:
    """Return the archive unpacked in a container."""
    session = FakeSession(Image(image_id="sha256:clean"), craft.answers)
    session.jit_log = session.jit_log if craft.jit_log is None else craft.jit_log
    session.gc_log = session.gc_log if craft.gc_log is None else craft.gc_log
    return Installed(
        job=craft.job,
        archive=f"{craft.job.stem}.tar.gz",
        environment=environment,
        session=session,
        tests=tests,
    )


def running_gates(job: Job) -> dict[str, tuple[Gate[Installed], ...]]:
    """Return the gates that run an archive, by environment."""
    return {
        environment: _gates(job, environment, first=index == 0)
        for index, environment in enumerate(job.interpreter.verify.environments)
    }


def gate_ids(job: Job) -> dict[str, list[str]]:
    """Return the ids of the gates that are checked for each environment and before, in order."""
    files = [gate.identifier for table in FILE_GATES for gate in table]
    return {
        environment: [*files, *(gate.identifier for gate in gates)]
        for environment, gates in running_gates(job).items()
    }


def findings(craft: Craft, directory: Path) -> list[str]:
    """Return what every gate of every table finds; an unsafe archive is not unpacked."""
    archives = read_archives(craft.job, write_archives(craft, directory))
    unsafe = _found(SAFETY_GATES, archives)
    found = unsafe + _found(MEMBER_GATES, archives)
    if not unsafe:
        found += _found(TREE_GATES, unpacked(craft, directory))
    tests = directory / "programs"
    tests.mkdir(exist_ok=True)
    (tests / "sum.expected").write_text("3\n", encoding="utf-8")
    for environment, gates in running_gates(craft.job).items():
        found += _found(gates, running(craft, tests, environment))
    return found


def _found(gates: Sequence[Gate[S]], subject: S) -> list[str]:
    _, failures = check_gates(gates, subject)
    return failures
