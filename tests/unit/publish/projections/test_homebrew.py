"""Formulas: which there are, for which systems, what they cannot say; golden files show all."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.model.configs import InterpreterConfig
from pipeline.model.homebrew import HomebrewConfig, SourceFormulaConfig, formula_class
from pipeline.model.ledger import Event, Yanked
from pipeline.publish.projections.homebrew import Formula, formulas
from pipeline.publish.projections.homebrew_core import dependencies, source_formulas
from tests.factories import (
    changed,
    digest,
    later,
    make_archives,
    make_config,
    make_event,
    make_nightly,
    make_source_archive,
    make_view,
)
from tests.unit.publish.projections.histories import DESKTOPS, LINUX

MACS = ("macos-arm64", "macos-x86_64")
INTERPRETERS = make_config().interpreters


def formulas_of(*events: Event, **overrides: InterpreterConfig) -> dict[str, Formula]:
    """Return the formulas by name; an override replaces an interpreter's file."""
    interpreters = {**INTERPRETERS, **{item.interpreter: item for item in overrides.values()}}
    view = make_view(*events, interpreters=interpreters)
    return {formula.name: formula for formula in formulas(view)}


def text_for(*platforms: str) -> str:
    """Return the formula of a release that has archives for *platforms*."""
    return formulas_of(make_event(platforms=platforms))["pypy3.11"].text


def with_homebrew(interpreter: str, **changes: object) -> InterpreterConfig:
    """Return an interpreter's file with another table ``homebrew``."""
    config = INTERPRETERS[interpreter]
    assert config.homebrew is not None
    return changed(config, homebrew=changed(config.homebrew, **changes))


def test_each_interpreter_has_one_of_its_newest_final_release() -> None:
    found = formulas_of(
        make_event(version="7.3.23"),
        make_event(version="7.3.22"),
        make_event(version="7.3.24rc1"),
        make_event(version="7.3.25", staged=True),
        make_event("pypy2.7", language_version="2.7.18"),
        make_nightly(),
    )

    assert {name: item.event.release for name, item in found.items()} == {
        "pypy2.7": "pypy2.7-v7.3.23",
        "pypy3.11": "pypy3.11-v7.3.23",
    }


def test_a_yank_brings_the_release_before_back() -> None:
    good, bad = make_event(version="7.3.22"), make_event(version="7.3.23")

    found = formulas_of(good, bad, later(Yanked, bad))

    assert found["pypy3.11"].event.release == "pypy3.11-v7.3.22"
    assert formulas_of(bad, later(Yanked, bad)) == {}


def test_a_release_without_a_system_that_homebrew_knows_is_passed_over() -> None:
    found = formulas_of(
        make_event(version="7.3.22"),
        make_event(version="7.3.23", platforms=("windows-x86_64", "linux-i686")),
    )

    assert found["pypy3.11"].event.release == "pypy3.11-v7.3.22"


def test_an_interpreter_that_is_not_configured_for_it_has_none() -> None:
    assert formulas_of(make_event(), other=changed(INTERPRETERS["pypy3.11"], homebrew=None)) == {}


def test_the_files_are_those_whose_addresses_stand_in_the_text() -> None:
    (formula,) = formulas_of(make_event(platforms=(*DESKTOPS, "macos-x86_64"))).values()

    named = re.findall(r'sha256 "([0-9a-f]+)"', formula.text)

    assert sorted(named) == sorted(artifact.sha256 for artifact in formula.files)
    assert {artifact.platform for artifact in formula.files} == {*LINUX, *MACS}
    assert formula.text.count("tar.gz") == len(named)


