"""The broker's messages, decoded by the client library, turned into values and passed on.

Method names are those of the broker's own wrapper; the library's decoder calls them. None of them
may raise.
"""
# ruff: noqa: N802, N803, D102

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge import model
from bridge.tws import convert
from bridge.tws.convert import number
from bridge.tws.link import Link
from bridge.tws.messages import Messages
from bridge.tws.requests import CURRENT_TIME
from bridge.tws.subscriptions import MarketDataFlow, PnLFlow, Subscriptions
from bridge.tws.ticks import SIZE_OF_PRICE, name_of

if TYPE_CHECKING:
    from bridge.tws.supervisor import Starting

NO_PRICE = -1.0


class Callbacks:
    """One for each connection; ids and keys are looked up in what outlives it."""

    def __init__(
        self, link: Link, subscriptions: Subscriptions, messages: Messages, starting: Starting
    ) -> None:
        self._link = link
        self._requests = link.requests
        self._events = link.events
        self._subscriptions = subscriptions
        self._messages = messages
        self._starting = starting

    # the session ------------------------------------------------------------------------------

    def nextValidId(self, orderId: int) -> None:
        link = self._link
        link.next_valid_id = orderId
        link.next_order_id = max(orderId, link.next_order_id or 0)
        self._starting.seen(order_id=True)

    def managedAccounts(self, accounts: str) -> None:
        self._link.accounts = tuple(name for name in accounts.split(",") if name)
        self._starting.seen(accounts=True)

    def currentTime(self, seconds: int) -> None:
        self._requests.finish(CURRENT_TIME, seconds)

    def error(self, reqId: int, code: int, text: str, advanced: str = "") -> None:
        self._messages.arrived(reqId, code, text, self._starting)

    # contracts --------------------------------------------------------------------------------

    def contractDetails(self, reqId: int, details: Any) -> None:
        self._requests.add(reqId, convert.from_details(details))

    def contractDetailsEnd(self, reqId: int) -> None:
        self._requests.finish(reqId)

    def symbolSamples(self, reqId: int, descriptions: list[Any]) -> None:
        matches = (
            model.ContractMatch(
                contract=convert.from_contract(each.contract),
                description=getattr(each.contract, "description", ""),
                derivative_sec_types=tuple(each.derivativeSecTypes),
            )
            for each in descriptions
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
                exchange=exchange,
                underlying_con_id=int(underlyingConId),
                trading_class=tradingClass,
                multiplier=multiplier,
                expirations=tuple(sorted(expirations)),
                strikes=tuple(sorted(strikes)),
            ),
        )

    def securityDefinitionOptionParameterEnd(self, reqId: int) -> None:
        self._requests.finish(reqId)

    def marketRule(self, ruleId: int, increments: list[Any]) -> None:
        steps = [
            model.PriceIncrement(low_edge=i.lowEdge, increment=i.increment) for i in increments
        ]
        steps.sort(key=lambda step: step.low_edge)
        self._requests.finish(f"market-rule-{ruleId}", *steps)

    # history ----------------------------------------------------------------------------------

    def historicalData(self, reqId: int, bar: Any) -> None:
        self._requests.add(reqId, convert.from_bar(bar))

    def historicalDataEnd(self, reqId: int, start: str, end: str) -> None:
        self._requests.finish(reqId)

    def headTimestamp(self, reqId: int, timestamp: str) -> None:
        self._requests.finish(reqId, timestamp)

    # orders -----------------------------------------------------------------------------------

    def openOrder(self, orderId: int, contract: Any, order: Any, state: Any) -> None:
        opened = model.OpenOrder(
            order_id=orderId,
            contract=convert.from_contract(contract),
            order=convert.from_order(order),
            state=convert.from_order_state(state),
        )
        if order.whatIf:
            self._requests.finish(orderId, opened.state)
            return
        self._requests.add("open-orders", opened)
        self._events.open_order.emit(opened)

    def openOrderEnd(self) -> None:
        self._requests.finish("open-orders")

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
                order_id=orderId,
                status=status,
                filled=filled,
                remaining=remaining,
                average_fill_price=avgFillPrice,
                perm_id=permId,
                parent_id=parentId,
                last_fill_price=lastFillPrice,
                client_id=clientId,
                why_held=whyHeld,
            )
        )

    def completedOrder(self, contract: Any, order: Any, state: Any) -> None:
        self._requests.add(
            "completed-orders",
            model.OpenOrder(
                order_id=order.orderId,
                contract=convert.from_contract(contract),
                order=convert.from_order(order),
                state=convert.from_order_state(state),
            ),
        )

    def completedOrdersEnd(self) -> None:
        self._requests.finish("completed-orders")

    def execDetails(self, reqId: int, contract: Any, execution: Any) -> None:
        fill = convert.from_execution(contract, execution)
        self._requests.add(reqId, fill)
        self._events.execution.emit(fill)

    def execDetailsEnd(self, reqId: int) -> None:
        self._requests.finish(reqId)

    def commissionReport(self, report: Any) -> None:
        self._events.commission.emit(convert.from_commission(report))

    # the account ------------------------------------------------------------------------------

    def position(self, account: str, contract: Any, quantity: float, averageCost: float) -> None:
        self._requests.add(
            "positions",
            model.Position(
                account=account,
                contract=convert.from_contract(contract),
                quantity=quantity,
                average_cost=averageCost,
            ),
        )

    def positionEnd(self) -> None:
        self._requests.finish("positions")

    def accountSummary(self, reqId: int, account: str, tag: str, value: str, currency: str) -> None:
        self._requests.add(
            reqId, model.AccountValue(account=account, tag=tag, value=value, currency=currency)
        )

    def accountSummaryEnd(self, reqId: int) -> None:
        self._requests.finish(reqId)

    def pnl(self, reqId: int, daily: float, unrealized: float, realized: float) -> None:
        flow = self._subscriptions.flow(reqId)
        if isinstance(flow, PnLFlow):
            flow.listener(
                model.PnL(
                    account=flow.account,
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
        flow = self._subscriptions.flow(reqId)
        if isinstance(flow, PnLFlow):
            flow.listener(
                model.PnL(
                    account=flow.account,
                    con_id=flow.con_id,
                    position=number(position),
                    daily=number(daily),
                    unrealized=number(unrealized),
                    realized=number(realized),
                    value=number(value),
                )
            )

    # market data ------------------------------------------------------------------------------

    def _tick(self, reqId: int, tick: model.Tick) -> None:
        flow = self._subscriptions.flow(reqId)
        if isinstance(flow, MarketDataFlow):
            flow.tick(tick)

    def priceSizeTick(self, reqId: int, tickType: int, price: float, size: float) -> None:
        field, delayed = name_of(tickType)
        missing = price == NO_PRICE and not size
        self._tick(
            reqId,
            model.PriceTick(
                field,
                None if missing else price,
                size if field in SIZE_OF_PRICE else None,
                delayed,
            ),
        )

    def tickSize(self, reqId: int, tickType: int, size: float) -> None:
        field, delayed = name_of(tickType)
        self._tick(reqId, model.SizeTick(field, size, delayed))

    def tickGeneric(self, reqId: int, tickType: int, value: float) -> None:
        field, delayed = name_of(tickType)
        self._tick(reqId, model.ValueTick(field, value, delayed))

    def tickString(self, reqId: int, tickType: int, value: str) -> None:
        field, delayed = name_of(tickType)
        self._tick(reqId, model.ValueTick(field, value, delayed))

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
        # Not computed yet: -1 for a value that cannot be negative, -2 for one that can.
        self._tick(
            reqId,
            model.OptionTick(
                field,
                _computed(impliedVol, -1.0),
                _computed(delta, -2.0),
                _computed(gamma, -2.0),
                _computed(vega, -2.0),
                _computed(theta, -2.0),
                _computed(optPrice, -1.0),
                _computed(pvDividend, -1.0),
                _computed(undPrice, -1.0),
                delayed,
            ),
        )

    def marketDataType(self, reqId: int, kind: int) -> None:
        flow = self._subscriptions.flow(reqId)
        if isinstance(flow, MarketDataFlow):
            flow.listener.market_data_type(model.MarketDataType(kind))

    def tickReqParams(self, reqId: int, minTick: float, bboExchange: str, permissions: int) -> None:
        """Nothing: the tick comes from the market rule."""

    def tickSnapshotEnd(self, reqId: int) -> None:
        """Nothing: no snapshots are asked for."""


def _computed(value: float, missing: float) -> float | None:
    return None if value == missing else number(value)
