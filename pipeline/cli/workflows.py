"""Verbs of hosted CI: its workflows, and what the jobs of one tell another."""

import argparse
import difflib
import shlex
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.cli.options import Verbs, add_examples, add_verb, interpreter_version
from pipeline.config import known, load_config, load_hosted
from pipeline.effects.console import Console
from pipeline.effects.files import write_atomically
from pipeline.effects.store import LocalStore
from pipeline.errors import ClaimError, ConfigError, PipelineError, RunError
from pipeline.frontends.github import (
    AS_CHANNEL,
    merged,
    outputs,
    refusal,
    subjects,
    workflow_files,
)
from pipeline.model.base import pretty_json
from pipeline.model.farm import Claim, Claims, Collected, Prepared, PreparedJob, Submission
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import ALL

M = TypeVar("M", bound=BaseModel)

DIRECTORY: Final = ".github"
CLAIM: Final = "claim.json"
LARGEST_CLAIM: Final = 1 << 20
TAR: Final = "application/x-tar"
SHOWN_LINES: Final = 20
YES_OR_NO: Final = {"true": True, "false": False, "": False}


def add_workflow_verbs(verbs: Verbs) -> None:
    """Add workflows, submission, matrix, claims and subjects."""
    _add_workflows(verbs)
    _add_submission(verbs)
    _add_matrix(verbs)
    _add_claims(verbs)
    _add_subjects(verbs)


def _add_workflows(verbs: Verbs) -> None:
    summary = "write the workflows of GitHub Actions from the plan and hosted.toml"
    parser = add_verb(verbs, "workflows", summary, _run_workflows)
    parser.add_argument(
        "--check", action="store_true", help="only show what is stale; exit status 1 if anything is"
    )
    add_examples(parser, "workflows", "workflows --check")


def _run_workflows(arguments: argparse.Namespace, console: Console) -> int:
    configs: Path = arguments.configs.absolute()
    root = configs.parent
    files = workflow_files(load_config(configs), load_hosted(configs), _lock(root))
    stale = 0
    for name, text in files.items():
        path = root / DIRECTORY / name
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        if before == text:
            continue
        stale += 1
        for line in _difference(f"{DIRECTORY}/{name}", before, text):
            console.line(line)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
    if arguments.check and stale:
        console.fail(f"{stale} of {len(files)} are stale. Run: {_remedy(arguments)}")
        return 1
    console.line(f"{stale} of {len(files)} {'are stale' if arguments.check else 'were written'}")
    return 0


def _remedy(arguments: argparse.Namespace) -> str:
    command = ["python", "-m", "pipeline", "workflows"]
    return shlex.join([*command, "--configs", str(arguments.configs)])


def _lock(root: Path) -> str:
    path = root / "uv.lock"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        msg = f"{path}: no such file, but workflows install what it pins. Run: nox -s lock"
        raise ConfigError(msg) from error


