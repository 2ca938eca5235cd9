"""Too many messages a second: held back, or refused one by one, and never silently dropped."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from unittest.mock import patch

from tests.simulator.base.raw import Raw, ready, simulated, until_true

HISTORY = (0, "AAPL", "STK", "", 0.0, "", "", "SMART", "", "USD", "", "", 0)


async def answer(client: Raw, kind: int) -> list[str]:
    """The next message of that kind, or the next error that is no notice about a farm."""
    while True:
        message = await client.until(kind, 4)
        if message[0] != "4" or not 2103 <= int(message[3]) <= 2158:
            return message


async def test_by_default_no_client_sees_error_100_and_nothing_is_lost() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        begin = time.monotonic()
        for _ in range(120):
            client.send(8, 1, 1)
        for _ in range(120):
            assert (await answer(client, 9))[0] == "9"
        assert time.monotonic() - begin > 1.0


async def test_a_flood_waits_in_the_network_and_is_answered_in_order() -> None:
    async with simulated(rate_limit=2000) as simulator:
        client = await ready(simulator)
        for number in range(6000):
            client.send(78, number, "AAPL", "", "STK", 1)
        for number in range(6000):
            assert (await client.error(321))[2] == str(number)


async def test_the_fifty_first_message_of_a_second_is_refused() -> None:
    async with simulated(pacing="reject") as simulator:
        client = await ready(simulator)
        await asyncio.sleep(1.1)
        for _ in range(60):
            client.send(8, 1, 1)
        warning = await client.error(100)
        assert warning[2] == "-1"
        assert warning[4].startswith("Max rate of messages per second has been exceeded:max=50")


async def test_each_refused_message_is_told() -> None:
    async with simulated(pacing="reject") as simulator:
        client = await ready(simulator)
        await asyncio.sleep(1.1)
        for _ in range(70):
            client.send(8, 1, 1)
        seen: Counter[str] = Counter()
        while seen.total() < 70:
            message = await client.until(9, 4)
            if message[0] == "9" or message[3] == "100":
                seen[message[0]] += 1
        assert seen == {"9": 50, "4": 20}


async def test_who_ignores_the_warning_is_disconnected() -> None:
    async with simulated(pacing="reject", rate_limit=5) as simulator:
        client = await ready(simulator)

        async def flood() -> None:
            while True:
                for _ in range(8):
                    client.send(8, 1, 1)
                await asyncio.sleep(0.3)

        task = asyncio.create_task(flood())
        try:
            for strike in ("(1)", "(2)", "(3)"):
                while not (await client.error(100))[4].endswith(strike):
                    pass
            await until_true(client.reader.at_eof)
        finally:
            task.cancel()


async def test_45_messages_a_second_are_never_refused_though_the_loop_is_held_up() -> None:
    async with simulated(pacing="reject") as simulator:
        client = await ready(simulator)
        await asyncio.sleep(1.1)
        await asyncio.gather(asyncio.to_thread(_steady, client), _hold_up())
        for _ in range(SENT):
            assert (await answer(client, 9))[0] == "9"


async def test_45_a_second_are_not_refused_where_each_poll_comes_after_a_hold_up() -> None:
    """A pause of the machine just before the poll: what came within it came before the poll."""
    async with simulated(pacing="reject") as simulator:
        poll = simulator.tws._poll

        def late() -> None:
            time.sleep(0.6)
            poll()

        client = await ready(simulator)
        await asyncio.sleep(1.1)
        with patch.object(simulator.tws, "_poll", late):
            await asyncio.to_thread(_steady, client)
        for _ in range(SENT):
            assert (await answer(client, 9))[0] == "9"


SENT = 110


def _steady(client: Raw) -> None:
    plain = client.writer.get_extra_info("socket").fileno()
    for _ in range(SENT):
        time.sleep(1 / 45)  # never made up for: after a pause of the machine that would be a burst
        os.write(plain, b"\0\0\0\x068\x001\x001\x00")


async def _hold_up() -> None:
    for _ in range(3):
        await asyncio.sleep(0.1)
        time.sleep(0.6)


async def test_a_client_that_asked_for_pacing_waits_instead() -> None:
    async with simulated(pacing="reject", rate_limit=10) as simulator:
        client = await ready(simulator, options=" +PACEAPI")
        for _ in range(25):
            client.send(8, 1, 1)
        for _ in range(25):
            assert (await answer(client, 9))[0] == "9"


async def test_no_limit_when_it_is_switched_off() -> None:
    async with simulated(rate_limit=0) as simulator:
        client = await ready(simulator)
        for _ in range(500):
            client.send(8, 1, 1)
        for _ in range(500):
            await client.until(9)


async def test_history_of_longer_bars_is_slowed_down_and_never_refused() -> None:
    async with simulated(history_pacing="small", rate_limit=0) as simulator:
        client = await ready(simulator)
        for number in range(64):
            client.send(20, number, *HISTORY, "", "1 hour", "1 D", 1, "TRADES", 1, 0, "")
        answered = [(await answer(client, 17))[0] for _ in range(60)]
        assert set(answered) == {"17"}
        assert simulator.world.pacing.slow(simulator.world.clock.time()) > 1.0
        simulator.world.clock.advance(10)
        for _ in range(4):
            assert (await answer(client, 17))[0] == "17"


async def test_identical_requests_for_small_bars_within_15_seconds_are_refused() -> None:
    async with simulated(history_pacing="small") as simulator:
        client = await ready(simulator)
        words = (*HISTORY, "", "30 secs", "600 S", 1, "TRADES", 1, 0, "")
        client.send(20, 1, *words)
        assert (await client.until(17))[1] == "1"
        client.send(20, 2, *words)
        assert (await client.error(162))[2] == "2"
        simulator.world.clock.advance(15)
        client.send(20, 3, *words)
        assert (await client.until(17))[1] == "3"
