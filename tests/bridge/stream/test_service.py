from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import Struct

from bridge.callers import Holder, Scope
from bridge.errors import InvalidRequestError
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.model import Contract, ContractDetails, PriceTick
from bridge.stream.hub import SESSION_SECONDS
from bridge.stream.protocol import Instrument, Ping, Subscribe, Unsubscribe, decode
from bridge.stream.service import ASKED_AT_ONCE, StreamService, TooManyTopicsError, _prefix
from bridge.tws.connection_state import ConnectionState
from tests.bridge.market.clock import WoundClock
from tests.bridge.market.fake_gateway import FakeGateway, stock

if TYPE_CHECKING:
    from bridge.stream.hub import Session


class Word(Struct):
    state: str


class Rig:
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

    def leave(self, session: Session) -> None:
        assert session.attachment is not None
        self.service.hub.detach(session, session.attachment)

    def back(self, session: Session) -> list[dict[str, Any]]:
        """What a client gets that comes back and has seen all that was sent to it."""
        hub, subscriber = self.service.hub, session.subscriber
        assert hub.resume(subscriber.session, session.holder, subscriber.sequence) is not None
        self.service.tell_now(session)
        hub.attach(session, self.dropped.append)
        return self.received(session)

    async def quoting(self, session: Session, *symbols: str) -> list[dict[str, Any]]:
        await self.service.subscribe(session, Subscribe(channel="quotes", symbols=symbols))
        return self.received(session)


async def gathered() -> None:
    """Longer than the service waits to tell of many lines at once."""
    await asyncio.sleep(0.05)


async def test_ticks_reach_subscribers_with_tag_and_age() -> None:
    rig = Rig()
    client = rig.client()
    (confirmed,) = await rig.quoting(client, "a")
    assert confirmed["type"] == "subscribed"
    assert confirmed["instruments"] == [{"conId": 1, "symbol": "A"}]
    rig.gateway.lines[0].tick(PriceTick("bid", 10.5, 2))
    (message,) = rig.received(client)
    assert message["quotes"] == [
        {
            "symbol": "A",
            "conId": 1,
            "bid": {"value": 10.5, "tag": "live", "age": 0.0},
            "bidSize": {"value": 2.0, "tag": "live", "age": 0.0},
        }
    ]


async def test_whose_prices_are_in_a_fraction_of_the_currency_says_so() -> None:
    rig = Rig()
    client = rig.client()
    (details,) = rig.gateway.details["A"]
    rig.gateway.details["A"] = (msgspec.structs.replace(details, price_magnifier=100),)
    (confirmed,) = await rig.quoting(client, "A", "B")
    assert [item.get("priceMagnifier") for item in confirmed["instruments"]] == [100, None]


async def test_a_second_client_shares_the_line_and_sees_what_is_known_at_once() -> None:
    rig = Rig()
    await rig.quoting(rig.client(), "A")
    rig.gateway.lines[0].tick(PriceTick("bid", 10.5, 2))
    confirmed, snapshot = await rig.quoting(rig.client(), "A")
    assert confirmed["type"] == "subscribed"
    assert snapshot["snapshot"] is True
    assert snapshot["quotes"][0]["bid"]["value"] == 10.5
    assert len(rig.gateway.lines) == 1


async def test_lines_are_given_back_with_the_subscription_or_the_session() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A", "B")
    assert rig.quotes.pool.held == 2
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes", symbols=("A",)))
    assert rig.quotes.pool.held == 1
    rig.service.hub.forget(client)
    assert rig.quotes.pool.held == 0


async def test_subscribing_twice_holds_once() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A", "A")
    await rig.quoting(client, "A")
    assert rig.quotes.pool.holders((1, "SMART")) == 1
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes"))
    assert rig.quotes.pool.held == 0


async def test_what_fails_is_told_and_the_rest_is_done() -> None:
    rig = Rig(lines=1)
    client = rig.client()
    messages = await rig.quoting(client, "A", "NOPE", "B")
    assert [(item["type"], item.get("code"), item.get("symbol")) for item in messages] == [
        ("error", "unknown-contract", "NOPE"),
        ("error", "market-data-lines", "B"),
        ("subscribed", None, None),
    ]
    assert messages[1]["retryAfter"] > 0


