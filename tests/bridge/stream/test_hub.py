from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from bridge.api.connections import _head_of
from bridge.callers import Holder, Scope
from bridge.stream.hub import SESSION_SECONDS, Hub, Session, TooManyStreamsError
from bridge.stream.subscriber import (
    CONFLATE_ABOVE,
    CUT_OFF_ABOVE,
    REMEMBERED_ANSWERS,
    REMEMBERED_MESSAGES,
    Event,
    Ring,
    Subscriber,
    Topic,
)
from tests.bridge.market.clock import WoundClock

A, B = Topic("quotes", 1), Topic("quotes", 2)
ORDERS, HEALTH = Topic("orders"), Topic("health")


def body(number: int) -> str:
    return json.dumps({"n": number})


class Rig:
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
    rig = Rig()
    both, one = rig.client(A, B), rig.client(A)
    for number in range(10):
        rig.hub.publish(A if number % 2 else B, body(number))
    assert numbers(rig.received(both)) == list(range(10))
    assert numbers(rig.received(one)) == [1, 3, 5, 7, 9]
    rig.hub.publish(B, body(10))
    rig.hub.publish(A, body(11))
    assert sequence(rig.received(both)) == [2]
    assert sequence(rig.received(one)) == [2]


async def test_different_kinds_keep_their_order_as_messages_of_their_own() -> None:
    rig = Rig()
    client = rig.client(A, ORDERS)
    rig.hub.publish(A, body(1))
    rig.hub.publish(ORDERS, '{"id":7}')
    rig.hub.publish(A, body(2))
    rig.hub.tell(client, "pong", id=None)
    messages = rig.received(client)
    assert [message["type"] for message in messages] == ["quotes", "order", "quotes", "pong"]
    assert sequence(messages) == [1, 2, 3, 4]
    assert messages[1]["data"] == {"id": 7}


async def test_writers_are_woken_together_and_at_once_after_quiet() -> None:
    rig = Rig(flush_seconds=0.01)
    clients = [rig.client(A) for _ in range(3)]
    for client in clients:
        assert client.attachment is not None
        client.attachment.wake.clear()
    for number in range(100):
        rig.hub.publish(A, body(number))
    for client in clients:
        assert client.attachment is not None
        await asyncio.wait_for(client.attachment.wake.wait(), 1)
        assert len(rig.received(client)) == 1


async def test_a_slow_client_is_conflated_and_harms_nobody() -> None:
    rig = Rig()
    slow, quick = rig.client(A, B, ORDERS), rig.client(A, B)
    seen = []
    for number in range(CONFLATE_ABOVE + 500):
        rig.hub.publish(A if number % 2 else B, body(number))
        if number == 100:
            rig.hub.publish(ORDERS, '{"id":7}')
        if number % 100 == 0:
            seen += numbers(rig.received(quick))
    seen += numbers(rig.received(quick))
    assert seen == list(range(CONFLATE_ABOVE + 500))
    messages = rig.received(slow)
    assert [message["type"] for message in messages] == ["order", "quotes"]
    assert messages[1]["conflated"] == CONFLATE_ABOVE + 500
    assert {quote["whole"] for quote in messages[1]["quotes"]} == {1, 2}
    rig.hub.publish(A, body(1))
    assert "conflated" not in rig.received(slow)[0]
    assert rig.dropped == []


async def test_a_client_that_lets_orders_pile_up_is_cut_off() -> None:
    rig = Rig(flush_seconds=0)
    client = rig.client(ORDERS)
    for number in range(CUT_OFF_ABOVE + 1):
        rig.hub.publish(ORDERS, body(number))
    await asyncio.sleep(0.02)
    assert "too slow" in rig.dropped
    assert client.subscriber.overflowed


