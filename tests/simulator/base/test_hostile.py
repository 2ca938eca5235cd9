from __future__ import annotations

import asyncio
import random
import struct
import tracemalloc
from contextlib import suppress

import pytest

from tests.simulator.base.raw import STOCK, connected, framed, ready, simulated, until_true


async def still_serves(simulator: object) -> None:
    client = await ready(simulator, 4242)  # type: ignore[arg-type]
    client.send(8, 1, 1)
    await client.until(9)
    client.close()


async def ended(client: object) -> None:
    with suppress(ConnectionResetError):
        await client.closed()  # type: ignore[attr-defined]


async def test_random_bytes_end_the_connection_only() -> None:
    draw = random.Random(7)
    async with simulated() as simulator:
        for _ in range(60):
            client = await connected(simulator)
            client.writer.write(b"API\0"[: draw.randrange(5)] + draw.randbytes(300))
            client.writer.write_eof()
            await ended(client)
        await still_serves(simulator)
        await until_true(lambda: not simulator.world.sessions)


async def test_random_frames_after_start_are_answered_or_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    draw = random.Random(8)
    async with simulated(rate_limit=0) as simulator:
        client = await ready(simulator)
        texts = ["", "0", "1", "-1", "99999999999", "1e999", "nan", "AAPL", "STK", "SMART", "\xff"]
        for message_id in [*range(120), *range(120)]:
            fields = [draw.choice(texts) for _ in range(draw.randrange(40))]
            client.send(message_id if message_id != 71 else 8, *fields)
        client.send(8, 1, 1)
        await client.until(9)
        assert not caplog.records
        await still_serves(simulator)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 512 * 1024 + 1])
async def test_a_huge_length_is_not_waited_for(length: int) -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        client.writer.write(struct.pack(">I", length))
        await ended(client)
        await still_serves(simulator)


async def test_partial_frames_are_put_together() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        for byte in framed(8, 1, 1):
            client.writer.write(bytes((byte,)))
            await client.writer.drain()
        assert await client.until(9)


async def test_a_thousand_connections_are_held_and_let_go() -> None:
    async with simulated() as simulator:
        clients = await asyncio.gather(*(connected(simulator) for _ in range(1000)))
        await still_serves(simulator)
        for client in clients:
            client.close()
        await until_true(lambda: not simulator.tws.connections)
        await still_serves(simulator)


async def test_what_a_client_sends_does_not_pile_up() -> None:
    async with simulated(rate_limit=0) as simulator:
        client = await ready(simulator)
        tracemalloc.start()
        try:
            for _ in range(30):
                for _ in range(20):
                    client.send(999, 1, 5, "x" * 100_000)
                await client.writer.drain()
                client.send(8, 1, 1)
                await client.until(9)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 12 * 1024 * 1024
        [connection] = simulator.tws.connections
        assert connection.session is not None
        assert sum(len(text) for _, text in connection.session.received) <= 1_100_000


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with simulated(rate_limit=0) as simulator:
        client = await ready(simulator)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        contract = (0, "SPX", "OPT", "", 0.0, "", "", "SMART", "", "USD", "", "")
        for request in range(3):
            client.send(9, 8, request, *contract, 0, "", "", "")
        for request in range(5000):
            client.send(9, 8, 100 + request, *STOCK, 0, "", "", "")
        await asyncio.sleep(0.5)
        [connection] = simulator.tws.connections
        assert connection.transport.get_write_buffer_size() < 4 * 1024 * 1024
        await still_serves(simulator)
