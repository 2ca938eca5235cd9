"""The programs of docs/clients.md as they stand there, on a line that breaks."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess
from tests.conformance.running import ENVIRONMENTS, MIDDAY, ROOT, absent
from tests.docs.pages import blocks
from tests.engine.parts.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(180)]
FOLDER = ENVIRONMENTS / "typescript"
PAGE = ROOT / "docs" / "clients.md"
SECONDS = 60


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    folder = tmp_path_factory.mktemp("recipes")
    simulator = SimulatorProcess(folder / "simulator.log", MIDDAY)
    found = BridgeProcess(folder / "bridge", simulator.port)
    found.wait_for("ready")
    yield found
    found.stop()
    simulator.stop()


@pytest.fixture
def relay(bridge: BridgeProcess) -> Iterator[Relay]:
    with Relay(int(bridge.url.rpartition(":")[2])) as found:
        yield found


def block(language: str, word: str) -> str:
    """The one block of the page that has this text."""
    (found,) = [each.text for each in blocks(PAGE, language) if word in each.text]
    return found


def orders_at(bridge: BridgeProcess, price: float) -> list[Any]:
    found: list[Any] = bridge.get("/orders", limit=200).json()["orders"]
    return [order for order in found if order["limitPrice"] == price]


# --- TypeScript -------------------------------------------------------------------------------
TRIAL = """
import { follow, place } from "./client.mjs";
const [price, decided] = process.argv.slice(2);
const end = new AbortController();
process.stdin.on("data", () => end.abort());
const tell = ({ seq, type, resumed, data }) =>
  console.log(JSON.stringify({ seq, type, resumed, symbol: data?.symbol }));
const stream = follow(["orders"], tell, end.signal);
const limitPrice = Number(price);
const wanted = { symbol: "MSFT", action: "BUY", quantity: 1, orderType: "LMT", limitPrice };
const order = await place(wanted, decided);
console.log(JSON.stringify({ placed: order.orderId }));
await stream;
process.exit(0);
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with client.mjs and bot.mjs: the page's own blocks, with types made afresh."""
    if shutil.which("node") is None or not (FOLDER / ".gangway").exists():
        absent("no TypeScript: install nodejs and npm, run scripts/conformance-envs")
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    shown = [sys.executable, "-m", "bridge", "openapi"]
    document = subprocess.run(shown, cwd=ROOT, check=True, capture_output=True).stdout
    (folder / "openapi.json").write_bytes(document)
    (folder / "client.mts").write_text(block("ts", "export async function follow"))
    (folder / "bot.mts").write_text(block("ts", 'from "./client.mjs"'))
    bot = (folder / "bot.mts").read_text()
    (folder / "wrong.mts").write_text(bot.replace("quantity: 1", "quantitty: 1"))
    (folder / "trial.mjs").write_text(TRIAL)
    said = block("sh", "openapi-typescript")
    for tool in ("openapi-typescript", "tsc"):
        (line,) = [each for each in said.splitlines() if f"{tool} " in each.replace("@7", "")]
        words = line.replace("@7", "").partition(f" {tool} ")[2].split()
        more = ["wrong.mts"] if tool == "tsc" else []
        done = node_tool(folder, f"node_modules/.bin/{tool}", *words, *more)
        errors = [each for each in done.stdout.splitlines() if "error" in each]
        assert all(each.startswith("wrong.mts") for each in errors), done.stdout
    (refused,) = errors
    assert "'quantitty' does not exist in type" in refused, "the types are of use"
    return folder


