"""What every route shares: keys, scopes, checked input, problem documents, limits, documents."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from websockets.sync.client import connect

from tests.bridge.rig import ADMIN_KEY, ROOT, BridgeProcess, SimulatorProcess

OPEN = {"/ping", "/ready", "/docs", "/docs/openapi.json", "/"}  # and the files of the status page


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    folder = tmp_path_factory.mktemp("routes")
    simulator = SimulatorProcess(folder / "simulator.log")
    process = BridgeProcess(folder / "bridge", simulator.port, BRIDGE_MAX_BODY_BYTES="2048")
    process.wait_for("ready")
    yield process
    process.stop()
    simulator.stop()


@pytest.fixture
def own(tmp_path: Path, unused_tcp_port: int) -> Iterator[BridgeProcess]:
    """A bridge that has heard no wrong key yet; it has no gateway."""
    process = BridgeProcess(tmp_path, unused_tcp_port)
    process.wait_for("waiting-for-gateway")
    yield process
    process.stop()


def make_key(bridge: BridgeProcess, scope: str) -> dict[str, Any]:
    answer = bridge.client.post("/keys", json={"label": f"a {scope} key", "scope": scope})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def with_key(bridge: BridgeProcess, key: str, method: str, path: str) -> httpx.Response:
    return httpx.request(method, bridge.url + path, headers={"X-API-KEY": key}, trust_env=False)


def test_every_route_but_the_open_ones_needs_a_key(bridge: BridgeProcess) -> None:
    document = bridge.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answer = httpx.request(method, bridge.url + path.replace("{", "").replace("}", ""))
            if operation.get("security") == []:
                assert path in OPEN or path.startswith("/page/")
                assert answer.status_code != 401, (method, path)
            else:
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.json()["code"] == "unauthorized"


@pytest.mark.parametrize("path", ["/portal", "/orders/", "/order/", "/order/x/", "//ping"])
def test_a_path_that_is_not_quite_one_is_not_redirected(bridge: BridgeProcess, path: str) -> None:
    answer = bridge.client.get(bridge.url + path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_scopes_are_kept(bridge: BridgeProcess) -> None:
    key = make_key(bridge, "read")["key"]
    assert with_key(bridge, key, "GET", "/health").status_code == 200
    refused = with_key(bridge, key, "POST", "/connection/reconnect")
    assert refused.status_code == 403
    assert refused.json()["neededScope"] == "admin"
    assert with_key(bridge, key, "GET", "/keys").status_code == 403


def test_a_key_is_rotated_without_downtime(bridge: BridgeProcess) -> None:
    old, new = make_key(bridge, "read"), make_key(bridge, "read")
    path = f"/keys/{old['id']}?overlap=4"
    assert bridge.client.delete(path).status_code == 204
    assert with_key(bridge, old["key"], "GET", "/health").status_code == 200
    assert with_key(bridge, new["key"], "GET", "/health").status_code == 200
    deadline = time.monotonic() + 30
    while with_key(bridge, old["key"], "GET", "/health").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert with_key(bridge, new["key"], "GET", "/health").status_code == 200
    listed = {key["id"]: key for key in bridge.get("/keys").json()["keys"]}
    assert (listed[old["id"]]["active"], listed[new["id"]]["active"]) == (False, True)
    assert not any("key" in key or "digest" in key for key in listed.values())


def test_guessing_is_slowed_down_and_the_right_key_works_at_once(own: BridgeProcess) -> None:
    fresh = make_key(own, "read")["key"]
    with httpx.Client(base_url=own.url, trust_env=False) as client:
        guesses = [{"X-API-KEY": f"guess-{number}"} for number in range(13)]
        answers = [client.get("/health", headers=each) for each in guesses]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 3
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers[10:])
    assert with_key(own, fresh, "GET", "/health").status_code == 200
    assert own.get("/health").status_code == 200


def test_a_key_file_that_everybody_could_use_opens_nothing_any_more(own: BridgeProcess) -> None:
    file = own.folder / "admin.key"
    file.chmod(0o604)
    assert own.get("/keys").status_code == 401
    file.chmod(0o600)
    assert own.get("/keys").status_code == 200
    file.write_text("x")
    assert with_key(own, "x", "GET", "/keys").status_code == 401
    assert own.get("/keys").status_code == 401


def test_a_bound_key_is_shown_with_its_bounds(bridge: BridgeProcess) -> None:
    bounds = {
        "accounts": ["DU1234567"],
        "symbols": ["spy", "QQQ"],
        "maxNotional": 500,
        "maxOrdersPerDay": 3,
        "from": ["198.51.100.7", "2001:db8::/32"],
    }
    asked = {"label": "etf", "scope": "trade", "bounds": bounds, "expires": "2099-12-31"}
    made = bridge.client.post("/keys", json=asked)
    assert made.status_code == 201
    assert made.json()["expiresAt"] == "2100-01-01T00:00:00Z"
    (listed,) = [key for key in bridge.get("/keys").json()["keys"] if key["label"] == "etf"]
    assert listed["bounds"] == bounds | {
        "symbols": ["SPY", "QQQ"],
        "maxNotional": 500.0,
        "from": ["198.51.100.7/32", "2001:db8::/32"],
    }
    elsewhere = with_key(bridge, made.json()["key"], "GET", "/health")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "address-not-allowed")


def test_what_a_call_changed_is_in_the_next_answer_of_health(bridge: BridgeProcess) -> None:
    for _ in range(20):
        assert bridge.get("/health").json()["state"] == "ready"
        bridge.client.post(f"{bridge.url}/trading/halt", json={})
        assert bridge.get("/health").json()["state"] == "halted"
        bridge.client.delete(f"{bridge.url}/trading/halt")


def test_a_moments_answers_of_health_are_one_and_the_next_is_another(bridge: BridgeProcess) -> None:
    seen = [bridge.get("/health").json()["clock"] for _ in range(100)]
    assert seen == sorted(seen)
    assert len(set(seen)) > 1
    time.sleep(0.05)
    assert bridge.get("/health").json()["clock"] > seen[-1]


def test_a_bound_key_halts_but_does_not_cancel_what_protects_others(bridge: BridgeProcess) -> None:
    asked = {"label": "spy", "scope": "trade", "bounds": {"symbols": ["SPY"]}}
    key = bridge.client.post("/keys", json=asked).json()["key"]
    headers = {"X-API-KEY": key}
    url = f"{bridge.url}/trading/halt"
    for member in ("everyClient", "cancelOpenOrders"):
        refused = httpx.post(url, headers=headers, json={member: True})
        assert (refused.status_code, refused.json()["code"]) == (403, "key-bound"), member
    assert bridge.get("/trading/halt").json()["halted"] is False
    assert httpx.post(url, headers=headers, json={}).json()["halted"] is True
    assert bridge.client.delete("/trading/halt").status_code == 200


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"scope": "read", "bounds": {"symbols": ["SPY"]}}, "bounds"),
        ({"scope": "admin", "bounds": {"maxNotional": 1}}, "bounds"),
        ({"scope": "trade", "bounds": {"from": ["here"]}}, "bounds.from"),
        ({"scope": "trade", "bounds": {"maxNotional": -1}}, "bounds.maxNotional"),
        ({"scope": "trade", "bounds": {"symbol": ["SPY"]}}, "bounds"),
        ({"scope": "trade", "expires": "2020-01-01"}, "expires"),
        ({"scope": "trade", "expires": "soon"}, "expires"),
        ({"scope": "trade", "expires": ""}, "expires"),
        ({"scope": "trade", "expires": "9999-12-31"}, "expires"),
    ],
)
def test_bounds_that_bound_nothing_are_refused(
    bridge: BridgeProcess, asked: dict[str, Any], field: str
) -> None:
    answer = bridge.client.post("/keys", json={"label": "x", **asked})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"].startswith(field)


def test_the_client_is_whom_the_trusted_proxy_saw(bridge: BridgeProcess) -> None:
    bounds = {"from": ["198.51.100.0/24"]}
    made = bridge.client.post("/keys", json={"label": "net", "scope": "read", "bounds": bounds})
    key = made.json()["key"]

    def status(*forwarded: str) -> int:
        headers = [("X-API-KEY", key), *(("X-Forwarded-For", each) for each in forwarded)]
        return httpx.get(f"{bridge.url}/health", headers=headers).status_code

    assert status("198.51.100.9") == 200
    assert status("192.0.2.1, 198.51.100.9") == 200
    assert status("::ffff:198.51.100.9") == 200
    assert status("198.51.100.9, 192.0.2.1") == 403  # what comes before is the client's own word
    assert status("198.51.100.9", "192.0.2.1") == 403
    assert status("nonsense") == status() == 403


def test_the_key_file_is_read_anew_when_it_changes(bridge: BridgeProcess) -> None:
    file = bridge.folder / "admin.key"
    file.write_text("another-admin-key-from-the-file\n")
    assert with_key(bridge, "another-admin-key-from-the-file", "GET", "/keys").status_code == 200
    file.write_text(ADMIN_KEY)
    assert bridge.get("/keys").status_code == 200


def test_wrong_input_is_one_problem_with_every_field(bridge: BridgeProcess) -> None:
    answer = bridge.get("/connection/events", limit="x", after="-1", foo="1")
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "invalid-request"
    assert {each["field"] for each in problem["errors"]} == {"limit", "after", "foo"}
    answer = bridge.client.post("/keys", json={"label": "", "scope": "root", "extra": 1})
    assert {each["field"] for each in answer.json()["errors"]} == {"label", "scope", "extra"}
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff"):
        answer = bridge.client.post("/keys", content=body)
        assert answer.status_code == 422, (body, answer.text)


def test_unknown_paths_and_methods_are_problems(bridge: BridgeProcess) -> None:
    missing = bridge.get("/no/such/thing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")
    wrong = bridge.client.put("/health")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    assert wrong.headers["Allow"] == "GET, HEAD"
    media = bridge.client.post("/keys", content=b"<a/>", headers={"Content-Type": "text/xml"})
    assert media.status_code == 415
    for answer in (missing, wrong, media):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["nextStep"]
        assert answer.json()["requestId"] == answer.headers["X-Request-Id"]


def test_bodies_have_a_limit(bridge: BridgeProcess) -> None:
    big = b'{"label":"' + b"x" * 4096 + b'"}'
    assert bridge.client.post("/keys", content=big).status_code == 413

    def parts() -> Iterator[bytes]:
        yield big[:2000]
        yield big[2000:]

    answer = bridge.client.post("/keys", content=parts())
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


def test_a_request_id_is_taken_over_when_it_is_harmless(bridge: BridgeProcess) -> None:
    answer = bridge.client.get("/ping", headers={"X-Request-Id": "abc-123"})
    assert answer.headers["X-Request-Id"] == "abc-123"
    answer = bridge.client.get("/ping", headers={"X-Request-Id": "a b\tc" * 30})
    assert answer.headers["X-Request-Id"] not in ("", "a b\tc" * 30)


def test_the_openapi_document_is_valid_and_the_same_from_the_command(
    bridge: BridgeProcess,
) -> None:
    served = bridge.get("/openapi.json").json()
    validate(served)
    printed = subprocess.run(
        [sys.executable, "-m", "bridge", "openapi"], cwd=ROOT, capture_output=True, check=True
    )
    assert json.loads(printed.stdout) == served


def test_the_page_of_documentation_needs_nothing_from_outside(bridge: BridgeProcess) -> None:
    page = httpx.get(f"{bridge.url}/docs")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "<script" not in page.text
    assert " style=" not in page.text
    assert "src=" not in page.text
    assert 'href="http' not in page.text
    for path in bridge.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page.text


def test_metrics_are_prometheus_text(bridge: BridgeProcess) -> None:
    bridge.get("/health")
    text = bridge.get("/metrics").text
    assert "gangway_ready 1.0" in text
    assert 'gangway_state{state="ready"} 1.0' in text
    assert 'gangway_http_requests_total{method="GET",path="/health",status="200"}' in text


def test_a_halt_is_told_alike_everywhere(bridge: BridgeProcess) -> None:
    bridge.client.post(f"{bridge.url}/trading/halt", json={}).raise_for_status()
    try:
        text = bridge.get("/metrics").text
        assert "gangway_ready 0.0" in text
        assert 'gangway_state{state="halted"} 1.0' in text
        assert 'gangway_state{state="ready"} 0.0' in text
        assert bridge.client.get("/ready").json()["state"] == "halted"
        assert bridge.health()["state"] == "halted"
        address = bridge.url.replace("http", "ws", 1) + "/stream"
        with connect(address, additional_headers={"X-API-KEY": ADMIN_KEY}, proxy=None) as stream:
            assert json.loads(stream.recv(5))["state"] == "halted"
    finally:
        bridge.client.delete(f"{bridge.url}/trading/halt")


@pytest.mark.parametrize("path", ["/executions?format=csv", "/metrics", "/openapi.json", "/health"])
def test_what_a_key_reads_is_stored_by_nobody(bridge: BridgeProcess, path: str) -> None:
    """A proxy or a browser that keeps a CSV of fills would show it to whoever comes next."""
    assert bridge.client.get(path).headers["cache-control"] == "no-store"


def test_events_and_the_gateways_time(bridge: BridgeProcess) -> None:
    events = bridge.get("/connection/events").json()["events"]
    assert [event["sequence"] for event in events] == sorted(e["sequence"] for e in events)
    assert {"bridge-started", "connected", "state"} <= {event["kind"] for event in events}
    last = events[-1]["sequence"]
    assert bridge.get("/connection/events", after=last).json()["events"] == []
    assert abs(bridge.get("/connection/time").json()["offsetSeconds"]) < 5


def test_reconnecting_on_purpose_ends_ready(bridge: BridgeProcess) -> None:
    before = bridge.health()["metrics"]["totalConnections"]
    health = bridge.client.post("/connection/reconnect").json()
    assert (health["state"], health["metrics"]["totalConnections"]) == ("ready", before + 1)
    assert health["lastDisconnectReason"] == "asked for by key admin-key-file"


def test_too_many_pending_requests_are_refused_but_health_is_not(tmp_path: Path) -> None:
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    process = BridgeProcess(tmp_path / "bridge", simulator.port, BRIDGE_MAX_PENDING="2")
    try:
        process.wait_for("ready")
        simulator.fault("half-open")
        found: list[int] = []

        def ask() -> None:
            found.append(process.get("/connection/time").status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while 429 not in found:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.get("/health").status_code == 200
        simulator.clear()
        for thread in threads:
            thread.join(20)
        assert 429 in found
    finally:
        process.stop()
        simulator.stop()
