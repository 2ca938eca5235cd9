"""A session beside a simulated Client Portal, both on one clock that every wait winds on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from bridge.portal.certificates import Certificates
from bridge.portal.client import PortalClient, PortalPacer
from bridge.portal.session import PortalSession
from simulator.portal import PortalServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.store.settings import StoredCertificate

INIT = "/iserver/auth/ssodh/init"


class JumpingClock:
    """Sleeping takes no time, it winds the clock; `advance` winds it without a sleeper."""

    def __init__(self) -> None:
        self.seconds = 1_750_000_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class MemoryCertificates:
    """Remembers certificates for one test."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredCertificate] = {}

    async def load(self, origin: str) -> StoredCertificate | None:
        return self.stored.get(origin)

    async def save(self, stored: StoredCertificate) -> None:
        self.stored[stored.origin] = stored


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
async def portal(clock: JumpingClock) -> AsyncIterator[PortalServer]:
    server = PortalServer(clock.monotonic, ["DU1234567"])
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(portal: PortalServer, clock: JumpingClock) -> AsyncIterator[PortalClient]:
    certificates = Certificates(MemoryCertificates(), clock)
    client = PortalClient(f"http://127.0.0.1:{portal.port}", PortalPacer(clock), certificates)
    yield client
    await client.close()


@pytest.fixture
async def session(client: PortalClient, clock: JumpingClock) -> AsyncIterator[PortalSession]:
    session = PortalSession(client, clock)
    yield session
    await session.stop()


def inits(portal: PortalServer) -> int:
    return portal.routes.calls.get(INIT, 0)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge of the test need not wait for calls of a predecessor."""
    monkeypatch.setattr("bridge.portal.client.START_SECONDS", -1.0)
