"""`history`: what was deployed, by whom, and how it went."""

from __future__ import annotations

from typing import Any

import typer

from infrastructure.cli.settings import settings


def command(context: typer.Context) -> None:
    """List past deploys, newest first.

    \b
    Examples:
      ./deploy.py history
    """
    from infrastructure.cli.host import connected

    current = settings(context)
    target = current.target()
    with connected(current, target) as session:
        session.open()
        found = session.history()
    entries = found["entries"][::-1]
    current.out.document(
        {"target": target.name, "current": found["current"], "deploys": entries},
    )
    for line in lines(entries, found["current"]):
        current.out.row(line)


def lines(entries: list[dict[str, Any]], current: str | None) -> list[str]:
    """The entries for people; `*` marks the release that serves."""
    if not entries:
        return ["nothing was deployed yet"]
    return [_line(entry, current) for entry in entries]


def _line(entry: dict[str, Any], current: str | None) -> str:
    mark = "*" if entry["release"] == current else " "
    seconds = f"{entry['seconds']:>6.0f} s" if "seconds" in entry else " " * 8
    restored = ", previous release restored" if entry.get("restored") else ""
    reason = f": {entry['reason']}" if entry.get("reason") else ""
    return (
        f"{mark} {entry['time']}  {entry['release']}  {entry.get('command', 'up'):<15} "
        f"{seconds}  {entry['result']}{restored}{reason}  ({entry.get('by', '')})"
    )
