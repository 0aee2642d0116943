"""A farm's own CA: what it signs, and when anew."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pipeline.farm.certificates import RENEW_DAYS, SERVER_DAYS, Files, ensure_certificates

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HOSTS = ("localhost", "127.0.0.1")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path / "tls")
    ensure_certificates(files, HOSTS, NOW)
    return files


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_master_s_certificate_is_for_its_names_and_of_the_farm_s_ca(files: Files) -> None:
    ca, server = certificate(files.ca), certificate(files.server)

    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names) == {
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    }
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert server.not_valid_before_utc < NOW


def test_only_their_owner_can_read_the_keys(files: Files) -> None:
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.directory.iterdir()} == {0o600}


def test_a_good_certificate_stays(files: Files) -> None:
    before = files.server.read_bytes()

    ensure_certificates(files, HOSTS[::-1], NOW + timedelta(days=1))

    assert files.server.read_bytes() == before


@pytest.mark.parametrize(
    ("hosts", "days"),
    [
        pytest.param((*HOSTS, "farm"), 0, id="another-name"),
        pytest.param(HOSTS, SERVER_DAYS - RENEW_DAYS, id="expires-soon"),
    ],
)
def test_a_certificate_is_renewed_by_the_same_ca(
    files: Files, hosts: tuple[str, ...], days: int
) -> None:
    before, ca = files.server.read_bytes(), files.ca.read_bytes()

    ensure_certificates(files, hosts, NOW + timedelta(days=days))

    assert files.ca.read_bytes() == ca
    assert files.server.read_bytes() != before
    certificate(files.server).verify_directly_issued_by(certificate(files.ca))


def test_a_certificate_without_its_key_is_made_anew(files: Files) -> None:
    files.server_key.unlink()

    ensure_certificates(files, HOSTS, NOW)

    assert files.server_key.is_file()
