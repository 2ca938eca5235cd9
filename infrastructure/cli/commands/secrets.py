"""`secrets set|list|check`: values from stdin, a prompt, a file or a command; never from argv."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infrastructure.cli.settings import settings
from infrastructure.errors import ConfigError, Problem, UsageError

app = typer.Typer(
    help="Store, list and check the secrets of a target.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("set")
def set_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Such as tws-password; `secrets list` shows them")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Take the value from this file")
    ] = None,
) -> None:
    """Store a value, read from a hidden prompt, from stdin, or from a file.

    \b
    Examples:
      ./deploy.py secrets set tws-password
      pass show ibkr | ./deploy.py secrets set tws-password
    """
    from infrastructure.config import secrets
    from infrastructure.config.secrets import alert_address, alert_names
    from infrastructure.render.gateway import totp_seed

    current = settings(context)
    target = current.target()
    known = secrets.storable(target)
    if name not in known and target.file is None:
        raise UsageError(
            "there is no stack.yaml yet, so nothing needs a secret",
            hint="first: ./deploy.py init; then this again",
            code="no-configuration",
        )
    if name not in known:
        raise UsageError(
            f"'{name}' is not a stored secret of target {target.name}",
            hint=f"it stores {', '.join(known) or 'none'}",
            code="unknown-secret",
        )
    value = _value(name, file)
    if name == secrets.USERNAME:
        value = secrets.user_name(target, value)
    if name in alert_names(target):
        alert_address(value, name)
    totp = target.stack.gateway.two_factor.totp
    if totp is not None and name == totp.seed.stored:
        totp_seed(value.rstrip(b"\r\n"), name)
    path = secrets.store(target, name, value)
    current.out.say(f"stored {name} for target {target.name} in {path}")
    current.out.document({"target": target.name, "name": name, "path": str(path)})


def _value(name: str, file: Path | None) -> bytes:
    if file is not None:
        from infrastructure.files import given

        return given(file)
    if sys.stdin.isatty():
        return str(typer.prompt(name, hide_input=True, confirmation_prompt=True, err=True)).encode()
    return sys.stdin.buffer.read()


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the secrets that the target needs and where each comes from; never their values."""
    from infrastructure.config import secrets

    current = settings(context)
    target = current.target()
    rows = [
        {"name": name, "source": str(reference), "state": secrets.state(target, name)}
        for name, (reference, _) in secrets.needed(target).items()
    ]
    current.out.document({"target": target.name, "secrets": rows})
    for row in rows:
        current.out.row(f"{row['name']:<20} {row['state']:<10} {row['source']}")


@app.command("check")
def check(context: typer.Context) -> None:
    """Read every secret once, commands included, and check that it can arrive as it is.

    Exit code 2 when one is missing or cannot be used.
    """
    from infrastructure.config import secrets
    from infrastructure.config.secrets import alert_address
    from infrastructure.render.gateway import secret_names, usable

    current = settings(context)
    target = current.target()
    values = secrets.resolve(target)
    problems = []
    checks = [(name, usable(target, name)) for name in secret_names(target)]
    checks += [(name, alert_address) for name in values if name.startswith("alert-url-")]
    for name, check_it in checks:
        try:
            check_it(values[name], name)
        except UsageError as error:
            place = secrets.needed(target)[name][1]
            problems.append(Problem(error.message, place, error.hint, error.code))
    if problems:
        raise ConfigError("a secret cannot be used", found=tuple(problems))
    current.out.say(f"{len(values)} secrets of target {target.name} are there and usable")
    current.out.document({"target": target.name, "usable": sorted(values)})
