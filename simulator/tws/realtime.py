"""Streams beside the quotes: five-second bars, tick-by-tick data, market depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from simulator.market.bars import bars
from simulator.market.calendar import Span
from simulator.market.market import Phase
from simulator.market.noise import mixed
from simulator.tws.contracts import LETTERS, venue_of
from simulator.tws.history import send_ticks
from simulator.tws.history_request import ONLY_FOR, QUOTED, QUOTES
from simulator.tws.line import COMPETING
from simulator.tws.market_data import entitlement, find_contract
from simulator.tws.session import handles
from simulator.tws.ticks import whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.contracts.contract import Contract
    from simulator.market.market import Quote
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


DEPTH = "market depth"
BOOK, BOOK_SECOND_LEVEL = 12, 13
SMART_DEPTH, PRIMARY_EXCHANGE = 146, 149
INSERT, UPDATE = 0, 1
ASK_SIDE, BID_SIDE = 0, 1
SUBSCRIPTIONS = 3
"""Depth subscriptions of an account with a hundred market data lines."""
LARGEST = 20
SECONDS = 1.0
NOT_SUPPORTED = "Deep market data is not supported for this combination of security type/exchange"


class Level(NamedTuple):
    """One row of the book."""

    price: float
    size: float


@handles(10, upstream=True)
def request_market_depth(session: Session, fields: Reader) -> None:
    """Send the rows of a book, then what changes in them."""
    fields.integer()
    request_id = fields.integer()
    query = fields.contract(primary=session.version >= PRIMARY_EXCHANGE)
    rows = fields.integer()
    smart = fields.boolean() if session.version >= SMART_DEPTH else False
    contract = find_contract(session, request_id, query, "bT")
    if contract is None:
        return
    running = sum(kind == DEPTH for kind, _ in session.subscriptions)
    if contract.kind not in ("STK", "FUT", "CASH") or (contract.exchange == "SMART" and not smart):
        session.error(request_id, 10092, NOT_SUPPORTED)
    elif running >= SUBSCRIPTIONS:
        text = f"Max number ({SUBSCRIPTIONS}) of market depth requests has been reached"
        session.error(request_id, 309, text)
    elif entitled(session, request_id, contract, 354, "Requested market data is not subscribed."):
        _stream(session, request_id, contract, max(1, min(rows, LARGEST)), smart)


def _stream(session: Session, request_id: int, contract: Contract, rows: int, smart: bool) -> None:
    clock = session.world.clock
    known: dict[tuple[int, int], Level] = {}
    second_level = smart or contract.kind == "STK"

    def look() -> None:
        if blocked(session):
            return
        for (side, row), level in levels(session, contract, rows).items():
            before = known.get((side, row))
            if before == level:
                continue
            known[side, row] = level
            what = (UPDATE if before else INSERT, side, level.price, whole(level.size))
            if second_level:
                tail = (smart,) if session.version >= SMART_DEPTH else ()
                maker = list(LETTERS)[(row + side) % len(LETTERS)] if smart else contract.exchange
                session.send(BOOK_SECOND_LEVEL, 1, request_id, row, maker, *what, *tail)
            else:
                session.send(BOOK, 1, request_id, row, *what)

    session.subscribe(DEPTH, request_id, clock.every(SECONDS, look).cancel)
    look()


def levels(session: Session, contract: Contract, rows: int) -> dict[tuple[int, int], Level]:
    """The book's rows by side and place; sizes grow away from the best price."""
    at = session.world.clock.time()
    quote = session.world.market.quote(contract, at)
    tick, found = contract.min_tick, {}
    for row in range(rows):
        for side, best, away in ((BID_SIDE, quote.bid, -1), (ASK_SIDE, quote.ask, 1)):
            price = round(best + away * row * tick, 8)
            base = quote.bid_size if side == BID_SIDE else quote.ask_size
            more = mixed(contract.con_id, round(price / tick)) % 9
            found[side, row] = Level(price, base * (1 + row * more))
    return found


@handles(11)
def cancel_market_depth(session: Session, fields: Reader) -> None:
    """End the book."""
    fields.integer()
    request_id = fields.integer()
    if not session.unsubscribe(DEPTH, request_id):
        text = f"Can't find the subscribed market depth with tickerId:{request_id}"
        session.error(request_id, 310, text)
