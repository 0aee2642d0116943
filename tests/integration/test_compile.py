"""The compiler behind ccache, as translations use it: what it remembers, and what it must notice."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.effects.archives import Entry, write_archive
from pipeline.effects.docker_engine import DockerEngine
from pipeline.effects.engine import Session
from pipeline.translate.command import COMPILERS, FIXED_VARIABLES, SEARCH_PATH
from tests.integration.conftest import ROOT, Project

pytestmark = pytest.mark.docker

PLACE = "/tmp/compiled"  # noqa: S108 - in the container
VARIABLES = {
    **FIXED_VARIABLES,
    "CCACHE_DIR": "/tmp/ccache",  # noqa: S108
    "HOME": PLACE,
    "PATH": f"{COMPILERS}:{SEARCH_PATH}",
    "TMPDIR": PLACE,
}
FILES = {
    "singleheader.h": '#include "inner.h"\n#define OUTER 1\n',
    "inner.h": "#define INNER 2\n",
    "beside.h": "#define BESIDE 3\n",
    "one.c": '#include "singleheader.h"\n#include "beside.h"\nint one = OUTER + INNER + BESIDE;\n',
}
HEADER = "gcc -O3 -o singleheader.h.gch -c singleheader.h"
COMPILE = "gcc -O3 -o one.o -c one.c"


@pytest.fixture
def session(fast: Project, tmp_path: Path) -> Iterator[Session]:
    """A translation environment with a small program whose header is compiled first."""
    records = [json.loads(path.read_text()) for path in fast.work.glob("cache/environments/*.json")]
    image = next(item["image_id"] for item in records if item["name"] == "translate")
    place = PLACE.removeprefix("/tmp/")  # noqa: S108
    entries = [Entry(path=f"{place}/{name}", content=text.encode()) for name, text in FILES.items()]
    write_archive(tmp_path / "files.tar", entries, epoch=1)
    script = ROOT / "dockerfiles" / "steps" / "compile.sh"
    compiler = Entry(path=f"{COMPILERS.removeprefix('/')}/gcc", content=script, executable=True)
    write_archive(tmp_path / "compiler.tar", [compiler], epoch=1)
    with DockerEngine("testcompile").session(image, user="0:0") as session:
        session.copy_into(tmp_path / "files.tar", "/tmp")  # noqa: S108
        session.copy_into(tmp_path / "compiler.tar", "/")
        yield session


def shell(session: Session, script: str) -> str:
    done = session.call(("sh", "-ec", script), environment=VARIABLES, directory=PLACE)
    assert done.status == 0, done.last_lines
    return done.text


def compiled(session: Session, script: str = "") -> tuple[int, int]:
    """Compile the header and the file; return how often ccache hit and missed."""
    again = f"{script}\nrm -f *.gch *.o\nccache --zero-stats >/dev/null\n{HEADER}\n{COMPILE}\n"
    printed = shell(session, f"{again}ccache --print-stats")
    told = dict(line.split("\t") for line in printed.splitlines())
    return int(told["direct_cache_hit"]), int(told["cache_miss"])


def test_what_was_compiled_is_remembered_with_its_header(session: Session) -> None:
    assert compiled(session) == (0, 2)
    assert compiled(session) == (2, 0)


@pytest.mark.parametrize(
    ("name", "misses"), [("singleheader.h", 2), ("inner.h", 2), ("beside.h", 1), ("one.c", 1)]
)
def test_every_change_is_noticed(name: str, misses: int, session: Session) -> None:
    assert compiled(session) == (0, 2)

    assert compiled(session, f"sed -i 's/[123]$/7/; s/int one/int two/' {name}") == (
        2 - misses,
        misses,
    )


def test_the_result_is_what_the_compiler_makes_by_itself(session: Session) -> None:
    compiled(session)
    compiled(session)

    plain = f"cp one.o cached.o; {COMPILE.replace('gcc', '/usr/bin/gcc')}; cmp one.o cached.o"

    assert shell(session, plain) == ""


def test_without_a_compiled_header_ccache_works_as_usual(session: Session) -> None:
    assert shell(session, f"{COMPILE}; {COMPILE}; ccache --print-stats | grep direct_cache_hit") == (
        "direct_cache_hit\t1\n"
    )
