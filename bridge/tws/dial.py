"""Reaching a gateway that greets.

A connection that is taken and then met with silence says nothing about the next one (a gateway that
hung at start leaves such sockets behind), so while one waits for its greeting another is dialled
every ``STAGGER`` seconds; the first to be greeted wins. A greeting takes no client id, so these
never conflict with one another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from bridge.clock import TimerClock, settle, within
from bridge.tws.connection_state import DialProblem
from bridge.tws.wire import CloseReason, Wire

STAGGER = 1.5
PATIENCE = 10.0  # a machine that swaps may take this long to greet
TCP_SECONDS = 3.0
SILENT_ATTEMPTS = 2  # unanswered at once: then it is worth saying so
MOST_KNOWN = 8
_known: dict[tuple[str, int], str] = {}  # where a name was reached last


class DialError(Exception):
    """One attempt to reach the gateway that failed, with the step and its reason."""

    def __init__(self, problem: DialProblem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail


async def greet(
    host: str, port: int, clock: TimerClock, on_silence: Callable[[], None] | None = None
) -> Wire:
    """A greeted wire, or ``DialError``; bounded by ``PATIENCE``.

    ``on_silence`` is called when a connection was taken and nobody has greeted for a while.
    """
    attempts: set[asyncio.Task[Wire]] = set()
    winner: asyncio.Task[Wire] | None = None
    deadline = clock.monotonic() + PATIENCE
    try:
        while clock.monotonic() < deadline:
            attempts.add(asyncio.ensure_future(_attempt(host, port, clock)))
            done = await _first(attempts, clock, min(STAGGER, deadline - clock.monotonic()))
            if done is not None:
                wire = done.result()
                winner = done
                return wire
            if on_silence and len(attempts) == SILENT_ATTEMPTS:
                on_silence()
        raise DialError(DialProblem.SILENT, f"{host}:{port} takes connections but does not answer")
    finally:
        if winner:
            attempts.discard(winner)
        await settle(*attempts)
        for task in attempts:
            if not task.cancelled() and task.exception() is None:
                task.result().drop(CloseReason.ANOTHER_GREETED)


async def _first(
    attempts: set[asyncio.Task[Wire]], clock: TimerClock, seconds: float
) -> asyncio.Task[Wire] | None:
    timer = asyncio.ensure_future(clock.sleep(max(0.001, seconds)))
    try:
        done, _ = await asyncio.wait({*attempts, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await settle(timer)
    finished = [task for task in attempts if task in done]
    return min(finished, key=lambda task: task.exception() is not None, default=None)


async def _attempt(host: str, port: int, clock: TimerClock) -> Wire:
    wire = Wire(clock)
    try:
        await within(clock, TCP_SECONDS, _connect(wire, host, port))
        ends: set[asyncio.Future[Any]] = {wire.greeted, wire.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if wire.lost.done():
            detail = wire.lost.result()
            raise DialError(DialProblem.CLOSED, f"{host}:{port} took the connection, but {detail}")
    except TimeoutError:
        raise DialError(
            DialProblem.UNREACHABLE,
            f"{host}:{port} did not take the connection in {TCP_SECONDS:g} s",
        ) from None
    except OSError as error:
        raise _network_problem(host, port, error) from None
    except asyncio.CancelledError:
        wire.drop(CloseReason.GIVEN_UP)
        raise
    return wire


async def _connect(wire: Wire, host: str, port: int) -> None:
    """Opens it to the host, or, while nobody answers for names, to where the host was last.

    In a container the engine answers for names, and is away while it is upgraded. A name that is
    answered to be unknown (EAI_NONAME) is a host that has gone: its address may be another's now.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(lambda: wire, host, port)
    except socket.gaierror as error:
        if error.errno != socket.EAI_AGAIN or (host, port) not in _known:
            raise
        await loop.create_connection(lambda: wire, _known[host, port], port)
        return
    peer = transport.get_extra_info("peername")
    if peer is not None:
        _known.pop((host, port), None)
        _known[host, port] = str(peer[0])
        while len(_known) > MOST_KNOWN:
            del _known[next(iter(_known))]


def _network_problem(host: str, port: int, error: OSError) -> DialError:
    if isinstance(error, ConnectionRefusedError):
        return DialError(DialProblem.REFUSED, f"{host}:{port} refused the connection")
    if isinstance(error, ConnectionError):
        return DialError(DialProblem.CLOSED, f"{host}:{port} reset the connection")
    return DialError(
        DialProblem.UNREACHABLE, f"{host}:{port} cannot be reached: {error.strerror or error}"
    )
