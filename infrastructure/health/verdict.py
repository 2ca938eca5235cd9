"""Whether a bridge is as it should be, from what it says itself."""

from __future__ import annotations

from typing import Any


def serves_orders(health: Any) -> bool:
    """Whether a bridge with this `/health` is as it should be: connected, or halted by a person.

    A session that is ready is not enough: the journal may not be writable (`stalled`), the gateway
    may refuse every order (`read-only`).
    """
    if not isinstance(health, dict) or not health.get("connected"):
        return False
    return health.get("state") not in ("stalled", "read-only")
