from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec import json

from bridge.broker_time import exchange_day
from bridge.market.contracts import ContractService
from bridge.market.errors import (
    AmbiguousContractError,
    InvalidFieldError,
    LinesExhaustedError,
    NoQuoteError,
    StaleExpirationError,
)
from bridge.market.history import Answer, Answers, HistoryQuery, HistoryService
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


class Room:
    """Desks over a fake gateway."""

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
    room = Room()
    found = await asyncio.gather(*(room.contracts.resolve(AAPL) for _ in range(20)))
    assert {item.contract.con_id for item in found} == {1}
    await room.contracts.resolve(AAPL)
    assert len(room.gateway.asked) == 1


async def test_a_caller_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    room = Room()
    first = asyncio.create_task(room.contracts.resolve(AAPL))
    second = asyncio.create_task(room.contracts.resolve(AAPL))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).contract.con_id == 1
    assert len(room.gateway.asked) == 1


async def test_an_order_does_not_wait_for_what_a_reader_has_asked() -> None:
    room = Room()
    reading = asyncio.create_task(room.contracts.resolve(AAPL))
    while not room.gateway.asked:
        await asyncio.sleep(0)
    room.gateway.asked.clear()
    await room.contracts.resolve(AAPL, Lane.ORDER)
    assert room.gateway.asked == [AAPL], "asked for in its own lane"
    await reading
    await room.contracts.resolve(AAPL, Lane.ORDER)
    assert room.gateway.asked == [AAPL], "kept by then"


async def test_failures_are_not_remembered() -> None:
    room = Room()
    for _ in range(2):
        with pytest.raises(UnknownContractError):
            await room.contracts.resolve(Contract(symbol="NOPE"))
    assert len(room.gateway.asked) == 2


async def test_several_that_fit_are_listed_not_guessed() -> None:
    room = Room()
    room.gateway.details["AAPL"] = (stock("AAPL", 1), stock("AAPL", 9))
    with pytest.raises(AmbiguousContractError) as caught:
        await room.contracts.resolve(AAPL)
    assert [item["conId"] for item in caught.value.extra["candidates"]] == [1, 9]


# quotes -------------------------------------------------------------------------------------------


async def test_readers_share_a_line_that_stays_warm() -> None:
    room = Room()
    room.gateway.on_open = quoting
    contract = (await room.contracts.resolve(AAPL)).contract
    quotes = await asyncio.gather(*(room.quotes.quote(contract) for _ in range(5)))
    assert {quote.bid.value for quote in quotes if quote.bid} == {10}
    await room.quotes.quote(contract)
    assert len(room.gateway.lines) == 1
    room.clock.advance(61)
    room.quotes.maintain()
    assert room.gateway.open_lines == []


async def test_every_line_held_is_a_refusal_that_says_when_to_come_again() -> None:
    room = Room(capacity=1)
    room.gateway.on_open = quoting
    room.quotes.take(Contract(symbol="MSFT", con_id=2))
    with pytest.raises(LinesExhaustedError) as caught:
        await room.quotes.quote(Contract(symbol="AAPL", con_id=1))
    assert caught.value.retry_after


async def test_the_least_recently_used_line_is_given_back_to_the_broker() -> None:
    room = Room(capacity=1)
    room.gateway.on_open = quoting
    for con_id in (1, 2, 1):
        quote = await room.quotes.quote(Contract(symbol="X", con_id=con_id))
        assert quote.con_id == con_id
    assert len(room.gateway.lines) == 3
    assert len(room.gateway.open_lines) == 1


async def test_a_refusal_is_told_and_not_asked_for_again_at_once() -> None:
    room = Room()
    room.gateway.on_open = lambda line: line.fail(354)
    contract = Contract(symbol="AAPL", con_id=1)
    for _ in range(5):
        with pytest.raises(NoMarketDataError):
            await room.quotes.quote(contract)
    assert len(room.gateway.lines) == 2
    room.clock.advance(11)
    room.quotes.maintain()
    room.gateway.on_open = quoting
    assert (await room.quotes.quote(contract)).bid is not None


async def test_nothing_is_shown_of_before_the_connection_was_lost() -> None:
    room = Room()
    room.gateway.on_open = quoting
    contract = Contract(symbol="AAPL", con_id=1)
    await room.quotes.quote(contract)
    room.gateway.become(ConnectionState.RECONNECTING)
    with pytest.raises(NotConnectedError):
        await room.quotes.quote(contract)


async def test_silence_has_an_end() -> None:
    room = Room()
    with pytest.raises(NoQuoteError):
        await room.quotes.quote(Contract(symbol="AAPL", con_id=1), timeout=0.01)
    assert room.quotes.pool.held == 0


