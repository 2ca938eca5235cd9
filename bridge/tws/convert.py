"""Between the client library's mutable objects and the bridge's own values.

What the broker and the library send for "no value" is cleaned by ``bridge.tws.values``.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from bridge import broker_time, model
from bridge.broker_time import zone_of_exchange
from bridge.tws import values
from bridge.tws.client import (
    combo_leg_object,
    contract_object,
    order_object,
    price_condition_object,
    tag_value_object,
    time_condition_object,
)
from bridge.tws.values import number


def _day(text: str) -> str:
    """The date of an expiry such as `20250919 10:15:00 GB`; a month stays one."""
    name = values.name(text)
    found = re.match(r"\d{8}|\d{6}", name)
    return found[0] if found else name


def to_contract(contract: model.Contract) -> Any:
    """Our contract as the library's."""
    return contract_object(
        conId=contract.con_id,
        symbol=contract.symbol,
        secType=contract.sec_type,
        lastTradeDateOrContractMonth=contract.expiration,
        strike=contract.strike or 0.0,
        right=contract.right or "",
        multiplier=contract.multiplier,
        exchange=contract.exchange,
        primaryExchange=contract.primary_exchange,
        currency=contract.currency,
        localSymbol=contract.local_symbol,
        tradingClass=contract.trading_class,
        includeExpired=contract.include_expired,
        comboLegs=[
            combo_leg_object(
                conId=leg.con_id, ratio=leg.ratio, action=leg.action, exchange=leg.exchange
            )
            for leg in contract.legs
        ],
    )


def from_contract(contract: Any) -> model.Contract:
    """The library's contract as ours."""
    right = contract.right[:1].upper()
    return model.Contract(
        con_id=values.identifier(contract.conId),
        symbol=values.name(contract.symbol),
        sec_type=values.name(contract.secType),
        exchange=values.name(contract.exchange),
        currency=values.name(contract.currency),
        primary_exchange=values.name(contract.primaryExchange),
        local_symbol=values.name(contract.localSymbol),
        trading_class=values.name(contract.tradingClass),
        expiration=_day(contract.lastTradeDateOrContractMonth),
        strike=values.above_zero(contract.strike),
        right=right if right in ("C", "P") else None,
        multiplier=values.name(contract.multiplier),
        include_expired=contract.includeExpired,
        legs=tuple(_leg(each) for each in contract.comboLegs or ()),
    )


def _leg(leg: Any) -> model.ComboLeg:
    return model.ComboLeg(
        con_id=values.identifier(leg.conId),
        ratio=values.identifier(leg.ratio),
        action="SELL" if leg.action.startswith("S") else "BUY",
        exchange=values.name(leg.exchange),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in values.text(text, values.LONGEST_LIST).split(",") if word)


def from_details(details: Any) -> model.ContractDetails:
    """The library's contract details as ours; a ``min_tick`` of 0 is unknown."""
    return model.ContractDetails(
        contract=from_contract(details.contract),
        long_name=values.text(details.longName),
        market_name=values.name(details.marketName),
        min_tick=values.above_zero(details.minTick) or 0.0,
        price_magnifier=max(1, values.identifier(details.priceMagnifier)),
        order_types=_words(details.orderTypes),
        valid_exchanges=_words(details.validExchanges),
        market_rule_ids=tuple(values.identifier(word) for word in _words(details.marketRuleIds)),
        under_con_id=values.identifier(details.underConId),
        under_symbol=values.name(details.underSymbol),
        contract_month=values.name(details.contractMonth),
        real_expiration=values.name(details.realExpirationDate),
        last_trade_time=values.name(details.lastTradeTime),
        time_zone=values.name(details.timeZoneId),
        trading_hours=values.text(details.tradingHours, values.LONGEST_LIST),
        liquid_hours=values.text(details.liquidHours, values.LONGEST_LIST),
        min_size=_step(details, "minSize"),
        size_increment=_step(details, "sizeIncrement"),
        suggested_size_increment=_step(details, "suggestedSizeIncrement"),
        stock_type=values.name(details.stockType),
        industry=values.text(details.industry),
        category=values.text(details.category),
        subcategory=values.text(details.subcategory),
    )


def _step(details: Any, name: str) -> float | None:
    return values.above_zero(getattr(details, name, None))


TRAILING = frozenset({"TRAIL", "TRAIL LIMIT"})
PEGGED = frozenset({"REL", "PEG MID"})
_STOPS = frozenset({"STP", "STP LMT", "MIT", "LIT"})
EXERCISE_ACTIONS = {"EXERCISE": 1, "LAPSE": 2}
"""What is no order on the wire, but an instruction with a message of its own."""
_NON_GUARANTEED = "NonGuaranteed"
_PRICE_CONDITION, _TIME_CONDITION = 1, 3


