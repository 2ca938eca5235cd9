"""`history` and `rollback [RELEASE]`: past deploys, and an earlier release that serves again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.app import Wait, Yes, confirm
from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from infrastructure.apply.protocol.documents import LedgerEntry
    from infrastructure.errors import Problem
    from infrastructure.plan.compute import Plan


def rollback(
    context: typer.Context,
    release: Annotated[
        str, typer.Argument(help="Its id or the beginning of it; unset: the last healthy one")
    ] = "",
    yes: Yes = False,
    wait: Wait = None,
) -> None:
    """Serve an earlier release again: its files, images, settings and secrets as they were.

    Only what differs from what runs is touched. When the earlier release does not become healthy,
    what serves now is put back. `history` lists the releases.

    \b
    Examples:
      ./deploy.py rollback
      ./deploy.py rollback 4f2a91 --yes
    """
    from infrastructure.cli.commands.up import ending, failing, worth_asking
    from infrastructure.cli.host import connected
    from infrastructure.plan.compute import back_to

    current = settings(context)
    target = current.target()
    with connected(current, target) as session:
        observed = session.open(lock=True)
        found = session.going_back(release)
        plan = back_to(target, observed, found.release, found.changes, found.definition)
        document = {**plan.as_json(), "previous": plan.previous}
        for line in lines(plan):
            current.out.say(line)
        typed = typed_otherwise(plan, found.secrets)
        if typed is not None:
            current.out.warn(typed)
        if not plan.changed:
            current.out.document({**document, "healthy": None, "restored": False, "seconds": 0})
            current.out.say(
                f"release {plan.release} serves already; ./deploy.py status says how it is"
            )
            return
        if plan.forecast.expected or typed is not None or worth_asking(plan):
            confirm(current, yes=yes)
        with failing(current, document):
            outcome = session.roll_back(plan.release, keep=plan.forecast.token, wait=wait)
    current.out.document({**document, **ending(outcome)})
    current.out.say(f"release {outcome.release} serves again after {outcome.seconds:.0f} s")


TYPED = ("tws-password", "tws-password-paper", "totp-seed", "portal-password")
"""Secrets that a login types: one that IBKR does not take any more counts as a refused login."""


def typed_otherwise(plan: Plan, secrets: list[str]) -> Problem | None:
    """What a person has to know where an earlier password would be typed; None: nothing."""
    from infrastructure.errors import Problem

    touched = {change.service for change in plan.changes if change.action != "remove"}
    names = [
        name
        for name in secrets
        if name in TYPED and ("portal" if name.startswith("portal") else "gateway") in touched
    ]
    if not names:
        return None
    return Problem(
        f"release {plan.release} has another {' and '.join(names)} than what serves now: if IBKR"
        " does not take it any more, the login is refused, and each refused one brings a lock"
        " nearer",
        hint="with the present secrets: the earlier settings into stack.yaml, then ./deploy.py up",
    )


def lines(plan: Plan) -> list[str]:
    """What will happen, for people."""
    shown = [f"release {plan.previous} -> {plan.release}"]
    for change in plan.changes:
        _, _, other = change.cause.partition(": ")
        shown.append(f"  {change.service}: {change.action}" + (f" ({other})" if other else ""))
    return [*shown, plan.forecast.line]


def history(context: typer.Context) -> None:
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
    entries = found.entries[::-1]
    current.out.document(
        {"target": target.name, "current": found.current, "deploys": entries},
    )
    for line in history_lines(entries, found.current):
        current.out.row(line)


def history_lines(entries: list[LedgerEntry], current: str | None) -> list[str]:
    """The entries for people; `*` marks the release that serves."""
    if not entries:
        return ["nothing was deployed yet"]
    return [_history_line(entry, current) for entry in entries]


def _history_line(entry: LedgerEntry, current: str | None) -> str:
    mark = "*" if entry["release"] == current else " "
    seconds = f"{entry['seconds']:>6.0f} s" if "seconds" in entry else " " * 8
    restored = ", previous release restored" if entry.get("restored") else ""
    reason = f": {entry['reason']}" if entry.get("reason") else ""
    return (
        f"{mark} {entry['time']}  {entry['release']}  {entry.get('command', 'up'):<15} "
        f"{seconds}  {entry['result']}{restored}{reason}  ({entry.get('by', '')})"
    )
