"""What is held of contracts at one moment, and which orders work there, combinations' legs too.

    what others work, what is held, the journal  ──> the same twice ──> Standing

To be looked at in the sender's turn, when nothing of this bridge is sent meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct, structs

from bridge.account.held_before import HeldBefore
from bridge.account.service import AccountService
from bridge.model import Position
from bridge.orders.errors import OrdersInTheWayError, PositionsMovingError
from bridge.orders.exposure import Place, Working, largest_of_groups, parts_of_record
from bridge.orders.exposure import held as held_at
from bridge.orders.journal import OrderJournal
from bridge.orders.order_types import kind_of_type
from bridge.orders.other_clients import OtherClientsOrders
from bridge.quantity import SLACK, exact, plain
from bridge.store import Database, executions
from bridge.store.orders import OrderRecord, State
from bridge.tws.gateway import Gateway

_LOOKS: Final = 5
LOOK_SECONDS: Final = 2.0
SETTLE: Final = (
    "Look in TWS or the Client Portal what became of them, then settle each with POST"
    " /order/{id}/settle (scope admin); cancelOrders does not reach what nobody knows"
)
_CLOSING_ROLES: Final = frozenset({"take-profit", "stop-loss"})


class Standing(Struct, frozen=True):
    """What is held in an account at one moment, and the orders at the places looked at."""

    positions: dict[Place, float]
    working: tuple[Working, ...]
    """What fills by itself."""
    waiting: tuple[Working, ...]
    """What waits for a price, a time or another order: stops, exits of brackets."""
    unknown: tuple[Working, ...] = ()
    """What may have filled, may still fill, or never reached the broker: nobody knows."""

    def at(self, place: Place) -> Standing:
        """The same of one place alone."""
        return Standing(
            {place: self.positions.get(place, 0.0)},
            tuple(each for each in self.working if each.place == place),
            tuple(each for each in self.waiting if each.place == place),
            tuple(each for each in self.unknown if each.place == place),
        )

    def without(self, names: Collection[str]) -> Standing:
        """The same when orders of these names are gone."""
        return Standing(
            self.positions,
            tuple(each for each in self.working if each.name not in names),
            tuple(each for each in self.waiting if each.name not in names),
            self.unknown,
        )


class _Look(Struct, frozen=True):
    standing: Standing
    held: tuple[Position, ...]
    confirmed: bool
    """Whether the broker has sent every position there since its last fill."""


@dataclass(kw_only=True, eq=False)
class Standings:
    """Looks at what is held and what works."""

    database: Database
    gateway: Gateway
    journal: OrderJournal
    other_clients: OtherClientsOrders
    accounts: AccountService | None

    async def at(self, places: Iterable[Place]) -> Standing:
        """The same found twice in a row: between two looks nothing was filled.

        Raises:
            PositionsMovingError: orders fill at this moment, or one is being changed, or a gateway
                that has just logged in does not list what was held.
            OrdersInTheWayError: nobody knows what another client's order there has done.
        """
        return (await self._settled(frozenset(places))).standing

    async def with_positions(
        self, places: Iterable[Place]
    ) -> tuple[Standing, tuple[Position, ...]]:
        """The same, with all that was held in that moment. Raises as `at`."""
        look = await self._settled(frozenset(places))
        return look.standing, look.held

    def late(self) -> tuple[HeldBefore, ...]:
        """What was held before a login, and may only not be listed again yet."""
        return () if self.accounts is None else self.accounts.late()

    def filling(self) -> list[OrderRecord]:
        """This bridge's orders of one instrument that fill by themselves, or may have filled."""
        return [
            each
            for each in self.journal.open.values()
            if not each.contract.legs and (each.state is State.UNKNOWN or not _waits(each))
        ]

    async def _settled(self, places: frozenset[Place]) -> _Look:
        before: Standing | None = None
        stays = False
        for _ in range(_LOOKS):
            look = await self._look(places)
            stays = look.standing == before
            if stays and look.confirmed:
                return look
            before = look.standing
        why = "the broker does not confirm what is held" if stays else "orders fill at this moment"
        raise PositionsMovingError(f"{why}: nothing was sent")

    async def _look(self, places: frozenset[Place]) -> _Look:
        others = await self.other_clients.records()
        held = tuple(await self.gateway.queries.positions(timeout=LOOK_SECONDS))
        await self.journal.flush()
        own = [each for each in self.journal.open.values() if places_of(each) & places]
        filled = await self._filled_by_leg([each for each in own if each.contract.legs])
        working: list[Working] = []
        waiting: list[Working] = []
        unknown: list[Working] = []
        for record in own:
            if record.state is State.UNKNOWN:
                unknown.extend(parts_of_record(record))
                continue
            change = record.pending.terms if record.pending is not None else None
            if change is not None and change.quantity != record.terms.quantity:
                raise PositionsMovingError(f"the size of order {record.id} is being changed")
            parts = [_still(each, record, filled) for each in parts_of_record(record)]
            (waiting if _waits(record) else working).extend(parts)
        for record in others:
            if not places_of(record) & places:
                continue
            if record.terms.non_guaranteed and record.contract.legs:
                raise OrdersInTheWayError(
                    [record.id], "nobody knows which legs of another client's combination are done"
                )
            (waiting if _waits(record) else working).extend(parts_of_record(record))
        positions = held_at(held)
        standing = Standing(
            {place: positions.get(place, 0.0) for place in sorted(places)},
            tuple(each for each in working if each.place in places),
            tuple(each for each in waiting if each.place in places),
            tuple(each for each in unknown if each.place in places),
        )
        confirmed = self.accounts is None or all(
            self.accounts.is_confirmed(place) for place in places
        )
        return _Look(standing, held, confirmed)

    async def _filled_by_leg(
        self, combinations: Sequence[OrderRecord]
    ) -> dict[tuple[str, int], float]:
        """What was filled of each leg, by order and contract: legs may be filled one by one."""
        if not combinations:
            return {}
        names = [each.id for each in combinations]

        def read(connection: sqlite3.Connection) -> dict[tuple[str, int], float]:
            total: dict[tuple[str, int], float] = defaultdict(float)
            for name in names:
                for row in executions.of_order(connection, name):
                    fill = row.execution
                    total[name, fill.contract.con_id] += fill.quantity
            return dict(total)

        return await self.database.read(read)


