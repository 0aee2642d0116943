"""Several jobs and releases in one run."""

from pathlib import Path

import pytest

from pipeline.effects.engine import ContainerStep
from pipeline.effects.store import LocalStore
from pipeline.errors import (
    JobsFailedError,
    PlatformError,
    SigningKeyError,
    TranslationError,
    UnknownNameError,
)
from pipeline.model.naming import LEDGER_KEY
from pipeline.plan import Plan, Selection
from pipeline.run import Outcome, plan_for, run_plan
from pipeline.stages import Stage
from tests.factories import workers_on
from tests.fakes import (
    MACHINE,
    Ran,
    World,
    expect_gpg,
    make_plan,
    make_world,
    replace_text,
    translated,
)

BOTH = ("linux-x86_64", "linux-x86_64_v3")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world in which the two interpreters have different sources."""
    made = make_world(tmp_path / "project")
    replace_text(made.ctx.root / "translation_configs" / "gem" / "target.py", "main", "gem_main")
    return made.again()


def store_of(world: World) -> LocalStore:
    return LocalStore(world.ctx.work.root / "store")


def run(world: World, plan: Plan, last: Stage = Stage.PROJECTIONS) -> Outcome:
    return run_plan(world.ctx, plan, store_of(world), last)


def everything(world: World) -> Plan:
    return make_plan(world.ctx, "toy", "gem", platforms=BOTH)


def fail_on(world: World, *numbers: int) -> list[int]:
    """Let the translations with these numbers (from 1) fail; return a list of those that ran."""
    ran: list[int] = []

    def script(step: ContainerStep) -> Ran:
        ran.append(len(ran) + 1)
        if ran[-1] in numbers:
            return Ran(status=1, lines=(f"error in number {ran[-1]}",))
        return translated(step)

    world.engine.scripts["translate"] = script
    return ran


def test_every_job_of_every_release_runs(world: World) -> None:
    outcome = run(world, everything(world))

    assert [item.job.identifier for item in outcome.jobs] == [
        "toy-linux-x86_64",
        "toy-linux-x86_64_v3",
        "gem-linux-x86_64",
        "gem-linux-x86_64_v3",
    ]
    assert [item.release.release for item in outcome.releases] == ["toy-v1.2.3", "gem-v1.2.3"]
    assert outcome.unfinished == ()


def test_a_release_lists_the_files_of_all_its_platforms(world: World) -> None:
    outcome = run(world, make_plan(world.ctx, platforms=BOTH))

    (release,) = outcome.releases
    assert {item.filename for item in release.files} == set(release.release.urls)
    assert [facts.platform for facts in release.manifest.platforms] == list(BOTH)


def test_jobs_after_a_failed_one_run_all_the_same(world: World) -> None:
    ran = fail_on(world, 1)

    with pytest.raises(TranslationError) as caught:
        run(world, everything(world))

    assert ran == [1, 2, 3, 4]
    assert caught.value.where == "translate toy-linux-x86_64"
    assert "error in number 1" in str(caught.value)


def test_a_release_with_a_failed_job_is_not_signed_and_others_are(world: World) -> None:
    fail_on(world, 2)

    with pytest.raises(TranslationError):
        run(world, everything(world))

    store = store_of(world)
    assert store.stored("gem/gem-v1.2.3/SHA256SUMS") is not None
    assert store.stored("toy/toy-v1.2.3/SHA256SUMS") is None
    assert world.process.ran("gpg", "--detach-sign") == 1


def test_several_failures_are_listed_together(world: World) -> None:
    fail_on(world, 1, 4)

    with pytest.raises(JobsFailedError) as caught:
        run(world, everything(world))

    message = str(caught.value)
    assert message.startswith("2 jobs failed; what did not fail is kept.\n")
    for number, identifier in ((1, "toy-linux-x86_64"), (4, "gem-linux-x86_64_v3")):
        assert f"translate {identifier}: exit status 1; " in message
        assert f"error in number {number}" in message
    assert world.process.ran("gpg", "--detach-sign") == 0


def test_what_did_not_fail_is_kept_for_the_next_run(world: World) -> None:
    fail_on(world, 2)
    with pytest.raises(TranslationError):
        run(world, everything(world))
    ran = fail_on(world)

    outcome = run(world.again(), everything(world))

    assert ran == [1]
    assert [item.cached for item in outcome.jobs] == [True, False, True, True]


def test_a_release_that_cannot_be_signed_does_not_stop_the_next(world: World) -> None:
    expect_gpg(world.process, listing="")

    with pytest.raises(JobsFailedError) as caught:
        run(world, make_plan(world.ctx, "toy", "gem"))

    assert "sign toy-v1.2.3: " in str(caught.value)
    assert "sign gem-v1.2.3: " in str(caught.value)


def test_one_failure_keeps_its_own_error(world: World) -> None:
    expect_gpg(world.process, listing="")

    with pytest.raises(SigningKeyError):
        run(world, make_plan(world.ctx))


def test_what_is_no_error_of_ours_is_not_gathered(world: World) -> None:
    def interrupt(_step: ContainerStep) -> Ran:
        raise KeyboardInterrupt

    world.engine.scripts["translate"] = interrupt

    with pytest.raises(KeyboardInterrupt):
        run(world, everything(world))

    assert world.engine.steps[1:] == []


@pytest.mark.parametrize("last", [Stage.SOURCE, Stage.TRANSLATE, Stage.PACKAGE, Stage.VERIFY])
def test_nothing_is_signed_before_the_stage_that_signs(last: Stage, world: World) -> None:
    outcome = run(world, make_plan(world.ctx), last)

    assert outcome.releases == ()
    assert world.process.ran("gpg", "--detach-sign") == 0


def test_a_dry_run_tells_where_each_job_stands(world: World) -> None:
    run(world, make_plan(world.ctx, "toy"), Stage.PACKAGE)

    outcome = run(world.again(dry_run=True), make_plan(world.ctx, "toy", "gem"))

    assert outcome.unfinished == (("toy-linux-x86_64", "verify"), ("gem-linux-x86_64", "source"))
    assert outcome.jobs == ()
    assert outcome.releases == ()


def test_a_dry_run_tells_when_only_the_release_is_to_do(world: World) -> None:
    run(world, make_plan(world.ctx), Stage.VERIFY)

    outcome = run(world.again(dry_run=True), make_plan(world.ctx))

    assert outcome.unfinished == (("toy-v1.2.3", "sign"),)
    assert [item.job.identifier for item in outcome.jobs] == ["toy-linux-x86_64"]
    assert store_of(world).read(LEDGER_KEY) is None


def test_a_plan_is_for_the_source_as_it_is_now(world: World) -> None:
    before = make_plan(world.ctx).jobs[0].revision
    replace_text(world.ctx.root / "translation_configs" / "toy" / "target.py", "main", "other")

    after = make_plan(world.ctx).jobs[0].revision

    assert after.revision != before.revision


def test_an_unknown_interpreter_is_refused_before_its_source_is_looked_for(world: World) -> None:
    selection = Selection(channel="release", interpreters=("tyo",))

    with pytest.raises(UnknownNameError, match="Did you mean 'toy'"):
        plan_for(world.ctx, selection, workers_on(MACHINE))


def test_a_platform_of_another_machine_is_refused(world: World) -> None:
    selection = Selection(channel="release", interpreters=("toy",), platforms=("linux-aarch64",))

    with pytest.raises(PlatformError, match="cannot be translated in any way on this worker"):
        plan_for(world.ctx, selection, workers_on(MACHINE))
