"""`halt` and `resume`: the kill switch, through the bridge or around it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.cli.app import Yes, confirm
from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from infrastructure.apply.protocol.events import Cancelled, Halted
    from infrastructure.apply.session import Session

HALTING = {"left", "empty"}
"""What became of the mark, where it halts."""
LONGEST = 500
"""Characters of a reason that the bridge takes; of a longer one the beginning is kept."""
UNASKED = 4
"""Exit code: halted, but a person has to say whether everything is cancelled."""


def halt(
    context: typer.Context,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the records")
    ] = "",
    keep_orders: Annotated[bool, typer.Option("--keep-orders", help="Cancel nothing")] = False,
    every: Annotated[bool, typer.Option("--all", help="Cancel every order of everyone")] = False,
) -> None:
    """Stop trading: no order goes out from here on, also after a restart.

    Open orders that open or enlarge a position are cancelled; those that only close one stay.
    When the bridge does not answer within 3 seconds, a mark in its data folder halts it, and the
    cancel goes from the host straight to the gateway: that one cannot tell protective orders from
    others, so it is asked for (or given by --all).

    \b
    Examples:
      ./deploy.py halt --reason "the bot is mad"
      ./deploy.py halt --all
      ./deploy.py halt --keep-orders
    """
    from infrastructure.cli.host import connected
    from infrastructure.errors import UsageError

    if keep_orders and every:
        raise UsageError("--keep-orders cancels nothing, --all everything", hint="choose one")
    current = settings(context)
    cancel = "none" if keep_orders else "all" if every else "opening"
    with connected(current, current.target()) as session:
        found = session.halt(cancel, recorded(reason))
        failed = _failed(found)
        if found.way == "bridge":
            _tell_bridge(current, found)
            if not failed:
                current.out.document(_document(found, None))
                return
        else:
            _tell_mark(current, found)
        wanted = every or (cancel == "opening" and _agreed(current, found))
        straight = _straight(current, session, found) if wanted else None
    current.out.document(_document(found, straight))
    if failed and straight is None:
        current.out.say("what failed is open still: ./deploy.py halt --all, or TWS, cancels it")
        raise typer.Exit(1)
    _end(current, found, straight, unasked=cancel == "opening" and not wanted)


def _failed(found: Halted) -> list[str]:
    """The orders whose cancel the bridge could not send."""
    cancelled = found.answer.get("cancelled") if isinstance(found.answer, dict) else None
    failed = cancelled.get("failed") if isinstance(cancelled, dict) else None
    return list(failed) if found.way == "bridge" and isinstance(failed, list) else []


def _straight(current: Settings, session: Session, found: Halted) -> Cancelled:
    """The global cancel; where that cannot go out it is said what has become of the halt."""
    from infrastructure.errors import GangwayError

    try:
        return session.cancel_all()
    except GangwayError as error:
        told = {"error": error.code, "message": error.message}
        current.out.document({**_document(found, None), **told})
        error.reported = True
        raise


def recorded(reason: str) -> str:
    """The reason as records take it: a kill switch never refuses for its comment.

    Bytes of another encoding came as lone surrogates, which no bridge reads.
    """
    text = reason.encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _document(found: Halted, straight: Cancelled | None) -> dict[str, Any]:
    by_bridge = found.way == "bridge"
    return {
        "halted": by_bridge or found.mark in HALTING,
        "way": "bridge" if by_bridge else "gateway" if straight else "mark",
        "mark": found.mark,
        "bridge": found.answer if by_bridge else None,
        "globalCancel": None if straight is None else vars(straight),
    }


def _end(current: Settings, found: Halted, straight: Cancelled | None, *, unasked: bool) -> None:
    """Says what became of the orders; the exit code says whether all that was wanted is so."""
    if straight is not None:
        _tell_straight(current, straight)
    held = found.way == "bridge" or found.mark in HALTING
    if not held or (straight is not None and straight.left != 0):
        raise typer.Exit(1)
    if unasked:
        current.out.say("no order was cancelled: ./deploy.py halt --all cancels every open order")
        raise typer.Exit(UNASKED)


def _agreed(current: Settings, found: Halted) -> bool:
    if current.out.json or not sys.stdin.isatty():
        return False
    why = "around" if found.way == "bridge" else "without"
    question = (
        f"{why} the bridge protective orders cannot be told apart: "
        "cancel EVERY open order of every client at the gateway?"
    )
    return typer.confirm(question, default=False, err=True)


def _tell_bridge(current: Settings, found: Halted) -> None:
    answer = found.answer
    current.out.say("trading is halted, by the bridge")
    cancelled = answer.get("cancelled")
    if isinstance(cancelled, dict) and answer.get("cancel") == "all" and not _failed(found):
        current.out.say("  a global cancel was sent: it takes every open order of every client")
    elif isinstance(cancelled, dict):
        told = ", ".join(
            f"{len(value) if isinstance(value, list) else value} {name}"
            for name, value in cancelled.items()
            if value
        )
        current.out.say(f"  orders: {told or 'none was open'}")
    if not answer.get("journaled", True):
        current.out.say("  the journal could not be written; the halt holds all the same")
    if not answer.get("survivesRestart", True):
        if found.mark in HALTING:
            current.out.say("  the bridge could not keep the halt; a mark beside it holds instead")
        else:
            current.out.say("  do not restart the bridge: it could not keep the halt")
    if _failed(found) and answer.get("nextStep"):
        current.out.say(f"  {answer['nextStep']}")
    current.out.say("  ./deploy.py resume lets orders through again")


def _tell_mark(current: Settings, found: Halted) -> None:
    why = f"answers {found.status}" if found.status else "does not answer"
    current.out.say(f"the bridge {why}: going around it")
    if found.mark in {"left", "empty"}:
        current.out.say("  a mark in its data folder halts it, also after a restart")
    else:
        current.out.say(f"  the mark that halts it could NOT be left: {found.mark}")
        current.out.say("  stop it: ./deploy.py down")


def _tell_straight(current: Settings, found: Cancelled) -> None:
    current.out.say("a global cancel went straight from the host to the gateway")
    left = "it does not say how many" if found.left is None else found.left or "none"
    current.out.say(f"  orders that are open now: {left}")
    for error in found.errors:
        current.out.say(f"  the gateway says: {error}")


def resume(context: typer.Context, yes: Yes = False) -> None:
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
    if found.way == "mark":
        answer = found.answer if isinstance(found.answer, dict) else {}
        if found.status:
            said = answer.get("detail") or answer.get("title") or "no reason given"
            raise GangwayError(
                f"the bridge does not resume, status {found.status}: {said}",
                hint=str(answer.get("nextStep") or "./deploy.py status shows what is wrong"),
                code="not-resumed",
            )
        taken = "the mark is removed" if found.mark == "removed" else f"the mark: {found.mark}"
        raise GangwayError(
            f"the bridge does not answer; {taken}, and what the bridge has written down holds",
            hint="resume again when ./deploy.py status shows the bridge",
            code="not-resumed",
        )
    current.out.document({"halted": False, "way": "bridge", "bridge": found.answer})
    current.out.say("orders go through again")
