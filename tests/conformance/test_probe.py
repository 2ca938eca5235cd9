"""The newest official client asks for everything: right, or refused as the list here allows."""

from __future__ import annotations

import json
import subprocess
from collections import Counter

import pytest

from tests.conformance.running import CLIENTS, SCRIPTS, gateway

pytestmark = pytest.mark.conformance

SECONDS = 120
REFUSED = {
    "details BOND": 200,
    "order PEG BENCH": 387,
    "order VOL": 387,
    "order CONTFUT": 387,
    "order IND": 203,
    "unknown algorithm": 321,
    "no exchange": 321,
    "lapse of too many": 322,
    "scanner": 162,
    "news article": 10276,
    "past news": 10276,
    "advisor": 321,
    "calendar": 10276,
}
"""Call -> the error that the gateway answers it with here; every other one is answered."""


def test_each_call_is_right_or_refused_as_listed() -> None:
    [latest] = [each for each in CLIENTS if each.name == "ibapi-latest"]
    python = latest.command()[0]
    with gateway("--start=2026-11-20T10:00:00-05:00", "--history-pacing=off") as at:
        done = subprocess.run(
            [python, str(SCRIPTS / "probe.py"), str(at.port)],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    counted = Counter("right" if each == "right" else "other" for each in results.values())
    assert {call: each for call, each in results.items() if each != "right"} == REFUSED
    assert counted["right"] > 80
