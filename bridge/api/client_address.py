"""Where a request really comes from: the peer, or what Caddy says of its own peer.

A forwarded address is believed from the proxies of `BRIDGE_TRUSTED_PROXIES` only, and only the last
one, which that proxy has put there itself: what comes before it is the client's own word. Proxies
are addresses, networks, or host names; a name (Caddy's container gets another address with each
start) is looked up again after a few seconds.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

LOOKED_UP_SECONDS: Final = 5.0
"""How long a name's addresses are believed."""

_LOOK_UP_PATIENCE: Final = 1.0
_AGAIN_SECONDS: Final = 0.5
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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
        self._found: frozenset[Address] = frozenset()
        self._looked_up = float("-inf")
        self._looking = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
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
                found |= await _addresses(name)
            self._found, self._looked_up = frozenset(found), time.monotonic()


async def _addresses(name: str) -> set[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOK_UP_PATIENCE):
            rows = await loop.getaddrinfo(name, None)
    except (OSError, TimeoutError, UnicodeError):
        return set()
    parsed = (parse_address(str(row[4][0])) for row in rows)
    return {address for address in parsed if address is not None}


def _forwarded(scope: Scope) -> Address | None:
    last = None
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            last = value
    return None if last is None else parse_address(last.decode("latin-1").rpartition(",")[2])
