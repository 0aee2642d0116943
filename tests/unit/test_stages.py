"""The flow: what is run, what is found finished, and what is left when something fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pipeline import preflight, stages
from pipeline.effects.archives import Entry, entries_of, write_archive
from pipeline.effects.github import GithubReleases
from pipeline.effects.retry import RetryPolicy
from pipeline.effects.store import LocalStore
from pipeline.errors import (
    EngineUnavailableError,
    EventError,
    FetchBackError,
    GateError,
    ImageError,
    ImmutableNameError,
    PackageError,
    PipelineError,
    PreflightError,
    RecordError,
    SigningKeyError,
    SourceError,
    TranslationError,
    UnknownNameError,
)
from pipeline.model.artifacts import CONTENT_TYPES
from pipeline.model.configs import GithubConfig
from pipeline.model.ledger import Published, State
from pipeline.model.naming import LEDGER_KEY
from pipeline.model.records import BuiltImages
from pipeline.plan import ReleasePlan
from pipeline.publish.events import Stamp, promotion, pruning
from pipeline.publish.ledger import Decide, append, read_ledger
from pipeline.publish.sites import OpenChannel, Site
from pipeline.sign.provenance import Statement, faults_of
from pipeline.stages import (
    Done,
    JobOutcome,
    NotFinished,
    ReleaseOutcome,
    Stage,
    input_key,
    make_job,
    make_release,
)
from tests.fakes import (
    EPOCH,
    KEY,
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
    secret_key,
)
from tests.images import FakeRegistry, make_image

JOB_STAGES: Final = (Stage.SOURCE, Stage.TRANSLATE, Stage.PACKAGE, Stage.VERIFY)
RELEASE_STAGES: Final = (Stage.SIGN, Stage.PUBLISH, Stage.LEDGER, Stage.PROJECTIONS)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def store_of(world: World) -> LocalStore:
    return LocalStore(world.ctx.work.root / "store")


def job_up_to(world: World, last: Stage = Stage.VERIFY) -> JobOutcome:
    return make_job(world.ctx, make_plan(world.ctx).jobs[0], last)


def channel_of(world: World) -> OpenChannel:
    return open_channel(world.ctx, notary=FakeNotary())


def release_up_to(
    world: World,
    last: Stage = Stage.PROJECTIONS,
    *,
    channel: OpenChannel | None = None,
    staged: bool = False,
) -> ReleaseOutcome:
    plan = make_plan(world.ctx)
    release = plan.releases[0].model_copy(update={"staged": staged})
    jobs = tuple(make_job(world.ctx, job, last) for job in plan.jobs)
    return make_release(world.ctx, release, jobs, channel or channel_of(world), last)


def state_of(world: World) -> State:
    return read_ledger(store_of(world), FakeNotary()).state


def in_store(world: World, filename: str) -> Path:
    return store_of(world).root / "toy" / "toy-v1.2.3" / filename


def finished(world: World) -> dict[str, int]:
    """Return how many outputs each stage has, the unfinished ones too."""
    stages = world.ctx.work.path("stages")
    return {path.name: len(list(path.iterdir())) for path in sorted(stages.glob("*"))}


def effects(world: World) -> tuple[int, int, int, int]:
    """Return how much was done in the world."""
    return (
        len(world.engine.steps),
        len(world.engine.sessions),
        len(world.http.downloads),
        sum(call.argv[0] == "mmdebstrap" for call in world.process.calls),
    )


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("last", JOB_STAGES)
def test_a_job_runs_up_to_the_stage_asked_for(last: Stage, world: World) -> None:
    outcome = job_up_to(world, last)

    done = (outcome.source, outcome.translation, outcome.package, outcome.verification)
    reached = JOB_STAGES.index(last) + 1
    assert [stage is not None for stage in done] == [True] * reached + [False] * (4 - reached)
    assert finished(world) == dict.fromkeys(sorted(JOB_STAGES[:reached]), 1)


def test_a_finished_job_is_not_run_again(world: World) -> None:
    first = job_up_to(world)
    before = effects(world)

    second = job_up_to(world.again())

    assert effects(world) == before
    assert (first.cached, second.cached) == (False, True)
    assert second.seconds == 0.0
    assert second.verification is not None
    assert first.verification is not None
    assert second.verification.record == first.verification.record


def test_a_finished_job_needs_no_engine_and_no_network(world: World) -> None:
    job_up_to(world)
    world.engine.silent = EngineUnavailableError("down")
    world.http.files.clear()

    outcome = job_up_to(world.again())

    assert outcome.cached is True


@pytest.mark.parametrize("last", JOB_STAGES[:-1])
def test_a_job_goes_on_after_its_last_finished_stage(last: Stage, world: World) -> None:
    job_up_to(world, last)

    outcome = job_up_to(world.again())

    done = (outcome.source, outcome.translation, outcome.package, outcome.verification)
    cached = [stage.cached for stage in done if stage is not None]
    reached = JOB_STAGES.index(last) + 1
    assert cached == [True] * reached + [False] * (4 - reached)
    names = [step.name.split("-")[0] for step in world.engine.steps]
    assert names == ["translate", "package"]


@pytest.mark.parametrize("last", RELEASE_STAGES)
def test_a_release_goes_on_after_its_last_finished_stage(last: Stage, world: World) -> None:
    release_up_to(world, last)

    outcome = release_up_to(world.again())

    assert outcome.signed.cached is True
    assert world.process.ran("gpg", "--detach-sign") == 1
    assert outcome.event is not None
    assert outcome.event.sequence == 1
    assert outcome.is_new is (last in {Stage.SIGN, Stage.PUBLISH})
    assert bool(outcome.changed_indexes) is (last is not Stage.PROJECTIONS)


@pytest.fixture
def from_git(world: World) -> World:
    """The world with the toy in a repository that git knows."""
    directory = world.ctx.root / "translation_configs" / "toy"
    commit = "194f9f44b50552d75484d67cda6e2b36607dee0c"
    replace_text(
        world.ctx.root / "translation_configs" / "toy.toml",
        'kind = "directory"\npath = "toy"\ndate = 2026-01-01\n',
        'kind = "git"\nrepository = "https://git.test/toy"\nbranch = "main"\n'
        f'tag = "v{{version}}"\nversion_file = "version.py"\ncommits."1.2.3" = "{commit}"\n',
    )

    versions = "".join(
        f"{name} = {numbers}\n"
        for name, numbers in (
            ("PYPY_VERSION", (1, 2, 3, "final", 0)),
            ("CPYTHON_VERSION", (1, 2, 0, "final", 0)),
        )
    )

    def export(argv: tuple[str, ...]) -> None:
        (place,) = (word.removeprefix("--output=") for word in argv if "--output=" in word)
        version_file = Entry(path="version.py", content=versions.encode())
        write_archive(Path(place), [*entries_of(directory, "."), version_file], epoch=EPOCH)

    answers = {
        "init": Answer(),
        "fetch": Answer(),
        "ls-remote": Answer(stdout=f"{commit}\trefs/tags/v1.2.3\n"),
        "cat-file": Answer(stdout=versions),
        "show": Answer(stdout=f"{EPOCH}\n"),
        "archive": Answer(effect=export),
        "update-ref": Answer(),
    }
    for word, answer in answers.items():
        world.process.expect("git", word, answer=answer)
    return world.again()


def test_a_release_of_a_commit_has_its_source_among_its_files(from_git: World) -> None:
    outcome = release_up_to(from_git)

    name = "toy-v1.2.3-src.tar.gz"
    assert {item.filename for item in outcome.files} == set(outcome.release.urls)
    assert name in {item.filename for item in outcome.manifest.files}
    stored = store_of(from_git).root / "toy" / "toy-v1.2.3"
    assert (stored / name).is_file()
    assert name in (stored / "SHA256SUMS").read_text(encoding="ascii")
    assert {"SRC01", "SRC02", "SRC03"} <= set(outcome.manifest.platforms[0].gates)
    assert outcome.manifest.source.tag == "v1.2.3"
    assert outcome.manifest.language_version == "1.2.0"


def test_the_provenance_says_from_which_commit_and_how_the_archives_were_made(
    from_git: World,
) -> None:
    outcome = release_up_to(from_git)

    data = in_store(from_git, "toy-v1.2.3-provenance.json").read_bytes()
    statement = Statement.model_validate_json(data)
    definition = statement.predicate.build_definition
    digests = {item.filename: item.sha256 for item in outcome.manifest.files}
    assert faults_of(data, digests, outcome.signed.record.fingerprint) == []
    assert definition.resolved_dependencies[0].digest == {
        "gitCommit": outcome.manifest.source.revision
    }
    (build,) = definition.internal_parameters.builds.values()
    (facts,) = outcome.manifest.platforms
    assert (build.mode, build.gc, build.jit) == (facts.mode, facts.gc, facts.jit)
    assert build.translation_key == facts.translation_key
    assert statement.predicate.run_details.metadata.invocation_id == outcome.manifest.input_key


def test_a_release_signed_by_another_key_has_another_provenance(world: World) -> None:
    first = release_up_to(world, Stage.SIGN)
    other = world.again()
    channel = channel_of(other)
    signing = channel.config.signing.model_copy(update={"key": KEY[::-1]})
    expect_gpg(other.process, key=KEY[::-1])

    again = release_up_to(
        other,
        Stage.SIGN,
        channel=replace(channel, config=channel.config.model_copy(update={"signing": signing})),
    )

    assert again.manifest == first.manifest
    assert again.signed.key != first.signed.key
    assert again.signed.record.provenance.sha256 != first.signed.record.provenance.sha256


def test_a_source_archive_is_in_no_index(from_git: World) -> None:
    release_up_to(from_git)

    index = (store_of(from_git).root / "toy" / "versions.json").read_text(encoding="utf-8")
    assert "toy-v1.2.3-linux64.tar.gz" in index
    assert "-src" not in index


def test_a_release_that_was_interrupted_anywhere_ends_as_one_that_was_not(
    world: World, tmp_path: Path
) -> None:
    straight = make_world(tmp_path / "straight")
    release_up_to(straight)

    for last in RELEASE_STAGES:
        release_up_to(world.again(), last)

    assert contents(store_of(world).root) == contents(store_of(straight).root)


def test_other_source_is_another_job(world: World) -> None:
    job_up_to(world)
    replace_text(world.ctx.root / "translation_configs" / "toy" / "target.py", "main", "other")

    outcome = job_up_to(world.again())

    assert outcome.cached is False
    assert finished(world) == dict.fromkeys(sorted(JOB_STAGES), 2)


def test_other_gates_repeat_the_verification_only(world: World) -> None:
    job_up_to(world)
    replace_text(
        world.ctx.root / "translation_configs" / "toy.toml", '["no such option"]', '["such"]'
    )

    job_up_to(world.again())

    assert finished(world) == {"package": 1, "source": 1, "translate": 1, "verify": 2}


def fail_source(world: World) -> None:
    world.http.files["rpython-0.2.1.tar.gz"] = b"no archive"


def fail_translation(world: World) -> None:
    world.engine.scripts["translate"] = lambda _step: Ran(status=1)


def fail_package(world: World) -> None:
    world.engine.scripts["package"] = lambda _step: Ran(status=1)


def fail_verification(world: World) -> None:
    world.engine.answers[("--version",)] = Answer(stdout="toy 0.0.0\n")


def fail_environment(world: World) -> None:
    world.process.expect("mmdebstrap", answer=Answer(status=1, stderr="no network"))


FAILURES: Final[dict[Stage, tuple[Callable[[World], None], type[PipelineError]]]] = {
    Stage.SOURCE: (fail_source, PipelineError),
    Stage.TRANSLATE: (fail_translation, TranslationError),
    Stage.PACKAGE: (fail_package, PackageError),
    Stage.VERIFY: (fail_verification, GateError),
}


@pytest.mark.parametrize("stage", FAILURES)
def test_a_stage_that_fails_leaves_nothing_and_says_where(stage: Stage, world: World) -> None:
    fail, error = FAILURES[stage]
    fail(world)

    with pytest.raises(error) as caught:
        job_up_to(world)

    name = "toy" if stage is Stage.SOURCE else "toy-linux-x86_64"
    assert caught.value.where == f"{stage} {name}"
    left = finished(world)
    assert left.pop(stage) == 0
    assert left == dict.fromkeys(sorted(JOB_STAGES[: JOB_STAGES.index(stage)]), 1)


@pytest.mark.parametrize("stage", FAILURES)
def test_a_failed_stage_is_run_again_once_its_cause_is_gone(stage: Stage, world: World) -> None:
    fail, error = FAILURES[stage]
    good = make_world(world.ctx.root)
    fail(world)
    with pytest.raises(error):
        job_up_to(world)
    good.engine.images.update(world.engine.images)

    outcome = job_up_to(good)

    assert outcome.verification is not None
    assert outcome.verification.cached is False


def test_an_interrupt_leaves_nothing_half_written(world: World) -> None:
    def interrupt(_step: object) -> Ran:
        raise KeyboardInterrupt

    world.engine.scripts["translate"] = interrupt

    with pytest.raises(KeyboardInterrupt):
        job_up_to(world)

    assert finished(world) == {"source": 1, "translate": 0}


def test_an_environment_that_cannot_be_made_names_the_stage_that_needs_it(world: World) -> None:
    fail_environment(world)

    with pytest.raises(ImageError) as caught:
        job_up_to(world)

    assert caught.value.where == "translate toy-linux-x86_64"


def test_an_engine_that_cannot_finish_is_told_before_anything_is_made(world: World) -> None:
    world.engine.told = replace(world.engine.told, memory=1 << 30)

    with pytest.raises(PreflightError, match="needs 2 GiB of memory") as caught:
        job_up_to(world)

    assert caught.value.where == "translate toy-linux-x86_64"
    assert finished(world) == {"source": 1}
    assert world.engine.built == []


def test_what_is_finished_needs_no_engine_that_is_fit(world: World) -> None:
    job_up_to(world)
    world.engine.told = replace(world.engine.told, memory=1 << 30)

    assert job_up_to(world.again()).cached is True


PROGRAM_RUNS: Final = (
    "echo 'int main(void) { return 42; }' "
    "| aarch64-linux-gnu-gcc -x c -o /tmp/program - && /tmp/program"
)


@pytest.fixture
def with_cross(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The toy for aarch64 by a cross compiler, with the emulator that it needs."""
    configs = world.ctx.root / "translation_configs"
    cross = 'cross = { hosts = ["linux-x86_64"], prefix = "aarch64-linux-gnu" }'
    head, table, row = (
        (configs / "platforms.toml").read_text().partition("[platforms.linux-aarch64]\n")
    )
    row = row.replace('modes = ["native"]', f'modes = ["cross"]\n{cross}', 1)
    (configs / "platforms.toml").write_text(f"{head}{table}{row}")
    environment = 'environment = "translate"'
    replace_text(configs / "toy.toml", environment, f"{environment}\ncross_{environment}")
    binfmt = world.ctx.root / "binfmt_misc"
    binfmt.mkdir()
    (binfmt / "qemu-aarch64").write_text("enabled\ninterpreter /qemu\nflags: POCF\n")
    monkeypatch.setattr(preflight, "BINFMT", binfmt)
    world.engine.answers[(PROGRAM_RUNS,)] = Answer(status=42)
    return world.again()


