"""`restart SERVICE [--cold]`: the gateway keeps its session where it can."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from infrastructure.cli.app import Wait, Yes, confirm
from infrastructure.cli.commands.completion import services
from infrastructure.cli.settings import settings


def restart(
    context: typer.Context,
    service: Annotated[
        str,
        typer.Argument(help="gateway, bridge, caddy, portal or a worker", autocompletion=services),
    ],
    cold: Annotated[
        bool, typer.Option("--cold", help="Restart the gateway's container: a new login")
    ] = False,
    yes: Yes = False,
    wait: Wait = None,
) -> None:
    """Restart one service and wait until it is healthy.

    The gateway restarts inside its container and keeps its session: no 2FA. With --cold, or when
    it does not run, the container restarts, which is a new login; then a 2FA approval is waited
    for as in `up` (exit code 4 when it does not come; nothing is torn down). In the sandbox, whose
    account outlasts a restart, --cold begins with a new one. A worker starts with a new key.

    \b
    Examples:
      ./deploy.py restart gateway
      ./deploy.py restart gateway --cold
      ./deploy.py restart bridge
      ./deploy.py restart scanner
    """
    from infrastructure.cli.host import connected
    from infrastructure.errors import UsageError
    from infrastructure.plan.forecast import of_login
    from infrastructure.release_files import SERVICES

    current = settings(context)
    target = current.target()
    if cold and service != "gateway":
        raise UsageError("--cold is for the gateway", hint=f"./deploy.py restart {service}")
    forecast = of_login(target).at(time.time())
    if cold and forecast.expected:
        current.out.say(forecast.line)
        confirm(current, yes=yes)
    with connected(current, target) as session:
        observed = session.open(lock=True)
        outcome = session.restart(service, observed, cold=cold, wait=wait)
    current.out.document(
        {
            "target": target.name,
            "service": service,
            "healthy": outcome.healthy,
            "sessionKept": outcome.kept,
            "seconds": outcome.seconds,
        }
    )
    if cold and target.stack.runtime == "sandbox":
        current.out.say("the simulated account is a new one; open orders were cancelled")
    how = " (its session was kept)" if outcome.kept else ""
    again = "runs" if service not in SERVICES else "is healthy"
    current.out.say(f"{service} {again} again after {outcome.seconds:.1f} s{how}")
