"""State, restart plan, diagnostics and the table of codes: what is computed, without a gateway."""

from __future__ import annotations

import itertools
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.login import states
from bridge.login.model import Login
from bridge.model import ConnectionEvent, MarketDataType
from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.tws import broker_codes, client, errors
from bridge.tws.advice import next_action, of_login
from bridge.tws.broker_codes import (
    CATALOGUE,
    VERSION_ENDS,
    CodeClass,
    Effect,
    classify,
    effect_of,
    error_for,
    is_notice,
    order_advice,
    version_ends,
)
from bridge.tws.connection_context import ConnectionContext, LoginFile, Target, waiting_for_2fa
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.connection_state import DialProblem, Facts, Socket, can_trade, state_of
from bridge.tws.diagnostics import Diagnostics
from tests.bridge.wound import WoundClock


def every_fact() -> list[Facts]:
    booleans = ("started", "logging_in", "was_ready", "heartbeat", "upstream", "reconciled")
    found = []
    for socket, problem in itertools.product(Socket, [None, *DialProblem]):
        for values in itertools.product((False, True), repeat=len(booleans) + 1):
            flags: dict[str, Any] = dict(zip((*booleans, "competing"), values, strict=True))
            found.append(Facts(socket=socket, problem=problem, **flags))
    return found


def test_every_combination_of_facts_has_a_state_and_ready_means_tradable() -> None:
    for facts in every_fact():
        state = state_of(facts)
        assert can_trade(facts) == (
            state in (State.READY, State.SESSION_CONFLICT) and facts.socket is Socket.UP
        ), facts
        assert (state is State.STARTING) == (not facts.started)
        assert state is not State.HALTED


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"problem": DialProblem.REFUSED}, State.WAITING_FOR_GATEWAY),
        ({"problem": DialProblem.UNREACHABLE, "was_ready": True}, State.WAITING_FOR_GATEWAY),
        ({"problem": DialProblem.CLOSED}, State.WAITING_FOR_GATEWAY),
        ({"problem": DialProblem.CLOSED, "logging_in": True}, State.WAITING_FOR_2FA),
        ({"problem": DialProblem.SILENT}, State.STALLED),
        ({"problem": DialProblem.CLIENT_ID_TAKEN}, State.SESSION_CONFLICT),
        (
            {"problem": DialProblem.CLIENT_ID_TAKEN, "socket": Socket.GREETED},
            State.SESSION_CONFLICT,
        ),
        ({"problem": DialProblem.NOT_STARTED}, State.CONNECTING),
        ({"was_ready": True}, State.RECONNECTING),
        ({"socket": Socket.UP}, State.CONNECTING),
        ({"socket": Socket.UP, "upstream": False, "heartbeat": False}, State.STALLED),
        ({"socket": Socket.UP, "upstream": False}, State.UPSTREAM_LOST),
        ({"socket": Socket.UP, "reconciled": True}, State.READY),
        ({"socket": Socket.UP, "reconciled": True, "competing": True}, State.SESSION_CONFLICT),
    ],
)
def test_states(facts: dict[str, Any], state: State) -> None:
    assert state_of(Facts(started=True, **facts)) is state


def test_every_state_says_what_to_do() -> None:
    context = ConnectionContext(Target(), WoundClock())
    for state in State:
        context.status.state = state
        assert len(next_action(context.situation())) > 15


def test_a_planned_restart_is_not_alarming() -> None:
    clock = WoundClock(datetime(2026, 3, 3, 4, 46, tzinfo=UTC))
    context = ConnectionContext(
        Target(restarts=RestartCalendar((RestartRule("auto-restart", "23:45", None, 6),))), clock
    )
    context.status.update(started=True, problem=DialProblem.REFUSED)
    assert next_action(context.situation()).startswith(
        "Nothing: the gateway's planned restart is under way"
    )


