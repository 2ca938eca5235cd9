"""Names of orders: the id for clients, the reference that the broker carries, digests of keys."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime
from typing import Any, Final

import msgspec

_REFERENCE_PREFIX: Final = "gw"
_DIGEST_LENGTH: Final = 24  # 96 bits, and the reference stays well under the broker's 40 characters
_OURS: Final = re.compile(
    rf"{_REFERENCE_PREFIX}-([0-9a-f]{{{_DIGEST_LENGTH}}})-\d{{1,3}}(-\d{{1,6}})?"
)


def new_id(now: datetime) -> str:
    """An id that sorts by time and cannot be guessed."""
    return f"o{int(now.timestamp() * 1000):011x}{secrets.token_hex(6)}"


def key_digest(key: str) -> str:
    """What is kept of an idempotency key."""
    return hashlib.sha256(key.encode()).hexdigest()


def unnamed_key() -> str:
    """Stands in for the key of an order that came without one."""
    return f"unnamed-{secrets.token_hex(16)}"


def body_digest(route: str, body: Any) -> str:
    """The same for two bodies that mean the same: whatever the order of members or the spacing.

    What is not said does not count, so that a field that a later version knows changes nothing.
    """
    canonical = msgspec.json.encode([route, _said(msgspec.to_builtins(body))], order="sorted")
    return hashlib.sha256(canonical).hexdigest()


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        members = {name: _said(each) for name, each in value.items()}
        return {name: each for name, each in members.items() if not _unsaid(each)}
    return [_said(each) for each in value] if isinstance(value, list | tuple) else value


def _unsaid(value: Any) -> bool:
    return value is None or value is False or value in ("", [])


def order_ref(digest: str, leg: int, attempt: int) -> str:
    """What the broker carries and reports back: leads from its order to the key that asked for it.

    `attempt` counts the orders that were written down under the key and certainly never sent.
    """
    suffix = f"-{attempt}" if attempt else ""
    return f"{_REFERENCE_PREFIX}-{digest[:_DIGEST_LENGTH]}-{leg}{suffix}"


def digest_of(reference: str) -> str | None:
    """The beginning of the key's digest in a reference of ours; None for any other text."""
    found = _OURS.fullmatch(reference)
    return None if found is None else found[1]


def beginning(digest: str) -> str:
    """As much of a key's digest as a reference holds."""
    return digest[:_DIGEST_LENGTH]
