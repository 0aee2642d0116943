"""What readers see beside the stores' indexes, and what is said when it had to be put right."""

from dataclasses import replace
from pathlib import Path

from pipeline.model.images import IMAGE_MANIFEST_TYPE
from pipeline.publish.destinations import project_everywhere
from pipeline.publish.ledger import append
from tests.factories import changed, make_event
from tests.fakes import FakeNotary, make_world, open_channel
from tests.images import FakeRegistry, make_published_images


def test_an_exact_tag_that_led_elsewhere_is_told_once(tmp_path: Path) -> None:
    world, registry = make_world(tmp_path), FakeRegistry()
    channel = replace(open_channel(world.ctx, notary=FakeNotary()), registry=registry)
    images = make_published_images(suites=("trixie",), variants=("",), platforms=("linux-x86_64",))
    event = changed(make_event(images=images), product="toy", interpreter="toy")
    for image in images:
        registry.manifests[image.image, image.digest] = (b"{}", IMAGE_MANIFEST_TYPE)
    append(channel.store, FakeNotary(), lambda _state: event, lambda _seconds: None)
    registry.put_manifest("pypy", "3.11-7.3.23", b"{}", IMAGE_MANIFEST_TYPE)

    project_everywhere(world.ctx, channel)
    told = world.text.getvalue()
    project_everywhere(world.ctx, channel)

    assert "registry.test/owner/pypy:3.11-7.3.23: led to something else" in " ".join(told.split())
    assert "3.11-7.3.23-trixie: led" not in told
    assert world.text.getvalue().count("led to something else") == 1
