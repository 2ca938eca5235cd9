from __future__ import annotations

import pytest

from bridge.market.fallback import COMPETING_SECONDS, LONGEST_SECONDS, Fallback, Feed
from bridge.model import MarketDataType


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
