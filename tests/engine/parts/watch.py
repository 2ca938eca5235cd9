"""Asks a bridge without a pause, to see for how long it does not answer."""

import socket
import threading
import time

from infrastructure.health.probes import get

EVERY = 0.02
PATIENCE = 1.0


class Watch:
    """Within the `with` block; `longest` is the longest time between two answers of `/ping`.

    An answer counts when it has come, so that a request that hangs counts as well.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.longest = 0.0
        self.answers = 0

    def _look(self) -> None:
        last = time.monotonic()
        while not self._over.wait(EVERY):
            if self._answers():
                now = time.monotonic()
                self.longest = max(self.longest, now - last)
                self.answers += 1
                last = now
        self.longest = max(self.longest, time.monotonic() - last)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as stream:
                status, _ = get(stream, "/ping", "127.0.0.1")
        except (OSError, ValueError):
            return False
        return status == 200

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