def test_login_state_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "login-paper"
    assert waiting_for_2fa(LoginFile(None), 0) is None
    reader = LoginFile(file, "paper")
    assert waiting_for_2fa(reader, 0) is None
    file.write_text("100 launch password\n101 attempt 1\n102 push\n")
    assert waiting_for_2fa(reader, 103) is True
    with file.open("a") as more:
        more.write("110 login\n")
    assert waiting_for_2fa(reader, 111) is False
    login = reader.read(111)
    assert login is not None
    assert (login.state, login.session) == ("logged-in", "paper")
    file.write_text("waiting-2fa\n")
    assert waiting_for_2fa(reader, 112) is True, "one word alone is taken, too"
    file.write_bytes(b"x" * 1_000_000 + b"\n200 launch\n201 attempt 1\n")
    login = reader.read(202)
    assert login is not None
    assert login.state == "logging-in"
    file.unlink()
    assert reader.read(203) is None


class Kept:
    """A keeper that holds everything in memory."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.events: list[ConnectionEvent] = []

    def save(self, values: dict[str, Any]) -> None:
        self.values |= values

    def event(self, event: ConnectionEvent) -> None:
        self.events.append(event)


def test_availability_is_the_ready_share_of_a_day_over_restarts() -> None:
    clock, kept = WoundClock(), Kept()
    first = Diagnostics(clock, kept)
    first.ready(True)
    clock.advance(6 * 3600)
    first.ready(False)
    clock.advance(6 * 3600)
    assert first.availability() == 0.5
    first.ready(True)
    clock.advance(12 * 3600)
    first.note("still-here")
    second = Diagnostics(clock)
    second.restore(kept, kept.values, kept.events)
    assert second.availability() == 0.75
    assert [event.kind for event in second.events] == ["still-here"]
    clock.advance(24 * 3600)
    assert second.availability() == 0.0


def test_the_last_hundred_events_are_kept_in_order() -> None:
    clock = WoundClock()
    diagnostics = Diagnostics(clock)
    for number in range(150):
        clock.advance(0.1)
        diagnostics.note("event", number=number)
    assert [event.sequence for event in diagnostics.events] == list(range(51, 151))


def test_a_flood_of_events_is_counted_and_not_kept() -> None:
    clock = WoundClock()
    kept = Kept()
    diagnostics = Diagnostics(clock)
    diagnostics.restore(kept, {}, [])
    for number in range(5000):
        diagnostics.note("upstream-lost", number=number)
    assert len(kept.events) == 100
    assert diagnostics.suppressed == 4900
    clock.advance(3)
    diagnostics.note("upstream-restored")
    assert diagnostics.events[-1].kind == "upstream-restored"


def test_diagnostics_that_cannot_be_read_do_not_stop_the_bridge() -> None:
    diagnostics = Diagnostics(WoundClock())
    diagnostics.restore(Kept(), {"reconnectAttempts": "many"}, [])
    assert diagnostics.record.reconnect_attempts == 0


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (200, "No security definition has been found", errors.UnknownContractError),
        (354, "Requested market data is not subscribed", errors.NoMarketDataError),
        (10168, "not subscribed, delayed not enabled", errors.NoMarketDataError),
        (10197, "No market data during competing live session", errors.CompetingSessionError),
        (162, "HMDS query returned no data", errors.NoHistoryError),
        (162, "Historical data request pacing violation", errors.PacingLimitedError),
        (
            162,
            "Historical Market Data Service error message:Trading TWS session is connected from a"
            " different IP address",
            errors.CompetingSessionError,
        ),
        (321, "The API interface is currently in Read-Only mode", errors.ReadOnlyGatewayError),
        (321, "Invalid account code", errors.RequestRefusedError),
        (201, "Order rejected - reason: margin", errors.OrderRefusedError),
        (99999, "something new", errors.RequestRefusedError),
    ],
)
def test_a_code_becomes_a_typed_error(code: int, text: str, kind: type[errors.TwsError]) -> None:
    error = error_for(code, text)
    assert type(error) is kind
    assert (error.broker_code, error.broker_text) == (code, text)
    assert error.extra["brokerCode"] == code


def test_farm_notices_are_no_loss() -> None:
    for code in (2103, 2104, 2105, 2106, 2107, 2108, 2119, 2157, 2158):
        assert classify(code) is CodeClass.FARM
        assert is_notice(code)
    assert classify(2110) is CodeClass.UPSTREAM_LOST
    assert classify(2199) is CodeClass.NOTICE


def test_whether_a_market_data_farm_is_well_is_told() -> None:
    context = ConnectionContext(Target(), WoundClock())
    told: list[tuple[str, bool]] = []
    context.events.farm.listen(lambda name, well: told.append((name, well)))
    for code, text in (
        (2103, "Market data farm connection is broken:usfarm.nj"),
        (2105, "HMDS data farm connection is broken:ushmds"),
        (2119, "Market data farm is connecting:usfarm.nj"),
        (2104, "Market data farm connection is OK:usfarm.nj"),
        (2108, "Market data farm connection is inactive but should be available upon demand.:eu"),
    ):
        context.broker_said(code, text)
    assert told == [("usfarm.nj", False), ("usfarm.nj", True), ("eu", True)]


def test_what_the_supervisor_reports_is_counted_and_told_once() -> None:
    clock, kept = WoundClock(), Kept()
    diagnostics = Diagnostics(clock, kept)
    record = diagnostics.record
    diagnostics.attempted()
    assert (record.last_reconnect_attempt_at, record.reconnect_attempts) == (clock.now(), 1)
    for detail in ("refused", "refused", "no answer"):
        clock.advance(1)
        diagnostics.attempt_failed("closed", detail, expected=True)
    assert (record.reconnect_failures, record.failed_connections) == (3, 3)
    assert [event.detail["detail"] for event in kept.events] == ["refused", "no answer"]
    clock.advance(1)
    assert diagnostics.uptime_seconds() is None
    diagnostics.connected(port=4002)
    clock.advance(2.5)
    assert diagnostics.uptime_seconds() == 2.5
    assert (record.total_connections, record.last_reconnect_error) == (1, None)
    diagnostics.disconnected("cut", expected=False)
    assert (record.total_disconnections, record.last_disconnect_reason) == (1, "cut")
    assert record.last_disconnect_at == clock.now()
    assert diagnostics.uptime_seconds() is None
    diagnostics.broker_said(1100, "lost")
    assert (record.last_ib_error_code, record.last_ib_error_message) == (1100, "lost")
    assert record.last_ib_error_at == clock.now()
    assert [event.sequence for event in kept.events] == [1, 2, 3, 4]
    assert kept.events[-1].kind == "disconnected"


def test_a_sign_of_life_is_kept_every_minute_and_no_oftener() -> None:
    clock, kept = WoundClock(), Kept()
    diagnostics = Diagnostics(clock, kept)
    diagnostics.heartbeat(None, 0.01234)
    measured = diagnostics.heartbeat_milliseconds
    assert measured == 12.34
    clock.advance(60)
    diagnostics.heartbeat(None)
    assert kept.values == {}
    clock.advance(0.001)
    diagnostics.heartbeat(None, 1.0)
    alive = kept.values["aliveAt"]
    clock.advance(60)
    diagnostics.heartbeat(None, 1.0)
    assert kept.values["aliveAt"] == alive
    diagnostics.heartbeat("no answer")
    assert kept.values["lastHeartbeatError"] == "no answer"
    assert diagnostics.record.heartbeat_failures == 1
    assert kept.events[-1].kind == "heartbeat-failed"
    diagnostics.heartbeat(None, 1.0)
    assert diagnostics.record.last_heartbeat_error is None
    assert diagnostics.record.last_heartbeat_at == clock.now()


def test_a_bridge_that_waits_for_its_gateway_gives_signs_of_life_too() -> None:
    """Else a killed one counts as away since the gateway was lost."""
    clock, kept = WoundClock(), Kept()
    diagnostics = Diagnostics(clock, kept)
    diagnostics.note("lost")
    for _ in range(3):
        clock.advance(61)
        diagnostics.attempted()
    second = Diagnostics(clock)
    second.restore(kept, kept.values, list(kept.events))
    assert second.away_since() == clock.now()


def test_a_clock_that_was_set_back_stops_no_sign_of_life() -> None:
    clock, kept = WoundClock(), Kept()
    diagnostics = Diagnostics(clock, kept)
    diagnostics.note("one")
    clock._start -= timedelta(days=1)
    diagnostics.heartbeat(None, 1.0)
    second = Diagnostics(clock)
    second.restore(kept, kept.values, [])
    assert second.away_since() == clock.now()


def test_the_next_process_knows_how_long_nobody_was_there() -> None:
    clock, kept = WoundClock(), Kept()
    first = Diagnostics(clock, kept)
    first.note("one")
    first.note("two")
    clock.advance(100)
    second = Diagnostics(clock)
    assert second.away_since() is None
    second.note("early")
    second.restore(kept, kept.values, list(kept.events))
    assert second.away_since() == clock.now() - timedelta(seconds=100)
    assert [(event.sequence, event.kind) for event in second.events] == [
        (1, "one"),
        (2, "two"),
        (3, "early"),
    ]
    third = Diagnostics(clock)
    began = clock.now()
    third.restore(kept, {"aliveAt": 7}, [])
    assert third.away_since() is None
    assert third.record.observed_since == began
    third.restore(kept, {"aliveAt": "yesterday"}, [])
    assert third.away_since() is None


def test_availability_counts_the_last_day_alone() -> None:
    clock = WoundClock()
    diagnostics = Diagnostics(clock)
    assert diagnostics.availability() == 0.0
    diagnostics.ready(True)
    diagnostics.ready(True)
    assert diagnostics.availability() == 1.0
    clock.advance(30 * 3600)
    diagnostics.ready(False)
    diagnostics.ready(False)
    assert diagnostics.availability() == 1.0
    clock.advance(6 * 3600)
    assert diagnostics.availability() == 0.75
    assert len(diagnostics.record.ready_spans) == 1
    for _ in range(600):
        diagnostics.ready(True)
        clock.advance(1)
        diagnostics.ready(False)
        clock.advance(1)
    diagnostics.ready(True)
    diagnostics.ready(False)
    assert len(diagnostics.record.ready_spans) == 501
    clock.advance(25 * 3600)
    assert (diagnostics.availability(), diagnostics._spans()) == (0.0, [])


@pytest.mark.parametrize(("seconds", "kept"), [(1.9, 100), (2.0, 101)])
def test_a_hundred_events_in_two_seconds_are_a_flood(seconds: float, kept: int) -> None:
    clock, storage = WoundClock(), Kept()
    diagnostics = Diagnostics(clock, storage)
    for _ in range(100):
        diagnostics.note("event")
    clock.advance(seconds)
    diagnostics.note("event")
    assert (len(storage.events), diagnostics.suppressed) == (kept, 101 - kept)


def test_a_clock_that_was_set_back_is_no_flood() -> None:
    """Else nothing would be noted until it has caught up, over restarts."""
    clock, storage = WoundClock(), Kept()
    diagnostics = Diagnostics(clock, storage)
    for _ in range(100):
        diagnostics.note("event")
    clock._start -= timedelta(days=1)
    diagnostics.note("event")
    assert (len(storage.events), diagnostics.suppressed) == (101, 0)


def test_which_clock_is_ahead() -> None:
    context = ConnectionContext(Target(), WoundClock())
    for skew, where in ((0.5, "behind"), (-0.5, "ahead of"), (90.0, "behind")):
        context.clock_skew = skew
        assert f" s {where} the gateway's" in context.clock_words()
    assert f"{90:.0f} s" in context.clock_words()
    for skew, off in ((60.0, False), (60.1, True), (-60.1, True)):
        context.clock_skew = skew
        assert context.clock_is_off is off
    assert ConnectionContext(Target(), WoundClock()).clock_is_off is False


@pytest.mark.parametrize(
    ("best", "asked", "kind"),
    [
        (MarketDataType.LIVE, MarketDataType.LIVE, MarketDataType.LIVE),
        (MarketDataType.LIVE, MarketDataType.DELAYED, MarketDataType.DELAYED),
        (MarketDataType.FROZEN, MarketDataType.LIVE, MarketDataType.FROZEN),
        (MarketDataType.FROZEN, MarketDataType.DELAYED, MarketDataType.DELAYED),
        (MarketDataType.DELAYED, MarketDataType.LIVE, MarketDataType.DELAYED),
        (MarketDataType.DELAYED, MarketDataType.FROZEN, MarketDataType.DELAYED),
    ],
)
def test_no_better_kind_of_data_is_asked_for_than_is_set(
    best: MarketDataType, asked: MarketDataType, kind: MarketDataType
) -> None:
    assert Target(market_data_type=best).kind_for(asked) is kind


def test_the_first_second_and_fourth_message_that_is_not_understood_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []

    class Log:
        def warning(self, _: str, *, times: int, **__: str) -> None:
            told.append(times)

    monkeypatch.setattr(client, "log", Log())
    monkeypatch.setattr(client, "_times", 0)
    for _ in range(9):
        client._not_understood(where="x")
    assert told == [1, 2, 4, 8]
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "x", (), None, "decode")
    client._DecoderLog().emit(record)
    assert str(client._DecoderLog.failure) == "not understood"
    record.exc_info = (KeyError, KeyError("y"), None)
    client._DecoderLog().emit(record)
    assert isinstance(client._DecoderLog.failure, KeyError)
    client._DecoderLog.failure = None


def login(state: str, **more: Any) -> Login:
    found = Login("paper")
    found.state = state
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_what_to_do_about_a_login() -> None:
    assert "on IBKR Mobile" in of_login(login(states.WAITING_2FA, kind=states.PUSH))
    assert "as IBKR asks for it" in of_login(login(states.WAITING_2FA, kind="code"))
    refused = states.TROUBLES["bad-credentials"]
    held = login(states.HELD, trouble=refused, window="Login", retry_at=60.0)
    said = of_login(held)
    assert said.startswith(f"{refused.message[0].upper()}{refused.message[1:]} (Login): ")
    assert said.endswith("(next attempt at 1970-01-01T00:01:00Z)")
    plain = of_login(login(states.HELD, trouble=refused))
    assert "next attempt" not in plain
    assert "(Login)" not in plain
    for state in (states.HELD, states.BLOCKED):
        assert of_login(login(state)).startswith(f"The gateway's login is {state}: ")
    assert of_login(login(states.STOPPED)).startswith("The gateway has ended")
    for state, first in (
        (states.LOGGING_IN, "For 60 minutes the gateway is"),
        (states.WAITING_BROKER, "Wait, and look at the broker's"),
    ):
        late = login(state, since=1000.0)
        assert of_login(late, 1000.0 + 3600).startswith(first)
        assert of_login(late, 1001.0).startswith("Nothing: the gateway is")
        assert of_login(late).startswith("Nothing: the gateway is")
        assert of_login(login(state), 9e9).startswith("Nothing: the gateway is")


@pytest.mark.parametrize("code", [2099, 2100, 2199, 2200])
def test_what_nobody_has_listed_is_a_warning_by_its_number_alone(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    rest = {number: known for number, known in CATALOGUE.items() if number != code}
    monkeypatch.setattr(broker_codes, "CATALOGUE", rest)
    warns = code in (2100, 2199)
    assert effect_of(code) is (Effect.WARNS if warns else Effect.NOTHING)
    assert classify(code) is (CodeClass.NOTICE if warns else CodeClass.REQUEST)
    assert is_notice(code) is warns
    assert "brokerText" in order_advice(code)


def test_an_announced_end_of_a_version_is_read() -> None:
    text = (
        "Warning: you are running, 1039.1, which will be desupported on 20260531. The minimum"
        " supported version will be 10.42a"
    )
    assert version_ends(1, text) == ("1039.1", "2026-05-31", "10.42a")
    assert version_ends(VERSION_ENDS, "something else") == ("", "", "")
    assert version_ends(VERSION_ENDS + 1, "something else") is None
    assert version_ends(1, text.partition(". The")[0]) == ("1039.1", "2026-05-31", "")
