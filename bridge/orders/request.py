"""What a client may ask for, as it arrives, and whether its fields fit together."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from bridge.market.contracts import kind_of
from bridge.orders.errors import Violation

_DAY: Final = re.compile(r"\d{8}")
_NEEDS_LIMIT: Final = ("LMT", "STP_LMT")
_NEEDS_STOP: Final = ("STP", "STP_LMT")
_TEXTS: Final = (
    "symbol",
    "exchange",
    "primary_exchange",
    "currency",
    "expiration",
    "multiplier",
    "trading_class",
    "good_till_date",
    "account",
    "oca_group",
)

LARGEST_NUMBER: Final = 1e12  # more is a slip of the finger in every currency
LARGEST_CON_ID: Final = 2**31 - 1
LONGEST_TEXT: Final = 64

OrderType = Literal["MKT", "LMT", "STP", "STP_LMT"]
TimeInForce = Literal["DAY", "GTC", "IOC", "FOK", "GTD", "OPG"]


class _Request(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class TakeProfit(_Request, frozen=True, kw_only=True):
    """The limit order that closes a bracket with a gain."""

    limit_price: float


class StopLoss(_Request, frozen=True, kw_only=True):
    """The stop that closes a bracket with a loss; a limit price makes it STP_LMT."""

    stop_price: float
    limit_price: float | None = None


class Bracket(_Request, frozen=True, kw_only=True):
    """Two orders that close the position again; the first to fill cancels the other."""

    take_profit: TakeProfit | None = None
    stop_loss: StopLoss | None = None


class OrderRequest(_Request, frozen=True, kw_only=True):
    """One order.

    Prices are in the contract's currency, `quantity` in shares, contracts or units of the first
    currency of a pair. `expiration` is `YYYYMMDD`, `goodTillDate` (for tif `GTD`)
    `YYYYMMDD HH:MM:SS` with an optional zone, or with a dash and UTC.
    """

    symbol: str
    action: Literal["BUY", "SELL"]
    quantity: float
    order_type: OrderType
    limit_price: float | None = None
    stop_price: float | None = None
    sec_type: Annotated[
        Literal["STK", "OPT", "FUT", "CASH"] | None,
        Meta(description="The kind; without it and without `conId`: `STK`"),
    ] = None
    exchange: str = ""
    primary_exchange: str = ""
    currency: Annotated[
        str, Meta(description="Three letters; without it and without `conId`: `USD`")
    ] = ""
    con_id: int = 0
    strike: float | None = None
    right: Literal["C", "P"] | None = None
    expiration: str = ""
    multiplier: str | int | float = ""
    trading_class: str = ""
    tif: TimeInForce = "DAY"
    good_till_date: str = ""
    account: str = ""
    outside_rth: bool = False
    all_or_none: bool = False
    round_to_tick: bool = False
    bracket: Bracket | None = None
    oca_group: str = ""


class OcaRequest(_Request, frozen=True, kw_only=True):
    """Orders of which one fill ends the others.

    `ocaType` 1 cancels the rest, 2 and 3 reduce them (2 with, 3 without overfill protection).
    """

    orders: tuple[OrderRequest, ...]
    oca_type: Literal[1, 2, 3] = 1


class ChangeRequest(_Request, frozen=True, kw_only=True):
    """What may be changed of a working order; what is left out stays as it is."""

    quantity: float | None = None
    limit_price: float | None = None
    stop_price: float | None = None
    tif: TimeInForce | None = None
    good_till_date: str | None = None
    outside_rth: bool | None = None
    round_to_tick: bool = False


def contradictions(request: OrderRequest) -> list[Violation]:
    """Every way in which the request contradicts itself, before anyone is asked anything."""
    return [violation for check in _CHECKS for violation in check(request)]


def number_problem(value: float, *, positive: bool) -> str | None:
    """What is wrong with a quantity or a price; None: nothing."""
    if not math.isfinite(value):
        return "must be a finite number"
    if positive and value <= 0:
        return "must be more than 0"
    if abs(value) > LARGEST_NUMBER:
        return f"must be at most {LARGEST_NUMBER:g}"
    return None


def text_problem(text: str) -> str | None:
    """What is wrong with a text that goes to the broker as it is; None: nothing.

    Fields end with a NUL on the wire: one inside of a text would shift all that follow.
    """
    if len(text) > LONGEST_TEXT:
        return f"must have at most {LONGEST_TEXT} characters"
    return None if text.isprintable() else "must have printable characters only"


def _may_be_negative(request: OrderRequest) -> bool:
    """Whether its price may: futures; and unknown yet of what goes by its number alone."""
    return kind_of(request) in {"FUT", ""}


def _numbers(request: OrderRequest) -> Iterator[Violation]:
    for name in ("quantity", "limit_price", "stop_price", "strike"):
        value = getattr(request, name)
        may_be_negative = _may_be_negative(request) and name.endswith("price")
        if value is None:
            continue
        if problem := number_problem(value, positive=not may_be_negative):
            yield _wrong(name, problem)
    if not 0 <= request.con_id <= LARGEST_CON_ID:
        yield _wrong("con_id", "must be a contract's number")


def _texts(request: OrderRequest) -> Iterator[Violation]:
    for name in _TEXTS:
        if problem := text_problem(str(getattr(request, name))):
            yield _wrong(name, problem)


def _symbol(request: OrderRequest) -> Iterator[Violation]:
    if not request.symbol.strip() or len(request.symbol) > 32:
        yield _wrong("symbol", "must name an instrument")


def _prices_of_the_type(request: OrderRequest) -> Iterator[Violation]:
    kind = request.order_type
    if (kind in _NEEDS_LIMIT) != (request.limit_price is not None):
        yield _needed("limit_price", kind in _NEEDS_LIMIT, f"orderType {kind}")
    if (kind in _NEEDS_STOP) != (request.stop_price is not None):
        yield _needed("stop_price", kind in _NEEDS_STOP, f"orderType {kind}")


def _option_fields(request: OrderRequest) -> Iterator[Violation]:
    if request.con_id:
        return
    kind = kind_of(request)
    is_option = kind == "OPT"
    if is_option != (request.strike is not None):
        yield _needed("strike", is_option, f"secType {kind}")
    if is_option != (request.right is not None):
        yield _needed("right", is_option, f"secType {kind}")
    dated = kind in {"OPT", "FUT"}
    if dated != bool(request.expiration):
        yield _needed("expiration", dated, f"secType {kind}")


def _expiration(request: OrderRequest) -> Iterator[Violation]:
    text = request.expiration
    if not text or (request.sec_type == "FUT" and re.fullmatch(r"\d{6}", text)):
        return
    if not _DAY.fullmatch(text):
        yield _wrong("expiration", "must be a day as YYYYMMDD")
        return
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        yield _wrong("expiration", "is not a day of the calendar")


def _time_in_force(request: OrderRequest) -> Iterator[Violation]:
    dated = request.tif == "GTD"
    if dated != bool(request.good_till_date):
        yield _needed("good_till_date", dated, f"tif {request.tif}")


def _bracket(request: OrderRequest) -> Iterator[Violation]:
    bracket = request.bracket
    if bracket is None:
        return
    if bracket.take_profit is None and bracket.stop_loss is None:
        yield _wrong("bracket", "needs takeProfit, stopLoss or both")
    if request.oca_group:  # the entry's own fill would cancel its exits
        yield _needed("oca_group", False, "a bracket")
    if request.tif in {"IOC", "FOK", "OPG"}:
        yield _wrong("tif", f"{request.tif} cannot carry a bracket")
    yield from _exit_prices(request, bracket)


def _exit_prices(request: OrderRequest, bracket: Bracket) -> Iterator[Violation]:
    gain = bracket.take_profit.limit_price if bracket.take_profit else None
    loss = bracket.stop_loss.stop_price if bracket.stop_loss else None
    floor = bracket.stop_loss.limit_price if bracket.stop_loss else None
    prices = {
        "takeProfit.limitPrice": gain,
        "stopLoss.stopPrice": loss,
        "stopLoss.limitPrice": floor,
    }
    wrong = False
    for name, price in prices.items():
        if price is None:
            continue
        if problem := number_problem(price, positive=not _may_be_negative(request)):
            wrong = True
            yield _wrong(f"bracket.{name}", problem)
    if wrong:
        return
    entry = request.limit_price if request.limit_price is not None else request.stop_price
    if entry is not None:
        yield from exits_beside(request.action, entry, gain, loss, "the entry price")
    elif gain is not None and loss is not None:
        yield from exits_beside(request.action, loss, gain, None, "the stop")


def exits_beside(
    action: str, entry: float, gain: float | None, loss: float | None, what: str
) -> Iterator[Violation]:
    """A bracket's exits that are on the wrong side of a price: they would fill at once."""
    sign = 1 if action == "BUY" else -1
    for name, price, side in (("takeProfit", gain, sign), ("stopLoss", loss, -sign)):
        if price is not None and (price - entry) * side <= 0:
            where = "above" if side > 0 else "below"
            yield _wrong(f"bracket.{name}", f"must be {where} {what} {entry:g}")


_CHECKS: tuple[Callable[[OrderRequest], Iterator[Violation]], ...] = (
    _symbol,
    _texts,
    _numbers,
    _prices_of_the_type,
    _option_fields,
    _expiration,
    _time_in_force,
    _bracket,
)


def _wrong(name: str, what: str) -> Violation:
    field = _camel(name)
    return Violation("invalid-field", f"{field} {what}", field=field)


def _needed(name: str, needed: bool, because: str) -> Violation:
    field = _camel(name)
    if needed:
        return Violation("missing-field", f"{because} needs {field}", field=field)
    return Violation("unexpected-field", f"{because} takes no {field}", field=field)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
