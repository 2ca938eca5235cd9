"""Order numbers under this client id.

Rising, and never one that the journal has given out before.
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
        client_id = self._gateway.client_id
        self._highest = await database.read(
            lambda connection: orders.highest_broker_order_id(connection, client_id)
        )

    def next(self) -> int:
        """A fresh number; `NotConnectedError` before the gateway has named its first one."""
        number = self._gateway.next_order_id()
        while number <= self._highest:  # the gateway's own count was reset, or never saw the last
            number = self._gateway.next_order_id()
        self._highest = number
        return number
