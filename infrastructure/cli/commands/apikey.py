"""`apikey create|list|revoke`: keys of the bridge's API. A key is shown once."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from bridge.quantity import plain
from infrastructure.cli.host import ask_bridge
from infrastructure.cli.settings import settings
from infrastructure.errors import UsageError

app = typer.Typer(
    help="Create, list and revoke keys of the bridge's API.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
Scope = Literal["history", "read", "trade", "admin"]


@app.command("create")
def create(
    context: typer.Context,
    label: Annotated[str, typer.Argument(help="What it is for, such as phone")],
    scope: Annotated[Scope, typer.Option("--scope", help="history, read, trade or admin")] = "read",
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=3650, help="Valid for; unset: for ever")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE", help="Valid to the end of this day")
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option("--account", help="Trades this account only; repeatable")
    ] = None,
    symbols: Annotated[
        list[str] | None, typer.Option("--symbols", metavar="A,B", help="Trades these only")
    ] = None,
    max_notional: Annotated[
        float | None, typer.Option("--max-notional", min=0.01, help="Most money in one order")
    ] = None,
    max_orders_per_day: Annotated[
        int | None, typer.Option("--max-orders-per-day", min=1, help="Most orders of this key")
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="CIDR", help="Opens from this network only; repeatable"),
    ] = None,
    qr: Annotated[
        bool | None, typer.Option("--qr/--no-qr", help="As a QR code [on a terminal]")
    ] = None,
) -> None:
    """Make a key and print it, this once only, on stdout.

    Bounds hold wherever orders are judged: placing, changing, cancelling, previews.
    On a terminal a phone's camera can read the key from its QR code.

    \b
    Examples:
      ./deploy.py apikey create phone --scope read
      ./deploy.py apikey create bot --scope trade --days 90 > bot.key
      ./deploy.py apikey create etf --scope trade --account DU1234567 --symbols SPY,QQQ \\
          --max-notional 5000 --max-orders-per-day 20 --from 203.0.113.0/24
    """
    current = settings(context)
    bounds = {
        "accounts": _words("--account", account),
        "symbols": _words("--symbols", symbols),
        "maxNotional": max_notional,
        "maxOrdersPerDay": max_orders_per_day,
        "from": _words("--from", networks),
    }
    wanted: dict[str, Any] = {"label": label, "scope": scope, "days": days, "expires": expires}
    wanted["bounds"] = {name: value for name, value in bounds.items() if value}
    made = ask_bridge(current, "POST", "/keys", wanted)
    current.out.document(made)
    current.out.data(made["key"])
    if current.out.attended if qr is None else qr:
        current.out.picture(made["key"])
    current.out.say(f"key {made['id']} ({made['scope']}); keep it, it is not shown again")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the keys, without the keys themselves."""
    current = settings(context)
    found = ask_bridge(current, "GET", "/keys")
    current.out.document(found)
    for key in found["keys"]:
        state = _until(key["expiresAt"]) if key["active"] else "ended"
        bounds = _shown(key.get("bounds", {}))
        line = f"{key['id']:<14} {key['scope']:<6} {state:<22} {key['label']}"
        current.out.row(f"{line}  ({bounds})" if bounds else line)
    if not found["keys"]:
        current.out.say("there is only the first key (bridge-admin-key)")


@app.command("revoke")
def revoke(
    context: typer.Context,
    identity: Annotated[str, typer.Argument(metavar="ID", help="As `apikey list` shows it")],
    overlap: Annotated[
        int, typer.Option("--overlap", min=0, help="Seconds that it stays valid")
    ] = 0,
) -> None:
    """End a key, at once or after a while.

    \b
    Examples:
      ./deploy.py apikey revoke k_4fz81 --overlap 3600
    """
    current = settings(context)
    ask_bridge(current, "DELETE", f"/keys/{quote(identity, safe='')}?overlap={overlap}")
    current.out.document({"id": identity, "revoked": True})
    current.out.say(f"key {identity} is revoked" + (f" in {overlap} s" if overlap else ""))


def _until(expires_at: str | None) -> str:
    """Midnight is the end of the day before, which is what `--expires` takes."""
    if expires_at is None:
        return "for ever"
    moment = datetime.fromisoformat(expires_at)
    if moment.time() == time():
        return f"until {moment.date() - timedelta(days=1)} 24:00"
    return f"until {moment:%Y-%m-%d %H:%M}"


def _words(option: str, texts: list[str] | None) -> list[str]:
    """The words of a bound. One of none, such as `,`, would make a key without that bound."""
    words: list[str] = []
    for text in texts or ():
        found = [word.strip() for word in text.split(",") if word.strip()]
        if not found:
            raise UsageError(f"{option} names none", hint="leave it out for no bound")
        words += found
    return words


def _shown(bounds: dict[str, Any]) -> str:
    """A key's bounds on a line, in the words of `create`."""
    parts = [
        *(["account " + ",".join(bounds["accounts"])] if bounds.get("accounts") else []),
        *(["symbols " + ",".join(bounds["symbols"])] if bounds.get("symbols") else []),
        *([f"max-notional {plain(bounds['maxNotional'])}"] if bounds.get("maxNotional") else []),
        *(
            [f"max-orders-per-day {bounds['maxOrdersPerDay']}"]
            if bounds.get("maxOrdersPerDay")
            else []
        ),
        *(["from " + ",".join(bounds["from"])] if bounds.get("from") else []),
    ]
    return "; ".join(parts)
