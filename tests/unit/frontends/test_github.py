"""Workflows follow from the plan and give no job more than it needs; claims are not believed."""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load_hosted
from pipeline.errors import ConfigError, PlatformError
from pipeline.frontends.github import (
    merged,
    outputs,
    possible_jobs,
    refusal,
    requirement,
    secrets,
    subjects,
    workflow_files,
)
from pipeline.model.configs import ChannelConfig, Config
from pipeline.model.farm import Claim, Collected, Prepared, PreparedJob
from pipeline.model.hosted import HostedConfig
from tests.factories import CONFIGS, ROOT, changed, digest, make_artifact, make_config
from tests.workflows import Workflow, read_workflow

LOCK: Final = (ROOT / "uv.lock").read_text(encoding="utf-8")
HOSTED: Final = load_hosted(CONFIGS)
FILES: Final = workflow_files(make_config(), HOSTED, LOCK)
WORKFLOWS: Final = tuple(name for name in FILES if name.endswith(".yml"))
CHANNELS: Final = ("workflows/nightly.yml", "workflows/release.yml")
PINNED: Final = re.compile(r"- (?:name: .*\n\s+(?:id: .*\n\s+)?)?uses: (.+)")
LOG: Final = "https://github.com/owner/name/actions/runs/7"
BUCKET: Final = {"store": "s3://bucket/releases", "base_url": "https://downloads.test"}


def made(name: str) -> Workflow:
    """Return one of the shipped workflows."""
    return read_workflow(FILES[name])


def with_platforms(*platforms: str) -> Config:
    """Return the shipped configuration with other platforms of the demo."""
    config = make_config()
    demo = changed(config.interpreters["demo"], platforms=platforms)
    return changed(config, interpreters={**config.interpreters, "demo": demo})


def with_channel(**overrides: Any) -> Config:
    """Return the shipped configuration with another nightly channel."""
    config = make_config()
    nightly = ChannelConfig.model_validate({**config.channels.nightly.model_dump(), **overrides})
    return changed(config, channels=changed(config.channels, nightly=nightly))


def nightly_of(config: Config, hosted: HostedConfig = HOSTED) -> Workflow:
    """Return the nightly workflow of another configuration."""
    return read_workflow(workflow_files(config, hosted, LOCK)["workflows/nightly.yml"])


def make_prepared_job(**overrides: Any) -> PreparedJob:
    fields = {
        "identifier": "demo-linux-x86_64",
        "interpreter": "demo",
        "platform": "linux-x86_64",
        "mode": "native",
        "os": "linux",
        "machine": "x86_64",
        "memory": 2,
        "last": "translate",
        "key": digest("key"),
        "is_done": False,
    }
    return PreparedJob.model_validate({**fields, **overrides})


def make_prepared(*jobs: PreparedJob) -> Prepared:
    return Prepared(run="r7-1", releases=("demo-v1.0.0",), jobs=jobs or (make_prepared_job(),))


