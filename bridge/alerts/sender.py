"""Hands one message to every service, by way of the worker; addresses travel on a pipe."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from bridge.alerts import addresses
from bridge.alerts.addresses import AddressFileError
from bridge.alerts.kinds import Message

WORKER: Final = Path(__file__).with_name("apprise_worker.py")
SEND_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


class Delivery(Struct, rename="camel", frozen=True, kw_only=True):
    """What became of a message at one service."""

    service: str
    sent: bool


class Sender:
    """Sends to the addresses of one file, which is read anew for each message.

    Args:
        path: the address file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def services(self) -> tuple[str, ...]:
        """The words of the services that messages go to.

        Raises:
            AddressFileError: the file cannot be used.
        """
        return tuple(addresses.service_of(address) for address in addresses.read(self._path))

    async def send(self, message: Message, skip: frozenset[int] = frozenset()) -> list[Delivery]:
        """Sends to every address but those at the places of `skip`.

        Raises:
            AddressFileError: the file cannot be used, or the worker failed.
        """
        found = await asyncio.to_thread(addresses.read, self._path)
        wanted = [address for place, address in enumerate(found) if place not in skip]
        outcomes = iter(await self._work(message, wanted) if wanted else [])
        return [
            Delivery(
                service=addresses.service_of(address),
                sent=True if place in skip else next(outcomes, False),
            )
            for place, address in enumerate(found)
        ]

    async def _work(self, message: Message, wanted: list[str]) -> list[bool]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(WORKER)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a traceback could show an address
        )
        job = {"addresses": wanted, **msgspec.structs.asdict(message)}
        try:
            async with asyncio.timeout(SEND_SECONDS):
                output, _ = await process.communicate(msgspec.json.encode(job))
        except TimeoutError:
            return [False] * len(wanted)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            return msgspec.json.decode(output, type=_Outcome).sent
        except msgspec.DecodeError:
            raise AddressFileError("the worker that sends messages failed") from None


class _Outcome(msgspec.Struct):
    sent: list[bool]
