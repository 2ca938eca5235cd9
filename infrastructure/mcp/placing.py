"""Orders in two steps: previewed, then placed at most once.

    preview ──> token, sentence          what is kept cannot be changed
    place(token, sentence)
      never sent      ──> within 120 s: noted, sent with the token's idempotency key
      sent, no answer ──> within 120 s: sent again with the same key; later: looked for, never sent
      answered        ──> read, never sent

The bridge sends one key at most once, so a repetition is never a second order. Past its time a
token sends nothing, so a repetition that comes late never places at a price of long ago.

Previews are kept in a file that outlives the server: an agent that repeats place_order after the
server died finds its token again, and with it the same idempotency key.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from infrastructure.errors import GangwayError
from infrastructure.mcp.bridge import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.mcp.bridge import Answer, BridgeClient

VALID_SECONDS: Final = 120.0
"""How long after its preview an order may be placed."""
KEPT_SECONDS: Final = 7 * 86400.0
"""How long a token is remembered, so that a late repetition learns what became of its order."""
MOST: Final = 10_000
_TABLE: Final = """CREATE TABLE IF NOT EXISTS previews (
    token TEXT PRIMARY KEY, body TEXT NOT NULL, sentence TEXT NOT NULL, account TEXT NOT NULL,
    made REAL NOT NULL, attempted REAL, order_id TEXT)"""
SETTLED_SECONDS: Final = 60.0
"""An order that the journal does not hold so long after it was sent did not arrive: the bridge
answers any request, or gives it up, well within this."""
_PAGE: Final = 500
_UNCERTAIN: Final = frozenset({500, 502, 504})
"""Statuses after which an order may be on its way."""


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


class Refused(GangwayError):  # noqa: N818 - reads as what happened
    """The bridge said no."""


def refusal(answer: Answer) -> Refused:
    """The bridge's problem document as an error."""
    body = answer.body if isinstance(answer.body, dict) else {}
    found = Refused(
        str(body.get("detail") or body.get("title") or f"the bridge answers {answer.status}"),
        hint=str(body.get("nextStep") or ""),
        code=str(body.get("code") or "bridge-refused"),
    )
    reasons = [str(each.get("message", each)) for each in body.get("violations") or ()]
    reasons += [f"{e.get('field')}: {e.get('message')}" for e in body.get("errors") or ()]
    found.details = "; ".join(reasons)
    return found


