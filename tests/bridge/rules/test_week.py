"""A trading week of twenty positions in wound time, with all that people and gateways do in it.

Bridge and simulator are in this process, over a real socket, and wound together: nights with the
gateway's restart and the bridge's own, Sunday's end of the session, halts, orders entered by hand
at the gateway, positions closed by hand, others opened again. What must never be is checked in
the simulator's own record and in the journal. `GANGWAY_WEEKS` says how many weeks, each another.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.auditing import Caller
from bridge.environment import Environment
from bridge.errors import BridgeError
from bridge.orders.close import CloseRequest, PositionCloser
from bridge.orders.halt import TradingHalt
from bridge.orders.order_ids import key_digest, order_ref
from bridge.orders.request import ComboLegRequest, OrderRequest
from bridge.orders.submit import OrderSubmitter
from bridge.process import Bridge
from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.rules import manager
from bridge.rules.manager import PositionManager
from bridge.rules.model import RuleSet, read
from bridge.rules.service import RulesService
from bridge.store import Database
from bridge.tws.connection_state import ConnectionState
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.clock import EASTERN
from simulator.contracts.contract import Query
from simulator.options import Options
from simulator.trading.terms import Terms
from tests.bridge.conftest import quick_target
from tests.bridge.rig import ADMIN_KEY
from tests.bridge.rules.test_over_http import LIMITS
from tests.bridge.wound import WoundClock

WEEKS: Final = int(os.environ.get("GANGWAY_WEEKS", "1"))
SEED: Final = int(os.environ.get("GANGWAY_CRASH_SEED", "7"))
BEGIN: Final = datetime(2026, 5, 31, 0, 40, tzinfo=EASTERN)  # Sunday; the session ends at 01:00
CALENDAR: Final = RestartCalendar((RestartRule("auto-restart", "23:45", None, 6),))
CALLER: Final = Caller("person", "week")
STEP, NIGHT_STEP, CLOSING_STEP = 600.0, 3600.0, 2.0
LONG: Final = "AAPL MSFT NVDA AMZN TSLA GOOGL META AMD INTC JPM KO XOM".split()  # noqa: SIM905
SHORT: Final = ("PEP", "IBM", "CVX")
SIMULATED: Final = ("BAC", "PFE", "QQQ")
CLOSE: Final = {"steps": 3, "stepSeconds": 2, "boundPercent": 20}


def rules() -> RuleSet:
    """Each symbol has its rule; together they use every trigger that a week can meet."""
    terms: dict[str, dict[str, Any]] = {
        "AAPL": {"trailing": {"percent": 0.6}, "protect": "broker"},
        "MSFT": {"trailing": {"amount": 60}},
        "NVDA": {"trailing": {"percent": 0.5, "armedAt": 0.3}, "stopLoss": {"percent": 3}},
        "AMZN": {"stopLoss": {"percent": 0.7}, "takeProfit": {"percent": 0.7}},
        "TSLA": {"stopLoss": {"percent": 2}, "protect": "broker"},
        "GOOGL": {"at": "14:00"},
        "META": {"at": "11:20", "close": CLOSE | {"order": "market"}},
        "AMD": {"maxHoldingDays": 2},
        "INTC": {"maxHoldingDays": 1, "stopLoss": {"percent": 8}, "protect": "broker"},
        "JPM": {"minutesBeforeClose": 20},
        "KO": {"stopLoss": {"amount": 25}, "takeProfit": {"amount": 25}},
        "PEP": {"trailing": {"percent": 0.5}, "protect": "broker"},
        "IBM": {"takeProfit": {"percent": 0.4}},
        "CVX": {"stopLoss": {"percent": 0.4}, "maxHoldingDays": 3},
    }
    entries: list[dict[str, Any]] = [
        {"id": symbol, "mode": "trade", "match": {"symbol": symbol, "secType": "STK"}, **each}
        for symbol, each in terms.items()
    ]
    entries.append(
        {"id": "label", "mode": "trade", "match": {"orderRef": "swing-*"}, "at": "15:00"}
    )
    entries += [
        {"id": f"dry-{symbol}", "match": {"symbol": symbol, "secType": "STK"},
         "trailing": {"percent": 0.1}}
        for symbol in SIMULATED
    ]  # fmt: skip
    entries.append(
        {"id": "whole", "mode": "trade", "match": {"symbol": "SPY", "combination": True},
         "maxHoldingDays": 1, "maxSpreadPercent": 1000, "close": CLOSE | {"boundPercent": 100}}
    )  # fmt: skip
    return read({"rules": [{"close": CLOSE} | each for each in entries]})


class Week:
    """One simulated broker, the lives of one bridge, and what happens to them."""

    def __init__(self, folder: Path, simulator: Simulator, chance: random.Random) -> None:
        self.folder = folder
        self.simulator = simulator
        self.world = simulator.world
        self.chance = chance
        self.clock = WoundClock(BEGIN)
        self.did = Counter[str]()
        self.halts: list[tuple[float, float]] = []
        self.levels: dict[tuple[str, str], tuple[float, float]] = {}
        self.keys = count()
        self.bridge: Bridge
        self._life = AsyncExitStack()
        (folder / "admin.key").write_text(ADMIN_KEY)
        (folder / "admin.key").chmod(0o600)
        (folder / "limits.json").write_text(json.dumps(LIMITS))

    # lives --------------------------------------------------------------------------------------

    async def live(self) -> None:
        """The bridge ends and begins again, whatever it was doing."""
        await self._life.aclose()
        environment = Environment(
            data_dir=self.folder / "data",
            tws_port=self.simulator.tws.port,
            admin_key_file=self.folder / "admin.key",
            trading_file=self.folder / "limits.json",
            restarts=CALENDAR,
        )
        target = quick_target(
            self.simulator.tws.port,
            heartbeat_interval=1800.0,
            heartbeat_patience=900.0,
            backoff_cap=10.0,
            restarts=CALENDAR,
        )
        self.bridge = await self._life.enter_async_context(
            Bridge(environment, clock=self.clock, target=target)
        )
        for _ in range(50):
            await self.settle()
            if self.ready:
                break
            self.advance(1.0)
        self.did["lives"] += 1

    async def end(self) -> None:
        await self._life.aclose()

    def part(self, kind: type[Any]) -> Any:
        return self.bridge.services[kind]

    @property
    def manager(self) -> PositionManager:
        found: PositionManager = self.part(RulesService).manager
        return found

    @property
    def ready(self) -> bool:
        return self.part(TwsSession).state is ConnectionState.READY

    # time ---------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Until the sockets are silent and the manager rests; what it waits for, comes.

        A disk that takes its time takes none of the week's.
        """
        session, quiet, read, looks = self.part(TwsSession), 0, -1, 0
        database = self.part(Database)
        while looks < 6000:
            await asyncio.sleep(0.0005)
            if database._writing:
                continue
            looks += 1
            context = session.context
            now = context.wire.messages_read if context.wire else 0
            quiet = 0 if now != read else quiet + 1
            read = now
            waiting = context.requests.waiting_since() is not None
            if quiet >= 3 and self.manager in RESTING and not waiting:
                return
            if quiet >= 6:
                quiet = 0
                self.advance(1.0)
        raise AssertionError(f"it does not come to rest at {self.clock.now()}")

    def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.clock.advance(seconds)

    async def step(self, seconds: float) -> None:
        self.advance(seconds)
        await self.settle()
        self.look()

    async def wind(self, seconds: float, step: float) -> None:
        """In steps; in small ones while something is being closed."""
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 0:
            await self.step(min(left, step))
            for _ in range(40):
                if not self.closing() or self.clock.monotonic() >= end:
                    break
                await self.step(CLOSING_STEP)

    async def until(self, hour: int, minute: int, step: float) -> None:
        here = self.clock.now().astimezone(EASTERN)
        there = here.replace(hour=hour, minute=minute, second=0, microsecond=0)
        await self.wind((there - here).total_seconds(), step)

    def closing(self) -> bool:
        """Whether a close gets on, or could."""
        running = bool(self.manager._closes.running)
        return running and self.manager._patience() == manager.CLOSING_SECONDS

    # what is seen -------------------------------------------------------------------------------

    def held(self) -> dict[int, float]:
        accounts = self.world.trading.ledger.accounts.values()
        return {
            con_id: size
            for account in accounts
            for con_id in account.positions
            if (size := account.held(con_id))
        }

    def look(self) -> None:
        """A trailing stop that is shown never goes back, over restarts too."""
        held = self.held()
        for each in [each for each in self.levels if _con_id(each[1]) not in held]:
            del self.levels[each]
        for standing in self.part(RulesService).view().standing:
            for trigger in standing.triggers:
                if trigger.name != "trailing" or not isinstance(trigger.level, float):
                    continue
                place = (standing.rule, standing.holding)
                direction = 1 if standing.quantity > 0 else -1
                if place in self.levels:
                    before = self.levels[place][0]
                    assert (trigger.level - before) * direction >= -1e-9, place
                self.levels[place] = (trigger.level, direction)
                self.did["levels"] += 1

    # what people do -----------------------------------------------------------------------------

    async def order(self, symbol: str, action: str, quantity: float, **more: Any) -> None:
        request = OrderRequest(
            symbol=symbol, action=action, quantity=quantity, order_type="MKT", **more  # type: ignore[arg-type]
        )  # fmt: skip
        placing = asyncio.create_task(
            self.part(OrderSubmitter).place(request, f"week-{next(self.keys)}", CALLER)
        )
        for _ in range(20):
            await self.settle()
            if placing.done():
                break
            self.advance(0.5)
        await placing

    def by_hand(self, con_id: int, quantity: float) -> None:
        """Somebody enters an order at the gateway itself; below zero a sale."""
        contract = self.world.catalog.by_id(con_id)
        assert contract is not None
        action = "BUY" if quantity > 0 else "SELL"
        terms = Terms.read(
            {"action": action, "totalQuantity": str(abs(quantity)), "orderType": "MKT",
             "tif": "DAY", "transmit": "1"}
        )  # fmt: skip
        assert self.world.trading.place_manual(contract, terms) is not None
        self.did["by hand"] += 1

    async def open_everything(self) -> None:
        for number, symbol in enumerate(LONG):
            await self.order(symbol, "BUY", 20 + number)
        for symbol in SHORT:
            await self.order(symbol, "SELL", 15)
        for symbol in SIMULATED:
            await self.order(symbol, "BUY", 10)
        await self.order("DIS", "BUY", 12, label="swing-1")
        legs = self.spread()
        await self.order("SPY", "BUY", 2, sec_type="BAG", legs=legs)
        await self.step(5)
        assert len(self.held()) >= 21  # twenty positions, of which one has two legs

    def spread(self) -> tuple[Any, ...]:
        at = self.world.clock.time()
        chain = [
            each
            for each in self.world.catalog.find(Query(symbol="SPY", sec_type="OPT", right="P"), at)
            if each.expiry > "20260901"
        ]
        first = min(each.expiry for each in chain)
        strikes = sorted((each.strike, each.con_id) for each in chain if each.expiry == first)
        middle = len(strikes) // 2
        return tuple(
            ComboLegRequest(action=action, con_id=strikes[at][1], sec_type="OPT", symbol="SPY")  # type: ignore[arg-type]
            for action, at in (("SELL", middle), ("BUY", middle - 4))
        )

    async def meddle(self) -> None:
        """One of the things that happen in a session."""
        what = self.chance.choice(("part", "all", "close", "again", "restart", "halt", "nothing"))
        held = {each: size for each, size in self.held().items() if self._free(each)}
        if what in {"part", "all"} and held:
            con_id, size = self.chance.choice(sorted(held.items()))
            share = 1.0 if what == "all" else self.chance.choice((0.25, 0.5))
            quantity = max(1, int(abs(size) * share))
            self.by_hand(con_id, -quantity if size > 0 else quantity)
        elif what == "close" and held:
            con_id = self.chance.choice(sorted(held))
            request = CloseRequest(con_id=con_id, cancel_orders=True)
            closer = self.part(PositionCloser)
            await self.waited(closer.close(request, f"week-{next(self.keys)}", CALLER))
            self.did["closed by a person"] += 1
        elif what == "again":
            await self.reopen()
        elif what == "restart":
            await self.live()
        elif what == "halt":
            await self.halted()

    def _free(self, con_id: int) -> bool:
        """Not a leg, and not of what a rule only watches."""
        contract = self.world.catalog.by_id(con_id)
        assert contract is not None
        return contract.sec_type == "STK" and contract.symbol not in SIMULATED

    async def waited(self, work: Any) -> None:
        task = asyncio.create_task(work)
        for _ in range(40):
            await self.settle()
            if task.done():
                break
            self.advance(0.5)
        try:
            await task
        except BridgeError:
            self.did["refused"] += 1

    async def reopen(self) -> None:
        held = {self.world.catalog.by_id(each).symbol for each in self.held()}  # type: ignore[union-attr]
        gone = [each for each in LONG if each not in held]
        if gone:
            await self.order(self.chance.choice(gone), "BUY", self.chance.randint(5, 30))
            self.did["opened again"] += 1

    async def halted(self) -> None:
        allowed = self.chance.random() < 0.5
        halt = self.part(TradingHalt)
        await halt.halt("the week", "none", CALLER, allow_closing=allowed)
        begun = self.world.clock.time()
        await self.wind(self.chance.choice((600, 3600)), STEP)
        if not allowed:
            self.halts.append((begun, self.world.clock.time()))
        await self.part(TradingHalt).resume(CALLER)
        self.did["halts"] += 1


