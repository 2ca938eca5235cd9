import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.errors import BridgeError, Kind
from bridge.market.errors import ContractMismatchError
from bridge.model import Contract, Order, OrderState, Position
from bridge.orders import submit
from bridge.orders.errors import (
    GroupIncompleteError,
    KeyRequiredError,
    KeyReusedError,
    OrderArchivedError,
    OrderFateUnknownError,
    OrderNotSentError,
    OrderPendingError,
    OrderRefusedByRulesError,
    OrderRejectedError,
    TradingHaltedError,
)
from bridge.orders.halt import HaltSwitch
from bridge.orders.order_ids import body_digest, key_digest
from bridge.orders.request import Bracket, OcaRequest, OrderRequest, StopLoss, TakeProfit
from bridge.orders.views import OrderGroup, OrderView
from bridge.store import StoreBehindError, idempotency, orders
from bridge.store.orders import State, Status
from bridge.store.retention import Retention
from bridge.tws.broker_codes import order_advice
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import ConnectionLostError, NotConnectedError
from tests.bridge.orders.fake_broker import FakeBroker, listed, lost, option
from tests.bridge.orders.order_rig import CALLER, opened, request
from tests.bridge.orders.samples import NOON, record


async def test_a_limit_order_is_written_down_sent_and_answered(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        assert (view.state, view.status) == (State.ACKNOWLEDGED, Status.SUBMITTED)
        assert broker.placed == [view.broker_order_id]
        booked = broker.book[view.broker_order_id]
        assert booked.order.order_ref == view.order_ref
        assert booked.contract.con_id == 265598
        kinds = [event.kind for event in (await rig.service.order(view.order_id)).history]
        assert kinds[0] == "Intention"
        assert "Sent" in kinds


async def test_the_intention_is_on_the_disk_before_anything_is_sent(tmp_path: Path) -> None:
    broker = FakeBroker(hold=asyncio.Event())
    async with opened(tmp_path, broker) as rig:
        task = asyncio.create_task(rig.place())
        while not (found := await rig.database.read(orders.open_orders)):
            await asyncio.sleep(0)
        assert (found[0].state, broker.wire) == (State.INTENTION, [])
        assert broker.hold is not None
        broker.hold.set()
        assert (await task).state is State.ACKNOWLEDGED


async def test_the_same_key_gets_the_first_answer_and_sends_nothing(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        first = await rig.place()
        broker.fill(first.broker_order_id)
        await rig.journal.flush()
        again = await rig.submitter.place(request(), "key-1", CALLER)
        assert (again.answer, again.replayed) == (first, True)
        assert len(broker.placed) == 1


async def test_the_key_of_an_archived_order_is_refused_for_good(tmp_path: Path) -> None:
    """It is neither damaged nor to be tried again later."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        for key in ("key-1", "key-2"):
            view = await rig.place(key)
            broker.fill(view.broker_order_id)
        await rig.journal.flush()
        later = rig.clock.now() + timedelta(days=40)
        assert await Retention(rig.database, timedelta(days=30)).move(later) == 1
        with pytest.raises(OrderArchivedError) as caught:
            await rig.place("key-1")
        assert caught.value.kind is Kind.CONFLICT
        assert len(broker.placed) == 2


@pytest.mark.parametrize("archived", [False, True])
async def test_an_order_that_works_after_all_keeps_its_key(tmp_path: Path, archived: bool) -> None:
    """It was judged never sent, its key given back, and then the broker showed it."""
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        first = await rig.place("key-1")
        broker.fill(first.broker_order_id)
        broker.fill((await rig.place("key-2")).broker_order_id)
        await rig.journal.flush()
        await rig.database.write(
            lambda c: (
                c.execute(
                    "DELETE FROM idempotency WHERE key_digest ="
                    " (SELECT key_digest FROM orders WHERE id = ?)",
                    (first.order_id,),
                ).rowcount
            )
        )
        if archived:
            later = rig.clock.now() + timedelta(days=40)
            assert await Retention(rig.database, timedelta(days=30)).move(later) >= 1
            with pytest.raises(OrderArchivedError):
                await rig.place("key-1")
        else:
            assert (await rig.place("key-1")).order_id == first.order_id
        assert len(broker.placed) == 2


async def test_the_same_key_with_another_body_is_refused(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        with pytest.raises(KeyReusedError):
            await rig.place(quantity=11)
        assert len(broker.placed) == 1


async def test_twenty_at_once_with_one_key_are_one_order(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        views = await asyncio.gather(*(rig.place() for _ in range(20)))
        assert len({view.order_id for view in views}) == 1
        assert len(broker.placed) == 1


async def test_twenty_keys_are_twenty_orders_with_numbers_of_their_own(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        views = await asyncio.gather(*(rig.place(key=f"k{index}") for index in range(20)))
        assert len({view.broker_order_id for view in views}) == 20
        assert len({view.order_ref for view in views}) == 20


async def test_a_key_is_needed_unless_the_rules_say_otherwise(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        for key in (None, "", "  ", "x" * 256, "tab\tin it"):
            with pytest.raises(KeyRequiredError):
                await rig.place(key=key)
        assert broker.wire == []
    async with opened(tmp_path, broker, require_idempotency_key=False) as rig:
        first, second = await rig.place(key=None), await rig.place(key=None)
        assert first.order_id != second.order_id


async def test_without_an_answer_the_client_gets_the_state_and_later_the_outcome(
    tmp_path: Path,
) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker, answer_within_seconds=0.3) as rig:
        with pytest.raises(OrderPendingError) as raised:
            await rig.place()
        assert raised.value.extra["order"]["state"] == "sent"
        (number,) = broker.placed
        rig.answers_within(20)
        waiting = asyncio.create_task(rig.place())
        await asyncio.sleep(0.02)
        broker.say(number)
        assert (await waiting).status is Status.SUBMITTED
        assert broker.placed == [number]


@pytest.mark.parametrize("error", [lost(), NotConnectedError("not there"), RuntimeError("odd")])
async def test_what_was_certainly_not_sent_frees_the_key(tmp_path: Path, error: Exception) -> None:
    broker = FakeBroker(refuse_order=error)
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(type(error)):
            await rig.place()
        page = await rig.service.orders(only_open=False, cursor="", limit=10)
        assert [order.status for order in page.orders] == [Status.NOT_SENT]
        broker.refuse_order = None
        view = await rig.place()
        assert view.status is Status.SUBMITTED
        assert view.order_ref != page.orders[0].order_ref
        assert len(broker.placed) == 1


async def test_a_rejection_comes_with_the_brokers_text_and_is_the_answer_for_ever(
    tmp_path: Path,
) -> None:
    broker = FakeBroker(reject=(201, "Order rejected - reason: insufficient funds"))
    async with opened(tmp_path, broker) as rig:
        problems = []
        for _ in range(2):
            with pytest.raises(OrderRejectedError) as raised:
                await rig.place()
            problems.append((raised.value.detail, raised.value.next_step, raised.value.extra))
        assert msgspec.json.encode(problems[0]) == msgspec.json.encode(problems[1])
        extra = problems[0][2]
        assert (extra["brokerCode"], extra["order"]["status"]) == (201, "Rejected")
        assert "insufficient funds" in extra["brokerText"]
        assert problems[0][1] == order_advice(201)
        assert len(broker.placed) == 1


WORKS: dict[str, Any] = {"state": State.ACKNOWLEDGED, "status": Status.SUBMITTED}
REFUSED: dict[str, Any] = {"state": State.TERMINAL, "status": Status.REJECTED}
ENDED: dict[str, Any] = {"state": State.TERMINAL, "status": Status.CANCELLED}
UNSENT: dict[str, Any] = {"state": State.TERMINAL, "status": Status.NOT_SENT}
LOST: dict[str, Any] = {"state": State.UNKNOWN, "status": Status.UNKNOWN}
ON_WIRE: dict[str, Any] = {"state": State.SENT, "status": Status.PENDING_SUBMIT}
WRITTEN: dict[str, Any] = {"state": State.INTENTION, "status": Status.PENDING_SUBMIT}


@pytest.mark.parametrize(
    ("entry", "leg", "error"),
    [
        (WORKS, WORKS, None),
        (WORKS, REFUSED, GroupIncompleteError),
        (LOST, REFUSED, GroupIncompleteError),
        (REFUSED, ENDED, OrderRejectedError),
        (ENDED, REFUSED, OrderRejectedError),
        (ENDED | {"filled": 3.0}, REFUSED, GroupIncompleteError),
        (ENDED, UNSENT, GroupIncompleteError),
        (WORKS, UNSENT, GroupIncompleteError),
        (LOST, UNSENT, OrderFateUnknownError),
        (UNSENT, UNSENT, OrderNotSentError),
        (WORKS, LOST, OrderFateUnknownError),
        (ON_WIRE, LOST, OrderFateUnknownError),
        (WORKS, ON_WIRE, OrderPendingError),
        (WRITTEN, WORKS, OrderPendingError),
    ],
)
def test_several_orders_are_as_good_as_the_worst_of_them(
    entry: dict[str, Any], leg: dict[str, Any], error: type[BridgeError] | None
) -> None:
    records = [record(role="entry", **entry), record(role="stop-loss", broker_order_id=8, **leg)]
    if error is None:
        answer = submit._answer_of(records)
        assert isinstance(answer, OrderView)
        assert (answer.order_id, [each.order_id for each in answer.legs]) == ("o7", ["o8"])
        return
    with pytest.raises(error) as raised:
        submit._answer_of(records)
    assert raised.value.extra["order"]["orderId"] == "o7"


def test_a_rejection_without_a_code_or_a_text_says_so() -> None:
    with pytest.raises(OrderRejectedError, match="no reason given") as raised:
        submit._answer_of([record(**REFUSED)])
    assert raised.value.next_step == OrderRejectedError.next_step
    assert raised.value.extra["brokerCode"] is None


def test_the_orders_of_a_group_are_shown_as_one() -> None:
    group = [record(role="oca", broker_order_id=number, **WORKS) for number in (7, 8)]
    answer = submit._answer_of(group)
    assert isinstance(answer, OrderGroup)
    assert [each.order_id for each in answer.orders] == ["o7", "o8"]
    for role in ("single", "entry", "stop-loss", "take-profit"):
        assert isinstance(submit._answer_of([record(role=role, **WORKS)]), OrderView)


@pytest.mark.parametrize(
    ("fields", "decided", "explained"),
    [
        (WRITTEN, False, True),
        (ON_WIRE, False, True),
        (ON_WIRE | {"status": Status.SUBMITTED}, False, True),
        (WORKS | {"status": Status.PENDING_SUBMIT}, False, True),
        (WORKS, True, True),
        (LOST, True, True),
        (REFUSED, True, True),
        (WORKS | {"status": Status.INACTIVE}, True, False),
        (REFUSED | {"status": Status.CANCELLED}, True, False),
        (REFUSED | {"status": Status.CANCELLED, "reject_code": 202}, True, True),
        (WORKS | {"status": Status.INACTIVE, "warning": "held"}, True, True),
    ],
)
def test_when_there_is_something_to_answer(
    fields: dict[str, Any], decided: bool, explained: bool
) -> None:
    assert submit._decided(record(**fields)) is decided
    assert submit._explained(record(**fields)) is explained


async def test_a_warning_is_no_rejection(tmp_path: Path) -> None:
    broker = FakeBroker(quiet=True)

    def warn(order: Any) -> None:
        error = lost()
        error.broker_code, error.broker_text = 399, "will not be placed until the market opens"
        broker.events.order_error.emit(order.order_id, error)
        broker.book[order.order_id].status = "PreSubmitted"
        broker.say(order.order_id)

    broker.on_place = warn
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        assert view.status is Status.PRE_SUBMITTED
        assert "market opens" in (view.warning or "")


async def test_broken_rules_are_all_named_and_the_key_stays_free(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_quantity=5, deny_symbols=["AAPL"]) as rig:
        with pytest.raises(OrderRefusedByRulesError) as raised:
            await rig.place()
        assert {each["code"] for each in raised.value.extra["violations"]} == {
            "max-quantity",
            "symbol-denied",
        }
        assert (await rig.place(symbol="MSFT", quantity=5)).status is Status.SUBMITTED


async def test_limits_hold_for_orders_that_come_at_the_same_moment(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_open_orders=3) as rig:
        results = await asyncio.gather(
            *(rig.place(key=f"k{index}") for index in range(10)), return_exceptions=True
        )
        refused = [each for each in results if isinstance(each, OrderRefusedByRulesError)]
        assert len(refused) == 7
        assert len(broker.placed) == 3


async def test_nothing_is_written_down_without_a_connection(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        broker.state = ConnectionState.RECONNECTING
        with pytest.raises(NotConnectedError):
            await rig.place()
        assert await rig.database.read(orders.count_open) == 0


async def test_an_answer_already_given_is_repeated_without_a_connection(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        first = await rig.place()
        broker.state = ConnectionState.RECONNECTING
        assert await rig.place() == first


async def test_a_client_that_hangs_up_does_not_stop_its_order(tmp_path: Path) -> None:
    broker = FakeBroker(hold=asyncio.Event())
    async with opened(tmp_path, broker) as rig:
        task = asyncio.create_task(rig.place())
        while not await rig.database.read(orders.open_orders):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert broker.hold is not None
        broker.hold.set()
        assert (await rig.place()).status is Status.SUBMITTED
        assert len(broker.placed) == 1


async def test_unknown_and_ambiguous_contracts(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(BridgeError) as unknown:
            await rig.place(symbol="NOPE")
        assert unknown.value.code == "unknown-contract"
        broker.details["MSFT"] = (listed("MSFT", 1), listed("MSFT", 2))
        with pytest.raises(BridgeError) as ambiguous:
            await rig.place(symbol="MSFT")
        assert ambiguous.value.code == "ambiguous-contract"
        assert {each["conId"] for each in ambiguous.value.extra["candidates"]} == {1, 2}
        assert broker.wire == []


async def test_an_option_is_resolved_and_market_orders_on_it_refused(tmp_path: Path) -> None:
    terms: dict[str, Any] = {
        "sec_type": "OPT",
        "strike": 200.0,
        "right": "C",
        "expiration": "20260619",
        "quantity": 1,
        "action": "SELL",
    }
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(limit_price=101.0, **terms)
        assert (view.con_id, view.multiplier, view.status) == (777, "100", Status.SUBMITTED)
        with pytest.raises(OrderRefusedByRulesError, match="any price"):
            await rig.place(key="2", order_type="MKT", limit_price=None, **terms)


async def test_a_con_id_must_be_the_symbol_that_was_meant(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        assert (await rig.place(con_id=265598)).con_id == 265598
        with pytest.raises(ContractMismatchError, match="not MSFT"):
            await rig.place(key="2", con_id=265598, symbol="MSFT")


async def test_prices_off_the_tick_are_refused_or_rounded_on_request(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        with pytest.raises(OrderRefusedByRulesError, match=r"99\.12 or 99\.13"):
            await rig.place(limit_price=99.127)
        assert (await rig.place(limit_price=99.127, round_to_tick=True)).limit_price == 99.12


BRACKET = Bracket(take_profit=TakeProfit(limit_price=110.0), stop_loss=StopLoss(stop_price=95.0))


async def test_a_bracket_is_three_orders_of_which_the_last_lets_them_go(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place(bracket=BRACKET)
        entry, gain, loss = (broker.book[number].order for number in broker.placed)
        assert [each.transmit for each in (entry, gain, loss)] == [False, False, True]
        assert (gain.parent_id, loss.parent_id) == (entry.order_id, entry.order_id)
        assert (gain.action, gain.limit_price, gain.tif) == ("SELL", 110.0, "GTC")
        assert (loss.order_type, loss.stop_price, loss.limit_price) == ("STP", 95.0, None)
        assert [leg.role for leg in view.legs] == ["take-profit", "stop-loss"]
        assert len({entry.order_ref, gain.order_ref, loss.order_ref}) == 3


async def test_a_bracket_that_breaks_off_is_taken_back(tmp_path: Path) -> None:
    broker = FakeBroker()

    def break_off(_: Any) -> None:
        if len(broker.placed) == 2:
            broker.refuse_order = lost()

    broker.on_place = break_off
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(GroupIncompleteError, match="lost"):
            await rig.place(bracket=BRACKET)
        await rig.journal.flush()
        page = await rig.service.orders(only_open=False, cursor="", limit=10)
        assert sorted(order.status for order in page.orders) == [
            "Cancelled",
            "Cancelled",
            "NotSent",
        ]
        assert broker.cancelled == broker.placed


async def test_an_oca_group_is_checked_whole_and_sent_whole(tmp_path: Path) -> None:
    broker = FakeBroker()
    asked = OcaRequest(orders=(request(), request(symbol="MSFT")))
    async with opened(tmp_path, broker, max_quantity=10) as rig:
        placed = await rig.submitter.place_group(asked, "key", CALLER)
        assert isinstance(placed.answer, OrderGroup)
        groups = {broker.book[number].order.oca_group for number in broker.placed}
        assert groups == {placed.answer.oca_group}
        again = await rig.submitter.place_group(asked, "key", CALLER)
        assert (again.answer, again.replayed) == (placed.answer, True)
        bad = OcaRequest(orders=(request(), request(quantity=11)))
        with pytest.raises(OrderRefusedByRulesError):
            await rig.submitter.place_group(bad, "other", CALLER)
        assert len(broker.placed) == 2


@pytest.mark.parametrize(
    "asked",
    [
        OcaRequest(orders=(request(),)),
        OcaRequest(orders=(request(bracket=BRACKET), request())),
        OcaRequest(orders=(request(oca_group="mine"), request())),
    ],
)
async def test_what_is_no_oca_group(tmp_path: Path, asked: OcaRequest) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        with pytest.raises(OrderRefusedByRulesError):
            await rig.submitter.place_group(asked, "key", CALLER)


async def test_a_dry_run_passes_a_halt_as_the_order_would(tmp_path: Path) -> None:
    broker = FakeBroker()
    aapl = Contract(con_id=265598, symbol="AAPL", sec_type="STK")
    broker.held = (Position(account="DU1234567", contract=aapl, quantity=10.0, average_cost=100.0),)
    closes, opens = request(action="SELL"), request()
    both = OcaRequest(orders=(closes, request(action="SELL", limit_price=101.0)))
    async with opened(tmp_path, broker) as rig:
        await rig.halt.halt("lunch", "none", CALLER, allow_closing=True)
        assert (await rig.service.dry_run(closes, CALLER)).dry_run
        assert len((await rig.service.dry_run(both, CALLER)).orders) == 2, "one ends the other"
        assert (await rig.service.preview(closes, CALLER)).accepted
        for wanted in (opens, request(action="SELL", quantity=11), request(bracket=BRACKET)):
            with pytest.raises(TradingHaltedError):
                await rig.service.dry_run(wanted, CALLER)
            with pytest.raises(TradingHaltedError):
                await rig.submitter.place(wanted, "opens", CALLER)
        assert broker.placed == []
        placed = await rig.submitter.place_group(both, "closes", CALLER)
        assert isinstance(placed.answer, OrderGroup)


async def test_a_dry_run_needs_a_journal_as_the_order_would(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        rig.journal.condition.writable = False
        with pytest.raises(StoreBehindError):
            await rig.service.dry_run(request(), CALLER)
        rig.journal.condition.writable = True


async def test_a_dry_run_finds_what_a_real_order_would_and_does_nothing(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_quantity=10) as rig:
        run = await rig.service.dry_run(request(), CALLER)
        assert (run.dry_run, run.orders[0].notional) == (True, 1000.0)
        with pytest.raises(OrderRefusedByRulesError):
            await rig.service.dry_run(request(quantity=11), CALLER)
        assert broker.wire == []
        assert await rig.database.read(orders.count_open) == 0


async def test_a_preview_shows_margin_commission_and_broken_rules(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker, max_quantity=5) as rig:
        preview = await rig.service.preview(request(), CALLER)
        assert preview.commission == 1.0
        assert [each.code for each in preview.violations] == ["max-quantity"]
        assert not preview.accepted
        assert broker.wire == []


async def test_a_preview_asks_the_broker_about_the_entry(tmp_path: Path) -> None:
    broker = FakeBroker()
    asked: list[Order] = []
    answer = broker.what_if

    async def what_if(contract: Contract, order: Order, **more: Any) -> OrderState:
        asked.append(order)
        return await answer(contract, order, **more)

    broker.what_if = what_if  # type: ignore[method-assign]
    async with opened(tmp_path, broker) as rig:
        bracket = Bracket(
            take_profit=TakeProfit(limit_price=110), stop_loss=StopLoss(stop_price=90)
        )
        await rig.service.preview(request(bracket=bracket), CALLER)
    (order,) = asked
    assert (order.action, order.order_type, order.limit_price) == ("BUY", "LMT", 100.0)


async def test_the_log_is_verified_only_when_that_is_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        await rig.place()
        assert (await rig.service.audit("", 100)).verification is None
        verified = (await rig.service.audit("", 100, verify=True)).verification
        assert verified is not None


async def test_the_kill_switch_stops_orders_and_survives_a_restart(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        first = await rig.place()
        view = await rig.halt.halt("loop gone mad", "own", CALLER)
        assert view.cancelled is not None
        assert view.cancelled.requested == (first.order_id,)
        assert (await rig.view(first.order_id)).status is Status.CANCELLED
        with pytest.raises(TradingHaltedError, match="loop gone mad"):
            await rig.place(key="2")
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(TradingHaltedError):
            await rig.place(key="2")
        assert any(overlay() is not None for overlay in rig.services.health_overlays)
        await rig.halt.resume(CALLER)
        assert (await rig.place(key="2")).status is Status.SUBMITTED


async def test_a_halt_between_journal_and_wire_still_stops_the_order(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        writing = rig.database.write

        async def write_then_halt(work: Any, **options: Any) -> Any:
            result = await writing(work, **options)
            if isinstance(result, list):
                rig.services[HaltSwitch]._halt = await _halt(rig)
            return result

        rig.database.write = write_then_halt  # type: ignore[method-assign]
        with pytest.raises(TradingHaltedError):
            await rig.place()
        assert broker.wire == []


async def _halt(rig: Any) -> Any:
    from bridge.orders.halt import Halt

    return Halt(since=NOON, by="test")


async def test_a_halt_without_a_connection_cancels_when_it_is_back(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        first = await rig.place()
        broker.state = ConnectionState.RECONNECTING
        view = await rig.halt.halt("", "own", CALLER)
        assert view.cancelled is not None
        assert view.cancelled.failed == (first.order_id,)
        broker.state = ConnectionState.READY
        await broker.reconnect()
        assert (await rig.view(first.order_id)).status is Status.CANCELLED


async def test_the_audit_log_names_who_did_what_with_which_result(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker(), max_quantity=10) as rig:
        view = await rig.place()
        with pytest.raises(OrderRefusedByRulesError):
            await rig.place(key="secret-key-2", quantity=11)
        page = await rig.service.audit("", 10)
        refused, done, sending = page.entries
        assert (sending.result, sending.target) == ("sending", view.order_id)
        assert (done.result, done.target, done.api_key_id) == ("ok", view.order_id, "phone")
        assert (refused.result, refused.detail["quantity"]) == ("order-refused", 11.0)
        assert "secret-key" not in repr(page)


async def test_a_journal_that_cannot_be_written_sends_nothing(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:

        def full(*_: Any, **__: Any) -> Any:
            raise OSError(28, "No space left on device")

        claim, idempotency.claim = idempotency.claim, full
        try:
            with pytest.raises(OSError, match="No space"):
                await rig.place()
        finally:
            idempotency.claim = claim
        assert broker.wire == []


async def test_an_option_on_another_multiplier_is_asked_for(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.options = (option(777), option(778, multiplier="10"))
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(BridgeError) as raised:
            await rig.place(
                sec_type="OPT", strike=200.0, right="C", expiration="20260619", quantity=1
            )
        assert raised.value.code == "ambiguous-contract"


async def test_an_order_of_unknown_fate_is_told_so_to_its_key(tmp_path: Path) -> None:
    broker = FakeBroker(quiet=True)
    async with opened(tmp_path, broker, answer_within_seconds=0.1) as rig:
        with pytest.raises(OrderPendingError):
            await rig.place()
        broker.hidden.update(broker.book)
        while (await rig.order()).state is not State.UNKNOWN:
            rig.clock.tick()
            await asyncio.sleep(0.02)
        with pytest.raises(OrderFateUnknownError):
            await rig.place()
        assert len(broker.placed) == 1


def test_the_bodies_of_two_requests_that_mean_the_same_have_one_digest() -> None:
    written = [
        b'{"symbol":"AAPL","action":"BUY","quantity":1,"orderType":"MKT"}',
        b'{"orderType":"MKT", "quantity":1.0, "symbol":"AAPL","action":"BUY","tif":"DAY"}',
        b'{"symbol":"AAPL","action":"BUY","quantity":2,"orderType":"MKT"}',
    ]
    first, same, other = (
        body_digest("order", msgspec.json.decode(text, type=OrderRequest)) for text in written
    )
    assert first == same != other


def test_a_body_keeps_its_digest_when_a_release_knows_more_fields() -> None:
    text = (
        b'{"symbol":"AAPL","action":"BUY","quantity":1,"orderType":"LMT","limitPrice":100,'
        b'"bracket":{"stopLoss":{"stopPrice":90}}}'
    )
    digest = body_digest("order", msgspec.json.decode(text, type=OrderRequest))
    assert digest == "5ce6f967bb6a7d4e7179ed65ad93b4f62a17f0f8ff2f99d2b9285ff7a9fac889"


async def test_a_key_is_not_given_back_when_its_order_is_under_way_again(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        broker.refuse_order = lost()
        with pytest.raises(ConnectionLostError):
            await rig.place()
        broker.refuse_order, broker.hold = None, asyncio.Event()
        again = asyncio.create_task(rig.place())
        while not await rig.database.read(orders.count_open):
            await asyncio.sleep(0)
        digest = key_digest("key-1")
        # Somebody who saw the first attempt fail, and only now gets round to it.
        assert not await rig.database.write(lambda c: idempotency.release(c, digest))
        assert await rig.database.read(lambda c: idempotency.get(c, digest)) is not None
        broker.hold.set()
        view = await again
        assert (await rig.place()).order_id == view.order_id
        assert len(broker.placed) == 1


async def test_a_bracket_on_the_wrong_side_of_the_market_is_refused(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        with pytest.raises(OrderRefusedByRulesError) as raised:
            await rig.place(
                order_type="MKT",
                limit_price=None,
                bracket=Bracket(
                    take_profit=TakeProfit(limit_price=99.0), stop_loss=StopLoss(stop_price=98.0)
                ),
            )
        fields = [each.field for each in raised.value.violations]
        assert fields == ["bracket.takeProfit"]
        assert broker.placed == []


async def test_numbers_of_another_client_id_are_not_given_out_again(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        await rig.place()
        await rig.place(key="2")
    broker.client_id, broker.next_id = 18, 1
    async with opened(tmp_path, broker, reconcile=False) as rig:
        broker.client_id, broker.next_id = 17, 1  # the stored settings are taken over after that
        assert (await rig.place(key="3")).broker_order_id == 3


async def test_a_halt_beats_the_end_of_an_earlier_one_that_is_just_being_written(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        await rig.halt.halt("first", "none", CALLER)
        lifting = asyncio.create_task(rig.halt.resume(CALLER))
        await asyncio.sleep(0)  # it is on its way to the journal
        await rig.halt.halt("second", "none", CALLER)
        await lifting
        assert rig.halt.view().halted
        assert rig.halt.view().reason == "second"
    async with opened(tmp_path, FakeBroker()) as rig:
        assert rig.halt.view().halted


async def test_a_second_halt_takes_nothing_back_of_the_first(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.state = ConnectionState.RECONNECTING
        first = await rig.halt.halt("fire", "own", CALLER)
        second = await rig.halt.halt("", "none", CALLER)
        assert (second.since, second.reason, second.cancel) == (first.since, "fire", "own")
        await broker.reconnect()
        assert broker.cancelled == [view.broker_order_id]
        assert (await rig.halt.halt("", "all", CALLER)).cancel == "all"


async def test_a_halt_does_not_wait_for_orders_that_queue(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.hold = asyncio.Event()
        queued = [asyncio.create_task(rig.place(key=f"q{number}")) for number in range(5)]
        while await rig.database.read(orders.count_open) < 2:
            await asyncio.sleep(0)
        begun = time.monotonic()
        await rig.halt.halt("", "own", CALLER)
        assert time.monotonic() - begun < 5  # those that queue wait for ever
        assert view.broker_order_id in broker.cancelled
        broker.hold.set()
        told = await asyncio.gather(*queued, return_exceptions=True)
        assert all(isinstance(each, TradingHaltedError) for each in told)
        assert broker.placed == [view.broker_order_id]


async def test_a_halt_for_every_client_is_one_message_and_repeated_when_it_failed(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        view = await rig.place()
        broker.wire.clear()
        halted = await rig.halt.halt("", "all", CALLER)
        assert broker.wire == [("cancel-all", 0)]
        assert halted.cancelled is not None
        assert halted.cancelled.requested == (view.order_id,)
        broker.state = ConnectionState.RECONNECTING
        halted = await rig.halt.halt("", "all", CALLER)
        assert halted.cancelled is not None
        assert halted.cancelled.failed == (view.order_id, "other clients")
        await broker.reconnect()
        assert broker.wire[1:] == [("cancel-all", 0)]
