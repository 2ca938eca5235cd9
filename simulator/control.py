"""The control port: faults, clock and the simulator's own record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.faults import NAMES, UnknownFaultError, WrongParameterError, is_seconds
from simulator.http import BadRequestError, HttpServer, Request, Response

if TYPE_CHECKING:
    from simulator.world import World

WEEKS_FIVE = 5 * 7 * 24 * 3600.0


async def start_control(world: World, listen: str, port: int) -> HttpServer:
    """Serve the control routes; see `docs/simulator.md` for their shapes."""

    async def handle(request: Request) -> Response:
        return answer(world, request)

    server = HttpServer(handle)
    await server.start(listen, port)
    return server


def answer(world: World, request: Request) -> Response:
    """One control request, answered."""
    route = (request.method, request.path.rstrip("/"))
    match route:
        case ("GET", "/faults"):
            return Response.json({"faults": _shown(world), "names": list(NAMES)})
        case ("POST", "/faults"):
            return _start_fault(world, request)
        case ("DELETE", path) if path == "/faults" or path.startswith("/faults/"):
            return _clear_faults(world, path.removeprefix("/faults").strip("/"))
        case ("GET", "/clock"):
            return Response.json(_clock(world))
        case ("POST", "/clock"):
            return _wind(world, request)
        case ("GET", "/book"):
            return Response.json(world.book())
        case _:
            return Response.json({"error": f"no route {request.method} {request.path}"}, 404)


def _start_fault(world: World, request: Request) -> Response:
    body = _object(request)
    name, seconds = body.pop("fault", None), body.pop("seconds", None)
    if seconds is not None and not is_seconds(seconds):
        return Response.json({"error": "seconds must be a positive number"}, 400)
    try:
        fault = world.faults.start(str(name), seconds, **body)
    except UnknownFaultError as error:
        return Response.json({"error": str(error), "names": list(NAMES)}, 404)
    except WrongParameterError as error:
        return Response.json({"error": str(error)}, 400)
    return Response.json(fault.shown())


def _shown(world: World) -> list[dict[str, Any]]:
    """The active faults; that of the wire with how many messages each rule was for."""
    matched = {"matched": world.rewriting.matched()}
    return [
        fault | (matched if fault["fault"] == "wire-rewrite" else {})
        for fault in world.faults.shown()
    ]


def _clear_faults(world: World, name: str) -> Response:
    try:
        world.faults.clear(name or None)
    except UnknownFaultError as error:
        return Response.json({"error": str(error), "names": list(NAMES)}, 404)
    return Response.json({"faults": world.faults.shown()})


def _wind(world: World, request: Request) -> Response:
    body = _object(request)
    seconds: Any = body.get("advance")
    if not is_seconds(seconds) or seconds > WEEKS_FIVE:
        return Response.json({"error": "advance must be seconds, above 0 up to five weeks"}, 400)
    world.clock.advance(seconds)
    world.trading.changed()
    return Response.json(_clock(world))


def _clock(world: World) -> dict[str, Any]:
    return {"time": world.clock.now().isoformat(), "wound": world.clock.wound}


def _object(request: Request) -> dict[str, Any]:
    body = request.json()
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body
