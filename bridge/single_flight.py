"""One request for many who ask the same at once, and for whoever asks again at once after."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from bridge.callers import GUEST
from bridge.clock import Clock, settle

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Shares running calls by key, and remembers `size` answers for `seconds`.

    A caller that is cancelled leaves the call running for the others; the last one takes it with
    it, unless calls are `lasting`. Failures are shared, never remembered. With `weigh` an answer
    counts as so many of `size`, and one that is larger than all of it is not remembered.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        seconds: float = 0.0,
        size: int = 256,
        lasting: bool = False,
        weigh: Callable[[V], int] | None = None,
    ) -> None:
        self._clock = clock
        self._lasting = lasting
        self._seconds = seconds
        self._size = size
        self._weigh = weigh
        self._weight = 0
        self._running: dict[K, tuple[asyncio.Task[V], list[int]]] = {}
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def kept(self, key: K) -> V | None:
        """An answer that is young enough."""
        held = self._kept.get(key)
        if held is None:
            return None
        if self._clock.monotonic() - held[0] >= self._seconds:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return held[1]

    def age(self, key: K) -> float:
        """Seconds since the answer kept for this key came; 0 when none is."""
        held = self._kept.get(key)
        return 0.0 if held is None else self._clock.monotonic() - held[0]

    def running(self, key: K) -> bool:
        """Whether it is being asked now."""
        return key in self._running

    async def cancel(self) -> None:
        """Ends what is running."""
        await settle(*(task for task, _ in tuple(self._running.values())))

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer: kept, shared, or asked for now."""
        kept = self.kept(key)
        if kept is not None:
            return kept
        running = self._running.get(key)
        if running is None:
            running = self._begun(key, ask), [0]
            self._running[key] = running
            # A failure that nobody waits for any more was told to those who did.
            running[0].add_done_callback(_retrieve)
        task, waiting = running
        waiting[0] += 1
        try:
            return await asyncio.shield(task)
        finally:
            waiting[0] -= 1
            if not waiting[0] and not task.done() and not self._lasting:
                task.cancel()
                # Whoever comes next must not join a call that is on its way out.
                if self._running.get(key) is running:
                    del self._running[key]

    def _begun(self, key: K, ask: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        """A guest pays for what it begins, and before others could share a refusal of it."""
        pay = GUEST.get()
        if pay is not None:
            pay()
        paid = copy_context()
        paid.run(GUEST.set, None)
        return asyncio.create_task(self._run(key, ask), context=paid)

    async def _run(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        task = asyncio.current_task()
        try:
            answer = await ask()
            if self._seconds > 0:
                self._keep(key, answer)
            return answer
        finally:
            running = self._running.get(key)
            if running is not None and running[0] is task:
                del self._running[key]

    def _keep(self, key: K, answer: V) -> None:
        self._forget(key)
        weight = self._weight_of(answer)
        if weight > self._size:
            return
        while self._weight + weight > self._size:
            self._forget(next(iter(self._kept)))
        self._kept[key] = (self._clock.monotonic(), answer)
        self._weight += weight

    def _forget(self, key: K) -> None:
        held = self._kept.pop(key, None)
        if held is not None:
            self._weight -= self._weight_of(held[1])

    def _weight_of(self, answer: V) -> int:
        return 1 if self._weigh is None else max(self._weigh(answer), 1)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
