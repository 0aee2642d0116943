"""Pins of one Python version are of one ABI, and have the forms of the files they are for."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given

from pipeline.errors import ConfigError
from pipeline.model.ledger import Event, Yanked
from pipeline.publish.projections.pins import abi_tags, pins
from pipeline.publish.view import View
from tests.factories import (
    BASE_URL,
    changed,
    digest,
    later,
    make_config,
    make_event,
    make_nightly,
    make_pypy_package,
    make_view,
)
from tests.unit.publish.projections.histories import (
    DESKTOPS,
    LINUX,
    Drawn,
    drawn_histories,
    text_of,
    view_of,
)

CIBUILDWHEEL = "pypy/definitions/cibuildwheel.toml"
MANYLINUX = "pypy/definitions/manylinux.json"


def chosen(*events: Event) -> dict[str, str]:
    """Return the version that is pinned for each platform."""
    return {pin.wheel: pin.version for pin in pins(make_view(*events), "pypy")}


def configurations(view: View) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of cibuildwheel's file by table."""
    tables = tomllib.loads(text_of(view, CIBUILDWHEEL))
    return {name: table["python_configurations"] for name, table in tables.items()}


def with_suffix(suffix: str, *interpreters: str) -> dict[str, Any]:
    """Return the shipped interpreters, some with another ``extension_suffix``."""
    found = dict(make_config().interpreters)
    for name in interpreters:
        package = make_pypy_package(extension_suffix=suffix)
        found[name] = changed(found["pypy3.11"], interpreter=name, package=package)
    return found


@pytest.mark.parametrize(
    ("interpreter", "version", "tag"),
    [
        ("pypy3.11", "7.3.23", "pypy311_pp73"),
        ("pypy3.11", "8.0.0", "pypy311_pp80"),
        ("pypy3.12", "8.0.1", "pypy312_pp80"),
        ("pypy2.7", "7.3.23", "pypy_73"),
    ],
)
def test_the_abi_is_that_of_the_names_of_extension_modules(
    interpreter: str, version: str, tag: str
) -> None:
    event = make_event(interpreter, version, DESKTOPS)

    assert abi_tags(make_view(event), event) == {tag}


def test_manylinux_gets_its_own_form() -> None:
    view = make_view(make_event(platforms=DESKTOPS))

    found = json.loads(text_of(view, MANYLINUX))

    name = "pypy3.11-v7.3.23"
    assert set(found) == {"pp311-pypy311_pp73"}
    assert set(found["pp311-pypy311_pp73"]) == {"x86_64", "aarch64", "i686"}
    assert found["pp311-pypy311_pp73"]["i686"] == {
        "version": "7.3.23",
        "download_url": f"{BASE_URL}/pypy/{name}/{name}-linux32.tar.gz",
        "sha256": digest(f"{name}-linux32.tar.gz"),
    }


def test_cibuildwheel_gets_a_path_for_linux_and_an_address_for_others() -> None:
    found = configurations(make_view(make_event(platforms=DESKTOPS)))

    name = "pypy3.11-v7.3.23"
    assert found["linux"][-1] == {
        "identifier": "pp311-manylinux_x86_64",
        "version": "3.11",
        "path_str": "/opt/python/pp311-pypy311_pp73",
    }
    assert found["macos"] == [
        {
            "identifier": "pp311-macosx_arm64",
            "version": "3.11",
            "url": f"{BASE_URL}/pypy/{name}/{name}-macos_arm64.tar.gz",
            "sha256": digest(f"{name}-macos_arm64.tar.gz"),
        }
    ]
    assert [line["url"].rpartition("/")[2] for line in found["windows"]] == [f"{name}-win64.zip"]


def test_each_line_is_as_it_stands_in_cibuildwheels_file() -> None:
    text = text_of(make_view(make_event()), CIBUILDWHEEL)

    line = (
        '  { identifier = "pp311-manylinux_x86_64", version = "3.11", '
        'path_str = "/opt/python/pp311-pypy311_pp73" },\n'
    )
    assert line in text


def test_the_newest_release_is_pinned() -> None:
    assert chosen(make_event(version="7.3.23"), make_event(version="7.3.22")) == {
        "manylinux_x86_64": "7.3.23"
    }


def test_a_platform_that_only_has_another_abi_is_left_out() -> None:
    """Wheels for Linux would be of pp80 and for macOS of pp73 otherwise."""
    old = make_event(version="7.3.23", platforms=("linux-x86_64", "macos-arm64"))

    assert chosen(old, make_event(version="8.0.0")) == {"manylinux_x86_64": "8.0.0"}


def test_a_platform_may_have_an_older_release_of_the_same_abi() -> None:
    old = make_event(version="7.3.22", platforms=LINUX)

    assert chosen(old, make_event(version="7.3.23")) == {
        "manylinux_x86_64": "7.3.23",
        "manylinux_aarch64": "7.3.22",
    }


def test_a_yank_of_the_new_abi_gives_the_old_one_back() -> None:
    new = make_event(version="8.0.0")

    assert chosen(make_event(), new, later(Yanked, new)) == {"manylinux_x86_64": "7.3.23"}


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(make_nightly(), id="nightly"),
        pytest.param(make_event(version="8.0.0rc1"), id="candidate"),
        pytest.param(make_event(staged=True), id="staged"),
        pytest.param(make_event("pypy2.7", language_version="2.7.18"), id="too-old"),
        pytest.param(make_event(platforms=("linux-musl-x86_64",)), id="musl"),
        pytest.param(make_event("pypy3.9"), id="interpreter-without-a-file"),
        pytest.param(make_event(implementation="demo"), id="other-implementation"),
        pytest.param(make_event("demo", language_version="3.11.15"), id="plain-package"),
    ],
)
def test_what_wheels_are_not_built_with_is_not_pinned(event: Event) -> None:
    assert pins(make_view(event), "pypy") == ()


def test_equally_new_releases_of_two_abis_are_refused() -> None:
    events = [make_event("pypy3.11"), make_event("pypy3.11-x", language_version="3.11.15")]
    interpreters = with_suffix(".pypy311x-pp{major}{minor}-{multiarch}.so", "pypy3.11-x")

    with pytest.raises(ConfigError, match="pypy311_pp73, pypy311x_pp73"):
        pins(make_view(*events, interpreters=interpreters), "pypy")


def test_an_abi_that_differs_by_platform_is_refused() -> None:
    interpreters = with_suffix(".pypy311-{multiarch}-pp{major}{minor}.so", "pypy3.11")

    with pytest.raises(ConfigError, match=r"extension_suffix"):
        pins(make_view(make_event(platforms=LINUX), interpreters=interpreters), "pypy")


@given(drawn_histories)
def test_in_any_history_a_python_version_has_one_abi(drawn: list[Drawn]) -> None:
    found = pins(view_of(drawn), "pypy")

    for version in {pin.python_version for pin in found}:
        same = [pin for pin in found if pin.python_version == version]
        assert len({pin.abi_tag for pin in same}) == 1
        assert len({pin.wheel for pin in same}) == len(same)
