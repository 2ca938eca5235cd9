"""Where a broker's message (code and text) goes.

To the session, to a request, to a subscription, to an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.tws.broker_codes import CodeClass, classify, error_for, is_notice, refuses_preview
from bridge.tws.connection_context import ConnectionContext
from bridge.tws.connection_state import DialProblem
from bridge.tws.errors import UpstreamLostError
from bridge.tws.requests import Key, Kind
from bridge.tws.subscriptions import Subscriptions
from bridge.tws.supervisor import Reconciliation

if TYPE_CHECKING:
    from bridge.tws.supervisor import Starting


READ_ONLY_CODE = 321
ORDER_LISTS = (Kind.OPEN_ORDERS, Kind.ALL_OPEN_ORDERS, Kind.COMPLETED_ORDERS)


class Messages:
    """Routes by class first, by id second."""

    def __init__(
        self,
        context: ConnectionContext,
        subscriptions: Subscriptions,
        reconciliation: Reconciliation,
    ) -> None:
        self._context = context
        self._subscriptions = subscriptions
        self._reconciliation = reconciliation
        self._session: dict[CodeClass, Callable[[int, str], None]] = {
            CodeClass.UPSTREAM_LOST: self._upstream_lost,
            CodeClass.UPSTREAM_RESTORED: lambda code, _: self._upstream_restored(code, lost=False),
            CodeClass.DATA_LOST: lambda code, _: self._upstream_restored(code, lost=True),
        }

    def arrived(self, request_id: int, code: int, text: str, starting: Starting) -> None:
        """One message; never raises."""
        context = self._context
        kind = classify(code)
        context.broker_said(code, text)
        if kind is CodeClass.CLIENT_ID:
            starting.refused(DialProblem.CLIENT_ID_TAKEN, f"{code} {text}")
        elif kind in self._session:
            self._session[kind](code, text)
        elif request_id > 0:
            self._about(request_id, code, text)
        elif code == READ_ONLY_CODE:
            # A gateway in read-only mode refuses to list orders, and does not say which request.
            context.requests.fail_kinds(ORDER_LISTS, error_for(code, text))
        if kind is CodeClass.RATE and code == 100:
            context.pacer.slow_down()
            context.diagnostics.note("rate-exceeded", text=text)

    def _about(self, request_id: int, code: int, text: str) -> None:
        pending = self._context.requests.get(request_id)
        if pending or self._subscriptions.get(request_id):
            what_if = pending is not None and pending.kind is Kind.WHAT_IF
            if pending and what_if and not refuses_preview(code):
                pending.said = f"{code}: {text}"  # it may be told if no answer comes
            elif not is_notice(code):
                error = error_for(code, text, about_order=what_if)
                if not self._context.requests.fail(request_id, error):
                    self._subscriptions.fail(request_id, error)
        else:
            self._context.events.order_error.emit(
                request_id, error_for(code, text, about_order=True)
            )

    def _upstream_lost(self, code: int, text: str) -> None:
        context = self._context
        if not context.upstream:
            return
        context.diagnostics.note("upstream-lost", code=code, text=text)
        context.status.update(upstream=False, reconciled=False)
        context.pacer.clear(socket_gone=False)
        context.requests.fail_all(
            lambda kind: UpstreamLostError(
                f"{kind} was pending when the gateway lost the broker",
                broker_code=code,
                broker_text=text,
            ),
            forget=False,
            spare=Key.CURRENT_TIME,
        )
        self._subscriptions.interrupt(forget=False)
        context.events.upstream_lost.emit()

    def upstream_answered(self) -> None:
        """The broker answers although the gateway never said that it is back.

        What it still sends is not known, so every subscription is asked for anew.
        """
        self._context.diagnostics.note("upstream-answered")
        self._subscriptions.withdraw()
        self._back()

    def _upstream_restored(self, code: int, *, lost: bool) -> None:
        self._context.diagnostics.note("upstream-restored", code=code, dataLost=lost)
        if lost:
            self._subscriptions.interrupt(forget=True)
        self._back()

    def _back(self) -> None:
        context = self._context
        context.breakers.reset()
        context.status.update(upstream=True, reconciled=False)
        self._reconciliation.wanted.set()
