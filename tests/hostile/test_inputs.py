"""Hostile inputs by generator, each naming the invariant that it attacks; a count at the end.

Over real sockets, straight to the bridge and through a real Caddy: the bridge's routes, its
WebSocket, and a gateway that sends what none does. What a hostile SSH host says is tried in
tests/deploy/transport/test_hostile_host.py.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess
from tests.deploy import conftest
from tests.deploy.test_caddy import CADDY
from tests.hostile.between import Between, message
from tests.hostile.front import caddy

TEXTS: tuple[Any, ...] = (
    "A" * 5000, "\0", "\r\nX-Evil: 1", "../../etc/passwd", "'; DROP TABLE orders; --", "${HOME}",
    "{{7*7}}", "`id`", "\u202eLPAA", "<script>alert(1)</script>", "%00%0a", 17.5, ["AAPL"],
    {"symbol": "AAPL"},
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    -1, -0.0001, "1e400", "NaN", "Infinity", True, [], {}, "ten", 1e300, -1e300, "0x10", "1,000",
    "1\0", "1",
)  # fmt: skip
ORDER = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 150.0}
ORDER_FIELDS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("symbol", "action", "orderType", "tif", "secType", "right"), TEXTS),
    **dict.fromkeys(("expiration", "currency", "account", "goodTillDate"), TEXTS),
    **dict.fromkeys(("quantity", "limitPrice", "stopPrice", "trailingPercent"), NUMBERS),
    **dict.fromkeys(("conId", "strike"), NUMBERS),
}
QUERIES = {
    "quote": "/quote/{}",
    "quote-kind": "/quote/AAPL?secType={}",
    "quote-number": "/quote/AAPL?conId={}",
    "contracts": "/contracts?symbol={}",
    "search": "/contracts/search?pattern={}",
    "duration": "/history?symbol=AAPL&duration={}",
    "bar-size": "/history?symbol=AAPL&barSize={}",
    "history-end": "/history?symbol=AAPL&end={}",
    "chain": "/options/chain?symbol={}",
    "slice": "/options/quotes?symbol=AAPL&expiration={}",
    "order": "/order/{}",
    "executions": "/executions?since={}",
}
BODIES = (
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a":' * 3000, b"[" * 20_000, b'"' + b"x" * 70_000,
    b'{"symbol":"AAPL","symbol":"MSFT"}', b"NaN", b"\0" * 100, b'{"quantity":1e999}',
    b"\xef\xbb\xbf{}",
    b"<xml/>",
)  # fmt: skip
ROUTES = ("/order", "/order/preview", "/keys", "/apply", "/quotes", "/bracket")
STREAMS: dict[str, Callable[[Any], Any]] = {
    "operation": lambda value: {"op": value},
    "channel": lambda value: {"op": "subscribe", "channel": value},
    "contracts": lambda value: {"op": "subscribe", "channel": "quotes", "contracts": value},
    "id": lambda value: {"op": "ping", "id": [value] * 50},
}
PIECES = (
    "",
    "x",
    "-1",
    "99999999999999999999",
    "NaN",
    "1e400",
    "\u202e",
    "x" * 3000,
    "1.7e308",
    "\x7f",
)
MESSAGES: dict[str, Callable[[str], bytes]] = {
    "status": lambda piece: message(3, piece, "Submitted", piece, piece, 0, 1, 0, 0, 17, "", 0),
    "error": lambda piece: message(4, 2, piece, piece, piece),
    "tick": lambda piece: message(1, 6, piece, piece, piece, piece, 0),
    "position": lambda piece: message(61, 3, piece, piece, piece, "STK", piece, piece, piece),
    "account-value": lambda piece: message(6, 2, piece, piece, piece, piece),
    "execution": lambda piece: message(11, piece, piece, piece, piece, piece, piece, piece, piece),
}
TRIED: dict[str, int] = {}
BROKEN: list[str] = []


@dataclass
class Rig:
    """A bridge, what is behind it, and the way to it."""

    way: str
    bridge: BridgeProcess
    simulator: SimulatorProcess
    relay: Between
    client: httpx.Client
    context: ssl.SSLContext | None

    @property
    def stream_address(self) -> str:
        return str(self.client.base_url).rstrip("/").replace("http", "ws", 1) + "/stream"


@pytest.fixture(scope="module")
def processes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[BridgeProcess, SimulatorProcess, Between]]:
    folder: Path = tmp_path_factory.mktemp("inputs")
    simulator = SimulatorProcess(folder / "simulator.log")
    relay = Between(simulator.port)
    bridge = BridgeProcess(folder / "bridge", relay.port)
    bridge.wait_for("ready")
    yield bridge, simulator, relay
    bridge.stop()
    relay.close()
    simulator.stop()


@pytest.fixture(scope="module", params=["straight", "caddy"])
def rig(
    request: pytest.FixtureRequest,
    processes: tuple[BridgeProcess, SimulatorProcess, Between],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Rig]:
    """Each test runs over both ways."""
    bridge, simulator, relay = processes
    if request.param == "straight":
        yield Rig("straight", bridge, simulator, relay, bridge.client, None)
        return
    if CADDY is None:
        pytest.skip("needs Caddy: make setup")
    folder = tmp_path_factory.mktemp("front")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # The client of the streams reads and writes in two threads, for which Python's ssl has no lock:
    # with TLS 1.3 a ticket comes as the request is written, and costs one request of some eighty.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    target, port = conftest.target_of(folder), int(bridge.url.rpartition(":")[2])
    with contextlib.ExitStack() as held:
        front = held.enter_context(caddy(target, folder / "caddy", port))
        client = held.enter_context(
            httpx.Client(
                base_url=front.url,
                headers={"X-API-KEY": ADMIN_KEY},
                verify=context,
                timeout=10,
                trust_env=False,
            )
        )
        yield Rig("caddy", bridge, simulator, relay, client, context)


def tried(rig: Rig, generator: str, value: object, *, held: bool) -> None:
    generator = f"{rig.way}: {generator}"
    TRIED[generator] = TRIED.get(generator, 0) + 1
    if not held:
        BROKEN.append(f"{generator}: {value!r:.80}")


def refused(answer: httpx.Response) -> bool:
    """A refusal of the client's mistake, as JSON with a code."""
    return 400 <= answer.status_code < 500 and bool(answer.json()["code"])


