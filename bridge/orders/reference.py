"""The quote that an order is checked against."""

from __future__ import annotations

from typing import Final, Protocol

from bridge.callers import ORDER_CHECKS
from bridge.errors import BridgeError, Kind
from bridge.market.quote_values import QuoteValue
from bridge.market.quotes import QuoteService
from bridge.model import Contract
from bridge.orders.risk_context import Reference

_WAIT_SECONDS: Final = 2.0
_TOO_MANY_LINES: Final = 101  # the broker's own count is used up, perhaps by TWS beside us


class References(Protocol):
    """Where the last quote comes from."""

    async def reference(self, contract: Contract) -> Reference | None:
        """The last quote of a qualified contract; None when the broker has none.

        One with `no_line` when nobody could ask.
        """


class DeskReferences:
    """Over the shared market-data lines: at once when the line is open already."""

    def __init__(self, quotes: QuoteService) -> None:
        self._quotes = quotes

    async def reference(self, contract: Contract) -> Reference | None:
        """Delayed and frozen values count, those from before an interruption do not."""
        try:
            quote = await self._quotes.quote(contract, timeout=_WAIT_SECONDS, holder=ORDER_CHECKS)
        except BridgeError as error:
            broker_code = getattr(error, "broker_code", None)
            if error.kind is Kind.LIMITED or broker_code == _TOO_MANY_LINES:
                return Reference(no_line=True)
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