async def test_who_was_cut_off_may_come_back_for_all_that_is_remembered() -> None:
    rig = Rig()
    client = rig.client(ORDERS)
    rig.hub.publish(ORDERS, body(0))
    rig.received(client)
    for number in range(1, 1101):
        rig.hub.publish(ORDERS, body(number))
    rig.hub._flush_now()
    assert rig.dropped == ["too slow"]
    back = rig.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    assert back[1] == ["orders"], "more than are remembered"
    rig.hub.attach(client, rig.dropped.append)
    rig.hub.publish(ORDERS, body(1101))
    rig.hub._flush_now()
    assert rig.dropped == ["too slow"], "not at once again"
    messages = rig.received(client)
    assert [one["data"]["n"] for one in messages] == list(range(77, 1102))
    for number in range(CUT_OFF_ABOVE + 1):
        rig.hub.publish(ORDERS, body(number))
    rig.hub._flush_now()
    assert rig.dropped == ["too slow", "too slow"]


async def test_a_client_that_takes_nothing_is_cut_off_and_may_come_back() -> None:
    rig = Rig()
    client = rig.client(A)
    assert client.attachment is not None
    client.attachment.sending_since = rig.clock.monotonic()
    rig.clock.advance(19)
    rig.hub.expire()
    assert rig.dropped == []
    rig.clock.advance(1)
    rig.hub.expire()
    assert rig.dropped == ["too slow"]
    assert not client.closed
    assert rig.hub.attached == 0


async def test_coming_back_brings_exactly_what_was_missed() -> None:
    rig = Rig()
    client = rig.client(A, ORDERS)
    for number in range(5):
        rig.hub.publish(A, body(number))
        rig.received(client)
    rig.leave(client)
    for number in range(5, 8):
        rig.hub.publish(A, body(number))
    rig.hub.publish(ORDERS, '{"id":7}')
    rig.hub.publish(B, body(99))
    # The client saw number 3; numbers 4 and 5 were on their way when the connection broke.
    back = rig.hub.resume(client.subscriber.session, Holder("key"), 3)
    assert back is not None
    session, lost = back
    assert lost == []
    messages = rig.received(session)
    assert numbers(messages) == [3, 4, 5, 6, 7]
    assert sequence(messages) == [4, 5]
    rig.hub.attach(session, rig.dropped.append)
    rig.hub.publish(A, body(8))
    assert numbers(rig.received(session)) == [8]


async def test_coming_back_after_a_conflated_message_goes_on_from_there() -> None:
    rig = Rig()
    client = rig.client(A)
    for number in range(CONFLATE_ABOVE + 1):
        rig.hub.publish(A, body(number))
    assert rig.received(client)[0]["conflated"]
    rig.leave(client)
    rig.hub.publish(A, body(-1))
    back = rig.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    assert numbers(rig.received(back[0])) == [-1]


async def test_who_comes_back_gets_nothing_of_before_it_came() -> None:
    rig = Rig(ring=Ring(quotes=3, others=3))
    for number in range(5):
        rig.hub.publish(ORDERS, body(number))
        rig.hub.publish(A, body(number))
    client = rig.client(ORDERS)
    rig.hub.tell(client, "pong")
    rig.received(client)
    rig.hub.publish(A, body(5))
    rig.hub.subscribe(client, A)
    rig.leave(client)
    rig.hub.publish(ORDERS, body(6))
    rig.hub.publish(A, body(7))
    back = rig.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    assert back[1] == [], "what is gone from memory was before it came"
    messages = rig.received(client)
    assert [one["data"]["n"] for one in messages if one["type"] == "order"] == [6]
    assert numbers(messages) == [7]
    for number in range(8, 12):
        rig.hub.publish(A, body(number))
    back = rig.hub.resume(client.subscriber.session, Holder("key"), client.subscriber.sequence)
    assert back is not None
    assert back[1] == ["quotes"]


