"""A certificate for the machine that this runs on, signed by the cluster's own authority.

Machines run it before Ray, which speaks TLS with it to the others; this package is not installed
there. A machine's addresses are known on it alone: it may have more than the one it is reached at.

    python slipway_certificate.py FOLDER

FOLDER holds authority.pem and authority.key; node.pem and node.key are written beside them.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import sys
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

YEARS = dt.timedelta(days=3650)
CLOCKS_APART = dt.timedelta(days=1)
"""Valid since so long, for machines whose clocks are behind."""


def authority() -> tuple[bytes, bytes]:
    """A new authority: its certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("slipway")
    made = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(made.sign(key, hashes.SHA256())), _pem_of_key(key)


def certificate(authority_pem: bytes, authority_key: bytes) -> tuple[bytes, bytes]:
    """A certificate for all names and addresses of this machine, and its key, as PEM."""
    signer = x509.load_pem_x509_certificate(authority_pem)
    by = serialization.load_pem_private_key(authority_key, password=None)
    assert isinstance(by, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    host = socket.gethostname()
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in (host, "localhost")]
    names += [x509.IPAddress(address) for address in addresses()]
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())
    made = (
        _builder(_named(host), signer.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(signed_by, critical=False)
    )
    return _pem(made.sign(by, hashes.SHA256())), _pem_of_key(key)


def addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """All addresses of this machine's interfaces."""
    kinds = (socket.AF_INET, socket.AF_INET6)
    found = [
        a.address for each in psutil.net_if_addrs().values() for a in each if a.family in kinds
    ]
    return sorted({ipaddress.ip_address(each.partition("%")[0]) for each in found}, key=str)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_APART)
        .not_valid_after(now + YEARS)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _pem(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def main() -> int:
    """Write this machine's certificate and key; returns the exit code."""
    folder = Path(sys.argv[1]).expanduser()
    by = (folder / "authority.pem").read_bytes(), (folder / "authority.key").read_bytes()
    for name, content in zip(("node.pem", "node.key"), certificate(*by), strict=True):
        place = folder / name
        place.unlink(missing_ok=True)
        with open(place, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
