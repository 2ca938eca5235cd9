"""The Client Portal as the rest of the bridge sees it: one session or none, exchanged at run time.

Settings may change the gateway's address, the trust in it or the right to compete; the session in
place is then stopped and another takes over, without a restart of the process.
What a session sees goes into the connection's history, beside the events of the TWS session and
with kinds that begin with `portal-`, and into the metrics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from bridge.clock import Clock
from bridge.portal import pass_through
from bridge.portal.certificates import Certificates, CertificateStore, JournalCertificates
from bridge.portal.client import PortalClient, PortalPacer
from bridge.portal.errors import PortalError, PortalOffError
from bridge.portal.session import PortalSession
from bridge.portal.state import NEXT_ACTIONS, UNTOLD_STATES, PortalState, Reading
from bridge.services import Need, Services
from bridge.settings.profile import Profile
from bridge.settings.repository import Secrets
from bridge.settings.service import SettingsService
from bridge.store import Database
from bridge.store.settings import StoredCertificate
from bridge.tws.session import TwsSession

HOPELESS_AFTER = 3
"""Failed recoveries in a row after which a person is asked to log in again."""


class SessionView(Struct, rename="camel", kw_only=True):
    """The Client Portal session. Times are UTC; flags are None while the gateway does not tell.

    ``is_desynced``: logged in, but the brokerage session is closed. ``session_state`` is the last
    state that told of the session itself, and outlives a gateway that cannot be reached.
    """

    enabled: bool
    state: PortalState
    session_state: PortalState | None = None
    since: datetime | None = None
    authenticated: bool | None = None
    connected: bool | None = None
    competing: bool | None = None
    established: bool | None = None
    is_desynced: bool = False
    message: str = ""
    last_check_at: datetime | None = None
    last_check_error: str | None = None
    last_recovery_at: datetime | None = None
    last_recovery_error: str | None = None
    recoveries: int = 0
    recovery_failures: int = 0
    login_url: str | None = None
    next_action: str


def view(session: PortalSession | None) -> SessionView:
    """The session as it was last seen."""
    if session is None:
        return SessionView(
            enabled=False, state=PortalState.OFF, next_action=NEXT_ACTIONS[PortalState.OFF]
        )
    told = session.state not in UNTOLD_STATES
    reading = session.reading if told else Reading()
    known = told and session.session_state is not None
    competing = session.session_state is PortalState.COMPETING
    return SessionView(
        enabled=True,
        state=session.state,
        session_state=session.session_state,
        since=session.since,
        authenticated=reading.authenticated,
        connected=reading.connected,
        competing=bool(reading.competing) if known else None,
        established=_established(session) if told else None,
        is_desynced=bool(reading.authenticated) and reading.connected is False and not competing,
        message=reading.message,
        last_check_at=session.last_check_at,
        last_check_error=session.last_check_error or None,
        last_recovery_at=session.last_recovery_at,
        last_recovery_error=session.last_recovery_error or None,
        recoveries=session.recoveries,
        recovery_failures=session.recovery_failures,
        login_url=f"{session.client.url}/" if session.state is PortalState.LOGIN_REQUIRED else None,
        next_action=_next_action(session),
    )


def _established(session: PortalSession) -> bool | None:
    """Older gateways do not show the flag: a working session counts as established."""
    if session.reading.established is not None:
        return session.reading.established
    return None if session.session_state is None else session.session_state is PortalState.CONNECTED


def _next_action(session: PortalSession) -> str:
    desynced = session.state in {PortalState.DESYNCED, PortalState.RECOVERING}
    if desynced and session.failures_in_a_row >= HOPELESS_AFTER:
        return "The brokerage session does not open: log out and in again on the gateway's page"
    return NEXT_ACTIONS[session.state]


FRESH_SECONDS = 5.0
LONGEST_LOOK_SECONDS = 4.5

log = structlog.get_logger(__name__)


REPORTED = frozenset(PortalState) - {
    PortalState.OFF,
    PortalState.STARTING,
    PortalState.RECOVERING,
}


class History(Protocol):
    """The connection's history."""

    def note(self, kind: str, **detail: Any) -> None: ...


