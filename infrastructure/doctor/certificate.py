"""Caddy's certificate."""

from __future__ import annotations

import base64
import datetime as dt
from typing import TYPE_CHECKING, Any

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = dt.timedelta(days=14)
INTERNAL = "Caddy Local Authority"


def read(text: str) -> dict[str, Any]:
    """`{"issuer", "notAfter": ISO 8601, "names"}` of a certificate (DER in base64)."""
    from cryptography import x509

    found = x509.load_der_x509_certificate(base64.b64decode(text))
    names: list[str] = []
    for extension in found.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = [str(name.value) for name in extension.value]
    return {
        "issuer": found.issuer.rfc4514_string(),
        "notAfter": found.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        "names": names,
    }


def check(evidence: Evidence) -> Iterator[Finding]:
    """Who signed it, and how long it is valid."""
    if (
        evidence.facts is None
        or evidence.target is None
        or not evidence.facts["engine"]["services"]
    ):
        return
    text = evidence.facts["certificate"]
    if text is None:
        yield Finding("certificate", "fail", "Caddy does not speak TLS", "./deploy.py logs caddy")
        return
    found = read(text)
    left = dt.datetime.fromisoformat(found["notAfter"]) - dt.datetime.now(dt.UTC)
    shown = f"for {', '.join(found['names'])} by {found['issuer']}, until {found['notAfter'][:10]}"
    internal = INTERNAL in found["issuer"]
    if evidence.target.stack.caddy.domain and internal:
        mend = "does the domain lead to the host, and are ports 80 and 443 open to the world?"
        yield Finding("certificate", "warn", f"still the internal one: {shown}", mend)
    elif left < dt.timedelta(0):
        yield Finding("certificate", "fail", f"expired: {shown}", "./deploy.py logs caddy")
    elif left < SOON and not internal:  # Caddy's own live for hours and are renewed in time
        yield Finding("certificate", "warn", f"not renewed: {shown}", "./deploy.py logs caddy")
    else:
        yield Finding("certificate", "ok", shown)
