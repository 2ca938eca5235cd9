"""The listening side: one port, its connections, and the faults that act on all of them.

A fault that is an event (`fin`, `rst`, `upstream-restored`, `rate-exceeded`) strikes once; given
seconds, `fin` and `rst` also strike whoever becomes ready within them.

Also the register of all requests: the modules that answer them, and those that are always refused
or empty.
"""

from __future__ import annotations

import asyncio
import importlib
import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from simulator.tws.connection import Connection
from simulator.tws.line import COMPETING
from simulator.tws.session import FARMS, HANDLERS, Handler, Session, greet, handles

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.clock import Timer
    from simulator.faults import Fault
    from simulator.tws.wire import Reader
    from simulator.world import World

RELAY = ("relay-closes", "waiting-2fa", "sunday-invalidation")
"""Faults during which only the relay in front of the gateway is up: it accepts and closes."""
DOWN = ("port-closed", "nightly-restart")
"""Faults during which nothing listens."""
STREAMS = ("market data", "tick-by-tick", "market depth")
"""Subscriptions that a competing session takes away."""
DATA = (*STREAMS, "real-time bars", "history")
"""Subscriptions that are lost with the data; accounts and orders are not."""
RESTART_SECONDS = 60.0
LOST_REPEAT_SECONDS = 30.0
LOST = "Connectivity between IBKR and Trader Workstation has been lost."
RESTORED = (
    "Connectivity between IBKR and Trader Workstation has been restored - data maintained. "
    "All data farms are connected: usfarm.nj; usfuture; cashfarm; usopt; ushmds; secdefnj."
)
RESTORED_LOST = "Connectivity between IBKR and Trader Workstation has been restored - data lost."
BROKEN_FARMS = (
    (2103, "Market data farm connection is broken:usfarm.nj"),
    (2105, "HMDS data farm connection is broken:ushmds"),
    (2157, "Sec-def data farm connection is broken:secdefnj"),
)
INACTIVE = "Market data farm connection is inactive but should be available upon demand.usfarm.nj"
TOO_FAST = "Max rate of messages per second has been exceeded:max=50 rec=51 (1)"
MODULES = ("contracts", "market_data", "history", "realtime", "orders", "account")
"""Modules of `simulator.tws` that register handlers."""


class ConnectionFaults:
    """Joins the register of faults with one server's connections."""

    def __init__(self, server: TwsServer) -> None:
        self.server = server
        self.world = server.world
        self._repeat: Timer | None = None
        self._ending: int | None = None
        on_start, on_end = self.world.faults.on_start, self.world.faults.on_end
        on_start("fin", lambda _: server.each(Connection.close))
        on_start("rst", lambda _: server.each(Connection.abort))
        on_start("half-open", lambda _: server.each(Connection.die))
        on_end("half-open", lambda _: self._bury())
        on_start("frames-cut", lambda _: self._tell(2108, INACTIVE))
        on_start("rate-exceeded", lambda _: self._tell(100, TOO_FAST))
        on_end("slow-login", lambda _: self._greet())
        on_start("competing-session", lambda _: self._compete())
        for name in RELAY:
            on_start(name, lambda _: server.each(Connection.close))
        for name in DOWN:
            on_start(name, self._go_down)
            on_end(name, lambda _: self._come_up())
        on_start("upstream-lost", lambda _: self._lose())
        on_end("upstream-lost", self._found)
        on_start("upstream-restored", lambda _: self._restored(1102))
        on_start("upstream-restored-data-lost", lambda _: self._restored(1101))

    def _tell(self, code: int, message: str) -> None:
        for session in list(self.world.sessions):
            session.error(-1, code, message)

    def _bury(self) -> None:
        """The host is back and does not know the connections of before: it resets them."""
        for connection in list(self.server.connections):
            if connection.dead:
                connection.abort()

    def _greet(self) -> None:
        for connection in list(self.server.connections):
            if connection.session and connection.session.started:
                connection.session.unsubscribe("login", 0)
                greet(connection.session)

    def _compete(self) -> None:
        for session in list(self.world.sessions):
            for kind, request_id in list(session.subscriptions):
                if kind in STREAMS:
                    session.error(request_id, 10197, COMPETING)

    def _go_down(self, fault: Fault) -> None:
        self.server.shut()
        self.server.each(Connection.close)
        if fault.name == "nightly-restart" and fault.seconds is None:
            fault.timer = self.world.clock.later(
                RESTART_SECONDS, lambda: self.world.faults.clear(fault.name)
            )

    def _come_up(self) -> None:
        if not any(self.world.faults.active(name) for name in DOWN):
            self.server.reopen()

    def _lose(self) -> None:
        self._tell(1100, LOST)
        for code, message in BROKEN_FARMS:
            self._tell(code, message)
        self._stop_repeating()
        self._repeat = self.world.clock.every(LOST_REPEAT_SECONDS, lambda: self._tell(1100, LOST))

    def _found(self, fault: Fault) -> None:
        """The loss ends; with the parameter `silent` nobody is told."""
        if fault.parameters.get("silent") and self._ending is None:
            self._stop_repeating()
        else:
            self._restore(1102)

    def _stop_repeating(self) -> None:
        if self._repeat:
            self._repeat.cancel()
            self._repeat = None

    def _restored(self, code: int) -> None:
        """The fault that says how the loss ends: with 1102, or with 1101 and nothing subscribed."""
        if not self.world.faults.active("upstream-lost"):
            self._restore(code, lost=True)
            return
        self._ending = code
        self.world.faults.clear("upstream-lost")

    def _restore(self, code: int, *, lost: bool = False) -> None:
        if self._repeat is None and not lost:
            return
        self._stop_repeating()
        code, self._ending = self._ending or code, None
        if code == 1101:
            for session in list(self.world.sessions):
                session.drop_subscriptions(DATA)
        self._tell(code, RESTORED_LOST if code == 1101 else RESTORED)
        for farm, message in FARMS:
            self._tell(farm, message)


