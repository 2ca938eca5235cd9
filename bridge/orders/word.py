"""The broker's word on one order, heard where it arrives and not where it is kept.

Whoever cancels must not wait for a journal that is full, locked or slow.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from bridge.clock import Clock
from bridge.model import OpenOrder, OrderStatus
from bridge.orders import lifecycle
from bridge.orders.lifecycle import BrokerError, ChangeSent, Happening, Reported, StatusReported
from bridge.store.orders import OrderRecord, PendingChange
from bridge.tws.errors import TwsError
from bridge.tws.gateway import GatewayEvents


class BrokersWord:
    """What becomes of `record` from now on. Use it as a context manager."""

    def __init__(self, events: GatewayEvents, record: OrderRecord, clock: Clock) -> None:
        self.record = lifecycle.apply(
            record, ChangeSent(clock.now(), PendingChange(at=clock.now()))
        )
        self._clock = clock
        self._answered = asyncio.Event()
        self._removers = [
            events.order_status.listen(self._status),
            events.open_order.listen(self._listed),
            events.order_error.listen(self._error),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for remove in self._removers:
            remove()

    async def answered(self) -> None:
        """Returns when the order has ended, or the broker has refused to end it."""
        await self._answered.wait()

    def _status(self, status: OrderStatus) -> None:
        mine = (self.record.client_id, self.record.broker_order_id)
        if (status.client_id, status.order_id) == mine:
            self._happened(StatusReported(self._clock.now(), status))

    def _listed(self, report: OpenOrder) -> None:
        if report.order.order_ref == self.record.order_ref and not report.order.what_if:
            self._happened(Reported(self._clock.now(), report))

    def _error(self, order_id: int, error: TwsError) -> None:
        if order_id == self.record.broker_order_id and error.broker_code is not None:
            text = error.broker_text or error.detail
            self._happened(BrokerError(self._clock.now(), error.broker_code, text))

    def _happened(self, happening: Happening) -> None:
        self.record = lifecycle.apply(self.record, happening)
        if not self.record.open or self.record.pending is None:
            self._answered.set()