def cross_job_up_to(world: World, last: Stage) -> JobOutcome:
    (job,) = make_plan(world.ctx, platforms=("linux-aarch64",)).jobs
    return make_job(world.ctx, job, last)


def test_a_cross_translation_and_its_packages_are_made_on_the_host(with_cross: World) -> None:
    outcome = cross_job_up_to(with_cross, Stage.PACKAGE)

    engine = with_cross.engine
    tags = {image.image_id: tag for tag, image in engine.images.items()}
    assert outcome.package is not None
    assert [tags[step.image_id].rsplit("-", 1)[-1] for step in engine.steps] == ["amd64", "amd64"]
    assert len({step.image_id for step in engine.steps}) == 1
    _, arguments, _ = engine.built[-1]
    assert arguments["TARGET_ARCH"] == "arm64"


def test_a_cross_translation_begins_when_a_program_has_run_in_its_environment(
    with_cross: World,
) -> None:
    with_cross.engine.answers[(PROGRAM_RUNS,)] = Answer(status=126, stderr="exec format error")

    with pytest.raises(PreflightError, match="exec format error"):
        cross_job_up_to(with_cross, Stage.TRANSLATE)

    assert with_cross.engine.steps == []
    assert finished(with_cross) == {"source": 1}


def test_the_place_of_an_error_is_set_once(world: World) -> None:
    def fail(_step: object) -> Ran:
        error = SourceError("deep inside")
        error.where = "somewhere else"
        raise error

    world.engine.scripts["translate"] = fail

    with pytest.raises(SourceError) as caught:
        job_up_to(world)

    assert caught.value.where == "somewhere else"
    assert str(caught.value) == "deep inside"


