"""The Caddyfile, judged and served by the real Caddy."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from bridge.process import KEEP_ALIVE_SECONDS
from infrastructure.render.caddy import caddyfile
from infrastructure.render.layout import compose_layout
from tests.closed_port import closed_port, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from infrastructure.config import Target

CADDY = shutil.which("caddy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def adapted(text: str, tmp_path: Path) -> str:
    """Caddy's own verdict, strict: also formatting counts as an error."""
    path = tmp_path / "Caddyfile"
    path.write_text(text)
    assert CADDY
    done = subprocess.run(
        [CADDY, "validate", "--config", str(path), "--adapter", "caddyfile"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    formatted = subprocess.run(
        [CADDY, "fmt", "-"], input=text, capture_output=True, text=True, check=True
    )
    assert formatted.stdout == text
    return done.stderr


@pytest.mark.parametrize(
    "caddy",
    [
        {},
        {"domain": "trade.example.org", "email": "me@example.org"},
        {"names": ["vm.internal", "192.0.2.7"], "listen": "127.0.0.1"},
    ],
    ids=["internal authority", "domain", "names"],
)
def test_caddy_accepts_it(
    caddy: dict[str, object], make: Callable[..., Target], tmp_path: Path
) -> None:
    target = make(caddy=caddy)
    log = adapted(caddyfile(target, compose_layout(target)), tmp_path)
    warned = [line for line in log.splitlines() if '"level":"warn"' in line]
    # The redirects are our own, so that other hosts get 421 instead.
    assert not [line for line in warned if "listening only on the HTTP port" not in line]


class Front:
    """A running Caddy in front of an upstream of the test's."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self.folder, self.upstream = folder, upstream
        self.process: int | None = None
        self.https, self.http, self.health = free_port(), free_port(), free_port()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https}"

    def log(self) -> list[dict[str, object]]:
        lines = (self.folder / "log").read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry.get("logger", "").startswith("http.log.access")]


def caddyfile_for(target: Target, front: Front) -> str:
    """The target's Caddyfile, on the ports of a front on this machine."""
    layout = dataclasses.replace(
        compose_layout(target),
        upstream=f"127.0.0.1:{front.upstream}",
        caddy_http=front.http,
        caddy_https=front.https,
        caddy_health=front.health,
        caddy_admin=f"127.0.0.1:{free_port()}",
        caddy_bind="127.0.0.1",
    )
    return caddyfile(target, layout)


@contextlib.asynccontextmanager
async def running(
    make: Callable[..., Target], folder: Path, upstream: int, **caddy: str
) -> AsyncIterator[Front]:
    target = make(caddy=caddy)
    front = Front(folder, upstream)
    path = folder / "Caddyfile"
    path.write_text(caddyfile_for(target, front))
    assert CADDY
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            CADDY,
            "run",
            "--config",
            str(path),
            "--adapter",
            "caddyfile",
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )
    try:
        async with httpx.AsyncClient(verify=False) as client:
            for _ in range(1000):
                with contextlib.suppress(httpx.HTTPError):
                    answer = await client.get(f"http://127.0.0.1:{front.health}/healthz")
                    # The certificate is there a moment after the server is: no 204 over TLS.
                    await client.get(front.url, headers={"Host": "warming.up"})
                    if answer.status_code == 204:
                        break
                await asyncio.sleep(0.05)
            else:
                pytest.fail((folder / "log").read_text())
        yield front
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """Answers by path: /ok, /silent (accepts, never answers), /echo (the body's length)."""

    ended = asyncio.Event()
    handlers: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        with contextlib.closing(writer):
            await answer(reader, writer)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if " /silent " in head:
                    await ended.wait()
                    return
                body = b'{"status":"ok"}'
                size = [x for x in head.lower().splitlines() if x.startswith("content-length:")]
                if size:
                    body = str(len(await reader.readexactly(int(size[0].split()[1])))).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nServer: secret-version\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(body), body)
                )
                await writer.drain()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended.set()
        server.close()
        await asyncio.wait([handler for handler in handlers if handler], timeout=5)
        await asyncio.sleep(0)


async def test_passes_answers_with_security_headers_and_logs_no_keys(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    async with (
        upstream() as port,
        running(make, tmp_path, port) as front,
        httpx.AsyncClient(verify=False, timeout=20) as client,
    ):
        answer = await client.get(
            f"{front.url}/ok?token=hidden1&symbol=AAPL",
            headers={
                "X-API-KEY": "hidden2",
                "Authorization": "hidden3",
                "Idempotency-Key": "hidden4",
                "Cookie": "a=hidden5",
            },
        )
        redirect = await client.get(f"http://localhost:{front.http}/ok")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers
    assert redirect.status_code == 308
    assert redirect.headers["location"] == "https://localhost/ok"
    assert 200 in {entry["status"] for entry in front.log()}
    assert "hidden" not in (tmp_path / "log").read_text()


def test_caddy_lets_go_of_connections_before_the_bridge_does(make: Callable[..., Target]) -> None:
    """Else a cancel may go out on one that the bridge closes at this moment: 502, fate unknown."""
    target = make()
    found = re.search(r"\bkeepalive (\d+)s\b", caddyfile(target, compose_layout(target)))
    assert found is not None
    assert int(found[1]) < KEEP_ALIVE_SECONDS


async def test_a_stalled_bridge_fails_fast(make: Callable[..., Target], tmp_path: Path) -> None:
    async with (
        upstream() as port,
        running(make, tmp_path, port, response_timeout="300ms") as front,
        httpx.AsyncClient(verify=False, timeout=20) as client,
    ):
        answer = await client.get(f"{front.url}/silent")
    assert answer.status_code == 504
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "bridge-unreachable"
    assert {"detail", "nextStep"} <= answer.json().keys()  # what clients of the bridge read


async def test_a_missing_bridge_is_502(make: Callable[..., Target], tmp_path: Path) -> None:
    with closed_port() as nobody:
        async with (
            running(make, tmp_path, nobody) as front,
            httpx.AsyncClient(verify=False, timeout=20) as client,
        ):
            answer = await client.get(f"{front.url}/ok")
    assert (answer.status_code, answer.json()["status"]) == (502, 502)


async def test_request_size_is_limited(make: Callable[..., Target], tmp_path: Path) -> None:
    async with (
        upstream() as port,
        running(make, tmp_path, port, max_body="1KB") as front,
        httpx.AsyncClient(verify=False, timeout=20) as client,
    ):
        small = await client.post(f"{front.url}/echo", content=b"x" * 900)
        large = await client.post(f"{front.url}/echo", content=b"x" * 100_000)
    assert (small.status_code, small.text) == (200, "900")
    assert (large.status_code, large.json()["code"]) == (413, "too-large")


async def test_websockets_pass(make: Callable[..., Target], tmp_path: Path) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    insecure = ssl.create_default_context()
    insecure.check_hostname = False
    insecure.verify_mode = ssl.CERT_NONE
    async with (
        serve_websocket(echo, "127.0.0.1", 0) as server,
        running(make, tmp_path, server.sockets[0].getsockname()[1]) as front,
        connect(f"wss://localhost:{front.https}/stream", ssl=insecure) as client,
    ):
        await client.send("tick")
        assert await client.recv() == "tick"
