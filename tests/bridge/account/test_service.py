from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

import pytest
from msgspec import structs

from bridge.account.service import MOST_PNL, AccountService, UnknownAccountError
from bridge.account.views import PnLView, ProfitAndLoss
from bridge.model import AccountValue, Contract, Execution, PnL, Position
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import NotConnectedError, RequestRefusedError, UnreadableAnswerError
from tests.bridge.market.clock import WoundClock
from tests.bridge.market.fake_gateway import FakeGateway


class Setting:
    def __init__(self) -> None:
        self.gateway = FakeGateway(accounts=("DU1", "DU2"))
        self.clock = WoundClock()
        self.service = AccountService(self.gateway, self.clock)  # type: ignore[arg-type]


def holding(account: str, symbol: str, quantity: float) -> Position:
    return Position(
        account=account,
        contract=Contract(symbol=symbol, con_id=7),
        quantity=quantity,
        average_cost=12.5,
    )


async def test_positions_of_all_or_of_one() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU2", "B", 2), holding("DU1", "A", -3))
    answers = await asyncio.gather(setting.service.positions(), setting.service.positions("DU1"))
    assert [(item.account, item.symbol) for item in answers[0].positions] == [
        ("DU1", "A"),
        ("DU2", "B"),
    ]
    assert [item.cost_basis for item in answers[1].positions] == [-37.5]
    with pytest.raises(UnknownAccountError) as caught:
        await setting.service.positions("U9")
    assert caught.value.extra["errors"][0]["field"] == "account"


async def test_nothing_of_before_the_loss() -> None:
    setting = Setting()
    await setting.service.positions()
    setting.gateway.become(ConnectionState.RECONNECTING)
    for asked in (setting.service.positions(), setting.service.accounts(), setting.service.pnl()):
        with pytest.raises(NotConnectedError):
            await asked


async def test_account_values_by_name_and_as_sent() -> None:
    setting = Setting()
    setting.gateway.values = (
        AccountValue(account="DU1", tag="NetLiquidation", value="100000.50", currency="USD"),
        AccountValue(account="DU1", tag="AccountType", value="INDIVIDUAL"),
        AccountValue(account="DU1", tag="Cushion", value="n/a"),
        AccountValue(account="DU2", tag="BuyingPower", value="5", currency="EUR"),
    )
    answer = await setting.service.accounts()
    first, second = answer.accounts
    assert (first.net_liquidation, first.currency, first.cushion) == (100000.5, "USD", None)
    assert first.account_type == "INDIVIDUAL"
    assert len(first.values) == 3
    assert (second.buying_power, second.net_liquidation) == (5, None)


async def test_pnl_is_subscribed_once_and_stale_after_an_interruption() -> None:
    setting = Setting()
    asking = asyncio.create_task(setting.service.pnl("DU1"))
    await asyncio.sleep(0)
    setting.gateway.pnls[0].listener(PnL(account="DU1", daily=5, unrealized=1, realized=None))
    (view,) = (await asking).pnl
    assert (view.daily, view.tag, view.realized) == (5, "live", None)
    setting.clock.advance(3)
    (view,) = (await setting.service.pnl("DU1")).pnl
    assert view.age == 3.0
    assert len(setting.gateway.pnls) == 1
    setting.gateway.become(ConnectionState.RECONNECTING)
    setting.gateway.become(ConnectionState.READY)
    line = setting.service._pnl["DU1", 0]
    before = line.view()
    assert before is not None
    assert before.tag == "stale"
    setting.gateway.pnls[0].listener(PnL(account="DU1", daily=6))
    (view,) = (await setting.service.pnl("DU1")).pnl
    assert (view.daily, view.tag) == (6, "live")


async def test_an_account_without_profit_and_loss_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.account.service.PNL_SECONDS", 0.02)
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()

    async def ask(con_id: int) -> ProfitAndLoss:
        asking = asyncio.create_task(setting.service.pnl(con_id=con_id))
        await asyncio.sleep(0)
        made = next(made for made in setting.gateway.pnls if made.con_id == con_id)
        made.listener(PnL(account=made.account, con_id=con_id, daily=5))
        return await asking

    answer = await ask(0)
    assert ([each.account for each in answer.pnl], answer.missing) == (["DU1"], ("DU2",))
    answer = await ask(7)
    assert answer.missing == (), "the other account holds none"


