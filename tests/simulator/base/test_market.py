from __future__ import annotations

import itertools
import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulator.clock import EASTERN
from simulator.contracts.catalog import AmbiguousError, Catalog, NotFoundError
from simulator.contracts.contract import Query
from simulator.contracts.instruments import BONDS
from simulator.market import bars, options
from simulator.market.calendar import Span
from simulator.market.market import Market, Phase

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract

FRIDAY = datetime(2026, 11, 20, 11, 0, tzinfo=EASTERN).timestamp()
CATALOG = Catalog()


def market(seed: int = 1, hours: str = "exchange") -> Market:
    return Market(CATALOG, seed, hours)


def found(**words: object) -> Contract:
    return CATALOG.resolve(Query(**words), FRIDAY)  # type: ignore[arg-type]


APPLE = found(symbol="AAPL", sec_type="STK", currency="USD", exchange="SMART")
EURO = found(symbol="EUR", sec_type="CASH", currency="USD")
INDEX = found(symbol="SPX", sec_type="IND")


# contracts


def test_a_stock_listed_twice_is_ambiguous_without_its_currency() -> None:
    with pytest.raises(AmbiguousError, match="IBM is ambiguous"):
        found(symbol="IBM", sec_type="STK", exchange="SMART")
    assert found(symbol="IBM", sec_type="STK", currency="USD").con_id == 8314


@pytest.mark.parametrize(
    "words",
    [
        {"symbol": "NOPE", "sec_type": "STK"},
        {"symbol": "AAPL", "sec_type": "BOND"},
        {"symbol": "AAPL", "sec_type": "STK", "exchange": "MOON"},
        {"con_id": 1},
        {"symbol": "AAPL", "sec_type": "OPT", "expiry": "20261121"},
        {"symbol": "AAPL", "sec_type": "OPT", "expiry": "20261218", "strike": 201.3},
    ],
)
def test_what_is_not_listed_is_not_found(words: dict[str, object]) -> None:
    with pytest.raises(NotFoundError):
        found(**words)


def test_every_option_is_found_again_by_its_number() -> None:
    for symbol in ("AAPL", "SPX", "SPY"):
        query = Query(symbol=symbol, sec_type="OPT", expiry="2026")
        listed = list(CATALOG.find(query, FRIDAY))
        assert len({each.con_id for each in listed}) == len(listed) > 500
        assert all(CATALOG.by_id(each.con_id) == each for each in listed)


def test_index_options_have_a_morning_and_an_evening_class() -> None:
    monthly, weekly = CATALOG.classes_on(INDEX.con_id)
    today = datetime.fromtimestamp(FRIDAY, EASTERN).date()
    assert (monthly.name, weekly.name) == ("SPX", "SPXW")
    assert f"{monthly.expirations(today)[0]:%Y%m%d}" == "20261217"
    days = [f"{day:%Y%m%d}" for day in weekly.expirations(today)]
    assert days[:6] == ["20261120", "20261123", "20261124", "20261125", "20261127", "20261130"]


def test_futures_know_their_last_day() -> None:
    listed = list(CATALOG.find(Query(symbol="ES", sec_type="FUT"), FRIDAY))
    assert [(each.local_symbol, each.expiry) for each in listed[:2]] == [
        ("ESZ6", "20261218"),
        ("ESH7", "20270319"),
    ]
    assert all(CATALOG.by_id(each.con_id) == each for each in listed)
    expired = Query(symbol="ES", sec_type="FUT", expiry="202603", include_expired=True)
    assert [each.expiry for each in CATALOG.find(expired, FRIDAY)] == ["20260320"]


# prices


def test_the_same_seed_is_the_same_market_and_another_is_not() -> None:
    moments = [FRIDAY + 37 * step for step in range(50)]
    first, again, other = (
        [source.quote(APPLE, moment) for moment in moments]
        for source in (market(), market(), market(2))
    )
    assert first == again
    assert first != other


def test_quotes_lie_on_the_grid_and_bid_is_below_ask() -> None:
    source = market()
    for contract in (APPLE, EURO, found(symbol="ES", sec_type="FUT", expiry="202612")):
        for step in range(200):
            quote = source.quote(contract, FRIDAY + step * 7)
            assert quote.bid < quote.ask
            for price in quote[:3]:
                ticks = price / contract.min_tick
                assert abs(ticks - round(ticks)) < 1e-6


def test_a_year_moves_about_as_much_as_the_volatility_says() -> None:
    source = market()
    closes = [source.middle(APPLE, FRIDAY - 86_400 * 365 / 252 * back) for back in range(1000)]
    moves = [math.log(one / two) for one, two in itertools.pairwise(closes)]
    yearly = math.sqrt(sum(move * move for move in moves) / len(moves) * 252)
    assert 0.12 < yearly < 0.4


def test_prices_stand_still_while_the_market_is_closed() -> None:
    source = market()
    saturday, sunday = FRIDAY + 86_400, FRIDAY + 2 * 86_400
    assert source.phase(APPLE, saturday) is Phase.CLOSED
    assert source.quote(APPLE, saturday) == source.quote(APPLE, sunday)
    assert source.phase(APPLE, FRIDAY) is Phase.REGULAR
    assert source.phase(APPLE, FRIDAY + 6 * 3600) is Phase.EXTENDED
    assert market(hours="always").phase(APPLE, saturday) is Phase.REGULAR


# options


