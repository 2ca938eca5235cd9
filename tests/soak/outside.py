"""What someone outside sees of a bridge: whether it is ready, what it says, and for how long."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import websockets

from tests.bridge.rig import ADMIN_KEY

LOOK_SECONDS: Final = 0.1
CHANNELS: Final = ({"channel": "quotes", "symbols": ["AAPL"]}, {"channel": "orders"})
PATIENCE: Final = 2.0
"""Seconds that an answer may take before it counts as none."""


@dataclass
class Look:
    """One question and its answer; `state` is `no answer` where there was none."""

    at: float
    ready: bool
    state: str
    sentence: str = ""


@dataclass
class Outside:
    """Asks `/ready` and, while it says no, `/health`, ten times a second."""

    url: str
    looks: list[Look] = field(default_factory=list)
    key: str = ADMIN_KEY
    verify: ssl.SSLContext | bool = True
    anew: bool = False
    """Whether each question comes on a connection of its own."""

    async def run(self) -> None:
        """Until it is cancelled."""
        headers = {"X-API-KEY": self.key}
        async with httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=PATIENCE,
            verify=self.verify,
            limits=httpx.Limits(max_keepalive_connections=0 if self.anew else None),
            trust_env=False,
        ) as client:
            while True:
                at = time.monotonic()
                self.looks.append(await self._look(client, at))
                await asyncio.sleep(max(0.0, at + LOOK_SECONDS - time.monotonic()))

    async def _look(self, client: httpx.AsyncClient, at: float) -> Look:
        try:
            answer = await client.get("/ready")
            if answer.status_code == 200:
                return Look(at, ready=True, state="ready")
            health = (await client.get("/health")).json()
        except httpx.TransportError:
            return Look(at, ready=False, state="no answer")
        said = health.get("state") or health["code"]  # of a problem: Caddy's own answer
        return Look(at, False, str(said), str(health.get("nextAction") or ""))

    def since(self, at: float) -> list[Look]:
        """The looks since that moment."""
        return [look for look in self.looks if look.at >= at]

    def away(self, begin: float, end: float) -> float:
        """Seconds between two moments in which it was not ready."""
        looks = [look for look in self.looks if begin <= look.at <= end]
        ends = [*(look.at for look in looks[1:]), end]
        return sum(
            after - look.at for look, after in zip(looks, ends, strict=False) if not look.ready
        )


@dataclass
class Listener:
    """Listens to quotes and orders, comes again when it is cut off, counts what is missing."""

    url: str
    messages: int = 0
    connections: int = 0
    holes: int = 0
    key: str = ADMIN_KEY
    tls: ssl.SSLContext | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        address = self.url.replace("http", "ws", 1) + "/stream"
        while True:
            try:
                async with websockets.connect(
                    address,
                    additional_headers={"X-API-KEY": self.key},
                    proxy=None,
                    ssl=self.tls,
                ) as stream:
                    self.connections += 1
                    for channel in (
                        {"channel": "quotes", "symbols": ["AAPL"]},
                        {"channel": "orders"},
                    ):
                        await stream.send(json.dumps({"op": "subscribe", **channel}))
                    await self._listen(stream)
            except (OSError, websockets.WebSocketException, TimeoutError):
                await asyncio.sleep(0.2)

    async def _listen(self, stream: Any) -> None:
        last = None
        async for text in stream:
            number = json.loads(text)["seq"]
            if last is not None and number != last + 1:
                self.holes += 1
            last = number
            self.messages += 1
