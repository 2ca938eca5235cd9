"""Notices a gateway that is still connected but no longer there.

When nothing was read for ``heartbeat_interval`` seconds (or a request waits that long), the gateway
is asked for its time, one question at a time. One question without an answer: the state says
``stalled``. Two: the connection is dropped. With the default of 4 s each that is 8 and 12 seconds
after the last byte. The gateway ignores the question within a second of its last answer, so they
are kept further apart than that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.tws.errors import NotConnectedError, TwsError
from bridge.tws.link import Link
from bridge.tws.wire import Wire


class Heartbeat:
    """Runs while a connection is up."""

    def __init__(self, link: Link, ask: Callable[[float], Awaitable[object]]) -> None:
        self._link = link
        self._ask = ask

    async def run(self, wire: Wire) -> None:
        """Until the wire is dropped by this, or the task is cancelled."""
        while wire.alive:
            await self._link.clock.sleep(self._pause(wire))
            if self._quiet(wire) < self._link.target.heartbeat_interval - 0.01:
                continue
            if not await self._beat(wire) and not await self._beat(wire):
                wire.drop("two heartbeats in a row got no answer: half-open or hung")
                return

    def _quiet(self, wire: Wire) -> float:
        return self._link.clock.monotonic() - wire.last_read

    def _pause(self, wire: Wire) -> float:
        return max(0.05, self._link.target.heartbeat_interval - self._quiet(wire))

    async def _beat(self, wire: Wire) -> bool:
        link = self._link
        begun = link.clock.monotonic()
        error: str | None = None
        try:
            await self._ask(link.target.heartbeat_patience)
        except NotConnectedError:
            return True  # the loss is known already; somebody else deals with it
        except TwsError as failure:
            error = failure.detail
        link.diagnostics.heartbeat(error, link.clock.monotonic() - begun)
        alive = error is None or wire.last_read > begun
        if link.machine.facts.heartbeat is not alive:
            link.machine.update(heartbeat=alive)
        return alive
