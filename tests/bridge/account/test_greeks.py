"""Greeks of positions: from open lines, and from lines that were spare."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from bridge.account.greeks import TOUCH_SECONDS, PositionGreeks
from bridge.account.service import AccountService
from bridge.account.views import strategy_views
from bridge.callers import ORDER_CHECKS, Holder, Scope
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.model import Contract, ContractDetails, OptionTick, PnL, Position
from bridge.rules.holdings import Opening, holdings
from bridge.rules.model import RuleSet
from bridge.tws.connection_state import ConnectionState
from tests.bridge.market.clock import WoundClock
from tests.bridge.market.fake_gateway import FakeGateway, FakeLine

READER = Holder("phone", "", Scope.READ)
MODEL = OptionTick(
    "modelOption",
    implied_volatility=0.2,
    delta=0.5,
    gamma=0.01,
    theta=-0.1,
    vega=0.3,
    option_price=4.0,
    present_value_dividend=0.0,
    underlying_price=200.0,
)


def option(con_id: int, strike: float = 200.0) -> Contract:
    return Contract(
        symbol="AAPL",
        con_id=con_id,
        sec_type="OPT",
        expiration="20271217",
        strike=strike,
        right="C",
        multiplier="100",
    )


class Gateway(FakeGateway):
    async def contract_details(self, contract: Contract, **_: Any) -> tuple[ContractDetails, ...]:
        await asyncio.sleep(0)
        return tuple(
            ContractDetails(contract=each.contract)
            for each in self.held
            if each.contract.con_id == contract.con_id
        )


class Setting:
    def __init__(self, quantities: dict[int, float], capacity: int = 100) -> None:
        self.gateway = Gateway(on_open=lambda line: line.tick(MODEL))
        self.clock = WoundClock()
        contracts = ContractService(self.gateway, self.clock)  # type: ignore[arg-type]
        self.quotes = QuoteService(self.gateway, contracts, self.clock, capacity)  # type: ignore[arg-type]
        self.greeks = PositionGreeks(self.quotes, contracts, self.clock)
        self.service = AccountService(self.gateway, self.clock, self.greeks)  # type: ignore[arg-type]
        self.gateway.held = tuple(
            Position(account="DU1", contract=option(con_id), quantity=size, average_cost=400.0)
            for con_id, size in quantities.items()
        )

    async def read(self) -> dict[int, Any]:
        found = await self.service.positions(holder=READER)
        for _ in range(500):
            await asyncio.sleep(0)
        return {each.con_id: each for each in found.positions}

    def lines(self) -> list[FakeLine]:
        return self.gateway.open_lines


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.account.service.FIRST_PNL_SECONDS", 0.0)


async def test_there_are_none_at_first_and_then_with_their_age() -> None:
    setting = Setting({11: 2.0})
    await setting.service.begin()
    first = setting.service.positions_now().positions[0]
    await setting.read()
    assert (first.delta, first.greeks_tag, first.greeks_age) == (None, None, None)
    await setting.clock.wind(3)
    then = (await setting.read())[11]
    assert (then.delta, then.gamma, then.theta, then.vega) == (0.5, 0.01, -0.1, 0.3)
    assert (then.implied_volatility, then.greeks_tag, then.greeks_age) == (0.2, "live", 3.0)
    assert [line.contract.con_id for line in setting.lines()] == [11]


async def test_the_lines_are_nobodys_and_close_when_nobody_reads() -> None:
    setting = Setting({11: 2.0, 12: -1.0})
    await setting.read()
    assert (setting.quotes.pool.held, setting.quotes.pool.open) == (0, 2)
    for _ in range(4):
        await setting.clock.wind(TOUCH_SECONDS + 1)
        setting.quotes.maintain()
        await setting.read()
    assert (setting.quotes.pool.open, len(setting.gateway.lines)) == (2, 2)
    await setting.clock.wind(61)
    setting.quotes.maintain()
    assert setting.lines() == []
    assert setting.greeks.of(11) == {}


async def test_only_spare_lines_are_taken_and_an_order_check_gets_its_own() -> None:
    setting = Setting(dict.fromkeys(range(1, 31), 1.0), capacity=20)
    await setting.read()
    pool = setting.quotes.pool
    assert len(setting.lines()) == 20 - pool.reserved
    for number in range(101, 111):
        setting.quotes.take(option(number), ORDER_CHECKS)
    assert pool.held == 10
    before = len(setting.gateway.lines)
    await setting.clock.wind(TOUCH_SECONDS + 1)
    await setting.read()
    assert len(setting.gateway.lines) == before


async def test_of_a_hundred_options_forty_are_followed() -> None:
    setting = Setting(dict.fromkeys(range(1, 101), 1.0))
    read = await setting.read()
    read = await setting.read()
    assert sum(each.delta is not None for each in read.values()) == 40


async def test_after_a_loss_they_are_stale() -> None:
    setting = Setting({11: 2.0})
    await setting.read()
    setting.gateway.on_open = None
    for line in setting.lines():
        line.listener.interrupted()
    assert setting.greeks.of(11)["greeks_tag"] == "stale"
    setting.gateway.become(ConnectionState.RECONNECTING)
    assert setting.service.complete[0] is False


async def test_sums_are_in_units_of_the_underlying_and_a_strategy_has_its_share() -> None:
    setting = Setting({11: 3.0, 12: -2.0})
    await setting.read()
    positions = await setting.service.positions(grouped=True)
    assert positions.groups is not None
    assert positions.groups[0].delta == pytest.approx(0.5 * 100 * (3 - 2))
    for line in setting.gateway.pnls:
        size = {11: 3.0, 12: -2.0}[line.con_id]
        line.listener(
            PnL(
                account="DU1",
                daily=size,
                unrealized=10 * size,
                realized=0.0,
                value=500 * size,
                position=size,
            )
        )
    opening = Opening("DU1", {11: 1.0, 12: -1.0}, 2.0, frozenset({"spread"}))
    found = (await setting.service.positions()).positions
    single, spread = strategy_views(holdings(setting.service.held(), RuleSet(), [opening]), found)
    assert (spread.units, spread.delta, spread.closing_action) == (2, 0, "SELL")
    assert [(each.con_id, each.quantity) for each in spread.legs] == [(11, 2), (12, -2)]
    assert (spread.market_value, spread.cost_basis, spread.order_refs) == (0, 0, ("spread",))
    assert (single.units, single.delta, single.market_value) == (1, 50, 500)
    assert single.market_price == 5.0


async def test_a_line_that_is_open_serves_a_position_of_which_no_exchange_is_told() -> None:
    setting = Setting({11: 2.0})
    setting.quotes.take(option(11))
    (held,) = setting.gateway.held
    nowhere = structs.replace(held.contract, exchange="")
    setting.gateway.held = (structs.replace(held, contract=nowhere),)
    for _ in range(2):
        read = await setting.read()
        await setting.clock.wind(TOUCH_SECONDS + 1)
    assert read[11].delta == 0.5
    assert [line.contract.exchange for line in setting.gateway.lines] == ["SMART"]
