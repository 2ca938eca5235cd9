"""The broker's words for an order's status, and the bridge's.

`PendingSubmit`, `PreSubmitted`, `Submitted`, `PendingCancel`, `Filled`, `Cancelled` and `Inactive`
are the broker's. `Rejected` is the broker's `Inactive` (or silence) after an error that ends the
order; `NotSent` and `Unknown` are the bridge's own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where an order is."""

    PENDING_SUBMIT = "PendingSubmit"
    PRE_SUBMITTED = "PreSubmitted"
    SUBMITTED = "Submitted"
    PENDING_CANCEL = "PendingCancel"
    INACTIVE = "Inactive"
    FILLED = "Filled"
    CANCELLED = "Cancelled"
    REJECTED = "Rejected"
    NOT_SENT = "NotSent"
    UNKNOWN = "Unknown"


class State(StrEnum):
    """How much of an order's way the journal is sure of."""

    INTENTION = "intention"  # written down, perhaps not sent
    SENT = "sent"  # on the wire, no answer yet
    ACKNOWLEDGED = "acknowledged"  # the broker knows it
    UNKNOWN = "unknown"  # it may or may not have reached the broker
    TERMINAL = "terminal"  # nothing more will happen


ENDED: Final = frozenset({Status.FILLED, Status.CANCELLED, Status.REJECTED, Status.NOT_SENT})
WORKING: Final = frozenset({Status.PRE_SUBMITTED, Status.SUBMITTED})
OPEN_STATES: Final = (State.INTENTION, State.SENT, State.ACKNOWLEDGED, State.UNKNOWN)

_BROKER_WORDS: Final = {
    "apipending": Status.PENDING_SUBMIT,
    "pendingsubmit": Status.PENDING_SUBMIT,
    "presubmitted": Status.PRE_SUBMITTED,
    "submitted": Status.SUBMITTED,
    "pendingcancel": Status.PENDING_CANCEL,
    "apicancelled": Status.CANCELLED,
    "cancelled": Status.CANCELLED,
    "filled": Status.FILLED,
    "inactive": Status.INACTIVE,
}


def from_broker(word: str) -> Status | None:
    """The status behind a broker's word; None for a word nobody has documented."""
    return _BROKER_WORDS.get(word.strip().lower())
