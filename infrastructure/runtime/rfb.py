"""A VNC client (RFC 6143) over a command's streams: types a code, takes a picture of the screen.

Runs on the host: standard library, Python 3.9. x11vnc speaks to the one who has started it, so it
needs neither a port nor a password, and ends with this.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import threading
import time
import zlib
from typing import IO, TYPE_CHECKING, cast
from zlib import crc32

from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.streamed import not_started

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS, ENDED_WITHIN = 25.0, 5.0
ENTER = 0xFF0D
_BIGGEST = 4096
"""Pixels in a row or a column; a display of the gateway's has a thousand."""


class Viewer:
    """One look at a screen, as a context; HostFailure when it cannot be had within `SECONDS`."""

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise not_started(command, error) from error
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._limit = threading.Timer(SECONDS, self._process.kill)
        self._limit.daemon = True
        self.width = self.height = 0

    def __enter__(self) -> Viewer:
        self._limit.start()
        try:
            self._greet()
        except HostFailure:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._limit.cancel()
        with contextlib.suppress(OSError):
            self._input.close()
        try:  # x11vnc ends when it is left; killed is only what leads to it
            self._process.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def type_line(self, text: str) -> None:
        """Presses the keys of a text in ASCII, and Enter."""
        for key in [*map(ord, text), ENTER]:
            for down in (1, 0):
                self._write(struct.pack(">BBxxI", 4, down, key))
        time.sleep(1)  # x11vnc has to come round to them before it is left

    def picture(self) -> bytes:
        """The screen as a PNG."""
        self._write(struct.pack(">Bxxx4B3H3Bxxx", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self._write(struct.pack(">BxHi", 2, 1, 0))  # plain pixels
        self._write(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
        pixels = bytearray(self.width * self.height * 4)
        left = self.width * self.height
        while left > 0:
            left -= self._update(pixels)
        return png(self.width, self.height, pixels)

    def _greet(self) -> None:
        if self._read(12)[:4] != b"RFB ":
            raise no_screen()
        self._write(b"RFB 003.003\n")
        if self._read(4) != b"\0\0\0\1":  # no password
            raise no_screen()
        self._write(b"\1")
        self.width, self.height = struct.unpack(">HH16x", self._read(20))
        (length,) = struct.unpack(">I", self._read(4))
        if not 0 < self.width <= _BIGGEST or not 0 < self.height <= _BIGGEST or length > _BIGGEST:
            raise no_screen()
        self._read(length)

    def _update(self, pixels: bytearray) -> int:
        """Takes one message; how many pixels came with it."""
        kind = self._read(1)[0]
        if kind == 1:  # colours of a palette, which is not used
            self._read(6 * struct.unpack(">xHH", self._read(5))[1])
        elif kind == 3:  # what somebody copied
            self._read(min(struct.unpack(">xxxI", self._read(7))[0], 1 << 20))
        elif kind == 0:
            (count,) = struct.unpack(">xH", self._read(3))
            return sum(self._rectangle(pixels) for _ in range(count))
        return 0

    def _rectangle(self, pixels: bytearray) -> int:
        left, top, width, height, encoding = struct.unpack(">HHHHi", self._read(12))
        if encoding or left + width > self.width or top + height > self.height:
            raise no_screen()
        for row in range(top, top + height):
            start = (row * self.width + left) * 4
            pixels[start : start + width * 4] = self._read(width * 4)
        return int(width * height)

    def _read(self, count: int) -> bytes:
        found = self._output.read(count)
        if len(found) < count:
            raise no_screen()
        return found

    def _write(self, content: bytes) -> None:
        try:
            self._input.write(content)
            self._input.flush()
        except OSError:
            raise no_screen() from None


def no_screen() -> HostFailure:
    """The gateway has no window that can be seen or typed into."""
    return HostFailure(
        "no-screen",
        "the gateway's screen cannot be reached",
        "does the gateway run, and does its image have x11vnc and socat? ./deploy.py status",
    )


def png(width: int, height: int, pixels: bytes | bytearray) -> bytes:
    """Pixels of 4 bytes (blue, green, red, unused) as a PNG without them."""
    rows = bytearray()
    for row in range(height):
        line = pixels[row * width * 4 : (row + 1) * width * 4]
        colours = bytearray(width * 3)
        colours[0::3], colours[1::3], colours[2::3] = line[2::4], line[1::4], line[0::4]
        rows += b"\0" + colours
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 6)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc32(name + content))
        for name, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
