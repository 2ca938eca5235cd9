"""The bridge under load, beside a direct client and a plain bridge of Flask and ib_insync.

Everything is a process of its own over loopback: simulated gateway, bridge, the plain bridge from
`.venv-plain`, clients. A figure whose alternative cannot be had (no `.venv-plain`) stands alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import uvloop
from websockets.asyncio.client import ClientConnection, connect

from bench import Figure
from bench.rig.clients import DirectClient, HttpClient, flood, timed
from bench.rig.processes import (
    KEY,
    ROOT,
    bridge,
    free_port,
    process,
    processor_seconds,
    quantile,
    resident_megabytes,
    simulator,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS, APART = 200, 0.06
TIMES, TIMES_APART = 40, 1.3
QUEUED = 500
PLAIN_PYTHON = ROOT / ".venv-plain/bin/python"
HISTORY = "/history?symbol=AAPL&duration={n}%20S&barSize=1%20min"
STALL_LIMIT = 5.0
ORDERS, PLACE_ORDER, CANCEL_ORDER = 10, "3", "4"
Ask = Callable[[], Awaitable[float]]


@contextmanager
def plain_bridge(gateway_port: int) -> Iterator[tuple[int, int] | None]:
    """Port and process id of the plain bridge; None where its environment is not set up."""
    if not PLAIN_PYTHON.exists():
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([ROOT / "scripts/setup", "plain"], check=True, capture_output=True)
    if not PLAIN_PYTHON.exists():
        yield None
        return
    port = free_port()
    script = str(ROOT / "bench/rig/plain_bridge.py")
    command = [str(PLAIN_PYTHON), "-W", "ignore", script]
    with process([*command, "--gateway", str(gateway_port), "--port", str(port)]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield port, child.pid


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process takes no step: what a gateway that hangs looks like."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def fault(control_port: int, name: str | None) -> None:
    """Starts a fault, or ends all."""
    address = f"http://127.0.0.1:{control_port}/faults"
    body = None if name is None else json.dumps({"fault": name}).encode()
    request = urllib.request.Request(address, body, method="DELETE" if name is None else "POST")
    urllib.request.urlopen(request, timeout=5).close()


async def spread(ask: Ask, count: int, apart: float) -> list[float]:
    """So many calls, one after another, so far apart; their seconds."""
    taken = []
    for _ in range(count):
        taken.append(await ask())
        await asyncio.sleep(apart)
    return taken


# latency ------------------------------------------------------------------------------------------


async def latencies() -> list[Figure]:
    """What the bridge adds to a call of a client that speaks to the gateway directly."""
    with (
        simulator("--rate-limit", "0") as ports,
        bridge(ports["port"]) as ours,
        plain_bridge(ports["port"]) as plain,
    ):
        idle = resident_megabytes(ours.pid)
        direct = await DirectClient.connect(ports["port"], 900)
        client = HttpClient(ours.port)
        asks: list[Ask] = [direct.positions, partial(timed, client, "/positions", 10)]
        if plain is not None:
            plain_client = HttpClient(plain[0])
            await timed(plain_client, "/positions", 10)
            asks.append(partial(timed, plain_client, "/positions", 10))
        # In turns, so that whatever else the machine does falls on all alike.
        taken: list[list[float]] = [[] for _ in asks]
        for _ in range(CALLS):
            for ask, values in zip(asks, taken, strict=True):
                values.extend(await spread(ask, 1, APART / len(asks)))
        direct_time: list[float] = []
        added_time: list[float] = []
        for _ in range(TIMES):
            direct_time += await spread(direct.current_time, 1, TIMES_APART / 2)
            added_time += await spread(
                partial(timed, client, "/connection/time", 10), 1, TIMES_APART / 2
            )
        # The gateway answers for its time once a second: a question that had to wait for that
        # behind a heartbeat says nothing of the bridge.
        added_time = [taken for taken in added_time if taken < 0.5]
        direct.close()
        plain_idle = resident_megabytes(plain[1]) if plain is not None else None
    base, added = taken[:2]
    other = taken[2] if plain is not None else []
    beside = " ms plain bridge"
    figures = []
    for share, bar in ((0.5, 1.0), (0.99, 3.0)):
        gained = quantile(added_time, share) - quantile(direct_time, share)
        figures.append(
            Figure(f"latency added to currentTime, p{share * 100:.0f}", gained * 1000, "ms", bar)
        )
        least = quantile(base, share)
        figures.append(
            Figure(
                f"latency added to positions, p{share * 100:.0f}",
                (quantile(added, share) - least) * 1000,
                "ms",
                alternative=(quantile(other, share) - least) * 1000 if other else None,
                beside=beside,
            )
        )
    return [
        *figures,
        Figure(
            "resident, connected and idle", idle, "MB", 64, False, plain_idle, " MB plain bridge"
        ),
    ]


# under a stalled gateway --------------------------------------------------------------------------


async def stalled() -> list[Figure]:
    """`/ping` and `/health` while the gateway takes no step and 500 history requests wait."""
    with (
        simulator("--rate-limit", "0") as ports,
        bridge(ports["port"]) as ours,
        plain_bridge(ports["port"]) as plain,
    ):
        taken = {}
        with stopped(ports["pid"]):
            tasks = await flood(ours.port, HISTORY, QUEUED)
            client = HttpClient(ours.port)
            for path in ("/ping", "/health"):
                ask = partial(timed, client, path, STALL_LIMIT)
                taken[path] = await spread(ask, 200, 0.005)
        await finish(tasks)
        others: dict[str, float] = {}
        if plain is not None:
            other = HttpClient(plain[0])
            await timed(other, "/positions", 10)
            with stopped(ports["pid"]):
                tasks = await flood(plain[0], HISTORY, QUEUED)
                for path in taken:
                    waited = await timed(HttpClient(plain[0]), path, STALL_LIMIT)
                    others[path] = waited * 1000
            await finish(tasks)
    return [
        Figure(
            f"{path} while stalled with {QUEUED} history requests, p99",
            quantile(values, 0.99) * 1000,
            "ms",
            25,
            alternative=others.get(path),
            beside=" ms plain bridge"
            + (" (given up)" if others.get(path, 0) >= STALL_LIMIT * 1000 else ""),
        )
        for path, values in taken.items()
    ]


async def finish(tasks: list[asyncio.Task[Any]]) -> None:
    """Ends what a flood has left."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# orders under load --------------------------------------------------------------------------------


