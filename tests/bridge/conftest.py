"""Simulators, sessions and bridges for the bridge's tests; everything over real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog

from bridge.clock import SystemClock, TimerClock
from bridge.tws.connection_context import Target
from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.options import Options
from tests.bridge.rig import BridgeProcess, SimulatorProcess

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

StartSession = Callable[..., Awaitable[TwsSession]]
StartBridge = Callable[..., BridgeProcess]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulated gateway in this loop, without a message limit of its own making."""
    async with Simulator(Options(port=0, portal_port=0, control_port=0)) as running:
        yield running


def quick_target(port: int, **changes: object) -> Target:
    """A target whose patience fits a test.

    The gateway ignores a question within a second of its last answer: asked more often than that, a
    session that nothing is sent to would say `stalled` now and then, and nothing would be wrong.
    """
    values: dict[str, object] = {
        "port": port,
        "heartbeat_interval": 1.1,
        "heartbeat_patience": 0.6,
        "backoff_first": 0.02,
        "backoff_cap": 0.1,
        **changes,
    }
    return Target(**values)  # type: ignore[arg-type]


@pytest.fixture
async def start_session() -> AsyncIterator[StartSession]:
    """Starts sessions, and stops them at the end; nothing of theirs may be left."""
    before = asyncio.all_tasks()
    running: list[TwsSession] = []

    async def start(port: int, clock: TimerClock | None = None, **changes: object) -> TwsSession:
        session = TwsSession(quick_target(port, **changes), clock or SystemClock())
        running.append(session)
        await session.start()
        return session

    yield start
    for session in running:
        await session.stop()
        assert len(session.context.requests) == 0
    await asyncio.sleep(0.01)
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not {task.get_name() for task in left if "tws" in task.get_name()}


@pytest.fixture
def simulator_process(tmp_path: Path) -> Iterator[SimulatorProcess]:
    """A simulated gateway as a process."""
    process = SimulatorProcess(tmp_path / "simulator.log")
    yield process
    process.stop()


@pytest.fixture
def start_bridge(tmp_path: Path) -> Iterator[StartBridge]:
    """Starts bridges as processes; `start_bridge(port, name="bridge", **environment)`."""
    running: list[BridgeProcess] = []

    def start(tws_port: int, name: str = "bridge", **env: str) -> BridgeProcess:
        process = BridgeProcess(tmp_path / name, tws_port, **env)
        running.append(process)
        return process

    yield start
    for process in running:
        process.stop()
