"""From a request to the orders that are sent.

One, the two or three of a bracket, or an OCA group.

Their prices lie on the broker's ladder, in exact decimals. A market rule is a ladder of (low edge,
increment): from the edge upwards prices move in that increment. Prices below zero (spreads, some
futures) use the ladder of their absolute value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from bridge.model import Action, Order, OrderCondition, PriceIncrement
from bridge.orders.contradictions import CLOCK
from bridge.orders.order_types import broker_type
from bridge.orders.request import ChangeRequest, OrderRequest, StopLoss
from bridge.store.orders import OrderRecord

Role = Literal["single", "entry", "take-profit", "stop-loss", "oca"]

CHANGEABLE: Final = (
    "quantity",
    "limit_price",
    "stop_price",
    "trail_amount",
    "trail_percent",
    "trail_stop_price",
    "limit_offset",
    "tif",
    "good_till_date",
    "outside_rth",
)
"""The members of an order that a change may name; all others go out as they are."""
Direction = Literal["down", "up"]


class Leg(Struct, frozen=True, kw_only=True):
    """One order to be: `closing` when it only ends what the entry has begun."""

    role: Role
    order: Order
    closing: bool = False
    label: str = ""


def legs(
    request: OrderRequest,
    account: str,
    ladder: tuple[PriceIncrement, ...],
    conditions: tuple[OrderCondition, ...] = (),
) -> tuple[Leg, ...]:
    """The orders of one request, the entry first; only the last of several is transmitted.

    So the broker holds the entry back until its protection is there too. `conditions` are those of
    the request, their instruments found.
    """
    algo = request.algo
    entry = Order(
        action=request.action,
        quantity=request.quantity or 0.0,
        cash_quantity=request.cash_quantity,
        order_type=broker_type(request.order_type),
        limit_price=request.limit_price,
        stop_price=request.stop_price,
        trail_amount=request.trail_amount,
        trail_percent=request.trail_percent,
        trail_stop_price=request.trail_stop_price,
        limit_offset=request.limit_offset,
        algo_strategy=algo.strategy if algo else "",
        algo_parameters=(("adaptivePriority", algo.priority),) if algo else (),
        conditions=conditions,
        conditions_cancel=request.conditions_action == "cancel",
        conditions_outside_rth=request.conditions_outside_rth,
        non_guaranteed=request.non_guaranteed,
        tif=request.tif,
        good_till_date=request.good_till_date,
        good_after_time=request.good_after_time,
        outside_rth=request.outside_rth,
        account=account,
        oca_group=request.oca_group,
        oca_type=1 if request.oca_group else 0,
        all_or_none=request.all_or_none,
    )
    if request.bracket is None:
        made: tuple[Leg, ...] = (Leg(role="single", order=entry),)
    else:
        held = structs.replace(entry, transmit=False)
        made = (Leg(role="entry", order=held), *_protection(request, entry))
        made = (*made[:-1], _transmitted(made[-1]))
    made = tuple(structs.replace(leg, label=request.label) for leg in made)
    if request.round_to_tick:
        made = tuple(structs.replace(leg, order=rounded(leg.order, ladder)) for leg in made)
    return made


def _protection(request: OrderRequest, entry: Order) -> tuple[Leg, ...]:
    bracket = request.bracket
    if bracket is None:
        return ()
    against: Action = "SELL" if entry.action == "BUY" else "BUY"
    # The exits outlive the day on which the entry fills.
    common = Order(
        action=against,
        quantity=entry.quantity,
        tif="GTC",
        outside_rth=entry.outside_rth,
        account=entry.account,
        all_or_none=entry.all_or_none,
        transmit=False,
    )
    made: list[Leg] = []
    if bracket.take_profit is not None:
        gain = structs.replace(
            common, order_type="LMT", limit_price=bracket.take_profit.limit_price
        )
        made.append(Leg(role="take-profit", order=gain, closing=True))
    if bracket.stop_loss is not None:
        loss = _stop(common, bracket.stop_loss)
        made.append(Leg(role="stop-loss", order=loss, closing=True))
    return tuple(made)


def _stop(common: Order, stop: StopLoss) -> Order:
    if not stop.trails:
        return structs.replace(
            common,
            order_type="STP" if stop.limit_price is None else "STP LMT",
            limit_price=stop.limit_price,
            stop_price=stop.stop_price,
        )
    return structs.replace(
        common,
        order_type="TRAIL" if stop.limit_offset is None else "TRAIL LIMIT",
        trail_amount=stop.trail_amount,
        trail_percent=stop.trail_percent,
        trail_stop_price=stop.stop_price,
        limit_offset=stop.limit_offset,
    )


def _transmitted(leg: Leg) -> Leg:
    return structs.replace(leg, order=structs.replace(leg.order, transmit=True))


def one_cancels_all(leg: Leg, group: str, oca_type: int) -> Leg:
    """The leg as a member of an OCA group."""
    order = structs.replace(leg.order, oca_group=group, oca_type=oca_type)
    return structs.replace(leg, role="oca", order=order)


def named(request: ChangeRequest) -> tuple[str, ...]:
    """The members of an order that this change is about."""
    return tuple(name for name in CHANGEABLE if getattr(request, name) is not None)


def same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a member mean the same: the broker writes some its own way."""
    return same_moment(one, other) if name == "good_till_date" else bool(one == other)


