"""What a master decides: names, who fits which job, and what of a worker's answer is believed."""

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.farm import units
from pipeline.farm.units import Candidate, Order, Outcome
from pipeline.model.base import canonical_json
from pipeline.model.farm import (
    Claim,
    Claims,
    Facts,
    FarmConfig,
    FarmWorker,
    NightlySchedule,
    Prepared,
    PreparedJob,
)
from pipeline.model.platforms import Mode
from tests.factories import make_config

CONFIG = make_config()
PLATFORMS = CONFIG.platforms
RUN = "r7-1795650683"
ROW = FarmWorker(memory=8, disk=10)
FACTS = Facts(
    os="linux",
    machine="x86_64",
    containers=True,
    memory=8 * units.GIB,
    disk=10 * units.GIB,
    emulators=("qemu-aarch64",),
)


def make_job(
    platform: str = "linux-x86_64", mode: Mode = Mode.NATIVE, **changed: Any
) -> PreparedJob:
    wanted = {
        "identifier": f"demo-{platform}",
        "interpreter": "demo",
        "platform": platform,
        "mode": mode,
        "os": "linux",
        "machine": "x86_64",
        "memory": 2,
        "last": "translate",
        "key": None,
        "is_done": False,
    }
    return PreparedJob.model_validate({**wanted, **changed})


def make_claim(**changed: Any) -> Claim:
    stage = {"stage": "translate", "key": "1" * 64, "place": "workers/one/x.tar", "size": 3}
    wanted = {
        "run": RUN,
        "identifier": "demo-linux-x86_64",
        "worker": "one",
        "stages": [{**stage, "sha256": "2" * 64}],
        "seconds": 1.5,
        "cached": False,
    }
    return Claim.model_validate({**wanted, **changed})


def make_farm(**workers: FarmWorker) -> FarmConfig:
    return FarmConfig(workers={"signer": FarmWorker(role="signer", memory=1), **workers})


def test_run_has_the_same_name_in_each_attempt_and_another_for_another_request() -> None:
    assert units.run_name(7, 1795650683) == RUN
    assert len({units.run_name(7, 1), units.run_name(71, 1), units.run_name(7, 11)}) == 3


def test_builder_has_the_workers_whose_rows_can_do_it() -> None:
    farm = make_farm(
        x86=FarmWorker(memory=8),
        arm=FarmWorker(memory=8, machine="aarch64"),
    )

    found = units.unit_workers(CONFIG, farm)

    assert found["demo-linux-x86_64"] == ("x86", "arm")
    assert found["demo-linux-aarch64"] == ("x86", "arm")
    assert found["demo-linux-riscv64"] == ("x86",)
    assert not [name for name in found if "macos" in name or "windows" in name]
    assert "signer" not in {name for names in found.values() for name in names}


def test_row_that_is_not_used_for_a_mode_has_no_builder_of_it() -> None:
    farm = make_farm(x86=FarmWorker(memory=8, modes=(Mode.NATIVE,)))

    assert "demo-linux-aarch64" not in units.unit_workers(CONFIG, farm)
    assert "demo-linux-i686" in units.unit_workers(CONFIG, farm)


@pytest.mark.parametrize(
    ("job", "row", "facts", "reason"),
    [
        (make_job(), ROW, FACTS, None),
        (make_job(), ROW, None, None),
        (make_job("linux-aarch64", Mode.CROSS), ROW, FACTS, None),
        (make_job("linux-riscv64", Mode.CROSS), ROW, FACTS, "it has no qemu-riscv64"),
        (make_job(platform="linux-vax"), ROW, FACTS, "no platform linux-vax"),
        (
            make_job("linux-aarch64", Mode.NATIVE),
            ROW,
            FACTS,
            "its row does not do linux-aarch64 by mode native",
        ),
        (make_job(memory=9), ROW, FACTS, "9 GiB are needed, its row has 8"),
        (
            make_job(),
            ROW,
            FACTS.model_copy(update={"machine": "aarch64"}),
            "a linux aarch64 does not do linux-x86_64 by mode native",
        ),
        (
            make_job("linux-aarch64", Mode.CROSS),
            ROW,
            FACTS.model_copy(update={"containers": False}),
            "a linux x86_64 does not do linux-aarch64 by mode cross",
        ),
        (
            make_job(),
            ROW,
            FACTS.model_copy(update={"memory": 4 * units.GIB}),
            "its row has 8 GiB of memory, itself only 4.0",
        ),
        (
            make_job(),
            ROW,
            FACTS.model_copy(update={"disk": 0}),
            "its row has 10 GiB of disk, itself only 0.0",
        ),
    ],
)
def test_worker_fits_by_its_row_and_by_what_it_says(
    job: PreparedJob, row: FarmWorker, facts: Facts | None, reason: str | None
) -> None:
    assert units.misfit(job, PLATFORMS, row, facts) == reason


