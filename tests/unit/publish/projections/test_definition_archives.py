"""Recipes for conda and expressions for Nix: which there are; golden files show what they say."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.ledger import Yanked
from pipeline.publish.projections.conda import conda_recipes
from pipeline.publish.projections.definition_archives import program_checks, shell_words
from pipeline.publish.projections.nix import nix_expressions, sri
from tests.factories import changed, digest, later, make_config, make_event, make_view

KINDS = {"conda": conda_recipes, "nix": nix_expressions}


@pytest.mark.parametrize("kind", KINDS)
def test_each_interpreter_has_one_of_its_newest_final_release(kind: str) -> None:
    view = make_view(
        make_event(version="7.3.23"),
        make_event(version="7.3.22"),
        make_event(version="7.3.24rc1"),
    )

    (document,) = KINDS[kind](view).values()

    assert b"pypy3.11-v7.3.23-linux64.tar.gz" in document.data
    assert b"7.3.22" not in document.data


@pytest.mark.parametrize("kind", KINDS)
def test_a_yanked_release_has_none(kind: str) -> None:
    bad = make_event()

    assert KINDS[kind](make_view(bad, later(Yanked, bad))) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_platform_that_is_not_known_there_is_left_out(kind: str) -> None:
    """An interpreter that has no other has none."""
    both = make_event(platforms=("linux-x86_64", "windows-x86_64"))
    (document,) = KINDS[kind](make_view(both)).values()

    assert b"win64" not in document.data
    assert KINDS[kind](make_view(make_event(platforms=("windows-x86_64",)))) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interpreter_without_a_file_has_none(kind: str) -> None:
    assert KINDS[kind](make_view(make_event(), interpreters={})) == {}


def test_a_recipe_asks_for_the_glibc_that_was_measured() -> None:
    event = make_event(platforms=("linux-x86_64", "macos-arm64"))
    lower = changed(
        event, platforms=tuple(changed(item, glibc_floor="2.17") for item in event.platforms[:1])
    )

    (document,) = conda_recipes(make_view(lower)).values()

    assert document.data.count(b"__glibc") == document.data.count(b'"__glibc >=2.17"') == 1


def test_a_digest_is_written_as_nix_writes_it() -> None:
    assert sri(digest("")) == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_the_program_is_tried_with_what_needs_nothing_else() -> None:
    assert program_checks(make_config().interpreters["demo"], "demo") == (
        "test \"$(demo --version)\" = 'demo 1.0.0'",
    )


@given(st.lists(st.text(alphabet="ab'\"$`\\! \n#*", max_size=8)))
def test_a_shell_reads_the_words_that_were_written(words: list[str]) -> None:
    assert shlex.split(shell_words(words)) == words


@pytest.mark.parametrize("word", ["a'$b", "a'`b`", "a'\"", "a'\\", "a'!b"])
def test_what_a_shell_would_expand_stands_in_single_quotes(word: str) -> None:
    assert shell_words([word]) == shlex.quote(word)
