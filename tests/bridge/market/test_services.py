from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec import json, structs

from bridge.broker_time import exchange_day
from bridge.callers import ORDER_CHECKS
from bridge.market.contracts import MOST_KEPT, ContractService
from bridge.market.errors import (
    AmbiguousContractError,
    InvalidFieldError,
    LinesExhaustedError,
    NoQuoteError,
    StaleExpirationError,
)
from bridge.market.history import EMPTY_SECONDS, Answer, Answers, HistoryQuery, HistoryService
from bridge.market.options import OptionService, SliceQuery
from bridge.market.quotes import QuoteService
from bridge.model import (
    Bar,
    Contract,
    ContractDetails,
    HistoryRequest,
    OptionParameters,
    OptionTick,
    PriceTick,
    SizeTick,
)
from bridge.single_flight import SingleFlight
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import (
    NoHistoryError,
    NoMarketDataError,
    NotConnectedError,
    PacingLimitedError,
    UnknownContractError,
)
from bridge.tws.pacing import Lane
from tests.bridge.market.clock import START, WoundClock
from tests.bridge.market.fake_gateway import FakeGateway, FakeLine, stock

AAPL = Contract(symbol="AAPL")
FOREX = Contract(symbol="EUR", sec_type="CASH")


class Market:
    """Services over a fake gateway."""

    def __init__(self, capacity: int = 100) -> None:
        self.gateway = FakeGateway(
            details={"AAPL": (stock("AAPL", 1),), "MSFT": (stock("MSFT", 2),)}
        )
        self.clock = WoundClock()
        gateway = self.gateway
        self.contracts = ContractService(gateway, self.clock)  # type: ignore[arg-type]
        self.quotes = QuoteService(gateway, self.contracts, self.clock, capacity)  # type: ignore[arg-type]
        self.options = OptionService(gateway, self.contracts, self.quotes, self.clock)  # type: ignore[arg-type]
        self.history = HistoryService(gateway, self.contracts, self.clock)  # type: ignore[arg-type]


def quoting(line: FakeLine) -> None:
    line.tick(PriceTick("bid", 10, 1), PriceTick("ask", 11, 1), PriceTick("last", 10.5, 1))
    if line.contract.sec_type == "OPT":
        line.tick(
            OptionTick("modelOption", 0.25, 0.5, 0.01, 0.2, -0.05, 7.5, 0.0, 201.0),
            SizeTick("callOpenInterest", 70),
            SizeTick("putOpenInterest", 30),
        )


# contracts ----------------------------------------------------------------------------------------


async def test_many_who_ask_the_same_are_one_request() -> None:
    market = Market()
    found = await asyncio.gather(*(market.contracts.resolve(AAPL) for _ in range(20)))
    assert {item.contract.con_id for item in found} == {1}
    await market.contracts.resolve(AAPL)
    assert len(market.gateway.asked) == 1


async def test_a_caller_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    market = Market()
    first = asyncio.create_task(market.contracts.resolve(AAPL))
    second = asyncio.create_task(market.contracts.resolve(AAPL))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).contract.con_id == 1
    assert len(market.gateway.asked) == 1


async def test_an_order_does_not_wait_for_what_a_reader_has_asked() -> None:
    market = Market()
    reading = asyncio.create_task(market.contracts.resolve(AAPL))
    while not market.gateway.asked:
        await asyncio.sleep(0)
    market.gateway.asked.clear()
    await market.contracts.resolve(AAPL, Lane.ORDER)
    assert market.gateway.asked == [AAPL], "asked for in its own lane"
    await reading
    await market.contracts.resolve(AAPL, Lane.ORDER)
    assert market.gateway.asked == [AAPL], "kept by then"


async def test_failures_are_not_remembered() -> None:
    market = Market()
    for _ in range(2):
        with pytest.raises(UnknownContractError):
            await market.contracts.resolve(Contract(symbol="NOPE"))
    assert len(market.gateway.asked) == 2


