"""The verbs of hosted CI, from the command line on: what jobs hand over is hostile."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.errors import ClaimError, ConfigError, RunError, UnknownNameError
from pipeline.model.base import pretty_json
from pipeline.model.farm import Claims, Prepared, Submission
from tests.factories import ROOT, digest

IDENTIFIERS = ("demo-linux-x86_64", "demo-linux-i686")
LOG = "https://github.com/owner/name/actions/runs/7"
OUTPUT = b"a tar file"

Claim = Callable[..., int]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the verbs read of the project, to be changed."""
    shutil.copytree(ROOT / "translation_configs", tmp_path / "translation_configs")
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    shutil.copy(ROOT / "uv.lock", tmp_path)
    return tmp_path


def run(project: Path, verb: str, *arguments: str) -> int:
    return main([verb, "--configs", str(project / "translation_configs"), *arguments])


def add_platform(project: Path) -> None:
    path = project / "translation_configs" / "demo.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace('"linux-i686",', '"linux-i686", "macos-x86_64",'), encoding="utf-8"
    )


def test_committed_workflows_pass_the_check(project: Path) -> None:
    assert run(project, "workflows", "--check") == 0


def test_a_platform_without_its_workflows_fails_the_check_and_is_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (project / ".github/workflows/release.yml").read_bytes()
    add_platform(project)

    status = run(project, "workflows", "--check")

    said = capsys.readouterr().err
    assert status == 1
    assert "+#   demo-macos-x86_64       native   macos-15-intel" in said
    assert "2 of 4 are stale. Run: python -m pipeline workflows" in said
    assert (project / ".github/workflows/release.yml").read_bytes() == before


def test_stale_workflows_are_written(project: Path) -> None:
    add_platform(project)

    assert run(project, "workflows") == 0

    assert run(project, "workflows", "--check") == 0
    assert "demo-macos-x86_64" in (project / ".github/workflows/nightly.yml").read_text("utf-8")


def test_workflows_that_were_never_written_are_stale(project: Path) -> None:
    shutil.rmtree(project / ".github")

    assert run(project, "workflows", "--check") == 1
    assert run(project, "workflows") == 0
    assert run(project, "workflows", "--check") == 0


def test_a_long_difference_is_cut(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".github/workflows/ci.yml").write_text("")

    run(project, "workflows", "--check")

    said = capsys.readouterr().err
    assert "more lines" in said
    assert len(said.splitlines()) < 30


def test_without_a_lock_file_nothing_can_be_installed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "uv.lock").unlink()

    assert run(project, "workflows") == ConfigError.exit_code
    assert "uv.lock: no such file" in capsys.readouterr().err


