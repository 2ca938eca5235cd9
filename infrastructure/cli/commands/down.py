"""`down`: stop the stack; its data, releases and history stay."""

from __future__ import annotations

import typer

from infrastructure.cli.options import Yes, confirm
from infrastructure.cli.settings import settings


def command(
    context: typer.Context,
    yes: Yes = False,
) -> None:
    """Stop and remove every service of the stack.

    Data, releases and history stay on the host; `up` brings it back, with a fresh login. Of the
    sandbox nothing stays.

    \b
    Examples:
      ./deploy.py down
    """
    from infrastructure.cli.host import connected

    current = settings(context)
    target = current.target()
    if not target.local:
        question = f"stop {target.name} on {target.stack.host.address}?"
        confirm(current, question, yes=yes, default=False)
    with connected(current, target) as session:
        session.open(lock=True)
        release = session.down()
    if target.stack.runtime == "sandbox":
        from infrastructure.config import sandbox

        sandbox.clear(target)
    current.out.document({"target": target.name, "release": release, "down": True})
    current.out.say(f"{target.name} is down" if release else f"{target.name} was not deployed")