def to_order(order: model.Order) -> Any:
    """Our order as the library's; only what is set, so that the library's defaults stand.

    The broker has one field for the price of a stop, the distance of a trailing one, and the offset
    of a pegged order.
    """
    pegged = order.limit_offset if order.order_type in PEGGED else None
    optional = {
        "lmtPrice": order.limit_price,
        "auxPrice": next(
            (each for each in (order.stop_price, order.trail_amount, pegged) if each is not None),
            None,
        ),
        "trailingPercent": order.trail_percent,
        "trailStopPrice": order.trail_stop_price,
        "lmtPriceOffset": order.limit_offset if pegged is None else None,
        "cashQty": order.cash_quantity,
    }
    more: dict[str, Any] = {}
    if order.algo_strategy:
        pairs = [tag_value_object(tag, value) for tag, value in order.algo_parameters]
        more |= {"algoStrategy": order.algo_strategy, "algoParams": pairs}
    if order.conditions:
        more["conditions"] = [_to_condition(each) for each in order.conditions]
        more["conditionsCancelOrder"] = order.conditions_cancel
        more["conditionsIgnoreRth"] = order.conditions_outside_rth
    if order.non_guaranteed is not None:
        word = "1" if order.non_guaranteed else "0"
        more["smartComboRoutingParams"] = [tag_value_object(_NON_GUARANTEED, word)]
    return order_object(
        orderId=order.order_id,
        clientId=order.client_id,
        permId=order.perm_id,
        parentId=order.parent_id,
        action=order.action,
        totalQuantity=order.quantity if order.cash_quantity is None else 0.0,
        orderType=order.order_type,
        tif=order.tif,
        goodTillDate=order.good_till_date,
        goodAfterTime=order.good_after_time,
        outsideRth=order.outside_rth,
        account=order.account,
        orderRef=order.order_ref,
        ocaGroup=order.oca_group,
        ocaType=order.oca_type,
        allOrNone=order.all_or_none,
        hidden=order.hidden,
        transmit=order.transmit,
        whatIf=order.what_if,
        **{name: value for name, value in optional.items() if value is not None},
        **more,
    )


def _to_condition(condition: model.OrderCondition) -> Any:
    joined = "a" if condition.joined_by_and else "o"
    if condition.price is None:
        return time_condition_object(
            conjunction=joined, isMore=condition.above, time=condition.time
        )
    return price_condition_object(
        conjunction=joined,
        isMore=condition.above,
        price=condition.price,
        conId=condition.con_id,
        exch=condition.exchange,
        triggerMethod=condition.method,
    )


def _from_conditions(conditions: Any) -> tuple[model.OrderCondition, ...]:
    """Those on prices and times; the bridge places no others."""
    found = []
    for each in conditions or ():
        joined = str(each.conjunction).lower() != "o"
        if each.condType == _TIME_CONDITION:
            found.append(
                model.OrderCondition(
                    time=values.name(each.time), above=bool(each.isMore), joined_by_and=joined
                )
            )
        elif each.condType == _PRICE_CONDITION:
            found.append(
                model.OrderCondition(
                    con_id=values.identifier(each.conId),
                    exchange=values.name(each.exch),
                    price=values.price(each.price),
                    above=bool(each.isMore),
                    method=values.identifier(each.triggerMethod),
                    joined_by_and=joined,
                )
            )
    return tuple(found)


def from_order(order: Any) -> model.Order:
    """The library's order as ours."""
    kind = values.name(order.orderType)
    beside = values.price(order.auxPrice)
    offset = values.price(order.lmtPriceOffset) if kind == "TRAIL LIMIT" else None
    routing = {each.tag: each.value for each in order.smartComboRoutingParams or ()}
    return model.Order(
        order_id=values.identifier(order.orderId),
        client_id=values.identifier(order.clientId),
        perm_id=values.identifier(order.permId),
        parent_id=values.identifier(order.parentId),
        action="SELL" if order.action.startswith("S") else "BUY",
        quantity=values.size(order.totalQuantity) or 0.0,
        order_type=kind,
        limit_price=values.price(order.lmtPrice) if offset is None else None,
        stop_price=beside if kind in _STOPS else None,
        trail_amount=values.above_zero(beside) if kind in TRAILING else None,
        trail_percent=values.above_zero(number(order.trailingPercent)),
        trail_stop_price=values.price(order.trailStopPrice) if kind in TRAILING else None,
        limit_offset=beside if kind in PEGGED else offset,
        cash_quantity=values.above_zero(order.cashQty),
        tif=values.name(order.tif),
        good_till_date=values.name(order.goodTillDate),
        good_after_time=values.name(order.goodAfterTime),
        outside_rth=order.outsideRth,
        account=values.name(order.account),
        order_ref=values.name(order.orderRef),
        oca_group=values.name(order.ocaGroup),
        oca_type=values.identifier(order.ocaType),
        all_or_none=order.allOrNone,
        hidden=order.hidden,
        algo_strategy=values.name(order.algoStrategy),
        algo_parameters=tuple(
            (values.name(each.tag), values.name(each.value)) for each in order.algoParams or ()
        ),
        conditions=_from_conditions(order.conditions),
        conditions_cancel=bool(order.conditionsCancelOrder),
        conditions_outside_rth=bool(order.conditionsIgnoreRth),
        non_guaranteed=(routing[_NON_GUARANTEED] == "1" if _NON_GUARANTEED in routing else None),
        what_if=order.whatIf,
        filled_quantity=values.size(order.filledQuantity),
    )


