"""Bringing a position to a size: an order for the difference, or for closing it.

    what works, what is held, the same twice ──> difference ──> one order, in the sender's turn

The difference is worked out while nobody else sends, from what the broker lists at that moment, so
that two requests cannot both buy the same. Working orders count as filled. An order is never sent
against others that work in the same contract, nor where protective orders would be larger than what
is left: then the request is refused, or cancels them first (`cancelOrders`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, structs

from bridge.auditing import Auditor, Caller
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import Contract, Position
from bridge.orders.cancel import OrderCanceller
from bridge.orders.errors import (
    KeyReusedError,
    OrderNotOpenError,
    OrdersInTheWayError,
    PositionsMovingError,
)
from bridge.orders.exposure import Working, largest_of_groups, of_order
from bridge.orders.journal import OrderJournal
from bridge.orders.legs import Leg, legs
from bridge.orders.order_types import kind_of_type
from bridge.orders.other_clients import OtherClientsOrders
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.request import Label, OrderRequest, Request
from bridge.orders.submit import OrderSubmitter, Placed, TargetReached
from bridge.store import Database, idempotency
from bridge.store.idempotency import KeyRecord
from bridge.store.order_status import State
from bridge.store.orders import OrderRecord
from bridge.tws.gateway import Gateway

_LOOKS: Final = 5
_LOOK_SECONDS: Final = 2.0
_SLACK: Final = 1e-9
_CLOSING_ROLES: Final = frozenset({"take-profit", "stop-loss"})
CLOSABLE: Final = frozenset({"STK", "OPT", "FUT", "FOP", "CASH"})


class TargetRequest(Request, frozen=True, kw_only=True):
    """The size that a position shall have; below zero a short one, 0 closes it.

    The instrument is named as in an order. `cancelOrders` first cancels what this bridge has
    working in it.
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


class CloseRequest(Request, frozen=True, kw_only=True):
    """Which positions to close: one by its `conId`, all of a `symbol`, or `all`.

    Market orders, unless one position has a `limitPrice`.
    """

    symbol: Annotated[str, Meta(max_length=32)] = ""
    con_id: int = 0
    account: Annotated[str, Meta(max_length=64)] = ""
    all: bool = False
    order_type: Literal["MKT", "LMT"] = "MKT"
    limit_price: float | None = None
    cancel_orders: bool = False


