"""Historical ticks and price histograms."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from simulator.market import bars, calendar
from simulator.tws.contracts import venue_of
from simulator.tws.history import first_listed
from simulator.tws.history_request import SERVICE, WRONG_TIME
from simulator.tws.market_data import find_contract
from simulator.tws.session import handles
from simulator.tws.ticks import whole
from simulator.tws.wire import Field, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.contracts.contract import Contract
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

LARGEST = 1000
TICK_SECONDS = 1.0
"""History has one tick a second."""
HISTOGRAM = Layout(89, "request_id", Field("bins", group=(Field("price"), Field("size"))))


def _tick_layout(message: int, second: Field, *values: Field) -> Layout:
    group = (Field("time"), second, *values)
    return Layout(message, "request_id", Field("ticks", group=group), Field("done", default=True))


_MASK = Field("mask", default=0)
MIDPOINTS = _tick_layout(96, Field("unused"), Field("price"), Field("size"))
BIDS_AND_ASKS = _tick_layout(
    97, _MASK, Field("bid"), Field("ask"), Field("bid_size"), Field("ask_size")
)
TRADES = _tick_layout(
    98, _MASK, Field("price"), Field("size"), Field("exchange"), Field("conditions")
)
LAYOUTS = {"MIDPOINT": MIDPOINTS, "BID_ASK": BIDS_AND_ASKS, "TRADES": TRADES}


@handles(96, upstream=True)
def request_historical_ticks(session: Session, fields: Reader) -> None:
    """Send up to a thousand ticks after a start or before an end."""
    request_id = fields.integer()
    query = fields.contract()
    fields.skip(1)
    start_text, end_text = fields.text().strip(), fields.text().strip()
    count, kind, liquid = fields.integer(), fields.text().upper(), fields.boolean()
    contract = find_contract(session, request_id, query, "cG")
    if contract is None:
        return
    now = session.world.clock.time()
    start, end = bars.parse_end(start_text, now), bars.parse_end(end_text, now)
    problem = _problem(contract, kind, count, bool(start_text), bool(end_text))
    if start is None or end is None:
        session.error(request_id, 10314, WRONG_TIME)
    elif problem:
        session.error(request_id, 321, f"Error validating request.-'cG' : cause - {problem}")
    else:
        moments = list(
            islice(_after(contract, start, now, liquid=liquid), count)
            if start_text
            else reversed(list(islice(_before(contract, end, now, liquid=liquid), count)))
        )
        send_ticks(session, request_id, contract, kind, moments)


def _problem(contract: Contract, kind: str, count: int, start: bool, end: bool) -> str:
    if kind not in LAYOUTS or (kind == "TRADES" and contract.kind == "CASH"):
        return f"Incorrect whatToShow: {kind}"
    if not 1 <= count <= LARGEST:
        return f"Number of ticks must be 1 to {LARGEST}"
    return "" if start != end else "Exactly one of start and end must be given"


def send_ticks(
    session: Session, request_id: int, contract: Contract, kind: str, moments: list[float]
) -> None:
    """Send the ticks of some moments in one message."""
    ticks = [_tick(session, contract, kind, moment) for moment in moments]
    session.send_layout(LAYOUTS[kind], {"request_id": request_id, "ticks": ticks})


def _after(contract: Contract, start: float, now: float, *, liquid: bool) -> Iterator[float]:
    at = math.ceil(start)
    while True:
        span = calendar.span_at(contract.sec_type, at, liquid=liquid)
        span = span or calendar.next_span(contract.sec_type, at, liquid=liquid)
        at = max(at, math.ceil(span.start))
        while at < span.end:
            if at > now:
                return
            yield float(at)
            at += int(TICK_SECONDS)


def _before(contract: Contract, end: float, now: float, *, liquid: bool) -> Iterator[float]:
    at, oldest = math.floor(min(end, now)), first_listed(contract, now)
    while at > oldest:
        span = calendar.span_at(contract.sec_type, at, liquid=liquid)
        span = span or calendar.last_span(contract.sec_type, at, liquid=liquid)
        at = min(at, math.ceil(span.end) - 1)
        while at >= span.start:
            yield float(at)
            at -= int(TICK_SECONDS)


def _tick(session: Session, contract: Contract, kind: str, at: float) -> dict[str, Any]:
    market = session.world.market
    quote = market.price_quote(contract, at)
    if kind == "MIDPOINT":
        return {"time": int(at), "price": round(quote.middle, 6), "size": 0}
    if kind == "TRADES":
        size = whole(max(quote.bid_size, 1))
        return {"time": int(at), "price": quote.last, "size": size, "exchange": venue_of(contract)}
    return {
        "time": int(at),
        "bid": quote.bid,
        "ask": quote.ask,
        "bid_size": whole(quote.bid_size),
        "ask_size": whole(quote.ask_size),
    }


@handles(88, upstream=True)
def request_histogram(session: Session, fields: Reader) -> None:
    """Send how much was traded at each price over a period."""
    request_id = fields.integer()
    query = fields.contract()
    fields.skip(1)
    liquid, period = fields.boolean(), fields.text()
    contract = find_contract(session, request_id, query, "cS")
    if contract is None:
        return
    length = bars.parse_duration(period)
    if length is None or contract.kind in ("CASH", "IND"):
        session.error(request_id, 162, f"{SERVICE}HMDS query returned no data: {contract.symbol}")
        return
    market, now = session.world.market, session.world.clock.time()
    start = bars.start_of(market, contract, now, *length, liquid=liquid)
    size = max((now - start) / 500, 60.0)
    bins: dict[float, int] = {}
    moment = start
    while moment < now:
        price = market.rounded(contract, market.middle(contract, moment))
        bins[price] = bins.get(price, 0) + 1 + int(market.volume(contract, moment, moment + size))
        moment += size
    content = [{"price": price, "size": count} for price, count in sorted(bins.items())]
    session.send_layout(HISTOGRAM, {"request_id": request_id, "bins": content})


@handles(89)
def cancel_histogram(session: Session, fields: Reader) -> None:
    """Nothing to end: the answer has gone out already."""
    fields.integer()
