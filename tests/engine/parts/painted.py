"""Paints on the stand-in's display, and asks where its pointer is, in plain X11.

Run inside the gateway's container: `docker exec … python - [paint|pointer]`. The display has
little of its own to show, and the image no X11 program. Prints `x y` for `pointer`.
"""

import socket
import struct
import sys

CREATE_CONTEXT, FILL_RECTANGLE, QUERY_POINTER = 55, 70, 38
FOREGROUND, SUBWINDOWS = 1 << 2, 1 << 15
OVER_THEM = 1
"""Also over the windows that lie on the root's."""
COLUMNS, ROWS, SIZE = 8, 6, 128
"""Squares of a picture of 1024 x 768."""


class Display:
    """A connection to display :1, which lets anybody in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect("/tmp/.X11-unix/X1")
        self._socket.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
        head = self._read(8)
        setup = self._read(4 * struct.unpack_from("<H", head, 6)[0])
        self._base = struct.unpack_from("<I", setup, 4)[0]
        vendor, formats = struct.unpack_from("<H", setup, 16)[0], setup[21]
        self._root = struct.unpack_from("<I", setup, 32 + (vendor + 3) // 4 * 4 + 8 * formats)[0]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._socket.recv(size - len(data))
        return data

    def square(self, number: int, colour: int) -> None:
        """Fills one square of the picture."""
        context = self._base + number
        self._socket.sendall(
            struct.pack(
                "<BBHIIIII",
                *(CREATE_CONTEXT, 0, 6, context, self._root, FOREGROUND | SUBWINDOWS),
                *(colour, OVER_THEM),
            )
        )
        place = number % COLUMNS * SIZE, number // COLUMNS * SIZE
        self._socket.sendall(
            struct.pack("<BBHIIhhHH", FILL_RECTANGLE, 0, 5, self._root, context, *place, SIZE, SIZE)
        )

    def pointer(self) -> tuple[int, int]:
        """Where it is."""
        self._socket.sendall(struct.pack("<BBHI", QUERY_POINTER, 0, 2, self._root))
        x, y = struct.unpack_from("<hh", self._read(32), 16)
        return x, y


def main() -> None:
    """One of the two."""
    display = Display()
    if sys.argv[1:] == ["paint"]:
        for number in range(COLUMNS * ROWS):
            display.square(number, number * 1361 & 0xFFFF)
    print(*display.pointer())  # an answer: what was sent before it is done


main()
