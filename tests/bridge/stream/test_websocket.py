"""`/stream` over a real socket."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.account.service import AccountService
from bridge.api import stream as stream_route
from bridge.callers import Holder
from bridge.model import Contract, Execution, Order
from bridge.stream.hub import Hub
from bridge.tws.errors import UnknownContractError
from tests.bridge.market.clock import WoundClock
from tests.bridge.stream.served import KEY, Served, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


async def test_a_key_in_the_handshake(rig: Served) -> None:
    async with rig.stream() as client:
        welcome = await client.next()
        assert (welcome["type"], welcome["seq"], welcome["resumed"]) == ("welcome", 1, False)
        assert welcome["state"] == "ready"


async def test_a_key_in_the_first_message(rig: Served) -> None:
    async with rig.stream(key=None) as client:
        await client.say(op="auth", key=KEY)
        assert (await client.next())["type"] == "welcome"
        await client.say(op="auth", key=KEY)
        assert (await client.next())["code"] == "invalid-request"


async def test_a_wrong_key_never_gets_in(rig: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with rig.stream(key="wrong"):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["code"] == "unauthorized"
    for message in ({"op": "auth", "key": "wrong"}, {"op": "ping"}):
        async with rig.stream(key=None) as client:
            await client.say(**message)
            assert (await client.next())["type"] == "error"
            assert await client.closed() == 4401
    assert rig.service.hub.sessions == {}


async def test_silence_instead_of_a_key_has_an_end(
    rig: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of a key: whoever has one comes again, and is not sent away for good."""
    monkeypatch.setattr("bridge.api.stream.FIRST_MESSAGE_SECONDS", 0.05)
    async with rig.stream(key=None) as client:
        assert (await client.next())["code"] == "unauthorized"
        assert await client.closed() == 4408


async def test_quotes_flow_numbered_without_holes(rig: Served) -> None:
    async with rig.stream() as client:
        await client.say(op="subscribe", channel="quotes", symbols=["AAPL", "MSFT"], id="s1")
        confirmed = await client.next_of("subscribed")
        assert confirmed["id"] == "s1"
        assert [item["symbol"] for item in confirmed["instruments"]] == ["AAPL", "MSFT"]
        symbols: set[str] = set()
        while symbols != {"AAPL", "MSFT"}:
            for quote in (await client.next_of("quotes"))["quotes"]:
                symbols.add(quote["symbol"])
        assert client.numbers == list(range(1, len(client.numbers) + 1))
        await client.say(op="unsubscribe", channel="quotes")
        await client.next_of("unsubscribed")
        await client.say(op="ping", id=7)
        assert (await client.next_of("pong"))["id"] == 7


async def test_an_options_quote_has_greeks(rig: Served) -> None:
    status, chain = await rig.get("/options/chain", symbol="AAPL")
    assert status == 200
    expiration = chain["expirations"][3]["expiration"]
    status, part = await rig.get(
        "/options/quotes", symbol="AAPL", expiration=expiration, count=1, right="C"
    )
    assert status == 200
    contract = {
        "symbol": "AAPL",
        "secType": "OPT",
        "expiration": expiration,
        "strike": part["options"][0]["strike"],
        "right": "C",
    }
    async with rig.stream() as client:
        await client.say(op="subscribe", channel="quotes", contracts=[contract])
        quote = (await client.next_of("quotes"))["quotes"][0]
        assert quote["right"] == "C"
        assert quote["delta"]["tag"] == "live"