@pytest.mark.parametrize(
    ("platforms", "limits"),
    [
        (("linux-x86_64",), ["depends_on arch: :x86_64", "depends_on :linux"]),
        (LINUX, ["depends_on :linux"]),
        (("macos-arm64",), ["depends_on arch: :arm64", "depends_on :macos"]),
        (MACS, ["depends_on :macos"]),
        ((*LINUX, "macos-arm64"), ["depends_on arch: :arm64"]),
        ((*MACS, "linux-aarch64"), ["depends_on arch: :arm64"]),
        ((*LINUX, *MACS), []),
    ],
    ids="+".join,
)
def test_a_formula_keeps_those_away_for_whom_there_is_no_archive(
    platforms: tuple[str, ...], limits: list[str]
) -> None:
    assert re.findall(r"depends_on .*", text_for(*platforms)) == limits


def test_a_limit_of_one_system_stands_in_its_block() -> None:
    assert ("  on_macos do\n    depends_on arch: :arm64\n    on_arm do\n      url ") in text_for(
        *LINUX, "macos-arm64"
    )


@given(st.sets(st.sampled_from([*LINUX, *MACS]), min_size=1))
def test_every_system_finds_an_address(platforms: set[str]) -> None:
    """Homebrew cannot read a formula without one, on whatever system."""
    text = text_for(*sorted(platforms))

    assert re.search(r'\n  url "[^"]+"\n  version "7\.3\.23"\n  sha256 "[0-9a-f]{64}"\n', text)
    assert len(re.findall(r" do( \|json\|)?$|^class |^  def ", text, re.MULTILINE)) == len(
        re.findall(r"^ *end$", text, re.MULTILINE)
    )


def test_macos_is_asked_for_its_version_where_homebrew_has_a_name_for_it() -> None:
    platforms = make_config().platforms
    mac = platforms["macos-arm64"]
    newer = changed(mac, binaries=changed(mac.binaries, minimum_os="13.0"))
    view = make_view(
        make_event(platforms=("macos-arm64",)), platforms={**platforms, "macos-arm64": newer}
    )

    (formula,) = formulas(view)

    assert "    on_arm do\n      depends_on macos: :ventura\n    end\n" in formula.text
    assert "macos: " not in text_for("macos-arm64")


def test_an_alias_belongs_to_the_newest_language_version() -> None:
    old, new = make_event(), make_event("pypy3.12", "7.3.20", language_version="3.12.1")

    alone, both = formulas_of(old), formulas_of(new, old)

    assert "pypy3" in alone["pypy3.11"].aliases
    assert "pypy3" in both["pypy3.12"].aliases
    assert "pypy3" not in both["pypy3.11"].aliases
    assert both["pypy3.11"].aliases == ("pypy@3.11",)


def test_two_interpreters_cannot_have_one_formula() -> None:
    events = make_event(), make_event("pypy3.12", language_version="3.12.1")

    with pytest.raises(ConfigError, match=r"pypy3\.12\.toml: key homebrew\.formula"):
        formulas_of(*events, other=with_homebrew("pypy3.12", formula="pypy3.11"))


def test_an_alias_cannot_be_the_name_of_another_formula() -> None:
    events = make_event(), make_event("pypy3.12", language_version="3.12.1")

    with pytest.raises(ConfigError, match=r"pypy3\.12\.toml: key homebrew\.aliases"):
        formulas_of(*events, other=with_homebrew("pypy3.12", aliases=("pypy3.11",)))


def test_a_program_that_is_not_linked_is_tried_where_it_is() -> None:
    config = with_homebrew(
        "pypy3.11", tests=({"program": "python", "arguments": ["-V"], "stdout": "x#{1}\n"},)
    )

    (formula,) = formulas_of(make_event(), other=config).values()

    assert 'assert_equal "x\\#{1}\\n", shell_output("#{libexec}/bin/python -V")' in formula.text


def test_caveats_name_the_directory_and_interpolate_nothing_else() -> None:
    config = with_homebrew("pypy3.11", caveats="in {libexec}/bin #{system 'id'}\n\nEOS\n")

    (formula,) = formulas_of(make_event(), other=config).values()

    assert (
        "    <<~EOS\n      in #{opt_libexec}/bin \\#{system 'id'}\n\n      \\x45OS\n    EOS\n"
    ) in formula.text


