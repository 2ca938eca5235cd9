"""Order numbers: rising, and never one that the journal has given out before.

Also under another client id: settings may change it at any time, and back.
"""

from __future__ import annotations

from bridge.store import Database, orders
from bridge.tws.gateway import Gateway


class OrderNumbers:
    """The gateway's numbers, past everything in the journal."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._highest = 0

    async def load(self, database: Database) -> None:
        """Looks up what earlier processes have given out."""
        self._highest = await database.read(orders.highest_broker_order_id)

    def next(self) -> int:
        """A fresh number; `NotConnectedError` before the gateway has named its first one."""
        # The gateway's own count may have been reset, or have never seen the last.
        self._highest = max(self._gateway.next_order_id(), self._highest + 1)
        return self._highest
