"""A release is installed from where the public has it, as its users would."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.errors import InstallError
from pipeline.model.artifacts import Artifact, ArtifactKind
from pipeline.model.base import pretty_json
from pipeline.model.debian import AptConfig, BinaryPackage, DebianConfig, DebianIndex
from pipeline.model.install import InstallTest
from pipeline.model.ledger import Event, Published, Yanked
from pipeline.publish.installed import Check, check_once, check_published, own_factors
from pipeline.publish.sites import OpenChannel
from tests.factories import changed, later, make_event, make_state
from tests.fakes import Answer, FakeNotary, World, make_world, open_channel
from tests.images import FakeRegistry, make_published_images

PLATFORM: Final = "linux-x86_64"
TEST: Final = InstallTest(name="version", argv=("toy", "--version"), stdout="toy 1.2.3\n")
SOURCES: Final = "Types: deb\nURIs: {base_url}\nSuites: old\nComponents: release\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with a toy that is packaged, in which every command of apt works."""
    world = make_world(tmp_path)
    interpreters = world.ctx.config.interpreters
    toy = changed(interpreters["toy"], debian=DebianConfig(package="toy"), install=(TEST,))
    config = changed(world.ctx.config, interpreters={**interpreters, "toy": toy})
    good = {"/srv/home": "", "update": "", "--purge": "", "-print": "/etc/passwd\n", "toy": ""}
    versions = {f"toy={version}-1~deb11": "" for version in ("1.0.0", "1.1.0")}
    world.engine.answers = {
        (word,): Answer(stdout=text) for word, text in {**good, **versions}.items()
    }
    world.engine.answers["ca-certificates",] = Answer()
    world.engine.answers["id", "-u"] = Answer(stdout="1000\n")
    world.engine.answers["toy", "--version"] = Answer(stdout="toy 1.2.3\n")
    return replace(world, ctx=replace(world.ctx, config=config))


def package(version: str) -> BinaryPackage:
    return BinaryPackage(
        filename=f"toy_{version}-1.deb11_amd64.deb",
        suite="old",
        platform=PLATFORM,
        architecture="amd64",
        name="toy",
        package_version=f"{version}-1~deb11",
        control=f"Package: toy\nVersion: {version}-1~deb11",
        size=10,
        sha256=hashlib.sha256(version.encode()).hexdigest(),
    )


