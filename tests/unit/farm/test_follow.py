"""Following a run: to its end, through lost connections, with each failure told once."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from rich.console import Console as RichConsole

from pipeline.effects.console import Console
from pipeline.errors import FarmError, JobsFailedError
from pipeline.farm.follow import LONGEST_BACK_OFF, Follower
from tests.fake_farm import (
    START,
    FakeFarm,
    ended,
    make_build,
    make_claims,
    make_collected,
    make_job,
    make_prepared,
    make_request,
    make_step,
    make_unit,
)

JOB = "demo-linux-x86_64"


@dataclass
class Scene:
    """A run that goes on by one act each time the follower waits."""

    farm: FakeFarm = field(default_factory=FakeFarm)
    acts: list[Callable[[], None]] = field(default_factory=list)
    shown: io.StringIO = field(default_factory=io.StringIO)
    slept: list[float] = field(default_factory=list)

    def follower(self) -> Follower:
        """Return who follows request 1."""
        rich = RichConsole(file=self.shown, width=200, force_terminal=False, highlight=False)
        return Follower(
            console=Console(rich_console=rich, clock=lambda: 0.0),
            farm=self.farm,
            name="demo (r1)",
            request=1,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        """Let the next act happen."""
        self.slept.append(seconds)
        if self.acts:
            self.acts.pop(0)()

    @property
    def lines(self) -> list[str]:
        """What was said."""
        return self.shown.getvalue().splitlines()


@pytest.fixture
def scene() -> Scene:
    """A run whose first unit is done and whose job runs."""
    scene = Scene()
    farm = scene.farm
    farm.add(make_request(1))
    farm.begin(make_build(1, 1, builderid=1, workerid=1))
    farm.add(make_unit(2, "prepare", **ended(0)), make_unit(3, JOB), parent=1)
    farm.begin(make_build(2, 2, builderid=2, workerid=2, **ended(0)), make_build(3, 3))
    prepared = make_prepared(make_job(JOB), make_job("demo-linux-i686", is_done=True))
    farm.made[2] = {"prepared": prepared.model_dump_json()}
    farm.under[3] = [make_step(1, "work"), make_step(2, f"translate {JOB}")]
    farm.history[3] = (make_build(90, 80, started_at=START, **ended(0, START + 60)),)
    return scene


def succeed(farm: FakeFarm, *, collected: bool = True) -> None:
    """Let the job, the last unit and the run end well."""
    farm.begin(make_build(3, 3, **ended(0)), make_build(1, 1, builderid=1, **ended(0)))
    farm.add(make_unit(3, JOB, **ended(0)), make_unit(4, "collect", **ended(0)), parent=1)
    farm.begin(make_build(4, 4, builderid=5, workerid=2, **ended(0)))
    if collected:
        farm.made[4] = {"collected": make_collected().model_dump_json()}
    farm.add(make_request(1, **ended(0)))


def fail(farm: FakeFarm, results: int = 2) -> None:
    """Let the job and the run fail."""
    farm.begin(make_build(3, 3, state_string="failed", **ended(2)))
    farm.begin(make_build(1, 1, builderid=1, **ended(2)))
    farm.add(make_unit(3, JOB, **ended(2)), parent=1)
    farm.under[3] = [
        make_step(1, "work", complete=True, results=2),
        make_step(2, "translate", complete=True, results=2),
    ]
    farm.logs[1] = (*(f"line {number}" for number in range(99)), "error: gcc: no")
    farm.add(make_request(1, **ended(results)))


def test_a_run_is_followed_to_its_end_and_its_result_returned(scene: Scene) -> None:
    scene.acts = [lambda: None, lambda: succeed(scene.farm)]

    done = scene.follower().follow()

    assert done.collected == make_collected()
    assert scene.lines[:6] == [
        "prepare: done on signer (1 min 20 s)",
        f"{JOB}: translate on worker-1",
        "demo-linux-i686: unchanged, it is there already",
        f"{JOB}: done on worker-1 (1 min 10 s)",
        "collect: done on signer (1 min 00 s)",
        "Jobs" + " " * (len(scene.lines[5]) - 4),
    ]
    assert scene.lines[-1] == "demo (r1): 4 of 4 ended"
    assert any("1 min 00 s" in line and line.startswith(JOB) for line in scene.lines[6:])


def test_what_does_not_change_is_asked_for_once(scene: Scene) -> None:
    scene.acts = [lambda: None] * 5 + [lambda: succeed(scene.farm)]

    scene.follower().follow()

    asked = scene.farm.asked_for
    for question in ("builders", "workers", "build 2", "build 4", "successes 3 ('claim',)"):
        assert asked.count(question) == 1, question


def test_a_lost_connection_is_told_once_and_so_is_its_return(scene: Scene) -> None:
    scene.acts = [lambda: setattr(scene.farm, "broken", 8)]
    scene.acts += [lambda: None] * 7 + [lambda: succeed(scene.farm)] * 2

    scene.follower().follow()

    lost = [line for line in scene.lines if "does not answer (Connection refused)" in line]
    assert len(lost) == 1
    assert sum(line == "https://farm.test answers again" for line in scene.lines) == 1
    backed_off = scene.slept[1:9]
    assert backed_off == sorted(backed_off)
    assert backed_off[0] == 1.0
    assert backed_off[-1] == LONGEST_BACK_OFF


def test_a_failed_job_shows_the_end_of_its_log_and_is_listed_with_its_page(scene: Scene) -> None:
    scene.acts = [lambda: fail(scene.farm)]

    with pytest.raises(JobsFailedError) as caught:
        scene.follower().follow()

    assert "  line 98" in scene.lines
    assert "  line 49" not in scene.lines
    assert str(caught.value).endswith(f"\n{JOB}: gcc: no (https://farm.test/#/builders/3/builds/3)")
    assert scene.farm.asked_for.count("log 2") == 1


def test_a_failure_is_explained_once_while_others_go_on(scene: Scene) -> None:
    def fail_first() -> None:
        fail(scene.farm)
        scene.farm.add(make_request(1))

    scene.acts = [fail_first, lambda: None, lambda: None, lambda: fail(scene.farm)]

    with pytest.raises(JobsFailedError):
        scene.follower().follow()

    assert scene.lines.count("  error: gcc: no") == 1


def test_a_log_that_cannot_be_shown_is_no_reason_to_stop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(_step: int, _lines: int) -> tuple[str, ...]:
        msg = "more than can be read"
        raise FarmError(msg)

    monkeypatch.setattr(scene.farm, "log_tail", too_large)
    scene.acts = [lambda: fail(scene.farm)]

    with pytest.raises(JobsFailedError, match=f"{JOB}: failed"):
        scene.follower().follow()

    assert f"{JOB}: its log cannot be shown: more than can be read" in scene.lines


def test_a_run_that_is_made_without_an_optional_job_ends_well_and_says_so(scene: Scene) -> None:
    def without() -> None:
        succeed(scene.farm)
        claims = make_claims(demo__linux__x86_64="no worker was there")
        scene.farm.made[1] = {"claims": claims.model_dump_json()}
        scene.farm.add(make_unit(3, JOB, **ended(6)), parent=1)
        scene.farm.add(make_request(1, **ended(1)))

    scene.acts = [without]

    done = scene.follower().follow()

    assert done.collected is not None
    (line,) = (line for line in scene.lines if line.startswith("done without"))
    assert f"{JOB}: no worker was there" in line


def test_a_stopped_run_says_that_it_was_stopped(scene: Scene) -> None:
    scene.farm.add(make_request(1, **ended(6)))
    scene.farm.begin(make_build(1, 1, builderid=1, **ended(6)), make_build(3, 3, **ended(6)))

    with pytest.raises(JobsFailedError, match="it was stopped"):
        scene.follower().follow()


def test_a_good_end_without_a_result_is_not_believed(scene: Scene) -> None:
    succeed(scene.farm, collected=False)

    with pytest.raises(FarmError, match="not what it made"):
        scene.follower().follow()


def test_a_good_end_where_nothing_was_to_be_made_needs_no_result(scene: Scene) -> None:
    unchanged = make_prepared(unchanged=("demo-nightly-1",))
    scene.farm.made[2] = {"prepared": json.loads(unchanged.model_dump_json())}
    scene.farm.rows.pop(3)
    scene.farm.add(make_request(1, **ended(0)))

    done = scene.follower().follow()

    assert done.collected is None
    assert "demo-nightly-1: unchanged, it is there already" in scene.lines


def test_a_result_that_is_none_is_asked_for_again(scene: Scene) -> None:
    scene.farm.made[2] = {"prepared": "{"}
    scene.acts = [lambda: None, lambda: succeed(scene.farm)]

    scene.follower().follow()

    assert scene.farm.asked_for.count("build 2") > 1


def test_a_run_can_be_shown_once_as_it_is(scene: Scene) -> None:
    rows = scene.follower().show_once()

    assert [row.job for row in rows] == ["prepare", JOB, "demo-linux-i686", "collect"]
    assert scene.slept == []
    assert scene.lines[-1] == "demo (r1): 2 of 4 ended, 1 running"
