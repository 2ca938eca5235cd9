"""The broker's ways to say "no value", and what is no value at all: cleaned here and nowhere else.

Nothing that comes from the gateway goes further in before it has passed one of these functions.
The result is a plain value, ``None`` (the broker says none), or ``RefusedError`` where a message
without that value means nothing: then the message is set aside, and the others go on.

The broker's forms of "none", by where they come from:

* any number: the largest double, int, long and decimal (and the smallest int and long), NaN,
  infinities, an empty text;
* a price beside a size (bid, ask, last): -1 or 0 while the size is 0;
* any other price: -1 and 0; the price of a fill, where none is traded below zero: below zero;
* a size or a count: anything below 0;
* a computation of an option: -1 for what cannot be negative, -2 for what can;
* ``halted``: -1; volatilities: 0 and below; times as text: ``0`` and ``-1``.

A number that no market has (beyond ``LARGEST_PRICE`` ...) is none as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

LARGEST_PRICE: Final = 1e12
LARGEST_SIZE: Final = 1e15
LARGEST_AMOUNT: Final = 1e17
NEGATIVE_PRICES: Final = frozenset({"FUT", "BAG", "CMDTY"})
LONGEST_NAME: Final = 128
"""Characters of what identifies something: an id, an account, a symbol."""
LONGEST_TEXT: Final = 2000
"""Characters of what is for people."""
LONGEST_LIST: Final = 20_000
"""Characters of a list or a calendar in one text."""

_INT, _LONG, _DECIMAL = 2**31 - 1, 2**63 - 1, 2**127 - 1
_NONE_INTEGERS: Final = frozenset({_INT, -_INT - 1, _LONG, -_LONG - 1, _DECIMAL})
_NONE_NUMBERS: Final = frozenset(float(each) for each in _NONE_INTEGERS)


class RefusedError(ValueError):
    """The message means nothing without this value."""


def number(value: Any, largest: float = LARGEST_AMOUNT) -> float | None:
    """A finite number of a size that occurs, or None."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    within = -largest <= result <= largest  # which what is no number is not
    return result if within and result not in _NONE_NUMBERS else None


def price(value: Any) -> float | None:
    """A price, negative ones too; zero is a price here (an option's exercise fills at it)."""
    return number(value, LARGEST_PRICE)


def paid(value: Any, sec_type: str) -> float | None:
    """The price of a fill: below zero only where such prices are traded."""
    result = price(value)
    if result is not None and result < 0 and sec_type not in NEGATIVE_PRICES:
        return None
    return result


def average(value: Any) -> float:
    """An average price; 0 while there is none."""
    result = price(value)
    return 0.0 if result is None or result == -1.0 else result


def size(value: Any) -> float | None:
    """A quantity that is not negative."""
    result = number(value, LARGEST_SIZE)
    return None if result is None or result < 0 else result


def above_zero(value: Any) -> float | None:
    """A number above zero."""
    result = number(value)
    return None if result is None or result <= 0 else result


def holding(value: Any) -> float | None:
    """A quantity of either sign."""
    return number(value, LARGEST_SIZE)


def identifier(value: Any) -> int:
    """An id that fits the journal; 0, which is no id, for anything else."""
    try:
        result = int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return 0 if result in _NONE_INTEGERS or not -_INT <= result < _LONG else result


def count(value: Any) -> int | None:
    """A whole number of 0 or more."""
    result = size(value)
    return None if result is None else int(result)


def text(value: Any, longest: int = LONGEST_TEXT) -> str:
    """A text for people, cut where it goes on for too long."""
    return str(value or "")[:longest]


def name(value: Any) -> str:
    """What something is called; a longer one than any is cut, and so names nothing of ours."""
    return text(value, LONGEST_NAME)


def amount_text(value: Any) -> str:
    """An amount that the broker sends as a text, which may be a word; empty for none."""
    said = text(value)
    try:
        float(said)
    except ValueError:
        return said
    return said if number(said) is not None else ""


def required_name(value: Any, what: str) -> str:
    """An id that is kept under its name.

    Raises:
        RefusedError: there is none, or it is longer than any id of the broker's.
    """
    said = str(value or "")
    if not said or len(said) > LONGEST_NAME:
        raise RefusedError(f"{what} has {len(said)} characters")
    return said


def required(value: float | None, what: str, said: Any) -> float:
    """A number that must be there.

    Raises:
        RefusedError: it is none.
    """
    if value is None:
        raise RefusedError(f"{what} is {text(said, 40)!r}, which is no value")
    return value


# ticks ------------------------------------------------------------------------------------------

SIZED_PRICES: Final = frozenset({"bid", "ask", "last"})

_BESIDE_SIZE: Final = (-1.0, 0.0)


def tick_price(field: str, value: Any, beside: Any) -> float | None:
    """The price of a tick; `beside` is the size in the same message."""
    result = price(value)
    if field in SIZED_PRICES:
        return None if result in _BESIDE_SIZE and not size(beside) else result
    return None if result in _BESIDE_SIZE else result


def tick_value(field: str, value: float | str) -> float | str | None:
    """The value of a generic tick or a text tick."""
    if isinstance(value, str):
        said = text(value)
        return None if said in _NO_TEXT.get(field, ("",)) else said
    return _VALUES.get(field, number)(value)


