"""What is found out about an order before its rules are asked, over a broker in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.market.quote_values import QuoteValue
from bridge.model import Contract, Order, Position, PriceIncrement
from bridge.orders import prepare
from bridge.orders.errors import OrderRefusedByRulesError
from bridge.orders.request import ChangeRequest
from bridge.orders.risk_context import Reference
from bridge.tws.errors import NotConnectedError
from tests.bridge.orders.fake_broker import FakeBroker, listed
from tests.bridge.orders.order_rig import CALLER, Rig, opened, request

QUOTE = Reference(bid=1.9, ask=2.0)


@pytest.mark.parametrize(
    ("order", "quote", "quantity"),
    [
        ({"quantity": 7.0}, QUOTE, 7.0),
        ({"cash_quantity": 500.0}, QUOTE, 250.0),
        ({"cash_quantity": 500.0, "action": "SELL"}, QUOTE, 263.16),
        ({"cash_quantity": 500.0, "limit_price": 4.0}, QUOTE, 125.0),
        ({"cash_quantity": 500.0, "limit_price": 4.0}, None, 125.0),
        ({"cash_quantity": 500.0}, Reference(), 0.0),
        ({"cash_quantity": 500.0}, None, 0.0),
    ],
)
def test_the_quantity_that_an_amount_of_money_buys(
    order: dict[str, Any], quote: Reference | None, quantity: float
) -> None:
    assert prepare._sized(Order(**order), quote).quantity == quantity


def test_only_a_number_that_still_holds_is_a_price() -> None:
    assert prepare._number(QuoteValue(1.5, "delayed", 3.0)) == 1.5
    assert prepare._number(QuoteValue(1.5, "stale", 3.0)) is None
    assert prepare._number(QuoteValue("n/a", "live", 3.0)) is None
    assert prepare._number(QuoteValue(None, "live", 3.0)) is None
    assert prepare._number(None) is None


@pytest.mark.parametrize(
    ("exchange", "rules", "found"),
    [
        ("SMART", (26, 27), 26),
        ("NASDAQ", (26, 27), 27),
        ("NYSE", (26, 27), 26),
        ("NASDAQ", (26,), 26),
        ("SMART", (), None),
    ],
)
def test_the_ladder_is_that_of_the_exchange(
    exchange: str, rules: tuple[int, ...], found: int | None
) -> None:
    contract = Contract(symbol="AAPL", exchange=exchange)
    assert prepare._market_rule(listed(contract=contract, market_rule_ids=rules)) == found


async def _ladder(rig: Rig, rule: int | None) -> tuple[PriceIncrement, ...]:
    rules = () if rule is None else (rule,)
    return await rig.submitter.preparer._ladder(listed(market_rule_ids=rules, min_tick=0.25))


async def test_a_ladder_is_asked_for_once_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_MOST_LADDERS", 2)
    asked: list[int] = []
    broker = FakeBroker()

    async def market_rule(rule_id: int, **_: object) -> tuple[PriceIncrement, ...]:
        asked.append(rule_id)
        if rule_id == 8:
            raise NotConnectedError("gone")
        return () if rule_id == 9 else (PriceIncrement(low_edge=0.0, increment=float(rule_id)),)

    broker.market_rule = market_rule  # type: ignore[method-assign]
    smallest = (PriceIncrement(low_edge=0.0, increment=0.25),)
    async with opened(tmp_path, broker) as rig:
        for rule in (1, 2, 1, 2):
            assert (await _ladder(rig, rule))[0].increment == rule
        assert asked == [1, 2]
        assert await _ladder(rig, None) == smallest
        for unknown in (8, 9):
            assert await _ladder(rig, unknown) == smallest
        assert asked == [1, 2, 8, 9]
        assert (await _ladder(rig, 3))[0].increment == 3
        assert (await _ladder(rig, 2))[0].increment == 2, "the oldest made room"
        assert asked == [1, 2, 8, 9, 3]
        assert (await _ladder(rig, 1))[0].increment == 1
        assert asked == [1, 2, 8, 9, 3, 1]


async def test_the_account_is_the_one_named_the_usual_one_or_the_only_one(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with opened(tmp_path, broker) as rig:
        preparer = rig.submitter.preparer

        def account(**named: Any) -> str:
            from tests.bridge.orders.order_rig import request

            return preparer._account(request(**named))

        assert account() == "DU1234567"
        broker.accounts = ("DU1", "DU2")
        assert (account(), account(account="DU2")) == ("", "DU2")
        preparer.adopt(read_only=False, account="DU1")
        assert (account(), account(account="DU2")) == ("DU1", "DU2")


class Values:
    """An account service whose values come when they are waited for, or never."""

    def __init__(self, *, come: bool) -> None:
        self.waited, self._come = 0, come

    def exchange_rate(self, account: str, currency: str) -> tuple[str, float | None] | None:
        return ("USD", 1.0) if self.waited and self._come else None

    def is_confirmed(self, _: object) -> bool:
        return True

    async def accounts(self, account: str) -> None:
        self.waited += 1
        if not self._come:
            raise NotConnectedError("no values came")


async def test_just_after_the_start_the_accounts_currency_is_waited_for(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        rig.submitter.preparer._accounts = values = cast("Any", Values(come=True))
        for key in ("first", "second"):
            assert (await rig.place(key)).status == "Submitted"
        assert values.waited == 1


async def test_without_it_no_limit_on_money_is_held_against_a_guess(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        rig.submitter.preparer._accounts = cast("Any", Values(come=False))
        with pytest.raises(OrderRefusedByRulesError) as refused:
            await rig.place()
        assert [each.code for each in refused.value.violations] == ["no-exchange-rate"]
        preview = await rig.service.preview(request(), CALLER)
        assert (preview.base_notional, preview.base_currency) == (None, None)
    async with opened(tmp_path, FakeBroker(), max_notional=None, max_notional_per_day=None) as rig:
        rig.submitter.preparer._accounts = cast("Any", Values(come=False))
        assert (await rig.place("free")).status == "Submitted"


async def test_without_a_rate_a_position_can_be_made_smaller(tmp_path: Path) -> None:
    """Nobody waits for a rate to get out, and no more than is held passes."""
    broker = FakeBroker()
    (aapl,) = broker.details["AAPL"]
    broker.held = (
        Position(account="DU1234567", contract=aapl.contract, quantity=10, average_cost=90.0),
    )
    async with opened(tmp_path, broker, max_loss=1.0) as rig:
        rig.submitter.preparer._accounts = cast("Any", Values(come=False))

        async def refused(asked: Any) -> list[str]:
            with pytest.raises(OrderRefusedByRulesError) as caught:
                await asked
            return [each.code for each in caught.value.violations]

        for terms in ({"action": "BUY"}, {"action": "SELL", "quantity": 11}):
            assert await refused(rig.place("no", **terms)) == ["no-exchange-rate"]
        sale = await rig.place(action="SELL", limit_price=100.0)
        assert sale.status == "Submitted"
        assert await refused(rig.place("more", action="SELL", quantity=1)) == ["no-exchange-rate"]
        moved = await rig.modifier.modify(sale.order_id, ChangeRequest(limit_price=101.0), CALLER)
        assert moved.limit_price == 101.0
        larger = rig.modifier.modify(sale.order_id, ChangeRequest(quantity=11), CALLER)
        assert await refused(larger) == ["no-exchange-rate"]


async def test_without_a_rate_an_order_that_opens_can_be_made_smaller(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeBroker()) as rig:
        order = await rig.place()
        rig.submitter.preparer._accounts = cast("Any", Values(come=False))
        smaller = await rig.modifier.modify(order.order_id, ChangeRequest(quantity=4), CALLER)
        assert smaller.quantity == 4
        for more in ({"quantity": 5}, {"limit_price": 99.0}, {"quantity": 3, "limit_price": 99.0}):
            with pytest.raises(OrderRefusedByRulesError, match="values have not come"):
                await rig.modifier.modify(order.order_id, ChangeRequest(**more), CALLER)


async def test_account_values_that_do_not_come_hold_up_one_order_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []

    class Silent:
        def exchange_rate(self, *_: str) -> None:
            return None

        def is_confirmed(self, _: object) -> bool:
            return True

        async def accounts(self, account: str) -> None:
            waited.append(account)
            await asyncio.Event().wait()

    monkeypatch.setattr(prepare, "_VALUES_SECONDS", 0.01)
    limits: dict[str, Any] = {"max_notional": None, "max_notional_per_day": None}
    async with opened(tmp_path, FakeBroker(), **limits) as rig:
        monkeypatch.setattr(rig.submitter.preparer, "_accounts", Silent())
        for key in ("a", "b", "c"):
            await rig.place(key)
        assert waited == ["DU1234567"]
        rig.clock.wind(31)
        await rig.place("d")
        assert len(waited) == 2
