"""Signatures by GnuPG, checked by ``gpgv``, which shares no key handling with the signing.

The machine-readable outputs are described in GnuPG's ``doc/DETAILS`` (colon listings, status
lines) and its manual. Keys and passphrases stay with GnuPG and its agent.
"""

import base64
import shutil
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from pipeline.effects.process import Completed, ProcessRunner, Tool
from pipeline.errors import CommandError, SignatureError, SigningKeyError
from pipeline.model.configs import SigningConfig

GPG: Final = Tool(program="gpg", purpose="sign releases", package="gnupg")
GPGV: Final = Tool(program="gpgv", purpose="check signatures", package="gpgv")
QUICKSTART: Final = "quickstart"
QUICKSTART_USER: Final = "Throw-away quickstart key (trust nothing signed with it)"
QUICKSTART_DAYS: Final = 365
QUICKSTART_TEMPLATE: Final = f"""\
%no-protection
Key-Type: EDDSA
Key-Curve: ed25519
Key-Usage: sign
Name-Real: {QUICKSTART_USER}
Expire-Date: {QUICKSTART_DAYS}d
%commit
"""
NOT_GOOD: Final = frozenset({"REVKEYSIG", "EXPSIG", "BADSIG", "ERRSIG"})
CLEAR_BEGIN: Final = b"-----BEGIN PGP SIGNED MESSAGE-----\n"
CLEAR_END: Final = b"-----END PGP SIGNATURE-----\n"
# A socket's path may have 107 bytes, and gpg-agent puts sockets into its home directory.
LONGEST_HOME: Final = 80

_KEY_FIELDS: Final = 12
_BROKEN: Final[Mapping[str, str]] = {
    "e": "has expired",
    "r": "is revoked",
    "d": "is disabled",
    "i": "is invalid",
}


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A secret key that may sign; ``expires`` is None for a key that never does."""

    fingerprint: str
    expires: datetime | None


@dataclass(frozen=True, kw_only=True)
class Keyring:
    """A GnuPG home directory; None is the user's own."""

    process: ProcessRunner
    home: Path | None

    def secret_keys(self) -> str:
        """Return the colon listing of the secret keys."""
        return self._gpg("--list-secret-keys", check=False).text

    def make_quickstart_key(self) -> None:
        """Make an Ed25519 key without passphrase that is valid for a year."""
        with tempfile.NamedTemporaryFile("w", prefix="rpp-") as template:
            template.write(QUICKSTART_TEMPLATE)
            template.flush()
            self._gpg("--generate-key", template.name)

    def sign(self, path: Path, signature: Path, fingerprint: str) -> None:
        """Write a detached ASCII signature of *path*; raises SigningKeyError."""
        self._sign(path, signature, fingerprint, "--armor", "--detach-sign")

    def clear_sign(self, path: Path, signed: Path, fingerprint: str) -> None:
        """Write the text at *path* with its signature around it; raises SigningKeyError."""
        self._sign(path, signed, fingerprint, "--clear-sign")

    def public_key(self, fingerprint: str) -> bytes:
        """Return the public key in ASCII armour."""
        return self._gpg("--armor", "--export", fingerprint).stdout

    def exported(self, fingerprint: str) -> bytes:
        """Return the public key in the binary form that gpgv reads; empty if there is none."""
        return self._gpg("--export", fingerprint).stdout

    def verify(self, path: Path, signature: Path, fingerprint: str) -> None:
        """Check *signature* with gpgv against this one key; raises SignatureError."""
        with tempfile.TemporaryDirectory(prefix="rpp-") as directory:
            keyring = Path(directory, "key.gpg")
            keyring.write_bytes(self.exported(fingerprint))
            verify_signature(self.process, path, signature, keyring, fingerprint)

    def stop_agent(self) -> None:
        """Stop the agent that GnuPG started for this home."""
        options = [] if self.home is None else ["--homedir", str(self.home)]
        self.process.run(["gpgconf", *options, "--kill", "all"], tool=GPG, check=False)

    def _sign(self, path: Path, output: Path, fingerprint: str, *how: str) -> None:
        options = ("--local-user", fingerprint, "--digest-algo", "SHA512", "--output", str(output))
        try:
            self._gpg(*options, *how, str(path))
        except CommandError as error:
            msg = (
                f"key {fingerprint} cannot sign {path.name}. If it has a passphrase, unlock it in "
                f"gpg-agent first (sign any file by hand).\n{error}"
            )
            raise SigningKeyError(msg) from error

    def _gpg(self, *arguments: str, check: bool = True) -> Completed:
        options = [] if self.home is None else ["--homedir", str(self.home)]
        return self.process.run(
            ["gpg", "--batch", "--no-tty", "--with-colons", *options, *arguments],
            tool=GPG,
            environment={"LC_ALL": "C"},
            check=check,
            timeout=120,
        )