async def test_several_that_fit_are_listed_not_guessed() -> None:
    market = Market()
    market.gateway.details["AAPL"] = (stock("AAPL", 1), stock("AAPL", 9))
    with pytest.raises(AmbiguousContractError) as caught:
        await market.contracts.resolve(AAPL)
    assert [item["conId"] for item in caught.value.extra["candidates"]] == [1, 9]


async def test_answers_are_kept_by_how_much_they_hold() -> None:
    clock = WoundClock()
    flight: SingleFlight[str, str] = SingleFlight(clock, seconds=10, size=5, weigh=len)

    async def ask(key: str) -> str:
        return key

    for key in ("aa", "bb", "ccc", "too large", "bb"):
        assert await flight.get(key, lambda key=key: ask(key)) == key  # type: ignore[misc]
    assert [flight.kept(key) for key in ("aa", "bb", "ccc", "too large")] == [
        None,
        "bb",
        "ccc",
        None,
    ]
    clock.advance(10)
    assert flight.kept("bb") is None
    await flight.get("ddddd", lambda: ask("ddddd"))
    assert [flight.kept(key) for key in ("ccc", "ddddd")] == [None, "ddddd"]


async def test_a_whole_chain_of_contracts_is_not_kept_for_hours() -> None:
    market = Market()
    for count, asked in ((MOST_KEPT, 1), (MOST_KEPT + 1, 2)):
        market.gateway.details["AAPL"] = (stock("AAPL", 1),) * count
        market.gateway.asked.clear()
        named = Contract(symbol="AAPL", exchange=f"X{count}")
        for _ in range(2):
            assert len(await market.contracts.details(named)) == count
        assert len(market.gateway.asked) == asked


# quotes -------------------------------------------------------------------------------------------


async def test_readers_share_a_line_that_stays_warm() -> None:
    market = Market()
    market.gateway.on_open = quoting
    contract = (await market.contracts.resolve(AAPL)).contract
    quotes = await asyncio.gather(*(market.quotes.quote(contract) for _ in range(5)))
    assert {quote.bid.value for quote in quotes if quote.bid} == {10}
    await market.quotes.quote(contract)
    assert len(market.gateway.lines) == 1
    market.clock.advance(61)
    market.quotes.maintain()
    assert market.gateway.open_lines == []


async def test_another_exchanges_quote_is_not_that_of_the_routed_contract() -> None:
    market = Market()
    at_iex = Contract(symbol="AAPL", con_id=1, exchange="IEX")

    def quoting_there(line: FakeLine) -> None:
        price = 3 if line.contract.exchange == "IEX" else 10
        line.tick(PriceTick("bid", price, 1), PriceTick("ask", 90, 1), PriceTick("last", 10, 1))

    market.gateway.on_open = quoting_there
    market.quotes.take(at_iex)  # somebody looks at it all the time
    quote = await market.quotes.quote(Contract(symbol="AAPL", con_id=1))
    assert quote.bid is not None
    assert (quote.exchange, quote.bid.value) == ("SMART", 10)
    assert market.quotes.pool.open == 2
    there, routed = market.quotes.line(1), market.quotes.line(-1)
    assert there is not None
    assert routed is not None
    assert (there.contract.exchange, routed.contract.exchange) == ("IEX", "SMART")
    assert market.quotes.line_of(1) is there
    there.error = NoMarketDataError("gone")
    market.quotes.give(there)
    assert market.quotes.line(1) is None
    assert market.quotes.line_of(1) is routed
    assert market.quotes.line_of(2) is None


async def test_every_line_held_is_a_refusal_that_says_when_to_come_again() -> None:
    market = Market(capacity=1)
    market.gateway.on_open = quoting
    market.quotes.take(Contract(symbol="MSFT", con_id=2))
    with pytest.raises(LinesExhaustedError) as caught:
        await market.quotes.quote(Contract(symbol="AAPL", con_id=1))
    assert caught.value.retry_after


async def test_the_least_recently_used_line_is_given_back_to_the_broker() -> None:
    market = Market(capacity=1)
    market.gateway.on_open = quoting
    for con_id in (1, 2, 1):
        quote = await market.quotes.quote(Contract(symbol="X", con_id=con_id))
        assert quote.con_id == con_id
    assert len(market.gateway.lines) == 3
    assert len(market.gateway.open_lines) == 1


