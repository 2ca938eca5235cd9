"""What no rule judges is shown, and told once when it stays so."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from bridge.broker_time import Session
from bridge.clock import settle
from bridge.errors import BridgeError
from bridge.rules.evaluation import Market
from bridge.rules.holdings import Holding
from bridge.rules.model import RuleSet
from bridge.rules.service import described
from bridge.rules.unjudged import (
    AGAIN_SECONDS,
    BLIND_SECONDS,
    DETAILS_SECONDS,
    NO_DETAILS,
    UNSEEN_SECONDS,
)
from tests.bridge.rules.made import NEW_YORK, market, only, rules, stock
from tests.bridge.rules.test_manager import STOP, Stand


class Told(Stand):
    """With what is told, and a market that a test takes away."""

    def __init__(self, wanted: RuleSet, *holdings: Holding, price: float = 100.0) -> None:
        super().__init__(wanted, holdings[0], price)
        self.watch.holdings = holdings
        self.seen: Any = self.watch.market
        self.watch.market = lambda holding: self.seen(holding)  # type: ignore[method-assign]
        for rule in wanted.rules:
            for each in holdings:
                self.watch.holdings = (each,)
                self.remembers(rule.id)
        self.watch.holdings = holdings

    @property
    def told(self) -> list[str]:
        return [described(each) for each in self.journal.told]

    async def turns(self, *seconds: float) -> None:
        """The manager's own, the next one always so many seconds later."""
        left = list(seconds)

        async def rest(seconds: float) -> None:
            self.clock.passed += left.pop(0)
            if not left:
                raise asyncio.CancelledError

        self.manager._woken_within = rest  # type: ignore[method-assign]
        self.manager._stale = True
        with suppress(asyncio.CancelledError):
            await self.manager._run()


def unknown(_: Holding) -> None:
    """The details of its contract have not come."""


def unquoted(_: Holding) -> Market:
    return market()


async def test_a_contract_that_nobody_knows_is_shown_and_told() -> None:
    stand = Told(rules(STOP), only(stock(100)), price=94.0)
    seen, stand.seen = stand.seen, unknown
    await stand.turn()
    (shown,) = stand.manager.standing()
    assert (shown.rule, shown.name, shown.quantity) == ("r0", "AAPL", 100)
    assert (shown.triggers, shown.waits) == ((), NO_DETAILS)
    assert (stand.told, stand.manager.need()) == ([], None)
    await stand.turn(DETAILS_SECONDS)
    await stand.turn(AGAIN_SECONDS + 1)
    assert stand.told == [f"r0 cannot close yet AAPL; {NO_DETAILS}"]
    need = stand.manager.need()
    assert need is not None
    assert need.message == f"Rule r0 is not judged for AAPL: {NO_DETAILS}"
    stand.seen = seen
    await stand.turn()
    assert stand.manager.need() is None
    assert len(stand.closes.begun) == 1


async def test_that_no_look_succeeds_is_told_once_and_needs_somebody() -> None:
    """As when the gateway never answers what was executed: nothing is judged then."""
    stand = Told(rules(STOP), only(stock(100)))
    stand.watch.fails = BridgeError("the executions did not come in time")
    await stand.turns(BLIND_SECONDS / 2, BLIND_SECONDS / 2 - 1, 1)
    assert (stand.told, stand.manager.need()) == ([], None)
    await stand.turns(600, 600, 600)
    assert stand.told == [
        "Rules do not get on; nothing is judged, and nothing closed: the executions did not come in"
        " time"
    ]
    need = stand.manager.need()
    assert need is not None
    assert need.message.startswith("Rules do not get on: nothing is judged, and nothing closed: ")
    stand.watch.fails = None
    await stand.turns(1)
    assert stand.manager.need() is None


async def test_a_lost_session_is_not_told_as_looks_that_fail() -> None:
    """That is told by itself, and what failed before it says nothing of what comes after."""
    stand = Told(rules(STOP), only(stock(100)))
    stand.watch.fails = BridgeError("no answer")
    await stand.turns(1)
    stand.lost = BridgeError("the session is lost")
    await stand.turns(3600, 3600)
    stand.lost = None
    await stand.turns(1, BLIND_SECONDS - 2)
    assert stand.told == []


