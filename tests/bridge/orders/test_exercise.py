"""Exercising options and letting them lapse, over HTTP, at the simulator."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from bridge.auditing import Caller
from bridge.model import Contract, ContractDetails, Position
from bridge.orders.errors import OrderRefusedByRulesError, TradingHaltedError
from bridge.orders.exercise import ExerciseRequest, OptionExerciser
from bridge.orders.submit import Placed
from bridge.orders.views import OrderView
from bridge.store.keys import KeyBounds
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.fake_broker import option as listed_option
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.test_order_types import codes
from tests.bridge.orders.test_over_http import Body, SimulatedBridge, soon
from tests.bridge.rig import SimulatorProcess

RULES: Body = {"option_price_band_percent": None, "max_notional": None}


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    made = SimulatorProcess(tmp_path / "simulator.log", "--start", "2026-11-20T10:00:00-05:00")
    yield made
    made.stop()


@pytest.fixture
def bridge(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[SimulatedBridge]:
    made = SimulatedBridge(tmp_path / "bridge", simulator, **RULES)
    yield made
    made.bridge.stop()


def option(bridge: SimulatedBridge, held: int = 3) -> Body:
    """A call in the money, `held` of which are held."""
    chain = bridge.bridge.get("/options/chain", symbol="AAPL").json()
    strikes = chain["strikes"]
    named = {
        "symbol": "AAPL",
        "secType": "OPT",
        "expiration": next(each["expiration"] for each in chain["expirations"] if each["dte"] > 20),
        "strike": strikes[0],
        "right": "C",
    }
    order = (
        bridge.placed(**named, action="BUY", quantity=held, orderType="LMT", limitPrice=900.0)
        if held
        else {}
    )
    if held:
        soon(lambda: bridge.has_status(order["orderId"], "Filled"))
    return named


def exercise(bridge: SimulatedBridge, key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    asked = {"action": "exercise", "quantity": 1, "confirm": True} | body
    return bridge.client.post("/options/exercise", json=asked, headers=headers)


def sent(bridge: SimulatedBridge) -> list[Body]:
    return [
        each for each in bridge.simulator.book()["requests"] if each["message"] == "exerciseOptions"
    ]


def test_one_is_exercised_after_the_close_and_delivers(bridge: SimulatedBridge) -> None:
    named = option(bridge)
    answer = exercise(bridge, "one-key", **named, quantity=2)
    assert answer.status_code == 201, answer.text
    order = answer.json()
    assert (order["orderType"], order["quantity"], order["state"]) == (
        "EXERCISE",
        2,
        "acknowledged",
    )
    again = exercise(bridge, "one-key", **named, quantity=2)
    assert (again.json()["orderId"], len(sent(bridge))) == (order["orderId"], 1)
    bridge.simulator.advance(7 * 3600)
    soon(lambda: bridge.has_status(order["orderId"], "Filled"))
    held = {
        (each["symbol"], each["secType"]): each["quantity"]
        for each in bridge.bridge.get("/positions").json()["positions"]
    }
    assert held == {("AAPL", "OPT"): 1, ("AAPL", "STK"): 200}


def test_one_that_lapses_can_be_taken_back(bridge: SimulatedBridge) -> None:
    named = option(bridge)
    refused = exercise(bridge, **named, action="lapse")  # it is in the money
    assert (refused.status_code, refused.json()["code"]) == (422, "order-rejected")
    order = exercise(bridge, **named, action="lapse", override=True).json()
    assert order["orderType"] == "LAPSE"
    changed = bridge.client.patch(f"/order/{order['orderId']}", json={"quantity": 2})
    assert codes(changed) == {"unexpected-field"}
    gone = bridge.client.delete(f"/order/{order['orderId']}")
    assert gone.json()["status"] == "Cancelled"


def test_nothing_is_sent_without_a_confirmation_or_beyond_what_is_held(
    bridge: SimulatedBridge,
) -> None:
    named = option(bridge)
    assert codes(exercise(bridge, **named, confirm=False)) == {"confirmation-required"}
    assert codes(exercise(bridge, **named, quantity=4)) == {"exceeds-position"}
    assert exercise(bridge, **named, quantity=2).status_code == 201
    assert codes(exercise(bridge, **named, quantity=2)) == {"exceeds-position"}
    assert "invalid-field" in codes(exercise(bridge, symbol="AAPL", conId=265598))
    assert len(sent(bridge)) == 1


def test_after_a_crash_it_is_found_again_and_not_sent_twice(
    bridge: SimulatedBridge, simulator: SimulatorProcess
) -> None:
    named = option(bridge)
    order = exercise(bridge, "crash-key", **named).json()
    os.kill(bridge.bridge.pid, signal.SIGKILL)
    bridge.bridge.process.wait()
    after = SimulatedBridge(bridge.bridge.folder, simulator, **RULES)
    try:
        again = exercise(after, "crash-key", **named)
        assert again.json()["orderId"] == order["orderId"]
        assert (after.order(order["orderId"])["state"], len(sent(after))) == ("acknowledged", 1)
    finally:
        after.bridge.stop()


async def instruct(rig: Rig, key: str, caller: Caller = CALLER, **fields: Any) -> Placed:
    named: dict[str, Any] = {"symbol": "AAPL", "con_id": 777, "quantity": 1, "confirm": True}
    request = ExerciseRequest(**({"action": "exercise"} | named | fields))
    return await rig.services[OptionExerciser].place(request, key, caller)


async def refused(rig: Rig, caller: Caller = CALLER, **fields: Any) -> list[str]:
    with pytest.raises(OrderRefusedByRulesError) as caught:
        await instruct(rig, f"refused-{fields}", caller, **fields)
    return [each.code for each in caught.value.violations]


def holding(quantity: float) -> FakeBroker:
    broker = FakeBroker()
    contract = listed_option().contract
    broker.held = (
        Position(account="DU1234567", contract=contract, quantity=quantity, average_cost=1.0),
    )
    return broker


async def test_what_is_held_and_free_is_instructed_once_for_a_key(tmp_path: Path) -> None:
    broker = holding(3.0)
    async with opened(tmp_path, broker, **RULES) as rig:
        first = await instruct(rig, "key", quantity=2, override=True)
        again = await instruct(rig, "key", quantity=2, override=True)
        assert (first.replayed, again.replayed) == (False, True)
        assert isinstance(first.answer, OrderView)
        assert isinstance(again.answer, OrderView)
        assert again.answer.order_id == first.answer.order_id
        (number,) = broker.placed
        sent = broker.book[number].order
        assert (sent.action, sent.quantity, sent.tif) == ("SELL", 2.0, "GTC")
        assert (sent.account, sent.override, sent.transmit) == ("DU1234567", True, True)
        assert await refused(rig, quantity=2) == ["exceeds-position"], "one is free"
        lapse = await instruct(rig, "other", quantity=1, action="lapse")
        assert isinstance(lapse.answer, OrderView)
        kinds = [broker.book[each].order.order_type for each in broker.placed]
        assert len(set(kinds)) == 2


@pytest.mark.parametrize(
    ("held", "quantity", "goes"),
    [(3.0, 3, True), (3.0, 4, False), (0.0, 1, False), (-3.0, 1, False)],
)
async def test_no_more_is_instructed_than_is_held(
    tmp_path: Path, held: float, quantity: int, goes: bool
) -> None:
    broker = holding(held)
    async with opened(tmp_path, broker, **RULES) as rig:
        if goes:
            assert not (await instruct(rig, "key", quantity=quantity)).replayed
        else:
            assert await refused(rig, quantity=quantity) == ["exceeds-position"]
        assert len(broker.placed) == goes


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_notional": 39_999}, "max-notional"),
        ({"max_notional_per_day": 39_999}, "max-notional-per-day"),
        ({"max_contracts": 1}, "max-contracts"),
    ],
)
async def test_an_exercise_counts_with_the_strike_and_a_lapse_does_not(
    tmp_path: Path, limits: Body, code: str
) -> None:
    broker = holding(9.0)
    async with opened(tmp_path, broker, **(RULES | limits)) as rig:
        assert await refused(rig, quantity=2) == [code]
        assert not broker.placed
        assert not (await instruct(rig, "lapse", action="lapse", quantity=2)).replayed


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_quantity": 199}, "max-quantity"),
        ({"allow_sec_types": ["OPT"]}, "sec-type-not-allowed"),
    ],
)
async def test_what_an_exercise_delivers_is_held_against_the_limits_of_shares(
    tmp_path: Path, limits: Body, code: str
) -> None:
    async with opened(tmp_path, holding(9.0), **(RULES | limits)) as rig:
        assert await refused(rig, quantity=2) == [code]
        await instruct(rig, "lapse", action="lapse", quantity=2)
        rig.broker.options = tuple(
            structs.replace(each, under_con_id=416904) for each in rig.broker.options
        )
        index = Contract(symbol="AAPL", con_id=416904, sec_type="IND")
        rig.broker.details["416904"] = (ContractDetails(contract=index),)
    async with opened(tmp_path, rig.broker, **(RULES | limits)) as again:
        await instruct(again, "in cash", quantity=2)


@pytest.mark.parametrize("limit", ["max_open_orders", "max_orders_per_day"])
async def test_an_exercise_is_one_of_the_orders_that_are_counted(
    tmp_path: Path, limit: str
) -> None:
    rules = RULES | {limit: 1}
    async with opened(tmp_path, holding(9.0), **rules) as rig:
        await instruct(rig, "first", quantity=1)
        assert await refused(rig, quantity=1) == [limit.replace("_", "-")]
        await instruct(rig, "lapse", action="lapse", quantity=1)


async def test_what_is_exercised_today_is_money_of_the_day(tmp_path: Path) -> None:
    rules = RULES | {"max_notional": 40_000, "max_notional_per_day": 60_000, "max_loss": 1}
    async with opened(tmp_path, holding(9.0), **rules) as rig:
        await instruct(rig, "two", quantity=2)
        await instruct(rig, "lapse", action="lapse", quantity=2)
        assert await refused(rig, quantity=2) == ["max-notional-per-day"]
        await instruct(rig, "one", quantity=1)


async def test_a_bound_key_exercises_no_more_than_it_may_order(tmp_path: Path) -> None:
    broker = holding(9.0)
    bounds = KeyBounds(symbols=("AAPL",), max_notional=20_000, max_orders_per_day=1)
    bound = Caller("bound", "request-1", bounds=bounds)
    async with opened(tmp_path, broker, **RULES) as rig:
        assert await refused(rig, bound, quantity=2) == ["key-max-notional"]
        await instruct(rig, "one", bound, quantity=1)
        assert await refused(rig, bound, quantity=1) == ["key-max-orders-per-day"]
        assert len(broker.placed) == 1


async def test_no_halt_lets_an_exercise_pass(tmp_path: Path) -> None:
    broker = holding(9.0)
    async with opened(tmp_path, broker, **RULES) as rig:
        await rig.halt.halt("", "none", CALLER, allow_closing=True)
        with pytest.raises(TradingHaltedError, match="an exercise opens a position"):
            await instruct(rig, "exercise", quantity=2)
        assert not broker.placed
        await instruct(rig, "lapse", action="lapse", quantity=2)


async def test_a_halt_that_comes_while_an_exercise_is_prepared_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = holding(9.0)
    async with opened(tmp_path, broker, **RULES) as rig:
        exerciser = rig.services[OptionExerciser]
        prepare = exerciser.preparer.prepare

        async def halted_meanwhile(request: Any) -> Any:
            await rig.halt.halt("", "none", CALLER, allow_closing=True)
            return await prepare(request)

        monkeypatch.setattr(exerciser.preparer, "prepare", halted_meanwhile)
        with pytest.raises(TradingHaltedError):
            await instruct(rig, "exercise", quantity=2)
        assert not broker.placed


async def test_a_halt_takes_back_an_exercise_that_waits(tmp_path: Path) -> None:
    broker = holding(9.0)
    async with opened(tmp_path, broker, **RULES) as rig:
        exercised = (await instruct(rig, "exercise", quantity=2)).answer
        lapsing = (await instruct(rig, "lapse", action="lapse", quantity=2)).answer
        assert isinstance(exercised, OrderView)
        assert isinstance(lapsing, OrderView)
        cancelled = (await rig.halt.halt("", "opening", CALLER)).cancelled
        assert cancelled is not None
        assert cancelled.requested == (exercised.order_id,)
        assert cancelled.kept == (lapsing.order_id,)


async def test_only_an_option_and_only_when_that_is_confirmed(tmp_path: Path) -> None:
    broker = holding(3.0)
    async with opened(tmp_path, broker, **RULES) as rig:
        assert await refused(rig, confirm=False) == ["confirmation-required"]
        assert "invalid-field" in await refused(rig, con_id=265598)
        assert broker.wire == []


def test_how_it_names_the_option() -> None:
    def named(**fields: Any) -> Any:
        return ExerciseRequest(action="lapse", symbol="AAPL", quantity=2, **fields).named()

    assert (named().sec_type, named().action, named().order_type) == ("OPT", "SELL", "MKT")
    assert (named(con_id=7).sec_type, named(con_id=7).con_id) == (None, 7)
    assert named(sec_type="FOP").sec_type == "FOP"
    assert (named(strike=5.0, right="C").strike, named(account="DU1").account) == (5.0, "DU1")
    assert named().quantity == 2
