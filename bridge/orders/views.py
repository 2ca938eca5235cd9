"""Orders as clients see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from bridge.model import Contract, Order, OrderCondition, OrderState
from bridge.orders.errors import Violation
from bridge.orders.order_types import order_type
from bridge.store.executions import ExecutionRow
from bridge.store.orders import OrderEvent, OrderRecord, State, Status
from bridge.tws.broker_codes import order_advice


class AlgoView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The broker's algorithm that works an order."""

    strategy: str
    priority: str | None = None


class ConditionView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A condition of an order: a price of the contract `conId`, or a time."""

    con_id: int | None = None
    above: float | None = None
    below: float | None = None
    after: str | None = None
    before: str | None = None
    join: str = "and"


class ComboLegView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of a combination."""

    con_id: int
    ratio: int
    action: str
    exchange: str


class FillView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was filled of one contract; of a combination there is one for the whole and each leg.

    `commission` is the sum of those that the broker has sent; the whole of a combination has none
    of its own.
    """

    con_id: int
    sec_type: str
    local_symbol: str
    side: str
    quantity: float
    average_price: float
    commission: float | None = None
    currency: str = ""


class OrderView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One order.

    `state` is how much the journal is sure of (`intention`, `sent`, `acknowledged`, `unknown`,
    `terminal`), `status` where the order is (`PendingSubmit`, `PreSubmitted`, `Submitted`,
    `PendingCancel`, `Inactive`, `Filled`, `Cancelled`, `Rejected`, `NotSent`, `Unknown`). `pending`
    names a change that the broker has not answered. `legs` are the other orders of a bracket.
    `journaled` is false when this is the broker's word and the journal does not hold it yet.
    An order of another client's has the role `other`, an `orderId` of its `permId`, and no
    `createdAt`.
    """

    order_id: str
    state: State
    status: Status
    symbol: str
    sec_type: str
    con_id: int
    exchange: str
    currency: str
    action: str
    quantity: float
    order_type: str
    tif: str
    account: str
    filled: float
    remaining: float
    order_ref: str
    broker_order_id: int
    perm_id: int
    client_id: int
    role: str
    group_id: str
    created_at: datetime | None
    updated_at: datetime
    limit_price: float | None = None
    stop_price: float | None = None
    trail_amount: float | None = None
    trail_percent: float | None = None
    trail_stop_price: float | None = None
    limit_offset: float | None = None
    cash_quantity: float | None = None
    algo: AlgoView | None = None
    conditions: tuple[ConditionView, ...] = ()
    conditions_action: str | None = None
    combo_legs: tuple[ComboLegView, ...] = ()
    outside_rth: bool = False
    expiration: str | None = None
    strike: float | None = None
    right: str | None = None
    multiplier: str | None = None
    local_symbol: str = ""
    trading_class: str = ""
    good_till_date: str | None = None
    good_after_time: str | None = None
    oca_group: str | None = None
    average_price: float | None = None
    pending: str | None = None
    parent_id: str | None = None
    broker_code: int | None = None
    broker_text: str | None = None
    warning: str | None = None
    next_step: str | None = None
    sent_at: datetime | None = None
    acknowledged_at: datetime | None = None
    ended_at: datetime | None = None
    label: str = ""
    journaled: bool = True
    legs: tuple[OrderView, ...] = ()


class TargetOrder(OrderView, frozen=True, kw_only=True, rename="camel"):
    """An order that a position lacked, and those that were cancelled for it before."""

    cancelled: tuple[str, ...] = ()


class OrderDetail(OrderView, frozen=True, kw_only=True, rename="camel"):
    """One order with its history, and what was filled by contract."""

    fills: tuple[FillView, ...] = ()
    history: tuple[OrderEvent, ...] = ()


