"""Trust in the gateway's certificate: pinned on first use or given, never ignored.

The Client Portal gateway signs its own certificate. What it shows at the first meeting is stored;
from then on exactly that certificate has to come, whatever its name or age. A gateway whose
certificate a public authority signed is remembered as such instead, so that a renewal does no
harm, and can never fall back to a self-signed one. A fingerprint that a person gave overrides
what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from bridge.clock import Clock
from bridge.portal.errors import PortalCertificateError, PortalUnreachableError
from bridge.store import Database, settings
from bridge.store.settings import StoredCertificate
from bridge.tls import blind_context, fingerprint_of, normal_fingerprint, pinned_context

HANDSHAKE_SECONDS = 8.0

log = structlog.get_logger(__name__)


class CertificateStore(Protocol):
    """Where first meetings are remembered."""

    async def load(self, origin: str) -> StoredCertificate | None:
        """What was stored for this origin."""

    async def save(self, stored: StoredCertificate) -> None: ...


class JournalCertificates:
    """Certificates of gateways, in the journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, origin: str) -> StoredCertificate | None:
        """What was stored for this origin."""
        return await self._database.read(lambda c: settings.certificate(c, origin))

    async def save(self, stored: StoredCertificate) -> None:
        await self._database.write(lambda c: settings.put_certificate(c, stored))


class Certificates:
    """Makes the TLS context for a gateway.

    Args:
        store: remembers first meetings.
        clock: says when.
        fingerprint: what a person gave (`SHA256:` and hex digits); empty for trust on first use.
        on_pinned: told of each certificate that is trusted from now on.
    """

    def __init__(
        self,
        store: CertificateStore,
        clock: Clock,
        fingerprint: str = "",
        on_pinned: Callable[[StoredCertificate], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._given = normal_fingerprint(fingerprint) if fingerprint else ""
        self._on_pinned = on_pinned

    async def context(self, url: str) -> ssl.SSLContext:
        """The context to connect with.

        Raises:
            PortalCertificateError: the gateway shows another certificate than the given one.
            PortalUnreachableError: it had to be asked for its certificate, and did not answer.
        """
        origin = origin_of(url)
        stored = await self._store.load(origin)
        if self._given and (stored is None or stored.fingerprint != self._given):
            stored = await self._pin_given(origin)
        elif stored is None:
            stored = await self._meet(origin)
        if stored.trust == "authority":
            return await asyncio.to_thread(_authority_context)
        return pinned_context(stored.certificate)

    async def refusal(self, url: str) -> PortalCertificateError:
        """Says what is wrong with the certificate that the gateway shows now."""
        origin = origin_of(url)
        stored = await self._store.load(origin)
        expected = stored.fingerprint if stored and stored.trust == "pinned" else "a public one"
        try:
            shown, _ = await _handshake(origin, blind_context())
        except PortalUnreachableError:
            found = "unknown"
        else:
            found = fingerprint_of(shown)
        return PortalCertificateError(
            f"{origin} shows the certificate {found}, expected {expected}: nothing was sent",
            extra={"expectedFingerprint": expected, "presentedFingerprint": found},
        )

    async def _pin_given(self, origin: str) -> StoredCertificate:
        shown, _ = await _handshake(origin, blind_context())
        if fingerprint_of(shown) != self._given:
            found = fingerprint_of(shown)
            raise PortalCertificateError(
                f"{origin} shows the certificate {found}, expected {self._given}: nothing was sent",
                extra={"expectedFingerprint": self._given, "presentedFingerprint": found},
            )
        return await self._remember(origin, "pinned", shown)

    async def _meet(self, origin: str) -> StoredCertificate:
        context = await asyncio.to_thread(_authority_context)
        try:
            shown, _ = await _handshake(origin, context)
        except ssl.SSLCertVerificationError:
            shown, _ = await _handshake(origin, blind_context())
            return await self._remember(origin, "pinned", shown)
        return await self._remember(origin, "authority", shown)

    async def _remember(self, origin: str, trust: str, shown: bytes) -> StoredCertificate:
        stored = StoredCertificate(
            origin=origin,
            trust=trust,
            certificate=ssl.DER_cert_to_PEM_cert(shown),
            fingerprint=fingerprint_of(shown),
            pinned_at=self._clock.now(),
        )
        await self._store.save(stored)
        log.warning(
            "portal-certificate-trusted",
            origin=origin,
            trust=trust,
            fingerprint=stored.fingerprint,
        )
        self._on_pinned(stored)
        return stored


def origin_of(url: str) -> str:
    """`https://host:port` with the port always named."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


async def _handshake(origin: str, context: ssl.SSLContext) -> tuple[bytes, str]:
    """Shakes hands and hangs up: the certificate shown (DER), and the protocol version."""
    parts = urlsplit(origin)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=context, server_hostname=parts.hostname
            )
    except ssl.SSLCertVerificationError:
        raise
    except (OSError, TimeoutError) as error:
        text = str(error) or type(error).__name__
        raise PortalUnreachableError(f"no TLS handshake with {origin}: {text}") from None
    session: ssl.SSLObject = writer.get_extra_info("ssl_object")
    shown, version = session.getpeercert(binary_form=True), session.version()
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    if not shown:
        raise PortalUnreachableError(f"{origin} shows no certificate")
    return shown, version or ""


def _authority_context() -> ssl.SSLContext:
    import certifi

    return ssl.create_default_context(cafile=certifi.where())
