"""What people are told of rules: by the running bridge, at a hook that is as Discord's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.bridge.rules.test_over_http import Rig, simulator_of, soon, trading_hours


class Hook(BaseHTTPRequestHandler):
    """Takes `{"content": …}`, and answers 204 without a body."""

    received: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append(body)
        self.send_response(204 if body.get("content") else 400)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.received.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/api/webhooks/1/token?:message=content"
    server.shutdown()
    thread.join()
    server.server_close()


def test_people_are_told_what_was_decided_and_how_it_ended(tmp_path: Path, hook: str) -> None:
    addresses = tmp_path / "addresses"
    addresses.touch(mode=0o600)
    addresses.write_text(hook + "\n")
    start = trading_hours()
    simulator = simulator_of(tmp_path, start)
    rig = Rig(tmp_path / "b", simulator, start, BRIDGE_ALERTS_FILE=str(addresses))
    try:
        rig.buy("AAPL", 10)
        rig.put(
            {"id": "told", "mode": "trade", "match": {"symbol": "AAPL"}, "stopLoss": {"price": 1e6}}
        )
        soon(lambda: len(Hook.received) == 2, 40)
        decided, closed = (each["content"] for each in Hook.received)
        assert "told closes 10 AAPL; stopLoss: " in decided
        assert "told has closed 10 " in closed
    finally:
        rig.bridge.stop()
        simulator.stop()
