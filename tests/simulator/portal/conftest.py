"""A running simulated Client Portal gateway over a clock that the test winds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from simulator.portal import PortalServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class WoundClock:
    """Seconds that only move when told to."""

    seconds: float = 1_750_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock() -> WoundClock:
    return WoundClock()


@pytest.fixture
async def portal(clock: WoundClock) -> AsyncIterator[PortalServer]:
    server = PortalServer(clock, ["DU1234567"])
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(portal: PortalServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{portal.port}/v1/api") as client:
        yield client
