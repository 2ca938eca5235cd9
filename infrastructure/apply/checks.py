"""What healthy means for each service of a target, as the gate on the host reads it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.render.caddy import names
from infrastructure.render.gateway import jvm_options
from infrastructure.render.layout import COMMAND_PORTS
from infrastructure.runtime.containers import IBG_CONTROLLER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infrastructure.apply.protocol.documents import Checks
    from infrastructure.config import Target
    from infrastructure.config.models import Stack
    from infrastructure.plan.observed import Observed

LEANS_ON = {"bridge": "gateway", "caddy": "bridge"}
"""What must serve for a service to do more than run."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def checks(target: Target, services: Iterable[str]) -> Checks:
    """`{service: what its check needs}`; an empty one means running with its own check passing.

    A worker has none: how its program is, is not ours to judge.
    """
    stack = target.stack
    known: Checks = {
        "gateway": {
            "jvm": list(jvm_options(stack)) if stack.runtime == "compose" else [],
            "twoFactorWait": stack.gateway.two_factor.wait,
            "sessions": list(stack.sessions),
            "ends": ends(stack),
        },
        "bridge": {"port": stack.bridge.port},
        "caddy": {
            "address": EVERYWHERE.get(stack.caddy.listen, stack.caddy.listen),
            "port": stack.caddy.https_port,
            "name": names(target)[0].strip("[]"),
            "public": stack.caddy.domain is not None,
        },
    }
    return {name: known.get(name, {}) for name in services if name not in stack.workers}


def ends(stack: Stack) -> dict[str, str]:
    """`Check.ends`: a session whose next login would ask for a second factor is kept.

    ibg-controller logs off by itself when its container is stopped, within its grace period.
    """
    if stack.runtime == "sandbox" or stack.gateway.controller == IBG_CONTROLLER:
        return {}
    keeps = {"live"} if stack.gateway.two_factor.asked else set()
    return {
        one: f"{COMMAND_PORTS[one]} {'PAUSE' if one in keeps else 'STOP'}" for one in stack.sessions
    }


def checks_alone(target: Target, service: str, observed: Observed) -> Checks:
    """What healthy means for one service when no other is touched (`up --only`).

    While what it leans on does not serve, it has to run, and its own check to pass.
    """
    needed = observed.services.get(LEANS_ON.get(service, service))
    serves = needed is not None and needed.state == "running" and needed.health == "healthy"
    return checks(target, [service]) if serves or service not in LEANS_ON else {service: {}}
