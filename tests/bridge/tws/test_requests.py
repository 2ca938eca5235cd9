"""What waits for the gateway, and what comes without an end."""

from __future__ import annotations

import asyncio

import pytest

from bridge.clock import SystemClock
from bridge.tws.errors import AnswerTooLargeError, UnreadableAnswerError
from bridge.tws.requests import LARGEST_ANSWER, LARGEST_TOGETHER, Key, Kind, Requests


async def test_an_answer_without_an_end_ends_its_request_alone() -> None:
    requests = Requests(SystemClock())
    endless = requests.open(1, Kind.CONTRACT_DETAILS, 5)
    other = requests.open(2, Kind.POSITIONS, 5)
    part, most = "x", LARGEST_ANSWER // 100_000
    for _ in range(most + 50):
        requests.arriving(100_000)
        requests.add(1, part)
    with pytest.raises(AnswerTooLargeError):
        await endless.future
    assert endless.parts == []
    requests.close(endless)
    requests.arriving(100_000)
    requests.add(2, part)
    requests.finish(2)
    assert await other.future == [part]
    requests.close(other)


async def test_many_answers_together_have_a_bound_too() -> None:
    requests = Requests(SystemClock())
    pending = [requests.open(number, Kind.HISTORY, 5) for number in range(40)]
    for each in pending:
        for _ in range(3):  # the bars of one message count once
            requests.arriving(1_000_000)
            requests.add(each.name, "bar")
            requests.add(each.name, "bar")
    ended = [each for each in pending if each.future.done()]
    whole = len(pending) - len(ended)
    assert whole * 3_000_000 <= LARGEST_TOGETHER
    assert ended
    for each in pending:
        requests.close(each)
        each.future.cancel()
    again = requests.open(99, Kind.HISTORY, 5)
    requests.arriving(1_000_000)
    requests.add(99, "bar")
    requests.finish(99)
    assert await asyncio.wait_for(again.future, 1) == ["bar"]
    requests.close(again)


async def test_the_end_of_an_answer_that_has_failed_is_not_waited_for() -> None:
    """A row that cannot be read, and the end of its list, come in one piece from the gateway."""
    requests = Requests(SystemClock())
    spoiled = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    spoiled.sent_at = 1.0
    requests.fail(Key.POSITIONS, UnreadableAnswerError("nobody knows how many"))
    requests.finish(Key.POSITIONS)
    requests.close(spoiled)
    again = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    again.sent_at = 2.0
    requests.add(Key.POSITIONS, "row")
    requests.finish(Key.POSITIONS)
    assert again.future.done()
    assert await again.future == ["row"]
    requests.close(again)


async def test_the_end_of_an_answer_that_has_failed_may_come_later() -> None:
    requests = Requests(SystemClock())
    spoiled = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    spoiled.sent_at = 1.0
    requests.fail(Key.POSITIONS, UnreadableAnswerError("nobody knows how many"))
    requests.close(spoiled)
    again = requests.open(Key.POSITIONS, Kind.POSITIONS, 5)
    again.sent_at = 2.0
    requests.add(Key.POSITIONS, "a row of before")
    requests.finish(Key.POSITIONS)
    assert not again.future.done()
    requests.add(Key.POSITIONS, "row")
    requests.finish(Key.POSITIONS)
    assert await again.future == ["row"]
    requests.close(again)
