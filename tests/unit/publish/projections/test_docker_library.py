"""docker-library's input has the shape of its own file."""

from pipeline.model.ledger import Yanked
from pipeline.publish.projections.docker_library import docker_library
from tests.factories import BASE_URL, digest, later, make_event, make_nightly, make_view
from tests.unit.publish.projections.histories import DESKTOPS, LINUX


def test_an_entry_has_the_images_architectures() -> None:
    event = make_event(platforms=(*DESKTOPS, "linux-armhf", "linux-s390x", "linux-musl-x86_64"))

    found = docker_library(make_view(event), "pypy")

    name = "pypy3.11-v7.3.23"
    entry = found["3.11"]
    assert set(entry) == {"arches", "python", "version"}
    assert entry["python"] == {"major": "3.11", "version": "3.11.15"}
    assert entry["version"] == "7.3.23"
    assert set(entry["arches"]) == {
        "amd64",
        "arm64v8",
        "arm32v7",
        "i386",
        "s390x",
        "windows-amd64",
    }
    assert entry["arches"]["amd64"] == {
        "sha256": digest(f"{name}-linux64.tar.gz"),
        "url": f"{BASE_URL}/pypy/{name}/{name}-linux64.tar.gz",
    }


def test_each_python_version_has_its_newest_final_release() -> None:
    bad = make_event(version="7.3.24")
    view = make_view(
        make_event("pypy3.10", "7.3.19", language_version="3.10.16"),
        make_event(version="7.3.23"),
        bad,
        later(Yanked, bad),
        make_event(version="8.0.0rc1"),
        make_nightly(),
        make_event(version="7.3.20", language_version="3.11.13"),
    )

    found = docker_library(view, "pypy")

    assert {python: entry["version"] for python, entry in found.items()} == {
        "3.10": "7.3.19",
        "3.11": "7.3.23",
    }


def test_architectures_are_never_of_two_releases() -> None:
    """An image's Dockerfile has one version for all of them."""
    view = make_view(make_event(version="7.3.22", platforms=LINUX), make_event(version="7.3.23"))

    assert set(docker_library(view, "pypy")["3.11"]["arches"]) == {"amd64"}


def test_other_implementations_have_no_image() -> None:
    assert docker_library(make_view(make_event(implementation="demo")), "pypy") == {}
