"""What stands at the other end is not always a gateway: scripted servers over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bridge import model
from bridge.clock import SystemClock
from bridge.errors import InvalidRequestError
from bridge.tws import client
from bridge.tws.client import GREETING, Codec, frame
from bridge.tws.connection_state import DialProblem
from bridge.tws.convert import from_contract, from_order, to_contract, to_order
from bridge.tws.wire import DialError, Wire, greet
from tests.bridge.wound import WoundClock

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Talk], Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[asyncio.Server] = []
    tasks: list[asyncio.Task[None]] = []

    async def start(talk: Talk) -> int:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(asyncio.current_task())  # type: ignore[arg-type]
            try:
                await talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_greets_with_the_versions_of_the_library() -> None:
    assert GREETING[:4] == b"API\0"
    (length,) = struct.unpack(">I", GREETING[4:8])
    assert GREETING[8:] == f"v{client.MIN_VERSION}..{client.MAX_VERSION}".encode()
    assert length == len(GREETING) - 8


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (frame(b"100\x00now\x00"), "at least 157 is needed"),
        (frame(b"hello\x00"), "what answers is no gateway"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no gateway, or a broken stream"),
        (struct.pack(">I", 2**31) + b"x", "no gateway, or a broken stream"),
        (b"", "the gateway closed the connection"),
    ],
)
async def test_what_is_no_gateway_is_told_apart(serve: Serve, answer: bytes, reason: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(GREETING))
        writer.write(answer)
        await writer.drain()

    port = await serve(talk)
    with pytest.raises(DialError) as caught:
        await greet("127.0.0.1", port, SystemClock())
    assert caught.value.problem is DialProblem.CLOSED
    assert reason in caught.value.detail


async def test_a_silent_socket_does_not_hide_a_gateway_that_answers(serve: Serve) -> None:
    met = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        await reader.readexactly(len(GREETING))
        if met > 1:
            writer.write(frame(b"176\x0020260302 09:30:00 EST\x00"))
        await asyncio.sleep(30)

    port = await serve(talk)
    wire = await greet("127.0.0.1", port, SystemClock())
    assert wire.version == 176
    assert met == 2
    wire.drop("the test is over")


async def test_while_nobody_answers_for_names_the_last_address_of_the_host_counts(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(GREETING))
        writer.write(frame(b"176\x0020260302 09:30:00 EST\x00"))
        await asyncio.sleep(30)

    port, loop, away = await serve(talk), asyncio.get_running_loop(), 0

    async def look_up(host: str, *_: object, **__: object) -> list[Any]:
        if away:
            raise socket.gaierror(away, "no name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    away = socket.EAI_AGAIN
    with pytest.raises(DialError) as caught:
        await greet("gateway", port, SystemClock())
    assert caught.value.problem is DialProblem.UNREACHABLE, "it was never reached"
    away = 0
    (await greet("gateway", port, SystemClock())).drop("the test goes on")
    away = socket.EAI_AGAIN
    wire = await greet("gateway", port, SystemClock())
    assert wire.version == 176
    wire.drop("the test goes on")
    away = socket.EAI_NONAME
    with pytest.raises(DialError):
        await greet("gateway", port, SystemClock())


async def test_a_host_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(DialError) as caught:
        await greet("no-such-host.invalid", 4002, SystemClock())
    assert caught.value.problem is DialProblem.UNREACHABLE


async def test_messages_cut_anywhere_are_put_together(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(GREETING))
        for byte in frame(b"176\x0020260302 09:30:00 EST\x00"):
            writer.write(bytes((byte,)))
            await writer.drain()
        await reader.readexactly(4)
        both = frame(b"49\x001\x001772461800\x00") + frame(b"49\x001\x001772461801\x00")
        writer.write(both[:5])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(both[5:])
        await asyncio.sleep(30)

    class Callbacks:
        def __init__(self) -> None:
            self.times: list[int] = []

        def currentTime(self, seconds: int) -> None:
            self.times.append(seconds)

    port = await serve(talk)
    wire = await greet("127.0.0.1", port, SystemClock())
    callbacks = Callbacks()
    wire.start(callbacks, client_id=17)
    async with asyncio.timeout(20):
        while len(callbacks.times) < 2:
            await asyncio.sleep(0.01)
    assert callbacks.times == [1772461800, 1772461801]
    wire.drop("the test is over")
    assert await wire.lost == "the test is over"


@pytest.mark.parametrize(
    "payload", [b"", b"x\x00", b"999\x001\x00", b"10\x00short\x00", b"\xff\xfe"]
)
def test_a_message_that_makes_no_sense_is_dropped(payload: bytes) -> None:
    class Callbacks:
        pass

    codec = Codec(lambda data: None, Callbacks(), version=176, client_id=1)
    assert codec.receive(payload) in (-1, 10)


def test_what_is_encoded_is_what_the_broker_documents() -> None:
    written: list[bytes] = []

    class Callbacks:
        pass

    codec = Codec(written.append, Callbacks(), version=176, client_id=1)
    codec.send.reqMktData(
        7, to_contract(model.Contract(con_id=265598, symbol="AAPL")), "", False, False, []
    )
    fields = written[0][4:].decode().split("\0")
    assert fields[:6] == ["1", "11", "7", "265598", "AAPL", "STK"]
    codec.send.cancelOrder(12)
    assert written[1][4:].decode().split("\0") == ["4", "1", "12", "", ""]


def test_a_nul_in_a_text_shifts_no_field_on_the_wire() -> None:
    class Callbacks:
        pass

    written: list[bytes] = []
    codec = Codec(written.append, Callbacks(), version=176, client_id=1)
    apple = to_contract(model.Contract(symbol="AAPL"))
    order = to_order(model.Order(quantity=1, oca_group="mine\0U7654321"))
    with pytest.raises(InvalidRequestError):
        codec.send.placeOrder(1, apple, order)
    with pytest.raises(InvalidRequestError):
        codec.send.reqContractDetails(2, to_contract(model.Contract(symbol="AA\0PL")))
    with pytest.raises(InvalidRequestError):
        codec.send.reqMatchingSymbols(3, "AA\0PL")
    assert written == []


def test_contracts_and_orders_survive_the_way_there_and_back() -> None:
    contract = model.Contract(
        con_id=1,
        symbol="SPX",
        sec_type="OPT",
        expiration="20260320",
        strike=5000.0,
        right="C",
        multiplier="100",
        trading_class="SPXW",
    )
    assert from_contract(to_contract(contract)) == contract
    order = model.Order(
        action="SELL",
        quantity=2.5,
        order_type="STP LMT",
        limit_price=10.5,
        stop_price=11.0,
        tif="GTC",
        order_ref="gw-1",
        oca_group="g",
        oca_type=1,
        account="DU1234567",
        outside_rth=True,
    )
    assert from_order(to_order(order)) == order
    market = from_order(to_order(model.Order(order_type="MKT", quantity=1)))
    assert (market.limit_price, market.stop_price) == (None, None)


def test_numpy_is_loaded_only_when_it_is_used() -> None:
    import subprocess
    import sys

    code = "import sys, bridge.tws.session; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# without a socket ---------------------------------------------------------------------------------


class Transport(asyncio.Transport):
    """Takes what is written, and knows whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.closing = False
        self.turns: list[str] = []

    def write(self, data: object) -> None:
        self.written.append(bytes(data))  # type: ignore[call-overload]

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False
        self.turns.append("pause")

    def resume_reading(self) -> None:
        self.reading = True
        self.turns.append("resume")

    def abort(self) -> None:
        self.closing = True


