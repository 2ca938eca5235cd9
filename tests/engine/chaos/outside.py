"""Someone outside: a network of their own, from which they read, listen and trade through Caddy."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import ssl
import subprocess
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import httpx

from tests.bridge.orders.crash import Clients, Flow
from tests.soak.outside import Listener, Outside

READS: Final = ("/positions", "/account", "/orders", "/executions", "/quote/MSFT")
NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET


class Network:
    """A network namespace with one wire to this machine, as a phone has one to a VM."""

    HERE: Final = "10.215.0.1"
    THERE: Final = "10.215.0.2"

    def __init__(self, name: str) -> None:
        self.name = name
        wire = f"{name}0"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "addr", "add", f"{self.HERE}/30", "dev", wire)
        run("ip", "link", "set", wire, "up")
        run("ip", "-n", name, "addr", "add", f"{self.THERE}/30", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")

    def remove(self) -> None:
        """The wire goes with it."""
        run("ip", "netns", "delete", self.name)

    def enter(self) -> None:
        """What this thread opens from now on is in that network."""
        library = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{self.name}").open() as file:
            if library.setns(file.fileno(), NEW_NETWORK):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def run(*command: str) -> None:
    """A command that has to go well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


class World(threading.Thread):
    """A thread in that network, with all that goes on around the faults."""

    def __init__(self, network: Network, url: str, key: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._network = network
        self._url, self._key = url, key
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._around: list[asyncio.Task[None]] = []
        self._under_way: list[asyncio.Task[None]] = []
        self.flows: list[Flow] = []
        self.reads = 0

    def run(self) -> None:
        """Until `end`."""
        self._network.enter()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def begin(self) -> None:
        """Starts the thread, and in it everybody."""
        self.start()
        self.ask(self._begin())

    def finish(self) -> None:
        """No more orders; returns when each has its answer, and nobody looks any more."""
        self.ask(self._finish(), seconds=120)

    def end(self) -> None:
        """Ends the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(10)
        self._loop.close()

    def ask(self, doing: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
        """Does it there, and gives its result."""
        return self.later(doing).result(seconds)

    def later(self, doing: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Begins it there."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop)

    async def _begin(self) -> None:
        self.outside = Outside(self._url, key=self._key, verify=self._tls, anew=True)
        self.listener = Listener(self._url, key=self._key, tls=self._tls)
        # Cut off, a request is repeated soon: its key makes that safe.
        self.clients = Clients(self._url, 40, key=self._key, verify=self._tls, timeout=8, again=0.5)
        around = (
            self.outside.run(),
            self.listener.run(),
            self.clients.trade(self.flows, self._under_way, self._chance, "chaos"),
            self._read(),
        )
        self._around = [asyncio.create_task(each) for each in around]

    async def _finish(self) -> None:
        for each in self._around:
            if each.done():
                each.result()
            each.cancel()
        await asyncio.gather(*self._around, return_exceptions=True)
        await asyncio.gather(*self._under_way)
        await self.clients.close()

    def check(self) -> None:
        """Fails when one of those around has."""
        for each in (*self._around, *self._under_way):
            if each.done() and not each.cancelled():
                each.result()

    async def _read(self) -> None:
        """An app that looks at everything, twice a second."""
        async with self._http(4) as client:
            while True:
                for path in READS:
                    try:
                        answer = await client.get(path)
                    except httpx.TransportError:
                        break
                    assert answer.status_code < 500 or answer.json()["code"], answer.text
                    self.reads += 1
                await asyncio.sleep(0.5)

    def _http(self, seconds: float) -> httpx.AsyncClient:
        headers = {"X-API-KEY": self._key}
        return httpx.AsyncClient(
            base_url=self._url, headers=headers, verify=self._tls, timeout=seconds, trust_env=False
        )

    # --- the bridge, as the books ask it ------------------------------------------------------
    def get(self, path: str, **params: Any) -> httpx.Response:
        """One GET through Caddy."""

        async def get() -> httpx.Response:
            async with self._http(20) as client:
                return await client.get(path, params=params)

        answer: httpx.Response = self.ask(get())
        return answer

    def wait_for(self, state: str, seconds: float = 15.0) -> dict[str, Any]:
        """The health once it has that state."""
        deadline = time.monotonic() + seconds
        while True:
            health: dict[str, Any] = self.get("/health").json()
            if health.get("state") == state:
                return health
            assert time.monotonic() < deadline, f"not {state}: {health}"
            time.sleep(0.2)
