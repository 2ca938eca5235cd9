import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bridge.auditing import Caller
from bridge.model import Contract, Order
from bridge.orders.errors import (
    ChangeRejectedError,
    ChangeReplacedError,
    KeyBoundError,
    OrderNotOpenError,
    OrderNotSentError,
    OrderPendingError,
    OrderRefusedByRulesError,
    TradingHaltedError,
    UnknownOrderError,
)
from bridge.orders.request import Bracket, ChangeRequest, StopLoss
from bridge.orders.service import Settlement
from bridge.store.keys import KeyBounds
from bridge.store.orders import Status
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import NotConnectedError, OrderRefusedError
from tests.bridge.orders.fake_broker import FakeBroker, listed, quote_at
from tests.bridge.orders.order_rig import CALLER, Rig, opened


async def _modify(rig: Rig, order_id: str, **changes: Any) -> Any:
    return await rig.modifier.modify(order_id, ChangeRequest(**changes), CALLER)


async def _held_on_its_way(
    rig: Rig, order_id: str, **changes: Any
) -> tuple[asyncio.Task[Any], asyncio.Event]:
    """A change that is written down, and gets onto the wire when the event is set."""
    hold = rig.broker.hold = asyncio.Event()
    changing = asyncio.create_task(_modify(rig, order_id, **changes))
    while (await rig.order()).pending is None:
        await asyncio.sleep(0)
    return changing, hold


