from __future__ import annotations

import asyncio

import pytest

from tests.simulator.base.raw import connected, ready, simulated


@pytest.mark.parametrize(("highest", "spoken"), [(100, 100), (157, 157), (178, 178), (215, 178)])
async def test_speaks_the_highest_version_that_both_know(highest: int, spoken: int) -> None:
    async with simulated() as simulator:
        client = await ready(simulator, highest=highest)
        assert client.version == spoken


async def test_a_client_older_than_100_is_told_so_and_let_go() -> None:
    async with simulated() as simulator:
        client = await connected(simulator)
        client.writer.write(b"API\0\0\0\0\x07v62..99")
        message = await client.read()
        assert message[3] == "503"
        assert await client.closed() == b""


async def test_a_client_that_needs_more_than_178_gets_the_version_and_the_end() -> None:
    async with simulated() as simulator:
        client = await connected(simulator)
        client.writer.write(b"API\0\0\0\0\x09v201..210")
        assert (await client.read())[0] == "178"
        assert await client.closed() == b""


async def test_nothing_comes_before_start_api() -> None:
    async with simulated() as simulator:
        client = await connected(simulator)
        await client.handshake()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.2)


async def test_ready_brings_accounts_ids_and_farms_in_that_order() -> None:
    async with simulated(accounts=("DU1", "U2")) as simulator:
        client = await connected(simulator)
        await client.handshake()
        client.send(71, 2, 1, "")
        assert await client.read() == ["15", "1", "DU1,U2"]
        assert (await client.read())[:2] == ["9", "1"]
        codes = [(await client.read())[3] for _ in range(6)]
        assert codes == ["2104", "2104", "2104", "2104", "2106", "2158"]


async def test_a_client_id_in_use_is_refused_and_free_again_afterwards() -> None:
    async with simulated() as simulator:
        first = await ready(simulator, 7)
        second = await connected(simulator)
        await second.handshake()
        second.send(71, 2, 7, "")
        assert (await second.error(326))[2] == "-1"
        assert await second.closed() == b""
        first.close()
        while simulator.world.sessions:
            await asyncio.sleep(0.01)
        assert (await ready(simulator, 7)).version == 178


async def test_errors_carry_a_json_field_from_version_166() -> None:
    async with simulated() as simulator:
        for highest, length in ((165, 5), (166, 6)):
            client = await ready(simulator, highest, highest)
            assert len(await client.error(2104)) == length


async def test_current_time_is_answered_once_a_second_only() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        client.send(49, 1)
        client.send(49, 1)
        client.send(8, 1, 1)
        assert await client.until(49, 9) == ["49", "1", str(int(simulator.world.clock.time()))]
        assert (await client.until(49, 9))[0] == "9"
        simulator.world.clock.advance(1.5)
        client.send(49, 1)
        assert (await client.until(49, 9))[0] == "49"


async def test_unknown_and_malformed_messages_are_answered_with_an_error() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        client.send(999, 1, 42)
        assert (await client.error(320))[2] == "42"
        client.send(1, 11, 43, "not a number")
        assert (await client.error(320))[2] == "43"
        client.send("garbage")
        assert (await client.error(320))[2] == "-1"
        client.send(8, 1, 1)
        assert (await client.until(9))[0] == "9"


async def test_requests_before_start_api_are_refused() -> None:
    async with simulated() as simulator:
        client = await connected(simulator)
        await client.handshake()
        client.send(49, 1)
        assert (await client.read())[3] == "320"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((18, 1, 1), 321),
        ((22, 5), 162),
        ((52, 2, 6), 10358),
        ((65, 1, "a", "b"), 321),
        ((86, 7), 10276),
        ((100, 8), 10276),
    ],
)
async def test_what_is_not_offered_is_refused_not_ignored(
    fields: tuple[object, ...], code: int
) -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        client.send(*fields)
        assert (await client.error(code))[3] == str(code)
