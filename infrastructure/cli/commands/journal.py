"""`journal show|accept`: the journal of orders, and a person's word that it may be used."""

from __future__ import annotations

from typing import Any

import typer

from infrastructure.cli.app import Yes, confirm
from infrastructure.cli.host import ask_bridge
from infrastructure.cli.settings import Settings, settings

app = typer.Typer(
    help="The bridge's journal of orders.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("show")
def show(context: typer.Context) -> None:
    """Say whether the journal is the one from before, and what could not be kept in it.

    \b
    Examples:
      ./deploy.py journal show
    """
    current = settings(context)
    found = ask_bridge(current, "GET", "/journal")
    current.out.document(found)
    _tell(current, found)


@app.command("accept")
def accept(context: typer.Context, yes: Yes = False) -> None:
    """Say that a lost, restored or moved journal may be used: orders go out again.

    Compare open orders and fills with TWS first: what the journal has forgotten and the broker
    no longer lists could be ordered twice. A halt that a person has made stays.

    \b
    Examples:
      ./deploy.py journal accept
    """
    current = settings(context)
    found = ask_bridge(current, "GET", "/journal")
    if found["accepted"]:
        current.out.document(found)
        current.out.say("the journal is the one from before: nothing to accept")
        return
    _tell(current, found)
    question = "have you compared open orders and fills with TWS?"
    confirm(current, question, yes=yes, default=False)
    found = ask_bridge(current, "POST", "/journal/accept")
    current.out.document(found)
    current.out.say("the journal is accepted")


def _tell(current: Settings, found: dict[str, Any]) -> None:
    if found["accepted"]:
        current.out.data("accepted: the journal from before")
    else:
        current.out.data(f"not accepted, trading is halted: {found['why']}")
    if not found["writable"]:
        current.out.data("it cannot be written")
    for one in found["setAside"]:
        state = "seen" if one["mendedAt"] else "OPEN"
        line = f"{state:<5} {one['at'][:19]} {one['kind']:<13} {one['name'][:40]}: {one['cause']}"
        current.out.data(line[:200])