@pytest.mark.parametrize("way", ["handshake", "message", "message, session in the address"])
async def test_a_client_that_comes_back_misses_nothing(rig: Served, way: str) -> None:
    async with rig.stream() as client:
        welcome = await client.next()
        await client.say(op="subscribe", channel="quotes", symbols=["AAPL"])
        for _ in range(3):
            await client.next_of("quotes")
        last = client.numbers[-1]
        client.connection.transport.abort()
    await rig.until(lambda: rig.service.hub.attached == 0)
    before = rig.service.hub.cursor
    await rig.until(lambda: rig.service.hub.cursor > before + 5)
    earlier = {"session": welcome["session"], "lastSeq": last}
    query = "" if way == "message" else f"?{urlencode(earlier)}"
    async with rig.stream(query, key=KEY if way == "handshake" else None) as client:
        if way != "handshake":
            await client.say(op="auth", key=KEY, **(earlier if way == "message" else {}))
        again = await client.next()
        assert again["resumed"] is True
        assert again["seq"] == last + 1
        missed = await client.next_of("quotes")
        assert missed["seq"] == last + 2
        assert len(missed["quotes"]) >= 5
        await client.next_of("quotes")


async def test_a_session_that_cannot_be_resumed_is_a_new_one(rig: Served) -> None:
    async with rig.stream("?session=gone&lastSeq=7") as client:
        welcome = await client.next()
        assert (welcome["resumed"], welcome["seq"]) == (False, 1)
    for query in ("?session=x", "?session=x&lastSeq=-1", "?colour=red"):
        with pytest.raises(InvalidStatus) as refused:
            async with rig.stream(query):
                pass
        assert refused.value.response.status_code == 422


async def test_a_lost_gateway_is_told_and_its_return(rig: Served) -> None:
    async with rig.stream() as client:
        await client.say(op="subscribe", channel="health")
        health = await client.next_of("health")
        assert health["data"]["state"] == "ready"
        await client.say(op="subscribe", channel="orders")
        await client.say(op="subscribe", channel="quotes", symbols=["AAPL"])
        await client.next_of("quotes")
        faults = rig.simulator.world.faults
        faults.start("port-closed")
        faults.start("rst")
        stale = [await client.next_of("stale"), await client.next_of("stale")]
        assert {channel for item in stale for channel in item["channels"]} == {
            "quotes",
            "orders",
            "executions",
        }
        faults.clear()
        resumed = [await client.next_of("resumed"), await client.next_of("resumed")]
        assert {tuple(item["channels"]) for item in resumed} == {
            ("quotes",),
            ("orders", "executions"),
        }
        states = [item["data"]["state"] for item in client.seen if item["type"] == "health"]
        assert states[0] == states[-1] == "ready"
        assert client.numbers == list(range(1, len(client.numbers) + 1))


async def test_more_streams_than_allowed(rig: Served) -> None:
    async with (
        rig.stream() as one,
        rig.stream(),
        rig.stream(),
        rig.stream(),
        rig.stream(),
    ):
        await one.next()
        with pytest.raises(InvalidStatus) as refused:
            async with rig.stream():
                pass
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["Retry-After"]) > 0


async def test_messages_that_are_none_are_answered_and_too_many_end_it(rig: Served) -> None:
    async with rig.stream() as client:
        await client.connection.send("what?")
        assert (await client.next_of("error"))["code"] == "invalid-request"
        await client.say(op="subscribe", channel="quotes", symbols=["NOSUCH"])
        assert (await client.next_of("error"))["code"] == "unknown-contract"
        for _ in range(80):
            await client.say(op="ping")
        assert await client.closed() == 4429


async def test_a_client_that_reads_nothing_harms_nobody(rig: Served) -> None:
    """Its kernel buffers fill, its quotes are conflated, and the other client's keep coming."""
    hub = rig.service.hub
    async with rig.stream() as slow, rig.stream() as quick:
        for client in (slow, quick):
            await client.say(op="subscribe", channel="quotes", symbols=["AAPL"])
            await client.next_of("subscribed")
        (topic,) = next(iter(hub.sessions.values())).subscriber.topics
        slow.connection.transport.pause_reading()
        filler = json.dumps({"filler": "x" * 4000})
        read = 0
        for _ in range(60):
            for _ in range(100):
                hub.publish(topic, filler)
            while read < hub.cursor - 200:
                read += len((await quick.next_of("quotes"))["quotes"])
            await asyncio.sleep(0)
        assert hub.conflations >= 1
        assert not any(message.get("conflated") for message in quick.seen)
        slow.connection.transport.resume_reading()
        while not (await slow.next_of("quotes")).get("conflated"):
            pass
        assert slow.numbers == list(range(1, len(slow.numbers) + 1))
        assert hub.attached == 2


