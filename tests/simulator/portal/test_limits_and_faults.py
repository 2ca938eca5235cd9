"""Rates with their penalty, server errors, silence, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509

from simulator.app import Simulator
from simulator.options import Options
from simulator.portal import PortalServer, server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.simulator.portal.conftest import WoundClock


async def test_the_eleventh_call_of_a_second_costs_ten_minutes(
    client: httpx.AsyncClient, clock: WoundClock
) -> None:
    for _ in range(10):
        assert (await client.get("/iserver/auth/status")).status_code == 200
    assert (await client.get("/iserver/auth/status")).status_code == 429
    clock.advance(599)
    assert (await client.get("/iserver/auth/status")).status_code == 429
    clock.advance(1)
    assert (await client.get("/iserver/auth/status")).status_code == 200


@pytest.mark.parametrize(("path", "interval"), [("/tickle", 1), ("/sso/validate", 60)])
async def test_calls_with_a_rate_of_their_own(
    client: httpx.AsyncClient, clock: WoundClock, path: str, interval: float
) -> None:
    assert (await client.get(path)).status_code == 200
    clock.advance(interval)
    assert (await client.get(path)).status_code == 200
    clock.advance(interval / 2)
    assert (await client.get(path)).status_code == 429


async def test_server_errors_last_as_long_as_the_fault(
    client: httpx.AsyncClient, portal: PortalServer
) -> None:
    portal.begin_fault("portal-500")
    assert (await client.get("/tickle")).status_code == 500
    portal.end_fault("portal-500")
    assert (await client.get("/iserver/auth/status")).status_code == 200


async def test_silence_is_the_clients_time_out(
    client: httpx.AsyncClient, portal: PortalServer
) -> None:
    portal.begin_fault("portal-timeout")
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/tickle", timeout=0.2)
    portal.end_fault("portal-timeout")
    assert (await client.get("/tickle")).status_code == 200


async def test_logged_out_until_the_fault_ends(
    client: httpx.AsyncClient, portal: PortalServer
) -> None:
    portal.begin_fault("portal-logged-out")
    assert (await client.get("/tickle")).status_code == 401
    portal.end_fault("portal-logged-out")
    assert (await client.get("/iserver/auth/status")).status_code == 200


async def test_faults_of_other_parts_are_ignored(portal: PortalServer) -> None:
    portal.begin_fault("fin")
    portal.end_fault("fin")
    assert portal.session.logged_in


async def test_https_and_http_share_the_port(portal: PortalServer) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    base = f"https://localhost:{portal.port}/v1/api"
    async with httpx.AsyncClient(base_url=base, verify=context) as client:
        assert (await client.get("/iserver/accounts")).status_code == 200


@pytest.mark.parametrize("by", [server._by_openssl, server._by_package])
def test_the_certificate_ran_out_in_2019_and_names_no_host(
    by: Callable[[Path, Path], str | None], tmp_path: Path
) -> None:
    key, pem = tmp_path / "key.pem", tmp_path / "certificate.pem"
    if by is server._by_openssl and not shutil.which("openssl"):
        pytest.skip("openssl is not here: apt-get install openssl")
    assert by(key, pem) is None
    made = x509.load_pem_x509_certificate(pem.read_bytes())
    assert f"{made.not_valid_after_utc:%Y%m%d%H%M%SZ}" == server.END
    assert made.subject == made.issuer
    assert "CN=Client Portal Web API" in made.subject.rfc4514_string()
    assert list(made.extensions) == []


async def test_a_kept_certificate_survives_a_restart(clock: WoundClock, tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        server = PortalServer(clock, certificate_folder=tmp_path)
        await server.start()
        seen.append(
            await asyncio.to_thread(
                ssl.get_server_certificate, ("127.0.0.1", server.port), timeout=10
            )
        )
        await server.close()
    assert seen[0] == seen[1]
    assert (tmp_path / "portal-key.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\x00\xff\xfe nonsense\r\n\r\n", b"400"),
        (b"GET /v1/api/tickle HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", b"431"),
        (b"POST /v1/api/tickle HTTP/1.1\r\nhost: x\r\n\r\n", b"411"),
        (b"POST /v1/api/tickle HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", b"413"),
        (b"POST /v1/api/tickle HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"\x16\x03\x01 not really a handshake", b""),
    ],
)
async def test_misbehaving_clients_are_answered_and_cut_off(
    portal: PortalServer, client: httpx.AsyncClient, sent: bytes, answer: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", portal.port)
    writer.write(sent)
    writer.write_eof()
    received = b""
    with contextlib.suppress(ConnectionError):
        received = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer in received.partition(b"\r\n")[0]
    assert (await client.get("/iserver/auth/status")).status_code == 200


async def test_the_whole_simulator_keeps_the_certificate_where_it_is_told(tmp_path: Path) -> None:
    options = Options(port=0, portal_port=0, control_port=0, portal_certificate=str(tmp_path))
    seen = set()
    for _ in range(2):
        async with Simulator(options) as simulator:
            address = ("127.0.0.1", simulator.ports["portalPort"])
            seen.add(await asyncio.to_thread(ssl.get_server_certificate, address, timeout=10))
    assert len(seen) == 1