async def orders() -> list[Figure]:
    """How soon an order and a cancel are on the wire while 500 history requests wait."""
    with (
        simulator("--rate-limit", "0") as ports,
        bridge(ports["port"]) as ours,
        plain_bridge(ports["port"]) as plain,
    ):
        client = HttpClient(ours.port)
        quote = json.loads((await client.send("/quote/AAPL")).body)
        body = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT"}
        body["limitPrice"] = round(quote["bid"]["value"] * 0.97, 2)
        tasks = await flood(ours.port, HISTORY, QUEUED)
        placed, cancelled = [], []
        for number in range(ORDERS):
            placed.append(time.time())
            answer = await client.send(
                "/order", "POST", json.dumps(body).encode(), {"Idempotency-Key": f"bench-{number}"}
            )
            order_id = json.loads(answer.body)["orderId"]
            cancelled.append(time.time())
            await client.send(f"/order/{order_id}", "DELETE")
            await asyncio.sleep(0.2)
        delays = {
            "an order": on_the_wire(ports["controlPort"], PLACE_ORDER, placed),
            "a cancel": on_the_wire(ports["controlPort"], CANCEL_ORDER, cancelled),
        }
        await finish(tasks)
        other = None
        if plain is not None:
            await timed(HttpClient(plain[0]), "/positions", 10)
            tasks = await flood(plain[0], HISTORY, QUEUED)
            other = await timed(HttpClient(plain[0]), "/order", STALL_LIMIT) * 1000
            await finish(tasks)
    return [
        Figure(
            f"{what} on the wire with {QUEUED} history requests, worst of {ORDERS}",
            max(values) * 1000,
            "ms",
            50,
            alternative=other if what == "an order" else None,
            beside=" ms plain bridge" + (" (given up)" if other == STALL_LIMIT * 1000 else ""),
        )
        for what, values in delays.items()
    ]


