"""Whatever happens to the broker's messages, no order is lost and none is said to have ended that
works: bridge and simulator wound together over a socket, the simulator's own book as the judge.

`GANGWAY_WIRE_SEEDS` is how many days are tried; the first ones are always the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import structlog

from bridge.auditing import Auditor
from bridge.environment import Environment
from bridge.errors import BridgeError
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.orders.cancel import OrderCanceller
from bridge.orders.executions import ExecutionService
from bridge.orders.journal import OrderJournal
from bridge.orders.modify import OrderModifier
from bridge.orders.request import ChangeRequest
from bridge.orders.service import OrderService
from bridge.orders.submit import OrderSubmitter
from bridge.orders.views import OrderView
from bridge.orders.wiring import install
from bridge.services import Services
from bridge.store import Database
from bridge.store.executions import Query
from bridge.store.urgent import Urgent
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.options import Options
from tests.bridge.conftest import quick_target
from tests.bridge.orders.order_rig import CALLER, request
from tests.bridge.wound import START, WoundClock

SEEDS: Final = int(os.environ.get("GANGWAY_WIRE_SEEDS", "3"))
STEPS: Final = 24
HOUR: Final = 3600.0
TURN: Final = 0.25
"""Seconds of the wound clocks for each hundredth of a real one while something is waited for."""
ABOUT_ORDERS: Final = (3, 5, 11, 59, 101)
UNKNOWN_CODES: Final = (2174, 10018, 481, 10349, 31337, 404, 8888)
NONE: Final = ("", "-1", "NaN", "Infinity", "1.7976931348623157E308", "2147483647")
NUMBERS: Final = {3: (3, 4, 5, 8, 11), 11: (19, 20, 22, 24, 25), 59: (3, 5)}
ENDED: Final = {"Filled", "Cancelled", "Rejected", "NotSent"}
FINISHED: Final = {"Filled", "Cancelled", "ApiCancelled", "Inactive"}


def rule(chance: random.Random) -> dict[str, Any]:
    """Something that a gateway or a network might do to a message about an order."""
    message = chance.choice(ABOUT_ORDERS)
    one = {"message": message, "times": chance.randint(1, 2), "skip": chance.randint(0, 2)}
    place = {"direction": "to-gateway", "message": 3, "times": 1}
    match chance.randrange(7):
        case 0:
            code = chance.choice(UNKNOWN_CODES)
            text = [4, 2, "{1}", code, "Something to know", ""]
            return {"action": "inject", **place, "fields": text, "before": chance.random() < 0.5}
        case 1:
            return {"action": "drop", **one}
        case 2:
            return {"action": "duplicate", **one, "seconds": chance.choice((0, 0.5, 30))}
        case 3:
            return {"action": "hold", **one, "messages": chance.randint(1, 4)}
        case 4:
            return {"action": "delay", **one, "seconds": chance.choice((0.5, 3, 20))}
        case 5:
            return {"action": "drop", **place}
        case _:
            message = chance.choice(tuple(NUMBERS))
            change = {str(chance.choice(NUMBERS[message])): chance.choice(NONE)}
            return {"action": "rewrite", **one, "message": message, "set": change}


class Day:
    """A bridge's orders on a real session, wound with the simulator that it talks to."""

    def __init__(
        self, simulator: Simulator, clock: WoundClock, services: Services, chance: random.Random
    ) -> None:
        self.simulator = simulator
        self.clock = clock
        self.services = services
        self.chance = chance
        self._url = f"http://127.0.0.1:{simulator.ports['controlPort']}"
        self.said: list[str] = []

    async def winding(self) -> None:
        """Both clocks go on while anybody waits for them."""
        while True:
            self.simulator.world.clock.advance(TURN)
            await self.clock.wind(TURN)
            await asyncio.sleep(0.01)

    def jump(self, seconds: float) -> None:
        """Hours in which nothing is asked for."""
        self.simulator.world.clock.advance(seconds)
        self.clock.advance(seconds)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        async with httpx.AsyncClient(base_url=self._url, trust_env=False) as client:
            answer = await client.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json()

    async def rules(self, *rules: dict[str, Any]) -> None:
        await self.control("POST", "/faults", {"fault": "wire-rewrite", "rules": list(rules)})

    async def ours(self) -> list[OrderView]:
        await self.services[OrderJournal].flush()
        return list(
            (await self.services[OrderService].orders(only_open=False, cursor="", limit=200)).orders
        )

    async def act(self, number: int) -> None:
        """One thing that an app does; an answer may fail, as long as it says so."""
        chance = self.chance
        working = [each for each in await self.ours() if each.status not in ENDED]
        with suppress(BridgeError):
            if working and chance.random() < 0.25:
                await self.services[OrderCanceller].cancel(chance.choice(working).order_id, CALLER)
            elif working and chance.random() < 0.3:
                change = ChangeRequest(limit_price=float(chance.randint(1, 5)))
                await self.services[OrderModifier].modify(
                    chance.choice(working).order_id, change, CALLER
                )
            else:
                price = 1.0 if chance.random() < 0.5 else 205.0
                wanted = request(quantity=float(chance.randint(1, 5)), limit_price=price)
                for _ in range(2):  # an app that got no answer asks again, with the same key
                    with suppress(BridgeError):
                        await self.services[OrderSubmitter].place(wanted, f"key-{number}", CALLER)
                        break

    async def no_wrong_end(self) -> None:
        ours = await self.ours()  # first: an order may end between the two looks
        book = {each["orderRef"]: each for each in (await self.control("GET", "/book"))["orders"]}
        for order in ours:
            booked = book.get(order.order_ref)
            if order.status in ENDED and booked is not None:
                assert booked["status"] in FINISHED, (order, booked)
            assert order.status != "NotSent" or booked is None, (order, booked)

    async def difference(self) -> list[Any]:
        """In what the journal and the book do not agree."""
        book = await self.control("GET", "/book")
        ours = {each.order_ref: each for each in await self.ours()}
        found: list[Any] = []
        for booked in book["orders"]:
            order = ours.pop(booked["orderRef"], None)
            status = booked["status"].replace("ApiCancelled", "Cancelled")
            if order is None or (order.status, order.filled) != (status, booked["filled"]):
                found.append((booked, order))
        found += [each for each in ours.values() if each.status not in {"Unknown", "NotSent"}]
        page = await self.services[ExecutionService].page(Query(), "", 500)
        told = {each.exec_id: (each.quantity, each.price) for each in page.executions}
        fills = {each["execId"]: (each["quantity"], each["price"]) for each in book["fills"]}
        refs = [each["orderRef"] for each in book["orders"]]
        return (
            found
            + [each for each in fills.items() if each not in told.items()]
            + ([] if len(refs) == len(set(refs)) else [refs])
        )


