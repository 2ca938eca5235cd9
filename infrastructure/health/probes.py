"""Questions to the JVM, the bridge and Caddy, from the host. Standard library, Python 3.9.

HTTP/1.0 in a few lines of its own, because they are sent and loaded with every command:
http.client and what it loads would take longer than all questions together.

Whether the running JVM has the flags it was meant to have is seen in its command line. Nothing else
tells: the image drops lines, its own heap edit can do nothing and still log success, and Java's
errors go to /dev/null.
"""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infrastructure.runtime.base import Container

LIMIT = 16 * 1024 * 1024
SECONDS = 3.0
BRIDGE_PORT = 8080
_JAVA = re.compile(r"^\S*java(?=\s)")
_MAIN = re.compile(r"ibcalpha\.ibc|standin\.Gateway")


def get(stream: socket.socket, path: str, host: str) -> tuple[int, bytes]:
    """`ask` without anything to send."""
    return ask(stream, "GET", path, host, {})


def ask(
    stream: socket.socket,
    method: str,
    path: str,
    host: str,
    headers: dict[str, str],
    content: bytes = b"",
) -> tuple[int, bytes]:
    """The status and the body; OSError when the other side does not speak HTTP."""
    lines = [f"{method} {path} HTTP/1.0", f"Host: {host}"]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
    answer = bytearray()
    while chunk := stream.recv(65_536):
        answer += chunk
        if len(answer) > LIMIT:
            raise OSError("the answer is too long")
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError(f"no HTTP answer: {head[:60].decode('latin-1')!r}")
    return int(words[1]), body


def reach(bridge: Container, published: int | None) -> tuple[str, int]:
    """Where the host reaches the bridge: its published port, else its private address."""
    if published or not bridge.addresses:
        return "127.0.0.1", published or BRIDGE_PORT
    return bridge.addresses[0], BRIDGE_PORT


def bridge(
    address: str,
    port: int,
    path: str,
    key: str = "",
    seconds: float = SECONDS,
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


def caddy(address: str, port: int, name: str) -> tuple[bool, str]:
    """Whether Caddy passes `/ping` to the bridge over TLS, and if not, why.

    The certificate is not judged here: it may be signed by Caddy's internal authority.
    """
    import ssl  # only here, and it takes as long to load as all the rest

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), SECONDS) as plain,
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


def waits_for_certificate(reason: str, *, public: bool) -> bool:
    """Whether `caddy` said no only because a public name has no certificate yet."""
    return public and reason.startswith("no TLS")


def serves_orders(health: Any) -> bool:
    """Whether a bridge with this `/health` is as it should be: ready, or halted by a person.

    A session that is ready is not enough: the journal may not be writable (`stalled`), the gateway
    may refuse every order (`read-only`).
    """
    if not isinstance(health, dict) or not health.get("connected"):
        return False
    return health.get("state") not in ("stalled", "read-only")


def java_flags(programs: list[str]) -> list[str] | None:
    """The flags of the gateway's JVM among these command lines; None while it does not run."""
    for line in programs:
        if _JAVA.match(line) and _MAIN.search(line):
            return [word for word in line.split()[1:] if word.startswith("-X")]
    return None


def missing_flags(wanted: list[str], found: list[str]) -> list[str]:
    """Wanted flags that did not arrive, and ones that contradict them, in words."""
    effective = {_flag_name(flag): flag for flag in found}
    return [
        f"{flag} (is {effective.get(_flag_name(flag), 'not set')})"
        for flag in wanted
        if effective.get(_flag_name(flag)) != flag
    ]


def _flag_name(flag: str) -> str:
    """What a flag sets: the last one of a name wins, as in Java."""
    collector = re.match(r"-XX:[+-]Use(Serial|G1|Parallel|Z|Shenandoah|Epsilon)GC$", flag)
    if collector:
        return "collector" if flag.startswith("-XX:+") else flag
    short = re.match(r"-X(mx|ms|mn|ss)", flag)
    if short:
        return short[0]
    return re.sub(r"^-XX:[+-]?", "", flag).partition("=")[0]