def on_the_wire(control_port: int, kind: str, asked: list[float]) -> list[float]:
    """Seconds from asking until the gateway had the message, by the simulator's own record."""
    with urllib.request.urlopen(f"http://127.0.0.1:{control_port}/book", timeout=5) as answer:
        book = json.load(answer)
    came = sorted(
        message["time"]
        for client in book["clients"]
        for message in client["received"]
        if message["fields"][0] == kind
    )
    if len(came) != len(asked):
        raise RuntimeError(f"{len(asked)} messages {kind} were asked for, {len(came)} came")
    return [arrived - begun for begun, arrived in zip(asked, came, strict=True)]


# kept history -------------------------------------------------------------------------------------


async def kept_history() -> list[Figure]:
    """How many answers of a thousand bars a second one client gets, once they are kept."""
    with simulator("--rate-limit", "0") as ports, bridge(ports["port"]) as ours:
        client = HttpClient(ours.port)
        day = datetime.now(UTC).date() - timedelta(days=3)
        path = f"/history?symbol=AAPL&duration=3%20D&barSize=1%20min&end={day}T21:00:00Z"
        for _ in range(3):
            answer = await client.send(path)
        if answer.status != 200 or len(answer.body) < 100_000:
            raise RuntimeError(f"{path} answered {answer.status} with {len(answer.body)} bytes")
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < 3.0:
            await client.send(path)
            count += 1
        taken = time.perf_counter() - begun
    size = len(answer.body) // 1000
    return [Figure(f"kept history of {size} kB, one client", count / taken, "/s", 1000, least=True)]


# fan-out ------------------------------------------------------------------------------------------


