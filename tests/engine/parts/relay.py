"""A TCP relay that delays both directions, counts connections and client turns, and can cut."""

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Listens on `port`. A client turn is a burst from the client after the server had spoken."""

    target: int
    delay: float = 0.0
    port: int = 0
    connections: int = 0
    turns: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event | None = None
    _thread: threading.Thread | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def __enter__(self) -> "Relay":
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)))
        self._thread.start()
        if not ready.wait(10):
            raise AssertionError("the relay did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop and self._stop and self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def reset(self) -> None:
        self.connections = self.turns = 0

    def cut(self) -> None:
        """Breaks every connection at once."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _run(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        self._abort()
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # Connecting costs a round trip too.
        await asyncio.sleep(self.delay * 2)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, far_writer}
        self.turns += 1
        spoken = [False]
        await asyncio.gather(
            self._pump(reader, far_writer, spoken, client=True),
            self._pump(far_reader, writer, spoken, client=False),
            return_exceptions=True,
        )

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        spoken: list[bool],
        *,
        client: bool,
    ) -> None:
        """Forwards each chunk `delay` seconds after it came, in order."""
        pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.ensure_future(self._send(pending, writer))
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 16):
                if client and spoken[0]:
                    self.turns += 1
                spoken[0] = not client
                pending.put_nowait((time.monotonic() + self.delay, chunk))
        pending.put_nowait((time.monotonic() + self.delay, b""))
        await sender

    async def _send(
        self, pending: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, chunk = await pending.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
