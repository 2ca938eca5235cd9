"""The desk: settings that change while it runs, events, metrics, and what is told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from bridge.portal.desk import PortalDesk, PortalTarget
from bridge.portal.errors import PortalOffError
from bridge.portal.reporting import PortalReporter
from bridge.portal.state import PortalState
from simulator.portal import PortalServer
from tests.bridge.portal.conftest import JumpingClock, MemoryCertificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class MemoryHistory:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, kind: str, **detail: Any) -> None:
        self.events.append((kind, detail))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@pytest.fixture
def clock() -> JumpingClock:
    return PatientClock()


@pytest.fixture
def history() -> MemoryHistory:
    return MemoryHistory()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def desk(
    clock: JumpingClock, history: MemoryHistory, registry: CollectorRegistry
) -> AsyncIterator[PortalDesk]:
    desk = PortalDesk(clock, MemoryCertificates(), PortalReporter(history, registry))
    yield desk
    await desk.stop()


class PatientClock(JumpingClock):
    """Short waits wind the clock; the keep-alive's long ones wait for ever."""

    async def sleep(self, seconds: float) -> None:
        if seconds > 1.5:
            await asyncio.Event().wait()
        await super().sleep(seconds)


def target(portal: PortalServer, **fields: Any) -> PortalTarget:
    return PortalTarget(url=f"http://127.0.0.1:{portal.port}", **fields)


async def test_without_a_portal_it_is_off(desk: PortalDesk) -> None:
    view = await desk.session()
    assert (view.enabled, view.state) == (False, PortalState.OFF)
    with pytest.raises(PortalOffError):
        await desk.recover()
    with pytest.raises(PortalOffError):
        await desk.fetch("/iserver/accounts", {})


async def test_the_view_tells_both_sessions(desk: PortalDesk, portal: PortalServer) -> None:
    await desk.configure(target(portal))
    view = await desk.session()
    assert view.state is PortalState.CONNECTED
    assert (view.authenticated, view.connected, view.competing, view.established) == (
        True,
        True,
        False,
        True,
    )
    assert view.is_desynced is False
    assert view.last_recovery_at is None
    assert view.next_action == "Nothing to do"


async def test_a_status_request_mends_a_desync(
    desk: PortalDesk, portal: PortalServer, history: MemoryHistory, registry: CollectorRegistry
) -> None:
    await desk.configure(target(portal))
    await desk.session()
    portal.begin_fault("portal-desync")
    desk.keeper._checked_at -= 10
    view = await desk.session()
    assert view.state is PortalState.CONNECTED
    assert view.last_recovery_at is not None
    assert history.kinds == [
        "portal-connected",
        "portal-desynced",
        "portal-connected",
        "portal-recovered",
    ]
    assert registry.get_sample_value("gangway_portal_recoveries_total") == 1
    assert registry.get_sample_value("gangway_portal_state", {"state": "connected"}) == 1
    assert registry.get_sample_value("gangway_portal_state", {"state": "desynced"}) == 0


async def test_a_fresh_answer_is_not_asked_for_again(
    desk: PortalDesk, portal: PortalServer
) -> None:
    await desk.configure(target(portal))
    await desk.session()
    calls = sum(portal.routes.calls.values())
    for _ in range(20):
        await desk.session()
    assert sum(portal.routes.calls.values()) == calls


async def test_a_login_that_is_needed_is_told_with_its_page(
    desk: PortalDesk, portal: PortalServer, history: MemoryHistory
) -> None:
    portal.session.logout()
    await desk.configure(target(portal))
    view = await desk.session()
    assert view.state is PortalState.LOGIN_REQUIRED
    assert view.login_url == f"http://127.0.0.1:{portal.port}/"
    assert "Log in" in view.next_action
    assert history.kinds == ["portal-login-required"]


async def test_settings_move_the_desk_to_another_gateway(
    desk: PortalDesk, portal: PortalServer, clock: JumpingClock
) -> None:
    other = PortalServer(clock.monotonic, ["DU7654321"])
    await other.start()
    await desk.configure(target(portal))
    assert not await desk.configure(target(portal))
    assert await desk.configure(target(other))
    assert (await desk.fetch("/iserver/accounts", {}))["accounts"] == ["DU7654321"]
    assert await desk.configure(PortalTarget())
    assert (await desk.session()).state is PortalState.OFF
    await other.close()


async def test_a_silent_gateway_holds_a_status_request_for_less_than_five_seconds(
    desk: PortalDesk, portal: PortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.portal.desk.LONGEST_LOOK_SECONDS", 0.2)
    portal.begin_fault("portal-timeout")
    await desk.configure(target(portal))
    begun = time.monotonic()
    view = await desk.session()
    assert time.monotonic() - begun < 4.5
    assert view.state is PortalState.STARTING


async def test_credentials_for_a_proxy_are_sent_and_never_shown(
    desk: PortalDesk, portal: PortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    respond = portal.routes.respond

    async def record(request: Any) -> Any:
        seen.append(request.headers.get("authorization", ""))
        return await respond(request)

    monkeypatch.setattr(portal._listener, "_respond", record)
    await desk.configure(target(portal, username="me", password="secret"))
    await desk.session()
    assert seen[0].startswith("Basic ")
    assert "secret" not in repr(target(portal, username="me", password="secret"))
