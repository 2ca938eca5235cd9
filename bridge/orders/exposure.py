"""Which orders open or enlarge a position, and which only close one.

An order only closes when it is on the other side of the position and, together with every other
order that may fill beside it, is no larger. Of orders that end one another (an OCA group, the legs
of one bracket) only the largest counts. An exercise takes options as a sale does, and yet never
only closes: it opens a position in their underlying.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct, structs

from bridge.model import Contract, OpenOrder, Order, OrderStatus, Position
from bridge.orders.errors import PositionsMovingError, Violation
from bridge.orders.order_types import INSTRUCTIONS
from bridge.quantity import SLACK, exact
from bridge.store.orders import OrderRecord
from bridge.tws.gateway import Gateway

_CLOSING_LEGS: Final = ("stop-loss", "take-profit")
_REDUCING_OCA: Final = 3
"""Without overfill protection every member of the group may fill."""

NOT_CLOSING: Final = Violation(
    code="not-closing",
    message="beside what works already, the order could open or enlarge a position",
    field="quantity",
)

Place = tuple[str, int]
"""An account and a contract's number."""
_Side = tuple[Place, str]


class Working(Struct, frozen=True, kw_only=True):
    """An order that may still fill. Orders of one `together` end one another."""

    name: str
    account: str
    con_id: int
    action: str
    quantity: float
    together: str
    protective: bool = False
    for_money: bool = False
    """How much that buys is known when it has filled: `quantity` is a guess, or 0."""

    @property
    def place(self) -> Place:
        """Whose position it changes."""
        return self.account, self.con_id


def parts_of_order(
    name: str, contract: Contract, order: Order, remaining: float
) -> tuple[Working, ...]:
    """An order as it counts here: one of a combination for each leg, at the leg's own position."""
    whole = of_order(name, contract, order, remaining)
    if not contract.legs:
        return (whole,)
    return tuple(
        structs.replace(
            whole,
            con_id=leg.con_id,
            action="BUY" if leg.action == order.action else "SELL",
            quantity=remaining * leg.ratio,
        )
        for leg in contract.legs
    )


def of_order(name: str, contract: Contract, order: Order, remaining: float) -> Working:
    """An order of one contract as it counts here."""
    together = name
    if order.oca_group and order.oca_type != _REDUCING_OCA:
        together = f"oca {order.oca_group}"
    elif order.parent_id:
        together = f"children {order.client_id} {order.parent_id}"
    return Working(
        name=name,
        account=order.account,
        con_id=contract.con_id,
        action=order.action,
        quantity=remaining,
        together=together,
        protective=bool(order.parent_id) or order.order_type.startswith(("STP", "TRAIL")),
        for_money=order.cash_quantity is not None,
    )


def held(positions: Iterable[Position]) -> dict[Place, float]:
    """Signed quantities; short ones are negative."""
    total: dict[Place, float] = defaultdict(float)
    for each in positions:
        total[each.account, each.contract.con_id] += each.quantity
    return dict(total)


def closable(
    place: Place, action: str, positions: Mapping[Place, float], working: Iterable[Working]
) -> float:
    """How much of this side only closes, with all that works there already."""
    left = _most(place, action, positions) - _sum_at((place, action), working)
    return max(0.0, exact(left))


def _most(place: Place, action: str, positions: Mapping[Place, float]) -> float:
    """How much of this side closes what is held there."""
    position = positions.get(place, 0.0)
    return max(0.0, position if action == "SELL" else -position)


def _sum_at(side: _Side, working: Iterable[Working]) -> float:
    """How much can fill together on this side of this place."""
    return largest_of_groups(each for each in working if (each.place, each.action) == side)


def reduces(
    orders: Iterable[Working], positions: Mapping[Place, float], working: Iterable[Working]
) -> bool:
    """Whether new orders, beside all that works, could never open or enlarge a position.

    One that ends orders which work, as a member of their group, fills instead of them. Of one for
    an amount of money nobody can tell.
    """
    wanted: dict[_Side, list[Working]] = defaultdict(list)
    for each in orders:
        if each.for_money:
            return False
        wanted[each.place, each.action].append(each)
    known = list(working)
    return all(
        _sum_at((place, action), [*known, *group]) <= _most(place, action, positions) + SLACK
        for (place, action), group in wanted.items()
    )


async def open_orders(gateway: Gateway, seconds: float) -> tuple[OpenOrder, ...]:
    """What all clients have open, with what is filled of each: the status beside it says so.

    Raises:
        TwsError: the broker does not say.
    """
    statuses: dict[int, OrderStatus] = {}
    forget = gateway.events.order_status.listen(
        lambda status: statuses.__setitem__(status.perm_id, status)
    )
    try:
        listed = await gateway.queries.all_open_orders(timeout=seconds)
    finally:
        forget()
    return tuple(_with_fills(each, statuses.get(each.order.perm_id)) for each in listed)


def _with_fills(listed: OpenOrder, last: OrderStatus | None) -> OpenOrder:
    if last is None or not last.perm_id:
        return listed
    filled = max(last.filled, listed.order.filled_quantity or 0.0)
    return structs.replace(listed, order=structs.replace(listed.order, filled_quantity=filled))


