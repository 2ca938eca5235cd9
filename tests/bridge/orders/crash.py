"""Many order flows against a bridge that keeps being killed, and the books held side by side.

A client here is a stubborn one: it repeats its request, with the same key, until it gets an answer
that settles the matter, whatever dies meanwhile.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import signal
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from bridge.orders.order_ids import key_digest, order_ref
from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess
from tests.closed_port import free_port

RULES = {
    "answer_within_seconds": 2,
    "max_open_orders": None,
    "max_orders_per_day": None,
    "max_notional_per_day": None,
}
SYMBOLS = ("AAPL", "MSFT", "NVDA", "SPY")
HELD_PRICE = 1.0  # a limit to buy that nobody meets
ONCE_PRICE = 3.0
"""Another one, to which an order is changed by a client that does not repeat its request."""
RESTING = {
    "symbol": "AAPL",
    "action": "BUY",
    "quantity": 1,
    "orderType": "LMT",
    "limitPrice": HELD_PRICE,
}
CHANGE = {"limitPrice": HELD_PRICE + 1}
MIXED: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"orderType": "TRAIL", "trailPercent": 30.0}, "modify", {"trailPercent": 31.0}),
    ({"orderType": "TRAIL_LMT", "trailAmount": 30.0, "limitOffset": 0.5}, "cancel", {}),
    ({"orderType": "MIT", "stopPrice": HELD_PRICE}, "modify", {"stopPrice": HELD_PRICE + 1}),
    ({"orderType": "LIT", "stopPrice": 1.5, "limitPrice": HELD_PRICE}, "cancel", {}),
    ({"orderType": "MTL"}, "", {}),
    ({"orderType": "MIDPRICE"}, "", {}),
    ({"orderType": "REL", "limitPrice": HELD_PRICE, "limitOffset": 0.01}, "modify", CHANGE),
    ({"orderType": "PEG_MID", "limitPrice": HELD_PRICE}, "cancel", {}),
    ({"orderType": "MKT", "algo": {"strategy": "Adaptive"}}, "", {}),
    ({"orderType": "MKT", "conditions": [{"symbol": "SPY", "above": 1.0}]}, "", {}),
    (
        {"orderType": "LMT", "limitPrice": 1.0, "goodAfterTime": "20991120 15:00:00 US/Eastern"},
        "modify",
        CHANGE,
    ),
]
"""Types of orders beside the plain ones, what is done with each then, and a change of it."""
AT_ONCE = frozenset({"MKT", "MTL", "MIDPRICE"})
FINDS_ITS_LIMIT = frozenset({"MTL", "TRAIL_LMT"})
"""Types whose limit the broker works out: no member of the order."""
FLOW_SECONDS = 240.0
MOST_RESTING = 60
"""So many orders (brackets among them) rest at the broker in the end; older ones are cancelled."""
MOST_KILLS = 10


class Answers(Protocol):
    """A bridge, wherever it runs; `BridgeProcess` is one."""

    def get(self, path: str, **params: Any) -> httpx.Response:
        """One GET with the admin key."""

    def wait_for(self, state: str, seconds: float = 60.0) -> dict[str, Any]:
        """The health once it has that state."""


class Broker(Protocol):
    """A simulator, wherever it runs; `SimulatorProcess` is one."""

    def clear(self) -> None:
        """Ends every fault."""

    def book(self) -> dict[str, Any]:
        """Its own record."""


@dataclass
class Flow:
    """What one client asked for, and what it was told in the end."""

    number: int
    body: dict[str, Any]
    then: str
    key: str
    answer: dict[str, Any] = field(default_factory=dict)
    status: int = 0
    tries: int = 0
    cancelled: dict[str, Any] | None = None
    change: dict[str, Any] = field(default_factory=lambda: dict(CHANGE))

    @property
    def order_id(self) -> str:
        """The id that the client was told."""
        shown = self.answer.get("order", self.answer)
        return str(shown.get("orderId", ""))


def spreads(bridge: BridgeProcess) -> list[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Combinations of two options: one that fills at once, and one that nobody meets."""
    bridge.wait_for("ready", 60.0)
    chain = bridge.get("/options/chain", symbol="SPY").json()
    day = next(each["expiration"] for each in chain["expirations"] if each["dte"] > 20)
    middle = len(chain["strikes"]) // 2
    low, high = chain["strikes"][middle], chain["strikes"][middle + 5]
    option = {"symbol": "SPY", "secType": "OPT", "expiration": day, "right": "C"}
    legs = [
        option | {"action": "BUY", "strike": low},
        option | {"action": "SELL", "strike": high},
    ]
    whole = {"symbol": "SPY", "secType": "BAG", "orderType": "LMT", "legs": legs}
    return [
        (whole | {"limitPrice": round(high - low, 2)}, "", {}),
        (whole | {"limitPrice": 0.01}, "modify", {"limitPrice": 0.02}),
        (whole | {"limitPrice": 0.01}, "cancel", {}),
    ]


