"""Mends a gateway that hangs although it is logged in: by its own means first, then a person's.

Three hangs are known. *Silent*: the API's port accepts and nothing answers. *Farms*: the
market-data farms stay broken (2103) and none is up. *Upstream*: the gateway says that it has lost
the broker (1100), and it stays so. Each is given time to pass; then the gateway's controller is
told to connect its data anew (RECONNECTDATA), then to restart with its session kept (RESTART, which
asks for no second factor), then a person is told. Each step is taken at most once in `AGAIN`, also
over restarts of the bridge. A broker that is away is not restarted against: upstream goes from the
first step to the person.

Nothing is done while the login is anything but complete (somebody may be asked), around planned
restarts, in the broker's maintenance, or while nothing tells how the login stands: what is unknown
decides nothing.

The bridge cannot reach into the gateway's container: it leaves a request in a file of a folder that
both have, `SECONDS WORD`, and a script there passes it on (templates/gateway/login.sh).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog

from bridge.alerts.messages import AlertKind
from bridge.alerts.service import AlertService
from bridge.clock import Clock, repeat, settle
from bridge.login import states
from bridge.login.spacing import maintenance_until
from bridge.services import Need, Services
from bridge.store.identity import replace_file
from bridge.tws.connection_context import ConnectionContext
from bridge.tws.connection_state import ConnectionState, can_trade
from bridge.tws.session import TwsSession

LOOK_SECONDS: Final = 5.0
AGAIN: Final = 6 * 3600.0
"""Seconds within which each step is taken once."""
AROUND: Final = timedelta(minutes=5)
"""Before and after a planned restart nothing is done."""
RECONNECT_DATA, RESTART, PERSON = "RECONNECTDATA", "RESTART", "person"
CLOCKS_DIFFER: Final = 5.0
BETWEEN: Final = 60.0
"""Seconds for which a gateway that hangs may be connected anew, only to hang again: one that takes
each connection and answers nothing on it is not seen as hanging all the time."""
HOLDS: Final = {RECONNECT_DATA: 120.0, RESTART: 600.0}
"""Seconds that a step gets before the next one."""
log = structlog.get_logger(__name__)


class Hang(StrEnum):
    """What does not work."""

    SILENT = "silent"
    FARMS = "farms"
    UPSTREAM = "upstream"


PATIENCE: Final = {Hang.SILENT: 180.0, Hang.FARMS: 600.0, Hang.UPSTREAM: 900.0}
"""Seconds that a hang has to last before anything is done."""
STEPS: Final = {
    Hang.SILENT: (RECONNECT_DATA, RESTART, PERSON),
    Hang.FARMS: (RECONNECT_DATA, RESTART, PERSON),
    Hang.UPSTREAM: (RECONNECT_DATA, PERSON),
}
WORDS: Final = {
    Hang.SILENT: "The gateway is logged in, and its API does not answer",
    Hang.FARMS: "The gateway is logged in, and all its market-data farms are broken",
    Hang.UPSTREAM: "The gateway is logged in, and has no connection to the broker",
}


class Watchdog:
    """Looks every few seconds; `needs` tells the person's step.

    Args:
        context: what is known of the session.
        folder: where requests are left; None: nobody takes them, and only a person is told.
        kept: where the times of the steps are kept over restarts.
        note: adds an event of the connection.
    """

    def __init__(
        self,
        context: ConnectionContext,
        clock: Clock,
        folder: Path | None,
        kept: Path,
        note: Callable[..., None],
    ) -> None:
        self._context = context
        self._clock = clock
        self._folder = folder
        self._kept = kept
        self._note = note
        self._since: tuple[Hang, float] | None = None
        self._seen = 0.0
        self._next_at = 0.0
        self._taken: dict[str, float] = _read(kept)
        self._taken_at: dict[str, float] = {}  # the same, monotonic
        self.person: Hang | None = None
        self.alerts: AlertService | None = None

    async def run(self) -> None:
        await repeat(self._clock, LOOK_SECONDS, "watchdog", self.look, at_once=True)

    def look(self) -> None:
        """One look, and the next step when it is due."""
        now = self._clock.monotonic()
        hang = self.hang()
        if hang is None:
            if not self._between(now):
                self._since = self.person = None
                self._tell_end()
            return
        self._seen = now
        if self._since is None or self._since[0] is not hang:
            self._since = (hang, now)
            self._next_at = now + PATIENCE[hang]
            if self.person is not None:
                self.person = hang
        if now >= self._next_at and self.person is None:
            self._step(hang, now)
        self._tell_person()

    def _between(self, now: float) -> bool:
        """Whether a connection is only tried again between two that hang: it has not ended."""
        trades = can_trade(self._context.status.facts)
        hung = self._since is not None and now - self._seen <= BETWEEN
        return hung and not trades and not self._explained()

    def _tell_person(self) -> None:
        """At each look: what the limits of alerts hold back now is told later."""
        need = self.need()
        if self.alerts is not None and need is not None:
            body = f"{need.message}.\n\n{need.next_step}"
            self.alerts.raised(AlertKind.GATEWAY_HANGS, body, need.code)

    def _tell_end(self) -> None:
        """Good news only where all is known to work: a hang may only be explained by now."""
        if self.alerts is None:
            return
        context = self._context
        if can_trade(context.status.facts) and not _farms_are_dead(context.diagnostics.farms):
            self.alerts.cleared(AlertKind.GATEWAY_HANGS)
        else:
            self.alerts.forgotten(AlertKind.GATEWAY_HANGS)

    def hang(self) -> Hang | None:
        """What hangs now, if that is known and nothing explains it."""
        if self._explained():
            return None
        context = self._context
        state = context.status.state
        if state is ConnectionState.STALLED:
            return Hang.SILENT
        if state is ConnectionState.UPSTREAM_LOST:
            return Hang.UPSTREAM
        return Hang.FARMS if _farms_are_dead(context.diagnostics.farms) else None

    def _explained(self) -> bool:
        """Whether the login, a planned restart or the maintenance explains it, or may do so."""
        seconds = self._clock.now().timestamp()
        login = self._context.login_file.read(seconds)
        if login is None or login.state != states.LOGGED_IN or self._restarts_soon():
            return True
        return maintenance_until(seconds) != 0

    def _restarts_soon(self) -> bool:
        calendar, now = self._context.target.restarts, self._clock.now()
        if any(calendar.active(now + by) for by in (timedelta(0), -AROUND, AROUND)):
            return True
        left = calendar.seconds_left(now)
        return left is not None and left < AROUND.total_seconds()

    def _step(self, hang: Hang, now: float) -> None:
        for step in STEPS[hang]:
            if step == PERSON:
                self.person = hang
                self._note("watchdog", hang=hang.value, step=PERSON)
                log.error("gateway-hangs", hang=hang.value)
                return
            if self._folder is None or self._took(step):
                continue
            if not self._ask(step):
                continue
            self._note("watchdog", hang=hang.value, step=step.lower())
            log.warning("watchdog", hang=hang.value, step=step)
            self._next_at = now + HOLDS[step]
            return

    def _took(self, step: str) -> bool:
        at = self._taken_at.get(step)
        if at is not None:  # by this process: a clock that is set says nothing of how long ago
            return self._clock.monotonic() - at < AGAIN
        ago = self._clock.now().timestamp() - self._taken.get(step, -AGAIN)
        return 0 <= ago < AGAIN

    def _ask(self, step: str) -> bool:
        """Leaves the request; the time is kept first, so that it is never asked for twice."""
        assert self._folder is not None  # noqa: S101 - its only caller has looked
        seconds = self._clock.now().timestamp()
        before, taken = self._taken, {**self._taken, step: seconds}
        session = self._context.target.session or "paper"
        try:
            self._keep(taken)
            request = f"{seconds:.0f} {step}\n".encode()
            replace_file(self._folder / f"request-{session}", request, durable=False)
        except OSError as error:
            log.warning("watchdog-cannot-ask", error=str(error))
            with contextlib.suppress(OSError):
                self._keep(before)  # a person is not told of a step that was not taken
            return False
        self._taken_at[step] = self._clock.monotonic()
        return True

    def _keep(self, taken: dict[str, float]) -> None:
        replace_file(self._kept, json.dumps(taken).encode(), durable=True)
        self._taken = taken

    def _was_done(self, step: str) -> bool:
        """Whether it was asked for and the controller took it, as far as the container tells."""
        if step not in self._taken or not self._took(step):
            return False
        login = self._context.login_file.read(self._clock.now().timestamp())
        if login is None or not login.seen:
            return True
        return login.requested.get(step, 0.0) >= self._taken[step] - CLOCKS_DIFFER

    def need(self) -> Need | None:
        """What a person has to know, once the gateway's own means have not helped."""
        if self.person is None:
            return None
        tried = [step for step in STEPS[self.person] if self._was_done(step)]
        words = {RECONNECT_DATA: "its data were connected anew", RESTART: "it was restarted"}
        what = " and ".join(words[step] for step in tried)
        return Need(
            code=f"gateway-hangs-{self.person}",
            message=f"{WORDS[self.person]}{f', although {what}' if what else ''}",
            next_step="./deploy.py doctor; ./deploy.py restart gateway (with --cold: a full login)",
        )


def install(services: Services) -> None:
    """Looks after the gateway, where one is and `gateway.watchdog` is on."""
    environment = services.environment
    if TwsSession not in services or not environment.watchdog:
        return
    context = services[TwsSession].context
    watchdog = Watchdog(
        context,
        services.clock,
        environment.gateway_requests,
        environment.data_dir / "watchdog.json",
        context.diagnostics.note,
    )
    if AlertService in services:
        watchdog.alerts = services[AlertService]
    services.needs.append(watchdog.need)
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.create_task(watchdog.run(), name="watchdog"))

    async def stop() -> None:
        await settle(*tasks)

    services.on_start(start)
    services.on_stop(stop)


def _farms_are_dead(farms: dict[str, str]) -> bool:
    """Whether market data come from nowhere: one farm is broken, and none is up."""
    data = [text for text in farms.values() if text.startswith("Market data farm")]
    broken = [text for text in data if "broken" in text or "disconnected" in text]
    return bool(broken) and not any("OK" in text for text in data)


def _read(file: Path) -> dict[str, float]:
    try:
        found: Any = json.loads(file.read_text())
        return {str(step): float(at) for step, at in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