class Kept:
    """A codec that keeps each message."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def receive(self, payload: bytes) -> int:
        self.messages.append(payload)
        return int(payload.split(b"\0")[0])


def begun(*, greeted: bool = True) -> tuple[Wire, Transport, Kept]:
    wire, transport, kept = Wire(WoundClock()), Transport(), Kept()
    wire.connection_made(transport)
    if greeted:
        wire.data_received(frame(b"176\x00now\x00"))
        wire.codec = kept  # type: ignore[assignment]
        wire.messages_read = 0
    return wire, transport, kept


def long(kind: bytes, size: int) -> bytes:
    """A message of so many bytes."""
    return frame(kind + b"\0" + b"x" * (size - len(kind) - 1))


@pytest.mark.parametrize(
    ("kind", "largest"), [(b"17", 4 << 20), (b"75", 1 << 20), (b"4", 16 << 10), (b"9", 256 << 10)]
)
async def test_a_message_is_no_larger_than_its_kind_ever_is(kind: bytes, largest: int) -> None:
    wire, _, kept = begun()
    wire.data_received(long(kind, largest) + frame(b"49\x001\x007\x00"))
    await drained(wire)
    assert [len(each) for each in kept.messages] == [largest, 7]
    assert (wire.skipped, wire.messages_read) == (0, 2)
    content = long(kind, largest + 1) + frame(b"49\x001\x008\x00")
    for at in range(0, len(content), 100_003):
        wire.data_received(content[at : at + 100_003])
    await drained(wire)
    assert wire.skipped == 1
    cut = [largest + 1] if kind == b"4" else []  # with an end of its own
    assert [len(each) for each in kept.messages[2:]] == [*cut, 7]
    assert kept.messages[-1] == b"49\x001\x008\x00"


async def drained(wire: Wire) -> None:
    async with asyncio.timeout(20):
        while wire._again is not None:
            await asyncio.sleep(0)


@pytest.mark.parametrize("size", [16 * 1024 * 1024, 16 * 1024 * 1024 + 1])
async def test_what_is_larger_than_anything_is_no_gateway(size: int) -> None:
    wire, transport, _ = begun()
    wire.data_received(struct.pack(">I", size) + b"9\0xxxxxxxx")
    assert wire.alive is (size == 16 * 1024 * 1024)
    assert transport.closing is not wire.alive


@pytest.mark.parametrize("size", [1024, 1025])
async def test_a_greeting_is_short(size: int) -> None:
    wire, transport, _ = begun(greeted=False)
    assert transport.written == [GREETING]
    assert wire.opened
    wire.data_received(long(b"176", size))
    assert wire.alive is (size == 1024)
    assert wire.version == (176 if size == 1024 else 0)


@pytest.mark.parametrize("version", [156, 157])
async def test_an_older_gateway_is_refused(version: int) -> None:
    wire, _, _ = begun(greeted=False)
    wire.data_received(frame(f"{version}\0now\0".encode()))
    assert wire.alive is (version == 157)
    assert wire.greeted.cancelled() is (version == 156)


async def test_an_empty_or_a_cut_frame_waits_for_the_rest() -> None:
    wire, transport, kept = begun()
    content = frame(b"49\x001\x007\x00")
    for at in range(len(content) - 1):
        wire.data_received(content[at : at + 1])
        assert kept.messages == []
    wire.data_received(content[-1:])
    assert kept.messages == [b"49\x001\x007\x00"]
    assert transport.turns == []


async def test_a_flood_is_worked_on_for_a_turn_and_nothing_is_read_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire, transport, kept = begun()
    loop = asyncio.get_running_loop()
    now, later = [100.0], list[tuple[float, Callable[[], None]]]()

    def call_later(seconds: float, what: Callable[[], None]) -> asyncio.Handle:
        later.append((seconds, what))
        return asyncio.Handle(what, (), loop)

    receive = kept.receive

    def slow(payload: bytes) -> int:
        now[0] += 0.002
        return receive(payload)

    monkeypatch.setattr(loop, "time", lambda: now[0])
    monkeypatch.setattr(loop, "call_later", call_later)
    monkeypatch.setattr(kept, "receive", slow)
    wire.data_received(frame(b"49\x001\x007\x00") * 7)
    assert len(kept.messages) == 3, "of two milliseconds each, within five"
    assert transport.turns == ["pause"]
    wire.data_received(frame(b"49\x001\x008\x00"))
    assert len(kept.messages) == 3, "its turn comes"
    assert [seconds for seconds, _ in later] == [0.0005]
    later.pop()[1]()
    assert (len(kept.messages), transport.turns) == (6, ["pause"])
    later.pop()[1]()
    assert (len(kept.messages), transport.turns) == (8, ["pause", "resume"])
    assert later == []


async def test_who_keeps_what_comes_may_hold_it_up_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire, transport, kept = begun()
    loop = asyncio.get_running_loop()
    now, later = [100.0], list[tuple[float, Callable[[], None]]]()

    def call_later(seconds: float, what: Callable[[], None]) -> asyncio.Handle:
        later.append((seconds, what))
        return asyncio.Handle(what, (), loop)

    monkeypatch.setattr(loop, "time", lambda: now[0])
    monkeypatch.setattr(loop, "call_later", call_later)
    wire.held_up = lambda: True
    for _ in range(2):  # and then it begins anew
        now[0] = 100.0
        wire.data_received(frame(b"49\x001\x007\x00"))
        assert (kept.messages, transport.reading) == ([], False)
        now[0] = 101.99
        seconds, again = later.pop()
        assert seconds == 0.02
        again()
        assert kept.messages == []
        now[0] = 102.0
        later.pop()[1]()
        assert len(kept.messages) == 1
        assert transport.reading
        kept.messages.clear()
        wire.held_up = lambda: False
        wire.data_received(frame(b"49\x001\x007\x00"))
        assert len(kept.messages) == 1
        kept.messages.clear()
        wire.held_up = lambda: True


async def test_a_wire_ends_once_and_says_why() -> None:
    wire, transport, _ = begun()
    wire.data_received(b"\0\0")
    wire.drop("first")
    wire.drop("second")
    wire.connection_lost(OSError("third"))
    assert (await wire.lost, transport.closing, wire.alive) == ("first", True, False)
    sent = len(transport.written)
    wire.write(b"x")
    assert len(transport.written) == sent
    for error, said in (
        (None, "the gateway closed the connection"),
        (OSError("reset"), "connection lost: reset"),
    ):
        wire, _, _ = begun(greeted=False)
        with pytest.raises(ConnectionError):
            wire.send  # noqa: B018 - it is a property
        wire.connection_lost(error)
        assert await wire.lost == said
        assert wire.greeted.cancelled()


async def test_who_asks_is_told_the_size_of_each_message() -> None:
    wire, _, _ = begun()
    sizes: list[int] = []
    wire.on_size = sizes.append
    wire.data_received(frame(b"49\x001\x007\x00") + frame(b"49\x001\x00\x00"))
    assert sizes == [7, 6]
