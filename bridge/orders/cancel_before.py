"""Cancelling what is in the way of an order that follows, and only for one that may follow.

    what is held, what will be left ──> the order that is expected ──> judged ──> cancels ──> order

A stop that is cancelled for an order which is refused afterwards leaves its position bare. So the
order is judged first, as far as that can be known then; and where it fails after all (the position
has moved, the broker says no), the failure names what was cancelled for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from msgspec import structs

from bridge.auditing import Caller
from bridge.errors import BridgeError
from bridge.orders.cancel import OrderCanceller
from bridge.orders.errors import (
    OrderFateUnknownError,
    OrderNotOpenError,
    OrderPendingError,
    OrderRefusedByRulesError,
)
from bridge.orders.exposure import Place, parts_of_order, reduces
from bridge.orders.halt import halted
from bridge.orders.held_and_working import Standing, places_of
from bridge.orders.journal import OrderJournal, require_reach
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.risk import violations
from bridge.orders.submit import OrderSubmitter
from bridge.store import Database
from bridge.store.orders import OrderRecord, State


@dataclass(kw_only=True, eq=False)
class CancelBefore:
    """Cancels what works at places before an order there."""

    database: Database
    preparer: Preparer
    journal: OrderJournal
    submitter: OrderSubmitter
    canceller: OrderCanceller

    def in_the_way(self, places: Iterable[Place]) -> frozenset[str]:
        """What `made` cancels there now."""
        return frozenset(record.id for record in self._cancelled_for(places))

    async def require_allowed(
        self, expected: Sequence[Prepared], left: Standing, caller: Caller
    ) -> None:
        """Raises what these orders would be refused for where only that is `left`."""
        leaving = self._cancelled_for(left.positions)
        for record in leaving:
            require_reach(caller, record.id, record.account, record.symbol)
        reducing = _only_reduce(expected, left)
        halt = self.submitter.require_open_for_orders()
        if halt is not None and not reducing:
            raise halted(halt, "only orders that reduce a position pass")
        judged = [structs.replace(each, reduces=each.reduces and reducing) for each in expected]
        before = await self.database.read(
            lambda connection: self.preparer.before(connection, caller)
        )
        before = structs.replace(before, open_orders=max(0, before.open_orders - len(leaving)))
        found = violations(self.preparer.contexts(judged, before))
        if found:
            raise OrderRefusedByRulesError(found)

    @asynccontextmanager
    async def made(self, places: Iterable[Place], caller: Caller) -> AsyncIterator[None]:
        """Cancels what works there first; a failure from then on names what was cancelled."""
        cancelled: list[str] = []
        try:
            for record in self._cancelled_for(places):
                await self._cancel(record, cancelled, caller)
            yield
        except BridgeError as error:
            if cancelled:
                _name(error, cancelled)
            raise

    def _cancelled_for(self, places: Iterable[Place]) -> list[OrderRecord]:
        """The oldest first, so that the entries of brackets come before their exits."""
        wanted = frozenset(places)
        return [
            record
            for record in self.journal.open.values()
            if record.state is State.ACKNOWLEDGED and not wanted.isdisjoint(places_of(record))
        ]

    async def _cancel(self, record: OrderRecord, cancelled: list[str], caller: Caller) -> None:
        if record.id not in self.journal.open:  # it has ended meanwhile, perhaps with its entry
            if record.parent_id in cancelled:
                cancelled.append(record.id)
            return
        try:
            await self.canceller.cancel(record.id, caller)
        except OrderNotOpenError:
            return
        except (OrderPendingError, OrderFateUnknownError):  # the cancel is on its way all the same
            cancelled.append(record.id)
            raise
        cancelled.append(record.id)


def _only_reduce(expected: Sequence[Prepared], left: Standing) -> bool:
    wanted = [
        part
        for number, each in enumerate(expected)
        for leg in each.legs
        for part in parts_of_order(f"new {number}", each.contract, leg.order, leg.order.quantity)
    ]
    return reduces(wanted, left.positions, (*left.working, *left.waiting))


def _name(error: BridgeError, cancelled: list[str]) -> None:
    names = ", ".join(cancelled)
    error.extra["cancelled"] = cancelled
    error.detail = f"{error.detail} (cancelled before, and not working any more: {names})"
    error.next_step = (
        f"Look whether the position needs protection: {names} gives none any more."
        f" Of the order itself: {error.next_step}"
    )