async def test_a_refusal_is_told_and_not_asked_for_again_at_once() -> None:
    market = Market()
    market.gateway.on_open = lambda line: line.fail(354)
    contract = Contract(symbol="AAPL", con_id=1)
    for _ in range(5):
        with pytest.raises(NoMarketDataError):
            await market.quotes.quote(contract)
    assert len(market.gateway.lines) == 2
    market.clock.advance(11)
    market.quotes.maintain()
    market.gateway.on_open = quoting
    assert (await market.quotes.quote(contract)).bid is not None


async def test_nothing_is_shown_of_before_the_connection_was_lost() -> None:
    market = Market()
    market.gateway.on_open = quoting
    contract = Contract(symbol="AAPL", con_id=1)
    await market.quotes.quote(contract)
    market.gateway.become(ConnectionState.RECONNECTING)
    with pytest.raises(NotConnectedError):
        await market.quotes.quote(contract)


async def test_silence_has_an_end() -> None:
    market = Market()
    with pytest.raises(NoQuoteError):
        await market.quotes.quote(Contract(symbol="AAPL", con_id=1), timeout=0.01)
    assert market.quotes.pool.held == 0


async def test_one_of_several_that_fails_leaves_the_others_alone() -> None:
    market = Market()
    market.gateway.on_open = quoting
    answer = await market.quotes.quotes([AAPL, Contract(symbol="NOPE"), Contract(symbol="MSFT")])
    assert [quote.symbol for quote in answer.quotes] == ["AAPL", "MSFT"]
    assert [(item.symbol, item.code) for item in answer.failed] == [("NOPE", "unknown-contract")]


async def test_a_delayed_quote_says_why() -> None:
    market = Market()

    def refuse_live(line: FakeLine) -> None:
        if line.kind.name == "LIVE":
            line.fail(10197)
        else:
            line.listener.market_data_type(line.kind)
            quoting(line)

    market.gateway.on_open = refuse_live
    quote = await market.quotes.quote(Contract(symbol="AAPL", con_id=1))
    assert quote.market_data == "delayed"
    assert quote.notice is not None
    assert quote.notice.broker_code == 10197
    assert quote.bid is not None
    assert quote.bid.tag == "delayed"


async def test_lines_are_asked_for_anew_when_the_session_is_there_again() -> None:
    market = Market()
    market.gateway.on_open = quoting
    contract = Contract(symbol="AAPL", con_id=1)
    await market.quotes.quote(contract)
    market.gateway.become(ConnectionState.UPSTREAM_LOST)
    market.gateway.lines[0].listener.interrupted()
    for _ in range(3):
        market.clock.advance(10)
        market.quotes.maintain()
    assert len(market.gateway.lines) == 1
    market.gateway.become(ConnectionState.READY)
    market.gateway.lines[0].listener.restored()
    with pytest.raises(NoQuoteError):
        await market.quotes.quote(contract, timeout=0.01)  # nothing has changed: nothing ticks
    for _ in range(2):
        market.quotes.maintain()
        market.clock.advance(5)
    assert len(market.gateway.lines) == 2
    assert (await market.quotes.quote(contract)).bid is not None


async def test_an_order_asks_at_once_for_prices_that_did_not_come_back() -> None:
    market = Market()
    market.gateway.on_open = quoting
    contract = Contract(symbol="AAPL", con_id=1)
    await market.quotes.quote(contract)
    first = market.gateway.lines[0]
    first.listener.interrupted()
    first.listener.restored()  # 1102: the line is kept, and nothing has changed, so nothing ticks
    with pytest.raises(NoQuoteError):
        await market.quotes.quote(contract, timeout=0.01)
    quote = await market.quotes.quote(contract, holder=ORDER_CHECKS)
    assert quote.bid is not None
    assert quote.bid.tag == "live"
    second = market.gateway.lines[1]
    assert (first.active, second.active, second.lane) == (False, True, Lane.ORDER)
    assert first.made_way, "before the second: the account may have no line more"
    market.gateway.on_open = None
    second.listener.interrupted()
    for _ in range(2):
        with pytest.raises(NoQuoteError):
            await market.quotes.quote(contract, holder=ORDER_CHECKS, timeout=0.01)
    assert len(market.gateway.lines) == 3, "it is asked for once"
    held = market.quotes.take(contract).slot.view(0)
    assert held["bid"].tag == "stale"