_VALUES: Final[dict[str, Callable[[Any], float | None]]] = {
    "halted": size,
    "historicalVolatility": above_zero,
    "impliedVolatility": above_zero,
    "realTimeHistoricalVolatility": above_zero,
    "shortable": size,
    "tradeCount": size,
    "tradeRate": size,
    "volumeRate": size,
}
_NO_TEXT: Final[dict[str, tuple[str, ...]]] = {
    "lastTimestamp": ("", "0", "-1"),
    "lastRegulatoryTime": ("", "0", "-1"),
    "dividends": ("", ",,,"),
    "realTimeVolume": ("", ";;;;;", ";0;;0;;"),
    "realTimeTrades": ("", ";;;;;", ";0;;0;;"),
}


def computed(value: Any, missing: float) -> float | None:
    """A computation; `missing` is -1 or -2, what the broker sends before it has been made."""
    result = number(value)
    return None if result == missing else result


def computed_delta(value: Any) -> float | None:
    """A delta, between -1 and 1."""
    result = computed(value, -2.0)
    return None if result is None or abs(result) > 1.01 else result


def computed_size(value: Any) -> float | None:
    """A computation that cannot be negative: a price, a present value."""
    return size(value)


# messages ---------------------------------------------------------------------------------------

_EMPTY_IS_NONE: Final[dict[int, tuple[int, ...]]] = {
    2: (4,),  # a size
    11: (19, 20),  # an execution: quantity, price
    21: tuple(range(4, 12)),  # an option's computation
    45: (4,),  # a generic tick
    59: (3, 5),  # a commission: the amount, the profit
    61: (14, 15),  # a position: the quantity, the cost
    94: (2, 3, 4),  # profit and loss
    95: (2, 3, 4, 5, 6),
}
_NOT_A_NUMBER: Final = "nan"


def mark_empty(message: int, fields: list[str]) -> None:
    """Writes NaN for a number left empty, which the client libraries would read as 0.

    `fields` are those of one message, its number first; places by the message's own layout.
    """
    places: Iterable[int] = _EMPTY_IS_NONE.get(message, ())
    if message == 17:  # bars, eight fields each; the last, a count, is a whole number
        places = (place for place in range(5, len(fields)) if (place - 5) % 8 in range(1, 7))
    for place in places:
        if place < len(fields) and not fields[place]:
            fields[place] = _NOT_A_NUMBER


# tick types by their numbers --------------------------------------------------------------------
# The names are the broker's documented tick types in camelCase; a delayed type has the name of its
# live one.

_TICK_PRICES = {
    1: "bid", 2: "ask", 4: "last", 6: "high", 7: "low", 9: "close", 14: "open",
    15: "low13Week", 16: "high13Week", 17: "low26Week", 18: "high26Week", 19: "low52Week", 20:
    "high52Week", 35: "auctionPrice", 37: "markPrice", 50: "bidYield", 51: "askYield", 52:
    "lastYield", 57: "lastRthTrade",
}  # fmt: skip
_DELAYED_TICK_PRICES = {
    66: "bid",
    67: "ask",
    68: "last",
    72: "high",
    73: "low",
    75: "close",
    76: "open",
}
_TICK_SIZES = {
    0: "bidSize", 3: "askSize", 5: "lastSize", 8: "volume", 21: "averageVolume", 22: "openInterest",
    27: "callOpenInterest", 28: "putOpenInterest", 29: "callVolume", 30: "putVolume", 34:
    "auctionVolume", 36: "auctionImbalance", 61: "regulatoryImbalance", 86: "futuresOpenInterest",
    87: "averageOptionVolume", 89: "shortableShares",
}  # fmt: skip
_DELAYED_TICK_SIZES = {69: "bidSize", 70: "askSize", 71: "lastSize", 74: "volume"}
_TICK_VALUES = {
    23: "historicalVolatility", 24: "impliedVolatility", 31: "indexFuturePremium", 32:
    "bidExchange", 33: "askExchange", 45: "lastTimestamp", 46: "shortable", 47: "fundamentals", 48:
    "realTimeVolume", 49: "halted", 54: "tradeCount", 55: "tradeRate", 56: "volumeRate", 58:
    "realTimeHistoricalVolatility", 59: "dividends", 77: "realTimeTrades", 84: "lastExchange", 85:
    "lastRegulatoryTime",
}  # fmt: skip
_DELAYED_TICK_VALUES = {88: "lastTimestamp", 90: "halted"}
_TICK_OPTIONS = {10: "bidOption", 11: "askOption", 12: "lastOption", 13: "modelOption"}
_DELAYED_TICK_OPTIONS = {80: "bidOption", 81: "askOption", 82: "lastOption", 83: "modelOption"}

NAMES: dict[int, tuple[str, bool]] = {
    number: (name, delayed)
    for table, delayed in (
        (_TICK_PRICES, False),
        (_DELAYED_TICK_PRICES, True),
        (_TICK_SIZES, False),
        (_DELAYED_TICK_SIZES, True),
        (_TICK_VALUES, False),
        (_DELAYED_TICK_VALUES, True),
        (_TICK_OPTIONS, False),
        (_DELAYED_TICK_OPTIONS, True),
    )
    for number, name in table.items()
}

# A price whose message carries the size of the same side: the size's own field.
SIZE_OF_PRICE = {"bid": "bidSize", "ask": "askSize", "last": "lastSize"}


def name_of(number: int) -> tuple[str, bool]:
    """The field and whether it is delayed; an unknown type is ``tick<number>``."""
    return NAMES.get(number) or (f"tick{number}", False)
