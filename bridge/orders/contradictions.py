"""Whether the fields of an order fit together, before anyone is asked anything."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Final

from bridge.market.contracts import kind_of, multiplier_text
from bridge.orders.errors import Violation
from bridge.orders.order_types import KINDS, OPTIONS, better
from bridge.orders.request import Bracket, ComboLegRequest, Condition, OrderRequest, StopLoss
from bridge.quantity import plain

_DAY: Final = re.compile(r"[0-9]{8}")
_MONTH: Final = re.compile(r"[0-9]{6}")
CLOCK: Final = re.compile(r"([0-9]{8})([ -])([0-9]{2}:[0-9]{2}:[0-9]{2})(?: (\S+))?")
"""A time of an order, as the broker takes it."""
_TIME_FORM: Final = "must be a time as YYYYMMDD HH:MM:SS, with a zone behind it if any"
_TEXTS: Final = (
    "symbol",
    "exchange",
    "primary_exchange",
    "currency",
    "expiration",
    "multiplier",
    "trading_class",
    "account",
    "oca_group",
    "label",  # its pattern lets a newline pass at the end
)

_ENTRY_PRICE: Final = "the entry price"
LARGEST_NUMBER: Final = 1e12  # more is a slip of the finger in every currency
LARGEST_CON_ID: Final = 2**31 - 1
LONGEST_TEXT: Final = 64

MOST_CONDITIONS: Final = 10
SMALLEST_COMBINATION, LARGEST_COMBINATION = 2, 4


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


def time_problem(text: str) -> str | None:
    """What is wrong with a time of an order; None: nothing. Its zone is the broker's to know."""
    clock = CLOCK.fullmatch(text)
    if clock is None or text_problem(text):
        return _TIME_FORM
    try:
        datetime.strptime(f"{clock[1]} {clock[3]}", "%Y%m%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return "is no time of the calendar"
    return None


def date_problem(text: str) -> str | None:
    """The same of a goodTillDate, which may be a day alone."""
    return _day_problem(text) if _DAY.fullmatch(text) else time_problem(text)


def _day_problem(text: str) -> str | None:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return "is not a day of the calendar"
    return None


def _may_be_negative(request: OrderRequest) -> bool:
    """Whether its price may: futures, combinations; and what goes by its number alone."""
    return kind_of(request) in {"FUT", "BAG", ""}


def amount_problem(name: str, value: float) -> str | None:
    """What is wrong with a distance, a percentage or an amount of money; None: nothing."""
    if name in {"limit_offset", "limitOffset"} and value == 0:
        return None
    if name in {"trail_percent", "trailPercent"} and value >= 100:
        return "must be less than 100"
    return number_problem(value, positive=True)


def _numbers(request: OrderRequest) -> Iterator[Violation]:
    for name in ("trail_amount", "trail_percent", "limit_offset", "cash_quantity"):
        value = getattr(request, name)
        if value is not None and (problem := amount_problem(name, value)):
            yield _wrong(name, problem)
    for name in ("quantity", "limit_price", "stop_price", "trail_stop_price", "strike"):
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
        value = getattr(request, name)
        text = multiplier_text(value) if name == "multiplier" else value
        if problem := text_problem(text):
            yield _wrong(name, problem)


def _symbol(request: OrderRequest) -> Iterator[Violation]:
    if not request.symbol.strip() or len(request.symbol) > 32:
        yield _wrong("symbol", "must name an instrument")


def _prices_of_the_type(request: OrderRequest) -> Iterator[Violation]:
    kind, because = KINDS[request.order_type], f"orderType {request.order_type}"
    for name in ("limit_price", "stop_price", "limit_offset"):
        need, given = getattr(kind, name), getattr(request, name) is not None
        if need != "may" and given != (need == "yes"):
            yield _needed(name, need == "yes", because)
    if kind.trail == "yes":
        yield from _trail(request.trail_amount, request.trail_percent, because)
        return
    for name in ("trail_amount", "trail_percent", "trail_stop_price"):
        if getattr(request, name) is not None:
            yield _needed(name, False, because)


def _trail(amount: float | None, percent: float | None, because: str) -> Iterator[Violation]:
    if amount is None and percent is None:
        yield _needed("trail_amount", True, because)
    if amount is not None and percent is not None:
        yield _needed("trail_percent", False, "trailAmount")


def _quantity(request: OrderRequest) -> Iterator[Violation]:
    if request.cash_quantity is None:
        if request.quantity is None:
            yield _needed("quantity", True, "an order")
        return
    if request.quantity is not None:
        yield _needed("quantity", False, "cashQuantity")
    kind = kind_of(request)
    if kind not in {"CASH", ""}:
        yield Violation(
            "cash-quantity-not-supported",
            f"the broker takes cashQuantity of API orders for currency pairs, not for "
            f"{kind}: give a quantity",
            field="cashQuantity",
        )
    if request.order_type not in {"MKT", "LMT"}:
        yield _wrong("order_type", "must be MKT or LMT with cashQuantity")
    if request.bracket is not None:
        yield _needed("bracket", False, "cashQuantity")


def _option_fields(request: OrderRequest) -> Iterator[Violation]:
    if request.con_id:
        return
    kind = kind_of(request)
    is_option = kind in OPTIONS
    if is_option != (request.strike is not None):
        yield _needed("strike", is_option, f"secType {kind}")
    if is_option != (request.right is not None):
        yield _needed("right", is_option, f"secType {kind}")
    dated = kind in {*OPTIONS, "FUT"}
    if dated != bool(request.expiration):
        yield _needed("expiration", dated, f"secType {kind}")


def _expiration(request: OrderRequest) -> Iterator[Violation]:
    text = request.expiration
    if not text or (request.sec_type == "FUT" and _MONTH.fullmatch(text)):
        return
    if not _DAY.fullmatch(text):
        yield _wrong("expiration", "must be a day as YYYYMMDD")
    elif problem := _day_problem(text):
        yield _wrong("expiration", problem)


def _time_in_force(request: OrderRequest) -> Iterator[Violation]:
    dated = request.tif == "GTD"
    if dated != bool(request.good_till_date):
        yield _needed("good_till_date", dated, f"tif {request.tif}")
    if request.good_after_time and (problem := time_problem(request.good_after_time)):
        yield _wrong("good_after_time", problem)
    if request.good_till_date and (problem := date_problem(request.good_till_date)):
        yield _wrong("good_till_date", problem)
    yield from tif_problems(request.tif, request.order_type, request.exchange)


def tif_problems(tif: str, kind: str, exchange: str) -> Iterator[Violation]:
    """Whether a type of order takes this time in force where it goes, new or changed."""
    if KINDS[kind].only_day and tif != "DAY":
        yield _wrong("tif", f"must be DAY with orderType {kind}")
    if tif == "OPG" and kind not in {"MKT", "LMT"}:
        yield _wrong("tif", f"OPG is for MKT and LMT, not for {kind}")
    if tif != "DAY" and _is_of_the_night(exchange):
        yield _wrong("tif", "must be DAY at the exchange OVERNIGHT: until the end of the night")


def bracket_tif_problems(tif: str) -> Iterator[Violation]:
    """Whether the entry of a bracket, new or changed, takes this time in force."""
    if tif in {"IOC", "FOK", "OPG"}:
        yield _wrong("tif", f"{tif} cannot carry a bracket")


def _is_of_the_night(exchange: str) -> bool:
    return exchange.strip().upper() == "OVERNIGHT"


def _overnight(request: OrderRequest) -> Iterator[Violation]:
    if not _is_of_the_night(request.exchange):
        return
    if kind_of(request) not in {"STK", ""}:
        yield _wrong("sec_type", "must be STK at the exchange OVERNIGHT")
    if request.order_type != "LMT":
        yield _wrong("order_type", "must be LMT at the exchange OVERNIGHT")


def _algorithm(request: OrderRequest) -> Iterator[Violation]:
    algo = request.algo
    if algo is None:
        return
    if algo.strategy != "Adaptive":
        yield Violation(
            "algo-not-supported",
            f"the algorithm {algo.strategy[:LONGEST_TEXT]!r} is not supported: Adaptive is",
            field="algo.strategy",
        )
    if request.order_type not in {"MKT", "LMT"}:
        yield _wrong("order_type", "must be MKT or LMT with the algorithm Adaptive")


def _conditions(request: OrderRequest) -> Iterator[Violation]:
    if len(request.conditions) > MOST_CONDITIONS:
        yield _wrong("conditions", f"must be at most {MOST_CONDITIONS}")
    for number, each in enumerate(request.conditions):
        for problem in _condition(each):
            yield _wrong(f"conditions[{number}]", problem)


def _condition(condition: Condition) -> Iterator[str]:
    given = [
        name
        for name in ("above", "below", "after", "before")
        if getattr(condition, name) not in (None, "")
    ]
    if len(given) != 1:
        yield "needs exactly one of above, below, after and before"
        return
    texts = (condition.symbol, condition.exchange, condition.currency)
    yield from (problem for text in texts if (problem := text_problem(text)))
    named = bool(condition.symbol.strip() or condition.con_id)
    if condition.on_time:
        if problem := time_problem(condition.after or condition.before):
            yield problem
        if named:
            yield "is about the time, and names an instrument"
        return
    value = condition.above if condition.above is not None else condition.below
    if value is not None and (problem := number_problem(value, positive=False)):
        yield problem
    if not named or not 0 <= condition.con_id <= LARGEST_CON_ID:
        yield "needs the instrument whose price it is about: symbol or conId"


def _combination(request: OrderRequest) -> Iterator[Violation]:
    kind, legs = kind_of(request), request.legs
    if kind != "BAG":
        if legs:
            yield _needed("legs", False, f"secType {kind or 'by conId'}")
        if request.non_guaranteed is not None:
            yield _needed("non_guaranteed", False, f"secType {kind or 'by conId'}")
        return
    if not SMALLEST_COMBINATION <= len(legs) <= LARGEST_COMBINATION:
        yield _wrong("legs", f"must be {SMALLEST_COMBINATION} to {LARGEST_COMBINATION}")
    if request.con_id:
        yield _needed("con_id", False, "secType BAG")
    if request.order_type not in {"MKT", "LMT"}:
        yield _wrong("order_type", "must be MKT or LMT with secType BAG")
    if request.bracket is not None:
        yield _needed("bracket", False, "secType BAG")
    for number, leg in enumerate(legs):
        for problem in _combo_leg(leg):
            yield _wrong(f"legs[{number}]", problem)


def _combo_leg(leg: ComboLegRequest) -> Iterator[str]:
    units = multiplier_text(leg.multiplier)
    texts = (leg.symbol, leg.exchange, leg.currency, leg.expiration, leg.trading_class, units)
    yield from (problem for text in texts if (problem := text_problem(text)))
    if not leg.symbol.strip() and not 0 < leg.con_id <= LARGEST_CON_ID:
        yield "needs its symbol or its conId"
    kind = kind_of(leg)
    if kind in OPTIONS and not leg.con_id and (leg.strike is None or leg.right is None):
        yield "needs strike and right"
    if kind in {*OPTIONS, "FUT"} and not leg.con_id and not leg.expiration:
        yield "needs its expiration"
    if leg.strike is not None and (problem := number_problem(leg.strike, positive=True)):
        yield f"strike {problem}"


def _bracket(request: OrderRequest) -> Iterator[Violation]:
    bracket = request.bracket
    if bracket is None:
        return
    if bracket.take_profit is None and bracket.stop_loss is None:
        yield _wrong("bracket", "needs takeProfit, stopLoss or both")
    if request.oca_group:  # the entry's own fill would cancel its exits
        yield _needed("oca_group", False, "a bracket")
    yield from bracket_tif_problems(request.tif)
    yield from _exit_prices(request, bracket)


def _exit_prices(request: OrderRequest, bracket: Bracket) -> Iterator[Violation]:
    gain = bracket.take_profit.limit_price if bracket.take_profit else None
    loss = bracket.stop_loss.stop_price if bracket.stop_loss else None
    floor = bracket.stop_loss.limit_price if bracket.stop_loss else None
    if bracket.stop_loss is not None:
        yield from _stop_loss(bracket.stop_loss)
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
    limit, stop = request.limit_price, request.stop_price
    if limit is not None or stop is not None:
        yield from exits_beside_entry(request.action, limit, stop, gain, loss)
    elif gain is not None and loss is not None:
        yield from exits_beside(request.action, loss, gain, None, "the stop")


def _stop_loss(stop: StopLoss) -> Iterator[Violation]:
    place = "bracket.stopLoss"
    if not stop.trails:
        if stop.stop_price is None:
            yield _needed(f"{place}.stopPrice", True, "a stopLoss that does not trail")
        if stop.limit_offset is not None:
            yield _needed(f"{place}.limitOffset", False, "a stopLoss that does not trail")
        return
    yield from _trail(stop.trail_amount, stop.trail_percent, place)
    if stop.limit_price is not None:
        yield _needed(f"{place}.limitPrice", False, "a stopLoss that trails")
    for name in ("trail_amount", "trail_percent", "limit_offset"):
        value = getattr(stop, name)
        if value is not None and (problem := amount_problem(name, value)):
            yield _wrong(f"{place}.{_camel(name)}", problem)


def exits_beside_entry(
    action: str,
    limit: float | None,
    stop: float | None,
    gain: float | None,
    loss: float | None,
) -> Iterator[Violation]:
    """A bracket's exits that are on the wrong side of the prices which its entry names.

    With both it may fill at either: a stop between them would be set off at once.
    """
    named = [each for each in (limit, stop) if each is not None]
    if named:
        yield from exits_beside(action, named[0], gain, None, _ENTRY_PRICE)
        yield from exits_beside(action, better(action, *named), None, loss, _ENTRY_PRICE)


def exits_beside(
    action: str, entry: float, gain: float | None, loss: float | None, what: str
) -> Iterator[Violation]:
    """A bracket's exits that are on the wrong side of a price: they would fill at once."""
    sign = 1 if action == "BUY" else -1
    for name, price, side in (("takeProfit", gain, sign), ("stopLoss", loss, -sign)):
        if price is not None and (price - entry) * side <= 0:
            where = "above" if side > 0 else "below"
            yield _wrong(f"bracket.{name}", f"must be {where} {what} {plain(entry)}")


_CHECKS: tuple[Callable[[OrderRequest], Iterator[Violation]], ...] = (
    _symbol,
    _texts,
    _numbers,
    _quantity,
    _prices_of_the_type,
    _option_fields,
    _expiration,
    _time_in_force,
    _overnight,
    _algorithm,
    _conditions,
    _combination,
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
