"""Options on futures on every reading route and the stream, and month codes, over real sockets."""

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
    async with served(tmp_path) as made:  # a Friday noon in New York
        yield made


async def futures(rig: Served, symbol: str = "ES") -> list[dict[str, Any]]:
    status, answer = await rig.get("/contracts", symbol=symbol, secType="FUT")
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["contracts"]
    return sorted(found, key=lambda each: str(each["expiration"]))


async def test_the_chain_of_a_future_by_month_day_and_number(rig: Served) -> None:
    first, second = (await futures(rig))[:2]
    chains = {}
    for future in (first, second):
        by_number = await rig.get("/options/chain", symbol="ES", conId=future["conId"])
        assert by_number[0] == 200, by_number
        for name in (future["contractMonth"], future["expiration"]):
            query = {"symbol": "ES", "secType": "FUT", "contractMonth": name}
            status, chain = await rig.get("/options/chain", **query)
            assert status == 200, chain
            assert chain["conId"] == future["conId"]
            assert chain["expirations"] == by_number[1]["expirations"]
        assert (chain["exchange"], chain["multiplier"]) == ("CME", "50")
        assert chain["timeZone"] == "America/Chicago" or chain["timeZone"].startswith("US/")
        chains[future["conId"]] = [each["expiration"] for each in chain["expirations"]]
    assert not set(chains[first["conId"]]) & set(chains[second["conId"]])


async def test_a_future_that_is_not_named_is_ambiguous(rig: Served) -> None:
    status, answer = await rig.get("/options/chain", symbol="ES", secType="FUT")
    assert (status, answer["code"]) == (422, "ambiguous-contract")
    assert len(answer["candidates"]) > 2
    number = (await futures(rig))[0]["conId"]
    query = {"symbol": "ES", "conId": number, "contractMonth": "203001"}
    status, answer = await rig.get("/options/chain", **query)
    assert (status, answer["code"]) == (422, "contract-mismatch"), answer


async def test_a_slice_with_greeks_and_each_option_on_every_route(rig: Served) -> None:
    future = (await futures(rig))[0]
    query = {"symbol": "ES", "secType": "FUT", "contractMonth": future["contractMonth"]}
    status, part = await rig.get("/options/quotes", count=2, **query)
    assert status == 200, part
    assert part["complete"], part
    assert part["underlying"]["conId"] == future["conId"]
    assert len(part["options"]) == 4
    option = part["options"][0]
    assert option["secType"] == "FOP"
    assert option["delta"]["value"]
    assert option["openInterest"]["value"] >= 0

    named = {
        "secType": "FOP",
        "expiration": option["expiration"],
        "strike": option["strike"],
        "right": option["right"],
        "tradingClass": option["tradingClass"],
    }
    status, answer = await rig.get("/contracts", symbol="ES", **named)
    assert status == 200, answer
    assert [each["conId"] for each in answer["contracts"]] == [option["conId"]]
    status, quote = await rig.get("/quote/ES", **named)
    assert (status, quote["conId"]) == (200, option["conId"]), quote
    assert quote["bid"]["value"] <= quote["ask"]["value"]
    status, history = await rig.get(
        "/history", symbol="ES", duration="2 D", barSize="1 hour", **named
    )
    assert status == 200, history
    assert history["bars"]
    async with asyncio.timeout(30), rig.stream() as client:
        await client.say(op="subscribe", channel="quotes", contracts=[{"symbol": "ES", **named}])
        message = await client.next_of("quotes", "error")
        assert [each["conId"] for each in message["quotes"]] == [option["conId"]]


async def test_month_codes_follow_the_contract_month(rig: Served) -> None:
    """Crude oil of January expires in December."""
    for future in await futures(rig, "CL"):
        month = future["contractMonth"]
        code = "FGHJKMNQUVXZ"[int(month[4:]) - 1]
        assert future["localSymbol"] == f"CL{code}{month[3]}"
        assert future["expiration"][:6] < month
        status, answer = await rig.get("/contracts", symbol="CL", secType="FUT", expiration=month)
        assert (status, [each["conId"] for each in answer["contracts"]]) == (200, [future["conId"]])
