"""Property-based: what our OpenAPI document allows meets no answer that it does not describe.

500 is in no description, so any fault of the bridge fails this; 503 and 504 are described.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bridge.conftest import StartBridge
from tests.bridge.rig import ADMIN_KEY, SimulatorProcess

COMMAND = Path(sys.executable).with_name("schemathesis")
# Those that end the connection, or wait for another gateway, would only make the rest wait.
APART = r"^/connection/(reconnect|test|settings)"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which(str(COMMAND)) is None, reason="schemathesis is not installed here")
def test_every_answer_is_one_that_is_described(
    start_bridge: StartBridge, simulator_process: SimulatorProcess, tmp_path: Path
) -> None:
    bridge = start_bridge(simulator_process.port)
    bridge.wait_for("ready")
    document = tmp_path / "openapi.json"
    document.write_bytes(bridge.get("/openapi.json").content)
    done = subprocess.run(
        [
            *(str(COMMAND), "run", str(document), "--url", bridge.url),
            *("--header", f"X-API-KEY: {ADMIN_KEY}"),
            *("--exclude-path-regex", APART),
            *("--checks", "status_code_conformance,content_type_conformance"),
            *("--checks", "response_schema_conformance"),
            *("--phases", "coverage,fuzzing", "--max-examples", "3"),
            *("--request-timeout", "20", "--seed", "1", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert bridge.wait_for("ready")
    assert not [line for line in bridge.events() if line.get("event") == "unexpected-error"]
