"""`/stream` under clients without manners: memory, the kill switch and the owner's way in."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.bridge.rig import ADMIN_KEY, BridgeProcess
from tests.hostile.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Raw,
    connections,
    frame,
)
from tests.hostile.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_MEGABYTES = 96.0
SLOWEST_PING = 0.5
SLOWEST_HALT = 2.0  # it is synced to the disk, on a machine that may be busy with much else
SECONDS = 1.0


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    process = BridgeProcess(folder / "bridge", 9)  # no gateway there
    yield process
    process.stop()


FLOODS = {
    "empty-continuations": frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 5000,
    "one-byte-continuations": frame(TEXT, fin=False) + frame(CONTINUATION, b"x", fin=False) * 5000,
    "empty-texts": frame(TEXT) * 5000,
    "empty-bytes": frame(BINARY) * 5000,
    "pings": frame(PING) * 5000,
    "large-pings": frame(PING, b"p" * 125) * 500,
    "pongs": frame(PONG, b"q" * 125) * 500,
    "pings-between-parts": frame(TEXT, b"{", fin=False) + frame(PING, b"p" * 125) * 500,
    "large-texts": frame(TEXT, b"x" * 60_000) * 10,
    "unfinished-large": frame(TEXT, b"x" * 60_000, fin=False) + frame(CONTINUATION, fin=False) * 9,
    "too-large-claim": frame(TEXT, b"x" * 200_000),
    "unmasked": frame(TEXT, b"{}", mask=False) * 1000,
    "reserved-opcode": frame(0x3, b"x") * 1000,
    "long-control": frame(PING, b"x" * 4000),
    "continuation-of-nothing": frame(CONTINUATION, b"x") * 1000,
    "not-utf8": frame(TEXT, b"\xff\xfe") * 1000,
    "close-again-and-again": frame(CLOSE, b"\x03\xe8") * 5000,
    "garbage": bytes(range(256)) * 1000,
}


@pytest.mark.parametrize("key", [None, ADMIN_KEY], ids=["unknown", "known"])
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_costs_neither_memory_nor_time(
    bridge: BridgeProcess, name: str, key: str | None
) -> None:
    """Invariants: RSS at most 96 MB, a ping at most 0.5 s, a halt soon."""
    data, watched = FLOODS[name], Watched(bridge)

    def attack() -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            client = Raw(bridge, small=True)
            client.upgrade(key)
            client.pour(data, max(0.1, end - time.monotonic()))
            client.close()

    with watched.attacked(*[attack] * 3):
        pass
    print(f"{name} {'known' if key else 'unknown'}: {watched.most_megabytes:.1f} MB, slowest "
          f"{ {k: round(v * 1000) for k, v in watched.slowest.items()} } ms")  # fmt: skip
    assert watched.most_megabytes <= MOST_MEGABYTES
    assert watched.slowest["ping"] <= SLOWEST_PING, watched.slowest
    assert watched.slowest["halt"] <= SLOWEST_HALT, watched.slowest


@pytest.mark.parametrize("name", [name for name in FLOODS if name != "large-texts"])
def test_a_stream_without_a_key_is_ended_by_its_budget(bridge: BridgeProcess, name: str) -> None:
    """Invariant: before its key a stream has 8 KiB, 32 frames and 5 s, whatever they are."""
    client = Raw(bridge)
    client.upgrade()
    client.pour(FLOODS[name], 1.0)
    assert client.ended(15.0)
    client.close()


@pytest.mark.parametrize("name", FLOODS)
def test_a_stream_with_a_key_is_ended_by_its_budget_too(bridge: BridgeProcess, name: str) -> None:
    """Invariant: a key buys 1 MiB and 240 frames at once, and no flood."""
    client = Raw(bridge)
    client.upgrade(ADMIN_KEY)
    client.pour(FLOODS[name], 3.0)
    assert client.ended(15.0)
    client.close()


def test_forty_silent_sockets_do_not_keep_the_owner_out(bridge: BridgeProcess) -> None:
    """Invariant: an unknown socket is the first to go."""
    with connections(Raw(bridge) for _ in range(40)) as silent:
        for each in silent:
            each.upgrade()
        owner = Raw(bridge)
        owner.upgrade()
        owner.socket.sendall(frame(TEXT, json.dumps({"op": "auth", "key": ADMIN_KEY}).encode()))
        owner.socket.settimeout(30)
        assert b'"welcome"' in owner.socket.recv(4096)
        owner.close()
        assert silent[0].ended(3.0)


def test_idle_connections_do_not_keep_the_owner_out(bridge: BridgeProcess) -> None:
    """Invariant: at most 512 connections, the oldest unknown one goes first."""
    kept = Raw(bridge)
    kept.upgrade(ADMIN_KEY)
    with connections(Raw(bridge) for _ in range(700)) as idle:
        begun = time.monotonic()
        assert bridge.get("/health").status_code == 200
        assert time.monotonic() - begun < 5
        assert bridge.open_files() < 600
        assert idle[0].ended(3.0)
        kept.socket.sendall(frame(TEXT, b'{"op":"ping","id":7}'))
        seen = b""
        while b"pong" not in seen:
            seen += kept.socket.recv(4096)
    kept.close()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("endless-header", b"X-A: " + b"a" * 60_000),
        ("endless-headers", b"X-A: b\r\n" * 8000),
        ("endless-path", b"a" * 60_000),
        ("no-request", b"\0" * 60_000),
    ],
)
def test_a_head_has_an_end(bridge: BridgeProcess, name: str, data: bytes) -> None:
    """Invariant: a request's head is at most 64 KiB."""
    client, watched = Raw(bridge), Watched(bridge)
    start = {"endless-path": b"GET /", "no-request": b""}.get(name, b"GET /ping HTTP/1.1\r\n")
    client.socket.sendall(start)
    with watched.attacked(lambda: client.pour(data, 2.0)):
        pass
    assert client.ended(5.0)
    assert watched.most_megabytes <= MOST_MEGABYTES
    client.close()


def test_requests_ahead_of_their_answers_have_an_end(bridge: BridgeProcess) -> None:
    """Invariant: what is kept of a peer without a key is bounded, however small its requests."""
    watched, requests = Watched(bridge), b"GET /x HTTP/1.1\r\n\r\n" * 12_000
    with connections(Raw(bridge) for _ in range(30)) as peers:
        with watched.attacked(*(partial(each.pour, requests, 1.0) for each in peers)):
            pass
        assert all(each.ended(5.0) for each in peers)
    assert watched.most_megabytes <= MOST_MEGABYTES


def test_the_bridge_lives_on(bridge: BridgeProcess) -> None:
    """Invariant: after all of that it is what it was."""
    assert bridge.process.poll() is None
    assert bridge.get("/health").status_code == 200
    assert bridge.get("/audit", verify="true").json()["verification"]["intact"]
    assert bridge.resident_megabytes() <= MOST_MEGABYTES
