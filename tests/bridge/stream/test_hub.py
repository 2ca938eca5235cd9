from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from bridge.api.connections import _head_of
from bridge.callers import Holder, Scope
from bridge.stream.hub import SESSION_SECONDS, Hub, Session, TooManyStreamsError
from bridge.stream.subscriber import CONFLATE_ABOVE, CUT_OFF_ABOVE, REMEMBERED_MESSAGES, Ring, Topic
from tests.bridge.market.clock import WoundClock

A, B = Topic("quotes", 1), Topic("quotes", 2)
ORDERS, HEALTH = Topic("orders"), Topic("health")


def body(number: int) -> str:
    return json.dumps({"n": number})


class Room:
    def __init__(self, **options: Any) -> None:
        self.clock = WoundClock()
        self.dropped: list[str] = []
        self.hub = Hub(self.clock, lambda key: json.dumps({"whole": key}), **options)

    def client(self, *topics: Topic, owner: str = "key") -> Session:
        session = self.hub.open(Holder(owner, rank=Scope.ADMIN))
        self.hub.attach(session, self.dropped.append)
        for topic in topics:
            self.hub.subscribe(session, topic)
        return session

    def leave(self, session: Session) -> None:
        assert session.attachment is not None
        self.hub.detach(session, session.attachment)

    def received(self, session: Session) -> list[dict[str, Any]]:
        return [json.loads(text) for text in session.subscriber.take(self.hub.cursor)]


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [quote["n"] for message in messages for quote in message.get("quotes", ())]


def sequence(messages: list[dict[str, Any]]) -> list[int]:
    return [message["seq"] for message in messages]


async def test_everyone_gets_their_own_topics_in_order_without_holes() -> None:
    room = Room()
    both, one = room.client(A, B), room.client(A)
    for number in range(10):
        room.hub.publish(A if number % 2 else B, body(number))
    assert numbers(room.received(both)) == list(range(10))
    assert numbers(room.received(one)) == [1, 3, 5, 7, 9]
    room.hub.publish(B, body(10))
    room.hub.publish(A, body(11))
    assert sequence(room.received(both)) == [2]
    assert sequence(room.received(one)) == [2]


async def test_different_kinds_keep_their_order_as_messages_of_their_own() -> None:
    room = Room()
    client = room.client(A, ORDERS)
    room.hub.publish(A, body(1))
    room.hub.publish(ORDERS, '{"id":7}')
    room.hub.publish(A, body(2))
    room.hub.tell(client, "pong", id=None)
    messages = room.received(client)
    assert [message["type"] for message in messages] == ["quotes", "order", "quotes", "pong"]
    assert sequence(messages) == [1, 2, 3, 4]
    assert messages[1]["data"] == {"id": 7}


async def test_writers_are_woken_together_and_at_once_after_quiet() -> None:
    room = Room(flush_seconds=0.01)
    clients = [room.client(A) for _ in range(3)]
    for client in clients:
        assert client.attachment is not None
        client.attachment.wake.clear()
    for number in range(100):
        room.hub.publish(A, body(number))
    for client in clients:
        assert client.attachment is not None
        await asyncio.wait_for(client.attachment.wake.wait(), 1)
        assert len(room.received(client)) == 1


async def test_a_slow_client_is_conflated_and_harms_nobody() -> None:
    room = Room()
    slow, quick = room.client(A, B, ORDERS), room.client(A, B)
    seen = []
    for number in range(CONFLATE_ABOVE + 500):
        room.hub.publish(A if number % 2 else B, body(number))
        if number == 100:
            room.hub.publish(ORDERS, '{"id":7}')
        if number % 100 == 0:
            seen += numbers(room.received(quick))
    seen += numbers(room.received(quick))
    assert seen == list(range(CONFLATE_ABOVE + 500))
    messages = room.received(slow)
    assert [message["type"] for message in messages] == ["order", "quotes"]
    assert messages[1]["conflated"] == CONFLATE_ABOVE + 500
    assert {quote["whole"] for quote in messages[1]["quotes"]} == {1, 2}
    room.hub.publish(A, body(1))
    assert "conflated" not in room.received(slow)[0]
    assert room.dropped == []


async def test_a_client_that_lets_orders_pile_up_is_cut_off() -> None:
    room = Room(flush_seconds=0)
    client = room.client(ORDERS)
    for number in range(CUT_OFF_ABOVE + 1):
        room.hub.publish(ORDERS, body(number))
    await asyncio.sleep(0.02)
    assert "too slow" in room.dropped
    assert client.subscriber.overflowed


