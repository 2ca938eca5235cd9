"""Combinations beside the positions of their legs: never oversold, never flipped, closed as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from msgspec import structs

from bridge.account.service import AccountService
from bridge.errors import BridgeError, InvalidRequestError
from bridge.model import Contract, Execution, Order, Position
from bridge.orders.close import ClosedPositions, CloseRequest, PositionCloser
from bridge.orders.errors import (
    NoPositionError,
    OrderRefusedByRulesError,
    OrdersInTheWayError,
    PositionsMovingError,
)
from bridge.orders.held_and_working import Standings
from bridge.orders.request import ChangeRequest, ComboLegRequest, OrderRequest
from bridge.orders.submit import TargetReached
from bridge.orders.target import TargetPlacer, TargetRequest
from bridge.orders.views import OrderView
from bridge.tws.pacing import Lane
from tests.bridge.orders.fake_broker import CLIENT, BookedOrder, FakeBroker, option
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.samples import NOON

LOW, HIGH = 701, 702
ACCOUNT = "DU1234567"
PRICES = {LOW: 3.0, HIGH: 1.0}


@dataclass
class LegBroker(FakeBroker):
    """Fills combinations leg by leg and keeps what is held; `moments` are called one a list."""

    moments: list[Callable[[], None]] = field(default_factory=list)
    late: bool = False
    """Positions stay as they were."""
    sizes: dict[int, float] = field(default_factory=dict)
    seen: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.options = (option(LOW, strike=200.0), option(HIGH, strike=210.0))
        self.on_listed = self._moment

    def _moment(self) -> None:
        if self.moments:
            self.moments.pop(0)()

    async def positions(
        self, *, lane: Lane = Lane.INTERACTIVE, timeout: float = 10.0
    ) -> tuple[Position, ...]:
        if not self.late:
            self.tell()
        self._moment()
        return await super().positions(lane=lane, timeout=timeout)

    def tell(self) -> None:
        self.held = tuple(
            Position(
                account=ACCOUNT,
                contract=self.contract(number),
                quantity=size,
                average_cost=PRICES[number] * 100,
            )
            for number, size in self.sizes.items()
            if size
        )

    def contract(self, number: int) -> Contract:
        return next(each.contract for each in self.options if each.contract.con_id == number)

    def fill_part(self, number: int, quantity: float, only: int = 0) -> None:
        """Fills units of an order, or of a combination one leg `only` (the whole is not told)."""
        booked = self.book[number]
        if not booked.contract.legs:
            self._trade(booked, booked.contract.con_id, booked.order.action, quantity)
            self.fill(number, quantity)
            return
        for leg in booked.contract.legs:
            if only in {0, leg.con_id}:
                same = leg.action == booked.order.action
                action = "BUY" if same else "SELL"
                self._trade(booked, leg.con_id, action, quantity * leg.ratio)
                self.events.execution.emit(
                    Execution(
                        exec_id=f"{self._next():08x}.6553d8a1.02.01",
                        time=NOON,
                        contract=self.contract(leg.con_id),
                        account=ACCOUNT,
                        side="BOT" if action == "BUY" else "SLD",
                        quantity=quantity * leg.ratio,
                        price=PRICES[leg.con_id],
                        perm_id=booked.order.perm_id,
                        client_id=CLIENT,
                        order_id=number,
                        order_ref=booked.order.order_ref,
                    )
                )
        if not only:
            self.fill(number, quantity)

    def _next(self) -> int:
        self.seen += 1
        return 0x1000 + self.seen

    def _trade(self, booked: BookedOrder, con_id: int, action: str, quantity: float) -> None:
        signed = quantity if action == "BUY" else -quantity
        self.sizes[con_id] = self.sizes.get(con_id, 0.0) + signed


def spread(action: Literal["BUY", "SELL"], quantity: float, **more: Any) -> OrderRequest:
    legs = (ComboLegRequest(action="BUY", con_id=LOW), ComboLegRequest(action="SELL", con_id=HIGH))
    fields: dict[str, Any] = {"order_type": "LMT", "limit_price": 2.0, "legs": legs}
    return OrderRequest(
        symbol="AAPL", sec_type="BAG", action=action, quantity=quantity, **(fields | more)
    )


async def placed(rig: Rig, request: OrderRequest, key: str) -> OrderView:
    answer = (await rig.submitter.place(request, key, CALLER)).answer
    assert isinstance(answer, OrderView)
    return answer


async def target(
    rig: Rig, quantity: float, con_id: int = LOW, **more: Any
) -> OrderView | TargetReached:
    request = TargetRequest(symbol="AAPL", con_id=con_id, target_quantity=quantity, **more)
    key = f"target-{len(rig.broker.wire)}-{quantity}-{con_id}"
    answer = (await rig.services[TargetPlacer].place(request, key, CALLER)).answer
    assert isinstance(answer, OrderView | TargetReached)
    return answer


async def close(rig: Rig, key: str = "close", **fields: Any) -> ClosedPositions:
    return await rig.services[PositionCloser].close(CloseRequest(**fields), key, CALLER)


RULES: dict[str, Any] = {"max_notional": None, "option_price_band_percent": None}


async def test_what_a_combination_will_close_of_a_leg_is_not_closed_again(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5, HIGH: -5})
    async with opened(tmp_path, broker, **RULES) as rig:
        await placed(rig, spread("SELL", 2), "whole")
        sold = await target(rig, 0)
        assert isinstance(sold, OrderView)
        assert (sold.action, sold.quantity) == ("SELL", 3)
        assert isinstance(await target(rig, 0), TargetReached)
        bought = await close(rig, con_id=HIGH)
        assert bought.positions[0].order["quantity"] == 3


async def test_a_leg_that_a_combination_enlarges_is_not_traded_against(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        whole = await placed(rig, spread("BUY", 2), "whole")
        with pytest.raises(OrdersInTheWayError) as refused:
            await target(rig, 0)
        assert refused.value.extra["orders"] == [whole.order_id]
        sold = await target(rig, 0, cancel_orders=True)
        assert isinstance(sold, OrderView)
        assert (sold.quantity, (await rig.view(whole.order_id)).status) == (5, "Cancelled")


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("quantity", [1, 3])
async def test_it_is_filled_in_the_meantime(tmp_path: Path, moment: int, quantity: int) -> None:
    """At any moment of the looking, in part or whole: all that is sold is what is held."""
    broker = LegBroker(sizes={LOW: 5, HIGH: -5})
    async with opened(tmp_path, broker, **RULES) as rig:
        whole = (await placed(rig, spread("SELL", 3), "whole")).broker_order_id
        nothing: Callable[[], None] = lambda: None  # noqa: E731
        broker.moments = [nothing] * moment + [lambda: broker.fill_part(whole, quantity)]
        sold = await target(rig, 0)
        assert isinstance(sold, OrderView)
        assert sold.quantity == 2
        broker.fill_part(sold.broker_order_id, 2)
        if quantity < 3:
            broker.fill_part(whole, 3 - quantity)
        assert broker.sizes[LOW] == 0


async def test_it_goes_on_filling_so_nothing_is_sent(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 20, HIGH: -20})
    async with opened(tmp_path, broker, **RULES) as rig:
        whole = (await placed(rig, spread("SELL", 15), "whole")).broker_order_id
        broker.moments = [lambda: broker.fill_part(whole, 1)] * 20
        with pytest.raises(PositionsMovingError):
            await target(rig, 0)
        assert broker.placed == [whole]


async def test_a_position_that_lags_behind_the_fill_is_waited_for(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5, HIGH: -5})
    async with opened(tmp_path, broker, **RULES) as rig:
        accounts = AccountService(rig.services.gateway, rig.clock)
        rig.services[Standings].accounts = accounts
        whole = (await placed(rig, spread("SELL", 3), "whole")).broker_order_id
        broker.tell()
        broker.late = True  # the broker lists what was held before the fill
        broker.fill_part(whole, 3)

        def caught_up() -> None:
            broker.late = False
            broker.tell()

        broker.moments = [lambda: None, lambda: None, caught_up]
        sold = await target(rig, 0)
        assert isinstance(sold, OrderView)
        assert sold.quantity == 2
        await accounts.stop()


async def test_one_leg_alone_was_filled(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 2, HIGH: -2})
    async with opened(tmp_path, broker, **RULES) as rig:
        order = await placed(rig, spread("SELL", 2, non_guaranteed=True), "whole")
        broker.fill_part(order.broker_order_id, 2, only=LOW)
        assert isinstance(await target(rig, 0), TargetReached)  # and buys nothing back
        assert isinstance(await target(rig, 0, HIGH), TargetReached)
        assert broker.placed == [order.broker_order_id]


async def test_combinations_of_other_clients_count_too(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5, HIGH: -5})
    async with opened(tmp_path, broker, **RULES) as rig:
        legs = (await placed(rig, spread("SELL", 1), "whole")).broker_order_id
        foreign = Order(
            action="SELL", quantity=2, perm_id=77, client_id=99, account=ACCOUNT, order_ref="theirs"
        )
        broker.book[500] = BookedOrder(foreign, broker.book[legs].contract)
        sold = await target(rig, 0)
        assert isinstance(sold, OrderView)
        assert sold.quantity == 2
        broker.book[500].order = structs.replace(foreign, non_guaranteed=True)
        with pytest.raises(OrdersInTheWayError):
            await target(rig, -1)


# as one -------------------------------------------------------------------------------------------


async def bought(
    rig: Rig, broker: LegBroker, units: float, action: Literal["BUY", "SELL"] = "BUY"
) -> str:
    """Opens a spread; the name of the strategy."""
    order = await placed(rig, spread(action, units), f"open-{len(broker.wire)}")
    broker.fill_part(order.broker_order_id, units)
    await rig.journal.flush()
    sign = 1 if action == "BUY" else -1
    return f"{ACCOUNT}/{LOW}:{sign:+g}/{HIGH}:{-sign:+g}"


def last(broker: LegBroker) -> BookedOrder:
    return broker.book[broker.placed[-1]]


async def test_a_strategy_is_closed_as_the_combination_that_it_is_once(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 3)
        answer = await close(rig, strategy=strategy)
        assert (answer.complete, len(answer.positions)) == (True, 1)
        assert answer.positions[0].order["comboLegs"][0]["conId"] == LOW
        sent = last(broker)
        assert (sent.order.action, sent.order.quantity, sent.order.order_type) == ("SELL", 3, "MKT")
        assert [(each.con_id, each.action) for each in sent.contract.legs] == [
            (LOW, "BUY"),
            (HIGH, "SELL"),
        ]
        assert msgspec.json.encode(await close(rig, strategy=strategy)) == msgspec.json.encode(
            answer
        )
        again = await close(rig, "other-key", strategy=strategy)
        assert (again.complete, again.positions[0].order) == (True, None)
        broker.fill_part(broker.placed[-1], 3)
        with pytest.raises(NoPositionError):
            await close(rig, "third-key", strategy=strategy)
        assert (broker.sizes, len(broker.placed)) == ({LOW: 0, HIGH: 0}, 2)


async def test_many_close_it_at_once_and_one_order_goes_out(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 3)
        await asyncio.gather(*(close(rig, f"key-{n}", strategy=strategy) for n in range(6)))
        assert (len(broker.placed), last(broker).order.quantity) == (2, 3)


async def test_one_for_a_credit_is_bought_back_at_a_limit(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 2, "SELL")
        answer = await close(rig, strategy=strategy, order_type="LMT", limit_price=2.5)
        assert answer.complete, answer
        order = last(broker).order
        assert (order.action, order.quantity, order.limit_price) == ("BUY", 2, 2.5)


async def test_what_closes_it_already_is_left_out(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 5)
        await placed(rig, spread("SELL", 2, limit_price=9.0), "by hand")
        broker.fill_part(broker.placed[-1], 1)
        assert (await close(rig, strategy=strategy)).complete
        assert last(broker).order.quantity == 3


async def test_a_leg_is_being_closed_alone(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 5)
        leg = OrderRequest(
            symbol="AAPL", con_id=LOW, action="SELL", quantity=2, order_type="LMT", limit_price=9.0
        )
        alone = await placed(rig, leg, "leg")
        refused = await close(rig, strategy=strategy)
        problem = refused.positions[0].problem
        assert problem is not None
        assert (problem["code"], problem["orders"]) == ("orders-in-the-way", [alone.order_id])
        assert (await close(rig, "k2", strategy=strategy, cancel_orders=True)).complete
        assert last(broker).order.quantity == 5


async def test_what_was_sold_of_a_leg_by_hand_is_not_sold_again(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 5)
        broker.sizes[LOW] = 2
        assert (await close(rig, strategy=strategy)).complete
        assert last(broker).order.quantity == 2


@pytest.mark.parametrize("moment", range(4))
async def test_a_strategy_is_filled_away_while_it_is_looked_at(tmp_path: Path, moment: int) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES) as rig:
        strategy = await bought(rig, broker, 4)
        working = (await placed(rig, spread("SELL", 3, limit_price=9.0), "by hand")).broker_order_id
        nothing: Callable[[], None] = lambda: None  # noqa: E731
        broker.moments = [nothing] * moment + [lambda: broker.fill_part(working, 3)]
        await close(rig, strategy=strategy)
        for number in broker.placed[2:]:
            broker.fill_part(number, broker.book[number].order.quantity)
        assert broker.sizes == {LOW: 0, HIGH: 0}


async def test_closing_one_needs_no_limits_but_a_halt_that_lets_it(tmp_path: Path) -> None:
    broker = LegBroker()
    limits = {"max_contracts": 5, "max_orders_per_day": 2}
    async with opened(tmp_path, broker, **(RULES | limits)) as rig:
        strategy = await bought(rig, broker, 5)
        await bought(rig, broker, 5)
        with pytest.raises(BridgeError):
            await bought(rig, broker, 1)
        assert (await close(rig, strategy=strategy)).complete
        assert last(broker).order.quantity == 10


# what can be lost ---------------------------------------------------------------------------------


def single(action: Literal["BUY", "SELL"], quantity: float, price: float = 3.0) -> OrderRequest:
    return OrderRequest(
        symbol="AAPL",
        con_id=LOW,
        action=action,
        quantity=quantity,
        order_type="LMT",
        limit_price=price,
    )


async def refused_codes(rig: Rig, request: OrderRequest, key: str) -> set[str]:
    with pytest.raises(OrderRefusedByRulesError) as refused:
        await rig.submitter.place(request, key, CALLER)
    return {each.code for each in refused.value.violations}


async def test_a_combination_is_held_against_what_it_can_lose(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES, max_loss=1_000) as rig:
        await placed(rig, spread("BUY", 5), "costs 1,000")
        assert await refused_codes(rig, spread("BUY", 6), "k1") == {"max-loss"}
        await placed(rig, spread("SELL", 1, limit_price=2.0), "loses 800")
        assert await refused_codes(rig, spread("SELL", 2), "k2") == {"max-loss"}
        uncovered = spread("BUY", 1)
        legs = (uncovered.legs[0], structs.replace(uncovered.legs[1], ratio=2))
        ratio = structs.replace(uncovered, legs=legs)
        assert await refused_codes(rig, ratio, "k3") == {"max-loss-undefined"}
        assert await refused_codes(rig, single("SELL", 1), "k4") == {"max-loss-undefined"}


async def test_what_closes_passes_and_two_of_the_same_moment_cannot_both(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5, HIGH: -5})
    async with opened(tmp_path, broker, **RULES, max_loss=100) as rig:
        answers = await asyncio.gather(
            *(rig.submitter.place(single("SELL", 3), f"key-{n}", CALLER) for n in range(3)),
            return_exceptions=True,
        )
        refused = [each for each in answers if isinstance(each, OrderRefusedByRulesError)]
        assert len(refused) == 2
        assert {each.violations[0].code for each in refused} == {"max-loss-undefined"}
        assert len(broker.placed) == 1
        await placed(rig, spread("SELL", 2), "whole")
        assert await refused_codes(rig, spread("SELL", 2), "again") == {"max-loss"}
        answer = await close(rig, con_id=HIGH)
        assert answer.positions[0].order["quantity"] == 3


async def test_a_change_is_held_against_it_too(tmp_path: Path) -> None:
    broker = LegBroker()
    async with opened(tmp_path, broker, **RULES, max_loss=1_000) as rig:
        order = await placed(rig, spread("BUY", 4), "whole")
        with pytest.raises(OrderRefusedByRulesError) as refused:
            await rig.modifier.modify(order.order_id, ChangeRequest(limit_price=2.6), CALLER)
        assert refused.value.violations[0].code == "max-loss"
        changed = await rig.modifier.modify(order.order_id, ChangeRequest(quantity=5), CALLER)
        assert changed.quantity == 5


async def test_a_key_that_has_begun_to_close_may_find_nothing_left(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES) as rig:
        broker.quiet = True
        rig.answers_within(0.1)
        sent = await close(rig, con_id=LOW)
        problem = sent.positions[0].problem
        assert problem is not None
        assert problem["code"] == "order-pending"
        broker.sizes[LOW] = 0
        assert await close(rig, con_id=LOW) == ClosedPositions(complete=True, positions=())
        other = (await close(rig, "other-key", con_id=LOW)).positions[0].problem
        assert other is not None
        assert other["code"] == "orders-in-the-way"
        assert other["orders"] == [problem["order"]["orderId"]]
        with pytest.raises(NoPositionError):
            await close(rig, "other-key", con_id=HIGH)


@pytest.mark.parametrize("fields", [{"all": True}, {"symbol": "AAPL"}])
async def test_one_price_is_not_put_on_several_positions(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    broker = LegBroker(sizes={LOW: 5, HIGH: -5})
    async with opened(tmp_path, broker, **RULES) as rig:
        price: dict[str, Any] = {"order_type": "LMT", "limit_price": 2.0}
        with pytest.raises(InvalidRequestError) as refused:
            await close(rig, **fields, **price)
        assert refused.value.extra["errors"][0]["field"] == "limitPrice"
        assert not broker.placed
        broker.sizes[HIGH] = 0
        for account in ("", ACCOUNT):
            with pytest.raises(InvalidRequestError):
                await close(rig, all=True, account=account, **price)
        assert (await close(rig, symbol="AAPL", **price)).complete


async def test_changes_at_once_do_not_both_pass_as_reducing(tmp_path: Path) -> None:
    """5 calls are held: each alone may be sold as 3 of them, the two together may not."""
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES, max_loss=1_000) as rig:
        sold = OrderRequest(
            symbol="AAPL", con_id=LOW, action="SELL", quantity=2, order_type="LMT", limit_price=9.0
        )
        names = [(await placed(rig, sold, key)).order_id for key in "ab"]
        changes = (rig.modifier.modify(name, ChangeRequest(quantity=3), CALLER) for name in names)
        results = await asyncio.gather(*changes, return_exceptions=True)
        [refused] = [each for each in results if isinstance(each, OrderRefusedByRulesError)]
        assert [each.code for each in refused.violations] == ["max-loss-undefined"]
        sizes = [(await rig.view(name)).quantity for name in names]
        assert sorted(sizes) == [2, 3]


async def test_one_that_is_filled_in_part_still_reduces(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 5})
    async with opened(tmp_path, broker, **RULES, max_loss=1_000) as rig:
        sold = OrderRequest(
            symbol="AAPL", con_id=LOW, action="SELL", quantity=5, order_type="LMT", limit_price=9.0
        )
        order = await placed(rig, sold, "sold")
        broker.fill_part(order.broker_order_id, 3)
        await rig.journal.flush()
        changed = await rig.modifier.modify(order.order_id, ChangeRequest(limit_price=8.0), CALLER)
        assert changed.limit_price == 8.0


async def test_a_closing_order_larger_than_a_limit_is_moved_nearer(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 60})
    async with opened(tmp_path, broker, max_contracts=50) as rig:
        closed = await close(rig, con_id=LOW, order_type="LMT", limit_price=9.0)
        [position] = closed.positions
        assert position.order is not None
        name = position.order["orderId"]
        moved = await rig.modifier.modify(name, ChangeRequest(limit_price=0.5), CALLER)
        assert moved.limit_price == 0.5
        with pytest.raises(OrderRefusedByRulesError):  # it would sell what is not held
            await rig.modifier.modify(name, ChangeRequest(quantity=61), CALLER)
        plain = OrderRequest(
            symbol="AAPL", con_id=HIGH, action="BUY", quantity=50, order_type="LMT", limit_price=1.0
        )
        opening = await placed(rig, plain, "plain")
        with pytest.raises(OrderRefusedByRulesError):
            await rig.modifier.modify(opening.order_id, ChangeRequest(quantity=51), CALLER)


async def test_what_was_no_closing_order_is_not_exempt_by_a_change(tmp_path: Path) -> None:
    broker = LegBroker(sizes={LOW: 60})
    async with opened(tmp_path, broker, max_contracts=50, **RULES) as rig:
        sold = OrderRequest(
            symbol="AAPL", con_id=LOW, action="SELL", quantity=50, order_type="LMT", limit_price=9.0
        )
        order = await placed(rig, sold, "sold")
        with pytest.raises(OrderRefusedByRulesError):
            await rig.modifier.modify(order.order_id, ChangeRequest(quantity=60), CALLER)
