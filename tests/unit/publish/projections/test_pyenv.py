"""Definitions for python-build: which there are, and what they say; golden files show the rest."""

from pipeline.model.ledger import Event, Yanked
from pipeline.publish.projections.pyenv import pyenv_definitions
from tests.factories import digest, later, make_event, make_nightly, make_view


def definitions(*events: Event) -> dict[str, str]:
    """Return the definitions by name."""
    return {
        key.removeprefix("pypy/definitions/pyenv/"): document.data.decode()
        for key, document in pyenv_definitions(make_view(*events)).items()
    }


def test_each_final_release_and_the_newest_nightly_has_one() -> None:
    found = definitions(
        make_event(version="7.3.23"),
        make_event(version="7.3.22"),
        make_event(version="7.3.24rc1"),
        make_event(version="7.3.25", staged=True),
        make_event("pypy2.7", language_version="2.7.18"),
        make_nightly(188_287),
        make_nightly(188_288),
    )

    assert set(found) == {
        "pypy2.7-7.3.23",
        "pypy3.11-7.3.22",
        "pypy3.11-7.3.23",
        "pypy3.11-nightly",
    }
    assert "188288" in found["pypy3.11-nightly"]
    assert "188287" not in found["pypy3.11-nightly"]


def test_a_yanked_release_has_none() -> None:
    bad = make_event()

    assert definitions(bad, later(Yanked, bad)) == {}


def test_pyenv_is_not_told_of_an_implementation_that_it_does_not_know() -> None:
    assert definitions(make_event(implementation="demo")) == {}


def test_a_release_without_a_platform_that_pyenv_knows_has_none() -> None:
    assert definitions(make_event(platforms=("linux-riscv64", "windows-x86_64"))) == {}


def test_only_platforms_of_the_release_are_named() -> None:
    (text,) = definitions(make_event(platforms=("linux-i686", "linux-riscv64"))).values()

    assert "\nlinux )\n" in text
    assert digest("pypy3.11-v7.3.23-linux32.tar.gz") in text
    assert "linux64" not in text
    assert "riscv64" not in text


def test_a_digest_stands_behind_each_address() -> None:
    """python-build installs unverified what has none."""
    (text,) = definitions(make_event(platforms=("linux-x86_64", "linux-aarch64"))).values()

    assert text.count("  sha256=") == text.count("  url=") == 2
    assert '"$url#$sha256"' in text


def test_macos_is_asked_for_its_version_where_there_is_an_archive_for_it() -> None:
    (linux,) = definitions(make_event()).values()
    (macos,) = definitions(make_event(platforms=("macos-x86_64", "linux-x86_64"))).values()

    assert "require_osx_version 10.15;" in macos
    assert "require_osx_version" not in linux


def test_python_27_gets_the_step_for_its_old_pip() -> None:
    (old,) = definitions(make_event("pypy2.7", language_version="2.7.18")).values()
    (new,) = definitions(make_event()).values()

    assert old.endswith(" ensurepip_lt21\n")
    assert new.endswith(" ensurepip\n")


def test_an_address_cannot_leave_its_quotes() -> None:
    view = make_view(make_event(), base_url="https://a.example/$(id)'x")

    (document,) = pyenv_definitions(view).values()

    assert b"""url='https://a.example/$(id)'"'"'x/pypy/""" in document.data
