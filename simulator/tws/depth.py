"""Market depth: the order book behind the best prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulator.market.noise import mixed
from simulator.tws.contracts import LETTERS
from simulator.tws.market_data import find_contract
from simulator.tws.messages import whole
from simulator.tws.realtime import blocked, entitled
from simulator.tws.registry import handles

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

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
