"""The journal under any order of messages: lost, doubled, late, with crashes in between.

A model of the broker says what is true; the machine sends its messages in whatever order hypothesis
likes, some twice, some never, and reconciles now and then. What must hold is said once, below.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from msgspec import structs

from bridge.model import CommissionReport, Execution, OpenOrder, Order, OrderState, OrderStatus
from bridge.orders.apply_messages import Message, OrderErrorMessage, Own, apply_messages
from bridge.orders.lifecycle import (
    ChangeDropped,
    ChangeSent,
    ChangeUnanswered,
    Missing,
    NotSent,
    Sent,
)
from bridge.store import executions, migrations, orders
from bridge.store.executions import Query
from bridge.store.orders import PendingChange, State, Status
from tests.bridge.orders.samples import AAPL, at, record

CLIENT = 17


@dataclass
class Truth:
    """What the broker holds of one order."""

    number: int
    quantity: float
    at_broker: bool = False
    status: str = "PreSubmitted"
    filled: float = 0.0
    rejected: bool = False
    shown: bool = False
    fills: list[Execution] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.rejected or self.status in {"Filled", "Cancelled"}

    def order(self) -> Order:
        return Order(
            order_id=self.number,
            client_id=CLIENT,
            perm_id=900 + self.number,
            quantity=self.quantity,
            limit_price=100.0,
            order_ref=f"gw-{self.number}",
        )

    def report(self) -> OpenOrder:
        return OpenOrder(
            order_id=self.number,
            contract=AAPL,
            order=self.order(),
            state=OrderState(status=self.status),
        )

    def says(self) -> OrderStatus:
        return OrderStatus(
            order_id=self.number,
            status=self.status,
            filled=self.filled,
            remaining=self.quantity - self.filled,
            average_fill_price=100.0 if self.filled else 0.0,
            perm_id=900 + self.number,
            client_id=CLIENT,
        )


class Journal(RuleBasedStateMachine):
    """Orders, messages under way, and the journal that has to make sense of them."""

    numbers: Bundle[int] = Bundle("numbers")
    mail: Bundle[Message] = Bundle("mail")

    @initialize()
    def begin(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        migrations.advance(self.connection)
        self.truths: dict[int, Truth] = {}
        self.most_filled: dict[str, float] = {}
        self.delivered_executions: set[str] = set()
        self.delivered_commissions: set[str] = set()
        self.called_over: dict[str, Status] = {}
        self.seconds = 0.0

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()

    def _absorb(self, *messages: Message) -> None:
        self.seconds += 1
        self.connection.execute("BEGIN")
        apply_messages(self.connection, messages, CLIENT, at(self.seconds))
        self.connection.execute("COMMIT")

    # the bridge ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.truths) < 3)
    @rule(
        target=numbers,
        quantity=st.sampled_from([1.0, 5.0, 10.0]),
        fate=st.sampled_from(["sent", "sent", "sent, and crashed", "unsent"]),
    )
    def intend(self, quantity: float, fate: str) -> int:
        """Written down; then on the wire, or not; a crash may come before the journal notes it."""
        number = len(self.truths) + 1
        self.truths[number] = Truth(number, quantity, at_broker=fate != "unsent")
        terms = structs.replace(record().terms, order_id=number, quantity=quantity)
        orders.insert(self.connection, record(broker_order_id=number, terms=terms))
        orders.add_event(self.connection, f"o{number}", at(self.seconds), "Intention", {})
        if fate == "sent":
            self._absorb(Own(f"o{number}", Sent(at(self.seconds))))
        return number

    @rule(number=numbers)
    def find_unsent(self, number: int) -> None:
        """`place_order` raised, or the gateway has never seen its number: a certain thing."""
        if not self.truths[number].at_broker:
            self._absorb(Own(f"o{number}", NotSent(at(self.seconds), "test")))

    @rule(number=numbers, limit_price=st.sampled_from([90.0, 100.0, 120.0]))
    def change(self, number: int, limit_price: float) -> None:
        """Judged and written down; whether it reaches the broker does not matter here."""
        row = self._row(number)
        if row.state is State.ACKNOWLEDGED:
            terms = structs.replace(row.terms, limit_price=limit_price)
            money = terms.quantity * limit_price
            pending = PendingChange(at=at(self.seconds), terms=terms, notional=money)
            self._absorb(Own(row.id, ChangeSent(at(self.seconds), pending)))

    @rule(number=numbers, given_up=st.booleans())
    def end_change(self, number: int, given_up: bool) -> None:
        """It was certainly not sent, or never answered."""
        now, pending = at(self.seconds), self._row(number).pending
        noted_at = pending.at if pending else now
        ended = ChangeUnanswered(now) if given_up else ChangeDropped(now, noted_at)
        self._absorb(Own(f"o{number}", ended))

    # the broker ---------------------------------------------------------------------------------

    @rule(target=mail, number=numbers, status=st.sampled_from(["PreSubmitted", "Submitted"]))
    def work(self, number: int, status: str) -> Message:
        truth = self.truths[number]
        if truth.at_broker and not truth.done:
            truth.status = status
            truth.shown = True
            return multiple(truth.report(), truth.says())  # type: ignore[return-value]
        return multiple()  # type: ignore[return-value]

    @rule(target=mail, number=numbers, quantity=st.sampled_from([1.0, 2.0, 10.0]))
    def fill(self, number: int, quantity: float) -> Message:
        truth = self.truths[number]
        if not truth.at_broker or truth.done:
            return multiple()  # type: ignore[return-value]
        amount = min(quantity, truth.quantity - truth.filled)
        truth.filled += amount
        truth.status = "Filled" if truth.filled >= truth.quantity else "Submitted"
        truth.shown = True
        execution = Execution(
            exec_id=f"{number:04x}{len(truth.fills):04x}.6553d8a1.01.01",
            time=at(self.seconds),
            contract=AAPL,
            account="DU1234567",
            side="BOT",
            quantity=amount,
            price=100.0,
            perm_id=900 + number,
            client_id=CLIENT,
            order_id=number,
            order_ref=f"gw-{number}",
        )
        truth.fills.append(execution)
        return multiple(  # type: ignore[return-value]
            execution, truth.report(), truth.says(), _commission(execution)
        )

    @rule(target=mail, number=numbers)
    def cancel(self, number: int) -> Message:
        truth = self.truths[number]
        if not truth.at_broker or truth.done:
            return multiple()  # type: ignore[return-value]
        truth.status = "Cancelled"
        error = OrderErrorMessage(number, 202, "Order Canceled - reason:")
        return multiple(truth.says(), error)  # type: ignore[return-value]

    @rule(target=mail, number=numbers)
    def reject(self, number: int) -> Message:
        truth = self.truths[number]
        if not truth.at_broker or truth.done or truth.shown:
            return multiple()  # type: ignore[return-value]
        truth.rejected, truth.status = True, "Inactive"
        return OrderErrorMessage(number, 201, "Order rejected - reason: test")

    @rule(target=mail, number=numbers)
    def warn(self, number: int) -> Message:
        if not self.truths[number].at_broker:
            return multiple()  # type: ignore[return-value]
        return OrderErrorMessage(number, 399, "Order Message: Warning")

    # the way between them -----------------------------------------------------------------------

    @rule(message=consumes(mail))
    def deliver(self, message: Message) -> None:
        self._delivered(message)
        self._absorb(message)

    @rule(message=mail)
    def deliver_and_keep_for_later(self, message: Message) -> None:
        self._delivered(message)
        self._absorb(message, message)

    @rule(message=consumes(mail))
    def lose(self, message: Message) -> None:
        """The connection was gone at the wrong moment."""

    @rule()
    def reconcile(self) -> None:
        """What the hook after a connect absorbs, and what it concludes."""
        listed = [truth for truth in self.truths.values() if truth.at_broker]
        opened = [truth.report() for truth in listed if not truth.done]
        fills = [fill for truth in listed for fill in truth.fills]
        completed = [truth.report() for truth in listed if truth.done and not truth.rejected]
        reports: list[Message] = [*opened, *fills, *map(_commission, fills), *completed]
        for message in reports:
            self._delivered(message)
        self._absorb(*reports)
        known = {message.order.order_ref for message in (*opened, *completed)}
        for row in orders.open_orders(self.connection):
            truth = self.truths[row.broker_order_id]
            if row.order_ref in known:
                continue
            if not truth.at_broker and row.state in {State.INTENTION, State.SENT}:
                self._absorb(Own(row.id, NotSent(at(self.seconds), "never seen")))
            else:
                self._absorb(Own(row.id, Missing(at(self.seconds))))
        for truth in self.truths.values():
            self._agrees(truth)

    def _delivered(self, message: Message) -> None:
        if isinstance(message, Execution):
            self.delivered_executions.add(message.exec_id)
        if isinstance(message, CommissionReport):
            self.delivered_commissions.add(message.exec_id)

    def _row(self, number: int) -> orders.OrderRecord:
        found = orders.get(self.connection, f"o{number}")
        assert found is not None
        return found

    def _agrees(self, truth: Truth) -> None:
        """After a reconciliation the journal is right wherever it claims to know."""
        row = self._row(truth.number)
        assert row.filled == truth.filled
        if not truth.at_broker:
            assert row.status is Status.NOT_SENT
        elif truth.rejected:
            assert row.status in {Status.REJECTED, Status.UNKNOWN}
        else:
            assert row.status == truth.status
            assert row.open is not truth.done

    # what always holds --------------------------------------------------------------------------

    @invariant()
    def fills_never_shrink_and_never_exceed_the_truth(self) -> None:
        for number, truth in getattr(self, "truths", {}).items():
            row = self._row(number)
            assert row.filled >= self.most_filled.get(row.id, 0.0)
            assert row.filled <= truth.filled
            self.most_filled[row.id] = row.filled

    @invariant()
    def what_is_over_was_over_at_the_broker(self) -> None:
        for number, truth in getattr(self, "truths", {}).items():
            status = self._row(number).status
            if status is Status.FILLED:
                assert truth.status == "Filled"
            if status is Status.CANCELLED:
                assert truth.status == "Cancelled"
            if status is Status.REJECTED:
                assert truth.rejected
            if status is Status.NOT_SENT:
                assert not truth.at_broker

    @invariant()
    def what_was_called_over_stays_over(self) -> None:
        for number in getattr(self, "truths", {}):
            row = self._row(number)
            before = self.called_over.get(row.id)
            if before is Status.CANCELLED:
                assert row.status in {Status.CANCELLED, Status.FILLED}
            elif before is not None:
                assert row.status is before
            if row.status in {Status.CANCELLED, Status.FILLED, Status.REJECTED}:
                self.called_over[row.id] = row.status

    @invariant()
    def the_days_money_is_what_the_orders_and_their_changes_add_up_to(self) -> None:
        for number in getattr(self, "truths", {}):
            row = self._row(number)
            begun = record().notional
            added = self.connection.execute(
                "SELECT coalesce(sum(added), 0) FROM order_money WHERE order_id = ?", (row.id,)
            ).fetchone()[0]
            assert row.notional == begun + added
            assert row.notional >= begun

    @invariant()
    def state_and_status_belong_together(self) -> None:
        for number in getattr(self, "truths", {}):
            row = self._row(number)
            ended = row.status in {
                Status.FILLED,
                Status.CANCELLED,
                Status.REJECTED,
                Status.NOT_SENT,
            }
            assert ended is (row.state is State.TERMINAL)
            assert (row.status is Status.UNKNOWN) is (row.state is State.UNKNOWN)
            assert (row.ended_at is not None) is ended

    @precondition(lambda self: hasattr(self, "connection"))
    @invariant()
    def executions_are_there_exactly_once_with_the_commissions_that_came(self) -> None:
        rows = executions.by_time(self.connection, Query(), after=None, limit=1000)
        assert sorted(row.exec_id for row in rows) == sorted(self.delivered_executions)
        for row in rows:
            assert (row.commission is not None) is (row.exec_id in self.delivered_commissions)


def _commission(execution: Execution) -> CommissionReport:
    return CommissionReport(exec_id=execution.exec_id, commission=1.0, currency="USD")


TestJournal = Journal.TestCase
TestJournal.settings = settings(
    max_examples=120,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow],
)
