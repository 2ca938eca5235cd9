"""`logs [SERVICE] [-f] [--since]`: what the services say."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any

import typer

from infrastructure.cli.complete import services
from infrastructure.cli.log_lines import readable
from infrastructure.cli.settings import settings


def command(
    context: typer.Context,
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE]...", help="All, when none is named", autocompletion=services
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="10m, 2h, 1d, or 2026-01-31T09:00:00Z")
    ] = "",
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="The last so many of each; 0: all")
    ] = 200,
) -> None:
    """Show the services' logs, ordered by time.

    Requests and events are shown as people read them. With --json, one JSON object a line, as it
    was logged: service, time, line.

    \b
    Examples:
      ./deploy.py logs gateway
      ./deploy.py logs -f bridge --since 10m
    """
    from infrastructure.cli.host import connected
    from infrastructure.errors import Interrupted

    check_since(since)
    current = settings(context)
    with connected(current, current.target()) as session:
        session.open()
        wanted = list(services or ())
        limit = 0 if since else lines
        try:
            for row in session.logs(wanted, since=since, lines=limit, follow=follow):
                show(row, as_json=current.out.json, named=len(wanted) != 1)
        except KeyboardInterrupt:
            if not follow:
                raise
            raise typer.Exit(Interrupted.exit_code) from None  # how one leaves, not an error


def check_since(text: str) -> None:
    """Raises UsageError when it is neither an age nor a time: it would match nothing."""
    from datetime import datetime

    from infrastructure.errors import UsageError

    if not text or re.fullmatch(r"(\d{1,6}[smhd])+", text):
        return
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since: '{text}' is no time", hint="10m, 2h, 1d, or 2026-01-31T09:00:00Z"
        ) from None


def show(row: dict[str, Any], *, as_json: bool, named: bool) -> None:
    """One line on stdout, at once."""
    if as_json:
        shown = {"service": row["service"], "time": row["time"], "line": row["text"]}
        text = json.dumps(shown, ensure_ascii=False)
    else:
        prefix = f"{row['service']:<8} " if named else ""
        text = f"{row['time'][:19]} {prefix}{readable(row['text'])}".lstrip()
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
