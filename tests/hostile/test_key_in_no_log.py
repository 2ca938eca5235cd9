"""A key sent by every way that HTTP offers is in no file and no log, whatever becomes of it."""

from __future__ import annotations

import base64
import os
import subprocess
import urllib.parse
from typing import TYPE_CHECKING

import httpx
import pytest

from infrastructure.render.caddy import SECTIONS
from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess
from tests.deploy import conftest
from tests.deploy.test_caddy import CADDY
from tests.hostile.front import caddy, request, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from infrastructure.config import Target

make = conftest.make
UNANSWERED = 0.5
"""Seconds for each way: some of them are never answered."""
KEY = "gwk_Zx9-this-key-is-looked-for_7Qm"
SPELLINGS = (
    *("key", "apiKey", "api-key", "api_key", "apikey", "APIKEY", "X-API-KEY", "x-api-key"),
    *("access_token", "accessToken", "auth", "AUTH", "authorization", "token", "Token", "bearer"),
    *("secret", "password", "signature", "a.name.that.nobody.thought.of", "%6B%65%79", ""),
)
HEADERS = (
    *("X-API-KEY", "x-api-key", "X-Api-Key", "x-ApI-kEy", "Authorization", "AUTHORIZATION"),
    *("Proxy-Authorization", "Cookie", "Cookie2", "Idempotency-Key", "Sec-WebSocket-Protocol"),
    *("X-Auth-Token", "Api-Key", "Referer", "User-Agent", "X-Forwarded-For", "X-Forwarded-Host"),
    *("Forwarded", "Via", "Origin", "Accept-Language", "X-Request-Id", "Traceparent", "Range"),
    *("Content-Type", "Accept-Encoding", "If-None-Match", "Upgrade", "Expect", "TE", "Trailer"),
    *("Last-Event-ID", "X-Nobody-Thought-Of-It", "Sec-WebSocket-Key", "Sec-WebSocket-Extensions"),
)


def ways() -> Iterator[tuple[str, bytes]]:
    """Every way, by name: raw requests, so that no library tidies them up."""
    quoted = urllib.parse.quote(KEY)
    encoded = base64.b64encode(f"user:{KEY}".encode()).decode()
    header = f"X-API-KEY: {KEY}"
    for name in HEADERS:
        yield f"header {name}", request("/health", f"{name}: {KEY}")
    yield "header name", request("/health", f"{KEY}: 1")
    yield "duplicate headers", request("/health", header, f"x-api-key: {KEY}", "X-API-Key: other")
    yield "folded header", request("/health", "X-API-KEY: a", f" {KEY}")
    yield "header under a cookie", request("/health", f"Cookie: a=1; key={KEY}; b={KEY}")
    yield "bearer", request("/health", f"Authorization: Bearer {KEY}")
    yield "basic", request("/health", f"Authorization: Basic {encoded}")
    for name in SPELLINGS:
        yield f"query {name}", request(f"/quotes?symbols=AAPL&{name}={KEY}&{name}={KEY}")
        yield f"query {name} percent", request(f"/quotes?{name}={quoted.replace('_', '%5F')}")
    yield "query name", request(f"/health?{KEY}")
    yield "query after semicolon", request(f"/health?a=1;key={KEY}")
    yield "query of an unknown path", request(f"/nothing/here?key={KEY}")
    for path in ("/{}", "/order/{}", "/keys/{}", "/portal/{}", "/{}/health", "/page/{}", "//{}"):
        yield f"path {path}", request(path.format(KEY))
    yield "deleted by its path", request(f"/keys/{KEY}", header, method="DELETE")
    yield (
        "deleted by its path, by an owner",
        request(f"/keys/{KEY}", f"X-API-KEY: {ADMIN_KEY}", method="DELETE"),
    )
    yield "path parameter", request(f"/health;key={KEY}")
    yield "fragment", request(f"/health#{KEY}")
    yield "bad escape", request(f"/%zz{KEY}")
    yield "userinfo", request(f"https://user:{KEY}@localhost/health")
    yield "absolute form", request(f"https://{KEY}/health")
    yield "method", request("/health", method=KEY.replace("_", "-"))
    yield "version", f"GET /health {KEY}\r\n\r\n".encode()
    yield "not HTTP", f"{KEY}\r\n\r\n".encode()
    yield "connect", request(f"{KEY}:443", header, method="CONNECT")
    yield "trace", request("/health", header, method="TRACE")
    hosts = ("localhost.", "LOCALHOST", "127.0.0.1", "127.1", "192.0.2.1", "evil.example", "[::1]")
    for host in (*hosts, "localhost:1", "", "a b", KEY, f"localhost:{KEY}", f"{KEY}.localhost"):
        yield f"host {host}", request(f"/health?key={KEY}", header, host=host)
    yield "two hosts", request("/health", "Host: evil.example", header)
    yield "no host", f"GET /health HTTP/1.0\r\n{header}\r\n\r\n".encode()
    for body in (f'{{"key":"{KEY}"}}', f"key={KEY}", f'{{"symbol":"{KEY}"', f'{{"{KEY}":1}}', KEY):
        length = f"Content-Length: {len(body)}"
        for path in ("/order", "/keys", "/connection/settings", "/trading/halt", "/nothing"):
            for more in ((), (header,), (f"X-API-KEY: {ADMIN_KEY}",)):
                sent = request(path, length, "Content-Type: application/json", *more, method="POST")
                yield f"body of {path}", sent + body.encode()
    chunked = ("Transfer-Encoding: chunked", "Trailer: X-API-KEY")
    yield (
        "trailer",
        request("/order", *chunked, method="POST") + f"2\r\n{{}}\r\n0\r\n{header}\r\n\r\n".encode(),
    )
    yield (
        "chunk extension",
        request("/order", *chunked, method="POST") + f"2;{KEY}\r\n{{}}\r\n0\r\n\r\n".encode(),
    )
    yield "bad chunk", request("/order", *chunked, method="POST") + f"{KEY}\r\n".encode()
    yield "bad length", request("/order", f"Content-Length: {KEY}", method="POST")
    yield "too large", request("/order", "Content-Length: 99999999", header, method="POST")
    yield "cut off", request("/order", "Content-Length: 50", header, method="POST") + b"{"
    socketed = (
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    )
    yield "stream header", request("/stream", *socketed, header)
    yield "stream query", request(f"/stream?apiKey={KEY}&token={KEY}", *socketed)
    yield "stream protocol", request("/stream", *socketed, f"Sec-WebSocket-Protocol: key, {KEY}")
    yield "stream of another host", request("/stream", *socketed, header, host="localhost.")
    yield "huge header", request("/health", header, f"X-Long: {'x' * 60_000}")


