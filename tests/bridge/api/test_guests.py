"""Keys of scope history: bars, chains and contracts under a small budget, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.callers import (
    GUEST,
    GUEST_REQUESTS,
    GUEST_SECONDS,
    ONE_GUEST,
    GuestBudget,
    GuestLimitError,
)
from bridge.single_flight import SingleFlight
from tests.bridge.rig import BridgeProcess, SimulatorProcess
from tests.bridge.wound import WoundClock

OPEN = {"/history", "/options/chain", "/contracts", "/contracts/search"}


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    folder: Path = tmp_path_factory.mktemp("guests")
    simulator = SimulatorProcess(folder / "simulator.log")
    running = BridgeProcess(folder / "bridge", simulator.port)
    running.wait_for("ready")
    yield running
    running.stop()
    simulator.stop()


def guest(bridge: BridgeProcess) -> httpx.Client:
    made = bridge.client.post("/keys", json={"label": "guest", "scope": "history"}).json()
    assert made["scope"] == "history"
    return httpx.Client(
        base_url=bridge.url, headers={"X-API-KEY": made["key"]}, timeout=20, trust_env=False
    )


def test_nothing_but_the_market_is_open(bridge: BridgeProcess) -> None:
    document: dict[str, Any] = bridge.client.get("/openapi.json").json()
    tried = 0
    with guest(bridge) as client:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not operation.get("security", document.get("security")):
                    continue
                status = client.request(method, path.replace("{", "").replace("}", "")).status_code
                assert (status != 403) is (path in OPEN and method == "get"), (method, path, status)
                tried += 1
        assert client.get("/history", params={"symbol": "AAPL"}).status_code == 200
        chain = client.get("/options/chain", params={"symbol": "AAPL"})
        assert chain.status_code == 200
        assert "DU" not in chain.text
    assert tried > 40


def test_guests_have_a_budget_of_their_own_and_the_cache_is_free(bridge: BridgeProcess) -> None:
    sizes = ["1 min", "2 mins", "3 mins", "5 mins", "10 mins", "15 mins", "20 mins", "30 mins"]
    sizes += ["1 hour", "2 hours", "3 hours", "4 hours", "8 hours"]

    def ask(client: httpx.Client, size: str) -> httpx.Response:
        return client.get("/history", params={"symbol": "MSFT", "barSize": size})

    with guest(bridge) as client:
        answers = [ask(client, size) for size in sizes]
        served = [each.status_code for each in answers].index(429)
        assert 4 < served <= ONE_GUEST
        assert answers[served].json()["code"] == "guest-limit"
        assert 500 < int(answers[served].headers["Retry-After"]) <= 600
        contract = {"symbol": "MSFT"}
        assert client.get("/contracts", params=contract).status_code == 200  # known already
    assert ask(bridge.client, "8 hours").status_code == 200


def test_the_budget_is_of_any_ten_minutes() -> None:
    clock = WoundClock()
    budget = GuestBudget(clock)
    for _ in range(ONE_GUEST):
        budget.spend("one")
    with pytest.raises(GuestLimitError, match="this key has") as refused:
        budget.spend("one")
    assert refused.value.retry_after == GUEST_SECONDS
    clock.advance(100)
    for _ in range(GUEST_REQUESTS - ONE_GUEST):
        budget.spend("other")
    with pytest.raises(GuestLimitError, match="guests have"):
        budget.spend("third")
    clock.advance(GUEST_SECONDS - 100)
    for _ in range(ONE_GUEST):
        budget.spend("third")
    with pytest.raises(GuestLimitError):
        budget.spend("third")


async def test_a_guest_without_budget_takes_part_in_what_others_ask_and_spoils_nothing() -> None:
    clock, asked = WoundClock(), asyncio.Event()
    flight: SingleFlight[str, int] = SingleFlight(clock)

    async def answer() -> int:
        await asked.wait()
        return 7

    def refuse() -> None:
        raise GuestLimitError("no more")

    async def as_guest() -> int:
        GUEST.set(refuse)
        return await flight.get("bars", answer)

    with pytest.raises(GuestLimitError):
        await asyncio.create_task(as_guest())
    owner = asyncio.create_task(flight.get("bars", answer))
    await asyncio.sleep(0)
    joined = asyncio.create_task(as_guest())
    await asyncio.sleep(0)
    asked.set()
    assert set(await asyncio.gather(owner, joined)) == {7}
