"""Average cost, realized and daily profit, cash and margin follow from the fills alone."""

from __future__ import annotations

import pytest

from simulator.account.ledger import OPENING_CASH, Account
from simulator.account.values import ledger_values, summary
from tests.simulator.trading.desk import APPLE, EURO, FUTURE, OPTION, Desk, Listing

GERMAN = Listing(14121, "BMW", currency="EUR", exchange="IBIS", primary_exchange="IBIS")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def account(desk: Desk) -> Account:
    return desk.ledger.accounts["DU1"]


def trade(
    desk: Desk, signed: float, price: float, contract: Listing = APPLE, fee: float = 1.0
) -> float | None:
    return desk.ledger.trade("DU1", contract, signed, price, fee, desk.at)


def test_average_cost_holds_commissions_of_what_opened(desk: Desk, account: Account) -> None:
    assert trade(desk, 100, 50) is None
    assert trade(desk, 100, 52) is None
    assert account.positions[APPLE.con_id].average_cost == pytest.approx(51.01)
    assert trade(desk, -100, 60) == pytest.approx(100 * (60 - 51.01) - 1)
    assert account.positions[APPLE.con_id].average_cost == pytest.approx(51.01)
    assert account.cash["USD"] == pytest.approx(OPENING_CASH - 5000 - 5200 + 6000 - 3)


def test_a_short_position_and_one_that_turns_over(desk: Desk, account: Account) -> None:
    assert trade(desk, -100, 50) is None
    assert account.positions[APPLE.con_id].average_cost == pytest.approx(49.99)
    realized = trade(desk, 150, 40, fee=1.5)
    assert realized == pytest.approx(100 * (49.99 - 40) - 1)
    position = account.positions[APPLE.con_id]
    assert position.quantity == 50
    assert position.average_cost == pytest.approx(40.01)


def test_options_count_their_multiplier(desk: Desk, account: Account) -> None:
    trade(desk, 2, 5, OPTION, fee=1.3)
    assert account.positions[OPTION.con_id].average_cost == pytest.approx(500.65)
    assert account.cash["USD"] == pytest.approx(OPENING_CASH - 1001.3)


def test_of_a_future_only_gain_and_loss_are_paid(desk: Desk, account: Account) -> None:
    desk.price(5000, 5000, FUTURE)
    trade(desk, 1, 5000, FUTURE, fee=2.25)
    assert account.cash["USD"] == OPENING_CASH
    assert desk.ledger.equity(account, desk.at) == pytest.approx(OPENING_CASH - 2.25)
    desk.price(5010, 5010, FUTURE)
    assert trade(desk, -1, 5010, FUTURE, fee=2.25) == pytest.approx(500 - 4.5)
    assert account.cash["USD"] == pytest.approx(OPENING_CASH + 500 - 4.5)


@pytest.mark.parametrize("contract", [APPLE, FUTURE, OPTION, EURO, GERMAN])
def test_equity_changes_by_exactly_the_days_profit(
    desk: Desk, account: Account, contract: Listing
) -> None:
    for signed, price in ((100, 90), (-30, 95), (-150, 99), (40, 101)):
        desk.price(price, price, contract)
        trade(desk, signed, price, contract)
    desk.price(97, 97, contract)
    profit = desk.ledger.profit(account, desk.at)
    change = desk.ledger.equity(account, desk.at) - OPENING_CASH
    assert change == pytest.approx(profit.daily)
    assert profit.unrealized + profit.realized == pytest.approx(profit.daily)


def test_a_new_day_begins_at_midnight(desk: Desk, account: Account) -> None:
    desk.price(50, 50)
    trade(desk, 100, 50)
    trade(desk, -50, 60)
    desk.price(70, 70)
    desk.at += 24 * 3600
    assert desk.ledger.profit(account, desk.at) == pytest.approx((0.0, 50 * (70 - 50.01), 0.0))
    assert account.previous_equity == pytest.approx(OPENING_CASH + 500 + 1000 - 2)
    desk.price(71, 71)
    assert desk.ledger.profit(account, desk.at).daily == pytest.approx(50)


def test_margin_is_what_the_positions_need(desk: Desk, account: Account) -> None:
    desk.price(100, 100)
    trade(desk, 1000, 100)
    desk.price(5, 5, OPTION)
    trade(desk, -1, 5, OPTION)
    funds = desk.ledger.funds(account, desk.at)
    assert funds.initial == pytest.approx(0.30 * 100_000 + 0.2 * 20_000 + 500)
    assert funds.maintenance == pytest.approx(0.25 * 100_000 + 0.2 * 20_000 + 500)


def test_the_values_of_an_account_add_up(desk: Desk, account: Account) -> None:
    desk.price(100, 100)
    desk.price(80, 80, GERMAN)
    trade(desk, 100, 90)
    trade(desk, 10, 80, GERMAN)
    values = {each.tag: each.value for each in summary(desk.ledger, account, desk.at)}
    ledger = {
        (each.tag, each.currency): each.value
        for each in ledger_values(desk.ledger, account, desk.at)
    }
    assert values["NetLiquidation"] == ledger["NetLiquidationByCurrency", "BASE"]
    assert float(values["GrossPositionValue"]) == pytest.approx(100 * 100 + 800 * 1.1)
    assert ledger["CashBalance", "EUR"] == "-801.00"
    assert ledger["ExchangeRate", "EUR"] == "1.10"
    assert float(values["AvailableFunds"]) == pytest.approx(
        float(values["NetLiquidation"]) - float(values["InitMarginReq"])
    )
