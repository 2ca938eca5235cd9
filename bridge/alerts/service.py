"""Decides what is said, and how often; sends in the background.

A condition (`raised`, `cleared`) is told once when it begins, once more when it is about something
else than before (another trouble of the same kind), once a day while it lasts, and once when it has
ended; an event (`tell`) each time. However much happens, a kind is told about at most once in ten
minutes (orders, clients and rules more often) and at most twenty messages go out in an hour. An
event for which it is too soon waits, and is told with those that came meanwhile in one message;
what is too much even for that, and a condition that came and went, is counted in the next message.
What a person has answered counts no longer: the next approval that is asked for is told at once.

A message that a service did not take is tried three more times, at that service only, unless what
it tells is over by then. What nobody has taken at all waits, and is told in one message with its
times as soon as somebody takes one again: of a condition while it holds, of an event in any case.
That a condition has ended is only told where somebody has heard that it began. All this is kept
over restarts (`memory`), the limits too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import Final

import structlog
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry, Counter

from bridge.alerts.memory import Kept, KeptLetter, Memory
from bridge.alerts.messages import (
    RESOLVED,
    TEST_SECONDS,
    TITLES,
    AddressFileError,
    AlertKind,
    Delivery,
    Message,
    Sender,
)
from bridge.clock import Clock, settle
from bridge.environment import Environment, EnvironmentProblem
from bridge.errors import BridgeError
from bridge.logs import hidden
from bridge.services import Need

SAME_KIND_SECONDS: Final = 600.0
FREQUENT: Final = {
    AlertKind.ORDER_UNKNOWN: 30.0,
    AlertKind.CLIENT_SILENT: 30.0,
    AlertKind.RULE: 5.0,
}
"""Kinds that are told about after so many seconds again, each with an hour's limit of its own: none
of them takes the place of another, or of what needs a person otherwise."""
ANSWERED_BY_A_PERSON: Final = {AlertKind.WAITING_2FA, AlertKind.PORTAL_LOGIN}
HOUR: Final = 3600.0
REMIND_SECONDS: Final = 24 * HOUR
"""What holds for so long is told again: who was away, or has missed it, hears of it after all."""
TOLD_ONCE: Final = {AlertKind.VERSION_ENDS}
"""A date is named; nothing becomes worse until then."""
MOST_IN_AN_HOUR: Final = 20
MOST_RULES_IN_AN_HOUR: Final = 60
MOST_WAITING: Final = 60
"""Events of a kind that wait for their turn; more are only counted."""
MOST_TOGETHER: Final = 20
"""Events in one message."""
URGENCY: Final = ("info", "success", "warning", "failure")
RETRY_SECONDS: Final = (30.0, 120.0, 600.0)
LATER_SECONDS: Final = 600.0
"""So often it is tried whether anybody takes what nobody has taken."""
MOST_UNTOLD: Final = 50
MOST_LETTERS: Final = 5
"""Of one condition that are remembered."""
SETTLES_SECONDS: Final = 60.0
"""After a start nothing that was told before it ends sooner: not all is known yet."""
CONFIRM_SECONDS: Final = 900.0
"""What was told before a start and is not seen to hold for so long after it is forgotten."""
QUEUE: Final = 50

log = structlog.get_logger(__name__)


class _Event(Struct, frozen=True, kw_only=True):
    """One that waits for its turn."""

    body: str
    level: str


class _Letter:
    """A message on its way, and what has become of it.

    `over`: what it tells is so no longer. `reached`: somebody has got it. `tried`: set after the
    first attempt. `places`: the services that have got it; `done`: all have.
    """

    def __init__(self, kind: AlertKind, message: Message, at: datetime) -> None:
        self.kind = kind
        self.message = message
        self.at = at
        self.over = False
        self.reached = self.done = False
        self.places = frozenset[int]()
        self.tried = asyncio.Event()


class _Condition(Struct, frozen=True, kw_only=True):
    """One that holds: what it is about, and what has told of it.

    `letter`: what told of what it is about now; None: that is not told yet. `letters`: all that
    told of it since it began. `told_at`: when the last of them did (monotonic).
    """

    about: str
    letter: _Letter | None
    letters: tuple[_Letter, ...] = ()
    told_at: float = 0.0


class AlertService:
    """One for each process.

    Args:
        sender: takes messages.
        clock: spaces them.
        registry: takes the metric `gangway_alerts_total` by kind and result.
        name: what messages are headed with, such as the trading mode.
        wanted: the kinds to tell about; empty: all.
        memory: keeps what was told over restarts; None: nothing is kept.
    """

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        name: str = "",
        wanted: frozenset[AlertKind] = frozenset(),
        memory: Memory | None = None,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._name = name
        self._wanted = wanted
        self._memory = memory
        self._to_keep = self._keeping = self._stopped = False
        self._started = clock.monotonic()
        self._before: set[AlertKind] = set()  # told before the start, and not seen to hold since
        self._active: dict[AlertKind, _Condition] = {}
        self._last: dict[AlertKind, float] = {}
        self._recent: dict[AlertKind | None, deque[float]] = {}
        self._waiting: dict[AlertKind, deque[_Event]] = {}
        self._held_back = 0
        self._queue: asyncio.Queue[tuple[_Letter, tuple[_Letter, ...]]] = asyncio.Queue(QUEUE)
        self._on_way: list[_Letter] = []
        self._good: dict[AlertKind, tuple[_Letter | None, tuple[_Letter, ...]]] = {}
        """What told last that a condition has ended, and what had told of that."""
        self._had: dict[AlertKind, _Letter] = {}
        """Good news that was none any more before every service had it."""
        self._untold: deque[_Letter] = deque()
        self._next_try = 0.0
        self._trying = False
        self._unusable: BridgeError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._counter = Counter(
            "gangway_alerts", "Messages to people", ["kind", "result"], registry=registry
        )

    async def start(self) -> None:
        """Begins to send. An address file that cannot be used is logged, and read again later."""
        self._started = self._clock.monotonic()
        if self._memory is not None:
            kept = await asyncio.to_thread(self._memory.load)
            try:
                self._restore(kept)
            except (ValueError, OverflowError, OSError) as error:  # no time that there is
                log.warning("alerts-not-remembered", error=str(error))
        self._spawn(self._run())
        if self._addressed():
            log.info("alerts-go-to", services=self._sender.services())
        elif (why := self._unusable) is not None:
            log.error("alerts-go-nowhere", error=why.detail, hint=why.next_step)

    def _addressed(self) -> bool:
        """Whether the address file can be used, as far as it can be read now."""
        try:
            self._sender.services()
        except AddressFileError as error:
            self._unusable = error
            return False
        self._unusable = None
        return True

    async def stop(self) -> None:
        """Ends; what is not sent by now is sent by the next process, if anything is kept."""
        self._stopped = True
        await settle(*self._tasks)
        if self._memory is not None:
            await self._memory.keep(self._kept())

    def raised(self, kind: AlertKind, body: str, about: str = "") -> None:
        """A condition holds; told once a day, until it was cleared, or is `about` another thing."""
        self._before.discard(kind)
        known = self._active.get(kind)
        changed = known is None or known.about != about
        if known is not None and not changed and known.letter is not None:
            self._remind(kind, body, known)
            return
        letters = known.letters if known is not None else self._unheard_end(kind)
        if changed:
            for letter in letters:
                letter.over = True
        told = self._tell(kind, body, count=changed)
        self._active[kind] = _Condition(
            about=about,
            letter=told,
            letters=(*letters, told)[-MOST_LETTERS:] if told else letters,
            told_at=self._clock.monotonic(),
        )
        if changed or told:
            self._changed()

    def _unheard_end(self, kind: AlertKind) -> tuple[_Letter, ...]:
        """Good news is none any more; what it was about goes on where somebody has not got it."""
        good, letters = self._good.pop(kind, (None, ()))
        if good is None or good.done:
            return ()
        good.over = True
        self._had[kind] = good
        return letters

    def _remind(self, kind: AlertKind, body: str, known: _Condition) -> None:
        """What was told a day ago is told again; what nobody has got yet is tried anyway."""
        told_by, now = known.letter, self._clock.monotonic()
        if kind in TOLD_ONCE or told_by is None or not told_by.reached:
            return
        if now - known.told_at < REMIND_SECONDS:
            return
        letter = self._tell(kind, body, count=False)
        if letter is not None:
            letters = (*known.letters, letter)[-MOST_LETTERS:]
            self._active[kind] = structs.replace(known, letter=letter, letters=letters, told_at=now)
            self._changed()

    def cleared(self, kind: AlertKind) -> None:
        """A condition does not hold; told when its beginning was told."""
        if self._settles(kind):
            return
        known, before = self._active.get(kind), self._had.pop(kind, None)
        letters = self._ended(kind)
        if letters:
            if kind in ANSWERED_BY_A_PERSON:
                self._last.pop(kind, None)
            message = Message(title=RESOLVED[kind], body="Nothing to do.", level="success")
            good = self._put(kind, message, after=letters)
            if good is not None and before is not None and known is not None and not known.letter:
                good.places = before.places  # they have heard of no trouble since
            self._good[kind] = (good, letters)

    def forgotten(self, kind: AlertKind) -> None:
        """A condition does not hold, and nothing good has come of it: nothing is told."""
        if not self._settles(kind):
            self._ended(kind)

    def _settles(self, kind: AlertKind) -> bool:
        """Whether it was told before a start that is too fresh to know that it has ended."""
        return kind in self._before and self._since_start() < SETTLES_SECONDS

    def _since_start(self) -> float:
        return self._clock.monotonic() - self._started

    def _ended(self, kind: AlertKind) -> tuple[_Letter, ...]:
        """What has told of it, and is not told any more."""
        known = self._active.pop(kind, None)
        letters = known.letters if known is not None else ()
        for letter in letters:
            letter.over = True
        if known is not None:
            self._before.discard(kind)
            self._changed()
        return letters

    def tell(self, kind: AlertKind, body: str, *, level: str = "failure") -> bool:
        """An event; whether it is told about now. What is wanted and not told now is told later."""
        if self._wanted and kind not in self._wanted:
            return False
        if not self._waiting.get(kind) and self._admit(kind):
            message = Message(title=TITLES[kind], body=body, level=level)
            return self._put(kind, message) is not None
        self._counter.labels(kind.value, "held-back").inc()
        waiting = self._waiting.setdefault(kind, deque())
        if len(waiting) < MOST_WAITING:
            waiting.append(_Event(body=body, level=level))
            self._changed()
        else:
            self._held_back += 1
        return False

    def tend(self) -> None:
        """Tells what had to wait and whose turn has come; to be called every few seconds."""
        for kind, waiting in self._waiting.items():
            if waiting and self._admit(kind):
                events = [waiting.popleft() for _ in range(min(len(waiting), MOST_TOGETHER))]
                body = "\n\n".join(event.body for event in events)
                level = max((event.level for event in events), key=URGENCY.index)
                self._put(kind, Message(title=TITLES[kind], body=body, level=level))
        if isinstance(self._unusable, AddressFileError):
            self._addressed()
        if self._before and self._since_start() >= CONFIRM_SECONDS:
            for kind in tuple(self._before):
                self._ended(kind)
        self._untold = deque(letter for letter in self._untold if not letter.over)
        if self._untold and not self._trying and self._clock.monotonic() >= self._next_try:
            self._trying = True
            self._spawn(self._try_untold())

    def need(self) -> Need | None:
        """What a person has to know when alerts reach nobody."""
        if not self._untold and not isinstance(self._unusable, AddressFileError):
            return None
        waiting, unusable = len(self._untold), self._unusable
        count = f"; {waiting} could not be sent" if waiting else ""
        why = f": {unusable.detail}" if unusable else ""
        step = "./deploy.py alerts test shows which service takes a message; then alerts.urls"
        return Need(
            code="alerts-undelivered",
            message=f"Alerts reach nobody{count}{why}",
            next_step=unusable.next_step if unusable else step,
        )

    async def test(self) -> list[Delivery]:
        """Sends a test message at once; what became of it at each service, in half a minute.

        Raises:
            AddressFileError: there is no usable address file.
            WorkerError: nobody has got it, whatever the addresses are.
        """
        body = "If you can read this, alerts of the bridge reach you."
        return await self.send_now(AlertKind.TEST, body, level="info", within=TEST_SECONDS)

    async def send_now(
        self, kind: AlertKind, body: str, *, level: str = "failure", within: float | None = None
    ) -> list[Delivery]:
        """Sends at once and once, whatever the limits; what became of it at each service.

        Nothing is sent, and nothing becomes of it, when the kind is not wanted. `within`: seconds.

        Raises:
            AddressFileError: there is no usable address file.
        """
        if self._wanted and kind not in self._wanted | {AlertKind.TEST}:
            return []
        message = Message(title=TITLES[kind], body=body, level=level)
        return await self._sender.send(self._headed(message), within=within)

    # ------------------------------------------------------------------------------------------

    def _tell(self, kind: AlertKind, body: str, *, count: bool) -> _Letter | None:
        """`count`: whether it counts as held back when it is too soon to tell."""
        if self._wanted and kind not in self._wanted:
            return None
        if not self._admit(kind):
            self._held_back += count
            self._counter.labels(kind.value, "held-back").inc(count)
            return None
        return self._put(kind, Message(title=TITLES[kind], body=body, level="failure"))

    def _admit(self, kind: AlertKind) -> bool:
        now = self._clock.monotonic()
        gap = FREQUENT.get(kind, SAME_KIND_SECONDS)
        if now - self._last.get(kind, float("-inf")) < gap:
            return False
        recent = self._hour_of(kind)
        if len(recent) == recent.maxlen and now - recent[0] < HOUR:
            return False
        self._last[kind] = now
        recent.append(now)
        return True

    def _hour_of(self, kind: AlertKind | None) -> deque[float]:
        """When messages went out that count for the same hour's limit; None: of all others."""
        own = kind if kind in FREQUENT else None
        most = MOST_RULES_IN_AN_HOUR if own is AlertKind.RULE else MOST_IN_AN_HOUR
        return self._recent.setdefault(own, deque(maxlen=most))

    def _put(
        self, kind: AlertKind, message: Message, *, after: tuple[_Letter, ...] = ()
    ) -> _Letter | None:
        """Sends it; with `after` only if somebody has got one of them. None: there is no room."""
        counted = ""
        if self._held_back and message.level != "success":
            counted = f"\n\n({self._held_back} earlier messages were held back.)"
        message = structs.replace(message, body=message.body + counted)
        letter = _Letter(kind, self._headed(message), self._clock.now())
        try:
            self._queue.put_nowait((letter, after))
        except asyncio.QueueFull:
            self._held_back += 1
            return None
        if counted:
            self._held_back = 0
        if not after:
            self._on_way.append(letter)
        self._changed()
        return letter

    def _headed(self, message: Message) -> Message:
        title = f"{self._name}: {message.title}" if self._name else message.title
        return Message(title=hidden(title), body=hidden(message.body), level=message.level)

    async def _run(self) -> None:
        while True:
            letter, after = await self._queue.get()
            self._spawn(self._deliver(letter, after))

    async def _deliver(self, letter: _Letter, after: tuple[_Letter, ...]) -> None:
        if after and (not await _heard_of(after) or letter.over):
            return  # good news about what nobody has heard of, or that is none any more
        letter.done = await self._try(letter)
        if not letter.done and not letter.over:
            self._counter.labels(letter.kind.value, "failed").inc()
            if not (letter.reached or after):
                self._keep_untold(letter)
        self._arrived(letter)

    async def _try(self, letter: _Letter) -> bool:
        """Whether each service has got it; each is asked four times, while it tells what is so."""
        kind, done = letter.kind, letter.places
        for pause in (0.0, *RETRY_SECONDS):
            if pause:
                await self._clock.sleep(pause)
                if letter.over:
                    return False
            deliveries = await self._attempt(kind, letter.message, done)
            done |= {place for place, each in enumerate(deliveries) if each.sent}
            letter.places, letter.reached = done, bool(done)
            letter.tried.set()
            if letter.reached:
                self._arrived(letter)
            missing = [each.service for each in deliveries if not each.sent]
            if deliveries and not missing:
                log.info("alert-sent", kind=kind, services=[each.service for each in deliveries])
                self._counter.labels(kind.value, "sent").inc()
                return True
            if missing:
                log.warning("alert-not-taken", kind=kind, services=missing)
        return False

    def _arrived(self, letter: _Letter) -> None:
        """Is on its way no longer: somebody has got it, or it waits with the others."""
        if letter in self._on_way:
            self._on_way.remove(letter)
            self._changed()

    async def _attempt(
        self, kind: AlertKind, message: Message, done: frozenset[int] = frozenset()
    ) -> list[Delivery]:
        """What became of it at each service; nothing when it could not be tried at all."""
        try:
            deliveries = await self._sender.send(message, done)
        except BridgeError as error:
            self._unusable = error
            log.error("alert-not-sent", kind=kind, error=error.detail)
            return []
        except Exception:
            log.exception("alert-not-sent", kind=kind)
            return []
        self._unusable = None
        if any(each.sent for each in deliveries):
            self._next_try = self._clock.monotonic()  # what waits is taken again, too
        return deliveries

    def _keep_untold(self, letter: _Letter) -> None:
        if len(self._untold) >= MOST_UNTOLD:
            self._untold.remove(self._least_missed())
            self._held_back += 1
        self._untold.append(letter)
        self._next_try = self._clock.monotonic() + LATER_SECONDS
        log.error("alert-reaches-nobody", kind=letter.kind, waiting=len(self._untold))

    def _least_missed(self) -> _Letter:
        """The oldest event: what tells of a condition that holds still is told by nothing else."""
        holds = {letter for each in self._active.values() for letter in each.letters}
        return next((each for each in self._untold if each not in holds), self._untold[0])

    async def _try_untold(self) -> None:
        """What nobody has taken, in one message."""
        letters = list(self._untold)[:MOST_TOGETHER]
        self._next_try = self._clock.monotonic() + LATER_SECONDS
        try:
            deliveries = await self._attempt(letters[0].kind, _together(letters))
        finally:
            self._trying = False
        if not any(each.sent for each in deliveries):
            return
        for letter in letters:
            letter.reached = True
            self._counter.labels(letter.kind.value, "sent").inc()
        self._untold = deque(letter for letter in self._untold if not letter.reached)
        self._changed()
        log.info("alerts-sent-late", count=len(letters))

    # over restarts ----------------------------------------------------------------------------

    def _changed(self) -> None:
        """What is kept is not what is so now."""
        self._to_keep = self._memory is not None and not self._stopped
        if self._to_keep and not self._keeping:
            self._keeping = True
            self._spawn(self._keep())

    async def _keep(self) -> None:
        try:
            while self._to_keep and self._memory is not None:
                self._to_keep = False
                await self._memory.keep(self._kept())
        finally:
            self._keeping = False

    def _kept(self) -> Kept:
        wall, now = self._clock.now().timestamp(), self._clock.monotonic()
        waiting = [
            _Letter(kind, self._headed(_message(kind, event)), self._clock.now())
            for kind, events in self._waiting.items()
            for event in events
        ]
        letters = [letter for letter in (*self._untold, *self._on_way) if not letter.over]
        return Kept(
            told={
                kind.value: each.about if each.letter is not None else f"not {each.about}"
                for kind, each in self._active.items()
                if each.letters
            },
            told_at={
                kind.value: wall - (now - each.told_at)
                for kind, each in self._active.items()
                if each.letters
            },
            last={kind.value: wall - (now - at) for kind, at in self._last.items()},
            recent={
                kind or "": [wall - (now - at) for at in times]
                for kind, times in self._recent.items()
            },
            untold=[
                KeptLetter(
                    kind=letter.kind.value,
                    title=letter.message.title,
                    body=letter.message.body,
                    level=letter.message.level,
                    at=letter.at.timestamp(),
                )
                for letter in (*letters, *waiting)
            ],
        )

    def _restore(self, kept: Kept) -> None:
        """Takes over what another process has told; a clock that was set back tells nothing."""
        wall, now = self._clock.now().timestamp(), self._clock.monotonic()
        for name, at in kept.last.items():
            if name in _KINDS and 0 <= wall - at < HOUR:
                self._last[AlertKind(name)] = now - (wall - at)
        for name, times in kept.recent.items():
            if not name or name in _KINDS:
                hour = self._hour_of(AlertKind(name) if name else None)
                hour.extend(now - (wall - at) for at in times if 0 <= wall - at < HOUR)
        self._untold.extend(
            letter for each in _bounded(kept) if (letter := _unkept(each)) is not None
        )
        for name, about in kept.told.items():
            if name in _KINDS and not (self._wanted and name not in self._wanted):
                kind = AlertKind(name)
                own = [letter for letter in self._untold if letter.kind is kind]
                letters = tuple(own[-MOST_LETTERS:]) or (_told_before(kind, self._clock.now()),)
                age = wall - kept.told_at.get(name, float("inf"))
                if age < 0:  # not known: it counts from now on, over the next restart, too
                    self._changed()
                self._active[kind] = _Condition(
                    about=about,
                    letter=letters[-1],
                    letters=letters,
                    told_at=now - min(max(age, 0.0), REMIND_SECONDS),
                )
                self._before.add(kind)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_KINDS: Final = frozenset(kind.value for kind in AlertKind)


