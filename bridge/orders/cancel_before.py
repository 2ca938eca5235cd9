"""Cancelling what is in the way of an order that follows, and only for one that may follow.

    what is held, what will be left ──> the order that is expected ──> judged ──> cancels ──> order

A stop that is cancelled for an order which is refused afterwards leaves its position bare. So the
order is judged first, as far as that can be known then; and where it fails after all (the position
has moved, the broker says no), the failure names what was cancelled for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from msgspec import structs

from bridge.auditing import Caller, Trail
from bridge.errors import BridgeError
from bridge.model import Contract
from bridge.orders.cancel import OrderCanceller
from bridge.orders.errors import (
    OrderFateUnknownError,
    OrderNotOpenError,
    OrderPendingError,
    OrderRefusedByRulesError,
    OrdersInTheWayError,
    name_cancelled,
)
from bridge.orders.exposure import Place, parts_of_order, reduces
from bridge.orders.halt import halted
from bridge.orders.held_and_working import Standing, places_of
from bridge.orders.journal import OrderJournal, require_reach
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.risk import violations
from bridge.orders.submit import OrderSubmitter, Placed
from bridge.store import Database
from bridge.store.idempotency import KeyRecord
from bridge.store.orders import OrderRecord, State

Expected = Callable[[Standing], Awaitable[Sequence[Prepared]]]
"""What is to be sent where that is held and works."""


@dataclass(kw_only=True, eq=False)
class CancelBefore:
    """Cancels what works at places before an order there."""

    database: Database
    preparer: Preparer
    journal: OrderJournal
    submitter: OrderSubmitter
    canceller: OrderCanceller

    async def place(
        self,
        claim: KeyRecord,
        standing: Standing,
        expected: Expected,
        sized: Callable[[], Awaitable[list[Prepared]]],
        trail: Trail,
        contract: Contract,
    ) -> Placed:
        """Cancels what is in the way of the order that is `expected`, and places it as `sized`."""
        chosen = await self.chosen(standing, expected, claim.key_digest, trail.caller)
        async with self.made(chosen, trail.caller) as cancelled:
            return await self.submitter.place_sized(
                claim, sized, trail, contract, cancelled=cancelled
            )

    async def chosen(
        self, standing: Standing, expected: Expected, key_digest: str, caller: Caller
    ) -> list[OrderRecord]:
        """What is to be cancelled before the order that is `expected` then: as little as will do.

        What fills by itself always is; stops and exits only where they would be in its way. Orders
        of the request's own key (`key_digest`) never are.

        Raises:
            OrdersInTheWayError: what is not ours to cancel is in the way.
            OrderRefusedByRulesError, TradingHaltedError: what the order would be refused for.
        """
        own = self._own(standing.positions, key_digest)
        chosen = _filling(own, standing)
        left = standing.without({each.id for each in chosen})
        try:
            wanted = await expected(left)
        except OrdersInTheWayError:
            chosen, left = own, standing.without({each.id for each in own})
            wanted = await expected(left)
        await self._require_allowed(wanted, left, chosen, caller)
        return chosen

    async def _require_allowed(
        self,
        expected: Sequence[Prepared],
        left: Standing,
        leaving: Sequence[OrderRecord],
        caller: Caller,
    ) -> None:
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
    async def made(
        self, chosen: Sequence[OrderRecord], caller: Caller
    ) -> AsyncIterator[tuple[str, ...]]:
        """Cancels these first and gives their names; a failure from then on names them, too."""
        cancelled: list[str] = []
        try:
            for record in chosen:
                await self._cancel(record, cancelled, caller)
            yield tuple(cancelled)
        except BridgeError as error:
            name_cancelled(error, cancelled)
            raise

    def _own(self, places: Iterable[Place], key_digest: str) -> list[OrderRecord]:
        """The oldest first, so that the entries of brackets come before their exits."""
        wanted = frozenset(places)
        return [
            record
            for record in self.journal.open.values()
            if record.state is State.ACKNOWLEDGED
            and record.key_digest != key_digest
            and not wanted.isdisjoint(places_of(record))
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


def _filling(own: Sequence[OrderRecord], standing: Standing) -> list[OrderRecord]:
    """Those that fill by themselves, with the exits that end with them.

    Exits of an entry that has filled in part are no such: they protect what it has filled.
    """
    names = {each.name for each in standing.working}
    unfilled = {each.id for each in own if each.id in names and not each.filled}
    return [each for each in own if each.id in names or each.parent_id in unfilled]


def _only_reduce(expected: Sequence[Prepared], left: Standing) -> bool:
    wanted = [
        part
        for number, each in enumerate(expected)
        for leg in each.legs
        for part in parts_of_order(f"new {number}", each.contract, leg.order, leg.order.quantity)
    ]
    return reduces(wanted, left.positions, (*left.working, *left.waiting, *left.unknown))