def from_order_state(state: Any) -> model.OrderState:
    """The library's order state as ours; its margins are texts."""
    return model.OrderState(
        status=values.name(state.status),
        init_margin_before=number(state.initMarginBefore),
        init_margin_change=number(state.initMarginChange),
        init_margin_after=number(state.initMarginAfter),
        maint_margin_before=number(state.maintMarginBefore),
        maint_margin_change=number(state.maintMarginChange),
        maint_margin_after=number(state.maintMarginAfter),
        equity_with_loan_before=number(state.equityWithLoanBefore),
        equity_with_loan_change=number(state.equityWithLoanChange),
        equity_with_loan_after=number(state.equityWithLoanAfter),
        commission=number(state.commission),
        min_commission=number(state.minCommission),
        max_commission=number(state.maxCommission),
        commission_currency=values.name(state.commissionCurrency),
        warning_text=values.text(state.warningText),
        completed_time=values.name(state.completedTime),
        completed_status=values.text(state.completedStatus),
    )


def from_execution(
    contract: Any, execution: Any, time: str, zone: str, received: datetime
) -> model.Execution:
    """The library's fill as ours, its `time` as the broker wrote it.

    `zone` is the gateway's. A fill whose time cannot be read is kept, with the moment `received`.

    Raises:
        RefusedError: it has no id, no quantity or no price.
    """
    quantity, price = execution.shares, execution.price
    paid = values.paid(price, contract.secType)
    market = zone_of_exchange(execution.exchange, contract.exchange, contract.currency)
    moment = broker_time.read(time, zone, market)
    return model.Execution(
        exec_id=values.required_name(execution.execId, "execId"),
        time=moment or received,
        contract=from_contract(contract),
        account=values.name(execution.acctNumber),
        side=values.name(execution.side),
        quantity=values.required(values.above_zero(values.size(quantity)), "quantity", quantity),
        price=values.required(paid, "price", price),
        exchange=values.name(execution.exchange),
        perm_id=values.identifier(execution.permId),
        client_id=values.identifier(execution.clientId),
        order_id=values.identifier(execution.orderId),
        order_ref=values.name(execution.orderRef),
        cumulative_quantity=values.size(execution.cumQty) or 0.0,
        average_price=values.average(execution.avgPrice),
        liquidation=values.identifier(execution.liquidation),
        last_liquidity=values.identifier(execution.lastLiquidity),
        time_known=moment is not None,
        time_text="" if moment else values.name(time),
    )


def from_commission(report: Any) -> model.CommissionReport | None:
    """The library's commission report as ours; None while the broker has no commission yet.

    Raises:
        RefusedError: it is of no execution.
    """
    exec_id = values.required_name(report.execId, "execId")
    commission = number(report.commission)
    if commission is None:
        return None
    return model.CommissionReport(
        exec_id=exec_id,
        commission=commission,
        currency=values.name(report.currency),
        realized_pnl=number(report.realizedPNL),
    )


def from_bar(bar: Any, zone: str) -> model.Bar | None:
    """The library's bar as ours; None for one without a time or a price.

    Asked for with format 2, its date is epoch seconds or ``YYYYMMDD``; `zone` is the gateway's.
    """
    text = str(bar.date)
    time = parse_moment(text, zone)
    if time is None:
        return None
    prices = [values.price(each) for each in (bar.open, bar.high, bar.low, bar.close)]
    known = [each for each in prices if each is not None]
    if len(known) < len(prices):
        return None
    return model.Bar(
        time=time,
        open=known[0],
        high=known[1],
        low=known[2],
        close=known[3],
        volume=values.size(bar.volume),
        average=values.size(bar.average),
        count=values.count(bar.barCount),
        date=text if broker_time.day(text) else "",
    )


def parse_moment(text: str, zone: str) -> datetime | None:
    """A moment, or the midnight of a day in UTC's calendar; None for what is neither."""
    return broker_time.day(text) or broker_time.read(text, zone)
