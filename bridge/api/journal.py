"""The journal itself: its condition, what could not be kept in it, and the audit log."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bridge.api.routing import Call, Params, RouteTable
from bridge.auditing import Caller
from bridge.callers import Scope
from bridge.orders.journal_service import JournalService, JournalView
from bridge.orders.service import AuditPage, OrderService

routes = RouteTable("journal")


class AuditParams(Params, frozen=True, kw_only=True):
    """Which entries; `verify` also follows the chain of all of them."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    verify: bool = False


@routes.get("/journal", answer=JournalView, scope=Scope.ADMIN)
async def read_journal(call: Call[None, None]) -> JournalView:
    """The journal's condition, and the broker's messages that could not be kept."""
    return await call.services[JournalService].view()


@routes.post("/journal/accept", answer=JournalView, scope=Scope.ADMIN)
async def accept_journal(call: Call[None, None]) -> JournalView:
    """A person's word that a lost, restored or moved journal may be used: orders go out again.

    Compare open orders and fills with TWS first. A halt that a person has made stays.
    """
    caller = Caller(call.principal.key_id, call.request_id)
    return await call.services[JournalService].accept(caller)


@routes.delete("/journal/quarantine", answer=JournalView, scope=Scope.ADMIN)
async def dismiss_quarantine(call: Call[None, None]) -> JournalView:
    """Says that a person has compared what was set aside with TWS; it stays listed."""
    caller = Caller(call.principal.key_id, call.request_id)
    return await call.services[JournalService].dismiss(caller)


@routes.get("/audit", params=AuditParams, answer=AuditPage, scope=Scope.ADMIN)
async def read_audit(call: Call[AuditParams, None]) -> AuditPage:
    """Every call that changed or could have changed something, refused ones too, the newest first.

    Each entry carries a hash over itself and the one before. `verify=true` follows them all and
    says whether one was changed or removed.
    """
    params = call.params
    service = call.services[OrderService]
    return await service.audit(params.cursor, params.limit, verify=params.verify)
