"""What can be wrong with an order, and what it means for whoever sent it.

    OrderError
    ├── OrderRefusedByRulesError  order-refused             violations; nothing was sent
    ├── TradingHaltedError        trading-halted            the kill switch is on
    ├── HaltMarkStaysError        halt-mark-stays           trading is halted as before
    ├── JournalNotAcceptedError   journal-not-accepted      it is not the one from before
    ├── OrderListedError          order-listed              the broker has it already
    ├── OrderArchivedError        order-archived            it ended long ago
    ├── KeyRequiredError          idempotency-key-required
    ├── KeyBoundError             key-bound                 other accounts or symbols
    ├── KeyReusedError            idempotency-key-reused    the same key with another body
    ├── OrderRejectedError        order-rejected            the broker said no
    ├── GroupIncompleteError      group-incomplete          a part works, or has traded
    ├── ChangeRejectedError       change-rejected           the order goes on as it was
    ├── ChangeReplacedError       change-replaced           by a later change
    ├── OrderNotSentError         order-not-sent            certainly not sent; repeat it
    ├── OrderPendingError         order-pending             sent, no answer yet: ask again
    ├── OrderFateUnknownError     order-fate-unknown        a person must look
    ├── TooManyOrdersError        too-many-orders           nothing was sent; a moment later
    ├── OrderNotOpenError         order-not-open            nothing to change or cancel
    ├── OrderEndedError           order-ended               a closing order that was not filled
    ├── OrdersInTheWayError       orders-in-the-way         a target that goes against them
    ├── PositionsMovingError      positions-moving          nothing was sent; a moment later
    ├── NoPositionError           no-position               nothing is held of what is named
    └── UnknownOrderError         unknown-order

An ambiguous or unknown contract is `bridge.market.errors.AmbiguousContractError` or
`bridge.tws.errors.UnknownContractError`, as on the reading routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bridge.errors import BridgeError, Kind
from bridge.store.identity import ACCEPT


class Violation(msgspec.Struct, frozen=True, rename="camel"):
    """One broken rule.

    `code` is stable, `field` the member of the request it is about, `limit` what would still do.
    """

    code: str
    message: str
    field: str = ""
    value: float | str | None = None
    limit: float | str | None = None


class OrderError(BridgeError):
    """Any failure of an order route."""


class OrderRefusedByRulesError(OrderError):
    """The bridge refused the order; all the broken rules are in `violations`."""

    code = "order-refused"
    kind = Kind.INVALID
    next_step = "Mend every violation and send it again; nothing was sent to the broker"

    def __init__(self, violations: list[Violation], **options: Any) -> None:
        listed = "; ".join(violation.message for violation in violations)
        super().__init__(
            listed,
            extra={"violations": [msgspec.to_builtins(each) for each in violations]},
            **options,
        )
        self.violations = violations


class TradingHaltedError(OrderError):
    """The kill switch is on."""

    code = "trading-halted"
    kind = Kind.HALTED
    next_step = "DELETE /trading/halt lets orders through again; cancelling works meanwhile"


class HaltMarkStaysError(OrderError):
    """The mark of the halt cannot be taken away, so trading stays halted."""

    code = "halt-mark-stays"
    kind = Kind.UNAVAILABLE
    next_step = "Let the bridge's user write in the data folder, then lift the halt again"


class JournalNotAcceptedError(OrderError):
    """The journal is not the one that was here before, and nobody has said that it may be used."""

    code = "journal-not-accepted"
    kind = Kind.CONFLICT
    next_step = ACCEPT


class OrderListedError(OrderError):
    """The broker lists an order with this reference already: it is not sent again."""

    code = "order-listed"
    kind = Kind.CONFLICT
    next_step = "GET /orders, and TWS, show it; a new order needs a new Idempotency-Key"


class OrderArchivedError(OrderError):
    """The order of this key ended longer ago than the journal keeps orders; nothing was sent."""

    code = "order-archived"
    kind = Kind.CONFLICT
    next_step = (
        "A new order needs a new Idempotency-Key; the old one is in archive/ beside the journal"
    )


class KeyRequiredError(OrderError):
    """An order without an idempotency key."""

    code = "idempotency-key-required"
    kind = Kind.INVALID
    next_step = (
        "Send an Idempotency-Key header: a fresh UUID for each order, the same one on a retry"
    )


class KeyBoundError(OrderError):
    """The key is bound to other accounts or symbols than this order's."""

    code = "key-bound"
    kind = Kind.FORBIDDEN
    next_step = "Use a key that reaches this order; apikey list shows what each is bound to"


class KeyReusedError(OrderError):
    """The key belongs to another order."""

    code = "idempotency-key-reused"
    kind = Kind.CONFLICT
    next_step = "A new order needs a new key; a retry needs exactly the same body"