def _difference(name: str, before: str, after: str) -> Iterator[str]:
    """Yield the first lines of a unified diff."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, f"{name} (new)", n=1, lineterm=""
    )
    yield from islice(lines, SHOWN_LINES)
    left = sum(1 for _ in lines)
    if left:
        yield f"... and {left} more lines"


def _add_submission(verbs: Verbs) -> None:
    summary = "print what a workflow was asked for, as a submission"
    parser = add_verb(verbs, "submission", summary, _run_submission)
    parser.add_argument("--channel", choices=("release", "nightly"), required=True)
    parser.add_argument("--request", required=True, metavar="NAME", help="what names the run")
    as_channel = f"; empty or {AS_CHANNEL}: as channels.toml says"
    parser.add_argument("--interpreter", default="", metavar="NAME", help=f"one{as_channel}")
    parser.add_argument("--platform", default="", metavar="NAME", help=f"one, or all{as_channel}")
    parser.add_argument("--interpreter-version", default="", metavar="A.B.C[rcN]")
    parser.add_argument("--staged", choices=tuple(YES_OR_NO), default="", metavar="true|false")


def _run_submission(arguments: argparse.Namespace, _console: Console) -> int:
    config = load_config(arguments.configs.absolute())
    interpreters = _chosen(arguments.interpreter)
    for name in interpreters:
        known("interpreter", name, config.interpreters, where="--interpreter")
    platforms = _chosen(arguments.platform)
    for name in platforms:
        known("platform", name, {**config.platforms, ALL: ALL}, where="--platform")
    submission = Submission(
        request=arguments.request,
        channel=arguments.channel,
        names=interpreters,
        platforms=platforms,
        version=_version(arguments.interpreter_version),
        staged=YES_OR_NO[arguments.staged],
    )
    sys.stdout.write(pretty_json(submission).decode())
    return 0


def _chosen(text: str) -> tuple[str, ...]:
    return () if text in {"", AS_CHANNEL} else (text,)


def _version(text: str) -> InterpreterVersion | None:
    try:
        return interpreter_version(text) if text else None
    except argparse.ArgumentTypeError as error:
        msg = f"command line: --interpreter-version {text!r}: {error}"
        raise ConfigError(msg) from error


def _add_matrix(verbs: Verbs) -> None:
    summary = "print what was prepared as outputs of a step: the matrix of jobs, and counts"
    parser = add_verb(verbs, "matrix", summary, _run_matrix)
    parser.add_argument("prepared", type=Path, metavar="PREPARED", help="what prepare printed")


def _run_matrix(arguments: argparse.Namespace, _console: Console) -> int:
    hosted = load_hosted(arguments.configs.absolute())
    for name, value in outputs(_read(arguments.prepared, Prepared), hosted).items():
        sys.stdout.write(f"{name}={value}\n")
    return 0


def _add_claims(verbs: Verbs) -> None:
    summary = "put together what the jobs of a workflow claim, and take over what they hand over"
    parser = add_verb(verbs, "claims", summary, _run_claims)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where their artifacts are")
    parser.add_argument("--run", required=True, metavar="RUN", dest="run_name")
    parser.add_argument("--prepared", type=Path, required=True, metavar="FILE")
    parser.add_argument("--hand-over", type=Path, required=True, metavar="DIR")
    parser.add_argument("--log", required=True, metavar="URL", help="where people read of failures")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def _run_claims(arguments: argparse.Namespace, console: Console) -> int:
    prepared = _read(arguments.prepared, Prepared)
    if prepared.run != arguments.run_name:
        msg = f"{arguments.prepared}: is of run {prepared.run}, not of {arguments.run_name}."
        raise RunError(msg)
    claims = _gathered(prepared, arguments)
    write_atomically(arguments.out, pretty_json(claims))
    for failed in claims.failed:
        console.line(f"{failed.identifier}: failed: {failed.reason}")
    console.line(f"{len(claims.claims)} claims, {len(claims.failed)} failed")
    return 0


def _gathered(prepared: Prepared, arguments: argparse.Namespace) -> Claims:
    """Return all claims that may be looked at further; one that may not is a failed job."""
    store = LocalStore(arguments.hand_over)
    claims: dict[str, Claim] = {}
    reasons: dict[str, str] = {}
    for job in prepared.jobs:
        directory = _artifact(arguments.directory, prepared, job)
        if job.is_done or directory is None:
            continue
        try:
            claims[job.identifier] = _taken(prepared, job, directory, store)
        except PipelineError as error:
            reasons[job.identifier] = str(error)
    return merged(prepared, claims, reasons, arguments.log)


def _artifact(directory: Path, prepared: Prepared, job: PreparedJob) -> Path | None:
    """Return where a job's artifact is: below its name, unless it is the only one that there is."""
    name = job.identifier
    places = (directory / f"{prepared.run}-{name}" / name, directory / name)
    return next((place for place in places if place.is_dir()), None)


def _taken(prepared: Prepared, job: PreparedJob, directory: Path, store: LocalStore) -> Claim:
    """Return a job's claim, having put what it hands over where the collecting verb looks for it.

    Raises:
        ClaimError: it is not a claim for this job, or a file of it is not there.
    """
    claim = _read(_inside(directory, CLAIM, LARGEST_CLAIM), Claim)
    if (why := refusal(prepared, job, claim)) is not None:
        raise ClaimError(why)
    for stage in claim.stages:
        path = _inside(directory, stage.place, stage.size)
        store.put_new(stage.place, path, content_type=TAR)
    return claim


def _inside(directory: Path, place: str, largest: int) -> Path:
    """Return a file of an artifact, which must be a file, in it, and no larger than it may be."""
    path = directory / place
    if not path.is_file() or path.resolve() != directory.resolve() / place:
        msg = f"it has no file {place}"
        raise ClaimError(msg)
    if (size := path.stat().st_size) > largest:
        msg = f"{place} has {size} bytes, where {largest} are allowed"
        raise ClaimError(msg)
    return path


def _add_subjects(verbs: Verbs) -> None:
    summary = "write the new releases' files as a checksums file, and print their number"
    parser = add_verb(verbs, "subjects", summary, _run_subjects)
    parser.add_argument("collected", type=Path, metavar="COLLECTED")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def _run_subjects(arguments: argparse.Namespace, _console: Console) -> int:
    text = subjects(_read(arguments.collected, Collected))
    write_atomically(arguments.out, text.encode())
    sys.stdout.write(f"subjects={text.count(chr(10))}\n")
    return 0


def _read(path: Path, model: type[M]) -> M:
    """Read a document that another job wrote.

    Raises:
        ClaimError: it is not one.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        msg = f"{path.name}: is no document of a run ({model.__name__}): {first}"
        raise ClaimError(msg) from error
