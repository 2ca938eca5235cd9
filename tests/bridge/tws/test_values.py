"""The broker's forms of "no value": on the functions, and as messages over a real socket."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from bridge import model
from bridge.tws import values
from bridge.tws.callbacks import Callbacks
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.errors import TwsError, UnreadableAnswerError
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from tests.bridge.conftest import StartSession
from tests.bridge.rig import eventually

NO_NUMBER = (
    "",
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "inf",
    "1.7976931348623157E308",
    "-1.7976931348623157E308",
    "2147483647",
    "-2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "170141183460469231731687303715884105727",
    "1e300",
    "none",
    None,
)


@pytest.mark.parametrize("said", NO_NUMBER)
def test_no_number_is_none_in_every_rule(said: object) -> None:
    for rule in (
        values.number,
        values.price,
        values.size,
        values.above_zero,
        values.holding,
        values.count,
    ):
        assert rule(said) is None
    assert values.identifier(said) == 0
    assert values.tick_price("bid", said, 100) is None
    assert values.computed(said, -2.0) is None


@pytest.mark.parametrize(
    ("field", "price", "beside", "expected"),
    [
        ("bid", -1.0, 0.0, None),
        ("bid", 0.0, 0.0, None),
        ("last", 0.0, float("nan"), None),
        ("bid", -1.0, 5.0, -1.0),  # a spread may cost less than nothing
        ("bid", 0.0, 5.0, 0.0),
        ("last", -37.63, 3.0, -37.63),
        ("close", 0.0, None, None),
        ("open", -1.0, None, None),
        ("markPrice", 101.5, None, 101.5),
    ],
)
def test_a_price_is_none_as_its_tick_says_none(
    field: str, price: float, beside: float | None, expected: float | None
) -> None:
    assert values.tick_price(field, price, beside) == expected


@pytest.mark.parametrize(
    ("field", "said", "expected"),
    [
        ("halted", -1.0, None),
        ("halted", 0.0, 0.0),
        ("impliedVolatility", 0.0, None),
        ("impliedVolatility", -1.0, None),
        ("historicalVolatility", 0.31, 0.31),
        ("indexFuturePremium", -4.5, -4.5),
        ("tick999", -1.0, -1.0),
        ("lastTimestamp", "0", None),
        ("lastTimestamp", "1772461800", "1772461800"),
        ("dividends", ",,,", None),
        ("fundamentals", "", None),
    ],
)
def test_a_generic_tick_is_none_as_its_tick_says_none(
    field: str, said: float | str, expected: float | str | None
) -> None:
    assert values.tick_value(field, said) == expected


def test_a_fill_below_zero_is_one_only_where_such_prices_are_traded() -> None:
    assert values.paid(-1.0, "STK") is None
    assert (values.paid(-37.63, "FUT"), values.paid(0.0, "OPT")) == (-37.63, 0.0)
    assert (values.average("-1"), values.average("NaN"), values.average(2.5)) == (0.0, 0.0, 2.5)


def test_texts_and_ids_have_a_length() -> None:
    assert len(values.text("x" * 10**6)) == values.LONGEST_TEXT
    assert len(values.name("x" * 10**6)) == values.LONGEST_NAME
    assert values.identifier(2**70) == values.identifier("12x") == 0
    assert (values.identifier("77"), values.identifier(-5)) == (77, -5)
    for bad in ("", None, "x" * 129):
        with pytest.raises(values.RefusedError):
            values.required_name(bad, "execId")


# over the wire ----------------------------------------------------------------------------------


class Ticks:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[model.Tick] = []

    def tick(self, tick: model.Tick) -> None:
        self.heard.append(tick)

    def market_data_type(self, kind: model.MarketDataType) -> None: ...

    def failed(self, error: TwsError) -> None: ...

    def interrupted(self) -> None: ...

    def restored(self) -> None: ...


async def ready(start_session: StartSession, simulator: Simulator) -> TwsSession:
    session = await start_session(simulator.tws.port)
    await eventually(lambda: session.state is State.READY)
    return session


def say(simulator: Simulator, *fields: object) -> None:
    next(iter(simulator.world.sessions)).send(*fields)


async def test_a_line_carries_no_value_as_none(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await ready(start_session, simulator)
    ticks = Ticks()
    contract = model.Contract(con_id=265598, symbol="AAPL")
    session.subscribe_market_data(contract, ticks)
    await eventually(lambda: len(ticks.heard) > 3)
    wire = next(iter(simulator.world.sessions))
    line = next(number for kind, number in wire.subscriptions if kind == "market data")
    wire.drop_subscriptions({"market data"})
    await asyncio.sleep(0.1)
    ticks.heard.clear()
    say(simulator, 1, 6, line, 4, "0.0", "0", "0")
    say(simulator, 1, 6, line, 1, "-1.0", "0", "0")
    say(simulator, 1, 6, line, 9, "1.7976931348623157E308", "", "0")
    say(simulator, 2, 6, line, 8, "9223372036854775807")
    say(simulator, 2, 6, line, 5, "")
    say(simulator, 45, 6, line, 49, "-1.0")
    say(simulator, 45, 6, line, 24, "")
    say(simulator, 46, 6, line, 45, "0")
    say(simulator, 21, line, 13, 0, "-1.0", "-2.0", "NaN", "", "-2", "-2.0", "0.5", "0")
    await eventually(lambda: len(ticks.heard) >= 9)
    assert ticks.heard == [
        model.PriceTick("last", None, 0.0),
        model.PriceTick("bid", None, 0.0),
        model.PriceTick("close", None, None),
        model.SizeTick("volume", None),
        model.SizeTick("lastSize", None),
        model.ValueTick("halted", None),
        model.ValueTick("impliedVolatility", None),
        model.ValueTick("lastTimestamp", None),
        model.OptionTick("modelOption", None, None, None, None, 0.5, None, None, None),
    ]


async def test_what_is_no_value_of_an_execution_is_refused_and_told(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await ready(start_session, simulator)
    executions: list[model.Execution] = []
    refused: list[model.Unreadable] = []
    commissions: list[model.CommissionReport] = []
    session.events.execution.listen(executions.append)
    session.events.unreadable.listen(refused.append)
    session.events.commission.listen(commissions.append)
    for quantity, price in itertools.product(("", "NaN", "1e300", "0", "3"), ("", "NaN", "150.5")):
        say(simulator, *execution(session, f"a.b.{quantity}.{price}", quantity, price))
    say(simulator, *execution(session, "x" * 5000, "1", "1"))
    say(simulator, 59, 1, "a.b.c.01", "", "USD", "", "0", "")
    say(simulator, 59, 1, "a.b.c.01", "NaN", "USD", "1.5", "0", "")
    say(simulator, 59, 1, "a.b.c.01", "1.25", "USD", "NaN", "0", "")
    await eventually(lambda: commissions)
    assert [(each.quantity, each.price) for each in executions] == [(3.0, 150.5)]
    assert len(refused) == 15
    assert {each.kind for each in refused} == {"execution"}
    assert all(len(each.content) <= values.LONGEST_TEXT for each in refused)
    assert [(c.commission, c.realized_pnl) for c in commissions] == [(1.25, None)]


def execution(session: TwsSession, exec_id: str, quantity: str, price: str) -> tuple[object, ...]:
    return (
        11, -1, 7, 265598, "AAPL", "STK", "", "0.0", "", "", "NASDAQ", "USD", "AAPL", "NMS",
        exec_id, "20260213 10:00:00 US/Eastern", "DU1234567", "NASDAQ", "BOT", quantity, price,
        2**70, 99, 0, quantity, price, "", "", "", "", "1",
        *(("0",) if session.server_version >= 178 else ()),
    )  # fmt: skip


async def test_the_library_failing_on_a_message_about_money_is_told(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await ready(start_session, simulator)
    refused: list[model.Unreadable] = []
    session.events.unreadable.listen(refused.append)
    say(simulator, *execution(session, "a.b.c.01", "many", "1"))
    say(simulator, 59, 1, "a.b.c.01")
    say(simulator, 3, 7, "Filled", "all", "0", "1", 1, 0, "1", 17, "", "0")
    say(simulator, 5, "x")
    say(simulator, 101)
    await eventually(lambda: len(refused) == 5)
    kinds = [each.kind for each in refused]
    assert kinds == ["execution", "commission", "order-status", "open-order", "completed-order"]
    assert session.state is State.READY


@pytest.mark.parametrize(
    ("filled", "expected"), [("NaN", 0.0), ("1e300", 0.0), ("-1", 0.0), ("", 0.0), ("2", 2.0)]
)
async def test_a_status_says_only_what_it_can_mean(
    simulator: Simulator, start_session: StartSession, filled: str, expected: float
) -> None:
    session = await ready(start_session, simulator)
    heard: list[model.OrderStatus] = []
    session.events.order_status.listen(heard.append)
    say(simulator, 3, 7, "Submitted", filled, filled, "NaN", str(2**70), 0, "inf", 17, "", "0")
    await eventually(lambda: heard)
    (status,) = heard
    assert (status.filled, status.average_fill_price, status.perm_id) == (expected, 0.0, 0)


async def test_positions_without_a_quantity_are_no_answer(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await ready(start_session, simulator)
    asking = asyncio.create_task(session.queries.positions())
    while not len(session.context.requests):
        await asyncio.sleep(0)
    row: tuple[Any, ...] = (61, 3, "DU1234567", 1, "AAPL", "STK", "", 0, "", "", "", "USD", "", "")
    say(simulator, *row, "NaN", "100.0")
    with pytest.raises(UnreadableAnswerError, match="AAPL"):
        await asking


async def test_an_impossible_clock_or_number_does_not_start_or_end_a_session(
    simulator: Simulator, start_session: StartSession
) -> None:
    session = await ready(start_session, simulator)
    say(simulator, 9, 1, str(2**40))
    say(simulator, 49, 1, str(2**62))
    say(simulator, 4, 2, str(2**70), str(2**70), "x" * 100_000, "")
    await asyncio.sleep(1.5)
    assert session.state is State.READY
    assert session.next_order_id() < 2**31


# tables ------------------------------------------------------------------------------------------

DOCUMENTED = """
    BID_SIZE BID ASK ASK_SIZE LAST LAST_SIZE HIGH LOW VOLUME CLOSE
    BID_OPTION ASK_OPTION LAST_OPTION MODEL_OPTION OPEN
    LOW_13_WEEK HIGH_13_WEEK LOW_26_WEEK HIGH_26_WEEK LOW_52_WEEK HIGH_52_WEEK
    AVERAGE_VOLUME OPEN_INTEREST HISTORICAL_VOLATILITY IMPLIED_VOLATILITY - -
    CALL_OPEN_INTEREST PUT_OPEN_INTEREST CALL_VOLUME PUT_VOLUME INDEX_FUTURE_PREMIUM
    BID_EXCHANGE ASK_EXCHANGE AUCTION_VOLUME AUCTION_PRICE AUCTION_IMBALANCE MARK_PRICE
    - - - - - - - LAST_TIMESTAMP SHORTABLE FUNDAMENTALS REAL_TIME_VOLUME HALTED
    BID_YIELD ASK_YIELD LAST_YIELD - TRADE_COUNT TRADE_RATE VOLUME_RATE LAST_RTH_TRADE
    REAL_TIME_HISTORICAL_VOLATILITY DIVIDENDS - REGULATORY_IMBALANCE - - - -
    *BID *ASK *LAST *BID_SIZE *ASK_SIZE *LAST_SIZE *HIGH *LOW *VOLUME *CLOSE *OPEN
    REAL_TIME_TRADES - - *BID_OPTION *ASK_OPTION *LAST_OPTION *MODEL_OPTION
    LAST_EXCHANGE LAST_REGULATORY_TIME FUTURES_OPEN_INTEREST AVERAGE_OPTION_VOLUME
    *LAST_TIMESTAMP SHORTABLE_SHARES *HALTED