def make_flows(
    count: int,
    chance: random.Random,
    mixed: list[tuple[dict[str, Any], str, dict[str, Any]]],
) -> list[Flow]:
    """A mixture: resting orders (some cancelled or changed), fills, brackets, other types.

    And rejects.
    """
    flows = []
    for number in range(count):
        body: dict[str, Any] = {
            "symbol": chance.choice(SYMBOLS),
            "action": "BUY",
            "quantity": chance.randint(1, 5),
        }
        then, change = "", dict(CHANGE)
        kind = chance.random()
        if kind < 0.2:
            more, then, change = chance.choice(mixed)
            body |= more
        elif kind < 0.45:
            body |= {"orderType": "LMT", "limitPrice": HELD_PRICE}
            then = chance.choice(["", "cancel", "cancel", "modify"])
        elif kind < 0.9:
            body |= {"orderType": "MKT"}
        elif kind < 0.95:
            body |= {"orderType": "LMT", "limitPrice": HELD_PRICE}
            body["bracket"] = {
                "takeProfit": {"limitPrice": 900.0},
                "stopLoss": {"stopPrice": 0.5, "limitPrice": 0.45},
            }
        else:
            body |= {"orderType": "MKT", "account": "DU0000000"}
        flows.append(Flow(number, body, then, f"flow-{number}-{chance.random()}", change=change))
    return flows


