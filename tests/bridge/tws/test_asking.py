"""What is asked, how long it waits and for whom: a session on a wire without a socket, wound."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge import model
from bridge.tws import wire as wire_module
from bridge.tws.advice import ALL_IS_WELL, next_action
from bridge.tws.callbacks import EARLIEST, HIGHEST_ORDER_ID, LATEST
from bridge.tws.client import frame
from bridge.tws.connection_context import Target
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.connection_state import DialProblem, Socket
from bridge.tws.errors import (
    CompetingSessionError,
    ConnectionLostError,
    NotConnectedError,
    PacingLimitedError,
    RequestTimedOutError,
    SessionConflictError,
    UnreadableAnswerError,
    UpstreamLostError,
)
from bridge.tws.pacing import Lane
from bridge.tws.requests import Kind
from bridge.tws.session import TwsSession
from bridge.tws.supervisor import Starting
from bridge.tws.wire import Wire
from tests.bridge.rig import eventually
from tests.bridge.tws.test_wire import Transport
from tests.bridge.wound import WoundClock

APPLE = model.Contract(con_id=265598, symbol="AAPL")
TIME, SYMBOLS, RULE, POSITIONS = "49", "81", "91", "61"


class Scripted:
    """A session whose connection is up; the test is the gateway."""

    def __init__(self, **settings: Any) -> None:
        self.clock = WoundClock()
        self.session = TwsSession(Target(**settings), self.clock)
        self.context, self.queries = self.session.context, self.session.queries
        self.wire, self._transport = Wire(self.clock), Transport()
        self.wire.connection_made(self._transport)
        self.say(176, "now")
        self.starting = Starting()
        self.wire.start(self.session._callbacks(self.starting), client_id=17)
        self.context.wire = self.wire
        self.context.status.update(started=True, socket=Socket.UP, reconciled=True)
        self._transport.written.clear()

    def state(self) -> State:
        """Where the connection is now."""
        return self.session.state

    def say(self, *fields: object) -> None:
        """A message of the gateway's."""
        self.wire.data_received(frame("".join(f"{each}\0" for each in fields).encode()))

    def asked(self, number: str = "") -> list[list[str]]:
        """What was written (of that number alone)."""
        found = []
        for data in self._transport.written:
            assert struct.unpack(">I", data[:4])[0] == len(data) - 4
            found.append(data[4:].decode().split("\0")[:-1])
        return [each for each in found if not number or each[0] == number]

    async def begin(self, question: Awaitable[Any]) -> asyncio.Future[Any]:
        """Asks, up to the point where it waits."""
        asking = asyncio.ensure_future(question)
        await self.clock.wind(0.0001)
        return asking


QUESTIONS: dict[str, tuple[float, Callable[[TwsSession], Awaitable[Any]]]] = {
    "time": (5, lambda s: s.queries.current_time()),
    "details": (10, lambda s: s.queries.contract_details(APPLE)),
    "symbols": (10, lambda s: s.queries.matching_symbols("AA")),
    "broker": (10, lambda s: s.queries.broker_answers()),
    "chains": (15, lambda s: s.queries.option_parameters(APPLE)),
    "rule": (10, lambda s: s.queries.market_rule(26)),
    "history": (60, lambda s: s.queries.historical_bars(model.HistoryRequest(contract=APPLE))),
    "open orders": (10, lambda s: s.queries.open_orders()),
    "all open orders": (10, lambda s: s.queries.all_open_orders()),
    "completed orders": (10, lambda s: s.queries.completed_orders()),
    "executions": (15, lambda s: s.queries.executions()),
    "positions": (10, lambda s: s.queries.positions()),
    "what-if": (10, lambda s: s.queries.what_if(APPLE, model.Order(quantity=1), order_id=7)),
}


