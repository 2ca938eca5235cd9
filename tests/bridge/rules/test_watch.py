"""What the rules look at, over contracts, positions and quotes that are played."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from bridge.clock import SystemClock
from bridge.errors import BridgeError
from bridge.market.quote_values import QuoteSlot
from bridge.model import Contract, ContractDetails, Position, PriceTick
from bridge.rules import watch
from bridge.rules.holdings import Holding, holdings
from bridge.rules.model import RuleSet
from bridge.rules.watch import HoldingWatch
from bridge.tws.errors import NoMarketDataError
from bridge.tws.events import GatewayEvents
from tests.bridge.rules.made import NOON, option, rules, stock

ALL = rules({"match": {"account": "DU1"}, "stopLoss": {"percent": 5}})


class HandClock(SystemClock):
    passed = 0.0

    def now(self) -> Any:
        return NOON + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


class Stand:
    """A watch; `silent` are contracts of which the broker says nothing before `ends`."""

    def __init__(self, *positions: Position) -> None:
        self.clock = HandClock()
        self.held = {each.contract.con_id: each for each in positions}
        self.silent: set[int] = set()
        self.ends = asyncio.Event()
        self.asked: list[int] = []
        self.magnifier = 1
        self.step: float | None = None
        self.error: BridgeError | None = None
        self.given: list[int] = []
        self.events = GatewayEvents()
        gateway = SimpleNamespace(
            queries=SimpleNamespace(positions=self._positions), events=self.events
        )
        parts: list[Any] = [gateway, self, self, self, self.clock]
        self.watch_ = HoldingWatch(*parts)

    async def _positions(self) -> list[Position]:
        return list(self.held.values())

    async def holdings(self, positions: list[Position], rule_set: RuleSet) -> list[Holding]:
        return holdings(positions, rule_set)

    async def named(self, contract: Contract) -> ContractDetails:
        self.asked.append(contract.con_id)
        if contract.con_id in self.silent:
            await self.ends.wait()
            raise BridgeError("no answer in time")
        known = self.held[contract.con_id].contract
        return ContractDetails(
            contract=known, price_magnifier=self.magnifier, size_increment=self.step
        )

    def watch(self, _: object) -> None:
        """Of quotes."""

    def take(self, contract: Contract) -> Any:
        return SimpleNamespace(contract=contract, slot=QuoteSlot(contract), error=self.error)

    def give(self, line: Any) -> None:
        self.given.append(line.contract.con_id)

    def tick(self, con_id: int, **prices: float | None) -> None:
        for name, price in prices.items():
            slot = self.watch_._lines[con_id].slot
            slot.apply(PriceTick(name, price, 1.0, False), self.clock.passed, self.clock.now())


async def test_no_bid_is_another_thing_than_none_yet() -> None:
    stand = Stand(option(-1, 250, 11))
    await stand.watch_.look(ALL)
    stand.tick(11, ask=0.05)
    price = stand.watch_.price(11)
    assert price is not None
    assert not price.no_bid
    stand.tick(11, bid=None)
    price = stand.watch_.price(11)
    assert price is not None
    assert (price.no_bid, price.signed, price.tag) == (True, False, "live")


async def test_the_magnifier_of_a_contract_is_that_of_its_holding() -> None:
    stand = Stand(stock(1, cost=4.5))
    stand.magnifier = 100
    await stand.watch_.look(ALL)
    (holding,) = stand.watch_.holdings
    assert (holding.multiplier, holding.legs[0].entry, holding.entry) == (0.01, 450.0, 4.5)
    assert holding.priced


async def test_a_contract_without_an_answer_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "ANSWER_SECONDS", 0.01)
    stand = Stand(stock(100), stock(5, con_id=2, symbol="DEAD"))
    stand.silent, answers = {2}, []
    stand.watch_.answered = lambda: answers.append(stand.clock.passed)
    await stand.watch_.look(ALL)
    good, dead = stand.watch_.holdings
    assert stand.watch_.market(good) is not None
    assert stand.watch_.market(dead) is None
    stand.clock.passed = 30
    await stand.watch_.look(ALL)
    assert (stand.asked, stand.watch_.age()) == ([1, 2], 0.0)
    stand.ends.set()
    await asyncio.sleep(0.01)
    assert answers == [30]
    stand.clock.passed = 60
    await stand.watch_.look(ALL)
    assert stand.asked == [1, 2]
    stand.silent.clear()
    stand.clock.passed = 91
    await stand.watch_.look(ALL)
    assert stand.asked == [1, 2, 2]
    assert all(stand.watch_.market(each) for each in stand.watch_.holdings)


async def test_what_is_known_is_as_old_as_before_until_the_next_look_stands() -> None:
    stand = Stand(stock(100))
    await stand.watch_.look(ALL)
    stand.clock.passed = 20
    refused = BridgeError("no answer in time")

    async def failing() -> list[Position]:
        assert stand.watch_.age() == 20
        raise refused

    stand.watch_._gateway.queries.positions = failing  # type: ignore[method-assign,assignment]
    with pytest.raises(BridgeError):
        await stand.watch_.look(ALL)
    assert stand.watch_.age() == 20


async def test_a_line_of_another_exchange_moves_and_ends_nothing() -> None:
    stand = Stand(stock(100))
    await stand.watch_.look(ALL)
    stand.tick(1, bid=10.0, ask=10.1)
    moved: list[int] = []
    stand.watch_.moved = moved.append
    there: Any = SimpleNamespace(contract=Contract(symbol="AAPL", con_id=1, exchange="IEX"))
    stand.watch_.changed(there, ("bid",))
    stand.watch_.refused(there, NoMarketDataError("not there"))
    assert moved == []
    assert stand.watch_.price(1) is not None
    stand.watch_.changed(stand.watch_._lines[1], ("bid",))
    assert moved == [1]


async def test_a_line_that_is_refused_at_once_is_asked_for_at_the_next_look() -> None:
    stand = Stand(stock(100))
    stand.error = BridgeError("the lane is full")
    await stand.watch_.look(ALL)
    assert (stand.given, stand.watch_._lines) == ([1], {})
    stand.error = None
    await stand.watch_.look(ALL)
    assert list(stand.watch_._lines) == [1]


async def test_that_shares_are_whole_is_known_before_their_contract_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "ANSWER_SECONDS", 0.01)
    stand = Stand(stock(10.4))
    stand.silent = {1}
    await stand.watch_.look(ALL)
    (holding,) = stand.watch_.holdings
    assert (holding.priced, holding.whole) == (False, 10.0)


@pytest.mark.parametrize(
    ("kind", "step", "held", "whole"),
    [
        ("STK", None, 10.4, 10.0),
        ("STK", 0.0001, 10.4, 10.0),
        ("STK", 100.0, 250.0, 200.0),
        ("STK", 1.0, 0.4, 0.0),
        ("CRYPTO", 0.0001, 0.12345, 0.1234),
        ("CASH", None, 1000.5, 1000.5),
    ],
)
async def test_an_order_is_for_as_much_as_its_contract_takes(
    kind: str, step: float | None, held: float, whole: float
) -> None:
    position = stock(held)
    contract = structs.replace(position.contract, sec_type=kind)
    stand = Stand(structs.replace(position, contract=contract))
    stand.step = step
    await stand.watch_.look(ALL)
    (holding,) = stand.watch_.holdings
    assert (holding.units, holding.whole) == (held, whole)


async def _logged_in_anew(stand: Stand) -> None:
    """The gateway has just logged in, and is asked for the positions."""
    stand.events.lost.emit("closed")
    stand.events.ready.emit()
    await stand.watch_.look(ALL)


async def test_a_gateway_that_has_just_logged_in_may_not_list_all_positions_yet() -> None:
    stand = Stand(stock(100), option(-1, 250, 11))
    await _logged_in_anew(stand)
    keys = [each.key for each in stand.watch_.holdings]
    stand.held.clear()
    await _logged_in_anew(stand)
    assert [stand.watch_.may_come_yet(key) for key in keys] == [True, True]
    stand.clock.passed += 49
    assert all(map(stand.watch_.may_come_yet, keys))
    stand.events.ready.emit()  # as after 1101: the session is the same
    stand.clock.passed += 1
    assert not any(map(stand.watch_.may_come_yet, keys))


async def test_a_combination_may_come_yet_until_all_its_legs_are_listed() -> None:
    sold, bought = option(-1, 250, 11), option(1, 150, 12, strike=480.0)
    stand, key = Stand(sold), "DU1/11:-1/12:+1"
    await _logged_in_anew(stand)
    assert stand.watch_.may_come_yet(key)
    stand.held[12] = bought
    await stand.watch_.look(ALL)
    assert not stand.watch_.may_come_yet(key)


async def test_what_this_connection_has_listed_is_gone_when_it_is_listed_no_more() -> None:
    stand = Stand(stock(100))
    await _logged_in_anew(stand)
    (holding,) = stand.watch_.holdings
    stand.held.clear()
    await stand.watch_.look(ALL)
    assert not stand.watch_.may_come_yet(holding.key)


async def test_a_position_that_has_turned_round_is_listed() -> None:
    stand = Stand(stock(100))
    await _logged_in_anew(stand)
    (holding,) = stand.watch_.holdings
    stand.held[1] = stock(-100)
    await _logged_in_anew(stand)
    assert not stand.watch_.may_come_yet(holding.key)
