"""Lanes, the history rules, the breaker and the registry, on a wound clock."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.tws.breaker import Breaker, BreakerState
from bridge.tws.errors import CircuitOpenError, QueueFullError, RequestTimedOutError, TwsError
from bridge.tws.pacing import BULK_LIMIT, PORTION_SECONDS, HistoryKey, HistoryRules, Lane, Pacer
from bridge.tws.requests import Key, Kind, Requests
from tests.bridge.wound import WoundClock


class Gateway:
    """Counts messages as a gateway would: by the second."""

    def __init__(self, clock: WoundClock) -> None:
        self.clock = clock
        self.sent: list[tuple[float, str]] = []

    def write(self, name: str) -> None:
        self.sent.append((self.clock.monotonic(), name))

    def most_in_a_second(self) -> int:
        times = [at for at, _ in self.sent]
        return max((sum(1 for other in times if at <= other < at + 1.0) for at in times), default=0)


def test_an_order_is_written_at_once_whatever_is_queued() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for number in range(500):
        pacer.submit(Lane.BULK, lambda number=number: gateway.write(f"history-{number}"))  # type: ignore[misc]
    for number in range(100):
        pacer.submit(Lane.INTERACTIVE, lambda number=number: gateway.write(f"read-{number}"))  # type: ignore[misc]
    begun = clock.monotonic()
    pacer.submit(Lane.ORDER, lambda: gateway.write("order"))
    assert gateway.sent[-1] == (begun, "order")
    clock.advance(60)
    assert pacer.depth() == {"cancel": 0, "order": 0, "interactive": 0, "bulk": 0}
    assert len(gateway.sent) == 601
    assert gateway.most_in_a_second() <= 50
    names = [name for _, name in gateway.sent]
    assert names.index("read-99") < names.index("history-300")
    assert [name for name in names if "history" in name] == [f"history-{n}" for n in range(500)]


def test_readers_leave_room_for_an_order_and_all_its_checks() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for number in range(100):
        pacer.submit(Lane.INTERACTIVE, lambda number=number: gateway.write(f"read-{number}"))  # type: ignore[misc]
    begun = clock.monotonic()
    checks = ("details", "rule", "kind", "line", "open orders", "positions", "stop", "order")
    for check in checks:
        pacer.submit(Lane.ORDER, lambda check=check: gateway.write(check))  # type: ignore[misc]
    assert gateway.sent[-len(checks) :] == [(begun, check) for check in checks]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(Lane)), st.floats(0, 0.4), st.integers(1, 2)), max_size=200
    )
)
def test_no_second_ever_sees_more_than_fifty(steps: list[tuple[Lane, float, int]]) -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for lane, pause, messages in steps:

        def write(messages: int = messages) -> None:
            for _ in range(messages):
                gateway.write("message")

        pacer.submit(lane, write, messages=messages)
        clock.advance(pause / 10)
    clock.advance(30)
    assert sum(pacer.depth().values()) == 0
    assert gateway.most_in_a_second() <= 50


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.5, 1.0, 1.3, 2.0])
def test_a_cancel_is_written_at_once_in_the_middle_of_a_burst_of_orders(pause: float) -> None:
    """Four at once wherever it is, and a dozen within half a second."""
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for number in range(100):
        pacer.submit(Lane.ORDER, lambda number=number: gateway.write(f"order-{number}"))  # type: ignore[misc]
    clock.advance(pause)
    begun = clock.monotonic()
    for number in range(14):
        pacer.submit(Lane.CANCEL, lambda number=number: gateway.write(f"cancel-{number}"))  # type: ignore[misc]
    clock.advance(60)
    waits = [at - begun for at, name in gateway.sent if name.startswith("cancel")]
    assert len(waits) == 14
    assert max(waits[:4]) == 0
    assert max(waits) <= 0.5
    assert gateway.most_in_a_second() <= 44


def test_orders_go_out_at_38_a_second_whatever_else_is_asked() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for number in range(400):
        pacer.submit(Lane.ORDER, lambda number=number: gateway.write(f"order-{number}"))  # type: ignore[misc]
        pacer.submit(Lane.INTERACTIVE, lambda: gateway.write("read"))
        pacer.submit(Lane.BULK, lambda: gateway.write("history"))
    clock.advance(60)
    at = {name: at for at, name in gateway.sent}
    assert 300 / (at["order-399"] - at["order-99"]) >= 38


def test_a_full_lane_refuses_and_says_when_to_come_back() -> None:
    clock = WoundClock()
    pacer = Pacer(clock, bulk_room=10)
    for _ in range(BULK_LIMIT + 10):
        pacer.submit(Lane.BULK, lambda: None)
    with pytest.raises(QueueFullError) as caught:
        pacer.submit(Lane.BULK, lambda: None)
    assert caught.value.retry_after == 2.0


def test_after_a_complaint_the_pace_is_halved_but_not_for_orders() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    pacer.slow_down()
    for _ in range(60):
        pacer.submit(Lane.BULK, lambda: gateway.write("history"))
    assert len(gateway.sent) == BULK_LIMIT // 2
    for _ in range(20):
        pacer.submit(Lane.ORDER, lambda: gateway.write("order"))
    clock.advance(PORTION_SECONDS)
    assert len(gateway.sent) == BULK_LIMIT // 2 + 20


def test_void_tickets_are_passed_over() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    tickets = [pacer.submit(Lane.BULK, lambda: gateway.write("history")) for _ in range(60)]
    for ticket in tickets[BULK_LIMIT:]:
        ticket.void = True
    clock.advance(5)
    assert len(gateway.sent) == BULK_LIMIT


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.floats(0, 20)), max_size=150))
def test_the_history_rules_are_never_broken(asked: list[tuple[int, int, float]]) -> None:
    rules, now = HistoryRules(), 0.0
    sent: list[tuple[float, str, str]] = []
    for contract, detail, pause in asked:
        now += pause
        key = HistoryKey(f"c{contract}", f"c{contract}/{detail}")
        now += rules.wait(key, now)
        assert rules.wait(key, now) == pytest.approx(0, abs=1e-6)
        rules.sent(key, now)
        sent.append((now, key.contract, key.whole))
    for at, name, whole in sent:
        later = [each for each in sent if at <= each[0]]
        assert sum(1 for each in later if each[0] < at + 600) <= 60
        same = [each for each in later if each[1] == name and each[0] < at + 2]
        assert len(same) < 6
        identical = [each for each in later if each[2] == whole and each[0] < at + 15]
        assert len(identical) == 1


def test_bid_ask_counts_twice() -> None:
    rules = HistoryRules()
    for number in range(30):
        key = HistoryKey(f"c{number}", f"c{number}", 2)
        assert rules.wait(key, 0.0) == 0
        rules.sent(key, 0.0)
    assert rules.wait(HistoryKey("other", "other", 2), 0.0) > 599


def state(breaker: Breaker) -> BreakerState:
    return breaker.state


def test_a_breaker_opens_probes_and_closes() -> None:
    clock = WoundClock()
    breaker = Breaker("history", clock)
    for _ in range(5):
        breaker.enter()
        breaker.timed_out()
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    assert caught.value.retry_after == 10
    clock.advance(10)
    breaker.enter()
    assert state(breaker) is BreakerState.HALF_OPEN
    with pytest.raises(CircuitOpenError):
        breaker.enter()  # one probe at a time
    breaker.timed_out()
    assert state(breaker) is BreakerState.OPEN
    clock.advance(10)
    breaker.enter()
    breaker.abandoned()  # a probe that told nothing does not block the next
    clock.advance(10)
    breaker.enter()
    breaker.answered()
    breaker.enter()
    assert state(breaker) is BreakerState.CLOSED


async def test_every_request_ends_once() -> None:
    clock = WoundClock()
    requests = Requests(clock)
    answered = requests.open(1, Kind.CONTRACT_DETAILS, 5)
    late = requests.open(2, Kind.CONTRACT_DETAILS, 1)
    lost = requests.open(3, Kind.CONTRACT_DETAILS, 60)
    requests.add(1, "a")
    requests.finish(1, "b")
    requests.finish(1, "c")
    clock.advance(2)
    requests.fail_all(lambda kind: TwsError(f"{kind} lost"), forget=True)
    assert await answered.future == ["a", "b"]
    with pytest.raises(RequestTimedOutError):
        await late.future
    with pytest.raises(TwsError, match="contractDetails lost"):
        await lost.future
    for pending in (answered, late, lost):
        requests.close(pending)
    assert len(requests) == 0
    assert clock.next_due is None


async def test_an_answer_that_is_owed_is_not_taken_for_the_next_one() -> None:
    clock = WoundClock()
    requests = Requests(clock)
    first = requests.open(Key.POSITIONS, Kind.POSITIONS, 1)
    first.sent_at = clock.monotonic()
    clock.advance(1)
    requests.close(first)
    second = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    second.sent_at = clock.monotonic()
    requests.add(Key.POSITIONS, "old")
    requests.finish(Key.POSITIONS)
    assert not second.future.done()
    requests.add(Key.POSITIONS, "new")
    requests.finish(Key.POSITIONS)
    assert await second.future == ["new"]
    requests.close(second)


async def test_an_answer_that_never_came_is_owed_for_a_minute_only() -> None:
    clock = WoundClock()
    requests = Requests(clock)
    first = requests.open(Key.POSITIONS, Kind.POSITIONS, 1)
    first.sent_at = clock.monotonic()
    clock.advance(1)
    requests.close(first)
    clock.advance(61)
    second = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    requests.finish(Key.POSITIONS, "fresh")
    assert await second.future == ["fresh"]
    requests.close(second)


async def test_any_answer_to_the_time_will_do() -> None:
    clock = WoundClock()
    requests = Requests(clock)
    first = requests.open(Key.CURRENT_TIME, Kind.CURRENT_TIME, 1)
    first.sent_at = clock.monotonic()
    clock.advance(1)
    requests.close(first)
    second = requests.open(Key.CURRENT_TIME, Kind.CURRENT_TIME, 1)
    requests.finish(Key.CURRENT_TIME, 5)
    assert await second.future == [5]
    requests.close(second)
    await asyncio.sleep(0)