def _message(kind: AlertKind, event: _Event) -> Message:
    return Message(title=TITLES[kind], body=event.body, level=event.level)


def _unkept(kept: KeptLetter) -> _Letter | None:
    """A message that another process could not send."""
    if kept.kind not in _KINDS or kept.level not in URGENCY:
        return None
    message = Message(title=kept.title, body=kept.body, level=kept.level)
    letter = _Letter(AlertKind(kept.kind), message, datetime.fromtimestamp(kept.at, UTC))
    letter.tried.set()
    return letter


def _bounded(kept: Kept) -> list[KeptLetter]:
    """As many as there is room for: events go first, the oldest of them, and conditions stay."""
    over = len(kept.untold) - MOST_UNTOLD
    left: list[KeptLetter] = []
    for letter in kept.untold:
        if over > 0 and letter.kind not in kept.told:
            over -= 1
        else:
            left.append(letter)
    return left[-MOST_UNTOLD:]


async def _heard_of(letters: tuple[_Letter, ...]) -> bool:
    """Whether somebody has got one of them, once all have been tried."""
    for letter in letters:
        await letter.tried.wait()
    return any(letter.reached for letter in letters)


def _told_before(kind: AlertKind, now: datetime) -> _Letter:
    """Stands for a message that another process has sent."""
    letter = _Letter(kind, Message(title=TITLES[kind], body=""), now)
    letter.reached = True
    letter.tried.set()
    return letter


