"""A master's settings and secrets: what is wrong is said, and no secret is readable by others."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.farm.settings import MasterSettings, database_url, read_secret, read_settings, secret


def make_settings(directory: Path, **changed: Any) -> MasterSettings:
    return MasterSettings.model_validate(
        {"root": directory, "secrets": directory / "secrets", **changed}
    )


def write_secret(settings: MasterSettings, name: str, text: str, mode: int = 0o600) -> None:
    settings.secrets.mkdir(mode=0o700, exist_ok=True)
    path = settings.secrets / name
    path.write_text(text)
    path.chmod(mode)


def test_workers_dial_in_over_tls_where_there_is_a_certificate(tmp_path: Path) -> None:
    plain = make_settings(tmp_path)
    safe = make_settings(tmp_path, bind="::", certificate="/etc/c:1.pem", private_key="/etc/k.pem")

    assert plain.workers == "tcp:port=9989:interface=127.0.0.1"
    assert safe.workers == (
        r"ssl:port=9989:privateKey=/etc/k.pem:certKey=/etc/c\:1.pem:interface=\:\:"
    )


def test_operations_listen_only_where_there_is_a_port(tmp_path: Path) -> None:
    assert make_settings(tmp_path).operations is None
    found = make_settings(tmp_path, operations_port=9101).operations
    assert found == "tcp:port=9101:interface=127.0.0.1"


def test_certificate_without_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    document = {"root": "/p", "secrets": "/s", "certificate": "/c"}
    path.write_text(json.dumps(document))

    with pytest.raises(ConfigError, match="certificate and private_key belong together"):
        read_settings(path)


def test_missing_and_wrong_settings_say_which_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    with pytest.raises(ConfigError, match=r"settings\.json: no such file"):
        read_settings(path)

    path.write_text('{"root": "/p", "secrets": "/s", "www_port": 0}')

    with pytest.raises(ConfigError, match=r"settings\.json: www_port: "):
        read_settings(path)


def test_secret_is_read_without_its_line_end(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    write_secret(settings, "worker-one", "pass word\n")

    assert secret(settings, "worker-one") == "pass word"


@pytest.mark.parametrize(
    ("text", "mode", "said"), [("x", 0o640, "others can read"), (" \n", 0o600, "is empty")]
)
def test_secret_that_is_none_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    settings = make_settings(tmp_path)
    write_secret(settings, "worker-one", text, mode)

    with pytest.raises(ConfigError, match=said):
        secret(settings, "worker-one")
    with pytest.raises(ConfigError, match="no such file"):
        secret(settings, "worker-two")


def test_a_directory_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_secret(tmp_path)


def test_database_with_a_password_is_a_secret(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    assert database_url(settings) == "sqlite:///state.sqlite"

    write_secret(settings, "database", "postgresql://farm:word@db/farm\n")

    assert database_url(settings) == "postgresql://farm:word@db/farm"