def taken(name: str, wanted: Order, held: Order, before: Order) -> bool:
    """Whether an order has a member as a change asked for it.

    A trailing stop goes on from where it was put, so it may stand further already; one that stands
    where it was before the change does not.
    """
    asked, has = getattr(wanted, name), getattr(held, name)
    if name == "trail_stop_price" and None not in (asked, has, before.trail_stop_price):
        further = has > asked if held.action == "SELL" else has < asked
        return bool(asked == has or (further and has != before.trail_stop_price))
    return same(name, asked, has)


def same_moment(one: str, other: str) -> bool:
    """Whether two times of an order are one, in whatever zone they are written.

    A time without a zone is of the gateway's own, which it names when it repeats the time.
    """
    if one == other:
        return True
    first, second = CLOCK.fullmatch(one), CLOCK.fullmatch(other)
    if first is None or second is None:
        return False
    moments = _moment(first), _moment(second)
    if None not in moments:
        return moments[0] == moments[1]
    zoneless = "-" not in (first[2], second[2]) and None in (first[4], second[4])
    return zoneless and (first[1], first[3]) == (second[1], second[3])


def _moment(clock: re.Match[str]) -> datetime | None:
    """None: its zone is not known."""
    zone, text = "UTC" if clock[2] == "-" else clock[4], f"{clock[1]} {clock[3]}"
    if not zone:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d %H:%M:%S").replace(tzinfo=ZoneInfo(zone))
    except (ValueError, KeyError, OSError):
        return None


def changed(terms: Order, request: ChangeRequest, ladder: tuple[PriceIncrement, ...]) -> Order:
    """The order's new terms. A changed order is always transmitted."""
    asked = {name: getattr(request, name) for name in named(request)}
    if asked.get("tif", "GTD") != "GTD":
        asked["good_till_date"] = ""
    order = structs.replace(terms, **asked, transmit=True)
    return rounded(order, ladder) if request.round_to_tick else order


def newest_terms(record: OrderRecord) -> Order:
    """What the broker last said, with what the changes before this one have asked for since."""
    pending = record.pending
    if pending is None or pending.terms is None:
        return record.terms
    asked = {name: getattr(pending.terms, name) for name in pending.fields or CHANGEABLE}
    return structs.replace(record.terms, **asked)


def rounded(order: Order, ladder: tuple[PriceIncrement, ...]) -> Order:
    """Prices on the tick, to the side that costs nothing: limits inwards, stops outwards."""
    outwards: Direction = "up" if order.action == "BUY" else "down"
    limit, stop, trail = order.limit_price, order.stop_price, order.trail_stop_price
    return structs.replace(
        order,
        limit_price=None if limit is None else cautious(limit, ladder, order.action),
        stop_price=None if stop is None else to_tick(stop, ladder, outwards),
        trail_stop_price=None if trail is None else to_tick(trail, ladder, outwards),
    )


def exact(value: float) -> Decimal:
    """The number a person wrote, not its binary neighbour."""
    return Decimal(repr(value))


def increment_at(price: float, ladder: Sequence[PriceIncrement]) -> Decimal | None:
    """The increment that holds at `price`; None when the ladder says nothing about it."""
    chosen: Decimal | None = None
    for step in ladder:
        if step.increment > 0 and exact(step.low_edge) <= abs(exact(price)):
            chosen = exact(step.increment)
    return chosen


def on_tick(price: float, ladder: Sequence[PriceIncrement]) -> bool:
    """Whether the broker would take this price."""
    increment = increment_at(price, ladder)
    return increment is None or exact(price) % increment == 0


def to_tick(price: float, ladder: Sequence[PriceIncrement], direction: Direction) -> float:
    """The nearest allowed price at or below (`down`) or at or above (`up`) this one."""
    increment = increment_at(price, ladder)
    if increment is None or on_tick(price, ladder):
        return price
    rounding = ROUND_FLOOR if direction == "down" else ROUND_CEILING
    steps = (exact(price) / increment).to_integral_value(rounding=rounding)
    return float(steps * increment)


def cautious(price: float, ladder: Sequence[PriceIncrement], action: str) -> float:
    """Rounded so that it never pays more or takes less than was asked for."""
    return to_tick(price, ladder, "down" if action == "BUY" else "up")


def is_multiple(value: float, step: float | None) -> bool:
    """Whether a quantity is a whole number of steps; no step: anything goes."""
    return step is None or step <= 0 or exact(value) % exact(step) == 0
