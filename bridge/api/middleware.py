"""What every request passes first: its client's address, an id, limits, a line in the log.

A request comes from the peer, or from what Caddy says of its own peer.

A forwarded address is believed from the proxies of `BRIDGE_TRUSTED_PROXIES` only, and only the last
one, which that proxy has put there itself: what comes before it is the client's own word. Proxies
are addresses, networks, or host names; a name (Caddy's container gets another address with each
start) is looked up again after a few seconds.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import socket
import time
from functools import lru_cache
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge import logs
from bridge.api import problems
from bridge.api.metrics import HttpMetrics
from bridge.api.problems import BodyTooLargeError, TooManyPendingError
from bridge.errors import BridgeError

_SAFE_ID = re.compile(
    r"[A-Za-z0-9._-]{1,15}|[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
"""A client's own id stands in every log: it is short, a UUID or a trace's id, never a key."""
ALWAYS = ("/ping", "/ready", "/health", "/metrics")  # answered however much is pending


def is_always(method: str, path: str) -> bool:
    """Whether a request is taken however much is pending: so are cancels and the kill switch."""
    if path in ALWAYS:
        return True
    return (method == "DELETE" and path.startswith("/order/")) or (
        method == "POST" and path == "/trading/halt"
    )


SECURITY_HEADERS: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class RequestMiddleware:
    """A plain ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, metrics: HttpMetrics, *, max_body: int, max_pending: int
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body = max_body
        self._max_pending = max_pending
        self.pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _id(headers)
        scope["request_id"] = request_id
        structlog.contextvars.bind_contextvars(requestId=request_id)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        await self._http(scope, receive, send, request_id, length)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, length: bytes
    ) -> None:
        begun = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *SECURITY_HEADERS,
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        self.pending += 1
        try:
            refused = self._refusal(scope, length)
            if refused:
                await problems.response(refused, request_id)(scope, receive, observed)
            else:
                await self._app(scope, _Limited(receive, self._max_body), observed)
        except BodyTooLargeError as error:
            await problems.response(error, request_id)(scope, receive, observed)
        finally:
            self.pending -= 1
            self._finished(scope, status, time.perf_counter() - begun)

    def _refusal(self, scope: Scope, length: bytes) -> BridgeError | None:
        if self.pending > self._max_pending and not is_always(scope["method"], scope["path"]):
            return TooManyPendingError(f"{self.pending} requests are pending", retry_after=1.0)
        if length.isdigit() and int(length) > self._max_body:
            return _too_large(self._max_body)
        return None

    def _finished(self, scope: Scope, status: int, seconds: float) -> None:
        endpoint_path = scope.get("route_path_template", "unknown")
        self._metrics.finished(scope["method"], endpoint_path, status, seconds)
        level = "info" if status < 500 else "warning"
        logs.line(
            "debug" if scope["path"] in ALWAYS else level,
            "request",
            requestId=scope["request_id"],
            method=scope["method"],
            path=endpoint_path,
            status=status,
            ms=round(seconds * 1000, 1),
            by=scope.get("key_id", ""),
            code=scope.get("problem_code", ""),
        )


class _Limited:
    """A receive that refuses a body which grows too large."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0

    async def __call__(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise _too_large(self._limit)
        return message


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {limit} bytes")


def _id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _SAFE_ID.fullmatch(given) else secrets.token_hex(8)


LOOKED_UP_SECONDS: Final = 5.0
"""How long a name's addresses are believed."""

_LOOK_UP_PATIENCE: Final = 0.2  # a request waits for it; in a container it takes milliseconds
_AGAIN_SECONDS: Final = 0.5
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """An address as the network means it (`::ffff:192.0.2.1` is 192.0.2.1); None: it is none."""
    try:
        found = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


class ClientAddress:
    """A plain ASGI middleware: puts the client's own address where the peer's was."""

    def __init__(self, app: ASGIApp, trusted: str) -> None:
        self._app = app
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._names: list[str] = []
        for word in (word.strip() for word in trusted.split(",") if word.strip()):
            try:
                self._networks.append(ipaddress.ip_network(word, strict=False))
            except ValueError:
                self._names.append(word)
        self._by_name: dict[str, set[Address]] = {}
        self._found: frozenset[Address] = frozenset()
        self._looked_up = float("-inf")
        self._looking = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope.get("client"):
            told = _forwarded(scope)
            peer = parse_address(scope["client"][0])
            if told is not None and peer is not None and await self._trusts(peer):
                scope["client"] = (str(told), 0)
        await self._app(scope, receive, send)

    async def _trusts(self, peer: Address) -> bool:
        if any(peer in network for network in self._networks):
            return True
        if not self._names:
            return False
        age = time.monotonic() - self._looked_up
        if age > LOOKED_UP_SECONDS or (peer not in self._found and age > _AGAIN_SECONDS):
            await self._look_up()
        return peer in self._found

    async def _look_up(self) -> None:
        async with self._looking:
            if time.monotonic() - self._looked_up < _AGAIN_SECONDS:
                return  # somebody else has, while this one waited
            found: set[Address] = set()
            for name in self._names:
                addresses = await _addresses(name)
                if addresses is not None:  # else nothing is known of it, and all stays as it is
                    self._by_name[name] = addresses
                found |= self._by_name.get(name, set())
            self._found, self._looked_up = frozenset(found), time.monotonic()


async def _addresses(name: str) -> set[Address] | None:
    """A name's addresses, none when there is no such name; None when nobody answers for names."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOK_UP_PATIENCE):
            rows = await loop.getaddrinfo(name, None)
    except TimeoutError:
        return None
    except (OSError, UnicodeError) as error:
        return None if getattr(error, "errno", None) == socket.EAI_AGAIN else set()
    parsed = (parse_address(str(row[4][0])) for row in rows)
    return {address for address in parsed if address is not None}


def _forwarded(scope: Scope) -> Address | None:
    last = None
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            last = value
    return None if last is None else parse_address(last.decode("latin-1").rpartition(",")[2])
