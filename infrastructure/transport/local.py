"""This machine as the host: the same programs, without SSH."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
from typing import IO, TYPE_CHECKING, cast

from infrastructure.transport.base import Collector, Transport, by_lines, lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK = 65_536


class LocalProgram:
    """The program of the host as a child process of this one, for a sandbox."""

    def __init__(self, command: Sequence[str], name: str = "this machine") -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._held = bytearray()
        errors = cast("IO[bytes]", self._process.stderr)
        self._errors = Collector(iter(lambda: errors.read(CHUNK), b""))

    def write(self, data: bytes) -> None:
        """Sends to its standard input."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._input.write(view) :]
        except (BrokenPipeError, ValueError):  # ended, or closed after it ended
            raise lost(self.name) from None

    def close_input(self) -> None:
        """Ends its standard input."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def lines(self, silence: float | None = None) -> Iterator[bytes]:
        """Its standard output, line by line."""
        yield from by_lines(self._receive, self._held, self.name, silence)
        if self._held:
            yield bytes(self._held)

    def _receive(self, seconds: float | None) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise TimeoutError
        return self._output.read(CHUNK)

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._errors.read()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close() if pipe is not None else None

    def errors(self) -> bytes:
        """What it wrote to standard error."""
        return self._errors.read()


class LocalTransport(Transport):
    """Runs programs as children of this process."""

    name = "this machine"

    def start(self, command: Sequence[str]) -> LocalProgram:
        """Starts a child in a session of its own, so that Ctrl-C reaches only us."""
        return LocalProgram(command)

    @contextlib.contextmanager
    def forward(self, address: str, port: int, local_port: int) -> Iterator[int]:
        """What lies on loopback is its own end; to anything else a small relay leads."""
        if address == "127.0.0.1":
            yield port
            return
        with super().forward(address, port, local_port) as bound:
            yield bound

    def dial(self, address: str, port: int) -> socket.socket:
        """A connection of our own."""
        return socket.create_connection((address, port))

    def close(self) -> None: ...
