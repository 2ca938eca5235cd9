"""Previewed orders, each under a token that places it at most once; kept in a file.

The file outlives the server: an agent that repeats place_order after the server died finds its
token again, and with it the same idempotency key. What was previewed cannot be changed.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALID_SECONDS: Final = 120.0
"""How long after its preview an order may be placed."""
KEPT_SECONDS: Final = 7 * 86400.0
"""How long a token is remembered, so that a late repetition learns what became of its order."""
MOST: Final = 10_000
_TABLE: Final = """CREATE TABLE IF NOT EXISTS previews (
    token TEXT PRIMARY KEY, body TEXT NOT NULL, sentence TEXT NOT NULL, account TEXT NOT NULL,
    made REAL NOT NULL, attempted REAL, order_id TEXT)"""


@dataclass(frozen=True, slots=True)
class Preview:
    """An order as it was previewed; times are seconds since the epoch.

    `attempted` is when it was last sent to the bridge, `order_id` what the bridge answered.
    """

    token: str
    body: dict[str, Any]
    sentence: str
    account: str
    made: float
    attempted: float | None
    order_id: str | None

    @property
    def key(self) -> str:
        """Its idempotency key: the same for every attempt."""
        return f"mcp-{self.token}"

    def valid(self, now: float) -> bool:
        """Whether it may be sent now. A clock that was set back makes nothing valid again."""
        return self.made - 1 <= now <= self.made + VALID_SECONDS


class Previews:
    """The file; one for each target and scope of a machine."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # its owner's alone before SQLite opens it, whatever the umask
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        self._connection = sqlite3.connect(
            file, timeout=10, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(_TABLE)
        self._forget()

    def close(self) -> None:
        self._connection.close()

    def now(self) -> float:
        """The time that tokens go by."""
        return self._clock()

    def keep(self, body: dict[str, Any], sentence: str, account: str) -> str:
        """The token of a new preview."""
        self._forget()
        token = secrets.token_urlsafe(12)
        self._connection.execute(
            "INSERT INTO previews VALUES (?, ?, ?, ?, ?, NULL, NULL)",
            (token, json.dumps(body), sentence, account, self._clock()),
        )
        return token

    def find(self, token: str) -> Preview | None:
        """What was previewed under the token."""
        found = self._connection.execute(
            "SELECT token, body, sentence, account, made, attempted, order_id"
            " FROM previews WHERE token = ?",
            (token,),
        ).fetchone()
        return None if found is None else Preview(found[0], json.loads(found[1]), *found[2:])

    def note_attempt(self, token: str) -> None:
        """It is on its way: written to the disk before anything is sent."""
        self._connection.execute(
            "UPDATE previews SET attempted = ? WHERE token = ?", (self._clock(), token)
        )

    def note_order(self, token: str, order_id: str) -> None:
        """It became this order, and is never sent again."""
        self._connection.execute(
            "UPDATE previews SET order_id = ? WHERE token = ?", (order_id, token)
        )

    def _forget(self) -> None:
        self._connection.execute(
            "DELETE FROM previews WHERE made < ? OR token NOT IN"
            " (SELECT token FROM previews ORDER BY made DESC LIMIT ?)",
            (self._clock() - KEPT_SECONDS, MOST),
        )
