"""What operators are told of a farm is decided here, and nothing else of it gets out."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline.farm.operations import (
    Badge,
    FarmState,
    JobReport,
    Measured,
    Notice,
    RequestState,
    Result,
    RunReport,
    WorkerState,
    badges,
    health,
    job_names,
    lacking_since,
    notice,
    release_of,
    required_workers,
    revision_of,
    run_report,
    stale_notice,
    webhook_body,
)
from pipeline.model.base import canonical_json, jsonable
from pipeline.model.configs import Channel
from pipeline.model.farm import (
    Claims,
    DockerLatent,
    FailedJob,
    FarmConfig,
    FarmWorker,
    Prepared,
    PreparedJob,
    Role,
    Submission,
)
from pipeline.model.platforms import Mode
from tests.factories import changed, make_config

NOW = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
URL = "https://farm.example/#/builders/1/builds/7"
NIGHTLY = "demo-nightly-2026-11-25-1234-0123456789ab"
JOBS = {"demo-linux-x86_64": ("demo", "linux-x86_64"), "demo-jit-s390x": ("demo-jit", "s390x")}


def make_state(**overrides: Any) -> FarmState:
    state = FarmState(at=NOW, started_at=NOW - timedelta(hours=1), database=True)
    return changed(state, **overrides)


def make_report(result: Result = Result.SUCCESS, **overrides: Any) -> RunReport:
    report = RunReport(
        channel="nightly",
        interpreters=("demo",),
        releases=(NIGHTLY,),
        result=result,
        at=NOW,
        url=URL,
    )
    return changed(report, **overrides)


def make_prepared(*, interpreter: str = "demo", releases: tuple[str, ...] = (NIGHTLY,)) -> Prepared:
    job = PreparedJob(
        identifier=f"{interpreter}-linux-x86_64",
        interpreter=interpreter,
        platform="linux-x86_64",
        mode=Mode.NATIVE,
        os="linux",
        machine="x86_64",
        memory=2,
        last="translate",
        key=None,
        is_done=False,
    )
    return Prepared(run="r1-1", releases=releases, jobs=(job,))


def as_property(document: object) -> str:
    return canonical_json(document).decode()


def metrics_of(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def sample(
    metrics: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str
) -> float:
    return metrics[name, frozenset(labels.items())]


def test_a_farm_with_its_workers_and_no_stuck_request_is_healthy() -> None:
    worker = WorkerState(name="w", connected=True, last_seen=NOW)
    queued = RequestState(builder="demo-linux-x86_64", waiting=99999)

    found = health(make_state(workers=(worker,), requests=(queued,)), 600)

    assert found.healthy
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"database": False}, "the database does not answer"),
        (
            {
                "workers": (
                    WorkerState(name="w", connected=False, last_seen=NOW - timedelta(seconds=700)),
                )
            },
            "worker w has been away for 12 min",
        ),
        (
            {"workers": (WorkerState(name="never", connected=False),)},
            "worker never has been away for 60 min",
        ),
        (
            {"requests": (RequestState(builder="b", waiting=7200, without=601),)},
            "b has waited for 120 min, and no worker that fits has been there for 10 min",
        ),
    ],
)
def test_what_stops_a_farm_is_said(overrides: dict[str, Any], reason: str) -> None:
    found = health(make_state(**overrides), 600)

    assert not found.healthy
    assert found.reasons == (reason,)


@pytest.mark.parametrize(
    "overrides",
    [
        {
            "workers": (
                WorkerState(name="w", connected=False, last_seen=NOW - timedelta(seconds=600)),
            )
        },
        {"workers": (WorkerState(name="latent", connected=False, required=False),)},
        {"workers": (WorkerState(name="paused", connected=True, paused=True),)},
        {"requests": (RequestState(builder="b", waiting=7200, without=600),)},
    ],
    ids=["just away", "started when needed", "paused", "its worker is just away"],
)
def test_what_is_no_fault_yet_is_healthy(overrides: dict[str, Any]) -> None:
    assert health(make_state(**overrides), 600).healthy


def test_a_request_is_without_a_worker_from_the_first_look_that_sees_none() -> None:
    first, later = NOW, NOW + timedelta(minutes=5)

    begun = lacking_since({}, [7, 8], first)
    went_on = lacking_since(begun, [8, 9], later)
    again = lacking_since(went_on, [7, 8], later)

    assert begun == {7: first, 8: first}
    assert went_on == {8: first, 9: later}
    assert again == {7: later, 8: first}


def test_of_very_many_reasons_some_are_told() -> None:
    requests = tuple(
        RequestState(builder=f"b{number}", waiting=601, without=601) for number in range(99)
    )

    assert len(health(make_state(requests=requests), 600).reasons) == 20


def test_metrics_of_one_moment_are_read_back_by_prometheus_own_parser() -> None:
    state = make_state(
        workers=(
            WorkerState(name="w1", connected=True, last_seen=NOW, running=2),
            WorkerState(name="w2", connected=False, paused=True),
        ),
        requests=(
            RequestState(builder="b", waiting=5, attempts=2),
            RequestState(builder="b", waiting=7, without=7),
        ),
        running={"b": 2},
    )

    metrics = metrics_of(Measured().render(state, 600))

    assert sample(metrics, "farm_worker_connected", worker="w1") == 1
    assert sample(metrics, "farm_worker_connected", worker="w2") == 0
    assert sample(metrics, "farm_worker_paused", worker="w2") == 1
    assert sample(metrics, "farm_worker_builds_running", worker="w1") == 2
    assert sample(metrics, "farm_worker_last_seen_timestamp_seconds", worker="w1") == (
        NOW.timestamp()
    )
    assert ("farm_worker_last_seen_timestamp_seconds", frozenset({("worker", "w2")})) not in metrics
    assert sample(metrics, "farm_requests_waiting", builder="b") == 2
    assert sample(metrics, "farm_requests_oldest_age_seconds", builder="b") == 7
    assert sample(metrics, "farm_requests_attempts", builder="b") == 2
    assert sample(metrics, "farm_builds_running", builder="b") == 2
    assert sample(metrics, "farm_master_uptime_seconds") == 3600
    assert sample(metrics, "farm_healthy") == 0
    assert sample(metrics, "farm_database_answers") == 1


def test_builds_are_counted_by_how_they_ended_and_only_good_ones_are_timed() -> None:
    measured = Measured()

    measured.build("b", Result.SUCCESS, 700)
    measured.build("b", Result.FAILURE, 3)
    measured.build("b", Result.RETRY, 2)
    measured.phase("translate: annotate", 299)
    measured.phase("translate demo-linux-x86_64", 1000)
    metrics = metrics_of(measured.render(make_state(), 600))

    finished = "farm_builds_finished_total"
    assert sample(metrics, finished, builder="b", result="success") == 1
    assert sample(metrics, finished, builder="b", result="failure") == 1
    assert sample(metrics, finished, builder="b", result="retry") == 1
    assert sample(metrics, "farm_build_duration_seconds_count", builder="b") == 1
    assert sample(metrics, "farm_build_duration_seconds_bucket", builder="b", le="600.0") == 0
    assert sample(metrics, "farm_build_duration_seconds_bucket", builder="b", le="1200.0") == 1
    assert sample(metrics, "farm_phase_duration_seconds_sum", phase="translate: annotate") == 299
    assert sample(metrics, "farm_phase_duration_seconds_sum", phase="translate") == 1000


def test_a_worker_that_invents_names_does_not_fill_the_monitor() -> None:
    measured = Measured()

    for number in range(1000):
        measured.phase(f"translate: {number}", 1)
    metrics = metrics_of(measured.render(make_state(), 600))

    counts = [name for name, _ in metrics if name == "farm_phase_duration_seconds_count"]
    assert len(counts) == 201
    assert sample(metrics, "farm_phase_duration_seconds_count", phase="other") == 800


@given(names=st.lists(st.text(max_size=20), min_size=1, max_size=5, unique=True))
def test_metrics_can_be_read_whatever_a_worker_is_called(names: list[str]) -> None:
    workers = tuple(WorkerState(name=name, connected=True, last_seen=NOW) for name in names)

    metrics = metrics_of(Measured().render(make_state(workers=workers), 600))

    assert all(sample(metrics, "farm_worker_connected", worker=name) == 1 for name in names)


def test_a_run_is_told_by_what_was_prepared_and_claimed() -> None:
    failed = FailedJob(identifier="demo-linux-x86_64", reason="it did not compile")
    properties = {
        "submission": as_property(Submission(request="r", channel="nightly", names=("demo",))),
        "prepared": as_property(make_prepared()),
        "claims": as_property(Claims(run="r1-1", claims=(), failed=(failed,))),
        "secret": "hidden",
    }

    report = run_report(properties, JOBS, result=Result.FAILURE, at=NOW, url=URL)

    assert report == make_report(Result.FAILURE, failed=(failed,))
    assert "hidden" not in str(jsonable(report))


def test_a_run_that_was_not_prepared_is_told_by_what_was_asked_for() -> None:
    submission = Submission(
        request="r", channel="release", names=("demo-linux-x86_64", "demo-jit-s390x", "demo")
    )

    report = run_report(
        {"submission": as_property(submission), "prepared": None},
        JOBS,
        result=Result.EXCEPTION,
        at=NOW,
        url=URL,
    )

    assert report is not None
    assert report.interpreters == ("demo", "demo-jit")
    assert report.releases == ()


@pytest.mark.parametrize("value", [None, 3, "", "{}", "no json"])
def test_a_build_without_a_submission_is_no_run(value: object) -> None:
    properties = {"submission": value}

    assert run_report(properties, JOBS, result=Result.SUCCESS, at=NOW, url=URL) is None


@pytest.mark.parametrize("result", [Result.FAILURE, Result.EXCEPTION])
def test_a_failed_nightly_is_told_with_names_reasons_and_address(result: Result) -> None:
    failed = FailedJob(identifier="demo-linux-x86_64", reason="died\nSubject: of it")

    told = notice(make_report(result, failed=(failed,)))

    assert told is not None
    assert told.subject == "Nightly of demo failed"
    assert NIGHTLY in told.text
    assert "  demo-linux-x86_64: died Subject: of it\n" in told.text
    assert URL in told.text
    assert "2026-11-25 06:00 UTC" in told.text


@pytest.mark.parametrize(
    ("channel", "result"),
    [
        ("release", Result.FAILURE),
        *(("nightly", result) for result in Result if result not in (Result.FAILURE, "exception")),
    ],
)
def test_nobody_is_told_of_what_did_not_fail_or_of_who_asked_himself(
    channel: Channel, result: Result
) -> None:
    assert notice(make_report(result, channel=channel)) is None


def test_a_nightly_that_failed_before_it_was_prepared_is_told_without_releases() -> None:
    told = notice(make_report(Result.FAILURE, interpreters=(), releases=()))

    assert told is not None
    assert told.subject == "Nightly of all interpreters failed"
    assert "Releases" not in told.text


def test_a_stale_nightly_is_told_on_one_line() -> None:
    told = stale_notice("pypy3.11: 5 days\nX: y", at=NOW, url=URL)

    assert told.subject == "A nightly is stale"
    assert "pypy3.11: 5 days X: y\n" in told.text
    assert URL in told.text


def test_a_webhook_gets_what_chat_servers_show() -> None:
    body = webhook_body(Notice(subject="It failed", text="long", url=URL))

    assert jsonable(body) == {"text": f"It failed: {URL}", "subject": "It failed", "url": URL}


@pytest.mark.parametrize(
    ("reports", "message", "color"),
    [
        ([], "no build", "lightgrey"),
        ([make_report()], "2026-11-25", "brightgreen"),
        ([make_report(Result.WARNINGS)], "incomplete: 2026-11-25", "yellow"),
        ([make_report(at=NOW - timedelta(days=4))], "stale: 2026-11-21", "orange"),
        ([make_report(Result.RETRY), make_report(Result.CANCELLED)], "no build", "lightgrey"),
        (
            [
                make_report(Result.FAILURE),
                make_report(Result.EXCEPTION, at=NOW - timedelta(days=1)),
                make_report(at=NOW - timedelta(days=2)),
            ],
            "failing since 2026-11-24",
            "red",
        ),
        ([make_report(channel="release")], "no build", "lightgrey"),
        ([make_report(interpreters=("demo-jit",))], "no build", "lightgrey"),
        (
            [make_report(Result.FAILURE, interpreters=()), make_report()],
            "failing since 2026-11-25",
            "red",
        ),
    ],
)
def test_a_badge_says_how_the_last_nightly_went(
    reports: list[RunReport], message: str, color: str
) -> None:
    badge = badges(reports, ["demo"], NOW, 3)["demo-nightly.json"]

    assert badge == Badge(label="demo nightly", message=message, color=color)


def test_a_release_is_never_stale() -> None:
    old = make_report(channel="release", at=NOW - timedelta(days=400))

    badge = badges([old], ["demo"], NOW, 3)["demo-release.json"]

    assert badge.color == "brightgreen"


def test_badges_are_as_shields_io_reads_them() -> None:
    badge = badges([make_report()], ["demo"], NOW, 3)["demo-nightly.json"]

    assert jsonable(badge) == {
        "schemaVersion": 1,
        "label": "demo nightly",
        "message": "2026-11-25",
        "color": "brightgreen",
    }


def test_every_identifier_of_the_configuration_is_in_the_state() -> None:
    config = make_config()

    names = job_names(config)

    assert names["demo-linux-x86_64"] == ("demo", "linux-x86_64")
    assert len(names) == sum(len(row.platforms) for row in config.interpreters.values())


def test_the_release_of_an_interpreter_is_found_among_those_of_its_run() -> None:
    prepared = as_property(make_prepared(releases=("demo-jit-v1.0.0", NIGHTLY)))

    assert release_of("demo", prepared) == NIGHTLY
    assert release_of("demo-jit", prepared) == "demo-jit-v1.0.0"
    assert release_of("pypy3.11", prepared) is None
    assert release_of("demo", None) is None


@pytest.mark.parametrize(
    ("release", "revision"), [(NIGHTLY, "0123456789ab"), ("demo-v1.0.0", None), (None, None)]
)
def test_a_nightly_names_its_revision(release: str | None, revision: str | None) -> None:
    assert revision_of(release) == revision


def test_workers_that_a_master_starts_itself_need_not_be_there() -> None:
    latent = DockerLatent(kind="docker", image="worker")
    farm = FarmConfig(
        workers={
            "signer": FarmWorker(memory=2, role=Role.SIGNER),
            "steady": FarmWorker(memory=2),
            "cloud": FarmWorker(memory=2, latent=latent),
        }
    )

    assert required_workers(farm) == {"signer", "steady"}


def test_a_job_that_was_never_built_is_in_the_state_without_a_result() -> None:
    assert jsonable(JobReport(interpreter="demo", platform="linux-x86_64"))["result"] is None