async def test_ticks_never_push_an_order_out_of_memory() -> None:
    rig = Rig(ring=Ring(quotes=10, others=10))
    client = rig.client(A, ORDERS)
    rig.hub.publish(A, body(0))
    rig.received(client)
    rig.leave(client)
    rig.hub.publish(ORDERS, '{"id":7}')
    for number in range(50):
        rig.hub.publish(A, body(number))
    back = rig.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    assert back[1] == ["quotes"]
    assert [m["data"] for m in rig.received(back[0]) if m["type"] == "order"] == [{"id": 7}]


async def test_only_the_owner_resumes_and_only_what_was_sent() -> None:
    rig = Rig()
    client = rig.client(A)
    rig.hub.publish(A, body(0))
    rig.received(client)
    name = client.subscriber.session
    rig.leave(client)
    assert rig.hub.resume(name, Holder("another key"), 1) is None
    assert rig.hub.resume("no such session", Holder("key"), 1) is None
    assert rig.hub.resume(name, Holder("key"), 2) is None
    # A number that was never given means that the client is confused: its session is over.
    assert rig.hub.resume(name, Holder("key"), 1) is None


async def test_a_message_too_long_ago_cannot_be_resumed() -> None:
    rig = Rig()
    client = rig.client(A)
    for number in range(REMEMBERED_MESSAGES + 10):
        rig.hub.publish(A, body(number))
        rig.received(client)
    rig.leave(client)
    assert rig.hub.resume(client.subscriber.session, Holder("key"), 5) is None


async def test_resuming_ends_the_connection_that_was_there_before() -> None:
    rig = Rig()
    client = rig.client(A)
    rig.hub.publish(A, body(0))
    rig.received(client)
    old = client.attachment
    assert old is not None
    back = rig.hub.resume(client.subscriber.session, Holder("key"), 1)
    assert back is not None
    rig.hub.attach(back[0], lambda _: None)
    assert rig.dropped == ["resumed elsewhere"]
    rig.hub.detach(client, old)  # the old handler ends late: it must not detach the new one
    assert rig.hub.attached == 1


async def test_a_session_waits_a_minute_and_gives_back_what_it_held() -> None:
    rig = Rig()
    released: list[str] = []
    rig.hub.forgotten = lambda session: released.append(session.subscriber.session)
    client = rig.client(A)
    rig.leave(client)
    rig.clock.advance(SESSION_SECONDS - 1)
    rig.hub.expire()
    assert released == []
    assert rig.hub.wanted(A)
    rig.clock.advance(1)
    rig.hub.expire()
    assert released == [client.subscriber.session]
    assert not rig.hub.wanted(A)


async def test_more_streams_than_allowed_are_refused_but_the_absent_make_room() -> None:
    rig = Rig(most_sessions=2)
    first = rig.client(A)
    rig.client(A)
    with pytest.raises(TooManyStreamsError):
        rig.client(A)
    rig.leave(first)
    rig.client(A)
    assert first.closed
    assert len(rig.hub.sessions) == 2


async def test_unsubscribing_stops_the_flow() -> None:
    rig = Rig()
    client = rig.client(A, B)
    assert rig.hub.unsubscribe(client, A)
    assert not rig.hub.unsubscribe(client, A)
    rig.hub.publish(A, body(1))
    rig.hub.publish(B, body(2))
    assert numbers(rig.received(client)) == [2]
    assert not rig.hub.wanted(A)


async def test_messages_are_bounded_in_size() -> None:
    rig = Rig()
    client = rig.client(A)
    for number in range(1000):
        rig.hub.publish(A, body(number))
    messages = rig.received(client)
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
    return Hub(Rig().clock, lambda _: None, most_sessions=10)


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
    rig = Rig()
    written: list[list[str]] = []
    takes = True

    def write() -> bool:
        if takes:
            written.append(session.subscriber.take(rig.hub.cursor))
        return takes

    session = rig.hub.open(Holder("key", rank=Scope.ADMIN))
    attachment = rig.hub.attach(session, lambda _: None, write)
    rig.hub.tell(session, "one")
    rig.hub._flush_now()
    assert [len(texts) for texts in written] == [1]
    assert not attachment.wake.is_set()
    takes = False
    rig.hub.tell(session, "two")
    rig.hub._flush_now()
    assert attachment.wake.is_set()
    assert len(session.subscriber.take(rig.hub.cursor)) == 1


