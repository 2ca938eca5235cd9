"""Who may write to the gateway, and when: four lanes under the limit of 50 messages a second.

Each lane leaves the last slots of a second to those before it: a cancel finds room at once in the
middle of a burst of orders, and an order whatever else is queued. Orders come in small portions
rather than a whole second's worth at once, so that slots for further cancels come free all the
time. What can be written now is written now, synchronously.

Beside it the broker's rules for historical data, as arithmetic: at most 60 requests in 10 minutes;
no identical one within 15 seconds; fewer than six for the same contract, exchange and kind within
two seconds; BID_ASK counts twice. (The broker's documentation of historical data limitations. It
enforces them for small bars; the bridge keeps them for all.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bridge.clock import Handle, TimerClock
from bridge.tws.errors import QueueFullError

WINDOW = 1.05  # seconds; a little more than one, as messages bunch up on the way
# A busy machine delivers late what was written early: 48 were met by error 100 and lost orders.
CANCEL_LIMIT, ORDER_LIMIT, INTERACTIVE_LIMIT, BULK_LIMIT = 44, 40, 32, 26
PORTION, PORTION_SECONDS = 10, WINDOW / 4
"""So many orders in so much time: 40 in a window, as their limit is."""
SLOW_SECONDS = 10.0

Write = Callable[[], None]


class Lane(StrEnum):
    """Who goes first under the gateway's message limit."""

    CANCEL = "cancel"  # cancels, and what a halt has to know; overtakes everything
    ORDER = "order"  # orders and their checks
    INTERACTIVE = "interactive"  # someone waits for the answer
    BULK = "bulk"  # history, chains, background


_LIMITS = {Lane.CANCEL: CANCEL_LIMIT, Lane.ORDER: ORDER_LIMIT}
"""Of the lanes that are not slowed down."""


@dataclass(slots=True)
class Ticket:
    """One waiting message (or several that belong together); ``void`` ones are passed over."""

    write: Write
    messages: int
    gives_back: bool = False
    void: bool = False
    written: bool = False