def published(channel: OpenChannel, version: str, **overrides: Any) -> Published:
    """Put a release's list of packages into the store, and return its event."""
    item = package(version)
    data = pretty_json(DebianIndex(packages=(item,)))
    event = make_event("toy", version, product="toy", language_version="1.2", **overrides)
    index = Artifact(
        filename=f"{event.release}-packages.json",
        kind=ArtifactKind.DEBIAN_INDEX,
        platform=None,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    deb = Artifact(
        filename=item.filename,
        kind=ArtifactKind.DEB,
        platform=PLATFORM,
        size=item.size,
        sha256=item.sha256,
    )
    key = f"toy/{event.release}/{index.filename}"
    channel.store.replace(key, data, tag=None, content_type="application/json")
    return changed(event, files=(*event.files, deb, index))


def shop(world: World, registry: FakeRegistry | None = None) -> OpenChannel:
    """Return a channel with an apt repository."""
    channel = open_channel(world.ctx, notary=FakeNotary())
    text = SOURCES.format(base_url=channel.config.base_url)
    channel.store.replace("apt/old.sources", text.encode(), tag=None, content_type="text/plain")
    config = changed(channel.config, apt=AptConfig(suites=("old",)))
    return replace(channel, config=config, registry=registry)


def check(world: World, channel: OpenChannel, *events: Event, release: int = 0) -> Check:
    state = make_state(*events)
    return Check(
        ctx=world.ctx,
        channel=channel,
        state=state,
        release=state.releases[release],
        factors={PLATFORM: 1},
    )


def installed(world: World, given: Check) -> tuple[tuple[str, tuple[str, ...]], ...]:
    with world.ctx.console.step("check") as step:
        return tuple((item.client, item.what) for item in check_published(given, step))


def commands(world: World) -> list[str]:
    return [" ".join(call.argv) for _, session in world.engine.sessions for call in session.calls]


def test_packages_come_from_the_source_that_users_are_given(world: World) -> None:
    channel = shop(world)

    found = installed(world, check(world, channel, published(channel, "1.0.0")))

    assert found == (("apt", ("version", "purged")),)
    ((_, session),) = [item for item in world.engine.sessions if item[1].copied]
    ((_, members),) = session.copied
    assert members[-1].name == "etc/apt/sources.list.d/public.sources"
    assert any("toy=1.0.0-1~deb11" in line for line in commands(world))


def test_the_version_before_is_installed_first_so_that_it_is_an_upgrade(world: World) -> None:
    channel = shop(world)
    events = (published(channel, "1.0.0"), published(channel, "1.1.0"))

    found = installed(world, check(world, channel, *events, release=1))

    assert found == (("apt", ("upgraded", "version", "purged")),)
    installs = [line for line in commands(world) if "--no-install-recommends toy=" in line]
    assert [line.split("=")[-1] for line in installs] == ["1.0.0-1~deb11", "1.1.0-1~deb11"]


def test_a_yanked_version_is_no_version_before(world: World) -> None:
    channel = shop(world)
    old = published(channel, "1.0.0")
    events = (old, later(Yanked, old), published(channel, "1.1.0"))

    found = installed(world, check(world, channel, *events, release=1))

    assert found == (("apt", ("version", "purged")),)


def test_a_release_that_apt_does_not_list_is_not_asked_for(world: World) -> None:
    channel = shop(world)
    staged = published(channel, "1.0.0", staged=True)

    assert installed(world, check(world, channel, staged)) == ()


def test_images_are_pulled_by_digest_and_run(world: World) -> None:
    channel = replace(shop(world, FakeRegistry()), config=open_channel(world.ctx).config)
    images = make_published_images(suites=("trixie",), variants=("slim",))
    event = make_event("toy", "1.0.0", product="toy", language_version="1.2", images=images)

    found = installed(world, check(world, channel, event))

    assert found == (("image", ("version",)),)
    ((reference, platform),) = [item for item in world.engine.pulled if "pypy" in item[0]]
    assert reference.endswith(f"/pypy@{images[0].digest}")
    assert platform == "linux/amd64"


def test_an_image_that_runs_as_root_is_refused(world: World) -> None:
    world.engine.answers["id", "-u"] = Answer(stdout="0\n")
    channel = replace(shop(world, FakeRegistry()), config=open_channel(world.ctx).config)
    event = make_event(
        "toy", "1.0.0", product="toy", language_version="1.2", images=make_published_images()
    )

    before = set(world.engine.images)

    with pytest.raises(InstallError, match="runs as root"):
        installed(world, check(world, channel, event))

    assert set(world.engine.images) == before


def test_what_was_pulled_is_given_up_but_what_was_there_before_stays(world: World) -> None:
    channel = replace(shop(world, FakeRegistry()), config=open_channel(world.ctx).config)
    images = make_published_images(suites=("trixie",))
    event = make_event("toy", "1.0.0", product="toy", language_version="1.2", images=images)
    there = f"registry.test/owner/pypy@{images[0].digest}"
    world.engine.add_image(there)
    before = set(world.engine.images)

    installed(world, check(world, channel, event))

    assert there in before
    assert set(world.engine.images) == before
    assert len(world.engine.pulled) > 1


def test_what_does_not_install_is_told_with_how_to_take_it_back(world: World) -> None:
    world.engine.answers["toy=1.0.0-1~deb11",] = Answer(status=100, stderr="E: Hash Sum mismatch")
    channel = shop(world)

    with pytest.raises(InstallError) as caught:
        installed(world, check(world, channel, published(channel, "1.0.0")))

    assert "Hash Sum mismatch" in str(caught.value)
    assert "python -m pipeline yank toy-v1.0.0" in str(caught.value)


def test_a_store_without_the_source_is_an_error(world: World) -> None:
    channel = shop(world)
    channel.store.remove("apt/old.sources")

    with pytest.raises(InstallError, match=r"apt/old.sources: is not there. Run: .*reconcile"):
        installed(world, check(world, channel, published(channel, "1.0.0")))


def test_what_is_on_the_loopback_is_seen_from_the_hosts_network_only(world: World) -> None:
    channel = shop(world)
    site = replace(channel.sites[0], base_url="http://127.0.0.1:8377")

    installed(world, check(world, channel, published(channel, "1.0.0")))
    installed(
        world,
        check(world, replace(channel, sites=(site,)), published(channel, "1.1.0")),
    )

    assert [name for name in world.engine.networks if name != "none"] == ["bridge", "host"]


def test_over_https_the_system_gets_certificates_first(world: World) -> None:
    channel = shop(world)
    site = replace(channel.sites[0], base_url="https://downloads.test")

    installed(world, check(world, replace(channel, sites=(site,)), published(channel, "1.0.0")))

    places = [
        next(n for n, line in enumerate(commands(world)) if word in line)
        for word in ("ca-certificates", "apt-cache", "find /")
    ]
    assert places == sorted(places)


def test_an_engine_elsewhere_does_not_see_this_machines_loopback(world: World) -> None:
    channel = shop(world)
    site = replace(channel.sites[0], base_url="http://127.0.0.1:8377")
    elsewhere = replace(world, ctx=replace(world.ctx, engines={PLATFORM: world.engine}))
    event = published(channel, "1.0.0")

    found = installed(elsewhere, check(elsewhere, replace(channel, sites=(site,)), event))

    assert found == ()
    assert "not installed: its engine does not see http://127.0.0.1:8377" in world.text.getvalue()


def test_what_was_installed_is_not_installed_again_but_what_failed_is(world: World) -> None:
    channel = shop(world)
    given = check(world, channel, published(channel, "1.0.0"))
    failing = Answer(status=100, stderr="E: no network")
    with world.ctx.console.step("check") as step:
        world.engine.answers["toy=1.0.0-1~deb11",] = failing
        with pytest.raises(InstallError):
            check_once(given, step)
        world.engine.answers["toy=1.0.0-1~deb11",] = Answer()

        assert len(check_once(given, step)) == 1
        assert check_once(given, step) == ()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((), {"linux-x86_64": 1}),
        (("linux-aarch64",), {"linux-aarch64": 20}),
    ],
    ids=["what this machine runs", "what is asked for, under an emulator"],
)
def test_a_release_is_tried_on_these_platforms(
    world: World, asked: tuple[str, ...], expected: dict[str, int]
) -> None:
    event = make_event(
        "toy",
        "1.0.0",
        platforms=("linux-x86_64", "linux-aarch64"),
        product="toy",
        language_version="1.2",
    )

    found = own_factors(world.ctx.config, make_state(event).releases[0], asked, "x86_64")

    assert found == expected