@pytest.mark.parametrize("what", QUESTIONS)
async def test_how_long_each_question_waits_for_its_answer(what: str) -> None:
    scripted = Scripted()
    seconds, ask = QUESTIONS[what]
    asking = await scripted.begin(ask(scripted.session))
    assert len(scripted.asked()) == 1
    await scripted.clock.wind(seconds - 0.01)
    assert not asking.done()
    await scripted.clock.wind(0.02)
    with pytest.raises(RequestTimedOutError):
        await asking
    assert len(scripted.context.requests) == 0
    cancels = {"history": ["25"]}.get(what, [])
    assert [each[0] for each in scripted.asked()[1:]] == cancels


async def test_one_symbol_search_a_second() -> None:
    scripted = Scripted()
    first = await scripted.begin(scripted.queries.matching_symbols("A"))
    assert [each[2] for each in scripted.asked(SYMBOLS)] == ["A"], "the first goes at once"
    with pytest.raises(PacingLimitedError) as caught:
        await scripted.queries.matching_symbols("B", timeout=1.0)
    assert caught.value.retry_after == pytest.approx(1.05, abs=0.001)
    second = await scripted.begin(scripted.queries.matching_symbols("C", timeout=3))
    third = await scripted.begin(scripted.queries.matching_symbols("D", timeout=3))
    with pytest.raises(PacingLimitedError) as caught:
        await scripted.queries.matching_symbols("E", timeout=3)
    assert caught.value.retry_after == pytest.approx(3.15, abs=0.001)
    await scripted.clock.wind(1.04)
    assert len(scripted.asked(SYMBOLS)) == 1
    await scripted.clock.wind(0.02)
    assert [each[2] for each in scripted.asked(SYMBOLS)] == ["A", "C"]
    await scripted.clock.wind(1.03)
    assert len(scripted.asked(SYMBOLS)) == 2
    await scripted.clock.wind(0.02)
    assert [each[2] for each in scripted.asked(SYMBOLS)] == ["A", "C", "D"]
    await scripted.clock.wind(0.9)  # 3 s since they were asked, the wait included
    for late in (second, third):
        assert isinstance(late.exception(), RequestTimedOutError)
    for _, number, _ in scripted.asked(SYMBOLS):
        scripted.say(79, number, 0)
    assert await first == ()
    await scripted.clock.wind(2)
    await scripted.begin(scripted.queries.matching_symbols("F", timeout=0.5))
    assert len(scripted.asked(SYMBOLS)) == 4, "nothing is waited for in a quiet time"
    await scripted.clock.wind(1)


@pytest.mark.parametrize(
    ("seconds", "known"),
    [(EARLIEST, False), (EARLIEST + 1, True), (LATEST - 1, True), (LATEST, False)],
)
async def test_a_clock_shows_a_time_of_this_century(seconds: int, known: bool) -> None:
    assert datetime.fromtimestamp(EARLIEST, UTC) == datetime(2000, 1, 1, tzinfo=UTC)
    assert datetime.fromtimestamp(LATEST, UTC) == datetime(2100, 1, 1, tzinfo=UTC)
    scripted = Scripted()
    asking = await scripted.begin(scripted.queries.current_time())
    scripted.say(49, 1, seconds)
    if known:
        assert await asking == datetime.fromtimestamp(seconds, UTC)
        assert scripted.context.clock_is_off
    else:
        with pytest.raises(UnreadableAnswerError):
            await asking
        assert scripted.context.clock_skew is None


async def test_the_time_is_not_asked_again_within_a_second_of_its_answer() -> None:
    scripted = Scripted()
    assert scripted.queries.time_gap() == 0
    asking = await scripted.begin(scripted.queries.current_time())
    assert len(scripted.asked(TIME)) == 1
    await scripted.clock.wind(0.5)
    scripted.say(49, 1, EARLIEST + 1)
    await asking
    assert scripted.queries.time_gap() == pytest.approx(1.1)
    await scripted.clock.wind(0.1)
    asking = await scripted.begin(scripted.queries.current_time(timeout=3))
    await scripted.clock.wind(0.99)
    assert len(scripted.asked(TIME)) == 1
    await scripted.clock.wind(0.02)
    assert len(scripted.asked(TIME)) == 2
    await scripted.clock.wind(1.98)
    assert not asking.done()
    await scripted.clock.wind(0.02)  # 3 s in all
    with pytest.raises(RequestTimedOutError):
        await asking
    assert scripted.queries.time_gap() == 0
    asking = await scripted.begin(scripted.queries.current_time(timeout=0.01))
    await scripted.clock.wind(0.04)
    assert not asking.done(), "it is given a moment, however little is left"
    await scripted.clock.wind(0.01)
    assert isinstance(asking.exception(), RequestTimedOutError)


