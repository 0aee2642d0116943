"""Signs the ledger, and checks the signature of one that a store gives.

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
from pipeline.errors import SignatureError
from pipeline.model.base import canonical_json
from pipeline.model.configs import SigningConfig
from pipeline.model.ledger import SignedLedger
from pipeline.sign.gpg import (
    Keyring,
    binary_keys,
    key_fingerprints,
    own_fingerprints,
    usable_key,
    verify_signature,
)
from pipeline.sign.release import has_keyring, signing_keyring


class Notary(Protocol):
    """Vouches for ledgers."""

    def signed(self, payload: bytes) -> SignedLedger:
        """Return *payload* with a signature; raises SigningKeyError."""

    def check(self, ledger: SignedLedger) -> None:
        """Check that a trusted key signed *ledger*; raises SignatureError."""


@dataclass(frozen=True, kw_only=True)
class KeyringNotary:
    """The notary of a channel: signs with its key, by the keyring of GnuPG.

    ``is_there`` says whether the keyring exists; signing makes the quickstart's, checking does
    not. What was signed or checked once is not checked again: ``known`` has the digests.
    """

    keyring: Callable[[], AbstractContextManager[Keyring]]
    is_there: Callable[[], bool]
    config: SigningConfig
    process: ProcessRunner
    now: Now
    known: set[str] = field(default_factory=set)

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
        trusted, public_key = frozenset(self.config.trusted), b""
        if self.is_there():
            with self.keyring() as keyring:
                trusted |= own_fingerprints(keyring, self.config)
                public_key = keyring.exported(ledger.fingerprint)
        _check(self.process, ledger, trusted, public_key)
        self.known.add(_digest(ledger))


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
        trusted = key_fingerprints(self.process, self.path)
        _check(self.process, ledger, trusted, binary_keys(self.process, self.path))


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


def _check(
    process: ProcessRunner, ledger: SignedLedger, trusted: frozenset[str], public_keys: bytes
) -> None:
    if ledger.fingerprint not in trusted or not public_keys:
        msg = (
            f"the ledger is signed by {ledger.fingerprint}, which is not trusted here (trusted: "
            f"{', '.join(sorted(trusted)) or 'none'}). If it should be, import that key with gpg "
            "--import and name it in channels.toml: signing.trusted; else find out who wrote it."
        )
        raise SignatureError(msg)
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        path, signature, keyring = (
            Path(temporary, name) for name in ("ledger.json", "ledger.asc", "key.gpg")
        )
        path.write_bytes(ledger.payload.encode())
        signature.write_text(ledger.signature, encoding="utf-8")
        keyring.write_bytes(public_keys)
        verify_signature(process, path, signature, keyring, ledger.fingerprint)
