"""The compiler behind ccache, as translations use it: what it remembers, what it must notice."""

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

PLACE = "/tmp/compiled"
VARIABLES = {
    **FIXED_VARIABLES,
    "CCACHE_DIR": "/tmp/ccache",
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
HEADER = "rm -f *.gch *.o; gcc -O3 -o singleheader.h.gch -c singleheader.h"
COMPILE = "gcc -O3 -o one.o -c one.c"
AGE = "sleep 1.1"


@pytest.fixture
def session(fast: Project, tmp_path: Path) -> Iterator[Session]:
    """A translation environment with a small program whose header is compiled first."""
    records = [json.loads(path.read_text()) for path in fast.work.glob("cache/environments/*.json")]
    image = next(item["image_id"] for item in records if item["name"] == "translate")
    place = PLACE.removeprefix("/tmp/")
    entries = [Entry(path=f"{place}/{name}", content=text.encode()) for name, text in FILES.items()]
    write_archive(tmp_path / "files.tar", entries, epoch=1)
    script = ROOT / "dockerfiles" / "steps" / "compile.sh"
    compiler = Entry(path=f"{COMPILERS.removeprefix('/')}/gcc", content=script, executable=True)
    write_archive(tmp_path / "compiler.tar", [compiler], epoch=1)
    with DockerEngine("testcompile").session(image, user="0:0") as session:
        session.copy_into(tmp_path / "files.tar", "/tmp")
        session.copy_into(tmp_path / "compiler.tar", "/")
        yield session


def shell(session: Session, script: str) -> str:
    done = session.call(("sh", "-ec", script), environment=VARIABLES, directory=PLACE)
    assert done.status == 0, done.last_lines
    return done.text


def compiled(session: Session, script: str = "", header: str = HEADER) -> tuple[int, int]:
    """Compile the header and the file; return how often ccache hit and missed the file.

    ccache does not trust a file that was changed in the second in which it is compiled.
    """
    commands = (script, "ccache --zero-stats >/dev/null", AGE, header, COMPILE)
    printed = shell(session, "\n".join((*commands, "ccache --print-stats")))
    told = dict(line.split("\t") for line in printed.splitlines())
    return int(told["direct_cache_hit"]), int(told["cache_miss"])


def test_what_was_compiled_is_remembered_with_its_header(session: Session) -> None:
    """Where addresses are not fixed, as here, no two compiled headers are the same."""
    assert compiled(session) == (0, 1)
    assert compiled(session, header="rm one.o") == (1, 0)


@pytest.mark.parametrize(
    "script",
    [
        "sed -i s/1/7/ singleheader.h",
        "sed -i s/2/7/ inner.h",
        "echo 'int more;' >>inner.h",
        "sed -i s/3/7/ beside.h",
        "sed -i s/one/two/ one.c",
    ],
    ids=["macro", "macro-further-in", "declaration", "header-that-is-not-compiled", "file"],
)
def test_every_change_is_noticed(script: str, session: Session) -> None:
    assert compiled(session) == (0, 1)

    assert compiled(session, script) == (0, 1)


def test_the_result_is_what_the_compiler_makes_by_itself(session: Session) -> None:
    compiled(session)
    compiled(session, header="rm one.o")

    plain = f"cp one.o cached.o; {COMPILE.replace('gcc', '/usr/bin/gcc')}; cmp one.o cached.o"

    assert shell(session, plain) == ""


def test_without_a_compiled_header_ccache_works_as_usual(session: Session) -> None:
    script = f"{AGE}; {COMPILE}; {COMPILE}; ccache --print-stats | grep direct_cache_hit"

    assert shell(session, script) == "direct_cache_hit\t1\n"
