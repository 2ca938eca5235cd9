"""`tunnel api|bridge [--port N]`: a port here that leads to the host's private side."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from infrastructure.apply.session import Session
    from infrastructure.config import Target

Service = Literal["api", "bridge"]


def tunnel(
    context: typer.Context,
    service: Annotated[Service, typer.Argument(help="api (the TWS API) or bridge")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Local port; 0: a free one")
    ] = 0,
) -> None:
    """Open the TWS API or the bridge on 127.0.0.1 until Ctrl-C.

    Nothing is published on the host for it: the tunnel goes through the SSH connection.

    \b
    Examples:
      ./deploy.py tunnel api --port 4002
      ./deploy.py tunnel bridge
    """
    from infrastructure.cli.host import reached

    current = settings(context)
    target = current.target()
    with reached(current, target) as (session, transport):
        session.open()
        address, there = far_end(session, target, service)
        with transport.forward(address, there, port) as here:
            scheme = "http://" if service == "bridge" else ""
            current.out.document({"service": service, "address": "127.0.0.1", "port": here})
            current.out.data(f"{scheme}127.0.0.1:{here}")
            if target.local and here == there:
                current.out.say("it is on this machine already: no tunnel is needed")
                return
            current.out.say("until Ctrl-C")
            wait(session)


def far_end(session: Session, target: Target, service: Service) -> tuple[str, int]:
    """Where the host reaches the service."""
    from infrastructure.render.layout import RELAY_PORTS

    if service == "bridge":
        return "127.0.0.1", target.stack.bridge.port
    if target.stack.runtime == "sandbox":
        return "127.0.0.1", target.stack.simulated.tws_port
    return session.address("gateway"), RELAY_PORTS[target.stack.session]


def wait(session: Session) -> None:
    """Until Ctrl-C, which is how it is meant to end; a lost connection ends it, too."""
    with contextlib.suppress(KeyboardInterrupt):
        session.stay()
