from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import structs

from bridge.market.quote_line import LineWatcher, QuoteLine
from bridge.market.quotes import basics_known
from bridge.model import Contract, MarketDataType, PriceTick
from bridge.tws.errors import QueueFullError
from tests.bridge.market.clock import WoundClock
from tests.bridge.market.fake_gateway import FakeGateway

if TYPE_CHECKING:
    from bridge.tws.errors import TwsError

import pytest

from bridge.market.quote_line import COMPETING_SECONDS, LONGEST_SECONDS, Fallback, Feed


@pytest.mark.parametrize("code", [354, 10089, 10168, 10186, 10197])
def test_a_refusal_of_live_asks_for_delayed(code: int) -> None:
    fallback = Fallback()
    assert fallback.refused(code, 0.0)
    assert fallback.wanted is MarketDataType.DELAYED
    assert fallback.cause == code


def test_a_refusal_of_delayed_leaves_nothing_and_tries_again_later() -> None:
    fallback = Fallback()
    fallback.refused(354, 0.0)
    assert not fallback.refused(354, 1.0)
    assert fallback.feed is Feed.NOTHING
    assert not fallback.probe_due(100.0)
    assert fallback.probe_due(10_000.0)


def test_what_nobody_but_the_bridge_refused_is_tried_again_soon() -> None:
    fallback = Fallback()
    fallback.refused(None, 0.0)
    assert not fallback.probe_due(COMPETING_SECONDS - 1)
    assert fallback.probe_due(COMPETING_SECONDS)


def test_any_other_refusal_is_no_reason_for_delayed() -> None:
    fallback = Fallback()
    assert not fallback.refused(200, 0.0)
    assert fallback.feed is Feed.NOTHING


def test_a_line_that_turns_delayed_by_itself_needs_no_new_request() -> None:
    fallback = Fallback()
    fallback.delivered(MarketDataType.DELAYED, 0.0)
    assert fallback.feed is Feed.DELAYED
    assert fallback.cause == 10167
    fallback.delivered(MarketDataType.LIVE, 5.0)
    assert fallback.wanted is MarketDataType.LIVE
    assert fallback.probe_at is None


def test_after_a_competing_session_live_is_tried_soon() -> None:
    fallback = Fallback()
    fallback.refused(10197, 0.0)
    assert not fallback.probe_due(COMPETING_SECONDS - 1)
    assert fallback.probe_due(COMPETING_SECONDS)
    assert not fallback.probe_due(COMPETING_SECONDS + 1)


def test_probes_grow_rarer_up_to_an_hour_and_start_afresh_after_live() -> None:
    fallback = Fallback()
    now = 0.0
    fallback.refused(354, now)
    waits = []
    for _ in range(8):
        assert fallback.probe_at is not None
        waits.append(fallback.probe_at - now)
        now = fallback.probe_at
        assert fallback.probe_due(now)
        fallback.probe_failed(354, now)
    assert waits == sorted(waits)
    assert waits[0] == 300.0
    assert waits[-1] == LONGEST_SECONDS
    fallback.recovered()
    fallback.refused(354, 0.0)
    assert fallback.probe_at == 300.0


def test_a_change_at_the_broker_brings_the_probe_forward() -> None:
    fallback = Fallback()
    fallback.hurry(0.0)
    assert not fallback.probe_due(0.0)
    fallback.refused(354, 0.0)
    fallback.hurry(7.0)
    assert fallback.probe_due(7.0)


STOCK = Contract(symbol="AAPL", con_id=1)
LIVE, DELAYED = MarketDataType.LIVE, MarketDataType.DELAYED


class Watcher(LineWatcher):
    def __init__(self) -> None:
        self.seen: list[object] = []

    def changed(self, line: QuoteLine, fields: tuple[str, ...]) -> None:
        self.seen.append(fields)

    def interrupted(self, line: QuoteLine) -> None:
        self.seen.append("interrupted")

    def restored(self, line: QuoteLine) -> None:
        self.seen.append("restored")

    def refused(self, line: QuoteLine, error: TwsError) -> None:
        self.seen.append(error.broker_code)


def opened() -> tuple[FakeGateway, WoundClock, Watcher, QuoteLine]:
    gateway, clock, watcher = FakeGateway(), WoundClock(), Watcher()
    line = QuoteLine(gateway, STOCK, clock, [watcher])  # type: ignore[arg-type]
    line.open()
    return gateway, clock, watcher, line


def tags(line: QuoteLine) -> dict[str, str]:
    return {name: value.tag for name, value in line.slot.view(0).items()}


def test_refused_live_is_asked_for_delayed_and_tagged_so() -> None:
    gateway, _, watcher, line = opened()
    gateway.lines[0].fail(354)
    assert [made.kind for made in gateway.lines] == [LIVE, DELAYED]
    gateway.lines[1].listener.market_data_type(DELAYED)
    gateway.lines[1].tick(PriceTick("bid", 10, 1, delayed=True))
    assert tags(line)["bid"] == "delayed"
    assert line.error is None
    assert watcher.seen == [("bid", "bidSize")]


