"""A gateway turned hostile: a relay before the simulator that can pour messages of its own."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time


def message(*fields: object) -> bytes:
    """One message of the gateway's."""
    payload = b"".join(str(field).encode() + b"\0" for field in fields)
    return struct.pack(">I", len(payload)) + payload


class Between:
    """Relays one client after another; `pour` writes to the newest one, between whole messages."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._client: socket.socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._behind))
            self._client = client
            threading.Thread(target=self._relay_up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._relay_down, args=(server, client), daemon=True).start()

    @staticmethod
    def _relay_up(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)
        server.close()

    def _relay_down(self, server: socket.socket, client: socket.socket) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                held += data
                end = 0
                while len(held) - end > 4:
                    size = struct.unpack_from(">I", held, end)[0]
                    if len(held) - end - 4 < size:
                        break
                    end += 4 + size
                whole, held = held[:end], held[end:]
                with self._lock:
                    client.sendall(whole)
        client.close()

    def pour(self, data: bytes, seconds: float) -> int:
        """Sends the same (whole messages) again and again; the bytes that were taken."""
        deadline, sent, client = time.monotonic() + seconds, 0, self._client
        assert client is not None
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                with self._lock:
                    client.sendall(data)
                sent += len(data)
                time.sleep(0)
        return sent

    def close(self) -> None:
        """Ends it."""
        self._listener.close()
        if self._client is not None:
            self._client.close()
