"""`login`: what the gateway's login waits for, and the means to answer it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from infrastructure.apply.protocol.documents import LoginState
    from infrastructure.apply.protocol.events import Status
    from infrastructure.apply.session import Session

WAITING = "waiting-2fa"
ENDS_WITHIN = 60.0
"""Seconds that the gateway gets for what follows a code."""


def login(
    context: typer.Context,
    code: Annotated[
        str | None, typer.Option("--code", metavar="-", help="Type a code, read from stdin")
    ] = None,
    screenshot: Annotated[
        Path | None,
        typer.Option("--screenshot", metavar="FILE", help="Write a picture of the window (PNG)"),
    ] = None,
) -> None:
    """Say what the gateway's login waits for, and answer it.

    A code of an authenticator app, an SMS or a card is typed into the gateway's window: it is asked
    for on a terminal, or read from standard input with `--code -`; it is never an argument. A push
    is approved on IBKR Mobile. With --screenshot the gateway's window is written as a picture. Exit
    code 4 while a person is still waited for.

    \b
    Examples:
      ./deploy.py login
      ./deploy.py login --code - < code.txt
      ./deploy.py login --screenshot gateway.png
    """
    from bridge.login import states
    from infrastructure.cli.host import connected
    from infrastructure.errors import UsageError, WaitingForPerson
    from infrastructure.files import refuse_existing, write_new

    current = settings(context)
    if code not in (None, "-"):
        raise UsageError(
            "a code does not belong on the command line, where everybody can read it",
            hint="./deploy.py login --code - reads it from standard input",
        )
    target = current.target()
    if screenshot is not None:
        refuse_existing(screenshot)
    given = _given() if code else None
    with connected(current, target) as session:
        session.open()
        found = _farthest(session.status())
        if screenshot is not None:
            write_new(screenshot, session.picture())
            current.out.say(f"the gateway's window is in {screenshot}")
        if given is None and _asks(current, found):
            given = _checked(typer.prompt("code", hide_input=True, err=True))
        if given is not None:
            found = _typed(current, session, found, given)
    told, hint = in_words(found)
    current.out.document({"target": target.name, "login": found, "told": told, "hint": hint})
    current.out.row(told)
    if hint:
        current.out.say(f"hint: {hint}")
    if found["state"] in states.FOR_A_PERSON and not _types_itself(found):
        error = WaitingForPerson(told, hint=hint)
        error.reported = True
        raise error


def in_words(found: LoginState) -> tuple[str, str]:
    """What a `login` object says, and what to do about it."""
    from bridge.login import states

    trouble = states.TROUBLES.get(found["code"] or "")
    if _types_itself(found):
        return states.TYPED, ""
    told = states.told(found["state"], found["kind"], trouble, found["window"])
    retry = dict(found).get("retryAt")
    if retry and found["state"] in (states.STARTING, states.WAITING_BROKER):
        told = told if trouble is not None else states.SPACED_OUT
        told = f"{told}; the next attempt is at {retry}"
    if trouble is not None:
        return told, trouble.hint
    until = f" until {found['until']}" if found["until"] else ""
    asked = found["state"] == WAITING
    return told, f"approve the login on IBKR Mobile{until}" if asked else ""


def _types_itself(found: LoginState) -> bool:
    """Whether gangway types the code that is asked for: then it is no trouble."""
    return found["state"] == WAITING and found["kind"] == "code" and not found["code"]


def _asks(current: Settings, found: LoginState) -> bool:
    wanted = found["state"] == WAITING and found["kind"] == "code"
    wanted = wanted and not _types_itself(found)
    return wanted and current.out.live and sys.stdin.isatty()


def _given() -> str:
    """The code on standard input."""
    try:
        return _checked(sys.stdin.readline())
    except UnicodeDecodeError:
        return _checked("")


def _checked(text: str) -> str:
    from infrastructure.errors import UsageError

    code = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9A-Za-z]{4,16}", code):
        raise UsageError(
            "that is no code", hint="4 to 16 letters and digits, as the app or the SMS shows them"
        )
    return code


def _typed(current: Settings, session: Session, found: LoginState, code: str) -> LoginState:
    from infrastructure.errors import UsageError

    if found["state"] != WAITING or found["kind"] not in ("code", None):
        told, hint = in_words(found)
        raise UsageError(f"no code is asked for: {told}", hint=hint, code="no-code-asked")
    current.out.say("typing the code into the gateway's window")
    return _farthest(session.type_code(code, ENDS_WITHIN))


def _farthest(status: Status) -> LoginState:
    """Of two sessions the one that waits for a person, if one does."""
    from bridge.login import states

    waits = [one for one in status.logins if one["state"] in states.FOR_A_PERSON]
    waits = [one for one in waits if not _types_itself(one)]
    # What can be answered here comes before what cannot.
    waits.sort(key=lambda one: (one["state"] != WAITING, one["kind"] != "code"))
    return waits[0] if waits else status.login
