"""The two sessions behind one Client Portal login, and how they come apart.

A login opens the single-sign-on (SSO) session and a brokerage ("iServer") session on top of it.
The brokerage session ends after six minutes without a call, or when the same user signs in
elsewhere, while the SSO session lives on: `authenticated` stays true and `connected` turns false.
`POST /iserver/auth/ssodh/init` opens the brokerage session again without a new login.

Times are seconds of the simulator's clock, which a test can wind.  Not modelled: the SSO session's
own end (it is ended by `logout` and by the fault `portal-logged-out`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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
