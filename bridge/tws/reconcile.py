"""What has to be put in order after every (re)connect, before and after the state becomes ready."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from bridge.clock import within
from bridge.tws.gateway import Reconciler
from bridge.tws.link import Link

HOOK_SECONDS = 20.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hook:
    """One room's work."""

    name: str
    work: Reconciler
    required: bool


class Reconciliation:
    """Runs the hooks each time ``wanted`` is set."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._hooks: list[Hook] = []
        self.wanted = asyncio.Event()

    def add(self, hook: Hook) -> None:
        """Registers a hook; names are for events and logs."""
        self._hooks.append(hook)

    async def run(self) -> None:
        """For the life of one connection."""
        self.wanted.set()
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            if self._link.upstream and await self._required():
                self._link.machine.update(reconciled=True, was_ready=True)
                self._link.events.ready.emit()
                await self._others()

    async def _required(self) -> bool:
        """True when all have passed; false when it has to begin anew."""
        for hook in self._hooks:
            pause = 0.5
            while hook.required and not await self._passed(hook):
                if self.wanted.is_set() or not self._link.upstream:
                    return False
                await self._link.clock.sleep(pause)
                pause = min(5.0, pause * 2)
        return not self.wanted.is_set() and self._link.upstream

    async def _others(self) -> None:
        for hook in self._hooks:
            if not hook.required and not self.wanted.is_set():
                await self._passed(hook)

    async def _passed(self, hook: Hook) -> bool:
        try:
            await within(self._link.clock, HOOK_SECONDS, hook.work())
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning("reconcile-failed", hook=hook.name, error=str(error) or repr(error))
            self._link.diagnostics.note("reconcile-failed", hook=hook.name, error=str(error))
            return False
        return True
