"""Orders are begun at once; reads in turn, and slower where the processor comes in portions."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from bridge.api.connections import KNOWN, MOST_PIPELINED, Connections
from bridge.api.turns import AT_ONCE, HURRY_APART, HURRY_SECONDS, Pace, Turns
from tests.bridge.wound import WoundClock


class Processor:
    """What the process has used of it."""

    def __init__(self) -> None:
        self.used = 0.0

    def __call__(self) -> float:
        return self.used


async def passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Line:
    """A line of reads on a clock that is wound; each takes `each` seconds of the processor."""

    def __init__(self, each: float = 0.0) -> None:
        self.clock, self.processor = WoundClock(), Processor()
        self.turns = Turns(self.clock, Pace(self.processor))
        self.begun: list[int] = []
        self._each = each

    def ask(self, count: int) -> None:
        for number in range(count):
            self.turns.read(partial(self._begin, number))

    def _begin(self, number: int) -> None:
        self.begun.append(number)
        self.clock.advance(self._each)
        self.processor.used += self._each

    async def standstill(self, *, worked: float, stood: float) -> None:
        """A busy loop works so long, and is then without a processor for so long."""
        self.turns.read(lambda: None)
        self.clock.advance(worked + stood)
        self.processor.used += worked
        await passes(2)


async def test_a_few_reads_are_begun_in_a_pass_in_the_order_in_which_they_came() -> None:
    line = Line()
    line.ask(3 * AT_ONCE - 1)
    assert line.begun == list(range(AT_ONCE))
    await passes(1)
    assert line.begun == list(range(2 * AT_ONCE))
    await passes(1)
    assert line.begun == list(range(3 * AT_ONCE - 1))
    await passes(2)
    line.ask(AT_ONCE)
    assert len(line.begun) == 4 * AT_ONCE - 1


async def test_who_reads_something_else_does_not_wait_for_hundreds_of_one_kind() -> None:
    line = Line()
    line.ask(100)
    positions: list[int] = []
    for number in range(2):
        line.turns.read(partial(positions.append, number), "positions")
    before = len(line.begun)
    await passes(1)
    assert positions == [0, 1]
    assert len(line.begun) == before + AT_ONCE - 2
    assert len(line.turns) == 100 - len(line.begun)
    await passes(100)
    assert line.begun == list(range(100))
    assert not line.turns


async def test_reads_are_held_back_while_an_order_is_on_its_way_but_go_on() -> None:
    line = Line()
    line.ask(1)
    line.turns.hurry()
    line.ask(100)
    await passes(5)
    assert len(line.begun) == 1
    await line.clock.wind(HURRY_APART * 3.5)
    assert len(line.begun) == 4
    line.turns.calm()
    await line.clock.wind(HURRY_APART)
    assert len(line.begun) > 10


async def test_an_order_that_waits_for_the_broker_does_not_hold_reads_back_for_ever() -> None:
    line = Line()
    line.turns.hurry()
    line.ask(200)
    await line.clock.wind(HURRY_SECONDS - HURRY_APART)
    assert len(line.begun) < 30
    await line.clock.wind(2 * HURRY_APART)
    await passes(60)
    assert len(line.begun) == 200


async def test_of_two_orders_the_second_one_counts_too() -> None:
    line = Line()
    line.ask(1)
    line.turns.hurry()
    line.turns.hurry()
    line.turns.calm()
    line.ask(50)
    await passes(20)
    assert len(line.begun) == 1


async def taken_in_a_second(line: Line) -> float:
    """The share of the processor that endless reads take."""
    used = line.processor.used
    line.ask(3000)
    await line.clock.wind(1.0)
    return line.processor.used - used


async def test_portions_of_the_processor_are_noticed_and_some_of_each_is_left() -> None:
    line = Line(each=0.0005)
    await line.standstill(worked=0.025, stood=0.075)
    await line.standstill(worked=0.025, stood=0.075)
    assert 0.10 < await taken_in_a_second(line) < 0.20


@pytest.mark.parametrize(
    ("worked", "stood", "times"),
    [(0.025, 0.075, 1), (0.09, 0.01, 3), (0.2, 0.03, 3), (0.01, 5.0, 3)],
    ids=["once", "short", "rare", "asleep"],
)
async def test_other_standstills_slow_nothing_down(worked: float, stood: float, times: int) -> None:
    line = Line()
    for _ in range(times):
        await line.standstill(worked=worked, stood=stood)
    line.ask(400)
    await passes(120)
    assert len(line.begun) == 400


async def test_a_machine_that_became_faster_is_used_again() -> None:
    line = Line()
    for _ in range(2):
        await line.standstill(worked=0.025, stood=0.075)
    line.ask(1)
    await line.clock.wind(15)
    line.ask(400)
    await passes(120)
    assert len(line.begun) == 401


# over sockets -------------------------------------------------------------------------------------


class Served:
    """Connections to an application that notes what it was asked, in the order of beginning.

    It believes whoever sends a key.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.connections = Connections()
        self.go_on = asyncio.Event()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        if (b"x-api-key", b"good") in scope["headers"]:
            scope["extensions"][KNOWN]()
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def open(self, count: int) -> tuple[asyncio.Server, list[socket.socket]]:
        http, _ = self.connections.protocols()
        config = uvicorn.Config(
            self.app, interface="asgi3", log_config=None, lifespan="off", proxy_headers=False
        )
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: http(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
            "127.0.0.1",
            0,
        )
        address = server.sockets[0].getsockname()
        opened = [socket.create_connection(address) for _ in range(count)]
        while len(self.connections) < count:
            await asyncio.sleep(0.001)
        return server, opened


