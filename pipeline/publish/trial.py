"""Runs somebody's script on one nightly, and says what that means."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.effects.archives import unpack, unpack_zip
from pipeline.effects.files import write_atomically
from pipeline.effects.process import Completed, ProcessRunner
from pipeline.errors import BisectError
from pipeline.model.configs import InterpreterConfig
from pipeline.model.layout import program_path
from pipeline.model.ledger import Published
from pipeline.model.platforms import Platform
from pipeline.publish.bisect import Verdict, verdict_of
from pipeline.publish.download import Downloader


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A script, and what it is run on; *timeout* is in seconds, *directory* is for logs.

    The script finds the unpacked interpreter's program in the variable ``PYPY``, and the nightly's
    name in ``PIPELINE_NIGHTLY``. It is run in the current directory.
    """

    downloader: Downloader
    process: ProcessRunner
    interpreter: InterpreterConfig
    platform: Platform
    script: tuple[str, ...]
    timeout: float
    directory: Path

    def run(self, event: Published) -> tuple[Verdict, str]:
        """Return what the script says of a nightly, and how it ended.

        A script that takes too long says bad, since what hangs is.

        Raises:
            BisectError: it ended by itself in a way that says neither good nor bad.
        """
        archive = self.downloader.archive(event, self.platform.identifier)
        if archive is None:
            return Verdict.SKIP, f"it has no archive for {self.platform.identifier}"
        self.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.directory, prefix="tree-") as place:
            program = self._unpacked(archive, Path(place))
            done = self._called(program, event.release)
        log = self.directory / f"{event.release}.log"
        write_atomically(log, done.stdout + done.stderr)
        return self._judged(done, event.release, log)

    def require_script(self) -> None:
        """Check that the script can be started; raises BisectError."""
        if self.process.find(self.script[0]) is None:
            msg = (
                f"{self.script[0]}: there is no such program, or it may not be executed. Name it "
                "with its directory (./test.sh), or what runs it (sh test.sh)."
            )
            raise BisectError(msg)

    def _unpacked(self, archive: Path, place: Path) -> Path:
        """Unpack an archive and return its interpreter's program."""
        (unpack_zip if archive.suffix == ".zip" else unpack)(archive, place)
        name = program_path(self.interpreter.package.executable, self.platform)
        tops = sorted(place.iterdir())
        if len(tops) != 1 or not (tops[0] / name).is_file():
            msg = f"{archive.name}: no {name} below its one top directory, so nothing can be run."
            raise BisectError(msg)
        return tops[0] / name

    def _called(self, program: Path, nightly: str) -> Completed:
        running = self.process.start(
            self.script,
            directory=Path.cwd(),
            environment={"PYPY": str(program), "PIPELINE_NIGHTLY": nightly},
            errors_apart=False,
        )
        try:
            return running.finish(self.timeout)
        finally:
            running.stop()

    def _judged(self, done: Completed, nightly: str, log: Path) -> tuple[Verdict, str]:
        if done.timed_out:
            return Verdict.BAD, f"not finished after {self.timeout:.0f} s ({log})"
        verdict = verdict_of(done.status)
        if verdict is None:
            msg = (
                f"{nightly}: the script ended with status {done.status}, which says neither good "
                "(0), bad (1 to 127) nor skip (125). Mend the script and run again; what was "
                f"downloaded is kept.\n{done.last_lines}"
            )
            raise BisectError(msg)
        return verdict, f"status {done.status}" if verdict is Verdict.GOOD else (
            f"status {done.status} ({log})"
        )