def make_claim(places: Sequence[str] = (), **overrides: Any) -> Claim:
    named = places or (f"workers/gha-demo-linux-x86_64/translate/{digest('key')}.tar",)
    stages = [
        {
            "stage": "translate",
            "key": digest("key"),
            "place": place,
            "sha256": digest(""),
            "size": 1,
        }
        for place in named
    ]
    fields = {
        "run": "r7-1",
        "identifier": "demo-linux-x86_64",
        "worker": "gha-demo-linux-x86_64",
        "stages": stages,
        "seconds": 1.0,
        "cached": False,
    }
    return Claim.model_validate({**fields, **overrides})


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_committed_files_are_current(name: str) -> None:
    """After a change: python -m pipeline workflows."""
    assert (ROOT / ".github" / name).read_text(encoding="utf-8") == FILES[name]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_says_how_it_is_written(name: str) -> None:
    first = FILES[name].splitlines()[0]

    assert first.startswith("# Written by `python -m pipeline workflows`")
    assert "packaging/workflows/" in first


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_allowed_but_what_a_job_asks_for(name: str) -> None:
    workflow = made(name)

    assert workflow.said["permissions"] == {}
    assert all(job.said["permissions"] for job in workflow.jobs.values())
    assert all(1 <= job.said["timeout-minutes"] <= 360 for job in workflow.jobs.values())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit_and_say_their_release(name: str) -> None:
    used = PINNED.findall(FILES[name])

    assert len(used) == len([step for step in made(name).steps if step.uses])
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", it) for it in used)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_token_of_a_checkout_is_not_kept(name: str) -> None:
    checkouts = [step for step in made(name).steps if step.uses.startswith("actions/checkout@")]

    assert checkouts
    assert all(step.inputs["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_scripts_hold_no_expression(name: str) -> None:
    """An expression is put into the script's text, whatever the value holds."""
    assert [step.run for step in made(name).steps if "${{" in step.run] == []


@pytest.mark.parametrize("name", CHANNELS)
def test_secrets_are_seen_by_the_guarded_job_alone(name: str) -> None:
    config = with_channel(**BUCKET)
    files = workflow_files(config, HOSTED, LOCK) if "nightly" in name else FILES
    jobs = read_workflow(files[name]).jobs

    with_secrets = {job for job, it in jobs.items() if "secrets." in json.dumps(it.said)}
    guarded = {job for job, it in jobs.items() if "environment" in it.said}
    assert with_secrets == guarded == {"publish"}


def test_each_channel_has_an_environment_of_its_own() -> None:
    guards = [made(name).jobs["publish"].said["environment"] for name in CHANNELS]

    assert guards == ["nightly-signing", "release-signing"]


@pytest.mark.parametrize("name", CHANNELS)
def test_who_gets_tokens_runs_no_code_of_the_repository(name: str) -> None:
    jobs = made(name).jobs
    able = {job for job, it in jobs.items() if "id-token" in it.said["permissions"]}

    assert able == {"attest"}
    assert all(not step.run for step in jobs["attest"].steps)
    assert all("checkout" not in step.uses for step in jobs["attest"].steps)


def test_attestations_can_be_left_out() -> None:
    jobs = nightly_of(make_config(), changed(HOSTED, attestations=False)).jobs

    assert set(jobs) == {"prepare", "build", "publish"}
    assert "List what was published" not in {step.name for step in jobs["publish"].steps}


@pytest.mark.parametrize("name", CHANNELS)
def test_what_was_prepared_is_taken_by_its_id_and_checked(name: str) -> None:
    for job in ("build", "publish"):
        step = made(name).jobs[job].step("Take what was prepared")

        assert step.inputs["artifact-ids"] == "${{ needs.prepare.outputs.artifact }}"
        assert step.inputs["digest-mismatch"] == "error"


@pytest.mark.parametrize("name", CHANNELS)
def test_a_failed_platform_stops_neither_the_others_nor_the_publication(name: str) -> None:
    jobs = made(name).jobs

    assert jobs["build"].said["strategy"]["fail-fast"] is False
    assert "!cancelled()" in jobs["publish"].said["if"]
    assert jobs["publish"].said["needs"] == ["prepare", "build"]


def test_tests_of_an_older_push_are_stopped_and_publications_are_not() -> None:
    assert made("workflows/ci.yml").said["concurrency"]["cancel-in-progress"] is True
    assert all(made(it).said["concurrency"]["cancel-in-progress"] is False for it in CHANNELS)


def test_a_nightly_is_begun_by_the_clock_and_a_release_by_a_person() -> None:
    nightly, release = (made(name).said[True] for name in CHANNELS)  # type: ignore[index]

    assert nightly["schedule"] == [{"cron": "17 2 * * *"}]
    assert set(release) == {"workflow_dispatch"}


def test_a_release_is_refused_from_where_anybody_may_push() -> None:
    first = made("workflows/release.yml").jobs["prepare"].steps[0]

    assert first.condition == "${{ !github.ref_protected }}"
    assert first.run.endswith("exit 1\n")


def test_people_choose_from_what_there_is() -> None:
    inputs = made("workflows/release.yml").inputs

    assert inputs["interpreter"]["options"] == ["channel", *sorted(make_config().interpreters)]
    assert inputs["platform"]["options"][:3] == ["channel", "all", "linux-x86_64"]


def test_a_new_platform_is_a_new_line_and_a_new_choice() -> None:
    config = with_platforms("linux-x86_64", "macos-arm64", "windows-x86_64")

    text = workflow_files(config, HOSTED, LOCK)["workflows/nightly.yml"]

    assert "#   demo-macos-arm64       native   macos-15\n" in text
    assert "#   demo-windows-x86_64    native   windows-2025\n" in text
    assert "windows-x86_64" in read_workflow(text).inputs["platform"]["options"]
    assert text != FILES["workflows/nightly.yml"]


def test_a_platform_that_no_runner_can_do_is_named_but_not_offered() -> None:
    few = changed(HOSTED, runners=HOSTED.runners[:1])

    text = workflow_files(with_platforms("macos-arm64"), few, LOCK)["workflows/nightly.yml"]

    assert "#   demo-macos-arm64       -        no runner in hosted.toml\n" in text
    assert "macos-arm64" not in read_workflow(text).inputs["platform"]["options"]


@pytest.mark.parametrize(
    ("identifier", "mode", "runner"),
    [
        ("demo-linux-x86_64", "native", "ubuntu-24.04"),
        ("demo-linux-aarch64", "native", "ubuntu-24.04-arm"),
        ("demo-linux-riscv64", "cross", "ubuntu-24.04"),
        ("demo-linux-s390x", "emulated", "ubuntu-24.04"),
    ],
)
def test_a_job_has_the_best_way_that_a_runner_has(identifier: str, mode: str, runner: str) -> None:
    jobs = {job.identifier: job for job in possible_jobs(make_config(), HOSTED)}

    assert (jobs[identifier].mode, jobs[identifier].runner) == (mode, runner)


def test_an_interpreter_that_cannot_be_cross_compiled_is_not() -> None:
    config = with_platforms("linux-riscv64")
    demo = config.interpreters["demo"]
    translation = changed(demo.translation, cross_environment=None)
    demo = changed(demo, translation=translation)
    config = changed(config, interpreters={"demo": demo})

    (job,) = possible_jobs(config, HOSTED)

    assert job.mode is None


def test_a_channel_in_a_directory_needs_no_secret_and_keeps_its_store() -> None:
    publish = made("workflows/nightly.yml").jobs["publish"]

    assert secrets(make_config().channels.nightly) == {}
    assert publish.step("Keep the store").inputs["path"] == "out/store"


def test_a_channel_in_a_bucket_publishes_with_secrets_and_is_read_without() -> None:
    jobs = nightly_of(with_channel(**BUCKET)).jobs

    publishing = jobs["publish"].step("Check, package, sign, publish").environment
    assert "${{ secrets.AWS_SECRET_ACCESS_KEY }}" in publishing.values()
    assert "Keep the store" not in {step.name for step in jobs["publish"].steps}
    prepare = jobs["prepare"].step("Resolve sources, make environments, compute keys")
    assert prepare.environment["PUBLIC_KEY"] == "${{ vars.SIGNING_PUBLIC_KEY }}"
    assert "--key key.asc" in prepare.run


def test_a_channel_with_a_registry_gets_what_logs_in_there() -> None:
    config = with_channel(registry={"repository": "ghcr.io/owner", "username_variable": "WHO"})

    assert secrets(config.channels.nightly) == {
        "WHO": "secrets.WHO",
        "REGISTRY_PASSWORD": "secrets.REGISTRY_PASSWORD",
    }


@pytest.mark.parametrize(
    ("github", "token", "contents"),
    [
        ({}, "github.token", "write"),
        ({"variable": "COPY_TOKEN"}, "secrets.COPY_TOKEN", "read"),
    ],
)
def test_copies_on_github_take_the_workflows_token_or_another(
    github: dict[str, str], token: str, contents: str
) -> None:
    config = with_channel(github={"repository": "owner/name", **github})

    publish = nightly_of(config).jobs["publish"]

    assert token in secrets(config.channels.nightly).values()
    assert publish.said["permissions"] == {"contents": contents}


def test_the_installer_is_pinned_by_version_and_digests() -> None:
    lines = requirement(LOCK, "uv").splitlines()

    assert re.fullmatch(r"uv==[0-9.]+ \\", lines[1])
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[2:])
    assert not lines[-1].endswith("\\")


def test_a_lock_file_without_the_installer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"uv\.lock: has no package uv"):
        requirement('[[package]]\nname = "other"\n', "uv")