async def test_one_of_several_that_fails_leaves_the_others_alone() -> None:
    room = Room()
    room.gateway.on_open = quoting
    answer = await room.quotes.quotes([AAPL, Contract(symbol="NOPE"), Contract(symbol="MSFT")])
    assert [quote.symbol for quote in answer.quotes] == ["AAPL", "MSFT"]
    assert [(item.symbol, item.code) for item in answer.failed] == [("NOPE", "unknown-contract")]


async def test_a_delayed_quote_says_why() -> None:
    room = Room()

    def refuse_live(line: FakeLine) -> None:
        if line.kind.name == "LIVE":
            line.fail(10197)
        else:
            line.listener.market_data_type(line.kind)
            quoting(line)

    room.gateway.on_open = refuse_live
    quote = await room.quotes.quote(Contract(symbol="AAPL", con_id=1))
    assert quote.market_data == "delayed"
    assert quote.notice is not None
    assert quote.notice.broker_code == 10197
    assert quote.bid is not None
    assert quote.bid.tag == "delayed"


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


def option_room(capacity: int = 100) -> Room:
    room = Room(capacity)
    room.gateway.parameters = (
        OptionParameters(
            exchange="SMART",
            underlying_con_id=1,
            trading_class="AAPL",
            multiplier="100",
            expirations=("20260227", "20260303", "20260320"),
            strikes=(5.0, 10.0, 15.0, 20.0),
        ),
    )
    room.gateway.options = tuple(
        option(strike, right, int(strike) * 10 + index)
        for strike in (5.0, 10.0, 15.0)
        for index, right in enumerate("CP")
    )
    room.gateway.on_open = quoting
    return room


async def test_a_chain_never_shows_what_has_expired_however_long_it_is_kept() -> None:
    room = option_room()
    chain = await room.options.chain(AAPL)
    assert [(item.expiration, item.dte) for item in chain.expirations] == [
        ("20260303", 0),
        ("20260320", 17),
    ]
    assert chain.exchange_day == "20260303"
    room.clock.advance(timedelta(hours=14).total_seconds())  # 05:00 UTC: the exchange's next day
    room.options._rows._kept[1] = (room.clock.monotonic(), room.gateway.parameters)
    chain = await room.options.chain(AAPL)
    assert [(item.expiration, item.dte) for item in chain.expirations] == [("20260320", 16)]
    assert room.gateway.asked.count(("chain", 1)) == 1


async def test_no_chain_from_memory_without_a_connection() -> None:
    room = option_room()
    await room.options.chain(AAPL)
    room.gateway.become(ConnectionState.RECONNECTING)
    with pytest.raises(NotConnectedError):
        await room.options.chain(AAPL)


