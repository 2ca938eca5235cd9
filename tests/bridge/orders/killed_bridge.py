"""`python -m tests.bridge.orders.killed_bridge`: the bridge, and one point at which it is killed.

`GANGWAY_KILL_AT` is `POINT:TIMES`: the process sends itself SIGKILL when it has come to that point
so many times. The product knows nothing of it: its own functions are wrapped from here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from bridge import __main__ as program
from bridge import halt_mark
from bridge.model import CommissionReport, Execution, OpenOrder, OrderStatus
from bridge.orders import journal, sender
from bridge.orders.cancel import OrderCanceller
from bridge.orders.halt import HaltSwitch
from bridge.orders.journal import OrderJournal
from bridge.orders.modify import OrderModifier
from bridge.orders.sender import OrderSender
from bridge.orders.submit import OrderSubmitter
from bridge.tws.wire import Wire
from tests.bridge.orders.crash import ONCE_PRICE

_PLACE, _CANCEL = b"3\0", b"4\0"  # the first field of these messages
_HEARD: Final[dict[type, str]] = {
    OpenOrder: "order-heard",
    OrderStatus: "status-heard",
    Execution: "execution-heard",
    CommissionReport: "commission-heard",
}


class _Executioner:
    """Counts how often each point was passed."""

    def __init__(self, asked: str) -> None:
        self._point, _, times = asked.partition(":")
        self._times = int(times or 1)
        self._passed = Counter[str]()

    def at(self, point: str) -> None:
        """Called at every point; does not return from the one that was asked for."""
        self._passed[point] += 1
        if point == self._point and self._passed[point] == self._times:
            os.write(2, b'{"event": "killed", "point": "%s"}\n' % point.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def _wrap(owner: Any, name: str, before: Callable[..., None], after: Callable[..., None]) -> None:
    inner = getattr(owner, name)

    def plain(*given: Any, **named: Any) -> Any:
        before(*given)
        result = inner(*given, **named)
        after(*given)
        return result

    async def waiting(*given: Any, **named: Any) -> Any:
        before(*given)
        result = await inner(*given, **named)
        after(*given)
        return result

    setattr(owner, name, waiting if asyncio.iscoroutinefunction(inner) else plain)


def _nothing(*_: Any) -> None:
    pass


def _arm(at: Callable[[str], None]) -> None:
    def mark(owner: Any, name: str, before: str = "", after: str = "") -> None:
        _wrap(
            owner,
            name,
            (lambda *_: at(before)) if before else _nothing,
            (lambda *_: at(after)) if after else _nothing,
        )

    mark(OrderSender, "_write_down", "order-not-noted", "order-noted")
    mark(sender, "note_sending", "", "order-in-transaction")
    mark(OrderSubmitter, "place", "", "order-answered")
    mark(OrderModifier, "_reserve", "", "change-in-transaction")
    mark(OrderModifier, "_carry_out", "change-noted", "change-answered")
    mark(OrderCanceller, "_note", "cancel-not-noted", "cancel-noted")
    mark(OrderCanceller, "_write_down", "", "cancel-in-transaction")
    mark(OrderCanceller, "cancel", "", "cancel-answered")
    mark(journal, "apply_messages", "", "acknowledgement-in-transaction")
    mark(OrderJournal, "_tell", "acknowledgement-kept", "acknowledgement-told")
    mark(HaltSwitch, "keep", "halt-on", "halt-kept")
    mark(HaltSwitch, "_store", "", "halt-in-transaction")
    mark(halt_mark, "write", "", "halt-marked")
    mark(OrderCanceller, "cancel_each", "halt-cancelling", "halt-cancelled")
    mark(HaltSwitch, "turn_off", "resume-begun", "resume-done")
    mark(halt_mark, "remove", "resume-journaled", "")
    _wrap(OrderJournal, "_said", lambda kept, message: _heard(at, kept, message), _nothing)
    _wrap(
        Wire,
        "write",
        lambda _, data: _writing(at, data, "unwritten"),
        lambda wire, data: _written(at, wire, data),
    )


def _heard(at: Callable[[str], None], kept: OrderJournal, message: object) -> None:
    if isinstance(message, OpenOrder) and any(
        each.order_ref == message.order.order_ref
        and each.pending
        and each.pending.terms
        and each.pending.terms.limit_price == message.order.limit_price == ONCE_PRICE
        for each in kept.open.values()
    ):
        at("change-heard")
    if isinstance(message, OrderStatus) and "Cancelled" in message.status:
        at("cancel-heard")
    point = _HEARD.get(type(message))
    if point is not None:
        at(point)


def _writing(at: Callable[[str], None], data: bytes, what: str) -> None:
    kind = data[4:6]
    if kind in {_PLACE, _CANCEL}:
        at(f"{'order' if kind == _PLACE else 'cancel'}-{what}")


def _written(at: Callable[[str], None], wire: Wire, data: bytes) -> None:
    """The loop may hold the bytes back until its next round: before and after that."""
    _writing(at, data, "written")
    if data[4:6] in {_PLACE, _CANCEL}:
        _sent(at, wire, data)


def _sent(at: Callable[[str], None], wire: Wire, data: bytes, rounds: int = 0) -> None:
    transport = wire._transport
    if transport is None:
        return
    if rounds and not transport.get_write_buffer_size():
        _writing(at, data, "sent")
        return
    asyncio.get_running_loop().call_soon(_sent, at, wire, data, rounds + 1)


if __name__ == "__main__":
    _arm(_Executioner(os.environ.get("GANGWAY_KILL_AT", "")).at)
    sys.exit(program.main(sys.argv[1:]))