async def test_an_order_asks_for_nothing_anew_that_ticks_or_that_has_no_session() -> None:
    market = Market()
    market.gateway.on_open = quoting
    contract = Contract(symbol="AAPL", con_id=1)
    await market.quotes.quote(contract)
    line = market.gateway.lines[0]
    line.listener.interrupted()
    market.gateway.state = ConnectionState.SESSION_CONFLICT
    with pytest.raises(NoQuoteError):
        await market.quotes.quote(contract, holder=ORDER_CHECKS, timeout=0.01)
    market.gateway.state = ConnectionState.READY
    quoting(line)
    await market.quotes.quote(contract, holder=ORDER_CHECKS)
    assert market.gateway.lines == [line]


async def test_a_broken_farm_makes_stale_what_falls_silent_and_nothing_else() -> None:
    market = Market()
    market.gateway.on_open = quoting
    for number in (1, 2):
        market.quotes.take(Contract(symbol="AAPL", con_id=number))
    await asyncio.sleep(0)
    market.gateway.on_open = None
    quiet, lively = (line for number in (1, 2) if (line := market.quotes.line(number)))
    farm, gateway = market.gateway.events.farm, market.gateway

    def after(seconds: float) -> tuple[bool, bool]:
        market.clock.advance(seconds)
        market.quotes.maintain()
        return quiet.slot.fresh("bid"), lively.slot.fresh("bid")

    after(1)
    farm.emit("usfarm", False)
    farm.emit("usfarm", True)
    assert after(20) == (True, True), "it was broken for a moment"
    farm.emit("usfarm", False)
    assert after(9) == (True, True)
    gateway.lines[1].tick(PriceTick("bid", 10, 1))
    assert after(1) == (False, True)
    assert len(gateway.lines) == 2
    after(5)
    assert [line.contract.con_id for line in gateway.lines] == [1, 2, 1], "asked for anew"
    after(60)
    assert len(gateway.lines) == 3
    farm.emit("usfarm", True)
    after(1)
    after(5)
    assert [line.contract.con_id for line in gateway.lines] == [1, 2, 1, 1]
    quoting(gateway.lines[3])
    farm.emit("eufarm", False)
    gateway.lines[1].tick(PriceTick("bid", 10, 1))
    gateway.become(ConnectionState.RECONNECTING)
    gateway.events.lost.emit("gone")
    assert after(60) == (True, True), "the next connection tells of its farms itself"


async def test_a_line_on_which_live_is_tried_again_makes_room_for_another_instrument() -> None:
    market = Market(capacity=10)

    def contract(number: int) -> Contract:
        return Contract(symbol=f"S{number}", con_id=number)

    for number in range(1, 6):
        market.quotes.take(contract(number))
    market.gateway.lines[0].fail(10197)
    market.clock.advance(30)
    market.quotes.maintain()
    assert len(market.gateway.open_lines) == 6, "the delayed one, and beside it the trial"
    for number in range(6, 10):
        market.quotes.take(contract(number))
    assert len(market.gateway.open_lines) == 10
    market.quotes.take(contract(10), ORDER_CHECKS)
    assert len(market.gateway.open_lines) == 10, "the broker would refuse an eleventh"
    line = market.quotes.line(1)
    assert line is not None
    assert not line.probing


async def test_the_lines_are_looked_after_again_after_a_look_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    market = Market()
    market.gateway.on_open = quoting
    await market.quotes.quote(Contract(symbol="AAPL", con_id=1))
    expired, failures = market.quotes.pool.expired, [RuntimeError("once")]

    def failing() -> list[tuple[int, str]]:
        if failures:
            raise failures.pop()
        return expired()

    monkeypatch.setattr(market.quotes.pool, "expired", failing)
    await market.quotes.start()
    await asyncio.sleep(0)
    await market.clock.wind(61)
    assert failures == []
    await market.clock.wind(1)
    assert market.gateway.open_lines == []
    await market.quotes.stop()


