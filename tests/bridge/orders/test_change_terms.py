"""A change keeps every term: random sequences of them, judged by the simulator's own record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.model import Order
from bridge.orders.legs import same, same_moment, taken
from tests.bridge.rig import BridgeProcess, SimulatorProcess

PLACE, STATUS, OPEN_ORDER = 3, 3, 5
IN_BOOK = {
    "quantity": "quantity",
    "limitPrice": "limitPrice",
    "stopPrice": "stopPrice",
    "tif": "tif",
    "goodTillDate": "goodTillDate",
    "outsideRth": "outsideRth",
}
PLACED = {"symbol": "AAPL", "action": "BUY", "quantity": 5, "orderType": "LMT", "limitPrice": 1.5}
NEAR, LATER = "20300301 16:00:00 US/Eastern", "20300601-20:00:00"

FAULTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "late": [{"action": "delay", "message": OPEN_ORDER, "seconds": 0.3, "skip": 1}],
    "not-listed": [{"action": "drop", "message": OPEN_ORDER, "times": 1}],
    "lost": [{"action": "drop", "message": OPEN_ORDER, "skip": 1}],
    "doubled": [{"action": "duplicate", "message": OPEN_ORDER}],
    "behind-the-next": [{"action": "hold", "message": OPEN_ORDER, "messages": 3, "times": 1}],
    "never-arrived": [
        {"action": "drop", "direction": "to-gateway", "message": PLACE, "times": 1},
    ],
}

changes = st.fixed_dictionaries(
    {},
    optional={
        "quantity": st.integers(1, 9),
        "limitPrice": st.integers(100, 400).map(lambda cents: cents / 100),
        "outsideRth": st.booleans(),
        "term": st.sampled_from(["DAY", "GTC", NEAR, LATER]),
    },
).filter(bool)
steps = st.lists(st.tuples(changes, st.sampled_from([*FAULTS, "dropped"])), min_size=2, max_size=6)


class Rig:
    def __init__(self, folder: Path) -> None:
        rules = folder / "trading.json"
        rules.write_text(json.dumps({"answer_within_seconds": 1}))
        self.simulator = SimulatorProcess(folder / "simulator.log")
        env = {"BRIDGE_TRADING_FILE": str(rules)}
        self.bridge = BridgeProcess(folder / "bridge", self.simulator.port, **env)
        self.bridge.wait_for("ready")
        self.keys = 0

    def place(self, **body: Any) -> Any:
        self.keys += 1
        headers = {"Idempotency-Key": f"key-{self.keys}"}
        answer = self.bridge.client.post("/order", json=PLACED | body, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def change(self, order_id: str, **body: Any) -> httpx.Response:
        return self.bridge.client.patch(f"/order/{order_id}", json=body)

    def shown(self, order_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.bridge.get(f"/order/{order_id}").json()
        return found

    def in_book(self, order: dict[str, Any]) -> dict[str, Any]:
        found = [
            each
            for each in self.simulator.book()["orders"]
            if each["orderRef"] == order["orderRef"]
        ]
        assert len(found) == 1, found
        return {name: found[0][there] for name, there in IN_BOOK.items()}

    def fault(self, name: str) -> None:
        if name == "dropped":
            self.simulator.fault("drop-order-ack", 0.5)
        elif FAULTS[name]:
            self.simulator.fault("wire-rewrite", rules=FAULTS[name])

    def clear(self) -> None:
        self.simulator.clear()
        self.bridge.wait_for("ready")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("terms"))
    yield made
    assert not [each for each in made.bridge.events() if "exception" in each]
    made.bridge.stop()
    made.simulator.stop()


def body_of(change: dict[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in change.items() if name != "term"}
    term = change.get("term")
    if term in {"DAY", "GTC"}:
        return body | {"tif": term}
    return body | ({"tif": "GTD", "goodTillDate": term} if term else {})


def after(before: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    wanted = before | body
    if not body:
        return before
    return wanted if wanted["tif"] == "GTD" else wanted | {"goodTillDate": ""}


@settings(
    max_examples=12,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps)
def test_the_book_changes_in_what_was_asked_for_and_in_nothing_else(
    rig: Rig, steps: list[tuple[dict[str, Any], str]]
) -> None:
    """However late, lost or doubled the broker's confirmations are.

    What is asked for and has no answer yet goes along with the next change.
    """
    order = rig.place()
    held = rig.in_book(order)
    unanswered: dict[str, Any] = {}
    for change, fault in [*steps, ({"quantity": 7}, "none")]:
        body = body_of(change)
        if rig.shown(order["orderId"])["pending"] is None:
            unanswered = {}
        rig.fault(fault)
        answer = rig.change(order["orderId"], **body)
        book = rig.in_book(order)
        taken = [after(held, body), after(after(held, unanswered), body)]
        assert book in (held, after(held, unanswered), *taken), (body, fault, answer.text)
        if answer.status_code == 200:
            assert book in taken, (body, fault)
            shown = answer.json()
            assert {name: shown[name] for name in body} == body
        else:
            assert answer.status_code in {422, 503, 504}, answer.text
            unanswered = after(after(held, unanswered), body)
        rig.clear()
        held = book
    rig.bridge.client.delete(f"/order/{order['orderId']}")


def test_a_changed_date_is_shown_and_sent_again(rig: Rig) -> None:
    order = rig.place(tif="GTD", goodTillDate=NEAR)
    later = rig.change(order["orderId"], goodTillDate=LATER)
    assert (later.status_code, later.json()["goodTillDate"]) == (200, LATER), later.text
    assert rig.change(order["orderId"], quantity=6).json()["goodTillDate"] == LATER
    assert rig.in_book(order) == {
        "quantity": 6,
        "limitPrice": 1.5,
        "stopPrice": None,
        "tif": "GTD",
        "goodTillDate": LATER,
        "outsideRth": False,
    }
    assert rig.change(order["orderId"], tif="GTC").json()["goodTillDate"] is None


def test_a_term_that_the_broker_leaves_as_it_was_is_no_success(rig: Rig) -> None:
    """It answers the change, with the old date."""
    order = rig.place(tif="GTD", goodTillDate=NEAR)
    old = {"action": "rewrite", "direction": "to-gateway", "message": PLACE}
    sent = rig.simulator.book()["clients"][0]["received"]
    place = next(
        each["fields"]
        for each in reversed(sent)
        if each["fields"][0] == "3" and NEAR in each["fields"]
    )
    where = place.index(NEAR)
    rig.simulator.fault("wire-rewrite", rules=[old | {"set": {str(where): NEAR}}])
    answer = rig.change(order["orderId"], goodTillDate=LATER)
    assert answer.status_code in {422, 504}, answer.text
    assert rig.shown(order["orderId"])["goodTillDate"] == NEAR
    rig.clear()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (NEAR, "20300301-21:00:00", True),
        (NEAR, NEAR, True),
        (NEAR, "20300301-21:00:01", False),
        (NEAR, "20300302-21:00:00", False),
        ("20300301 16:00:00", "20300301 16:00:01", False),
        ("20300301 16:00:00", "20300302 16:00:00", False),
        ("20300301 16:00:00", "20300302 16:00:00 JST", False),
        ("20300301 16:00:00", NEAR, True),
        ("20300301 16:00:00", "20300301-16:00:00", False),
        (NEAR, "20300301 16:00:00 JST", False),
        ("20300301 16:00:00 America/New_York", NEAR, True),
        ("", NEAR, False),
        ("nonsense", NEAR, False),
    ],
)
def test_times_are_compared_as_moments(one: str, other: str, same: bool) -> None:
    assert same_moment(one, other) is same_moment(other, one) is same


def test_other_members_are_compared_as_they_are() -> None:
    assert same("limit_price", 1.0, 1.0)
    assert not same("limit_price", 1.0, 2.0)
    assert not same("limit_price", 2.0, 1.0)
    assert not same("good_after_time", NEAR, "20300301-21:00:00")
    assert same("good_till_date", NEAR, "20300301-21:00:00")


@pytest.mark.parametrize(
    ("action", "asked", "has", "before", "is_taken"),
    [
        ("SELL", 95.0, 95.0, 90.0, True),
        ("SELL", 95.0, 96.0, 90.0, True),
        ("SELL", 95.0, 94.0, 90.0, False),
        ("SELL", 95.0, 90.0, 90.0, False),
        ("SELL", 80.0, 85.0, 90.0, True),
        ("SELL", 80.0, 90.0, 90.0, False),
        ("SELL", 90.0, 90.0, 90.0, True),
        ("BUY", 105.0, 105.0, 110.0, True),
        ("BUY", 105.0, 104.0, 110.0, True),
        ("BUY", 105.0, 106.0, 110.0, False),
        ("BUY", 120.0, 115.0, 110.0, True),
        ("BUY", 120.0, 110.0, 110.0, False),
        ("SELL", 95.0, None, 90.0, False),
        ("SELL", 95.0, 96.0, None, False),
        ("SELL", 95.0, 95.0, None, True),
    ],
)
def test_a_trailing_stop_may_have_gone_on_from_where_it_was_put(
    action: Any, asked: float, has: float | None, before: float | None, is_taken: bool
) -> None:
    wanted, held, earlier = (
        Order(action=action, trail_stop_price=each) for each in (asked, has, before)
    )
    assert taken("trail_stop_price", wanted, held, earlier) is is_taken
