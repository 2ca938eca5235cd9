"""Takes the broker's messages into the journal: one function over a connection, no clock, no loop.

Which order a message is about: its reference names it; else the broker's permanent id; else the
number under this client id. A message about someone else's order leaves the orders alone; an
execution of it is kept all the same.

An order under one of our own references that the journal does not know is adopted: the journal has
lost it. Then the journal itself is in doubt (`bridge.store.identity`).

A message that cannot be kept (its numbers do not fit, its row is damaged) is set aside in the
quarantine, alone: what came with it is applied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from msgspec import Struct, to_builtins

from bridge.model import (
    CommissionReport,
    Contract,
    Execution,
    OpenOrder,
    Order,
    OrderStatus,
    Unreadable,
)
from bridge.orders import lifecycle, order_ids
from bridge.orders.lifecycle import Happening
from bridge.store import audit, executions, orders, quarantine
from bridge.store.audit import AuditEntry
from bridge.store.database import may_heal
from bridge.store.executions import ExecutionRow, Novelty
from bridge.store.orders import OrderRecord

CHANGE_SETTLES: Final = timedelta(seconds=60)
"""So long after a change was sent, a refusal is of the change; the order goes on."""
_CHANGE_SENT: Final = (lifecycle.ChangeSent.__name__, '"terms":{')  # a cancel has no terms


class OrderErrorMessage(Struct, frozen=True):
    """The broker's error about the order with this number."""

    broker_order_id: int
    code: int
    text: str


class Own(Struct, frozen=True):
    """Something the bridge itself knows of an order."""

    order_id: str
    happening: Happening


Message = (
    OpenOrder | OrderStatus | Execution | CommissionReport | OrderErrorMessage | Own | Unreadable
)


class Applied(Struct):
    """What has changed: the last state of each order and execution that did.

    `set_aside` is what could not be kept, `quarantined` how many are now (None: as before).
    """

    orders: dict[str, OrderRecord]
    executions: dict[str, ExecutionRow]
    set_aside: list[quarantine.Entry]
    quarantined: int | None = None
    adopted: int = 0
    look: bool = False
    """Whether only the broker's lists can tell how an order stands now."""

    def take(self, other: Applied) -> None:
        """Adds what came later."""
        self.orders |= other.orders
        self.executions |= other.executions
        self.set_aside += other.set_aside
        self.adopted += other.adopted
        self.look |= other.look
        if other.quarantined is not None:
            self.quarantined = other.quarantined


_Name = tuple[str | int, ...]


