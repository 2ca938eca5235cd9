"""``/ping``, ``/ready``, ``/health``, ``/metrics``.

Answered from what is known, without waiting for anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import UNSET, UnsetType
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from bridge.api.auth import HEADER, authenticate_key
from bridge.api.dispatch import NOT_STORED, JsonAnswer, encoded
from bridge.api.routing import Answer, Call, Params, RouteTable
from bridge.callers import Scope
from bridge.errors import BridgeError, Kind
from bridge.login import states
from bridge.login.model import Login
from bridge.readiness import Readiness, readiness
from bridge.restart_calendar import PlannedRestart
from bridge.services import Need, Services
from bridge.tws import advice
from bridge.tws.breaker import BreakerState
from bridge.tws.connection_context import UPGRADE_STEP, ConnectionContext
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.connection_state import Socket, can_trade
from bridge.tws.errors import NotConnectedError
from bridge.tws.pacing import CANCEL_LIMIT, WINDOW_LIMIT
from bridge.tws.session import TwsSession

routes = RouteTable("health")

BUSY_QUEUE = 100
_OPEN = BreakerState.OPEN.value
CONNECT_SECONDS = 5.0
KEPT_SECONDS = 0.005
"""For so long `/health` gives its answer again, unless the state or a call changes something."""
_DEGRADED = (
    State.UPSTREAM_LOST,
    State.STALLED,
    State.SESSION_CONFLICT,
    State.READ_ONLY,
    State.HALTED,
)


class Ping(Answer):
    """Always the same."""

    status: str = "ok"


class Ready(Answer):
    """Orders can be placed; `state` is for those who have a key."""

    ready: bool
    state: str | UnsetType = UNSET


class HealthMetrics(Answer):
    """Counters since the first start.

    ``uptimeSeconds`` is of this connection, null while there is none.
    """

    total_connections: int
    total_disconnections: int
    failed_connections: int
    uptime_seconds: float | None
    availability24h: float


class Pacing(Answer):
    """How much of the broker's allowances is used: messages in a second, history in 10 minutes."""

    messages_used: int
    messages_limit: int
    history_used: int
    history_limit: int


class Journal(Answer):
    """Whether the journal takes what is written, seconds that its oldest message has waited.

    `quarantined` messages of the broker's could not be kept and were set aside.
    """

    writable: bool
    queue_age: float
    quarantined: int


class LoginView(Answer):
    """The gateway's login, as far as its container tells.

    `state` is one of starting, logging-in, waiting-2fa, waiting-broker, logged-in, restarting,
    blocked, held, stopped, unknown. `kind` (push, code, device, passkey) says what is waited for
    and `until` how long; `why` (maintenance, no-answer, throttled) why the broker does not let it
    in and `retryAt` when it is tried again; `window` is the title that nobody answers; `code`
    names the trouble: when held, nothing is tried until a person acts.
    """

    state: str
    since: datetime | None
    kind: str | None
    why: str | None
    until: datetime | None
    retry_at: datetime | None
    window: str | None
    code: str | None
    controller: str | None
    session: str | None


class Health(Answer):
    """The session as it is, the root cause of what is wrong, and what to do."""

    status: str
    state: str
    since: datetime
    connected: bool
    socket_connected: bool
    upstream_connected: bool
    trading_mode: str
    server_version: int | None
    client_id: int
    market_data_type: str | None
    next_action: str
    needs: tuple[Need, ...]
    last_disconnect_at: datetime | None
    last_disconnect_reason: str | None
    last_ib_error_at: datetime | None
    last_ib_error_code: int | None
    last_ib_error_message: str | None
    last_reconnect_attempt_at: datetime | None
    last_reconnect_error: str | None
    reconnect_attempts: int
    reconnect_failures: int
    last_heartbeat_at: datetime | None
    last_heartbeat_error: str | None
    heartbeat_failures: int
    heartbeat_milliseconds: float | None
    metrics: HealthMetrics
    accounts: tuple[str, ...]
    client_library: str
    circuits: dict[str, str]
    queue: dict[str, int]
    pacing: Pacing
    pending: int
    farms: dict[str, str]
    next_restart: PlannedRestart | None
    restart_under_way: bool
    journal: Journal
    login: LoginView
    logins: tuple[LoginView, ...]
    clock: datetime
    clock_skew: float | None