def test_a_damaged_record_is_named_and_not_overwritten(world: World) -> None:
    outcome = job_up_to(world, Stage.SOURCE)
    record = outcome.source.directory / "record.json"
    record.write_bytes(b"{}")

    with pytest.raises(RecordError) as caught:
        job_up_to(world.again())

    assert caught.value.where == "source toy"
    assert str(record) in str(caught.value)
    assert record.read_bytes() == b"{}"


@pytest.mark.parametrize("last", [None, *JOB_STAGES[:-1]])
def test_a_dry_run_stops_at_the_first_unfinished_stage_and_does_nothing(
    last: Stage | None, world: World
) -> None:
    if last is not None:
        job_up_to(world, last)
    before, files = effects(world), contents(world.ctx.root)

    with pytest.raises(NotFinished) as caught:
        job_up_to(world.again(dry_run=True))

    reached = 0 if last is None else JOB_STAGES.index(last) + 1
    assert str(caught.value) == JOB_STAGES[reached]
    assert effects(world) == before
    assert contents(world.ctx.root) == files


def test_a_dry_run_of_a_finished_job_ends_well(world: World) -> None:
    job_up_to(world)

    outcome = job_up_to(world.again(dry_run=True))

    assert outcome.cached is True


@pytest.mark.parametrize(
    ("last", "stops_at"),
    [(Stage.VERIFY, Stage.SIGN), (Stage.SIGN, Stage.PUBLISH)],
)
def test_a_dry_run_signs_and_publishes_nothing(last: Stage, stops_at: Stage, world: World) -> None:
    if last is Stage.VERIFY:
        job_up_to(world)
    else:
        release_up_to(world, last)
    files = contents(world.ctx.root)

    with pytest.raises(NotFinished) as caught:
        release_up_to(world.again(dry_run=True))

    assert str(caught.value) == stops_at
    assert contents(world.ctx.root) == files


