"""Notices a gateway that is still connected but no longer there.

When nothing was read for ``heartbeat_interval`` seconds (or a request waits that long), the gateway
is asked for its time, one question at a time. One question without an answer: the state says
``stalled``, with the defaults 4.5 seconds after the last byte. A second one, which is given twice
the time because a gateway may only be busy: the connection is dropped, after 9.5 seconds. Bytes of
any kind are a sign of life; and when this very process was held up, what came meanwhile is read
before anything is concluded. The gateway ignores the question within a second of its last answer,
so they are kept further apart than that.

A gateway that has lost the broker (1100) says 1101 or 1102 when it is back. Should that get lost,
nothing else would end the state: requests that need the broker are not sent meanwhile. So one
harmless question is sent now and then; its answer can only have come from the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bridge.tws.connection_context import ConnectionContext
from bridge.tws.errors import NotConnectedError, TwsError
from bridge.tws.wire import CloseReason, Wire

ASK_SECONDS = 60.0
"""So often it is asked whatever comes in: the answer also tells how far the clocks differ."""
LATE_SECONDS = 0.1
"""What had come when this process was held up is read by then."""


class Heartbeat:
    """Runs while a connection is up."""

    def __init__(
        self, context: ConnectionContext, ask: Callable[[float], Awaitable[object]]
    ) -> None:
        self._context = context
        self._ask = ask

    async def run(self, wire: Wire) -> None:
        """Until the wire is dropped by this, or the task is cancelled."""
        asked = self._context.clock.monotonic()
        while wire.alive:
            await self._context.clock.sleep(self._pause(wire))
            now = self._context.clock.monotonic()
            quiet = self._quiet(wire) >= self._context.target.heartbeat_interval - 0.01
            if not quiet and now - asked < ASK_SECONDS:
                continue
            asked = now
            patience = self._context.target.heartbeat_patience
            if not await self._beat(wire, patience) and not await self._beat(wire, 2 * patience):
                wire.drop(CloseReason.UNANSWERED)
                return

    def _quiet(self, wire: Wire) -> float:
        return self._context.clock.monotonic() - wire.last_read

    def _pause(self, wire: Wire) -> float:
        return max(0.05, self._context.target.heartbeat_interval - self._quiet(wire))

    async def _beat(self, wire: Wire, patience: float) -> bool:
        context = self._context
        begun = context.clock.monotonic()
        error: str | None = None
        try:
            await self._ask(patience)
        except NotConnectedError:
            return True  # the loss is known already; somebody else deals with it
        except TwsError as failure:
            error = failure.detail
            if wire.last_read <= begun:
                await context.clock.sleep(LATE_SECONDS)
        context.diagnostics.heartbeat(error, context.clock.monotonic() - begun)
        alive = error is None or wire.last_read > begun
        if context.status.facts.heartbeat is not alive:
            context.status.update(heartbeat=alive)
        return alive


PROBE_PAUSE = 60.0
"""Seconds. A nightly reset takes minutes, and ends with 1102 as a rule: there is no hurry."""


class UpstreamProbe:
    """Finds out that the broker is back when the gateway does not say so."""

    def __init__(
        self,
        context: ConnectionContext,
        ask: Callable[[], Awaitable[object]],
        answered: Callable[[], None],
    ) -> None:
        self._context = context
        self._ask = ask
        self._answered = answered
        self._lost = asyncio.Event()
        context.events.upstream_lost.listen(self._lost.set)

    async def run(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            while not self._context.upstream:
                await self._context.clock.sleep(PROBE_PAUSE)
                if (
                    not self._context.upstream
                    and await self._heard()
                    and not self._context.upstream
                ):
                    self._answered()

    async def _heard(self) -> bool:
        try:
            await self._ask()
        except TwsError:
            return False  # not even a refusal counts: the gateway may refuse on its own
        return True
