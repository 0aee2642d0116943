"""Doctor says of every store whether publishing can rely on it."""

from pathlib import Path

import pytest

from pipeline import store_checks
from pipeline.effects.s3_store import ConditionalPuts, S3Store
from pipeline.engine_checks import CheckResult, Status
from pipeline.errors import StoreError
from pipeline.model.configs import ChannelConfig, S3Options, StoreConfig
from tests.factories import changed
from tests.fakes import World, make_world

MIRROR = StoreConfig(store="s3://bucket/place", base_url="https://mirror.test", s3=S3Options())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world in which all works."""
    return make_world(tmp_path / "project")


def results(world: World, *mirrors: StoreConfig, store: str = "store") -> dict[str, CheckResult]:
    """Return what is said of the release channel's stores."""
    config = world.ctx.config.channels.release
    channel: ChannelConfig = changed(config, store=store, mirrors=mirrors)
    return {item.name: item for item in store_checks.check_stores(world.ctx, channel)}


def answering(monkeypatch: pytest.MonkeyPatch, answer: ConditionalPuts | StoreError) -> None:
    """Make the bucket's server answer the probe."""

    class Bucket(S3Store):
        def __init__(self) -> None:
            pass

        def probe_conditional_puts(self) -> ConditionalPuts:
            if isinstance(answer, StoreError):
                raise answer
            return answer

    monkeypatch.setattr(store_checks, "open_store", lambda _config, _root: Bucket())


def test_a_directory_that_can_be_made_is_good(world: World) -> None:
    (found,) = results(world).values()

    assert (found.name, found.status) == ("store store", Status.OK)
    assert not (world.ctx.work.root / "store").exists()


def test_a_directory_in_a_files_place_is_not(world: World) -> None:
    world.ctx.work.root.mkdir(exist_ok=True)
    (world.ctx.work.root / "file").write_text("")

    (found,) = results(world, store="file/store").values()

    assert found.status is Status.FAILED
    assert str(world.ctx.work.root / "file") in (found.fix or "")


@pytest.mark.parametrize(
    ("kept", "status", "said"),
    [
        ((True, True, True), Status.OK, "takes conditional puts"),
        ((False, True, True), Status.WARNING, "does not keep to If-None-Match"),
        ((True, False, True), Status.WARNING, "If-None-Match on multipart uploads"),
        ((True, True, False), Status.FAILED, "does not keep to If-Match"),
    ],
    ids=["all", "no-puts", "no-completion", "no-replacement"],
)
def test_a_bucket_is_judged_by_what_its_server_keeps_to(
    kept: tuple[bool, bool, bool],
    status: Status,
    said: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    puts, completion, replacement = kept
    answering(
        monkeypatch,
        ConditionalPuts(if_none_match=puts, completion=completion, if_match=replacement),
    )

    found = results(world, MIRROR)["store s3://bucket/place"]

    assert found.status is status
    assert said in found.found


def test_a_bucket_that_cannot_be_used_says_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, StoreError("s3://bucket/place: HTTP 403. Check the credentials."))

    found = results(world, MIRROR)["store s3://bucket/place"]

    assert (found.status, found.fix) == (
        Status.FAILED,
        "s3://bucket/place: HTTP 403. Check the credentials.",
    )