def test_the_matrix_has_the_jobs_that_are_not_done() -> None:
    there = make_prepared_job(identifier="demo-linux-i686", is_done=True)
    mac = make_prepared_job(
        identifier="demo-macos-arm64", os="darwin", machine="arm64", last="verify"
    )

    said = outputs(make_prepared(make_prepared_job(), there, mac), HOSTED)

    assert (said["run"], said["jobs"], said["releases"]) == ("r7-1", "2", "1")
    assert json.loads(said["matrix"])["include"][1] == {
        "identifier": "demo-macos-arm64",
        "last": "verify",
        "runner": "macos-15",
        "worker": "gha-demo-macos-arm64",
    }
    assert "\n" not in "".join(said.values())


def test_a_job_for_which_there_is_no_runner_is_refused() -> None:
    with pytest.raises(PlatformError, match=r"demo-linux-x86_64 is to be built on linux s390x"):
        outputs(make_prepared(make_prepared_job(machine="s390x")), HOSTED)


def test_a_jobs_own_claim_is_taken() -> None:
    assert refusal(make_prepared(), make_prepared_job(), make_claim()) is None


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(make_claim(run="r6-1"), id="run"),
        pytest.param(make_claim(identifier="demo-linux-i686"), id="identifier"),
        pytest.param(make_claim(worker="gha-demo-linux-i686"), id="worker"),
        pytest.param(make_claim(["workers/gha-demo-linux-i686/translate/a.tar"]), id="place"),
        pytest.param(make_claim(["trusted/source/a.tar"]), id="trusted"),
    ],
)
def test_a_claim_for_anything_else_is_refused(claim: Claim) -> None:
    assert refusal(make_prepared(), make_prepared_job(), claim) is not None


