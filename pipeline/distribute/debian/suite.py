"""What a suite has: asked of its environment's container, with Debian's own tools."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.context import Context
from pipeline.effects.engine import Session
from pipeline.errors import DebianPackageError
from pipeline.model.platforms import Platform
from pipeline.model.records import Environment
from pipeline.source.runner import BUILDER
from pipeline.verify.tree import ELF_MAGIC

PLACE: Final = "/tmp/debian"  # noqa: S108 - in a container of our own
TIMEOUT: Final = 300
SOURCE_CONTROL: Final = "Source: {package}\n\nPackage: {package}\nArchitecture: any\n"
FIELD: Final = "shlibs:Depends="
# As dpkg-shlibdeps takes a library's name apart.
_SONAME: Final = re.compile(r"(?P<name>.+)\.so\.(?P<number>.+)|(?P<name2>.+)-(?P<number2>\d.*)\.so")


def provided_libraries(
    ctx: Context, environment: Environment, platform: Platform, libraries: Sequence[str]
) -> frozenset[str]:
    """Return those of the *libraries* (paths of files) that a package of the suite has by name."""
    places = {
        f"{directory}/{platform.multiarch}/{PurePosixPath(library).name}": library
        for library in libraries
        for directory in ("/lib", "/usr/lib")
    }
    if not places:
        return frozenset()
    with ctx.engine.session(environment.image_id) as session:
        # Its status is 1 if one of them is nobody's; those that are somebody's are told anyway.
        told = session.call(("dpkg-query", "--search", *places), timeout=TIMEOUT)
    found = (line.rpartition(": ")[2] for line in told.text.splitlines())
    return frozenset(places[path] for path in found if path in places)


def library_dependencies(
    ctx: Context,
    environment: Environment,
    platform: Platform,
    trees: Mapping[str, tuple[Entry, ...]],
    libraries: Sequence[str],
) -> Mapping[str, tuple[str, ...]]:
    """Return which of the suite's packages have the libraries that each tree's programs need.

    *trees* are the packages' files by the packages' names, *libraries* the paths in a package of
    those that are kept though they are a library of the system's kind.

    Raises:
        DebianPackageError: dpkg-shlibdeps fails, for one since no package has a library.
    """
    programs = {
        name: tuple(entry for entry in tree if _is_elf(entry)) for name, tree in trees.items()
    }
    with (
        tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
        ctx.engine.session(environment.image_id) as session,
    ):
        inputs = Path(temporary, "in.tar")
        write_archive(inputs, _given(programs, libraries), epoch=0, owner=BUILDER)
        session.copy_into(inputs, "/tmp")  # noqa: S108 - in the container
        return {
            name: _dependencies(session, platform, name, found, libraries)
            for name, found in programs.items()
            if found
        }


def _given(programs: Mapping[str, tuple[Entry, ...]], libraries: Sequence[str]) -> Iterator[Entry]:
    for name, entries in programs.items():
        top = f"debian/{name}"
        control = SOURCE_CONTROL.format(package=name).encode()
        yield Entry(path=f"{top}/debian/control", content=control)
        local = "".join(f"{line}\n" for line in local_libraries(libraries))
        yield Entry(path=f"{top}/debian/shlibs.local", content=local.encode())
        yield from (
            Entry(path=f"debian/root/{entry.path}", content=entry.content, executable=True)
            for entry in entries
        )


def local_libraries(libraries: Sequence[str]) -> Iterator[str]:
    """Yield lines for ``shlibs.local`` which say that nothing is needed for own *libraries*."""
    for library in libraries:
        found = _SONAME.fullmatch(PurePosixPath(library).name)
        if found is not None:
            yield f"{found['name'] or found['name2']} {found['number'] or found['number2']}"


def _dependencies(
    session: Session,
    platform: Platform,
    name: str,
    programs: tuple[Entry, ...],
    libraries: Sequence[str],
) -> tuple[str, ...]:
    root = f"{PLACE}/root"
    directories = sorted({str(PurePosixPath(library).parent) for library in libraries})
    done = session.call(
        (
            "dpkg-shlibdeps",
            "-O",
            *(f"-l{root}/{directory}" for directory in directories),
            *(f"-e{root}/{entry.path}" for entry in programs),
        ),
        timeout=TIMEOUT,
        environment={"DEB_HOST_ARCH": str(platform.debian_arch), "LC_ALL": "C.UTF-8"},
        directory=f"{PLACE}/{name}",
    )
    if done.status != 0:
        msg = (
            f"package {name}: dpkg-shlibdeps: {done.last_lines}\nA library of the suite that is "
            "missing there must be installed by dockerfiles/debian.Dockerfile."
        )
        raise DebianPackageError(msg)
    lines = (line.removeprefix(FIELD) for line in done.text.splitlines() if line.startswith(FIELD))
    return tuple(word.strip() for line in lines for word in line.split(",") if word.strip())


def _is_elf(entry: Entry) -> bool:
    if isinstance(entry.content, bytes):
        return entry.content.startswith(ELF_MAGIC)
    with entry.content.open("rb") as stream:
        return stream.read(len(ELF_MAGIC)) == ELF_MAGIC
