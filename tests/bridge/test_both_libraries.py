"""The same tests of the session and of the process, on the other client library.

ib_async and ib_insync both ship a module `eventkit`, so the second one lives in an environment of
its own. From there this file is not collected again.
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-ib-insync" / "bin" / "python"
TESTS = (
    "tests/bridge/tws/test_session.py",
    "tests/bridge/tws/test_wire.py",
    "tests/bridge/tws/test_faults.py",
    "tests/bridge/tws/test_day.py",
    "tests/bridge/tws/test_values.py",
    "tests/bridge/market/test_futures_options.py",
    "tests/bridge/market/test_bonds.py",
    "tests/bridge/account/test_over_simulator.py",
    "tests/bridge/orders/test_quarantine.py",
    "tests/bridge/orders/test_wire_codes.py",
    "tests/bridge/orders/test_wire_property.py",
    "tests/bridge/orders/test_change_terms.py",
    "tests/bridge/orders/test_other_clients.py",
    "tests/bridge/orders/test_order_types.py",
    "tests/bridge/orders/test_combinations.py",
    "tests/bridge/orders/test_target.py",
    "tests/bridge/orders/test_exercise.py",
    "tests/bridge/api/test_process.py::test_starts_without_a_gateway_and_finds_it_later",
    "tests/bridge/api/test_process.py::test_sigterm_answers_what_is_pending_and_ends_with_0",
)
# Every fault is met on both libraries; combinations of faults concern the bridge's own code only.
NOT_AGAIN = "not on_top_of_another and not of_trading_and"


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    importlib.util.find_spec("ib_async") is None, reason="this is the other library already"
)
@pytest.mark.skipif(
    not PYTHON.exists(), reason="no environment with ib_insync (scripts/setup insync)"
)
def test_everything_holds_on_ib_insync() -> None:
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-n", "4", "-k", NOT_AGAIN, *TESTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
