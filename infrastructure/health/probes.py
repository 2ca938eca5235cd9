"""Questions to the bridge and to Caddy, from the host. Standard library, Python 3.9."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

from infrastructure.health.http import ask, get


def bridge(
    address: str,
    port: int,
    path: str,
    key: str = "",
    seconds: float = 3.0,
    *,
    method: str = "GET",
    body: Any = None,
) -> tuple[int, Any]:
    """A request to the bridge: the status (0: no answer) and the decoded body."""
    headers = {"X-API-KEY": key} if key else {}
    content = b""
    if body is not None:
        content = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    try:
        with socket.create_connection((address, port), seconds) as stream:
            status, found = ask(stream, method, path, address, headers, content)
    except OSError:
        return 0, None
    try:
        return status, json.loads(found)
    except ValueError:
        return status, None


def ready(address: str, port: int, key: str) -> tuple[int, Any]:
    """Whether orders could be placed, and to the holder of a key why not.

    A key that the bridge does not take (yet, after it was exchanged) leaves the bare answer.
    """
    status, body = bridge(address, port, "/ready", key)
    if key and status in (401, 403, 429):
        return bridge(address, port, "/ready")
    return status, body


def caddy(address: str, port: int, name: str, seconds: float = 3.0) -> tuple[bool, str]:
    """Whether Caddy passes `/ping` to the bridge over TLS, and if not, why.

    The certificate is not judged here: it may be signed by Caddy's internal authority.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), seconds) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            # The handshake's end and the request are two small packets: the second would wait
            # for the first one's acknowledgement, which may be held back for 40 ms.
            secure.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            status, _ = get(secure, "/ping", name)
    except ssl.SSLError as error:
        return False, f"no TLS for {name} yet: {error.reason or error}"
    except OSError as error:
        return False, f"no answer on port {port}: {error.strerror or error}"
    return status == 200, "" if status == 200 else f"it answers with status {status}"
