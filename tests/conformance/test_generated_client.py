"""A client generated from the bridge's OpenAPI document understands what the bridge answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess
from tests.conformance.running import ENVIRONMENTS, ROOT, SCRIPTS, absent

pytestmark = pytest.mark.conformance

FOLDER = ENVIRONMENTS / "openapi-client"
SECONDS = 120


def generate(folder: Path) -> None:
    """Write the package from the document that the bridge prints."""
    shown = [sys.executable, "-m", "bridge", "openapi"]
    document = subprocess.run(shown, cwd=ROOT, check=True, capture_output=True).stdout
    (folder / "openapi.json").write_bytes(document)
    (folder / "settings.yaml").write_text("post_hooks: []\n")
    command = [str(FOLDER / "bin" / "openapi-python-client"), "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--config", "settings.yaml", "--fail-on-warning"]
    done = subprocess.run(
        [*command, "--output-path", "gangway_client"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_generated_client_reads_every_answer(tmp_path: Path) -> None:
    if not (FOLDER / ".gangway").exists():
        absent("no openapi-python-client: run scripts/conformance-envs")
    generate(tmp_path)
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    bridge = BridgeProcess(tmp_path / "bridge", simulator.port)
    try:
        bridge.wait_for("ready")
        words = [str(tmp_path), bridge.url, ADMIN_KEY]
        done = subprocess.run(
            [str(FOLDER / "bin" / "python"), str(SCRIPTS / "generated.py"), *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    finally:
        bridge.stop()
        simulator.stop()
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert len(seen) > 20
    wrong = {name: each for name, each in seen.items() if not each[0] or each[1] == "NoneType"}
    assert wrong == {}
    assert all(seen[name][0] < 300 for name in ("quote", "contracts", "chain", "place", "read"))
