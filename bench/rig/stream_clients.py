"""Many clients of `/stream` in one process, lean enough not to be what is measured.

`python -m bench.rig.stream_clients --port N --clients 50 --seconds 10` prints one JSON line: how
long ticks were under way, how many came, whether any is missing. A frame is taken apart by hand: a
full WebSocket library in one Python process would be busier than the server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from array import array
from collections import defaultdict
from typing import cast

import msgspec
import uvloop

from bench.rig.processes import KEY, quantile

HANDSHAKE = (
    "GET /stream HTTP/1.1\r\nHost: bench\r\nX-API-KEY: {key}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Number(msgspec.Struct):
    value: float | None


class Update(msgspec.Struct, rename="camel"):
    con_id: int
    last: Number | None = None
    last_size: Number | None = None


class Message(msgspec.Struct):
    seq: int
    type: str
    quotes: list[Update] = []
    conflated: int = 0
    snapshot: bool = False


_decoder = msgspec.json.Decoder(Message)


def masked(text: str) -> bytes:
    """A client's text frame, masked with zeros."""
    body = text.encode()
    head = (
        bytes([0x81, 0x80 | len(body)])
        if len(body) < 126
        else (bytes([0x81, 0x80 | 126]) + len(body).to_bytes(2, "big"))
    )
    return head + bytes(4) + body


class Client(asyncio.Protocol):
    """One stream: reads frames, keeps latencies and counts."""

    def __init__(self, symbols: list[str]) -> None:
        self.symbols = symbols
        self.delays = array("d")
        self.ticks = 0
        self.holes = 0
        self.missing = 0
        self.conflated = 0
        self.measuring = False
        self._buffer = bytearray()
        self._open = False
        self._sequence = 0
        self._counts: dict[int, int] = defaultdict(int)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(HANDSHAKE.format(key=KEY).encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in self._buffer[:20]:
                raise RuntimeError(bytes(self._buffer[:200]).decode("latin-1"))
            del self._buffer[: end + 4]
            self._open = True
            request = {"op": "subscribe", "channel": "quotes", "symbols": self.symbols}
            self.transport.write(masked(json.dumps(request)))
        while self._frame():
            pass

    def _frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        length, start = buffer[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + length:
            return False
        kind, body = buffer[0] & 0x0F, bytes(buffer[start : start + length])
        del buffer[: start + length]
        if kind == 1:
            self._message(_decoder.decode(body))
        elif kind == 9:
            self.transport.write(bytes([0x8A, 0x80 | len(body)]) + bytes(4) + body)
        return True

    def _message(self, message: Message) -> None:
        now = time.monotonic()
        if self._sequence and message.seq != self._sequence + 1:
            self.holes += 1
        self._sequence = message.seq
        self.conflated += message.conflated
        for update in message.quotes:
            if update.last is None or update.last.value is None or update.last_size is None:
                continue
            count = int(update.last_size.value or 0)
            before, self._counts[update.con_id] = self._counts[update.con_id], count
            if message.snapshot:
                continue
            if self.measuring and count != before + 1:
                self.missing += 1
            if self.measuring:
                self.ticks += 1
                self.delays.append(now - update.last.value)


async def run(port: int, clients: int, seconds: float, symbols: list[str], slow: int) -> None:
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(clients + slow):
        _, client = await loop.create_connection(lambda: Client(symbols), "127.0.0.1", port)
        made.append(client)
    await asyncio.sleep(2.0)
    for client in made[clients:]:
        client.transport.pause_reading()
    for client in made[:clients]:
        client.measuring = True
    await asyncio.sleep(seconds)
    quick = made[:clients]
    delays = [delay for client in quick for delay in client.delays]
    print(
        json.dumps(
            {
                "clients": clients,
                "ticksPerSecond": round(len(delays) / seconds / clients, 1),
                "p50": quantile(delays, 0.5) * 1000,
                "p99": quantile(delays, 0.99) * 1000,
                "max": max(delays) * 1000,
                "missing": sum(client.missing for client in quick),
                "holes": sum(client.holes for client in quick),
                "conflated": sum(client.conflated for client in quick),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--slow", type=int, default=0, help="further clients that read nothing")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--symbols", default="AAPL,MSFT,AMZN,GOOGL,META,NVDA,TSLA,AMD,INTC,NFLX")
    given = parser.parse_args()
    gc.disable()  # nothing here makes cycles, and a pause would be measured as the server's
    uvloop.run(run(given.port, given.clients, given.seconds, given.symbols.split(","), given.slow))
