"""Closing positions: each with an order of its own, a strategy as the combination that it is.

A strategy is what `bridge.rules.holdings` tells: positions that were opened by one order of several
legs, or that a rule names together. It is closed as one order, sized in the sender's turn: never
more than is held of each leg, less what works there already.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, structs

from bridge.account.held_before import HeldBefore
from bridge.auditing import Auditor, Caller, Trail
from bridge.clock import Clock
from bridge.errors import BridgeError, InvalidRequestError
from bridge.model import Contract, Position
from bridge.orders.cancel_before import CancelBefore
from bridge.orders.errors import (
    KeyReusedError,
    NoPositionError,
    OrderEndedError,
    OrderRejectedError,
    OrdersInTheWayError,
    PositionsMovingError,
    TooManyOrdersError,
    name_cancelled,
)
from bridge.orders.exposure import Place, closable
from bridge.orders.held_and_working import (
    LOOK_SECONDS,
    Standing,
    Standings,
    require_clear,
    require_known,
)
from bridge.orders.legs import legs
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.request import ComboLegRequest, OrderRequest, Request
from bridge.orders.submit import OrderSubmitter, Placed, TargetReached
from bridge.orders.target import TargetPlacer, TargetRequest
from bridge.orders.views import OrderView, TargetOrder, order_view
from bridge.quantity import SLACK, exact, orderable, plain
from bridge.rules.holdings import Holding, places_of_key
from bridge.rules.opening_history import OpeningHistory
from bridge.side_by_side import AT_ONCE, side_by_side
from bridge.store import Database, StoreError, idempotency, orders
from bridge.store.idempotency import KeyRecord
from bridge.store.orders import ENDED, Status
from bridge.tws.gateway import Gateway

CLOSABLE: Final = frozenset({"STK", "OPT", "FUT", "FOP", "CASH"})
_MOST_LEGS: Final = 4
_NOT_LISTED: Final = "the broker does not list yet what was held before its login: nothing was sent"
_ONE_PRICE: Final = "one price is for one position or strategy: name it by conId or strategy"


class CloseRequest(Request, frozen=True, kw_only=True):
    """Which positions to close: a `strategy`, one by its `conId`, all of a `symbol`, or `all`.

    Where several of them are said, what fits all of them.

    Market orders, unless one position or strategy has a `limitPrice`: of a strategy the net price
    of a unit, for which the whole is sold (`SELL`) or, if it was opened for a credit, bought back.
    """

    strategy: Annotated[str, Meta(max_length=200)] = ""
    symbol: Annotated[str, Meta(max_length=32)] = ""
    con_id: int = 0
    account: Annotated[str, Meta(max_length=64)] = ""
    all: bool = False
    order_type: Literal["MKT", "LMT"] = "MKT"
    limit_price: float | None = None
    cancel_orders: bool = False

    @property
    def everything(self) -> bool:
        """Whether nothing but `all` is said."""
        return self.all and not self.named

    @property
    def named(self) -> str:
        """What it is about, in words; empty when that is not said."""
        words = {
            "strategy": self.strategy,
            "conId": str(self.con_id or ""),
            "symbol": self.symbol.strip(),
            "account": self.account,
        }
        return ", ".join(f"{name} {word}" for name, word in words.items() if word)


class ClosedPosition(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of closing one position or strategy: an order, or the problem that there was.

    `position` is its size; of a strategy the units of it. `cancelled` are the orders that were
    cancelled first; where there is an order or a problem, that names them, too.
    """

    account: str
    con_id: int
    symbol: str
    sec_type: str
    position: float
    strategy: str | None = None
    order: Any = None
    problem: dict[str, Any] | None = None
    cancelled: tuple[str, ...] = ()


