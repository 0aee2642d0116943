"""Whether a master can be reached and is who it should be, asked before a worker dials in.

Buildbot's worker tries again for ever and does not say why; this says it once, at its start.
"""

import socket
import ssl
from pathlib import Path
from typing import Final

from pipeline.errors import DialError

TIMEOUT: Final = 15.0
# OpenSSL's numbers of what is wrong with a certificate (x509_vfy.h).
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
UNKNOWN_ISSUER: Final = (18, 19, 20, 21)
OTHER_NAME: Final = (62, 64)


def trusting(ca: Path | None) -> ssl.SSLContext:
    """Return what checks a certificate against those in the PEM file *ca*, or the system's.

    Raises:
        DialError: the file cannot be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        msg = (
            f"{ca}: no CA certificate can be read: {error}. Copy the master's tls/ca.pem there; "
            "it begins with -----BEGIN CERTIFICATE-----."
        )
        raise DialError(msg) from error


def require_master(host: str, port: int, context: ssl.SSLContext | None) -> None:
    """Connect to a master once, over TLS if there is a *context*.

    Raises:
        DialError: it cannot be reached, or its certificate is not good for this name.
    """
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as plain:
            if context is not None:
                context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        msg = f"{where}: {certificate_fault(error.verify_code, error)}"
        raise DialError(msg) from error
    except ssl.SSLError as error:
        msg = (
            f"{where}: does not speak TLS ({error.reason or error}). Is this the port for workers, "
            "and has the master a certificate? On one machine --plain needs none."
        )
        raise DialError(msg) from error
    except OSError as error:
        msg = (
            f"{where}: no master can be reached: {error}. Check the name, the port (9989 unless "
            "its settings say another) and the firewall; a worker dials out, nobody dials in."
        )
        raise DialError(msg) from error


def certificate_fault(code: int, error: Exception) -> str:
    """Return what is wrong with a master's certificate, and what to do, by OpenSSL's number."""
    if code == NOT_YET_VALID:
        return (
            "its certificate is not valid yet. A clock is wrong: compare `date --utc` on both "
            "machines, and let NTP set them."
        )
    if code == EXPIRED:
        return (
            "its certificate has expired, or this machine's clock is wrong (`date --utc`). Make "
            "the master a new one."
        )
    if code in UNKNOWN_ISSUER:
        return (
            "its certificate is not of the CA given here. Copy tls/ca.pem of this very master and "
            "name it with --ca."
        )
    if code in OTHER_NAME:
        return (
            "its certificate is for another name. Dial the name that it has, or make one with "
            f"this name. ({error})"
        )
    return f"its certificate is refused: {error}"


def free_port(host: str) -> int:
    """Return a port of *host*, which is this machine's, that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
