"""The broker's messages, decoded by the client library, turned into values and passed on.

Method names are those of the broker's own wrapper; the library's decoder calls them. None of them
may raise. What a message says is cleaned by ``values``, here and in ``convert``, before it goes on.
"""
# ruff: noqa: N802, N803

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from msgspec import structs

from bridge import broker_time, model
from bridge.tws import convert, values
from bridge.tws.connection_context import ConnectionContext
from bridge.tws.errors import UnreadableAnswerError
from bridge.tws.messages import Messages
from bridge.tws.requests import Key, market_rule_key
from bridge.tws.subscriptions import (
    AccountValuesSubscription,
    MarketDataLine,
    PnLSubscription,
    Subscriptions,
)
from bridge.tws.values import SIZE_OF_PRICE, RefusedError, name_of, number

if TYPE_CHECKING:
    from bridge.tws.supervisor import Starting

HIGHEST_ORDER_ID = 2**31 - 2
EARLIEST, LATEST = 946_684_800, 4_102_444_800  # 2000 to 2100, seconds since the epoch
log = structlog.get_logger(__name__)


MONEY = {
    3: "order-status",
    5: "open-order",
    11: "execution",
    59: "commission",
    101: "completed-order",
}
"""Messages of which none may be lost without a word, by number."""


_WHICH = {11: (14,), 59: (2,)}
"""Where a message's own id is; elsewhere the first two fields name what it is about."""


