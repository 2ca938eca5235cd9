"""One tradable contract, as the gateway describes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

SMART = "SMART"


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that exists; `exchange` is where the client asked for it."""

    con_id: int
    symbol: str
    sec_type: str
    """STK, OPT, FUT, CASH or IND."""
    currency: str = "USD"
    exchange: str = SMART
    primary_exchange: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    expiry: str = ""
    """The last trading day, YYYYMMDD."""
    strike: float = 0.0
    right: str = ""
    """C or P."""
    multiplier: str = ""
    min_tick: float = 0.01
    under_id: int = 0
    """The contract number of what an option or a future is about."""

    def at(self, exchange: str) -> Contract:
        """The same contract on another exchange."""
        return self if exchange == self.exchange else replace(self, exchange=exchange)

    @property
    def size(self) -> float:
        """The multiplier as a number."""
        return float(self.multiplier or 1)


@dataclass(frozen=True, slots=True)
class Query:
    """What a client wrote about a contract; empty fields say nothing."""

    con_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    expiry: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    include_expired: bool = False
    sec_id_type: str = ""
    sec_id: str = ""