def test_a_key_that_expired_since_stops_a_release_that_is_signed_already(world: World) -> None:
    release_up_to(world, Stage.SIGN)
    expect_gpg(world.process, listing=secret_key(validity="e"))

    with pytest.raises(SigningKeyError, match="has expired") as caught:
        release_up_to(world.again())

    assert caught.value.where == "sign toy-v1.2.3"
    assert store_of(world).read(LEDGER_KEY) is None


def test_a_release_that_is_published_is_not_published_again(world: World) -> None:
    first = release_up_to(world)
    files = contents(store_of(world).root)

    second = release_up_to(world.again())

    assert (first.is_new, second.is_new) == (True, False)
    assert second.changed_indexes == ()
    assert contents(store_of(world).root) == files


def test_a_published_name_never_gets_other_bytes(world: World) -> None:
    release_up_to(world)
    files = contents(store_of(world).root)
    replace_text(world.ctx.root / "translation_configs" / "toy" / "README.md", "Toy", "Tool")

    with pytest.raises(ImmutableNameError, match="Release a new version") as caught:
        release_up_to(world.again())

    assert caught.value.where == "publish toy-v1.2.3"
    assert contents(store_of(world).root) == files


def test_a_signed_file_that_changed_is_not_published(world: World) -> None:
    signed = release_up_to(world, Stage.SIGN).signed
    (signed.directory / "SHA256SUMS").write_bytes(b"other")

    with pytest.raises(FetchBackError, match="SHA256SUMS: is not the file that was signed"):
        release_up_to(world.again())

    assert store_of(world).read(LEDGER_KEY) is None


