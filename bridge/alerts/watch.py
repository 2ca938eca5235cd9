"""Looks every few seconds whether a condition holds that a person has to know of.

`install` puts the watches together, and the alerts where an address file is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

from prometheus_client import CollectorRegistry

from bridge.alerts.host_watch import HostWatch
from bridge.alerts.memory import Memory
from bridge.alerts.messages import AlertKind
from bridge.alerts.service import AlertService, alerts_of
from bridge.clock import Clock, going_on, settle
from bridge.environment import Environment
from bridge.login import states
from bridge.login.model import Login
from bridge.orders.cancel import CancelResult
from bridge.orders.health import OrderAlerts
from bridge.orders.journal import OrderJournal
from bridge.orders.silence import SilenceWatch
from bridge.portal.service import PortalService, SessionView
from bridge.portal.state import PortalState
from bridge.quantity import plain
from bridge.services import Services
from bridge.store.condition import JournalCondition
from bridge.store.orders import OrderRecord
from bridge.store.quarantine import Entry
from bridge.tws import advice
from bridge.tws.connection_context import UPGRADE_STEP, ConnectionContext
from bridge.tws.connection_state import ConnectionState, Socket, can_trade
from bridge.tws.session import TwsSession

PortalLook = Callable[[], SessionView]
LOOK_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 60.0
LOGIN_KINDS: Final = (
    AlertKind.WAITING_2FA,
    AlertKind.BAD_CREDENTIALS,
    AlertKind.LOGIN_LOCKED,
    AlertKind.LOGIN_BLOCKED,
)
HELD_KINDS: Final = {
    "bad-credentials": AlertKind.BAD_CREDENTIALS,
    "account-locked": AlertKind.LOGIN_LOCKED,
}
UNDER_WAY: Final = (states.STARTING, states.LOGGING_IN, states.RESTARTING, states.UNKNOWN)
"""States that lead to another one soon: what was told stays told until then."""


class ConditionWatch:
    """Compares what is known with what a person has to know.

    Args:
        alerts: told of conditions.
        context: the state of the TWS session.
        clock: counts how long the connection has been lost.
        lost_seconds: after this long without a connection it is told.
        journal: whether what has to be kept can be kept.
    """

    def __init__(
        self,
        alerts: AlertService,
        context: ConnectionContext,
        clock: Clock,
        *,
        lost_seconds: float,
        journal: JournalCondition | None = None,
    ) -> None:
        self._alerts = alerts
        self._context = context
        self._clock = clock
        self._lost_seconds = lost_seconds
        self._journal = journal or JournalCondition()
        self._lost_since: float | None = None
        self._back_since: float | None = None
        self._interrupted = False
        self._lost_told = False

    async def run(self, portal: PortalLook) -> None:
        """Looks until cancelled; `portal` tells the Client Portal session as it was last seen."""
        while True:
            with going_on("conditions"):
                self.look(portal())
            with going_on("alerts"):
                self._alerts.tend()
            await self._clock.sleep(LOOK_SECONDS)

    def look(self, portal: SessionView) -> None:
        """One look at everything; what one breaks on keeps the others from nothing."""
        looks: tuple[tuple[str, Callable[[], None]], ...] = (
            ("connection", self._look_at_connection),
            ("login", self._look_at_login),
            ("portal", lambda: self._look_at_portal(portal)),
            ("journal", self._look_at_journal),
            ("version", self._look_at_version),
            ("clock", self._look_at_clock),
        )
        for name, look in looks:
            with going_on(name):
                look()

    def _look_at_clock(self) -> None:
        if self._context.clock_is_off:
            self._alerts.raised(
                AlertKind.CLOCK, f"Orders go on, but {self._context.clock_words()}."
            )
        elif self._context.clock_skew is not None:
            self._alerts.cleared(AlertKind.CLOCK)

    def _look_at_journal(self) -> None:
        trouble = self._journal.trouble or self._journal.not_accepted
        if trouble is None:
            self._alerts.cleared(AlertKind.JOURNAL)
        else:
            body = f"No order is placed: {trouble.what}.\n\n{trouble.next_step}"
            about = "disk" if self._journal.trouble is not None else "not accepted"
            self._alerts.raised(AlertKind.JOURNAL, body, about)

    def _look_at_connection(self) -> None:
        context, now = self._context, self._clock.monotonic()
        if can_trade(context.status.facts):
            self._is_back(now)
            self._alerts.cleared(AlertKind.CONNECTION_LOST)
            return
        self._interrupted = self._interrupted or self._back_since is not None
        self._back_since = None
        if self._lost_since is None:
            self._lost_since, self._interrupted = now, False
        lost = now - self._lost_since
        # A planned restart is no alarm, unless it is still going on after its time.
        if lost >= self._lost_seconds and not context.expected_now():
            self._lost_told = True
            but = ", but for moments" if self._interrupted else ""
            what = f"For {lost / 60:.0f} minutes{but}: {advice.explain(context.situation())}."
            self._alerts.raised(
                AlertKind.CONNECTION_LOST, f"{what}\n\n{advice.next_action(context.situation())}"
            )

    def _is_back(self, now: float) -> None:
        """A loss is over when it was told, or when the connection has lasted for a while.

        One that comes and goes for hours would never be told else.
        """
        self._back_since = now if self._back_since is None else self._back_since
        if self._lost_told or now - self._back_since >= STEADY_SECONDS:
            self._lost_since, self._lost_told = None, False

    def _look_at_version(self) -> None:
        """What a gateway has announced holds until another one is ready and announces nothing."""
        if (words := self._context.version_words()) is not None:
            body = f"{words}. Its logins fail then.\n\n{UPGRADE_STEP}"
            self._alerts.raised(AlertKind.VERSION_ENDS, body)
        elif can_trade(self._context.status.facts):
            self._alerts.forgotten(AlertKind.VERSION_ENDS)

    def _look_at_login(self) -> None:
        """Good news is only told when the gateway is logged in, not when it waits no longer."""
        login = self._context.login()
        if login is None:
            self._look_without_file()
            return
        other = self._context.other_login_file.read(self._clock.now().timestamp())
        logins = [login] if other is None else [login, other]
        holds = {_condition(each): each for each in reversed(logins)}  # of two the own one
        for kind in LOGIN_KINDS:
            if kind in holds:
                self._tell_login(kind, holds[kind], named=other is not None)
            elif all(each.state == states.LOGGED_IN for each in logins):
                self._alerts.cleared(kind)
            elif any(holds) or not any(each.state in UNDER_WAY for each in logins):
                self._alerts.forgotten(kind)

    def _tell_login(self, kind: AlertKind, login: Login, *, named: bool) -> None:
        text = advice.of_login(login)
        about = f"{login.session} {login.code or ''} {login.window or ''}"
        self._alerts.raised(kind, f"({login.session}) {text}" if named else text, about)

    def _look_without_file(self) -> None:
        """What follows a wait tells whether it ended well; on the way to that nothing is told."""
        status = self._context.status
        if status.state is ConnectionState.WAITING_FOR_2FA:
            self._alerts.raised(
                AlertKind.WAITING_2FA, advice.next_action(self._context.situation())
            )
        elif status.facts.socket is Socket.UP:
            self._alerts.cleared(AlertKind.WAITING_2FA)
        elif status.state is ConnectionState.WAITING_FOR_GATEWAY:
            self._alerts.forgotten(AlertKind.WAITING_2FA)

    def _look_at_portal(self, portal: SessionView) -> None:
        if portal.state is PortalState.LOGIN_REQUIRED:
            self._alerts.raised(
                AlertKind.PORTAL_LOGIN, f"{portal.next_action}: {portal.login_url or ''}"
            )
        elif portal.state in {PortalState.CONNECTED, PortalState.OFF}:
            self._alerts.cleared(AlertKind.PORTAL_LOGIN)


def _condition(login: Login) -> AlertKind | None:
    """What a person has to know of a login."""
    if login.state == states.WAITING_2FA:
        return None if login.automatic else AlertKind.WAITING_2FA
    if login.state == states.HELD:
        return HELD_KINDS.get(login.code or "", AlertKind.LOGIN_BLOCKED)
    return AlertKind.LOGIN_BLOCKED if login.state == states.BLOCKED else None


def order_text(record: OrderRecord) -> str:
    """What a person needs to find the order."""
    terms = record.terms
    return (
        f"{terms.action} {plain(terms.quantity)} {record.symbol} (id {record.id}, reference"
        f" {record.order_ref}). Look for it in TWS or the Client Portal before you order again."
    )


def silence_text(key: str, result: CancelResult) -> str:
    """What a person needs to look after the client."""
    cancelled, kept = len(result.requested), len(result.kept)
    return (
        f"No heartbeat of the key {key} came in time. Cancelled: {cancelled} open orders; {kept}"
        " that only close a position stay, and trading goes on. The client's next heartbeat, or"
        " DELETE /trading/heartbeat with its key, ends this."
    )


def waiting_text(key: str, why: str) -> str:
    """What a person needs to do what cannot be done now."""
    return (
        f"No heartbeat of the key {key} came in time, and its open orders could not be cancelled"
        f" yet: {why}. It is tried again until it can be done; TWS or the Client Portal can cancel"
        " them now."
    )


def set_aside_text(entry: Entry) -> str:
    """What a person needs to find out what the message was."""
    return (
        f"{entry.kind} {entry.name[:80]}: {entry.cause[:200]}. Everything else goes on."
        " GET /journal shows it; compare the order and its fills with TWS, then"
        " DELETE /journal/quarantine."
    )


def host_watch_of(
    environment: Environment, alerts: AlertService | None, clock: Clock, registry: CollectorRegistry
) -> HostWatch:
    """The watch over disk and certificate that the environment asks for."""
    address = environment.tls_address
    return HostWatch(
        alerts,
        clock,
        registry,
        folder=environment.data_dir,
        least_megabytes=environment.alert_disk_megabytes,
        address=address,
        name=environment.tls_name or (address[0] if address else ""),
    )


def install(services: Services) -> None:
    """Watches disk and certificate; with an address file, provides the alerts and tells."""
    environment = services.environment
    memory = Memory(environment.data_dir)
    alerts = alerts_of(environment, services.clock, services.metrics, memory)
    host_watch = host_watch_of(environment, alerts, services.clock, services.metrics)
    work: list[Callable[[], Coroutine[None, None, None]]] = [
        host_watch.watch_disk,
        host_watch.watch_backups,
    ]
    if environment.tls_address is not None:
        work.append(host_watch.watch_certificate)
    if alerts is not None:
        services.provide(AlertService, alerts)
        services.needs.append(alerts.need)
        work.append(_conditions(services, alerts))
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        if alerts is not None:
            await alerts.start()
        tasks.extend(asyncio.create_task(each(), name="alert-watch") for each in work)

    async def stop() -> None:
        await settle(*tasks)
        if alerts is not None:
            await alerts.stop()

    services.on_start(start)
    services.on_stop(stop)


def _conditions(
    services: Services, alerts: AlertService
) -> Callable[[], Coroutine[None, None, None]]:
    """The watch over the sessions, not yet begun; orders are told of as they come."""
    environment = services.environment
    watch = ConditionWatch(
        alerts,
        services[TwsSession].context,
        services.clock,
        lost_seconds=environment.alert_lost_minutes * 60.0,
        journal=services.journal,
    )

    def tell_set_aside(entry: Entry) -> None:
        alerts.tell(AlertKind.MESSAGE_SET_ASIDE, set_aside_text(entry))

    if OrderJournal in services:
        services[OrderJournal].set_aside.listen(tell_set_aside)

    def tell_order(record: OrderRecord) -> None:
        alerts.tell(AlertKind.ORDER_UNKNOWN, order_text(record))

    if OrderAlerts in services:
        services[OrderAlerts].order_unknown.listen(tell_order)

    def tell_silence(key: str, result: CancelResult) -> None:
        alerts.tell(AlertKind.CLIENT_SILENT, silence_text(key, result))

    def tell_waiting(key: str, why: str) -> None:
        alerts.tell(AlertKind.CLIENT_SILENT, waiting_text(key, why))

    if SilenceWatch in services:
        services[SilenceWatch].fell_silent.listen(tell_silence)
        services[SilenceWatch].not_dealt_with.listen(tell_waiting)
    portal = services[PortalService]
    return lambda: watch.run(portal.last_seen)
