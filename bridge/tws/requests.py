"""What was asked and not answered yet: request id (or key) -> future with a deadline.

Requests whose answers carry no id (open orders, positions, completed orders, the time ...) are kept
by a key, one at a time. When such a request is given up, its answer may still come: it is owed, and
is then thrown away instead of being taken for the answer to the next request of that key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.clock import Handle, TimerClock
from bridge.tws.errors import AnswerTooLargeError, RequestTimedOutError, TwsError

FIRST_ID, LAST_ID = (
    1_500_000_000,
    2_100_000_000,
)  # far from order ids: an error's id is never ambiguous
OWED_SECONDS = 60.0
LARGEST_ANSWER = 4 * 1024 * 1024
LARGEST_TOGETHER = 6 * 1024 * 1024
"""Bytes on the wire, of one answer and of all that are coming in; in memory it is several times."""


class Kind(StrEnum):
    """What is asked; ``/health`` and ``/metrics`` show circuits under these names."""

    CURRENT_TIME = "currentTime"
    CONTRACT_DETAILS = "contractDetails"
    MATCHING_SYMBOLS = "matchingSymbols"
    UPSTREAM_PROBE = "upstream-probe"
    OPTION_PARAMETERS = "optionParameters"
    MARKET_RULE = "marketRule"
    HISTORY = "history"
    OPEN_ORDERS = "openOrders"
    ALL_OPEN_ORDERS = "allOpenOrders"
    COMPLETED_ORDERS = "completedOrders"
    EXECUTIONS = "executions"
    POSITIONS = "positions"
    WHAT_IF = "what-if"
    ORDER = "order"


class Key(StrEnum):
    """What an answer without an id is known by; that of a price ladder is `market_rule_key`."""

    CURRENT_TIME = "current-time"  # any answer to it will do: it says that somebody is there
    OPEN_ORDERS = "open-orders"
    COMPLETED_ORDERS = "completed-orders"
    POSITIONS = "positions"


def market_rule_key(rule_id: int) -> str:
    """What the answer with this price ladder is known by."""
    return f"market-rule-{rule_id}"


Name = int | str


@dataclass(slots=True, eq=False)
class Pending:
    """One request. ``parts`` collects what came before the end of the answer."""

    name: Name
    kind: Kind
    future: asyncio.Future[list[Any]]
    opened_at: float
    sent_at: float | None = None
    parts: list[Any] = field(default_factory=list)
    size: int = 0
    deadline: Handle | None = None
    passed_over: bool = False  # an answer came and was taken for that to an earlier request
    ended: bool = False  # the end of its answer came when it had failed already
    said: str = ""  # what the broker said of it that is no answer


class Requests:
    """The registry of one session; it outlives connections, its entries do not."""

    def __init__(self, clock: TimerClock) -> None:
        self._clock = clock
        self._pending: dict[Name, Pending] = {}
        self._owed: dict[str, list[float]] = {}
        self._next = FIRST_ID
        self._arriving = 0
        self._together = 0

    def __len__(self) -> int:
        return len(self._pending)

    def new_id(self) -> int:
        """A request id that is free."""
        self._next = FIRST_ID if self._next >= LAST_ID else self._next + 1
        return self._next

    def open(self, name: Name, kind: Kind, timeout: float) -> Pending:
        """Registers a request; its future fails with ``RequestTimedOutError`` at the deadline."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        pending = Pending(name, kind, future, self._clock.monotonic())
        self._pending[name] = pending

        def expire() -> None:
            where = "is still queued" if pending.sent_at is None else "got no answer"
            said = f"; the broker said {pending.said}" if pending.said else ""
            self._end(pending, RequestTimedOutError(f"{kind} {where} after {timeout:g} s{said}"))

        pending.deadline = self._clock.call_later(timeout, expire)
        return pending

    def close(self, pending: Pending) -> None:
        """Forgets a request, however it ended; call it once for each ``open``."""
        self._together -= pending.size
        pending.size = 0
        if pending.deadline:
            pending.deadline.cancel()
        if self._pending.get(pending.name) is pending:
            del self._pending[pending.name]
            answered = pending.future.done() and not pending.future.cancelled()
            answered = answered and pending.future.exception() is None
            owes = isinstance(pending.name, str) and pending.name != Key.CURRENT_TIME
            # What was owed may have been lost; without this, so would every later answer be.
            owes = owes and not pending.passed_over and not pending.ended
            if owes and pending.sent_at is not None and not answered:
                owed = self._owed.setdefault(str(pending.name), [])
                owed.append(self._clock.monotonic() + OWED_SECONDS)

    def get(self, name: Name) -> Pending | None:
        """The pending request of that id or key."""
        return self._pending.get(name)

    def arriving(self, size: int) -> None:
        """The size of the message whose parts come next."""
        self._arriving = size

    def add(self, name: Name, part: Any) -> None:
        """One more part of an answer; ignored when nobody waits for it (any more)."""
        pending = self._pending.get(name)
        if pending is None or pending.future.done():
            return
        pending.parts.append(part)
        if self._arriving:
            pending.size += self._arriving
            self._together += self._arriving
            self._arriving = 0
            if pending.size > LARGEST_ANSWER or self._together > LARGEST_TOGETHER:
                pending.parts.clear()
                self._end(pending, AnswerTooLargeError(f"the answer to {pending.kind} has no end"))

    def finish(self, name: Name, *parts: Any) -> None:
        """The end of an answer."""
        if isinstance(name, str) and self._was_owed(name):
            return
        pending = self._pending.get(name)
        if pending is None:
            return
        if pending.future.done():
            pending.ended = True  # it has failed before: its end has come, and is owed no more
            return
        pending.parts.extend(parts)
        pending.future.set_result(pending.parts)

    def fail(self, name: Name, error: TwsError) -> bool:
        """Ends a request with an error; false when nobody waits for it."""
        pending = self._pending.get(name)
        if pending is None:
            return False
        self._end(pending, error)
        return True

    def fail_kinds(self, kinds: Collection[Kind], error: TwsError) -> None:
        """Ends every request of these kinds with an error that names none of them."""
        for pending in list(self._pending.values()):
            if pending.kind in kinds:
                self._end(pending, error)

    def fail_all(
        self, make: Callable[[Kind], TwsError], *, forget: bool, spare: Name | None = None
    ) -> None:
        """Ends every request but ``spare``.

        ``forget`` when the socket is gone and no late answer can come.
        """
        for pending in list(self._pending.values()):
            if pending.name == spare:
                continue
            self._end(pending, make(pending.kind))
            if forget:
                self._pending.pop(pending.name, None)
        if forget:
            self._owed.clear()

    def waiting_since(self) -> float | None:
        """When the oldest unanswered message was sent; None when nothing waits."""
        sent = [p.sent_at for p in self._pending.values() if p.sent_at is not None]
        return min(sent, default=None)

    @staticmethod
    def _end(pending: Pending, error: TwsError) -> None:
        if not pending.future.done():
            pending.future.set_exception(error)
            pending.future.exception()  # marks it as seen: whoever waited may have gone

    def _was_owed(self, key: str) -> bool:
        now = self._clock.monotonic()
        owed = [until for until in self._owed.get(key, ()) if until > now]
        if not owed:
            self._owed.pop(key, None)
            return False
        self._owed[key] = owed[1:]
        pending = self._pending.get(key)
        if pending:
            pending.parts.clear()
            pending.passed_over = True
        return True