# one at a time ------------------------------------------------------------------------------------


async def test_lists_without_an_id_are_asked_for_one_after_the_other() -> None:
    scripted = Scripted()
    written: list[str] = []
    requests, requester = scripted.context.requests, scripted.session._requester

    def ask(kind: Kind, seconds: float) -> Awaitable[list[Any]]:
        def write(_: Any) -> None:
            written.append(kind)

        return requester.by_key(kind, "the-key", write, lane=Lane.ORDER, timeout=seconds)

    first = await scripted.begin(ask(Kind.OPEN_ORDERS, 10))
    second = await scripted.begin(ask(Kind.ALL_OPEN_ORDERS, 10))
    third = await scripted.begin(ask(Kind.COMPLETED_ORDERS, 3))
    fourth = await scripted.begin(ask(Kind.EXECUTIONS, 10))
    assert written == ["openOrders"]
    assert requester._queued == {"the-key": 3}
    await scripted.clock.wind(2.9)
    assert not third.done()
    await scripted.clock.wind(0.2)
    with pytest.raises(RequestTimedOutError, match=r"^completedOrders found no turn in 3 s$"):
        await third
    assert requester._queued == {"the-key": 2}
    requests.finish("the-key", "one")
    assert await first == ["one"]
    await scripted.clock.wind(0.01)
    assert written == ["openOrders", "allOpenOrders"]
    assert requester._queued == {"the-key": 1}
    fifth = await scripted.begin(ask(Kind.POSITIONS, 20))
    requests.finish("the-key", "two")
    assert await second == ["two"]
    await scripted.clock.wind(0.01)
    assert written[2:] == ["executions"]
    await scripted.clock.wind(6.7)
    assert not fourth.done()
    await scripted.clock.wind(0.3)  # what it waited for its turn is part of its ten seconds
    assert isinstance(fourth.exception(), RequestTimedOutError)
    assert written[3:] == ["positions"]
    requests.finish("the-key", "late")
    requests.finish("the-key", "three")
    assert await fifth == ["three"]
    assert (requester._queued, requester._turns) == ({}, {})


@pytest.mark.parametrize(("seconds", "again"), [(2.0, 1), (2.04, 1), (2.06, 2), (5.0, 2)])
async def test_who_joined_what_gave_up_early_asks_anew_while_there_is_time(
    seconds: float, again: int
) -> None:
    scripted = Scripted()
    first = await scripted.begin(scripted.queries.positions(timeout=2))
    second = asyncio.ensure_future(scripted.queries.positions(timeout=seconds))
    await asyncio.sleep(0)
    await scripted.clock.wind(1.99)
    assert (first.done(), second.done()) == (False, False)
    assert len(scripted.asked(POSITIONS)) == 1, "they share it"
    await scripted.clock.wind(0.02)
    with pytest.raises(RequestTimedOutError):
        await first
    assert len(scripted.asked(POSITIONS)) == again
    assert second.done() is (again == 1)
    await scripted.clock.wind(max(0.0, seconds - 2.0))
    with pytest.raises(RequestTimedOutError):
        await second
    third = await scripted.begin(scripted.queries.positions(timeout=9))
    for _ in range(again + 1):  # those that were given up are owed
        assert not third.done()
        scripted.say(62, 1)
    assert await third == ()


