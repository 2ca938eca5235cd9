"""Keeps one Client Portal session: asks, names what it sees, and mends what needs no person.

Three occasions lead to a recovery: a login that was just seen (proactive), any check or call that
finds a desync (reactive), and the keep-alive that asks every minute (periodic). However many ask
at once, one attempt runs. A server error or silence says nothing about the session and never
starts a recovery; 401 means that only a person can help.

A recovery opens the brokerage session again under a login that lives on: `POST
/iserver/auth/ssodh/init` with `{"publish": true, "compete": …}`, then status reads until the
session is established. `/iserver/reauthenticate`, the older way, is only used when a gateway does
not know the init or when the init did not lead anywhere. Recoveries that follow one another, as
with a session that flaps, are spaced out.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Final

import structlog

from bridge.clock import Clock, settle
from bridge.portal.client import PortalClient
from bridge.portal.errors import (
    CompetingSessionError,
    LoginRequiredError,
    PortalCertificateError,
    PortalError,
    PortalLimitedError,
    PortalRefusedError,
    PortalSilentError,
    PortalUnreachableError,
    RecoveryFailedError,
)
from bridge.portal.state import SESSION_STATES, PortalState, Reading, classify, reading_of
from bridge.single_flight import SingleFlight
from bridge.tws.events import Signal

KEEP_ALIVE_SECONDS: Final = 60.0
LOGIN_WATCH_SECONDS: Final = 10.0
COMPETING_WATCH_SECONDS: Final = 30.0
SECOND_LOOK_SECONDS: Final = 1.0
LONGEST_BACKOFF_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


_CHECK, _ATTEMPT = "check", "attempt"
ESTABLISH_SECONDS: Final = 10.0
FIRST_POLL_SECONDS: Final = 0.25
LONGEST_POLL_SECONDS: Final = 1.0
UNKNOWN_CALL: Final = frozenset({404, 405, 501})


class PortalSession:
    """The session of one gateway's session.

    Args:
        client: calls of that gateway.
        clock: what is waited on.
        compete: whether a recovery may take the session from another login.
    """

    def __init__(self, client: PortalClient, clock: Clock, *, compete: bool = False) -> None:
        self.client = client
        self.compete = compete
        self.state = PortalState.STARTING
        self.since: datetime = clock.now()
        self.session_state: PortalState | None = None  # the last that told of the session
        self.reading = Reading()
        self.last_check_at: datetime | None = None
        self.last_check_error = ""
        self.last_recovery_at: datetime | None = None
        self.last_recovery_error = ""
        self.recoveries = 0
        self.recovery_failures = 0
        self.failures_in_a_row = 0
        self.changed: Signal[[PortalState, PortalState]] = Signal("portal-state")
        self.recovered: Signal[[]] = Signal("portal-recovered")
        self.recovery_failed: Signal[[PortalError]] = Signal("portal-recovery-failed")
        self._clock = clock
        self._recovery = Recovery(client, clock)
        self._backoff = RecoveryBackoff(clock)
        self._running: SingleFlight[str, None] = SingleFlight(clock, lasting=True)
        self._fighting = False  # whether the attempt under way may take the session
        self._checked_at = float("-inf")
        self._unanswered = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to keep the session alive; waits for nothing."""
        self._task = asyncio.create_task(self._keep(), name="portal-session")

    async def stop(self) -> None:
        """Ends the work in hand and closes the connections."""
        await settle(self._task)
        await self._running.cancel()
        await self.client.close()

    def age(self) -> float:
        """Seconds since the last finished check."""
        return self._clock.monotonic() - self._checked_at

    def silent(self, error: PortalSilentError) -> None:
        """A call for somebody got no answer: what that says does not wait for the next check."""
        if self.state is PortalState.CONNECTED:
            self._failed(error)

    async def check(self) -> None:
        """Asks the gateway once and mends what needs no person. Never raises a `PortalError`."""
        await self._running.get(_CHECK, self._check)

    async def recover(self, *, compete: bool | None = None) -> None:
        """Opens the brokerage session now, whatever was last seen.

        Raises:
            PortalError: it did not open; the class says why.
        """
        fight = self.compete if compete is None else compete
        while fight and self._running.running(_ATTEMPT) and not self._fighting:
            # Whatever a peaceful attempt fails of, the right to take the session is not lost.
            with contextlib.suppress(PortalError):
                return await self._running.get(_ATTEMPT, lambda: self._recover(fight))
        return await self._running.get(_ATTEMPT, lambda: self._recover(fight))

    async def mend(self) -> None:
        """A recovery on the bridge's own account: spaced out when they follow one another.

        Raises:
            PortalError: as `recover`; while the next has to wait `CompetingSessionError` when a
                rival is why, else `PortalUnreachableError`.
        """
        if not self._running.running(_ATTEMPT) and self._backoff.wait() > 0:
            if self.state is PortalState.COMPETING:
                raise CompetingSessionError("another login of this user holds the session")
            raise PortalUnreachableError(
                "the brokerage session is closed; the next attempt to open it has to wait",
                retry_after=self._backoff.wait(),
            )
        await self.recover()

    # the loop -----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                await self.check()
            except Exception:
                log.exception("portal-check-failed")
            await self._clock.sleep(self.pause())

    def pause(self) -> float:
        """Seconds until the next check of the loop."""
        match self.state:
            case PortalState.CONNECTED | PortalState.CERTIFICATE_REFUSED:
                return KEEP_ALIVE_SECONDS
            case PortalState.LOGIN_REQUIRED:
                return LOGIN_WATCH_SECONDS
            case PortalState.COMPETING:
                return COMPETING_WATCH_SECONDS
            case PortalState.LIMITED:
                return max(self.client.pacer.penalty_left, 1.0) + 1.0
            case PortalState.UNREACHABLE | PortalState.UPSTREAM_LOST:
                return float(min(2.0 ** min(self._unanswered, 10), LONGEST_BACKOFF_SECONDS))
            case _:
                return min(max(self._backoff.wait(), 2.0), LONGEST_BACKOFF_SECONDS)

    # one check ----------------------------------------------------------------------------------

    async def _check(self) -> None:
        before = self.session_state
        try:
            reading, state = await self._look()
        except PortalError as error:
            self._failed(error)
        else:
            self._seen(state, reading)
            with contextlib.suppress(PortalError):  # recorded where it happened
                await self._react(before)
        self._checked_at = self._clock.monotonic()
        self.last_check_at = self._clock.now()

    async def _look(self) -> tuple[Reading, PortalState]:
        """A tickle, and a second look where it leaves doubt."""
        reading = await self.client.tickle()
        state = classify(reading)
        opening = state is PortalState.DESYNCED and reading.connected is True
        if state is None or reading.authenticated is False or opening:
            # The first answer after a login may falsely deny it, and a session that was just
            # opened is established a moment later: the status after a tickle is true. Gateways
            # that do not show the flags in a tickle are read here as well.
            await self._clock.sleep(SECOND_LOOK_SECONDS if state is not None else 0.0)
            second = await self.client.status()
            if second.sso_alive is None:
                second = _with_sso(second, reading.sso_alive)
            reading, state = second, classify(second)
        if state is None:
            raise PortalUnreachableError("the Client Portal's answer does not tell the session")
        return reading, state

    async def _react(self, before: PortalState | None) -> None:
        login_seen = before is PortalState.LOGIN_REQUIRED and self.state is PortalState.CONNECTED
        desynced = self.state is PortalState.DESYNCED
        rival = self.state is PortalState.COMPETING and self.compete
        if login_seen or ((desynced or rival) and self._backoff.wait() <= 0):
            await self.recover()

    # one recovery -------------------------------------------------------------------------------

    async def _recover(self, compete: bool) -> None:
        self._fighting = compete
        self._backoff.attempted()
        self._enter(PortalState.RECOVERING)
        try:
            reading = await self._recovery.reopen(compete=compete)
        except PortalError as error:
            self.recovery_failures += 1
            self.failures_in_a_row += 1
            self.last_recovery_error = error.detail
            self._failed(error)
            self.recovery_failed.emit(error)
            raise
        self.recoveries += 1
        self.failures_in_a_row = 0
        self.last_recovery_at = self._clock.now()
        self.last_recovery_error = ""
        self._seen(PortalState.CONNECTED, reading)
        self.recovered.emit()

    # what was seen ------------------------------------------------------------------------------

    def _seen(self, state: PortalState, reading: Reading) -> None:
        self.reading = reading
        self._unanswered = 0
        self.last_check_error = ""
        if state is PortalState.CONNECTED:
            self._backoff.connected()
        else:
            self._backoff.lost()
        self._enter(state)

    def _failed(self, error: PortalError) -> None:
        self.last_check_error = error.detail
        match error:
            case LoginRequiredError():
                self.reading = Reading(
                    authenticated=False, connected=False, established=False, sso_alive=False
                )
                self._backoff.lost()
                self._enter(PortalState.LOGIN_REQUIRED)
            case CompetingSessionError():
                self.reading = Reading(authenticated=True, connected=False, competing=True)
                self._enter(PortalState.COMPETING)
            case PortalCertificateError():
                self._enter(PortalState.CERTIFICATE_REFUSED)
            case PortalLimitedError() if self.client.pacer.penalty_left > 0:
                self._enter(PortalState.LIMITED)
            case RecoveryFailedError():
                self._enter(PortalState.DESYNCED)
            case PortalSilentError():
                self._unanswered += 1
                self._enter(PortalState.UPSTREAM_LOST)
            case _:
                self._unanswered += 1
                self._enter(PortalState.UNREACHABLE)

    def _enter(self, state: PortalState) -> None:
        if state in SESSION_STATES:
            self.session_state = state
        if state is self.state:
            return
        before, self.state = self.state, state
        self.since = self._clock.now()
        log.info("portal-state", before=before, state=state, error=self.last_check_error or None)
        self.changed.emit(before, state)


