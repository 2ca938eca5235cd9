"""The recent past of the stream, for those who come back after a gap.

Quotes come by the thousand, orders by the hour: each kind has a ring of its own, so that ticks
never push an execution out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

QUOTES: Final = "quotes"
ORDERS: Final = "orders"
EXECUTIONS: Final = "executions"
HEALTH: Final = "health"
CHANNELS: Final = (QUOTES, ORDERS, EXECUTIONS, HEALTH)


@dataclass(frozen=True, slots=True)
class Topic:
    """A channel, and for quotes the contract id."""

    channel: str
    key: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something published: its place in the stream and its JSON, encoded once for everyone."""

    cursor: int
    topic: Topic
    body: str


class Ring:
    """Bounded memory of events."""

    def __init__(self, quotes: int = 8192, others: int = 1024) -> None:
        self._quotes: deque[Event] = deque(maxlen=quotes)
        self._others: deque[Event] = deque(maxlen=others)
        self._lost_quotes = 0
        self._lost_others: dict[str, int] = {}

    def add(self, event: Event) -> None:
        """Takes an event in; the oldest of its kind goes when there is no room."""
        if event.topic.channel == QUOTES:
            if len(self._quotes) == self._quotes.maxlen:
                self._lost_quotes = self._quotes[0].cursor
            self._quotes.append(event)
            return
        if len(self._others) == self._others.maxlen:
            oldest = self._others[0]
            self._lost_others[oldest.topic.channel] = oldest.cursor
        self._others.append(event)

    def since(self, cursor: int, topics: Callable[[Topic], bool]) -> list[Event]:
        """The events after `cursor` that `topics` accepts, in their order."""
        found = [
            event
            for events in (self._quotes, self._others)
            for event in events
            if event.cursor > cursor and topics(event.topic)
        ]
        found.sort(key=_place)
        return found

    def lost(self, cursor: int, channels: Iterable[str]) -> list[str]:
        """Those of these channels of which something after `cursor` is gone."""
        return [
            channel
            for channel in channels
            if cursor
            < (self._lost_quotes if channel == QUOTES else self._lost_others.get(channel, 0))
        ]


def _place(event: Event) -> int:
    return event.cursor
