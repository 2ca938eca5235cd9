"""No event is ever before its cause, however the clock is wound and whatever a client does."""

from __future__ import annotations

import asyncio
import math
import struct
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulator.clock import EASTERN, Clock
from simulator.options import Options
from simulator.state import Writer, read, restore
from simulator.tws.server import load
from simulator.tws.session import Session
from simulator.world import World
from tests.simulator.base.raw import FRIDAY_TEN, STOCK, framed, ready, simulated

EXECUTION, TICK_STRING, REALTIME_BAR, CURRENT_TIME = "11", "46", "50", "49"
DAY = 86_400.0
load()


class Witness:
    """A connection that notes when each message is written."""

    writable = True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seen: list[tuple[float, list[str]]] = []

    def write(self, data: bytes) -> None:
        while data:
            (length,) = struct.unpack(">I", data[:4])
            fields = data[4 : 4 + length].decode().split("\0")[:-1]
            self.seen.append((self.clock.time(), fields))
            data = data[4 + length :]

    def close(self) -> None:
        """There is nothing to close."""

    abort = session_ready = close


class Client:
    """A client in the same process: its requests, and what it was told when."""

    def __init__(self, hours: str) -> None:
        self.world = World(Options(start=FRIDAY_TEN, hours=hours, history_pacing="off"))
        self.last_id = 0
        self.connect([])

    def connect(self, seen: list[tuple[float, list[str]]]) -> None:
        self.pipe = Witness(self.world.clock)
        self.pipe.seen = seen
        self.session = Session(self.world, self.pipe, 178)
        self.ask(71, 2, 1, "")
        self.ask(1, 11, 900, *STOCK, 0, "", 0, 0, "")
        self.ask(50, 3, 901, *STOCK, 5, "TRADES", 0, "")

    def restart(self) -> None:
        """The gateway goes down and comes back with what it keeps; the client does, too."""
        text = Writer(self.world).text()
        self.world.clock.close()
        self.world = World(self.world.options)
        restore(read(text, self.world), self.world)
        assert Writer(self.world).text().partition('"past"')[2] == text.partition('"past"')[2]
        self.connect(self.pipe.seen)

    def ask(self, *fields: object) -> None:
        self.session.receive(framed(*fields)[4:].decode().split("\0")[:-1])

    def order(self, number: int, kind: str, side: str, quantity: int, away: int) -> None:
        """Place or change an order `away` cents from the market."""
        quote = self.world.market.quote(self.apple, self.world.clock.time())
        price = round(quote.middle + away / 100, 2)
        limit = price if kind in {"LMT", "STP LMT"} else ""
        stop = price if kind.startswith("STP") else 1.0 if kind == "TRAIL" else ""
        values = {
            "orderId": number,
            "conId": self.apple.con_id,
            "exchange": "SMART",
            "action": side,
            "totalQuantity": quantity,
            "orderType": kind,
            "tif": "GTC",
            "lmtPrice": limit,
            "auxPrice": stop,
            "transmit": 1,
            "outsideRth": 1,
        }
        self.ask(3, *place_order(values))
        self.last_id = max(self.last_id, number)

    @property
    def apple(self) -> Any:
        return self.world.catalog.instruments[265598].contract


def place_order(values: dict[str, Any]) -> list[object]:
    """The fields of a placeOrder at version 178, by the table that reads them."""
    from simulator.tws.order_fields import PLACE_ORDER, write

    table = [step for step in PLACE_ORDER if "faProfile" not in getattr(step, "names", ())]
    bare = {name: "" for step in table for name in getattr(step, "names", ())}
    return list(write(tuple(table), bare | {"whatIf": "0"} | values_as_text(values), 178))