async def test_refused_profit_and_loss_is_stale_and_asked_for_again_later() -> None:
    setting = Setting()

    async def ask() -> PnLView:
        asking = asyncio.create_task(setting.service.pnl("DU1"))
        await asyncio.sleep(0)
        if setting.gateway.pnls[-1].active:
            setting.gateway.pnls[-1].listener(PnL(account="DU1", daily=5))
        (view,) = (await asking).pnl
        return view

    assert (await ask()).tag == "live"
    setting.gateway.pnls[0].active = False
    setting.clock.advance(29)
    assert (await ask()).tag == "stale"
    assert len(setting.gateway.pnls) == 1
    setting.clock.advance(1)
    assert (await ask()).tag == "live"
    assert len(setting.gateway.pnls) == 2


async def test_pnl_nobody_asks_for_is_given_back() -> None:
    setting = Setting()

    async def ask(con_id: int) -> None:
        asking = asyncio.create_task(setting.service.pnl("DU1", con_id))
        await asyncio.sleep(0)
        setting.gateway.pnls[-1].listener(PnL(account="DU1", con_id=con_id, daily=1))
        await asking

    await ask(1)
    setting.clock.advance(121)
    await ask(2)
    assert [made.active for made in setting.gateway.pnls] == [False, True]
    for con_id in range(3, 200):
        await ask(con_id)
    assert sum(made.active for made in setting.gateway.pnls) <= MOST_PNL
    await setting.service.stop()
    assert not any(made.active for made in setting.gateway.pnls)


# standing subscriptions -------------------------------------------------------------------------


async def test_readers_share_what_the_broker_told_and_see_how_old_it_is() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    setting.clock.advance(0.9)
    answers = [await setting.service.positions() for _ in range(100)]
    assert setting.gateway.asked == ["positions"]
    assert answers[-1].age == 0.9
    setting.clock.advance(0.2)
    answer = await setting.service.positions()
    assert setting.gateway.asked == ["positions", "positions"], "older than a second: asked anew"
    assert answer.age == 0.0


async def test_a_broker_that_is_slow_holds_nobody_up_and_the_age_says_so() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    await setting.service.accounts()
    setting.gateway.silent = asyncio.Event()
    setting.clock.advance(7)
    async with asyncio.timeout(10):
        for _ in range(3):
            positions, accounts = (
                await setting.service.positions(),
                await setting.service.accounts(),
            )
    assert (positions.age, accounts.age) == (7.0, 7.0)
    assert setting.gateway.asked.count("positions") == 2, "one question, however many wait"
    await setting.service.stop()


async def test_changes_are_shown_without_asking() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    setting.gateway.events.position.emit(holding("DU1", "A", 5))
    (view,) = (await setting.service.positions()).positions
    assert view.quantity == 5
    setting.gateway.events.position.emit(holding("DU1", "A", 0))
    assert (await setting.service.positions()).positions == ()
    assert setting.gateway.asked == ["positions"]


async def test_what_a_whole_list_does_not_have_is_held_no_more() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3), holding("DU2", "A", 4))
    await setting.service.begin()
    setting.gateway.held = (holding("DU2", "A", 4),)
    setting.clock.advance(2)
    assert [each.account for each in (await setting.service.positions()).positions] == ["DU2"]


def fill(exec_id: str, symbol: str = "A", con_id: int = 7) -> Execution:
    return Execution(
        exec_id=exec_id,
        time=datetime(2026, 2, 13, 15, tzinfo=UTC),
        contract=Contract(symbol=symbol, con_id=con_id),
        account="DU1",
        side="BOT",
        quantity=1,
        price=10,
    )


def sold(exec_id: str, quantity: float) -> Execution:
    return structs.replace(fill(exec_id), side="SLD", quantity=quantity)


