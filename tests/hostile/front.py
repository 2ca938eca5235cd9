"""A Caddy as it is rendered, and raw requests to it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import httpx

from tests.deploy.test_caddy import CADDY, Front, caddyfile_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infrastructure.config import Target


def request(
    target: str = "/health", *lines: str, host: str = "localhost", method: str = "GET"
) -> bytes:
    """One request's bytes; the connection ends with it."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


def send(port: int, data: bytes, name: str | None, patience: float = 30.0) -> bytes:
    """The first part of the answer; with a name over TLS, with it as SNI.

    Args:
        port: of this machine.
        data: the request's bytes.
        name: SNI; "" for TLS without it, None for no TLS.
        patience: seconds that an answer may take.
    """
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 30) as plain:
        if name is None:
            return _exchange(plain, data, patience)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=name or None) as secure:
            return _exchange(secure, data, patience)
    return b""


def _exchange(connection: socket.socket, data: bytes, patience: float) -> bytes:
    connection.settimeout(patience)
    connection.sendall(data)
    with contextlib.suppress(TimeoutError):
        return connection.recv(65_536)
    return b""


@contextlib.contextmanager
def caddy(target: Target, folder: Path, upstream: int) -> Iterator[Front]:
    """A Caddy as it is rendered, with all that it writes below the folder."""
    assert CADDY
    folder.mkdir()
    front = Front(folder, upstream)
    path = folder / "Caddyfile"
    path.write_text(caddyfile_for(target, front))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    command = [CADDY, "run", "--config", str(path), "--adapter", "caddyfile"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    front.process = process.pid
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{front.url}/ping", verify=False, trust_env=False)
                break
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield front
    finally:
        process.terminate()
        process.wait(60)