def test_calls_and_puts_keep_their_parity() -> None:
    for spot in (80.0, 100.0, 130.0):
        call, put = (options.price(spot, 100, 0.5, 0.3, right) for right in "CP")
        assert call - put == pytest.approx(spot - 100 * math.exp(-options.RATE * 0.5))


def test_greeks_are_the_slopes_of_the_price() -> None:
    step = 1e-3
    greeks = options.greeks(100, 105, 0.4, 0.25, "C")
    up, down = (options.greeks(100 + each, 105, 0.4, 0.25, "C") for each in (step, -step))
    assert greeks.delta == pytest.approx((up.price - down.price) / (2 * step), abs=1e-5)
    assert greeks.gamma == pytest.approx((up.delta - down.delta) / (2 * step), abs=1e-5)
    more = options.price(100, 105, 0.4, 0.25 + step, "C")
    assert greeks.vega == pytest.approx((more - greeks.price) / step / 100, abs=1e-4)
    later = options.price(100, 105, 0.4 - step, 0.25, "C")
    assert greeks.theta == pytest.approx((later - greeks.price) / step / 365, abs=1e-4)


def test_implied_volatility_undoes_the_price() -> None:
    for right in "CP":
        for strike in (70, 100, 140):
            value = options.price(100, strike, 0.3, 0.42, right)
            back = options.implied_volatility(value, 100, strike, 0.3, right)
            assert back == pytest.approx(0.42, abs=1e-3)
    assert options.implied_volatility(500, 100, 100, 0.3, "C") is None


def test_an_option_is_priced_off_its_underlying() -> None:
    source = market()
    option = found(
        symbol="AAPL", sec_type="OPT", expiry="20261218", strike=200.0, right="C", currency="USD"
    )
    quote, greeks = source.quote(option, FRIDAY), source.greeks(option, FRIDAY)
    spot = source.quote(APPLE, FRIDAY)
    assert source.spot(option, FRIDAY) == pytest.approx(spot.middle, abs=0.02)
    assert quote.bid <= greeks.price <= quote.ask


# history


def history(
    size: str, duration: str, kind: str = "TRADES", *, liquid: bool = True
) -> list[bars.Bar]:
    source = market()
    seconds = bars.bar_size(size)
    length = bars.parse_duration(duration)
    assert seconds is not None
    assert length is not None
    end = datetime(2026, 11, 20, 16, 0, tzinfo=EASTERN).timestamp()
    start = bars.start_of(source, APPLE, end, *length, liquid=liquid)
    return list(bars.bars(source, APPLE, kind, seconds[1], Span(start, end), liquid=liquid))


@pytest.mark.parametrize(
    ("size", "duration", "count"),
    [
        ("1 secs", "600 S", 600),
        ("30 secs", "1 D", 780),
        ("1 min", "1 D", 390),
        ("5 mins", "2 D", 156),
        ("1 hour", "1 D", 7),
        ("1 day", "10 D", 10),
        ("1 day", "2 W", 10),
        ("1W", "1 M", 5),
        ("1M", "1 Y", 13),
    ],
)
def test_how_many_bars_a_stretch_has(size: str, duration: str, count: int) -> None:
    assert len(history(size, duration)) == count


def test_bars_join_up_and_hold_their_prices() -> None:
    found_bars = history("5 mins", "1 D")
    for bar in found_bars:
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
    for one, two in itertools.pairwise(found_bars):
        assert one.end == two.start
        assert abs(one.close - two.open) <= 0.05


def test_volumes_of_fine_and_coarse_bars_agree() -> None:
    fine, coarse = (sum(bar.volume for bar in history(size, "1 D")) for size in ("1 min", "1 hour"))
    assert fine == pytest.approx(coarse, rel=1e-3)


def test_history_agrees_with_the_live_day() -> None:
    source = market()
    close = datetime(2026, 11, 20, 16, 0, tzinfo=EASTERN).timestamp()
    [bar] = history("1 day", "1 D")
    day = source.day(APPLE, close - 0.25)
    assert (bar.open, bar.high, bar.low) == (day.open, day.high, day.low)
    monday = source.day(APPLE, close + 3 * 86_400 - 3600)
    assert monday.close == bar.close


def test_extended_hours_come_only_when_asked_for() -> None:
    assert len(history("30 mins", "1 D", liquid=True)) == 13
    assert len(history("30 mins", "1 D", liquid=False)) == 24


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("20261120 15:59:00 US/Eastern", "20:59:00"),
        ("20261120  15:59:00", "20:59:00"),
        ("20261120 15:59:00 EST", "20:59:00"),
        ("20261120-20:59:00", "20:59:00"),
        ("20261120 14:59:00 US/Central", "20:59:00"),
        ("20261120 15:59", "20:59:00"),
    ],
)
def test_every_form_of_an_end_is_understood(text: str, utc: str) -> None:
    moment = bars.parse_end(text, 0.0)
    assert moment is not None
    assert f"{datetime.utcfromtimestamp(moment):%H:%M:%S}" == utc  # noqa: DTZ004


@pytest.mark.parametrize("text", ["2026-11-20", "20261340 10:00:00", "20261120 10:00:00 Mars/Base"])
def test_a_wrong_end_is_refused(text: str) -> None:
    assert bars.parse_end(text, 0.0) is None


def test_every_instrument_has_a_number_of_its_own() -> None:
    with (Path(bars.__file__).parents[1] / "contracts" / "instruments.csv").open() as source:
        numbers = [line.partition(",")[0] for line in source][1:]
    assert len(set(numbers)) == len(numbers)
    assert len(CATALOG.instruments) == len(numbers) + len(BONDS)
