"""Faults below a stack that `up` has deployed, judged from outside; nothing may be lost or doubled.

`GANGWAY_CHAOS`: `all`, or names of faults by commas; `GANGWAY_CHAOS_PAGE`: a file for the table of
what was seen (`make chaos`).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.bridge.orders.crash import Books, settle
from tests.engine.chaos.engine_process import surviving_engine
from tests.engine.chaos.faults import (
    KINDS,
    SERVICES,
    BehindTheGateway,
    Containers,
    Kind,
    Target,
    vanishing,
)
from tests.engine.chaos.outside import Network, World
from tests.engine.parts.engine import ENGINE_HOST
from tests.engine.parts.stack import Run, Stack
from tests.soak.outside import Look
from tests.soak.table import put_engine

WANTED: Final = os.environ.get("GANGWAY_CHAOS", "")
SEED: Final = 20261129
BACK_SECONDS: Final = 90.0
STEADY_SECONDS: Final = 1.5
CALM_SECONDS: Final = 1.0
HOUR: Final = 3600
HEAD: Final = Path(__file__).with_name("reliability.md.head")
TRADING: Final = {
    "answer_within_seconds": 2,
    "max_open_orders": None,
    "max_orders_per_day": None,
    "max_notional_per_day": None,
}


@dataclass
class Passed:
    """One fault as it was lived through; seconds from its begin, and from its end."""

    kind: Kind
    looks: list[Look]
    noticed: float | None
    back: float
    told: str


@dataclass
class Chaos:
    """The stack, who looks at it, and what was seen."""

    target: Target
    world: World
    passed: list[Passed] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)

    def live_through(self, kind: Kind) -> None:
        """One fault, until the client can trade again."""
        outside, begin = self.world.outside, time.monotonic()
        with ThreadPoolExecutor(1) as beside:
            asked = None if kind.name.startswith("sshd") else beside.submit(self._status, kind)
            kind.do(self.target, kind.seconds)
            end = time.monotonic() if kind.seconds else begin
            done = time.monotonic()
            while not self._steady(done):
                self.world.check()
                waited = time.monotonic() - done
                assert waited < BACK_SECONDS, f"{kind.name}: {outside.looks[-1]}"
                time.sleep(0.05)
            told = asked.result() if asked else "–"
        looks = outside.since(begin)
        bad = [look for look in looks if not look.ready]
        back = next((look.at for look in looks if bad and look.at > bad[-1].at), end)
        noticed = bad[0].at - begin if bad else None
        self.passed.append(Passed(kind, looks, noticed, max(0.0, back - end), told))
        print(row(self.passed[-1]), file=sys.stderr, flush=True)

    def _steady(self, done: float) -> bool:
        """Whether the client could trade for a while now, all of it after the fault."""
        since = time.monotonic() - STEADY_SECONDS
        looks = self.world.outside.since(max(done, since - 1))
        return bool(looks) and looks[0].at <= since and all(look.ready for look in looks)

    def _status(self, kind: Kind) -> str:
        """What `status` says a while after the fault began."""
        time.sleep(kind.asked_after)
        began = time.monotonic()
        done = self.target.stack.deploy("status", "--json")
        looks = [look for look in self.world.outside.since(began) if look.at <= time.monotonic()]
        told = in_words(done)
        nobody = bool(looks) and not any(look.ready for look in looks)
        if nobody and told == "healthy" and not kind.hidden:
            self.untrue.append(f"{kind.name}: nobody could trade, but status says {told}")
        if done.code not in {0, 1} or "Traceback" in done.err:
            self.untrue.append(f"{kind.name}: status ended with {done.code}: {done.err}")
        return told


def in_words(done: Run) -> str:
    """What `status --json` found, as short as it can be said."""
    found = done.document
    if "error" in found:
        return f"`{found['error']}`"
    if found["healthy"]:
        return "healthy"
    why = [
        f"{one['name']} {one['state'] if one['state'] != 'running' else one['health']}"
        for one in found["services"]
        if one["state"] != "running" or one["health"] == "unhealthy"
    ]
    bridge, caddy = found["bridge"], found.get("caddy", {})
    if not why and caddy.get("said"):
        why = [f"Caddy passes nothing on: {caddy['said'].partition(':')[0]}"]
    elif not why and isinstance(bridge, dict):
        why = [f"bridge {bridge.get('state')}"]
    elif not why:
        why = ["bridge gives no answer"]
    return f"NOT healthy: {', '.join(why)}"


def row(one: Passed) -> str:
    """The fault's row of the table."""
    states = Counter(look.state for look in one.looks if not look.ready and look.state != "ready")
    said = ", ".join(f"`{state}`" for state, _ in states.most_common(3)) or "`ready`"
    seen = "–" if one.noticed is None else f"{one.noticed:.1f}"
    back = "–" if one.noticed is None else f"{one.back:.1f}"
    lasts = f"{one.kind.seconds:g}" if one.kind.seconds else "–"
    return f"| {one.kind.told} | {lasts} | {said} | {one.told} | {seen} | {back} |"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system that can be filled without harm to others."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def network(name: str) -> Iterator[Network]:
    made = Network(name)
    try:
        yield made
    finally:
        made.remove()


