"""A whole bridge in this process, beside a whole simulator."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from bridge.environment import Environment
from bridge.process import Bridge
from bridge.tws.connection_state import ConnectionState
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.options import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ADMIN_KEY = "an-admin-key-of-the-tests-0123456789"


@dataclass
class Running:
    """The bridge, how to ask it, and the simulator that it talks to."""

    bridge: Bridge
    client: httpx.AsyncClient
    simulator: Simulator

    async def ready(self) -> None:
        """Waits until the session is ready."""
        session = self.bridge.services[TwsSession]
        async with asyncio.timeout(30):
            while session.state is not ConnectionState.READY:
                await asyncio.sleep(0.01)

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON of a GET that must succeed."""
        response = await self.client.get(path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    async def kinds(self) -> list[str]:
        """The kinds of the events so far."""
        return [event.kind for event in self.bridge.services[TwsSession].context.diagnostics.events]


@asynccontextmanager
async def running(folder: Path, *, portal: str = "", **fields: Any) -> AsyncIterator[Running]:
    """`portal` is the scheme to reach the simulated Client Portal with, or empty for none."""
    key = folder / "admin.key"
    key.write_text(ADMIN_KEY)
    key.chmod(0o600)
    async with Simulator(Options(port=0, portal_port=0, control_port=0)) as simulator:
        url = f"{portal}://127.0.0.1:{simulator.ports['portalPort']}" if portal else ""
        environment = Environment(
            tws_port=simulator.ports["port"],
            data_dir=folder / "data",
            admin_key_file=key,
            portal_url=url,
            **fields,
        )
        simulator.world.clock.advance(1.0)  # the sessions of the login are established
        async with Bridge(environment) as bridge:
            transport = httpx.ASGITransport(app=bridge.app)
            headers = {"X-API-KEY": ADMIN_KEY}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://bridge", headers=headers
            ) as client:
                yield Running(bridge, client, simulator)