def test_who_had_the_work_is_asked_first_then_the_planned_machine_then_the_idlest() -> None:
    arm = FarmWorker(memory=8, machine="aarch64", builds=4)
    wide = FarmWorker(memory=8, builds=4)
    found = [
        Candidate("arm", arm, 0),
        Candidate("full", ROW, 1),
        Candidate("wide", wide, 2),
    ]

    assert units.best(make_job(), found, "full") == "full"
    assert units.best(make_job(), found, None) == "wide"
    assert units.best(make_job(), found, "gone") == "wide"
    assert units.best(None, found, None) == "arm"
    assert units.best(make_job(), [], None) is None


@given(st.one_of(st.text(), st.none(), st.integers(), st.binary()))
def test_whatever_a_worker_says_of_itself_is_facts_or_nothing(said: object) -> None:
    assert units.read_facts(said) is None or isinstance(said, str)


def test_facts_are_read_as_they_are_announced() -> None:
    assert units.read_facts(FACTS.model_dump_json()) == FACTS
    assert units.read_facts(FACTS.model_dump_json() + " " * units.MOST_OF_FACTS) is None


@given(st.text())
def test_whatever_a_worker_answers_is_its_claim_or_a_value_error(said: str) -> None:
    with pytest.raises(ValueError, match="no Claim"):
        units.read_claim(said, RUN, "demo-linux-x86_64", "one")


def test_claim_is_of_the_run_the_job_and_the_worker_that_were_asked() -> None:
    claim = make_claim()
    text = json.dumps(json.loads(canonical_json(claim)), indent=2)

    assert units.read_claim(text, RUN, claim.identifier, "one") == claim
    with pytest.raises(ValueError, match="of run r7-1795650683, not r8-1"):
        units.read_claim(text, "r8-1", claim.identifier, "one")
    with pytest.raises(ValueError, match="speaks for one of demo-linux-x86_64"):
        units.read_claim(text, RUN, claim.identifier, "two")
    with pytest.raises(ValueError, match="one was given demo-linux-i686"):
        units.read_claim(text, RUN, "demo-linux-i686", "one")


def test_answer_is_refused_for_its_length_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="more than 1048576 characters"):
        units.read_prepared(" " * 10 + "[" * units.MOST_OF_AN_ANSWER, RUN)


def test_message_does_not_repeat_what_a_worker_wrote() -> None:
    with pytest.raises(ValueError, match="no Prepared") as refused:
        units.read_prepared('{"run": "<script>"}', RUN)

    assert "script" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ['{"request": "x", "channel": "release", "names": ["--hand-over=/"]}', "", None, "[]"]
)
def test_what_is_no_submission_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no Submission"):
        units.read_submission(text)


def test_jobs_that_are_done_are_not_given_out_and_those_without_builder_fail() -> None:
    here, gone = make_job(), make_job("linux-i686")
    done = make_job("linux-armhf", is_done=True)
    prepared = Prepared(run=RUN, releases=("demo-v1",), jobs=(here, gone, done))

    jobs, without = units.job_units(prepared, {"demo-linux-x86_64", "prepare"})

    assert jobs == (here,)
    assert [(item.job, item.claim) for item in without] == [(gone, None)]


def test_signer_is_given_claims_and_why_other_jobs_failed() -> None:
    claim = make_claim()
    failed = Outcome(make_job("linux-i686"), None, "two\nlines " + "x" * 2000)

    found = units.claims_of(RUN, [Outcome(make_job(), claim), failed])

    assert found.claims == (claim,)
    assert found.failed[0].identifier == "demo-linux-i686"
    assert found.failed[0].reason.startswith("two lines xxx")
    assert len(found.failed[0].reason) == units.LONGEST_REASON
    assert Claims.model_validate_json(units.compact(found)) == found


