"""Everything that readers see follows the ledger, each part as far as it can."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import DestinationError, FetchBackError, PipelineError
from pipeline.model.homebrew import TapConfig
from pipeline.model.images import IMAGE_MANIFEST_TYPE
from pipeline.publish import destinations
from pipeline.publish.ledger import append
from pipeline.publish.sites import OpenChannel
from pipeline.publish.tags import TagChanges
from tests.factories import changed, make_event
from tests.fakes import FakeNotary, World, make_world, open_channel
from tests.images import FakeRegistry, make_published_images

TAP = TapConfig(repository="file:///tap.git", author="Me <me@example.org>")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def channel(world: World) -> OpenChannel:
    """A channel with a registry and a tap."""
    channel = open_channel(world.ctx, notary=FakeNotary())
    config = changed(channel.config, tap=TAP)
    return replace(channel, config=config, registry=FakeRegistry())


def giving(name: str, said: list[str], error: PipelineError | None = None) -> Callable[..., object]:
    def write(*_arguments: object, **_options: object) -> object:
        said.append(name)
        if error is not None:
            raise error
        return TagChanges(changed=(name,), left=()) if name == "tags" else [name]

    return write


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Give a function that replaces the three parts, some by ones that fail."""

    def replaced(**errors: PipelineError) -> list[str]:
        said: list[str] = []
        for name, function in (("indexes", "project"), ("tags", "move_tags"), ("tap", "write_tap")):
            part = giving(name, said, errors.get(name))
            monkeypatch.setattr(destinations, function, part)
        return said

    return replaced


def test_indexes_come_first_and_the_tap_last(
    world: World, channel: OpenChannel, parts: Callable[..., list[str]]
) -> None:
    said = parts()

    assert destinations.project_everywhere(world.ctx, channel) == ["indexes", "tags", "tap"]
    assert said == ["indexes", "tags", "tap"]


def test_a_channel_without_registry_and_tap_has_indexes_only(
    world: World, parts: Callable[..., list[str]]
) -> None:
    parts()

    plain = open_channel(world.ctx, notary=FakeNotary())

    assert destinations.project_everywhere(world.ctx, plain) == ["indexes"]


def test_a_part_that_fails_holds_back_no_other_and_is_the_error(
    world: World, channel: OpenChannel, parts: Callable[..., list[str]]
) -> None:
    said = parts(
        indexes=FetchBackError("a mirror lacks files"), tags=DestinationError("403 of tags")
    )

    with pytest.raises(FetchBackError, match="a mirror lacks files"):
        destinations.project_everywhere(world.ctx, channel)

    assert said == ["indexes", "tags", "tap"]
    assert "403 of tags" in world.text.getvalue()


def test_tags_that_cannot_go_are_told_with_what_to_do(
    world: World,
    channel: OpenChannel,
    parts: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts()
    left = TagChanges(changed=(), left=("registry.test/pypy:3.11-7.3.23",))
    monkeypatch.setattr(destinations, "move_tags", lambda *_arguments: left)

    destinations.project_everywhere(world.ctx, channel)

    told = world.text.getvalue()
    assert "registry.test/pypy:3.11-7.3.23: should be gone" in told
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in told


def test_an_exact_tag_that_led_elsewhere_is_told_once(tmp_path: Path) -> None:
    world, registry = make_world(tmp_path), FakeRegistry()
    channel = replace(open_channel(world.ctx, notary=FakeNotary()), registry=registry)
    images = make_published_images(suites=("trixie",), variants=("",), platforms=("linux-x86_64",))
    event = changed(make_event(images=images), product="toy", interpreter="toy")
    for image in images:
        registry.manifests[image.image, image.digest] = (b"{}", IMAGE_MANIFEST_TYPE)
    append(channel.store, FakeNotary(), lambda _state: event, lambda _seconds: None)
    registry.put_manifest("pypy", "3.11-7.3.23", b"{}", IMAGE_MANIFEST_TYPE)

    destinations.project_everywhere(world.ctx, channel)
    told = world.text.getvalue()
    destinations.project_everywhere(world.ctx, channel)

    assert "registry.test/owner/pypy:3.11-7.3.23: led to something else" in " ".join(told.split())
    assert "3.11-7.3.23-trixie: led" not in told
    assert world.text.getvalue().count("led to something else") == 1
