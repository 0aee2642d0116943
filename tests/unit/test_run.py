"""Several jobs and releases in one run."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.engine import ContainerStep
from pipeline.effects.store import LocalStore
from pipeline.errors import (
    EngineUnavailableError,
    JobsFailedError,
    LedgerError,
    PlatformError,
    PreflightError,
    SigningKeyError,
    TranslationError,
    UnknownNameError,
)
from pipeline.model.ledger import Published, State
from pipeline.model.naming import LEDGER_KEY
from pipeline.plan import Plan, Selection
from pipeline.publish.events import Stamp, pruning, yank
from pipeline.publish.ledger import Decide, append, read_ledger
from pipeline.run import Outcome, plan_for, run_plan
from pipeline.stages import Stage
from tests.factories import workers_on
from tests.fakes import (
    MACHINE,
    NOW,
    Answer,
    FakeEngine,
    FakeNotary,
    Ran,
    World,
    expect_gpg,
    make_plan,
    make_world,
    open_channel,
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
    channel = open_channel(world.ctx, plan.channel, FakeNotary())
    return run_plan(world.ctx, plan, channel, last)


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


# --- nightlies ------------------------------------------------------------------------------

OPTIONAL: Final = 'optional = ["linux-x86_64_v3"]\n'


def nightly(world: World, *platforms: str, day: date = date(2026, 11, 21)) -> Plan:
    """Return the plan of a nightly of toy."""
    selection = Selection(
        channel="nightly",
        interpreters=("toy",),
        platforms=platforms or ("linux-x86_64",),
        day=day,
    )
    return plan_for(world.ctx, selection, workers_on(MACHINE))


def state_of(world: World) -> State:
    return read_ledger(store_of(world), FakeNotary()).state


def published(world: World) -> list[Published]:
    return [item.published for item in state_of(world).releases]


def add(world: World, decide: Decide) -> None:
    append(store_of(world), FakeNotary(), decide, lambda _seconds: None)


NEXT_DAY: Final = date(2026, 11, 22)
STAMP: Final = Stamp(at=NOW, by="me", reason="a test")


def change_source(world: World) -> World:
    """Return the world with other source of toy."""
    target = world.ctx.root / "translation_configs" / "toy" / "target.py"
    target.write_text(f"{target.read_text()}# changed\n")
    return world.again()


def test_a_nightly_of_the_same_inputs_is_not_made_and_names_the_one_that_is_there(
    world: World,
) -> None:
    first = run(world, nightly(world))
    steps = len(world.engine.steps)

    again = run(world.again(), nightly(world, day=NEXT_DAY))

    (release,) = first.releases
    assert release.event is not None
    assert [(name, known.release) for name, known in again.unchanged] == [
        (nightly(world, day=NEXT_DAY).releases[0].release, release.event.release)
    ]
    assert (again.releases, again.jobs) == ((), ())
    assert len(world.engine.steps) == steps
    assert [event.release for event in published(world)] == [release.event.release]


def test_a_nightly_of_other_source_is_made(world: World) -> None:
    run(world, nightly(world))

    outcome = run(change_source(world), nightly(world, day=NEXT_DAY))

    assert outcome.unchanged == ()
    assert len(published(world)) == 2


def test_a_nightly_by_another_compiler_is_made_of_the_same_source(world: World) -> None:
    run(world, nightly(world))
    replace_text(world.ctx.root / "dockerfiles" / "translate.Dockerfile", "FROM", "# newer\nFROM")
    world.engine.packages = "gcc 14.2 amd64\n"

    run(world.again(), nightly(world, day=NEXT_DAY))

    first, second = published(world)
    assert first.source == second.source
    assert first.release != second.release


def test_source_that_went_back_to_what_an_older_nightly_has_is_made_again(world: World) -> None:
    """Clients are to get it as the newest."""
    target = world.ctx.root / "translation_configs" / "toy" / "target.py"
    before = target.read_text()
    run(world, nightly(world))
    run(change_source(world), nightly(world, day=NEXT_DAY))
    target.write_text(before)

    run(world.again(), nightly(world, day=date(2026, 11, 23)))

    assert len(published(world)) == 3


def test_a_nightly_that_was_yanked_does_not_come_back_under_another_name(world: World) -> None:
    run(world, nightly(world))
    (event,) = published(world)
    add(world, yank("toy", event.release, STAMP))

    outcome = run(world.again(), nightly(world, day=NEXT_DAY))

    assert [known for _, known in outcome.unchanged] == [event]
    assert len(published(world)) == 1


def test_a_nightly_whose_files_are_gone_is_made_again(world: World) -> None:
    run(world, nightly(world))
    (event,) = published(world)
    add(world, pruning("toy", event.release, STAMP))

    outcome = run(world.again(), nightly(world, day=NEXT_DAY))

    assert outcome.unchanged == ()
    assert len(published(world)) == 2


def test_a_release_of_the_inputs_of_a_nightly_is_made(world: World) -> None:
    run(world, nightly(world))

    outcome = run(world.again(), make_plan(world.ctx))

    assert outcome.unchanged == ()
    assert [item.release.release for item in outcome.releases] == ["toy-v1.2.3"]


@pytest.mark.parametrize("last", [Stage.SOURCE, Stage.VERIFY])
def test_a_stage_that_publishes_nothing_runs_for_the_same_inputs_too(
    last: Stage, world: World
) -> None:
    run(world, nightly(world))

    outcome = run(world.again(), nightly(world, day=NEXT_DAY), last)

    assert [item.job.identifier for item in outcome.jobs] == ["toy-linux-x86_64"]


def test_a_dry_run_tells_of_the_same_inputs(world: World) -> None:
    run(world, nightly(world))

    outcome = run(world.again(dry_run=True), nightly(world, day=NEXT_DAY))

    assert len(outcome.unchanged) == 1
    assert outcome.unfinished == ()


def test_indexes_of_an_unchanged_nightly_are_made_right_all_the_same(world: World) -> None:
    """The run that published it may have been killed before they knew it."""
    run(world, nightly(world), Stage.LEDGER)
    index = store_of(world).root / "toy" / "versions.json"
    assert not index.exists()

    outcome = run(world.again(), nightly(world, day=NEXT_DAY))

    assert len(outcome.unchanged) == 1
    assert index.is_file()


@pytest.mark.parametrize("last", [Stage.SIGN, Stage.PUBLISH, Stage.LEDGER])
def test_a_stage_before_the_indexes_writes_none_for_an_unchanged_nightly(
    last: Stage, world: World
) -> None:
    run(world, nightly(world), Stage.LEDGER)

    outcome = run(world.again(), nightly(world, day=NEXT_DAY), last)

    assert len(outcome.unchanged) == 1
    assert not (store_of(world).root / "toy" / "versions.json").exists()


def test_a_nightly_that_failed_yesterday_is_tried_again(world: World) -> None:
    fail_on(world, 1)
    with pytest.raises(TranslationError):
        run(world, nightly(world))
    fail_on(world)

    outcome = run(world.again(), nightly(world, day=NEXT_DAY))

    assert len(outcome.releases) == 1


# --- platforms that a nightly can do without ------------------------------------------------


@pytest.fixture
def lenient(world: World) -> World:
    """The world in which a platform is optional."""
    channels = world.ctx.root / "translation_configs" / "channels.toml"
    channels.write_text(channels.read_text().replace("signing", f"{OPTIONAL}signing"))
    return world.again()


def test_an_optional_platform_that_fails_leaves_a_nightly_without_it(lenient: World) -> None:
    fail_on(lenient, 2)

    with pytest.raises(TranslationError, match="error in number 2"):
        run(lenient, nightly(lenient, *BOTH))

    (event,) = published(lenient)
    assert [row.platform for row in event.platforms] == ["linux-x86_64"]
    assert not [item for item in event.files if item.platform == "linux-x86_64_v3"]
    assert (
        f"{event.release}: published without toy-linux-x86_64_v3, which failed"
        in lenient.text.getvalue()
    )


def test_a_required_platform_that_fails_keeps_a_nightly_from_being_published(
    lenient: World,
) -> None:
    fail_on(lenient, 1)

    with pytest.raises(TranslationError):
        run(lenient, nightly(lenient, *BOTH))

    assert published(lenient) == []
    assert "not published, for want of toy-linux-x86_64; the last whole set stays" in (
        lenient.text.getvalue()
    )


def test_a_release_can_do_without_no_platform(lenient: World) -> None:
    fail_on(lenient, 2)

    with pytest.raises(TranslationError):
        run(lenient, make_plan(lenient.ctx, platforms=BOTH))

    assert published(lenient) == []
    assert "toy-v1.2.3: not published, for want of toy-linux-x86_64_v3" in lenient.text.getvalue()


def test_a_nightly_of_which_nothing_is_left_is_not_published(lenient: World) -> None:
    fail_on(lenient, 1)

    with pytest.raises(TranslationError):
        run(lenient, nightly(lenient, "linux-x86_64_v3"))

    assert published(lenient) == []
    assert "not published, for want of toy-linux-x86_64_v3" in lenient.text.getvalue()


def test_a_nightly_without_a_platform_is_followed_by_the_whole_one(lenient: World) -> None:
    fail_on(lenient, 2)
    with pytest.raises(TranslationError):
        run(lenient, nightly(lenient, *BOTH))
    ran = fail_on(lenient)

    run(lenient.again(), nightly(lenient, *BOTH, day=NEXT_DAY))

    assert ran == [1]
    assert [len(event.platforms) for event in published(lenient)] == [1, 2]


def test_a_platform_that_fails_every_night_makes_no_news(lenient: World) -> None:
    fail_on(lenient, 2)
    with pytest.raises(TranslationError):
        run(lenient, nightly(lenient, *BOTH))
    fail_on(lenient, 1)

    with pytest.raises(TranslationError):
        run(lenient.again(), nightly(lenient, *BOTH, day=NEXT_DAY))

    (event,) = published(lenient)
    assert f"not made, its inputs are those of {event.release}" in lenient.text.getvalue()


def test_an_optional_platform_without_an_environment_does_not_stop_a_nightly(
    lenient: World,
) -> None:
    """What decides a release is asked before anything is translated."""
    run(lenient, nightly(lenient))
    broken = FakeEngine()
    broken.silent = EngineUnavailableError("no answer")
    engines = {"linux-x86_64_v3": broken}
    changed = change_source(lenient).again(engines=engines)

    with pytest.raises(EngineUnavailableError, match="no answer"):
        run(changed, nightly(changed, *BOTH, day=NEXT_DAY))

    assert [len(event.platforms) for event in published(lenient)] == [1, 1]


def test_an_engine_that_is_not_fit_is_told_before_a_nightlys_environment_is_made(
    world: World,
) -> None:
    run(world, nightly(world))
    world.process.expect("mmdebstrap", answer=Answer(status=1))
    world.engine.told = replace(world.engine.told, memory=1 << 30)
    built = len(world.engine.built)
    replace_text(world.ctx.root / "dockerfiles" / "translate.Dockerfile", "FROM", "# newer\nFROM")

    with pytest.raises(PreflightError, match="needs 2 GiB of memory"):
        run(world.again(), nightly(world, day=NEXT_DAY))

    assert len(world.engine.built) == built


def test_a_ledger_that_cannot_be_read_stops_a_nightly_before_it_is_translated(
    world: World,
) -> None:
    run(world, nightly(world))
    (store_of(world).root / LEDGER_KEY).write_bytes(b"{}")
    steps = len(world.engine.steps)

    with pytest.raises(LedgerError):
        run(change_source(world), nightly(world, day=NEXT_DAY))

    assert len(world.engine.steps) == steps


def test_a_dry_run_of_which_an_optional_platform_is_to_do_tells_so(lenient: World) -> None:
    run(lenient, nightly(lenient), Stage.VERIFY)

    outcome = run(lenient.again(dry_run=True), nightly(lenient, *BOTH))

    assert outcome.unfinished == (("toy-linux-x86_64_v3", "translate"),)
    assert outcome.releases == ()
    assert "published" not in lenient.text.getvalue()


# --- plans ----------------------------------------------------------------------------------


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
