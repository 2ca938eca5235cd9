"""A self-signed certificate for the simulated gateway, made when the first TLS client appears.

It is what the real gateway's is: long expired, without a host's name, for TLS 1.2 at most.

The `openssl` command makes it where there is one (the gateway's image has it), otherwise a child
process with the `cryptography` package: neither is loaded into the simulator, which has a small
memory bar.  With a folder given the certificate is kept there, so that a client which pinned it
still trusts the simulator after a restart.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

SUBJECT = {
    "C": "US", "ST": "CT", "L": "Greenwich", "O": "Interactive Brokers", "OU": "Client Portal",
    "CN": "Client Portal Web API",
}  # fmt: skip
BEGIN, END = "20190210162602Z", "20190511162602Z"
"""The real gateway's certificate ran out in 2019, and names no host."""
_AUTHORITY = """[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
policy = any
[any]
C = optional
ST = optional
L = optional
O = optional
OU = optional
CN = optional
"""

_WITH_CRYPTOGRAPHY = """
import datetime, json, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
subject, begin, end = json.loads(sys.argv[3]), sys.argv[4], sys.argv[5]
names = {each: getattr(x509.NameOID, word) for each, word in (
    ("C", "COUNTRY_NAME"), ("ST", "STATE_OR_PROVINCE_NAME"), ("L", "LOCALITY_NAME"),
    ("O", "ORGANIZATION_NAME"), ("OU", "ORGANIZATIONAL_UNIT_NAME"), ("CN", "COMMON_NAME"))}
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
name = x509.Name([x509.NameAttribute(names[each], value) for each, value in subject.items()])
moments = [datetime.datetime.strptime(each, "%Y%m%d%H%M%SZ") for each in (begin, end)]
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(x509.random_serial_number()).not_valid_before(moments[0])
    .not_valid_after(moments[1]).sign(key, hashes.SHA256())
)
open(sys.argv[1], "wb").write(key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
open(sys.argv[2], "wb").write(certificate.public_bytes(serialization.Encoding.PEM))
"""


class CertificateError(Exception):
    """No certificate could be made: neither openssl nor cryptography is there."""


async def server_context(folder: Path | None = None) -> ssl.SSLContext:
    """A TLS server context with a self-signed certificate.

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
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _create(key: Path, certificate: Path) -> None:
    os.close(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    problem = (
        _by_openssl(key, certificate) if shutil.which("openssl") else _by_package(key, certificate)
    )
    if problem is not None:
        key.unlink(missing_ok=True)
        raise CertificateError(problem)


def _by_openssl(key: Path, certificate: Path) -> str | None:
    """Make both with the command; gives what went wrong."""
    subject = "".join(f"/{name}={value}" for name, value in SUBJECT.items())
    with tempfile.TemporaryDirectory(prefix="portal-") as folder:
        (Path(folder) / "authority").write_text(_AUTHORITY)
        (Path(folder) / "index.txt").touch()
        request = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject]
        sign = ["openssl", "ca", "-batch", "-selfsign", "-config", "authority", "-md", "sha256"]
        sign += ["-startdate", BEGIN, "-enddate", END, "-notext", "-in", "request"]
        key, certificate = key.absolute(), certificate.absolute()
        return _run([*request, "-keyout", str(key), "-out", "request"], folder) or _run(
            [*sign, "-keyfile", str(key), "-out", str(certificate)], folder
        )


def _by_package(key: Path, certificate: Path) -> str | None:
    """Make both with `cryptography`; gives what went wrong."""
    words = [str(key), str(certificate), json.dumps(SUBJECT), BEGIN, END]
    return _run([sys.executable, "-W", "ignore", "-c", _WITH_CRYPTOGRAPHY, *words])


def _run(command: list[str], folder: str | None = None) -> str | None:
    result = subprocess.run(command, capture_output=True, timeout=30, check=False, cwd=folder)
    if result.returncode == 0:
        return None
    return result.stderr.decode(errors="replace").strip()[-300:] or "it failed"