async def test_a_fill_marks_its_position_until_the_broker_has_sent_it() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    setting.gateway.events.execution.emit(fill("1"))
    setting.gateway.events.execution.emit(fill("2", "NEW", 8))
    answer = await setting.service.positions()
    assert [view.confirmed for view in answer.positions] == [False]
    assert [(each.symbol, each.con_id) for each in answer.unconfirmed] == [("A", 7), ("NEW", 8)]
    assert (await setting.service.positions("DU2")).unconfirmed == ()
    setting.gateway.events.position.emit(holding("DU1", "A", 4))
    setting.gateway.events.execution.emit(fill("1"))  # told again, as after a reconnect
    answer = await setting.service.positions()
    assert [view.confirmed for view in answer.positions] == [True]
    assert [each.symbol for each in answer.unconfirmed] == ["NEW"]
    setting.gateway.held = (holding("DU1", "A", 4),)
    for left in (["NEW"], []):  # the first list may have been on its way when the fill came
        setting.clock.advance(2)
        answer = await setting.service.positions()
        assert [each.symbol for each in answer.unconfirmed] == left


async def test_a_list_of_before_the_fill_confirms_nothing() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    setting.gateway.events.execution.emit(fill("1"))
    for confirmed in (False, True):  # it was on its way when the fill came; the next one was not
        setting.clock.advance(2)
        (view,) = (await setting.service.positions()).positions
        assert view.confirmed is confirmed
        assert setting.service.is_confirmed(("DU1", 7)) is confirmed
    setting.gateway.events.execution.emit(fill("2"))
    setting.gateway.events.position.emit(holding("DU1", "A", 4))
    assert setting.service.is_confirmed(("DU1", 7))


async def test_a_position_that_cannot_be_read_is_no_answer_until_a_whole_list_came() -> None:
    setting = Setting()
    await setting.service.begin()
    setting.gateway.events.position_unreadable.emit("nobody knows how many A are held")
    with pytest.raises(UnreadableAnswerError, match="how many A"):
        await setting.service.positions()
    assert setting.service.complete == (False, True), "the stream shows none of it, either"
    for _ in range(3):  # it asks by itself: who follows the stream asks for nothing
        await setting.clock.wind(1)
    assert setting.service.complete == (True, True)
    await setting.service.positions()
    await setting.service.stop()


async def test_a_list_with_a_position_that_cannot_be_read_ends_none_that_was_held() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    events, silent = setting.gateway.events, asyncio.Event()
    setting.gateway.silent = silent
    setting.clock.advance(2)
    for _ in range(3):  # A is held still, but its row says nothing
        events.position_unreadable.emit("nobody knows how many A are held")
        events.positions_listed.emit()
        with pytest.raises(UnreadableAnswerError, match="how many A"):
            await setting.service.positions()
    assert [each.quantity for each in setting.service.held()] == [3]
    silent.set()
    setting.gateway.silent = None
    setting.gateway.become(ConnectionState.RECONNECTING)
    setting.gateway.become(ConnectionState.READY)
    assert [each.quantity for each in (await setting.service.positions()).positions] == [3]
    await setting.service.stop()


async def test_results_come_from_the_broker_and_belong_to_the_quantity_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.account.service.FIRST_PNL_SECONDS", 20.0)
    setting = Setting()
    option = Contract(symbol="A", con_id=9, sec_type="OPT", multiplier="100", expiration="20260320")
    setting.gateway.held = (
        holding("DU1", "A", 3),
        Position(account="DU1", contract=option, quantity=-2, average_cost=150),
    )
    setting.gateway.values = (
        AccountValue(account="DU1", tag="NetLiquidation", value="1", currency="EUR"),
    )
    await setting.service.begin()
    await setting.service.accounts()
    asking = asyncio.create_task(setting.service.positions(grouped=True))
    await asyncio.sleep(0.01)
    results = {made.con_id: made.listener for made in setting.gateway.pnls}
    results[7](PnL(account="DU1", con_id=7, position=3, value=45, unrealized=7.5, daily=1))
    results[9](PnL(account="DU1", con_id=9, position=-2, value=-260, unrealized=40, realized=2))
    answer = await asking
    stock, put = answer.positions
    assert (stock.market_price, stock.market_value, stock.daily_pnl) == (15, 45, 1)
    assert (put.market_price, put.unrealized_pnl, put.realized_pnl) == (1.3, 40, 2)
    assert (put.base_currency, stock.pnl_age) == ("EUR", 0.0)
    assert put.dte == (date(2026, 3, 20) - setting.clock.now().date()).days
    assert answer.groups is not None
    (group,) = answer.groups
    assert (group.underlying, group.con_ids) == ("A", (7, 9))
    assert (group.market_value, group.unrealized_pnl) == (-215, 47.5)
    assert group.realized_pnl is None, "of the stock it is not known"
    setting.gateway.events.position.emit(holding("DU1", "A", 4))
    views = {view.con_id: view for view in (await setting.service.positions()).positions}
    assert views[7].market_value is None, "the value is that of three"
    assert views[9].market_value == -260


