"""Messages about orders and executions, as a gateway sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.trading.terms import TRAILING_TYPES
from simulator.trading.timing import eastern
from simulator.tws.order_fields import COMPLETED_ORDER, OPEN_ORDER, UNSET, write

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract
    from simulator.trading.ledger import Funds, Preview
    from simulator.trading.order import Execution, Order
    from simulator.trading.terms import Rows
    from simulator.tws.client import Client

ORDER_STATUS = 3
OPEN_ORDER_MESSAGE = 5
EXECUTION = 11
COMMISSION = 59
ORDER_BOUND = 100
COMPLETED_ORDER_MESSAGE = 101

BOOLEANS = {"true": "1", "false": "0"}


def number(value: float | None) -> str:
    """A price or an amount: `150.0`, as the gateway writes it; empty when there is none."""
    return "" if value is None else repr(round(float(value), 10))


def quantity(value: float) -> str:
    """A quantity: whole ones without a decimal point, which clients below version 101 need."""
    return str(int(value)) if value == int(value) else repr(round(value, 10))


def contract_values(contract: Contract) -> dict[str, str | Rows]:
    """A contract under the API's names; what it lacks is left out."""
    values = {
        "conId": str(contract.con_id),
        "symbol": contract.symbol,
        "secType": contract.sec_type,
        "lastTradeDateOrContractMonth": contract.expiry,
        "strike": number(contract.strike) if contract.strike else "",
        "right": contract.right,
        "multiplier": contract.multiplier,
        "exchange": contract.exchange,
        "primaryExchange": contract.primary_exchange,
        "currency": contract.currency,
        "localSymbol": contract.local_symbol,
        "tradingClass": contract.trading_class,
    }
    return {name: value for name, value in values.items() if value}


def sent_values(order: Order) -> dict[str, str | Rows]:
    """What the client sent and the gateway repeats."""
    return {
        name: BOOLEANS.get(value.lower(), value) if isinstance(value, str) else value
        for name, value in order.terms.sent.items()
    }


def order_values(order: Order) -> dict[str, str | Rows]:
    """An order as it stands, under the API's names."""
    values = {**sent_values(order), **contract_values(order.contract)}
    values |= {
        "version": "34",
        "orderId": str(order.order_id),
        "clientId": str(order.client_id),
        "permId": str(order.perm_id),
        "parentId": str(order.parent.order_id if order.parent else 0),
        "parentPermId": str(order.parent.perm_id if order.parent else 0),
        "action": order.terms.action,
        "orderType": order.terms.order_type,
        "totalQuantity": quantity(order.quantity),
        "tif": order.terms.tif or "DAY",
        "account": order.account,
        "sharesAllocation": f"{order.perm_id}.0/{order.account}/{quantity(order.quantity)}",
        "status": order.status.value,
        "warningText": order.warning,
    }
    if order.limit is not None:
        values["lmtPrice"] = number(order.limit)
    if order.stop is not None:
        trails = order.terms.order_type in TRAILING_TYPES
        values["trailStopPrice" if trails else "auxPrice"] = number(order.stop)
    if order.done:
        values["commission"] = number(order.commission) if order.filled else ""
    return values


def send_open_order(session: Client, order: Order) -> None:
    """An order and its state."""
    fields = write(OPEN_ORDER, order_values(order), session.version)
    session.send(OPEN_ORDER_MESSAGE, *fields)


def send_preview(session: Client, order: Order, preview: Preview) -> None:
    """The answer to a what-if order."""
    values = order_values(order) | {"whatIf": "1", "status": "PreSubmitted"}
    for suffix, funds in (
        ("Before", preview.before),
        ("Change", preview.after.minus(preview.before)),
        ("After", preview.after),
    ):
        values |= _funds(funds, suffix)
    values |= {
        "commission": number(preview.commission),
        "minCommission": number(preview.commission),
        "maxCommission": number(preview.commission),
        "commissionCurrency": preview.currency,
    }
    session.send(OPEN_ORDER_MESSAGE, *write(OPEN_ORDER, values, session.version))


def _funds(funds: Funds, suffix: str) -> dict[str, str]:
    return {
        "initMargin" + suffix: f"{funds.initial:.2f}",
        "maintMargin" + suffix: f"{funds.maintenance:.2f}",
        "equityWithLoan" + suffix: f"{funds.equity:.2f}",
    }


def send_status(session: Client, order: Order) -> None:
    """Where an order stands."""
    head = ("6",) if session.version < 131 else ()
    cap = ("0",) if session.version >= 131 else ()
    session.send(
        ORDER_STATUS,
        *head,
        order.order_id,
        order.status.value,
        quantity(order.filled),
        quantity(order.remaining),
        number(order.average_price),
        order.perm_id,
        order.parent.order_id if order.parent else 0,
        number(order.last_price),
        order.client_id,
        order.why_held,
        *cap,
    )


def send_completed_order(session: Client, order: Order) -> None:
    """An order that is done."""
    values = order_values(order) | {
        "filledQuantity": quantity(order.filled),
        "completedTime": eastern(order.completed_at or order.placed_at),
        "completedStatus": order.completed_reason,
    }
    session.send(COMPLETED_ORDER_MESSAGE, *write(COMPLETED_ORDER, values, session.version))


def send_execution(session: Client, execution: Execution, request_id: int = -1) -> None:
    """A fill; `request_id` is -1 when it has just happened."""
    order, version = execution.order, session.version
    contract = contract_values(execution.contract)
    session.send(
        EXECUTION,
        *(("10",) if version < 136 else ()),
        request_id,
        order.order_id,
        contract["conId"],
        contract["symbol"],
        contract["secType"],
        contract.get("lastTradeDateOrContractMonth", ""),
        contract.get("strike", "0.0"),
        contract.get("right", ""),
        contract.get("multiplier", ""),
        execution.exchange,
        contract["currency"],
        contract.get("localSymbol", ""),
        contract.get("tradingClass", ""),
        execution.exec_id,
        eastern(execution.at),
        order.account,
        execution.exchange,
        execution.side,
        quantity(execution.quantity),
        number(execution.price),
        order.perm_id,
        order.client_id,
        0,
        quantity(execution.cumulative),
        number(execution.average_price),
        order.terms.order_ref,
        "",
        "",
        *(("",) if version >= 103 else ()),
        *((execution.liquidity,) if version >= 136 else ()),
        *(("0",) if version >= 178 else ()),
    )


def send_commission(session: Client, execution: Execution) -> None:
    """The commission of a fill; the profit is unset when the fill only opened a position."""
    session.send(
        COMMISSION,
        1,
        execution.exec_id,
        number(execution.commission),
        execution.contract.currency,
        UNSET if execution.realized is None else number(execution.realized),
        UNSET,
        "",
    )


def send_bound(session: Client, order: Order) -> None:
    """An order entered by hand got an id of the client's."""
    if session.version >= 144:
        session.send(ORDER_BOUND, order.perm_id, order.client_id, order.order_id)
