"""Signs the ledger and apt's lists, and checks the signatures of those that a store gives.

Whoever can write into a store could otherwise write its history anew. The ledger's own key is the
channel's; other releasers' keys, and those of the time before, are ``signing.trusted``.
"""

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.effects.clock import Now
from pipeline.effects.context import Context
from pipeline.effects.process import ProcessRunner
from pipeline.errors import SignatureError, SigningKeyError
from pipeline.model.base import canonical_json
from pipeline.model.configs import SigningConfig
from pipeline.model.ledger import SignedLedger
from pipeline.sign.gpg import (
    Keyring,
    armoured,
    binary_keys,
    key_fingerprints,
    own_fingerprints,
    usable_key,
    verified_text,
    verify_signature,
)
from pipeline.sign.release import has_keyring, signing_keyring


class Notary(Protocol):
    """Vouches for ledgers, and for texts that are signed in clear as apt's ``InRelease`` is."""

    def signed(self, payload: bytes) -> SignedLedger:
        """Return *payload* with a signature; raises SigningKeyError."""

    def check(self, ledger: SignedLedger) -> None:
        """Check that a trusted key signed *ledger*; raises SignatureError."""

    def clearsigned(self, text: bytes) -> bytes:
        """Return *text* with a signature around it; raises SigningKeyError."""

    def signed_text(self, data: bytes) -> bytes:
        """Return the text of *data* if a trusted key signed it; raises SignatureError."""

    def public_keys(self) -> bytes | None:
        """Return all trusted public keys in one ASCII armour; None: no such are known here.

        Raises:
            SigningKeyError: some are here, but not all.
        """


class FileVerifier(Protocol):
    """Checks files of releases, as :class:`Notary` does ledgers."""

    def check_file(self, path: Path, signature: Path, fingerprint: str) -> None:
        """Check that *fingerprint* is a trusted key and signed *path*; raises SignatureError."""


@dataclass(frozen=True, kw_only=True)
class KeyringNotary:
    """The notary of a channel: signs with its key, by the keyring of GnuPG.

    ``is_there`` says whether the keyring exists; signing makes the quickstart's, checking does
    not. What was signed or checked once is not checked again: ``known`` has the digests of
    ledgers, ``texts`` what was in clear-signed messages.
    """

    keyring: Callable[[], AbstractContextManager[Keyring]]
    is_there: Callable[[], bool]
    config: SigningConfig
    process: ProcessRunner
    now: Now
    known: set[str] = field(default_factory=set)
    texts: dict[bytes, bytes] = field(default_factory=dict)

    def signed(self, payload: bytes) -> SignedLedger:
        """Return *payload* with a signature by the channel's key."""
        with self.keyring() as keyring, tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
            path, signature = Path(temporary, "ledger"), Path(temporary, "ledger.asc")
            path.write_bytes(payload)
            key = usable_key(keyring, self.config, self.now())
            keyring.sign(path, signature, key.fingerprint)
            ledger = SignedLedger(
                fingerprint=key.fingerprint,
                signature=signature.read_text(encoding="ascii"),
                payload=payload.decode(),
            )
        self.known.add(_digest(ledger))
        return ledger

    def check(self, ledger: SignedLedger) -> None:
        """Check that the channel's key, or another trusted one, signed *ledger*."""
        if _digest(ledger) in self.known:
            return
        _check_ledger(self.check_file, ledger)
        self.known.add(_digest(ledger))

    def clearsigned(self, text: bytes) -> bytes:
        """Return *text* with a signature by the channel's key around it, checked by gpgv."""
        with self.keyring() as keyring, tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
            path, signed = Path(temporary, "text"), Path(temporary, "text.asc")
            path.write_bytes(text)
            key = usable_key(keyring, self.config, self.now())
            keyring.clear_sign(path, signed, key.fingerprint)
            data = signed.read_bytes()
            found = verified_text(self.process, data, keyring.exported(key.fingerprint))
        if (found.text, found.fingerprint) != (text, key.fingerprint):
            msg = f"key {key.fingerprint} signed another text than it was given. Nothing was kept."
            raise SignatureError(msg)
        self.texts[data] = text
        return data

    def signed_text(self, data: bytes) -> bytes:
        """Return the text of *data* if the channel's key, or another trusted one, signed it."""
        if data not in self.texts:
            trusted = self._trusted_keys() if self.is_there() else {}
            self.texts[data] = _trusted_text(
                self.process,
                data,
                _Keys(trusted=frozenset(trusted), binary=b"".join(trusted.values())),
            )
        return self.texts[data]

    def public_keys(self) -> bytes | None:
        """Return the channel's key and the other trusted ones, whichever releaser asks."""
        if not self.is_there():
            return None
        keys = self._exported_keys()
        if missing := [name for name, key in keys.items() if not key]:
            msg = (
                f"users must have every key that may sign, but {', '.join(missing)} of key signing "
                "in channels.toml is not in the keyring here. Get it from who has it and import it "
                "with gpg --import, or take it out of trusted everywhere."
            )
            raise SigningKeyError(msg)
        return armoured(b"".join(keys.values()))

    def _trusted_keys(self) -> dict[str, bytes]:
        """Return the trusted keys that are in the keyring, in binary form, by fingerprint."""
        return {name: key for name, key in self._exported_keys().items() if key}

    def _exported_keys(self) -> dict[str, bytes]:
        """Return each trusted key in binary form, empty if it is not in the keyring."""
        with self.keyring() as keyring:
            names = {*self.config.trusted, *own_fingerprints(keyring, self.config)}
            return {name: keyring.exported(name) for name in sorted(names)}

    def check_file(self, path: Path, signature: Path, fingerprint: str) -> None:
        """Check that the channel's key, or another trusted one, signed *path*."""
        trusted, public_key = frozenset(self.config.trusted), b""
        if self.is_there():
            with self.keyring() as keyring:
                trusted |= own_fingerprints(keyring, self.config)
                public_key = keyring.exported(fingerprint)
        keys = _Keys(trusted=trusted, binary=public_key)
        _check(self.process, path, signature, fingerprint, keys)


