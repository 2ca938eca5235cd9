"""The status page, and in the sandbox its fault buttons."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from bridge.api.routing import Call, Params, RouteTable
from bridge.callers import Scope
from bridge.errors import NotFoundError
from bridge.page import simulator
from bridge.page.assets import HEADERS, assets

routes = RouteTable("page")


class AssetParams(Params, frozen=True, kw_only=True):
    """Which file."""

    name: Annotated[str, Meta(max_length=40)]


class FaultParams(Params, frozen=True, kw_only=True):
    """Which fault."""

    name: Annotated[str, Meta(max_length=60, pattern="^[a-z0-9-]+$")]


class Fault(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault to start; without `seconds` it lasts until it is ended."""

    fault: Annotated[str, Meta(max_length=60)]
    seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class FaultList(Struct, rename="camel", frozen=True, kw_only=True):
    """What is wrong now, and what could be."""

    faults: list[dict[str, Any]]
    names: list[str]


_NO_SANDBOX = {404: "the gateway is no simulator"}


@routes.get("/", answer=str, scope=Scope.PUBLIC, media_types=("text/html",))
async def page(call: Call[None, None]) -> Response:
    """The status page.

    It holds no data: what it shows it reads with the key that its reader enters.
    """
    return _file("index.html")


@routes.get(
    "/page/{name}",
    params=AssetParams,
    answer=str,
    scope=Scope.PUBLIC,
    statuses={404: "no such file"},
    media_types=("text/css", "text/javascript", "image/svg+xml"),
)
async def asset(call: Call[AssetParams, None]) -> Response:
    """A style sheet, script or picture of the status page."""
    return _file(call.params.name)


@routes.get("/sandbox/faults", answer=FaultList, scope=Scope.ADMIN, statuses=_NO_SANDBOX)
async def faults(call: Call[None, None]) -> FaultList:
    """The simulator's faults; 404 on anything but a sandbox."""
    return await _list(call)


@routes.post(
    "/sandbox/faults",
    body=Fault,
    answer=FaultList,
    scope=Scope.ADMIN,
    statuses=_NO_SANDBOX,
    recorded=("fault", "seconds"),
)
async def start_fault(call: Call[None, Fault]) -> FaultList:
    """Starts a fault of the simulator."""
    fault: dict[str, Any] = {"fault": call.body.fault}
    if call.body.seconds is not None:
        fault["seconds"] = call.body.seconds
    await simulator.ask(call.services.environment.simulator_url, "POST", "/faults", fault)
    return await _list(call)


@routes.delete("/sandbox/faults", answer=FaultList, scope=Scope.ADMIN, statuses=_NO_SANDBOX)
async def end_faults(call: Call[None, None]) -> FaultList:
    """Ends all faults of the simulator."""
    await simulator.ask(call.services.environment.simulator_url, "DELETE", "/faults")
    return await _list(call)


@routes.delete(
    "/sandbox/faults/{name}",
    params=FaultParams,
    answer=FaultList,
    scope=Scope.ADMIN,
    statuses={404: "the gateway is no simulator, or has no fault of that name"},
)
async def end_fault(call: Call[FaultParams, None]) -> FaultList:
    """Ends one fault of the simulator; others go on."""
    address = call.services.environment.simulator_url
    await simulator.ask(address, "DELETE", f"/faults/{call.params.name}")
    return await _list(call)


async def _list(call: Call[Any, Any]) -> FaultList:
    found = await simulator.ask(call.services.environment.simulator_url, "GET", "/faults")
    return FaultList(faults=found["faults"], names=found["names"])


def _file(name: str) -> Response:
    try:
        content, media_type = assets()[name]
    except KeyError:
        raise NotFoundError("the status page has no such file") from None
    return Response(content, headers=HEADERS, media_type=media_type)
