from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct

from bridge.callers import Holder, Scope
from bridge.errors import InvalidRequestError
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.model import PriceTick
from bridge.stream.protocol import Ping, Subscribe, Unsubscribe, decode
from bridge.stream.service import StreamService, TooManyTopicsError
from bridge.tws.connection_state import ConnectionState
from tests.bridge.market.clock import WoundClock
from tests.bridge.market.fake_gateway import FakeGateway, stock

if TYPE_CHECKING:
    from bridge.stream.hub import Session


class Word(Struct):
    state: str


class Room:
    def __init__(self, lines: int = 100) -> None:
        self.gateway = FakeGateway(
            details={name: (stock(name, 1 + index),) for index, name in enumerate(("A", "B", "C"))}
        )
        self.clock = WoundClock()
        contracts = ContractService(self.gateway, self.clock)  # type: ignore[arg-type]
        self.quotes = QuoteService(self.gateway, contracts, self.clock, lines)  # type: ignore[arg-type]
        self.service = StreamService(self.gateway, self.quotes, contracts, self.clock)  # type: ignore[arg-type]
        self.dropped: list[str] = []

    def client(self) -> Session:
        session = self.service.hub.open(Holder("key", rank=Scope.ADMIN))
        self.service.hub.attach(session, self.dropped.append)
        return session

    def received(self, session: Session) -> list[dict[str, Any]]:
        return [json.loads(text) for text in session.subscriber.take(self.service.hub.cursor)]

    async def quoting(self, session: Session, *symbols: str) -> list[dict[str, Any]]:
        await self.service.subscribe(session, Subscribe(channel="quotes", symbols=symbols))
        return self.received(session)


async def gathered() -> None:
    """Longer than the service waits to tell of many lines at once."""
    await asyncio.sleep(0.05)


async def test_ticks_reach_subscribers_with_tag_and_age() -> None:
    room = Room()
    client = room.client()
    (confirmed,) = await room.quoting(client, "a")
    assert confirmed["type"] == "subscribed"
    assert confirmed["instruments"] == [{"conId": 1, "symbol": "A"}]
    room.gateway.lines[0].tick(PriceTick("bid", 10.5, 2))
    (message,) = room.received(client)
    assert message["quotes"] == [
        {
            "symbol": "A",
            "conId": 1,
            "bid": {"value": 10.5, "tag": "live", "age": 0.0},
            "bidSize": {"value": 2.0, "tag": "live", "age": 0.0},
        }
    ]


async def test_a_second_client_shares_the_line_and_sees_what_is_known_at_once() -> None:
    room = Room()
    await room.quoting(room.client(), "A")
    room.gateway.lines[0].tick(PriceTick("bid", 10.5, 2))
    confirmed, snapshot = await room.quoting(room.client(), "A")
    assert confirmed["type"] == "subscribed"
    assert snapshot["snapshot"] is True
    assert snapshot["quotes"][0]["bid"]["value"] == 10.5
    assert len(room.gateway.lines) == 1


async def test_lines_are_given_back_with_the_subscription_or_the_session() -> None:
    room = Room()
    client = room.client()
    await room.quoting(client, "A", "B")
    assert room.quotes.pool.held == 2
    room.service.unsubscribe(client, Unsubscribe(channel="quotes", symbols=("A",)))
    assert room.quotes.pool.held == 1
    room.service.hub.forget(client)
    assert room.quotes.pool.held == 0


async def test_subscribing_twice_holds_once() -> None:
    room = Room()
    client = room.client()
    await room.quoting(client, "A", "A")
    await room.quoting(client, "A")
    assert room.quotes.pool.holders(1) == 1
    room.service.unsubscribe(client, Unsubscribe(channel="quotes"))
    assert room.quotes.pool.held == 0


async def test_what_fails_is_told_and_the_rest_is_done() -> None:
    room = Room(lines=1)
    client = room.client()
    messages = await room.quoting(client, "A", "NOPE", "B")
    assert [(item["type"], item.get("code"), item.get("symbol")) for item in messages] == [
        ("error", "unknown-contract", "NOPE"),
        ("error", "market-data-lines", "B"),
        ("subscribed", None, None),
    ]
    assert messages[1]["retryAfter"] > 0


