"""Routes: messages to whoever is told when something needs a person."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from bridge.alerts.messages import AlertKind, Delivery
from bridge.alerts.service import AlertService
from bridge.api.routing import Answer, Body, Call, RouteTable
from bridge.callers import Scope
from bridge.errors import NotFoundError
from bridge.services import Services

routes = RouteTable("alerts")


class TestResult(Answer):
    """What became of the message at each service; addresses are never told."""

    services: list[Delivery]


class Occasion(Body, frozen=True, kw_only=True):
    """What happened outside the bridge, that people have to know of."""

    event: Annotated[Literal["deploy-failed", "newer-image"], Meta(description="The occasion")]
    text: Annotated[
        str, Meta(min_length=1, max_length=1000, description="What happened, and what to do")
    ]


class Told(Answer):
    """Whether a message goes out now; a wanted event that comes too soon goes with the next."""

    told: bool


OFF = {404: "no address file is given"}


def alerts_of(services: Services) -> AlertService:
    """The alerts; an error when alerts are off."""
    try:
        return services[AlertService]
    except LookupError:
        raise NotFoundError(
            "no address file is given",
            code="alerts-off",
            next_step="Add an address to alerts.urls in stack.yaml, then run up",
        ) from None


@routes.post(
    "/alerts", body=Occasion, answer=Told, scope=Scope.ADMIN, statuses=OFF, recorded=("event",)
)
async def tell(call: Call[None, Occasion]) -> Told:
    """Tells people of something that happened outside the bridge, within the usual limits."""
    alerts = alerts_of(call.services)
    return Told(told=alerts.tell(AlertKind(call.body.event), call.body.text))


@routes.post(
    "/alerts/test",
    answer=TestResult,
    scope=Scope.ADMIN,
    statuses=OFF | {500: "the address file cannot be used, or the sender failed"},
)
async def send_test(call: Call[None, None]) -> TestResult:
    """Sends a test message to every service of the address file, and says which took it."""
    return TestResult(services=await alerts_of(call.services).test())