# --- what is published already --------------------------------------------------------------


def test_a_published_release_is_neither_put_nor_fetched_again(world: World) -> None:
    release_up_to(world)
    world.public.asked.clear()
    store = store_of(world)
    written = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}

    again = release_up_to(world.again())

    assert world.public.asked == []
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert again.event == state_of(world).releases[0].published


def release_with_image(world: World, registry: FakeRegistry) -> ReleaseOutcome:
    """Release the toy with an image that was made by hand, up to the ledger."""
    plan = make_plan(world.ctx)
    directory = world.ctx.work.root / "images"
    record = BuiltImages(images=(make_image(directory, b"toy"),))
    images = Done(record=record, key="k", directory=directory, seconds=0.0, cached=True)
    jobs = tuple(
        replace(make_job(world.ctx, job, Stage.VERIFY), images=images) for job in plan.jobs
    )
    channel = replace(channel_of(world), registry=registry)
    return make_release(world.ctx, plan.releases[0], jobs, channel, Stage.LEDGER)


def test_images_that_the_registry_lost_since_are_pushed_again(world: World) -> None:
    registry = FakeRegistry()
    first = release_with_image(world, registry)
    registry.requests.clear()
    release_with_image(world.again(), registry)
    complete = list(registry.requests)
    del registry.manifests["demo", first.manifest.images[0].digest]
    with pytest.raises(NotFinished, match="publish"):
        release_with_image(world.again(dry_run=True), registry)
    world.public.asked.clear()

    release_with_image(world.again(), registry)

    assert complete == []
    assert registry.requests == [f"put {first.manifest.images[0].digest}"]
    assert world.public.asked == []


def test_before_it_is_announced_every_file_is_fetched_as_readers_get_it(world: World) -> None:
    world.public.gets["toy/toy-v1.2.3/toy-v1.2.3-linux64.tar.gz"] = b"from an old cache"

    with pytest.raises(FetchBackError, match="The release was not announced") as caught:
        release_up_to(world)

    assert caught.value.where == "publish toy-v1.2.3"
    assert store_of(world).read(LEDGER_KEY) is None


