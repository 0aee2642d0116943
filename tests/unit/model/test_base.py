"""What all models share: names that cannot climb, one JSON form, keys from content."""

import hashlib
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.model.base import (
    FileName,
    Name,
    RelativePath,
    Sha256,
    canonical_json,
    content_key,
    pretty_json,
)
from tests.factories import changed, make_artifact, make_job, make_manifest

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts)
documents = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts, inner)),
    max_leaves=20,
)

TRAVERSALS = [
    pytest.param("", id="empty"),
    pytest.param(".", id="dot"),
    pytest.param("..", id="dot-dot"),
    pytest.param("../x", id="climbs"),
    pytest.param("a/../b", id="climbs-inside"),
    pytest.param("a/..", id="climbs-at-end"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("//host/x", id="two-slashes"),
    pytest.param("a//b", id="empty-component"),
    pytest.param("a/", id="trailing-slash"),
    pytest.param(".hidden", id="hidden"),
    pytest.param("a/.git/config", id="hidden-inside"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("a b", id="blank"),
    pytest.param("a\n", id="trailing-newline"),
    pytest.param("a\0b", id="nul"),
    pytest.param("-rf", id="option"),
    pytest.param("ünicode", id="not-ascii"),
    pytest.param("a%2fb", id="percent"),
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_a_relative_path_cannot_leave_its_directory(path: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(RelativePath).validate_python(path)


@pytest.mark.parametrize("name", [*TRAVERSALS, pytest.param("a/b", id="two-components")])
def test_a_file_name_is_one_safe_component(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(FileName).validate_python(name)


@pytest.mark.parametrize("path", ["README.md", "demo/programs", "_cffi/a-b_c+1.0/x.py"])
def test_a_relative_path_may_have_several_components(path: str) -> None:
    assert TypeAdapter(RelativePath).validate_python(path) == path


@pytest.mark.parametrize("name", ["SHA256SUMS.asc", "pypy3.11-v7.3.23-linux64.tar.gz", "0"])
def test_a_file_name_may_be_any_that_we_publish(name: str) -> None:
    assert TypeAdapter(FileName).validate_python(name) == name


@pytest.mark.parametrize("name", ["Demo", "a/b", "_a", "-a", "a" * 101, "", "a\n"])
def test_a_name_is_lower_case_and_fits_paths_urls_and_images(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize(
    "text",
    ["A" * 64, "a" * 63, "a" * 65, "g" * 64, "a" * 64 + "\n", "sha256:" + "a" * 64],
    ids=["upper-case", "short", "long", "not-hex", "newline", "prefix"],
)
def test_a_digest_is_64_lower_case_hex_digits(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Sha256).validate_python(text)


def test_a_model_cannot_be_changed() -> None:
    artifact = make_artifact()

    with pytest.raises(ValidationError, match="frozen"):
        artifact.size = 1


def test_a_model_refuses_keys_that_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        make_artifact(sha265="")


def test_canonical_json_is_exactly_this() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"z": "ü/\n", "y": ()}}

    assert canonical_json(value) == ('{"a":{"y":[],"z":"ü/\\n"},"b":[1,2.5,null,true]}'.encode())


def test_pretty_json_is_exactly_this() -> None:
    value = {"b": [1], "a": "ü"}

    assert pretty_json(value) == '{\n  "a": "ü",\n  "b": [\n    1\n  ]\n}\n'.encode()


@given(documents)
def test_both_forms_of_json_lose_nothing(document: Any) -> None:
    assert json.loads(canonical_json(document)) == document
    assert json.loads(pretty_json(document)) == document


@given(st.dictionaries(texts, texts), st.randoms())
def test_the_order_of_keys_does_not_matter(document: dict[str, str], random: Random) -> None:
    items = list(document.items())
    random.shuffle(items)

    shuffled = dict(items)

    assert canonical_json(shuffled) == canonical_json(document)
    assert pretty_json(shuffled) == pretty_json(document)


@pytest.mark.parametrize("number", [float("nan"), float("inf")], ids=["nan", "infinity"])
def test_a_number_that_json_lacks_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"seconds": number})


def test_models_may_be_nested_in_what_is_written() -> None:
    artifact = make_artifact()

    written = json.loads(canonical_json({"files": [artifact], "by_name": {"a": artifact}}))

    plain = artifact.model_dump(mode="json")
    assert written == {"files": [plain], "by_name": {"a": plain}}


def test_a_model_is_written_with_the_public_name_of_its_fields() -> None:
    written = json.loads(pretty_json(make_manifest()))

    assert written["schema"] == 1
    assert "schema_version" not in written


def test_a_content_key_is_the_same_on_every_machine_and_in_every_version() -> None:
    """A change here makes everybody's finished stages worthless: is it meant?"""
    key = content_key("translate", 3, source="ü", options=("--opt=jit",), size=1)

    text = (
        '{"inputs":{"options":["--opt=jit"],"size":1,"source":"ü"},'
        '"stage":"translate","stage_version":3}'
    )
    assert key == hashlib.sha256(text.encode()).hexdigest()
    assert key == "d9a469373ea6520752f75ba9380e01a1ecc2c48fcc01ec03dbea1a7775729647"


def test_the_order_of_inputs_does_not_change_a_content_key() -> None:
    assert content_key("sign", 1, a=1, b=2) == content_key("sign", 1, b=2, a=1)


def test_everything_that_decides_an_output_changes_its_content_key() -> None:
    keys = {
        content_key("package", 1, a=1),
        content_key("verify", 1, a=1),
        content_key("package", 2, a=1),
        content_key("package", 1, a=2),
        content_key("package", 1, a="1"),
        content_key("package", 1, b=1),
        content_key("package", 1, a=1, b=None),
        content_key("package", 1),
    }

    assert len(keys) == 8


def test_a_changed_model_changes_a_content_key() -> None:
    job = make_job()
    other = changed(job, stem="other")

    assert content_key("package", 1, job=job) == content_key("package", 1, job=make_job())
    assert content_key("package", 1, job=job) != content_key("package", 1, job=other)