def sentence(body: dict[str, Any], account: str) -> str:
    """The whole order on a line, as a person confirms it: nothing that it asks for is left out."""
    left = dict(body)
    words = [str(left.pop("action")), _shown(left.pop("quantity")), str(left.pop("symbol"))]
    parts = ("secType", "expiration", "strike", "right")
    words += [_shown(left.pop(name)) for name in parts if left.get(name) is not None]
    words.append(str(left.pop("orderType")))
    left.pop("account", None)
    words += [f"{name}={_shown(value)}" for name, value in sorted(left.items())]
    return " ".join([*words, f"account={account}"])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{name}={_shown(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


class Placing:
    """What preview_order and place_order do."""

    def __init__(self, bridge: BridgeClient, previews: Previews) -> None:
        self._bridge, self._previews = bridge, previews

    def preview(self, body: dict[str, Any]) -> dict[str, Any]:
        """The bridge's preview; of an order that would be accepted with its token and sentence."""
        answer = self._bridge.request("POST", "/order/preview", body=body)
        if answer.status != 200:
            raise refusal(answer)
        found: dict[str, Any] = {
            name: value for name, value in answer.body.items() if value not in (None, [], "")
        }
        if not found.get("accepted"):
            return found
        said = sentence(body, str(found.get("account", "")))
        token = self._previews.keep(body, said, str(found.get("account", "")))
        return {**found, "order": said, "token": token, "validSeconds": 120}

    def required(self, token: str, said: str) -> Preview:
        """The previewed order that is meant.

        Raises:
            Refused: the token is not known, belongs to another order, or is too old to send.
        """
        found = self._previews.find(token)
        if found is None:
            raise Refused(
                "no order was previewed under this token",
                hint="preview the order first; if it may have been placed, look in orders",
                code="unknown-token",
            )
        if " ".join(said.split()) != " ".join(found.sentence.split()):
            raise Refused(
                f"the token is for another order: {found.sentence}",
                hint="repeat `order` as preview_order gave it",
                code="token-of-another-order",
            )
        if found.attempted is None and not found.valid(self._previews.now()):
            raise Refused(
                "the preview is older than 120 seconds; nothing was sent",
                hint="preview the order again",
                code="token-expired",
            )
        return found

    def needs_person(self, preview: Preview) -> bool:
        """Whether a person has to confirm: not for paper money, and not a repetition.

        Whatever is not certainly paper counts as live: IBKR's paper accounts begin with a D.
        """
        if preview.attempted is not None:
            return False
        answer = self._bridge.request("GET", "/health")
        mode = answer.body.get("tradingMode") if isinstance(answer.body, dict) else None
        return mode != "paper" or not preview.account.upper().startswith("D")

    def place(self, token: str, said: str) -> dict[str, Any]:
        """The order that the token has become.

        Raises:
            Refused: the bridge or the broker said no, or the token is too old.
            NoAnswerError: whether it was placed is not known yet: call again with the same token.
        """
        preview = self.required(token, said)
        if preview.order_id is not None:
            return self._read(preview.order_id)
        if not preview.valid(self._previews.now()):
            return self._looked_for(preview)
        self._previews.note_attempt(token)
        answer = self._bridge.request(
            "POST", "/order", body=preview.body, headers={"Idempotency-Key": preview.key}
        )
        if answer.status == 201:
            return self._noted(preview, answer.body)
        if answer.status in _UNCERTAIN:
            told = refusal(answer)
            raise NoAnswerError(
                told.message,
                hint="call place_order again with the same token; that is never a second order",
                code=told.code,
            )
        raise refusal(answer)

    def _noted(self, preview: Preview, order: dict[str, Any]) -> dict[str, Any]:
        self._previews.note_order(preview.token, str(order["orderId"]))
        return order

    def _read(self, order_id: str) -> dict[str, Any]:
        answer = self._bridge.request("GET", f"/order/{quote(order_id, safe='')}")
        if answer.status != 200:
            raise refusal(answer)
        found: dict[str, Any] = answer.body
        return found

    def _looked_for(self, preview: Preview) -> dict[str, Any]:
        """Sent, without an answer, and too old to send: the journal says what became of it."""
        from bridge.orders.order_ids import digest_of, key_digest

        wanted = key_digest(preview.key)
        for order in self._orders_since(preview.made):
            reference = digest_of(str(order.get("orderRef", "")))
            if reference is not None and wanted.startswith(reference) and not _child(order):
                return self._noted(preview, order)
        if self._previews.now() - (preview.attempted or 0.0) < SETTLED_SECONDS:
            raise NoAnswerError(
                "it is not known yet whether the order was placed",
                hint="call place_order again with the same token in a minute",
                code="order-pending",
            )
        raise Refused(
            "the order was not placed, and its preview is older than 120 seconds",
            hint="preview the order again",
            code="token-expired",
        )

    def _orders_since(self, made: float) -> list[dict[str, Any]]:
        from datetime import datetime

        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            query = {"limit": _PAGE, "cursor": cursor}
            answer = self._bridge.request("GET", "/orders", query=query)
            if answer.status != 200:
                raise refusal(answer)
            page = answer.body["orders"]
            found += page
            cursor = answer.body.get("nextCursor") or ""
            oldest = page[-1].get("createdAt") if page else None
            if not cursor or (oldest and datetime.fromisoformat(oldest).timestamp() < made - 3600):
                return found


def _child(order: dict[str, Any]) -> bool:
    """Whether it is a closing leg of a bracket: the entry is the order that was asked for."""
    return order.get("role") not in {"entry", "single"}
