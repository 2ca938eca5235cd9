from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulator.base.raw import ready, simulated

if TYPE_CHECKING:
    from simulator.app import Simulator


async def call(
    simulator: Simulator, method: str, path: str, body: object = None
) -> tuple[int, dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.ports["controlPort"])
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    answer = await reader.read()
    writer.close()
    first, _, rest = answer.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


async def test_faults_are_posted_listed_and_deleted() -> None:
    async with simulated() as simulator:
        status, fault = await call(
            simulator, "POST", "/faults", {"fault": "slow-login", "seconds": 5, "delay": 1}
        )
        assert (status, fault["fault"], fault["seconds"], fault["delay"]) == (
            200,
            "slow-login",
            5,
            1,
        )
        _, listed = await call(simulator, "GET", "/faults")
        assert [each["fault"] for each in listed["faults"]] == ["slow-login"]
        assert "drop-order-ack" in listed["names"]
        assert await call(simulator, "DELETE", "/faults") == (200, {"faults": []})


async def test_one_fault_can_be_deleted() -> None:
    async with simulated() as simulator:
        for name in ("accept-silent", "slow-login"):
            await call(simulator, "POST", "/faults", {"fault": name})
        _, left = await call(simulator, "DELETE", "/faults/accept-silent")
        assert [each["fault"] for each in left["faults"]] == ["slow-login"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"fault": "nonsense"}, 404),
        ({"fault": "fin", "seconds": -1}, 400),
        ({"fault": "fin", "seconds": "soon"}, 400),
        ({"fault": "fin", "name": "rst"}, 400),
        ({"fault": "fin", "since": 1}, 400),
        ({"fault": "slow-login", "delay": "soon"}, 400),
        ({"fault": "duplicate-status", "delay": -1}, 400),
        ({"fault": "fin", "secnods": 5}, 400),
        ([1], 400),
        (b"{", 400),
        ({}, 404),
    ],
)
async def test_wrong_faults_are_refused(body: object, status: int) -> None:
    async with simulated() as simulator:
        assert (await call(simulator, "POST", "/faults", body))[0] == status
        assert simulator.world.faults.shown() == []


async def test_the_clock_is_wound() -> None:
    async with simulated() as simulator:
        before = simulator.world.clock.time()
        status, _ = await call(simulator, "POST", "/clock", {"advance": 3600})
        assert status == 200
        assert simulator.world.clock.time() - before >= 3600
        assert (await call(simulator, "POST", "/clock", {"advance": -1}))[0] == 400
        assert (await call(simulator, "GET", "/clock"))[1]["wound"] == 3600


async def test_the_book_shows_every_client_and_what_it_sent() -> None:
    async with simulated() as simulator:
        client = await ready(simulator, 9)
        client.send(8, 1, 77)
        await client.until(9)
        _, book = await call(simulator, "GET", "/book")
        [shown] = book["clients"]
        assert (shown["clientId"], shown["ready"], shown["counts"]["8"]) == (9, True, 1)
        assert shown["received"][-1]["fields"] == ["8", "1", "77"]
        client.close()
        while simulator.world.sessions:
            await asyncio.sleep(0.01)
        _, book = await call(simulator, "GET", "/book")
        assert [each["clientId"] for each in book["departed"]] == [9]


async def test_unknown_routes_and_broken_requests_do_no_harm() -> None:
    async with simulated() as simulator:
        assert (await call(simulator, "GET", "/nothing"))[0] == 404
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.ports["controlPort"])
        writer.write(b"\x00\x01garbage\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
        assert (await call(simulator, "GET", "/faults"))[0] == 200