RULES = Topic("rules")


def ring(quotes: int, others: int, *events: tuple[int, Topic]) -> Ring:
    found = Ring(quotes, others)
    for cursor, topic in events:
        found.add(Event(cursor, topic, body(cursor)))
    return found


def test_each_channel_knows_what_of_it_is_gone() -> None:
    every = ["quotes", "orders", "rules", "health"]
    full = ring(2, 2, (1, A), (2, RULES), (3, ORDERS), (4, A))
    assert full.lost(0, every) == []
    full.add(Event(5, HEALTH, "{}"))
    assert full.lost(0, every) == ["rules"], "the oldest of them went for it"
    assert full.lost(1, every) == ["rules"]
    assert full.lost(2, every) == []
    assert full.lost(0, ["health"]) == []
    full.add(Event(6, A, "{}"))
    assert full.lost(0, every) == ["quotes", "rules"]
    assert full.lost(1, every) == ["rules"]
    assert [event.cursor for event in full.since(0, lambda _: True)] == [3, 4, 5, 6]
    assert [event.cursor for event in full.since(4, lambda _: True)] == [5, 6]
    assert [event.cursor for event in full.since(0, lambda topic: topic == A)] == [4, 6]


def test_how_much_is_remembered() -> None:
    events = [(at, A if at % 2 else ORDERS) for at in range(1, 16_500)]
    found = ring(8192, 1024, *events)
    usual = Ring()
    for at, topic in events:
        usual.add(Event(at, topic, ""))
    assert usual.lost(0, ["quotes", "orders"]) == found.lost(0, ["quotes", "orders"])
    assert len(usual.since(0, lambda topic: topic == A)) == 8192
    assert len(usual.since(0, lambda topic: topic == ORDERS)) == 1024


def subscriber() -> Subscriber:
    return Subscriber("s", "key", lambda key: json.dumps({"whole": key}) if key == 1 else None)


def waits(client: Subscriber) -> bool:
    return client.waiting


def overflows(client: Subscriber) -> bool:
    return client.overflowed


def taken(client: Subscriber, cursor: int = 0) -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.take(cursor)]


def test_something_waits_until_it_is_taken() -> None:
    client = subscriber()
    assert not waits(client)
    client.tell("pong", id=1)
    assert waits(client)
    client.greet(session="s")
    assert [(one["seq"], one["type"]) for one in taken(client)] == [(1, "welcome"), (2, "pong")]
    assert not waits(client)
    for at in range(CONFLATE_ABOVE + 1):
        client.offer(Event(at + 1, A if at % 2 else B, body(at)))
    assert waits(client), "conflated quotes wait, too"
    assert client.conflations == 1
    (message,) = taken(client, CONFLATE_ABOVE + 1)
    assert message["conflated"] == CONFLATE_ABOVE + 1
    assert message["quotes"] == [{"whole": 1}], "of a line that is gone nothing is said"
    assert client.rewind(2) == 0
    assert client.sequence == 2


def test_only_more_than_may_wait_are_conflated_and_taken_ones_do_not_count() -> None:
    client = subscriber()
    for _ in range(3):
        for at in range(CONFLATE_ABOVE):
            client.offer(Event(at + 1, A, body(at)))
        assert len(numbers(taken(client))) == CONFLATE_ABOVE
    assert client.conflations == 0
    for at in range(CONFLATE_ABOVE + 1):
        client.offer(Event(at + 1, A, body(at)))
    assert client.conflations == 1
    taken(client)
    for at in range(CONFLATE_ABOVE):
        client.offer(Event(at + 1, A, body(at)))
    assert client.conflations == 1, "it begins to count anew"
    assert len(numbers(taken(client))) == CONFLATE_ABOVE


