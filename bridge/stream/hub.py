"""The hub: publishes once, to everyone who subscribed, without waiting for anyone.

Every event has a place in one stream (its cursor). Each session numbers its own messages from 1
without holes, and remembers at which place of the stream each one was; a client that comes back
says which number it saw last, and is given from the ring what it missed.

What arrives within a few milliseconds goes out together: a write for each client and tick is what
makes a fan-out slow, not the encoding.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bridge.callers import Holder, Shares
from bridge.clock import Clock
from bridge.errors import BridgeError, Kind
from bridge.stream.subscriber import CHANNELS, QUOTES, Event, Ring, Snapshot, Subscriber, Topic

FLUSH_SECONDS: Final = 0.01
"""Under load: a write for each client so often is what a fan-out costs."""

MOST_SESSIONS: Final = 100
STUCK_SECONDS: Final = 20.0
"""A client that takes nothing for so long is gone, whatever its connection says."""

SESSION_SECONDS: Final = 60.0
"""How long a session waits for its client to come back."""


class TooManyStreamsError(BridgeError):
    """The hub serves as many clients as it may."""

    code = "too-many-streams"
    kind = Kind.LIMITED
    next_step = "Close another stream of yours, or wait Retry-After seconds"


class Attachment:
    """One connection of a session: how to write to it, to wake its writer, and to end it.

    `write` does it without waiting, when the client lets it: else the writer is woken.
    """

    __slots__ = ("drop", "sending_since", "wake", "write")

    def __init__(self, drop: Callable[[str], None], write: Callable[[], bool] | None) -> None:
        self.wake = asyncio.Event()
        self.drop = drop
        self.write = write
        self.sending_since: float | None = None


class Session:
    """A subscriber with its connection, present or awaited."""

    __slots__ = ("attachment", "closed", "detached_at", "holder", "subscriber")

    def __init__(self, subscriber: Subscriber, holder: Holder, now: float) -> None:
        self.subscriber = subscriber
        self.holder = holder
        self.attachment: Attachment | None = None
        self.detached_at = now
        self.closed = False


class Hub:
    """Topics, sessions and the ring."""

    def __init__(
        self,
        clock: Clock,
        snapshot: Snapshot,
        *,
        ring: Ring | None = None,
        flush_seconds: float = FLUSH_SECONDS,
        most_sessions: int = MOST_SESSIONS,
    ) -> None:
        self.cursor = 0
        self.cut_off = 0
        self.sessions: dict[str, Session] = {}
        self.forgotten: Callable[[Session], None] = _nobody
        self._clock = clock
        self._snapshot = snapshot
        self._ring = ring or Ring()
        self._flush_seconds = flush_seconds
        self._shares = Shares(most_sessions)
        self._index: dict[Topic, set[Session]] = {}
        self._due: set[Session] = set()
        self._flush: asyncio.TimerHandle | None = None
        self._last_flush = 0.0

    # sessions -----------------------------------------------------------------------------------

    @property
    def attached(self) -> int:
        """Sessions with a client."""
        return sum(1 for session in self.sessions.values() if session.attachment is not None)

    def open(self, holder: Holder) -> Session:
        """A new session, to be attached.

        Raises:
            TooManyStreamsError: there are as many as there may be, or as this holder may have.
        """
        over = self._shares.over_share(holder)
        if over is not None:
            self._make_room(holder, f"too many streams are open: {over}", own=True)
        elif self._shares.taken >= self._shares.capacity:
            self._make_room(holder, f"{len(self.sessions)} streams are open already", own=False)
        subscriber = Subscriber(secrets.token_urlsafe(12), holder.key, self._snapshot)
        session = Session(subscriber, holder, self._clock.monotonic())
        self._shares.take(holder)
        self.sessions[session.subscriber.session] = session
        return session

    def resume(
        self, name: str, holder: Holder, last_sequence: int
    ) -> tuple[Session, list[str]] | None:
        """An earlier session, rewound to what its client saw last, with what came since queued.

        The second part lists the channels of which something is gone for good. None: there is no
        such session (any more), or not of this owner, or that number is too long ago.
        """
        session = self.sessions.get(name)
        if session is None or session.subscriber.owner != holder.key:
            return None
        if session.attachment is not None:
            # The old connection is dead without the server knowing, or the client opened a second.
            session.attachment.drop("resumed elsewhere")
            self.detach(session, session.attachment)
        subscriber = session.subscriber
        cursor = subscriber.rewind(last_sequence)
        if cursor is None:
            self.forget(session)
            return None
        topics, begun = subscriber.topics, dict[str, int]()
        for topic, at in topics.items():
            begun[topic.channel] = min(at, begun.get(topic.channel, at))
        lost = [
            channel
            for channel in sorted(begun)
            if self._ring.lost(max(cursor, begun[channel]), (channel,))
        ]
        for event in self._ring.since(cursor, topics.__contains__):
            if event.cursor > topics[event.topic]:  # else it was before this one came
                subscriber.offer(event)
        subscriber.forgive()
        for topic in subscriber.topics:
            self._index.setdefault(topic, set()).add(session)
        return session, lost

    def attach(
        self,
        session: Session,
        drop: Callable[[str], None],
        write: Callable[[], bool] | None = None,
    ) -> Attachment:
        """Gives the session a connection; `drop(reason)` must end it."""
        session.attachment = Attachment(drop, write)
        self._schedule(session)
        return session.attachment

    def detach(self, session: Session, attachment: Attachment) -> None:
        """That connection is gone; the subscriptions wait for the client for a while."""
        if session.attachment is not attachment:
            return
        session.attachment = None
        session.detached_at = self._clock.monotonic()
        for topic in session.subscriber.topics:
            self._index.get(topic, set()).discard(session)
        self._due.discard(session)

    def forget(self, session: Session) -> None:
        """The session ends; what it held is given back."""
        if session.closed:
            return
        session.closed = True
        self._shares.give(session.holder)
        self._due.discard(session)
        for topic in session.subscriber.topics:
            self._leave(topic, session)
        self.sessions.pop(session.subscriber.session, None)
        self.forgotten(session)

    def expire(self) -> None:
        """Forgets who did not come back in time, and cuts off who takes nothing any more."""
        now = self._clock.monotonic()
        for session in tuple(self.sessions.values()):
            attachment = session.attachment
            if attachment is None:
                if session.detached_at <= now - SESSION_SECONDS:
                    self.forget(session)
            elif (
                attachment.sending_since is not None
                and attachment.sending_since <= now - STUCK_SECONDS
            ):
                self._cut_off(session, attachment)

    def _cut_off(self, session: Session, attachment: Attachment) -> None:
        self.cut_off += 1
        attachment.drop("too slow")
        self.detach(session, attachment)

    def _make_room(self, holder: Holder, why: str, *, own: bool) -> None:
        """Gives up a session that waits for its client: the holder's, or one of no higher rank."""
        detached = [
            session
            for session in self.sessions.values()
            if session.attachment is None
            and (session.holder.key == holder.key if own else session.holder.rank <= holder.rank)
        ]
        if not detached:
            raise TooManyStreamsError(why, retry_after=10.0)
        self.forget(min(detached, key=lambda item: (item.holder.rank, item.detached_at)))

    def end(self, ended: Callable[[Holder], bool], reason: str) -> None:
        """Ends the sessions, present and awaited, of the holders whose keys have `ended`."""
        for session in tuple(self.sessions.values()):
            if ended(session.holder):
                attachment = session.attachment
                self.forget(session)
                if attachment is not None:
                    attachment.drop(reason)

    # topics -------------------------------------------------------------------------------------

    def subscribe(self, session: Session, topic: Topic) -> bool:
        """Adds a topic; False when it was there."""
        if topic in session.subscriber.topics:
            return False
        session.subscriber.topics[topic] = self.cursor
        self._index.setdefault(topic, set()).add(session)
        return True

    def unsubscribe(self, session: Session, topic: Topic) -> bool:
        """Removes a topic; False when it was not there."""
        if topic not in session.subscriber.topics:
            return False
        del session.subscriber.topics[topic]
        self._leave(topic, session)
        return True

    @property
    def conflations(self) -> int:
        """How often clients of the present sessions were too slow for every update."""
        return sum(session.subscriber.conflations for session in self.sessions.values())

    def wanted(self, topic: Topic) -> bool:
        """Whether any session, present or awaited, has this topic."""
        return topic in self._index

    def _leave(self, topic: Topic, session: Session) -> None:
        sessions = self._index.get(topic)
        if sessions is None:
            return
        sessions.discard(session)
        if not sessions and not any(
            topic in other.subscriber.topics for other in self.sessions.values() if other != session
        ):
            del self._index[topic]

    # publishing ---------------------------------------------------------------------------------

    def publish(self, topic: Topic, body: str) -> None:
        """Sends JSON to everyone on a topic, and keeps it for those who come back."""
        self.cursor += 1
        event = Event(self.cursor, topic, body)
        self._ring.add(event)
        sessions = self._index.get(topic)
        if not sessions:
            return
        for session in sessions:
            session.subscriber.offer(event)
        self._due |= sessions
        self._schedule_flush()

    def tell(self, session: Session, kind: str, **members: object) -> None:
        """A message of the server's own to one session."""
        session.subscriber.tell(kind, **members)
        self._schedule(session)

    def tell_all(
        self, kind: str, sessions: Iterable[Session] | None = None, **members: object
    ) -> None:
        """The same to many (all that are attached), encoded once."""
        body = msgspec.json.encode({"type": kind, **members}).decode()[1:]
        for session in self.sessions.values() if sessions is None else sessions:
            if session.attachment is not None:
                session.subscriber.tell_raw(body)
                self._schedule(session)

    def on_channel(self, channel: str) -> list[Session]:
        """The attached sessions that have some topic of this channel."""
        if channel not in CHANNELS:
            raise ValueError(f"{channel} is no channel")
        if channel != QUOTES:
            return list(self._index.get(Topic(channel), ()))
        return [
            session
            for session in self.sessions.values()
            if session.attachment is not None
            and any(topic.channel == QUOTES for topic in session.subscriber.topics)
        ]

    # flushing -----------------------------------------------------------------------------------

    def _schedule(self, session: Session) -> None:
        self._due.add(session)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if self._flush is not None:
            return
        loop = asyncio.get_running_loop()
        # At once after a quiet moment; under load as often as the interval allows.
        wait = max(self._last_flush + self._flush_seconds - loop.time(), 0.0)
        self._flush = loop.call_later(wait, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self._last_flush = asyncio.get_running_loop().time()
        due, self._due = self._due, set()
        for session in due:
            attachment = session.attachment
            if attachment is None:
                continue
            if session.subscriber.overflowed:
                self._cut_off(session, attachment)
            elif attachment.write is None or not attachment.write():
                attachment.wake.set()


def _nobody(_: Session) -> None:
    """Nothing is held."""