def _with_sso(reading: Reading, sso_alive: bool | None) -> Reading:
    from msgspec.structs import replace

    return replace(reading, sso_alive=sso_alive)


class Recovery:
    """Opens the brokerage session; one attempt at a time is the caller's business."""

    def __init__(self, client: PortalClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def reopen(self, *, compete: bool) -> Reading:
        """Opens the brokerage session; the reading that shows it established.

        Args:
            compete: whether to take the session from another login of the same user.

        Raises:
            CompetingSessionError: another login holds it, and `compete` is false.
            RecoveryFailedError: the calls went through, the session did not open.
            PortalError: a call failed; its class says how.
        """
        if not await self._initialise(compete):
            await self._reauthenticate()
            return await self._await_established() or self._give_up()
        reading = await self._await_established()
        if reading is None:
            await self._reauthenticate()
            reading = await self._await_established()
        return reading or self._give_up()

    async def _initialise(self, compete: bool) -> bool:
        """False when this gateway does not know the call."""
        body = {"publish": True, "compete": compete}
        try:
            answer = await self._client.post("/iserver/auth/ssodh/init", body)
        except PortalRefusedError as error:
            if error.status in UNKNOWN_CALL:
                return False
            raise RecoveryFailedError(f"ssodh/init was refused: {error.detail}") from None
        _require_no_rival(reading_of(answer))
        return True

    async def _reauthenticate(self) -> None:
        try:
            await self._client.post("/iserver/reauthenticate")
        except PortalRefusedError as error:
            raise RecoveryFailedError(f"reauthenticate was refused: {error.detail}") from None

    async def _await_established(self) -> Reading | None:
        """Polls; None when the time is up. A single failing poll does not matter."""
        deadline = self._clock.monotonic() + ESTABLISH_SECONDS
        wait, failure = FIRST_POLL_SECONDS, None
        while True:
            try:
                reading, failure = await self._client.status(), None
            except PortalUnreachableError as error:
                failure = error
            else:
                if classify(reading) is PortalState.CONNECTED:
                    return reading
                _require_no_rival(reading)
            if self._clock.monotonic() + wait > deadline:
                if failure is not None:
                    raise failure
                return None
            await self._clock.sleep(wait)
            wait = min(wait * 2, LONGEST_POLL_SECONDS)

    def _give_up(self) -> Reading:
        raise RecoveryFailedError(
            f"the brokerage session was initialised, but not established within"
            f" {ESTABLISH_SECONDS:g} s"
        )


def _require_no_rival(reading: Reading) -> None:
    if classify(reading) is PortalState.COMPETING:
        raise CompetingSessionError(
            "another login of this user holds the brokerage session", extra={"competing": True}
        )


DELAYS: Final = (0.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds between the starts of an attempt and the next, by attempts so far."""

STABLE_SECONDS: Final = 120.0
"""A session that held this long begins anew."""


class RecoveryBackoff:
    """Counts attempts, successful or not, until the session has held for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts = 0
        self._last_attempt = float("-inf")
        self._connected_since: float | None = None

    def attempted(self) -> None:
        self._settle()
        self._attempts += 1
        self._last_attempt = self._clock.monotonic()

    def connected(self) -> None:
        """The session was seen connected."""
        self._settle()
        if self._connected_since is None:
            self._connected_since = self._clock.monotonic()

    def lost(self) -> None:
        """The session was seen not connected."""
        self._settle()
        self._connected_since = None

    def wait(self) -> float:
        """Seconds until the next automatic attempt may begin."""
        delay = DELAYS[min(self._attempts, len(DELAYS) - 1)]
        return max(0.0, self._last_attempt + delay - self._clock.monotonic())

    def _settle(self) -> None:
        """Forgets the attempts of a session that held; what was last known counts until now."""
        since = self._connected_since
        if since is not None and self._clock.monotonic() - since >= STABLE_SECONDS:
            self._attempts = 0
