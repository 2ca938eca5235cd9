"""Calls that do not end by themselves, and more of them than there are connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from bridge.clock import settle
from bridge.portal.certificates import Certificates
from bridge.portal.client import MOST_PASSED_THROUGH, PortalClient, PortalPacer
from bridge.portal.errors import PortalLimitedError, PortalSilentError, PortalUnreachableError
from bridge.portal.pass_through import fetch
from bridge.portal.state import PortalState
from simulator.http import Response
from tests.bridge.portal.conftest import MemoryCertificates

if TYPE_CHECKING:
    from bridge.portal.session import PortalSession
    from bridge.store.settings import StoredCertificate
    from simulator.portal import PortalServer
    from tests.bridge.portal.conftest import JumpingClock


@asynccontextmanager
async def answering(
    head: bytes, part: bytes, pause: float, clock: JumpingClock
) -> AsyncIterator[PortalClient]:
    """A client of a gateway that answers with `head` and then `part` again and again."""

    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
                while not writer.is_closing():
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    certificates = Certificates(MemoryCertificates(), clock)
    client = PortalClient(f"http://127.0.0.1:{port}", PortalPacer(clock), certificates)
    try:
        yield client
    finally:
        await client.close()
        server.close()
        await settle(*serving)
        await asyncio.sleep(0)  # the last of its connections is told that it has ended


async def test_an_answer_in_drips_has_an_end(
    clock: JumpingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.portal.client.LATE_SECONDS", 0.0)
    async with asyncio.timeout(10), answering(b"Content-Length: 9999", b" ", 0.01, clock) as client:
        with pytest.raises(PortalSilentError, match="no whole answer to /iserver/accounts"):
            await client.get("/iserver/accounts", timeout=0.2)


async def test_an_answer_without_end_is_not_read_to_the_end(clock: JumpingClock) -> None:
    head, part = b"Connection: close", b" " * 65_536
    async with asyncio.timeout(30), answering(head, part, 0.0, clock) as client:
        with pytest.raises(PortalUnreachableError, match="larger than 4 MiB"):
            await client.get("/iserver/accounts", timeout=20)


async def test_calls_for_others_leave_connections_to_the_session(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    portal.routes._handlers["GET", "/iserver/accounts"] = lambda _: Response(silent=True)
    waiting = [
        asyncio.create_task(fetch(session, "/iserver/accounts", {}, timeout=60)) for _ in range(8)
    ]
    async with asyncio.timeout(10):
        while portal.routes.calls.get("/iserver/accounts", 0) < MOST_PASSED_THROUGH:
            await asyncio.sleep(0.01)
    assert (await session.client.tickle()).connected is True
    with pytest.raises(PortalLimitedError, match="passed through already"):
        await fetch(session, "/iserver/accounts", {}, timeout=0.02)
    assert session.state is PortalState.CONNECTED
    assert portal.routes.calls["/iserver/accounts"] == MOST_PASSED_THROUGH
    await settle(*waiting)


async def test_a_time_to_wait_that_no_clock_has_is_none(
    session: PortalSession, portal: PortalServer
) -> None:
    headers = {"Retry-After": "9" * 400}
    portal.routes._handlers["GET", "/iserver/accounts"] = lambda _: Response(429, b"", headers)
    with pytest.raises(PortalLimitedError):
        await session.client.get("/iserver/accounts")
    assert session.client.pacer.penalty_left == pytest.approx(900)


async def test_calls_at_once_meet_the_gateway_once(
    portal: PortalServer, clock: JumpingClock
) -> None:
    trusted: list[StoredCertificate] = []
    certificates = Certificates(MemoryCertificates(), clock, on_pinned=trusted.append)
    client = PortalClient(f"https://127.0.0.1:{portal.port}", PortalPacer(clock), certificates)
    await asyncio.gather(*(client.status() for _ in range(3)))
    assert len(trusted) == 1
    await client.close()


async def test_a_call_on_a_connection_that_was_closed_is_an_error_of_ours(
    client: PortalClient,
) -> None:
    await client.status()
    assert client._http is not None
    await client._http.aclose()
    with pytest.raises(PortalUnreachableError):
        await client.status()
