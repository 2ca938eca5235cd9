from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simulator.tws.wire import frame
from tests.simulator.base.raw import PATIENCE, STOCK, Raw, connected, ready, simulated, until_true

if TYPE_CHECKING:
    from simulator.app import Simulator


async def refused(simulator: Simulator) -> bool:
    try:
        client = await connected(simulator)
    except ConnectionRefusedError:
        return True
    client.close()
    return False


async def reopened(simulator: Simulator) -> None:
    """The kernel may take its time to let go of the port."""
    async with asyncio.timeout(PATIENCE):
        while await refused(simulator):
            await asyncio.sleep(0.01)


async def silent(client: Raw) -> bool:
    try:
        await asyncio.wait_for(client.reader.readexactly(1), 0.3)
    except TimeoutError:
        return True
    return False


async def drained(client: Raw) -> None:
    """Everything that was under way has arrived."""
    client.send(8, 1, 1)
    await client.until(9)


async def test_fin_closes_what_is_connected_and_lets_the_next_in() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        simulator.world.faults.start("fin")
        await client.closed()
        assert (await ready(simulator)).version == 178


async def test_fin_with_seconds_closes_newcomers_too() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("fin", 30)
        client = await connected(simulator)
        await client.start()
        await client.closed()
        simulator.world.clock.advance(31)
        client = await ready(simulator)
        client.send(8, 1, 1)
        assert await client.until(9)


async def test_rst_resets() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        await drained(client)
        simulator.world.faults.start("rst")
        with pytest.raises(ConnectionResetError):
            await client.closed()


@pytest.mark.parametrize("name", ["port-closed", "nightly-restart"])
async def test_a_closed_port_refuses_until_the_fault_is_over(name: str) -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        simulator.world.faults.start(name, 10)
        await client.closed()
        assert await refused(simulator)
        simulator.world.clock.advance(11)
        await reopened(simulator)
        assert (await ready(simulator)).version == 178


async def test_a_nightly_restart_ends_by_itself() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("nightly-restart")
        assert await refused(simulator)
        simulator.world.clock.advance(61)
        await reopened(simulator)


@pytest.mark.parametrize("name", ["relay-closes", "waiting-2fa", "sunday-invalidation"])
async def test_the_relay_accepts_and_closes_without_a_byte(name: str) -> None:
    async with simulated() as simulator:
        before = await ready(simulator)
        simulator.world.faults.start(name)
        await before.closed()
        client = await connected(simulator)
        assert await client.closed() == b""
        simulator.world.faults.clear()
        assert (await ready(simulator)).version == 178


async def test_accept_silent_never_answers() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("accept-silent")
        client = await connected(simulator)
        client.writer.write(b"API\0\0\0\0\x09v100..178")
        assert await silent(client)


