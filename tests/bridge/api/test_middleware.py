"""Whose word about the client's address is believed."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from bridge.api.middleware import ClientAddress, _addresses, parse_address


async def seen(middleware: ClientAddress, peer: str, *forwarded: str) -> str:
    """The address that the application sees."""
    scope: dict[str, Any] = {
        "type": "http",
        "client": (peer, 4711),
        "headers": [(b"x-forwarded-for", each.encode()) for each in forwarded],
    }
    await middleware(scope, None, None)  # type: ignore[arg-type]
    return str(scope["client"][0])


async def app(*_: Any) -> None:
    """Answers nothing."""


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.2", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.2", ["203.0.113.1, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.2", ["203.0.113.1", "198.51.100.9"], "198.51.100.9"),
        ("10.0.0.2", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.2", ["unknown"], "10.0.0.2"),
        ("10.0.0.2", [""], "10.0.0.2"),
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.3", ["198.51.100.9"], "10.0.0.3"),
        ("::ffff:10.0.0.2", ["198.51.100.9"], "198.51.100.9"),
        ("192.168.7.7", ["198.51.100.9"], "198.51.100.9"),
    ],
)
async def test_only_a_trusted_proxy_is_believed(
    peer: str, forwarded: list[str], expected: str
) -> None:
    middleware = ClientAddress(app, "10.0.0.2, 192.168.0.0/16")
    assert await seen(middleware, peer, *forwarded) == expected


async def test_a_proxys_name_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container gets another address with each start, and another one may get its old one."""
    address = "172.18.0.4"
    asked: list[str] = []
    now = 100.0

    async def look_up(name: str) -> set[Any] | None:
        asked.append(name)
        if address == "silence":  # the engine is away, and it answers for names
            return None
        found = parse_address(address)
        return {found} if found else set()

    monkeypatch.setattr("bridge.api.middleware._addresses", look_up)
    monkeypatch.setattr("bridge.api.middleware.time.monotonic", lambda: now)
    middleware = ClientAddress(app, "caddy")
    assert await seen(middleware, "172.18.0.4", "198.51.100.9") == "198.51.100.9"
    assert await seen(middleware, "172.18.0.9", "198.51.100.9") == "172.18.0.9"
    for _ in range(100):  # a stranger's requests are no storm of look-ups
        await seen(middleware, "172.18.0.9", "198.51.100.9")
    assert asked == ["caddy"]
    address, now = "172.18.0.5", 101.0
    assert await seen(middleware, "172.18.0.5", "198.51.100.9") == "198.51.100.9"
    assert await seen(middleware, "172.18.0.4", "198.51.100.9") == "172.18.0.4"
    address, now = "silence", 106.5
    assert await seen(middleware, "172.18.0.5", "198.51.100.9") == "198.51.100.9"
    assert await seen(middleware, "172.18.0.4", "198.51.100.9") == "172.18.0.4"
    address, now = "none", 113.0
    assert await seen(middleware, "172.18.0.5", "198.51.100.9") == "172.18.0.5"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), None),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), set()),
        (TimeoutError(), None),
        (UnicodeError("no label"), set()),
    ],
)
async def test_no_answer_is_told_from_the_answer_that_there_is_no_such_name(
    monkeypatch: pytest.MonkeyPatch, error: Exception, found: set[Any] | None
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    assert await _addresses("caddy") == found


async def test_a_name_that_nobody_knows_is_no_proxy() -> None:
    middleware = ClientAddress(app, "no-such-host.invalid")
    assert await seen(middleware, "127.0.0.1", "198.51.100.9") == "127.0.0.1"
    assert await seen(ClientAddress(app, "localhost"), "127.0.0.1", "192.0.2.1") == "192.0.2.1"
