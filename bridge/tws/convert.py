"""Between the client library's mutable objects and the bridge's own values.

The library marks "no value" with the largest double or int; here that is ``None``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bridge import model
from bridge.tws.client import (
    UNSET_DOUBLE,
    UNSET_INTEGER,
    contract_object,
    execution_filter_object,
    order_object,
)


def number(value: Any) -> float | None:
    """A float, or None for the library's and the broker's ways to say nothing."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    if result >= UNSET_DOUBLE or result == UNSET_INTEGER or result != result:
        return None
    return result


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
    )


def from_contract(contract: Any) -> model.Contract:
    """The library's contract as ours."""
    right = contract.right[:1].upper()
    return model.Contract(
        con_id=contract.conId,
        symbol=contract.symbol,
        sec_type=contract.secType,
        exchange=contract.exchange,
        currency=contract.currency,
        primary_exchange=contract.primaryExchange,
        local_symbol=contract.localSymbol,
        trading_class=contract.tradingClass,
        expiration=contract.lastTradeDateOrContractMonth,
        strike=number(contract.strike) or None,
        right=right if right in ("C", "P") else None,
        multiplier=str(contract.multiplier),
        include_expired=contract.includeExpired,
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def from_details(details: Any) -> model.ContractDetails:
    """The library's contract details as ours."""
    return model.ContractDetails(
        contract=from_contract(details.contract),
        long_name=details.longName,
        market_name=details.marketName,
        min_tick=details.minTick,
        price_magnifier=details.priceMagnifier,
        order_types=_words(details.orderTypes),
        valid_exchanges=_words(details.validExchanges),
        market_rule_ids=tuple(int(word) for word in _words(details.marketRuleIds)),
        under_con_id=details.underConId,
        under_symbol=details.underSymbol,
        contract_month=details.contractMonth,
        real_expiration=details.realExpirationDate,
        last_trade_time=details.lastTradeTime,
        time_zone=details.timeZoneId,
        trading_hours=details.tradingHours,
        liquid_hours=details.liquidHours,
        min_size=_positive(getattr(details, "minSize", None)),
        size_increment=_positive(getattr(details, "sizeIncrement", None)),
        suggested_size_increment=_positive(getattr(details, "suggestedSizeIncrement", None)),
        stock_type=details.stockType,
        industry=details.industry,
        category=details.category,
        subcategory=details.subcategory,
    )


def _positive(value: Any) -> float | None:
    result = number(value)
    return result if result and result > 0 else None


def to_order(order: model.Order) -> Any:
    """Our order as the library's; only what is set, so that the library's defaults stand."""
    optional = {
        "lmtPrice": order.limit_price,
        "auxPrice": order.stop_price,
        "trailingPercent": order.trailing_percent,
        "trailStopPrice": order.trail_stop_price,
    }
    return order_object(
        orderId=order.order_id,
        clientId=order.client_id,
        permId=order.perm_id,
        parentId=order.parent_id,
        action=order.action,
        totalQuantity=order.quantity,
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
    )


def from_order(order: Any) -> model.Order:
    """The library's order as ours."""
    return model.Order(
        order_id=order.orderId,
        client_id=order.clientId,
        perm_id=order.permId,
        parent_id=order.parentId,
        action="SELL" if order.action.startswith("S") else "BUY",
        quantity=float(order.totalQuantity),
        order_type=order.orderType,
        limit_price=number(order.lmtPrice),
        stop_price=number(order.auxPrice),
        trailing_percent=number(order.trailingPercent),
        trail_stop_price=number(order.trailStopPrice),
        tif=order.tif,
        good_till_date=order.goodTillDate,
        good_after_time=order.goodAfterTime,
        outside_rth=order.outsideRth,
        account=order.account,
        order_ref=order.orderRef,
        oca_group=order.ocaGroup,
        oca_type=order.ocaType,
        all_or_none=order.allOrNone,
        hidden=order.hidden,
        what_if=order.whatIf,
        filled_quantity=number(order.filledQuantity),
    )


def from_order_state(state: Any) -> model.OrderState:
    """The library's order state as ours; its margins are texts."""
    return model.OrderState(
        status=state.status,
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
        commission_currency=state.commissionCurrency,
        warning_text=state.warningText,
        completed_time=state.completedTime,
        completed_status=state.completedStatus,
    )


def from_execution(contract: Any, execution: Any) -> model.Execution:
    """The library's fill as ours; its time is aware already."""
    return model.Execution(
        exec_id=execution.execId,
        time=execution.time.astimezone(UTC),
        contract=from_contract(contract),
        account=execution.acctNumber,
        side=execution.side,
        quantity=float(execution.shares),
        price=execution.price,
        exchange=execution.exchange,
        perm_id=execution.permId,
        client_id=execution.clientId,
        order_id=execution.orderId,
        order_ref=execution.orderRef,
        cumulative_quantity=float(execution.cumQty),
        average_price=execution.avgPrice,
        liquidation=execution.liquidation,
        last_liquidity=execution.lastLiquidity,
    )


def from_commission(report: Any) -> model.CommissionReport:
    """The library's commission report as ours."""
    return model.CommissionReport(
        exec_id=report.execId,
        commission=report.commission,
        currency=report.currency,
        realized_pnl=number(report.realizedPNL),
    )


def from_bar(bar: Any) -> model.Bar:
    """The library's bar as ours.

    Asked for with format 2, its date is epoch seconds or ``YYYYMMDD``.
    """
    text = str(bar.date)
    day = len(text) == 8
    if day:
        time = datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
    else:
        time = datetime.fromtimestamp(int(text), UTC)
    return model.Bar(
        time=time,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=_counted(bar.volume),
        average=_counted(bar.average),
        count=None if bar.barCount < 0 else bar.barCount,
        date=text if day else "",
    )


def _counted(value: Any) -> float | None:
    result = number(value)
    return None if result is None or result < 0 else result


def moment(value: datetime | None) -> str:
    """A moment in the broker's UTC notation; empty for none."""
    return value.astimezone(UTC).strftime("%Y%m%d-%H:%M:%S") if value else ""


def parse_moment(text: str) -> datetime:
    """Epoch seconds, or ``YYYYMMDD-HH:MM:SS`` in UTC."""
    if text.isdigit() and len(text) > 8:
        return datetime.fromtimestamp(int(text), UTC)
    digits = text.replace(" ", "-").replace("--", "-")
    pattern = "%Y%m%d-%H:%M:%S" if "-" in digits else "%Y%m%d"
    return datetime.strptime(digits, pattern).replace(tzinfo=UTC)


def to_filter(query: model.ExecutionFilter) -> Any:
    """Our execution filter as the library's."""
    return execution_filter_object(
        clientId=query.client_id,
        acctCode=query.account,
        time=moment(query.since),
        symbol=query.symbol,
        secType=query.sec_type,
        exchange=query.exchange,
        side=query.side,
    )
