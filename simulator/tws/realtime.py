"""Five-second bars and tick-by-tick data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.market.bars import bars
from simulator.market.calendar import Span
from simulator.trading.market import Phase
from simulator.tws.contracts import venue_of
from simulator.tws.history_request import ONLY_FOR, QUOTED, QUOTES
from simulator.tws.history_ticks import send_ticks
from simulator.tws.line import COMPETING
from simulator.tws.market_data import entitlement, find_contract
from simulator.tws.messages import whole
from simulator.tws.registry import handles

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.contracts.contract import Contract
    from simulator.trading.market import Quote
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

BARS, TICKS = "real-time bars", "tick-by-tick"
REALTIME_BAR, TICK_BY_TICK = 50, 99
BAR_SECONDS = 5.0
TICK_LINES = 5
"""Tick-by-tick subscriptions of an account with a hundred market data lines."""
TICK_KINDS = {"LAST": 1, "ALLLAST": 2, "BIDASK": 3, "MIDPOINT": 4}
HISTORY_KINDS = {1: "TRADES", 2: "TRADES", 3: "BID_ASK", 4: "MIDPOINT"}


def blocked(session: Session) -> bool:
    """Whether streams stand still: no upstream, a competing session, or a client that is slow."""
    faults = session.world.faults
    return (
        faults.active("upstream-lost")
        or faults.active("competing-session")
        or not session.pipe.writable
    )


def entitled(session: Session, request_id: int, contract: Contract, code: int, text: str) -> bool:
    """Whether the account may have the live stream; tells the client when not."""
    if session.world.faults.active("competing-session"):
        session.error(request_id, 10197, COMPETING)
        return False
    if entitlement(session.world, contract) != "live":
        session.error(request_id, code, text)
        return False
    return True


@handles(50, upstream=True)
def request_realtime_bars(session: Session, fields: Reader) -> None:
    """Send a bar every five seconds."""
    fields.integer()
    request_id = fields.integer()
    query = fields.contract()
    size, kind, liquid = fields.integer(), fields.text().upper(), fields.boolean()
    contract = find_contract(session, request_id, query, "bO")
    if contract is None:
        return
    allowed = ONLY_FOR.get(kind, QUOTED) if kind in ("TRADES", *QUOTES[:3]) else ()
    text = "Invalid Real-time Query:"
    if size != BAR_SECONDS:
        session.error(request_id, 420, f"{text}Bar size must be 5 seconds")
    elif contract.kind not in allowed:
        session.error(request_id, 420, f"{text}No data of type {kind} for {contract.symbol}")
    elif entitled(session, request_id, contract, 420, f"{text}No market data permissions"):
        _stream_bars(session, request_id, contract, kind, liquid)


def _stream_bars(
    session: Session, request_id: int, contract: Contract, kind: str, liquid: bool
) -> None:
    clock, market = session.world.clock, session.world.market

    def send() -> None:
        phase = market.phase(contract, clock.time())
        if blocked(session) or phase is Phase.CLOSED or (liquid and phase is not Phase.REGULAR):
            return
        end = math.floor(clock.time() / BAR_SECONDS) * BAR_SECONDS
        stretch = Span(end - BAR_SECONDS, end)
        bar = next(bars(market, contract, kind, BAR_SECONDS, stretch, liquid=False), None)
        if bar:
            prices = (bar.open, bar.high, bar.low, bar.close)
            tail = (whole(bar.volume), bar.average, bar.trades)
            session.send(REALTIME_BAR, 3, request_id, int(bar.start), *prices, *tail)

    def begin() -> None:
        send()
        session.subscribe(BARS, request_id, clock.every(BAR_SECONDS, send).cancel)

    wait = BAR_SECONDS - clock.time() % BAR_SECONDS
    session.subscribe(BARS, request_id, clock.later(wait, begin).cancel)


@handles(51)
def cancel_realtime_bars(session: Session, fields: Reader) -> None:
    """End the bars."""
    fields.integer()
    _cancel(session, BARS, fields.integer())


def _cancel(session: Session, kind: str, request_id: int) -> None:
    if not session.unsubscribe(kind, request_id):
        session.error(request_id, 300, f"Can't find EId with tickerId:{request_id}")


@handles(97, upstream=True)
def request_tick_by_tick(session: Session, fields: Reader) -> None:
    """Send every trade, quote or middle price, perhaps some of the past first."""
    request_id = fields.integer()
    query = fields.contract()
    kind = TICK_KINDS.get(fields.text().strip().upper())
    count = fields.integer() if session.version >= 140 else 0
    contract = find_contract(session, request_id, query, "cN")
    if contract is None:
        return
    running = sum(each == TICKS for each, _ in session.subscriptions)
    place = "Error validating request.-'cN' : cause - "
    if kind is None:
        session.error(request_id, 321, f"{place}Incorrect tick type")
    elif contract.kind in ("OPT", "IND") or (contract.kind == "CASH" and kind < 3):
        text = f"Failed to request tick-by-tick data:{contract.sec_type} is not supported"
        session.error(request_id, 10189, text)
    elif running >= TICK_LINES:
        session.error(request_id, 10190, "Max number of tick-by-tick requests has been reached.")
    elif entitled(
        session,
        request_id,
        contract,
        10189,
        f"Failed to request tick-by-tick data:No market data permissions for {contract.exchange}",
    ):
        _stream_ticks(session, request_id, contract, kind, min(count, 1000))


def _stream_ticks(
    session: Session, request_id: int, contract: Contract, kind: int, count: int
) -> None:
    clock, market = session.world.clock, session.world.market
    if count:
        now = int(clock.time())
        moments = [float(now - back) for back in range(count, 0, -1)]
        send_ticks(session, request_id, contract, HISTORY_KINDS[kind], moments)
    show = _shown_tick(kind, venue_of(contract))
    known: list[Quote | None] = [None]

    def look() -> None:
        now = clock.time()
        if blocked(session) or market.phase(contract, now) is Phase.CLOSED:
            return
        quote = market.quote(contract, now)
        if quote != known[0]:
            known[0] = quote
            session.send(TICK_BY_TICK, request_id, kind, int(now), *show(quote))

    timer = clock.every(session.world.options.tick_interval, look)
    session.subscribe(TICKS, request_id, timer.cancel)
    look()


def _shown_tick(kind: int, venue: str) -> Callable[[Quote], tuple[object, ...]]:
    if kind in (1, 2):
        return lambda quote: (quote.last, whole(max(quote.bid_size, 1)), 0, venue, "")
    if kind == 3:
        return lambda quote: (
            quote.bid,
            quote.ask,
            whole(quote.bid_size),
            whole(quote.ask_size),
            0,
        )
    return lambda quote: (round(quote.middle, 6),)


@handles(98)
def cancel_tick_by_tick(session: Session, fields: Reader) -> None:
    """End the ticks."""
    _cancel(session, TICKS, fields.integer())
