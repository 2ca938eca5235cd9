"""What happened to the connection, and dropping it on purpose."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from bridge.api.health import Health, health
from bridge.api.routing import Answer, Call, Params, RouteTable
from bridge.callers import Scope
from bridge.store.database import Database
from bridge.store.diagnostics import Availability, availability
from bridge.tws.session import TwsSession

routes = RouteTable("connection", gateway=True)
RECONNECT_SECONDS = 5.0


class ConnectionEventAnswer(Answer):
    """One event; `kind` is a short stable word, `detail` what explains it."""

    sequence: int
    at: datetime
    kind: str
    detail: dict[str, Any]


class ConnectionEvents(Answer):
    """The last events, oldest first."""

    events: list[ConnectionEventAnswer]


class GatewayTime(Answer):
    """The gateway's clock, and how far the bridge's is from it, to the second."""

    time: datetime
    offset_seconds: float


class EventsParams(Params, frozen=True):
    """At most `limit` events; those with a sequence above `after`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 100
    after: Annotated[int, Meta(ge=0)] = 0


@routes.get("/connection/events", params=EventsParams, answer=ConnectionEvents)
async def events(call: Call[EventsParams, None]) -> ConnectionEvents:
    """The last 100 events of the connection."""
    kept = call.services[TwsSession].context.diagnostics.events
    found = [event for event in kept if event.sequence > call.params.after]
    return ConnectionEvents(
        events=[
            ConnectionEventAnswer(
                sequence=event.sequence, at=event.at, kind=event.kind, detail=event.detail
            )
            for event in found[-call.params.limit :]
        ]
    )


class AvailabilityParams(Params, frozen=True):
    """How many days back."""

    days: Annotated[int, Meta(ge=1, le=31)] = 1


@routes.get("/connection/availability", params=AvailabilityParams, answer=Availability)
async def recorded_states(call: Call[AvailabilityParams, None]) -> Availability:
    """In which states the session was over the last days, each with its cause."""
    now, days = call.services.clock.now(), call.params.days
    database = call.services[Database]
    return await database.read(lambda connection: availability(connection, now, days))


@routes.get("/connection/time", answer=GatewayTime)
async def time(call: Call[None, None]) -> GatewayTime:
    """Asks the gateway for its time: one round trip through the whole bridge."""
    answer = await call.services.gateway.queries.current_time()
    offset = (call.services.clock.now() - answer).total_seconds()
    return GatewayTime(time=answer, offset_seconds=round(offset, 1))


@routes.post("/connection/reconnect", answer=Health, scope=Scope.ADMIN)
async def reconnect(call: Call[None, None]) -> Health:
    """Drops the connection and dials again.

    Waits a few seconds for the result; the answer is the health afterwards. What is pending fails.
    """
    supervisor = call.services[TwsSession].supervisor
    supervisor.reconnect(f"asked for by key {call.principal.key_id}")
    await supervisor.attempt(RECONNECT_SECONDS)
    return health(call.services)
