"""Self-hosting: which release translates, and that its bytes are those of the ledger."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.bootstrap import newest_release, with_bootstraps
from pipeline.effects.engine import ContainerStep
from pipeline.effects.files import describe, sha256_of
from pipeline.effects.store import LocalStore, OnBytes, Stored, Tagged, ignore_bytes
from pipeline.errors import DigestMismatchError, SourceError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.configs import ReleaseBootstrap
from pipeline.model.ledger import Published, State, Yanked
from pipeline.model.platforms import Mode
from pipeline.model.records import BootstrapRelease
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Plan
from pipeline.publish.ledger import append, read_ledger
from pipeline.publish.sites import OpenChannel
from pipeline.run import run_plan
from pipeline.stages import Stage
from pipeline.translate.bootstrap import bootstrap_path
from tests.factories import changed, later, make_event, make_nightly, make_state
from tests.fakes import (
    FakeNotary,
    Ran,
    World,
    given_files,
    make_plan,
    make_world,
    open_channel,
    replace_text,
    translated,
    unexpected,
)

X86_64: Final = "linux-x86_64"
AARCH64: Final = "linux-aarch64"
IMAGE: Final = 'kind = "image"\nargv = ["pypy", "-S"]'
RELEASE: Final = 'kind = "release"\ninterpreter = "toy"\noptions = ["-S"]'

Publish = Callable[..., Published]


# --- which release --------------------------------------------------------------------------


WANTED: Final = ReleaseBootstrap(kind="release", interpreter="pypy2.7")


def newest(
    *events: Published,
    platform: str = X86_64,
    wanted: ReleaseBootstrap = WANTED,
    older_than: str | None = None,
) -> str:
    """Return the name of the release that is taken."""
    limit = None if older_than is None else InterpreterVersion.parse(older_than)
    event, _ = newest_release(make_state(*events), wanted, platform, limit)
    return event.release


def pypy(version: str, *platforms: str, **overrides: Any) -> Published:
    """Return the event that published a version of PyPy 2.7."""
    return make_event("pypy2.7", version, platforms or (X86_64,), **overrides)


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param(("7.3.22", "7.3.23"), id="published last"),
        pytest.param(("7.3.23", "7.3.22"), id="published first"),
        pytest.param(("7.3.9", "7.3.23", "6.9.99"), id="not by its digits"),
    ],
)
def test_the_newest_version_is_taken_whenever_it_was_published(versions: Sequence[str]) -> None:
    assert newest(*(pypy(version) for version in versions)) == "pypy2.7-v7.3.23"


def test_a_version_that_is_named_is_taken_though_there_is_a_newer_one() -> None:
    wanted = ReleaseBootstrap(
        kind="release", interpreter="pypy2.7", version=InterpreterVersion.parse("7.3.22")
    )

    assert newest(pypy("7.3.22"), pypy("7.3.23"), wanted=wanted) == "pypy2.7-v7.3.22"


def test_what_translates_itself_takes_an_older_release() -> None:
    """Or a release that is run again would be translated by itself, and come out under new keys."""
    events = (pypy("7.3.22"), pypy("7.3.23"))

    assert newest(*events, older_than="7.3.23") == "pypy2.7-v7.3.22"


@pytest.mark.parametrize("version", ["7.3.24rc1", "8.0.0b1", "8.0.0a0"])
def test_what_is_not_final_does_not_translate(version: str) -> None:
    assert newest(pypy("7.3.23"), pypy(version)) == "pypy2.7-v7.3.23"


def test_a_nightly_does_not_translate() -> None:
    nightly = make_nightly(interpreter="pypy2.7", interpreter_version="7.3.24")

    assert newest(pypy("7.3.23"), nightly) == "pypy2.7-v7.3.23"


def test_a_release_that_was_yanked_does_not_translate() -> None:
    event = pypy("7.3.24")

    state = make_state(pypy("7.3.23"), event, later(Yanked, event))

    found, _ = newest_release(state, WANTED, X86_64, None)
    assert found.release == "pypy2.7-v7.3.23"


def test_a_staged_release_does_not_translate() -> None:
    assert newest(pypy("7.3.23"), pypy("7.3.24", staged=True)) == "pypy2.7-v7.3.23"


def test_another_interpreter_does_not_translate() -> None:
    assert newest(pypy("7.3.23"), make_event("pypy3.11", "7.3.24")) == "pypy2.7-v7.3.23"


def test_a_newer_release_for_another_platform_only_is_passed_over() -> None:
    events = (pypy("7.3.22", X86_64, AARCH64), pypy("7.3.23", AARCH64))

    assert newest(*events) == "pypy2.7-v7.3.22"
    assert newest(*events, platform=AARCH64) == "pypy2.7-v7.3.23"


def test_the_archive_is_the_platform_s_without_its_debug_symbols() -> None:
    event = pypy("7.3.23", AARCH64, X86_64)
    (wanted,) = (item for item in event.files if item.filename == "pypy2.7-v7.3.23-linux64.tar.zst")
    symbols = wanted.model_copy(
        update={
            "kind": ArtifactKind.DEBUG_ZST,
            "filename": "pypy2.7-v7.3.23-linux64-debug.tar.zst",
        }
    )
    event = event.model_copy(update={"files": (symbols, *event.files)})

    _, artifact = newest_release(make_state(event), WANTED, X86_64, None)

    assert artifact == wanted


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((), id="nothing"),
        pytest.param((pypy("7.3.23rc1"),), id="candidate"),
        pytest.param((pypy("7.3.23", AARCH64),), id="platform"),
        pytest.param((make_event("pypy3.11"),), id="interpreter"),
    ],
)
def test_without_a_release_the_message_tells_what_to_do(events: Sequence[Published]) -> None:
    with pytest.raises(SourceError) as caught:
        newest(*events)

    assert str(caught.value) == (
        "the store has no final release of pypy2.7 for linux-x86_64 to translate with. Release it "
        'first, or take the image\'s: translation.bootstrap = { kind = "image" }.'
    )


# --- from the store into the cache ----------------------------------------------------------


class WatchedStore(LocalStore):
    """A store that notes what is read of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.keys: list[str] = []

    def read(self, key: str) -> Tagged | None:
        """Return an object, and note its key."""
        self.keys.append(key)
        return super().read(key)


