"""`alerts test`: a test message to every address of `alerts.urls`."""

from __future__ import annotations

import typer

from infrastructure.cli.host import ask_bridge
from infrastructure.cli.settings import settings

SENDS_WITHIN = 80.0
"""Seconds; the bridge gives all services together a minute (bridge/alerts/messages.py)."""

app = typer.Typer(
    help="Messages to whoever has to act.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Messages to whoever has to act (`alerts:` in stack.yaml)."""


@app.command("test")
def test(context: typer.Context) -> int:
    """Send a test message to every address, and tell which service took it.

    Exit code 1 when one did not. The running bridge sends, as it will when something happens.

    \b
    Examples:
      ./deploy.py alerts test
    """
    current = settings(context)
    found = ask_bridge(current, "POST", "/alerts/test", within=SENDS_WITHIN)
    current.out.document(found)
    for one in found["services"]:
        word = "sent" if one["sent"] else "NOT sent"
        current.out.data(f"{word:<8}  {one.get('service', '')} {one.get('error') or ''}".rstrip())
    return 0 if all(one["sent"] for one in found["services"]) else 1