def answered(answer: httpx.Response) -> bool:
    """Whatever it is, it is JSON, soon, and no failure of ours."""
    answer.json()
    return answer.status_code < 500 and answer.elapsed.total_seconds() < 3


def send(rig: Rig, method: str, path: str, **more: Any) -> httpx.Response:
    """One request; one that the rate limit held back is sent again."""
    while (answer := rig.client.request(method, path, **more)).status_code == 429:
        time.sleep(0.1)
    return answer


def post(rig: Rig, path: str, body: bytes) -> httpx.Response:
    headers = {"Idempotency-Key": uuid.uuid4().hex, "Content-Type": "application/json"}
    return send(rig, "POST", path, content=body, headers=headers)


def test_the_order_that_all_of_them_spoil_is_taken(rig: Rig) -> None:
    """Else a refusal of theirs would say nothing."""
    assert post(rig, "/order", json.dumps(ORDER).encode()).status_code == 201
    assert rig.simulator.book()["requests"]


@pytest.mark.parametrize("field", ORDER_FIELDS)
def test_no_order_leaves_with_a_field_that_cannot_be(rig: Rig, field: str) -> None:
    """Invariant: what is not understood is refused, and the broker hears nothing of it."""
    simulator = rig.simulator
    before = len(simulator.book()["requests"])
    for value in ORDER_FIELDS[field]:
        answer = post(rig, "/order", json.dumps(ORDER | {field: value}).encode())
        tried(rig, f"order-{field}", value, held=refused(answer))
    assert len(simulator.book()["requests"]) == before
    assert not BROKEN, BROKEN


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_answered_whatever_it_asks(rig: Rig, name: str) -> None:
    """Invariant: a read never fails by what is asked, and never takes long."""
    for value in TEXTS:
        path = QUERIES[name].format(quote(str(value), safe=""))
        tried(rig, f"query-{name}", value, held=answered(send(rig, "GET", path)))
    assert not BROKEN, BROKEN


@pytest.mark.parametrize("route", ROUTES)
def test_a_body_that_is_none_is_refused(rig: Rig, route: str) -> None:
    """Invariant: bytes that are no request change nothing."""
    for body in BODIES:
        tried(rig, f"body-{route}", body, held=refused(post(rig, route, body)))
    assert not BROKEN, BROKEN


def test_no_spelling_of_a_wrong_key_lets_in(rig: Rig) -> None:
    """Invariant: only the key opens, and the right one works at once after wrong ones."""
    wrong = (
        ADMIN_KEY[:-1], ADMIN_KEY + "x", ADMIN_KEY.upper(), f'"{ADMIN_KEY}"', "*", "%", "null",
        "' or 1=1", "Bearer " + ADMIN_KEY, ADMIN_KEY + "," + ADMIN_KEY, "x" * 4000, "0", "[]",
        "$key",
    )  # fmt: skip
    for key in wrong:
        answer = rig.client.get("/orders", headers={"X-API-KEY": key})
        tried(rig, "key", key, held=answer.status_code in {401, 403, 429, 431})
        tried(rig, "right-key", key, held=rig.client.get("/health").status_code == 200)
    assert not BROKEN, BROKEN


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_lives_on_what_cannot_be(rig: Rig, name: str) -> None:
    """Invariant: a wrong message costs its sender an error or the stream, and nobody else."""
    headers = {"X-API-KEY": ADMIN_KEY}
    for value in TEXTS:
        with connect(
            rig.stream_address, ssl=rig.context, additional_headers=headers, proxy=None
        ) as stream:
            stream.recv(timeout=9)
            try:  # what is too long may find the stream closed before its end is sent
                stream.send(json.dumps(STREAMS[name](value)))
                held = json.loads(stream.recv(timeout=9))["type"] in {"error", "pong", "subscribed"}
            except ConnectionClosed:
                held = True
        tried(rig, f"stream-{name}", value, held=held)
    assert rig.client.get("/health").status_code == 200
    assert not BROKEN, BROKEN


@pytest.mark.parametrize("name", MESSAGES)
def test_no_message_of_the_gateways_stops_the_bridge(rig: Rig, name: str) -> None:
    """Invariant: a message that cannot be kept stops nothing; it is still ready for orders."""
    for piece in PIECES:
        rig.relay.pour(MESSAGES[name](piece), 0.001)
        tried(rig, f"gateway-{name}", piece, held=rig.client.get("/ping").status_code == 200)
    rig.bridge.wait_for("ready")
    assert not BROKEN, BROKEN


def test_the_count(rig: Rig) -> None:
    """Enough was tried, nothing broke, and the bridge is what it was."""
    bridge = rig.bridge
    print(f"{sum(TRIED.values())} attempts from {len(TRIED)} generators, {len(BROKEN)} breaks")
    assert not BROKEN
    assert sum(TRIED.values()) >= 500
    assert len(TRIED) >= 40
    assert bridge.resident_megabytes() <= 96
    assert ADMIN_KEY not in bridge.log.read_text()