def found_in(folder: Path, *texts: str) -> list[str]:
    """The files that hold one of the texts, with the place."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for text in texts:
            at = content.find(text.encode())
            if at >= 0:
                found.append(f"{path.name}: {content[max(0, at - 300) : at + 60]!r}")
    return found


@pytest.mark.skipif(CADDY is None, reason="needs Caddy: make setup")
def test_a_key_is_in_no_file_whatever_way_it_was_sent(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    """Invariant: what a client sends for a key is in no log and in no file."""
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    bridge = BridgeProcess(tmp_path / "bridge", simulator.port, BRIDGE_LOG_LEVEL="debug")
    port = int(bridge.url.rpartition(":")[2])
    sent = list(ways())
    assert len(sent) > 150
    try:
        bridge.wait_for("ready")
        with caddy(make(), tmp_path / "caddy", port) as front:
            for way, data in sent:
                send(front.https, data, "localhost", UNANSWERED)
                if way.startswith(("host", "header X", "query k", "userinfo", "path", "not")):
                    send(front.http, data, None, UNANSWERED)
                    send(front.https, data, "", UNANSWERED)
            send(front.https, request(), f"{KEY.replace('_', '-')}.example")
            bridge.stop()  # from now on the proxy has errors of its own to tell
            for _, data in sent[:40]:
                send(front.https, data, "localhost", UNANSWERED)
            assert b" 502 " in send(front.https, request(), "localhost").partition(b"\r\n")[0]
        entries = front.log()  # whole, now that it has ended
    finally:
        bridge.stop()
        simulator.stop()
    statuses = {entry.get("status") for entry in entries}
    assert {200, 308, 401, 404, 421, 502} <= statuses, "the log says nothing, so it proves nothing"
    assert {"/health", "/quotes", "/order"} <= {
        str(entry["request"]["uri"])  # type: ignore[index]
        for entry in entries
        if "request" in entry
    }
    shapes = (KEY, KEY.replace("_", "-"), KEY.replace("_", "%5F"), KEY.replace("_", "%5f"))
    basic = base64.b64encode(f"user:{KEY}".encode()).decode()
    assert not found_in(tmp_path, *shapes, basic)


@pytest.mark.skipif(CADDY is None, reason="needs Caddy: make setup")
def test_only_the_sites_own_hosts_are_served(make: Callable[..., Target], tmp_path: Path) -> None:
    """Invariant: what is not for this site is told so, and never passed on."""
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    bridge = BridgeProcess(tmp_path / "bridge", simulator.port)
    port = int(bridge.url.rpartition(":")[2])
    target = make(caddy={"names": ["vm.internal", "192.0.2.7"], "https_port": 9443})
    foreign = ("localhost.", "127.0.0.2", "evil.example", "vm.internal.evil.example", "[::1]")

    def status(way: int, host: str, name: str | None) -> int:
        return int(send(way, request("/ping", host=host), name).split()[1])

    try:
        with caddy(target, tmp_path / "caddy", port) as front:
            for host in (
                "vm.internal",
                "VM.Internal:9443",
                "192.0.2.7",
                "203.0.113.7",
                "127.0.0.1",
            ):
                name = "" if host[0].isdigit() else host.partition(":")[0]
                assert status(front.https, host, name) == 200, host
                assert status(front.http, host, None) == 308, host
            for host in foreign:
                assert status(front.https, host, "localhost") == 421, host
                assert status(front.https, host, "") == 421, host
                assert status(front.http, host, None) == 421, host
            answer = send(front.http, request("/a?b=c", host="vm.internal"), None).decode()
            assert "Location: https://vm.internal:9443/a?b=c\r\n" in answer
            refused = httpx.get(
                f"{front.url}/ping", headers={"Host": "evil.example"}, verify=False, trust_env=False
            )
            assert refused.json()["code"] == "unknown-host"
            assert refused.headers["content-type"] == "application/problem+json"
    finally:
        bridge.stop()
        simulator.stop()


def test_every_path_of_the_bridges_can_be_logged() -> None:
    """What is logged of paths follows the bridge's: a new section does not vanish from the log."""
    import json
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "bridge", "openapi"], capture_output=True, check=True
    )
    paths = json.loads(done.stdout)["paths"]
    assert {path.split("/")[1] for path in paths} - {""} <= set(SECTIONS)