class Callbacks:
    """One for each connection; ids and keys are looked up in what outlives it."""

    MESSAGES = frozenset(MONEY)
    execution_time = ""  # as the broker wrote it, of the fill that is being told
    opened_order: model.OpenOrder | None = None  # what the openOrder message was read as
    told_fill: model.Execution | None = None  # and the one of a fill

    def __init__(
        self,
        context: ConnectionContext,
        subscriptions: Subscriptions,
        messages: Messages,
        starting: Starting,
    ) -> None:
        self._context = context
        self._requests = context.requests
        self._events = context.events
        self._subscriptions = subscriptions
        self._messages = messages
        self._starting = starting

    # the session ------------------------------------------------------------------------------

    def _refused(self, kind: str, name: object, error: RefusedError, *content: object) -> None:
        """The message is not taken; whoever keeps the books sets it aside."""
        self._events.unreadable.emit(
            model.Unreadable(
                kind=kind,
                name=values.text(name),
                cause=str(error),
                content=values.text(" ".join(repr(each) for each in content)),
            )
        )

    def not_understood(self, number: int, fields: list[str], error: BaseException | None) -> None:
        """A message that the library could not read; told where it is about orders or money."""
        kind = MONEY.get(number)
        if kind is not None:
            refused = RefusedError(f"not understood: {type(error).__name__}")
            self._refused(kind, _what(number, fields), refused, fields)

    def nextValidId(self, orderId: int) -> None:
        context = self._context
        if not 0 < orderId <= HIGHEST_ORDER_ID:
            log.error("order-number-refused", number=values.text(orderId, 40))
            return
        context.next_valid_id = orderId
        context.next_order_id = max(orderId, context.next_order_id or 0)
        self._starting.seen(order_id=True)

    def managedAccounts(self, accounts: str) -> None:
        self._context.accounts = tuple(
            name for each in accounts.split(",") if (name := values.name(each))
        )
        self._starting.seen(accounts=True)

    def currentTime(self, seconds: int) -> None:
        self._requests.finish(Key.CURRENT_TIME, seconds if EARLIEST < seconds < LATEST else None)

    def error(self, reqId: int, code: int, text: str, advanced: str = "") -> None:
        """`advanced` says what a person would be asked in TWS before such an order goes out."""
        request_id = values.identifier(reqId)
        said = f"{text} {advanced}" if advanced else text
        self._messages.arrived(
            request_id, values.identifier(code), values.text(said), self._starting
        )

    # contracts --------------------------------------------------------------------------------

    def contractDetails(self, reqId: int, details: Any) -> None:
        self._requests.add(reqId, convert.from_details(details))

    def bondContractDetails(self, reqId: int, details: Any) -> None:
        """Bonds have a message of their own (18)."""
        self.contractDetails(reqId, details)

    def contractDetailsEnd(self, reqId: int) -> None:
        self._requests.finish(reqId)

    def symbolSamples(self, reqId: int, descriptions: list[Any]) -> None:
        matches = (
            model.ContractMatch(
                contract=convert.from_contract(each.contract),
                description=values.text(getattr(each.contract, "description", "")),
                derivative_sec_types=tuple(values.name(kind) for kind in each.derivativeSecTypes),
            )
            for each in descriptions
            if each.contract.conId > 0  # an issuer of bonds is listed with -1: it is no contract
        )
        self._requests.finish(reqId, *matches)

    def securityDefinitionOptionParameter(
        self,
        reqId: int,
        exchange: str,
        underlyingConId: Any,
        tradingClass: str,
        multiplier: str,
        expirations: list[str],
        strikes: list[float],
    ) -> None:
        self._requests.add(
            reqId,
            model.OptionParameters(
                exchange=values.name(exchange),
                underlying_con_id=values.identifier(underlyingConId),
                trading_class=values.name(tradingClass),
                multiplier=values.name(multiplier),
                expirations=tuple(sorted(day for day in expirations if _is_day(day))),
                strikes=tuple(sorted(filter(None, map(values.above_zero, strikes)))),
            ),
        )

    def securityDefinitionOptionParameterEnd(self, reqId: int) -> None:
        self._requests.finish(reqId)

    def marketRule(self, ruleId: int, increments: list[Any]) -> None:
        steps = [
            model.PriceIncrement(low_edge=edge, increment=increment)
            for each in increments
            if (edge := values.price(each.lowEdge)) is not None
            and (increment := values.above_zero(each.increment)) is not None
        ]
        steps.sort(key=lambda step: step.low_edge)
        self._requests.finish(market_rule_key(ruleId), *steps)

    # history ----------------------------------------------------------------------------------

    def historicalData(self, reqId: int, bar: Any) -> None:
        cleaned = convert.from_bar(bar, self._context.target.time_zone)
        if cleaned is not None:
            self._requests.add(reqId, cleaned)

    def historicalDataEnd(self, reqId: int, start: str, end: str) -> None:
        self._requests.finish(reqId)

    # orders -----------------------------------------------------------------------------------

    def openOrder(self, orderId: int, contract: Any, order: Any, state: Any) -> None:
        opened = model.OpenOrder(
            order_id=values.identifier(orderId),
            contract=convert.from_contract(contract),
            order=convert.from_order(order),
            state=convert.from_order_state(state),
        )
        if order.whatIf:
            if opened.order.client_id not in {0, self._context.target.client_id}:
                return  # the master client hears of others', under numbers that are not ours
            self._requests.finish(orderId, opened.state)
            return
        self.opened_order = opened
        self._opened(opened)

    def open_order_again(self, opened: model.OpenOrder, status: str) -> None:
        """The same as an earlier message, but for the status."""
        if status != opened.state.status:
            state = structs.replace(opened.state, status=status)
            opened = structs.replace(opened, state=state)
        self._opened(opened)

    def _opened(self, opened: model.OpenOrder) -> None:
        self._requests.add(Key.OPEN_ORDERS, opened)
        self._events.open_order.emit(opened)

    def openOrderEnd(self) -> None:
        self._requests.finish(Key.OPEN_ORDERS)

    def orderStatus(
        self,
        orderId: int,
        status: str,
        filled: float,
        remaining: float,
        avgFillPrice: float,
        permId: int,
        parentId: int,
        lastFillPrice: float,
        clientId: int,
        whyHeld: str,
        mktCapPrice: float = 0.0,
    ) -> None:
        self._events.order_status.emit(
            model.OrderStatus(
                order_id=values.identifier(orderId),
                status=values.name(status),
                filled=values.size(filled) or 0.0,
                remaining=values.size(remaining) or 0.0,
                average_fill_price=values.average(avgFillPrice),
                perm_id=values.identifier(permId),
                parent_id=values.identifier(parentId),
                last_fill_price=values.average(lastFillPrice),
                client_id=values.identifier(clientId),
                why_held=values.name(whyHeld),
            )
        )

    def completedOrder(self, contract: Any, order: Any, state: Any) -> None:
        self._requests.add(
            Key.COMPLETED_ORDERS,
            model.OpenOrder(
                order_id=values.identifier(order.orderId),
                contract=convert.from_contract(contract),
                order=convert.from_order(order),
                state=convert.from_order_state(state),
            ),
        )

    def completedOrdersEnd(self) -> None:
        self._requests.finish(Key.COMPLETED_ORDERS)

    def execDetails(self, reqId: int, contract: Any, execution: Any) -> None:
        try:
            fill = convert.from_execution(
                contract,
                execution,
                self.execution_time,
                self._context.target.time_zone,
                self._context.clock.now(),
            )
        except RefusedError as error:
            self._refused("execution", execution.execId, error, contract, execution)
            return
        self.told_fill = fill
        self.fill_again(reqId, fill)

    def fill_again(self, request_id: int, fill: model.Execution) -> None:
        """A fill; told before, it need not be read again."""
        self._requests.add(request_id, fill)
        self._events.execution.emit(fill)

    def execDetailsEnd(self, reqId: int) -> None:
        self._requests.finish(reqId)

    def commissionReport(self, report: Any) -> None:
        try:
            cleaned = convert.from_commission(report)
        except RefusedError as error:
            self._refused("commission", report.execId, error, report)
            return
        if cleaned is not None:
            self._events.commission.emit(cleaned)

    # the account ------------------------------------------------------------------------------

    def position(self, account: str, contract: Any, quantity: float, averageCost: float) -> None:
        held = values.holding(quantity)
        if held is None:
            what = f"the gateway does not say how many {values.name(contract.symbol)} are held"
            self._requests.fail(Key.POSITIONS, UnreadableAnswerError(what))
            self._events.position_unreadable.emit(what)
            return
        position = model.Position(
            account=values.name(account),
            contract=convert.from_contract(contract),
            quantity=held,
            average_cost=number(averageCost),
        )
        self._requests.add(Key.POSITIONS, position)
        self._events.position.emit(position)

    def positionEnd(self) -> None:
        self._events.positions_listed.emit()
        self._requests.finish(Key.POSITIONS)

    def accountSummary(self, reqId: int, account: str, tag: str, value: str, currency: str) -> None:
        line = self._subscriptions.get(reqId)
        if isinstance(line, AccountValuesSubscription):
            line.listener.value(
                model.AccountValue(
                    account=values.name(account),
                    tag=values.name(tag),
                    value=values.amount_text(value),
                    currency=values.name(currency),
                )
            )

    def accountSummaryEnd(self, reqId: int) -> None:
        line = self._subscriptions.get(reqId)
        if isinstance(line, AccountValuesSubscription):
            line.listener.listed()

    def pnl(self, reqId: int, daily: float, unrealized: float, realized: float) -> None:
        line = self._subscriptions.get(reqId)
        if isinstance(line, PnLSubscription):
            line.listener(
                model.PnL(
                    account=line.account,
                    daily=number(daily),
                    unrealized=number(unrealized),
                    realized=number(realized),
                )
            )

    def pnlSingle(
        self,
        reqId: int,
        position: float,
        daily: float,
        unrealized: float,
        realized: float,
        value: float,
    ) -> None:
        line = self._subscriptions.get(reqId)
        if isinstance(line, PnLSubscription):
            line.listener(
                model.PnL(
                    account=line.account,
                    con_id=line.con_id,
                    position=number(position),
                    daily=number(daily),
                    unrealized=number(unrealized),
                    realized=number(realized),
                    value=number(value),
                )
            )

    # market data ------------------------------------------------------------------------------

    def _tick(self, reqId: int, tick: model.Tick) -> None:
        line = self._subscriptions.get(reqId)
        if isinstance(line, MarketDataLine):
            line.tick(tick)

    def priceSizeTick(self, reqId: int, tickType: int, price: float, size: float) -> None:
        field, delayed = name_of(tickType)
        self._tick(
            reqId,
            model.PriceTick(
                field,
                values.tick_price(field, price, size),
                values.size(size) if field in SIZE_OF_PRICE else None,
                delayed,
            ),
        )

    def tickSize(self, reqId: int, tickType: int, size: float) -> None:
        field, delayed = name_of(tickType)
        self._tick(reqId, model.SizeTick(field, values.size(size), delayed))

    def tickGeneric(self, reqId: int, tickType: int, value: float) -> None:
        field, delayed = name_of(tickType)
        self._tick(reqId, model.ValueTick(field, values.tick_value(field, value), delayed))

    def tickString(self, reqId: int, tickType: int, value: str) -> None:
        field, delayed = name_of(tickType)
        self._tick(reqId, model.ValueTick(field, values.tick_value(field, value), delayed))

    def tickOptionComputation(
        self,
        reqId: int,
        tickType: int,
        attribute: int,
        impliedVol: float,
        delta: float,
        optPrice: float,
        pvDividend: float,
        gamma: float,
        vega: float,
        theta: float,
        undPrice: float,
    ) -> None:
        field, delayed = name_of(tickType)
        self._tick(
            reqId,
            model.OptionTick(
                field,
                values.above_zero(impliedVol),
                values.computed_delta(delta),
                values.computed(gamma, -2.0),
                values.computed(vega, -2.0),
                values.computed(theta, -2.0),
                values.computed_size(optPrice),
                values.computed_size(pvDividend),
                values.above_zero(undPrice),
                delayed,
            ),
        )

    def marketDataType(self, reqId: int, kind: int) -> None:
        line = self._subscriptions.get(reqId)
        if isinstance(line, MarketDataLine):
            line.listener.market_data_type(model.MarketDataType(kind))


def _what(number: int, fields: list[str]) -> str:
    return "/".join(fields[place] for place in _WHICH.get(number, (1, 2)) if place < len(fields))


def _is_day(text: str) -> bool:
    return broker_time.day(text) is not None
