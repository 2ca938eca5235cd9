"""Orders of other programs and of people in TWS: two bridges at one simulated gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from simulator.app import Simulator
from simulator.contracts.contract import Query
from simulator.options import Options
from simulator.trading.terms import Terms
from tests.bridge.rig import ADMIN_KEY, BridgeProcess, eventually

OURS, THEIRS = 1, 7
RESTING = {"symbol": "AAPL", "action": "BUY", "quantity": 3, "orderType": "LMT", "limitPrice": 1.0}


class Party:
    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder = folder
        self.simulator = simulator
        self.processes: list[BridgeProcess] = []
        self.clients: list[httpx.AsyncClient] = []

    async def bridge(self, client_id: int) -> Program:
        folder = self.folder / f"client-{client_id}"
        process = await asyncio.to_thread(
            lambda: BridgeProcess(folder, self.simulator.tws.port, BRIDGE_CLIENT_ID=str(client_id))
        )
        self.processes.append(process)
        await asyncio.to_thread(process.wait_for, "ready")
        client = httpx.AsyncClient(
            base_url=process.url, headers={"X-API-KEY": ADMIN_KEY}, timeout=20, trust_env=False
        )
        self.clients.append(client)
        return Program(process, client)

    async def end(self) -> None:
        for client in self.clients:
            await client.aclose()
        for process in self.processes:
            await asyncio.to_thread(process.stop)

    def enter_by_hand(self, **said: str) -> Any:
        """What a person does in TWS."""
        trading = self.simulator.world.trading
        assert trading is not None
        now = self.simulator.world.clock.time()
        contract = self.simulator.world.catalog.resolve(
            Query(symbol="AAPL", sec_type="STK", exchange="SMART", currency="USD"), now
        )
        sent = {
            "action": "SELL",
            "totalQuantity": "4",
            "orderType": "LMT",
            "lmtPrice": "999",
            "tif": "GTC",
            "transmit": "1",
            **said,
        }
        return trading.place_manual(contract, Terms.read(sent))

    def statuses(self) -> list[str]:
        return [each["status"] for each in self.simulator.world.book()["orders"]]


class Program:
    def __init__(self, process: BridgeProcess, client: httpx.AsyncClient) -> None:
        self.process = process
        self.client = client

    async def place(self, **body: Any) -> Any:
        headers = {"Idempotency-Key": str(body)}
        answer = await self.client.post("/order", json=RESTING | body, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def everyone(self) -> list[dict[str, Any]]:
        answer = await self.client.get("/orders", params={"all": "true"})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["orders"]
        return found


@asynccontextmanager
async def gathering(folder: Path, master: int | None = OURS) -> AsyncIterator[Party]:
    options = Options(port=0, portal_port=0, control_port=0, master_client_id=master)
    async with Simulator(options) as simulator:
        party = Party(folder, simulator)
        try:
            yield party
        finally:
            await party.end()


async def test_an_order_of_another_client_is_listed_and_cancelled_when_that_is_gone(
    tmp_path: Path,
) -> None:
    async with gathering(tmp_path) as party:
        ours, theirs = await party.bridge(OURS), await party.bridge(THEIRS)
        mine = await ours.place(limitPrice=1.1)
        other = await theirs.place()
        first, second = await ours.everyone()
        assert second["orderId"] == mine["orderId"]
        name = f"perm-{other['permId']}"
        shown = {"orderId": name, "clientId": THEIRS, "role": "other", "status": "Submitted"}
        assert {each: first[each] for each in shown} == shown
        assert (first["quantity"], first["limitPrice"], first["createdAt"]) == (3, 1.0, None)
        alone = (await ours.client.get("/orders")).json()["orders"]
        assert [each["orderId"] for each in alone] == [mine["orderId"]]
        assert (await ours.client.get(f"/order/{name}")).json()["clientId"] == THEIRS
        changed = await ours.client.patch(f"/order/{name}", json={"quantity": 1})
        assert changed.status_code == 404

        taken = await ours.client.delete(f"/order/{name}")
        assert (taken.status_code, taken.json()["code"]) == (409, "client-id-in-use"), taken.text
        assert "client id 7 is connected" in taken.json()["detail"]
        assert party.statuses() == ["Submitted", "Submitted"]
        await asyncio.to_thread(theirs.process.stop)
        done = await ours.client.delete(f"/order/{name}")
        assert (done.status_code, done.json()["status"]) == (200, "Cancelled"), done.text
        assert sorted(party.statuses()) == ["Cancelled", "Submitted"]
        requests = party.simulator.world.book()["requests"]
        assert not [each for each in requests if each["message"] == "reqGlobalCancel"]
        gone = await ours.client.delete(f"/order/{name}")
        assert (gone.status_code, gone.json()["code"]) == (404, "unknown-order")
        assert (await ours.client.get("/ready")).status_code == 200
        audited = (await ours.client.get("/audit")).json()["entries"]
        assert any(each["target"] == name and each["result"] == "ok" for each in audited)


async def test_one_entered_by_hand_is_cancelled_under_client_0(tmp_path: Path) -> None:
    async with gathering(tmp_path) as party:
        ours = await party.bridge(OURS)
        order = party.enter_by_hand()
        (shown,) = await ours.everyone()
        assert (shown["clientId"], shown["action"], shown["quantity"]) == (0, "SELL", 4)
        done = await ours.client.delete(f"/order/perm-{order.perm_id}")
        assert (done.status_code, done.json()["status"]) == (200, "Cancelled"), done.text
        assert party.statuses() == ["Cancelled"]


async def test_only_a_key_of_scope_admin_reaches_them(tmp_path: Path) -> None:
    async with gathering(tmp_path) as party:
        ours = await party.bridge(OURS)
        order = party.enter_by_hand()
        made = await ours.client.post("/keys", json={"label": "phone", "scope": "trade"})
        assert made.status_code == 201, made.text
        headers = {"X-API-KEY": made.json()["key"]}
        refused = await ours.client.delete(f"/order/perm-{order.perm_id}", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert party.statuses() == ["Submitted"]


async def test_its_own_orders_are_known_by_their_permanent_id_as_well(tmp_path: Path) -> None:
    async with gathering(tmp_path) as party:
        ours = await party.bridge(OURS)
        mine = await ours.place()
        assert [each["orderId"] for each in await ours.everyone()] == [mine["orderId"]]
        name = f"perm-{mine['permId']}"
        assert (await ours.client.get(f"/order/{name}")).json()["orderId"] == mine["orderId"]
        done = await ours.client.delete(f"/order/{name}")
        assert (done.status_code, done.json()["orderId"]) == (200, mine["orderId"])


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_fill_of_another_client_arrives_at_once(tmp_path: Path, by_hand: bool) -> None:
    """In the executions and in the stream: the bridge is the gateway's master client."""
    async with gathering(tmp_path) as party:
        ours = await party.bridge(OURS)
        theirs = None if by_hand else await party.bridge(THEIRS)
        url = ours.process.url.replace("http", "ws") + "/stream"
        async with websockets.connect(url, additional_headers={"X-API-KEY": ADMIN_KEY}) as stream:
            await stream.send('{"op": "subscribe", "channel": "executions"}')
            await stream.recv()
            if theirs is None:
                party.enter_by_hand(action="BUY", totalQuantity="3", orderType="MKT", lmtPrice="")
            else:
                await theirs.place(orderType="MKT", limitPrice=None)
            async with asyncio.timeout(30):
                while "execId" not in (said := str(await stream.recv())):
                    pass
        assert '"AAPL"' in said

        async def kept() -> Any:
            return (await ours.client.get("/executions")).json()["executions"]

        (fill,) = await eventually(kept)
        assert fill["quantity"] == 3
