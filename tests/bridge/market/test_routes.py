"""The reading routes over HTTP: shapes, statuses, field places."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.bridge.stream.served import Served, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


async def test_contracts(rig: Served) -> None:
    status, answer = await rig.get("/contracts", symbol="aapl")
    assert status == 200
    (contract,) = answer["contracts"]
    assert (contract["conId"], contract["symbol"], contract["secType"]) == (265598, "AAPL", "STK")
    assert contract["timeZone"]
    status, answer = await rig.get("/contracts/search", pattern="app")
    assert status == 200
    assert "AAPL" in {item["symbol"] for item in answer["contracts"]}


async def test_a_quote_has_value_tag_and_age(rig: Served) -> None:
    status, quote = await rig.get("/quote/AAPL")
    assert status == 200
    assert set(quote["bid"]) == {"value", "tag", "age"}
    assert quote["bid"]["tag"] == "live"
    status, quotes = await rig.get("/quotes", symbols="AAPL,msft,NOSUCH")
    assert status == 200
    assert [item["symbol"] for item in quotes["quotes"]] == ["AAPL", "MSFT"]
    assert [item["code"] for item in quotes["failed"]] == ["unknown-contract"]
    assert (await rig.get("/quote/NOSUCH"))[0] == 422


async def test_a_chain_and_a_slice(rig: Served) -> None:
    status, chain = await rig.get("/options/chain", symbol="AAPL")
    assert status == 200
    assert all(item["dte"] >= 0 for item in chain["expirations"])
    assert chain["strikes"] == sorted(chain["strikes"])
    expiration = chain["expirations"][1]
    status, part = await rig.get(
        "/options/quotes", symbol="AAPL", expiration=expiration["expiration"], count=2
    )
    assert status == 200
    assert part["dte"] == expiration["dte"]
    assert len(part["options"]) == 4
    option = part["options"][0]
    assert option["impliedVolatility"]["value"] > 0
    assert option["openInterest"]["value"] >= 0


async def test_account_positions_and_pnl(rig: Served) -> None:
    for path, member in (("/positions", "positions"), ("/account", "accounts"), ("/pnl", "pnl")):
        status, answer = await rig.get(path)
        assert status == 200, answer
        assert member in answer
    status, problem = await rig.get("/account", account="U1")
    assert status == 422
    assert problem["errors"][0]["field"] == "account"


WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("/quote/!!", {}, "symbol"),
    ("/quote/AAPL", {"secType": "HOUSE"}, "secType"),
    ("/quote/AAPL", {"secType": "OPT"}, "expiration"),
    ("/quote/AAPL", {"colour": "red"}, "colour"),
    ("/quotes", {}, "symbols"),
    ("/quotes", {"symbols": ",".join(f"S{number}" for number in range(60))}, "symbols"),
    ("/contracts", {}, "symbol"),
    ("/options/chain", {}, "symbol"),
    ("/options/quotes", {"symbol": "AAPL", "expiration": "20200117"}, "expiration"),
    ("/options/quotes", {"symbol": "AAPL", "expiration": "soon"}, "expiration"),
    ("/options/quotes", {"symbol": "AAPL", "count": 0}, "count"),
    ("/options/quotes", {"symbol": "AAPL", "strikes": "1e400"}, "strikes"),
    ("/history", {"symbol": "AAPL", "duration": "1 fortnight"}, "duration"),
    ("/history", {"symbol": "AAPL", "barSize": "7 mins"}, "barSize"),
    ("/history", {"symbol": "AAPL", "whatToShow": "GOSSIP"}, "whatToShow"),
    ("/history", {"symbol": "AAPL", "useRth": "maybe"}, "useRth"),
    ("/history", {"symbol": "AAPL", "end": "2026-03-03T10:00:00"}, "end"),
    ("/history", {"symbol": "AAPL", "end": "0001-01-01T00:00:00+14:00"}, "end"),
    ("/history", {"symbol": "EUR", "secType": "CASH", "whatToShow": "TRADES"}, "whatToShow"),
    ("/positions", {"account": "!"}, "account"),
    ("/pnl", {"conId": -1}, "conId"),
)


async def test_wrong_input_is_422_with_its_place(rig: Served) -> None:
    for path, query, field in WRONG:
        status, problem = await rig.get(path, **query)
        assert status == 422, problem
        assert field in {item["field"] for item in problem["errors"]}, problem
        assert problem["nextStep"]


READING = (
    "/contracts?symbol=AAPL",
    "/contracts/search?pattern=A",
    "/quote/AAPL",
    "/quotes?symbols=AAPL",
    "/options/chain?symbol=AAPL",
    "/options/quotes?symbol=AAPL",
    "/history?symbol=AAPL",
    "/positions",
    "/account",
    "/pnl",
)


async def test_without_a_session_503_even_for_what_was_known(rig: Served) -> None:
    for path in READING[:6]:
        assert (await rig.get(path))[0] == 200
    rig.simulator.world.faults.start("port-closed")
    rig.simulator.world.faults.start("rst")
    await rig.until(lambda: rig.services.gateway.state != "ready")
    for path in READING:
        status, problem = await rig.get(path)
        assert status == 503, (path, problem)
        assert problem["code"] == "not-connected"


async def test_no_key_no_answer(rig: Served) -> None:
    for path in READING:
        answer = await rig.http.get(path, headers={"X-API-KEY": ""})
        assert answer.status_code == 401, path


async def test_every_line_in_use_is_429(tmp_path: Path) -> None:
    async with served(tmp_path) as rig:
        from bridge.market.quotes import QuoteService

        pool = rig.services[QuoteService].pool
        pool.capacity = pool.reserved + 1
        async with rig.stream() as client:
            await client.say(op="subscribe", channel="quotes", symbols=["AAPL"])
            await client.next_of("subscribed")
            answer = await rig.http.get("/quote/MSFT")
            assert answer.status_code == 429
            assert answer.json()["code"] == "market-data-lines"
            assert int(answer.headers["Retry-After"]) > 0


async def test_a_part_that_contradicts_the_number_is_refused_with_its_place(rig: Served) -> None:
    _, chain = await rig.get("/options/chain", symbol="AAPL")
    expiration = chain["expirations"][3]["expiration"]
    _, found = await rig.get(
        "/contracts", symbol="AAPL", secType="OPT", expiration=expiration, right="P"
    )
    put = found["contracts"][0]
    same = {
        "conId": put["conId"],
        "secType": "OPT",
        "expiration": expiration,
        "strike": put["strike"],
        "right": "P",
        "currency": "USD",
        "multiplier": "100.0",
    }
    status, quote = await rig.get("/quote/AAPL", **same)
    assert (status, quote["conId"]) == (200, put["conId"])
    status, _ = await rig.get("/quote/AAPL", conId=put["conId"])
    assert status == 200
    for field, value in (
        ("strike", put["strike"] + 5),
        ("right", "C"),
        ("expiration", chain["expirations"][4]["expiration"]),
        ("currency", "EUR"),
        ("secType", "STK"),
        ("multiplier", "10"),
        ("tradingClass", "AAPL7"),
        ("primaryExchange", "NYSE"),
    ):
        for path in ("/quote/AAPL", "/history", "/contracts"):
            query = {**same, field: value} | ({} if "quote" in path else {"symbol": "AAPL"})
            status, problem = await rig.get(path, **query)
            assert (status, problem["code"]) == (422, "contract-mismatch"), (path, field)
            assert [error["field"] for error in problem["errors"]] == [field]
    status, problem = await rig.get("/quote/MSFT", conId=265598)
    assert (status, problem["code"]) == (422, "contract-mismatch")
    assert "symbol is AAPL, not MSFT" in problem["detail"]


async def test_two_trading_classes_of_one_day_are_two_contracts(rig: Served) -> None:
    """SPX settles in the morning, SPXW in the afternoon: nobody but the caller can choose."""
    _, chain = await rig.get("/options/chain", symbol="SPX", secType="IND", exchange="CBOE")
    both = next(each for each in chain["expirations"] if len(each["tradingClasses"]) == 2)
    strike = chain["strikes"][len(chain["strikes"]) // 2]
    one = {"secType": "OPT", "expiration": both["expiration"], "strike": strike, "right": "C"}
    status, problem = await rig.get("/quote/SPX", **one)
    assert (status, problem["code"]) == (422, "ambiguous-contract"), problem
    candidates = {each["tradingClass"]: each for each in problem["candidates"]}
    assert set(candidates) == {"SPX", "SPXW"}
    assert candidates["SPXW"]["expiration"]
    for name in candidates:
        status, quote = await rig.get("/quote/SPX", **one, tradingClass=name)
        assert (status, quote["tradingClass"]) == (200, name), quote
        assert quote["localSymbol"].startswith(name)
        assert (quote["priceMagnifier"], quote["contractMonth"]) == (1, both["expiration"][:6])
    slice_of = {"symbol": "SPX", "secType": "IND", "exchange": "CBOE"}
    slice_of |= {"expiration": both["expiration"], "count": "2"}
    status, problem = await rig.get("/options/quotes", **slice_of)
    assert (status, problem["code"]) == (422, "ambiguous-contract")
    status, found = await rig.get("/options/quotes", **slice_of, tradingClass="SPXW")
    assert status == 200
    assert {each["tradingClass"] for each in found["options"]} == {"SPXW"}


@pytest.mark.parametrize(
    "query", [{}, {"secType": "IND", "exchange": "CBOE"}], ids=["stock", "index"]
)
async def test_what_options_say_of_their_underlying_is_in_its_quote(
    rig: Served, query: dict[str, str]
) -> None:
    symbol = "SPX" if query else "AAPL"
    wanted = ["impliedVolatility", "historicalVolatility", "callOpenInterest", "putOpenInterest"]
    wanted += [] if query else ["callVolume", "putVolume"]  # an index itself is not traded
    for _ in range(50):
        status, quote = await rig.get(f"/quote/{symbol}", **query)
        assert status == 200, quote
        if all(quote[name] for name in wanted):
            break
        await asyncio.sleep(0.1)
    assert 0 < quote["impliedVolatility"]["value"] < 3
    assert all(quote[name]["value"] > 0 for name in wanted), quote


async def test_adjusted_prices_of_years_are_one_request(rig: Served) -> None:
    years = {"symbol": "AAPL", "duration": "3 Y", "barSize": "1 day"}
    status, found = await rig.get("/history", **years, whatToShow="ADJUSTED_LAST")
    assert (status, found["requests"]) == (200, 1), found
    assert len(found["bars"]) > 700
    status, problem = await rig.get(
        "/history", symbol="AAPL", duration="1 M", barSize="1 min", whatToShow="ADJUSTED_LAST"
    )
    assert (status, problem["errors"][0]["field"]) == (422, "duration")
