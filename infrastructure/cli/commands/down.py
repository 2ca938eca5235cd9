"""`down`: stop the stack; its data, releases and history stay."""

from __future__ import annotations

import typer

from infrastructure.cli.app import Yes, confirm
from infrastructure.cli.settings import settings


def down(
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
    from infrastructure.cli import whereabouts
    from infrastructure.cli.host import connected

    current = settings(context)
    target = current.target()
    if not target.local:
        question = f"stop {target.name} on {target.stack.host.address}?"
        confirm(current, question, yes=yes, default=False)
    with connected(current, target) as session:
        session.open(lock=True)
        release = session.down()
    whereabouts.forget(target)
    gone = ""
    if target.stack.runtime == "sandbox":
        from infrastructure.config import sandbox

        sandbox.clear(target)
        if release:
            gone = ", and its simulated account is gone with it"
    current.out.document({"target": target.name, "release": release, "down": True})
    told = f"is down{gone}" if release else "was not deployed"
    current.out.say(f"{target.name} {told}")
