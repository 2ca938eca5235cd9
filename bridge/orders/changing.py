"""Changing and cancelling orders that are working, and settling those that nobody knows about."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from msgspec import Struct

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import Order
from bridge.orders.absorb import Own
from bridge.orders.auditing import Auditor, Caller
from bridge.orders.errors import (
    ChangeRejectedError,
    OrderFateUnknownError,
    OrderNotOpenError,
    OrderPendingError,
    OrderRefusedByRulesError,
    UnknownOrderError,
    Violation,
)
from bridge.orders.halt import HaltSwitch
from bridge.orders.legs import changed, order_type
from bridge.orders.lifecycle import ChangeDropped, ChangeSent, Settled
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.request import ChangeRequest
from bridge.orders.safety import violations
from bridge.orders.status import State, Status
from bridge.orders.tracker import Tracker
from bridge.orders.views import OrderView, order_view
from bridge.store import Database, orders
from bridge.store.orders import OrderRecord, PendingChange
from bridge.tws.gateway import Gateway

Enough = Callable[[OrderRecord], bool]


class Settlement(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person found out about an order whose fate was unknown."""

    status: Literal["Filled", "Cancelled", "NotSent"]
    note: str = ""


class CancelResult(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of cancelling several orders."""

    requested: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class Changes:
    """Modifies, cancels and settles."""

    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        preparer: Preparer,
        tracker: Tracker,
        halt: HaltSwitch,
        auditor: Auditor,
        clock: Clock,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._preparer = preparer
        self._tracker = tracker
        self._halt = halt
        self._auditor = auditor
        self._clock = clock

    async def record(self, order_id: str) -> OrderRecord:
        """The journal's row of an order, by the bridge's id or by the broker's number."""
        client_id = self._gateway.client_id
        found = await self._database.read(
            lambda connection: (
                orders.by_broker_order(connection, client_id, int(order_id))
                if order_id.isascii() and order_id.isdigit() and len(order_id) < 11
                else orders.get(connection, order_id)
            )
        )
        if found is None:
            raise UnknownOrderError(f"there is no order {order_id}")
        return found

    # modifying ----------------------------------------------------------------------------------

    async def modify(self, order_id: str, request: ChangeRequest, caller: Caller) -> OrderView:
        """Changes a working order and waits for the broker's word."""
        async with self._auditor.trail(caller, "order.modify", request) as trail:
            record = await self.record(order_id)
            trail.target = record.id
            self._require_open(record)
            self._halt.require_off()
            self._gateway.require_ready()
            terms, notional = await self._judged(record, request)
            change = PendingChange(at=self._clock.now(), terms=terms, notional=notional)
            after = await self._carry_out(
                record,
                change,
                lambda: self._gateway.place_order(record.broker_order_id, record.contract, terms),
                lambda now: now.pending is None or not now.open,
            )
            return self._modified(after, terms)

    async def _judged(self, record: OrderRecord, request: ChangeRequest) -> tuple[Order, float]:
        details = await self._preparer.details_of(record.contract)
        ladder, reference = await self._preparer.surroundings_of(details)
        terms = changed(record.terms, request, ladder)
        found = _shape(record, request)
        if found:
            raise OrderRefusedByRulesError(found)
        before = await self._database.read(self._preparer.before)
        prepared = Prepared(details=details, ladder=ladder, reference=reference, legs=())
        closing = record.parent_id is not None
        case = self._preparer.change_case(prepared, terms, record.notional, before, closing=closing)
        found = violations([case])
        if found:
            raise OrderRefusedByRulesError(found)
        return terms, 0.0 if closing else case.notional or 0.0

    @staticmethod
    def _modified(after: OrderRecord, wanted: Order) -> OrderView:
        view = order_view(after)
        shown = {"order": msgspec.to_builtins(view)}
        if after.pending is not None:
            raise OrderPendingError(
                f"the change to order {after.id} is sent, the gateway has not answered in time",
                extra=shown,
            )
        if _same(after.terms, wanted):
            return view
        if not after.open:
            raise OrderNotOpenError(f"order {after.id} is {after.status} already", extra=shown)
        raise ChangeRejectedError(
            f"the broker refused the change: {after.warning or 'no reason given'}",
            extra={"brokerText": after.warning, **shown},
        )

    # cancelling ---------------------------------------------------------------------------------

    async def cancel(self, order_id: str, caller: Caller) -> OrderView:
        """Cancels an order and waits for the broker's word; one that is cancelled stays so."""
        async with self._auditor.trail(caller, "order.cancel", None) as trail:
            record = await self.record(order_id)
            trail.target = record.id
            if record.status is Status.CANCELLED:
                return order_view(record)
            self._require_open(record)
            after = await self._carry_out(
                record,
                PendingChange(at=self._clock.now()),
                lambda: self._gateway.cancel_order(record.broker_order_id),
                lambda now: (
                    not now.open or (now.pending is None and now.state is not State.UNKNOWN)
                ),
            )
            return self._cancelled(after)

    @staticmethod
    def _cancelled(after: OrderRecord) -> OrderView:
        view = order_view(after)
        shown = {"order": msgspec.to_builtins(view)}
        if after.status is Status.CANCELLED:
            return view
        if not after.open:
            raise OrderNotOpenError(f"order {after.id} is {after.status} already", extra=shown)
        if after.state is State.UNKNOWN:
            raise OrderFateUnknownError(
                f"a cancel was sent, and the fate of order {after.id} is still unknown", extra=shown
            )
        if after.pending is not None:
            raise OrderPendingError(
                f"the cancel of order {after.id} is sent, the gateway has not answered in time",
                next_step="Read the order again, or repeat the request",
                extra=shown,
            )
        raise ChangeRejectedError(
            f"the broker refused the cancel: {after.warning or 'no reason given'}",
            extra={"brokerText": after.warning, **shown},
        )

    async def cancel_own(self) -> CancelResult:
        """Puts a cancel on the wire for every open order of this client id."""
        client_id = self._gateway.client_id
        open_orders = await self._database.read(orders.open_orders)
        requested: list[str] = []
        failed: list[str] = []
        for record in open_orders:
            if record.client_id != client_id:
                continue
            try:
                await self._gateway.cancel_order(record.broker_order_id)
            except BridgeError:
                failed.append(record.id)
            else:
                requested.append(record.id)
        return CancelResult(requested=tuple(requested), failed=tuple(failed))

    # settling -----------------------------------------------------------------------------------

    async def settle(self, order_id: str, settlement: Settlement, caller: Caller) -> OrderView:
        """Takes a person's word for the end of an order whose fate is unknown."""
        async with self._auditor.trail(caller, "order.settle", settlement) as trail:
            record = await self.record(order_id)
            trail.target = record.id
            if record.state is not State.UNKNOWN:
                raise OrderNotOpenError(
                    f"the fate of order {record.id} is known: {record.status}",
                    next_step="Nothing needs settling; cancel the order if it is open",
                )
            happening = Settled(self._clock.now(), Status(settlement.status))
            self._tracker.note(Own(record.id, happening))
            await self._tracker.flush()
            return order_view(await self.record(record.id))

    # ----------------------------------------------------------------------------------------------

    def _require_open(self, record: OrderRecord) -> None:
        shown = {"order": msgspec.to_builtins(order_view(record))}
        if not record.open:
            raise OrderNotOpenError(f"order {record.id} is {record.status} already", extra=shown)
        if record.client_id != self._gateway.client_id:
            raise OrderNotOpenError(
                f"order {record.id} belongs to client id {record.client_id}",
                next_step="Change or cancel it with that client id, or in TWS",
                extra=shown,
            )

    async def _carry_out(
        self,
        record: OrderRecord,
        change: PendingChange,
        send: Callable[[], Awaitable[None]],
        enough: Enough,
    ) -> OrderRecord:
        """Notes the change, puts it on the wire, waits until it is `enough` or time is up."""
        with self._tracker.watch([record.id]) as watch:
            self._tracker.note(Own(record.id, ChangeSent(change.at, change)))
            await self._tracker.flush()
            try:
                await send()
            except BaseException:
                self._tracker.note(Own(record.id, ChangeDropped(self._clock.now())))
                raise
            await watch.until(
                lambda found: record.id in found and enough(found[record.id]),
                self._preparer.rules.answer_within_seconds,
            )
            await self._tracker.flush()
        return await self.record(record.id)


def _shape(record: OrderRecord, request: ChangeRequest) -> list[Violation]:
    found = []
    kind = order_type(record.terms.order_type)
    taken = {"limit_price": kind in {"LMT", "STP_LMT"}, "stop_price": kind in {"STP", "STP_LMT"}}
    for name, field in (
        ("quantity", "quantity"),
        ("limit_price", "limitPrice"),
        ("stop_price", "stopPrice"),
    ):
        value = getattr(request, name)
        if value is None:
            continue
        if not taken.get(name, True):
            found.append(
                Violation(code="unexpected-field", message=f"{kind} takes no {field}", field=field)
            )
        negative_is_fine = record.contract.sec_type == "FUT" and name != "quantity"
        if not math.isfinite(value) or (value <= 0 and not negative_is_fine):
            found.append(
                Violation(code="invalid-field", message=f"{field} must be more than 0", field=field)
            )
    if request.quantity is not None and request.quantity <= record.filled:
        found.append(
            Violation(
                code="quantity-filled",
                message=f"{record.filled:g} are filled already: cancel the order instead",
                field="quantity",
                value=request.quantity,
                limit=record.filled,
            )
        )
    return found


def _same(held: Order, wanted: Order) -> bool:
    names = ("quantity", "limit_price", "stop_price", "tif")
    return all(getattr(held, name) == getattr(wanted, name) for name in names)
