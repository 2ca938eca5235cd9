"""`resume`: lift a halt."""

from __future__ import annotations

import typer

from infrastructure.cli.options import Yes, confirm
from infrastructure.cli.settings import settings


def command(context: typer.Context, yes: Yes = False) -> None:
    """Let orders through again.

    Without a bridge that answers only the mark in its data folder is taken away: a halt that the
    bridge itself has written down holds until it is told.

    \b
    Examples:
      ./deploy.py resume
    """
    from infrastructure.cli.host import connected
    from infrastructure.errors import GangwayError

    current = settings(context)
    target = current.target()
    confirm(current, "let orders through again?", yes=yes, default=False)
    with connected(current, target) as session:
        found = session.resume()
    if found["way"] == "mark":
        answer = found["answer"] if isinstance(found["answer"], dict) else {}
        if found["status"]:
            said = answer.get("detail") or answer.get("title") or "no reason given"
            raise GangwayError(
                f"the bridge does not resume, status {found['status']}: {said}",
                hint=str(answer.get("nextStep") or "./deploy.py status shows what is wrong"),
                code="not-resumed",
            )
        taken = (
            "the mark is removed" if found["mark"] == "removed" else f"the mark: {found['mark']}"
        )
        raise GangwayError(
            f"the bridge does not answer; {taken}, and what the bridge has written down holds",
            hint="resume again when ./deploy.py status shows the bridge",
            code="not-resumed",
        )
    current.out.document({"halted": False, "way": "bridge", "bridge": found["answer"]})
    current.out.say("orders go through again")
