"""When the bridge dials, waits, gives up and begins anew: wound, without a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.tws.client import frame
from bridge.tws.connection_context import ConnectionContext, Target
from bridge.tws.connection_state import DialProblem, Socket
from bridge.tws.errors import NotConnectedError, RequestTimedOutError, TwsError
from bridge.tws.events import Signal
from bridge.tws.heartbeat import LATE_SECONDS, PROBE_PAUSE, Heartbeat, UpstreamProbe
from bridge.tws.session import TwsSession
from bridge.tws.supervisor import Hook, Reconciliation, Starting, Supervisor
from bridge.tws.wire import CloseReason, DialError, Wire
from tests.bridge.tws.test_wire import Transport
from tests.bridge.wound import WoundClock


class Longest(Random):
    """Draws the upper bound, and keeps the bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: set[tuple[float, float]] = set()

    def uniform(self, a: float, b: float) -> float:
        self.bounds.add((a, b))
        return b


def supervised(**settings: Any) -> tuple[Supervisor, ConnectionContext, WoundClock]:
    clock = WoundClock()
    session = TwsSession(Target(**settings), clock, Longest())
    session.context.status.update(started=True)
    return session.supervisor, session.context, clock


async def begun(clock: WoundClock, work: Awaitable[Any]) -> asyncio.Future[Any]:
    task = asyncio.ensure_future(work)
    await clock.wind(0.000_001)
    return task


async def pause_of(supervisor: Supervisor, clock: WoundClock) -> float:
    """How long it waits before the next attempt."""
    task = await begun(clock, supervisor._pause())
    seconds = clock.next_due
    assert seconds is not None
    await clock.wind(seconds)
    assert task.done()
    return seconds


# the pauses between attempts ----------------------------------------------------------------------


async def test_pauses_double_up_to_their_cap() -> None:
    supervisor, context, clock = supervised(backoff_first=0.5, backoff_cap=3.0)
    context.status.update(problem=DialProblem.REFUSED)
    found = [await pause_of(supervisor, clock) for _ in range(5)]
    assert found == pytest.approx([0.5, 1.0, 2.0, 3.0, 3.0], abs=0.001)
    assert isinstance(context.random, Longest)
    assert context.random.bounds == {(0.7, 1.0)}
    supervisor._tries = 100_000
    assert await pause_of(supervisor, clock) == pytest.approx(3.0, abs=0.001)


@pytest.mark.parametrize(
    ("problem", "soon"),
    [
        (DialProblem.REFUSED, 120.0),
        (DialProblem.UNREACHABLE, 120.0),
        (DialProblem.CLOSED, 120.0),
        (DialProblem.SILENT, 15.0),
        (DialProblem.CLIENT_ID_TAKEN, 15.0),
        (DialProblem.NOT_STARTED, 15.0),
    ],
)
async def test_a_gateway_is_asked_more_often_at_first(problem: DialProblem, soon: float) -> None:
    """A relay that is back in two minutes is found at once; a night is not full of attempts."""
    supervisor, context, clock = supervised()
    context.status.update(problem=problem)
    supervisor._tries = 10
    assert await pause_of(supervisor, clock) == pytest.approx(0.3, abs=0.001)
    await clock.wind(soon - 1.3)
    assert await pause_of(supervisor, clock) == pytest.approx(0.3, abs=0.001)
    await clock.wind(1)
    assert await pause_of(supervisor, clock) == pytest.approx(1.5, abs=0.001)


async def test_after_the_quick_attempts_there_is_one_a_minute() -> None:
    supervisor, _, clock = supervised(backoff_first=0.5, quick_attempts=3, slow_pause=60.0)
    found = [await pause_of(supervisor, clock) for _ in range(5)]
    assert found == pytest.approx([0.5, 1.0, 1.5, 60.0, 60.0], abs=0.001)