# options ------------------------------------------------------------------------------------------


def option(strike: float, right: str, con_id: int) -> ContractDetails:
    contract = Contract(
        symbol="AAPL",
        sec_type="OPT",
        con_id=con_id,
        strike=strike,
        right=right,  # type: ignore[arg-type]
        expiration="20260320",
        trading_class="AAPL",
        multiplier="100",
    )
    return ContractDetails(contract=contract, time_zone="US/Eastern")


def option_rig(capacity: int = 100) -> Market:
    market = Market(capacity)
    market.gateway.parameters = (
        OptionParameters(
            exchange="SMART",
            underlying_con_id=1,
            trading_class="AAPL",
            multiplier="100",
            expirations=("20260227", "20260303", "20260320"),
            strikes=(5.0, 10.0, 15.0, 20.0),
        ),
    )
    market.gateway.options = tuple(
        option(strike, right, int(strike) * 10 + index)
        for strike in (5.0, 10.0, 15.0)
        for index, right in enumerate("CP")
    )
    market.gateway.on_open = quoting
    return market


async def test_a_chain_never_shows_what_has_expired_however_long_it_is_kept() -> None:
    market = option_rig()
    chain = await market.options.chain(AAPL)
    assert [(item.expiration, item.dte) for item in chain.expirations] == [
        ("20260303", 0),
        ("20260320", 17),
    ]
    assert chain.exchange_day == "20260303"
    market.clock.advance(timedelta(hours=14).total_seconds())  # 05:00 UTC: the exchange's next day
    market.options._rows._kept[1] = (market.clock.monotonic(), market.gateway.parameters)
    chain = await market.options.chain(AAPL)
    assert [(item.expiration, item.dte) for item in chain.expirations] == [("20260320", 16)]
    assert market.gateway.asked.count(("chain", 1)) == 1


async def test_no_chain_from_memory_without_a_connection() -> None:
    market = option_rig()
    await market.options.chain(AAPL)
    market.gateway.become(ConnectionState.RECONNECTING)
    with pytest.raises(NotConnectedError):
        await market.options.chain(AAPL)


async def test_a_slice_has_greeks_interest_and_days_to_go() -> None:
    market = option_rig()
    answer = await market.options.slice(
        SliceQuery(underlying=AAPL, expiration="20260320", right="C", count=2)
    )
    assert [(item.strike, item.right) for item in answer.options] == [(10.0, "C"), (15.0, "C")]
    assert answer.complete
    assert answer.dte == 17
    quote = answer.options[0]
    assert quote.dte == 17
    assert quote.delta is not None
    assert quote.delta.value == 0.5
    assert quote.open_interest is not None
    assert quote.open_interest.value == 70
    assert market.gateway.lines[-1].generic_ticks == (100, 101, 104, 106)


async def test_a_slice_larger_than_the_free_lines_is_read_in_turns() -> None:
    market = option_rig(capacity=2)
    answer = await market.options.slice(SliceQuery(underlying=AAPL, expiration="20260320"))
    assert len(answer.options) == 6
    assert answer.failed == ()
    assert len(market.gateway.open_lines) <= 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"expiration": "20260321"}, "expiration"),
        ({"expiration": "tomorrow"}, "expiration"),
        ({"expiration": "20260320", "strikes": (7.0,)}, "strikes"),
        ({"expiration": "20260320", "strike_min": 100.0}, "strikes"),
    ],
)
async def test_a_slice_of_what_is_not_there(query: dict[str, object], field: str) -> None:
    market = option_rig()
    with pytest.raises(InvalidFieldError) as caught:
        await market.options.slice(SliceQuery(underlying=AAPL, **query))  # type: ignore[arg-type]
    assert caught.value.field == field


async def test_a_slice_of_an_expiration_that_is_gone() -> None:
    market = option_rig()
    with pytest.raises(StaleExpirationError):
        await market.options.slice(SliceQuery(underlying=AAPL, expiration="20260302"))