async def test_a_stop_without_a_quote_is_told_with_all_that_it_is_for() -> None:
    both = (only(stock(100)), only(stock(5, con_id=2, symbol="MSFT")))
    match = {"account": "DU1"}
    wanted = {"match": match, "stopLoss": {"percent": 5}, "takeProfit": {"percent": 5}}
    stand = Told(rules(wanted, {"match": match, "daysToExpiration": 3}), *both)
    seen, stand.seen = stand.seen, unquoted
    await stand.turn()
    await stand.turn(UNSEEN_SECONDS - 1)
    assert stand.told == []
    await stand.turn()
    assert stand.told == ["r0 cannot close yet AAPL, MSFT; stopLoss, takeProfit: no quote"]
    assert stand.manager.need() is None
    for back in (True, False):  # quotes that come and go are not told each time
        stand.seen = seen if back else unquoted
        await stand.turn(UNSEEN_SECONDS)
        await stand.turn(UNSEEN_SECONDS)
    assert len(stand.told) == 1
    stand.seen = seen
    await stand.turn(AGAIN_SECONDS)
    stand.seen = unquoted
    await stand.turn()
    await stand.turn(UNSEEN_SECONDS)
    assert len(stand.told) == 2


@pytest.mark.parametrize("seen", [unknown, unquoted])
@pytest.mark.parametrize("clock", ["right", "set back"])
async def test_what_was_told_is_not_told_again_after_a_restart(seen: Any, clock: str) -> None:
    """A bridge that ends again and again would spend the hour's messages of rules on it."""
    aapl, msft = only(stock(100)), only(stock(5, con_id=2, symbol="MSFT"))
    match = {"account": "DU1"}
    wanted = rules({"match": match, "stopLoss": {"percent": 5}, "takeProfit": {"percent": 5}})
    first = Told(wanted, aapl, msft)
    first.seen = seen
    for _ in range(2):
        await first.turn(UNSEEN_SECONDS)
    assert len(first.told) == 1

    second = Told(wanted, aapl, msft, only(stock(7, con_id=3, symbol="META")))
    quoted, second.seen = second.seen, seen
    second.clock.passed = first.clock.passed - (3600 if clock == "set back" else 0)
    second.journal.before = first.journal.told
    await second.manager.start(second.manager._terms)
    await settle(second.manager._task)
    for _ in range(2):
        await second.turn(UNSEEN_SECONDS)
    (told,) = second.told
    assert told.startswith(
        "r0 cannot close yet " + ("META;" if clock == "right" else "AAPL, MSFT, META;")
    )
    assert second.manager.need() is None or seen is unknown
    second.seen = quoted
    await second.turn(AGAIN_SECONDS)
    second.seen = seen
    for _ in range(2):
        await second.turn(UNSEEN_SECONDS)
    assert len(second.told) == 2
    assert "AAPL, MSFT, META" in second.told[-1]


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_while_nothing_can_be_closed_no_time_counts(how: str) -> None:
    stand = Told(rules(STOP), only(stock(100)))
    stand.seen = unquoted
    await stand.turn()
    if how == "closed":
        stand.seen = lambda _: market(open=False)
        await stand.turn(16 * 3600)
    else:
        stand.lost = BridgeError("the session is lost")
        await stand.turn(16 * 3600)
        stand.lost = None
    stand.seen = unquoted
    await stand.turn()
    assert stand.told == []
    await stand.turn(UNSEEN_SECONDS)
    assert len(stand.told) == 1


async def test_a_trailing_stop_that_is_not_armed_yet_lacks_nothing() -> None:
    trailing = {"match": {"symbol": "AAPL"}, "trailing": {"percent": 5, "armedAt": 10}}
    stand = Told(rules(trailing), only(stock(100)))
    for _ in range(3):
        await stand.turn(UNSEEN_SECONDS)
    assert stand.told == []


def day(number: int, closes: int) -> Any:
    """A session of November, from 9:30 on, as it is at ten."""
    at = datetime(2026, 11, number, 10, 0, tzinfo=NEW_YORK)
    session = Session(at - timedelta(minutes=30), at.replace(hour=closes))
    return lambda _: market((1, 100.0, 100.0), now=at, session=session, longer=session)


