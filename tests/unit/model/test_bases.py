"""Which base image an environment is made on, for which platforms."""

from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from pipeline.model.bases import base_for, environments_for
from pipeline.model.configs import BootstrapBase, Config, EnvironmentConfig
from pipeline.model.platforms import Libc, Placement
from tests.factories import make_config, make_platform


def base(*architectures: str, libc: tuple[Libc, ...] = ("glibc",)) -> BootstrapBase:
    return BootstrapBase(
        kind="bootstrap",
        suite="sid",
        architectures=architectures,
        libc=libc,
        mirrors=("http://debian.test",),
    )


BASES: Final = {
    "old": base("amd64", "arm64"),
    "new": base("amd64", "ppc64el"),
    "newest": base("amd64", "ppc64el", "riscv64"),
    "musl": base("amd64", libc=("glibc", "musl")),
}


def config_with(environments: Mapping[str, Sequence[str]]) -> Config:
    """Return a configuration with these environments, by the names of their bases."""
    made = {name: EnvironmentConfig(bases=tuple(bases)) for name, bases in environments.items()}
    return make_config(bases=BASES, environments=made)


def chosen(bases: Sequence[str], host: str, target: str | None = None) -> str | None:
    """Return the name of the base that an environment is made on."""
    placement = Placement(
        host=make_platform(host), target=make_platform(target) if target is not None else None
    )
    found = base_for(config_with({"build": bases}), "build", placement)
    if found is None:
        return None
    assert found[1] == BASES[found[0]]
    return found[0]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("linux-x86_64", "old"),
        ("linux-aarch64", "old"),
        ("linux-ppc64le", "new"),
        ("linux-riscv64", "newest"),
        ("linux-musl-x86_64", "musl"),
        ("linux-s390x", None),
        ("linux-musl-aarch64", None),
    ],
)
def test_the_first_base_with_the_architecture_and_the_c_library_is_taken(
    host: str, expected: str | None
) -> None:
    assert chosen(tuple(BASES), host) == expected


def test_the_order_is_the_environments() -> None:
    assert chosen(("newest", "new", "old"), "linux-x86_64") == "newest"
    assert chosen(("new", "newest", "old"), "linux-x86_64") == "new"


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        ("linux-x86_64", "linux-aarch64", "old"),
        ("linux-x86_64", "linux-ppc64le", "new"),
        ("linux-x86_64", "linux-riscv64", "newest"),
        ("linux-x86_64", "linux-musl-x86_64", "musl"),
        ("linux-aarch64", "linux-ppc64le", None),
        ("linux-x86_64", "linux-musl-aarch64", None),
    ],
)
def test_a_cross_compiler_and_its_host_are_of_one_suite(
    host: str, target: str, expected: str | None
) -> None:
    assert chosen(tuple(BASES), host, target) == expected


def test_a_platform_is_tried_in_those_environments_that_have_it() -> None:
    config = config_with({"a": ["old"], "b": ["old", "newest"], "c": ["musl"], "other": ["newest"]})
    names = ("a", "b", "c")

    tried = {
        row: environments_for(config, names, make_platform(row))
        for row in ("linux-x86_64", "linux-aarch64", "linux-riscv64", "linux-musl-x86_64")
    }

    assert tried == {
        "linux-x86_64": ("a", "b", "c"),
        "linux-aarch64": ("a", "b"),
        "linux-riscv64": ("b",),
        "linux-musl-x86_64": ("c",),
    }


@pytest.mark.parametrize("row", ["macos-arm64", "windows-x86_64"])
def test_without_containers_every_environment_is_the_worker(row: str) -> None:
    config = config_with({"a": ["old"], "b": ["new"]})

    assert environments_for(config, ("a", "b"), make_platform(row)) == ("a", "b")
