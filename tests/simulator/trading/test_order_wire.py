from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import ib_async
import pytest

from tests.simulator.trading.broker import APPLE, terms
from tests.simulator.trading.wire import simulated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from simulator.app import Simulator

STOCK = ib_async.Stock("AAPL", "SMART", "USD", conId=265598)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(40):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def client(simulator: Simulator, client_id: int = 1) -> AsyncIterator[Any]:
    asyncio.set_event_loop(asyncio.get_running_loop())
    ib: Any = ib_async.IB()
    fetch = ib_async.StartupFetchNONE
    await ib.connectAsync("127.0.0.1", simulator.tws.port, client_id, timeout=40, fetchFields=fetch)
    try:
        yield ib
    finally:
        ib.disconnect()
        await asyncio.sleep(0)


async def test_a_market_order_fills_and_is_in_the_book() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        order = ib_async.MarketOrder("BUY", 100, tif="DAY", orderRef="ours")
        trade = ib.placeOrder(STOCK, order)
        await until(lambda: trade.fills and trade.fills[0].commissionReport.execId)
        assert [entry.status for entry in trade.log][-1] == "Filled"
        assert trade.fills[0].execution.price == 100.01
        assert trade.fills[0].commissionReport.commission == 1.0
        assert trade.order.permId
        book = simulator.world.book()
        assert book["fills"][0]["orderRef"] == "ours"
        assert book["requests"][0]["orderRef"] == "ours"


async def test_a_rejected_order_is_inactive_and_a_refused_one_never_was() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        codes: list[int] = []
        ib.errorEvent += lambda _, code, *rest: codes.append(code)
        ib.placeOrder(STOCK, ib_async.MarketOrder("BUY", 1_000_000, tif="DAY"))
        ib.placeOrder(STOCK, ib_async.LimitOrder("BUY", 1, 90.001, tif="DAY"))
        await until(lambda: len(codes) == 2)
        assert codes == [201, 110]
        assert [each["status"] for each in simulator.world.book()["orders"]] == ["Inactive"]
        assert [each["codes"] for each in simulator.world.book()["requests"]] == [[201], [110]]


async def test_what_if_tells_margin_and_commission() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        order = ib_async.MarketOrder("BUY", 100, tif="DAY")
        state = await ib.whatIfOrderAsync(STOCK, order)
        assert state.commission == 1.0
        assert float(state.initMarginChange) == pytest.approx(3000, rel=0.01)
        assert simulator.world.book()["orders"] == []


async def test_orders_reach_their_own_client_and_the_master() -> None:
    async with (
        simulated(master_client_id=9) as (simulator, _),
        client(simulator, 1) as owner,
        client(simulator, 2) as stranger,
        client(simulator, 9) as master,
    ):
        trade = owner.placeOrder(STOCK, ib_async.MarketOrder("BUY", 100, tif="DAY"))
        await until(lambda: trade.fills and master.fills())
        assert master.trades()[0].order.permId == trade.order.permId
        assert stranger.trades() == []
        resting = owner.placeOrder(STOCK, ib_async.LimitOrder("BUY", 1, 90.0, tif="DAY"))
        await until(lambda: resting.orderStatus.status == "Submitted")
        assert [each.order.clientId for each in await stranger.reqAllOpenOrdersAsync()] == [1]
        assert await stranger.reqOpenOrdersAsync() == []
        stranger.reqGlobalCancel()
        await until(lambda: resting.orderStatus.status == "Cancelled")


async def test_client_zero_takes_over_what_was_entered_by_hand() -> None:
    async with simulated() as (simulator, _), client(simulator, 0) as ib:
        trading = simulator.world.trading
        assert trading is not None
        await until(lambda: trading.auto_bind)
        order = trading.place_manual(APPLE, terms(orderType="LMT", lmtPrice=90))
        assert order is not None
        await until(ib.openTrades)
        (trade,) = ib.openTrades()
        assert trade.order.orderId == order.order_id == -1
        trading.auto_bind = False
        other = trading.place_manual(APPLE, terms(orderType="LMT", lmtPrice=91))
        assert other is not None
        assert len(await ib.reqOpenOrdersAsync()) == 2
        assert other.order_id == -2


async def test_executions_pass_a_filter() -> None:
    async with simulated(accounts=("DU1", "DU2")) as (simulator, _), client(simulator) as ib:
        euro = ib_async.Forex("EURUSD")
        for contract, action, account in (
            (STOCK, "BUY", "DU1"),
            (STOCK, "SELL", "DU2"),
            (euro, "BUY", "DU1"),
        ):
            order = ib_async.MarketOrder(action, 100, tif="DAY", account=account)
            trade = ib.placeOrder(contract, order)
            await until(partial(getattr, trade, "fills"))

        async def count(**wanted: Any) -> int:
            return len(await ib.reqExecutionsAsync(ib_async.ExecutionFilter(**wanted)))

        assert await count() == 3
        assert await count(symbol="AAPL") == 2
        assert await count(symbol="AAPL", side="SELL") == 1
        assert await count(secType="CASH") == 1
        assert await count(acctCode="DU2") == 1
        assert await count(clientId=1) == 3
        assert await count(clientId=7) == 0
        assert await count(time="20261123 09:59:00 US/Eastern") == 3
        assert await count(time="20261123-15:05:00") == 0


async def test_a_modified_order_keeps_its_id_and_an_unknown_one_cannot_be_cancelled() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        codes: list[tuple[int, str]] = []
        ib.errorEvent += lambda _, code, text, *rest: codes.append((code, text))
        order = ib_async.LimitOrder("BUY", 100, 90.0, tif="DAY")
        trade = ib.placeOrder(STOCK, order)
        await until(lambda: trade.orderStatus.status == "Submitted")
        order.lmtPrice = 91.0
        ib.placeOrder(STOCK, order)
        await until(lambda: simulator.world.book()["orders"][0]["limitPrice"] == 91.0)
        ib.client.cancelOrder(777)
        await until(lambda: codes)
        assert codes == [(10147, "OrderId 777 that needs to be cancelled is not found.")]