async def test_a_time_that_a_short_day_does_not_reach_is_told_in_the_morning() -> None:
    """On each such day; nothing is closed at another time than the rule says."""
    stand = Told(rules(STOP | {"at": "15:30"}), only(stock(100)))
    for number, closes, told in ((25, 16, 0), (27, 13, 1), (30, 16, 1)):
        stand.seen = day(number, closes)
        for _ in range(2):
            await stand.turn(11)
        assert len(stand.told) == told
        stand.seen = lambda _: market(open=False)
        await stand.turn(AGAIN_SECONDS + 1)
    stand.seen = day(27, 13)
    for _ in range(3):
        await stand.turn(11)
    assert len(stand.told) == 2
    assert stand.told[0] == (
        "r0 cannot close yet AAPL; at: the session ends at 13:00, before that; close it yourself"
        " before that, or give the rule minutes_before_close"
    )
    assert stand.manager.need() is None
    assert stand.closes.begun == []


async def test_what_no_rule_is_for_any_more_is_forgotten() -> None:
    stand = Told(rules(STOP), only(stock(100)))
    stand.seen = unknown
    for _ in range(3):
        await stand.turn(DETAILS_SECONDS)
    assert stand.manager.need() is not None
    stand.manager._take(structs.replace(stand.manager._terms, rules=RuleSet()))
    stand.journal.memories.clear()
    await stand.turn()
    assert stand.manager.need() is None


async def test_stops_that_nobody_looks_after_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Told(rules(STOP | {"protect": "broker"}), only(stock(100)))

    async def failing(*_: Any, **__: Any) -> None:
        raise BridgeError("the open orders did not come in time")

    monkeypatch.setattr(stand.stops, "follow", failing)
    await stand.turns(BLIND_SECONDS, 600, 600)
    assert stand.told == [
        "Rules do not get on; stops at the broker are neither sent nor moved: the open orders did"
        " not come in time"
    ]
    monkeypatch.undo()
    await stand.turns(1)
    assert stand.manager.need() is None


async def test_what_is_too_small_for_an_order_is_told_and_not_tried() -> None:
    """As the fraction of a share that dividends have left."""
    fraction = structs.replace(only(stock(0.4)), step=1.0)
    stand = Told(rules(STOP | {"protect": "broker"}), fraction, price=94.0)
    for _ in range(3):
        await stand.turn(11)
    assert stand.told == [
        "r0 cannot close yet AAPL; close: no order may be for 0.4: sell that in TWS"
    ]
    assert (stand.closes.begun, stand.stops.wanted) == ([], set())


@pytest.mark.parametrize("mode", ["trade", "simulate"])
async def test_an_order_that_settings_refuse_is_told_before_it_matters(mode: str) -> None:
    stand = Told(rules(STOP | {"mode": mode}), only(stock(100)))
    orders: Any = stand.manager._given.orders
    orders.refused = lambda *_, market: "" if market else "this bridge is read-only"
    for _ in range(3):
        await stand.turn(11)
    said = "r0 cannot close yet AAPL; close: an order would be refused: this bridge is read-only"
    assert stand.told == ([said] if mode == "trade" else [])


async def test_what_cannot_be_asked_of_settings_keeps_nobody_from_closing() -> None:
    stand = Told(rules(STOP), only(stock(100)), price=94.0)
    orders: Any = stand.manager._given.orders

    def breaks(*_: object, market: bool) -> str:
        raise RuntimeError(str(market))

    orders.refused = breaks
    await stand.turn(11)
    assert stand.closes.begun != []


async def test_what_is_closed_by_hand_while_halted_needs_nobody_any_more() -> None:
    both = (only(stock(100)), only(stock(5, con_id=2, symbol="MSFT")))
    stand = Told(rules({"match": {"account": "DU1"}, "stopLoss": {"percent": 5}}), *both)
    stand.seen = unknown
    await stand.turn()
    await stand.turn(DETAILS_SECONDS)
    halt: Any = stand.manager._given.halt
    halt.halt = SimpleNamespace(allow_closing=False)
    await stand.turn()
    stand.watch.holdings = both[:1]
    await stand.turn()
    need = stand.manager.need()
    assert need is not None
    assert need.message == f"Rule r0 is not judged for AAPL: {NO_DETAILS}"
    stand.watch.holdings = ()
    await stand.turn()
    assert stand.manager.need() is None
