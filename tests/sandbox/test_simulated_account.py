"""The sandbox's account outlasts restarts and crashes, and is reset on purpose only."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

from tests.sandbox.stack import Sandbox, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(240)
STOCK = {"symbol": "AAPL", "action": "BUY", "quantity": 3}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running(tmp_path_factory.mktemp("account")) as found:
        yield found


def until(look: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return found


def known(sandbox: Sandbox) -> dict[str, Any]:
    """What the bridge says of the account, once it serves."""
    until(lambda: sandbox.get("/health")["state"] == "ready")
    orders = [
        (each["permId"], each["state"], each["quantity"], each["limitPrice"])
        for each in sandbox.get("/orders")["orders"]
    ]
    held = sandbox.get("/positions")["positions"]
    return {"orders": orders, "positions": [(each["symbol"], each["quantity"]) for each in held]}


def heard(sandbox: Sandbox) -> dict[str, Any] | None:
    """The same while the line may break between two questions; None when it did."""
    with suppress(HTTPError):
        return known(sandbox)
    return None


def working(found: dict[str, Any]) -> int:
    """How many of the orders are."""
    return [state for _, state, *_ in found["orders"]].count("acknowledged")


def gateway(sandbox: Sandbox) -> int:
    """The process that plays the gateway."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "simulator" in words and any(str(sandbox.base) in word for word in words):
                return int(folder.name)
    raise AssertionError("the gateway does not run")


def test_the_account_outlasts_what_happens_to_the_gateway(sandbox: Sandbox) -> None:
    sandbox.post("/order", STOCK | {"orderType": "MKT"})
    limit = {"orderType": "LMT", "limitPrice": 150.0, "tif": "GTC"}
    sandbox.post("/order", STOCK | limit)
    # The fill may come between the look at orders and the one at positions.
    before = until(lambda: (found := known(sandbox))["positions"] and working(found) < 2 and found)
    assert before["positions"] == [("AAPL", 3)]
    assert working(before) == 1, before

    assert sandbox.deploy("restart", "gateway").returncode == 0
    assert known(sandbox) == before

    os.kill(gateway(sandbox), signal.SIGKILL)
    time.sleep(1)
    until(lambda: heard(sandbox) == before)


def test_cold_begins_with_a_new_account_and_says_so(sandbox: Sandbox) -> None:
    done = sandbox.deploy("restart", "gateway", "--cold")
    assert done.returncode == 0, done.stderr
    assert "the simulated account is a new one" in done.stderr + done.stdout
    found = until(lambda: (now := known(sandbox))["positions"] == [] and now)
    assert {each[1] for each in found["orders"]} == {"terminal"}


def test_down_says_that_the_account_goes_with_it(sandbox: Sandbox) -> None:
    done = sandbox.deploy("down")
    assert "its simulated account is gone with it" in done.stderr
    assert not sandbox.base.exists()
    assert sandbox.deploy("up").returncode == 0
    assert known(sandbox) == {"orders": [], "positions": []}
