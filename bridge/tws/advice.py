"""What the state means and what a person should do, in sentences."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import Struct

from bridge.login import states
from bridge.login.model import Login, iso
from bridge.restart_calendar import PlannedRestart
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.connection_state import DialProblem
from bridge.tws.errors import READ_ONLY_ACTION

_AWAY = (State.WAITING_FOR_GATEWAY, State.WAITING_FOR_2FA, State.CONNECTING, State.RECONNECTING)
_MAY_LOG_IN = (*_AWAY, State.UPSTREAM_LOST, State.STALLED)
"""States in which the login may be under way, the socket open or not."""


ALL_IS_WELL: Final = "Nothing: all is well"
A_MOMENT: Final = 180.0
"""Seconds after which what should be over by itself no longer is nothing to do about."""
_LOGIN_TAKES: Final = 900.0
_LAUNCH_TAKES: Final = 60.0
"""Seconds until a launch whose time has come shows in what the container writes down."""
_BROKER_TAKES: Final = 600.0


class Situation(Struct, frozen=True, kw_only=True):
    """All that a sentence depends on, at one moment."""

    host: str
    port: int
    client_id: int
    state: State
    since: datetime
    now: datetime
    problem: DialProblem | None
    last_error: str | None
    """Why the last attempt to connect failed."""
    restart: PlannedRestart | None
    """The planned restart that is under way."""
    login: Login | None

    def lasts(self, seconds: float = A_MOMENT) -> bool:
        """Whether the state has not changed for longer than it should last."""
        return (self.now - self.since).total_seconds() > seconds


def explain(situation: Situation) -> str:
    """Why there is no session now; one line."""
    address = f"{situation.host}:{situation.port}"
    lines = {
        State.STARTING: "the bridge is starting",
        State.WAITING_FOR_GATEWAY: f"no gateway at {address}",
        State.WAITING_FOR_2FA: f"the gateway at {address} is not logged in",
        State.CONNECTING: f"the session with {address} is being set up",
        State.UPSTREAM_LOST: "the gateway has lost its connection to the broker",
        State.STALLED: f"the gateway at {address} does not answer",
        State.RECONNECTING: f"the connection to {address} was lost",
        State.SESSION_CONFLICT: "another session is in the way",
    }
    text = lines.get(situation.state, "the session is ready")
    login = situation.login if situation.state in _AWAY else None
    if login is not None and login.state != states.LOGGED_IN:
        return f"the gateway at {address} is not logged in: {login.told}"
    error = situation.last_error
    return f"{text} ({error})" if error and situation.problem else text


def next_action(situation: Situation) -> str:
    """A sentence for a person; says so when there is nothing to do."""
    state, login, restart = situation.state, situation.login, situation.restart
    if login is not None and (
        login.state == states.BLOCKED
        or (state in _MAY_LOG_IN and login.state in states.FOR_A_PERSON)
    ):
        return of_login(login)
    if restart and state not in (State.READY, State.SESSION_CONFLICT):
        types = login is not None and login.types
        return _planned(restart.kind, f"{restart.until:%H:%M} UTC", types=types)
    known = login is not None and login.state not in (states.LOGGED_IN, states.UNKNOWN)
    if login is not None and known and state in _AWAY:
        return of_login(login, situation.now.timestamp())
    return _ACTIONS[state](situation)


def _soon(situation: Situation, doing: str) -> str:
    if not situation.lasts():
        return f"Nothing: {doing}"
    return (
        f"Since {situation.since:%H:%M} UTC {doing}, which takes seconds as a rule: look"
        " at ./deploy.py logs bridge, and restart the gateway if it lasts; the bridge keeps trying"
    )


def _without_broker(situation: Situation) -> str:
    if not situation.lasts(_BROKER_TAKES):
        return (
            "Nothing yet: the gateway reconnects to the broker by itself; if it lasts more than ten"
            " minutes look at the broker's system status"
        )
    return (
        f"The gateway has been without the broker since {situation.since:%H:%M} UTC: look at"
        " the broker's system status and the host's internet; if both are well, restart the gateway"
    )


def of_login(login: Login, now: float | None = None) -> str:
    """What a person should do about the login, true in its very state.

    `now` (seconds since the epoch) tells a login that takes its time from one that does not end.
    """
    trouble = login.trouble
    if login.automatic:
        return "Nothing: gangway types the code of the second factor by itself"
    if login.state == states.WAITING_2FA and trouble is None:
        how = "on IBKR Mobile" if login.kind == states.PUSH else "as IBKR asks for it"
        return f"Approve the login {how}; the bridge connects by itself afterwards"
    if trouble is not None:
        text = f"{trouble.message[0].upper()}{trouble.message[1:]}"
        title = f" ({login.window})" if login.window else ""
        retry = iso(login.retry_at)
        when = f" (next attempt at {retry})" if retry else ""
        return f"{text}{title}: {trouble.hint}{when}"
    if login.state in (states.HELD, states.BLOCKED):
        return f"The gateway's login is {login.state}: {states.SCREEN}, and {states.AFRESH}"
    if login.state == states.STOPPED:
        return (
            "The gateway has ended and is started again, unless it was stopped on purpose: then"
            " ./deploy.py up"
        )
    if login.retry_at is not None and (now is None or now < login.retry_at + _LAUNCH_TAKES):
        return f"Nothing: the gateway is {login.told}; a restart would not make it sooner"
    if now is not None and login.since is not None and now - login.since > _LOGIN_TAKES:
        minutes = (now - login.since) / 60
        if login.state == states.WAITING_BROKER:
            return (
                "Wait, and look at the broker's system status: for"
                f" {minutes:.0f} minutes the gateway is {login.told}; it tries again"
                " by itself, and a restart would only cost a login"
            )
        return (
            f"For {minutes:.0f} minutes the gateway is {login.told}:"
            f" {states.SCREEN}, and {states.AFRESH}"
        )
    return f"Nothing: the gateway is {login.told}; the bridge connects by itself afterwards"


def _planned(kind: str, until: str, *, types: bool) -> str:
    if kind != "auto-restart":  # a log-off is followed by a full login, too
        often = ", as every Sunday" if kind == "cold" else ""
        if types:
            return (
                f"Nothing: the gateway logs in anew{often}, and gangway types the code of the"
                f" second factor (expected back by {until})"
            )
        return (
            f"The gateway logs in anew{often}: approve the login on your phone when"
            f" asked (expected back by {until})"
        )
    return f"Nothing: the gateway's planned restart is under way (expected back by {until})"


def _waiting(situation: Situation) -> str:
    if situation.problem is DialProblem.UNREACHABLE:
        return (
            f"Check that {situation.host}:{situation.port} is the gateway's address, and"
            " that the container runs; the bridge keeps trying"
        )
    if situation.lasts(_LOGIN_TAKES):
        return (
            f"There has been no gateway since {situation.since:%H:%M} UTC: ./deploy.py status"
            " and ./deploy.py logs gateway tell whether it runs and is logged in; the bridge keeps"
            " trying"
        )
    return (
        "Nothing yet if the gateway has just been started (a login takes a minute or two);"
        " otherwise check that it runs, is logged in, and has its API on; the bridge keeps trying"
    )


def _stalled(situation: Situation) -> str:
    if not situation.lasts():
        return (
            "Wait a minute; if it lasts, restart the gateway: it takes connections but answers"
            " nothing"
        )
    return (
        f"The gateway has answered nothing since {situation.since:%H:%M} UTC, though it takes"
        " connections: ./deploy.py restart gateway (if that does not help --cold, a full login)"
    )


def _conflict(situation: Situation) -> str:
    if situation.problem is DialProblem.CLIENT_ID_TAKEN:
        return (
            f"Client id {situation.client_id} is held by another connection: most often an"
            " earlier bridge that the gateway has not let go yet (wait a minute), else another"
            " program with the same id (close it, or change bridge.client_id in stack.yaml, or the"
            " clientId of a stored profile); the bridge keeps asking for its own id"
        )
    return (
        "Live market data goes to another session of this user (TWS, web or mobile): log it out;"
        " orders still work"
    )


_ACTIONS: dict[State, Callable[[Situation], str]] = {
    State.STARTING: lambda situation: _soon(situation, "the bridge is starting"),
    State.WAITING_FOR_GATEWAY: _waiting,
    State.WAITING_FOR_2FA: lambda _: (
        "Approve the login on your phone if it asks for it: the gateway runs but is not logged in;"
        " the bridge connects by itself afterwards"
    ),
    State.CONNECTING: lambda situation: _soon(situation, "the session is being set up"),
    State.READY: lambda _: ALL_IS_WELL,
    State.UPSTREAM_LOST: _without_broker,
    State.STALLED: _stalled,
    State.RECONNECTING: lambda situation: _soon(situation, "the bridge is reconnecting"),
    State.SESSION_CONFLICT: _conflict,
    State.READ_ONLY: lambda _: READ_ONLY_ACTION,
    State.HALTED: lambda _: "Lift the halt with DELETE /trading/halt when trading may go on",
}