class MessageApplier:
    """Applies messages of one client id within one transaction.

    An order is read once and written once for all that is said of it; `finish` writes.
    """

    def __init__(self, connection: sqlite3.Connection, client_id: int, now: datetime) -> None:
        self._connection = connection
        self._client_id = client_id
        self._now = now
        self.result = Applied({}, {}, [])
        self._present: dict[str, OrderRecord] = {}
        """Orders as they are by now, by their id."""
        self._rows: dict[str, OrderRecord] = {}
        """The same orders as their rows have them."""
        self._names: dict[_Name, str] = {}
        """What they are called in messages."""
        self._doubtful = quarantine.count(connection) > 0
        """Whether something is set aside that a message may mend."""

    def apply(self, message: Message) -> None:
        """Takes one message in."""
        now = self._now
        match message:
            case Own(order_id, happening):
                self._advance(self._known(orders.get, order_id), happening)
            case OpenOrder():
                record = self._of_open_order(message) or self._adopt(
                    message.contract, message.order
                )
                self._advance(record, lifecycle.Reported(now, message))
            case OrderStatus():
                self._advance(self._of_status(message), lifecycle.StatusReported(now, message))
            case OrderErrorMessage(number, code, text):
                record = self._known(orders.by_broker_order, self._client_id, number)
                changed = record is not None and orders.had_event_since(
                    self._connection, record.id, *_CHANGE_SENT, now - CHANGE_SETTLES
                )
                self._advance(record, lifecycle.BrokerError(now, code, text, changed))
                self.result.look |= changed and record is not None and record.pending is None
            case Execution():
                self._execution(message)
            case CommissionReport():
                self._commission(message)
            case Unreadable():
                self._set_aside(message)
            case _:
                assert_never(message)
        known = isinstance(message, Own | Unreadable)
        mendable = self._doubtful and not known
        if mendable and quarantine.mended(self._connection, *about(message), now):
            self.result.quarantined = quarantine.count(self._connection)

    def _set_aside(self, message: Unreadable) -> None:
        entry = quarantine.Entry(
            kind=message.kind,
            name=message.name,
            cause=message.cause,
            content=message.content,
            at=self._now,
        )
        fresh, self._doubtful = quarantine.add(self._connection, entry), True
        self.result.quarantined = quarantine.count(self._connection)
        if not fresh:
            return
        self.result.set_aside.append(entry)
        detail = {"kind": entry.kind, "cause": quarantine.plain(entry.cause)}
        self._note("message.set-aside", quarantine.plain(entry.name), detail, "set-aside")

    def _advance(self, record: OrderRecord | None, happening: Happening) -> None:
        if record is None:
            return
        after = lifecycle.apply(record, happening)
        if after is record:
            return
        self._present[after.id] = after
        if after.perm_id != record.perm_id:
            self._write(after.id)  # the next message may call it by this name
            self._names.clear()
        if after.notional != record.notional:
            orders.add_money(
                self._connection, record.id, self._now, after.notional - record.notional
            )
        kind = type(happening).__name__
        orders.add_event(self._connection, record.id, self._now, kind, _difference(record, after))
        self.result.orders[after.id] = after

    def finish(self) -> Applied:
        """Brings the rows up to date; what has changed."""
        for order_id in self._present:
            self._write(order_id)
        return self.result

    def _write(self, order_id: str) -> None:
        present = self._present[order_id]
        if present is not self._rows[order_id]:
            orders.save(self._connection, present, self._rows[order_id])
            self._rows[order_id] = present

    def _known(
        self, look: Callable[..., OrderRecord | None], *name: str | int
    ) -> OrderRecord | None:
        """The order that `look` finds under this name, with what this transaction knows of it."""
        called = (look.__name__, *name)
        known = self._names.get(called)
        if known is not None:
            return self._present[known]
        found = look(self._connection, *name)
        if found is None:
            return None
        self._names[called] = found.id
        if found.id not in self._present:
            self._present[found.id] = self._rows[found.id] = found
        return self._present[found.id]

    def _of_open_order(self, message: OpenOrder) -> OrderRecord | None:
        order = message.order
        return self._find(
            order.order_ref, order.perm_id, order.client_id, message.order_id or order.order_id
        )

    def _of_status(self, message: OrderStatus) -> OrderRecord | None:
        return self._find("", message.perm_id, message.client_id, message.order_id)

    def _find(
        self, order_ref: str, perm_id: int, client_id: int, number: int
    ) -> OrderRecord | None:
        if order_ref:
            return self._known(orders.by_ref, order_ref)
        known = self._known(orders.by_perm_id, perm_id) if perm_id else None
        if known is not None or number <= 0:
            return known
        numbered = self._known(orders.by_broker_order, client_id, number)
        if numbered is not None and numbered.perm_id and perm_id and numbered.perm_id != perm_id:
            return None  # the broker has begun its numbers anew: this is another order
        return numbered

    def _execution(self, message: Execution) -> None:
        record = self._find(message.order_ref, message.perm_id, message.client_id, message.order_id)
        if record is None:
            record = self._adopt(message.contract, _terms(message))
        order_id = record.id if record else None
        if executions.record(self._connection, message, order_id) is Novelty.NOTHING:
            return
        self._note_execution(message.exec_id)
        if record is not None:
            quantity, average = executions.sum_of_order(
                self._connection, record.id, record.contract.sec_type
            )
            self._advance(record, lifecycle.Executed(self._now, quantity, average))

    def _adopt(self, contract: Contract, order: Order) -> OrderRecord | None:
        """Takes an order of this bridge's over that the journal does not know; None: not ours."""
        digest = order_ids.digest_of(order.order_ref)
        if digest is None or order.client_id != self._client_id or order.order_id <= 0:
            return None
        record = lifecycle.adopted(self._now, digest, contract, order)
        orders.insert(self._connection, record)
        self._present[record.id] = self._rows[record.id] = record
        self._names.clear()
        detail = {"orderRef": order.order_ref, "permId": order.perm_id}
        orders.add_event(self._connection, record.id, self._now, "Adopted", detail)
        self._note("order.adopted", record.id, detail, "adopted")
        self.result.orders[record.id] = record
        self.result.adopted += 1
        return record

    def _note(self, action: str, target: str, detail: dict[str, Any], result: str) -> None:
        entry = AuditEntry(
            at=self._now,
            api_key_id="bridge",
            request_id="",
            action=action,
            target=target,
            detail=detail,
            result=result,
        )
        audit.add(self._connection, entry)

    def _commission(self, message: CommissionReport) -> None:
        if executions.record_commission(self._connection, message) and executions.touch(
            self._connection, message.exec_id
        ):
            self._note_execution(message.exec_id)

    def _note_execution(self, exec_id: str) -> None:
        row = executions.by_exec_id(self._connection, exec_id)
        if row is not None:
            self.result.executions[row.exec_id] = row


