"""The worker of docs/workers.md, as it stands there, beside a bridge and a simulator."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.bridge.rig import BridgeProcess, SimulatorProcess
from tests.docs.pages import PROJECT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = PROJECT / "docs" / "workers.md"


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    process = SimulatorProcess(tmp_path / "simulator.log")
    yield process
    process.stop()


@pytest.fixture
def bridge(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[BridgeProcess]:
    process = BridgeProcess(tmp_path / "bridge", simulator.port)
    process.wait_for("ready")
    yield process
    process.stop()


@contextmanager
def receiver() -> Iterator[tuple[str, list[str]]]:
    """Stands where Discord's webhook would: its address, and what was posted."""
    posted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.timeout(90)
def test_the_scanner_says_what_it_would_sell_and_sells_nothing(
    bridge: BridgeProcess, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    [text] = [one.text for one in blocks(PAGE, "python") if "def scan" in one.text]
    script = tmp_path / "scanner.py"
    script.write_text(text)
    bought = bridge.client.post(
        "/order",
        json={"symbol": "AAPL", "action": "BUY", "quantity": 250, "orderType": "MKT"},
        headers={"Idempotency-Key": "shares-to-cover"},
    )
    assert bought.status_code in (200, 201), bought.text
    made = bridge.client.post("/keys", json={"label": "scanner", "scope": "read"}).json()
    key, hook = tmp_path / "api-key", tmp_path / "discord-url"
    key.write_text(f"{made['key']}\n")
    with receiver() as (address, posted):
        hook.write_text(f"{address}\n")
        with subprocess.Popen(
            [sys.executable, str(script)],
            env={
                **os.environ,
                "BRIDGE_URL": bridge.url,
                "BRIDGE_API_KEY_FILE": str(key),
                "DISCORD_URL_FILE": str(hook),
                "EVERY": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout
            lines = []
            for line in process.stdout:  # it scans again and again: the fill, then its quotes
                lines.append(line)
                # a part of the shares may come first, and is told of, too
                if "would sell 2" in line and any("would sell 2" in one for one in posted):
                    break
            process.terminate()
    assert re.search(r"would sell 2 AAPL \d{8} [\d.]+ C at [\d.]+: \d+ in all", lines[-1]), lines
    assert "would sell 2 AAPL" in posted[-1]
    assert made["key"] not in "".join(lines)
    assert [one["action"] for one in simulator.book()["orders"]] == ["BUY"]