async def test_an_interruption_is_one_stale_and_one_resumed_message() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    await rig.quoting(client, "A", "B")
    await rig.quoting(other, "C")
    for line in rig.gateway.lines:
        line.tick(PriceTick("bid", 10, 1))
    rig.received(client)
    rig.received(other)
    for line in rig.gateway.lines[:2]:
        line.listener.interrupted()
    rig.gateway.become(ConnectionState.RECONNECTING)
    await gathered()
    (stale,) = rig.received(client)
    assert stale["type"] == "stale"
    assert stale["symbols"] == ["A", "B"]
    assert stale["reason"] == "reconnecting"
    assert rig.received(other) == []
    await rig.clock.wind(30)
    for line in rig.gateway.lines[:2]:
        line.tick(PriceTick("bid", 11, 1))
    await gathered()
    quotes, resumed = rig.received(client)
    assert quotes["quotes"][0]["bid"]["tag"] == "live"
    assert resumed["type"] == "resumed"
    assert resumed["symbols"] == ["A", "B"]
    assert resumed["gapSeconds"] == 30.0


async def test_orders_are_stale_until_the_session_is_reconciled() -> None:
    rig = Rig()
    client = rig.client()
    await rig.service.subscribe(client, Subscribe(channel="orders"))
    await rig.service.subscribe(client, Subscribe(channel="executions"))
    assert [item["type"] for item in rig.received(client)] == ["subscribed", "subscribed"]
    rig.gateway.become(ConnectionState.RECONNECTING)
    await rig.clock.wind(4)
    rig.gateway.become(ConnectionState.CONNECTING)
    rig.gateway.become(ConnectionState.READY)
    stale, resumed = rig.received(client)
    assert (stale["type"], stale["reason"]) == ("stale", "reconnecting")
    assert stale["channels"] == ["orders", "executions"]
    assert (resumed["type"], resumed["gapSeconds"]) == ("resumed", 4.0)


async def test_a_competing_session_takes_quotes_alone() -> None:
    rig = Rig()
    client = rig.client()
    await rig.service.subscribe(client, Subscribe(channel="orders"))
    rig.received(client)
    rig.gateway.become(ConnectionState.SESSION_CONFLICT)
    rig.gateway.become(ConnectionState.READY)
    assert rig.received(client) == []


async def test_subscribing_while_disconnected_says_so_at_once() -> None:
    rig = Rig()
    rig.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = rig.client()
    await rig.service.subscribe(client, Subscribe(channel="orders"))
    assert [item["type"] for item in rig.received(client)] == ["subscribed", "stale"]


async def test_quotes_asked_for_without_a_session_come_with_the_session() -> None:
    rig = Rig()
    rig.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = rig.client()
    messages = await rig.quoting(client, "A", "B", "NOPE")
    assert {(item["code"], item["waiting"]) for item in messages} == {("not-connected", True)}
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes", symbols=("B",)))
    rig.received(client)
    rig.gateway.become(ConnectionState.READY)
    await gathered()
    assert [item["type"] for item in rig.received(client)] == ["error", "subscribed"]
    assert [line.contract.symbol for line in rig.gateway.lines] == ["A"]
    rig.gateway.become(ConnectionState.RECONNECTING)
    rig.gateway.become(ConnectionState.READY)
    await gathered()
    assert rig.received(client) == []


async def test_health_comes_with_the_subscription_and_with_each_change() -> None:
    rig = Rig()
    client = rig.client()
    await rig.service.subscribe(client, Subscribe(channel="health", id="h"))
    confirmed, health = rig.received(client)
    assert confirmed["id"] == "h"
    assert health["data"] == {"state": "ready"}
    rig.gateway.become(ConnectionState.STALLED)
    assert rig.received(client)[0]["data"] == {"state": "stalled"}


async def test_what_a_person_would_act_on_is_told_without_a_change_of_state() -> None:
    rig = Rig()
    halted = False
    rig.service.health = lambda: Word(state="halted" if halted else "ready")
    client = rig.client()
    await rig.service.subscribe(client, Subscribe(channel="health"))
    rig.service.publish_health()
    rig.received(client)
    rig.service.publish_health()
    assert rig.received(client) == []
    halted = True
    rig.service.publish_health()
    assert rig.received(client)[0]["data"] == {"state": "halted"}


