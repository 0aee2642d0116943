"""The only place that starts a process on this machine."""

import logging
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil

from pipeline.errors import CommandError, MissingToolError

logger = logging.getLogger(__name__)

LAST_LINES = 20
CHUNK = 1 << 16
KILLED = 137
STOP_GRACE = 10


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A finished process; outputs are bytes, since programs promise nothing about encodings.

    One that ``timed_out`` was stopped; its status is that of a killed process.
    """

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def last_lines(self) -> str:
        """The end of what the process wrote, for an error message."""
        written = (self.stderr or self.stdout).decode(errors="replace")
        return "\n".join(written.splitlines()[-LAST_LINES:])


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program from outside: what it is for and which Debian package has it."""

    program: str
    purpose: str
    package: str


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files at whose end a process writes, and variables that it has on top of ours."""

    stdout: Path
    stderr: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Running:
    """A process that was started, and all that it starts itself."""

    def __init__(self, argv: tuple[str, ...], process: "subprocess.Popen[bytes]") -> None:
        self._argv = argv
        self._process = process

    def chunks(self) -> Iterator[bytes]:
        """Yield what it writes, as it comes, until it and its heirs have closed their output."""
        if (stream := self._process.stdout) is None:
            return
        with stream:
            while chunk := os.read(stream.fileno(), CHUNK):
                yield chunk

    @property
    def pid(self) -> int:
        """Its number, good for as long as its end has not been asked for."""
        return self._process.pid

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return self._process.wait()

    def interrupt(self) -> None:
        """Send it what Ctrl-C sends; what it has started is for it to stop."""
        self._process.send_signal(signal.SIGINT)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by now."""
        return self._process.poll() is not None

    def finish(self, timeout: float) -> Completed:
        """Wait for its end and return what it wrote; after *timeout* seconds it is stopped."""
        status = None
        try:
            stdout, stderr = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            stdout, stderr = self._process.communicate()
            status = KILLED
        return Completed(
            argv=self._argv,
            status=self._process.returncode if status is None else status,
            stdout=stdout,
            stderr=stderr or b"",
            timed_out=status is not None,
        )

    def stop(self) -> None:
        """End it and all that it started; of one that has ended nothing is left to do."""
        try:
            parent = psutil.Process(self._process.pid)
            family = [*parent.children(recursive=True), parent]
        except psutil.NoSuchProcess:
            return
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_GRACE)
        for member in alive:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_GRACE)


class ProcessRunner:
    """Runs programs, found on PATH, with an argument list and never through a shell."""

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        tool: Tool,
        timeout: float = 600,
        environment: Mapping[str, str] | None = None,
        without: Collection[str] = (),
        check: bool = True,
    ) -> Completed:
        """Run *argv* to its end and return what it wrote.

        Args:
            argv: the program and its arguments; never holds a secret, since argument lists are
                public on a machine.
            tool: what the program is for, for the message when it is missing.
            timeout: in seconds.
            environment: variables on top of this process's own.
            without: variables of this process that the program must not see.
            check: whether an error status is an error here.

        Raises:
            MissingToolError: the program is not installed.
            CommandError: it failed or took too long; the message has its last lines.
        """
        words = tuple(str(word) for word in argv)
        if self.find(words[0]) is None:
            raise MissingToolError(tool.program, purpose=tool.purpose, package=tool.package)
        logger.debug("run %s", shlex.join(words))
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                env={**_inherited(without), **(environment or {})},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            msg = f"{shlex.join(words)}: not finished after {timeout:.0f} s, so it was stopped."
            raise CommandError(msg) from error
        completed = Completed(
            argv=words, status=done.returncode, stdout=done.stdout, stderr=done.stderr
        )
        if check and done.returncode != 0:
            msg = f"{shlex.join(words)}: exit status {done.returncode}\n{completed.last_lines}"
            raise CommandError(msg)
        return completed

    def start(
        self,
        argv: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        errors_apart: bool,
    ) -> Running:
        """Start *argv* in *directory*, with *environment* on top of this process's own variables.

        What it writes can be read from what is returned; its errors among it, or apart.

        Raises:
            MissingToolError: the program is not installed.
        """
        logger.debug("start %s", shlex.join(argv))
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if errors_apart else subprocess.STDOUT,
            )
        except FileNotFoundError as error:
            raise MissingToolError(argv[0], purpose="run a step", package=argv[0]) from error
        return Running(tuple(argv), process)

    def find(self, program: str) -> Path | None:
        """Return where *program* is on PATH, or None."""
        found = shutil.which(program)
        return None if found is None else Path(found)

    def start_tied(self, argv: Sequence[str], *, tool: Tool, log: Path) -> Running:
        """Start what reads its standard input to the end, which comes when this process ends.

        Raises:
            MissingToolError: the program is not installed.
        """
        if self.find(argv[0]) is None:
            raise MissingToolError(tool.program, purpose=tool.purpose, package=tool.package)
        logger.debug("start %s", shlex.join(argv))
        with log.open("ab") as stream:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT
            )
        return Running(tuple(argv), process)

    def start_apart(
        self, argv: Sequence[str], outputs: Outputs, *, keep: Collection[int] = (), leads: bool
    ) -> Running:
        """Start what may outlive this process; it inherits the descriptors to *keep*.

        If it *leads* a session of its own, no terminal and no signal to this process's group
        reaches it.
        """
        logger.debug("start %s", shlex.join(argv))
        with outputs.stdout.open("ab") as out, outputs.stderr.open("ab") as err:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **outputs.environment},
                pass_fds=tuple(keep),
                start_new_session=leads,
            )
        return Running(tuple(argv), process)

    def call(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> int:
        """Run *argv* with this process's own terminal; return its exit status."""
        logger.debug("call %s", shlex.join(argv))
        return subprocess.call(list(argv), env={**os.environ, **environment})

    def become(self, argv: Sequence[str], *, without: Collection[str]) -> NoReturn:
        """Let *argv* take this process's place, without some of its variables."""
        logger.debug("become %s", shlex.join(argv))
        os.execvpe(argv[0], list(argv), _inherited(without))  # noqa: S606 - no shell, on purpose

    def start_detached(self, argv: Sequence[str], *, log: Path) -> int:
        """Start a service that outlives this process, its output in *log*; return its pid."""
        logger.debug("start %s", shlex.join(argv))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process.pid


def session_members(session: int) -> tuple[int, ...]:
    """Return the pids of all processes in a session."""
    return tuple(pid for pid in psutil.pids() if _session_of(pid) == session)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _inherited(without: Collection[str]) -> dict[str, str]:
    """Return this process's variables but those that a program must not see."""
    return {name: value for name, value in os.environ.items() if name not in without}
