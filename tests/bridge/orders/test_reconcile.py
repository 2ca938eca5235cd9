import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from bridge.model import Order
from bridge.orders.errors import GroupIncompleteError, OrderFateUnknownError, OrderPendingError
from bridge.orders.health import OrderAlerts
from bridge.orders.order_types import INSTRUCTIONS
from bridge.orders.reconcile import Reconciler
from bridge.orders.request import Bracket, ChangeRequest, TakeProfit
from bridge.orders.rules import TradingRules
from bridge.orders.service import Settlement
from bridge.store import orders
from bridge.store.executions import Query
from bridge.store.orders import OrderRecord, PendingChange, State, Status
from bridge.tws.errors import NotConnectedError, RequestTimedOutError
from tests.bridge.orders.fake_broker import FakeBroker
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.samples import NOON, record
from tests.bridge.wound import START, WoundClock

PATIENCE = {"answer_within_seconds": 0.1}


async def _unanswered(tmp_path: Path, broker: FakeBroker) -> None:
    """A process that dies with one order on the wire and no answer."""
    broker.quiet = True
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        with pytest.raises(OrderPendingError):
            await rig.place()
    broker.quiet = False


async def _executions(rig: Rig) -> list[str]:
    await rig.journal.flush()
    page = await rig.executions.page(Query(), "", 100)
    return [each.exec_id for each in page.executions]