async def test_a_pause_ends_when_somebody_hurries() -> None:
    supervisor, context, clock = supervised(backoff_first=50.0, backoff_cap=50.0)
    task = await begun(clock, supervisor._pause())
    await clock.wind(1)
    assert not task.done()
    hurried = await begun(clock, supervisor.attempt(5))
    assert task.done()
    supervisor._failed(DialError(DialProblem.REFUSED, "it refused"))
    assert await hurried == "it refused"
    waiting = await begun(clock, supervisor.attempt(5))
    await clock.wind(4.9)
    assert not waiting.done()
    await clock.wind(0.2)
    assert await waiting == "no result within 5 s"
    waiting = await begun(clock, supervisor.attempt(5))
    context.events.ready.emit()
    assert await waiting is None
    context.status.update(socket=Socket.UP, reconciled=True)
    assert await supervisor.attempt(5) is None
    assert supervisor._watchers == []


@pytest.mark.parametrize(
    ("lasted", "pauses"),
    [(9.99, [5.0, 10.0, 20.0, 20.0]), (10.0, [0.0]), (10.01, [0.0] * 4), (3600.0, [0.0] * 4)],
)
async def test_after_a_connection_that_lasted_it_dials_at_once(
    monkeypatch: pytest.MonkeyPatch, lasted: float, pauses: list[float]
) -> None:
    """After one that did not it waits: longer after each in a row, however long the first took."""
    supervisor, _, clock = supervised(backoff_first=5.0, backoff_cap=4.0)
    dialled: list[float] = []

    async def connect() -> Wire:
        dialled.append(clock.monotonic())
        return Wire(clock)

    async def watch(_: Wire) -> str:
        await clock.sleep(lasted)
        return "cut"

    monkeypatch.setattr(supervisor, "_connect", connect)
    monkeypatch.setattr(supervisor, "_watch", watch)
    supervisor._tries = 9  # a night without a gateway, before the first
    task = await begun(clock, supervisor.run())
    for pause in pauses:
        await clock.wind(lasted + 0.001)
        await clock.wind(pause + 0.001)
    found = [after - before for before, after in pairwise(dialled)]
    assert found == pytest.approx([lasted + pause for pause in pauses], abs=0.01)
    assert supervisor._tries == len([pause for pause in pauses if pause])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_when_a_port_opens_the_pauses_begin_anew() -> None:
    for before, problem, tries in (
        (DialProblem.REFUSED, DialProblem.CLOSED, 0),
        (DialProblem.UNREACHABLE, DialProblem.SILENT, 0),
        (DialProblem.REFUSED, DialProblem.UNREACHABLE, 7),
        (DialProblem.CLOSED, DialProblem.REFUSED, 7),
        (DialProblem.CLOSED, DialProblem.CLOSED, 7),
    ):
        clock = WoundClock()
        context = ConnectionContext(Target(), clock)
        supervisor = Supervisor(context, *([None] * 5))  # type: ignore[arg-type]
        context.status.update(started=True, problem=before)
        supervisor._tries = 7
        supervisor._failed(DialError(problem, "why"))
        assert supervisor._tries == tries, (before, problem)
        assert context.status.facts.problem is problem


# a login behind a forwarder -----------------------------------------------------------------------


async def test_a_forwarder_that_closes_for_five_seconds_has_a_login_behind_it() -> None:
    supervisor, _, clock = supervised()
    closed = DialProblem.CLOSED
    assert supervisor._logging_in(closed) is False
    clock.advance(4.99)
    assert supervisor._logging_in(closed) is False
    clock.advance(0.01)
    assert supervisor._logging_in(closed) is True
    assert supervisor._logging_in(DialProblem.REFUSED) is False
    assert supervisor._logging_in(closed) is False, "it begins anew"
    clock.advance(5)
    assert supervisor._logging_in(closed) is True


async def test_a_planned_restart_is_no_login() -> None:
    rule = RestartRule("auto-restart", "09:30", None, 6)  # the wound clock's own time
    supervisor, _, clock = supervised(restarts=RestartCalendar((rule,)))
    assert supervisor._logging_in(DialProblem.CLOSED) is False
    clock.advance(300)
    assert supervisor._logging_in(DialProblem.CLOSED) is False
    clock.advance(100)
    assert supervisor._logging_in(DialProblem.CLOSED) is True


async def test_what_the_login_file_says_goes_before_any_guess(tmp_path: Path) -> None:
    file = tmp_path / "login"
    supervisor, _, clock = supervised(login_state_file=file)
    file.write_text("logged-in")
    assert supervisor._logging_in(DialProblem.CLOSED) is False
    clock.advance(60)
    assert supervisor._logging_in(DialProblem.CLOSED) is False
    file.write_text("waiting-2fa")
    for problem in DialProblem:
        assert supervisor._logging_in(problem) is True


