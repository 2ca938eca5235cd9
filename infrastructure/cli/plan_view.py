"""What `plan` shows: each service's change with its cause, and whether a person is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infrastructure.cli.settings import Settings
    from infrastructure.plan.compute import Plan


def show(current: Settings, *, check: bool) -> None:
    """Plans, and prints it.

    Raises:
        ChangesPending: with `check`, something would change.
    """
    from infrastructure.cli.host import planned
    from infrastructure.errors import ChangesPending

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