async def test_a_client_that_takes_nothing_is_cut_off_and_may_come_back() -> None:
    room = Room()
    client = room.client(A)
    assert client.attachment is not None
    client.attachment.sending_since = room.clock.monotonic()
    room.clock.advance(19)
    room.hub.expire()
    assert room.dropped == []
    room.clock.advance(1)
    room.hub.expire()
    assert room.dropped == ["too slow"]
    assert not client.closed
    assert room.hub.attached == 0


async def test_coming_back_brings_exactly_what_was_missed() -> None:
    room = Room()
    client = room.client(A, ORDERS)
    for number in range(5):
        room.hub.publish(A, body(number))
        room.received(client)
    room.leave(client)
    for number in range(5, 8):
        room.hub.publish(A, body(number))
    room.hub.publish(ORDERS, '{"id":7}')
    room.hub.publish(B, body(99))
    # The client saw number 3; numbers 4 and 5 were on their way when the connection broke.
    back = room.hub.resume(client.subscriber.session, Holder("key"), 3)
    assert back is not None
    session, lost = back
    assert lost == []
    messages = room.received(session)
    assert numbers(messages) == [3, 4, 5, 6, 7]
    assert sequence(messages) == [4, 5]
    room.hub.attach(session, room.dropped.append)
    room.hub.publish(A, body(8))
    assert numbers(room.received(session)) == [8]


async def test_coming_back_after_a_conflated_message_goes_on_from_there() -> None:
    room = Room()
    client = room.client(A)
    for number in range(CONFLATE_ABOVE + 1):
        room.hub.publish(A, body(number))
    assert room.received(client)[0]["conflated"]
    room.leave(client)
    room.hub.publish(A, body(-1))
    back = room.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    assert numbers(room.received(back[0])) == [-1]


async def test_ticks_never_push_an_order_out_of_memory() -> None:
    room = Room(ring=Ring(quotes=10, others=10))
    client = room.client(A, ORDERS)
    room.hub.publish(A, body(0))
    room.received(client)
    room.leave(client)
    room.hub.publish(ORDERS, '{"id":7}')
    for number in range(50):
        room.hub.publish(A, body(number))
    back = room.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    assert back[1] == ["quotes"]
    assert [m["data"] for m in room.received(back[0]) if m["type"] == "order"] == [{"id": 7}]


async def test_only_the_owner_resumes_and_only_what_was_sent() -> None:
    room = Room()
    client = room.client(A)
    room.hub.publish(A, body(0))
    room.received(client)
    name = client.subscriber.session
    room.leave(client)
    assert room.hub.resume(name, Holder("another key"), 1) is None
    assert room.hub.resume("no such session", Holder("key"), 1) is None
    assert room.hub.resume(name, Holder("key"), 2) is None
    # A number that was never given means that the client is confused: its session is over.
    assert room.hub.resume(name, Holder("key"), 1) is None


async def test_a_message_too_long_ago_cannot_be_resumed() -> None:
    room = Room()
    client = room.client(A)
    for number in range(REMEMBERED_MESSAGES + 10):
        room.hub.publish(A, body(number))
        room.received(client)
    room.leave(client)
    assert room.hub.resume(client.subscriber.session, Holder("key"), 5) is None


async def test_resuming_ends_the_connection_that_was_there_before() -> None:
    room = Room()
    client = room.client(A)
    room.hub.publish(A, body(0))
    room.received(client)
    old = client.attachment
    assert old is not None
    back = room.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    room.hub.attach(back[0], lambda _: None)
    assert room.dropped == ["resumed elsewhere"]
    room.hub.detach(client, old)  # the old handler ends late: it must not detach the new one
    assert room.hub.attached == 1


async def test_a_session_waits_a_minute_and_gives_back_what_it_held() -> None:
    room = Room()
    released: list[str] = []
    room.hub.forgotten = lambda session: released.append(session.subscriber.session)
    client = room.client(A)
    room.leave(client)
    room.clock.advance(SESSION_SECONDS - 1)
    room.hub.expire()
    assert released == []
    assert room.hub.wanted(A)
    room.clock.advance(1)
    room.hub.expire()
    assert released == [client.subscriber.session]
    assert not room.hub.wanted(A)


