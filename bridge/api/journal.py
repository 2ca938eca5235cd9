"""The journal itself: its condition, and what could not be kept in it."""

from __future__ import annotations

from bridge.api.routing import Call, RouteTable
from bridge.auditing import Caller
from bridge.callers import Scope
from bridge.orders.journal_service import JournalService, JournalView

routes = RouteTable("journal")


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
