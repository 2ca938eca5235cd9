"""Where a broker's message (code and text) goes.

To the session, to a request, to a subscription, to an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.tws.broker_codes import CodeClass, classify, error_for, is_notice, refuses_preview
from bridge.tws.dial import DialProblem
from bridge.tws.errors import UpstreamLostError
from bridge.tws.link import Link
from bridge.tws.reconcile import Reconciliation
from bridge.tws.requests import CURRENT_TIME
from bridge.tws.subscriptions import Subscriptions

if TYPE_CHECKING:
    from bridge.tws.supervisor import Starting


READ_ONLY_CODE = 321
ORDER_LISTS = ("openOrders", "allOpenOrders", "completedOrders")


class Messages:
    """Routes by class first, by id second."""

    def __init__(
        self, link: Link, subscriptions: Subscriptions, reconciliation: Reconciliation
    ) -> None:
        self._link = link
        self._subscriptions = subscriptions
        self._reconciliation = reconciliation
        self._session: dict[CodeClass, Callable[[int, str], None]] = {
            CodeClass.UPSTREAM_LOST: self._upstream_lost,
            CodeClass.UPSTREAM_RESTORED: lambda code, _: self._upstream_restored(code, lost=False),
            CodeClass.DATA_LOST: lambda code, _: self._upstream_restored(code, lost=True),
        }

    def arrived(self, request_id: int, code: int, text: str, starting: Starting) -> None:
        """One message; never raises."""
        link = self._link
        kind = classify(code)
        link.broker_said(code, text)
        link.events.notice.emit(request_id, code, text)
        if kind is CodeClass.CLIENT_ID:
            starting.refused(DialProblem.CLIENT_ID_TAKEN, f"{code} {text}")
        elif kind in self._session:
            self._session[kind](code, text)
        elif request_id > 0:
            self._about(request_id, code, text)
        elif code == READ_ONLY_CODE:
            # A gateway in read-only mode refuses to list orders, and does not say which request.
            link.requests.fail_kinds(ORDER_LISTS, error_for(code, text))
        if kind is CodeClass.RATE and code == 100:
            link.pacer.slow_down()
            link.diagnostics.note("rate-exceeded", text=text)

    def _about(self, request_id: int, code: int, text: str) -> None:
        pending = self._link.requests.get(request_id)
        if pending or self._subscriptions.flow(request_id):
            what_if = pending is not None and pending.kind == "what-if"
            if pending and what_if and not refuses_preview(code):
                pending.said = f"{code}: {text}"  # it may be told if no answer comes
            elif not is_notice(code):
                error = error_for(code, text, about_order=what_if)
                if not self._link.requests.fail(request_id, error):
                    self._subscriptions.fail(request_id, error)
        else:
            self._link.events.order_error.emit(request_id, error_for(code, text, about_order=True))

    def _upstream_lost(self, code: int, text: str) -> None:
        link = self._link
        if not link.upstream:
            return
        link.diagnostics.note("upstream-lost", code=code, text=text)
        link.machine.update(upstream=False, reconciled=False)
        link.pacer.clear()
        link.requests.fail_all(
            lambda kind: UpstreamLostError(
                f"{kind} was pending when the gateway lost the broker",
                broker_code=code,
                broker_text=text,
            ),
            forget=False,
            spare=CURRENT_TIME,
        )
        self._subscriptions.interrupt(forget=False)
        link.events.upstream_lost.emit()

    def upstream_answered(self) -> None:
        """The broker answers although the gateway never said that it is back.

        What it still sends is not known, so every subscription is asked for anew.
        """
        self._link.diagnostics.note("upstream-answered")
        self._subscriptions.withdraw()
        self._back(lost=True)

    def _upstream_restored(self, code: int, *, lost: bool) -> None:
        self._link.diagnostics.note("upstream-restored", code=code, dataLost=lost)
        if lost:
            self._subscriptions.interrupt(forget=True)
        self._back(lost=lost)

    def _back(self, *, lost: bool) -> None:
        link = self._link
        link.breakers.reset()
        link.machine.update(upstream=True, reconciled=False)
        link.events.upstream_restored.emit(lost)
        self._reconciliation.wanted.set()
