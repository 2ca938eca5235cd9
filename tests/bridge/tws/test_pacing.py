"""Lanes, the history rules, the breaker and the registry, on a wound clock."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.tws.breaker import Breaker, Breakers, BreakerState
from bridge.tws.errors import CircuitOpenError, QueueFullError, RequestTimedOutError, TwsError
from bridge.tws.pacing import (
    BULK_LIMIT,
    INTERACTIVE_LIMIT,
    PORTION_SECONDS,
    WINDOW,
    HistoryKey,
    HistoryRules,
    Lane,
    Pacer,
)
from bridge.tws.requests import (
    FIRST_ID,
    LARGEST_ANSWER,
    LARGEST_TOGETHER,
    LAST_ID,
    Key,
    Kind,
    Requests,
)
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


@settings(max_examples=40)
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
    pacer.submit(Lane.BULK, lambda: None, gives_back=True)
    assert pacer.depth()["bulk"] == 11


def test_what_is_given_back_is_so_when_only_the_broker_is_lost() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for _ in range(INTERACTIVE_LIMIT):
        pacer.submit(Lane.INTERACTIVE, lambda: gateway.write("before"))
    for name, gives_back in (("asked", False), ("back", True), ("asked", False), ("back", True)):
        pacer.submit(Lane.INTERACTIVE, lambda name=name: gateway.write(name), gives_back=gives_back)  # type: ignore[misc]
    pacer.clear(socket_gone=False)
    assert pacer.used() == INTERACTIVE_LIMIT, "the gateway has counted them, too"
    clock.advance(5)
    assert [name for _, name in gateway.sent][INTERACTIVE_LIMIT:] == ["back", "back"]
    pacer.submit(Lane.BULK, lambda: gateway.write("more"))
    pacer.clear()
    assert pacer.depth() == dict.fromkeys(pacer.depth(), 0)
    assert pacer.used() == 0


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


@settings(max_examples=60)
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


def test_a_breaker_is_shown_as_open_only_while_it_refuses() -> None:
    clock = WoundClock()
    breakers = Breakers(clock)
    for _ in range(5):
        breakers["history"].timed_out()
    assert breakers.shown() == {"history": "open"}
    clock.advance(9.9)
    assert breakers.shown() == {"history": "open"}
    clock.advance(0.11)
    assert breakers.shown() == {"history": "half-open"}, "the next request decides"
    breakers["history"].enter()
    breakers["history"].timed_out()
    assert breakers.shown() == {"history": "open"}


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


def due(clock: WoundClock) -> float | None:
    return clock.next_due


# the edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lane", "at_once"),
    [(Lane.CANCEL, 44), (Lane.ORDER, 10), (Lane.INTERACTIVE, 32), (Lane.BULK, 26)],
)
def test_each_lane_writes_so_many_at_once(lane: Lane, at_once: int) -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for _ in range(at_once + 1):
        pacer.submit(lane, lambda: gateway.write("it"))
    assert len(gateway.sent) == at_once == pacer.used()
    assert pacer.depth()[lane.value] == 1
    wait = PORTION_SECONDS if lane is Lane.ORDER else WINDOW
    assert clock.next_due == pytest.approx(wait)
    assert (WINDOW, PORTION_SECONDS) == (1.05, 1.05 / 4)
    clock.advance(wait - 0.001)
    assert len(gateway.sent) == at_once
    clock.advance(0.002)
    assert len(gateway.sent) == at_once + 1


def test_orders_leave_room_for_cancels_only() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for _ in range(60):
        pacer.submit(Lane.ORDER, lambda: gateway.write("order"))
    clock.advance(3 * PORTION_SECONDS + 0.001)
    assert len(gateway.sent) == 40
    for _ in range(5):
        pacer.submit(Lane.CANCEL, lambda: gateway.write("cancel"))
    assert len(gateway.sent) == 44, "and the fifth has to wait"
    assert pacer.depth() == {"cancel": 1, "order": 20, "interactive": 0, "bulk": 0}


def test_messages_that_belong_together_count_as_many() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    first = pacer.submit(Lane.BULK, lambda: gateway.write("two"), messages=2)
    assert (first.written, pacer.used()) == (True, 2)
    clock.advance(0.5)
    pacer.charge(22)
    pacer.charge()
    ticket = pacer.submit(Lane.BULK, lambda: gateway.write("two"), messages=2)
    assert pacer.depth()["bulk"] == 1, "25 and 2 are one more than 26"
    assert clock.next_due == pytest.approx(WINDOW - 0.5)
    clock.advance(WINDOW - 0.5 + 0.001)
    assert ticket.written
    assert pacer.used() == 25


def test_an_order_of_several_messages_waits_for_its_portion() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for _ in range(3):
        pacer.submit(Lane.ORDER, lambda: gateway.write("three"), messages=3)
        clock.advance(0.01)
    ticket = pacer.submit(Lane.ORDER, lambda: gateway.write("three"), messages=3)
    assert not ticket.written
    assert clock.next_due == pytest.approx(PORTION_SECONDS - 0.03)
    big = pacer.submit(Lane.CANCEL, lambda: gateway.write("big"), messages=100)
    clock.advance(5)
    assert big.written, "more than ever may go at once waits for a quiet second, and goes"


def test_how_many_may_wait_in_each_lane() -> None:
    for lane, most in (
        *((Lane.CANCEL, 1000), (Lane.ORDER, 1000)),
        *((Lane.INTERACTIVE, 1000), (Lane.BULK, 2000)),
    ):
        pacer = Pacer(WoundClock())
        pacer.charge(50)
        for _ in range(most):
            pacer.submit(lane, lambda: None)
        with pytest.raises(QueueFullError, match=f"{most} {lane.value} requests"):
            pacer.submit(lane, lambda: None)


def test_a_complaint_is_heeded_for_ten_seconds() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    pacer.slow_down()
    for _ in range(17):
        pacer.submit(Lane.INTERACTIVE, lambda: gateway.write("read"))
    assert len(gateway.sent) == 16
    clock.advance(9.9)
    sent = len(gateway.sent)
    for _ in range(33):
        pacer.submit(Lane.INTERACTIVE, lambda: gateway.write("read"))
    assert len(gateway.sent) == sent + 16
    pacer.clear()
    clock.advance(0.1)
    sent = len(gateway.sent)
    for _ in range(33):
        pacer.submit(Lane.INTERACTIVE, lambda: gateway.write("read"))
    assert len(gateway.sent) == sent + 32


def test_a_new_connection_begins_with_an_empty_slate() -> None:
    clock = WoundClock()
    pacer, gateway = Pacer(clock), Gateway(clock)
    for lane in Lane:
        for _ in range(60):
            pacer.submit(lane, lambda: gateway.write("old"))
    assert due(clock) is not None
    pacer.clear()
    assert due(clock) is None
    assert (pacer.used(), sum(pacer.depth().values())) == (0, 0)
    gateway.sent.clear()
    for _ in range(10):
        pacer.submit(Lane.ORDER, lambda: gateway.write("new"))
    assert len(gateway.sent) == 10
    clock.advance(60)
    assert len(gateway.sent) == 10
    pacer.clear()
    pacer.clear()


def test_the_void_are_not_counted_as_waiting() -> None:
    clock = WoundClock()
    pacer = Pacer(clock)
    tickets = [pacer.submit(Lane.BULK, lambda: None) for _ in range(30)]
    assert pacer.depth()["bulk"] == 4
    tickets[-1].void = tickets[-2].void = True
    assert pacer.depth()["bulk"] == 2
    clock.advance(WINDOW)
    assert [ticket.written for ticket in tickets[-4:]] == [True, True, False, False]


# the history rules --------------------------------------------------------------------------------


def key(contract: object, whole: object = "", weight: int = 1) -> HistoryKey:
    return HistoryKey(f"c{contract}", f"c{contract}/{whole}", weight)


@pytest.mark.parametrize(("weight", "waits"), [(1, 601.0), (2, 602.0), (3, 603.0)])
def test_sixty_in_ten_minutes(weight: int, waits: float) -> None:
    rules = HistoryRules()
    for number in range(60):
        assert rules.wait(key(number), float(number)) == 0
        rules.sent(key(number), float(number))
    assert rules.used(59.0) == 60
    assert rules.wait(key("x", weight=weight), 59.0) == waits - 59
    assert rules.used(600.9) == 60
    assert rules.used(601.0) == 59
    assert rules.wait(key("x"), 601.0) == 0


@pytest.mark.parametrize(("weight", "waits"), [(1, 3.0), (2, 3.1), (5, 3.4), (9, 3.4)])
def test_five_of_a_contract_in_two_seconds(weight: int, waits: float) -> None:
    rules = HistoryRules()
    for number in range(5):
        at = number / 10
        assert rules.wait(key("a", number), at) == 0
        rules.sent(key("a", number), at)
    assert rules.wait(key("a", "x", weight), 0.4) == pytest.approx(waits - 0.4)
    assert rules.wait(key("b", "x"), 0.4) == 0, "of another contract nothing was asked"
    assert rules.wait(key("a", "x"), 2.9) == pytest.approx(0.1)
    assert rules.wait(key("a", "x"), 3.0) == 0
    assert rules.wait(key("a", "x", 2), 3.0) == pytest.approx(0.1)


def test_the_same_once_in_fifteen_seconds() -> None:
    rules = HistoryRules()
    rules.sent(key("a", 1), 100.0)
    assert rules.wait(key("a", 1), 100.0) == 16.0
    assert rules.wait(key("a", 2), 100.0) == 0.0
    assert rules.wait(key("a", 1), 115.9) == pytest.approx(0.1)
    assert rules.wait(key("a", 1), 116.0) == 0.0
    rules.sent(key("a", 1), 116.0)
    assert rules.wait(key("a", 1), 117.0) == 15.0


def test_what_is_long_ago_takes_no_room() -> None:
    rules = HistoryRules()
    for number in range(50):
        rules.sent(key(number, weight=2), float(number))
    rules.used(49.0)
    assert len(rules._same) == 3, "of the last three seconds"
    assert len(rules._whole) == 16
    rules.used(1000.0)
    assert (len(rules._window), rules._same, rules._whole) == (0, {}, {})


# the breaker --------------------------------------------------------------------------------------


def test_a_breaker_opens_after_five_in_a_row_and_says_for_how_long() -> None:
    clock = WoundClock()
    breakers = Breakers(clock)
    breaker = breakers["history"]
    assert breakers["history"] is breaker
    for _ in range(4):
        breaker.timed_out()
    breaker.answered()
    for _ in range(4):
        breaker.timed_out()
    breaker.enter()
    breaker.timed_out()
    assert breakers.shown() == {"history": "open"}
    clock.advance(4)
    with pytest.raises(CircuitOpenError, match="5 history requests in a row") as caught:
        breaker.enter()
    assert caught.value.retry_after == 6.0
    clock.advance(5.9)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    assert caught.value.retry_after == 1.0
    clock.advance(0.1)
    breaker.enter()
    assert breakers.shown() == {"history": "half-open"}
    clock.advance(3)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    assert caught.value.retry_after == 7.0
    breaker.abandoned()
    assert state(breaker) is BreakerState.OPEN
    assert breakers["contracts"].state is BreakerState.CLOSED
    breakers["contracts"].abandoned()
    assert breakers.shown() == {"contracts": "closed", "history": "open"}
    breakers.reset()
    assert breakers.shown() == {"contracts": "closed", "history": "closed"}


# the registry -------------------------------------------------------------------------------------


def test_ids_are_far_from_those_of_orders_and_go_round() -> None:
    requests = Requests(WoundClock())
    assert (FIRST_ID, LAST_ID) == (1_500_000_000, 2_100_000_000)
    assert [requests.new_id(), requests.new_id()] == [FIRST_ID + 1, FIRST_ID + 2]
    requests._next = LAST_ID - 1
    assert [requests.new_id(), requests.new_id()] == [LAST_ID, FIRST_ID]


async def test_a_deadline_says_whether_it_was_sent_and_what_was_said() -> None:
    clock = WoundClock()
    requests = Requests(clock)
    queued, sent = requests.open(1, Kind.HISTORY, 2.5), requests.open(2, Kind.HISTORY, 2.5)
    assert requests.waiting_since() is None
    sent.sent_at, sent.said = clock.monotonic(), "farm is broken"
    queued_at = clock.monotonic()
    assert requests.waiting_since() == queued_at
    clock.advance(2.5)
    with pytest.raises(RequestTimedOutError, match=r"^history is still queued after 2\.5 s$"):
        await queued.future
    with pytest.raises(RequestTimedOutError, match=r"no answer after 2\.5 s; the broker said farm"):
        await sent.future


async def test_what_ends_some_spares_the_others() -> None:
    requests = Requests(WoundClock())
    history, order = requests.open(1, Kind.HISTORY, 9), requests.open(2, Kind.ORDER, 9)
    spared = requests.open(3, Kind.HISTORY, 9)
    assert requests.fail(4, TwsError("x")) is False
    requests.fail_kinds({Kind.ORDER}, TwsError("orders end"))
    with pytest.raises(TwsError, match="orders end"):
        await order.future
    requests.fail_all(lambda kind: TwsError(f"{kind} ends"), forget=False, spare=3)
    with pytest.raises(TwsError, match="history ends"):
        await history.future
    assert not spared.future.done()
    assert (len(requests), requests.get(1)) == (3, history)
    requests.fail_all(lambda kind: TwsError("gone"), forget=True, spare=3)
    assert (len(requests), requests.get(3)) == (1, spared)
    assert requests.fail(3, TwsError("y")) is True
    requests.add(3, "late")
    requests.finish(3, "late")
    assert spared.parts == []
    requests.close(spared)
    assert len(requests) == 0


async def test_only_what_was_sent_and_not_answered_is_owed() -> None:
    clock = WoundClock()
    requests = Requests(clock)
    unsent = requests.open(Key.POSITIONS, Kind.POSITIONS, 1)
    requests.close(unsent)
    answered = requests.open(Key.POSITIONS, Kind.POSITIONS, 1)
    answered.sent_at = clock.monotonic()
    requests.finish(Key.POSITIONS, "one")
    requests.close(answered)
    assert await answered.future == ["one"]
    refused = requests.open(Key.POSITIONS, Kind.POSITIONS, 1)
    refused.sent_at = clock.monotonic()
    requests.fail(Key.POSITIONS, TwsError("refused"))
    requests.close(refused)
    clock.advance(59.9)
    late = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    late.sent_at = clock.monotonic()
    requests.add(Key.POSITIONS, "old")
    requests.finish(Key.POSITIONS, "old")
    assert not late.future.done()
    requests.close(late)  # it was passed over once: its own answer is not waited for as well
    last = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    requests.finish(Key.POSITIONS, "new")
    assert await last.future == ["new"]
    requests.close(last)


@pytest.mark.parametrize("size", [LARGEST_ANSWER, LARGEST_ANSWER + 1])
async def test_one_answer_may_be_so_large(size: int) -> None:
    requests = Requests(WoundClock())
    assert (LARGEST_ANSWER, LARGEST_TOGETHER) == (4 << 20, 6 << 20)
    one = requests.open(1, Kind.HISTORY, 5)
    requests.arriving(size)
    requests.add(1, "a")
    requests.add(1, "b")  # of the same message
    assert one.future.done() is (size > LARGEST_ANSWER)
    assert len(one.parts) == (0 if size > LARGEST_ANSWER else 2)
    requests.close(one)
    assert requests._together == 0


@pytest.mark.parametrize("more", [0, 1])
async def test_all_together_may_be_so_large(more: int) -> None:
    requests = Requests(WoundClock())
    half = LARGEST_TOGETHER // 2
    first, second = requests.open(1, Kind.HISTORY, 5), requests.open(2, Kind.HISTORY, 5)
    requests.arriving(half)
    requests.add(1, "a")
    requests.arriving(half + more)
    requests.add(2, "b")
    assert (first.future.done(), second.future.done()) == (False, bool(more))
    requests.close(second)
    third = requests.open(3, Kind.HISTORY, 5)
    requests.arriving(half)
    requests.add(3, "c")
    assert not third.future.done(), "what was closed takes no room"
    for each in (first, third):
        requests.close(each)
