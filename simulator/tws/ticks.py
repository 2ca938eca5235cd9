"""Ticks on the wire, and the generic ticks that a client can ask for by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.market.calendar import day_of
from simulator.market.noise import uniform

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.contracts.contract import Contract
    from simulator.market.options import Greeks
    from simulator.tws.client import Client
    from simulator.tws.session import Session

TICK_PRICE, TICK_SIZE, TICK_OPTION, TICK_GENERIC, TICK_STRING = 1, 2, 21, 45, 46
SNAPSHOT_END, MARKET_DATA_TYPE, TICK_PARAMETERS = 57, 58, 81
PRICE_BASED_VOLATILITY = 156


def whole(value: float) -> int | float:
    """A size as the wire has it: without a fraction unless there is one."""
    return int(value) if value == int(value) else value


def tick_price(
    session: Client, request_id: int, kind: int, price: float, size: float, mask: int = 0
) -> None:
    """A price with the size that belongs to it."""
    session.send(TICK_PRICE, 6, request_id, kind, price, whole(size), mask)


def tick_size(session: Client, request_id: int, kind: int, size: float) -> None:
    """A size alone."""
    session.send(TICK_SIZE, 6, request_id, kind, whole(size))


def tick_generic(session: Client, request_id: int, kind: int, value: float) -> None:
    """A number of some other kind."""
    session.send(TICK_GENERIC, 6, request_id, kind, value)


def tick_string(session: Client, request_id: int, kind: int, value: str) -> None:
    """A text, such as the time of the last trade."""
    session.send(TICK_STRING, 6, request_id, kind, value)


def tick_option(
    session: Client,
    request_id: int,
    kind: int,
    volatility: float | None,
    greeks: Greeks | None,
    spot: float,
) -> None:
    """An option's implied volatility and greeks; -1 and -2 stand for what has no value."""
    head = (6, request_id, kind)
    if session.version >= PRICE_BASED_VOLATILITY:
        head = (request_id, kind, 0)
    if volatility is None or greeks is None:
        values: tuple[float, ...] = (-1, -2, -1, -1, -2, -2, -2, spot or -1)
    else:
        values = (
            volatility,
            greeks.delta,
            greeks.price,
            0.0,
            greeks.gamma,
            greeks.vega,
            greeks.theta,
            spot,
        )
    session.send(TICK_OPTION, *head, *values)


LEGAL = {
    100: "Option Volume",
    101: "Option Open Interest",
    104: "Historical Volatility",
    105: "Average Option Volume",
    106: "Option Implied Volatility",
    162: "Index Future Premium",
    165: "Miscellaneous Stats",
    221: "Mark Price",
    225: "Auction Values",
    232: "Mark Price",
    233: "RTVolume",
    236: "inventory",
    258: "Fundamentals",
    292: "Wide_news",
    293: "TradeCount",
    294: "TradeRate",
    295: "VolumeRate",
    318: "LastRTHTrade",
    375: "RTTrdVolume",
    411: "RTHistVol",
    456: "IBDividends",
    460: "Bond Factor Multiplier",
    576: "EtfNavBidAsk",
    577: "EtfNavLast",
    578: "EtfNavClose",
    586: "IPOPrices",
    588: "Open Interest",
    595: "ShortTermVolume",
    614: "EtfNavHighLow",
    619: "CreditManSlowMarkPrice",
    623: "EtfNavMisc",
}
OPTIONS_PER_SHARE = 0.012
"""Option contracts traded a day for each share traded."""
SENT: dict[int, Callable[[Session, int, Contract, float], None]] = {}


def legal_list(sec_type: str) -> str:
    """The list that the gateway names when a client asked for a tick that does not exist."""
    names = ",".join(f"{number}({name})" for number, name in LEGAL.items())
    return f"Legal ones for ({sec_type}) are: {names}"


def send_generic(
    session: Session, request_id: int, contract: Contract, ticks: frozenset[int], at: float
) -> None:
    """Send the generic ticks of a line that has just begun; 233 goes with each trade instead."""
    for number in sorted(ticks):
        send = SENT.get(number)
        if send:
            send(session, request_id, contract, at)