async def test_more_streams_than_allowed_are_refused_but_the_absent_make_room() -> None:
    room = Room(most_sessions=2)
    first = room.client(A)
    room.client(A)
    with pytest.raises(TooManyStreamsError):
        room.client(A)
    room.leave(first)
    room.client(A)
    assert first.closed
    assert len(room.hub.sessions) == 2


async def test_unsubscribing_stops_the_flow() -> None:
    room = Room()
    client = room.client(A, B)
    assert room.hub.unsubscribe(client, A)
    assert not room.hub.unsubscribe(client, A)
    room.hub.publish(A, body(1))
    room.hub.publish(B, body(2))
    assert numbers(room.received(client)) == [2]
    assert not room.hub.wanted(A)


async def test_messages_are_bounded_in_size() -> None:
    room = Room()
    client = room.client(A)
    for number in range(1000):
        room.hub.publish(A, body(number))
    messages = room.received(client)
    assert max(len(message["quotes"]) for message in messages) <= 400
    assert numbers(messages) == list(range(1000))


def keys_of(hub: Hub) -> list[str]:
    return [session.holder.key for session in hub.sessions.values()]


def most(hub: Hub, holder: Holder) -> int:
    """Opens streams until there are no more; how many that were."""
    for number in range(30):
        try:
            hub.attach(hub.open(holder), lambda _: None)
        except TooManyStreamsError:
            return number
    raise AssertionError("there is no end of streams")


def small_hub() -> Hub:
    return Hub(Room().clock, lambda _: None, most_sessions=10)


async def test_one_key_or_address_or_all_readers_leave_streams_for_others() -> None:
    hub = small_hub()
    assert most(hub, Holder("a", "192.0.2.1")) == 6
    assert most(hub, Holder("b", "192.0.2.2")) == 2
    assert most(hub, Holder("trader", "192.0.2.1", Scope.TRADE)) == 2
    hub = small_hub()
    assert most(hub, Holder("a", "192.0.2.1", Scope.TRADE)) == 6
    assert most(hub, Holder("b", "192.0.2.1", Scope.TRADE)) == 2
    assert most(hub, Holder("owner", "192.0.2.1", Scope.ADMIN)) == 2


async def test_an_awaited_session_of_a_lower_rank_goes_first_and_none_of_a_higher_one() -> None:
    hub = small_hub()
    owner, trader, reader = (
        Holder(name, name, rank)
        for name, rank in (("owner", Scope.ADMIN), ("trader", Scope.TRADE), ("reader", Scope.READ))
    )
    hub.open(trader)  # waits for its client
    assert most(hub, owner) == 10
    assert "trader" not in keys_of(hub)
    hub = small_hub()
    hub.open(owner)
    assert most(hub, reader) == 6
    assert most(hub, Holder("other", "other")) == 2
    assert keys_of(hub).count("owner") == 1


async def test_the_sessions_of_an_ended_key_end_and_are_not_resumed() -> None:
    hub = small_hub()
    dropped: list[str] = []
    gone, kept = Holder("gone"), Holder("kept")
    session = hub.open(gone)
    hub.attach(session, dropped.append)
    awaited, other = hub.open(gone), hub.open(kept)
    hub.end(lambda holder: holder.key == "gone", "over")
    assert dropped == ["over"]
    assert list(hub.sessions.values()) == [other]
    assert hub.resume(awaited.subscriber.session, gone, 0) is None
    assert most(hub, gone) == 6


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_texts_frame_is_what_the_protocol_makes(length: int) -> None:
    text = b"x" * length
    made = Frame(Opcode.TEXT, text).serialize(mask=False)
    assert _head_of(length) + text == made


async def test_a_client_that_takes_it_is_written_to_at_once_a_slow_one_by_its_writer() -> None:
    room = Room()
    written: list[list[str]] = []
    takes = True

    def write() -> bool:
        if takes:
            written.append(session.subscriber.take(room.hub.cursor))
        return takes

    session = room.hub.open(Holder("key", rank=Scope.ADMIN))
    attachment = room.hub.attach(session, lambda _: None, write)
    room.hub.tell(session, "one")
    room.hub._flush_now()
    assert [len(texts) for texts in written] == [1]
    assert not attachment.wake.is_set()
    takes = False
    room.hub.tell(session, "two")
    room.hub._flush_now()
    assert attachment.wake.is_set()
    assert len(session.subscriber.take(room.hub.cursor)) == 1