async def test_a_refused_line_is_told_to_whoever_has_it() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A")
    rig.gateway.lines[0].fail(354)
    rig.gateway.lines[1].fail(354)
    (error,) = rig.received(client)
    assert (error["type"], error["code"], error["symbol"]) == ("error", "no-market-data", "A")
    assert error["brokerCode"] == 354


async def test_who_subscribes_again_to_what_was_refused_asks_again() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A")
    rig.gateway.lines[0].fail(354)
    rig.gateway.lines[1].fail(354)
    rig.received(client)
    (error,) = await rig.quoting(client, "A")
    assert (error["code"], error["brokerCode"]) == ("no-market-data", 354)
    assert len(rig.gateway.lines) == 2, "a moment ago: it is not asked again"
    rig.clock.advance(11)
    assert [one["type"] for one in await rig.quoting(client, "A")] == ["subscribed"]
    assert len(rig.gateway.lines) == 3
    assert rig.quotes.pool.holders((1, "SMART")) == 1
    rig.gateway.lines[2].tick(PriceTick("bid", 10, 1))
    assert rig.received(client)[0]["quotes"][0]["bid"]["value"] == 10


async def test_heartbeats_and_the_end() -> None:
    rig = Rig()
    client = rig.client()
    await rig.service.start()
    await asyncio.sleep(0)
    for _ in range(10):
        assert rig.received(client) == []
        await rig.clock.wind(1)
    (beat,) = rig.received(client)
    assert (beat["type"], beat["state"]) == ("heartbeat", "ready")
    await rig.service.stop()
    assert rig.dropped == ["shutting down"]
    assert rig.service.hub.sessions == {}


async def test_a_stream_may_have_so_many_subscriptions_and_no_more() -> None:
    rig = Rig()
    client = rig.client()
    for _ in range(2):
        await rig.quoting(client, "A", "B", "C")
    many = tuple(f"S{number}" for number in range(198))
    with pytest.raises(TooManyTopicsError):
        await rig.service.subscribe(client, Subscribe(channel="quotes", symbols=many))


async def test_a_subscription_that_makes_no_sense_is_refused() -> None:
    rig = Rig()
    client = rig.client()
    with pytest.raises(InvalidRequestError):
        await rig.service.subscribe(client, Subscribe(channel="quotes"))
    with pytest.raises(InvalidRequestError):
        await rig.service.subscribe(client, Subscribe(channel="orders", symbols=("A",)))


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
    asked = decode(
        '{"op":"subscribe","channel":"quotes","contracts":[{"symbol":"a","secType":"OPT",'
        '"strike":10,"right":"C","expiration":"20260320"}]}'
    )
    assert isinstance(asked, Subscribe)
    assert asked.contracts[0].contract().symbol == "A"
    asked = decode(
        '{"op":"subscribe","channel":"quotes","contracts":[{"symbol":"a","primaryExchange":"nyse"}]}'
    )
    assert isinstance(asked, Subscribe)
    assert asked.contracts[0].contract().primary_exchange == "NYSE"


async def test_positions_are_shown_whole_at_first_and_whenever_they_have_changed() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    version, shown = 1, Word(state="first")
    rig.service.states = {"positions": lambda: (version, shown), "account": lambda: (1, None)}
    await rig.service.subscribe(client, Subscribe(channel="positions"))
    await rig.service.subscribe(other, Subscribe(channel="account"))
    confirmed, first = rig.received(client)
    assert (confirmed["type"], confirmed["channel"]) == ("subscribed", "positions")
    assert (first["type"], first["data"]) == ("positions", {"state": "first"})
    assert [message["type"] for message in rig.received(other)] == ["subscribed"], "not known yet"
    rig.service.publish_states()
    rig.received(client)
    version, shown = 2, Word(state="second")
    rig.service.publish_states()
    rig.service.publish_states()
    assert [message["data"] for message in rig.received(client)] == [{"state": "second"}]
    rig.service.tell_now(client)
    assert [message["data"] for message in rig.received(client)] == [{"state": "second"}]
    rig.service.unsubscribe(client, Unsubscribe(channel="positions"))
    rig.received(client)
    version = 3
    rig.service.publish_states()
    assert rig.received(client) == []