def places_of(record: OrderRecord) -> frozenset[Place]:
    """Where an order changes what is held: of a combination at each of its legs."""
    numbers = [leg.con_id for leg in record.contract.legs] or [record.contract.con_id]
    return frozenset((record.account, con_id) for con_id in numbers)


def _still(part: Working, record: OrderRecord, filled: dict[tuple[str, int], float]) -> Working:
    """A part with what may still be filled of it.

    A leg may be ahead of the whole (one that is not guaranteed), never behind it.
    """
    if not record.contract.legs:
        return part
    ratio = next(leg.ratio for leg in record.contract.legs if leg.con_id == part.con_id)
    left = record.terms.quantity * ratio - filled.get((record.id, part.con_id), 0.0)
    return structs.replace(part, quantity=max(0.0, min(part.quantity, exact(left))))


def _waits(record: OrderRecord) -> bool:
    terms = record.terms
    held_back = bool(terms.conditions or terms.good_after_time)
    return record.role in _CLOSING_ROLES or held_back or kind_of_type(terms.order_type).waits


def _require_known(there: Standing, position: float, missing: float) -> None:
    """Refuses where an order of unknown fate could make what is sent wrong.

    What only reduces goes by what is held, so there only one on its own side could: both could
    fill. Closing must not wait for a person for any other.
    """
    reduces = missing * position < 0 and abs(missing) <= abs(position) + SLACK
    side = "BUY" if missing > 0 else "SELL"
    require_known(each for each in there.unknown if not reduces or each.action == side)


def require_known(unknown: Iterable[Working]) -> None:
    """Raises OrdersInTheWayError for orders of unknown fate, if there are any."""
    names = list(dict.fromkeys(each.name for each in unknown))
    if names:
        raise OrdersInTheWayError(names, "nobody knows the fate of orders", next_step=SETTLE)


def require_clear(standing: Standing, place: Place, target: float, missing: float) -> None:
    """Refuses what would go against orders that work, or leave protective ones too large.

    Args:
        standing: what is held and works.
        place: where.
        target: what the position shall be.
        missing: what would be bought (above 0) or sold for that.
    """
    there = standing.at(place)
    position = there.positions[place]
    _require_known(there, position, missing)
    against = "SELL" if missing > 0 else "BUY"
    crossing = [each for each in there.working if each.action == against and each.quantity > SLACK]
    if abs(missing) > SLACK and crossing:
        raise OrdersInTheWayError(
            [each.name for each in crossing], "orders that work go the other way"
        )
    for action, sign in (("SELL", 1), ("BUY", -1)):
        waiting = [each for each in there.waiting if each.action == action]
        covered = max(0.0, target * sign)
        reducing = position * sign > 0 or target == 0
        if reducing and abs(missing) > SLACK and largest_of_groups(waiting) > covered + SLACK:
            raise OrdersInTheWayError(
                [each.name for each in waiting],
                f"stops or exits of more than the {plain(abs(target))} that will be left",
            )
