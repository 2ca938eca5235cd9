"""Everything that can go wrong between a service and the gateway.

    TwsError
    ├── NotConnectedError            not-connected       no session with the gateway now
    │   ├── ConnectionLostError      connection-lost     it was lost while the request was pending
    │   ├── UpstreamLostError        upstream-lost       gateway there, its servers not (1100, 2110)
    │   ├── SessionConflictError     session-conflict    another holds the session or client id
    │   └── CircuitOpenError         circuit-open        the gateway stopped answering; probing
    ├── RequestTimedOutError         gateway-timeout     no answer before the deadline
    ├── UnreadableAnswerError        unreadable-answer   the gateway answered with no value
    ├── AnswerTooLargeError          answer-too-large    more than an answer ever is
    ├── ClientIdInUseError           client-id-in-use    the program that it belongs to is connected
    ├── PacingLimitedError           pacing-limit        the broker's rules; retry_after is set
    ├── QueueFullError               too-many-pending    the lane is full; retry_after is set
    └── RequestRefusedError          broker-refused      the broker answered with an error
        ├── UnknownContractError     unknown-contract    200
        ├── NoMarketDataError        no-market-data      354, 10089, 10090, 10168, 10186 ...
        ├── CompetingSessionError    competing-session   10197
        ├── NoHistoryError           no-history          162 (and its relatives)
        ├── ReadOnlyGatewayError     read-only-gateway   321 while the API is read-only
        └── OrderRefusedError        order-rejected      201, 203, 110, 321, 383 ...

``broker_code`` and ``broker_text`` are set where the broker said something. Which code becomes
which class is decided in ``bridge.tws.broker_codes`` and nowhere else.
"""

from __future__ import annotations

from typing import Any

from bridge.errors import BridgeError, Kind

READ_ONLY_ACTION = (
    "Set gateway.read_only: false in stack.yaml and deploy; if it is set, untick Read-Only API in"
    " the gateway's own settings (./deploy.py vnc --web): it refuses every order"
)


class TwsError(BridgeError):
    """Any failure between a service and the gateway."""

    code = "gateway-error"
    kind = Kind.UNAVAILABLE
    next_step = "See /health for the state of the connection"

    def __init__(
        self,
        detail: str,
        *,
        broker_code: int | None = None,
        broker_text: str | None = None,
        next_step: str | None = None,
        retry_after: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, next_step=next_step, retry_after=retry_after, extra=extra)
        self.broker_code = broker_code
        self.broker_text = broker_text
        if broker_code is not None:
            self.extra.setdefault("brokerCode", broker_code)
        if broker_text is not None:
            self.extra.setdefault("brokerText", broker_text)


class NotConnectedError(TwsError):
    """There is no session with the gateway now."""

    code = "not-connected"
    next_step = "Wait until /ready answers 200; /health says what it is waiting for"


class ConnectionLostError(NotConnectedError):
    """The connection was lost while this request was pending.

    For an order: its fate is not known from this.
    """

    code = "connection-lost"
    next_step = "Retry when /ready answers 200"


class UpstreamLostError(NotConnectedError):
    """The gateway runs, but has lost its own servers (1100, 2110)."""

    code = "upstream-lost"
    next_step = (
        "Wait: the gateway reconnects by itself; check the broker's system status if it lasts"
    )


class SessionConflictError(NotConnectedError):
    """Someone else holds the session (10197) or the client id (326)."""

    code = "session-conflict"
    next_step = (
        "Log the other session out, or change bridge.client_id in stack.yaml if it is another"
        " program with the same client id"
    )


class CircuitOpenError(NotConnectedError):
    """The gateway answered nothing for too long; only probes are sent until it does."""

    code = "circuit-open"
    next_step = "Wait retryAfter seconds; restart the gateway if /health stays stalled"


class RequestTimedOutError(TwsError):
    """No answer before the deadline. For an order: its fate is not known from this."""

    code = "gateway-timeout"
    kind = Kind.TIMEOUT
    next_step = "Retry; if it repeats, /health says whether the gateway is stalled"


class UnreadableAnswerError(TwsError):
    """The gateway's answer lacks what was asked for; nothing is shown in its place."""

    code = "unreadable-answer"
    next_step = "Repeat it in a moment; if it stays so, look in TWS and restart the gateway"


class AnswerTooLargeError(TwsError):
    """The gateway sent more than any answer to such a request is."""

    code = "answer-too-large"
    kind = Kind.UNAVAILABLE
    next_step = "Ask for less at once; if it stays so, restart the gateway"


class ClientIdInUseError(TwsError):
    """What only one client may do cannot be done in its place: it is connected itself."""

    code = "client-id-in-use"
    kind = Kind.CONFLICT
    next_step = (
        "Cancel the order in that program or in TWS; or end the program, and repeat the request"
    )


class PacingLimitedError(TwsError):
    """The broker's pacing rules would be broken.

    ``retry_after`` seconds from now they would not.
    """

    code = "pacing-limit"
    kind = Kind.LIMITED
    next_step = "Wait Retry-After seconds"


class QueueFullError(TwsError):
    """Too many requests wait for the gateway already."""

    code = "too-many-pending"
    kind = Kind.LIMITED
    next_step = "Wait Retry-After seconds and send fewer requests at once"


class RequestRefusedError(TwsError):
    """The broker answered this request with an error."""

    code = "broker-refused"
    kind = Kind.REFUSED
    next_step = "Read brokerText; docs/bridge-reference.md explains the code"


class UnknownContractError(RequestRefusedError):
    """No such contract (200)."""

    code = "unknown-contract"
    kind = Kind.INVALID
    next_step = "Look the contract up with GET /contracts"


class NoMarketDataError(RequestRefusedError):
    """No subscription for this market data."""

    code = "no-market-data"
    next_step = "Subscribe in the Client Portal, or accept delayed data"


class CompetingSessionError(RequestRefusedError):
    """Live data goes to another session of the same user (10197)."""

    code = "competing-session"
    kind = Kind.UNAVAILABLE
    next_step = "Log out the other session (TWS, web or mobile) of this user"


class NoHistoryError(RequestRefusedError):
    """The history service has no data for this, or refuses it (162)."""

    code = "no-history"
    kind = Kind.INVALID
    next_step = "Check duration, bar size, whatToShow and the data subscription"


class ReadOnlyGatewayError(RequestRefusedError):
    """The gateway's API is in read-only mode (321)."""

    code = "read-only-gateway"
    kind = Kind.FORBIDDEN
    next_step = READ_ONLY_ACTION


class OrderRefusedError(RequestRefusedError):
    """The broker rejected an order or a change to it."""

    code = "order-rejected"
    next_step = "Read brokerText; nothing is working at the broker for this order"