async def test_half_open_is_silent_and_frees_the_client_id_then_resets() -> None:
    async with simulated() as simulator:
        before = await ready(simulator, 5)
        await drained(before)
        simulator.world.faults.start("half-open")
        before.send(8, 1, 1)
        assert await silent(before)
        after = await connected(simulator)
        await after.start(5)
        after.send(49, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(after.until(49), 0.3)
        simulator.world.faults.clear("half-open")
        with pytest.raises(ConnectionResetError):
            await before.closed()
        assert (await ready(simulator, 5)).version == 178


async def test_slow_login_holds_back_the_next_valid_id() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("slow-login", delay=30)
        client = await connected(simulator)
        await client.handshake()
        client.send(71, 2, 1, "")
        assert await silent(client)
        simulator.world.clock.advance(31)
        assert (await client.read())[0] == "15"


async def test_the_end_of_a_slow_login_lets_everyone_in() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("slow-login")
        client = await connected(simulator)
        await client.handshake()
        client.send(71, 2, 1, "")
        assert await silent(client)
        simulator.world.faults.clear()
        assert (await client.read())[0] == "15"


async def test_client_id_in_use_is_said_and_closes() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("client-id-in-use")
        client = await connected(simulator)
        await client.handshake()
        client.send(71, 2, 1, "")
        assert (await client.read())[3] == "326"
        assert await client.closed() == b""


async def test_close_after_start_closes_half_a_second_later() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("close-after-start")
        client = await ready(simulator)
        await drained(client)
        simulator.world.clock.advance(0.6)
        assert await client.closed() == b""


async def test_upstream_lost_repeats_and_answers_nothing_from_upstream() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        faults = simulator.world.faults
        faults.start("upstream-lost")
        await client.error(1100)
        client.send(9, 8, 70, *STOCK, 0, "", "", "")
        client.send(49, 1)
        assert (await client.until(10, 49))[0] == "49"
        simulator.world.clock.advance(31)
        await client.error(1100)
        newcomer = await ready(simulator, 2)
        assert (await newcomer.read())[3] == "2110"
        faults.clear()
        await client.error(1102)
        await client.error(2104)
        client.send(9, 8, 71, *STOCK, 0, "", "", "")
        assert (await client.until(10))[1] == "71"


@pytest.mark.parametrize(
    ("name", "code", "kept"),
    [("upstream-restored", 1102, True), ("upstream-restored-data-lost", 1101, False)],
)
async def test_how_upstream_comes_back(name: str, code: int, kept: bool) -> None:
    async with simulated(tick_interval=0.05) as simulator:
        client = await ready(simulator)
        client.send(1, 11, 50, *STOCK, 0, "", 0, 0, "")
        await client.until(1)
        client.send(61, 1)
        await client.until(62)
        simulator.world.faults.start("upstream-lost")
        await client.error(1100)
        simulator.world.faults.start(name)
        await client.error(code)
        assert not simulator.world.faults.active("upstream-lost")
        kinds = {kind for kind, _ in simulator.world.sessions[0].subscriptions}
        assert ("market data" in kinds, "positions" in kinds) == (kept, True)
        await client.error(2158)
        simulator.world.clock.advance(30)
        if kept:
            assert await client.until(1, 2)
        else:
            assert await silent(client)


async def test_a_competing_session_stops_the_ticks_and_gives_them_back() -> None:
    async with simulated(tick_interval=0.05) as simulator:
        client = await ready(simulator)
        client.send(1, 11, 50, *STOCK, 0, "", 0, 0, "")
        await client.until(1)
        simulator.world.faults.start("competing-session")
        assert (await client.error(10197))[2] == "50"
        client.send(1, 11, 51, *STOCK, 0, "", 0, 0, "")
        assert (await client.error(10197))[2] == "51"
        simulator.world.faults.clear()
        simulator.world.clock.advance(30)
        assert (await client.until(1))[2] == "50"


async def test_rate_exceeded_warns_then_disconnects_who_goes_on() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        simulator.world.faults.start("rate-exceeded")
        assert (await client.error(100))[2] == "-1"

        async def go_on() -> None:
            while True:
                client.send(49, 1)
                await asyncio.sleep(0.2)

        task = asyncio.create_task(go_on())
        try:
            await client.error(100)
            await client.closed()
        finally:
            task.cancel()


async def test_cut_frames_end_in_the_middle() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        await drained(client)
        simulator.world.faults.start("frames-cut")
        with pytest.raises(asyncio.IncompleteReadError) as cut:
            await client.read()
        assert cut.value.partial


async def test_dribbled_frames_arrive_whole_in_the_end() -> None:
    async with simulated() as simulator:
        simulator.world.faults.start("frames-dribbled")
        client = await ready(simulator)
        assert (await client.error(2158))[4].startswith("Sec-def")


async def test_no_drop_is_left_dribbling_when_the_fault_is_over() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        await drained(client)
        simulator.world.faults.start("frames-dribbled")
        (connection,) = simulator.tws.connections
        connection.write(frame([4, 2, -1, 2158, "x" * 200_000]))
        await asyncio.sleep(0.05)
        simulator.world.faults.clear("frames-dribbled")
        async with asyncio.timeout(2):
            assert len((await client.error(2158))[4]) == 200_000


async def test_a_fault_ends_after_its_seconds() -> None:
    async with simulated() as simulator:
        faults = simulator.world.faults
        faults.start("accept-silent", 5)
        assert [each["fault"] for each in faults.shown()] == ["accept-silent"]
        simulator.world.clock.advance(6)
        assert faults.shown() == []


async def test_faults_reach_connections_that_are_still_shaking_hands() -> None:
    async with simulated() as simulator:
        client = await connected(simulator)
        await client.handshake()
        simulator.world.faults.start("rst")
        with pytest.raises(ConnectionResetError):
            await client.closed()
        await until_true(lambda: not simulator.tws.connections)