def test_what_readers_did_not_get_is_announced_once_they_do(world: World) -> None:
    world.public.gets["toy/toy-v1.2.3/SHA256SUMS"] = None
    with pytest.raises(FetchBackError):
        release_up_to(world)
    world.public.gets.clear()

    outcome = release_up_to(world.again())

    assert outcome.is_new is True
    assert {key for _, key in world.public.asked} == {
        f"toy/toy-v1.2.3/{name}" for name in outcome.release.urls
    }


@pytest.mark.parametrize("filename", ["toy-v1.2.3-linux64.tar.gz", "SHA256SUMS", "KEY.asc"])
def test_a_file_of_a_published_release_that_is_missing_is_put_again(
    world: World, filename: str
) -> None:
    release_up_to(world)
    data = in_store(world, filename).read_bytes()
    in_store(world, filename).unlink()
    world.public.asked.clear()

    outcome = release_up_to(world.again())

    assert outcome.is_new is False
    assert in_store(world, filename).read_bytes() == data
    assert len(world.public.asked) == len(outcome.files)
    assert state_of(world).sequence == 1


def test_a_file_of_a_published_release_that_was_changed_is_refused(world: World) -> None:
    release_up_to(world)
    in_store(world, "SHA256SUMS").write_bytes(b"other")

    with pytest.raises(ImmutableNameError, match="SHA256SUMS: already stands for other bytes"):
        release_up_to(world.again())


def test_a_release_that_was_signed_again_is_still_the_published_one(world: World) -> None:
    """A signature holds the time; what the ledger lists is what counts."""
    first = release_up_to(world)
    signed = first.signed.directory
    expect_gpg(world.process)
    for path in signed.iterdir():
        path.unlink()
    signed.rmdir()
    world.process.expect(
        "gpg",
        "--armor",
        "--export",
        answer=Answer(stdout=b"armoured key, extended\n"),
    )

    outcome = release_up_to(world.again())

    assert (outcome.is_new, outcome.changed_indexes) == (False, ())
    assert outcome.files == first.files
    assert outcome.signed.record != first.signed.record


@pytest.mark.parametrize("staged", [False, True])
def test_a_release_of_which_no_indexes_could_be_made_is_refused_before_anything_is_put(
    world: World, *, staged: bool
) -> None:
    """A platform whose row is gone, or two ABIs of one Python: as an event it would block all."""
    rows = {name: row for name, row in world.ctx.config.platforms.items() if name != "linux-x86_64"}
    plan = make_plan(world.ctx)
    jobs = tuple(make_job(world.ctx, job, Stage.VERIFY) for job in plan.jobs)
    release = plan.releases[0].model_copy(update={"staged": staged})
    config = world.ctx.config.model_copy(update={"platforms": rows})
    ctx = replace(world.ctx, config=config)

    with pytest.raises(UnknownNameError, match="unknown platform 'linux-x86_64'") as caught:
        make_release(ctx, release, jobs, channel_of(world), Stage.PROJECTIONS)

    assert caught.value.where == "publish toy-v1.2.3"
    assert not store_of(world).root.exists()


def test_a_pruned_nightly_is_not_put_again(world: World) -> None:
    plan = make_plan(world.ctx, channel="nightly")
    jobs = tuple(make_job(world.ctx, job, Stage.VERIFY) for job in plan.jobs)
    channel = channel_of(world)

    def make() -> ReleaseOutcome:
        return make_release(world.ctx, plan.releases[0], jobs, channel, Stage.PROJECTIONS)

    outcome = make()
    add(world, pruning("toy", outcome.release.release, Stamp(at=NOW, by="me", reason="old")))
    for artifact in outcome.files:
        channel.store.remove(f"toy/{outcome.release.release}/{artifact.filename}")
    make_release_directory = store_of(world).root / "toy" / outcome.release.release

    with pytest.raises(EventError, match="was pruned on 2026-11-21") as caught:
        make()

    assert caught.value.where == f"publish {outcome.release.release}"
    assert not make_release_directory.exists()


def add(world: World, decide: Decide) -> None:
    append(store_of(world), FakeNotary(), decide, lambda _seconds: None)


def test_the_event_says_what_was_released_and_by_whom(world: World) -> None:
    outcome = release_up_to(world)

    event = outcome.event
    assert isinstance(event, Published)
    assert (event.by, event.at, event.reason) == ("tester", NOW, "release of 1.2.3")
    assert event.files == outcome.files
    assert event.manifest_sha256 == outcome.signed.record.manifest.sha256
    assert event.input_key == outcome.manifest.input_key
    assert [(row.platform, row.jit, row.glibc_floor) for row in event.platforms] == [
        ("linux-x86_64", True, "2.31")
    ]