class Pacer:
    """The lanes of one connection after another."""

    def __init__(
        self, clock: TimerClock, *, bulk_room: int = 2000, interactive_room: int = 1000
    ) -> None:
        self._clock = clock
        self._sent: deque[float] = deque()
        self._orders: deque[float] = deque(maxlen=PORTION)
        self._lanes: dict[Lane, deque[Ticket]] = {lane: deque() for lane in Lane}
        self._room = {
            Lane.CANCEL: 1000,
            Lane.ORDER: 1000,
            Lane.INTERACTIVE: interactive_room,
            Lane.BULK: bulk_room,
        }
        self._timer: Handle | None = None
        self._slow_until = 0.0

    def submit(
        self, lane: Lane, write: Write, *, messages: int = 1, gives_back: bool = False
    ) -> Ticket:
        """Writes now if the lane is free, else queues.

        ``QueueFullError`` when the lane's room is used up; never for what gives something back.
        """
        ticket = Ticket(write, messages, gives_back)
        queue = self._lanes[lane]
        if len(queue) >= self._room[lane] and not gives_back:
            raise QueueFullError(
                f"{len(queue)} {lane.value} requests are waiting already", retry_after=2.0
            )
        queue.append(ticket)
        self._pump()
        return ticket

    def charge(self, messages: int = 1) -> None:
        """Books messages that were written past the lanes (handshake, heartbeat)."""
        now = self._clock.monotonic()
        self._sent.extend([now] * messages)

    def slow_down(self) -> None:
        """The gateway complained (100): half the pace for a while, orders and cancels excepted."""
        self._slow_until = self._clock.monotonic() + SLOW_SECONDS

    def clear(self, *, socket_gone: bool = True) -> None:
        """Throws everything away; whoever waits learns of the loss elsewhere.

        A gateway that is still there keeps what it has: that is given back all the same.
        """
        for queue in self._lanes.values():
            kept = [] if socket_gone else [each for each in queue if each.gives_back]
            queue.clear()
            queue.extend(kept)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if socket_gone:
            self._sent.clear()
            self._orders.clear()
        else:
            self._pump()

    def used(self) -> int:
        """Messages written within the last second."""
        now = self._clock.monotonic()
        return sum(now - at < WINDOW for at in self._sent)

    def depth(self) -> dict[str, int]:
        """Lane -> how many wait."""
        return {lane.value: sum(not t.void for t in q) for lane, q in self._lanes.items()}

    def _limit(self, lane: Lane, now: float) -> int:
        if lane in _LIMITS:
            return _LIMITS[lane]
        limit = INTERACTIVE_LIMIT if lane is Lane.INTERACTIVE else BULK_LIMIT
        return limit // 2 if now < self._slow_until else limit

    def _due(self, lane: Lane, messages: int, now: float) -> float:
        """When a lane may write so many messages; that may have passed."""
        due = now
        over = len(self._sent) + messages - self._limit(lane, now)
        if over > 0 and self._sent:
            due = self._sent[min(over, len(self._sent)) - 1] + WINDOW
        over = len(self._orders) + messages - PORTION
        if lane is Lane.ORDER and over > 0 and self._orders:
            due = max(due, self._orders[min(over, len(self._orders)) - 1] + PORTION_SECONDS)
        return due

    def _pump(self) -> None:
        now = self._clock.monotonic()
        while self._sent and now - self._sent[0] >= WINDOW:
            self._sent.popleft()
        for lane in Lane:
            due = self._drain(lane, now)
            if due is not None:  # what has to wait loses no slot to the lanes behind it
                self._wake_at(due, now)
                return

    def _drain(self, lane: Lane, now: float) -> float | None:
        """Writes what this lane may; the time of the next try when something has to wait."""
        queue = self._lanes[lane]
        while queue:
            ticket = queue[0]
            if not ticket.void:
                due = self._due(lane, ticket.messages, now)
                if due > now:
                    return due
                self._sent.extend([now] * ticket.messages)
                if lane is Lane.ORDER:
                    self._orders.extend([now] * ticket.messages)
                ticket.written = True
                queue.popleft()
                ticket.write()
            else:
                queue.popleft()
        return None

    def _wake_at(self, due: float, now: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._clock.call_later(max(0.001, due - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._pump()


WINDOW_SECONDS, WINDOW_LIMIT = 600.0, 60
IDENTICAL_SECONDS = 15.0
SAME_SECONDS, SAME_LIMIT = 2.0, 5
MARGIN = 1.0  # the gateway counts from when a message arrives, and a busy machine bunches them


@dataclass(frozen=True, slots=True)
class HistoryKey:
    """What makes requests alike.

    ``contract`` for the six-in-two-seconds rule, ``whole`` for identical ones.
    """

    contract: str
    whole: str
    weight: int = 1


class HistoryRules:
    """Remembers what was sent and says how long the next must wait. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._window: deque[float] = deque()
        self._same: dict[str, deque[float]] = {}
        self._whole: dict[str, float] = {}

    def wait(self, key: HistoryKey, now: float) -> float:
        """Seconds until this request would break no rule; 0 when it may go now."""
        self._forget(now)
        wait = 0.0
        over = len(self._window) + key.weight - WINDOW_LIMIT
        if over > 0:
            wait = self._window[over - 1] + WINDOW_SECONDS + MARGIN - now
        same = self._same.get(key.contract)
        if same and len(same) + key.weight > SAME_LIMIT:
            index = min(len(same) - 1, len(same) + key.weight - SAME_LIMIT - 1)
            wait = max(wait, same[index] + SAME_SECONDS + MARGIN - now)
        if key.whole in self._whole:
            wait = max(wait, self._whole[key.whole] + IDENTICAL_SECONDS + MARGIN - now)
        return max(0.0, wait)

    def used(self, now: float) -> int:
        """What counts against the ten minutes' limit at this moment."""
        self._forget(now)
        return len(self._window)

    def sent(self, key: HistoryKey, now: float) -> None:
        for _ in range(key.weight):
            self._window.append(now)
            self._same.setdefault(key.contract, deque()).append(now)
        self._whole[key.whole] = now

    def _forget(self, now: float) -> None:
        while self._window and now - self._window[0] >= WINDOW_SECONDS + MARGIN:
            self._window.popleft()
        for name in [n for n, at in self._whole.items() if now - at >= IDENTICAL_SECONDS + MARGIN]:
            del self._whole[name]
        for name, times in list(self._same.items()):
            while times and now - times[0] >= SAME_SECONDS + MARGIN:
                times.popleft()
            if not times:
                del self._same[name]
