"""Many requests at once over a few connections, with next to no work of the client's own."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from bench.rig.processes import KEY

if TYPE_CHECKING:
    from collections.abc import Callable


class Connection(asyncio.Protocol):
    """Sends a request, and the next one as soon as the answer is whole.

    `request` makes the bytes of one; None: no more. `taken` are seconds an answer.
    """

    def __init__(self, request: Callable[[], bytes | None], taken: list[float]) -> None:
        self._request = request
        self._taken = taken
        self._buffer = b""
        self._begun = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            self.done.set_exception(RuntimeError(f"{head[:40]!r} {rest[:300]!r}"))
            return
        self._taken.append(time.perf_counter() - self._begun)
        self._buffer = rest[length:]
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the bridge has hung up"))

    def _next(self) -> None:
        request = self._request()
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._begun = time.perf_counter()
        self._transport.write(request)


def request_of(path: str, method: str = "GET", body: bytes = b"", *headers: str) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"X-API-KEY: {KEY}", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def load(port: int, request: Callable[[], bytes | None], at_once: int) -> list[float]:
    """Seconds that each answer took; raises for an answer that is neither 200 nor 201."""
    taken: list[float] = []
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Connection(request, taken), "127.0.0.1", port)
        for _ in range(at_once)
    ]
    await asyncio.gather(*(connection.done for _, connection in opened))
    return taken


def repeated(request: bytes, count: int) -> Callable[[], bytes | None]:
    """The same request so many times, whichever connection asks for it."""
    left = iter(range(count))
    return lambda: request if next(left, None) is not None else None
