"""Who asked for what, and what came of it.

A call that knows what it is about (an order) follows a `trail`; every other call that changes
something, and every one that was refused on its way there, is noted by `bridge.api.dispatch`.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from bridge import logs
from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.store import audit
from bridge.store.audit import AuditEntry
from bridge.store.keys import UNBOUND, KeyBounds
from bridge.store.urgent import Urgent

SENDING: Final = "sending"
_ENTRY_SECONDS: Final = 0.1
"""How long an answer waits for its entry; one whose subject is not in the journal does not."""
KNOWN_REFUSED, KNOWN_REFUSED_A_SECOND = 60.0, 1.0
UNKNOWN_REFUSED, UNKNOWN_REFUSED_A_SECOND = 10.0, 0.1
"""Entries of refused calls, at once and a second: of one key, of all that have none."""


class Caller(Struct, frozen=True):
    """The API key's id (never the key), the id of the request, and how far the key reaches."""

    key_id: str
    request_id: str
    bounds: KeyBounds = UNBOUND


class Trail(Struct):
    """One call's entry in the making; the call fills in what it learns.

    `journaled`: what the call has done is in the journal; else the entry follows when it can.
    `reserve`: of a halt or a cancel, for which the disk has some room left.
    `ended`: its last entry, where that was written together with the outcome (`note_end`).
    """

    caller: Caller
    action: str
    detail: dict[str, Any]
    target: str = ""
    noted: list[AuditEntry] = []
    journaled: bool = True
    reserve: bool = False
    ended: AuditEntry | None = None


class Noted(Struct):
    """What a request's entry in the making knows: whether a trail writes it, what it is about."""

    by_trail: bool = False
    target: str = ""


_noted: ContextVar[Noted | None] = ContextVar("audit-noted", default=None)


def begin() -> Noted:
    """At the beginning of a request that may change something."""
    noted = Noted()
    _noted.set(noted)
    return noted


def about(target: str) -> None:
    """Says what the present request is about, for its entry."""
    noted = _noted.get()
    if noted is not None:
        noted.target = target


class Auditor:
    """Writes the audit log; `aloud`: into the process's log as well."""

    def __init__(self, urgent: Urgent, clock: Clock, *, aloud: bool = True) -> None:
        self._urgent = urgent
        self._clock = clock
        self._aloud = aloud
        self._budgets: dict[str, _Budget] = {}

    @asynccontextmanager
    async def trail(self, caller: Caller, action: str, detail: Any) -> AsyncIterator[Trail]:
        """Around a call: its result, or the code of its error, is logged when it ends."""
        trail = Trail(caller, action, _said(detail))
        noted = _noted.get()
        if noted is not None:
            noted.by_trail = True
        try:
            yield trail
        except BridgeError as error:
            await self._finish(trail, error.code)
            raise
        except BaseException:
            await self._finish(trail, "internal-error")
            raise
        await self._finish(trail, "ok")

    def entry(self, trail: Trail, result: str) -> AuditEntry:
        """The entry as it would be written now."""
        return AuditEntry(
            at=self._clock.now(),
            api_key_id=trail.caller.key_id,
            request_id=trail.caller.request_id,
            action=trail.action,
            target=trail.target,
            detail=trail.detail,
            result=result,
        )

    async def _finish(self, trail: Trail, result: str) -> None:
        """The call's outcome stands, whether or not the journal takes the entry in time."""
        if trail.ended is not None and trail.ended.result == result:
            self._announce_all(trail.noted, trail.ended)
            return
        entry = self.entry(trail, result)
        seconds = _ENTRY_SECONDS if trail.journaled else 0.0
        await self.keep(entry, seconds, trail.noted, reserve=trail.reserve)

    async def keep(
        self,
        entry: AuditEntry,
        seconds: float = 0.0,
        noted: list[AuditEntry] | None = None,
        *,
        reserve: bool = False,
    ) -> None:
        """An entry that follows by itself when the journal does not take it in time.

        `reserve`: of a halt or a cancel, for which the disk has some room left.
        It is a line of the log as well; `noted` are those of transactions before it.
        """
        kept: list[AuditEntry] = []

        def announce() -> None:
            self._announce_all(noted or [], kept[-1])

        def work(connection: sqlite3.Connection) -> None:
            kept.append(audit.add(connection, entry))

        # What was about to be sent is on the disk since before; of the rest a power cut may take a
        # second's, which the log outside has.
        if not await self._urgent.keep(work, announce, seconds, durable=False, reserve=reserve):
            self._announce(entry, journaled=False)

    async def note(
        self, caller: Caller, action: str, target: str, detail: dict[str, Any], result: str
    ) -> None:
        """One whole entry. Refused calls are counted instead when there are very many of them."""
        if result != "ok":
            budget = self._budget(caller.key_id)
            if not budget.allows(self._clock.monotonic()):
                return
            if budget.suppressed:
                detail = {**detail, "suppressed": budget.suppressed}
                budget.suppressed = 0
        await self._finish(Trail(caller, action, detail, target), result)

    def _budget(self, key_id: str) -> _Budget:
        # Ids are those of keys that were let in: a peer cannot make them up.
        rate = KNOWN_REFUSED_A_SECOND if key_id else UNKNOWN_REFUSED_A_SECOND
        most = KNOWN_REFUSED if key_id else UNKNOWN_REFUSED
        return self._budgets.setdefault(key_id, _Budget(most, rate))

    def _announce_all(self, noted: list[AuditEntry], last: AuditEntry) -> None:
        for each in noted:
            if each.sequence < last.sequence:  # else its transaction was rolled back
                self._announce(each)
        self._announce(last)

    def _announce(self, entry: AuditEntry, *, journaled: bool = True) -> None:
        if self._aloud:
            members: dict[str, Any] = msgspec.to_builtins(entry)
            logs.audit(members if journaled else {**members, "journaled": False})


