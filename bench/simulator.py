"""The simulator: start, handshake, throughput, memory; over loopback, as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import struct
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench import Figure
from simulator.contracts.details import describe
from simulator.market.calendar import day_of
from simulator.options import Options
from simulator.tws.contracts import CONTRACT_DETAILS
from simulator.tws.session import Session
from simulator.tws.ticks import tick_price, tick_size
from simulator.tws.wire import text
from simulator.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HANDSHAKES = 200
DETAILS, ROUNDS = 10_000, 3
"""Requests in a round, and rounds: the best counts, as others may use the machine too."""
LINES = 100
TICKS = 200_000
END = b"52\x001\x00"
"""The beginning of contractDetailsEnd; no field of a stock's details ends or begins so."""
APPLE = (0, "AAPL", "STK", "", 0.0, "", "", "SMART", "", "USD", "", "")


def frame(*fields: object) -> bytes:
    body = "".join(f"{each}\0" for each in fields).encode()
    return struct.pack(">I", len(body)) + body


@asynccontextmanager
async def simulator(*arguments: str) -> AsyncIterator[tuple[int, int, float]]:
    """A running simulator: its port, its process id, and how long it took to be ready."""
    ports = ("--port", "0", "--portal-port", "0", "--control-port", "0")
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", *ports, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await process.stdout.readline())
        yield ready["port"], process.pid, time.perf_counter() - start
    finally:
        process.terminate()
        await process.wait()


async def connect(port: int, client_id: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has its next valid id."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(b"API\0" + frame_text(b"v157..178"))
    await message(reader)
    writer.write(frame(71, 2, client_id, ""))
    while not (await message(reader)).startswith(b"9\0"):
        pass
    return reader, writer


def frame_text(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


async def message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(struct.unpack(">I", await reader.readexactly(4))[0])


def resident(pid: int) -> float:
    """Resident memory in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in text.splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def processor_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def handshakes(port: int) -> float:
    """The median from connecting to the next valid id, in milliseconds."""
    times = []
    for number in range(HANDSHAKES):
        start = time.perf_counter()
        _, writer = await connect(port, 100 + number)
        times.append(time.perf_counter() - start)
        writer.close()
    return statistics.median(times) * 1000


async def contract_details(port: int) -> float:
    """Answers a second to requests that are all sent at once."""
    reader, writer = await connect(port, 1)
    requests = b"".join(frame(9, 8, number, *APPLE, 0, "", "", "") for number in range(DETAILS))
    start = time.perf_counter()
    writer.write(requests)
    ended = 0
    tail = b""
    while ended < DETAILS:
        data = tail + await reader.read(1 << 20)
        ended += data.count(END)
        tail = data[-(len(END) - 1) :]
    seconds = time.perf_counter() - start
    writer.close()
    return DETAILS / seconds


async def lines(port: int, pid: int) -> float:
    """Resident memory while a client reads a hundred lines, in MB."""
    reader, writer = await connect(port, 2)
    for number in range(LINES):
        writer.write(frame(1, 11, number, *APPLE, 0, "", 0, 0, ""))
    end = time.perf_counter() + 2
    while time.perf_counter() < end:
        await message(reader)
    writer.close()
    return resident(pid)


class Drain:
    """A client's connection that swallows what it gets, as the kernel would."""

    writable = True

    def __init__(self) -> None:
        self.last = b""

    def write(self, data: bytes) -> None:
        self.last = data

    def close(self) -> None:
        """There is nothing to close."""

    abort = session_ready = close


def ticks_encoded() -> float:
    """Tick messages a second through a session, framed."""
    session = Session(World(Options()), Drain(), 178)
    start = time.perf_counter()
    for number in range(TICKS // 2):
        tick_price(session, 7, 1, 231.5 + number % 7 / 100, 300.0, 1)
        tick_size(session, 7, 0, 300.0 + number % 9)
    return TICKS / (time.perf_counter() - start)


class Taker:
    """Takes what a decoder makes of messages and does nothing with it."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def library_reads(data: list[list[str]]) -> float:
    """Messages a second that ib_async's decoder takes."""
    from ib_async.decoder import Decoder

    interpret: Any = Decoder(cast("Any", Taker()), 178).interpret
    start = time.perf_counter()
    for fields in data:
        interpret(list(fields))
    return len(data) / (time.perf_counter() - start)


def samples() -> list[list[str]]:
    """A few thousand contractDetails messages as a client has them."""
    world = World(Options())
    apple = world.catalog.instruments[265598].contract
    content = describe(world.catalog, apple, day_of(world.clock.time())) | {"request_id": 1}
    details = [text(each) for each in CONTRACT_DETAILS.values(178, content)]
    return [details] * 3000


async def _measured() -> list[Figure]:
    async with simulator("--rate-limit", "0") as (port, pid, seconds):
        handshake = await handshakes(port)
        idle = resident(pid)
        streaming = await lines(port, pid)
        spent = processor_seconds(pid)
        details = [await contract_details(port) for _ in range(ROUNDS)]
        spent = processor_seconds(pid) - spent
        answered = resident(pid)
    return [
        Figure("ready for a client from start", seconds, "s", 1.0),
        Figure("handshake to ready, p50", handshake, "ms", 5.0),
        Figure(
            "contractDetails answered, pipelined",
            max(details),
            "/s",
            10_000,
            least=True,
            alternative=await asyncio.to_thread(library_reads, samples()),
            beside="/s decoded by ib_async",
        ),
        Figure("the same by second of its processor", ROUNDS * DETAILS / spent, "/s", least=True),
        Figure("ticks encoded", ticks_encoded(), "/s", 50_000, least=True),
        Figure("resident after 200 clients", idle, "MB", 45),
        Figure("resident with 100 lines", streaming, "MB", 45),
        Figure("resident after all those answers", answered, "MB"),
    ]


def figures() -> list[Figure]:
    """Every figure of the simulator."""
    return asyncio.run(_measured())
