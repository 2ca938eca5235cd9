"""The orders of a close, by the way of every order: journal, limits, one send.

Each has an `Idempotency-Key` made from the decision and the number of the attempt, so what became
of it can be looked up after any restart, and it is never sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from msgspec import structs

from bridge.auditing import Caller
from bridge.model import OpenOrder, Order
from bridge.orders import order_ids
from bridge.orders.cancel import OrderCanceller
from bridge.orders.close import closing_order
from bridge.orders.exposure import (
    besides,
    closable,
    open_orders,
    parts_of_order,
    parts_of_record,
    remaining,
)
from bridge.orders.journal import OrderJournal
from bridge.orders.modify import OrderModifier
from bridge.orders.request import ChangeRequest, OrderRequest
from bridge.orders.submit import OrderSubmitter
from bridge.quantity import exact
from bridge.rules.closing_steps import Change, Close, Send, Working, key_of
from bridge.rules.holdings import Holding
from bridge.store import Database, orders
from bridge.store.orders import OrderRecord, State, Status
from bridge.tws.gateway import Gateway

KEY_ID: Final = "rules"
"""Whose orders these are, where an API key's id stands otherwise."""
_LIST_SECONDS: Final = 5.0
_STATES: Final[dict[Status, Literal["filled", "cancelled", "refused", "unsent"]]] = {
    Status.FILLED: "filled",
    Status.CANCELLED: "cancelled",
    Status.REJECTED: "refused",
    Status.NOT_SENT: "unsent",
}


@dataclass(kw_only=True, eq=False)
class ClosingOrders:
    """Sends, follows, changes and cancels them."""

    database: Database
    gateway: Gateway
    journal: OrderJournal
    submitter: OrderSubmitter
    modifier: OrderModifier
    canceller: OrderCanceller

    async def record(self, key: str) -> OrderRecord | None:
        """The order with this key, as the journal has it; None: it was never written down."""
        digest = order_ids.key_digest(key)
        found = await self.database.read(lambda connection: orders.by_key(connection, digest))
        return found[-1] if found else None

    async def state_of(self, key: str) -> Working:
        """What became of the order with this key."""
        record = await self.record(key)
        if record is None:
            return Working(state="unsent")
        return Working(
            state=_state_of(record),
            quantity=record.terms.quantity,
            filled=record.filled,
            limit=record.terms.limit_price,
            stop=record.terms.stop_price,
            reason=record.reject_text or record.warning or "",
            ended_at=record.ended_at,
            idle=record.open and record.status is Status.INACTIVE,
        )

    async def state(self, close: Close) -> Working | None:
        """What became of the present attempt's order."""
        return None if close.attempt is None else await self.state_of(key_of(close, close.attempt))

    async def others(self, holding: Holding, close: Close) -> float:
        """For how many units other orders work already."""
        key = "" if close.attempt is None else key_of(close, close.attempt)
        return await self.working(holding, key)

    async def listed(self) -> tuple[OpenOrder, ...]:
        """What the broker has open now, of all clients, with what is filled. Raises TwsError."""
        return await open_orders(self.gateway, _LIST_SECONDS)

    async def working(
        self, holding: Holding, but: str = "", listed: tuple[OpenOrder, ...] | None = None
    ) -> float:
        """For how many units orders work that would close it, whoever placed them.

        Args:
            holding: the position.
            but: the key of an order that does not count.
            listed: what the broker has open; None: it is asked.
        """
        ours = None if not but else await self.record(but)
        if listed is None:
            listed = await self.listed()
        own = [each for each in self.journal.open.values() if ours is None or each.id != ours.id]
        known = own if ours is None else [*own, ours]
        working = [part for each in own for part in parts_of_record(each)]
        for number, each in enumerate(besides(known, listed)):
            working += parts_of_order(
                f"listed {number}", each.contract, each.order, remaining(each)
            )
        most = 0.0
        for leg in holding.legs:
            place = (holding.account, leg.contract.con_id)
            size = leg.ratio * holding.units
            action = "SELL" if leg.ratio > 0 else "BUY"
            allowed = closable(place, action, {place: size}, working)
            most = max(most, exact((abs(size) - allowed) / abs(leg.ratio)))
        return most

    def refused(self, holding: Holding, *, market: bool) -> str:
        """Why no order that closes it would go out, whatever the market; empty: it would.

        `market`: whether it is a market order.
        """
        order = Order(
            account=holding.account,
            order_type="MKT" if market else "LMT",
            limit_price=None if market else 1.0,
        )
        contracts = [leg.contract for leg in holding.legs]
        if holding.combination:
            contracts.append(structs.replace(contracts[0], sec_type="BAG"))
        asked = self.submitter.preparer.refused_always
        found = (each.message for contract in contracts for each in asked(contract, order))
        return "; ".join(dict.fromkeys(found))

    async def send(self, holding: Holding, close: Close, step: Send, *, outside: bool) -> None:
        """Sends the present attempt's order.

        Raises:
            BridgeError: it was refused, or what became of it is not known yet: see `state`.
        """
        if close.attempt is None:
            raise ValueError("there is no attempt to send")
        request = closing_order(holding, step.units, step.limit, outside=outside)
        await self.place(key_of(close, close.attempt), request)

    async def place(self, key: str, request: OrderRequest) -> None:
        """Sends an order that only closes, once for each key. Raises BridgeError."""
        caller = Caller(KEY_ID, key[:64])
        await self.submitter.place(request, key, caller, only_closing=True)

    async def change(self, close: Close, step: Change) -> None:
        """Changes the present attempt's order. Raises BridgeError: it goes on as it was."""
        if close.attempt is not None:
            change = ChangeRequest(quantity=step.units, limit_price=step.limit, round_to_tick=True)
            await self.change_order(key_of(close, close.attempt), change)

    async def change_order(self, key: str, change: ChangeRequest) -> None:
        """Changes the order with this key. Raises BridgeError: it goes on as it was."""
        record = await self.record(key)
        if record is not None:
            caller = Caller(KEY_ID, key[:64])
            await self.modifier.modify(record.id, change, caller, only_closing=True)

    async def cancel(self, close: Close) -> None:
        """Cancels the present attempt's order. Raises BridgeError."""
        if close.attempt is not None:
            await self.cancel_order(key_of(close, close.attempt))

    async def cancel_order(self, key: str) -> None:
        """Cancels the order with this key. Raises BridgeError."""
        record = await self.record(key)
        if record is not None:
            await self.canceller.cancel(record.id, Caller(KEY_ID, key[:64]))


def _state_of(
    record: OrderRecord,
) -> Literal["open", "filled", "cancelled", "refused", "unsent", "unknown"]:
    if record.state is State.TERMINAL:
        return _STATES.get(record.status, "unknown")
    # Not answered yet, on a change's way, or of unknown fate: nothing is built upon it.
    settled = record.state is State.ACKNOWLEDGED and record.pending is None
    return "open" if settled else "unknown"