def request(method: str, path: str, key: str = "good") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nX-API-KEY: {key}\r\n"
    return f"{head}Content-Length: 0\r\n\r\n".encode()


async def test_an_order_is_begun_before_the_reads_that_came_with_it() -> None:
    served = Served()
    server, clients = await served.open(62)
    try:
        for client in clients[:-2]:
            client.sendall(request("GET", "/history"))
        clients[-2].sendall(request("GET", "/ping"))
        clients[-1].sendall(request("POST", "/order"))
        async with asyncio.timeout(20):
            while "POST /order" not in served.asked:
                await asyncio.sleep(0)
        assert served.asked.index("POST /order") < 3 * AT_ONCE
        assert "GET /ping" in served.asked
        served.go_on.set()
        async with asyncio.timeout(20):
            while len(served.asked) < 62:
                await asyncio.sleep(0.001)
    finally:
        for client in clients:
            client.close()
        server.close()


async def test_reads_do_not_wait_for_many_of_what_there_is_not() -> None:
    """Without a key anybody can ask for any address; each kind of read has a line of its own."""
    served = Served()
    served.connections = Connections(kinds={"positions"})
    server, clients = await served.open(62)
    try:
        for number, client in enumerate(clients[:-1]):
            client.sendall(request("GET", f"/none-{number}", key="wrong"))
        clients[-1].sendall(request("GET", "/positions"))
        async with asyncio.timeout(20):
            while "GET /positions" not in served.asked:
                await asyncio.sleep(0)
        assert served.asked.index("GET /positions") < 4 * AT_ONCE
    finally:
        served.go_on.set()
        for client in clients:
            client.close()
        server.close()


async def test_what_comes_behind_a_body_in_one_piece_is_not_kept_beyond_the_bound() -> None:
    """Of many peers at once it would be more than there is memory, before any of them is ended."""
    served = Served()
    server, clients = await served.open(1)
    try:
        (connection,) = (cast("Any", each) for each in served.connections._unknown)
        body = b"POST /order HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + bytes(5000)
        connection.data_received(body + b"GET /x HTTP/1.1\r\n\r\n" * 1000)
        assert len(connection.pipeline) == MOST_PIPELINED
        assert connection.transport.is_closing()
    finally:
        served.go_on.set()
        for client in clients:
            client.close()
        server.close()


def holding(turns: Turns) -> list[str]:
    """What comes to hold reads back, and to let them go, in its order."""
    held: list[str] = []
    turns.hurry = lambda: held.append("hurry")  # type: ignore[method-assign]
    turns.calm = lambda: held.append("calm")  # type: ignore[method-assign]
    return held


async def test_only_who_has_shown_a_key_holds_reads_of_others_back() -> None:
    served = Served()
    server, clients = await served.open(2)
    held = holding(served.connections.turns)
    try:
        clients[0].sendall(request("POST", "/order", key="wrong"))
        clients[1].sendall(request("POST", "/order"))
        async with asyncio.timeout(20):
            while len(served.asked) < 2:
                await asyncio.sleep(0.001)
        assert held == ["hurry"]
        served.go_on.set()
        async with asyncio.timeout(20):
            while held != ["hurry", "calm"]:
                await asyncio.sleep(0.001)
    finally:
        for client in clients:
            client.close()
        server.close()


async def test_an_order_whose_client_hangs_up_holds_nothing_back_any_longer() -> None:
    served = Served()
    server, clients = await served.open(1)
    held = holding(served.connections.turns)
    try:
        clients[0].sendall(request("POST", "/order"))
        async with asyncio.timeout(20):
            while not held:
                await asyncio.sleep(0.001)
        clients[0].close()
        async with asyncio.timeout(20):
            while held != ["hurry", "calm"]:
                await asyncio.sleep(0.001)
    finally:
        served.go_on.set()
        server.close()
