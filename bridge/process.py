"""One running bridge: opened, composed, started; and all of that undone in reverse."""

from __future__ import annotations

import asyncio
import gc
from types import TracebackType
from typing import Self

import structlog
from starlette.types import ASGIApp

from bridge import compose
from bridge.api.app import create_app
from bridge.api.auth import KeyRing
from bridge.auditing import Auditor
from bridge.clock import SystemClock, TimerClock
from bridge.environment import Environment
from bridge.services import Services
from bridge.store import Database
from bridge.store.diagnostics import DiagnosticsJournal
from bridge.store.urgent import Urgent
from bridge.tws.connection_context import Target
from bridge.tws.session import TwsSession
from bridge.tws.wire import CloseReason

STOP_SECONDS = 1.5  # for each part; all of SIGTERM's five seconds is more than enough
log = structlog.get_logger(__name__)


def target_of(environment: Environment) -> Target:
    """The gateway that the environment names."""
    return Target(
        host=environment.tws_host,
        port=environment.tws_port,
        client_id=environment.client_id,
        time_zone=environment.time_zone,
        restarts=environment.restarts,
        login_state_file=environment.login_state_file,
        other_login_file=environment.other_login_file,
        session=environment.trading_mode,
    )


class Bridge:
    """``async with Bridge(environment) as bridge`` runs one; ``bridge.app`` is what to serve."""

    app: ASGIApp
    services: Services

    def __init__(
        self,
        environment: Environment,
        clock: TimerClock | None = None,
        target: Target | None = None,
    ) -> None:
        self._environment = environment
        self._clock = clock or SystemClock()
        self._target = target or target_of(environment)
        self._database: Database | None = None
        self._started = 0

    async def __aenter__(self) -> Self:
        """Opens the journal, installs and starts every part, and begins to dial."""
        # Libraries that ask the policy for the loop would else find another one, which never runs.
        asyncio.set_event_loop(asyncio.get_running_loop())
        self._database = await Database.open(
            self._environment.data_dir, self._environment.identity_dir
        )
        try:
            await self._compose(self._database)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends everything."""
        await self._stop()

    def fail_pending(self) -> None:
        """Ends every request to the gateway with a typed error, and every wait for an order.

        So that whoever waits gets an answer.
        """
        self.services[TwsSession].end_pending(CloseReason.STOPPING)
        for hook in self.services.last_words:
            hook()

    async def _compose(self, database: Database) -> None:
        session = TwsSession(self._target, self._clock)
        services = self.services = Services(self._environment, session, self._clock)
        services.provide(TwsSession, session)
        services.provide(Database, database)
        keys = services.provide(
            KeyRing, KeyRing(database, self._clock, self._environment.admin_key_file)
        )
        urgent = services.provide(Urgent, Urgent(database, services.journal))
        services.provide(Auditor, Auditor(urgent, self._clock))
        diagnostics = DiagnosticsJournal(database)

        async def keep_diagnostics() -> None:
            session.context.diagnostics.save()
            await diagnostics.stop()

        services.on_stop(keep_diagnostics)
        session.context.diagnostics.restore(diagnostics, *await diagnostics.start())
        await keys.load()
        if keys.empty:
            log.warning(
                "no-api-key", hint="python -m bridge apikey create, or BRIDGE_ADMIN_KEY_FILE"
            )
        for install in compose.installers():
            install(services)
        self.app = create_app(services, compose.route_tables())
        for hook in services.start_hooks:
            await hook()
        services.on_stop(session.stop)
        known = session.context.diagnostics
        known.note("bridge-started", library=session.library, aliveUntil=known.alive_until)
        session.events.state.listen(lambda _before, _after: services.something_changed())
        await session.start()
        # What is loaded by now stays: looking through it again and again for garbage only pauses
        # every stream for tens of milliseconds.
        gc.collect()
        gc.freeze()

    async def _stop(self) -> None:
        services = getattr(self, "services", None)
        hooks = list(reversed(services.stop_hooks)) if services else []
        for hook in hooks:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await hook()
            except Exception as error:
                log.warning(
                    "stop-failed", hook=getattr(hook, "__qualname__", "?"), error=repr(error)
                )
        if self._database:
            await self._database.close()
