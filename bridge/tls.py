"""TLS contexts for looking at a certificate, and for holding a peer to one."""

from __future__ import annotations

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
