"""Historical bars, ticks, schedules, first dates, and price histograms."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from simulator.clock import EASTERN
from simulator.market import bars, calendar
from simulator.market.calendar import Span
from simulator.tws.contracts import venue_of
from simulator.tws.history_request import (
    ONLY_FOR,
    QUOTED,
    SERVICE,
    WRONG_TIME,
    Asked,
    RefusedError,
    admit,
    checked,
    no_data,
)
from simulator.tws.market_data import find_contract
from simulator.tws.session import handles
from simulator.tws.ticks import whole
from simulator.tws.wire import Field, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.contracts.contract import Contract
    from simulator.market.bars import Bar
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

HISTORY, HEAD = "history", "head timestamp"
UPDATE, HEAD_TIMESTAMP = 90, 88
SYNTHETIC_BARS = 124
ZONE_IN_DATES = 176
TURN_SECONDS = 0.005
"""Time spent on bars before other clients get their turn."""
UPDATE_SECONDS = 5.0
HISTORICAL_DATA = Layout(
    17,
    Field("version", until=SYNTHETIC_BARS, default=3),
    "request_id",
    "start",
    "end",
    Field(
        "bars",
        group=(
            Field("date"),
            Field("open"),
            Field("high"),
            Field("low"),
            Field("close"),
            Field("volume"),
            Field("average"),
            Field("gaps", until=SYNTHETIC_BARS, default="false"),
            Field("trades"),
        ),
    ),
)
SCHEDULE = Layout(
    106,
    "request_id",
    "start",
    "end",
    "zone",
    Field("sessions", group=(Field("start"), Field("end"), Field("day"))),
)
LARGEST = 1000
TICK_SECONDS = 1.0
"""History has one tick a second."""
HISTOGRAM = Layout(89, "request_id", Field("bins", group=(Field("price"), Field("size"))))


@handles(20, upstream=True)
def request_historical_data(session: Session, fields: Reader) -> None:
    """Send the bars of a stretch of time, and go on if the client asked for that."""
    if session.version < SYNTHETIC_BARS:
        fields.integer()
    request_id = fields.integer()
    query = fields.contract()
    fields.skip(1)
    end, size, duration = fields.text(), fields.text(), fields.text()
    liquid, kind, date_format = fields.boolean(), fields.text().upper(), fields.integer()
    if query.sec_type == "BAG":
        fields.skip(4 * fields.count())
    keep = fields.boolean() if session.version >= SYNTHETIC_BARS else False
    contract = find_contract(session, request_id, query, "bN")
    if contract is None:
        return
    try:
        asked = checked(
            session, request_id, contract, (end, size, duration, kind), (liquid, keep, date_format)
        )
        wait = admit(session.world, asked, (end, size, duration))
    except RefusedError as error:
        session.error(request_id, error.code, str(error))
        return
    if kind == "SCHEDULE":
        _send_schedule(session, asked)
    else:
        task = asyncio.get_running_loop().create_task(_answer(session, asked, wait))
        session.subscribe(HISTORY, request_id, task.cancel)


async def _answer(session: Session, asked: Asked, wait: float) -> None:
    if wait:
        await session.world.clock.sleep(wait)
    found = await _collect(session, asked)
    if not found:
        session.unsubscribe(HISTORY, asked.request_id)
        session.error(asked.request_id, 162, no_data(asked.contract, asked.kind))
        return
    content = {
        "request_id": asked.request_id,
        "start": _moment(session, asked.stretch.start),
        "end": _moment(session, asked.stretch.end),
        "bars": Shown(session, asked, found),
    }
    session.send_layout(HISTORICAL_DATA, content)
    session.subscriptions.pop((HISTORY, asked.request_id), None)
    if asked.keep:
        _keep_up(session, asked, found[-1].start)


async def _collect(session: Session, asked: Asked) -> list[Bar]:
    market, first = session.world.market, asked.stretch.start
    live = first_listed(asked.contract, session.world.clock.time())
    stretch = Span(max(first, live), asked.stretch.end)
    source = bars.bars(market, asked.contract, asked.kind, asked.size, stretch, liquid=asked.liquid)
    found: list[Bar] = []
    turn = time.perf_counter()
    for bar in source:
        found.append(bar)
        if time.perf_counter() - turn > TURN_SECONDS:
            await asyncio.sleep(0)
            turn = time.perf_counter()
    return found


def first_listed(contract: Contract, now: float) -> float:
    """Since when a contract has a history: options since half a year, futures two years."""
    ages = {"OPT": 183 * 86_400.0, "FUT": 730 * 86_400.0}
    if contract.kind in ages and contract.sec_type != "CONTFUT":
        return now - ages[contract.kind]
    return calendar.stamp(bars.FIRST_DAY, 9, 30)


class Shown:
    """Bars as the layout wants them, each made only when it is written."""

    def __init__(self, session: Session, asked: Asked, found: list[Bar]) -> None:
        self._session, self._asked, self._found = session, asked, found

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (_shown(self._session, self._asked, bar) for bar in self._found)


def _shown(session: Session, asked: Asked, bar: Bar) -> dict[str, Any]:
    return {
        "date": _date(session, asked, bar),
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": whole(bar.volume),
        "average": bar.average,
        "trades": bar.trades,
    }


def _date(session: Session, asked: Asked, bar: Bar) -> str:
    if bar.day is not None:
        return f"{bar.day:%Y%m%d}"
    return str(int(bar.start)) if asked.epoch else _moment(session, bar.start)


def _moment(session: Session, at: float) -> str:
    local = datetime.fromtimestamp(at, EASTERN)
    if session.version >= ZONE_IN_DATES:
        return f"{local:%Y%m%d %H:%M:%S} US/Eastern"
    return f"{local:%Y%m%d  %H:%M:%S}"


def _keep_up(session: Session, asked: Asked, last_start: float) -> None:
    """Send the growing bar every five seconds, and each new one."""
    clock, state = session.world.clock, {"start": last_start}

    def update() -> None:
        if session.world.faults.active("upstream-lost") or not session.pipe.writable:
            return
        source = bars.news(
            session.world.market,
            asked.contract,
            asked.kind,
            asked.size,
            Span(state["start"], clock.time()),
            liquid=asked.liquid,
        )
        for bar in source:
            state["start"] = bar.start
            _send_update(session, asked, bar)

    timer = clock.every(UPDATE_SECONDS, update)
    session.subscribe(HISTORY, asked.request_id, timer.cancel)


def _send_update(session: Session, asked: Asked, bar: Bar) -> None:
    date = _date(session, asked, bar)
    prices = (bar.open, bar.close, bar.high, bar.low, bar.average)
    session.send(UPDATE, asked.request_id, bar.trades, date, *prices, whole(bar.volume))


def _send_schedule(session: Session, asked: Asked) -> None:
    kind, sessions = asked.contract.sec_type, []
    for span in calendar.spans_between(kind, *asked.stretch, liquid=asked.liquid):
        day = calendar.day_of(span.end - 1)
        sessions.append(
            {"start": _dashed(span.start), "end": _dashed(span.end), "day": f"{day:%Y%m%d}"}
        )
    if not sessions:
        session.error(asked.request_id, 162, no_data(asked.contract, "SCHEDULE"))
        return
    content = {
        "request_id": asked.request_id,
        "start": sessions[0]["start"],
        "end": sessions[-1]["end"],
        "zone": "US/Eastern",
        "sessions": sessions,
    }
    session.send_layout(SCHEDULE, content)


def _dashed(at: float) -> str:
    return f"{datetime.fromtimestamp(at, EASTERN):%Y%m%d-%H:%M:%S}"


@handles(25)
def cancel_historical_data(session: Session, fields: Reader) -> None:
    """End a request that is under way or kept up to date."""
    fields.integer()
    request_id = fields.integer()
    if session.unsubscribe(HISTORY, request_id):
        text = f"{SERVICE}API historical data query cancelled: {request_id}"
        session.error(request_id, 162, text)
    else:
        session.error(request_id, 366, f"No historical data query found for ticker id:{request_id}")


@handles(87, upstream=True)
def request_head_timestamp(session: Session, fields: Reader) -> None:
    """Send since when there is history of a contract."""
    request_id = fields.integer()
    query = fields.contract()
    fields.skip(2)
    kind, date_format = fields.text().upper(), fields.integer()
    contract = find_contract(session, request_id, query, "cO")
    if contract is None:
        return
    if contract.kind not in ONLY_FOR.get(kind, QUOTED):
        session.error(request_id, 162, f"{SERVICE}No head time stamp")
        return
    first = first_listed(contract, session.world.clock.time())
    text = f"{datetime.fromtimestamp(first, UTC):%Y%m%d-%H:%M:%S}"
    session.send(HEAD_TIMESTAMP, request_id, str(int(first)) if date_format == 2 else text)


@handles(90)
def cancel_head_timestamp(session: Session, fields: Reader) -> None:
    """Nothing to end: the answer has gone out already."""
    fields.integer()


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