async def test_a_change_keeps_the_order_and_shows_its_new_terms(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        after = await _modify(rig, view.order_id, limit_price=99.5, quantity=12)
        assert (after.limit_price, after.quantity, after.pending) == (99.5, 12, None)
        assert broker.placed == [view.broker_order_id] * 2
        assert broker.book[view.broker_order_id].order.limit_price == 99.5
        assert broker.book[view.broker_order_id].order.order_ref == view.order_ref


async def test_a_change_is_held_against_the_same_rules(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_quantity=20) as rig:
        view = await rig.place()
        for changes, code in (
            ({"quantity": 21}, "max-quantity"),
            ({"limit_price": 150.0}, "price-band"),
            ({"limit_price": 99.001}, "price-off-tick"),
            ({"stop_price": 90.0}, "unexpected-field"),
            ({"limit_price": -1.0}, "invalid-field"),
            ({"quantity": float("nan")}, "invalid-field"),
            ({"quantity": 1e30}, "invalid-field"),
            ({"limit_price": 1e300}, "invalid-field"),
            ({"tif": "GTD"}, "missing-field"),
            ({"good_till_date": "20260619 16:00:00"}, "unexpected-field"),
            ({"tif": "GTD", "good_till_date": "2026\0"}, "invalid-field"),
            ({"tif": "GTD", "good_till_date": "20260631 16:00:00"}, "invalid-field"),
            ({}, "missing-field"),
        ):
            with pytest.raises(OrderRefusedByRulesError) as raised:
                await _modify(rig, view.order_id, **changes)
            assert code in {each.code for each in raised.value.violations}, changes
        assert len(broker.placed) == 1


async def test_what_nobody_can_tell_the_worth_of_is_not_made_larger(tmp_path: Path) -> None:
    broker = FakeBroker()
    market = {"order_type": "MKT", "limit_price": None}
    async with opened(tmp_path, broker, max_notional=1500) as rig:
        view = await rig.place(**market)
    broker.on_open = lambda line: line.fail(354)
    async with opened(tmp_path, broker, max_notional=1500) as rig:
        with pytest.raises(OrderRefusedByRulesError) as raised:
            await _modify(rig, view.order_id, quantity=1000)
        assert {each.code for each in raised.value.violations} == {"no-quote"}
        assert (await _modify(rig, view.order_id, quantity=5)).quantity == 5


async def test_an_order_can_be_made_smaller_whatever_the_limits_are(tmp_path: Path) -> None:
    """They may have become stricter, or the market dearer: no smaller order adds anything."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        other = await rig.place(key="2")
    strict: dict[str, Any] = {
        "max_notional": 1.0,
        "max_notional_per_day": 1.0,
        "max_quantity": 1,
        "price_band_percent": 0.1,
    }
    broker.on_open = quote_at(50.0)
    caller = Caller("bound", "request-1", KeyBounds(max_notional=1.0))
    async with opened(tmp_path, broker, **strict) as rig:
        after = await rig.modifier.modify(view.order_id, ChangeRequest(quantity=4), caller)
        assert after.quantity == 4
        for changes in ({"quantity": 5}, {"quantity": 4, "tif": "GTC"}):
            with pytest.raises(OrderRefusedByRulesError):
                await _modify(rig, view.order_id, **changes)
        reach = Caller("bound", "request-2", KeyBounds(symbols=("MSFT",)))
        with pytest.raises(KeyBoundError):
            await rig.modifier.modify(other.order_id, ChangeRequest(quantity=4), reach)


async def test_smaller_than_a_change_that_may_yet_be_refused_is_not_smaller(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        larger, hold = await _held_on_its_way(rig, view.order_id, quantity=20)
        caller = Caller("bound", "request-1", KeyBounds(max_notional=1.0))
        with pytest.raises(OrderRefusedByRulesError):
            await rig.modifier.modify(view.order_id, ChangeRequest(quantity=15), caller)
        hold.set()
        assert (await larger).quantity == 20


async def test_what_changes_add_counts_for_the_day(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_notional_per_day=3000) as rig:
        first = await rig.place()
        await _modify(rig, first.order_id, quantity=20)
        second = await rig.place(key="2", quantity=5)
        with pytest.raises(OrderRefusedByRulesError, match="today"):
            await _modify(rig, second.order_id, quantity=11)
        with pytest.raises(OrderRefusedByRulesError, match="today"):
            await rig.place(key="3", quantity=6)
        assert (await rig.place(key="4", quantity=5)).status is Status.SUBMITTED


async def test_changes_at_once_cannot_pass_the_days_limit_together(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_notional_per_day=3000) as rig:
        views = [await rig.place(key=str(number)) for number in range(2)]
        results = await asyncio.gather(
            *(_modify(rig, view.order_id, quantity=20) for view in views), return_exceptions=True
        )
        refused = [each for each in results if isinstance(each, OrderRefusedByRulesError)]
        assert len(refused) == 1
        assert refused[0].violations[0].code == "max-notional-per-day"
        assert len(broker.placed) == 3


async def test_a_change_and_an_order_at_once_cannot_pass_it_either(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_notional_per_day=2500) as rig:
        view = await rig.place()
        results = await asyncio.gather(
            _modify(rig, view.order_id, quantity=20),
            rig.place(key="other"),
            return_exceptions=True,
        )
        refused = [each for each in results if isinstance(each, OrderRefusedByRulesError)]
        assert len(refused) == 1


async def test_what_is_added_to_an_order_of_yesterday_counts_for_today(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_notional_per_day=2500) as rig:
        view = await rig.place(tif="GTC")
        rig.clock.wind(86_400)
        await _modify(rig, view.order_id, quantity=30)
        with pytest.raises(OrderRefusedByRulesError, match="today"):
            await rig.place(key="2", quantity=6)
        with pytest.raises(OrderRefusedByRulesError, match="today"):
            await _modify(rig, view.order_id, quantity=36)
        assert (await rig.place(key="3", quantity=5)).status is Status.SUBMITTED


async def test_a_change_that_was_not_sent_gives_its_money_back(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_notional_per_day=3000) as rig:
        view = await rig.place()
        broker.refuse_order = NotConnectedError("gone")
        with pytest.raises(NotConnectedError):
            await _modify(rig, view.order_id, quantity=30)
        broker.refuse_order = None
        assert (await rig.place(key="2", quantity=20)).status is Status.SUBMITTED


async def test_changes_of_one_order_at_once_add_up(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        view = await rig.place()
        await asyncio.gather(
            _modify(rig, view.order_id, quantity=12),
            _modify(rig, view.order_id, limit_price=99.0),
        )
        order = await rig.order()
        assert (order.quantity, order.limit_price, order.pending) == (12, 99.0, None)


async def test_of_two_changes_of_the_same_field_the_later_counts(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        view = await rig.place()
        results = await asyncio.gather(
            *(_modify(rig, view.order_id, limit_price=price) for price in (98.0, 99.0)),
            return_exceptions=True,
        )
        told = [each for each in results if not isinstance(each, ChangeReplacedError)]
        held = (await rig.order()).limit_price
        assert held in {98.0, 99.0}
        assert len(told) >= 1
        assert all(not isinstance(each, BaseException) for each in told)


@pytest.mark.parametrize("by_rule", [True, False])
async def test_what_somebody_else_has_made_smaller_still_is_not_enlarged_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_rule: bool
) -> None:
    """15 is less than the 20 that the order was for, but not than the 5 that it is for by now."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(quantity=20)
        preparer = rig.modifier.preparer
        preparer.rules = structs.replace(preparer.rules, max_quantity=10)
        real = preparer.prepare_change

        async def meanwhile(contract: Contract, order: Order) -> Any:
            booked = broker.book[view.broker_order_id]
            booked.order = structs.replace(booked.order, quantity=5.0)
            broker.say(view.broker_order_id)
            await rig.journal.flush()
            return await real(contract, order)

        monkeypatch.setattr(preparer, "prepare_change", meanwhile)
        monkeypatch.setattr(rig.journal, "was_sized_to_close", _always)
        change = ChangeRequest(quantity=15)
        with pytest.raises(OrderRefusedByRulesError) as refused:
            await rig.modifier.modify(view.order_id, change, CALLER, only_closing=by_rule)
        code = "not-closing" if by_rule else "max-quantity"
        assert [each.code for each in refused.value.violations] == [code]


async def _always(*_: object) -> bool:
    return True


async def test_a_change_that_waits_for_the_wire_is_stopped_by_a_halt(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        changing, hold = await _held_on_its_way(rig, view.order_id, quantity=12)
        await rig.halt.halt("", "none", CALLER)
        hold.set()
        with pytest.raises(TradingHaltedError):
            await changing
        order = await rig.order()
        assert (order.quantity, order.pending) == (10, None)
        assert len(broker.placed) == 1


async def test_an_order_that_is_not_acknowledged_is_not_changed(tmp_path: Path) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        with pytest.raises(OrderPendingError):
            await rig.place()
        order = await rig.order()
        with pytest.raises(OrderPendingError, match="not changed"):
            await _modify(rig, order.order_id, quantity=12)
        assert len(broker.placed) == 1


async def test_changes_and_cancels_are_in_the_audit_log_before_they_are_sent(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        changing, hold = await _held_on_its_way(rig, view.order_id, quantity=12)
        newest = (await rig.service.audit("", 1)).entries[0]
        assert (newest.action, newest.target, newest.result) == (
            "order.modify",
            view.order_id,
            "sending",
        )
        hold.set()
        await changing
        await rig.canceller.cancel(view.order_id, CALLER)
        entries = (await rig.service.audit("", 2)).entries
        assert [(each.action, each.result) for each in entries] == [
            ("order.cancel", "ok"),
            ("order.cancel", "sending"),
        ]


async def test_a_quantity_below_what_is_filled_makes_no_sense(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.fill(view.broker_order_id, 4)
        await rig.journal.flush()
        with pytest.raises(OrderRefusedByRulesError, match="filled already"):
            await _modify(rig, view.order_id, quantity=4)


async def test_a_change_the_broker_refuses_leaves_the_order_as_it_was(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.quiet = True

        def refuse(order: Any) -> None:
            error = OrderRefusedError("no", broker_code=105, broker_text="does not match")
            broker.events.order_error.emit(view.broker_order_id, error)

        broker.on_place = refuse
        with pytest.raises(ChangeRejectedError) as raised:
            await _modify(rig, view.order_id, limit_price=99.0)
        assert "does not match" in raised.value.extra["brokerText"]
        order = await rig.order()
        assert (order.status, order.limit_price) == (Status.SUBMITTED, 100.0)


async def test_a_change_without_an_answer_is_pending(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.quiet = True
        rig.answers_within(0.2)
        with pytest.raises(OrderPendingError):
            await _modify(rig, view.order_id, limit_price=99.0)
        assert (await rig.order()).pending == "change"
        broker.say(view.broker_order_id)
        after = await rig.order()
        assert (after.pending, after.limit_price) == (None, 99.0)


async def test_a_change_that_was_not_sent_is_not_pending(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.refuse_order = NotConnectedError("gone")
        with pytest.raises(NotConnectedError):
            await _modify(rig, view.order_id, limit_price=99.0)
        assert (await rig.order()).pending is None


async def test_no_change_while_halted_but_a_cancel(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        view = await rig.place()
        await rig.halt.halt("", "none", CALLER)
        with pytest.raises(TradingHaltedError):
            await _modify(rig, view.order_id, limit_price=99.0)
        assert (await rig.canceller.cancel(view.order_id, CALLER)).status is Status.CANCELLED


async def test_a_cancel_is_answered_and_can_be_repeated(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        for order_id in (view.order_id, str(view.broker_order_id)):
            after = await rig.canceller.cancel(order_id, CALLER)
            assert after.status is Status.CANCELLED
        assert len(broker.cancelled) == 1


async def test_an_ended_order_cannot_be_changed_or_cancelled(tmp_path: Path) -> None:
    broker = FakeBroker(fill_at_once=True)
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        await rig.journal.flush()
        with pytest.raises(OrderNotOpenError, match="Filled"):
            await rig.canceller.cancel(view.order_id, CALLER)
        with pytest.raises(OrderNotOpenError, match="Filled"):
            await _modify(rig, view.order_id, limit_price=99.0)


async def test_a_cancel_that_comes_too_late_shows_the_fill(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        cancelling = broker.cancel_order

        async def fill_first(order_id: int) -> None:
            broker.fill(order_id)
            await cancelling(order_id)

        broker.cancel_order = fill_first  # type: ignore[method-assign]
        with pytest.raises(OrderNotOpenError, match="Filled") as raised:
            await rig.canceller.cancel(view.order_id, CALLER)
        assert raised.value.extra["order"]["filled"] == 10


async def test_a_cancel_without_a_connection_says_so(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.state = ConnectionState.RECONNECTING
        with pytest.raises(NotConnectedError):
            await rig.canceller.cancel(view.order_id, CALLER)
        assert (await rig.order()).pending is None


@pytest.mark.parametrize("order_id", ["nobody", "99", "o0", "9" * 30, "", "½"])
async def test_unknown_ids(tmp_path: Path, order_id: str) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        with pytest.raises(UnknownOrderError):
            await rig.service.order(order_id)
        with pytest.raises(UnknownOrderError):
            await rig.canceller.cancel(order_id, CALLER)


async def test_only_what_is_unknown_needs_settling(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        view = await rig.place()
        settlement = Settlement(status="Cancelled")
        with pytest.raises(OrderNotOpenError, match="is known"):
            await rig.service.settle(view.order_id, settlement, CALLER)


async def test_many_changes_of_one_order_are_all_told_something_certain(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        results = await asyncio.gather(
            *(_modify(rig, view.order_id, limit_price=90.0 + step) for step in range(10)),
            return_exceptions=True,
        )
        pending = [each for each in results if isinstance(each, OrderPendingError)]
        assert pending == []


async def test_an_answered_change_is_not_pending_because_of_the_next(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        reading = rig.journal.find
        next_change: list[asyncio.Task[Any]] = []

        async def read(order_id: str) -> Any:
            if broker.placed == [view.broker_order_id] * 2 and not next_change:
                broker.quiet = True  # between the answer to the first and the look at the order
                next_change.append(
                    asyncio.create_task(_modify(rig, view.order_id, limit_price=98.0))
                )
                while (await reading(order_id)).pending is None:
                    await asyncio.sleep(0)
            return await reading(order_id)

        rig.journal.find = read  # type: ignore[method-assign]
        after = await _modify(rig, view.order_id, limit_price=99.0)
        assert after.limit_price == 99.0
        for each in next_change:
            each.cancel()
        await asyncio.gather(*next_change, return_exceptions=True)


async def test_orders_of_another_gateways_account_are_left_alone(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.accounts = ("DU7654321",)
        with pytest.raises(OrderNotOpenError, match="DU1234567"):
            await rig.canceller.cancel(view.order_id, CALLER)
        with pytest.raises(OrderNotOpenError, match="DU1234567"):
            await _modify(rig, view.order_id, quantity=12)
        halted = await rig.halt.halt("", "own", CALLER)
        assert halted.cancelled is not None
        assert halted.cancelled.requested == ()
        assert broker.cancelled == []


async def test_at_the_end_of_the_process_who_waits_is_told_that_it_is_pending(
    tmp_path: Path,
) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker, answer_within_seconds=60) as rig:
        waiting = asyncio.create_task(rig.place())
        while not broker.placed:
            await asyncio.sleep(0)
        rig.journal.give_up()
        async with asyncio.timeout(20):
            with pytest.raises(OrderPendingError):
                await waiting
        with pytest.raises(OrderNotSentError, match="stopping"):
            await rig.place(key="2")
        assert len(broker.placed) == 1


TERMS: dict[str, dict[str, Any]] = {
    "MKT": {},
    "LMT": {"limit_price": 100.0},
    "STP": {"stop_price": 101.0},
    "STP_LMT": {"stop_price": 101.0, "limit_price": 102.0},
    "TRAIL": {"trail_amount": 5.0, "trail_stop_price": 105.0},
    "TRAIL percent": {"trail_percent": 5.0},
    "TRAIL_LMT": {"trail_amount": 5.0, "trail_stop_price": 105.0, "limit_offset": 0.5},
    "MIT": {"stop_price": 99.0},
    "LIT": {"stop_price": 99.0, "limit_price": 99.0},
    "MOC": {},
    "LOC": {"limit_price": 100.0},
    "MTL": {},
    "MIDPRICE": {},
    "REL": {"limit_price": 100.0, "limit_offset": 0.02},
    "PEG_MID": {},
}
CHANGES: dict[str, float] = {
    "limit_price": 99.5,
    "stop_price": 100.5,
    "trail_amount": 4.0,
    "trail_percent": 4.0,
    "trail_stop_price": 104.0,
    "limit_offset": 0.25,
}
TAKEN: dict[str, set[str]] = {
    "MKT": set(),
    "LMT": {"limit_price"},
    "STP": {"stop_price"},
    "STP_LMT": {"stop_price", "limit_price"},
    "TRAIL": {"trail_amount", "trail_stop_price"},
    "TRAIL percent": {"trail_percent", "trail_stop_price"},
    "TRAIL_LMT": {"trail_amount", "trail_stop_price", "limit_offset"},
    "MIT": {"stop_price"},
    "LIT": {"stop_price", "limit_price"},
    "MOC": set(),
    "LOC": {"limit_price"},
    "MTL": set(),
    "MIDPRICE": {"limit_price"},
    "REL": {"limit_price", "limit_offset"},
    "PEG_MID": {"limit_price", "limit_offset"},
}


@pytest.mark.parametrize("kind", TERMS)
async def test_each_type_takes_changes_of_what_it_carries(tmp_path: Path, kind: str) -> None:
    """And refuses the others by their names."""
    broker = FakeBroker()
    kept = {"limit_price": None} | TERMS[kind]
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(order_type=kind.split(maxsplit=1)[0], **kept)
        for name, value in CHANGES.items():
            if name in TAKEN[kind]:
                after = await _modify(rig, view.order_id, **{name: value})
                assert getattr(after, name) == value
                assert getattr(broker.book[view.broker_order_id].order, name) == value
                continue
            with pytest.raises(OrderRefusedByRulesError) as raised:
                await _modify(rig, view.order_id, **{name: value})
            camel = "".join([name.split("_")[0], *(each.title() for each in name.split("_")[1:])])
            found = [(each.code, each.field) for each in raised.value.violations]
            assert ("unexpected-field", camel) in found
        after = await _modify(rig, view.order_id, quantity=11)
        assert after.quantity == 11


@pytest.mark.parametrize(("asked", "stands"), [(95.0, 95.0), (95.0, 96.25), (85.0, 85.0)])
async def test_a_trailing_stop_is_put_elsewhere_and_goes_on(
    tmp_path: Path, asked: float, stands: float
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(
            action="SELL", order_type="TRAIL", limit_price=None, trail_amount=10.0,
            trail_stop_price=90.0,
        )  # fmt: skip

        def follow(order: Order) -> None:
            booked = broker.book[view.broker_order_id]
            booked.order = structs.replace(booked.order, trail_stop_price=stands)

        broker.on_place = follow
        after = await _modify(rig, view.order_id, trail_stop_price=asked)
        assert (after.trail_stop_price, after.pending) == (stands, None)
        assert after.trail_amount == 10.0


async def test_a_trailing_stop_that_stays_where_it_was_is_no_success(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(
            action="SELL", order_type="TRAIL", limit_price=None, trail_amount=10.0,
            trail_stop_price=90.0,
        )  # fmt: skip

        def refuse(order: Order) -> None:
            number = view.broker_order_id
            booked = broker.book[number]
            booked.order = structs.replace(booked.order, trail_stop_price=90.0)
            error = OrderRefusedError("no", broker_code=105, broker_text="no change")
            asyncio.get_running_loop().call_soon(broker.events.order_error.emit, number, error)

        broker.on_place = refuse
        with pytest.raises(ChangeRejectedError):
            await _modify(rig, view.order_id, trail_stop_price=80.0)
        with pytest.raises(OrderRefusedByRulesError) as raised:
            await _modify(rig, view.order_id, trail_stop_price=80.001)
        assert raised.value.violations[0].field == "trailStopPrice"


async def test_a_distance_that_no_price_gets_to_is_refused_in_a_change_too(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(
            action="SELL", order_type="TRAIL", limit_price=None, trail_amount=5.0,
            trail_stop_price=95.0,
        )  # fmt: skip
        with pytest.raises(OrderRefusedByRulesError, match="no price gets to the stop"):
            await _modify(rig, view.order_id, trail_amount=1e6)
        assert (await _modify(rig, view.order_id, trail_amount=50.0)).trail_amount == 50.0


@pytest.mark.parametrize(
    ("order", "tif"),
    [
        ({"order_type": "MOC", "limit_price": None}, "GTC"),
        ({"order_type": "LOC"}, "IOC"),
        ({"order_type": "STP", "limit_price": None, "stop_price": 105.0}, "OPG"),
        ({"bracket": Bracket(stop_loss=StopLoss(stop_price=90.0))}, "IOC"),
        ({"bracket": Bracket(stop_loss=StopLoss(stop_price=90.0))}, "OPG"),
    ],
)
async def test_a_time_in_force_that_a_new_order_may_not_have(
    tmp_path: Path, order: dict[str, Any], tif: str
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(**order)
        with pytest.raises(OrderRefusedByRulesError) as raised:
            await _modify(rig, view.order_id, tif=tif)
        assert [each.field for each in raised.value.violations] == ["tif"]
        assert (await _modify(rig, view.order_id, quantity=10, tif="DAY")).tif == "DAY"


async def test_an_order_of_the_night_stays_for_the_night(tmp_path: Path) -> None:
    broker = FakeBroker()
    night = listed(
        contract=Contract(symbol="AAPL", con_id=265598, exchange="OVERNIGHT"),
        valid_exchanges=("OVERNIGHT",),
        market_rule_ids=(26,),
    )
    broker.details["AAPL"] = (night,)
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(exchange="OVERNIGHT")
        with pytest.raises(OrderRefusedByRulesError, match="OVERNIGHT"):
            await _modify(rig, view.order_id, tif="GTC")