@pytest.mark.parametrize(
    ("symbol", "taken"), [("A" * 32, True), ("A" * 33, False), ("A", True), ("", False)]
)
def test_a_symbol_has_a_length(symbol: str, taken: bool) -> None:
    text = json.dumps({"op": "subscribe", "channel": "quotes", "symbols": [symbol]})
    if taken:
        assert decode(text) == Subscribe(channel="quotes", symbols=(symbol,))
        return
    with pytest.raises(InvalidRequestError):
        decode(text)


def test_a_misspelt_word_of_an_instrument_is_refused() -> None:
    for member in ("secType", "sectype"):
        text = json.dumps(
            {"op": "subscribe", "channel": "quotes", "contracts": [{"symbol": "A", member: "STK"}]}
        )
        if member == "secType":
            decode(text)
            continue
        with pytest.raises(InvalidRequestError) as refused:
            decode(text)
        assert refused.value.next_step == "docs/api.md lists the messages"


@pytest.mark.parametrize(("length", "taken"), [(64, True), (65, False)])
def test_an_id_has_a_length(length: int, taken: bool) -> None:
    text = json.dumps({"op": "ping", "id": "x" * length})
    if taken:
        assert decode(text) == Ping(id="x" * length)
        return
    with pytest.raises(InvalidRequestError):
        decode(text)


@pytest.mark.parametrize("count", [200, 201])
def test_a_message_names_so_many_instruments(count: int) -> None:
    for channel, name, one in (
        ("subscribe", "symbols", "A"),
        ("subscribe", "contracts", {"conId": 1}),
        ("unsubscribe", "symbols", "A"),
        ("unsubscribe", "conIds", 7),
    ):
        text = json.dumps({"op": channel, "channel": "quotes", name: [one] * count})
        if count == 200:
            decode(text)
            continue
        with pytest.raises(InvalidRequestError):
            decode(text)


async def test_a_stream_may_have_exactly_so_many() -> None:
    rig = Rig()
    client = rig.client()
    many = tuple(f"S{number}" for number in range(200))
    await rig.service.subscribe(client, Subscribe(channel="quotes", symbols=many))
    with pytest.raises(TooManyTopicsError, match="200 subscriptions"):
        await rig.service.subscribe(client, Subscribe(channel="quotes", symbols=(*many, "X")))


async def test_what_waits_for_the_session_counts_as_well() -> None:
    rig = Rig()
    rig.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = rig.client()
    many = tuple(f"S{number}" for number in range(199))
    await rig.service.subscribe(client, Subscribe(channel="quotes", symbols=many))
    await rig.service.subscribe(client, Subscribe(channel="orders"))
    with pytest.raises(TooManyTopicsError):
        await rig.service.subscribe(client, Subscribe(channel="quotes", symbols=("X",)))


async def test_a_stocks_symbol_gives_back_the_stock_alone() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A", "B")
    (line,) = (line for line in rig.service._held[client.subscriber.session].values()
               if line.contract.symbol == "A")  # fmt: skip
    for other in ("OPT", "WAR"):  # of the same symbol
        line.contract = msgspec.structs.replace(line.contract, sec_type=other)
        rig.service.unsubscribe(client, Unsubscribe(channel="quotes", symbols=("a",)))
        assert rig.quotes.pool.held == 2
        assert rig.received(client)[0]["instruments"] == []
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes", con_ids=(1,)))
    assert rig.received(client)[0]["instruments"] == [{"conId": 1, "symbol": "A"}]
    assert rig.quotes.pool.held == 1


