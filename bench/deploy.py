"""A deploy over SSH at 50 ms round trip, beside other tools that keep the same stack up to date.

Real parts: the private engine and an SSH server of `make engine`, a relay that delays each
direction by 25 ms and counts connections and client turns (bursts of the client).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figure import Figure
from bench.rig.peers import PROJECT, Peers
from tests.engine.parts import engine_missing, ssh
from tests.engine.parts.relay import Relay
from tests.engine.parts.stack import Stack, checkout
from tests.engine.parts.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONE_WAY = 0.025
REPEATS = 5
SERVICES = ("gateway", "bridge", "caddy")
SYNCS = 3


@contextmanager
def stack_behind(relay: Relay, folder: Path, server: ssh.SshServer) -> Iterator[Stack]:
    """A stack whose host is reached through the relay only."""
    stack = Stack("bench", folder / "stack", server, checkout(folder / "product"))
    stack.settings["host"]["port"] = relay.port
    stack.known_hosts.write_text(server.known_hosts_line(relay.port))
    try:
        yield stack
    finally:
        stack.remove()


def best(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """The least of some runs, in seconds: what the machine's other work adds is left out."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        found.append(time.perf_counter() - began)
    return min(found)


def counted(relay: Relay, action: Callable[[], object]) -> tuple[int, int]:
    """Connections and client turns of one run."""
    relay.reset()
    action()
    return relay.connections, relay.turns


def figures() -> list[Figure]:
    """What `up` costs, when everything changes and when nothing does."""
    if missing := engine_missing():
        sys.stderr.write(f"bench deploy is left out: {missing}\n")
        return []
    subprocess.run([PROJECT / "scripts/setup", "bench"], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        server = ssh.start(folder / "ssh")
        try:
            with Relay(server.port, ONE_WAY) as relay, stack_behind(relay, folder, server) as stack:
                return measure(relay, stack, folder)
        finally:
            server.stop()


def settled(stack: Stack, limit: float = 120.0) -> None:
    """Waits until the engine's own healthchecks have passed, as on a stack that runs for days."""
    until = time.monotonic() + limit
    while any(stack.container(name)["State"]["Health"]["Status"] != "healthy" for name in SERVICES):
        if time.monotonic() > until:
            raise RuntimeError("the stack did not settle")
        time.sleep(1)


def measure(relay: Relay, stack: Stack, folder: Path) -> list[Figure]:
    """A first `up`, no-op ones, and the peers' no-ops."""
    first = best(stack.up, 1)
    first_cost = relay.connections, relay.turns
    settled(stack)
    noop = best(stack.up)
    connections, turns = counted(relay, stack.up)
    peers = Peers(stack, relay.port, folder / "peers")
    found = [
        Figure("first up to healthy, images there", first, "s"),
        Figure("first up, connections", first_cost[0], "connections", 1),
        Figure("first up, client turns", first_cost[1], "turns"),
        Figure("no-op up", noop, "s"),
        Figure("no-op up, connections", connections, "connections", 1),
        Figure("no-op up, client turns", turns, "turns", 12),
    ]
    tools = (
        ("docker compose over ssh://", peers.compose, REPEATS, 2),
        ("pyinfra", peers.pyinfra, 1, 8),
        ("Ansible", peers.ansible, 1, 30),
    )
    for name, run, repeats, bar in tools:
        relay.reset()
        seconds = best(run, repeats)
        cost = f"{relay.connections // repeats} connections, {relay.turns // repeats} turns"
        sys.stderr.write(f"{name}: {seconds:.2f} s, {cost}\n")
        found.append(Figure(f"no-op up, faster than {name}", seconds / noop, "x", bar, least=True))
    return found + synced(relay, stack)


def synced(relay: Relay, stack: Stack) -> list[Figure]:
    """What `sync bridge` costs when one source has changed, the image's other layers cached."""
    gateway, gaps, seconds, costs = stack.started()["gateway"], [], [], []
    source = stack.product / "bridge" / "clock.py"
    for number in range(SYNCS):
        source.write_text(f"{source.read_text()}# change {number}\n")
        relay.reset()
        with Watch(stack.settings["bridge"]["port"]) as watch:
            done = stack.deploy("sync", "bridge", "--json")
        if done.code:
            raise RuntimeError(f"sync failed: {done.err}")
        gaps.append(watch.longest)
        seconds.append(done.seconds)
        costs.append((relay.connections, relay.turns))
    connections, turns = max(costs)
    restarts = int(stack.started()["gateway"] != gateway)
    return [
        Figure("sync bridge: unavailable, worst of 3", max(gaps), "s", 3),
        Figure("sync bridge: seconds", min(seconds), "s"),
        Figure("sync bridge: connections", connections, "connections", 1),
        Figure("sync bridge: client turns", turns, "turns", 16),
        Figure("sync bridge: gateway restarts", restarts, "restarts", 0),
    ]