class _Budget:
    """Tokens for entries of refused calls."""

    def __init__(self, most: float, rate: float) -> None:
        self._most = self._left = most
        self._rate = rate
        self._at: float | None = None
        self.suppressed = 0

    def allows(self, now: float) -> bool:
        passed, self._at = now - (self._at if self._at is not None else now), now
        self._left = min(self._most, self._left + passed * self._rate)
        if self._left < 1:
            self.suppressed += 1
            return False
        self._left -= 1
        return True


def _said(detail: Any) -> dict[str, Any]:
    """What the caller said, without the members left at nothing."""
    members: dict[str, Any] = msgspec.to_builtins(detail) if detail is not None else {}
    if isinstance(detail, Struct):
        unsaid = left_at_nothing(detail)
        return {name: value for name, value in members.items() if name not in unsaid}
    return {name: value for name, value in members.items() if value not in (None, "", False, 0)}


def left_at_nothing(said: Struct) -> frozenset[str]:
    """The members, as they are called outside, that say nothing.

    A 0 says something unless it is what is meant when nothing is said: a `targetQuantity` of 0
    closes a position.
    """
    return frozenset(
        outside
        for name, outside, default in _members(type(said))
        if _says_nothing(getattr(said, name), default)
    )


@functools.cache
def _members(kind: type[Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, name outside and default of each; `structs.fields` reads the annotations each time."""
    return tuple((each.name, each.encode_name, each.default) for each in structs.fields(kind))


def _says_nothing(value: Any, default: Any) -> bool:
    return value is None or value in ("", (), [], {}) or (not value and value == default)


def note_sending(connection: sqlite3.Connection, auditor: Auditor, trail: Trail) -> None:
    """In the transaction that writes an order down: should the process die, the log knows who."""
    trail.noted.append(audit.add(connection, auditor.entry(trail, SENDING)))


def note_end(connection: sqlite3.Connection, auditor: Auditor, trail: Trail, result: str) -> None:
    """In the transaction that keeps the call's outcome; take `ended` back when that fails."""
    trail.ended = audit.add(connection, auditor.entry(trail, result))