async def test_who_has_less_time_than_what_it_joined_does_not_wait_longer() -> None:
    scripted = Scripted()
    first = await scripted.begin(scripted.queries.positions(timeout=9))
    second = await scripted.begin(scripted.queries.positions(timeout=2))
    await scripted.clock.wind(1.9)
    assert not second.done()
    await scripted.clock.wind(0.2)
    with pytest.raises(RequestTimedOutError, match=r"^positions got no answer after 2 s$"):
        await second
    scripted.say(62, 1)
    assert await first == ()


async def test_the_last_word_of_a_list_counts() -> None:
    scripted = Scripted()
    asking = await scripted.begin(scripted.queries.positions())
    row = ("DU1234567", 1, "AAPL", "STK", "", 0, "", "", "", "USD", "", "")
    scripted.say(61, 3, *row, 5, "100.0")
    scripted.say(61, 3, *row, 7, "100.0")
    scripted.say(62, 1)
    (position,) = await asking
    assert position.quantity == 7


async def test_a_question_about_history_waits_for_its_turn_or_says_for_how_long() -> None:
    scripted = Scripted()
    request = model.HistoryRequest(contract=APPLE)
    ask = scripted.queries.historical_bars
    first = await scripted.begin(ask(request, timeout=30))
    with pytest.raises(PacingLimitedError) as caught:
        await ask(request, timeout=16.9)  # 16 s until then, and one for the answer
    assert caught.value.retry_after == pytest.approx(16, abs=0.001)
    second = await scripted.begin(ask(request, timeout=20))
    await scripted.clock.wind(15.9)
    assert len(scripted.asked("20")) == 1
    await scripted.clock.wind(0.2)
    assert len(scripted.asked("20")) == 2
    await scripted.clock.wind(3.8)
    assert not second.done()
    await scripted.clock.wind(0.2)
    assert isinstance(second.exception(), RequestTimedOutError), "after 20 s with its turn"
    other = model.HistoryRequest(contract=APPLE, what_to_show="BID_ASK")
    await scripted.begin(ask(other, timeout=1))
    used = scripted.queries.history_rules.used(scripted.clock.monotonic())
    assert used == 4, "bid and ask count twice"
    await scripted.clock.wind(11)
    assert isinstance(first.exception(), RequestTimedOutError)


# orders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "instruction"), [("EXERCISE", "1"), ("LAPSE", "2")])
async def test_an_option_is_exercised_or_left_to_lapse(kind: Any, instruction: str) -> None:
    scripted = Scripted()
    option = model.Contract(con_id=5, symbol="SPY", sec_type="OPT")
    order = model.Order(quantity=3, order_type=kind, account="DU1234567", override=True)
    await scripted.session.place_order(9, option, order)
    (said,) = scripted.asked()
    assert said[:4] == ["21", "2", "9", "5"]
    assert said[-4:] == [instruction, "3", "DU1234567", "1"]


async def test_order_numbers_rise_by_one() -> None:
    scripted = Scripted()
    context = scripted.context
    with pytest.raises(NotConnectedError):
        context.take_order_id()
    for number in (0, -1, HIGHEST_ORDER_ID + 1):
        scripted.say(9, 1, number)
    assert (context.next_order_id, context.next_valid_id) == (None, None)
    scripted.say(9, 1, 6)
    assert [context.take_order_id() for _ in range(3)] == [6, 7, 8]
    scripted.say(9, 1, 3)
    assert (context.next_valid_id, context.take_order_id()) == (3, 9)
    scripted.say(9, 1, HIGHEST_ORDER_ID)
    assert context.take_order_id() == HIGHEST_ORDER_ID == 2**31 - 2
    assert not scripted.starting.done.done()
    scripted.say(15, 1, "DU1234567,,DU2")
    assert scripted.starting.done.done()
    assert context.accounts == ("DU1234567", "DU2")


