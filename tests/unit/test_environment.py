"""How images are found or made, and what their names and digests depend on."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.engine import WORKER_IMAGE
from pipeline.environment import environment_recipe, ready_environment, recorded_environment
from pipeline.errors import EngineUnavailableError, ImageError, MissingToolError
from pipeline.model.platforms import Placement
from pipeline.model.records import Environment
from tests.factories import changed, make_platform
from tests.fakes import Answer, World, digest, make_world, replace_text, write_text

REFERENCE: Final = f"registry.test/debian@sha256:{digest('debian')}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def on(world: World, platform: str = "linux-x86_64") -> Placement:
    return Placement(host=world.ctx.config.platforms[platform])


def made(world: World, name: str = "translate", platform: str = "linux-x86_64") -> Environment:
    return ready_environment(world.ctx, name, on(world, platform))


def configs(world: World, name: str) -> Path:
    return world.ctx.root / "translation_configs" / name


def tag_of(world: World) -> str:
    """Return the tag of the image that the translation environment gets."""
    return [tag for tag, _, _ in world.engine.built if "/translate:" in tag][-1]


def change_suite(world: World) -> None:
    replace_text(configs(world, "environments.toml"), '"bullseye"', '"bookworm"')


def change_mirrors(world: World) -> None:
    replace_text(configs(world, "environments.toml"), "second.test", "third.test")


def change_components(world: World) -> None:
    replace_text(
        configs(world, "environments.toml"),
        'suite = "bullseye"',
        'suite = "bullseye"\ncomponents = ["main", "contrib"]',
    )


def change_packages(world: World) -> None:
    replace_text(
        configs(world, "environments.toml"),
        'suite = "bullseye"',
        'suite = "bullseye"\ninclude = ["ca-certificates"]',
    )


def change_base(world: World) -> None:
    replace_text(
        configs(world, "environments.toml"),
        'bases = ["old"]\ndockerfile',
        'bases = ["new"]\ndockerfile',
    )


def change_dockerfile(world: World) -> None:
    dockerfile = world.ctx.root / "dockerfiles" / "translate.Dockerfile"
    dockerfile.write_text("ARG BASE\nFROM $BASE\nRUN true\n", encoding="utf-8")


CHANGES: Final[dict[str, Callable[[World], None]]] = {
    "suite": change_suite,
    "mirrors": change_mirrors,
    "components": change_components,
    "packages": change_packages,
    "base": change_base,
    "dockerfile": change_dockerfile,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_tag_depends_on_everything_the_image_is_built_from(
    change: Callable[[World], None], world: World
) -> None:
    made(world)
    before = tag_of(world)
    change(world)

    made(world.again())

    assert tag_of(world) != before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_digest_depends_on_the_recipe(change: Callable[[World], None], world: World) -> None:
    before = made(world).digest
    change(world)

    after = made(world.again()).digest

    assert after != before


def test_the_tag_and_the_digest_depend_on_the_platform(world: World) -> None:
    here = made(world)
    tag = tag_of(world)
    world.engine.machine = "arm64"

    there = made(world, platform="linux-aarch64")

    assert tag_of(world) != tag
    assert tag_of(world).endswith("-arm64")
    assert there.digest != here.digest


def test_the_tag_depends_on_nothing_else(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "elsewhere")
    made(world)

    made(other)

    assert tag_of(other) == tag_of(world)


def test_the_digest_changes_with_a_package_s_version(world: World, tmp_path: Path) -> None:
    before = made(world)
    other = make_world(tmp_path / "later")
    other.engine.packages = "gcc 12.3 amd64\npypy 7.3.3 amd64\n"

    after = made(other)

    assert after.digest != before.digest
    assert after.packages == ("gcc 12.3 amd64", "pypy 7.3.3 amd64")


def test_the_digest_does_not_change_with_the_image_s_id_or_the_order_of_packages(
    world: World, tmp_path: Path
) -> None:
    before = made(world)
    other = make_world(tmp_path / "elsewhere")
    other.engine.add_image("something else first")
    other.engine.pulled.append(("something", "else"))
    other.engine.packages = "pypy 7.3.3 amd64\ngcc 12.2 amd64\n"

    after = made(other)

    assert after.image_id != before.image_id
    assert after.digest == before.digest


def test_an_environment_is_made_once(world: World) -> None:
    first = made(world)
    built, started = len(world.engine.built), len(world.engine.sessions)

    second = made(world.again())

    assert second == first
    assert (len(world.engine.built), len(world.engine.sessions)) == (built, started)


def test_an_image_that_the_engine_lost_is_made_again(world: World) -> None:
    first = made(world)
    world.engine.images.clear()
    world.engine.add_image("another one")

    second = made(world.again())

    assert second.image_id in {image.image_id for image in world.engine.images.values()}
    assert second.digest == first.digest


def test_another_work_directory_finds_the_engine_s_image(world: World, tmp_path: Path) -> None:
    first = made(world)
    other = make_world(tmp_path / "other checkout")
    other.engine.images.update(world.engine.images)

    second = made(other)

    assert second == first
    assert other.engine.built == []


def test_what_is_recorded_needs_no_engine(world: World) -> None:
    first = made(world)
    world.engine.silent = EngineUnavailableError("down")

    recorded = recorded_environment(world.ctx, "translate", on(world))

    assert recorded == first


def test_nothing_is_recorded_of_an_environment_that_was_never_made(world: World) -> None:
    assert recorded_environment(world.ctx, "translate", on(world)) is None


def test_a_base_is_bootstrapped_reproducibly(world: World) -> None:
    made(world, "clean-old")

    (call,) = world.process.calls
    assert call.argv[:4] == (
        "mmdebstrap",
        "--variant=minbase",
        "--architectures=amd64",
        "--components=main",
    )
    assert (call.argv[4], call.argv[6]) == ("bullseye", "http://first.test/debian")
    assert call.environment == {"SOURCE_DATE_EPOCH": "1"}


def test_a_base_for_images_is_without_what_nobody_reads_there(world: World) -> None:
    path = world.ctx.root / "translation_configs" / "environments.toml"
    added = """suite = "bullseye"
