"""Templates: what they lack is an error, pages are escaped, and literals are what was meant."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from pipeline.templates import (
    nix_string,
    recipe_string,
    rendered,
    ruby_heredoc_line,
    ruby_string,
)


def test_a_name_that_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="product"):
        rendered("pages/checksums.html.jinja", {"blocks": ()})


def test_pages_are_escaped_and_scripts_are_not() -> None:
    page = rendered("pages/checksums.html.jinja", {"product": "<&>", "blocks": ()})

    assert "<h1>Checksums of &lt;&amp;&gt;</h1>" in page


def read_ruby(literal: str) -> str:
    """Read a string in double quotes as Ruby's grammar has it; interpolation is an error."""
    text, rest = "", literal.removeprefix('"').removesuffix('"')
    while rest:
        if found := re.match(r"\\u\{([0-9a-f]+)\}", rest):
            character, length = chr(int(found[1], 16)), len(found[0])
        elif rest.startswith("\\"):
            character, length = {"n": "\n", "t": "\t"}.get(rest[1], rest[1]), 2
        else:
            assert rest[0] not in '"\n'
            assert rest[:2] not in {"#{", "#$", "#@"}
            character, length = rest[0], 1
        text, rest = text + character, rest[length:]
    return text


def read_nix(literal: str) -> str:
    """Read a string in double quotes as Nix's grammar has it; interpolation is an error."""
    text, rest = "", literal.removeprefix('"').removesuffix('"')
    while rest:
        if rest.startswith("\\"):
            character = {"n": "\n", "r": "\r", "t": "\t"}.get(rest[1], rest[1])
            text, rest = text + character, rest[2:]
        elif rest.startswith("$$"):
            text, rest = text + "$$", rest[2:]
        else:
            assert rest[0] != '"'
            assert not rest.startswith("${")
            text, rest = text + rest[0], rest[1:]
    return text


def read_recipe(literal: str) -> str:
    """Read a string of YAML in double quotes, then evaluate what a recipe's expressions can be."""
    as_json = re.sub(
        r"\\U([0-9a-f]{8})", lambda found: json.dumps(chr(int(found[1], 16)))[1:-1], literal
    )
    text = json.loads(as_json)
    assert isinstance(text, str)
    assert "${{" not in text.replace("${{ '$' }}", "")
    return text.replace("${{ '$' }}", "$")


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.text(
    alphabet="a\"'\\#{}$@`!\n\t\r\x00\x7f\x85\u2028 "
)


@given(texts)
def test_a_literal_of_ruby_is_the_text_and_interpolates_nothing(text: str) -> None:
    assert read_ruby(ruby_string(text)) == text


@given(texts)
def test_a_line_of_a_heredoc_ends_it_not_and_interpolates_nothing(text: str) -> None:
    line = ruby_heredoc_line(text)

    assert line.strip() != "EOS"
    assert line.isprintable()
    assert re.search(r"(?<!\\)(\\\\)*#[{$@]", line) is None


@given(texts)
def test_a_literal_of_nix_is_the_text_and_interpolates_nothing(text: str) -> None:
    assert read_nix(nix_string(text)) == text


@given(texts)
def test_a_string_of_a_recipe_is_the_text_and_evaluates_nothing(text: str) -> None:
    literal = recipe_string(text)

    assert literal.isprintable()
    assert read_recipe(literal) == text


@pytest.mark.parametrize("text", ["#{`id`}", "${builtins.exec}", "${{ env.get('HOME') }}"])
def test_what_another_language_would_run_is_text(text: str) -> None:
    assert read_ruby(ruby_string(text)) == text
    assert read_nix(nix_string(text)) == text
    assert read_recipe(recipe_string(text)) == text


def test_the_word_that_ends_a_heredoc_is_text() -> None:
    assert ruby_heredoc_line("EOS") == "\\x45OS"
