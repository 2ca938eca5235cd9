"""Every route of the OpenAPI document against a bridge with a simulated gateway.

Whatever is sent, valid or not, the answer has a documented status and the documented shape, and is
never a 500. Routes that move or drop the session come last, on a bridge of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bridge.api.app import document
from bridge.compose import route_tables
from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess

EXAMPLES = int(os.environ.get("GANGWAY_EXAMPLES", "3"))  # for each operation; more by hand
CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
MOVING = r"^/(connection/(reconnect|settings|test)|sandbox|alerts|session|portal)"

SESSION = requests.Session()  # one kept connection: most of a request is otherwise its opening

schema = schemathesis.openapi.from_dict(document(route_tables()))
BOUNDED = settings(
    max_examples=EXAMPLES,
    database=None,
    derandomize="GANGWAY_EXAMPLES" not in os.environ,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def start(folder: Path) -> Iterator[BridgeProcess]:
    simulator = SimulatorProcess(folder / "simulator.log", "--rate-limit", "0")
    bridge = BridgeProcess(folder / "bridge", simulator.port)
    try:
        bridge.wait_for("ready")
        yield bridge
    finally:
        bridge.stop()
        simulator.stop()


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    yield from start(tmp_path_factory.mktemp("steady"))


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    yield from start(tmp_path_factory.mktemp("moved"))


def check(case: schemathesis.Case, bridge: BridgeProcess) -> None:
    headers = {"X-API-KEY": ADMIN_KEY}
    response = case.call(base_url=bridge.url, session=SESSION, headers=headers, timeout=30)
    assert response.status_code != 500, response.text
    case.validate_response(response, checks=CHECKS)


@schema.exclude(path_regex=MOVING).parametrize()
@BOUNDED
def test_reading_and_trading(case: schemathesis.Case, steady: BridgeProcess) -> None:
    check(case, steady)


@schema.include(path_regex=MOVING).parametrize()
@BOUNDED
def test_what_moves_the_session(case: schemathesis.Case, moved: BridgeProcess) -> None:
    check(case, moved)
