"""Opens the brokerage session again under a login that lives on.

`POST /iserver/auth/ssodh/init` with `{"publish": true, "compete": …}`, then status reads until the
session is established. `/iserver/reauthenticate`, the older way, is only used when a gateway does
not know the init or when the init did not lead anywhere.

Recoveries that follow one another, as with a session that flaps, are spaced out; however many ask
at once, one runs and all get its outcome.
"""

from __future__ import annotations

from typing import Final

from bridge.clock import Clock
from bridge.portal.client import PortalClient
from bridge.portal.errors import (
    CompetingSessionError,
    PortalRefusedError,
    PortalUnreachableError,
    RecoveryFailedError,
)
from bridge.portal.state import PortalState, Reading, classify, reading_of

ESTABLISH_SECONDS: Final = 10.0
FIRST_POLL_SECONDS: Final = 0.25
LONGEST_POLL_SECONDS: Final = 1.0
UNKNOWN_CALL: Final = frozenset({404, 405, 501})


class Recovery:
    """One attempt at a time is the caller's business (`bridge.portal.session`)."""

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