def test_jobs_without_a_claim_have_failed_and_those_that_are_done_have_not() -> None:
    names = ("demo-linux-x86_64", "demo-linux-i686", "demo-linux-armhf", "demo-linux-s390x")
    jobs = [make_prepared_job(identifier=name, is_done=name == names[3]) for name in names]

    claims = merged(make_prepared(*jobs), {names[0]: make_claim()}, {names[1]: "a\nreason"}, LOG)

    assert [claim.identifier for claim in claims.claims] == [names[0]]
    assert {job.identifier: job.reason for job in claims.failed} == {
        names[1]: f"a reason; see {LOG}",
        names[2]: f"it claims nothing; see {LOG}",
    }


@given(st.text(max_size=3000))
def test_a_reason_is_one_line_that_ends_with_where_to_read_more(why: str) -> None:
    """What a job writes may be in it, so it may hold anything."""
    (failed,) = merged(make_prepared(), {}, {"demo-linux-x86_64": why}, LOG).failed

    assert len(failed.reason.splitlines()) == 1
    assert failed.reason.endswith(f"; see {LOG}")


def test_what_is_attested_is_what_is_new() -> None:
    file = make_artifact()
    releases = [
        {"release": name, "is_new": is_new, "files": [file.model_dump()]}
        for name, is_new in (("demo-v1.0.0", False), ("demo-v1.0.1", True))
    ]
    collected = Collected.model_validate(
        {"run": "r7-1", "channel": "release", "releases": releases, "at": "2026-11-25T12:00:00Z"}
    )

    assert subjects(collected) == f"{file.sha256}  demo-v1.0.1/{file.filename}\n"
