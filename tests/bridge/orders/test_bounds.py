"""What a lower privilege cannot do: a bound key beyond its bounds, a reader to an order's check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from bridge.auditing import Caller
from bridge.callers import ORDER_CHECKS, Holder, Scope
from bridge.market.quotes import QuoteService
from bridge.model import Position
from bridge.orders.errors import KeyBoundError, OrderRefusedByRulesError
from bridge.orders.request import ChangeRequest, ComboLegRequest, OcaRequest
from bridge.orders.target import TargetPlacer, TargetRequest
from bridge.store.keys import KeyBounds
from tests.bridge.orders.fake_broker import FakeBroker, listed, option, quote_at
from tests.bridge.orders.order_rig import CALLER, Rig, opened, request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bridge.market.fake_gateway import FakeLine

TWO = ("DU1234567", "DU7654321")
READER = Holder("reader", "192.0.2.7", Scope.READ)
TRADER = Holder("trader", "192.0.2.8", Scope.TRADE)


def bound(**bounds: Any) -> Caller:
    return Caller("bound", "request-1", KeyBounds(**bounds))


async def placed(rig: Rig, caller: Caller, key: str = "key", **changes: Any) -> str:
    answer = (await rig.submitter.place(request(**changes), key, caller)).answer
    return str(answer.order_id)  # type: ignore[union-attr]


async def codes(rig: Rig, caller: Caller, **changes: Any) -> list[str]:
    """The rules that an order breaks: the same when it is placed, dry-run and previewed."""
    with pytest.raises(OrderRefusedByRulesError) as refused:
        await placed(rig, caller, "refused", **changes)
    found = [each.code for each in refused.value.violations]
    with pytest.raises(OrderRefusedByRulesError) as dry:
        await rig.service.dry_run(request(**changes), caller)
    assert [each.code for each in dry.value.violations] == found
    preview = await rig.service.preview(request(**changes), caller)
    assert [each.code for each in preview.violations] == found
    return found


async def test_a_key_trades_only_what_it_is_bound_to(tmp_path: Path) -> None:
    broker = FakeBroker(accounts=TWO)
    caller = bound(accounts=("DU7654321",), symbols=("MSFT",), max_notional=500.0)
    async with opened(tmp_path, broker) as rig:
        assert await codes(rig, caller, account="DU1234567") == [
            "key-account", "key-symbol", "key-max-notional"
        ]  # fmt: skip
        allowed: dict[str, Any] = {"symbol": "MSFT", "account": "DU7654321", "quantity": 5}
        assert broker.wire == []
        await placed(rig, caller, **allowed)
        assert await codes(rig, caller, **(allowed | {"quantity": 6})) == ["key-max-notional"]
        assert await codes(rig, caller, **(allowed | {"account": ""})) == [
            "account-required",
            "key-account",
        ]


async def test_a_change_or_a_cancel_does_not_leave_the_bounds(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        foreign = await placed(rig, CALLER, "foreign", symbol="MSFT")
        caller = bound(symbols=("AAPL",), max_notional=1000.0)
        own = await placed(rig, caller, "own")
        for attempt in (
            rig.modifier.modify(foreign, ChangeRequest(quantity=1), caller),
            rig.canceller.cancel(foreign, caller),
        ):
            with pytest.raises(KeyBoundError):
                await attempt
        with pytest.raises(OrderRefusedByRulesError) as refused:
            await rig.modifier.modify(own, ChangeRequest(quantity=11), caller)
        assert [each.code for each in refused.value.violations] == ["key-max-notional"]
        assert (await rig.modifier.modify(own, ChangeRequest(quantity=9), caller)).quantity == 9
        assert broker.cancelled == []
        assert (await rig.canceller.cancel(own, caller)).status == "Cancelled"


async def test_a_keys_own_orders_of_the_day_are_counted(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        caller = bound(max_orders_per_day=2)
        for number in range(4):
            await placed(rig, CALLER, f"other-{number}")
        await placed(rig, caller, "one")
        await placed(rig, caller, "two")
        assert await codes(rig, caller) == ["key-max-orders-per-day"]
        await placed(rig, CALLER, "still")
        rig.clock.wind(24 * 3600)
        await placed(rig, caller, "tomorrow")


# an order's check, while others look ------------------------------------------------------------


def many(broker: FakeBroker, count: int) -> None:
    for number in range(count):
        broker.details[f"X{number}"] = (listed(f"X{number}", 9000 + number),)


def hoard(rig: Rig, broker: FakeBroker, holder: Holder, count: int, first: int = 0) -> int:
    """Takes as many lines as there are to be had, up to `count`; how many that were."""
    quotes = rig.services[QuoteService]
    for number in range(count):
        try:
            quotes.take(broker.details[f"X{first + number}"][0].contract, holder)
        except Exception:
            return number
    return count


async def test_readers_cannot_leave_an_order_unchecked(tmp_path: Path) -> None:
    broker = FakeBroker()
    many(broker, 300)
    async with opened(tmp_path, broker) as rig:
        assert hoard(rig, broker, READER, 100) == 60
        assert hoard(rig, broker, replace_key(READER, "second"), 100, 100) == 10
        assert hoard(rig, broker, TRADER, 100, 200) == 20
        assert await codes(rig, CALLER, limit_price=5000.0, quantity=1) == ["price-band"]
        await placed(rig, CALLER, symbol="MSFT", order_type="MKT", limit_price=None)


def replace_key(holder: Holder, key: str) -> Holder:
    return structs.replace(holder, key=key)


async def test_a_queue_before_the_gateway_does_not_hold_up_a_check(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.lane_full = True
    async with opened(tmp_path, broker) as rig:
        (aapl,) = broker.details["AAPL"]
        rig.services[QuoteService].take(aapl.contract, READER)
        assert not broker.lines[-1].asked
        await placed(rig, CALLER)
        assert broker.lines[-1].asked


async def no_line(tmp_path: Path, broker: FakeBroker, rig: Rig) -> None:
    """Every line, those for checks too, is held."""
    many(broker, 100)
    checks = Holder("checks", "", ORDER_CHECKS.rank)
    assert hoard(rig, broker, checks, 100) == 100


async def test_without_a_line_nothing_opens_a_position_and_what_closes_one_passes(
    tmp_path: Path,
) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        working = await placed(rig, CALLER, "working")
        rig.services[QuoteService].pool.drop((265598, "SMART"))
        await no_line(tmp_path, broker, rig)
        assert await codes(rig, CALLER, limit_price=5000.0, quantity=1) == ["no-line"]
        assert await codes(rig, CALLER, action="SELL", order_type="MKT", limit_price=None) == [
            "no-line"
        ]
        with pytest.raises(OrderRefusedByRulesError):
            await rig.modifier.modify(working, ChangeRequest(limit_price=5000.0), CALLER)
        (aapl,) = broker.details["AAPL"]
        broker.held = (
            Position(account="DU1234567", contract=aapl.contract, quantity=15, average_cost=90.0),
        )
        sell: dict[str, Any] = {"action": "SELL", "order_type": "MKT", "limit_price": None}
        assert await codes(rig, CALLER, **(sell | {"quantity": 16})) == ["no-line"]
        broker.fill_at_once = False
        await placed(rig, CALLER, "closing", **(sell | {"quantity": 10}))
        assert await codes(rig, CALLER, **(sell | {"quantity": 6})) == ["no-line"]
        await placed(rig, CALLER, "rest", **(sell | {"quantity": 5}))


async def test_a_broker_without_a_quote_is_another_matter(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.on_open = lambda line: line.fail(354)
    async with opened(tmp_path, broker) as rig:
        await placed(rig, CALLER, limit_price=100.0)
        assert await codes(rig, CALLER, order_type="MKT", limit_price=None) == ["no-quote"]
    broker.on_open = lambda line: line.fail(101)  # the broker's own count of lines is used up
    async with opened(tmp_path, broker) as rig:
        assert await codes(rig, CALLER, limit_price=100.0) == ["no-line"]


def half_quoted() -> FakeBroker:
    """A broker with two options, of which the second has no quote."""
    broker = FakeBroker()
    broker.options = (option(701, strike=200.0), option(702, strike=210.0))
    quote = quote_at(3.0)

    def open_line(line: FakeLine) -> None:
        if line.contract.con_id == 702:
            line.fail(354)
        else:
            quote(line)

    broker.on_open = open_line
    return broker


SPREAD: dict[str, Any] = {
    "sec_type": "BAG",
    "quantity": 3,
    "limit_price": 2.0,
    "legs": (
        ComboLegRequest(con_id=701, action="BUY"),
        ComboLegRequest(con_id=702, action="SELL"),
    ),
}


async def test_a_combination_needs_a_quote_of_each_leg_to_be_worth_anything(
    tmp_path: Path,
) -> None:
    broker = half_quoted()
    async with opened(tmp_path, broker) as rig:
        assert await codes(rig, CALLER, **SPREAD) == ["no-quote"]
        assert not broker.placed
    async with opened(tmp_path, broker, max_notional=None, max_notional_per_day=None) as rig:
        await placed(rig, CALLER, **SPREAD)


async def test_one_without_a_quote_passes_as_far_as_it_only_reduces(tmp_path: Path) -> None:
    broker = half_quoted()
    broker.held = tuple(
        Position(account="DU1234567", contract=details.contract, quantity=held, average_cost=1.0)
        for details, held in zip(broker.options, (-5, 5), strict=True)
    )
    async with opened(tmp_path, broker) as rig:
        working = await placed(rig, CALLER, **SPREAD)
        assert await codes(rig, CALLER, **SPREAD) == ["no-quote"]
        await rig.modifier.modify(working, ChangeRequest(quantity=5), CALLER)
        with pytest.raises(OrderRefusedByRulesError, match="no quote"):
            await rig.modifier.modify(working, ChangeRequest(quantity=6), CALLER)


async def test_what_a_key_is_bound_to_holds_when_it_closes(tmp_path: Path) -> None:
    """As many orders, and as much in each, as it may send; whoever is not bound closes at once."""
    broker = FakeBroker()
    (aapl,) = broker.details["AAPL"]

    def hold(quantity: float) -> None:
        broker.held = (
            Position(
                account="DU1234567", contract=aapl.contract, quantity=quantity, average_cost=90.0
            ),
        )

    async with opened(tmp_path, broker, max_orders_per_day=1, max_notional=1.0) as rig:
        targets = rig.services[TargetPlacer]

        async def size(caller: Caller, key: str, quantity: float) -> list[str]:
            try:
                await targets.place(
                    TargetRequest(symbol="AAPL", target_quantity=quantity), key, caller
                )
            except OrderRefusedByRulesError as refused:
                return [each.code for each in refused.violations]
            broker.fill(broker.placed[-1], 10)
            await rig.journal.flush()
            hold(quantity)
            return []

        hold(50)
        caller = bound(max_notional=2000.0, max_orders_per_day=2)
        assert await size(caller, "all", 0) == ["key-max-notional"]
        assert await size(caller, "some", 40) == []
        assert await size(caller, "more", 30) == []
        assert await size(caller, "most", 20) == ["key-max-orders-per-day"]
        assert await size(CALLER, "rest", 0) == []


async def test_a_key_ends_no_orders_beyond_its_reach_by_a_group(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        stop: dict[str, Any] = {"action": "SELL", "order_type": "STP", "limit_price": None}
        group: dict[str, Any] = {"oca_group": "protect-msft"}
        foreign = await placed(
            rig, CALLER, "foreign", symbol="MSFT", stop_price=90.0, **stop, **group
        )
        caller = bound(symbols=("AAPL",))
        assert await codes(rig, caller, **group) == ["key-oca-group"]
        await placed(rig, caller, "own", oca_group="own")
        await placed(rig, caller, "own too", oca_group="own")
        await placed(rig, CALLER, "free", **group)
        await rig.canceller.cancel(foreign, CALLER)
        await placed(rig, caller, "later", **group)


async def test_one_group_has_one_kind(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        members = OcaRequest(orders=(request(), request(limit_price=99.0)), oca_type=3)
        group = (await rig.submitter.place_group(members, "group", CALLER)).answer
        name = group.orders[0].oca_group  # type: ignore[union-attr]
        assert await codes(rig, CALLER, oca_group=name) == ["invalid-field"]


async def test_a_sale_without_a_quote_reduces_or_is_refused(tmp_path: Path) -> None:
    broker = FakeBroker()
    broker.on_open = lambda line: line.fail(354)
    (aapl,) = broker.details["AAPL"]
    broker.held = (
        Position(account="DU1234567", contract=aapl.contract, quantity=10, average_cost=90.0),
    )
    async with opened(tmp_path, broker) as rig:
        sale: dict[str, Any] = {"action": "SELL", "limit_price": 0.01}
        assert await codes(rig, CALLER, **sale, quantity=11) == ["no-quote"]
        order = await placed(rig, CALLER, **sale, quantity=10)
        assert await codes(rig, CALLER, **sale, quantity=1) == ["no-quote"]
        lists = broker.lists
        moved = await rig.modifier.modify(order, ChangeRequest(limit_price=90.0), CALLER)
        assert (moved.limit_price, broker.lists) == (90.0, lists + 1)  # no look is needed
        with pytest.raises(OrderRefusedByRulesError):
            await rig.modifier.modify(order, ChangeRequest(quantity=11), CALLER)