@contextmanager
def quickstart_keyring(process: ProcessRunner, home: Path) -> Iterator[Keyring]:
    """Give the keyring in *home*, with a throw-away key made if there is none yet."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _short(home) as place:
        keyring = Keyring(process=process, home=place)
        try:
            if "\nfpr:" not in f"\n{keyring.secret_keys()}":
                keyring.make_quickstart_key()
            yield keyring
        finally:
            keyring.stop_agent()


def usable_key(keyring: Keyring, config: SigningConfig, now: datetime) -> SigningKey:
    """Return the key that signs, if it may.

    Raises:
        SigningKeyError: it is missing, unusable, expired, or expires too soon.
    """
    keys = list(_parse(keyring.secret_keys()))
    where = "channels.toml: key signing.key"
    if config.key == QUICKSTART:
        found = keys[:1]
    else:
        found = [item for item in keys if item[0].fingerprint == config.key]
    if not found:
        have = ", ".join(item[0].fingerprint for item in keys) or "none"
        msg = (
            f"{where}: no secret key {config.key} in the keyring (it has: {have}). Import it with "
            "gpg --import, or set GNUPGHOME to the keyring that has it."
        )
        raise SigningKeyError(msg)
    key, validity = found[0]
    if validity in _BROKEN:
        until = f" ({key.expires:%Y-%m-%d})" if key.expires else ""
        msg = f"{where}: key {key.fingerprint} {_BROKEN[validity]}{until}. Sign with another key."
        raise SigningKeyError(msg)
    _check_expiry(key, config, now, where)
    return key


def _check_expiry(key: SigningKey, config: SigningConfig, now: datetime, where: str) -> None:
    if key.expires is not None and key.expires < now + timedelta(days=config.minimum_days):
        extend = f"Extend it (gpg --quick-set-expire {key.fingerprint} 1y) and publish that."
        again = "It is the quickstart's: remove keys/ in the work directory, a new one is made."
        msg = (
            f"{where}: key {key.fingerprint} expires on {key.expires:%Y-%m-%d}, but must stay "
            f"valid for {config.minimum_days} days. "
            f"{again if config.key == QUICKSTART else extend}"
        )
        raise SigningKeyError(msg)


def _parse(listing: str) -> Iterator[tuple[SigningKey, str]]:
    """Yield each primary secret key of a colon listing with its validity letter."""
    primary: list[str] | None = None
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] == "sec" and len(fields) >= _KEY_FIELDS:
            primary = fields
        elif fields[0] == "fpr" and primary is not None:
            expires = datetime.fromtimestamp(int(primary[6]), UTC) if primary[6] else None
            yield SigningKey(fingerprint=fields[9], expires=expires), primary[1]
            primary = None


def own_fingerprints(keyring: Keyring, config: SigningConfig) -> frozenset[str]:
    """Return the fingerprint of the channel's own key, also of one that may no longer sign."""
    if config.key != QUICKSTART:
        return frozenset((config.key,))
    return frozenset(key.fingerprint for key, _ in _parse(keyring.secret_keys()))


def key_fingerprints(process: ProcessRunner, path: Path) -> frozenset[str]:
    """Return the fingerprints of the keys in a file, without importing them.

    Raises:
        SignatureError: there is no key in it.
    """
    shown = process.run(
        ["gpg", "--batch", "--with-colons", "--show-keys", path],
        tool=GPG,
        environment={"LC_ALL": "C"},
        check=False,
    )
    rows = [line.split(":") for line in shown.text.splitlines()]
    after = pairwise(rows)
    found = frozenset(row[9] for before, row in after if (before[0], row[0]) == ("pub", "fpr"))
    if not found:
        msg = (
            f"{path}: there is no public key of OpenPGP in it. Get it from who makes the releases."
        )
        raise SignatureError(msg)
    return found


