"""The faults that a stack lives through, each with who is to blame and how it ends.

Faults of the gateway are played by the simulator; the others are done to real processes: killed,
stopped, or denied the disk.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bridge.orders.crash import RULES
from tests.bridge.rig import BridgeProcess, SimulatorProcess
from tests.closed_port import free_port

RESTARTS_AFTER: Final = 0.5
"""Seconds after which an ended process is started again, as a container engine does: Docker 20.10
with `restart: unless-stopped` took 0.31 to 0.42 from the kill to the new process's first line,
eight times on two busy cores (its first pause is 0.1 s)."""
LIMITS: Final = (
    '{"max_orders_per_day": null, "max_notional_per_day": null, "max_open_orders": null}'
)


class Stack:
    """A gateway and a bridge as processes, each on one address through all its lives."""

    def __init__(self, folder: Path, before: tuple[str, ...] = ()) -> None:
        """`before` is put before the command of each, to limit it."""
        self._bridge_kind = type("LimitedBridge", (BridgeProcess,), {"BEFORE": before})
        self._gateway_kind = type("LimitedGateway", (SimulatorProcess,), {"BEFORE": before})
        self._folder = folder
        self._gateway_log = folder / "simulator.log"
        self._options = ("--state", str(folder / "account.json"), "--rate-limit", "100")
        self.gateway: SimulatorProcess = self._gateway_kind(
            self._gateway_log, *self._options, port=free_port()
        )
        limits = folder / "trading.json"
        limits.write_text(json.dumps(RULES))
        self._env = {
            "BRIDGE_TRADING_FILE": str(limits),
            "BRIDGE_LISTEN": f"127.0.0.1:{free_port()}",
        }
        self.bridge: BridgeProcess = self._bridge_kind(
            folder / "bridge", self.gateway.port, **self._env
        )
        self.url = self.bridge.url

    async def kill_bridge(self, _: float) -> None:
        """It dies without warning, and is started again."""
        await asyncio.to_thread(self.bridge.stop, signal.SIGKILL)
        await asyncio.sleep(RESTARTS_AFTER)
        self.bridge = await asyncio.to_thread(
            self._bridge_kind, self._folder / "bridge", self.gateway.port, **self._env
        )

    async def kill_gateway(self, seconds: float) -> None:
        """It dies without warning, and comes back on the same account."""
        port = self.gateway.port
        await asyncio.to_thread(self.gateway.stop, signal.SIGKILL)
        await asyncio.sleep(seconds)
        self.gateway = await asyncio.to_thread(
            self._gateway_kind, self._gateway_log, *self._options, port=port
        )

    def stop(self) -> None:
        """Ends both."""
        for each in (self.bridge, self.gateway):
            each.process.send_signal(signal.SIGCONT)
            each.stop()


Doing = Callable[[Stack, float], Awaitable[None]]


def _plays(name: str, *, anew: bool, **more: Any) -> Doing:
    async def play(stack: Stack, seconds: float) -> None:
        await asyncio.to_thread(stack.gateway.fault, name, seconds, **more)
        if anew:
            await asyncio.to_thread(stack.gateway.fault, "fin", 0.01)
        await asyncio.sleep(seconds)

    return play


async def _stop_gateway(stack: Stack, seconds: float) -> None:
    await _stopped(stack.gateway.process, seconds)


async def _stop_bridge(stack: Stack, seconds: float) -> None:
    await _stopped(stack.bridge.process, seconds)


async def _stopped(process: Any, seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        process.send_signal(signal.SIGCONT)


async def _fill_disk(stack: Stack, seconds: float) -> None:
    """No file of the bridge may grow."""
    pid, kind = stack.bridge.pid, resource.RLIMIT_FSIZE
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (4096, before[1]))
    try:
        await asyncio.sleep(seconds)
    finally:
        resource.prlimit(pid, kind, before)


@dataclass(frozen=True)
class Kind:
    """One kind of fault; `seconds` is how long it lasts, `whose` who is the cause."""

    name: str
    told: str
    seconds: float
    do: Doing
    whose: str = "gateway"


def _simulated(name: str, told: str, seconds: float, *, anew: bool = False, **more: Any) -> Kind:
    """`anew`: it is met by who connects, so the connection ends first."""
    return Kind(name, told, seconds, _plays(name, anew=anew, **more))


LOST_ACKNOWLEDGEMENTS: Final = [
    {"action": "drop", "message": 3, "times": 2},
    {"action": "duplicate", "message": 3, "times": 3},
    {"action": "drop", "direction": "to-gateway", "message": 7, "times": 1},
]
KINDS: Final = (
    _simulated("fin", "the gateway closes every connection", 0.2),
    _simulated("rst", "the gateway resets every connection", 0.2),
    _simulated("port-closed", "the gateway's port is closed", 4),
    _simulated("relay-closes", "only the relay before the gateway is up", 4),
    _simulated("accept-silent", "new connections are met with silence", 3, anew=True),
    _simulated("half-open", "the connection stays open and nothing passes", 10),
    _simulated(
        "slow-login",
        "a new session is slow to begin",
        3,
        anew=True,
        delay=2,
    ),
    _simulated("waiting-2fa", "the gateway waits for a second factor", 5),
    _simulated(
        "client-id-in-use",
        "another program takes the client id",
        3,
        anew=True,
    ),
    _simulated("close-after-start", "every session ends as soon as it begins", 4, anew=True),
    _simulated("upstream-lost", "the gateway has lost the broker", 5),
    _simulated("competing-session", "another session takes the market data", 4),
    _simulated("nightly-restart", "the gateway restarts", 6),
    _simulated("late-fills", "fills come late", 3),
    _simulated("duplicate-status", "every order's status comes twice", 3, delay=0.3),
    _simulated("drop-order-ack", "the connection breaks behind an order", 2),
    _simulated("frames-cut", "a message breaks off in the middle", 0.5),
    _simulated("frames-dribbled", "messages come byte by byte", 3),
    _simulated(
        "wire-rewrite",
        "messages about orders are lost and doubled",
        3,
        rules=LOST_ACKNOWLEDGEMENTS,
    ),
    Kind("gateway-killed", "the gateway is killed", 2, Stack.kill_gateway),
    Kind("gateway-stopped", "the gateway stands still", 9, _stop_gateway),
    Kind("bridge-killed", "the bridge is killed", 0, Stack.kill_bridge, whose="bridge"),
    Kind("bridge-stopped", "the bridge stands still", 3, _stop_bridge, whose="machine"),
    Kind("disk-full", "the bridge's disk is full", 4, _fill_disk, whose="machine"),
)