"""
"""The broker's tick types in the order of their numbers; `*`: the delayed one, `-`: not ours."""


def test_a_tick_type_has_the_name_that_the_broker_documents_for_its_number() -> None:
    found: dict[int, tuple[str, bool]] = {}
    for number, word in enumerate(DOCUMENTED.split()):
        if word != "-":
            first, *others = word.removeprefix("*").split("_")
            name = first.lower() + "".join(each.capitalize() for each in others)
            found[number] = (name, word.startswith("*"))
    assert found == values.NAMES
    assert values.name_of(66) == ("bid", True)
    assert values.name_of(9999) == ("tick9999", False)


@pytest.mark.parametrize(
    ("rule", "largest"),
    [
        (values.number, 1e17),
        (values.price, 1e12),
        (values.size, 1e15),
        (values.holding, 1e15),
    ],
)
def test_a_number_is_as_large_as_any_market_has(rule: Any, largest: float) -> None:
    assert rule(largest) == largest
    assert rule(largest * 1.001) is None
    if rule is not values.size:
        assert rule(-largest) == -largest
        assert rule(-largest * 1.001) is None


def test_what_has_to_be_above_or_not_below_zero() -> None:
    assert (values.size(0), values.size(-0.5), values.size(0.5)) == (0.0, None, 0.5)
    assert (values.above_zero(0), values.above_zero(-1), values.above_zero(0.5)) == (
        *(None, None),
        0.5,
    )
    assert (values.count(0), values.count("3.9"), values.count(-1)) == (0, 3, None)
    assert (values.computed_delta(1.01), values.computed_delta(-1.01)) == (1.01, -1.01)
    assert (values.computed_delta(1.02), values.computed_delta(-2)) == (None, None)
    assert (values.computed_size(-1), values.computed_size(2)) == (None, 2.0)
    assert (values.paid(0.0, "STK"), values.paid(-0.01, "BAG"), values.paid(None, "STK")) == (
        *(0.0, -0.01),
        None,
    )
    assert (values.paid(-0.01, "CMDTY"), values.paid(-0.01, "OPT")) == (-0.01, None)


