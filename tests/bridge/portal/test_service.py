"""The service: settings that change while it runs, events, metrics, and what is told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from bridge.portal.errors import PortalOffError
from bridge.portal.service import PortalReporter, PortalService, PortalTarget
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
async def service(
    clock: JumpingClock, history: MemoryHistory, registry: CollectorRegistry
) -> AsyncIterator[PortalService]:
    service = PortalService(clock, MemoryCertificates(), PortalReporter(history, registry))
    yield service
    await service.stop()


class PatientClock(JumpingClock):
    """Short waits wind the clock; the keep-alive's long ones wait for ever."""

    async def sleep(self, seconds: float) -> None:
        if seconds > 1.5:
            await asyncio.Event().wait()
        await super().sleep(seconds)


def target(portal: PortalServer, **fields: Any) -> PortalTarget:
    return PortalTarget(url=f"http://127.0.0.1:{portal.port}", **fields)


async def test_without_a_portal_it_is_off(service: PortalService) -> None:
    view = await service.session()
    assert (view.enabled, view.state) == (False, PortalState.OFF)
    with pytest.raises(PortalOffError):
        await service.recover()
    with pytest.raises(PortalOffError):
        await service.fetch("/iserver/accounts", {})


async def test_the_view_tells_both_sessions(service: PortalService, portal: PortalServer) -> None:
    await service.configure(target(portal))
    view = await service.session()
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
    service: PortalService,
    portal: PortalServer,
    history: MemoryHistory,
    registry: CollectorRegistry,
) -> None:
    await service.configure(target(portal))
    await service.session()
    portal.begin_fault("portal-desync")
    service.running._checked_at -= 10
    view = await service.session()
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
    service: PortalService, portal: PortalServer
) -> None:
    await service.configure(target(portal))
    await service.session()
    calls = sum(portal.routes.calls.values())
    for _ in range(20):
        await service.session()
    assert sum(portal.routes.calls.values()) == calls


async def test_a_login_that_is_needed_is_told_with_its_page(
    service: PortalService, portal: PortalServer, history: MemoryHistory
) -> None:
    portal.session.logout()
    await service.configure(target(portal))
    view = await service.session()
    assert view.state is PortalState.LOGIN_REQUIRED
    assert view.login_url == f"http://127.0.0.1:{portal.port}/"
    assert "Log in" in view.next_action
    assert history.kinds == ["portal-login-required"]


async def test_settings_move_the_service_to_another_gateway(
    service: PortalService, portal: PortalServer, clock: JumpingClock
) -> None:
    other = PortalServer(clock.monotonic, ["DU7654321"])
    await other.start()
    await service.configure(target(portal))
    assert not await service.configure(target(portal))
    assert await service.configure(target(other))
    assert (await service.fetch("/iserver/accounts", {}))["accounts"] == ["DU7654321"]
    assert await service.configure(PortalTarget())
    assert (await service.session()).state is PortalState.OFF
    await other.close()


async def test_a_silent_gateway_holds_a_status_request_for_less_than_five_seconds(
    service: PortalService, portal: PortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.portal.service.LONGEST_LOOK_SECONDS", 0.2)
    portal.begin_fault("portal-timeout")
    await service.configure(target(portal))
    begun = time.monotonic()
    view = await service.session()
    assert time.monotonic() - begun < 4.5
    assert view.state is PortalState.STARTING


async def test_credentials_for_a_proxy_are_sent_and_never_shown(
    service: PortalService, portal: PortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    respond = portal.routes.respond

    async def record(request: Any) -> Any:
        seen.append(request.headers.get("authorization", ""))
        return await respond(request)

    monkeypatch.setattr(portal._listener, "_respond", record)
    await service.configure(target(portal, username="me", password="secret"))
    await service.session()
    assert seen[0].startswith("Basic ")
    assert "secret" not in repr(target(portal, username="me", password="secret"))
