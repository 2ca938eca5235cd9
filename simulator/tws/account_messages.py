"""Messages about accounts, as a gateway sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.clock import EASTERN
from simulator.tws.order_messages import contract_values, number, quantity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.account.ledger import Account, Ledger
    from simulator.account.position import Position
    from simulator.account.values import Value
    from simulator.trading.market import Contract
    from simulator.tws.session import Session

ACCOUNT_VALUE = 6
PORTFOLIO_VALUE = 7
ACCOUNT_TIME = 8
DOWNLOAD_END = 54
POSITION = 61
POSITION_END = 62
SUMMARY = 63
SUMMARY_END = 64
POSITION_MULTI = 71
POSITION_MULTI_END = 72
UPDATE_MULTI = 73
UPDATE_MULTI_END = 74
PNL = 94
PNL_SINGLE = 95
HEAD = ("conId", "symbol", "secType", "lastTradeDateOrContractMonth")


def _described(contract: Contract, venue: str) -> list[object]:
    """A contract as account messages have it; `venue` names its exchange field."""
    values = contract_values(contract)
    return [
        *(values.get(name, "") for name in HEAD),
        values.get("strike", "0.0"),
        values.get("right", "0" if venue == "primaryExchange" else ""),
        values.get("multiplier", ""),
        values.get(venue, ""),
        *(values.get(name, "") for name in ("currency", "localSymbol", "tradingClass")),
    ]


def send_values(session: Session, account: str, values: Iterable[Value]) -> None:
    """Account values of reqAccountUpdates."""
    for each in values:
        session.send(ACCOUNT_VALUE, 2, each.tag, each.value, each.currency, account)


def send_portfolio(
    session: Session, ledger: Ledger, account: Account, position: Position, at: float
) -> None:
    """One line of the portfolio."""
    price = ledger.price(position.contract, at)
    session.send(
        PORTFOLIO_VALUE,
        8,
        *_described(position.contract, "primaryExchange"),
        quantity(position.quantity),
        number(price),
        number(round(position.value(price), 2)),
        number(position.average_cost),
        number(round(position.unrealized(price), 2)),
        number(round(position.realized, 2)),
        account.name,
    )


def send_time(session: Session) -> None:
    """When the account values are from."""
    now = session.world.clock.now().astimezone(EASTERN)
    session.send(ACCOUNT_TIME, 1, now.strftime("%H:%M"))


def send_position(session: Session, account: str, position: Position) -> None:
    """One position of reqPositions."""
    session.send(
        POSITION,
        3,
        account,
        *_described(position.contract, ""),
        quantity(position.quantity),
        number(position.average_cost),
    )


def send_position_multi(
    session: Session, request_id: int, account: str, position: Position, model: str
) -> None:
    """One position of reqPositionsMulti."""
    session.send(
        POSITION_MULTI,
        1,
        request_id,
        account,
        *_described(position.contract, ""),
        quantity(position.quantity),
        number(position.average_cost),
        model,
    )


def send_profit(session: Session, request_id: int, ledger: Ledger, account: Account) -> None:
    """The account's profit; below version 129 only the day's."""
    profit = ledger.profit(account, session.world.clock.time())
    session.send(PNL, request_id, *_profit(session, profit))


def send_profit_single(
    session: Session, request_id: int, ledger: Ledger, account: Account, con_id: int
) -> None:
    """The profit of one position."""
    at = session.world.clock.time()
    position = account.positions.get(con_id)
    value = position.value(ledger.price(position.contract, at)) if position else 0.0
    session.send(
        PNL_SINGLE,
        request_id,
        quantity(account.held(con_id)),
        *_profit(session, ledger.profit(account, at, con_id)),
        number(round(value, 2)),
    )


def _profit(session: Session, profit: tuple[float, float, float]) -> list[str]:
    shown = 3 if session.version >= 135 else 2 if session.version >= 129 else 1
    return [number(round(value, 2)) for value in profit[:shown]]
