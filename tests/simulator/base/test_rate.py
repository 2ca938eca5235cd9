from __future__ import annotations

import asyncio

from tests.simulator.base.raw import ready, simulated


async def test_the_fifty_first_message_of_a_second_is_refused() -> None:
    async with simulated() as simulator:
        client = await ready(simulator)
        await asyncio.sleep(1.0)
        for _ in range(60):
            client.send(8, 1, 1)
        warning = await client.error(100)
        assert warning[2] == "-1"
        assert warning[4].startswith("Max rate of messages per second has been exceeded:max=50")


async def test_who_ignores_the_warning_is_disconnected() -> None:
    async with simulated(rate_limit=5) as simulator:
        client = await ready(simulator)

        async def flood() -> None:
            while True:
                for _ in range(8):
                    client.send(8, 1, 1)
                await asyncio.sleep(0.3)

        task = asyncio.create_task(flood())
        try:
            for _ in range(3):
                await client.error(100)
            assert await client.closed() is not None
        finally:
            task.cancel()


async def test_a_client_that_asked_for_pacing_waits_instead() -> None:
    async with simulated(rate_limit=10) as simulator:
        client = await ready(simulator, options=" +PACEAPI")
        for _ in range(25):
            client.send(8, 1, 1)
        for _ in range(25):
            message = await client.until(9, 4)
            while message[0] == "4":
                assert message[3] != "100"
                message = await client.until(9, 4)


async def test_no_limit_when_it_is_switched_off() -> None:
    async with simulated(rate_limit=0) as simulator:
        client = await ready(simulator)
        for _ in range(500):
            client.send(8, 1, 1)
        for _ in range(500):
            await client.until(9)
