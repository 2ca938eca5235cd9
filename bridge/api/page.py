"""The status page, static files without a build step, and in the sandbox its fault buttons.

The files are read once: what the browser may ask for, and nothing else of the disk. The buttons go
to the simulator's control port, when BRIDGE_SIMULATOR_URL names one, as no real deployment does.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from starlette.responses import Response

from bridge.api.routing import Call, Params, RouteTable
from bridge.callers import Scope
from bridge.errors import BridgeError, Kind, NotFoundError

FOLDER: Final = Path(__file__).resolve().parents[1] / "page" / "static"

MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, nothing inline, in nobody's frame."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Of every file: the browser asks each time, so that a new release is never half an old one."""


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """Content and media type by file name."""
    return {
        path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix])
        for path in sorted(FOLDER.iterdir())
        if path.suffix in MEDIA_TYPES
    }


routes = RouteTable("page")


class AssetParams(Params, frozen=True, kw_only=True):
    """Which file."""

    name: Annotated[str, Meta(max_length=40)]


class FaultParams(Params, frozen=True, kw_only=True):
    """Which fault."""

    name: Annotated[str, Meta(max_length=60, pattern="^[a-z0-9-]+$")]


class PageView(Struct, rename="camel", frozen=True, kw_only=True):
    """What the page may offer the key that asks."""

    scope: str
    trading: bool


class Fault(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault to start; without `seconds` it lasts until it is ended."""

    fault: Annotated[str, Meta(max_length=60)]
    seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class FaultList(Struct, rename="camel", frozen=True, kw_only=True):
    """What is wrong now, and what could be."""

    faults: list[dict[str, Any]]
    names: list[str]


_NO_SANDBOX = {404: "the gateway is no simulator", 503: "the simulator does not answer"}


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
    media_types=("text/css", "text/javascript", "image/svg+xml", "application/manifest+json"),
)
async def asset(call: Call[AssetParams, None]) -> Response:
    """A style sheet, script or picture of the status page."""
    return _file(call.params.name)


@routes.get("/page", answer=PageView)
async def offered(call: Call[None, None]) -> PageView:
    """What the status page may offer this key: its scope, and whether orders are placed there."""
    scope = call.principal.scope
    trading = call.services.environment.page_trading and scope >= Scope.TRADE
    return PageView(scope=scope.word, trading=trading)


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
    await ask_simulator(call.services.environment.simulator_url, "POST", "/faults", fault)
    return await _list(call)


@routes.delete("/sandbox/faults", answer=FaultList, scope=Scope.ADMIN, statuses=_NO_SANDBOX)
async def end_faults(call: Call[None, None]) -> FaultList:
    """Ends all faults of the simulator."""
    await ask_simulator(call.services.environment.simulator_url, "DELETE", "/faults")
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
    await ask_simulator(address, "DELETE", f"/faults/{call.params.name}")
    return await _list(call)


async def _list(call: Call[Any, Any]) -> FaultList:
    found = await ask_simulator(call.services.environment.simulator_url, "GET", "/faults")
    return FaultList(faults=found["faults"], names=found["names"])


def _file(name: str) -> Response:
    try:
        content, media_type = assets()[name]
    except KeyError:
        raise NotFoundError("the status page has no such file") from None
    return Response(content, headers=HEADERS, media_type=media_type)


PATIENCE: Final = 3.0


class SimulatorUnreachableError(BridgeError):
    """The simulator's control port does not answer."""

    code = "simulator-unreachable"
    kind = Kind.UNAVAILABLE
    next_step = "See ./deploy.py status: is the simulated gateway running?"


async def ask_simulator(
    base: str, method: str, path: str, body: dict[str, Any] | None = None
) -> Any:
    """One call to the control port.

    Raises:
        NotFoundError: this is no sandbox, or the simulator has no fault of that name.
        SimulatorUnreachableError: no answer in time.
    """
    if not base:
        raise NotFoundError("this bridge has no simulator behind it")
    return await asyncio.to_thread(_ask, f"{base.rstrip('/')}{path}", method, body)


def _ask(address: str, method: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - from the environment, never from a caller
        address, data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            told = error.read(500).decode(errors="replace")
        raise NotFoundError(f"the simulator refuses: {told}") from None
    except (OSError, ValueError) as error:
        raise SimulatorUnreachableError(f"the simulator does not answer: {error}") from None