async def test_an_interruption_is_one_stale_and_one_resumed_message() -> None:
    room = Room()
    client, other = room.client(), room.client()
    await room.quoting(client, "A", "B")
    await room.quoting(other, "C")
    for line in room.gateway.lines:
        line.tick(PriceTick("bid", 10, 1))
    room.received(client)
    room.received(other)
    for line in room.gateway.lines[:2]:
        line.listener.interrupted()
    room.gateway.become(ConnectionState.RECONNECTING)
    await gathered()
    (stale,) = room.received(client)
    assert stale["type"] == "stale"
    assert stale["symbols"] == ["A", "B"]
    assert stale["reason"] == "reconnecting"
    assert room.received(other) == []
    await room.clock.wind(30)
    for line in room.gateway.lines[:2]:
        line.tick(PriceTick("bid", 11, 1))
    await gathered()
    quotes, resumed = room.received(client)
    assert quotes["quotes"][0]["bid"]["tag"] == "live"
    assert resumed["type"] == "resumed"
    assert resumed["symbols"] == ["A", "B"]
    assert resumed["gapSeconds"] == 30.0


async def test_orders_are_stale_until_the_session_is_reconciled() -> None:
    room = Room()
    client = room.client()
    await room.service.subscribe(client, Subscribe(channel="orders"))
    await room.service.subscribe(client, Subscribe(channel="executions"))
    assert [item["type"] for item in room.received(client)] == ["subscribed", "subscribed"]
    room.gateway.become(ConnectionState.RECONNECTING)
    await room.clock.wind(4)
    room.gateway.become(ConnectionState.CONNECTING)
    room.gateway.become(ConnectionState.READY)
    stale, resumed = room.received(client)
    assert (stale["type"], stale["reason"]) == ("stale", "reconnecting")
    assert stale["channels"] == ["orders", "executions"]
    assert (resumed["type"], resumed["gapSeconds"]) == ("resumed", 4.0)


async def test_a_competing_session_takes_quotes_alone() -> None:
    room = Room()
    client = room.client()
    await room.service.subscribe(client, Subscribe(channel="orders"))
    room.received(client)
    room.gateway.become(ConnectionState.SESSION_CONFLICT)
    room.gateway.become(ConnectionState.READY)
    assert room.received(client) == []


async def test_subscribing_while_disconnected_says_so_at_once() -> None:
    room = Room()
    room.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = room.client()
    await room.service.subscribe(client, Subscribe(channel="orders"))
    assert [item["type"] for item in room.received(client)] == ["subscribed", "stale"]


async def test_quotes_asked_for_without_a_session_come_with_the_session() -> None:
    room = Room()
    room.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = room.client()
    messages = await room.quoting(client, "A", "B", "NOPE")
    assert {(item["code"], item["waiting"]) for item in messages} == {("not-connected", True)}
    room.service.unsubscribe(client, Unsubscribe(channel="quotes", symbols=("B",)))
    room.received(client)
    room.gateway.become(ConnectionState.READY)
    await gathered()
    assert [item["type"] for item in room.received(client)] == ["error", "subscribed"]
    assert [line.contract.symbol for line in room.gateway.lines] == ["A"]
    room.gateway.become(ConnectionState.RECONNECTING)
    room.gateway.become(ConnectionState.READY)
    await gathered()
    assert room.received(client) == []


async def test_health_comes_with_the_subscription_and_with_each_change() -> None:
    room = Room()
    client = room.client()
    await room.service.subscribe(client, Subscribe(channel="health", id="h"))
    confirmed, health = room.received(client)
    assert confirmed["id"] == "h"
    assert health["data"] == {"state": "ready"}
    room.gateway.become(ConnectionState.STALLED)
    assert room.received(client)[0]["data"] == {"state": "stalled"}