def binary_keys(process: ProcessRunner, path: Path) -> bytes:
    """Return an armoured key file in the binary form that gpgv reads."""
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        output = Path(temporary, "key.gpg")
        process.run(["gpg", "--batch", "--dearmor", "--output", output, path], tool=GPG)
        return output.read_bytes()


def verify_signature(
    process: ProcessRunner, path: Path, signature: Path, keyring: Path, fingerprint: str
) -> None:
    """Check a detached signature with ``gpgv`` and a binary keyring file.

    Raises:
        SignatureError: it is not a good signature of *path* by the key *fingerprint*.
    """
    done = process.run(
        ["gpgv", "--status-fd", "1", "--keyring", keyring, signature, path],
        tool=GPGV,
        check=False,
        environment={"LC_ALL": "C"},
    )
    valid = [
        line.split() for line in done.text.splitlines() if line.startswith("[GNUPG:] VALIDSIG")
    ]
    signers = {fields[-1] for fields in valid}
    # gpgv calls these valid all the same. A key that has expired since is good for old files.
    told = {line.split()[1] for line in done.text.splitlines() if line.startswith("[GNUPG:] ")}
    if done.status != 0 or signers != {fingerprint} or told & NOT_GOOD:
        msg = (
            f"{path.name}: {signature.name} is not a good signature by {fingerprint} (gpgv: "
            f"{done.last_lines or 'no message'}). Do not use the file."
        )
        raise SignatureError(msg)


@dataclass(frozen=True, kw_only=True)
class SignedText:
    """A text that was signed in clear, and the fingerprint of the key that signed it."""

    text: bytes
    fingerprint: str


def verified_text(process: ProcessRunner, data: bytes, keys: bytes) -> SignedText:
    """Return the text of the clear-signed message *data*, checked by ``gpgv``.

    *keys* are public keys in binary form. As apt, and other than for files of releases, this does
    not take a signature whose key has expired since.

    Raises:
        SignatureError: it is not a message with one good signature by one of these keys.
    """
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        message, keyring, output = (Path(temporary, name) for name in ("message", "keys", "text"))
        message.write_bytes(data)
        keyring.write_bytes(keys)
        done = process.run(
            ["gpgv", "--status-fd", "1", "--keyring", keyring, "--output", output, message],
            tool=GPGV,
            check=False,
            environment={"LC_ALL": "C"},
        )
        status = [
            line.split()[1:] for line in done.text.splitlines() if line.startswith("[GNUPG:] ")
        ]
        signers = [fields[-1] for fields in status if fields[0] == "VALIDSIG"]
        is_good = [fields[0] for fields in status].count("GOODSIG") == len(signers) == 1
        is_whole = data.startswith(CLEAR_BEGIN) and data.endswith(CLEAR_END)
        if done.status != 0 or not is_good or not is_whole:
            why = done.last_lines or "no message"
            msg = f"not a text with a good signature by a trusted key (gpgv: {why})."
            raise SignatureError(msg)
        return SignedText(text=output.read_bytes(), fingerprint=signers[0])


def armoured(keys: bytes) -> bytes:
    """Return binary public keys as one block of ASCII armour (RFC 4880, section 6)."""
    lines = textwrap.wrap(base64.b64encode(keys).decode("ascii"), 64)
    check = base64.b64encode(_crc24(keys).to_bytes(3, "big")).decode("ascii")
    name = "PGP PUBLIC KEY BLOCK"
    block = (f"-----BEGIN {name}-----", "", *lines, f"={check}", f"-----END {name}-----", "")
    return "\n".join(block).encode("ascii")


def _crc24(data: bytes) -> int:
    """Return the checksum of section 6.1 of RFC 4880."""
    value = 0xB704CE
    for byte in data:
        value ^= byte << 16
        for _ in range(8):
            value <<= 1
            if value & 0x1000000:
                value ^= 0x1864CFB
    return value


@contextmanager
def _short(home: Path) -> Iterator[Path]:
    """Give *home*, or a short link to it where its own path is too long for a socket.

    The link stays for as long as the agent runs: an agent whose directory goes away ends.
    """
    if len(str(home)) <= LONGEST_HOME:
        yield home
        return
    directory = Path(tempfile.mkdtemp(prefix="rpp-"))
    try:
        (directory / "g").symlink_to(home.resolve())
        yield directory / "g"
    finally:
        shutil.rmtree(directory, ignore_errors=True)