def test_an_id_fits_the_journal() -> None:
    longest, least = 2**63 - 1, -(2**31 - 1)
    assert (values.identifier(longest - 1), values.identifier(longest)) == (longest - 1, 0)
    assert (values.identifier(longest + 1), values.identifier(2**31 - 2)) == (0, 2**31 - 2)
    assert (values.identifier(2**31 - 1), values.identifier(2**31)) == (0, 2**31)
    assert (values.identifier(least), values.identifier(least - 1)) == (least, 0)
    assert values.identifier(least - 2) == 0
    assert values.required_name("x" * 128, "execId") == "x" * 128
    assert (values.LONGEST_NAME, values.LONGEST_TEXT, values.LONGEST_LIST) == (128, 2000, 20_000)


def test_an_amount_as_text_may_be_a_word() -> None:
    found = [values.amount_text(said) for said in ("12.5", "Infinity", "N/A", "", None, "1e300")]
    assert found == ["12.5", "", "N/A", "", "", ""]
    with pytest.raises(values.RefusedError, match="price is 'abc', which is no value"):
        values.required(None, "price", "abc")
    with pytest.raises(values.RefusedError, match=f"is '{'x' * 40}', which"):
        values.required(None, "price", "x" * 50)
    assert values.required(0.0, "price", "0") == 0.0


