"""The kill switch.

It holds in memory at once, whatever becomes of the rest. Then it is written in two places that fail
apart: the journal, and a mark beside it (`bridge.halt_mark`), which a deploy can leave, too.
Trading is halted while any of the three says so. A journal that is not the one from before halts
trading as well, until a person accepts it.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from bridge import halt_mark
from bridge.auditing import Auditor, Caller
from bridge.clock import Clock
from bridge.orders.cancel import Cancelling, CancelResult, OrderCanceller
from bridge.orders.errors import HaltMarkStaysError, JournalNotAcceptedError, TradingHaltedError
from bridge.store import Database, settings
from bridge.store.identity import ACCEPT
from bridge.store.urgent import WAIT_SECONDS, Urgent

log = structlog.get_logger(__name__)

_NAME: Final = "trading.halt"
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
JOURNAL: Final = "journal"
"""Who has halted trading when the journal is not accepted."""
MARK: Final = "mark"
"""Who has halted trading when the mark does not say."""
_STRENGTH: Final[tuple[Cancelling, ...]] = ("none", "opening", "own", "all")
_CANCEL_SECONDS: Final = 0.3
"""How long the answer to a halt waits for its cancels to be on the wire."""
_LIFT: Final = "DELETE /trading/halt lets orders through again"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Halt(Struct, frozen=True, kw_only=True, rename="camel"):
    """Why nothing is sent. `cancel`: which open orders are to be cancelled.

    `asked`: when that was asked for, None as `since`: what was placed after it is not meant.
    `all_cancelled`: the global cancel of `all` has got there, and is not sent again: by then it
    would reach what people have placed since.
    `allow_closing`: orders that only reduce a position pass. `not_accepted`: the journal has to be
    accepted first, whatever else holds; false in what is kept, because it is found out each time.
    """

    since: datetime
    by: str
    reason: str = ""
    cancel: Cancelling = "none"
    allow_closing: bool = False
    not_accepted: bool = False
    asked: datetime | None = None
    all_cancelled: bool = False

    @property
    def cancels_until(self) -> datetime:
        """Orders that were placed after this are not to be cancelled for it."""
        return self.asked or self.since

    @property
    def next_step(self) -> str:
        """What lets orders through again."""
        if not self.not_accepted:
            return _LIFT
        return ACCEPT if self.by == JOURNAL else f"{ACCEPT}; then {_LIFT}"


def _together(first: Halt | None, second: Halt | None) -> Halt | None:
    """Two halts that hold at once, in the words of the first."""
    if first is None or second is None:
        return first or second
    reasons = dict.fromkeys(each.reason for each in (first, second) if each.reason)
    cancelling = [each for each in (first, second) if each.cancel != "none"]
    everybody = [each.all_cancelled for each in cancelling if each.cancel == "all"]
    return msgspec.structs.replace(
        first,
        asked=max((each.cancels_until for each in cancelling), default=None),
        all_cancelled=bool(everybody) and all(everybody),
        reason="; ".join(reasons),
        cancel=max(first.cancel, second.cancel, key=_STRENGTH.index),
        allow_closing=first.allow_closing and second.allow_closing,
        not_accepted=first.not_accepted or second.not_accepted,
    )


def _is_stronger(halt: Halt, other: Halt) -> bool:
    return _STRENGTH.index(halt.cancel) > _STRENGTH.index(other.cancel)


class HaltSwitch:
    """Whether trading is halted, since when and why; kept in the journal and beside it."""

    def __init__(self, database: Database, clock: Clock, urgent: Urgent) -> None:
        self._database = database
        self._folder: Path = database.path.parent
        self._clock = clock
        self._urgent = urgent
        self._begun = clock.now()
        self._halt: Halt | None = None
        self._marked: Halt | None = None
        self._mark: tuple[int, int, int] | None = None
        self._mark_found: tuple[int, int, int] | None = None
        self._mark_left = False
        self._journaled = False
        self._lifting = False

    async def load(self) -> None:
        """Takes over what the last process, or whoever left a mark, wants."""
        self._halt = await self._database.read(stored)
        self._journaled = self._halt is not None
        self._look()
        if self._halt is not None and self._mark is None:
            await self._leave_mark()

    @property
    def halt(self) -> Halt | None:
        """What holds now of a person's halt, the mark's and the journal's, taken together.

        Each keeps what it holds back: closing orders pass when every one of them lets them.
        """
        asked = self._asked()
        why = self._database.identity.why
        if why is None:
            return asked
        return _together(asked, Halt(since=self._begun, by=JOURNAL, reason=why, not_accepted=True))

    @property
    def journaled(self) -> bool:
        """Whether the journal knows of the halt that holds."""
        return self._journaled if self._halt is not None else self._marked is None

    @property
    def survives_restart(self) -> bool:
        """Whether the next process will find the halt that holds."""
        asked = self._halt is not None or self._marked is not None
        return not asked or self._journaled or self._mark is not None or self._mark_left

    def found_mark(self) -> Halt | None:
        """The halt of a mark that asks for more than the halt that is on, once for each mark."""
        self._look()
        if self._marked is None or self._mark == self._mark_found:
            return None
        if self._halt is not None and not _is_stronger(self._marked, self._halt):
            return None
        self._mark_found = self._mark
        return self._marked

    def require_off(self) -> None:
        """Raises while trading is halted; asked at the moment of each send."""
        halt = self.halt
        if halt is not None:
            raise halted(halt)

    def require_closing_allowed(self) -> None:
        """The same for an order that only reduces a position."""
        halt = self.halt
        if halt is not None and not halt.allow_closing:
            raise halted(halt)

    def require_accepted(self) -> None:
        """Raises JournalNotAcceptedError while the journal is not accepted."""
        why = self._database.identity.why
        if why is not None:
            raise JournalNotAcceptedError(f"trading stays halted: {why}")

    def turn_on(
        self, by: str, reason: str, cancel: Cancelling, *, allow_closing: bool = False
    ) -> Halt:
        """Halts trading, from this moment on; `keep` writes it down.

        A halt that holds already keeps its beginning, and what it has to cancel; a second one
        only ever adds to it.
        """
        halt = Halt(
            since=self._clock.now(),
            by=by,
            reason=reason,
            cancel=cancel,
            allow_closing=allow_closing,
        )
        earlier = self._asked()
        if earlier is not None:
            halt = msgspec.structs.replace(
                halt,
                since=earlier.since,
                reason=reason or earlier.reason,
                cancel=max(cancel, earlier.cancel, key=_STRENGTH.index),
                allow_closing=allow_closing and earlier.allow_closing,
                asked=earlier.cancels_until if cancel == "none" else halt.since,
                all_cancelled=cancel != "all" and earlier.all_cancelled,
            )
        self._halt = halt
        self._journaled = self._mark_left = self._lifting = False
        return halt

    async def note_all_cancelled(self) -> None:
        """The gateway has read the global cancel that the halt asked for."""
        if self._lifting:
            return
        if self._marked is not None:
            self._marked = msgspec.structs.replace(self._marked, all_cancelled=True)
        if self._halt is None:
            return
        self._halt = msgspec.structs.replace(self._halt, all_cancelled=True)
        if self._journaled:  # else it is sent once more after a restart
            await self.keep()

    async def keep(self) -> None:
        """Leaves the mark and writes the journal, side by side; both get a moment and no more."""
        halt = self._halt

        def kept() -> None:
            self._journaled = self._journaled or self._halt is halt

        await asyncio.gather(self._leave_mark(), self._urgent.keep(self._store, kept, reserve=True))

    async def turn_off(self) -> bool:
        """Lets orders through again; False when there was no halt.

        Raises:
            StoreError: the journal cannot forget it; trading stays halted.
            HaltMarkStaysError: the mark cannot be taken away; trading stays halted.
        """
        self._look()
        before, marked, self._lifting = self._halt, self._marked, True
        try:
            removed = await self._remove()
        finally:
            self._lifting = False
        self._look()
        if self._halt is not before:  # somebody has halted again meanwhile
            await self.keep()
        else:
            self._halt, self._journaled, self._mark_left = None, False, False
        return removed or marked is not None

    async def _remove(self) -> bool:
        removed = await self._database.write(lambda connection: settings.remove(connection, _NAME))
        try:
            await asyncio.to_thread(halt_mark.remove, self._folder)
        except OSError as error:
            raise HaltMarkStaysError(
                f"the mark {self._folder / halt_mark.NAME} cannot be removed: {error.strerror}"
            ) from None
        return removed

    # the two places -----------------------------------------------------------------------------

    def _store(self, connection: sqlite3.Connection) -> None:
        """Whatever holds when the journal takes it: an entry that comes late undoes nothing."""
        if self._halt is None or self._lifting:
            settings.remove(connection, _NAME)
        else:
            settings.put(connection, _NAME, msgspec.json.encode(self._halt), self._clock.now())

    def _asked(self) -> Halt | None:
        """What somebody has asked for, here or by a mark."""
        self._look()
        return _together(self._halt, self._marked)

    def _look(self) -> None:
        """At the mark; it is read only when it is another than before."""
        try:
            mark = halt_mark.look(self._folder)
        except OSError as error:  # unknown is no permission to send
            reason = f"the data folder cannot be looked at: {error.strerror}"
            self._mark, self._marked = None, Halt(since=self._begun, by=MARK, reason=reason)
            return
        if mark != self._mark or (mark is None) != (self._marked is None):
            self._mark = mark
            said = None if mark is None else halt_mark.read(self._folder)
            self._marked = None if said is None else self._of_mark(said)

    def _of_mark(self, said: dict[str, Any]) -> Halt:
        """What a mark says, as far as it can be understood."""
        found: dict[str, Any] = {"since": self._clock.now(), "by": MARK}
        names = ("since", "by", "reason", "cancel", "allowClosing", "asked", "allCancelled")
        for name in names:
            with suppress(msgspec.ValidationError, KeyError):
                msgspec.convert(found | {name: said[name]}, Halt)
                found[name] = said[name]
        return msgspec.convert(found, Halt)

    async def _leave_mark(self) -> None:
        task = asyncio.create_task(asyncio.to_thread(self._leave), name="halt-mark")
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.wait({task}, timeout=WAIT_SECONDS)

    def _leave(self) -> None:
        """In a thread: a disk that hangs holds nobody up."""
        if self._halt is None:
            return
        said = msgspec.to_builtins(self._halt)
        try:
            try:
                halt_mark.write(self._folder, said)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._leave_on_full_disk(said)
            self._mark_left = True
            halt_mark.sync(self._folder)
        except OSError as error:
            log.error("halt-mark-not-left", error=str(error), left=self._mark_left)

    def _leave_on_full_disk(self, said: dict[str, Any]) -> None:
        if self._urgent.reserve.give_up():
            log.warning("reserve-given-up")
            with suppress(OSError):
                halt_mark.write(self._folder, said)
                return
        halt_mark.leave_empty(self._folder)


class HaltView(Struct, rename="camel", frozen=True, kw_only=True):
    """The kill switch, and what became of the open orders that were to be cancelled with it.

    `journaled` is false while the journal does not know of the halt, `survivesRestart` when a
    restarted bridge would not either.
    """

    halted: bool
    since: datetime | None = None
    by: str | None = None
    reason: str | None = None
    cancel: Cancelling = "none"
    allow_closing: bool = False
    journaled: bool = True
    survives_restart: bool = True
    cancelled: CancelResult | None = None
    next_step: str | None = None


class TradingHalt:
    """Halts trading, and lets it go on, for whoever calls."""

    def __init__(self, switch: HaltSwitch, canceller: OrderCanceller, auditor: Auditor) -> None:
        self._switch = switch
        self._canceller = canceller
        self._auditor = auditor

    async def halt(
        self, reason: str, cancel: Cancelling, caller: Caller, *, allow_closing: bool = False
    ) -> HaltView:
        """Nothing new goes out from here on; then the open orders; the journal holds nothing up."""
        switch = self._switch
        found = switch.found_mark()  # what it asks for nobody has done yet, and this halt hides it
        if found is not None:
            cancel = max(cancel, found.cancel, key=_STRENGTH.index)
        halt = switch.turn_on(caller.key_id, reason, cancel, allow_closing=allow_closing)
        detail = {"reason": reason, "cancel": cancel, "allowClosing": halt.allow_closing}
        async with self._auditor.trail(caller, "trading.halt", detail) as trail:
            trail.reserve = True
            cancelling = self._canceller.cancel_open(cancel, _CANCEL_SECONDS)
            _, cancelled = await asyncio.gather(switch.keep(), cancelling)
            if cancel == "all" and not cancelled.failed and await self._canceller.is_heard():
                await switch.note_all_cancelled()
            trail.journaled = switch.journaled
            return self.view(None if cancel == "none" else cancelled)

    async def resume(self, caller: Caller) -> HaltView:
        """Lets orders through again."""
        async with self._auditor.trail(caller, "trading.resume", None):
            await self._switch.turn_off()
            self._switch.require_accepted()
        return HaltView(halted=False)

    def view(self, cancelled: CancelResult | None = None) -> HaltView:
        """Whether trading is halted, and what was `cancelled` for it just now."""
        switch = self._switch
        halt = switch.halt
        if halt is None:
            return HaltView(halted=False, cancelled=cancelled)
        step = halt.next_step
        if not switch.survives_restart:
            step = f"Do not restart the bridge: it would forget this halt. {step}"
        if cancelled is not None and cancelled.failed:
            step = (
                "Some cancels could not be sent: they are repeated as soon as the gateway is back"
            )
        return HaltView(
            halted=True,
            since=halt.since,
            by=halt.by,
            reason=halt.reason or None,
            cancel=halt.cancel,
            allow_closing=halt.allow_closing,
            journaled=switch.journaled,
            survives_restart=switch.survives_restart,
            cancelled=cancelled,
            next_step=step,
        )


def stored(connection: sqlite3.Connection) -> Halt | None:
    """What the journal says; asked again in the transaction that writes an order down."""
    value = settings.get(connection, _NAME)
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=Halt)
    except msgspec.MsgspecError:  # there was one, whatever it said
        return Halt(since=_LONG_AGO, by="", reason="the halt in the journal cannot be read")


def halted(halt: Halt, more: str = "") -> TradingHaltedError:
    """The error for an order that comes while it holds."""
    why = "".join(f": {each}" for each in (halt.reason, more) if each)
    return TradingHaltedError(
        f"trading is halted since {halt.since:%Y-%m-%d %H:%M:%S} UTC{why}",
        next_step=halt.next_step if halt.not_accepted else None,
        extra={"since": halt.since, "reason": halt.reason},
    )
