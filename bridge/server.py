"""Serving the application, and ending well."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from bridge.api.connections import Connections
from bridge.api.middleware import ClientAddress
from bridge.environment import Environment
from bridge.process import Bridge

GRACE_SECONDS = 1.5  # for requests to end by themselves after SIGTERM
LAST_SECONDS = 2  # for the answers of those that were then failed
END_SECONDS = 4.6  # after SIGTERM: whatever still hangs (a disk, a lock) is left hanging
log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling.

    Which would end the process by the signal, not with 0.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def serve(environment: Environment, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT; raises ``StoreError`` when the data folder cannot be used."""
    async with Bridge(environment) as bridge:
        http, websocket = Connections().protocols()
        server = _Server(
            uvicorn.Config(
                ClientAddress(bridge.app, environment.trusted_proxies),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                date_header=True,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=LAST_SECONDS,
                http=http,
                ws=websocket,
                ws_max_size=64 * 1024,
                ws_ping_interval=20.0,
                # Compressing would take 300 kB a client, and more time than everything else.
                ws_per_message_deflate=False,
                proxy_headers=False,  # ClientAddress believes less
            )
        )
        loop = asyncio.get_running_loop()

        def stop(name: str) -> None:
            log.info("stopping", signal=name)
            end_soon(END_SECONDS)
            server.should_exit = True
            loop.call_later(GRACE_SECONDS, bridge.fail_pending)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number.name)
        host, port = listener.getsockname()[:2]
        log.info("listening", host=host, port=port)
        await server.serve(sockets=[listener])


def end_soon(seconds: float) -> None:
    """Ends the process after that time, however it is stuck: what was promised is on the disk."""

    def end() -> None:
        log.warning("stopped-without-waiting", seconds=seconds)
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def listen(environment: Environment) -> socket.socket:
    """The listening socket; ``OSError`` when the address is taken."""
    family = socket.AF_INET6 if ":" in environment.listen_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((environment.listen_host, environment.listen_port))
        listener.listen(512)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