@dataclass(frozen=True, kw_only=True)
class KeyFileNotary:
    """Checks with public keys from a file, as users have it; it cannot sign."""

    path: Path
    process: ProcessRunner

    def signed(self, payload: bytes) -> SignedLedger:
        """Refuse: a public key does not sign."""
        msg = f"{self.path}: {len(payload)} bytes to sign, but a public key only checks."
        raise SignatureError(msg)

    def check(self, ledger: SignedLedger) -> None:
        """Check that a key of the file signed *ledger*."""
        _check_ledger(self.check_file, ledger)

    def clearsigned(self, text: bytes) -> bytes:
        """Refuse: a public key does not sign."""
        msg = f"{self.path}: {len(text)} bytes to sign, but a public key only checks."
        raise SignatureError(msg)

    def signed_text(self, data: bytes) -> bytes:
        """Return the text of *data* if a key of the file signed it."""
        trusted = key_fingerprints(self.process, self.path)
        keys = _Keys(trusted=trusted, binary=binary_keys(self.process, self.path))
        return _trusted_text(self.process, data, keys)

    def public_keys(self) -> bytes | None:
        """Return None: which keys a channel trusts is not said by one that a user trusts."""
        return None

    def check_file(self, path: Path, signature: Path, fingerprint: str) -> None:
        """Check that a key of the file signed *path*."""
        trusted = key_fingerprints(self.process, self.path)
        keys = _Keys(trusted=trusted, binary=binary_keys(self.process, self.path))
        _check(self.process, path, signature, fingerprint, keys)


def channel_notary(ctx: Context, config: SigningConfig) -> KeyringNotary:
    """Return the notary of the channel that signs as *config* says."""
    return KeyringNotary(
        keyring=lambda: signing_keyring(ctx, config),
        is_there=lambda: has_keyring(ctx, config),
        config=config,
        process=ctx.process,
        now=ctx.now,
    )


def _digest(ledger: SignedLedger) -> str:
    return hashlib.sha256(canonical_json(ledger)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """Who is trusted, and public keys in the binary form that gpgv reads."""

    trusted: frozenset[str]
    binary: bytes


def _trusted_text(process: ProcessRunner, data: bytes, keys: _Keys) -> bytes:
    if not keys.binary:
        msg = "a text is to be checked, but there is no trusted key here (gpg --import it)."
        raise SignatureError(msg)
    found = verified_text(process, data, keys.binary)
    if found.fingerprint not in keys.trusted:
        msg = f"a text is signed by {found.fingerprint}, which is not trusted here."
        raise SignatureError(msg)
    return found.text


def _check_ledger(check_file: Callable[[Path, Path, str], None], ledger: SignedLedger) -> None:
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        path, signature = Path(temporary, "ledger.json"), Path(temporary, "ledger.asc")
        path.write_bytes(ledger.payload.encode())
        signature.write_text(ledger.signature, encoding="utf-8")
        check_file(path, signature, ledger.fingerprint)


def _check(
    process: ProcessRunner, path: Path, signature: Path, fingerprint: str, keys: _Keys
) -> None:
    if fingerprint not in keys.trusted or not keys.binary:
        msg = (
            f"{path.name} is signed by {fingerprint}, which is not trusted here (trusted: "
            f"{', '.join(sorted(keys.trusted)) or 'none'}). If it should be, import that key with "
            "gpg --import and name it in channels.toml: signing.trusted; else find out who wrote "
            "it."
        )
        raise SignatureError(msg)
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        keyring = Path(temporary, "key.gpg")
        keyring.write_bytes(keys.binary)
        verify_signature(process, path, signature, keyring, fingerprint)
