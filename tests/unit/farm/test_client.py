"""What a person sees of a run: every state of the master's gives one row that is true."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, UnknownNameError
from pipeline.farm import client
from pipeline.farm.client import JobState, Row, Seen
from pipeline.model.farm import Claim
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Selection
from tests.factories import digest, make_config
from tests.fake_farm import (
    START,
    WORKERS,
    ended,
    make_build,
    make_claims,
    make_collected,
    make_job,
    make_prepared,
    make_request,
    make_step,
    make_submission,
    make_unit,
    said,
)

JOB = "demo-linux-x86_64"
OTHER = "demo-linux-i686"
TODAY = date(2027, 1, 15)
RESULTS = range(7)


def make_seen(**changed: Any) -> Seen:
    """Return a run of which only the request is there."""
    fields: dict[str, Any] = {
        "request": make_request(1),
        "phases": {},
        "workers": WORKERS,
        "expected": {},
    }
    return Seen(**{**fields, **changed})


def row_of(seen: Seen, job: str = JOB) -> Row:
    return next(row for row in client.rows_of(seen) if row.job == job)


# --- names --------------------------------------------------------------------------------------


def test_the_same_command_has_the_same_name_on_the_same_day() -> None:
    first = Selection(channel="release", platforms=("linux-x86_64", "linux-i686"))
    second = Selection(channel="release", platforms=("linux-i686", "linux-x86_64"))

    assert client.default_request(first, ["demo"], TODAY) == client.default_request(
        second, ["demo"], TODAY
    )


@pytest.mark.parametrize(
    ("changed", "names", "day"),
    [
        ({"channel": "nightly"}, ["demo"], TODAY),
        ({"platforms": ("linux-i686",)}, ["demo"], TODAY),
        ({"version": InterpreterVersion.parse("1.0.1")}, ["demo"], TODAY),
        ({"staged": True}, ["demo"], TODAY),
        ({}, ["other"], TODAY),
        ({}, ["demo"], date(2027, 1, 16)),
    ],
    ids=["channel", "platforms", "version", "staged", "names", "day"],
)
def test_another_command_has_another_name(
    changed: dict[str, Any], names: list[str], day: date
) -> None:
    selection = Selection(channel="release")

    name = client.default_request(selection.model_copy(update=changed), names, day)

    assert name != client.default_request(selection, ["demo"], TODAY)


@given(
    st.lists(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,99}", fullmatch=True), max_size=12),
    st.lists(st.sampled_from(["all", "linux-x86_64"]), max_size=2),
)
def test_every_name_is_one_that_a_farm_takes(names: list[str], platforms: list[str]) -> None:
    selection = Selection(channel="nightly", platforms=tuple(platforms))

    name = client.default_request(selection, names, TODAY)

    assert make_submission(name).request == name


# --- what is submitted --------------------------------------------------------------------------


def test_a_submission_has_what_the_command_line_selects() -> None:
    config, interpreter = make_config(), "demo"
    platform = config.interpreters[interpreter].platforms[0]
    selection = Selection(
        channel="release", interpreters=(interpreter,), platforms=(platform, platform), staged=True
    )

    made = client.make_submission(config, selection, [interpreter], "mine")

    assert (made.request, made.names, made.platforms) == ("mine", (interpreter,), (platform,))
    assert made.staged


def test_a_platform_that_does_not_exist_is_refused_here() -> None:
    config, interpreter = make_config(), "demo"
    selection = Selection(channel="release", interpreters=(interpreter,), platforms=("linux-x86",))

    with pytest.raises(UnknownNameError, match="linux-x86"):
        client.make_submission(config, selection, [interpreter], "mine")


def test_a_request_name_of_another_form_is_refused_here() -> None:
    config, interpreter = make_config(), "demo"
    selection = Selection(channel="release", interpreters=(interpreter,))

    with pytest.raises(ConfigError, match="request 'No Name'"):
        client.make_submission(config, selection, [interpreter], "No Name")


# --- joining ------------------------------------------------------------------------------------


def test_an_open_request_of_the_name_is_joined_also_when_asked_again() -> None:
    there = [make_request(3, **ended(0)), make_request(2)]

    found = client.joinable(there, "demo", START, again=True)

    assert found is there[1]


@pytest.mark.parametrize(
    ("results", "at", "again", "joined"),
    [
        (0, START, False, True),
        (1, START, False, True),
        (2, START, False, False),
        (6, START, False, False),
        (0, START + 86400, False, False),
        (0, START, True, False),
    ],
    ids=["good", "warnings", "failed", "stopped", "yesterday", "again"],
)
def test_what_has_ended_is_joined_only_if_it_was_made_today(
    results: int, at: float, *, again: bool, joined: bool
) -> None:
    there = [make_request(2, **ended(results))]

    assert (client.joinable(there, "demo", at, again=again) is not None) == joined


@pytest.mark.parametrize("text", [None, 7, "", "{", "[]", '{"request": "demo"}', {"a": 1}])
def test_a_property_that_is_no_submission_is_nobodys(text: object) -> None:
    request = make_request(2, properties=said(submission=text))

    assert client.submission_of(request) is None
    assert client.named([request], "demo") == []


def test_a_run_is_found_by_the_name_that_the_master_gives_it() -> None:
    request = make_request(12)

    assert client.named([make_request(11), request], "r12-1800000012") == [request]


# --- rows ---------------------------------------------------------------------------------------


def test_before_anything_is_prepared_the_first_and_the_last_unit_wait() -> None:
    assert client.rows_of(make_seen()) == (Row(job="prepare"), Row(job="collect"))


def test_jobs_are_shown_in_the_order_of_the_plan_before_they_are_asked_for() -> None:
    prepared = make_prepared(make_job(OTHER), make_job(JOB), unchanged=("x-1.0",))

    rows = client.rows_of(make_seen(prepared=prepared, expected={JOB: 60.0}))

    assert [row.job for row in rows] == ["prepare", OTHER, JOB, "x-1.0", "collect"]
    assert [row.expected for row in rows] == [None, None, 60.0, None, None]
    assert rows[3].state is JobState.UNCHANGED


def test_a_job_that_is_there_already_is_unchanged() -> None:
    seen = make_seen(prepared=make_prepared(make_job(JOB, is_done=True)))

    assert row_of(seen).state is JobState.UNCHANGED


def test_a_running_job_shows_its_phase_and_worker() -> None:
    seen = make_seen(
        children=(make_unit(2, JOB),),
        builds=(make_build(5, 2),),
        phases={5: f"translate {JOB}"},
    )

    row = row_of(seen)

    assert (row.state, row.phase, row.worker) == (JobState.RUNNING, "translate", "worker-1")
    assert (row.started, row.attempt) == (START + 50, 1)


def test_a_job_whose_worker_was_lost_waits_again() -> None:
    seen = make_seen(children=(make_unit(2, JOB),), builds=(make_build(5, 2, **ended(5)),))

    row = row_of(seen)

    assert (row.state, row.attempt, row.worker, row.final) == (JobState.WAITING, 1, "", False)


def test_a_second_attempt_counts_from_the_beginning_of_the_first() -> None:
    builds = (make_build(6, 2), make_build(5, 2, **ended(5)))

    row = row_of(make_seen(children=(make_unit(2, JOB),), builds=builds))

    assert (row.state, row.attempt, row.started) == (JobState.RUNNING, 2, START + 50)


def test_a_try_that_has_ended_is_not_running_though_its_request_is_open_for_a_moment() -> None:
    seen = make_seen(children=(make_unit(2, JOB),), builds=(make_build(5, 2, **ended(0)),))

    assert row_of(seen).state is JobState.DONE
    assert not row_of(seen).final


def test_a_job_that_waited_in_vain_has_the_masters_reason() -> None:
    seen = make_seen(
        prepared=make_prepared(make_job(JOB), make_job(OTHER)),
        children=(make_unit(2, JOB, **ended(6)),),
        claims=make_claims(demo__linux__x86_64="no worker", demo__linux__i686="no builder"),
    )

    assert (row_of(seen).state, row_of(seen).reason) == (JobState.FAILED, "no worker")
    assert (row_of(seen, OTHER).state, row_of(seen, OTHER).reason) == (
        JobState.FAILED,
        "no builder",
    )


@pytest.mark.parametrize(("results", "state"), [(0, "not needed"), (2, "stopped"), (6, "stopped")])
def test_nothing_waits_in_a_run_that_has_ended(results: int, state: str) -> None:
    rows = client.rows_of(make_seen(request=make_request(1, **ended(results))))

    assert [row.state for row in rows] == [state, state]


def test_the_newest_request_of_a_unit_counts() -> None:
    seen = make_seen(children=(make_unit(9, JOB, **ended(0)), make_unit(2, JOB, **ended(2))))

    assert row_of(seen).state is JobState.DONE


@given(st.data())
def test_a_job_that_has_ended_is_never_shown_as_running(data: st.DataObject) -> None:
    """However old what was read of its tries is, and whatever was shown before."""
    results = data.draw(st.sampled_from([0, 1, 2, 3, 4, 6]))
    children = (make_unit(2, JOB, **ended(results)), make_unit(3, OTHER))
    tries = [
        make_build(number, data.draw(st.sampled_from([2, 3])))
        if data.draw(st.booleans())
        else make_build(number, 2, **ended(data.draw(st.sampled_from(RESULTS))))
        for number in range(data.draw(st.integers(0, 4)))
    ]
    phases = {build.buildid: "translate" for build in tries}
    truth = make_seen(children=children, builds=tuple(tries), phases=phases)

    shown = client.rows_of(truth)
    stale = make_seen(children=(make_unit(2, JOB), make_unit(3, OTHER)), builds=tuple(tries))
    again = client.rows_of(stale, shown)

    for rows in (shown, again):
        (row,) = (row for row in rows if row.job == JOB)
        assert row.state in client.FINAL
        assert row.phase == ""
        assert client.cells(row, START + 500)[1] == row.state


@given(st.permutations(range(5)), st.integers(0, 4))
def test_the_order_in_which_a_farm_lists_things_does_not_matter(
    order: list[int], last: int
) -> None:
    builds = [make_build(number, 2, **ended(5)) for number in range(5)]
    builds[last:] = [make_build(last, 2, **ended(0))]
    shuffled = tuple(builds[place] for place in order if place < len(builds))
    children = (make_unit(2, JOB), make_unit(4, "collect"), make_unit(3, OTHER))

    rows = client.rows_of(make_seen(children=children, builds=tuple(builds)))
    again = client.rows_of(make_seen(children=children[::-1], builds=shuffled))

    assert {row.job: row for row in rows} == {row.job: row for row in again}


# --- steps and durations ------------------------------------------------------------------------


def test_the_phase_is_the_last_step_that_runs_and_is_the_works_own() -> None:
    steps = [
        make_step(3, "rtype"),
        make_step(2, "annotate", complete=True),
        make_step(1, "work"),
        make_step(4, "hidden", hidden=True),
        make_step(5, "not begun", started_at=None),
        make_step(6, "locks_acquire"),
    ]

    assert client.running_phase(steps) == "rtype"
    assert client.running_phase(steps[1:3]) == ""


def test_a_try_ended_at_the_steps_that_did_not_succeed() -> None:
    steps = [
        make_step(1, "a", complete=True, results=2),
        make_step(2, "b", complete=True, results=0),
        make_step(3, "c", complete=True, results=4),
        make_step(4, "d", complete=True, results=3),
        make_step(5, "e"),
    ]

    assert client.failed_steps(steps) == [3, 1]


def test_the_expected_time_is_the_median_of_those_who_had_to_work() -> None:
    claim = Claim.model_validate(
        {
            "run": "r1-1",
            "identifier": JOB,
            "worker": "worker-1",
            "stages": [
                {"stage": "translate", "key": digest("k"), "place": "a", "sha256": digest("s")}
                | {"size": 1}
            ],
            "seconds": 1,
            "cached": True,
        }
    )
    found = make_build(4, 2, **ended(0, START + 41), properties=said(claim=claim.model_dump_json()))
    builds = [
        make_build(1, 2, **ended(0, START + 110)),
        make_build(2, 2, **ended(0, START + 40)),
        make_build(3, 2, **ended(0, START + 330)),
        found,
    ]

    assert client.expected_seconds(builds) == 100.0
    assert client.expected_seconds([found]) is None


# --- what is told -------------------------------------------------------------------------------


def test_news_are_what_changed_in_words() -> None:
    running = Row(job=JOB, state=JobState.RUNNING, phase="annotate", worker="w", attempt=1, build=1)
    before = (running, Row(job=OTHER))
    later = (
        Row(job=JOB, state=JobState.DONE, worker="w", attempt=2, started=0.1, ended=75.1),
        Row(job=OTHER, state=JobState.WAITING, attempt=1),
    )

    assert client.news((), before) == [f"{JOB}: annotate on w"]
    assert client.news(before, before) == []
    assert client.news(before, later) == [
        f"{JOB}: done on w (1 min 15 s), attempt 2",
        f"{OTHER}: waits again, attempt 1 was lost",
    ]


def test_between_two_phases_there_is_no_news() -> None:
    before = Row(job=JOB, state=JobState.RUNNING, phase="annotate", build=1)
    between = Row(job=JOB, state=JobState.RUNNING, build=1)
    after = Row(job=JOB, state=JobState.RUNNING, build=2)

    assert client.news([before], [between]) == []
    assert client.news([before], [after]) == [f"{JOB}: begun"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (725, "12 min 05 s"),
        (3600, "1 h 00 min"),
        (11240, "3 h 07 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert client.as_duration(seconds) == text


def test_a_running_jobs_time_goes_on_and_an_ended_ones_stands() -> None:
    running = Row(job=JOB, state=JobState.RUNNING, started=START, expected=90.0, attempt=1)
    done = Row(job=JOB, state=JobState.DONE, started=START, ended=START + 5)

    assert client.cells(running, START + 30)[3:] == ("30 s", "1 min 30 s", "1")
    assert client.cells(done, START + 30)[3] == "5 s"


@given(st.lists(st.sampled_from(list(JobState)), max_size=30), st.integers(1, 40))
def test_a_table_fits_and_says_what_it_leaves_out(states: list[JobState], lines: int) -> None:
    rows = [Row(job=f"job-{number}", state=state) for number, state in enumerate(states)]

    shown, more = client.fitting(rows, lines)

    left = [row for row in rows if row not in shown]
    assert len(shown) + bool(more) <= lines
    assert shown == [row for row in rows if row in shown]
    assert bool(more) == bool(left)
    assert not left or f"and {len(left)} more: " in more
    rank = client.URGENCY.index
    assert all(rank(row.state) <= rank(other.state) for row in shown for other in left)


def test_the_headline_counts() -> None:
    states = [JobState.DONE, JobState.FAILED, JobState.RUNNING, JobState.WAITING]
    rows = [Row(job=str(state), state=state) for state in states]

    assert client.title("demo", rows) == (
        "demo: 2 of 4 ended, 1 running, 1 of them failed or stopped"
    )
    assert client.title("demo", rows[:1]) == "demo: 1 of 1 ended"


def test_the_reason_of_a_failure_is_our_own_error_or_the_last_line() -> None:
    assert client.reason_of(["make: x", "error: gcc failed", "bye"]) == "gcc failed"
    assert client.reason_of(["make: x", "killed", "  "]) == "killed"
    assert client.reason_of([]) == ""


def test_a_failure_is_listed_once_with_its_page() -> None:
    row = Row(job=JOB, page="#/builds/1", reason="exit 1")

    assert client.failure_line(row, "", "P") == f"{JOB}: exit 1 (P)"
    assert client.failure_line(row, f"translate {JOB}: no", "P") == f"translate {JOB}: no (P)"
    assert client.failure_line(row, "see https://farm", "P") == f"{JOB}: see https://farm"


def test_a_run_without_failed_jobs_that_did_not_end_well_failed_itself() -> None:
    stopped = make_seen(request=make_request(1, **ended(6)))
    failed = make_seen(request=make_request(1, **ended(4)))

    assert [row.reason for row in client.failures(stopped, ())] == ["it was stopped"]
    assert "does not say why" in client.failures(failed, ())[0].reason


def test_a_run_that_ended_well_must_say_what_it_made_unless_all_is_unchanged() -> None:
    assert client.needs_result(make_seen())
    assert client.needs_result(make_seen(prepared=make_prepared(make_job(JOB))))
    assert not client.needs_result(make_seen(prepared=make_prepared(unchanged=("x-1",))))


def test_documents_are_read_as_text_and_as_they_are() -> None:
    made = make_collected()

    assert client.read_document(type(made), made.model_dump_json()) == made
    assert client.read_document(type(made), made.model_dump(mode="json")) == made
    assert client.read_document(type(made), "{}") is None


def test_a_farm_is_asked_less_often_while_nothing_changes() -> None:
    waits = [client.FIRST_WAIT]
    for _ in range(5):
        waits.append(client.next_wait(waits[-1], changed=False))

    assert waits == sorted(waits)
    assert waits[-1] == client.LONGEST_WAIT
    assert client.next_wait(waits[-1], changed=True) == client.FIRST_WAIT