async def test_an_option_without_greeks_makes_the_slice_incomplete() -> None:
    market = option_rig()
    market.gateway.on_open = lambda line: line.tick(
        PriceTick("bid", 1, 1), PriceTick("ask", 2, 1), PriceTick("last", 1, 1)
    )
    market.gateway.options = (option(10.0, "C", 100),)
    answer = await market.options.slice(SliceQuery(underlying=AAPL, expiration="20260320"))
    assert not answer.complete
    assert answer.options[0].delta is None


# history ------------------------------------------------------------------------------------------


def hourly(request: HistoryRequest) -> tuple[Bar, ...]:
    end = request.end or START
    return tuple(
        Bar(time=end - timedelta(hours=24 - hour), open=1, high=1, low=1, close=1)
        for hour in range(24)
    )


async def test_the_same_request_within_15_seconds_is_answered_from_the_first() -> None:
    market = Market()
    market.gateway.bars = hourly
    query = HistoryQuery(contract=AAPL, duration="1 D", bar_size="1h")
    await asyncio.gather(market.history.bars(query), market.history.bars(query))
    market.clock.advance(14)
    await market.history.bars(query)
    requests = [item for item in market.gateway.asked if isinstance(item, HistoryRequest)]
    assert len(requests) == 1
    market.clock.advance(2)
    await market.history.bars(query)
    requests = [item for item in market.gateway.asked if isinstance(item, HistoryRequest)]
    assert len(requests) == 2


async def test_settled_pages_come_from_the_cache() -> None:
    market = Market()
    market.gateway.bars = hourly
    query = HistoryQuery(contract=AAPL, duration="3 D", bar_size="1 min")
    first = await market.history.bars(query)
    assert (first.requests, first.cached_pages) == (3, 0)
    market.clock.advance(20)
    again = await market.history.bars(query)
    assert (again.requests, again.cached_pages) == (1, 2)
    assert again.bars == first.bars


async def test_the_settled_past_is_told_without_a_connection_and_the_present_is_not() -> None:
    market = Market()
    market.gateway.bars = hourly
    end = datetime(2026, 3, 1, tzinfo=UTC)
    past = HistoryQuery(contract=AAPL, bar_size="1h", end=end)
    first = await market.history.bars(past)
    now = HistoryQuery(contract=AAPL, bar_size="1h")
    await market.history.bars(now)
    market.gateway.become(ConnectionState.RECONNECTING)
    again = await market.history.bars(past)
    assert again.bars == first.bars
    assert (again.requests, again.cached_pages) == (0, 1)
    with pytest.raises(NotConnectedError):
        await market.history.bars(now)


async def test_a_stretch_without_data_is_empty_and_any_other_refusal_is_told() -> None:
    market = Market()

    def refuse(text: str) -> None:
        def bars(_: HistoryRequest) -> tuple[Bar, ...]:
            raise NoHistoryError("refused", broker_code=162, broker_text=text)

        market.gateway.bars = bars

    query = HistoryQuery(contract=AAPL)
    refuse("Historical Market Data Service error message:HMDS query returned no data: AAPL")
    assert (await market.history.bars(query)).bars == ()
    refuse("Historical Market Data Service error message:No market data permissions")
    market.clock.advance(20)
    with pytest.raises(NoHistoryError):
        await market.history.bars(query)


async def test_a_stretch_without_bars_is_believed_for_a_while() -> None:
    """A farm that was down for a moment hides no day; to page through years asks nothing again."""
    market = Market()
    market.gateway.bars = lambda _: ()
    past = HistoryQuery(contract=AAPL, bar_size="1h", end=START - timedelta(days=3))
    assert json.decode(await market.history.encoded(past))["bars"] == []
    asked = len(market.gateway.asked)
    market.gateway.bars = hourly
    for _ in range(2):
        market.clock.advance(EMPTY_SECONDS / 3)
        assert json.decode(await market.history.encoded(past))["bars"] == []
    assert len(market.gateway.asked) == asked
    market.clock.advance(EMPTY_SECONDS / 3 + 1)
    assert json.decode(await market.history.encoded(past))["bars"]
    asked = len(market.gateway.asked)
    market.clock.advance(2 * EMPTY_SECONDS)
    assert json.decode(await market.history.encoded(past))["bars"]
    assert len(market.gateway.asked) == asked