class ClosedPosition(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of closing one position: an order, or the problem that there was."""

    account: str
    con_id: int
    symbol: str
    sec_type: str
    position: float
    order: Any = None
    problem: dict[str, Any] | None = None


class ClosedPositions(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of closing each; `complete` when every one has its order, or needs none."""

    complete: bool
    positions: tuple[ClosedPosition, ...]


class Standing(Struct, frozen=True):
    """What is held of a contract in an account at one moment, and the orders there."""

    position: float
    working: tuple[Working, ...]
    """What fills by itself."""
    waiting: tuple[Working, ...]
    """What waits for a price, a time or another order: stops, exits of brackets."""


@dataclass(kw_only=True, eq=False)
class TargetPlacer:
    """Places the order that a position lacks."""

    database: Database
    gateway: Gateway
    preparer: Preparer
    journal: OrderJournal
    submitter: OrderSubmitter
    canceller: OrderCanceller
    other_clients: OtherClientsOrders
    auditor: Auditor
    clock: Clock

    async def place(self, request: TargetRequest, key: str | None, caller: Caller) -> Placed:
        """Places the order for the difference, once for a key.

        Raises:
            OrdersInTheWayError: what works in the contract goes against it.
            PositionsMovingError: orders fill at this moment.
        """
        async with self.auditor.trail(caller, "order.target", request) as trail:
            claim = self.submitter.claim(key, ("target", request))
            earlier = await self.submitter.repeated(claim, trail)
            if earlier is not None:
                return Placed(earlier, replayed=True)
            self.submitter.require_open_for_orders()
            prepared = await self.preparer.prepare(request.order("BUY", _any_size(request)))
            account = prepared.legs[0].order.account
            if request.cancel_orders:
                await self._cancel(account, prepared.contract, caller)

            async def sized() -> list[Prepared]:
                return await self._sized(request, prepared, account)

            return await self.submitter.place_sized(claim, sized, trail, prepared.contract)

    async def close(
        self, request: CloseRequest, key: str | None, caller: Caller
    ) -> ClosedPositions:
        """Closes each of the positions with an order of its own, once for a key."""
        async with self.auditor.trail(caller, "positions.close", request):
            claim = self.submitter.claim(key, ("close", request))
            known = await self.database.read(lambda c: idempotency.get(c, claim.key_digest))
            if known is not None and known.body_digest != claim.body_digest:
                raise KeyReusedError("this Idempotency-Key came with another body before")
            if known is not None and known.accepted:
                return msgspec.json.decode(known.answer, type=ClosedPositions)
            self.gateway.require_ready()
            held = await self.gateway.queries.positions(timeout=_LOOK_SECONDS)
            chosen = [each for each in held if _chosen(each, request)]
            closed = [await self._close(each, request, claim, caller) for each in chosen]
            done = all(each.problem is None for each in closed)
            answer = ClosedPositions(complete=done, positions=tuple(closed))
            if done and closed:
                await self._keep(claim, answer)
            return answer

    async def _close(
        self, held: Position, request: CloseRequest, claim: KeyRecord, caller: Caller
    ) -> ClosedPosition:
        contract = held.contract
        shown = ClosedPosition(
            account=held.account,
            con_id=contract.con_id,
            symbol=contract.symbol,
            sec_type=contract.sec_type,
            position=held.quantity,
        )
        if contract.sec_type not in CLOSABLE:
            text = f"{contract.sec_type} is not traded through the bridge: close it in TWS"
            return structs.replace(shown, problem={"code": "sec-type-not-allowed", "detail": text})
        kind: Any = contract.sec_type
        target = TargetRequest(
            symbol=contract.symbol,
            sec_type=kind,
            con_id=contract.con_id,
            account=held.account,
            target_quantity=0.0,
            order_type=request.order_type,
            limit_price=request.limit_price,
            cancel_orders=request.cancel_orders,
        )
        own_key = f"{claim.key_digest}/{held.account}/{contract.con_id}"
        try:
            placed = await self.place(target, own_key, caller)
        except BridgeError as error:
            problem = {"code": error.code, "detail": error.detail, **error.extra}
            return structs.replace(shown, problem=problem)
        order = None if isinstance(placed.answer, TargetReached) else placed.answer
        return structs.replace(shown, order=msgspec.to_builtins(order))

    async def _keep(self, claim: KeyRecord, answer: ClosedPositions) -> None:
        body, now = msgspec.json.encode(answer), self.clock.now()

        def write(connection: Any) -> None:
            idempotency.claim(connection, claim.key_digest, claim.body_digest, claim.created_at)
            idempotency.answer(connection, claim.key_digest, body, now, accepted=True)

        await self.database.write(write)

    async def _cancel(self, account: str, contract: Contract, caller: Caller) -> None:
        """Cancels what works there, the entries of brackets before their exits."""
        for record in [*self.journal.open.values()]:
            there = record.account == account and record.contract.con_id == contract.con_id
            if there and record.id in self.journal.open and record.state is State.ACKNOWLEDGED:
                with suppress(OrderNotOpenError):  # it has ended meanwhile, perhaps with its entry
                    await self.canceller.cancel(record.id, caller)

    # in the sender's turn -----------------------------------------------------------------------

    async def _sized(
        self, request: TargetRequest, prepared: Prepared, account: str
    ) -> list[Prepared]:
        """What is to be sent now; empty when nothing is."""
        standing = await self._standing(account, prepared.contract.con_id)
        target = request.target_quantity
        coming = sum(
            largest_of_groups(each for each in standing.working if each.action == action) * sign
            for action, sign in (("BUY", 1), ("SELL", -1))
        )
        missing = target - standing.position - coming
        _require_clear(standing, target, missing)
        if abs(missing) <= _SLACK:
            return []
        order = request.order("BUY" if missing > 0 else "SELL", round(abs(missing), 9))
        made: tuple[Leg, ...] = legs(order, account, prepared.ladder)
        same_side = target * standing.position >= 0
        closes = same_side and abs(target) < abs(standing.position)
        return [structs.replace(prepared, legs=made, closes=closes)]

    async def free_to_close(self, account: str, con_id: int) -> float:
        """How much of a long position no order works on; in the sender's turn."""
        standing = await self._standing(account, con_id)
        sold = (each for each in (*standing.working, *standing.waiting) if each.action == "SELL")
        return max(0.0, standing.position - largest_of_groups(sold))

    async def _standing(self, account: str, con_id: int) -> Standing:
        """The same found twice in a row: between two looks nothing was filled."""
        before: Standing | None = None
        for _ in range(_LOOKS):
            standing = await self._look(account, con_id)
            if standing == before:
                return standing
            before = standing
        raise PositionsMovingError("orders fill at this moment: nothing was sent")

    async def _look(self, account: str, con_id: int) -> Standing:
        others = await self.other_clients.listed()
        held = await self.gateway.queries.positions(timeout=_LOOK_SECONDS)
        await self.journal.flush()
        working: list[Working] = []
        waiting: list[Working] = []
        for record in self.journal.open.values():
            if (record.account, record.contract.con_id) == (account, con_id):
                if record.state is State.UNKNOWN:
                    raise OrdersInTheWayError([record.id], "nobody knows the fate of an order")
                (waiting if _waits(record) else working).append(_working(record))
        for view in others:
            if (view.account, view.con_id) == (account, con_id):
                waits = kind_of_type(view.order_type).waits
                (waiting if waits else working).append(
                    Working(
                        name=view.order_id,
                        account=account,
                        con_id=con_id,
                        action=view.action,
                        quantity=view.remaining,
                        together=view.oca_group or view.order_id,
                    )
                )
        position = sum(
            each.quantity
            for each in held
            if (each.account, each.contract.con_id) == (account, con_id)
        )
        return Standing(position, tuple(working), tuple(waiting))


def _require_clear(standing: Standing, target: float, missing: float) -> None:
    """Refuses what would go against orders that work, or leave protective ones too large."""
    against = "SELL" if missing > 0 else "BUY"
    crossing = [each for each in standing.working if each.action == against]
    if abs(missing) > _SLACK and crossing:
        raise OrdersInTheWayError(
            [each.name for each in crossing], "orders that work go the other way"
        )
    for action, sign in (("SELL", 1), ("BUY", -1)):
        waiting = [each for each in standing.waiting if each.action == action]
        covered = max(0.0, target * sign)
        reducing = standing.position * sign > 0 or target == 0
        if reducing and abs(missing) > _SLACK and largest_of_groups(waiting) > covered + _SLACK:
            raise OrdersInTheWayError(
                [each.name for each in waiting],
                f"stops or exits of more than the {abs(target):g} that will be left",
            )


def _waits(record: OrderRecord) -> bool:
    terms = record.terms
    held_back = bool(terms.conditions or terms.good_after_time)
    return record.role in _CLOSING_ROLES or held_back or kind_of_type(terms.order_type).waits


def _working(record: OrderRecord) -> Working:
    return of_order(record.id, record.contract, record.terms, record.remaining)


def _chosen(held: Position, request: CloseRequest) -> bool:
    if not held.quantity or (request.account and held.account != request.account):
        return False
    if request.con_id:
        return held.contract.con_id == request.con_id
    wanted = request.symbol.strip().upper()
    return held.contract.symbol.upper() == wanted if wanted else request.all


def _any_size(request: TargetRequest) -> float:
    """A quantity for looking the contract up, before the difference is known."""
    return abs(request.target_quantity) or 1.0