# the start of a session ---------------------------------------------------------------------------


def greeted(clock: WoundClock) -> Wire:
    wire = Wire(clock)
    wire.connection_made(Transport())
    wire.data_received(frame(b"176\0now\0"))
    return wire


async def test_a_session_is_started_by_its_number_and_its_accounts() -> None:
    supervisor, context, clock = supervised()
    context.version_ends = ("10.1", "soon", "")  # type: ignore[assignment]
    wire = greeted(clock)
    task = await begun(clock, supervisor._start(wire))
    assert (context.wire, context.version_ends, context.pacer.used()) == (wire, None, 1)
    wire.data_received(frame(b"9\x001\x005\x00"))
    await clock.wind(44.9)
    assert not task.done()
    wire.data_received(frame(b"15\x001\x00DU1\x00"))
    await task
    assert (context.server_version, context.next_order_id, context.accounts) == (176, 5, ("DU1",))


async def test_a_session_that_is_not_started_says_why() -> None:
    supervisor, _, clock = supervised()
    task = await begun(clock, supervisor._start(greeted(clock)))
    await clock.wind(45)
    with pytest.raises(DialError, match="did not start the session in 45 s") as caught:
        await task
    assert caught.value.problem is DialProblem.NOT_STARTED
    wire = greeted(clock)
    task = await begun(clock, supervisor._start(wire))
    wire.connection_lost(None)
    with pytest.raises(DialError, match="before the session was started, the gateway closed"):
        await task
    wire = greeted(clock)
    task = await begun(clock, supervisor._start(wire))
    wire.data_received(frame(b"4\x002\x00-1\x00326\x00in use\x00\x00"))
    with pytest.raises(DialError, match="326 in use") as caught:
        await task
    assert caught.value.problem is DialProblem.CLIENT_ID_TAKEN


async def test_what_starts_a_session_comes_in_any_order_and_counts_once() -> None:
    for first, second in (("order_id", "accounts"), ("accounts", "order_id")):
        starting = Starting()
        starting.seen(**{first: True})
        starting.seen(**{first: True})
        starting.seen()
        assert not starting.done.done()
        starting.seen(**{second: True})
        assert starting.done.done()
        starting.seen(**{first: True})
        starting.refused(DialProblem.CLIENT_ID_TAKEN, "too late")
        assert starting.done.exception() is None


# what has to be put in order ----------------------------------------------------------------------


def reconciled(context: ConnectionContext) -> bool:
    return context.status.facts.reconciled


class Works:
    """Hooks that fail as often as they are told to."""

    def __init__(self, clock: WoundClock) -> None:
        self.clock = clock
        self.story: list[tuple[float, str]] = []
        self.fails: dict[str, int] = {}
        self.begun = clock.monotonic()

    def hook(self, name: str, *, required: bool, seconds: float = 0.0) -> Hook:
        async def work() -> None:
            self.story.append((round(self.clock.monotonic() - self.begun, 3), name))
            if seconds:
                await self.clock.sleep(seconds)
            self.fails[name] = self.fails.get(name, 0) - 1
            if self.fails[name] >= 0:
                raise RuntimeError(f"{name} fails")

        return Hook(name, work, required)