async def test_an_order_that_works_is_found_again(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    async with opened(tmp_path, broker) as rig:
        order = await rig.order()
        assert (order.state, order.status) == (State.ACKNOWLEDGED, Status.SUBMITTED)
        assert (await rig.place()).order_id == order.order_id
        assert len(broker.placed) == 1


async def test_an_order_that_filled_meanwhile_is_filled_with_its_execution(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    broker.fill(broker.placed[0], say=False)
    async with opened(tmp_path, broker) as rig:
        assert ((await rig.order()).status, (await rig.order()).filled) == (Status.FILLED, 10)
        assert len(await _executions(rig)) == 1
        await broker.reconnect()
        assert len(await _executions(rig)) == 1


async def test_the_days_executions_come_after_ready_where_every_open_order_is_listed(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        broker.fill(broker.placed[0], 4, say=False)
        await broker.reconnect(only_required=True)
        assert (await rig.order()).status is Status.SUBMITTED
        assert await _executions(rig) == []
        await broker.reconnect()
        assert len(await _executions(rig)) == 1


async def test_the_days_executions_come_before_ready_where_an_open_order_is_not_listed(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        broker.fill(broker.placed[0], say=False)
        await broker.reconnect(only_required=True)
        assert (await rig.order()).status is Status.FILLED
        assert len(await _executions(rig)) == 1


@pytest.mark.parametrize(
    ("word", "completed", "status"),
    [
        ("Cancelled", "Cancelled by Trader", Status.CANCELLED),
        ("Inactive", "Rejected by System: margin", Status.REJECTED),
    ],
)
async def test_an_order_that_ended_meanwhile(
    tmp_path: Path, word: str, completed: str, status: Status
) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    booked = broker.book[broker.placed[0]]
    booked.status, booked.completed_status = word, completed
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).status is status


async def _known_numbers(tmp_path: Path, broker: FakeBroker) -> None:
    """A first order that the gateway has acknowledged: its numbers are known to have begun."""
    async with opened(tmp_path, broker) as rig:
        await rig.place(key="first")


async def test_what_the_gateway_never_saw_was_not_sent_and_its_key_works_again(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    await _unanswered(tmp_path, broker)
    del broker.book[broker.placed[-1]]  # the bytes died with the socket
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).status is Status.NOT_SENT
        view = await rig.place()
        assert view.status is Status.SUBMITTED
        assert view.broker_order_id == 3


async def test_nothing_is_proved_by_a_gateway_that_has_begun_its_numbers_anew(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    await _unanswered(tmp_path, broker)
    broker.book.clear()  # taken, perhaps filled days ago; then somebody has reset the numbers
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).state is State.UNKNOWN
        with pytest.raises(OrderFateUnknownError):
            await rig.place()
        later = await rig.place(key="later")
        await broker.reconnect()
        unknown = (await rig.service.orders(only_open=True, cursor="", limit=9)).orders
        assert [each.state for each in unknown] == [
            State.ACKNOWLEDGED,
            State.UNKNOWN,
            State.ACKNOWLEDGED,
        ]
        assert unknown[0].order_id == later.order_id
    assert len(broker.placed) == 3


async def test_the_new_numbers_prove_something_of_the_orders_after_the_break(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    broker.book.clear()
    async with opened(tmp_path, broker) as rig:
        await rig.place(key="later")
    await _unanswered(tmp_path, broker)
    del broker.book[broker.placed[-1]]
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).status is Status.NOT_SENT


async def test_the_first_number_of_all_is_what_a_reset_looks_like(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    broker.book.clear()
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).state is State.UNKNOWN


async def test_another_gateways_numbers_prove_nothing(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    await _unanswered(tmp_path, broker)
    del broker.book[broker.placed[-1]]
    broker.address = "elsewhere:4002"
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).state is State.UNKNOWN


async def test_an_order_of_unknown_fate_is_not_changed(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    broker.hidden.update(broker.book)
    async with opened(tmp_path, broker) as rig:
        order = await rig.order()
        with pytest.raises(OrderFateUnknownError, match="not changed"):
            await rig.modifier.modify(order.order_id, ChangeRequest(quantity=12), CALLER)
        assert len(broker.placed) == 1


@pytest.mark.parametrize("set_back", [0.0, 7200.0])
async def test_a_change_that_the_broker_never_answers_is_not_pending_for_ever(
    tmp_path: Path, set_back: float
) -> None:
    """Whatever becomes of the machine's time of day meanwhile."""
    broker = FakeBroker()
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        rig.answers_within(20)
        view = await rig.place()
        rig.answers_within(0.1)
        broker.quiet = True
        booked = broker.book[view.broker_order_id]
        held = booked.order

        def forget(_: object) -> None:
            booked.order = held

        broker.on_place = forget
        with pytest.raises(OrderPendingError):
            await rig.modifier.modify(view.order_id, ChangeRequest(quantity=12), CALLER)
        rig.clock.set_back(set_back)
        async with asyncio.timeout(20):
            while (await rig.order()).pending is not None:
                rig.clock.tick()
                await asyncio.sleep(0.02)
        order = await rig.order()
        assert (order.quantity, order.status) == (10, Status.SUBMITTED)
        assert "never answered the last change" in (order.warning or "")


async def test_a_list_does_not_take_back_what_the_broker_has_said_since(tmp_path: Path) -> None:
    """A busy machine reads the end of the list and the answer to a change in one go."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        order = await rig.place()
        booked = broker.book[order.broker_order_id]

        def change_it() -> None:
            booked.order = structs.replace(booked.order, limit_price=99.0)
            broker.events.open_order.emit(booked.shown())

        broker.on_listed = change_it
        await broker.reconnect()
        assert (await rig.view(order.order_id)).limit_price == 99.0


@pytest.mark.parametrize("ended", ["Cancelled", "Filled"])
async def test_a_change_that_was_taken_before_the_order_ended_shows(
    tmp_path: Path, ended: str
) -> None:
    """The process died before it heard either; only the list of completed orders tells."""
    broker = FakeBroker()
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        rig.answers_within(20)
        order = await rig.place()
        rig.answers_within(0.1)
        broker.quiet = True
        with pytest.raises(OrderPendingError):
            await rig.modifier.modify(order.order_id, ChangeRequest(limit_price=99.0), CALLER)
    broker.book[order.broker_order_id].status = ended
    broker.quiet = False
    async with opened(tmp_path, broker) as rig:
        view = await rig.view(order.order_id)
        assert (view.status, view.limit_price, view.pending) == (ended, 99.0, None)


async def test_an_entry_whose_bracket_was_never_complete_is_taken_back(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    bracket = Bracket(take_profit=TakeProfit(limit_price=110.0))

    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        broker.quiet = True
        with pytest.raises(OrderPendingError):
            await rig.place(bracket=bracket)
        entry, exit_ = broker.placed[1:]
    del broker.book[exit_]  # the process died between the two, and the gateway holds the first back
    broker.hidden.add(entry)
    broker.quiet = False
    async with opened(tmp_path, broker) as rig:
        await rig.journal.flush()
        page = await rig.service.orders(only_open=False, cursor="", limit=10)
        assert [each.status for each in page.orders][:2] == [Status.NOT_SENT, Status.CANCELLED]
        assert broker.cancelled == [entry]
        with pytest.raises(GroupIncompleteError, match="entry Cancelled, take-profit NotSent"):
            await rig.place(bracket=bracket)
        assert len(broker.placed) == 3


async def test_the_same_when_the_process_dies_once_more_before_it_is_taken_back(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    bracket = Bracket(take_profit=TakeProfit(limit_price=110.0))
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        broker.quiet = True
        with pytest.raises(OrderPendingError):
            await rig.place(bracket=bracket)
        entry, exit_ = broker.placed[1:]
    del broker.book[exit_]
    broker.hidden.add(entry)
    broker.quiet = False
    async with opened(tmp_path, broker, reconcile=False):
        await broker.reconnect(only_required=True)
        assert broker.cancelled == []
    async with opened(tmp_path, broker) as rig:
        assert broker.cancelled == [entry]
        entry_id = (await rig.order()).group_id
        assert (await rig.view(entry_id)).status is Status.CANCELLED


async def test_what_the_gateway_may_have_seen_is_unknown_told_once_and_never_sent_again(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    broker.hidden.update(broker.book)  # its number is used, and nothing is known of it
    async with opened(tmp_path, broker, reconcile=False) as rig:
        told: list[Any] = []
        rig.services[OrderAlerts].order_unknown.listen(told.append)
        await broker.reconnect()
        await broker.reconnect()
        assert [record.id for record in told] == [(await rig.order()).order_id]
        assert (await rig.order()).state is State.UNKNOWN
        with pytest.raises(OrderFateUnknownError):
            await rig.place()
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).state is State.UNKNOWN
        assert len(broker.placed) == 1


async def test_the_broker_clears_up_what_was_unknown(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    broker.hidden.update(broker.book)
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).state is State.UNKNOWN
        broker.fill(broker.placed[0])
        assert (await rig.order()).status is Status.FILLED
        assert (await rig.place()).status is Status.FILLED


async def test_a_person_settles_what_stays_unknown(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _unanswered(tmp_path, broker)
    broker.hidden.update(broker.book)
    async with opened(tmp_path, broker) as rig:
        order = await rig.order()
        settlement = Settlement(status="Cancelled", note="seen in the portal")
        view = await rig.service.settle(order.order_id, settlement, CALLER)
        assert (view.state, view.status) == (State.TERMINAL, Status.CANCELLED)
        assert (await rig.place()).status is Status.CANCELLED


async def test_an_acknowledged_order_that_vanished_overnight_is_unknown(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
    booked, broker.book = broker.book, {}
    async with opened(tmp_path, broker) as rig:
        assert (await rig.order()).state is State.ACKNOWLEDGED  # the gateway has just logged in
        rig.clock.wind(61)
        await rig.clock.look()
        assert (await rig.order()).state is State.UNKNOWN
        broker.book = booked
        await broker.reconnect()
        assert (await rig.order()).status is Status.SUBMITTED


@pytest.mark.parametrize("set_back", [0.0, 7200.0])
async def test_an_order_that_vanishes_while_connected_is_unknown(
    tmp_path: Path, set_back: float
) -> None:
    """Whatever becomes of the machine's time of day meanwhile."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        broker.book.clear()
        rig.clock.set_back(set_back)
        for state in (State.ACKNOWLEDGED, State.UNKNOWN):
            rig.clock.wind(61)
            lists = broker.lists
            await rig.clock.look()
            assert broker.lists == lists + 2, "what is missing once is looked for again"
            assert (await rig.order()).state is state


async def test_an_entry_that_was_held_back_and_is_gone_does_not_stay_open(tmp_path: Path) -> None:
    """The gateway was restarted: it never gave the entry of an incomplete bracket to the broker."""
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    bracket = Bracket(take_profit=TakeProfit(limit_price=110.0))

    def silent_on_the_exit(order: Order) -> None:
        broker.quiet = bool(order.parent_id)

    broker.on_place = silent_on_the_exit
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        with pytest.raises(OrderPendingError):
            await rig.place("key-2", bracket=bracket)
        entry, exit_ = broker.placed[1:]
    del broker.book[exit_]
    broker.hidden.add(entry)
    broker.book[entry].status = "Cancelled"  # gone: a cancel is answered with 10147
    broker.quiet = False
    async with opened(tmp_path, broker) as rig:
        entry_id = (await rig.order()).group_id
        assert (await rig.view(entry_id)).ended_at is None
        assert broker.cancelled == [entry]
        for _ in range(2):
            rig.clock.wind(61)
            await rig.clock.look()
        await rig.journal.flush()
        assert (await rig.view(entry_id)).state is State.UNKNOWN
        assert broker.cancelled == [entry]


async def test_what_was_sent_on_this_connection_is_never_called_not_sent(tmp_path: Path) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        with pytest.raises(OrderPendingError):
            await rig.place()
        broker.hidden.update(broker.book)
        for hook, _ in broker.reconcilers:  # as after 1101: the socket never went away
            await hook()
        assert (await rig.order()).state is State.UNKNOWN


async def test_an_overdue_answer_is_asked_for_while_connected(tmp_path: Path) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        with pytest.raises(OrderPendingError):
            await rig.place()
        async with asyncio.timeout(20):
            while (await rig.order()).state is not State.ACKNOWLEDGED:
                rig.clock.tick()
                await asyncio.sleep(0.02)
        assert (await rig.place()).status is Status.SUBMITTED


async def test_an_order_between_journal_and_wire_is_left_alone(tmp_path: Path) -> None:
    broker = FakeBroker(hold=asyncio.Event())
    async with opened(tmp_path, broker) as rig:
        task = asyncio.create_task(rig.place())
        while not await rig.database.read(orders.count_open):
            await asyncio.sleep(0)
        for hook, required in broker.reconcilers:
            if required:
                await hook()
        assert (await rig.order()).state is State.INTENTION
        assert broker.hold is not None
        broker.hold.set()
        assert (await task).status is Status.SUBMITTED


async def test_orders_that_are_not_ours_change_nothing_but_their_executions_are_kept(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.fill(view.broker_order_id)
        execution, report = broker.fills[0]
        from msgspec import structs

        foreign = structs.replace(
            execution,
            exec_id="0000ffff.6553d8a1.01.01",
            client_id=0,
            order_id=0,
            perm_id=5,
            order_ref="by hand",
        )
        broker.fills.append((foreign, None))
        await broker.reconnect()
        await rig.journal.flush()
        page = await rig.executions.page(Query(), "", 10)
        assert [each.order_id for each in page.executions] == [view.order_id, None]
        assert report is not None
        assert page.executions[0].commission == report.commission


async def test_a_failed_write_is_tried_again_until_the_disk_takes_it(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        writing, failures = rig.database.write, 3

        async def flaky(work: Any, **options: Any) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise OSError(28, "No space left on device")
            return await writing(work, **options)

        rig.database.write = flaky  # type: ignore[method-assign]
        broker.fill(view.broker_order_id)
        assert (await rig.order()).status is Status.FILLED
        assert len(await _executions(rig)) == 1


async def test_a_look_that_a_loss_cuts_in_two_concludes_nothing(tmp_path: Path) -> None:
    broker = FakeBroker()
    await _known_numbers(tmp_path, broker)
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        broker.quiet = True
        with pytest.raises(OrderPendingError):
            await rig.place()
        del broker.book[broker.placed[-1]]  # the bytes died with the socket
        looking, looks = broker.completed_orders, 0

        async def lost_on_the_way(**options: Any) -> Any:
            nonlocal looks
            looks += 1
            if looks == 1:
                broker.events.lost.emit("test")
            return await looking(**options)

        broker.completed_orders = lost_on_the_way  # type: ignore[method-assign]
        rig.clock.wind(6)
        await rig.clock.look()
        assert looks == 2
        assert (await rig.order()).state is State.SENT
        broker.quiet = False
        await broker.reconnect()
        assert (await rig.order()).status is Status.NOT_SENT


async def test_what_was_unknown_is_not_sent_once_that_is_proved(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        await _on_its_way(broker, rig)
        del broker.book[broker.placed[-1]]
        for hook, _ in broker.reconcilers:  # as after 1101: the socket never went away
            await hook()
        assert (await rig.order()).state is State.UNKNOWN
        await broker.reconnect()
        assert (await rig.order()).status is Status.NOT_SENT


class Numbers:
    """Stands where the sequence of numbers does: every number is a proof."""

    async def never_reached(self, number: int, order_id: str) -> bool:
        return True


def alone(*records: OrderRecord) -> tuple[Reconciler, WoundClock, list[float]]:
    """A reconciler without a broker, that clock, and the seconds at which it compared."""
    clock, compared = WoundClock(), list[float]()
    rules = TradingRules(answer_within_seconds=5)
    gateway: Any = SimpleNamespace(client_id=17, require_ready=lambda: None)
    sender: Any = SimpleNamespace(on_this_connection={"on-it"})
    journal: Any = SimpleNamespace(missed=False, sending={})
    nobody: Any = None
    numbers: Any = Numbers()
    made = Reconciler(nobody, gateway, journal, sender, nobody, nobody, numbers, rules, clock)

    async def compare(*, later: bool = False) -> None:
        compared.append(clock.monotonic())
        made._looked_second = clock.monotonic()

    async def suspects(which: object = None) -> list[OrderRecord]:
        return list(records)

    made.reconcile = compare  # type: ignore[method-assign]
    made._suspects = suspects  # type: ignore[method-assign]
    return made, clock, compared


@pytest.mark.parametrize(
    ("state", "created", "pending", "overdue"),
    [
        (State.INTENTION, 5.0, None, False),
        (State.INTENTION, 5.1, None, True),
        (State.SENT, 5.0, None, False),
        (State.SENT, 5.1, None, True),
        (State.SENT, 4.0, 9.0, False),
        (State.ACKNOWLEDGED, 99.0, None, False),
        (State.ACKNOWLEDGED, 99.0, 5.0, False),
        (State.ACKNOWLEDGED, 99.0, 5.1, True),
        (State.UNKNOWN, 99.0, None, False),
    ],
)
def test_when_an_answer_is_overdue(
    state: State, created: float, pending: float | None, overdue: bool
) -> None:
    made, clock, _ = alone()
    now = clock.now()
    change = None if pending is None else PendingChange(at=now - timedelta(seconds=pending))
    order = record(state=state, created_at=now - timedelta(seconds=created), pending=change)
    assert made._overdue(order, now) is overdue


@pytest.mark.parametrize(("seconds", "long"), [(0.0, False), (49.5, False), (50.0, True)])
def test_an_acknowledged_order_is_absent_for_a_minute_before_that_counts(
    seconds: float, long: bool
) -> None:
    made, clock, _ = alone()
    assert not made._is_absent_for_long(record()), "nobody has missed it"
    made._absent = {"o7": clock.monotonic()}
    clock.advance(seconds)
    for state in State:
        order = record(state=state)
        assert made._is_absent_for_long(order) is long
        assert made._absent_long_enough(order) is (long or state is not State.ACKNOWLEDGED)


@pytest.mark.parametrize(
    ("fields", "certain"),
    [
        ({}, True),
        ({"state": State.UNKNOWN}, True),
        ({"acknowledged_at": NOON}, False),
        ({"state": State.TERMINAL}, False),
        ({"client_id": 18}, False),
        ({"id": "on-it"}, False),
        ({"terms": Order(order_type=INSTRUCTIONS["exercise"])}, False),
        ({"terms": Order(order_type=INSTRUCTIONS["lapse"])}, False),
    ],
)
async def test_when_it_is_certain_that_the_gateway_never_got_an_order(
    fields: dict[str, Any], certain: bool
) -> None:
    made, _, _ = alone()
    assert await made._never_seen(record(**({"state": State.SENT} | fields))) is certain


async def test_while_connected_it_looks_once_a_minute_and_sooner_when_it_has_to() -> None:
    made, clock, compared = alone()
    for seconds in (4.0, 30.0, 25.5):
        clock.advance(seconds)
        await made._tend()
    assert compared == [], "nothing is overdue"
    clock.advance(0.5)
    await made._tend()
    assert len(compared) == 1, "a minute is over"
    for reason in ("missed", "silent"):
        if reason == "missed":
            made._journal.missed = True
        else:
            made.silent = {"executions": clock.now()}
        clock.advance(4.5)
        await made._tend()
        clock.advance(0.5)
        await made._tend()
        assert made._journal.missed is False
    assert [each - compared[0] for each in compared] == [0.0, 5.0, 10.0]


async def test_what_is_overdue_is_looked_for_and_never_without_a_session() -> None:
    made, clock, compared = alone(
        record(state=State.SENT, created_at=START - timedelta(seconds=60))
    )
    clock.advance(4.5)
    await made._tend()
    assert compared == []
    clock.advance(0.5)
    await made._tend()
    assert len(compared) == 1

    def away() -> None:
        raise NotConnectedError("gone")

    made._gateway.require_ready = away  # type: ignore[method-assign]
    clock.advance(99.0)
    with pytest.raises(NotConnectedError):
        await made._tend()
    assert len(compared) == 1


async def test_a_list_that_is_not_answered_is_named_since_the_first_time() -> None:
    made, clock, _ = alone()

    async def silence() -> str:
        raise RequestTimedOutError("by the test")

    async def answer() -> str:
        return "listed"

    since = clock.now()
    assert await made._answered("executions", silence()) is None
    clock.advance(7.0)
    assert await made._answered("executions", silence()) is None
    assert made.silent == {"executions": since}
    assert await made._answered("completed orders", answer()) == "listed"
    assert made.silent == {"executions": since}
    assert await made._answered("executions", answer()) == "listed"
    assert made.silent == {}


async def test_who_is_cancelled_when_the_journal_is_done_is_cancelled(tmp_path: Path) -> None:
    """Else a lost connection is never noticed: the look at the orders would go on without it."""
    async with opened(tmp_path, FakeBroker()) as rig:
        journal = rig.journal
        told: list[Any] = []
        put = journal._put
        journal._put = told.append  # type: ignore[assignment, method-assign]
        flushing = asyncio.create_task(journal.flush())
        await asyncio.sleep(0)
        journal._put = put  # type: ignore[method-assign]
        told[0].set_result(None)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing


async def _on_its_way(broker: FakeBroker, rig: Rig) -> None:
    """An order without an answer, behind one that has told that the numbers have begun."""
    rig.answers_within(20)
    await rig.place(key="first")
    rig.answers_within(0.1)
    broker.quiet = True
    with pytest.raises(OrderPendingError):
        await rig.place()
    broker.quiet = False


async def _nowhere_at_first_look(broker: FakeBroker, rig: Rig) -> None:
    """An order whose bytes died with the socket; the next connection has only begun."""
    await _on_its_way(broker, rig)
    del broker.book[broker.placed[-1]]
    await broker.reconnect(only_required=True)
    rig.answers_within(20)


async def test_no_new_order_waits_for_the_second_look(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        await _nowhere_at_first_look(broker, rig)
        assert (await rig.order()).state is State.SENT
        await broker.reconnect()
        assert (await rig.order()).status is Status.NOT_SENT


async def test_a_newer_order_between_two_looks_takes_no_proof_away(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        await _nowhere_at_first_look(broker, rig)
        lost = (await rig.order()).order_id
        await rig.place(key="newer")
        await broker.reconnect()
        assert (await rig.view(lost)).status is Status.NOT_SENT


@pytest.mark.parametrize(
    ("seconds", "elsewhere", "status"),
    [(0, "", Status.NOT_SENT), (60, "", Status.NOT_SENT), (121, "", Status.UNKNOWN),
     (-60, "", Status.UNKNOWN), (0, "elsewhere:4002", Status.UNKNOWN)],
)  # fmt: skip
async def test_nor_does_the_end_of_the_process_then(
    seconds: float, elsewhere: str, status: Status, tmp_path: Path
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        await _nowhere_at_first_look(broker, rig)
        lost = (await rig.order()).order_id
        await rig.place(key="newer")
        later = (rig.clock.now() - NOON).total_seconds() + seconds
    broker.address = elsewhere or broker.address
    async with opened(tmp_path, broker, later=later) as rig:
        assert (await rig.view(lost)).status is status


async def test_what_turns_up_between_two_looks_is_an_open_order(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        await _on_its_way(broker, rig)
        late = broker.placed[-1]
        on_its_way = broker.book.pop(late)
        await broker.reconnect(only_required=True)
        broker.book[late] = on_its_way
        for hook, required in broker.reconcilers:
            if not required:
                await hook()
        assert (await rig.order()).state is State.ACKNOWLEDGED