def test_an_address_cannot_leave_its_literal() -> None:
    (formula,) = formulas(make_view(make_event(), base_url='https://a.example/"#{exit}'))

    assert 'url "https://a.example/\\"\\#{exit}/pypy/' in formula.text


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pypy3.11", "Pypy311"), ("demo", "Demo"), ("my-small_demo", "MySmallDemo")],
)
def test_a_formula_is_the_class_that_homebrew_looks_for(name: str, expected: str) -> None:
    assert formula_class(name) == expected


@pytest.mark.parametrize("name", ["3demo", "a..b", "Demo", "demo@3", "demo-"])
def test_a_name_without_a_class_is_no_formula(name: str) -> None:
    config = INTERPRETERS["demo"].homebrew
    assert config is not None

    with pytest.raises(ValueError, match="formula"):
        HomebrewConfig.model_validate({**config.model_dump(), "formula": name})


def test_a_source_formula_needs_a_source_archive_and_what_translates_it() -> None:
    source = make_source_archive()
    with_source = make_event(files=(*make_archives("pypy3.11-v7.3.23"), source))
    bootstrap = make_event("pypy2.7", language_version="2.7.18")

    assert source_formulas(make_view(with_source)) == {}
    assert source_formulas(make_view(make_event(), bootstrap)) == {}
    (document,) = source_formulas(make_view(with_source, bootstrap)).values()
    assert document.data.decode().count(digest("pypy3.11-v7.3.23-src.tar.gz")) == 1
    assert document.data.decode().count(digest("pypy2.7-v7.3.23-linux64.tar.gz")) == 1


def test_what_macos_has_is_a_dependency_where_a_source_formula_is_for_linux_only() -> None:
    config = SourceFormulaConfig(
        bootstrap="pypy2.7",
        build_depends_on=("pkgconf",),
        depends_on=("xz", "gdbm"),
        uses_from_macos=("zlib",),
    )

    assert dependencies(config, ("depends_on :linux",)) == (
        'depends_on "pkgconf" => :build',
        'depends_on "gdbm"',
        "depends_on :linux",
        'depends_on "xz"',
        'depends_on "zlib"',
    )
    assert dependencies(config, ())[-1] == 'uses_from_macos "zlib"'


def test_a_resource_says_where_it_is_and_the_formula_for_whom() -> None:
    """Homebrew has no ``depends_on`` inside of a resource."""
    platforms = make_config().platforms
    mac = platforms["macos-arm64"]
    newer = changed(mac, binaries=changed(mac.binaries, minimum_os="13.0"))
    source = make_event(files=(*make_archives("pypy3.11-v7.3.23"), make_source_archive()))
    bootstrap = make_event("pypy2.7", language_version="2.7.18", platforms=(*LINUX, "macos-arm64"))
    view = make_view(source, bootstrap, platforms={**platforms, "macos-arm64": newer})

    (document,) = source_formulas(view).values()

    text = document.data.decode()
    before, _, rest = text.partition('  resource "bootstrap" do\n')
    resource, _, _ = rest.partition("\n  def install")
    assert "depends_on" not in resource
    assert re.findall(r"on_(\w+) do", resource) == ["macos", "arm", "linux", "arm"]
    assert resource.count("    url ") == 3
    assert (
        "  on_macos do\n    depends_on arch: :arm64\n"
        "    on_arm do\n      depends_on macos: :ventura\n    end\n  end\n"
    ) in before
    assert "depends_on :linux" not in before


def test_a_yanked_bootstrap_is_not_used() -> None:
    files = (*make_archives("pypy3.11-v7.3.23"), make_source_archive())
    bootstrap = make_event("pypy2.7", language_version="2.7.18")

    view = make_view(make_event(files=files), bootstrap, later(Yanked, bootstrap))

    assert source_formulas(view) == {}
