"""What is said on each occasion, and how it gets to the services of the address file.

The occasions are those of `alerts.events` in stack.yaml. The address file has one service address a
line, as Apprise writes them; they hold tokens and passwords: the file is a secret, no line of it
gets into a log, and addresses travel to the worker that sends on a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from bridge.errors import BridgeError, Kind


class AlertKind(StrEnum):
    """One kind of occasion that an alert may be for: its name, its words, how urgent it is."""

    WAITING_2FA = "waiting-2fa"
    CONNECTION_LOST = "connection-lost"
    BAD_CREDENTIALS = "bad-credentials"
    LOGIN_LOCKED = "login-locked"
    LOGIN_BLOCKED = "login-blocked"
    GATEWAY_HANGS = "gateway-hangs"
    ORDER_UNKNOWN = "order-unknown"
    JOURNAL = "journal"
    MESSAGE_SET_ASIDE = "message-set-aside"
    CLIENT_SILENT = "client-silent"
    CLOCK = "clock"
    PORTAL_LOGIN = "portal-login"
    CERTIFICATE = "certificate"
    DISK_LOW = "disk-low"
    BACKUP = "backup"
    VERSION_ENDS = "version-ends"
    NEWER_IMAGE = "newer-image"
    RULE = "rule"
    DEPLOY_FAILED = "deploy-failed"
    TEST = "test"


TITLES: dict[AlertKind, str] = {
    AlertKind.WAITING_2FA: "The gateway waits for your approval (2FA)",
    AlertKind.CONNECTION_LOST: "No connection to the broker",
    AlertKind.BAD_CREDENTIALS: "The gateway's login was refused",
    AlertKind.LOGIN_LOCKED: "The gateway's login is locked",
    AlertKind.LOGIN_BLOCKED: "The gateway's login waits for a person",
    AlertKind.GATEWAY_HANGS: "The gateway hangs and does not mend itself",
    AlertKind.ORDER_UNKNOWN: "An order may or may not have reached the broker",
    AlertKind.JOURNAL: "The journal of orders needs a person",
    AlertKind.MESSAGE_SET_ASIDE: "A message of the broker's could not be kept",
    AlertKind.CLIENT_SILENT: "A client fell silent",
    AlertKind.CLOCK: "The clock of the bridge's machine is wrong",
    AlertKind.PORTAL_LOGIN: "The Client Portal needs a login",
    AlertKind.CERTIFICATE: "The certificate needs a look",
    AlertKind.DISK_LOW: "The disk is nearly full",
    AlertKind.BACKUP: "There is no recent backup",
    AlertKind.VERSION_ENDS: "IBKR will refuse this version of the gateway",
    AlertKind.NEWER_IMAGE: "There is a newer image",
    AlertKind.RULE: "The position manager",
    AlertKind.DEPLOY_FAILED: "A deploy failed",
    AlertKind.TEST: "Test message",
}

RESOLVED: dict[AlertKind, str] = {
    AlertKind.GATEWAY_HANGS: "The gateway works again",
    AlertKind.WAITING_2FA: "The gateway no longer waits for an approval",
    AlertKind.CONNECTION_LOST: "The connection to the broker is back",
    AlertKind.BAD_CREDENTIALS: "The gateway's login is no longer refused",
    AlertKind.LOGIN_LOCKED: "The gateway's login is no longer locked",
    AlertKind.JOURNAL: "The journal of orders is fine again",
    AlertKind.CLOCK: "The clock of the bridge's machine is right again",
    AlertKind.LOGIN_BLOCKED: "The gateway's login goes on",
    AlertKind.PORTAL_LOGIN: "The Client Portal session is back",
    AlertKind.CERTIFICATE: "The certificate is fine again",
    AlertKind.DISK_LOW: "The disk has room again",
    AlertKind.BACKUP: "Backups are made again",
}
"""What is said when a condition has ended; kinds that are single events are not here."""


class Message(Struct, frozen=True, kw_only=True):
    """One message; `level` is `warning`, `failure`, `success` or `info`."""

    title: str
    body: str
    level: str = "warning"


WORKER: Final = Path(__file__).with_name("apprise_worker.py")
SEND_SECONDS: Final = 60.0
TEST_SECONDS: Final = 30.0
"""For a test message, its turn included: Caddy ends a request after 35 (`response_timeout`)."""
MOST_AT_ONCE: Final = 2
"""Workers at the same time: each takes 40 MB of what the bridge's container has."""

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
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    def services(self) -> tuple[str, ...]:
        """The words of the services that messages go to.

        Raises:
            AddressFileError: the file cannot be used.
        """
        return tuple(service_of(address) for address in read_addresses(self._path))

    async def send(
        self, message: Message, skip: frozenset[int] = frozenset(), within: float | None = None
    ) -> list[Delivery]:
        """Sends to every address but those at the places of `skip`.

        Args:
            message: what is said.
            skip: places in the file that have got it already.
            within: seconds for all of it, its turn included; None: as long as it may take.

        Raises:
            AddressFileError: the file cannot be used.
            WorkerError: the process that sends failed, or it was not its turn within that time: in
                either case nobody has got anything.
        """
        found = await asyncio.to_thread(read_addresses, self._path)
        wanted = [address for place, address in enumerate(found) if place not in skip]
        outcomes = iter(await self._in_turn(message, wanted, within) if wanted else [])
        return [
            Delivery(
                service=service_of(address),
                sent=True if place in skip else next(outcomes, False),
            )
            for place, address in enumerate(found)
        ]

    async def _in_turn(
        self, message: Message, wanted: list[str], within: float | None
    ) -> list[bool]:
        """When not too many others are being sent."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(within):
                await self._places.acquire()
        except TimeoutError:
            raise WorkerError(
                f"{MOST_AT_ONCE} other messages are on their way, and a service does not take them",
                next_step="Try again in a minute; ./deploy.py logs bridge names what is not sent",
            ) from None
        try:
            left = SEND_SECONDS if within is None else within - (loop.time() - began)
            return await self._work(message, wanted, left)
        finally:
            self._places.release()

    async def _work(self, message: Message, wanted: list[str], seconds: float) -> list[bool]:
        """Which of them have got it; who has not said so in time has not, as far as is known."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(WORKER)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # a traceback could show an address
            )
        except OSError as error:  # most often there is no memory for it
            raise WorkerError(f"no process can be started to send: {error.strerror}") from None
        job = {"addresses": wanted, **msgspec.structs.asdict(message)}
        said: dict[int, bool] = {}
        late = False
        try:
            async with asyncio.timeout(seconds):
                await _exchange(process, msgspec.json.encode(job), said)
        except TimeoutError:
            late = True
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not said and not late:
            raise WorkerError("the process that sends messages failed")
        return [said.get(place, False) for place in range(len(wanted))]