def test_values_from_before_the_fall_are_stale_until_they_tick() -> None:
    gateway, _, _, line = opened()
    gateway.lines[0].tick(PriceTick("bid", 10, 1), PriceTick("ask", 11, 1))
    gateway.lines[0].fail(10197)
    assert set(tags(line).values()) == {"stale"}
    gateway.lines[1].tick(PriceTick("ask", 11, 1, delayed=True))
    assert tags(line)["ask"] == "delayed"
    assert tags(line)["bid"] == "stale"


def test_live_comes_back_beside_the_delayed_line_without_a_gap() -> None:
    gateway, clock, _, line = opened()
    gateway.lines[0].fail(10197)
    delayed = gateway.lines[1]
    delayed.tick(PriceTick("bid", 10, 1, delayed=True))
    clock.advance(29)
    line.maintain(may_probe=True)
    assert len(gateway.lines) == 2
    clock.advance(1)
    line.maintain(may_probe=True)
    probe = gateway.lines[2]
    assert probe.kind is LIVE
    assert delayed.active
    delayed.tick(PriceTick("bid", 10.5, 1, delayed=True))
    assert tags(line)["bid"] == "delayed"
    probe.tick(PriceTick("bid", 11, 1))
    assert gateway.open_lines == [probe]
    assert line.slot.number("bid") == 11
    assert tags(line)["bid"] == "live"
    assert line.fallback.cause is None


def test_a_probe_that_is_refused_or_delayed_changes_nothing() -> None:
    gateway, clock, _, line = opened()
    gateway.lines[0].fail(354)
    delayed = gateway.lines[1]
    clock.advance(300)
    line.maintain(may_probe=True)
    gateway.lines[2].fail(354)
    clock.advance(600)
    line.maintain(may_probe=True)
    gateway.lines[3].listener.market_data_type(DELAYED)
    assert not gateway.lines[3].active
    assert delayed.active
    delayed.tick(PriceTick("bid", 10, 1, delayed=True))
    assert tags(line)["bid"] == "delayed"
    assert gateway.open_lines == [delayed]


def test_no_probe_without_a_spare_line() -> None:
    gateway, clock, _, line = opened()
    gateway.lines[0].fail(354)
    clock.advance(300)
    line.maintain(may_probe=False)
    assert len(gateway.lines) == 2


def test_refused_altogether_tells_and_tries_again_later() -> None:
    gateway, clock, watcher, line = opened()
    gateway.lines[0].fail(354)
    gateway.lines[1].fail(10168)
    assert watcher.seen == [10168]
    assert line.error is not None
    clock.advance(3600)
    line.maintain(may_probe=True)
    assert gateway.lines[2].kind is LIVE
    gateway.lines[2].tick(PriceTick("bid", 10, 1))
    assert line.error is None


def test_an_interruption_is_told_and_ends_a_probe() -> None:
    gateway, clock, watcher, line = opened()
    gateway.lines[0].fail(354)
    clock.advance(300)
    line.maintain(may_probe=True)
    for made in gateway.lines[1:]:
        made.listener.interrupted()
    assert not gateway.lines[2].active
    assert watcher.seen == ["interrupted"]
    gateway.lines[1].listener.restored()
    assert watcher.seen == ["interrupted", "restored"]
    line.maintain(may_probe=True)
    assert gateway.lines[3].kind is LIVE


def test_a_line_that_cannot_even_be_asked_for_is_refused_and_can_be_asked_for_again() -> None:
    gateway, clock, watcher, line = opened()
    gateway.refuse_at_once = QueueFullError("too many wait", retry_after=1)
    gateway.lines[0].fail(354)
    assert line.error is gateway.refuse_at_once
    assert watcher.seen == [None]
    gateway.refuse_at_once = None
    line.retry()
    assert [made.kind for made in gateway.open_lines] == [LIVE]
    gateway.lines[-1].fail(10197)
    gateway.refuse_at_once = QueueFullError("too many wait", retry_after=1)
    clock.advance(60)
    line.maintain(may_probe=True)
    assert not line.probing
    gateway.open_lines[0].tick(PriceTick("bid", 10, 1, delayed=True))
    assert tags(line)["bid"] == "delayed"


def test_closing_gives_everything_back() -> None:
    gateway, clock, _, line = opened()
    gateway.lines[0].fail(354)
    clock.advance(300)
    line.maintain(may_probe=True)
    line.close()
    assert gateway.open_lines == []


async def test_waiting_ends_when_complete_when_settled_or_when_refused() -> None:
    gateway, _, _, line = opened()
    waiting = asyncio.create_task(line.wait(basics_known, 30))
    await asyncio.sleep(0)
    gateway.lines[0].tick(PriceTick("bid", None, 0), PriceTick("ask", 11, 1))
    gateway.lines[0].tick(PriceTick("close", 10, None))
    assert await waiting

    gateway, _, _, line = opened()
    waiting = asyncio.create_task(line.wait(basics_known, 30, settle=0.01))
    await asyncio.sleep(0)
    gateway.lines[0].tick(PriceTick("ask", 10, 1))
    assert await waiting

    gateway, _, _, line = opened()
    waiting = asyncio.create_task(line.wait(basics_known, 30))
    await asyncio.sleep(0)
    gateway.lines[0].fail(200)
    assert not await waiting

    gateway, _, _, line = opened()
    assert not await line.wait(basics_known, 0.01)


