"""The session calls as a client of the Web API sees them, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from simulator.portal import PortalServer
    from tests.simulator.portal.conftest import WoundClock

INIT = {"publish": True, "compete": False}


async def flags(client: httpx.AsyncClient) -> tuple[bool, bool, bool]:
    status = (await client.get("/iserver/auth/status")).json()
    return status["authenticated"], status["connected"], status["competing"]


async def test_the_first_status_after_a_login_is_falsely_unauthenticated(
    client: httpx.AsyncClient,
) -> None:
    assert await flags(client) == (False, False, False)
    assert await flags(client) == (True, True, False)


async def test_a_tickle_before_the_first_status_makes_it_true(client: httpx.AsyncClient) -> None:
    await client.post("/tickle")
    assert await flags(client) == (True, True, False)


async def test_six_minutes_without_a_call_close_only_the_brokerage_session(
    client: httpx.AsyncClient, clock: WoundClock
) -> None:
    await client.post("/tickle")
    clock.advance(359)
    assert await flags(client) == (True, True, False)
    clock.advance(1)
    assert await flags(client) == (True, False, False)
    accounts = await client.get("/iserver/accounts")
    assert accounts.status_code == 400
    assert accounts.json() == {"error": "Bad Request: no bridge", "statusCode": 400}
    assert (await client.get("/sso/validate")).json()["RESULT"] is True


async def test_a_tickle_keeps_the_brokerage_session_open(
    client: httpx.AsyncClient, clock: WoundClock
) -> None:
    for _ in range(30):
        tickle = (await client.post("/tickle")).json()
        assert tickle["iserver"]["authStatus"]["connected"] is True
        clock.advance(300)


async def test_init_opens_the_brokerage_session_again_and_it_establishes_after_a_moment(
    client: httpx.AsyncClient, portal: PortalServer, clock: WoundClock
) -> None:
    await client.post("/tickle")
    portal.begin_fault("portal-desync")
    answer = await client.post("/iserver/auth/ssodh/init", json=INIT)
    assert answer.json()["connected"] is True
    assert answer.json()["established"] is False
    clock.advance(1)
    assert (await client.get("/iserver/auth/status")).json()["established"] is True


async def test_init_without_its_fields_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/iserver/auth/ssodh/init", json={"compete": False})
    assert answer.status_code == 400


async def test_a_competing_session_is_only_beaten_with_compete(
    client: httpx.AsyncClient, portal: PortalServer
) -> None:
    await client.post("/tickle")
    portal.begin_fault("portal-competing")
    assert await flags(client) == (True, False, True)
    polite = await client.post("/iserver/auth/ssodh/init", json=INIT)
    assert polite.json()["competing"] is True
    assert await flags(client) == (True, False, True)
    await client.post("/iserver/auth/ssodh/init", json={"publish": True, "compete": True})
    assert await flags(client) == (True, True, False)


async def test_after_logout_every_call_is_401_until_somebody_logs_in(
    client: httpx.AsyncClient, portal: PortalServer
) -> None:
    assert (await client.post("/logout")).json() == {"status": True}
    for call in ("/iserver/auth/status", "/tickle", "/iserver/accounts"):
        assert (await client.get(call)).status_code == 401
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{portal.port}") as browser:
        page = await browser.get("/", follow_redirects=True)
        assert "Log in" in page.text
        assert (await browser.post("/sso/Dispatcher")).text == "Client login succeeds"
    assert await flags(client) == (False, False, False)
    assert await flags(client) == (True, True, False)


async def test_reauthenticate_is_triggered_and_opens_the_session(
    client: httpx.AsyncClient, portal: PortalServer
) -> None:
    await client.post("/tickle")
    portal.begin_fault("portal-desync")
    answer = await client.post("/iserver/reauthenticate")
    assert answer.json() == {"message": "triggered"}
    assert await flags(client) == (True, True, False)


async def test_accounts_name_the_selected_one(client: httpx.AsyncClient) -> None:
    accounts = (await client.get("/iserver/accounts")).json()
    assert accounts["accounts"] == ["DU1234567"]
    assert accounts["selectedAccount"] == "DU1234567"
    assert accounts["isPaper"] is True
    assert (await client.get("/portfolio/accounts")).json()[0]["accountId"] == "DU1234567"


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/iserver/auth/ssodh/init", 405)])
async def test_unknown_calls_are_answered(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    assert (await client.get(path)).status_code == status