def needs(services: Services) -> tuple[Need, ...]:
    """All that only a person can mend, the most urgent first; empty: nothing is needed."""
    asked = (*(ask() for ask in services.needs), *_login_needs(services))
    return tuple(each for each in asked if each is not None)


def _login_needs(services: Services) -> Iterator[Need]:
    context, now = services[TwsSession].context, services.clock.now()
    for login in (context.login(), context.other_login_file.read(now.timestamp())):
        if login is not None and login.state in states.FOR_A_PERSON and not login.automatic:
            trouble = states.TROUBLES.get(login.code or "")
            step = trouble.hint if trouble else "./deploy.py login says what it waits for"
            whose = f" ({login.session})" if login.session else ""
            yield Need(
                code=f"login-{login.state}",
                message=f"The gateway's login{whose}: {login.told}",
                next_step=step,
            )
    if (words := context.version_words()) is not None:
        yield Need(code="version-ends", message=words, next_step=UPGRADE_STEP)
    if context.clock_is_off:
        yield Need(code="clock", message="The clocks differ", next_step=context.clock_words())


class HealthParams(Params, frozen=True):
    """``connect=true`` makes one connect attempt first, bounded to a few seconds."""

    connect: bool = False


def login_view(login: Login | None, session: str | None) -> LoginView:
    """The view of a login; of none, that nothing is known."""
    shown = login or Login(session)
    return LoginView(
        state=shown.state,
        since=_moment(shown.since),
        kind=shown.kind,
        why=shown.why,
        until=_moment(shown.until),
        retry_at=_moment(shown.retry_at),
        window=shown.window,
        code=shown.code,
        controller=shown.controller,
        session=shown.session,
    )


def _guessed(context: ConnectionContext) -> Login:
    """Where nothing tells of the login: as the connection's state has it, else unknown."""
    login = Login(context.target.session)
    if context.status.state is State.WAITING_FOR_2FA:
        login.state, login.since = states.WAITING_2FA, context.status.since.timestamp()
    return login


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(int(at), UTC)


def health(services: Services) -> Health:
    """A snapshot; takes microseconds whatever is stuck."""
    session = services[TwsSession]
    context, record = session.context, session.context.diagnostics.record
    facts, now = context.status.facts, services.clock.now()
    found, needed, condition = readiness(services), needs(services), services.journal
    degraded = found.state is State.READY and (
        condition.quarantined > 0 or context.clock_is_off or found.over is not None
    )
    own = login_view(context.login() or _guessed(context), services.environment.trading_mode)
    other = context.other_login_file.read(now.timestamp())
    return Health(
        status="degraded" if degraded else _status(session, found.state),
        state=found.state.value,
        since=context.status.since,
        connected=can_trade(facts),
        socket_connected=facts.socket is not Socket.NONE,
        upstream_connected=facts.socket is Socket.UP and facts.upstream and facts.heartbeat,
        trading_mode=services.environment.trading_mode,
        server_version=session.server_version or None,
        client_id=session.client_id,
        market_data_type=session.market_data_type,
        next_action=_next_action(services, found, needed),
        needs=needed,
        last_disconnect_at=record.last_disconnect_at,
        last_disconnect_reason=record.last_disconnect_reason,
        last_ib_error_at=record.last_ib_error_at,
        last_ib_error_code=record.last_ib_error_code,
        last_ib_error_message=record.last_ib_error_message,
        last_reconnect_attempt_at=record.last_reconnect_attempt_at,
        last_reconnect_error=record.last_reconnect_error,
        reconnect_attempts=record.reconnect_attempts,
        reconnect_failures=record.reconnect_failures,
        last_heartbeat_at=record.last_heartbeat_at,
        last_heartbeat_error=record.last_heartbeat_error,
        heartbeat_failures=record.heartbeat_failures,
        heartbeat_milliseconds=context.diagnostics.heartbeat_milliseconds,
        metrics=HealthMetrics(
            total_connections=record.total_connections,
            total_disconnections=record.total_disconnections,
            failed_connections=record.failed_connections,
            uptime_seconds=context.diagnostics.uptime_seconds(),
            availability24h=context.diagnostics.availability(),
        ),
        accounts=session.accounts,
        client_library=session.library,
        circuits=context.breakers.shown(),
        queue=context.pacer.depth(),
        pacing=Pacing(
            messages_used=context.pacer.used(),
            messages_limit=CANCEL_LIMIT,
            history_used=session.queries.history_rules.used(context.clock.monotonic()),
            history_limit=WINDOW_LIMIT,
        ),
        pending=len(context.requests),
        farms=dict(context.diagnostics.farms),
        next_restart=context.target.restarts.following(now),
        restart_under_way=context.target.restarts.active(now) is not None,
        journal=Journal(
            writable=condition.writable,
            queue_age=round(condition.queue_age, 1),
            quarantined=condition.quarantined,
        ),
        login=own,
        logins=(own,) if other is None else (own, login_view(other, other.session)),
        clock=now,
        clock_skew=context.clock_skew,
    )


