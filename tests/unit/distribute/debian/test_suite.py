"""What a suite's container is asked, and how its answers are read."""

from pathlib import Path
from typing import Final

import pytest

from pipeline.distribute.debian.suite import (
    library_dependencies,
    local_libraries,
    provided_libraries,
)
from pipeline.effects.archives import Entry
from pipeline.errors import DebianPackageError
from pipeline.model.records import Environment
from tests.factories import make_environment, make_platform
from tests.fakes import ELF, Answer, World, make_world

LIBRARIES: Final = ("lib/libffi.so.7", "lib/libz.so.1")
PROGRAM: Final = "usr/lib/rpython/toy/bin/toy"
LAST_WORD: Final = f"-e/tmp/debian/root/{PROGRAM}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


@pytest.fixture
def environment(world: World) -> Environment:
    return make_environment(image_id=world.engine.add_image("debian"))


def test_a_suite_has_the_libraries_that_a_package_of_it_owns(
    world: World, environment: Environment
) -> None:
    last = "/usr/lib/x86_64-linux-gnu/libz.so.1"
    told = "zlib1g:amd64: /lib/x86_64-linux-gnu/libz.so.1\n"
    world.engine.answers[(last,)] = Answer(status=1, stdout=told, stderr="no path found\n")

    found = provided_libraries(world.ctx, environment, make_platform(), LIBRARIES)

    assert found == {"lib/libz.so.1"}


def test_a_suite_is_not_asked_about_nothing(world: World, environment: Environment) -> None:
    assert provided_libraries(world.ctx, environment, make_platform(), ()) == frozenset()
    assert world.engine.sessions == []


def test_what_programs_need_is_what_dpkg_shlibdeps_says(
    world: World, environment: Environment
) -> None:
    told = "shlibs:Depends=libc6 (>= 2.34), zlib1g (>= 1:1.2.0)\n"
    world.engine.answers[(LAST_WORD,)] = Answer(stdout=told)
    program = Entry(path=PROGRAM, content=ELF, executable=True)
    trees = {"toy": (program, Entry(path="usr/lib/rpython/toy/LICENSE", content=b"MIT"))}
    kept = ("usr/lib/rpython/toy/lib/libffi.so.7",)

    needed = library_dependencies(world.ctx, environment, make_platform(), trees, kept)

    assert needed == {"toy": ("libc6 (>= 2.34)", "zlib1g (>= 1:1.2.0)")}
    ((_, session),) = world.engine.sessions
    (call,) = session.calls
    assert call.argv[:3] == ("dpkg-shlibdeps", "-O", "-l/tmp/debian/root/usr/lib/rpython/toy/lib")
    assert call.environment["DEB_HOST_ARCH"] == "amd64"
    ((_, members),) = session.copied
    copied = {member.name for member in members if member.isfile()}
    assert copied == {
        f"debian/root/{PROGRAM}",
        "debian/toy/debian/control",
        "debian/toy/debian/shlibs.local",
    }


def test_a_package_without_programs_needs_no_library(
    world: World, environment: Environment
) -> None:
    trees = {"toy-doc": (Entry(path="usr/share/doc/toy-doc/README", content=b"read"),)}

    assert library_dependencies(world.ctx, environment, make_platform(), trees, ()) == {}


def test_a_library_that_no_package_has_is_an_error_with_the_tools_words(
    world: World, environment: Environment
) -> None:
    words = "error: cannot find library libodd.so.3\n"
    world.engine.answers[(LAST_WORD,)] = Answer(status=2, stderr=words)
    trees = {"toy": (Entry(path=PROGRAM, content=ELF, executable=True),)}

    with pytest.raises(DebianPackageError, match=r"package toy: .*cannot find library libodd"):
        library_dependencies(world.ctx, environment, make_platform(), trees, ())


def test_own_libraries_are_told_by_name_and_number() -> None:
    names = ("x/libffi.so.7", "x/libbz2.so.1.0", "libtcl-8.6.so", "libpypy3.11-c.so")

    assert list(local_libraries(names)) == ["libffi 7", "libbz2 1.0", "libtcl 8.6"]
