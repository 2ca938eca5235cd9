"""`trading.cancel_when_silent`: what opens a position ends with a client that falls silent.

A client arms it with its first heartbeat (`POST /trading/heartbeat`, or `{"op": "heartbeat"}` on
the stream) and has to send the next within the set seconds, until it says that it leaves. Cancelled
is what a halt cancels by default; orders that only close a position stay. Trading is not halted.

Armed keys are kept in a file of their own, so that a restart of the bridge in between forgets
nobody: each gets its whole time anew from the start, and whoever stays silent then is dealt with.
Time in which this very process was held up is nobody's silence: what was sent meanwhile is read
first. While there is no session nothing can be cancelled: it is tried again until it can, and a
person is told.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from bridge.auditing import Auditor, Caller
from bridge.clock import Clock, settle
from bridge.errors import BridgeError, Kind
from bridge.orders.cancel import CancelResult
from bridge.services import Need
from bridge.store import identity
from bridge.tws.events import Signal

FILE_NAME: Final = "heartbeats.json"
LOOK_SECONDS: Final = 0.5
KEEP_SECONDS: Final = 1.0
MOST_KEYS: Final = 256
HELD_UP_SECONDS: Final = 0.5
"""A look that comes so much late: the process was held up."""
SILENCE_PATIENCE_SECONDS: Final = 2.0
"""So long what is held is waited for, which tells orders that only close from the others."""
TELL_SECONDS: Final = 30.0
"""So long it is only tried again when the orders of a silent client cannot be cancelled."""
log = structlog.get_logger(__name__)


class HeartbeatOffError(BridgeError):
    """Nobody is watched: `trading.cancel_when_silent` is not set."""

    code = "heartbeat-off"
    kind = Kind.CONFLICT
    next_step = "Set trading.cancel_when_silent in stack.yaml and deploy"


class HeartbeatView(Struct, rename="camel", frozen=True, kw_only=True):
    """Whether this key is watched, and until when it has to be heard again."""

    armed: bool
    silent_after_seconds: float | None = None
    deadline: datetime | None = None
    survives_restart: bool = True


class SilenceWatch:
    """Watches the keys that have sent a heartbeat.

    Args:
        seconds: the longest silence; None: switched off.
        folder: where the armed keys are kept.
        cancel: puts the cancels on the wire; raises `BridgeError` while there is no session.
    """

    def __init__(
        self,
        seconds: float | None,
        folder: Path,
        clock: Clock,
        auditor: Auditor,
        cancel: Callable[[], Awaitable[CancelResult]],
        note: Callable[..., object],
    ) -> None:
        self.fell_silent: Signal[[str, CancelResult]] = Signal("client-silent")
        self.not_dealt_with: Signal[[str, str]] = Signal("client-silent-waits")
        """A key that is silent, and why its orders could not be cancelled; once."""
        self.exists: Callable[[str], bool] = _always
        """Whether this key is there still: of one that was revoked nobody can be heard again."""
        self._seconds = seconds
        self._file = folder / FILE_NAME
        self._clock = clock
        self._auditor = auditor
        self._cancel = cancel
        self._note = note
        self._due: dict[str, float] = {}
        self._silent: dict[str, datetime] = {}  # dealt with, and not heard since
        self._waiting: dict[str, float] = {}  # overdue, and not dealt with since
        self._told: set[str] = set()
        self._why = ""
        self._survives = True
        self._forgotten = False
        self._keeping = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Arms those that were armed before; a file that cannot be read says nothing of them."""
        if self._seconds is None:
            return
        until = self._clock.monotonic() + self._seconds
        try:
            kept = json.loads(self._file.read_bytes())
            keys = [str(each) for each in kept["armed"]][:MOST_KEYS]
            self._due = dict.fromkeys(keys, until)
            silent = list(kept.get("silent", {}).items())[:MOST_KEYS]
            self._silent = {str(key): datetime.fromisoformat(at) for key, at in silent}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("heartbeats-unreadable", file=self._file.name, error=str(error)[:200])
            self._forgotten = not self._due

    async def beat(self, key_id: str) -> HeartbeatView:
        """A sign of life, which arms the key if it is not yet.

        Raises:
            HeartbeatOffError: nobody is watched.
        """
        if self._seconds is None:
            raise HeartbeatOffError("heartbeats are switched off here")
        fresh = key_id not in self._due
        if fresh and len(self._due) >= MOST_KEYS:
            raise HeartbeatOffError(f"{MOST_KEYS} keys are watched already", retry_after=60.0)
        self._due[key_id] = self._clock.monotonic() + self._seconds
        self._silent.pop(key_id, None)
        self._waits_no_longer(key_id)
        if fresh:
            self._forgotten = False
            await self._keep()
            self._note("heartbeat-armed", key=key_id, seconds=self._seconds)
        return HeartbeatView(
            armed=True,
            silent_after_seconds=self._seconds,
            deadline=self._clock.now() + timedelta(seconds=self._seconds),
            survives_restart=self._survives,
        )

    async def leave(self, key_id: str) -> HeartbeatView:
        """The client leaves on purpose: nothing is cancelled for it."""
        armed = self._due.pop(key_id, None) is not None
        silent = self._silent.pop(key_id, None) is not None
        if armed or silent:
            await self._keep()
        if armed:
            self._note("heartbeat-off", key=key_id)
        self._waits_no_longer(key_id)
        return HeartbeatView(armed=False, survives_restart=self._survives)

    async def look(self) -> None:
        """Deals with who is overdue; one that could not be dealt with is tried at the next look."""
        now = self._clock.monotonic()
        overdue = [key for key, until in self._due.items() if until <= now]
        if not overdue:
            return
        try:
            result = await self._cancel()
        except BridgeError as error:
            self._waits(overdue, error.detail)
            return
        if result.failed:
            self._waits(overdue, f"{len(result.failed)} of them were not taken")
            return
        for key in overdue:
            if self._due.get(key, now + 1) > now:
                continue  # heard again meanwhile: watched on
            del self._due[key]
            self._waits_no_longer(key)
            self._silent[key] = self._clock.now()
            detail = {"cancelled": list(result.requested), "kept": list(result.kept)}
            self._note("client-silent", key=key, **detail)
            log.error("client-silent", key=key, **detail)
            self.fell_silent.emit(key, result)
            await self._auditor.note(Caller(key, ""), "trading.silence", key, detail, "ok")
        await self._keep()

    def _waits(self, keys: list[str], why: str) -> None:
        """They are silent, and what they have open could not be cancelled: logged and told once."""
        now, self._why = self._clock.monotonic(), why
        keys = [key for key in keys if self._due.get(key, now + 1) <= now]  # not heard meanwhile
        fresh = [key for key in keys if key not in self._waiting]
        self._waiting |= dict.fromkeys(fresh, now)
        if fresh:
            log.error("silent-client-not-dealt-with", keys=fresh, reason=why)
        for key in keys:
            if key not in self._told and now - self._waiting[key] >= TELL_SECONDS:
                self._told.add(key)
                self.not_dealt_with.emit(key, why)

    def _waits_no_longer(self, key: str) -> None:
        self._waiting.pop(key, None)
        self._told.discard(key)

    def need(self) -> Need | None:
        """What a person should know: who fell silent and has not come back."""
        if self._waiting:
            names = ", ".join(sorted(self._waiting))
            return Need(
                code="client-silent",
                message=f"A client fell silent ({names}), and its opening orders could not be"
                f" cancelled yet: {self._why}",
                next_step="It is tried again until it can be done; TWS or the Client Portal can"
                " cancel them now",
            )
        if self._forgotten:
            return Need(
                code="client-silent",
                message="Which clients send heartbeats is not known: what was kept of it before the"
                " restart cannot be read",
                next_step="See that each client runs: its next heartbeat has it watched again",
            )
        silent = sorted(key for key in self._silent if self.exists(key))
        if not silent:
            return None
        return Need(
            code="client-silent",
            message=f"A client fell silent ({', '.join(silent)}): its opening orders were"
            " cancelled",
            next_step="Look after the client; its next heartbeat, or DELETE /trading/heartbeat"
            " with its key, ends this; revoking the key does, too",
        )

    def start(self) -> None:
        """Begins to look, where a silence is set."""
        if self._seconds is not None:
            self.load()
            self._task = asyncio.create_task(self._run(), name="silence-watch")

    async def stop(self) -> None:
        await settle(self._task)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("silence-watch-failed")
            due = self._clock.monotonic() + LOOK_SECONDS
            await self._clock.sleep(LOOK_SECONDS)
            self._held_up(self._clock.monotonic() - due)

    def _held_up(self, late: float) -> None:
        """What was sent while this process was held up is not read yet: that is no silence."""
        if late >= HELD_UP_SECONDS and self._due:
            log.warning("heartbeats-not-read", seconds=round(late, 1))
            self._due = {key: until + late for key, until in self._due.items()}

    async def _keep(self) -> None:
        """Off the loop and bounded: a disk that hangs holds up no heartbeat and no order."""
        try:
            async with asyncio.timeout(KEEP_SECONDS), self._keeping:  # the newest is written last
                silent = {key: at.isoformat() for key, at in self._silent.items()}
                text = json.dumps({"armed": sorted(self._due), "silent": silent}).encode()
                await asyncio.to_thread(identity.replace_file, self._file, text, durable=True)
        except (OSError, TimeoutError) as error:
            self._survives = False
            log.error("heartbeats-not-kept", error=str(error) or "the disk does not answer")
        else:
            self._survives = True


def _always(_: str) -> bool:
    return True