def open_interest(contract: Contract, at: float) -> float:
    """Open contracts of an option or a future on a day."""
    day = day_of(at).toordinal()
    usual = 250_000 if contract.kind == "FUT" else 4_000
    return float(int(usual * (0.3 + 1.4 * uniform(contract.con_id, day // 30))))


def _option_volume(session: Session, request_id: int, contract: Contract, at: float) -> None:
    world = session.world
    if contract.kind == "OPT":
        traded = world.market.day(contract, at).volume
        tick_size(session, request_id, 29 if contract.right == "C" else 30, traded)
    elif world.catalog.classes_on(contract.con_id):
        base = world.market.day(contract, at).volume * OPTIONS_PER_SHARE
        tick_size(session, request_id, 29, float(int(base * 0.58)))
        tick_size(session, request_id, 30, float(int(base * 0.42)))


def _open_interest(session: Session, request_id: int, contract: Contract, at: float) -> None:
    opened = open_interest(contract, at)
    if contract.kind == "OPT":
        tick_size(session, request_id, 27 if contract.right == "C" else 28, opened)
    elif session.world.catalog.classes_on(contract.con_id):
        tick_size(session, request_id, 27, opened * 300)
        tick_size(session, request_id, 28, opened * 270)


def _historical_volatility(session: Session, request_id: int, about: Contract, at: float) -> None:
    if about.kind in ("STK", "IND"):
        value = session.world.market.historical_volatility(about, at)
        tick_generic(session, request_id, 23, round(value, 6))


def _average_option_volume(session: Session, request_id: int, about: Contract, at: float) -> None:
    if about.kind == "STK":
        day = session.world.market.day(about, at)
        tick_size(session, request_id, 87, float(int(day.volume * OPTIONS_PER_SHARE * 1.05)))


def _implied_volatility(session: Session, request_id: int, about: Contract, at: float) -> None:
    if about.kind in ("STK", "IND"):
        value = session.world.market.implied_volatility(about, at)
        tick_generic(session, request_id, 24, round(value, 6))


def _statistics(session: Session, request_id: int, about: Contract, at: float) -> None:
    market = session.world.market
    weeks = ((13, 15, 16), (26, 17, 18), (52, 19, 20))
    for count, low_kind, high_kind in weeks:
        looks = [market.middle(about, at - 86_400.0 * 7 * back) for back in range(count)]
        tick_price(session, request_id, low_kind, market.rounded(about, min(looks)), 0)
        tick_price(session, request_id, high_kind, market.rounded(about, max(looks)), 0)
    tick_size(session, request_id, 21, market.day(about, at).volume)


def _mark_price(session: Session, request_id: int, about: Contract, at: float) -> None:
    market = session.world.market
    tick_price(session, request_id, 37, market.rounded(about, market.middle(about, at)), 0)


def _shortable(session: Session, request_id: int, about: Contract, at: float) -> None:
    if about.kind == "STK":
        tick_generic(session, request_id, 46, 3.0)
        shares = uniform(about.con_id, day_of(at).toordinal())
        tick_size(session, request_id, 89, float(int(1e6 + 4e7 * shares)))


def _trade_count(session: Session, request_id: int, about: Contract, at: float) -> None:
    tick_generic(
        session, request_id, 54, float(int(session.world.market.day(about, at).volume / 130))
    )


def _trade_rate(session: Session, request_id: int, about: Contract, at: float) -> None:
    traded = session.world.market.volume(about, at - 60, at)
    tick_generic(session, request_id, 55, float(int(traded / 130)))


def _volume_rate(session: Session, request_id: int, about: Contract, at: float) -> None:
    tick_generic(session, request_id, 56, session.world.market.volume(about, at - 60, at))


def _last_regular_trade(session: Session, request_id: int, about: Contract, at: float) -> None:
    market = session.world.market
    tick_price(session, request_id, 57, market.quote(about, at).last, 0)


def _realtime_volatility(session: Session, request_id: int, about: Contract, at: float) -> None:
    if about.kind in ("STK", "IND"):
        value = session.world.market.historical_volatility(about, at)
        tick_generic(session, request_id, 58, round(value, 6))


def _dividends(session: Session, request_id: int, about: Contract, at: float) -> None:
    if about.kind == "STK":
        tick_string(session, request_id, 59, ",,,")


def _future_interest(session: Session, request_id: int, about: Contract, at: float) -> None:
    if about.kind == "FUT":
        tick_size(session, request_id, 86, open_interest(about, at))


SENT |= {
    100: _option_volume,
    101: _open_interest,
    104: _historical_volatility,
    105: _average_option_volume,
    106: _implied_volatility,
    165: _statistics,
    221: _mark_price,
    232: _mark_price,
    236: _shortable,
    293: _trade_count,
    294: _trade_rate,
    295: _volume_rate,
    318: _last_regular_trade,
    411: _realtime_volatility,
    456: _dividends,
    588: _future_interest,
}
