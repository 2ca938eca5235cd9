"""`sync|rebuild bridge|worker NAME`: only its sources travel, and only it restarts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.commands.completion import workers
from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from infrastructure.apply.session import Outcome
    from infrastructure.cli.host import Planned
    from infrastructure.plan.compute import Plan


BRIDGE, WORKER = "bridge", "worker"
Service = Annotated[
    str, typer.Argument(metavar="bridge|worker", help="What is built from sources of yours")
]
Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The worker's, as in stack.yaml", autocompletion=workers),
]
Wait = Annotated[
    float | None, typer.Option("--wait", min=1, metavar="SECONDS", help="Until it is healthy")
]


def sync(
    context: typer.Context, service: Service = BRIDGE, name: Name = None, wait: Wait = None
) -> None:
    """Ship the bridge's or a worker's changed sources, build, and restart only that.

    Files that the host has already do not travel. The image is built before the old container
    stops; the gateway keeps running, and its session. When the new bridge does not become healthy,
    the old one is put back. A worker is started when there is what it needs.

    \b
    Examples:
      ./deploy.py sync bridge
      ./deploy.py sync worker scanner
      ./deploy.py --target prod sync bridge --json
    """
    replace(settings(context), service, name, fresh=False, wait=wait)


def replace(
    current: Settings, service: str, name: str | None, *, fresh: bool, wait: float | None
) -> None:
    """Builds the bridge or a worker and puts it into service; `fresh`: without cached layers."""
    from infrastructure.cli.commands.up import document, failing, require_worker
    from infrastructure.cli.host import planned
    from infrastructure.errors import UsageError

    one = _chosen(current, service, name, fresh=fresh)
    with planned(current, lock=True) as found:
        if found.observed.release is None:
            raise UsageError("nothing is deployed yet", hint="./deploy.py up", code="not-deployed")
        plan = only(found.plan, one, fresh=fresh)
        _tell(current, found, plan, one)
        if not plan.changed:
            current.out.document(_nothing(plan))
            current.out.say(f"{_the(one)} is as it should be; nothing to do")
            return
        with failing(current, {**plan.as_json(), "release": found.observed.release}):
            outcome = _replaced(found, plan, one, fresh=fresh, wait=wait)
            require_worker(outcome, one)
    current.out.document(document(plan, outcome.release, outcome))
    current.out.say(
        f"the new {_the(one).removeprefix('the ')} serves after {outcome.seconds:.1f} s"
        f" (release {outcome.release}); the gateway was left alone"
    )


def _replaced(found: Planned, plan: Plan, one: str, *, fresh: bool, wait: float | None) -> Outcome:
    session = found.session
    if one != BRIDGE:
        return session.replace_worker(plan, found.release, fresh=fresh, wait=wait)
    return session.replace_bridge(
        plan, found.release, fresh=fresh, logged_in=_logged_in(found), wait=wait
    )


def _chosen(current: Settings, service: str, name: str | None, *, fresh: bool) -> str:
    """The bridge, or a worker's name; UsageError for what is neither."""
    from infrastructure.errors import UsageError

    command = "rebuild" if fresh else "sync"
    known = current.target().stack.workers
    if service == BRIDGE and name is None:
        return BRIDGE
    if service != WORKER:
        hint = (
            f"./deploy.py {command} worker {service}"
            if service in known
            else ("./deploy.py restart gateway, or up --only SERVICE")
        )
        raise UsageError(f"only the bridge and workers are built, not '{service}'", hint=hint)
    if name is None or name not in known:
        hint = f"it has {', '.join(known) or 'none'} (workers: in stack.yaml)"
        raise UsageError(f"there is no worker '{name or ''}'", hint=hint)
    if fresh and known[name].build is None:
        hint = f"./deploy.py upgrade {name} looks for a newer image"
        raise UsageError(f"worker {name} is not built, it has an image", hint=hint)
    return name


def _the(one: str) -> str:
    return "the bridge" if one == BRIDGE else f"worker {one}"


def only(plan: Plan, one: str, *, fresh: bool) -> Plan:
    """The plan for one service alone; with `fresh` it is replaced even if nothing changed."""
    from infrastructure.cli.commands.up import narrowed

    kept = narrowed(plan, one)
    if fresh:
        changes = tuple(
            dataclasses.replace(change, action="update", cause="it is built afresh (rebuild)")
            if change.service == one and change.action in ("unchanged", "restart")
            else change
            for change in kept.changes
        )
        return dataclasses.replace(kept, changes=changes)
    wanted = any(change.action != "unchanged" for change in kept.changes)
    return kept if wanted else dataclasses.replace(kept, file_changes=())


def _tell(current: Settings, found: Planned, plan: Plan, one: str) -> None:
    from infrastructure.cli.plan_view import lines

    for line in lines(plan, diffs=current.verbose):
        current.out.say(line)
    others = [
        change.service
        for change in found.plan.changes
        if change.service != one and change.action != "unchanged"
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


def rebuild(
    context: typer.Context, service: Service = BRIDGE, name: Name = None, wait: Wait = None
) -> None:
    """Build the bridge's or a worker's image afresh, without cached layers, and restart only that.

    \b
    Examples:
      ./deploy.py rebuild bridge
      ./deploy.py rebuild worker scanner
    """
    replace(settings(context), service, name, fresh=True, wait=wait)
