"""What the account routes show, over a real socket from a simulated broker."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge.model import Contract, Order
from tests.bridge.market.over_wire import Wired, wired

APPLE = Contract(symbol="AAPL")


async def buy(setting: Wired, quantity: float) -> None:
    session = setting.session
    (details,) = await session.queries.contract_details(APPLE)
    number = session.next_order_id()
    order = Order(order_id=number, action="BUY", quantity=quantity, order_type="MKT")
    await session.place_order(number, details.contract, order)


async def test_a_fill_is_in_the_positions_without_anybody_asking() -> None:
    async with wired() as setting:
        await setting.account.begin()
        assert (await setting.account.positions()).positions == ()
        await buy(setting, 3)
        await setting.until(lambda: bool(setting.account.positions_now().positions))
        await setting.until(lambda: not setting.account.positions_now().unconfirmed)
        (view,) = setting.account.positions_now().positions
        assert (view.symbol, view.quantity, view.confirmed) == ("AAPL", 3, True)


async def test_results_and_values_come_and_stay_true_over_a_reconnect() -> None:
    async with wired() as setting:
        await setting.account.begin()
        await buy(setting, 3)
        await setting.until(lambda: bool(setting.account.positions_now().positions))

        async def valued() -> Any:
            while True:
                (view,) = (await setting.account.positions()).positions
                if view.market_value is not None:
                    return view
                await asyncio.sleep(0.05)

        view = await asyncio.wait_for(valued(), 20)
        assert abs(view.market_value - view.market_price * 3) < 0.01
        assert view.unrealized_pnl is not None
        assert view.daily_pnl is not None
        accounts = await setting.account.accounts()
        (account,) = accounts.accounts
        assert account.net_liquidation is not None
        assert account.net_liquidation > 0
        assert {each.currency for each in account.cash} >= {"USD"}
        assert accounts.age <= 1.0
        setting.fault("fin")
        await setting.until(lambda: not setting.account.complete[0])
        await setting.ready()
        again = await setting.account.positions()
        assert [each.quantity for each in again.positions] == [3]
        assert again.age < 1.0
        assert (await setting.account.accounts()).age < 1.0


async def test_after_the_broker_was_lost_values_are_asked_for_anew() -> None:
    async with wired() as setting:
        await setting.account.begin()
        await setting.account.accounts()
        setting.fault("upstream-lost")
        await setting.until(lambda: not setting.account.complete[1])
        setting.simulator.world.faults.clear()
        setting.fault("upstream-restored")
        await setting.ready()
        async with asyncio.timeout(20):
            assert (await setting.account.accounts()).age < 1.0
            assert (await setting.account.positions()).age < 1.0
