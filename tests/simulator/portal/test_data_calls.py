"""Every call that the bridge passes through exists here, over the same book as the TWS API has."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bridge.portal import pass_through
from simulator.app import Simulator
from tests.simulator.base.raw import ready, simulated
from tests.simulator.base.test_time import place_order

ACCOUNT = "DU1234567"
CALLS = {
    "/iserver/accounts": {},
    "/iserver/account/orders": {},
    "/iserver/account/trades": {"days": "1"},
    "/iserver/account/pnl/partitioned": {},
    "/iserver/marketdata/snapshot": {"conids": "265598", "fields": "31,55,84,86"},
    "/iserver/marketdata/history": {"conid": "265598", "period": "2d", "bar": "1h"},
    "/iserver/contract/265598/info": {},
    "/iserver/secdef/search": {"symbol": "AAPL"},
    "/trsrv/secdef": {"conids": "265598"},
    "/trsrv/stocks": {"symbols": "AAPL"},
    "/portfolio/accounts": {},
    "/portfolio/subaccounts": {},
    f"/portfolio/{ACCOUNT}/summary": {},
    f"/portfolio/{ACCOUNT}/ledger": {},
    f"/portfolio/{ACCOUNT}/positions/0": {},
    f"/portfolio/{ACCOUNT}/position/265598": {},
}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with simulated() as running:
        client = await ready(running)
        values = {"orderId": 1, "conId": 265598, "exchange": "SMART", "action": "BUY"}
        values |= {"totalQuantity": 10, "orderType": "MKT", "transmit": 1}
        client.send(3, *place_order(values))
        await client.until(59)
        yield running


async def told(simulator: Simulator, path: str, **query: str) -> Any:
    base = f"http://127.0.0.1:{simulator.ports['portalPort']}/v1/api"
    async with httpx.AsyncClient(base_url=base) as client:
        answer = await client.get(path, params=query or CALLS.get(path))
        return answer.status_code, answer.json()


def test_every_passed_through_route_is_tried_here() -> None:
    routes = set(pass_through.ALLOWED)
    tried = {route for route in routes for path in CALLS if re.fullmatch(route, path)}
    assert tried == routes


@pytest.mark.parametrize("path", sorted(CALLS))
async def test_every_passed_through_call_is_answered(simulator: Simulator, path: str) -> None:
    status, body = await told(simulator, path)
    assert status == 200
    assert body


async def test_the_data_are_those_of_the_book(simulator: Simulator) -> None:
    book = simulator.world.book()
    _, trades = await told(simulator, "/iserver/account/trades")
    assert [each["execution_id"] for each in trades] == [each["execId"] for each in book["fills"]]
    _, positions = await told(simulator, f"/portfolio/{ACCOUNT}/positions/0")
    assert [(each["conid"], each["position"]) for each in positions] == [(265598, 10)]
    _, [row] = await told(simulator, "/iserver/marketdata/snapshot")
    assert float(row["84"]) < float(row["86"])
    assert row["55"] == "AAPL"
    _, history = await told(simulator, "/iserver/marketdata/history")
    assert all(each["l"] <= min(each["o"], each["c"]) for each in history["data"])


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/iserver/marketdata/snapshot", {"conids": "1"}),
        ("/iserver/marketdata/history", {"conid": "265598", "bar": "7min"}),
        ("/iserver/marketdata/history", {"conid": "265598", "period": "long"}),
        ("/iserver/contract/1/info", {"x": "1"}),
        ("/portfolio/U999/summary", {"x": "1"}),
    ],
)
async def test_what_is_wrong_is_a_bad_request(
    simulator: Simulator, path: str, query: dict[str, str]
) -> None:
    status, body = await told(simulator, path, **query)
    assert status == 400
    assert body["error"].startswith("Bad Request")