def test_status_sees_what_nobody_outside_reaches(stack: Stack) -> None:
    with vanishing(Containers(stack), "caddy", "bridge", "web"):
        found = stack.deploy("status", "--json").document
        assert found["healthy"] is False
        assert found["bridge"]["connected"] is True, "the bridge itself is well"
        assert found["caddy"]["serves"] is False
    found = stack.deploy("status", "--json").document
    assert (found["healthy"], found["caddy"]) == (True, {"serves": True, "said": ""})


@pytest.mark.slow
@pytest.mark.skipif(not WANTED, reason="minutes of faults below a stack: make chaos")
@pytest.mark.timeout(1500)
def test_nothing_is_lost_whatever_fails_below(
    make_stack: Callable[[str], Stack], scratch: Path
) -> None:
    kinds = [kind for kind in KINDS if WANTED == "all" or kind.name in WANTED.split(",")]
    assert kinds, f"no such fault: {WANTED}"
    with (
        surviving_engine() as engine,
        small_disk(scratch / "disk") as disk,
        network(f"gw{os.getpid() % 10_000}") as outside,
    ):
        stack = make_stack("chaos")
        stack.settings["folder"] = str(disk)
        stack.settings["trading"] = dict(TRADING)
        stack.settings["caddy"]["listen"] = outside.HERE
        stack.settings["gateway"]["environment"] = {"GANGWAY_STANDIN_STATE": "/tmp/account.json"}
        try:
            stack.up()
            live_through_all(Target(stack, outside, engine), kinds)
        finally:
            stack.remove()


def live_through_all(target: Target, kinds: list[Kind]) -> None:
    stack = target.stack
    key = (stack.base / "current/secrets/bridge-admin-key").read_text().strip()
    url = f"https://{target.network.HERE}:{stack.settings['caddy']['https_port']}"
    world, began = World(target.network, url, key, SEED), time.monotonic()
    world.begin()
    chaos = Chaos(target, world)
    try:
        time.sleep(CALM_SECONDS)
        for kind in kinds:
            age(stack)
            settle_checks(stack)
            chaos.live_through(kind)
            time.sleep(CALM_SECONDS)
        world.finish()
        broker = BehindTheGateway(target.pid("gateway"))
        asyncio.run(settle(world, broker))
        books = Books(world, broker, world.flows)
        tell(chaos, time.monotonic() - began)
        assert "\n".join(books.differences()) == ""
        assert "\n".join(chaos.untrue) == ""
        assert world.listener.holes == 0
        assert stack.up("--json").document["changed"] is False
    except BaseException:
        for service in ("bridge", "caddy", "gateway"):
            container = stack.container(service)["Id"]
            print(f"--- {service}\n{logged(container)}", file=sys.stderr)
        raise
    finally:
        world.end()


def logged(container: str) -> str:
    """The end of a container's log, but for what Caddy writes down of each request."""
    command = ["docker", "logs", "--tail", "200", container]
    environment = os.environ | {"DOCKER_HOST": ENGINE_HOST}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return "\n".join([line for line in lines if "handled request" not in line][-60:])


def settle_checks(stack: Stack) -> None:
    """A pause ends the engine's own checks as failed, until they come round again in 15 seconds."""
    deadline = time.monotonic() + 40
    while any(
        stack.container(name)["State"]["Health"]["Status"] == "unhealthy" for name in SERVICES
    ):
        assert time.monotonic() < deadline, "a container stays unhealthy"
        time.sleep(0.5)


def age(stack: Stack) -> None:
    """As if the gateway had been up for an hour: one that ends in its first minutes has to wait.

    (docs/two-factor-and-restarts.md.) Every line keeps its length for who reads on in the file.
    """
    with (stack.base / "data/state/login-paper").open("r+") as facts:
        lines = [line.partition(" ") for line in facts.read().splitlines(keepends=True)]
        facts.seek(0)
        facts.write("".join(f"{int(at) - HOUR} {rest}" for at, _, rest in lines))


def tell(chaos: Chaos, seconds: float) -> None:
    """The figures on stderr, and the second part of the page where it is asked for."""
    flows = chaos.world.flows
    figures = {
        "minutes": round(seconds / 60),
        "faults": len(chaos.passed),
        "orders": len(flows),
        "requests": sum(flow.tries for flow in flows),
    }
    print(figures, chaos.world.reads, chaos.world.listener, file=sys.stderr)
    if target := os.environ.get("GANGWAY_CHAOS_PAGE"):
        rows = "\n".join(row(each) for each in chaos.passed)
        put_engine(Path(target), HEAD.read_text().format(**figures) + rows + "\n")
