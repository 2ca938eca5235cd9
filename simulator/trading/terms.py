"""What a client asks for in an order: the fields as sent, as the engine reads them.

And whether the gateway takes such an order at all; the texts of refusals are the gateway's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.contracts.details import (
    ADAPTIVE,
    CASH_QUANTITY,
    ORDER_TYPES,
    TIMES,
    size_step,
    step_at,
)
from simulator.market.calendar import OVERNIGHT
from simulator.market.market import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.contracts.contract import Contract
    from simulator.market.market import Market

NOT_SUPPORTED = {"eTradeOnly": 10268, "firmQuoteOnly": 10269}
"""Attributes that gateways no longer take; ibapi 9.81 sends them unless they are set to False."""


UNSUPPORTED = (
    *("scalePriceIncrement", "hedgeType", "adjustedOrderType", "deltaNeutralOrderType"),
    *("discretionaryAmt", "minQty", "volatility", "nbboPriceCap"),
)
"""Attributes that would change what an order does and that are not played."""
GROUPS = ("faGroup", "faProfile", "faMethod", "faPercentage")
PRIORITIES = frozenset({"Urgent", "Normal", "Patient"})
INVALID = "Error validating request.-'bW' : cause - "


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


def check_account(account: str, accounts: Sequence[str]) -> str:
    """The account that an order is for.

    Raises:
        RefusedError: 435 without one of several, 321 for one of somebody else's.
    """
    if account in accounts:
        return account
    if account:
        raise RefusedError(
            321, "Error validating request.-'bW' : cause - Invalid account code '" + account + "'."
        )
    if len(accounts) > 1:
        raise RefusedError(435, "You must specify an account.")
    return accounts[0]


def check_terms(contract: Contract, terms: Terms) -> None:
    """Refuse what no gateway would pass on.

    Raises:
        RefusedError: with the gateway's code.
    """
    if terms.action not in {"BUY", "SELL"}:
        raise RefusedError(
            321,
            "Error validating request.-'bW' : cause - Invalid action: "
            f"'{terms.action}'. Please use BUY or SELL.",
        )
    if contract.sec_type == "IND":
        raise RefusedError(
            203, f"The security {contract.symbol} is not available or allowed for this account."
        )
    _check_attributes(contract, terms)
    for name, code in NOT_SUPPORTED.items():
        if flag(terms.sent, name):
            raise RefusedError(
                code, f"The '{name[0].upper()}{name[1:]}' order attribute is not supported."
            )
    if terms.quantity <= 0:
        raise RefusedError(434, "The order size cannot be zero.")
    _check_fraction(contract, terms)
    overnight = contract.exchange == OVERNIGHT
    if overnight and (contract.sec_type != "STK" or terms.order_type != "LMT"):
        raise RefusedError(387, "Unsupported order type for this exchange and security type.")
    if overnight and terms.tif not in {"", "DAY"}:
        raise RefusedError(10052, f"Invalid time in force:{terms.tif}.")
    if terms.order_type not in ORDER_TYPES.get(contract.sec_type, ()):
        raise RefusedError(387, "Unsupported order type for this exchange and security type.")
    _check_tif(contract, terms)
    _check_prices(contract, terms)


def _check_fraction(contract: Contract, terms: Terms) -> None:
    if terms.quantity != int(terms.quantity) and contract.sec_type not in {"STK", "CASH"}:
        raise RefusedError(
            10243, "Fractional-sized order cannot be placed via API. Please refer to the docs."
        )
    step = size_step(contract)
    if abs(terms.quantity / step - round(terms.quantity / step)) > 1e-6:
        raise RefusedError(
            321, f"{INVALID}The size {terms.quantity:g} is no multiple of the increment {step:g}."
        )


def _check_attributes(contract: Contract, terms: Terms) -> None:
    for name in GROUPS:
        if string(terms.sent, name):
            raise RefusedError(321, f"{INVALID}{name} is for accounts of financial advisors only")
    for name in UNSUPPORTED:
        if string(terms.sent, name) not in {"", "0", "0.0", "None"}:
            raise RefusedError(321, f"{INVALID}The order attribute {name} is not supported")
    if terms.cash_quantity and contract.sec_type not in CASH_QUANTITY:
        raise RefusedError(10244, "Cash quantity cannot be used for this order.")
    _check_algorithm(contract, terms)


def _check_algorithm(contract: Contract, terms: Terms) -> None:
    name = string(terms.sent, "algoStrategy")
    if not name:
        return
    if name != "Adaptive" or contract.sec_type not in ADAPTIVE:
        raise RefusedError(321, f"{INVALID}Algo definition not found: {name}")
    if terms.order_type not in {"MKT", "LMT"}:
        raise RefusedError(321, f"{INVALID}Adaptive takes order types MKT and LMT only")
    rows = terms.sent.get("algoParams") or []
    given = {row[0]: row[1] for row in rows if isinstance(row, tuple)}
    priority = given.pop("adaptivePriority", None)
    if priority not in PRIORITIES or given:
        named = f"adaptivePriority={priority}" if not given else next(iter(given))
        raise RefusedError(321, f"{INVALID}Invalid algo parameter: {named}")


def _check_tif(contract: Contract, terms: Terms) -> None:
    tif = terms.tif
    if tif and tif not in TIMES_IN_FORCE:
        raise RefusedError(10052, f"Invalid time in force:{tif}.")
    if tif and tif not in TIMES.get(contract.sec_type, ()):
        raise RefusedError(10052, f"Invalid time in force:{tif}.")
    if terms.order_type in CLOSE_TYPES and tif not in {"", "DAY"}:
        raise RefusedError(113, "The Tif option should be set to DAY for MOC and LOC orders.")
    if tif == "OPG" and terms.order_type not in {"MKT", "LMT"}:
        raise RefusedError(111, "The TIF (Tif type) and the order type are incompatible.")
    if tif == "GTD" and not terms.good_till:
        raise RefusedError(
            321, "Error validating request.-'bW' : cause - Good till date is missing."
        )


def _check_prices(contract: Contract, terms: Terms) -> None:
    kind = terms.order_type
    if kind in LIMIT_TYPES and kind != "TRAIL LIMIT" and terms.limit is None:
        raise RefusedError(
            321, "Error validating request.-'bW' : cause - Please enter a valid limit price."
        )
    if kind in TRAILING_TYPES:
        if not (terms.aux or terms.trail_percent):
            raise RefusedError(
                321, "Error validating request.-'bW' : cause - Please enter a trailing amount."
            )
    elif kind in STOP_TYPES and terms.aux is None:
        raise RefusedError(
            321, "Error validating request.-'bW' : cause - Please enter a stop price."
        )
    stop = terms.trail_stop if kind in TRAILING_TYPES else terms.aux
    if kind in PEGGED_TYPES:
        stop = None
    for price in (terms.limit if kind in LIMIT_TYPES | PEGGED_TYPES else None, stop):
        if price is not None:
            check_increment(contract, price)


def check_increment(contract: Contract, price: float) -> None:
    """Refuse a price between two steps of the contract's.

    Raises:
        RefusedError: 110.
    """
    steps = price / step_at(contract, price)
    if (price < 0 and contract.sec_type != "BAG") or abs(steps - round(steps)) > 1e-6:
        raise RefusedError(
            110, "The price does not conform to the minimum price variation for this contract."
        )


def check_change(contract: Contract, current: Contract, terms: Terms, filled: float) -> None:
    """Refuse a modification that makes another order of it.

    Raises:
        RefusedError: 105.
    """
    if contract.con_id != current.con_id or terms.quantity < filled:
        raise RefusedError(105, "Order being modified does not match original order.")
