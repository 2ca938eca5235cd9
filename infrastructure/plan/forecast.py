"""Whether a change of the gateway will need a person's approval, and why. Pure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from bridge.login import states
from bridge.login.spacing import maintenance_until
from infrastructure.config.schedule import NEW_YORK
from infrastructure.runtime.containers import IBG_CONTROLLER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.config.target import Target
    from infrastructure.plan.observed import Observed
    from infrastructure.runtime.containers import Action

EXCHANGED_WITHIN = 600
"""Seconds that an exchange of the gateway may take at most; a token has to be good for so long."""


class Forecast(NamedTuple):
    """`token`: the saved session goes over to the new container.

    `maintenance`: until when the broker's own is under way, where it concerns a login (seconds
    since 1970); else 0.
    """

    expected: bool
    reason: str
    token: bool = False
    maintenance: int = 0

    @property
    def line(self) -> str:
        if self.expected:
            text = f"2FA: approval expected: {self.reason}"
        else:
            text = f"2FA: no approval expected{' (token)' if self.token else ''}: {self.reason}"
        if not self.maintenance:
            return text
        until = dt.datetime.fromtimestamp(self.maintenance, dt.UTC)
        return (
            f"{text}\nIBKR's maintenance is under way until {until:%H:%M} UTC: it may refuse the"
            " login until then, and the next attempt is made twenty minutes later"
        )

    def at(self, now: float) -> Forecast:
        """The same for a login at this moment."""
        return self._replace(maintenance=maintenance_until(now))


CODES_TOLERATE = 20.0
"""Seconds; a code counts for its half minute, and IBKR takes one from just before."""
KEPT = Forecast(False, "the gateway keeps running, and its session")


def of_login(target: Target, skew: float = 0.0) -> Forecast:
    """Of a full login; `skew`: how far the host's clock is from ours, in seconds."""
    gateway = target.stack.gateway
    if target.stack.runtime == "sandbox":
        return Forecast(False, "the sandbox logs in to nothing")
    if not gateway.two_factor.asked:
        reason = "gateway.two_factor.asked is false: this user's logins are not asked"
        return Forecast(False, reason)
    if gateway.two_factor.totp is not None and abs(skew) > CODES_TOLERATE:
        reason = f"the host's clock is {abs(skew):.0f} s off, and codes by it are refused"
        return Forecast(True, f"{reason}: timedatectl set-ntp true there")
    if gateway.two_factor.totp is not None:
        return Forecast(False, "gangway types the code (gateway.two_factor.totp)")
    if gateway.mode == "both":
        reason = "the gateway logs in afresh, live and paper: approve both on IBKR Mobile"
        return Forecast(True, reason)
    return Forecast(True, f"the gateway logs in afresh ({gateway.mode}): approve on IBKR Mobile")


def of_change(
    target: Target,
    observed: Observed,
    action: Action,
    before: Mapping[str, str],
    after: Mapping[str, str],
) -> Forecast:
    """Of a change of the gateway; `before` and `after` are its variables."""
    login = of_login(target, observed.skew)
    if target.stack.runtime == "sandbox" or not target.stack.gateway.two_factor.asked:
        return login
    why = "" if action == "update" else _absent(action)
    why = why or _without_token(target, observed, before, after)
    if not why:
        return Forecast(False, "its session goes over to the new container", token=True)
    return login if not login.expected else Forecast(True, f"{login.reason} ({why})")


def _absent(action: Action) -> str:
    return "no session is there yet" if action == "create" else "it does not run"


def _without_token(
    target: Target, observed: Observed, before: Mapping[str, str], after: Mapping[str, str]
) -> str:
    """Why the session cannot be kept; empty when it can."""
    stack = target.stack
    if stack.gateway.controller == IBG_CONTROLLER:
        return "ibg-controller keeps no session"
    if stack.sessions != ("live",):
        return "a paper session is logged off"
    if any(before.get(name) != after.get(name) for name in ("TRADING_MODE", "TWS_USERID")):
        return "another user or mode logs in"
    login = next((one for one in observed.logins if one["session"] == "live"), None)
    if login is None or login["state"] != states.LOGGED_IN:
        return "it is not logged in now"
    if not login["parks"]:
        return "its container was made by an earlier release, which cannot keep a session"
    ended = week_began(observed.time + EXCHANGED_WITHIN)
    if (login["since"] or 0) < ended:
        return "the broker ends the week's session on Sunday 01:00 New York"
    return ""


def week_began(now: float) -> float:
    """The last Sunday 01:00 in New York, when the broker ends every session; seconds since 1970."""
    local = dt.datetime.fromtimestamp(now, NEW_YORK)
    sunday = local - dt.timedelta(days=(local.weekday() + 1) % 7)
    began = sunday.replace(hour=1, minute=0, second=0, microsecond=0)
    return (began if began <= local else began - dt.timedelta(weeks=1)).timestamp()
