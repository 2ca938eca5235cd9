"""What a client asks for in an order: the fields as sent, as the engine reads them; refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.market.market import Phase

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract
    from simulator.market.market import Market


class RefusedError(Exception):
    """The gateway refuses; `code` and `text` are those of its error message."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


Rows = list[tuple[str, ...]]
Values = Mapping[str, "str | Rows"]

LIMIT_TYPES = frozenset({"LMT", "STP LMT", "LIT", "LOC", "TRAIL LIMIT"})
STOP_TYPES = frozenset({"STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT"})
TRAILING_TYPES = frozenset({"TRAIL", "TRAIL LIMIT"})
CLOSE_TYPES = frozenset({"MOC", "LOC"})
PEGGED_TYPES = frozenset({"MIDPRICE", "REL", "PEG MID"})
"""Types whose price follows the quote; their limit is a cap and may be left out."""
TIMES_IN_FORCE = frozenset({"DAY", "GTC", "IOC", "FOK", "GTD", "OPG"})

ALIASES = {"STPLMT": "STP LMT", "TRAILLIMIT": "TRAIL LIMIT", "LMTCLS": "LOC", "MKTCLS": "MOC"}
ALIASES |= {"PEGMID": "PEG MID", "MIDPX": "MIDPRICE"}
UNSET = frozenset({"", "2147483647", "9223372036854775807"})


class FieldError(ValueError):
    """A field of the message is not what it has to be; the text names it."""


def number(values: Values, name: str) -> float | None:
    """A number, or None when the client left it unset.

    Raises:
        FieldError: it is no number.
    """
    text = values.get(name, "")
    if not isinstance(text, str) or text in UNSET:
        return None
    try:
        value = float(text)
    except ValueError:
        raise FieldError(f"{name} is not a number: {text!r}") from None
    if math.isnan(value):
        raise FieldError(f"{name} is not a number: {text!r}")
    return None if math.isinf(value) or value >= 1e308 else value


def whole(values: Values, name: str) -> int:
    """A whole number; 0 when unset."""
    value = number(values, name) or 0.0
    if value != int(value):
        raise FieldError(f"{name} is not a whole number: {value}")
    return int(value)


def flag(values: Values, name: str) -> bool:
    """A boolean; `1` and `true` are true."""
    return str(values.get(name, "")).lower() in {"1", "true"}


def string(values: Values, name: str) -> str:
    """A text field."""
    value = values.get(name, "")
    return value if isinstance(value, str) else ""


BID_ASK, MIDDLE = 4, 8
"""Methods that a price condition can name; every other one watches the last price."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: a price of `contract`, or without one the time, above or below `value`."""

    value: float
    above: bool
    joined_by_and: bool
    """How it is joined with the next one."""
    contract: Contract | None = None
    method: int = 0

    def holds(self, market: Market, at: float, *, outside: bool) -> bool:
        """Whether it holds at a moment; prices count in regular hours unless `outside`."""
        if self.contract is None:
            return at >= self.value if self.above else at <= self.value
        if not outside and market.phase(self.contract, at) is not Phase.REGULAR:
            return False
        quote = market.quote(self.contract, at)
        price = quote.last
        if self.method == BID_ASK:
            price = quote.ask if self.above else quote.bid
        elif self.method == MIDDLE or self.contract.sec_type == "CASH":
            price = quote.middle
        return price >= self.value if self.above else price <= self.value


@dataclass(frozen=True, slots=True)
class Terms:
    """One order as its client wants it; prices are None when unset."""

    action: str
    quantity: float
    order_type: str
    limit: float | None
    aux: float | None
    tif: str
    account: str
    order_ref: str
    oca_group: str
    oca_type: int
    parent_id: int
    transmit: bool
    outside_rth: bool
    what_if: bool
    all_or_none: bool
    good_after: str
    good_till: str
    trail_stop: float | None
    trail_percent: float | None
    limit_offset: float | None
    cash_quantity: float
    """Money to spend instead of a quantity; 0 when it is not used."""
    conditions: tuple[Condition, ...]
    """Read from `sent` by the gateway, which knows the contracts that they name."""
    conditions_cancel: bool
    conditions_outside: bool
    sent: Values

    @classmethod
    def read(cls, values: Values) -> Terms:
        """Take the fields of a placeOrder message.

        Raises:
            FieldError: a field cannot be understood.
        """
        kind = string(values, "orderType").upper()
        return cls(
            action="SELL" if string(values, "action") == "SSHORT" else string(values, "action"),
            quantity=number(values, "totalQuantity") or 0.0,
            order_type=ALIASES.get(kind, kind),
            limit=number(values, "lmtPrice"),
            aux=number(values, "auxPrice"),
            tif=string(values, "tif").upper(),
            account=string(values, "account"),
            order_ref=string(values, "orderRef"),
            oca_group=string(values, "ocaGroup"),
            oca_type=whole(values, "ocaType"),
            parent_id=whole(values, "parentId"),
            transmit=flag(values, "transmit"),
            outside_rth=flag(values, "outsideRth"),
            what_if=flag(values, "whatIf"),
            all_or_none=flag(values, "allOrNone"),
            good_after=string(values, "goodAfterTime"),
            good_till=string(values, "goodTillDate"),
            trail_stop=number(values, "trailStopPrice"),
            trail_percent=number(values, "trailingPercent"),
            limit_offset=number(values, "lmtPriceOffset"),
            cash_quantity=number(values, "cashQty") or 0.0,
            conditions=(),
            conditions_cancel=flag(values, "conditionsCancelOrder"),
            conditions_outside=flag(values, "conditionsIgnoreRth"),
            sent=values,
        )

    @property
    def buys(self) -> bool:
        return self.action == "BUY"

    @property
    def sign(self) -> int:
        """1 for a buy, -1 for a sale."""
        return 1 if self.buys else -1