@pytest.mark.parametrize(
    ("message", "marked"),
    [
        (2, {4}),
        (11, {19, 20}),
        (21, {4, 5, 6, 7, 8, 9, 10, 11}),
        (45, {4}),
        (59, {3, 5}),
        (61, {14, 15}),
        (94, {2, 3, 4}),
        (95, {2, 3, 4, 5, 6}),
        (17, {6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23, 24}),
        (4, set()),
    ],
)
def test_which_numbers_are_none_when_they_are_left_empty(message: int, marked: set[int]) -> None:
    fields = [str(message), *[""] * 24]
    values.mark_empty(message, fields)
    assert {place for place, said in enumerate(fields) if said == "nan"} == marked
    full = [str(message), *["7"] * 24]
    values.mark_empty(message, full)
    assert full == [str(message), *["7"] * 24]
    short = [str(message), ""]
    values.mark_empty(message, short)
    assert short == [str(message), ""]


@pytest.mark.parametrize("odd", ["202612", "20261399", "20260320X", ""])
def test_a_day_that_no_calendar_has_is_no_expiration(odd: str) -> None:
    kept: list[Any] = []
    callbacks = object.__new__(Callbacks)
    callbacks._requests = SimpleNamespace(add=lambda _, part: kept.append(part))  # type: ignore[assignment]
    days = ["20260320", odd, "20260619"]
    callbacks.securityDefinitionOptionParameter(7, "SMART", 1, "A", "100", days, [10.0])
    assert kept[0].expirations == ("20260320", "20260619")
