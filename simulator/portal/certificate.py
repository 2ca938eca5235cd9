"""A self-signed certificate for the simulated gateway, made when the first TLS client appears.

The `openssl` command makes it where there is one (the gateway's image has it), otherwise a child
process with the `cryptography` package: neither is loaded into the simulator, which has a small
memory bar.  With a folder given the certificate is kept there, so that a client which pinned it
still trusts the simulator after a restart.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

_OPENSSL = [
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    *("-nodes", "-days", "3650", "-subj", "/CN=localhost"),
    *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
]

_WITH_CRYPTOGRAPHY = """
import datetime, ipaddress, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    .not_valid_after(now + datetime.timedelta(days=3650))
    .add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
)
open(sys.argv[1], "wb").write(key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
open(sys.argv[2], "wb").write(certificate.public_bytes(serialization.Encoding.PEM))
"""


class CertificateError(Exception):
    """No certificate could be made: neither openssl nor cryptography is there."""


async def server_context(folder: Path | None = None) -> ssl.SSLContext:
    """A TLS server context with a self-signed certificate for localhost.

    Args:
        folder: where `portal-key.pem` and `portal-certificate.pem` are kept; None makes a
            certificate of this process's own, whose key does not stay on disk.

    Raises:
        CertificateError: no certificate could be made.
    """
    return await asyncio.to_thread(_server_context, folder)


def _server_context(folder: Path | None) -> ssl.SSLContext:
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _load_or_create(folder)
    with tempfile.TemporaryDirectory(prefix="portal-") as temporary:
        return _load_or_create(Path(temporary))


def _load_or_create(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "portal-key.pem", folder / "portal-certificate.pem"
    if not (key.exists() and certificate.exists()):
        _create(key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _create(key: Path, certificate: Path) -> None:
    os.close(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    if shutil.which("openssl"):
        command = [*_OPENSSL, "-keyout", str(key), "-out", str(certificate)]
    else:
        command = [sys.executable, "-c", _WITH_CRYPTOGRAPHY, str(key), str(certificate)]
    result = subprocess.run(command, capture_output=True, timeout=30, check=False)
    if result.returncode != 0:
        key.unlink(missing_ok=True)
        raise CertificateError(result.stderr.decode(errors="replace").strip()[-300:])