class OrderGroup(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The orders of one OCA request."""

    group_id: str
    oca_group: str
    orders: tuple[OrderView, ...]


class OrdersPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Orders, the newest first; `nextCursor` leads to older ones."""

    orders: tuple[OrderView, ...]
    next_cursor: str | None = None


class Preview(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an order would do, without placing it.

    `violations` are the rules it would break; margin and commission are the broker's what-if. Of a
    combination `referencePrice` is the net price of its legs, `notional` the money in all of them,
    and `net` says what is paid or received. `maxLoss` is what an option or a combination can lose
    at the most until it expires, null where that has no bound or is not defined.
    """

    accepted: bool
    symbol: str
    sec_type: str
    con_id: int
    action: str
    quantity: float
    order_type: str
    account: str
    currency: str
    limit_price: float | None = None
    stop_price: float | None = None
    reference_price: float | None = None
    notional: float | None = None
    base_notional: float | None = None
    base_currency: str | None = None
    net: str | None = None
    max_loss: float | None = None
    combo_legs: tuple[ComboLegView, ...] = ()
    violations: tuple[Violation, ...] = ()
    commission: float | None = None
    min_commission: float | None = None
    max_commission: float | None = None
    commission_currency: str | None = None
    init_margin_before: float | None = None
    init_margin_change: float | None = None
    init_margin_after: float | None = None
    maint_margin_before: float | None = None
    maint_margin_change: float | None = None
    maint_margin_after: float | None = None
    equity_with_loan_before: float | None = None
    equity_with_loan_change: float | None = None
    equity_with_loan_after: float | None = None
    warning: str | None = None


class DryRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An order that passed every check and was neither written down nor sent."""

    dry_run: bool
    orders: tuple[Preview, ...]


def order_view(record: OrderRecord, legs: tuple[OrderRecord, ...] = ()) -> OrderView:
    """An order (and the other legs of its bracket) as a client sees it."""
    return OrderView(**_members(record), legs=tuple(order_view(leg) for leg in legs))


def order_detail(
    record: OrderRecord,
    legs: list[OrderRecord],
    history: list[OrderEvent],
    executions: list[ExecutionRow],
) -> OrderDetail:
    """The same with every step of its life."""
    others = tuple(order_view(leg) for leg in legs if leg.id != record.id)
    fills = fill_views(executions)
    return OrderDetail(**_members(record), legs=others, fills=fills, history=tuple(history))


def fill_views(rows: list[ExecutionRow]) -> tuple[FillView, ...]:
    """What was filled of each contract, in the order in which it began."""
    by_contract: dict[int, list[ExecutionRow]] = {}
    for row in rows:
        by_contract.setdefault(row.execution.contract.con_id, []).append(row)
    return tuple(_fill(group) for group in by_contract.values())


def _fill(rows: list[ExecutionRow]) -> FillView:
    first = rows[0].execution
    quantity = sum(row.execution.quantity for row in rows)
    money = sum(row.execution.quantity * row.execution.price for row in rows)
    fees = [row.commission for row in rows if row.commission is not None]
    return FillView(
        con_id=first.contract.con_id,
        sec_type=first.contract.sec_type,
        local_symbol=first.contract.local_symbol,
        side={"BOT": "BUY", "SLD": "SELL"}.get(first.side, first.side),
        quantity=quantity,
        average_price=money / quantity if quantity else 0.0,
        commission=round(sum(fees), 6) if fees else None,
        currency=first.contract.currency,
    )


def terms_members(order: Order, contract: Contract) -> dict[str, Any]:
    """What an order of any client has beyond its price and quantity."""
    algo = None
    if order.algo_strategy:
        priority = dict(order.algo_parameters).get("adaptivePriority")
        algo = AlgoView(strategy=order.algo_strategy, priority=priority)
    action = "cancel" if order.conditions_cancel else "submit"
    return {
        "order_type": order_type(order.order_type),
        "trail_amount": order.trail_amount,
        "trail_percent": order.trail_percent,
        "trail_stop_price": order.trail_stop_price,
        "limit_offset": order.limit_offset,
        "cash_quantity": order.cash_quantity,
        "algo": algo,
        "conditions": tuple(_condition(each) for each in order.conditions),
        "conditions_action": action if order.conditions else None,
        "combo_legs": combo_leg_views(contract),
        "good_after_time": order.good_after_time or None,
    }


def combo_leg_views(contract: Contract) -> tuple[ComboLegView, ...]:
    """The parts of a combination; none of anything else."""
    return tuple(ComboLegView(**msgspec.structs.asdict(leg)) for leg in contract.legs)


def _condition(condition: OrderCondition) -> ConditionView:
    on_price = condition.price is not None
    value: Any = condition.price if on_price else condition.time
    side = (
        ("above" if condition.above else "below")
        if on_price
        else ("after" if condition.above else "before")
    )
    view: dict[str, Any] = {side: value, "join": "and" if condition.joined_by_and else "or"}
    return ConditionView(con_id=condition.con_id if on_price else None, **view)


def what_if_members(state: OrderState) -> dict[str, Any]:
    """The members of a preview that the broker fills in."""
    names = set(Preview.__struct_fields__) & set(OrderState.__struct_fields__)
    members: dict[str, Any] = {name: getattr(state, name) for name in names}
    members["commission_currency"] = state.commission_currency or None
    members["warning"] = state.warning_text or None
    return members


def contract_members(contract: Contract) -> dict[str, Any]:
    """What every view of an order or a fill says of its contract; what it has not is null."""
    return {
        "symbol": contract.symbol,
        "sec_type": contract.sec_type,
        "con_id": contract.con_id,
        "exchange": contract.exchange,
        "currency": contract.currency,
        "expiration": contract.expiration or None,
        "strike": contract.strike,
        "right": contract.right,
        "multiplier": contract.multiplier or None,
        "local_symbol": contract.local_symbol,
        "trading_class": contract.trading_class,
    }


_OF_RECORD: Final = tuple(
    name
    for name in OrderRecord.__struct_fields__
    if name in OrderView.__struct_fields__ and name != "pending"
)
_OF_TERMS: Final = ("action", "quantity", "limit_price", "stop_price", "tif", "outside_rth")


def _members(record: OrderRecord) -> dict[str, Any]:
    terms = record.terms
    return {
        **contract_members(record.contract),
        **{name: getattr(terms, name) for name in _OF_TERMS},
        **{name: getattr(record, name) for name in _OF_RECORD},
        "order_id": record.id,
        **terms_members(terms, record.contract),
        "good_till_date": terms.good_till_date or None,
        "oca_group": terms.oca_group or None,
        "remaining": record.remaining,
        "pending": _pending(record),
        "broker_code": record.reject_code,
        "broker_text": record.reject_text,
        "next_step": next_step(record),
    }


def _pending(record: OrderRecord) -> str | None:
    if record.pending is None:
        return None
    return "cancel" if record.pending.terms is None else "change"


def next_step(record: OrderRecord) -> str | None:
    """What a person should do about this order, if anything."""
    if record.state is State.UNKNOWN:
        return "Look in TWS or the Client Portal, then settle it: POST /order/{id}/settle"
    if record.status is Status.NOT_SENT:
        return "It was never sent: send it again if you still want it"
    if record.reject_code is not None:
        return order_advice(record.reject_code)
    return None
