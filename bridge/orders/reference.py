"""The quote that an order is checked against."""

from __future__ import annotations

from typing import Final, Protocol

from bridge.errors import BridgeError
from bridge.market.quote_desk import QuoteDesk
from bridge.market.quotes import QuoteValue
from bridge.model import Contract
from bridge.orders.safety.case import Reference

_WAIT_SECONDS: Final = 2.0


class References(Protocol):
    """Where the last quote comes from."""

    async def reference(self, contract: Contract) -> Reference | None:
        """The last quote of a qualified contract; None when there is none to be had now."""


class DeskReferences:
    """Over the shared market-data lines: at once when the line is open already."""

    def __init__(self, quotes: QuoteDesk) -> None:
        self._quotes = quotes

    async def reference(self, contract: Contract) -> Reference | None:
        """Delayed and frozen values count, those from before an interruption do not."""
        try:
            quote = await self._quotes.quote(contract, timeout=_WAIT_SECONDS)
        except BridgeError:
            return None
        return Reference(
            bid=_number(quote.bid),
            ask=_number(quote.ask),
            last=_number(quote.last),
            close=_number(quote.close),
        )


def _number(value: QuoteValue | None) -> float | None:
    if value is None or value.tag == "stale" or isinstance(value.value, str):
        return None
    return value.value
