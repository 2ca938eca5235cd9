"""What each type of order takes, and what the broker calls it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

OrderType = Literal[
    "MKT", "LMT", "STP", "STP_LMT", "TRAIL", "TRAIL_LMT", "MIT", "LIT", "MOC", "LOC", "MTL",
    "MIDPRICE", "REL", "PEG_MID",
]  # fmt: skip
Need = Literal["yes", "no", "may"]


class OrderKind(NamedTuple):
    """Which prices a type has; `trail` is a distance, as an amount or in percent."""

    broker: str
    """The broker's word in an order."""
    announced: str
    """Its word among the order types of a contract's details."""
    limit_price: Need = "no"
    stop_price: Need = "no"
    trail: Need = "no"
    limit_offset: Need = "no"
    any_price: bool = False
    """Whether nothing limits its price, unless it has a limit price."""
    only_day: bool = False
    """Whether it is for one close, so that no other time in force fits."""
    touched: bool = False
    """Whether its stop price is touched from its better side: a market that is there already, or
    better, sets it off at once."""

    @property
    def waits(self) -> bool:
        """Whether it waits for a price before it works."""
        return self.stop_price == "yes" or self.trail == "yes"


KINDS: Final[dict[str, OrderKind]] = {
    "MKT": OrderKind("MKT", "MKT", any_price=True),
    "LMT": OrderKind("LMT", "LMT", limit_price="yes"),
    "STP": OrderKind("STP", "STP", stop_price="yes", any_price=True),
    "STP_LMT": OrderKind("STP LMT", "STPLMT", limit_price="yes", stop_price="yes"),
    "TRAIL": OrderKind("TRAIL", "TRAIL", trail="yes", any_price=True),
    "TRAIL_LMT": OrderKind("TRAIL LIMIT", "TRAILLMT", trail="yes", limit_offset="yes"),
    "MIT": OrderKind("MIT", "MIT", stop_price="yes", any_price=True, touched=True),
    "LIT": OrderKind("LIT", "LIT", limit_price="yes", stop_price="yes", touched=True),
    "MOC": OrderKind("MOC", "MOC", any_price=True, only_day=True),
    "LOC": OrderKind("LOC", "LOC", limit_price="yes", only_day=True),
    "MTL": OrderKind("MTL", "MTL", any_price=True),
    "MIDPRICE": OrderKind("MIDPRICE", "MIDPX", limit_price="may", any_price=True),
    "REL": OrderKind("REL", "REL", limit_price="may", limit_offset="may", any_price=True),
    "PEG_MID": OrderKind(
        "PEG MID", "PEGMID", limit_price="may", limit_offset="may", any_price=True
    ),
}
FIRST_TYPES: Final = frozenset({"MKT", "LMT", "STP", "STP_LMT"})
"""Those that every contract which can be traded takes; of others its details are asked."""
INSTRUCTIONS: Final = {"exercise": "EXERCISE", "lapse": "LAPSE"}
"""What can be done with an option that is held, as the broker lists it among the orders."""
OPTIONS: Final = frozenset({"OPT", "FOP"})
_OURS: Final = {kind.broker: ours for ours, kind in KINDS.items()}


def better(action: str, *prices: float) -> float:
    """The best of some prices for an order of this side."""
    return min(prices) if action == "BUY" else max(prices)


def worse(action: str, *prices: float) -> float:
    """The worst of some prices for an order of this side."""
    return max(prices) if action == "BUY" else min(prices)


def order_type(broker_word: str) -> str:
    """The broker's order type as the routes write it."""
    return _OURS.get(broker_word, broker_word)


def broker_type(ours: str) -> str:
    """A type of the routes as the broker writes it."""
    return KINDS[ours].broker


def kind_of_type(broker_word: str) -> OrderKind:
    """What an order has whose type the broker calls so; of an unknown type nothing is known."""
    return KINDS.get(order_type(broker_word), OrderKind(broker_word, broker_word, any_price=True))
