"""What the order routes call: reading, previews, the kill switch.

Placing and changing beside it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from bridge.auditing import Auditor, Caller
from bridge.errors import BridgeError, InvalidRequestError
from bridge.orders.errors import OrderRefusedByRulesError, UnknownOrderError
from bridge.orders.halt import JOURNAL, Cancelling, HaltSwitch
from bridge.orders.legs import order_type
from bridge.orders.modify import CancelResult, OrderModifier
from bridge.orders.other_clients import OtherClientsOrders, perm_id_of
from bridge.orders.request import OcaRequest, OrderRequest
from bridge.orders.risk import violations
from bridge.orders.risk_context import RiskContext
from bridge.orders.sender import OrderSender
from bridge.orders.submit import OrderSubmitter, check_group
from bridge.orders.views import (
    DryRun,
    OrderDetail,
    OrdersPage,
    Preview,
    order_detail,
    order_view,
    what_if_members,
)
from bridge.store import Database, audit, order_events, orders
from bridge.store.audit import AuditEntry, Verification
from bridge.store.identity import ACCEPT
from bridge.tws.gateway import Gateway

LARGEST_PAGE: Final = 500
_WHAT_IF_SECONDS: Final = 8.0
_VERIFIED_AT_ONCE: Final = 1000


class HaltView(Struct, rename="camel", frozen=True, kw_only=True):
    """The kill switch, and what became of the open orders that were to be cancelled with it.

    `journaled` is false while the journal does not know of the halt, `survivesRestart` when a
    restarted bridge would not either.
    """

    halted: bool
    since: datetime | None = None
    by: str | None = None
    reason: str | None = None
    cancel: Cancelling = "none"
    allow_closing: bool = False
    journaled: bool = True
    survives_restart: bool = True
    cancelled: CancelResult | None = None
    next_step: str | None = None


class AuditPage(Struct, rename="camel", frozen=True, kw_only=True):
    """Entries of the audit log, the newest first."""

    entries: tuple[AuditEntry, ...]
    next_cursor: str | None = None
    verification: Verification | None = None


class OrderService:
    """Everything about orders, for the routes."""

    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        placement: OrderSubmitter,
        sender: OrderSender,
        changes: OrderModifier,
        halt: HaltSwitch,
        auditor: Auditor,
        others: OtherClientsOrders,
    ) -> None:
        self.others = others
        self.placement = placement
        self.changes = changes
        self._sender = sender
        self.halt = halt
        self._database = database
        self._gateway = gateway
        self._auditor = auditor

    # reading ------------------------------------------------------------------------------------

    async def order(self, order_id: str) -> OrderDetail:
        """One order with its history and the other legs of its group; of any client."""
        try:
            record = await self.changes.record(order_id)
        except UnknownOrderError:
            perm_id = perm_id_of(order_id)
            if perm_id is None:
                raise
            return OrderDetail(**structs.asdict(await self.others.order(perm_id)))
        legs, history = await self._database.read(
            lambda connection: (
                orders.by_group(connection, record.group_id),
                order_events.of_order(connection, record.id),
            )
        )
        return order_detail(record, legs, history)

    async def orders(
        self, *, only_open: bool, cursor: str, limit: int, everyone: bool = False
    ) -> OrdersPage:
        """The newest orders first; `everyone`: before them those of other clients that are open.

        Those are on the first page only, and beyond its limit.
        """
        before = _number(cursor)
        others = await self.others.listed() if everyone and before is None else ()
        records, following = await self._database.read(
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
        entries, following = await self._database.read(
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
            link = await self._database.read(
                lambda connection: audit.follow(connection, reached, _VERIFIED_AT_ONCE)  # noqa: B023
            )
        return audit.verification(link)

    # without placing ----------------------------------------------------------------------------

    async def dry_run(self, request: OrderRequest, caller: Caller) -> DryRun:
        """Every check of a real order; raises what a real order would raise."""
        _, contexts = await self.placement.judge((request,), caller)
        found = violations(contexts)
        if found:
            raise OrderRefusedByRulesError(found)
        return DryRun(dry_run=True, orders=tuple(_preview(context, ()) for context in contexts))

    async def dry_run_group(self, request: OcaRequest, caller: Caller) -> DryRun:
        """The same for an OCA group."""
        check_group(request)
        _, contexts = await self.placement.judge(request.orders, caller)
        found = violations(contexts)
        if found:
            raise OrderRefusedByRulesError(found)
        return DryRun(dry_run=True, orders=tuple(_preview(context, ()) for context in contexts))

    async def preview(self, request: OrderRequest, caller: Caller) -> Preview:
        """The checks' findings and the broker's what-if of the (entry) order."""
        prepared, contexts = await self.placement.judge((request,), caller)
        found = tuple(violations(contexts))
        preview = _preview(contexts[0], found)
        state = await self._sender.what_if(
            prepared[0].contract, prepared[0].legs[0].order, _WHAT_IF_SECONDS
        )
        members = {name: getattr(preview, name) for name in Preview.__struct_fields__}
        return Preview(**(members | what_if_members(state)))

    # the kill switch ----------------------------------------------------------------------------

    def halt_view(self) -> HaltView:
        """Whether trading is halted."""
        return HaltView(halted=False) if self.halt.halt is None else self._halt_view(None)

    async def halt_trading(
        self, reason: str, cancel: Cancelling, caller: Caller, *, allow_closing: bool = False
    ) -> HaltView:
        """Nothing new goes out from here on; then the open orders; the journal holds nothing up."""
        halt = self.halt.turn_on(caller.key_id, reason, cancel, allow_closing=allow_closing)
        detail = {"reason": reason, "cancel": cancel, "allowClosing": halt.allow_closing}
        async with self._auditor.trail(caller, "trading.halt", detail) as trail:
            _, cancelled = await asyncio.gather(self.halt.keep(), self._cancel(cancel))
            trail.journaled = self.halt.journaled
            return self._halt_view(cancelled)

    async def resume_trading(self, caller: Caller) -> HaltView:
        """Lets orders through again."""
        async with self._auditor.trail(caller, "trading.resume", None):
            await self.halt.turn_off()
            self.halt.require_accepted()
        return HaltView(halted=False)

    async def _cancel(self, cancel: Cancelling) -> CancelResult | None:
        if cancel == "none":
            return None
        if cancel == "opening":
            return await self.changes.cancel_opening()
        if cancel == "all" and await self._cancelled_everywhere():
            own = self.changes.own_open_orders()
            return CancelResult(requested=tuple(record.id for record in own))
        result = await self.changes.cancel_own()
        if cancel == "all":
            return structs.replace(result, failed=(*result.failed, "other clients"))
        return result

    async def _cancelled_everywhere(self) -> bool:
        """One message for all of them is ahead of one for each."""
        try:
            await self._gateway.cancel_all_orders()
        except BridgeError:
            return False
        return True

    def _halt_view(self, cancelled: CancelResult | None) -> HaltView:
        halt, switch = self.halt.halt, self.halt
        if halt is None:
            return HaltView(halted=False, cancelled=cancelled)
        step = "DELETE /trading/halt lets orders through again"
        if halt.by == JOURNAL:
            step = ACCEPT
        if not switch.survives_restart:
            step = f"Do not restart the bridge: it would forget this halt. {step}"
        if cancelled is not None and cancelled.failed:
            step = (
                "Some cancels could not be sent: they are repeated as soon as the gateway is back"
            )
        return HaltView(
            halted=True,
            since=halt.since,
            by=halt.by,
            reason=halt.reason or None,
            cancel=halt.cancel,
            allow_closing=halt.allow_closing,
            journaled=switch.journaled,
            survives_restart=switch.survives_restart,
            cancelled=cancelled,
            next_step=step,
        )


def _preview(context: RiskContext, found: tuple[Any, ...]) -> Preview:
    reference = context.reference.for_action(context.order.action) if context.reference else None
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
        reference_price=reference,
        notional=context.notional,
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
