"""One client of the stream: what waits to be sent to it, and how that stays bounded.

Orders, executions and health are never dropped: a client that lets too many of them pile up is cut
off, and can come back for them. Quotes are conflated: when too many wait, each instrument's latest
values replace all that was waiting, and the message says how many updates it stands for.

The ring is the recent past of the stream, for those who come back after a gap. Quotes come by the
thousand, orders by the hour: each kind has a ring of its own, so that ticks never push an execution
out.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

QUOTES: Final = "quotes"
ORDERS: Final = "orders"
EXECUTIONS: Final = "executions"
HEALTH: Final = "health"
POSITIONS: Final = "positions"
ACCOUNT: Final = "account"
RULES: Final = "rules"
STATES: Final = (POSITIONS, ACCOUNT)
"""Channels whose every message shows the whole as it is now: none is kept for who comes back."""
CHANNELS: Final = (QUOTES, ORDERS, EXECUTIONS, HEALTH, RULES, *STATES)


@dataclass(frozen=True, slots=True)
class Topic:
    """A channel, and for quotes the number of the line."""

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


MOST_QUOTES_IN_MESSAGE: Final = 400
CONFLATE_ABOVE: Final = 2000
CUT_OFF_ABOVE: Final = 1000
REMEMBERED_MESSAGES: Final = 2048
REMEMBERED_ANSWERS: Final = 32
"""Each may name 200 instruments, and there may be a hundred streams."""
ANSWERS: Final = frozenset({"subscribed", "unsubscribed", "error"})

Snapshot = Callable[[int], str | None]
"""The whole quote of a line by its number, as JSON; None when it is gone."""

_TYPES: Final = {"orders": "order", "executions": "execution", "health": "health", "rules": "rule"}


class Answer(str):
    """A message of the server's own that comes again where it was missed."""

    __slots__ = ()