def _together(letters: list[_Letter]) -> Message:
    """One message of several that nobody has taken when they were due."""
    texts = [
        f"{letter.at:%Y-%m-%d %H:%M} UTC: {letter.message.title}\n{letter.message.body}"
        for letter in letters
    ]
    more = f" and {len(letters) - 1} more" if len(letters) > 1 else ""
    level = max((letter.message.level for letter in letters), key=URGENCY.index)
    title = f"{letters[0].message.title}{more} (late)"
    return Message(title=title, body="\n\n".join(texts), level=level)


def alerts_of(
    environment: Environment,
    clock: Clock,
    registry: CollectorRegistry,
    memory: Memory | None = None,
) -> AlertService | None:
    """The alerts that the environment asks for; None without an address file.

    Raises:
        EnvironmentProblem: an event in the list is none.
    """
    if environment.alerts_file is None:
        return None
    names = [name.strip() for name in environment.alert_events.split(",") if name.strip()]
    try:
        wanted = frozenset(AlertKind(name) for name in names)
    except ValueError as error:
        known = ", ".join(kind.value for kind in AlertKind)
        raise EnvironmentProblem("BRIDGE_ALERT_EVENTS", str(error), f"use {known}") from None
    return AlertService(
        Sender(environment.alerts_file),
        clock,
        registry,
        name=f"gangway ({environment.trading_mode})",
        wanted=wanted,
        memory=memory,
    )