@pytest.mark.parametrize("kind", ["event", "told", "raw"])
def test_a_thousand_may_pile_up_and_taken_ones_do_not_count(kind: str) -> None:
    client = subscriber()

    def one() -> None:
        if kind == "event":
            client.offer(Event(1, ORDERS, "{}"))
        elif kind == "told":
            client.tell("pong")
        else:
            client.tell_raw('"type":"pong"}')

    for _ in range(2):
        for _ in range(CUT_OFF_ABOVE):
            one()
        assert not overflows(client)
        assert len(client.take(0)) == CUT_OFF_ABOVE
    client.greet()
    for _ in range(CUT_OFF_ABOVE):
        one()
    assert overflows(client), "the welcome is one of them"
    assert (CUT_OFF_ABOVE, CONFLATE_ABOVE) == (1000, 2000)
    one()
    assert overflows(client)
    assert client.rewind(2 * CUT_OFF_ABOVE) is not None
    assert not overflows(client)
    for _ in range(CUT_OFF_ABOVE):
        one()
    assert not overflows(client), "what was dropped by coming back does not count"


def test_answers_that_were_missed_come_again_before_all_else() -> None:
    client = subscriber()
    client.tell("subscribed", id=1)
    client.take(0)
    client.offer(Event(1, A, body(1)))
    client.take(1)
    client.tell("error", id=2)
    client.tell("pong", id=3)
    client.take(1)
    client.tell("unsubscribed", id=4)  # which nobody has sent yet
    for _ in range(2):
        assert client.rewind(2) == 1
        client.offer(Event(2, A, body(2)))
        messages = taken(client, 2)
        assert [one["type"] for one in messages] == ["error", "unsubscribed", "quotes"]
        assert sequence(messages) == [3, 4, 5]
    for _ in range(40):
        client.tell("subscribed")
    client.take(2)
    assert client.rewind(5) == 2
    assert len(client.take(2)) == REMEMBERED_ANSWERS


def test_a_message_holds_four_hundred_quotes() -> None:
    client = subscriber()
    for at in range(801):
        client.offer(Event(at + 1, A, body(at)))
    messages = taken(client)
    assert [len(one["quotes"]) for one in messages] == [400, 400, 1]
    assert [client.rewind(at) for at in (3, 2, 1)] == [801, 800, 400]


def test_how_far_back_a_client_may_come() -> None:
    client = subscriber()
    assert client.rewind(0) is None
    for at in range(1, REMEMBERED_MESSAGES + 11):
        client.offer(Event(at, ORDERS, "{}"))
        client.take(0)
    assert client.rewind(REMEMBERED_MESSAGES + 11) is None
    assert client.rewind(REMEMBERED_MESSAGES + 10) == REMEMBERED_MESSAGES + 10
    assert client.rewind(10) is None
    assert client.rewind(11) == 11
    assert client.sequence == 11
    assert client.rewind(10) is None, "its place was overwritten, however far back it is now"
    assert client.rewind(12) is None, "it is to come again, at another place"


@pytest.mark.parametrize("other", ["a", "z"])
async def test_another_key_resumes_nothing_whichever_it_is(other: str) -> None:
    rig = Rig()
    client = rig.client(A, owner="key")
    rig.hub.publish(A, body(0))
    rig.received(client)
    rig.leave(client)
    assert rig.hub.resume(client.subscriber.session, Holder(other), 1) is None
    assert rig.hub.resume(client.subscriber.session, Holder("key"), 1) is not None


