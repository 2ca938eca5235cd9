"""Installs the stream: what it tells, whom it ends, what it counts."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import Gauge

from bridge.account.service import AccountService
from bridge.api.auth import KeyRing
from bridge.api.health import health
from bridge.api.stream import KEY_ENDED, Unknown
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.services import Services
from bridge.stream.hub import Hub
from bridge.stream.service import StreamService
from bridge.stream.subscriber import ACCOUNT, POSITIONS

KEY_CHECK_SECONDS: Final = 1.0
"""For what ends by itself: an expiry, a key file that was exchanged."""


def install(services: Services) -> None:
    """Provides the stream; its health channel says what `/health` says, ended keys end it."""
    service = StreamService(
        services.gateway,
        services[QuoteService],
        services[ContractService],
        services.clock,
        services.environment.max_streams,
    )
    service.health = lambda: health(services)
    account = services[AccountService]

    def positions() -> tuple[int, object | None]:
        known = account.complete[0]
        return account.positions_changed, account.positions_now() if known else None

    def values() -> tuple[int, object | None]:
        known = account.complete[1]
        return account.values_changed, account.accounts_now() if known else None

    service.states = {POSITIONS: positions, ACCOUNT: values}
    services.provide(StreamService, service)
    services.provide(Unknown, Unknown())
    services.on_start(service.start)
    services.on_stop(service.stop)
    _count(services, service.hub)
    _end_with_keys(services, service.hub)


def _count(services: Services, hub: Hub) -> None:
    for name, text, read in (
        ("bridge_streams", "Streams with a client", lambda: hub.attached),
        ("bridge_stream_events", "Events published since the start", lambda: hub.cursor),
        ("bridge_streams_cut_off", "Clients cut off as too slow", lambda: hub.cut_off),
        ("bridge_streams_conflated", "Times that clients were too slow", lambda: hub.conflations),
    ):
        Gauge(name, text, registry=services.metrics).set_function(read)


def _end_with_keys(services: Services, hub: Hub) -> None:
    """A stream ends with its key: at once when that is revoked, else within a second."""
    ring, tasks = services[KeyRing], list[asyncio.Task[None]]()

    def end() -> None:
        hub.end(lambda holder: not ring.holds(holder), KEY_ENDED)

    async def look() -> None:
        while True:
            await services.clock.sleep(KEY_CHECK_SECONDS)
            end()

    async def start() -> None:
        tasks.append(asyncio.create_task(look(), name="stream-keys"))

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    ring.on_ended(end)
    services.on_start(start)
    services.on_stop(stop)
