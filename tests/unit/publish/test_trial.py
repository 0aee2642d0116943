"""A trial: the right archive is unpacked, the script is told where, and its end is judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.effects.archives import Compression, Entry, write_archive
from pipeline.effects.process import Completed, ProcessRunner, Running
from pipeline.errors import BisectError, UnsafeArchiveError
from pipeline.model.ledger import Published
from pipeline.publish.bisect import Verdict
from pipeline.publish.download import Downloader
from pipeline.publish.trial import Trial
from tests.factories import make_interpreter, make_nightly, make_platform

NIGHTLY = make_nightly()


class Ended(Running):
    """A process that has ended."""

    def __init__(self, completed: Completed) -> None:
        super().__init__(completed.argv, None)  # type: ignore[arg-type]
        self.completed = completed
        self.stopped = False

    def finish(self, timeout: float) -> Completed:  # noqa: ARG002
        """Return how."""
        return self.completed

    def stop(self) -> None:
        """Remember that it was asked."""
        self.stopped = True


@dataclass
class Scripts(ProcessRunner):
    """Runs scripts: what they are told, and how they end."""

    status: int = 0
    timed_out: bool = False
    there: bool = True
    told: list[dict[str, Any]] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)

    def find(self, program: str) -> Path | None:
        """Say whether there is such a program."""
        return Path(program) if self.there else None

    def start(
        self,
        argv: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        errors_apart: bool,
    ) -> Running:
        """Start a script."""
        self.told.append({"argv": tuple(argv), "directory": directory, **environment})
        self.programs.append(Path(environment["PYPY"]).read_text())
        assert not errors_apart
        return Ended(
            Completed(
                argv=tuple(argv),
                status=self.status,
                stdout=b"what it said\n",
                stderr=b"",
                timed_out=self.timed_out,
            )
        )


class Archives(Downloader):
    """Gives one archive, or none."""

    def __init__(self, path: Path | None) -> None:
        object.__setattr__(self, "path", path)

    def archive(self, event: Published, platform: str) -> Path | None:
        """Give it."""
        assert (event, platform) == (NIGHTLY, "linux-x86_64")
        path: Path | None = self.path  # type: ignore[attr-defined]
        return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "demo-c-jit-1-linux64.tar.gz"
    program = Entry(path="demo-c-jit-1-linux64/bin/demo", content=b"program", executable=True)
    write_archive(path, [program], compression=Compression.GZIP, epoch=1)
    return path


def make_trial(archive: Path, scripts: Scripts) -> Trial:
    return Trial(
        downloader=Archives(archive),
        process=scripts,
        interpreter=make_interpreter(),
        platform=make_platform(),
        script=("./test.sh", "argument"),
        timeout=60,
        directory=archive.parent / "bisect",
    )


def test_the_script_is_told_the_program_and_the_nightly(archive: Path) -> None:
    scripts = Scripts()

    verdict, how = make_trial(archive, scripts).run(NIGHTLY)

    (told,) = scripts.told
    assert (verdict, how) == (Verdict.GOOD, "status 0")
    assert told["argv"] == ("./test.sh", "argument")
    assert told["directory"] == Path.cwd()
    assert told["PIPELINE_NIGHTLY"] == NIGHTLY.release
    assert Path(told["PYPY"]).parts[-3:] == ("demo-c-jit-1-linux64", "bin", "demo")
    assert scripts.programs == ["program"]


def test_the_unpacked_tree_goes_and_the_log_stays(archive: Path) -> None:
    trial = make_trial(archive, Scripts(status=1))

    trial.run(NIGHTLY)

    (log,) = trial.directory.iterdir()
    assert log.name == f"{NIGHTLY.release}.log"
    assert log.read_bytes() == b"what it said\n"


@pytest.mark.parametrize(
    ("status", "verdict"), [(1, Verdict.BAD), (125, Verdict.SKIP), (127, Verdict.BAD)]
)
def test_the_exit_status_is_the_verdict(archive: Path, status: int, verdict: Verdict) -> None:
    told, how = make_trial(archive, Scripts(status=status)).run(NIGHTLY)

    assert told == verdict
    assert how.startswith(f"status {status} (")


def test_what_takes_too_long_is_bad(archive: Path) -> None:
    verdict, how = make_trial(archive, Scripts(status=137, timed_out=True)).run(NIGHTLY)

    assert verdict == Verdict.BAD
    assert how.startswith("not finished after 60 s")


@pytest.mark.parametrize("status", [128, 137, -11])
def test_a_script_that_failed_itself_ends_the_search(archive: Path, status: int) -> None:
    with pytest.raises(BisectError, match=f"status {status}, which says neither") as caught:
        make_trial(archive, Scripts(status=status)).run(NIGHTLY)

    assert "what it said" in str(caught.value)


def test_a_nightly_that_is_not_for_the_platform_is_skipped(archive: Path) -> None:
    scripts = Scripts()
    trial = replace(make_trial(archive, scripts), downloader=Archives(None))

    verdict, how = trial.run(NIGHTLY)

    assert (verdict, how) == (Verdict.SKIP, "it has no archive for linux-x86_64")
    assert scripts.told == []


def test_an_archive_without_the_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.tar.gz"
    readme = Entry(path="top/README", content=b"x")
    write_archive(path, [readme], compression=Compression.GZIP, epoch=1)

    with pytest.raises(BisectError, match="no bin/demo below its one top directory"):
        make_trial(path, Scripts()).run(NIGHTLY)


def test_an_unsafe_archive_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "unsafe.tar.gz"
    outside = Entry(path="../out", content=b"x")
    write_archive(path, [outside], compression=Compression.GZIP, epoch=1)
    scripts = Scripts()

    with pytest.raises(UnsafeArchiveError, match="would be written outside"):
        make_trial(path, scripts).run(NIGHTLY)

    assert scripts.told == []


def test_a_script_that_is_not_there_is_found_before_anything_is_downloaded(archive: Path) -> None:
    with pytest.raises(BisectError, match=r"\./test\.sh: there is no such program"):
        make_trial(archive, Scripts(there=False)).require_script()