def remaining(listed: OpenOrder) -> float:
    """What may still be filled of an order that the broker lists; all of it where it says nothing.

    A person's order of 60 of which one is left can sell one.
    """
    return max(0.0, exact(listed.order.quantity - (listed.order.filled_quantity or 0.0)))


def _nothing_is_late(_: Place) -> bool:
    return True


async def only_reduce(
    gateway: Gateway,
    wanted: Iterable[Working],
    own: Iterable[OrderRecord] = (),
    *,
    replaced: str | None = None,
    confirmed: Callable[[Place], bool] = _nothing_is_late,
    seconds: float,
) -> bool:
    """Whether new orders only reduce what is held, as the broker lists it all at this moment.

    `own` is what the journal knows to work, perhaps not listed yet; `replaced` the reference of
    an order that is changed. What works is asked before what is held: a fill between the two counts
    twice, which refuses too much rather than too little. `confirmed` says whether the broker has
    sent a position since its last fill.

    Raises:
        TwsError: the broker does not say.
        PositionsMovingError: a fill is known that what is held does not show yet.
    """
    wanted, own = tuple(wanted), tuple(own)
    working = [part for each in own for part in parts_of_record(each)]
    listed = await open_orders(gateway, seconds)
    others = [
        part
        for index, each in enumerate(besides(own, listed))
        if each.order.order_ref != replaced
        for part in parts_of_order(f"listed {index}", each.contract, each.order, remaining(each))
    ]
    positions = held(await gateway.queries.positions(timeout=seconds))
    if not all(confirmed(each.place) for each in wanted):
        raise PositionsMovingError("a fill is not among the positions yet: nothing was sent")
    return reduces(wanted, positions, [*working, *others])


def besides(own: Iterable[OrderRecord], listed: Iterable[OpenOrder]) -> list[OpenOrder]:
    """What is listed beside these; one without a reference, as an exercise, is known by number."""
    own = tuple(own)
    references, permanent = {each.order_ref for each in own}, {each.perm_id for each in own} - {0}
    numbers = {(each.client_id, each.broker_order_id) for each in own if not each.perm_id}

    def known(each: OpenOrder) -> bool:
        order = each.order
        if order.order_ref:
            return order.order_ref in references
        number = each.order_id or order.order_id
        return order.perm_id in permanent or (order.client_id, number) in numbers

    return [each for each in listed if not known(each)]


def may_fill(record: OrderRecord) -> float:
    """How much of an order may still fill, a change on its way counted: the broker may have it."""
    remaining = record.remaining
    if record.pending is not None and record.pending.terms is not None:
        remaining = max(remaining, exact(record.pending.terms.quantity - record.filled))
    return remaining


def parts_of_record(record: OrderRecord) -> tuple[Working, ...]:
    """An order of the journal as it counts here, with as much as may still fill."""
    return parts_of_order(record.id, record.contract, record.terms, may_fill(record))


def opening(
    records: Iterable[OrderRecord], positions: Mapping[Place, float] | None
) -> tuple[list[OrderRecord], list[OrderRecord]]:
    """Open orders told apart: what to cancel, and what only closes a position and stays.

    Protective orders are kept before others, as far as the position reaches. Without positions only
    the closing legs of a bracket stay whose entry is over.
    """
    known = list(records)
    may_close = [
        each
        for each in known
        if each.terms.order_type != INSTRUCTIONS["exercise"] and each.terms.cash_quantity is None
    ]
    if positions is None:
        over = {each.id for each in known}
        stay = {
            each.id
            for each in may_close
            if each.role in _CLOSING_LEGS and each.parent_id and each.parent_id not in over
        }
    else:
        stay = _staying(may_close, positions)
    return [each for each in known if each.id not in stay], [
        each for each in known if each.id in stay
    ]


def _staying(records: list[OrderRecord], positions: Mapping[Place, float]) -> set[str]:
    groups: dict[tuple[tuple[_Side, ...], str], list[tuple[Working, ...]]] = defaultdict(list)
    for record in records:
        parts = parts_of_record(record)
        groups[tuple((each.place, each.action) for each in parts), parts[0].together].append(parts)
    left: dict[_Side, float] = {}
    stay: set[str] = set()
    for (sides, _), group in sorted(groups.items(), key=lambda item: _rank(item[1])):
        wanted = {
            side: max(parts[number].quantity for parts in group)
            for number, side in enumerate(sides)
        }
        for place, action in sides:
            left.setdefault((place, action), closable(place, action, positions, ()))
        if all(largest <= left[side] + SLACK for side, largest in wanted.items()):
            for side, largest in wanted.items():
                left[side] -= largest
            stay.update(parts[0].name for parts in group)
    return stay


def _rank(group: list[tuple[Working, ...]]) -> bool:
    return not any(parts[0].protective for parts in group)


def largest_of_groups(working: Iterable[Working]) -> float:
    """How much orders can fill together; of those that end one another the largest counts."""
    return sum(_by_group(working).values())


def _by_group(working: Iterable[Working]) -> dict[str, float]:
    largest: dict[str, float] = defaultdict(float)
    for each in working:
        largest[each.together] = max(largest[each.together], each.quantity)
    return largest