async def test_what_a_person_would_act_on_is_told_without_a_change_of_state() -> None:
    room = Room()
    halted = False
    room.service.health = lambda: Word(state="halted" if halted else "ready")
    client = room.client()
    await room.service.subscribe(client, Subscribe(channel="health"))
    room.service.publish_health()
    room.received(client)
    room.service.publish_health()
    assert room.received(client) == []
    halted = True
    room.service.publish_health()
    assert room.received(client)[0]["data"] == {"state": "halted"}


async def test_a_refused_line_is_told_to_whoever_has_it() -> None:
    room = Room()
    client = room.client()
    await room.quoting(client, "A")
    room.gateway.lines[0].fail(354)
    room.gateway.lines[1].fail(354)
    (error,) = room.received(client)
    assert (error["type"], error["code"], error["symbol"]) == ("error", "no-market-data", "A")
    assert error["brokerCode"] == 354


async def test_heartbeats_and_the_end() -> None:
    room = Room()
    client = room.client()
    await room.service.start()
    await asyncio.sleep(0)
    for _ in range(10):
        assert room.received(client) == []
        await room.clock.wind(1)
    (beat,) = room.received(client)
    assert (beat["type"], beat["state"]) == ("heartbeat", "ready")
    await room.service.stop()
    assert room.dropped == ["shutting down"]
    assert room.service.hub.sessions == {}


async def test_a_stream_may_have_so_many_subscriptions_and_no_more() -> None:
    room = Room()
    client = room.client()
    for _ in range(2):
        await room.quoting(client, "A", "B", "C")
    many = tuple(f"S{number}" for number in range(198))
    with pytest.raises(TooManyTopicsError):
        await room.service.subscribe(client, Subscribe(channel="quotes", symbols=many))


async def test_a_wish_that_makes_no_sense_is_refused() -> None:
    room = Room()
    client = room.client()
    with pytest.raises(InvalidRequestError):
        await room.service.subscribe(client, Subscribe(channel="quotes"))
    with pytest.raises(InvalidRequestError):
        await room.service.subscribe(client, Subscribe(channel="orders", symbols=("A",)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"op":"dance"}',
        '{"op":"subscribe"}',
        '{"op":"subscribe","channel":"rumours"}',
        '{"op":"subscribe","channel":"quotes","symbol":"A"}',
        '{"op":"subscribe","channel":"quotes","symbols":[""]}',
        b"\xff",
    ],
)
def test_messages_that_are_none(text: str | bytes) -> None:
    with pytest.raises(InvalidRequestError):
        decode(text)


def test_messages_that_are() -> None:
    assert decode('{"op":"ping","id":3}') == Ping(id=3)
    wish = decode(
        '{"op":"subscribe","channel":"quotes","contracts":[{"symbol":"a","secType":"OPT",'
        '"strike":10,"right":"C","expiration":"20260320"}]}'
    )
    assert isinstance(wish, Subscribe)
    assert wish.contracts[0].contract().symbol == "A"


async def test_positions_are_shown_whole_at_first_and_whenever_they_have_changed() -> None:
    room = Room()
    client, other = room.client(), room.client()
    version, shown = 1, Word(state="first")
    room.service.states = {"positions": lambda: (version, shown), "account": lambda: (1, None)}
    await room.service.subscribe(client, Subscribe(channel="positions"))
    await room.service.subscribe(other, Subscribe(channel="account"))
    confirmed, first = room.received(client)
    assert (confirmed["type"], confirmed["channel"]) == ("subscribed", "positions")
    assert (first["type"], first["data"]) == ("positions", {"state": "first"})
    assert [message["type"] for message in room.received(other)] == ["subscribed"], "not known yet"
    room.service.publish_states()
    room.received(client)
    version, shown = 2, Word(state="second")
    room.service.publish_states()
    room.service.publish_states()
    assert [message["data"] for message in room.received(client)] == [{"state": "second"}]
    room.service.tell_states(client)
    assert [message["data"] for message in room.received(client)] == [{"state": "second"}]
    room.service.unsubscribe(client, Unsubscribe(channel="positions"))
    room.received(client)
    version = 3
    room.service.publish_states()
    assert room.received(client) == []
