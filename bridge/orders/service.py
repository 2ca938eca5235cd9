"""Reading orders and the audit log, trying an order without placing it, settling an unknown one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from msgspec import Struct, structs

from bridge.auditing import Auditor, Caller
from bridge.clock import Clock
from bridge.errors import InvalidRequestError
from bridge.orders.apply_messages import Own
from bridge.orders.combination import explained, loss
from bridge.orders.errors import OrderNotOpenError, OrderRefusedByRulesError, UnknownOrderError
from bridge.orders.journal import OrderJournal
from bridge.orders.lifecycle import Settled
from bridge.orders.order_ids import perm_id_of
from bridge.orders.order_types import order_type
from bridge.orders.other_clients import OtherClientsOrders
from bridge.orders.request import OcaRequest, OrderRequest
from bridge.orders.risk import violations
from bridge.orders.risk_context import RiskContext, multiplier
from bridge.orders.sender import OrderSender
from bridge.orders.submit import OrderSubmitter, check_group
from bridge.orders.views import (
    DryRun,
    OrderDetail,
    OrdersPage,
    OrderView,
    Preview,
    combo_leg_views,
    order_detail,
    order_view,
    what_if_members,
)
from bridge.store import Database, audit, executions, orders
from bridge.store.audit import AuditEntry, Verification
from bridge.store.orders import State, Status

_WHAT_IF_SECONDS: Final = 8.0
_VERIFIED_AT_ONCE: Final = 1000


class Settlement(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person found out about an order whose fate was unknown."""

    status: Literal["Filled", "Cancelled", "NotSent"]
    note: str = ""


class AuditPage(Struct, rename="camel", frozen=True, kw_only=True):
    """Entries of the audit log, the newest first."""

    entries: tuple[AuditEntry, ...]
    next_cursor: str | None = None
    verification: Verification | None = None


@dataclass(kw_only=True, eq=False)
class OrderService:
    """What there is to know about orders and what was asked of them; nothing is sent from here."""

    database: Database
    journal: OrderJournal
    submitter: OrderSubmitter
    sender: OrderSender
    other_clients: OtherClientsOrders
    auditor: Auditor
    clock: Clock

    async def order(self, order_id: str) -> OrderDetail:
        """One order with its history and the other legs of its group; of any client."""
        try:
            record = await self.journal.find(order_id)
        except UnknownOrderError:
            perm_id = perm_id_of(order_id)
            if perm_id is None:
                raise
            return OrderDetail(**structs.asdict(await self.other_clients.order(perm_id)))
        legs, history, filled = await self.database.read(
            lambda connection: (
                orders.by_group(connection, record.group_id),
                orders.events_of(connection, record.id),
                executions.of_order(connection, record.id),
            )
        )
        return order_detail(record, legs, history, filled)

    async def orders(
        self, *, only_open: bool, cursor: str, limit: int, everyone: bool = False
    ) -> OrdersPage:
        """The newest orders first; `everyone`: before them those of other clients that are open.

        Those are on the first page only, and beyond its limit.
        """
        before = _number(cursor)
        others = await self.other_clients.listed() if everyone and before is None else ()
        records, following = await self.database.read(
            lambda connection: orders.page(
                connection, only_open=only_open, before=before, limit=limit
            )
        )
        return OrdersPage(
            orders=(*others, *(order_view(record) for record in records)),
            next_cursor=None if following is None else str(following),
        )

    async def audit(self, cursor: str, limit: int, *, verify: bool = False) -> AuditPage:
        """The newest entries first, and whether all there ever were are there as they were."""
        before = _number(cursor)
        entries, following = await self.database.read(
            lambda connection: audit.page(connection, before=before, limit=limit)
        )
        return AuditPage(
            entries=tuple(entries),
            next_cursor=None if following is None else str(following),
            verification=await self._verified() if verify else None,
        )

    async def _verified(self) -> Verification:
        """In parts, so that nobody else's reading waits for a long log."""
        link = audit.Link()
        while not link.done:
            reached = link
            link = await self.database.read(
                lambda connection: audit.follow(connection, reached, _VERIFIED_AT_ONCE)  # noqa: B023
            )
        return audit.verification(link)

    async def dry_run(self, request: OrderRequest | OcaRequest, caller: Caller) -> DryRun:
        """Every check of a real order; raises what a real order would raise."""
        if isinstance(request, OcaRequest):
            check_group(request)
            judging = self.submitter.judge(request.orders, caller, request.oca_type)
        else:
            judging = self.submitter.judge((request,), caller)
        _, contexts = await judging
        found = violations(contexts)
        if found:
            raise OrderRefusedByRulesError(found)
        return DryRun(dry_run=True, orders=tuple(_preview(each, ()) for each in contexts))

    async def preview(self, request: OrderRequest, caller: Caller) -> Preview:
        """The checks' findings and the broker's what-if of the (entry) order."""
        prepared, contexts = await self.submitter.judge((request,), caller)
        found = tuple(violations(contexts))
        preview = _preview(contexts[0], found)
        state = await self.sender.what_if(
            prepared[0].contract, prepared[0].legs[0].order, _WHAT_IF_SECONDS
        )
        members = {name: getattr(preview, name) for name in Preview.__struct_fields__}
        return Preview(**(members | what_if_members(state)))

    async def settle(self, order_id: str, settlement: Settlement, caller: Caller) -> OrderView:
        """Takes a person's word for the end of an order whose fate is unknown."""
        async with self.auditor.trail(caller, "order.settle", settlement) as trail:
            record = await self.journal.find(order_id)
            trail.target = record.id
            if record.state is not State.UNKNOWN:
                raise OrderNotOpenError(
                    f"the fate of order {record.id} is known: {record.status}",
                    next_step="Nothing needs settling; cancel the order if it is open",
                )
            happening = Settled(self.clock.now(), Status(settlement.status))
            self.journal.note(Own(record.id, happening))
            await self.journal.flush()
            return order_view(await self.journal.find(record.id))


def _preview(context: RiskContext, found: tuple[Any, ...]) -> Preview:
    order, contract, net, lost = context.order, context.contract, None, loss(context)
    price = context.price if order.limit_price is None else order.limit_price
    if context.legs and price is not None:
        units, currency = multiplier(contract), contract.currency
        net = explained(order.action, price, order.quantity, units, currency)
    return Preview(
        accepted=not found,
        symbol=context.contract.symbol,
        sec_type=context.contract.sec_type,
        con_id=context.contract.con_id,
        action=context.order.action,
        quantity=context.order.quantity,
        order_type=order_type(context.order.order_type),
        account=context.order.account,
        currency=context.contract.currency,
        limit_price=context.order.limit_price,
        stop_price=context.order.stop_price,
        reference_price=context.market,
        notional=context.notional,
        base_notional=context.base_notional if context.exchange else None,
        base_currency=(context.exchange.base or None) if context.exchange else None,
        net=net,
        max_loss=None if lost is None else round(lost, 2),
        combo_legs=combo_leg_views(contract),
        violations=found,
    )


def _number(cursor: str) -> int | None:
    if not cursor:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 16):
        raise InvalidRequestError(
            f"{cursor[:40]!r} is no cursor", code="invalid-cursor", next_step="Use nextCursor"
        )
    return int(cursor)
