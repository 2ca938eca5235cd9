"""Tick types by their numbers: the field's name, and whether the value is delayed.

The names are the broker's documented tick types in camelCase; a delayed type has the name of its
live one.
"""

from __future__ import annotations

_PRICES = {
    1: "bid", 2: "ask", 4: "last", 6: "high", 7: "low", 9: "close", 14: "open",
    15: "low13Week", 16: "high13Week", 17: "low26Week", 18: "high26Week", 19: "low52Week", 20:
    "high52Week", 35: "auctionPrice", 37: "markPrice", 50: "bidYield", 51: "askYield", 52:
    "lastYield", 57: "lastRthTrade",
}  # fmt: skip
_DELAYED_PRICES = {66: "bid", 67: "ask", 68: "last", 72: "high", 73: "low", 75: "close", 76: "open"}
_SIZES = {
    0: "bidSize", 3: "askSize", 5: "lastSize", 8: "volume", 21: "averageVolume", 22: "openInterest",
    27: "callOpenInterest", 28: "putOpenInterest", 29: "callVolume", 30: "putVolume", 34:
    "auctionVolume", 36: "auctionImbalance", 61: "regulatoryImbalance", 86: "futuresOpenInterest",
    87: "averageOptionVolume", 89: "shortableShares",
}  # fmt: skip
_DELAYED_SIZES = {69: "bidSize", 70: "askSize", 71: "lastSize", 74: "volume"}
_VALUES = {
    23: "historicalVolatility", 24: "impliedVolatility", 31: "indexFuturePremium", 32:
    "bidExchange", 33: "askExchange", 45: "lastTimestamp", 46: "shortable", 47: "fundamentals", 48:
    "realTimeVolume", 49: "halted", 54: "tradeCount", 55: "tradeRate", 56: "volumeRate", 58:
    "realTimeHistoricalVolatility", 59: "dividends", 77: "realTimeTrades", 84: "lastExchange", 85:
    "lastRegulatoryTime",
}  # fmt: skip
_DELAYED_VALUES = {88: "lastTimestamp", 90: "halted"}
_OPTIONS = {10: "bidOption", 11: "askOption", 12: "lastOption", 13: "modelOption"}
_DELAYED_OPTIONS = {80: "bidOption", 81: "askOption", 82: "lastOption", 83: "modelOption"}

NAMES: dict[int, tuple[str, bool]] = {
    number: (name, delayed)
    for table, delayed in (
        (_PRICES, False),
        (_DELAYED_PRICES, True),
        (_SIZES, False),
        (_DELAYED_SIZES, True),
        (_VALUES, False),
        (_DELAYED_VALUES, True),
        (_OPTIONS, False),
        (_DELAYED_OPTIONS, True),
    )
    for number, name in table.items()
}

# A price whose message carries the size of the same side: the size's own field.
SIZE_OF_PRICE = {"bid": "bidSize", "ask": "askSize", "last": "lastSize"}


def name_of(number: int) -> tuple[str, bool]:
    """The field and whether it is delayed; an unknown type is ``tick<number>``."""
    return NAMES.get(number) or (f"tick{number}", False)
