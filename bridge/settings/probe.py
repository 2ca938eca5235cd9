"""Tries connection settings beside the running session: five steps, each with its time.

A session of its own on a spare client id is made for the trial and ended after it; the running one
is neither asked nor disturbed. After a step that failed the rest are skipped.
One trial runs at a time: each takes a client slot of the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from msgspec import Struct

from bridge.clock import TimerClock, within
from bridge.errors import BridgeError
from bridge.model import Contract, MarketDataType, PriceTick, Tick
from bridge.services import Services
from bridge.settings.profile import KINDS, Profile, merged
from bridge.settings.service import SettingsService
from bridge.tws.connection_context import Target
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import TwsError
from bridge.tws.session import TwsSession
from bridge.tws.wire import DialError, greet

RESOLVE_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 5.0
HANDSHAKE_SECONDS: Final = 10.0
MARKET_DATA_SECONDS: Final = 8.0
SPARE_IDS: Final = range(9_000, 10_000)
STEPS: Final = ("resolve", "connect", "handshake", "accounts", "marketData")


class ProbeStep(Struct, rename="camel", frozen=True, kw_only=True):
    """One step; ``ok`` is None when it was skipped, ``seconds`` how long it took."""

    name: str
    ok: bool | None = None
    seconds: float | None = None
    detail: str = ""
    next_step: str | None = None


class ProbeReport(Struct, rename="camel", frozen=True, kw_only=True):
    """The steps of one trial of connection settings, in order, with seconds and what to do next."""

    ok: bool
    host: str
    port: int
    client_id: int
    seconds: float
    steps: list[ProbeStep]


class StepFailedError(Exception):
    """A step did not succeed; what was met, and what a person may do."""

    def __init__(self, detail: str, next_step: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step


class Probe:
    """One trial.

    Args:
        profile: the settings to try; its client id is not used.
        clock: bounds and times the steps.
        taken: client ids that must not be used.
        symbol: a US stock for the market-data step.
    """

    def __init__(
        self, profile: Profile, clock: TimerClock, taken: frozenset[int], symbol: str = "SPY"
    ) -> None:
        self._profile = profile
        self._clock = clock
        self._symbol = symbol
        random = Random()  # noqa: S311 - which spare id is no secret
        self._spare = [number for number in random.sample(SPARE_IDS, 5) if number not in taken]
        self._session: TwsSession | None = None
        self._client_id = self._spare[0]

    async def run(self) -> ProbeReport:
        """All steps; never raises for what the settings lead to."""
        begun = self._clock.monotonic()
        work: tuple[Callable[[], Awaitable[str]], ...] = (
            self._resolve,
            self._connect,
            self._handshake,
            self._accounts,
            self._market_data,
        )
        steps: list[ProbeStep] = []
        try:
            for name, step in zip(STEPS, work, strict=True):
                failed = any(done.ok is not True for done in steps)
                steps.append(ProbeStep(name=name) if failed else await self._timed(name, step))
        finally:
            if self._session is not None:
                await self._session.stop()
        return ProbeReport(
            ok=all(step.ok for step in steps),
            host=self._profile.host,
            port=self._profile.port,
            client_id=self._client_id,
            seconds=round(self._clock.monotonic() - begun, 4),
            steps=steps,
        )

    async def _timed(self, name: str, step: Callable[[], Awaitable[str]]) -> ProbeStep:
        begun = self._clock.monotonic()
        next_step: str | None = None
        try:
            detail, ok = await step(), True
        except StepFailedError as error:
            detail, ok, next_step = error.detail, False, error.next_step
        except BridgeError as error:
            detail, ok, next_step = error.detail, False, error.next_step
        seconds = round(self._clock.monotonic() - begun, 4)
        return ProbeStep(name=name, ok=ok, seconds=seconds, detail=detail, next_step=next_step)

    async def _resolve(self) -> str:
        loop = asyncio.get_running_loop()
        lookup = loop.getaddrinfo(self._profile.host, self._profile.port, type=socket.SOCK_STREAM)
        try:
            found = await within(self._clock, RESOLVE_SECONDS, lookup)
        except (OSError, TimeoutError) as error:
            raise StepFailedError(
                f"{self._profile.host} does not resolve: {error or 'no answer in time'}",
                "Check the host name, and DNS on the machine of the bridge",
            ) from None
        return ", ".join(sorted({str(address[4][0]) for address in found}))

    async def _connect(self) -> str:
        host, port = self._profile.host, self._profile.port
        try:
            opening = asyncio.open_connection(host, port)
            _, writer = await within(self._clock, CONNECT_SECONDS, opening)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
            raise StepFailedError(
                f"{host}:{port} does not take connections: {reason}",
                "Check that the gateway runs, is logged in, and listens on this port",
            ) from None
        writer.transport.abort()
        return f"{host}:{port} takes connections"

    async def _handshake(self) -> str:
        greeting = greet(self._profile.host, self._profile.port, self._clock)
        try:
            wire = await within(self._clock, HANDSHAKE_SECONDS, greeting)
        except (DialError, TimeoutError) as error:
            raise StepFailedError(
                getattr(error, "detail", "no greeting in time"),
                "A forwarder answers before its gateway does: wait for the login to be approved",
            ) from None
        version = wire.version
        wire.drop("the trial has its answer")
        return f"API version {version}"

    async def _accounts(self) -> str:
        for number in self._spare:
            self._client_id = number
            session = await self._started(number)
            if not session.context.client_id_taken:
                break
        else:
            raise StepFailedError(
                "all client ids that were tried are taken", "Close sessions that are not needed"
            )
        if session.state is not ConnectionState.READY:
            raise StepFailedError(
                f"no session: {session.context.why_not().detail}",
                session.context.why_not().next_step,
            )
        accounts, wanted = session.accounts, self._profile.account
        if wanted and wanted not in accounts:
            raise StepFailedError(
                f"the account {wanted} is not among {', '.join(accounts)}",
                "Use one of these accounts, or log the gateway in as another user",
            )
        return ", ".join(accounts)

    async def _started(self, client_id: int) -> TwsSession:
        """A session that became ready, or that has had its time."""
        if self._session is not None:
            await self._session.stop()
        target = Target(
            host=self._profile.host,
            port=self._profile.port,
            client_id=client_id,
            start_seconds=self._profile.connect_timeout,
        )
        session = self._session = TwsSession(target, self._clock)
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def changed(_: ConnectionState, state: ConnectionState) -> None:
            over = {ConnectionState.READY, ConnectionState.SESSION_CONFLICT}
            if state in over and not settled.done():
                settled.set_result(None)

        session.events.state.listen(changed)
        await session.start()
        with contextlib.suppress(TimeoutError):
            await within(self._clock, self._profile.connect_timeout, settled)
        return session

    async def _market_data(self) -> str:
        assert self._session is not None  # noqa: S101 - the step before made it
        watcher = _FirstTick()
        kind = KINDS[self._profile.market_data_type]
        subscription = self._session.subscribe_market_data(
            Contract(symbol=self._symbol), watcher, kind=kind
        )
        try:
            return await within(self._clock, MARKET_DATA_SECONDS, watcher.outcome)
        except TimeoutError:
            raise StepFailedError(
                f"no market data for {self._symbol} within {MARKET_DATA_SECONDS:g} s",
                "Markets may be closed (try frozen), or the account has no such subscription",
            ) from None
        finally:
            subscription.cancel()


class _FirstTick:
    """Waits for the first value of a line."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._kind = MarketDataType.LIVE

    def tick(self, tick: Tick) -> None:
        """A price: that is all that was wanted."""
        priced = isinstance(tick, PriceTick) and tick.price is not None
        if priced and not self.outcome.done():
            delayed = "delayed" if tick.delayed else self._kind.name.lower().replace("_", "-")
            self.outcome.set_result(f"{delayed} data")

    def market_data_type(self, kind: MarketDataType) -> None:
        """What kind the line carries."""
        self._kind = kind

    def failed(self, error: TwsError) -> None:
        """The broker refused the line."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def interrupted(self) -> None:
        """The connection went; the time-out tells."""

    def restored(self) -> None: ...


class TrialService:
    """Runs trials.

    Args:
        settings: knows the stored settings.
        clock: bounds and times the steps.
    """

    def __init__(self, settings: SettingsService, clock: TimerClock) -> None:
        self._settings = settings
        self._clock = clock
        self._one = asyncio.Lock()

    async def run(self, name: str | None, changes: dict[str, Any], symbol: str) -> ProbeReport:
        """Tries a profile (None: the settings in use) with these fields changed; saves nothing.

        Raises:
            SettingsError: there is no such profile, or a field makes no sense.
        """
        base = (await self._settings.show(name)).profile if name else self._settings.current
        profile = merged(base, changes, base)
        taken = frozenset({self._settings.current.client_id})
        async with self._one:
            return await Probe(profile, self._clock, taken, symbol).run()


def install(services: Services) -> None:
    """Needs the settings and the session."""
    clock = services[TwsSession].context.clock
    services.provide(TrialService, TrialService(services[SettingsService], clock))
