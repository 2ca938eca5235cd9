"""Faults of every kind against a bridge that is traded through, judged from outside.

Each kind comes once, in a random order, then at random until the time is over; in the end the
broker's book, the journal and the clients must agree. Variables: `GANGWAY_SOAK_MINUTES`, how long
(`make reliability`: 60); `GANGWAY_SOAK_SEED`, in which order; `GANGWAY_SOAK_SHARE`, on how much
of a core both processes run together; `GANGWAY_SOAK_CALM`, the mean seconds between two faults;
`GANGWAY_RELIABILITY`, a file for the table of what was seen.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.bridge.orders.crash import Books, Clients, Flow, settle
from tests.bridge.rig import ADMIN_KEY
from tests.soak.faults import KINDS, Kind, Stack
from tests.soak.outside import Listener, Look, Outside
from tests.soak.share import share_of_a_core
from tests.soak.table import put_processes, written

MINUTES: Final = float(os.environ.get("GANGWAY_SOAK_MINUTES", "0"))
SHARE: Final = float(os.environ.get("GANGWAY_SOAK_SHARE", "1"))
SEED: Final = int(os.environ.get("GANGWAY_SOAK_SEED", "20261128"))
READY_AGAIN_SECONDS: Final = 20.0
CALM: Final = float(os.environ.get("GANGWAY_SOAK_CALM", "1.25"))
WEEK_SECONDS: Final = 7 * 86_400
MOST_MEGABYTES: Final = 96.0
MOST_FILES: Final = 80


@dataclass
class Passed:
    """One fault as it was lived through; seconds from its begin, and from its end."""

    kind: Kind
    looks: list[Look]
    noticed: float | None
    away: float
    back: float


@dataclass
class Soak:
    """What goes on around the faults, and what was seen."""

    stack: Stack
    outside: Outside
    listener: Listener
    clients: Clients
    chance: random.Random
    flows: list[Flow] = field(default_factory=list)
    under_way: list[asyncio.Task[None]] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    reads: int = 0
    megabytes: float = 0.0
    files: int = 0
    away_by_gateway: float = 0.0
    away_by_machine: float = 0.0

    async def read(self) -> None:
        """An app that looks at everything, twice a second."""
        headers = {"X-API-KEY": ADMIN_KEY}
        async with httpx.AsyncClient(
            base_url=self.stack.url, headers=headers, timeout=10, trust_env=False
        ) as client:
            while True:
                for path in ("/positions", "/account", "/orders", "/executions", "/quote/MSFT"):
                    try:
                        answer = await client.get(path)
                    except httpx.TransportError:
                        break
                    assert answer.status_code < 500 or answer.json()["code"], answer.text
                    self.reads += 1
                await asyncio.sleep(0.5)

    async def live_through(self, kind: Kind) -> None:
        """One fault, until the bridge is ready again."""
        begin = time.monotonic()
        await kind.do(self.stack, kind.seconds)
        end = time.monotonic()
        while not self._ready_since(end):
            waited = time.monotonic() - end
            assert waited < READY_AGAIN_SECONDS, f"{kind.name}: {self.outside.looks[-1]}"
            await asyncio.sleep(0.05)
        self._note(kind, begin, end)
        print(f"{kind.name}: {len(self.flows)} orders so far", file=sys.stderr)

    def _ready_since(self, at: float) -> bool:
        looks = self.outside.looks
        return bool(looks) and looks[-1].at >= at and looks[-1].ready

    def _note(self, kind: Kind, begin: float, end: float) -> None:
        looks = self.outside.since(begin)
        bad = [look for look in looks if not look.ready]
        back = next((look.at for look in looks if look.at >= end and look.ready), end)
        away = self.outside.away(begin, looks[-1].at)
        if kind.whose == "gateway":
            self.away_by_gateway += self.outside.away(begin, end)
        elif kind.whose == "machine":
            self.away_by_machine += self.outside.away(begin, end)
        noticed = bad[0].at - begin if bad else None
        self.megabytes = max(self.megabytes, self.stack.bridge.resident_megabytes())
        self.files = max(self.files, self.stack.bridge.open_files())
        self.passed.append(Passed(kind, looks, noticed, away, back - end))


def order_of_faults(chance: random.Random) -> Iterator[Kind]:
    """Each kind once, then any, without an end."""
    yield from chance.sample(KINDS, len(KINDS))
    while True:
        yield chance.choice(KINDS)


async def carry_out(soak: Soak, minutes: float) -> None:
    """The faults, each followed by a calm moment."""
    begin, kinds = time.monotonic(), order_of_faults(soak.chance)
    while len(soak.passed) < len(KINDS) or time.monotonic() - begin < minutes * 60:
        await asyncio.sleep(soak.chance.uniform(0.4 * CALM, 1.6 * CALM))
        await soak.live_through(next(kinds))


async def watched(soak: Soak, minutes: float) -> None:
    """All at once; an error in one of them ends the whole."""
    beside = [
        asyncio.create_task(each)
        for each in (
            soak.outside.run(),
            soak.listener.run(),
            soak.clients.trade(soak.flows, soak.under_way, soak.chance, "soak"),
            soak.read(),
        )
    ]
    faults = asyncio.create_task(carry_out(soak, minutes))
    try:
        await asyncio.wait({faults, *beside}, return_when=asyncio.FIRST_COMPLETED)
        for each in (faults, *beside):
            if each.done():
                each.result()
    finally:
        for each in (faults, *beside):
            each.cancel()
        await asyncio.gather(faults, *beside, return_exceptions=True)
    await asyncio.gather(*soak.under_way)


@contextmanager
def stack_of(folder: Path) -> Iterator[Stack]:
    """A gateway and a bridge, ended in any case."""
    with share_of_a_core(SHARE) if SHARE < 1 else nullcontext() as group:
        stack = Stack(folder, group.before if group else ())
        try:
            stack.bridge.wait_for("ready", 60)
            yield stack
        finally:
            stack.stop()


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 900)
async def test_nothing_is_lost_whatever_fails(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with stack_of(tmp_path) as stack:
        clients = Clients(stack.url, 40)
        rule = {"id": "watched", "match": {"symbol": "AAPL"}, "stopLoss": {"percent": 90}}
        stack.bridge.client.put("/rules", json={"rules": [rule]}).raise_for_status()
        first = Flow(0, {"symbol": "AAPL", "action": "BUY", "quantity": 1,
                         "orderType": "LMT", "limitPrice": 1.0}, "", f"first-{SEED}")  # fmt: skip
        await clients.carry_out(first)
        soak = Soak(stack, Outside(stack.url), Listener(stack.url), clients, chance, [first])
        begin = time.monotonic()
        try:
            await watched(soak, MINUTES)
            await settle(stack.bridge, stack.gateway)
            books = Books(stack.bridge, stack.gateway, soak.flows)
            tell(soak, time.monotonic() - begin)
            assert "\n".join(books.differences()) == ""
            assert soak.listener.holes == 0
            assert soak.megabytes <= MOST_MEGABYTES
            assert soak.files <= MOST_FILES
        finally:
            await clients.close()


def of_a_week(away: float) -> str:
    """The part of a week, in per cent, that is left without these seconds."""
    return f"{100 * (1 - away / WEEK_SECONDS):.3f}"


def tell(soak: Soak, seconds: float) -> None:
    """The figures on stderr, and the table where it is asked for."""
    by_kind: dict[str, list[Passed]] = defaultdict(list)
    for each in soak.passed:
        by_kind[each.kind.name].append(each)
    looks = soak.outside.looks
    away = soak.outside.away(looks[0].at, looks[-1].at)
    figures: dict[str, Any] = {
        "minutes": round(seconds / 60),
        "faults": len(soak.passed),
        "orders": len(soak.flows),
        "requests": sum(flow.tries for flow in soak.flows),
        "reads": soak.reads,
        "messages": soak.listener.messages,
        "connections": soak.listener.connections,
        "away": round(away),
        "by_gateway": round(soak.away_by_gateway),
        "by_machine": round(soak.away_by_machine),
        "week": of_a_week(away - soak.away_by_gateway),
        "own": of_a_week(away - soak.away_by_gateway - soak.away_by_machine),
        "megabytes": round(soak.megabytes),
        "files": soak.files,
    }
    print(figures, file=sys.stderr)
    if target := os.environ.get("GANGWAY_RELIABILITY"):
        put_processes(Path(target), written(by_kind, figures))
