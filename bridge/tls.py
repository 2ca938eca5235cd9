"""TLS contexts for looking at a certificate and holding a peer to one, and fingerprints."""

from __future__ import annotations

import hashlib
import ssl

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: a pinned certificate stays the right one when it is old."""


def blind_context() -> ssl.SSLContext:
    """Only ever used to look at a certificate: nothing is sent over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def pinned_context(certificate: str) -> ssl.SSLContext:
    """Accepts this certificate (PEM) and no other, whatever its name or age."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is the identity
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags = ssl.VerifyFlags(int(context.verify_flags) | NO_CHECK_TIME)
    context.load_verify_locations(cadata=certificate)
    return context


def fingerprint_of(certificate: bytes) -> str:
    """`SHA256:` and the digest of a DER certificate in hex."""
    return f"SHA256:{hashlib.sha256(certificate).hexdigest()}"


def normal_fingerprint(text: str) -> str:
    """Accepts what `openssl x509 -fingerprint -sha256` prints, with or without its colons.

    Raises:
        ValueError: these are not 64 hex digits.
    """
    digits = text.strip().rpartition("=")[2].lower().removeprefix("sha256:").replace(":", "")
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise ValueError("a fingerprint is SHA256: and 64 hex digits")
    return f"SHA256:{digits}"
