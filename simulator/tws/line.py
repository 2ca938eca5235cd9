"""A market data line: one contract streamed, or snapped, to one client."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from simulator.market import options
from simulator.market.market import Phase
from simulator.tws.contracts import BBO_EXCHANGES, LETTERS, venue_of
from simulator.tws.ticks import (
    MARKET_DATA_TYPE,
    SNAPSHOT_END,
    TICK_PARAMETERS,
    send_generic,
    tick_generic,
    tick_option,
    tick_price,
    tick_size,
    tick_string,
)

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract
    from simulator.market.market import Day, Quote
    from simulator.tws.session import Session

DELAY_SECONDS = 15 * 60.0
SMART_COMPONENTS = 114
SNAPSHOT_SECONDS = 0.25
GREEKS_SECONDS = 1.0
"""How often greeks follow the price."""
COMPETING = "No market data during competing live session"
HALTED = 49
COMBINATION = "BAG"
"""It has quotes and no day."""


class DataType(IntEnum):
    """Market data types as requests and answers number them."""

    LIVE = 1
    FROZEN = 2
    DELAYED = 3
    DELAYED_FROZEN = 4


class Kinds(NamedTuple):
    """Tick types of one form of data."""

    bid: int
    ask: int
    last: int
    bid_size: int
    ask_size: int
    last_size: int
    high: int
    low: int
    volume: int
    close: int
    open: int
    timestamp: int
    bid_option: int
    ask_option: int
    last_option: int
    model_option: int


NOW = Kinds(1, 2, 4, 0, 3, 5, 6, 7, 8, 9, 14, 45, 10, 11, 12, 13)
LATE = Kinds(66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 88, 80, 81, 82, 83)


class Line:
    """Sends what changed since the last look; the first look sends everything."""

    def __init__(
        self,
        session: Session,
        request_id: int,
        contract: Contract,
        data_type: DataType,
        generic: frozenset[int],
    ) -> None:
        self.session = session
        self.market = session.world.market
        self.request_id = request_id
        self.contract = contract
        self.data_type = data_type
        self.generic = generic
        self.late = data_type in (DataType.DELAYED, DataType.DELAYED_FROZEN)
        self.kinds = LATE if self.late else NOW
        self._quote: Quote | None = None
        self._day: Day | None = None
        self._moment = 0.0
        self._greeks_due = 0.0

    def begin(self) -> None:
        """Say what kind of data follows, then send everything once."""
        session, contract = self.session, self.contract
        session.send(MARKET_DATA_TYPE, 1, self.request_id, int(self.data_type))
        if session.version >= SMART_COMPONENTS:
            bbo = BBO_EXCHANGES.get(contract.sec_type, "")
            snapshots = 3 if bbo else 0
            session.send(TICK_PARAMETERS, self.request_id, contract.min_tick, bbo, snapshots)
        if self._open() or self.data_type in (DataType.FROZEN, DataType.DELAYED_FROZEN):
            self.look()
        elif contract.sec_type != COMBINATION:
            self._send_day(self.market.day(contract, self._at()))
        send_generic(session, self.request_id, contract, self.generic, self._at())
        if contract.kind == "STK":
            tick_generic(session, self.request_id, HALTED, 0.0)

    def pulse(self) -> None:
        """The market moved: send what changed, unless nothing can come through."""
        faults = self.session.world.faults
        blocked = faults.active("upstream-lost") or faults.active("competing-session")
        if self.session.pipe.writable and not blocked and self._open():
            self.look()

    def look(self) -> None:
        """Compare the market with what the client knows and send the difference."""
        at = self._at()
        moment = self.market.moment(self.contract, at)
        if moment == self._moment:
            return
        self._moment = moment
        quote, known = self.market.quote(self.contract, at), self._quote
        if quote != known:
            self._send_quote(quote, known, moment)
        if self.contract.sec_type != COMBINATION:
            self._send_day(self.market.day(self.contract, at))
        self._quote = quote

    def _at(self) -> float:
        now = self.session.world.clock.time()
        return now - DELAY_SECONDS if self.late else now

    def _open(self) -> bool:
        return self.market.phase(self.contract, self._at()) is not Phase.CLOSED

    def _send_quote(self, quote: Quote, known: Quote | None, moment: float) -> None:
        session, request_id, kinds = self.session, self.request_id, self.kinds
        if self.contract.kind != "IND":
            if known is None or known.bid != quote.bid:
                tick_price(session, request_id, kinds.bid, quote.bid or -1.0, quote.bid_size, 1)
            elif known.bid_size != quote.bid_size:
                tick_size(session, request_id, kinds.bid_size, quote.bid_size)
            if known is None or known.ask != quote.ask:
                tick_price(session, request_id, kinds.ask, quote.ask, quote.ask_size, 1)
            elif known.ask_size != quote.ask_size:
                tick_size(session, request_id, kinds.ask_size, quote.ask_size)
        if self.contract.kind != "CASH" and (known is None or known.last != quote.last):
            self._send_last(quote, moment)
        if self.contract.kind == "OPT" and moment >= self._greeks_due:
            self._greeks_due = moment + GREEKS_SECONDS
            self._send_greeks(quote, moment)

    def _send_last(self, quote: Quote, moment: float) -> None:
        session, request_id, kinds = self.session, self.request_id, self.kinds
        size = 0.0 if self.contract.kind == "IND" else max(quote.bid_size, 1.0)
        tick_string(session, request_id, kinds.timestamp, str(int(moment)))
        tick_price(session, request_id, kinds.last, quote.last, size)
        if size:
            tick_size(session, request_id, kinds.last_size, size)
        if size and self.contract.kind == "STK" and not self.late:
            tick_string(session, request_id, 84, LETTERS.get(venue_of(self.contract), ""))
        if 233 in self.generic and size:
            self._send_trade(48, quote, size, moment)
        if 375 in self.generic and size:
            self._send_trade(77, quote, size, moment)

    def _send_trade(self, kind: int, quote: Quote, size: float, moment: float) -> None:
        day = self.market.day(self.contract, moment)
        average = (day.high + day.low + quote.last) / 3
        parts = (quote.last, int(size), int(moment * 1000), int(day.volume), round(average, 8))
        text = ";".join(str(part) for part in parts)
        tick_string(self.session, self.request_id, kind, f"{text};true")

    def _send_greeks(self, quote: Quote, moment: float) -> None:
        contract, market = self.contract, self.market
        spot, years = market.spot(contract, moment), market.years(contract, moment)
        prices = (quote.bid, quote.ask, quote.last)
        for kind, value in zip(self.kinds[12:15], prices, strict=True):
            found = options.implied_volatility(value, spot, contract.strike, years, contract.right)
            greeks = None
            if found is not None and value > 0:
                greeks = options.greeks(spot, contract.strike, years, found, contract.right)
                greeks = greeks._replace(price=value)
            tick_option(self.session, self.request_id, kind, found, greeks, spot)
        model = market.greeks(contract, moment)
        volatility = market.implied_volatility(contract, moment)
        kind = self.kinds.model_option
        tick_option(self.session, self.request_id, kind, volatility, model, spot)

    def _send_day(self, day: Day) -> None:
        session, request_id, kinds, known = self.session, self.request_id, self.kinds, self._day
        if self.contract.kind in ("STK", "FUT", "OPT") and (
            known is None or known.volume != day.volume
        ):
            tick_size(session, request_id, kinds.volume, day.volume)
        for kind, name in (
            (kinds.high, "high"),
            (kinds.low, "low"),
            (kinds.close, "close"),
            (kinds.open, "open"),
        ):
            value = getattr(day, name)
            if known is None or getattr(known, name) != value:
                tick_price(session, request_id, kind, value, 0)
        self._day = day

    def end_snapshot(self) -> None:
        """Tell the client that a snapshot is complete."""
        self.session.send(SNAPSHOT_END, 1, self.request_id)