def _con_id(holding: str) -> int:
    return int(holding.split("/")[1].split(":", maxsplit=1)[0])


RESTING: set[PositionManager] = set()


@pytest.fixture(autouse=True)
def seen_resting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Which managers have nothing to do until time passes; and a look in fifteen minutes only."""
    waiting = PositionManager._woken_within

    async def rest(self: PositionManager, seconds: float) -> None:
        RESTING.add(self)
        try:
            await waiting(self, seconds)
        finally:
            RESTING.discard(self)

    monkeypatch.setattr(PositionManager, "_woken_within", rest)
    monkeypatch.setattr(manager, "LOOK_SECONDS", 900.0)
    yield
    RESTING.clear()


async def pass_week(week: Week) -> None:
    await week.live()
    week.world.faults.start("sunday-invalidation", 900.0)
    await week.wind(3600, 120)
    assert week.ready
    await week.wind(31 * 3600 - 600, 3 * 3600)  # until Monday, a quarter to nine
    for day in range(5):
        here = week.clock.now().astimezone(EASTERN)
        assert here.weekday() == day
        await week.until(9, 40, NIGHT_STEP)
        if day == 0:
            await week.open_everything()
            service = week.part(RulesService)
            await service.replace(rules(), None, CALLER)
        while (here := week.clock.now().astimezone(EASTERN)).hour < 16:
            await week.wind(week.chance.choice((600, 1200, 1800)), STEP)
            if here.hour < 15:
                await week.meddle()
        await week.until(23, 44, NIGHT_STEP)
        week.world.faults.start("nightly-restart", 120.0)
        await week.wind(300, 20)
        await week.live()
        await week.wind(600, 30)
        assert week.ready, "the session did not come back at night"
        week.clock.now()
        await week.wind(8.5 * 3600 - 900, 2 * 3600)


@pytest.mark.timeout(300 + 120 * WEEKS)
@pytest.mark.parametrize("seed", range(SEED, SEED + WEEKS))
async def test_a_week_of_twenty_positions(tmp_path: Path, seed: int) -> None:
    options = Options(
        port=0, portal_port=0, control_port=0, start=BEGIN.timestamp(), tick_interval=STEP / 2,
        rate_limit=0, hours="exchange", seed=seed,
    )  # fmt: skip
    async with Simulator(options) as simulator:
        week = Week(tmp_path, simulator, random.Random(seed))
        try:
            await pass_week(week)
        finally:
            await week.end()
        book = simulator.world.book()
        await asyncio.sleep(0.05)
    check(week, book, tmp_path / "data" / "journal.sqlite3")


def check(week: Week, book: dict[str, Any], path: Path) -> None:
    """What must never be, in the simulator's own record and in the journal."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    events = connection.execute("SELECT kind, rule FROM rule_events").fetchall()
    orders = {row["order_ref"]: dict(row) for row in connection.execute("SELECT * FROM orders")}
    closes = [json.loads(row["content"]) for row in connection.execute("SELECT * FROM rule_closes")]
    kept = {row["exec_id"] for row in connection.execute("SELECT exec_id FROM executions")}
    connection.close()
    kinds = Counter(each["kind"] for each in events)
    of_rules = {ref for ref, each in orders.items() if each["api_key_id"] == "rules"}
    check_each_closed_once(closes, orders)
    check_sizes(book, of_rules)
    check_quiet_times(week, book, of_rules)
    dry = {each["rule"] for each in events if each["kind"] == "simulated"}
    assert dry == {f"dry-{symbol}" for symbol in SIMULATED}
    assert not {orders[ref]["symbol"] for ref in of_rules} & set(SIMULATED)
    assert kept == {each["execId"] for each in book["fills"]}, "the journal is not the book"
    for each in book["orders"]:
        if each["orderRef"] in orders:
            ours = orders[each["orderRef"]]
            done = (ours["filled"], ours["state"] == "terminal")
            assert done == (each["filled"], each["completedAt"] is not None), each
    assert kinds["closed"] >= 6
    assert kinds["protected"] >= 2
    assert week.did["levels"] > 100


