"""`python -m tests.bridge.rules.shifted_bridge`: the bridge at another time of the week.

`GANGWAY_CLOCK_OFFSET` is added to the machine's clock, so that the market is open whenever the
tests run. `GANGWAY_KILL_AT` is `POINT:TIMES`: the process sends itself SIGKILL when it has come to
that point of a close so many times (as in `tests.bridge.orders.killed_bridge`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bridge import __main__ as program
from bridge.clock import SystemClock
from bridge.orders.modify import OrderModifier
from bridge.orders.sender import OrderSender
from bridge.orders.submit import OrderSubmitter
from bridge.rules.closing import Closes
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.journal import RuleJournal
from bridge.rules.protection import Protection
from bridge.store import rules as store
from bridge.tws.wire import Wire
from tests.bridge.orders.killed_bridge import _Executioner, _nothing, _wrap, _writing, _written

OFFSET = timedelta(seconds=float(os.environ.get("GANGWAY_CLOCK_OFFSET", "0")))


def _now(_: SystemClock) -> datetime:
    return datetime.now(UTC) + OFFSET


def _passing(at: Callable[[str], None], point: str) -> Callable[..., None]:
    return (lambda *_: at(point)) if point else _nothing


def _arm(executioner: _Executioner) -> None:
    at = executioner.at
    for owner, name, before, after in (
        (Closes, "begin", "deciding", "decided"),
        (Closes, "_keep", "keeping-close", "close-kept"),
        (Closes, "_tell", "telling", "told"),
        (store, "save_close", "", "close-in-transaction"),
        (ClosingOrders, "others", "", "others-known"),
        (ClosingOrders, "send", "sending", "sent"),
        (ClosingOrders, "change", "changing", "changed"),
        (Protection, "send", "stop-planned", "stop-placed"),
        (Protection, "withdraw", "withdrawing", "withdrawn"),
        (ClosingOrders, "cancel_order", "cancelling-stop", "stop-cancelled"),
        (ClosingOrders, "change_order", "changing-stop", "stop-changed"),
        (RuleJournal, "keep", "keeping-memory", "memory-kept"),
        (OrderSender, "_write_down", "order-not-noted", "order-noted"),
        (OrderSubmitter, "place", "", "order-answered"),
        (OrderModifier, "_carry_out", "change-noted", "change-answered"),
    ):
        _wrap(
            owner,
            name,
            _passing(at, before),
            _passing(at, after),
        )
    _wrap(
        Wire,
        "write",
        lambda _, data: _writing(at, data, "unwritten"),
        lambda wire, data: _written(at, wire, data),
    )


if __name__ == "__main__":
    SystemClock.now = _now  # type: ignore[assignment,method-assign]
    _arm(_Executioner(os.environ.get("GANGWAY_KILL_AT", "")))
    sys.exit(program.main(sys.argv[1:]))