async def fan_out() -> list[Figure]:
    """1,000 ticks a second to 50 streams, five of further clients reading nothing."""
    source = ("--rate", "1000")
    with (
        simulator(*source, module="bench.rig.tick_source") as ports,
        bridge(ports["port"]) as ours,
    ):
        command = [sys.executable, "-m", "bench.rig.stream_clients", "--port", str(ours.port)]
        clients = await asyncio.create_subprocess_exec(
            *command, "--slow", "5", cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        (output, _), share = await asyncio.gather(clients.communicate(), in_the_middle(ours.pid))
        resident = resident_megabytes(ours.pid)
        result = json.loads(output)
    with (
        simulator(*source, module="bench.rig.tick_source") as ports,
        plain_bridge(ports["port"]) as plain,
    ):
        polled = None if plain is None else await poll(plain[0], 50, 8.0)
    return [
        Figure(
            "fan-out of 1,000 ticks/s to 50 streams, p99",
            result["p99"],
            "ms",
            20,
            alternative=polled,
            beside=" ms polling the plain bridge",
        ),
        Figure("fan-out: ticks lost", result["missing"] + result["holes"], "ticks", 0),
        Figure("fan-out: ticks a second and client", result["ticksPerSecond"], "/s", 990, True),
        Figure("fan-out: share of a core", share * 100, "%", 15),
        Figure("resident under the fan-out", resident, "MB", 96),
    ]


async def in_the_middle(pid: int) -> float:
    """The share of a core that a process takes while everybody streams."""
    await asyncio.sleep(5.0)
    used, begun = processor_seconds(pid), time.monotonic()
    await asyncio.sleep(5.0)
    return (processor_seconds(pid) - used) / (time.monotonic() - begun)


async def poll(port: int, clients: int, seconds: float) -> float:
    """So many clients that ask without pause: how old news is when they see it, p99, in ms."""
    ages: list[float] = []
    path = "/quotes?symbols=AAPL,MSFT,AMZN,GOOGL,META,NVDA,TSLA,AMD,INTC,NFLX"
    end = time.monotonic() + seconds

    async def one() -> None:
        client = HttpClient(port)
        seen: dict[str, float] = {}
        while time.monotonic() < end:
            answer = await client.send(path)
            now = time.monotonic()
            for symbol, last, _ in json.loads(answer.body.replace(b"NaN", b"null")):
                # Only the stamped ticks are younger than the machine's start.
                if last and seen.get(symbol) != last and 0 <= now - last < 60:
                    if symbol in seen:
                        ages.append(now - last)
                    seen[symbol] = last

    await asyncio.gather(*(one() for _ in range(clients)))
    return quantile(ages, 0.99) * 1000


# loss and return ----------------------------------------------------------------------------------


class HealthStream:
    """Hears of the session's state as clients do."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def until(self, wanted: Callable[[str], bool], limit: float) -> float:
        """When a state was heard for which `wanted` holds."""
        async with asyncio.timeout(limit):
            while True:
                message = json.loads(await self._connection.recv())
                if message["type"] == "health" and wanted(message["data"]["state"]):
                    return time.monotonic()


async def after_a_cut(control_port: int, stream: HealthStream) -> float:
    """Seconds from a reset of the connection until the session is ready again."""
    begun = time.monotonic()
    fault(control_port, "rst")
    await stream.until(lambda state: state != "ready", 5)
    taken = await stream.until(lambda state: state == "ready", 20) - begun
    await asyncio.sleep(0.3)
    return taken


async def loss_and_return() -> list[Figure]:
    """How soon a lost gateway is seen, and how soon after its return the bridge is ready."""
    with simulator() as ports, bridge(ports["port"]) as ours:
        address = f"ws://127.0.0.1:{ours.port}/stream"
        headers = {"X-API-KEY": KEY}
        async with connect(address, additional_headers=headers, proxy=None) as connection:
            await connection.send('{"op":"subscribe","channel":"health"}')
            stream = HealthStream(connection)
            await stream.until(lambda state: state == "ready", 5)
            closed, returned = [], []
            for _ in range(5):
                fault(ports["controlPort"], "port-closed")
                begun = time.monotonic()
                fault(ports["controlPort"], "fin")
                closed.append(await stream.until(lambda state: state != "ready", 5) - begun)
                await asyncio.sleep(1.5)
                begun = time.monotonic()
                fault(ports["controlPort"], None)
                returned.append(await stream.until(lambda state: state == "ready", 20) - begun)
            await asyncio.sleep(10.5)
            again = [await after_a_cut(ports["controlPort"], stream) for _ in range(6)]
            begun = time.monotonic()
            with stopped(ports["pid"]):
                half_open = await stream.until(lambda state: state != "ready", 30) - begun
    return [
        Figure("loss seen: socket closed, worst of 5", max(closed) * 1000, "ms", 100),
        Figure("loss seen: half-open", half_open, "s", 5),
        Figure("ready again after the gateway is, worst of 5", max(returned), "s", 2),
        Figure("ready again after a cut connection, the first", again[0], "s", 0.5),
        Figure("ready again while it is cut again and again, worst of 5", max(again[1:]), "s", 2),
    ]


async def measured() -> list[Figure]:
    """Everything, one after another: the machine is small."""
    figures = await latencies()
    for part in (stalled, orders, kept_history, fan_out, loss_and_return):
        figures += await part()
    return figures


def figures() -> list[Figure]:
    """Every figure of the bridge."""
    return uvloop.run(measured())