async def _exchange(process: asyncio.subprocess.Process, job: bytes, said: dict[int, bool]) -> None:
    """Hands the job over, and notes what the worker says of each place until it has ended."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended: seen below
        process.stdin.write(job)
        await process.stdin.drain()
    process.stdin.close()
    async for line in process.stdout:
        place, _, word = line.decode("ascii", "replace").strip().partition(" ")
        if place.isascii() and place.isdigit():
            said[int(place)] = word == "sent"
    await process.wait()


class WorkerError(BridgeError):
    """Nothing could be sent to anybody, whatever the addresses are."""

    code = "alerts-not-sent"
    kind = Kind.INTERNAL
    next_step = "Look at the host's memory (./deploy.py doctor); it is tried again"


class AddressFileError(BridgeError):
    """The file cannot be used."""

    code = "alerts-file-unusable"
    kind = Kind.INTERNAL
    next_step = (
        "Set alerts.urls in stack.yaml and deploy; by hand: BRIDGE_ALERTS_FILE names a file with"
        " one address a line, such as ntfy://topic"
    )


def read_addresses(path: Path) -> tuple[str, ...]:
    """The addresses; empty lines and lines that begin with # do not count.

    Raises:
        AddressFileError: it cannot be read, a line is no address, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise AddressFileError(f"cannot read {path}: {reason}") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if "://" not in text:
            raise AddressFileError(f"line {number} of {path} is no address")
        found.append(text)
    if not found:
        raise AddressFileError(f"{path} holds no address")
    return tuple(found)


def service_of(address: str) -> str:
    """The service's word (`discord`), which is all that is ever shown of an address."""
    return address.partition("://")[0].lower()
