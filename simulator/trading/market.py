"""What the matching engine asks of a market; times are seconds since the epoch."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from simulator.contracts.contract import Query


class Contract(Protocol):
    """What trading needs to know of a contract."""

    @property
    def con_id(self) -> int:
        """The contract's number, unique at the broker."""

    @property
    def symbol(self) -> str:
        """The underlying's symbol."""

    @property
    def sec_type(self) -> str:
        """STK, OPT, FUT, CASH or IND."""

    @property
    def expiry(self) -> str:
        """The last trading day as YYYYMMDD; empty without one."""

    @property
    def strike(self) -> float:
        """The strike of an option, else 0."""

    @property
    def right(self) -> str:
        """C or P for an option, else empty."""

    @property
    def multiplier(self) -> str:
        """The multiplier as the gateway writes it; empty means 1."""

    @property
    def exchange(self) -> str:
        """Where an order is routed."""

    @property
    def primary_exchange(self) -> str:
        """The listing exchange."""

    @property
    def currency(self) -> str:
        """The currency of its price."""

    @property
    def local_symbol(self) -> str:
        """The exchange's own symbol."""

    @property
    def trading_class(self) -> str:
        """The trading class."""

    @property
    def min_tick(self) -> float:
        """The smallest step of its price."""


class Quote(NamedTuple):
    """The best prices and their sizes at one moment."""

    bid: float
    ask: float
    last: float
    bid_size: float = 100.0
    ask_size: float = 100.0

    @property
    def middle(self) -> float:
        """Half-way between bid and ask."""
        return (self.bid + self.ask) / 2


class Phase(IntEnum):
    """Where a contract's trading day stands."""

    CLOSED = 0
    EXTENDED = 1
    REGULAR = 2


class Market(Protocol):
    """Prices and hours; every answer depends on contract and time only."""

    def quote(self, contract: Contract, at: float) -> Quote:
        """The prices at that moment; the last ones known while it is closed."""

    def phase(self, contract: Contract, at: float) -> Phase:
        """Closed, extended or regular hours."""

    def next_open(self, contract: Contract, at: float) -> float:
        """When regular hours begin next, after `at`."""

    def next_close(self, contract: Contract, at: float) -> float:
        """When the regular hours that hold `at`, or else the next ones, end."""

    def day_end(self, contract: Contract, at: float, *, outside: bool) -> float:
        """When a DAY order placed at that moment expires; `outside`: with extended hours."""

    def midnight(self, at: float) -> float:
        """When the broker's day that holds `at` began."""

    def rate(self, currency: str, at: float) -> float:
        """What one unit of the currency is worth in USD."""


class Catalogue(Protocol):
    """Every contract there is."""

    def resolve(self, query: Query, at: float) -> Contract:
        """The one contract that a client's description means.

        Raises:
            LookupError: there is none, or it is ambiguous; the text is for error 200.
        """
