"""`plan [--check]`: what `up` would change, and why; changes nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from infrastructure.cli.settings import settings


def command(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Exit 3 when something changes")] = False,
) -> None:
    """Show what `up` would change, service by service, and whether 2FA will be needed.

    \b
    Examples:
      ./deploy.py plan
      ./deploy.py --target prod plan --check
    """
    from infrastructure.cli.host import planned
    from infrastructure.cli.show_plan import lines
    from infrastructure.errors import ChangesPending

    current = settings(context)
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