async def test_cash_by_currency() -> None:
    setting = Setting()
    setting.gateway.values = (
        AccountValue(account="DU1", tag="NetLiquidation", value="100", currency="EUR"),
    )
    setting.gateway.ledger = tuple(
        AccountValue(account="DU1", tag=tag, value=value, currency=currency)
        for currency, tag, value in (
            ("BASE", "TotalCashBalance", "90"),
            ("EUR", "TotalCashBalance", "45"),
            ("EUR", "ExchangeRate", "1.00"),
            ("USD", "TotalCashBalance", "50"),
            ("USD", "ExchangeRate", "0.90"),
        )
    )
    (account,) = (await setting.service.accounts()).accounts
    assert [(each.currency, each.cash, each.exchange_rate) for each in account.cash] == [
        ("EUR", 45, 1.0),
        ("USD", 50, 0.9),
    ]
    assert [value.tag for value in account.values] == ["NetLiquidation"]


async def test_a_fill_marks_the_accounts_values_until_they_were_asked_for_again() -> None:
    setting = Setting()
    setting.gateway.values = tuple(
        AccountValue(account=account, tag="NetLiquidation", value="100", currency="USD")
        for account in ("DU1", "DU2")
    )
    await setting.service.begin()
    await setting.service.accounts()
    setting.clock.advance(0.5)
    setting.gateway.events.execution.emit(fill("1"))
    answer = await setting.service.accounts()
    assert [(each.account, each.confirmed) for each in answer.accounts] == [
        ("DU1", False),
        ("DU2", True),
    ]
    setting.clock.advance(1)
    answer = await setting.service.accounts()
    assert [each.confirmed for each in answer.accounts] == [True, True]


async def test_a_refused_subscription_says_why_and_is_tried_again() -> None:
    setting = Setting()
    setting.gateway.silent = asyncio.Event()
    asking = asyncio.create_task(setting.service.accounts())
    await asyncio.sleep(0.01)
    for made in setting.gateway.accounts_read:
        made.active = False
        made.listener.failed(RequestRefusedError("too many summaries", broker_code=322))
    with pytest.raises(RequestRefusedError, match="too many"):
        await asking
    setting.gateway.silent = None
    await setting.service.accounts()


async def test_a_position_with_a_day_that_no_calendar_has_hides_no_other() -> None:
    setting = Setting()
    odd = Contract(symbol="ODD", con_id=9, sec_type="OPT", expiration="20261399", multiplier="100")
    setting.gateway.held = (
        holding("DU1", "A", 3),
        Position(account="DU1", contract=odd, quantity=1, average_cost=1),
    )
    answer = await setting.service.positions()
    assert [(each.symbol, each.dte) for each in answer.positions] == [("A", None), ("ODD", None)]


