"""Every command on a quarter of a core: the same answers as on a fast machine, only later.

`scripts/quarter` (`make quarter`) starts it. The engine, all containers and the SSH server with
what it starts share one group of processes; a sync of the bridge and of the host takes
longer. What a command must say is written beside it; whatever else the machine does, no container
may be called unhealthy meanwhile. Exit code 1 when an answer differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from bench.rig.slow_disk import SOURCE
from tests.engine.parts import ssh
from tests.engine.parts.engine import ENGINE_HOME, ENGINE_HOST, docker
from tests.engine.parts.stack import PROJECT, Run, Stack, checkout
from tests.soak.outside import Listener, Outside
from tests.soak.share import Group, share_of_a_core

PYTHON_IMAGE: Final = "python:3.13-slim-trixie"
USUAL_IMAGE: Final = "quarter-python:usual"
LIBRARY: Final = "slow_disk.so"
LONGEST: Final = 1500.0
"""Seconds that one command may take before it is ended."""


PAGE: Final = Path(__file__).with_name("slow-machines.md.head")
ORDERS_APART: Final = 12.0
GOOD: Final = "as on a fast one"


@dataclass(frozen=True)
class Step:
    """One command: what it is called, and what differs from what it must say (empty: nothing)."""

    name: str
    run: Callable[[], Run]
    wanted: dict[str, Any]
    code: int = 0


@dataclass
class Told:
    """How the commands went."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """Runs it, and compares."""
        done = step.run()
        wrong = differences(done, step)
        self.rows.append((step.name, done.seconds, wrong or GOOD))
        print(f"{done.seconds:7.1f} s  {step.name}: {wrong or 'ok'}", file=sys.stderr, flush=True)
        if wrong:
            print(done.err[-4000:], file=sys.stderr, flush=True)

    @property
    def wrong(self) -> int:
        return sum(said != GOOD for _, _, said in self.rows)


def differences(done: Run, step: Step) -> str:
    """What is otherwise than it must be."""
    try:
        document = done.document
    except ValueError:
        document = {}
    found: dict[str, tuple[Any, Any]] = {"exit code": (done.code, step.code)}
    found |= {name: (document.get(name), value) for name, value in step.wanted.items()}
    return ", ".join(f"{name} is {is_}, not {ought}" for name, (is_, ought) in found.items()
                     if is_ != ought)  # fmt: skip


def slow_image(milliseconds: float) -> None:
    """The image that bridges are built from gets a disk whose syncs take longer."""
    docker("tag", USUAL_IMAGE, PYTHON_IMAGE)
    if not milliseconds:
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        library(folder)
        (folder / "Dockerfile").write_text(
            f"FROM {USUAL_IMAGE}\nCOPY {LIBRARY} /usr/local/lib/{LIBRARY}\n"
            f"ENV LD_PRELOAD=/usr/local/lib/{LIBRARY}"
            f" SYNC_MICROSECONDS={int(milliseconds * 1000)}\n"
        )
        docker("buildx", "build", "--quiet", "--load", "--tag", PYTHON_IMAGE, str(folder))


def library(folder: Path) -> Path:
    """Builds it there."""
    built = folder / LIBRARY
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return built


def engine(command: str, group: Group | None = None) -> None:
    """`scripts/engine`, as one of the group."""
    before: tuple[str, ...] = ()
    options = ""
    if group is not None:
        before = group.before
        options = f"--cgroup-parent {group.parent} --exec-opt native.cgroupdriver=cgroupfs"
    subprocess.run(
        [*before, str(PROJECT / "scripts/engine"), command],
        env=os.environ | {"GANGWAY_ENGINE_OPTIONS": options},
        check=True,
        timeout=300,
    )


@contextmanager
def health_events() -> Iterator[list[str]]:
    """Which containers were called unhealthy meanwhile; the engine itself keeps few events."""
    found: list[str] = []
    command = ["docker", "events", "--filter", "event=health_status", "--format", "{{json .}}"]
    with subprocess.Popen(
        command, env=os.environ | {"DOCKER_HOST": ENGINE_HOST}, stdout=subprocess.PIPE, text=True
    ) as events:
        try:
            yield found
        finally:
            events.terminate()
        for line in events.stdout or ():
            event = json.loads(line)
            if "unhealthy" in event["Action"]:
                found.append(event["Actor"]["Attributes"]["name"])


async def traded(stack: Stack, minutes: float) -> Run:
    """One app that streams, a probe ten times a second, and five orders a minute, each cancelled.

    What may not be: an order that is not answered well, a bridge that says no or nothing, a hole in
    the stream, a connection that was lost.
    """
    began = time.monotonic()
    key = (stack.base / "current/secrets/bridge-admin-key").read_text().strip()
    url = f"http://127.0.0.1:{stack.settings['bridge']['port']}"
    outside, listener = Outside(url, key=key), Listener(url, key=key)
    beside = [asyncio.create_task(each.run()) for each in (outside, listener)]
    order = {
        "symbol": "AAPL",
        "action": "BUY",
        "quantity": 1,
        "orderType": "LMT",
        "limitPrice": 1.0,
    }
    refused, slowest = 0, 0.0
    headers = {"X-API-KEY": key}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=30, trust_env=False
    ) as client:
        while time.monotonic() < began + minutes * 60:
            asked = time.monotonic()
            placed = await client.post(
                "/order", json=order, headers={"Idempotency-Key": f"quarter-{asked}"}
            )
            slowest = max(slowest, time.monotonic() - asked)
            ended = await client.delete(f"/order/{placed.json().get('orderId')}")
            refused += not (placed.is_success and ended.is_success)
            await asyncio.sleep(max(0.0, asked + ORDERS_APART - time.monotonic()))
        metrics = (await client.get("/health")).json()["metrics"]
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    told = {
        "refused": refused,
        "notReady": sorted({look.state for look in outside.looks if not look.ready}),
        "holes": listener.holes,
        "connections": (listener.connections, metrics["totalDisconnections"]),
        "streamed": listener.messages > 0,
    }
    print(f"          slowest order {slowest * 1000:.0f} ms", file=sys.stderr, flush=True)
    return Run(0, json.dumps(told), "", time.monotonic() - began)


def steps(stack: Stack, scratch: Path, minutes: float) -> Iterator[Step]:
    """The commands in their order; a generator, so that each sees what the ones before left."""

    def deploy(*arguments: str) -> Callable[[], Run]:
        return lambda: stack.deploy(*arguments)

    up = deploy("up", "--yes", "--json")
    serves = {"healthy": True}
    yield Step("first up", up, {"changed": True, "healthy": True})
    yield Step("up without changes", up, {"changed": False, "healthy": True})
    yield Step("status", deploy("status", "--json"), serves)
    gateway = stack.container("gateway")["Id"]
    yield Step(
        f"{minutes:g} minutes of a stream and five orders a minute",
        lambda: asyncio.run(traded(stack, minutes)),
        {"refused": 0, "notReady": [], "holes": 0, "connections": [1, 0], "streamed": True},
    )

    stack.product = checkout(scratch / "edited")
    with (stack.product / "bridge/clock.py").open("a") as file:
        file.write("# edited\n")
    yield Step("sync bridge", deploy("sync", "bridge", "--json"), serves)
    yield Step("restart bridge", deploy("restart", "bridge", "--yes", "--json"), serves)
    assert stack.container("gateway")["Id"] == gateway, "the gateway was replaced"
    yield Step("restart gateway", deploy("restart", "gateway", "--yes", "--json"), serves)
    cold = deploy("restart", "gateway", "--cold", "--yes", "--json")
    yield Step("restart gateway --cold", cold, serves)

    good = stack.product
    stack.settings["gateway"]["jvm"] = {"options": ["-XX:+NoSuchOption"]}
    yield Step("up with wrong JVM flags", up, {"restored": True, "healthy": False}, 1)
    del stack.settings["gateway"]["jvm"]
    yield Step("status after it", deploy("status", "--json"), serves)
    stack.product = checkout(scratch / "broken")
    (stack.product / "bridge/__main__.py").write_text("raise SystemExit('it is broken')\n")
    broken = {"restored": True, "healthy": False, "error": "bridge-ended"}
    yield Step("up with a broken bridge", up, broken, 1)
    stack.product = good
    yield Step("status after it", deploy("status", "--json"), serves)

    before = stack.release()
    stack.settings["gateway"]["jvm"] = {"heap": 300}
    stack.settings["bridge"]["log_level"] = "debug"
    yield Step("up with a changed heap and level", up, {"changed": True, "healthy": True})
    yield Step("rollback", deploy("rollback", "--yes", "--json"), serves)
    assert stack.release() == before, "the rollback serves another release"
    yield Step("down", deploy("down", "--yes"), {})


def main() -> int:
    """Runs them all under the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--sync-milliseconds", type=float, default=5)
    parser.add_argument("--trading-minutes", type=float, default=2, help="an app and orders")
    parser.add_argument("--minutes", type=float, default=90, help="then no further command begins")
    parser.add_argument("--page", type=Path, help="a page of the documentation to write")
    asked = parser.parse_args()
    assert ENGINE_HOME.name != "gangway-engine", "scripts/quarter starts it"
    slow_image(asked.sync_milliseconds)
    engine("stop")
    until, told = time.monotonic() + asked.minutes * 60, Told()
    with (
        TemporaryDirectory(prefix="gangway-quarter-") as name,
        share_of_a_core(asked.share, asked.megabytes) as group,
    ):
        scratch = Path(name)
        try:
            engine("start", group)
            slow = {
                "LD_PRELOAD": str(library(scratch)),
                "SYNC_MICROSECONDS": str(int(asked.sync_milliseconds * 1000)),
            }
            server = ssh.start(scratch / "ssh", environment=slow, before=group.before)
            try:
                unhealthy = commands(server, scratch, until, told, asked.trading_minutes)
            finally:
                server.stop()
        finally:
            engine("stop")
    for container in unhealthy:
        print(f"called unhealthy: {container}")
    bad = bool(told.wrong or unhealthy)
    print(table(told))
    if asked.page and not bad:
        asked.page.write_text(page(told, asked), encoding="utf-8")
    return 1 if bad else 0


def commands(
    server: ssh.SshServer, scratch: Path, until: float, told: Told, trading_minutes: float
) -> list[str]:
    """Each in turn; which containers were called unhealthy."""
    stack = Stack("quarter", scratch / "quarter", server, checkout(scratch / "product"))
    stack.seconds = LONGEST
    try:
        with health_events() as unhealthy:
            for step in steps(stack, scratch, trading_minutes):
                if time.monotonic() > until:
                    raise SystemExit(f"error: the time was over before: {step.name}")
                told.take(step)
        return unhealthy
    finally:
        stack.remove()
        shutil.rmtree(stack.base, ignore_errors=True)


def table(told: Told) -> str:
    """Each command, how long it took, and what it said."""
    lines = ["| command | seconds | answer |", "|---|--:|---|"]
    lines += [f"| {name} | {seconds:.0f} | {said} |" for name, seconds, said in told.rows]
    return "\n".join(lines)


def page(told: Told, asked: argparse.Namespace) -> str:
    """The page of the documentation."""
    return PAGE.read_text(encoding="utf-8").format(
        share=asked.share,
        megabytes=asked.megabytes,
        sync=asked.sync_milliseconds,
        table=table(told),
    )


if __name__ == "__main__":
    sys.exit(main())
