"""Route: a test message to whoever is told when something needs a person."""

from __future__ import annotations

from bridge.alerts.desk import AlertDesk
from bridge.alerts.sender import Delivery
from bridge.api.routing import Call, RouteTable
from bridge.api.schema import Answer
from bridge.api.scopes import Scope
from bridge.errors import NotFoundError

routes = RouteTable("alerts")


class TestResult(Answer):
    """What became of the message at each service; addresses are never told."""

    services: list[Delivery]


@routes.post(
    "/alerts/test",
    answer=TestResult,
    scope=Scope.ADMIN,
    statuses={404: "no address file is given"},
)
async def send_test(call: Call[None, None]) -> TestResult:
    """Sends a test message to every service of the address file, and says which took it."""
    try:
        desk = call.services[AlertDesk]
    except LookupError:
        raise NotFoundError(
            "no address file is given",
            code="alerts-off",
            next_step="Set BRIDGE_ALERTS_FILE to a file with one address a line",
        ) from None
    return TestResult(services=await desk.test())