def apply_messages(
    connection: sqlite3.Connection, messages: Iterable[Message], client_id: int, now: datetime
) -> Applied:
    """Takes messages in, in their order; returns what they have changed.

    One that cannot be kept is set aside, and the others stay.

    Raises:
        sqlite3.Error: the disk is in trouble; the whole transaction is to be tried again.
    """
    every = tuple(messages)
    applier = MessageApplier(connection, client_id, now)
    connection.execute("SAVEPOINT messages")
    try:
        for message in every:
            applier.apply(message)
        result = applier.finish()
    except Exception as error:
        if may_heal(error):
            raise
        connection.execute("ROLLBACK TO messages")
        result = _each_alone(connection, every, client_id, now)
    connection.execute("RELEASE messages")
    return result


def _each_alone(
    connection: sqlite3.Connection, messages: Iterable[Message], client_id: int, now: datetime
) -> Applied:
    """With a savepoint for each, when one of them cannot be kept."""
    result = Applied({}, {}, [])
    for message in messages:
        connection.execute("SAVEPOINT message")
        applier = MessageApplier(connection, client_id, now)
        try:
            applier.apply(message)
            applied = applier.finish()
        except Exception as error:
            if may_heal(error) or isinstance(message, Unreadable):
                raise
            connection.execute("ROLLBACK TO message")
            applier = MessageApplier(connection, client_id, now)
            applier.apply(_unkept(message, error))
            applied = applier.finish()
        connection.execute("RELEASE message")
        result.take(applied)
    return result


def apply_own(
    connection: sqlite3.Connection, messages: Iterable[Message], client_id: int, now: datetime
) -> Applied:
    """The same for what the bridge itself decides: all of it is kept, or this raises."""
    applier = MessageApplier(connection, client_id, now)
    for message in messages:
        applier.apply(message)
    return applier.finish()


def about(message: Message) -> tuple[str, str]:
    """The kind of a message, and the name of what it is about."""
    match message:
        case Own(order_id, happening):
            return f"own-{type(happening).__name__.lower()}", order_id
        case OpenOrder():
            return "open-order", str(message.order.order_ref or message.order_id)
        case OrderStatus():
            return "order-status", str(message.order_id)
        case OrderErrorMessage(number, code):
            return "order-error", f"{number}/{code}"
        case Execution():
            return "execution", message.exec_id
        case CommissionReport():
            return "commission", message.exec_id
        case Unreadable():
            return message.kind, message.name


def _terms(execution: Execution) -> Order:
    """What a fill tells of its order."""
    return Order(
        order_id=execution.order_id,
        client_id=execution.client_id,
        perm_id=execution.perm_id,
        action="BUY" if execution.side == "BOT" else "SELL",
        quantity=max(execution.cumulative_quantity, execution.quantity),
        order_type="MKT",
        account=execution.account,
        order_ref=execution.order_ref,
    )


def _unkept(message: Message, error: Exception) -> Unreadable:
    kind, name = about(message)
    cause = f"{type(error).__name__}: {error}"
    return Unreadable(kind=kind, name=name, cause=cause, content=repr(message))


def _difference(before: OrderRecord, after: OrderRecord) -> dict[str, Any]:
    """The members that changed, with their new values."""
    old, new = to_builtins(before), to_builtins(after)
    return {name: new[name] for name in new if new[name] != old[name] and name != "updatedAt"}