LARGEST = 4096
"""Connections at a time; further ones are reset."""
REOPEN_SECONDS = 0.2
POLL_SECONDS = 0.02
POLLS = 3
"""How far back the moment lies before which all that came was read: the loop may poll before it
reads in this turn, and may have been held up before it polled in the last one."""


class TwsServer:
    """Accepts clients on one port; `port` is the one that it got."""

    def __init__(self, world: World) -> None:
        load()
        self.world = world
        self.connections: set[Connection] = set()
        self.port = 0
        self._listen = ""
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._poller: asyncio.TimerHandle | None = None
        self.polled = math.inf
        """When the loop was last known to read what has come; what it reads now came after that.
        Only kept while messages above the rate limit are refused."""
        self._polls: deque[float] = deque(maxlen=POLLS)
        ConnectionFaults(self)

    async def start(self, listen: str, port: int) -> None:
        """Begin to listen; port 0 takes a free one."""
        self._listen = listen
        self.port = port
        if self.world.options.pacing == "reject":
            self._poll()
        await self._open()

    async def close(self) -> None:
        """Stop listening and drop every client."""
        if self._poller:
            self._poller.cancel()
        self.shut()
        self.each(Connection.abort)
        await asyncio.sleep(0)

    def shut(self) -> None:
        """Stop listening: the next client is refused."""
        if self._opening:
            self._opening.cancel()
            self._opening = None
        if self._server:
            self._server.close()
            self._server = None

    def reopen(self) -> None:
        """Listen again on the same port."""
        if self._server is None and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._keep_opening())

    def each(self, act: Callable[[Connection], None]) -> None:
        """Do something to every connection."""
        for connection in list(self.connections):
            act(connection)

    def accepted(self, connection: Connection) -> None:
        """A client connected: what awaits it depends on the faults of the moment."""
        self.connections.add(connection)
        if len(self.connections) > LARGEST:
            connection.abort()
        elif any(self.world.faults.active(name) for name in RELAY):
            connection.close()
        elif self.world.faults.active("accept-silent"):
            connection.silent = True

    def lost(self, connection: Connection) -> None:
        """A client's socket is gone."""
        self.connections.discard(connection)

    def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        self._polls.append(loop.time())
        self.polled = self._polls[0]
        self._poller = loop.call_later(POLL_SECONDS, self._poll)

    async def _keep_opening(self) -> None:
        while self._server is None:
            try:
                await self._open()
            except OSError:  # the kernel has not let go of the port yet
                await asyncio.sleep(REOPEN_SECONDS)
        self._opening = None

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self.world, self), self._listen, self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]


