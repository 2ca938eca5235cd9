"""`init`: a short wizard, or flags only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infrastructure.cli.settings import settings
from infrastructure.errors import ConfigError, UsageError


def command(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="The target's name, such as prod")] = None,
    host: Annotated[
        str | None, typer.Option(metavar="USER@HOST[:PORT]", help="The machine, as for ssh")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(metavar="FILE", help="Private key for the machine")
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="paper|live", help="Account kind")] = None,
    username: Annotated[str | None, typer.Option(help="IBKR user name")] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Public name, for a real certificate")
    ] = None,
    image_tag: Annotated[
        str, typer.Option(metavar="TAG", help="The gateway image's tag or sha256:… digest")
    ] = "stable",
    profile: Annotated[
        str | None, typer.Option(metavar="SIZE", help="e2-micro, small or standard")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; use the defaults")] = False,
) -> None:
    """Write a commented stack.yaml, or add a target to the one that is there.

    What the flags leave open is asked for on a terminal.

    \b
    Examples:
      ./deploy.py init
      ./deploy.py init --name prod --host ubuntu@203.0.113.7 --mode paper --yes
    """
    from infrastructure.config.loading import DEFAULT_FILE, read_text
    from infrastructure.config.starter import Answers

    if not image_tag.strip():
        raise UsageError("--image-tag is empty", hint="such as stable, latest or 10.45.1j")
    current = settings(context)
    path = Path(current.config or DEFAULT_FILE)
    ask = _Asker(silent=yes)
    existing = read_text(path) if path.exists() else None
    answers = Answers(
        name=ask("Target name", name or current.target_name, "prod"),
        host=ask("Host (user@host:port)", host, None),
        identity=identity,
        mode=ask("Mode (paper or live)", mode, "paper"),
        username=ask("IBKR user name (empty: store it later)", username, "") or None,
        domain=ask("Domain (empty: none)", domain, "") or None,
        image_tag=image_tag,
        profile=ask("Size (e2-micro, small, standard)", profile, "e2-micro"),
    )
    target = _write(path, existing, answers)
    done = "added to" if existing else "written:"
    current.out.say(f"target {target} {done} {path}")
    for secret in ("tws-password",) if answers.username else ("tws-username", "tws-password"):
        current.out.say(f"next: ./deploy.py --target {target} secrets set {secret}")
    current.out.document({"file": str(path), "target": target})


class _Asker:
    """Asks on a terminal; takes flags and defaults without one."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent or not sys.stdin.isatty()

    def __call__(self, question: str, given: str | None, default: str | None) -> str:
        if given is not None:
            return given
        if not self._silent:
            return str(typer.prompt(question, default=default, err=True))
        if default is None:
            raise UsageError(f"{question} is needed", hint="give it as a flag: --host USER@HOST")
        return default


def _write(path: Path, existing: str | None, answers: object) -> str:
    from pydantic import ValidationError

    from infrastructure.config import starter

    assert isinstance(answers, starter.Answers)  # noqa: S101 - the import is lazy
    try:
        content = starter.added(existing, answers) if existing else starter.text(answers)
        _refuse_twice(existing, path, answers.name)
        starter.check(content, str(path), answers.name)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--host: {reason}") from None
    except ConfigError as error:
        # The secrets are stored after this; they are not what is wrong.
        first = next(p for p in error.problems() if p.code != "missing-secret")
        raise UsageError(first.message, hint=first.hint, code=first.code) from None
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return answers.name


def _refuse_twice(existing: str | None, path: Path, name: str) -> None:
    if existing is None:
        return
    from infrastructure.config.places import parse

    values = parse(existing, str(path)).values
    if isinstance(values, dict) and name in (values.get("targets") or {}):
        raise UsageError(
            f"{path} already has a target '{name}'",
            hint="edit it there, or choose another --name",
            code="target-exists",
        )
