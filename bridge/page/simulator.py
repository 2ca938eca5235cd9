"""The sandbox's fault buttons: passes them on to the simulator's control port.

Only there when BRIDGE_SIMULATOR_URL is set, which no real deployment does.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any, Final

from bridge.errors import BridgeError, Kind, NotFoundError

PATIENCE: Final = 3.0


class SimulatorUnreachableError(BridgeError):
    """The simulator's control port does not answer."""

    code = "simulator-unreachable"
    kind = Kind.UNAVAILABLE
    next_step = "See ./deploy.py status: is the simulated gateway running?"


async def ask(base: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """One call to the control port.

    Raises:
        NotFoundError: this is no sandbox, or the simulator has no fault of that name.
        SimulatorUnreachableError: no answer in time.
    """
    if not base:
        raise NotFoundError("this bridge has no simulator behind it")
    return await asyncio.to_thread(_ask, f"{base.rstrip('/')}{path}", method, body)


def _ask(address: str, method: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - from the environment, never from a caller
        address, data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            told = error.read(500).decode(errors="replace")
        raise NotFoundError(f"the simulator refuses: {told}") from None
    except (OSError, ValueError) as error:
        raise SimulatorUnreachableError(f"the simulator does not answer: {error}") from None