def load() -> dict[int, Handler]:
    """Import every module and give the complete register."""
    for name in MODULES:
        importlib.import_module(f"simulator.tws.{name}")
    return HANDLERS


SCANNER_PARAMETERS, DISPLAY_GROUPS, DISPLAY_GROUP = 19, 67, 68
SOFT_DOLLAR_TIERS, FAMILY_CODES, NEWS_PROVIDERS, USER_INFO = 77, 78, 85, 107
SCANNER_XML = (
    '<?xml version="1.0" encoding="UTF-8"?><ScanParameterResponse><InstrumentList/>'
    "<LocationTree/><ScanTypeList/><FilterList/></ScanParameterResponse>"
)


class Refusal(NamedTuple):
    """An error for a request; `place` is where the request's id stands, None for none."""

    code: int
    text: str
    place: int | None = 0


ADVISORS_ONLY = Refusal(321, "FA data operations ignored for non FA customers.", None)
VERIFY = Refusal(321, "Error validating request.-'bZ' : cause - Verification is not enabled", None)
NO_NEWS = Refusal(10276, "News feed is not allowed.")
REFUSALS: dict[int, Refusal] = {
    18: ADVISORS_ONLY,
    19: ADVISORS_ONLY,
    22: Refusal(
        162, "Historical Market Data Service error message:Scanner is not available for login"
    ),
    23: Refusal(365, "No scanner subscription found", 1),
    52: Refusal(10358, "Fundamentals data is not allowed.", 1),
    65: VERIFY,
    66: VERIFY,
    72: VERIFY,
    73: VERIFY,
    84: NO_NEWS,
    86: NO_NEWS,
    100: NO_NEWS,
    102: NO_NEWS,
}
"""Request -> what it is refused with."""
SILENT = (12, 13, 53, 69, 70, 101, 103)
"""Requests that have no answer when there is nothing to report, and cancels of refused ones."""


def _refuses(refusal: Refusal) -> Handler:
    def refuse(session: Session, fields: Reader) -> None:
        request_id = -1
        if refusal.place is not None:
            fields.skip(refusal.place)
            request_id = fields.integer()
        session.error(request_id, refusal.code, refusal.text)

    return refuse


def _accept(session: Session, fields: Reader) -> None:
    """There is nothing to tell."""


for _message, _refusal in REFUSALS.items():
    handles(_message)(_refuses(_refusal))
for _message in SILENT:
    handles(_message)(_accept)


@handles(24)
def request_scanner_parameters(session: Session, fields: Reader) -> None:
    """Send a document without any scan."""
    session.send(SCANNER_PARAMETERS, 1, SCANNER_XML)


@handles(67)
def query_display_groups(session: Session, fields: Reader) -> None:
    """A gateway has no windows, hence no groups."""
    fields.skip(1)
    session.send(DISPLAY_GROUPS, 1, fields.integer(), "")


@handles(68)
def subscribe_to_group_events(session: Session, fields: Reader) -> None:
    """A gateway has no windows, hence nothing selected."""
    fields.skip(1)
    session.send(DISPLAY_GROUP, 1, fields.integer(), "none")


@handles(79)
def request_soft_dollar_tiers(session: Session, fields: Reader) -> None:
    """There are none."""
    session.send(SOFT_DOLLAR_TIERS, fields.integer(), 0)


@handles(80)
def request_family_codes(session: Session, fields: Reader) -> None:
    """Each account, in no family."""
    accounts = [part for account in session.world.accounts for part in (account, "")]
    session.send(FAMILY_CODES, len(session.world.accounts), *accounts)


@handles(85)
def request_news_providers(session: Session, fields: Reader) -> None:
    """There are none."""
    session.send(NEWS_PROVIDERS, 0)


@handles(104)
def request_user_info(session: Session, fields: Reader) -> None:
    """The login belongs to no white-branded broker."""
    session.send(USER_INFO, fields.integer(), "")
