"""A few read calls of the Web API, by an explicit list, and nothing else.

A call that finds the brokerage session closed leads to a recovery and is then tried once more. No
call on the list changes anything at the broker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from bridge.portal.errors import (
    LoginRequiredError,
    NotAllowedError,
    PortalRefusedError,
    PortalSilentError,
)
from bridge.portal.session import PortalSession
from bridge.portal.state import PortalState

_ACCOUNT: Final = r"[A-Za-z0-9]{3,16}"
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    r"/iserver/accounts": frozenset(),
    r"/iserver/account/orders": frozenset({"filters", "force", "accountId"}),
    r"/iserver/account/trades": frozenset({"days", "accountId"}),
    r"/iserver/account/pnl/partitioned": frozenset(),
    r"/iserver/marketdata/snapshot": frozenset({"conids", "fields", "since"}),
    r"/iserver/marketdata/history": frozenset(
        {"conid", "exchange", "period", "bar", "outsideRth", "startTime"}
    ),
    r"/iserver/contract/[0-9]{1,12}/info": frozenset(),
    r"/iserver/secdef/search": frozenset({"symbol", "name", "secType"}),
    r"/trsrv/secdef": frozenset({"conids"}),
    r"/trsrv/stocks": frozenset({"symbols"}),
    r"/portfolio/accounts": frozenset(),
    r"/portfolio/subaccounts": frozenset(),
    rf"/portfolio/{_ACCOUNT}/summary": frozenset(),
    rf"/portfolio/{_ACCOUNT}/ledger": frozenset(),
    rf"/portfolio/{_ACCOUNT}/positions/[0-9]{{1,4}}": frozenset({"sort", "direction", "period"}),
    rf"/portfolio/{_ACCOUNT}/position/[0-9]{{1,12}}": frozenset(),
}
"""Path patterns, and the query parameters that each takes."""

_PATTERNS: Final = tuple((re.compile(path), names) for path, names in ALLOWED.items())
_CLOSED_SESSION: Final = ("no bridge", "init session", "not authenticated", "not connected")
"""What the Web API says, with status 400, while the brokerage session is closed."""


def require_allowed(path: str, query: Mapping[str, str]) -> None:
    """Checks a call against the list.

    Raises:
        NotAllowedError: the path, or one of the parameters, is not on it.
    """
    for pattern, names in _PATTERNS:
        if pattern.fullmatch(path):
            if unknown := set(query) - names:
                parameters = ", ".join(sorted(unknown))
                raise NotAllowedError(f"{path} is not passed through with {parameters}")
            return
    raise NotAllowedError(f"GET {path} is not one of the calls that are passed through")


async def fetch(
    session: PortalSession, path: str, query: Mapping[str, str], *, timeout: float = 15.0
) -> Any:
    """Passes one read call through; the Web API's own JSON.

    Raises:
        PortalError: it is not allowed, or failed twice.
    """
    require_allowed(path, query)
    try:
        return await session.client.get_for_others(path, query, timeout=timeout)
    except PortalSilentError as error:
        session.silent(error)
        raise
    except LoginRequiredError:
        # The brokerage calls answer 401 to a closed brokerage session, too: a check tells.
        await session.check()
        if session.state is not PortalState.CONNECTED:
            raise
    except PortalRefusedError as error:
        if not _says_closed(error):
            raise
        await session.mend()
    try:
        return await session.client.get_for_others(path, query, timeout=timeout)
    except LoginRequiredError as error:  # of this call alone: the session is known to be open
        status = int(error.extra.get("portalStatus", 403))
        raise PortalRefusedError(f"the Client Portal refuses {path}", status) from None


def _says_closed(error: PortalRefusedError) -> bool:
    text = error.detail.lower()
    return any(phrase in text for phrase in _CLOSED_SESSION)
