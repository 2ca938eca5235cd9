"""At what price. Only the side on which a slip of the finger costs money is bounded."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.orders.errors import Violation
from bridge.orders.safety.case import Case
from bridge.orders.shape import exits_beside
from bridge.orders.ticks import increment_at, on_tick, to_tick


def tick(case: Case) -> Iterator[Violation]:
    """`price-off-tick`: with the two nearest prices that would do."""
    prices = (("limitPrice", case.order.limit_price), ("stopPrice", case.order.stop_price))
    for field, price in prices:
        if price is None or on_tick(price, case.ladder):
            continue
        below, above = (to_tick(price, case.ladder, way) for way in ("down", "up"))
        yield Violation(
            code="price-off-tick",
            message=f"{field} {price:g} is not on the tick of {increment_at(price, case.ladder)}: "
            f"{below:g} or {above:g} is, and roundToTick rounds by itself",
            field=field,
            value=price,
            limit=f"{below:g} {above:g}",
        )


def line(case: Case) -> Iterator[Violation]:
    """`no-line`: what opens a position is not let through unchecked; what closes one passes."""
    if case.reference is None or not case.reference.no_line or case.closing or case.reduces:
        return
    yield Violation(
        code="no-line",
        message=f"no market-data line was free to check the order against {case.contract.symbol}",
        field="symbol",
    )


def quote(case: Case) -> Iterator[Violation]:
    """`no-quote`: nothing to judge an order by whose price nothing limits."""
    if case.closing or case.change:
        return
    if case.reference is not None and case.reference.no_line:
        return  # `line` has judged that
    known = case.reference is not None and case.reference.for_action(case.order.action) is not None
    if not known and (case.order.order_type == "MKT" or case.rules.require_quote):
        yield Violation(
            code="no-quote",
            message=f"there is no quote of {case.contract.symbol} to check the order against",
            field="orderType",
        )


def band(case: Case) -> Iterator[Violation]:
    """`price-band`: buying far above the market, or selling far below it."""
    option = case.contract.sec_type == "OPT"
    percent = case.rules.option_price_band_percent if option else case.rules.price_band_percent
    limit_price = case.order.limit_price
    market = _market(case)
    if percent is None or limit_price is None or market is None:
        return
    buys = case.order.action == "BUY"
    bound = market * (1 + percent / 100) if buys else market * (1 - percent / 100)
    if limit_price > bound if buys else limit_price < bound:
        where = "above" if buys else "below"
        yield Violation(
            code="price-band",
            message=f"limitPrice {limit_price:g} is more than {percent:g} % {where} the market "
            f"({market:g})",
            field="limitPrice",
            value=limit_price,
            limit=round(bound, 6),
        )


def exit_side(case: Case) -> Iterator[Violation]:
    """`invalid-field`: an exit of a bracket that would fill as soon as its market order does."""
    entry = case.entry
    if entry is None or entry.order_type != "MKT" or case.reference is None:
        return
    market = case.reference.for_action(entry.action)
    if market is not None:
        stop = case.order.stop_price
        gain = case.order.limit_price if stop is None else None
        yield from exits_beside(entry.action, market, gain, stop, "the market")


def _market(case: Case) -> float | None:
    """What the limit is measured against: a stop's own trigger, or the quote."""
    if case.order.stop_price is not None:
        return case.order.stop_price
    return case.reference.for_action(case.order.action) if case.reference else None