async def test_who_is_on_a_channel() -> None:
    rig = Rig()
    quotes, both, gone = rig.client(A), rig.client(B, ORDERS), rig.client(A, ORDERS)
    rig.leave(gone)
    channel = json.loads('"quotes"')  # as it comes from the wire: another text, the same word
    assert rig.hub.on_channel(channel) == [quotes, both]
    assert rig.hub.on_channel("orders") == [both]
    assert rig.hub.on_channel("rules") == []
    with pytest.raises(ValueError, match="rumours is no channel"):
        rig.hub.on_channel("rumours")
    assert rig.hub.attached == 2


async def test_only_those_who_are_there_are_told() -> None:
    rig = Rig()
    here, gone = rig.client(A), rig.client(A)
    for one in (here, gone):
        rig.received(one)
    rig.leave(gone)
    rig.hub.tell_all("heartbeat")
    rig.hub.tell_all("stale", [gone])
    assert [one["type"] for one in rig.received(here)] == ["heartbeat"]
    assert rig.received(gone) == []


async def test_who_left_before_the_flush_holds_up_nobody_of_it() -> None:
    rig = Rig()
    clients = [rig.client(A) for _ in range(5)]
    rig.hub._flush_now()
    for client in clients:
        assert client.attachment is not None
        client.attachment.wake.clear()
    for gone in clients[:4]:
        gone.attachment = None  # as between its end and `detach`
    for client in clients:
        rig.hub.tell(client, "pong")
    rig.hub._flush_now()
    assert clients[4].attachment is not None
    assert clients[4].attachment.wake.is_set()


async def test_the_first_flush_is_at_once_and_the_next_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(flush_seconds=0.5)
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    monkeypatch.setattr(loop, "call_later", lambda wait, _: waits.append(wait))
    monkeypatch.setattr(loop, "time", lambda: 100.0)
    client = rig.client(A)
    rig.hub._flush_now()
    waits.clear()
    monkeypatch.setattr(loop, "time", lambda: 100.2)
    rig.hub.tell(client, "one")
    assert waits == [pytest.approx(0.3)]
    rig.hub._flush_now()
    monkeypatch.setattr(loop, "time", lambda: 101.0)
    rig.hub.tell(client, "two")
    assert waits[-1] == 0.0


async def test_cutting_off_is_counted_and_the_session_ends_once() -> None:
    rig = Rig()
    ended: list[Session] = []
    rig.hub.forgotten = ended.append
    client = rig.client(ORDERS)
    assert client.attachment is not None
    client.attachment.sending_since = rig.clock.monotonic() - 20
    rig.hub.expire()
    assert rig.hub.cut_off == 1
    rig.hub.forget(client)
    rig.hub.forget(client)
    assert ended == [client]
    assert rig.hub.sessions == {}
    assert rig.hub.subscribe(client, A) is True
    assert rig.hub.subscribe(client, A) is False


async def test_a_topic_is_wanted_as_long_as_one_who_may_come_back_has_it() -> None:
    rig = Rig()
    here, gone = rig.client(A), rig.client(A)
    rig.leave(gone)
    assert rig.hub.unsubscribe(here, A)
    assert rig.hub.wanted(A), "the one who left may come back"
    rig.hub.forget(gone)
    assert not rig.hub.wanted(A)


async def test_of_those_who_wait_the_lowest_and_oldest_makes_room() -> None:
    rig = Rig(most_sessions=3)
    ranks = (Scope.READ, Scope.TRADE, Scope.READ)
    sessions = []
    for at, rank in enumerate(ranks):
        sessions.append(rig.hub.open(Holder(f"key-{at}", f"address-{at}", rank)))
        rig.clock.advance(1)
    rig.hub.open(Holder("owner", "home", Scope.ADMIN))
    assert [one.closed for one in sessions] == [True, False, False]
    rig.hub.open(Holder("owner", "home", Scope.ADMIN))
    assert [one.closed for one in sessions] == [True, False, True]
    with pytest.raises(TooManyStreamsError) as refused:
        rig.hub.open(Holder("reader", "elsewhere", Scope.READ))
    assert refused.value.retry_after == 10.0