@pytest.mark.parametrize("kind", ["STK", "IND"])
async def test_bid_and_ask_that_come_after_the_close_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """An order would be held against the price of the day before; an index has neither."""
    monkeypatch.setattr("bridge.market.quote_line.UNPRICED_SECONDS", 60.0)
    gateway, _, _, line = opened()
    line.contract = structs.replace(line.contract, sec_type=kind)
    waiting = asyncio.create_task(line.wait(basics_known, 60, settle=0.0))
    await asyncio.sleep(0)
    gateway.lines[0].tick(PriceTick("close", 10, None))
    for _ in range(20):
        await asyncio.sleep(0)
    assert waiting.done() is (kind == "IND")
    gateway.lines[0].tick(PriceTick("bid", 11, 1))
    assert await waiting


@pytest.mark.parametrize("kind", [DELAYED, MarketDataType.DELAYED_FROZEN])
def test_values_of_a_line_that_turns_delayed_by_itself_are_live_no_more(
    kind: MarketDataType,
) -> None:
    gateway, _, watcher, line = opened()
    made = gateway.lines[0]
    made.listener.market_data_type(MarketDataType.FROZEN)
    made.tick(PriceTick("bid", 10, 1), PriceTick("ask", 11, 1))
    made.listener.market_data_type(LIVE)
    assert "stale" not in tags(line).values(), "live again, and frozen before: nothing is late"
    made.listener.market_data_type(kind)
    assert set(tags(line).values()) == {"stale"}
    assert line.slot.number("bid") is None
    made.tick(PriceTick("bid", 9, 1, delayed=True))
    assert tags(line)["ask"] == "stale"
    assert line.slot.number("bid") == 9
    made.listener.market_data_type(kind)
    assert line.slot.number("bid") == 9
    assert watcher.seen == [
        ("bid", "bidSize"),
        ("ask", "askSize"),
        "interrupted",
        ("bid", "bidSize"),
    ]


def test_a_line_that_is_refused_after_it_had_values_says_that_they_are_stale() -> None:
    gateway, _, watcher, _ = opened()
    gateway.lines[0].tick(PriceTick("bid", 10, 1))
    gateway.lines[0].fail(200)
    assert watcher.seen == [("bid", "bidSize"), "interrupted", 200]


def test_a_line_that_stays_silent_after_an_interruption_is_asked_for_anew_once() -> None:
    gateway, clock, _, line = opened()
    gateway.lines[0].tick(PriceTick("bid", 10, 1), PriceTick("ask", 11, 1))
    gateway.lines[0].listener.interrupted()
    for _ in range(10):
        line.maintain(may_probe=True)
        clock.advance(1)
    assert len(gateway.lines) == 1, "there is no session yet"
    gateway.lines[0].listener.restored()
    gateway.lines[0].asked = False
    for _ in range(3):
        line.maintain(may_probe=True, may_renew=True)
        clock.advance(5)
    assert len(gateway.lines) == 1, "it waits for its turn to be asked for"
    gateway.lines[0].asked = True
    line.maintain(may_probe=True, may_renew=True)
    clock.advance(4.5)
    line.maintain(may_probe=True, may_renew=True)
    assert len(gateway.lines) == 1
    clock.advance(0.5)
    line.maintain(may_probe=True, may_renew=True)
    assert [made.active for made in gateway.lines] == [False, True]
    assert set(tags(line).values()) == {"stale"}
    clock.advance(60)
    line.maintain(may_probe=True, may_renew=True)
    assert len(gateway.lines) == 2
    gateway.lines[1].tick(PriceTick("bid", 10, 1))
    assert tags(line)["bid"] == "live"


@pytest.mark.parametrize("how", ["interrupted", "doubted"])
def test_a_line_that_ticks_after_an_interruption_is_not_asked_for_anew(how: str) -> None:
    gateway, clock, _, line = opened()
    made = gateway.lines[0]
    made.tick(PriceTick("bid", 10, 1))
    made.tick(PriceTick("ask", 11, 1), PriceTick("close", 9, None))
    line.doubt() if how == "doubted" else made.listener.interrupted()
    line.maintain(may_probe=True, may_renew=True)
    made.tick(PriceTick("bid", 10, 1), PriceTick("ask", 11, 1))
    for _ in range(3):
        clock.advance(5)
        line.maintain(may_probe=True, may_renew=True)
    assert gateway.lines == [made]
    line.doubt()
    made.tick(PriceTick("bid", 10, 1))  # the ask has not changed, so it does not tick
    for _ in range(3):
        clock.advance(5)
        line.maintain(may_probe=True, may_renew=True)
    assert len(gateway.lines) == 2
