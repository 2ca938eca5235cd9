"""Installs the Client Portal: its service, and what it remembers in the journal."""

from __future__ import annotations

from bridge.portal.service import PortalReporter, PortalService, PortalTarget, SessionView
from bridge.portal.state import PortalState
from bridge.services import Need, Services
from bridge.settings.profile import Profile
from bridge.settings.repository import Secrets
from bridge.settings.service import SettingsService
from bridge.store import Database, portal_certificates
from bridge.store.portal_certificates import StoredCertificate
from bridge.tws.session import TwsSession


class JournalCertificates:
    """Certificates of gateways, in the journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, origin: str) -> StoredCertificate | None:
        """What was stored for this origin."""
        return await self._database.read(lambda c: portal_certificates.get(c, origin))

    async def save(self, stored: StoredCertificate) -> None:
        await self._database.write(lambda c: portal_certificates.put(c, stored))


def target_of(profile: Profile, secrets: Secrets) -> PortalTarget:
    """The part of the connection settings that the Client Portal needs."""
    return PortalTarget(
        url=profile.portal_url,
        compete=profile.portal_compete,
        fingerprint=profile.portal_fingerprint,
        username=profile.portal_username,
        password=secrets.get("portalPassword", ""),
    )


def install(services: Services) -> None:
    """Provides the service, which follows the connection settings."""
    history = services[TwsSession].context.diagnostics
    reporter = PortalReporter(history, services.metrics)
    service = PortalService(services.clock, JournalCertificates(services[Database]), reporter)
    services.provide(PortalService, service)

    async def follow(profile: Profile, secrets: Secrets) -> None:
        await service.configure(target_of(profile, secrets))

    services[SettingsService].on_apply(follow)
    services.on_stop(service.stop)
    services.needs.append(lambda: _need(service.last_seen()))


def _need(seen: SessionView) -> Need | None:
    """What only a person can do for the Client Portal."""
    message = _FOR_A_PERSON.get(seen.state)
    if message is None:
        return None
    return Need(code=f"portal-{seen.state.value}", message=message, next_step=seen.next_action)


_FOR_A_PERSON = {
    PortalState.LOGIN_REQUIRED: "The Client Portal wants a login",
    PortalState.COMPETING: "Another login holds the Client Portal's session",
    PortalState.CERTIFICATE_REFUSED: "The Client Portal shows another certificate",
}