async def test_required_work_is_tried_until_it_passes_and_then_the_rest_once() -> None:
    _, context, clock = supervised()
    context.status.update(socket=Socket.UP)
    works, reconciliation = Works(clock), Reconciliation(context)
    works.fails = {"orders": 6, "quotes": 9}
    for name, required in (("quotes", False), ("orders", True), ("clock", False)):
        reconciliation.add(works.hook(name, required=required))
    ready: list[float] = []
    context.events.ready.listen(lambda: ready.append(round(clock.monotonic() - works.begun, 3)))
    task = await begun(clock, reconciliation.run())
    await clock.wind(30)
    at = [0.0, 0.5, 1.5, 3.5, 7.5, 12.5, 17.5]  # pauses double up to five seconds
    assert works.story == [*((each, "orders") for each in at), (17.5, "quotes"), (17.5, "clock")]
    assert ready == [17.5]
    assert context.status.facts.reconciled
    assert context.status.facts.was_ready
    reconciliation.wanted.set()
    await clock.wind(0.1)
    assert [name for _, name in works.story[9:]] == ["orders", "quotes", "clock"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_work_is_given_twenty_seconds() -> None:
    _, context, clock = supervised()
    context.status.update(socket=Socket.UP)
    works, reconciliation = Works(clock), Reconciliation(context)
    reconciliation.add(works.hook("slow", required=False, seconds=20.1))
    reconciliation.add(works.hook("slow enough", required=False, seconds=19.9))
    task = await begun(clock, reconciliation.run())
    await clock.wind(60)
    assert [at for at, _ in works.story] == [0.0, 20.0]
    failed = [each.detail["hook"] for each in context.diagnostics.events if "failed" in each.kind]
    assert failed == ["slow"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_work_that_is_wanted_anew_or_without_a_broker_begins_from_the_start() -> None:
    _, context, clock = supervised()
    context.status.update(socket=Socket.UP, upstream=False)
    works, reconciliation = Works(clock), Reconciliation(context)
    for name in ("first", "second"):
        reconciliation.add(works.hook(name, required=True, seconds=1.0))
    task = await begun(clock, reconciliation.run())
    await clock.wind(5)
    assert works.story == []
    context.status.update(upstream=True)
    reconciliation.wanted.set()
    await clock.wind(0.001)
    await clock.wind(1.5)
    reconciliation.wanted.set()
    await clock.wind(1)
    assert not reconciled(context)
    await clock.wind(2)
    assert [name for _, name in works.story] == ["first", "second"] * 2
    assert reconciled(context)
    works.fails["first"] = 1
    context.status.update(reconciled=False)
    reconciliation.wanted.set()
    await clock.wind(0.001)
    await clock.wind(0.5)
    context.status.update(upstream=False)
    await clock.wind(10)
    assert [name for _, name in works.story[4:]] == ["first"]
    assert not reconciled(context)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# the heartbeat ------------------------------------------------------------------------------------


class Pulse:
    """A wire that was just read, and what is asked of its gateway when it is quiet."""

    def __init__(self) -> None:
        _, self.context, self.clock = supervised()
        self.context.status.update(socket=Socket.UP, reconciled=True)
        self.wire = Wire(self.clock)
        self.asked: list[tuple[float, float]] = []
        self.answer: Callable[[float], Awaitable[None]] = self.silent
        self.begun = self.clock.monotonic()
        self.heartbeat = Heartbeat(self.context, self.ask)

    async def ask(self, seconds: float) -> None:
        self.asked.append((round(self.clock.monotonic() - self.begun, 3), seconds))
        await self.answer(seconds)

    async def silent(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        raise RequestTimedOutError("no answer")

    async def answers(self, _: float) -> None:
        self.wire.last_read = self.clock.monotonic()

    def healthy(self) -> bool:
        return self.context.status.facts.heartbeat


async def test_two_questions_without_an_answer_end_the_connection() -> None:
    pulse = Pulse()
    task = await begun(pulse.clock, pulse.heartbeat.run(pulse.wire))
    await pulse.clock.wind(1.98)
    assert pulse.asked == []
    await pulse.clock.wind(0.03)
    assert pulse.asked == [(2.0, 2.5)]
    await pulse.clock.wind(2.5)
    assert pulse.healthy(), "what came while this process was held up is read first"
    await pulse.clock.wind(LATE_SECONDS)
    assert not pulse.healthy()
    assert pulse.asked == [(2.0, 2.5), (4.6, 5.0)]
    await pulse.clock.wind(5.05)
    assert pulse.wire.alive
    await pulse.clock.wind(LATE_SECONDS)
    assert await pulse.wire.lost == CloseReason.UNANSWERED
    await task
    assert pulse.context.diagnostics.record.heartbeat_failures == 2


async def test_a_byte_of_any_kind_is_a_sign_of_life() -> None:
    pulse = Pulse()
    task = await begun(pulse.clock, pulse.heartbeat.run(pulse.wire))
    await pulse.clock.wind(1.5)
    pulse.wire.last_read = pulse.clock.monotonic()
    await pulse.clock.wind(1.98)
    assert pulse.asked == []
    await pulse.clock.wind(0.03)
    assert pulse.asked == [(3.5, 2.5)]
    await pulse.clock.wind(1)
    pulse.wire.last_read = pulse.clock.monotonic()  # no answer, but a tick
    await pulse.clock.wind(1.49)
    assert pulse.healthy()
    assert len(pulse.asked) == 1
    await pulse.clock.wind(2.5)
    assert len(pulse.asked) == 2, "two quiet seconds after the tick, and not before"
    assert pulse.healthy()
    await pulse.clock.wind(2.2)
    assert not pulse.healthy()
    pulse.answer = pulse.answers
    pulse.wire.last_read = pulse.clock.monotonic()
    await pulse.clock.wind(5.2)
    assert pulse.healthy()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_its_clock_is_asked_for_once_a_minute_whatever_comes_in() -> None:
    pulse = Pulse()
    pulse.answer = pulse.answers
    task = await begun(pulse.clock, pulse.heartbeat.run(pulse.wire))
    for _ in range(130):
        pulse.wire.last_read = pulse.clock.monotonic()
        await pulse.clock.wind(1)
    assert len(pulse.asked) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_gateway_that_answers_is_asked_when_it_is_quiet() -> None:
    pulse = Pulse()
    pulse.answer = pulse.answers
    task = await begun(pulse.clock, pulse.heartbeat.run(pulse.wire))
    await pulse.clock.wind(10.01)
    assert pulse.asked == [(each, 2.5) for each in (2.0, 4.0, 6.0, 8.0, 10.0)]
    assert pulse.healthy()
    assert pulse.context.diagnostics.record.heartbeat_failures == 0

    async def gone(_: float) -> None:
        raise NotConnectedError("gone")

    pulse.answer = gone
    await pulse.clock.wind(5)
    assert pulse.healthy()
    assert pulse.wire.alive
    assert pulse.context.diagnostics.record.heartbeat_failures == 0
    pulse.wire.drop("over")
    await pulse.clock.wind(3)
    assert task.done()


async def test_a_broker_that_is_away_is_asked_once_a_minute() -> None:
    _, context, clock = supervised()
    context.status.update(socket=Socket.UP, reconciled=True)
    asked: list[float] = []
    answered: list[float] = []
    refuses, restores = [True], [False]
    begin = clock.monotonic()

    async def ask() -> None:
        asked.append(round(clock.monotonic() - begin))
        if restores[0]:
            context.status.update(upstream=True)
        if refuses[0]:
            raise TwsError("refused")

    def back() -> None:
        answered.append(round(clock.monotonic() - begin))
        context.status.update(upstream=True)

    probe = UpstreamProbe(context, ask, back)
    task = await begun(clock, probe.run())
    await clock.wind(100)
    assert asked == []
    context.status.update(upstream=False)
    context.events.upstream_lost.emit()
    await clock.wind(0.001)
    await clock.wind(PROBE_PAUSE * 2 + 1)
    assert (asked, answered, PROBE_PAUSE) == ([160, 220], [], 60)
    refuses[0] = False
    await clock.wind(PROBE_PAUSE)
    assert answered == [280]
    await clock.wind(PROBE_PAUSE * 3)
    assert len(asked) == 3
    for by_itself in ("before it is asked", "while it is asked"):
        context.status.update(upstream=False)
        context.events.upstream_lost.emit()
        restores[0] = by_itself == "while it is asked"
        await clock.wind(1)
        if not restores[0]:
            context.status.update(upstream=True)
        await clock.wind(PROBE_PAUSE)
        assert answered == [280], by_itself
    assert len(asked) == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# signals ------------------------------------------------------------------------------------------


def test_a_signal_reaches_every_listener_in_order_until_it_is_removed() -> None:
    signal: Signal[[int]] = Signal("it")
    heard: list[tuple[str, int]] = []

    def first(number: int) -> None:
        heard.append(("first", number))
        raise ValueError("a listener's own trouble")

    remove = signal.listen(first)
    signal.listen(lambda number: heard.append(("second", number)))
    signal.emit(1)
    remove()
    remove()
    signal.emit(2)
    assert heard == [("first", 1), ("second", 1), ("second", 2)]
