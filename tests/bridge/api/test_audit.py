"""The audit log: every call that changes something, refused ones too, chained, and told aloud."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from bridge import compose
from tests.bridge.rig import ADMIN_KEY, ROOT, BridgeProcess

if TYPE_CHECKING:
    from tests.bridge.conftest import StartBridge

PASSWORD = "a-password-that-no-log-may-hold"


@pytest.fixture
def bridge(start_bridge: StartBridge, unused_tcp_port: int) -> BridgeProcess:
    return start_bridge(unused_tcp_port, BRIDGE_LOG_LEVEL="info")


def entries(bridge: BridgeProcess, least: int) -> list[dict[str, Any]]:
    """Oldest first, once there are so many: a slow disk has the last ones follow the answers."""
    deadline = time.monotonic() + 20
    while True:
        answer = bridge.get("/audit", limit=500, verify="true")
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["verification"]["intact"], page["verification"]
        assert page["verification"]["entries"] == len(page["entries"])
        found: list[dict[str, Any]] = page["entries"][::-1]
        if len(found) >= least:
            return found
        assert time.monotonic() < deadline, (found, least)
        time.sleep(0.05)


def made(bridge: BridgeProcess, scope: str) -> str:
    answer = bridge.client.post("/keys", json={"label": scope, "scope": scope})
    return str(answer.json()["key"])


def aloud(bridge: BridgeProcess, count: int) -> list[dict[str, Any]]:
    """What was said of entries that are in the journal: one that came late was said before, too."""
    deadline = time.monotonic() + 20
    while True:
        lines = [event for event in bridge.events() if event["event"] == "audit"]
        lines = [line for line in lines if line.get("journaled", True)]
        if len(lines) >= count:
            return lines
        assert time.monotonic() < deadline, (len(lines), count)
        time.sleep(0.05)


def test_every_route_that_changes_something_is_noted_when_it_is_refused(
    bridge: BridgeProcess,
) -> None:
    key = made(bridge, "read")
    routes = [route for table in compose.route_tables() for route in table.routes if route.changes]
    assert len(routes) > 15
    for route in routes:
        path = route.path.replace("{id}", "x1").replace("{name}", "fin")
        refused = httpx.request(
            route.method, bridge.url + path, headers={"X-API-KEY": key}, content=b"{}"
        )
        assert refused.status_code == 403, (route.method, path, refused.text)
    noted = {(entry["action"], entry["result"]) for entry in entries(bridge, 1 + len(routes))}
    assert {(f"{route.method} {route.path}", "forbidden") for route in routes} <= noted


def test_what_was_changed_is_told_and_never_a_secret(bridge: BridgeProcess) -> None:
    read = made(bridge, "read")
    client = bridge.client
    client.put("/connection/settings", json={"host": "127.0.0.1", "portalPassword": PASSWORD})
    client.put("/connection/settings", json={"port": 99999, "portalPassword": PASSWORD})
    client.post("/connection/reconnect")
    client.post("/alerts", json={"event": "deploy-failed", "text": PASSWORD})
    client.post("/trading/halt", json={"reason": "a drill"})
    client.delete("/trading/halt")
    client.delete("/keys/nobody")
    client.post("/order", content=b"{")
    httpx.post(f"{bridge.url}/order", headers={"X-API-KEY": read}, json={"symbol": "AAPL"})
    httpx.delete(f"{bridge.url}/trading/halt", headers={"X-API-KEY": PASSWORD})
    found = entries(bridge, 11)
    assert [(entry["action"], entry["result"]) for entry in found] == [
        ("POST /keys", "ok"),
        ("PUT /connection/settings", "ok"),
        ("PUT /connection/settings", "invalid-request"),
        ("POST /connection/reconnect", "ok"),
        ("POST /alerts", "alerts-off"),
        ("trading.halt", "ok"),
        ("trading.resume", "ok"),
        ("DELETE /keys/{id}", "unknown-key"),
        ("POST /order", "invalid-request"),
        ("POST /order", "forbidden"),
        ("DELETE /trading/halt", "unauthorized"),
    ]
    by = [entry["apiKeyId"] for entry in found]
    assert set(by[:9]) == {"admin-key-file"}
    assert by[9] == found[0]["target"]
    assert (by[10], found[10]["detail"]["address"]) == ("", "127.0.0.1")
    assert found[1]["detail"] == {"host": "127.0.0.1", "given": ["portalPassword"]}
    assert found[7]["target"] == "nobody"
    said = aloud(bridge, len(found))
    assert [line["chain"] for line in said] == [entry["chain"] for entry in found]
    assert [line["sequence"] for line in said] == list(range(1, len(found) + 1))
    everything = bridge.log.read_text() + json.dumps(found)
    for secret in (PASSWORD, ADMIN_KEY, read):
        assert secret not in everything


def test_those_who_have_no_key_cannot_fill_the_journal(bridge: BridgeProcess) -> None:
    for _ in range(40):
        assert httpx.post(f"{bridge.url}/order").status_code == 401
    refused = [entry for entry in entries(bridge, 10) if entry["result"] == "unauthorized"]
    assert 10 <= len(refused) <= 12


def test_a_removed_entry_shows(start_bridge: StartBridge, unused_tcp_port: int) -> None:
    bridge = start_bridge(unused_tcp_port)
    for number in range(4):
        bridge.client.delete(f"/keys/{number}")
    assert len(entries(bridge, 4)) == 4
    bridge.stop()
    journal = bridge.folder / "data" / "journal.sqlite3"
    connection = sqlite3.connect(journal)
    connection.execute("DROP TRIGGER audit_loses_nothing")
    connection.execute("DELETE FROM audit WHERE sequence = 2")
    connection.commit()
    connection.close()
    again = start_bridge(unused_tcp_port)
    again.client.delete("/keys/later")
    found = again.get("/audit", verify="true").json()["verification"]
    assert (found["intact"], found["brokenAt"]) == (False, 3)


def test_a_key_that_was_made_on_the_host_is_noted(
    start_bridge: StartBridge, unused_tcp_port: int
) -> None:
    bridge = start_bridge(unused_tcp_port)
    bridge.stop()
    command = [sys.executable, "-m", "bridge", "apikey", "create", "--label", "x", "--scope"]
    bounds = ["trade", "--symbols", "SPY,QQQ", "--from", "192.0.2.0/24", "--expires", "2099-01-01"]
    done = subprocess.run(
        [*command, *bounds],
        cwd=ROOT,
        env={"BRIDGE_DATA_DIR": str(bridge.folder / "data")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    made = json.loads(done.stdout)
    (entry,) = entries(start_bridge(unused_tcp_port), 1)
    assert (entry["action"], entry["target"]) == ("apikey create", made["id"])
    assert entry["detail"]["bounds"] == {"symbols": ["SPY", "QQQ"], "from": ["192.0.2.0/24"]}
    assert made["key"] not in json.dumps(entry)
