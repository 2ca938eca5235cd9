from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.callers import ORDER_CHECKS, Holder, Scope
from bridge.market.errors import LinesExhaustedError
from bridge.market.line_pool import LinePool
from tests.bridge.market.clock import WoundClock


def test_a_shared_line_is_opened_once_and_given_back_by_the_last_holder() -> None:
    pool: LinePool[str] = LinePool(2, WoundClock())
    pool.take("A")
    pool.take("A")
    assert (pool.held, pool.open, pool.holders("A")) == (1, 1, 2)
    pool.give("A")
    assert pool.held == 1
    pool.give("A")
    assert (pool.held, pool.open) == (0, 1)
    pool.give("A")
    assert pool.open == 1


def test_the_idle_line_unused_for_longest_makes_room() -> None:
    pool: LinePool[str] = LinePool(3, WoundClock())
    for key in "ABC":
        pool.take(key)
    pool.give("B")
    pool.give("A")
    assert pool.take("D") == "B"
    assert "B" not in pool
    assert "A" in pool


def test_taking_an_idle_line_again_saves_it() -> None:
    pool: LinePool[str] = LinePool(2, WoundClock())
    pool.take("A")
    pool.take("B")
    pool.give("A")
    pool.give("B")
    assert pool.take("A") is None
    assert pool.take("C") == "B"


def test_held_lines_are_never_taken_away() -> None:
    pool: LinePool[str] = LinePool(1, WoundClock())
    pool.take("A")
    with pytest.raises(LinesExhaustedError) as caught:
        pool.take("B")
    assert caught.value.retry_after == 60.0
    assert "B" not in pool
    assert pool.holders("A") == 1


def test_idle_lines_expire() -> None:
    clock = WoundClock()
    pool: LinePool[str] = LinePool(4, clock, linger=60)
    pool.take("A")
    pool.take("B")
    pool.give("A")
    clock.advance(59)
    assert pool.expired() == []
    pool.give("B")
    clock.advance(1)
    assert pool.expired() == ["A"]
    assert pool.open == 1


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.booleans(), st.sampled_from("ABCDEF")), max_size=60),
)
def test_never_more_open_than_there_are(capacity: int, steps: list[tuple[bool, str]]) -> None:
    """A model: what is open at the broker follows from what `take` says, and never exceeds it."""
    pool: LinePool[str] = LinePool(capacity, WoundClock())
    holders: dict[str, int] = {}
    at_broker: set[str] = set()
    for take, key in steps:
        if take:
            try:
                evicted = pool.take(key)
            except LinesExhaustedError:
                assert sum(1 for count in holders.values() if count) == capacity
                continue
            if evicted is not None:
                assert not holders.get(evicted)
                at_broker.remove(evicted)
            at_broker.add(key)
            holders[key] = holders.get(key, 0) + 1
        else:
            pool.give(key)
            holders[key] = max(holders.get(key, 0) - 1, 0)
        assert len(at_broker) <= capacity
        assert pool.open == len(at_broker)
        assert pool.held == sum(1 for count in holders.values() if count)


def shared() -> LinePool[str]:
    """Ten lines: one for checks, two more kept from readers, six at most for one key."""
    return LinePool(10, WoundClock(), reserved=1, for_traders=2, one_key=6)


def fill(pool: LinePool[str], holder: Holder, name: str) -> int:
    """Takes lines until there are no more; how many that were."""
    for number in range(20):
        try:
            pool.take(f"{name}{number}", holder)
        except LinesExhaustedError:
            return number
    raise AssertionError("there is no end of lines")


def test_who_only_reads_leaves_lines_for_those_who_trade_and_for_checks() -> None:
    pool = shared()
    readers = [Holder(f"reader{number}", rank=Scope.READ) for number in range(3)]
    assert [fill(pool, reader, reader.key) for reader in readers] == [6, 1, 0]
    trader, admin = Holder("trader", rank=Scope.TRADE), Holder("owner", rank=Scope.ADMIN)
    assert pool.available(readers[0]) == 0
    assert pool.available(trader) == 2
    pool.take("a", trader)
    assert fill(pool, admin, "owner") == 1
    assert fill(pool, ORDER_CHECKS, "check") == 1


def test_a_shared_line_is_not_counted_twice_and_a_joined_check_is_no_loophole() -> None:
    pool = shared()
    reader, other = Holder("reader", rank=Scope.READ), Holder("other", rank=Scope.READ)
    assert fill(pool, reader, "r") == 6
    pool.take("r0", reader)  # again: it has it already
    pool.take("r0", other)
    assert pool.held == 6
    pool.take("check", ORDER_CHECKS)
    pool.take("o0", other)
    with pytest.raises(LinesExhaustedError):
        pool.take("check", other)  # joining the check's line would make it an ordinary one
    pool.give("check", ORDER_CHECKS)
    assert fill(pool, ORDER_CHECKS, "c") == 3


def test_a_holder_that_goes_gives_its_share_back() -> None:
    pool = shared()
    reader = Holder("reader", rank=Scope.READ)
    assert fill(pool, reader, "r") == 6
    pool.give("r0", Holder("stranger"))
    assert pool.available(reader) == 0
    pool.give("r0", reader)
    assert pool.available(reader) == 1
    assert "r0" in pool  # for the next one who asks
    pool.take("r9", reader)
