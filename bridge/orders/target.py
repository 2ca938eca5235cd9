"""Bringing a position to a size: an order for the difference.

    what works, what is held, the same twice ──> difference ──> one order, in the sender's turn

The difference is worked out while nobody else sends, from what the broker lists at that moment, so
that two requests cannot both buy the same. Working orders count as filled, a combination in each of
its legs. An order is never sent against others that work in the same contract, nor where protective
orders would be larger than what is left: then the request is refused, or cancels them first
(`cancelOrders`), after the order that is expected then was judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from msgspec import structs

from bridge.auditing import Auditor, Caller, Trail
from bridge.orders.cancel_before import CancelBefore
from bridge.orders.exposure import Place, largest_of_groups
from bridge.orders.held_and_working import Standing, Standings, require_clear
from bridge.orders.legs import Leg, legs
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.request import Label, OrderRequest, Request
from bridge.orders.submit import OrderSubmitter, Placed
from bridge.quantity import SLACK, exact, orderable
from bridge.store.idempotency import KeyRecord


class TargetRequest(Request, frozen=True, kw_only=True):
    """The size that a position shall have; below zero a short one, 0 closes it.

    The instrument is named as in an order. `cancelOrders` first cancels what this bridge has
    working in it, and its stops and exits there only where they are in the way.
    """

    symbol: str
    target_quantity: float
    order_type: Literal["MKT", "LMT"] = "MKT"
    limit_price: float | None = None
    sec_type: Literal["STK", "OPT", "FUT", "FOP", "CASH"] | None = None
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    con_id: int = 0
    strike: float | None = None
    right: Literal["C", "P"] | None = None
    expiration: str = ""
    multiplier: str | int | float = ""
    trading_class: str = ""
    tif: Literal["DAY", "GTC", "IOC", "OPG"] = "DAY"
    account: str = ""
    outside_rth: bool = False
    round_to_tick: bool = False
    cancel_orders: bool = False
    label: Label = ""

    def order(self, action: Literal["BUY", "SELL"], quantity: float) -> OrderRequest:
        """The order for a difference."""
        own = {"target_quantity", "cancel_orders"}
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name not in own}
        return OrderRequest(**fields, action=action, quantity=quantity)


@dataclass(kw_only=True, eq=False)
class TargetPlacer:
    """Places the order that a position lacks."""

    preparer: Preparer
    submitter: OrderSubmitter
    cancel_before: CancelBefore
    standings: Standings
    auditor: Auditor

    async def place(self, request: TargetRequest, key: str | None, caller: Caller) -> Placed:
        """Places the order for the difference, once for a key.

        Raises:
            OrdersInTheWayError: what works in the contract goes against it.
            PositionsMovingError: orders fill at this moment.
        """
        async with self.auditor.trail(caller, "order.target", request) as trail:
            claim = self.submitter.claim(key, ("target", request))
            return await self.submitter.once(
                claim, trail, lambda: self._place(request, claim, trail)
            )

    async def _place(self, request: TargetRequest, claim: KeyRecord, trail: Trail) -> Placed:
        prepared = await self.preparer.prepare(request.order("BUY", _any_size(request)))
        place = (prepared.legs[0].order.account, prepared.contract.con_id)

        async def expected(standing: Standing) -> list[Prepared]:
            return _difference(request, prepared, place, standing)

        async def sized() -> list[Prepared]:
            return await expected(await self.standings.at([place]))

        contract = prepared.contract
        if not request.cancel_orders:
            return await self.submitter.place_sized(claim, sized, trail, contract)
        standing = await self.standings.at([place])
        return await self.cancel_before.place(claim, standing, expected, sized, trail, contract)

    # in the sender's turn -----------------------------------------------------------------------

    async def free_to_close(self, account: str, con_id: int) -> float:
        """How much of a long position no order works on; in the sender's turn."""
        place = (account, con_id)
        standing = await self.standings.at([place])
        working = (*standing.working, *standing.waiting, *standing.unknown)
        sold = (each for each in working if each.action == "SELL")
        return max(0.0, exact(standing.positions[place] - largest_of_groups(sold)))


def _any_size(request: TargetRequest) -> float:
    """A quantity for looking the contract up, before the difference is known."""
    return abs(request.target_quantity) or 1.0


def _difference(
    request: TargetRequest, prepared: Prepared, place: Place, standing: Standing
) -> list[Prepared]:
    """What is to be sent where that is held and works; empty when nothing is.

    Raises:
        OrdersInTheWayError: what works goes against it.
    """
    position, target = standing.positions[place], request.target_quantity
    coming = sum(
        largest_of_groups(each for each in standing.working if each.action == action) * sign
        for action, sign in (("BUY", 1), ("SELL", -1))
    )
    missing = target - position - coming
    size = exact(abs(missing))
    if target == 0:  # else somebody asks for this very size, and is told that it cannot be
        closing = position * coming < 0 and position * missing < 0
        size = orderable(prepared.contract.sec_type, size, beside=closing)
    missing = math.copysign(size, missing)
    require_clear(standing, place, target, missing)
    if size <= SLACK:
        return []
    order = request.order("BUY" if missing > 0 else "SELL", size)
    made: tuple[Leg, ...] = legs(order, place[0], prepared.ladder)
    closes = target * position >= 0 and abs(target) < abs(position)
    return [structs.replace(prepared, legs=made, closes=closes)]
