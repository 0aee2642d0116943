"""A CA of a farm's own and its master's certificate, so that workers know whom they dial.

The library is the farm's own (it comes with ``buildbot[tls]``), so this is imported where a farm is
made, and nowhere else.
"""

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.effects.files import write_privately

AUTHORITY: Final = "rpython-pipeline farm CA"
SERVER: Final = "rpython-pipeline farm master"
AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 397
# Renewed at a start, so long before it expires.
RENEW_DAYS: Final = 60
# The clock of a worker may be a little behind.
BACKDATED: Final = timedelta(hours=1)

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Files:
    """Where the certificates and keys of a farm are: PEM files, keys for their owner only."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificate that workers are given."""
        return self.directory / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """What signs new certificates of the master."""
        return self.directory / "ca.key"

    @property
    def server(self) -> Path:
        """The master's certificate."""
        return self.directory / "server.pem"

    @property
    def server_key(self) -> Path:
        """The master's key."""
        return self.directory / "server.key"


def ensure_certificates(files: Files, hosts: Collection[str], now: datetime) -> None:
    """Make the CA if there is none, and a certificate for *hosts* unless there is a good one."""
    files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (files.ca.is_file() and files.ca_key.is_file()):
        key = ec.generate_private_key(ec.SECP256R1())
        _write(files.ca, files.ca_key, _authority(key, now), key)
    elif _is_good(files, hosts, now):
        return
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    ca_key = serialization.load_pem_private_key(files.ca_key.read_bytes(), password=None)
    if not isinstance(ca_key, Key):
        msg = f"{files.ca_key}: not a key of this program's"
        raise TypeError(msg)
    key = ec.generate_private_key(ec.SECP256R1())
    _write(files.server, files.server_key, _server(ca, ca_key, key, hosts, now), key)


def _is_good(files: Files, hosts: Collection[str], now: datetime) -> bool:
    if not (files.server.is_file() and files.server_key.is_file()):
        return False
    found = x509.load_pem_x509_certificate(files.server.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    fresh = found.not_valid_after_utc - now > timedelta(days=RENEW_DAYS)
    return fresh and set(names) == set(_names(hosts))


def _authority(key: Key, now: datetime) -> x509.Certificate:
    usage = {name: name in {"key_cert_sign", "crl_sign"} for name in _USAGES}
    return (
        _certificate(AUTHORITY, key, now, days=AUTHORITY_DAYS)
        .issuer_name(_named(AUTHORITY))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server(
    ca: x509.Certificate, ca_key: Key, key: Key, hosts: Collection[str], now: datetime
) -> x509.Certificate:
    usage = {name: name == "digital_signature" for name in _USAGES}
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _certificate(SERVER, key, now, days=SERVER_DAYS)
        .issuer_name(ca.subject)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


_USAGES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _certificate(subject: str, key: Key, now: datetime, *, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _names(hosts: Collection[str]) -> list[x509.GeneralName]:
    return [_general_name(host) for host in sorted(set(hosts))]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(certificate: Path, private: Path, made: x509.Certificate, key: Key) -> None:
    """Write the key first: a certificate that is there has one."""
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    write_privately(private, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    write_privately(certificate, made.public_bytes(pem))
