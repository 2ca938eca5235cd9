"""Messages about the connection itself: start, accounts, ids, time, logging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.tws.registry import handles

if TYPE_CHECKING:
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

NEXT_VALID_ID = 9
MANAGED_ACCOUNTS = 15
CURRENT_TIME = 49

FARMS = (
    (2104, "Market data farm connection is OK:usfarm.nj"),
    (2104, "Market data farm connection is OK:usfuture"),
    (2104, "Market data farm connection is OK:cashfarm"),
    (2104, "Market data farm connection is OK:usopt"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2158, "Sec-def data farm connection is OK:secdefnj"),
)
IN_USE = "Unable to connect as the client id is already in use. Retry with a unique client id."
UPSTREAM_BROKEN = (
    "Connectivity between Trader Workstation and server is broken. "
    "It will be restored automatically."
)
CLOSE_AFTER_START_SECONDS = 0.5
SLOW_LOGIN_SECONDS = 20.0
READ_ONLY = "Error validating request.-'xx' : cause - API interface is currently in Read-Only mode."


@handles(71)
def start_api(session: Session, fields: Reader) -> None:
    """Give the client its accounts and next valid id, unless its id is taken."""
    fields.integer()
    client_id = fields.integer()
    world = session.world
    if session.started:
        return
    taken = any(each.client_id == client_id for each in world.sessions)
    if taken or world.faults.active("client-id-in-use"):
        session.error(-1, 326, IN_USE)
        session.close()
        return
    session.client_id = client_id
    session.started = True
    if world.faults.active("close-after-start"):
        world.clock.later(CLOSE_AFTER_START_SECONDS, session.close)
    slow = world.faults.get("slow-login")
    if slow:
        wait = float(slow.parameters.get("delay", SLOW_LOGIN_SECONDS))
        hold = world.clock.later(wait, lambda: greet(session))
        session.subscribe("login", 0, hold.cancel)
    else:
        greet(session)


def greet(session: Session) -> None:
    """What a gateway says unasked once the client has started."""
    if session.ready or session.closed:
        return
    session.ready = True
    world = session.world
    session.send(MANAGED_ACCOUNTS, 1, ",".join(world.accounts))
    session.send(NEXT_VALID_ID, 1, world.next_order_id())
    if world.faults.active("upstream-lost"):
        session.error(-1, 2110, UPSTREAM_BROKEN)
    else:
        for code, message in FARMS:
            session.error(-1, code, message)
    world.session_ready(session)
    session.pipe.session_ready()


@handles(8)
def request_ids(session: Session, fields: Reader) -> None:
    """Give the next valid id again."""
    fields.skip(2)
    session.send(NEXT_VALID_ID, 1, session.world.next_order_id())


@handles(17)
def request_managed_accounts(session: Session, fields: Reader) -> None:
    """List the accounts of this login."""
    fields.skip(1)
    session.send(MANAGED_ACCOUNTS, 1, ",".join(session.world.accounts))


@handles(49)
def request_current_time(session: Session, fields: Reader) -> None:
    """Give the broker's time in whole seconds; a second request within a second is ignored."""
    fields.skip(1)
    now = session.world.clock.time()
    if now - session.last_current_time >= 1.0:
        session.last_current_time = now
        session.send(CURRENT_TIME, 1, int(now))


@handles(14)
def set_server_log_level(session: Session, fields: Reader) -> None:
    """Take the log level, 1 to 5; there is no answer."""
    fields.skip(1)
    level = fields.integer()
    if not 1 <= level <= 5:
        session.error(-1, 319, f"Invalid log level {level}")
