"""Routes: the Client Portal session, and the few read calls that are passed through."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bridge.api.routing import Call, Params, Reply, RouteTable
from bridge.callers import Scope
from bridge.portal.service import PortalService, SessionView

routes = RouteTable("portal", gateway=True)

QueryText = Annotated[str, Meta(max_length=400)]


class SessionParams(Params, frozen=True):
    """How to look."""

    check: Annotated[
        bool,
        Meta(description="false: tell what was last seen, without asking the gateway"),
    ] = True


class RecoveryParams(Params, frozen=True):
    """How far a recovery may go."""

    compete: Annotated[
        bool | None,
        Meta(description="Whether it may take the session from another login of the same user"),
    ] = None


class PassThroughParams(Params, frozen=True):
    """A path below the Web API's `/v1/api`, and every query parameter that any of them takes."""

    path: Annotated[str, Meta(max_length=120)]
    account_id: QueryText | None = None
    bar: QueryText | None = None
    conid: QueryText | None = None
    conids: QueryText | None = None
    days: QueryText | None = None
    direction: QueryText | None = None
    exchange: QueryText | None = None
    fields: QueryText | None = None
    filters: QueryText | None = None
    force: QueryText | None = None
    name: QueryText | None = None
    outside_rth: QueryText | None = None
    period: QueryText | None = None
    sec_type: QueryText | None = None
    since: QueryText | None = None
    sort: QueryText | None = None
    start_time: QueryText | None = None
    symbol: QueryText | None = None
    symbols: QueryText | None = None

    def query(self) -> dict[str, str]:
        """The query parameters that were given, by their names on the wire."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return {name: text for name, text in values.items() if text is not None and name != "path"}


@routes.get("/session", params=SessionParams, answer=SessionView)
async def session(call: Call[SessionParams, None]) -> SessionView:
    """The Client Portal session.

    Asks the gateway when the last answer is older than five seconds, and opens a closed brokerage
    session again on the way. Answers within five seconds, with `state` `off` when no Client Portal
    is configured.
    """
    portal = call.services[PortalService]
    return await portal.session() if call.params.check else portal.last_seen()


@routes.post(
    "/session/recover",
    params=RecoveryParams,
    recorded=("compete",),
    answer=SessionView,
    scope=Scope.TRADE,
    statuses={404: "no Client Portal is configured", 409: "another login holds the session"},
)
async def recover(call: Call[RecoveryParams, None]) -> SessionView:
    """Opens the brokerage session again, now.

    However many ask at once, one attempt is made. 409 while another login holds the session and
    `compete` was not given, 503 when a person has to log in or the gateway does not answer.
    """
    return await call.services[PortalService].recover(compete=call.params.compete)


@routes.get(
    "/portal/{path:path}",
    params=PassThroughParams,
    answer=Any,
    statuses={404: "no Client Portal is configured", 409: "another login holds the session"},
)
async def pass_through(call: Call[PassThroughParams, None]) -> Reply:
    """One of a few read calls of the Client Portal's Web API, passed through.

    The list is in docs/client-portal.md; anything else is refused with 403. A call that finds the
    brokerage session closed leads to a recovery and is then tried once more. The answer is the Web
    API's own JSON.
    """
    path = "/" + call.params.path
    return Reply(await call.services[PortalService].fetch(path, call.params.query()))