class ClosedStore(LocalStore):
    """A store of which nothing may be asked."""

    def put_new(
        self,
        key: str,
        path: Path,  # noqa: ARG002
        *,
        content_type: str,  # noqa: ARG002
        sha256: str | None = None,  # noqa: ARG002
        on_bytes: OnBytes = ignore_bytes,  # noqa: ARG002
    ) -> bool:
        """Refuse."""
        return unexpected(f"put {key}")

    def stored(self, key: str) -> Stored | None:
        """Refuse."""
        return unexpected(f"look at {key}")

    def read(self, key: str) -> Tagged | None:
        """Refuse."""
        return unexpected(f"read {key}")

    def replace(self, key: str, data: bytes, *, tag: str | None, content_type: str) -> None:  # noqa: ARG002
        """Refuse."""
        unexpected(f"replace {key}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world in which toy translates gem."""
    made = make_world(tmp_path / "project")
    replace_text(made.ctx.root / "translation_configs" / "gem.toml", IMAGE, RELEASE)
    return made.again()


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    """An empty store."""
    return WatchedStore(tmp_path / "store")


@pytest.fixture
def publish(store: WatchedStore, tmp_path: Path) -> Publish:
    """Give a function that publishes a version of toy, each archive with its name as content."""

    def published(version: str, *platforms: str) -> Published:
        release = f"toy-v{version}"
        files = tuple(archive(release, platform) for platform in platforms or (X86_64,))
        event = make_event("toy", version, product="toy", files=files, language_version="1.0")
        append(store, FakeNotary(), lambda state: changed(event, sequence=state.sequence + 1))
        store.keys.clear()
        return event

    def archive(release: str, platform: str) -> Artifact:
        path = tmp_path / f"{release}-{platform}.tar.zst"
        path.write_text(path.name)
        key = naming.store_key("toy", release, path.name)
        store.put_new(key, path, content_type="application/zstd")
        return describe(path, ArtifactKind.ARCHIVE_ZST, platform)

    return published


def channel_of(world: World, store: LocalStore) -> OpenChannel:
    """Return the channel with this store."""
    return open_channel(world.ctx, notary=FakeNotary(), store=store)


def bootstraps(plan: Plan) -> dict[str, str | None]:
    """Return the release that translates each job."""
    return {
        job.identifier: None if job.bootstrap is None else job.bootstrap.release
        for job in plan.jobs
    }


def cached(world: World) -> dict[str, str]:
    """Return the archives in the cache with their contents."""
    found = world.ctx.work.path("cache", "bootstrap").rglob("*.zst")
    return {path.name: path.read_text(encoding="utf-8") for path in found}


def in_store(store: LocalStore, event: Published) -> Path:
    """Return where in the store the one archive of *event* is."""
    return store.root / naming.store_key("toy", event.release, event.files[0].filename)


def test_a_job_gets_the_newest_release_and_the_name_of_its_program(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    event = publish("1.2.3")
    publish("1.2.2")

    plan = with_bootstraps(world.ctx, make_plan(world.ctx, "gem"), channel_of(world, store))

    assert [job.bootstrap for job in plan.jobs] == [
        BootstrapRelease(release="toy-v1.2.3", artifact=event.files[0], executable="toy")
    ]


def test_a_release_is_fetched_into_the_cache_under_its_digest(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    event = publish("1.2.3")

    (job,) = with_bootstraps(world.ctx, make_plan(world.ctx, "gem"), channel_of(world, store)).jobs

    assert job.bootstrap is not None
    path = bootstrap_path(world.ctx, job.bootstrap)
    assert sha256_of(path) == event.files[0].sha256
    assert cached(world) == {path.name: "toy-v1.2.3-linux-x86_64.tar.zst"}


def test_only_the_jobs_that_want_a_release_get_one(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    publish("1.2.3")
    plan = make_plan(world.ctx, "toy", "gem")

    found = with_bootstraps(world.ctx, plan, channel_of(world, store))

    assert bootstraps(found) == {"toy-linux-x86_64": None, "gem-linux-x86_64": "toy-v1.2.3"}
    assert found.releases[0] == plan.releases[0]


def test_a_plan_is_the_same_but_for_its_bootstrap_releases(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    publish("1.2.3")
    plan = make_plan(world.ctx, "gem")

    found = with_bootstraps(world.ctx, plan, channel_of(world, store))

    jobs = tuple(job.model_copy(update={"bootstrap": None}) for job in found.jobs)
    (release,) = (item.model_copy(update={"jobs": jobs}) for item in found.releases)
    assert found.model_copy(update={"releases": (release,)}) == plan


def test_each_platform_is_translated_by_its_own_archive(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    other = "linux-x86_64_v3"
    publish("1.2.3", X86_64, other)

    plan = make_plan(world.ctx, "gem", platforms=(X86_64, other))
    found = with_bootstraps(world.ctx, plan, channel_of(world, store))

    assert [job.bootstrap.artifact.platform for job in found.jobs if job.bootstrap] == [
        X86_64,
        other,
    ]
    assert len(cached(world)) == 2


def test_a_cross_translation_is_run_by_the_hosts_archive(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    publish("1.2.3", AARCH64, X86_64)
    plan = make_plan(world.ctx, "gem")
    target = world.ctx.config.platforms[AARCH64]
    (job,) = (job.model_copy(update={"platform": target, "mode": Mode.CROSS}) for job in plan.jobs)
    release = plan.releases[0].model_copy(update={"jobs": (job,)})

    found = with_bootstraps(
        world.ctx, plan.model_copy(update={"releases": (release,)}), channel_of(world, store)
    )

    assert [job.bootstrap.artifact.platform for job in found.jobs if job.bootstrap] == [X86_64]


def test_one_platform_alone_may_be_translated_by_a_release(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    other = "linux-x86_64_v3"
    publish("1.2.3", X86_64, other)
    gem = world.ctx.root / "translation_configs" / "gem.toml"
    replace_text(gem, RELEASE, IMAGE)
    own = f'[translation.platforms.{other}.bootstrap]\nkind = "release"\ninterpreter = "toy"\n'
    gem.write_text(f"{gem.read_text()}\n{own}")
    ctx = world.again().ctx

    found = with_bootstraps(
        ctx, make_plan(ctx, "gem", platforms=(X86_64, other)), channel_of(world, store)
    )

    assert bootstraps(found) == {f"gem-{X86_64}": None, f"gem-{other}": "toy-v1.2.3"}


def test_nothing_is_asked_of_the_store_if_no_job_wants_a_release(
    world: World, tmp_path: Path
) -> None:
    plan = make_plan(world.ctx, "toy")

    assert (
        with_bootstraps(world.ctx, plan, channel_of(world, ClosedStore(tmp_path / "closed")))
        == plan
    )


def test_a_release_is_fetched_once(world: World, store: WatchedStore, publish: Publish) -> None:
    publish("1.2.3")
    plan = make_plan(world.ctx, "gem")
    first = with_bootstraps(world.ctx, plan, channel_of(world, store))
    store.keys.clear()

    assert with_bootstraps(world.ctx, plan, channel_of(world, store)) == first
    assert store.keys == [naming.LEDGER_KEY]


def test_a_dry_run_fetches_nothing(world: World, store: WatchedStore, publish: Publish) -> None:
    publish("1.2.3")
    dry = world.again(dry_run=True)

    (job,) = with_bootstraps(dry.ctx, make_plan(dry.ctx, "gem"), channel_of(world, store)).jobs

    assert job.bootstrap is not None
    assert store.keys == [naming.LEDGER_KEY]
    assert cached(world) == {}


def test_a_damaged_file_in_the_cache_is_fetched_again(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    publish("1.2.3")
    plan = make_plan(world.ctx, "gem")
    (job,) = with_bootstraps(world.ctx, plan, channel_of(world, store)).jobs
    assert job.bootstrap is not None
    bootstrap_path(world.ctx, job.bootstrap).write_text("damaged")

    with_bootstraps(world.ctx, plan, channel_of(world, store))

    assert list(cached(world).values()) == ["toy-v1.2.3-linux-x86_64.tar.zst"]


def test_a_file_that_was_changed_in_the_store_is_refused_and_not_kept(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    event = publish("1.2.3")
    in_store(store, event).write_text("changed")

    with pytest.raises(DigestMismatchError) as caught:
        with_bootstraps(world.ctx, make_plan(world.ctx, "gem"), channel_of(world, store))

    message = str(caught.value)
    assert message.startswith("toy/toy-v1.2.3/toy-v1.2.3-linux-x86_64.tar.zst: ")
    assert event.files[0].sha256 in message
    assert sha256_of(in_store(store, event)) in message
    assert message.endswith("The store's file was changed after it was published; restore it.")
    assert cached(world) == {}


def test_a_file_that_is_not_in_the_store_is_an_error_with_a_remedy(
    world: World, store: WatchedStore, publish: Publish
) -> None:
    in_store(store, publish("1.2.3")).unlink()

    with pytest.raises(SourceError) as caught:
        with_bootstraps(world.ctx, make_plan(world.ctx, "gem"), channel_of(world, store))

    assert str(caught.value) == (
        "toy/toy-v1.2.3/toy-v1.2.3-linux-x86_64.tar.zst: is in the ledger, but not in the store. "
        "Run: python -m pipeline publish toy"
    )


def test_a_store_without_a_release_is_refused_before_anything_is_fetched(
    world: World, store: WatchedStore
) -> None:
    with pytest.raises(SourceError, match="the store has no final release of toy for linux-x86_64"):
        with_bootstraps(world.ctx, make_plan(world.ctx, "gem"), channel_of(world, store))

    assert read_ledger(store, FakeNotary()).state == State()
    assert not world.ctx.work.path("cache").exists()


# --- one release translates the next --------------------------------------------------------


def test_what_was_released_translates_in_the_container(world: World, tmp_path: Path) -> None:
    channel = channel_of(world, LocalStore(tmp_path / "store"))
    run_plan(world.ctx, make_plan(world.ctx, "toy"), channel, Stage.PROJECTIONS)
    given: list[dict[str, bytes]] = []

    def look(step: ContainerStep) -> Ran:
        given.append(given_files(step))
        return translated(step)

    world.engine.scripts["translate"] = look

    plan = with_bootstraps(world.ctx, make_plan(world.ctx, "gem"), channel)
    run_plan(world.ctx, plan, channel, Stage.TRANSLATE)

    command = next(step.command for step in reversed(world.engine.steps) if step.name[0] == "t")
    start = command.index("--addr-no-randomize") + 1
    assert command[start : start + 3] == ("/build/bootstrap/bin/toy", "-S", "-m")
    assert {"build/bootstrap/bin/toy", "build/bootstrap/LICENSE"} <= set(given[0])