async def test_a_multiplier_that_is_no_number_hides_no_position() -> None:
    setting = Setting()
    odd = Contract(symbol="ODD", con_id=9, sec_type="OPT", multiplier="n/a")
    setting.gateway.held = (
        holding("DU1", "A", 3),
        Position(account="DU1", contract=odd, quantity=-2, average_cost=1),
    )
    await setting.service.begin()
    asking = asyncio.create_task(setting.service.positions(grouped=True))
    await asyncio.sleep(0.01)
    results = {made.con_id: made.listener for made in setting.gateway.pnls}
    results[7](PnL(account="DU1", con_id=7, position=3, value=45, unrealized=7.5))
    results[9](PnL(account="DU1", con_id=9, position=-2, value=-260, unrealized=40))
    found = {each.symbol: each.market_price for each in (await asking).positions}
    assert found == {"A": 15, "ODD": 130}


async def test_days_to_go_of_a_position_are_those_of_its_market() -> None:
    setting = Setting()  # 15:00 UTC, 23:00 in Hong Kong
    setting.clock.advance(2 * 3600)  # past midnight there
    contract = Contract(
        symbol="700", con_id=9, sec_type="OPT", expiration="20260304", currency="HKD", exchange=""
    )
    setting.gateway.held = (Position(account="DU1", contract=contract, quantity=1, average_cost=1),)
    (view,) = (await setting.service.positions()).positions
    assert view.dte == 0


async def test_a_position_that_is_confirmed_is_news_though_it_is_what_it_was() -> None:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    for number, (symbol, con_id) in enumerate([("A", 7), ("NEW", 8)]):
        setting.gateway.events.execution.emit(fill(str(number), symbol, con_id))
        before = setting.service.positions_changed
        for changed in (0, 1, 1):
            setting.gateway.events.position.emit(holding("DU1", "A", 3))
            setting.gateway.events.positions_listed.emit()
            assert setting.service.positions_changed == before + changed
    assert setting.service.unconfirmed_accounts == {"DU1"}


async def _lost_and_back(setting: Setting, *held: Position) -> None:
    """The gateway logs in anew, and lists this much at first."""
    setting.gateway.become(ConnectionState.RECONNECTING)
    setting.gateway.held = held
    setting.gateway.become(ConnectionState.READY)
    await setting.service.begin()


async def _after_a_loss(*held: Position) -> Setting:
    setting = Setting()
    setting.gateway.held = (holding("DU1", "A", 3),)
    await setting.service.begin()
    await _lost_and_back(setting, *held)
    return setting


async def test_what_was_held_and_is_not_listed_after_a_login_is_not_confirmed_for_a_while() -> None:
    setting = await _after_a_loss()
    assert not setting.service.is_confirmed(("DU1", 7))
    assert setting.service.is_confirmed(("DU1", 8))
    setting.clock.advance(49)
    await _lost_and_back(setting)  # in between nothing is known better
    await setting.service.positions()
    setting.clock.advance(49)
    assert not setting.service.is_confirmed(("DU1", 7))
    setting.clock.advance(1)
    assert setting.service.is_confirmed(("DU1", 7))
    await _lost_and_back(setting)
    assert setting.service.is_confirmed(("DU1", 7))


async def test_what_is_listed_again_or_was_filled_meanwhile_is_confirmed_as_usual() -> None:
    setting = await _after_a_loss(holding("DU1", "A", 3))
    assert setting.service.is_confirmed(("DU1", 7))
    setting = await _after_a_loss()
    setting.gateway.events.position.emit(holding("DU1", "A", 0))
    assert setting.service.is_confirmed(("DU1", 7))
    setting = await _after_a_loss()
    setting.gateway.events.execution.emit(sold("1", 3))
    for confirmed in (False, True):
        setting.clock.advance(2)
        await setting.service.positions()
        assert setting.service.is_confirmed(("DU1", 7)) is confirmed


async def test_a_fill_that_leaves_something_of_it_explains_nothing() -> None:
    setting = await _after_a_loss()
    setting.gateway.events.execution.emit(sold("1", 1))
    for _ in range(3):
        setting.clock.advance(2)
        await setting.service.positions()
    assert not setting.service.is_confirmed(("DU1", 7))
    setting.gateway.events.execution.emit(sold("2", 2))
    for _ in range(2):
        setting.clock.advance(2)
        await setting.service.positions()
    assert setting.service.is_confirmed(("DU1", 7))