def test_files_are_put_with_their_types_and_the_ledger_signed_with_the_channels_key(
    world: World,
) -> None:
    channel = open_channel(world.ctx)

    outcome = release_up_to(world, channel=channel)

    assert {item.kind for item in outcome.files} <= set(CONTENT_TYPES)
    assert world.process.ran("gpg", "--detach-sign") == 2
    assert read_ledger(channel.store, open_channel(world.ctx).notary).ledger.sequence == 1


@pytest.fixture
def mirrored(world: World, tmp_path: Path) -> OpenChannel:
    """The channel with a mirror."""
    channel = channel_of(world)
    mirror = Site(store=LocalStore(tmp_path / "mirror"), base_url="https://mirror.test")
    return replace(channel, sites=(*channel.sites, mirror))


def test_a_release_exists_when_every_mirror_has_it(
    world: World, mirrored: OpenChannel, tmp_path: Path
) -> None:
    outcome = release_up_to(world, channel=mirrored)

    first, mirror = (contents(root) for root in (store_of(world).root, tmp_path / "mirror"))
    assert {url for url, _ in world.public.asked} == {
        "https://downloads.test",
        "https://mirror.test",
    }
    released = {key: data for key, data in first.items() if "toy-v1.2.3/" in key}
    assert len(released) == len(outcome.files)
    assert released.items() <= mirror.items()
    assert first["ledger.json"] == mirror["ledger.json"]
    assert b"https://mirror.test/toy/" in mirror["toy/versions.json"]


