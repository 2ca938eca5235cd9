"""`status [--watch]`: what runs on the host, and whether orders could be placed."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from infrastructure.cli import several
from infrastructure.cli.settings import Settings, settings
from infrastructure.cli.several import All
from infrastructure.cli.status_view import lines, look, show


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C")] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.5, metavar="SECONDS", help="How often, with --watch")
    ] = 2.0,
    all_targets: All = False,
) -> int | None:
    """Show what runs, the gateway's login and JVM, the bridge's health, memory, disk, certificate.

    With --watch the picture is renewed over the same connection; with --json as well, one JSON
    object a line.

    \b
    Examples:
      ./deploy.py status
      ./deploy.py --target prod status --watch
    """
    from infrastructure.errors import UsageError

    current = settings(context)
    if names := several.chosen(current, all_targets):
        if watch:
            raise UsageError("--watch looks at one target", hint="without --watch")
        return several.plan_or_status(current, names)
    if watch:
        _watch(current, every)
    else:
        show(current)
    return None


def _watch(current: Settings, every: float) -> None:
    from infrastructure.cli.host import connected

    target = current.target()
    with connected(current, target) as session:
        if current.out.json or not sys.stdout.isatty():
            while True:
                found = look(target, session)
                current.out.document(found)
                current.out.data("\n".join(lines(found)))
                time.sleep(every)
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        from infrastructure.cli.output import safe

        with Live(console=Console(), auto_refresh=False, screen=True) as live:
            while True:
                live.update(Text(safe("\n".join(lines(look(target, session))))), refresh=True)
                time.sleep(every)
