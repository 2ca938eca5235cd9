"""The routes of the Client Portal session, through a whole bridge beside a whole simulator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bridge.portal.service import PortalService
from tests.bridge.portal.running import Running, running

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("at_once")


async def until(bridge: Running, state: str) -> dict[str, Any]:
    """What `GET /session` tells once it tells this state."""
    async with asyncio.timeout(30):
        while (view := await bridge.get("/session"))["state"] != state:
            await asyncio.sleep(0.05)
    return dict(view)


def stale(bridge: Running) -> None:
    """The last answer is old: the next status request asks again."""
    bridge.bridge.services[PortalService].running._checked_at -= 10


async def test_without_a_portal_the_session_is_off(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        session = await bridge.get("/session")
        assert session["state"] == "off"
        assert session["enabled"] is False
        for method, path in (("POST", "/session/recover"), ("GET", "/portal/iserver/accounts")):
            answer = await bridge.client.request(method, path)
            assert answer.status_code == 404
            assert answer.json()["code"] == "portal-off"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_desync_is_mended_by_the_next_status_request(tmp_path: Path, scheme: str) -> None:
    async with running(tmp_path, portal=scheme) as bridge:
        first = await until(bridge, "connected")
        assert first["authenticated"] is True
        assert first["connected"] is True
        assert first["competing"] is False
        assert first["established"] is True
        assert first["isDesynced"] is False
        assert first["lastRecoveryAt"] is None
        bridge.simulator.world.clock.advance(360)
        stale(bridge)
        mended = await bridge.get("/session")
        assert mended["state"] == "connected"
        assert mended["lastRecoveryAt"] is not None
        assert mended["lastRecoveryError"] is None
        assert "portal-recovered" in await bridge.kinds()
        trusted = "portal-certificate-trusted" in await bridge.kinds()
        assert trusted is (scheme == "https")
        metrics = (await bridge.client.get("/metrics")).text
        assert 'gangway_portal_state{state="connected"} 1.0' in metrics
        assert "gangway_portal_recoveries_total 1.0" in metrics


async def test_recovering_on_demand_and_what_a_person_has_to_do(tmp_path: Path) -> None:
    async with running(tmp_path, portal="http") as bridge:
        await until(bridge, "connected")
        faults = bridge.simulator.world.faults
        faults.start("portal-competing")
        refused = await bridge.client.post("/session/recover")
        assert refused.status_code == 409
        assert refused.json()["code"] == "portal-competing"
        taken = await bridge.client.post("/session/recover?compete=true")
        assert taken.status_code == 200
        assert taken.json()["state"] == "connected"
        faults.start("portal-logged-out")
        lost = await bridge.client.post("/session/recover")
        assert lost.status_code == 503
        assert lost.json()["code"] == "portal-login-required"
        view = await bridge.get("/session?check=false")
        assert view["state"] == "login-required"
        assert view["loginUrl"].endswith("/")


async def test_read_calls_are_passed_through_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path, portal="http") as bridge:
        await until(bridge, "connected")
        accounts = await bridge.get("/portal/iserver/accounts")
        assert accounts["accounts"] == ["DU1234567"]
        bridge.simulator.world.clock.advance(360)
        assert (await bridge.get("/portal/iserver/accounts"))["accounts"] == ["DU1234567"]
        for path in ("/portal/logout", "/portal/iserver/account/DU1234567/orders"):
            refused = await bridge.client.get(path)
            assert refused.status_code == 403
            assert refused.json()["code"] == "portal-not-allowed"
        unknown = await bridge.client.get("/portal/iserver/accounts?callback=x")
        assert unknown.status_code == 422
        posted = await bridge.client.post("/portal/iserver/accounts")
        assert posted.status_code == 405


async def test_keys_are_needed(tmp_path: Path) -> None:
    async with running(tmp_path, portal="http") as bridge:
        for method, path in (
            ("GET", "/session"),
            ("POST", "/session/recover"),
            ("GET", "/portal/iserver/accounts"),
            ("GET", "/connection/settings"),
            ("POST", "/connection/test"),
        ):
            answer = await bridge.client.request(method, path, headers={"X-API-KEY": "wrong"})
            assert answer.status_code == 401, path


async def test_the_certificate_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    async with running(tmp_path, portal="https") as bridge:
        await until(bridge, "connected")
        port = bridge.simulator.ports["portalPort"]
    # Another simulator on the same port has another certificate.
    from bridge.environment import Environment
    from bridge.process import Bridge
    from simulator.app import Simulator
    from simulator.options import Options

    async with Simulator(Options(port=0, portal_port=port, control_port=0)) as other:
        environment = Environment(
            tws_port=other.ports["port"],
            data_dir=tmp_path / "data",
            portal_url=f"https://127.0.0.1:{port}",
        )
        async with Bridge(environment) as again:
            view = await again.services[PortalService].session()
            assert view.state == "certificate-refused"
            assert "expected SHA256:" in (view.last_check_error or "")