def test_orders_are_verbs_with_checked_arguments() -> None:
    job = make_job()

    assert units.prepare_order(RUN, "/b/submission.json", "s3://h") == Order(
        f"{RUN}-prepare",
        "signer",
        ("prepare", "--run", RUN, "--submission", "/b/submission.json", "--hand-over", "s3://h"),
    )
    assert units.job_order(RUN, job, "one", "h") == Order(
        f"{RUN}-demo-linux-x86_64",
        "demo-linux-x86_64",
        ("translate", job.identifier, "--run", RUN, "--worker", "one", "--hand-over", "h"),
    )
    assert units.collect_order(RUN, "nightly", "c.json", "h") == Order(
        f"{RUN}-collect",
        "signer",
        ("nightly", "--run", RUN, "--claims", "c.json", "--hand-over", "h"),
    )


def test_order_is_done_detached_and_stopped_by_its_name() -> None:
    order = Order("r1-1-x", "x", ("translate", "x"))

    assert units.detached_command("py", order, "/w/jobs/x", 30) == [
        *("py", "-m", "pipeline", "detached", "r1-1-x", "--work", "/w/jobs/x"),
        *("--orphan-minutes", "30", "--take-over", "--", "translate", "x"),
    ]
    assert units.reap_command("py", order, "/w/jobs/x") == [
        *("py", "-m", "pipeline", "reap", "r1-1-x", "--work", "/w/jobs/x")
    ]


def test_work_of_another_run_on_the_signer_is_waited_for_and_not_stopped() -> None:
    """It is a release that is published, whose follower comes again when the master does."""
    order = units.collect_order(RUN, "release", "c.json", "h")

    assert "--take-over" not in units.detached_command("py", order, "/w/jobs/signer", 30)


def test_nightly_is_asked_for_once_a_day_by_a_name_of_the_day() -> None:
    schedule = NightlySchedule(interpreters=("pypy2.7", "pypy3.11"), hour=2, minute=5)
    day = date(2026, 11, 25)

    found = units.nightly_submission(schedule, day)

    assert found.request == "nightly-2026-11-25-0205-pypy2-7-pypy3-11"
    assert (found.channel, found.names, found.day) == ("nightly", schedule.interpreters, day)
    assert units.nightly_submission(schedule, date(2026, 11, 26)).request != found.request


@given(st.lists(st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,99}\Z"), min_size=1, max_size=12))
def test_every_schedule_has_a_request_name_that_is_one(names: list[str]) -> None:
    schedule = NightlySchedule(interpreters=tuple(names), hour=23)

    assert units.nightly_submission(schedule, date(2026, 1, 1)).request.startswith("nightly-")


@pytest.mark.parametrize("status", [20, 23, 70, 73, 74])
def test_what_a_machine_lacks_another_may_have(status: int) -> None:
    assert units.is_machines_fault(status)


@pytest.mark.parametrize("status", [0, 1, 10, 30, 41, 71, 82, 99, 130])
def test_what_is_wrong_with_the_job_is_wrong_everywhere(status: int) -> None:
    assert not units.is_machines_fault(status)


def test_who_was_not_fit_is_asked_last() -> None:
    row = FarmWorker(memory=4)
    candidates = [units.Candidate("one", row, 0), units.Candidate("two", row, 1)]

    assert units.best(None, candidates, "one") == "one"
    assert units.best(None, candidates, "one", faulty="one") == "two"
    assert units.best(None, candidates[:1], "one", faulty="one") == "one"


def test_what_a_machine_runs_itself_needs_no_emulator() -> None:
    """A binary for musl is crossed, and run as any other program of that processor."""
    platforms = make_config().platforms
    row = FarmWorker(memory=4, disk=1)
    facts = Facts(
        os="linux", machine="x86_64", containers=True, memory=8 << 30, disk=8 << 30, emulators=()
    )
    wanted = PreparedJob(
        identifier="demo-linux-musl-x86_64",
        interpreter="demo",
        platform="linux-musl-x86_64",
        mode=Mode.CROSS,
        os="linux",
        machine="x86_64",
        memory=2,
        last="translate",
        key=None,
        is_done=False,
    )
    other = wanted.model_copy(update={"platform": "linux-musl-aarch64"})

    assert units.misfit(wanted, platforms, row, facts) is None
    assert units.misfit(other, platforms, row, facts) == "it has no qemu-aarch64"
