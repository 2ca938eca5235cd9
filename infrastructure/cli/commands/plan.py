"""`plan [--check]`: what `up` would change, and why, as people read it; changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli import several
from infrastructure.cli.options import settings
from infrastructure.cli.several import All

if TYPE_CHECKING:
    from infrastructure.plan.compute import Plan


def plan(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Exit 3 when something changes")] = False,
    every: All = False,
) -> int | None:
    """Show what `up` would change, service by service, and whether 2FA will be needed.

    \b
    Examples:
      ./deploy.py plan
      ./deploy.py --target prod plan --check
    """
    from infrastructure.cli.commands.plan import lines
    from infrastructure.cli.host import planned
    from infrastructure.errors import ChangesPending

    current = settings(context)
    if names := several.chosen(current, every):
        return several.plan_or_status(current, names)
    with planned(current) as found:
        plan = found.plan
    current.out.document(plan.as_json())
    for line in lines(plan):
        current.out.row(line)
    if check and plan.changed:
        pending = sum(change.action != "unchanged" for change in plan.changes)
        error = ChangesPending(f"changes are pending: {pending} services", hint="./deploy.py up")
        error.reported = True
        raise error
    return None


_SIGNS = {"create": "+", "update": "~", "restart": "!", "remove": "-", "unchanged": "="}


def lines(plan: Plan, *, diffs: bool = True) -> list[str]:
    """Service by service with the cause, the diffs, and whether a person is needed."""
    width = max((len(change.service) for change in plan.changes), default=0)
    shown = []
    from infrastructure.release_files import SERVICES

    for change in plan.changes:
        what = "" if change.service in SERVICES else "worker, "
        sign = _SIGNS[change.action]
        shown.append(f"{sign} {change.service:<{width}}  {what}{change.action}: {change.cause}")
        if diffs and change.diff:
            shown += [f"    {line}" for line in change.diff.splitlines()]
    shown += [f"~ {path} changed, which no service reads" for path in plan.file_changes]
    if not plan.changed:
        shown.append("nothing to do")
    shown.append(plan.forecast.line)
    return shown
