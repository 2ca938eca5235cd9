"""A plan as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infrastructure.plan import Plan

_SIGNS = {"create": "+", "update": "~", "restart": "!", "remove": "-", "unchanged": "="}


def lines(plan: Plan, *, diffs: bool = True) -> list[str]:
    """Service by service with the cause, the diffs, and whether a person is needed."""
    width = max((len(change.service) for change in plan.changes), default=0)
    shown = []
    for change in plan.changes:
        sign = _SIGNS[change.action]
        shown.append(f"{sign} {change.service:<{width}}  {change.action}: {change.cause}")
        if diffs and change.diff:
            shown += [f"    {line}" for line in change.diff.splitlines()]
    shown += [f"~ {path} changed, which no service reads" for path in plan.file_changes]
    if not plan.changed:
        shown.append("nothing to do")
    word = "expected" if plan.two_factor_expected else "not needed"
    shown.append(f"2FA approval: {word} ({plan.two_factor_reason})")
    return shown
