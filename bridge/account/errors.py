"""What the account routes refuse.

    BridgeError
    ├── UnknownAccountError     unknown-account    not one of this session's accounts
    └── NoPnLError              no-pnl             the broker sent none in time

What the gateway refuses is in `bridge.tws.errors`.
"""

from __future__ import annotations

from bridge.errors import BridgeError, InvalidRequestError, Kind


class UnknownAccountError(InvalidRequestError):
    """The session does not manage this account."""

    code = "unknown-account"
    next_step = "Take one of the accounts that GET /account lists"

    def __init__(self, account: str, known: tuple[str, ...]) -> None:
        message = f"{account} is none of this session's {len(known)} accounts"
        super().__init__(
            message,
            extra={"errors": [{"field": "account", "message": message, "code": "unknown-account"}]},
        )


class NoPnLError(BridgeError):
    """The subscription is open, and nothing came."""

    code = "no-pnl"
    kind = Kind.TIMEOUT
    next_step = "Retry; the broker sends profit and loss about once a second"