class Clients:
    """Carries flows out, so many at a time."""

    def __init__(
        self,
        url: str,
        at_once: int,
        *,
        key: str = ADMIN_KEY,
        verify: ssl.SSLContext | bool = True,
        timeout: float = 20,
        again: float = 0.05,
    ) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._again = again
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"X-API-KEY": key},
            verify=verify,
            timeout=timeout,
            trust_env=False,
        )
        self.done = 0
        self.last: dict[str, str] = {}  # by key or address
        self._cancelling: set[str] = set()

    async def close(self) -> None:
        await self._http.aclose()

    async def trade(
        self,
        flows: list[Flow],
        under_way: list[asyncio.Task[None]],
        chance: random.Random,
        name: str,
    ) -> None:
        """Orders of many kinds, about one a second, each repeated until it is settled.

        Without an end: they are added to `flows` and `under_way`; `name` begins their keys.
        """
        while True:
            for flow in make_flows(1, chance, MIXED):
                flow.number = len(flows) + 1
                flow.key = f"{name}-{flow.number}-{chance.random()}"
                flows.append(flow)
                under_way.append(asyncio.create_task(self.carry_out(flow)))
            for old in self._beyond(flows):
                self._cancelling.add(old.key)
                under_way.append(asyncio.create_task(self._in_turn(old, self._cancel)))
            await asyncio.sleep(chance.uniform(0.4, 1.6))

    def _beyond(self, flows: list[Flow]) -> list[Flow]:
        """The oldest orders that rest: nobody has a thousand of them, and the broker takes none."""
        resting = [
            flow
            for flow in flows
            if flow.status == 201
            and flow.then != "cancel"
            and flow.body["orderType"] not in AT_ONCE
            and flow.key not in self._cancelling
        ]
        return resting[:-MOST_RESTING]

    async def carry_out(self, flow: Flow) -> None:
        await self._in_turn(flow, self._steps)

    async def _in_turn(self, flow: Flow, steps: Callable[[Flow], Awaitable[None]]) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(FLOW_SECONDS):
                    await steps(flow)
            except TimeoutError:
                heard = [self.last.get(flow.key), self.last.get(f"/order/{flow.order_id}")]
                raise AssertionError(f"{flow} heard nothing but {heard}") from None

    async def _steps(self, flow: Flow) -> None:
        await self._place(flow)
        if flow.status == 201 and flow.then == "cancel":
            await self._cancel(flow)
        elif flow.status == 201 and flow.then == "modify-once":  # nobody repeats it
            change = {"limitPrice": ONCE_PRICE}
            await self._ask("PATCH", f"/order/{flow.order_id}", json=change)
        elif flow.status == 201 and flow.then == "modify":
            await self._repeat("PATCH", f"/order/{flow.order_id}", json=flow.change)

    async def _place(self, flow: Flow) -> None:
        while True:
            flow.tries += 1
            answer = await self._ask(
                "POST", "/order", json=flow.body, headers={"Idempotency-Key": flow.key}
            )
            if answer is not None and answer.status_code in {201, 409, 422}:
                flow.status, flow.answer = answer.status_code, answer.json()
                self.done += 1
                return
            await asyncio.sleep(self._again)

    async def _cancel(self, flow: Flow) -> None:
        answer = await self._repeat("DELETE", f"/order/{flow.order_id}")
        flow.cancelled = answer.json()

    async def _repeat(self, method: str, path: str, **request: Any) -> httpx.Response:
        while True:
            answer = await self._ask(method, path, **request)
            if answer is not None and answer.status_code in {200, 409, 422}:
                return answer
            await asyncio.sleep(self._again)

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        name = request.get("headers", {}).get("Idempotency-Key", path)
        try:
            answer = await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            self.last[name] = repr(error)
            return None
        self.last[name] = f"{answer.status_code} {answer.text[:600]}"
        return answer