# what is so ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "state", "error"),
    [
        ({"socket": Socket.NONE, "problem": DialProblem.REFUSED}, State.WAITING_FOR_GATEWAY, None),
        ({"socket": Socket.NONE, "logging_in": True}, State.WAITING_FOR_2FA, None),
        ({"socket": Socket.NONE}, State.CONNECTING, None),
        ({"heartbeat": False}, State.STALLED, None),
        ({"upstream": False}, State.UPSTREAM_LOST, UpstreamLostError),
        ({"competing": True}, State.SESSION_CONFLICT, SessionConflictError),
        ({"reconciled": False}, State.CONNECTING, None),
    ],
)
async def test_why_nothing_can_be_asked(
    facts: dict[str, Any], state: State, error: type[NotConnectedError] | None
) -> None:
    context = Scripted().context
    context.status.update(**facts)
    assert context.status.state is state
    assert type(context.why_not()) is (error or NotConnectedError)
    assert context.why_not().extra["state"] == state


async def test_a_session_that_is_up_outranks_what_its_login_was(tmp_path: Path) -> None:
    file = tmp_path / "login"
    context = Scripted(login_state_file=file, session="paper").context
    for told, state in (
        ("", "logged-in"),
        ("waiting-2fa", "logged-in"),
        ("logged-in", "logged-in"),
        ("blocked", "blocked"),
    ):
        file.write_text(told)
        if not told:
            file.unlink()
        login = context.login()
        assert login is not None
        assert (login.state, login.session) == (state, "paper")
        assert (next_action(context.situation()) == ALL_IS_WELL) is (told != "blocked")
    context.status.update(socket=Socket.NONE, problem=DialProblem.CLOSED)
    file.unlink()
    assert context.login() is None
    file.write_text("waiting-2fa")
    login = context.login()
    assert login is not None
    assert login.state == "waiting-2fa"
    assert "Approve the login" in next_action(context.situation())


@pytest.mark.parametrize("lost", [{"upstream": False}, {"heartbeat": False}])
async def test_a_login_that_began_after_the_broker_was_lost_is_believed(
    tmp_path: Path, lost: dict[str, bool]
) -> None:
    """The socket may stay open over a login inside the gateway."""
    file = tmp_path / "login"
    context = Scripted(login_state_file=file, session="paper").context
    begun = context.clock.now().timestamp()
    file.write_text("waiting-2fa")
    os.utime(file, (begun - 60, begun - 60))
    context.status.update(**lost)
    login = context.login()
    assert login is not None
    assert login.state == "logged-in", "what was written before the loss was over by then"
    os.utime(file, (begun + 60, begun + 60))
    login = context.login()
    assert login is not None
    assert login.state == "waiting-2fa"
    assert "Approve the login" in next_action(context.situation())


@pytest.mark.parametrize(
    ("facts", "seconds", "first", "then"),
    [
        ({"upstream": False}, 600, "Nothing yet: the gateway reconnects", "The gateway has been"),
        ({"reconciled": False}, 180, "Nothing: the session is being", "Since 14:30 UTC"),
        (
            {"socket": Socket.NONE, "problem": DialProblem.REFUSED},
            *(900, "Nothing yet if the gateway", "There has been no gateway since 14:30"),
        ),
    ],
)
async def test_what_should_pass_by_itself_and_does_not(
    facts: dict[str, Any], seconds: float, first: str, then: str
) -> None:
    scripted = Scripted()
    scripted.context.status.update(**facts)
    scripted.clock.advance(seconds)
    assert next_action(scripted.context.situation()).startswith(first)
    scripted.clock.advance(0.001)
    assert next_action(scripted.context.situation()).startswith(then)


async def test_messages_that_are_too_large_are_told_the_first_second_and_fourth_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []

    class Log:
        def warning(self, _: str, *, times: int, **__: object) -> None:
            told.append(times)

    monkeypatch.setattr(wire_module, "log", Log())
    scripted = Scripted()
    scripted.wire.codec = None
    monkeypatch.setattr(wire_module, "LARGEST", 8)
    for _ in range(9):
        scripted.say(9, "x" * 10)
    await eventually(lambda: scripted.wire.skipped == 9)
    assert told == [1, 2, 4, 8]


