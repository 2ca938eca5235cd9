"""Finds out that the broker is back when the gateway does not say so.

A gateway that has lost the broker (1100) says 1101 or 1102 when it is back. Should that word get
lost, nothing else would end the state: requests that need the broker are not sent meanwhile. So
one harmless question is sent now and then; its answer can only have come from the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bridge.tws.errors import TwsError
from bridge.tws.link import Link

PROBE_PAUSE = 60.0
"""Seconds. A nightly reset takes minutes, and ends with 1102 as a rule: there is no hurry."""


class UpstreamProbe:
    """Runs while a connection is up."""

    def __init__(
        self, link: Link, ask: Callable[[], Awaitable[object]], answered: Callable[[], None]
    ) -> None:
        self._link = link
        self._ask = ask
        self._answered = answered
        self._lost = asyncio.Event()
        link.events.upstream_lost.listen(self._lost.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            while not self._link.upstream:
                await self._link.clock.sleep(PROBE_PAUSE)
                if not self._link.upstream and await self._heard() and not self._link.upstream:
                    self._answered()

    async def _heard(self) -> bool:
        try:
            await self._ask()
        except TwsError:
            return False  # not even a refusal counts: the gateway may refuse on its own
        return True
