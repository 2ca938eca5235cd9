from __future__ import annotations

import asyncio

import pytest

from bridge.account.service import AccountService, UnknownAccountError
from bridge.model import AccountValue, Contract, PnL, Position
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import NotConnectedError
from tests.bridge.market.clock import WoundClock
from tests.bridge.market.fake_gateway import FakeGateway


class Room:
    def __init__(self) -> None:
        self.gateway = FakeGateway(accounts=("DU1", "DU2"))
        self.clock = WoundClock()
        self.desk = AccountService(self.gateway, self.clock)  # type: ignore[arg-type]


def holding(account: str, symbol: str, quantity: float) -> Position:
    return Position(
        account=account,
        contract=Contract(symbol=symbol, con_id=7),
        quantity=quantity,
        average_cost=12.5,
    )


async def test_positions_of_all_or_of_one() -> None:
    room = Room()
    room.gateway.held = (holding("DU2", "B", 2), holding("DU1", "A", -3))
    answers = await asyncio.gather(room.desk.positions(), room.desk.positions("DU1"))
    assert [(item.account, item.symbol) for item in answers[0].positions] == [
        ("DU1", "A"),
        ("DU2", "B"),
    ]
    assert [item.cost_basis for item in answers[1].positions] == [-37.5]
    with pytest.raises(UnknownAccountError) as caught:
        await room.desk.positions("U9")
    assert caught.value.extra["errors"][0]["field"] == "account"


async def test_nothing_of_before_the_loss() -> None:
    room = Room()
    await room.desk.positions()
    room.gateway.become(ConnectionState.RECONNECTING)
    for asked in (room.desk.positions(), room.desk.accounts(), room.desk.pnl()):
        with pytest.raises(NotConnectedError):
            await asked


async def test_account_values_by_name_and_as_sent() -> None:
    room = Room()
    room.gateway.values = (
        AccountValue(account="DU1", tag="NetLiquidation", value="100000.50", currency="USD"),
        AccountValue(account="DU1", tag="AccountType", value="INDIVIDUAL"),
        AccountValue(account="DU1", tag="Cushion", value="n/a"),
        AccountValue(account="DU2", tag="BuyingPower", value="5", currency="EUR"),
    )
    answer = await room.desk.accounts()
    first, second = answer.accounts
    assert (first.net_liquidation, first.currency, first.cushion) == (100000.5, "USD", None)
    assert first.account_type == "INDIVIDUAL"
    assert len(first.values) == 3
    assert (second.buying_power, second.net_liquidation) == (5, None)


async def test_pnl_is_subscribed_once_and_stale_after_an_interruption() -> None:
    room = Room()
    asking = asyncio.create_task(room.desk.pnl("DU1"))
    await asyncio.sleep(0)
    room.gateway.pnls[0].listener(PnL(account="DU1", daily=5, unrealized=1, realized=None))
    (view,) = (await asking).pnl
    assert (view.daily, view.tag, view.realized) == (5, "live", None)
    room.clock.advance(3)
    (view,) = (await room.desk.pnl("DU1")).pnl
    assert view.age == 3.0
    assert len(room.gateway.pnls) == 1
    room.gateway.become(ConnectionState.RECONNECTING)
    room.gateway.become(ConnectionState.READY)
    line = room.desk._pnl["DU1", 0]
    before = line.view()
    assert before is not None
    assert before.tag == "stale"
    room.gateway.pnls[0].listener(PnL(account="DU1", daily=6))
    (view,) = (await room.desk.pnl("DU1")).pnl
    assert (view.daily, view.tag) == (6, "live")


async def test_pnl_nobody_asks_for_is_given_back() -> None:
    room = Room()

    async def ask(con_id: int) -> None:
        asking = asyncio.create_task(room.desk.pnl("DU1", con_id))
        await asyncio.sleep(0)
        room.gateway.pnls[-1].listener(PnL(account="DU1", con_id=con_id, daily=1))
        await asking

    await ask(1)
    room.clock.advance(121)
    await ask(2)
    assert [made.active for made in room.gateway.pnls] == [False, True]
    for con_id in range(3, 80):
        await ask(con_id)
    assert sum(made.active for made in room.gateway.pnls) <= 64
    await room.desk.stop()
    assert not any(made.active for made in room.gateway.pnls)
