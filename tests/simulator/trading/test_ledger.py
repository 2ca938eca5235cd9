"""Average cost, realized and daily profit, cash and margin follow from the fills alone."""

from __future__ import annotations

import pytest

from simulator.contracts.contract import Contract
from simulator.trading.ledger import OPENING_CASH, Account
from simulator.tws.account_messages import ledger_values, summary
from tests.simulator.trading.broker import APPLE, EURO, FUTURE, OPTION, Broker

GERMAN = Contract(14121, "BMW", "STK", "EUR", "IBIS", "IBIS")


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def account(broker: Broker) -> Account:
    return broker.ledger.accounts["DU1"]


def trade(
    broker: Broker, signed: float, price: float, contract: Contract = APPLE, fee: float = 1.0
) -> float | None:
    return broker.ledger.trade("DU1", contract, signed, price, fee, broker.at)


def test_average_cost_holds_commissions_of_what_opened(broker: Broker, account: Account) -> None:
    assert trade(broker, 100, 50) is None
    assert trade(broker, 100, 52) is None
    assert account.positions[APPLE.con_id].average_cost == pytest.approx(51.01)
    assert trade(broker, -100, 60) == pytest.approx(100 * (60 - 51.01) - 1)
    assert account.positions[APPLE.con_id].average_cost == pytest.approx(51.01)
    assert account.cash["USD"] == pytest.approx(OPENING_CASH - 5000 - 5200 + 6000 - 3)


def test_a_short_position_and_one_that_turns_over(broker: Broker, account: Account) -> None:
    assert trade(broker, -100, 50) is None
    assert account.positions[APPLE.con_id].average_cost == pytest.approx(49.99)
    realized = trade(broker, 150, 40, fee=1.5)
    assert realized == pytest.approx(100 * (49.99 - 40) - 1)
    position = account.positions[APPLE.con_id]
    assert position.quantity == 50
    assert position.average_cost == pytest.approx(40.01)


def test_options_count_their_multiplier(broker: Broker, account: Account) -> None:
    trade(broker, 2, 5, OPTION, fee=1.3)
    assert account.positions[OPTION.con_id].average_cost == pytest.approx(500.65)
    assert account.cash["USD"] == pytest.approx(OPENING_CASH - 1001.3)


def test_of_a_future_only_gain_and_loss_are_paid(broker: Broker, account: Account) -> None:
    broker.price(5000, 5000, FUTURE)
    trade(broker, 1, 5000, FUTURE, fee=2.25)
    assert account.cash["USD"] == OPENING_CASH
    assert broker.ledger.equity(account, broker.at) == pytest.approx(OPENING_CASH - 2.25)
    broker.price(5010, 5010, FUTURE)
    assert trade(broker, -1, 5010, FUTURE, fee=2.25) == pytest.approx(500 - 4.5)
    assert account.cash["USD"] == pytest.approx(OPENING_CASH + 500 - 4.5)


@pytest.mark.parametrize("contract", [APPLE, FUTURE, OPTION, EURO, GERMAN])
def test_equity_changes_by_exactly_the_days_profit(
    broker: Broker, account: Account, contract: Contract
) -> None:
    for signed, price in ((100, 90), (-30, 95), (-150, 99), (40, 101)):
        broker.price(price, price, contract)
        trade(broker, signed, price, contract)
    broker.price(97, 97, contract)
    profit = broker.ledger.profit(account, broker.at)
    change = broker.ledger.equity(account, broker.at) - OPENING_CASH
    assert change == pytest.approx(profit.daily)
    assert profit.unrealized + profit.realized == pytest.approx(profit.daily)


def test_a_new_day_begins_at_midnight(broker: Broker, account: Account) -> None:
    broker.price(50, 50)
    trade(broker, 100, 50)
    trade(broker, -50, 60)
    broker.price(70, 70)
    broker.at += 24 * 3600
    assert broker.ledger.profit(account, broker.at) == pytest.approx((0.0, 50 * (70 - 50.01), 0.0))
    assert account.previous_equity == pytest.approx(OPENING_CASH + 500 + 1000 - 2)
    broker.price(71, 71)
    assert broker.ledger.profit(account, broker.at).daily == pytest.approx(50)


def test_margin_is_what_the_positions_need(broker: Broker, account: Account) -> None:
    broker.price(100, 100)
    trade(broker, 1000, 100)
    broker.price(5, 5, OPTION)
    trade(broker, -1, 5, OPTION)
    funds = broker.ledger.funds(account, broker.at)
    assert funds.initial == pytest.approx(0.30 * 100_000 + 0.2 * 20_000 + 500)
    assert funds.maintenance == pytest.approx(0.25 * 100_000 + 0.2 * 20_000 + 500)


def test_the_values_of_an_account_add_up(broker: Broker, account: Account) -> None:
    broker.price(100, 100)
    broker.price(80, 80, GERMAN)
    trade(broker, 100, 90)
    trade(broker, 10, 80, GERMAN)
    values = {each.tag: each.value for each in summary(broker.ledger, account, broker.at)}
    ledger = {
        (each.tag, each.currency): each.value
        for each in ledger_values(broker.ledger, account, broker.at)
    }
    assert values["NetLiquidation"] == ledger["NetLiquidationByCurrency", "BASE"]
    assert float(values["GrossPositionValue"]) == pytest.approx(100 * 100 + 800 * 1.1)
    assert ledger["CashBalance", "EUR"] == "-801.00"
    assert ledger["ExchangeRate", "EUR"] == "1.10"
    assert float(values["AvailableFunds"]) == pytest.approx(
        float(values["NetLiquidation"]) - float(values["InitMarginReq"])
    )
