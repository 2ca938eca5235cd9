"""`apikey create|list|revoke`: keys of the bridge's API. A key is shown once."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from infrastructure.cli.settings import Settings, settings

app = typer.Typer(
    help="Create, list and revoke keys of the bridge's API.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
Scope = Literal["read", "trade", "admin"]


@app.command("create")
def create(
    context: typer.Context,
    label: Annotated[str, typer.Argument(help="What it is for, such as phone")],
    scope: Annotated[Scope, typer.Option("--scope", help="read, trade or admin")] = "read",
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=3650, help="Valid for; unset: for ever")
    ] = None,
) -> None:
    """Make a key and print it, this once only, on stdout.

    \b
    Examples:
      ./deploy.py apikey create phone --scope read
      ./deploy.py apikey create bot --scope trade --days 90 > bot.key
    """
    current = settings(context)
    made = ask(current, "POST", "/keys", {"label": label, "scope": scope, "days": days})
    current.out.document(made)
    current.out.data(made["key"])
    current.out.say(f"key {made['id']} ({made['scope']}); keep it, it is not shown again")


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the keys, without the keys themselves."""
    current = settings(context)
    found = ask(current, "GET", "/keys")
    current.out.document(found)
    for key in found["keys"]:
        until = f"until {key['expiresAt'][:10]}" if key["expiresAt"] else "for ever"
        state = until if key["active"] else "ended"
        current.out.data(f"{key['id']:<14} {key['scope']:<6} {state:<18} {key['label']}")
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
    ask(current, "DELETE", f"/keys/{quote(identity, safe='')}?overlap={overlap}")
    current.out.document({"id": identity, "revoked": True})
    current.out.say(f"key {identity} is revoked" + (f" in {overlap} s" if overlap else ""))


def ask(current: Settings, method: str, path: str, body: Any = None) -> Any:
    """One request to the bridge, asked on the host itself; its decoded answer.

    Raises:
        GangwayError: the bridge does not answer, or said no.
    """
    from infrastructure.cli.host import connected
    from infrastructure.errors import GangwayError

    with connected(current, current.target()) as session:
        session.open()
        status, answer, _ = session.ask_bridge(method, path, body)
    if status == 0:
        hint = "./deploy.py status, ./deploy.py logs bridge"
        raise GangwayError("the bridge does not answer", hint=hint, code="bridge-silent")
    if status >= 400:
        told = answer if isinstance(answer, dict) else {}
        raise GangwayError(
            told.get("detail") or f"the bridge answers {status}",
            hint=told.get("nextStep") or "",
            code=told.get("code") or "bridge-refused",
        )
    return answer