async def test_a_revoked_key_ends_its_streams(
    rig: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stream_route, "KEY_CHECK_SECONDS", 0.05)
    async with rig.stream() as client:
        await client.next()
        (tmp_path / "admin-key").write_text("another key")
        assert await client.closed() == 4401


async def key_of(rig: Served, **asked: Any) -> dict[str, Any]:
    answer = await rig.http.post("/keys", json={"label": "x", **asked})
    made: dict[str, Any] = answer.json()
    return made


async def test_a_revoked_keys_stream_ends_at_once(
    rig: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not only when the keys are looked at again."""
    monkeypatch.setattr(stream_route, "KEY_CHECK_SECONDS", 600.0)
    made = await key_of(rig)
    async with rig.stream(key=made["key"]) as client, rig.stream() as other:
        welcome = await client.next()
        await rig.http.delete(f"/keys/{made['id']}")
        assert await client.closed() == 4401
        assert (await other.next())["type"] == "welcome"
    assert welcome["session"] not in rig.service.hub.sessions


async def test_an_expired_keys_stream_ends(rig: Served) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    made = await key_of(rig, expires=soon)
    async with rig.stream(key=made["key"]) as client:
        await client.next()
        assert await client.closed() == 4401


async def test_the_stream_of_an_exchanged_key_file_ends(rig: Served, tmp_path: Path) -> None:
    async with rig.stream() as client:
        await client.next()
        (tmp_path / "admin-key").write_text("another-key-for-the-tests-0123")
        assert await client.closed() == 4401


async def test_a_message_that_never_ends_is_ended(
    rig: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.api.connections.MESSAGE_SECONDS", 0.2)
    async with rig.stream() as client:
        await client.next()

        async def endless() -> AsyncIterator[str]:
            while True:
                yield "x"
                await asyncio.sleep(0.05)

        with pytest.raises(ConnectionClosed):
            await client.connection.send(endless())
        assert await client.closed() == 1008


async def test_a_heartbeat_where_nobody_is_watched_is_told_so(rig: Served) -> None:
    async with rig.stream() as client:
        await client.next()
        await client.say(op="heartbeat", id=7)
        told = await client.next_of("error")
        assert (told["code"], told["id"]) == ("heartbeat-off", 7)
        await client.say(op="heartbeat", off=True, id=8)
        assert (await client.next_of("heartbeat"))["armed"] is False


async def test_positions_and_account_are_shown_and_follow_a_fill(rig: Served) -> None:
    async with rig.stream() as client:
        await client.say(op="subscribe", channel="positions")
        await client.say(op="subscribe", channel="account")
        account = await client.next_of("account")
        assert account["data"]["accounts"][0]["netLiquidation"] > 0
        positions = next(item for item in client.seen if item["type"] == "positions")
        assert positions["data"]["positions"] == []
        session = rig.services.gateway
        (details,) = await session.queries.contract_details(Contract(symbol="AAPL"))
        number = session.next_order_id()
        order = Order(order_id=number, action="BUY", quantity=3, order_type="MKT")
        await session.place_order(number, details.contract, order)
        async with asyncio.timeout(30):
            while not (held := (await client.next_of("positions"))["data"]["positions"]):
                pass
        assert [(each["symbol"], each["quantity"]) for each in held] == [("AAPL", 3.0)]


async def test_a_sign_of_life_is_heard_while_a_subscription_waits_for_the_gateway(
    rig: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = asyncio.Event(), asyncio.Event()

    async def named(_: Contract) -> None:
        asked.set()
        await answers.wait()
        raise UnknownContractError("there is none")

    monkeypatch.setattr(rig.service._contracts, "named", named)
    async with rig.stream() as client:
        await client.say(op="subscribe", channel="quotes", symbols=["AAPL"], id="slow")
        await asked.wait()
        await client.say(op="ping", id=7)
        assert (await client.next_of("pong"))["id"] == 7
        await client.say(op="heartbeat", id=8)
        assert (await client.next_of("error"))["code"] == "heartbeat-off"
        await client.say(op="unsubscribe", channel="quotes", id="behind it")
        await client.say(op="ping", id=9)
        await client.next_of("pong")
        answers.set()
        assert (await client.next_of("error", "unsubscribed"))["id"] == "slow"
        assert (await client.next_of("unsubscribed"))["id"] == "behind it"


async def test_a_connection_that_was_replaced_takes_nothing_of_the_next_one() -> None:
    hub = Hub(WoundClock(), lambda _: None)
    session = hub.open(Holder("key"))
    attachment = hub.attach(session, lambda _: None)
    attachment.wake.set()
    hub.detach(session, attachment)  # resumed elsewhere, in the same pass of the loop
    hub.attach(session, lambda _: None)
    hub.tell(session, "welcome")
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    replaced = object.__new__(stream_route._Connection)
    replaced._session, replaced._attachment = session, attachment
    replaced._service = SimpleNamespace(hub=hub)  # type: ignore[assignment]
    replaced._websocket = SimpleNamespace(send=send)  # type: ignore[assignment]
    replaced._clock = hub._clock
    async with asyncio.timeout(5):
        await replaced._write()
    assert sent == []
    assert session.subscriber.waiting


async def test_keys_are_looked_at_again_after_a_look_that_failed(
    rig: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stream_route, "KEY_CHECK_SECONDS", 0.05)
    end, failed = rig.service.hub.end, asyncio.Event()

    def failing(*given: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("once")
        end(*given)

    monkeypatch.setattr(rig.service.hub, "end", failing)
    async with rig.stream() as client:
        await client.next()
        await failed.wait()
        (tmp_path / "admin-key").write_text("another-key-for-the-tests-0123")
        assert await client.closed() == 4401


async def test_values_of_before_a_fill_are_shown_as_not_confirmed(rig: Served) -> None:
    async with rig.stream() as client:
        await client.say(op="subscribe", channel="account")
        shown = await client.next_of("account")
        (name,) = [each["account"] for each in shown["data"]["accounts"]]
        assert shown["data"]["accounts"][0]["confirmed"] is True
        rig.services.gateway.events.execution.emit(
            Execution(
                exec_id="0000e0d5.6596b0c2.01.01",
                time=datetime.now(UTC),
                contract=Contract(symbol="AAPL", con_id=265598),
                account=name,
                side="BOT",
                quantity=1,
                price=10,
            )
        )
        while (await client.next_of("account"))["data"]["accounts"][0]["confirmed"]:
            pass
        while rig.services[AccountService].unconfirmed_accounts:
            await rig.get("/account")  # who reads has the values asked for anew
        while not (await client.next_of("account"))["data"]["accounts"][0]["confirmed"]:
            pass


async def test_an_operation_too_many_is_refused_and_signs_of_life_are_heard(
    rig: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = asyncio.Event(), asyncio.Event()

    async def named(_: Contract) -> None:
        asked.set()
        await answers.wait()
        raise UnknownContractError("there is none")

    monkeypatch.setattr(rig.service._contracts, "named", named)
    monkeypatch.setattr(stream_route, "MOST_IN_LINE", 3)
    async with rig.stream() as client:
        await client.say(op="subscribe", channel="quotes", symbols=["AAPL"], id="slow")
        await asked.wait()
        for number in range(5):
            await client.say(op="unsubscribe", channel="quotes", id=number)
        await client.say(op="heartbeat", id="beat")
        told = [await client.next_of("error") for _ in range(3)]
        assert [(each["code"], each["id"]) for each in told] == [
            ("too-many-pending", 3),
            ("too-many-pending", 4),
            ("heartbeat-off", "beat"),
        ]
        answers.set()
        assert [(await client.next_of("unsubscribed"))["id"] for _ in range(3)] == [0, 1, 2]
