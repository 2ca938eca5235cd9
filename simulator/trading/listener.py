"""Who hears of what happens at the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from simulator.account.margin import Preview
    from simulator.trading.order import Execution, Order


class Listener(Protocol):
    """The gateway's side: turns what happens into messages for the clients that may know."""

    def order_shown(self, order: Order) -> None:
        """An order's terms or state changed: openOrder and orderStatus."""

    def status_changed(self, order: Order) -> None:
        """Only an order's status changed: orderStatus."""

    def executed(self, execution: Execution) -> None:
        """An order was filled, whole or in part: execDetails."""

    def commissioned(self, execution: Execution) -> None:
        """The commission of a fill is known: commissionReport."""

    def account_changed(self, account: str) -> None:
        """Positions changed without a fill."""

    def previewed(self, order: Order, preview: Preview) -> None:
        """What an order would do, had it been sent: openOrder with whatIf."""

    def message(self, client_id: int, order_id: int, code: int, text: str) -> None:
        """An error or a warning about an order."""
