"""`plan [--check]`: what `up` would change, and why, as people read it; changes nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from infrastructure.cli import several
from infrastructure.cli.settings import settings
from infrastructure.cli.several import All


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
    from infrastructure.cli.plan_view import show

    current = settings(context)
    if names := several.chosen(current, every):
        return several.plan_or_status(current, names)
    show(current, check=check)
    return None
