"""Requests about orders: place, cancel, exercise, and what is open, done or filled."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from simulator.contracts.contract import Query
from simulator.trading import timing
from simulator.trading.book import ExecutionFilter
from simulator.trading.combination import combine
from simulator.trading.exercise import Instruction
from simulator.trading.terms import INVALID, FieldError, RefusedError, Terms, string
from simulator.trading.timing import moment
from simulator.tws import order_messages as messages
from simulator.tws.contracts import NO_KIND, SEC_TYPES
from simulator.tws.order_fields import PLACE_ORDER, given, read
from simulator.tws.session import handles
from simulator.tws.wire import MalformedError, Reader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.contracts.contract import Contract
    from simulator.trading.order import Order
    from simulator.trading.terms import Values
    from simulator.tws.session import Session
    from simulator.tws.trading import Trading

RECORDED = ("orderRef", "conId", "symbol", "secType", "action", "totalQuantity", "orderType")
DESCRIPTION = (
    *("conId", "symbol", "secType", "lastTradeDateOrContractMonth", "strike", "right"),
    *("multiplier", "exchange", "primaryExchange", "currency", "localSymbol", "tradingClass"),
)
OPEN_ORDER_END = 53
COMPLETED_ORDERS_END = 102

READ_ONLY = (
    "Error validating request.-'bO' : cause - The API interface is currently in Read-Only mode."
)
NOT_CLIENT_ZERO = (
    "Error validating request.-'cM' : cause - Only the default client (i.e 0) can auto bind orders."
)


def _read_only(session: Session, request_id: int = -1) -> bool:
    if session.world.options.read_only:
        session.world.trading.message(session.client_id, request_id, 321, READ_ONLY)
    return session.world.options.read_only


@handles(3)
def place_order(session: Session, fields: Reader) -> None:
    """Place an order, or change one that is working."""
    trading = session.world.trading
    values = read(PLACE_ORDER, fields.text, session.version)
    order_id = _order_id(string(values, "orderId"))
    what_if = string(values, "whatIf") in {"1", "true"}
    recorded = {name: string(values, name) for name in RECORDED}
    _record(session, "placeOrder", order_id, whatIf=what_if, **recorded)
    if session.world.faults.active("drop-order-ack"):
        session.pipe.abort()
    if _read_only(session, order_id):
        return
    try:
        contract = _contract(session, values)
        terms = Terms.read(given(values))
        rows = values.get("conditions")
        if rows and isinstance(rows, list):
            found = timing.read_conditions(rows, partial(_numbered, session))
            terms = replace(terms, conditions=found)
    except LookupError as error:
        trading.message(session.client_id, order_id, 200, str(error))
    except FieldError as error:
        trading.message(session.client_id, order_id, 320, f"Error reading request. {error}")
    except RefusedError as error:
        trading.message(session.client_id, order_id, error.code, error.text)
    else:
        trading.place(session.client_id, order_id, contract, terms)


def _contract(session: Session, values: Values) -> Contract:
    """What an order is for.

    Raises:
        LookupError: there is none, or several.
        RefusedError: the description lacks something, or a combination cannot be.
    """
    kind, exchange = string(values, "secType").upper(), string(values, "exchange").upper()
    if not exchange:
        raise RefusedError(321, INVALID + "Missing order exchange")
    if kind and kind not in SEC_TYPES:
        raise RefusedError(321, INVALID + NO_KIND)
    if kind == "BAG":
        legs = values.get("comboLegs")
        return combine(
            string(values, "symbol").upper(),
            exchange,
            string(values, "currency").upper(),
            legs if isinstance(legs, list) else [],
            partial(_numbered, session),
        )
    described = Reader([string(values, name) for name in DESCRIPTION], session.version).contract()
    return session.world.catalog.resolve(described, session.world.clock.time())


def _numbered(session: Session, con_id: int, exchange: str) -> Contract:
    query = Query(con_id=con_id, exchange=exchange.upper())
    return session.world.catalog.resolve(query, session.world.clock.time())


def _record(session: Session, message: str, order_id: int | None, **more: object) -> None:
    """Put a request into the book before anything becomes of it."""
    at = session.world.clock.time()
    head = {"message": message, "at": at, "clientId": session.client_id, "orderId": order_id}
    session.world.trading.record({**head, **more})


def _order_id(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise MalformedError(f"orderId is not a whole number: {text[:20]!r}") from None


@handles(4)
def cancel_order(session: Session, fields: Reader) -> None:
    """Cancel one order."""
    fields.skip(1)
    order_id = fields.integer()
    _record(session, "cancelOrder", order_id)
    if not _read_only(session, order_id):
        session.world.trading.cancel(session.client_id, order_id)


@handles(21)
def exercise_options(session: Session, fields: Reader) -> None:
    """Exercise an option that the account holds, or let it lapse."""
    fields.skip(1)
    request_id = fields.integer()
    query = fields.contract(primary=False)
    action, quantity, account = fields.integer(), fields.integer(), fields.text()
    instruction = Instruction(action, quantity, account, fields.boolean())
    trading = session.world.trading
    _record(session, "exerciseOptions", request_id, conId=str(query.con_id), action=str(action))
    if _read_only(session, request_id):
        return
    try:
        contract = session.world.catalog.resolve(query, session.world.clock.time())
        number = getattr(contract, "under_id", 0)
        underlying = _numbered(session, number, "") if number else None
    except LookupError as error:
        trading.message(session.client_id, request_id, 200, str(error))
        return
    client = (session.client_id, request_id)
    trading.exercise(client, contract, underlying, instruction)


@handles(58)
def global_cancel(session: Session, fields: Reader) -> None:
    """Cancel every open order, whoever placed it."""
    fields.skip(1)
    _record(session, "reqGlobalCancel", None)
    if not _read_only(session):
        session.world.trading.cancel_all()


@handles(5)
def request_open_orders(session: Session, fields: Reader) -> None:
    """The client's own open orders; client 0 also takes over those entered by hand."""
    fields.skip(1)
    if _read_only(session):
        return
    trading = session.world.trading
    if session.client_id == 0:
        trading.bind_manual(session)
    own = [each for each in _open(trading) if each.client_id == session.client_id]
    _send_open(session, own)


