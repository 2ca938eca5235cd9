"""A port of 127.0.0.1 here that passes connections on, through SSH or directly."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 65_536
log = logging.getLogger(__name__)


class Server(socketserver.ThreadingTCPServer):
    """Ends with the command, whatever is still open."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One connection failed, and with it no more; nothing of it reaches the terminal."""
        log.debug("a tunnelled connection failed: %s", sys.exc_info()[1])


@contextlib.contextmanager
def relay(open_far: Callable[[], Any], local_port: int) -> Iterator[int]:
    """Listens on 127.0.0.1 (0: a free port) for the length of the block.

    `open_far` gives a socket, or what behaves like one, to the far end; OSError ends the one
    connection that it was for.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, EOFError), contextlib.closing(open_far()) as far:
                back = threading.Thread(target=_pump, args=(far, self.request), daemon=True)
                back.start()
                _pump(self.request, far)
                back.join()

    with Server(("127.0.0.1", local_port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _pump(source: Any, target: Any) -> None:
    """Until one side ends; then the other learns of it."""
    with contextlib.suppress(OSError, EOFError):
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
    with contextlib.suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_WR)