merged_usr = true
sources = ["deb http://security.test suite main"]
path_exclude = ["/usr/share/man/*"]
path_include = ["/usr/share/doc/*/copyright"]"""
    replace_text(path, 'suite = "bullseye"', added)

    made(world.again(), "clean-old")

    (call,) = world.process.calls
    assert call.argv[4:7] == (
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    )
    assert call.argv[-1] == "deb http://security.test suite main"


def with_keyring(world: World) -> World:
    """Return the world with a keyring named for the base ``old``."""
    path = world.ctx.root / "translation_configs" / "environments.toml"
    replace_text(path, 'suite = "bullseye"', 'suite = "bullseye"\nkeyring = "other.asc"')
    return world.again()


def test_a_suite_with_a_key_of_its_own_is_checked_with_that(world: World) -> None:
    world = with_keyring(world)
    keyring = world.ctx.root / "dockerfiles" / "keyrings" / "other.asc"
    write_text(keyring, "a key")

    made(world, "clean-old")

    (call,) = world.process.calls
    assert f"--keyring={keyring}" in call.argv


def test_a_keyring_that_is_not_there_is_named(world: World) -> None:
    world = with_keyring(world)

    with pytest.raises(ImageError, match=r"other\.asc: no such file, but environments\.toml names"):
        made(world, "clean-old")
    assert world.process.ran("mmdebstrap") == 0


def test_a_base_is_imported_as_it_is(world: World) -> None:
    made(world, "clean-old")

    ((tag, arguments, members),) = world.engine.built
    assert tag.startswith("rpython-pipeline/base-old:")
    assert arguments == {}
    assert [member.name for member in members] == ["Dockerfile", "base.tar"]
    assert {member.mtime for member in members} == {1}


def test_an_environment_is_built_on_its_base_without_any_other_context(world: World) -> None:
    environment = made(world)

    base, image = world.engine.built
    tag, arguments, members = image
    assert tag.startswith("rpython-pipeline/translate:")
    assert arguments == {"BASE": world.engine.images[base[0]].image_id}
    assert [member.name for member in members] == ["Dockerfile"]
    assert environment.image_id == world.engine.images[tag].image_id


def test_environments_share_their_base(world: World) -> None:
    made(world)
    made(world, "clean-old")

    assert world.process.ran("mmdebstrap") == 1


def test_the_second_mirror_serves_when_the_first_does_not(world: World) -> None:
    gone = Answer(status=25, stderr="E: The repository has no Release file")
    world.process.expect("mmdebstrap", "http://first.test/debian", answer=gone)

    environment = made(world, "clean-old")

    assert [call.argv[-1] for call in world.process.calls] == [
        "http://first.test/debian",
        "http://second.test/debian",
    ]
    assert environment.packages


def test_when_every_mirror_fails_each_is_named(world: World) -> None:
    for mirror in ("first", "second"):
        world.process.expect(
            "mmdebstrap",
            f"http://{mirror}.test/debian",
            answer=Answer(status=25, stderr=f"E: {mirror} is down"),
        )

    with pytest.raises(ImageError) as caught:
        made(world, "clean-old")

    message = str(caught.value)
    assert message.startswith("suite bullseye cannot be bootstrapped for amd64.")
    assert "debian-archive-keyring" in message
    for mirror in ("first", "second"):
        assert f"http://{mirror}.test/debian: " in message
        assert f"E: {mirror} is down" in message
    assert world.engine.built == []


def test_a_missing_mmdebstrap_is_not_taken_for_a_failing_mirror(world: World) -> None:
    world.process.missing.add("mmdebstrap")

    with pytest.raises(MissingToolError, match="apt-get install mmdebstrap"):
        made(world, "clean-old")


def test_a_registry_base_is_pulled_by_digest(world: World) -> None:
    environment = made(world, "clean-new")

    assert world.engine.pulled == [(REFERENCE, "linux/amd64")]
    assert environment.image_id == world.engine.images[REFERENCE].image_id
    assert world.process.calls == []


def test_a_registry_base_that_is_there_is_not_pulled(world: World) -> None:
    image_id = world.engine.add_image(REFERENCE)

    environment = made(world, "clean-new")

    assert world.engine.pulled == []
    assert environment.image_id == image_id


@pytest.mark.parametrize("name", ["clean-new", "clean-old", "translate"])
def test_an_image_for_another_architecture_is_refused(name: str, world: World) -> None:
    world.engine.machine = "arm64"

    with pytest.raises(ImageError, match="is for arm64, but linux-x86_64 needs amd64"):
        made(world, name)

    assert recorded_environment(world.ctx, name, on(world)) is None


@pytest.mark.parametrize(
    "answer",
    [Answer(status=127, stderr="dpkg-query: not found"), Answer(stdout="")],
    ids=["no dpkg", "no packages"],
)
def test_an_image_whose_packages_cannot_be_listed_is_refused(answer: Answer, world: World) -> None:
    world.engine.answers[("${Package} ${Version} ${Architecture}\\n",)] = answer

    with pytest.raises(ImageError, match="environment clean-new: its packages cannot be listed"):
        made(world, "clean-new")


def test_a_missing_dockerfile_is_named(world: World) -> None:
    (world.ctx.root / "dockerfiles" / "translate.Dockerfile").unlink()

    with pytest.raises(ImageError, match=r"translate\.Dockerfile: no such file"):
        made(world)


def cross_to(world: World, target: str) -> Placement:
    """Return the placement of a compiler on x86_64 for a shipped platform."""
    return Placement(host=world.ctx.config.platforms["linux-x86_64"], target=make_platform(target))


def test_a_cross_environment_is_of_the_host_and_told_the_target(world: World) -> None:
    ready_environment(world.ctx, "translate", cross_to(world, "linux-aarch64"))

    tag, arguments, _ = world.engine.built[-1]
    assert tag.endswith("-amd64")
    assert {name: value for name, value in arguments.items() if name != "BASE"} == {
        "TARGET_ARCH": "arm64",
        "PREFIX": "aarch64-linux-gnu",
        "LOADER": "ld-linux-aarch64.so.1",
    }
    assert "linux-aarch64 on linux-x86_64" in world.text.getvalue()


def test_each_target_has_its_own_cross_environment(world: World) -> None:
    names = ["old", "new"]
    bases = {
        name: changed(world.ctx.config.bases[name], architectures=("amd64", "arm64", "ppc64el"))
        for name in names
    }
    world = world.again(config=world.ctx.config.model_copy(update={"bases": bases}))
    placements = [
        on(world),
        cross_to(world, "linux-aarch64"),
        cross_to(world, "linux-ppc64le"),
    ]

    made_for = [ready_environment(world.ctx, "translate", place) for place in placements]

    assert len({environment.digest for environment in made_for}) == 3
    assert len({environment.image_id for environment in made_for}) == 3
    recorded = [recorded_environment(world.ctx, "translate", place) for place in placements]
    assert recorded == made_for


def test_a_cross_environment_needs_a_base_with_both_platforms(world: World) -> None:
    placement = cross_to(world, "linux-riscv64")

    with pytest.raises(ImageError) as caught:
        ready_environment(world.ctx, "translate", placement)

    assert str(caught.value).startswith(
        "environment translate: none of its bases (old) has linux-riscv64 on linux-x86_64. Add one"
    )
    assert world.engine.built == []


def with_arguments(world: World, **arguments: str) -> World:
    """Return the world with arguments of the Dockerfile of the translation environment."""
    environments = world.ctx.config.environments
    other = changed(environments["translate"], arguments=arguments)
    config = changed(world.ctx.config, environments={**environments, "translate": other})
    return world.again(config=config)


def test_a_dockerfile_is_told_what_the_config_says(world: World) -> None:
    made(world)
    before = tag_of(world)
    world = with_arguments(world, LIBRARIES="libffi-dev")

    made(world)

    tag, arguments, _ = world.engine.built[-1]
    assert arguments["LIBRARIES"] == "libffi-dev"
    assert tag != before


def test_what_the_config_says_cannot_name_another_target(world: World) -> None:
    world = with_arguments(world, TARGET_ARCH="vax", LIBRARIES="libffi-dev")

    recipe = environment_recipe(world.ctx, "translate", cross_to(world, "linux-aarch64"))

    assert recipe["arguments"] == {
        "TARGET_ARCH": "arm64",
        "PREFIX": "aarch64-linux-gnu",
        "LOADER": "ld-linux-aarch64.so.1",
        "LIBRARIES": "libffi-dev",
    }


def test_what_else_a_base_could_be_for_does_not_change_what_is_made(world: World) -> None:
    before = environment_recipe(world.ctx, "translate", on(world))
    bases = world.ctx.config.bases
    wider = changed(bases["old"], architectures=("amd64", "s390x"), libc=("glibc", "musl"))
    config = changed(world.ctx.config, bases={**bases, "old": wider})

    after = environment_recipe(world.again(config=config).ctx, "translate", on(world))

    assert after == before


def test_without_containers_the_environment_is_what_the_worker_is(world: World) -> None:
    world.engine.contained = False

    environment = made(world, "clean-new")

    assert environment.name == "clean-new"
    assert environment.image_id == WORKER_IMAGE
    assert environment.packages == ("system Toy 1", "cc toycc 1.0")
    assert recorded_environment(world.ctx, "clean-new", on(world)) == environment
    assert (world.engine.built, world.engine.pulled, world.process.calls) == ([], [], [])


def test_another_compiler_makes_another_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.engine.contained = False
    before = made(world).digest

    monkeypatch.setattr(world.engine, "describe", lambda: ("system Toy 1", "cc toycc 1.1"))

    assert made(world).digest != before


@pytest.mark.parametrize("row", ["macos-arm64", "windows-x86_64"])
def test_an_engine_of_containers_makes_none_of_another_system(row: str, world: World) -> None:
    with pytest.raises(ImageError):
        ready_environment(world.ctx, "translate", Placement(host=make_platform(row)))

    assert world.engine.built == []


def test_an_environment_that_a_platform_does_not_have_is_refused(world: World) -> None:
    bases = world.ctx.config.bases
    config = changed(
        world.ctx.config, bases={**bases, "old": changed(bases["old"], architectures=("arm64",))}
    )
    ctx = world.again(config=config).ctx

    with pytest.raises(ImageError, match=r"none of its bases \(old\) has linux-x86_64"):
        environment_recipe(ctx, "translate", on(world))
