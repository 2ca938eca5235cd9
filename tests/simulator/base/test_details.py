"""What contract details say agrees with what the gateway does, and what is wrong is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import pytest

from simulator.app import Simulator
from simulator.contracts import details, instruments
from simulator.contracts.catalog import Catalog
from simulator.contracts.contract import Contract, Query
from simulator.contracts.details import announced, describe
from tests.simulator.base.raw import FRIDAY_TEN, Raw, ready, simulated
from tests.simulator.base.test_time import place_order

CATALOG = Catalog()
TODAY = date(2026, 11, 20)


def found(**words: object) -> list[Contract]:
    return list(CATALOG.find(Query(**words), FRIDAY_TEN))  # type: ignore[arg-type]


def query(**words: object) -> list[object]:
    """The twelve fields of a contract in a request."""
    usual = {"con_id": 0, "symbol": "", "kind": "STK", "expiry": "", "strike": 0.0, "right": ""}
    usual |= {"multiplier": "", "exchange": "SMART", "primary": "", "currency": "USD"}
    return list((usual | {"local": "", "class": ""} | words).values())


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with simulated() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> Raw:
    return await ready(simulator)


# identifiers, rules, names


def test_a_stock_is_found_by_isin_and_cusip() -> None:
    [apple] = found(symbol="AAPL", sec_type="STK", currency="USD", exchange="SMART")
    pairs = dict(instruments.security_ids(apple))
    assert pairs == {"ISIN": "US0378331005", "CUSIP": "037833100"}
    for kind, value in pairs.items():
        named = found(sec_id_type=kind, sec_id=value, exchange="SMART", currency="USD")
        assert [each.con_id for each in named] == [apple.con_id]
    content = describe(CATALOG, apple, TODAY)
    assert {each["tag"] for each in content["security_ids"]} == {"ISIN", "CUSIP"}


def test_made_up_identifiers_have_their_check_digits_and_are_unique() -> None:
    stocks = [each.contract for each in CATALOG.instruments.values()]
    american = {each.con_id: each for each in stocks if each.currency == "USD"}
    cusips = {dict(instruments.security_ids(each)).get("CUSIP") for each in american.values()} - {
        None
    }
    assert len(cusips) == sum(each.sec_type in {"STK", "BOND"} for each in american.values())
    for cusip in cusips:
        assert cusip is not None
        assert instruments.check_digit(cusip[:8]) == int(cusip[8])


def test_every_contract_has_a_market_rule_that_is_known_and_agrees_with_its_tick() -> None:
    contracts = [each.contract for each in CATALOG.instruments.values()]
    contracts += [found(symbol=name, sec_type="FUT")[0] for name in CATALOG.roots]
    contracts += [found(symbol=name, sec_type="OPT")[0] for name in ("AAPL", "SPX", "SPY")]
    contracts += [found(symbol=name, sec_type="FOP")[0] for name in ("ES", "NQ", "CL", "GC")]
    for contract in contracts:
        content = describe(CATALOG, contract, TODAY)
        ids = content["market_rule_ids"].split(",")
        assert len(ids) == len(content["valid_exchanges"].split(","))
        for rule in set(ids):
            steps = details.increments(int(rule))
            assert steps is not None
            assert steps[0] == (0.0, contract.min_tick)
        assert content["order_types"] == announced(contract.sec_type)


def test_details_of_a_future_name_its_root_and_of_an_option_on_it_its_future() -> None:
    [future, *_] = found(symbol="ES", sec_type="FUT")
    content = describe(CATALOG, future, TODAY)
    assert (content["under_symbol"], content["under_sec_type"]) == ("ES", "IND")
    assert content["subcategory"] == "*"
    option = found(symbol="ES", sec_type="FOP", exchange="CME")[0]
    content = describe(CATALOG, option, TODAY)
    assert (content["under_symbol"], content["under_sec_type"]) == ("ESZ6", "FUT")
    [apple] = found(symbol="AAPL", sec_type="STK", currency="USD", exchange="SMART")
    assert describe(CATALOG, apple, TODAY)["subcategory"] == "Computers"


@pytest.mark.parametrize(
    ("symbol", "month", "local", "expires"),
    [("CL", "202701", "CLF7", "202612"), ("ES", "202612", "ESZ6", "202612")],
)
def test_a_six_digit_expiry_is_the_contract_month(
    symbol: str, month: str, local: str, expires: str
) -> None:
    [future] = found(symbol=symbol, sec_type="FUT", expiry=month)
    assert (future.local_symbol, future.expiry[:6]) == (local, expires)
    assert describe(CATALOG, future, TODAY)["contract_month"] == month
    assert found(symbol=symbol, sec_type="FUT", expiry=future.expiry) == [future]


# continuous futures, options on futures, chains


def test_the_continuous_future_is_the_one_that_expires_next() -> None:
    [continuous] = found(symbol="ES", sec_type="CONTFUT", exchange="CME")
    front = found(symbol="ES", sec_type="FUT")[0]
    assert (continuous.con_id, continuous.local_symbol) == (front.con_id, "ESZ6")
    assert continuous.sec_type == "CONTFUT"
    assert len(found(symbol="ES", sec_type="FUT+CONTFUT")) == 9


def test_options_on_futures_are_found_again_by_number() -> None:
    for symbol, name in (("ES", "ES"), ("CL", "LO")):
        listed = found(symbol=symbol, sec_type="FOP")
        assert {each.trading_class for each in listed} == {name}
        assert len({each.con_id for each in listed}) == len(listed) > 200
        for each in listed[::37]:
            assert CATALOG.by_id(each.con_id) == each
            future = CATALOG.by_id(each.under_id)
            assert future is not None
            assert future.expiry >= each.expiry


def test_chains_reach_two_and_a_half_years() -> None:
    for symbol in ("AAPL", "SPX"):
        days = {each.expiry for each in found(symbol=symbol, sec_type="OPT", right="C")}
        assert max(days) > "20281201"


async def test_continuous_futures_have_data_and_take_no_orders(client: Raw) -> None:
    words = query(symbol="ES", kind="CONTFUT", exchange="CME")
    client.send(9, 8, 1, *words, 0, "", "")
    details = await client.until(10)
    assert details[3] == "CONTFUT"
    tail = ("1 day", "5 D", 1, "TRADES", 1, 0, "")
    client.send(20, 2, *words, 0, "", *tail)
    assert (await client.until(17))[1] == "2"
    client.send(20, 3, *words, 0, "20261118 16:00:00 US/Eastern", *tail)
    assert (await client.error(10339))[2] == "3"
    values = {"orderId": 4, "symbol": "ES", "secType": "CONTFUT", "exchange": "CME"}
    more = {"action": "BUY", "totalQuantity": 1, "orderType": "MKT"}
    client.send(3, *place_order(values | more))
    assert (await client.error(387))[2] == "4"


async def test_an_option_chain_of_a_future_and_what_a_filter_is_not_for(client: Raw) -> None:
    future = found(symbol="ES", sec_type="FUT")[0]
    client.send(78, 1, "ES", "CME", "FUT", future.con_id)
    assert (await client.until(75, 76))[:5] == ["75", "1", "CME", str(future.con_id), "ES"]
    await client.until(76)
    for number, exchange in ((2, "CME"), (3, "SMART")):
        client.send(78, number, "AAPL", exchange, "STK", 265598)
        assert await client.until(75, 76) == ["76", str(number)]


# refusals


@pytest.mark.parametrize(
    ("code", "more"),
    [
        (321, {"exchange": ""}),
        (321, {"symbol": "XXX", "conId": 0, "exchange": ""}),
        (200, {"symbol": "XXX", "conId": 0}),
        (321, {"secType": "SHARES"}),
    ],
)
async def test_an_order_without_exchange_is_refused_as_such(
    client: Raw, code: int, more: dict[str, object]
) -> None:
    values: dict[str, object] = {"orderId": 4, "conId": 265598, "secType": "STK", "action": "BUY"}
    values |= {"exchange": "SMART", "totalQuantity": 1, "orderType": "MKT"}
    client.send(3, *place_order(values | more))
    assert (await client.error(code))[2] == "4"


async def test_a_kind_that_is_none_is_refused_and_an_unlisted_one_is_not_found(client: Raw) -> None:
    client.send(9, 8, 1, *query(symbol="AAPL", kind="SHARES"), 0, "", "")
    assert (await client.error(321))[2] == "1"
    client.send(9, 8, 2, *query(symbol="AAPL", kind="WAR"), 0, "", "")
    assert (await client.error(200))[2] == "2"


@pytest.mark.parametrize("rule", [1, 111, 5000, 251_000])
async def test_an_unknown_market_rule_is_refused(client: Raw, rule: int) -> None:
    client.send(91, rule)
    assert str(rule) in (await client.error(321))[4]


async def test_an_unknown_message_is_named_in_its_error(client: Raw) -> None:
    client.send(9999, 1, 7)
    assert "9999" in (await client.error(320))[4]


async def test_ticks_name_an_exchange_where_the_contract_trades(client: Raw) -> None:
    words = query(symbol="ES", kind="FUT", expiry="202612", exchange="CME")
    client.send(97, 5, *words, "AllLast", 1, 0)
    past = await client.until(98)
    assert past[7] == "CME"
    assert (await client.until(99))[7] == "CME"


async def test_quotes_of_a_combination_are_those_of_its_legs(client: Raw) -> None:
    rows: list[object] = []
    for strike, side in ((200.0, "BUY"), (210.0, "SELL")):
        [leg] = found(symbol="AAPL", sec_type="OPT", expiry="20261218", strike=strike, right="C")
        rows += [leg.con_id, 1, side, "SMART"]
    client.send(1, 11, 9, *query(symbol="AAPL", kind="BAG"), 2, *rows, 0, "", 0, 0, "")
    bid = float((await client.until(1))[4])
    assert 0 < bid < 10


async def test_an_option_that_is_not_held_cannot_be_exercised(client: Raw) -> None:
    words = [0, "AAPL", "OPT", "20261218", 200.0, "C", "100", "SMART", "USD", "", ""]
    client.send(21, 2, 5, *words, 1, 1, "", 1)
    assert (await client.error(322))[2] == "5"
    words[2] = "STK"
    client.send(21, 2, 6, *words, 1, 1, "", 1)
    assert (await client.error(200))[2] == "6"