@handles(16)
def request_all_open_orders(session: Session, fields: Reader) -> None:
    """The open orders of every client and those entered by hand; none is taken over."""
    fields.skip(1)
    if not _read_only(session):
        _send_open(session, _open(session.world.trading))


@handles(15)
def request_auto_open_orders(session: Session, fields: Reader) -> None:
    """Whether client 0 takes over every order entered by hand from now on."""
    fields.skip(1)
    wanted = fields.boolean()
    if _read_only(session):
        return
    if session.client_id != 0:
        session.error(-1, 321, NOT_CLIENT_ZERO)
        return
    session.world.trading.auto_bind = wanted


@handles(99)
def request_completed_orders(session: Session, fields: Reader) -> None:
    """The orders that were done today; only those placed through the API when it asks so."""
    api_only = fields.boolean()
    if _read_only(session):
        return
    trading = session.world.trading
    midnight = trading.engine.market.midnight(session.world.clock.time())
    for order in trading.engine.book.orders:
        today = order.completed_at is not None and order.completed_at >= midnight
        if today and (order.order_id or not api_only):
            messages.send_completed_order(session, order)
    session.send(COMPLETED_ORDERS_END)


def _open(trading: Trading) -> list[Order]:
    return [order for order in trading.engine.book.working() if order.transmitted]


def _send_open(session: Session, orders: Iterable[Order]) -> None:
    for order in orders:
        messages.send_open_order(session, order)
        messages.send_status(session, order)
    session.send(OPEN_ORDER_END, 1)


EXECUTIONS_END = 55
BAD_TIME = "Error validating request.-'bI' : cause - Invalid time format in the execution filter."


@handles(7)
def request_executions(session: Session, fields: Reader) -> None:
    """The fills since midnight that pass the filter, each followed by its commission."""
    fields.skip(1)
    request_id = fields.integer()
    client_id, account, since = fields.integer(), fields.text(), fields.text()
    symbol, sec_type, exchange, side = (fields.text() for _ in range(4))
    trading = session.world.trading
    midnight = trading.engine.market.midnight(session.world.clock.time())
    try:
        begin = max(moment(since), midnight) if since else midnight
    except RefusedError:
        session.error(request_id, 321, BAD_TIME)
        return
    wanted = ExecutionFilter(client_id, account, begin, symbol, sec_type, exchange, side.upper())
    found = [each for each in trading.engine.book.executions if wanted.takes(each)]
    for execution in found:
        messages.send_execution(session, execution, request_id)
    session.send(EXECUTIONS_END, 1, request_id)
    for execution in found:
        if execution.has_commission:
            messages.send_commission(session, execution)