def values_as_text(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


KINDS = st.sampled_from(["MKT", "LMT", "STP", "STP LMT", "TRAIL"])
SIDES = st.sampled_from(["BUY", "SELL"])
PLACE = st.tuples(st.just("place"), KINDS, SIDES, st.integers(1, 4000), st.integers(-80, 80))
CHANGE = st.tuples(st.just("change"), st.integers(1, 8), st.integers(-80, 80))
CANCEL = st.tuples(st.just("cancel"), st.integers(1, 8))
WAIT = st.tuples(st.just("wait"), st.sampled_from([0.3, 6.0, 41.0, 3600.0, DAY, 3 * DAY]))
FAULT = st.tuples(
    st.just("fault"),
    st.sampled_from(["late-fills", "upstream-lost", "duplicate-status"]),
    st.sampled_from([3.0, 600.0]),
)
RESTART = st.just(("restart",))
OTHERS = [CHANGE, CANCEL, FAULT, RESTART]
ANY = st.sampled_from([PLACE] * 4 + [WAIT] * 3 + OTHERS).flatmap(lambda one: one)
STEPS = st.lists(ANY, min_size=4, max_size=16)

BOUGHT = ("place", "MKT", "BUY", 100, 0)


def act(client: Client, step: tuple[Any, ...]) -> None:
    match step:
        case ("place", kind, side, quantity, away):
            client.order(client.last_id + 1, kind, side, quantity, away)
        case ("change", number, away) if number <= client.last_id:
            client.order(number, "LMT", "BUY", 50, away)
        case ("cancel", number):
            client.ask(4, 1, number, "")
        case ("fault", name, seconds):
            client.world.faults.start(name, seconds)
        case ("restart",):
            client.restart()
        case ("wait", seconds):
            client.world.clock.advance(seconds)
            client.ask(49, 1)


@settings(max_examples=60)
@example(steps=[BOUGHT, ("wait", 41.0), BOUGHT, ("wait", 41.0)], hours="always")
@example(steps=[("fault", "late-fills", 600.0), BOUGHT, ("wait", 3600.0)], hours="always")
@example(steps=[("wait", DAY), BOUGHT, ("restart",), BOUGHT, ("wait", 41.0)], hours="always")
@given(steps=STEPS, hours=st.sampled_from(["always", "exchange"]))
def test_no_event_is_before_its_cause(steps: list[tuple[Any, ...]], hours: str) -> None:
    async def run() -> None:
        client = Client(hours)
        for step in [*steps, ("wait", 31 * DAY)]:
            act(client, step)
        check_the_book(client)
        check_the_messages(client)
        client.world.clock.close()

    asyncio.run(run())


def check_the_book(client: Client) -> None:
    market, trading = client.world.market, client.world.trading
    assert trading is not None
    fills = list(trading.engine.book.executions)
    told = {
        fields[14]: at
        for at, fields in client.pipe.seen
        if fields[0] == EXECUTION and fields[1] == "-1"
    }
    assert [each.at for each in fills] == sorted(each.at for each in fills)
    for fill in fills:
        assert fill.order.placed_at <= fill.at <= told.get(fill.exec_id, math.inf)
        quote = market.quote(fill.order.contract, fill.at)
        other_side = quote.ask if fill.side == "BOT" else quote.bid
        if fill.liquidity == 2:
            assert fill.price == other_side
        else:
            assert fill.price >= other_side if fill.side == "BOT" else fill.price <= other_side
    for order in trading.engine.book.orders:
        ended = order.completed_at
        assert ended is None or ended >= order.placed_at
        assert ended is None or all(each.at <= ended for each in fills if each.order is order)


def check_the_messages(client: Client) -> None:
    times = [at for at, _ in client.pipe.seen]
    assert times == sorted(times)
    for at, fields in client.pipe.seen:
        match fields:
            case [kind, _, _, "45", moment, *_] if kind == TICK_STRING:
                assert float(moment) <= at
            case [kind, _, _, start, *_] if kind == REALTIME_BAR:
                assert float(start) + 5 <= at + 1e-6
            case [kind, _, moment] if kind == CURRENT_TIME:
                assert at - 1 <= float(moment) <= at
            case [kind, *_] if kind == EXECUTION:
                shown = datetime.strptime(fields[15][:17], "%Y%m%d %H:%M:%S")  # noqa: DTZ007
                assert shown.replace(tzinfo=EASTERN).timestamp() <= at


@pytest.mark.parametrize("idle", [1.5, 6.0, 40.0, 3 * 3600.0])
async def test_an_order_after_idleness_meets_the_prices_of_its_own_time(idle: float) -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        clock = simulator.world.clock
        values = {"orderId": 1, "conId": 265598, "exchange": "SMART", "action": "BUY"}
        values |= {"totalQuantity": 10, "orderType": "MKT", "tif": "DAY", "transmit": 1}
        client.send(3, *place_order(values))
        await client.until(59)
        clock.advance(idle)
        placed = clock.time()
        since = datetime.fromtimestamp(placed, EASTERN).strftime("%Y%m%d %H:%M:%S US/Eastern")
        client.send(3, *place_order(values | {"orderId": 2}))
        await client.until(59)
        [_, fill] = simulator.world.book()["fills"]
        assert placed <= fill["at"] <= clock.time()
        client.send(7, 3, 5, 0, "", since, "", "", "", "")
        found = await client.until(11, 55)
        assert found[14] == fill["execId"]


async def test_the_clock_does_not_go_back_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [1000.0, 1010.0, 1004.0, 1011.0]
    clock = Clock()
    monkeypatch.setattr("simulator.clock.time.time", lambda: moments.pop(0))
    assert [clock.time() for _ in range(4)] == [1000.0, 1010.0, 1010.0, 1011.0]


async def test_a_late_timer_does_not_turn_the_wound_clock_back() -> None:
    clock = Clock(1000.0)
    seen: list[float] = []
    clock.at(990.0, lambda: seen.append(clock.time()))
    clock.advance(5)
    assert seen[0] >= 1000.0
    clock.close()


async def test_what_watches_fires_on_the_way_and_once_at_the_end() -> None:
    clock = Clock(0.0)
    seen: list[float] = []
    marks: list[int] = []
    timer = clock.every(0.1, lambda: seen.append(clock.time()), watches=True)
    clock.later(1800, lambda: marks.append(len(seen)))
    clock.advance(3600)
    assert 59 <= len(seen) <= 62
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(3600, abs=0.1)
    assert marks == [pytest.approx(30, abs=2)]
    timer.cancel()
    clock.close()