async def test_one_contract_at_two_exchanges_is_two_instruments() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    routed = rig.gateway.details["A"]
    at_iex = msgspec.structs.replace(routed[0].contract, exchange="IEX")
    rig.gateway.details["A"] = (ContractDetails(contract=at_iex),)
    asked = (Instrument(symbol="A", exchange="IEX"),)
    await rig.service.subscribe(client, Subscribe(channel="quotes", contracts=asked))
    (confirmed,) = rig.received(client)
    assert confirmed["instruments"] == [{"conId": 1, "symbol": "A", "exchange": "IEX"}]
    rig.gateway.details["A"] = routed
    for one in (client, other):
        await rig.quoting(one, "A")
    there, here = rig.gateway.lines
    there.tick(PriceTick("bid", 3, 1))
    here.tick(PriceTick("bid", 10, 1))
    (message,) = rig.received(client)
    assert [(one.get("exchange"), one["bid"]["value"]) for one in message["quotes"]] == [
        ("IEX", 3),
        (None, 10),
    ]
    (message,) = rig.received(other)
    assert [one["bid"]["value"] for one in message["quotes"]] == [10]
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes", con_ids=(1,)))
    assert len(rig.received(client)[0]["instruments"]) == 2
    assert rig.quotes.pool.held == 1, "the other client has it"


async def test_a_gap_is_told_and_then_what_is_now() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A")
    rig.gateway.lines[0].tick(PriceTick("bid", 10.5, 2))
    rig.received(client)
    rig.service.tell_gap(client, ["quotes", "orders"])
    stale, quotes, resumed = rig.received(client)
    assert (stale["type"], stale["channels"]) == ("stale", ["quotes", "orders"])
    assert stale["reason"] == "gap-too-long"
    assert (quotes["type"], quotes["snapshot"]) == ("quotes", True)
    assert (resumed["type"], resumed["complete"]) == ("resumed", False)
    assert resumed["channels"] == ["quotes", "orders"]
    rig.service.tell_gap(client, ["orders"])
    assert [one["type"] for one in rig.received(client)] == ["stale", "resumed"]


async def test_who_comes_back_is_told_what_is_stale_now_and_shown_all_quotes() -> None:
    rig = Rig()
    client = rig.client()
    await rig.service.subscribe(client, Subscribe(channel="orders"))
    await rig.quoting(client, "A")
    rig.gateway.lines[0].tick(PriceTick("bid", 10, 1))
    rig.received(client)
    rig.leave(client)
    rig.gateway.lines[0].listener.interrupted()
    rig.gateway.become(ConnectionState.RECONNECTING)
    rig.service._tell_gathered()
    orders, quotes, shown = rig.back(client)
    assert (orders["type"], orders["channels"]) == ("stale", ["orders", "executions"])
    assert (quotes["type"], quotes["symbols"]) == ("stale", ["A"])
    assert (orders["reason"], quotes["reason"]) == ("reconnecting", "reconnecting")
    assert shown["snapshot"] is True
    assert shown["quotes"][0]["bid"]["tag"] == "stale"


async def test_who_comes_back_is_told_what_was_resumed_lately() -> None:
    rig = Rig()
    client = rig.client()
    await rig.service.subscribe(client, Subscribe(channel="orders"))
    await rig.quoting(client, "A")
    rig.gateway.lines[0].tick(PriceTick("bid", 10, 1))
    rig.received(client)
    rig.gateway.lines[0].listener.interrupted()
    rig.gateway.become(ConnectionState.RECONNECTING)
    rig.service._tell_gathered()
    assert [one["type"] for one in rig.received(client)] == ["stale", "stale"]
    rig.leave(client)
    rig.clock.advance(4)
    rig.gateway.become(ConnectionState.READY)
    rig.gateway.lines[0].tick(PriceTick("bid", 11, 1))
    rig.service._tell_gathered()
    ticked, orders, quotes, shown = rig.back(client)
    assert ticked["quotes"][0]["bid"] == {"value": 11.0, "tag": "live", "age": 0.0}
    assert (orders["type"], orders["channels"]) == ("resumed", ["orders", "executions"])
    assert (orders["gapSeconds"], orders["complete"]) == (4.0, True)
    assert (quotes["type"], quotes["symbols"], quotes["gapSeconds"]) == ("resumed", ["A"], 4.0)
    assert shown["quotes"][0]["bid"]["tag"] == "live"
    rig.leave(client)
    rig.clock.advance(2 * SESSION_SECONDS)
    rig.service._forget_lines()
    assert [one["type"] for one in rig.back(client)] == ["quotes"]


