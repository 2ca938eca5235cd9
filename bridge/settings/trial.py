"""Runs trials of settings, one at a time: each takes a client slot of the gateway."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge.clock import TimerClock
from bridge.settings.probe import Probe, ProbeReport
from bridge.settings.profile import merged
from bridge.settings.service import SettingsService


class TrialService:
    """Runs trials.

    Args:
        settings: knows the stored settings.
        clock: bounds and times the steps.
    """

    def __init__(self, settings: SettingsService, clock: TimerClock) -> None:
        self._settings = settings
        self._clock = clock
        self._one = asyncio.Lock()

    async def run(self, name: str | None, changes: dict[str, Any], symbol: str) -> ProbeReport:
        """Tries a profile (None: the settings in use) with these fields changed; saves nothing.

        Raises:
            SettingsError: there is no such profile, or a field makes no sense.
        """
        base = (await self._settings.show(name)).profile if name else self._settings.current
        profile = merged(base, changes, base)
        taken = frozenset({self._settings.current.client_id})
        async with self._one:
            return await Probe(profile, self._clock, taken, symbol).run()
