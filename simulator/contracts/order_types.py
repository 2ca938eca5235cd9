"""Which orders a contract takes: what its details announce and what is accepted are one table."""

from __future__ import annotations

_ALWAYS = ("MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT")
ORDER_TYPES: dict[str, tuple[str, ...]] = {
    "STK": (*_ALWAYS, "MOC", "LOC", "MTL", "MIDPRICE", "REL", "PEG MID"),
    "OPT": (*_ALWAYS, "MTL", "REL"),
    "FUT": (*_ALWAYS, "MOC", "LOC", "MTL"),
    "FOP": (*_ALWAYS, "MTL"),
    "CASH": _ALWAYS,
    "BAG": ("MKT", "LMT"),
    "BOND": ("MKT", "LMT"),
}
"""Kind of contract -> the order types that it takes, as clients write them; none for the others."""
TIMES: dict[str, tuple[str, ...]] = {
    "STK": ("DAY", "GTC", "GTD", "IOC", "FOK", "OPG"),
    "FUT": ("DAY", "GTC", "GTD", "IOC", "FOK", "OPG"),
    "OPT": ("DAY", "GTC", "GTD", "IOC", "FOK"),
    "FOP": ("DAY", "GTC", "GTD", "IOC", "FOK"),
    "CASH": ("DAY", "GTC", "GTD", "IOC", "FOK"),
    "BAG": ("DAY", "GTC", "GTD", "IOC"),
    "BOND": ("DAY", "GTC"),
}
"""Kind of contract -> the times in force that it takes."""
CODES = {
    "STP LMT": "STPLMT", "TRAIL LIMIT": "TRAILLMT", "MIDPRICE": "MIDPX", "PEG MID": "PEGMID",
}  # fmt: skip
"""Order types that contract details call by another name."""
ATTRIBUTES = ("AON", "COND", "GAT", "OCA", "WHATIF")
ADAPTIVE = frozenset({"STK", "OPT", "FUT"})
"""Kinds that take the algorithm Adaptive."""
CASH_QUANTITY = frozenset({"CASH"})
"""Kinds whose orders may name an amount of money instead of a quantity."""


def announced(sec_type: str) -> str:
    """The order types of contract details, comma-separated; empty when no order is taken."""
    if sec_type not in ORDER_TYPES:
        return ""
    words = {CODES.get(each, each) for each in ORDER_TYPES[sec_type]}
    words |= {*TIMES[sec_type], *ATTRIBUTES}
    if sec_type in ADAPTIVE:
        words.add("ALGO")
    if sec_type in CASH_QUANTITY:
        words.add("CASHQTY")
    return ",".join(sorted(words))
