"""The Client Portal as the rest of the bridge sees it: one session or none, exchanged at run time.

Settings may change the gateway's address, the trust in it or the right to compete; the session in
place is then stopped and another takes over, without a restart of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from msgspec import Struct

from bridge.clock import Clock
from bridge.portal import pass_through
from bridge.portal.certificates import Certificates, CertificateStore
from bridge.portal.client import PortalClient
from bridge.portal.errors import PortalOffError
from bridge.portal.pacing import PortalPacer
from bridge.portal.reporting import PortalReporter
from bridge.portal.session import PortalSession
from bridge.portal.view import SessionView, view

FRESH_SECONDS = 5.0
LONGEST_LOOK_SECONDS = 4.5

log = structlog.get_logger(__name__)


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
        """Stops the session."""
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