class PortalReporter:
    """Listens to sessions and reports; one for each process, whichever session runs.

    Args:
        history: takes the events.
        registry: takes the metrics `gangway_portal_state`, `gangway_portal_recoveries_total` and
            `gangway_portal_recovery_failures_total`.
    """

    def __init__(self, history: History, registry: CollectorRegistry) -> None:
        self._history = history
        self._last: PortalState | None = None
        self._state = Gauge(
            "gangway_portal_state",
            "1 for the state that the Client Portal session is in",
            ["state"],
            registry=registry,
        )
        self._recoveries = Counter(
            "gangway_portal_recoveries",
            "Brokerage sessions opened again without a login",
            registry=registry,
        )
        self._failures = Counter(
            "gangway_portal_recovery_failures",
            "Recoveries that failed, by the code of the failure",
            ["code"],
            registry=registry,
        )

    def watch(self, session: PortalSession) -> None:
        """Reports what this session sees from now on."""
        self._show(session.state)
        session.changed.listen(lambda _, state: self._changed(session, state))
        session.recovered.listen(self._recovered)
        session.recovery_failed.listen(self._failed)

    def certificate_trusted(self, stored: StoredCertificate) -> None:
        """A gateway's certificate is trusted from now on."""
        self._history.note(
            "portal-certificate-trusted",
            origin=stored.origin,
            trust=stored.trust,
            fingerprint=stored.fingerprint,
        )

    def _changed(self, session: PortalSession, state: PortalState) -> None:
        self._show(state)
        if state not in REPORTED or state is self._last:
            return
        self._last = state
        detail = {"error": session.last_check_error} if session.last_check_error else {}
        self._history.note(f"portal-{state.value}", **detail)

    def _recovered(self) -> None:
        self._recoveries.inc()
        self._history.note("portal-recovered")

    def _failed(self, error: PortalError) -> None:
        self._failures.labels(error.code).inc()
        self._history.note("portal-recovery-failed", code=error.code, error=error.detail)

    def _show(self, state: PortalState) -> None:
        for each in PortalState:
            self._state.labels(each.value).set(each is state)


class PortalTarget(Struct, frozen=True, kw_only=True):
    """Which gateway, how far it is trusted, and what a recovery may do.

    ``fingerprint`` is what a person gave (empty: trust on first use). ``username`` and
    ``password`` are for a proxy in front of the gateway (HTTP basic), not for the broker.
    """

    url: str = ""
    compete: bool = False
    fingerprint: str = ""
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"PortalTarget(url={self.url!r}, compete={self.compete})"


class PortalService:
    """One for each process.

    Args:
        clock: what sessions wait on.
        store: remembers certificates.
        reporter: told of everything that a session sees.
    """

    def __init__(self, clock: Clock, store: CertificateStore, reporter: PortalReporter) -> None:
        self._clock = clock
        self._store = store
        self._reporter = reporter
        self._target = PortalTarget()
        self._session: PortalSession | None = None
        self._pacer = PortalPacer(clock)
        self._exchange = asyncio.Lock()

    @property
    def running(self) -> PortalSession:
        """The session that runs.

        Raises:
            PortalOffError: there is none.
        """
        if self._session is None:
            raise PortalOffError("no Client Portal is configured")
        return self._session

    async def configure(self, target: PortalTarget) -> bool:
        """Takes over new settings; whether they were others than before."""
        async with self._exchange:
            if target == self._target:
                return False
            await self._stop()
            self._target = target
            if target.url:
                self._session = self._build(target)
                self._reporter.watch(self._session)
                await self._session.start()
            log.info("portal-configured", url=target.url or None, compete=target.compete)
            return True

    async def stop(self) -> None:
        async with self._exchange:
            await self._stop()

    def last_seen(self) -> SessionView:
        """The session as it was last seen; asks nobody."""
        return view(self._session)

    async def session(self) -> SessionView:
        """The session now: a check, with its recovery, when the last one is older than 5 s.

        Bounded: a gateway that does not answer costs 4.5 s at most, and what was last seen is told.
        """
        session = self._session
        if session is not None and session.age() > FRESH_SECONDS:
            await asyncio.wait(
                {asyncio.ensure_future(session.check())}, timeout=LONGEST_LOOK_SECONDS
            )
        return view(self._session)

    async def recover(self, *, compete: bool | None = None) -> SessionView:
        """Runs the recovery now.

        Raises:
            PortalError: it failed, or there is no Client Portal.
        """
        await self.running.recover(compete=compete)
        return view(self._session)

    async def fetch(self, path: str, query: Mapping[str, str]) -> Any:
        """Passes one read call through; see `bridge.portal.pass_through`."""
        return await pass_through.fetch(self.running, path, query)

    async def _stop(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.stop()

    def _build(self, target: PortalTarget) -> PortalSession:
        certificates = Certificates(
            self._store, self._clock, target.fingerprint, self._reporter.certificate_trusted
        )
        credentials = (target.username, target.password) if target.username else None
        client = PortalClient(target.url, self._pacer, certificates, credentials)
        return PortalSession(client, self._clock, compete=target.compete)


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
