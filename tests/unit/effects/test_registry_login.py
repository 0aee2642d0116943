"""Who a registry is told to be speaking with, and what its challenges mean."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.effects.registry_login import Challenge, Credentials, challenges_of, credentials_for
from pipeline.errors import ConfigError
from pipeline.model.images import RegistryConfig

CONFIG = RegistryConfig(repository="ghcr.io/owner")
SECRET = "canary-91d2f0c4"  # noqa: S105 - of nobody


def write_auths(home: Path, **auths: str) -> None:
    """Write docker's file with who to be for hosts; ``_`` in names is ``.``."""
    entries = {
        host.replace("_", "."): {"auth": base64.b64encode(text.encode()).decode()}
        for host, text in auths.items()
    }
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"auths": entries}))


def test_the_variables_come_first(tmp_path: Path) -> None:
    write_auths(tmp_path, ghcr_io="other:secret")
    environment = {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": SECRET}

    assert credentials_for(CONFIG, environment, tmp_path) == Credentials("me", SECRET)


def test_variables_have_the_names_that_the_configuration_says(tmp_path: Path) -> None:
    names = {"username_variable": "WHO", "password_variable": "WORD"}
    config = RegistryConfig.model_validate({"repository": "ghcr.io/owner", **names})
    environment = {"WHO": "me", "WORD": SECRET, "REGISTRY_USERNAME": "no"}

    assert credentials_for(config, environment, tmp_path) == Credentials("me", SECRET)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("REGISTRY_USERNAME", "REGISTRY_PASSWORD"), ("REGISTRY_PASSWORD", "REGISTRY_USERNAME")],
)
def test_half_of_them_is_a_mistake(tmp_path: Path, name: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing} is not set") as caught:
        credentials_for(CONFIG, {name: SECRET}, tmp_path)

    assert SECRET not in str(caught.value)


def test_dockers_file_is_looked_at_without_them(tmp_path: Path) -> None:
    write_auths(tmp_path, ghcr_io=f"me:{SECRET}:with a colon", quay_io="no:no")

    assert credentials_for(CONFIG, {}, tmp_path) == Credentials("me", f"{SECRET}:with a colon")


def test_dockers_directory_may_be_elsewhere(tmp_path: Path) -> None:
    write_auths(tmp_path, ghcr_io=f"me:{SECRET}")
    environment = {"DOCKER_CONFIG": str(tmp_path / ".docker")}

    assert credentials_for(CONFIG, environment, Path("/nowhere")) == Credentials("me", SECRET)


@pytest.mark.parametrize("name", ["docker.io", "https://index.docker.io/v1/"])
def test_docker_hub_has_several_names(tmp_path: Path, name: str) -> None:
    (tmp_path / ".docker").mkdir()
    entry = {"auth": base64.b64encode(b"me:word").decode()}
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {name: entry}}))

    found = credentials_for(RegistryConfig(repository="docker.io/owner"), {}, tmp_path)

    assert found == Credentials("me", "word")


@pytest.mark.parametrize("text", ["{}", '{"auths": {}}', '{"auths": {"ghcr.io": {}}}'])
def test_nobody_is_somebody_too(tmp_path: Path, text: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(text)

    assert credentials_for(CONFIG, {}, tmp_path) is None
    assert credentials_for(CONFIG, {}, tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "text",
    [SECRET, "[]", '{"auths": []}', f'{{"auths": {{"ghcr.io": {{"auth": "%{SECRET}"}}}}}}'],
)
def test_a_damaged_file_is_named_without_what_is_in_it(tmp_path: Path, text: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(text)

    with pytest.raises(ConfigError, match=r"config\.json: cannot be read") as caught:
        credentials_for(CONFIG, {}, tmp_path)

    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


def test_a_password_is_in_no_representation() -> None:
    assert SECRET not in repr(Credentials("me", SECRET))


def test_a_bearers_challenge_has_commas_in_its_scope() -> None:
    header = (
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
        'scope="repository:owner/pypy:pull,push",error="invalid_token"'
    )

    assert challenges_of(header) == (
        Challenge(
            scheme="bearer",
            parameters={
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:owner/pypy:pull,push",
                "error": "invalid_token",
            },
        ),
    )


def test_several_challenges_may_stand_in_one_header() -> None:
    found = challenges_of(r'Basic realm="a \"quoted\" one", Bearer Realm=https://x/token , k="v"')

    assert [item.scheme for item in found] == ["basic", "bearer"]
    assert found[0].parameters == {"realm": 'a "quoted" one'}
    assert found[1].parameters == {"realm": "https://x/token", "k": "v"}


@given(st.text())
def test_any_header_is_read(header: str) -> None:
    for challenge in challenges_of(header):
        assert challenge.scheme == challenge.scheme.lower()
