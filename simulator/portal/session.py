"""The two sessions behind one Client Portal login, and how they come apart.

A login opens the single-sign-on (SSO) session and a brokerage ("iServer") session on top of it.
The brokerage session ends after six minutes without a call, or when the same user signs in
elsewhere, while the SSO session lives on: `authenticated` stays true and `connected` turns false.
`POST /iserver/auth/ssodh/init` opens the brokerage session again without a new login.

Times are seconds of the simulator's clock, which a test can wind.  Not modelled: the SSO session's
own end (it is ended by `logout` and by the fault `portal-logged-out`).

Request rates, from the public documents: ten requests a second in all; `/tickle` once a second,
`/sso/validate` once a minute, `/iserver/account/trades`, `/iserver/account/orders` and
`/portfolio/accounts` once in five seconds.  Who passes a rate is answered with 429 and kept out
for ten minutes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PENALTY_SECONDS = 600.0
GLOBAL_PER_SECOND = 10
ENDPOINT_INTERVALS: Mapping[str, float] = {
    "/tickle": 1.0,
    "/sso/validate": 60.0,
    "/iserver/account/orders": 5.0,
    "/iserver/account/trades": 5.0,
    "/portfolio/accounts": 5.0,
}
"""Seconds that must lie between two calls of an endpoint."""


class RequestLimits:
    """Counts requests over the simulator's clock.

    Args:
        now: the clock, in seconds.
        per_second: requests allowed in any second over all endpoints.
    """

    def __init__(self, now: Callable[[], float], *, per_second: int = GLOBAL_PER_SECOND) -> None:
        self._now = now
        self._recent: deque[float] = deque(maxlen=per_second)
        self._last: dict[str, float] = {}
        self._penalty_until = float("-inf")

    def admit(self, endpoint: str) -> float:
        """Counts one call; returns 0.0 when allowed, else the seconds of penalty left."""
        now = self._now()
        if now < self._penalty_until:
            return self._penalty_until - now
        if self._too_fast(endpoint, now):
            self._penalty_until = now + PENALTY_SECONDS
            return PENALTY_SECONDS
        self._recent.append(now)
        if endpoint in ENDPOINT_INTERVALS:
            self._last[endpoint] = now
        return 0.0

    def penalise(self, seconds: float = PENALTY_SECONDS) -> None:
        """Puts the caller into the penalty box without a cause (a fault)."""
        self._penalty_until = self._now() + seconds

    def forgive(self) -> None:
        """Ends a penalty early."""
        self._penalty_until = float("-inf")

    def _too_fast(self, endpoint: str, now: float) -> bool:
        if len(self._recent) == self._recent.maxlen and now - self._recent[0] < 1.0:
            return True
        interval = ENDPOINT_INTERVALS.get(endpoint)
        return interval is not None and now - self._last.get(endpoint, float("-inf")) < interval


IDLE_SECONDS = 360.0
"""Brokerage sessions end after about six minutes without a call."""

ESTABLISH_SECONDS = 0.3
"""`established` follows `connected` after a moment, as with a real brokerage session."""

SSO_SECONDS = 600.0
"""What `ssoExpires` counts down from after each call, in the documents' samples."""


@dataclass(frozen=True)
class Status:
    """The four flags of the brokerage session, as one consistent reading."""

    authenticated: bool
    connected: bool
    competing: bool
    established: bool
    message: str = ""


class PortalSession:
    """The session of one simulated login.

    Args:
        now: the simulator's clock, in seconds.
        idle_seconds: how long the brokerage session lives without a call.
    """

    def __init__(self, now: Callable[[], float], *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._now = now
        self._idle_seconds = idle_seconds
        self.logged_in = False
        self.authenticated_at = 0.0
        self._last_call = 0.0
        self._connected = False
        self._competing = False
        self._established_at = 0.0
        self._first_status_pending = False
        self.login()

    def login(self) -> None:
        """A person signs in: SSO and brokerage session open; the first status will mislead."""
        self.logged_in = True
        self.authenticated_at = self._now()
        self._first_status_pending = True
        self._open_brokerage()

    def logout(self) -> None:
        """Both sessions end; every further call is answered with 401."""
        self.logged_in = False
        self._connected = False
        self._competing = False

    def desync(self) -> None:
        """The brokerage session ends on its own (a regional reset, idleness)."""
        self._connected = False

    def compete(self) -> None:
        """The same user opens a brokerage session elsewhere, which takes over."""
        self._connected = False
        self._competing = True

    def leave_competing(self) -> None:
        """The other session ends; ours stays closed until it is initialised."""
        self._competing = False

    def mislead(self) -> None:
        """The next status read will be falsely unauthenticated, as after a login."""
        self._first_status_pending = True

    def touch(self) -> None:
        """A call that keeps the brokerage session alive (all but the bare status reads)."""
        self._expire()
        self._last_call = self._now()
        self._first_status_pending = False

    def initialise(self, *, compete: bool) -> Status:
        """`ssodh/init`: opens the brokerage session; beats another one only with `compete`."""
        self._expire()
        if self._competing and not compete:
            return self.peek()
        if not self._connected or self._competing:
            self._open_brokerage()
        self._competing = False
        self._first_status_pending = False
        self._last_call = self._now()
        return self.peek()

    def status(self) -> Status:
        """What a status read sees; the first after a login is falsely unauthenticated."""
        self._expire()
        if self._first_status_pending and self.logged_in:
            self._first_status_pending = False
            return Status(authenticated=False, connected=False, competing=False, established=False)
        return self.peek()

    def peek(self) -> Status:
        """The flags as they are, without the side effects of a read."""
        self._expire()
        return Status(
            authenticated=self.logged_in,
            connected=self._connected,
            competing=self._competing,
            established=self._connected and self._now() >= self._established_at,
            message="",
        )

    def sso_expires_milliseconds(self) -> int:
        """Milliseconds until the SSO session would expire, counted from the last call."""
        return max(1000, int((SSO_SECONDS - (self._now() - self._last_call)) * 1000))

    def _open_brokerage(self) -> None:
        self._connected = True
        self._competing = False
        self._last_call = self._now()
        self._established_at = self._now() + ESTABLISH_SECONDS

    def _expire(self) -> None:
        if self._connected and self._now() - self._last_call >= self._idle_seconds:
            self._connected = False
