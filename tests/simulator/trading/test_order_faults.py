"""What clients see of orders when something is wrong, and what the book says of it."""

from __future__ import annotations

import asyncio

import ib_async

from tests.simulator.trading.test_order_wire import STOCK, client, until
from tests.simulator.trading.wire import MONDAY_TEN, simulated


def market_order(**more: object) -> ib_async.Order:
    return ib_async.MarketOrder("BUY", 100, tif="DAY", **more)


def resting_order(**more: object) -> ib_async.Order:
    return ib_async.LimitOrder("BUY", 100, 90.0, **{"tif": "DAY", **more})


async def test_a_dropped_acknowledgement_leaves_the_order_in_the_book() -> None:
    async with simulated() as (simulator, _):
        async with client(simulator) as ib:
            simulator.world.faults.start("drop-order-ack")
            trade = ib.placeOrder(STOCK, market_order(orderRef="key-1"))
            await until(lambda: not ib.isConnected())
            assert trade.order.permId == 0
            assert [entry.message for entry in trade.log] == [""]
        simulator.world.faults.clear()
        await until(lambda: simulator.world.book()["fills"])
        book = simulator.world.book()
        assert [each["orderRef"] for each in book["requests"]] == ["key-1"]
        assert [each["status"] for each in book["orders"]] == ["Filled"]
        async with client(simulator) as ib:
            (fill,) = await ib.reqExecutionsAsync()
            assert fill.execution.orderRef == "key-1"


async def test_an_order_outlives_its_client_and_is_told_to_it_again() -> None:
    async with simulated() as (simulator, _):
        async with client(simulator) as ib:
            first = ib.placeOrder(STOCK, resting_order(orderRef="mine"))
            await until(lambda: first.orderStatus.status == "Submitted")
        async with client(simulator) as ib:
            await until(ib.openTrades)
            (again,) = ib.openTrades()
            assert again.order.permId == first.order.permId
            assert again.order.orderRef == "mine"
            assert ib.client.getReqId() > first.order.orderId


async def test_a_nightly_restart_keeps_the_orders() -> None:
    async with simulated() as (simulator, _):
        async with client(simulator) as ib:
            trade = ib.placeOrder(STOCK, resting_order(tif="GTC"))
            await until(lambda: trade.orderStatus.status == "Submitted")
            simulator.world.faults.start("nightly-restart", 5)
            await until(lambda: not ib.isConnected())
        simulator.world.clock.advance(6)
        await until(lambda: simulator.tws._server)
        async with client(simulator) as ib:
            await until(ib.openTrades)


async def test_late_fills_come_when_the_fault_is_over() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        simulator.world.faults.start("late-fills", 60)
        trade = ib.placeOrder(STOCK, market_order())
        await until(lambda: trade.orderStatus.status == "Submitted")
        simulator.world.clock.advance(30)
        await asyncio.sleep(0.01)
        assert not trade.fills
        simulator.world.clock.advance(31)
        await until(lambda: trade.fills)


async def test_statuses_can_come_twice() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        seen: list[str] = []
        original = ib.wrapper.orderStatus

        def record(order_id: int, status: str, *rest: object) -> None:
            seen.append(status)
            original(order_id, status, *rest)

        ib.client.decoder.handlers[3] = ib.client.decoder.wrap(
            "orderStatus", [int, str, float, float, float, int, int, float, int, str, float], skip=1
        )
        ib.wrapper.orderStatus = record
        simulator.world.faults.start("duplicate-status")
        ib.placeOrder(STOCK, resting_order())
        await until(lambda: len(seen) == 6)
        assert seen == [s for s in ("PendingSubmit", "PreSubmitted", "Submitted") for _ in (1, 2)]


async def test_nothing_goes_upstream_while_the_line_is_lost() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        simulator.world.faults.start("upstream-lost")
        trade = ib.placeOrder(STOCK, market_order())
        await until(lambda: simulator.world.book()["requests"])
        assert simulator.world.book()["orders"] == []
        assert [entry.status for entry in trade.log] == ["PendingSubmit"]
        simulator.world.faults.start("upstream-restored")
        await until(lambda: trade.orderStatus.status == "Filled")


async def test_a_read_only_gateway_refuses_orders() -> None:
    async with simulated(read_only=True) as (simulator, _), client(simulator) as ib:
        errors: list[tuple[int, int]] = []
        ib.errorEvent += lambda number, code, *_: errors.append((number, code))
        trade = ib.placeOrder(STOCK, market_order())
        await until(lambda: errors)
        assert errors == [(trade.order.orderId, 321)]
        assert simulator.world.book()["orders"] == []
        assert simulator.world.book()["requests"][0]["codes"] == [321]


async def test_a_day_order_is_gone_the_next_day_and_so_are_its_executions() -> None:
    async with simulated() as (simulator, _), client(simulator) as ib:
        filled = ib.placeOrder(STOCK, market_order())
        resting = ib.placeOrder(STOCK, resting_order())
        await until(lambda: filled.fills)
        assert len(await ib.reqExecutionsAsync()) == 1
        simulator.world.clock.advance(24 * 3600)
        await until(lambda: resting.orderStatus.status == "Cancelled")
        assert simulator.world.clock.time() >= MONDAY_TEN + 24 * 3600
        assert await ib.reqExecutionsAsync() == []
        assert await ib.reqCompletedOrdersAsync(apiOnly=False) == []
