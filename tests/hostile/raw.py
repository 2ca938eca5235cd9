"""A WebSocket client without manners, over a plain socket."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.bridge.rig import BridgeProcess

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """One frame of a client's."""
    first = (0x80 if fin else 0) | opcode
    bit = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + (b"\0\0\0\0" if mask else b"") + payload  # masked with zeros: as it is


class Raw:
    """One connection; `small` keeps the kernel's receive buffer small, so that nobody reads."""

    def __init__(self, bridge: BridgeProcess, *, small: bool = False) -> None:
        host, _, port = bridge.url.removeprefix("http://").partition(":")
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(30)
        self.socket.connect((host, int(port)))

    def upgrade(self, key: str | None = None, *, wait: bool = True) -> bytes:
        """The handshake; the answer's head."""
        lines = [
            "GET /stream HTTP/1.1",
            "Host: bridge",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *([f"X-API-KEY: {key}"] if key else []),
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while wait and b"\r\n\r\n" not in head:
            part = self.socket.recv(1)
            if not part:
                break
            head += part
        return head

    def ended(self, seconds: float) -> bool:
        """Whether the other side has ended it within this time; reads whatever comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.05, deadline - time.monotonic()))
            try:
                if not self.socket.recv(65_536):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def pour(self, data: bytes, seconds: float) -> int:
        """Sends the same again and again until the time is up or the other side ends it."""
        deadline, sent = time.monotonic() + seconds, 0
        self.socket.settimeout(0.2)
        while time.monotonic() < deadline:
            try:
                sent += self.socket.send(data)
            except TimeoutError:
                continue
            except OSError:
                break
        return sent

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self.socket.close()


@contextmanager
def connections(make: Iterable[Raw]) -> Iterator[list[Raw]]:
    """Several, closed at the end."""
    made = list(make)
    try:
        yield made
    finally:
        for each in made:
            each.close()