async def test_pacing_is_passed_on_and_what_came_is_kept() -> None:
    market = Market()
    limit = 2

    def bars(request: HistoryRequest) -> tuple[Bar, ...]:
        asked = sum(isinstance(item, HistoryRequest) for item in market.gateway.asked)
        if asked > limit:
            raise PacingLimitedError("too many", retry_after=60)
        return hourly(request)

    market.gateway.bars = bars
    query = HistoryQuery(contract=AAPL, duration="3 D", bar_size="1 min")
    with pytest.raises(PacingLimitedError):
        await market.history.bars(query)
    limit = 100
    answer = await market.history.bars(query)
    assert (answer.requests, answer.cached_pages) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"duration": "tomorrow"}, "duration"),
        ({"bar_size": "7 mins"}, "barSize"),
        ({"what_to_show": "RUMOURS"}, "whatToShow"),
        (
            {"contract": Contract(symbol="EUR", sec_type="CASH"), "what_to_show": "TRADES"},
            "whatToShow",
        ),
        ({"duration": "1 Y", "bar_size": "1 min"}, "duration"),
        ({"duration": "600 S", "bar_size": "1 day"}, "duration"),
        ({"what_to_show": "ADJUSTED_LAST", "end": START - timedelta(days=1)}, "end"),
        ({"end": START + timedelta(days=1)}, "end"),
    ],
)
async def test_senseless_requests_name_their_field(changes: dict[str, object], field: str) -> None:
    market = Market()
    with pytest.raises(InvalidFieldError) as caught:
        await market.history.bars(HistoryQuery(**{"contract": AAPL, **changes}))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert market.gateway.asked == []


async def test_an_answer_of_the_past_is_encoded_once_and_holds_for_the_exchanges_day() -> None:
    market = Market()
    market.gateway.bars = hourly
    past = HistoryQuery(contract=AAPL, end=market.clock.now() - timedelta(days=3))
    await market.history.encoded(past)
    sent = await market.history.encoded(past)
    answer = json.decode(sent)
    assert (answer["requests"], answer["cachedPages"]) == (0, 1)
    assert json.decode(json.encode(await market.history.bars(past))) == answer
    hits = market.history.cache.hits
    market.gateway.become(ConnectionState.RECONNECTING)
    assert bytes(await market.history.encoded(past)) == bytes(sent), "no session is needed for it"
    assert market.history.cache.hits == hits + 1
    market.gateway.become(ConnectionState.READY)
    before = len(market.gateway.asked)
    market.clock.advance(24 * 3600)
    await market.history.encoded(past)
    assert len(market.gateway.asked) > before, "splits rewrite the past overnight"


async def test_the_newest_bars_are_shared_for_a_second_and_need_a_session() -> None:
    market = Market()
    market.gateway.bars = hourly
    now = HistoryQuery(contract=AAPL)
    first = await market.history.encoded(now)
    market.clock.advance(0.9)
    assert bytes(await market.history.encoded(now)) == bytes(first)
    market.gateway.become(ConnectionState.RECONNECTING)
    with pytest.raises(NotConnectedError):
        await market.history.encoded(now)
    market.gateway.become(ConnectionState.READY)
    market.clock.advance(16)
    assert bytes(await market.history.encoded(now)) != bytes(first)


def test_kept_answers_have_a_bound() -> None:
    answers, zone = Answers(most_bytes=250), ZoneInfo("America/New_York")
    start = datetime(2026, 3, 3, 12, tzinfo=UTC)

    def query(number: int) -> HistoryQuery:
        return HistoryQuery(contract=Contract(con_id=number), end=start)

    def put(number: int, size: int) -> None:
        day = exchange_day(zone, start)
        answers.put(query(number), Answer(b"x" * size, True, 1, day, zone, float("inf")))

    for number in range(3):
        put(number, 100)
        answers.get(query(0), start, 0.0)
    put(9, 251)
    kept = [number for number in (0, 1, 2, 9) if answers.get(query(number), start, 0.0)]
    assert kept == [0, 2]


