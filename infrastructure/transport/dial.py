"""A TCP connection that begins before the SSH library is loaded: both take a round trip's time."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infrastructure.config.host import Host

SSH_PORT = 22


class Dial:
    """Connects to where stack.yaml says that the host is.

    `~/.ssh/config` may lead elsewhere: `take` gives the socket only for the right place.
    """

    def __init__(self, host: Host) -> None:
        self._place = (host.address, host.port or SSH_PORT)
        self._timeout = host.connect_timeout
        self._socket: socket.socket | None = None
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._socket = socket.create_connection(self._place, self._timeout)
        except OSError as error:
            self._error = error  # raised again by `take`

    def take(self, address: str, port: int) -> socket.socket | None:
        """The connected socket, once; None when it leads to another place.

        Raises:
            OSError: that place cannot be reached.
        """
        if (address, port) != self._place:
            return None
        self._thread.join()
        if self._error is not None:
            raise self._error
        found, self._socket = self._socket, None
        return found

    def close(self) -> None:
        """Closes what nobody took."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
