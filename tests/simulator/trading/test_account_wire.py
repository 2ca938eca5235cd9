"""Account messages as a client library sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import ib_async
import pytest

from simulator.market.market import Quote
from simulator.trading import book
from tests.simulator.trading.broker import Broker
from tests.simulator.trading.test_order_wire import STOCK, client, until
from tests.simulator.trading.wire import simulated

TWO = ("DU1", "U2")


async def buy(ib: Any, account: str = "", quantity: float = 100) -> Any:
    order = ib_async.MarketOrder("BUY", quantity, tif="DAY", account=account)
    trade = ib.placeOrder(STOCK, order)
    await until(lambda: trade.fills and trade.fills[-1].commissionReport.execId)
    return trade


async def test_a_fill_reaches_positions_portfolio_and_profit() -> None:
    async with simulated() as (simulator, market), client(simulator) as ib:
        await ib.reqPositionsAsync()
        await ib.reqAccountUpdatesAsync("DU1234567")
        pnl = ib.reqPnL("DU1234567")
        single = ib.reqPnLSingle("DU1234567", "", STOCK.conId)
        await buy(ib)
        await until(lambda: ib.positions() and ib.portfolio() and single.position == 100)
        assert ib.positions()[0].avgCost == pytest.approx(100.02)
        assert ib.portfolio()[0].averageCost == pytest.approx(100.02)
        market.quotes[STOCK.conId] = Quote(109.9, 110.1, 110.0)
        simulator.world.clock.advance(2)
        await until(lambda: pnl.dailyPnL == pytest.approx(998))
        await until(lambda: single.value == pytest.approx(11_000))


async def test_several_accounts_are_told_apart() -> None:
    async with simulated(accounts=TWO) as (simulator, _), client(simulator) as ib:
        errors: list[int] = []
        ib.errorEvent += lambda _, code, *rest: errors.append(code)
        assert ib.managedAccounts() == list(TWO)
        await buy(ib, "U2", 30)
        positions = await ib.reqPositionsAsync()
        assert [(each.account, each.position) for each in positions] == [("U2", 30)]
        summary = await ib.accountSummaryAsync()
        assert {each.account for each in summary} == set(TWO)
        ib.client.reqAccountUpdates(True, "")
        ib.client.reqPnL(5, "DU999", "")
        ib.client.reqPositionsMulti(6, "DU999", "")
        await until(lambda: errors == [321, 321, 321])


async def test_two_summaries_at_once_are_the_most() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        errors: list[tuple[int, int]] = []
        ib.errorEvent += lambda number, code, *rest: errors.append((number, code))
        for number in (1, 2, 3):
            ib.client.reqAccountSummary(number, "All", "NetLiquidation")
        await until(lambda: errors)
        assert errors == [(3, 322)]
        ib.client.cancelAccountSummary(1)
        ib.client.reqAccountSummary(3, "All", "NetLiquidation")
        await asyncio.sleep(0.05)
        assert errors == [(3, 322)]


async def test_subscriptions_end_with_their_cancel_and_their_client() -> None:
    async with simulated() as (simulator, _):
        trading = simulator.world.trading
        assert trading is not None
        async with client(simulator) as ib:
            ib.reqPnL("DU1234567")
            await ib.reqAccountUpdatesAsync("DU1234567")
            await until(lambda: len(trading.watchers) >= 3)
            ib.cancelPnL("DU1234567")
            await until(lambda: len(trading.watchers) == 2)
        await until(lambda: not trading.watchers)


def test_the_book_forgets_the_oldest_orders_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "ORDERS_KEPT", 5)
    broker = Broker()
    broker.place(1, orderType="LMT", lmtPrice=10, tif="GTC")
    for order_id in range(2, 40):
        broker.place(order_id, totalQuantity=1)
        broker.go()
    kept = [order.order_id for order in broker.engine.book.orders]
    assert len(kept) <= 11
    assert kept[0] == 1
    assert kept[-1] == 39
    assert broker.engine.book.find(1, 2) is None
    broker.place(2)
    assert broker.go() == ["2 error 103"]