class OrderRejectedError(OrderError):
    """The broker said no: `brokerCode` and `brokerText` say why."""

    code = "order-rejected"
    kind = Kind.REFUSED
    next_step = "Read brokerText; nothing of this order is working at the broker"


class GroupIncompleteError(OrderError):
    """A part of a bracket or a group was not taken, and the rest has traded, works, or may.

    Each order of it is in `order`; `cancelFailed` names those whose cancel could not be sent.
    """

    code = "group-incomplete"
    kind = Kind.CONFLICT
    next_step = "Read each order of it: what has traded or works would be there twice"


class ChangeRejectedError(OrderError):
    """The broker refused a change or a cancel; the order goes on as it was."""

    code = "change-rejected"
    kind = Kind.REFUSED
    next_step = "Read brokerText and the order: it goes on as it was"


class ChangeReplacedError(OrderError):
    """Another change of the same order came after this one, and counts."""

    code = "change-replaced"
    kind = Kind.CONFLICT
    next_step = "Read the order; change it again if that is not what you want"


class OrderNotSentError(OrderError):
    """It is certain that the broker never got this order."""

    code = "order-not-sent"
    kind = Kind.UNAVAILABLE
    next_step = "Send it again, with the same key if you like, when /ready answers 200"


class OrderPendingError(OrderError):
    """Sent, but the broker has not answered yet."""

    code = "order-pending"
    kind = Kind.TIMEOUT
    next_step = (
        "Repeat the request with the same Idempotency-Key, or read the order: it is not sent twice"
    )


class OrderFateUnknownError(OrderError):
    """It may or may not have reached the broker, and nothing there tells."""

    code = "order-fate-unknown"
    kind = Kind.TIMEOUT
    next_step = "Look in TWS or the Client Portal; then settle it with POST /order/{id}/settle"


class OrdersInTheWayError(OrderError):
    """What works in the contract goes against the wanted size of a position; `orders` names it."""

    code = "orders-in-the-way"
    kind = Kind.CONFLICT
    next_step = "Cancel or change them first, or let cancelOrders: true cancel this bridge's own"

    def __init__(self, orders: list[str], what: str, *, next_step: str | None = None) -> None:
        super().__init__(
            f"{what}: {', '.join(orders)}",
            next_step=next_step or _clearing(orders),
            extra={"orders": orders},
        )


def _clearing(orders: Sequence[str]) -> str | None:
    """What gets orders of others out of the way, which `cancelOrders` leaves alone."""
    foreign = [each for each in orders if each.startswith("perm-")]
    if not foreign:
        return None
    theirs = (
        f"{', '.join(foreign)} is not this bridge's, and cancelOrders leaves it alone: cancel it"
        " where it was placed, or with DELETE /order/{id} (scope admin)"
    )
    if len(foreign) == len(orders):
        return theirs
    return f"{OrdersInTheWayError.next_step}. {theirs}"


class PositionsMovingError(OrderError):
    """Orders fill while the position is looked at, so that nobody can say what it lacks."""

    code = "positions-moving"
    kind = Kind.UNAVAILABLE
    next_step = "Send it again, with the same key if you like, in a moment"


class NoPositionError(OrderError):
    """What shall be closed is not held: misspelt, in another account, or gone."""

    code = "no-position"
    kind = Kind.NOT_FOUND
    next_step = "GET /positions shows what is held; nothing was sent to the broker"


class TooManyOrdersError(OrderError):
    """More orders at once than the gateway's message limit lets through."""

    code = "too-many-orders"
    kind = Kind.LIMITED
    next_step = "Wait Retry-After seconds, then send it again"


class OrderNotOpenError(OrderError):
    """The order has ended."""

    code = "order-not-open"
    kind = Kind.CONFLICT
    next_step = "Read the order: it is filled, cancelled or rejected already"


class OrderEndedError(OrderError):
    """The order that was to close a position has ended, and not all of it is filled."""

    code = "order-ended"
    kind = Kind.CONFLICT
    next_step = (
        "Read why in the order, then close what is left with a new Idempotency-Key: under this one"
        " nothing more is sent for it"
    )


class UnknownOrderError(OrderError):
    """No order has this id."""

    code = "unknown-order"
    kind = Kind.NOT_FOUND
    next_step = "GET /orders lists the orders and their ids"


def name_cancelled(error: BridgeError, cancelled: Sequence[str]) -> None:
    """Adds to an error which orders were cancelled for the one that failed; once."""
    if not cancelled or "cancelled" in error.extra:
        return
    names = ", ".join(cancelled)
    error.extra["cancelled"] = list(cancelled)
    error.detail = f"{error.detail} (cancelled before, and not working any more: {names})"
    error.next_step = (
        f"Look whether the position needs protection: {names} gives none any more."
        f" Of the order itself: {error.next_step}"
    )