def _next_action(services: Services, found: Readiness, needed: tuple[Need, ...]) -> str:
    context, over, trouble = services[TwsSession].context, found.over, services.journal.trouble
    action = advice.next_action(context.situation())
    if over is not None:
        hides = over.state is not State.READY or action == advice.ALL_IS_WELL
        return over.next_action if hides else f"{over.next_action}. {action}"
    if trouble is not None:
        return f"{trouble.what}: {trouble.next_step}. {action}"
    if found.state is not State.READY or action != advice.ALL_IS_WELL:
        return action
    if needed:
        more = f" (and {len(needed) - 1} more)" if len(needed) > 1 else ""
        return f"{needed[0].message}. {needed[0].next_step}{more}"
    silent = [kind for kind, word in context.breakers.shown().items() if word == _OPEN]
    if silent:
        return (
            f"{', '.join(silent)}: the gateway has answered no such request lately, and the next"
            " one is tried in seconds; all else goes on. Restart the gateway if it lasts"
        )
    return action


def _status(session: TwsSession, state: State) -> str:
    context = session.context
    if state is State.READY:
        if any(word == _OPEN for word in context.breakers.shown().values()):
            return "degraded"
        return "busy" if max(context.pacer.depth().values()) > BUSY_QUEUE else "ok"
    if state in _DEGRADED and context.status.facts.socket is Socket.UP:
        return "degraded"
    return "down"


@routes.get("/ping", answer=Ping, scope=Scope.PUBLIC)
async def ping(call: Call[None, None]) -> Ping:
    """Says that the process serves; never waits for anything of the gateway's."""
    return Ping()


class NotReadyError(BridgeError):
    """All that anybody is told; why, is for those who have a key."""

    code = "not-ready"
    kind = Kind.UNAVAILABLE
    next_step = "Ask again with a key to learn why, or wait"


class ReadyParams(Params, frozen=True):
    """With a key the answer says why."""

    key: str | None = None


@routes.get(
    "/ready",
    params=ReadyParams,
    headers={"key": HEADER},
    answer=Ready,
    scope=Scope.PUBLIC,
    statuses={
        401: "The key that was sent is not valid",
        429: "Too many wrong keys from this address",
        503: "Orders could not be placed now",
    },
)
async def ready(call: Call[ReadyParams, None]) -> Ready:
    """200 when orders could be placed now, else 503.

    Anybody may ask; the state and the reason are told to those who send a key.
    """
    services = call.services
    known = call.params.key is not None
    if known:
        authenticate_key(services, call.params.key, call.address, Scope.READ)
    try:
        session = services[TwsSession]
        session.require_ready()
        found = readiness(services)
        if found.over is not None and not found.takes_orders:
            raise NotConnectedError(
                f"the session is ready, but {found.state.value}",
                next_step=found.over.next_action,
                extra={"state": found.state.value},
            )
    except BridgeError:
        if known:
            raise
        raise NotReadyError("orders could not be placed now") from None
    return Ready(ready=True, state=session.state.value if known else UNSET)


@routes.get("/health", params=HealthParams, answer=Health)
async def show_health(call: Call[HealthParams, None]) -> Response:
    """The session's state, its root cause, and what to do.

    Answers in any state of the gateway; `connect=true` first makes one connect attempt if there is
    no session.
    """
    services = call.services
    if call.params.connect:
        await services[TwsSession].supervisor.attempt(CONNECT_SECONDS)
        services.something_changed()
    until, body = services.health_answer
    now = time.monotonic()
    if now >= until:
        body = encoded(health(services))
        services.health_answer = (now + KEPT_SECONDS, body)
    return JsonAnswer(body, 200, NOT_STORED)


@routes.get("/metrics", answer=str, media_types=("text/plain",))
async def metrics(call: Call[None, None]) -> Response:
    """Prometheus text."""
    text = generate_latest(call.services.metrics)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