def node_tool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["node", *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def node(*words: str) -> list[str]:
    """Node with a WebSocket, which it has by itself from 22 on."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    old = int(version.stdout.strip("v\n").partition(".")[0]) < 22
    return ["node", *(["--experimental-websocket"] if old else []), "--no-warnings", *words]


def test_the_typescript_bot(compiled: Path, bridge: BridgeProcess) -> None:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "KEY": ADMIN_KEY, "ADDRESS": bridge.url}
    done = subprocess.run(
        node("bot.mjs"),
        cwd=compiled,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("true ") for line in lines), lines
    assert {line.split()[1] for line in lines} >= {"welcome", "order", "execution"}


def test_typescript_goes_on_where_the_line_broke(
    compiled: Path, bridge: BridgeProcess, relay: Relay
) -> None:
    address = f"http://127.0.0.1:{relay.port}"
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "KEY": ADMIN_KEY, "ADDRESS": address}
    with subprocess.Popen(
        node("trial.mjs", "5.01", "decided-typescript"),
        cwd=compiled,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told = Told(process)
        try:
            told.until(lambda seen: any("placed" in one for one in seen))
            survives(bridge, relay, told)
        finally:
            assert process.stdin is not None
            process.stdin.close() if process.poll() is not None else process.communicate("end\n")
    assert process.returncode == 0
    assert len(orders_at(bridge, 5.01)) == 1


class Told:
    """What a client prints, a JSON document a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.seen: list[dict[str, Any]] = []
        self._stream = process.stdout
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream or ():
            self.seen.append(json.loads(line))

    def until(self, condition: Callable[[list[dict[str, Any]]], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition(self.seen):
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.05)


def survives(bridge: BridgeProcess, relay: Relay, told: Told) -> None:
    """The line breaks, an order comes meanwhile: it is told, and no number is missing."""
    relay.cut()
    body = {"symbol": "NVDA", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 5}
    headers = {"Idempotency-Key": f"meanwhile-{time.monotonic_ns()}"}
    assert bridge.client.post("/order", json=body, headers=headers).status_code == 201
    told.until(lambda seen: any(one.get("symbol") == "NVDA" for one in seen))
    messages = [one for one in told.seen if "seq" in one]
    assert [one["resumed"] for one in messages if one["type"] == "welcome"] == [False, True]
    numbers = [one["seq"] for one in messages]
    assert numbers == list(range(1, len(numbers) + 1))


# --- Python -----------------------------------------------------------------------------------
def python(word: str, monkeypatch: pytest.MonkeyPatch, address: str) -> dict[str, Any]:
    """The names that a block of the page defines; its last lines run only as a program."""
    monkeypatch.setenv("KEY", ADMIN_KEY)
    monkeypatch.setenv("ADDRESS", address)
    found: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(block("python", word), str(PAGE), "exec"), found)
    return found


async def test_python_goes_on_where_the_line_broke(
    bridge: BridgeProcess, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = python("async def follow", monkeypatch, f"http://127.0.0.1:{relay.port}")
    numbers, welcomes = [], []
    body = {"symbol": "NVDA", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 6}
    async with asyncio.timeout(SECONDS):
        async for message in recipe["follow"]("orders"):
            numbers.append(message["seq"])
            if message["type"] == "welcome":
                welcomes.append(message["resumed"])
            if message["type"] == "subscribed":
                relay.cut()
                headers = {"Idempotency-Key": "python-meanwhile"}
                post = bridge.client.post
                answer = await asyncio.to_thread(post, "/order", json=body, headers=headers)
                assert answer.status_code == 201
            if message["type"] == "order":
                break
    assert welcomes == [False, True]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_wrong_key_is_not_tried_again(
    bridge: BridgeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = python("async def follow", monkeypatch, bridge.url)
    recipe["KEY"] = "wrong"

    async def all_of_it() -> None:
        async for _ in recipe["follow"]("orders"):
            pass

    with pytest.raises(Exception, match="4401"):
        await asyncio.wait_for(all_of_it(), SECONDS)


async def test_an_answer_that_is_lost_places_no_second_order(
    bridge: BridgeProcess, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line breaks when the order has gone through and its answer has not."""
    recipe = python("async def follow", monkeypatch, f"http://127.0.0.1:{relay.port}")
    relay.delay = 0.3
    wanted = {"symbol": "MSFT", "action": "BUY", "quantity": 1, "orderType": "LMT"}
    wanted |= {"limitPrice": 5.02}
    placing = asyncio.create_task(recipe["place"](wanted, "decided-python"))
    async with asyncio.timeout(SECONDS):
        while not (known := orders_at(bridge, 5.02)):
            await asyncio.sleep(0.01)
        relay.cut()
        order = await placing
    assert order["orderId"] == known[0]["orderId"]
    assert len(orders_at(bridge, 5.02)) == 1


async def test_what_stands_before_the_bridge_may_answer_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy that reaches nobody (502) says nothing of the order, perhaps not even in JSON."""
    recipe = python("async def follow", monkeypatch, "http://bridge")
    answers = [
        httpx.Response(502, json={"code": "bridge-unreachable", "detail": "x", "nextStep": "y"}),
        httpx.Response(504, text="Gateway Timeout"),
        httpx.Response(201, json={"orderId": "o1"}),
    ]
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        return answers[len(keys) - 1]

    class Client(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(transport=httpx.MockTransport(answer), **options)

    async def at_once(_: float) -> None:
        """Nothing is waited for."""

    monkeypatch.setattr(recipe["httpx"], "AsyncClient", Client)
    monkeypatch.setattr(recipe["asyncio"], "sleep", at_once)
    assert (await recipe["place"]({}, "decided"))["orderId"] == "o1"
    assert keys == ["decided"] * 3


async def test_an_error_before_the_welcome_moves_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are too many for a moment: what is resumed then is what was seen before."""
    said: list[dict[str, Any]] = []
    plays = [
        [{"seq": 1, "type": "welcome", "session": "s", "resumed": False}, {"seq": 2, "type": "x"}],
        [{"seq": 1, "type": "error", "code": "too-many-streams"}],
        [{"seq": 3, "type": "welcome", "session": "s", "resumed": True}, {"seq": 4, "type": "y"}],
    ]

    async def play(socket: ServerConnection) -> None:
        said.append(json.loads(await socket.recv()))
        for message in plays[len(said) - 1]:
            await socket.send(json.dumps(message))
        await socket.close(4429)

    async with serve(play, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        recipe = python("async def follow", monkeypatch, f"http://127.0.0.1:{port}")
        async with asyncio.timeout(SECONDS):
            async for message in recipe["follow"]():
                if message["type"] == "y":
                    break
    assert [each.get("lastSeq") for each in said] == [None, 2, 2]


def test_executions_come_into_a_database_and_a_run_that_is_ended_is_gone_on_with(
    bridge: BridgeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = python("def sync(book", monkeypatch, bridge.url)
    for number in range(5):
        body = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}
        headers = {"Idempotency-Key": f"sync-{number}"}
        assert bridge.client.post("/order", json=body, headers=headers).status_code == 201
    wait_for_commissions(bridge)
    pages, call = [], recipe["call"]

    def small(path: str) -> Any:
        if path.startswith("/executions"):
            pages.append(path)
            if len(pages) == 2:
                raise KeyboardInterrupt  # the cloud ends the function
            return call(path.replace("limit=500", "limit=2"))
        return call(path)

    recipe["call"] = small
    book = sqlite3.connect(":memory:")
    with pytest.raises(KeyboardInterrupt):
        recipe["sync"](book)
    assert known(book) == 2
    headers = {"Idempotency-Key": "sync-late"}
    body = {"symbol": "AAPL", "action": "SELL", "quantity": 1, "orderType": "MKT"}
    assert bridge.client.post("/order", json=body, headers=headers).status_code == 201
    wait_for_commissions(bridge)
    assert recipe["sync"](book, seconds=15)["complete"] is False, "no time left: nothing is begun"
    assert recipe["sync"](book)["complete"] is True
    assert recipe["sync"](book)["complete"] is True
    listed = bridge.get("/executions", limit=2000).json()["executions"]
    stored = {row[0]: json.loads(row[1]) for row in book.execute("select id, told from executions")}
    assert stored == {one["execId"]: one for one in listed}
    assert recipe["sync"](book) == {"complete": True, "rows": 0, "behind": False}
    # The journal was restored from before its last changes, or lost: all is read anew.
    for cursor in ("c-900000000", "of another bridge"):
        book.execute("update place set cursor = ?", (cursor,))
        again = recipe["sync"](book)
        assert (again["complete"], again["rows"] >= len(stored)) == (True, True)
        assert recipe["sync"](book)["rows"] == 0
        assert known(book) == len(stored)


def test_a_cloud_function_begins_anew_where_its_cursor_is_of_another_journal() -> None:
    text = block("python", "def handler").replace("(cafile=AUTHORITY)", "()")
    recipe: dict[str, Any] = {}
    exec(compile(text.replace("print(handler())", ""), str(PAGE), "exec"), recipe)
    asked: list[str] = []

    def call(path: str) -> Any:
        asked.append(path.partition("cursor=")[2])
        if asked[-1].startswith("c-9"):
            raise RuntimeError("invalid-cursor: Read all executions again")
        if asked[-1] == "c-8":
            raise RuntimeError("not-connected: wait")
        return {"executions": [1, 2], "nextCursor": None, "changesCursor": "c-2"}

    recipe["call"] = call
    found = recipe["handler"]({"cursor": "c-90", "later": "c-91"})
    assert found == {"fills": 2, "cursor": "c-2", "later": None}
    assert asked == ["c-90", ""]
    with pytest.raises(RuntimeError, match="not-connected"):
        recipe["handler"]({"cursor": "c-8"})


def known(book: sqlite3.Connection) -> int:
    count: int = book.execute("select count(*) from executions").fetchone()[0]
    return count


def wait_for_commissions(bridge: BridgeProcess) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        listed = bridge.get("/executions", limit=2000).json()["executions"]
        orders = bridge.get("/orders", limit=200).json()["orders"]
        over = [one["filled"] == one["quantity"] for one in orders if one["orderType"] == "MKT"]
        kept = len(listed) >= len(over) and all(one["commission"] is not None for one in listed)
        if kept and all(over):
            return
        assert time.monotonic() < deadline, listed
        time.sleep(0.05)
