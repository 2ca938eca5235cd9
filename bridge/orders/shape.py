"""Whether the fields of a request fit together, before anyone is asked anything."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Final

from bridge.orders.errors import Violation
from bridge.orders.request import OrderRequest

_DAY: Final = re.compile(r"\d{8}")
_NEEDS_LIMIT: Final = ("LMT", "STP_LMT")
_NEEDS_STOP: Final = ("STP", "STP_LMT")


def violations(request: OrderRequest) -> list[Violation]:
    """Every way in which the request contradicts itself."""
    return [violation for check in _CHECKS for violation in check(request)]


def _numbers(request: OrderRequest) -> Iterator[Violation]:
    for name in ("quantity", "limit_price", "stop_price", "strike"):
        value = getattr(request, name)
        if value is not None and not math.isfinite(value):
            yield _wrong(name, "must be a finite number")
    if not request.quantity > 0:
        yield _wrong("quantity", "must be more than 0")
    if request.sec_type != "FUT":
        for name in ("limit_price", "stop_price"):
            value = getattr(request, name)
            if value is not None and not value > 0:
                yield _wrong(name, "must be more than 0")


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
    is_option = request.sec_type == "OPT"
    if is_option != (request.strike is not None):
        yield _needed("strike", is_option, f"secType {request.sec_type}")
    if is_option != (request.right is not None):
        yield _needed("right", is_option, f"secType {request.sec_type}")
    dated = request.sec_type in {"OPT", "FUT"}
    if dated != bool(request.expiration):
        yield _needed("expiration", dated, f"secType {request.sec_type}")
    if request.strike is not None and not request.strike > 0:
        yield _wrong("strike", "must be more than 0")


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
    if request.tif in {"IOC", "FOK", "OPG"}:
        yield _wrong("tif", f"{request.tif} cannot carry a bracket")
    sign = 1 if request.action == "BUY" else -1
    entry = request.limit_price if request.limit_price is not None else request.stop_price
    gain = bracket.take_profit.limit_price if bracket.take_profit else None
    loss = bracket.stop_loss.stop_price if bracket.stop_loss else None
    for name, price, side in (("takeProfit", gain, 1), ("stopLoss", loss, -1)):
        if price is None:
            continue
        if not (math.isfinite(price) and (price > 0 or request.sec_type == "FUT")):
            yield _wrong(f"bracket.{name}", "must be a price")
        elif entry is not None and (price - entry) * sign * side <= 0:
            where = "above" if sign * side > 0 else "below"
            yield _wrong(f"bracket.{name}", f"must be {where} the entry price {entry:g}")


_CHECKS: tuple[Callable[[OrderRequest], Iterator[Violation]], ...] = (
    _symbol,
    _numbers,
    _prices_of_the_type,
    _option_fields,
    _expiration,
    _time_in_force,
    _bracket,
)


def _wrong(name: str, what: str) -> Violation:
    field = _camel(name)
    return Violation(code="invalid-field", message=f"{field} {what}", field=field)


def _needed(name: str, needed: bool, because: str) -> Violation:
    field = _camel(name)
    if needed:
        return Violation(code="missing-field", message=f"{because} needs {field}", field=field)
    return Violation(code="unexpected-field", message=f"{because} takes no {field}", field=field)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