def submission(project: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Submission:
    assert run(project, "submission", "--channel", "release", "--request", "r7", *arguments) == 0
    return Submission.model_validate_json(capsys.readouterr().out)


def test_what_a_workflow_is_not_asked_the_channel_says(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A schedule has no inputs, so they are empty; a person leaves them as they are."""
    empty = submission(
        project, capsys, "--interpreter=", "--platform=", "--interpreter-version=", "--staged="
    )
    as_shown = submission(project, capsys, "--interpreter=channel", "--platform=channel")

    assert empty == as_shown == Submission(request="r7", channel="release")


def test_what_a_workflow_is_asked_is_submitted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = submission(
        project,
        capsys,
        "--interpreter=pypy3.11",
        "--platform=all",
        "--interpreter-version=7.3.23",
        "--staged=true",
    )

    assert (asked.names, asked.platforms, asked.staged) == (("pypy3.11",), ("all",), True)
    assert str(asked.version) == "7.3.23"


@pytest.mark.parametrize(
    ("option", "status"),
    [
        ("--interpreter=pypi", UnknownNameError.exit_code),
        ("--platform=linux", UnknownNameError.exit_code),
        ("--interpreter-version=new", ConfigError.exit_code),
    ],
)
def test_what_there_is_not_cannot_be_submitted(project: Path, option: str, status: int) -> None:
    arguments = ("--channel", "release", "--request", "r7", option)

    assert run(project, "submission", *arguments) == status


def make_prepared() -> Prepared:
    fields = {
        "interpreter": "demo",
        "mode": "native",
        "os": "linux",
        "machine": "x86_64",
        "memory": 2,
        "last": "translate",
        "key": digest("key"),
        "is_done": False,
    }
    jobs = [
        {**fields, "identifier": it, "platform": it.removeprefix("demo-")} for it in IDENTIFIERS
    ]
    return Prepared.model_validate({"run": "r7-1", "releases": ["demo-v1.0.0"], "jobs": jobs})


@pytest.fixture
def prepared(project: Path) -> Path:
    path = project / "prepared.json"
    path.write_bytes(pretty_json(make_prepared()))
    return path


def test_the_matrix_is_lines_of_a_steps_outputs(
    project: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "matrix", str(prepared)) == 0

    lines = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert (lines["run"], lines["jobs"]) == ("r7-1", "2")
    assert len(json.loads(lines["matrix"])["include"]) == 2


def hand_over(directory: Path, identifier: str, **overrides: Any) -> Path:
    """Write a job's artifact as it is unpacked below *directory*; return where it is."""
    worker = f"gha-{identifier}"
    place = f"workers/{worker}/translate/{digest('key')}.tar"
    stage = {
        "stage": "translate",
        "key": digest("key"),
        "place": place,
        "sha256": digest("a tar file"),
        "size": len(OUTPUT),
    }
    claim = {
        "run": "r7-1",
        "identifier": identifier,
        "worker": worker,
        "stages": [{**stage, **overrides}],
        "seconds": 1.0,
        "cached": False,
    }
    artifact = directory / identifier
    (artifact / place).parent.mkdir(parents=True)
    (artifact / place).write_bytes(OUTPUT)
    (artifact / "claim.json").write_text(json.dumps(claim), encoding="utf-8")
    return artifact


def collected(project: Path, prepared: Path) -> Claims:
    """Put the claims together and return them."""
    arguments = ("--run", "r7-1", "--prepared", str(prepared), "--log", LOG)
    places = ("--hand-over", str(project / "handover"), "--out", str(project / "claims.json"))
    assert run(project, "claims", str(project / "handed"), *arguments, *places) == 0
    return Claims.model_validate_json((project / "claims.json").read_bytes())


def test_claims_of_several_artifacts_are_put_together(project: Path, prepared: Path) -> None:
    for identifier in IDENTIFIERS:
        hand_over(project / "handed" / f"r7-1-{identifier}", identifier)

    claims = collected(project, prepared)

    assert tuple(claim.identifier for claim in claims.claims) == IDENTIFIERS
    assert claims.failed == ()
    for claim in claims.claims:
        assert (project / "handover" / claim.stages[0].place).read_bytes() == OUTPUT


def test_an_only_artifact_is_found_where_it_is_unpacked_then(project: Path, prepared: Path) -> None:
    """Downloading by a pattern makes a directory for each artifact, unless there is one only."""
    hand_over(project / "handed", IDENTIFIERS[0])

    claims = collected(project, prepared)

    assert [claim.identifier for claim in claims.claims] == [IDENTIFIERS[0]]
    assert [(job.identifier, job.reason) for job in claims.failed] == [
        (IDENTIFIERS[1], f"it claims nothing; see {LOG}")
    ]


def make_link(artifact: Path) -> None:
    tar = next(artifact.rglob("*.tar"))
    target = artifact.parent / "secret"
    target.write_bytes(OUTPUT)
    tar.unlink()
    tar.symlink_to(target)


def link_directory(artifact: Path) -> None:
    elsewhere = artifact.parent / "elsewhere"
    shutil.move(artifact / "workers", elsewhere)
    (artifact / "workers").symlink_to(elsewhere)


def make_larger(artifact: Path) -> None:
    next(artifact.rglob("*.tar")).write_bytes(OUTPUT * 2)


def take_away(artifact: Path) -> None:
    next(artifact.rglob("*.tar")).unlink()


def make_nonsense(artifact: Path) -> None:
    (artifact / "claim.json").write_text('{"run": 7}', encoding="utf-8")


def make_enormous(artifact: Path) -> None:
    os.truncate(artifact / "claim.json", 2 << 20)


def make_pipe(artifact: Path) -> None:
    (artifact / "claim.json").unlink()
    os.mkfifo(artifact / "claim.json")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (make_link, "it has no file workers/"),
        (link_directory, "it has no file workers/"),
        (make_larger, "bytes, where 10 are allowed"),
        (take_away, "it has no file workers/"),
        (make_nonsense, "claim.json: is no document of a run (Claim)"),
        (make_enormous, "claim.json has 2097152 bytes"),
        (make_pipe, "it has no file claim.json"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_an_artifact_that_is_not_what_it_should_be_is_a_failed_job(
    project: Path, prepared: Path, spoil: Callable[[Path], None], why: str
) -> None:
    good, bad = (
        hand_over(project / "handed" / f"r7-1-{identifier}", identifier)
        for identifier in IDENTIFIERS
    )
    spoil(bad)

    claims = collected(project, prepared)

    assert [claim.identifier for claim in claims.claims] == [good.name]
    assert why in claims.failed[0].reason
    assert not list((project / "handover").rglob(f"*{bad.name}*"))


def test_nobody_hands_over_in_anothers_name(project: Path, prepared: Path) -> None:
    place = f"workers/gha-{IDENTIFIERS[0]}/translate/{digest('key')}.tar"
    hand_over(project / "handed", IDENTIFIERS[1], place=place)

    claims = collected(project, prepared)

    assert claims.claims == ()
    assert f"it claims {place}, which is not below workers/gha-demo-linux-i686/" in (
        claims.failed[1].reason
    )


def test_claims_of_another_run_are_refused(
    project: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--run", "r8-1", "--prepared", str(prepared), "--log", LOG)
    places = ("--hand-over", str(project / "handover"), "--out", str(project / "claims.json"))

    status = run(project, "claims", str(project / "handed"), *arguments, *places)

    assert status == RunError.exit_code
    assert "is of run r7-1, not of r8-1" in capsys.readouterr().err


def test_the_number_of_new_files_is_an_output(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"run": "r7-1", "channel": "release", "releases": [], "at": "2026-11-25T12:00:00Z"}
    (project / "collected.json").write_text(json.dumps(document), encoding="utf-8")

    out = project / "SHA256SUMS"
    assert run(project, "subjects", str(project / "collected.json"), "--out", str(out)) == 0

    assert capsys.readouterr().out == "subjects=0\n"
    assert out.read_bytes() == b""


def test_a_document_that_is_not_there_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "matrix", str(project / "nothing.json")) == ClaimError.exit_code
    assert "nothing.json: is no document of a run (Prepared): No such file" in (
        capsys.readouterr().err
    )