async def test_a_slice_has_greeks_interest_and_days_to_go() -> None:
    room = option_room()
    answer = await room.options.slice(
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
    assert room.gateway.lines[-1].generic_ticks == (100, 101, 104, 106)


async def test_a_slice_larger_than_the_free_lines_is_read_in_turns() -> None:
    room = option_room(capacity=2)
    answer = await room.options.slice(SliceQuery(underlying=AAPL, expiration="20260320"))
    assert len(answer.options) == 6
    assert answer.failed == ()
    assert len(room.gateway.open_lines) <= 2


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
    room = option_room()
    with pytest.raises(InvalidFieldError) as caught:
        await room.options.slice(SliceQuery(underlying=AAPL, **query))  # type: ignore[arg-type]
    assert caught.value.field == field


async def test_a_slice_of_an_expiration_that_is_gone() -> None:
    room = option_room()
    with pytest.raises(StaleExpirationError):
        await room.options.slice(SliceQuery(underlying=AAPL, expiration="20260302"))


async def test_an_option_without_greeks_makes_the_slice_incomplete() -> None:
    room = option_room()
    room.gateway.on_open = lambda line: line.tick(
        PriceTick("bid", 1, 1), PriceTick("ask", 2, 1), PriceTick("last", 1, 1)
    )
    room.gateway.options = (option(10.0, "C", 100),)
    answer = await room.options.slice(SliceQuery(underlying=AAPL, expiration="20260320"))
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
    room = Room()
    room.gateway.bars = hourly
    query = HistoryQuery(contract=AAPL, duration="1 D", bar_size="1h")
    await asyncio.gather(room.history.bars(query), room.history.bars(query))
    room.clock.advance(14)
    await room.history.bars(query)
    requests = [item for item in room.gateway.asked if isinstance(item, HistoryRequest)]
    assert len(requests) == 1
    room.clock.advance(2)
    await room.history.bars(query)
    requests = [item for item in room.gateway.asked if isinstance(item, HistoryRequest)]
    assert len(requests) == 2


async def test_settled_pages_come_from_the_cache() -> None:
    room = Room()
    room.gateway.bars = hourly
    query = HistoryQuery(contract=AAPL, duration="3 D", bar_size="1 min")
    first = await room.history.bars(query)
    assert (first.requests, first.cached_pages) == (3, 0)
    room.clock.advance(20)
    again = await room.history.bars(query)
    assert (again.requests, again.cached_pages) == (1, 2)
    assert again.bars == first.bars


async def test_the_settled_past_is_told_without_a_connection_and_the_present_is_not() -> None:
    room = Room()
    room.gateway.bars = hourly
    end = datetime(2026, 3, 1, tzinfo=UTC)
    past = HistoryQuery(contract=AAPL, bar_size="1h", end=end)
    first = await room.history.bars(past)
    now = HistoryQuery(contract=AAPL, bar_size="1h")
    await room.history.bars(now)
    room.gateway.become(ConnectionState.RECONNECTING)
    again = await room.history.bars(past)
    assert again.bars == first.bars
    assert (again.requests, again.cached_pages) == (0, 1)
    with pytest.raises(NotConnectedError):
        await room.history.bars(now)


async def test_a_stretch_without_data_is_empty_and_any_other_refusal_is_told() -> None:
    room = Room()

    def refuse(text: str) -> None:
        def bars(_: HistoryRequest) -> tuple[Bar, ...]:
            raise NoHistoryError("refused", broker_code=162, broker_text=text)

        room.gateway.bars = bars

    query = HistoryQuery(contract=AAPL)
    refuse("Historical Market Data Service error message:HMDS query returned no data: AAPL")
    assert (await room.history.bars(query)).bars == ()
    refuse("Historical Market Data Service error message:No market data permissions")
    room.clock.advance(20)
    with pytest.raises(NoHistoryError):
        await room.history.bars(query)


async def test_pacing_is_passed_on_and_what_came_is_kept() -> None:
    room = Room()
    limit = 2

    def bars(request: HistoryRequest) -> tuple[Bar, ...]:
        asked = sum(isinstance(item, HistoryRequest) for item in room.gateway.asked)
        if asked > limit:
            raise PacingLimitedError("too many", retry_after=60)
        return hourly(request)

    room.gateway.bars = bars
    query = HistoryQuery(contract=AAPL, duration="3 D", bar_size="1 min")
    with pytest.raises(PacingLimitedError):
        await room.history.bars(query)
    limit = 100
    answer = await room.history.bars(query)
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
    room = Room()
    with pytest.raises(InvalidFieldError) as caught:
        await room.history.bars(HistoryQuery(**{"contract": AAPL, **changes}))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert room.gateway.asked == []


async def test_an_answer_of_the_past_is_encoded_once_and_holds_for_the_exchanges_day() -> None:
    room = Room()
    room.gateway.bars = hourly
    past = HistoryQuery(contract=AAPL, end=room.clock.now() - timedelta(days=3))
    await room.history.encoded(past)
    sent = await room.history.encoded(past)
    answer = json.decode(sent)
    assert (answer["requests"], answer["cachedPages"]) == (0, 1)
    assert json.decode(json.encode(await room.history.bars(past))) == answer
    hits = room.history.cache.hits
    room.gateway.become(ConnectionState.RECONNECTING)
    assert bytes(await room.history.encoded(past)) == bytes(sent), "no session is needed for it"
    assert room.history.cache.hits == hits + 1
    room.gateway.become(ConnectionState.READY)
    before = len(room.gateway.asked)
    room.clock.advance(24 * 3600)
    await room.history.encoded(past)
    assert len(room.gateway.asked) > before, "splits rewrite the past overnight"


async def test_the_newest_bars_are_shared_for_a_second_and_need_a_session() -> None:
    room = Room()
    room.gateway.bars = hourly
    now = HistoryQuery(contract=AAPL)
    first = await room.history.encoded(now)
    room.clock.advance(0.9)
    assert bytes(await room.history.encoded(now)) == bytes(first)
    room.gateway.become(ConnectionState.RECONNECTING)
    with pytest.raises(NotConnectedError):
        await room.history.encoded(now)
    room.gateway.become(ConnectionState.READY)
    room.clock.advance(16)
    assert bytes(await room.history.encoded(now)) != bytes(first)


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
    room = option_room()
    room.gateway.options = (option(10.0, "C", 100),)
    room.gateway.bars = hourly
    contract = Contract(symbol="AAPL", sec_type="OPT", strike=10, right="C", expiration="20260320")
    answer = await room.history.bars(HistoryQuery(contract=contract))
    assert answer.what_to_show == "MIDPOINT"
    assert answer.con_id == 100
