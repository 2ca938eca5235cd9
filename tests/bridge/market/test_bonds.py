"""Bonds on the reading routes: their details come in a message of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bridge.stream.served import Served, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:  # a Friday noon in New York
        yield made


async def test_the_details_of_bonds_arrive(rig: Served) -> None:
    status, answer = await rig.get("/contracts", symbol="US-T", secType="BOND")
    assert status == 200, str(answer)
    found = {each["conId"]: each for each in answer["contracts"]}
    assert found.keys() == {150000001, 150000002}
    note = found[150000001]
    assert (note["secType"], note["exchange"], note["currency"]) == ("BOND", "SMART", "USD")
    assert (note["symbol"], note["tradingClass"]) == ("US-T", "US-T")
    assert note["longName"] == "US TREASURY NOTE"
    assert note["minTick"] == 0.01


async def test_several_of_one_issuer_are_ambiguous_and_a_number_is_not(rig: Served) -> None:
    status, answer = await rig.get("/quote/US-T", secType="BOND")
    assert (status, answer["code"]) == (422, "ambiguous-contract"), answer
    status, quote = await rig.get("/quote/US-T", secType="BOND", conId=150000001)
    assert status == 200, quote
    assert 0 < quote["bid"]["value"] < quote["ask"]["value"] < 200


async def test_the_history_of_a_bond(rig: Served) -> None:
    query = {"secType": "BOND", "conId": 150000003, "duration": "5 D", "barSize": "1 day"}
    status, answer = await rig.get("/history", symbol="MSFT", **query)
    assert status == 200, str(answer)
    assert len(answer["bars"]) == 5
    for bar in answer["bars"]:
        assert 0 < bar["low"] <= bar["open"] <= bar["high"]
