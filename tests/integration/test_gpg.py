"""Real keys: what may sign, what may not, and what the check finds."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.effects.process import ProcessRunner
from pipeline.errors import SignatureError, SigningKeyError
from pipeline.model.configs import SigningConfig
from pipeline.sign.gpg import Keyring, quickstart_keyring, usable_key

pytestmark = pytest.mark.gpg

NOW = datetime.now(tz=UTC)


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Keyring]:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    keyring = Keyring(process=ProcessRunner(), home=home)
    yield keyring
    keyring.stop_agent()


def add_key(keyring: Keyring, user: str, expires: str) -> str:
    """Make a key with GnuPG itself; return its fingerprint."""
    assert keyring.home is not None
    gpg = ["gpg", "--batch", "--homedir", str(keyring.home), "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", user, "ed25519", "sign", expires], check=True)
    listed = subprocess.run(
        [*gpg, "--with-colons", "--list-keys", f"={user}"], check=True, capture_output=True
    )
    return next(
        line.split(":")[9] for line in listed.stdout.decode().splitlines() if line[:3] == "fpr"
    )


def config(key: str, days: int = 30) -> SigningConfig:
    return SigningConfig(key=key, minimum_days=days)


def test_a_good_key_signs_and_gpgv_agrees(keyring: Keyring, tmp_path: Path) -> None:
    fingerprint = add_key(keyring, "good", "1y")
    signed, signature = tmp_path / "SHA256SUMS", tmp_path / "SHA256SUMS.asc"
    signed.write_text("content\n")

    key = usable_key(keyring, config(fingerprint), NOW)
    keyring.sign(signed, signature, key.fingerprint)
    keyring.verify(signed, signature, key.fingerprint)

    assert signature.read_text().startswith("-----BEGIN PGP SIGNATURE-----")


def test_an_altered_file_does_not_verify(keyring: Keyring, tmp_path: Path) -> None:
    fingerprint = add_key(keyring, "good", "1y")
    signed, signature = tmp_path / "SHA256SUMS", tmp_path / "SHA256SUMS.asc"
    signed.write_text("content\n")
    keyring.sign(signed, signature, fingerprint)
    signed.write_text("other content\n")

    with pytest.raises(SignatureError, match="not a good signature"):
        keyring.verify(signed, signature, fingerprint)


def test_a_good_signature_by_another_key_does_not_verify(keyring: Keyring, tmp_path: Path) -> None:
    wanted, other = add_key(keyring, "wanted", "1y"), add_key(keyring, "other", "1y")
    signed, signature = tmp_path / "SHA256SUMS", tmp_path / "SHA256SUMS.asc"
    signed.write_text("content\n")
    keyring.sign(signed, signature, other)

    with pytest.raises(SignatureError, match=wanted):
        keyring.verify(signed, signature, wanted)


def test_a_missing_key_is_refused_and_the_present_ones_named(keyring: Keyring) -> None:
    present = add_key(keyring, "present", "1y")

    with pytest.raises(SigningKeyError, match=present):
        usable_key(keyring, config("0" * 40), NOW)


def test_an_expired_key_is_refused(keyring: Keyring) -> None:
    fingerprint = add_key(keyring, "old", "seconds=1")
    while "sec:e:" not in keyring.secret_keys():
        pass

    with pytest.raises(SigningKeyError, match="has expired"):
        usable_key(keyring, config(fingerprint), NOW)


def test_a_key_that_expires_too_soon_is_refused(keyring: Keyring) -> None:
    fingerprint = add_key(keyring, "soon", "10d")

    assert usable_key(keyring, config(fingerprint, days=5), NOW).expires is not None
    with pytest.raises(SigningKeyError, match="must stay valid for 30 days"):
        usable_key(keyring, config(fingerprint), NOW)


def test_a_revoked_key_is_refused(keyring: Keyring) -> None:
    assert keyring.home is not None
    fingerprint = add_key(keyring, "revoked", "1y")
    (certificate,) = (keyring.home / "openpgp-revocs.d").iterdir()
    text = certificate.read_text().replace(":-----BEGIN", "-----BEGIN")
    certificate.write_text(text)
    command = ["gpg", "--batch", "--homedir", str(keyring.home), "--import", str(certificate)]
    subprocess.run(command, check=True)

    with pytest.raises(SigningKeyError, match="is revoked"):
        usable_key(keyring, config(fingerprint), NOW)


def test_the_quickstart_key_is_made_once(tmp_path: Path) -> None:
    home = tmp_path / "keys"

    with quickstart_keyring(ProcessRunner(), home) as keyring:
        first = usable_key(keyring, config("quickstart"), NOW)
    with quickstart_keyring(ProcessRunner(), home) as keyring:
        second = usable_key(keyring, config("quickstart"), NOW)

    assert first == second
    assert first.expires is not None
    assert first.expires < NOW + timedelta(days=366)


def test_a_long_directory_is_no_hindrance(tmp_path: Path) -> None:
    """An agent's socket cannot have a path of more than 107 bytes."""
    home = tmp_path / ("deep" * 20) / ("deeper" * 10) / "keys"
    signed = tmp_path / "file"
    signed.write_text("content")

    with quickstart_keyring(ProcessRunner(), home) as keyring:
        key = usable_key(keyring, config("quickstart"), NOW)
        keyring.sign(signed, tmp_path / "signature", key.fingerprint)
        keyring.verify(signed, tmp_path / "signature", key.fingerprint)


def test_no_agent_is_left_behind(tmp_path: Path) -> None:
    with quickstart_keyring(ProcessRunner(), tmp_path / "keys"):
        pass

    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True)
    assert str(tmp_path) not in listed.stdout
