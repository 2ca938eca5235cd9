"""A bracket or a group of which the broker has taken a part, and what is done about the rest.

Nothing of it is cancelled once it has traded: what is left may be all that protects the position.
Of a bracket only the entry is cancelled, never an exit while the entry may still fill. With the
entry its exits end; where it fills instead, they stay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from bridge.orders.errors import GroupIncompleteError
from bridge.quantity import plain
from bridge.store.orders import OrderRecord, Status

_ONCE: Final = "Send it again only under a new Idempotency-Key"


class SentInPartError(Exception):
    """Some orders of a group are on the wire, and the others certainly are not.

    `failed` are those on the wire whose cancel could not be sent.
    """

    def __init__(
        self, records: list[OrderRecord], reason: str, failed: Collection[str] = ()
    ) -> None:
        super().__init__(reason)
        self.records = records
        self.reason = reason
        self.failed = tuple(failed)


def is_without_trace(record: OrderRecord) -> bool:
    """Whether the order is over and has traded nothing."""
    return not record.open and record.filled == 0


def to_call_off(records: Sequence[OrderRecord]) -> list[OrderRecord]:
    """What is to be cancelled of a group that the broker has refused in part."""
    if any(each.filled for each in records):
        return []
    entry = next((each for each in records if each.role == "entry"), None)
    if entry is not None and entry.open:
        return [entry]
    return [each for each in records if each.open]


def incomplete(
    records: Sequence[OrderRecord],
    shown: dict[str, Any],
    reason: str = "",
    failed: Collection[str] = (),
) -> GroupIncompleteError:
    """The error that tells of each order, with what is to be done in the state that they are in."""
    refused = next((each for each in records if each.status is Status.REJECTED), None)
    extra: dict[str, Any] = dict(shown)
    if refused is not None:
        reason = reason or f"the broker rejected a part: {refused.reject_text or 'no reason given'}"
        extra |= {"brokerCode": refused.reject_code, "brokerText": refused.reject_text}
    if failed:
        extra["cancelFailed"] = list(failed)
    parts = ", ".join(map(_described, records))
    return GroupIncompleteError(
        f"order {records[0].group_id} is there in part: {reason or 'not all of it was sent'}"
        f" ({parts})",
        next_step=_next_step(records, failed),
        extra=extra,
    )


def _described(record: OrderRecord) -> str:
    name = record.id if record.role == "oca" else record.role
    traded = f" {plain(record.filled)} of {plain(record.terms.quantity)}" if record.filled else ""
    return f"{name} {record.status}{traded}"


def _next_step(records: Sequence[OrderRecord], failed: Collection[str]) -> str:
    if all(map(is_without_trace, records)):
        return f"Nothing of it has traded or works any more. {_ONCE}"
    steps = []
    if any(each.filled for each in records):
        steps.append("A part has traded: look whether the position is protected")
    if failed:
        steps.append(f"The cancel of {', '.join(failed)} could not be sent: send it yourself")
    if any(each.open for each in records):
        steps.append("Read the orders that are open: they may fill; keep, change or cancel each")
    return f"{'. '.join(steps)}. {_ONCE}, and only what is missing"
