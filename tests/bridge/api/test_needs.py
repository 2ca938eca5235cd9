"""One list of what needs a person: `/health`, and through it the page, `status` and `doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.api.health import health, needs
from bridge.environment import Environment
from bridge.orders.health import _unknown_need as orders_need
from bridge.portal.service import SessionView
from bridge.portal.service import _need as portal_need
from bridge.portal.state import PortalState
from bridge.services import Need, Services
from bridge.tws.connection_context import Target
from bridge.tws.connection_state import Socket
from bridge.tws.session import TwsSession
from tests.bridge.wound import WoundClock


@pytest.fixture
def services(tmp_path: Path) -> Services:
    clock = WoundClock()
    session = TwsSession(Target(login_state_file=tmp_path / "login"), clock)
    session.context.status.update(started=True, socket=Socket.UP, reconciled=True)
    made = Services(Environment(), session, clock)
    made.provide(TwsSession, session)
    return made


def test_all_is_well_is_only_said_when_nothing_needs_anyone(services: Services) -> None:
    assert health(services).next_action == "Nothing: all is well"
    services.needs.append(lambda: orders_need(2))
    said = health(services)
    assert said.state == "ready"
    assert said.next_action.startswith("2 orders need you: they may or may not have reached")
    assert [need.code for need in said.needs] == ["orders-unknown"]
    services.needs.append(
        lambda: Need(code="quarantine", message="3 messages …", next_step="GET /journal")
    )
    assert health(services).next_action.endswith("(and 1 more)")
    assert [need.code for need in needs(services)] == ["orders-unknown", "quarantine"]


def test_one_order_is_one() -> None:
    one = orders_need(1)
    assert one
    assert one.message == "1 order needs you: it may or may not have reached the broker"
    assert orders_need(0) is None


@pytest.mark.parametrize("state", list(PortalState))
def test_what_a_person_must_do_for_the_client_portal(state: PortalState) -> None:
    found = portal_need(SessionView(enabled=True, state=state, next_action="Do it"))
    wanted = {
        PortalState.LOGIN_REQUIRED,
        PortalState.COMPETING,
        PortalState.CERTIFICATE_REFUSED,
    }
    assert (found is not None) == (state in wanted)
