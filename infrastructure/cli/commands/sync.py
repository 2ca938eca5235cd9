"""`sync bridge`, `rebuild bridge`: only the bridge's sources travel, only the bridge restarts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.options import Settings, settings

if TYPE_CHECKING:
    from infrastructure.cli.host import Planned
    from infrastructure.plan.compute import Plan


BRIDGE = "bridge"
Service = Annotated[str, typer.Argument(metavar="bridge", help="The only service that is built")]
Wait = Annotated[
    float | None, typer.Option("--wait", min=1, metavar="SECONDS", help="Until it is healthy")
]


def sync(context: typer.Context, service: Service = BRIDGE, wait: Wait = None) -> None:
    """Ship the bridge's changed sources, build, and restart only the bridge.

    Files that the host has already do not travel. The image is built before the old bridge stops;
    the gateway keeps running, and its session. When the new bridge does not become healthy, the
    old one is put back.

    \b
    Examples:
      ./deploy.py sync bridge
      ./deploy.py --target prod sync bridge --json
    """
    replace_bridge(settings(context), service, fresh=False, wait=wait)


def replace_bridge(current: Settings, service: str, *, fresh: bool, wait: float | None) -> None:
    """Builds the bridge and puts it into service; `fresh` ignores what was built before."""
    from infrastructure.cli.commands.up import document, failing
    from infrastructure.cli.host import planned
    from infrastructure.errors import UsageError

    if service != BRIDGE:
        hint = "./deploy.py restart gateway, or up --only SERVICE"
        raise UsageError(f"only the bridge is built from sources, not '{service}'", hint=hint)
    with planned(current, lock=True) as found:
        if found.observed.release is None:
            raise UsageError("nothing is deployed yet", hint="./deploy.py up", code="not-deployed")
        plan = only_bridge(found.plan, fresh=fresh)
        _tell(current, found, plan)
        if not plan.changed:
            current.out.document(_nothing(plan))
            current.out.say("the bridge is as it should be; nothing to do")
            return
        with failing(current, {**plan.as_json(), "release": found.observed.release}):
            outcome = found.session.replace_bridge(
                plan, found.release, fresh=fresh, logged_in=_logged_in(found), wait=wait
            )
    current.out.document(document(plan, outcome.release, outcome))
    current.out.say(
        f"the new bridge serves after {outcome.seconds:.1f} s (release {outcome.release}); "
        "the gateway was left alone"
    )


def only_bridge(plan: Plan, *, fresh: bool) -> Plan:
    """The plan for the bridge alone; with `fresh` it is replaced even if nothing changed."""
    from infrastructure.cli.commands.up import narrowed

    kept = narrowed(plan, BRIDGE)
    if fresh:
        changes = tuple(
            dataclasses.replace(change, action="update", cause="it is built afresh (rebuild)")
            if change.service == BRIDGE and change.action in ("unchanged", "restart")
            else change
            for change in kept.changes
        )
        return dataclasses.replace(kept, changes=changes)
    wanted = any(change.action != "unchanged" for change in kept.changes)
    return kept if wanted else dataclasses.replace(kept, file_changes=())


def _tell(current: Settings, found: Planned, plan: Plan) -> None:
    from infrastructure.cli.commands.plan import lines

    for line in lines(plan, diffs=current.verbose):
        current.out.say(line)
    others = [
        change.service
        for change in found.plan.changes
        if change.service != BRIDGE and change.action != "unchanged"
    ]
    if others:
        current.out.say(f"left alone, although changed: {', '.join(others)} (./deploy.py plan)")


def _logged_in(found: Planned) -> bool:
    """Whether a bridge can be expected to connect: else its own health check has to do."""
    gateway = found.observed.services.get("gateway")
    return gateway is not None and gateway.state == "running" and gateway.health == "healthy"


def _nothing(plan: Plan) -> dict[str, object]:
    return {
        **plan.as_json(),
        "release": plan.previous,
        "healthy": True,
        "restored": False,
        "seconds": 0,
    }


def rebuild(context: typer.Context, service: Service = BRIDGE, wait: Wait = None) -> None:
    """Build the bridge's image afresh, without cached layers, and restart only the bridge.

    \b
    Examples:
      ./deploy.py rebuild bridge
    """
    replace_bridge(settings(context), service, fresh=True, wait=wait)