def check_each_closed_once(closes: list[dict[str, Any]], orders: dict[str, Any]) -> None:
    """What the orders of a close have filled, is never more than was decided; none has two ends."""
    for close in closes:
        keys = [f"rule-{close['id']}-{number}" for number in range(1, close["attempts"] + 1)]
        filled = sum(
            orders[ref]["filled"]
            for key in keys
            if (ref := order_ref(key_digest(key), 0, 0)) in orders
        )
        assert filled <= close["units"] + 1e-9, close
        if close["outcome"] == "closed":
            assert filled > 0, close


def check_sizes(book: dict[str, Any], of_rules: set[str]) -> None:
    """Nothing of a rule is larger than what is held less what works; no rule crosses zero."""
    happened = [(each["at"], 0, each) for each in book["fills"] if each["secType"] != "BAG"]
    happened += [(each["placedAt"], 1, each) for each in book["orders"] if each["secType"] == "STK"]
    held: dict[int, float] = defaultdict(float)
    filled: dict[int, float] = defaultdict(float)
    for at, placed, each in sorted(happened, key=lambda one: one[:2]):
        con_id = each["conId"]
        if not placed:
            before = held[con_id]
            held[con_id] += each["quantity"] * (1 if each["side"] in {"BOT", "BUY"} else -1)
            filled[each["permId"]] += each["quantity"]
            assert before * held[con_id] >= 0, f"{each['symbol']} was crossed"
            continue
        if each["orderRef"] not in of_rules:
            continue
        sign = 1 if each["action"] == "BUY" else -1
        working = sum(
            other["quantity"] - filled[other["permId"]]
            for other in book["orders"]
            if other["conId"] == con_id and other["action"] == each["action"]
            and other["placedAt"] <= at < (other["completedAt"] or float("inf"))
        )  # fmt: skip
        assert working <= -sign * held[con_id] + 1e-9, f"{each} against {held[con_id]}"


def check_quiet_times(week: Week, book: dict[str, Any], of_rules: set[str]) -> None:
    """Rules send nothing in a halt that does not allow it, and nothing outside the hours."""
    for each in book["orders"]:
        if each["orderRef"] not in of_rules:
            continue
        at = each["placedAt"]
        assert not any(begun < at < ended for begun, ended in week.halts), each
        here = datetime.fromtimestamp(at, EASTERN)
        assert here.weekday() < 5, each
        if each["orderType"] != "STP":
            assert 9.5 <= here.hour + here.minute / 60 <= 16.02, each