async def test_what_is_waited_for_is_given_back_by_its_number_and_not_by_anothers_name() -> None:
    rig = Rig()
    rig.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = rig.client()
    option = Instrument(symbol="A", sec_type="OPT", expiration="20260320", strike=10, right="C")
    asked = (Instrument(con_id=1), Instrument(symbol="A"), option)
    await rig.service.subscribe(client, Subscribe(channel="quotes", contracts=asked))
    waiting = rig.service._waiting
    assert waiting.count(client) == 3
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes", con_ids=(1,)))
    assert waiting.count(client) == 2
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes", symbols=("A",)))
    assert waiting.count(client) == 1, "the option"


async def test_who_is_away_gets_what_it_waits_for_when_it_is_back() -> None:
    rig = Rig()
    rig.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = rig.client()
    await rig.quoting(client, "A")
    rig.leave(client)
    rig.gateway.become(ConnectionState.READY)
    await gathered()
    assert rig.gateway.lines == []
    rig.back(client)
    await gathered()
    assert [item["type"] for item in rig.received(client)] == ["subscribed"]
    assert rig.quotes.pool.held == 1


async def test_what_is_given_back_while_it_is_looked_up_is_not_subscribed() -> None:
    rig = Rig()
    rig.gateway.become(ConnectionState.WAITING_FOR_GATEWAY)
    client = rig.client()
    await rig.quoting(client, "A", "B")
    rig.gateway.become(ConnectionState.READY)
    assert rig.service._waiting.count(client) == 2
    rig.service.unsubscribe(client, Unsubscribe(channel="quotes", symbols=("A",)))
    rig.received(client)
    await gathered()
    (confirmed,) = rig.received(client)
    assert [item["symbol"] for item in confirmed["instruments"]] == ["B"]
    assert rig.quotes.pool.held == 1
    assert rig.service._waiting.count(client) == 0


async def test_one_stream_does_not_ask_for_all_its_contracts_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    client = rig.client()
    asking = most = 0

    async def named(contract: Contract) -> ContractDetails:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0)
        asking -= 1
        return stock(contract.symbol, int(contract.symbol[1:]))

    monkeypatch.setattr(rig.service._contracts, "named", named)
    messages = await rig.quoting(client, *(f"S{number}" for number in range(1, 81)))
    assert most == ASKED_AT_ONCE
    assert [item["conId"] for item in messages[0]["instruments"]] == list(range(1, 81))


async def test_what_was_interrupted_is_resumed_whole() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    await rig.service.subscribe(client, Subscribe(channel="orders"))
    await rig.service.subscribe(other, Subscribe(channel="positions"))
    for one in (client, other):
        rig.received(one)
    rig.gateway.become(ConnectionState.RECONNECTING)
    await rig.clock.wind(1.23456)
    rig.gateway.become(ConnectionState.READY)
    for one, channels in ((client, ["orders", "executions"]), (other, ["positions", "account"])):
        stale, resumed = rig.received(one)
        assert (stale["channels"], resumed["channels"]) == (channels, channels)
        assert resumed["complete"] is True
        assert resumed["gapSeconds"] == 1.235
        assert stale["at"] < resumed["at"]


async def test_that_not_all_comes_back_is_not_taken_back() -> None:
    """The session was resumed lately, and of the orders something is gone for good."""
    rig = Rig()
    client = rig.client()
    for channel in ("orders", "executions"):
        await rig.service.subscribe(client, Subscribe(channel=channel))
    rig.gateway.become(ConnectionState.RECONNECTING)
    rig.gateway.become(ConnectionState.READY)
    rig.received(client)
    rig.service.tell_gap(client, ["orders"])
    rig.service.tell_now(client, ["orders"])
    resumed = [one for one in rig.received(client) if one["type"] == "resumed"]
    told = [(one["channels"], one["complete"]) for one in resumed]
    assert told == [(["orders"], False), (["executions"], True)]
    rig.service.tell_gap(client, ["executions", "orders"])
    rig.service.tell_now(client, ["executions", "orders"])
    assert [one["type"] for one in rig.received(client)] == ["stale", "resumed"]
    rig.gateway.become(ConnectionState.RECONNECTING)
    rig.received(client)
    rig.service.tell_gap(client, ["orders"])
    rig.service.tell_now(client, ["orders"])
    assert [one["type"] for one in rig.received(client)] == ["stale", "resumed", "stale"]


