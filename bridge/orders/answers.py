"""The answer to an order's request, made from what the journal holds, and kept for repetitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.orders.errors import (
    OrderFateUnknownError,
    OrderPendingError,
    OrderRejectedError,
)
from bridge.orders.views import OrderGroup, OrderView, order_view
from bridge.store import DamagedRowError
from bridge.store.idempotency import KeyRecord
from bridge.store.order_status import State, Status
from bridge.store.orders import OrderRecord
from bridge.tws.broker_codes import order_advice

Answer = OrderView | OrderGroup


class Problem(msgspec.Struct, frozen=True):
    """A kept rejection."""

    detail: str
    next_step: str
    extra: dict[str, Any]


def decided(record: OrderRecord) -> bool:
    """Whether the broker (or the bridge, for want of the broker) has said what the order is."""
    if record.state in {State.INTENTION, State.SENT}:
        return False
    return record.status is not Status.PENDING_SUBMIT


def all_decided(records: Mapping[str, OrderRecord], order_ids: list[str]) -> bool:
    """The same about every leg."""
    return all(each in records and decided(records[each]) for each in order_ids)


def explained(records: Mapping[str, OrderRecord]) -> bool:
    """Whether no order has ended without a reason; that often comes a moment behind the end."""
    ended = (Status.INACTIVE, Status.CANCELLED)
    return all(
        record.reject_code is not None or record.warning
        for record in records.values()
        if record.status in ended
    )


def of_records(records: list[OrderRecord]) -> Answer:
    """The answer in words of success.

    Raises:
        OrderRejectedError: the broker refused a leg.
        OrderFateUnknownError: nobody knows about a leg.
        OrderPendingError: the broker has not answered yet.
    """
    answer = present(records)
    shown = {"order": msgspec.to_builtins(answer)}
    for record in records:
        if record.status is Status.REJECTED:
            raise rejection(record, shown)
    if any(record.state is State.UNKNOWN for record in records):
        raise OrderFateUnknownError(
            f"order {records[0].id} may or may not have reached the broker", extra=shown
        )
    if any(record.state in {State.INTENTION, State.SENT} for record in records):
        raise OrderPendingError(
            f"order {records[0].id} is sent, the gateway has not answered in time", extra=shown
        )
    return answer


def present(records: list[OrderRecord]) -> Answer:
    """One order, a bracket under its entry, or an OCA group."""
    first = records[0]
    if first.role == "oca":
        return OrderGroup(
            group_id=first.group_id,
            oca_group=first.terms.oca_group,
            orders=tuple(order_view(record) for record in records),
        )
    return order_view(first, tuple(records[1:]))


def rejection(record: OrderRecord, shown: dict[str, Any]) -> OrderRejectedError:
    """The broker's refusal of one leg, with its text and what to do."""
    code, text = record.reject_code, record.reject_text or "no reason given"
    extra = {"brokerCode": code, "brokerText": text, **shown}
    step = order_advice(code) if code is not None else None
    return OrderRejectedError(f"the broker rejected the order: {text}", next_step=step, extra=extra)


def pack(answer: Answer) -> bytes:
    """A success, to be kept."""
    return msgspec.json.encode(answer)


def pack_problem(error: OrderRejectedError) -> bytes:
    """A rejection, to be kept."""
    return msgspec.json.encode(Problem(error.detail, error.next_step, error.extra))


def replay(known: KeyRecord) -> Answer:
    """The first answer again, be it a success or a rejection."""
    try:
        if known.accepted:
            return msgspec.json.decode(known.answer, type=_either(known.answer))
        problem = msgspec.json.decode(known.answer, type=Problem)
    except msgspec.MsgspecError:
        raise DamagedRowError(
            "the answer that was kept under this Idempotency-Key cannot be read",
            next_step="Nothing was sent. GET /orders shows the order of this key",
        ) from None
    raise OrderRejectedError(problem.detail, next_step=problem.next_step, extra=problem.extra)


def _either(body: bytes) -> type[OrderView] | type[OrderGroup]:
    return OrderGroup if body.startswith(b'{"groupId"') else OrderView