def test_a_mirror_that_does_not_give_a_file_keeps_it_from_being_announced(
    world: World, mirrored: OpenChannel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = world.public.reader

    def reader(store: LocalStore, base_url: str) -> object:
        if store.root == tmp_path / "mirror":
            world.public.gets["toy/toy-v1.2.3/SHA256SUMS"] = None
        return real(store, base_url)

    monkeypatch.setattr(world.public, "reader", reader)

    with pytest.raises(FetchBackError, match=r"^https://mirror\.test/toy/toy-v1\.2\.3/SHA256SUMS"):
        release_up_to(world, channel=mirrored)

    assert store_of(world).read(LEDGER_KEY) is None


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_release_is_copied_to_github_once_the_indexes_have_it(
    world: World, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool
) -> None:
    release_up_to(world, Stage.PROJECTIONS if dry_run else Stage.LEDGER)
    copied: list[tuple[object, bool]] = []

    def copy(*arguments: object) -> Iterator[None]:
        copied.append((arguments[-1], "toy-v1.2.3" in index(world)))
        yield from ()

    monkeypatch.setattr(stages, "copy_releases", copy)
    github = GithubReleases(
        GithubConfig(repository="toy/toy"), "token", RetryPolicy(sleep=lambda _seconds: None)
    )

    release_up_to(world.again(dry_run=dry_run), channel=replace(channel_of(world), github=github))

    assert copied == ([] if dry_run else [({"toy-v1.2.3"}, True)])


# --- staged ---------------------------------------------------------------------------------


def index(world: World) -> str:
    return (store_of(world).root / "toy" / "versions.json").read_text(encoding="utf-8")


def test_a_staged_release_is_public_but_in_no_index(world: World) -> None:
    outcome = release_up_to(world, staged=True)

    assert outcome.is_new is True
    assert in_store(world, "toy-v1.2.3-linux64.tar.gz").is_file()
    assert "toy-v1.2.3" not in index(world)


def test_a_staged_release_is_offered_once_it_is_promoted_with_the_same_bytes(world: World) -> None:
    release_up_to(world, staged=True)
    before = contents(store_of(world).root / "toy" / "toy-v1.2.3")
    add(world, promotion("toy", "toy-v1.2.3", Stamp(at=NOW, by="me", reason="tested")))

    outcome = release_up_to(world.again())

    assert outcome.changed_indexes
    assert "toy-v1.2.3-linux64.tar.gz" in index(world)
    assert contents(store_of(world).root / "toy" / "toy-v1.2.3") == before


def test_making_a_staged_release_again_does_not_promote_it(world: World) -> None:
    release_up_to(world, staged=True)

    outcome = release_up_to(world.again())

    assert outcome.is_new is False
    assert "toy-v1.2.3" not in index(world)


# --- input keys -----------------------------------------------------------------------------


def nightly_of(world: World, *platforms: str) -> ReleasePlan:
    plan = make_plan(world.ctx, platforms=platforms or ("linux-x86_64",), channel="nightly")
    return plan.releases[0]


def test_what_decides_a_release_is_known_before_it_is_translated(world: World) -> None:
    before = input_key(world.ctx, nightly_of(world))
    assert world.engine.steps == []

    outcome = release_up_to(world)

    assert before == outcome.manifest.input_key


def test_a_dry_run_knows_the_inputs_of_what_was_made_and_makes_nothing(world: World) -> None:
    dry = world.again(dry_run=True)
    assert input_key(dry.ctx, nightly_of(dry)) is None
    assert finished(world) == {}
    job_up_to(world, Stage.SOURCE)
    assert input_key(dry.ctx, nightly_of(dry)) is None
    key = input_key(world.ctx, nightly_of(world))
    before = effects(world)

    assert input_key(dry.ctx, nightly_of(dry)) == key
    assert effects(world) == before


def test_other_source_has_another_input_key(world: World) -> None:
    before = input_key(world.ctx, nightly_of(world))
    replace_text(world.ctx.root / "translation_configs" / "toy" / "target.py", "main", "other")

    other = world.again()
    assert input_key(other.ctx, nightly_of(other)) != before


def test_another_compiler_has_another_input_key(world: World) -> None:
    """Though the source is the same."""
    before = input_key(world.ctx, nightly_of(world))
    replace_text(
        world.ctx.root / "dockerfiles" / "translate.Dockerfile", "FROM", "# a newer one\nFROM"
    )
    world.engine.packages = "gcc 14.2 amd64\npypy 7.3.3 amd64\n"

    other = world.again()
    assert input_key(other.ctx, nightly_of(other)) != before


def test_another_platform_has_another_input_key(world: World) -> None:
    keys = {
        input_key(world.ctx, nightly_of(world, *names))
        for names in (("linux-x86_64",), ("linux-x86_64_v3",), ("linux-x86_64", "linux-x86_64_v3"))
    }

    assert len(keys) == 3


def test_each_platforms_environment_is_that_of_its_own_engine(world: World) -> None:
    elsewhere = FakeEngine()
    ctx = replace(world.ctx, engines={"linux-x86_64": elsewhere})

    input_key(ctx, nightly_of(world, "linux-x86_64", "linux-x86_64_v3"))

    bases_and_environments = [len(engine.built) for engine in (elsewhere, world.engine)]
    assert bases_and_environments == [2, 2]


@pytest.mark.parametrize("last", RELEASE_STAGES)
def test_a_release_stops_after_the_stage_asked_for(last: Stage, world: World) -> None:
    outcome = release_up_to(world, last)

    store = store_of(world)
    published = store.stored("toy/toy-v1.2.3/toy-v1.2.3-linux64.tar.gz") is not None
    assert published is (last is not Stage.SIGN)
    assert (store.read(LEDGER_KEY) is not None) is (last in {Stage.LEDGER, Stage.PROJECTIONS})
    assert bool(outcome.changed_indexes) is (last is Stage.PROJECTIONS)


def test_a_dry_run_makes_no_quickstart_key(tmp_path: Path) -> None:
    world = make_world(tmp_path, key="quickstart")
    world.process.expect("gpg", "--list-secret-keys", answer=Answer(stdout=""))
    generate = Answer(effect=lambda _argv: expect_gpg(world.process))
    world.process.expect("gpg", "--generate-key", answer=generate)
    world.process.expect("gpgconf")
    job_up_to(world)

    with pytest.raises(NotFinished, match=Stage.SIGN):
        release_up_to(world.again(dry_run=True))

    assert world.process.ran("gpg", "--generate-key") == 0
    assert not world.ctx.work.path("keys").exists()


def test_a_dry_run_of_a_published_release_writes_no_index(world: World) -> None:
    release_up_to(world)
    (store_of(world).root / "toy" / "versions.json").unlink()
    files = contents(store_of(world).root)

    with pytest.raises(NotFinished, match=Stage.PROJECTIONS):
        release_up_to(world.again(dry_run=True))

    assert contents(store_of(world).root) == files


def test_a_dry_run_of_a_published_release_puts_no_file(world: World) -> None:
    release_up_to(world)
    (store_of(world).root / "toy" / "toy-v1.2.3" / "SHA256SUMS").unlink()
    files = contents(store_of(world).root)

    with pytest.raises(NotFinished, match=Stage.PUBLISH):
        release_up_to(world.again(dry_run=True))

    assert contents(store_of(world).root) == files