class Killer:
    """Ends the bridge without warning, at moments nobody chose, and starts it again."""

    def __init__(self, folder: Path, simulator: SimulatorProcess, chance: random.Random) -> None:
        folder.mkdir()
        rules = folder / "trading.json"
        rules.write_text(json.dumps(RULES))
        self._folder = folder
        self._simulator = simulator
        self._chance = chance
        self._env = {
            "BRIDGE_TRADING_FILE": str(rules),
            "BRIDGE_LISTEN": f"127.0.0.1:{free_port()}",
        }
        self.kills = 0
        self.bridge = self._start()

    def _start(self) -> BridgeProcess:
        return BridgeProcess(self._folder, self._simulator.port, **self._env)

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; the faults change with each life of the bridge."""
        while not stop.is_set() and self.kills < MOST_KILLS:
            await asyncio.to_thread(self._change_faults)
            await asyncio.to_thread(self.bridge.wait_for, "ready", 60.0)
            await asyncio.sleep(self._chance.uniform(0.1, 4.0))
            if stop.is_set():
                return
            await asyncio.to_thread(self.bridge.stop, signal.SIGKILL)
            self.kills += 1
            self.bridge = await asyncio.to_thread(self._start)

    def _change_faults(self) -> None:
        self._simulator.clear()
        kind = self._chance.choice(["", "late-fills", "duplicate-status", "drop-order-ack", "rst"])
        if kind == "duplicate-status":
            self._simulator.fault(kind, delay=self._chance.choice([0.0, 0.3]))
        elif kind == "drop-order-ack":
            self._simulator.fault(kind, seconds=self._chance.uniform(0.2, 1.0))
        elif kind:
            self._simulator.fault(kind, seconds=1.0)


async def settle(bridge: Answers, simulator: Broker) -> None:
    """Lets everything arrive that is still on its way."""
    simulator.clear()
    await asyncio.to_thread(bridge.wait_for, "ready", 60.0)
    async with asyncio.timeout(60):
        while True:
            page = all_orders(bridge)
            waiting = [
                each
                for each in page
                if each["state"] in {"intention", "sent"}
                or each["pending"]
                or (each["orderType"] in AT_ONCE and each["state"] != "terminal")
            ]
            without = [
                each
                for each in all_executions(bridge)
                if each["commission"] is None and each["secType"] != "BAG"
            ]
            asked = "got no answer since" in bridge.get("/health").json()["nextAction"]
            if not waiting and not without and not asked:
                return
            await asyncio.sleep(0.2)


def all_orders(bridge: Answers) -> list[dict[str, Any]]:
    """Every order of the journal, page by page."""
    return _pages(bridge, "/orders", "orders", limit=200)


def all_executions(bridge: Answers) -> list[dict[str, Any]]:
    """Every execution of the journal, page by page."""
    return _pages(bridge, "/executions", "executions", limit=150)


def _pages(bridge: Answers, path: str, name: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        body = bridge.get(path, limit=limit, cursor=cursor).json()
        found += body[name]
        if body["nextCursor"] is None:
            return found
        cursor = body["nextCursor"]


class Books:
    """The simulator's book, the journal, and what the clients were told."""

    def __init__(self, bridge: Answers, simulator: Broker, flows: list[Flow]) -> None:
        self.book = simulator.book()
        self.orders = all_orders(bridge)
        self.executions = all_executions(bridge)
        text = bridge.get("/executions", format="csv", limit=2000).text
        self.csv = list(csv.DictReader(io.StringIO(text)))
        self.flows = flows

    def differences(self) -> list[str]:
        """Everything that does not agree; empty is what is wanted."""
        return [
            *self._duplicates(),
            *self._unaccounted(),
            *self._told(),
            *self._executions(),
        ]

    def _duplicates(self) -> list[str]:
        """A key's leg (whatever the attempt) is at the broker at most once."""
        legs = Counter(_leg(order["orderRef"]) for order in self.book["orders"])
        found = [f"sent {count} times: {leg}" for leg, count in legs.items() if count > 1]
        modified = {flow.order_id for flow in self.flows if flow.then.startswith("modify")}
        changed = {order["brokerOrderId"] for order in self.orders if order["orderId"] in modified}
        messages = Counter(
            request["orderId"]
            for request in self.book["requests"]
            if request["message"] == "placeOrder"
        )
        found += [
            f"placeOrder {count} times for number {number}"
            for number, count in messages.items()
            if count > 1 and number not in changed
        ]
        return found

    def _unaccounted(self) -> list[str]:
        ours = {order["orderRef"]: order for order in self.orders}
        theirs = {order["orderRef"]: order for order in self.book["orders"]}
        found = [f"not in the journal: {ref}" for ref in theirs if ref not in ours]
        for ref, order in ours.items():
            if order["state"] not in {"acknowledged", "terminal"}:
                found.append(f"{order['state']}: {ref}")
            if order["status"] in {"NotSent", "Rejected"}:
                if ref in theirs:
                    found.append(f"{order['status']}, but at the broker: {ref}")
            elif ref not in theirs:
                found.append(f"{order['status']}, but not at the broker: {ref}")
            else:
                found += _compared(order, theirs[ref])
        return found

    def _told(self) -> list[str]:
        ours = {order["orderId"]: order for order in self.orders}
        theirs = {order["orderRef"] for order in self.book["orders"]}
        found = []
        for flow in self.flows:
            if flow.status == 201:
                order = ours.get(flow.order_id)
                never = flow.answer.get("status") == "NotSent"
                if order is None or (order["orderRef"] not in theirs) is not never:
                    found.append(f"flow {flow.number} was told of an order that is not there")
            elif flow.answer.get("code") == "group-incomplete":
                found += self._in_part(flow)
            elif flow.status != 422:
                found.append(f"flow {flow.number} ended with {flow.status}: {flow.answer}")
            elif any(_leg(ref)[0] == key_digest(flow.key)[:24] for ref in theirs):
                found.append(f"flow {flow.number} was refused, and its order is at the broker")
            if flow.cancelled is not None and ours[flow.order_id]["status"] not in {
                "Cancelled",
                "Filled",
                "NotSent",
            }:
                found.append(f"flow {flow.number} cancelled an order that still works")
        return found

    def _in_part(self, flow: Flow) -> list[str]:
        """A group that a kill has cut: said that nothing of it works, when that was so.

        What was open when the client was told, and ended a moment later, is no difference.
        """
        legs = [
            each for each in self.orders if flow.order_id in (each["orderId"], each["parentId"])
        ]
        over = {"Cancelled", "NotSent", "Rejected"}
        works = [each["orderRef"] for each in legs if each["status"] not in over or each["filled"]]
        said = str(flow.answer.get("nextStep")).startswith("Nothing of it has traded")
        entry = flow.answer["order"]
        told = [entry, *entry["legs"]]
        was_over = all(each["endedAt"] and not each["filled"] for each in told)
        if legs and said is was_over and not (said and works):
            return []
        return [f"flow {flow.number} was told {flow.answer}, of it are there {works} of {legs}"]

    def _executions(self) -> list[str]:
        ours = {each["execId"]: each for each in self.executions}
        theirs = {each["execId"]: each for each in self.book["fills"]}
        found = [f"execution missing: {each}" for each in theirs if each not in ours]
        found += [f"execution made up: {each}" for each in ours if each not in theirs]
        if len(ours) != len(self.executions):
            found.append("an execution is listed twice")
        if Counter(row["execId"] for row in self.csv) != Counter(ours.keys()):
            found.append("the CSV lists other executions")
        ids = {order["orderRef"]: order["orderId"] for order in self.orders}
        for exec_id in ours.keys() & theirs.keys():
            one, other = ours[exec_id], theirs[exec_id]
            names = ("quantity", "price", "orderRef")
            for name in names if one["secType"] == "BAG" else (*names, "commission"):
                if one[name] != other[name]:
                    found.append(f"{exec_id}: {name} {one[name]} is not {other[name]}")
            if one["orderId"] != ids.get(other["orderRef"]):
                found.append(f"{exec_id} belongs to {one['orderId']}")
        filled = Counter[tuple[str, bool]]()
        for each in self.executions:  # the legs of a combination beside the whole
            filled[each["orderRef"], each["secType"] == "BAG"] += each["quantity"]
        for order in self.orders:
            if order["filled"] != filled[order["orderRef"], order["secType"] == "BAG"]:
                found.append(f"{order['orderRef']}: filled {order['filled']} without executions")
        return found


def _compared(order: dict[str, Any], booked: dict[str, Any]) -> list[str]:
    found = []
    status = {"ApiCancelled": "Cancelled"}.get(booked["status"], booked["status"])
    for name, one, other in (
        ("status", order["status"], status),
        ("permId", order["permId"], booked["permId"]),
        ("filled", order["filled"], booked["filled"]),
        ("quantity", order["quantity"], booked["quantity"]),
        ("limitPrice", order["limitPrice"], booked["limitPrice"]),
        ("brokerOrderId", order["brokerOrderId"], booked["orderId"]),
    ):
        own = name == "limitPrice" and order["orderType"] in FINDS_ITS_LIMIT
        if one != other and not own:
            found.append(f"{order['orderRef']}: {name} {one} is not {other}")
    return found


def _leg(reference: str) -> tuple[str, str]:
    """Key digest and number of the leg; `order_ref` puts the attempt behind them."""
    assert reference == order_ref("", 0, 0) or reference.startswith("gw-")
    _, digest, leg, *_attempt = reference.split("-")
    return digest, leg
