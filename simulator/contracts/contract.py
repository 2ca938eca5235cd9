"""One tradable contract, as the gateway describes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

SMART = "SMART"
FAMILIES = {"CONTFUT": "FUT", "FOP": "OPT"}
"""Kinds of contracts that are dealt in as another kind is."""


def family(sec_type: str) -> str:
    """The kind whose prices, data and margins a kind of contract has."""
    return FAMILIES.get(sec_type, sec_type)


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that exists; `exchange` is where the client asked for it."""

    con_id: int
    symbol: str
    sec_type: str
    """STK, OPT, FUT, CONTFUT, FOP, CASH, IND or BOND."""
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
    month: str = ""
    """The contract month, YYYYMM; a future may expire in the month before."""

    @property
    def kind(self) -> str:
        """The kind whose prices and data it has."""
        return family(self.sec_type)

    def at(self, exchange: str) -> Contract:
        """The same contract on another exchange."""
        return self if exchange == self.exchange else replace(self, exchange=exchange)

    @property
    def size(self) -> float:
        """The multiplier as a number."""
        return float(self.multiplier or 1)


class Leg(NamedTuple):
    """A part of a combination; `sign` is 1 for a bought leg and -1 for a sold one."""

    contract: Contract
    ratio: int
    sign: int


@dataclass(frozen=True, slots=True)
class Combination(Contract):
    """A combination of several contracts that are traded together."""

    legs: tuple[Leg, ...] = ()


def legs_of(contract: Contract) -> tuple[Leg, ...]:
    """The legs of a combination; none of anything else."""
    return contract.legs if isinstance(contract, Combination) else ()


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
