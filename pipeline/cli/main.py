"""The command line: one function per verb, errors become exit codes here and nowhere else."""

import argparse
import errno
import importlib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Final, TextIO

from pipeline.cli.options import INTERRUPTED
from pipeline.cli.working import FOLLOWING, add_working_verbs
from pipeline.effects.console import Console
from pipeline.errors import DiskFullError, PipelineError

BUG: Final = 99
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    console = Console()
    try:
        return main_inner(argv, console)
    except PipelineError as error:
        where = f"{error.where}: " if error.where else ""
        console.fail(f"error: {where}{error}")
        return error.exit_code
    except OSError as error:
        return _system_error(error, console)
    except KeyboardInterrupt:
        console.fail("interrupted; finished stages are kept, run the same command to go on")
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - the last resort: a bug of ours is reported as one
        return _bug(console)


def _system_error(error: OSError, console: Console) -> int:
    if isinstance(error, BrokenPipeError):
        return _reader_left(console)
    return _disk_full(error, console) if error.errno in NO_SPACE else _bug(console)


def _reader_left(console: Console) -> int:
    if _is_open(sys.stdout):
        return _bug(console)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _disk_full(error: OSError, console: Console) -> int:
    where = error.filename or f"the work directory, or {tempfile.gettempdir()}"
    console.fail(
        f"error: {where}: {error.strerror}. Make room there, or name another place with --work and "
        "the variable TMPDIR, and run the same command; finished stages are kept."
    )
    return DiskFullError.exit_code


def _is_open(stream: TextIO) -> bool:
    """Whether somebody still reads *stream*: what could not be written is tried again."""
    try:
        stream.flush()
    except OSError:
        return False
    return True


def _bug(console: Console) -> int:
    console.fail(f"{traceback.format_exc()}this is a bug in the pipeline; please report it")
    return BUG


def main_inner(argv: Sequence[str] | None, console: Console) -> int:
    """Run one command; errors are raised."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words).parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Ours only: the libraries' own would show requests with what authorises them.
    logging.getLogger("pipeline").setLevel(logging.DEBUG if arguments.verbose else logging.NOTSET)
    verb: Callable[[argparse.Namespace, Console], int] = arguments.run
    return verb(arguments, console)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Build, verify, sign and publish interpreters written in RPython.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    if list(argv[:1]) == [FOLLOWING]:
        # Started once more for each job of a farm: it does not wait for what it has no use for.
        add_working_verbs(verbs)
    else:
        importlib.import_module("pipeline.cli.verbs").add_verbs(verbs)
    return parser
