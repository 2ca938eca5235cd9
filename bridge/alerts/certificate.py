"""The certificate that the world sees: Caddy's, looked at over TLS, whoever signed it."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from bridge.tls import blind_context, pinned_context

HANDSHAKE_SECONDS: Final = 8.0
TOO_LITTLE: Final = 0.2
"""Of a certificate's life; Caddy renews when a third of it is left."""


MEND: Final = "./deploy.py logs caddy; does the domain lead here, are ports 80 and 443 open?"


class CertificateUnseenError(Exception):
    """No certificate was shown; one line."""


class Certificate(Struct, frozen=True, kw_only=True):
    """For how long it is good."""

    begins: datetime
    ends: datetime

    def left(self, now: datetime) -> timedelta:
        """How long it is still good; negative when it is not."""
        return self.ends - now

    def is_late(self, now: datetime) -> bool:
        """Whether it should have been renewed long ago."""
        return self.left(now) < (self.ends - self.begins) * TOO_LITTLE


def look(host: str, port: int, name: str) -> Certificate:
    """What is shown for `name`; blocks for some seconds at worst.

    The standard library tells the dates only of a certificate that it accepted, so the one that is
    shown is made the only one that it accepts, and is asked for again.

    Raises:
        CertificateUnseenError: nothing answers there, or not with TLS.
    """
    try:
        with _session(host, port, name, blind_context()) as first:
            shown = first.getpeercert(binary_form=True) or b""
        with _session(host, port, name, pinned_context(ssl.DER_cert_to_PEM_cert(shown))) as second:
            dates = second.getpeercert() or {}
    except (OSError, ValueError) as error:  # TLS errors are OSErrors
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise CertificateUnseenError(f"no certificate at {host}:{port}: {reason}") from None
    return Certificate(begins=_moment(dates["notBefore"]), ends=_moment(dates["notAfter"]))


def _session(host: str, port: int, name: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), HANDSHAKE_SECONDS)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def _moment(text: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)
