"""`logs [SERVICE] [-f] [--since]`: what the services say; `--explain`: what the login did."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.cli.commands.completion import services
from infrastructure.cli.output import dumps, one_line
from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from infrastructure.apply.protocol.events import Line
    from infrastructure.cli.settings import Settings


USUAL_LINES = 200
"""Of each service, where nothing says how many or since when."""


def logs(
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
        int | None,
        typer.Option(
            *("--lines", "-n"),
            min=0,
            help="The last so many of each; 0: all. Unset: 200, with --since all",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="The gateway's log as a timeline of its login, with advice"),
    ] = False,
    file: Annotated[
        str, typer.Option("--file", metavar="FILE", help="With --explain: a saved log; - is stdin")
    ] = "",
) -> None:
    """Show the services' logs, ordered by time.

    Requests and events are shown as people read them. With --json, one JSON object a line, as it
    was logged: service, time, line. With --explain the gateway's log, or a saved one (IBC's,
    ibcontroller's, IBKR's launcher.log), becomes a timeline of login states; it shows no address,
    id or hash of the log.

    \b
    Examples:
      ./deploy.py logs gateway
      ./deploy.py logs -f bridge --since 10m
      ./deploy.py logs gateway --explain
      ./deploy.py logs gateway --explain --file launcher.log
    """
    from infrastructure.cli.host import connected
    from infrastructure.errors import Interrupted, UsageError

    check_since(since)
    current = settings(context)
    if explain or file:
        check_explain(list(services or ()), explain=explain, follow=follow, lines=lines)
        if file and since:
            raise UsageError("--since is for what runs", hint="--file is explained as a whole")
        explain_login(current, file, since)
        return
    with connected(current, current.target()) as session:
        session.open()
        wanted = list(services or ())
        limit = lines if lines is not None else 0 if since else USUAL_LINES
        try:
            for row in session.logs(wanted, since=since, lines=limit, follow=follow):
                show(row, as_json=current.out.json, named=len(wanted) != 1)
        except KeyboardInterrupt:
            if not follow:
                raise
            raise typer.Exit(Interrupted.exit_code) from None  # how one leaves, not an error


def check_explain(services: list[str], *, explain: bool, follow: bool, lines: int | None) -> None:
    """Raises UsageError for what does not go with --explain."""
    from infrastructure.errors import UsageError

    if not explain:
        raise UsageError("--file goes with --explain", hint="./deploy.py logs gateway --explain")
    if follow:
        raise UsageError("--explain shows what there is", hint="leave -f out, and ask again")
    if lines is not None:
        raise UsageError("--explain takes all lines", hint="leave --lines out; --since shortens")
    if services not in ([], ["gateway"]):
        raise UsageError("--explain is for the gateway", hint="./deploy.py logs gateway --explain")


def explain_login(current: Settings, file: str, since: str) -> None:
    """Prints the timeline of a saved log, or of the gateway that runs."""
    from infrastructure.diagnose.timeline import lines_for_people

    found = saved(current, file) if file else running(current, since)
    current.out.document(found)
    for line in lines_for_people(found):
        current.out.data(line)


BIGGEST_LOG = 256 << 20
"""Bytes; of a year's log."""


def saved(current: Settings, file: str) -> dict[str, Any]:
    """The timeline of a file; no host and no stack.yaml are needed."""
    from contextlib import nullcontext
    from functools import partial
    from io import BytesIO, TextIOWrapper

    from infrastructure.diagnose.timeline import LONGEST, explain
    from infrastructure.errors import UsageError
    from infrastructure.files import content, expanded

    try:
        opened = (
            nullcontext(sys.stdin)
            if file == "-"
            else TextIOWrapper(
                BytesIO(content(expanded(file), at_most=BIGGEST_LOG)), "utf-8", "replace"
            )
        )
        with opened as lines:
            timeline = explain(iter(partial(lines.readline, LONGEST), ""), time_zone(current))
    except OSError as error:
        raise UsageError(
            f"--file: {file} cannot be read: {error.strerror}", hint="- reads standard input"
        ) from None
    if not timeline.known:
        raise UsageError(
            f"--file: {'standard input' if file == '-' else file} is no log of a gateway's login",
            hint="IBC's or ibcontroller's log, or launcher.log from the gateway's settings folder",
        )
    return timeline.shown()


def running(current: Settings, since: str) -> dict[str, Any]:
    """The timeline of the gateway's container."""
    import time

    from infrastructure.cli.host import connected
    from infrastructure.diagnose.timeline import Timeline, of_sessions

    target = current.target()
    totp = target.stack.gateway.two_factor.totp is not None
    timeline = Timeline(target.stack.gateway.time_zone, totp=totp)
    with connected(current, target) as session:
        session.open()
        facts = session.login_facts() if len(target.stack.sessions) > 1 else {}
        if facts:
            return of_sessions(facts, time.time())
        for row in session.logs(["gateway"], since=since, lines=0, follow=False):
            timeline.add(row.text, "" if row.time == "-" else row.time)
    return timeline.shown(time.time())


def time_zone(current: Settings) -> str:
    """The gateway's, where a stack.yaml can be read; else the default one."""
    from infrastructure.config.gateway import Gateway
    from infrastructure.errors import GangwayError

    try:
        return current.target().stack.gateway.time_zone
    except GangwayError:
        return Gateway().time_zone


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


def show(row: Line, *, as_json: bool, named: bool) -> None:
    """One line on stdout, at once."""
    if as_json:
        shown = {"service": row.service, "time": row.time, "line": row.text}
        text = dumps(shown)
    else:
        prefix = f"{row.service:<8} " if named else ""
        text = one_line(f"{row.time[:19]} {prefix}{readable(row.text)}".lstrip())
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


_NOISE = {"event", "level", "timestamp", "requestId", "kind", "logger", "msg", "ts"}


def readable(line: str) -> str:
    """`GET /quote/{symbol} 200 5.6 ms`, or `connected version=178`; warnings begin with WARNING."""
    if not line.startswith("{"):
        return line
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict):
        return line
    text = _request(found) or _event(found)
    level = str(found.get("level", "info")).upper()
    return text if level in {"INFO", "DEBUG"} else f"{level} {text}"


def _request(found: dict[str, Any]) -> str:
    """An answered request, of the bridge's log or of Caddy's."""
    request = found.get("request")
    if isinstance(request, dict) and "status" in found:
        seconds = found.get("duration")
        took = f" {seconds * 1000:.1f} ms" if isinstance(seconds, int | float) else ""
        who = request.get("client_ip", "")
        return f"{request.get('method')} {request.get('uri')} {found['status']}{took} {who}".strip()
    if found.get("event") == "request" and "path" in found:
        parts = [found.get("method"), found["path"], found.get("status"), f"{found.get('ms')} ms"]
        parts += [found.get("by"), found.get("code")]
        return " ".join(str(part) for part in parts if part)
    return ""


def _event(found: dict[str, Any]) -> str:
    event = found.get("event", "")
    if "msg" in found:
        event = ": ".join(str(found[name]) for name in ("logger", "msg") if found.get(name))
    elif event == "connection-event" and "kind" in found:
        event = found["kind"]
    details = [f"{name}={_quoted(value)}" for name, value in found.items() if name not in _NOISE]
    return " ".join([str(event), *details]).strip()


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=') else text
