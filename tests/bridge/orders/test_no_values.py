"""Random fields of the broker's order messages say "no value"; its own book is the judge."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulator.app import Simulator
from simulator.tws.connection import Connection
from tests.bridge.rig import BridgeProcess

FORMS = (
    b"",
    b"-1",
    b"NaN",
    b"Infinity",
    b"1.7976931348623157E308",
    b"2147483647",
    b"9223372036854775807",
    b"1180591620717411303424",
)
ABOUT_ORDERS = {b"3", b"5", b"11", b"59", b"101"}
ORDERS = 40


class Rewriter:
    """Puts a form of "none" into one number of every few messages about orders."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.on = True
        self.rewritten: Counter[str] = Counter()
        self._write = Connection.write

    def write(self, connection: Connection, data: bytes) -> None:
        fields = data[4:].split(b"\0")
        if self.on and fields[0] in ABOUT_ORDERS and self.chance.random() < 0.3:
            numbers = [place for place, field in enumerate(fields[1:-1], 1) if _number(field)]
            place = self.chance.choice(numbers)
            fields[place] = self.chance.choice(FORMS)
            body = b"\0".join(fields)
            data = len(body).to_bytes(4) + body
            self.rewritten[fields[0].decode()] += 1
        self._write(connection, data)


def _number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def asked(chance: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {
        "symbol": chance.choice(["AAPL", "MSFT", "NVDA"]),
        "action": "BUY",
        "quantity": chance.randint(1, 5),
    }
    if chance.random() < 0.5:
        return body | {"orderType": "LMT", "limitPrice": 1.0}
    return body | {"orderType": "MKT"}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_order_is_lost_and_none_ended_wrongly(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rewriter, chance = Rewriter(seed), random.Random(seed + 100)
    monkeypatch.setattr(Connection, "write", lambda *given: rewriter.write(*given))
    rules = tmp_path / "trading.json"
    rules.write_text('{"answer_within_seconds": 2, "max_open_orders": null}')
    bridge = await asyncio.to_thread(
        BridgeProcess, tmp_path / "bridge", simulator.tws.port, BRIDGE_TRADING_FILE=str(rules)
    )

    async def ask(method: str, path: str, **more: Any) -> Any:
        return await asyncio.to_thread(bridge.client.request, method, path, **more)

    try:
        await asyncio.to_thread(bridge.wait_for, "ready", 30.0)
        told = []
        for number in range(ORDERS):
            headers = {"Idempotency-Key": f"asked-{number}"}
            placed = await ask("POST", "/order", json=asked(chance), headers=headers)
            assert placed.status_code in {201, 504}, placed.text
            told.append(placed.json().get("order", placed.json())["orderId"])
            if chance.random() < 0.3:
                cancelled = await ask("DELETE", f"/order/{told[-1]}")
                assert cancelled.status_code in {200, 409, 504}, cancelled.text
        rewriter.on = False
        (await ask("POST", "/connection/reconnect")).raise_for_status()
        await asyncio.to_thread(bridge.wait_for, "ready", 30.0)

        async def difference() -> Any:
            """In what the bridge and the book do not agree; what was said last is on its way."""
            book = await _book(simulator)
            ours = (await ask("GET", "/orders", params={"limit": 200})).json()["orders"]
            assert len(ours) == len(book["orders"]) == ORDERS
            listed = (await ask("GET", "/executions", params={"limit": 500})).json()["executions"]
            return _statuses(ours) ^ _statuses(book["orders"]) | _fills(listed) ^ _fills(
                book["fills"]
            )

        assert sum(rewriter.rewritten.values()) > 20
        left: Any = None
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                while left := await difference():
                    await asyncio.sleep(0.1)
        assert left == set()
        assert not [each for each in bridge.events() if "exception" in each]
    finally:
        await asyncio.to_thread(bridge.stop)


def _statuses(orders: list[dict[str, Any]]) -> set[Any]:
    return {
        (each["orderRef"], each["status"].replace("ApiCancelled", "Cancelled"), each["filled"])
        for each in orders
    }


def _fills(executions: list[dict[str, Any]]) -> set[Any]:
    return {
        (each["execId"], each["quantity"], each["price"], each["commission"]) for each in executions
    }


async def _book(simulator: Simulator) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{simulator.ports['controlPort']}/book"
        found: dict[str, Any] = (await client.get(url)).json()
        return found
