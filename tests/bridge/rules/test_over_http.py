"""Rules as an app meets them: real simulator, real bridge, HTTP."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from simulator.clock import EASTERN
from simulator.market.calendar import closed_days
from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess

Body = dict[str, Any]
LIMITS = {"max_quantity": 10_000, "max_notional": None, "max_notional_per_day": None,
          "max_contracts": 500, "market_orders_on_options": True, "price_band_percent": None,
          "option_price_band_percent": None}  # fmt: skip
QUICK = {"steps": 1, "stepSeconds": 1}
MARKET = {"order": "market"}
"""Where no order may be changed, a limit rests where it is, and the market may go away from it."""
SYMBOLS = iter(["AAPL", "MSFT", "NVDA", "AMZN", "TSLA", "GOOGL", "META", "AMD", "INTC", "JPM",
                "XOM"])  # fmt: skip


def trading_hours() -> datetime:
    """The next day on which the exchange is open all day, at eleven in New York."""
    day, closed = datetime.now(EASTERN).date() + timedelta(days=1), closed_days()
    while day.weekday() > 4 or day in closed.holidays | closed.half:
        day += timedelta(days=1)
    return datetime.combine(day, clock(11), EASTERN)


class ShiftedBridge(BridgeProcess):
    """A bridge whose clock is that of the simulator."""

    MODULE = "tests.bridge.rules.shifted_bridge"


def simulator_of(folder: Path, start: datetime, *more: str) -> SimulatorProcess:
    log = folder / "simulator.log"
    return SimulatorProcess(log, "--start", start.isoformat(), "--hours", "exchange", *more)


class Rig:
    """A bridge over a simulator, both at that time, with rules."""

    def __init__(
        self, folder: Path, simulator: SimulatorProcess, start: datetime, **env: str
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        offset = (start - datetime.now(EASTERN)).total_seconds()
        limits = folder / "trading.json"
        limits.write_text(json.dumps(LIMITS))
        self.simulator = simulator
        self.env = {
            "BRIDGE_TRADING_FILE": str(limits),
            "GANGWAY_CLOCK_OFFSET": str(offset),
            **env,
        }
        self._option: Body | None = None
        self.bridge: BridgeProcess = ShiftedBridge(folder, simulator.port, **self.env)
        self.bridge.wait_for("ready")

    def buy(self, symbol: str, quantity: float, action: str = "BUY", **more: Any) -> Body:
        body = {"symbol": symbol, "action": action, "quantity": quantity, "orderType": "MKT"}
        answer = self.bridge.client.post(
            "/order", json=body | more, headers={"Idempotency-Key": str(uuid.uuid4())}
        )
        assert answer.status_code == 201, answer.text
        found: Body = answer.json()
        soon(lambda: self.order(found["orderId"])["status"] == "Filled")
        return found

    def option(self) -> Body:
        """An option years away, whose market is so wide that an order in the middle rests."""
        if self._option is None:
            chain = self.bridge.get("/options/chain", symbol="SPY").json()
            last = self.bridge.get("/quote/SPY").json()["last"]["value"]
            strike = min(chain["strikes"], key=lambda each: abs(each - last))
            self._option = {
                "secType": "OPT",
                "right": "C",
                "strike": strike,
                "expiration": chain["expirations"][-1]["expiration"],
            }  # fmt: skip
        return self._option

    def order(self, order_id: str) -> Body:
        found: Body = self.bridge.get(f"/order/{order_id}").json()
        return found

    def put(self, *rules: Body, **more: Any) -> Body:
        rules = tuple({"close": QUICK} | rule for rule in rules)
        answer = self.bridge.client.put("/rules", json={"rules": rules, **more})
        assert answer.status_code == 200, answer.text
        found: Body = answer.json()
        return found

    def held(self, symbol: str) -> float:
        positions = self.bridge.get("/positions").json()["positions"]
        return float(sum(each["quantity"] for each in positions if each["symbol"] == symbol))

    def events(self, rule: str) -> list[Body]:
        found: list[Body] = self.bridge.get("/rules/events", rule=rule, limit=500).json()["events"]
        return found[::-1]

    def kinds(self, rule: str) -> list[str]:
        return [each["kind"] for each in self.events(rule)]

    def sold(self, symbol: str) -> list[Body]:
        return [
            each
            for each in self.simulator.book()["orders"]
            if each["symbol"] == symbol and each["action"] == "SELL"
        ]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("rules")
    start = trading_hours()
    simulator = simulator_of(folder, start)
    made = Rig(folder / "bridge", simulator, start)
    yield made
    made.bridge.stop()
    simulator.stop()


@pytest.fixture
def symbol(rig: Rig) -> Iterator[str]:
    """One that no other test holds; in the end no rule is left."""
    yield next(SYMBOLS)
    rig.put()


def soon(check: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return value


def test_a_stop_closes_the_position_with_one_order(rig: Rig, symbol: str) -> None:
    rig.buy(symbol, 60)
    rig.put(
        {"id": "stop", "mode": "trade", "match": {"symbol": symbol}, "stopLoss": {"price": 1e6}}
    )
    soon(lambda: "closed" in rig.kinds("stop"))
    assert rig.held(symbol) == 0
    (order,) = rig.sold(symbol)
    assert (order["quantity"], order["filled"], order["orderType"]) == (60, 60, "LMT")
    assert rig.kinds("stop") == ["decided", "order", "closed"]
    decided, _, closed = rig.events("stop")
    assert decided["detail"]["symbol"] == symbol
    assert decided["detail"]["trigger"] == "stopLoss"
    assert closed["detail"]["quantity"] == 60
    rig.buy(symbol, 7)  # opened again: another position, another decision
    soon(lambda: rig.kinds("stop").count("closed") == 2)
    assert rig.held(symbol) == 0
    assert [each["filled"] for each in rig.sold(symbol)] == [60, 7]


def test_a_short_position_is_bought_back(rig: Rig, symbol: str) -> None:
    rig.buy(symbol, 40, action="SELL")
    rig.put(
        {"id": "back", "mode": "trade", "match": {"symbol": symbol, "side": "short"},
         "takeProfit": {"price": 1e6}, "close": {"order": "market"}}
    )  # fmt: skip
    soon(lambda: "closed" in rig.kinds("back"))
    assert rig.held(symbol) == 0
    bought = [each for each in rig.simulator.book()["orders"]
              if each["symbol"] == symbol and each["action"] == "BUY"]  # fmt: skip
    assert [(each["quantity"], each["orderType"]) for each in bought] == [(40, "MKT")]


def test_simulate_sends_nothing_and_says_it_once(rig: Rig, symbol: str) -> None:
    rig.buy(symbol, 25)
    rig.put({"id": "dry", "match": {"symbol": symbol}, "stopLoss": {"price": 1e6}})
    soon(lambda: rig.kinds("dry"))
    time.sleep(1.5)
    (event,) = rig.events("dry")
    assert event["kind"] == "simulated"
    assert (event["detail"]["action"], event["detail"]["quantity"]) == ("SELL", 25)
    assert event["detail"]["price"] > 0
    assert (rig.held(symbol), rig.sold(symbol)) == (25, [])


def test_a_rule_that_was_simulated_closes_once_it_may_trade(rig: Rig, symbol: str) -> None:
    rig.buy(symbol, 25)
    rule = {"id": "later", "match": {"symbol": symbol}, "stopLoss": {"price": 1e6}}
    rig.put(rule | {"mode": "trade"}, mode="simulate")
    soon(lambda: rig.kinds("later") == ["simulated"])
    rig.put(rule | {"mode": "trade"})
    soon(lambda: "closed" in rig.kinds("later"))
    assert (rig.held(symbol), len(rig.sold(symbol))) == (0, 1)


def test_what_a_person_s_order_closes_already_is_not_sold_again(rig: Rig, symbol: str) -> None:
    rig.buy(symbol, 50)
    price = rig.bridge.get(f"/quote/{symbol}").json()["last"]["value"]
    resting = rig.bridge.client.post(
        "/order",
        json={"symbol": symbol, "action": "SELL", "quantity": 30, "orderType": "LMT",
              "limitPrice": round(price * 1.5, 2)},
        headers={"Idempotency-Key": str(uuid.uuid4())},
    ).json()  # fmt: skip
    rig.put(
        {"id": "beside", "mode": "trade", "match": {"symbol": symbol}, "stopLoss": {"price": 1e6}}
    )
    soon(lambda: rig.held(symbol) == 30)
    soon(lambda: "waits" in rig.kinds("beside"))
    waits = next(each for each in rig.events("beside") if each["kind"] == "waits")
    assert waits["detail"]["why"] == "orders that work already close all that is held"
    assert rig.held(symbol) == 30
    rig.bridge.client.delete(f"/order/{resting['orderId']}")
    soon(lambda: "closed" in rig.kinds("beside"))
    assert rig.held(symbol) == 0
    assert sum(each["filled"] for each in rig.sold(symbol)) == 50


RESTING = {"steps": 1, "stepSeconds": 600, "boundPercent": 0.0001}
"""A limit that stays where it begins, in the middle."""


def resting(rig: Rig, symbol: str) -> Body:
    """The order of a close, which stays in the middle of a wide market."""
    found: list[Body] = soon(
        lambda: [
            each
            for each in rig.bridge.get("/orders", open="true").json()["orders"]
            if each["symbol"] == symbol
        ]
    )
    return found[0]


def test_a_position_that_a_person_closes_ends_the_rule(rig: Rig) -> None:
    option = rig.option()
    rig.buy("SPY", 4, **option)
    rig.put(
        {"id": "ends", "mode": "trade", "match": {"symbol": "SPY"}, "stopLoss": {"price": 1e6},
         "maxSpreadPercent": 1000, "close": RESTING}
    )  # fmt: skip
    resting(rig, "SPY")
    rig.buy("SPY", 4, action="SELL", **option)
    soon(lambda: "gone" in rig.kinds("ends"))
    assert rig.held("SPY") == 0
    soon(lambda: not rig.bridge.get("/orders", open="true").json()["orders"])
    rig.put()


def test_while_halted_nothing_is_begun_but_where_closing_is_allowed(rig: Rig, symbol: str) -> None:
    rig.buy(symbol, 15)
    halt = {"reason": "test", "keepOrders": True}
    assert rig.bridge.client.post("/trading/halt", json=halt).status_code == 200
    rig.put(
        {"id": "halted", "mode": "trade", "match": {"symbol": symbol},
         "stopLoss": {"price": 1e6}, "close": MARKET}
    )  # fmt: skip
    soon(lambda: rig.bridge.get("/rules").json()["waits"] == "trading is halted")
    time.sleep(1.5)
    assert (rig.kinds("halted"), rig.held(symbol)) == ([], 15)
    assert rig.bridge.client.delete("/trading/halt").status_code == 200
    rig.bridge.client.post("/trading/halt", json=halt | {"allowClosing": True})
    try:
        soon(lambda: "closed" in rig.kinds("halted"))
        assert rig.held(symbol) == 0
    finally:
        rig.bridge.client.delete("/trading/halt")


def test_a_stop_that_cannot_be_changed_keeps_no_other_rule_from_closing(rig: Rig) -> None:
    """While halted with `allowClosing` no order may be changed, and closes go on."""
    guarded, closed = "PEP", "DIS"
    rig.buy(guarded, 40)
    rig.buy(closed, 20)
    price = rig.bridge.get(f"/quote/{guarded}").json()["last"]["value"]
    own = rig.bridge.client.post(
        "/order",
        json={"symbol": guarded, "action": "SELL", "quantity": 10, "orderType": "LMT",
              "limitPrice": round(price * 1.5, 2)},
        headers={"Idempotency-Key": str(uuid.uuid4())},
    ).json()  # fmt: skip
    first = {"id": "stuck", "mode": "trade", "match": {"symbol": guarded},
             "stopLoss": {"percent": 50}, "protect": "broker"}  # fmt: skip
    second = {"id": "free", "mode": "trade", "match": {"symbol": closed},
              "stopLoss": {"price": 0.01}, "close": MARKET}  # fmt: skip
    rig.put(first, second)
    soon(lambda: [each["quantity"] for each in stops(rig, guarded)] == [30])
    halt = {"reason": "test", "keepOrders": True, "allowClosing": True}
    assert rig.bridge.client.post("/trading/halt", json=halt).status_code == 200
    try:
        rig.bridge.client.delete(f"/order/{own['orderId']}")
        rig.put(first, second | {"stopLoss": {"price": 1e6}})
        soon(lambda: "closed" in rig.kinds("free"))
        soon(lambda: rig.kinds("stuck")[-1] == "unprotected")
        detail = rig.events("stuck")[-1]["detail"]
        assert (detail["covered"], detail["held"]) == (30, 40)
    finally:
        rig.bridge.client.delete("/trading/halt")
    soon(lambda: [each["quantity"] for each in stops(rig, guarded)] == [40])
    rig.put()


def test_an_order_that_a_person_cancels_is_not_sent_again(rig: Rig) -> None:
    rig.buy("SPY", 3, **rig.option())
    rig.put(
        {"id": "mine", "mode": "trade", "match": {"secType": "OPT"}, "stopLoss": {"price": 1e6},
         "maxSpreadPercent": 1000, "close": RESTING}
    )  # fmt: skip
    order = resting(rig, "SPY")
    rig.bridge.client.delete(f"/order/{order['orderId']}")
    soon(lambda: rig.kinds("mine")[-1] == "cancelled")
    time.sleep(2)
    assert rig.kinds("mine") == ["decided", "order", "cancelled"]
    assert rig.held("SPY") == 3
    rig.put()
    rig.buy("SPY", 3, action="SELL", **rig.option())


def test_a_rule_that_is_taken_away_cancels_what_it_began(rig: Rig) -> None:
    rig.buy("SPY", 2, **rig.option())
    rig.put(
        {"id": "away", "mode": "trade", "match": {"secType": "OPT"}, "stopLoss": {"price": 1e6},
         "maxSpreadPercent": 1000, "close": RESTING}
    )  # fmt: skip
    resting(rig, "SPY")
    rig.put()
    soon(lambda: rig.kinds("away")[-1] == "cancelled")
    soon(lambda: not rig.bridge.get("/orders", open="true").json()["orders"])
    rig.buy("SPY", 2, action="SELL", **rig.option())


def test_the_stream_carries_every_event(rig: Rig, symbol: str) -> None:
    rig.buy(symbol, 10)
    address = rig.bridge.url.replace("http", "ws") + "/stream"
    with connect(address, additional_headers={"X-API-KEY": ADMIN_KEY}) as stream:
        stream.send(json.dumps({"op": "subscribe", "channel": "rules"}))
        while json.loads(stream.recv(timeout=20))["type"] != "subscribed":
            pass
        rig.put(
            {"id": "seen", "mode": "trade", "match": {"symbol": symbol}, "stopLoss": {"price": 1e6}}
        )
        kinds: list[str] = []
        deadline = time.monotonic() + 20
        while "closed" not in kinds and time.monotonic() < deadline:
            message = json.loads(stream.recv(timeout=20))
            if message["type"] == "rule":
                kinds.append(message["data"]["kind"])
    assert kinds == ["rules", "decided", "order", "closed"]


def test_who_may_write_rules_and_how(rig: Rig, symbol: str) -> None:
    rule = {"id": "a", "match": {"symbol": symbol}, "stopLoss": {"percent": 5}}
    version = rig.put(rule)["version"]
    client = rig.bridge.client
    stale = client.put("/rules", json={"rules": [], "version": version - 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "rules-changed")
    wrong = client.put("/rules", json={"rules": [rule | {"stopLoss": {}}]})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "rules-invalid")
    unknown = client.put("/rules", json={"rules": [rule | {"stoploss": {}}]})
    assert unknown.status_code == 422
    found = rig.bridge.get("/rules").json()
    assert found["rules"][0]["stopLoss"]["percent"] == 5
    assert client.put("/rules", json={k: found[k] for k in ("rules", "mode", "version")}).is_success
    made = client.post("/keys", json={"label": "r", "scope": "read"}).json()
    reader = {"X-API-KEY": made["key"]}
    assert client.get("/rules", headers=reader).status_code == 200
    assert client.put("/rules", json={"rules": []}, headers=reader).status_code == 403
    bound = client.post(
        "/keys", json={"label": "b", "scope": "trade", "bounds": {"symbols": ["KO"]}}
    ).json()
    refused = client.put("/rules", json={"rules": []}, headers={"X-API-KEY": bound["key"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "key-bound")
    here = {"label": "h", "scope": "trade", "bounds": {"from": ["127.0.0.1/32"]}}
    headers = {"X-API-KEY": client.post("/keys", json=here).json()["key"]}
    assert client.put("/rules", json={"rules": []}, headers=headers).status_code == 200


def test_rules_of_a_file_hold_and_high_water_marks_survive_a_restart(
    tmp_path: Path,
) -> None:
    start = trading_hours()
    simulator = simulator_of(tmp_path, start)
    (tmp_path / "rules.json").write_text(
        json.dumps({"rules": [{"id": "filed", "match": {"symbol": "AAPL"},
                               "trailing": {"percent": 50}}]})
    )  # fmt: skip
    made = Rig(tmp_path / "b", simulator, start, BRIDGE_RULES_FILE=str(tmp_path / "rules.json"))
    try:
        made.buy("AAPL", 10)
        stop = soon(lambda: level(made))
        taken = made.bridge.client.put(
            "/rules", json={"rules": [{"id": "filed", "match": {"symbol": "KO"}, "at": "15:00"}]}
        )
        assert (taken.status_code, taken.json()["code"]) == (422, "rules-invalid")
        soon(lambda: kept_level(made) >= stop)
        made.bridge.stop(9)
        made.bridge = ShiftedBridge(tmp_path / "b", simulator.port, **made.env)
        made.bridge.wait_for("ready")
        assert soon(lambda: level(made)) >= stop
    finally:
        made.bridge.stop()
        simulator.stop()


def level(rig: Rig) -> float:
    standing = rig.bridge.get("/rules").json()["standing"]
    levels = [each["triggers"][0]["level"] or 0.0 for each in standing]
    return max(levels, default=0.0)


def kept_level(rig: Rig) -> float:
    """What a kill does not take away any more."""
    path = rig.folder / "data" / "journal.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT content FROM rule_memories").fetchall()
    return max((json.loads(text).get("stop") or 0.0 for (text,) in rows), default=0.0)


def test_a_file_that_is_wrong_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"rules": [{"id": "x", "match": {}, "at": "9"}]}')
    with pytest.raises(AssertionError, match="rule x: at"):
        BridgeProcess(tmp_path, 1, BRIDGE_RULES_FILE=str(tmp_path / "rules.json"))


def test_a_rule_finds_what_was_opened_with_a_label_also_after_a_restart(
    rig: Rig, symbol: str
) -> None:
    """And closes all of it, also what an order without the label has added."""
    other = next(SYMBOLS)
    wrong = {"symbol": symbol, "action": "BUY", "quantity": 1, "orderType": "MKT", "label": "a b"}
    assert rig.bridge.client.post("/order", json=wrong).status_code == 422
    opened = rig.buy(symbol, 20, label="swing-1")
    assert opened["label"] == "swing-1"
    rig.buy(other, 5)
    rig.bridge.stop(9)
    rig.bridge = ShiftedBridge(rig.folder, rig.simulator.port, **rig.env)
    rig.bridge.wait_for("ready")
    rig.buy(symbol, 10)
    assert rig.order(opened["orderId"])["label"] == "swing-1"
    rig.put(
        {"id": "labelled", "mode": "trade", "match": {"orderRef": "swing-*"},
         "stopLoss": {"price": 1e6}}
    )  # fmt: skip
    soon(lambda: "closed" in rig.kinds("labelled"))
    assert (rig.held(symbol), rig.held(other)) == (0, 5)
    assert [each["quantity"] for each in rig.sold(symbol)] == [30]
    assert rig.events("labelled")[0]["detail"]["labels"] == ["swing-1"]
    target = {"symbol": other, "targetQuantity": 9, "label": "swing-2"}
    answer = rig.bridge.client.post(
        "/order/target", json=target, headers={"Idempotency-Key": str(uuid.uuid4())}
    )
    assert answer.json()["label"] == "swing-2", answer.text
    soon(lambda: rig.kinds("labelled").count("closed") == 2)
    assert rig.held(other) == 0


def nearest(strikes: list[float], price: float) -> float:
    return min(strikes, key=lambda each: abs(each - price))


def test_a_combination_that_was_opened_as_one_is_closed_as_one(rig: Rig) -> None:
    strikes = rig.bridge.get("/options/chain", symbol="QQQ").json()
    last = rig.bridge.get("/quote/QQQ").json()["last"]["value"]
    expiration = strikes["expirations"][4]["expiration"]
    short, long = (nearest(strikes["strikes"], last * at) for at in (1.0, 0.95))
    legs = [
        {"action": action, "secType": "OPT", "symbol": "QQQ", "right": "P", "strike": strike,
         "expiration": expiration}
        for action, strike in (("SELL", short), ("BUY", long))
    ]  # fmt: skip
    opened = rig.buy("QQQ", 2, secType="BAG", legs=legs)
    assert opened["status"] in {"Filled", "Submitted", "PreSubmitted", "PendingSubmit"}
    rig.put(
        {"id": "legs", "mode": "simulate", "match": {"symbol": "QQQ"}, "takeProfit": {"amount": 1}},
        {"id": "whole", "mode": "trade", "match": {"symbol": "QQQ", "combination": True},
         "stopLoss": {"price": 0.01}, "maxSpreadPercent": 1000},
    )  # fmt: skip
    soon(lambda: "closed" in rig.kinds("whole"))
    decided = rig.events("whole")[0]["detail"]
    assert (decided["action"], decided["quantity"]) == ("BUY", 2)
    assert rig.kinds("legs") == []
    positions = rig.bridge.get("/positions").json()["positions"]
    assert not [each for each in positions if each["symbol"] == "QQQ" and each["quantity"]]
    closing = [each for each in rig.bridge.get("/orders", limit=500).json()["orders"]
               if each["symbol"] == "QQQ" and each["orderId"] != opened["orderId"]]  # fmt: skip
    assert [(each["secType"], each["quantity"], each["filled"]) for each in closing] == [
        ("BAG", 2, 2)
    ]
    rig.put()


def test_a_quiet_market_asks_the_gateway_for_next_to_nothing(rig: Rig) -> None:
    """Also while stops stand at the broker: what is asked for must not lead to asking again."""
    rig.buy("JNJ", 5)
    rig.buy("PFE", 5)
    rig.put(
        *(
            {"id": f"quiet-{symbol}", "mode": "trade", "match": {"symbol": symbol},
             "stopLoss": {"percent": 50}, "protect": "broker"}
            for symbol in ("JNJ", "PFE")
        )
    )  # fmt: skip
    soon(lambda: stops(rig, "JNJ") and stops(rig, "PFE"))

    def asked() -> Counter[str]:
        clients = rig.simulator.book()["clients"]
        found = [Counter(each["counts"]) for each in clients if each["clientId"] == 1]
        return sum(found, Counter())

    positions, executions, all_open, own_open = "61", "7", "16", "5"  # the messages' numbers

    def looks(seconds: float) -> int:
        before = asked()
        time.sleep(seconds)
        after = asked() - before
        return sum(after[each] for each in (positions, executions, all_open, own_open))

    soon(lambda: looks(2) == 0)  # what the stops themselves have led to is over
    assert asked()[positions] >= 1
    assert looks(4) <= 4


def stops(rig: Rig, symbol: str) -> list[Body]:
    orders = rig.bridge.get("/orders", open="true").json()["orders"]
    return [each for each in orders if each["symbol"] == symbol and each["orderType"] == "STP"]


def test_a_stop_at_the_broker_follows_the_position_and_is_never_left_behind(rig: Rig) -> None:
    rig.buy("KO", 30)
    rule = {"id": "guarded", "mode": "trade", "match": {"symbol": "KO"}, "protect": "broker",
            "stopLoss": {"percent": 20}}  # fmt: skip
    rig.put(rule)
    (stop,) = soon(lambda: stops(rig, "KO"))
    average = rig.bridge.get("/positions").json()["positions"]
    entry = next(each["averageCost"] for each in average if each["symbol"] == "KO")
    assert (stop["action"], stop["quantity"], stop["tif"]) == ("SELL", 30, "GTC")
    assert stop["stopPrice"] == pytest.approx(entry * 0.8, abs=0.02)
    rig.buy("KO", 10, action="SELL")
    soon(lambda: [each["quantity"] for each in stops(rig, "KO")] == [20])
    rig.put(rule | {"stopLoss": {"percent": 10}})
    soon(lambda: [each for each in stops(rig, "KO") if each["stopPrice"] > stop["stopPrice"]], 40)
    rig.put(rule | {"takeProfit": {"price": 0.01}})  # closes now
    soon(lambda: "closed" in rig.kinds("guarded"))
    assert (rig.held("KO"), stops(rig, "KO")) == (0, [])
    rig.buy("KO", 5)
    rig.put(rule)
    soon(lambda: stops(rig, "KO"))
    rig.buy("KO", 5, action="SELL")  # a person closes it
    soon(lambda: not stops(rig, "KO"))
    rig.buy("KO", 5)
    soon(lambda: stops(rig, "KO"))
    rig.put()
    soon(lambda: not stops(rig, "KO"))
    assert rig.held("KO") == 5
