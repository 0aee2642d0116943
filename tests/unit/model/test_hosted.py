"""``hosted.toml``: what would make a workflow that does not do what it says is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config import load_hosted
from pipeline.model.hosted import HostedConfig
from tests.factories import CONFIGS


def spoiled(spoil: Callable[[Any], object]) -> None:
    fields: Any = load_hosted(CONFIGS).model_dump(mode="json")
    spoil(fields)
    HostedConfig.model_validate(fields)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda it: it["runners"].append(it["runners"][0]), "more than one for linux x86_64"),
        (lambda it: it.update(trusted="macos-15"), "trusted: macos-15 is the label of no runner"),
        (lambda it: it["actions"]["checkout"].update(commit="v7.0.1"), "should match pattern"),
        (lambda it: it["actions"]["checkout"].update(release="v7"), "should match pattern"),
        (lambda it: it["runners"][0].update(label="a\n  b: c"), "should match pattern"),
        (lambda it: it.update(build_minutes=361), "less than or equal to 360"),
    ],
    ids=["kinds", "trusted", "commit", "release", "label", "longest"],
)
def test_what_cannot_work_is_refused(spoil: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spoiled(spoil)


def test_runners_are_found_by_their_kind() -> None:
    hosted = load_hosted(CONFIGS)

    found = hosted.runner_for("linux", "aarch64")

    assert found is not None
    assert found.label == "ubuntu-24.04-arm"
    assert hosted.runner_for("linux", "s390x") is None


def test_machines_of_linux_have_an_engine_and_others_have_none() -> None:
    workers = [row.worker for row in load_hosted(CONFIGS).runners]

    assert {(it.os, it.containers) for it in workers} == {
        ("linux", True),
        ("darwin", False),
        ("windows", False),
    }
