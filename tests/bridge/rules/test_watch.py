"""What the rules look at, over contracts, positions and quotes that are played."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from bridge.clock import SystemClock
from bridge.errors import BridgeError
from bridge.market.quote_values import QuoteSlot
from bridge.model import Contract, ContractDetails, Position, PriceTick
from bridge.rules.holdings import Holding, holdings
from bridge.rules.model import RuleSet
from bridge.rules.watch import HoldingWatch
from tests.bridge.rules.made import NOON, option, rules, stock

ALL = rules({"match": {"account": "DU1"}, "stopLoss": {"percent": 5}})


class HandClock(SystemClock):
    passed = 0.0

    def now(self) -> Any:
        return NOON + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


class Stand:
    """A watch; `silent` are contracts of which the broker says nothing for ten seconds."""

    def __init__(self, *positions: Position) -> None:
        self.clock = HandClock()
        self.held = {each.contract.con_id: each for each in positions}
        self.silent: set[int] = set()
        self.asked: list[int] = []
        self.magnifier = 1
        self.ages: list[float] = []
        queries = SimpleNamespace(positions=self._positions)
        parts: list[Any] = [SimpleNamespace(queries=queries), self, self, self, self.clock]
        self.watch_ = HoldingWatch(*parts)

    async def _positions(self) -> list[Position]:
        return list(self.held.values())

    async def holdings(self, positions: list[Position], rule_set: RuleSet) -> list[Holding]:
        return holdings(positions, rule_set)

    async def named(self, contract: Contract) -> ContractDetails:
        self.asked.append(contract.con_id)
        self.ages.append(self.watch_.age())
        if contract.con_id in self.silent:
            self.clock.passed += 10
            raise BridgeError("no answer in time")
        known = self.held[contract.con_id].contract
        return ContractDetails(contract=known, price_magnifier=self.magnifier)

    def watch(self, _: object) -> None:
        """Of quotes."""

    def take(self, contract: Contract) -> Any:
        return SimpleNamespace(contract=contract, slot=QuoteSlot(contract))

    def give(self, _: object) -> None:
        """A line."""

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
