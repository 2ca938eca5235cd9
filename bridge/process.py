"""One running bridge: opened, composed, started; and all of that undone in reverse.

`serve` has its application answer, until the process is asked to end, and ends well.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import structlog
import uvicorn
from starlette.types import ASGIApp

from bridge import compose
from bridge.api.app import create_app
from bridge.api.auth import KeyRing
from bridge.api.connections import Connections
from bridge.api.middleware import ClientAddress
from bridge.auditing import Auditor
from bridge.clock import SystemClock, TimerClock
from bridge.environment import Environment
from bridge.orders.silence import SilenceWatch
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
        services[SilenceWatch].exists = keys.exists
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


GRACE_SECONDS = 1.5  # for requests to end by themselves after SIGTERM
LAST_SECONDS = 2  # for the answers of those that were then failed
KEEP_ALIVE_SECONDS = 30  # for a connection without a request; a proxy has to let go of it before
END_SECONDS = 4.6  # after SIGTERM: whatever still hangs (a disk, a lock) is left hanging


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling.

    Which would end the process by the signal, not with 0.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(environment: Environment, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT; raises ``StoreError`` when the data folder cannot be used."""
    async with Bridge(environment) as bridge:
        paths = (route.path for table in compose.route_tables() for route in table.routes)
        kinds = frozenset(path.partition("/")[2].partition("/")[0] for path in paths)
        http, websocket = Connections(kinds=kinds).protocols()
        server = _Server(
            uvicorn.Config(
                ClientAddress(bridge.app, environment.trusted_proxies),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                date_header=True,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=LAST_SECONDS,
                http=http,
                ws=websocket,
                ws_max_size=64 * 1024,
                ws_ping_interval=20.0,
                # Compressing would take 300 kB a client, and more time than everything else.
                ws_per_message_deflate=False,
                proxy_headers=False,  # ClientAddress believes less
            )
        )
        loop = asyncio.get_running_loop()

        def stop(name: str) -> None:
            log.info("stopping", signal=name)
            end_soon(END_SECONDS)
            server.should_exit = True
            loop.call_later(GRACE_SECONDS, bridge.fail_pending)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number.name)
        host, port = listener.getsockname()[:2]
        log.info("listening", host=host, port=port)
        await server.serve(sockets=[listener])


def end_soon(seconds: float) -> None:
    """Ends the process after that time, however it is stuck: what was promised is on the disk."""

    def end() -> None:
        log.warning("stopped-without-waiting", seconds=seconds)
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def listen(environment: Environment) -> socket.socket:
    """The listening socket; ``OSError`` when the address is taken."""
    family = socket.AF_INET6 if ":" in environment.listen_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((environment.listen_host, environment.listen_port))
        listener.listen(512)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