async def test_a_line_that_stops_while_the_session_goes_on_says_so() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A")
    rig.gateway.lines[0].tick(PriceTick("bid", 10, 1))
    rig.received(client)
    rig.gateway.lines[0].listener.interrupted()
    rig.service._tell_gathered()
    (stale,) = rig.received(client)
    assert (stale["reason"], stale["symbols"], stale["channels"]) == (
        *("data-interrupted", ["A"]),
        ["quotes"],
    )
    await rig.clock.wind(2.00049)
    rig.gateway.lines[0].tick(PriceTick("bid", 11, 1))
    rig.gateway.lines[0].listener.interrupted()  # and again, before the return was told
    rig.service._tell_gathered()
    assert [one["type"] for one in rig.received(client)] == ["quotes", "stale"]
    rig.gateway.lines[0].tick(PriceTick("bid", 12, 1))
    rig.service._tell_gathered()
    _, resumed = rig.received(client)
    assert resumed["gapSeconds"] == 2.0, "since it fell at first"
    rig.gateway.lines[0].tick(PriceTick("bid", 13, 1))
    rig.service._tell_gathered()
    assert [one["type"] for one in rig.received(client)] == ["quotes"]


async def test_the_welcome_says_where_things_stand() -> None:
    rig = Rig()
    client = rig.client()
    rig.service.greet(client, resumed=True)
    (welcome,) = rig.received(client)
    assert (welcome["type"], welcome["resumed"]) == ("welcome", True)
    assert (welcome["state"], welcome["heartbeatSeconds"]) == ("ready", 10)
    assert welcome["session"] == client.subscriber.session


async def test_a_heart_beats_every_ten_seconds_and_forgets_lines_that_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A")
    rig.gateway.lines[0].tick(PriceTick("bid", 10, 1))
    rig.gateway.lines[0].listener.interrupted()
    rig.service._tell_gathered()
    assert list(rig.service._stale) == [1]
    rig.received(client)
    monkeypatch.setattr(rig.quotes, "line", lambda _: None)
    await rig.service.start()
    await asyncio.sleep(0)
    for _ in range(20):
        await rig.clock.wind(1)
    assert [one["type"] for one in rig.received(client)] == ["heartbeat", "heartbeat"]
    assert rig.service._stale == {}
    await rig.service.stop()


async def test_a_health_that_cannot_be_told_ends_no_heartbeat() -> None:
    rig = Rig()
    client = rig.client()

    def health() -> object:
        raise RuntimeError("not now")

    rig.service.health = health
    await rig.service.start()
    await asyncio.sleep(0)
    for _ in range(20):
        await rig.clock.wind(1)
    assert [one["type"] for one in rig.received(client)] == ["heartbeat", "heartbeat"]
    await rig.service.stop()


def test_a_quote_says_of_which_instrument() -> None:
    def said(**more: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(_prefix(Contract(symbol="A", con_id=7, **more)) + "}")
        return found

    plain = {"symbol": "A", "conId": 7}
    assert said() == plain
    assert said(sec_type="CASH") == {**plain, "secType": "CASH"}
    future = {**plain, "secType": "FUT", "expiration": "20260320"}
    assert said(sec_type="FUT", expiration="20260320") == future
    for kind in ("OPT", "FOP"):
        option = {**future, "secType": kind, "strike": 10.0, "right": "C"}
        more: Any = {"sec_type": kind, "expiration": "20260320", "strike": 10.0, "right": "C"}
        assert said(**more) == option


async def test_a_snapshot_is_of_a_line_that_is_held_and_has_values() -> None:
    rig = Rig()
    client = rig.client()
    await rig.quoting(client, "A")
    assert rig.service.snapshot(1) is None
    rig.gateway.lines[0].tick(PriceTick("bid", 10.5, 2))
    assert json.loads(rig.service.snapshot(1) or "")["bid"]["value"] == 10.5
    assert rig.service.snapshot(2) is None