class ClosedPositions(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of closing each; `complete` when every one has its order, or needs none.

    An order that has ended and has not closed its position is no order here, but a problem.
    """

    complete: bool
    positions: tuple[ClosedPosition, ...]


@dataclass(kw_only=True, eq=False)
class PositionCloser:
    """Closes positions and strategies."""

    database: Database
    gateway: Gateway
    preparer: Preparer
    submitter: OrderSubmitter
    targets: TargetPlacer
    cancel_before: CancelBefore
    standings: Standings
    history: OpeningHistory
    auditor: Auditor
    clock: Clock

    async def close(
        self, request: CloseRequest, key: str | None, caller: Caller
    ) -> ClosedPositions:
        """Closes what the request names, once for a key."""
        async with self.auditor.trail(caller, "positions.close", request):
            claim = self.submitter.claim(key, ("close", request))
            known = await self.database.read(lambda c: idempotency.get(c, claim.key_digest))
            if known is not None and known.body_digest != claim.body_digest:
                raise KeyReusedError("this Idempotency-Key came with another body before")
            if known is not None and known.accepted:
                return msgspec.json.decode(known.answer, type=ClosedPositions)
            _require_named(request)
            self.gateway.require_ready()
            held = await self.gateway.queries.positions(timeout=LOOK_SECONDS)
            chosen = await self._chosen(held, request)
            late = [each for each in self.standings.late() if _is_meant(each, request)]
            if late and not chosen:
                raise PositionsMovingError(_NOT_LISTED)
            if not chosen and known is None and not request.everything:
                chosen = self._being_opened(request)
                if not chosen:
                    raise NoPositionError(f"nothing is held of {request.named}")
            if request.limit_price is not None and len(chosen) + len(late) > 1:
                raise _invalid("limitPrice", _ONE_PRICE)
            works = [partial(self._close, each, request, claim, caller) for each in chosen]
            # One after the other where several may want the same order gone.
            at_once = 1 if request.cancel_orders else AT_ONCE
            closed = [*await side_by_side(works, at_once), *map(_not_listed, late)]
            done = all(each.problem is None for each in closed)
            answer = ClosedPositions(complete=done, positions=tuple(closed))
            if done and closed:
                await self._keep(claim, answer)
            elif any(_may_be_sent(each) for each in closed):
                await self._begun(claim)
            return answer

    async def _chosen(
        self, held: Sequence[Position], request: CloseRequest
    ) -> Sequence[Position | Holding]:
        if not request.strategy:
            return [each for each in held if _is_chosen(each, request)]
        return [each for each in await self.history.holdings(held) if _is_named(each, request)]

    def _being_opened(self, request: CloseRequest) -> list[Position]:
        """What is named, not held, and may be held soon: an order of this bridge works there.

        Whoever closes it wants none of it; "nothing is held" would be over by the next fill.
        """
        empty = {
            (record.account, record.contract.con_id): Position(
                account=record.account, contract=record.contract, quantity=0.0, average_cost=None
            )
            for record in self.standings.filling()
        }
        return [each for each in empty.values() if not request.strategy and _fits(each, request)]

    async def _close(
        self, chosen: Position | Holding, request: CloseRequest, claim: KeyRecord, caller: Caller
    ) -> ClosedPosition:
        if isinstance(chosen, Holding):
            return await self._close_strategy(chosen, request, claim, caller)
        return await self._close_position(chosen, request, claim, caller)

    async def _close_position(
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
            return _not_traded(shown, contract.sec_type)
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
            place = partial(self.targets.place, target, own_key, caller)
            placed = await self._in_its_turn(place, request)
            return await self._with_order(shown, placed)
        except BridgeError as error:
            return _with_problem(shown, error)

    async def _close_strategy(
        self, holding: Holding, request: CloseRequest, claim: KeyRecord, caller: Caller
    ) -> ClosedPosition:
        contract = holding.legs[0].contract
        shown = ClosedPosition(
            account=holding.account,
            con_id=0 if holding.combination else contract.con_id,
            symbol=contract.symbol,
            sec_type="BAG" if holding.combination else contract.sec_type,
            position=holding.units * (1 if holding.combination else holding.direction),
            strategy=holding.key,
        )
        strange = {leg.contract.sec_type for leg in holding.legs} - CLOSABLE
        if strange or len(holding.legs) > _MOST_LEGS:
            return _not_traded(shown, strange.pop() if strange else f"{len(holding.legs)} legs")
        try:
            key = f"{claim.key_digest}/{holding.key}"
            place = partial(self._place, holding, request, key, caller)
            placed = await self._in_its_turn(place, request)
            return await self._with_order(shown, placed)
        except BridgeError as error:
            return _with_problem(shown, error)

    async def _in_its_turn(
        self, place: Callable[[], Awaitable[Placed]], request: CloseRequest
    ) -> Placed:
        """Again where those beside it have kept the sender busy for too long: nothing was sent."""
        for _ in range(0 if request.cancel_orders else AT_ONCE - 1):
            with suppress(TooManyOrdersError):
                return await place()
        return await place()

    async def _place(
        self, holding: Holding, request: CloseRequest, key: str, caller: Caller
    ) -> Placed:
        """One order for the whole, once for a key; sized when it is its turn."""
        async with self.auditor.trail(caller, "strategy.close", request) as trail:
            claim = self.submitter.claim(key, ("strategy", request))
            return await self.submitter.once(
                claim, trail, lambda: self._place_once(holding, request, claim, trail)
            )

    async def _place_once(
        self, holding: Holding, request: CloseRequest, claim: KeyRecord, trail: Trail
    ) -> Placed:
        order = structs.replace(
            closing_order(holding, holding.units, request.limit_price),
            order_type=request.order_type,
        )
        prepared = await self.preparer.prepare(order)
        places = _places(holding)

        async def sized() -> list[Prepared]:
            looked = await self.standings.with_positions(places)
            return await self._sized(holding, order, prepared, *looked)

        contract = prepared.contract
        if not request.cancel_orders:
            return await self.submitter.place_sized(claim, sized, trail, contract)
        standing, held = await self.standings.with_positions(places)

        async def expected(left: Standing) -> list[Prepared]:
            return await self._sized(holding, order, prepared, left, held)

        return await self.cancel_before.place(claim, standing, expected, sized, trail, contract)

    async def _sized(
        self,
        holding: Holding,
        order: OrderRequest,
        prepared: Prepared,
        standing: Standing,
        held: Sequence[Position],
    ) -> list[Prepared]:
        """The order for as many units as are held and not being closed; empty for none."""
        present = await self.history.holdings(held)
        still = next((each for each in present if each.key == holding.key), None)
        if still is None:
            raise PositionsMovingError("it is not held any more as it was: nothing was sent")
        units = free_units(still, standing)
        if units <= SLACK:
            return []
        if not holding.combination:
            units = orderable(prepared.contract.sec_type, units)
        made = legs(structs.replace(order, quantity=units), holding.account, prepared.ladder)
        return [structs.replace(prepared, legs=made, closes=True)]

    async def _with_order(self, shown: ClosedPosition, placed: Placed) -> ClosedPosition:
        """With the order that it has, unless that is over by now and has not closed it."""
        answer = placed.answer
        if isinstance(answer, TargetReached):
            return structs.replace(shown, cancelled=answer.cancelled)
        cancelled = answer.cancelled if isinstance(answer, TargetOrder) else ()
        shown = structs.replace(shown, order=msgspec.to_builtins(answer), cancelled=cancelled)
        if not isinstance(answer, OrderView):
            return shown
        present = await self._present(answer) if placed.replayed else answer
        if present.status not in ENDED or present.status is Status.FILLED:
            return shown
        order = msgspec.to_builtins(present)
        ended = OrderEndedError(
            f"order {present.order_id} ended as {present.status},"
            f" {plain(present.filled)} of {plain(present.quantity)} filled",
            extra={"order": order},
        )
        name_cancelled(ended, cancelled)
        return _with_problem(structs.replace(shown, order=order), ended)

    async def _present(self, answer: OrderView) -> OrderView:
        """What has become of the order of an answer that is repeated; it may be archived."""
        record = await self.database.read(lambda c: orders.get(c, answer.order_id))
        return answer if record is None else order_view(record)

    async def _begun(self, claim: KeyRecord) -> None:
        """Takes the key: what its next request does not find any more, this one has closed.

        The answer is owed whether or not the journal takes that.
        """

        def write(connection: Any) -> None:
            idempotency.claim(connection, claim.key_digest, claim.body_digest, claim.created_at)

        with suppress(StoreError):
            await self.database.write(write)

    async def _keep(self, claim: KeyRecord, answer: ClosedPositions) -> None:
        body, now = msgspec.json.encode(answer), self.clock.now()

        def write(connection: Any) -> None:
            idempotency.claim(connection, claim.key_digest, claim.body_digest, claim.created_at)
            idempotency.answer(connection, claim.key_digest, body, now, accepted=True)

        await self.database.write(write)


def closing_order(
    holding: Holding, units: float, limit: float | None, *, outside: bool = False
) -> OrderRequest:
    """The order that closes units of a holding; without a limit at the market.

    A position by its number; a combination by its legs, the whole as what it is judged as: one that
    was opened for a credit is bought back, so the order's legs are the other way round.
    """
    contract = holding.legs[0].contract
    common: dict[str, Any] = {
        "symbol": contract.symbol,
        "action": "SELL" if holding.direction > 0 else "BUY",
        "quantity": units,
        "order_type": "MKT" if limit is None else "LMT",
        "limit_price": limit,
        "account": holding.account,
        "outside_rth": outside and limit is not None,
        "round_to_tick": True,
    }
    if not holding.combination:
        return OrderRequest(con_id=contract.con_id, **common)
    parts = tuple(
        ComboLegRequest(
            action="BUY" if leg.ratio * holding.direction > 0 else "SELL",
            ratio=round(abs(leg.ratio)),
            con_id=leg.contract.con_id,
        )
        for leg in holding.legs
    )
    return OrderRequest(sec_type="BAG", legs=parts, **common)


def free_units(holding: Holding, standing: Standing) -> float:
    """How many units of it no order closes yet, and one order may.

    Raises:
        OrdersInTheWayError: orders work there that go the other way, close some legs and not the
            others, or (stops) would be left with nothing to close; or may have closed some.
    """
    closes = {(place, action) for place, _, _, action in _sides(holding)}
    require_known(each for each in standing.unknown if (each.place, each.action) in closes)
    covered = [
        max(0.0, abs(size) - closable(place, action, standing.positions, standing.working))
        / abs(ratio)
        for place, ratio, size, action in _sides(holding)
    ]
    if max(covered) - min(covered) > SLACK:
        names = dict.fromkeys(each.name for each in standing.working)
        text = "orders work that close some of its legs and not the others"
        raise OrdersInTheWayError(list(names), text)
    left = exact(holding.units - covered[0])
    if holding.combination:
        left = float(math.floor(left + SLACK))
    elif covered[0] > SLACK:
        left = orderable(holding.legs[0].contract.sec_type, left, beside=True)
    if left <= SLACK:
        return 0.0
    for place, ratio, size, _ in _sides(holding):
        require_clear(standing, place, standing.positions[place] - size, -ratio * left)
    return left


def _sides(holding: Holding) -> list[tuple[Place, float, float, str]]:
    """Of each leg: where it is held, its ratio and size, and what closes it."""
    return [
        (
            (holding.account, leg.contract.con_id),
            leg.ratio,
            leg.ratio * holding.units,
            "SELL" if leg.ratio > 0 else "BUY",
        )
        for leg in holding.legs
    ]


def _places(holding: Holding) -> list[Place]:
    return [(holding.account, leg.contract.con_id) for leg in holding.legs]


def _require_named(request: CloseRequest) -> None:
    """Raises when nobody has said what to close, or one price is for whatever is held."""
    chosen = request.strategy or request.con_id or request.symbol.strip()
    if not chosen and not request.all:
        raise _invalid("all", "say what to close: a strategy, conId, symbol, or all: true")
    if not chosen and request.limit_price is not None:
        raise _invalid("limitPrice", _ONE_PRICE)


def _invalid(field: str, message: str) -> InvalidRequestError:
    problem = {"field": field, "message": message, "code": "invalid"}
    return InvalidRequestError(message, extra={"errors": [problem]})


def _may_be_sent(closed: ClosedPosition) -> bool:
    """Whether an order of it is known, be it without an answer yet."""
    return closed.problem is None or "order" in closed.problem


def _not_traded(shown: ClosedPosition, what: str) -> ClosedPosition:
    text = f"{what} is not traded through the bridge: close it in TWS"
    return structs.replace(shown, problem={"code": "sec-type-not-allowed", "detail": text})


def _not_listed(late: HeldBefore) -> ClosedPosition:
    shown = ClosedPosition(
        account=late.account,
        con_id=late.con_id,
        symbol=late.symbol,
        sec_type=late.sec_type,
        position=late.quantity,
    )
    return _with_problem(shown, PositionsMovingError(_NOT_LISTED))


def _with_problem(shown: ClosedPosition, error: BridgeError) -> ClosedPosition:
    step = error.next_step
    if isinstance(error, OrderRejectedError):
        step = f"{step}. Close it again with a new Idempotency-Key: this one keeps that answer"
    problem = {
        "code": error.code,
        "detail": error.detail,
        "nextStep": step,
        **error.extra,
    }
    cancelled = tuple(error.extra.get("cancelled", ()))
    return structs.replace(shown, problem=problem, cancelled=cancelled)


def _is_chosen(held: Position, request: CloseRequest) -> bool:
    """Whether all that the request says fits it."""
    some = request.con_id or request.symbol.strip() or request.all
    return bool(some and held.quantity and _fits(held, request))


def _fits(held: Position, request: CloseRequest) -> bool:
    return (
        request.account in {"", held.account}
        and request.con_id in {0, held.contract.con_id}
        and _is_of(held.contract, request)
    )


def _is_named(holding: Holding, request: CloseRequest) -> bool:
    contracts = [leg.contract for leg in holding.legs]
    return (
        holding.key == request.strategy
        and request.account in {"", holding.account}
        and request.con_id in {0, *(each.con_id for each in contracts)}
        and all(_is_of(each, request) for each in contracts)
    )


def _is_meant(late: HeldBefore, request: CloseRequest) -> bool:
    """Whether the request is for what is not listed yet; of a strategy it may be a leg."""
    if request.strategy:
        return late.name in places_of_key(request.strategy)
    return (
        request.account in {"", late.account}
        and request.con_id in {0, late.con_id}
        and _is_of(late, request)
    )


def _is_of(contract: Contract | HeldBefore, request: CloseRequest) -> bool:
    return request.symbol.strip().upper() in {"", contract.symbol.upper()}