# subscriptions ------------------------------------------------------------------------------------


class Heard:
    """A line's listener that keeps the order of things."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def tick(self, tick: model.Tick) -> None:
        self.story.append(tick.field)

    def market_data_type(self, kind: model.MarketDataType) -> None:
        self.story.append(kind.name)

    def failed(self, error: Exception) -> None:
        self.story.append(type(error).__name__)

    def interrupted(self) -> None:
        self.story.append("interrupted")

    def restored(self) -> None:
        self.story.append("restored")


async def test_a_competing_session_is_taken_to_be_gone_after_two_quiet_minutes() -> None:
    scripted = Scripted()
    heard, subscriptions = Heard(), scripted.session.subscriptions

    def refused() -> None:
        scripted.session.subscribe_market_data(APPLE, heard)
        scripted.say(4, 2, scripted.asked("1")[-1][2], 10197, "competing live session", "")

    refused()
    assert heard.story == [CompetingSessionError.__name__]
    assert scripted.state() is State.SESSION_CONFLICT
    await scripted.clock.wind(60)
    refused()
    await scripted.clock.wind(119.9)  # the first two minutes are over
    assert scripted.state() is State.SESSION_CONFLICT
    await scripted.clock.wind(0.2)
    assert scripted.state() is State.READY
    refused()
    line = scripted.session.subscribe_market_data(APPLE, heard)
    number = scripted.asked("1")[-1][2]
    scripted.say(1, 6, number, 66, "1.5", "1", "0")
    assert scripted.state() is State.SESSION_CONFLICT, "delayed data says nothing"
    scripted.say(1, 6, number, 1, "1.5", "1", "0")
    assert scripted.state() is State.READY
    assert (len(subscriptions), line.active, line.asked) == (1, True, True)
    line.cancel()
    assert (len(subscriptions), line.active) == (0, False)
    assert scripted.asked("2")[-1][2] == number


async def test_a_loss_of_the_broker_ends_what_waits_but_for_the_heartbeat() -> None:
    scripted = Scripted()
    heard = Heard()
    scripted.session.subscribe_market_data(APPLE, heard)
    time = await scripted.begin(scripted.queries.current_time())
    positions = await scripted.begin(scripted.queries.positions())
    scripted.say(4, 2, -1, 1100, "connectivity lost", "")
    with pytest.raises(UpstreamLostError):
        await positions
    assert (time.done(), heard.story) == (False, ["interrupted"])
    scripted.say(49, 1, EARLIEST + 1)
    await time
    lines = len(scripted.asked("1"))
    scripted.session.subscribe_market_data(APPLE, Heard())
    assert len(scripted.asked("1")) == lines
    scripted.say(4, 2, -1, 1102, "restored", "")
    assert scripted.context.upstream
    scripted.session.subscriptions.restore()
    assert heard.story == ["interrupted", "restored"]
    assert len(scripted.asked("1")) == lines + 1, "the other alone: the gateway has the first"
    scripted.say(4, 2, -1, 1101, "restored, data lost", "")
    scripted.session.subscriptions.restore()
    assert len(scripted.asked("1")) == lines + 3


async def test_what_waits_when_the_socket_is_gone_is_told_why_and_forgotten() -> None:
    scripted = Scripted()
    lost: list[str] = []
    scripted.session.events.lost.listen(lost.append)
    asking = await scripted.begin(scripted.queries.positions())
    pending = scripted.context.requests.get("positions")
    assert pending is not None
    scripted.session.supervisor._lost("the socket was cut")
    assert scripted.context.requests.get("positions") is None
    with pytest.raises(ConnectionLostError, match="positions was pending when the socket was cut"):
        await asking
    assert lost == ["the socket was cut"]
    assert scripted.session.state is State.CONNECTING
    with pytest.raises(NotConnectedError):
        await scripted.queries.positions()