@asynccontextmanager
async def started(folder: Path, seed: int) -> AsyncIterator[Day]:
    clock = WoundClock()
    options = Options(
        port=0,
        portal_port=0,
        control_port=0,
        start=START.timestamp(),
        tick_interval=600.0,
        rate_limit=0,
        seed=seed,
    )
    rules = folder / "trading.json"
    rules.write_text(json.dumps({"answer_within_seconds": 5, "max_open_orders": None}))
    async with Simulator(options) as simulator:
        target = quick_target(
            simulator.tws.port,
            heartbeat_interval=300.0,
            heartbeat_patience=60.0,
            backoff_cap=10.0,
        )
        session = TwsSession(target, clock)
        database = await Database.open(folder / "data")
        services = Services(Environment(trading_file=rules), session, clock)
        services.provide(Database, database)
        services.provide(TwsSession, session)
        contracts = services.provide(ContractService, ContractService(session, clock))
        services.provide(QuoteService, QuoteService(session, contracts, clock))
        services.provide(
            Auditor, Auditor(services.provide(Urgent, Urgent(database, services.journal)), clock)
        )
        install(services)
        for hook in services.start_hooks:
            await hook()
        day = Day(simulator, clock, services, random.Random(seed))
        winding = asyncio.create_task(day.winding())
        await session.start()
        try:
            yield day
        finally:
            await session.stop()
            for hook in reversed(services.stop_hooks):
                await hook()
            winding.cancel()
            await asyncio.gather(winding, return_exceptions=True)
            await database.close()


async def until(happened: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.02)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_day_of_trouble_on_the_wire(tmp_path: Path, seed: int) -> None:
    with structlog.testing.capture_logs() as logs:
        async with started(tmp_path, seed) as day:
            session = day.services[TwsSession]
            await until(lambda: session.state.value == "ready")
            for number in range(STEPS):
                await day.rules(*(rule(day.chance) for _ in range(day.chance.randint(1, 3))))
                await day.act(number)
                await day.no_wrong_end()
                if day.chance.random() < 0.3:
                    day.jump(day.chance.uniform(60.0, HOUR / 2))
            await day.control("DELETE", "/faults/wire-rewrite")
            session.supervisor.reconnect("the day is over")
            left: list[Any] = [None]
            with suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while left or session.state.value != "ready":
                        await asyncio.sleep(0.1)
                        left = await day.difference()
            assert not left
            assert await day.ours()
            await day.no_wrong_end()
    assert not [each for each in logs if each.get("exc_info") or each["log_level"] == "critical"]
