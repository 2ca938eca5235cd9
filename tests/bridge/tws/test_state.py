"""State, restart plan, diagnostics and the table of codes: what is computed, without a gateway."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.model import ConnectionEvent
from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.tws import errors
from bridge.tws.advice import next_action
from bridge.tws.broker_codes import CodeClass, classify, error_for, is_notice
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
        assert len(next_action(context)) > 15


def test_a_planned_restart_is_not_alarming() -> None:
    clock = WoundClock(datetime(2026, 3, 3, 4, 46, tzinfo=UTC))
    context = ConnectionContext(
        Target(restarts=RestartCalendar((RestartRule("auto-restart", "23:45", None, 6),))), clock
    )
    context.status.update(started=True, problem=DialProblem.REFUSED)
    assert next_action(context).startswith("Nothing: the gateway's planned restart is under way")


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
