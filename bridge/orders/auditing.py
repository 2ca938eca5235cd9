"""Who asked for what, and what came of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.store import Database, audit
from bridge.store.audit import AuditEntry
from bridge.store.keys import UNBOUND, KeyBounds

log = structlog.get_logger(__name__)

SENDING: Final = "sending"
_ENTRY_SECONDS: Final = 0.5


class Caller(Struct, frozen=True):
    """The API key's id (never the key), the id of the request, and how far the key reaches."""

    key_id: str
    request_id: str
    bounds: KeyBounds = UNBOUND


class Trail(Struct):
    """One call's entry in the making; the call fills in what it learns."""

    caller: Caller
    action: str
    detail: dict[str, Any]
    target: str = ""


class Auditor:
    """Writes the audit log."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._writing: set[asyncio.Task[AuditEntry]] = set()

    @asynccontextmanager
    async def trail(self, caller: Caller, action: str, detail: Any) -> AsyncIterator[Trail]:
        """Around a call: its result, or the code of its error, is logged when it ends."""
        trail = Trail(caller, action, _said(detail))
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
        entry = self.entry(trail, result)
        writing = asyncio.create_task(
            self._database.write(lambda connection: audit.add(connection, entry))
        )
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        await asyncio.wait({writing}, timeout=_ENTRY_SECONDS)

    def _written(self, writing: asyncio.Task[AuditEntry]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and (error := writing.exception()):
            log.error("audit-entry-not-kept", error=str(error))


def _said(detail: Any) -> dict[str, Any]:
    """What the caller said, without the members left at nothing."""
    members: dict[str, Any] = msgspec.to_builtins(detail) if detail is not None else {}
    return {name: value for name, value in members.items() if value not in (None, "", False, 0)}


def note_sending(connection: sqlite3.Connection, auditor: Auditor, trail: Trail) -> None:
    """In the transaction that writes an order down: should the process die, the log knows who."""
    audit.add(connection, auditor.entry(trail, SENDING))