class Subscriber:
    """Topics, numbering and the queue of one session."""

    def __init__(self, session: str, owner: str, snapshot: Snapshot) -> None:
        self.session = session
        self.owner = owner
        self.topics: dict[Topic, int] = {}
        """Each with the place in the stream at which it was subscribed."""
        self.sequence = 0
        self._furthest = 0
        self.overflowed = False
        self.conflations = 0
        self._snapshot = snapshot
        self._queue: deque[Event | str] = deque()
        self._quotes_waiting = 0
        self._others_waiting = 0
        self._conflating: dict[int, int] = {}
        self._answers: deque[tuple[int, Answer]] = deque(maxlen=REMEMBERED_ANSWERS)
        self._cursor = 0
        self._cursors = array("Q", bytes(8 * REMEMBERED_MESSAGES))

    # taking in ----------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self._queue or self._conflating)

    def offer(self, event: Event) -> None:
        """Queues an event of one of its topics."""
        if event.topic.channel != QUOTES:
            self._others_waiting += 1
            self.overflowed = self.overflowed or self._others_waiting > CUT_OFF_ABOVE
            self._queue.append(event)
            return
        if self._conflating:
            self._conflate(event)
            return
        self._queue.append(event)
        self._quotes_waiting += 1
        if self._quotes_waiting > CONFLATE_ABOVE:
            self._start_conflating()

    def forgive(self) -> None:
        """What waits now is what it missed, and is no fault of its own."""
        self._others_waiting = 0
        self.overflowed = False

    def tell(self, kind: str, **members: object) -> None:
        """Queues a message of the server's own."""
        # Without the brace: the number comes first, when it is sent.
        body = _encode({"type": kind, **members})[1:]
        self.tell_raw(Answer(body) if kind in ANSWERS else body)

    def greet(self, **members: object) -> None:
        """Puts the welcome before everything that waits."""
        self._others_waiting += 1
        self._queue.appendleft(_encode({"type": "welcome", **members})[1:])

    def tell_raw(self, body: str) -> None:
        """The same for a message encoded once for many: JSON without its first brace."""
        self._others_waiting += 1
        self.overflowed = self.overflowed or self._others_waiting > CUT_OFF_ABOVE
        self._queue.append(body)

    def _start_conflating(self) -> None:
        self.conflations += 1
        kept: deque[Event | str] = deque()
        for item in self._queue:
            if isinstance(item, Event) and item.topic.channel == QUOTES:
                self._conflate(item)
            else:
                kept.append(item)
        self._queue = kept
        self._quotes_waiting = 0

    def _conflate(self, event: Event) -> None:
        key = event.topic.key
        self._conflating[key] = self._conflating.get(key, 0) + 1

    # giving out ---------------------------------------------------------------------------------

    def take(self, now_cursor: int) -> list[str]:
        """The next messages, numbered; empty when nothing waits.

        `now_cursor` is the stream's place now, up to which conflated quotes speak.
        """
        messages: list[str] = []
        quotes: list[str] = []
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, Event) and item.topic.channel == QUOTES:
                self._quotes_waiting -= 1
                self._cursor = item.cursor
                quotes.append(item.body)
                if len(quotes) >= MOST_QUOTES_IN_MESSAGE:
                    messages.append(self._quotes_message(quotes))
                continue
            if quotes:
                messages.append(self._quotes_message(quotes))
            messages.append(self._other_message(item))
        if quotes:
            messages.append(self._quotes_message(quotes))
        if self._conflating:
            messages.append(self._conflated_message(now_cursor))
        return messages

    def _number(self) -> int:
        self.sequence += 1
        self._furthest = max(self._furthest, self.sequence)
        self._cursors[self.sequence % REMEMBERED_MESSAGES] = self._cursor
        return self.sequence

    def _quotes_message(self, quotes: list[str]) -> str:
        message = f'{{"seq":{self._number()},"type":"quotes","quotes":[{",".join(quotes)}]}}'
        quotes.clear()
        return message

    def _other_message(self, item: Event | str) -> str:
        self._others_waiting = max(self._others_waiting - 1, 0)
        if isinstance(item, str):
            number = self._number()
            if isinstance(item, Answer):
                self._answers.append((number, item))
            return f'{{"seq":{number},{item}'
        self._cursor = item.cursor
        kind = _TYPES[item.topic.channel]
        return f'{{"seq":{self._number()},"type":"{kind}","data":{item.body}}}'

    def _conflated_message(self, now_cursor: int) -> str:
        quotes = [body for key in self._conflating if (body := self._snapshot(key)) is not None]
        count = sum(self._conflating.values())
        self._conflating.clear()
        self._cursor = now_cursor
        return (
            f'{{"seq":{self._number()},"type":"quotes","conflated":{count},'
            f'"quotes":[{",".join(quotes)}]}}'
        )

    # coming back --------------------------------------------------------------------------------

    def rewind(self, last_sequence: int) -> int | None:
        """Back to just after the message that the client saw last; its place in the stream.

        Answers that were sent since or still wait come again before all else. None when that
        message is too long ago, or was never sent.
        """
        # By the last that was ever sent: what came back once has not brought back older places.
        oldest = max(self._furthest - REMEMBERED_MESSAGES + 1, 1)
        if not oldest <= last_sequence <= self.sequence:
            return None
        seen = [each for each in self._answers if each[0] <= last_sequence]
        missed: list[Event | str] = [
            body for number, body in self._answers if number > last_sequence
        ]
        missed += [item for item in self._queue if isinstance(item, Answer)]
        self._answers.clear()
        self._answers.extend(seen)
        self._queue = deque(missed)
        self._conflating.clear()
        self._quotes_waiting, self._others_waiting = 0, len(missed)
        self.overflowed = False
        self.sequence = last_sequence
        self._cursor = self._cursors[last_sequence % REMEMBERED_MESSAGES]
        return self._cursor


def _encode(message: dict[str, object]) -> str:
    return msgspec.json.encode(message).decode()
