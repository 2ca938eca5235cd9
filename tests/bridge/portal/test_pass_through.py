"""Which calls are passed through, and what happens when they meet a closed session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.portal.errors import (
    CompetingSessionError,
    LoginRequiredError,
    NotAllowedError,
    PortalRefusedError,
    PortalUnreachableError,
)
from bridge.portal.pass_through import fetch, require_allowed
from simulator.http import Response
from tests.bridge.portal.conftest import inits

if TYPE_CHECKING:
    from bridge.portal.session import PortalSession
    from simulator.http import Request
    from simulator.portal import PortalServer
    from tests.bridge.portal.conftest import JumpingClock


@pytest.mark.parametrize(
    "path",
    [
        "/iserver/account/U1234567/orders",
        "/iserver/accounts/",
        "/iserver/accounts/../reauthenticate",
        "/iserver/reply/abc",
        "/iserver/auth/ssodh/init",
        "/logout",
        "/tickle",
        "/portfolio/U1234567/positions/x",
        "/portfolio/%2e%2e/summary",
        "/portfolio/U12 34567/summary",
        "//iserver/accounts",
        "/iserver/accounts?x=1",
        "/iserver/accounts\n",
        "/iserver/contract/\u0661\u0662/info",
        "/portfolio/U1234567/positions/\u0661",
        "",
    ],
)
def test_everything_that_is_not_on_the_list_is_refused(path: str) -> None:
    with pytest.raises(NotAllowedError):
        require_allowed(path, {})


def test_parameters_are_on_the_list_as_well() -> None:
    require_allowed("/iserver/secdef/search", {"symbol": "AAPL"})
    with pytest.raises(NotAllowedError, match="callback"):
        require_allowed("/iserver/secdef/search", {"symbol": "AAPL", "callback": "x"})


async def test_a_read_call_is_passed_through(session: PortalSession) -> None:
    await session.check()
    answer = await fetch(session, "/iserver/accounts", {})
    assert answer["accounts"] == ["DU1234567"]


async def test_a_closed_session_is_opened_and_the_call_tried_once_more(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    await session.check()
    clock.advance(400)
    answers = await asyncio.gather(*(fetch(session, "/iserver/accounts", {}) for _ in range(3)))
    assert all(answer["accounts"] for answer in answers)
    assert inits(portal) == 1
    assert portal.routes.calls["/iserver/accounts"] <= 6


async def test_a_call_that_still_fails_is_not_tried_a_third_time(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()

    def closed(_: Request) -> Response:
        return Response.json({"error": "Bad Request: no bridge", "statusCode": 400}, 400)

    portal.routes._handlers["GET", "/iserver/accounts"] = closed
    with pytest.raises(PortalRefusedError) as raised:
        await fetch(session, "/iserver/accounts", {})
    assert raised.value.extra == {"portalStatus": 400}
    assert portal.routes.calls["/iserver/accounts"] == 2
    assert inits(portal) == 1


async def test_while_attempts_are_spaced_out_callers_are_told_to_wait(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    session.recovered.listen(lambda: portal.begin_fault("portal-desync"))
    portal.begin_fault("portal-desync")
    with pytest.raises(PortalRefusedError):
        await fetch(session, "/iserver/accounts", {})
    with pytest.raises(PortalUnreachableError) as raised:
        await fetch(session, "/iserver/accounts", {})
    assert raised.value.retry_after
    assert inits(portal) == 1


async def test_a_call_that_this_login_may_not_make_is_no_lost_session(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()

    def forbidden(_: Request) -> Response:
        return Response.json({"error": "Forbidden"}, 403)

    portal.routes._handlers["GET", "/iserver/accounts"] = forbidden
    with pytest.raises(PortalRefusedError) as raised:
        await fetch(session, "/iserver/accounts", {})
    assert raised.value.status == 403
    assert portal.routes.calls["/iserver/accounts"] == 2
    assert inits(portal) == 0


async def test_who_meets_a_rival_is_told_so_every_time(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    portal.begin_fault("portal-competing")
    for _ in range(3):
        with pytest.raises(CompetingSessionError):
            await fetch(session, "/iserver/accounts", {})


async def test_a_page_instead_of_json_is_no_answer(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    portal.routes._handlers["GET", "/iserver/accounts"] = lambda _: Response(200, b"<html>hm")
    with pytest.raises(PortalUnreachableError, match="not JSON"):
        await fetch(session, "/iserver/accounts", {})


async def test_other_refusals_are_the_callers(session: PortalSession, portal: PortalServer) -> None:
    await session.check()
    with pytest.raises(PortalRefusedError, match="Resource not found"):
        await fetch(session, "/trsrv/stocks", {"symbols": "AAPL"})
    assert portal.routes.calls["/trsrv/stocks"] == 1


async def test_without_a_login_the_caller_is_told(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    portal.begin_fault("portal-logged-out")
    with pytest.raises(LoginRequiredError):
        await fetch(session, "/iserver/accounts", {})
    assert inits(portal) == 0