async def test_an_options_history_is_its_midpoint_unless_said_otherwise() -> None:
    market = option_rig()
    market.gateway.options = (option(10.0, "C", 100),)
    market.gateway.bars = hourly
    contract = Contract(symbol="AAPL", sec_type="OPT", strike=10, right="C", expiration="20260320")
    answer = await market.history.bars(HistoryQuery(contract=contract))
    assert answer.what_to_show == "MIDPOINT"
    assert answer.con_id == 100


async def test_another_exchanges_bars_are_not_those_of_the_routed_contract() -> None:
    market = Market()
    market.gateway.bars = lambda request: tuple(
        structs.replace(bar, close=3 if request.contract.exchange == "IEX" else 10)
        for bar in hourly(request)
    )
    end = datetime(2026, 3, 1, tzinfo=UTC)
    at_iex = Contract(symbol="AAPL", exchange="IEX")
    routed = market.gateway.details["AAPL"]
    market.gateway.details["AAPL"] = (ContractDetails(contract=structs.replace(at_iex, con_id=1)),)
    first = await market.history.bars(HistoryQuery(contract=at_iex, bar_size="1h", end=end))
    market.gateway.details["AAPL"] = routed
    second = await market.history.bars(HistoryQuery(contract=AAPL, bar_size="1h", end=end))
    assert (first.con_id, second.con_id) == (1, 1)
    assert (first.bars[0].close, second.bars[0].close) == (3, 10)


@pytest.mark.parametrize(
    ("sec_type", "usual", "also"),
    [
        ("CASH", "MIDPOINT", "BID"),
        ("OPT", "MIDPOINT", "TRADES"),
        ("STK", "TRADES", "ADJUSTED_LAST"),
    ],
)
async def test_what_is_named_by_its_number_has_the_history_of_its_kind(
    sec_type: str, usual: str, also: str
) -> None:
    market = Market()
    market.gateway.bars = hourly
    contract = Contract(symbol="X", con_id=9, sec_type=sec_type)
    market.gateway.details[""] = (ContractDetails(contract=contract),)
    named = Contract(con_id=9, sec_type="", exchange="", currency="")
    answer = await market.history.bars(HistoryQuery(contract=named))
    assert answer.what_to_show == usual
    market.clock.advance(20)
    query = HistoryQuery(contract=named, what_to_show=also, bar_size="1 day")
    assert (await market.history.bars(query)).what_to_show == also
    with pytest.raises(InvalidFieldError, match=f"not known for {sec_type}"):
        await market.history.bars(HistoryQuery(contract=named, what_to_show="NOISE"))


async def test_the_nearest_expiration_is_so_by_the_calendar() -> None:
    market = option_rig()
    (row,) = market.gateway.parameters
    days = ("20261128", "20261218")
    market.gateway.parameters = (structs.replace(row, expirations=days),)
    with pytest.raises(InvalidFieldError, match="the nearest is 20261128"):
        await market.options.slice(SliceQuery(underlying=AAPL, expiration="20261201"))


async def test_named_strikes_need_no_quote_of_the_underlying() -> None:
    market = option_rig()

    def refuse_stocks(line: FakeLine) -> None:
        if line.contract.sec_type == "STK":
            line.fail(354)
        else:
            quoting(line)

    market.gateway.on_open = refuse_stocks
    query = SliceQuery(underlying=AAPL, expiration="20260320", strikes=(10.0,))
    answer = await market.options.slice(query)
    assert [item.strike for item in answer.options] == [10.0, 10.0]
    assert answer.complete
    assert answer.underlying.bid is None
    assert answer.underlying.notice is not None
    assert answer.underlying.notice.broker_code == 354
    market.clock.advance(11)
    with pytest.raises(NoMarketDataError):  # which are the nearest nobody could say
        await market.options.slice(structs.replace(query, strikes=()))
